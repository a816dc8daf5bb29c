//! What the probes and the metrics say.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use fieldseal_audit::Health;
use fieldseal_engine::{Engine, Measures, ScrubState, StoreHealth};
use fieldseal_memory::Protection;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::exposition::Families;
use super::growth::Growth;
use super::names;
use crate::calls::LimitedServices;
use crate::transport::CertificateTimes;

/// What there is to look at once the sidecar serves.
pub(crate) struct Serving {
    pub(crate) engine: Engine,
    pub(crate) calls: LimitedServices,
    pub(crate) certificates: Vec<CertificateTimes>,
}

/// Looks at the process for whoever watches over it. It says nothing of principals, keys or places.
pub(crate) struct Observer {
    began: Instant,
    ready: watch::Receiver<bool>,
    stopping: AtomicBool,
    /// The keyring is not open because the root provider does not answer.
    waiting_for_root: AtomicBool,
    /// Connections of the second listener that made room for newer ones.
    cut_off: AtomicU64,
    serving: OnceLock<Serving>,
    growth: Mutex<Growth>,
    /// The policies' digest, and since when it has been this.
    policy: Mutex<Option<([u8; 32], Instant)>>,
}

/// Whether every call can be served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Ready,
    Starting,
    Stopping,
    /// It starts, and the root provider does not answer.
    RootProvider,
    /// The audit log cannot be written.
    AuditLog,
    /// The store takes no writes.
    Store,
    /// The store's records do not fit together.
    Damaged,
    /// It was so a moment ago.
    Recovering,
}

/// The answer of `/livez`.
pub(super) const LIVE: &str = "live\n";

impl State {
    /// All but one.
    pub(super) const NOT_READY: [Self; 7] = [
        Self::Starting,
        Self::Stopping,
        Self::RootProvider,
        Self::AuditLog,
        Self::Store,
        Self::Damaged,
        Self::Recovering,
    ];

    /// The answer of `/readyz`.
    pub(super) const fn says(self) -> &'static str {
        match self {
            Self::Ready => "ready\n",
            Self::Starting => "not ready: starting\n",
            Self::Stopping => "not ready: stopping\n",
            Self::RootProvider => "not ready: the root provider does not answer\n",
            Self::AuditLog => "not ready: the audit log cannot be written\n",
            Self::Store => "not ready: the store takes no writes\n",
            Self::Damaged => "not ready: the store is damaged\n",
            Self::Recovering => "not ready: recovering\n",
        }
    }
}

impl Observer {
    /// Looks at a process that starts. `ready` is what gRPC's health checks answer too.
    pub(crate) fn new(ready: watch::Receiver<bool>) -> Self {
        Self {
            began: Instant::now(),
            ready,
            stopping: AtomicBool::new(false),
            waiting_for_root: AtomicBool::new(false),
            cut_off: AtomicU64::new(0),
            serving: OnceLock::new(),
            growth: Mutex::default(),
            policy: Mutex::default(),
        }
    }

    /// There is more to look at now.
    pub(crate) fn serving(&self, serving: Serving) {
        // It begins to serve once.
        let _ = self.serving.set(serving);
        self.look();
    }

    /// Will not be ready any more.
    pub(crate) fn stopping(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    /// The root provider was asked and did not answer.
    pub(crate) fn waits_for_root(&self) {
        self.waiting_for_root.store(true, Ordering::Relaxed);
    }

    /// A connection of the second listener had to make room.
    pub(super) fn cut_off(&self) {
        self.cut_off.fetch_add(1, Ordering::Relaxed);
    }

    /// To be called from time to time, for what is measured over time.
    pub(crate) fn look(&self) {
        let Some(serving) = self.serving.get() else { return };
        let (now, engine) = (Instant::now(), &serving.engine);
        self.growth.lock().look(now, engine.audit_bytes_written());
        self.policy_since(engine.policy_digest(), now);
    }

    fn policy_since(&self, digest: [u8; 32], now: Instant) -> Instant {
        let mut policy = self.policy.lock();
        match &*policy {
            Some((known, since)) if *known == digest => *since,
            _ => policy.insert((digest, now)).1,
        }
    }

    pub(super) fn state(&self) -> State {
        if self.stopping.load(Ordering::Relaxed) {
            return State::Stopping;
        }
        let Some(Serving { engine, .. }) = self.serving.get() else {
            return match self.waiting_for_root.load(Ordering::Relaxed) {
                true => State::RootProvider,
                false => State::Starting,
            };
        };
        if *self.ready.borrow() {
            return State::Ready;
        }
        if *engine.audit_health().borrow() != Health::Ok {
            return State::AuditLog;
        }
        match engine.store_health() {
            StoreHealth::Ok if engine.is_unreliable() => State::Damaged,
            StoreHealth::Ok => State::Recovering,
            StoreHealth::Damaged(_) => State::Damaged,
            _ => State::Store,
        }
    }

    /// Every metric. It asks for free space, so it may block for a moment.
    pub(super) fn families(&self) -> Families {
        let mut out = Families::default();
        let locked = fieldseal_memory::protection() == Protection::Locked;
        out.gauge_of(&names::BUILD, [env!("CARGO_PKG_VERSION")], 1.0);
        out.gauge(&names::READY, flag(self.state() == State::Ready));
        out.gauge(&names::UPTIME, self.began.elapsed().as_secs_f64());
        out.gauge(&names::KEYS_LOCKED, flag(locked));
        out.count(&names::PROBES_CUT_OFF, self.cut_off.load(Ordering::Relaxed));
        if let Some(serving) = self.serving.get() {
            calls(&mut out, &serving.calls);
            self.engine(&mut out, &serving.engine);
            certificates(&mut out, &serving.certificates);
        }
        out
    }

    fn engine(&self, out: &mut Families, engine: &Engine) {
        let (now, found) = (Instant::now(), engine.measures());
        out.count(&names::SEALED, found.sealed);
        out.count(&names::OPENED, found.opened);
        let (journal, written) = (&found.journal, &found.journal.written);
        out.gauge(&names::LOG_RECORDS, found.log_records as f64);
        out.count(&names::LOG_BYTES, written.bytes);
        out.gauge(&names::QUEUE, journal.waiting as f64);
        out.gauge(&names::QUEUE_LIMIT, journal.waiting_limit as f64);
        out.distribution(&names::GROUP, [], written.group_records.clone());
        out.distribution(&names::SYNC, [], written.sync_seconds.clone());
        for (place, free) in [("audit", journal.free_bytes), ("store", found.store_free_bytes)] {
            if let Some(free) = free {
                out.gauge_of(&names::FREE, [place], free as f64);
            }
        }
        out.gauge(&names::RESERVE, journal.reserve_bytes as f64);
        if let Some(free) = journal.free_bytes {
            let room = free.saturating_sub(journal.reserve_bytes);
            let seconds = self.growth.lock().seconds_until(now, written.bytes, room);
            out.gauge(&names::UNTIL_FULL, seconds);
        }
        if let Some(age) = found.backup_age {
            out.gauge(&names::BACKUP_AGE, age.as_secs_f64());
        }
        out.gauge(&names::BACKUP_FAILED, flag(found.backup_failed));
        for anchor in &found.anchors {
            out.gauge_of(&names::ANCHOR_BEHIND, [anchor.kind], anchor.behind as f64);
            out.gauge_of(&names::ANCHOR_FAILED, [anchor.kind], flag(anchor.failure.is_some()));
        }
        for export in &found.exports {
            out.gauge_of(&names::EXPORT_BEHIND, [export.kind], export.behind as f64);
            let lag = export.behind_for.as_secs_f64();
            out.gauge_of(&names::EXPORT_LAG, [export.kind], lag);
            out.gauge_of(&names::EXPORT_FAILED, [export.kind], flag(export.failure.is_some()));
            out.count_of(&names::EXPORT_REJECTED, [export.kind], export.rejected);
        }
        for retained in found.retention.iter().filter(|retained| retained.off.is_none()) {
            let job = retained.job.as_str();
            out.gauge_of(&names::RETENTION_DUE, [job], retained.due as f64);
            out.gauge_of(&names::RETENTION_FAILED, [job], flag(retained.failure.is_some()));
        }
        out.gauge(&names::AT_RISK, found.data_keys_at_risk as f64);
        if let Some(ok) = found.copy_ok {
            out.gauge(&names::COPY_OK, flag(ok));
        }
        let keys = &found.keys;
        out.gauge(&names::KEYS, keys.keys as f64);
        out.gauge(&names::DATA_KEYS, keys.cached_data_keys as f64);
        out.gauge(&names::DATA_KEYS_LIMIT, keys.cached_data_keys_limit as f64);
        out.count(&names::DATA_KEYS_MADE, keys.data_keys_made);
        out.gauge(&names::PARTITIONS_SHREDDING, keys.partitions_shredding as f64);
        out.count(&names::CACHE_HITS, keys.cache_hits);
        out.count(&names::CACHE_MISSES, keys.cache_misses);
        out.gauge(&names::REWRAPS, keys.rewraps as f64);
        out.count(&names::REWRAPPED, keys.data_keys_rewrapped);
        scrub(out, &found);
        let since = self.policy_since(found.policy_digest, now);
        out.gauge(&names::POLICY_AGE, now.saturating_duration_since(since).as_secs_f64());
    }
}

fn scrub(out: &mut Families, found: &Measures) {
    out.count(&names::SCRUBS, found.scrubs);
    let last = match &found.scrub {
        ScrubState::Pending => None,
        ScrubState::Clean(last) | ScrubState::Damaged(last) => Some(last),
    };
    out.gauge(&names::SCRUB_PENDING, flag(last.is_none()));
    if let Some(last) = last {
        let nanos = found.now.unix_nanos().saturating_sub(last.at.unix_nanos());
        out.gauge(&names::SCRUB_AGE, nanos.max(0) as f64 / 1e9);
        out.gauge(&names::SCRUBBED, last.report.records as f64);
        out.gauge(&names::DAMAGED, last.report.findings() as f64);
    }
    if let Some(age) = found.newest_generation.and_then(|made| made.elapsed().ok()) {
        out.gauge(&names::GENERATION_AGE, age.as_secs_f64());
    }
}

fn calls(out: &mut Families, calls: &LimitedServices) {
    let tally = calls.tally();
    out.family(&names::CALLS);
    for ended in tally.ended() {
        out.count_of(&names::CALLS, [&ended.method, ended.code], ended.calls);
    }
    out.family(&names::CALL_SECONDS);
    for took in tally.took() {
        let labels = [took.method.as_str(), took.outcome];
        out.distribution(&names::CALL_SECONDS, labels, took.seconds);
    }
    out.gauge(&names::IN_FLIGHT, calls.in_flight() as f64);
}

fn certificates(out: &mut Families, certificates: &[CertificateTimes]) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    for times in certificates {
        let age = now - times.not_before as f64;
        out.gauge_of(&names::CERTIFICATE_AGE, [times.certificate], age);
        let left = times.not_after as f64 - now;
        out.gauge_of(&names::CERTIFICATE_LEFT, [times.certificate], left);
    }
}

const fn flag(set: bool) -> f64 {
    if set { 1.0 } else { 0.0 }
}
