//! The main job, from `init` to a clean stop.

use crate::installation::{Installation, place};
use crate::process::{ended, program, refused, text};

#[test]
fn what_is_not_there_or_in_the_way_is_said_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("f.toml");
    let serve = || program().arg("serve").arg("--config").arg(&config).output().unwrap();
    std::fs::write(&config, "format = 1\n").unwrap();
    let output = serve();
    assert_eq!(ended(&output), refused(3, "STORE_NOT_INITIALIZED"));
    assert!(text(&output.stderr).contains("fieldseal init"));
    // A directory that holds nothing is no installation either, and `serve` does not make one.
    std::fs::create_dir(dir.path().join("state")).unwrap();
    assert_eq!(ended(&serve()), refused(3, "STORE_NOT_INITIALIZED"));
    assert_eq!(std::fs::read_dir(dir.path().join("state")).unwrap().count(), 0);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);

    std::fs::write(&config, "format = 1\n[server]\ncolour = 3\n").unwrap();
    assert_eq!(ended(&serve()), refused(2, "CONFIG_INVALID"));

    let output = program().arg("init").arg("--dir").arg(dir.path()).output().unwrap();
    assert_eq!(ended(&output), refused(6, "INSTALLATION_EXISTS"));

    let output = program().args(["key", "list"]).output().unwrap();
    assert_eq!(ended(&output), refused(2, "CLIENT_SETTINGS_MISSING"));
    assert_eq!(program().arg("frobnicate").output().unwrap().status.code(), Some(2));
    assert_eq!(program().arg("--help").output().unwrap().status.code(), Some(0));
}

#[test]
fn the_main_job_from_init_to_a_clean_stop() {
    let mut installation = Installation::with_key();
    let i = &installation;
    let sealed = i.ok("app", &place("encrypt", &["--row", "42"]), "ada@exämple.com".as_bytes());
    assert!(sealed.starts_with(b"fs1."));
    let opened = i.ok("app", &place("decrypt", &["--row", "42", "--purpose", "test"]), &sealed);
    assert_eq!(text(&opened), "ada@exämple.com");
    let binary = i.ok("app", &place("encrypt", &["--row", "1", "--binary"]), b"\x00\xff");
    assert_eq!(i.ok("app", &place("decrypt", &["--row", "1"]), &binary), b"\x00\xff");
    assert_eq!(i.ok("app", &place("decrypt", &[]), &i.ok("app", &place("encrypt", &[]), b"")), b"");
    i.ok("ops", &["key", "rotate", "customer-pii"], b"");
    let shown = i.json("ops", &["key", "show", "customer-pii"]);
    assert_eq!(shown["key"]["primary_version"], "keys/customer-pii/versions/2", "{shown}");
    assert_eq!(text(&i.ok("app", &place("decrypt", &["--row", "42"]), &sealed)), "ada@exämple.com");

    for (caller, arguments, input, code, reason) in [
        ("app", place("decrypt", &["--row", "43"]), &sealed[..], 7, "DECRYPTION_FAILED"),
        ("app", place("decrypt", &["--row", "42"]), &b"nonsense"[..], 7, "CIPHERTEXT_NOT_SEALED"),
        ("auditor", place("decrypt", &["--row", "42"]), &sealed[..], 4, "PERMISSION_DENIED"),
        ("app", vec!["key", "rotate", "customer-pii"], &b""[..], 4, "PERMISSION_DENIED"),
        ("ops", vec!["key", "show", "missing"], &b""[..], 3, "KEY_NOT_FOUND"),
        ("ops", vec!["key", "create", "customer-pii"], &b""[..], 6, "KEY_EXISTS"),
        ("app", vec!["audit", "list"], &b""[..], 4, "PERMISSION_DENIED"),
    ] {
        let output = i.run(caller, &arguments, input);
        assert_eq!(ended(&output), refused(code, reason), "{caller} {arguments:?}");
    }
    let listed = text(&i.ok("auditor", &["audit", "list", "--action", "Decrypt"], b""));
    for part in ["users.email", "customer-pii/1", "app-decrypt", "COMMITMENT_MISMATCH", "DENIED"] {
        assert!(listed.contains(part), "{part}: {listed}");
    }
    let by_row = i.json("auditor", &["audit", "list", "--table", "users", "--row", "42"]);
    assert_eq!(by_row["audit_events"].as_array().unwrap().len(), 3);

    assert_eq!(installation.stop(), 0);
    let i = &installation;
    assert_eq!(ended(&i.run("ops", &["status"], b"")), refused(5, "NOT_CONNECTED"));
    assert!(i.verify(&i.log()).status.success());
    let copy = i.dir.path().join("copy");
    std::fs::create_dir(&copy).unwrap();
    let segment = "segment-00000000000000000000.log";
    let mut bytes = std::fs::read(i.log().join(segment)).unwrap();
    bytes[1000] ^= 1;
    std::fs::write(copy.join(segment), bytes).unwrap();
    assert_eq!(ended(&i.verify(&copy)), refused(7, "AUDIT_LOG_TAMPERED"));
    std::fs::remove_dir_all(&copy).unwrap();
    assert_eq!(ended(&i.verify(&copy)), refused(3, "LOG_NOT_FOUND"));
    std::fs::write(&copy, "no directory").unwrap();
    assert_eq!(ended(&i.verify(&copy)), refused(1, "AUDIT_LOG_UNREADABLE"));
}

#[test]
fn the_status_says_whether_keys_are_locked_and_the_log_says_where_they_are_not() {
    let mut installation = Installation::served();
    let status = installation.json("ops", &["status"]);
    assert_eq!(status["ready"], true, "{status}");
    let (_, lines) = installation.sidecar.as_mut().unwrap();
    let warned = lines.so_far().contains("\"keys_not_locked\"");
    let expected = if warned { "UNLOCKED" } else { "LOCKED" };
    assert_eq!(status["memory_protection"], expected, "{status}");
}

#[test]
fn a_second_sidecar_is_refused_and_hears_who_holds_the_directory() {
    let installation = Installation::served();
    let second = installation.serve_command().output().unwrap();
    assert_eq!(ended(&second), refused(6, "STORE_LOCKED"));
    let holder = installation.sidecar.as_ref().unwrap().0.id();
    let said = text(&second.stderr);
    assert!(said.contains(&format!("process {holder}")), "{holder}: {said}");
}

#[test]
fn what_was_acknowledged_survives_a_kill() {
    let mut installation = Installation::with_key();
    let sealed: Vec<_> = (0..5)
        .map(|row| {
            let row = row.to_string();
            installation.ok("app", &place("encrypt", &["--row", &row, "--partition", &row]), b"x")
        })
        .collect();
    installation.sidecar.take().unwrap().0.kill();
    installation.serve();
    for (row, sealed) in sealed.iter().enumerate() {
        let row = row.to_string();
        let arguments = place("decrypt", &["--row", &row, "--partition", &row]);
        assert_eq!(installation.ok("app", &arguments, sealed), b"x");
    }
    assert_eq!(installation.stop(), 0);
    assert!(installation.verify(&installation.log()).status.success());
}

#[test]
fn a_list_says_when_more_would_match() {
    let installation = Installation::with_key();
    let auditor = |arguments: &[&str]| installation.run("auditor", arguments, b"");
    let more = auditor(&["audit", "list", "--limit", "1", "--oldest-first"]);
    let said = text(&more.stderr);
    assert!(said.contains("more match; go on with --page-token "), "{said}");
    let events = |shown: &serde_json::Value| shown["audit_events"].as_array().unwrap().len();
    let first = installation.json("auditor", &["audit", "list", "--limit", "1", "--oldest-first"]);
    assert_eq!((events(&first), &first["more"]), (1, &true.into()));
    let all = installation.json("auditor", &["audit", "list", "--limit", "1000"]);
    assert_eq!(all["more"], false, "{all}");
    let all = events(&all).to_string();
    // A query is on record too, so the oldest that were there before are asked for.
    let exactly = ["audit", "list", "--limit", &all, "--action", "CreateKey"];
    let exactly = auditor(&exactly);
    let said = text(&exactly.stderr);
    assert!(exactly.status.success() && !said.contains("more match"), "{said}");
}
