//! What stands in the records of refused and failed items, and what queries of them are refused.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot be set up fails")]

mod kit;

use std::path::PathBuf;
use std::pin::Pin;
use std::time::Duration;

use fieldseal_audit::Outcome;
use fieldseal_crypto::field::Header;
use fieldseal_engine::{
    AuditQuery, DecryptCall, DecryptItem, EncryptCall, Engine, Refusal, SealedInput, Stated,
};
use fieldseal_keys::StateChange;
use fieldseal_model::{
    AccessReason, Action, Column, Field, KeyId, KeyName, Malformed, MalformedReason, Table,
    VersionNumber,
};
use futures_util::FutureExt as _;
use kit::{ALL, Place, caller, change, events, field, open_as, plain, reason, seal, sealed, why};

fn bad(reason: MalformedReason, field: usize) -> DecryptItem {
    DecryptItem { field, input: Err(Malformed::new(reason, "bad")) }
}

/// Bytes of the log so far.
fn log_bytes(place: &Place) -> usize {
    let entries = std::fs::read_dir(place.path("audit")).unwrap().map(|e| e.unwrap().path());
    let segments = entries.filter(|path| path.extension().is_some_and(|e| e == "log"));
    // Segments are zeroed beforehand.
    let written = |bytes: Vec<u8>| bytes.iter().rposition(|b| *b != 0).map_or(0, |last| last + 1);
    segments.map(|path| written(std::fs::read(path).unwrap())).sum()
}

async fn of_action(engine: &Engine, action: Action) -> fieldseal_audit::Event {
    let query = AuditQuery { actions: vec![action], ..AuditQuery::default() };
    events(engine, query).await.into_iter().next().unwrap()
}

#[tokio::test]
async fn many_malformed_items_do_not_write_the_field_s_names_many_times() {
    let (place, engine) = Place::with_key().await;
    let long = Field {
        key: KeyName::parse(&"k".repeat(63)).unwrap(),
        table: Table::parse(&"t".repeat(128)).unwrap(),
        column: Column::parse(&"c".repeat(128)).unwrap(),
        ..field("pii", "email")
    };
    let reasons = [MalformedReason::CiphertextEmpty, MalformedReason::RowInvalid];
    let items = (0..1000).map(|at| bad(reasons[at % 2], at % 2)).collect();
    let call = DecryptCall { fields: vec![long.clone(), long], items, reason: reason() };
    let before = log_bytes(&place);
    let reply = engine.decrypt(&caller("nobody"), Action::BatchDecrypt, call).await.unwrap();
    let written = log_bytes(&place) - before;
    assert!(reply.items.into_iter().all(|item| why(item) != "OK"));
    assert!(written < 64 * 1024, "{written} bytes for 1,000 malformed items");
    let event = of_action(&engine, Action::BatchDecrypt).await;
    assert_eq!((event.outcome, event.items.len()), (Some(Outcome::Failed), 1000));
    for (at, item) in event.items.iter().enumerate() {
        assert_eq!(item.cause, reasons[at % 2].as_str(), "{at}");
        assert_eq!((item.key.len(), item.table.len(), item.column.len()), (63, 128, 128), "{at}");
    }
}

#[tokio::test]
async fn the_record_of_a_malformed_decrypt_says_what_was_understood() {
    let (_place, engine) = Place::with_key().await;
    let of = field("pii", "email");
    let stated = Stated {
        key: Some(of.key),
        table: Some(of.table),
        column: Some(of.column),
        reason: reason(),
    };
    let what = Malformed::new(MalformedReason::CiphertextTruncated, "bad");
    let nobody = caller("nobody");
    let refusal = engine.malformed(&nobody, Action::Decrypt, what, &stated).await;
    assert!(refusal.event.is_some());
    let event = of_action(&engine, Action::Decrypt).await;
    assert_eq!((event.purpose.as_str(), event.ticket.as_str()), ("support", "CASE-1"));
    let [item] = event.items.as_slice() else { panic!("{event:?}") };
    let names = (item.key.as_str(), item.table.as_str(), item.column.as_str());
    assert_eq!(names, ("pii", "users", "email"));
    assert_eq!(item.cause, "CIPHERTEXT_TRUNCATED");
}

#[tokio::test]
async fn a_version_is_named_only_if_it_is_one_of_the_stated_key() {
    let (_place, engine) = Place::with_key().await;
    engine.create_key(&caller("ops"), change("other")).await.unwrap();
    for _ in 0..2 {
        engine.rotate_key(&caller("ops"), change("pii")).await.unwrap();
    }
    let (value, _) = seal(&engine, "t", "1", "x").await.unwrap();
    for (of, partition, row, cause, version) in [
        (field("other", "email"), "t", "1", "OTHER_KEY", 0),
        (field("pii", "email"), "u", "1", "OTHER_PARTITION", 0),
        (field("pii", "email"), "t", "2", "COMMITMENT_MISMATCH", 3),
    ] {
        let refused = open_as(&engine, "app", of, sealed(partition, row, &value)).await;
        assert_eq!(why(refused), "DECRYPTION_FAILED", "{cause}");
        let item = of_action(&engine, Action::Decrypt).await.items.remove(0);
        assert_eq!((item.cause.as_str(), item.key_version), (cause, version));
    }
}

#[tokio::test]
async fn how_another_key_s_version_stands_is_not_told() {
    let (place, engine) = Place::with_key().await;
    engine.create_key(&caller("ops"), change("other")).await.unwrap();
    let (value, _) = seal(&engine, "t", "1", "x").await.unwrap();
    engine.rotate_key(&caller("ops"), change("pii")).await.unwrap();
    let first = VersionNumber::new(1).unwrap();
    let set = async |what| {
        let ops = caller("ops");
        engine.change_key_version(&ops, change("pii"), first, what).await.unwrap();
    };
    for (what, told) in [
        (StateChange::Disable, "KEY_VERSION_DISABLED"),
        (StateChange::ScheduleDestroy { data_keys_lost: 1 }, "KEY_VERSION_DISABLED"),
        (StateChange::Restore, "KEY_VERSION_DISABLED"),
        (StateChange::ScheduleDestroy { data_keys_lost: 1 }, "KEY_VERSION_DESTROYED"),
    ] {
        set(what).await;
        if told == "KEY_VERSION_DESTROYED" {
            place.clock.advance(Duration::from_secs(31 * 24 * 3600));
            engine.run_due().await;
        }
        for (of, partition, told, cause) in [
            (field("other", "email"), "t", "DECRYPTION_FAILED", "OTHER_KEY"),
            (field("nobody-s", "email"), "t", "DECRYPTION_FAILED", "OTHER_KEY"),
            (field("pii", "email"), "u", "DECRYPTION_FAILED", "OTHER_PARTITION"),
            (field("pii", "email"), "", "DECRYPTION_FAILED", "OTHER_PARTITION"),
            (field("pii", "email"), "t", told, told),
        ] {
            let refused = open_as(&engine, "app", of, sealed(partition, "1", &value)).await;
            assert_eq!(why(refused), told, "{what:?} {cause}");
            let item = of_action(&engine, Action::Decrypt).await.items.remove(0);
            assert_eq!((item.cause.as_str(), item.key_version), (cause, 0), "{what:?}");
        }
    }
}

#[tokio::test]
async fn a_batch_over_cold_partitions_ends_as_its_items_would_alone() {
    let (place, engine) = Place::with_key().await;
    let mut items = Vec::new();
    for partition in 0..150 {
        let partition = format!("p{partition}");
        let (value, _) = seal(&engine, &partition, "1", &partition).await.unwrap();
        items.push((partition, value));
    }
    engine.stop().await.unwrap();
    drop(engine);
    let engine = place.start().await;
    let item = |at: usize, field: usize| {
        let (partition, value) = &items[at % items.len()];
        let mut input = sealed(partition, "1", value).input.unwrap();
        match at % 10 {
            // No such data key; another partition's; altered.
            7 => input.key_id = KeyId::new([at as u8; 8]),
            8 => {
                let (_, other) = &items[(at + 1) % items.len()];
                let key_id = Header::parse(other).unwrap().key_id;
                input = SealedInput { key_id, ciphertext: other.clone(), ..input };
            }
            9 => input.row = fieldseal_model::Row::parse("2".to_owned()).unwrap(),
            _ => {}
        }
        DecryptItem { field, input: Ok(input) }
    };
    let fields = || vec![field("pii", "email"), field("missing", "email")];
    let batch = (0..400).map(|at| item(at, usize::from(at % 11 == 0))).collect();
    let call = DecryptCall { fields: fields(), items: batch, reason: reason() };
    let reply = engine.decrypt(&caller("app"), Action::BatchDecrypt, call).await.unwrap();
    let mut seen = std::collections::BTreeSet::new();
    for (at, result) in reply.items.into_iter().enumerate() {
        let alone = fields().swap_remove(usize::from(at % 11 == 0));
        let alone = open_as(&engine, "app", alone, item(at, 0)).await;
        let batched =
            result.map(|opened| String::from_utf8(reply.buffer[opened.range].to_vec()).unwrap());
        if let (Ok(batched), Ok(alone)) = (&batched, &alone) {
            assert_eq!(batched, alone, "{at}");
        }
        let (batched, alone) = (why(batched), why(alone));
        assert_eq!(batched, alone, "{at}");
        seen.insert(batched);
    }
    let expected = ["DATA_KEY_NOT_FOUND", "DECRYPTION_FAILED", "OK"];
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), expected);
}

#[tokio::test]
async fn a_query_that_fails_is_typed_and_on_record_with_how_it_ended() {
    let (_place, engine) = Place::with_key().await;
    let reason = AccessReason::default();
    let (auditor, nobody) = (caller("auditor"), caller("nobody"));
    let foreign = || AuditQuery { log: "logs/other".to_owned(), ..AuditQuery::default() };
    // Which log is here is told only to those who may ask.
    let refused = engine.query_audit(&nobody, foreign(), ALL, String::new(), &reason).await;
    assert_eq!(why(refused.map(|_| ())), "PERMISSION_DENIED");
    let refused = engine.audit_checkpoint(&nobody, "logs/other").await;
    assert_eq!(why(refused), "PERMISSION_DENIED");
    let refused = engine.audit_checkpoint(&auditor, "logs/other").await;
    assert_eq!(why(refused), "LOG_NOT_FOUND");
    let mine = [(foreign(), "", "LOG_NOT_FOUND"), (AuditQuery::default(), "x", "PAGE_INVALID")];
    for (query, token, expected) in mine {
        let refused = engine.query_audit(&auditor, query, ALL, token.to_owned(), &reason).await;
        let refusal = refused.map(|_| ()).unwrap_err();
        assert_eq!(refusal.cause.reason(), expected);
        assert!(refusal.event.is_some(), "{expected}");
        let event = of_action(&engine, Action::QueryAuditEvents).await;
        let [item] = event.items.as_slice() else { panic!("{event:?}") };
        assert_eq!((event.outcome, item.cause.as_str()), (Some(Outcome::Failed), expected));
    }
}

/// A query that waits for a file which nobody writes.
type Waiting<'a> = Pin<Box<dyn Future<Output = Result<(), Refusal>> + 'a>>;

/// A pipe in the place of the newest segment: opening it waits for whoever writes.
struct Pipe(PathBuf);

impl Pipe {
    fn new(place: &Place) -> Self {
        let path = place.path("audit").join(format!("segment-{:020}.log", 1));
        let (kind, mode) = (rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU);
        rustix::fs::mknodat(rustix::fs::CWD, &path, kind, mode, 0).unwrap();
        Self(path)
    }

    /// Lets everybody go on who waits: a pipe that is open for writing can be opened.
    fn open(&self) -> std::fs::File {
        std::fs::OpenOptions::new().read(true).write(true).open(&self.0).unwrap()
    }
}

impl Drop for Pipe {
    /// A test that failed must not leave a thread waiting that its runtime waits for.
    fn drop(&mut self) {
        std::mem::forget(self.open());
        std::fs::remove_file(&self.0).unwrap();
    }
}

#[tokio::test]
async fn a_fifth_query_at_the_same_time_is_refused_and_a_file_that_is_none_is_not_named() {
    let (place, engine) = Place::with_key().await;
    let (auditor, reason) = (caller("auditor"), AccessReason::default());
    let query = || -> Waiting<'_> {
        let found =
            engine.query_audit(&auditor, AuditQuery::default(), ALL, String::new(), &reason);
        Box::pin(found.map(|found| found.map(|_| ())))
    };
    let pipe = Pipe::new(&place);
    let mut running: Vec<_> = (0..4).map(|_| query()).collect();
    for one in &mut running {
        assert!(one.now_or_never().is_none(), "it waits");
    }
    let fifth = tokio::time::timeout(Duration::from_secs(60), query()).await;
    let fifth = fifth.expect("refused, not queued").unwrap_err();
    assert_eq!(fifth.cause.reason(), "QUERY_BUSY");
    assert!(fifth.event.is_some(), "it is on record all the same");
    let writer = pipe.open();
    for one in running {
        let refusal = one.await.unwrap_err();
        assert_eq!(refusal.cause.reason(), "AUDIT_UNREADABLE");
        let message = refusal.cause.to_string();
        assert!(!message.contains("segment") && !message.contains('/'), "{message}");
    }
    drop(writer);
    drop(pipe);
    assert_eq!(why(query().await), "OK", "the places are free again");
}

#[tokio::test]
async fn an_encrypt_of_somebody_without_a_role_reads_nothing() {
    let (_place, engine) = Place::with_key().await;
    // No data key is made for a caller who may not encrypt.
    let item = plain("new", "1", "x");
    let call = EncryptCall {
        fields: vec![field("pii", "email")],
        items: vec![item],
        reason: AccessReason::default(),
    };
    let reply = engine.encrypt(&caller("nobody"), Action::Encrypt, call).await.unwrap();
    assert_eq!(why(reply.items.into_iter().next().unwrap()), "PERMISSION_DENIED");
    let made = events(&engine, AuditQuery::default()).await;
    let kind = Some(fieldseal_audit::Kind::DataKeyCreated);
    assert!(made.iter().all(|event| event.kind != kind));
}

#[tokio::test]
async fn of_a_batch_only_what_is_sealed_here_is_refused_as_sealed() {
    let (_place, engine) = Place::with_key().await;
    let (value, _) = seal(&engine, "", "1", "x").await.unwrap();
    let mut foreign = value.to_vec();
    foreign[1] ^= 0x55;
    let item = |value: &[u8], allow_sealed| {
        let mut item = plain("", "1", "");
        let input = item.input.as_mut().unwrap();
        (input.value, input.allow_sealed) = (bytes::Bytes::copy_from_slice(value), allow_sealed);
        item
    };
    let text = fieldseal_crypto::field::encode_text(&value);
    let items = vec![
        item(&value, false),
        item(&foreign, false),
        item(text.as_bytes(), false),
        item(&value, true),
        item(b"x", false),
    ];
    let call =
        EncryptCall { fields: vec![field("pii", "email")], items, reason: AccessReason::default() };
    let reply = engine.encrypt(&caller("app"), Action::BatchEncrypt, call).await.unwrap();
    let ended: Vec<_> = reply.items.into_iter().map(why).collect();
    let sealed = "PLAINTEXT_ALREADY_SEALED";
    assert_eq!(ended, [sealed, "OK", sealed, "OK", "OK"]);
}
