//! What is refused before any key is looked for, and the text form.

use fieldseal_crypto::ContentType;
use fieldseal_crypto::field::{Header, OVERHEAD_BYTES, SUITE, decode_text, encode_text};

use crate::place::Place;

fn refusal(ciphertext: &[u8]) -> Option<&'static str> {
    Header::parse(ciphertext).err().map(|e| e.reason().as_str())
}

fn sealed() -> Vec<u8> {
    Place::example().seal(&[9; 16], ContentType::Bytes, b"")
}

#[test]
fn a_ciphertext_cut_at_any_length_is_refused() {
    let ciphertext = sealed();
    assert_eq!(ciphertext.len(), OVERHEAD_BYTES);
    assert_eq!(refusal(&[]), Some("CIPHERTEXT_EMPTY"));
    let mut cut = 0;
    for length in 1..OVERHEAD_BYTES {
        let short = &ciphertext[..length];
        assert_eq!(refusal(short), Some("CIPHERTEXT_TRUNCATED"), "{length} bytes");
        // Nor does the cipher itself take it, should a caller forget to parse.
        assert!(Place::example().open_here(short).is_err(), "{length} bytes");
        cut += 1;
    }
    assert_eq!(cut, 73);
    assert_eq!(refusal(&ciphertext), None);
}

#[test]
fn every_suite_but_the_first_is_unknown() {
    let mut ciphertext = sealed();
    let mut refused = 0;
    for suite in (0..=u8::MAX).filter(|suite| *suite != SUITE) {
        ciphertext[0] = suite;
        assert_eq!(refusal(&ciphertext), Some("CIPHERTEXT_SUITE_UNKNOWN"), "suite {suite}");
        refused += 1;
    }
    assert_eq!(refused, 255);
}

#[test]
fn plain_text_is_told_from_a_ciphertext() {
    for text in ["ada@example.org", "x", "Zoë\tÅ\r\n", "fs2.AQID", "\u{7f}"] {
        assert_eq!(refusal(text.as_bytes()), Some("CIPHERTEXT_NOT_SEALED"), "{text}");
    }
    for bytes in [&b"ada\0"[..], b"\xff\xfe", b"\x02text", b"\x1b[0m"] {
        assert_eq!(refusal(bytes), Some("CIPHERTEXT_SUITE_UNKNOWN"), "{bytes:?}");
    }
}

#[test]
fn every_key_id_of_a_test_double_is_refused_and_no_other() {
    let mut ciphertext = sealed();
    for second in 0..=u8::MAX {
        ciphertext[1..3].copy_from_slice(&[0xff, second]);
        assert_eq!(refusal(&ciphertext), Some("TEST_CIPHERTEXT"));
    }
    for first in 0..0xff {
        ciphertext[1..3].copy_from_slice(&[first, 0xff]);
        let header = Header::parse(&ciphertext).unwrap();
        assert_eq!(header.key_id.as_bytes()[..], ciphertext[1..9]);
    }
}

#[test]
fn a_text_form_with_any_other_character_is_refused() {
    let text = encode_text(&sealed());
    assert_eq!(decode_text(text.as_bytes()).unwrap(), sealed());
    let mut refused = 0;
    for byte in 0..=u8::MAX {
        if byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_' {
            continue;
        }
        for at in [4, 50, text.len() - 1] {
            let mut altered = text.clone().into_bytes();
            altered[at] = byte;
            let error = decode_text(&altered).err().map(|e| e.reason().as_str());
            assert_eq!(error, Some("CIPHERTEXT_TEXT_INVALID"), "byte {byte} at {at}");
            refused += 1;
        }
    }
    assert_eq!(refused, (256 - 64) * 3);
}

#[test]
fn a_ciphertext_has_one_text_form() {
    // The last character of 2 or 3 has bits that stand for nothing; all but one value is refused.
    for (end, bits) in [("AA", 4_u32), ("AAA", 2)] {
        let accepted = (0..64_usize)
            .filter(|last| {
                let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
                let mut text = format!("fs1.{}", &end[1..]).into_bytes();
                text.push(alphabet[*last]);
                decode_text(&text).is_ok()
            })
            .count();
        assert_eq!(accepted, 64 >> bits);
    }
}
