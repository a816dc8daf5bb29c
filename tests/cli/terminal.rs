//! A person at a terminal.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};

use crate::process::{Running, text};

/// Both ends of a new terminal, on which a command is run, and what is asked there.
pub(crate) struct Person {
    terminal: File,
    other_end: File,
    pub(crate) seen: String,
    /// How much of it was waited for.
    heard: usize,
}

impl Person {
    pub(crate) fn new() -> Self {
        let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&terminal).unwrap();
        unlockpt(&terminal).unwrap();
        let name = ptsname(&terminal, Vec::new()).unwrap().into_string().unwrap();
        let other_end = File::options().read(true).write(true).open(name).unwrap();
        let size = Winsize { ws_row: 24, ws_col: 120, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&terminal, size).unwrap();
        Self { terminal: terminal.into(), other_end, seen: String::new(), heard: 0 }
    }

    pub(crate) fn run(&self, command: &mut Command) -> Running {
        let end = || Stdio::from(self.other_end.try_clone().unwrap());
        Running::new(command.stdin(end()).stderr(end()).stdout(Stdio::piped()))
    }

    /// Reads until this is asked, and answers.
    pub(crate) fn answers(&mut self, asked: &str, with: &str) {
        let found = loop {
            if let Some(at) = self.seen[self.heard..].find(asked) {
                break at;
            }
            let mut bytes = [0; 1024];
            let read = self.terminal.read(&mut bytes).unwrap();
            self.seen.push_str(&text(&bytes[..read]));
        };
        self.heard += found + asked.len();
        self.terminal.write_all(with.as_bytes()).unwrap();
    }

    pub(crate) fn sees_what_it_types(&self) -> bool {
        tcgetattr(&self.other_end).unwrap().local_modes.contains(LocalModes::ECHO)
    }
}
