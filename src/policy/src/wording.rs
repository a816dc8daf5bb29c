//! Conditions in words that a reader of no Cedar understands: `purpose "support"`, `a ticket`.

use serde_json::Value;

/// A condition in words, or `None` if only Cedar's own text says it.
pub(crate) fn plain(body: &Value) -> Option<String> {
    if let Some(inner) = body.get("!").and_then(|not| not.get("arg")) {
        if let Some(key) = inner.get("in").and_then(key) {
            return Some(format!("a key other than {key:?}"));
        }
        return (attribute(inner)? == "has_end_user").then(|| "no end user".to_owned());
    }
    if let Some(either) = body.get("||") {
        // Words have no brackets.
        if ["left", "right"]
            .iter()
            .any(|side| either.get(side).is_some_and(|s| s.get("&&").is_some()))
        {
            return None;
        }
        return Some(format!(
            "{} or {}",
            plain(either.get("left")?)?,
            plain(either.get("right")?)?
        ));
    }
    if let Some(both) = body.get("&&") {
        let part = |name: &str| both.get(name).filter(|part| !is_a_choice(part));
        return Some(format!("{} and {}", plain(part("left")?)?, plain(part("right")?)?));
    }
    if let Some(equal) = body.get("==") {
        let (of, text) = sides(equal)?;
        return is(of, text);
    }
    if let Some(other) = body.get("!=") {
        let (of, text) = sides(other)?;
        return is_not(of, text);
    }
    if let Some(like) = body.get("like") {
        let of = attribute(like.get("left")?)?;
        return Some(format!("{} like {:?}", name(of)?, pattern(like.get("pattern")?)?));
    }
    if let Some(contains) = body.get("contains") {
        let of = attribute(contains.get("right")?)?;
        let texts = contains.get("left")?.get("Set")?.as_array()?.iter();
        let texts: Option<Vec<_>> =
            texts.map(|text| is(of, text.get("Value")?.as_str()?)).collect();
        return Some(texts?.join(" or "));
    }
    if let Some(within) = body.get("in") {
        return key(within).map(|key| format!("key {key:?}"));
    }
    (attribute(body)? == "has_end_user").then(|| "an end user".to_owned())
}

/// What has an "or" in its words.
fn is_a_choice(part: &Value) -> bool {
    let set = part.get("contains").and_then(|of| of.get("left")?.get("Set")?.as_array());
    part.get("||").is_some() || set.is_some_and(|texts| texts.len() != 1)
}

/// The key of `resource in Key::"…"`.
fn key(within: &Value) -> Option<&str> {
    let key = within.get("right")?.get("Value")?.get("__entity")?;
    let fits = within.get("left")?.get("Var")? == "resource" && key.get("type")? == "Key";
    key.get("id")?.as_str().filter(|_| fits)
}

/// The name of `context.name`, or `key` of `resource.key`.
fn attribute(part: &Value) -> Option<&str> {
    let of = part.get(".")?;
    match (of.get("left")?.get("Var")?.as_str()?, of.get("attr")?.as_str()?) {
        ("context", name) => Some(name),
        ("resource", "key" | "name") => Some("key"),
        _ => None,
    }
}

/// An attribute and the text that it is compared with.
fn sides(of: &Value) -> Option<(&str, &str)> {
    let (left, right) = (of.get("left")?, of.get("right")?);
    let (name, text) = match attribute(left) {
        Some(name) => (name, right),
        None => (attribute(right)?, left),
    };
    Some((name, text.get("Value")?.as_str()?))
}

fn name(of: &str) -> Option<&'static str> {
    Some(match of {
        "purpose" => "purpose",
        "ticket" => "ticket",
        "end_user" => "end user",
        "end_user_issuer" => "an end user of",
        "key" => "key",
        _ => return None,
    })
}

fn is(of: &str, text: &str) -> Option<String> {
    match (of, text) {
        ("partition", "named") => Some("a named partition".to_owned()),
        ("partition", "default") => Some("the default partition".to_owned()),
        ("end_user" | "end_user_issuer", "") => Some("no end user".to_owned()),
        (of, "") => Some(format!("no {}", name(of)?)),
        (of, text) => Some(format!("{} {text:?}", name(of)?)),
    }
}

fn is_not(of: &str, text: &str) -> Option<String> {
    match (of, text) {
        ("partition", "named") => is(of, "default"),
        ("partition", "default") => is(of, "named"),
        ("end_user" | "end_user_issuer", "") => Some("an end user".to_owned()),
        (of, "") => Some(format!("a {}", name(of)?)),
        ("end_user", text) => Some(format!("no end user, or one other than {text:?}")),
        ("end_user_issuer", text) => Some(format!("no end user of {text:?}")),
        ("key", text) => Some(format!("a key other than {text:?}")),
        (of, text) => Some(format!("{} other than {text:?}", name(of)?)),
    }
}

/// `CASE-*` of a pattern.
fn pattern(of: &Value) -> Option<String> {
    let mut text = String::new();
    for part in of.as_array()? {
        match part.get("Literal").and_then(Value::as_str) {
            Some(literal) => text.push_str(&literal.replace('*', "\\*")),
            None => text.push('*'),
        }
    }
    Some(text)
}
