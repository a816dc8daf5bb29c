//! Who may do what, asked of the policy's files; expected answers; and docs/policy.md.

use std::path::Path;

use serde_json::Value;

use crate::installation::Installation;
use crate::policy::{policy, policy_json};
use crate::process::{ended, program, refused, text};

/// What `policy who-can --output json` says, in short: callers or kind, calls, key, rule, conditions.
fn grants(arguments: &[&str]) -> Vec<String> {
    let (code, shown) = policy_json(&[&["who-can"], arguments].concat());
    assert_eq!(code, 0, "{shown}");
    let words = |list: &Value| {
        let words: Vec<_> = list.as_array().unwrap().iter().map(|w| w.as_str().unwrap()).collect();
        words.join(" ")
    };
    let row = |row: &Value| {
        let who = match row["any_other_of_kind"].as_str() {
            Some(kind) => format!("any {kind}"),
            None => words(&row["callers"]),
        };
        let wanted = row["only_with"].as_array().unwrap().iter();
        let wanted: Vec<_> = wanted.map(|wanted| wanted["text"].as_str().unwrap()).collect();
        let (key, rule) = (row["key"].as_str().unwrap_or("*"), row["rule"].as_str().unwrap());
        format!("{who} | {} | {key} | {rule} | {}", words(&row["calls"]), wanted.join(", "))
    };
    shown["rows"].as_array().unwrap().iter().map(row).collect()
}

#[test]
fn who_can_refuses_what_is_no_question() {
    let installation = Installation::new();
    let config = installation.config();
    let config = config.to_str().unwrap();
    for (question, code, reason) in [
        (&["read", "users.iban"][..], 2, "ACTION_UNKNOWN"),
        (&["decrypt"], 2, "SUBJECT_INVALID"),
        (&["decrypt", "--key", "customer-pii"], 2, "SUBJECT_INVALID"),
        (&["RotateKey", "users.iban"], 2, "SUBJECT_INVALID"),
        (&["GetStatus", "--key", "customer-pii"], 2, "SUBJECT_INVALID"),
        // clap says it.
        (&["decrypt", "iban"], 2, ""),
        (&["decrypt", "users.iban", "--key", "Not A Key"], 2, ""),
        (&[], 2, ""),
    ] {
        let asked = [&["who-can"], question, &["--config", config]].concat();
        assert_eq!(ended(&policy(&asked)), refused(code, reason), "{question:?}");
    }
    assert_eq!(ended(&policy(&["who-can", "decrypt", "users.iban"])), refused(2, "POLICY_UNNAMED"));
    std::fs::write(installation.home().join("policy/more.cedar"), "permit").unwrap();
    let broken = ["who-can", "decrypt", "users.iban", "--config", config];
    assert_eq!(ended(&policy(&broken)), refused(2, "POLICY_INVALID"));
    let table = program().args(["--output", "csv", "policy", "check"]).output().unwrap();
    assert_eq!(ended(&table), refused(2, "OUTPUT_FORM_UNSUPPORTED"));
}

#[test]
fn who_can_lists_everybody_with_what_a_call_must_state() {
    let installation = Installation::new();
    let config = installation.config();
    let ask =
        |question: &[&str]| grants(&[question, &["--config", config.to_str().unwrap()]].concat());
    let recover = "any local | Recover | * | recover-offline | ";
    let of_app = "spiffe://dev.local/app | Decrypt BatchDecrypt | * | app-decrypt | ";
    assert_eq!(ask(&["decrypt", "users.iban"]), [of_app, recover]);
    std::fs::write(
        installation.home().join("policy/narrow.cedar"),
        "@id(\"no-iban\") forbid (principal in Role::\"app\", action in Action::\"decrypt\", \
         resource in Key::\"customer-pii\")\nwhen { resource.column == \"iban\" } \
         unless { context.ticket != \"\" };\n\
         @id(\"support\") permit (principal in Role::\"auditor\", action == Action::\"Decrypt\", \
         resource) when { context.purpose == \"=support\" && context.has_end_user };\n",
    )
    .unwrap();
    let narrow = format!("{of_app}a ticket");
    let narrow = narrow.replace("*", "customer-pii");
    let wanted = "purpose \"=support\", an end user";
    let support =
        format!("spiffe://dev.local/auditor | Decrypt | customer-pii | support | {wanted}");
    let of_key = ask(&["decrypt", "users.iban", "--key", "customer-pii"]);
    assert_eq!(of_key, [narrow, support, recover.replace('*', "customer-pii")]);
    assert_eq!(
        ask(&["ShredPartition"]),
        ["spiffe://dev.local/ops | ShredPartition | * | operator-manage | "]
    );
    // The other forms say the same.
    let question = ["who-can", "Decrypt", "users.iban", "--key", "customer-pii", "--config"];
    let question = [&question[..], &[config.to_str().unwrap()]].concat();
    let table = text(&policy(&question).stdout);
    assert!(table.contains("ONLY WITH") && table.contains("a ticket (no-iban)"), "{table}");
    let csv = text(&policy(&[&question[..], &["--output", "csv"]].concat()).stdout);
    let rows: Vec<_> = csv.lines().collect();
    assert_eq!(rows[0], "who,roles,calls,key,rule,only_with");
    let of_app = "spiffe://dev.local/app,app,Decrypt,customer-pii,app-decrypt,a ticket (no-iban)";
    assert_eq!((rows[1], rows.len()), (of_app, 3), "{csv}");
    let nobody = ["who-can", "Recover", "t.c", "--dir"];
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(
        dir.path().join("none.cedar"),
        "@id(\"x\") forbid (principal, action, resource);",
    )
    .unwrap();
    let nobody = policy(&[&nobody[..], &[dir.path().to_str().unwrap()]].concat());
    assert_eq!((nobody.status.code(), text(&nobody.stdout)), (Some(0), "nobody\n".to_owned()));
}

#[test]
fn a_file_of_expected_answers_is_compared_and_each_difference_shown() {
    let installation = Installation::new();
    let config = installation.config();
    let file = installation.path("tests.toml");
    let run = |tests: &str| {
        std::fs::write(&file, tests).unwrap();
        policy(&["test", &file, "--config", config.to_str().unwrap()])
    };
    let gone = ["test", "gone.toml", "--config", config.to_str().unwrap()];
    assert_eq!(ended(&policy(&gone)), refused(3, "FILE_NOT_FOUND"));
    assert_eq!(ended(&policy(&["test", &file])), refused(2, "POLICY_UNNAMED"));
    let good = "[[test]]\nprincipal = \"spiffe://dev.local/app\"\naction = \"Decrypt\"\n\
                key = \"k\"\ntable = \"t\"\ncolumn = \"c\"\nexpect = \"allow\"\n";
    let wrong = run(&format!("{good}rule = \"app-decript\"\nwhy = 1\n"));
    assert_eq!(ended(&wrong), refused(2, "POLICY_TEST_INVALID"));
    let said = text(&wrong.stderr);
    for part in ["tests.toml:8:8: rule: the policy has no rule", "tests.toml:9:1: why is not"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let passed = run(good);
    assert_eq!(ended(&passed), (0, String::new()));
    assert!(text(&passed.stdout).contains("1 test passed, 0 differ"));

    let more = "[[test]]\nname = \"operators read nothing\"\nprincipal = \"spiffe://dev.local/ops\"\n\
                action = \"RotateKey\"\nkey = \"k\"\nexpect = \"deny\"\n";
    let differs = run(&format!("{good}{more}"));
    assert_eq!(ended(&differs), refused(14, "POLICY_TEST_DIFFERS"));
    let said = text(&differs.stdout);
    let line = "tests.toml:8  operators read nothing  expected deny  is allow by operator-manage\n";
    assert!(said.contains(line), "{said}");
    let config = config.to_str().unwrap();
    let (code, shown) = policy_json(&["test", &file, "--config", config]);
    assert_eq!((code, &shown["passed"], &shown["differ"]), (14, &1.into(), &1.into()), "{shown}");
    let second = &shown["tests"][1];
    assert_eq!((&second["line"], &second["passed"]), (&8.into(), &false.into()));
}

#[test]
fn every_command_of_the_policy_page_answers() {
    let installation = Installation::new();
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/policy.md");
    let page = std::fs::read_to_string(page).unwrap();
    let blocks = |language: &str| {
        let open = format!("\n```{language}\n");
        let parts: Vec<_> = page.split(&open).skip(1).collect();
        parts.into_iter().map(|part| part.split("\n```").next().unwrap().to_owned())
    };
    let tests = blocks("toml").next().unwrap();
    std::fs::write(installation.path("policy-tests.toml"), tests).unwrap();
    let mut ran = 0;
    for line in blocks("sh").flat_map(|block| block.lines().map(str::to_owned).collect::<Vec<_>>())
    {
        let words: Vec<&str> = line.split(' ').collect();
        assert_eq!(words[..2], ["fieldseal", "policy"], "{line}");
        let run =
            program().args(&words[1..]).current_dir(installation.dir.path()).output().unwrap();
        assert!(run.status.success(), "{line}: {}", text(&run.stderr));
        assert!(!run.stdout.is_empty(), "{line}");
        ran += 1;
    }
    assert_eq!(ran, 7);
}
