//! From `[root]` to an opened keyring: the root provider, the passphrase, and patience with a program.

use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use fieldseal_keys::keyring::{
    self, EnvProvider, ExecProvider, FileProvider, Keyring, KeyringError, Passphrase,
    PassphraseProvider, RootProvider, SystemdProvider, Terminal, Wrapping,
};
use fieldseal_keys::program::Program;

use crate::config::{Config, RootSettings};

/// How long to wait before a program is asked again, at first and at most.
const FIRST_WAIT: Duration = Duration::from_millis(250);
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// Opens the keyring, and asks the root provider's program again for as long as it does not answer.
/// `waits` is told before the first wait.
pub(crate) async fn open_patiently(
    config: &Config,
    waits: impl Fn(),
) -> Result<Keyring, KeyringError> {
    let provider = provider(config).await?;
    let mut wait = FIRST_WAIT;
    loop {
        let down = match open_with(config, Arc::clone(&provider)).await {
            Err(error) if is_down(&error) => error,
            ended => return ended,
        };
        waits();
        let milliseconds = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        tracing::warn!(
            event = "root_provider_down",
            error = %down,
            again_in_ms = milliseconds,
            "the root provider does not answer; it is asked again"
        );
        tokio::time::sleep(wait).await;
        wait = wait.saturating_mul(2).min(LONGEST_WAIT);
    }
}

fn is_down(error: &KeyringError) -> bool {
    match error {
        KeyringError::ProviderDown(_) => true,
        KeyringError::Expected { error, .. } => is_down(error),
        _ => false,
    }
}

/// The root provider of a configuration, as the keyring needs it.
///
/// # Errors
/// `WrongProvider`, or what is wrong with it; both say which one the keyring needs.
pub async fn provider(config: &Config) -> Result<Arc<dyn RootProvider>, KeyringError> {
    let path = config.state.keyring();
    let wrapping = keyring::wrapping(&path)?;
    let given = config.root.provider();
    if wrapping.provider != given {
        let (wanted, given) = (wrapping.to_string(), given.to_owned());
        return Err(KeyringError::WrongProvider { file: path, wanted, given });
    }
    let opened = existing(&config.root, &config.state.directory, &wrapping).await;
    opened.map_err(|error| error.expecting(&wrapping))
}

async fn existing(
    settings: &RootSettings,
    state: &Path,
    wrapping: &Wrapping,
) -> Result<Arc<dyn RootProvider>, KeyringError> {
    match (settings, &wrapping.derivation) {
        (RootSettings::File { file }, _) => Ok(Arc::new(FileProvider::open(file, state, false)?)),
        (RootSettings::Passphrase { descriptor }, Some(derivation)) => {
            let passphrase = ask(*descriptor, "passphrase of the root key: ").await?;
            let derivation = derivation.clone();
            let open = move || PassphraseProvider::open(&passphrase, derivation);
            Ok(Arc::new(blocking(open).await?))
        }
        (RootSettings::Passphrase { .. }, None) => {
            let what = "the keyring does not say how the passphrase becomes a key";
            Err(KeyringError::Derivation(what.to_owned()))
        }
        _ => new_provider(settings).await,
    }
}

/// A root provider for a keyring that is made or wrapped anew. A key file is made by whoever can
/// take it away again.
///
/// # Errors
/// What is wrong with it. `Different` if a passphrase is not typed the same twice.
pub async fn new_provider(settings: &RootSettings) -> Result<Arc<dyn RootProvider>, KeyringError> {
    Ok(match settings {
        RootSettings::File { file } => Arc::new(FileProvider::create(file)?),
        RootSettings::Systemd { credential } => Arc::new(SystemdProvider::open(credential)?),
        RootSettings::Env { variable } => Arc::new(EnvProvider::open(variable)?),
        RootSettings::Exec { command, deadline } => {
            let (path, arguments) = command
                .split_first()
                .map_or_else(Default::default, |words| (words.0.into(), words.1.to_vec()));
            Arc::new(ExecProvider::new(Program { path, arguments, deadline: *deadline })?)
        }
        RootSettings::Passphrase { descriptor } => {
            let passphrase = ask(*descriptor, "new passphrase for the root key: ").await?;
            if Terminal::is(*descriptor)
                && !ask(*descriptor, "the same again: ").await?.is(&passphrase)
            {
                return Err(KeyringError::Different);
            }
            Arc::new(blocking(move || PassphraseProvider::create(&passphrase)).await?)
        }
    })
}

/// Opens the keyring with this provider, and holds it against the configuration.
///
/// # Errors
/// What is wrong with the keyring or its provider; `WrongRecipient`.
pub async fn open_with(
    config: &Config,
    provider: Arc<dyn RootProvider>,
) -> Result<Keyring, KeyringError> {
    let (path, recipient) = (config.state.keyring(), config.recovery_recipient.clone());
    blocking(move || {
        let keyring = keyring::open(&path, &*provider)?;
        keyring.check_recipient(&path, &recipient)?;
        Ok(keyring)
    })
    .await
}

/// One line from a descriptor. Where that is a terminal, it asks there and shows nothing of what is
/// typed; given up, it leaves the terminal as it was.
///
/// # Errors
/// If there is none, or the descriptor cannot be read.
pub async fn ask(descriptor: u32, prompt: &str) -> Result<Passphrase, KeyringError> {
    let terminal = Terminal::quiet(descriptor);
    let say = |text: &str| {
        if terminal.is_some() {
            // A prompt that nobody sees changes nothing.
            let _ = std::io::stderr().write_all(text.as_bytes());
        }
    };
    say(prompt);
    let read = blocking(move || Passphrase::read(descriptor)).await;
    say("\n");
    read
}

/// Runs what waits for a file, a program or the processor.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, KeyringError> + Send + 'static,
) -> Result<T, KeyringError> {
    let ended = tokio::task::spawn_blocking(work).await;
    ended.unwrap_or_else(|_| Err(KeyringError::ProviderBroken("its thread failed".to_owned())))
}
