//! `passphrase`: a key made of a passphrase by Argon2id (RFC 9106). What it takes is measured when
//! the key is made, and stands in the keyring with the salt.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use argon2::{Algorithm, Argon2, Block, Params, Version};
use fieldseal_crypto::ProviderKey;
use fieldseal_crypto::random;
use rustix::termios::{self, LocalModes, OptionalActions, Termios};
use zeroize::{Zeroize as _, Zeroizing};

use super::super::error::KeyringError;
use super::{HoldsKey, KEY_BYTES};

/// The least that a guess costs: 64 MiB, three passes (RFC 9106 section 4, second choice, with one
/// lane).
const LEAST_MEMORY_KIB: u32 = 64 * 1024;
const LEAST_PASSES: u32 = 3;
const LANES: u32 = 1;
/// The most memory that `measured` chooses, and the most that a keyring may ask for.
const MEASURED_MEMORY_KIB: u32 = 256 * 1024;
const MOST_MEMORY_KIB: u32 = 2 * 1024 * 1024;
const MOST_PASSES: u32 = 1_000;
/// What one guess takes on the machine that measures.
const TARGET: Duration = Duration::from_secs(1);
/// The shortest passphrase that is taken for a new key, in bytes.
const LEAST_BYTES: usize = 12;
const MOST_BYTES: usize = 1_024;
const SALT_BYTES: usize = 16;

/// How a passphrase becomes a key: Argon2id, version 0x13, one lane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Derivation {
    pub(in super::super) salt: [u8; SALT_BYTES],
    pub(in super::super) memory_kib: u32,
    pub(in super::super) passes: u32,
}

impl Derivation {
    /// What a keyring says, if it asks for no less than the least and for no more than a machine
    /// can be asked for.
    pub(in super::super) fn of(salt: &[u8], memory_kib: u32, passes: u32) -> Option<Self> {
        let known = (LEAST_MEMORY_KIB..=MOST_MEMORY_KIB).contains(&memory_kib)
            && (LEAST_PASSES..=MOST_PASSES).contains(&passes);
        Some(Self { salt: salt.try_into().ok().filter(|_| known)?, memory_kib, passes })
    }

    /// A new salt, and what takes about a second on this machine: more memory first, then more
    /// passes.
    fn measured() -> Result<Self, KeyringError> {
        let mut chosen =
            Self { salt: random::array()?, memory_kib: LEAST_MEMORY_KIB, passes: LEAST_PASSES };
        let began = Instant::now();
        chosen.key(&Passphrase(Zeroizing::new(vec![0; LEAST_BYTES])))?;
        let took = began.elapsed().max(Duration::from_millis(1));
        // In 64ths, because a factor is rarely whole.
        let factor = TARGET.as_millis().saturating_mul(64) / took.as_millis().max(1);
        let factor = u32::try_from(factor).unwrap_or(u32::MAX);
        let memory = (LEAST_MEMORY_KIB / 64).saturating_mul(factor);
        chosen.memory_kib = memory.clamp(LEAST_MEMORY_KIB, MEASURED_MEMORY_KIB);
        let passes = LEAST_PASSES.saturating_mul(memory) / chosen.memory_kib;
        chosen.passes = passes.clamp(LEAST_PASSES, MOST_PASSES);
        Ok(chosen)
    }

    /// Its memory is wiped when it is done.
    fn key(&self, passphrase: &Passphrase) -> Result<ProviderKey, KeyringError> {
        let failed = |e: argon2::Error| KeyringError::Derivation(e.to_string());
        let params = Params::new(self.memory_kib, self.passes, LANES, Some(KEY_BYTES));
        let params = params.map_err(failed)?;
        let mut blocks = Vec::new();
        blocks
            .try_reserve_exact(params.block_count())
            .map_err(|e| KeyringError::Derivation(e.to_string()))?;
        blocks.resize(params.block_count(), Block::default());
        let mut key = Zeroizing::new([0; KEY_BYTES]);
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        let made = argon2.hash_password_into_with_memory(
            &passphrase.0,
            &self.salt,
            key.as_mut_slice(),
            blocks.as_mut_slice(),
        );
        blocks.iter_mut().for_each(Block::zeroize);
        made.map_err(failed)?;
        Ok(ProviderKey::from_bytes(&mut key))
    }
}

/// What somebody knows. Wiped when dropped.
pub struct Passphrase(Zeroizing<Vec<u8>>);

impl Passphrase {
    /// Reads one line from a file descriptor of this process. It may wait for it. The end of the line
    /// does not belong to it.
    ///
    /// # Errors
    /// `Missing` if there is none, `Io` if the descriptor cannot be read.
    pub fn read(descriptor: u32) -> Result<Self, KeyringError> {
        let path = PathBuf::from(format!("/dev/fd/{descriptor}"));
        let line = match descriptor {
            0 => line(io::stdin()),
            _ => File::open(&path).and_then(line),
        };
        let line = line.map_err(|e| KeyringError::io("read the passphrase from", &path, e))?;
        match line.is_empty() {
            true => Err(KeyringError::Missing(format!(
                "there is no passphrase on file descriptor {descriptor}"
            ))),
            false => Ok(Self(line)),
        }
    }

    /// The passphrase as text, where that is what it is.
    #[must_use]
    pub fn into_text(self) -> Option<Zeroizing<String>> {
        std::str::from_utf8(&self.0).ok().map(|text| Zeroizing::new(text.to_owned()))
    }

    /// True if both are the same.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

/// A line without its end. Byte by byte, so that no buffer holds more of it.
fn line(from: impl AsFd) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut line = Zeroizing::new(Vec::with_capacity(MOST_BYTES));
    let mut byte = Zeroizing::new([0]);
    while rustix::io::retry_on_intr(|| rustix::io::read(&from, byte.as_mut_slice()))? == 1 {
        match *byte {
            [b'\n'] => break,
            _ if line.len() == MOST_BYTES => {
                return Err(io::Error::other(format!("it has more than {MOST_BYTES} bytes")));
            }
            [other] => line.push(other),
        }
    }
    if line.ends_with(b"\r") {
        line.pop();
    }
    Ok(line)
}

/// A terminal that does not show what is typed, until this is dropped.
pub struct Terminal(Termios);

impl Terminal {
    /// True if the descriptor is a terminal that somebody can be asked on.
    #[must_use]
    pub fn is(descriptor: u32) -> bool {
        descriptor == 0 && termios::isatty(io::stdin())
    }

    /// Standard input, if that is a terminal and the descriptor is 0.
    #[must_use]
    pub fn quiet(descriptor: u32) -> Option<Self> {
        let input = io::stdin();
        if !Self::is(descriptor) {
            return None;
        }
        let before = termios::tcgetattr(&input).ok()?;
        let mut quiet = before.clone();
        quiet.local_modes.remove(LocalModes::ECHO);
        termios::tcsetattr(&input, OptionalActions::Flush, &quiet).ok()?;
        Some(Self(before))
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // A terminal that is gone shows nothing anyway.
        let _ = termios::tcsetattr(io::stdin(), OptionalActions::Now, &self.0);
    }
}

/// A key that is made of a passphrase.
pub struct PassphraseProvider {
    key: ProviderKey,
    derivation: Derivation,
}

impl PassphraseProvider {
    /// A new salt for a passphrase; measures what a guess costs here. Takes some seconds.
    ///
    /// # Errors
    /// `Weak` if the passphrase is too short.
    pub fn create(passphrase: &Passphrase) -> Result<Self, KeyringError> {
        if passphrase.0.len() < LEAST_BYTES {
            return Err(KeyringError::Weak(LEAST_BYTES));
        }
        Self::open(passphrase, Derivation::measured()?)
    }

    /// The key that a keyring's passphrase gives. Takes about a second.
    ///
    /// # Errors
    /// `Derivation` if the memory for it is not there.
    pub fn open(passphrase: &Passphrase, derivation: Derivation) -> Result<Self, KeyringError> {
        Ok(Self { key: derivation.key(passphrase)?, derivation })
    }
}

impl HoldsKey for PassphraseProvider {
    const NAME: &'static str = "passphrase";

    fn key(&self) -> &ProviderKey {
        &self.key
    }

    fn derivation(&self) -> Option<&Derivation> {
        Some(&self.derivation)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Seek as _, Write as _};

    use super::super::RootProvider as _;
    use super::*;

    fn passphrase(text: &str) -> Passphrase {
        Passphrase(Zeroizing::new(text.into()))
    }

    #[test]
    fn the_key_follows_from_passphrase_and_salt_and_a_guess_is_never_cheap() {
        let made = PassphraseProvider::create(&passphrase("correct horse")).unwrap();
        let derivation = HoldsKey::derivation(&made).unwrap().clone();
        assert!(derivation.memory_kib >= 65_536 && derivation.passes >= 3, "{derivation:?}");
        let again = PassphraseProvider::open(&passphrase("correct horse"), derivation.clone());
        assert_eq!(again.unwrap().id(), made.id());
        let other = PassphraseProvider::open(&passphrase("correct horsf"), derivation.clone());
        assert_ne!(other.unwrap().id(), made.id());
        let short = PassphraseProvider::create(&passphrase("elevenbytes"));
        assert!(matches!(short, Err(KeyringError::Weak(12))));
        let Derivation { salt, memory_kib, passes } = derivation;
        assert!(Derivation::of(&salt, memory_kib, passes).is_some());
        for (memory_kib, passes) in [(65_535, 3), (65_536, 2), (u32::MAX, 3), (65_536, u32::MAX)] {
            assert!(Derivation::of(&salt, memory_kib, passes).is_none());
        }
        assert!(Derivation::of(&salt[1..], memory_kib, passes).is_none());
    }

    #[test]
    fn argon2id_is_that_of_rfc_9106() {
        let derivation = Derivation::of(b"somesaltsomesalt", 65_536, 3).unwrap();
        let key = derivation.key(&passphrase("password")).unwrap();
        let hex: String = key.expose().iter().map(|byte| format!("{byte:02x}")).collect();
        // As OpenSSL makes it of the same.
        assert_eq!(hex, "7664ad4ba1a3c999fcdd0991ffc2270f78302d2383233db5e7befc85d1bb1819");
    }

    #[test]
    fn a_passphrase_is_one_line() {
        for (text, wanted) in [("a b \r\nmore", "a b "), ("none", "none"), ("\nlate", "")] {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(text.as_bytes()).unwrap();
            file.rewind().unwrap();
            assert_eq!(line(&file).unwrap().as_slice(), wanted.as_bytes());
        }
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[b'a'; MOST_BYTES + 1]).unwrap();
        file.rewind().unwrap();
        assert!(line(&file).is_err());
    }
}
