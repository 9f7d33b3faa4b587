//! A Slack message: the arguments as they come, what they must hold, and how the text is stored.

use serde_json::{Map, Value, json};

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
const BLOCKS_MAX: usize = 50;
const ATTACHMENTS_MAX: usize = 100;
/// Characters of a section's text, and of each of its fields.
const SECTION_CHARS_MAX: usize = 3_000;
const FIELDS_MAX: usize = 10;
const FIELD_CHARS_MAX: usize = 2_000;
/// Characters of Markdown, as an argument or a block.
const MARKDOWN_CHARS_MAX: usize = 12_000;
/// Characters of all blocks together: no page says it, but so many were seen to be taken.
const ALL_BLOCKS_CHARS_MAX: usize = 13_200;

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

/// Whom and what a text mentions: the targets of `<@…>`, `<#…>` and `<!…>` without what Slack would show for them.
pub(in crate::sandbox) fn mentions(text: &str) -> Vec<Box<str>> {
    let spans = text.split('<').skip(1).filter_map(|span| Some(span.split_once('>')?.0));
    let targets = spans.map(|span| span.split('|').next().unwrap_or_default());
    targets
        .filter(|target| target.starts_with(['@', '#', '!']))
        .map(Into::into)
        .collect()
}

/// Whether the message holds anything that Slack would show.
fn has_content(arguments: &Map<String, Value>) -> bool {
    let is_full = |name| match arguments.get(name) {
        Some(Value::String(text)) => !text.trim().is_empty(),
        Some(Value::Array(items)) => !items.is_empty(),
        _ => false,
    };
    ["text", "blocks", "attachments", "markdown_text"]
        .into_iter()
        .any(is_full)
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
pub(in crate::sandbox) fn check_content(arguments: &Map<String, Value>) -> Result<(), &'static str> {
    let given = |name: &str| arguments.get(name).filter(|value| !value.is_null());
    for name in ["text", "markdown_text"] {
        if given(name).is_some_and(|text| !text.is_string()) {
            return Err("invalid_arguments");
        }
    }
    let list = |name: &str| match given(name) {
        None => Ok(&[][..]),
        Some(Value::Array(items)) => Ok(items.as_slice()),
        Some(_) => Err("invalid_blocks_format"),
    };
    let (blocks, attachments) = (list("blocks")?, list("attachments")?);
    if wrong_block(blocks).is_some() {
        return Err("invalid_blocks");
    }
    if blocks.iter().map(chars).sum::<usize>() > ALL_BLOCKS_CHARS_MAX {
        return Err("msg_blocks_too_long");
    }
    if attachments.len() > ATTACHMENTS_MAX {
        return Err("too_many_attachments");
    }
    if let Some(markdown) = given("markdown_text") {
        if given("text").is_some() || given("blocks").is_some() {
            return Err("markdown_text_conflict");
        }
        if chars(markdown) > MARKDOWN_CHARS_MAX {
            return Err("msg_too_long");
        }
    }
    if has_content(arguments) { Ok(()) } else { Err("no_text") }
}

/// What is wrong with the first block that Slack wouldn't take, in its words.
pub(super) fn wrong_block(blocks: &[Value]) -> Option<String> {
    let too_many = |max: usize, at: &str| format!("no more than {max} items allowed [json-pointer:{at}]");
    let too_long = |text: Option<&Value>, max: usize, at: String| {
        let is_long = text.is_some_and(|text| chars(text) > max);
        is_long.then(|| format!("must be less than {} characters [json-pointer:{at}]", max + 1))
    };
    if blocks.len() > BLOCKS_MAX {
        return Some(too_many(BLOCKS_MAX, "/blocks"));
    }
    blocks.iter().enumerate().find_map(|(nth, block)| {
        let at = format!("/blocks/{nth}");
        match block.get("type").and_then(Value::as_str) {
            None => Some(format!("missing required field: type [json-pointer:{at}]")),
            Some("markdown") => too_long(block.get("text"), MARKDOWN_CHARS_MAX, format!("{at}/text")),
            Some("section") => {
                let fields = block
                    .get("fields")
                    .and_then(Value::as_array)
                    .map_or(&[][..], Vec::as_slice);
                if fields.len() > FIELDS_MAX {
                    return Some(too_many(FIELDS_MAX, &format!("{at}/fields")));
                }
                let of_field = |(nth, field): (usize, &Value)| {
                    too_long(field.get("text"), FIELD_CHARS_MAX, format!("{at}/fields/{nth}/text"))
                };
                let text = block.get("text").and_then(|text| text.get("text"));
                too_long(text, SECTION_CHARS_MAX, format!("{at}/text/text"))
                    .or_else(|| fields.iter().enumerate().find_map(of_field))
            }
            Some(_) => None,
        }
    })
}

/// Characters of a text, or of all texts under the names `text` in a block.
fn chars(value: &Value) -> usize {
    match value {
        Value::String(text) => text.chars().count(),
        Value::Array(items) => items.iter().map(chars).sum(),
        Value::Object(members) => {
            let texts = members
                .iter()
                .filter(|(name, value)| *name == "text" || !value.is_string());
            texts.map(|(_, value)| chars(value)).sum()
        }
        _ => 0,
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
