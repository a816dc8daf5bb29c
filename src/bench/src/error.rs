//! Why a run cannot go on.

use std::io;
use std::path::PathBuf;

use fieldseal_audit::{JournalError, QueryError};
use fieldseal_client::{ClientError, Failure};

/// Why a run cannot go on. A bar that is missed is no error.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BenchError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Connect(#[from] ClientError),
    #[error("{server}: {failure}")]
    Call { server: &'static str, failure: Box<Failure> },
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error(transparent)]
    Query(#[from] QueryError),
    #[error("{server}: {what}")]
    Wrong { server: &'static str, what: &'static str },
    #[error("`{0}` failed; see above")]
    Build(String),
    #[error("`fieldseal init` failed: {0}")]
    Init(String),
    #[error("{server} does not start; see {}", log.display())]
    Start { server: &'static str, log: PathBuf },
    #[error("{server}: a reply to {call} has {found} bytes, but the echo's has {expected}")]
    Shape { server: &'static str, call: &'static str, found: usize, expected: usize },
    #[error("an unoptimised build measures nothing: run it with `cargo run --release`")]
    Unoptimised,
    #[error("interrupted")]
    Interrupted,
}
