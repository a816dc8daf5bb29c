//! The policy that decides now, and reading its files again.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use fieldseal_audit::{Receipt, SystemEvent};
use fieldseal_model::{AccessReason, Action, hex};
use fieldseal_policy::{Permit, Policy, PolicyErrors, Settings};
use tokio::sync::{Mutex, Semaphore};

use crate::call::Caller;
use crate::engine::Engine;
use crate::refusal::{Refusal, RefusalCause};

/// Most bytes of what is wrong with a policy, in its record and in the answer: gRPC carries the
/// answer twice in header fields, of which a client takes 16 KiB.
const PROBLEM_BYTES: usize = 1024;

/// How long a reload may read. A file system that has gone away answers never.
const READ_TIME: Duration = Duration::from_secs(10);

/// The policy that decides, and where its files are.
pub(crate) struct ActivePolicy {
    settings: Settings,
    newest: ArcSwap<Policy>,
    /// One reload after the other, so that records and generations have one order.
    turn: Mutex<()>,
    reader: Reader,
}

impl ActivePolicy {
    pub(crate) fn new(settings: Settings, policy: Policy) -> Self {
        Self {
            settings,
            newest: ArcSwap::from_pointee(policy),
            turn: Mutex::new(()),
            reader: Reader::new(),
        }
    }

    /// The policy for a call that begins now. The call keeps it to its end.
    pub(crate) fn newest(&self) -> Arc<Policy> {
        self.newest.load_full()
    }
}

/// Reads policies on threads that may block.
struct Reader {
    // INVARIANT: a read that never ends keeps its place, so there is one such thread at most.
    place: Arc<Semaphore>,
}

impl Reader {
    fn new() -> Self {
        Self { place: Arc::new(Semaphore::new(1)) }
    }

    /// What `load` says, or a problem with `dir` if that takes longer than `limit`.
    async fn read<T: Send + 'static>(
        &self,
        limit: Duration,
        dir: &Path,
        load: impl FnOnce() -> Result<T, PolicyErrors> + Send + 'static,
    ) -> Result<Result<T, PolicyErrors>, RefusalCause> {
        let unread = |_| RefusalCause::Internal("a policy was not read to its end");
        let place = Arc::clone(&self.place);
        let reading = async move {
            let place = place
                .acquire_owned()
                .await
                .map_err(|_| RefusalCause::Internal("nobody reads policies any more"))?;
            let read = tokio::task::spawn_blocking(move || {
                let _place = place;
                load()
            });
            read.await.map_err(unread)
        };
        let ended = tokio::time::timeout(limit, reading).await;
        ended.unwrap_or_else(|_| Ok(Err(PolicyErrors::unread(dir, limit))))
    }
}

/// A policy that was reloaded.
pub struct PolicyReload {
    /// SHA-256 over schema and policies of the one that decides every call from now on.
    pub digest: [u8; 32],
    /// That of the one before.
    pub previous: [u8; 32],
    /// The proof that the reload is on record.
    pub receipt: Receipt,
}

/// Who asked, if it was not the process itself.
type By = Option<(Permit, AccessReason)>;

impl Engine {
    /// Reads the policy's files again. Every call that begins after the answer is decided by what
    /// they say now; a call that has begun ends as it began. Reloads come one after the other.
    ///
    /// # Errors
    /// Denied, or a log that cannot be written; `PolicyInvalid` if the files are no policy. Nothing
    /// changes then.
    pub async fn reload_policy(
        &self,
        caller: &Caller,
        reason: &AccessReason,
    ) -> Result<PolicyReload, Refusal> {
        self.journal_ready()?;
        let action = Action::ReloadPolicy;
        match self.decide_key(caller, action, None, reason) {
            Ok(permit) => self.reload(Some((permit, reason.clone()))).await,
            Err(denial) => Err(self.denied(caller, action, None, reason, &denial).await),
        }
    }

    /// The same for the process itself: a signal asked for it.
    ///
    /// # Errors
    /// As [`Engine::reload_policy`], but never denied.
    pub async fn reload_policy_by_signal(&self) -> Result<PolicyReload, Refusal> {
        self.reload(None).await
    }

    /// A reload goes on when its caller goes away: its record would be untrue without it.
    async fn reload(&self, by: By) -> Result<PolicyReload, Refusal> {
        let engine = self.clone();
        let ended = tokio::spawn(async move { engine.reload_now(by).await }).await;
        ended
            .unwrap_or_else(|_| Err(RefusalCause::Internal("a reload was cut off").into()))
            .inspect_err(|refusal| {
                let error = refusal.cause.to_string();
                tracing::error!(event = "policy_not_reloaded", error, "the policy before stays");
            })
    }

    async fn reload_now(&self, by: By) -> Result<PolicyReload, Refusal> {
        let active = &self.inner.policy;
        let _turn = active.turn.lock().await;
        self.journal_ready()?;
        let previous = active.newest().digest();
        let settings = active.settings.clone();
        let shown = settings.dir.clone();
        let read = active.reader.read(READ_TIME, &shown, move || Policy::load(&settings));
        let policy = match read.await? {
            Ok(policy) => policy,
            Err(errors) => return Err(self.not_reloaded(&by, previous, &errors).await),
        };
        // Keys that were fetched go on counting, and are fetched again beside the calls.
        policy.issuers().adopt(active.newest().issuers());
        let digest = policy.digest();
        let event = self.reload_event(&by, previous, Ok(digest));
        let receipt = self.inner.journal.record_system(event).await?;
        // INVARIANT: the record is durable before the first call is decided by the new policy.
        active.newest.store(Arc::new(policy));
        tracing::info!(
            event = "policy_reloaded",
            policy_digest = hex::encode(&digest),
            previous_policy_digest = hex::encode(&previous),
            "the policy was reloaded"
        );
        Ok(PolicyReload { digest, previous, receipt })
    }

    async fn not_reloaded(&self, by: &By, previous: [u8; 32], errors: &PolicyErrors) -> Refusal {
        for problem in errors.problems() {
            tracing::error!(event = "policy_problem", "{problem}");
        }
        let brief = errors.brief(PROBLEM_BYTES);
        let event = self.reload_event(by, previous, Err(&brief));
        let cause = RefusalCause::PolicyInvalid(brief.into());
        match self.inner.journal.record_system(event).await {
            Ok(receipt) => Refusal::recorded(cause, &receipt),
            // The first trouble is what the operator can act on.
            Err(_) => cause.into(),
        }
    }

    fn reload_event(
        &self,
        by: &By,
        previous: [u8; 32],
        ended: Result<[u8; 32], &str>,
    ) -> SystemEvent {
        let by = by.as_ref().map(|(permit, reason)| (permit, reason));
        SystemEvent::policy_reloaded(self.inner.clock.now(), by, previous, ended)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    #[tokio::test]
    async fn a_read_that_never_ends_is_refused_and_keeps_one_thread_only() {
        let (reader, dir) = (Reader::new(), Path::new("somewhere/policy"));
        let short = Duration::from_millis(20);
        let (release, held) = channel::<()>();
        let (ended, seen) = channel();
        let stuck = move || {
            let _ = held.recv();
            ended.send(()).unwrap();
            Ok(())
        };
        let refused = reader.read(short, dir, stuck).await.unwrap().unwrap_err();
        let said = refused.to_string();
        assert!(said.starts_with("somewhere/policy: ") && said.contains("not read"), "{said}");
        // While it is stuck no other begins.
        for _ in 0..3 {
            let began = reader.read(short, dir, || -> Result<(), _> { panic!("it began") });
            assert!(began.await.unwrap().is_err());
        }
        drop(release);
        seen.recv().unwrap();
        let again = reader.read(Duration::from_secs(600), dir, || Ok(7)).await;
        assert_eq!(again.unwrap(), Ok(7));
    }
}
