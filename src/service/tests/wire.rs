//! The handlers over a real engine, called as the transport calls them.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot be set up fails"
)]

#[path = "../../engine/tests/kit/mod.rs"]
mod kit;

use bytes::Bytes;
use fieldseal_api::v1;
use fieldseal_api::v1::audit_service_server::AuditService as _;
use fieldseal_api::v1::encryption_service_server::EncryptionService as _;
use fieldseal_api::v1::key_service_server::KeyService as _;
use fieldseal_audit::Outcome;
use fieldseal_engine::{AuditQuery, Engine};
use fieldseal_model::Action;
use fieldseal_service::{AuditHandler, EncryptionHandler, KeyHandler, MAX_VALUE_BYTES, WireLimits};
use kit::{Place, caller, change, events};
use prost::Message as _;
use tonic::{Code, Request, Status};
use tonic_types::StatusExt as _;

/// Every handler of one engine.
struct Wire {
    _place: Place,
    engine: Engine,
    encryption: EncryptionHandler,
    keys: KeyHandler,
    audit: AuditHandler,
}

impl Wire {
    async fn new(limits: WireLimits) -> Self {
        let (place, engine) = Place::with_key().await;
        Self {
            _place: place,
            encryption: EncryptionHandler::new(engine.clone(), limits),
            keys: KeyHandler::new(engine.clone(), limits),
            audit: AuditHandler::new(engine.clone(), limits),
            engine,
        }
    }

    async fn encrypt(&self, values: Vec<v1::Value>) -> Vec<v1::EncryptResult> {
        let request = as_app(v1::BatchEncryptRequest {
            fields: vec![field()],
            items: plain(values),
            ..Default::default()
        });
        self.encryption.batch_encrypt(request).await.unwrap().into_inner().results
    }

    async fn decrypt(&self, items: Vec<v1::DecryptItem>) -> Result<Vec<v1::DecryptResult>, Status> {
        let request = v1::BatchDecryptRequest { fields: vec![field()], items, reason: why() };
        let reply = self.encryption.batch_decrypt(as_app(request)).await?.into_inner();
        assert!(reply.receipt.is_some());
        Ok(reply.results)
    }

    async fn query(
        &self,
        request: v1::QueryAuditEventsRequest,
    ) -> Result<v1::QueryAuditEventsResponse, Status> {
        Ok(self.audit.query_audit_events(of("auditor", request)).await?.into_inner())
    }
}

fn of<T>(who: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.extensions_mut().insert(caller(who).principal);
    request
}

fn as_app<T>(message: T) -> Request<T> {
    of("app", message)
}

fn field() -> v1::Field {
    v1::Field {
        key: "keys/pii".into(),
        table: "users".into(),
        column: "email".into(),
        extra_context: Vec::new(),
    }
}

fn why() -> Option<v1::AccessReason> {
    let (purpose, ticket) = ("support".into(), "CASE-1".into());
    Some(v1::AccessReason { purpose, ticket, ..Default::default() })
}

fn bytes(len: usize) -> v1::Value {
    v1::Value { kind: Some(v1::value::Kind::BytesValue(vec![7; len].into())) }
}

fn text(text: &str) -> v1::Value {
    v1::Value { kind: Some(v1::value::Kind::StringValue(text.into())) }
}

fn plain(values: Vec<v1::Value>) -> Vec<v1::EncryptItem> {
    let item = |plaintext| v1::EncryptItem { plaintext: Some(plaintext), ..Default::default() };
    values.into_iter().map(item).collect()
}

fn sealed(ciphertext: Bytes) -> v1::DecryptItem {
    v1::DecryptItem { ciphertext, ..Default::default() }
}

fn ciphertext(result: v1::EncryptResult) -> Bytes {
    match result.result {
        Some(v1::encrypt_result::Result::Ok(value)) => value.ciphertext,
        other => panic!("{other:?}"),
    }
}

/// Code and reason of an item of a batch; `OK` if it has a value.
fn ended(result: &v1::DecryptResult) -> (Code, String) {
    match result.result.as_ref().unwrap() {
        v1::decrypt_result::Result::Ok(_) => (Code::Ok, "OK".to_owned()),
        v1::decrypt_result::Result::Error(status) => refused_item(status),
    }
}

fn refused_item(status: &tonic_types::Status) -> (Code, String) {
    use tonic_types::RpcStatusExt as _;
    let info = status.get_details_error_info().unwrap();
    assert_eq!(info.domain, "fieldseal.dev");
    (Code::from_i32(status.code), info.reason)
}

/// Code and reason of a refused call.
fn refused<T: std::fmt::Debug>(result: Result<T, Status>) -> (Code, String) {
    let status = result.unwrap_err();
    (status.code(), status.get_details_error_info().unwrap().reason)
}

fn invalid(reason: &str) -> (Code, String) {
    (Code::InvalidArgument, reason.to_owned())
}

/// The newest record of this action.
async fn newest(engine: &Engine, action: Action) -> fieldseal_audit::Event {
    let query = AuditQuery { actions: vec![action], ..AuditQuery::default() };
    events(engine, query).await.into_iter().next().unwrap()
}

#[tokio::test]
async fn a_batch_s_count_and_indices_are_a_matter_of_the_whole_call() {
    let wire = Wire::new(WireLimits::default()).await;
    for count in [0, 1001] {
        let items = plain(vec![bytes(1); count]);
        let request =
            v1::BatchEncryptRequest { fields: vec![field()], items, ..Default::default() };
        let result = wire.encryption.batch_encrypt(as_app(request)).await;
        assert_eq!(refused(result), invalid("BATCH_SIZE_INVALID"), "{count}");
        let result = wire.decrypt(vec![sealed(Bytes::from_static(&[1; 80])); count]).await;
        assert_eq!(refused(result), invalid("BATCH_SIZE_INVALID"), "{count}");
    }
    let mut items = plain(vec![bytes(1); 2]);
    items[1].field_index = 1;
    let request = v1::BatchEncryptRequest { fields: vec![field()], items, ..Default::default() };
    let result = wire.encryption.batch_encrypt(as_app(request)).await;
    assert_eq!(refused(result), invalid("FIELD_INDEX_INVALID"));
    let mut items = vec![sealed(Bytes::from_static(&[1; 80])); 2];
    items[1].field_index = u32::MAX;
    assert_eq!(refused(wire.decrypt(items).await), invalid("FIELD_INDEX_INVALID"));
    let event = newest(&wire.engine, Action::BatchDecrypt).await;
    assert_eq!((event.purpose.as_str(), event.ticket.as_str()), ("support", "CASE-1"));
    assert_eq!((event.items[0].key.as_str(), event.items[0].table.as_str()), ("pii", "users"));
}

#[tokio::test]
async fn a_reply_that_could_be_too_long_is_refused_before_anything_is_opened() {
    let message_bytes = 64 * 1024;
    let wire = Wire::new(WireLimits { batch_items: 1000, message_bytes }).await;
    let values: Vec<_> = wire.encrypt(vec![bytes(20_000); 3]).await;
    let values: Vec<_> = values.into_iter().map(ciphertext).collect();
    let opened = wire.decrypt(values.iter().cloned().map(sealed).collect()).await.unwrap();
    assert!(opened.iter().all(|item| ended(item).0 == Code::Ok));
    let four = values.iter().cycle().take(4).cloned().map(sealed).collect();
    assert_eq!(refused(wire.decrypt(four).await), invalid("REPLY_TOO_LARGE"));
    let event = newest(&wire.engine, Action::BatchDecrypt).await;
    assert_eq!((event.outcome, event.item_count), (Some(Outcome::Failed), 1));
    assert_eq!(event.items[0].cause, "REPLY_TOO_LARGE");
    // Short items come back as errors, which are longer: the most that is let through still fits.
    let mut most = 0;
    for count in 1..=1000 {
        let bad = vec![sealed(Bytes::from_static(b"fs1.AAAA")); count];
        let request = v1::BatchDecryptRequest { fields: vec![field()], items: bad, reason: why() };
        match wire.encryption.batch_decrypt(as_app(request)).await {
            Ok(reply) => {
                most = count;
                assert!(reply.into_inner().encoded_len() <= message_bytes, "{count}");
            }
            Err(status) => {
                assert_eq!(refused(Err::<(), _>(status)), invalid("REPLY_TOO_LARGE"));
                break;
            }
        }
    }
    assert!((50..1000).contains(&most), "{most}");
}

#[tokio::test]
async fn a_thousand_short_and_a_thousand_middling_values_pass() {
    let wire = Wire::new(WireLimits::default()).await;
    for len in [64, 2048] {
        let values = wire.encrypt(vec![bytes(len); 1000]).await;
        let as_text = |value: &Bytes| Bytes::from(fieldseal_crypto::field::encode_text(value));
        let values: Vec<_> = values.into_iter().map(ciphertext).collect();
        let texts = values.iter().map(as_text).map(sealed).collect();
        for items in [values.iter().cloned().map(sealed).collect(), texts] {
            let opened = wire.decrypt(items).await.unwrap();
            assert!(opened.iter().all(|item| ended(item).0 == Code::Ok), "{len}");
        }
    }
}

#[tokio::test]
async fn a_bad_item_fails_alone_and_an_empty_value_is_a_value() {
    let wire = Wire::new(WireLimits::default()).await;
    let mut items = plain(vec![text(""), bytes(0), bytes(MAX_VALUE_BYTES + 1), text("ada")]);
    items.push(v1::EncryptItem::default());
    let request = v1::BatchEncryptRequest { fields: vec![field()], items, ..Default::default() };
    let results =
        wire.encryption.batch_encrypt(as_app(request)).await.unwrap().into_inner().results;
    let error = |result: &v1::EncryptResult| match result.result.as_ref().unwrap() {
        v1::encrypt_result::Result::Ok(_) => None,
        v1::encrypt_result::Result::Error(status) => Some(refused_item(status)),
    };
    let errors: Vec<_> = results.iter().map(error).collect();
    let (long, missing) = (Some(invalid("VALUE_TOO_LONG")), Some(invalid("VALUE_MISSING")));
    assert_eq!(errors, [None, None, long, None, missing]);
    let good = results.into_iter().zip(errors).filter(|(_, error)| error.is_none());
    let mut items: Vec<_> = good.map(|(result, _)| sealed(ciphertext(result))).collect();
    items.push(sealed(Bytes::new()));
    items.push(v1::DecryptItem { row: "7".into(), ..items[0].clone() });
    items.push(v1::DecryptItem { partition: "\u{7}".into(), ..items[0].clone() });
    let results = wire.decrypt(items).await.unwrap();
    let values: Vec<_> = results[..3]
        .iter()
        .map(|result| match result.result.as_ref().unwrap() {
            v1::decrypt_result::Result::Ok(value) => value.plaintext.clone().unwrap(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(values, [text(""), bytes(0), text("ada")]);
    let failed: Vec<_> = results[3..].iter().map(ended).collect();
    let expected = ["CIPHERTEXT_EMPTY", "DECRYPTION_FAILED", "PARTITION_INVALID"];
    assert_eq!(failed, expected.map(invalid));
}

#[tokio::test]
async fn a_malformed_unary_call_is_refused_and_its_record_says_what_was_stated() {
    let wire = Wire::new(WireLimits::default()).await;
    let encrypt =
        |plaintext| v1::EncryptRequest { field: Some(field()), plaintext, ..Default::default() };
    for (request, reason) in [
        (encrypt(None), "VALUE_MISSING"),
        (encrypt(Some(v1::Value { kind: None })), "VALUE_MISSING"),
        (encrypt(Some(bytes(MAX_VALUE_BYTES + 1))), "VALUE_TOO_LONG"),
        (v1::EncryptRequest { field: None, ..encrypt(Some(bytes(1))) }, "TABLE_INVALID"),
    ] {
        assert_eq!(refused(wire.encryption.encrypt(as_app(request)).await), invalid(reason));
    }
    let decrypt = v1::DecryptRequest {
        field: Some(field()),
        ciphertext: Bytes::from_static(b"\x01short"),
        reason: why(),
        ..Default::default()
    };
    let result = wire.encryption.decrypt(as_app(decrypt)).await;
    assert_eq!(refused(result), invalid("CIPHERTEXT_TRUNCATED"));
    let event = newest(&wire.engine, Action::Decrypt).await;
    let item = &event.items[0];
    assert_eq!((item.key.as_str(), item.column.as_str()), ("pii", "email"));
    assert_eq!((event.ticket.as_str(), item.cause.as_str()), ("CASE-1", "CIPHERTEXT_TRUNCATED"));
    // What nobody checks must not be stated as if it were checked.
    let value = ciphertext(wire.encrypt(vec![text("ada")]).await.remove(0));
    let end_user_assertion = "eyJ".to_owned();
    let request = v1::DecryptRequest {
        field: Some(field()),
        ciphertext: value,
        reason: Some(v1::AccessReason { end_user_assertion, ..Default::default() }),
        ..Default::default()
    };
    let result = wire.encryption.decrypt(as_app(request)).await;
    assert_eq!(refused(result), invalid("END_USER_ASSERTION_UNSUPPORTED"));
}

#[tokio::test]
async fn a_rotation_makes_reencrypting_a_suggestion() {
    let wire = Wire::new(WireLimits::default()).await;
    let value = ciphertext(wire.encrypt(vec![text("ada")]).await.remove(0));
    let request =
        v1::DecryptRequest { field: Some(field()), ciphertext: value, ..Default::default() };
    for suggested in [false, true] {
        let reply = wire.encryption.decrypt(as_app(request.clone())).await.unwrap().into_inner();
        assert_eq!(reply.reencrypt_suggested, suggested);
        assert_eq!(reply.key_version, "keys/pii/versions/1");
        let rotate = v1::RotateKeyRequest { name: "keys/pii".into(), ..Default::default() };
        wire.keys.rotate_key(of("ops", rotate)).await.unwrap();
    }
}

#[tokio::test]
async fn queries_are_ordered_and_paged_and_show_items_where_they_are_wanted() {
    let wire = Wire::new(WireLimits::default()).await;
    let value = ciphertext(wire.encrypt(vec![text("ada")]).await.remove(0));
    wire.decrypt(vec![sealed(value.clone()); 3]).await.unwrap();
    let ask = v1::QueryAuditEventsRequest::default;
    let query = |order: &str| v1::QueryAuditEventsRequest { order_by: order.into(), ..ask() };
    for (bad, reason) in [
        (query("principal"), "QUERY_INVALID"),
        (v1::QueryAuditEventsRequest { page_size: -1, ..ask() }, "PAGE_INVALID"),
        (v1::QueryAuditEventsRequest { page_token: "x".into(), ..ask() }, "PAGE_INVALID"),
    ] {
        assert_eq!(refused(wire.query(bad).await), invalid(reason));
    }
    let foreign = v1::QueryAuditEventsRequest { parent: "logs/other".into(), ..ask() };
    let not_found = (Code::NotFound, "LOG_NOT_FOUND".to_owned());
    assert_eq!(refused(wire.query(foreign.clone()).await), not_found);
    let denied = wire.audit.query_audit_events(of("nobody", foreign)).await;
    assert_eq!(refused(denied), (Code::PermissionDenied, "PERMISSION_DENIED".to_owned()));
    let mut names = Vec::new();
    for order in ["event_time", "event_time desc", ""] {
        let (mut of_order, mut page_token) = (Vec::new(), String::new());
        loop {
            let asked = v1::QueryAuditEventsRequest { page_size: 2, page_token, ..query(order) };
            let first = asked.page_token.is_empty();
            let page = wire.query(asked).await.unwrap();
            assert!(page.audit_events.len() <= 2);
            assert_eq!(page.checkpoints.len(), usize::from(first));
            of_order.extend(page.audit_events.into_iter().map(|event| event.name));
            page_token = page.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
        names.push(of_order);
    }
    // Every page but the last of an order is itself a record, so a later order has more.
    assert!(names[0].starts_with(&["logs/main/events/0".to_owned()]));
    names[1].reverse();
    names[2].reverse();
    assert!(names[1].starts_with(&names[0]) && names[2].starts_with(&names[1]), "{names:?}");
    for include_items in [false, true] {
        let actions = vec!["BatchDecrypt".to_owned()];
        let query = Some(v1::AuditEventQuery { actions, ..Default::default() });
        let request = v1::QueryAuditEventsRequest { query, include_items, ..ask() };
        let event = wire.query(request).await.unwrap().audit_events.remove(0);
        assert_eq!((event.item_count, event.items.len()), (3, if include_items { 3 } else { 0 }));
    }
}

#[tokio::test]
async fn a_page_of_long_events_ends_before_it_is_longer_than_a_message() {
    let limits = WireLimits { batch_items: 1000, message_bytes: 1024 * 1024 };
    let wire = Wire::new(limits).await;
    for _ in 0..20 {
        let refused = wire.decrypt(vec![sealed(Bytes::new()); 1000]).await.unwrap();
        assert_eq!(ended(&refused[0]), invalid("CIPHERTEXT_EMPTY"));
    }
    let (mut seen, mut pages, mut page_token) = (0, 0, String::new());
    loop {
        let actions = vec!["BatchDecrypt".to_owned()];
        let query = Some(v1::AuditEventQuery { actions, ..Default::default() });
        let request = v1::QueryAuditEventsRequest {
            query,
            page_size: 1000,
            page_token,
            include_items: true,
            ..Default::default()
        };
        let page = wire.query(request).await.unwrap();
        assert!(page.encoded_len() <= limits.message_bytes, "{}", page.encoded_len());
        (seen, pages) = (seen + page.audit_events.len(), pages + 1);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(seen, 20);
    assert!((2..=20).contains(&pages), "{pages}");
}

#[tokio::test]
async fn an_event_that_fits_no_message_is_a_typed_refusal() {
    let wire = Wire::new(WireLimits::default()).await;
    wire.decrypt(vec![sealed(Bytes::new()); 1000]).await.unwrap();
    let small = WireLimits { batch_items: 1000, message_bytes: 16 * 1024 };
    let audit = AuditHandler::new(wire.engine.clone(), small);
    let ask = |include_items| v1::QueryAuditEventsRequest { include_items, ..Default::default() };
    let result = audit.query_audit_events(of("auditor", ask(true))).await;
    assert_eq!(refused(result), invalid("REPLY_TOO_LARGE"));
    assert!(audit.query_audit_events(of("auditor", ask(false))).await.is_ok());
}

#[tokio::test]
async fn a_checkpoint_is_that_of_this_instance_s_log() {
    let wire = Wire::new(WireLimits::default()).await;
    for log in ["", "logs/main"] {
        let request = of("auditor", v1::GetCheckpointRequest { log: log.into() });
        let found = wire.audit.get_checkpoint(request).await.unwrap().into_inner();
        let checkpoint = found.checkpoint.unwrap();
        assert_eq!(checkpoint.log, "logs/main");
        assert!(checkpoint.tree_size >= 2 && checkpoint.note.starts_with("fieldseal.dev/"));
    }
    let other = || v1::GetCheckpointRequest { log: "logs/other".into() };
    let result = wire.audit.get_checkpoint(of("auditor", other())).await;
    assert_eq!(refused(result), (Code::NotFound, "LOG_NOT_FOUND".to_owned()));
    let result = wire.audit.get_checkpoint(of("nobody", other())).await;
    assert_eq!(refused(result).0, Code::PermissionDenied);
}

#[tokio::test]
async fn keys_come_in_pages_ordered_by_name() {
    let wire = Wire::new(WireLimits::default()).await;
    for name in ["b", "a", "z", "c"] {
        wire.engine.create_key(&caller("ops"), change(name)).await.unwrap();
    }
    let (mut names, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = v1::ListKeysRequest { page_size: 2, page_token };
        let page = wire.keys.list_keys(of("ops", request)).await.unwrap().into_inner();
        assert_eq!(page.total_size, 5);
        assert!((1..=2).contains(&page.keys.len()));
        names.extend(page.keys.into_iter().map(|key| key.name));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(names, ["keys/a", "keys/b", "keys/c", "keys/pii", "keys/z"]);
    let request = v1::ListKeysRequest { page_size: -1, ..Default::default() };
    assert_eq!(refused(wire.keys.list_keys(of("ops", request)).await), invalid("PAGE_INVALID"));
}

#[tokio::test]
async fn a_page_of_keys_with_many_versions_ends_before_it_is_longer_than_a_message() {
    let limits = WireLimits { batch_items: 1000, message_bytes: 4096 };
    let wire = Wire::new(limits).await;
    for name in ["a", "b", "c", "d"] {
        wire.engine.create_key(&caller("ops"), change(name)).await.unwrap();
        for _ in 0..20 {
            wire.engine.rotate_key(&caller("ops"), change(name)).await.unwrap();
        }
    }
    let (mut names, mut pages, mut page_token) = (Vec::new(), 0, String::new());
    loop {
        let request = v1::ListKeysRequest { page_size: 1000, page_token };
        let page = wire.keys.list_keys(of("ops", request)).await.unwrap().into_inner();
        assert!(page.encoded_len() <= limits.message_bytes, "{}", page.encoded_len());
        pages += 1;
        names.extend(page.keys.into_iter().map(|key| key.name));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(names, ["keys/a", "keys/b", "keys/c", "keys/d", "keys/pii"]);
    assert!(pages > 1, "{pages}");
}
