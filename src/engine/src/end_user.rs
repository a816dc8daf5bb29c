//! The end user behind a call: whether the token that the caller shows holds.

use fieldseal_audit::{ItemOutcome, Verdict};
use fieldseal_identity::{Attempt, Claims, Refused};
use fieldseal_model::{AccessReason, Action, EndUser, Malformed, MalformedReason};

use crate::call::{Caller, Stated};
use crate::engine::Engine;
use crate::refusal::{Refusal, RefusalCause};

/// What a caller shows about its end user.
#[derive(Clone, Copy)]
pub struct Assertion<'a> {
    /// A JSON web token.
    pub token: &'a str,
    /// SHA-256, in lower-case hexadecimal, of the request that a token of Atlassian Connect came with;
    /// empty if there was none.
    pub query_hash: &'a str,
}

impl Engine {
    /// The end user that a token names, if it holds and is this caller's. A refusal is on record as
    /// a denied call before the answer leaves.
    ///
    /// # Errors
    /// A refused token; no issuer at all; or a log that cannot be written.
    pub async fn end_user(
        &self,
        caller: &Caller,
        action: Action,
        shown: Assertion<'_>,
        stated: &Stated,
    ) -> Result<EndUser, Refusal> {
        self.journal_ready()?;
        let policy = self.inner.policy.newest();
        if policy.issuers().is_empty() {
            let what = "no issuer of tokens about end users is configured; leave \
                        end_user_assertion and end_user_query_hash empty";
            let what = Malformed::new(MalformedReason::EndUserAssertionUnsupported, what);
            return Err(self.malformed(caller, action, what, stated).await);
        }
        let now = self.inner.clock.now();
        let (issuers, generation) = (policy.issuers(), policy.generation());
        let Assertion { token, query_hash } = shown;
        let checked =
            self.inner.shown.check(issuers, generation, token, query_hash, &caller.principal, now);
        match checked {
            Ok(claims) => Ok(self.named(&claims)),
            Err((refused, claims)) => {
                let end_user = claims.map(|claims| self.named(&claims));
                let reason = AccessReason { end_user, ..stated.reason.clone() };
                Err(self.not_shown(caller, action, refused, &reason, stated).await)
            }
        }
    }

    /// The issuers whose keys are to be fetched now. Who gets one ends it; calls go on meanwhile with the keys
    /// before.
    #[must_use]
    pub fn issuers_due(&self) -> Vec<Attempt> {
        let (policy, now) = (self.inner.policy.newest(), self.inner.clock.now());
        policy.issuers().remotes().filter_map(|remote| remote.begin(now)).collect()
    }

    fn named(&self, claims: &Claims) -> EndUser {
        let (issuer, subject) = (claims.issuer(), claims.subject());
        let token = self.inner.keys.tokens().end_user(issuer, subject);
        EndUser::new(issuer.clone(), subject.clone(), token)
    }

    async fn not_shown(
        &self,
        caller: &Caller,
        action: Action,
        refused: Refused,
        reason: &AccessReason,
        stated: &Stated,
    ) -> Refusal {
        let why = match refused {
            Refused::Invalid(flaw) => format!("{}: {}", refused.reason(), flaw.as_str()),
            _ => refused.reason().to_owned(),
        };
        let Stated { key, table, column, .. } = stated;
        let subject = (key.as_ref(), table.as_ref(), column.as_ref());
        let verdict = Verdict::EndUser(&why);
        let event = self.single(caller, action, reason, verdict, subject, ItemOutcome::Denied);
        match self.inner.journal.record(event).await {
            Ok(receipt) => Refusal::recorded(RefusalCause::EndUser(refused), &receipt),
            Err(error) => error.into(),
        }
    }
}
