//! A rewrap's record in the store.

use std::fmt::Write as _;

use fieldseal_model::{KeyName, Timestamp, VersionNumber};
use fieldseal_policy::Permit;
use prost::Message;

use super::{LeftBehind, RewrapJob, RewrapState};
use crate::error::KeyError;
use crate::records;

pub(super) const WHAT: &str = "a rewrap's record";

/// `[key]`: the key's newest rewrap.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct JobRecord {
    #[prost(string, tag = "1")]
    pub(crate) key: String,
    #[prost(uint32, tag = "2")]
    target: u32,
    #[prost(uint32, tag = "3")]
    state: u32,
    #[prost(sfixed64, tag = "4")]
    pub(crate) started_at: i64,
    /// 0 while it runs.
    #[prost(sfixed64, tag = "5")]
    ended_at: i64,
    /// Data keys moved, by the transactions that moved them.
    #[prost(uint64, tag = "6")]
    pub(crate) moved: u64,
    /// Who started it.
    #[prost(string, tag = "7")]
    principal: String,
    /// The partition up to which the scan has come; absent at its beginning.
    #[prost(string, optional, tag = "8")]
    pub(crate) cursor: Option<String>,
    #[prost(uint32, tag = "9")]
    pub(crate) max_per_second: u32,
    /// At the end: data keys that should have been moved.
    #[prost(uint64, tag = "10")]
    remaining: u64,
    /// At the end: data keys that were left where they are.
    #[prost(message, repeated, tag = "11")]
    left: Vec<LeftRecord>,
    /// Why it failed.
    #[prost(string, tag = "12")]
    why: String,
}

#[derive(Clone, PartialEq, Message)]
struct LeftRecord {
    #[prost(uint32, tag = "1")]
    version: u32,
    #[prost(uint32, tag = "2")]
    state: u32,
    #[prost(uint64, tag = "3")]
    data_keys: u64,
}

impl JobRecord {
    pub(super) fn new(
        key: &KeyName,
        target: VersionNumber,
        at: Timestamp,
        max_per_second: u32,
        permit: &Permit,
    ) -> Self {
        Self {
            key: key.as_str().to_owned(),
            target: target.get(),
            state: code(RewrapState::Running),
            started_at: at.unix_nanos(),
            principal: permit.principal().as_str().to_owned(),
            max_per_second,
            ..Self::default()
        }
    }

    pub(super) fn key(&self) -> Result<KeyName, KeyError> {
        KeyName::parse(&self.key).map_err(|_| KeyError::Corrupt(WHAT))
    }

    pub(super) fn target(&self) -> Result<VersionNumber, KeyError> {
        VersionNumber::new(self.target).ok_or(KeyError::Corrupt(WHAT))
    }

    pub(super) fn state(&self) -> Result<RewrapState, KeyError> {
        const STATES: [RewrapState; 4] =
            [RewrapState::Running, RewrapState::Done, RewrapState::Cancelled, RewrapState::Failed];
        let found = STATES.into_iter().find(|state| code(*state) == self.state);
        found.ok_or(KeyError::Corrupt(WHAT))
    }

    pub(super) fn set_state(&mut self, state: RewrapState) {
        self.state = code(state);
    }

    pub(super) fn end(
        &mut self,
        state: RewrapState,
        at: Timestamp,
        remaining: u64,
        left: &[LeftBehind],
        why: &str,
    ) {
        self.set_state(state);
        self.ended_at = at.unix_nanos();
        self.cursor = None;
        self.remaining = remaining;
        self.left = left.iter().map(LeftRecord::of).collect();
        self.why = why.to_owned();
    }

    /// How it ended, for the audit log.
    pub(super) fn ending(&self) -> String {
        let state = self.state().map_or("", RewrapState::as_str);
        let mut text = format!("{state}; for {}; moved {}", self.principal, self.moved);
        if self.remaining > 0 {
            // Writing to a text does not fail.
            let _ = write!(text, "; remaining {}", self.remaining);
        }
        for left in &self.left {
            let state = records::state(left.state).map_or("", |state| state.as_str());
            let _ = write!(text, "; left {} of version {} ({state})", left.data_keys, left.version);
        }
        if !self.why.is_empty() {
            let _ = write!(text, "; {}", self.why);
        }
        text
    }

    pub(super) fn view(&self) -> Result<RewrapJob, KeyError> {
        let state = match self.state {
            0 => RewrapState::NotStarted,
            _ => self.state()?,
        };
        Ok(RewrapJob {
            key: self.key()?,
            state,
            target: self.target()?,
            moved: self.moved,
            remaining: self.remaining,
            left: self.left.iter().map(LeftRecord::view).collect::<Result<_, _>>()?,
            started_at: Timestamp::from_unix_nanos(self.started_at),
            ended_at: (self.ended_at != 0).then(|| Timestamp::from_unix_nanos(self.ended_at)),
            max_per_second: self.max_per_second,
            per_second: 0,
            failure: self.why.clone(),
        })
    }
}

impl LeftRecord {
    fn of(left: &LeftBehind) -> Self {
        Self {
            version: left.version.get(),
            state: left.state.code().into(),
            data_keys: left.data_keys,
        }
    }

    fn view(&self) -> Result<LeftBehind, KeyError> {
        Ok(LeftBehind {
            version: VersionNumber::new(self.version).ok_or(KeyError::Corrupt(WHAT))?,
            state: records::state(self.state)?,
            data_keys: self.data_keys,
        })
    }
}

const fn code(state: RewrapState) -> u32 {
    match state {
        // Never written.
        RewrapState::NotStarted => 0,
        RewrapState::Running => 1,
        RewrapState::Done => 2,
        RewrapState::Cancelled => 3,
        RewrapState::Failed => 4,
    }
}
