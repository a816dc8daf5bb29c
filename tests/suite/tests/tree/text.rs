//! Rules for single files.

use super::{files, nothing_in, rust_files};

const MOST_LINES: usize = 500;
/// So many characters of base64 in a row are key material.
const KEY_CHARACTERS: usize = 32;

#[test]
fn no_file_is_longer_than_a_reader_s_patience() {
    let long = rust_files("").into_iter().filter_map(|(path, text)| {
        let lines = text.lines().count();
        (lines > MOST_LINES).then(|| format!("{path}: {lines} lines, and {MOST_LINES} are allowed"))
    });
    nothing_in(long.collect());
}

#[test]
fn whatever_is_allowed_says_why() {
    let mut breaches = Vec::new();
    for (path, text) in rust_files("") {
        for (at, _) in text.match_indices('#') {
            let line_before = text[..at].rsplit('\n').next().unwrap();
            let attribute = text[at + 1..].strip_prefix('!').unwrap_or(&text[at + 1..]);
            let is_lint = ["[allow(", "[expect(", "[cfg_attr("].iter();
            if !line_before.trim().is_empty() || !is_lint.clone().any(|l| attribute.starts_with(l))
            {
                continue;
            }
            let body = within_brackets(attribute);
            let lints = !attribute.starts_with("[cfg_attr(")
                || body.contains("allow(")
                || body.contains("expect(");
            if lints && !body.contains("reason = \"") {
                let line = text[..at].matches('\n').count() + 1;
                breaches.push(format!("{path}:{line}: no reason is given"));
            }
        }
    }
    nothing_in(breaches);
}

/// An attribute from its opening to its closing bracket.
fn within_brackets(text: &str) -> &str {
    let mut depth = 0usize;
    for (at, character) in text.char_indices() {
        match character {
            '[' => depth += 1,
            ']' if depth == 1 => return &text[..at],
            ']' => depth -= 1,
            _ => {}
        }
    }
    text
}

#[test]
fn no_file_holds_a_private_key() {
    let mut breaches = Vec::new();
    for (path, content) in files("") {
        let text = String::from_utf8_lossy(&content);
        for (at, line) in private_keys(&text) {
            breaches.push(format!("{path}:{at}: {line}"));
        }
    }
    nothing_in(breaches);
}

/// The lines that begin a private key with its material behind them. Code that only looks for the
/// line has none.
fn private_keys(text: &str) -> Vec<(usize, &str)> {
    let marker = ["PRIVATE ", "KEY-----"].concat();
    let mut found = Vec::new();
    for (at, _) in text.match_indices(&marker) {
        let behind = &text[at + marker.len()..];
        // In a string, a line may end in `\n` or `\n\` or `",`.
        let behind =
            behind.trim_start_matches(|c: char| c.is_whitespace() || "\\n\",+'r".contains(c));
        let material =
            behind.chars().take_while(|c| c.is_ascii_alphanumeric() || "+/=".contains(*c));
        if material.count() >= KEY_CHARACTERS {
            let line = text[..at].matches('\n').count() + 1;
            found.push((line, "a private key"));
        }
    }
    found
}

#[test]
fn a_private_key_would_be_found() {
    let name = ["PRIVATE ", "KEY-----"].concat();
    let material = "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg";
    assert_eq!(private_keys(&format!("x\n-----BEGIN {name}\n{material}\n")).len(), 1);
    assert_eq!(private_keys(&format!("\"-----BEGIN EC {name}\\n\\\n   {material}\"")).len(), 1);
    assert_eq!(private_keys(&format!("text.contains(\"{name}\")")).len(), 0);
    assert_eq!(private_keys(&format!("-----END {name}\n")).len(), 0);
}

#[test]
fn an_attribute_without_a_reason_would_be_found() {
    assert_eq!(within_brackets("[allow(x)]\nfn a() { b[0] }"), "[allow(x)");
    assert_eq!(within_brackets("[allow(x, reason = \"[a]\")] y"), "[allow(x, reason = \"[a]\")");
}
