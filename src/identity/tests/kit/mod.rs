//! Issuers that sign tokens with keys made for one test.

#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a kit of tests: not each of them uses all of it"
)]

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use fieldseal_identity::{Claims, File, Issuers, Refused, Shown};
use fieldseal_model::{Principal, Timestamp};
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519, PKCS_RSA_SHA256, RsaKeySize};
use serde_json::{Value, json};

/// When the tokens of [`claims`] are issued, in seconds.
pub(crate) const NOW: i64 = 1_800_000_000;
pub(crate) const ISS: &str = "https://login.test";

/// A key of an issuer, with its id.
pub(crate) struct Key {
    pub(crate) id: &'static str,
    pub(crate) algorithm: Algorithm,
    pub(crate) private: EncodingKey,
    public: Vec<u8>,
}

impl Key {
    pub(crate) fn new(id: &'static str, algorithm: Algorithm) -> Self {
        let pair = match algorithm {
            Algorithm::ES256 => KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256),
            Algorithm::EdDSA => KeyPair::generate_for(&PKCS_ED25519),
            Algorithm::RS256 => KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048),
            _ => panic!("no public key"),
        };
        let pair = pair.unwrap();
        let (der, public) = (pair.serialize_der(), pair.public_key_raw().to_vec());
        let private = match algorithm {
            Algorithm::ES256 => EncodingKey::from_ec_der(&der),
            Algorithm::EdDSA => EncodingKey::from_ed_der(&der),
            // PKCS #1 alone, which PKCS #8 begins with 26 bytes before.
            _ => EncodingKey::from_rsa_der(der.get(26..).unwrap_or_default()),
        };
        Self { id, algorithm, private, public }
    }

    /// The public half, as it stands in a set.
    pub(crate) fn jwk(&self) -> Value {
        if self.algorithm == Algorithm::EdDSA {
            let x = URL_SAFE_NO_PAD.encode(&self.public);
            return json!({ "kty": "OKP", "crv": "Ed25519", "x": x, "kid": self.id });
        }
        let jwk = Jwk::from_encoding_key(&self.private, self.algorithm).unwrap();
        let mut jwk = serde_json::to_value(jwk).unwrap();
        jwk["kid"] = self.id.into();
        jwk
    }

    pub(crate) fn sign(&self, claims: &Value) -> String {
        let header = json!({ "alg": format!("{:?}", self.algorithm), "kid": self.id });
        self.sign_with(&header, claims)
    }

    pub(crate) fn sign_with(&self, header: &Value, claims: &Value) -> String {
        signed(header, &claims.to_string(), &self.private, self.algorithm)
    }
}

pub(crate) fn part(text: &str) -> String {
    URL_SAFE_NO_PAD.encode(text)
}

pub(crate) fn signed(header: &Value, body: &str, key: &EncodingKey, alg: Algorithm) -> String {
    let message = format!("{}.{}", part(&header.to_string()), part(body));
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), key, alg).unwrap();
    format!("{message}.{signature}")
}

/// The claims of a token that holds from [`NOW`] for five minutes.
pub(crate) fn claims() -> Value {
    json!({ "iss": ISS, "sub": "alice", "aud": "fieldseal", "iat": NOW, "exp": NOW + 300 })
}

pub(crate) fn with(name: &str, value: impl Into<Value>) -> Value {
    let mut claims = claims();
    claims[name] = value.into();
    claims
}

pub(crate) fn without(name: &str) -> Value {
    let mut claims = claims();
    claims.as_object_mut().unwrap().remove(name);
    claims
}

pub(crate) fn set(keys: &[&Key]) -> String {
    json!({ "keys": keys.iter().map(|key| key.jwk()).collect::<Vec<_>>() }).to_string()
}

/// The issuer [`ISS`] with these keys, whose algorithms are all taken.
pub(crate) fn issuers(keys: &[&Key]) -> Issuers {
    let mut algorithms: Vec<_> = keys.iter().map(|key| format!("{:?}", key.algorithm)).collect();
    algorithms.dedup();
    let text = format!(
        "[[issuer]]\niss = \"{ISS}\"\naudience = [\"fieldseal\", \"other\"]\n\
         algorithms = {algorithms:?}\nkeys = \"login.jwks.json\"\n"
    );
    let set = set(keys);
    let beside = [File { name: "login.jwks.json", text: &set }];
    Issuers::parse(&text, &beside, Path::new("")).unwrap_or_else(|wrong| panic!("{wrong:?}"))
}

pub(crate) fn at(second: i64) -> Timestamp {
    Timestamp::from_unix_nanos(second * 1_000_000_000)
}

pub(crate) fn app(name: &str) -> Principal {
    Principal::parse(&format!("dns:{name}.test")).unwrap()
}

/// What becomes of a token that `dns:app.test` shows first, so many seconds after [`NOW`].
pub(crate) fn shown(issuers: &Issuers, token: &str, after: i64) -> Result<String, Refused> {
    let checked = Shown::default().check(issuers, 1, token, "", &app("app"), at(NOW + after));
    checked.map(|claims| who(&claims)).map_err(|(refused, _)| refused)
}

pub(crate) fn who(claims: &Claims) -> String {
    format!("{} {}", claims.issuer(), claims.subject())
}
