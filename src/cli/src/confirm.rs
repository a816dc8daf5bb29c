//! The question before key material goes.

use std::io::{self, IsTerminal as _};

use crate::failure::Failure;
use crate::output::note;

/// Goes on only if whoever runs the command repeats the name, by an argument or as an answer.
pub(crate) fn confirm(what: &str, name: &str, given: Option<&str>) -> Result<(), Failure> {
    let answer = match given {
        Some(given) => given.to_owned(),
        None if !io::stdin().is_terminal() => {
            return Err(Failure::usage(
                "CONFIRMATION_MISSING",
                format!("{what}; nothing was changed"),
            )
            .advise(format!("say so with --confirm {name}")));
        }
        None => {
            note(&format!("{what}. Type {name} to go on:"));
            let mut line = String::new();
            io::stdin().read_line(&mut line).map_err(|error| {
                Failure::usage("CONFIRMATION_MISSING", format!("cannot read the answer: {error}"))
            })?;
            line.trim().to_owned()
        }
    };
    if answer == name {
        return Ok(());
    }
    let what = format!("what was confirmed is not {name}; nothing was changed");
    Err(Failure::usage("CONFIRMATION_WRONG", what))
}
