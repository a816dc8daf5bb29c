//! Programs of others that are asked something: input, answer, a deadline and a bound.

use std::fs::File;
use std::io::{self, Read, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use zeroize::Zeroizing;

/// How much of its standard error is kept, and how much of that is shown.
const MOST_SAID: usize = 4 * 1024;
const MOST_SHOWN: usize = 200;
/// How long to wait for the last words of a program that has ended.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// A program with its arguments, and how long it may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// The program, as an absolute path.
    pub path: PathBuf,
    /// Its first arguments.
    pub arguments: Vec<String>,
    /// After this it is killed.
    pub deadline: Duration,
}

/// Why a program gave no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProgramError {
    /// It cannot be run.
    #[error("cannot {what} {}: {error}", .path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// The program.
        path: PathBuf,
        /// What the operating system says.
        error: io::Error,
    },
    /// It was too slow, failed or could not be read; with what it said.
    #[error("{0}")]
    Down(String),
    /// It answered with more than may be.
    #[error("{} answers `{verb}` with too much", .path.display())]
    TooMuch {
        /// The program.
        path: PathBuf,
        /// What it was asked.
        verb: String,
    },
}

/// What a program answered, and how it ended.
pub(crate) struct Answered<T = Zeroizing<Vec<u8>>> {
    pub(crate) answer: T,
    pub(crate) status: ExitStatus,
    /// That it failed, with what it said.
    pub(crate) failure: String,
}

impl<T> Answered<T> {
    fn if_it_succeeded(self) -> Result<T, ProgramError> {
        match self.status.success() {
            true => Ok(self.answer),
            false => Err(ProgramError::Down(self.failure)),
        }
    }
}

/// What a program is handed on its standard input.
enum Input {
    Bytes(Zeroizing<Vec<u8>>),
    File(File),
}

/// What was read of an answer; `None`: there is more of it than may be.
type Reading<T> = io::Result<Option<T>>;

impl Program {
    /// Runs it with its own arguments and these, hands it the input, and reads its standard output to the
    /// end. `words` begins with the verb.
    ///
    /// # Errors
    /// It cannot be run, does not end before its deadline, ends with another exit code than 0, or answers
    /// with more than `most` bytes.
    pub fn answer(
        &self,
        words: &[&str],
        input: &[u8],
        most: usize,
    ) -> Result<Zeroizing<Vec<u8>>, ProgramError> {
        self.ask(words, input, most)?.if_it_succeeded()
    }

    /// The same for what is too large to be held: it is handed a file, if there is one, and its answer is
    /// counted and hashed (SHA-256).
    ///
    /// # Errors
    /// As [`Program::answer`].
    pub fn digest(
        &self,
        words: &[&str],
        input: Option<File>,
        most: u64,
    ) -> Result<(u64, [u8; 32]), ProgramError> {
        let input = input.map_or_else(|| Input::Bytes(Zeroizing::default()), Input::File);
        let read = move |out: &mut ChildStdout| {
            let limit = most.saturating_add(1);
            let mut limited = out.take(limit);
            let digest = fieldseal_crypto::sha256_of(&mut limited)?;
            let read = limit.saturating_sub(limited.limit());
            Ok((read <= most).then_some((read, digest)))
        };
        self.run(words, input, read)?.if_it_succeeded()
    }

    /// The same as [`Program::answer`], whatever its exit code.
    pub(crate) fn ask(
        &self,
        words: &[&str],
        input: &[u8],
        most: usize,
    ) -> Result<Answered, ProgramError> {
        let read = move |out: &mut ChildStdout| {
            let read = bounded(out, most.saturating_add(1))?;
            Ok((read.len() <= most).then_some(read))
        };
        self.run(words, Input::Bytes(Zeroizing::new(input.to_vec())), read)
    }

    fn run<T: Send + 'static>(
        &self,
        words: &[&str],
        input: Input,
        read: impl FnOnce(&mut ChildStdout) -> Reading<T> + Send + 'static,
    ) -> Result<Answered<T>, ProgramError> {
        let (path, verb) = (&self.path, words.first().copied().unwrap_or_default());
        let io = |what, error| ProgramError::Io { what, path: path.clone(), error };
        let mut command = std::process::Command::new(path);
        command.args(&self.arguments).args(words);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let bytes = match input {
            Input::Bytes(bytes) => {
                command.stdin(Stdio::piped());
                bytes
            }
            Input::File(file) => {
                command.stdin(Stdio::from(file));
                Zeroizing::default()
            }
        };
        // A group of its own, so that whatever it starts ends with it.
        let mut child = command.process_group(0).spawn().map_err(|e| io("run", e))?;
        let (answer, said) = talk(&mut child, bytes, read);
        let answer = answer.recv_timeout(self.deadline);
        kill(&child);
        let status = child.wait().map_err(|e| io("wait for", e))?;
        let down = |what: String| {
            let said = said.recv_timeout(LAST_WORDS).unwrap_or_default();
            let said = if said.is_empty() { said } else { format!(" (it says: {said})") };
            format!("{} {what}{said}", path.display())
        };
        let Ok(answer) = answer else {
            let seconds = self.deadline.as_secs();
            let what = format!("did not answer `{verb}` within {seconds} seconds");
            return Err(ProgramError::Down(down(what)));
        };
        let answer =
            answer.map_err(|e| ProgramError::Down(down(format!("could not be read: {e}"))))?;
        let Some(answer) = answer else {
            return Err(ProgramError::TooMuch { path: path.clone(), verb: verb.to_owned() });
        };
        let failure = match status.success() {
            true => String::new(),
            false => down(format!("failed on `{verb}`: {status}")),
        };
        Ok(Answered { answer, status, failure })
    }
}

/// Hands the input over, and listens: to the answer, until the program has ended, and to what it
/// says beside that.
fn talk<T: Send + 'static>(
    child: &mut Child,
    input: Zeroizing<Vec<u8>>,
    read: impl FnOnce(&mut ChildStdout) -> Reading<T> + Send + 'static,
) -> (Receiver<Reading<T>>, Receiver<String>) {
    let pid = Pid::from_child(child);
    if let Some(mut stdin) = child.stdin.take() {
        // A program that does not read its input, or has ended, is told from what it answers.
        std::thread::spawn(move || drop(stdin.write_all(&input)));
    }
    let ((answers, answer), (says, said)) = (channel(), channel());
    if let Some(mut stdout) = child.stdout.take() {
        std::thread::spawn(move || {
            let read = read(&mut stdout);
            // It stays a zombie, so that its number is nobody else's until it is waited for.
            let ended = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
            if matches!(read, Ok(Some(_))) {
                let _ = waitid(WaitId::Pid(pid), ended);
            }
            drop(answers.send(read));
        });
    }
    if let Some(mut stderr) = child.stderr.take() {
        std::thread::spawn(move || {
            let read = bounded(&mut stderr, MOST_SAID).unwrap_or_default();
            drop(says.send(shown(&read)));
            // Whatever else it says is passed over; a full pipe would hold it up.
            drop(io::copy(&mut stderr, &mut io::sink()));
        });
    }
    (answer, said)
}

/// So many bytes at most.
fn bounded(mut from: impl Read, most: usize) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(vec![0; most]);
    let mut len = 0;
    while let Some(room) = bytes.get_mut(len..).filter(|room| !room.is_empty()) {
        match from.read(room) {
            Ok(0) => break,
            Ok(read) => len += read,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    bytes.truncate(len);
    Ok(bytes)
}

/// The first printable characters of what a program says; nobody has checked it.
fn shown(bytes: &[u8]) -> String {
    let text = bytes.iter().map(|byte| match byte {
        b' '..=b'~' => char::from(*byte),
        _ => ' ',
    });
    text.take(MOST_SHOWN).collect::<String>().trim().to_owned()
}

fn kill(child: &Child) {
    // Where nothing of it is left there is nobody to kill.
    let _ = kill_process_group(Pid::from_child(child), Signal::KILL);
}
