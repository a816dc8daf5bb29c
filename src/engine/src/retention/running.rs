//! The runs: what is due now.

use std::time::Duration;

use fieldseal_audit::{Archivable, ChangedBy, Redactable};
use fieldseal_model::{Action, Timestamp};

use super::{Ran, Retaining, RetentionJob};
use crate::engine::Engine;
use crate::refusal::RefusalCause;
use crate::{archive, redact};

/// How often it is looked whether something is due.
const EVERY: Duration = Duration::from_secs(3600);
/// How often the log is read for what is to be erased.
const READ_EVERY: Duration = Duration::from_secs(24 * 3600);
/// How long after a failure it is tried again.
const AGAIN: Duration = Duration::from_secs(600);
/// Why nothing goes that is old by a clock that cannot be right.
const CLOCK_JUMPED: &str = "CLOCK_JUMPED";
/// The rule of what moves because it is time.
const SCHEDULE: &str = "schedule";
/// The rule of what is erased because its time is over.
const RETENTION: &str = "retention";
/// The rule of what is erased because its partition's data keys are gone.
const SHREDDED: &str = "shredded";

impl Engine {
    /// Does now what is due, and says after what time it should be looked again. What fails is in a log
    /// line and in the status.
    pub async fn retain(&self) -> Duration {
        let engine = self.clone();
        // It goes on when whoever waits for it goes away.
        tokio::spawn(async move { engine.retain_now().await }).await.unwrap_or(AGAIN)
    }

    async fn retain_now(&self) -> Duration {
        let retaining = &self.inner.retaining;
        let mut waited = retaining.turn.lock().await;
        let waiting = self.inner.keys.statistics().partitions_shredding;
        let some_went = waiting < std::mem::replace(&mut *waited, waiting);
        let (now, steady) = (self.inner.clock.now(), self.inner.clock.steady());
        let is_trusted = retaining.trusted.lock().is(now, steady);
        // Once for all of it: what is not erased because it is needed elsewhere must not move after that.
        let most = self.settled_elsewhere();
        let moving = is_trusted && self.is_about_to_move(now, most).await;
        for job in RetentionJob::ALL {
            if !is_trusted && job != RetentionJob::Shredded {
                retaining.held(job, now);
                continue;
            }
            // A clock that was set back must not put it off until it is there again.
            let is_soon = |next| now < next && next <= now.plus(READ_EVERY);
            let is_early = retaining.ran(job).lock().next.is_some_and(is_soon);
            // What moves is not reached any more, so that what is to go goes before.
            let is_due = !is_early || moving || (some_went && job == RetentionJob::Shredded);
            if retaining.off(job).is_some() || !is_due {
                continue;
            }
            let mut due = retaining.ran(job).lock().due;
            let done = match job {
                RetentionJob::Redact => self.redact_what_is_over(now, most, &mut due).await,
                RetentionJob::Shredded => {
                    self.redact_by_itself(Redactable::Erased { most }, SHREDDED, now, &mut due)
                        .await
                }
                RetentionJob::Archive => self.archive_what_is_old(now, most, &mut due).await,
            };
            retaining.ended(job, now, due, done.as_ref().err());
            if done.is_err() {
                return AGAIN;
            }
        }
        EVERY
    }

    /// Whether segments are to be moved that nobody elsewhere needs.
    async fn is_about_to_move(&self, now: Timestamp, most: u64) -> bool {
        let retaining = &self.inner.retaining;
        let (job, settings) = (RetentionJob::Archive, &retaining.settings);
        let target = settings.archive.as_ref().filter(|_| retaining.off(job).is_none());
        let Some((target, before)) = target.zip(retaining.before(job, now)) else { return false };
        let what = Archivable { before, most, to: target.place() };
        let journal = self.inner.journal.clone();
        let found = tokio::task::spawn_blocking(move || journal.would_archive(&what)).await;
        // What is wrong shows when it is done.
        found.is_ok_and(|found| found.is_ok_and(|found| found.segments > 0))
    }

    async fn redact_what_is_over(
        &self,
        now: Timestamp,
        most: u64,
        due: &mut u64,
    ) -> Result<(), RefusalCause> {
        let aged = self.inner.retaining.settings.kept.aged(now);
        let journal = self.inner.journal.clone();
        let oldest = tokio::task::spawn_blocking(move || journal.oldest_segment()).await;
        let oldest = oldest.map_err(|_| RefusalCause::Internal("a redaction was cut off"))?;
        let oldest = oldest.map_err(redact::cause)?;
        if oldest.zip(aged.latest()).is_none_or(|(oldest, before)| oldest >= before) {
            *due = 0;
            return Ok(());
        }
        let what = Redactable::Aged { aged, most };
        self.redact_by_itself(what, RETENTION, now, due).await
    }

    async fn redact_by_itself(
        &self,
        what: Redactable,
        rule: &'static str,
        now: Timestamp,
        due: &mut u64,
    ) -> Result<(), RefusalCause> {
        let by = ChangedBy::Itself(Action::RedactAuditEvents, rule);
        let done = self.inner.journal.redact(&what, by, now, |_| {}).await;
        let (redacted, _) = done.map_err(redact::cause)?;
        *due = redacted.held;
        if redacted.said_by > 0 {
            let records = redacted.records;
            tracing::info!(
                event = "audit_details_redacted",
                rule,
                records,
                "personal detail is erased"
            );
        }
        Ok(())
    }

    async fn archive_what_is_old(
        &self,
        now: Timestamp,
        most: u64,
        due: &mut u64,
    ) -> Result<(), RefusalCause> {
        let retaining = &self.inner.retaining;
        let Some(target) = &retaining.settings.archive else { return Ok(()) };
        let before = now.minus(retaining.settings.at_hand);
        let all = Archivable { before, most: u64::MAX, to: target.place() };
        let (journal, what) = (self.inner.journal.clone(), all.clone());
        let found = tokio::task::spawn_blocking(move || journal.would_archive(&what)).await;
        let found = found.map_err(|_| RefusalCause::Internal("an archiving was cut off"))?;
        *due = found.map_err(archive::cause)?.segments;
        // Whoever has something erased or moved meanwhile is not refused because of nothing.
        if *due == 0 || !self.is_about_to_move(now, most).await {
            return Ok(());
        }
        let what = Archivable { most, ..all };
        let by = ChangedBy::Itself(Action::ArchiveAuditEvents, SCHEDULE);
        let done = self.inner.journal.archive(&what, by, now, |_| {}).await;
        let (archived, _) = done.map_err(archive::cause)?;
        *due = due.saturating_sub(archived.segments);
        if archived.segments > 0 {
            let (segments, end) = (archived.segments, archived.end);
            tracing::info!(event = "audit_archived", segments, end, "moved to the archive");
        }
        Ok(())
    }
}

impl Retaining {
    /// The time of day is not believed: what is old by it may not be.
    fn held(&self, job: RetentionJob, now: Timestamp) {
        if self.off(job).is_some() {
            return;
        }
        let mut ran = self.ran(job).lock();
        if ran.failure != Some(CLOCK_JUMPED) {
            let job = job.as_str();
            tracing::error!(
                event = "audit_retention_failed",
                job,
                reason = CLOCK_JUMPED,
                error = "the clock is more than two days ahead of the newest record and of the time that passed",
                "nothing goes before it is right, or seven days have passed"
            );
        }
        let next = Some(now.plus(EVERY));
        *ran = Ran { last: Some(now), next, failure: Some(CLOCK_JUMPED), ..*ran };
    }

    fn ended(&self, job: RetentionJob, now: Timestamp, due: u64, error: Option<&RefusalCause>) {
        let failure = error.map(RefusalCause::reason);
        let wait = match (failure, job) {
            (Some(_), _) => AGAIN,
            (None, RetentionJob::Archive) => EVERY,
            (None, RetentionJob::Redact | RetentionJob::Shredded) => READ_EVERY,
        };
        if let Some((error, reason)) = error.zip(failure) {
            let job = job.as_str();
            tracing::error!(event = "audit_retention_failed", job, reason, %error, "tried again later");
        }
        *self.ran(job).lock() = Ran { due, last: Some(now), next: Some(now.plus(wait)), failure };
    }
}
