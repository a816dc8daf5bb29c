//! The wire contract `fieldseal.v1` as Rust types, made from `proto/` and committed.
//!
//! **For:** the server's handlers and every client.
//! **May use:** nothing of ours.
//! **Must hold:** the generated files are what `fieldseal-api-generate` makes of `proto/`; no `Debug`
//! output shows a plaintext, a raw row or partition, the value of a context pair or an assertion.

mod debug;

/// `package fieldseal.v1`. Limits and errors stand beside each service and field.
#[allow(
    missing_docs,
    unreachable_pub,
    rustdoc::all,
    clippy::all,
    clippy::pedantic,
    clippy::allow_attributes_without_reason,
    reason = "generated code; its comments are those of the proto files"
)]
pub mod v1 {
    include!("generated/fieldseal.v1.rs");
}

/// An encoded `google.protobuf.FileDescriptorSet` of the contract and what it imports, for
/// `grpc.reflection.v1`.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!("generated/descriptors.bin");
/// `ErrorInfo.domain` of every error.
pub const ERROR_DOMAIN: &str = "fieldseal.dev";
/// Most bytes in a message, in both directions.
pub const MAX_MESSAGE_BYTES: usize = 4 * 1024 * 1024;
/// Most items in a batch.
pub const MAX_BATCH_ITEMS: usize = 1000;
