//! The wording of a refusal: the key, its place and the expected form, and never the value.
//!
//! serde quotes a value that it can't read, and that value may be a secret in the wrong place. This module takes
//! serde's message apart and passes on what serde expected. Our own readers quote no value.

/// The key and the message of an error at `path`.
pub(super) fn words(path: &str, said: &str) -> (String, String) {
    let expected = said.rsplit_once(", expected ").map(|(_, expected)| form(expected));
    if said.starts_with("unknown field `") {
        // The last step of the path is the field, which may be a value that was written in a key's place.
        let (section, field) = path.rsplit_once('.').unwrap_or(("", path));
        let section = if section.is_empty() {
            String::new()
        } else {
            format!("{}.", keys(section))
        };
        let field = unknown_key(field);
        let message = format!("unknown field `{field}`, expected {}", expected.unwrap_or_default());
        return (format!("{section}{field}"), message);
    }
    let is_serdes = [
        "invalid type: ",
        "invalid value: ",
        "invalid length ",
        "unknown variant ",
    ];
    let message = match expected {
        Some(expected) if is_serdes.iter().any(|start| said.starts_with(start)) => {
            format!("invalid, expected {expected}")
        }
        _ => said.to_owned(),
    };
    (keys(path), message)
}

/// What serde expects, in words for people.
fn form(expected: &str) -> &str {
    match expected {
        "a boolean" => "true or false",
        "a string" | "string" | "string or map" | "a borrowed string" => "a text",
        "path string" => "a path",
        "a sequence" => "a list",
        "usize" | "u64" | "u32" | "u16" => "a whole number",
        "a map" => "a map of keys",
        map if map.starts_with("struct ") => "a map of keys",
        other => other,
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
