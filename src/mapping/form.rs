//! Turns a form (`a=1&b=2`) into a record. A name that comes twice gets a list.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;
use serde_json::{Map, Value};

/// The record of a form's text.
pub(super) fn form(text: &str) -> Result<Value, String> {
    // It would be one name without a value. Form encoders write {, as all but letters and digits, in another way.
    if text.trim_start().starts_with(['{', '[']) {
        let said = "no form, since it begins with { or [; JSON needs Content-Type: application/json, and an inlet that takes it";
        return Err(said.to_owned());
    }
    let decoded = |part: &str| {
        let part = part.replace('+', " ");
        let decoded = percent_decode_str(&part).decode_utf8();
        decoded
            .map(Cow::into_owned)
            .map_err(|_| "no UTF-8 in the form".to_owned())
    };
    let mut members = Map::new();
    for pair in text.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        add(&mut members, decoded(name)?, decoded(value)?.into());
    }
    if members.is_empty() {
        return Err("the form is empty".to_owned());
    }
    Ok(Value::Object(members))
}

/// A name that is given twice has a list of values.
pub(super) fn add(members: &mut Map<String, Value>, name: String, value: Value) {
    match members.get_mut(&name) {
        None => drop(members.insert(name, value)),
        Some(Value::Array(values)) => values.push(value),
        Some(first) => *first = Value::Array(vec![first.take(), value]),
    }
}
