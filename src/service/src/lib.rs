//! One handler file for each gRPC service: parse, call the engine, translate. Nothing else.
//!
//! **For:** the wire's edge. Wire types die here, and the engine's answers become wire types here.
//! **May use:** `engine`, `api`, and the words of the floors below them.
//! **Must hold:** every RPC names its [`fieldseal_model::Action`] in one table; an error's wire form
//! comes from one file; no handler decides, opens or records anything itself.

pub mod actions;
mod approvals;
mod audit;
mod caller;
mod encryption;
pub mod errors;
mod key_settings;
mod keys;
pub mod ocsf;
mod parse;
mod system;
mod wire_key;

pub use audit::AuditHandler;
pub use caller::{Leaving, caller};
pub use encryption::EncryptionHandler;
pub use keys::KeyHandler;
pub use system::SystemHandler;

/// What a message may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WireLimits {
    /// Most items in a batch.
    pub batch_items: usize,
    /// Most bytes of a message, both ways.
    pub message_bytes: usize,
}

impl Default for WireLimits {
    fn default() -> Self {
        Self { batch_items: 1000, message_bytes: 4 * 1024 * 1024 }
    }
}

/// Most bytes of one plaintext.
pub const MAX_VALUE_BYTES: usize = 1024 * 1024;
