//! The decision cache: bounded, and keyed by every input.

use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::cache::CAPACITY;

/// Different answers for different inputs, so that a decision that was remembered for another
/// request is seen.
fn picky() -> Policy {
    let text = "\
        @id(\"column\") permit (principal, action in [Action::\"Decrypt\", Action::\"BatchDecrypt\"],\n\
            resource) when { resource.column == \"a\" && context.purpose == \"a\" };\n\
        @id(\"ticket\") permit (principal, action == Action::\"Decrypt\", resource)\n\
            when { resource.table == \"a\" && context.ticket == \"a\" };\n\
        @id(\"partition\") permit (principal == Principal::\"dns:a\", action, resource is Field)\n\
            when { context has partition && context.partition == \"named\" };\n\
        @id(\"key\") forbid (principal == Principal::\"dns:b\", action, resource in Key::\"b\");";
    Policy::from_texts([("rules.cedar", text)]).unwrap_or_else(|e| panic!("{e}"))
}

fn wish() -> impl Strategy<Value = Wish> {
    let name = || select(vec!["a", "b"]);
    let actions = vec![Action::Encrypt, Action::Decrypt, Action::BatchDecrypt];
    let what = (name(), name(), name());
    (name(), select(actions), what, any::<bool>(), name(), name()).prop_map(
        |(principal, action, (key, table, column), named_partition, purpose, ticket)| Wish {
            principal: format!("dns:{principal}"),
            action,
            key: Some(key.into()),
            named_partition,
            table: Some(table.into()),
            column: Some(column.into()),
            purpose: purpose.into(),
            ticket: ticket.into(),
            end_user: None,
        },
    )
}

/// The ways in which two requests can differ in one input.
const CHANGES: [fn(&mut Wish); 10] = [
    |w| w.principal.push('x'),
    |w| {
        w.action = match w.action {
            Action::Decrypt => Action::BatchDecrypt,
            _ => Action::Decrypt,
        }
    },
    |w| w.key.as_mut().unwrap().push('x'),
    |w| w.named_partition = !w.named_partition,
    |w| w.table.as_mut().unwrap().push('x'),
    |w| w.column.as_mut().unwrap().push('x'),
    |w| w.purpose.push('x'),
    |w| w.ticket.push('x'),
    |w| w.end_user.get_or_insert_default().0.push('x'),
    |w| w.end_user.get_or_insert_default().1.push('x'),
];

/// Does not compile any more when a request gets a further part: then it needs a change above.
fn _every_part_is_changed(request: &Request<'_>) {
    let Request { principal: _, action: _, key: _, partition: _, table: _, column: _, reason } =
        request;
    let AccessReason { purpose: _, ticket: _, end_user: _ } = reason;
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn requests_that_differ_in_one_input_share_no_decision(wish in wish()) {
        let policy = picky();
        let first = wish.decided_by(&policy);
        for (place, change) in CHANGES.iter().enumerate() {
            let other = wish.clone().with(change);
            prop_assert_ne!(&wish, &other);
            let remembered = policy.decisions.len();
            let decided = other.decided_by(&policy);
            // It was decided anew, and as without the cache.
            prop_assert_eq!(policy.decisions.len(), remembered + 1, "change {}", place);
            let anew = other.ask(|request| policy.evaluate(request));
            prop_assert_eq!(short(&decided), short(&anew));
        }
        let again = wish.decided_by(&policy);
        prop_assert_eq!(short(&first), short(&again));
        prop_assert_eq!(policy.decisions.len(), 1 + CHANGES.len());
    }

    #[test]
    fn what_is_remembered_is_what_would_be_decided(
        wishes in proptest::collection::vec(wish(), 1..40)
    ) {
        let policy = picky();
        for wish in wishes.iter().chain(&wishes) {
            let anew = wish.ask(|request| policy.evaluate(request));
            prop_assert_eq!(short(&wish.decided_by(&policy)), short(&anew));
        }
    }
}

#[test]
fn it_is_bounded() {
    let policy = rules("@id(\"x\") permit (principal, action == Action::\"Decrypt\", resource);");
    for turn in 0..CAPACITY * 2 {
        let wish = Wish::new("dns:a", Action::Decrypt).with(|w| w.ticket = turn.to_string());
        assert_eq!(short(&wish.decided_by(&policy)), permitted("x"));
    }
    let remembered = policy.decisions.len();
    assert!(remembered <= CAPACITY && remembered > CAPACITY / 2, "{remembered}");
}

#[test]
fn a_denial_is_remembered_with_its_cause() {
    let policy = rules("@id(\"never\") forbid (principal, action, resource);");
    let wish = Wish::new("dns:a", Action::Decrypt);
    for _ in 0..3 {
        assert_eq!(short(&wish.decided_by(&policy)), forbidden("never"));
    }
    assert_eq!(policy.decisions.len(), 1);
}

#[test]
fn a_remembered_decision_is_of_whoever_asks_with_the_certificate_of_this_time() {
    let policy = rules("@id(\"x\") permit (principal, action == Action::\"Decrypt\", resource);");
    let (reason, key) = (AccessReason::default(), KeyName::parse("pii").unwrap());
    let caller = |n| {
        let certificate = CertificateId::of(&[n; 32]);
        Principal::parse("dns:a").unwrap().with_certificate(certificate)
    };
    for n in [1, 2, 1] {
        let caller = caller(n);
        for action in [Action::Decrypt, Action::GetKey] {
            let by = match policy.decide(&Request::key(&caller, action, &key, &reason)) {
                Ok(permit) => permit.principal().clone(),
                Err(denial) => denial.principal().clone(),
            };
            assert_eq!(by.certificate(), caller.certificate(), "{n} {action:?}");
        }
    }
    assert_eq!(policy.decisions.len(), 2, "a certificate is no input of a decision");
}

#[test]
fn another_policy_remembers_nothing_of_this_one() {
    let wish = Wish::new("dns:a", Action::Decrypt);
    let one = rules("@id(\"one\") permit (principal, action, resource);");
    assert_eq!(short(&wish.decided_by(&one)), permitted("one"));
    let two = rules("@id(\"two\") forbid (principal, action, resource);");
    assert_eq!(short(&wish.decided_by(&two)), forbidden("two"));
    assert!(two.generation() > one.generation());
}
