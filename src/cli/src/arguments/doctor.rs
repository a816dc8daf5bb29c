//! `doctor`: what is wrong with a stopped installation.

use std::path::PathBuf;

use clap::Args;
use fieldseal_engine::doctor::Source;

#[derive(Debug, Args)]
pub(crate) struct DoctorArguments {
    /// The installation's configuration file; it must be stopped
    #[arg(long, value_name = "PATH", env = "FIELDSEAL_CONFIG", hide_env_values = true)]
    pub config: PathBuf,
    /// Where a copy of the store is made to look at, and removed again; it needs as much space
    /// [default: the system's directory for temporary files]
    #[arg(long, value_name = "DIR")]
    pub scratch: Option<PathBuf>,
    /// Let this take the store's place, after what is lost was shown: `store` for the store as it
    /// is, which is older than its log, `copy` for its copy (store.copy), `gen-N` for a generation,
    /// or `rebuilt` for what a repair had made when it was cut off. The store before is kept
    #[arg(long, value_name = "store|copy|gen-N|rebuilt", value_parser = source)]
    pub repair: Option<Source>,
    /// The installation's id, to confirm the repair
    #[arg(long, value_name = "ID", requires = "repair")]
    pub confirm: Option<String>,
}

fn source(text: &str) -> Result<Source, String> {
    let number = text.strip_prefix("gen-").and_then(|number| number.parse().ok());
    match (text, number) {
        ("store", _) => Ok(Source::Store),
        ("copy", _) => Ok(Source::Copy),
        ("rebuilt", _) => Ok(Source::Rebuilt),
        (_, Some(number)) => Ok(Source::Generation(number)),
        _ => {
            Err("expected `store`, `copy`, `rebuilt`, or `gen-N` as `doctor` lists them".to_owned())
        }
    }
}
