//! A file of expected answers.

use super::*;

fn policy() -> Policy {
    let rules = "@id(\"app\") permit (principal in Role::\"app\", action in Action::\"decrypt\", \
                 resource);\n\
                 @id(\"also\") permit (principal in Role::\"app\", action == Action::\"Decrypt\", \
                 resource) when { context.has_end_user };\n\
                 @id(\"no-iban\") forbid (principal, action in Action::\"decrypt\", resource) when \
                 { resource.column == \"iban\" && context.ticket == \"\" };\n\
                 @id(\"named\") permit (principal == Principal::\"dns:x\", action == \
                 Action::\"ShredPartition\", resource) when { context.partition == \"named\" };\n";
    let issuers = "[[issuer]]\niss = \"i\"\naudience = [\"a\"]\nalgorithms = [\"EdDSA\"]\n\
                   keys = \"i.jwks.json\"\n";
    let keys = "{\"keys\":[{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"kid\":\"1\",\
                \"x\":\"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo\"}]}";
    Policy::from_texts([
        ("r.cedar", rules),
        ("members.toml", "app = [\"dns:a\"]\n"),
        ("issuers.toml", issuers),
        ("i.jwks.json", keys),
    ])
    .unwrap_or_else(|e| panic!("{e}"))
}

fn wrong(text: &str) -> Vec<String> {
    let errors = policy().test("t.toml", text.to_owned()).unwrap_err();
    errors.problems().iter().map(ToString::to_string).collect()
}

const DECRYPT: &str = "[[test]]\nprincipal = \"dns:a\"\naction = \"Decrypt\"\nkey = \"k\"\n\
                       table = \"t\"\ncolumn = \"iban\"\n";

#[test]
fn what_the_file_or_the_policy_does_not_know_is_an_error_with_its_line() {
    for (more, line, says) in [
        ("expect = \"allow\"\nexpekt = 1\n", 8, "expekt is not known"),
        ("expect = \"maybe\"\n", 7, "\"allow\" or \"deny\""),
        ("expect = \"allow\"\nrule = \"apps\"\n", 8, "has no rule \"apps\""),
        ("expect = \"allow\"\nrule = \"\"\n", 8, "only a refusal"),
        ("expect = true\n", 7, "a text in quotes"),
        ("", 1, "the test has no expect"),
        ("expect = \"deny\"\nend_user = \"u\"\n", 1, "both"),
        ("expect = \"deny\"\nend_user = \"u\"\nend_user_issuer = \"j\"\n", 9, "issuers.toml"),
        ("expect = \"deny\"\npartition = \"bob\"\n", 8, "never sees which"),
        ("expect = \"deny\"\nstranger = true\n", 2, "no stranger"),
        ("expect = \"deny\"\nstranger = \"yes\"\n", 1, "true or false"),
        ("expect = \"deny\"\npurpose = \"a\\u0007\"\n", 8, "purpose"),
    ] {
        let found = wrong(&format!("{DECRYPT}{more}"));
        let place = format!("t.toml:{line}:");
        assert!(
            found.iter().any(|p| p.starts_with(&place) && p.contains(says)),
            "{more}: {found:?}"
        );
    }
    for (text, says) in [
        ("", "no [[test]]"),
        ("= 1", "t.toml:1:"),
        ("tests = []\n", "tests is not known"),
        ("test = 1\n", "a list of [[test]]"),
        ("test = [1]\n", "a test is a table"),
        (
            "[[test]]\nprincipal = \"dns:aa\"\naction = \"GetStatus\"\nexpect = \"deny\"\n",
            "stranger = true",
        ),
        ("[[test]]\nprincipal = \"a\"\naction = \"GetStatus\"\nexpect = \"deny\"\n", "t.toml:2:"),
        ("[[test]]\nprincipal = \"dns:a\"\naction = \"decrypt\"\nexpect = \"deny\"\n", "t.toml:3:"),
        (
            "[[test]]\nprincipal = \"dns:a\"\naction = \"Decrypt\"\nexpect = \"deny\"\n",
            "state key, table",
        ),
        (
            "[[test]]\nprincipal = \"dns:a\"\naction = \"GetStatus\"\nkey = \"k\"\nexpect = \"deny\"\n",
            "state no key",
        ),
    ] {
        let found = wrong(text);
        assert!(found.iter().any(|problem| problem.contains(says)), "{text}: {found:?}");
    }
}

#[test]
fn each_answer_is_compared_with_what_the_policy_says() {
    let test = |more: &str| format!("{DECRYPT}{more}");
    for (text, passed, rule) in [
        (test("expect = \"deny\"\n"), true, "no-iban"),
        (test("expect = \"deny\"\nrule = \"no-iban\"\n"), true, "no-iban"),
        (test("expect = \"deny\"\nrule = \"\"\n"), false, "no-iban"),
        (test("expect = \"allow\"\n"), false, "no-iban"),
        (test("ticket = \"C\"\nexpect = \"allow\"\n"), true, "app"),
        (test("ticket = \"C\"\nexpect = \"allow\"\nrule = \"also\"\n"), false, "app"),
        (
            // Two rules permit it, and either is right.
            test(
                "ticket = \"C\"\nend_user = \"u\"\nend_user_issuer = \"i\"\nexpect = \"allow\"\n\
                 rule = \"app\"\n",
            ),
            true,
            "also",
        ),
        (
            "[[test]]\nprincipal = \"dns:y\"\nstranger = true\naction = \"GetStatus\"\n\
             expect = \"deny\"\nrule = \"\"\n"
                .to_owned(),
            true,
            "",
        ),
        (
            "[[test]]\nname = \"n\"\nprincipal = \"dns:x\"\naction = \"ShredPartition\"\nkey = \"k\"\n\
             partition = \"named\"\nexpect = \"allow\"\n"
                .to_owned(),
            true,
            "named",
        ),
    ] {
        let tested = policy().test("t.toml", text.clone()).unwrap_or_else(|e| panic!("{e}"));
        let [one] = tested.as_slice() else { panic!("{tested:?}") };
        assert_eq!((one.passed, one.found.rule.as_deref()), (passed, Some(rule)), "{text}");
    }
}
