//! The process: configuration, listener, identity, limits, health, telemetry, start and drain.
//!
//! **For:** turning a configuration file into a running sidecar, and back into nothing.
//! **May use:** everything below; only this floor parses the configuration.
//! **Must hold:** no call without an authenticated principal, a deadline and a place within the
//! limits; every connection asks the certificate verifier; no secret reaches a log line.

mod address_file;
mod anchors;
mod backups;
mod calls;
pub mod config;
mod exports;
mod failure;
mod health;
pub mod https;
pub mod issuer_keys;
mod listening;
pub mod probes;
mod refusal;
mod root;
mod run;
mod runtime;
mod services;
pub mod telemetry;
pub mod transport;
mod usage;

pub use address_file::AddressFile;
pub use calls::{Arriving, CallLimits, LimitedCall, LimitedServices};
pub use config::{Config, ConfigError, ConfigErrors};
pub use failure::{ServeError, ServeErrorKind, boot_kind, keyring_kind};
pub use health::{Readiness, with_health, with_reflection};
pub use refusal::CallRefusal;
pub use root::{ask, new_provider, open_with, provider};
pub use run::{check_backend, engine_settings, installation, run};
pub use runtime::runtime;
pub use services::Services;
