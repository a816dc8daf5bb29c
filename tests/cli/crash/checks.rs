//! Whether everything that callers were told is still so.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::Instant;

use fieldseal_client::{Failure, KeyClient, v1};

use super::load::{self, PEOPLE};
use super::log::Log;
use super::told::{Fate, Sealed, Told, parts};
use crate::installation::Installation;
use crate::process::PATIENCE;

/// Values that are opened at a time.
const BATCH: usize = 500;

/// What is not as it was acknowledged, by name.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) lost: BTreeSet<String>,
    pub(super) duplicated: BTreeSet<String>,
}

impl Found {
    pub(super) fn add(&mut self, other: Self) {
        self.lost.extend(other.lost);
        self.duplicated.extend(other.duplicated);
    }

    fn expect(&mut self, there: bool, what: impl FnOnce() -> String) {
        if !there {
            self.lost.insert(what());
        }
    }

    /// Notes what comes more than once.
    fn once(&mut self, names: impl Iterator<Item = String>) {
        let mut seen = HashSet::new();
        for name in names {
            if !seen.insert(name.clone()) {
                self.duplicated.insert(name);
            }
        }
    }
}

/// Every receipt's index holds its leaf, and every call has one record at most.
pub(super) fn receipts(log: &Log, told: &Told) -> Found {
    let mut found = Found::default();
    for (ticket, receipt) in &told.receipts {
        let record = log.get(receipt.index);
        let same = record.is_some_and(|record| {
            record.leaf_hash == receipt.leaf_hash && record.ticket == *ticket
        });
        found.expect(same, || format!("record {} of {ticket}", receipt.index));
    }
    let tickets = log.records().map(|record| &record.ticket).filter(|ticket| !ticket.is_empty());
    found.once(tickets.map(|ticket| format!("record of {ticket}")));
    found
}

/// Every value opens to what it was, or is refused as its partition and version are.
pub(super) async fn values(installation: &Installation, told: &Told, values: &[Sealed]) -> Found {
    let mut client = installation.client("app").await.encryption();
    let mut found = Found::default();
    for some in values.chunks(BATCH) {
        let answer = client.batch_decrypt(load::batch(some)).await.unwrap().into_inner();
        assert_eq!(answer.results.len(), some.len());
        for (sealed, result) in some.iter().zip(answer.results) {
            use v1::decrypt_result::Result::{Error, Ok};
            use v1::value::Kind::StringValue;
            let (opened, refused) = match result.result.unwrap() {
                Ok(v1::DecryptedValue { plaintext: Some(value), .. }) => (value.kind, None),
                Ok(_) => (None, None),
                Error(status) => (None, Some(Failure::from(&status).reason().to_owned())),
            };
            let same = match told.refusal(sealed) {
                None => opened == Some(StringValue(sealed.plaintext.clone())),
                Some(reason) => refused.as_deref() == Some(reason),
            };
            found.expect(same, || format!("ciphertext of {}: {refused:?}", sealed.plaintext));
        }
    }
    found
}

async fn listed(installation: &Installation) -> Vec<v1::Key> {
    let mut client = installation.client("ops").await.keys();
    let (mut listed, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = v1::ListKeysRequest { page_size: 1000, page_token };
        let page = client.list_keys(request).await.unwrap().into_inner();
        listed.extend(page.keys);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return listed;
        }
    }
}

/// Every key has the versions that were acknowledged, in the state that was acknowledged, and no
/// more than were asked for. What was asked without an answer is known from here on.
pub(super) async fn keys(installation: &Installation, told: &mut Told) -> Found {
    let listed = listed(installation).await;
    let mut found = Found::default();
    found.once(listed.iter().map(|key| key.name.clone()));
    let mut versions: BTreeMap<&str, BTreeSet<u32>> = BTreeMap::new();
    for key in &listed {
        found.once(key.versions.iter().map(|version| version.name.clone()));
        let numbers: BTreeSet<u32> = key.versions.iter().map(|v| parts(&v.name).1).collect();
        assert!(numbers.iter().copied().eq(1..=numbers.len() as u32), "{} has gaps", key.name);
        let newest = numbers.last().copied();
        assert_eq!(Some(parts(&key.primary_version).1), newest, "{} went backwards", key.name);
        versions.insert(key.name.strip_prefix("keys/").unwrap(), numbers);
    }
    for (key, told) in &told.versions {
        let there = versions.get(key.as_str());
        for version in told {
            let there = there.is_some_and(|numbers| numbers.contains(version));
            found.expect(there, || format!("keys/{key}/versions/{version}"));
        }
    }
    let there: usize = versions.values().map(BTreeSet::len).sum();
    let acknowledged: usize = told.versions.values().map(BTreeSet::len).sum();
    assert!(there <= acknowledged + told.unanswered.len(), "{there} versions, {acknowledged} told");
    for caller in 0..load::CALLERS {
        let locked = load::locked(caller);
        let numbers = versions[locked.as_str()].clone();
        told.versions.insert(locked, numbers);
    }
    for version in listed.iter().flat_map(|key| &key.versions) {
        let enabled = version.state() == v1::KeyVersionState::Enabled;
        if told.enabled.asked.remove(&version.name).is_some() {
            told.enabled.known.insert(version.name.clone(), enabled);
        }
        let wanted = told.enabled.known.get(&version.name).copied().unwrap_or(true);
        found.expect(enabled == wanted, || format!("{} enabled: {wanted}", version.name));
    }
    found
}

async fn partition(client: &mut KeyClient, name: &str) -> v1::GetPartitionResponse {
    let (key, partition) = (format!("keys/{PEOPLE}"), name.to_owned());
    let request = v1::GetPartitionRequest { name: key, partition };
    client.get_partition(request).await.unwrap().into_inner()
}

fn state(shown: &v1::GetPartitionResponse) -> v1::PartitionState {
    shown.partition.as_ref().unwrap().state()
}

/// Learns what became of the partitions that were to be changed when the answer did not come.
pub(super) async fn settle(installation: &Installation, told: &mut Told) -> Found {
    use v1::PartitionState::{Open, Shredding};
    let mut client = installation.client("ops").await.keys();
    let mut found = Found::default();
    for (name, asked) in std::mem::take(&mut told.fates.asked) {
        let before = told.fate(&name);
        let fate = match state(&partition(&mut client, &name).await) {
            Open => Fate::Open,
            Shredding if before != Fate::Shredded && asked == Fate::Shredded => Fate::Shredded,
            Shredding if before == Fate::Shredded => Fate::Shredded,
            _ => Fate::Going,
        };
        let possible = fate == before || fate == asked;
        found.expect(possible, || format!("{name}: {fate:?}, not {before:?} or {asked:?}"));
        told.fates.known.insert(name, fate);
    }
    found
}

/// Every partition of these is in the state that was acknowledged; what was erased stays so.
pub(super) async fn partitions(
    installation: &Installation,
    told: &mut Told,
    names: &[String],
) -> Found {
    use v1::PartitionState::{Erased, Erasing, Open, Shredding};
    let mut client = installation.client("ops").await.keys();
    let mut found = Found::default();
    for name in names {
        let (fate, shown) = (told.fate(name), partition(&mut client, name).await);
        let state = state(&shown);
        let right = match fate {
            Fate::Open => state == Open,
            Fate::Shredded => state == Shredding,
            Fate::Going => matches!(state, Shredding | Erasing | Erased),
            Fate::Erased => state == Erased,
        };
        found.expect(right, || format!("{name} is {state:?} and was {fate:?}"));
        if state == Erased {
            let partition = shown.partition.unwrap();
            // Two where a rotation came between the first and the seal.
            let gone = partition.data_keys == 0 && matches!(partition.erased_data_keys, 1 | 2);
            found.expect(gone, || format!("the erasure of {name}: {partition:?}"));
            told.fates.known.insert(name.clone(), Fate::Erased);
        }
    }
    found
}

/// Waits until what goes by itself has gone, and its receipts are there: nothing of it is in the
/// files.
pub(super) async fn erased(installation: &Installation, told: &Told) {
    let mut client = installation.client("ops").await.keys();
    let began = Instant::now();
    for (name, fate) in &told.fates.known {
        let goes = matches!(fate, Fate::Going | Fate::Erased);
        while goes && partition(&mut client, name).await.shred_receipt.is_empty() {
            assert!(began.elapsed() < PATIENCE * 2, "{name} is not erased");
            tokio::task::yield_now().await;
        }
    }
}

/// Waits until every rewrap is over: it has moved what it had to move.
pub(super) async fn rewraps(installation: &Installation, told: &Told) -> Found {
    let mut client = installation.client("ops").await.keys();
    let (mut found, began) = (Found::default(), Instant::now());
    for key in &told.rewraps {
        let job = loop {
            let request = v1::GetRewrapJobRequest { name: format!("keys/{key}/rewrap") };
            let job = client.get_rewrap_job(request).await.unwrap().into_inner().job.unwrap();
            if job.state() != v1::RewrapJobState::Running {
                break job;
            }
            assert!(began.elapsed() < PATIENCE * 2, "the rewrap of {key} does not end");
            tokio::task::yield_now().await;
        };
        let done = job.state() == v1::RewrapJobState::Done && job.remaining_data_keys == 0;
        found.expect(done, || format!("the rewrap of {key}: {job:?}"));
        let request = v1::GetRotationStatusRequest { name: format!("keys/{key}") };
        let status = client.get_rotation_status(request).await.unwrap().into_inner();
        let target = parts(&job.target_version).1;
        let before = status.versions.iter().filter(|version| parts(&version.name).1 < target);
        let left: i64 = before.map(|version| version.data_keys).sum();
        found.expect(left == 0, || format!("{left} data keys of {key} under older versions"));
    }
    found
}

/// True if the rewrap of the key with all the data keys is running: a kill interrupted it.
pub(super) async fn is_rewrapping(installation: &Installation) -> bool {
    let mut client = installation.client("ops").await.keys();
    let request = v1::GetRewrapJobRequest { name: format!("keys/{PEOPLE}/rewrap") };
    let job = client.get_rewrap_job(request).await.map(|answer| answer.into_inner().job);
    job.is_ok_and(|job| job.unwrap().state() == v1::RewrapJobState::Running)
}

/// Every partition has a data key, which no other partition has, and one record of its making.
pub(super) fn data_keys(log: &Log, told: &Told) -> Found {
    let mut found = Found::default();
    let mut owners: HashMap<&[u8], &str> = HashMap::new();
    for sealed in told.people() {
        // Behind the suite stands the id of the data key.
        let id = &sealed.ciphertext[1..9];
        if owners.insert(id, &sealed.partition).is_some() {
            found.duplicated.insert(format!("data key of {}", sealed.partition));
        }
    }
    let made = log.records().filter(|record| record.kind == "DATA_KEY_CREATED");
    let made = made.filter_map(|record| record.subject.as_ref());
    let made: Vec<_> = made.filter(|subject| subject.key.ends_with(PEOPLE)).collect();
    // A rotation that comes between the data key and the seal leaves it unused.
    found.once(made.iter().map(|made| format!("data key of {} of {}", made.version, made.token)));
    let tokens: BTreeSet<&String> = made.iter().map(|made| &made.token).collect();
    let (made, told_of) = (tokens.len(), told.people().count());
    found.expect(made >= told_of, || format!("{} records of data keys", told_of - made));
    let most = told_of + told.unanswered.len();
    assert!(made <= most, "data keys for {made} partitions, and {most} asked for");
    found
}
