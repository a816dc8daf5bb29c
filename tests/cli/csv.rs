//! `csv`: byte for byte or not at all.

use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::{Output, Stdio};

use rustix::process::Signal;

use crate::installation::Installation;
use crate::process::{Lines, Running, ended, refused, text};

const SHARED: [&str; 8] =
    ["--key", "customer-pii", "--table", "t", "--column", "email", "--column", "notes"];

/// An installation, and `csv` commands on files beside it.
struct Files(Installation);

impl Files {
    fn new() -> Self {
        Self(Installation::with_key())
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        std::fs::write(self.0.path(name), content).unwrap();
    }

    fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.0.path(name)).unwrap()
    }

    fn mode(&self, name: &str) -> u32 {
        std::fs::metadata(self.0.path(name)).unwrap().mode() & 0o777
    }

    fn run(&self, command: &str, from: &str, to: &str, more: &[&str]) -> Output {
        let (from, to) = (self.0.path(from), self.0.path(to));
        let all = ["--output", "json", "csv", command, &from, &to];
        let all = all.into_iter().chain(SHARED).chain(["--row-column", "id", "--null", "\\N"]);
        let all: Vec<&str> = all.chain(more.iter().copied()).collect();
        self.0.run("app", &all, b"")
    }

    fn ok(&self, command: &str, from: &str, to: &str, more: &[&str]) -> serde_json::Value {
        let output = self.run(command, from, to, more);
        assert!(output.status.success(), "{}", text(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    fn refused(&self, command: &str, from: &str, more: &[&str]) -> (i32, String, String) {
        let output = self.run(command, from, "refused.csv", more);
        let error: serde_json::Value = serde_json::from_slice(&output.stderr).unwrap();
        let said = |part: &str| error["error"][part].as_str().unwrap().to_owned();
        assert!(!Path::new(&self.0.path("refused.csv")).exists(), "{}", said("message"));
        assert_eq!(self.partial(), None);
        (output.status.code().unwrap(), said("reason"), said("message"))
    }

    /// A file that is not complete.
    fn partial(&self) -> Option<String> {
        let entries = std::fs::read_dir(self.0.dir.path()).unwrap();
        let mut names = entries.map(|e| e.unwrap().file_name().into_string().unwrap());
        names.find(|name| name.ends_with(".partial"))
    }
}

/// Records of every kind: NULLs, empty values, quotes, line endings, two tenants.
fn table(records: usize) -> String {
    let mut text = "id,tenant,email,notes\r\n".to_owned();
    for n in 0..records {
        let email = match n % 5 {
            0 => "\\N".to_owned(),
            1 => String::new(),
            2 => "\"\\N\"".to_owned(),
            _ => format!("user{n}@example.com"),
        };
        let notes = match n % 3 {
            0 => format!("\"said \"\"{n}\"\",\nthen left\""),
            1 => format!("🦊 {n}"),
            _ => "\\N".to_owned(),
        };
        let end = if n % 7 == 0 { "\r\n" } else { "\n" };
        text.push_str(&format!("{n},tenant-{},{email},{notes}{end}", n % 2));
    }
    text
}

#[test]
fn many_batches_come_back_byte_for_byte() {
    let files = Files::new();
    let table = table(5000);
    files.write("in.csv", &table);
    let tenants = ["--partition-column", "tenant"];
    let sealed = files.ok("encrypt", "in.csv", "sealed.csv", &tenants);
    assert_eq!(sealed["records"], 5000, "{sealed}");
    assert!(sealed["calls"].as_u64().unwrap() > 3, "{sealed}");
    let text = String::from_utf8(files.read("sealed.csv")).unwrap();
    assert!(!text.contains("example.com") && !text.contains("🦊") && text.contains(",\\N"));
    files.ok("decrypt", "sealed.csv", "out.csv", &["--partition-column", "tenant"]);
    assert!(files.read("out.csv") == table.as_bytes(), "the file is another");

    // A value of a late record that was moved: everything before it opened, and nothing is left.
    let moved = text.replace("4797,tenant-1,", "4797,tenant-0,");
    assert_ne!(moved, text);
    files.write("moved.csv", &moved);
    let (code, reason, what) = files.refused("decrypt", "moved.csv", &tenants);
    assert_eq!((code, reason.as_str()), (7, "DECRYPTION_FAILED"));
    let line = 1 + moved.split("4797,tenant-0,").next().unwrap().matches('\n').count();
    assert!(what.starts_with(&format!("line {line}, column ")), "{line}: {what}");
}

#[test]
fn a_file_is_written_once_and_only_from_what_can_be_read() {
    let files = Files::new();
    let table = "id,email,notes\r\n1,a@example.com,\"x,\"\"y\"\"\nz\"\r\n2,,\\N\r\n3,\"\",🦊\r\n";
    files.write("in.csv", table);
    files.ok("encrypt", "in.csv", "sealed.csv", &[]);
    assert_eq!(ended_json(&files.run("encrypt", "in.csv", "sealed.csv", &[])), "FILE_EXISTS");
    files.ok("encrypt", "in.csv", "sealed.csv", &["--force"]);
    let sealed = String::from_utf8(files.read("sealed.csv")).unwrap();
    files.write("moved.csv", sealed.replacen("\r\n1,", "\r\n9,", 1));
    let (code, reason, _) = files.refused("decrypt", "moved.csv", &[]);
    assert_eq!((code, reason.as_str()), (7, "DECRYPTION_FAILED"));

    files.write("long.csv", format!("id,email,notes\n1,a,b\n2,{},b\n", "v".repeat((1 << 20) + 1)));
    let (code, reason, what) = files.refused("encrypt", "long.csv", &[]);
    assert_eq!((code, reason.as_str()), (2, "VALUE_TOO_LONG"));
    assert!(what.starts_with("line 3, column email"), "{what}");
    files.write("tenant.csv", "id,tenant,email,notes\n1,a,b,c\n2,,b,c\n");
    let (code, reason, what) =
        files.refused("encrypt", "tenant.csv", &["--partition-column", "tenant"]);
    assert_eq!((code, reason.as_str()), (2, "RECORD_INVALID"));
    assert!(what.contains("line 3"), "{what}");

    let arguments = ["csv", "encrypt", &files.0.path("in.csv"), "-", "--any-row"];
    let arguments: Vec<&str> = arguments.into_iter().chain(SHARED).collect();
    let mut command = files.0.command("app", &arguments);
    let output = command.current_dir(files.0.dir.path()).output().unwrap();
    assert_eq!(ended(&output), refused(2, "DESTINATION_INVALID"));
    assert!(!Path::new(&files.0.path("-")).exists());
}

fn ended_json(output: &Output) -> String {
    let error: serde_json::Value = serde_json::from_slice(&output.stderr).unwrap();
    error["error"]["reason"].as_str().unwrap().to_owned()
}

#[test]
fn a_byte_order_mark_belongs_to_no_header_and_stays() {
    let files = Files::new();
    let table = "\u{feff}\"id\",\"email\",\"notes\"\r\n\"1\",\"a@example.com\",\"n\"\r\n";
    files.write("in.csv", table);
    files.ok("encrypt", "in.csv", "sealed.csv", &[]);
    assert!(files.read("sealed.csv").starts_with("\u{feff}\"id\",".as_bytes()));
    files.ok("decrypt", "sealed.csv", "out.csv", &[]);
    assert_eq!(text(&files.read("out.csv")), table);
}

#[test]
fn nobody_reads_more_in_the_new_file_than_in_the_old_one() {
    let files = Files::new();
    files.write("in.csv", "id,email,notes\n1,a,b\n");
    for mode in [0o600, 0o640, 0o644] {
        let mode_bits = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(files.0.path("in.csv"), mode_bits).unwrap();
        files.ok("encrypt", "in.csv", "sealed.csv", &["--force"]);
        let made = files.mode("sealed.csv");
        assert_eq!(made & !mode, 0, "{made:o} from {mode:o}");
    }
    let everybody = std::fs::Permissions::from_mode(0o644);
    std::fs::set_permissions(files.0.path("sealed.csv"), everybody).unwrap();
    files.ok("decrypt", "sealed.csv", "out.csv", &[]);
    assert_eq!(files.mode("out.csv"), 0o600);
}

/// A command whose input is a pipe that stays open, and the lines of its standard error.
fn stalled(files: &Files, to: &str, written: &[u8]) -> (Running, Lines, std::process::ChildStdin) {
    let to = files.0.path(to);
    let arguments = ["csv", "encrypt", "-", &to, "--row-column", "id"];
    let arguments: Vec<&str> = arguments.into_iter().chain(SHARED).collect();
    let mut command = files.0.command("app", &arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut running = Running::new(&mut command);
    let lines = Lines::of(running.child().stderr.take().unwrap());
    let mut input = running.child().stdin.take().unwrap();
    input.write_all(written).unwrap();
    (running, lines, input)
}

/// True if whoever runs the tests ignores SIGHUP, as `nohup` does: then the command must too.
fn hangups_are_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap();
    u64::from_str_radix(mask.trim(), 16).unwrap() & 1 != 0
}

#[test]
fn a_signal_ends_it_while_the_input_says_nothing_and_leaves_nothing_behind() {
    let files = Files::new();
    let table = table(3000);
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        if signal == Signal::HUP && hangups_are_ignored() {
            continue;
        }
        let (mut running, mut lines, input) = stalled(&files, "out.csv", table.as_bytes());
        lines.until(|| files.partial());
        running.signal(signal);
        assert_eq!(running.code(), 130, "{signal:?}");
        assert!(lines.all().contains("INTERRUPTED"));
        assert_eq!(files.partial(), None, "{signal:?}");
        assert!(!Path::new(&files.0.path("out.csv")).exists());
        drop(input);
    }
}
