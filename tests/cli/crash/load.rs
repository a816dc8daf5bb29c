//! Callers at work until the sidecar is killed, and what they were told.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use fieldseal_client::{Client, v1};
use rustix::process::{Pid, Signal, kill_process};
use tokio::task::JoinSet;

use crate::installation::Installation;

const CALLERS: u32 = 16;
/// Calls that begin or end before a kill: at least, and how many more at most.
const EVENTS: (u64, u64) = (160, 160);
/// Items of a batch.
const BATCH: usize = 40;
/// Every encrypt under this key has a partition of its own, so it makes a data key.
pub(super) const PEOPLE: &str = "people";

/// A value that a caller holds.
#[derive(Clone)]
pub(super) struct Sealed {
    pub(super) key: String,
    pub(super) partition: String,
    pub(super) plaintext: String,
    pub(super) ciphertext: Vec<u8>,
}

/// What callers were told, and what they asked without an answer.
#[derive(Default)]
pub(super) struct Told {
    /// By the call's ticket, which no other call has.
    pub(super) receipts: HashMap<String, v1::AuditReceipt>,
    pub(super) sealed: Vec<Sealed>,
    /// The versions of each key.
    pub(super) versions: BTreeMap<String, BTreeSet<u32>>,
    /// Tickets, and partitions that should have got a data key.
    pub(super) unanswered: HashSet<String>,
}

impl Told {
    pub(super) fn add(&mut self, other: Self) {
        self.receipts.extend(other.receipts);
        self.sealed.extend(other.sealed);
        for (key, versions) in other.versions {
            self.versions.entry(key).or_default().extend(versions);
        }
        self.unanswered.extend(other.unanswered);
    }

    /// Each receipt, each ciphertext, and each data key that was made for one.
    pub(super) fn acknowledged(&self) -> usize {
        self.receipts.len() + self.sealed.len() + self.partitions().count()
    }

    /// The partitions that have a data key of their own.
    pub(super) fn partitions(&self) -> impl Iterator<Item = &Sealed> {
        self.sealed.iter().filter(|sealed| sealed.key == PEOPLE)
    }

    fn version(&mut self, name: &str) {
        let (key, version) = name.strip_prefix("keys/").unwrap().split_once("/versions/").unwrap();
        let version: u32 = version.parse().unwrap();
        let new = self.versions.entry(key.to_owned()).or_default().insert(version);
        assert!(new, "{name} was made twice");
    }
}

/// One life of the sidecar, up to its kill.
pub(super) struct Life {
    number: u32,
    /// Calls that have begun, and calls that have ended.
    events: AtomicU64,
    /// The event at which the sidecar is killed.
    last: u64,
    pid: Pid,
    over: AtomicBool,
}

impl Life {
    pub(super) fn new(number: u32, pid: u32) -> Arc<Self> {
        // Spread evenly over the range, and the same in every run (Knuth's multiplicative hash).
        let spread = u64::from(number.wrapping_mul(2_654_435_761)) % EVENTS.1;
        Arc::new(Self {
            number,
            events: AtomicU64::new(0),
            last: EVENTS.0 + spread,
            pid: Pid::from_raw(pid.try_into().unwrap()).unwrap(),
            over: AtomicBool::new(false),
        })
    }

    /// All callers, until the sidecar is gone.
    pub(super) async fn run(self: Arc<Self>, installation: &Installation, before: &Told) -> Told {
        let (app, ops) = (installation.client("app").await, installation.client("ops").await);
        let mut callers = JoinSet::new();
        for number in 0..CALLERS {
            let held = before.sealed.iter().skip(number as usize).step_by(CALLERS as usize);
            let held = held.rev().take(BATCH * 2).cloned().collect();
            let (app, ops, life) = (app.clone(), ops.clone(), Arc::clone(&self));
            let caller = Caller { life, number, app, ops, held, told: Told::default() };
            callers.spawn(caller.work());
        }
        let mut told = Told::default();
        for of_caller in callers.join_all().await {
            told.add(of_caller);
        }
        told
    }

    fn event(&self) {
        if self.events.fetch_add(1, Ordering::SeqCst) + 1 == self.last {
            self.over.store(true, Ordering::SeqCst);
            kill_process(self.pid, Signal::KILL).unwrap();
        }
    }

    /// Waits for an answer; `None` if the sidecar died first. Nothing else may go wrong.
    async fn answer<T>(
        &self,
        call: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
    ) -> Option<T> {
        self.event();
        match call.await {
            Ok(answer) => {
                self.event();
                Some(answer.into_inner())
            }
            Err(_) if self.over.load(Ordering::SeqCst) => None,
            Err(status) => panic!("a call failed before the kill: {status}"),
        }
    }
}

fn reason(ticket: &str) -> Option<v1::AccessReason> {
    let ticket = ticket.to_owned();
    Some(v1::AccessReason { purpose: "crash".into(), ticket, ..Default::default() })
}

pub(super) fn field(key: &str) -> v1::Field {
    let (table, column) = ("t".to_owned(), "c".to_owned());
    v1::Field { key: format!("keys/{key}"), table, column, ..Default::default() }
}

/// The keys that every life uses.
pub(super) async fn keys(installation: &Installation, told: &mut Told) {
    let mut ops = installation.client("ops").await.keys();
    let names = (0..CALLERS).map(turning).chain([PEOPLE.to_owned()]);
    for key_id in names {
        let ticket = format!("key-{key_id}");
        let request =
            v1::CreateKeyRequest { key_id, reason: reason(&ticket), ..Default::default() };
        let made = ops.create_key(request).await.unwrap().into_inner();
        told.version(&made.key.unwrap().primary_version);
        told.receipts.insert(ticket, made.receipt.unwrap());
    }
}

/// The key that a caller rotates; nobody else does.
fn turning(caller: u32) -> String {
    format!("turning-{caller}")
}

struct Caller {
    life: Arc<Life>,
    number: u32,
    app: Client,
    ops: Client,
    /// Values of this caller, of earlier lives too.
    held: Vec<Sealed>,
    told: Told,
}

impl Caller {
    async fn work(mut self) -> Told {
        for n in self.number.. {
            let name = format!("{}-{}-{n}", self.life.number, self.number);
            let done = match n % 8 {
                0 | 4 => self.encrypt(PEOPLE.to_owned(), name).await,
                1 => self.rotate(name).await,
                2 => self.encrypt(turning(self.number), name).await,
                3 => self.create(name).await,
                5 => self.decrypt_many(name).await,
                _ => self.decrypt(name).await,
            };
            if done.is_none() {
                break;
            }
        }
        self.told
    }

    async fn encrypt(&mut self, key: String, name: String) -> Option<()> {
        let plaintext = format!("value {name}");
        let partition = if key == PEOPLE { name } else { String::new() };
        let kind = v1::value::Kind::StringValue(plaintext.clone());
        let request = v1::EncryptRequest {
            field: Some(field(&key)),
            partition: partition.clone(),
            row: String::new(),
            plaintext: Some(v1::Value { kind: Some(kind) }),
            allow_sealed_plaintext: false,
        };
        let mut client = self.app.encryption();
        let Some(answer) = self.life.answer(client.encrypt(request)).await else {
            if key == PEOPLE {
                self.told.unanswered.insert(partition);
            }
            return None;
        };
        let ciphertext = answer.ciphertext.to_vec();
        let sealed = Sealed { key, partition, plaintext, ciphertext };
        self.held.push(sealed.clone());
        self.told.sealed.push(sealed);
        Some(())
    }

    async fn decrypt(&mut self, ticket: String) -> Option<()> {
        let Some(sealed) = self.held.get(ticket.len() % self.held.len().max(1)) else {
            return Some(());
        };
        let request = v1::DecryptRequest {
            field: Some(field(&sealed.key)),
            partition: sealed.partition.clone(),
            row: String::new(),
            ciphertext: sealed.ciphertext.clone().into(),
            reason: reason(&ticket),
        };
        let mut client = self.app.encryption();
        let answer = self.life.answer(client.decrypt(request)).await;
        self.receipt(ticket, answer.map(|answer| answer.receipt))
    }

    async fn decrypt_many(&mut self, ticket: String) -> Option<()> {
        if self.held.is_empty() {
            return Some(());
        }
        let newest: Vec<_> = self.held.iter().rev().take(BATCH).cloned().collect();
        let mut request = batch(&newest);
        request.reason = reason(&ticket);
        let mut client = self.app.encryption();
        let answer = self.life.answer(client.batch_decrypt(request)).await;
        self.receipt(ticket, answer.map(|answer| answer.receipt))
    }

    async fn create(&mut self, name: String) -> Option<()> {
        let ticket = name.clone();
        let key_id = format!("made-{name}");
        let request =
            v1::CreateKeyRequest { key_id, reason: reason(&ticket), ..Default::default() };
        let mut client = self.ops.keys();
        let answer = self.life.answer(client.create_key(request)).await;
        if let Some(key) = answer.as_ref().and_then(|answer| answer.key.as_ref()) {
            self.told.version(&key.primary_version);
        }
        self.receipt(ticket, answer.map(|answer| answer.receipt))
    }

    async fn rotate(&mut self, ticket: String) -> Option<()> {
        let request = v1::RotateKeyRequest {
            name: format!("keys/{}", turning(self.number)),
            reason: reason(&ticket),
            ..Default::default()
        };
        let mut client = self.ops.keys();
        let answer = self.life.answer(client.rotate_key(request)).await;
        if let Some(answer) = &answer {
            self.told.version(&answer.primary_version);
        }
        self.receipt(ticket, answer.map(|answer| answer.receipt))
    }

    /// Keeps a receipt; `None` if there was no answer.
    fn receipt(&mut self, ticket: String, answer: Option<Option<v1::AuditReceipt>>) -> Option<()> {
        match answer {
            Some(receipt) => {
                self.told.receipts.insert(ticket, receipt.expect("an answer without a receipt"));
                Some(())
            }
            None => {
                self.told.unanswered.insert(ticket);
                None
            }
        }
    }
}

/// A batch that opens all of these.
pub(super) fn batch(values: &[Sealed]) -> v1::BatchDecryptRequest {
    let mut fields: Vec<&str> = values.iter().map(|sealed| sealed.key.as_str()).collect();
    fields.sort_unstable();
    fields.dedup();
    let items = values.iter().map(|sealed| v1::DecryptItem {
        field_index: fields.iter().position(|key| *key == sealed.key).unwrap() as u32,
        partition: sealed.partition.clone(),
        row: String::new(),
        ciphertext: sealed.ciphertext.clone().into(),
    });
    let items = items.collect();
    v1::BatchDecryptRequest {
        fields: fields.iter().map(|key| field(key)).collect(),
        items,
        reason: reason(""),
    }
}
