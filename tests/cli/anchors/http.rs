//! The same with an address that keeps them: PUT, GET, and 404 as long as there is none.

use std::os::unix::fs::PermissionsExt as _;
use std::sync::{Arc, Mutex};

use super::{copy, records, used};
use crate::installation::Installation;
use crate::process::{ended, event, program, refused, text};
use crate::web::{Asked, Web};

/// Every line that was put there, and how it was asked.
#[derive(Clone, Default)]
struct Shelf {
    lines: Arc<Mutex<Vec<String>>>,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Shelf {
    fn answers(&self) -> impl Fn(&Asked) -> (u16, Vec<u8>) + Send + 'static {
        let shelf = self.clone();
        move |asked| {
            shelf.asked.lock().unwrap().push(asked.clone());
            let mut lines = shelf.lines.lock().unwrap();
            match (asked.method.as_str(), asked.path.as_str(), lines.last()) {
                ("PUT", "/prod-1", _) => {
                    lines.push(String::from_utf8(asked.body.clone()).unwrap());
                    (204, Vec::new())
                }
                ("GET", "/prod-1", None) => (404, b"nothing here".to_vec()),
                ("GET", "/prod-1", Some(line)) => (200, line.clone().into_bytes()),
                _ => (405, Vec::new()),
            }
        }
    }

    fn newest(&self) -> String {
        self.lines.lock().unwrap().last().unwrap().clone()
    }
}

fn post_to(i: &Installation, url: &str, ca: bool) {
    i.set("anchor_url = \"\"", &format!("anchor_url = \"{url}\""));
    if ca {
        let ca = i.home().join("tls/ca.pem");
        i.set("anchor_ca = \"\"", &format!("anchor_ca = \"{}\"", ca.display()));
    }
}

fn refused_start(i: &Installation) -> ((i32, String), String) {
    let output = i.serve_command().output().unwrap();
    (ended(&output), text(&output.stderr))
}

#[test]
fn an_address_keeps_them_over_tls_and_a_log_that_does_not_go_on_is_not_started() {
    let mut i = Installation::new();
    let shelf = Shelf::default();
    let web = Web::listening(Some(&i.home().join("tls")), shelf.answers());
    post_to(&i, &format!("https://{}/prod-1", web.address), true);
    let token = i.home().join("anchor.token");
    i.set("anchor_token_file = \"\"", &format!("anchor_token_file = \"{}\"", token.display()));

    // Without the token nothing is asked, and so nothing is started.
    let unreadable = refused(5, "AUDIT_ANCHOR_UNREADABLE");
    assert_eq!(refused_start(&i).0, unreadable);
    std::fs::write(&token, "not-a-secret-of-anybody\n").unwrap();
    std::fs::set_permissions(&token, std::fs::Permissions::from_mode(0o644)).unwrap();
    let (code, said) = refused_start(&i);
    assert_eq!(code, unreadable);
    assert!(said.contains("chmod 600") && !said.contains("not-a-secret"), "{said}");
    assert!(shelf.asked.lock().unwrap().is_empty());
    std::fs::set_permissions(&token, std::fs::Permissions::from_mode(0o600)).unwrap();

    i.serve();
    i.ok("ops", &["key", "create", "customer-pii"], b"");
    used(&mut i);
    assert_eq!(i.stop(), 0);
    let early = shelf.newest();
    for asked in shelf.asked.lock().unwrap().iter() {
        assert_eq!(asked.authorization, "Bearer not-a-secret-of-anybody", "{asked:?}");
    }
    let (state, older, newer) =
        (i.home().join("state"), i.home().join("older"), i.home().join("newer"));
    copy(&state, &older);
    i.serve();
    used(&mut i);
    let anchor = i.json("ops", &["status"])["anchors"][0].clone();
    assert_eq!((&anchor["kind"], &anchor["failure"]), (&"http".into(), &"".into()));
    assert_eq!(i.stop(), 0);
    let late = shelf.newest();
    assert!(records(&late) > records(&early), "{early}{late}");
    let kept = i.path("kept");
    std::fs::write(&kept, &late).unwrap();
    let verified = i.verify_command(&i.log()).args(["--checkpoint", &kept]).output().unwrap();
    assert!(verified.status.success(), "{}", text(&verified.stderr));

    // The whole state of an earlier moment fits in itself: only the address knows better.
    std::fs::rename(&state, &newer).unwrap();
    std::fs::rename(&older, &state).unwrap();
    let (code, said) = refused_start(&i);
    assert_eq!(code, refused(9, "AUDIT_LOG_BEHIND_ANCHOR"));
    assert!(said.contains(&web.address.to_string()), "{said}");
    let mut doctor = program();
    let doctor = doctor.args(["--output", "json", "doctor", "--config"]).arg(i.config());
    let seen: serde_json::Value = serde_json::from_slice(&doctor.output().unwrap().stdout).unwrap();
    assert_eq!(seen["findings"][0]["reason"], "AUDIT_LOG_BEHIND_ANCHOR", "{seen}");
    std::fs::rename(&state, &older).unwrap();
    std::fs::rename(&newer, &state).unwrap();

    // It has nothing any more, sends elsewhere, answers too much, or what is of no log.
    for (status, body, reason) in [
        (404, String::new(), unreadable.clone()),
        (302, late.clone(), unreadable.clone()),
        (500, late.clone(), unreadable.clone()),
        (200, String::new(), unreadable.clone()),
        (200, "x".repeat(5000), unreadable.clone()),
        (200, "no checkpoint".to_owned(), refused(6, "AUDIT_ANCHOR_FOREIGN")),
    ] {
        web.becomes(move |_| (status, body.clone().into_bytes()));
        assert_eq!(refused_start(&i).0, reason, "{status}");
    }
}

#[test]
fn an_address_that_is_down_holds_up_no_call_and_its_lag_is_shown() {
    let mut i = Installation::new();
    let shelf = Shelf::default();
    let web = Web::listening(None, shelf.answers());
    post_to(&i, &format!("http://{}/prod-1", web.address), false);
    i.set("checkpoint_seconds = 300", "checkpoint_seconds = 1");
    i.serve();
    i.ok("ops", &["key", "create", "customer-pii"], b"");
    web.becomes(|_| (503, b"a secret of the place".to_vec()));
    used(&mut i);
    let (running, mut lines) = i.sidecar.take().unwrap();
    let line = lines.wait(|line| event("audit_anchor_failed", line));
    i.sidecar = Some((running, lines));
    assert_eq!((&line["kind"], &line["error"]), (&"http".into(), &"it answers with 503".into()));
    let anchor = i.json("ops", &["status"])["anchors"][0].clone();
    assert!(anchor["records_behind"].as_i64().unwrap() > 0, "{anchor}");
    assert_eq!(anchor["failure"], "it answers with 503");
    used(&mut i);
    web.becomes(shelf.answers());
    assert_eq!(i.stop(), 0);
    let sizes: Vec<u64> = shelf.lines.lock().unwrap().iter().map(|line| records(line)).collect();
    assert!(sizes.is_sorted() && !sizes.is_empty(), "{sizes:?}");
    i.serve();
}
