//! `env`: a key in a variable of the environment, for platforms that hand secrets over in no other
//! way.
//!
//! Variables are taken once, before the process has a second thread, and removed then; so this file
//! does not read the environment itself. `main` does ([`EnvProvider::keep`]).

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fieldseal_crypto::ProviderKey;
use parking_lot::Mutex;
use zeroize::Zeroizing;

use super::super::error::KeyringError;
use super::{HoldsKey, KEY_BYTES};

/// What was in the variables that were taken, until a provider is made of it.
static KEPT: Mutex<BTreeMap<String, Result<ProviderKey, Wrong>>> = Mutex::new(BTreeMap::new());

/// A variable whose text is no key.
struct Wrong;

/// The 32 bytes that were in a variable, in base64 or hexadecimal.
pub struct EnvProvider {
    key: ProviderKey,
}

impl EnvProvider {
    /// Keeps the text of a variable that was taken from the environment.
    pub fn keep(variable: &str, text: Zeroizing<Vec<u8>>) {
        KEPT.lock().insert(variable.to_owned(), parse(&text).ok_or(Wrong));
    }

    /// Makes a provider of a variable that was taken. That works once.
    ///
    /// # Errors
    /// `Missing` if the variable was not set or does not hold 32 bytes.
    pub fn open(variable: &str) -> Result<Self, KeyringError> {
        let what = match KEPT.lock().remove(variable) {
            Some(Ok(key)) => return Ok(Self { key }),
            Some(Err(Wrong)) => {
                format!(
                    "the variable {variable} does not hold {KEY_BYTES} bytes in base64 or \
                    hexadecimal"
                )
            }
            None => format!("the variable {variable} is not set"),
        };
        Err(KeyringError::Missing(what))
    }
}

/// 32 bytes: 64 hexadecimal digits, or base64 with padding. White space around it is passed over.
fn parse(text: &[u8]) -> Option<ProviderKey> {
    let text = std::str::from_utf8(text).ok()?.trim_ascii();
    let mut key = Zeroizing::new([0; KEY_BYTES]);
    if text.len() == 2 * KEY_BYTES {
        for (to, digits) in key.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let digit = |at: usize| char::from(*digits.get(at)?).to_digit(16);
            *to = u8::try_from(digit(0)? * 16 + digit(1)?).ok()?;
        }
    } else {
        let bytes = Zeroizing::new(STANDARD.decode(text).ok()?);
        *key = bytes.as_slice().try_into().ok()?;
    }
    Some(ProviderKey::from_bytes(&mut key))
}

impl HoldsKey for EnvProvider {
    const NAME: &'static str = "env";

    fn key(&self) -> &ProviderKey {
        &self.key
    }
}

#[cfg(test)]
mod tests {
    use super::super::RootProvider as _;
    use super::*;

    #[test]
    fn a_variable_holds_32_bytes_in_one_of_two_forms_and_is_used_once() {
        let keep = |text: &str| EnvProvider::keep("IT", Zeroizing::new(text.into()));
        keep(&"0a".repeat(32));
        let hex = EnvProvider::open("IT").unwrap();
        keep(&format!(" {}\n", STANDARD.encode([10; 32])));
        assert_eq!(EnvProvider::open("IT").unwrap().id(), hex.id());
        assert!(matches!(EnvProvider::open("IT"), Err(KeyringError::Missing(_))));
        for wrong in ["", "0a", &"0g".repeat(32), &STANDARD.encode([10; 31]), &"0a".repeat(33)] {
            keep(wrong);
            let refused = EnvProvider::open("IT").err().unwrap().to_string();
            assert!(refused.contains("IT does not hold 32 bytes"), "{refused}");
            assert!(wrong.is_empty() || !refused.contains(wrong), "{refused}");
        }
    }
}
