//! What is done to a stopped installation: opening a value with the recovery identity alone, and
//! everything about the root key.

pub mod root;

use std::sync::Arc;

use fieldseal_keys::keyring::Keyring;
use fieldseal_model::{AccessReason, Action, Clock, Principal};
use fieldseal_policy::Policy;

use crate::boot::{BootError, For, Installation, Settings};
use crate::call::{Caller, DecryptCall, DecryptItem, DecryptReply};
use crate::refusal::Refusal;

/// Why a recovery failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecoverError {
    /// The installation did not open: it may be running, or files may be missing.
    #[error(transparent)]
    Boot(#[from] BootError),
    /// The value did not open.
    #[error("{}", .0.cause)]
    Refused(Refusal),
}

/// Opens one value, as `local:<uid>`, on record like every other decrypt. The installation must be
/// stopped: its directories are locked while it runs.
///
/// # Errors
/// `Boot` if the installation does not open, `Refused` if the value does not.
pub async fn recover(
    settings: Settings,
    keyring: Keyring,
    clock: Arc<dyn Clock>,
    uid: Principal,
    call: DecryptCall,
) -> Result<DecryptReply, RecoverError> {
    let installation = Installation::new(settings, keyring);
    // The built-in rules, not the installation's: a recovery does not depend on files that may be
    // lost. They have no members, so they allow the local user's `Recover` and nothing else.
    let policy = Policy::from_texts(fieldseal_policy::default_files(&[]));
    let policy = policy.map_err(BootError::from)?;
    let engine = installation.start_for(For::Recovery, policy, clock).await?;
    let caller = Caller { principal: uid };
    let result = engine.decrypt(&caller, Action::Recover, call).await;
    if let Err(error) = engine.stop().await {
        tracing::error!(%error, "the audit log did not close");
    }
    result.map_err(RecoverError::Refused)
}

/// A call for one value.
#[must_use]
pub fn single(
    field: fieldseal_model::Field,
    input: crate::call::SealedInput,
    reason: AccessReason,
) -> DecryptCall {
    DecryptCall {
        fields: vec![field],
        items: vec![DecryptItem { field: 0, input: Ok(input) }],
        reason,
    }
}
