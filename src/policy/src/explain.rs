//! Why a call is allowed or refused, for the people who write the rules.
//!
//! What a rule says is never worked out here: each part of it is made a rule of its own, and Cedar
//! is asked.

use serde_json::{Value, json};

use crate::cedar::{Rules, Truth, Written};
use crate::permit::{Denial, Permit};
use crate::request::Request;

/// Most rules that are said to have nearly matched.
const MAX_NEAR: usize = 5;

/// Why a call is allowed or refused.
#[derive(Debug)]
pub struct Explanation {
    /// The decision, as [`crate::Policy::decide`] makes it.
    pub decision: Result<Permit, Denial>,
    /// The roles of the caller, by name.
    pub roles: Vec<String>,
    /// The rules that decided, by name: those that permit it, those that forbid it, or those that
    /// could not be evaluated.
    pub rules: Vec<RuleText>,
    /// If no rule permits it: the rules that permit such an action to somebody, and what keeps each
    /// from permitting it here. Those that nearly matched come first; at most five.
    pub near: Vec<NearMiss>,
}

/// A rule as its author wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleText {
    /// Its `@id`.
    pub name: String,
    /// Its file, as the operator named its directory.
    pub file: String,
    /// Its first line, from 1.
    pub line: usize,
    /// Its text.
    pub text: String,
    /// Why it could not be evaluated, if it could not.
    pub error: Option<String>,
}

/// A rule that permits such an action, and not here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NearMiss {
    /// The rule.
    pub rule: RuleText,
    /// The parts that do not hold, as the rule has them: `principal in Role::"app"`, or the first
    /// condition that does not hold. What stands after that condition was not looked at.
    pub missing: Vec<String>,
}

/// Explains a decision that was made.
pub(crate) fn explain(
    rules: &Rules,
    request: &Request<'_>,
    decision: Result<Permit, Denial>,
) -> Explanation {
    let verdict = rules.verdict(request).unwrap_or_default();
    let mut explanation = Explanation {
        roles: rules.roles(request.principal),
        rules: Vec::new(),
        near: Vec::new(),
        decision,
    };
    let failed = |name: &str| verdict.failed.iter().find(|(failed, _)| failed == name);
    // A rule that fails refuses, whatever others permit; one that forbids is named before it.
    let forbidden = explanation.decision.as_ref().err().and_then(Denial::rule);
    let forbidden = forbidden.is_some_and(|rule| verdict.decided.iter().any(|d| d == rule));
    for rule in rules.written() {
        let error = failed(rule.name).map(|(_, error)| error.clone());
        let named = match verdict.failed.is_empty() || forbidden {
            true => verdict.decided.iter().any(|decided| decided == rule.name),
            false => error.is_some(),
        };
        if named {
            explanation.rules.push(shown(&rule, error));
        }
    }
    if explanation.rules.is_empty() {
        explanation.near = near(rules, request);
    }
    explanation
}

fn shown(rule: &Written<'_>, error: Option<String>) -> RuleText {
    let (name, file, text) = (rule.name.to_owned(), rule.file.to_owned(), rule.text.clone());
    RuleText { name, file, line: rule.line, text, error }
}

fn near(rules: &Rules, request: &Request<'_>) -> Vec<NearMiss> {
    let permits = rules.written().filter(|rule| rule.permits);
    let misses = permits.filter_map(|rule| {
        let missing = missing(rules, request, &rule)?;
        Some(NearMiss { rule: shown(&rule, None), missing })
    });
    let mut misses: Vec<_> = misses.collect();
    // Whom a rule names says more than what its conditions ask for.
    misses.sort_by_key(|miss| (miss.missing.len(), miss.rule.name.clone()));
    misses.truncate(MAX_NEAR);
    misses
}

/// The parts of a rule that do not hold; `None` for a rule about other actions.
fn missing(rules: &Rules, request: &Request<'_>, rule: &Written<'_>) -> Option<Vec<String>> {
    let alone = |part: &str| rules.probe(only(&rule.json, part, None), request);
    if !matches!(alone("action")?.0, Truth::Holds) {
        return None;
    }
    let mut missing = Vec::new();
    for part in ["principal", "resource"] {
        let (truth, text) = alone(part)?;
        if !matches!(truth, Truth::Holds) {
            missing.push(head_of(&text, part));
        }
    }
    for condition in conditions(&rule.json) {
        // The action stays: it says which attributes there are.
        let (truth, text) = rules.probe(only(&rule.json, "action", Some(condition)), request)?;
        match truth {
            Truth::Holds => continue,
            Truth::Fails => missing.push(condition_of(&text)),
            Truth::Errs(error) => missing.push(format!("{} ({error})", condition_of(&text))),
        }
        break;
    }
    Some(missing)
}

/// A permit with one part of a rule's head, and one condition.
pub(crate) fn only(rule: &Value, part: &str, condition: Option<Value>) -> Value {
    let all = json!({ "op": "All" });
    let mut made = json!({
        "effect": "permit", "principal": all, "action": all, "resource": all,
        "conditions": condition.into_iter().collect::<Vec<_>>(),
    });
    if let (Some(made), Some(part_of_rule)) = (made.as_object_mut(), rule.get(part)) {
        made.insert(part.to_owned(), part_of_rule.clone());
    }
    made
}

/// The rule's conditions in the order in which Cedar evaluates them. A `when` whose parts are joined
/// by `&&` is as many conditions as it has parts.
fn conditions(rule: &Value) -> Vec<Value> {
    let mut found = Vec::new();
    for condition in rule.get("conditions").and_then(Value::as_array).into_iter().flatten() {
        match (condition.get("kind").and_then(Value::as_str), condition.get("body")) {
            (Some("when"), Some(body)) => conjuncts(body, &mut found),
            _ => found.push(condition.clone()),
        }
    }
    found
}

pub(crate) fn conjuncts(body: &Value, found: &mut Vec<Value>) {
    let both = body.get("&&").and_then(|and| Some((and.get("left")?, and.get("right")?)));
    match both {
        Some((left, right)) => {
            conjuncts(left, found);
            conjuncts(right, found);
        }
        None => found.push(json!({ "kind": "when", "body": body })),
    }
}

/// `principal in Role::"app"` of a rule that has this part alone.
fn head_of(text: &str, part: &str) -> String {
    let text = one_line(text);
    let (_, rest) = text.split_once(part).unwrap_or(("", text.as_str()));
    let end = match part {
        "principal" => rest.rfind(", action"),
        _ => rest.rfind(')'),
    };
    format!("{part}{}", rest.get(..end.unwrap_or(rest.len())).unwrap_or(rest).trim_end())
}

/// `context.ticket != ""` of a rule that has this condition alone. An `unless` keeps its word.
pub(crate) fn condition_of(text: &str) -> String {
    let text = one_line(text);
    let rule = text.strip_suffix(';').unwrap_or(&text);
    if let Some((_, body)) = rule.split_once(" when {") {
        return body.strip_suffix('}').unwrap_or(body).trim().to_owned();
    }
    let unless = rule.find(" unless {").and_then(|at| rule.get(at + 1..));
    unless.unwrap_or(rule).to_owned()
}

/// The lines of a text, joined. What stands in quotation marks has no line ends.
fn one_line(text: &str) -> String {
    text.lines().map(str::trim).collect::<Vec<_>>().join(" ")
}
