//! What is left of a rule once the caller, the action and the field are known.
//!
//! What a rule says is never worked out here, except for `&&`, `||`, `!` and `if`: each part that
//! is known is made a rule of its own, and Cedar is asked.

use serde_json::{Value, json};

use crate::cedar::{Rules, Truth};
use crate::explain::only;
use crate::request::Request;

/// What is left of a condition.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Residual {
    Holds,
    Fails,
    /// It cannot be evaluated, whatever the call states.
    Errs(String),
    /// It depends on what the call states.
    Depends(Open),
}

/// A condition that depends on what is not known.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Open {
    /// In Cedar's JSON form.
    pub(crate) body: Value,
    /// Whether there may be calls for which it cannot be evaluated.
    pub(crate) may_err: bool,
}

/// What is known of a call.
pub(crate) struct Known<'a> {
    pub(crate) rules: &'a Rules,
    /// A call like it: what is not known of it is never asked for.
    pub(crate) request: Request<'a>,
    /// Whether its key is known.
    pub(crate) key: bool,
    /// The action part of the rule: it says which attributes there are.
    pub(crate) rule: &'a Value,
}

impl Known<'_> {
    /// What is left of all conditions of the rule together.
    pub(crate) fn conditions(&self) -> Residual {
        let all = self.rule.get("conditions").and_then(Value::as_array);
        let mut left = Residual::Holds;
        for condition in all.into_iter().flatten() {
            let body = condition.get("body").unwrap_or(&Value::Null);
            let next = match condition.get("kind").and_then(Value::as_str) {
                Some("unless") => not(self.left_of(body)),
                _ => self.left_of(body),
            };
            left = and(left, next);
        }
        left
    }

    fn left_of(&self, body: &Value) -> Residual {
        if !self.is_open(body) {
            return self.ask(body);
        }
        let part = |of: &Value, name: &str| of.get(name).map(|part| self.left_of(part));
        if let Some(both) = body.get("&&") {
            if let (Some(left), Some(right)) = (part(both, "left"), part(both, "right")) {
                return and(left, right);
            }
        } else if let Some(either) = body.get("||") {
            if let (Some(left), Some(right)) = (part(either, "left"), part(either, "right")) {
                return not(and(not(left), not(right)));
            }
        } else if let Some(inner) = body.get("!").and_then(|not| part(not, "arg")) {
            return not(inner);
        } else if let Some(choice) = body.get("if-then-else") {
            match part(choice, "if") {
                Some(Residual::Holds) => return part(choice, "then").unwrap_or(Residual::Fails),
                Some(Residual::Fails) => return part(choice, "else").unwrap_or(Residual::Fails),
                Some(Residual::Errs(error)) => return Residual::Errs(error),
                _ => {}
            }
        }
        Residual::Depends(Open { may_err: self.may_err(body), body: body.clone() })
    }

    /// Whether an expression speaks about what is not known.
    fn is_open(&self, part: &Value) -> bool {
        // What has no shape that is known here is never answered.
        let Some((kind, of)) = expression(part) else { return true };
        match (kind, of.as_str()) {
            ("Value", _) => false,
            ("Var", Some("context")) => true,
            ("Var", Some("resource")) => !self.key,
            ("Var", _) => false,
            _ if !self.key && is_of_the_field(part) => false,
            _ => parts(kind, of).any(|part| self.is_open(part)),
        }
    }

    /// Whether an expression that is not evaluated here holds one that cannot be evaluated: arithmetic that
    /// overflows, or an attribute of somebody whom the policy only names.
    fn may_err(&self, part: &Value) -> bool {
        let Some((kind, of)) = expression(part) else { return true };
        let whole = ["==", "!=", "<", "<=", ">", ">=", "in", "like", "contains"];
        match kind {
            "Value" | "Var" => false,
            _ if whole.contains(&kind) && !self.is_open(part) => {
                matches!(self.ask(part), Residual::Errs(_))
            }
            "+" | "-" | "*" | "neg" => true,
            "." if of.get("left").and_then(expression).is_none_or(|(left, _)| may_lack(left)) => {
                true
            }
            _ => parts(kind, of).any(|part| self.may_err(part)),
        }
    }

    fn ask(&self, body: &Value) -> Residual {
        let condition = json!({ "kind": "when", "body": body });
        match self.rules.probe(only(self.rule, "action", Some(condition)), &self.request) {
            Some((Truth::Holds, _)) => Residual::Holds,
            Some((Truth::Fails, _)) => Residual::Fails,
            Some((Truth::Errs(error), _)) => Residual::Errs(error),
            None => Residual::Errs("the request does not fit the schema".to_owned()),
        }
    }
}

/// Whether what an attribute is taken of may be somebody whom the policy only names.
fn may_lack(kind: &str) -> bool {
    !matches!(kind, "Var" | "Record")
}

/// The kind of an expression in Cedar's JSON form, and what it is made of.
fn expression(part: &Value) -> Option<(&str, &Value)> {
    let object = part.as_object().filter(|object| object.len() == 1)?;
    object.iter().next().map(|(kind, of)| (kind.as_str(), of))
}

/// The expressions in one. Names stand beside them: of attributes, of types, and of the fields of a record
/// literal, which may be any word.
fn parts<'a>(kind: &str, of: &'a Value) -> impl Iterator<Item = &'a Value> {
    let (list, object) = (of.as_array(), of.as_object());
    let is_record = kind == "Record";
    let named = object.into_iter().flatten().filter(move |(name, _)| {
        is_record || !matches!(name.as_str(), "attr" | "entity_type" | "pattern")
    });
    list.into_iter().flatten().chain(named.map(|(_, part)| part))
}

/// `resource.table`, `resource has table`, those of `column`, and `resource is Field`, which are known
/// without the key.
fn is_of_the_field(part: &Value) -> bool {
    let of = |operation: &Value| operation.get("left").and_then(|left| left.get("Var")).cloned();
    let resource = Some(json!("resource"));
    if let Some(attribute) = part.get(".").or_else(|| part.get("has")) {
        let name = attribute.get("attr").and_then(Value::as_str);
        return of(attribute) == resource && matches!(name, Some("table" | "column"));
    }
    part.get("is").is_some_and(|is| of(is) == resource && is.get("in").is_none())
}

/// Both, of which the second is not evaluated if the first fails.
pub(crate) fn and(left: Residual, right: Residual) -> Residual {
    use Residual::{Depends, Errs, Fails, Holds};
    match (left, right) {
        (Holds, right) => right,
        (Errs(error), _) => Errs(error),
        (Fails, _) => Fails,
        (left, Holds) => left,
        (Depends(open), Fails) if !open.may_err => Fails,
        (Depends(open), Fails) => Depends(open_and(open, json!({ "Value": false }), false)),
        (Depends(open), Errs(_)) => Depends(open_and(open, json!({ "Value": false }), true)),
        (Depends(open), Depends(other)) => Depends(open_and(open, other.body, other.may_err)),
    }
}

fn open_and(left: Open, right: Value, may_err: bool) -> Open {
    Open {
        body: json!({ "&&": { "left": left.body, "right": right } }),
        may_err: left.may_err || may_err,
    }
}

fn not(of: Residual) -> Residual {
    match of {
        Residual::Holds => Residual::Fails,
        Residual::Fails => Residual::Holds,
        Residual::Errs(error) => Residual::Errs(error),
        Residual::Depends(open) => {
            Residual::Depends(Open { body: negated(&open.body), may_err: open.may_err })
        }
    }
}

/// What holds where a condition does not.
pub(crate) fn negated(body: &Value) -> Value {
    let sides = |of: &Value| Some((of.get("left")?.clone(), of.get("right")?.clone()));
    let both = |name: &str| body.get(name).and_then(sides);
    if let Some((left, right)) = both("==") {
        return json!({ "!=": { "left": left, "right": right } });
    }
    if let Some((left, right)) = both("!=") {
        return json!({ "==": { "left": left, "right": right } });
    }
    if let Some((left, right)) = both("&&") {
        return json!({ "||": { "left": negated(&left), "right": negated(&right) } });
    }
    if let Some((left, right)) = both("||") {
        return json!({ "&&": { "left": negated(&left), "right": negated(&right) } });
    }
    match body.get("!").and_then(|not| not.get("arg")) {
        Some(inner) => inner.clone(),
        None => json!({ "!": { "arg": body } }),
    }
}
