//! Counting who read what, for auditors.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use fieldseal_audit::{Checkpoint, Grouping, Query, QueryError, Reader, Summary};
use fieldseal_model::{AccessReason, Action};

use crate::call::Caller;
use crate::engine::Engine;
use crate::observe::AuditQuery;
use crate::refusal::Refusal;

/// What an auditor wants counted.
#[derive(Debug, Clone, Default)]
pub struct AccessQuestion {
    /// What to count. Each item of a batch is judged by itself.
    pub query: AuditQuery,
    /// What the accesses of a group have in common; without any there is only a total.
    pub group_by: Vec<Grouping>,
    /// Groups on a page.
    pub limit: usize,
    /// Empty for the first page.
    pub page_token: String,
    /// Count the log as it was when it had so many records; `None`: as it is now.
    pub tree_size: Option<u64>,
}

/// A page of groups.
pub struct AccessPage {
    /// The groups and the total.
    pub summary: Summary,
    /// The snapshot that all pages count; on the first page only, and not of a size that was asked for.
    pub checkpoint: Option<Checkpoint>,
    /// Whether the groups are those of hours.
    pub by_hour: bool,
}

/// Tells a thread that nobody waits for it any more.
struct Waiting(Arc<AtomicBool>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Engine {
    /// Counts accesses. The question is itself on record, with how it ended, before the answer
    /// leaves. If it is dropped before, it stops reading soon.
    ///
    /// # Errors
    /// As [`Engine::query_audit`]; a summary that would be too large; more records than the log has.
    pub async fn summarize_access(
        &self,
        caller: &Caller,
        question: AccessQuestion,
        reason: &AccessReason,
    ) -> Result<AccessPage, Refusal> {
        let AccessQuestion { query, group_by, limit, page_token, tree_size } = question;
        let is_snapshot = page_token.is_empty() && tree_size.is_none();
        let by_hour = group_by.contains(&Grouping::Hour);
        let waiting = Waiting(Arc::default());
        let abandoned = Arc::clone(&waiting.0);
        let read = move |reader: &Reader, query: &Query, known| {
            let size = tree_size.unwrap_or(known);
            if size > known {
                return Err(QueryError::BeyondLog(known));
            }
            reader.summarize(query, &group_by, limit, size, &page_token, &abandoned)
        };
        let action = Action::SummarizeAccess;
        let (summary, checkpoint) = self.read_log(caller, action, query, reason, read).await?;
        drop(waiting);
        Ok(AccessPage { summary, checkpoint: is_snapshot.then_some(checkpoint), by_hour })
    }
}
