//! The real thing: the shipped binary with its shipped defaults.

use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use tokio::process::Command;

use crate::certificates;
use crate::error::BenchError;
use crate::process::Server;

/// What the sidecar is called in messages.
const NAME: &str = "fieldseal";

/// Builds the binary that is shipped, in the profile and the target directory of this one.
///
/// # Errors
/// If cargo fails; it says why on standard error.
pub(crate) async fn build() -> Result<PathBuf, BenchError> {
    let own = env::current_exe()?;
    let release = own.parent().unwrap_or(Path::new("."));
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["build", "--release", "--locked", "--bin", NAME]);
    command.arg("--target-dir").arg(release.parent().unwrap_or(Path::new(".")));
    // `cargo run` says where this package lies; called by itself, it must be in the workspace.
    if let Some(package) = env::var_os("CARGO_MANIFEST_DIR") {
        command.arg("--manifest-path").arg(Path::new(&package).join("../../Cargo.toml"));
    }
    let status = command.kill_on_drop(true).status().await?;
    if !status.success() {
        return Err(BenchError::Build(format!("cargo build --release --locked --bin {NAME}")));
    }
    Ok(release.join(NAME))
}

/// Makes an installation for the bench's caller and starts the sidecar on it.
///
/// # Errors
/// If it cannot be made or does not start.
pub(crate) async fn start(binary: &Path, dir: &Path, tls: &Path) -> Result<Server, BenchError> {
    make(binary, dir, tls).await?;
    serve(binary, dir, tls).await
}

/// Makes an installation for the bench's caller.
///
/// # Errors
/// If it cannot be made.
pub(crate) async fn make(binary: &Path, dir: &Path, tls: &Path) -> Result<(), BenchError> {
    let installation = dir.join("installation");
    let mut init = Command::new(binary);
    init.arg("init").arg("--dir").arg(&installation).args(["--listen", "127.0.0.1:0"]);
    for role in ["--app", "--operator"] {
        init.args([role, certificates::PRINCIPAL]);
    }
    let made = init.kill_on_drop(true).output().await?;
    if !made.status.success() {
        let said = String::from_utf8_lossy(&made.stderr);
        return Err(BenchError::Init(said.trim().to_owned()));
    }
    let own_tls = installation.join("tls");
    fs::create_dir_all(&own_tls)?;
    for file in [certificates::CA, certificates::SERVER, certificates::SERVER_KEY] {
        fs::copy(tls.join(file), own_tls.join(file))?;
    }
    let config = installation.join("fieldseal.toml");
    let text = fs::read_to_string(&config)?;
    let with_file = text.replacen("address_file = \"\"", "address_file = \"address\"", 1);
    if with_file == text {
        return Err(BenchError::Init("its configuration has no empty address_file".to_owned()));
    }
    fs::write(&config, with_file)?;
    Ok(())
}

/// Starts the sidecar on an installation that is there.
///
/// # Errors
/// If it does not start.
pub(crate) async fn serve(binary: &Path, dir: &Path, tls: &Path) -> Result<Server, BenchError> {
    let installation = dir.join("installation");
    let address = installation.join("address");
    // One that was killed leaves its own behind.
    match fs::remove_file(&address) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    let mut serve = Command::new(binary);
    serve.arg("serve").arg("--config").arg(installation.join("fieldseal.toml"));
    Server::start(NAME, serve, dir, tls, &address).await
}
