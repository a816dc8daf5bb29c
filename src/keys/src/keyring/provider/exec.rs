//! `exec`: a program wraps and unwraps, for whatever keeps keys elsewhere (a KMS, an HSM).
//!
//! It is called with its own arguments, then `wrap` or `unwrap`, then the installation's id. The
//! bytes come on its standard input, and it answers on its standard output: what `wrap` makes of 32
//! bytes is kept in the keyring, and `unwrap` makes the 32 bytes of that again. Exit code 0 is an
//! answer, 65 says that these bytes are not its own, and every other one that it cannot say now.

use std::io::{self, Read, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use fieldseal_crypto::RootKey;
use fieldseal_model::InstallationId;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use zeroize::Zeroizing;

use super::super::error::KeyringError;
use super::{KEY_BYTES, RootProvider};

/// The longest that a program may answer to `wrap`.
const MOST_WRAPPED: usize = 8 * 1024;
/// How much of its standard error is kept, and how much of that is shown.
const MOST_SAID: usize = 4 * 1024;
const MOST_SHOWN: usize = 200;
/// `EX_DATAERR` (sysexits.h): the bytes are not those of this program.
const NOT_MINE: i32 = 65;
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

/// A program that wraps and unwraps.
pub struct ExecProvider {
    program: Program,
}

impl ExecProvider {
    /// Looks at the program.
    ///
    /// # Errors
    /// `Io` if it is not there, `Unsafe` if others could replace what it does.
    pub fn new(program: Program) -> Result<Self, KeyringError> {
        let path = &program.path;
        let found = path.metadata().map_err(|e| KeyringError::io("run", path, e))?;
        if !found.is_file() {
            return Err(KeyringError::unsafe_file(path, "is not a plain file"));
        }
        if found.permissions().mode() & 0o022 != 0 {
            let what = "can be changed by others, who would get the root key; chmod go-w it";
            return Err(KeyringError::unsafe_file(path, what));
        }
        Ok(Self { program })
    }

    /// Asks the program.
    fn ask(
        &self,
        verb: &str,
        installation: InstallationId,
        input: &[u8],
        most: usize,
    ) -> Result<Zeroizing<Vec<u8>>, KeyringError> {
        let path = &self.program.path;
        let mut command = std::process::Command::new(path);
        command.args(&self.program.arguments).arg(verb).arg(installation.to_string());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // A group of its own, so that whatever it starts ends with it.
        let spawned = command.process_group(0).spawn();
        let mut child = spawned.map_err(|e| KeyringError::io("run", path, e))?;
        let (answer, said) = talk(&mut child, Zeroizing::new(input.to_vec()), most);
        let answer = answer.recv_timeout(self.program.deadline);
        kill(&child);
        let status = child.wait().map_err(|e| KeyringError::io("wait for", path, e))?;
        let down = |what: String| {
            let said = said.recv_timeout(LAST_WORDS).unwrap_or_default();
            let said = if said.is_empty() { said } else { format!(" (it says: {said})") };
            KeyringError::ProviderDown(format!("{} {what}{said}", path.display()))
        };
        let Ok(answer) = answer else {
            let seconds = self.program.deadline.as_secs();
            return Err(down(format!("did not answer `{verb}` within {seconds} seconds")));
        };
        let answer = answer.map_err(|e| down(format!("could not be read: {e}")))?;
        if answer.len() > most {
            let what = format!("{} answers `{verb}` with too much", path.display());
            return Err(KeyringError::ProviderBroken(what));
        }
        match status.code() {
            Some(0) => Ok(answer),
            Some(NOT_MINE) => Err(KeyringError::WrongRootKey),
            _ => Err(down(format!("failed on `{verb}`: {status}"))),
        }
    }
}

type Answer = io::Result<Zeroizing<Vec<u8>>>;

/// Hands the input over, and listens: to the answer, until the program has ended, and to what it
/// says beside that.
fn talk(
    child: &mut Child,
    input: Zeroizing<Vec<u8>>,
    most: usize,
) -> (Receiver<Answer>, Receiver<String>) {
    let pid = Pid::from_child(child);
    if let Some(mut stdin) = child.stdin.take() {
        // A program that does not read its input, or has ended, is told from what it answers.
        std::thread::spawn(move || drop(stdin.write_all(&input)));
    }
    let ((answers, answer), (says, said)) = (channel(), channel());
    if let Some(stdout) = child.stdout.take() {
        std::thread::spawn(move || {
            let read = bounded(stdout, most.saturating_add(1));
            let full = read.as_ref().is_ok_and(|read| read.len() > most);
            // It stays a zombie, so that its number is nobody else's until it is waited for.
            let ended = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
            if !full && read.is_ok() {
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
fn bounded(mut from: impl Read, most: usize) -> Answer {
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

impl RootProvider for ExecProvider {
    fn name(&self) -> &'static str {
        "exec"
    }

    /// The program's name: which key it uses, it alone knows.
    fn id(&self) -> String {
        let name = Path::new(&self.program.path).file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    }

    fn wrap(&self, installation: InstallationId, root: &RootKey) -> Result<Vec<u8>, KeyringError> {
        let wrapped = self.ask("wrap", installation, root.expose(), MOST_WRAPPED)?;
        let what = match wrapped.as_slice() {
            [] => "with nothing",
            open if open.windows(KEY_BYTES).any(|w| w == root.expose()) => "with the key in clear",
            sealed => return Ok(sealed.to_vec()),
        };
        let path = self.program.path.display();
        Err(KeyringError::ProviderBroken(format!("{path} answers `wrap` {what}")))
    }

    fn unwrap(
        &self,
        installation: InstallationId,
        wrapped: &[u8],
    ) -> Result<RootKey, KeyringError> {
        let mut bytes = self.ask("unwrap", installation, wrapped, KEY_BYTES)?;
        let len = bytes.len();
        let key = bytes.as_mut_slice().try_into().map(RootKey::from_bytes);
        key.map_err(|_| {
            let path = self.program.path.display();
            let what = format!("{path} answers `unwrap` with {len} bytes, not {KEY_BYTES}");
            KeyringError::ProviderBroken(what)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INSTALLATION: InstallationId = InstallationId::new([7; 16]);

    /// A shell that does this. `$1` is the verb and `$2` the installation.
    fn program(script: &str, deadline: Duration) -> ExecProvider {
        let arguments = vec!["-c".to_owned(), script.to_owned(), "wrapper".to_owned()];
        ExecProvider::new(Program { path: "/bin/sh".into(), arguments, deadline }).unwrap()
    }

    #[test]
    fn it_is_given_the_bytes_and_told_what_to_do_for_whom() {
        let long = Duration::from_secs(60);
        let script = "[ \"$2\" = 07070707070707070707070707070707 ] || exit 1\n\
            case $1 in wrap) base64 ;; unwrap) base64 -d ;; esac";
        let provider = program(script, long);
        let root = RootKey::generate().unwrap();
        let wrapped = provider.wrap(INSTALLATION, &root).unwrap();
        let opened = provider.unwrap(INSTALLATION, &wrapped).unwrap();
        assert_eq!(opened.expose(), root.expose());
        assert_eq!((provider.name(), provider.id().as_str()), ("exec", "sh"));
        let in_clear = program("cat", long);
        assert!(matches!(in_clear.wrap(INSTALLATION, &root), Err(KeyringError::ProviderBroken(_))));
    }

    #[test]
    fn what_it_does_wrong_is_told_apart_and_nothing_holds_up() {
        type Check = fn(&KeyringError) -> bool;
        let down: Check = |e| matches!(e, KeyringError::ProviderDown(_));
        let broken: Check = |e| matches!(e, KeyringError::ProviderBroken(_));
        let wrong: Check = |e| matches!(e, KeyringError::WrongRootKey);
        let (short, long) = (Duration::from_millis(300), Duration::from_secs(60));
        for (script, deadline, check) in [
            ("exit 1", long, down),
            ("kill -9 $$", long, down),
            ("exit 65", long, wrong),
            ("printf short", long, broken),
            ("", long, broken),
            ("yes", long, broken),
            ("yes >&2", short, down),
            ("sleep 1000", short, down),
            // What it leaves behind holds its standard output.
            ("sleep 1000 & exit 0", short, down),
        ] {
            let refused = program(script, deadline).unwrap(INSTALLATION, &[1; 5000]);
            let refused = refused.err().unwrap();
            assert!(check(&refused), "{script}: {refused}");
        }
        let said = program("printf 'no\\033[31m token' >&2; exit 1", long);
        let said = said.unwrap(INSTALLATION, &[]).err().unwrap().to_string();
        assert!(said.contains("(it says: no [31m token)"), "{said}");
        let loud = program("head -c 100000 /dev/zero | tr '\\0' x >&2; exit 1", long);
        assert!(loud.unwrap(INSTALLATION, &[]).err().unwrap().to_string().len() < 500);
    }

    #[test]
    fn a_program_that_others_could_change_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (path, deadline) = (dir.path().join("wrapper"), Duration::from_secs(60));
        std::fs::write(&path, "").unwrap();
        let program = Program { path, arguments: Vec::new(), deadline };
        let permissions = std::fs::Permissions::from_mode(0o722);
        std::fs::set_permissions(&program.path, permissions).unwrap();
        assert!(matches!(ExecProvider::new(program.clone()), Err(KeyringError::Unsafe { .. })));
        std::fs::remove_file(&program.path).unwrap();
        assert!(matches!(ExecProvider::new(program), Err(KeyringError::Io { .. })));
    }
}
