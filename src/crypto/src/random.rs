//! Randomness: always the operating system's (a generator of our own would repeat after a snapshot
//! of the machine).

/// The operating system gave no randomness.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the operating system gave no randomness")]
pub struct RandomError;

/// Fills the buffer with random bytes: one system call, however long it is.
///
/// # Errors
/// [`RandomError`]; the buffer must not be used then.
pub fn fill(buffer: &mut [u8]) -> Result<(), RandomError> {
    getrandom::fill(buffer).map_err(|_| RandomError)
}

/// `N` random bytes, for values that are not secret: salts, ids, nonces.
///
/// # Errors
/// [`RandomError`].
pub fn array<const N: usize>() -> Result<[u8; N], RandomError> {
    let mut bytes = [0; N];
    fill(&mut bytes)?;
    Ok(bytes)
}
