//! The question before key material goes.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use crate::failure::Failure;

/// Goes on only if `name` was given, or is typed by whoever sits at the terminal. `what` says what is
/// lost.
///
/// # Errors
/// `CONFIRMATION_REQUIRED`: nothing was changed.
pub(crate) fn by_name(name: &str, given: Option<&str>, what: &str) -> Result<(), Failure> {
    let refused = |why: &str| {
        Failure::usage("CONFIRMATION_REQUIRED", format!("{why}; nothing was changed"))
            .advise(format!("{what}; if you mean it, add: --confirm {name}"))
    };
    match given {
        Some(given) if given == name => return Ok(()),
        Some(_) => return Err(refused("--confirm is not the name of what would be lost")),
        None => {}
    }
    if !(io::stdin().is_terminal() && io::stderr().is_terminal()) {
        return Err(refused(
            "this must be confirmed with the name, and nobody is here to be asked",
        ));
    }
    let mut said = String::new();
    let mut terminal = io::stderr().lock();
    let asked = write!(terminal, "{what}.\nType {name} to go on: ").and_then(|()| terminal.flush());
    let heard = asked.and_then(|()| io::stdin().lock().read_line(&mut said));
    if heard.is_ok() && said.trim() == name {
        return Ok(());
    }
    Err(refused("the answer is not the name of what would be lost"))
}
