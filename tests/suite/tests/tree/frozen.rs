//! What must not change, because numbers of different days are compared by it.

use std::fmt::Write as _;

use fieldseal_crypto::sha256;

use super::{files, nothing_in};

/// The yardsticks of the bench (docs/performance.md). Whoever must change one gives up every number
/// that was measured before: change the hash with it, and say so in the changelog.
const YARDSTICKS: [(&str, &str); 2] = [
    (
        "src/bench/src/durable.rs",
        "62fa4f81c452fc2fdd37ac1453a89d6842b10454aeec6a71211c7ba91e420e7d",
    ),
    ("src/bench/src/echo.rs", "7d9408a4850520b851424adf4cdebd7bed25c668b4f0c29fe4e268dee8612cf8"),
];

#[test]
fn the_yardsticks_are_frozen() {
    let sources = files("src/bench/src");
    let mut breaches = Vec::new();
    for (frozen, expected) in YARDSTICKS {
        let source = sources.iter().find(|(path, _)| path == frozen);
        let found = source.map_or_else(|| "no file".to_owned(), |(_, text)| hex(&sha256(&[text])));
        if found != expected {
            breaches.push(format!("{frozen}: its SHA-256 is {found}, and {expected} is frozen"));
        }
    }
    nothing_in(breaches);
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
