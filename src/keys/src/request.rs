//! Request ids: for 24 hours the same id from the same caller, for the same method and the same
//! question, gives the same answer instead of a second change.

use std::time::Duration;

use fieldseal_model::{RequestId, Timestamp};
use fieldseal_policy::Permit;
use fieldseal_store::{Path, Txn};
use prost::Message;

use crate::error::KeyError;
use crate::keys::Inner;
use crate::records::{REQUEST, RequestRecord, decode};

/// How long the same request id gives the same answer.
const REQUEST_LIFETIME: Duration = Duration::from_secs(24 * 3600);

/// What a request id came to.
pub(crate) enum Asked {
    /// It was answered before.
    Before(Answered),
    /// It is new, too old to count, or there is none.
    New(NewRequest),
}

/// The answer that a request id had.
pub(crate) struct Answered {
    /// The revision of the change that it made: both were written by one transaction.
    pub(crate) revision: u64,
    /// What the method keeps of its answer.
    answer: Vec<u8>,
}

impl Answered {
    /// The answer, as [`NewRequest::answer`] was given it.
    pub(crate) fn decode<M: Message + Default>(&self) -> Result<M, KeyError> {
        decode("a request's answer", &self.answer)
    }
}

/// A request that is to be answered. Its record goes into the transaction that it makes.
pub(crate) struct NewRequest(Option<Slot>);

struct Slot {
    path: Path,
    /// The revision of a record that is too old to count.
    outdated: Option<u64>,
    digest: [u8; 32],
}

impl NewRequest {
    /// Adds the record of the answer, if the request has an id. The same request made twice at the
    /// same time is a conflict for one of them.
    pub(crate) fn answer(self, txn: Txn, at: Timestamp, answer: &impl Message) -> Txn {
        let Some(Slot { path, outdated, digest }) = self.0 else { return txn };
        let record = RequestRecord {
            digest: digest.to_vec(),
            at: at.unix_nanos(),
            answer: answer.encode_to_vec(),
        };
        let txn = match outdated {
            None => txn.absent(path.clone()),
            Some(revision) => txn.at(path.clone(), revision),
        };
        txn.put(path, record.encode_to_vec())
    }
}

/// What a request asks for, every part of it: the same id with another digest is refused.
pub(crate) fn digest(parts: &[&[u8]]) -> [u8; 32] {
    fieldseal_crypto::sha256(&[&fieldseal_crypto::pae::encode(parts)])
}

impl Inner {
    /// Looks a request id up. The method is the action that the permit is for.
    ///
    /// # Errors
    /// `RequestIdReused` if it was used for another question; the store's trouble.
    pub(crate) async fn asked(
        &self,
        permit: &Permit,
        id: Option<&RequestId>,
        digest: [u8; 32],
    ) -> Result<Asked, KeyError> {
        let Some(id) = id else { return Ok(Asked::New(NewRequest(None))) };
        let method = permit.action().as_str().as_bytes();
        let parts = [permit.principal().as_str().as_bytes(), method, id.as_str().as_bytes()];
        let path = self.store.path(REQUEST, &parts);
        let found = self.store.get(&path).await?;
        let new = |outdated| Ok(Asked::New(NewRequest(Some(Slot { path, outdated, digest }))));
        let Some(found) = found else { return new(None) };
        let record: RequestRecord = decode("a request's record", &found.value)?;
        if self.clock.now().since(Timestamp::from_unix_nanos(record.at)) >= REQUEST_LIFETIME {
            return new(Some(found.revision));
        }
        if record.digest != digest {
            return Err(KeyError::RequestIdReused);
        }
        Ok(Asked::Before(Answered { revision: found.revision, answer: record.answer }))
    }
}
