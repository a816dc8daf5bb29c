//! The backups that hold data keys, and how often the installation was put back from one.

use fieldseal_audit::{ChangeEvent, ChangedBy, Kind as Recorded, Receipt};
use fieldseal_model::Timestamp;
use fieldseal_store::{Kind, Txn};
use prost::Message;

use crate::error::KeyError;
use crate::keys::{Inner, Keys};
use crate::records::{BACKUP, COUNTS, CountsRecord, DATA_KEY, DataKeyFacts, INCARNATION, decode};

/// Most backups that are known at the same time: a transaction forgets the others.
const PAGE: usize = 64;

/// A backup that was made and may still exist. It holds every data key that was made up to its
/// revision and not removed before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownBackup {
    /// The name of its files.
    pub name: String,
    /// The store's revision that it holds.
    pub revision: u64,
    /// When it was made.
    pub created_at: Timestamp,
    /// Until when it is kept.
    pub expires_at: Timestamp,
}

#[derive(Clone, PartialEq, Message)]
struct BackupRecord {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(uint64, tag = "2")]
    revision: u64,
    #[prost(sfixed64, tag = "3")]
    created_at: i64,
    #[prost(sfixed64, tag = "4")]
    expires_at: i64,
}

/// Which life of the installation this is.
#[derive(Clone, PartialEq, Message)]
struct IncarnationRecord {
    #[prost(uint64, tag = "1")]
    number: u64,
    /// Random, so that two restores of the same backup are told apart.
    #[prost(bytes = "vec", tag = "2")]
    id: Vec<u8>,
    #[prost(sfixed64, tag = "3")]
    at: i64,
}

/// Which life of an installation it is: 1 until it is restored from a backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Incarnation {
    /// Counted from 1.
    pub number: u64,
    /// Tells two restores of the same backup apart; zeroes for the first life.
    pub id: [u8; 16],
}

impl Incarnation {
    /// The life in which an installation is made.
    pub const FIRST: Self = Self { number: 1, id: [0; 16] };

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, KeyError> {
        const WHAT: &str = "the incarnation";
        let record: IncarnationRecord = decode(WHAT, bytes)?;
        let id = record.id.as_slice().try_into().map_err(|_| KeyError::Corrupt(WHAT))?;
        Ok(Self { number: record.number, id })
    }
}

impl Keys {
    /// Every backup that may still exist, the oldest first.
    ///
    /// # Errors
    /// The store's trouble.
    pub async fn known_backups(&self) -> Result<Vec<KnownBackup>, KeyError> {
        let store = &self.inner.store;
        let (mut known, mut after) = (Vec::new(), None);
        loop {
            let page = store.range(&store.prefix(BACKUP, &[]), after.as_ref(), PAGE).await?;
            for (_, found) in &page.entries {
                let record: BackupRecord = decode("a backup's record", &found.value)?;
                known.push(KnownBackup {
                    name: record.name,
                    revision: record.revision,
                    created_at: Timestamp::from_unix_nanos(record.created_at),
                    expires_at: Timestamp::from_unix_nanos(record.expires_at),
                });
            }
            after = page.next;
            if after.is_none() {
                known.sort_by_key(|backup| (backup.created_at, backup.revision));
                return Ok(known);
            }
        }
    }

    /// How many data keys were made after this moment, or ever; and when the first of those was, as
    /// far as it was looked at.
    ///
    /// # Errors
    /// The store's trouble.
    pub async fn data_keys_since(
        &self,
        since: Option<Timestamp>,
    ) -> Result<(u64, Option<Timestamp>), KeyError> {
        let store = &self.inner.store;
        let class = if since.is_some() { DATA_KEY } else { COUNTS };
        let (mut count, mut oldest, mut after) = (0_u64, None, None);
        loop {
            let page = store.range(&store.prefix(class, &[]), after.as_ref(), PAGE).await?;
            for (_, found) in &page.entries {
                let Some(since) = since else {
                    let counts: CountsRecord = decode("the counts of a key version", &found.value)?;
                    count = count.saturating_add(counts.data_keys);
                    continue;
                };
                let made = DataKeyFacts::of(found)?.created_at;
                if made > since {
                    count = count.saturating_add(1);
                    oldest = oldest.into_iter().chain([made]).min();
                }
            }
            after = page.next;
            if after.is_none() {
                return Ok((count, oldest));
            }
        }
    }

    /// Which life of the installation this is.
    ///
    /// # Errors
    /// The store's trouble.
    pub async fn incarnation(&self) -> Result<Incarnation, KeyError> {
        self.inner.incarnation().await
    }

    /// Makes a backup known, before it exists, and forgets those that are gone.
    ///
    /// # Errors
    /// Trouble of journal and store.
    pub async fn backup_made(
        &self,
        by: ChangedBy<'_>,
        backup: &KnownBackup,
        gone: &[String],
        note: &str,
    ) -> Result<Receipt, KeyError> {
        let record = BackupRecord {
            name: backup.name.clone(),
            revision: backup.revision,
            created_at: backup.created_at.unix_nanos(),
            expires_at: backup.expires_at.unix_nanos(),
        };
        let gone = gone.iter().take(PAGE).map(String::clone).collect::<Vec<_>>();
        let put = (BACKUP, backup.name.clone().into_bytes(), record.encode_to_vec());
        self.inner.installation_change(by, Recorded::BackupCreated, note, put, gone).await
    }

    /// Puts on record that a backup is over and goes now, and by whom. It stays known until the next one is made,
    /// which finds that it is gone.
    ///
    /// # Errors
    /// Trouble of journal and store.
    pub async fn backup_over(&self, by: ChangedBy<'_>, name: &str) -> Result<Receipt, KeyError> {
        let event = ChangeEvent::new(by, self.inner.clock.now(), Recorded::BackupPruned, None)
            .note(&format!("removed {name}: its time is over"));
        let ledger = self.inner.ledger.clone();
        let commit = async move { Ok(ledger.commit(event, |txn| txn).await?.receipt) };
        self.inner.finish(commit).await
    }

    /// Begins the next life of the installation: it was put back from a backup.
    ///
    /// # Errors
    /// Trouble of journal and store.
    pub async fn restored(&self, by: ChangedBy<'_>, note: &str) -> Result<Receipt, KeyError> {
        let before = self.incarnation().await?;
        let id: [u8; 16] = fieldseal_crypto::random::array()?;
        let record = IncarnationRecord {
            number: before.number.saturating_add(1),
            id: id.to_vec(),
            at: self.inner.clock.now().unix_nanos(),
        };
        let put = (INCARNATION, Vec::new(), record.encode_to_vec());
        self.inner.installation_change(by, Recorded::BackupRestored, note, put, Vec::new()).await
    }
}

impl Inner {
    pub(crate) async fn incarnation(&self) -> Result<Incarnation, KeyError> {
        match self.store.get(&self.store.path(INCARNATION, &[])).await? {
            Some(found) => Incarnation::decode(&found.value),
            None => Ok(Incarnation::FIRST),
        }
    }

    async fn installation_change(
        &self,
        by: ChangedBy<'_>,
        kind: Recorded,
        note: &str,
        (class, name, value): (Kind, Vec<u8>, Vec<u8>),
        gone: Vec<String>,
    ) -> Result<Receipt, KeyError> {
        let event = ChangeEvent::new(by, self.clock.now(), kind, None).note(note);
        let (store, ledger) = (self.store.clone(), self.ledger.clone());
        let commit = async move {
            let committed = ledger
                .commit(event, |txn: Txn| {
                    let parts: Vec<&[u8]> = match name.is_empty() {
                        true => Vec::new(),
                        false => vec![&name],
                    };
                    let txn = txn.put(store.path(class, &parts), value);
                    gone.iter()
                        .fold(txn, |txn, name| txn.delete(store.path(BACKUP, &[name.as_bytes()])))
                })
                .await?;
            Ok(committed.receipt)
        };
        self.finish(commit).await
    }
}
