//! Nothing that was encrypted is found anywhere else again: not in a log line at the most verbose
//! level, a metric, the store, the audit log or an error, and neither are rows and partitions.

#![expect(clippy::print_stdout, reason = "it says how much it searched")]

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use fieldseal_api::v1;
use fieldseal_client::Client;
use memchr::memmem::Finder;

use crate::installation::{Installation, place};
use crate::probes::{get, scrape};
use crate::trouble::block_on;

const VALUES: usize = 1_000;
const BATCH: usize = 100;
/// What is looked for in 1,000 values, and once more in rows and partitions.
const MARKER_BYTES: usize = 24;

/// What is looked for, in one of the forms in which it could stand somewhere.
struct Pattern {
    name: String,
    finder: Finder<'static>,
}

/// The marker as it is, in hexadecimal, and in base64 however it lies in its groups of three bytes.
fn patterns(name: &str, marker: &str) -> Vec<Pattern> {
    let mut forms = vec![
        ("as it is".to_owned(), marker.to_owned()),
        ("lower hex".to_owned(), hex::encode(marker)),
        ("upper hex".to_owned(), hex::encode_upper(marker)),
    ];
    // As Rust shows bytes, and as JSON does.
    for between in [", ", ","] {
        let numbers: Vec<_> = marker.bytes().map(|byte| byte.to_string()).collect();
        forms.push((format!("numbers with {between:?}"), numbers.join(between)));
    }
    for before in 0..3 {
        let padded = [vec![0; before], marker.as_bytes().to_vec()].concat();
        // The characters that hold bits of the marker and of nothing else.
        let (first, last) = ((before * 8).div_ceil(6), padded.len() * 8 / 6);
        for (alphabet, engine) in [("base64", &STANDARD), ("base64url", &URL_SAFE)] {
            let encoded = engine.encode(&padded)[first..last].to_owned();
            forms.push((format!("{alphabet} after {before}"), encoded));
        }
    }
    forms
        .into_iter()
        .map(|(form, text)| {
            let finder = Finder::new(text.as_bytes()).into_owned();
            Pattern { name: format!("{name} {form}"), finder }
        })
        .collect()
}

/// What was looked through, by the kind of place.
#[derive(Default)]
struct Searched {
    bytes: BTreeMap<&'static str, usize>,
    found: Vec<String>,
}

impl Searched {
    fn look(&mut self, patterns: &[Pattern], place: &'static str, name: &str, bytes: &[u8]) {
        // A new segment of the log is zeroes to its end; those do not count as searched.
        let written = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        *self.bytes.entry(place).or_default() += written;
        for pattern in patterns {
            if let Some(at) = pattern.finder.find(bytes) {
                self.found.push(format!("{} in {place} {name} at {at}", pattern.name));
            }
        }
    }

    /// Every file below a directory.
    fn files(&mut self, patterns: &[Pattern], place: &'static str, directory: &Path) {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                self.files(patterns, place, &path);
            } else {
                let bytes = std::fs::read(&path).unwrap();
                self.look(patterns, place, &path.display().to_string(), &bytes);
            }
        }
    }
}

/// Letters that occur nowhere else.
fn marker() -> String {
    let mut random = [0; MARKER_BYTES / 2];
    std::fs::File::open("/dev/urandom").unwrap().read_exact(&mut random).unwrap();
    hex::encode(random)
}

struct Marked {
    value: String,
    place: String,
}

impl Marked {
    fn row(&self, number: usize) -> String {
        format!("row {} {number}", self.place)
    }

    /// Ten people, so that there is more than one data key.
    fn partition(&self, number: usize) -> String {
        format!("person {} {}", self.place, number % 10)
    }

    /// Text and bytes, with the marker at the beginning, in the middle and at the end.
    fn plaintext(&self, number: usize) -> v1::Value {
        let text = match number % 3 {
            0 => format!("{}-{number}", self.value),
            1 => format!("<{number}>{}</{number}>", self.value),
            _ => format!("{number:07} {}", self.value),
        };
        let kind = match number % 2 {
            0 => v1::value::Kind::StringValue(text),
            _ => v1::value::Kind::BytesValue([text.as_bytes(), b"\x00\xff"].concat().into()),
        };
        v1::Value { kind: Some(kind) }
    }

    fn item(&self, number: usize) -> v1::EncryptItem {
        v1::EncryptItem {
            partition: self.partition(number),
            row: self.row(number),
            plaintext: Some(self.plaintext(number)),
            ..v1::EncryptItem::default()
        }
    }

    fn sealed(&self, number: usize, ciphertext: &[u8]) -> v1::DecryptRequest {
        v1::DecryptRequest {
            field: Some(field()),
            partition: self.partition(number),
            row: self.row(number),
            ciphertext: ciphertext.to_vec().into(),
            ..v1::DecryptRequest::default()
        }
    }
}

fn field() -> v1::Field {
    v1::Field {
        key: "keys/customer-pii".to_owned(),
        table: "users".to_owned(),
        column: "email".to_owned(),
        ..v1::Field::default()
    }
}

/// Encrypts all values in batches and opens each again, half of them in batches and half by
/// themselves. The ciphertexts, and how many came back right.
async fn there_and_back(client: &Client, marked: &Marked) -> (Vec<Vec<u8>>, usize) {
    let (mut sealed, mut right) = (Vec::new(), 0);
    for first in (0..VALUES).step_by(BATCH) {
        let items = (first..first + BATCH).map(|number| marked.item(number)).collect();
        let request =
            v1::BatchEncryptRequest { fields: vec![field()], items, ..Default::default() };
        let answer = client.encryption().batch_encrypt(request).await.unwrap().into_inner();
        sealed.extend(answer.results.into_iter().map(|result| match result.result {
            Some(v1::encrypt_result::Result::Ok(value)) => value.ciphertext.to_vec(),
            _ => panic!("a value was not encrypted"),
        }));
    }
    for first in (0..VALUES / 2).step_by(BATCH) {
        let numbers = first..first + BATCH;
        let items = numbers.clone().map(|number| v1::DecryptItem {
            partition: marked.partition(number),
            row: marked.row(number),
            ciphertext: sealed[number].clone().into(),
            ..v1::DecryptItem::default()
        });
        let request = v1::BatchDecryptRequest {
            fields: vec![field()],
            items: items.collect(),
            ..v1::BatchDecryptRequest::default()
        };
        let answer = client.encryption().batch_decrypt(request).await.unwrap().into_inner();
        for (number, result) in numbers.zip(answer.results) {
            let Some(v1::decrypt_result::Result::Ok(value)) = result.result else { continue };
            right += usize::from(value.plaintext == Some(marked.plaintext(number)));
        }
    }
    for (number, ciphertext) in sealed.iter().enumerate().skip(VALUES / 2) {
        let request = marked.sealed(number, ciphertext);
        let answer = client.encryption().decrypt(request).await.unwrap().into_inner();
        right += usize::from(answer.plaintext == Some(marked.plaintext(number)));
    }
    (sealed, right)
}

/// Every way to be refused with a marked value in one's hands; all that the caller reads.
async fn refusals(client: &Client, marked: &Marked, sealed: &[Vec<u8>]) -> Vec<String> {
    let mut said = Vec::new();
    let mut refused = |status: tonic::Status| {
        let details = String::from_utf8_lossy(status.details()).into_owned();
        said.push(format!("{status:?} {} {details}", status.message()));
    };
    for (number, ciphertext) in sealed.iter().enumerate().take(100) {
        let mut decrypt = marked.sealed(number, ciphertext);
        match number % 6 {
            0 => decrypt.row = marked.row(number + 1),
            1 => decrypt.partition = marked.partition(number + 1),
            2 => decrypt.ciphertext = ciphertext[..80].to_vec().into(),
            // Plaintext in the place of a ciphertext.
            3 => decrypt.ciphertext = format!("fs1.{}", marked.value).into_bytes().into(),
            4 => decrypt.ciphertext = marked.value.clone().into_bytes().into(),
            _ => decrypt.field = Some(v1::Field { key: "keys/none".to_owned(), ..field() }),
        }
        refused(client.encryption().decrypt(decrypt).await.unwrap_err());
        let item = marked.item(number);
        let mut encrypt = v1::EncryptRequest {
            field: Some(field()),
            partition: item.partition,
            row: item.row,
            plaintext: item.plaintext,
            ..v1::EncryptRequest::default()
        };
        match number % 4 {
            0 => encrypt.row = "x".repeat(2_000),
            1 => encrypt.partition = "a\nb".to_owned(),
            2 => encrypt.field = Some(v1::Field { key: "keys/none".to_owned(), ..field() }),
            _ => {
                let long = marked.value.repeat(50_000);
                let kind = Some(v1::value::Kind::StringValue(long));
                encrypt.plaintext = Some(v1::Value { kind });
            }
        }
        refused(client.encryption().encrypt(encrypt).await.unwrap_err());
    }
    said
}

#[test]
fn what_was_encrypted_is_found_nowhere() {
    let marked = Marked { value: marker(), place: marker() };
    let mut installation = Installation::new();
    let mut command = installation.serve_command();
    command.env("FIELDSEAL_LOG", "trace");
    installation.serve_as(command);
    installation.ok("ops", &["key", "create", "customer-pii"], b"");

    let (right, errors) = block_on(async {
        let app = installation.client("app").await;
        let auditor = installation.client("auditor").await;
        let (sealed, right) = there_and_back(&app, &marked).await;
        let mut errors = refusals(&app, &marked, &sealed).await;
        let denied = auditor.encryption().decrypt(marked.sealed(0, &sealed[0])).await;
        errors.push(format!("{:?}", denied.unwrap_err()));
        (right, errors)
    });
    assert_eq!(right, VALUES, "not every value came back");
    let wrong = ["--row", "0", "--type", "text"];
    let mut input = marked.value.clone().into_bytes();
    input.push(0xff);
    let command = installation.run("app", &place("encrypt", &wrong), &input);
    assert!(!command.status.success());

    let mut patterns = patterns("value", &marked.value);
    patterns.extend(self::patterns("place", &marked.place));
    let mut searched = Searched::default();
    searched.look(&patterns, "metrics", "/metrics", scrape(&installation).as_bytes());
    for path in ["/readyz", "/livez", "/none"] {
        searched.look(&patterns, "metrics", path, get(&installation, path).1.as_bytes());
    }
    for error in &errors {
        searched.look(&patterns, "errors", error, error.as_bytes());
    }
    searched.look(&patterns, "errors", "of the command", &command.stderr);
    let (mut running, lines) = installation.sidecar.take().unwrap();
    running.signal(rustix::process::Signal::TERM);
    assert_eq!(running.code(), 0);
    let log = lines.all();
    assert!(log.matches("\"event\":\"call\"").count() >= VALUES / 2, "the level shows no calls");
    searched.look(&patterns, "log lines", "standard error", log.as_bytes());
    let home = installation.home();
    searched.files(&patterns, "store", &home.join("state/store"));
    searched.files(&patterns, "audit log", &home.join("state/audit"));
    searched.files(&patterns, "everything", &home);
    println!("{right} values, {} errors, bytes searched: {:?}", errors.len(), searched.bytes);
    assert!(searched.found.is_empty(), "\n{}", searched.found.join("\n"));

    // The numbers below say that there was something to find it in.
    assert_eq!(errors.len(), 201);
    for (place, least) in [
        ("metrics", 5_000),
        ("errors", 20_000),
        ("log lines", 50_000),
        ("store", 10_000),
        // A record of each decrypt, at the very least.
        ("audit log", VALUES / 2 * 200),
        ("everything", 100_000),
    ] {
        assert!(searched.bytes[place] >= least, "{place}: {} bytes", searched.bytes[place]);
    }
    a_planted_marker_is_found(&patterns, &marked, log.as_bytes());
}

/// The control: in each form, and wherever base64 begins to group, in real log lines and in a file.
fn a_planted_marker_is_found(patterns: &[Pattern], marked: &Marked, log: &[u8]) {
    let directory = tempfile::tempdir().unwrap();
    let (mut planted, mut found) = (0, 0);
    for marker in [&marked.value, &marked.place] {
        for before in 0..7 {
            let whole = format!("{}{marker}{}", "b".repeat(before), "a".repeat(before % 4));
            for form in [
                whole.clone(),
                hex::encode(&whole),
                hex::encode_upper(&whole),
                STANDARD.encode(&whole),
                URL_SAFE.encode(&whole),
                format!("{:?}", whole.as_bytes()),
                serde_json::to_string(whole.as_bytes()).unwrap(),
            ] {
                let middle = log.len() / 2;
                let bytes = [&log[..middle], form.as_bytes(), &log[middle..]].concat();
                std::fs::write(directory.path().join("planted"), bytes).unwrap();
                let mut searched = Searched::default();
                searched.files(patterns, "control", directory.path());
                planted += 1;
                found += usize::from(!searched.found.is_empty());
            }
        }
    }
    println!("control: {found} of {planted} planted markers found");
    assert_eq!((planted, found), (98, 98));
}
