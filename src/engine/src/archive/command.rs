//! An archive behind a program: `put NAME` keeps what comes on standard input, `get NAME` gives it back.

use std::fs::File;
use std::path::PathBuf;
use std::time::Duration;

use fieldseal_audit::{ArchiveContent, ArchiveStore};
use fieldseal_keys::program::Program;

/// How long a program may take for one file: a segment has up to 1 GiB.
const DEADLINE: Duration = Duration::from_secs(600);
/// The longest answer to a `put`, in bytes.
const MOST_SAID: u64 = 4 * 1024;

/// A program that keeps the files of an archive.
pub(crate) struct CommandArchive(Program);

impl CommandArchive {
    /// Its path is the first word, its first arguments are the others.
    pub(crate) fn new(words: &[String]) -> Self {
        let mut words = words.iter();
        Self(Program {
            path: words.next().map(PathBuf::from).unwrap_or_default(),
            arguments: words.cloned().collect(),
            deadline: DEADLINE,
        })
    }
}

impl ArchiveStore for CommandArchive {
    fn kept(&self, name: &str, most: u64) -> Result<Option<[u8; 32]>, String> {
        let (bytes, digest) =
            self.0.digest(&["get", name], None, most).map_err(|e| e.to_string())?;
        Ok((bytes > 0).then_some(digest))
    }

    fn keep(&self, name: &str, content: ArchiveContent<'_>) -> Result<(), String> {
        let words = ["put", name];
        let done = match content {
            ArchiveContent::File(path) => {
                let file = File::open(path).map_err(|e| format!("{}: {e}", path.display()))?;
                self.0.digest(&words, Some(file), MOST_SAID).map(drop)
            }
            ArchiveContent::Text(text) => {
                self.0.answer(&words, text.as_bytes(), MOST_SAID as usize).map(drop)
            }
        };
        done.map_err(|e| e.to_string())
    }
}
