//! A secret of fixed size in a locked slot.

use std::marker::PhantomData;
use std::ptr::NonNull;

use zeroize::Zeroize;

use crate::pool::{self, SLOT_BYTES};

/// `N` secret bytes in a locked page that is left out of core dumps. Wiped when dropped. `N` is at
/// most 64. There is no `Debug`, `Clone` or `Serialize`.
///
/// ```compile_fail
/// let secret = fieldseal_memory::SecretBox::<32>::build(|_| ());
/// let copy = secret.clone();
/// ```
///
/// ```compile_fail
/// let secret = fieldseal_memory::SecretBox::<32>::build(|_| ());
/// println!("{secret:?}");
/// ```
pub struct SecretBox<const N: usize> {
    slot: NonNull<u8>,
    owns: PhantomData<[u8; N]>,
}

// SAFETY: the slot belongs to this value alone, like a `Box<[u8; N]>`.
unsafe impl<const N: usize> Send for SecretBox<N> {}
// SAFETY: `&SecretBox` only reads.
unsafe impl<const N: usize> Sync for SecretBox<N> {}

impl<const N: usize> SecretBox<N> {
    const FITS: () = assert!(N <= SLOT_BYTES, "a secret has at most 64 bytes");

    /// Builds the secret in place: `fill` sees `N` zero bytes.
    #[must_use]
    pub fn build(fill: impl FnOnce(&mut [u8; N])) -> Self {
        let mut secret = Self::zeroed();
        fill(secret.expose_mut());
        secret
    }

    /// Builds the secret in place; a failure wipes what was written.
    ///
    /// # Errors
    /// What `fill` fails with.
    pub fn try_build<E>(fill: impl FnOnce(&mut [u8; N]) -> Result<(), E>) -> Result<Self, E> {
        let mut secret = Self::zeroed();
        fill(secret.expose_mut())?;
        Ok(secret)
    }

    /// The bytes. Do not copy them.
    #[must_use]
    pub fn expose(&self) -> &[u8; N] {
        // SAFETY: the slot has at least N initialised bytes (FITS), belongs to `self`, and any
        // byte alignment fits a byte array.
        unsafe { self.slot.cast::<[u8; N]>().as_ref() }
    }

    fn zeroed() -> Self {
        const { Self::FITS };
        Self { slot: pool::take(), owns: PhantomData }
    }

    fn expose_mut(&mut self) -> &mut [u8; N] {
        // SAFETY: as in `expose`, and `self` is borrowed mutably.
        unsafe { self.slot.cast::<[u8; N]>().as_mut() }
    }
}

impl<const N: usize> Drop for SecretBox<N> {
    fn drop(&mut self) {
        self.expose_mut().zeroize();
        pool::give_back(self.slot);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_secret_leaves_zeroes() {
        let secret = SecretBox::<32>::build(|bytes| bytes.fill(0xa5));
        assert_eq!(secret.expose(), &[0xa5; 32]);
        drop(secret);
        // Slots go round: whoever gets this one next sees zeroes.
        let others: Vec<_> = (0..2048).map(|_| SecretBox::<64>::build(|_| ())).collect();
        for other in &others {
            assert_eq!(other.expose(), &[0; 64]);
        }
    }

    #[test]
    fn a_failed_build_wipes() {
        let failed = SecretBox::<64>::try_build(|bytes| {
            bytes.fill(1);
            Err("no")
        });
        assert_eq!(failed.err(), Some("no"));
        let next = SecretBox::<64>::build(|_| ());
        assert_eq!(next.expose(), &[0; 64]);
    }
}
