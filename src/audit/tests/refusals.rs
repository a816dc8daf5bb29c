//! A flood of refusals is counted, and every question about it has the same answer as if each had a
//! record of its own.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that cannot be set up fails"
)]

mod kit;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fieldseal_audit::{
    CallEvent, Event, GroupKey, Grouping, Item, ItemOutcome, Journal, JournalError, Outcome, Query,
    Verdict, Withheld,
};
use fieldseal_model::{
    Action, CertificateId, Clock as _, Column, ManualClock, Principal, Timestamp,
};
use fieldseal_policy::Policy;
use kit::{Log, commit, decide, field, identity, policy, reason};

const WINDOW: Duration = Duration::from_secs(60);
const NOBODY: &str = "spiffe://test/nobody";

/// What a call that is refused asks for.
#[derive(Debug, Clone)]
struct Asked {
    who: String,
    certificate: Option<u8>,
    column: &'static str,
    rows: Vec<u8>,
    ticket: &'static str,
}

fn asked(rows: &[u8]) -> Asked {
    let (who, rows) = (NOBODY.to_owned(), rows.to_vec());
    Asked { who, certificate: None, column: "email", rows, ticket: "T-1" }
}

impl Asked {
    fn by(self, who: &str) -> Self {
        Self { who: who.to_owned(), ..self }
    }

    fn action(&self) -> Action {
        if self.rows.len() == 1 { Action::Decrypt } else { Action::BatchDecrypt }
    }

    fn event(&self, policy: &Policy, at: Timestamp) -> CallEvent {
        let denial = decide(policy, &self.who, self.action()).expect_err("it is refused");
        let (key, table, _) = field();
        let column = Column::parse(self.column).unwrap();
        let mut who = Principal::parse(&self.who).unwrap();
        if let Some(certificate) = self.certificate {
            who = who.with_certificate(CertificateId::of(&[certificate; 32]));
        }
        let mut event = CallEvent::new(&who, self.action(), &reason(self.ticket), at);
        let verdict = Verdict::Denial(&denial);
        let verdict = event.verdict(verdict, Some(&key), Some(&table), Some(&column));
        for row in &self.rows {
            let partition = (*row % 3 > 0).then_some([*row % 3; 16]);
            let (row, outcome) = (Some([*row; 16]), ItemOutcome::Denied);
            event.item(verdict, Item { partition, row, key_version: 0, outcome });
        }
        event
    }
}

/// A log that counts, and its clock.
struct Counted {
    log: Log,
    journal: Journal,
    clock: Arc<ManualClock>,
    policy: Policy,
}

impl Counted {
    fn new() -> Self {
        // Short segments, so that most of a flood is in segments that are full and have an index.
        let log = Log::new(32 * 1024);
        let clock = Arc::new(ManualClock::at(Timestamp::from_unix_nanos(3_600_000_000_000)));
        let space = Arc::clone(&log.space);
        let (journal, _) =
            Journal::open_with(log.settings.clone(), identity(7), Arc::clone(&clock) as _, space)
                .unwrap();
        journal.count_refusals(WINDOW);
        Self { log, journal, clock, policy: policy() }
    }

    async fn refuse(&self, asked: &Asked) -> Result<u64, JournalError> {
        let event = asked.event(&self.policy, self.clock.now());
        let recorded = self.journal.commit(event, Withheld::new((), 0)).await?;
        Ok(recorded.into_parts().1.index())
    }

    fn size(&self) -> u64 {
        self.journal.checkpoint().tree_size
    }

    fn found(&self, query: Query) -> Vec<Event> {
        let query = Query { oldest_first: true, ..query };
        let page = self.journal.reader().query(&query, 1_000, self.size(), "").unwrap();
        assert_eq!(page.next, None);
        page.events
    }

    async fn all(&self) -> Vec<Event> {
        self.journal.record_counted(true).await.unwrap();
        self.found(Query::default())
    }
}

#[tokio::test]
async fn the_first_is_on_record_before_its_answer_and_the_others_in_one_at_the_end_of_the_window() {
    let counted = Counted::new();
    let begun = counted.clock.now();
    for second in 0..50 {
        assert_eq!(counted.refuse(&asked(&[7])).await.unwrap(), 0, "it is counted with the first");
        assert_eq!(counted.size(), 1, "{second}");
        counted.clock.advance(Duration::from_secs(1));
        counted.journal.record_counted(false).await.unwrap();
    }
    assert_eq!(counted.journal.counted_refusals(), 49);
    counted.clock.advance(Duration::from_secs(10));
    counted.journal.record_counted(false).await.unwrap();
    assert_eq!((counted.size(), counted.journal.counted_refusals()), (2, 0));
    // The window is over: the next is a first one again.
    assert_eq!(counted.refuse(&asked(&[7])).await.unwrap(), 2);
    let events = counted.all().await;
    let calls: Vec<_> = events.iter().map(|event| (event.calls, event.items[0].calls)).collect();
    assert_eq!(calls, [(1, 0), (49, 49), (1, 0)]);
    let of_window = &events[1];
    assert_eq!(of_window.first, begun.plus(Duration::from_secs(1)));
    assert_eq!(of_window.time, begun.plus(Duration::from_secs(49)));
    assert_eq!(of_window.outcome, Some(Outcome::Denied));
    assert_eq!((of_window.item_count, of_window.items.len()), (1, 1));
    assert_eq!((of_window.principal.as_str(), of_window.ticket.as_str()), (NOBODY, "T-1"));
    assert_eq!(counted.log.verify().unwrap().records, 3);
}

#[tokio::test]
async fn whatever_tells_two_refusals_apart_is_on_record() {
    let counted = Counted::new();
    let others = [
        asked(&[1]),
        asked(&[1]).by("spiffe://test/somebody"),
        Asked { column: "iban", ..asked(&[1]) },
        Asked { certificate: Some(1), ..asked(&[1]) },
        Asked { certificate: Some(2), ..asked(&[1]) },
        Asked { ticket: "T-2", ..asked(&[1]) },
        asked(&[1, 2]),
        asked(&[2, 1]),
        asked(&[1, 2, 2]),
    ];
    for (index, other) in others.iter().enumerate() {
        assert_eq!(counted.refuse(other).await.unwrap(), index as u64, "{other:?}");
    }
    // In the middle of a flood, one row of somebody else.
    for row in [1, 1, 1, 9, 1, 1] {
        counted.refuse(&asked(&[row])).await.unwrap();
    }
    assert_eq!(counted.size(), others.len() as u64);
    let events = counted.all().await;
    let last = events.last().unwrap();
    let rows: Vec<_> = last.items.iter().map(|item| (item.row[0], item.calls)).collect();
    assert_eq!((last.calls, rows), (6, vec![(1, 5), (9, 1)]));
    let certificate = Some(CertificateId::of(&[2; 32]));
    let of_certificate = counted.found(Query { certificate, ..Query::default() });
    assert_eq!(of_certificate.iter().map(|event| event.index).collect::<Vec<_>>(), [4]);
    assert_eq!((&of_certificate[0].certificate, &last.certificate), (&vec![2; 16], &vec![]));
    let of_row = counted.found(Query { row: Some([9; 16]), ..Query::default() });
    assert_eq!(of_row.iter().map(|event| event.index).collect::<Vec<_>>(), [last.index]);
}

#[tokio::test]
async fn what_was_done_or_allowed_is_never_counted() {
    let counted = Counted::new();
    for _ in 0..5 {
        commit(&counted.journal, &counted.policy, 1).await.unwrap();
    }
    assert_eq!(counted.size(), 5);
    // Allowed, and it failed; and a batch of which one item was refused.
    let permit = decide(&counted.policy, kit::APP, Action::BatchDecrypt).unwrap();
    let denial = decide(&counted.policy, NOBODY, Action::BatchDecrypt).unwrap_err();
    for outcome in [ItemOutcome::Failed("TAG_MISMATCH"), ItemOutcome::Ok] {
        for round in 0..3 {
            let now = counted.clock.now();
            let mut event =
                CallEvent::new(permit.principal(), Action::BatchDecrypt, &reason("T-1"), now);
            let (allowed, refused) = (Verdict::Permit(&permit), Verdict::Denial(&denial));
            let allowed = event.verdict(allowed, None, None, None);
            let refused = event.verdict(refused, None, None, None);
            for (verdict, outcome) in [(allowed, outcome.clone()), (refused, ItemOutcome::Denied)] {
                event.item(verdict, Item { partition: None, row: None, key_version: 1, outcome });
            }
            let count = usize::from(outcome == ItemOutcome::Ok);
            counted.journal.commit(event, Withheld::new((), count)).await.unwrap();
            assert_eq!(counted.journal.counted_refusals(), 0, "{round}");
        }
    }
    assert_eq!(counted.size(), 11);
}

#[tokio::test]
async fn what_is_kept_is_bounded_and_what_has_no_room_has_a_record_of_its_own() {
    let counted = Counted::new();
    // One caller's kinds of refusals: the 65th is recorded each time, and others have their own room.
    let kinds: Vec<_> = (0..65).map(|kind| asked(&vec![kind; usize::from(kind) + 2])).collect();
    for round in 0..3 {
        for kind in &kinds {
            counted.refuse(kind).await.unwrap();
        }
        assert_eq!(counted.size(), 65 + round, "{round}");
        assert_eq!(counted.journal.counted_refusals(), 64 * round, "{round}");
    }
    let other = asked(&[1]).by("spiffe://test/somebody");
    for _ in 0..3 {
        counted.refuse(&other).await.unwrap();
    }
    assert_eq!(counted.size(), 68);
    assert_eq!(counted.journal.counted_refusals(), 130);
    // What a window has counted is recorded when one more row has no room.
    let counted = Counted::new();
    for row in 0..=255 {
        counted.refuse(&asked(&[row])).await.unwrap();
    }
    assert_eq!(counted.size(), 1, "255 rows are listed");
    let (key, table, column) = field();
    let denial = decide(&counted.policy, NOBODY, Action::Decrypt).unwrap_err();
    let who = Principal::parse(NOBODY).unwrap();
    for row in 0..300_u16 {
        let now = counted.clock.now();
        let mut event = CallEvent::new(&who, Action::Decrypt, &reason("T-1"), now);
        let verdict = Verdict::Denial(&denial);
        let verdict = event.verdict(verdict, Some(&key), Some(&table), Some(&column));
        let mut token = [0xff; 16];
        token[..2].copy_from_slice(&row.to_be_bytes());
        let (row, outcome) = (Some(token), ItemOutcome::Denied);
        event.item(verdict, Item { partition: None, row, key_version: 0, outcome });
        counted.journal.record(event).await.unwrap();
    }
    let events = counted.all().await;
    assert_eq!(events.iter().map(|event| event.calls).sum::<u64>(), 556);
    let rows: BTreeSet<_> = events.iter().flat_map(|e| &e.items).map(|i| i.row.clone()).collect();
    assert_eq!(rows.len(), 556, "every row that was asked for is on record");
    assert_eq!(events.len(), 4);
}

#[tokio::test]
async fn what_cannot_be_recorded_is_not_counted_and_not_answered_and_nothing_is_lost() {
    let counted = Counted::new();
    for _ in 0..3 {
        counted.refuse(&asked(&[1])).await.unwrap();
    }
    let segment = counted.log.segments().remove(0);
    let away = segment.with_extension("away");
    std::fs::rename(&segment, &away).unwrap();
    counted.clock.advance(WINDOW);
    counted.journal.record_counted(false).await.unwrap_err();
    assert_eq!(counted.journal.counted_refusals(), 2);
    for _ in 0..3 {
        counted.refuse(&asked(&[1])).await.unwrap_err();
    }
    assert_eq!(counted.journal.counted_refusals(), 2);
    std::fs::rename(&away, &segment).unwrap();
    counted.journal.watch().wait_for(|h| *h == fieldseal_audit::Health::Ok).await.unwrap();
    let events = counted.all().await;
    assert_eq!(events.iter().map(|event| event.calls).collect::<Vec<_>>(), [1, 2]);
    // After the last there is no counting any more.
    for index in [2, 3] {
        assert_eq!(counted.refuse(&asked(&[1])).await.unwrap(), index);
    }
}

/// A number that looks random.
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *state >> 33
}

/// Fields and calls of each group, as they would be counted call by call.
fn expected(calls: &[Asked], key: impl Fn(&Asked, u8) -> Vec<String>) -> Groups {
    let mut groups = Groups::new();
    for call in calls {
        let mut met = BTreeSet::new();
        for row in &call.rows {
            let key = key(call, *row);
            let group = groups.entry(key.clone()).or_default();
            group.0 += 1;
            group.1 += u64::from(met.insert(key));
        }
    }
    groups
}

type Groups = BTreeMap<Vec<String>, (u64, u64)>;

fn summed(counted: &Counted, by: &[Grouping], key: impl Fn(&GroupKey) -> Vec<String>) -> Groups {
    let (query, never) = (Query::default(), AtomicBool::new(false));
    let reader = counted.journal.reader();
    let found = reader.summarize(&query, by, 10_000, counted.size(), "", &never).unwrap();
    assert_eq!(found.next, None);
    found.groups.iter().map(|(k, c)| (key(k), (c.fields, c.events))).collect()
}

#[tokio::test]
async fn the_counts_of_a_flood_of_many_callers_are_exact_in_every_question() {
    let counted = Counted::new();
    let (mut random, mut calls) = (41, Vec::new());
    let callers: Vec<_> = (0..5).map(|n| format!("spiffe://test/nobody-{n}")).collect();
    for _ in 0..6_000 {
        let who = callers[next(&mut random) as usize % callers.len()].clone();
        let column = ["email", "iban"][next(&mut random) as usize % 2];
        let row = u8::try_from(next(&mut random) % 40).unwrap();
        let rows = match next(&mut random) % 4 {
            0 => vec![row % 3, row % 2, 5, 5],
            _ => vec![row],
        };
        let call = Asked { who, certificate: None, column, rows, ticket: "T-1" };
        counted.refuse(&call).await.unwrap();
        calls.push(call);
        if next(&mut random).is_multiple_of(50) {
            counted.clock.advance(Duration::from_secs(7));
            counted.journal.record_counted(false).await.unwrap();
        }
    }
    counted.journal.record_counted(true).await.unwrap();
    counted.journal.build_indexes().unwrap();
    assert!(counted.log.segments().len() > 3);
    let size = counted.size();
    assert!(size < 2_000, "{size} records of 6,000 refusals");
    assert_eq!(counted.log.verify().unwrap().records, size);

    let hex = |token: &[u8]| token.first().map(u8::to_string).unwrap_or_default();
    let denials = summed(&counted, &[Grouping::Principal, Grouping::Column], |k| {
        vec![k.principal.clone(), k.column.clone()]
    });
    let by_hand = expected(&calls, |call, _| vec![call.who.clone(), call.column.to_owned()]);
    assert_eq!(denials, by_hand);
    let rows = summed(&counted, &[Grouping::Row], |k| vec![hex(&k.row)]);
    assert_eq!(rows, expected(&calls, |_, row| vec![row.to_string()]));
    let partitions = summed(&counted, &[Grouping::Action, Grouping::Partition], |k| {
        vec![k.called().unwrap().as_str().to_owned(), hex(&k.partition)]
    });
    let by_hand = expected(&calls, |call, row| {
        let partition = if row % 3 > 0 { (row % 3).to_string() } else { String::new() };
        vec![call.action().as_str().to_owned(), partition]
    });
    assert_eq!(partitions, by_hand);

    let never = AtomicBool::new(false);
    let reader = counted.journal.reader().without_index();
    let all = reader.summarize(&Query::default(), &[], 1, size, "", &never).unwrap().total;
    assert!(!never.load(Ordering::Relaxed));
    assert_eq!(all.events, 6_000);
    assert_eq!(all.fields, calls.iter().map(|call| call.rows.len() as u64).sum::<u64>());
}
