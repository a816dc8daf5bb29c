//! What questions show of a log of which detail was erased.

use fieldseal_audit::{Grouping, Kind, Outcome, Query};
use fieldseal_model::{Action, Timestamp};

use super::kit::Log;
use super::{ALICE, BOB, SEGMENT, calls, partition, redact};

#[tokio::test]
async fn questions_show_what_is_public_and_say_what_was_erased() {
    let log = Log::new(SEGMENT);
    let journal = log.open();
    calls(&journal, 100).await;
    journal.build_indexes().unwrap();
    redact(&journal, &partition(ALICE)).await.unwrap();
    let mut counts = Vec::new();
    for indexed in [false, true] {
        if indexed {
            journal.build_indexes().unwrap();
        }
        let ask = |query: &Query| {
            let reader = journal.reader();
            let reader = if indexed { reader } else { reader.without_index() };
            reader.query(query, 1000, 101, "").unwrap().events
        };
        let table = || Some("users".to_owned());
        let of = |token| Query { partition: Some(token), table: table(), ..Query::default() };
        assert_eq!(ask(&of(Some([ALICE; 16]))), []);
        assert_eq!(ask(&of(Some([BOB; 16]))).len(), 60);
        // An erased one is not taken for one without a partition.
        assert_eq!(ask(&of(None)).len(), 20);
        let all = ask(&Query { oldest_first: true, ..Query::default() });
        let (single, batch) = (&all[0], &all[2]);
        assert!(single.redacted && single.ticket.is_empty() && single.items[0].redacted);
        assert_eq!(
            (single.items[0].table.as_str(), single.items[0].column.as_str()),
            ("users", "email")
        );
        assert_eq!(single.purpose, "support");
        assert!(single.items[0].row.is_empty() && single.items[0].partition.is_empty());
        assert!(!batch.redacted && batch.ticket == "TICKET-7");
        let erased: Vec<_> = batch.items.iter().map(|item| item.redacted).collect();
        assert_eq!(erased, [true, false, true]);
        assert_eq!(batch.items[1].partition, [BOB; 16]);
        let fields = Query { table: table(), ..Query::default() };
        assert_eq!(ask(&fields).len(), 100);
        let said = ask(&Query { actions: vec![Action::RedactAuditEvents], ..Query::default() });
        assert_eq!(said.len(), 1);
        assert_eq!(said[0].kind, Some(Kind::DetailsRedacted));
        assert_eq!((said[0].purpose.as_str(), said[0].ticket.as_str()), ("support", "DSAR-1"));
        assert_eq!(said[0].rule, "privacy-redact");
        // Counts are those of what is left, wherever they are taken from.
        let reader = journal.reader();
        let reader = if indexed { reader } else { reader.without_index() };
        let going = std::sync::atomic::AtomicBool::new(false);
        let by = [Grouping::Principal, Grouping::Column];
        let counted = reader.summarize(&fields, &by, 10, 101, "", &going).unwrap();
        let total = counted.total;
        counts.push(counted);
        assert_eq!((total.events, total.partitions), (100, 1));
        // How much could have been about somebody, and is not known any more.
        let erased =
            |query: &Query| reader.summarize(query, &by, 10, 101, "", &going).unwrap().erased;
        assert_eq!(erased(&fields), 40);
        assert_eq!(erased(&of(Some([BOB; 16]))), 40);
        let other = Some("orders".to_owned());
        assert_eq!(erased(&Query { table: other, ..Query::default() }), 0);
        let end = Some(Timestamp::from_unix_nanos(1));
        assert_eq!(erased(&Query { end, ..Query::default() }), 0);
        assert_eq!(erased(&Query { outcomes: vec![Outcome::Denied], ..Query::default() }), 0);
        assert_eq!(erased(&Query { keys: vec!["other".to_owned()], ..Query::default() }), 0);
    }
    assert_eq!(counts[0], counts[1]);
}
