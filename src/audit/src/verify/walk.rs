//! Reading a log from its first byte to its last, on beyond what is wrong where that is sound.
//!
//! A frame is proved by its signature over the root of the tree, so leaves that were altered leave
//! nothing proved behind them; a segment's header is signed and has the peaks of the tree before
//! it, so the next segment is judged again by itself.

use std::path::{Path, PathBuf};

use crate::checkpoint::{self, Remembered};
use crate::error::JournalError;
use crate::merkle::{self, Frontier, Hash};
use crate::record::{LastChange, Record};
use crate::redaction::{NO_DETAIL, Named};
use crate::segment::{self, At, Frame, Segment, Window};

use super::certified;
use super::known::Known;
use super::leaves::Leaves;
use super::report::{Range, Ranges, Verdict};
use super::{Change, LogKey, REPORT_EVERY, VerifyError};

const MISSING: &str = "records are missing";
const NOT_ZERO: &str = "bytes where zeroes should be";
/// Bytes of a segment that are read at a time.
const READ: usize = 256 * 1024;

/// Sees the place, the bytes and the hash of a leaf.
type SeeLeaf<'a> = &'a mut dyn FnMut(u64, &[u8], &Hash);
/// Sees a record and its detail, which fits as far as it is there.
pub(super) type SeeDetail<'a> = &'a mut dyn FnMut(u64, &Record, &[u8]);

/// A walk over the segments of a log.
pub(super) struct Walk<'a> {
    pub(super) key: &'a LogKey,
    pub(super) remembered: Option<&'a Remembered>,
    change: &'a mut dyn FnMut(Change),
    pub(super) progress: &'a mut dyn FnMut(u64),
    /// Sees every leaf, proved or not.
    pub(super) leaf: Option<SeeLeaf<'a>>,
    /// The same for records with their details.
    pub(super) detail: Option<SeeDetail<'a>>,
    /// What records say was erased. Such a record stands behind those that it is about, so nobody knows
    /// before a walk is over: until then whatever is not there counts as erased.
    pub(super) redactions: Option<&'a Named>,
    known: Known,
    /// The tree as far as the leaves were read; proved if `is_proved`.
    tree: Frontier,
    is_proved: bool,
    /// True after a place behind which the rest of a segment cannot be read.
    is_cut: bool,
    /// The segment before: its number, its file, and where its frames end.
    before: Option<(u64, PathBuf, u64)>,
    /// Where the last frame of this segment begins, if the header of the next one says of all frames that they
    /// were signed: only the last one's signature is verified by itself.
    certified: Option<u64>,
    /// Of the first segment that is read: where to go on in it, if what is before was verified once.
    from: Option<u64>,
    /// The root at the size that is remembered.
    root_then: Option<Hash>,
    pub(super) found: Found,
    pub(super) ranges: Ranges,
}

/// Where to go on in the first segment that is read, and what was verified up to there once.
pub(super) struct Start {
    pub(super) from: u64,
    pub(super) root: Hash,
    pub(super) found: Found,
}

/// What is proved, and how much was looked at.
#[derive(Clone, Default)]
pub(super) struct Found {
    pub(super) tree: Frontier,
    /// Of the newest frame that is proved.
    pub(super) signed: Option<(u64, Hash, [u8; 64])>,
    /// Where it stands: the number of its segment and its first byte.
    pub(super) at: Option<(u64, u64)>,
    pub(super) last_change: Option<LastChange>,
    pub(super) checkpoints: u64,
    /// Of those, the ones whose signatures were not verified by themselves.
    pub(super) by_header: u64,
    pub(super) details: u64,
    /// What records say was erased, and what is not there.
    pub(super) said: Named,
    pub(super) absent: Named,
    /// What records say was archived.
    pub(super) archived: Named,
    /// A checkpoint was kept that covers fewer records than those that are missing at the beginning.
    pub(super) is_beyond: bool,
}

impl<'a> Walk<'a> {
    pub(super) fn new(
        key: &'a LogKey,
        remembered: Option<&'a Remembered>,
        progress: &'a mut dyn FnMut(u64),
        change: &'a mut dyn FnMut(Change),
    ) -> Self {
        Self {
            key,
            remembered,
            change,
            progress,
            leaf: None,
            detail: None,
            redactions: None,
            known: Known::default(),
            tree: Frontier::default(),
            is_proved: true,
            is_cut: false,
            before: None,
            certified: None,
            from: None,
            root_then: None,
            found: Found::default(),
            ranges: Ranges::default(),
        }
    }

    /// Takes a segment for the first one: the log before it is not looked at.
    pub(super) fn begin_anywhere(&mut self) {
        self.is_proved = false;
    }

    /// Goes on behind what was verified once.
    pub(super) fn start(&mut self, start: &Start) {
        let size = start.found.tree.size();
        self.from = Some(start.from);
        self.tree = start.found.tree.clone();
        self.found = start.found.clone();
        let is_then = self.remembered.is_some_and(|remembered| remembered.size == size);
        self.root_then = is_then.then_some(start.root);
    }

    /// Reads the segments that there are, in their order.
    pub(super) fn read(&mut self, segments: &[(u64, PathBuf)]) -> Result<(), VerifyError> {
        for (at, (number, path)) in segments.iter().enumerate() {
            let next = segments.get(at + 1);
            let from = self.from.take();
            let opened = match Segment::open(path, &self.key.key) {
                Ok(segment) if from.is_some() => Ok(segment),
                Ok(segment) => self.header(&segment, *number).map(|()| segment),
                Err(JournalError::Corrupt { what, .. }) => Err(what),
                Err(other) => return Err(VerifyError::Unreadable(other)),
            };
            let end = match opened {
                Ok(segment) => {
                    let from = from.unwrap_or(segment.start);
                    let certified = certified::last(&segment, next, self.key);
                    self.certified = certified.map_err(VerifyError::Unreadable)?;
                    let ended = self.frames(&segment, from, next.is_none());
                    ended.map_err(VerifyError::Unreadable)?
                }
                Err(what) => {
                    self.cut(path, 0, what);
                    self.is_proved = false;
                    0
                }
            };
            self.before = Some((*number, path.clone(), end));
        }
        self.compare_with_remembered(segments);
        if self.is_cut
            && let Some(last) = self.ranges.last_mut()
        {
            last.end = None;
        }
        (self.progress)(self.found.tree.size());
        Ok(())
    }

    /// Whether a header continues the log; if not, nothing in its segment is judged.
    fn header(&mut self, segment: &Segment, number: u64) -> Result<(), &'static str> {
        let head = &segment.head;
        if head.origin != self.key.origin {
            return Err("it belongs to another log");
        }
        if head.first != number {
            return Err("its name is not that of its first record");
        }
        let tree = segment.frontier().map_err(|_| "its header names no tree")?;
        let here = self.tree.size();
        if head.first > here {
            self.gap(segment, here);
        } else if self.is_proved {
            // A log that began when the one before was lost goes on from where the store was.
            let change = if number == 0 { head.last_change() } else { self.found.last_change };
            let previous = self.before.as_ref().map_or(0, |(number, ..)| *number);
            if tree != self.tree || head.previous != previous || head.last_change() != change {
                return Err("it does not continue the log");
            }
        } else if let Some(last) = self.ranges.last_mut().filter(|last| last.end.is_some()) {
            if head.first < last.first {
                return Err("it does not continue the log");
            }
            // What was behind the bad place was not as long as it said.
            last.end = Some(head.first);
        }
        (self.is_proved, self.is_cut) = (true, false);
        self.found.last_change = head.last_change();
        self.found.tree = tree.clone();
        if self.remembered.is_some_and(|remembered| remembered.size == tree.size()) {
            self.root_then = Some(tree.root());
        }
        self.tree = tree;
        Ok(())
    }

    /// A header names more records before it than there are.
    fn gap(&mut self, segment: &Segment, here: u64) {
        let head = &segment.head;
        let (file, offset) = match &self.before {
            Some((number, path, end)) if *number == head.previous => (path.clone(), *end),
            _ => (segment.path.with_file_name(segment::file_name(here)), 0),
        };
        let verdict =
            if self.is_proved && !self.is_cut { Verdict::Missing } else { Verdict::Tampered };
        if self.before.is_some() || self.is_proved {
            let end = Some(head.first);
            self.ranges.push(Range { verdict, first: here, end, file, offset, what: MISSING });
        }
    }

    /// The rest of a segment cannot be read from here on.
    fn cut(&mut self, path: &Path, offset: u64, what: &'static str) {
        let first = self.tree.size();
        self.is_cut = true;
        let (verdict, end, file) = (Verdict::Tampered, Some(first), path.to_owned());
        self.ranges.push(Range { verdict, first, end, file, offset, what });
    }

    /// Reads the frames of a segment from a byte on; returns where they end.
    fn frames(
        &mut self,
        segment: &Segment,
        mut offset: u64,
        is_last: bool,
    ) -> Result<u64, JournalError> {
        let (mut synced, mut window) = (0, Window::new(READ));
        let what = loop {
            if let At::Frame(frame) = segment.at_in(&mut window, offset)? {
                match self.frame(segment, &frame, None) {
                    Some(end) => offset = end,
                    None => return Ok(offset),
                }
                continue;
            }
            // Looked at once more: since it was read ahead it may have been written.
            window.forget();
            let (frame, damage) = match segment.at(offset)? {
                At::Frame(frame) => (frame, None),
                At::Nothing => match segment.first_nonzero(offset)? {
                    None => return Ok(offset),
                    Some(_) => break NOT_ZERO,
                },
                At::Bad(what) => match segment.damaged(offset)? {
                    Some(frame) if !is_last || was_synced(segment, offset, &mut synced)? => {
                        (Box::new(frame), Some(what))
                    }
                    _ => break what,
                },
            };
            match self.frame(segment, &frame, damage) {
                Some(end) => offset = end,
                None => return Ok(offset),
            }
        };
        if is_last && !was_synced(segment, offset, &mut synced)? {
            let (first, file) = (self.tree.size(), segment.path.clone());
            let (verdict, end) = (Verdict::UnprovenTail, None);
            self.ranges.push(Range { verdict, first, end, file, offset, what });
        } else {
            self.cut(&segment.path, offset, what);
        }
        Ok(offset)
    }

    /// Takes a frame, and says where it ends; `None` if the rest of its segment cannot be read.
    fn frame<B: AsRef<[u8]>>(
        &mut self,
        segment: &Segment,
        frame: &Frame<B>,
        damage: Option<&'static str>,
    ) -> Option<u64> {
        match self.leaves(frame, damage) {
            Ok(leaves) => self.judge(segment, frame, leaves),
            Err(what) => {
                self.cut(&segment.path, frame.offset, what);
                return None;
            }
        }
        if self.tree.size() % REPORT_EVERY < u64::from(frame.head.count) {
            (self.progress)(self.tree.size());
        }
        Some(frame.end)
    }

    /// The leaves and details of a frame that stands where it should.
    fn leaves<B: AsRef<[u8]>>(
        &mut self,
        frame: &Frame<B>,
        damage: Option<&'static str>,
    ) -> Result<Leaves, &'static str> {
        if frame.head.first != self.tree.size() {
            return Err("a frame does not follow the one before");
        }
        if frame.head.count == 0 {
            return Err("a frame has no records");
        }
        if frame.head.synced != frame.offset {
            return Err("a frame does not stand where it was written");
        }
        let mut all = Leaves {
            tree: self.tree.clone(),
            changes: Vec::new(),
            wrong: Vec::new(),
            said: Named::default(),
            absent: Named::default(),
            archived: Named::default(),
            compared: 0,
            root_then: None,
            damage,
        };
        let mut details = frame.details();
        for leaf in frame.leaves() {
            let leaf = leaf.ok_or("a record is cut off")?;
            match details.next().flatten() {
                Some(detail) => {
                    all.record(leaf, detail, self.redactions, &mut self.detail, &mut self.known);
                }
                None => all.damage = all.damage.or(Some(NO_DETAIL)),
            }
            let hash = merkle::leaf_hash(leaf);
            if let Some(see) = &mut self.leaf {
                see(all.tree.size(), leaf, &hash);
            }
            all.tree.append(hash);
            if self.remembered.is_some_and(|remembered| remembered.size == all.tree.size()) {
                all.root_then = Some(all.tree.root());
            }
        }
        let count = all.tree.size().saturating_sub(self.tree.size());
        if count != u64::from(frame.head.count) {
            return Err("a frame's count is not that of its records");
        }
        if details.next().is_some() {
            all.damage = all.damage.or(Some("a frame has more details than records"));
        }
        Ok(all)
    }

    /// What is known of the records of a frame.
    fn judge<B: AsRef<[u8]>>(&mut self, segment: &Segment, frame: &Frame<B>, all: Leaves) {
        let (first, end) = (self.tree.size(), all.tree.size());
        let root = all.tree.root();
        let signed = self.signature(frame, &all.tree, &root);
        self.is_proved = signed.is_ok();
        self.tree = all.tree;
        let mut push = |verdict, first, end, what| {
            let (offset, end) = (frame.offset, Some(end));
            if !self.ranges.goes_on(verdict, first, end) {
                let file = segment.path.clone();
                self.ranges.push(Range { verdict, first, end, file, offset, what });
            }
        };
        if let Some(what) = all.damage.or(signed.err()) {
            push(Verdict::Tampered, first, end, what);
        } else {
            let mut good = first;
            for (index, verdict, what) in &all.wrong {
                if *index > good {
                    push(Verdict::Ok, good, *index, "");
                }
                push(*verdict, *index, index.saturating_add(1), *what);
                good = index.saturating_add(1);
            }
            if end > good {
                push(Verdict::Ok, good, end, "");
            }
        }
        if signed.is_err() {
            return;
        }
        for (change, last) in all.changes {
            (self.change)(change);
            self.found.last_change = Some(last);
        }
        self.found.said.add(&all.said);
        self.found.archived.add(&all.archived);
        if all.damage.is_none() {
            self.found.absent.add(&all.absent);
        }
        self.root_then = self.root_then.or(all.root_then);
        self.found.tree.clone_from(&self.tree);
        self.found.signed = Some((end, root, frame.signature));
        self.found.at = Some((segment.head.first, frame.offset));
        self.found.checkpoints += 1;
        self.found.by_header += u64::from(self.is_certified(frame));
        // Of a damaged frame nobody knows which of its details are right.
        self.found.details += if all.damage.is_none() { all.compared } else { 0 };
    }

    fn is_certified<B>(&self, frame: &Frame<B>) -> bool {
        self.certified.is_some_and(|last| frame.offset < last)
    }

    fn signature<B>(
        &self,
        frame: &Frame<B>,
        tree: &Frontier,
        root: &Hash,
    ) -> Result<(), &'static str> {
        if frame.head.root != root {
            return Err("a frame's records are not those that were signed");
        }
        if self.is_certified(frame) {
            return Ok(());
        }
        let body = checkpoint::body(&self.key.origin, tree.size(), root);
        let verified = self.key.key.verify(body.as_bytes(), &frame.signature);
        verified.map_err(|_| "a frame's signature does not verify")
    }

    /// A checkpoint that was kept elsewhere says what the log once was.
    fn compare_with_remembered(&mut self, segments: &[(u64, PathBuf)]) {
        let Some(remembered) = self.remembered.filter(|remembered| remembered.size > 0) else {
            return;
        };
        let here = self.tree.size();
        if let Some(root) = self.root_then {
            if root != remembered.root
                && let Some((_, first)) = segments.first()
            {
                self.is_cut = false;
                self.ranges.all_in_one(Range {
                    verdict: Verdict::Tampered,
                    first: 0,
                    end: Some(here),
                    file: first.clone(),
                    offset: 0,
                    what: "it is not the log that the checkpoint was made of: it was written anew",
                });
            }
            return;
        }
        if here >= remembered.size || self.is_cut {
            self.found.is_beyond = here >= remembered.size;
            return;
        }
        let what = "the checkpoint covers records that are not there";
        match self.ranges.last_mut() {
            Some(tail) if tail.verdict == Verdict::UnprovenTail => {
                (tail.verdict, tail.what) = (Verdict::Tampered, what);
            }
            _ => {
                let Some((_, file, offset)) = self.before.clone() else { return };
                let (verdict, end) = (Verdict::Missing, Some(remembered.size));
                self.ranges.push(Range { verdict, first: here, end, file, offset, what });
            }
        }
    }
}

/// True if what stands at `offset` had been on disk once. `synced` is up to where that is known by now.
fn was_synced(segment: &Segment, offset: u64, synced: &mut u64) -> Result<bool, JournalError> {
    if offset >= *synced {
        *synced = segment.synced_beyond(offset)?.unwrap_or(*synced);
    }
    Ok(offset < *synced)
}
