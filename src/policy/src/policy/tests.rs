//! What a policy decides, what it refuses to load, and what it remembers.

mod deciding;
mod expecting;
mod explaining;
mod loading;
mod permits;
mod remembering;
mod who_can;

use fieldseal_model::{
    AccessReason, Action, CertificateId, Column, EndUser, ExtraContext, Field, KeyName, Partition,
    PartitionClass, Principal, Purpose, Table, Ticket,
};

use super::Policy;
use crate::{Denial, Permit, PolicyErrors, Request, Subject};

/// A request that owns its parts.
#[derive(Debug, Clone, PartialEq)]
struct Wish {
    principal: String,
    action: Action,
    key: Option<String>,
    named_partition: bool,
    table: Option<String>,
    column: Option<String>,
    purpose: String,
    ticket: String,
    end_user: Option<(String, String)>,
}

impl Wish {
    /// A request as the action wants it: about customers.email under customer-pii.
    fn new(principal: &str, action: Action) -> Self {
        let about = Subject::of(action);
        let field = |text: &str| (about == Subject::Column).then(|| text.to_owned());
        Self {
            principal: principal.to_owned(),
            action,
            key: (about != Subject::Installation).then(|| "customer-pii".to_owned()),
            named_partition: false,
            table: field("customers"),
            column: field("email"),
            purpose: String::new(),
            ticket: String::new(),
            end_user: None,
        }
    }

    fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    fn decided_by(&self, policy: &Policy) -> Result<Permit, Denial> {
        self.ask(|request| policy.decide(request))
    }

    fn ask<T>(&self, with: impl FnOnce(&Request<'_>) -> T) -> T {
        let principal = Principal::parse(&self.principal).unwrap();
        let key = self.key.as_deref().map(|key| KeyName::parse(key).unwrap());
        let table = self.table.as_deref().map(|table| Table::parse(table).unwrap());
        let column = self.column.as_deref().map(|column| Column::parse(column).unwrap());
        let reason = AccessReason {
            purpose: Purpose::parse(&self.purpose).unwrap(),
            ticket: Ticket::parse(&self.ticket).unwrap(),
            end_user: self.end_user.as_ref().map(|(issuer, subject)| {
                EndUser::new(issuer.as_str().into(), subject.as_str().into(), [7; 16])
            }),
        };
        with(&Request {
            principal: &principal,
            action: self.action,
            key: key.as_ref(),
            partition: match self.named_partition {
                true => PartitionClass::Named,
                false => PartitionClass::Default,
            },
            table: table.as_ref(),
            column: column.as_ref(),
            reason: &reason,
        })
    }
}

/// A decision in short: the rule that permits, or cause and rule of the denial.
fn short(decision: &Result<Permit, Denial>) -> Result<String, (&'static str, Option<String>)> {
    match decision {
        Ok(permit) => Ok(permit.rule().to_owned()),
        Err(denial) => Err((denial.cause().as_str(), denial.rule().map(ToOwned::to_owned))),
    }
}

fn no_rule() -> Result<String, (&'static str, Option<String>)> {
    Err(("NO_RULE", None))
}

fn forbidden(rule: &str) -> Result<String, (&'static str, Option<String>)> {
    Err(("FORBIDDEN", Some(rule.to_owned())))
}

fn not_evaluated(rule: Option<&str>) -> Result<String, (&'static str, Option<String>)> {
    Err(("EVALUATION_ERROR", rule.map(ToOwned::to_owned)))
}

fn permitted(rule: &str) -> Result<String, (&'static str, Option<String>)> {
    Ok(rule.to_owned())
}

/// A policy of one rule file and no roles.
fn rules(text: &str) -> Policy {
    Policy::from_texts([("rules.cedar", text)]).unwrap_or_else(|e| panic!("{e}"))
}

/// Why these files are no policy, one line a problem.
fn refused(files: &[(&str, &str)]) -> Vec<String> {
    let errors: PolicyErrors = Policy::from_texts(files.iter().copied()).unwrap_err();
    errors.problems().iter().map(ToString::to_string).collect()
}

fn field(key: &str, table: &str, column: &str) -> Field {
    Field {
        key: KeyName::parse(key).unwrap(),
        table: Table::parse(table).unwrap(),
        column: Column::parse(column).unwrap(),
        extra: ExtraContext::default(),
    }
}

fn partition(text: &str) -> Partition {
    Partition::parse(text).unwrap()
}
