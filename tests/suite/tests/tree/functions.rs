//! How long a function may be.

use super::{nothing_in, rust_files};

const MOST_LINES: usize = 70;

/// A function, from the line of its `fn` to that of its last bracket.
#[derive(Debug, PartialEq, Eq)]
struct Function {
    name: String,
    line: usize,
    lines: usize,
}

#[test]
fn no_function_is_longer_than_a_screen() {
    let mut breaches = Vec::new();
    for (path, text) in rust_files("") {
        for Function { name, line, lines } in functions(&text) {
            if lines > MOST_LINES {
                let most = format!("{lines} lines, and {MOST_LINES} are allowed");
                breaches.push(format!("{path}:{line}: {name} has {most}"));
            }
        }
    }
    nothing_in(breaches);
}

/// Every function of a source that has a body.
fn functions(text: &str) -> Vec<Function> {
    let code = code_only(text);
    let mut found = Vec::new();
    for (at, _) in code.match_indices("fn ") {
        let is_word = code[..at].chars().next_back().is_none_or(|c| !is_name(c));
        let rest = &code[at + 3..];
        let name: String = rest.chars().take_while(|c| is_name(*c) || *c == '$').collect();
        if let (true, false, Some(len)) = (is_word, name.is_empty(), body_end(rest)) {
            let line = lines_before(&code[..at]);
            found.push(Function { name, line, lines: lines_before(&rest[..len]) });
        }
    }
    found
}

fn is_name(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

fn lines_before(text: &str) -> usize {
    text.matches('\n').count() + 1
}

/// Where the body ends of a function whose name stands at the beginning; `None` if it has none.
fn body_end(code: &str) -> Option<usize> {
    let (mut inner, mut braces) = (0_usize, 0_usize);
    for (at, character) in code.char_indices() {
        match character {
            '(' | '[' => inner += 1,
            ')' | ']' => inner = inner.checked_sub(1)?,
            ';' if inner == 0 && braces == 0 => return None,
            '{' => braces += 1,
            '}' if braces == 1 => return Some(at),
            '}' => braces = braces.checked_sub(1)?,
            _ => {}
        }
    }
    None
}

/// A source with blanks in the place of comments, strings and characters. Lines stay where they are.
fn code_only(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        let passed = passed_over(rest);
        let word = rest.find(|c| !is_name(c)).unwrap_or(rest.len());
        let next = rest.chars().next().map_or(0, char::len_utf8);
        let taken = if passed > 0 { passed } else { word.max(next) };
        let (now, later) = rest.split_at(taken);
        let kept = |c| if passed == 0 || c == '\n' { c } else { ' ' };
        code.extend(now.chars().map(kept));
        rest = later;
    }
    code
}

/// The length of the comment, string or character that begins here; 0 if none does.
fn passed_over(rest: &str) -> usize {
    if rest.starts_with("//") {
        return rest.find('\n').unwrap_or(rest.len());
    }
    if rest.starts_with("/*") {
        return rest.find("*/").map_or(rest.len(), |end| end + 2);
    }
    let quoted = rest.strip_prefix(['b', 'c']).unwrap_or(rest);
    let prefix = rest.len() - quoted.len();
    if let Some(raw) = quoted.strip_prefix('r') {
        let hashes = raw.len() - raw.trim_start_matches('#').len();
        if raw[hashes..].starts_with('"') {
            let end = format!("\"{}", "#".repeat(hashes));
            let inside = prefix + 1 + hashes + 1;
            return rest[inside..].find(&end).map_or(rest.len(), |at| inside + at + end.len());
        }
    }
    match quoted.chars().next() {
        Some('"') => prefix + literal(quoted, '"'),
        Some('\'') if is_character(quoted) => prefix + literal(quoted, '\''),
        _ => 0,
    }
}

/// `'a'` or `'\n'`, and not the lifetime `'a`.
fn is_character(quoted: &str) -> bool {
    let mut inside = quoted.chars().skip(1);
    match inside.next() {
        Some('\\') => true,
        Some(_) => inside.next() == Some('\''),
        None => false,
    }
}

/// The length of a literal with its quotes; what stands behind a backslash does not end it.
fn literal(quoted: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, character) in quoted.char_indices().skip(1) {
        if !escaped && character == quote {
            return at + 1;
        }
        escaped = !escaped && character == '\\';
    }
    quoted.len()
}

#[test]
fn a_long_function_would_be_found() {
    let body = "    let x = 1;\n".repeat(MOST_LINES - 1);
    let text = format!("/// Doc.\npub fn long(a: [u8; 4]) -> [u8; 4] {{\n{body}}}\n");
    let found = functions(&text);
    assert_eq!(found, [Function { name: "long".to_owned(), line: 2, lines: MOST_LINES + 1 }]);
}

#[test]
fn brackets_in_text_are_none() {
    let text = r####"
trait T { fn without(&self); }
fn a<'b>(x: &'b str) -> bool {
    // } fn no() {
    /* } */
    x == "}\"" || x == r#"}"}"# || x.starts_with('}') || x.starts_with('\'') || x == "\\"
}
fn b(f: fn (u8)) { fn inner() {} }
"####;
    let names: Vec<_> = functions(text).into_iter().map(|f| (f.name, f.lines)).collect();
    let expected = [("a", 5), ("b", 1), ("inner", 1)];
    assert_eq!(names, expected.map(|(name, lines)| (name.to_owned(), lines)));
}
