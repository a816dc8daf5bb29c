//! What `Dockerfile` and `deploy/` say must be what the program does.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a file that cannot be read fails the test, and so does what it does not say"
)]

mod host;
mod image;
mod kubernetes;

use std::fs;
use std::path::Path;

use fieldseal_server::Config;

/// The port of the second listener unless `probes.listen` says otherwise.
fn probes_port() -> u16 {
    defaults().probes.listen.unwrap().port()
}

fn read(path: &str) -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path);
    fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()))
}

/// What holds where nothing is stated.
fn defaults() -> Config {
    Config::parse(Path::new("/fieldseal.toml"), "format = 1").unwrap()
}
