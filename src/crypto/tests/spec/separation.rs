//! Two different lists or contexts never encode alike.

use std::collections::HashMap;

use fieldseal_crypto::{ContentType, pae};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::place::Place;
use crate::properties::config;

/// Reads an encoding back. That this is possible is why no two lists encode alike.
fn decode(encoded: &[u8]) -> Option<Vec<Vec<u8>>> {
    fn le32(rest: &mut &[u8]) -> Option<usize> {
        let (number, after) = rest.split_first_chunk::<4>()?;
        *rest = after;
        usize::try_from(u32::from_le_bytes(*number)).ok()
    }
    let mut rest = encoded;
    let count = le32(&mut rest)?;
    let mut parts = Vec::new();
    for _ in 0..count {
        let length = le32(&mut rest)?;
        let (part, after) = rest.split_at_checked(length)?;
        parts.push(part.to_vec());
        rest = after;
    }
    rest.is_empty().then_some(parts)
}

fn encode(parts: &[Vec<u8>]) -> Vec<u8> {
    pae::encode(&parts.iter().map(Vec::as_slice).collect::<Vec<_>>())
}

/// Few different bytes, among them those of small lengths, so that borders look like contents.
fn parts() -> impl Strategy<Value = Vec<Vec<u8>>> {
    vec(vec(prop_oneof![Just(0_u8), Just(1), Just(4), any::<u8>()], 0..12), 0..8)
}

proptest! {
    #![proptest_config(config(1024))]

    #[test]
    fn an_encoding_leads_back_to_its_parts(parts in parts()) {
        prop_assert_eq!(decode(&encode(&parts)), Some(parts));
    }

    #[test]
    fn two_lists_encode_alike_only_if_they_are_the_same(a in parts(), b in parts()) {
        prop_assert_eq!(encode(&a) == encode(&b), a == b);
    }

    #[test]
    fn a_byte_moved_to_a_neighbour_is_seen(parts in parts()) {
        let encoded = encode(&parts);
        for left in 1..parts.len() {
            let mut moved = parts.clone();
            if let Some(byte) = moved[left - 1].pop() {
                moved[left].insert(0, byte);
                prop_assert_ne!(&encode(&moved), &encoded);
            }
            let mut joined = parts.clone();
            let part = joined.remove(left);
            joined[left - 1].extend(part);
            prop_assert_ne!(&encode(&joined), &encoded);
        }
        for at in 0..=parts.len() {
            let mut longer = parts.clone();
            longer.insert(at, Vec::new());
            prop_assert_ne!(&encode(&longer), &encoded);
        }
    }
}

/// All contexts over a small alphabet, so that every letter stands in every field.
fn small_contexts() -> Vec<Place> {
    let names = ["a", "aa", "b", "ab"];
    let texts = ["", "a", "ab"];
    let extras: [&[(&str, &str)]; 8] = [
        &[],
        &[("a", "")],
        &[("a", "a")],
        &[("aa", "")],
        &[("a", "b")],
        &[("b", "a")],
        &[("a", ""), ("b", "")],
        &[("a", "b"), ("b", "a")],
    ];
    let mut all = Vec::new();
    for key in ["a", "ab"] {
        for partition in texts {
            for table in names {
                for column in names {
                    for row in texts {
                        for extra in extras {
                            let mut place = Place::example();
                            place.key = key.to_owned();
                            place.partition = partition.to_owned();
                            place.table = table.to_owned();
                            place.column = column.to_owned();
                            place.row = row.to_owned();
                            let owned = |(n, v): &(&str, &str)| (n.to_string(), v.to_string());
                            place.extra = extra.iter().map(owned).collect();
                            all.push(place);
                        }
                    }
                }
            }
        }
    }
    all
}

#[test]
fn no_two_contexts_have_the_same_commitment() {
    let mut seen: HashMap<Vec<u8>, Place> = HashMap::new();
    for place in small_contexts() {
        // Same data key, same salt: only the context makes a difference.
        let ciphertext = place.seal(&[0; 16], ContentType::Bytes, b"");
        let commitment = ciphertext[25..57].to_vec();
        if let Some(other) = seen.insert(commitment, place.clone()) {
            panic!("{place:?} and {other:?} encode alike");
        }
    }
    assert_eq!(seen.len(), 2 * 3 * 4 * 4 * 3 * 8);
}

#[test]
fn pairs_mean_the_same_in_every_order() {
    let mut place = Place::example();
    place.extra = ["b", "a", "ä", "B"].map(|name| (name.to_owned(), format!("of {name}"))).to_vec();
    let ciphertext = place.seal(&[0; 16], ContentType::Text, b"x");
    let mut opened = 0;
    for _ in 0..place.extra.len() {
        place.extra.rotate_left(1);
        assert!(place.open(&ciphertext).is_ok());
        place.extra.swap(0, 1);
        assert!(place.open(&ciphertext).is_ok());
        place.extra.swap(0, 1);
        opened += 2;
    }
    assert_eq!(opened, 8);
}
