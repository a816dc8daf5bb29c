//! The table of reasons against what the contract promises and what the floors below can say.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

use fieldseal_api::v1;
use fieldseal_engine::backup::BackupError;
use fieldseal_identity::{Flaw, Refused};
use fieldseal_keys::{KeyError, RewrapState};
use fieldseal_model::{
    KeyName, KeyVersionState, Malformed, MalformedReason, Timestamp, VersionNumber,
};
use fieldseal_store::{StoreError, TxnError};
use prost::Message as _;

use super::*;

fn text(path: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..").join(path);
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Everything that can go wrong with keys.
fn of_keys() -> Vec<KeyError> {
    let io = || "/var/lib/fieldseal/store/db".to_owned();
    vec![
        KeyError::KeyNotFound,
        KeyError::KeyExists,
        KeyError::TooMany { what: "keys", limit: 10_000 },
        KeyError::DataKeyNotFound,
        KeyError::VersionDisabled,
        KeyError::VersionDestroyed,
        KeyError::PartitionShredded,
        KeyError::PartitionNotFound,
        KeyError::PartitionState { is: "erased", instead: "open it anew" },
        KeyError::ShredWindow { least: 1, most: 2 },
        KeyError::DefaultPartition,
        KeyError::RewrapRunning {
            key: KeyName::parse("pii").unwrap(),
            started_at: Timestamp::from_unix_nanos(0),
        },
        KeyError::ApprovalRequired {
            id: "0123456789abcdef".to_owned(),
            expires_at: Timestamp::from_unix_nanos(0),
            receipt: None,
        },
        KeyError::ApprovalNotFound,
        KeyError::ApprovalOwn,
        KeyError::ApprovalClosed { state: "expired" },
        KeyError::ApprovalAltered,
        KeyError::ApprovalOutdated("the key was changed"),
        KeyError::RewrapNotFound,
        KeyError::RewrapNotRunning { state: RewrapState::Done },
        KeyError::VersionNotFound(VersionNumber::FIRST),
        KeyError::VersionIsPrimary(VersionNumber::FIRST),
        KeyError::VersionStateWrong { state: KeyVersionState::Destroyed, allowed: "looked at" },
        KeyError::DataKeysWouldBeLost { data_keys: 7 },
        KeyError::EtagMismatch,
        KeyError::RequestIdReused,
        KeyError::Conflict,
        KeyError::NotPermitted,
        KeyError::Corrupt("a key's name"),
        KeyError::Unacknowledged,
        KeyError::Stopping,
        KeyError::Busy,
        KeyError::Store(StoreError::Corrupt(io())),
        KeyError::Store(StoreError::Io(io())),
        KeyError::Store(StoreError::Busy),
        KeyError::Store(StoreError::Closed),
        KeyError::Txn(TxnError::NoSpace),
        KeyError::Txn(TxnError::Missing),
        KeyError::Txn(TxnError::Busy),
        KeyError::Txn(TxnError::Closed),
        KeyError::Txn(TxnError::Broken(io())),
        KeyError::Txn(TxnError::Indeterminate(io())),
        KeyError::Txn(TxnError::TooLarge { what: "operations", limit: 100 }),
        KeyError::Txn(TxnError::CopyUnavailable(io())),
        KeyError::Txn(TxnError::Store(StoreError::Corrupt(io()))),
        KeyError::Txn(TxnError::Store(StoreError::Io(io()))),
    ]
}

/// Everything that can go wrong.
fn causes() -> Vec<RefusalCause> {
    // The longest sentence about an input is shorter than this.
    let malformed =
        MalformedReason::ALL.iter().map(|reason| Malformed::new(*reason, "x".repeat(200)));
    let io_of = |kind: std::io::ErrorKind| BackupError::Io {
        doing: "write",
        path: "/backup".into(),
        error: kind.into(),
    };
    let backups = [
        BackupError::NotConfigured("set it"),
        BackupError::Running,
        BackupError::Overrun,
        io_of(std::io::ErrorKind::StorageFull),
        io_of(std::io::ErrorKind::PermissionDenied),
        BackupError::LogBehind,
    ];
    let mut causes = vec![
        RefusalCause::Denied,
        RefusalCause::DecryptionFailed,
        RefusalCause::LogNotFound("logs/main".into()),
        RefusalCause::AuditUnavailable,
        RefusalCause::AuditBusy,
        RefusalCause::AuditUnreadable,
        RefusalCause::QueryBusy,
        RefusalCause::TreeBeyondLog(7),
        RefusalCause::CheckpointNotFound,
        RefusalCause::TailBusy,
        RefusalCause::SummaryTooLarge,
        RefusalCause::NothingToRedact,
        RefusalCause::RedactionRunning,
        RefusalCause::RedactionUnfinished,
        RefusalCause::ArchiveNotConfigured,
        RefusalCause::Archived(7),
        RefusalCause::ArchiveUnavailable,
        RefusalCause::PolicyInvalid("roles.cedar:3:1: a rule must have a name".into()),
        RefusalCause::Internal("an answer without its item"),
    ];
    let flaws = Flaw::ALL.iter().map(|flaw| Refused::Invalid(*flaw));
    let refused = flaws.chain([Refused::Expired, Refused::Bound, Refused::Full]);
    let refused = refused.chain([Refused::KeysPending, Refused::KeysUnavailable]);
    causes.extend(refused.map(RefusalCause::from));
    causes.extend(backups.into_iter().map(RefusalCause::from));
    causes.extend(malformed.map(RefusalCause::from));
    causes.extend(of_keys().into_iter().map(RefusalCause::from));
    causes
}

/// The words of a text that can be reasons.
fn reasons(text: &str) -> impl Iterator<Item = &str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| {
        word.len() >= 6
            && word.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
    })
}

/// The reasons that stand in quotation marks.
fn quoted(text: &str) -> BTreeSet<String> {
    let parts = text.split('"').skip(1).step_by(2);
    parts.filter(|part| reasons(part).next() == Some(part)).map(str::to_owned).collect()
}

fn code_of(name: &str) -> Option<Code> {
    Some(match name {
        "INVALID_ARGUMENT" => Code::InvalidArgument,
        "PERMISSION_DENIED" => Code::PermissionDenied,
        "UNAUTHENTICATED" => Code::Unauthenticated,
        "NOT_FOUND" => Code::NotFound,
        "ALREADY_EXISTS" => Code::AlreadyExists,
        "FAILED_PRECONDITION" => Code::FailedPrecondition,
        "ABORTED" => Code::Aborted,
        "OUT_OF_RANGE" => Code::OutOfRange,
        "RESOURCE_EXHAUSTED" => Code::ResourceExhausted,
        "UNAVAILABLE" => Code::Unavailable,
        "UNIMPLEMENTED" => Code::Unimplemented,
        "UNKNOWN" => Code::Unknown,
        "DEADLINE_EXCEEDED" => Code::DeadlineExceeded,
        "DATA_LOSS" => Code::DataLoss,
        "INTERNAL" => Code::Internal,
        _ => return None,
    })
}

const PROTOS: [&str; 4] = ["encryption", "key", "audit", "system"];

/// What the comments of the contract promise: each reason with its code.
fn promises() -> BTreeMap<String, Code> {
    let mut promises = BTreeMap::new();
    for proto in PROTOS {
        let text = text(&format!("proto/fieldseal/v1/{proto}_service.proto"));
        let mut code = None;
        let mut found = 0;
        for line in text.lines() {
            let Some(row) = line.strip_prefix("//   ") else {
                code = None;
                continue;
            };
            let (head, rest) = match row.split_once(' ') {
                Some((head, rest)) if !head.is_empty() => (Some(head), rest),
                _ => (None, row),
            };
            if let Some(head) = head {
                code = Some(code_of(head).unwrap_or_else(|| panic!("{proto}: no code: {line}")));
            }
            let Some(code) = code else { continue };
            for reason in reasons(rest) {
                let before = promises.insert(reason.to_owned(), code);
                assert!(before.is_none_or(|before| before == code), "{reason} has two codes");
                found += 1;
            }
        }
        assert!(found > 0, "{proto} promises nothing");
    }
    promises
}

/// What the transport refuses by itself.
fn of_the_transport() -> BTreeSet<String> {
    let text = text("src/server/src/refusal.rs");
    quoted(text.split("mod tests").next().unwrap())
}

fn ours() -> BTreeSet<String> {
    let malformed = MalformedReason::ALL.iter().map(|reason| reason.as_str());
    malformed.chain(ANSWERS.iter().map(|row| row.reason)).map(str::to_owned).collect()
}

/// What is said is read by people who call the API, and by others at a terminal.
#[test]
fn no_message_speaks_of_methods_and_fields() {
    let words =
        |text: String| text.split([' ', ',', ';', ':']).map(str::to_owned).collect::<Vec<_>>();
    for error in of_keys() {
        // The command line says this one in its own words.
        if matches!(error, KeyError::KeyNotFound) {
            continue;
        }
        for word in words(error.to_string()) {
            let inner = word.get(1..).unwrap_or_default();
            let is_path = word.contains('/');
            let is_camel = inner.contains(char::is_uppercase) && inner.contains(char::is_lowercase);
            assert!(
                is_path || !(word.contains('_') && inner.contains(char::is_lowercase)),
                "{error}"
            );
            assert!(is_path || !is_camel || word.starts_with("1970"), "{error}");
        }
    }
}

#[test]
fn every_cause_has_the_code_that_the_contract_promises_for_its_reason() {
    let promises = promises();
    for cause in causes() {
        let status = status(&Refusal { cause: cause.clone(), event: None });
        let info = status.get_details_error_info().unwrap();
        assert_eq!(info.reason, cause.reason(), "no row for {cause:?}");
        assert_eq!(promises.get(&info.reason), Some(&status.code()), "{cause:?}");
    }
    let missing = principal_missing();
    let reason = missing.get_details_error_info().unwrap().reason;
    assert_eq!(promises.get(&reason), Some(&Code::Unauthenticated));
}

#[test]
fn every_reason_that_the_contract_names_exists() {
    let known: BTreeSet<_> = ours().union(&of_the_transport()).cloned().collect();
    for reason in promises().keys() {
        assert!(known.contains(reason), "{reason}");
    }
    for proto in PROTOS {
        let text = text(&format!("proto/fieldseal/v1/{proto}_service.proto"));
        let comments = text.lines().filter_map(|line| line.trim_start().strip_prefix("//"));
        for comment in comments {
            for part in comment.split('(').skip(1).filter_map(|part| part.split_once(')')) {
                if reasons(part.0).next() == Some(part.0) {
                    assert!(known.contains(part.0), "{proto}: {}", part.0);
                }
            }
        }
    }
}

#[test]
fn every_row_has_a_cause_and_every_name_below_has_a_row() {
    let rows: BTreeSet<_> = ANSWERS.iter().map(|row| row.reason.to_owned()).collect();
    let caused: BTreeSet<_> = causes().iter().map(|cause| cause.reason().to_owned()).collect();
    for row in &rows {
        assert!(caused.contains(row) || row == "PRINCIPAL_MISSING", "{row}");
    }
    let below = quoted(&text("src/engine/src/refusal.rs"));
    assert!(below.len() > 10, "{below:?}");
    assert!(below.is_subset(&rows), "{:?}", below.difference(&rows));
}

#[test]
fn the_command_line_knows_no_reason_that_does_not_exist() {
    let text = text("src/cli/src/failure.rs");
    let known: BTreeSet<_> = ours().union(&of_the_transport()).cloned().collect();
    for table in ["fn exit_of(", "fn advice_for("] {
        let (_, body) = text.split_once(table).unwrap();
        let (body, _) = body.split_once("\n}\n").unwrap();
        let named = quoted(body);
        assert!(!named.is_empty(), "{table}");
        for reason in named {
            let group = reason.ends_with('_') && known.iter().any(|k| k.starts_with(&reason));
            assert!(group || known.contains(&reason), "{table} {reason}");
        }
    }
}

#[test]
fn a_caller_reads_no_path_of_the_sidecar_s_machine() {
    for cause in causes() {
        let status = status(&Refusal { cause, event: None });
        assert!(!status.message().contains("/var"), "{}", status.message());
        assert!(!status.message().is_empty());
    }
}

#[test]
fn waiting_is_advised_only_where_it_helps() {
    for cause in causes() {
        let helps = [
            "AUDIT_BUSY",
            "QUERY_BUSY",
            "TAIL_BUSY",
            "END_USER_TOKENS_FULL",
            "END_USER_KEYS_PENDING",
            "END_USER_KEYS_UNAVAILABLE",
            "STORE_BUSY",
            "AUDIT_UNAVAILABLE",
            "STORE_COPY_UNAVAILABLE",
            "CONFLICT",
            "STOPPING",
        ]
        .contains(&cause.reason());
        let status = status(&Refusal { cause: cause.clone(), event: None });
        assert_eq!(status.get_details_retry_info().is_some(), helps, "{cause:?}");
    }
}

#[test]
fn a_status_names_reason_domain_and_event() {
    let refusal = Refusal { cause: RefusalCause::Denied, event: Some("logs/l/events/7".into()) };
    let status = status(&refusal);
    assert_eq!(status.code(), Code::PermissionDenied);
    let info = status.get_details_error_info().unwrap();
    assert_eq!((info.reason.as_str(), info.domain.as_str()), ("PERMISSION_DENIED", DOMAIN));
    assert_eq!(info.metadata.get("event").map(String::as_str), Some("logs/l/events/7"));
}

#[test]
fn no_item_of_a_batch_is_longer_than_what_the_reply_was_counted_with() {
    let event = format!("logs/a{}/events/{}", "b".repeat(62), u64::MAX);
    let mut longest = 0;
    for cause in causes() {
        let refusal = Refusal { cause, event: Some(event.as_str().into()) };
        let result = v1::decrypt_result::Result::Error(crate::encryption::item_status(&refusal));
        let results = vec![v1::DecryptResult { result: Some(result) }];
        let reply = v1::BatchDecryptResponse { results, receipt: None };
        longest = longest.max(reply.encoded_len());
    }
    assert!(longest <= crate::parse::ERROR_BYTES, "{longest}");
    assert!(longest > crate::parse::ERROR_BYTES / 2, "{longest}: it may be counted with less");
}
