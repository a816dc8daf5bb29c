//! How deep a text nests, before anybody parses it.
//!
//! Cedar's parser, checks and trees call themselves once for each level, and a thread that runs out
//! of stack takes the whole process along.

use crate::defaults::SCHEMA_FILE;
use crate::errors::{Problem, Source};

/// Most brackets, `if`s and signs around one place.
const MAX_LEVELS: usize = 50;
/// Most operators, accesses and conditions in a row: each hangs from the one before, so a long row
/// is as deep as brackets.
const MAX_LINKS: usize = 200;

/// The first place that lies too deep, if there is one.
pub(crate) fn problem(source: &Source) -> Option<Problem> {
    // Types stand in angle brackets; in a rule those compare.
    let angles = source.name == SCHEMA_FILE;
    let mut depth = Depth { open: vec![Level::default()], signs: 0, angles };
    let mut rest = source.text.as_str();
    while let Some(first) = rest.chars().next() {
        let token = token(rest, first);
        depth.take(rest.get(..token).unwrap_or(rest));
        if let Some(message) = depth.too_deep() {
            return Some(source.problem_at(source.text.len() - rest.len(), message));
        }
        rest = rest.get(token..).unwrap_or_default();
    }
    None
}

/// The length of the token that a text begins with.
fn token(text: &str, first: char) -> usize {
    let while_in = |inside: fn(char) -> bool| text.find(|c| !inside(c)).unwrap_or(text.len());
    match first {
        '"' => string(text),
        '/' if text.starts_with("//") => text.find('\n').unwrap_or(text.len()),
        _ if ["&&", "||", "!="].iter().any(|operator| text.starts_with(operator)) => 2,
        _ if is_word(first) => while_in(is_word),
        _ => first.len_utf8(),
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The length of the string that a text begins with, to the end of the text if it has no end.
fn string(text: &str) -> usize {
    let mut escaped = true;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// What stands between one bracket and where the text has come to.
#[derive(Default)]
struct Level {
    /// The bracket that closes it; another one is a mistake, and closes nothing.
    closes: &'static str,
    ifs: usize,
    links: usize,
    /// Accesses in a row; they end with their operand.
    accesses: usize,
}

impl Level {
    const fn link(&mut self) {
        self.links += 1;
        self.accesses = 0;
    }
}

struct Depth {
    /// The text itself, and every bracket that is open.
    open: Vec<Level>,
    /// Signs (`!`, `-`) in a row.
    signs: usize,
    /// Whether `<` and `>` are brackets.
    angles: bool,
}

impl Depth {
    fn take(&mut self, token: &str) {
        let blank = token.starts_with("//") || token.trim().is_empty();
        if !blank && !matches!(token, "!" | "-") {
            self.signs = 0;
        }
        match token {
            "(" => self.enter(")"),
            "{" => self.enter("}"),
            "<" if self.angles => self.enter(">"),
            "[" => {
                // An access by name, or a set.
                self.here(|level| level.accesses += 1);
                self.enter("]");
            }
            ")" | "]" | "}" | ">" => drop(self.open.pop_if(|level| level.closes == token)),
            "," | ";" => self.here(|level| {
                *level = Level { closes: level.closes, ..Level::default() };
            }),
            "." => self.here(|level| level.accesses += 1),
            "if" => self.here(|level| level.ifs += 1),
            "!" | "-" => {
                self.signs += 1;
                self.here(Level::link);
            }
            "&&" | "||" | "+" | "*" | "when" | "unless" => self.here(Level::link),
            _ => {}
        }
    }

    fn enter(&mut self, closes: &'static str) {
        self.open.push(Level { closes, ..Level::default() });
    }

    fn here(&mut self, change: impl FnOnce(&mut Level)) {
        if let Some(level) = self.open.last_mut() {
            change(level);
        }
    }

    fn too_deep(&self) -> Option<String> {
        let ifs: usize = self.open.iter().map(|level| level.ifs).sum();
        let links: usize = self.open.iter().map(|level| level.links + level.accesses).sum();
        if self.open.len() - 1 + ifs + self.signs > MAX_LEVELS {
            return Some(format!(
                "brackets, if and signs nest deeper than {MAX_LEVELS} here; split the rule"
            ));
        }
        (links > MAX_LINKS).then(|| {
            format!("more than {MAX_LINKS} operators and conditions in a row; split the rule")
        })
    }
}

#[cfg(test)]
mod tests;
