//! The end user behind a call: who is taken as one, who is not, and what of both is on record.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot be set up fails"
)]

#[path = "../../engine/tests/kit/mod.rs"]
mod kit;
#[path = "../../identity/tests/kit/mod.rs"]
mod tokens;

use std::path::Path;

use bytes::Bytes;
use fieldseal_api::v1;
use fieldseal_api::v1::audit_service_server::AuditService as _;
use fieldseal_api::v1::encryption_service_server::EncryptionService as _;
use fieldseal_api::v1::key_service_server::KeyService as _;
use fieldseal_engine::Engine;
use fieldseal_model::AccessReason;
use fieldseal_service::{AuditHandler, EncryptionHandler, KeyHandler, WireLimits};
use jsonwebtoken::Algorithm;
use kit::{Place, caller};
use serde_json::{Value, json};
use tokens::{ISS, Key};
use tonic::{Code, Request, Status};
use tonic_types::StatusExt as _;

/// The kit's clock, in seconds.
const NOW: i64 = 1_700_000_000;

struct Wire {
    place: Place,
    engine: Engine,
    encryption: EncryptionHandler,
    audit: AuditHandler,
    ciphertext: Bytes,
}

/// How a call ends: with nothing, or with code, reason and cause.
type Ended = Result<(), (Code, String, String)>;

impl Wire {
    /// A service with one issuer, that signs with this key.
    async fn new(key: &Key) -> Self {
        let (place, engine) = Place::with_key().await;
        let limits = WireLimits::default();
        let mut wire = Self {
            encryption: EncryptionHandler::new(engine.clone(), limits),
            audit: AuditHandler::new(engine.clone(), limits),
            place,
            engine,
            ciphertext: Bytes::new(),
        };
        wire.trust(&[key]).await;
        let request = v1::EncryptRequest { reason: None, ..wire.encrypt_request() };
        let reply = wire.encryption.encrypt(of("app", request)).await.unwrap();
        wire.ciphertext = reply.into_inner().ciphertext;
        wire
    }

    async fn trust(&self, keys: &[&Key]) {
        let policy = self.place.path("policy");
        write(&policy, "login.jwks.json", &tokens::set(keys));
        let issuers = format!(
            "[[issuer]]\niss = \"{ISS}\"\naudience = [\"fieldseal\"]\n\
             algorithms = [\"ES256\"]\nkeys = \"login.jwks.json\"\n"
        );
        write(&policy, "issuers.toml", &issuers);
        let reason = AccessReason::default();
        self.engine.reload_policy(&caller("ops"), &reason).await.unwrap();
    }

    async fn rule(&self, text: &str) {
        write(&self.place.path("policy"), "more.cedar", text);
        let reason = AccessReason::default();
        self.engine.reload_policy(&caller("ops"), &reason).await.unwrap();
    }

    fn encrypt_request(&self) -> v1::EncryptRequest {
        let kind = Some(v1::value::Kind::StringValue("ada".into()));
        v1::EncryptRequest {
            field: Some(field()),
            plaintext: Some(v1::Value { kind }),
            ..Default::default()
        }
    }

    /// Decrypts with this token.
    async fn decrypt(&self, who: &str, token: &str) -> Ended {
        let request = v1::DecryptRequest {
            field: Some(field()),
            ciphertext: self.ciphertext.clone(),
            reason: why(token),
            ..Default::default()
        };
        ended(self.encryption.decrypt(of(who, request)).await)
    }

    async fn newest(&self, query: v1::AuditEventQuery) -> Vec<v1::AuditEvent> {
        let request =
            v1::QueryAuditEventsRequest { query: Some(query), page_size: 10, ..Default::default() };
        let reply = self.audit.query_audit_events(of("auditor", request)).await.unwrap();
        reply.into_inner().audit_events
    }

    /// The rule and the cause of what was denied, and how many events they have.
    async fn denials(&self) -> Vec<(String, String, i64)> {
        let outcomes = vec![v1::AuditOutcome::Denied.into()];
        let request = v1::SummarizeAccessRequest {
            query: Some(v1::AuditEventQuery { outcomes, ..Default::default() }),
            group_by: [v1::AccessGrouping::Rule, v1::AccessGrouping::Cause].map(i32::from).to_vec(),
            ..Default::default()
        };
        let counted = self.audit.summarize_access(of("auditor", request)).await.unwrap();
        let groups = counted.into_inner().access_groups.into_iter();
        groups.map(|g| (g.policy_rule, g.error_reason, g.event_count)).collect()
    }

    async fn last(&self, action: &str) -> v1::AuditEvent {
        let query = v1::AuditEventQuery { actions: vec![action.into()], ..Default::default() };
        self.newest(query).await.into_iter().next().unwrap()
    }
}

fn write(policy: &Path, name: &str, text: &str) {
    std::fs::write(policy.join(name), text).unwrap();
}

fn of<T>(who: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.extensions_mut().insert(caller(who).principal);
    request
}

fn field() -> v1::Field {
    v1::Field {
        key: "keys/pii".into(),
        table: "users".into(),
        column: "email".into(),
        extra_context: Vec::new(),
    }
}

fn why(token: &str) -> Option<v1::AccessReason> {
    Some(v1::AccessReason {
        purpose: "support".into(),
        end_user_assertion: token.into(),
        ..Default::default()
    })
}

fn ended<T>(result: Result<T, Status>) -> Ended {
    result.map(|_| ()).map_err(|status| {
        let info = status.get_details_error_info().unwrap();
        let cause = info.metadata.get("cause").cloned().unwrap_or_default();
        (status.code(), info.reason, cause)
    })
}

fn invalid(cause: &str) -> Ended {
    Err((Code::Unauthenticated, "END_USER_TOKEN_INVALID".into(), cause.into()))
}

fn claims(subject: &str) -> Value {
    json!({ "iss": ISS, "sub": subject, "aud": "fieldseal", "iat": NOW, "exp": NOW + 300 })
}

#[tokio::test]
async fn an_end_user_stands_in_the_record_as_a_token_and_is_found_by_it() {
    let key = Key::new("one", Algorithm::ES256);
    let wire = Wire::new(&key).await;
    let (alice, bob) = (key.sign(&claims("alice@example.test")), key.sign(&claims("bob")));
    for token in [&alice, &bob, &alice] {
        assert_eq!(wire.decrypt("app", token).await, Ok(()));
    }
    assert_eq!(wire.decrypt("app", "").await, Ok(()));
    let batch = v1::BatchDecryptRequest {
        fields: vec![field()],
        items: vec![v1::DecryptItem { ciphertext: wire.ciphertext.clone(), ..Default::default() }],
        reason: why(&alice),
    };
    wire.encryption.batch_decrypt(of("app", batch)).await.unwrap();
    assert_eq!(wire.last("BatchDecrypt").await.end_user_token.len(), 32);
    let by = |issuer: &str, subject: &str| v1::AuditEventQuery {
        end_user_issuer: issuer.into(),
        end_user_subject: subject.into(),
        ..Default::default()
    };
    let found = wire.newest(by(ISS, "alice@example.test")).await;
    assert_eq!(found.len(), 3);
    let tokens: Vec<_> = found.iter().map(|event| event.end_user_token.as_str()).collect();
    assert!(tokens[0].len() == 32 && tokens.iter().all(|token| *token == tokens[0]), "{tokens:?}");
    assert_eq!(wire.newest(by(ISS, "bob")).await.len(), 1);
    assert_eq!(wire.newest(by(ISS, "carol")).await.len(), 0);
    // Whom a question was about is on record too: hers is found by the next one.
    let asked = wire.newest(by(ISS, "carol")).await;
    let actions: Vec<_> = asked.iter().map(|event| event.action.as_str()).collect();
    assert_eq!(actions, ["QueryAuditEvents"]);
    assert_eq!(wire.newest(by("https://other.test", "bob")).await.len(), 0);
    // What is counted can be narrowed likewise.
    for (subject, count) in [("alice@example.test", 2), ("carol", 0)] {
        let query = v1::AuditEventQuery { actions: vec!["Decrypt".into()], ..by(ISS, subject) };
        let request =
            v1::SummarizeAccessRequest { query: Some(query), page_size: 1, ..Default::default() };
        let counted = wire.audit.summarize_access(of("auditor", request)).await.unwrap();
        let total = counted.into_inner().total.unwrap();
        assert_eq!((total.field_count, total.event_count), (count, count), "{subject}");
    }
    // Half of an end user is none.
    let request = v1::QueryAuditEventsRequest { query: Some(by(ISS, "")), ..Default::default() };
    let refused = ended(wire.audit.query_audit_events(of("auditor", request)).await);
    assert_eq!(refused.map_err(|(_, reason, _)| reason), Err("QUERY_INVALID".to_owned()));
    // Nothing of the token, and no name, is in any file of the log.
    let parts: Vec<&str> = alice.split('.').collect();
    for entry in std::fs::read_dir(wire.place.path("audit")).unwrap() {
        let path = entry.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        for secret in [parts[1], parts[2], "alice@example.test"] {
            let holds = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
            assert!(!holds, "{}: {secret}", path.display());
        }
    }
}

/// Why the tokens of the next test are refused, in order.
const CAUSES: [&str; 5] = [
    "END_USER_TOKEN_EXPIRED",
    "END_USER_TOKEN_INVALID: audience",
    "END_USER_TOKEN_INVALID: form",
    "END_USER_TOKEN_INVALID: lifetime",
    "END_USER_TOKEN_INVALID: signature",
];

#[tokio::test]
async fn a_refused_token_is_on_record_as_a_denied_call() {
    let key = Key::new("one", Algorithm::ES256);
    let wire = Wire::new(&key).await;
    let stranger = Key::new("one", Algorithm::ES256);
    let mut late = claims("alice");
    late["exp"] = (NOW + 3600).into();
    let mut over = claims("alice");
    (over["iat"], over["exp"]) = ((NOW - 600).into(), (NOW - 300).into());
    let mut elsewhere = claims("alice");
    elsewhere["aud"] = "shop".into();
    let expired = (Code::Unauthenticated, "END_USER_TOKEN_EXPIRED".to_owned(), String::new());
    let cases = [
        ("eyJ".to_owned(), invalid("form")),
        (stranger.sign(&claims("alice")), invalid("signature")),
        (key.sign(&late), invalid("lifetime")),
        (key.sign(&elsewhere), invalid("audience")),
        (key.sign(&over), Err(expired)),
    ];
    let denied = i32::from(v1::AuditOutcome::Denied);
    for (token, expected) in &cases {
        assert_eq!(&wire.decrypt("app", token).await, expected);
        let (_, reason, cause) = expected.clone().unwrap_err();
        let event = wire.last("Decrypt").await;
        let item = &event.items[0];
        let why = if cause.is_empty() { reason } else { format!("{reason}: {cause}") };
        assert_eq!((event.outcome, item.error_reason.as_str()), (denied, why.as_str()));
        assert_eq!((item.key.as_str(), item.column.as_str()), ("keys/pii", "email"));
        assert_eq!((event.purpose.as_str(), event.end_user_token.as_str()), ("support", ""));
    }
    // They are counted by why they were refused: no rule decided any of them.
    assert_eq!(wire.denials().await, CAUSES.map(|why| (String::new(), why.to_owned(), 1)));
    // Every call about values takes one, and refuses alike.
    let bad = &cases[1].0;
    let request = v1::EncryptRequest { reason: why(bad), ..wire.encrypt_request() };
    assert_eq!(ended(wire.encryption.encrypt(of("app", request)).await), invalid("signature"));
    assert_eq!(wire.last("Encrypt").await.outcome, denied);
    let item =
        v1::EncryptItem { plaintext: wire.encrypt_request().plaintext, ..Default::default() };
    let (fields, reason) = (vec![field(), field()], why(bad));
    let request = v1::BatchEncryptRequest { fields, items: vec![item], reason };
    assert_eq!(
        ended(wire.encryption.batch_encrypt(of("app", request)).await),
        invalid("signature")
    );
    // With several fields it is about none of them.
    let event = wire.last("BatchEncrypt").await;
    assert_eq!((event.outcome, event.items[0].key.as_str()), (denied, ""));
    let item = v1::DecryptItem { ciphertext: wire.ciphertext.clone(), ..Default::default() };
    let (fields, reason) = (vec![field()], why(bad));
    let request = v1::BatchDecryptRequest { fields, items: vec![item], reason };
    assert_eq!(
        ended(wire.encryption.batch_decrypt(of("app", request)).await),
        invalid("signature")
    );
    assert_eq!(wire.last("BatchDecrypt").await.outcome, denied);
    // Calls about keys take none at all.
    let keys = KeyHandler::new(wire.engine.clone(), WireLimits::default());
    let request = v1::CreateKeyRequest {
        key_id: "other".into(),
        reason: why(&key.sign(&claims("alice"))),
        ..Default::default()
    };
    let refused = ended(keys.create_key(of("ops", request)).await);
    let unsupported = Err("END_USER_ASSERTION_UNSUPPORTED".to_owned());
    assert_eq!(refused.map_err(|(_, reason, _)| reason), unsupported);
}

#[tokio::test]
async fn what_another_caller_shows_is_refused_and_names_the_end_user() {
    let key = Key::new("one", Algorithm::ES256);
    let wire = Wire::new(&key).await;
    let token = key.sign(&claims("alice"));
    assert_eq!(wire.decrypt("app", &token).await, Ok(()));
    let own = wire.last("Decrypt").await.end_user_token;
    let bound = Err((Code::PermissionDenied, "END_USER_TOKEN_BOUND".into(), String::new()));
    assert_eq!(wire.decrypt("stranger", &token).await, bound);
    let event = wire.last("Decrypt").await;
    assert_eq!(event.principal, "spiffe://test/stranger");
    assert_eq!(event.items[0].error_reason, "END_USER_TOKEN_BOUND");
    assert_eq!(event.end_user_token, own);
    // A reload forgets no binding, and takes away what an old key vouched for.
    wire.trust(&[&key]).await;
    assert_eq!(wire.decrypt("stranger", &token).await, bound);
    let next = Key::new("two", Algorithm::ES256);
    wire.trust(&[&next]).await;
    assert_eq!(wire.decrypt("app", &token).await, invalid("key"));
    assert_eq!(wire.decrypt("app", &next.sign(&claims("alice"))).await, Ok(()));
}

#[tokio::test]
async fn policy_and_a_key_can_want_an_end_user() {
    let key = Key::new("one", Algorithm::ES256);
    let wire = Wire::new(&key).await;
    let (alice, bob) = (key.sign(&claims("alice")), key.sign(&claims("bob")));
    wire.rule(
        "@id(\"bob-never\") forbid (principal, action in Action::\"decrypt\", resource)\n\
         when { context.end_user_issuer == \"https://login.test\" && context.end_user == \"bob\" };",
    )
    .await;
    let denied = Err((Code::PermissionDenied, "PERMISSION_DENIED".into(), String::new()));
    assert_eq!(wire.decrypt("app", &alice).await, Ok(()));
    assert_eq!(wire.decrypt("app", "").await, Ok(()));
    assert_eq!(wire.decrypt("app", &bob).await, denied);
    // Who it was refused to is in the record.
    assert_eq!(wire.last("Decrypt").await.end_user_token.len(), 32);
    wire.rule("").await;
    let keys = KeyHandler::new(wire.engine.clone(), WireLimits::default());
    let request = v1::UpdateKeyRequest {
        key: Some(v1::Key {
            name: "keys/pii".into(),
            end_user_required: true,
            ..Default::default()
        }),
        update_mask: Some(prost_types::FieldMask { paths: vec!["end_user_required".into()] }),
        ..Default::default()
    };
    let updated = keys.update_key(of("ops", request)).await.unwrap().into_inner();
    assert!(updated.key.unwrap().end_user_required);
    let required = Err((Code::InvalidArgument, "END_USER_REQUIRED".into(), String::new()));
    assert_eq!(wire.decrypt("app", "").await, required);
    assert_eq!(wire.decrypt("app", &alice).await, Ok(()));
    // Whoever encrypts needs none.
    let request = wire.encrypt_request();
    assert_eq!(ended(wire.encryption.encrypt(of("app", request)).await), Ok(()));
}
