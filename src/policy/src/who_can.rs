//! Who may do something, worked out from the rules and the members.
//!
//! Callers whom no rule tells apart are asked about once: those with the same roles and the same
//! kind of name. Whoever is named by a rule is asked about alone, and one caller whom nothing names
//! stands for all others.

use std::collections::{BTreeMap, BTreeSet};

use fieldseal_model::{
    AccessReason, Action, Column, KeyName, PartitionClass, Principal, PrincipalKind, Table,
};
use serde_json::{Value, json};

use crate::cedar::{Rules, Truth, Written};
use crate::explain::{condition_of, conjuncts, only};
use crate::request::{Request, Subject};
use crate::residual::{Known, Open, Residual, and, negated};
use crate::wording::plain;

/// What is asked about.
#[derive(Debug, Clone)]
pub struct Question {
    /// The actions.
    pub actions: Vec<Action>,
    /// The key; `None` for every key, and for calls about the installation.
    pub key: Option<KeyName>,
    /// The table and the column, for calls about one.
    pub field: Option<(Table, Column)>,
    /// What the sidecar takes callers' names from; `None` if that is not known.
    pub kind: Option<PrincipalKind>,
}

/// Callers who may do it alike, as far as one rule permits it.
#[derive(Debug, Clone, PartialEq)]
pub struct Grant {
    /// Who.
    pub callers: Callers,
    /// Their roles, by name.
    pub roles: Vec<String>,
    /// Which of the actions.
    pub actions: Vec<Action>,
    /// The key under which; `None` for every one that the conditions allow.
    pub key: Option<KeyName>,
    /// The rule that permits it.
    pub rule: String,
    /// What a call must state besides. All of it; none: they may, whatever they state.
    pub conditions: Vec<Condition>,
}

/// Why a part is taken for one that cannot be evaluated.
const UNASKED: &str = "no such call can be made";

/// Who a grant is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Callers {
    /// These, sorted.
    Named(Vec<Principal>),
    /// Every caller of this kind whom neither a rule nor `members.toml` names.
    Others(PrincipalKind),
}

/// What a call must state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// In words where there are some, otherwise as in Cedar.
    pub text: String,
    /// In Cedar; empty if it is that a rule can be evaluated.
    pub cedar: String,
    /// The rule that wants it: the one that permits, or one that forbids calls without it.
    pub rule: String,
}

/// A caller who stands for some.
struct Profile {
    callers: Callers,
    roles: Vec<String>,
    example: Principal,
}

/// Everybody who may, by rule and then by caller.
pub(crate) fn who_can(rules: &Rules, question: &Question) -> Vec<Grant> {
    let written: Vec<Written<'_>> = rules.written().collect();
    let mut grants: Vec<Grant> = Vec::new();
    for profile in profiles(rules, &written, question.kind) {
        let mut merged: BTreeMap<(String, Option<String>, String), Grant> = BTreeMap::new();
        for &action in question.actions.iter().filter(|action| profile.can_call(**action)) {
            let asking = Asking { rules, written: &written, question, profile: &profile, action };
            for grant in asking.grants() {
                let conditions: Vec<_> =
                    grant.conditions.iter().map(|c| format!("{}: {}", c.rule, c.text)).collect();
                let key = grant.key.as_ref().map(ToString::to_string);
                let same = (grant.rule.clone(), key, conditions.join("\n"));
                let all = merged.entry(same).or_insert(Grant { actions: Vec::new(), ..grant });
                all.actions.push(action);
            }
        }
        grants.extend(merged.into_values());
    }
    grants
}

/// The actions of a name: one action's, or a group's. None: there is no such name.
pub(crate) fn actions_of(rules: &Rules, name: &str) -> Vec<Action> {
    if let Some(action) = Action::from_name(name) {
        return vec![action];
    }
    let entity = json!({ "type": "Action", "id": name });
    let head = json!({ "action": { "op": "in", "entity": entity } });
    let sample = stranger(PrincipalKind::Local, 0).and_then(|who| Sample::new(who, None, None));
    let is_one = |action: &Action| {
        let sample = sample.as_ref();
        sample.is_some_and(|s| holds(rules, only(&head, "action", None), &s.request(*action)))
    };
    Action::ALL.iter().copied().filter(is_one).collect()
}

/// The parts of a call: those that are asked about, and some that stand for any.
struct Sample {
    principal: Principal,
    key: KeyName,
    table: Table,
    column: Column,
    reason: AccessReason,
}

impl Sample {
    fn new(
        principal: Principal,
        key: Option<&KeyName>,
        field: Option<&(Table, Column)>,
    ) -> Option<Self> {
        let key = key.cloned().map_or_else(|| KeyName::parse("any").ok(), Some)?;
        let any = || Some((Table::parse("any").ok()?, Column::parse("any").ok()?));
        let (table, column) = field.cloned().map_or_else(any, Some)?;
        Some(Self { principal, key, table, column, reason: AccessReason::default() })
    }

    fn request(&self, action: Action) -> Request<'_> {
        let about = Subject::of(action);
        let of_field = about == Subject::Column;
        Request {
            principal: &self.principal,
            action,
            key: (about != Subject::Installation).then_some(&self.key),
            partition: PartitionClass::Default,
            table: of_field.then_some(&self.table),
            column: of_field.then_some(&self.column),
            reason: &self.reason,
        }
    }
}

fn holds(rules: &Rules, rule: Value, request: &Request<'_>) -> bool {
    matches!(rules.probe(rule, request), Some((Truth::Holds, _)))
}

impl Profile {
    /// Offline commands come from a user of the machine, and calls from nobody else.
    fn can_call(&self, action: Action) -> bool {
        use Action as A;
        let backups = matches!(action, A::CreateBackup | A::PruneBackups);
        let offline = matches!(
            action,
            A::Recover
                | A::RootDrill
                | A::RootRotate
                | A::RootRewrap
                | A::RestoreBackup
                | A::BackupDrill
                | A::Repair
        );
        match self.example.as_str().starts_with("local:") {
            true => offline || backups,
            false => !offline,
        }
    }
}

/// Everybody whom the rules may tell apart.
fn profiles(rules: &Rules, written: &[Written<'_>], kind: Option<PrincipalKind>) -> Vec<Profile> {
    let mut named = BTreeSet::new();
    written.iter().for_each(|rule| principals_of(&rule.json, &mut named));
    let mut alike: BTreeMap<(Vec<String>, String), Vec<Principal>> = BTreeMap::new();
    let literal: Vec<Principal> = named.iter().filter_map(|p| Principal::parse(p).ok()).collect();
    let members = rules.principals().filter(|p| !named.contains(p.as_str())).cloned();
    for principal in members {
        let kind = principal.as_str().split(':').next().unwrap_or_default().to_owned();
        alike.entry((rules.roles(&principal), kind)).or_default().push(principal);
    }
    let alone = literal.into_iter().map(|principal| vec![principal]);
    let mut found: Vec<Profile> = alone
        .chain(alike.into_values())
        .filter_map(|mut callers| {
            callers.sort_by(|a, b| a.as_str().cmp(b.as_str()));
            let example = callers.first()?.clone();
            let roles = rules.roles(&example);
            Some(Profile { callers: Callers::Named(callers), roles, example })
        })
        .collect();
    let kinds = match kind {
        Some(kind) => vec![kind, PrincipalKind::Local],
        None => vec![
            PrincipalKind::Spiffe,
            PrincipalKind::Dns,
            PrincipalKind::CommonName,
            PrincipalKind::Local,
        ],
    };
    let taken: BTreeSet<_> = rules.principals().map(|p| p.as_str().to_owned()).collect();
    found.extend(kinds.into_iter().filter_map(|kind| {
        let example =
            (0..=u64::MAX).filter_map(|number| stranger(kind, number)).find(|principal| {
                !named.contains(principal.as_str()) && !taken.contains(principal.as_str())
            })?;
        Some(Profile { callers: Callers::Others(kind), roles: Vec::new(), example })
    }));
    found
}

/// Somebody whom presumably nothing names.
fn stranger(kind: PrincipalKind, number: u64) -> Option<Principal> {
    let name = match kind {
        PrincipalKind::Spiffe => format!("spiffe://other.invalid/{number}"),
        PrincipalKind::Dns => format!("other-{number}.invalid"),
        PrincipalKind::CommonName => format!("other {number}"),
        PrincipalKind::Local => number.to_string(),
    };
    Principal::new(kind, &name).ok()
}

/// Every principal that some rule names.
pub(crate) fn named(rules: &Rules) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    rules.written().for_each(|rule| principals_of(&rule.json, &mut found));
    found
}

/// Every principal that a rule names.
fn principals_of(part: &Value, found: &mut BTreeSet<String>) {
    match part {
        Value::Array(parts) => parts.iter().for_each(|part| principals_of(part, found)),
        Value::Object(parts) => {
            let is = parts.get("type").and_then(Value::as_str) == Some("Principal");
            if let Some(id) = parts.get("id").and_then(Value::as_str).filter(|_| is) {
                found.insert(id.to_owned());
            }
            parts.values().for_each(|part| principals_of(part, found));
        }
        _ => {}
    }
}

/// One action of callers who are alike.
struct Asking<'a> {
    rules: &'a Rules,
    written: &'a [Written<'a>],
    question: &'a Question,
    profile: &'a Profile,
    action: Action,
}

impl Asking<'_> {
    fn grants(&self) -> Vec<Grant> {
        let about: Vec<&Written<'_>> =
            self.written.iter().filter(|rule| self.head(rule, "action", None)).collect();
        let permits = about.iter().filter(|rule| rule.permits);
        permits.filter_map(|rule| self.grant(rule, &about)).collect()
    }

    fn grant(&self, permit: &Written<'_>, about: &[&Written<'_>]) -> Option<Grant> {
        let key = match (&self.question.key, Subject::of(self.action)) {
            (_, Subject::Installation) => None,
            (Some(key), _) => Some(key.clone()),
            (None, _) => key_of(&permit.json),
        };
        let mut conditions = Vec::new();
        match self.left(permit, key.as_ref()) {
            Residual::Holds => {}
            Residual::Depends(open) => self.wanted(permit, &open.body, &mut conditions),
            Residual::Fails | Residual::Errs(_) => return None,
        }
        for rule in about {
            match self.left(rule, key.as_ref()) {
                Residual::Holds if !rule.permits => return None,
                // A rule that cannot be evaluated refuses, whatever the others say.
                Residual::Errs(_) => return None,
                Residual::Depends(open) => {
                    if !rule.permits {
                        self.wanted(rule, &negated(&open.body), &mut conditions);
                    }
                    if open.may_err {
                        let text = format!("a call for which {} can be evaluated", rule.name);
                        let (cedar, rule) = (String::new(), rule.name.to_owned());
                        conditions.push(Condition { text, cedar, rule });
                    }
                }
                Residual::Holds | Residual::Fails => {}
            }
        }
        Some(Grant {
            callers: self.profile.callers.clone(),
            roles: self.profile.roles.clone(),
            actions: Vec::new(),
            key,
            rule: permit.name.to_owned(),
            conditions,
        })
    }

    /// What is left of a rule under a key, or under one that is not known.
    fn left(&self, rule: &Written<'_>, key: Option<&KeyName>) -> Residual {
        if !self.head(rule, "principal", None) {
            return Residual::Fails;
        }
        let own = key_of(&rule.json);
        if !self.head(rule, "resource", key.or(own.as_ref())) {
            return Residual::Fails;
        }
        let installation = Subject::of(self.action) == Subject::Installation;
        let Some(sample) = self.sample(key) else { return Residual::Errs(UNASKED.to_owned()) };
        let (request, known) = (sample.request(self.action), key.is_some() || installation);
        let known = Known { rules: self.rules, request, key: known, rule: &rule.json };
        let conditions = known.conditions();
        match (own, key) {
            (Some(own), None) => {
                let entity = json!({ "__entity": { "type": "Key", "id": own.as_str() } });
                let (left, right) = (json!({ "Var": "resource" }), json!({ "Value": entity }));
                let body = json!({ "in": { "left": left, "right": right } });
                and(Residual::Depends(Open { body, may_err: false }), conditions)
            }
            _ => conditions,
        }
    }

    /// Whether a part of a rule's head holds.
    fn head(&self, rule: &Written<'_>, part: &str, key: Option<&KeyName>) -> bool {
        self.sample(key).is_some_and(|sample| {
            holds(self.rules, only(&rule.json, part, None), &sample.request(self.action))
        })
    }

    fn sample(&self, key: Option<&KeyName>) -> Option<Sample> {
        Sample::new(self.profile.example.clone(), key, self.question.field.as_ref())
    }

    /// Everything that a condition wants, part by part.
    fn wanted(&self, rule: &Written<'_>, body: &Value, conditions: &mut Vec<Condition>) {
        let mut parts = Vec::new();
        conjuncts(body, &mut parts);
        for part in parts {
            let body = part.get("body").cloned().unwrap_or_default();
            let text = self.sample(None).and_then(|sample| {
                let rule = only(&rule.json, "action", Some(part));
                self.rules.probe(rule, &sample.request(self.action))
            });
            let cedar = text.map_or_else(|| body.to_string(), |(_, text)| condition_of(&text));
            let text = plain(&body).unwrap_or_else(|| cedar.clone());
            let condition = Condition { text, cedar, rule: rule.name.to_owned() };
            if !conditions.iter().any(|other| other.cedar == condition.cedar) {
                conditions.push(condition);
            }
        }
    }
}

/// The key that a rule's head names.
fn key_of(rule: &Value) -> Option<KeyName> {
    let head = rule.get("resource")?;
    let entity = head.get("entity").or_else(|| head.get("in")?.get("entity"))?;
    let id = entity.get("id")?.as_str()?;
    match entity.get("type")?.as_str()? {
        "Key" => KeyName::parse(id).ok(),
        // The name of a field begins with that of its key, which has no slash.
        "Field" => KeyName::parse(id.split('/').next()?).ok(),
        _ => None,
    }
}
