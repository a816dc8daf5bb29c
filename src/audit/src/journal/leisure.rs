//! Reading the whole log without being in anybody's way.

use super::redact::blocking;
use crate::error::JournalError;
use crate::event::ChangedBy;
use crate::index::lower_priority;

/// Reads for a caller who waits as fast as it goes, and for the process itself when nothing else wants to.
pub(super) async fn reading<T: Send + 'static>(
    by: ChangedBy<'_>,
    run: impl FnOnce() -> Result<T, JournalError> + Send + 'static,
) -> Result<T, JournalError> {
    match by {
        ChangedBy::Caller(..) => blocking(run).await,
        ChangedBy::Itself(..) => at_leisure(run).await,
    }
}

async fn at_leisure<T: Send + 'static>(
    run: impl FnOnce() -> Result<T, JournalError> + Send + 'static,
) -> Result<T, JournalError> {
    let (done, ended) = tokio::sync::oneshot::channel();
    let thread = std::thread::Builder::new().name("audit-retention".to_owned());
    let begun = thread.spawn(move || {
        lower_priority();
        // Nobody waits any more if the process is ending.
        drop(done.send(run()));
    });
    begun.map_err(|e| JournalError::io("begin", std::path::Path::new("a thread"), &e))?;
    ended.await.unwrap_or(Err(JournalError::Closed))
}
