//! What can go wrong with keys.

use fieldseal_audit::{JournalError, Receipt};
use fieldseal_crypto::random::RandomError;
use fieldseal_model::{KeyName, KeyVersionState, Timestamp, VersionNumber};
use fieldseal_store::{StoreError, TxnError};

use crate::anchor::Mismatch;
use crate::rewrap::RewrapState;

/// Why a key operation did not happen. Nothing was changed, except for [`KeyError::Unacknowledged`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// No key has this name.
    #[error("the key does not exist; create it first with CreateKey")]
    KeyNotFound,
    /// A key of this name exists already.
    #[error("a key of this name exists already")]
    KeyExists,
    /// Too many keys, or too many versions of one key.
    #[error("no more than {limit} {what} are possible")]
    TooMany {
        /// What there is too much of.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
    /// No data key has the id that stands in the ciphertext.
    #[error("the data key of this ciphertext does not exist here")]
    DataKeyNotFound,
    /// The key version is disabled or waits for its destruction.
    #[error("the key version is disabled")]
    VersionDisabled,
    /// The key version is destroyed.
    #[error("the key version is destroyed")]
    VersionDestroyed,
    /// The key has no version of this number.
    #[error("the key has no version {0}")]
    VersionNotFound(VersionNumber),
    /// The primary version can be neither disabled nor destroyed.
    #[error(
        "version {0} is the primary version and protects new values; rotate the key first, then \
         change the state of this version"
    )]
    VersionIsPrimary(VersionNumber),
    /// The version's state does not allow the change.
    #[error("the version is {}, and from there it can only be {allowed}", .state.as_str())]
    VersionStateWrong {
        /// The state it is in.
        state: KeyVersionState,
        /// What can be done with it.
        allowed: &'static str,
    },
    /// The version wraps data keys, and their number was not repeated.
    #[error("{}", would_be_lost(*.data_keys))]
    DataKeysWouldBeLost {
        /// How many.
        data_keys: u64,
    },
    /// Nothing opens or seals in this partition.
    #[error(
        "the partition is shredded: its values do not open, and it takes new ones only once it was \
         erased and opened anew"
    )]
    PartitionShredded,
    /// The partition has no data key: nothing was sealed in it.
    #[error("the partition has no data key under this key: nothing was encrypted in it")]
    PartitionNotFound,
    /// What was asked for is not possible from the partition's state.
    #[error("the partition is {is}: {instead}")]
    PartitionState {
        /// Its state.
        is: &'static str,
        /// What is possible.
        instead: &'static str,
    },
    /// The window is shorter or longer than it may be.
    #[error(
        "the window before the data keys of a partition go has {} to {} hours", least / 3600,
        most / 3600
    )]
    ShredWindow {
        /// Seconds at least, as this installation is configured.
        least: u64,
        /// Seconds at most.
        most: u64,
    },
    /// The default partition is shredded only by who says so.
    #[error(
        "name a partition; the default partition is everything without one, and is shredded only if \
         the call says that it is meant, and names no other"
    )]
    DefaultPartition,
    /// The etag given is not the newest.
    #[error("the key changed meanwhile; read it again and retry with its new etag")]
    EtagMismatch,
    /// The same request id was used for another question.
    #[error("this request id was used before for another request; use a new one")]
    RequestIdReused,
    /// The key is being rewrapped already.
    #[error("keys/{key}/rewrap is running since {started_at}; wait for its end, or cancel it")]
    RewrapRunning {
        /// The key.
        key: KeyName,
        /// Since when.
        started_at: Timestamp,
    },
    /// The key was never rewrapped.
    #[error("the key was never rewrapped")]
    RewrapNotFound,
    /// There is no rewrap to cancel.
    #[error("the rewrap is over: it is {state}; there is nothing to cancel")]
    RewrapNotRunning {
        /// How it ended.
        state: RewrapState,
    },
    /// The change needs a second principal, and waits for one.
    #[error(
        "this needs a second principal: approvals/{id} waits until {expires_at}; somebody else \
         approves it (`fieldseal approval approve {id}`)"
    )]
    ApprovalRequired {
        /// The request's id.
        id: String,
        /// Until when.
        expires_at: Timestamp,
        /// The record of the request; `None` if it waited already.
        receipt: Option<Receipt>,
    },
    /// There is no such request, or it is over for more than a day.
    #[error("there is no such request for approval; the list has those that are kept")]
    ApprovalNotFound,
    /// Whoever asks cannot approve.
    #[error(
        "whoever made the request cannot approve it, whatever certificate is shown; somebody else can"
    )]
    ApprovalOwn,
    /// It was approved or rejected before, or nobody did in time.
    #[error(
        "the request is {state}, and nothing becomes of it any more; ask anew if it is still wanted"
    )]
    ApprovalClosed {
        /// What became of it.
        state: &'static str,
    },
    /// The etag is not that of the request.
    #[error("the etag is not that of this request; look at what is asked for, and state its etag")]
    ApprovalAltered,
    /// What the request is about is not what it was.
    #[error("the request is outdated, because {0}; ask anew")]
    ApprovalOutdated(&'static str),
    /// Another change won; nothing of this one happened.
    #[error("another change of the same key came first; try again")]
    Conflict,
    /// The permit does not cover what was asked for.
    #[error("the permit does not cover this call")]
    NotPermitted,
    /// A record in the store does not parse, or its parts contradict each other.
    #[error("the store is corrupt: {0}")]
    Corrupt(&'static str),
    /// The change is in the store, but the process ends before its audit record is written; the
    /// next start writes it, and from then on the change counts.
    #[error("the sidecar stops before the change is recorded; its next start does it: look first")]
    Unacknowledged,
    /// Store and audit log do not tell of the same changes.
    #[error(transparent)]
    Mismatch(#[from] Mismatch),
    /// Too many data keys and changes are being made at the same time.
    #[error("too many data keys and changes are being made; try again in a moment")]
    Busy,
    /// A service key does not open.
    #[error(transparent)]
    Keyring(#[from] crate::keyring::KeyringError),
    /// The journal does not work.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The store does not work.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A transaction did not happen, or may not have.
    #[error(transparent)]
    Txn(TxnError),
    /// The operating system has no randomness.
    #[error(transparent)]
    Random(#[from] RandomError),
    /// The process is stopping.
    #[error("the sidecar is stopping")]
    Stopping,
}

/// What is lost with a version, or that the number that was stated is wrong.
fn would_be_lost(data_keys: u64) -> String {
    match data_keys {
        0 => {
            "the version wraps no data key, and the call says that some would be lost: look at the \
              version again, and state none"
                .to_owned()
        }
        1 => {
            "the version wraps 1 data key, and whatever it protects would be lost for good: rewrap \
              it first, or repeat the number"
                .to_owned()
        }
        many => format!(
            "the version wraps {many} data keys, and whatever they protect would be lost for good: \
             rewrap them first, or repeat their number"
        ),
    }
}

impl From<TxnError> for KeyError {
    fn from(error: TxnError) -> Self {
        match error {
            TxnError::Conflict { .. } => Self::Conflict,
            other => Self::Txn(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_be_lost_is_said_as_it_is() {
        let said = |data_keys| KeyError::DataKeysWouldBeLost { data_keys }.to_string();
        assert!(said(0).starts_with("the version wraps no data key, and the call says"));
        assert!(said(1).starts_with("the version wraps 1 data key, and whatever it protects"));
        assert!(said(2).starts_with("the version wraps 2 data keys, and whatever they protect"));
        let window = KeyError::ShredWindow { least: 24 * 3600, most: 90 * 24 * 3600 };
        assert!(window.to_string().ends_with("24 to 2160 hours"), "{window}");
    }
}
