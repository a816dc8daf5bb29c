//! The servers as processes of their own.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};
use std::{fs, io};

use fieldseal_client::{Client, Settings};
use tokio::process::{Child, Command};

use crate::certificates;
use crate::error::BenchError;

/// How long a server may take until it can serve.
const START_WITHIN: Duration = Duration::from_secs(60);
/// Linux counts the time of processes in hundredths of a second, on every architecture that it
/// shows to user space (USER_HZ).
const TICKS_PER_SECOND: f64 = 100.0;

/// A running server. It is killed when this is dropped; [`Server::stop`] also waits until it is gone.
pub(crate) struct Server {
    pub(crate) name: &'static str,
    endpoint: String,
    tls: PathBuf,
    pid: u32,
    child: Child,
}

impl Server {
    /// Starts a server and waits until it has written its address file. What it prints goes to
    /// `{name}.log` in the directory.
    pub(crate) async fn start(
        name: &'static str,
        mut command: Command,
        directory: &Path,
        tls: &Path,
        address_file: &Path,
    ) -> Result<Self, BenchError> {
        let log = directory.join(format!("{name}.log"));
        let output = File::create(&log)?;
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(output.try_clone()?)
            .stderr(output)
            .kill_on_drop(true)
            .spawn()?;
        let pid = child.id().unwrap_or_default();
        let given_up = Instant::now() + START_WITHIN;
        let address = loop {
            match fs::read_to_string(address_file) {
                Ok(address) if address.ends_with('\n') => break address,
                _ if child.try_wait()?.is_some() || Instant::now() > given_up => {
                    return Err(BenchError::Start { server: name, log });
                }
                _ => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        };
        let endpoint = format!("https://{}", address.trim_end());
        Ok(Self { name, endpoint, tls: tls.to_owned(), pid, child })
    }

    /// Ends it and waits until it is gone.
    pub(crate) async fn stop(mut self) -> io::Result<()> {
        self.child.kill().await
    }

    /// Asks it to end in good order, and waits until it is gone.
    pub(crate) async fn end(mut self) -> Result<(), BenchError> {
        let asked = Command::new("kill").arg(self.pid.to_string()).status().await?;
        if !asked.success() || !self.child.wait().await?.success() {
            return Err(BenchError::Wrong { server: self.name, what: "it did not end well" });
        }
        Ok(())
    }

    /// A new connection.
    pub(crate) async fn connect(&self) -> Result<Client, BenchError> {
        let settings = Settings {
            endpoint: self.endpoint.clone(),
            ca: self.tls.join(certificates::CA),
            certificate: self.tls.join(certificates::CALLER),
            private_key: self.tls.join(certificates::CALLER_KEY),
        };
        Ok(Client::connect(settings).await?)
    }

    /// Seconds of CPU time that it has used, of user and kernel together.
    pub(crate) fn cpu_seconds(&self) -> io::Result<f64> {
        let text = fs::read_to_string(format!("/proc/{}/stat", self.pid))?;
        ticks(&text)
            .map(|ticks| ticks as f64 / TICKS_PER_SECOND)
            .ok_or_else(|| io::Error::other("/proc/<pid>/stat has another form"))
    }

    /// Megabytes of memory that it holds (10^6 bytes).
    pub(crate) fn resident_mb(&self) -> io::Result<f64> {
        resident_mb(self.pid)
    }
}

/// Megabytes of memory that a process holds (10^6 bytes).
pub(crate) fn resident_mb(pid: u32) -> io::Result<f64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status"))?;
    resident_kib(&text)
        .map(|kib| kib as f64 * 1024.0 / 1e6)
        .ok_or_else(|| io::Error::other("/proc/<pid>/status has another form"))
}

/// proc_pid_stat(5): utime and stime are the 14th and 15th field; the second may hold spaces.
fn ticks(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let kernel: u64 = fields.next()?.parse().ok()?;
    user.checked_add(kernel)
}

/// proc_pid_status(5).
fn resident_kib(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_form_is_not_read() {
        assert_eq!(ticks("1 (a) S 2 3"), None);
        assert_eq!(resident_kib("VmSize: 12 kB\n"), None);
    }

    #[test]
    fn proc_is_read() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 1 0 0 0 120 35 0 0 20 0 1 0 5 6 7";
        assert_eq!(ticks(stat), Some(155));
        assert_eq!(resident_kib("VmSize:\t 12 kB\nVmRSS:\t  3456 kB\n"), Some(3456));
    }
}
