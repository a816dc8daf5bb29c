//! Redaction: what is erased is gone from every file, everything else verifies, and whatever ends the
//! process in between, the next start finishes it.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot be set up fails"
)]

mod kit;
#[path = "redaction/questions.rs"]
mod questions;
#[path = "redaction/room.rs"]
mod room;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use fieldseal_audit::{Journal, JournalError, Query, Redactable, Redacted, Settings, Step, verify};
use fieldseal_model::Timestamp;
use kit::{Log, of_partitions, policy, reason, redactor, stop};

const SEGMENT: u64 = 16 * 1024;
const ALICE: u8 = 0xa1;
const BOB: u8 = 0xb0;

fn partition(token: u8) -> Redactable {
    Redactable::Partition { token: [token; 16], until: None }
}

/// Calls of two people, single and together, over several segments.
async fn calls(journal: &Journal, count: u8) {
    let policy = policy();
    for row in 0..count {
        let fields: &[_] = match row % 5 {
            0 => &[(Some(ALICE), row)],
            1 => &[(Some(BOB), row)],
            2 => &[(Some(ALICE), row), (Some(BOB), row), (Some(ALICE), row + 1)],
            3 => &[(None, row)],
            _ => &[(Some(BOB), row), (Some(BOB), row + 1)],
        };
        journal.record(of_partitions(&policy, fields, "TICKET-7")).await.unwrap();
    }
}

async fn redact(journal: &Journal, what: &Redactable) -> Result<Redacted, JournalError> {
    let policy = policy();
    let (permit, reason) = (redactor(&policy), reason("DSAR-1"));
    let at = Timestamp::from_unix_nanos(1_800_000_000_000_000_000);
    Ok(journal.redact(what, (&permit, &reason), at, |_| {}).await?.0)
}

/// Every byte of every file of the log and of its index.
fn holds(log: &Path, token: u8) -> bool {
    let index = log.with_file_name("audit-index");
    let files = [log, &index].map(|dir| fs::read_dir(dir).into_iter().flatten());
    files.into_iter().flatten().any(|file| {
        // An index that is being made gets its name meanwhile.
        let bytes = fs::read(file.unwrap().path()).unwrap_or_default();
        bytes.windows(16).any(|part| part == [token; 16])
    })
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        // An index that is being made gets its name meanwhile.
        let copied = fs::copy(entry.path(), to.join(entry.file_name()));
        assert!(copied.is_ok() || entry.path().extension().is_some_and(|e| e == "tmp"));
    }
}

/// The verdict of the whole, and the ranges that are redacted.
fn verdict(log: &Path) -> (&'static str, Vec<(u64, u64)>) {
    let text = fs::read_to_string(log.join("log.pub")).unwrap();
    let key = verify::public_key(&text).unwrap();
    let report = verify::report(log, &key, None, |_| {}).unwrap();
    let redacted = report.ranges.iter().filter(|r| r.verdict == verify::Verdict::Redacted);
    (report.verdict().as_str(), redacted.map(|r| (r.first, r.end.unwrap())).collect())
}

#[tokio::test]
async fn a_person_s_fields_go_and_nothing_else() {
    let log = Log::new(SEGMENT);
    let journal = log.open();
    calls(&journal, 100).await;
    journal.build_indexes().unwrap();
    let before = journal.checkpoint();
    let would = journal.would_redact(&partition(ALICE)).unwrap();
    assert_eq!(would, Redacted { records: 40, items: 60, said_by: 0, held: 0 });
    assert!(holds(log.path(), ALICE));
    assert_eq!(verdict(log.path()).0, "OK");

    let done = redact(&journal, &partition(ALICE)).await.unwrap();
    assert_eq!(done, Redacted { said_by: 1, ..would });
    assert!(!holds(log.path(), ALICE) && holds(log.path(), BOB));
    let (worst, ranges) = verdict(log.path());
    assert_eq!(worst, "REDACTED");
    assert_eq!(ranges.iter().map(|(first, end)| end - first).sum::<u64>(), 40);
    assert!(ranges.iter().all(|(first, _)| first % 5 == 0 || first % 5 == 2), "{ranges:?}");

    // The tree is what it was, and one record has come.
    let key = log.key();
    let remembered = verify::remembered(&before.note, &key).unwrap();
    let report = verify::report(log.path(), &key, Some(&remembered), |_| {}).unwrap();
    assert_eq!(report.verdict(), verify::Verdict::Redacted);
    assert_eq!(report.verified.records, 101);

    assert_eq!(redact(&journal, &partition(ALICE)).await.unwrap(), Redacted::default());
    stop(&journal).await;
    drop(journal);
    let (again, found) = log.try_open().unwrap();
    assert_eq!((found.records, found.unclean), (102, false));
    // A whole detail is gone with its ticket: those of calls of nobody else.
    assert_eq!(again.checkpoint().tree_size, 102);
}

#[tokio::test]
async fn a_row_goes_and_what_is_older_than_a_time_goes_with_its_tickets() {
    let log = Log::new(SEGMENT);
    let journal = log.open();
    calls(&journal, 20).await;
    let row = |until| Redactable::Row { token: [2; 16], until };
    let early = Some(Timestamp::from_unix_nanos(1_600_000_000_000_000_000));
    assert_eq!(redact(&journal, &row(early)).await.unwrap(), Redacted::default());
    assert_eq!(redact(&journal, &row(None)).await.unwrap().items, 2);
    let text = |bytes: &[u8], text: &str| bytes.windows(text.len()).any(|w| w == text.as_bytes());
    let has_ticket = || log.segments().iter().any(|s| text(&fs::read(s).unwrap(), "TICKET-7"));
    assert!(has_ticket());
    let before = Redactable::Before(Timestamp::from_unix_nanos(1_750_000_000_000_000_000));
    let done = redact(&journal, &before).await.unwrap();
    assert_eq!((done.records, done.said_by), (20, 1));
    assert!(!has_ticket() && !holds(log.path(), BOB));
    assert_eq!(verdict(log.path()), ("REDACTED", vec![(0, 20)]));
    assert_eq!(journal.would_redact(&before).unwrap(), Redacted::default());
}

#[tokio::test]
async fn more_than_one_record_names_what_does_not_fit_one() {
    let log = Log::new(1024 * 1024);
    let journal = log.open();
    let policy = policy();
    for at in 0..1100_u32 {
        let who = if at % 2 == 0 { ALICE } else { BOB };
        let event = of_partitions(&policy, &[(Some(who), (at % 100) as u8)], "T-1");
        journal.record(event).await.unwrap();
    }
    let done = redact(&journal, &partition(ALICE)).await.unwrap();
    assert_eq!(done, Redacted { records: 550, items: 550, said_by: 2, held: 0 });
    assert!(!holds(log.path(), ALICE));
    assert_eq!(verdict(log.path()).1.len(), 550);
}

#[tokio::test]
async fn a_process_that_is_killed_at_any_step_leaves_what_the_next_start_finishes() {
    let log = Log::new(SEGMENT);
    let journal = log.open();
    calls(&journal, 100).await;
    journal.build_indexes().unwrap();
    // The state on disk at each step: what a kill there leaves.
    let copies: Arc<Mutex<Vec<(Step, PathBuf)>>> = Arc::default();
    let (seen, from) = (Arc::clone(&copies), log.path().to_owned());
    let place = tempfile::tempdir().unwrap();
    let to = place.path().to_owned();
    let step = move |step| {
        let mut seen = seen.lock().unwrap();
        let at = to.join(seen.len().to_string());
        copy(&from, &at.join("audit"));
        // A second name is one of the same file: a copy of both would be two.
        if step == Step::Linked {
            for entry in fs::read_dir(&from).unwrap().map(Result::unwrap) {
                let name = entry.file_name().into_string().unwrap();
                if let Some(stem) = name.strip_suffix(".redacted") {
                    let copied = at.join("audit");
                    fs::remove_file(copied.join(&name)).unwrap();
                    let segment = copied.join(format!("{stem}.log"));
                    fs::hard_link(segment, copied.join(&name)).unwrap();
                }
            }
        }
        copy(&from.with_file_name("audit-index"), &at.join("audit-index"));
        seen.push((step, at.join("audit")));
    };
    let policy = policy();
    let (permit, reason) = (redactor(&policy), reason("DSAR-1"));
    let at = Timestamp::from_unix_nanos(5);
    journal.redact(&partition(ALICE), (&permit, &reason), at, step).await.unwrap();
    let copies = std::mem::take(&mut *copies.lock().unwrap());
    let steps: std::collections::HashSet<_> = copies.iter().map(|(step, _)| *step).collect();
    assert_eq!(steps.len(), 7, "{steps:?}");
    // Several segments were written anew.
    assert!(copies.len() >= 3 + 2 * 4, "{}", copies.len());
    for (step, directory) in copies {
        let copied = Settings { directory: directory.clone(), ..log.settings.clone() };
        let clock = Arc::new(fieldseal_model::ManualClock::at(Timestamp::from_unix_nanos(9)));
        let (opened, _) = Journal::open(copied, kit::identity(7), clock).unwrap();
        opened.finish_redaction();
        let recorded = step != Step::Noted;
        assert_eq!(holds(&directory, ALICE), !recorded, "{step:?}");
        assert!(holds(&directory, BOB));
        let (worst, ranges) = verdict(&directory);
        assert_eq!(worst, if recorded { "REDACTED" } else { "OK" }, "{step:?}");
        assert_eq!(!ranges.is_empty(), recorded);
        let left: Vec<_> =
            fs::read_dir(&directory).unwrap().map(|e| e.unwrap().file_name()).collect();
        let left: Vec<_> = left.iter().map(|name| name.to_str().unwrap()).collect();
        assert!(!left.iter().any(|n| n.contains("redact")), "{step:?}: {left:?}");
        drop(opened);
    }
}

#[tokio::test]
async fn what_was_altered_is_evidence_and_is_not_erased() {
    let log = Log::new(SEGMENT);
    let journal = log.open();
    calls(&journal, 60).await;
    let first = &log.segments()[0];
    let good = fs::read(first).unwrap();
    let mut bad = good.clone();
    let at = bad.windows(16).position(|part| part == [ALICE; 16]).unwrap();
    bad[at] ^= 1;
    fs::write(first, &bad).unwrap();
    let refused = redact(&journal, &partition(ALICE)).await.unwrap_err();
    assert!(matches!(refused, JournalError::Corrupt { .. }), "{refused}");
    assert_eq!(fs::read(first).unwrap(), bad);
    assert_eq!(journal.checkpoint().tree_size, 60);
    fs::write(first, &good).unwrap();
    assert_eq!(redact(&journal, &partition(ALICE)).await.unwrap().records, 24);
}

#[tokio::test]
async fn without_space_nothing_is_recorded_and_nothing_erased() {
    let log = Log::new(SEGMENT);
    let journal = log.open();
    calls(&journal, 60).await;
    log.space.0.store(0, std::sync::atomic::Ordering::SeqCst);
    let refused = redact(&journal, &partition(ALICE)).await.unwrap_err();
    assert_eq!(refused, JournalError::Unavailable);
    assert!(holds(log.path(), ALICE));
    assert_eq!(journal.checkpoint().tree_size, 60);
    log.space.0.store(u64::MAX, std::sync::atomic::Ordering::SeqCst);
    assert_eq!(redact(&journal, &partition(ALICE)).await.unwrap().records, 24);
}

#[tokio::test]
async fn one_that_could_not_go_on_is_finished_by_the_next_one() {
    let log = Log::new(SEGMENT);
    let journal = log.open();
    calls(&journal, 60).await;
    let policy = policy();
    let (permit, reason) = (redactor(&policy), reason("DSAR-1"));
    let space = Arc::clone(&log.space);
    // Space ends with the first segment that is written anew.
    let step = move |step| {
        if step == Step::Renamed {
            space.0.store(0, std::sync::atomic::Ordering::SeqCst);
        }
    };
    let at = Timestamp::from_unix_nanos(5);
    let what = partition(ALICE);
    let ended = journal.redact(&what, (&permit, &reason), at, step).await.unwrap_err();
    assert!(matches!(ended, JournalError::RedactionUnfinished(_)), "{ended}");
    assert!(holds(log.path(), ALICE));
    assert_eq!(verdict(log.path()).0, "REDACTED");
    assert!(journal.has_unfinished_redaction());
    assert!(Journal::left_redaction_unfinished(log.path()));
    let lingering = || verify::report(log.path(), &log.key(), None, |_| {}).unwrap().lingering;
    let gone: u64 = verdict(log.path()).1.iter().map(|(first, end)| end - first).sum();
    // Of 24 records some are erased.
    assert_eq!((lingering(), gone > 0), (24 - gone, true));
    log.space.0.store(u64::MAX, std::sync::atomic::Ordering::SeqCst);
    // Of somebody who is not in the log at all.
    assert_eq!(redact(&journal, &partition(0xcc)).await.unwrap(), Redacted::default());
    assert!(!holds(log.path(), ALICE));
    assert_eq!((journal.has_unfinished_redaction(), lingering()), (false, 0));
}

#[tokio::test]
async fn one_that_could_not_go_on_is_finished_by_one_for_somebody_else_as_well() {
    let log = Log::new(SEGMENT);
    let journal = log.open();
    let policy = policy();
    // Alice is in every segment, Bob is in the last one only.
    for row in 0..100 {
        journal.record(of_partitions(&policy, &[(Some(ALICE), row)], "T-1")).await.unwrap();
    }
    journal.record(of_partitions(&policy, &[(Some(BOB), 1)], "T-1")).await.unwrap();
    let (permit, reason) = (redactor(&policy), reason("DSAR-1"));
    let space = Arc::clone(&log.space);
    let step = move |step| {
        if step == Step::Renamed {
            space.0.store(0, std::sync::atomic::Ordering::SeqCst);
        }
    };
    let at = Timestamp::from_unix_nanos(5);
    let ended = journal.redact(&partition(ALICE), (&permit, &reason), at, step).await;
    assert!(matches!(ended, Err(JournalError::RedactionUnfinished(_))));
    assert!(holds(log.path(), ALICE) && log.path().join("redacting").exists());
    log.space.0.store(u64::MAX, std::sync::atomic::Ordering::SeqCst);
    assert_eq!(redact(&journal, &partition(BOB)).await.unwrap().records, 1);
    assert!(!holds(log.path(), ALICE) && !holds(log.path(), BOB));
    assert!(!log.path().join("redacting").exists());
    assert_eq!(verdict(log.path()), ("REDACTED", vec![(0, 101)]));
}

#[tokio::test]
async fn a_directory_that_cannot_take_what_is_written_anew_is_found_before_anything_is_on_record() {
    let log = Log::new(SEGMENT);
    let journal = log.open();
    calls(&journal, 60).await;
    for name in ["redact.tmp", "redact.probe"] {
        let in_the_way = log.path().join(name);
        fs::create_dir(&in_the_way).unwrap();
        let refused = redact(&journal, &partition(ALICE)).await.unwrap_err();
        assert!(matches!(refused, JournalError::Io { .. }), "{refused}");
        assert!(holds(log.path(), ALICE));
        assert_eq!(journal.checkpoint().tree_size, 60);
        fs::remove_dir(in_the_way).unwrap();
    }
    assert_eq!(redact(&journal, &partition(ALICE)).await.unwrap().records, 24);
}

#[tokio::test]
async fn a_log_whose_beginning_is_gone_is_redacted_and_one_with_a_gap_is_not() {
    let log = Log::new(SEGMENT);
    let journal = log.open();
    calls(&journal, 160).await;
    let segments = log.segments();
    assert!(segments.len() > 3);
    let aside = tempfile::tempdir().unwrap();
    let (first, second) = (&segments[0], &segments[1]);
    let kept = aside.path().join("segment");
    fs::rename(second, &kept).unwrap();
    let refused = redact(&journal, &partition(ALICE)).await.unwrap_err();
    assert!(matches!(refused, JournalError::Corrupt { .. }), "{refused}");
    fs::rename(&kept, second).unwrap();
    fs::remove_file(first).unwrap();
    let done = redact(&journal, &partition(ALICE)).await.unwrap();
    assert!(done.records > 20 && done.records < 64, "{done:?}");
    assert!(!holds(log.path(), ALICE));
}

#[tokio::test]
async fn an_end_user_goes_with_the_whole_detail_of_the_calls_behind_which_it_stands() {
    let log = Log::new(SEGMENT);
    let journal = log.open();
    let policy = policy();
    for row in 0..20 {
        let mut event = of_partitions(&policy, &[(Some(ALICE), row), (Some(BOB), row)], "T-1");
        event.about_end_user([if row % 4 == 0 { 0xe1 } else { 0xe2 }; 16]);
        journal.record(event).await.unwrap();
    }
    let user = |until| Redactable::EndUser { token: [0xe1; 16], until };
    let early = Some(Timestamp::from_unix_nanos(1_600_000_000_000_000_000));
    assert_eq!(redact(&journal, &user(early)).await.unwrap(), Redacted::default());
    let done = redact(&journal, &user(None)).await.unwrap();
    assert_eq!(done, Redacted { records: 5, items: 10, said_by: 1, held: 0 });
    assert!(!holds(log.path(), 0xe1) && holds(log.path(), 0xe2) && holds(log.path(), ALICE));
    assert_eq!(verdict(log.path()).1, [(0, 1), (4, 5), (8, 9), (12, 13), (16, 17)]);
    let query = |end_user| Query { end_user: Some(end_user), ..Query::default() };
    let ask = |query: &Query| journal.reader().query(query, 100, 21, "").unwrap().events.len();
    assert_eq!((ask(&query([0xe1; 16])), ask(&query([0xe2; 16]))), (0, 15));
}

#[tokio::test]
async fn whoever_follows_the_log_or_proves_a_record_sees_nothing_of_a_segment_that_is_replaced() {
    let log = Log::new(SEGMENT);
    let journal = log.open();
    calls(&journal, 100).await;
    let mut follower = journal.follow(Query::default(), 0);
    let limit = fieldseal_audit::PageLimit { events: 30, bytes: usize::MAX };
    let before = follower.read(limit, 100).unwrap();
    let (proof, _) = journal.reader().inclusion(50, 100, 100).unwrap();
    redact(&journal, &partition(ALICE)).await.unwrap();
    let mut after = Vec::new();
    while follower.position() < 101 {
        after.extend(follower.read(limit, 101).unwrap());
    }
    let indexes: Vec<_> = before.iter().chain(&after).map(|event| event.index).collect();
    assert_eq!(indexes, (0..101).collect::<Vec<u64>>());
    assert!(before.iter().all(|event| !event.redacted));
    assert!(after.iter().any(|event| event.redacted));
    assert_eq!(journal.reader().inclusion(50, 100, 101).unwrap().0, proof);
}
