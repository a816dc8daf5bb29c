//! What must hold for every value and every place.

use fieldseal_crypto::ContentType;
use fieldseal_crypto::field::{Header, decode_text, encode_text};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

use crate::place::Place;

/// No files are written: a failure prints its smallest input.
pub(crate) fn config(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

fn character() -> impl Strategy<Value = char> {
    prop_oneof![
        6 => proptest::char::range(' ', '~'),
        1 => proptest::char::range('\u{a1}', '\u{17f}'),
        1 => proptest::char::range('\u{4e00}', '\u{9fa5}'),
        1 => proptest::char::range('\u{1f300}', '\u{1f5ff}'),
    ]
}

fn label(from: usize, to: usize) -> impl Strategy<Value = String> {
    vec(character(), from..=to).prop_map(String::from_iter)
}

prop_compose! {
    fn places()(
        data_key in any::<[u8; 32]>(),
        key_id in any::<[u8; 8]>(),
        key in "[a-z][a-z0-9-]{0,20}",
        partition in label(0, 16),
        table in label(1, 16),
        column in label(1, 16),
        extra in btree_map(label(1, 8), label(0, 12), 0..=4),
        row in label(0, 20),
    ) -> Place {
        let key_id = if key_id[0] == 0xff { [0; 8] } else { key_id };
        let extra = extra.into_iter().collect();
        Place { data_key, key_id, key, partition, table, column, extra, row }
    }
}

/// The texts of a place, in the order in which they are authenticated; the pairs stand before the
/// row.
const TEXTS: [fn(&mut Place) -> &mut String; 5] =
    [|p| &mut p.key, |p| &mut p.partition, |p| &mut p.table, |p| &mut p.column, |p| &mut p.row];

/// Every place that differs from `place` in one byte of a key or one character of a text.
fn neighbours(place: &Place) -> Vec<Place> {
    let mut all = Vec::new();
    for at in 0..32 {
        let mut other = place.clone();
        other.data_key[at] ^= 1 << (at % 8);
        all.push(other);
    }
    for at in 0..8 {
        let mut other = place.clone();
        other.key_id[at] ^= 1 << at;
        all.push(other);
    }
    for get in TEXTS {
        for changed in changes(get(&mut place.clone())) {
            let mut other = place.clone();
            *get(&mut other) = changed;
            all.push(other);
        }
    }
    for at in 0..place.extra.len() {
        for name in changes(&place.extra[at].0) {
            let mut other = place.clone();
            other.extra[at].0 = name;
            all.push(other);
        }
        for value in changes(&place.extra[at].1) {
            let mut other = place.clone();
            other.extra[at].1 = value;
            all.push(other);
        }
        let mut other = place.clone();
        other.extra.remove(at);
        all.push(other);
    }
    let mut other = place.clone();
    other.extra.push(("one more".to_owned(), String::new()));
    all.push(other);
    all.retain(|other| other != place && is_legal(other));
    all
}

/// Each character replaced, and one added at the end. The letters are legal in every name.
fn changes(text: &str) -> Vec<String> {
    let mut all = vec![format!("{text}a")];
    for (at, old) in text.char_indices() {
        let new = if old == 'x' { "y" } else { "x" };
        all.push(format!("{}{new}{}", &text[..at], &text[at + old.len_utf8()..]));
    }
    all
}

/// A change may make two pairs of one name.
fn is_legal(place: &Place) -> bool {
    let mut names: Vec<_> = place.extra.iter().map(|(name, _)| name).collect();
    names.sort();
    names.windows(2).all(|pair| pair[0] != pair[1])
}

proptest! {
    #![proptest_config(config(128))]

    #[test]
    fn what_was_sealed_opens(
        place in places(), salt in any::<[u8; 16]>(), value in vec(any::<u8>(), 0..600),
    ) {
        let ciphertext = place.seal(&salt, ContentType::Bytes, &value);
        let expected = Ok((ContentType::Bytes, value));
        prop_assert_eq!(place.open(&ciphertext), expected.clone());
        prop_assert_eq!(place.open(encode_text(&ciphertext).as_bytes()), expected);
    }

    #[test]
    fn text_opens_as_text(place in places(), salt in any::<[u8; 16]>(), value in any::<String>()) {
        let ciphertext = place.seal(&salt, ContentType::Text, value.as_bytes());
        prop_assert_eq!(place.open(&ciphertext), Ok((ContentType::Text, value.into_bytes())));
    }

    #[test]
    fn a_ciphertext_with_any_byte_changed_does_not_open(
        place in places(), salt in any::<[u8; 16]>(), value in vec(any::<u8>(), 0..40),
        change in 1..=u8::MAX,
    ) {
        let ciphertext = place.seal(&salt, ContentType::Bytes, &value);
        for at in 0..ciphertext.len() {
            let mut altered = ciphertext.clone();
            altered[at] ^= change;
            let expected = if at < 57 { "COMMITMENT_MISMATCH" } else { "TAG_MISMATCH" };
            prop_assert_eq!(place.open_here(&altered), Err(expected), "byte {}", at);
            prop_assert!(place.open(&altered).is_err(), "byte {}", at);
        }
        for length in 0..ciphertext.len() {
            prop_assert!(place.open(&ciphertext[..length]).is_err(), "{} bytes", length);
        }
    }

    #[test]
    fn a_ciphertext_opens_nowhere_else(
        place in places(), salt in any::<[u8; 16]>(), value in vec(any::<u8>(), 0..40),
    ) {
        let ciphertext = place.seal(&salt, ContentType::Bytes, &value);
        let others = neighbours(&place);
        // Data key 32, key id 8, one pair more, and each of the five texts at least one longer.
        prop_assert!(others.len() >= 32 + 8 + 1 + 5, "only {} neighbours", others.len());
        for other in others {
            let opened = other.open_here(&ciphertext);
            prop_assert_eq!(opened, Err("COMMITMENT_MISMATCH"), "{:?}", other);
        }
    }

    #[test]
    fn a_character_moved_to_the_next_field_is_seen(place in places(), salt in any::<[u8; 16]>()) {
        let ciphertext = place.seal(&salt, ContentType::Bytes, b"value");
        let mut moved = 0;
        for (from, to) in [(1, 2), (2, 3), (3, 4), (1, 4)] {
            let mut texts = TEXTS.map(|text| text(&mut place.clone()).clone());
            let Some(last) = texts[from].pop() else { continue };
            texts[to].insert(0, last);
            if texts[2].is_empty() || texts[3].is_empty() {
                continue;
            }
            let mut other = place.clone();
            for (text, new) in TEXTS.into_iter().zip(texts) {
                *text(&mut other) = new;
            }
            prop_assert_eq!(other.open(&ciphertext), Err("COMMITMENT_MISMATCH"));
            moved += 1;
        }
        prop_assume!(moved > 0);
    }

    #[test]
    fn another_salt_makes_another_ciphertext(
        place in places(), salt in any::<[u8; 16]>(), at in 0..16_usize,
    ) {
        let mut other = salt;
        other[at] ^= 1;
        let a = place.seal(&salt, ContentType::Bytes, &[0; 64]);
        let b = place.seal(&other, ContentType::Bytes, &[0; 64]);
        prop_assert_ne!(&a[25..57], &b[25..57]);
        prop_assert_ne!(&a[57..122], &b[57..122]);
        prop_assert_ne!(&a[122..], &b[122..]);
    }

    #[test]
    fn the_text_form_leads_back(bytes in vec(any::<u8>(), 0..300)) {
        let text = encode_text(&bytes);
        prop_assert!(text.starts_with("fs1."));
        prop_assert_eq!(decode_text(text.as_bytes()).unwrap().into_owned(), bytes);
    }

    #[test]
    fn what_is_not_the_text_form_passes_as_it_is(bytes in vec(any::<u8>(), 0..100)) {
        prop_assume!(!bytes.starts_with(b"fs1."));
        prop_assert_eq!(decode_text(&bytes).unwrap().into_owned(), bytes);
    }

    #[test]
    fn two_texts_never_decode_alike(tail in "[A-Za-z0-9_-]{0,12}") {
        let text = format!("fs1.{tail}");
        if let Ok(binary) = decode_text(text.as_bytes()) {
            prop_assert_eq!(encode_text(&binary), text);
        }
    }

    #[test]
    fn arbitrary_bytes_never_open(place in places(), mut bytes in vec(any::<u8>(), 1..300)) {
        bytes[0] = 1;
        let parsed = Header::parse(&bytes);
        prop_assert_eq!(parsed.is_ok(), bytes.len() >= 74 && bytes[1] != 0xff);
        prop_assert!(place.open(&bytes).is_err());
        prop_assert!(place.open_here(&bytes).is_err());
    }
}
