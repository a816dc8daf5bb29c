//! Making an installation, for everybody who makes one: `init`, `quickstart`, `dev`, the yardsticks
//! and the tests.
//!
//! ```text
//! DIR/
//!   fieldseal.toml     the configuration; written last, so that a half-made installation has none
//!   root.key           the root provider's key, outside the state
//!   policy/            rules and who has which role
//!   tls/               development certificates, where asked for
//!   state/             keyring.json, store/, audit/
//! ```

use std::fs::{DirBuilder, File};
use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use fieldseal_keys::keyring::{self, FileProvider, KeyringError, Recovery};
use fieldseal_model::{InstallationId, Principal};
use fieldseal_policy::Role;
use fieldseal_server::config::{Config, DEFAULT_PROBES};
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
    /// More settings, as (line of the default configuration, line to put in its place).
    pub settings: Vec<(String, String)>,
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
/// `INSTALLATION_EXISTS` if the directory holds anything already; otherwise what could not be made.
pub(crate) async fn create(plan: &Plan) -> Result<Created, Failure> {
    Ok(prepare(plan).await?.keep())
}

/// Makes an installation that is removed again unless it is kept.
///
/// # Errors
/// As [`create`].
pub(crate) async fn prepare(plan: &Plan) -> Result<Prepared, Failure> {
    let config = configuration(plan)?;
    let dir = claim(&plan.dir)?;
    let mut undo = Undo { paths: Vec::new() };
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
struct Undo {
    // INVARIANT: only what this process made. Two may be making an installation in one directory.
    paths: Vec<PathBuf>,
}

impl Undo {
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
    Ok(dir)
}

fn taken(what: String) -> Failure {
    Failure::new(Exit::Conflict, "INSTALLATION_EXISTS", what)
        .advise("name a new directory with --dir; an installation is never made over another")
}

async fn fill(plan: &Plan, dir: &Path, config: &str, undo: &mut Undo) -> Result<Created, Failure> {
    let state = undo.directory(dir.join("state"))?;
    let provider = root_key(&root_key_file(plan, dir)?, &state, undo)?;
    let recovery = match &plan.recovery_recipient {
        Some(recipient) => Recovery::Recipient(recipient.clone()),
        None => Recovery::Generate,
    };
    let made = keyring::create(&state.join("keyring.json"), &provider, recovery);
    let made = made.map_err(|e| keyring_failure(&e))?;
    let installation = made.keyring.installation();
    let recovery_recipient = made.keyring.recipient().to_owned();

    let policy = undo.directory(dir.join("policy"))?;
    for (name, text) in fieldseal_policy::default_files(&plan.members) {
        write_new(&policy.join(name), &text)?;
    }
    if !plan.dev_callers.is_empty() {
        certificates(plan, &undo.directory(dir.join("tls"))?)?;
    }
    let path = dir.join(CONFIG);
    let parsed = Config::parse(&path, config).map_err(|e| crate::serve::config_failure(&e))?;
    fieldseal_server::installation(&parsed, made.keyring)
        .create()
        .await
        .map_err(|e| crate::serve::boot_failure(&e))?;
    write_new(&path, config)?;
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

/// Where the root provider's key file goes. Relative paths begin where the command was called.
fn root_key_file(plan: &Plan, dir: &Path) -> Result<PathBuf, Failure> {
    let Some(stated) = &plan.root_key_file else { return Ok(dir.join("root.key")) };
    std::path::absolute(stated).map_err(|e| Failure::io("cannot use", stated, &e))
}

/// Makes the root provider's key file; never in the state directory, whose copies would then open
/// themselves. `serve` refuses that too, but then the installation is made already.
fn root_key(path: &Path, state: &Path, undo: &mut Undo) -> Result<FileProvider, Failure> {
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
    if !ip.is_unspecified() && !names.contains(&ip.to_string()) {
        names.push(ip.to_string());
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
fn configuration(plan: &Plan) -> Result<String, Failure> {
    let address_file = plan.address_file.as_deref().unwrap_or_default();
    let mut text = Config::example_for(plan.listen, address_file);
    let mut set = |from: &str, to: &str| {
        let new = text.replacen(&format!("\n{from}\n"), &format!("\n{to}\n"), 1);
        if new == text && from != to {
            let what = format!("the default configuration has no line {from:?}");
            return Err(Failure::new(Exit::Internal, "INTERNAL", what));
        }
        text = new;
        Ok(())
    };
    let probes = |address| format!("listen = \"{address}\"");
    set(&probes(DEFAULT_PROBES), &probes(plan.probes))?;
    if plan.in_memory {
        set("backend = \"sled\"", "backend = \"memory\"")?;
    }
    if plan.reflection {
        set("reflection = false", "reflection = true")?;
    }
    let kind = principal_kind(&plan.members)?;
    set("principal = \"spiffe\"", &format!("principal = \"{kind}\""))?;
    if let Some(stated) = &plan.root_key_file {
        let path =
            std::path::absolute(stated).map_err(|e| Failure::io("cannot use", stated, &e))?;
        let path = path.to_str().ok_or_else(|| {
            Failure::usage("PATH_INVALID", "the root key file's path must be UTF-8 text")
        })?;
        set("file = \"root.key\"", &format!("file = {}", toml::Value::from(path)))?;
    }
    for (from, to) in &plan.settings {
        set(from, to)?;
    }
    Ok(text)
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
fn write_new(path: &Path, text: &str) -> Result<(), Failure> {
    let failed = |e: std::io::Error| Failure::io("cannot write", path, &e);
    let made = File::options().write(true).create_new(true).mode(0o600).open(path);
    let mut file = made.map_err(failed)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(|error| {
        // Half a file would make the next attempt fail too; the error is told either way.
        let _unless_gone = std::fs::remove_file(path);
        failed(error)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> Plan {
        Plan::new("/nowhere", SocketAddr::from(([127, 0, 0, 1], 0)))
    }

    #[test]
    fn callers_of_two_kinds_are_refused() {
        let mut plan = plan();
        plan.members = vec![
            (Role::App, Principal::parse("dns:a").unwrap()),
            (Role::Auditor, Principal::parse("spiffe://d/b").unwrap()),
        ];
        let refused = configuration(&plan).map_err(|f| f.reason().to_owned());
        assert_eq!(refused, Err("PRINCIPALS_DIFFER".to_owned()));
    }

    #[test]
    fn a_directory_with_anything_in_it_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("thing"), "").unwrap();
        let refused = claim(dir.path()).map_err(|f| (f.exit(), f.reason().to_owned()));
        assert_eq!(refused, Err((Exit::Conflict, "INSTALLATION_EXISTS".to_owned())));
        assert!(claim(&dir.path().join("new/deep")).is_ok());
    }

    /// What `fill` says in a directory that another process has begun to use meanwhile.
    fn late(dir: &Path, plan: &Plan) -> (String, bool) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let mut undo = Undo { paths: Vec::new() };
        let config = configuration(plan).unwrap();
        let refused = runtime.block_on(fill(plan, dir, &config, &mut undo)).map(drop);
        drop(undo);
        let theirs = std::fs::read(dir.join("state/keyring.json")).is_ok();
        (refused.unwrap_err().reason().to_owned(), theirs)
    }

    #[test]
    fn what_another_init_made_meanwhile_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("state")).unwrap();
        std::fs::write(dir.path().join("state/keyring.json"), "theirs").unwrap();
        std::fs::write(dir.path().join("root.key"), "theirs").unwrap();
        assert_eq!(late(dir.path(), &plan()), ("INSTALLATION_EXISTS".to_owned(), true));
        assert_eq!(std::fs::read(dir.path().join("root.key")).unwrap(), b"theirs");
    }

    #[test]
    fn a_root_key_file_that_is_there_stays_and_what_was_made_goes() {
        let dir = tempfile::tempdir().unwrap();
        let mut plan = plan();
        plan.root_key_file = Some(dir.path().join("shared.key"));
        std::fs::write(dir.path().join("shared.key"), "theirs").unwrap();
        assert_eq!(late(dir.path(), &plan).0, "FILE_EXISTS");
        assert_eq!(std::fs::read(dir.path().join("shared.key")).unwrap(), b"theirs");
        assert!(!dir.path().join("state").exists());
    }

    #[test]
    fn a_root_key_file_in_the_state_directory_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(dir.path(), dir.path().join("link")).unwrap();
        for inside in ["state/root.key", "link/state/../state/root.key"] {
            let mut plan = plan();
            plan.root_key_file = Some(dir.path().join(inside));
            assert_eq!(late(dir.path(), &plan).0, "ROOT_KEY_UNSAFE", "{inside}");
            assert!(!dir.path().join("state").exists());
        }
    }

    #[test]
    fn the_configuration_says_what_was_planned() {
        let mut plan = plan();
        plan.in_memory = true;
        plan.address_file = Some("address".to_owned());
        plan.root_key_file = Some("/else\"where/key".into());
        plan.members = vec![(Role::App, Principal::parse("dns:a").unwrap())];
        plan.settings = vec![("segment_mib = 64".to_owned(), "segment_mib = 4".to_owned())];
        let config = Config::parse(Path::new("/x/f.toml"), &configuration(&plan).unwrap()).unwrap();
        assert_eq!(config.server.address_file, Some("/x/address".into()));
        assert_eq!(config.tls.principal, fieldseal_model::PrincipalKind::Dns);
        assert_eq!(config.audit.segment_bytes, 4 << 20);
        let fieldseal_server::config::RootSettings::File(file) = config.root;
        assert_eq!(file, Path::new("/else\"where/key"));
    }
}
