//! The sidecar's own export of the log: every record has one line, in its order, whatever happens to the
//! process or to the file.

mod collector;
mod killed;
mod otlp;
mod planted;

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use serde_json::Value;

use crate::installation::{Installation, place};
use crate::probes::get_as;
use crate::process::{ended, event, program, refused, text};

const FILE: &str = "audit.jsonl";

/// The export of an installation, in a directory of its own.
pub(crate) struct Exported(pub(crate) PathBuf);

impl Exported {
    pub(crate) fn of(i: &Installation) -> Self {
        let directory = i.home().join("siem");
        fs::create_dir(&directory).unwrap();
        let to = format!("export_file = \"{}\"", directory.join(FILE).display());
        i.set("export_file = \"\"", &to);
        Self(directory)
    }

    fn file(&self) -> PathBuf {
        self.0.join(FILE)
    }

    fn cursor(&self) -> PathBuf {
        self.0.join(format!("{FILE}.cursor"))
    }

    fn known(&self) -> Value {
        serde_json::from_slice(&fs::read(self.cursor()).unwrap()).unwrap()
    }

    /// Puts something else into the cursor.
    fn alter(&self, field: &str, value: Value) {
        let mut cursor = self.known();
        cursor[field] = value;
        fs::write(self.cursor(), cursor.to_string()).unwrap();
    }

    pub(crate) fn text(&self) -> String {
        fs::read_to_string(self.file()).unwrap_or_default()
    }

    /// Takes the file away as logrotate does; the names of all that were.
    fn rotate(&self, number: usize) {
        fs::rename(self.file(), self.rotated(number)).unwrap();
    }

    fn rotated(&self, number: usize) -> PathBuf {
        self.0.join(format!("{FILE}.{number:03}"))
    }

    /// Every line of all files, the oldest first.
    fn all(&self) -> String {
        let mut files: Vec<_> = fs::read_dir(&self.0).unwrap().map(|f| f.unwrap().path()).collect();
        files.retain(|file| !file.to_str().unwrap().contains(".cursor"));
        files.sort();
        // The one without a number is the newest.
        if files.first() == Some(&self.file()) {
            files.rotate_left(1);
        }
        files.iter().map(|file| fs::read_to_string(file).unwrap()).collect()
    }
}

fn numbers(lines: &str) -> Vec<u64> {
    let number = |line: &str| {
        let line: Value = serde_json::from_str(line).expect(line);
        line["metadata"]["sequence"].as_u64().unwrap()
    };
    lines.lines().map(number).collect()
}

/// Every record of the log, once and in its order.
pub(crate) fn assert_whole(i: &Installation, lines: &str) {
    let verified = i.verify_command(&i.log()).args(["--output", "json"]).output().unwrap();
    let verified: Value = serde_json::from_slice(&verified.stdout).unwrap();
    let records = verified["records"].as_u64().unwrap();
    assert!(lines.ends_with('\n'));
    assert_eq!(numbers(lines), (0..records).collect::<Vec<_>>());
}

pub(crate) fn used(i: &Installation) {
    let sealed = i.ok("app", &place("encrypt", &[]), b"x");
    i.ok("app", &place("decrypt", &["--purpose", "support"]), &sealed);
}

/// Waits, while the sidecar runs, until there is something to see.
fn until<T>(i: &mut Installation, look: impl Fn(&Installation) -> Option<T>) -> T {
    let (running, mut lines) = i.sidecar.take().unwrap();
    let seen = lines.until(|| look(i));
    i.sidecar = Some((running, lines));
    seen
}

/// A line that the sidecar says.
pub(crate) fn says(i: &mut Installation, name: &str) -> Value {
    let (running, mut lines) = i.sidecar.take().unwrap();
    let said = lines.wait(|line| event(name, line));
    i.sidecar = Some((running, lines));
    said
}

/// Every record that there is now is in the file.
pub(crate) fn caught_up(i: &mut Installation, exported: &Exported) {
    let records = i.json("ops", &["status"])["log_tree_size"].as_u64().unwrap();
    until(i, |_| (exported.known()["next"].as_u64().unwrap() >= records).then_some(()));
}

#[test]
fn every_record_has_one_line_over_restarts_and_it_is_that_of_the_one_shot_export() {
    let mut i = Installation::new();
    let exported = Exported::of(&i);
    i.serve();
    i.ok("ops", &["key", "create", "customer-pii"], b"");
    used(&i);
    let asked = i.ok("auditor", &["audit", "export"], b"");
    caught_up(&mut i, &exported);
    let asked = text(&asked);
    assert!(asked.lines().count() > 3);
    assert!(exported.text().starts_with(&asked), "{asked}\n{}", exported.text());
    let status = i.json("ops", &["status"]);
    assert_eq!(status["exports"][0]["kind"], "file");
    assert_eq!(status["exports"][0]["failure"], "");
    let (_, metrics) = get_as(&i, "/metrics", "*/*");
    assert!(metrics.contains("fieldseal_audit_export_failed{target=\"file\"} 0"), "{metrics}");
    assert_eq!(i.stop(), 0);
    let lines = exported.text();
    assert_whole(&i, &lines);
    let last: Value = serde_json::from_str(lines.lines().last().unwrap()).unwrap();
    assert_eq!(last["metadata"]["event_code"], "STOP", "a stop leaves nothing behind");
    for path in [exported.file(), exported.cursor()] {
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    i.serve();
    used(&i);
    assert_eq!(i.stop(), 0);
    assert!(exported.text().starts_with(&lines));
    assert_whole(&i, &exported.text());

    // A process that was killed left half a line that it never said of.
    let mut torn = fs::OpenOptions::new().append(true).open(exported.file()).unwrap();
    torn.write_all(b"{\"category_uid\":6,").unwrap();
    i.serve();
    used(&i);
    assert_eq!(i.stop(), 0);
    assert_whole(&i, &exported.text());
}

#[test]
fn what_rotates_the_file_loses_and_repeats_no_record() {
    let mut i = Installation::new();
    let exported = Exported::of(&i);
    i.serve();
    i.ok("ops", &["key", "create", "customer-pii"], b"");
    caught_up(&mut i, &exported);
    exported.rotate(1);
    used(&i);
    caught_up(&mut i, &exported);
    assert!(exported.file().exists(), "it goes on in a new one");
    // Copied and made empty, as the other way of logrotate has it.
    fs::copy(exported.file(), exported.rotated(2)).unwrap();
    let file = fs::OpenOptions::new().write(true).open(exported.file()).unwrap();
    file.set_len(0).unwrap();
    used(&i);
    assert_eq!(i.stop(), 0);
    assert_whole(&i, &exported.all());

    // While it stands still, too, and into a file that was made for it.
    exported.rotate(3);
    fs::write(exported.file(), "").unwrap();
    fs::set_permissions(exported.file(), fs::Permissions::from_mode(0o640)).unwrap();
    i.serve();
    used(&i);
    assert_eq!(i.stop(), 0);
    assert_whole(&i, &exported.all());
    let mode = fs::metadata(exported.file()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o640, "the group reads it because somebody wanted that");
}

#[test]
fn a_cursor_that_does_not_fit_the_log_is_refused_before_anything_is_recorded() {
    let mut i = Installation::new();
    let exported = Exported::of(&i);
    i.serve();
    i.ok("ops", &["key", "create", "customer-pii"], b"");
    assert_eq!(i.stop(), 0);
    let (lines, cursor) = (exported.text(), fs::read(exported.cursor()).unwrap());
    let mut other = Installation::new();
    let of_other = Exported::of(&other);
    other.serve();
    assert_eq!(other.stop(), 0);

    type Harm<'a> = Box<dyn Fn() + 'a>;
    let cases: [(&str, i32, Harm<'_>); 5] = [
        (
            "AUDIT_EXPORT_CURSOR_FOREIGN",
            6,
            Box::new(|| _ = fs::copy(of_other.cursor(), exported.cursor()).unwrap()),
        ),
        ("AUDIT_LOG_BEHIND_EXPORT", 9, Box::new(|| exported.alter("next", 1_000_000.into()))),
        ("AUDIT_LOG_NOT_AS_EXPORTED", 9, Box::new(|| exported.alter("previous", "00".into()))),
        (
            "AUDIT_EXPORT_CURSOR_UNREADABLE",
            5,
            Box::new(|| fs::write(exported.cursor(), "{}").unwrap()),
        ),
        (
            "AUDIT_EXPORT_CURSOR_MISSING",
            6,
            Box::new(|| fs::remove_file(exported.cursor()).unwrap()),
        ),
    ];
    for (reason, code, harm) in cases {
        harm();
        let output = i.serve_command().output().unwrap();
        assert_eq!(ended(&output), refused(code, reason), "{}", text(&output.stderr));
        assert_eq!(exported.text(), lines, "{reason}");
        assert_whole(&i, &lines);
        // Whether the last record is the same, only a start looks.
        if reason != "AUDIT_LOG_NOT_AS_EXPORTED" {
            let mut doctor = program();
            doctor.args(["--output", "json", "doctor", "--config"]).arg(i.config());
            let seen: Value = serde_json::from_slice(&doctor.output().unwrap().stdout).unwrap();
            assert_eq!(seen["findings"][0]["reason"], reason, "{seen}");
        }
        fs::write(exported.cursor(), &cursor).unwrap();
    }
    i.serve();
    assert_eq!(i.stop(), 0);
    assert_whole(&i, &exported.text());
}

#[test]
fn a_file_that_cannot_be_written_holds_up_no_call_and_gets_the_rest_later() {
    let mut i = Installation::new();
    let exported = Exported::of(&i);
    i.serve();
    i.ok("ops", &["key", "create", "customer-pii"], b"");
    caught_up(&mut i, &exported);
    let open = |mode| {
        fs::set_permissions(exported.file(), fs::Permissions::from_mode(mode)).unwrap();
    };
    let before = exported.text();
    open(0o644);
    used(&i);
    let said = says(&mut i, "audit_export_failed");
    assert!(said["error"].as_str().unwrap().contains("open to others"), "{said}");
    used(&i);
    let export = &i.json("ops", &["status"])["exports"][0];
    assert!(export["records_behind"].as_u64().unwrap() > 0, "{export}");
    assert!(export["failure"].as_str().unwrap().contains("open to others"), "{export}");
    let table = text(&i.ok("ops", &["status"], b""));
    assert!(table.contains("records behind") && table.contains("it failed: "), "{table}");
    let (_, metrics) = get_as(&i, "/metrics", "*/*");
    assert!(metrics.contains("fieldseal_audit_export_failed{target=\"file\"} 1"), "{metrics}");
    assert_eq!(exported.text(), before);
    assert_eq!(i.stop(), 0);
    let mut doctor = program();
    doctor.args(["--output", "json", "doctor", "--config"]).arg(i.config());
    let seen = doctor.output().unwrap();
    assert!(seen.status.success(), "it is a note: {}", text(&seen.stderr));
    let seen: Value = serde_json::from_slice(&seen.stdout).unwrap();
    assert_eq!(seen["findings"][0]["reason"], "AUDIT_EXPORT_BEHIND", "{seen}");
    assert!(seen["findings"][0]["what"].as_str().unwrap().contains("chmod"), "{seen}");

    i.serve();
    says(&mut i, "audit_export_failed");
    open(0o600);
    says(&mut i, "audit_export_ok");
    caught_up(&mut i, &exported);
    assert_eq!(i.json("ops", &["status"])["exports"][0]["failure"], "");
    assert_eq!(i.stop(), 0);
    assert_whole(&i, &exported.text());
}
