//! Why a call is allowed or refused.

use super::*;
use crate::Explanation;

const SUPPORT: &str = "@id(\"support-reads-email\")\n\
    permit (\n\
        principal in Role::\"support\",\n\
        action in Action::\"decrypt\",\n\
        resource in Key::\"customer-pii\"\n\
    ) when {\n\
        resource.table == \"customers\" && resource.column == \"email\" &&\n\
        context.ticket != \"\"\n\
    } unless { context.purpose == \"marketing\" };\n";
const MEMBERS: &str = "support = [\"dns:support.test\"]\n";

fn support(more: &str) -> Policy {
    let rules = format!("// What support may see.\n\n{SUPPORT}{more}");
    Policy::from_texts([("support.cedar", rules.as_str()), ("members.toml", MEMBERS)])
        .unwrap_or_else(|e| panic!("{e}"))
}

fn good() -> Wish {
    Wish::new("dns:support.test", Action::Decrypt).with(|w| w.ticket = "CASE-1".into())
}

fn explained(policy: &Policy, wish: &Wish) -> Explanation {
    let explanation = wish.ask(|request| policy.explain(request));
    assert_eq!(short(&explanation.decision), short(&wish.decided_by(policy)));
    explanation
}

/// The rules that nearly matched, each with what does not hold.
fn near(policy: &Policy, wish: &Wish) -> Vec<(String, Vec<String>)> {
    let near = explained(policy, wish).near;
    near.into_iter().map(|miss| (miss.rule.name, miss.missing)).collect()
}

fn alone(missing: &[&str]) -> Vec<(String, Vec<String>)> {
    let missing = missing.iter().map(|part| (*part).to_owned()).collect();
    vec![("support-reads-email".to_owned(), missing)]
}

#[test]
fn a_rule_that_permits_is_named_with_its_place_and_text() {
    let found = explained(&support(""), &good());
    assert_eq!(short(&found.decision), permitted("support-reads-email"));
    assert_eq!(found.roles, ["support"]);
    assert!(found.near.is_empty());
    let [rule] = found.rules.as_slice() else { panic!("{found:?}") };
    assert_eq!((rule.file.as_str(), rule.line), ("support.cedar", 3));
    assert_eq!(rule.text, SUPPORT.trim_end());
}

#[test]
fn the_one_part_that_does_not_hold_is_named_as_its_rule_has_it() {
    type Change = fn(&mut Wish);
    let table: [(Change, &[&str]); 8] = [
        (|w| w.principal = "dns:other".into(), &["principal in Role::\"support\""]),
        (|w| w.key = Some("x".into()), &["resource in Key::\"customer-pii\""]),
        (|w| w.table = Some("x".into()), &["resource.table == \"customers\""]),
        (|w| w.column = Some("x".into()), &["resource.column == \"email\""]),
        (|w| w.ticket.clear(), &["context.ticket != \"\""]),
        (|w| w.purpose = "marketing".into(), &["unless { context.purpose == \"marketing\" }"]),
        // What stands after a condition that does not hold is not looked at, as Cedar does not.
        (
            |w| (w.table, w.ticket) = (Some("x".into()), String::new()),
            &["resource.table == \"customers\""],
        ),
        (
            |w| (w.principal, w.ticket) = ("dns:other".into(), String::new()),
            &["principal in Role::\"support\"", "context.ticket != \"\""],
        ),
    ];
    let policy = support("");
    for (change, missing) in table {
        let wish = good().with(change);
        assert_eq!(near(&policy, &wish), alone(missing), "{wish:?}");
        assert_eq!(short(&wish.decided_by(&policy)), no_rule());
    }
}

#[test]
fn a_rule_about_other_actions_did_not_nearly_match() {
    let policy = support("");
    for action in [Action::Encrypt, Action::RotateKey, Action::GetStatus] {
        let found = explained(&policy, &Wish::new("dns:support.test", action));
        assert!(found.near.is_empty() && found.rules.is_empty(), "{found:?}");
    }
}

#[test]
fn what_is_nearest_comes_first_and_not_everything_comes() {
    let more: String = (0..9)
        .map(|n| {
            format!(
                "@id(\"far-{n}\") permit (principal == Principal::\"dns:far\", action, resource)\n\
                 when {{ context.purpose == \"far\" }};\n"
            )
        })
        .collect();
    let found = near(&support(&more), &good().with(|w| w.ticket.clear()));
    assert_eq!(found.len(), 5);
    assert_eq!(found[..1], alone(&["context.ticket != \"\""]));
}

#[test]
fn every_rule_that_forbids_is_named_and_none_that_permits() {
    let policy = support(
        "@id(\"z-never\") forbid (principal, action, resource);\n\
         @id(\"never-email\") forbid (principal, action, resource is Field)\n\
         when { resource.column == \"email\" };\n\
         @id(\"never-iban\") forbid (principal, action, resource is Field)\n\
         when { resource.column == \"iban\" };\n",
    );
    let found = explained(&policy, &good());
    assert_eq!(short(&found.decision), forbidden("never-email"));
    let named: Vec<_> = found.rules.iter().map(|rule| rule.name.as_str()).collect();
    assert_eq!(named, ["never-email", "z-never"]);
    assert!(found.near.is_empty());
}

#[test]
fn a_rule_that_cannot_be_evaluated_is_named_with_its_error() {
    let policy = support(
        "@id(\"broken\") permit (principal, action, resource)\n\
         when { 9223372036854775807 + 1 == 0 };\n",
    );
    let found = explained(&policy, &good());
    assert_eq!(short(&found.decision), not_evaluated(Some("broken")));
    let [rule] = found.rules.as_slice() else { panic!("{found:?}") };
    assert!(rule.error.as_ref().is_some_and(|error| error.contains("overflow")), "{rule:?}");
}

#[test]
fn a_name_that_looks_like_a_rule_is_shown_as_it_is() {
    let policy = rules(
        "@id(\"odd\") permit (principal == Principal::\"cn:a, action) when {\", action, resource)\n\
         when { context.purpose == \"} when {  ;\" };",
    );
    let found = near(&policy, &good());
    let missing =
        ["principal == Principal::\"cn:a, action) when {\"", "context.purpose == \"} when {  ;\""];
    assert_eq!(found, [("odd".to_owned(), missing.map(str::to_owned).to_vec())]);
}

/// Every rule's parts together say what the whole rule says.
#[test]
fn nothing_is_missing_exactly_where_a_rule_permits() {
    let policy = support("");
    let mut seen = [0, 0];
    for bits in 0..64_u32 {
        let wish = good().with(|w| {
            if bits & 1 != 0 {
                w.principal = "dns:other".into();
            }
            if bits & 2 != 0 {
                w.key = Some("x".into());
            }
            if bits & 4 != 0 {
                w.table = Some("x".into());
            }
            if bits & 8 != 0 {
                w.ticket.clear();
            }
            if bits & 16 != 0 {
                w.purpose = "marketing".into();
            }
            if bits & 32 != 0 {
                w.action = Action::BatchDecrypt;
            }
        });
        let found = explained(&policy, &wish);
        let allowed = found.decision.is_ok();
        assert_eq!(found.near.is_empty(), allowed, "{wish:?}");
        assert!(found.near.iter().all(|miss| !miss.missing.is_empty()), "{wish:?}");
        seen[usize::from(allowed)] += 1;
    }
    assert_eq!(seen, [62, 2]);
}
