//! Project Wycheproof's cases for every algorithm that is used, on the crates that are shipped.

use chacha20poly1305::aead::consts::U16;
use chacha20poly1305::aead::inout::InOutBuf;
use chacha20poly1305::{AeadInOut, ChaCha20Poly1305, KeyInit, XChaCha20Poly1305};
use fieldseal_crypto::signing::LogPublicKey;
use hkdf::Hkdf;
use sha2::Sha256;
use wycheproof::TestResult::{Acceptable, Invalid, Valid};
use wycheproof::{aead, eddsa, hkdf as kdf};

/// How many cases were valid, invalid, and could not even be put to the types that we use.
#[derive(Debug, Default, PartialEq, Eq)]
struct Counts {
    valid: usize,
    invalid: usize,
    unfit: usize,
}

fn run_aead<A: KeyInit + AeadInOut<TagSize = U16>>(name: aead::TestName) -> Counts {
    let set = aead::TestSet::load(name).unwrap();
    let mut counts = Counts::default();
    for case in set.test_groups.iter().flat_map(|group| &group.tests) {
        let id = case.tc_id;
        let cipher = A::new_from_slice(&case.key).unwrap();
        let (Ok(nonce), Ok(tag)) = (case.nonce[..].try_into(), case.tag[..].try_into()) else {
            assert_eq!(case.result, Invalid, "case {id}");
            counts.unfit += 1;
            continue;
        };
        let mut buffer = case.ct.to_vec();
        let body = InOutBuf::from(buffer.as_mut_slice());
        let opened = cipher.decrypt_inout_detached(nonce, &case.aad, body, tag);
        assert_eq!(opened.is_ok(), case.result == Valid, "case {id}: {}", case.comment);
        if case.result != Valid {
            counts.invalid += 1;
            continue;
        }
        assert_eq!(buffer, *case.pt, "case {id}");
        let body = InOutBuf::from(buffer.as_mut_slice());
        let sealed = cipher.encrypt_inout_detached(nonce, &case.aad, body).unwrap();
        assert_eq!(buffer, *case.ct, "case {id}");
        assert_eq!(sealed[..], case.tag[..], "case {id}");
        counts.valid += 1;
    }
    assert_eq!(counts.valid + counts.invalid + counts.unfit, set.number_of_tests);
    counts
}

#[test]
fn chacha20_poly1305_passes_wycheproof() {
    let counts = run_aead::<ChaCha20Poly1305>(aead::TestName::ChaCha20Poly1305);
    assert_eq!(counts, Counts { valid: 256, invalid: 60, unfit: 9 });
}

#[test]
fn xchacha20_poly1305_passes_wycheproof() {
    let counts = run_aead::<XChaCha20Poly1305>(aead::TestName::XChaCha20Poly1305);
    assert_eq!(counts, Counts { valid: 246, invalid: 60, unfit: 9 });
}

#[test]
fn hkdf_sha256_passes_wycheproof() {
    let set = kdf::TestSet::load(kdf::TestName::HkdfSha256).unwrap();
    let mut counts = Counts::default();
    for case in set.test_groups.iter().flat_map(|group| &group.tests) {
        let hkdf = Hkdf::<Sha256>::new(Some(&case.salt), &case.ikm);
        let mut okm = vec![0; case.size];
        let expanded = hkdf.expand(&case.info, &mut okm);
        assert_eq!(expanded.is_ok(), case.result == Valid, "case {}", case.tc_id);
        if case.result == Valid {
            assert_eq!(okm, *case.okm, "case {}", case.tc_id);
            counts.valid += 1;
        } else {
            counts.invalid += 1;
        }
    }
    assert_eq!(counts.valid + counts.invalid, set.number_of_tests);
    assert_eq!(counts, Counts { valid: 83, invalid: 3, unfit: 0 });
}

#[test]
fn ed25519_passes_wycheproof() {
    let set = eddsa::TestSet::load(eddsa::TestName::Ed25519).unwrap();
    let mut counts = Counts::default();
    for group in &set.test_groups {
        let key = LogPublicKey::new(group.key.pk[..].try_into().unwrap());
        for case in &group.tests {
            assert_ne!(case.result, Acceptable);
            let Ok(signature) = case.sig[..].try_into() else {
                assert_eq!(case.result, Invalid, "case {}", case.tc_id);
                counts.unfit += 1;
                continue;
            };
            let verified = key.verify(&case.msg, &signature);
            assert_eq!(verified.is_ok(), case.result == Valid, "case {}", case.tc_id);
            if case.result == Valid { counts.valid += 1 } else { counts.invalid += 1 }
        }
    }
    assert_eq!(counts.valid + counts.invalid + counts.unfit, set.number_of_tests);
    assert_eq!(counts, Counts { valid: 88, invalid: 51, unfit: 12 });
}

#[test]
fn a_key_under_which_every_message_verifies_is_refused() {
    // The neutral point as key and as R, S = 0: S*B = R + k*A for every k (RFC 8032 lets it pass).
    let mut neutral = [0; 32];
    neutral[0] = 1;
    let mut signature = [0; 64];
    signature[0] = 1;
    for message in [&b""[..], b"checkpoint"] {
        assert!(LogPublicKey::new(neutral).verify(message, &signature).is_err());
    }
}
