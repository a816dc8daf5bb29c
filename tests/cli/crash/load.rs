//! Callers at work until the sidecar is killed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use fieldseal_client::{Client, Failure, v1};
use rustix::process::{Pid, Signal, kill_process};
use tokio::task::JoinSet;

use super::told::{Fate, Sealed, Told};
use crate::installation::Installation;

pub(super) const CALLERS: u32 = 16;
/// Calls that begin or end before a kill: at least, and how many more at most.
const EVENTS: (u64, u64) = (240, 240);
/// Items of a batch.
const BATCH: usize = 40;
/// Every encrypt under this key has a partition of its own, so it makes a data key.
pub(super) const PEOPLE: &str = "people";

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
            let (app, ops, life) = (app.clone(), ops.clone(), Arc::clone(&self));
            let mut caller = Caller::new(life, number, app, ops);
            // Whatever stands in one place of the list belongs to one caller.
            let held = before.sealed.iter().skip(number as usize).step_by(CALLERS as usize);
            for sealed in held.rev() {
                match before.fate(&sealed.partition) {
                    Fate::Shredded => caller.shredded.push(sealed.clone()),
                    _ if before.refusal(sealed).is_some() => {}
                    _ if caller.held.len() < BATCH * 2 => caller.held.push(sealed.clone()),
                    _ => {}
                }
            }
            let numbers = before.versions[&locked(number)].iter();
            caller.locked = numbers
                .map(|n| format!("keys/{}/versions/{n}", locked(number)))
                .map(|name| (before.enabled.known.get(&name) != Some(&false), name))
                .collect();
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
    pub(super) async fn answer<T>(
        &self,
        call: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
    ) -> Option<T> {
        self.answer_or(call, "no reason").await.map(|answer| answer.expect("it was refused"))
    }

    /// The same where a refusal with this reason is an answer, too.
    pub(super) async fn answer_or<T>(
        &self,
        call: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
        refusal: &str,
    ) -> Option<Option<T>> {
        self.event();
        match call.await {
            Ok(answer) => {
                self.event();
                Some(Some(answer.into_inner()))
            }
            Err(status) if Failure::from(&status).reason() == refusal => {
                self.event();
                Some(None)
            }
            Err(_) if self.over.load(Ordering::SeqCst) => None,
            Err(status) => panic!("a call failed before the kill: {status}"),
        }
    }
}

pub(super) fn reason(ticket: &str) -> Option<v1::AccessReason> {
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
    let names = (0..CALLERS).flat_map(|caller| [turning(caller), locked(caller)]);
    for key_id in names {
        let ticket = format!("key-{key_id}");
        let request =
            v1::CreateKeyRequest { key_id, reason: reason(&ticket), ..Default::default() };
        let made = ops.create_key(request).await.unwrap().into_inner();
        told.version(&made.key.unwrap().primary_version);
        told.receipts.insert(ticket, made.receipt.unwrap());
    }
}

/// The key that a caller rotates and rewraps; nobody else does. Caller 0 has the one with all the data keys.
pub(super) fn turning(caller: u32) -> String {
    // Somebody does it with the key that has all the data keys.
    if caller == 0 { PEOPLE.to_owned() } else { format!("turning-{caller}") }
}

/// The key of which a caller disables versions.
pub(super) fn locked(caller: u32) -> String {
    format!("locked-{caller}")
}

pub(super) struct Caller {
    pub(super) life: Arc<Life>,
    pub(super) number: u32,
    app: Client,
    pub(super) ops: Client,
    /// Values of this caller that open, of earlier lives too.
    pub(super) held: Vec<Sealed>,
    /// Values of partitions that it may restore.
    pub(super) shredded: Vec<Sealed>,
    /// The versions of its own key, and whether each is enabled.
    pub(super) locked: Vec<(bool, String)>,
    pub(super) told: Told,
}

impl Caller {
    fn new(life: Arc<Life>, number: u32, app: Client, ops: Client) -> Self {
        let (held, shredded, locked) = (Vec::new(), Vec::new(), Vec::new());
        Self { life, number, app, ops, held, shredded, locked, told: Told::default() }
    }

    async fn work(mut self) -> Told {
        for n in self.number.. {
            let name = format!("{}-{}-{n}", self.life.number, self.number);
            let done = match n % 16 {
                0 | 5 | 9 => self.encrypt(PEOPLE.to_owned(), name).await,
                1 | 8 => self.rotate(turning(self.number), name).await,
                2 => self.encrypt(turning(self.number), name).await,
                3 => self.create(name).await,
                4 | 11 => self.rewrap(name).await,
                6 | 10 => self.shred(name, (n / 16 + self.life.number).is_multiple_of(2)).await,
                7 => self.encrypt(locked(self.number), name).await,
                12 => self.rotate(locked(self.number), name).await,
                13 => self.turn_version(name).await,
                14 => self.restore(name).await,
                15 => self.decrypt_many(name).await,
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
            ..Default::default()
        };
        let mut client = self.app.encryption();
        let Some(answer) = self.life.answer(client.encrypt(request)).await else {
            if key == PEOPLE {
                self.told.unanswered.insert(partition);
            }
            return None;
        };
        let (ciphertext, version) = (answer.ciphertext.to_vec(), answer.key_version);
        let sealed = Sealed { key, partition, plaintext, ciphertext, version };
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
            return self.decrypt(ticket).await;
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

    /// Keeps a receipt; `None` if there was no answer.
    pub(super) fn receipt(
        &mut self,
        ticket: String,
        answer: Option<Option<v1::AuditReceipt>>,
    ) -> Option<()> {
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
