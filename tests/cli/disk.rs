//! What a failing disk does to the running sidecar: one test for each row of the table in
//! docs/architecture.md that needs real files. (tests/foreign has those that need a failing system
//! call.)

mod export;
mod restarts;
mod small;

use fieldseal_client::{Failure, v1};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use crate::installation::{Installation, place};
use crate::process::{ended, refused, text};
use small::{SmallDisk, in_a_namespace};

const SEGMENT: &str = "audit/segment-00000000000000000000.log";
const MIB: u64 = 1024 * 1024;

fn block_on<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(future)
}

/// Waits until the sidecar's health is this.
fn becomes(installation: &mut Installation, expected: &str) {
    let (running, mut lines) = installation.sidecar.take().unwrap();
    lines.until(|| {
        let status = block_on(async {
            let client = installation.client("app").await;
            let request = HealthCheckRequest { service: String::new() };
            HealthClient::new(client.channel()).check(request).await.unwrap().into_inner()
        });
        (status.status().as_str_name() == expected).then_some(())
    });
    installation.sidecar = Some((running, lines));
}

/// The sidecar's own words about its store and its log.
fn troubles(installation: &Installation) -> String {
    let output = installation.run("ops", &["status"], b"");
    assert_eq!(ended(&output).1, "NOT_READY");
    text(&output.stdout) + &text(&output.stderr)
}

/// Something is done to the files of the state, and undone.
struct Harm {
    name: &'static str,
    /// What is moved away.
    what: &'static str,
    /// Whether a copy is put in its place.
    replaced: bool,
}

const fn harm(name: &'static str, what: &'static str, replaced: bool) -> Harm {
    Harm { name, what, replaced }
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    let copied = std::process::Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(copied.success());
}

impl Harm {
    fn done(&self, installation: &Installation) {
        let (state, away) = (installation.home().join("state"), installation.path("away"));
        std::fs::rename(state.join(self.what), &away).unwrap();
        if self.replaced {
            copy(away.as_ref(), &state.join(self.what));
        }
    }

    fn undone(&self, installation: &Installation) {
        let at = installation.home().join("state").join(self.what);
        if self.replaced && at.is_dir() {
            std::fs::remove_dir_all(&at).unwrap();
        }
        std::fs::rename(installation.path("away"), at).unwrap();
    }
}

#[test]
fn without_its_log_s_files_nothing_is_decrypted_or_changed_until_they_are_back() {
    let mut installation = Installation::with_key();
    let sealed = installation.ok("app", &place("encrypt", &[]), b"x");
    for harm in [
        harm("the log file unlinked", SEGMENT, false),
        harm("the log file replaced", SEGMENT, true),
        harm("the log's directory gone", "audit", false),
        harm("the log's directory replaced", "audit", true),
    ] {
        harm.done(&installation);
        let opened = installation.run("app", &place("decrypt", &[]), &sealed);
        assert_eq!(ended(&opened), refused(5, "AUDIT_UNAVAILABLE"), "{}", harm.name);
        assert!(opened.stdout.is_empty(), "{}", harm.name);
        let made = installation.run("ops", &["key", "create", "another"], b"");
        assert_eq!(ended(&made), refused(5, "AUDIT_UNAVAILABLE"), "{}", harm.name);
        becomes(&mut installation, "NOT_SERVING");
        let said = troubles(&installation);
        assert!(said.contains("was removed or replaced; put it back"), "{}: {said}", harm.name);
        harm.undone(&installation);
        becomes(&mut installation, "SERVING");
        assert_eq!(installation.ok("app", &place("decrypt", &[]), &sealed), b"x", "{}", harm.name);
    }
    assert_eq!(installation.stop(), 0);
    assert!(installation.verify(&installation.log()).status.success());
}

#[test]
fn a_stop_without_its_log_does_not_take_it_for_a_full_disk() {
    let mut installation = Installation::with_key();
    let gone = harm("the log file unlinked", SEGMENT, false);
    gone.done(&installation);
    becomes(&mut installation, "NOT_SERVING");
    assert_eq!(installation.stop(), 5);
    gone.undone(&installation);
    installation.serve();
    assert_eq!(installation.stop(), 0);
    assert!(installation.verify(&installation.log()).status.success());
}

#[test]
fn without_its_store_s_files_nothing_is_changed_until_they_are_back() {
    let mut installation = Installation::with_key();
    let sealed = installation.ok("app", &place("encrypt", &[]), b"x");
    for harm in [
        harm("the store's directory gone", "store", false),
        harm("the store's directory replaced", "store", true),
        harm("the store's file unlinked", "store/db", false),
    ] {
        harm.done(&installation);
        for (caller, arguments) in [
            ("ops", vec!["key", "create", "another"]),
            ("ops", vec!["key", "rotate", "customer-pii"]),
            ("app", place("encrypt", &["--partition", "new"])),
        ] {
            let output = installation.run(caller, &arguments, b"y");
            assert_eq!(ended(&output), refused(5, "STORE_UNAVAILABLE"), "{}", harm.name);
        }
        // What needs no write goes on.
        assert_eq!(installation.ok("app", &place("decrypt", &[]), &sealed), b"x", "{}", harm.name);
        becomes(&mut installation, "NOT_SERVING");
        let said = troubles(&installation);
        assert!(said.contains("removed or replaced; put them back"), "{}: {said}", harm.name);
        harm.undone(&installation);
        becomes(&mut installation, "SERVING");
    }
    installation.ok("ops", &["key", "create", "another"], b"");
    assert_eq!(installation.stop(), 0);
    installation.serve();
    installation.ok("ops", &["key", "show", "another"], b"");
}

#[test]
fn a_log_or_store_that_is_gone_for_good_is_not_made_anew() {
    for (gone, reason) in [
        ("audit", "AUDIT_LOG_NOT_INITIALIZED"),
        ("store", "STORE_NOT_INITIALIZED"),
        ("keyring.json", "STORE_NOT_INITIALIZED"),
    ] {
        let mut installation = Installation::with_key();
        let gone_path = installation.home().join("state").join(gone);
        if gone_path.is_dir() {
            std::fs::remove_dir_all(&gone_path).unwrap();
            let made = installation.run("ops", &["key", "create", "another"], b"");
            assert_eq!(ended(&made).0, 5, "{gone}");
        } else {
            std::fs::remove_file(&gone_path).unwrap();
        }
        installation.sidecar.take().unwrap().0.kill();
        let output = installation.serve_command().output().unwrap();
        assert_eq!(ended(&output), refused(3, reason));
        let said = text(&output.stderr);
        assert!(said.contains("restore it from a backup, or mount the volume"), "{said}");
        assert!(!said.contains("init"), "{gone}: a lost one is not made anew: {said}");
        assert_eq!(said.matches(reason).count(), 1, "{said}");
        assert!(!gone_path.exists(), "{gone} was made anew");
    }
}

#[test]
#[ignore = "mounts a small disk: `bash tests/foreign/run` runs it"]
fn a_log_on_a_read_only_disk_is_no_log() {
    if !in_a_namespace("disk::a_log_on_a_read_only_disk_is_no_log") {
        return;
    }
    let mut installation = Installation::with_key();
    installation.sidecar.take().unwrap().0.kill();
    let disk = SmallDisk::read_only(&installation.log());
    let output = installation.serve_command().output().unwrap();
    assert_eq!(ended(&output), refused(5, "AUDIT_UNAVAILABLE"));
    let said = text(&output.stderr);
    assert!(said.contains("Read-only file system") && said.contains("start it again"), "{said}");
    drop(disk);
    installation.serve();
    assert_eq!(installation.stop(), 0);
}

/// A change is refused. Free space is looked at ten times a second, so a first one may be before that.
fn no_more_changes(installation: &Installation) {
    let made = (0..50).map(|n| installation.run("ops", &["key", "create", &format!("k-{n}")], b""));
    let refused_one = made.into_iter().find(|made| !made.status.success()).expect("a refusal");
    assert_eq!(ended(&refused_one), refused(8, "STORE_FULL"));
    assert!(text(&refused_one.stderr).contains("free some"), "{}", text(&refused_one.stderr));
}

#[test]
#[ignore = "mounts a small disk: `bash tests/foreign/run` runs it"]
fn a_full_disk_refuses_what_needs_it_and_space_that_returns_is_noticed() {
    let name = "disk::a_full_disk_refuses_what_needs_it_and_space_that_returns_is_noticed";
    if !in_a_namespace(name) {
        return;
    }
    let mut installation = Installation::new();
    let config = std::fs::read_to_string(installation.config()).unwrap();
    let small = config.replace("reserve_mib = 64", "reserve_mib = 2");
    assert_ne!(config, small);
    std::fs::write(installation.config(), small).unwrap();
    let disk = SmallDisk::under(&installation.home().join("state"), 24 * MIB);
    installation.serve();
    installation.ok("ops", &["key", "create", "customer-pii"], b"");
    let sealed = installation.ok("app", &place("encrypt", &["--binary"]), b"x");

    disk.fill();
    no_more_changes(&installation);
    // Decrypts go on in the segments that are made already, and no further.
    assert!(block_on(decrypt_until_refused(&installation, &sealed, 500)) > 0);
    // Where a long record has no room any more, a short one may have.
    block_on(decrypt_until_refused(&installation, &sealed, 1));
    becomes(&mut installation, "NOT_SERVING");
    let said = troubles(&installation);
    assert!(said.contains("no space for its next segment"), "{said}");
    let refused_one = installation.run("app", &place("decrypt", &["--partition", "no"]), &sealed);
    assert_eq!(ended(&refused_one), refused(5, "AUDIT_UNAVAILABLE"), "a refusal has a record too");

    disk.free();
    becomes(&mut installation, "SERVING");
    assert_eq!(installation.ok("app", &place("decrypt", &[]), &sealed), b"x");
    installation.ok("ops", &["key", "create", "another"], b"");

    // A start that finds no space says so, harms nothing, and works when there is some.
    disk.fill();
    installation.sidecar.take().unwrap().0.kill();
    let output = installation.serve_command().output().unwrap();
    assert_eq!(ended(&output), refused(8, "STORE_FULL"), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("free space"), "{}", text(&output.stderr));
    disk.free();
    installation.serve();
    assert_eq!(installation.ok("app", &place("decrypt", &[]), &sealed), b"x");
    assert_eq!(installation.stop(), 0);
    assert!(installation.verify(&installation.log()).status.success());
}

/// Decrypts batches until the log takes no more; how many.
async fn decrypt_until_refused(i: &Installation, sealed: &[u8], items: usize) -> u32 {
    let mut client = i.client("app").await.encryption();
    let key = "keys/customer-pii".to_owned();
    let (table, column) = ("users".to_owned(), "email".to_owned());
    let item = v1::DecryptItem { ciphertext: sealed.to_vec().into(), ..Default::default() };
    let request = v1::BatchDecryptRequest {
        fields: vec![v1::Field { key, table, column, ..Default::default() }],
        items: vec![item; items],
        reason: None,
    };
    for opened in 0..1000 {
        match client.batch_decrypt(request.clone()).await {
            Ok(answer) => {
                let items = answer.into_inner().results;
                let ok = |item: &v1::DecryptResult| {
                    matches!(item.result, Some(v1::decrypt_result::Result::Ok(_)))
                };
                assert!(items.iter().all(ok), "{:?}", items.len());
            }
            Err(status) => {
                assert_eq!(Failure::from(&status).reason(), "AUDIT_UNAVAILABLE");
                return opened;
            }
        }
    }
    panic!("a full disk takes a thousand records")
}

#[test]
#[ignore = "mounts a small disk: `bash tests/foreign/run` runs it"]
fn below_the_reserve_of_64_mib_the_store_takes_no_writes() {
    let name = "disk::below_the_reserve_of_64_mib_the_store_takes_no_writes";
    if !in_a_namespace(name) {
        return;
    }
    let mut installation = Installation::new();
    let disk = SmallDisk::under(&installation.home().join("state"), 96 * MIB);
    installation.serve();
    installation.ok("ops", &["key", "create", "customer-pii"], b"");
    let sealed = installation.ok("app", &place("encrypt", &[]), b"x");
    disk.fill_to(63 * MIB);
    no_more_changes(&installation);
    assert_eq!(installation.ok("app", &place("decrypt", &[]), &sealed), b"x", "decrypts go on");
    becomes(&mut installation, "NOT_SERVING");
    let said = troubles(&installation);
    assert!(said.contains("free space is below its reserve"), "{said}");
    disk.free();
    becomes(&mut installation, "SERVING");
    installation.ok("ops", &["key", "create", "another"], b"");
    assert_eq!(installation.stop(), 0);
}
