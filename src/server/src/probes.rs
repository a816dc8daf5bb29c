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
use crate::health::Readiness;
use crate::run::ServeError;

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
        let file = file.map(|path| AddressFile::write(path, address)).transpose();
        let file = file.map_err(ServeError::AddressFile)?;
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
    let failed = |error| ServeError::Listen { address, error };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}
