//! `issuers.toml`: whose tokens about end users are taken.
//!
//! ```toml
//! [[issuer]]
//! iss = "https://login.example.com"
//! audience = ["fieldseal"]
//! algorithms = ["ES256"]
//! keys = "login.jwks.json"   # or jwks_url, with jwks_ca
//! ```

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fieldseal_model::EndUser;
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use toml::Spanned;

use crate::jwks::{self, PublicKey};
use crate::remote::Remote;
use crate::secret;

/// The file's name in a policy's directory.
pub const ISSUERS_FILE: &str = "issuers.toml";
/// How the names of files of public keys end. They lie beside it.
pub const JWKS_SUFFIX: &str = ".jwks.json";
/// Most issuers.
const MAX_ISSUERS: usize = 1000;
/// Most audiences of one.
const MAX_AUDIENCES: usize = 16;
/// The algorithms of issuers with public keys.
const ALGORITHMS: [(&str, Algorithm); 3] =
    [("RS256", Algorithm::RS256), ("ES256", Algorithm::ES256), ("EdDSA", Algorithm::EdDSA)];

/// A file that was read: its bare name and its text.
#[derive(Clone, Copy)]
pub struct File<'a> {
    /// The bare name.
    pub name: &'a str,
    /// The text.
    pub text: &'a str,
}

/// What is wrong, and where in `issuers.toml`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrong {
    /// The byte from which on it is wrong.
    pub at: usize,
    /// What is expected.
    pub message: String,
}

/// The issuers whose tokens are taken, by name. None: no token is.
#[derive(Default)]
pub struct Issuers(HashMap<Arc<str>, Issuer>);

/// Somebody who says who an end user is.
pub(crate) struct Issuer {
    pub(crate) name: Arc<str>,
    /// One of them must be named by a token; empty: the token's audience says nothing.
    pub(crate) audience: Vec<String>,
    pub(crate) keys: Keys,
}

pub(crate) enum Keys {
    /// Signatures under public keys, with the algorithms that are taken.
    Public(Vec<PublicKey>),
    /// The same, fetched from an address.
    Remote(Arc<Remote>),
    /// Atlassian Connect: HS256 under a secret that the issuer and this installation share, and each
    /// token bound to one request.
    Connect(DecodingKey),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(default)]
    issuer: Vec<Spanned<Entry>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    iss: String,
    #[serde(default)]
    audience: Vec<String>,
    #[serde(default)]
    algorithms: Vec<String>,
    keys: Option<String>,
    jwks_url: Option<String>,
    jwks_ca: Option<PathBuf>,
    connect_secret_file: Option<PathBuf>,
}

impl Issuers {
    /// Parses `issuers.toml`. `beside` are the files of public keys, and a relative path of a secret
    /// begins in `directory`.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn parse(text: &str, beside: &[File<'_>], directory: &Path) -> Result<Self, Vec<Wrong>> {
        let document: Document = toml::from_str(text).map_err(|e| {
            let at = e.span().map_or(0, |span| span.start);
            vec![Wrong { at, message: e.message().replace('\n', " ") }]
        })?;
        let (mut issuers, mut wrong) = (HashMap::new(), Vec::new());
        if document.issuer.len() > MAX_ISSUERS {
            let message = format!("at most {MAX_ISSUERS} issuers are allowed");
            return Err(vec![Wrong { at: 0, message }]);
        }
        for entry in document.issuer {
            let at = entry.span().start;
            match issuer(entry.into_inner(), beside, directory) {
                Ok(issuer) if issuers.contains_key(&issuer.name) => {
                    let message = "there is an issuer of this name already".to_owned();
                    wrong.push(Wrong { at, message });
                }
                Ok(issuer) => drop(issuers.insert(Arc::clone(&issuer.name), issuer)),
                Err(message) => wrong.push(Wrong { at, message }),
            }
        }
        if wrong.is_empty() { Ok(Self(issuers)) } else { Err(wrong) }
    }

    /// Whether no token is taken.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether tokens of an issuer of this name are taken.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Those whose keys are fetched.
    pub fn remotes(&self) -> impl Iterator<Item = &Arc<Remote>> {
        self.0.values().filter_map(|issuer| match &issuer.keys {
            Keys::Remote(remote) => Some(remote),
            Keys::Public(_) | Keys::Connect(_) => None,
        })
    }

    /// Goes on with the keys that the issuers of an earlier policy fetched, where nothing else changed.
    pub fn adopt(&self, before: &Self) {
        for remote in self.remotes() {
            if let Some(Issuer { keys: Keys::Remote(earlier), .. }) = before.of(remote.issuer()) {
                remote.adopt(earlier);
            }
        }
    }

    /// Changes whenever keys that were fetched do: what was checked under others is checked again.
    pub(crate) fn revision(&self) -> u64 {
        self.remotes().map(|remote| remote.revision()).sum()
    }

    pub(crate) fn of(&self, name: &str) -> Option<&Issuer> {
        self.0.get(name)
    }
}

fn issuer(entry: Entry, beside: &[File<'_>], directory: &Path) -> Result<Issuer, String> {
    let Entry { iss, audience, algorithms, keys, jwks_url, jwks_ca, connect_secret_file } = entry;
    if !is_word(&iss) {
        return Err(format!("iss is 1 to {} bytes without control characters", EndUser::MAX_BYTES));
    }
    if audience.len() > MAX_AUDIENCES || !audience.iter().all(|word| is_word(word)) {
        return Err(format!(
            "audience has at most {MAX_AUDIENCES} texts of 1 to {} bytes",
            EndUser::MAX_BYTES
        ));
    }
    if jwks_ca.is_some() && jwks_url.is_none() {
        return Err("jwks_ca is for an https jwks_url".to_owned());
    }
    let keys = match (keys, jwks_url, connect_secret_file) {
        (Some(keys), None, None) => {
            let algorithms = taken(&algorithms, &audience)?;
            Keys::Public(public(&keys, &algorithms, beside)?)
        }
        (None, Some(url), None) => {
            let (algorithms, ca) = (taken(&algorithms, &audience)?, jwks_ca);
            let ca = ca.map(|ca| directory.join(ca));
            Keys::Remote(Arc::new(Remote::new(&iss, url, ca, algorithms)?))
        }
        (None, None, Some(file)) if algorithms.is_empty() => {
            let secret = secret::read(&directory.join(file))?;
            let key = DecodingKey::from_secret(&secret);
            Keys::Connect(key.map_err(|_| "the secret cannot be used".to_owned())?)
        }
        (None, None, Some(_)) => {
            return Err(
                "with connect_secret_file the algorithm is HS256; leave algorithms away".into()
            );
        }
        _ => {
            return Err("an issuer has either keys or connect_secret_file, or jwks_url".to_owned());
        }
    };
    Ok(Issuer { name: iss.into(), audience, keys })
}

/// The algorithms of an issuer with public keys.
fn taken(algorithms: &[String], audience: &[String]) -> Result<Vec<Algorithm>, String> {
    if audience.is_empty() {
        return Err("an issuer with keys has an audience: what its tokens name as aud".to_owned());
    }
    let named = |word: &String| ALGORITHMS.iter().find(|(name, _)| name == word).map(|(_, a)| *a);
    let algorithms: Option<Vec<_>> = algorithms.iter().map(named).collect();
    let algorithms = algorithms.filter(|list| !list.is_empty());
    algorithms.ok_or_else(|| "algorithms are one or more of RS256, ES256 and EdDSA".to_owned())
}

fn public(
    name: &str,
    algorithms: &[Algorithm],
    beside: &[File<'_>],
) -> Result<Vec<PublicKey>, String> {
    let file = beside.iter().find(|file| file.name == name && name.ends_with(JWKS_SUFFIX));
    let file = file.ok_or_else(|| {
        format!("keys is the name of a file beside this one that ends with {JWKS_SUFFIX}")
    })?;
    jwks::parse(file.text, algorithms).map_err(|what| format!("{name}: {what}"))
}

/// Whether a text can be an issuer, an audience or a subject.
pub(crate) fn is_word(text: &str) -> bool {
    (1..=EndUser::MAX_BYTES).contains(&text.len()) && !text.chars().any(char::is_control)
}
