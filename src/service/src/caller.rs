//! Who calls, as the transport found out.

use fieldseal_engine::Caller;
use fieldseal_model::Principal;
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
