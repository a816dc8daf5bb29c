//! `audit verify --state`: what a run remembers, and that what it remembers hides nothing new; and
//! `audit tiles`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use crate::installation::{Installation, place};
use crate::process::{ended, program, refused, with_input};

const SEGMENT: &str = "segment-00000000000000000000.log";
const OK: (i32, String) = (0, String::new());

/// A log that grows, and a copy of it as it was before.
struct Grown {
    at: Installation,
    before: PathBuf,
}

impl Grown {
    fn new() -> Self {
        let mut at = Installation::with_key();
        let sealed = at.ok("app", &place("encrypt", &["--row", "42"]), b"ada@example.com");
        let decrypt = place("decrypt", &["--row", "42"]);
        at.ok("app", &decrypt, &sealed);
        assert_eq!(at.stop(), 0);
        let before = PathBuf::from(at.path("before"));
        fs::create_dir(&before).unwrap();
        for file in [SEGMENT, "log.pub"] {
            fs::copy(at.log().join(file), before.join(file)).unwrap();
        }
        at.serve();
        at.ok("app", &decrypt, &sealed);
        assert_eq!(at.stop(), 0);
        Self { at, before }
    }

    fn verify(&self, log: &Path, more: &[&str], input: &str) -> Output {
        let mut command = program();
        command.args(["audit", "verify", "--log"]).arg(log);
        command.arg("--public-key").arg(self.at.log().join("log.pub"));
        command.arg("--state").arg(self.at.path("state")).args(more);
        with_input(command, input.as_bytes())
    }

    fn good(&self, log: &Path, more: &[&str], input: &str) -> serde_json::Value {
        let verified = self.verify(log, &[more, &["--output", "json"]].concat(), input);
        assert_eq!(ended(&verified), OK);
        serde_json::from_slice(&verified.stdout).unwrap()
    }

    fn state(&self) -> String {
        fs::read_to_string(self.at.path("state")).unwrap()
    }

    /// A directory with this segment.
    fn altered(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let to = PathBuf::from(self.at.path(name));
        fs::create_dir(&to).unwrap();
        fs::write(to.join(SEGMENT), bytes).unwrap();
        to
    }
}

/// Where the frames of a segment begin.
fn frames(bytes: &[u8]) -> Vec<usize> {
    (0..bytes.len() - 4).step_by(8).filter(|at| &bytes[*at..*at + 4] == b"FSFR").collect()
}

#[test]
fn the_next_run_reads_what_is_new_and_finds_what_is_wrong_there() {
    let grown = Grown::new();
    let log = grown.at.log();
    let first = grown.good(&grown.before, &[], "");
    assert_eq!(first["resumed_from"], 0);
    let then = grown.state();
    let second = grown.good(&log, &[], "");
    assert_eq!(second["resumed_from"], first["records"]);
    assert_eq!(second["ranges"][0]["first"], first["records"]);
    let new = second["records"].as_u64().unwrap() - first["records"].as_u64().unwrap();
    assert!(second["signatures"].as_u64().unwrap() <= new, "{second}");
    let newest = grown.state();
    assert_ne!(newest, then);
    let nothing_new = grown.good(&log, &[], "");
    assert_eq!(
        (&nothing_new["resumed_from"], &nothing_new["ranges"]),
        (&second["records"], &serde_json::json!([]))
    );
    assert_eq!(nothing_new["root"], second["root"]);
    assert_eq!(grown.good(&log, &["--full"], "")["resumed_from"], 0);
    // A checkpoint that is older than the state can be compared only if everything is read.
    let line = first["checkpoint"].as_str().unwrap();
    assert_eq!(grown.good(&log, &["--checkpoint", "-"], line)["resumed_from"], 0);
    let line = second["checkpoint"].as_str().unwrap();
    let compared = grown.good(&log, &["--checkpoint", "-"], line);
    assert_eq!(compared["resumed_from"], second["records"]);

    // The log of before is not the one that was verified last.
    let short = grown.verify(&grown.before, &[], "");
    assert_eq!(ended(&short), refused(12, "AUDIT_RECORDS_MISSING"));
    assert_eq!(grown.state(), newest, "a bad log loses nothing");
    // What is new is judged, and what is not new is read only with --full.
    fs::write(grown.at.path("state"), &then).unwrap();
    let whole = fs::read(log.join(SEGMENT)).unwrap();
    let flip = |at: usize| {
        let mut bytes = whole.clone();
        bytes[at + 200] ^= 1;
        bytes
    };
    let (old, new) =
        (frames(&whole)[0], frames(&whole)[first["signatures"].as_u64().unwrap() as usize]);
    let wrong = grown.altered("new", &flip(new));
    assert_eq!(ended(&grown.verify(&wrong, &[], "")), refused(7, "AUDIT_LOG_TAMPERED"));
    assert_eq!(grown.state(), then);
    let wrong = grown.altered("old", &flip(old));
    let full = grown.verify(&wrong, &["--full"], "");
    assert_eq!(ended(&full), refused(7, "AUDIT_LOG_TAMPERED"));
    assert_eq!(grown.good(&wrong, &[], "")["resumed_from"], first["records"]);
}

#[test]
fn a_state_that_is_altered_or_another_log_s_is_refused_and_kept() {
    let grown = Grown::new();
    let log = grown.at.log();
    grown.good(&log, &[], "");
    let state = grown.state();
    let cut = &state[..state.len() / 2];
    let moved = state.replacen("frame ", "frame 1", 1);
    for bad in ["", "nonsense\n", cut, &moved, state.trim_end()] {
        fs::write(grown.at.path("state"), bad).unwrap();
        for more in [&[][..], &["--full"]] {
            let run = grown.verify(&log, more, "");
            assert_eq!(ended(&run), refused(2, "VERIFY_STATE_INVALID"), "{bad}");
        }
        assert_eq!(grown.state(), bad);
    }
    let other = Grown::new();
    fs::write(other.at.path("state"), &state).unwrap();
    let run = other.verify(&other.at.log(), &[], "");
    assert_eq!(ended(&run), refused(7, "VERIFY_STATE_FOREIGN"));
    assert_eq!(other.state(), state);
    let mode = std::os::unix::fs::PermissionsExt::mode;
    fs::remove_file(grown.at.path("state")).unwrap();
    grown.good(&log, &[], "");
    assert_eq!(mode(&fs::metadata(grown.at.path("state")).unwrap().permissions()) & 0o777, 0o600);
}

#[test]
fn tiles_are_written_once_and_only_of_a_log_that_goes_on() {
    let grown = Grown::new();
    let (log, to) = (grown.at.log(), PathBuf::from(grown.at.path("tiles")));
    let tiles = |log: &Path| {
        let mut command = program();
        command.args(["audit", "tiles", "--output", "json", "--log"]).arg(log);
        command.arg("--public-key").arg(grown.at.log().join("log.pub")).arg("--to").arg(&to);
        command.output().unwrap()
    };
    let written = |log: &Path| -> serde_json::Value {
        let tiled = tiles(log);
        assert!(tiled.status.success(), "{tiled:?}");
        serde_json::from_slice(&tiled.stdout).unwrap()
    };
    let reason = |log: &Path| {
        let tiled = tiles(log);
        let error: serde_json::Value = serde_json::from_slice(&tiled.stderr).unwrap();
        (tiled.status.code().unwrap(), error["error"]["reason"].as_str().unwrap().to_owned())
    };
    let whole = fs::read(log.join(SEGMENT)).unwrap();
    let mut bytes = whole.clone();
    bytes[frames(&whole)[1] + 200] ^= 1;
    let wrong = grown.altered("wrong", &bytes);
    assert_eq!(reason(&wrong), refused(7, "AUDIT_LOG_TAMPERED"));
    assert!(!to.exists(), "nothing of a log that does not verify");

    let first = written(&grown.before);
    assert_eq!(first["files_written"], 3, "a tile, a bundle and the checkpoint");
    let width = first["records"].as_u64().unwrap();
    let bundle = to.join(format!("tile/entries/000.p/{width}"));
    assert!(bundle.is_file() && to.join(format!("tile/0/000.p/{width}")).is_file());
    let second = written(&log);
    assert_eq!(second["files_written"], 3, "a wider tile, a wider bundle and the checkpoint");
    let checkpoint = fs::read_to_string(to.join("checkpoint")).unwrap();
    assert_eq!(second["checkpoint"], checkpoint);
    assert_eq!(written(&log)["files_written"], 0, "nothing is new");
    assert_eq!(reason(&grown.before), refused(12, "AUDIT_RECORDS_MISSING"), "it was cut off");
    assert_eq!(fs::read_to_string(to.join("checkpoint")).unwrap(), checkpoint);
    let width = second["records"].as_u64().unwrap();
    fs::write(to.join(format!("tile/entries/000.p/{width}")), "altered").unwrap();
    assert_eq!(reason(&log), refused(7, "TILES_ALTERED"));
    fs::write(to.join("checkpoint"), "nonsense").unwrap();
    assert_eq!(reason(&log), refused(2, "CHECKPOINT_INVALID"));
}
