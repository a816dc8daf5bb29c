//! The schedule of backups.

use std::time::Duration;

use fieldseal_engine::Engine;

/// How often it is looked whether a backup is due.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// How long after a failure it is tried again.
const RETRY_AFTER: Duration = Duration::from_secs(600);

/// Warns of data keys that a lost disk would take with it. Never ends.
pub(crate) async fn watch_risk(engine: &Engine) {
    loop {
        if let Some(data_keys) = engine.risk_to_tell() {
            tracing::warn!(
                event = "data_keys_at_risk",
                data_keys,
                "data keys are in no backup and in no copy: what is sealed under them is lost with the \
                 disk; make a backup, or set store.copy"
            );
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Makes a backup whenever the newest is so old, and removes before what is over. A pause is made up
/// for by one backup. Never ends.
pub(crate) async fn scheduled(engine: &Engine, every: Duration) {
    if every.is_zero() {
        return std::future::pending().await;
    }
    loop {
        let mut wait = LOOK_EVERY;
        if engine.backup_is_due(every) {
            if let Err(error) = engine.prune_by_schedule().await {
                tracing::error!(event = "backup_prune_failed", reason = error.reason(), %error);
            }
            // Why it failed, the engine says in a line.
            if engine.create_scheduled_backup().await.is_err() {
                wait = RETRY_AFTER;
            }
        }
        tokio::time::sleep(wait).await;
    }
}
