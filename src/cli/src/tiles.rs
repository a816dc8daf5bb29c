//! `audit tiles`: a verified log in the layout that other people's programs read.

use fieldseal_audit::verify::{self, Files, Tiled, TilesError};
use serde_json::json;

use crate::arguments::AuditTilesArguments;
use crate::failure::{Exit, Failure};
use crate::output::{Output, Table, grouped, note};
use crate::verify as verifying;

/// Runs `audit tiles`.
pub(crate) fn run(arguments: &AuditTilesArguments, output: &Output) -> Result<(), Failure> {
    let key = verifying::public_key(&arguments.public_key)?;
    let bar = verifying::progress();
    let read = |at| bar.set_position(at);
    let files = Files { directory: &arguments.log, archives: &arguments.archive };
    let written = verify::tiles(files, &key, &arguments.to, read);
    bar.finish_and_clear();
    let Tiled { records, written, left_out, checkpoint } = written.map_err(|e| failure(&e))?;
    if records == 0 {
        let what = "the log has no checkpoint yet";
        return Err(Failure::new(Exit::NotFound, "CHECKPOINT_NOT_FOUND", what));
    }
    let shown = || {
        let mut table = Table::bare();
        table.row(["log", key.origin()]);
        table.row(["records", &grouped(records)]);
        table.row(["files written", &grouped(written)]);
        table.text()
    };
    let json = || {
        json!({
            "origin": key.origin(), "records": records, "files_written": written,
            "entry_bundles_left_out": left_out, "checkpoint": checkpoint,
        })
    };
    output.show(json, shown)?;
    if !left_out.is_empty() {
        note(&format!(
            "warning  left out {} entry bundles: a record of more than 65,535 bytes has no place in \
             one; every hash is there, so that each record can still be proved",
            grouped(left_out.len() as u64)
        ));
    }
    Ok(())
}

fn failure(error: &TilesError) -> Failure {
    match error {
        TilesError::Log(error) => verifying::failure(error),
        TilesError::Differs(_) => Failure::new(Exit::Tampered, "TILES_ALTERED", error.to_string()),
        TilesError::Io { file, kind, .. } => {
            Failure::io("cannot write", file, &std::io::Error::from(*kind))
        }
        other => Failure::new(Exit::Internal, "INTERNAL", other.to_string()),
    }
}
