//! What was kept outside the log proves what is in it.

use std::fs;
use std::path::Path;

use crate::installation::{Installation, place};
use crate::process::{ended, program, refused, text, with_input};

const SEGMENT: &str = "segment-00000000000000000000.log";

/// `audit …` with the public key, without a sidecar.
fn audit(installation: &Installation, arguments: &[&str], input: &str) -> std::process::Output {
    let mut command = program();
    command.arg("audit").args(arguments);
    command.arg("--public-key").arg(installation.log().join("log.pub"));
    with_input(command, input.as_bytes())
}

/// The log without its last two frames: nothing in it is wrong.
fn shortened(log: &Path, copy: &Path) {
    fs::create_dir(copy).unwrap();
    let mut bytes = fs::read(log.join(SEGMENT)).unwrap();
    let frames = (0..bytes.len() - 4).step_by(8).filter(|at| &bytes[*at..*at + 4] == b"FSFR");
    let frames: Vec<usize> = frames.collect();
    bytes[frames[frames.len() - 2]..].fill(0);
    fs::write(copy.join(SEGMENT), bytes).unwrap();
}

/// What a caller kept, checked with the running sidecar.
fn the_sidecar_proves(i: &Installation, receipt: &str, kept: &str) {
    let key = i.log().join("log.pub");
    let run = |caller: &str, command: &str, input: &str| {
        let arguments = ["audit", command, "-", "--public-key", key.to_str().unwrap()];
        i.run(caller, &arguments, input.as_bytes())
    };
    let said = run("auditor", "check-checkpoint", kept);
    assert_eq!(ended(&said), (0, String::new()));
    let newest = text(&said.stdout);
    let newest = newest.lines().find_map(|line| line.strip_prefix("newest")).unwrap().trim();
    assert_ne!(newest, kept.trim(), "the log grew");
    assert_eq!(ended(&run("auditor", "check-checkpoint", newest)), (0, String::new()));
    let altered = kept.replacen(' ', " 1", 1);
    for (given, how) in [
        (altered.as_str(), refused(7, "CHECKPOINT_FOREIGN")),
        ("nonsense", refused(2, "CHECKPOINT_INVALID")),
    ] {
        assert_eq!(ended(&run("auditor", "check-checkpoint", given)), how, "{given}");
    }
    assert_eq!(ended(&run("app", "check-checkpoint", kept)), refused(4, "PERMISSION_DENIED"));

    assert_eq!(ended(&run("auditor", "check-receipt", receipt)), (0, String::new()));
    assert_eq!(ended(&run("app", "check-receipt", receipt)), refused(4, "PERMISSION_DENIED"));
    let mut other: serde_json::Value = serde_json::from_str(receipt).unwrap();
    other["receipt"]["leaf_hash"] = "00".repeat(32).into();
    let check = |receipt: &serde_json::Value| run("auditor", "check-receipt", &receipt.to_string());
    assert_eq!(ended(&check(&other)), refused(7, "RECEIPT_WRONG"));
    other["receipt"]["index"] = 9_999.into();
    assert_eq!(ended(&check(&other)), refused(12, "AUDIT_RECORDS_MISSING"));
}

#[test]
fn a_checkpoint_and_a_receipt_that_were_kept_are_checked_without_the_sidecar() {
    let mut installation = Installation::with_key();
    let i = &installation;
    let sealed = i.ok("app", &place("encrypt", &["--row", "42"]), b"ada@example.com");
    let decrypt = place("decrypt", &["--row", "42", "--output", "json"]);
    let receipt = text(&i.ok("app", &decrypt, &sealed));
    let asked = text(&i.ok("auditor", &["audit", "anchor"], b""));
    assert_eq!(asked.lines().count(), 1, "{asked}");
    i.ok("app", &decrypt, &sealed);
    the_sidecar_proves(i, &receipt, &asked);
    assert_eq!(installation.stop(), 0);
    let i = &installation;
    let log = i.log();
    let log = log.to_str().unwrap();

    let newest = audit(i, &["anchor", "--log", log], "");
    assert!(newest.status.success(), "{}", text(&newest.stderr));
    let newest = text(&newest.stdout);
    for kept in [&asked, &newest] {
        let verified = audit(i, &["verify", "--log", log, "--checkpoint", "-"], kept);
        assert!(verified.status.success(), "{}", text(&verified.stderr));
    }
    let copy = i.path("copy");
    shortened(&i.log(), Path::new(&copy));
    let verify = |given: &[&str], kept: &str| {
        let arguments = [&["verify", "--log", copy.as_str()], given].concat();
        ended(&audit(i, &arguments, kept))
    };
    assert_eq!(verify(&[], ""), (0, String::new()));
    assert_eq!(verify(&["--checkpoint", "-"], &asked), (0, String::new()));
    assert_eq!(verify(&["--checkpoint", "-"], &newest), refused(12, "AUDIT_RECORDS_MISSING"));
    let altered = newest.replacen(' ', " 1", 1);
    assert_eq!(verify(&["--checkpoint", "-"], &altered), refused(7, "CHECKPOINT_FOREIGN"));
    assert_eq!(verify(&["--checkpoint", "-"], "nonsense"), refused(2, "CHECKPOINT_INVALID"));

    let check = |given: &[&str], receipt: &str| {
        let arguments = [&["check-receipt", "-"], given].concat();
        ended(&audit(i, &arguments, receipt))
    };
    let proof = i.path("record.tlog-proof");
    assert_eq!(check(&["--log", log, "--save-proof", &proof], &receipt), (0, String::new()));
    assert_eq!(check(&["--proof", &proof], &receipt), (0, String::new()));
    // Another record stands there than the one for which the receipt was given.
    let mut other: serde_json::Value = serde_json::from_str(&receipt).unwrap();
    other["receipt"]["leaf_hash"] = "00".repeat(32).into();
    for from in [["--log", log], ["--proof", &proof]] {
        assert_eq!(check(&from, &other.to_string()), refused(7, "RECEIPT_WRONG"), "{from:?}");
        assert_eq!(check(&from, "{}"), refused(2, "RECEIPT_INVALID"));
    }
    other["receipt"]["index"] = 9_999.into();
    assert_eq!(check(&["--log", log], &other.to_string()), refused(12, "AUDIT_RECORDS_MISSING"));
}
