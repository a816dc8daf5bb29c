//! The sidecar as a process of its own.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

use super::START_WITHIN;
use super::place::Place;
use crate::address;
use crate::failure::{Exit, Failure};
use crate::installation::Created;

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

impl Sidecar {
    /// Starts this program as `serve` and waits until it can serve.
    pub(super) async fn start(place: &Place, made: &Created) -> Result<Self, Failure> {
        let log = place.log();
        let failed = |e: std::io::Error| Failure::io("cannot start the sidecar; see", &log, &e);
        let out = File::create(&log).map_err(failed)?;
        let program = std::env::current_exe().map_err(failed)?;
        let child = Command::new(program)
            .arg("serve")
            .arg("--config")
            .arg(made.config())
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
        let what = format!("the sidecar: {what}\n{}", last.join("\n"));
        Failure::new(Exit::Unavailable, "SIDECAR_FAILED", what)
    }

    /// SIGTERM, and waits for the end; the exit code.
    pub(super) async fn stop(mut self) -> Result<i32, Failure> {
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| self.failure("it has no process id"))?;
        // It may have ended meanwhile; then waiting says how.
        let _ended_already = kill_process(pid, Signal::TERM);
        let status = self.child.wait().await.map_err(|e| self.failure(&e.to_string()))?;
        match status.code() {
            Some(0) => Ok(0),
            _ => Err(self.failure(&format!("it did not stop cleanly: {status}"))),
        }
    }
}
