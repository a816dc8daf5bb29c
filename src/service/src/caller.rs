//! Who calls, as the transport found out.

use fieldseal_engine::Caller;
use fieldseal_model::Principal;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Status};

use crate::errors::principal_missing;

/// The caller that the transport put into the request.
///
/// # Errors
/// `UNAUTHENTICATED` (`PRINCIPAL_MISSING`) without one. The transport refuses such connections, so this is never seen
/// unless the services are mounted without it.
pub fn caller<T>(request: &Request<T>) -> Result<Caller, Status> {
    match request.extensions().get::<Principal>() {
        Some(principal) => Ok(Caller { principal: principal.clone() }),
        None => Err(principal_missing()),
    }
}

/// Says when a call's connection is to be left: the process stops, or the connection's time is over.
/// The transport puts it into the request. An answer that has no end of its own ends then.
#[derive(Debug, Clone, Default)]
pub struct Leaving(CancellationToken);

impl Leaving {
    /// From now on it is to be left.
    pub fn now(&self) {
        self.0.cancel();
    }

    /// What the transport put into the request; without one the end never comes.
    pub(crate) fn of<T>(request: &Request<T>) -> Self {
        request.extensions().get::<Self>().cloned().unwrap_or_default()
    }

    /// Waits for the end.
    pub(crate) async fn begun(&self) {
        self.0.cancelled().await;
    }
}
