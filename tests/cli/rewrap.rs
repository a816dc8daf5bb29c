//! `key rewrap` and `key status` with the real program, and what docs/operations.md says of them.

use std::process::Stdio;

use fieldseal_client::v1;
use rustix::process::Signal;
use serde_json::Value;

use crate::installation::{Installation, place};
use crate::process::{Lines, Running, ended, refused, text};
use crate::terminal::Person;

/// Data keys of a test that needs a rewrap to last.
const MANY: usize = 400;

fn command(arguments: &str) -> Vec<&str> {
    arguments.split(' ').collect()
}

fn show(installation: &Installation, arguments: &str) -> Value {
    installation.json("ops", &command(arguments))
}

fn data_keys(installation: &Installation) -> Vec<u64> {
    let status = show(installation, "key status customer-pii");
    let versions = status["versions"].as_array().unwrap();
    versions.iter().map(|version| version["data_keys"].as_u64().unwrap()).collect()
}

/// Seals one value in each of many partitions; gives the ciphertexts.
fn filled(installation: &Installation) -> Vec<v1::DecryptItem> {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let settings = installation.settings("app");
        let client = fieldseal_client::Client::connect(settings).await.unwrap();
        let items = (0..MANY).map(|number| v1::EncryptItem {
            partition: format!("t{number}"),
            row: "1".to_owned(),
            plaintext: Some(plain(number)),
            ..Default::default()
        });
        let request = v1::BatchEncryptRequest {
            fields: vec![field()],
            items: items.collect(),
            ..Default::default()
        };
        let reply = client.encryption().batch_encrypt(request).await.unwrap().into_inner();
        let sealed = reply.results.into_iter().enumerate().map(|(number, result)| {
            let Some(v1::encrypt_result::Result::Ok(ok)) = result.result else {
                panic!("{number}")
            };
            v1::DecryptItem {
                partition: format!("t{number}"),
                row: "1".to_owned(),
                ciphertext: ok.ciphertext,
                ..Default::default()
            }
        });
        sealed.collect()
    })
}

fn field() -> v1::Field {
    let (key, table, column) = ("keys/customer-pii".into(), "users".into(), "email".into());
    v1::Field { key, table, column, extra_context: Vec::new() }
}

fn plain(number: usize) -> v1::Value {
    v1::Value { kind: Some(v1::value::Kind::StringValue(format!("value {number}"))) }
}

fn all_open(installation: &Installation, items: &[v1::DecryptItem]) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let reply = runtime.block_on(async {
        let settings = installation.settings("app");
        let client = fieldseal_client::Client::connect(settings).await.unwrap();
        let (fields, items) = (vec![field()], items.to_vec());
        let request = v1::BatchDecryptRequest { fields, items, reason: None };
        client.encryption().batch_decrypt(request).await.unwrap().into_inner()
    });
    for (number, result) in reply.results.into_iter().enumerate() {
        let Some(v1::decrypt_result::Result::Ok(ok)) = result.result else { panic!("{number}") };
        assert_eq!(ok.plaintext, Some(plain(number)));
    }
}

#[test]
fn a_rewrap_that_is_killed_goes_on_and_ends_and_every_value_opens() {
    let mut installation = Installation::with_key();
    let items = filled(&installation);
    installation.ok("ops", &command("key rotate customer-pii"), b"");
    assert_eq!(data_keys(&installation), [MANY as u64, 0]);
    show(&installation, "key rewrap customer-pii --max-per-second 100 --detach");
    let (mut kills, mut moved) = (0, 0);
    while kills < 3 {
        let so_far = data_keys(&installation)[1];
        if so_far > moved {
            moved = so_far;
            installation.sidecar.take().unwrap().0.kill();
            installation.serve();
            kills += 1;
        }
    }
    assert!(moved < MANY as u64, "the rewrap was over before it was killed");
    let again = installation.run("ops", &command("key rewrap customer-pii"), b"");
    assert_eq!(ended(&again), refused(6, "REWRAP_RUNNING"));
    // A person looks on, goes away, and comes back for the end.
    let mut watching = installation.command("ops", &command("key rewrap customer-pii --watch"));
    watching.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut watching = Running::new(&mut watching);
    let mut lines = Lines::of(watching.child().stderr.take().unwrap());
    lines.wait(|line| line.contains(" data keys moved, ").then_some(()));
    watching.signal(Signal::INT);
    assert_eq!(watching.code(), 0);
    assert!(lines.all().contains("the rewrap goes on"));
    let done = show(&installation, "key rewrap customer-pii --watch");
    assert_eq!(done["job"]["state"], "DONE");
    assert_eq!(done["job"]["moved_data_keys"], MANY as u64);
    assert_eq!(data_keys(&installation), [0, MANY as u64]);
    all_open(&installation, &items);
    // The old version has nothing any more, in the process that follows, too.
    assert_eq!(installation.stop(), 0);
    installation.serve();
    all_open(&installation, &items);
    let status = text(&installation.ok("ops", &command("key status customer-pii"), b""));
    assert!(status.contains("yes: it wraps no data key"), "{status}");
    assert!(status.contains("the rotation is finished"), "{status}");
}

#[test]
fn a_rewrap_can_be_asked_about_and_cancelled() {
    let installation = Installation::with_key();
    filled(&installation);
    let run = |arguments| ended(&installation.run("ops", &command(arguments), b""));
    assert_eq!(run("key rewrap customer-pii --cancel"), refused(3, "REWRAP_NOT_FOUND"));
    assert_eq!(run("key rewrap nobody-s"), refused(3, "KEY_NOT_FOUND"));
    assert_eq!(run("key status nobody-s"), refused(3, "KEY_NOT_FOUND"));
    let denied = installation.run("app", &command("key rewrap customer-pii"), b"");
    assert_eq!(ended(&denied), refused(4, "PERMISSION_DENIED"));
    installation.ok("ops", &command("key rotate customer-pii"), b"");
    let would = show(&installation, "key rewrap customer-pii --validate-only");
    assert_eq!(would["job"]["remaining_data_keys"], MANY as u64);
    assert_eq!(data_keys(&installation), [MANY as u64, 0]);
    let old = run("key rewrap customer-pii --etag 1");
    assert_eq!(old, refused(6, "ETAG_MISMATCH"));
    let mut person = Person::new();
    let slowly = command("key rewrap customer-pii --max-per-second 1");
    let watching = person.run(&mut installation.command("ops", &slowly));
    person.answers("rewrapping keys/customer-pii", "");
    person.answers(" data keys", "");
    watching.signal(Signal::INT);
    person.answers("the rewrap goes on: fieldseal key rewrap customer-pii --watch", "");
    assert_eq!(watching.output().status.code(), Some(0));
    let again = installation.run("ops", &command("key rewrap customer-pii"), b"");
    let said = text(&again.stderr);
    assert!(said.contains("REWRAP_RUNNING") && said.contains("--cancel"), "{said}");
    assert!(!said.contains("RewrapJob"), "{said}");
    let cancelled = show(&installation, "key rewrap customer-pii --cancel");
    assert_eq!(cancelled["job"]["state"], "CANCELLED");
    assert!(cancelled["event"].is_string());
    assert_eq!(run("key rewrap customer-pii --cancel"), refused(6, "REWRAP_NOT_RUNNING"));
    let left = cancelled["job"]["remaining_data_keys"].as_u64().unwrap();
    assert!(left > 0);
    let said = text(&installation.ok("ops", &command("key rewrap customer-pii"), b""));
    assert!(said.contains(&format!("moved {left} data keys under version 2")), "{said}");
}

/// The commands of "Rotate to the end", as they stand there.
#[test]
fn a_rotation_is_finished_as_the_runbook_says() {
    let installation = Installation::with_key();
    let seal = place("encrypt", &["--row", "1", "--partition", "t"]);
    let sealed = installation.ok("app", &seal, b"ada@example.com");
    let document = include_str!("../../docs/operations.md");
    let section = document.split("## Rotate to the end").nth(1).unwrap();
    let script = section.split("```sh").nth(1).unwrap().split("```").next().unwrap();
    let mut said = String::new();
    for line in script.lines().filter(|line| line.starts_with("fieldseal ")) {
        let arguments = line.split('#').next().unwrap().trim().strip_prefix("fieldseal ").unwrap();
        said += &text(&installation.ok("ops", &command(arguments), b""));
    }
    assert!(said.contains("yes: it wraps no data key"), "{said}");
    assert!(
        show(&installation, "key status customer-pii")["versions"][0]["verdict"]
            .as_str()
            .is_some_and(|verdict| verdict.starts_with("it is going to be"))
    );
    let open = place("decrypt", &["--row", "1", "--partition", "t"]);
    assert_eq!(installation.ok("app", &open, &sealed), b"ada@example.com");
}
