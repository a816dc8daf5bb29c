//! Wrapping a key with another: the same derivation and commitment as suite 1.
//!
//! ```text
//! 0x01 | salt 16 | commitment 32 | C 32 | tag 16
//! ```

use chacha20poly1305::aead::inout::InOutBuf;
use chacha20poly1305::{AeadInOut, ChaCha20Poly1305, KeyInit};
use fieldseal_memory::SecretBox;
use fieldseal_model::{InstallationId, KeyId, KeyName, Partition, VersionNumber};
use subtle::ConstantTimeEq;

use crate::derive::{COMMITMENT_BYTES, Expander, SALT_BYTES};
use crate::keys::{DataKey, Kek, ProviderKey, RootKey, ServiceKey, ServiceKeyKind};
use crate::pae;
use crate::random::{self, RandomError};

/// Bytes of a wrapped key.
pub const WRAPPED_BYTES: usize = HEADER_BYTES + KEY_BYTES + TAG_BYTES;
/// A wrapped key.
pub type Wrapped = [u8; WRAPPED_BYTES];

const FORMAT: u8 = 0x01;
const HEADER_BYTES: usize = 1 + SALT_BYTES + COMMITMENT_BYTES;
const KEY_BYTES: usize = 32;
const TAG_BYTES: usize = 16;
const NONCE: [u8; 12] = [0; 12];

/// A wrapped key did not unwrap: altered, or wrapped by another key or for another place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the wrapped key does not open")]
pub struct UnwrapError;

/// Which KEK is wrapped.
#[derive(Debug, Clone, Copy)]
pub struct KekId<'a> {
    /// The installation.
    pub installation: InstallationId,
    /// The key.
    pub key: &'a KeyName,
    /// Its version.
    pub version: VersionNumber,
}

/// Which data key is wrapped.
#[derive(Debug, Clone, Copy)]
pub struct DataKeyId<'a> {
    /// The installation.
    pub installation: InstallationId,
    /// The key.
    pub key: &'a KeyName,
    /// The version whose KEK wraps it.
    pub version: VersionNumber,
    /// The partition.
    pub partition: &'a Partition,
    /// The partition's how-many-eth data key.
    pub generation: u32,
    /// Its id.
    pub key_id: KeyId,
}

/// Wraps the root key with the key of a root provider.
///
/// # Errors
/// [`RandomError`].
pub fn wrap_root(
    provider: &ProviderKey,
    installation: InstallationId,
    root: &RootKey,
) -> Result<Wrapped, RandomError> {
    wrap(provider.bytes(), &root_context(installation), root.bytes())
}

/// Unwraps the root key.
///
/// # Errors
/// [`UnwrapError`].
pub fn unwrap_root(
    provider: &ProviderKey,
    installation: InstallationId,
    wrapped: &[u8],
) -> Result<RootKey, UnwrapError> {
    unwrap(provider.bytes(), &root_context(installation), wrapped).map(RootKey)
}

/// Wraps a service key with the root key.
///
/// # Errors
/// [`RandomError`].
pub fn wrap_service(
    root: &RootKey,
    installation: InstallationId,
    kind: ServiceKeyKind,
    key: &ServiceKey,
) -> Result<Wrapped, RandomError> {
    wrap(root.bytes(), &service_context(installation, kind), key.bytes())
}

/// Unwraps a service key.
///
/// # Errors
/// [`UnwrapError`].
pub fn unwrap_service(
    root: &RootKey,
    installation: InstallationId,
    kind: ServiceKeyKind,
    wrapped: &[u8],
) -> Result<ServiceKey, UnwrapError> {
    unwrap(root.bytes(), &service_context(installation, kind), wrapped).map(ServiceKey)
}

/// Wraps a KEK with the root key.
///
/// # Errors
/// [`RandomError`].
pub fn wrap_kek(root: &RootKey, id: &KekId<'_>, key: &Kek) -> Result<Wrapped, RandomError> {
    wrap(root.bytes(), &kek_context(id), key.bytes())
}

/// Unwraps a KEK.
///
/// # Errors
/// [`UnwrapError`].
pub fn unwrap_kek(root: &RootKey, id: &KekId<'_>, wrapped: &[u8]) -> Result<Kek, UnwrapError> {
    unwrap(root.bytes(), &kek_context(id), wrapped).map(Kek)
}

/// Wraps a data key with its version's KEK.
///
/// # Errors
/// [`RandomError`].
pub fn wrap_data_key(kek: &Kek, id: &DataKeyId<'_>, key: &DataKey) -> Result<Wrapped, RandomError> {
    wrap(kek.bytes(), &data_key_context(id), key.bytes())
}

/// Unwraps a data key.
///
/// # Errors
/// [`UnwrapError`].
pub fn unwrap_data_key(
    kek: &Kek,
    id: &DataKeyId<'_>,
    wrapped: &[u8],
) -> Result<DataKey, UnwrapError> {
    unwrap(kek.bytes(), &data_key_context(id), wrapped).map(DataKey)
}

fn root_context(installation: InstallationId) -> [u8; 32] {
    context(b"fieldseal/v1/wrap/root", installation, &[], &[], &[], &[], &[])
}

fn service_context(installation: InstallationId, kind: ServiceKeyKind) -> [u8; 32] {
    let name = kind.as_str().as_bytes();
    context(b"fieldseal/v1/wrap/service", installation, name, &[], &[], &[], &[])
}

fn kek_context(id: &KekId<'_>) -> [u8; 32] {
    let version = id.version.get().to_le_bytes();
    let name = id.key.as_str().as_bytes();
    context(b"fieldseal/v1/wrap/kek", id.installation, name, &version, &[], &[], &[])
}

fn data_key_context(id: &DataKeyId<'_>) -> [u8; 32] {
    context(
        b"fieldseal/v1/wrap/dek",
        id.installation,
        id.key.as_str().as_bytes(),
        &id.version.get().to_le_bytes(),
        id.partition.as_str().as_bytes(),
        &id.generation.to_le_bytes(),
        id.key_id.as_bytes(),
    )
}

fn context(
    label: &[u8],
    installation: InstallationId,
    name: &[u8],
    version: &[u8],
    partition: &[u8],
    generation: &[u8],
    key_id: &[u8],
) -> [u8; 32] {
    let parts = [label, installation.as_bytes(), name, version, partition, generation, key_id];
    crate::sha256(&[&pae::encode(&parts)])
}

fn header(salt: &[u8; SALT_BYTES], commitment: &[u8; COMMITMENT_BYTES]) -> [u8; HEADER_BYTES] {
    let mut header = [FORMAT; HEADER_BYTES];
    let (to_salt, to_commitment) = header.split_at_mut(1).1.split_at_mut(SALT_BYTES);
    to_salt.copy_from_slice(salt);
    to_commitment.copy_from_slice(commitment);
    header
}

/// Wraps with a salt that the caller chose: for test vectors.
pub(crate) fn wrap_with_salt(
    wrapping: &[u8; 32],
    ctx: &[u8; 32],
    salt: &[u8; SALT_BYTES],
    key: &[u8; KEY_BYTES],
) -> Wrapped {
    let expander = Expander::new(wrapping);
    let header = header(salt, &expander.commitment(salt, ctx));
    let mut wrapped = [0; WRAPPED_BYTES];
    let (to_header, rest) = wrapped.split_at_mut(HEADER_BYTES);
    let (body, to_tag) = rest.split_at_mut(KEY_BYTES);
    to_header.copy_from_slice(&header);
    let cipher = ChaCha20Poly1305::new((&*expander.key(salt, ctx)).into());
    let (input, output): (&[u8], &mut [u8]) = (key, body);
    // Encrypted from the key page straight into the result: no copy of the key in between. Neither
    // step fails for 32 bytes; if one did, the tag stays zero and nothing ever unwraps it.
    if let Ok(buffer) = InOutBuf::new(input, output)
        && let Ok(tag) = cipher.encrypt_inout_detached(&NONCE.into(), &header, buffer)
    {
        to_tag.copy_from_slice(&tag);
    }
    wrapped
}

fn wrap(wrapping: &[u8; 32], ctx: &[u8; 32], key: &[u8; 32]) -> Result<Wrapped, RandomError> {
    Ok(wrap_with_salt(wrapping, ctx, &random::array()?, key))
}

fn unwrap(
    wrapping: &[u8; 32],
    ctx: &[u8; 32],
    wrapped: &[u8],
) -> Result<SecretBox<32>, UnwrapError> {
    let wrapped: &Wrapped = wrapped.try_into().map_err(|_| UnwrapError)?;
    let (stated, rest) = wrapped.split_at(HEADER_BYTES);
    let (body, tag) = rest.split_at(KEY_BYTES);
    let salt = stated.get(1..).and_then(|s| s.first_chunk()).ok_or(UnwrapError)?;
    let tag: &[u8; TAG_BYTES] = tag.try_into().map_err(|_| UnwrapError)?;
    let expander = Expander::new(wrapping);
    let expected = header(salt, &expander.commitment(salt, ctx));
    if !bool::from(stated.ct_eq(&expected)) {
        return Err(UnwrapError);
    }
    let cipher = ChaCha20Poly1305::new((&*expander.key(salt, ctx)).into());
    SecretBox::try_build(|key| {
        let buffer = InOutBuf::new(body, key.as_mut_slice()).map_err(|_| UnwrapError)?;
        let nonce = NONCE.into();
        cipher.decrypt_inout_detached(&nonce, stated, buffer, tag.into()).map_err(|_| UnwrapError)
    })
}
