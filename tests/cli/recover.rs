//! `recover`: a stopped installation, the recovery identity, nothing else.

use std::os::unix::fs::chown;
use std::process::Output;

use crate::installation::{Installation, PLACE, place};
use crate::process::{ended, program, refused, text, with_input};

fn recover(i: &Installation, row: &str, sealed: &[u8]) -> Output {
    let identity = i.path("identity");
    std::fs::write(&identity, &i.identity).unwrap();
    let mut command = program();
    command.arg("recover").arg("--config").arg(i.config()).arg("--identity").arg(&identity);
    command.args(PLACE).args(["--row", row]);
    with_input(command, sealed)
}

#[test]
fn a_recovery_says_what_the_sidecar_would_have_said() {
    let mut installation = Installation::with_key();
    let sealed = installation.ok("app", &place("encrypt", &["--row", "42"]), b"ada@example.com");
    assert_eq!(ended(&recover(&installation, "42", &sealed)), refused(6, "STORE_LOCKED"));
    assert_eq!(installation.stop(), 0);
    let i = &installation;
    std::fs::remove_file(i.home().join("root.key")).unwrap();

    let moved = recover(i, "43", &sealed);
    assert_eq!(ended(&moved), refused(7, "DECRYPTION_FAILED"));
    assert!(text(&moved.stderr).contains("record  logs/"), "{}", text(&moved.stderr));
    // Another key id: the first bytes after the suite.
    let mut foreign = sealed.clone();
    foreign[7] = if foreign[7] == b'B' { b'C' } else { b'B' };
    assert_eq!(ended(&recover(i, "42", &foreign)), refused(3, "DATA_KEY_NOT_FOUND"));
    assert_eq!(ended(&recover(i, "42", b"nonsense")), refused(2, "CIPHERTEXT_NOT_SEALED"));

    let mut binary = program();
    binary.arg("recover").arg("--config").arg(i.config()).arg("--identity");
    binary.arg(std::env::current_exe().unwrap()).args(PLACE).args(["--row", "42"]);
    assert_eq!(ended(&with_input(binary, &sealed)), refused(2, "IDENTITY_WRONG"));

    let recovered = recover(i, "42", &sealed);
    assert_eq!(text(&recovered.stdout), "ada@example.com", "{}", text(&recovered.stderr));
    assert!(i.verify(&i.log()).status.success(), "the recovery is on record");

    // Only root can give the state away, to see that root is refused.
    if rustix::process::geteuid().is_root() {
        chown(i.home().join("state"), Some(1), None).unwrap();
        assert_eq!(ended(&recover(i, "42", &sealed)), refused(4, "STATE_OF_OTHER_USER"));
    }
}
