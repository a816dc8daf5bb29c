//! Everything that the root key wraps, looked at or wrapped anew. For an installation that is stopped.

use std::collections::HashMap;

use fieldseal_audit::{ChangeEvent, ChangedBy, Kind};
use fieldseal_crypto::Kek;
use fieldseal_crypto::wrap::{self, DataKeyId, KekId};
use fieldseal_model::{Clock, KeyName, KeyVersionState, VersionNumber};
use fieldseal_store::{Path, Store, Txn};
use prost::Message as _;

use crate::error::KeyError;
use crate::keyring::Keyring;
use crate::ledger::Ledger;
use crate::records::{self, DATA_KEY, DataKeyFacts, VERSION, VersionRecord, decode};

/// How many records one page of a scan has.
const PAGE: usize = 256;
/// How many of those that do not open are named.
const NAMED: usize = 10;

/// What a look at every KEK and every data key found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Checked {
    /// Key versions whose KEK opens.
    pub key_versions: u64,
    /// Key versions that are destroyed, and have none.
    pub destroyed: u64,
    /// Data keys that open.
    pub data_keys: u64,
    /// Data keys of destroyed versions: nobody opens them.
    pub lost: u64,
    /// KEKs and data keys that do not open, and should.
    pub broken: u64,
    /// The first of those, by name.
    pub named: Vec<String>,
}

impl Checked {
    fn breaks(&mut self, what: String) {
        self.broken = self.broken.saturating_add(1);
        if self.named.len() < NAMED {
            self.named.push(what);
        }
    }
}

/// A key version's record, and where it stands.
struct Found {
    path: Path,
    revision: u64,
    record: VersionRecord,
    key: KeyName,
    number: VersionNumber,
}

impl Found {
    fn id(&self, keyring: &Keyring) -> KekId<'_> {
        KekId { installation: keyring.installation(), key: &self.key, version: self.number }
    }
}

/// Opens every KEK and every data key, and changes nothing.
///
/// # Errors
/// If a record of the store does not open or parse. A key that does not open is counted.
pub async fn check(store: &Store, keyring: &Keyring) -> Result<Checked, KeyError> {
    let mut checked = Checked::default();
    let mut keks: HashMap<(KeyName, VersionNumber), Option<Kek>> = HashMap::new();
    let mut after = None;
    loop {
        let (page, next) = versions(store, after).await?;
        for found in page {
            let kek = match records::state(found.record.state)? {
                KeyVersionState::Destroyed => {
                    checked.destroyed = checked.destroyed.saturating_add(1);
                    None
                }
                _ => match keyring.unwrap_kek(&found.id(keyring), &found.record.wrapped) {
                    Ok(kek) => {
                        checked.key_versions = checked.key_versions.saturating_add(1);
                        Some(kek)
                    }
                    Err(_) => {
                        checked.breaks(format!("keys/{}/versions/{}", found.key, found.number));
                        continue;
                    }
                },
            };
            keks.insert((found.key, found.number), kek);
        }
        after = next;
        if after.is_none() {
            break;
        }
    }
    data_keys(store, keyring, &keks, &mut checked).await?;
    Ok(checked)
}

async fn data_keys(
    store: &Store,
    keyring: &Keyring,
    keks: &HashMap<(KeyName, VersionNumber), Option<Kek>>,
    checked: &mut Checked,
) -> Result<(), KeyError> {
    let prefix = store.prefix(DATA_KEY, &[]);
    let mut after = None;
    loop {
        let page = store.range(&prefix, after.as_ref(), PAGE).await?;
        for (_, value) in &page.entries {
            let facts = DataKeyFacts::of(value)?;
            let id = DataKeyId {
                installation: keyring.installation(),
                key: &facts.key,
                version: facts.version,
                partition: &facts.partition,
                generation: facts.generation,
                key_id: facts.key_id,
            };
            let opens = |kek: &Kek| wrap::unwrap_data_key(kek, &id, &facts.wrapped).is_ok();
            match keks.get(&(facts.key.clone(), facts.version)) {
                Some(None) => checked.lost = checked.lost.saturating_add(1),
                Some(Some(kek)) if opens(kek) => {
                    checked.data_keys = checked.data_keys.saturating_add(1);
                }
                _ => checked.breaks(format!("the data key {}", facts.key_id)),
            }
        }
        after = page.next;
        if after.is_none() {
            return Ok(());
        }
    }
}

/// Wraps every KEK with the newest root key that it is not wrapped by yet, one transaction and one
/// record each, and tells after each how many were. Returns how many KEKs there are.
///
/// # Errors
/// `Corrupt` if a KEK opens under neither root key, or trouble of journal and store.
pub async fn rewrap(
    store: &Store,
    ledger: &Ledger,
    keyring: &Keyring,
    by: ChangedBy<'_>,
    clock: &dyn Clock,
    mut done: impl FnMut(u64),
) -> Result<u64, KeyError> {
    let (mut all, mut rewrapped, mut after) = (0_u64, 0_u64, None);
    loop {
        let (page, next) = versions(store, after).await?;
        for found in page {
            if records::state(found.record.state)? == KeyVersionState::Destroyed {
                continue;
            }
            all = all.saturating_add(1);
            let id = found.id(keyring);
            if keyring.is_newest(&id, &found.record.wrapped) {
                continue;
            }
            let kek = keyring
                .unwrap_kek(&id, &found.record.wrapped)
                .map_err(|_| KeyError::Corrupt("a KEK that neither root key opens"))?;
            let wrapped = keyring.wrap_kek(&id, &kek)?.to_vec();
            let record = VersionRecord { wrapped, ..found.record.clone() }.encode_to_vec();
            let event = ChangeEvent::new(by, clock.now(), Kind::RootRotated, Some(&found.key))
                .version(found.number.get());
            let (path, revision) = (found.path.clone(), found.revision);
            // What the root key before wrapped must leave the files too.
            let put = |txn: Txn| txn.at(path.clone(), revision).put(path, record).erasing();
            ledger.commit(event, put).await?;
            rewrapped = rewrapped.saturating_add(1);
            done(rewrapped);
        }
        after = next;
        if after.is_none() {
            return Ok(all);
        }
    }
}

/// Whether one of the keyring's root keys wraps every KEK.
///
/// # Errors
/// If a record of the store does not open or parse.
pub async fn is_whole(store: &Store, keyring: &Keyring) -> Result<bool, KeyError> {
    every_kek(store, keyring, |id, wrapped| keyring.unwrap_kek(id, wrapped).is_ok()).await
}

/// Whether the newest root key wraps every KEK.
///
/// # Errors
/// If a record of the store does not open or parse.
pub async fn is_rewrapped(store: &Store, keyring: &Keyring) -> Result<bool, KeyError> {
    every_kek(store, keyring, |id, wrapped| keyring.is_newest(id, wrapped)).await
}

async fn every_kek(
    store: &Store,
    keyring: &Keyring,
    is: impl Fn(&KekId<'_>, &[u8]) -> bool,
) -> Result<bool, KeyError> {
    let mut after = None;
    loop {
        let (page, next) = versions(store, after).await?;
        for found in page {
            let destroyed = records::state(found.record.state)? == KeyVersionState::Destroyed;
            if !destroyed && !is(&found.id(keyring), &found.record.wrapped) {
                return Ok(false);
            }
        }
        after = next;
        if after.is_none() {
            return Ok(true);
        }
    }
}

/// One page of all key versions, and where the next one begins.
async fn versions(
    store: &Store,
    after: Option<Path>,
) -> Result<(Vec<Found>, Option<Path>), KeyError> {
    let page = store.range(&store.prefix(VERSION, &[]), after.as_ref(), PAGE).await?;
    let mut found = Vec::with_capacity(page.entries.len());
    for (path, value) in page.entries {
        let record: VersionRecord = decode("a key version's record", &value.value)?;
        let corrupt = || KeyError::Corrupt("a key version's record");
        let key = KeyName::parse(&record.key).map_err(|_| corrupt())?;
        let number = VersionNumber::new(record.version).ok_or_else(corrupt)?;
        found.push(Found { path, revision: value.revision, record, key, number });
    }
    Ok((found, page.next))
}
