//! Every call of the contract is an action of policy, and the other way round.
#![allow(clippy::unwrap_used, reason = "a contract that cannot be read fails the test")]

use std::collections::BTreeSet;

use fieldseal_model::Action;
use fieldseal_service::actions::ACTIONS;
use prost::Message as _;
use prost_types::FileDescriptorSet;

/// Every (service, call) of `fieldseal.v1`.
fn calls() -> Vec<(String, String)> {
    let set = FileDescriptorSet::decode(fieldseal_api::FILE_DESCRIPTOR_SET).unwrap();
    let mut calls = Vec::new();
    for file in set.file.iter().filter(|file| file.package() == "fieldseal.v1") {
        for service in &file.service {
            for method in &service.method {
                calls.push((service.name().to_owned(), method.name().to_owned()));
            }
        }
    }
    calls
}

#[test]
fn a_call_without_an_action_would_be_open_to_all() {
    let table: BTreeSet<_> = ACTIONS.iter().map(|(service, call, _)| (*service, *call)).collect();
    let calls = calls();
    assert!(!calls.is_empty());
    for (service, call) in &calls {
        assert!(table.contains(&(service.as_str(), call.as_str())), "{service}.{call}");
    }
}

#[test]
fn an_action_without_a_call_would_be_a_rule_for_nothing() {
    let calls: BTreeSet<_> = calls().into_iter().collect();
    for (service, call, _) in ACTIONS {
        let named = ((*service).to_owned(), (*call).to_owned());
        assert!(calls.contains(&named), "{service}.{call}");
    }
}

#[test]
fn each_action_has_the_name_of_its_call_and_stands_once() {
    for (service, call, action) in ACTIONS {
        assert_eq!(action.as_str(), *call, "{service}.{call}");
    }
    for action in Action::ALL {
        let times = ACTIONS.iter().filter(|(_, _, listed)| listed == action).count();
        // From 64 on they are no calls: they need the files of a stopped installation.
        let expected = usize::from(action.code() < Action::Recover.code());
        assert_eq!(times, expected, "{action:?}");
    }
}
