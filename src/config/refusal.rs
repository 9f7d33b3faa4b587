//! The wording of a refusal: the key, its place and the expected form, and never the value.
//!
//! serde quotes a value that it can't read, and that value may be a secret in the wrong place. This module takes
//! serde's message apart and passes on what serde expected. Our own readers quote no value.

use crate::reader::{Problem, closest};

/// What is wrong with the value at `path`, of which serde said this.
pub(super) fn words(path: &str, said: &str) -> Problem {
    let problem = |field: String, message: String| Problem { field, message };
    let expected = said.rsplit_once(", expected ").map(|(_, expected)| expected);
    if said.starts_with("unknown field `") {
        // The last step of the path is the field, which may be a value that was written in a key's place.
        let (section, field) = path.rsplit_once('.').unwrap_or(("", path));
        let field = unknown_key(field);
        let message = format!("unknown key; {}", meant(field, &names(expected.unwrap_or_default())));
        return problem(joined(&keys(section), field), message);
    }
    if let Some(missing) = said.strip_prefix("missing field `") {
        let missing = missing.trim_end_matches('`');
        return problem(
            joined(&keys(path), missing),
            format!("is missing; {}", example(missing)),
        );
    }
    if let Some(variant) = said.strip_prefix("unknown variant `") {
        let written = variant.split_once('`').map_or("", |(written, _)| written);
        let names = names(expected.unwrap_or_default());
        let message = match closest(written, names.iter().copied()) {
            Some(meant) => format!("is none of {}; did you mean {meant}?", names.join(", ")),
            None => format!("needs one of {}", names.join(", ")),
        };
        return problem(keys(path), message);
    }
    // serde_json's words for a number that is none of those that fit.
    if said.contains("invalid number") || said.contains("number out of range") {
        return problem(
            keys(path),
            "needs a whole number of at most 19 digits, 0 or more".to_owned(),
        );
    }
    let is_serdes = ["invalid type: ", "invalid value: ", "invalid length "];
    if let Some(expected) = expected.filter(|_| is_serdes.iter().any(|start| said.starts_with(start))) {
        return problem(keys(path), format!("needs {}", form(expected)));
    }
    // Of a list the message begins with the element.
    match said.strip_prefix('[').and_then(|said| said.split_once("]: ")) {
        Some((at, said)) => problem(format!("{}[{at}]", keys(path)), said.to_owned()),
        None => problem(keys(path), said.to_owned()),
    }
}

/// The key that was meant, or those that there are.
pub(super) fn meant(written: &str, known: &[&str]) -> String {
    match closest(written, known.iter().copied()) {
        Some(meant) => format!("did you mean {meant}?"),
        None => format!("known here are {}", known.join(", ")),
    }
}

/// The names that serde expects, which it puts in backticks.
fn names(expected: &str) -> Vec<&str> {
    expected.split('`').skip(1).step_by(2).collect()
}

/// What serde expects, in words for people.
fn form(expected: &str) -> &str {
    match expected {
        "a boolean" => "true or false, without quotes",
        "a string" | "string" | "string or map" | "a borrowed string" => "a text",
        "path string" => "a path",
        "a sequence" => "a list",
        "usize" | "u64" | "u32" | "u16" | "u8" => "a whole number, without quotes",
        "a map" => "a map of keys",
        map if map.starts_with("struct ") => "a map of keys",
        names if names.starts_with('`') => "one of its values as text",
        other => other,
    }
}

/// How a key that has to be there is written.
fn example(key: &str) -> &'static str {
    match key {
        "region" => "write the account's region, such as region: in1",
        "account_id" => "write the account's id, such as account_id: W8W-6ZZ-9Z5Z",
        "passcode" => "write passcode: {secret: NAME}",
        "credential" => "write credential: slack:NAME or webhook:NAME",
        "rate" => "write a rate, such as rate: 2/s",
        "networks" => "name the proxy's addresses, such as networks: [10.0.0.0/8]",
        _ => "add it",
    }
}

fn joined(section: &str, key: &str) -> String {
    match section {
        "" | "." => key.to_owned(),
        section => format!("{section}.{key}"),
    }
}

fn keys(path: &str) -> String {
    path.split('.').map(plain_key).collect::<Vec<_>>().join(".")
}

/// A key as it is written, where it looks like one.
pub(super) fn plain_key(key: &str) -> &str {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '[' | ']');
    if key.len() <= 64 && key.chars().all(plain) {
        key
    } else {
        "…"
    }
}

/// The same for a key that nobody knows. Those of the configuration have no digits, which nearly every secret has.
pub(super) fn unknown_key(key: &str) -> &str {
    let plain = |c: char| c.is_ascii_alphabetic() || matches!(c, '_' | '.');
    if key.len() <= 40 && key.chars().all(plain) {
        key
    } else {
        "…"
    }
}
