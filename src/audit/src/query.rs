//! Finding records again, in the files themselves. An index says which ones are worth a look.

mod beginning;
mod counted;
mod erased;
mod event;
mod follow;
mod proof;
mod revision;
mod search;
mod summary;

use std::cell::RefCell;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use fieldseal_crypto::sha256;
use fieldseal_crypto::signing::LogPublicKey;
use fieldseal_model::{Action, CertificateId, Timestamp};
use parking_lot::RwLock;
use prost::Message as _;

use crate::error::{JournalError, QueryError};
use crate::index::Indexes;
use crate::record::Outcome;
use crate::segment::{self, Segment};
pub use beginning::Beginning;
use counted::Counter;
use erased::Erased;
pub use event::{Event, EventItem};
pub use follow::Follower;
use search::Search;
use summary::Tallies;
pub use summary::{Counts, GroupKey, Grouping, Summary};

/// What to look for. Lists are OR, fields are AND; what is empty or `None` does not filter. Key,
/// table, column, partition and row must be those of one and the same item.
#[derive(Debug, Clone, Default)]
pub struct Query {
    /// Inclusive.
    pub start: Option<Timestamp>,
    /// Exclusive.
    pub end: Option<Timestamp>,
    /// Typed names.
    pub principals: Vec<String>,
    /// What was called.
    pub actions: Vec<Action>,
    /// Bare key names.
    pub keys: Vec<String>,
    /// Bare key names with the version that was reached.
    pub key_versions: Vec<(String, u32)>,
    /// The table.
    pub table: Option<String>,
    /// The column.
    pub column: Option<String>,
    /// The partition's token; `Some(None)` is the default partition.
    pub partition: Option<Option<[u8; 16]>>,
    /// The row's token.
    pub row: Option<[u8; 16]>,
    /// Of the event or of one of its items.
    pub outcomes: Vec<Outcome>,
    /// Purposes as stated.
    pub purposes: Vec<String>,
    /// Tickets as stated.
    pub tickets: Vec<String>,
    /// The end user's token.
    pub end_user: Option<[u8; 16]>,
    /// The certificate that the caller showed.
    pub certificate: Option<CertificateId>,
    /// Only what is about keys, policy, the process and the log itself, not about values.
    pub administration_only: bool,
    /// Leave out what the process notes for itself while it serves encrypts and decrypts.
    pub omit_housekeeping: bool,
    /// Leave out who read the log itself, but for those who were refused.
    pub omit_log_reads: bool,
    /// The oldest first instead of the newest.
    pub oldest_first: bool,
    /// Judge each item by itself, and leave out those that do not match.
    pub matching_items_only: bool,
    /// Leave out the items of calls that have more than one. They are not even read then, unless a
    /// filter needs them.
    pub omit_batch_items: bool,
    /// Only what was erased, and could be what is looked for by all that is left of it.
    pub erased_only: bool,
}

/// Where a page ends. It has at least one event, if there is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageLimit {
    /// Most events.
    pub events: usize,
    /// Most bytes of the events together, as they are in a message.
    pub bytes: usize,
}

impl Default for PageLimit {
    /// 100 events, and 2 MiB: half of a message.
    fn default() -> Self {
        Self { events: 100, bytes: 2 * 1024 * 1024 }
    }
}

/// Some events, and where to go on.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Page {
    /// The events.
    pub events: Vec<Event>,
    /// For the next page; `None` after the last.
    pub next: Option<String>,
    /// All pages show the log as it was when it had so many records.
    pub tree_size: u64,
    /// What is older is archived, and in no page.
    pub begins: Beginning,
}

/// Reads a log that may be written to meanwhile. Blocks: call it where that is allowed.
pub struct Reader {
    directory: PathBuf,
    key: LogPublicKey,
    log: Arc<str>,
    origin: Arc<str>,
    indexes: Option<Arc<Indexes>>,
    /// Held while a segment is read that another one could replace.
    files: Arc<RwLock<()>>,
    /// Before this record the log may be in an archive.
    archived: Arc<AtomicU64>,
    /// Where that archive is.
    archive: Option<PathBuf>,
}

/// Counts the records of a segment before a place; the next one begins with the third. `None` if it has to
/// be read.
type CountSegment<'a> = &'a mut dyn FnMut(&Segment, u64, Option<u64>) -> Option<bool>;

/// What an opaque page token holds.
#[derive(Clone, PartialEq, prost::Message)]
struct Token {
    #[prost(uint64, tag = "1")]
    tree_size: u64,
    /// The next record to look at is this one (oldest first) or the one before (newest first).
    #[prost(uint64, tag = "2")]
    position: u64,
    #[prost(bytes = "vec", tag = "3")]
    query: Vec<u8>,
    /// Of a summary: the last group of the page before.
    #[prost(message, optional, tag = "4")]
    after: Option<GroupKey>,
}

impl Reader {
    pub(crate) fn new(
        directory: PathBuf,
        key: LogPublicKey,
        log: Arc<str>,
        origin: Arc<str>,
        (indexes, files, archived): (Arc<Indexes>, Arc<RwLock<()>>, Arc<AtomicU64>),
    ) -> Self {
        let indexes = Some(indexes);
        Self { directory, key, log, origin, indexes, files, archived, archive: None }
    }

    /// Proves what is archived from the segments of this archive, as far as it can be read. Nothing else is
    /// answered from it.
    #[must_use]
    pub fn with_archive(self, archive: Option<PathBuf>) -> Self {
        Self { archive, ..self }
    }

    /// Looks at every record, whatever an index says. The answers are the same, and later.
    #[must_use]
    pub fn without_index(self) -> Self {
        Self { indexes: None, ..self }
    }

    /// The instance that names the log.
    #[must_use]
    pub fn log(&self) -> &str {
        &self.log
    }

    /// Events that match, at most `limit` of them, of the first `tree_size` records of the log.
    ///
    /// # Errors
    /// As [`Reader::page`].
    pub fn query(
        &self,
        query: &Query,
        limit: usize,
        tree_size: u64,
        page_token: &str,
    ) -> Result<Page, QueryError> {
        let limit = PageLimit { events: limit, ..PageLimit::default() };
        self.page(query, limit, tree_size, page_token)
    }

    /// Events that match, of the first `tree_size` records of the log.
    ///
    /// # Errors
    /// `PageToken` if the token belongs to another query; `Unreadable` if a file cannot be read, or
    /// a record is damaged or missing that the log is known to have.
    pub fn page(
        &self,
        query: &Query,
        limit: PageLimit,
        tree_size: u64,
        page_token: &str,
    ) -> Result<Page, QueryError> {
        // What is shown of an event may change from page to page; which events, may not.
        let filter = Query { omit_batch_items: false, ..query.clone() };
        let digest = sha256(&[format!("{filter:?}").as_bytes()]);
        let token = match page_token {
            "" => {
                let position = if query.oldest_first { 0 } else { tree_size };
                Token { tree_size, position, query: digest.to_vec(), after: None }
            }
            text => parse_token(text, &digest, tree_size)?,
        };
        // A page without room for one event would never get on.
        let limit = PageLimit { events: limit.events.max(1), ..limit };
        let mut search = Search::new(query, limit, token.tree_size, token.position);
        self.run(&mut search, &mut |_, _, _| None)
            .map_err(|e| QueryError::Unreadable(e.to_string().into()))?;
        let next = (!search.is_done()).then(|| {
            let token = Token { position: search.position, ..token.clone() };
            URL_SAFE_NO_PAD.encode(token.encode_to_vec())
        });
        let begins = self.begins()?;
        Ok(Page { events: search.events, next, tree_size: token.tree_size, begins })
    }

    /// Counts what matches of the first `tree_size` records of the log; `limit` is in groups. It
    /// goes through all of them and gives up when `abandoned` becomes true.
    ///
    /// # Errors
    /// As [`Reader::page`]; `TooLarge` beyond 1,000,000 groups or 4,000,000 partitions; `Abandoned`.
    pub fn summarize(
        &self,
        query: &Query,
        groupings: &[Grouping],
        limit: usize,
        tree_size: u64,
        page_token: &str,
        abandoned: &AtomicBool,
    ) -> Result<Summary, QueryError> {
        let query = Query {
            oldest_first: true,
            matching_items_only: true,
            omit_batch_items: false,
            ..query.clone()
        };
        let digest = sha256(&[format!("{query:?} {groupings:?}").as_bytes()]);
        let token = match page_token {
            "" => Token { tree_size, position: 0, query: digest.to_vec(), after: None },
            text => parse_token(text, &digest, tree_size)?,
        };
        let unreadable = |e: JournalError| QueryError::Unreadable(e.to_string().into());
        let tallies = RefCell::new(Tallies::new(groupings, limit, token.after.clone()));
        let mut erased = Erased::new(&query, abandoned);
        let trouble = RefCell::new(None);
        let goes_on = |counted: &dyn Fn() -> Result<(), QueryError>| {
            let is_abandoned = abandoned.load(Ordering::Relaxed);
            let ended = if is_abandoned { Err(QueryError::Abandoned) } else { counted() };
            *trouble.borrow_mut() = ended.err();
            trouble.borrow().is_none()
        };
        let mut each = |found: Option<Event>| {
            goes_on(&|| found.as_ref().map_or(Ok(()), |event| tallies.borrow_mut().add(event)))
        };
        let mut search = Search::through(&query, token.tree_size, &mut each);
        let is_known = counted::is_known(&query, groupings);
        let mut count = |segment: &Segment, known, next| {
            let mut counter = Counter::new(&query, groupings);
            let indexes = self.indexes.as_ref().filter(|_| is_known);
            if indexes.and_then(|i| i.rows(segment, known, next, &mut counter)).is_none() {
                // It is read, for it may have records whose detail was erased.
                return erased.count(self, segment, known, next);
            }
            let counter = RefCell::new(Some(counter));
            Some(goes_on(&|| match counter.take() {
                Some(counter) => counter.finish(&mut tallies.borrow_mut()),
                None => Ok(()),
            }))
        };
        self.run(&mut search, &mut count).map_err(unreadable)?;
        if let Some(trouble) = trouble.take() {
            return Err(trouble);
        }
        let erased = erased.finish().map_err(unreadable)?;
        let (summary, last) = tallies.into_inner().finish();
        let next = last.map(|last| {
            let token = Token { after: Some(last), ..token.clone() };
            URL_SAFE_NO_PAD.encode(token.encode_to_vec())
        });
        let begins = self.begins()?;
        Ok(Summary { next, tree_size: token.tree_size, begins, erased, ..summary })
    }

    /// Where the log begins whose first segment begins with this record: there, if what was before is
    /// archived.
    fn beginning(&self, first: u64) -> u64 {
        if first <= self.archived.load(Ordering::Acquire) { first } else { 0 }
    }

    /// The first record that is here and not in an archive.
    ///
    /// # Errors
    /// `Unreadable` if the directory cannot be read.
    pub fn first(&self) -> Result<u64, QueryError> {
        let segments = segment::list(&self.directory);
        let segments = segments.map_err(|e| QueryError::Unreadable(e.to_string().into()))?;
        Ok(segments.first().map_or(0, |(first, _)| self.beginning(*first)))
    }

    /// Goes through the segments. `count` may do so in place of the search, and says whether to go on.
    fn run(&self, search: &mut Search<'_>, count: CountSegment<'_>) -> Result<(), JournalError> {
        let segments = segment::list(&self.directory)?;
        if let Some((first, _)) = segments.first() {
            search.begin(self.beginning(*first));
        }
        let ends = segments.iter().skip(1).map(|(first, _)| *first).chain([u64::MAX]);
        let mut parts: Vec<_> = segments.iter().zip(ends).collect();
        if !search.oldest_first() {
            parts.reverse();
        }
        for ((first, path), end) in parts {
            if search.is_over() {
                break;
            }
            if !search.wants(*first, end) {
                continue;
            }
            let _reading = self.files.read();
            if self.beginning(end) == end && !path.exists() {
                // It was archived meanwhile.
                search.begin(end);
                continue;
            }
            let segment = Segment::open(path, &self.key)?;
            if segment.head.first != *first {
                let what = "its name is not that of its first record";
                return Err(JournalError::corrupt(path, 0, what));
            }
            let next = Some(end).filter(|end| *end != u64::MAX);
            let known = search.known(end);
            if search.position == *first
                && let Some(goes_on) = count(&segment, known, next)
            {
                search.pass(known, goes_on);
                continue;
            }
            let candidates = self.indexes.as_ref();
            let candidates =
                candidates.and_then(|all| all.candidates(&segment, known, next, search.query()));
            search.segment(&segment, end, candidates)?;
        }
        if search.is_over() {
            return Ok(());
        }
        // Otherwise the next page would begin where this one did.
        Err(JournalError::corrupt(&self.directory, 0, "a segment is missing"))
    }
}

fn parse_token(text: &str, digest: &[u8; 32], size: u64) -> Result<Token, QueryError> {
    let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| QueryError::PageToken)?;
    let token = Token::decode(bytes.as_slice()).map_err(|_| QueryError::PageToken)?;
    let legal =
        token.query == digest && token.position <= token.tree_size && token.tree_size <= size;
    legal.then_some(token).ok_or(QueryError::PageToken)
}
