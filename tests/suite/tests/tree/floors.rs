//! Which crate may use which (docs/architecture.md): dependencies point down only.

use std::collections::BTreeSet;
use std::fs;

use toml::{Table, Value};

use super::{nothing_in, root, rust_files};

/// Each floor, lowest first, and the floors that it may use. `*` is every floor above it in this
/// list.
const FLOORS: [(&str, &[&str]); 15] = [
    ("memory", &[]),
    ("model", &[]),
    ("crypto", &["memory", "model"]),
    ("store", &["crypto", "model"]),
    ("identity", &["model"]),
    ("policy", &["identity", "model"]),
    ("audit", &["crypto", "policy", "model"]),
    ("keys", &["audit", "crypto", "store", "policy", "model"]),
    ("engine", &["keys", "audit", "policy", "identity", "store", "crypto", "model"]),
    ("api", &[]),
    ("service", &["engine", "api", "keys", "audit", "policy", "identity", "crypto", "model"]),
    ("server", &["*"]),
    ("client", &["api"]),
    ("cli", &["*"]),
    ("bench", &["client", "api", "audit", "crypto", "model", "policy", "server"]),
];

/// Floors that know nothing of the wire, and floors that know nothing of async either.
const NO_WIRE: [&str; 9] =
    ["memory", "model", "crypto", "store", "identity", "policy", "audit", "keys", "engine"];
const NO_ASYNC: [&str; 5] = ["memory", "model", "crypto", "identity", "policy"];
const WIRE: [&str; 4] = ["tonic", "tonic-prost", "hyper", "rustls"];
const ASYNC: [&str; 3] = ["tokio", "tokio-util", "futures-util"];

/// What a crate builds on, without what only its tests need.
fn dependencies(floor: &str) -> BTreeSet<String> {
    let path = root().join("src").join(floor).join("Cargo.toml");
    let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let manifest: Table = text.parse().unwrap();
    let mut found = BTreeSet::new();
    collect(&manifest, &mut found);
    let targets = manifest.get("target").and_then(Value::as_table);
    for target in targets.into_iter().flat_map(|targets| targets.values()) {
        collect(target.as_table().unwrap(), &mut found);
    }
    found
}

fn collect(table: &Table, found: &mut BTreeSet<String>) {
    for kind in ["dependencies", "build-dependencies"] {
        if let Some(dependencies) = table.get(kind).and_then(Value::as_table) {
            found.extend(dependencies.keys().cloned());
        }
    }
}

#[test]
fn every_crate_is_a_floor() {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(root().join("src")).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.insert(path.file_name().unwrap().to_str().unwrap().to_owned());
        }
    }
    let named = FLOORS.iter().map(|(floor, _)| (*floor).to_owned()).collect();
    assert_eq!(
        found, named,
        "every directory in src/ has a line in FLOORS, and the other way round"
    );
}

#[test]
fn dependencies_point_down() {
    let mut breaches = Vec::new();
    for (place, (floor, may_use)) in FLOORS.iter().enumerate() {
        for dependency in dependencies(floor) {
            let Some(used) = dependency.strip_prefix("fieldseal-") else { continue };
            let below = FLOORS[..place].iter().any(|(name, _)| *name == used);
            if !below || !(may_use.contains(&used) || may_use.contains(&"*")) {
                breaches.push(format!("src/{floor}/Cargo.toml: {floor} must not use {used}"));
            }
        }
    }
    nothing_in(breaches);
}

#[test]
fn low_floors_know_nothing_of_the_wire() {
    let mut breaches = Vec::new();
    for (floors, strangers) in [(NO_WIRE.as_slice(), WIRE.as_slice()), (&NO_ASYNC, &ASYNC)] {
        for floor in floors {
            let used = dependencies(floor);
            for stranger in strangers.iter().filter(|stranger| used.contains(**stranger)) {
                breaches.push(format!("src/{floor}/Cargo.toml: {floor} must not use {stranger}"));
            }
        }
    }
    nothing_in(breaches);
}

#[test]
fn every_floor_says_what_it_is_for() {
    let sources = rust_files("");
    let mut heads: Vec<_> = sources
        .iter()
        .filter(|(path, _)| path.ends_with("/lib.rs"))
        .map(|(path, _)| path)
        .collect();
    // A floor without a library begins in its program.
    for (floor, _) in FLOORS {
        let main = format!("src/{floor}/src/main.rs");
        let has_library = heads.contains(&&format!("src/{floor}/src/lib.rs"));
        let found = sources.iter().find(|(path, _)| !has_library && *path == main);
        assert!(has_library || found.is_some(), "src/{floor} has neither lib.rs nor main.rs");
        heads.extend(found.map(|(path, _)| path));
    }
    let mut breaches = Vec::new();
    for (path, text) in sources.iter().filter(|(path, _)| heads.contains(&path)) {
        let head: Vec<_> = text.lines().take_while(|line| line.starts_with("//!")).collect();
        let places: Vec<_> = ["//! **For:** ", "//! **May use:** ", "//! **Must hold:** "]
            .iter()
            .map(|start| head.iter().position(|line| line.starts_with(start)))
            .collect();
        if places.iter().any(Option::is_none) || !places.is_sorted() {
            breaches.push(format!("{path}: begin with For, May use and Must hold, in order"));
        }
    }
    nothing_in(breaches);
}

#[test]
fn cedar_stays_in_one_file() {
    let mut naming = Vec::new();
    for (path, text) in rust_files("src") {
        if text.contains("cedar_policy::") {
            naming.push(path);
        }
    }
    assert_eq!(naming, ["src/policy/src/cedar.rs"]);
}

/// The type that can open a field: above `keys` there are only permits, and what is withheld.
#[test]
fn only_keys_can_open_a_field() {
    let name = ["Field", "Key"].concat();
    let all = ["crypto::field::", "*"].concat();
    let mut naming = Vec::new();
    for (path, text) in rust_files("") {
        if text.contains(&name) || text.contains(&all) {
            naming.push(path);
        }
    }
    let stranger =
        |path: &&String| !["src/crypto/", "src/keys/"].iter().any(|floor| path.starts_with(floor));
    nothing_in(naming.iter().filter(stranger).map(|p| format!("{p}: it names {name}")).collect());
    assert!(!naming.is_empty(), "{name} has another name now; write it here");
}

#[test]
fn unsafe_stays_in_memory() {
    let word = ["unsafe", " {"].concat();
    let (function, implementation) = (["unsafe", " fn"].concat(), ["unsafe", " impl"].concat());
    let mut breaches = Vec::new();
    for (path, text) in rust_files("") {
        let found = [&word, &function, &implementation].iter().any(|word| text.contains(*word));
        if found && !path.starts_with("src/memory/") {
            breaches.push(format!("{path}: only src/memory may do that"));
        }
    }
    nothing_in(breaches);
}
