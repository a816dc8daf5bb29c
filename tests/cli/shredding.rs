//! Shredding over the real server: what callers see, and what an operator does, with every command of
//! docs/operations.md's "Shred a person or tenant".

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use fieldseal_api::v1;
use serde_json::Value;

use crate::backup::Backed;
use crate::installation::{Installation, place};
use crate::probes::{sample, scrape};
use crate::process::{ended, program, refused, text};

const CALLERS: usize = 64;
const SEALERS: usize = 8;
/// Calls that each caller makes after the answer at least.
const AFTERWARDS: usize = 5;

fn shred<'a>(command: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let place = ["key", command, "customer-pii", "--partition", "ada"];
    place.into_iter().chain(more.iter().copied()).collect()
}

/// With windows that are over at once.
fn installation() -> Installation {
    let mut installation = Installation::new();
    installation.set("shred_window_least_hours = 24", "shred_window_least_hours = 0");
    installation.serve();
    installation.ok("ops", &["key", "create", "customer-pii"], b"");
    installation
}

fn sealed(installation: &Installation, partition: &str) -> Vec<u8> {
    let arguments = place("encrypt", &["--row", "1", "--partition", partition]);
    installation.ok("app", &arguments, b"ada@example.com")
}

fn opened(installation: &Installation, partition: &str, sealed: &[u8]) -> (i32, String) {
    let arguments = place("decrypt", &["--row", "1", "--partition", partition]);
    ended(&installation.run("app", &arguments, sealed))
}

/// What the callers of a test did.
#[derive(Default)]
struct Seen {
    /// When the latest call began that succeeded.
    latest: std::sync::Mutex<Option<Instant>>,
    succeeded: AtomicUsize,
    refused: AtomicUsize,
    others: std::sync::Mutex<Vec<String>>,
    is_over: AtomicBool,
}

impl Seen {
    fn add<T>(&self, began: Instant, answer: Result<T, tonic::Status>) {
        match answer {
            Ok(_) => {
                self.succeeded.fetch_add(1, Ordering::Relaxed);
                let mut latest = self.latest.lock().unwrap();
                *latest = (*latest).max(Some(began));
            }
            Err(status) => {
                let failure = fieldseal_client::Failure::from(&status);
                match failure.reason() {
                    "PARTITION_SHREDDED" => drop(self.refused.fetch_add(1, Ordering::Relaxed)),
                    other => self.others.lock().unwrap().push(other.to_owned()),
                }
            }
        }
    }
}

/// What opens the sealed value of `ada`, and what seals another.
fn requests(ciphertext: &str) -> (v1::DecryptRequest, v1::EncryptRequest) {
    let (key, table, column) = ("keys/customer-pii", "users", "email");
    let (key, table, column) = (key.to_owned(), table.to_owned(), column.to_owned());
    let field = Some(v1::Field { key, table, column, ..Default::default() });
    let (row, partition) = ("1".to_owned(), "ada".to_owned());
    let kind = Some(v1::value::Kind::StringValue("x".to_owned()));
    let encrypt = v1::EncryptRequest {
        field: field.clone(),
        row: row.clone(),
        partition: partition.clone(),
        plaintext: Some(v1::Value { kind }),
        ..Default::default()
    };
    let ciphertext = ciphertext.to_owned().into_bytes().into();
    (v1::DecryptRequest { field, row, partition, ciphertext, ..Default::default() }, encrypt)
}

#[test]
fn no_call_that_began_after_the_answer_opens_or_seals_anything() {
    let installation = installation();
    let ciphertext = sealed(&installation, "ada");
    let ciphertext = text(&ciphertext).trim_end().to_owned();
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(1).enable_all().build().unwrap();
    let (opening, sealing) = (Arc::new(Seen::default()), Arc::new(Seen::default()));
    runtime.block_on(async {
        let (mut callers, mut clients) = (Vec::new(), Vec::new());
        for _ in 0..4 {
            clients.push(installation.client("app").await);
        }
        for caller in 0..CALLERS + SEALERS {
            let mut client = clients[caller % clients.len()].encryption();
            let seals = caller >= CALLERS;
            let seen = Arc::clone(if seals { &sealing } else { &opening });
            let (decrypt, encrypt) = requests(&ciphertext);
            callers.push(tokio::spawn(async move {
                let mut afterwards = 0;
                while afterwards < AFTERWARDS {
                    afterwards += usize::from(seen.is_over.load(Ordering::SeqCst));
                    let began = Instant::now();
                    if seals {
                        seen.add(began, client.encrypt(encrypt.clone()).await);
                    } else {
                        seen.add(began, client.decrypt(decrypt.clone()).await);
                    }
                }
            }));
        }
        let all = |seen: &Seen| seen.succeeded.load(Ordering::Relaxed);
        while all(&opening) < 20 * CALLERS || all(&sealing) < 20 * SEALERS {
            tokio::task::yield_now().await;
        }
        let mut ops = installation.client("ops").await.keys();
        let request = v1::ShredPartitionRequest {
            name: "keys/customer-pii".to_owned(),
            partition: "ada".to_owned(),
            ..Default::default()
        };
        ops.shred_partition(request).await.unwrap();
        let answered = Instant::now();
        opening.is_over.store(true, Ordering::SeqCst);
        sealing.is_over.store(true, Ordering::SeqCst);
        for caller in callers {
            caller.await.unwrap();
        }
        for (seen, callers) in [(&opening, CALLERS), (&sealing, SEALERS)] {
            assert_eq!(*seen.others.lock().unwrap(), Vec::<String>::new());
            assert!(
                seen.latest.lock().unwrap().unwrap() < answered,
                "a call began later and succeeded"
            );
            assert!(seen.refused.load(Ordering::Relaxed) >= callers * AFTERWARDS);
        }
    });
}

#[test]
fn an_operator_shreds_restores_erases_and_shows_the_receipt() {
    let installation = installation();
    let ada = sealed(&installation, "ada");
    let bob = sealed(&installation, "bob");
    let run = |arguments: &[&str]| ended(&installation.run("ops", arguments, b""));
    // What is wrong gets its own error, and nothing happens.
    assert_eq!(run(&["key", "shred", "customer-pii"]).0, 2);
    assert_eq!(run(&shred("shred", &[])), refused(2, "CONFIRMATION_REQUIRED"));
    assert_eq!(run(&shred("shred", &["--confirm", "other"])), refused(2, "CONFIRMATION_REQUIRED"));
    assert_eq!(run(&shred("unshred", &[])), refused(6, "PARTITION_STATE_INVALID"));
    assert_eq!(run(&shred("reopen", &[])), refused(6, "PARTITION_STATE_INVALID"));
    let nobody = ["key", "partition", "customer-pii", "--partition", "nobody"];
    assert_eq!(run(&nobody), refused(3, "PARTITION_NOT_FOUND"));
    let denied = installation.run("app", &shred("shred", &["--confirm", "customer-pii"]), b"");
    assert_eq!(ended(&denied), refused(4, "PERMISSION_DENIED"));
    let would = installation.json("ops", &shred("shred", &["--validate-only"]));
    assert_eq!((&would["valid"], &would["partition"]["data_keys"]), (&true.into(), &1.into()));
    assert_eq!(opened(&installation, "ada", &ada).0, 0);

    let confirmed = shred("shred", &["--confirm", "customer-pii", "--ticket", "GDPR-17"]);
    let shredded = installation.json("ops", &confirmed);
    assert_eq!(shredded["partition"]["state"], "SHREDDING", "{shredded}");
    assert!(shredded["event"].as_str().unwrap().starts_with("logs/main/events/"), "{shredded}");
    assert_eq!(opened(&installation, "ada", &ada), refused(6, "PARTITION_SHREDDED"));
    assert_eq!(opened(&installation, "bob", &bob).0, 0);
    let waiting = sample(&scrape(&installation), "fieldseal_partitions_shredding");
    assert_eq!(waiting, Some(1.0));
    installation.json("ops", &shred("unshred", &[]));
    assert_eq!(opened(&installation, "ada", &ada).0, 0);

    // Without a window, the data keys go at once.
    let now = shred("shred", &["--confirm", "customer-pii", "--window-hours", "0"]);
    installation.json("ops", &now);
    let shown = until_there_is_a_receipt(&installation, "ada");
    assert_eq!(shown["partition"]["state"], "ERASED", "{shown}");
    assert_eq!(shown["partition"]["erased_data_keys"], 1, "{shown}");
    assert_eq!(opened(&installation, "ada", &ada), refused(6, "PARTITION_SHREDDED"));
    check_receipt(&installation);
    let json = installation.json("ops", &shred("reopen", &[]));
    assert_eq!(json["partition"]["state"], "OPEN", "{json}");
    let new = sealed(&installation, "ada");
    assert_eq!(opened(&installation, "ada", &new).0, 0);
    assert_eq!(opened(&installation, "ada", &ada), refused(6, "PARTITION_SHREDDED"));
    let table = text(&installation.ok("ops", &shred("partition", &[]), b""));
    assert!(table.contains("OPEN") && table.contains("data keys erased"), "{table}");
}

/// The commands of "Shred a person or tenant" in the document for operators.
fn documented(installation: &Installation) -> Vec<Vec<String>> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/operations.md");
    let document = std::fs::read_to_string(path).unwrap();
    let (_, section) = document.split_once("\n## Shred a person or tenant\n").unwrap();
    let section = section.split("\n## ").next().unwrap().replace("\\\n", " ");
    let commands = section.lines().filter_map(|line| line.strip_prefix("fieldseal "));
    let word = |word: &str| match word {
        "receipt.json" => installation.path("receipt.json"),
        "/var/lib/fieldseal/state/audit/log.pub" => {
            installation.log().join("log.pub").to_str().unwrap().to_owned()
        }
        other => other.to_owned(),
    };
    commands.map(|command| command.split_whitespace().map(word).collect()).collect()
}

#[test]
fn the_commands_of_the_document_run_in_their_order() {
    let installation = installation();
    let run = |words: &[String], more: &[&str]| {
        let words: Vec<&str> =
            words.iter().map(String::as_str).chain(more.iter().copied()).collect();
        text(&installation.ok("ops", &words, b""))
    };
    let old = sealed(&installation, "tenant-17");
    let commands = documented(&installation);
    let verbs: Vec<&str> = commands.iter().map(|words| words[1].as_str()).collect();
    let expected =
        ["shred", "shred", "partition", "unshred", "partition", "check-receipt", "reopen"];
    assert_eq!(verbs, expected);
    for (words, opens) in commands.iter().zip([true, false, false, true]) {
        run(words, &[]);
        let (code, _) = opened(&installation, "tenant-17", &old);
        assert_eq!(code == 0, opens, "{words:?}");
    }
    run(&commands[1], &["--window-hours", "0"]);
    until_there_is_a_receipt(&installation, "tenant-17");
    for words in &commands[4..] {
        run(words, &[]);
    }
    assert_eq!(opened(&installation, "tenant-17", &old), refused(6, "PARTITION_SHREDDED"));
    let new = sealed(&installation, "tenant-17");
    assert_eq!(opened(&installation, "tenant-17", &new).0, 0);
}

#[test]
fn a_receipt_names_the_backups_that_still_hold_the_data_keys() {
    let backed = Backed::configured(|at| {
        at.set("shred_window_least_hours = 24", "shred_window_least_hours = 0");
    });
    backed.seal("ada", "ada@example.com");
    let with_them = backed.back_up();
    let now = shred("shred", &["--confirm", "customer-pii", "--window-hours", "0"]);
    backed.at.json("ops", &now);
    until_there_is_a_receipt(&backed.at, "ada");
    // One that is made afterwards has nothing of them.
    backed.back_up();
    let shown = until_there_is_a_receipt(&backed.at, "ada");
    let signed = shown["shred_receipt"]["receipt"].as_str().unwrap();
    let statement: Value = serde_json::from_str(signed).unwrap();
    let backups = statement["backups"].as_array().unwrap();
    assert_eq!(backups.len(), 1, "{statement}");
    let file = with_them.file_name().unwrap().to_str().unwrap();
    assert!(file.starts_with(backups[0]["name"].as_str().unwrap()), "{file}: {statement}");
    let until = |name: &str| backups[0][name].as_str().unwrap().to_owned();
    assert!(until("expires_at") > until("created_at"), "{statement}");
}

/// The job that erases runs by itself.
fn until_there_is_a_receipt(installation: &Installation, partition: &str) -> Value {
    let began = Instant::now();
    loop {
        let arguments = ["key", "partition", "customer-pii", "--partition", partition];
        let shown = installation.json("ops", &arguments);
        if !shown["shred_receipt"].is_null() {
            return shown;
        }
        assert!(began.elapsed().as_secs() < 120, "{shown}");
    }
}

fn check_receipt(installation: &Installation) {
    let file = installation.path("receipt.json");
    let said = text(&installation.ok("ops", &shred("partition", &["--receipt", &file]), b""));
    assert!(said.contains(&format!("written to {file}")), "{said}");
    let key = installation.log().join("log.pub");
    let check = |file: &str, partition: &str| {
        let mut command = program();
        command.args(["key", "check-receipt", file, "--partition", partition, "--public-key"]);
        command.arg(&key).output().unwrap()
    };
    let checked = check(&file, "ada");
    let said = text(&checked.stdout);
    assert!(checked.status.success(), "{}", text(&checked.stderr));
    assert!(said.contains("customer-pii") && said.contains("Copies taken elsewhere"), "{said}");
    assert_eq!(ended(&check(&file, "bob")), refused(7, "RECEIPT_WRONG"));
    let again = installation.run("ops", &shred("partition", &["--receipt", &file]), b"");
    assert_eq!(ended(&again), refused(6, "FILE_EXISTS"));
    let altered = installation.path("altered.json");
    let receipt = std::fs::read_to_string(&file).unwrap();
    assert!(receipt.contains(r#"\"data_keys\":1"#), "{receipt}");
    std::fs::write(&altered, receipt.replace(r#"\"data_keys\":1"#, r#"\"data_keys\":2"#)).unwrap();
    assert_eq!(ended(&check(&altered, "ada")), refused(7, "RECEIPT_WRONG"));
    std::fs::write(&altered, "{}").unwrap();
    assert_eq!(ended(&check(&altered, "ada")), refused(2, "RECEIPT_INVALID"));
}
