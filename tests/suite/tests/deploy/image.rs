//! The container image.

use super::{defaults, probes_port, read};

/// The instructions of the Dockerfile, each as one line: its word and what follows.
pub(super) fn instructions() -> Vec<(String, String)> {
    let text = read("Dockerfile");
    let lines: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).collect();
    let whole = lines.join("\n").replace("\\\n", " ");
    let split = |line: &str| {
        let (word, rest) = line.split_once(' ').unwrap();
        (word.to_owned(), rest.split_whitespace().collect::<Vec<_>>().join(" "))
    };
    whole.lines().filter(|line| !line.trim().is_empty()).map(split).collect()
}

fn all(word: &str) -> Vec<String> {
    let found = instructions().into_iter().filter(|(found, _)| found == word);
    found.map(|(_, rest)| rest).collect()
}

/// The one instruction of its kind.
#[track_caller]
fn only(word: &str) -> String {
    let mut found = all(word);
    assert_eq!(found.len(), 1, "{word}: {found:?}");
    found.remove(0)
}

/// The program's path in the image.
pub(super) fn program() -> String {
    let words: Vec<String> = serde_json::from_str(&only("ENTRYPOINT")).unwrap();
    assert_eq!(words.len(), 1, "the arguments are the caller's");
    words.into_iter().next().unwrap()
}

/// The user that it runs as, by number: Kubernetes cannot tell by a name that it is not root.
pub(super) fn user() -> u64 {
    let stated = only("USER");
    let (user, group) = stated.split_once(':').unwrap();
    assert_eq!(user, group);
    user.parse().unwrap()
}

#[test]
fn every_base_is_named_by_version_and_the_compiler_is_the_tree_s() {
    let toolchain: toml::Table = read("rust-toolchain.toml").parse().unwrap();
    let channel = toolchain["toolchain"]["channel"].as_str().unwrap();
    let bases = all("FROM");
    assert_eq!(
        bases,
        [format!("docker.io/library/rust:{channel}-slim-bookworm AS build"), "scratch".to_owned(),]
    );
}

#[test]
fn the_build_takes_the_locked_dependencies_and_the_tree_s_compiler() {
    let toolchain: toml::Table = read("rust-toolchain.toml").parse().unwrap();
    let channel = toolchain["toolchain"]["channel"].as_str().unwrap();
    let stated = format!("RUSTUP_TOOLCHAIN={channel} ");
    assert!(all("ENV").iter().any(|rest| format!("{rest} ").contains(&stated)));
    let builds: Vec<_> = all("RUN").into_iter().filter(|run| run.contains("cargo ")).collect();
    assert_eq!(builds, ["cargo build --release --locked --bin fieldseal"]);
    // RUSTFLAGS would replace the flags of .cargo/config.toml, which must be there.
    assert!(!read("Dockerfile").contains("RUSTFLAGS"));
    let ignored = read(".dockerignore");
    let lines: Vec<_> = ignored.lines().filter(|line| !line.starts_with('#')).collect();
    assert_eq!(lines.first(), Some(&"*"), "what is not named stays outside");
    for needed in ["!.cargo", "!Cargo.lock", "!Cargo.toml", "!src", "!tests/suite"] {
        assert!(lines.contains(&needed), "{needed}");
    }
    let named = ["!.cargo", "!Cargo.", "!LICENSE-", "!src", "!tests/suite"];
    for line in &lines[1..] {
        assert!(named.iter().any(|start| line.starts_with(start)), "{line}");
    }
}

#[test]
fn it_is_not_root_and_asks_itself_how_it_is() {
    assert!(user() > 0);
    let program = program();
    let check = only("HEALTHCHECK");
    let (_, command) = check.split_once(" CMD ").unwrap();
    let command: Vec<String> = serde_json::from_str(command).unwrap();
    assert_eq!(command, [&program, "health"]);
    let installed = format!("/image{program};");
    assert!(all("RUN").iter().any(|run| run.contains(&installed)), "{installed}");
    // With a CMD, FIELDSEAL_DEV=1 would never be without arguments.
    assert!(all("CMD").is_empty());
}

#[test]
fn its_ports_and_volumes_are_those_of_the_program() {
    let listen = defaults().server.listen.port();
    assert_eq!(only("EXPOSE"), format!("{listen} {}", probes_port()));
    let volumes: Vec<String> = serde_json::from_str(&only("VOLUME")).unwrap();
    let made = all("RUN").join(" ");
    for volume in &volumes {
        let (parent, _) = volume.rsplit_once('/').unwrap();
        let owned = format!("--from=build --chown={0}:{0} /volumes{parent}/ {parent}/", user());
        assert!(all("COPY").contains(&owned), "{volume}");
        assert!(made.contains(&format!(" /volumes{volume}")), "{volume}");
    }
    let environment = all("ENV");
    let config = environment.iter().find_map(|rest| rest.strip_prefix("FIELDSEAL_CONFIG="));
    let config = config.unwrap();
    assert!(volumes.iter().any(|volume| config.starts_with(&format!("{volume}/"))), "{config}");
}
