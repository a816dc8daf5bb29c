//! A set of public keys (RFC 7517).

use std::collections::HashSet;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;

/// Most keys in a set.
const MAX_KEYS: usize = 100;
/// Bytes of an RSA modulus: 2048 to 8192 bits.
const RSA_BYTES: std::ops::RangeInclusive<usize> = 256..=1024;

/// A public key of an issuer. It serves one algorithm.
pub(crate) struct PublicKey {
    pub(crate) id: Option<String>,
    pub(crate) algorithm: Algorithm,
    pub(crate) key: DecodingKey,
}

#[derive(Deserialize)]
struct Set {
    keys: Vec<Jwk>,
}

/// What is looked at of a key. Other members are passed over, as the RFC says.
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    #[serde(rename = "use")]
    used_for: Option<String>,
    alg: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
    /// Of a private key.
    d: Option<serde::de::IgnoredAny>,
    /// Of a symmetric key.
    k: Option<serde::de::IgnoredAny>,
}

/// The keys of a set that serve these algorithms.
///
/// # Errors
/// If it is no set, holds what is secret or broken, or has no key for one of the algorithms.
pub(crate) fn parse(text: &str, algorithms: &[Algorithm]) -> Result<Vec<PublicKey>, String> {
    // The error of the parser would repeat what it found.
    let set: Set = serde_json::from_str(text)
        .map_err(|e| format!("line {} is no part of a JSON web key set", e.line()))?;
    if set.keys.len() > MAX_KEYS {
        return Err(format!("a set has at most {MAX_KEYS} keys"));
    }
    if set.keys.iter().any(|key| key.d.is_some() || key.k.is_some()) {
        return Err("a key is private or symmetric; only public keys belong here".to_owned());
    }
    let mut keys = Vec::new();
    for (place, jwk) in set.keys.iter().enumerate() {
        let broken = || format!("the key number {} cannot be used", place + 1);
        if let Some((algorithm, key)) = usable(jwk, algorithms).ok_or_else(broken)? {
            keys.push(PublicKey { id: jwk.kid.clone(), algorithm, key });
        }
    }
    let mut seen = HashSet::new();
    if !keys.iter().all(|key| seen.insert((key.id.as_deref(), key.algorithm))) {
        return Err("two keys have the same kid, or none, for one algorithm".to_owned());
    }
    let missing = algorithms.iter().find(|wanted| keys.iter().all(|k| k.algorithm != **wanted));
    match missing {
        Some(algorithm) => Err(format!("it has no key for {algorithm:?}")),
        None => Ok(keys),
    }
}

/// The key, if it is for signatures under one of the algorithms; the outer `None`: it is broken.
fn usable(jwk: &Jwk, algorithms: &[Algorithm]) -> Option<Option<(Algorithm, DecodingKey)>> {
    let algorithm = match (jwk.kty.as_str(), jwk.crv.as_deref()) {
        ("RSA", _) => Algorithm::RS256,
        ("EC", Some("P-256")) => Algorithm::ES256,
        ("OKP", Some("Ed25519")) => Algorithm::EdDSA,
        _ => return Some(None),
    };
    let meant = jwk.alg.as_deref().is_none_or(|alg| alg == format!("{algorithm:?}"));
    let signs = jwk.used_for.as_deref().is_none_or(|used_for| used_for == "sig");
    if !meant || !signs || !algorithms.contains(&algorithm) {
        return Some(None);
    }
    let bytes = |member: &Option<String>| URL_SAFE_NO_PAD.decode(member.as_ref()?).ok();
    let key = match algorithm {
        Algorithm::RS256 => {
            let (modulus, exponent) = (bytes(&jwk.n)?, bytes(&jwk.e)?);
            let size = modulus.iter().skip_while(|byte| **byte == 0).count();
            if !RSA_BYTES.contains(&size) || exponent.is_empty() {
                return None;
            }
            DecodingKey::from_rsa_raw_components(&modulus, &exponent)
        }
        Algorithm::ES256 => {
            let (x, y) = (bytes(&jwk.x)?, bytes(&jwk.y)?);
            if x.len() != 32 || y.len() != 32 {
                return None;
            }
            DecodingKey::from_ec_components(jwk.x.as_ref()?, jwk.y.as_ref()?).ok()?
        }
        _ => {
            if bytes(&jwk.x)?.len() != 32 {
                return None;
            }
            DecodingKey::from_ed_components(jwk.x.as_ref()?).ok()?
        }
    };
    Some(Some((algorithm, key)))
}
