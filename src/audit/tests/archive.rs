//! Archiving: what moves is whole in the archive before it goes, the log goes on without it, and whatever
//! ends the process in between, no segment is lost.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot be set up fails"
)]

mod kit;

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use fieldseal_audit::verify::{self, Files, Report, Verdict};
use fieldseal_audit::{
    Archivable, ArchiveContent, ArchivePlace, ArchiveStep, ArchiveStore, Archived, Journal,
    JournalError, PageLimit, Query, QueryError, Redactable, Settings,
};
use fieldseal_model::{ManualClock, Timestamp};
use kit::{Log, archivist, of_partitions, policy, reason, redactor, stop};

const SEGMENT: u64 = 16 * 1024;
const LATER: Timestamp = Timestamp::from_unix_nanos(1_900_000_000_000_000_000);

async fn calls(journal: &Journal, count: u64) {
    let policy = policy();
    for row in 0..count {
        let event = of_partitions(&policy, &[(Some(1), (row % 200) as u8)], "T-1");
        journal.record(event).await.unwrap();
    }
}

/// A log of several segments, and where each begins.
async fn filled() -> (Log, Journal, Vec<u64>) {
    let log = Log::new(SEGMENT);
    let journal = log.open();
    calls(&journal, 160).await;
    let firsts = firsts(log.path());
    assert!(firsts.len() >= 4, "{firsts:?}");
    (log, journal, firsts)
}

fn firsts(directory: &Path) -> Vec<u64> {
    let names = fs::read_dir(directory).unwrap().map(|e| e.unwrap().file_name());
    let number = |name: &str| Some(name.strip_prefix("segment-")?.strip_suffix(".log")?.parse());
    let mut all: Vec<u64> =
        names.filter_map(|n| number(n.to_str()?).and_then(Result::ok)).collect();
    all.sort_unstable();
    all
}

fn place(log: &Log) -> PathBuf {
    log.path().with_file_name("archive")
}

/// What becomes of a file of this name.
type Instead = fn(&str, Vec<u8>) -> Result<Option<Vec<u8>>, String>;

/// Something that keeps files, and may be made to fail.
#[derive(Clone, Default)]
struct Shelf {
    directory: PathBuf,
    /// What becomes of a file instead of being kept.
    instead: Option<Instead>,
}

impl Shelf {
    fn place(directory: &Path) -> ArchivePlace {
        let shelf = Self { directory: directory.to_owned(), instead: None };
        ArchivePlace::Store(Arc::new(shelf))
    }
}

impl ArchiveStore for Shelf {
    fn kept(&self, name: &str, most: u64) -> Result<Option<[u8; 32]>, String> {
        match fs::read(self.directory.join(name)) {
            Ok(found) if found.len() as u64 > most => Err("too much".to_owned()),
            Ok(found) => Ok(Some(fieldseal_crypto::sha256(&[&found]))),
            Err(_) => Ok(None),
        }
    }

    fn keep(&self, name: &str, content: ArchiveContent<'_>) -> Result<(), String> {
        let bytes = match content {
            ArchiveContent::File(path) => fs::read(path).unwrap(),
            ArchiveContent::Text(text) => text.as_bytes().to_vec(),
        };
        let kept = self.instead.map_or(Ok(Some(bytes.clone())), |instead| instead(name, bytes))?;
        fs::create_dir_all(&self.directory).unwrap();
        if let Some(kept) = kept {
            fs::write(self.directory.join(name), kept).unwrap();
        }
        Ok(())
    }
}

fn up_to(log: &Log, most: u64) -> Archivable {
    Archivable { before: LATER, most, to: ArchivePlace::Directory(place(log)) }
}

async fn archive(journal: &Journal, what: &Archivable) -> Result<Archived, JournalError> {
    let policy = policy();
    let (permit, reason) = (archivist(&policy), reason("T-2"));
    Ok(journal.archive(what, (&permit, &reason), LATER, |_| {}).await?.0)
}

fn judge(log: &Path, archives: &[PathBuf]) -> Report {
    let key = verify::public_key(&fs::read_to_string(log.join("log.pub")).unwrap()).unwrap();
    verify::resume(Files { directory: log, archives }, &key, None, false, None, |_| {}).unwrap()
}

#[tokio::test]
async fn the_oldest_segments_move_and_everything_else_goes_on() {
    let (log, journal, firsts) = filled().await;
    journal.build_indexes().unwrap();
    let before = journal.checkpoint();
    let what = up_to(&log, firsts[2]);
    let would = journal.would_archive(&what).unwrap();
    assert_eq!((would.first, would.end, would.segments), (0, firsts[2], 2));
    let at = place(&log);
    assert!(!at.exists());
    let done = archive(&journal, &what).await.unwrap();
    assert_eq!(done, Archived { said_by: 1, ..would });
    assert_eq!(self::firsts(log.path()), firsts[2..]);
    assert_eq!(self::firsts(&at), firsts[..2]);

    let alone = judge(log.path(), &[]);
    assert_eq!(alone.verdict(), Verdict::Archived);
    let first = &alone.ranges[0];
    assert_eq!((first.verdict, first.first, first.end), (Verdict::Archived, 0, Some(firsts[2])));
    assert_eq!(alone.ranges.len(), 2);
    let both = judge(log.path(), std::slice::from_ref(&at));
    assert_eq!((both.verdict(), both.verified.records), (Verdict::Ok, 161));
    // The archive is a log by itself, with the checkpoint that ends it.
    let key = log.key();
    let note = fs::read_to_string(at.join("checkpoint")).unwrap();
    let end = verify::remembered(&note, &key).unwrap();
    let archived = verify::report(&at, &key, Some(&end), |_| {}).unwrap();
    assert_eq!((archived.verdict(), archived.verified.records), (Verdict::Ok, firsts[2]));

    let reader = journal.reader();
    let all = reader.query(&Query::default(), 1000, 161, "").unwrap();
    assert_eq!((all.events.len() as u64, all.next), (161 - firsts[2], None));
    let oldest = Query { oldest_first: true, ..Query::default() };
    let all = reader.query(&oldest, 1000, 161, "").unwrap();
    assert_eq!((all.events[0].index, all.next), (firsts[2], None));
    let mut follower = journal.follow(Query::default(), 0);
    let limit = PageLimit { events: 1, ..PageLimit::default() };
    assert_eq!(follower.read(limit, 161).unwrap()[0].index, firsts[2]);
    assert_eq!(reader.inclusion(0, 161, 161).unwrap_err(), QueryError::Archived(firsts[2]));
    assert_eq!(reader.consistency(5, 161, 161).unwrap_err(), QueryError::Archived(firsts[2]));
    reader.consistency(firsts[2], 161, 161).unwrap();
    for index in firsts[2]..161 {
        let (leaf, proof) = reader.inclusion(index, 161, 161).unwrap();
        assert_eq!(verify::check(&leaf, &proof, &key).unwrap(), Some(161));
    }
    let own = Files::of(log.path());
    let (leaf, proof) = verify::prove(own, &key, 150, |_| {}).unwrap().unwrap();
    assert_eq!(verify::check(&leaf, &proof, &key).unwrap(), Some(161));
    assert!(matches!(
        verify::prove(own, &key, 5, |_| {}),
        Err(verify::VerifyError::Archived(first)) if first == firsts[2]
    ));
    // What was signed before is in the tree of now.
    let then = verify::remembered(&before.note, &key).unwrap();
    assert!(verify::report(log.path(), &key, Some(&then), |_| {}).unwrap().is_compared);

    stop(&journal).await;
    drop(journal);
    let (again, found) = log.try_open().unwrap();
    assert_eq!((found.records, found.unclean), (162, false));
    let nothing = archive(&again, &up_to(&log, firsts[2])).await.unwrap();
    assert_eq!(nothing, Archived::default());
    let rest = archive(&again, &up_to(&log, u64::MAX)).await.unwrap();
    assert_eq!((rest.first, rest.said_by), (firsts[2], 1));
    let both = judge(log.path(), std::slice::from_ref(&at));
    assert_eq!((both.verdict(), both.verified.records), (Verdict::Ok, 163));
}

#[tokio::test]
async fn only_what_is_older_than_the_time_moves_and_never_the_open_segment() {
    let (log, journal, firsts) = filled().await;
    let early =
        Archivable { before: Timestamp::from_unix_nanos(999_999_999), ..up_to(&log, u64::MAX) };
    assert_eq!(journal.would_archive(&early).unwrap(), Archived::default());
    assert_eq!(archive(&journal, &early).await.unwrap(), Archived::default());
    assert!(!place(&log).exists());
    let all = journal.would_archive(&up_to(&log, u64::MAX)).unwrap();
    assert_eq!((all.end, all.segments), (*firsts.last().unwrap(), firsts.len() as u64 - 1));
}

/// Whether each of these segments stands whole in the log or in the archive.
fn nothing_is_lost(log: &Path, archive: &Path, segments: &[(String, Vec<u8>)]) {
    for (name, bytes) in segments {
        let is_in = |place: &Path| fs::read(place.join(name)).is_ok_and(|found| found == *bytes);
        assert!(is_in(log) || is_in(archive), "{name}");
        // Neither place has a part of it under its name.
        for place in [log, archive] {
            assert!(is_in(place) || !place.join(name).exists(), "{name}");
        }
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).into_iter().flatten().map(Result::unwrap) {
        // An index that is being made gets its name meanwhile.
        let copied = fs::copy(entry.path(), to.join(entry.file_name()));
        assert!(copied.is_ok() || entry.path().extension().is_some_and(|e| e == "tmp"));
    }
}

#[tokio::test]
async fn a_process_that_is_killed_at_any_step_leaves_every_segment_whole_and_the_next_one_goes_on()
{
    killed_at_any_step(|directory| ArchivePlace::Directory(directory.to_owned())).await;
    killed_at_any_step(Shelf::place).await;
}

async fn killed_at_any_step(place_in: fn(&Path) -> ArchivePlace) {
    let (log, journal, firsts) = filled().await;
    let segments: Vec<_> = log.segments()[..3]
        .iter()
        .map(|p| (p.file_name().unwrap().to_str().unwrap().to_owned(), fs::read(p).unwrap()))
        .collect();
    let copies: Arc<Mutex<Vec<(ArchiveStep, PathBuf)>>> = Arc::default();
    let scratch = tempfile::tempdir().unwrap();
    let (seen, from, to) = (Arc::clone(&copies), log.path().to_owned(), scratch.path().to_owned());
    let step = move |step| {
        let mut seen = seen.lock().unwrap();
        let at = to.join(seen.len().to_string());
        copy(&from, &at.join("audit"));
        copy(&from.with_file_name("archive"), &at.join("archive"));
        seen.push((step, at));
    };
    let policy = policy();
    let (permit, reason) = (archivist(&policy), reason("T-2"));
    let what = Archivable { to: place_in(&place(&log)), ..up_to(&log, firsts[3]) };
    journal.archive(&what, (&permit, &reason), LATER, step).await.unwrap();
    let copies = std::mem::take(&mut *copies.lock().unwrap());
    let steps: HashSet<_> = copies.iter().map(|(step, _)| *step).collect();
    assert_eq!((steps.len(), copies.len()), (5, 3 + 3 + 1 + 1 + 3));
    for (step, at) in copies {
        let (directory, archive_at) = (at.join("audit"), at.join("archive"));
        nothing_is_lost(&directory, &archive_at, &segments);
        let archives = std::slice::from_ref(&archive_at);
        assert_eq!(judge(&directory, archives).verdict(), Verdict::Ok, "{step:?}");
        let alone = judge(&directory, &[]).verdict();
        let expected = if step == ArchiveStep::Removed { Verdict::Archived } else { Verdict::Ok };
        assert_eq!(alone, expected, "{step:?}");
        let settings = Settings { directory: directory.clone(), ..log.settings.clone() };
        let clock = Arc::new(ManualClock::at(LATER));
        let (opened, _) = Journal::open(settings, kit::identity(7), clock).unwrap();
        let again = Archivable { to: place_in(&archive_at), ..what.clone() };
        archive(&opened, &again).await.unwrap();
        nothing_is_lost(&directory, &archive_at, &segments);
        assert_eq!(self::firsts(&directory)[0], firsts[3], "{step:?}");
        assert_eq!(judge(&directory, archives).verdict(), Verdict::Ok, "{step:?}");
    }
}

#[tokio::test]
async fn what_does_not_come_back_from_a_store_as_it_went_there_stays() {
    let (log, journal, firsts) = filled().await;
    let wrong: [Instead; 5] = [
        |_, _| Err("no connection".to_owned()),
        |_, _| Ok(None),
        |name, bytes| Ok(Some(if name == "log.pub" { bytes } else { bytes[..100].to_vec() })),
        |name, mut bytes| {
            bytes.extend_from_slice(if name == "log.pub" { b"" } else { b"x" });
            Ok(Some(bytes))
        },
        |name, bytes| Ok(Some(if name == "checkpoint" { b"another".to_vec() } else { bytes })),
    ];
    for instead in wrong {
        let directory = tempfile::tempdir().unwrap();
        let shelf = Shelf { directory: directory.path().to_owned(), instead: Some(instead) };
        let what = up_to(&log, firsts[2]);
        let what = Archivable { to: ArchivePlace::Store(Arc::new(shelf)), ..what };
        let refused = archive(&journal, &what).await.unwrap_err();
        assert!(matches!(refused, JournalError::Io { .. }), "{refused}");
        assert_eq!(self::firsts(log.path()), firsts);
        assert_eq!(journal.checkpoint().tree_size, 160);
        // What stands there under a segment's name, and is not that segment, is never written over.
        let name = log.segments()[0].file_name().unwrap().to_owned();
        if directory.path().join(&name).exists() && !directory.path().join("checkpoint").exists() {
            let what = Archivable { to: Shelf::place(directory.path()), ..what };
            assert!(archive(&journal, &what).await.is_err());
        }
    }
    // Another log's.
    let other = tempfile::tempdir().unwrap();
    fs::write(other.path().join("log.pub"), "another").unwrap();
    let what = Archivable { to: Shelf::place(other.path()), ..up_to(&log, firsts[2]) };
    let refused = archive(&journal, &what).await.unwrap_err();
    assert!(matches!(refused, JournalError::Foreign { .. }), "{refused}");
    let good = tempfile::tempdir().unwrap();
    let what = Archivable { to: Shelf::place(good.path()), ..what };
    assert_eq!(archive(&journal, &what).await.unwrap().segments, 2);
    // Fetched, it is an archive like another one.
    let both = judge(log.path(), &[good.path().to_owned()]);
    assert_eq!((both.verdict(), both.verified.records), (Verdict::Ok, 161));
}

#[tokio::test]
async fn what_is_wrong_moves_nothing() {
    let (log, journal, firsts) = filled().await;
    let what = up_to(&log, firsts[2]);
    let unchanged = || {
        assert_eq!(self::firsts(log.path()), firsts);
        assert_eq!(journal.checkpoint().tree_size, 160);
    };
    // A log that does not verify.
    let first = &log.segments()[0];
    let good = fs::read(first).unwrap();
    let mut bad = good.clone();
    bad[4000] ^= 1;
    fs::write(first, &bad).unwrap();
    let refused = archive(&journal, &what).await.unwrap_err();
    assert!(matches!(refused, JournalError::Corrupt { .. }), "{refused}");
    fs::write(first, &good).unwrap();
    unchanged();
    // No space.
    log.space.0.store(1000, std::sync::atomic::Ordering::SeqCst);
    assert_eq!(archive(&journal, &what).await.unwrap_err(), JournalError::Unavailable);
    log.space.0.store(u64::MAX, std::sync::atomic::Ordering::SeqCst);
    unchanged();
    // The log itself, another log's archive, another segment there.
    let itself = Archivable { to: ArchivePlace::Directory(log.path().to_owned()), ..what.clone() };
    let other = tempfile::tempdir().unwrap();
    fs::write(other.path().join("log.pub"), "another").unwrap();
    let others =
        Archivable { to: ArchivePlace::Directory(other.path().to_owned()), ..what.clone() };
    let name = first.file_name().unwrap();
    fs::write(place(&log).join(name), &bad).unwrap();
    for wrong in [&itself, &others, &what] {
        let refused = archive(&journal, wrong).await.unwrap_err();
        assert!(matches!(refused, JournalError::Foreign { .. }), "{refused}");
        unchanged();
    }
    fs::remove_file(place(&log).join(name)).unwrap();
    // A redaction that is not finished.
    fs::write(log.path().join("redacting"), "").unwrap();
    let refused = archive(&journal, &what).await.unwrap_err();
    assert!(matches!(refused, JournalError::RedactionUnfinished(_)), "{refused}");
    unchanged();
    journal.finish_redaction();
    assert_eq!(archive(&journal, &what).await.unwrap().segments, 2);
}

#[tokio::test]
async fn a_log_whose_beginning_nobody_archived_is_not_opened() {
    let (log, journal, firsts) = filled().await;
    archive(&journal, &up_to(&log, firsts[1])).await.unwrap();
    stop(&journal).await;
    drop(journal);
    let mark = log.path().join("archived");
    let signed = fs::read_to_string(&mark).unwrap();
    let forged = signed.replacen(&firsts[1].to_string(), &firsts[2].to_string(), 1);
    for bad in ["", "7", &forged] {
        fs::write(&mark, bad).unwrap();
        let refused = log.try_open().err().unwrap();
        assert!(matches!(refused, JournalError::Corrupt { .. }), "{refused}");
    }
    fs::remove_file(&mark).unwrap();
    assert!(matches!(log.try_open(), Err(JournalError::Corrupt { .. })));
    fs::write(&mark, &signed).unwrap();
    log.try_open().unwrap();
    // One more than was archived.
    let second = &log.segments()[0];
    let aside = log.path().with_file_name("aside");
    fs::rename(second, &aside).unwrap();
    assert!(matches!(log.try_open(), Err(JournalError::Corrupt { .. })));
    fs::rename(&aside, second).unwrap();
    // Put back, it is whole again.
    for segment in fs::read_dir(place(&log)).unwrap().map(|e| e.unwrap().path()) {
        fs::copy(&segment, log.path().join(segment.file_name().unwrap())).unwrap();
    }
    assert_eq!(judge(log.path(), &[]).verdict(), Verdict::Ok);
    let journal = log.open();
    let reader = journal.reader();
    reader.inclusion(0, 160, 162).unwrap();
}

#[tokio::test]
async fn what_stays_is_redacted_and_what_was_erased_moves_as_erased() {
    let (log, journal, firsts) = filled().await;
    let policy = policy();
    let (permit, why) = (redactor(&policy), reason("DSAR-1"));
    let row = Redactable::Row { token: [3; 16], until: None };
    journal.redact(&row, (&permit, &why), LATER, |_| {}).await.unwrap();
    archive(&journal, &up_to(&log, firsts[2])).await.unwrap();
    let row = Redactable::Row { token: [150; 16], until: None };
    let (done, _) = journal.redact(&row, (&permit, &why), LATER, |_| {}).await.unwrap();
    assert_eq!(done.records, 1);
    let archives = [place(&log)];
    let found = judge(log.path(), &archives);
    let redacted = found.ranges.iter().filter(|r| r.verdict == Verdict::Redacted);
    assert_eq!(redacted.map(|r| r.first).collect::<Vec<_>>(), [3, 150]);
    assert_eq!(found.verdict(), Verdict::Redacted);
    assert_eq!(judge(log.path(), &[]).verdict(), Verdict::Archived);
}

#[tokio::test]
async fn what_was_erased_since_an_archiving_was_cut_off_is_erased_in_the_archive_too() {
    let (log, journal, firsts) = filled().await;
    let policy = policy();
    fs::create_dir(place(&log)).unwrap();
    let first = log.segments().remove(0);
    let copied = place(&log).join(first.file_name().unwrap());
    fs::copy(&first, &copied).unwrap();
    fs::copy(log.path().join("log.pub"), place(&log).join("log.pub")).unwrap();
    let row = Redactable::Row { token: [3; 16], until: None };
    let (permit, why) = (redactor(&policy), reason("DSAR-1"));
    journal.redact(&row, (&permit, &why), LATER, |_| {}).await.unwrap();
    let has_row = |path: &Path| fs::read(path).unwrap().windows(16).any(|at| at == [3; 16]);
    assert!(has_row(&copied) && !has_row(&first));
    archive(&journal, &up_to(&log, firsts[2])).await.unwrap();
    assert!(!has_row(&copied));
    let found = judge(log.path(), &[place(&log)]);
    assert_eq!((found.verdict(), found.ranges[1].first), (Verdict::Redacted, 3));
}

/// What is proved of each record and each size that is archived; nothing if all of it is refused.
fn proved(log: &Log, journal: &Journal, end: u64) -> Vec<u64> {
    let (reader, key) = (journal.reader().with_archive(Some(place(log))), log.key());
    let size = journal.checkpoint().tree_size;
    let refused = Err(QueryError::Archived(end));
    let inclusion = |index: u64| match reader.inclusion(index, size, size) {
        Ok((leaf, proof)) => {
            assert_eq!(verify::check(&leaf, &proof, &key).unwrap(), Some(size));
            Ok(())
        }
        Err(error) => Err(error),
    };
    let consistency = |old: u64| reader.consistency(old, size, size).map(|_| ());
    let mut proved = Vec::new();
    for index in 0..end {
        let (found, old) = (inclusion(index), consistency(index.max(1)));
        assert!(found == Ok(()) || found == refused, "{index}: {found:?}");
        assert!(old == Ok(()) || old == refused, "{index}: {old:?}");
        if found == Ok(()) && old == Ok(()) {
            proved.push(index);
        }
    }
    proved
}

#[tokio::test]
async fn what_is_archived_is_proved_from_the_archive_as_long_as_it_leads_to_what_was_signed() {
    let (log, journal, firsts) = filled().await;
    let then = journal.checkpoint();
    archive(&journal, &up_to(&log, firsts[2])).await.unwrap();
    calls(&journal, 10).await;
    let end = firsts[2];
    assert_eq!(proved(&log, &journal, end), (0..end).collect::<Vec<_>>());
    // A tree of then, and one that ends in the archive.
    let reader = journal.reader().with_archive(Some(place(&log)));
    let (leaf, proof) = reader.inclusion(3, 160, 171).unwrap();
    assert_eq!(verify::check(&leaf, &proof, &log.key()).unwrap(), Some(160));
    reader.inclusion(3, firsts[1], 171).unwrap();
    let old = verify::remembered(&then.note, &log.key()).unwrap();
    let found = reader.consistency(firsts[1] - 1, 160, 171).unwrap();
    assert_eq!(verify::remembered(&found.checkpoint, &log.key()).unwrap(), old);
    // Offline too.
    let archives = [place(&log)];
    let both = Files { directory: log.path(), archives: &archives };
    let (leaf, proof) = verify::prove(both, &log.key(), 5, |_| {}).unwrap().unwrap();
    assert_eq!(verify::check(&leaf, &proof, &log.key()).unwrap(), Some(171));

    // Without the archive, without one of its segments, with one that was altered or is another log's.
    let second = place(&log).join(format!("segment-{:020}.log", firsts[1]));
    let good = fs::read(&second).unwrap();
    let aside = place(&log).with_extension("aside");
    fs::rename(place(&log), &aside).unwrap();
    assert!(proved(&log, &journal, end).is_empty());
    fs::rename(&aside, place(&log)).unwrap();
    fs::remove_file(&second).unwrap();
    assert!(proved(&log, &journal, end).iter().all(|index| *index < firsts[1]));
    assert_eq!(reader.inclusion(3, end - 1, 171).unwrap_err(), QueryError::Archived(end));
    let (other, others, _) = filled().await;
    stop(&others).await;
    for bad in [fs::read(&other.segments()[1]).unwrap(), good[..good.len() / 2].to_vec()] {
        fs::write(&second, &bad).unwrap();
        assert!(!proved(&log, &journal, end).contains(&firsts[1]), "{}", bad.len());
    }
    let mut bad = good.clone();
    let place_of_it = bad.windows(3).rposition(|bytes| bytes == b"T-1").unwrap();
    // A detail proves nothing; the leaves before it do.
    bad[place_of_it] ^= 1;
    let leaf = bad.windows(4).position(|bytes| bytes == b"FSFR").unwrap() + 200;
    bad[leaf] ^= 1;
    fs::write(&second, &bad).unwrap();
    assert!(proved(&log, &journal, end).len() < end as usize);
    fs::write(&second, &good).unwrap();
    assert_eq!(proved(&log, &journal, end).len(), end as usize);
}
