//! What nests too deep is refused before anybody parses it.

use super::*;
use crate::Policy;

/// A rule with this condition, from its second line on.
fn rule(condition: &str) -> String {
    format!("@id(\"x\") permit (principal, action, resource)\nwhen {{ {condition} }};\n")
}

fn loaded(text: &str) -> Result<Policy, String> {
    Policy::from_texts([("rules.cedar", text)]).map_err(|e| e.to_string())
}

fn nested(levels: usize) -> String {
    format!("{}principal.kind == \"cn\"{}", "(".repeat(levels), ")".repeat(levels))
}

fn chain(operators: usize) -> String {
    format!("principal.kind == \"cn\"{}", " || principal.kind == \"dns\"".repeat(operators))
}

#[test]
fn what_nests_too_deep_is_refused_with_its_line_however_deep_it_is() {
    let x = "principal.kind == \"cn\"";
    let shapes: [&dyn Fn(usize) -> String; 9] = [
        &nested,
        &|n| format!("{}{x}", "!(".repeat(n)),
        &|n| format!("{}1", "-".repeat(n)),
        &|n| format!("{}true", "! ".repeat(n)),
        &|n| format!("{}{x}{}", "[".repeat(n), "]".repeat(n)),
        &|n| format!("{}{x}{}", "{a: ".repeat(n), "}".repeat(n)),
        &|n| format!("{}{x}", "if true then false else ".repeat(n)),
        &|n| format!("{}{x}{}", "if ".repeat(n), " then true else false".repeat(n)),
        &|n| format!("{}{x}", "(]".repeat(n)),
    ];
    for (at, shape) in shapes.iter().enumerate() {
        for levels in [51, 200, 800, 50_000] {
            let refused = loaded(&rule(&shape(levels))).unwrap_err();
            assert!(refused.starts_with("rules.cedar:2:"), "{at}: {refused}");
            assert!(refused.contains("nest deeper than 50"), "{at}: {refused}");
        }
    }
}

#[test]
fn a_long_row_is_refused_too() {
    let rows: [&dyn Fn(usize) -> String; 5] = [
        &chain,
        &|n| format!("true{}", " && true".repeat(n)),
        &|n| format!("1{} == 2", " + 1".repeat(n)),
        &|n| format!("context{}", ".a".repeat(n)),
        &|n| format!("context{}", "[\"a\"]".repeat(n)),
    ];
    for (at, row) in rows.iter().enumerate() {
        for links in [201, 30_000] {
            let refused = loaded(&rule(&row(links))).unwrap_err();
            assert!(refused.starts_with("rules.cedar:2:"), "{at}: {refused}");
            assert!(refused.contains("more than 200 operators"), "{at}: {refused}");
        }
    }
    let clauses = format!("{};", rule("true").trim_end_matches([';', '\n']).to_owned());
    let clauses = clauses.replace(';', &" when { true }".repeat(30_000));
    assert!(loaded(&clauses).unwrap_err().contains("more than 200 operators"));
}

#[test]
fn what_is_just_not_too_deep_is_loaded_and_decides() {
    use fieldseal_model::{AccessReason, Action, Principal};
    // A thread of a runtime has no more stack than this.
    let asked = std::thread::Builder::new().stack_size(2 * 1024 * 1024).spawn(|| {
        for condition in [nested(49), chain(195), format!("{}({})", "!!".repeat(2), chain(180))] {
            let policy = loaded(&rule(&condition)).unwrap();
            let principal = Principal::parse("cn:somebody").unwrap();
            let request = crate::Request {
                principal: &principal,
                action: Action::GetStatus,
                key: None,
                partition: fieldseal_model::PartitionClass::Default,
                table: None,
                column: None,
                reason: &AccessReason::default(),
            };
            assert!(policy.decide(&request).is_ok(), "{policy:?}");
        }
    });
    asked.unwrap().join().unwrap();
}

#[test]
fn strings_comments_and_lists_are_not_deep() {
    let deep = "(".repeat(200);
    let names: Vec<_> = (0..2_000).map(|n| format!("\"{n}\"")).collect();
    let text = format!(
        "// {deep}\n{}{}",
        rule(&format!("principal.kind != \"\\\"{deep}\\\\\" // {deep}\n")),
        rule(&format!("[{}].contains(principal.kind)", names.join(", "))).replace("\"x\"", "\"y\"")
    );
    assert!(loaded(&text).is_ok(), "{:?}", loaded(&text).err());
    let rules: String =
        (0..600).map(|n| rule(&nested(3)).replace("\"x\"", &format!("\"r{n}\""))).collect();
    assert!(loaded(&rules).is_ok(), "{:?}", loaded(&rules).err());
}

#[test]
fn a_schema_that_nests_too_deep_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let deep = format!("entity A {{ a: {}Long{} }};", "Set<".repeat(30_000), ">".repeat(30_000));
    std::fs::write(dir.path().join(SCHEMA_FILE), deep).unwrap();
    std::fs::write(dir.path().join("rules.cedar"), rule(&nested(1))).unwrap();
    let settings = crate::Settings { dir: dir.path().to_owned() };
    let warnings = Policy::check(&settings, None).unwrap().warnings;
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].message.contains("nest deeper than 50"), "{warnings:?}");
}
