//! Memory with more partitions than it may remember. In a file of its own, because it looks at the
//! memory of its whole process.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

mod kit;

use fieldseal_engine::EncryptCall;
use fieldseal_model::Action;
use kit::{Place, caller, field, open, plain};

const PARTITIONS: usize = 100_000;
const BATCH: usize = 1_000;

/// Mebibytes that this process holds (proc_pid_status(5)).
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_ascii_whitespace().next().unwrap().parse::<u64>().unwrap() / 1024
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_hundred_thousand_partitions_do_not_grow_memory_beyond_the_caches_bound() {
    let (_place, engine) =
        Place::with_key_and(|settings| settings.keys.cached_data_keys = 4_096).await;
    let (mut first, mut warm) = (None, 0);
    for batch in 0..PARTITIONS / BATCH {
        let name = |item: usize| format!("person-{:06}", batch * BATCH + item);
        let call = EncryptCall {
            fields: vec![field("pii", "email")],
            items: (0..BATCH).map(|item| plain(&name(item), "1", "ada@example.com")).collect(),
        };
        let reply = engine.encrypt(&caller("app"), Action::BatchEncrypt, call).await.unwrap();
        let buffer = bytes::Bytes::from(reply.buffer);
        for item in &reply.items {
            assert!(item.is_ok());
        }
        if first.is_none() {
            first = reply.items.into_iter().next().map(|item| buffer.slice(item.unwrap().range));
        }
        if batch == 9 {
            // More than the caches hold: they are full from here on.
            warm = resident();
        }
    }
    let grown = resident().saturating_sub(warm);
    let status = engine.status(&caller("ops")).await.unwrap();
    eprintln!("warm {warm} MiB, grown {grown} MiB, cached {}", status.data_keys_cached);
    assert!(status.data_keys_cached <= 4_096, "{}", status.data_keys_cached);
    // 90,000 more data keys would be 50 MiB, and their partitions as much again.
    assert!(grown < 40, "{warm} MiB after 10,000 partitions, {grown} MiB more after 100,000");
    let first = first.unwrap();
    assert_eq!(open(&engine, "person-000000", "1", &first).await.unwrap(), "ada@example.com");
}
