//! `exec`: a program wraps and unwraps, for whatever keeps keys elsewhere (a KMS, an HSM).
//!
//! It is called with its own arguments, then `wrap` or `unwrap`, then the installation's id. The
//! bytes come on its standard input, and it answers on its standard output: what `wrap` makes of 32
//! bytes is kept in the keyring, and `unwrap` makes the 32 bytes of that again. Exit code 0 is an
//! answer, 65 says that these bytes are not its own, and every other one that it cannot say now.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use fieldseal_crypto::RootKey;
use fieldseal_model::InstallationId;
use zeroize::Zeroizing;

use super::super::error::KeyringError;
use super::{KEY_BYTES, RootProvider};
use crate::program::{Program, ProgramError};

/// The longest that a program may answer to `wrap`.
const MOST_WRAPPED: usize = 8 * 1024;
/// `EX_DATAERR` (sysexits.h): the bytes are not those of this program.
const NOT_MINE: i32 = 65;

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
        let asked = self.program.ask(&[verb, &installation.to_string()], input, most);
        let answered = asked.map_err(|error| match error {
            ProgramError::Io { what, path, error } => KeyringError::io(what, &path, error),
            ProgramError::Down(what) => KeyringError::ProviderDown(what),
            error @ ProgramError::TooMuch { .. } => KeyringError::ProviderBroken(error.to_string()),
        })?;
        match answered.status.code() {
            Some(0) => Ok(answered.answer),
            Some(NOT_MINE) => Err(KeyringError::WrongRootKey),
            _ => Err(KeyringError::ProviderDown(answered.failure)),
        }
    }
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
    use std::time::Duration;

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
