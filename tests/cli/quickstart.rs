//! `quickstart`: the whole job, and what it leaves alone.

use std::net::TcpListener;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process, kill_process_group, test_kill_process};

use crate::process::{Lines, Running, ended, program, ready, refused, shell, text};

fn quickstart(dir: &Path) -> Command {
    let mut command = program();
    command.arg("quickstart").arg("--dir").arg(dir);
    command
}

/// A quickstart whose output is heard as it comes.
fn begun(dir: &Path) -> (Running, Lines) {
    let mut command = quickstart(dir);
    // A group of its own, as a shell at a terminal makes it.
    command.process_group(0);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut running = Running::new(&mut command);
    let lines = Lines::of(running.child().stdout.take().unwrap());
    (running, lines)
}

#[test]
fn the_quickstart_runs_twice_and_its_last_lines_work_as_printed() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("quickstart");
    let mut shown = String::new();
    for turn in 0..2 {
        let output = quickstart(&place).output().unwrap();
        shown = text(&output.stdout);
        assert!(output.status.success(), "turn {turn}: {shown}\n{}", text(&output.stderr));
        for part in [
            "1,000 customer records",
            "keys/customer-pii/versions/2",
            "auditor decrypts a value          PERMISSION_DENIED",
            "app rotates the key               PERMISSION_DENIED",
            "app opens a value in another row  DECRYPTION_FAILED",
            "a caller without a certificate    CERTIFICATE_REFUSED",
            "AUDIT_LOG_TAMPERED",
            "exit code   0",
        ] {
            assert!(shown.contains(part), "{part:?} is missing:\n{shown}");
        }
    }
    let (_, last) = shown.split_once("Go on with\n").unwrap();
    let [serve, encrypt, list] = last.lines().map(str::trim).collect::<Vec<_>>()[..] else {
        panic!("not three commands:\n{last}");
    };
    let mut sidecar = Sidecar::serve(serve);
    let sealed = shell(encrypt).output().unwrap();
    assert!(sealed.stdout.starts_with(b"fs1."), "{}", text(&sealed.stderr));
    let listed = shell(list).output().unwrap();
    assert!(text(&listed.stdout).contains("BatchDecrypt"), "{}", text(&listed.stderr));
    sidecar.stop();
}

/// A sidecar that a shell started with `&`.
struct Sidecar {
    pid: Pid,
    lines: Lines,
    stopped: bool,
}

impl Sidecar {
    fn serve(line: &str) -> Self {
        assert!(line.ends_with(" &"), "{line}");
        let mut command = shell(&format!("{line}\necho $!"));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let lines = Lines::of(child.stderr.take().unwrap());
        let mut said = Lines::of(child.stdout.take().unwrap());
        let pid = said.wait(|line| Pid::from_raw(line.parse().ok()?));
        child.wait().unwrap();
        let mut sidecar = Self { pid, lines, stopped: false };
        sidecar.lines.wait(ready);
        sidecar
    }

    fn stop(&mut self) {
        kill_process(self.pid, Signal::TERM).unwrap();
        self.lines.wait(|line| line.contains("drained").then_some(()));
        self.stopped = true;
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        if !self.stopped {
            let _ = kill_process(self.pid, Signal::KILL);
        }
    }
}

/// The process of a line of the output, `process     4711`.
fn process(line: &str) -> Option<Pid> {
    let number = line.trim().strip_prefix("process ")?.trim().parse().ok()?;
    Pid::from_raw(number)
}

#[test]
fn a_signal_stops_the_sidecar_too_and_is_what_is_said() {
    for (to_group, signal) in [(true, Signal::INT), (false, Signal::TERM)] {
        let dir = tempfile::tempdir().unwrap();
        let (running, mut lines) = begun(&dir.path().join("quickstart"));
        let sidecar = lines.wait(process);
        let own = Pid::from_raw(i32::try_from(running.id()).unwrap()).unwrap();
        // Ctrl-C reaches whoever is in the group of the terminal's foreground process.
        let sent =
            if to_group { kill_process_group(own, signal) } else { kill_process(own, signal) };
        sent.unwrap();
        assert_eq!(ended(&running.output()), refused(130, "INTERRUPTED"), "{signal:?}");
        assert!(test_kill_process(sidecar).is_err(), "the sidecar still runs after {signal:?}");
        let log = std::fs::read_to_string(dir.path().join("quickstart/sidecar.log")).unwrap();
        assert!(log.contains("\"drained\""), "it was not stopped in good order: {log}");
    }
}

#[test]
fn a_port_that_somebody_takes_first_is_given_up() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("quickstart");
    let (running, mut lines) = begun(&place);
    // Between this line and the sidecar's start nobody holds the port.
    lines.wait(|line| line.contains("An installation").then_some(()));
    let config = std::fs::read_to_string(place.join("installation/fieldseal.toml")).unwrap();
    let listen = config.lines().find_map(|line| line.strip_prefix("listen = ")).unwrap();
    let taken = listen.trim_matches('"').to_owned();
    let held = TcpListener::bind(&taken).expect("the sidecar was faster");
    let address = lines
        .wait(|line| line.trim().strip_prefix("address ").map(|address| address.trim().to_owned()));
    assert_ne!(address, taken);
    lines.all();
    assert_eq!(ended(&running.output()), (0, String::new()));
    for name in ["app.env", "installation/fieldseal.toml"] {
        let text = std::fs::read_to_string(place.join(name)).unwrap();
        assert!(text.contains(&address) && !text.contains(&taken), "{name}: {text}");
    }
    drop(held);
}

#[test]
fn what_no_quickstart_made_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("thesis.txt"), "x").unwrap();
    for marked in [false, true] {
        if marked {
            std::fs::write(dir.path().join("made-by-fieldseal-quickstart"), "").unwrap();
            std::fs::write(dir.path().join("customers.csv"), "").unwrap();
        }
        let before = std::fs::read_dir(dir.path()).unwrap().count();
        let output = quickstart(dir.path()).output().unwrap();
        assert_eq!(ended(&output), refused(6, "DIRECTORY_IN_USE"));
        assert!(text(&output.stderr).contains("thesis.txt"), "{}", text(&output.stderr));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), before);
    }
}
