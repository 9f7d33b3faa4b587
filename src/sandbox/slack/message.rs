//! A Slack message: the arguments as they come, what they must hold, and how the text is stored.

use serde_json::{Map, Value, json};

use super::Refusal;
use crate::sandbox::log::Arrival;
use crate::sandbox::state::written_ts;

pub(super) const BOT_USER: &str = "U0SANDBOX";
pub(super) const BOT: &str = "B0SANDBOX";
/// More than this is cut off.
const TEXT_CHARS_MAX: usize = 40_000;
/// More than this is stored as several messages…
const MESSAGE_CHARS_MAX: usize = 4_040;
/// … of so many each.
const PART_CHARS: usize = 4_000;
pub(super) const BLOCKS_MAX: usize = 50;
const ATTACHMENTS_MAX: usize = 100;

/// The form fields of a body or a query, in their order.
pub(in crate::sandbox) fn form_fields(text: &str) -> Vec<(String, String)> {
    let mut url = reqwest::Url::parse("http://sandbox/").expect("the text is a URL");
    url.set_query(Some(text));
    url.query_pairs()
        .map(|(name, value)| (name.into_owned(), value.into_owned()))
        .collect()
}

/// A text as Slack keeps it: what is too long for a message is cut off without a word.
pub(in crate::sandbox) fn kept_text(text: &str) -> &str {
    match text.char_indices().nth(TEXT_CHARS_MAX) {
        Some((end, _)) => text.get(..end).expect("the index is a character's"),
        None => text,
    }
}

/// Whether the message holds anything that Slack would show.
pub(in crate::sandbox) fn has_content(arguments: &Map<String, Value>) -> bool {
    let is_full = |name| match arguments.get(name) {
        Some(Value::String(text)) => !text.trim().is_empty(),
        Some(Value::Array(items)) => !items.is_empty(),
        _ => false,
    };
    ["text", "blocks", "attachments"].into_iter().any(is_full)
}

/// The arguments of query and body, or the code for a body that can't be read.
pub(super) fn read_arguments(
    query: Option<&str>,
    content_type: &str,
    body: &[u8],
) -> Result<Map<String, Value>, &'static str> {
    let mut arguments = fields(query.unwrap_or_default());
    if body.is_empty() {
        return Ok(arguments);
    }
    match content_type.split(';').next().unwrap_or_default().trim() {
        "application/json" => match serde_json::from_slice(body) {
            Ok(Value::Object(object)) => arguments.extend(object),
            Ok(_) => return Err("json_not_object"),
            Err(_) => return Err("invalid_json"),
        },
        "application/x-www-form-urlencoded" => {
            let text = str::from_utf8(body).map_err(|_| "invalid_form_data")?;
            arguments.extend(fields(text));
            // In a form these are texts that hold JSON.
            for name in ["blocks", "attachments"] {
                if let Some(value) = arguments.get_mut(name) {
                    let text = value.as_str().unwrap_or_default();
                    *value = serde_json::from_str(text).map_err(|_| "invalid_blocks_format")?;
                }
            }
        }
        "" => return Err("missing_post_type"),
        _ => return Err("invalid_post_type"),
    }
    Ok(arguments)
}

/// Whether Slack would take the message.
pub(super) fn check_content(arguments: &Map<String, Value>) -> Result<(), Refusal> {
    if arguments
        .get("text")
        .is_some_and(|text| !text.is_string() && !text.is_null())
    {
        return Err("invalid_arguments".into());
    }
    for (name, max, code) in [
        ("blocks", BLOCKS_MAX, "invalid_blocks"),
        ("attachments", ATTACHMENTS_MAX, "too_many_attachments"),
    ] {
        match arguments.get(name) {
            None | Some(Value::Null) => {}
            Some(Value::Array(items)) if items.len() <= max => {}
            Some(Value::Array(_)) => return Err(code.into()),
            Some(_) => return Err("invalid_blocks_format".into()),
        }
    }
    if has_content(arguments) {
        Ok(())
    } else {
        Err("no_text".into())
    }
}

/// The messages that one text is stored as.
pub(super) fn parts(text: &str) -> Vec<String> {
    let chars: Vec<char> = text.chars().collect();
    if chars.len() <= MESSAGE_CHARS_MAX {
        return vec![text.to_owned()];
    }
    chars.chunks(PART_CHARS).map(|part| part.iter().collect()).collect()
}

pub(super) fn message(text: String, ts: &str, thread_ts: Option<&Value>) -> Value {
    let mut message = json!({"type": "message", "text": text, "user": BOT_USER, "bot_id": BOT, "ts": ts});
    if let Some(thread_ts) = thread_ts {
        message["thread_ts"] = thread_ts.clone();
    }
    message
}

/// An accepted message as it is stored: its parts with their keys, newest first.
pub(super) fn stored(arrival: &Arrival) -> Vec<(String, Value)> {
    let digits: String = arrival
        .ts
        .as_deref()
        .unwrap_or_default()
        .chars()
        .filter(char::is_ascii_digit)
        .collect();
    let first: u64 = digits.parse().unwrap_or_default();
    let arguments = arrival
        .arguments
        .as_deref()
        .and_then(|raw| serde_json::from_str::<Value>(raw.get()).ok());
    let thread_ts = arguments.as_ref().and_then(|arguments| arguments.get("thread_ts"));
    let parts = parts(arrival.text.as_deref().unwrap_or_default());
    let numbered = (first..).zip(parts).map(|(number, text)| {
        let ts = written_ts(number);
        (ts.clone(), message(text, &ts, thread_ts))
    });
    let mut messages: Vec<_> = numbered.collect();
    messages.reverse();
    messages
}

fn fields(text: &str) -> Map<String, Value> {
    form_fields(text)
        .into_iter()
        .map(|(name, value)| (name, Value::String(value)))
        .collect()
}
