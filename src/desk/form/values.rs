//! Single values of a rule as a field shows them, and back.

use serde_json::{Number, Value};

use crate::yaml;

/// A text that a field of one line holds: nothing that a browser would change, and not blank, which is left out.
pub(super) fn line(value: &Value) -> Option<String> {
    let text = value.as_str()?;
    (!text.trim().is_empty() && !text.contains(char::is_control)).then(|| text.to_owned())
}

/// The same for a text whose field is read without blanks around it.
pub(super) fn word(value: &Value) -> Option<String> {
    line(value).filter(|text| text.trim() == text)
}

/// A text that a field of several lines holds.
pub(super) fn lines(value: &Value) -> Option<String> {
    let text = value.as_str()?;
    let is_lost = |c: char| c.is_control() && c != '\n' && c != '\t';
    (!text.trim().is_empty() && !text.contains(is_lost)).then(|| text.to_owned())
}

/// An id, which is the same as a text and as a number.
pub(super) fn id(value: &Value) -> Option<String> {
    match value {
        Value::Number(number) if !number.as_str().contains(['e', 'E']) => Some(number.to_string()),
        Value::String(_) => word(value),
        _ => None,
    }
}

/// A text, number or boolean: a text stands in quotes where it would read as something else without.
pub(super) fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) if text.contains(char::is_control) => None,
        Value::String(text) => match is_itself(text) {
            true => Some(text.clone()),
            false => Some(value.to_string()),
        },
        Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// Whether a text without quotes is read as itself.
fn is_itself(text: &str) -> bool {
    text.trim() == text && !text.starts_with('"') && yaml::scalar(text).is_string()
}

/// What a field for a text, number or boolean holds. Nothing is null.
pub(super) fn read_scalar(written: &str) -> Value {
    match quoted(written) {
        Some(text) => text.into(),
        None => yaml::scalar(written.trim()),
    }
}

/// A text in quotes, as JSON writes it.
fn quoted(written: &str) -> Option<String> {
    let written = written.trim();
    (written.starts_with('"') && written.len() > 1)
        .then(|| serde_json::from_str(written).ok())
        .flatten()
}

/// A list of such values with commas between; `show` gives one of them.
pub(super) fn list(values: &[Value], show: fn(&Value) -> Option<String>) -> Option<String> {
    let element = |value: &Value| {
        let shown = show(value)?;
        // Quotes that are there already hold the comma.
        let needs_quotes = value.is_string() && !shown.starts_with('"') && shown.contains(',');
        Some(if needs_quotes { value.to_string() } else { shown })
    };
    let elements: Option<Vec<String>> = values.iter().map(element).collect();
    Some(elements?.join(", "))
}

/// The elements of a list, each as it is written. A comma within quotes parts nothing.
pub(super) fn elements(written: &str) -> Vec<&str> {
    let mut elements = Vec::new();
    let (mut begin, mut in_quotes, mut is_escaped) = (0, false, false);
    for (at, c) in written.char_indices() {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' if in_quotes => is_escaped = true,
            '"' if in_quotes => in_quotes = false,
            '"' if written[begin..at].trim().is_empty() => in_quotes = true,
            ',' if !in_quotes => {
                elements.push(written[begin..at].trim());
                begin = at + 1;
            }
            _ => {}
        }
    }
    elements.push(written[begin..].trim());
    elements.retain(|element| !element.is_empty());
    elements
}

/// An element of a list of ids.
pub(super) fn read_id(written: &str) -> Value {
    quoted(written).unwrap_or_else(|| written.to_owned()).into()
}

/// A number with its own digits; what is none stays text, so that its refusal names the field.
pub(super) fn read_number(written: &str) -> Value {
    let written = written.trim();
    match serde_json::from_str::<Number>(written) {
        Ok(_) => Value::Number(Number::from_string_unchecked(written.to_owned())),
        Err(_) => written.into(),
    }
}
