//! The arguments of `key rewrap`.

use clap::Args;

use super::KeyChangeArguments;

#[derive(Debug, Args)]
pub(crate) struct KeyRewrapArguments {
    #[command(flatten)]
    pub change: KeyChangeArguments,
    /// Begin only if the key is still as `key show` showed it
    #[arg(long, value_name = "ETAG", default_value = "")]
    pub etag: String,
    /// Move at most so many data keys a second; without it as many as the machine can
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..))]
    pub max_per_second: Option<i32>,
    /// Begin, and do not wait for the end
    #[arg(long)]
    pub detach: bool,
    /// Show the rewrap that was begun before, until its end
    #[arg(long, conflicts_with_all = ["detach", "validate_only", "max_per_second", "etag"])]
    pub watch: bool,
    /// Cancel the rewrap that runs; what it has moved stays moved
    #[arg(long, conflicts_with_all = ["detach", "watch", "max_per_second"])]
    pub cancel: bool,
}
