//! The checks of a token.
//!
//! RFC 7515 (compact form), RFC 7519 (claims), RFC 8725 (what goes wrong): the issuer that a token
//! names decides which algorithms count, never the token's header.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use fieldseal_model::Timestamp;
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, IgnoredAny};

use crate::issuers::{Issuer, Issuers, Keys, is_word};
use crate::jwks::PublicKey;
use crate::refused::{Flaw, Refused};
use crate::remote::Known;

/// Most bytes of a token. They are counted before anything of it is read.
pub const MAX_TOKEN_BYTES: usize = 8192;
/// Most seconds between `iat` and `exp`.
pub const MAX_LIFETIME_SECONDS: i64 = 600;
/// How far the issuer's clock and this one may be apart, in seconds.
pub const LEEWAY_SECONDS: i64 = 30;

/// What an issuer says, after its signature was checked.
#[derive(Clone, PartialEq, Eq)]
pub struct Claims {
    issuer: Arc<str>,
    subject: Arc<str>,
    issued_at: i64,
    not_before: Option<i64>,
    expires_at: i64,
    query_hash: Option<String>,
    /// Whether it holds for one request only.
    connect: bool,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    /// Names extensions that must be understood. None is.
    crit: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct Body {
    iss: Option<String>,
    sub: Option<String>,
    aud: Option<Audience>,
    iat: Option<Seconds>,
    nbf: Option<Seconds>,
    exp: Option<Seconds>,
    qsh: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

/// A NumericDate: seconds since 1970, perhaps with a fraction, which is cut off.
#[derive(Clone, Copy)]
struct Seconds(i64);

/// Far beyond every date that is meant, and far from what overflows.
const MOST_SECONDS: i64 = 1 << 40;

impl<'de> Deserialize<'de> for Seconds {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let number = serde_json::Number::deserialize(from)?;
        let whole = number.as_i64().or_else(|| {
            let float = number.as_f64().filter(|float| float.abs() < 1e12)?;
            // Within its range, so that the integer part fits.
            #[allow(clippy::cast_possible_truncation, reason = "the range is checked above")]
            Some(float.floor() as i64)
        });
        let whole = whole.filter(|seconds| (0..MOST_SECONDS).contains(seconds));
        whole.map(Self).ok_or_else(|| D::Error::custom("no date"))
    }
}

/// The parts of a token in its compact form.
pub(crate) struct Parts<'a> {
    pub(crate) signed: &'a str,
    pub(crate) signature: &'a str,
    header: Header,
    body: Body,
}

impl<'a> Parts<'a> {
    /// Cuts a token and reads what stands in it. Nothing of that is known to be true.
    pub(crate) fn cut(token: &'a str) -> Result<Self, Flaw> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(Flaw::Length);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(Flaw::Form)?;
        let (header, body) = signed.split_once('.').ok_or(Flaw::Form)?;
        let header: Header = read(header)?;
        // A body with a second dot in it is no base64url.
        let body: Body = read(body).map_err(|flaw| match flaw {
            Flaw::Claims => Flaw::Claims,
            _ => Flaw::Form,
        })?;
        Ok(Self { signed, signature, header, body })
    }
}

/// Decodes a part. What is JSON and does not fit is a matter of the claims in it.
fn read<T: serde::de::DeserializeOwned>(part: &str) -> Result<T, Flaw> {
    let bytes = URL_SAFE_NO_PAD.decode(part).map_err(|_| Flaw::Form)?;
    serde_json::from_slice(&bytes).map_err(|e| if e.is_data() { Flaw::Claims } else { Flaw::Form })
}

impl Issuers {
    /// Checks form, algorithm, key, signature, issuer, audience and subject of a token.
    ///
    /// # Errors
    /// The first flaw that is found.
    pub(crate) fn vouch(&self, parts: Parts<'_>, now: Timestamp) -> Result<Claims, Refused> {
        let Parts { signed, signature, header, body } = parts;
        if header.crit.is_some() {
            return Err(Flaw::Form.into());
        }
        let issuer = self.of(body.iss.as_deref().ok_or(Flaw::Claims)?).ok_or(Flaw::Issuer)?;
        let holds = issuer.with_key(&header, now, |algorithm, key| {
            jsonwebtoken::crypto::verify(signature, signed.as_bytes(), key, algorithm)
        })?;
        if !holds.unwrap_or(false) {
            return Err(Flaw::Signature.into());
        }
        if !issuer.is_meant(body.aud.as_ref()) {
            return Err(Flaw::Audience.into());
        }
        let subject = body.sub.filter(|subject| is_word(subject)).ok_or(Flaw::Claims)?;
        let Seconds(issued_at) = body.iat.ok_or(Flaw::Claims)?;
        let Seconds(expires_at) = body.exp.ok_or(Flaw::Claims)?;
        if !(1..=MAX_LIFETIME_SECONDS).contains(&(expires_at - issued_at)) {
            return Err(Flaw::Lifetime.into());
        }
        Ok(Claims {
            issuer: Arc::clone(&issuer.name),
            subject: subject.into(),
            issued_at,
            not_before: body.nbf.map(|Seconds(at)| at),
            expires_at,
            // One that is no hash holds for no request.
            query_hash: body.qsh.filter(|hash| is_sha256(hash)),
            connect: matches!(issuer.keys, Keys::Connect(_)),
        })
    }
}

impl Issuer {
    /// Uses the key that a header asks for, if it is the issuer's and its algorithm is taken.
    fn with_key<T>(
        &self,
        header: &Header,
        now: Timestamp,
        verify: impl FnOnce(Algorithm, &DecodingKey) -> T,
    ) -> Result<T, Refused> {
        match &self.keys {
            Keys::Connect(key) if header.alg == "HS256" => Ok(verify(Algorithm::HS256, key)),
            Keys::Connect(_) => Err(Flaw::Algorithm.into()),
            Keys::Public(keys) => {
                let key = named(keys, header)?;
                Ok(verify(key.algorithm, &key.key))
            }
            Keys::Remote(remote) => {
                let Known::Keys(keys) = remote.known(now) else {
                    return Err(Refused::KeysUnavailable);
                };
                match named(&keys, header) {
                    Ok(key) => Ok(verify(key.algorithm, &key.key)),
                    // A key that the token names may be newer than those that were fetched.
                    Err(Flaw::Key) if header.kid.is_some() && remote.ask(now) => {
                        Err(Refused::KeysPending)
                    }
                    Err(flaw) => Err(flaw.into()),
                }
            }
        }
    }

    fn is_meant(&self, audience: Option<&Audience>) -> bool {
        let named = |word: &String| self.audience.contains(word);
        match audience {
            _ if self.audience.is_empty() => true,
            Some(Audience::One(word)) => named(word),
            Some(Audience::Many(words)) => words.iter().any(named),
            None => false,
        }
    }
}

/// The key that a header asks for.
fn named<'a>(keys: &'a [PublicKey], header: &Header) -> Result<&'a PublicKey, Flaw> {
    let fits = |alg: Algorithm| header.alg == format!("{alg:?}");
    let mut of = keys.iter().filter(|key| fits(key.algorithm)).peekable();
    of.peek().ok_or(Flaw::Algorithm)?;
    let mut named = of.filter(|key| header.kid.is_none() || key.id == header.kid);
    match (named.next(), named.next()) {
        (Some(key), None) => Ok(key),
        _ => Err(Flaw::Key),
    }
}

impl Claims {
    /// Who vouches.
    #[must_use]
    pub fn issuer(&self) -> &Arc<str> {
        &self.issuer
    }

    /// Who it is.
    #[must_use]
    pub fn subject(&self) -> &Arc<str> {
        &self.subject
    }

    /// The second from which on it is refused.
    pub(crate) fn ends(&self) -> i64 {
        self.expires_at.saturating_add(LEEWAY_SECONDS)
    }

    /// Whether it holds now, and for the request that the caller states the hash of.
    pub(crate) fn hold(&self, now: Timestamp, query_hash: &str) -> Result<(), Refused> {
        let now = now.unix_nanos().div_euclid(1_000_000_000);
        let begins = self.issued_at.max(self.not_before.unwrap_or(self.issued_at));
        if begins > now.saturating_add(LEEWAY_SECONDS) {
            return Err(Flaw::NotYet.into());
        }
        if now >= self.ends() {
            return Err(Refused::Expired);
        }
        let bound = self.connect || !query_hash.is_empty();
        if bound && !(is_sha256(query_hash) && self.query_hash.as_deref() == Some(query_hash)) {
            return Err(Flaw::QueryHash.into());
        }
        Ok(())
    }
}

/// SHA-256 in lower-case hexadecimal. A token of Connect that holds for a whole page has no hash.
fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}
