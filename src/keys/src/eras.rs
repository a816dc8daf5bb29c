//! Waiting for the calls that began before a change: it is acknowledged when they are over.

use std::collections::VecDeque;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::{Mutex, oneshot};

/// Held by every call that uses keys, from before its first look at them until its answer has left.
/// A change of state is acknowledged when the calls that began before it have dropped theirs.
#[derive(Clone)]
pub struct CallGuard(#[expect(dead_code, reason = "dropping it is its use")] Arc<Era>);

/// The time between two changes. Dropping the last guard of an era tells whoever waits for its end.
struct Era(#[expect(dead_code, reason = "dropping it is its use")] oneshot::Sender<()>);

pub(crate) struct Eras {
    now: ArcSwap<Era>,
    /// Each resolves when its era has no call any more; the last one is that of now.
    ends: Mutex<VecDeque<oneshot::Receiver<()>>>,
}

impl Default for Eras {
    fn default() -> Self {
        let (era, end) = era();
        Self { now: ArcSwap::from(era), ends: Mutex::new(VecDeque::from([end])) }
    }
}

fn era() -> (Arc<Era>, oneshot::Receiver<()>) {
    let (sender, end) = oneshot::channel();
    (Arc::new(Era(sender)), end)
}

impl Eras {
    /// A call begins.
    pub(crate) fn enter(&self) -> CallGuard {
        CallGuard(self.now.load_full())
    }

    /// Returns once every call that entered before is over. A change is made visible before this is
    /// called: whoever enters afterwards sees it. If it is given up half way, the next turn waits
    /// for those calls too.
    pub(crate) async fn turn(&self) {
        let mut ends = self.ends.lock().await;
        let (next, end) = era();
        drop(self.now.swap(next));
        let before = ends.len();
        ends.push_back(end);
        for _ in 0..before {
            if let Some(end) = ends.front_mut() {
                // The sender never sends: it is dropped together with the last guard.
                let _over = end.await;
                ends.pop_front();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures_util::poll;

    use super::*;

    #[tokio::test]
    async fn a_turn_waits_for_the_calls_before_it_and_for_no_other() {
        let eras = Eras::default();
        eras.turn().await;
        let (before, copy) = (eras.enter(), eras.enter().clone());
        let mut turn = pin!(eras.turn());
        assert!(poll!(&mut turn).is_pending());
        let after = eras.enter();
        drop(before);
        assert!(poll!(&mut turn).is_pending());
        drop(copy);
        turn.await;
        drop(after);
    }

    #[tokio::test]
    async fn a_turn_that_was_given_up_is_made_up_for() {
        let eras = Eras::default();
        let before = eras.enter();
        assert!(poll!(pin!(eras.turn())).is_pending());
        let mut second = pin!(eras.turn());
        assert!(poll!(&mut second).is_pending());
        drop(before);
        second.await;
    }
}
