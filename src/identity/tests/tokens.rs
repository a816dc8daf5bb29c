//! What is taken as a token of an end user, and above all what is not.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot be set up fails"
)]

mod kit;

use fieldseal_identity::{Flaw, MAX_TOKEN_BYTES, Refused, Shown};
use jsonwebtoken::{Algorithm, EncodingKey};
use kit::{ISS, Key, NOW, app, at, claims, issuers, part, shown, signed, who, with, without};
use serde_json::{Value, json};

fn flaw(flaw: Flaw) -> Result<String, Refused> {
    Err(Refused::Invalid(flaw))
}

fn alice() -> Result<String, Refused> {
    Ok(format!("{ISS} alice"))
}

#[test]
fn each_algorithm_that_is_listed_is_taken() {
    for algorithm in [Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA] {
        let key = Key::new("one", algorithm);
        let of = issuers(&[&key]);
        assert_eq!(shown(&of, &key.sign(&claims()), 0), alice(), "{algorithm:?}");
        // With one key nobody needs to say which.
        let header = json!({ "alg": format!("{algorithm:?}"), "typ": "JWT" });
        assert_eq!(shown(&of, &key.sign_with(&header, &claims()), 0), alice());
    }
}

#[test]
fn the_issuer_decides_the_algorithm_and_the_key() {
    let key = Key::new("one", Algorithm::ES256);
    let (other, stranger) = (Key::new("one", Algorithm::ES256), Key::new("two", Algorithm::ES256));
    let edwards = Key::new("one", Algorithm::EdDSA);
    let of = issuers(&[&key]);
    let body = claims().to_string();
    let none = format!("{}.{}.", part(r#"{"alg":"none"}"#), part(&body));
    assert_eq!(shown(&of, &none, 0), flaw(Flaw::Algorithm));
    for alg in ["None", "NONE", "es256", "", "HS256", "RS256", "ES384", "EdDSA"] {
        let header = json!({ "alg": alg, "kid": "one" });
        assert_eq!(shown(&of, &key.sign_with(&header, &claims()), 0), flaw(Flaw::Algorithm));
    }
    // The public key as the secret of an HMAC, in the forms in which it lies about.
    let jwk = key.jwk();
    let header = json!({ "alg": "HS256", "kid": "one" });
    for public in [jwk.to_string(), jwk["x"].as_str().unwrap().to_owned()] {
        let secret = EncodingKey::from_secret(public.as_bytes()).unwrap();
        let token = signed(&header, &body, &secret, Algorithm::HS256);
        assert_eq!(shown(&of, &token, 0), flaw(Flaw::Algorithm));
        let header = json!({ "alg": "ES256", "kid": "one" });
        let token = signed(&header, &body, &secret, Algorithm::HS256);
        assert_eq!(shown(&of, &token, 0), flaw(Flaw::Signature));
    }
    assert_eq!(shown(&of, &edwards.sign(&claims()), 0), flaw(Flaw::Algorithm));
    assert_eq!(shown(&of, &other.sign(&claims()), 0), flaw(Flaw::Signature));
    assert_eq!(shown(&of, &stranger.sign(&claims()), 0), flaw(Flaw::Key));
    // Which of two keys it is must be said.
    let both = issuers(&[&key, &stranger]);
    assert_eq!(shown(&both, &stranger.sign(&claims()), 0), alice());
    let header = json!({ "alg": "ES256" });
    assert_eq!(shown(&both, &key.sign_with(&header, &claims()), 0), flaw(Flaw::Key));
    // A key in the header is none of the issuer's.
    let header = json!({ "alg": "ES256", "kid": "one", "jwk": other.jwk(), "jku": "http://x" });
    assert_eq!(shown(&of, &other.sign_with(&header, &claims()), 0), flaw(Flaw::Signature));
}

#[test]
fn claims_are_what_they_should_be() {
    let key = Key::new("one", Algorithm::EdDSA);
    let of = issuers(&[&key]);
    let long = "s".repeat(256);
    let cases: Vec<(Value, Flaw)> = vec![
        (without("iss"), Flaw::Claims),
        (without("sub"), Flaw::Claims),
        (without("iat"), Flaw::Claims),
        (without("exp"), Flaw::Claims),
        (without("aud"), Flaw::Audience),
        (with("iss", "https://login.test/"), Flaw::Issuer),
        (with("iss", "https://LOGIN.test"), Flaw::Issuer),
        (with("iss", 7), Flaw::Claims),
        (with("sub", ""), Flaw::Claims),
        (with("sub", 7), Flaw::Claims),
        (with("sub", "a\nb"), Flaw::Claims),
        (with("sub", long.as_str()), Flaw::Claims),
        (with("aud", "fieldseal2"), Flaw::Audience),
        (with("aud", ""), Flaw::Audience),
        (with("aud", json!([])), Flaw::Audience),
        (with("aud", json!(["a", "b"])), Flaw::Audience),
        (with("aud", 7), Flaw::Claims),
        (with("exp", "soon"), Flaw::Claims),
        (with("exp", -1), Flaw::Claims),
        (with("exp", 1e300), Flaw::Claims),
        (with("exp", u64::MAX), Flaw::Claims),
        (with("iat", json!(null)), Flaw::Claims),
        (with("exp", NOW + 601), Flaw::Lifetime),
        (with("exp", NOW), Flaw::Lifetime),
        (with("exp", NOW - 10), Flaw::Lifetime),
        (with("nbf", NOW + 31), Flaw::NotYet),
        (json!([]), Flaw::Claims),
        (json!("text"), Flaw::Claims),
    ];
    for (claims, expected) in cases {
        assert_eq!(shown(&of, &key.sign(&claims), 0), flaw(expected), "{claims}");
    }
    let fine = [
        with("aud", json!(["a", "other"])),
        with("exp", NOW + 600),
        with("exp", 1_800_000_300.75),
        with("nbf", NOW + 30),
        with("nonce", "more than is looked at"),
    ];
    for claims in fine {
        assert_eq!(shown(&of, &key.sign(&claims), 0), alice(), "{claims}");
    }
    // The same claim twice: which one would count?
    let twice = r#"{"iss":"https://login.test","sub":"bob","sub":"alice","aud":"fieldseal","iat":1800000000,"exp":1800000300}"#;
    let header = json!({ "alg": "EdDSA", "kid": "one" });
    let token = signed(&header, twice, &key.private, Algorithm::EdDSA);
    assert_eq!(shown(&of, &token, 0), flaw(Flaw::Claims));
}

#[test]
fn a_token_has_its_time() {
    let key = Key::new("one", Algorithm::EdDSA);
    let (of, token) = (issuers(&[&key]), key.sign(&claims()));
    for (after, expected) in [
        (-31, flaw(Flaw::NotYet)),
        (-30, alice()),
        (299, alice()),
        (329, alice()),
        (330, Err(Refused::Expired)),
        (1 << 32, Err(Refused::Expired)),
    ] {
        assert_eq!(shown(&of, &token, after), expected, "{after}");
    }
}

#[test]
fn what_is_no_token_is_refused_before_anything_is_made_of_it() {
    let key = Key::new("one", Algorithm::EdDSA);
    let (of, token) = (issuers(&[&key]), key.sign(&claims()));
    let [header, body, signature] =
        <[&str; 3]>::try_from(token.split('.').collect::<Vec<_>>()).unwrap();
    let cases = [
        String::new(),
        ".".to_owned(),
        "..".to_owned(),
        format!("{header}.{body}"),
        format!("{token}.{signature}"),
        format!("{header}.{header}.{body}.{signature}"),
        format!("{header}=.{body}.{signature}"),
        format!("{header}.{body}==.{signature}"),
        format!(" {token}"),
        format!("{}.{body}.{signature}", part("no json")),
        format!("{header}.{}.{signature}", part("{")),
        format!("{header}.{}.{signature}", part("\u{0}")),
        format!("Bearer {token}"),
    ];
    for case in &cases {
        assert_eq!(shown(&of, case, 0), flaw(Flaw::Form), "{case}");
    }
    for signature in ["", "AAAA", "!", &"A".repeat(86)] {
        let token = format!("{header}.{body}.{signature}");
        assert_eq!(shown(&of, &token, 0), flaw(Flaw::Signature), "{signature}");
    }
    let crit = json!({ "alg": "EdDSA", "kid": "one", "crit": ["b64"], "b64": false });
    assert_eq!(shown(&of, &key.sign_with(&crit, &claims()), 0), flaw(Flaw::Form));
    let long = key.sign(&with("more", "x".repeat(MAX_TOKEN_BYTES)));
    assert_eq!(shown(&of, &long, 0), flaw(Flaw::Length));
}

#[test]
fn no_character_of_a_token_can_be_another() {
    let key = Key::new("one", Algorithm::ES256);
    let (of, token) = (issuers(&[&key]), key.sign(&claims()));
    for place in 0..token.len() {
        for other in ['A', 'B', '.', '_'] {
            let mut altered = token.clone();
            altered.replace_range(place..=place, &other.to_string());
            if altered != token {
                assert!(shown(&of, &altered, 0).is_err(), "{place} {other}");
            }
        }
    }
}

#[test]
fn a_token_belongs_to_the_first_that_shows_it() {
    let key = Key::new("one", Algorithm::ES256);
    let (of, token) = (issuers(&[&key]), key.sign(&claims()));
    let place = Shown::default();
    let ask = |token: &str, who: &str, after: i64| {
        let checked = place.check(&of, 1, token, "", &app(who), at(NOW + after));
        checked.map(|_| ()).map_err(|(refused, claims)| (refused, claims.map(|c| kit::who(&c))))
    };
    let bound = Err((Refused::Bound, Some(format!("{ISS} alice"))));
    assert_eq!(ask(&token, "one", 0), Ok(()));
    assert_eq!(ask(&token, "two", 1), bound);
    assert_eq!(ask(&token, "one", 2), Ok(()));
    // The other signature that ECDSA gives for the same token.
    assert_eq!(ask(&mirrored(&token), "two", 3), bound);
    assert_eq!(ask(&mirrored(&token), "one", 3), Ok(()));
    // It is not bound by whoever shows what is not one.
    let token = key.sign(&with("sub", "bob"));
    let forged = Key::new("one", Algorithm::ES256).sign(&with("sub", "bob"));
    assert!(ask(&forged, "two", 4).is_err());
    assert_eq!(ask(&token, "one", 4), Ok(()));
    assert_eq!(ask(&token, "two", 329), Err((Refused::Bound, Some(format!("{ISS} bob")))));
    assert_eq!(ask(&token, "two", 330), Err((Refused::Expired, None)));
}

/// The same token with `n - s` in place of `s` (SEC 1, section 4.1.4 takes both).
fn mirrored(token: &str) -> String {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    const ORDER: &str = "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551";
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let mut bytes = URL_SAFE_NO_PAD.decode(signature).unwrap();
    let order: Vec<i32> =
        (0..32).map(|i| i32::from_str_radix(&ORDER[2 * i..2 * i + 2], 16).unwrap()).collect();
    let mut borrow = 0;
    for i in (0..32).rev() {
        let difference = order[i] - i32::from(bytes[32 + i]) - borrow;
        borrow = i32::from(difference < 0);
        bytes[32 + i] = u8::try_from(difference.rem_euclid(256)).unwrap();
    }
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(bytes))
}

#[test]
fn without_a_place_to_remember_a_token_it_is_refused() {
    let key = Key::new("one", Algorithm::EdDSA);
    let of = issuers(&[&key]);
    // A quarter of the places is for one caller.
    let place = Shown::with_capacity(8);
    let ask = |subject: &str, after: i64| {
        let token = key.sign(&with("sub", subject));
        let checked = place.check(&of, 1, &token, "", &app("app"), at(NOW + after));
        checked.map(|claims| who(&claims)).map_err(|(refused, _)| refused)
    };
    let named = |subject: &str| Ok(format!("{ISS} {subject}"));
    assert_eq!(ask("a", 0), named("a"));
    assert_eq!(ask("b", 0), named("b"));
    assert_eq!(ask("c", 0), Err(Refused::Full));
    let other = place.check(&of, 1, &key.sign(&with("sub", "c")), "", &app("other"), at(NOW));
    assert!(other.is_ok_and(|claims| who(&claims).ends_with(" c")), "others have theirs");
    // Whoever has a place keeps it.
    assert_eq!(ask("a", 1), named("a"));
    assert_eq!(ask("d", 329), Err(Refused::Full));
    // Once the others are over there are places again.
    let later = key.sign(&json!({
        "iss": ISS, "sub": "d", "aud": "fieldseal", "iat": NOW + 300, "exp": NOW + 600,
    }));
    let checked = place.check(&of, 1, &later, "", &app("app"), at(NOW + 330));
    assert!(checked.is_ok_and(|claims| who(&claims).ends_with(" d")));
}

#[test]
fn other_keys_are_asked_again() {
    let (key, next) = (Key::new("one", Algorithm::EdDSA), Key::new("two", Algorithm::EdDSA));
    let (before, after) = (issuers(&[&key]), issuers(&[&next]));
    let place = Shown::default();
    let token = key.sign(&claims());
    let ask = |of, generation| {
        let checked = place.check(of, generation, &token, "", &app("app"), at(NOW));
        checked.map(|_| ()).map_err(|(refused, _)| refused)
    };
    assert_eq!(ask(&before, 1), Ok(()));
    assert_eq!(ask(&after, 2), Err(Refused::Invalid(Flaw::Key)));
    assert_eq!(ask(&before, 3), Ok(()));
}
