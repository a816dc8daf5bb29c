//! One suite for all backends: each test is written once, over a place, and runs on every one.

mod generations;
mod opening;
mod outbox;
mod ranges;
mod records;
mod sharing;
mod snapshots;

/// Runs each test on sled and in memory.
macro_rules! on_every_backend {
    ($($test:ident),+ $(,)?) => {
        mod sled {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $test() {
                    super::$test(<crate::place::OnSled as crate::place::Place>::new()).await;
                }
            )+
        }
        mod memory {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $test() {
                    super::$test(<crate::place::InMemory as crate::place::Place>::new()).await;
                }
            )+
        }
    };
}
use on_every_backend;
