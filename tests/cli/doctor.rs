//! `doctor`: a stopped installation, what is wrong with it, and the way out that it names.

use std::path::Path;
use std::process::Output;

use crate::installation::{Installation, place};
use crate::process::{ended, event, program, refused, shell, text};

fn doctor(i: &Installation, more: &[&str]) -> Output {
    program()
        .args(["--output", "json", "doctor", "--config"])
        .arg(i.config())
        .args(more)
        .output()
        .unwrap()
}

fn json(output: &Output) -> serde_json::Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", text(&output.stderr)))
}

/// How it ended, as its JSON on standard error says.
fn failed(output: &Output) -> (i32, String) {
    let error: serde_json::Value = serde_json::from_slice(&output.stderr).unwrap();
    let reason = error["error"]["reason"].as_str().unwrap().to_owned();
    (output.status.code().unwrap(), reason)
}

fn reasons(seen: &serde_json::Value) -> Vec<&str> {
    let findings = seen["findings"].as_array().unwrap();
    findings.iter().map(|finding| finding["reason"].as_str().unwrap()).collect()
}

/// The first command among what there is to do.
fn command(seen: &serde_json::Value) -> String {
    let todo = seen["findings"][0]["to_do"].as_array().unwrap().iter();
    let commands = todo.filter_map(|todo| todo.as_str().unwrap().strip_prefix("or  "));
    let commands: Vec<_> = commands.collect();
    let (command, _) = commands.first().expect("a way out").split_once("  (").unwrap();
    command.to_owned()
}

/// Runs a command as it is printed.
fn run(command: &str) -> Output {
    let (name, rest) = command.split_once(' ').unwrap();
    assert_eq!(name, "fieldseal");
    shell(&format!("exec {} {rest}", env!("CARGO_BIN_EXE_fieldseal"))).output().unwrap()
}

fn copy(from: &Path, to: &Path) {
    let copied = std::process::Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(copied.success());
}

/// Waits until the scrub that follows a start is over.
fn scrubbed(i: &mut Installation) {
    let (running, mut lines) = i.sidecar.take().unwrap();
    lines.wait(|line| event("store_scrubbed", line));
    i.sidecar = Some((running, lines));
}

#[test]
fn a_whole_installation_has_nothing_wrong_and_a_running_one_is_left_alone() {
    let mut i = Installation::with_key();
    i.ok("app", &place("encrypt", &[]), b"x");
    scrubbed(&mut i);
    let status = i.json("ops", &["status"]);
    assert_eq!(status["scrub"]["state"], "CLEAN");
    assert_eq!(failed(&doctor(&i, &[])), refused(6, "AUDIT_LOG_LOCKED"));
    assert_eq!(i.stop(), 0);
    let output = doctor(&i, &[]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let seen = json(&output);
    assert_eq!(seen["findings"], serde_json::json!([]));
    assert_eq!(seen["store"]["data_keys"], 1);
    assert_eq!(seen["store"]["revision"], seen["audit_log"]["revision"]);
    assert_eq!(seen["generations"][0]["whole"], true, "the start made one");
    let table = program().args(["doctor", "--config"]).arg(i.config()).output().unwrap();
    assert!(text(&table.stdout).contains("nothing is wrong"), "{}", text(&table.stdout));
    i.serve();
}

#[test]
fn an_older_store_is_refused_explained_and_goes_on_where_its_owner_says_so() {
    let mut i = Installation::with_key();
    let early = i.ok("app", &place("encrypt", &["--partition", "early"]), b"x");
    assert_eq!(i.stop(), 0);
    let (store, older) = (i.home().join("state/store"), i.home().join("older"));
    copy(&store, &older);
    i.serve();
    let late = i.ok("app", &place("encrypt", &["--partition", "late"]), b"y");
    assert_eq!(i.stop(), 0);
    std::fs::rename(&store, i.home().join("newer")).unwrap();
    std::fs::rename(&older, &store).unwrap();

    let output = i.serve_command().output().unwrap();
    assert_eq!(ended(&output), refused(9, "STORE_BEHIND_LOG"));
    let said = text(&output.stderr);
    assert_eq!(said.matches(" (anchor ").count(), 2, "both positions: {said}");
    assert!(said.contains("fieldseal doctor"), "{said}");

    let output = doctor(&i, &[]);
    assert_eq!(failed(&output), refused(9, "STORE_BEHIND_LOG"));
    let seen = json(&output);
    assert_eq!(reasons(&seen), ["STORE_BEHIND_LOG"]);
    // Without the id, and with another, nothing happens but that it says what would be lost.
    for confirm in [&[][..], &["--confirm", "0123"]] {
        let output = doctor(&i, &[&["--repair", "store"], confirm].concat());
        assert_eq!(output.status.code(), Some(2));
        let said = text(&output.stderr);
        let lost = said.contains("lost are 1 × DATA_KEY_CREATED") && said.contains(": 1 data key,");
        assert!(lost, "{said}");
    }
    assert_eq!(ended(&i.serve_command().output().unwrap()), refused(9, "STORE_BEHIND_LOG"));

    let output = run(&command(&seen));
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(doctor(&i, &[]).status.success());
    i.serve();
    let decrypt = |tenant| {
        i.run(
            "app",
            &place("decrypt", &["--partition", tenant]),
            match tenant {
                "early" => &early,
                _ => &late,
            },
        )
    };
    assert_eq!(decrypt("early").stdout, b"x");
    assert_eq!(ended(&decrypt("late")), refused(3, "DATA_KEY_NOT_FOUND"));
    let listed = i.json("auditor", &["audit", "list", "--action", "Repair"]);
    assert_eq!(listed["audit_events"].as_array().unwrap().len(), 1, "{listed}");
    assert!(i.verify(&i.log()).status.success());
}

#[test]
fn a_repair_that_was_cut_off_is_named_by_serve_and_finished_by_doctor() {
    let mut i = Installation::with_key();
    let sealed = i.ok("app", &place("encrypt", &[]), b"x");
    assert_eq!(i.stop(), 0);
    let (store, older) = (i.home().join("state/store"), i.home().join("older"));
    copy(&store, &older);
    i.serve();
    i.ok("app", &place("encrypt", &["--partition", "late"]), b"y");
    assert_eq!(i.stop(), 0);
    std::fs::remove_dir_all(&store).unwrap();
    std::fs::rename(&older, &store).unwrap();
    let repair = command(&json(&doctor(&i, &[])));
    assert!(run(&repair).status.success());
    // As if it was killed between its two renames.
    let rebuilt = i.home().join("state/store.rebuilt");
    std::fs::rename(&store, &rebuilt).unwrap();

    let output = i.serve_command().output().unwrap();
    assert_eq!(ended(&output), refused(3, "STORE_NOT_INITIALIZED"));
    let said = text(&output.stderr);
    assert!(said.contains("store.rebuilt") && said.contains("fieldseal doctor"), "{said}");
    assert!(!said.contains("restore it from a backup"), "{said}");
    let output = doctor(&i, &[]);
    assert_eq!(failed(&output), refused(9, "REPAIR_UNFINISHED"));
    let seen = json(&output);
    assert_eq!(reasons(&seen), ["REPAIR_UNFINISHED"]);
    let todo = seen["findings"][0]["to_do"][1].as_str().unwrap();
    let finish = todo.strip_prefix("finish it:  ").unwrap();
    assert!(finish.contains(" --repair rebuilt --confirm "), "{finish}");
    // It is confirmed as every repair is, and the command of the one that was cut off does it too.
    assert_eq!(doctor(&i, &["--repair", "rebuilt"]).status.code(), Some(2));
    assert!(rebuilt.exists());
    let output = run(&repair);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(!rebuilt.exists());
    assert!(doctor(&i, &[]).status.success());
    i.serve();
    assert_eq!(i.ok("app", &place("decrypt", &[]), &sealed), b"x");
    let listed = i.json("auditor", &["audit", "list", "--action", "Repair"]);
    assert_eq!(listed["audit_events"].as_array().unwrap().len(), 1, "{listed}");
}

/// The commands below "Corrupted store" of docs/operations.md, for this installation and with what `doctor` found.
fn runbook(i: &Installation, generation: &str, confirm: &str) -> Vec<String> {
    let document = include_str!("../../docs/operations.md");
    let chapter = document.split_once("\n### Corrupted store\n").unwrap().1;
    let chapter = chapter.split_once("\n### ").unwrap().0;
    let here = [
        ("/etc/fieldseal/fieldseal.toml", i.config()),
        ("/var/lib/fieldseal/state", i.home().join("state")),
        ("/somewhere/else", i.home().join("kept")),
    ];
    let blocks = chapter.split("```sh\n").skip(1).map(|block| block.split("```").next().unwrap());
    let lines = blocks.flat_map(str::lines).filter(|line| !line.trim().is_empty()).map(|line| {
        let line = line.trim().replace("gen-3", generation).replace("5c0f…", confirm);
        here.iter().fold(line, |line, (stated, here)| line.replace(stated, here.to_str().unwrap()))
    });
    lines.collect()
}

#[test]
fn a_damaged_store_is_replaced_by_a_generation_as_the_runbook_says() {
    let mut i = Installation::with_key();
    let sealed = i.ok("app", &place("encrypt", &[]), b"x");
    assert_eq!(i.stop(), 0);
    // The second start finds the generation of the first one too young to make another.
    std::fs::remove_dir_all(i.home().join("state/generations")).unwrap();
    i.serve();
    let (running, mut lines) = i.sidecar.take().unwrap();
    lines.wait(|line| event("generation_made", line));
    i.sidecar = Some((running, lines));
    assert_eq!(i.stop(), 0);
    let db = i.home().join("state/store/db");
    let mut bytes = std::fs::read(&db).unwrap();
    bytes.iter_mut().take(4096).for_each(|byte| *byte ^= 0xff);
    std::fs::write(&db, bytes).unwrap();
    let output = i.serve_command().output().unwrap();
    assert_eq!(ended(&output), refused(9, "STORE_CORRUPT"));
    assert!(!text(&output.stderr).contains("panicked"), "{}", text(&output.stderr));

    let output = doctor(&i, &[]);
    assert_eq!(failed(&output), refused(9, "STORE_CORRUPT"));
    let printed = command(&json(&output));
    let after = |word: &str| {
        let behind = printed.split_once(word).unwrap().1;
        behind.split_whitespace().next().unwrap().to_owned()
    };
    let steps = runbook(&i, &after("--repair "), &after("--confirm "));
    let [stop, keep, look, repair] = &steps[..] else { panic!("{steps:?}") };
    // Nothing runs here that a service manager would have to stop.
    assert_eq!(stop, "systemctl stop fieldseal");
    assert!(shell(keep).status().unwrap().success(), "{keep}");
    assert_eq!(run(look).status.code(), Some(9), "{look}");
    let output = run(repair);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(i.home().join("kept/store/db").exists());
    i.serve();
    assert_eq!(i.ok("app", &place("decrypt", &[]), &sealed), b"x");
    assert_eq!(i.stop(), 0);
    assert!(doctor(&i, &[]).status.success());
}

#[test]
fn what_is_gone_or_damaged_has_its_own_code() {
    let mut i = Installation::with_key();
    assert_eq!(i.stop(), 0);
    let state = i.home().join("state");
    let keyring = state.join("keyring.json");
    let text_before = std::fs::read_to_string(&keyring).unwrap();
    std::fs::write(&keyring, text_before.replace("age1", "age2")).unwrap();
    assert_eq!(failed(&doctor(&i, &[])), refused(9, "KEYRING_CORRUPT"));
    std::fs::write(&keyring, &text_before).unwrap();

    let segment = i.log().join("segment-00000000000000000000.log");
    let log_before = std::fs::read(&segment).unwrap();
    let mut bytes = log_before.clone();
    bytes[300] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    assert_eq!(failed(&doctor(&i, &[])), refused(9, "AUDIT_LOG_CORRUPT"));
    std::fs::write(&segment, log_before).unwrap();

    std::fs::rename(state.join("store"), state.join("away")).unwrap();
    assert_eq!(failed(&doctor(&i, &[])), refused(3, "STORE_NOT_INITIALIZED"));
    std::fs::rename(state.join("away"), state.join("store")).unwrap();
    let impossible = doctor(&i, &["--repair", "gen-9"]);
    assert_eq!(failed(&impossible), refused(9, "REPAIR_IMPOSSIBLE"));
    assert_eq!(doctor(&i, &["--repair", "everything"]).status.code(), Some(2));
    assert!(doctor(&i, &[]).status.success());
}

#[test]
fn a_store_that_is_gone_comes_back_from_its_copy_without_a_loss() {
    let mut i = Installation::new();
    std::fs::create_dir(i.path("copy")).unwrap();
    i.set("copy = \"\"", "copy = \"../copy\"");
    i.serve();
    i.ok("ops", &["key", "create", "customer-pii"], b"");
    let sealed = i.ok("app", &place("encrypt", &["--partition", "late"]), b"x");
    i.ok("ops", &["key", "rotate", "customer-pii"], b"");
    assert_eq!(i.stop(), 0);
    std::fs::remove_dir_all(i.home().join("state/store")).unwrap();
    let output = doctor(&i, &[]);
    assert_eq!(failed(&output), refused(3, "STORE_NOT_INITIALIZED"));
    let seen = json(&output);
    assert_eq!(seen["copy"]["whole"], true);
    let command = command(&seen);
    assert!(command.contains(" --repair copy --confirm "), "{command}");
    let output = run(&command);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("nothing is lost"), "{}", text(&output.stdout));
    i.serve();
    let decrypt = place("decrypt", &["--partition", "late"]);
    assert_eq!(i.ok("app", &decrypt, &sealed), b"x");
    assert_eq!(i.stop(), 0);
    assert!(doctor(&i, &[]).status.success());
}

#[test]
fn a_redaction_that_is_not_finished_is_told_until_it_is() {
    let mut i = Installation::with_key();
    let sealed = i.ok("app", &place("encrypt", &["--partition", "alice"]), b"x");
    i.ok("app", &place("decrypt", &["--partition", "alice"]), &sealed);
    let is_told = |i: &Installation| {
        let table = text(&i.ok("ops", &["status"], b""));
        let told = i.json("ops", &["status"])["audit_redaction_unfinished"].as_bool().unwrap();
        assert_eq!(table.contains("redaction  "), told, "{table}");
        told
    };
    let verified = |i: &Installation| {
        let mut command = i.verify_command(&i.log());
        command.args(["--output", "json"]);
        json(&command.output().unwrap())["named_still_there"].as_u64().unwrap()
    };
    assert!(!is_told(&i));
    // The old segment cannot have its second name.
    let in_its_way = i.log().join("segment-00000000000000000000.redacted");
    std::fs::create_dir(&in_its_way).unwrap();
    let redact = ["audit", "redact", "--partition", "alice", "--confirm", "alice"];
    let refused_so = refused(5, "REDACTION_UNFINISHED");
    assert_eq!(ended(&i.run("ops", &redact, b"")), refused_so);
    assert!(is_told(&i));
    assert_eq!(i.stop(), 0);
    // Every record that was named.
    assert_eq!(verified(&i), 2);
    let shown = text(&i.verify_command(&i.log()).output().unwrap().stdout);
    assert!(shown.contains("named, still there  2 records: "), "{shown}");
    let seen = doctor(&i, &[]);
    let told = (seen.status.code(), reasons(&json(&seen)).contains(&"REDACTION_UNFINISHED"));
    assert_eq!(told, (Some(0), true));
    std::fs::remove_dir(&in_its_way).unwrap();
    i.serve();
    assert!(!is_told(&i));
    assert_eq!(i.stop(), 0);
    assert_eq!(verified(&i), 0);
    assert!(!reasons(&json(&doctor(&i, &[]))).contains(&"REDACTION_UNFINISHED"));
}
