//! Making an installation, for everybody who makes one: `init`, `quickstart`, `dev`, the yardsticks
//! and the tests.
//!
//! ```text
//! DIR/
//!   fieldseal.toml     the configuration; written last, so that a half-made installation has none
//!   root.key           the root provider's key, outside the state; with `file` only
//!   policy/            rules and who has which role
//!   tls/               development certificates, where asked for
//!   state/             keyring.json, store/, audit/
//! ```

#[cfg(test)]
mod tests;

use std::fs::{DirBuilder, File};
use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fieldseal_keys::keyring::{self, FileProvider, KeyringError, Recovery, RootProvider};
use fieldseal_model::{InstallationId, Principal};
use fieldseal_policy::Role;
use fieldseal_server::config::{Config, DEFAULT_PROBES, RootSettings};
use zeroize::Zeroizing;

use crate::certificates::{Authority, write_private};
use crate::failure::{Exit, Failure};

/// A caller that gets a development certificate, `tls/{name}.pem` and `tls/{name}.key`.
#[derive(Debug, Clone)]
pub(crate) struct DevCaller {
    /// The name of its files.
    pub name: String,
    /// Who it is.
    pub principal: Principal,
}

/// A loopback port that is free at each start.
pub(crate) const ANY_PORT: SocketAddr = SocketAddr::new(DEFAULT_PROBES.ip(), 0);

/// What to make.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// Where; new or empty.
    pub dir: PathBuf,
    /// Where `serve` listens. Port 0 takes a free port each time.
    pub listen: SocketAddr,
    /// Where it answers probes. Port 0 takes a free port each time.
    pub probes: SocketAddr,
    /// A file, relative to `dir`, that holds the address while the sidecar can serve.
    pub address_file: Option<String>,
    /// The data keys live in memory only and are gone when the sidecar stops.
    pub in_memory: bool,
    /// Whether gRPC reflection is offered.
    pub reflection: bool,
    /// Where the root provider's key file is made, if not at `root.key`.
    pub root_key_file: Option<PathBuf>,
    /// The age recipient for the root key, or a new identity.
    pub recovery_recipient: Option<String>,
    /// Who has which role.
    pub members: Vec<(Role, Principal)>,
    /// Development certificates; none are made if this is empty.
    pub dev_callers: Vec<DevCaller>,
    /// More names of the server in its development certificate.
    pub server_names: Vec<String>,
    /// More settings, as (name, value as the environment would state it).
    pub settings: Vec<(&'static str, String)>,
}

impl Plan {
    /// An installation that listens on `listen`, with nothing special.
    #[must_use]
    pub(crate) fn new(dir: impl Into<PathBuf>, listen: SocketAddr) -> Self {
        Self {
            dir: dir.into(),
            listen,
            probes: if listen.port() == 0 { ANY_PORT } else { DEFAULT_PROBES },
            address_file: None,
            in_memory: false,
            reflection: false,
            root_key_file: None,
            recovery_recipient: None,
            members: Vec::new(),
            dev_callers: Vec::new(),
            server_names: Vec::new(),
            settings: Vec::new(),
        }
    }

    /// Adds a caller with a development certificate and these roles. Its principal is
    /// `spiffe://dev.local/{name}`.
    ///
    /// # Errors
    /// If the name is not legal in a SPIFFE id.
    pub(crate) fn with_dev_caller(mut self, name: &str, roles: &[Role]) -> Result<Self, Failure> {
        let principal = Principal::parse(&format!("spiffe://dev.local/{name}"))?;
        self.members.extend(roles.iter().map(|role| (*role, principal.clone())));
        self.dev_callers.push(DevCaller { name: name.to_owned(), principal });
        Ok(self)
    }
}

/// An installation that was made.
pub(crate) struct Created {
    /// Where it is, as an absolute path.
    pub dir: PathBuf,
    /// Its id.
    pub installation: InstallationId,
    /// Who can recover the root key.
    pub recovery_recipient: String,
    /// The recovery identity, if one was made. It exists nowhere else: show it once and drop it.
    pub recovery_identity: Option<Zeroizing<String>>,
}

impl Created {
    /// The configuration file.
    #[must_use]
    pub(crate) fn config(&self) -> PathBuf {
        self.dir.join(CONFIG)
    }

    /// The audit log's directory.
    #[must_use]
    pub(crate) fn audit(&self) -> PathBuf {
        self.dir.join("state/audit")
    }

    /// How a development caller connects.
    #[must_use]
    pub(crate) fn client(&self, name: &str, address: SocketAddr) -> fieldseal_client::Settings {
        fieldseal_client::Settings {
            endpoint: format!("https://{address}"),
            ca: self.dir.join("tls/ca.pem"),
            certificate: self.dir.join(format!("tls/{name}.pem")),
            private_key: self.dir.join(format!("tls/{name}.key")),
        }
    }
}

/// The configuration file's name.
pub(crate) const CONFIG: &str = "fieldseal.toml";

/// Makes an installation. If something fails, what was made is removed again.
///
/// # Errors
/// `INSTALLATION_EXISTS` if the directory holds anything already, `DIRECTORY_UNSAFE` if others can
/// write to it; otherwise what could not be made.
pub(crate) async fn create(plan: &Plan) -> Result<Created, Failure> {
    Ok(prepare(plan).await?.keep())
}

/// Makes an installation that is removed again unless it is kept.
///
/// # Errors
/// As [`create`].
pub(crate) async fn prepare(plan: &Plan) -> Result<Prepared, Failure> {
    let config = configuration(plan, None)?;
    let dir = claim(&plan.dir)?;
    let mut undo = Undo::default();
    let created = fill(plan, &dir, &config, &mut undo).await?;
    Ok(Prepared { created, undo })
}

/// A whole installation that goes away when this is dropped.
pub(crate) struct Prepared {
    created: Created,
    undo: Undo,
}

impl Prepared {
    /// What was made.
    #[must_use]
    pub(crate) fn created(&self) -> &Created {
        &self.created
    }

    /// Lets it stay.
    #[must_use]
    pub(crate) fn keep(mut self) -> Created {
        self.undo.paths.clear();
        self.created
    }
}

/// Removes what was made, unless everything was.
#[derive(Default)]
pub(crate) struct Undo {
    // INVARIANT: only what this process made. Two may be making an installation in one directory.
    paths: Vec<PathBuf>,
}

impl Undo {
    /// Lets everything stay.
    pub(crate) fn keep(mut self) {
        self.paths.clear();
    }

    /// Makes a directory for its owner alone, to be removed if something fails later.
    fn directory(&mut self, path: PathBuf) -> Result<PathBuf, Failure> {
        DirBuilder::new().mode(0o700).create(&path).map_err(|e| match e.kind() {
            std::io::ErrorKind::AlreadyExists => taken(format!("{} exists", path.display())),
            _ => Failure::io("cannot make", &path, &e),
        })?;
        self.made(path.clone());
        Ok(path)
    }

    /// Removes this path if something fails later. It was made just now, by this process.
    fn made(&mut self, path: PathBuf) {
        self.paths.push(path);
    }
}

impl Drop for Undo {
    fn drop(&mut self) {
        for path in self.paths.iter().rev() {
            let removed = match path.symlink_metadata() {
                Ok(found) if found.is_dir() => std::fs::remove_dir_all(path),
                Ok(_) => std::fs::remove_file(path),
                Err(_) => continue,
            };
            if let Err(error) = removed {
                crate::output::note(&format!("left behind: {}: {error}", path.display()));
            }
        }
    }
}

/// The directory, new or empty, as an absolute path.
fn claim(dir: &Path) -> Result<PathBuf, Failure> {
    DirBuilder::new()
        .mode(0o700)
        .recursive(true)
        .create(dir)
        .map_err(|e| Failure::io("cannot make", dir, &e))?;
    let dir = dir.canonicalize().map_err(|e| Failure::io("cannot use", dir, &e))?;
    let mut entries = std::fs::read_dir(&dir).map_err(|e| Failure::io("cannot read", &dir, &e))?;
    // A file system's own directory does not make a volume full.
    let full = entries.any(|entry| entry.map_or(true, |e| e.file_name() != "lost+found"));
    if full {
        return Err(taken(format!("{} is not empty", dir.display())));
    }
    alone(&dir)?;
    Ok(dir)
}

/// Whoever can write to the directory can put another configuration, policy or key file in place.
fn alone(dir: &Path) -> Result<(), Failure> {
    let found = dir.metadata().map_err(|e| Failure::io("cannot use", dir, &e))?;
    let shown = crate::connection::quoted_path(dir);
    let unsafe_for =
        |what: String, advice: String| Err(Failure::usage("DIRECTORY_UNSAFE", what).advise(advice));
    if found.uid() != rustix::process::geteuid().as_raw() {
        let what = format!("{} belongs to user {}", dir.display(), found.uid());
        return unsafe_for(what, "name a new directory, or make it this user's".to_owned());
    }
    if found.mode() & 0o022 != 0 {
        let mode = found.mode() & 0o7777;
        let what = format!("others can write to {} (mode {mode:04o})", dir.display());
        return unsafe_for(what, format!("name a new directory, or run  chmod go-w {shown}"));
    }
    Ok(())
}

fn taken(what: String) -> Failure {
    Failure::new(Exit::Conflict, "INSTALLATION_EXISTS", what)
        .advise("name a new directory with --dir; an installation is never made over another")
}

async fn fill(plan: &Plan, dir: &Path, config: &str, undo: &mut Undo) -> Result<Created, Failure> {
    let path = dir.join(CONFIG);
    let parse = |text| Config::parse(&path, text).map_err(|e| crate::serve::config_failure(&e));
    let root = parse(config)?.root;
    let state = undo.directory(dir.join("state"))?;
    let provider: Arc<dyn RootProvider> = match root {
        RootSettings::File { file } => Arc::new(root_key(&file, &state, undo)?),
        other => fieldseal_server::new_provider(&other).await.map_err(|e| keyring_failure(&e))?,
    };
    let recovery = match &plan.recovery_recipient {
        Some(recipient) => Recovery::Recipient(recipient.clone()),
        None => Recovery::Generate,
    };
    let keyring = state.join("keyring.json");
    let make = move || keyring::create(&keyring, &*provider, recovery);
    let made = tokio::task::spawn_blocking(make).await;
    let made = made.unwrap_or_else(|_| Err(KeyringError::Missing("its thread failed".to_owned())));
    let made = made.map_err(|e| keyring_failure(&e))?;
    let installation = made.keyring.installation();
    let recovery_recipient = made.keyring.recipient().to_owned();

    let policy = undo.directory(dir.join("policy"))?;
    crate::policy::write(&policy, &plan.members)?;
    if !plan.dev_callers.is_empty() {
        certificates(plan, &undo.directory(dir.join("tls"))?)?;
    }
    let config = configuration(plan, Some(&recovery_recipient))?;
    fieldseal_server::installation(&parse(&config)?, made.keyring)
        .create()
        .await
        .map_err(|e| crate::serve::boot_failure(&e))?;
    write_new(&path, &config)?;
    undo.made(path);
    File::open(dir).and_then(|d| d.sync_all()).map_err(|e| Failure::io("cannot sync", dir, &e))?;
    Ok(Created {
        dir: dir.to_owned(),
        installation,
        recovery_recipient,
        recovery_identity: made.identity,
    })
}

fn keyring_failure(error: &KeyringError) -> Failure {
    crate::serve::keyring_failure(error)
}

/// Makes the root provider's key file; never in the state directory, whose copies would then open
/// themselves. `serve` refuses that too, but then the installation is made already.
pub(crate) fn root_key(
    path: &Path,
    state: &Path,
    undo: &mut Undo,
) -> Result<FileProvider, Failure> {
    let parent = path.parent().unwrap_or(path);
    let parent = parent.canonicalize().map_err(|e| Failure::io("cannot use", parent, &e))?;
    let state = state.canonicalize().map_err(|e| Failure::io("cannot use", state, &e))?;
    if parent.starts_with(&state) {
        let what = format!("{} lies in the state directory", path.display());
        return Err(Failure::usage("ROOT_KEY_UNSAFE", what)
            .advise("name a file elsewhere: whoever copies the state would have the key too"));
    }
    match FileProvider::create(path) {
        Ok(provider) => {
            undo.made(path.to_owned());
            Ok(provider)
        }
        Err(KeyringError::Exists(_)) => {
            let what = format!("{} exists already", path.display());
            Err(Failure::new(Exit::Conflict, "FILE_EXISTS", what).advise("name another file"))
        }
        Err(error) => {
            // It was made before it could not be written.
            if matches!(error, KeyringError::Io { what: "write", .. }) {
                undo.made(path.to_owned());
            }
            Err(keyring_failure(&error))
        }
    }
}

/// Authority, server and callers. The authority's own key is written nowhere: it signs no more.
fn certificates(plan: &Plan, tls: &Path) -> Result<(), Failure> {
    let failed = |e: &dyn std::fmt::Display| {
        let what = format!("cannot make development certificates: {e}");
        Failure::new(Exit::Internal, "CERTIFICATE_FAILED", what)
    };
    let authority = Authority::new("Fieldseal development CA").map_err(|e| failed(&e))?;
    write_new(&tls.join("ca.pem"), authority.certificate_pem())?;
    let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    let ip = plan.listen.ip();
    let ip = (!ip.is_unspecified()).then(|| ip.to_string());
    for name in ip.iter().chain(&plan.server_names) {
        if !names.contains(name) {
            names.push(name.clone());
        }
    }
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let server = authority.server(&names).map_err(|e| failed(&e))?;
    let callers = plan.dev_callers.iter().map(|caller| {
        let issued = authority.client(&caller.principal).map_err(|e| failed(&e))?;
        Ok::<_, Failure>((caller.name.as_str(), issued))
    });
    for pair in std::iter::once(Ok(("server", server))).chain(callers) {
        let (name, issued) = pair?;
        write_new(&tls.join(format!("{name}.pem")), &issued.certificate_pem)?;
        let key = tls.join(format!("{name}.key"));
        write_private(&key, &issued.private_key_pem)
            .map_err(|e| Failure::io("cannot write", &key, &e))?;
    }
    Ok(())
}

/// The configuration's text: the commented defaults with this plan's values.
fn configuration(plan: &Plan, recipient: Option<&str>) -> Result<String, Failure> {
    let (listen, probes) = (plan.listen.to_string(), plan.probes.to_string());
    let mut changes = vec![
        ("server.listen", listen.as_str()),
        ("probes.listen", probes.as_str()),
        ("server.address_file", plan.address_file.as_deref().unwrap_or_default()),
        ("server.reflection", if plan.reflection { "true" } else { "false" }),
        ("state.backend", if plan.in_memory { "memory" } else { "sled" }),
        ("tls.principal", principal_kind(&plan.members)?),
        ("root.recovery_recipient", recipient.unwrap_or_default()),
    ];
    let root_key_file = match &plan.root_key_file {
        Some(stated) => {
            Some(std::path::absolute(stated).map_err(|e| Failure::io("cannot use", stated, &e))?)
        }
        None => None,
    };
    if let Some(path) = &root_key_file {
        let path = path.to_str().ok_or_else(|| {
            Failure::usage("PATH_INVALID", "the root key file's path must be UTF-8 text")
        })?;
        changes.push(("root.file", path));
    }
    changes.extend(plan.settings.iter().map(|(name, value)| (*name, value.as_str())));
    Config::example(&changes).map_err(|e| crate::serve::config_failure(&e))
}

/// All members are named alike, because a sidecar takes one kind of name from certificates.
fn principal_kind(members: &[(Role, Principal)]) -> Result<&str, Failure> {
    let kind = |principal: &'_ Principal| match principal.as_str().split_once(':') {
        Some(("dns", _)) => "dns",
        Some(("cn", _)) => "cn",
        _ => "spiffe",
    };
    let mut kinds = members.iter().map(|(_, principal)| kind(principal));
    let first = kinds.next().unwrap_or("spiffe");
    if kinds.all(|other| other == first) {
        return Ok(first);
    }
    Err(Failure::usage(
        "PRINCIPALS_DIFFER",
        "all callers must be named by the same kind of name in their certificates: spiffe, dns or cn",
    ))
}

/// A new file for its owner alone, on disk when this returns.
pub(crate) fn write_new(path: &Path, text: &str) -> Result<(), Failure> {
    let failed = |e: std::io::Error| Failure::io("cannot write", path, &e);
    let made = File::options().write(true).create_new(true).mode(0o600).open(path);
    let mut file = made.map_err(failed)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(|error| {
        // Half a file would make the next attempt fail too; the error is told either way.
        let _unless_gone = std::fs::remove_file(path);
        failed(error)
    })
}
