//! Steps 3 to 7: what each caller asks for, and what the sidecar answers.

use std::fs::File;
use std::io::BufReader;
use std::net::SocketAddr;
use std::path::Path;

use bytes::Bytes;
use fieldseal_api::v1;
use fieldseal_client::Client;

use super::place::Place;
use crate::arguments::{
    AuditListArguments, CsvArguments, FieldArguments, FilterArguments, Outcome,
};
use crate::audit;
use crate::connection::{connect_with, failure, refused};
use crate::csv::{self, Direction, Job, Progress, Row};
use crate::failure::{Exit, Failure};
use crate::installation::Created;
use crate::keys::number;
use crate::output::{Table, counted, grouped, shortened};
use crate::questions::Zone;
use crate::values;

const KEY: &str = "customer-pii";
const TABLE: &str = "customers";
const COLUMNS: [&str; 4] = ["email", "phone", "iban", "notes"];
/// Rows that are read back.
const ROWS: usize = 10;
/// Columns of text that one value takes at most.
const WIDTH: usize = 30;

/// The three callers, each with a connection of its own.
pub(super) struct Callers {
    app: Client,
    ops: Client,
    auditor: Client,
}

/// A value that was sealed, and where.
pub(super) struct Sealed {
    column: String,
    row: String,
    ciphertext: Bytes,
}

impl Callers {
    pub(super) const NAMES: [&'static str; 3] = ["app", "ops", "auditor"];

    pub(super) async fn connect(made: &Created, address: SocketAddr) -> Result<Self, Failure> {
        let as_caller = |name| connect_with(made.client(name, address));
        Ok(Self {
            app: as_caller("app").await?,
            ops: as_caller("ops").await?,
            auditor: as_caller("auditor").await?,
        })
    }

    /// Step 3.
    pub(super) async fn create_key(&self) -> Result<String, Failure> {
        let request = v1::CreateKeyRequest { key_id: KEY.to_owned(), ..Default::default() };
        let created = self.ops.keys().create_key(request).await.map_err(|s| failure(&s))?;
        let key = created.into_inner().key.unwrap_or_default();
        Ok(format!(
            "\n3  ops creates a key\n   key         {}, version {} is primary",
            key.name,
            number(&key.primary_version)
        ))
    }

    /// Step 4.
    pub(super) async fn seal_table(&mut self, place: &Place) -> Result<String, Failure> {
        let arguments = CsvArguments {
            input: place.table(),
            destination: place.sealed_table(),
            field: shared(),
            column: COLUMNS.map(str::to_owned).to_vec(),
            row_column: Some("id".to_owned()),
            any_row: false,
            partition: None,
            partition_column: None,
            null: Some("\\N".to_owned()),
            delimiter: b',',
            force: false,
        };
        let job = Job::new(arguments, Direction::Encrypt);
        let mut progress = Progress::begin(&place.table(), "sealing");
        let summary = csv::transform(&job, &mut self.app.encryption(), &mut progress).await?;
        progress.end();
        Ok(format!(
            "\n4  app seals {} of {} customer records\n   sealed      {} in {}; {} empty, the longest \
             of {} bytes\n   left        {}\n   wrote       {}",
            COLUMNS.join(", "),
            grouped(summary.records),
            counted(summary.values, "value"),
            counted(summary.calls, "call"),
            grouped(summary.empty),
            grouped(summary.longest),
            counted(summary.nulls, "NULL"),
            place.sealed_table().display(),
        ))
    }

    /// Step 5. Also gives a sealed value, for the refusals.
    pub(super) async fn read_and_rotate(&self, place: &Place) -> Result<(String, Sealed), Failure> {
        let rows = sealed_rows(place)?;
        let opened = self.open(&rows).await?;
        let mut table = Table::new(&["ROW", "COLUMN", "IN THE FILE", "OPENED"]).indented(3);
        for (sealed, value) in rows.iter().zip(&opened) {
            let text = String::from_utf8_lossy(&sealed.ciphertext);
            let (before, after) = (shortened(&text, WIDTH), shortened(&value.0, WIDTH));
            table.row([sealed.row.as_str(), sealed.column.as_str(), &before, &after]);
        }
        let request = v1::RotateKeyRequest { name: name(), ..Default::default() };
        let rotated = self.ops.keys().rotate_key(request).await.map_err(|s| failure(&s))?;
        let rotated = rotated.into_inner();
        let new = self.seal("email", "1001", "new.customer@example.com").await?;
        let old = rows.into_iter().next().ok_or_else(no_rows)?;
        let both = self.open(&[old.clone(), new.clone()]).await?;
        let mut versions = Table::new(&["ROW", "OPENED", "SEALED UNDER"]).indented(3);
        for (sealed, (value, version)) in [&old, &new].into_iter().zip(&both) {
            versions.row([sealed.row.as_str(), value.as_str(), version.as_str()]);
        }
        let text = format!(
            "\n5  app reads ten rows back\n{}\n   ops rotates the key: version {} is primary, version {} \
             still opens\n{}",
            table.text(),
            number(&rotated.primary_version),
            number(&rotated.previous_primary_version),
            versions.text().trim_end(),
        );
        Ok((text, old))
    }

    /// Opens values of any columns in one call: the text and the key version of each.
    async fn open(&self, sealed: &[Sealed]) -> Result<Vec<(String, String)>, Failure> {
        let fields = COLUMNS.map(|column| values::field(&shared(), column)).to_vec();
        let place = |column: &str| COLUMNS.iter().position(|c| *c == column).unwrap_or_default();
        let items = sealed.iter().map(|one| v1::DecryptItem {
            field_index: u32::try_from(place(&one.column)).unwrap_or_default(),
            partition: String::new(),
            row: one.row.clone(),
            ciphertext: one.ciphertext.clone(),
        });
        let (items, reason) = (items.collect(), reason());
        let request = v1::BatchDecryptRequest { fields, items, reason };
        let reply = self.app.encryption().batch_decrypt(request).await.map_err(|s| failure(&s))?;
        let results = reply.into_inner().results.into_iter();
        results
            .map(|result| match result.result {
                Some(v1::decrypt_result::Result::Ok(value)) => {
                    Ok((text(value.plaintext), value.key_version))
                }
                Some(v1::decrypt_result::Result::Error(status)) => {
                    Err(crate::connection::item_failure(&status))
                }
                None => Err(Failure::new(Exit::Internal, "INTERNAL", "an answer without a value")),
            })
            .collect()
    }

    async fn seal(&self, column: &str, row: &str, value: &str) -> Result<Sealed, Failure> {
        let kind = Some(v1::value::Kind::StringValue(value.to_owned()));
        let request = v1::EncryptRequest {
            field: Some(values::field(&shared(), column)),
            partition: String::new(),
            row: row.to_owned(),
            plaintext: Some(v1::Value { kind }),
            allow_sealed_plaintext: false,
            ..Default::default()
        };
        let sealed = self.app.encryption().encrypt(request).await.map_err(|s| failure(&s))?;
        let ciphertext = sealed.into_inner().ciphertext;
        Ok(Sealed { column: column.to_owned(), row: row.to_owned(), ciphertext })
    }

    /// Step 6.
    pub(super) async fn refusals(
        &self,
        made: &Created,
        address: SocketAddr,
        sealed: &Sealed,
    ) -> Result<String, Failure> {
        let mut table = Table::new(&["WHAT", "REFUSED WITH", "RECORD"]).indented(3);
        let auditor = decrypt_one(&self.auditor, sealed, &sealed.row).await;
        let request = v1::RotateKeyRequest { name: name(), ..Default::default() };
        let rotated = self.app.keys().rotate_key(request).await.map(|_| ());
        let moved = decrypt_one(&self.app, sealed, "2").await;
        let stranger = stranger(address, &made.dir.join("tls/ca.pem")).await;
        let tried = [
            ("auditor decrypts a value", "PERMISSION_DENIED", auditor.map_err(|s| failure(&s))),
            ("app rotates the key", "PERMISSION_DENIED", rotated.map_err(|s| failure(&s))),
            (
                "app opens a value in another row",
                "DECRYPTION_FAILED",
                moved.map_err(|s| failure(&s)),
            ),
            ("a caller without a certificate", "CERTIFICATE_REFUSED", stranger),
        ];
        for (what, wanted, refused) in tried {
            let Err(refused) = refused else {
                let what = format!("{what}: it was not refused");
                return Err(Failure::new(Exit::Internal, "INTERNAL", what));
            };
            // A sidecar that is gone answers nobody: that would be no refusal.
            if refused.reason() != wanted {
                return Err(refused.at(what));
            }
            table.row([
                what,
                refused.reason(),
                refused.event().unwrap_or("none: no call was made"),
            ]);
        }
        Ok(format!("\n6  Four refusals\n{}", table.text().trim_end()))
    }

    /// Step 7, first half.
    pub(super) async fn list_decrypts(&self) -> Result<String, Failure> {
        let arguments = AuditListArguments {
            filter: FilterArguments {
                action: ["Decrypt", "BatchDecrypt"].map(str::to_owned).to_vec(),
                outcome: vec![Outcome::Ok, Outcome::Denied, Outcome::Failed, Outcome::Partial],
                ..FilterArguments::default()
            },
            limit: 100,
            oldest_first: true,
            items: true,
            ..AuditListArguments::default()
        };
        let listed = audit::query(&mut self.auditor.audit(), &arguments).await?;
        let table = audit::table(&listed.events, true, Zone::Utc).text();
        let lines: Vec<String> = table.lines().map(|line| format!("   {line}")).collect();
        Ok(format!("\n7  auditor lists the decrypts\n{}\n", lines.join("\n")))
    }
}

impl Clone for Sealed {
    fn clone(&self) -> Self {
        let (column, row) = (self.column.clone(), self.row.clone());
        Self { column, row, ciphertext: self.ciphertext.clone() }
    }
}

fn name() -> String {
    format!("keys/{KEY}")
}

fn shared() -> FieldArguments {
    FieldArguments { key: KEY.to_owned(), table: TABLE.to_owned(), context: Vec::new() }
}

fn reason() -> Option<v1::AccessReason> {
    Some(v1::AccessReason {
        purpose: "quickstart".to_owned(),
        ticket: "DEMO-1".to_owned(),
        ..Default::default()
    })
}

/// The fourth refusal.
async fn stranger(address: SocketAddr, ca: &Path) -> Result<(), Failure> {
    let endpoint = format!("https://{address}");
    Client::knock_without_certificate(&endpoint, ca).await.map_err(|e| refused(&e))
}

async fn decrypt_one(client: &Client, sealed: &Sealed, row: &str) -> Result<(), tonic::Status> {
    let request = v1::DecryptRequest {
        field: Some(values::field(&shared(), &sealed.column)),
        partition: String::new(),
        row: row.to_owned(),
        ciphertext: sealed.ciphertext.clone(),
        reason: reason(),
    };
    client.encryption().decrypt(request).await.map(|_| ())
}

fn text(value: Option<v1::Value>) -> String {
    match value.and_then(|v| v.kind) {
        Some(v1::value::Kind::StringValue(text)) => text,
        Some(v1::value::Kind::BytesValue(bytes)) => String::from_utf8_lossy(&bytes).into_owned(),
        None => String::new(),
    }
}

/// One value of each of the first ten rows, as they stand in the sealed file: the columns in turn.
fn sealed_rows(place: &Place) -> Result<Vec<Sealed>, Failure> {
    let path = place.sealed_table();
    let file = File::open(&path).map_err(|e| Failure::io("cannot read", &path, &e))?;
    let mut found = Vec::with_capacity(ROWS);
    for row in csv::rows(BufReader::new(file), b',') {
        let row: Row = row.map_err(|e| Failure::usage("CSV_INVALID", e.to_string()))?;
        let turn = COLUMNS.into_iter().cycle().skip(found.len()).take(COLUMNS.len());
        let sealed = turn.into_iter().find_map(|column| {
            let ciphertext = row.get(column).filter(|text| text.starts_with("fs1."))?;
            Some((column, Bytes::copy_from_slice(ciphertext.as_bytes())))
        });
        let Some((column, ciphertext)) = sealed else { continue };
        let row = row.get("id").unwrap_or_default();
        found.push(Sealed { column: column.to_owned(), row, ciphertext });
        if found.len() == ROWS {
            return Ok(found);
        }
    }
    Err(no_rows())
}

fn no_rows() -> Failure {
    Failure::new(Exit::Internal, "INTERNAL", "the sealed table has too few rows")
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;
    use crate::certificates::Authority;

    /// What a caller without a certificate hears from a server that hangs up, or of one that is not
    /// there.
    async fn heard(hangs_up: bool) -> String {
        let ca = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(ca.path(), Authority::new("ca").unwrap().certificate_pem()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let listener = hangs_up.then_some(listener);
        let hanging_up = async {
            while let Some(Ok((stream, _))) = match &listener {
                Some(listener) => Some(listener.accept().await),
                None => std::future::pending().await,
            } {
                drop(stream);
            }
        };
        tokio::select! {
            heard = stranger(address, ca.path()) => heard.unwrap_err().reason().to_owned(),
            () = hanging_up => String::new(),
        }
    }

    #[tokio::test]
    async fn a_sidecar_that_is_gone_has_refused_nobody() {
        assert_eq!(heard(true).await, "NOT_CONNECTED");
        assert_eq!(heard(false).await, "NOT_CONNECTED");
    }
}
