//! Keys of issuers that are fetched from an address: by the real program, over TLS.

use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use fieldseal_client::{Failure, v1};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rcgen::{KeyPair, PKCS_ED25519};
use serde_json::json;

use crate::installation::{Installation, place};
use crate::policy::write;
use crate::process::event;
use crate::web::Web;

/// A key of the issuer.
struct Key(&'static str, KeyPair);

impl Key {
    fn new(id: &'static str) -> Self {
        Self(id, KeyPair::generate_for(&PKCS_ED25519).unwrap())
    }

    fn token(&self) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let claims = json!({
            "iss": "https://login.test", "sub": "heidi", "aud": "fieldseal", "iat": now,
            "exp": now + 300, "jti": self.1.public_key_raw(),
        });
        let header = Header { kid: Some(self.0.to_owned()), ..Header::new(Algorithm::EdDSA) };
        let key = EncodingKey::from_ed_der(&self.1.serialize_der());
        jsonwebtoken::encode(&header, &claims, &key).unwrap()
    }
}

fn set(keys: &[&Key]) -> Vec<u8> {
    let keys = keys.iter().map(|Key(id, pair)| {
        let x = URL_SAFE_NO_PAD.encode(pair.public_key_raw());
        json!({ "kty": "OKP", "crv": "Ed25519", "kid": id, "x": x })
    });
    json!({ "keys": keys.collect::<Vec<_>>() }).to_string().into_bytes()
}

/// What becomes of a decrypt with this token.
fn shown(i: &Installation, sealed: &[u8], token: &str) -> String {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let field = v1::Field {
            key: "keys/customer-pii".into(),
            table: "users".into(),
            column: "email".into(),
            extra_context: Vec::new(),
        };
        let reason =
            v1::AccessReason { end_user_assertion: token.to_owned(), ..Default::default() };
        let request = v1::DecryptRequest {
            field: Some(field),
            ciphertext: sealed.trim_ascii_end().to_vec().into(),
            reason: Some(reason),
            ..Default::default()
        };
        match i.client("app").await.encryption().decrypt(request).await {
            Ok(_) => "OK".to_owned(),
            Err(status) => Failure::from(&status).reason().to_owned(),
        }
    })
}

#[test]
fn keys_are_fetched_at_the_start_on_a_reload_and_for_a_key_that_is_new() {
    let mut i = Installation::with_key();
    let sealed = i.ok("app", &place("encrypt", &[]), b"x");
    let (old, new) = (Key::new("old"), Key::new("new"));
    let served = Arc::new(Mutex::new(set(&[&old])));
    let web = {
        let served = Arc::clone(&served);
        Web::listening(Some(&i.home().join("tls")), move |asked| match asked.path.as_str() {
            "/jwks" => (200, served.lock().unwrap().clone()),
            _ => (404, Vec::new()),
        })
    };
    let issuers = format!(
        "[[issuer]]\niss = \"https://login.test\"\naudience = [\"fieldseal\"]\n\
         algorithms = [\"EdDSA\"]\njwks_url = \"https://{}/jwks\"\njwks_ca = \"../tls/ca.pem\"\n",
        web.address
    );
    write(&i.home().join("policy/issuers.toml"), &issuers);
    i.ok("ops", &["policy", "reload"], b"");
    let until = |i: &mut Installation, token: &str, becomes: &str| {
        let (running, mut lines) = i.sidecar.take().unwrap();
        lines.until(|| (shown(i, &sealed, token) == becomes).then_some(()));
        i.sidecar = Some((running, lines));
    };
    until(&mut i, &old.token(), "OK");
    let digest = |i: &Installation| i.json("ops", &["status"])["policy_digest"].clone();
    let before = digest(&i);

    // While nobody answers the last keys count, over a reload too.
    web.becomes(|_| (503, Vec::new()));
    i.ok("ops", &["policy", "reload"], b"");
    let (running, mut lines) = i.sidecar.take().unwrap();
    let line = lines.wait(|line| event("issuer_keys_failed", line));
    i.sidecar = Some((running, lines));
    assert_eq!(line["error"], "it answers with 503", "{line}");
    assert_eq!(shown(&i, &sealed, &old.token()), "OK");
    // Of a key that it does not know nothing can be said until it answers.
    assert_eq!(shown(&i, &sealed, &new.token()), "END_USER_KEYS_PENDING");
    assert_eq!(digest(&i), before, "the digest is of the address, not of the keys");

    // A start goes on without keys, and says so to whoever shows a token.
    assert_eq!(i.stop(), 0);
    i.serve();
    assert_eq!(shown(&i, &sealed, &old.token()), "END_USER_KEYS_UNAVAILABLE");
    i.ok("app", &place("decrypt", &[]), &sealed);
    *served.lock().unwrap() = set(&[&new]);
    web.becomes(move |_| (200, served.lock().unwrap().clone()));
    assert_eq!(i.stop(), 0);
    i.serve();
    assert_eq!(shown(&i, &sealed, &new.token()), "OK");
    assert_eq!(shown(&i, &sealed, &old.token()), "END_USER_TOKEN_INVALID", "fetched a moment ago");
}
