//! The second listener: what probes and scrapers see, and what `health` makes of it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Instant;

use crate::installation::{Installation, place};
use crate::process::{PATIENCE, ended, event, refused, text};
use crate::trouble::health;

/// Sends bytes to the second listener, and reads until it hangs up.
fn exchange(installation: &Installation, bytes: &[u8]) -> String {
    let mut stream = connect(installation);
    // A request that is refused early is not read to its end.
    let _ = stream.write_all(bytes);
    heard(&mut stream)
}

fn connect(installation: &Installation) -> TcpStream {
    let stream = TcpStream::connect(&installation.probes).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn heard(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    // A reset ends it as well as an orderly end.
    match stream.read_to_end(&mut answer) {
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => panic!("it never hung up"),
        _ => text(&answer),
    }
}

/// Status and body.
pub(crate) fn get(installation: &Installation, path: &str) -> (u16, String) {
    get_as(installation, path, "*/*")
}

pub(crate) fn get_as(installation: &Installation, path: &str, accept: &str) -> (u16, String) {
    let head = format!("GET {path} HTTP/1.1\r\nHost: probes\r\nAccept: {accept}\r\n\r\n");
    let answer = exchange(installation, head.as_bytes());
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    (status.unwrap_or_else(|| panic!("no status: {answer}")), body.to_owned())
}

const OPENMETRICS: &str = "application/openmetrics-text;version=1.0.0";

pub(crate) fn scrape(installation: &Installation) -> String {
    let (status, body) = get(installation, "/metrics");
    assert_eq!(status, 200);
    body
}

/// The number of a sample, as `name` or `name{labels}`.
pub(crate) fn sample(metrics: &str, name: &str) -> Option<f64> {
    let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.map(|number| number.parse().unwrap())
}

#[test]
fn nothing_else_is_there_and_nobody_holds_it_up() {
    let installation = Installation::served();
    for path in ["/", "/metrics/", "/livez/x", "/readyz?", "//livez", "/keys", "/debug/pprof"] {
        // A query changes nothing.
        let expected = if path == "/readyz?" { 200 } else { 404 };
        assert_eq!(get(&installation, path).0, expected, "{path}");
    }
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "TRACE"] {
        let head = format!("{method} /livez HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n");
        assert!(exchange(&installation, head.as_bytes()).starts_with("HTTP/1.1 405"), "{method}");
    }
    let head = |line: String| format!("GET /livez HTTP/1.1\r\nHost: x\r\n{line}\r\n");
    let long = head(format!("X: {}\r\n", "x".repeat(16 * 1024)));
    let many = head("X: y\r\n".repeat(33));
    for (request, status) in [(long, "HTTP/1.1 431"), (many, "HTTP/1.1 431")] {
        let answer = exchange(&installation, request.as_bytes());
        assert!(answer.starts_with(status), "{answer}");
    }
    let http2 = exchange(&installation, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    assert!(!http2.contains("200"), "{http2}");
    // One request on a connection.
    let twice = "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n".repeat(2);
    assert_eq!(exchange(&installation, twice.as_bytes()).matches("HTTP/1.1").count(), 1);

    // 40 who say nothing take all places: the oldest make room for whoever comes.
    let mut idle: Vec<_> = (0..40).map(|_| connect(&installation)).collect();
    assert_eq!(idle.len(), 40);
    for path in ["/livez", "/readyz"] {
        assert_eq!(get(&installation, path).0, 200, "{path}");
    }
    let cut_off = sample(&scrape(&installation), "fieldseal_probe_connections_cut_off_total");
    assert!(cut_off.unwrap() >= 9.0, "{cut_off:?}");
    // The others end by themselves.
    for stream in &mut idle {
        assert!(!heard(stream).contains("200"));
    }
    assert_eq!(get(&installation, "/livez"), (200, "live\n".to_owned()));
}

#[test]
fn trouble_with_the_log_makes_it_not_ready_and_leaves_it_alive() {
    let mut installation = Installation::with_key();
    let probe = |installation: &Installation, kind: &str| {
        let address = installation.probes.clone();
        let output = crate::process::program()
            .args(["health", kind, "--address", &address])
            .output()
            .unwrap();
        ended(&output)
    };
    let yes = (0, String::new());
    assert_eq!(get(&installation, "/readyz"), (200, "ready\n".to_owned()));
    assert_eq!(probe(&installation, "readiness"), yes);
    assert_eq!(probe(&installation, "liveness"), yes);
    assert_eq!(sample(&scrape(&installation), "fieldseal_ready"), Some(1.0));

    let segment = installation.log().join("segment-00000000000000000000.log");
    let away = installation.log().join("away");
    std::fs::rename(&segment, &away).unwrap();
    let (running, mut lines) = installation.sidecar.take().unwrap();
    lines.until(|| (get(&installation, "/readyz").0 == 503).then_some(()));
    let said = get(&installation, "/readyz").1;
    assert_eq!(said, "not ready: the audit log cannot be written\n");
    assert_eq!(get(&installation, "/livez"), (200, "live\n".to_owned()));
    lines.until(|| (health(&installation) == "NOT_SERVING").then_some(()));
    assert_eq!(probe(&installation, "readiness"), refused(5, "NOT_READY"));
    assert_eq!(probe(&installation, "liveness"), yes);
    assert_eq!(sample(&scrape(&installation), "fieldseal_ready"), Some(0.0));

    std::fs::rename(&away, &segment).unwrap();
    lines.until(|| (get(&installation, "/readyz").0 == 200).then_some(()));
    lines.until(|| (health(&installation) == "SERVING").then_some(()));
    installation.sidecar = Some((running, lines));
    assert_eq!(installation.stop(), 0);
    assert_eq!(probe(&installation, "liveness"), refused(5, "UNREACHABLE"));
}

#[test]
fn health_finds_its_address_in_the_variable_or_in_the_configuration() {
    let mut installation = Installation::new();
    let config = installation.config();
    let ask = |variable: Option<&str>| {
        let mut command = crate::process::program();
        command.arg("health").arg("--config").arg(&config);
        if let Some(address) = variable {
            command.env("FIELDSEAL_HEALTH_ADDRESS", address);
        }
        ended(&command.output().unwrap())
    };
    // Port 0, and no file that says which port it was.
    assert_eq!(ask(None), refused(2, "ADDRESS_UNKNOWN"));
    assert_eq!(ask(Some("nowhere")).0, 2);
    let text = std::fs::read_to_string(&config).unwrap();
    let (before, after) = text.split_once("[probes]").unwrap();
    let after = after.replacen("address_file = \"\"", "address_file = \"probes\"", 1);
    std::fs::write(&config, format!("{before}[probes]{after}")).unwrap();
    assert_eq!(ask(None), refused(5, "UNREACHABLE"));
    installation.serve();
    assert_eq!(ask(None), (0, String::new()));
    assert_eq!(ask(Some(&installation.probes)), (0, String::new()));
    // The variable counts for more than the file; what listens there speaks TLS.
    let endpoint = installation.settings("app").endpoint;
    let other = endpoint.strip_prefix("https://").unwrap();
    assert_eq!(ask(Some(other)), refused(2, "NOT_A_SIDECAR"));
    // Both can come from the environment, as the sidecar's own did.
    let by = |name: &str, value: &str| {
        ended(&crate::process::program().arg("health").env(name, value).output().unwrap())
    };
    assert_eq!(by("FIELDSEAL_CONFIG", config.to_str().unwrap()), (0, String::new()));
    assert_eq!(by("FIELDSEAL_PROBES_LISTEN", &installation.probes), (0, String::new()));
    assert_eq!(by("FIELDSEAL_PROBES_LISTEN", other), refused(2, "NOT_A_SIDECAR"));
    assert_eq!(by("FIELDSEAL_PROBES_LISTEN", "here"), refused(2, "VARIABLE_INVALID"));
    assert_eq!(installation.stop(), 0);
    let mut gone = crate::process::program();
    let gone = gone.args(["health", "--address", &installation.probes]).output().unwrap();
    assert!(crate::process::text(&gone.stderr).contains("to do   start"), "{gone:?}");
    assert!(!installation.home().join("probes").exists());

    let listen = text.lines().filter(|line| line.starts_with("listen = ")).nth(1).unwrap();
    let (before, after) = text.split_once("[probes]").unwrap();
    let off = format!("{before}[probes]{}", after.replacen(listen, "listen = \"\"", 1));
    std::fs::write(&config, off).unwrap();
    assert_eq!(ask(None), refused(2, "PROBES_OFF"));
}

/// Kind and label names of each metric of `docs/metrics.md`.
fn documented() -> BTreeMap<String, (String, BTreeSet<String>)> {
    let document = include_str!("../../docs/metrics.md");
    let rows = document.lines().filter_map(|line| line.strip_prefix("| `fieldseal_"));
    let rows = rows.map(|row| {
        let cells: Vec<_> = row.split('|').map(|cell| cell.trim().trim_end_matches('`')).collect();
        let labels = cells[2].split(',').map(|label| label.trim().trim_matches('`').to_owned());
        let labels = labels.filter(|label| !label.is_empty()).collect();
        (format!("fieldseal_{}", cells[0]), (cells[1].to_owned(), labels))
    });
    rows.collect()
}

/// The same of a scrape. Each metric must have a sample.
fn scraped(metrics: &str) -> BTreeMap<String, (String, BTreeSet<String>)> {
    let mut found = BTreeMap::new();
    for line in metrics.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let (name, kind) = line.split_once(' ').unwrap();
        let total = format!("{name}_total");
        let open = kind == "counter" && !name.ends_with("_total");
        let name = if open { total } else { name.to_owned() };
        let mut labels = BTreeSet::new();
        let mut samples = 0;
        for sample in metrics.lines().filter_map(|line| line.strip_prefix(name.as_str())) {
            let is_own = ["_bucket{", "_sum", "_count", "{", " "];
            if !is_own.iter().any(|start| sample.starts_with(start)) {
                continue;
            }
            samples += 1;
            let inside = sample.split_once('{').and_then(|(_, rest)| rest.split_once('}'));
            for (label, value) in inside.into_iter().flat_map(|(inside, _)| {
                inside.split("\",").map(|pair| pair.split_once("=\"").unwrap())
            }) {
                assert!(value.len() < 80, "{sample}");
                if label != "le" {
                    labels.insert(label.to_owned());
                }
            }
        }
        assert!(samples > 0, "{name} has no number");
        found.insert(name, (kind.to_owned(), labels));
    }
    found
}

#[test]
fn a_scrape_shows_what_the_document_lists_and_the_other_way_round() {
    let installation = Installation::with_key();
    let sealed = installation.ok("app", &place("encrypt", &["--row", "1"]), b"a");
    installation.ok("app", &place("decrypt", &["--row", "1"]), &sealed);
    let mut expected = documented();
    assert!(expected.len() > 20, "the table is not read any more: {expected:?}");
    let absent = [
        "fieldseal_backup_age_seconds",
        "fieldseal_store_copy_ok",
        "fieldseal_audit_anchor_behind_records",
        "fieldseal_audit_anchor_failed",
        "fieldseal_audit_export_behind_records",
        "fieldseal_audit_export_behind_seconds",
        "fieldseal_audit_export_failed",
        "fieldseal_audit_export_rejected_total",
    ];
    for without in absent {
        assert!(
            expected.remove(without).is_some(),
            "{without}: no backup, copy, anchor or export is here"
        );
    }
    // The first scrub and the first generation are made beside the calls.
    let both = ["fieldseal_store_scrub_age_seconds", "fieldseal_store_generation_age_seconds"];
    let begun = Instant::now();
    while !both.iter().all(|name| get_as(&installation, "/metrics", "*/*").1.contains(name)) {
        assert!(begun.elapsed() < PATIENCE, "no scrub or no generation");
    }
    for accept in ["*/*", OPENMETRICS] {
        let (status, metrics) = get_as(&installation, "/metrics", accept);
        assert_eq!(status, 200);
        assert_eq!(scraped(&metrics), expected, "{accept}");
        assert_eq!(metrics.ends_with("# EOF\n"), accept == OPENMETRICS);
    }
}

#[test]
fn calls_are_counted_by_method_and_outcome_and_no_label_grows() {
    let mut installation = Installation::new();
    installation.set("level = \"info\"", "level = \"debug\"");
    installation.serve();
    installation.ok("ops", &["key", "create", "customer-pii"], b"");
    let i = &installation;
    let sealed = i.ok("app", &place("encrypt", &["--row", "1"]), b"a");
    for _ in 0..3 {
        i.ok("app", &place("decrypt", &["--row", "1"]), &sealed);
    }
    let series = |metrics: &str| {
        let lines = metrics.lines().filter(|line| !line.starts_with('#'));
        lines
            .filter_map(|line| line.rsplit_once(' '))
            .map(|(name, _)| name.to_owned())
            .collect::<BTreeSet<_>>()
    };
    let wrong = |number: usize| {
        let (row, key) = (format!("row-{number}"), format!("key-{number}"));
        let failed = i.run("app", &place("decrypt", &["--row", &row]), &sealed);
        assert_eq!(ended(&failed), refused(7, "DECRYPTION_FAILED"));
        let missing = i.run("ops", &["key", "show", &key], b"");
        assert_eq!(ended(&missing), refused(3, "KEY_NOT_FOUND"));
        let denied = i.run("auditor", &place("decrypt", &["--partition", &key]), &sealed);
        assert_eq!(ended(&denied), refused(4, "PERMISSION_DENIED"));
    };
    wrong(0);
    let before = scrape(i);
    (1..6).for_each(wrong);
    let after = scrape(i);
    assert_eq!(series(&after), series(&before), "what callers say makes it grow");
    let decrypts = |code: &str| {
        let method = "fieldseal.v1.EncryptionService/Decrypt";
        format!("fieldseal_calls_total{{method=\"{method}\",code=\"{code}\"}}")
    };
    assert_eq!(sample(&after, &decrypts("OK")), Some(3.0));
    assert_eq!(sample(&after, &decrypts("INVALID_ARGUMENT")), Some(6.0));
    assert_eq!(sample(&after, &decrypts("PERMISSION_DENIED")), Some(6.0));
    let seconds = |part: &str, outcome: &str| {
        let method = "fieldseal.v1.EncryptionService/Decrypt";
        let labels = format!("method=\"{method}\",outcome=\"{outcome}\"");
        sample(&after, &format!("fieldseal_call_seconds_{part}{{{labels}}}"))
    };
    assert_eq!(seconds("count", "ok"), Some(3.0));
    assert_eq!(seconds("count", "refused"), Some(12.0));
    assert!(seconds("sum", "ok").unwrap() > 0.0);
    assert_eq!(sample(&after, "fieldseal_values_sealed_total"), Some(1.0));
    assert_eq!(sample(&after, "fieldseal_values_opened_total"), Some(3.0));
    assert_eq!(sample(&after, "fieldseal_data_keys_made_total"), Some(1.0));
    assert_eq!(sample(&after, "fieldseal_data_keys_cached"), Some(1.0));
    assert!(sample(&after, "fieldseal_data_key_cache_hits_total").unwrap() >= 9.0);
    let free = sample(&after, "fieldseal_free_bytes{place=\"audit\"}").unwrap();
    assert!(free > 0.0);
    // The log has grown since its start, so there is an end to its space.
    let until = sample(&after, "fieldseal_audit_seconds_until_full").unwrap();
    assert!((0.0..315_360_000.0).contains(&until), "{until}");
    let written = sample(&after, "fieldseal_audit_written_bytes_total").unwrap();
    let syncs = sample(&after, "fieldseal_audit_sync_seconds_count").unwrap();
    assert!(written > 3_000.0 && syncs >= 10.0, "{written} bytes in {syncs} syncs");
    let left = "fieldseal_certificate_remaining_seconds{certificate=\"server\"}";
    assert!(sample(&after, left).unwrap() > 3_600.0);
    for told in ["row-", "key-", "customer-pii", "users", "spiffe", "127.0.0.1"] {
        assert!(!after.contains(told), "{told}: {after}");
    }
    // The level of the configuration shows each call.
    let (_, mut lines) = installation.sidecar.take().unwrap();
    let call = lines.wait(|line| event("call", line).filter(|call| call["code"] == "NOT_FOUND"));
    assert_eq!(call["method"], "fieldseal.v1.KeyService/GetKey");
}

#[test]
fn the_newest_checkpoint_comes_again_and_again_and_on_stop() {
    let mut installation = Installation::new();
    installation.set("checkpoint_seconds = 300", "checkpoint_seconds = 1");
    installation.serve();
    installation.ok("ops", &["key", "create", "customer-pii"], b"");
    let checkpoint = |line: &str| event("audit_checkpoint", line);
    let (mut running, mut lines) = installation.sidecar.take().unwrap();
    let first = lines.wait(checkpoint);
    let sealed = installation.ok("app", &place("encrypt", &[]), b"a");
    installation.ok("app", &place("decrypt", &[]), &sealed);
    let size = |line: &serde_json::Value| line["tree_size"].as_u64().unwrap();
    let later = lines.wait(|line| checkpoint(line).filter(|line| size(line) > size(&first)));
    let note = later["note"].as_str().unwrap();
    assert_eq!(note.lines().nth(1), Some(size(&later).to_string().as_str()), "{note}");
    running.signal(rustix::process::Signal::TERM);
    assert_eq!(running.code(), 0);
    let rest = lines.all();
    let last = rest.lines().filter_map(checkpoint).next_back().unwrap();
    assert!(size(&last) > size(&later), "{rest}");
    let verified = installation.verify(&installation.log());
    assert!(verified.status.success());
    let records = format!("records     {}", size(&last));
    let shown = text(&verified.stdout);
    assert!(
        shown.lines().any(|line| line.split_whitespace().eq(records.split_whitespace())),
        "{records}: {shown}"
    );
}
