//! Processes: how they are started, what they say, how they end.

use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// A test that waits longer than this for something that must happen has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// This program, without the settings of whoever runs the tests.
pub(crate) fn program() -> Command {
    clean(Command::new(env!("CARGO_BIN_EXE_fieldseal")))
}

/// A shell that reads this.
pub(crate) fn shell(script: &str) -> Command {
    let mut command = clean(Command::new("sh"));
    command.arg("-c").arg(script);
    command
}

fn clean(mut command: Command) -> Command {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("FIELDSEAL_") {
            command.env_remove(name);
        }
    }
    command
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// How a command ended, with the reason it gave.
pub(crate) fn ended(output: &Output) -> (i32, String) {
    let stderr = text(&output.stderr);
    let reason = stderr.lines().find_map(|line| line.strip_prefix("reason  "));
    (output.status.code().unwrap_or(-1), reason.unwrap_or_default().to_owned())
}

pub(crate) fn refused(code: i32, reason: &str) -> (i32, String) {
    (code, reason.to_owned())
}

pub(crate) fn with_input(mut command: Command, input: &[u8]) -> Output {
    let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = piped.spawn().unwrap();
    // A command that fails early does not read its input.
    let _ = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap()
}

/// A process that is killed when the test is over, however it ends.
pub(crate) struct Running(Option<Child>);

impl Running {
    pub(crate) fn new(command: &mut Command) -> Self {
        Self(Some(command.spawn().unwrap()))
    }

    pub(crate) fn child(&mut self) -> &mut Child {
        self.0.as_mut().unwrap()
    }

    pub(crate) fn id(&self) -> u32 {
        self.0.as_ref().unwrap().id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(self.0.as_ref().unwrap()), signal).unwrap();
    }

    /// What it said, from now to its end, and how it ended.
    pub(crate) fn output(mut self) -> Output {
        self.0.take().unwrap().wait_with_output().unwrap()
    }

    pub(crate) fn kill(&mut self) {
        let mut child = self.0.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Waits for the end; the exit code.
    pub(crate) fn code(&mut self) -> i32 {
        self.0.take().unwrap().wait().unwrap().code().unwrap_or(-1)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The lines that a process writes, as they come.
pub(crate) struct Lines {
    coming: Receiver<String>,
    heard: Vec<String>,
    /// Of what was heard, the first line that nobody who waited has looked at.
    next: usize,
}

impl Lines {
    pub(crate) fn of(stream: impl Read + Send + 'static) -> Self {
        let (sender, coming) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stream).lines().map_while(Result::ok) {
                // The process must be able to go on writing when nobody waits for lines any more.
                let _ = sender.send(line);
            }
        });
        Self { coming, heard: Vec::new(), next: 0 }
    }

    /// Waits for a line that says something, behind the one that was waited for before.
    pub(crate) fn wait<T>(&mut self, says: impl Fn(&str) -> Option<T>) -> T {
        let given_up = Instant::now() + PATIENCE;
        loop {
            while self.next < self.heard.len() {
                self.next += 1;
                if let Some(said) = says(&self.heard[self.next - 1]) {
                    return said;
                }
            }
            let left = given_up.saturating_duration_since(Instant::now());
            let Ok(line) = self.coming.recv_timeout(left) else {
                panic!("the line did not come:\n{}", self.heard.join("\n"));
            };
            self.heard.push(line);
        }
    }

    /// What was passed over may be waited for again.
    pub(crate) fn again(&mut self) {
        self.next = 0;
    }

    /// Looks again and again, while the process lives, until there is something to see.
    pub(crate) fn until<T>(&mut self, mut look: impl FnMut() -> Option<T>) -> T {
        let given_up = Instant::now() + PATIENCE;
        loop {
            if let Some(seen) = look() {
                return seen;
            }
            match self.coming.recv_timeout(Duration::from_millis(10)) {
                Ok(line) => self.heard.push(line),
                Err(RecvTimeoutError::Timeout) if Instant::now() < given_up => {}
                Err(_) => panic!("there is nothing to see:\n{}", self.heard.join("\n")),
            }
        }
    }

    /// Everything up to the end of the process.
    pub(crate) fn all(mut self) -> String {
        self.heard.extend(self.coming.iter());
        self.heard.join("\n")
    }

    /// What was heard so far.
    pub(crate) fn so_far(&mut self) -> String {
        self.heard.extend(self.coming.try_iter());
        self.heard.join("\n")
    }
}

/// The address in the line of a sidecar's log that says that it can serve.
pub(crate) fn ready(line: &str) -> Option<String> {
    let line = event("ready", line)?;
    Some(line["address"].as_str().unwrap().to_owned())
}

/// A line of a sidecar's log, if it tells of this.
pub(crate) fn event(name: &str, line: &str) -> Option<serde_json::Value> {
    let line: serde_json::Value = serde_json::from_str(line).ok()?;
    (line["event"] == name).then_some(line)
}
