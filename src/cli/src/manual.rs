//! Shell completions and man pages, made from the definitions that read the command line.

use std::path::Path;

use clap::{Command, CommandFactory as _};
use clap_mangen::Man;
use serde_json::json;

use crate::arguments::Arguments;
use crate::arguments::manual::{CompletionsArguments, ManArguments};
use crate::failure::Failure;
use crate::output::{self, Output, counted};

/// The program's name.
const PROGRAM: &str = "fieldseal";

/// Runs `completions`.
pub(crate) fn completions(arguments: &CompletionsArguments) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut Arguments::command(), PROGRAM, &mut script);
    output::bytes(&script)
}

/// Runs `man`.
pub(crate) fn man(arguments: &ManArguments, output: &Output) -> Result<(), Failure> {
    let dir = &arguments.dir;
    std::fs::create_dir_all(dir).map_err(|e| Failure::io("cannot make", dir, &e))?;
    let pages = pages();
    for (name, text) in &pages {
        write(&dir.join(name), text)?;
    }
    output.show(
        || json!({ "dir": dir, "pages": pages.iter().map(|(name, _)| name).collect::<Vec<_>>() }),
        || {
            let dir = output::visible(&dir.display().to_string());
            format!("{} in {dir}", counted(pages.len() as u64, "man page"))
        },
    )
}

fn write(path: &Path, text: &[u8]) -> Result<(), Failure> {
    std::fs::write(path, text).map_err(|e| Failure::io("cannot write", path, &e))
}

/// The page of the program and of every command, as file name and text.
fn pages() -> Vec<(String, Vec<u8>)> {
    let mut program = Arguments::command().disable_help_subcommand(true);
    program.build();
    let mut pages = Vec::new();
    add(&program, &mut pages);
    pages
}

fn add(command: &Command, pages: &mut Vec<(String, Vec<u8>)>) {
    let source = format!("{PROGRAM} {}", env!("CARGO_PKG_VERSION"));
    let page = Man::new(command.clone()).source(source).manual("Fieldseal");
    let mut text = Vec::new();
    // Nothing that is written into memory fails.
    if page.render(&mut text).is_ok() {
        pages.push((page.get_filename(), text));
    }
    for command in command.get_subcommands().filter(|command| !command.is_hide_set()) {
        add(command, pages);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_page_that_says_what_it_is_for() {
        let pages = pages();
        let page = |name: &str| {
            let page = pages.iter().find(|(file, _)| file == name);
            let (_, text) = page.unwrap_or_else(|| panic!("no {name}"));
            String::from_utf8(text.clone()).unwrap()
        };
        let top = page("fieldseal.1");
        assert!(top.contains(".SH NAME") && top.contains("Exit codes"), "{top}");
        for command in Arguments::command().get_subcommands() {
            let text = page(&format!("fieldseal-{}.1", command.get_name()));
            let about = command.get_about().unwrap().to_string();
            let first = about.split(['-', '\'', '`']).next().unwrap();
            assert!(text.contains(first), "{about}");
        }
        assert!(page("fieldseal-csv-encrypt.1").contains("row\\-column"));
        assert!(!pages.iter().any(|(name, _)| name == "fieldseal-config-reference.1"));
    }
}
