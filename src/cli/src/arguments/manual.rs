//! `completions` and `man`.

use std::path::PathBuf;

use clap::Args;
use clap_complete::Shell;

#[derive(Debug, Args)]
pub(crate) struct CompletionsArguments {
    /// The shell
    pub shell: Shell,
}

#[derive(Debug, Args)]
pub(crate) struct ManArguments {
    /// Where the pages are written; made if it is not there, pages in it are replaced
    #[arg(long, value_name = "DIR")]
    pub dir: PathBuf,
}
