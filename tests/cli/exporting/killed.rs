//! The sidecar is killed with SIGKILL while it exports, again and again, and the file is rotated meanwhile.
//!
//! `FIELDSEAL_EXPORT_KILLS=200` in the environment kills it 200 times instead of 20.

use std::io::Write as _;
use std::sync::Arc;
use std::time::Instant;

use fieldseal_client::{Client, v1};
use tokio::task::JoinSet;

use super::{Exported, assert_whole};
use crate::installation::{Installation, place};
use crate::process::PATIENCE;

const KILLS: usize = 20;
const CALLERS: usize = 8;

/// How often the next kill came between two steps of the export.
#[derive(Debug, Default)]
struct Moments {
    /// Lines were in the file that the cursor did not know.
    behind_the_cursor: usize,
    /// The last line was half a line.
    torn: usize,
    /// The file had been taken away with such lines.
    rotated: usize,
}

fn kills() -> usize {
    std::env::var("FIELDSEAL_EXPORT_KILLS").map_or(KILLS, |kills| kills.parse().unwrap())
}

/// Decrypts until the sidecar is gone.
async fn decrypt(client: Arc<Client>, sealed: Vec<u8>) {
    let mut client = client.encryption();
    let field = v1::Field {
        key: "keys/customer-pii".to_owned(),
        table: "users".to_owned(),
        column: "email".to_owned(),
        ..Default::default()
    };
    let ciphertext = sealed.into();
    let request = v1::DecryptRequest { field: Some(field), ciphertext, ..Default::default() };
    while client.decrypt(request.clone()).await.is_ok() {}
}

/// The length of the file that is being written, and how much of it the cursor knows.
fn lengths(exported: &Exported) -> Option<(u64, u64)> {
    let cursor: serde_json::Value =
        serde_json::from_slice(&std::fs::read(exported.cursor()).ok()?).ok()?;
    let length = std::fs::metadata(exported.file()).ok()?.len();
    Some((length, cursor["file"]["bytes"].as_u64()?))
}

/// Looks all the time, so that it sees what lasts a moment.
fn wait_for(what: impl Fn() -> bool) {
    let begun = Instant::now();
    while !what() {
        assert!(begun.elapsed() < PATIENCE, "it does not come");
    }
}

/// One life: it is killed at one of several moments of the export.
fn life(i: &mut Installation, exported: &Exported, number: usize, sealed: &[u8]) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let client = Arc::new(runtime.block_on(i.client("app")));
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        callers.spawn_on(decrypt(Arc::clone(&client), sealed.to_vec()), runtime.handle());
    }
    let known = || lengths(exported).map(|(_, known)| known);
    let first = known();
    wait_for(|| known().is_some() && known() != first);
    match number % 4 {
        // Lines are written, and not said of.
        0 | 1 => wait_for(|| lengths(exported).is_some_and(|(length, known)| length > known)),
        // Just said of.
        2 => {
            let before = known();
            wait_for(|| known() != before);
        }
        // Taken away while it is written.
        _ => {
            wait_for(|| lengths(exported).is_some_and(|(length, known)| length > known));
            exported.rotate(number);
        }
    }
    i.sidecar.take().unwrap().0.kill();
    runtime.block_on(async { while callers.join_next().await.is_some() {} });
}

impl Moments {
    fn look(&mut self, exported: &Exported, number: usize) {
        let cursor = exported.known()["file"]["bytes"].as_u64().unwrap();
        let rotated = !exported.file().exists();
        let file = if rotated { exported.rotated(number) } else { exported.file() };
        let bytes = std::fs::read(file).unwrap();
        let behind = bytes.len() as u64 > cursor;
        self.behind_the_cursor += usize::from(behind);
        self.torn += usize::from(behind && bytes.last() != Some(&b'\n'));
        self.rotated += usize::from(behind && rotated);
    }
}

#[test]
fn every_record_has_one_line_after_every_kill() {
    let mut i = Installation::new();
    let exported = Exported::of(&i);
    i.serve();
    i.ok("ops", &["key", "create", "customer-pii"], b"");
    let sealed = i.ok("app", &place("encrypt", &["--binary"]), b"x");
    let mut moments = Moments::default();
    for number in 1..=kills() {
        life(&mut i, &exported, number, &sealed);
        moments.look(&exported, number);
        i.serve();
    }
    assert_eq!(i.stop(), 0);
    let lines = exported.all();
    let report = format!("{} kills, {} lines: {moments:?}", kills(), lines.lines().count());
    writeln!(std::io::stderr(), "{report}").unwrap();
    assert_whole(&i, &lines);
    assert!(moments.behind_the_cursor > 0 && moments.rotated > 0, "{report}");
}
