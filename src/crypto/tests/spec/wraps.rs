//! Wraps: nothing about them can be changed.

use fieldseal_crypto::wrap::{self, DataKeyId, KekId, WRAPPED_BYTES};
use fieldseal_crypto::{DataKey, Kek, ProviderKey, RootKey, ServiceKey, ServiceKeyKind};
use fieldseal_model::{InstallationId, KeyId, KeyName, Partition, VersionNumber};

const HERE: InstallationId = InstallationId::new([1; 16]);

/// The parts of a data key's id, in types that a test can change.
#[derive(Debug, Clone, PartialEq)]
struct Id {
    installation: [u8; 16],
    key: &'static str,
    version: u32,
    partition: &'static str,
    generation: u32,
    key_id: [u8; 8],
}

const ID: Id = Id {
    installation: [1; 16],
    key: "customer-pii",
    version: 3,
    partition: "acme",
    generation: 7,
    key_id: [2; 8],
};

impl Id {
    fn with<T>(&self, run: impl FnOnce(&DataKeyId<'_>) -> T) -> T {
        run(&DataKeyId {
            installation: InstallationId::new(self.installation),
            key: &KeyName::parse(self.key).unwrap(),
            version: VersionNumber::new(self.version).unwrap(),
            partition: &Partition::parse(self.partition).unwrap(),
            generation: self.generation,
            key_id: KeyId::new(self.key_id),
        })
    }
}

fn kek() -> Kek {
    Kek::from_bytes(&mut [5; 32])
}

fn root() -> RootKey {
    RootKey::from_bytes(&mut [6; 32])
}

/// Every change of one bit, then every other length: how many of them `opens` took, of how many.
fn try_all(wrapped: &[u8; WRAPPED_BYTES], opens: impl Fn(&[u8]) -> bool) -> (usize, usize) {
    assert!(opens(wrapped), "the wrap itself opens");
    let (mut taken, mut tried) = (0, 0);
    let mut attempt = |altered: &[u8]| {
        taken += usize::from(opens(altered));
        tried += 1;
    };
    for bit in 0..8 * WRAPPED_BYTES {
        let mut altered = *wrapped;
        altered[bit / 8] ^= 1 << (bit % 8);
        attempt(&altered);
    }
    let mut longer = wrapped.to_vec();
    longer.resize(2 * WRAPPED_BYTES, 0);
    for length in (0..longer.len()).filter(|length| *length != WRAPPED_BYTES) {
        attempt(&longer[..length]);
    }
    (taken, tried)
}

const ALL: (usize, usize) = (0, 8 * 97 + 2 * 97 - 1);

#[test]
fn a_wrapped_data_key_changed_in_any_bit_or_length_does_not_open() {
    let key = DataKey::generate().unwrap();
    let wrapped = ID.with(|id| wrap::wrap_data_key(&kek(), id, &key)).unwrap();
    let opens = |bytes: &[u8]| ID.with(|id| wrap::unwrap_data_key(&kek(), id, bytes)).is_ok();
    assert_eq!(try_all(&wrapped, opens), ALL);
}

#[test]
fn a_wrapped_kek_changed_in_any_bit_or_length_does_not_open() {
    let name = KeyName::parse("customer-pii").unwrap();
    let id = KekId { installation: HERE, key: &name, version: VersionNumber::FIRST };
    let wrapped = wrap::wrap_kek(&root(), &id, &kek()).unwrap();
    let opens = |bytes: &[u8]| wrap::unwrap_kek(&root(), &id, bytes).is_ok();
    assert_eq!(try_all(&wrapped, opens), ALL);
}

#[test]
fn a_wrapped_service_key_changed_in_any_bit_or_length_does_not_open() {
    let key = ServiceKey::generate().unwrap();
    let kind = ServiceKeyKind::Token;
    let wrapped = wrap::wrap_service(&root(), HERE, kind, &key).unwrap();
    let opens = |bytes: &[u8]| wrap::unwrap_service(&root(), HERE, kind, bytes).is_ok();
    assert_eq!(try_all(&wrapped, opens), ALL);
}

#[test]
fn a_wrapped_root_key_changed_in_any_bit_or_length_does_not_open() {
    let provider = ProviderKey::generate().unwrap();
    let wrapped = wrap::wrap_root(&provider, HERE, &root()).unwrap();
    let opens = |bytes: &[u8]| match wrap::unwrap_root(&provider, HERE, bytes) {
        Ok(opened) => opened.expose() == root().expose(),
        Err(_) => false,
    };
    assert_eq!(try_all(&wrapped, opens), ALL);
    let elsewhere = InstallationId::new([2; 16]);
    assert!(wrap::unwrap_root(&provider, elsewhere, &wrapped).is_err());
    let other = ProviderKey::generate().unwrap();
    assert!(wrap::unwrap_root(&other, HERE, &wrapped).is_err());
}

#[test]
fn a_data_key_does_not_open_under_any_other_id() {
    let mut others = vec![
        Id { key: "customer-pi", ..ID },
        Id { key: "customer-piii", ..ID },
        Id { version: 2, ..ID },
        Id { version: u32::MAX, ..ID },
        Id { partition: "", ..ID },
        Id { partition: "Acme", ..ID },
        Id { partition: "acme ", ..ID },
        Id { generation: 0, ..ID },
        Id { generation: 7 + 256, ..ID },
        Id { version: 7, generation: 3, ..ID },
    ];
    for at in 0..16 {
        let mut other = ID;
        other.installation[at] ^= 1;
        others.push(other);
    }
    for at in 0..8 {
        let mut other = ID;
        other.key_id[at] ^= 0x80;
        others.push(other);
    }
    assert_eq!(others.len(), 34);
    let key = DataKey::generate().unwrap();
    let wrapped = ID.with(|id| wrap::wrap_data_key(&kek(), id, &key)).unwrap();
    for other in others {
        assert!(other.with(|id| wrap::unwrap_data_key(&kek(), id, &wrapped)).is_err(), "{other:?}");
        // And the other way round.
        let wrapped = other.with(|id| wrap::wrap_data_key(&kek(), id, &key)).unwrap();
        assert!(ID.with(|id| wrap::unwrap_data_key(&kek(), id, &wrapped)).is_err(), "{other:?}");
    }
}

#[test]
fn a_data_key_does_not_open_with_any_other_kek() {
    let key = DataKey::generate().unwrap();
    let wrapped = ID.with(|id| wrap::wrap_data_key(&kek(), id, &key)).unwrap();
    for bit in 0..256 {
        let mut bytes = [5; 32];
        bytes[bit / 8] ^= 1 << (bit % 8);
        let other = Kek::from_bytes(&mut bytes);
        assert!(ID.with(|id| wrap::unwrap_data_key(&other, id, &wrapped)).is_err(), "bit {bit}");
    }
}

#[test]
fn a_service_key_does_not_open_as_another_kind_or_as_a_kek() {
    let mut refused = 0;
    for kind in ServiceKeyKind::ALL {
        let key = ServiceKey::generate().unwrap();
        let wrapped = wrap::wrap_service(&root(), HERE, kind, &key).unwrap();
        for other in ServiceKeyKind::ALL.into_iter().filter(|other| *other != kind) {
            assert!(wrap::unwrap_service(&root(), HERE, other, &wrapped).is_err());
            refused += 1;
        }
        let elsewhere = InstallationId::new([2; 16]);
        assert!(wrap::unwrap_service(&root(), elsewhere, kind, &wrapped).is_err());
        let name = KeyName::parse(kind.as_str()).unwrap();
        let id = KekId { installation: HERE, key: &name, version: VersionNumber::FIRST };
        assert!(wrap::unwrap_kek(&root(), &id, &wrapped).is_err());
    }
    assert_eq!(refused, 20);
}

#[test]
fn two_wraps_of_one_key_share_no_salt() {
    let key = DataKey::generate().unwrap();
    let mut seen = std::collections::HashSet::new();
    for _ in 0..100 {
        let wrapped = ID.with(|id| wrap::wrap_data_key(&kek(), id, &key)).unwrap();
        assert!(seen.insert(wrapped[1..17].to_vec()));
    }
}
