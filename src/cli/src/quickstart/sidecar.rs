//! The sidecar as a process of its own.

use std::fs::File;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::Stdio;

use fieldseal_server::config::Environment;
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

use super::START_WITHIN;
use super::place::Place;
use crate::address;
use crate::failure::{Exit, Failure};
use crate::installation::Created;
use crate::signals::StopSignals;

/// The reason of a sidecar whose port is taken.
pub(super) const ADDRESS_UNAVAILABLE: &str = "ADDRESS_UNAVAILABLE";
/// Lines of the sidecar's own output that are shown when it ends too early.
const LAST_LINES: usize = 5;

/// A running sidecar. It is killed if this is dropped before it was stopped.
pub(super) struct Sidecar {
    child: Child,
    pid: u32,
    address: SocketAddr,
    log: std::path::PathBuf,
}

/// A loopback port that is free now. It goes into the configuration, so that the same address works
/// when the installation is served again.
pub(super) fn free_address() -> Result<SocketAddr, Failure> {
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|l| l.local_addr());
    free.map_err(|e| Failure::new(Exit::Internal, "IO_ERROR", format!("no free port: {e}")))
}

/// Has `serve` listen here from its next start on.
pub(super) fn listen_on(config: &Path, address: SocketAddr) -> Result<(), Failure> {
    let failed = |e: &std::io::Error| Failure::io("cannot write", config, e);
    let text = std::fs::read_to_string(config).map_err(|e| failed(&e))?;
    // The first is the server's; the second listener stays where it is.
    let old = text.lines().find(|line| line.starts_with("listen = ")).unwrap_or_default();
    let text = text.replacen(old, &format!("listen = \"{address}\""), 1);
    let dir = config.parent().unwrap_or(config);
    let mut staged = tempfile::NamedTempFile::new_in(dir).map_err(|e| failed(&e))?;
    staged.write_all(text.as_bytes()).map_err(|e| failed(&e))?;
    staged.persist(config).map(drop).map_err(|e| failed(&e.error))
}

impl Sidecar {
    /// Starts this program as `serve` and waits until it can serve.
    pub(super) async fn start(place: &Place, made: &Created) -> Result<Self, Failure> {
        let log = place.log();
        let failed = |e: std::io::Error| Failure::io("cannot start the sidecar; see", &log, &e);
        let out = File::create(&log).map_err(failed)?;
        let program = std::env::current_exe().map_err(failed)?;
        let mut command = Command::new(program);
        // Whoever tries it out may have set up another installation in this shell.
        for name in Environment::of_process().settings() {
            command.env_remove(name);
        }
        let child = command
            .arg("serve")
            .arg("--config")
            .arg(made.config())
            // Ctrl-C at the terminal is for the quickstart, which stops the sidecar in good order.
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(out.try_clone().map_err(failed)?)
            .stderr(out)
            .kill_on_drop(true)
            .spawn()
            .map_err(failed)?;
        let pid = child.id().unwrap_or_default();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let mut sidecar = Self { child, pid, address, log: log.clone() };
        let file = made.dir.join("address");
        let address = tokio::select! {
            address = tokio::time::timeout(START_WITHIN, address::appears(&file)) => address,
            ended = sidecar.ended() => return Err(ended),
        };
        sidecar.address = address.map_err(|_| sidecar.failure("it does not get ready"))?;
        Ok(sidecar)
    }

    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits until it ends by itself, which it should not.
    pub(super) async fn ended(&mut self) -> Failure {
        match self.child.wait().await {
            Ok(status) => self.failure(&format!("it ended: {status}")),
            Err(error) => self.failure(&error.to_string()),
        }
    }

    fn failure(&self, what: &str) -> Failure {
        let said = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = said.lines().collect();
        let last = lines.get(lines.len().saturating_sub(LAST_LINES)..).unwrap_or_default();
        let taken =
            lines.iter().any(|line| line.strip_prefix("reason  ") == Some(ADDRESS_UNAVAILABLE));
        let what = format!("the sidecar: {what}\n{}", last.join("\n"));
        match taken {
            true => Failure::new(Exit::Conflict, ADDRESS_UNAVAILABLE, what),
            false => Failure::new(Exit::Unavailable, "SIDECAR_FAILED", what),
        }
    }

    /// SIGTERM, and waits for the end; the exit code. A signal meanwhile kills it: whoever asks twice
    /// does not want to wait.
    pub(super) async fn stop(mut self, signals: &mut StopSignals) -> Result<i32, Failure> {
        // No number once it was waited for: by then that may be another process.
        let pid = self.child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        if let Some(pid) = pid {
            // It may have ended meanwhile; then waiting says how.
            let _ended_already = kill_process(pid, Signal::TERM);
        }
        let ended = tokio::select! {
            ended = self.child.wait() => ended,
            () = signals.received() => match self.child.start_kill() {
                Ok(()) => self.child.wait().await,
                Err(error) => Err(error),
            },
        };
        let status = ended.map_err(|e| self.failure(&e.to_string()))?;
        match status.code() {
            Some(0) => Ok(0),
            _ => Err(self.failure(&format!("it did not stop cleanly: {status}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use fieldseal_server::Config;

    use super::*;

    #[test]
    fn another_address_changes_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f.toml");
        let at = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let example = |port| {
            let address = at(port).to_string();
            Config::example(&[("server.listen", &address)]).unwrap()
        };
        std::fs::write(&path, example(1)).unwrap();
        listen_on(&path, at(2)).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text, example(2));
        assert_eq!(Config::parse(&path, &text).unwrap().server.listen, at(2));
    }
}
