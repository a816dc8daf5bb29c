//! Our vectors, which an implementation that shares no code with this one wrote.

use fieldseal_crypto::field::{Header, encode_text};
use fieldseal_crypto::token::TokenKey;
use fieldseal_crypto::wrap::{self, DataKeyId, KekId};
use fieldseal_crypto::{
    ContentType, DataKey, Kek, ProviderKey, RootKey, ServiceKey, ServiceKeyKind, pae, sha256,
};
use fieldseal_model::{InstallationId, KeyId, KeyName, Partition, Row, Table, VersionNumber};
use serde_json::Value;

use crate::place::Place;

const FILE: &str = include_str!("../../../../tests/vectors/ciphertext-v1.json");

fn text(of: &Value, name: &str) -> String {
    of[name].as_str().unwrap_or_else(|| panic!("{name} is missing")).to_owned()
}

fn bytes(of: &Value, name: &str) -> Vec<u8> {
    hex::decode(text(of, name)).unwrap()
}

fn array<const N: usize>(of: &Value, name: &str) -> [u8; N] {
    bytes(of, name).try_into().unwrap()
}

fn number(of: &Value, name: &str) -> u32 {
    of[name].as_u64().unwrap().try_into().unwrap()
}

/// Runs `check(name, in, out)` on every vector of a section, of which there must be `count`.
fn each(section: &str, count: usize, mut check: impl FnMut(&str, &Value, &Value)) {
    let file: Value = serde_json::from_str(FILE).unwrap();
    let vectors = file[section].as_array().unwrap();
    for vector in vectors {
        check(&text(vector, "name"), &vector["in"], &vector["out"]);
    }
    assert_eq!(vectors.len(), count, "{section}");
    assert_eq!(file["counts"][section], count, "{section}");
}

fn place(given: &Value) -> Place {
    let pair = |pair: &Value| {
        let part = |i: usize| pair[i].as_str().unwrap().to_owned();
        (part(0), part(1))
    };
    Place {
        data_key: array(given, "data_key"),
        key_id: given.get("key_id").map(|_| array(given, "key_id")).unwrap_or_default(),
        key: text(given, "key"),
        partition: text(given, "partition"),
        table: text(given, "table"),
        column: text(given, "column"),
        extra: given["extra"].as_array().unwrap().iter().map(pair).collect(),
        row: text(given, "row"),
    }
}

fn content_type(of: &Value) -> ContentType {
    match number(of, "content_type") {
        1 => ContentType::Bytes,
        2 => ContentType::Text,
        other => panic!("content type {other}"),
    }
}

#[test]
fn lists_of_parts_encode_as_in_the_vectors() {
    each("pae", 8, |name, given, out| {
        let parts: Vec<Vec<u8>> = given["parts"]
            .as_array()
            .unwrap()
            .iter()
            .map(|part| hex::decode(part.as_str().unwrap()).unwrap())
            .collect();
        let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
        assert_eq!(hex::encode(pae::encode(&parts)), text(out, "encoded"), "{name}");
    });
}

#[test]
fn fields_seal_and_open_as_in_the_vectors() {
    each("fields", 20, |name, given, out| {
        let place = place(given);
        let value = match given.get("value_repeat") {
            Some(repeat) => bytes(repeat, "hex").repeat(number(repeat, "times") as usize),
            None => bytes(given, "value"),
        };
        let content = content_type(given);
        let sealed = place.seal(&array(given, "salt"), content, &value);
        let as_text = encode_text(&sealed);
        if out.get("ciphertext").is_some() {
            assert_eq!(hex::encode(&sealed), text(out, "ciphertext"), "{name}");
            assert_eq!(as_text, text(out, "text"), "{name}");
        } else {
            assert_eq!(sealed[..57], bytes(out, "ciphertext_start"), "{name}");
            assert_eq!(sealed[sealed.len() - 16..], bytes(out, "ciphertext_end"), "{name}");
            assert_eq!(sha256(&[&sealed])[..], bytes(out, "ciphertext_sha256"), "{name}");
            assert_eq!(sha256(&[as_text.as_bytes()])[..], bytes(out, "text_sha256"), "{name}");
        }
        assert_eq!(Header::parse(&sealed).unwrap().key_id, KeyId::new(place.key_id), "{name}");
        let expected = Ok((content, value));
        assert_eq!(place.open(&sealed), expected, "{name}");
        assert_eq!(place.open(as_text.as_bytes()), expected, "{name}");
        assert_eq!(place.open_here(&sealed), expected, "{name}");
    });
}

#[test]
fn padding_is_read_as_in_the_vectors() {
    let mut opened = 0;
    each("padding", 28, |name, given, out| {
        let expected = match out.get("reason") {
            Some(_) => Err(text(out, "reason")),
            None => {
                opened += 1;
                Ok((content_type(out), bytes(out, "value")))
            }
        };
        let got = place(given).open(&bytes(given, "ciphertext")).map_err(str::to_owned);
        assert_eq!(got, expected, "{name}");
    });
    assert_eq!(opened, 12);
}

#[test]
fn everything_that_must_not_open_is_refused_for_its_reason() {
    each("refused", 59, |name, given, out| {
        let ciphertext = match given.get("text") {
            Some(_) => text(given, "text").into_bytes(),
            None => bytes(given, "ciphertext"),
        };
        let got = place(given).open(&ciphertext).map_err(str::to_owned);
        assert_eq!(got, Err(text(out, "reason")), "{name}");
    });
}

/// What opened: its kind, and something that only the right key makes.
#[derive(Debug, PartialEq, Eq)]
enum Unwrapped {
    Root([u8; 32]),
    Service([u8; 16]),
    Kek([u8; 32]),
    DataKey(Vec<u8>),
}

fn service_sign(key: ServiceKey) -> Unwrapped {
    Unwrapped::Service(TokenKey::new(key).partition(&Partition::default()))
}

/// A KEK shows its bytes to nobody: it is known by whether it opens a data key that the expected
/// KEK wrapped.
fn kek_sign(kek: &Kek, expected: [u8; 32]) -> Unwrapped {
    let key = KeyName::parse("k").unwrap();
    let id = DataKeyId {
        installation: InstallationId::new([1; 16]),
        key: &key,
        version: VersionNumber::FIRST,
        partition: &Partition::default(),
        generation: 0,
        key_id: KeyId::new([2; 8]),
    };
    let data_key = DataKey::generate().unwrap();
    let by_expected = Kek::from_bytes(&mut expected.clone());
    let wrapped = wrap::wrap_data_key(&by_expected, &id, &data_key).unwrap();
    let opens = wrap::unwrap_data_key(kek, &id, &wrapped).is_ok();
    Unwrapped::Kek(if opens { expected } else { [0; 32] })
}

fn data_key_sign(key: &DataKey) -> Unwrapped {
    use fieldseal_model::{Column, ExtraContext, Field};
    let field = Field {
        key: KeyName::parse("k").unwrap(),
        table: Table::parse("t").unwrap(),
        column: Column::parse("c").unwrap(),
        extra: ExtraContext::default(),
    };
    let id = KeyId::new([2; 8]);
    let key = fieldseal_crypto::field::FieldKey::new(key, id, &field, &Partition::default());
    let mut out = Vec::new();
    key.seal(&Row::default(), &[3; 16], ContentType::Bytes, b"x", &mut out);
    Unwrapped::DataKey(out)
}

/// Unwraps a vector's wrap; `expected` are the bytes that should come out.
fn unwrap(given: &Value, expected: [u8; 32]) -> Option<Unwrapped> {
    let installation = InstallationId::new(array(given, "installation"));
    let mut wrapping: [u8; 32] = array(given, "wrapping_key");
    let wrapped = bytes(given, "wrapped");
    let kind = text(given, "kind");
    if kind == "root" {
        let provider = ProviderKey::from_bytes(&mut wrapping);
        let root = wrap::unwrap_root(&provider, installation, &wrapped).ok()?;
        return Some(Unwrapped::Root(*root.expose()));
    }
    let name = text(given, "name");
    if kind == "service" {
        let root = RootKey::from_bytes(&mut wrapping);
        let service = ServiceKeyKind::ALL.into_iter().find(|kind| kind.as_str() == name)?;
        let key = wrap::unwrap_service(&root, installation, service, &wrapped).ok()?;
        return Some(service_sign(key));
    }
    let key = KeyName::parse(&name).unwrap();
    let version = VersionNumber::new(number(given, "version")).unwrap();
    if kind == "kek" {
        let root = RootKey::from_bytes(&mut wrapping);
        let id = KekId { installation, key: &key, version };
        let kek = wrap::unwrap_kek(&root, &id, &wrapped).ok()?;
        return Some(kek_sign(&kek, expected));
    }
    assert_eq!(kind, "dek");
    let partition = Partition::parse(&text(given, "partition")).unwrap();
    let generation = number(given, "generation");
    let key_id = KeyId::new(array(given, "key_id"));
    let id =
        DataKeyId { installation, key: &key, version, partition: &partition, generation, key_id };
    let kek = Kek::from_bytes(&mut wrapping);
    let data_key = wrap::unwrap_data_key(&kek, &id, &wrapped).ok()?;
    Some(data_key_sign(&data_key))
}

#[test]
fn wraps_unwrap_as_in_the_vectors() {
    let mut kinds = Vec::new();
    each("wraps", 11, |name, given, out| {
        let expected: [u8; 32] = array(out, "wrapped_key");
        let kind = text(given, "kind");
        let sign = match kind.as_str() {
            "root" => Unwrapped::Root(expected),
            "service" => service_sign(ServiceKey::from_bytes(&mut expected.clone())),
            "kek" => Unwrapped::Kek(expected),
            _ => data_key_sign(&DataKey::from_bytes(&mut expected.clone())),
        };
        assert_eq!(unwrap(given, expected), Some(sign), "{name}");
        kinds.push(kind);
    });
    kinds.sort();
    kinds.dedup();
    assert_eq!(kinds, ["dek", "kek", "root", "service"]);
}

#[test]
fn wraps_that_must_not_unwrap_do_not() {
    each("wraps_refused", 20, |name, given, out| {
        assert_eq!(text(out, "reason"), "UNWRAP_FAILED");
        assert_eq!(unwrap(given, [0; 32]), None, "{name}");
    });
}

#[test]
fn tokens_are_those_of_the_vectors() {
    each("tokens", 6, |name, given, out| {
        let key = TokenKey::new(ServiceKey::from_bytes(&mut array(given, "token_key")));
        let part = |i: usize| given["parts"][i].as_str().unwrap();
        let token = match part(0) {
            "partition" => key.partition(&Partition::parse(part(1)).unwrap()),
            _ => key.row(&Table::parse(part(1)).unwrap(), &Row::parse(part(2)).unwrap()),
        };
        assert_eq!(hex::encode(token), text(out, "token"), "{name}");
    });
}
