//! The newest checkpoint of the log where whoever writes the log cannot take it back (an anchor): posted
//! from time to time, and compared at every start. Only so is found that the end of a log was cut off, or
//! that somebody with its signing key wrote it anew.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use fieldseal_audit::verify::{self, LogKey, Remembered, Standing, VerifyError};
use fieldseal_audit::{Checkpoint, Journal};
use fieldseal_keys::program::{Program, ProgramError};
use fieldseal_model::Timestamp;
use parking_lot::Mutex;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::engine::Engine;

/// The longest checkpoint that a place may answer with, in bytes.
const MOST: usize = 4 * 1024;
/// Symbolic links are not followed: whoever may write beside the file would choose what is read.
pub(crate) const IRREGULAR: &str = "it is no regular file";
/// How long a program may take before it is ended.
const DEADLINE: Duration = Duration::from_secs(10);

/// Where checkpoints are posted to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AnchorTarget {
    /// A file that holds the newest one.
    File(PathBuf),
    /// A program: `put` reads one line from standard input and ends with 0 once it is kept; `get` writes
    /// the newest one, or nothing if there is none yet. Its path is the first word, its first arguments are
    /// the others; it has 10 seconds.
    Command(Vec<String>),
    /// An address.
    Http(HttpAnchor),
}

/// An address that keeps the newest checkpoint. How it is reached is for whoever knows the wire.
#[derive(Clone)]
pub struct HttpAnchor {
    /// The address, which names the place.
    pub url: String,
    /// How it is reached.
    pub service: Arc<dyn AnchorService>,
}

/// Asks an address. It may block for as long as a request takes.
pub trait AnchorService: Send + Sync {
    /// What was posted last; `None` if nothing was.
    ///
    /// # Errors
    /// Why nobody can say that.
    fn get(&self) -> Result<Option<String>, String>;

    /// Has it keep a newer one.
    ///
    /// # Errors
    /// Why it is not known to be kept.
    fn put(&self, line: &str) -> Result<(), String>;
}

impl fmt::Debug for HttpAnchor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpAnchor").field("url", &self.url).finish_non_exhaustive()
    }
}

impl PartialEq for HttpAnchor {
    fn eq(&self, other: &Self) -> bool {
        self.url == other.url
    }
}

impl Eq for HttpAnchor {}

/// Why a log is not started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AnchorError {
    /// What was posted last cannot be read.
    #[error("{place} cannot say which checkpoint was posted last: {why}")]
    Unreadable {
        /// The place.
        place: String,
        /// What is wrong.
        why: String,
    },
    /// It is no checkpoint of this log.
    #[error("what {place} has is not of this log: {error}")]
    Foreign {
        /// The place.
        place: String,
        /// What is wrong.
        error: VerifyError,
    },
    /// The log is shorter than it was.
    #[error(
        "{place} has a checkpoint of {posted} records, and the log has {found}: its end was cut off, or an \
         older copy of it was put back"
    )]
    Behind {
        /// The place.
        place: String,
        /// How many records were posted.
        posted: u64,
        /// How many there are.
        found: u64,
    },
    /// The log has other records than it had.
    #[error(
        "{place} has a checkpoint of {posted} records, and the log has others in their place: it was \
         written anew, or altered; `fieldseal audit verify --checkpoint` says where"
    )]
    Other {
        /// The place.
        place: String,
        /// How many records were posted.
        posted: u64,
    },
    /// The log itself cannot be read for the comparison.
    #[error("the log cannot be compared with what {place} has: {error}")]
    Log {
        /// The place.
        place: String,
        /// What is wrong.
        error: VerifyError,
    },
}

impl AnchorError {
    /// The stable name.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Unreadable { .. } => "AUDIT_ANCHOR_UNREADABLE",
            Self::Foreign { .. } => "AUDIT_ANCHOR_FOREIGN",
            Self::Behind { .. } => "AUDIT_LOG_BEHIND_ANCHOR",
            Self::Other { .. } => "AUDIT_LOG_NOT_AS_ANCHORED",
            Self::Log { error, .. } => error.reason(),
        }
    }
}

/// How posting to a place goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnchorState {
    /// `file`, `command` or `http`.
    pub kind: &'static str,
    /// How many records the newest posted checkpoint covers; `None` if there is none.
    pub posted: Option<u64>,
    /// When this process posted it; `None` if it has not yet.
    pub posted_at: Option<Timestamp>,
    /// Records behind it.
    pub behind: u64,
    /// Why the last attempt failed; `None` if it did not.
    pub failure: Option<String>,
}

#[derive(Default)]
struct Posted {
    size: Option<u64>,
    at: Option<Timestamp>,
    failure: Option<String>,
}

/// A place, and what is known of it.
pub(crate) struct Anchor {
    target: AnchorTarget,
    /// Where it is noted that it was posted to.
    anchored: Anchored,
    posted: Mutex<Posted>,
    /// One is posted at a time.
    posting: Mutex<()>,
    /// A file is being written, perhaps since an earlier post.
    at_work: Arc<AtomicBool>,
}

impl AnchorTarget {
    const fn kind(&self) -> &'static str {
        match self {
            Self::File(_) => "file",
            Self::Command(_) => "command",
            Self::Http(_) => "http",
        }
    }

    fn place(&self) -> String {
        match self {
            Self::File(path) => format!("{} (audit.anchor_file)", path.display()),
            Self::Command(words) => {
                format!("{} (audit.anchor_command)", words.first().map_or("", String::as_str))
            }
            Self::Http(at) => format!("{} (audit.anchor_url)", at.url),
        }
    }

    /// What was posted last; `None` if nothing was.
    fn get(&self) -> Result<Option<String>, String> {
        let text = match self {
            Self::File(path) => {
                let path = path.clone();
                match within_deadline(&Arc::default(), move || read(&path))? {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                    read => read.map_err(|error| error.to_string())?,
                }
            }
            Self::Command(words) => {
                let answer = program(words).answer(&["get"], &[], MOST).map_err(told)?;
                String::from_utf8(answer.to_vec()).map_err(|_| "it answers with no text")?
            }
            Self::Http(at) => {
                let service = Arc::clone(&at.service);
                match within_deadline(&Arc::default(), move || service.get())?? {
                    Some(text) => text,
                    None => return Ok(None),
                }
            }
        };
        Ok((!text.trim().is_empty()).then_some(text))
    }

    /// Whether a log that has come to `now` goes on from what was posted last; how many records that covers,
    /// or `None` if nothing was posted.
    pub(crate) fn compare(
        &self,
        directory: &Path,
        key: &LogKey,
        now: &Remembered,
    ) -> Result<Option<u64>, AnchorError> {
        let place = self.place();
        let text = match self.get() {
            Ok(Some(text)) => text,
            Ok(None) => match Anchored::new(directory).knows(&place) {
                Ok(false) => return Ok(None),
                Ok(true) => {
                    let why = "it has nothing, and was posted to".to_owned();
                    return Err(AnchorError::Unreadable { place, why });
                }
                Err(why) => return Err(AnchorError::Unreadable { place, why }),
            },
            Err(why) => return Err(AnchorError::Unreadable { place, why }),
        };
        let then = match verify::remembered(&text, key) {
            Ok(then) => then,
            Err(error) => return Err(AnchorError::Foreign { place, error }),
        };
        let (posted, found) = (then.size, now.size);
        match verify::standing(directory, key, &then, now) {
            Ok(Standing::Extends) => Ok(Some(posted)),
            Ok(Standing::Shorter) => Err(AnchorError::Behind { place, posted, found }),
            Ok(Standing::Other) => Err(AnchorError::Other { place, posted }),
            Err(error) => Err(AnchorError::Log { place, error }),
        }
    }

    fn put(&self, line: &str, at_work: &Arc<AtomicBool>) -> Result<(), String> {
        match self {
            Self::File(path) => {
                let (path, line) = (path.clone(), line.to_owned());
                let done = within_deadline(at_work, move || replace(&path, &line));
                done?.map_err(|error| error.to_string())
            }
            Self::Command(words) => {
                program(words).answer(&["put"], line.as_bytes(), MOST).map(drop).map_err(told)
            }
            Self::Http(at) => {
                let (service, line) = (Arc::clone(&at.service), line.to_owned());
                within_deadline(at_work, move || service.put(&line))?
            }
        }
    }
}

fn program(words: &[String]) -> Program {
    let mut words = words.iter();
    Program {
        path: words.next().map(PathBuf::from).unwrap_or_default(),
        arguments: words.cloned().collect(),
        deadline: DEADLINE,
    }
}

/// What a file or an address does, on a thread of its own: a volume that hangs holds up nothing for ever. One that is
/// still `at_work` when its time is over may end later, and nothing else is begun until then.
fn within_deadline<T: Send + 'static>(
    at_work: &Arc<AtomicBool>,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, String> {
    if at_work.swap(true, Ordering::AcqRel) {
        return Err("the one before is still on its way there".to_owned());
    }
    let (done, answer) = sync_channel(1);
    let (thread, ended) = (std::thread::Builder::new().name("anchor".into()), Arc::clone(at_work));
    let spawned = thread.spawn(move || {
        let found = work();
        ended.store(false, Ordering::Release);
        // Nobody waits any more if it is too late.
        drop(done.send(found));
    });
    if let Err(error) = spawned {
        at_work.store(false, Ordering::Release);
        return Err(error.to_string());
    }
    let late = || format!("it does not answer within {} seconds", DEADLINE.as_secs());
    answer.recv_timeout(DEADLINE).map_err(|_| late())
}

/// Which places were posted to: one that has nothing any more is no new one.
struct Anchored(PathBuf);

impl Anchored {
    fn new(log: &Path) -> Self {
        Self(log.join("anchored"))
    }

    fn knows(&self, place: &str) -> Result<bool, String> {
        match read(&self.0) {
            Ok(text) => Ok(text.lines().any(|line| line == place)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error.to_string()),
        }
    }

    fn add(&self, place: &str) -> Result<(), String> {
        if self.knows(place)? {
            return Ok(());
        }
        let known = read(&self.0).unwrap_or_default();
        replace(&self.0, &format!("{known}{place}\n")).map_err(|error| error.to_string())
    }
}

fn told(error: ProgramError) -> String {
    error.to_string()
}

/// A short text. What is no regular file is not followed, and holds up nobody.
pub(crate) fn read(path: &Path) -> io::Result<String> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match rustix::fs::open(path, flags, Mode::empty()) {
        Err(Errno::LOOP) => return Err(io::Error::other(IRREGULAR)),
        opened => File::from(opened?),
    };
    if !file.metadata()?.is_file() {
        return Err(io::Error::other(IRREGULAR));
    }
    let mut text = String::new();
    file.take(MOST as u64).read_to_string(&mut text)?;
    Ok(text)
}

/// One whole line or the other, whatever happens. What stands where the new one is made, somebody else may
/// have put there: nothing is written into that.
pub(crate) fn replace(path: &Path, line: &str) -> io::Result<()> {
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(".new");
    let unfinished = PathBuf::from(unfinished);
    match fs::remove_file(&unfinished) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(0o600).open(&unfinished)?;
    file.write_all(line.as_bytes())?;
    file.sync_all()?;
    fs::rename(&unfinished, path)?;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

impl Anchor {
    pub(crate) fn new(target: AnchorTarget, log: &Path) -> Self {
        let anchored = Anchored::new(log);
        let (posted, posting) = (Mutex::default(), Mutex::default());
        Self { target, anchored, posted, posting, at_work: Arc::default() }
    }

    /// Whether the log of a journal that was just opened goes on from what was posted last.
    pub(crate) fn check(&self, journal: &Journal, directory: &Path) -> Result<(), AnchorError> {
        let now = journal.checkpoint();
        let now = Remembered { size: now.tree_size, root: now.root };
        let then = self.target.compare(directory, &journal.public_key(), &now)?;
        if then.is_none() {
            let place = self.target.place();
            tracing::warn!(
                event = "audit_anchor_empty",
                place,
                "no checkpoint was posted there yet: this start is not compared with any"
            );
        }
        self.posted.lock().size = then;
        Ok(())
    }

    /// Posts a checkpoint that is newer than the last one.
    fn post(&self, checkpoint: &Checkpoint, now: Timestamp) -> Result<(), String> {
        let _one_at_a_time = self.posting.lock();
        if self.posted.lock().size.is_some_and(|size| size >= checkpoint.tree_size) {
            return Ok(());
        }
        let line = verify::line(&checkpoint.note).unwrap_or_default();
        let done = self.target.put(&format!("{line}\n"), &self.at_work);
        let done = done.and_then(|()| self.anchored.add(&self.target.place()));
        let mut posted = self.posted.lock();
        posted.failure = done.as_ref().err().cloned();
        if done.is_ok() {
            posted.size = Some(checkpoint.tree_size);
            posted.at = Some(now);
        }
        done
    }

    fn state(&self, log_size: u64) -> AnchorState {
        let posted = self.posted.lock();
        AnchorState {
            kind: self.target.kind(),
            posted: posted.size,
            posted_at: posted.at,
            behind: log_size.saturating_sub(posted.size.unwrap_or(0)),
            failure: posted.failure.clone(),
        }
    }
}

impl Engine {
    /// Posts the newest checkpoint to every place that has an older one. What fails is in a log line and in
    /// the status, and is tried again the next time.
    pub async fn post_checkpoint(&self) {
        let (checkpoint, now) = (self.inner.journal.checkpoint(), self.inner.clock.now());
        for anchor in &self.inner.anchors {
            let (anchor, checkpoint) = (Arc::clone(anchor), checkpoint.clone());
            let posted = tokio::task::spawn_blocking(move || {
                let (kind, done) = (anchor.target.kind(), anchor.post(&checkpoint, now));
                if let Err(error) = done {
                    tracing::error!(event = "audit_anchor_failed", kind, error);
                }
            });
            if posted.await.is_err() {
                tracing::error!(event = "audit_anchor_failed", error = "posting was cut off");
            }
        }
    }

    /// How posting goes, for each place.
    #[must_use]
    pub fn anchor_states(&self) -> Vec<AnchorState> {
        if self.inner.anchors.is_empty() {
            return Vec::new();
        }
        let size = self.inner.journal.checkpoint().tree_size;
        self.inner.anchors.iter().map(|anchor| anchor.state(size)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_written_beside_a_write_that_has_not_ended() {
        let at_work = Arc::new(AtomicBool::new(true));
        let refused = within_deadline(&at_work, || ());
        assert!(refused.is_err_and(|why| why.contains("still on its way")));
        at_work.store(false, Ordering::Release);
        for _ in 0..3 {
            assert_eq!(within_deadline(&at_work, || 7), Ok(7));
        }
    }
}
