//! The second listener: probes and metrics for whoever has no client certificate.
//!
//! It answers `/livez`, `/readyz` and `/metrics` in plain text and nothing else, on loopback unless
//! configured otherwise. Trouble with the audit log, the store or the root provider makes the process
//! not ready; it is alive as long as it answers at all.

mod ask;
mod exposition;
mod growth;
mod listener;
mod names;
mod observer;

pub use ask::{Probe, ProbeAnswer, ProbeError, ask};
pub(crate) use observer::{Observer, Serving};

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

use crate::address_file::AddressFile;
use crate::config::ProbeSettings;
use crate::failure::ServeError;
use crate::health::Readiness;

/// The second listener, from before the sidecar starts until it has stopped. Dropped, it answers no
/// more.
pub(crate) struct Probing {
    observer: Arc<Observer>,
    _file: Option<AddressFile>,
    _answering: Option<AbortOnDropHandle<()>>,
}

impl Probing {
    /// Answers where the settings say, if they do.
    ///
    /// # Errors
    /// If the address or its file cannot be used.
    pub(crate) async fn start(
        settings: &ProbeSettings,
        readiness: &Readiness,
    ) -> Result<Self, ServeError> {
        let observer = Arc::new(Observer::new(readiness.watch()));
        let Some(address) = settings.listen else {
            return Ok(Self { observer, _file: None, _answering: None });
        };
        let (listener, address) = bind(address).await?;
        let file = settings.address_file.as_deref();
        let setting = "probes.address_file";
        let file = file.map(|path| AddressFile::of(setting, path, address)).transpose()?;
        let answering = tokio::spawn(listener::serve(listener, Arc::clone(&observer)));
        tracing::info!(event = "probes", %address, "answering probes");
        Ok(Self { observer, _file: file, _answering: Some(AbortOnDropHandle::new(answering)) })
    }

    /// What it looks with.
    pub(crate) fn observer(&self) -> &Observer {
        &self.observer
    }
}

async fn bind(address: SocketAddr) -> Result<(TcpListener, SocketAddr), ServeError> {
    let failed = |error| ServeError::Listen { setting: "probes.listen", address, error };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(address_file: std::path::PathBuf) -> ProbeSettings {
        let listen = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
        ProbeSettings { listen, address_file: Some(address_file) }
    }

    #[tokio::test]
    async fn a_process_that_starts_or_stops_is_alive_and_not_ready() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("probes");
        let readiness = Readiness::new();
        let probing = Probing::start(&settings(file.clone()), &readiness).await.unwrap();
        let address = std::fs::read_to_string(&file).unwrap().trim_end().parse().unwrap();
        let answer = |ok, says: &str| ProbeAnswer { ok, says: says.to_owned() };
        let asked = ask(address, Probe::Readiness).await.unwrap();
        assert_eq!(asked, answer(false, "not ready: starting"));
        assert_eq!(ask(address, Probe::Liveness).await.unwrap(), answer(true, "live"));
        probing.observer().stopping();
        let asked = ask(address, Probe::Readiness).await.unwrap();
        assert_eq!(asked, answer(false, "not ready: stopping"));
        assert_eq!(ask(address, Probe::Liveness).await.unwrap(), answer(true, "live"));
        drop(probing);
        assert!(!file.exists());
    }

    #[tokio::test]
    async fn an_address_that_somebody_has_is_refused_by_name() {
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = taken.local_addr().unwrap();
        let settings = ProbeSettings { listen: Some(address), address_file: None };
        let started = Probing::start(&settings, &Readiness::new()).await;
        let Err(error) = started else { panic!("two listen on {address}") };
        assert_eq!(error.reason(), "ADDRESS_UNAVAILABLE");
        let named = format!("{address} (probes.listen)");
        assert!(error.to_string().contains(&named), "{error}");
        // What listens there and is none of ours is told from one that is not ready.
        let silent = tokio::spawn(async move { drop(taken.accept().await) });
        let asked = ask(address, Probe::Readiness).await;
        assert!(matches!(asked, Err(ProbeError::Foreign(_))), "{asked:?}");
        silent.await.unwrap();
        let asked = ask(address, Probe::Readiness).await;
        assert!(matches!(asked, Err(ProbeError::Unreachable(..))), "{asked:?}");
    }

    #[tokio::test]
    async fn without_an_address_nobody_listens() {
        let settings = ProbeSettings { listen: None, address_file: None };
        let probing = Probing::start(&settings, &Readiness::new()).await.unwrap();
        assert!(probing._answering.is_none());
    }
}
