//! Request ids: for 24 hours the same id from the same caller, for the same method and the same
//! question, gives the same answer instead of a second change.

use std::time::Duration;

use fieldseal_model::{RequestId, Timestamp};
use fieldseal_policy::Permit;
use fieldseal_store::{Path, Txn, Versioned};
use prost::Message;

use crate::error::KeyError;
use crate::keys::Inner;
use crate::records::{REQUEST, RequestRecord, decode};

/// How long the same request id gives the same answer.
const REQUEST_LIFETIME: Duration = Duration::from_secs(24 * 3600);
/// Records that a new request looks at, and removes if they are older than that: more than the one
/// that it adds, so that what is outdated does not pile up.
const LOOKED_AT: usize = 8;

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
    /// Records of other requests that are too old to count, each with its revision.
    others: Vec<(Path, u64)>,
}

impl NewRequest {
    /// Adds the record of the answer, if the request has an id. The same request made twice at the
    /// same time is a conflict for one of them.
    pub(crate) fn answer(self, txn: Txn, at: Timestamp, answer: &impl Message) -> Txn {
        let Some(Slot { path, outdated, digest, others }) = self.0 else { return txn };
        let record = RequestRecord {
            digest: digest.to_vec(),
            at: at.unix_nanos(),
            answer: answer.encode_to_vec(),
        };
        let txn = match outdated {
            None => txn.absent(path.clone()),
            Some(revision) => txn.at(path.clone(), revision),
        };
        let remove =
            |txn: Txn, (path, revision): (Path, u64)| txn.at(path.clone(), revision).delete(path);
        others.into_iter().fold(txn.put(path, record.encode_to_vec()), remove)
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
        let outdated = match found {
            None => None,
            Some(found) => {
                let record = decode_request(&found)?;
                if !self.is_outdated(&record) {
                    if record.digest != digest {
                        return Err(KeyError::RequestIdReused);
                    }
                    let revision = found.revision;
                    return Ok(Asked::Before(Answered { revision, answer: record.answer }));
                }
                Some(found.revision)
            }
        };
        // Housekeeping: what is wrong with another's record is the scrub's to find, and holds up no
        // change.
        let others = self.outdated_requests(&path).await.unwrap_or_else(|error| {
            tracing::debug!(%error, "outdated request ids are left where they are");
            *self.requests_up_to.lock() = None;
            Vec::new()
        });
        Ok(Asked::New(NewRequest(Some(Slot { path, outdated, digest, others }))))
    }

    fn is_outdated(&self, record: &RequestRecord) -> bool {
        self.clock.now().since(Timestamp::from_unix_nanos(record.at)) >= REQUEST_LIFETIME
    }

    /// Of the next few records those that are too old to count, but for this one.
    async fn outdated_requests(&self, own: &Path) -> Result<Vec<(Path, u64)>, KeyError> {
        let after = self.requests_up_to.lock().clone();
        let prefix = self.store.prefix(REQUEST, &[]);
        let page = self.store.range(&prefix, after.as_ref(), LOOKED_AT).await?;
        *self.requests_up_to.lock() = page.next;
        let mut outdated = Vec::new();
        for (path, found) in page.entries {
            if path != *own && self.is_outdated(&decode_request(&found)?) {
                outdated.push((path, found.revision));
            }
        }
        Ok(outdated)
    }
}

fn decode_request(found: &Versioned) -> Result<RequestRecord, KeyError> {
    decode("a request's record", &found.value)
}
