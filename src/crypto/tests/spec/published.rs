//! RFC 8439 and RFC 5869, on the crates and the configuration that are shipped: the library does not
//! compile with another Poly1305 backend.

use chacha20poly1305::aead::inout::InOutBuf;
use chacha20poly1305::{AeadInOut, ChaCha20Poly1305, KeyInit};
use hkdf::Hkdf;
use sha2::Sha256;

fn unhex(text: &str) -> Vec<u8> {
    hex::decode(text).unwrap()
}

struct Aead {
    section: &'static str,
    key: &'static str,
    nonce: &'static str,
    aad: &'static str,
    plaintext: &'static str,
    ciphertext: &'static str,
    tag: &'static str,
}

const RFC_8439: [Aead; 2] = [
    Aead {
        section: "2.8.2",
        key: "808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f",
        nonce: "070000004041424344454647",
        aad: "50515253c0c1c2c3c4c5c6c7",
        plaintext: "Ladies and Gentlemen of the class of '99: If I could offer you only one tip \
                    for the future, sunscreen would be it.",
        ciphertext: "d31a8d34648e60db7b86afbc53ef7ec2a4aded51296e08fea9e2b5a736ee62d6\
                     3dbea45e8ca9671282fafb69da92728b1a71de0a9e060b2905d6a5b67ecd3b36\
                     92ddbd7f2d778b8c9803aee328091b58fab324e4fad675945585808b4831d7bc\
                     3ff4def08e4b7a9de576d26586cec64b6116",
        tag: "1ae10b594f09e26a7e902ecbd0600691",
    },
    Aead {
        section: "A.5",
        key: "1c9240a5eb55d38af333888604f6b5f0473917c1402b80099dca5cbc207075c0",
        nonce: "000000000102030405060708",
        aad: "f33388860000000000004e91",
        plaintext: "Internet-Drafts are draft documents valid for a maximum of six months and may \
                    be updated, replaced, or obsoleted by other documents at any time. It is \
                    inappropriate to use Internet-Drafts as reference material or to cite them \
                    other than as /\u{201c}work in progress./\u{201d}",
        ciphertext: "64a0861575861af460f062c79be643bd5e805cfd345cf389f108670ac76c8cb2\
                     4c6cfc18755d43eea09ee94e382d26b0bdb7b73c321b0100d4f03b7f355894cf\
                     332f830e710b97ce98c8a84abd0b948114ad176e008d33bd60f982b1ff37c855\
                     9797a06ef4f0ef61c186324e2b3506383606907b6a7c02b0f9f6157b53c867e4\
                     b9166c767b804d46a59b5216cde7a4e99040c5a40433225ee282a1b0a06c523e\
                     af4534d7f83fa1155b0047718cbc546a0d072b04b3564eea1b422273f548271a\
                     0bb2316053fa76991955ebd63159434ecebb4e466dae5a1073a6727627097a10\
                     49e617d91d361094fa68f0ff77987130305beaba2eda04df997b714d6c6f2c29\
                     a6ad5cb4022b02709b",
        tag: "eead9d67890cbb22392336fea1851f38",
    },
];

#[test]
fn chacha20_poly1305_is_that_of_rfc_8439() {
    for vector in RFC_8439 {
        let key: [u8; 32] = unhex(vector.key).try_into().unwrap();
        let nonce: [u8; 12] = unhex(vector.nonce).try_into().unwrap();
        let aad = unhex(vector.aad);
        let cipher = ChaCha20Poly1305::new(&key.into());
        let mut buffer = vector.plaintext.as_bytes().to_vec();
        let body = InOutBuf::from(buffer.as_mut_slice());
        let tag = cipher.encrypt_inout_detached(&nonce.into(), &aad, body).unwrap();
        assert_eq!(hex::encode(&buffer), vector.ciphertext, "{}", vector.section);
        assert_eq!(hex::encode(tag), vector.tag, "{}", vector.section);
        let mut refused = 0;
        for bit in 0..128 {
            let mut other = tag;
            other[bit / 8] ^= 1 << (bit % 8);
            let mut copy = buffer.clone();
            let body = InOutBuf::from(copy.as_mut_slice());
            assert!(cipher.decrypt_inout_detached(&nonce.into(), &aad, body, &other).is_err());
            refused += 1;
        }
        assert_eq!(refused, 128);
        let body = InOutBuf::from(buffer.as_mut_slice());
        cipher.decrypt_inout_detached(&nonce.into(), &aad, body, &tag).unwrap();
        assert_eq!(buffer, vector.plaintext.as_bytes(), "{}", vector.section);
    }
}

struct Derivation {
    section: &'static str,
    ikm: Vec<u8>,
    salt: Vec<u8>,
    info: Vec<u8>,
    prk: &'static str,
    okm: &'static str,
}

/// The three cases of SHA-256 (the other four are of SHA-1).
fn rfc_5869() -> [Derivation; 3] {
    [
        Derivation {
            section: "A.1",
            ikm: vec![0x0b; 22],
            salt: (0..=0x0c).collect(),
            info: (0xf0..=0xf9).collect(),
            prk: "077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5",
            okm: "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b88718\
                  5865",
        },
        Derivation {
            section: "A.2",
            ikm: (0..=0x4f).collect(),
            salt: (0x60..=0xaf).collect(),
            info: (0xb0..=0xff).collect(),
            prk: "06a6b88c5853361a06104c9ceb35b45cef760014904671014a193f40c15fc244",
            okm: "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c59045a99cac78272\
                  71cb41c65e590e09da3275600c2f09b8367793a9aca3db71cc30c58179ec3e87c14c01d5c1f3434f\
                  1d87",
        },
        Derivation {
            section: "A.3",
            ikm: vec![0x0b; 22],
            salt: vec![],
            info: vec![],
            prk: "19ef24a32c717b167f33a91d6f648bdf96596776afdb6377ac434c1c293ccb04",
            okm: "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a\
                  96c8",
        },
    ]
}

#[test]
fn hkdf_sha256_is_that_of_rfc_5869() {
    for vector in rfc_5869() {
        let (prk, extracted) = Hkdf::<Sha256>::extract(Some(&vector.salt), &vector.ikm);
        assert_eq!(hex::encode(prk), vector.prk, "{}", vector.section);
        // We only expand, from a key that is a PRK.
        let given = Hkdf::<Sha256>::from_prk(&prk).unwrap();
        for hkdf in [extracted, given] {
            let mut okm = vec![0; vector.okm.len() / 2];
            hkdf.expand(&vector.info, &mut okm).unwrap();
            assert_eq!(hex::encode(&okm), vector.okm, "{}", vector.section);
            let middle = vector.info.len() / 2;
            let parts = [&vector.info[..middle], &[], &vector.info[middle..]];
            hkdf.expand_multi_info(&parts, &mut okm).unwrap();
            assert_eq!(hex::encode(&okm), vector.okm, "{}", vector.section);
        }
    }
}
