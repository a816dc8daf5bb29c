//! One handler file for each gRPC service: parse, call the engine, translate. Nothing else.
//!
//! **For:** the wire's edge. Wire types die here, and the engine's answers become wire types here.
//! **May use:** `engine`, `api`, and the words of the floors below them.
//! **Must hold:** every RPC names its [`fieldseal_model::Action`] in one table; an error's wire form
//! comes from one file; no handler decides, opens or records anything itself.

pub mod actions;
mod audit;
mod caller;
mod encryption;
pub mod errors;
mod keys;
mod parse;
mod system;

pub use audit::AuditHandler;
pub use caller::caller;
pub use encryption::EncryptionHandler;
pub use keys::KeyHandler;
pub use system::SystemHandler;

/// Most items in a batch.
pub const MAX_BATCH_ITEMS: usize = 1000;
/// Most bytes of a message, both ways.
pub const MAX_MESSAGE_BYTES: usize = 4 * 1024 * 1024;
/// Most bytes of one plaintext.
pub const MAX_VALUE_BYTES: usize = 1024 * 1024;
