//! Completions and man pages.

use crate::process::{ended, program, refused, text};

#[test]
fn every_shell_gets_a_script_that_knows_the_commands() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = program().args(["completions", shell]).output().unwrap();
        assert!(script.status.success(), "{shell}: {}", text(&script.stderr));
        let script = text(&script.stdout);
        for word in ["quickstart", "recover", "recovery-recipient", "csv"] {
            assert!(script.contains(word), "{shell} does not know {word}");
        }
    }
    assert_eq!(program().args(["completions", "tcsh"]).output().unwrap().status.code(), Some(2));
}

#[test]
fn man_pages_are_written_and_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let pages = dir.path().join("share/man1");
    for _ in 0..2 {
        let made =
            program().args(["man", "--output", "json", "--dir"]).arg(&pages).output().unwrap();
        assert!(made.status.success(), "{}", text(&made.stderr));
        let told: serde_json::Value = serde_json::from_slice(&made.stdout).unwrap();
        let told = told["pages"].as_array().unwrap().len();
        assert_eq!(std::fs::read_dir(&pages).unwrap().count(), told);
    }
    let serve = std::fs::read_to_string(pages.join("fieldseal-serve.1")).unwrap();
    assert!(serve.contains("FIELDSEAL_CONFIG") && serve.contains("\\-\\-config"), "{serve}");
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    let made = program().args(["man", "--dir"]).arg(&file).output().unwrap();
    assert_eq!(ended(&made), refused(6, "FILE_EXISTS"));
}
