//! Whatever a caller with a valid certificate sends: it gets its own reason, it is on record where it
//! concerns a decrypt, and the next caller is served. The list stands in `hostile/cases.rs`.

mod cases;
mod changes;
mod limits;

use fieldseal_api::v1;
use fieldseal_client::{Client, Failure};
use tonic::codegen::Bytes;
use tonic::{Code, Status};

use crate::installation::Installation;
use crate::probes::{sample, scrape};
use crate::trouble::block_on;
use cases::{BATCHES, MISTAKES, PLAINTEXT, Stated, UNOPENED, bytes, good, text};

/// The callers of one sidecar.
struct Callers {
    app: Client,
    ops: Client,
    auditor: Client,
}

impl Callers {
    async fn of(installation: &Installation) -> Self {
        let app = installation.client("app").await;
        let ops = installation.client("ops").await;
        Self { app, ops, auditor: installation.client("auditor").await }
    }

    async fn encrypt(&self, request: v1::EncryptRequest) -> Result<Bytes, Status> {
        Ok(self.app.encryption().encrypt(request).await?.into_inner().ciphertext)
    }

    async fn decrypt(&self, request: v1::DecryptRequest) -> Result<v1::DecryptResponse, Status> {
        Ok(self.app.encryption().decrypt(request).await?.into_inner())
    }

    /// The newest records of this call.
    async fn newest(&self, action: &str) -> Vec<v1::AuditEvent> {
        let query = v1::AuditEventQuery { actions: vec![action.to_owned()], ..Default::default() };
        let request = v1::QueryAuditEventsRequest {
            query: Some(query),
            page_size: 1000,
            include_items: true,
            ..Default::default()
        };
        self.auditor.audit().query_audit_events(request).await.unwrap().into_inner().audit_events
    }

    /// The record that the refusal names is of a call that failed for this cause. Alike ones within a
    /// minute have one record.
    async fn on_record(&self, action: &str, status: &Status, cause: &str, what: &str) {
        let named = Failure::from(status).event().map(str::to_owned);
        let events = self.newest(action).await;
        let event = events.iter().find(|event| Some(&event.name) == named.as_ref());
        let event = event.unwrap_or_else(|| panic!("{what}: {named:?} is not on record"));
        assert_eq!(event.outcome(), v1::AuditOutcome::Failed, "{what}");
        assert_eq!(event.items[0].error_reason, cause, "{what}");
    }

    /// Somebody else is served as ever.
    async fn serves(&self) {
        let sealed = self.encrypt(encrypting(good(), text(PLAINTEXT))).await.unwrap();
        let opened = self.decrypt(decrypting(good(), sealed)).await.unwrap();
        assert!(opened.plaintext == text(PLAINTEXT) && opened.receipt.is_some());
    }
}

fn encrypting(stated: Stated, plaintext: Option<v1::Value>) -> v1::EncryptRequest {
    let Stated { field, partition, row } = stated;
    let field = Some(field);
    v1::EncryptRequest {
        field,
        partition,
        row,
        plaintext,
        allow_sealed_plaintext: false,
        ..Default::default()
    }
}

fn decrypting(stated: Stated, ciphertext: Bytes) -> v1::DecryptRequest {
    let Stated { field, partition, row } = stated;
    v1::DecryptRequest { field: Some(field), partition, row, ciphertext, reason: None }
}

/// It was refused so, and the message repeats nothing of what was sent.
#[track_caller]
fn refused<T>(result: Result<T, Status>, code: Code, reason: &str, what: &str) -> Status {
    let Err(status) = result else { panic!("{what}: it was answered") };
    let failure = Failure::from(&status);
    assert_eq!((failure.code(), failure.reason()), (code, reason), "{what}: {failure}");
    assert!(!failure.message().is_empty(), "{what}");
    for sent in [PLAINTEXT, "acme", cases::UUID] {
        assert!(!failure.message().contains(sent), "{what}: {failure}");
    }
    status
}

fn opened(installation: &Installation) -> f64 {
    sample(&scrape(installation), "fieldseal_values_opened_total").unwrap()
}

/// The sidecar said nothing of a panic, stops well, and its log verifies.
fn unharmed(mut installation: Installation) {
    let (mut running, lines) = installation.sidecar.take().unwrap();
    running.signal(rustix::process::Signal::TERM);
    assert_eq!(running.code(), 0);
    let said = lines.all();
    assert!(!said.contains("panicked") && !said.contains(PLAINTEXT), "{said}");
    assert!(installation.verify(&installation.log()).status.success());
}

#[test]
fn every_mistake_has_its_reason_and_every_refused_decrypt_its_record() {
    let installation = Installation::with_key();
    installation.ok("ops", &["key", "create", "other"], b"");
    block_on(async {
        let callers = Callers::of(&installation).await;
        let sealed = callers.encrypt(encrypting(good(), text(PLAINTEXT))).await.unwrap();
        let opened_before = opened(&installation);
        let mut recorded = 0;
        for (what, mistake, reason) in MISTAKES {
            let mut stated = good();
            mistake(&mut stated);
            let result = callers.encrypt(encrypting(stated.clone(), text(PLAINTEXT))).await;
            refused(result, Code::InvalidArgument, reason, what);
            let result = callers.decrypt(decrypting(stated, sealed.clone())).await;
            let status = refused(result, Code::InvalidArgument, reason, what);
            callers.on_record("Decrypt", &status, reason, what).await;
            recorded += 1;
        }
        for (what, mistake, code, reason, cause) in UNOPENED {
            let mut request = decrypting(good(), sealed.clone());
            mistake(&mut request);
            let status = refused(callers.decrypt(request).await, *code, reason, what);
            let cause = if cause.is_empty() { reason } else { cause };
            callers.on_record("Decrypt", &status, cause, what).await;
            recorded += 1;
        }
        assert_eq!(recorded, MISTAKES.len() + UNOPENED.len());
        assert!(recorded > 50, "{recorded}");
        assert_eq!(opened(&installation), opened_before, "something was opened");
        callers.serves().await;
    });
    unharmed(installation);
}

#[test]
fn an_item_fails_alone_and_a_whole_batch_before_anything_is_opened() {
    let installation = Installation::with_key();
    block_on(async {
        let callers = Callers::of(&installation).await;
        let sealed = callers.encrypt(encrypting(good(), text(PLAINTEXT))).await.unwrap();
        let Stated { field, partition, row } = good();
        let item = v1::DecryptItem { field_index: 0, partition, row, ciphertext: sealed.clone() };
        let batch = v1::BatchDecryptRequest {
            fields: vec![field.clone()],
            items: vec![item.clone()],
            reason: None,
        };
        let opened_before = opened(&installation);
        for (what, mistake, reason) in BATCHES {
            let mut batch = batch.clone();
            mistake(&mut batch);
            let result = callers.app.encryption().batch_decrypt(batch).await;
            let status = refused(result, Code::InvalidArgument, reason, what);
            callers.on_record("BatchDecrypt", &status, reason, what).await;
        }
        assert_eq!(opened(&installation), opened_before, "something was opened");
        let (mut batch, mut expected) = (batch, vec![String::new()]);
        for (_, mistake, _, reason, _) in UNOPENED {
            let mut request = decrypting(good(), sealed.clone());
            mistake(&mut request);
            if request.field.as_ref() != Some(&field) || request.reason.is_some() {
                continue;
            }
            let v1::DecryptRequest { partition, row, ciphertext, .. } = request;
            batch.items.push(v1::DecryptItem { field_index: 0, partition, row, ciphertext });
            expected.push((*reason).to_owned());
        }
        batch.items.push(item);
        expected.push(String::new());
        assert!(expected.len() > 15, "{}", expected.len());
        let reply = callers.app.encryption().batch_decrypt(batch).await.unwrap().into_inner();
        let ended = |result: &v1::DecryptResult| match result.result.as_ref().unwrap() {
            v1::decrypt_result::Result::Ok(_) => String::new(),
            v1::decrypt_result::Result::Error(status) => Failure::from(status).reason().to_owned(),
        };
        let results: Vec<_> = reply.results.iter().map(ended).collect();
        assert_eq!(results, expected);
        assert_eq!(opened(&installation), opened_before + 2.0);
        let event = callers.newest("BatchDecrypt").await.swap_remove(0);
        assert_eq!(event.outcome(), v1::AuditOutcome::Partial);
        assert_eq!(event.items.len(), expected.len());
    });
    unharmed(installation);
}

#[test]
fn what_is_too_long_or_sealed_already_is_not_encrypted_by_accident() {
    let installation = Installation::with_key();
    block_on(async {
        let callers = Callers::of(&installation).await;
        let of = |value| encrypting(good(), value);
        let sealed = callers.encrypt(of(text(PLAINTEXT))).await.unwrap();
        let as_text = text_form(&sealed);
        for (what, value, code, reason) in [
            ("no value", None, Code::InvalidArgument, "VALUE_MISSING"),
            (
                "an item over 1 MiB",
                bytes(vec![0; 1024 * 1024 + 1]),
                Code::InvalidArgument,
                "VALUE_TOO_LONG",
            ),
            (
                "a ciphertext",
                bytes(sealed.clone()),
                Code::InvalidArgument,
                "PLAINTEXT_ALREADY_SEALED",
            ),
            (
                "a ciphertext as text",
                text(&as_text),
                Code::InvalidArgument,
                "PLAINTEXT_ALREADY_SEALED",
            ),
            (
                "a ciphertext as a line of text",
                text(&format!("{as_text}\n")),
                Code::InvalidArgument,
                "PLAINTEXT_ALREADY_SEALED",
            ),
        ] {
            refused(callers.encrypt(of(value)).await, code, reason, what);
        }
        let unbounded =
            v1::encryption_service_client::EncryptionServiceClient::new(callers.app.channel());
        let message = unbounded.clone().encrypt(of(bytes(vec![0; 5 * 1024 * 1024]))).await;
        refused(message, Code::ResourceExhausted, "MESSAGE_TOO_LARGE", "a message over 4 MiB");
        let mut unknown = good();
        unknown.field.key = "keys/nobody-s".to_owned();
        let unknown = callers.encrypt(encrypting(unknown, text(PLAINTEXT))).await;
        refused(unknown, Code::NotFound, "KEY_NOT_FOUND", "an unknown key");
        // Whoever means it, and what only looks so.
        let meant =
            v1::EncryptRequest { allow_sealed_plaintext: true, ..of(bytes(sealed.clone())) };
        let mut foreign = sealed.to_vec();
        foreign[4] ^= 0x55;
        let foreign_text = text_form(&foreign);
        for (what, request, value) in [
            ("meant", meant, bytes(sealed.clone())),
            ("of another installation", of(bytes(foreign.clone())), bytes(foreign)),
            ("its text", of(text(&foreign_text)), text(&foreign_text)),
            ("only its prefix", of(text("fs1.")), text("fs1.")),
        ] {
            let twice = callers.encrypt(request).await.unwrap_or_else(|e| panic!("{what}: {e}"));
            let opened = callers.decrypt(decrypting(good(), twice)).await.unwrap();
            assert!(opened.plaintext == value, "{what}");
        }
        callers.serves().await;
    });
    unharmed(installation);
}

/// The text form of a ciphertext.
fn text_form(ciphertext: &[u8]) -> String {
    use base64::Engine as _;
    format!("fs1.{}", base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(ciphertext))
}
