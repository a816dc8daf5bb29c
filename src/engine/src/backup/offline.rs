//! The commands for an installation that is stopped.

use std::sync::Arc;

use fieldseal_keys::keyring::Keyring;
use fieldseal_model::{AccessReason, Action, Clock, Principal};
use fieldseal_policy::{Permit, Policy, Role};

use super::create::{By, Made};
use super::error::BackupError;
use super::prune::Pruned;
use crate::boot::{BootError, For, Installation, Settings};
use crate::call::Caller;
use crate::engine::Engine;

/// Makes a backup of a stopped installation, as `local:<uid>`.
///
/// # Errors
/// `Boot` if the installation does not open; otherwise as [`Engine::create_backup`].
pub async fn create(
    settings: Settings,
    keyring: Keyring,
    clock: Arc<dyn Clock>,
    local: Principal,
    reason: AccessReason,
) -> Result<Made, BackupError> {
    let engine = start(settings, keyring, clock).await?;
    let permit = permit(&engine, local, Action::CreateBackup, &reason);
    let made = match permit {
        Ok(permit) => engine.back_up(By::Caller(permit, reason)).await,
        Err(error) => Err(error),
    };
    stop(&engine).await;
    made
}

/// Removes the backups of a stopped installation whose time is over, as `local:<uid>`.
///
/// # Errors
/// `Boot` if the installation does not open; otherwise as [`Engine::prune_backups`].
pub async fn prune(
    settings: Settings,
    keyring: Keyring,
    clock: Arc<dyn Clock>,
    local: Principal,
    reason: AccessReason,
) -> Result<Pruned, BackupError> {
    let engine = start(settings, keyring, clock).await?;
    let pruned = match permit(&engine, local, Action::PruneBackups, &reason) {
        Ok(permit) => engine.prune_by(By::Caller(permit, reason), false).await,
        Err(error) => Err(error),
    };
    stop(&engine).await;
    pruned
}

/// Starts an installation that serves nobody. The built-in rules decide, not the installation's: they
/// allow the local user the offline commands.
pub(super) async fn start(
    settings: Settings,
    keyring: Keyring,
    clock: Arc<dyn Clock>,
) -> Result<Engine, BackupError> {
    begin_for(For::Serving, &[], Installation::new(settings, keyring), clock).await
}

/// The same of an installation that was put together, with roles for some callers.
pub(super) async fn begin_for(
    purpose: For,
    members: &[(Role, Principal)],
    installation: Installation,
    clock: Arc<dyn Clock>,
) -> Result<Engine, BackupError> {
    let policy = Policy::from_texts(fieldseal_policy::default_files(members));
    let policy = policy.map_err(BootError::from)?;
    Ok(installation.start_for(purpose, policy, clock).await?)
}

pub(super) async fn stop(engine: &Engine) {
    if let Err(error) = engine.stop().await {
        tracing::error!(%error, "the audit log did not close");
    }
}

/// The local user's permit for an offline command.
pub(super) fn permit(
    engine: &Engine,
    local: Principal,
    action: Action,
    reason: &AccessReason,
) -> Result<Permit, BackupError> {
    let caller = Caller { principal: local };
    let decided = engine.decide_key(&caller, action, None, reason);
    decided.map_err(|_| BackupError::NotConfigured("only a local user may do this"))
}
