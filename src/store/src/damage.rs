//! What becomes of a panic of the database: a store that is damaged, said by name.
//!
//! sled panics where its files contradict each other, and some of its threads are its own: one that
//! is gone leaves whoever waits for it waiting. So a hook notices panics of sled's threads, and
//! from then on every store on sled in this process is damaged.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, LazyLock, Once};
use std::time::Duration;

use parking_lot::RwLock;
use tokio::sync::watch;

use crate::store::Health;

/// What sled calls the threads of its pool.
const SLED_THREADS: &str = "sled-io-";

thread_local! {
    /// This thread is in a call of sled.
    static CALLING: Cell<bool> = const { Cell::new(false) };
}

/// How often it is looked whether one of sled's threads is gone.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Why a thread of sled's own is gone.
static GONE: LazyLock<watch::Sender<Option<String>>> = LazyLock::new(|| watch::Sender::new(None));

/// Watches over sled's own threads from now on.
pub(crate) fn watch_threads() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let others = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| noticed(info, &others)));
    });
}

fn noticed(info: &PanicHookInfo<'_>, others: &(dyn Fn(&PanicHookInfo<'_>) + Send + Sync)) {
    let thread = std::thread::current();
    match thread.name() {
        Some(name) if name.starts_with(SLED_THREADS) => {
            let place = info.location().map(ToString::to_string).unwrap_or_default();
            tracing::error!(event = "database_thread_gone", place, "a thread of the database died");
            GONE.send_replace(Some("a thread of the database died".to_owned()));
        }
        // The panic is caught there, and becomes an error that is told.
        _ if CALLING.get() => {}
        _ => others(info),
    }
}

/// Runs a call of sled; `None` if it panics.
pub(crate) fn calmly<T>(work: impl FnOnce() -> T) -> Option<T> {
    let before = CALLING.replace(true);
    let done = catch_unwind(AssertUnwindSafe(work));
    CALLING.set(before);
    done.ok()
}

/// Waits for what a thread sends that calls sled; `None` once a thread of sled's own is gone, for
/// which it may wait for ever.
pub(crate) fn wait<T>(sent: &Receiver<T>) -> Option<T> {
    loop {
        match sent.recv_timeout(LOOK_EVERY) {
            Ok(found) => return Some(found),
            Err(RecvTimeoutError::Disconnected) => return None,
            Err(RecvTimeoutError::Timeout) if GONE.borrow().is_some() => return None,
            Err(RecvTimeoutError::Timeout) => {}
        }
    }
}

/// What a store knows of its own trouble. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct Trouble(Arc<TroubleOf>);

struct TroubleOf {
    own: RwLock<Option<Health>>,
    on_sled: bool,
    changed: watch::Sender<()>,
}

impl Default for TroubleOf {
    fn default() -> Self {
        Self { own: RwLock::default(), on_sled: false, changed: watch::Sender::new(()) }
    }
}

impl Trouble {
    pub(crate) fn new(on_sled: bool) -> Self {
        Self(Arc::new(TroubleOf { on_sled, ..TroubleOf::default() }))
    }

    /// What keeps it from going on; `None` if nothing does.
    pub(crate) fn health(&self) -> Option<Health> {
        let own = self.0.own.read().clone();
        let gone = || GONE.borrow().clone().filter(|_| self.0.on_sled).map(Health::Damaged);
        own.or_else(gone)
    }

    /// The first trouble counts.
    pub(crate) fn set(&self, health: Health) {
        let mut own = self.0.own.write();
        if own.is_none() {
            let (damaged, why) = match &health {
                Health::Damaged(why) => (true, why.as_str()),
                Health::Broken(why) => (false, why.as_str()),
                _ => return,
            };
            if damaged {
                tracing::error!(event = "store_damaged", error = why);
            } else {
                tracing::error!(event = "store_broken", error = why);
            }
            *own = Some(health);
        }
        drop(own);
        self.0.changed.send_replace(());
    }

    /// Returns once the store is damaged: nobody is sure to get an answer from it any more.
    pub(crate) async fn damaged(&self) {
        let (mut own, mut gone) = (self.0.changed.subscribe(), GONE.subscribe());
        while !matches!(self.health(), Some(Health::Damaged(_))) {
            // Neither sender is ever dropped before this.
            let _changed = tokio::select! {
                changed = own.changed() => changed,
                changed = gone.changed() => changed,
            };
        }
    }
}
