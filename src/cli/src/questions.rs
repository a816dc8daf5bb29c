//! The questions of auditors: who touched this person, this field, this key, when and why.
//!
//! Each is a few calls of `AuditService`, and each call is on record.

mod archive;
mod asked;
mod breach;
mod counts;
mod events;
mod names;
mod noted;
mod redact;
mod report;
mod started;
mod zone;

pub(crate) use report::safe as csv_cell;

use crate::arguments::AuditCommand;
use crate::failure::Failure;
use crate::output::Output;

pub(crate) use report::{redaction, safe};
pub(crate) use zone::Zone;

/// Calls that yield a plaintext.
const READS: [&str; 3] = ["Decrypt", "BatchDecrypt", "Recover"];
/// Calls that seal one.
const WRITES: [&str; 2] = ["Encrypt", "BatchEncrypt"];

/// Runs a question; the two commands that are none have been dealt with.
pub(crate) async fn run(command: AuditCommand, output: &Output) -> Result<(), Failure> {
    match command {
        AuditCommand::Subject(question) => events::subject(question, output).await,
        AuditCommand::Changes(question) => events::changes(question, output).await,
        AuditCommand::Principal(question) => counts::principal(question, output).await,
        AuditCommand::Field(question) => counts::field(question, output).await,
        AuditCommand::Volume(question) => counts::volume(question, output).await,
        AuditCommand::Denials(question) => counts::denials(question, output).await,
        AuditCommand::Breach(question) => breach::run(question, output).await,
        AuditCommand::Redact(arguments) => redact::run(arguments, output).await,
        AuditCommand::Archive(arguments) => archive::run(arguments, output).await,
        AuditCommand::List(arguments) => crate::audit::list(*arguments, output).await,
        AuditCommand::Tail(arguments) => crate::audit::tail::run(*arguments, output).await,
        AuditCommand::Export(arguments) => crate::audit::export::run(*arguments).await,
        AuditCommand::Verify(arguments) => crate::verify::run(&arguments, output),
        AuditCommand::Anchor(arguments) => crate::anchor::anchor(arguments, output).await,
        AuditCommand::Tiles(arguments) => crate::tiles::run(&arguments, output),
        AuditCommand::Pack(arguments) => crate::pack::run(*arguments, output).await,
        AuditCommand::CheckCheckpoint(arguments) => {
            crate::extending::check(&arguments, output).await
        }
        AuditCommand::CheckReceipt(arguments) => crate::anchor::check(&arguments, output).await,
    }
}

/// `customer-pii` of `keys/customer-pii`.
fn bare(key: &str) -> String {
    key.strip_prefix("keys/").unwrap_or(key).to_owned()
}
