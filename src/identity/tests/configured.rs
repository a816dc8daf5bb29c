//! `issuers.toml`, sets of keys, and the shared secrets of Atlassian Connect.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot be set up fails"
)]

mod kit;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use fieldseal_identity::{File, Flaw, Issuers, Refused, Shown};
use jsonwebtoken::{Algorithm, EncodingKey};
use kit::{ISS, Key, NOW, app, at, set, signed};
use serde_json::{Value, json};

const HASH: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
const SECRET: &[u8] = b"a secret of a test, longer than 32 bytes";

fn parsed(text: &str, beside: &[File<'_>], directory: &Path) -> Result<(), String> {
    let parsed = Issuers::parse(text, beside, directory);
    parsed.map(|_| ()).map_err(|wrong| format!("{wrong:?}"))
}

#[test]
fn an_issuer_that_is_not_whole_is_refused_with_its_place() {
    let key = Key::new("one", Algorithm::ES256);
    let keys = set(&[&key]);
    let beside = [File { name: "a.jwks.json", text: &keys }, File { name: "b.json", text: &keys }];
    let whole = [
        ("iss", "\"https://login.test\""),
        ("audience", "[\"fieldseal\"]"),
        ("algorithms", "[\"ES256\"]"),
        ("keys", "\"a.jwks.json\""),
    ];
    let text = |change: Option<(&str, &str)>| {
        let lines = whole.iter().map(|(name, value)| match change {
            Some((of, other)) if of == *name => {
                if other.is_empty() {
                    String::new()
                } else {
                    format!("{name} = {other}\n")
                }
            }
            _ => format!("{name} = {value}\n"),
        });
        format!("[[issuer]]\n{}", lines.collect::<String>())
    };
    assert_eq!(parsed(&text(None), &beside, Path::new("")), Ok(()));
    let long = format!("\"{}\"", "i".repeat(256));
    for (name, value, said) in [
        ("iss", "", "missing field"),
        ("iss", "\"\"", "iss is 1 to 255 bytes"),
        ("iss", long.as_str(), "iss is 1 to 255 bytes"),
        ("audience", "", "has an audience"),
        ("audience", "[\"\"]", "audience has at most"),
        ("algorithms", "", "RS256, ES256 and EdDSA"),
        ("algorithms", "[\"HS256\"]", "RS256, ES256 and EdDSA"),
        ("algorithms", "[\"none\"]", "RS256, ES256 and EdDSA"),
        ("algorithms", "[\"ES256\", \"RS256\"]", "no key for RS256"),
        ("keys", "", "either keys or connect_secret_file"),
        ("keys", "\"other.jwks.json\"", "the name of a file beside"),
        ("keys", "\"b.json\"", "the name of a file beside"),
        ("keys", "\"a.jwks.json\"\nmore = 1", "unknown field"),
        ("keys", "\"a.jwks.json\"\nconnect_secret_file = \"x\"", "either keys or"),
    ] {
        let found = parsed(&text(Some((name, value))), &beside, Path::new("")).unwrap_err();
        assert!(found.contains(said), "{name} = {value}: {found}");
    }
    let twice = format!("{}{}", text(None), text(None));
    let found = Issuers::parse(&twice, &beside, Path::new("")).err().unwrap();
    assert_eq!((found.len(), found[0].at), (1, text(None).len()), "{found:?}");
}

#[test]
fn a_set_with_a_secret_or_a_broken_key_is_refused_and_strangers_are_passed_over() {
    let (key, other) = (Key::new("one", Algorithm::ES256), Key::new("one", Algorithm::ES256));
    let rsa = Key::new("rsa", Algorithm::RS256);
    let text = format!(
        "[[issuer]]\niss = \"{ISS}\"\naudience = [\"a\"]\nalgorithms = [\"ES256\", \"RS256\"]\n\
         keys = \"a.jwks.json\"\n"
    );
    let with = |keys: Vec<Value>| {
        let keys = json!({ "keys": keys }).to_string();
        parsed(&text, &[File { name: "a.jwks.json", text: &keys }], Path::new(""))
    };
    let changed = |of: &Key, name: &str, value: Value| {
        let mut jwk = of.jwk();
        jwk[name] = value;
        jwk
    };
    assert_eq!(with(vec![key.jwk(), rsa.jwk()]), Ok(()));
    let strangers = [
        json!({ "kty": "EC", "crv": "P-521", "x": "AA", "y": "AA" }),
        json!({ "kty": "future" }),
        changed(&other, "use", json!("enc")),
        changed(&other, "alg", json!("ECDH-ES")),
    ];
    let all = [vec![key.jwk(), rsa.jwk()], strangers.to_vec()].concat();
    assert_eq!(with(all), Ok(()));
    let short = "AQAB".repeat(60);
    for (bad, said) in [
        (changed(&key, "d", json!("AAAA")), "private or symmetric"),
        (json!({ "kty": "oct", "k": "AAAA" }), "private or symmetric"),
        (changed(&key, "x", json!("AAAA")), "number 3"),
        (changed(&key, "y", json!("=")), "number 3"),
        (changed(&rsa, "n", json!(short)), "number 3"),
        (changed(&rsa, "e", json!("")), "number 3"),
        (other.jwk(), "same kid"),
        (changed(&key, "kid", json!(7)), "no part of a JSON web key set"),
    ] {
        let found = with(vec![key.jwk(), rsa.jwk(), bad.clone()]).unwrap_err();
        assert!(found.contains(said), "{bad}: {found}");
    }
    assert!(with(vec![]).is_err_and(|said| said.contains("no key for ES256")));
    assert!(with(vec![rsa.jwk(); 101]).is_err_and(|said| said.contains("at most 100")));
}

fn connect(directory: &Path) -> Result<Issuers, String> {
    let text = "[[issuer]]\niss = \"tenant-1\"\nconnect_secret_file = \"tenant.secret\"\n";
    Issuers::parse(text, &[], directory).map_err(|wrong| format!("{wrong:?}"))
}

#[test]
fn a_secret_is_read_from_a_file_that_nobody_else_can_use() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("tenant.secret");
    let said = || connect(directory.path()).err().unwrap();
    assert!(said().contains("cannot be read"));
    std::fs::write(&file, SECRET).unwrap();
    for mode in [0o640, 0o604, 0o644, 0o620] {
        std::fs::set_permissions(&file, PermissionsExt::from_mode(mode)).unwrap();
        assert!(said().contains("chmod 600"), "{mode:o}");
    }
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).unwrap();
    assert!(connect(directory.path()).is_ok());
    for bad in [&SECRET[..31], &[b'x'; 1025]] {
        std::fs::write(&file, bad).unwrap();
        let said = said();
        assert!(said.contains("32 to 1024 bytes"), "{said}");
    }
    std::fs::remove_file(&file).unwrap();
    std::fs::create_dir(&file).unwrap();
    assert!(said().contains("no plain file"));
}

#[test]
fn a_token_of_connect_holds_for_one_request() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("tenant.secret");
    // A file ends with a line end, and that is no part of the secret.
    std::fs::write(&file, [SECRET, b"\n"].concat()).unwrap();
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).unwrap();
    let of = connect(directory.path()).unwrap();
    let token = |header: Value, hash: Option<&str>, secret: &[u8], alg| {
        let mut claims =
            json!({ "iss": "tenant-1", "sub": "557058:x", "iat": NOW, "exp": NOW + 180 });
        if let Some(hash) = hash {
            claims["qsh"] = hash.into();
        }
        signed(&header, &claims.to_string(), &EncodingKey::from_secret(secret).unwrap(), alg)
    };
    let usual = |hash: Option<&str>| {
        token(json!({ "typ": "JWT", "alg": "HS256" }), hash, SECRET, Algorithm::HS256)
    };
    let place = Shown::default();
    let ask = |token: &str, hash: &str| {
        let checked = place.check(&of, 1, token, hash, &app("app"), at(NOW));
        checked.map(|_| ()).map_err(|(refused, _)| refused)
    };
    let other = HASH.replace('e', "f");
    let hashless = Err(Refused::Invalid(Flaw::QueryHash));
    assert_eq!(ask(&usual(Some(HASH)), HASH), Ok(()));
    // Neither the first time nor later without its request.
    for hash in ["", other.as_str(), &HASH.to_uppercase(), "context-qsh"] {
        assert_eq!(ask(&usual(Some(HASH)), hash), hashless, "{hash}");
    }
    assert_eq!(ask(&usual(Some("context-qsh")), "context-qsh"), hashless);
    assert_eq!(ask(&usual(None), HASH), hashless);
    assert_eq!(ask(&usual(None), ""), hashless);
    let (header, hash) = (json!({ "alg": "HS512" }), Some(HASH));
    let algorithm = Err(Refused::Invalid(Flaw::Algorithm));
    assert_eq!(ask(&token(header, hash, SECRET, Algorithm::HS512), HASH), algorithm);
    let none = token(json!({ "alg": "none" }), hash, SECRET, Algorithm::HS256);
    assert_eq!(ask(&none, HASH), algorithm);
    let wrong = token(json!({ "alg": "HS256" }), hash, &[7; 40], Algorithm::HS256);
    assert_eq!(ask(&wrong, HASH), Err(Refused::Invalid(Flaw::Signature)));
}
