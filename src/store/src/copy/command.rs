//! A copy wherever a program puts it: it reads frames from its standard input and answers each with
//! a line once it is durable.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use super::Place;
use super::frames::Frame;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a program may take to end, in steps.
const ENDING: u32 = 20;
const ENDING_STEP: Duration = Duration::from_millis(50);
/// The longest answer.
const MAX_ANSWER: u64 = 1024;
/// The answer to a frame that is durable.
const OK: &str = "ok";
/// How much it grows before it is begun anew.
const GROWS: u64 = 1024 * 1024 * 1024;

pub(super) struct CommandCopy {
    child: Child,
    frames: Option<Sender<Frame>>,
    answers: Receiver<io::Result<String>>,
    written: u64,
}

impl CommandCopy {
    pub(super) fn start(words: &[String]) -> io::Result<Self> {
        let (program, arguments) =
            words.split_first().ok_or_else(|| io::Error::other("no program is named"))?;
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()?;
        let none = || io::Error::other("the program has no input or output");
        let (input, output) = child.stdin.take().zip(child.stdout.take()).ok_or_else(none)?;
        // A program that does not read must not hold up the thread that commits.
        let (frames, coming) = channel();
        let (answer, answers) = channel();
        let failed = answer.clone();
        let writing = std::thread::Builder::new().name("store-copy-in".into());
        writing.spawn(move || write(input, &coming, &failed))?;
        let reading = std::thread::Builder::new().name("store-copy-out".into());
        reading.spawn(move || read(output, &answer))?;
        Ok(Self { child, frames: Some(frames), answers, written: 0 })
    }
}

fn write(mut input: ChildStdin, frames: &Receiver<Frame>, failed: &Sender<io::Result<String>>) {
    while let Ok(frame) = frames.recv() {
        if let Err(error) = input.write_all(&frame).and_then(|()| input.flush()) {
            // If nobody waits, nobody needs to know.
            let _gone = failed.send(Err(error));
            return;
        }
    }
}

fn read(output: ChildStdout, answer: &Sender<io::Result<String>>) {
    let mut output = BufReader::new(output);
    loop {
        let mut line = String::new();
        let read = io::Read::take(&mut output, MAX_ANSWER).read_line(&mut line);
        let ended = !matches!(read, Ok(bytes) if bytes > 0);
        // Nobody waits any more, or nothing more comes.
        if answer.send(read.map(|_| line)).is_err() || ended {
            return;
        }
    }
}

impl Place for CommandCopy {
    fn put(&mut self, frames: &[Frame]) -> io::Result<()> {
        let ended = || io::Error::other("the program ended");
        for frame in frames {
            let to = self.frames.as_ref().ok_or_else(ended)?;
            to.send(frame.clone()).map_err(|_| ended())?;
            let answer = self.answers.recv_timeout(PATIENCE);
            let answer = answer.map_err(|_| io::Error::other("the program does not answer"))??;
            match answer.trim_end() {
                OK => self.written += frame.len() as u64,
                "" => return Err(ended()),
                other => return Err(io::Error::other(format!("the program says {other:?}"))),
            }
        }
        Ok(())
    }

    fn is_long(&self) -> bool {
        self.written > GROWS
    }
}

impl Drop for CommandCopy {
    fn drop(&mut self) {
        // The end of its input tells it to end; one that does not listen is ended.
        drop(self.frames.take());
        for _ in 0..ENDING {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(ENDING_STEP);
        }
        let _ended_meanwhile = self.child.kill();
        let _reaped = self.child.wait();
    }
}
