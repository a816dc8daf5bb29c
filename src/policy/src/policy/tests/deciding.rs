//! Who may do what.

use super::*;
use crate::{Role, default_files};

const APP: &str = "spiffe://test/app";
const OPERATOR: &str = "spiffe://test/ops";
const AUDITOR: &str = "dns:auditor.test";
const PRIVACY: &str = "spiffe://test/privacy";
const STRANGER: &str = "cn:stranger";
/// A rule's condition that passes the check against the schema and cannot be evaluated.
const OVERFLOW: &str = "9223372036854775807 + 1 == 0";

fn default_policy() -> Policy {
    let members = [
        (Role::App, APP),
        (Role::Operator, OPERATOR),
        (Role::Auditor, AUDITOR),
        (Role::Privacy, PRIVACY),
    ];
    let members = members.map(|(role, name)| (role, Principal::parse(name).unwrap()));
    Policy::from_texts(default_files(&members)).unwrap()
}

#[test]
fn whom_no_rule_names_may_do_nothing() {
    let policy = default_policy();
    for action in Action::ALL {
        let decision = Wish::new(STRANGER, *action).decided_by(&policy);
        assert_eq!(short(&decision), no_rule(), "{action:?}");
    }
}

#[test]
fn a_policy_without_a_permit_refuses_everything() {
    let policy =
        rules("@id(\"nothing\") forbid (principal, action == Action::\"GetKey\", resource);");
    for action in Action::ALL {
        let expected = match action {
            Action::GetKey => forbidden("nothing"),
            _ => no_rule(),
        };
        assert_eq!(short(&Wish::new(APP, *action).decided_by(&policy)), expected, "{action:?}");
    }
}

#[test]
fn a_request_that_does_not_fit_its_action_is_refused() {
    let policy = rules("@id(\"all\") permit (principal, action, resource);");
    let misfits = [
        Wish::new(APP, Action::Decrypt).with(|w| w.table = None),
        Wish::new(APP, Action::Decrypt).with(|w| w.column = None),
        Wish::new(APP, Action::Decrypt).with(|w| w.key = None),
        Wish::new(APP, Action::Decrypt).with(|w| (w.table, w.column) = (None, None)),
        Wish::new(APP, Action::Decrypt).with(|w| (w.key, w.table, w.column) = (None, None, None)),
        Wish::new(APP, Action::RotateKey).with(|w| w.key = None),
        Wish::new(APP, Action::RotateKey).with(|w| w.table = Some("t".into())),
        Wish::new(APP, Action::GetStatus).with(|w| w.key = Some("k".into())),
        Wish::new(APP, Action::GetStatus).with(|w| w.column = Some("c".into())),
    ];
    for wish in misfits {
        assert_eq!(short(&wish.decided_by(&policy)), not_evaluated(None), "{wish:?}");
    }
    for action in Action::ALL {
        let decision = Wish::new(APP, *action).decided_by(&policy);
        assert_eq!(short(&decision), permitted("all"), "{action:?}");
    }
}

#[test]
fn a_forbid_beats_every_permit_and_is_named() {
    let policy = rules(
        "@id(\"a-permit\") permit (principal, action, resource);\n\
         @id(\"z-permit\") permit (principal, action, resource);\n\
         @id(\"no-iban\") forbid (principal, action in Action::\"decrypt\", resource)\n\
         when { resource.column == \"iban\" };\n\
         @id(\"also-no-iban\") forbid (principal, action == Action::\"Decrypt\", resource)\n\
         when { resource.column == \"iban\" };",
    );
    let iban = |action| Wish::new(APP, action).with(|w| w.column = Some("iban".into()));
    assert_eq!(short(&iban(Action::Decrypt).decided_by(&policy)), forbidden("also-no-iban"));
    assert_eq!(short(&iban(Action::BatchDecrypt).decided_by(&policy)), forbidden("no-iban"));
    assert_eq!(short(&iban(Action::Encrypt).decided_by(&policy)), permitted("a-permit"));
    let email = Wish::new(APP, Action::Decrypt);
    assert_eq!(short(&email.decided_by(&policy)), permitted("a-permit"));
}

#[test]
fn a_permit_that_cannot_be_evaluated_refuses_even_beside_one_that_can() {
    let failing =
        format!("@id(\"broken\") permit (principal, action, resource) when {{ {OVERFLOW} }};");
    let wish = Wish::new(APP, Action::Decrypt);
    assert_eq!(short(&wish.decided_by(&rules(&failing))), not_evaluated(Some("broken")));
    let beside = format!("{failing}\n@id(\"all\") permit (principal, action, resource);");
    assert_eq!(short(&wish.decided_by(&rules(&beside))), not_evaluated(Some("broken")));
}

#[test]
fn a_forbid_that_cannot_be_evaluated_lets_nobody_through() {
    let policy = rules(&format!(
        "@id(\"all\") permit (principal, action, resource);\n\
         @id(\"broken\") forbid (principal, action == Action::\"Decrypt\", resource)\n\
         when {{ {OVERFLOW} }};"
    ));
    let decision = Wish::new(APP, Action::Decrypt).decided_by(&policy);
    assert_eq!(short(&decision), not_evaluated(Some("broken")));
    // Where its head does not match it is not evaluated at all.
    let decision = Wish::new(APP, Action::Encrypt).decided_by(&policy);
    assert_eq!(short(&decision), permitted("all"));
}

#[test]
fn a_forbid_that_matches_is_named_rather_than_one_that_fails() {
    let policy = rules(&format!(
        "@id(\"a-broken\") permit (principal, action, resource) when {{ {OVERFLOW} }};\n\
         @id(\"never\") forbid (principal, action, resource);"
    ));
    assert_eq!(short(&Wish::new(APP, Action::Encrypt).decided_by(&policy)), forbidden("never"));
}

/// What changes keys, partitions, backups and the policy.
const MANAGED: &[Action] = &[
    Action::CreateKey,
    Action::RotateKey,
    Action::UpdateKey,
    Action::EnableKeyVersion,
    Action::DisableKeyVersion,
    Action::ScheduleDestroyKeyVersion,
    Action::RestoreKeyVersion,
    Action::RewrapDataKeys,
    Action::CancelRewrapJob,
    Action::ShredPartition,
    Action::RestorePartition,
    Action::ReopenPartition,
    Action::ReloadPolicy,
    Action::CreateBackup,
    Action::PruneBackups,
    Action::ArchiveAuditEvents,
    Action::ListApprovals,
    Action::ApproveChange,
    Action::RejectChange,
];

#[test]
fn each_role_may_do_exactly_its_actions() {
    use Action::*;
    let policy = default_policy();
    // Recover is no call: a caller with a certificate cannot ask for it.
    type RulesOfRole<'a> = &'a [(&'a str, &'a [Action])];
    const AUDIT: &[Action] = &[
        QueryAuditEvents,
        SummarizeAccess,
        TailAuditEvents,
        GetCheckpoint,
        GetInclusionProof,
        GetConsistencyProof,
    ];
    const OBSERVE: &[Action] =
        &[GetKey, GetRotationStatus, GetRewrapJob, ListKeys, GetPartition, GetStatus];
    let table: [(&str, RulesOfRole<'_>); 5] = [
        (
            APP,
            &[
                ("app-encrypt", &[Encrypt, BatchEncrypt]),
                ("app-decrypt", &[Decrypt, BatchDecrypt, Recover]),
            ],
        ),
        (OPERATOR, &[("operator-manage", MANAGED), ("operator-observe", OBSERVE)]),
        (AUDITOR, &[("auditor-audit", AUDIT), ("auditor-observe", OBSERVE)]),
        (PRIVACY, &[("privacy-redact", &[RedactAuditEvents])]),
        (
            "local:1000",
            &[
                ("recover-offline", &[Recover]),
                (
                    "offline",
                    &[RootDrill, RootRotate, RootRewrap, RestoreBackup, Repair, BackupDrill],
                ),
                ("backup-offline", &[CreateBackup, PruneBackups]),
            ],
        ),
    ];
    for (principal, rules) in table {
        for action in Action::ALL {
            let rule = rules.iter().find(|(_, actions)| actions.contains(action));
            let expected = rule.map_or_else(no_rule, |(rule, _)| permitted(rule));
            let decision = Wish::new(principal, *action).decided_by(&policy);
            assert_eq!(short(&decision), expected, "{principal} {action:?}");
        }
    }
}

#[test]
fn several_roles_add_up() {
    let both = Principal::parse(APP).unwrap();
    let members = [(Role::App, both.clone()), (Role::Auditor, both)];
    let policy = Policy::from_texts(default_files(&members)).unwrap();
    let decide = |action| short(&Wish::new(APP, action).decided_by(&policy));
    assert_eq!(decide(Action::RotateKey), no_rule());
    assert_eq!(decide(Action::Decrypt), permitted("app-decrypt"));
    assert_eq!(decide(Action::GetCheckpoint), permitted("auditor-audit"));
}

#[test]
fn a_rule_sees_the_class_of_a_partition_that_is_shredded() {
    let policy = rules(
        "@id(\"named\") permit (principal, action == Action::\"ShredPartition\", resource)\n\
         when { context.partition == \"named\" && context.ticket != \"\" };",
    );
    let wish = |named: bool, ticket: &str| {
        Wish::new(OPERATOR, Action::ShredPartition).with(|w| {
            w.named_partition = named;
            w.ticket = ticket.into();
        })
    };
    assert_eq!(short(&wish(true, "CASE-1").decided_by(&policy)), permitted("named"));
    assert_eq!(short(&wish(false, "CASE-1").decided_by(&policy)), no_rule());
    assert_eq!(short(&wish(true, "").decided_by(&policy)), no_rule());
}

#[test]
fn conditions_hold_for_every_part_of_a_request() {
    let policy = Policy::from_texts([
        (
            "support.cedar",
            "@id(\"support-reads-email\")\n\
             permit (\n\
                 principal in Role::\"support\",\n\
                 action == Action::\"Decrypt\",\n\
                 resource in Key::\"customer-pii\"\n\
             ) when {\n\
                 resource.table == \"customers\" && resource.column == \"email\" &&\n\
                 context.purpose == \"support\" && context.ticket != \"\" &&\n\
                 context.partition == \"named\" && principal.kind == \"dns\"\n\
             };",
        ),
        ("members.toml", "support = [\"dns:support.test\", \"cn:support\"]"),
    ])
    .unwrap();
    let good = Wish::new("dns:support.test", Action::Decrypt).with(|w| {
        w.named_partition = true;
        w.purpose = "support".into();
        w.ticket = "CASE-1".into();
    });
    let bad: [fn(&mut Wish); 9] = [
        |w| w.principal = "cn:support".into(),
        |w| w.principal = "dns:other.test".into(),
        |w| w.action = Action::BatchDecrypt,
        |w| w.key = Some("customer-pii2".into()),
        |w| w.table = Some("Customers".into()),
        |w| w.column = Some("email ".into()),
        |w| w.purpose = "Support".into(),
        |w| w.ticket = String::new(),
        |w| w.named_partition = false,
    ];
    for change in bad {
        let wish = good.clone().with(change);
        assert_eq!(short(&wish.decided_by(&policy)), no_rule(), "{wish:?}");
    }
    assert_eq!(short(&good.decided_by(&policy)), permitted("support-reads-email"));
}

#[test]
fn a_rule_can_want_an_end_user_and_one_of_an_issuer() {
    let policy = rules(
        "@id(\"known\") permit (principal, action in Action::\"decrypt\", resource)\n\
         when { context.end_user_issuer == \"https://login.test\" };\n\
         @id(\"own\") permit (principal, action in Action::\"decrypt\", resource)\n\
         when { context.end_user == \"alice\" };\n\
         @id(\"nobody\") forbid (principal, action in Action::\"decrypt\", resource)\n\
         unless { context.has_end_user };",
    );
    let decide = |end_user: Option<(&str, &str)>| {
        let end_user = end_user.map(|(issuer, subject)| (issuer.to_owned(), subject.to_owned()));
        let wish = Wish::new(APP, Action::Decrypt).with(|w| w.end_user = end_user);
        short(&wish.decided_by(&policy))
    };
    assert_eq!(decide(None), forbidden("nobody"));
    assert_eq!(decide(Some(("https://login.test", "bob"))), permitted("known"));
    assert_eq!(decide(Some(("https://other.test", "bob"))), no_rule());
    assert_eq!(decide(Some(("https://other.test", "alice"))), permitted("own"));
    // An empty issuer is not the lack of a user.
    assert_eq!(decide(Some(("", ""))), no_rule());
}

#[test]
fn names_with_slashes_are_not_confused() {
    // As one text, both would be customer-pii/a/b/c.
    let policy = rules(
        "@id(\"one\") permit (principal, action, resource)\n\
         when { resource is Field && resource.table == \"a/b\" && resource.column == \"c\" };",
    );
    let named = |table: &str, column: &str| {
        let wish = Wish::new(APP, Action::Encrypt);
        let wish = wish.with(|w| (w.table, w.column) = (Some(table.into()), Some(column.into())));
        short(&wish.decided_by(&policy))
    };
    assert_eq!(named("a", "b/c"), no_rule());
    assert_eq!(named("a/b", "c"), permitted("one"));
}
