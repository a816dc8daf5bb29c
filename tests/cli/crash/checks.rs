//! Whether everything that callers were told is still so.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use fieldseal_client::v1;

use super::load::{self, PEOPLE, Sealed, Told};
use super::log::Log;
use crate::installation::Installation;

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

/// Every value opens to what it was.
pub(super) async fn values(installation: &Installation, values: &[Sealed]) -> Found {
    let mut client = installation.client("app").await.encryption();
    let mut found = Found::default();
    for some in values.chunks(BATCH) {
        let answer = client.batch_decrypt(load::batch(some)).await.unwrap().into_inner();
        assert_eq!(answer.results.len(), some.len());
        for (sealed, result) in some.iter().zip(answer.results) {
            use v1::decrypt_result::Result::Ok;
            use v1::value::Kind::StringValue;
            let same = match result.result {
                Some(Ok(v1::DecryptedValue { plaintext: Some(value), .. })) => {
                    value.kind == Some(StringValue(sealed.plaintext.clone()))
                }
                _ => false,
            };
            found.expect(same, || format!("ciphertext of {}", sealed.plaintext));
        }
    }
    found
}

/// Every key has the versions that were acknowledged, and no more than were asked for.
pub(super) async fn keys(installation: &Installation, told: &Told) -> Found {
    let mut client = installation.client("ops").await.keys();
    let (mut listed, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = v1::ListKeysRequest { page_size: 1000, page_token };
        let page = client.list_keys(request).await.unwrap().into_inner();
        listed.extend(page.keys);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    let mut found = Found::default();
    found.once(listed.iter().map(|key| key.name.clone()));
    let mut versions: BTreeMap<&str, BTreeSet<u32>> = BTreeMap::new();
    for key in &listed {
        found.once(key.versions.iter().map(|version| version.name.clone()));
        let numbers = key.versions.iter().map(|version| number(&version.name));
        let numbers: BTreeSet<u32> = numbers.collect();
        assert!(numbers.iter().copied().eq(1..=numbers.len() as u32), "{} has gaps", key.name);
        let newest = numbers.last().copied();
        assert_eq!(Some(number(&key.primary_version)), newest, "{} went backwards", key.name);
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
    found
}

fn number(version: &str) -> u32 {
    version.rsplit('/').next().unwrap().parse().unwrap()
}

/// Every partition has one data key, which no other partition has, and one record of its making.
pub(super) fn data_keys(log: &Log, told: &Told) -> Found {
    let mut found = Found::default();
    let mut owners: HashMap<&[u8], &str> = HashMap::new();
    for sealed in told.partitions() {
        // Behind the suite stands the id of the data key.
        let id = &sealed.ciphertext[1..9];
        if owners.insert(id, &sealed.partition).is_some() {
            found.duplicated.insert(format!("data key of {}", sealed.partition));
        }
    }
    let made = log.records().filter(|record| record.kind == "DATA_KEY_CREATED");
    let made = made.filter_map(|record| record.subject.as_ref());
    let tokens: Vec<&String> =
        made.filter(|(key, _)| key.ends_with(PEOPLE)).map(|(_, token)| token).collect();
    found.once(tokens.iter().map(|token| format!("data key of partition token {token}")));
    let (made, told_of) = (tokens.len(), told.partitions().count());
    found.expect(made >= told_of, || format!("{} records of data keys", told_of - made));
    let most = told_of + told.unanswered.len();
    assert!(made <= most, "{made} data keys were made, and {most} asked for");
    found
}
