//! What the tests of the log share: a log in a directory of its own, and events for it.
#![allow(dead_code, reason = "each test file uses its part")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot be set up fails"
)]
#![allow(missing_docs, reason = "a test's own")]

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use fieldseal_audit::{
    CallEvent, ChangeEvent, ChangedBy, FreeSpace, Identity, Item, ItemOutcome, Journal,
    JournalError, Kind, OpenReport, Settings, SystemEvent, Verdict, Withheld, verify,
};
use fieldseal_crypto::ServiceKey;
use fieldseal_crypto::signing::LogSigningKey;
use fieldseal_model::{
    AccessReason, Action, Column, InstallationId, KeyName, ManualClock, PartitionClass, Principal,
    Purpose, Table, Ticket, Timestamp,
};
use fieldseal_policy::{Denial, Permit, Policy, Request, Role};

pub(crate) const APP: &str = "spiffe://test/app";

/// Free space that a test sets.
pub(crate) struct Space(pub(crate) AtomicU64);

impl FreeSpace for Space {
    fn free_bytes(&self, _: &Path) -> io::Result<u64> {
        Ok(self.0.load(Ordering::SeqCst))
    }
}

pub(crate) struct Log {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) settings: Settings,
    pub(crate) space: Arc<Space>,
}

impl Log {
    /// A new log with segments of so many bytes.
    pub(crate) fn new(segment_bytes: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let directory = dir.path().join("audit");
        let settings = Settings { directory, segment_bytes, reserve_bytes: 0, group: None };
        Journal::create(&settings, &identity(7)).unwrap();
        Self { dir, settings, space: Arc::new(Space(AtomicU64::new(u64::MAX))) }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.settings.directory
    }

    pub(crate) fn try_open(&self) -> Result<(Journal, OpenReport), JournalError> {
        let clock = Arc::new(ManualClock::at(Timestamp::from_unix_nanos(1_000_000_000)));
        let space: Arc<dyn FreeSpace> = self.space.clone();
        Journal::open_with(self.settings.clone(), identity(7), clock, space)
    }

    pub(crate) fn open(&self) -> Journal {
        self.try_open().unwrap().0
    }

    pub(crate) fn key(&self) -> verify::LogKey {
        verify::public_key(&std::fs::read_to_string(self.path().join("log.pub")).unwrap()).unwrap()
    }

    pub(crate) fn verify(&self) -> Result<verify::Verified, verify::VerifyError> {
        verify::log(self.path(), &self.key(), |_| {})
    }

    /// The segments, in order.
    pub(crate) fn segments(&self) -> Vec<std::path::PathBuf> {
        let entries = std::fs::read_dir(self.path()).unwrap();
        let mut paths: Vec<_> = entries.map(|e| e.unwrap().path()).collect();
        paths.retain(|p| p.extension().is_some_and(|e| e == "log"));
        paths.sort();
        paths
    }
}

pub(crate) fn identity(seed: u8) -> Identity {
    Identity {
        installation: InstallationId::new([0xab; 16]),
        instance: "main".to_owned(),
        signing: LogSigningKey::new(ServiceKey::from_bytes(&mut [seed; 32])),
    }
}

pub(crate) fn policy() -> Policy {
    let app = Principal::parse(APP).unwrap();
    let operator = Principal::parse("spiffe://test/ops").unwrap();
    let privacy = Principal::parse("spiffe://test/privacy").unwrap();
    let auditor = Principal::parse("spiffe://test/auditor").unwrap();
    let members = [
        (Role::App, app),
        (Role::Operator, operator),
        (Role::Privacy, privacy),
        (Role::Auditor, auditor),
    ];
    Policy::from_texts(fieldseal_policy::default_files(&members)).unwrap()
}

pub(crate) fn reason(ticket: &str) -> AccessReason {
    AccessReason {
        purpose: Purpose::parse("support").unwrap(),
        ticket: Ticket::parse(ticket).unwrap(),
        end_user: None,
    }
}

pub(crate) fn decide(policy: &Policy, who: &str, action: Action) -> Result<Permit, Denial> {
    let (key, table, column) = field();
    policy.decide(&Request {
        principal: &Principal::parse(who).unwrap(),
        action,
        key: Some(&key),
        partition: PartitionClass::Default,
        table: Some(&table),
        column: Some(&column),
        reason: &reason("T-1"),
    })
}

pub(crate) fn field() -> (KeyName, Table, Column) {
    let key = KeyName::parse("customer-pii").unwrap();
    (key, Table::parse("users").unwrap(), Column::parse("email").unwrap())
}

/// A decrypt of these rows, all opened.
pub(crate) fn decrypt(policy: &Policy, rows: &[u8], ticket: &str) -> CallEvent {
    let permit = decide(policy, APP, Action::Decrypt).unwrap();
    let (key, table, column) = field();
    let at = Timestamp::from_unix_nanos(1_700_000_000_000_000_000);
    let action = if rows.len() == 1 { Action::Decrypt } else { Action::BatchDecrypt };
    let mut event = CallEvent::new(permit.principal(), action, &reason(ticket), at);
    let verdict = Verdict::Permit(&permit);
    let verdict = event.verdict(verdict, Some(&key), Some(&table), Some(&column));
    for row in rows {
        let (row, outcome) = (Some([*row; 16]), ItemOutcome::Ok);
        event.item(verdict, Item { partition: None, row, key_version: 1, outcome });
    }
    event
}

/// Records one decrypt and gives what was withheld back.
pub(crate) async fn commit(
    journal: &Journal,
    policy: &Policy,
    row: u8,
) -> Result<u64, JournalError> {
    let event = decrypt(policy, &[row], "T-1");
    let recorded = journal.commit(event, Withheld::new(row, 1)).await?;
    let (value, receipt) = recorded.into_parts();
    assert_eq!(value, row);
    Ok(receipt.index())
}

/// Who may redact.
pub(crate) fn redactor(policy: &Policy) -> Permit {
    permit(policy, "spiffe://test/privacy", Action::RedactAuditEvents)
}

pub(crate) fn archivist(policy: &Policy) -> Permit {
    permit(policy, "spiffe://test/ops", Action::ArchiveAuditEvents)
}

fn permit(policy: &Policy, who: &str, action: Action) -> Permit {
    policy
        .decide(&Request {
            principal: &Principal::parse(who).unwrap(),
            action,
            key: None,
            partition: PartitionClass::Default,
            table: None,
            column: None,
            reason: &reason("T-9"),
        })
        .unwrap()
}

/// A decrypt of fields of these partitions and rows.
pub(crate) fn of_partitions(
    policy: &Policy,
    fields: &[(Option<u8>, u8)],
    ticket: &str,
) -> CallEvent {
    let permit = decide(policy, APP, Action::Decrypt).unwrap();
    let (key, table, column) = field();
    let at = Timestamp::from_unix_nanos(1_700_000_000_000_000_000);
    let action = if fields.len() == 1 { Action::Decrypt } else { Action::BatchDecrypt };
    let mut event = CallEvent::new(permit.principal(), action, &reason(ticket), at);
    let verdict = Verdict::Permit(&permit);
    let verdict = event.verdict(verdict, Some(&key), Some(&table), Some(&column));
    for (partition, row) in fields {
        let (partition, row) = (partition.map(|p| [p; 16]), Some([*row; 16]));
        event.item(verdict, Item { partition, row, key_version: 1, outcome: ItemOutcome::Ok });
    }
    event
}

pub(crate) async fn stop(journal: &Journal) {
    journal.record_system(SystemEvent::stop(Timestamp::default())).await.unwrap();
    journal.close().await.unwrap();
}

/// A change, as it waits in the outbox.
pub(crate) fn change(policy: &Policy, revision: u64) -> Vec<u8> {
    let key = KeyName::parse("customer-pii").unwrap();
    let permit = policy
        .decide(&Request {
            principal: &Principal::parse("spiffe://test/ops").unwrap(),
            action: Action::RotateKey,
            key: Some(&key),
            partition: PartitionClass::Default,
            table: None,
            column: None,
            reason: &reason("T-2"),
        })
        .unwrap();
    let at = Timestamp::from_unix_nanos(5);
    let reason = reason("T-2");
    let by = ChangedBy::Caller(&permit, &reason);
    ChangeEvent::new(by, at, Kind::KeyRotated, Some(&key))
        .version(2)
        .partition(Some([9; 16]))
        .encode(revision, [3; 32])
}
