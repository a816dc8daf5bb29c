//! Who may do something, and what a call must state besides.

use std::collections::HashMap;

use super::*;
use crate::{Callers, Grant, Question};

/// A grant in short: who, the actions, the key, the rule, and what must be stated.
fn short_of(grant: &Grant) -> String {
    let who = match &grant.callers {
        Callers::Named(callers) => {
            callers.iter().map(Principal::as_str).collect::<Vec<_>>().join(" ")
        }
        Callers::Others(kind) => format!("others {}", kind.prefix()),
    };
    let actions: Vec<_> = grant.actions.iter().map(|action| action.as_str()).collect();
    let key = grant.key.as_ref().map_or("*", |key| key.as_str());
    let wanted: Vec<_> =
        grant.conditions.iter().map(|c| format!("{} ({})", c.text, c.rule)).collect();
    let (actions, wanted) = (actions.join(" "), wanted.join(", "));
    format!("{who} | {actions} | {key} | {} | {wanted}", grant.rule)
}

fn asked(policy: &Policy, action: &str, key: Option<&str>) -> Vec<String> {
    let question = Question {
        actions: policy.actions_of(action),
        key: key.map(|key| KeyName::parse(key).unwrap()),
        field: Some((Table::parse("users").unwrap(), Column::parse("iban").unwrap())),
        kind: Some(fieldseal_model::PrincipalKind::Spiffe),
    };
    policy.who_can(&question).iter().map(short_of).collect()
}

fn with_members(text: &str) -> Policy {
    let members = "app = [\"spiffe://d/b\", \"spiffe://d/a\"]\nsupport = [\"spiffe://d/s\"]\n";
    let roles = "@id(\"app\") permit (principal in Role::\"app\", action in Action::\"encrypt\", \
                 resource);\n@id(\"support\") permit (principal in Role::\"support\", action == \
                 Action::\"Encrypt\", resource);\n";
    Policy::from_texts([("members.toml", members), ("r.cedar", &format!("{roles}{text}"))])
        .unwrap_or_else(|e| panic!("{e}"))
}

#[test]
fn callers_who_are_alike_are_one_answer_and_a_group_is_its_actions() {
    let policy = with_members("");
    let expected = [
        "spiffe://d/a spiffe://d/b | Encrypt BatchEncrypt | * | app | ",
        "spiffe://d/s | Encrypt | * | support | ",
    ];
    assert_eq!(asked(&policy, "encrypt", None), expected);
    assert_eq!(asked(&policy, "BatchEncrypt", Some("k")).len(), 1);
    assert!(asked(&policy, "decrypt", None).is_empty());
    assert!(policy.actions_of("read").is_empty());
}

#[test]
fn what_a_call_must_state_is_said_in_words() {
    let table = [
        ("context.purpose == \"support\"", "purpose \"support\" (x)"),
        ("context.ticket != \"\"", "a ticket (x)"),
        ("\"\" == context.purpose", "no purpose (x)"),
        ("context.ticket like \"CASE-*\"", "ticket like \"CASE-*\" (x)"),
        ("[\"a\", \"b\"].contains(context.purpose)", "purpose \"a\" or purpose \"b\" (x)"),
        ("context.has_end_user", "an end user (x)"),
        ("!context.has_end_user", "no end user (x)"),
        ("context.partition == \"named\"", "a named partition (x)"),
        ("context.partition != \"named\"", "the default partition (x)"),
        ("context.end_user_issuer == \"i\"", "an end user of \"i\" (x)"),
        ("resource.key == \"k\" && resource.column == \"iban\"", "key \"k\" (x)"),
        ("resource in Key::\"k\"", "key \"k\" (x)"),
        ("resource.key != \"k\"", "a key other than \"k\" (x)"),
        ("context.ticket != \"\" && context.purpose == \"a\"", "a ticket (x), purpose \"a\" (x)"),
        ("resource.column == \"iban\" || context.ticket != \"\"", ""),
        (
            "!(context.ticket == \"\" || context.purpose == \"a\")",
            "a ticket (x), purpose other than \"a\" (x)",
        ),
        ("if resource.column == \"iban\" then context.ticket != \"\" else false", "a ticket (x)"),
        ("context.purpose == context.ticket", "context.purpose == context.ticket (x)"),
        ("context.end_user != \"u\"", "no end user, or one other than \"u\" (x)"),
        // A record's field may have any name: none makes its value a text that is known.
        (
            "{ Value: context.ticket }.Value == \"open\"",
            "{Value: context.ticket}.Value == \"open\" (x)",
        ),
        ("{ Var: context.ticket }.Var == \"open\"", "{Var: context.ticket}.Var == \"open\" (x)"),
        // Words have no brackets.
        (
            "context.ticket != \"\" || [\"a\", \"b\"].contains(context.purpose) && context.has_end_user",
            "(context.ticket != \"\") || ([\"a\", \"b\"].contains(context.purpose) && \
             context.has_end_user) (x)",
        ),
    ];
    for (condition, wanted) in table {
        let rule = format!(
            "@id(\"x\") permit (principal in Role::\"support\", action == Action::\"Decrypt\", \
             resource) when {{ {condition} }};"
        );
        let expected = format!("spiffe://d/s | Decrypt | * | x | {wanted}");
        assert_eq!(asked(&with_members(&rule), "Decrypt", None), [expected], "{condition}");
    }
    for never in
        ["resource.column == \"email\"", "principal.kind == \"dns\" && context.has_end_user"]
    {
        let rule = format!(
            "@id(\"x\") permit (principal in Role::\"support\", action == Action::\"Decrypt\", \
             resource) when {{ {never} }};"
        );
        assert!(asked(&with_members(&rule), "Decrypt", None).is_empty(), "{never}");
    }
}

/// What decrypts of users.iban may be, by rules that are there one by one.
fn decrypts(rules: &str) -> Vec<String> {
    asked(&with_members(rules), "Decrypt", None)
}

const PERMIT: &str = "@id(\"p\") permit (principal in Role::\"support\", \
                      action == Action::\"Decrypt\", resource);\n";

#[test]
fn what_forbids_it_takes_the_grant_away_or_says_what_it_wants() {
    let forbid = |head: &str, rest: &str| {
        format!(
            "{PERMIT}@id(\"f\") forbid (principal, action in Action::\"decrypt\", {head}) {rest};"
        )
    };
    let granted = |wanted: &str| vec![format!("spiffe://d/s | Decrypt | * | p | {wanted}")];
    assert_eq!(decrypts(PERMIT), granted(""));
    assert!(decrypts(&forbid("resource", "")).is_empty());
    assert!(decrypts(&forbid("resource", "when { resource.column == \"iban\" }")).is_empty());
    for (head, rest, wanted) in [
        ("resource", "when { resource.column == \"email\" }", ""),
        ("resource", "when { context.ticket == \"\" }", "a ticket (f)"),
        (
            "resource",
            "unless { context.has_end_user && context.end_user_issuer == \"i\" }",
            "an end user (f), an end user of \"i\" (f)",
        ),
        ("resource in Key::\"k\"", "", "a key other than \"k\" (f)"),
        (
            "resource in Key::\"k\"",
            "when { context.ticket == \"\" }",
            "a key other than \"k\" or a ticket (f)",
        ),
    ] {
        assert_eq!(decrypts(&forbid(head, rest)), granted(wanted), "{head} {rest}");
    }
    let policy = with_members(&forbid("resource in Key::\"k\"", ""));
    assert!(asked(&policy, "Decrypt", Some("k")).is_empty());
    assert_eq!(asked(&policy, "Decrypt", Some("other")).len(), 1);
}

#[test]
fn a_rule_that_cannot_be_evaluated_takes_every_grant_away() {
    let overflow = "9223372036854775807 + 1 == 0";
    let fails = |when: &str| {
        format!(
            "{PERMIT}@id(\"e\") permit (principal in Role::\"support\", \
                 action == Action::\"Decrypt\", resource) when {{ {when} }};"
        )
    };
    assert!(decrypts(&fails(overflow)).is_empty());
    let sometimes = decrypts(&fails(&format!("context.ticket == \"x\" && {overflow}")));
    let last = "a call for which e can be evaluated (e)";
    assert!(
        sometimes.iter().any(|grant| grant.ends_with(&format!("| p | {last}"))),
        "{sometimes:?}"
    );
    assert!(
        decrypts(&fails(&format!("context.ticket == \"x\" || {overflow}")))
            .iter()
            .all(|grant| grant.contains(last))
    );
}

#[test]
fn whoever_a_rule_names_and_everybody_else_are_said() {
    let named = decrypts(
        "@id(\"n\") permit (principal == Principal::\"spiffe://d/a\", action == Action::\"Decrypt\", \
         resource == Field::\"k/users/iban\");\n\
         @id(\"all\") permit (principal, action == Action::\"BatchDecrypt\", resource is Field in Key::\"k\");",
    );
    assert_eq!(named, ["spiffe://d/a | Decrypt | k | n | "]);
    let policy = with_members(
        "@id(\"all\") permit (principal, action in Action::\"decrypt\", resource)\n\
         unless { principal == Principal::\"spiffe://d/s\" };",
    );
    let expected = [
        "spiffe://d/a spiffe://d/b | Decrypt BatchDecrypt | * | all | ",
        "others spiffe | Decrypt BatchDecrypt | * | all | ",
        "others local | Recover | * | all | ",
    ];
    assert_eq!(asked(&policy, "decrypt", None), expected);
}

#[test]
fn calls_about_keys_and_the_installation_are_asked_about_too() {
    let policy = with_members(
        "@id(\"k\") permit (principal in Role::\"app\", action in Action::\"manage\", \
         resource in Key::\"pii\") when { context.ticket != \"\" };\n\
         @id(\"i\") permit (principal in Role::\"app\", action == Action::\"GetStatus\", \
         resource == Installation::\"this\");",
    );
    let question = |name: &str, key: Option<&str>| Question {
        actions: policy.actions_of(name),
        key: key.map(|key| KeyName::parse(key).unwrap()),
        field: None,
        kind: None,
    };
    let asked = |q: &Question| policy.who_can(q).iter().map(short_of).collect::<Vec<_>>();
    let who = "spiffe://d/a spiffe://d/b";
    let expected = [format!("{who} | RotateKey | pii | k | a ticket (k)")];
    assert_eq!(asked(&question("RotateKey", None)), expected);
    assert!(asked(&question("RotateKey", Some("other"))).is_empty());
    assert_eq!(asked(&question("GetStatus", None)), [format!("{who} | GetStatus | * | i | ")]);
}

/// What is said holds: for every call in a space of calls, one is permitted if and only if some
/// grant is about its caller, action and key, and everything that it wants holds.
#[test]
fn who_can_says_what_is_decided() {
    let texts = [
        "@id(\"a\") permit (principal in Role::\"support\", action in Action::\"decrypt\", resource) \
         when { context.purpose == \"a\" || (resource.key like \"k*\" && context.ticket != \"\") };\n\
         @id(\"b\") forbid (principal, action in Action::\"decrypt\", resource in Key::\"k\") when { !context.has_end_user \
         && context.partition == \"named\" };\n\
         @id(\"c\") permit (principal == Principal::\"spiffe://d/a\", action == Action::\"Decrypt\", \
         resource == Field::\"k/users/iban\") unless { context.ticket == \"\" };",
        "@id(\"a\") permit (principal, action in Action::\"decrypt\", resource) when { if \
         context.has_end_user then context.end_user == \"u\" else [\"a\", \"x\"].contains(context.purpose) };\n\
         @id(\"b\") forbid (principal in Role::\"app\", action == Action::\"Decrypt\", resource) unless \
         { resource.column == \"iban\" && (context.ticket like \"CASE-*\" || context.purpose == \"\") };",
        "@id(\"a\") permit (principal in Role::\"app\", action, resource);\n\
         @id(\"b\") permit (principal in Role::\"support\", action in Action::\"decrypt\", resource \
         is Field) when { context.purpose != context.ticket } unless { resource.key == \"k\" };",
        "@id(\"a\") permit (principal, action in Action::\"decrypt\", resource) when \
         { {Value: context.ticket}.Value != \"\" && {Var: resource, left: context.has_end_user}.left };\n\
         @id(\"b\") forbid (principal, action, resource) when { {Value: context.purpose}.Value \
         == \"a\" };",
    ];
    let mut seen = [0, 0];
    let mut conditions = HashMap::new();
    for text in texts {
        let policy = with_members(text);
        let mut answers = HashMap::new();
        for wish in calls() {
            let question = Question {
                actions: vec![wish.action],
                key: None,
                field: Some((Table::parse("users").unwrap(), Column::parse("iban").unwrap())),
                kind: None,
            };
            let answer = answers.entry(wish.action).or_insert_with(|| policy.who_can(&question));
            let said = answer.iter().any(|grant| covers(grant, &wish, &mut conditions));
            let decided = wish.decided_by(&policy).is_ok();
            assert_eq!(said, decided, "{wish:?}\n{text}");
            seen[usize::from(decided)] += 1;
        }
    }
    assert!(seen.iter().all(|count| *count > 100), "{seen:?}");
}

/// A call for each combination.
fn calls() -> Vec<Wish> {
    let mut all = vec![Wish::new("spiffe://d/a", Action::Decrypt).with(|wish| {
        wish.table = Some("users".into());
        wish.column = Some("iban".into());
    })];
    let mut each = |changes: &[&dyn Fn(&mut Wish)]| {
        let once = |wish: &Wish, change: &dyn Fn(&mut Wish)| wish.clone().with(|wish| change(wish));
        all = all.iter().flat_map(|w| changes.iter().map(|c| once(w, *c))).collect();
    };
    each(&[&|_| (), &|w| w.principal = "spiffe://d/s".into(), &|w| w.principal = "dns:x".into()]);
    each(&[&|_| (), &|w| w.action = Action::BatchDecrypt]);
    each(&[&|w| w.key = Some("k".into()), &|w| w.key = Some("other".into())]);
    each(&[&|_| (), &|w| w.named_partition = true]);
    each(&[&|_| (), &|w| w.purpose = "a".into(), &|w| w.purpose = "CASE-1".into()]);
    each(&[&|_| (), &|w| w.ticket = "CASE-1".into()]);
    each(&[&|_| (), &|w| w.end_user = Some(("i".into(), "u".into())), &|w| {
        w.end_user = Some(("i".into(), "v".into()));
    }]);
    all
}

fn covers(grant: &Grant, wish: &Wish, conditions: &mut HashMap<String, Policy>) -> bool {
    let caller = match &grant.callers {
        Callers::Named(callers) => callers.iter().any(|c| c.as_str() == wish.principal),
        Callers::Others(kind) => wish.principal.starts_with("dns:") && kind.prefix() == "dns",
    };
    let key = grant.key.as_ref().is_none_or(|key| Some(key.as_str()) == wish.key.as_deref());
    let mut holds = |text: &str| {
        let policy = conditions.entry(text.to_owned()).or_insert_with(|| {
            let head = "@id(\"c\") permit (principal, action in Action::\"decrypt\", resource)";
            rules(&format!("{head} when {{ {text} }};"))
        });
        wish.decided_by(policy).is_ok()
    };
    caller
        && key
        && grant.actions.contains(&wish.action)
        && grant.conditions.iter().all(|condition| holds(&condition.cedar))
}
