//! Memory with more partitions than it may remember. In a file of its own, because it looks at the
//! key pages of its whole process.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

mod kit;

use fieldseal_engine::EncryptCall;
use fieldseal_model::{AccessReason, Action};
use kit::{Place, caller, field, open, plain};

const PARTITIONS: usize = 100_000;
const BATCH: usize = 1_000;

const REMEMBERED: usize = 4_096;
/// What a key takes in its page.
const KEY_BYTES: usize = 64;

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_hundred_thousand_partitions_do_not_grow_memory_beyond_the_caches_bound() {
    let (_place, engine) =
        Place::with_key_and(|settings| settings.keys.cached_data_keys = REMEMBERED).await;
    let mut first = None;
    for batch in 0..PARTITIONS / BATCH {
        let name = |item: usize| format!("person-{:06}", batch * BATCH + item);
        let call = EncryptCall {
            fields: vec![field("pii", "email")],
            items: (0..BATCH).map(|item| plain(&name(item), "1", "ada@example.com")).collect(),
            reason: AccessReason::default(),
        };
        let reply = engine.encrypt(&caller("app"), Action::BatchEncrypt, call).await.unwrap();
        let buffer = bytes::Bytes::from(reply.buffer);
        for item in &reply.items {
            assert!(item.is_ok());
        }
        if first.is_none() {
            first = reply.items.into_iter().next().map(|item| buffer.slice(item.unwrap().range));
        }
    }
    let status = engine.status(&caller("ops")).await.unwrap();
    assert!(status.data_keys_cached <= REMEMBERED, "{}", status.data_keys_cached);
    // Both caches, what a batch has in its hands, and one page more; every key would be six times
    // as much.
    let most = (2 * REMEMBERED + 2 * BATCH) * KEY_BYTES + 64 * 1024;
    let found = fieldseal_memory::key_page_bytes();
    assert!(found <= most, "{found} bytes of keys, and {most} are enough");
    assert!(PARTITIONS * KEY_BYTES > 6 * most, "the test would not notice");
    let first = first.unwrap();
    assert_eq!(open(&engine, "person-000000", "1", &first).await.unwrap(), "ada@example.com");
}
