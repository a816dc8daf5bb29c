//! Why a caller asks: recorded and seen by policy, never bound to a ciphertext.

use std::fmt;
use std::sync::Arc;

use crate::malformed::{Malformed, MalformedReason};
use crate::name::{MAX_LABEL_BYTES, checked};
use crate::row::is_hyphenated_uuid;

/// The purpose a caller states, at most 128 bytes; empty if none was stated.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Purpose(Arc<str>);

/// The ticket a caller names, at most 128 bytes; empty if none was named.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Ticket(Arc<str>);

impl Purpose {
    /// # Errors
    /// `PURPOSE_INVALID` past 128 bytes or with control characters.
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        checked(text, "purpose", MAX_LABEL_BYTES, true, MalformedReason::PurposeInvalid)?;
        Ok(Self(Arc::from(text)))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Ticket {
    /// # Errors
    /// `TICKET_INVALID` past 128 bytes or with control characters.
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        checked(text, "ticket", MAX_LABEL_BYTES, true, MalformedReason::TicketInvalid)?;
        Ok(Self(Arc::from(text)))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for Purpose {
    fn default() -> Self {
        Self(Arc::from(""))
    }
}

impl Default for Ticket {
    fn default() -> Self {
        Self(Arc::from(""))
    }
}

/// Why a caller asks.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct AccessReason {
    /// The purpose.
    pub purpose: Purpose,
    /// The ticket.
    pub ticket: Ticket,
}

/// A caller's id for a mutation: a UUID in lower case with hyphens. The same id gives the same
/// answer for 24 hours, per principal and method.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RequestId(Arc<str>);

impl RequestId {
    /// Parses an id; the empty text means that none was given.
    ///
    /// # Errors
    /// `REQUEST_ID_INVALID` unless it is a UUID in lower case with hyphens.
    pub fn parse(text: &str) -> Result<Option<Self>, Malformed> {
        if text.is_empty() {
            return Ok(None);
        }
        if !is_hyphenated_uuid(text) || text.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(Malformed::new(
                MalformedReason::RequestIdInvalid,
                "a request id is a UUID in lower case with hyphens",
            ));
        }
        Ok(Some(Self(Arc::from(text))))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
