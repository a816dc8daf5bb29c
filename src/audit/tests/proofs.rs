//! Proofs of a log while it is written: what is refused, and that each proof is that of the definition.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot be set up fails"
)]

mod kit;

use std::collections::BTreeSet;

use fieldseal_audit::verify::{self, Remembered};
use fieldseal_audit::{Journal, PageLimit, Query, QueryError, Withheld};
use kit::{Log, commit, decrypt, policy};

/// Many small segments: proofs reach over their borders.
const SMALL: u64 = 4096;

/// The leaf hashes of all records, as a question shows them.
fn leaves(journal: &Journal) -> Vec<[u8; 32]> {
    let query = Query { oldest_first: true, ..Query::default() };
    let limit = PageLimit { events: 1000, bytes: usize::MAX };
    let size = journal.checkpoint().tree_size;
    let page = journal.reader().page(&query, limit, size, "").unwrap();
    assert_eq!(page.next, None);
    page.events.iter().map(|event| event.leaf_hash).collect()
}

/// A log of so many segments, in frames with one record and frames with more, and the sizes at which
/// something was signed.
async fn written(log: &Log, segments: usize) -> (Journal, BTreeSet<u64>) {
    let (journal, policy) = (log.open(), policy());
    let mut signed = BTreeSet::new();
    for row in 0..30_u8 {
        commit(&journal, &policy, row).await.unwrap();
        signed.insert(journal.checkpoint().tree_size);
    }
    // Whoever comes while another writes is in the next group.
    let is_single = |signed: &BTreeSet<u64>| signed.len() as u64 == journal.checkpoint().tree_size;
    while log.segments().len() < segments || is_single(&signed) {
        let group = (0..8_u8).map(|row| {
            let (journal, event) = (journal.clone(), decrypt(&policy, &[row, row], "T-1"));
            tokio::spawn(async move { journal.commit(event, Withheld::new((), 2)).await })
        });
        for recorded in futures_util::future::join_all(group).await {
            signed.insert(recorded.unwrap().unwrap().into_parts().1.tree_size());
        }
    }
    (journal, signed)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_the_log_does_not_have_or_never_signed_is_refused() {
    let log = Log::new(SMALL);
    let (journal, signed) = written(&log, 4).await;
    let (reader, known) = (journal.reader(), journal.checkpoint().tree_size);
    let beyond = QueryError::BeyondLog(known);
    for (index, size) in [(0, 0), (known, known), (0, known + 1), (7, 7), (u64::MAX, u64::MAX)] {
        assert_eq!(reader.inclusion(index, size, known).unwrap_err(), beyond, "{index} {size}");
    }
    for (old, size) in [(0, 0), (0, known), (8, 7), (known, known + 1), (1, u64::MAX)] {
        assert_eq!(reader.consistency(old, size, known).unwrap_err(), beyond, "{old} {size}");
    }
    let unsigned: Vec<u64> = (1..known).filter(|size| !signed.contains(size)).collect();
    assert!(!unsigned.is_empty(), "{signed:?} of {known}");
    for size in unsigned {
        let refused = QueryError::NoCheckpoint;
        assert_eq!(reader.inclusion(0, size, known).unwrap_err(), refused, "{size}");
        assert_eq!(reader.consistency(1, size, known).unwrap_err(), refused, "{size}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_record_and_every_older_tree_is_proved_in_every_signed_tree() {
    let log = Log::new(SMALL);
    let (journal, signed) = written(&log, 4).await;
    let (reader, known, key) = (journal.reader(), journal.checkpoint().tree_size, log.key());
    let leaves = leaves(&journal);
    assert_eq!(leaves.len() as u64, known);
    let root = |size: u64| fieldseal_audit::merkle::root(leaves[..size as usize].iter().copied());
    for size in signed {
        for index in 0..size {
            let (leaf, proof) = reader.inclusion(index, size, known).unwrap();
            assert_eq!(leaf, leaves[index as usize], "{index} of {size}");
            assert_eq!(verify::check(&leaf, &proof, &key), Ok(Some(size)), "{index} of {size}");
        }
        for old in 1..=size {
            let proof = reader.consistency(old, size, known).unwrap();
            let now = verify::remembered(&proof.checkpoint, &key).unwrap();
            assert_eq!(now, Remembered { size, root: root(size) });
            let then = Remembered { size: old, root: root(old) };
            assert!(verify::extends(&then, &now, &proof.path), "{old} of {size}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn records_that_were_altered_are_proved_to_nobody() {
    let log = Log::new(1024 * 1024);
    let (journal, _) = written(&log, 1).await;
    let (reader, known) = (journal.reader(), journal.checkpoint().tree_size);
    let segment = log.segments().remove(0);
    let whole = std::fs::read(&segment).unwrap();
    let at = whole.windows(4).position(|bytes| bytes == b"user").unwrap();
    let end = at + whole[at..].windows(4).position(|bytes| bytes == b"FSFR").unwrap();
    let mut altered = whole.clone();
    altered[at] = b'U';
    // The checksum of a frame is no secret: whoever alters it makes it fit.
    let start = altered[..at].windows(4).rposition(|bytes| bytes == b"FSFR").unwrap();
    let frame = &altered[start..end];
    let body = (frame.len() - 12..=frame.len() - 4)
        .find(|body| {
            crc32fast::hash(&whole[start..start + body]).to_le_bytes()
                == whole[start + body..start + body + 4]
        })
        .unwrap();
    let crc = crc32fast::hash(&frame[..body]).to_le_bytes();
    altered[start + body..start + body + 4].copy_from_slice(&crc);
    std::fs::write(&segment, &altered).unwrap();
    for refused in [
        reader.inclusion(0, known, known).map(|_| ()),
        reader.inclusion(known - 1, known, known).map(|_| ()),
        reader.consistency(known - 1, known, known).map(|_| ()),
    ] {
        assert!(matches!(refused, Err(QueryError::Unreadable(_))), "{refused:?}");
    }
    std::fs::write(&segment, &whole).unwrap();
    reader.inclusion(0, known, known).unwrap();
}
