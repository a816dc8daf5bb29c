//! `audit pack`: an archive for an outside auditor. tests/foreign/check_pack.py checks and falsifies one.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Output;

use serde_json::Value;

use crate::installation::{Installation, place};
use crate::process::{ended, program, refused, text};

const SEGMENT: &str = "segment-00000000000000000000.log";
const HOSTILE: &str = "=cmd|'</style><script>alert(1)</script>";

/// A log with what callers may write, and a policy that was reloaded.
fn used() -> Installation {
    let i = Installation::with_key();
    let sealed = i.ok("app", &place("encrypt", &["--row", "42"]), b"ada@example.com");
    let reason = ["--row", "42", "--purpose", HOSTILE, "--ticket", "<img src=x onerror=alert(1)>"];
    i.ok("app", &place("decrypt", &reason), &sealed);
    let denied = i.run("ops", &place("decrypt", &["--row", "42"]), &sealed);
    assert_eq!(ended(&denied), refused(4, "PERMISSION_DENIED"));
    fs::write(i.home().join("policy/more.cedar"), "// reviewed\n").unwrap();
    i.ok("ops", &["policy", "reload"], b"");
    i
}

impl Installation {
    /// Without anything that only callers have.
    fn pack(&self, log: &Path, more: &[&str]) -> Output {
        let mut command = program();
        command.args(["audit", "pack", "--log"]).arg(log);
        command.arg("--public-key").arg(self.log().join("log.pub"));
        command.args(more).output().unwrap()
    }

    fn not_packed(&self, log: &Path, more: &[&str]) -> (i32, String) {
        let to = self.path("refused.tar");
        let refused = ended(&self.pack(log, &[&["--to", &to], more].concat()));
        assert!(!Path::new(&to).exists(), "{more:?} wrote an archive");
        refused
    }
}

/// The files of a ustar archive, by their names under its one directory.
fn unpacked(archive: &Path) -> BTreeMap<String, Vec<u8>> {
    let bytes = fs::read(archive).unwrap();
    let (mut at, mut files, mut top) = (0, BTreeMap::new(), String::new());
    while bytes[at] != 0 {
        let field = |from: usize, len: usize| {
            let field = &bytes[at + from..at + from + len];
            text(field.split(|byte| *byte == 0).next().unwrap())
        };
        let size = usize::from_str_radix(&field(124, 12), 8).unwrap();
        let (prefix, name) = (field(345, 155), field(0, 100));
        let name = if prefix.is_empty() { name } else { format!("{prefix}/{name}") };
        if top.is_empty() {
            top = name;
        } else {
            let name = name.strip_prefix(&top).unwrap().to_owned();
            files.insert(name, bytes[at + 512..at + 512 + size].to_vec());
        }
        at += 512 + size.next_multiple_of(512);
    }
    files
}

#[test]
fn what_cannot_be_packed_is_refused_and_nothing_is_written() {
    let mut i = used();
    let log = i.log();
    let policy = i.home().join("policy").to_str().unwrap().to_owned();
    let other = i.path("other");
    fs::create_dir(&other).unwrap();
    for (more, expected) in [
        (&["--since", "2026-02-01", "--until", "2026-02-01"][..], refused(2, "QUERY_INVALID")),
        (&["--since", "yesterday"], refused(2, "TIME_INVALID")),
        (&["--since", "2020-01-01", "--until", "2020-01-02"], refused(3, "PACK_EMPTY")),
        (&["--since", "2020-01-01", "--policy", &other], refused(2, "POLICY_INVALID")),
        (&["--since", "2020-01-01", "--with-keys"], refused(2, "CLIENT_SETTINGS_MISSING")),
        (&[], refused(2, "")),
    ] {
        assert_eq!(i.not_packed(&log, more), expected, "{more:?}");
    }
    let everything = ["--since", "2020-01-01"];
    assert_eq!(i.not_packed(Path::new(&other), &everything), refused(3, "LOG_NOT_FOUND"));
    // A policy that was never in force, and a key set with a shared secret.
    let named = [&everything[..], &["--policy", &policy]].concat();
    let members = fs::read_to_string(format!("{policy}/members.toml")).unwrap();
    fs::write(format!("{policy}/members.toml"), format!("{members}\n")).unwrap();
    assert_eq!(i.not_packed(&log, &named), refused(2, "POLICY_NOT_IN_FORCE"));
    let secret = format!("{policy}/x.jwks.json");
    fs::write(secret, r#"{"keys":[{"kty":"oct","k":"AAAA"}]}"#).unwrap();
    assert_eq!(i.not_packed(&log, &named), refused(2, "POLICY_HOLDS_SECRET"));
    // What is there stays.
    let there = i.path("there.tar");
    fs::write(&there, "x").unwrap();
    let over = i.pack(&log, &["--since", "2020-01-01", "--to", &there]);
    assert_eq!(ended(&over), refused(6, "FILE_EXISTS"));
    assert_eq!(fs::read(&there).unwrap(), b"x");
    // A log that is not as it was signed.
    assert_eq!(i.stop(), 0);
    let copy = i.path("copy");
    fs::create_dir(&copy).unwrap();
    let mut bytes = fs::read(log.join(SEGMENT)).unwrap();
    let frame = bytes.windows(4).position(|four| four == b"FSFR").unwrap();
    bytes[frame + 200] ^= 1;
    fs::write(format!("{copy}/{SEGMENT}"), bytes).unwrap();
    assert_eq!(i.not_packed(Path::new(&copy), &everything), refused(7, "AUDIT_LOG_TAMPERED"));
    let left = fs::read_dir(i.dir.path()).unwrap().map(|entry| entry.unwrap().file_name());
    let left: Vec<_> = left.filter(|name| name.to_string_lossy().starts_with('.')).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn an_archive_has_what_an_auditor_needs_and_nothing_that_runs() {
    let i = used();
    let (to, again) = (i.path("pack.tar"), i.path("again.tar"));
    let policy = i.home().join("policy");
    let question = ["--since", "2020-01-01", "--policy", policy.to_str().unwrap()];
    let packed = i.pack(&i.log(), &[&question[..], &["--to", &to, "--output", "json"]].concat());
    assert_eq!(ended(&packed), (0, String::new()), "{}", text(&packed.stderr));
    let told: Value = serde_json::from_slice(&packed.stdout).unwrap();
    let records = told["tree_size"].as_u64().unwrap();
    assert_eq!((&told["first"], &told["end"]), (&0.into(), &records.into()));
    let figures = &told["figures"];
    assert_eq!((&figures["fields_read"], &figures["calls_refused"]), (&1.into(), &1.into()));
    assert_eq!(fs::metadata(&to).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::metadata(&to).unwrap().len(), told["bytes"].as_u64().unwrap());
    // The same log and the same question: the same archive.
    i.pack(&i.log(), &[&question[..], &["--to", &again]].concat());
    assert_eq!(fs::read(&to).unwrap(), fs::read(&again).unwrap());

    let files = unpacked(Path::new(&to));
    let of = |name: &str| text(&files[name]);
    let manifest: Value = serde_json::from_str(&of("manifest.json")).unwrap();
    let listed = manifest["files"].as_array().unwrap();
    let listed: BTreeMap<_, _> = listed
        .iter()
        .map(|file| (file["name"].as_str().unwrap().to_owned(), file["bytes"].as_u64().unwrap()))
        .collect();
    let there = files.iter().filter(|(name, _)| *name != "manifest.json");
    assert_eq!(listed, there.map(|(name, bytes)| (name.clone(), bytes.len() as u64)).collect());
    assert_eq!(files["log.pub"], fs::read(i.log().join("log.pub")).unwrap());
    assert!(of("checkpoint").contains(&format!("\n{records}\n")));

    // The policy before the reload and the one after it; the directory is that of the second.
    let policies: Value = serde_json::from_str(&of("policies.json")).unwrap();
    let included = policies["policies"].as_array().unwrap().iter().map(|p| &p["included"]);
    assert_eq!(included.collect::<Vec<_>>(), [&Value::Bool(false), &Value::Bool(true)]);
    let digest = policies["policies"][1]["digest"].as_str().unwrap();
    let rules = format!("policies/{digest}/files/roles.cedar");
    assert_eq!(files[&rules], fs::read(policy.join("roles.cedar")).unwrap());

    let csv = of("records.csv");
    assert!(csv.contains(",\"'=cmd|'</style><script>alert(1)</script>\","), "{csv}");
    assert!(!csv.contains(",=") && !csv.contains(",\"="), "{csv}");
    let page = of("summary.html");
    assert!(page.contains("&lt;/style&gt;&lt;script&gt;alert(1)"), "{page}");
    assert!(page.contains("content=\"default-src 'none'; style-src 'unsafe-inline'\""));
    for never in ["<script", "<img", "<link", "<iframe", "src=\"", "href=", "url(", "@import"] {
        assert!(!page.contains(never), "{never}");
    }
    assert_eq!(page.matches("</style>").count(), 1);
    assert!(page.contains("<svg viewBox") && page.contains("No inventory of keys"));
    // With what it started: the settings by name, the server's certificate and the callers' authority.
    for told in
        ["audit.refusal_window_seconds</td><td class=\"name\">60<", ">server<", ">client_ca<"]
    {
        assert!(page.contains(told), "{told}");
    }
    let of_app = csv.lines().filter(|line| line.contains(",spiffe://dev.local/app,"));
    assert!(of_app.map(|line| line.split(',').nth(5).unwrap()).all(|shown| shown.len() == 32));
    assert!(of("README.txt").contains("cd fieldseal-evidence-0-"));
    // Without -I Python would run what lies beside the program.
    let command = "python3 -I verify.py --public-key ";
    assert!(of("README.txt").contains(command));
    let command = "python3 -I /path/to/verify.py --public-key /path/to/log.pub .";
    assert!(of("README.txt").contains(command) && page.contains(command), "{page}");
    assert!(!of("README.txt").contains("python3 verify") && !page.contains("python3 verify"));
    for secret in ["ada@example.com", "AGE-SECRET-KEY"] {
        assert!(files.values().all(|bytes| !text(bytes).contains(secret)), "{secret}");
    }
}

#[test]
fn keys_come_from_the_running_sidecar_and_its_policy_is_asked() {
    let i = used();
    i.ok("ops", &["key", "create", "other", "--label", "owner=people-ops"], b"");
    let (log, key) = (i.log(), i.log().join("log.pub"));
    let line = |to: &'static str| {
        let mut line =
            ["audit", "pack", "--with-keys", "--since", "2020-01-01"].map(str::to_owned).to_vec();
        line.extend(["--log".to_owned(), log.to_str().unwrap().to_owned()]);
        line.extend(["--public-key".to_owned(), key.to_str().unwrap().to_owned()]);
        line.extend(["--to".to_owned(), i.path(to)]);
        line
    };
    let run = |caller: &str, to| {
        let line = line(to);
        i.run(caller, &line.iter().map(String::as_str).collect::<Vec<_>>(), b"")
    };
    assert_eq!(ended(&run("app", "app.tar")), refused(4, "PERMISSION_DENIED"));
    assert!(!Path::new(&i.path("app.tar")).exists());
    let packed = run("auditor", "keys.tar");
    assert!(packed.status.success(), "{}", text(&packed.stderr));
    let files = unpacked(Path::new(&i.path("keys.tar")));
    let keys: Value = serde_json::from_slice(&files["keys.json"]).unwrap();
    assert_eq!(keys["proved_by_the_log"], false);
    let other = keys["keys"].as_array().unwrap().iter().find(|key| key["name"] == "keys/other");
    let other = other.unwrap();
    assert_eq!(
        (&other["labels"]["owner"], &other["primary_age_days"]),
        (&"people-ops".into(), &0.into())
    );
    assert!(other["algorithm"].as_str().unwrap().starts_with("ChaCha20-Poly1305"));
    let page = text(&files["summary.html"]);
    assert!(page.contains("people-ops") && !page.contains("No inventory of keys"), "{page}");
}
