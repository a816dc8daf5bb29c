//! What the store keeps of a request for approval.

use std::time::Duration;

use fieldseal_crypto::token::TokenKey;
use fieldseal_model::{
    AccessReason, Action, KeyName, Partition, PartitionClass, Principal, Purpose, Ticket,
    Timestamp, VersionNumber, hex,
};
use prost::Message;

use super::{Approval, ApprovalState, ID_BYTES, OfLog, WHAT};
use crate::error::KeyError;
use crate::request::digest;

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ApprovalRecord {
    #[prost(bytes = "vec", tag = "1")]
    pub(super) id: Vec<u8>,
    #[prost(string, tag = "2")]
    pub(super) requester: String,
    #[prost(uint32, tag = "3")]
    pub(super) action: u32,
    #[prost(string, tag = "4")]
    pub(super) key: String,
    #[prost(uint32, tag = "5")]
    pub(super) version: u32,
    #[prost(string, tag = "6")]
    pub(super) partition: String,
    #[prost(uint64, optional, tag = "7")]
    pub(super) window_nanos: Option<u64>,
    #[prost(uint64, tag = "8")]
    pub(super) data_keys_lost: u64,
    #[prost(string, tag = "9")]
    pub(super) purpose: String,
    #[prost(string, tag = "10")]
    pub(super) ticket: String,
    /// The revision of what it is about: of the key, or of the partition.
    #[prost(uint64, tag = "11")]
    pub(super) bound_to: u64,
    #[prost(sfixed64, tag = "12")]
    pub(super) created_at: i64,
    #[prost(sfixed64, tag = "13")]
    pub(super) expires_at: i64,
    /// 1 pending, 2 approved, 3 rejected, 4 expired.
    #[prost(uint32, tag = "14")]
    pub(super) state: u32,
    /// Who approved or rejected it.
    #[prost(string, tag = "15")]
    pub(super) decider: String,
    /// The life of the installation in which it was made: none outlives a restore.
    #[prost(bytes = "vec", tag = "16")]
    pub(super) incarnation: Vec<u8>,
    /// Until when it waits, on the installation's own clock, in nanoseconds.
    #[prost(uint64, tag = "17")]
    pub(super) due: u64,
    /// Of a change of the audit log, whom it is about: 1 a partition, 2 a row, 3 an end user, 4 everybody,
    /// 5 segments.
    #[prost(uint32, tag = "18")]
    pub(super) log_subject: u32,
    /// Its token.
    #[prost(bytes = "vec", tag = "19")]
    pub(super) log_token: Vec<u8>,
    /// Of calls before.
    #[prost(sfixed64, tag = "20")]
    pub(super) log_end: i64,
    /// Whether that is the moment of the request itself.
    #[prost(bool, tag = "21")]
    pub(super) log_end_is_open: bool,
    /// How many records it was about then.
    #[prost(uint64, tag = "22")]
    pub(super) log_records: u64,
    /// How many of their fields, or how many segments.
    #[prost(uint64, tag = "23")]
    pub(super) log_parts: u64,
}

/// When a request is looked at.
pub(super) struct Moment {
    /// The time of day.
    pub(super) at: Timestamp,
    /// The installation's own clock.
    pub(super) seen: Duration,
    /// The life of the installation.
    pub(super) incarnation: [u8; 16],
}

pub(super) const PENDING: u32 = 1;
pub(super) const APPROVED: u32 = 2;
pub(super) const REJECTED: u32 = 3;
pub(super) const EXPIRED: u32 = 4;

impl ApprovalRecord {
    pub(super) fn name(&self) -> String {
        hex::encode(&self.id)
    }

    pub(super) fn note(&self) -> String {
        format!("approvals/{}, requested by {}", self.name(), self.requester)
    }

    /// Over everything that is asked for, by whom and until when, and not over what became of it.
    fn etag(&self) -> String {
        let asked = Self { state: PENDING, decider: String::new(), ..self.clone() };
        let hash = digest(&[b"fieldseal/v1/approval", &asked.encode_to_vec()]);
        hex::encode(hash.get(..ID_BYTES * 2).unwrap_or(&hash))
    }

    /// Whether both ask for the same, in the same words, of the same state.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        let bare = |record: &Self| Self {
            id: Vec::new(),
            created_at: 0,
            expires_at: 0,
            due: 0,
            // What is counted anew each time.
            log_end: if record.log_end_is_open { 0 } else { record.log_end },
            log_records: 0,
            log_parts: 0,
            ..record.clone()
        };
        bare(self) == bare(other)
    }

    pub(super) fn state(&self, now: &Moment) -> Result<ApprovalState, KeyError> {
        match self.state {
            PENDING if self.is_late(now) => Ok(ApprovalState::Expired),
            PENDING => Ok(ApprovalState::Pending),
            APPROVED => Ok(ApprovalState::Approved),
            REJECTED => Ok(ApprovalState::Rejected),
            EXPIRED => Ok(ApprovalState::Expired),
            _ => Err(KeyError::Corrupt(WHAT)),
        }
    }

    /// Whether its time is over by either clock, or it is of a life before a restore. A clock that was
    /// turned back behind its beginning gives nobody more time.
    pub(super) fn is_late(&self, now: &Moment) -> bool {
        let at = now.at.unix_nanos();
        let is_over = at < self.created_at || at >= self.expires_at;
        is_over || now.seen >= Duration::from_nanos(self.due) || self.is_of_another(now)
    }

    /// Whether it was made before a restore.
    pub(super) fn is_of_another(&self, now: &Moment) -> bool {
        self.incarnation != now.incarnation
    }

    /// Whether it expired that long ago by either clock.
    pub(super) fn is_late_by(&self, while_: Duration, now: &Moment) -> bool {
        let expired = Timestamp::from_unix_nanos(self.expires_at);
        let due = Duration::from_nanos(self.due);
        now.at >= expired.plus(while_) || now.seen >= due.saturating_add(while_)
    }

    pub(super) fn view(&self, now: &Moment, tokens: &TokenKey) -> Result<Approval, KeyError> {
        let corrupt = |_| KeyError::Corrupt(WHAT);
        let action = u8::try_from(self.action).ok().and_then(Action::from_code);
        let decider = (!self.decider.is_empty()).then(|| Principal::parse(&self.decider));
        let partition = match action {
            Some(Action::ShredPartition) => {
                Some(Partition::parse(&self.partition).map_err(corrupt)?)
            }
            _ => None,
        };
        let log = OfLog::read(self)?;
        let key = log.is_none().then(|| KeyName::parse(&self.key));
        let named = partition.as_ref().filter(|p| p.class() == PartitionClass::Named);
        Ok(Approval {
            partition_token: named.map(|partition| tokens.partition(partition)),
            id: self.name(),
            etag: self.etag(),
            state: self.state(now)?,
            action: action.ok_or(KeyError::Corrupt(WHAT))?,
            key: key.transpose().map_err(corrupt)?,
            log,
            version: VersionNumber::new(self.version),
            data_keys_lost: self.data_keys_lost,
            partition,
            window: self.window_nanos.map(Duration::from_nanos),
            requester: Principal::parse(&self.requester).map_err(corrupt)?,
            reason: AccessReason {
                purpose: Purpose::parse(&self.purpose).map_err(corrupt)?,
                ticket: Ticket::parse(&self.ticket).map_err(corrupt)?,
                end_user: None,
            },
            created_at: Timestamp::from_unix_nanos(self.created_at),
            expires_at: Timestamp::from_unix_nanos(self.expires_at),
            decider: decider.transpose().map_err(corrupt)?,
        })
    }
}
