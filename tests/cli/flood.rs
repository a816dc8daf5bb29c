//! A flood of refusals through the real sidecar: the log stays short, and the sums are exact.

use std::collections::BTreeMap;

use fieldseal_client::{Client, v1};
use serde_json::Value;
use tonic::Code;

use crate::installation::{Installation, place};

const CALLS: usize = 500;
/// Callers without a right to decrypt, and at the same time each.
const CALLERS: [&str; 3] = ["ops", "auditor", "ops"];

fn request(row: usize, column: &str, sealed: &[u8]) -> v1::DecryptRequest {
    let field = v1::Field {
        key: "keys/customer-pii".to_owned(),
        table: "users".to_owned(),
        column: column.to_owned(),
        ..Default::default()
    };
    let row = format!("r{row}");
    let ciphertext = sealed.to_vec().into();
    v1::DecryptRequest { field: Some(field), row, ciphertext, ..Default::default() }
}

/// Every call is refused; it names the record that it is counted with.
async fn flood(client: Client, sealed: Vec<u8>) {
    let mut client = client.encryption();
    for call in 0..CALLS {
        let column = if call % 10 == 9 { "iban" } else { "email" };
        let refused = client.decrypt(request(call % 7, column, &sealed)).await.unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
    }
}

fn denials(i: &Installation) -> BTreeMap<(String, String), (i64, i64)> {
    let found = i.json("auditor", &["audit", "denials"]);
    let rows = found["rows"].as_array().unwrap().iter().map(|row: &Value| {
        let text = |name: &str| row[name].as_str().unwrap().to_owned();
        let number = |name: &str| row[name].as_i64().unwrap();
        ((text("principal"), text("field")), (number("field_count"), number("event_count")))
    });
    rows.collect()
}

#[test]
fn thousands_of_refusals_make_a_few_records_and_every_one_is_counted() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let mut i = Installation::with_key();
    let sealed = i.ok("app", &place("encrypt", &["--binary"]), b"x");
    let floods: Vec<_> = CALLERS
        .iter()
        .map(|caller| {
            let client = runtime.block_on(i.client(caller));
            runtime.spawn(flood(client, sealed.clone()))
        })
        .collect();
    for flood in floods {
        runtime.block_on(flood).unwrap();
    }
    let records = i.json("ops", &["status"])["log_tree_size"].as_u64().unwrap();
    assert!(records < 60, "{records} records of {} refusals", CALLS * CALLERS.len());
    assert_eq!(i.stop(), 0);

    i.serve();
    let found = denials(&i);
    let of = |who: &str, field: &str| {
        let mut all = found.iter().filter(|((p, f), _)| p.ends_with(who) && f == field);
        let one = *all.next().unwrap_or_else(|| panic!("{who} {field}: {found:?}")).1;
        assert!(all.next().is_none(), "{found:?}");
        one
    };
    let calls = i64::try_from(CALLS).unwrap();
    let each = |floods: i64, share: i64| (floods * calls * share / 10, floods * calls * share / 10);
    for (who, floods) in [("ops", 2), ("auditor", 1)] {
        assert_eq!(of(who, "users.email"), each(floods, 9));
        assert_eq!(of(who, "users.iban"), each(floods, 1));
    }
    // Every row that was asked for is found.
    let asked = ["audit", "subject", "--table", "users", "--row", "r3"];
    let rows = i.json("auditor", &asked)["rows"].as_array().unwrap().clone();
    let of_row: i64 = rows.iter().map(|row| row["call_count"].as_i64().unwrap()).sum();
    let asked_for = (0..CALLS).filter(|call| call % 7 == 3).count() * CALLERS.len();
    assert_eq!(of_row, i64::try_from(asked_for).unwrap());
    let list = String::from_utf8(i.ok("auditor", &["audit", "list"], b"")).unwrap();
    assert!(list.contains("DENIED ×"), "{list}");
    assert_eq!(i.stop(), 0);
    assert!(i.verify(&i.log()).status.success());
}

#[test]
fn a_kill_loses_repetitions_and_no_first_refusal() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let mut i = Installation::with_key();
    let sealed = i.ok("app", &place("encrypt", &["--binary"]), b"x");
    let client = runtime.block_on(i.client("ops"));
    runtime.block_on(flood(client, sealed));
    i.sidecar.take().unwrap().0.kill();
    i.serve();
    let found = denials(&i);
    for field in ["users.email", "users.iban"] {
        assert!(found.iter().any(|((_, f), counts)| f == field && counts.1 >= 1), "{found:?}");
    }
}
