//! Output that nobody reads to its end.

use std::process::Command;

use crate::installation::Installation;
use crate::process::{program, text};

/// The exit code and standard error of a command whose output nobody reads.
fn unread(mut command: Command) -> (Option<i32>, String) {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = command.stdout(writer).output().unwrap();
    (output.status.code(), text(&output.stderr))
}

#[test]
fn a_reader_that_has_seen_enough_is_told_nothing() {
    let installation = Installation::new();
    let verify = installation.verify_command(&installation.log());
    let mut help = program();
    help.arg("--help");
    for command in [verify, help] {
        assert_eq!(unread(command), (Some(130), String::new()));
    }
}
