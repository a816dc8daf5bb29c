//! The public keys of an issuer that answers for them at an address (a JWKS URL): when they are asked for,
//! how long they count, and what a token meets meanwhile. Whoever knows the wire fetches them.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use fieldseal_model::Timestamp;
use jsonwebtoken::Algorithm;
use parking_lot::Mutex;

use crate::jwks::{self, PublicKey};

/// Most bytes of a set that is fetched.
pub const MOST_JWKS_BYTES: usize = 256 * 1024;
/// Between two attempts to fetch one set, in seconds: an unknown key asks no sooner, and after a failure it is
/// tried again as often.
pub const JWKS_SPACING_SECONDS: i64 = 30;
/// How often a set is fetched again, in seconds.
pub const JWKS_EVERY_SECONDS: i64 = 15 * 60;
/// How long the last set that was fetched counts, in seconds.
pub const JWKS_LIFETIME_SECONDS: i64 = 24 * 3600;
const MOST_URL_BYTES: usize = 1024;

/// Where an issuer's keys are fetched, and those that were.
pub struct Remote {
    issuer: Arc<str>,
    url: String,
    ca: Option<PathBuf>,
    algorithms: Vec<Algorithm>,
    state: Mutex<State>,
    /// How often the keys became others.
    revision: AtomicU64,
}

#[derive(Default)]
struct State {
    found: Option<Found>,
    /// When the last attempt began, in seconds since 1970.
    attempted: Option<i64>,
    /// The last attempt has not ended.
    is_fetching: bool,
    /// It failed.
    has_failed: bool,
    /// A token named a key that was not known yet.
    is_asked: bool,
}

/// Keys, and when they were asked for.
#[derive(Clone)]
struct Found {
    text: Arc<str>,
    keys: Arc<Vec<PublicKey>>,
    at: i64,
}

/// What a token meets.
pub(crate) enum Known {
    /// These keys count.
    Keys(Arc<Vec<PublicKey>>),
    /// There are none, or they are too old.
    Unavailable,
}

/// What a fetch came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fetched {
    /// The keys are as they were.
    Same,
    /// So many keys count from now on.
    Changed(usize),
}

impl Remote {
    /// An address `https://…` with the file of the authorities that issue its certificate, or `http://…` on
    /// this machine without one.
    pub(crate) fn new(
        issuer: &str,
        url: String,
        ca: Option<PathBuf>,
        algorithms: Vec<Algorithm>,
    ) -> Result<Self, String> {
        let is_https = url.starts_with("https://");
        if url.len() > MOST_URL_BYTES || !is_address(&url) {
            return Err("jwks_url is https://HOST/PATH, or http:// with a loopback address".into());
        }
        if is_https != ca.is_some() {
            return Err(match is_https {
                true => "with an https jwks_url jwks_ca names the file of its authorities".into(),
                false => "jwks_ca is for an https jwks_url".to_owned(),
            });
        }
        let (state, revision) = (Mutex::default(), AtomicU64::new(0));
        Ok(Self { issuer: issuer.into(), url, ca, algorithms, state, revision })
    }

    /// Whose keys they are.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// An attempt to fetch them, if one is due; until it is dropped there is no other.
    #[must_use]
    pub fn begin(self: &Arc<Self>, now: Timestamp) -> Option<Attempt> {
        let (now, mut state) = (seconds(now), self.state.lock());
        // A clock that was turned back makes nothing wait.
        let since = state.attempted.map(|at| now - at).filter(|since| *since >= 0);
        let wait = match state.is_asked || state.has_failed {
            true => JWKS_SPACING_SECONDS,
            false => JWKS_EVERY_SECONDS,
        };
        if state.is_fetching || since.is_some_and(|since| since < wait) {
            return None;
        }
        (state.is_fetching, state.is_asked, state.attempted) = (true, false, Some(now));
        Some(Attempt { of: Arc::clone(self), has_ended: false })
    }

    fn fetched(&self, text: &[u8]) -> Result<Fetched, String> {
        let text = std::str::from_utf8(text).map_err(|_| "it is no UTF-8".to_owned());
        let keys = text.and_then(|text| {
            let keys = jwks::parse(text, &self.algorithms)?;
            Ok((Arc::from(text), Arc::new(keys)))
        });
        let mut state = self.state.lock();
        (state.is_fetching, state.has_failed) = (false, keys.is_err());
        let (text, keys) = keys?;
        let at = state.attempted.unwrap_or_default();
        let is_same = state.found.as_ref().is_some_and(|found| found.text == text);
        let count = keys.len();
        state.found = Some(Found { text, keys, at });
        if is_same {
            return Ok(Fetched::Same);
        }
        self.revision.fetch_add(1, Ordering::AcqRel);
        Ok(Fetched::Changed(count))
    }

    /// Goes on with what was fetched for the same issuer of an earlier policy. It is fetched again at once.
    pub(crate) fn adopt(&self, before: &Self) {
        let is_same =
            self.url == before.url && self.ca == before.ca && self.algorithms == before.algorithms;
        if is_same {
            self.state.lock().found = before.state.lock().found.clone();
        }
    }

    pub(crate) fn revision(&self) -> u64 {
        self.revision.load(Ordering::Acquire)
    }

    pub(crate) fn known(&self, now: Timestamp) -> Known {
        let found = self.state.lock().found.clone();
        let in_time = |found: &Found| seconds(now) - found.at < JWKS_LIFETIME_SECONDS;
        match found.filter(in_time) {
            Some(found) => Known::Keys(found.keys),
            None => Known::Unavailable,
        }
    }

    /// A token names a key that is not among those that are known. True: they are asked for again, and it may
    /// be among them then; false: they were, a moment ago.
    pub(crate) fn ask(&self, now: Timestamp) -> bool {
        let (now, mut state) = (seconds(now), self.state.lock());
        let is_recent =
            state.attempted.is_some_and(|at| (0..JWKS_SPACING_SECONDS).contains(&(now - at)));
        if is_recent && !state.is_fetching && !state.has_failed {
            return false;
        }
        state.is_asked |= !state.is_fetching;
        true
    }
}

/// An attempt to fetch keys. Dropped without an answer it has failed, and the keys before stay.
pub struct Attempt {
    of: Arc<Remote>,
    has_ended: bool,
}

impl Attempt {
    /// Whose keys they are.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.of.issuer
    }

    /// Where they are.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.of.url
    }

    /// The file of the authorities that issue the address's certificate; `None` in clear.
    #[must_use]
    pub fn ca(&self) -> Option<&Path> {
        self.of.ca.as_deref()
    }

    /// Ends it with what the address answered.
    ///
    /// # Errors
    /// What is wrong with that, without a part of it; the keys before stay.
    pub fn fetched(mut self, set: &[u8]) -> Result<Fetched, String> {
        self.has_ended = true;
        self.of.fetched(set)
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if !self.has_ended {
            let mut state = self.of.state.lock();
            (state.is_fetching, state.has_failed) = (false, true);
        }
    }
}

fn seconds(at: Timestamp) -> i64 {
    at.unix_nanos().div_euclid(1_000_000_000)
}

/// Whether it is an address without a user, a fragment or anything that is no plain character; in clear only on
/// this machine.
fn is_address(url: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_graphic() && !b"\"#<>@\\^`{|}".contains(&byte);
    let (rest, is_clear) = match (url.strip_prefix("https://"), url.strip_prefix("http://")) {
        (Some(rest), _) => (rest, false),
        (None, Some(rest)) => (rest, true),
        (None, None) => return false,
    };
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => {
            if port.parse::<u16>().is_err() {
                return false;
            }
            host
        }
        _ => authority,
    };
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let is_loopback = || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    url.bytes().all(plain) && !host.is_empty() && (!is_clear || is_loopback())
}

#[cfg(test)]
mod tests {
    use super::is_address;

    #[test]
    fn keys_come_over_tls_or_from_this_machine() {
        for taken in [
            "https://login.example.com/jwks",
            "https://login.example.com:8443/a/b?c=d",
            "https://[2001:db8::1]/jwks",
            "https://[2001:db8::1]:8443/jwks",
            "http://127.0.0.1:9/jwks",
            "http://[::1]:9/jwks",
        ] {
            assert!(is_address(taken), "{taken}");
        }
        for refused in [
            "",
            "login.example.com/jwks",
            "https://",
            "https:///jwks",
            "https://:443/jwks",
            "https://host:x/jwks",
            "https://user:word@host/jwks",
            "https://host/jwks#part",
            "https://host/a b",
            "http://login.example.com/jwks",
            "http://localhost:9/jwks",
            "http://10.0.0.1:9/jwks",
            "http://127.0.0.1.example/jwks",
            "ftp://127.0.0.1/jwks",
            "file:///etc/jwks",
        ] {
            assert!(!is_address(refused), "{refused}");
        }
    }
}
