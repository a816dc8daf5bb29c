//! An index only makes a query faster: every page is the same with it, without it, and with one
//! that is half there, altered or of another log.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that cannot be set up fails"
)]

mod kit;

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use fieldseal_audit::{
    CallEvent, Grouping, Indexed, Item, ItemOutcome, Journal, Outcome, Page, PageLimit, Query,
    QueryError, Reader, Settings, Summary, Verdict,
};
use fieldseal_model::{
    AccessReason, Action, CertificateId, Column, KeyName, PartitionClass, Principal, Purpose,
    Table, Ticket, Timestamp,
};
use fieldseal_policy::{Policy, Request};
use futures_util::future::join_all;
use kit::{APP, Log, change, policy};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

const SEGMENT: u64 = 64 * 1024;
const WHO: [&str; 4] = [APP, "spiffe://test/ops", "spiffe://test/nobody", "dns:cron"];
const KEYS: [&str; 2] = ["customer-pii", "billing"];
const TABLES: [&str; 2] = ["users", "accounts"];
const COLUMNS: [&str; 3] = ["email", "iban", "name"];
const REASONS: [(&str, &str); 4] =
    [("", ""), ("support", ""), ("support", "T-1"), ("fraud", "T-2")];

/// One call: who, action, reason, minute, and its items.
#[derive(Debug, Clone)]
struct Call {
    who: usize,
    batch: bool,
    reason: usize,
    minute: i64,
    /// Key, table, column, row, partition (0 is the default one), how it ended.
    items: Vec<(usize, usize, usize, u8, u8, u8)>,
}

fn call() -> impl Strategy<Value = Call> {
    let item = (0..2_usize, 0..2_usize, 0..3_usize, 0..40_u8, 0..5_u8, 0..4_u8);
    let items = prop_oneof![4 => vec(item.clone(), 1..2), 1 => vec(item, 2..12)];
    (0..4_usize, any::<bool>(), 0..4_usize, 0..5_000_i64, items)
        .prop_map(|(who, batch, reason, minute, items)| Call { who, batch, reason, minute, items })
}

fn certificate(seed: u8) -> CertificateId {
    CertificateId::of(&[seed; 32])
}

fn token(seed: u8) -> [u8; 16] {
    let mut token = [seed; 16];
    token[3] = seed.wrapping_mul(37);
    token
}

fn at(minute: i64) -> Timestamp {
    Timestamp::from_unix_nanos(1_700_000_000_000_000_000 + minute * 60_000_000_000)
}

fn event(policy: &Policy, call: &Call) -> CallEvent {
    let who = Principal::parse(WHO[call.who]).unwrap();
    let who = match call.minute % 3 {
        0 => who,
        n => who.with_certificate(certificate(n as u8)),
    };
    let action = if call.batch { Action::BatchDecrypt } else { Action::Decrypt };
    let (purpose, ticket) = REASONS[call.reason];
    let reason = AccessReason {
        purpose: Purpose::parse(purpose).unwrap(),
        ticket: Ticket::parse(ticket).unwrap(),
        end_user: None,
    };
    let mut event = CallEvent::new(&who, action, &reason, at(call.minute));
    for (key, table, column, row, partition, end) in &call.items {
        let key = KeyName::parse(KEYS[*key]).unwrap();
        let table = Table::parse(TABLES[*table]).unwrap();
        let column = Column::parse(COLUMNS[*column]).unwrap();
        let decided = policy.decide(&Request {
            principal: &who,
            action,
            key: Some(&key),
            partition: PartitionClass::Default,
            table: Some(&table),
            column: Some(&column),
            reason: &reason,
        });
        let verdict = match &decided {
            Ok(permit) => Verdict::Permit(permit),
            Err(denial) => Verdict::Denial(denial),
        };
        let outcome = match (&decided, end) {
            (Err(_), _) => ItemOutcome::Denied,
            (Ok(_), 0) => ItemOutcome::Failed("DECRYPTION_FAILED"),
            (Ok(_), _) => ItemOutcome::Ok,
        };
        let verdict = event.verdict(verdict, Some(&key), Some(&table), Some(&column));
        let partition = (*partition > 0).then(|| token(100 + partition));
        let row = (*row > 0).then(|| token(*row));
        event.item(verdict, Item { partition, row, key_version: 1, outcome });
    }
    event
}

/// Writes the calls in groups of several sizes, and a change now and then.
async fn write(journal: &Journal, calls: &[Call]) {
    let policy = policy();
    let (mut rest, mut group) = (calls, 1);
    while !rest.is_empty() {
        let (now, later) = rest.split_at(group.min(rest.len()));
        let written = join_all(now.iter().map(|call| journal.record(event(&policy, call)))).await;
        assert!(written.iter().all(Result::is_ok));
        journal.relay(&change(&policy, journal.revision() + 1)).await.unwrap();
        (rest, group) = (later, group % 9 + 1);
    }
}

fn some<T: Clone + std::fmt::Debug + 'static>(
    of: impl Into<Vec<T>>,
) -> impl Strategy<Value = Vec<T>> {
    prop_oneof![3 => Just(Vec::new()), 2 => vec(select(of.into()), 1..3)]
}

fn query() -> impl Strategy<Value = Query> {
    let texts = |of: &[&str]| of.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    let maybe = |of: Vec<String>| prop::option::weighted(0.3, select(of));
    let time = || prop::option::weighted(0.3, (0..5_000_i64).prop_map(at));
    let partition = prop_oneof![
        6 => Just(None),
        1 => Just(Some(None)),
        3 => (101..107_u8).prop_map(|seed| Some(Some(token(seed)))),
    ];
    let row = prop::option::weighted(0.3, (1..45_u8).prop_map(token));
    let what = (
        some(texts(&WHO)),
        some([Action::Decrypt, Action::BatchDecrypt, Action::RotateKey]),
        some(texts(&KEYS)),
        maybe(texts(&TABLES)),
        maybe(texts(&COLUMNS)),
        some([Outcome::Ok, Outcome::Denied, Outcome::Failed, Outcome::Partial]),
    );
    let certificate = prop::option::weighted(0.2, (1..4_u8).prop_map(certificate));
    let (purposes, tickets) = (texts(&["", "support", "fraud"]), texts(&["T-1", "T-2", "T-3"]));
    let reason = (some(purposes), some(tickets), certificate);
    (what, reason, time(), time(), partition, row, any::<bool>()).prop_map(
        |(what, (purposes, tickets, certificate), start, end, partition, row, oldest_first)| {
            let (principals, actions, keys, table, column, outcomes) = what;
            Query {
                start,
                end,
                principals,
                actions,
                keys,
                table,
                column,
                partition,
                row,
                outcomes,
                purposes,
                tickets,
                certificate,
                oldest_first,
                ..Query::default()
            }
        },
    )
}

fn pages(reader: &Reader, query: &Query, size: u64) -> Vec<Page> {
    let limit = PageLimit { events: 7, ..PageLimit::default() };
    let (mut pages, mut token) = (Vec::new(), String::new());
    loop {
        let page = reader.page(query, limit, size, &token).unwrap();
        let next = page.next.clone();
        pages.push(page);
        match next {
            None => return pages,
            Some(next) => token = next,
        }
    }
}

/// What accesses can be grouped by.
const BY: [Grouping; 12] = [
    Grouping::Hour,
    Grouping::Principal,
    Grouping::Action,
    Grouping::Key,
    Grouping::KeyVersion,
    Grouping::Table,
    Grouping::Column,
    Grouping::Outcome,
    Grouping::Rule,
    Grouping::Partition,
    Grouping::Row,
    Grouping::Cause,
];

fn groupings() -> impl Strategy<Value = Vec<Grouping>> {
    // Most questions ask for no partition and no row.
    prop_oneof![3 => vec(select(&BY[..9]), 0..4), 1 => vec(select(&BY[..]), 0..4)]
}

/// Every page of a count.
fn counted(reader: &Reader, query: &Query, by: &[Grouping], size: u64) -> Vec<Summary> {
    let going = std::sync::atomic::AtomicBool::new(false);
    let (mut pages, mut token) = (Vec::new(), String::new());
    loop {
        let mut page = reader.summarize(query, by, 5, size, &token, &going).unwrap();
        let next = page.next.take();
        pages.push(page);
        match next {
            None => return pages,
            Some(next) => token = next,
        }
    }
}

/// What a page shows. A page token may say in other words where the next one begins.
fn shown(pages: Vec<Page>) -> Vec<fieldseal_audit::Event> {
    pages.into_iter().flat_map(|page| page.events).collect()
}

fn indexes(settings: &Settings) -> PathBuf {
    settings.directory.with_file_name("audit-index")
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).unwrap();
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6, ..ProptestConfig::default() })]

    #[test]
    fn every_page_is_the_same_with_any_index(
        calls in vec(call(), 250..450),
        queries in vec(query(), 24),
        flips in vec((any::<Index>(), any::<Index>(), 0..8_u8), 24),
    ) {
        let log = Log::new(SEGMENT);
        let journal = log.open();
        runtime().block_on(write(&journal, &calls));
        let sealed = log.segments().len() - 1;
        prop_assert!(sealed >= 2, "{sealed} segments are full");
        let size = journal.checkpoint().tree_size;
        let (with, without) = (journal.reader(), journal.reader().without_index());
        let expected: Vec<_> = queries.iter().map(|q| shown(pages(&without, q, size))).collect();
        let same = |what: &str| {
            for (query, expected) in queries.iter().zip(&expected) {
                let found = shown(pages(&with, query, size));
                prop_assert_eq!(&found, expected, "{} {:?}", what, query);
            }
            Ok(())
        };
        same("as it comes")?;
        journal.build_indexes().unwrap();
        let directory = indexes(&log.settings);
        prop_assert_eq!(files(&directory).len(), sealed);
        same("whole")?;
        std::fs::remove_file(&files(&directory)[0]).unwrap();
        same("half of it")?;
        for (query, (file, at, bit)) in queries.iter().zip(&flips) {
            journal.build_indexes().unwrap();
            let path = file.get(&files(&directory)).clone();
            let mut bytes = std::fs::read(&path).unwrap();
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            std::fs::write(&path, bytes).unwrap();
            let found = shown(pages(&with, query, size));
            let expected = shown(pages(&without, query, size));
            prop_assert_eq!(found, expected, "a flipped bit at {} of {:?}: {:?}", at, path, query);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, ..ProptestConfig::default() })]

    #[test]
    fn every_count_is_the_same_with_any_index(
        calls in vec(call(), 250..450),
        questions in vec((query(), groupings(), any::<Index>()), 24),
        flips in vec((any::<Index>(), any::<Index>(), 0..8_u8), 24),
    ) {
        let log = Log::new(SEGMENT);
        let journal = log.open();
        runtime().block_on(write(&journal, &calls));
        let records = journal.checkpoint().tree_size;
        let (with, without) = (journal.reader(), journal.reader().without_index());
        let count = |reader: &Reader, (query, by, at): &(Query, Vec<Grouping>, Index)| {
            // At the end, or as it was at some time.
            let size = records - at.index(4 * records as usize).saturating_sub(3 * records as usize) as u64;
            counted(reader, query, by, size)
        };
        let expected: Vec<_> = questions.iter().map(|asked| count(&without, asked)).collect();
        journal.build_indexes().unwrap();
        for (asked, expected) in questions.iter().zip(&expected) {
            prop_assert_eq!(&count(&with, asked), expected, "{:?}", asked);
        }
        let directory = indexes(&log.settings);
        for ((asked, expected), (file, at, bit)) in questions.iter().zip(&expected).zip(&flips) {
            journal.build_indexes().unwrap();
            let path = file.get(&files(&directory)).clone();
            let mut bytes = std::fs::read(&path).unwrap();
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            std::fs::write(&path, bytes).unwrap();
            prop_assert_eq!(&count(&with, asked), expected, "bit at {} of {:?}", at, path);
        }
    }
}

/// A log with two full segments at least, and what one query finds in it.
fn log() -> (Log, Journal, Query) {
    let log = Log::new(SEGMENT);
    let journal = log.open();
    let calls: Vec<_> = (0..400_usize)
        .map(|n| Call {
            who: 0,
            batch: false,
            reason: 2,
            minute: n as i64,
            items: vec![(0, 0, 0, (n % 50) as u8, 1, 1)],
        })
        .collect();
    runtime().block_on(write(&journal, &calls));
    assert!(log.segments().len() > 2);
    let query = Query { row: Some(token(7)), ..Query::default() };
    (log, journal, query)
}

#[test]
fn an_index_is_its_owners_alone_and_made_once() {
    let (log, journal, _) = log();
    journal.build_indexes().unwrap();
    let directory = indexes(&log.settings);
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&directory), 0o700);
    let made = files(&directory);
    assert_eq!(made.len(), log.segments().len() - 1);
    assert!(made.iter().all(|file| mode(file) == 0o600));
    assert_eq!(journal.build_indexes().unwrap(), Indexed::default());
    std::fs::remove_dir_all(&directory).unwrap();
    let again = journal.build_indexes().unwrap();
    assert!(again.segments <= made.len() as u64);
    assert_eq!(files(&directory), made);
}

#[test]
fn records_that_do_not_match_are_not_even_read() {
    let (log, journal, query) = log();
    journal.build_indexes().unwrap();
    let size = journal.checkpoint().tree_size;
    let expected = shown(pages(&journal.reader(), &query, size));
    assert_eq!(expected.len(), 8);
    // The first frame of the log holds the record of another row.
    let segment = log.segments().remove(0);
    let mut bytes = std::fs::read(&segment).unwrap();
    let frame = bytes.windows(4).position(|w| w == b"FSFR").unwrap();
    bytes[frame + 100] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    assert_eq!(shown(pages(&journal.reader(), &query, size)), expected);
    let limit = PageLimit::default();
    let refused = journal.reader().without_index().page(&query, limit, size, "");
    assert!(matches!(refused, Err(QueryError::Unreadable(_))), "{refused:?}");
    // Whoever asks for the record that is damaged learns it.
    let first = Query { oldest_first: true, ..Query::default() };
    let refused = journal.reader().page(&first, limit, size, "");
    assert!(matches!(refused, Err(QueryError::Unreadable(_))), "{refused:?}");
}

#[test]
fn the_index_of_another_log_is_made_again() {
    let (log, journal, query) = log();
    let (other, others, _) = self::log();
    journal.build_indexes().unwrap();
    others.build_indexes().unwrap();
    let size = journal.checkpoint().tree_size;
    let expected = shown(pages(&journal.reader().without_index(), &query, size));
    assert_eq!(expected.len(), 8);
    let (own, foreign) = (indexes(&log.settings), indexes(&other.settings));
    for (own, foreign) in files(&own).iter().zip(files(&foreign)) {
        // Signed by the same key for the same origin, and of other records.
        let name = own.file_name().unwrap();
        std::fs::copy(foreign.with_file_name(name), own).unwrap();
    }
    assert_eq!(shown(pages(&journal.reader(), &query, size)), expected);
    journal.build_indexes().unwrap();
    assert_eq!(shown(pages(&journal.reader(), &query, size)), expected);
    // What belongs to no segment, or was not finished, goes.
    std::fs::write(own.join("index-00000000000000999999.idx"), "old").unwrap();
    std::fs::write(own.join("index-00000000000000000000.tmp"), "half").unwrap();
    journal.build_indexes().unwrap();
    assert_eq!(files(&own).len(), log.segments().len() - 1);
}

#[test]
fn a_segment_that_was_altered_gets_no_index() {
    let (log, journal, query) = log();
    journal.build_indexes().unwrap();
    drop(journal);
    let segment = log.segments().remove(0);
    let whole = std::fs::read(&segment).unwrap();
    // The row of a record, with a checksum that fits: only the tree shows it.
    let mut altered = whole.clone();
    let frame = whole.windows(4).position(|w| w == b"FSFR").unwrap();
    let len = |at: usize| u32::from_le_bytes(whole[at..at + 4].try_into().unwrap()) as usize;
    let body = 16 + len(frame + 4) + 64 + len(frame + 8) + len(frame + 12);
    altered[frame + body - 10] ^= 1;
    let crc = crc32(&altered[frame..frame + body]);
    altered[frame + body..frame + body + 4].copy_from_slice(&crc.to_le_bytes());
    std::fs::write(&segment, &altered).unwrap();
    std::fs::remove_dir_all(indexes(&log.settings)).unwrap();
    let journal = log.open();
    journal.build_indexes().unwrap();
    let made = files(&indexes(&log.settings));
    assert_eq!(made.len(), log.segments().len() - 2);
    assert!(made.iter().all(|file| !file.ends_with("index-00000000000000000000.idx")));
    let size = journal.checkpoint().tree_size;
    let expected = shown(pages(&journal.reader().without_index(), &query, size));
    assert_eq!(shown(pages(&journal.reader(), &query, size)), expected);
}

/// CRC-32 of IEEE 802.3.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg())
        })
    })
}

#[test]
fn no_index_is_made_where_the_log_needs_the_space() {
    let (log, journal, query) = log();
    let directory = indexes(&log.settings);
    let free = |bytes| log.space.0.store(bytes, std::sync::atomic::Ordering::SeqCst);
    journal.build_indexes().unwrap();
    // Its thread goes with it.
    drop(journal);
    std::fs::remove_dir_all(&directory).unwrap();
    free(SEGMENT);
    let journal = log.open();
    let refused = journal.build_indexes();
    assert!(refused.is_err(), "{refused:?}");
    assert!(!directory.exists());
    let size = journal.checkpoint().tree_size;
    assert_eq!(shown(pages(&journal.reader(), &query, size)).len(), 8);
    free(u64::MAX);
    journal.build_indexes().unwrap();
    assert!(directory.exists());
}
