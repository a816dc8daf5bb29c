//! The Rust client of a Fieldseal sidecar.
//!
//! **For:** applications in Rust, the command line, quickstart, bench and tests.
//! **May use:** `api`.
//! **Must hold:** TLS 1.3 with both certificates verified, always; no `Debug` output and no error
//! holds a key, a plaintext or a ciphertext; messages keep the limit of the contract.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use fieldseal_client::{Client, Failure, Settings, v1};
//!
//! let client = Client::connect(Settings::from_env()?).await?;
//! let request = v1::GetKeyRequest { name: "keys/customer-pii".into() };
//! match client.keys().get_key(request).await {
//!     Ok(response) => drop(response.into_inner().key),
//!     Err(status) if Failure::from(&status).reason() == "KEY_NOT_FOUND" => {}
//!     Err(status) => return Err(status.into()),
//! }
//! # Ok(()) }
//! ```

mod client;
mod connector;
mod failure;
mod settings;

pub use client::{AuditClient, Client, EncryptionClient, KeyClient, SystemClient};
pub use failure::{ClientError, Failure, reason, retry_after};
pub use fieldseal_api::v1;
pub use settings::{Settings, Variable};
pub use tonic_types::ErrorInfo;
