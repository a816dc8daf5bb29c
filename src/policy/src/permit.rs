//! The proofs: what was allowed, and what was not.

use std::fmt;
use std::sync::Arc;

use fieldseal_model::{
    Action, ActionKind, Column, Field, KeyName, Partition, PartitionClass, Principal, Table,
};

use crate::request::Asked;

/// Proof that a rule allows one principal one action on one field, key or installation. Made only
/// by [`crate::Policy::decide`]; whoever holds one need not ask again, and whoever acts on a key
/// must hold one. Cheap to clone.
#[derive(Clone)]
pub struct Permit(Arc<Granted>, Principal);

struct Granted {
    asked: Asked,
    rule: Arc<str>,
    generation: u64,
}

/// Proof that policy refused. Made only by [`crate::Policy::decide`]. Cheap to clone.
#[derive(Clone)]
pub struct Denial(Arc<Refused>, Principal);

struct Refused {
    asked: Asked,
    cause: DenialCause,
    rule: Option<Arc<str>>,
    generation: u64,
}

/// Why policy refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DenialCause {
    /// No rule permits it.
    NoRule,
    /// A rule forbids it.
    Forbidden,
    /// A rule could not be evaluated, or the request does not fit the action.
    EvaluationError,
}

impl DenialCause {
    /// The name in the audit log.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoRule => "NO_RULE",
            Self::Forbidden => "FORBIDDEN",
            Self::EvaluationError => "EVALUATION_ERROR",
        }
    }
}

macro_rules! what_was_asked {
    () => {
        /// Who asked, with the certificate that was shown this time.
        #[must_use]
        pub fn principal(&self) -> &Principal {
            &self.1
        }

        /// The same decision for the same caller who asks again, maybe with another certificate.
        pub(crate) fn asked_by(self, principal: &Principal) -> Self {
            Self(self.0, principal.clone())
        }

        /// For which action.
        #[must_use]
        pub fn action(&self) -> Action {
            self.0.asked.action
        }

        /// On which key.
        #[must_use]
        pub fn key(&self) -> Option<&KeyName> {
            self.0.asked.key.as_ref()
        }

        /// For which class of partition.
        #[must_use]
        pub fn partition_class(&self) -> PartitionClass {
            self.0.asked.partition
        }

        /// On which table.
        #[must_use]
        pub fn table(&self) -> Option<&Table> {
            self.0.asked.table.as_ref()
        }

        /// On which column.
        #[must_use]
        pub fn column(&self) -> Option<&Column> {
            self.0.asked.column.as_ref()
        }

        /// The generation of the policy that decided ([`crate::Policy::generation`]).
        #[must_use]
        pub fn generation(&self) -> u64 {
            self.0.generation
        }
    };
}

impl Permit {
    pub(crate) fn new(asked: Asked, rule: Arc<str>, generation: u64) -> Self {
        let principal = asked.principal.clone();
        Self(Arc::new(Granted { asked, rule, generation }), principal)
    }

    what_was_asked!();

    /// The rule that permits it: the `@id` of the policy, the first by name if several permit it.
    #[must_use]
    pub fn rule(&self) -> &str {
        &self.0.rule
    }

    /// True if this permits exactly this action on this field in this partition: key, table, column
    /// and class of the partition are those that were asked for.
    #[must_use]
    pub fn covers(&self, action: Action, field: &Field, partition: &Partition) -> bool {
        self.0.asked.action == action && self.covers_field(field, partition)
    }

    /// The same for a floor that does not tell a unary call from a batch: true if the permitted
    /// action is of this kind.
    #[must_use]
    pub fn covers_kind(&self, kind: ActionKind, field: &Field, partition: &Partition) -> bool {
        self.0.asked.action.kind() == kind && self.covers_field(field, partition)
    }

    /// True if this permits exactly this action on this key as a whole.
    #[must_use]
    pub fn covers_key(&self, action: Action, key: &KeyName) -> bool {
        let asked = &self.0.asked;
        asked.action == action
            && asked.key.as_ref() == Some(key)
            && asked.table.is_none()
            && asked.column.is_none()
    }

    /// True if this permits exactly this action on this partition under this key: as far as policy
    /// sees it, which is its class.
    #[must_use]
    pub fn covers_partition(&self, action: Action, key: &KeyName, partition: &Partition) -> bool {
        self.covers_key(action, key) && self.0.asked.partition == partition.class()
    }

    fn covers_field(&self, field: &Field, partition: &Partition) -> bool {
        let asked = &self.0.asked;
        asked.key.as_ref() == Some(&field.key)
            && asked.table.as_ref() == Some(&field.table)
            && asked.column.as_ref() == Some(&field.column)
            && asked.partition == partition.class()
    }
}

impl Denial {
    pub(crate) fn new(
        asked: Asked,
        cause: DenialCause,
        rule: Option<Arc<str>>,
        generation: u64,
    ) -> Self {
        let principal = asked.principal.clone();
        Self(Arc::new(Refused { asked, cause, rule, generation }), principal)
    }

    what_was_asked!();

    /// Why.
    #[must_use]
    pub fn cause(&self) -> DenialCause {
        self.0.cause
    }

    /// The rule that forbids it, or that could not be evaluated; the first by name if there are
    /// several. `None` if no rule permits it or the request does not fit the action.
    #[must_use]
    pub fn rule(&self) -> Option<&str> {
        self.0.rule.as_deref()
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit")
            .field("asked", &self.0.asked)
            .field("rule", &self.0.rule)
            .field("generation", &self.0.generation)
            .finish()
    }
}

impl fmt::Debug for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Denial")
            .field("asked", &self.0.asked)
            .field("cause", &self.0.cause)
            .field("rule", &self.0.rule)
            .field("generation", &self.0.generation)
            .finish()
    }
}
