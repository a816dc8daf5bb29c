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

/// The person or client behind a calling service, as an issuer's signed token names them. Only what
/// has checked such a token makes one.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct EndUser {
    issuer: Arc<str>,
    subject: Arc<str>,
    token: [u8; 16],
}

impl EndUser {
    /// Most bytes of an issuer's name, and of a subject.
    pub const MAX_BYTES: usize = 255;

    /// The end user that `issuer` calls `subject`; `token` is what the audit log holds instead.
    #[must_use]
    pub fn new(issuer: Arc<str>, subject: Arc<str>, token: [u8; 16]) -> Self {
        Self { issuer, subject, token }
    }

    /// Who vouches: `iss`.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Who it is: `sub`, which may name a person. Policy sees it, no record and no log line does.
    #[must_use]
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// The keyed token of issuer and subject.
    #[must_use]
    pub const fn token(&self) -> &[u8; 16] {
        &self.token
    }
}

impl fmt::Debug for EndUser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EndUser").field("issuer", &self.issuer).finish_non_exhaustive()
    }
}

/// Why a caller asks, and for whom.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct AccessReason {
    /// The purpose.
    pub purpose: Purpose,
    /// The ticket.
    pub ticket: Ticket,
    /// The end user, where the caller showed a token that holds.
    pub end_user: Option<EndUser>,
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
