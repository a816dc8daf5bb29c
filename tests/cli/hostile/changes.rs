//! Changes of keys that contradict each other or are abandoned.

use std::time::{Duration, Instant};

use fieldseal_api::v1;
use fieldseal_client::{Client, Failure};
use tonic::{Code, Status};

use super::cases::{PLAINTEXT, UUID, good, text};
use super::{Callers, decrypting, encrypting, refused, unharmed};
use crate::installation::Installation;
use crate::probes::{sample, scrape};
use crate::process::PATIENCE;
use crate::trouble::block_on;

const KEY: &str = "keys/customer-pii";
/// So many calls must have been abandoned while the sidecar was at work on them.
const ABANDONED: f64 = 20.0;

async fn key(client: &Client) -> v1::Key {
    let request = v1::GetKeyRequest { name: KEY.to_owned() };
    client.keys().get_key(request).await.unwrap().into_inner().key.unwrap()
}

async fn rotate(client: &Client, request: v1::RotateKeyRequest) -> Result<String, Status> {
    Ok(client.keys().rotate_key(request).await?.into_inner().primary_version)
}

fn rotation() -> v1::RotateKeyRequest {
    v1::RotateKeyRequest { name: KEY.to_owned(), ..Default::default() }
}

/// Records of this kind or action.
async fn records(callers: &Callers, is: impl Fn(&v1::AuditEvent) -> bool) -> Vec<v1::AuditEvent> {
    let (mut found, mut page_token) = (Vec::new(), String::new());
    loop {
        let request =
            v1::QueryAuditEventsRequest { page_size: 1_000, page_token, ..Default::default() };
        let page = callers.auditor.audit().query_audit_events(request).await.unwrap().into_inner();
        found.extend(page.audit_events.into_iter().filter(&is));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return found;
        }
    }
}

#[test]
fn of_two_rotations_with_one_etag_one_wins_and_a_request_id_means_one_request() {
    let installation = Installation::with_key();
    block_on(async {
        let callers = Callers::of(&installation).await;
        let other = installation.client("ops").await;
        for round in 1..=10 {
            let etag = key(&callers.ops).await.etag;
            let request = || v1::RotateKeyRequest { etag: etag.clone(), ..rotation() };
            let results = tokio::join!(rotate(&callers.ops, request()), rotate(&other, request()));
            let (won, lost) = match results {
                (Ok(won), lost @ Err(_)) | (lost @ Err(_), Ok(won)) => (won, lost),
                both => panic!("{both:?}"),
            };
            refused(lost, Code::Aborted, "ETAG_MISMATCH", "the second rotation");
            let shown = key(&callers.ops).await;
            assert_eq!((&shown.primary_version, shown.versions.len()), (&won, round + 1));
        }
        let first = v1::RotateKeyRequest { request_id: UUID.to_owned(), ..rotation() };
        let made = rotate(&callers.ops, first.clone()).await.unwrap();
        let etag = key(&callers.ops).await.etag;
        let other_content = v1::RotateKeyRequest { etag: etag.clone(), ..first.clone() };
        let result = rotate(&callers.ops, other_content).await;
        refused(result, Code::AlreadyExists, "REQUEST_ID_REUSED", "other content");
        assert_eq!(rotate(&callers.ops, first).await.unwrap(), made);
        let malformed = v1::RotateKeyRequest { request_id: "7".to_owned(), ..rotation() };
        let result = rotate(&callers.ops, malformed).await;
        refused(result, Code::InvalidArgument, "REQUEST_ID_INVALID", "no UUID");
        let unknown = v1::RotateKeyRequest { name: "keys/nobody-s".to_owned(), ..rotation() };
        let result = rotate(&callers.ops, unknown).await;
        refused(result, Code::NotFound, "KEY_NOT_FOUND", "an unknown key");
        let create = v1::CreateKeyRequest { key_id: "customer-pii".into(), ..Default::default() };
        let result = callers.ops.keys().create_key(create).await;
        refused(result, Code::AlreadyExists, "KEY_EXISTS", "a key that exists");
        assert_eq!(key(&callers.ops).await.etag, etag, "something was changed");
        callers.serves().await;
    });
    unharmed(installation);
}

/// How many decrypts and rotations the sidecar was at work on when their callers gave up.
fn cancelled(installation: &Installation) -> [f64; 2] {
    let metrics = scrape(installation);
    ["EncryptionService/BatchDecrypt", "KeyService/RotateKey"].map(|method| {
        let labels = format!("{{method=\"fieldseal.v1.{method}\",outcome=\"cancelled\"}}");
        sample(&metrics, &format!("fieldseal_call_seconds_count{labels}")).unwrap_or(0.0)
    })
}

/// How a call ended that its caller gives up after so many microseconds.
async fn abandoned<T>(call: impl Future<Output = Result<T, Status>>, micros: u64) -> bool {
    match tokio::time::timeout(Duration::from_micros(micros), call).await {
        Err(_) => true,
        Ok(Ok(_)) => false,
        Ok(Err(status)) => panic!("{}", Failure::from(&status)),
    }
}

#[test]
fn a_call_that_is_abandoned_half_way_is_done_whole_and_on_record_or_not_at_all() {
    let installation = Installation::with_key();
    block_on(async {
        let callers = Callers::of(&installation).await;
        let sealed = callers.encrypt(encrypting(good(), text(PLAINTEXT))).await.unwrap();
        let request = decrypting(good(), sealed);
        let item = v1::DecryptItem {
            partition: request.partition.clone(),
            row: request.row.clone(),
            ciphertext: request.ciphertext.clone(),
            ..Default::default()
        };
        let fields = request.field.into_iter().collect();
        let batch = v1::BatchDecryptRequest { fields, items: vec![item; 300], reason: None };
        let mut answered = (0, 1);
        let given_up = Instant::now() + PATIENCE;
        let mut micros = 0;
        while cancelled(&installation).iter().any(|calls| *calls < ABANDONED) {
            assert!(Instant::now() < given_up, "{:?}", cancelled(&installation));
            micros = (micros + 300) % 20_000;
            let mut encryption = callers.app.encryption();
            let call = encryption.batch_decrypt(batch.clone());
            answered.0 += usize::from(!abandoned(call, micros).await);
            let call = rotate(&callers.ops, rotation());
            answered.1 += usize::from(!abandoned(call, micros).await);
        }
        callers.serves().await;
        // Changes are made one after another, so none of the abandoned ones is under way now.
        let made = rotate(&callers.ops, rotation()).await.unwrap();
        let versions = key(&callers.ops).await.versions;
        let names: Vec<_> = versions.iter().map(|version| version.name.clone()).collect();
        let expected: Vec<_> = (1..=names.len()).map(|n| format!("{KEY}/versions/{n}")).collect();
        assert_eq!(names, expected);
        assert_eq!(names.last(), Some(&made));
        assert!(names.len() > answered.1, "an answered rotation is missing");
        let rotated = records(&callers, |event| event.kind == "KEY_ROTATED").await;
        assert_eq!(rotated.len() + 1, names.len(), "each version is on record once");
        let done = records(&callers, |event| event.action == "BatchDecrypt").await;
        assert!(done.len() > answered.0, "no abandoned one of {} is on record", done.len());
        for event in &done {
            assert_eq!((event.outcome(), event.item_count), (v1::AuditOutcome::Ok, 300));
        }
    });
    unharmed(installation);
}
