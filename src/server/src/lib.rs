//! The process: configuration, listener, identity, limits, health, telemetry, start and drain.
//!
//! **For:** turning a configuration file into a running sidecar, and back into nothing.
//! **May use:** everything below; only this floor parses the configuration.
//! **Must hold:** no call without an authenticated principal, a deadline and a place within the
//! limits; every connection asks the certificate verifier; no secret reaches a log line.

mod calls;
mod refusal;
mod services;
pub mod transport;

pub use calls::{CallLimits, LimitedCall, LimitedServices};
pub use refusal::CallRefusal;
pub use services::Services;
