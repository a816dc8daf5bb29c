//! A database that turns out to contradict itself while the sidecar serves: the process ends with 9
//! and says so, whoever reads the damaged page first.

use std::collections::BTreeSet;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::Signal;

use super::rewrites::Values;
use crate::installation::Installation;
use crate::process::{Lines, Running, event, ready};
use crate::trouble::block_on;

/// Enough that the scrub after the start, which reads all of them, takes some time.
const DATA_KEYS: usize = 3_000;
/// So often it may happen that everything has been read before it is damaged.
const TRIES: usize = 10;
/// Every page is longer than this.
const BLOCK: usize = 512;

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(copied.success());
}

/// Flips a bit in each block of the database, in its place.
fn damage(file: &Path) {
    let mut bytes = std::fs::read(file).unwrap();
    for at in (0..bytes.len()).step_by(BLOCK) {
        bytes[at] ^= 1;
    }
    let file = std::fs::OpenOptions::new().write(true).open(file).unwrap();
    file.write_all_at(&bytes, 0).unwrap();
}

/// True if a sidecar whose files are damaged as soon as it serves has noticed it.
fn notices(installation: &Installation) -> bool {
    let mut command = installation.serve_command();
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut running = Running::new(&mut command);
    let mut lines = Lines::of(running.child().stderr.take().unwrap());
    lines.wait(ready);
    running.signal(Signal::STOP);
    damage(&installation.home().join("state/store/db"));
    running.signal(Signal::CONT);
    let ended = lines.wait(|line| {
        let scrubbed = event("store_scrubbed", line).map(|_| false);
        scrubbed.or_else(|| line.starts_with("reason  ").then_some(true))
    });
    if ended {
        let said = lines.all();
        assert!(said.contains("\nreason  STORE_CORRUPT\n"), "{said}");
        assert!(said.contains("store_damaged") || said.contains("database_thread_gone"), "{said}");
        assert_eq!(running.code(), 9, "{said}");
    }
    ended
}

#[test]
fn a_sidecar_whose_database_turns_out_to_be_damaged_ends_with_9() {
    let mut installation = Installation::with_key();
    let mut values = Values::default();
    block_on(async { values.fill(&installation.client("app").await, DATA_KEYS).await });
    assert_eq!(installation.stop(), 0);
    let (state, whole) = (installation.home().join("state"), installation.path("whole"));
    copy(&state, Path::new(&whole));
    let again = || {
        std::fs::remove_dir_all(&state).unwrap();
        copy(Path::new(&whole), &state);
    };
    let noticed = (0..TRIES).any(|_| {
        again();
        notices(&installation)
    });
    assert!(noticed, "everything was read before it was damaged, {TRIES} times");
    // The files as they were: nothing is wrong with the installation itself.
    again();
    installation.serve();
    block_on(values.check(&installation, &BTreeSet::new()));
    assert_eq!(installation.stop(), 0);
}
