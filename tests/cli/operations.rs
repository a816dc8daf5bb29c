//! What operators are told: docs/operations.md, docs/packaging.md and `deploy/`.

use std::path::{Path, PathBuf};

use crate::installation::{Installation, place};
use crate::process::{program, text};

fn file(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The commands that are run by those who deploy: the unit's, the image's and the manifests'.
fn deployed() -> Vec<Vec<String>> {
    let program = "/usr/local/bin/fieldseal";
    let mut found = Vec::new();
    for path in ["deploy/systemd/fieldseal.service", "Dockerfile"] {
        let text = file(path);
        let lines = text.lines().filter(|line| line.contains(program) && !line.starts_with('#'));
        for line in lines.filter(|line| line.contains("ExecStart=") || line.contains(" CMD ")) {
            let (_, rest) = line.split_once(program).unwrap();
            found.push(split(rest));
        }
    }
    for path in ["deploy/kubernetes/fieldseal.yaml", "deploy/kubernetes/sidecar.yaml"] {
        for line in file(path).lines().map(str::trim) {
            let arguments = line.strip_prefix("args: ").or_else(|| {
                let (_, rest) = line.strip_prefix("exec: ")?.split_once(program)?;
                Some(rest)
            });
            found.extend(arguments.map(split));
        }
    }
    found
}

/// The words of a line, whether it is a list or not.
fn split(line: &str) -> Vec<String> {
    let words = line.split(|c: char| c.is_whitespace() || "[]{},\"".contains(c));
    words.filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

#[test]
fn what_is_deployed_is_understood() {
    let deployed = deployed();
    let of = |command: &str| deployed.iter().filter(|words| words[0] == command).count();
    // The unit and both manifests; the image's check and the sidecar's three probes.
    assert_eq!((of("serve"), of("health"), deployed.len()), (3, 4, 7), "{deployed:?}");
    for words in &deployed {
        // What is not understood is refused, help or not.
        let output = program().args(words).arg("--help").output().unwrap();
        assert!(output.status.success(), "{words:?}: {}", text(&output.stderr));
        let wrong = program().args(words).args(["--no-such-argument", "--help"]).output().unwrap();
        assert_eq!(wrong.status.code(), Some(2), "{words:?}");
    }
}

/// Bytes of the log that hold something; what is behind them in a segment is zero.
fn used(log: &Path) -> usize {
    let entries = std::fs::read_dir(log).unwrap().map(|entry| entry.unwrap().path());
    let is_segment = |path: &PathBuf| path.extension().is_some_and(|e| e == "log");
    let mut bytes = 0;
    for path in entries.filter(is_segment) {
        let content = std::fs::read(path).unwrap();
        bytes += content.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    }
    bytes
}

/// The number in the second column of the row that begins so.
fn stated(row: &str) -> usize {
    let document = file("docs/operations.md");
    let start = format!("| {row} |");
    let line = document.lines().find_map(|line| line.strip_prefix(&start));
    let cell = line.unwrap_or_else(|| panic!("no row {row:?}")).split('|').next().unwrap();
    cell.replace(',', "").trim().parse().unwrap()
}

#[test]
fn a_decrypt_takes_as_much_of_the_log_as_is_stated() {
    let installation = Installation::with_key();
    let reason = ["--row", "42", "--purpose", "support", "--ticket", "CASE-4711"];
    let sealed = installation.ok("app", &place("encrypt", &["--row", "42"]), b"ada@example.com");
    let before = used(&installation.log());
    for _ in 0..10 {
        installation.ok("app", &place("decrypt", &reason), &sealed);
    }
    let one = (used(&installation.log()) - before) / 10;

    let (plain, sealed) = (installation.path("plain.csv"), installation.path("sealed.csv"));
    let mut rows = "id,email\n".to_owned();
    for row in 1..=1000 {
        rows.push_str(&format!("{row},a{row}@example.com\n"));
    }
    std::fs::write(&plain, rows).unwrap();
    let csv = |command: &str, from: &str, to: &str, more: &[&str]| {
        let arguments = ["csv", command, from, to, "--key", "customer-pii", "--table", "users"];
        let arguments = arguments.into_iter().chain(["--column", "email", "--row-column", "id"]);
        let arguments: Vec<_> = arguments.chain(more.iter().copied()).collect();
        installation.ok("app", &arguments, b"");
    };
    csv("encrypt", &plain, &sealed, &[]);
    let before = used(&installation.log());
    let opened = installation.path("opened.csv");
    csv("decrypt", &sealed, &opened, &reason[2..]);
    let batch = used(&installation.log()) - before;

    for (row, measured) in
        [("one `Decrypt`, alone in its group", one), ("a `BatchDecrypt` of 1,000 values", batch)]
    {
        let stated = stated(row);
        let (least, most) = (stated * 9 / 10, stated * 11 / 10);
        assert!((least..=most).contains(&measured), "{row}: {stated} stated, {measured} measured");
    }
}

#[test]
fn every_exit_code_is_explained_to_operators() {
    let help = text(&program().arg("--help").output().unwrap().stdout);
    let (_, codes) = help.split_once("Exit codes:").unwrap();
    let codes = codes.split("\n\n").next().unwrap();
    let numbers: Vec<_> =
        codes.split(|c: char| !c.is_ascii_digit()).filter(|number| !number.is_empty()).collect();
    assert!(numbers.len() >= 11, "{numbers:?}");
    let document = file("docs/operations.md");
    for number in &numbers {
        assert!(document.contains(&format!("\n| {number} |")), "{number}");
    }
    let (_, table) = document.split_once("## Exit codes").unwrap();
    let table = table.split("\n## ").next().unwrap();
    let explained = table.lines().filter_map(|line| line.strip_prefix("| ")?.split(' ').next());
    let explained = explained.filter(|code| code.parse::<u8>().is_ok());
    assert_eq!(numbers, explained.collect::<Vec<_>>(), "in the help as well");
}

#[test]
fn a_sidecar_leaves_no_core_dump() {
    let installation = Installation::served();
    let process = installation.sidecar.as_ref().unwrap().0.id();
    let limits = std::fs::read_to_string(format!("/proc/{process}/limits")).unwrap();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max core file size"));
    let words: Vec<_> = line.unwrap().split_whitespace().take(2).collect();
    // Soft and hard: it cannot be raised again.
    assert_eq!(words, ["0", "0"]);
}
