//! What opens a backup, from a file or from somebody who knows it.

use fieldseal_engine::backup::Unlock;
use zeroize::Zeroizing;

use super::failure;
use crate::arguments::UnlockArguments;
use crate::failure::Failure;
use crate::recover::identity_of;
use crate::serve;
use crate::signals::{StopSignals, interrupted};

/// The shortest passphrase that is taken for a new backup, in bytes.
const LEAST_BYTES: usize = 12;

/// What was named; `None` if nothing was.
pub(super) async fn unlock(arguments: &UnlockArguments) -> Result<Option<Unlock>, Failure> {
    match (&arguments.identity, arguments.passphrase_fd) {
        (Some(path), _) => {
            let identity = Unlock::identity(&identity_of(path)?).map_err(|e| failure(&e))?;
            Ok(Some(identity))
        }
        (None, Some(descriptor)) => {
            let text = ask(descriptor, "passphrase of the backup: ").await?;
            Ok(Some(Unlock::passphrase(text)))
        }
        (None, None) => Ok(None),
    }
}

/// The same, where one of the two must be named.
pub(super) async fn needed(arguments: &UnlockArguments) -> Result<Unlock, Failure> {
    let none = || Failure::usage("ARGUMENT_MISSING", "name --identity or --passphrase-fd");
    unlock(arguments).await?.ok_or_else(none)
}

/// A passphrase for a new backup.
pub(super) async fn new_passphrase(descriptor: u32) -> Result<Zeroizing<String>, Failure> {
    let text = ask(descriptor, "new passphrase for the backup: ").await?;
    if text.len() < LEAST_BYTES {
        let what = format!("the passphrase is shorter than {LEAST_BYTES} bytes");
        return Err(Failure::usage("PASSPHRASE_REFUSED", what).advise("choose six random words"));
    }
    let asks = fieldseal_keys::keyring::Terminal::is(descriptor);
    if asks && ask(descriptor, "the same again: ").await? != text {
        return Err(Failure::usage("PASSPHRASE_REFUSED", "the two passphrases differ"));
    }
    Ok(text)
}

async fn ask(descriptor: u32, prompt: &str) -> Result<Zeroizing<String>, Failure> {
    let mut signals = StopSignals::listen_with_hangup()?;
    let asked = tokio::select! {
        biased;
        () = signals.received() => return Err(interrupted("nothing was changed")),
        asked = fieldseal_server::ask(descriptor, prompt) => asked,
    };
    let passphrase = asked.map_err(|e| serve::keyring_failure(&e))?;
    passphrase
        .into_text()
        .ok_or_else(|| Failure::usage("PASSPHRASE_REFUSED", "the passphrase is no text"))
}
