//! Keys that an issuer answers for at an address: what a token meets while they are fetched, and for how long
//! they count.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot be set up fails"
)]

mod kit;

use std::path::Path;
use std::sync::Arc;

use fieldseal_identity::{
    Attempt, Fetched, Flaw, Issuers, JWKS_EVERY_SECONDS, JWKS_LIFETIME_SECONDS,
    JWKS_SPACING_SECONDS, Refused, Remote, Shown,
};
use jsonwebtoken::Algorithm;
use kit::{ISS, Key, NOW, app, at, set, shown, who, with};
use serde_json::json;

fn text(more: &str) -> String {
    format!(
        "[[issuer]]\niss = \"{ISS}\"\naudience = [\"fieldseal\"]\nalgorithms = [\"ES256\"]\n{more}\n"
    )
}

fn parsed(more: &str) -> Result<Issuers, String> {
    Issuers::parse(&text(more), &[], Path::new("policy")).map_err(|wrong| format!("{wrong:?}"))
}

fn remote() -> Issuers {
    parsed("jwks_url = \"https://login.test/jwks\"\njwks_ca = \"ca.pem\"").unwrap()
}

fn of(issuers: &Issuers) -> Arc<Remote> {
    Arc::clone(issuers.remotes().next().unwrap())
}

/// An attempt that is due so many seconds after [`NOW`].
fn due(issuers: &Issuers, after: i64) -> Option<Attempt> {
    of(issuers).begin(at(NOW + after))
}

fn fetch(issuers: &Issuers, after: i64, keys: &[&Key]) -> Result<Fetched, String> {
    due(issuers, after).unwrap().fetched(set(keys).as_bytes())
}

fn token(key: &Key, after: i64) -> String {
    let mut claims = with("iat", NOW + after);
    claims["exp"] = json!(NOW + after + 300);
    key.sign(&claims)
}

const ALICE: &str = "https://login.test alice";

#[test]
fn an_address_that_is_not_whole_is_refused() {
    for (more, said) in [
        ("jwks_url = \"https://login.test/jwks\"", "jwks_ca names the file"),
        ("jwks_url = \"http://127.0.0.1:9/jwks\"\njwks_ca = \"ca.pem\"", "jwks_ca is for an https"),
        ("jwks_url = \"http://login.test/jwks\"", "jwks_url is https://HOST/PATH"),
        ("jwks_url = \"https://a:b@login.test/jwks\"\njwks_ca = \"ca.pem\"", "jwks_url is https"),
        ("keys = \"a.jwks.json\"\njwks_ca = \"ca.pem\"", "jwks_ca is for an https"),
        ("jwks_url = \"http://127.0.0.1:9/\"\nkeys = \"a.jwks.json\"", "either keys or"),
        ("jwks_url = \"http://127.0.0.1:9/\"\nconnect_secret_file = \"x\"", "either keys or"),
        ("jwks_file = \"a.jwks.json\"", "unknown field"),
    ] {
        let found = parsed(more).err().unwrap();
        assert!(found.contains(said), "{more}: {found}");
    }
    let attempt = due(&remote(), 0).unwrap();
    assert_eq!((attempt.issuer(), attempt.url()), (ISS, "https://login.test/jwks"));
    assert_eq!(attempt.ca(), Some(Path::new("policy/ca.pem")));
    let clear = parsed("jwks_url = \"http://127.0.0.1:9/jwks\"").unwrap();
    assert_eq!(due(&clear, 0).unwrap().ca(), None);
}

#[test]
fn a_key_that_is_not_known_is_asked_for_once_and_refused_after_that() {
    let (old, new) = (Key::new("old", Algorithm::ES256), Key::new("new", Algorithm::ES256));
    let issuers = remote();
    assert_eq!(shown(&issuers, &token(&old, 0), 0), Err(Refused::KeysUnavailable));
    assert_eq!(fetch(&issuers, 0, &[&old]), Ok(Fetched::Changed(1)));
    assert_eq!(shown(&issuers, &token(&old, 0), 0), Ok(ALICE.to_owned()));
    // It was fetched a moment ago: a key that is not there then does not exist.
    let unknown = Err(Refused::Invalid(Flaw::Key));
    assert_eq!(shown(&issuers, &token(&new, 0), 1), unknown);
    assert!(due(&issuers, JWKS_SPACING_SECONDS).is_none(), "nobody asked");
    let later = JWKS_SPACING_SECONDS + 1;
    assert_eq!(shown(&issuers, &token(&new, later), later), Err(Refused::KeysPending));
    let attempt = due(&issuers, later).unwrap();
    assert!(due(&issuers, later).is_none(), "one at a time");
    assert_eq!(shown(&issuers, &token(&new, later), later), Err(Refused::KeysPending));
    assert_eq!(shown(&issuers, &token(&old, later), later), Ok(ALICE.to_owned()), "it goes on");
    assert_eq!(attempt.fetched(set(&[&old, &new]).as_bytes()), Ok(Fetched::Changed(2)));
    assert_eq!(shown(&issuers, &token(&new, later), later), Ok(ALICE.to_owned()));
    let third = Key::new("third", Algorithm::ES256);
    for _ in 0..3 {
        assert_eq!(shown(&issuers, &token(&third, later), later), unknown);
        assert!(due(&issuers, later + 1).is_none(), "an unknown key asks no sooner");
    }
    // A key of the issuer's name that another has signed with is not asked for, and not taken.
    let forged = Key::new("old", Algorithm::ES256);
    let refused = Err(Refused::Invalid(Flaw::Signature));
    assert_eq!(shown(&issuers, &token(&forged, later), later), refused);
}

#[test]
fn keys_that_are_gone_are_not_taken_from_a_token_that_was_shown_before() {
    let (old, new) = (Key::new("old", Algorithm::ES256), Key::new("new", Algorithm::ES256));
    let (issuers, tokens) = (remote(), Shown::default());
    fetch(&issuers, 0, &[&old]).unwrap();
    let token = token(&old, 0);
    let show = |after| {
        let checked = tokens.check(&issuers, 1, &token, "", &app("app"), at(NOW + after));
        checked.map(|claims| who(&claims)).map_err(|(refused, _)| refused)
    };
    assert_eq!(show(0), Ok(ALICE.to_owned()));
    let later = JWKS_SPACING_SECONDS;
    assert_eq!(show(later), Ok(ALICE.to_owned()));
    let issued = kit::shown(&issuers, &self::token(&new, later), later);
    assert_eq!(issued, Err(Refused::KeysPending));
    assert_eq!(fetch(&issuers, later, &[&new]), Ok(Fetched::Changed(1)));
    assert_eq!(show(later), Err(Refused::Invalid(Flaw::Key)));
}

#[test]
fn the_last_good_keys_count_for_a_day_and_then_no_more() {
    let key = Key::new("one", Algorithm::ES256);
    let issuers = remote();
    fetch(&issuers, 0, &[&key]).unwrap();
    assert!(due(&issuers, JWKS_EVERY_SECONDS - 1).is_none());
    assert_eq!(fetch(&issuers, JWKS_EVERY_SECONDS, &[&key]), Ok(Fetched::Same));
    let mut now = 2 * JWKS_EVERY_SECONDS;
    // No answer, no set, a private key, nothing of the algorithm: the keys before stay.
    drop(due(&issuers, now).unwrap());
    for wrong in
        ["", "{}", "[1]", "{\"keys\":[]}", "{\"keys\":[{\"kty\":\"oct\",\"k\":\"c2VjcmV0\"}]}"]
    {
        assert!(due(&issuers, now + JWKS_SPACING_SECONDS - 1).is_none());
        now += JWKS_SPACING_SECONDS;
        let said = due(&issuers, now).unwrap().fetched(wrong.as_bytes()).unwrap_err();
        assert!(!said.contains("c2VjcmV0"), "{said}");
        assert_eq!(shown(&issuers, &token(&key, now), now), Ok(ALICE.to_owned()), "{wrong}");
    }
    now += JWKS_SPACING_SECONDS;
    assert!(due(&issuers, now).unwrap().fetched(&[0xff]).is_err());
    let last = JWKS_EVERY_SECONDS + JWKS_LIFETIME_SECONDS;
    assert_eq!(shown(&issuers, &token(&key, last - 1), last - 1), Ok(ALICE.to_owned()));
    let unavailable = Err(Refused::KeysUnavailable);
    assert_eq!(shown(&issuers, &token(&key, last), last), unavailable);
    assert_eq!(fetch(&issuers, last, &[&key]), Ok(Fetched::Same));
    assert_eq!(shown(&issuers, &token(&key, last), last), Ok(ALICE.to_owned()));
    // A clock that is turned back makes nothing wait.
    assert!(due(&issuers, -1).is_some());
}

#[test]
fn a_policy_that_is_read_again_goes_on_with_the_keys_and_fetches_them_at_once() {
    let key = Key::new("one", Algorithm::ES256);
    let before = remote();
    fetch(&before, 0, &[&key]).unwrap();
    let after = remote();
    after.adopt(&before);
    assert_eq!(shown(&after, &token(&key, 1), 1), Ok(ALICE.to_owned()));
    assert!(due(&after, 1).is_some());
    // Another address answers for itself.
    let other = parsed("jwks_url = \"http://127.0.0.1:9/jwks\"").unwrap();
    other.adopt(&before);
    assert_eq!(shown(&other, &token(&key, 1), 1), Err(Refused::KeysUnavailable));
}
