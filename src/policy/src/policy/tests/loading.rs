//! What is no policy.

use std::fs;

use super::*;
use fieldseal_model::PrincipalKind;

use crate::{DEFAULT_POLICY, Role, SCHEMA, Settings, default_files};

const ALL: &str = "@id(\"all\")\npermit (principal, action, resource);\n";

/// A rule file with this rule from its third line on.
fn third_line(rule: &str) -> Vec<String> {
    refused(&[("rules.cedar", &format!("{ALL}{rule}\n"))])
}

#[test]
fn no_rules_at_all_are_refused() {
    assert_eq!(
        refused(&[("members.toml", "")]),
        ["policy: there is no policy file; write at least one *.cedar file"]
    );
}

#[test]
fn broken_syntax_is_refused_with_its_line() {
    for rule in
        ["permit (principal, action);", "permit", "@id(\"x\") permit (principal, action, resource)"]
    {
        let problems = third_line(rule);
        assert!(!problems.is_empty());
        let lines: Vec<_> = problems.iter().filter(|p| p.starts_with("rules.cedar:")).collect();
        assert_eq!(lines.len(), problems.len(), "{problems:#?}");
        // What ends too early is missed on the line after it.
        assert!(
            problems
                .iter()
                .any(|p| p.starts_with("rules.cedar:3:") || p.starts_with("rules.cedar:4:")),
            "{rule}: {problems:#?}"
        );
    }
}

#[test]
fn what_the_schema_does_not_know_is_refused_with_its_line() {
    let heads = [
        "permit (principal, action == Action::\"Shred\", resource);",
        "permit (principal == User::\"a\", action, resource);",
        "permit (principal, action, resource == Database::\"a\");",
        "permit (principal, action == Action::\"Decrypt\", resource) when { resource.colour == \"x\" };",
        "permit (principal, action == Action::\"Decrypt\", resource) when { resource.table == 7 };",
        "permit (principal, action == Action::\"Decrypt\", resource) when { context.row == \"x\" };",
        "permit (principal, action == Action::\"Decrypt\", resource) when { context.ticket };",
        // Only what is about a column has a partition.
        "permit (principal, action, resource) when { context.partition == \"named\" };",
    ];
    for head in heads {
        let problems = third_line(&format!("@id(\"x\") {head}"));
        assert!(!problems.is_empty(), "{head}");
        assert!(problems.iter().all(|p| p.starts_with("rules.cedar:3:")), "{head}: {problems:#?}");
    }
}

#[test]
fn a_rule_that_can_never_apply_is_refused() {
    let never =
        "@id(\"x\") permit (principal, action == Action::\"GetKey\", resource) when { false };";
    let problems = third_line(never);
    assert!(problems.iter().any(|p| p.starts_with("rules.cedar:3:")), "{problems:#?}");
}

#[test]
fn a_rule_needs_a_name_of_its_own() {
    let plain = "permit (principal, action, resource);";
    for unnamed in
        ["", "@id", "@id(\"\")", "@id(\"Upper\")", "@id(\"9\")", "@id(\"a b\")", "@name(\"x\")"]
    {
        let problems = third_line(&format!("{unnamed} {plain}"));
        assert_eq!(problems.len(), 1, "{problems:#?}");
        assert!(problems[0].starts_with("rules.cedar:3:"), "{problems:#?}");
        assert!(problems[0].contains("must have a name"), "{problems:#?}");
    }
    let problems = refused(&[("a.cedar", ALL), ("b.cedar", &format!("\n{ALL}"))]);
    assert_eq!(
        problems,
        ["b.cedar:2:1: the name all is taken by the rule at a.cedar:1; give this one another"]
    );
}

#[test]
fn a_rule_with_slots_is_refused() {
    let problems = third_line("@id(\"x\") permit (principal == ?principal, action, resource);");
    assert!(problems.iter().any(|p| p.contains("slots")), "{problems:#?}");
}

#[test]
fn roles_that_only_one_side_knows_are_refused() {
    let rule = "@id(\"x\") permit (principal in Role::\"app\", action, resource);";
    let problems = refused(&[("rules.cedar", rule), ("members.toml", "\napps = []\n")]);
    assert_eq!(problems.len(), 2, "{problems:#?}");
    assert!(problems[0].starts_with("members.toml:2:1: no rule names the role apps"));
    assert!(problems[1].starts_with("rules.cedar:1:"), "{problems:#?}");
    assert!(problems[1].contains("add app = []"), "{problems:#?}");
    let without_file = refused(&[("rules.cedar", rule)]);
    assert_eq!(without_file.len(), 1, "{without_file:#?}");
    assert!(without_file[0].starts_with("members.toml: the file is missing"), "{without_file:#?}");
}

#[test]
fn names_that_nobody_can_have_are_refused() {
    let heads = [
        "permit (principal == Principal::\"app\", action, resource);",
        "permit (principal, action, resource in Key::\"Customer PII\");",
        "permit (principal, action, resource == Installation::\"that\");",
    ];
    for head in heads {
        let problems = third_line(&format!("@id(\"x\") {head}"));
        assert_eq!(problems.len(), 1, "{head}: {problems:#?}");
        assert!(problems[0].starts_with("rules.cedar:3:"), "{head}: {problems:#?}");
    }
}

#[test]
fn mistakes_in_the_members_file_are_refused_with_their_lines() {
    let rule = "@id(\"x\") permit (principal in Role::\"app\", action, resource);";
    let members =
        "app = [\n  \"spiffe://d/app\",\n  \"nobody\",\n  \"spiffe://d/app\",\n]\nApp = []\n";
    let problems = refused(&[("rules.cedar", rule), ("members.toml", members)]);
    let places: Vec<_> = problems.iter().filter_map(|p| p.split(' ').next()).collect();
    assert!(
        ["members.toml:3:3:", "members.toml:4:3:", "members.toml:6:1:"]
            .iter()
            .all(|place| places.contains(place)),
        "{problems:#?}"
    );
    let broken = refused(&[("rules.cedar", rule), ("members.toml", "\napp = [\n")]);
    assert!(broken.iter().any(|p| p.starts_with("members.toml:")), "{broken:#?}");
}

#[test]
fn settings_that_nobody_knows_are_refused() {
    // Whatever stands in the members file is a role, so a setting there is one that no rule names.
    let problems = refused(&[("rules.cedar", ALL), ("members.toml", "allow_all = true\n")]);
    assert!(problems.iter().any(|p| p.starts_with("members.toml:1:")), "{problems:#?}");
}

/// An upgrade brings a schema of its own, and the file is only a copy for editors.
#[test]
fn another_schema_is_told_where_it_begins_to_differ_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let settings = Settings { dir: dir.path().to_owned() };
    let members =
        "app = [\"dns:a\"]\noperator = [\"dns:b\"]\nauditor = [\"dns:c\"]\nprivacy = [\"dns:d\"]\n";
    let warnings = |schema: &str| {
        std::fs::write(dir.path().join("rules.cedar"), DEFAULT_POLICY).unwrap();
        std::fs::write(dir.path().join("members.toml"), members).unwrap();
        std::fs::write(dir.path().join("schema.cedarschema"), schema).unwrap();
        let checked = Policy::check(&settings, None).unwrap();
        checked.warnings.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let other = SCHEMA.replacen("entity Role;", "entity Role;\nentity Team;", 1);
    let line = 1 + SCHEMA.lines().position(|line| line == "entity Role;").unwrap() + 1;
    let told = warnings(&other);
    assert_eq!(told.len(), 1, "{told:#?}");
    assert!(told[0].contains(&format!("schema.cedarschema:{line}:1:")), "{told:#?}");
    assert!(warnings("entity ;")[0].contains("schema.cedarschema:1:"));
    // Comments and spaces say nothing else.
    assert_eq!(warnings(&format!("// ours\n{SCHEMA}")), [""; 0]);
}

#[test]
fn everything_that_is_wrong_is_reported_at_once() {
    let problems = refused(&[
        ("a.cedar", "permit (principal, action, resource);"),
        ("b.cedar", "@id(\"b\") permit (principal, action == Action::\"No\", resource);"),
        ("c.cedar", "nonsense"),
        ("members.toml", "x = [\"nobody\"]"),
    ]);
    for file in ["a.cedar:1:", "b.cedar:1:", "c.cedar:1:", "members.toml:1:"] {
        assert!(problems.iter().any(|p| p.starts_with(file)), "{file} {problems:#?}");
    }
    assert!(problems.is_sorted(), "{problems:#?}");
}

#[test]
fn a_directory_that_cannot_be_read_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let missing = Settings { dir: dir.path().join("missing") };
    let shown = missing.dir.display().to_string();
    let error = Policy::load(&missing).unwrap_err();
    assert!(error.to_string().starts_with(&shown), "{error}");
}

#[test]
fn what_is_missing_from_a_directory_is_named_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let shown = dir.path().display().to_string();
    let said = || Policy::load(&Settings { dir: dir.path().to_owned() }).unwrap_err().to_string();
    fs::write(dir.path().join("members.toml"), "app = []\n").unwrap();
    assert!(said().starts_with(&format!("{shown}: there is no policy file")), "{}", said());
    for (name, text) in crate::default_files(&[]) {
        fs::write(dir.path().join(name), text).unwrap();
    }
    fs::remove_file(dir.path().join("members.toml")).unwrap();
    assert!(
        said().starts_with(&format!("{shown}/members.toml: the file is missing")),
        "{}",
        said()
    );
    assert_eq!(said().lines().count(), 1, "{}", said());
}

#[test]
fn a_file_that_is_no_text_is_named_beside_the_others() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a.cedar"), b"\xff").unwrap();
    fs::write(dir.path().join("b.cedar"), "permit").unwrap();
    fs::create_dir(dir.path().join("c.cedar")).unwrap();
    fs::write(dir.path().join("d.cedar"), vec![b' '; 1024 * 1024 + 1]).unwrap();
    let error = Policy::load(&Settings { dir: dir.path().to_owned() }).unwrap_err().to_string();
    for (name, what) in
        [("a", "not UTF-8"), ("b", ":1:"), ("c", "cannot be read"), ("d", "is longer than")]
    {
        let found = error.lines().any(|l| l.contains(&format!("{name}.cedar")) && l.contains(what));
        assert!(found, "{name}: {error}");
    }
}

#[test]
fn hidden_and_other_files_are_not_read() {
    let dir = tempfile::tempdir().unwrap();
    for name in [".a.cedar", "b.cedar~", "README.md"] {
        fs::write(dir.path().join(name), "nonsense").unwrap();
    }
    fs::write(dir.path().join("rules.cedar"), ALL).unwrap();
    let loaded = Policy::load(&Settings { dir: dir.path().to_owned() });
    assert!(loaded.is_ok(), "{loaded:?}");
}

#[test]
fn the_default_files_are_a_policy() {
    let odd = Principal::parse("cn:a \"quoted\" \\ name").unwrap();
    let policy = Policy::from_texts(default_files(&[(Role::App, odd)])).unwrap();
    let wish = Wish::new("cn:a \"quoted\" \\ name", Action::Encrypt);
    assert_eq!(short(&wish.decided_by(&policy)), permitted("app-encrypt"));
    // The example in its comment is a policy too.
    let example: String = DEFAULT_POLICY
        .lines()
        .skip_while(|line| !line.contains("@id(\"support-reads-email\")"))
        .take_while(|line| line.starts_with("//"))
        .map(|line| format!("{}\n", line.trim_start_matches('/')))
        .collect();
    let files = [("support.cedar", example.as_str()), ("members.toml", "support = []")];
    assert!(Policy::from_texts(files).is_ok(), "{example}");
}

#[test]
fn the_digest_says_whether_two_policies_are_the_same() {
    let digest = |files: &[(&str, &str)]| {
        Policy::from_texts(files.iter().copied()).map(|policy| policy.digest()).unwrap()
    };
    let one = digest(&[("a.cedar", ALL), ("members.toml", "")]);
    assert_eq!(one, digest(&[("members.toml", ""), ("a.cedar", ALL)]));
    assert_ne!(one, digest(&[("b.cedar", ALL), ("members.toml", "")]));
    assert_ne!(one, digest(&[("a.cedar", &format!("{ALL} ")), ("members.toml", "")]));
    assert_ne!(one, digest(&[("a.cedar", ALL)]));
}

#[test]
fn a_file_that_is_not_read_makes_no_further_mistakes() {
    let rule = "@id(\"x\") permit (principal in Role::\"app\", action, resource);";
    let broken = refused(&[("rules.cedar", "permit (principal"), ("members.toml", "app = []\n")]);
    assert!(broken.iter().all(|p| p.starts_with("rules.cedar:")), "{broken:#?}");
    let broken = refused(&[("rules.cedar", rule), ("members.toml", "app = [\n")]);
    assert!(broken.iter().all(|p| p.starts_with("members.toml:")), "{broken:#?}");
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("rules.cedar"), b"\xff").unwrap();
    fs::write(dir.path().join("members.toml"), "app = []\n").unwrap();
    let errors = Policy::load(&Settings { dir: dir.path().to_owned() }).unwrap_err();
    assert_eq!(errors.problems().len(), 1, "{errors}");
}

#[test]
fn what_is_wrong_can_be_said_in_brief() {
    let names = "@id(\"A\")\npermit (principal, action, resource);\n".repeat(30);
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("rules.cedar"), names).unwrap();
    let errors = Policy::load(&Settings { dir: dir.path().to_owned() }).unwrap_err();
    assert_eq!(errors.problems().len(), 30);
    let brief = errors.brief(400);
    let (shown, rest) = brief.rsplit_once('\n').unwrap();
    let lines = shown.lines().count();
    assert!(shown.len() <= 400 && (2..30).contains(&lines), "{brief}");
    assert!(shown.lines().all(|line| line.starts_with("rules.cedar:")), "{brief}");
    assert_eq!(rest, format!("and {} more; `fieldseal policy check` shows all", 30 - lines));
    assert!(errors.brief(20).lines().next().unwrap().len() <= 20);
}

/// The warnings for a policy that is a policy.
fn warned(files: &[(&str, &str)], kind: Option<PrincipalKind>) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(dir.path().join(name), text).unwrap();
    }
    let checked = Policy::check(&Settings { dir: dir.path().to_owned() }, kind).unwrap();
    let prefix = format!("{}/", dir.path().display());
    checked.warnings.iter().map(|w| w.to_string().replace(&prefix, "")).collect()
}

#[test]
fn what_is_hardly_meant_is_told_with_its_line() {
    let rule = "@id(\"x\") permit (principal in Role::\"app\", action, resource);\n";
    let open = format!("{rule}\n{ALL}");
    let told = warned(&[("rules.cedar", &open), ("members.toml", "\napp = []\n")], None);
    assert_eq!(told.len(), 2, "{told:#?}");
    assert_eq!(told[0], "members.toml:2:1: nobody has the role app");
    assert!(told[1].starts_with("rules.cedar:3:1: all permits this to every caller"), "{told:#?}");
    let guarded = "@id(\"x\") permit (principal, action, resource is Field)\n\
                   when { resource.table == \"t\" };\n@id(\"y\") forbid (principal, action, resource);";
    assert!(warned(&[("rules.cedar", guarded)], None).is_empty());
}

#[test]
fn a_member_whom_no_certificate_can_name_is_told() {
    let rule = "@id(\"x\") permit (principal in Role::\"app\", action, resource);\n";
    let members = "app = [\n  \"dns:a\",\n  \"spiffe://d/a\",\n  \"local:7\",\n]\n";
    let files = [("rules.cedar", rule), ("members.toml", members)];
    assert!(warned(&files, None).is_empty());
    let told = warned(&files, Some(PrincipalKind::Spiffe));
    assert_eq!(told.len(), 1, "{told:#?}");
    assert!(told[0].starts_with("members.toml:2:3: ") && told[0].ends_with("nobody is dns:a"));
}

#[test]
fn adding_a_service_is_one_line() {
    let mut files = default_files(&[]);
    let members = &mut files.iter_mut().find(|(name, _)| *name == "members.toml").unwrap().1;
    *members = members.replacen("app = [\n", "app = [\n    \"dns:orders\",\n", 1);
    let policy = Policy::from_texts(files).unwrap();
    let wish = Wish::new("dns:orders", Action::Encrypt);
    assert_eq!(short(&wish.decided_by(&policy)), permitted("app-encrypt"));
}
