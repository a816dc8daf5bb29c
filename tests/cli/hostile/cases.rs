//! The list: everything that a caller can state wrongly, and the reason that it is told.

use fieldseal_api::v1;
use tonic::Code;
use tonic::Code::{InvalidArgument, NotFound};
use tonic::codegen::Bytes;

/// Where a value belongs and why it is wanted: what `Encrypt` and `Decrypt` have alike.
#[derive(Clone)]
pub(super) struct Stated {
    pub(super) field: v1::Field,
    pub(super) partition: String,
    pub(super) row: String,
}

/// The value that everything here is about.
pub(super) const PLAINTEXT: &str = "ada@example.com";

pub(super) fn good() -> Stated {
    let (key, table) = ("keys/customer-pii".to_owned(), "users".to_owned());
    let extra_context = vec![pair("region", "eu")];
    let field = v1::Field { key, table, column: "email".to_owned(), extra_context };
    Stated { field, partition: "acme".to_owned(), row: "42".to_owned() }
}

fn pair(name: &str, value: &str) -> v1::ContextPair {
    v1::ContextPair { name: name.to_owned(), value: value.to_owned() }
}

pub(super) fn text(text: &str) -> Option<v1::Value> {
    Some(v1::Value { kind: Some(v1::value::Kind::StringValue(text.to_owned())) })
}

pub(super) fn bytes(bytes: impl Into<Bytes>) -> Option<v1::Value> {
    Some(v1::Value { kind: Some(v1::value::Kind::BytesValue(bytes.into())) })
}

/// What is stated wrongly, how, and the reason: `INVALID_ARGUMENT` to encrypt and to decrypt alike.
pub(super) type Mistake = (&'static str, fn(&mut Stated), &'static str);

pub(super) const MISTAKES: &[Mistake] = &[
    ("no key", |s| s.field.key.clear(), "RESOURCE_NAME_INVALID"),
    ("an empty key", |s| s.field.key = "keys/".into(), "KEY_NAME_INVALID"),
    ("a key without its prefix", |s| s.field.key = "customer-pii".into(), "RESOURCE_NAME_INVALID"),
    ("a key's name too long", |s| s.field.key = key("k".repeat(64)), "KEY_NAME_INVALID"),
    ("a key's name in capitals", |s| s.field.key = key("PII"), "KEY_NAME_INVALID"),
    ("a path as a key", |s| s.field.key = key("../pii"), "KEY_NAME_INVALID"),
    ("no table", |s| s.field.table.clear(), "TABLE_INVALID"),
    ("a table's name too long", |s| s.field.table = "t".repeat(129), "TABLE_INVALID"),
    ("a table's name with a NUL", |s| s.field.table.push('\0'), "TABLE_INVALID"),
    ("no column", |s| s.field.column.clear(), "COLUMN_INVALID"),
    ("a column's name too long", |s| s.field.column = "c".repeat(129), "COLUMN_INVALID"),
    ("a column's name with a line end", |s| s.field.column.push('\n'), "COLUMN_INVALID"),
    ("a partition too long", |s| s.partition = "p".repeat(257), "PARTITION_INVALID"),
    ("a partition with an escape", |s| s.partition = "\u{1b}[31m".into(), "PARTITION_INVALID"),
    ("a row too long", |s| s.row = "9".repeat(1025), "ROW_INVALID"),
    ("a row with a control character", |s| s.row = "4\u{7}2".into(), "ROW_INVALID"),
    ("a UUID in capitals", |s| s.row = UUID.to_uppercase(), "ROW_NOT_CANONICAL"),
    ("a UUID without hyphens", |s| s.row = UUID.replace('-', ""), "ROW_NOT_CANONICAL"),
    ("a UUID in braces", |s| s.row = format!("{{{UUID}}}"), "ROW_NOT_CANONICAL"),
    ("17 pairs", |s| s.field.extra_context = pairs(17, 1), "EXTRA_CONTEXT_TOO_MANY"),
    (
        "a pair twice",
        |s| s.field.extra_context.push(pair("region", "us")),
        "EXTRA_CONTEXT_DUPLICATE",
    ),
    (
        "a pair without a name",
        |s| s.field.extra_context.push(pair("", "x")),
        "EXTRA_CONTEXT_INVALID",
    ),
    (
        "a pair's value too long",
        |s| s.field.extra_context = pairs(1, 1025),
        "EXTRA_CONTEXT_INVALID",
    ),
    ("a context too long", |s| s.field.extra_context = pairs(4, 1024), "CONTEXT_TOO_LONG"),
];

pub(super) const UUID: &str = "0f8fad5b-d9cb-469f-a165-70867728950e";

fn key(name: impl AsRef<str>) -> String {
    format!("keys/{}", name.as_ref())
}

fn pairs(count: usize, bytes: usize) -> Vec<v1::ContextPair> {
    (0..count).map(|at| pair(&format!("pair-{at}"), &"v".repeat(bytes))).collect()
}

/// What is wrong with a decrypt, how, its code, what the caller is told, and the true cause that only
/// the audit record tells.
pub(super) type Unopened =
    (&'static str, fn(&mut v1::DecryptRequest), Code, &'static str, &'static str);

const FAILED: &str = "DECRYPTION_FAILED";

pub(super) const UNOPENED: &[Unopened] = &[
    ("nothing", |r| r.ciphertext.clear(), InvalidArgument, "CIPHERTEXT_EMPTY", ""),
    ("73 bytes", |r| r.ciphertext.truncate(73), InvalidArgument, "CIPHERTEXT_TRUNCATED", ""),
    ("one byte", |r| r.ciphertext.truncate(1), InvalidArgument, "CIPHERTEXT_TRUNCATED", ""),
    ("text cut off", |r| becomes(r, b"fs1.AQ"), InvalidArgument, "CIPHERTEXT_TRUNCATED", ""),
    ("text that is none", |r| becomes(r, b"fs1.A"), InvalidArgument, "CIPHERTEXT_TEXT_INVALID", ""),
    (
        "text with padding",
        |r| becomes(r, b"fs1.AQ=="),
        InvalidArgument,
        "CIPHERTEXT_TEXT_INVALID",
        "",
    ),
    ("an unknown suite", |r| put(r, 0, 0xfe), InvalidArgument, "CIPHERTEXT_SUITE_UNKNOWN", ""),
    (
        "plain text",
        |r| becomes(r, PLAINTEXT.as_bytes()),
        InvalidArgument,
        "CIPHERTEXT_NOT_SEALED",
        "",
    ),
    ("long plain text", |r| becomes(r, &[b'x'; 400]), InvalidArgument, "CIPHERTEXT_NOT_SEALED", ""),
    ("of a test", |r| put(r, 1, 0xff), InvalidArgument, "TEST_CIPHERTEXT", ""),
    ("more than 1 MiB", |r| longer(r, 1_500_000), InvalidArgument, "VALUE_TOO_LONG", ""),
    ("of no data key", |r| flip(r, 8), NotFound, "DATA_KEY_NOT_FOUND", ""),
    ("another key", |r| of(r).key = key("other"), InvalidArgument, FAILED, "OTHER_KEY"),
    ("an unknown key", |r| of(r).key = key("nobody-s"), InvalidArgument, FAILED, "OTHER_KEY"),
    (
        "another partition",
        |r| r.partition = "evil".into(),
        InvalidArgument,
        FAILED,
        "OTHER_PARTITION",
    ),
    ("no partition", |r| r.partition.clear(), InvalidArgument, FAILED, "OTHER_PARTITION"),
    ("another table", |r| of(r).table.push('2'), InvalidArgument, FAILED, "COMMITMENT_MISMATCH"),
    ("another column", |r| of(r).column.push('2'), InvalidArgument, FAILED, "COMMITMENT_MISMATCH"),
    ("another row", |r| r.row = "43".into(), InvalidArgument, FAILED, "COMMITMENT_MISMATCH"),
    ("no row", |r| r.row.clear(), InvalidArgument, FAILED, "COMMITMENT_MISMATCH"),
    (
        "another pair",
        |r| of(r).extra_context.clear(),
        InvalidArgument,
        FAILED,
        "COMMITMENT_MISMATCH",
    ),
    ("another salt", |r| flip(r, 9), InvalidArgument, FAILED, "COMMITMENT_MISMATCH"),
    ("another commitment", |r| flip(r, 56), InvalidArgument, FAILED, "COMMITMENT_MISMATCH"),
    ("an altered value", |r| flip(r, 58), InvalidArgument, FAILED, "TAG_MISMATCH"),
    ("a byte too many", |r| longer(r, 1), InvalidArgument, FAILED, "TAG_MISMATCH"),
    ("a byte too few", |r| cut(r, 1), InvalidArgument, FAILED, "TAG_MISMATCH"),
    (
        "a purpose too long",
        |r| why(r).purpose = "p".repeat(129),
        InvalidArgument,
        "PURPOSE_INVALID",
        "",
    ),
    (
        "a ticket of two lines",
        |r| why(r).ticket = "A\nB".into(),
        InvalidArgument,
        "TICKET_INVALID",
        "",
    ),
    (
        "an unchecked end user",
        |r| why(r).end_user_assertion = "eyJ".into(),
        InvalidArgument,
        "END_USER_ASSERTION_UNSUPPORTED",
        "",
    ),
];

fn of(request: &mut v1::DecryptRequest) -> &mut v1::Field {
    request.field.get_or_insert_default()
}

fn why(request: &mut v1::DecryptRequest) -> &mut v1::AccessReason {
    request.reason.get_or_insert_default()
}

fn becomes(request: &mut v1::DecryptRequest, ciphertext: &[u8]) {
    request.ciphertext = Bytes::copy_from_slice(ciphertext);
}

fn change(request: &mut v1::DecryptRequest, change: impl FnOnce(&mut Vec<u8>)) {
    let mut ciphertext = request.ciphertext.to_vec();
    change(&mut ciphertext);
    request.ciphertext = ciphertext.into();
}

fn put(request: &mut v1::DecryptRequest, at: usize, byte: u8) {
    change(request, |ciphertext| ciphertext[at] = byte);
}

fn flip(request: &mut v1::DecryptRequest, at: usize) {
    change(request, |ciphertext| ciphertext[at] ^= 1);
}

fn longer(request: &mut v1::DecryptRequest, by: usize) {
    change(request, |ciphertext| ciphertext.resize(ciphertext.len() + by, 7));
}

fn cut(request: &mut v1::DecryptRequest, by: usize) {
    change(request, |ciphertext| ciphertext.truncate(ciphertext.len() - by));
}

/// What is wrong with a whole batch, how, and the reason: nothing of it is opened.
pub(super) type BadBatch = (&'static str, fn(&mut v1::BatchDecryptRequest), &'static str);

pub(super) const BATCHES: &[BadBatch] = &[
    ("no items", |b| b.items.clear(), "BATCH_SIZE_INVALID"),
    ("1,001 items", |b| items(b, 1_001), "BATCH_SIZE_INVALID"),
    ("no fields", |b| b.fields.clear(), "FIELD_INDEX_INVALID"),
    ("1,001 fields", |b| b.fields.resize(1_001, good().field), "BATCH_SIZE_INVALID"),
    ("an item of no field", |b| b.items[0].field_index = 1, "FIELD_INDEX_INVALID"),
    ("a table missing", |b| b.fields[0].table.clear(), "TABLE_INVALID"),
    ("a reply over the limit", |b| large(b, 4_150), "REPLY_TOO_LARGE"),
];

fn items(batch: &mut v1::BatchDecryptRequest, count: usize) {
    let one = batch.items[0].clone();
    batch.items.resize(count, one);
}

/// 1,000 items, so large that the request is just within a message and its reply would not be.
fn large(batch: &mut v1::BatchDecryptRequest, bytes: usize) {
    let mut ciphertext = batch.items[0].ciphertext.to_vec();
    ciphertext.resize(bytes, 7);
    batch.items[0].ciphertext = ciphertext.into();
    items(batch, 1_000);
}
