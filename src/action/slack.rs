//! The part that Slack's two actions share: the text of a message, and the way many messages go.

use std::collections::HashMap;
use std::time::Duration;

use serde_json::Value;

use crate::dates::{self, Rate};
use crate::lead::LeadEvent;
use crate::reader::{Object, Reader};
use crate::template::{OnMissing, Stop, Template};
use crate::text::json;
use crate::text::slack::cut;

pub(super) mod digest;

/// Characters of a Slack text. Slack splits a longer one into several messages, or cuts it without a word. We send
/// neither `parse` nor `link_names`, with which Slack would read mentions out of plain text.
pub const TEXT_MAX: usize = 4000;

pub const WHEN_BUSY_FIELDS: &[&str] = &["digest_after"];
pub(super) const OVER_LONG: &[(&str, OverLong)] = &[("truncate", OverLong::Truncate), ("fail", OverLong::Fail)];

/// The treatment of a text that is longer than Slack takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OverLong {
    #[default]
    Truncate,
    Fail,
}

/// How a rule's messages come when there are many.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Pace {
    /// `when_busy`: when the lane's wait is longer, those that wait go as one message.
    pub digest_after: Option<Duration>,
    /// At most so many messages of the rule, as written: `20/h`.
    pub max_rate: Option<Box<str>>,
    /// Whether a message goes into its lead's own thread, and begins it where there is none.
    pub thread: bool,
}

/// How often Slack may be called.
#[derive(Debug, Clone, PartialEq)]
pub struct Limits {
    /// Messages to one channel.
    pub channel_rate: Rate,
    /// Requests with one token.
    pub workspace_rate: Rate,
    /// Messages to one webhook.
    pub webhook_rate: Rate,
    /// Rates of (credential, channel); without a channel the credential's own.
    pub own: HashMap<(String, Option<String>), Rate>,
}

impl Limits {
    pub(super) fn of(&self, credential: &str, channel: Option<&str>) -> Option<Rate> {
        let key = (credential.to_owned(), channel.map(str::to_owned));
        self.own.get(&key).copied()
    }
}

impl Pace {
    pub(super) fn read(reader: &mut Reader, action: &Object<'_>) -> Self {
        let digest_after = action
            .get("when_busy")
            .and_then(|value| when_busy(reader, action, value));
        let max_rate = action.get("max_rate").and_then(|value| {
            let text = value.as_str().unwrap_or_default();
            match dates::rate(text) {
                Ok(_) => Some(text.into()),
                Err(error) => reader.refuse(action.at("max_rate"), error.to_string()),
            }
        });
        Self {
            digest_after,
            max_rate,
            thread: false,
        }
    }

    /// As a rule keeps it; none where it says nothing.
    pub(super) fn boxed(self) -> Option<Box<Self>> {
        (self != Self::default()).then(|| Box::new(self))
    }
}

/// `each`, or how long a wait makes a digest.
fn when_busy(reader: &mut Reader, action: &Object<'_>, value: &Value) -> Option<Duration> {
    let field = action.at("when_busy");
    if value.as_str() == Some("each") {
        return None;
    }
    if !value.is_object() {
        return reader.refuse(
            field,
            "needs each, or {digest_after: 60s} to send one message for many that wait",
        );
    }
    let when_busy = reader.object(&field, value, WHEN_BUSY_FIELDS)?;
    let after = reader.required(
        &when_busy,
        "digest_after",
        "write how long a wait is too long, such as 60s",
    )?;
    reader.duration(
        &when_busy.at("digest_after"),
        after,
        "every message would be a digest; write a time such as 60s",
    )
}

/// A message that says in front that it is a test.
pub(super) fn as_test(body: &str) -> Option<String> {
    let mut body: Value = serde_json::from_str(body).ok()?;
    let text = format!("{}{}", super::TEST_MARK, body.get("text")?.as_str()?);
    body["text"] = cut(&text, TEXT_MAX, false).unwrap_or(text).into();
    Some(body.to_string())
}

pub(super) fn check_text(text: &Template, warn: &mut dyn FnMut(&str, String)) {
    if text.mentions_by_value() {
        let message = "a value can't say whom <!…> mentions and is shown as text; write <!here>, <@{{$.user}}> or \
                       <!subteam^{{$.group}}>";
        warn("action.text", message.into());
    }
}

/// Writes the message as the request's text, a member of its body.
pub(super) fn render_text(
    text: &Template,
    event: &LeadEvent<'_>,
    on_missing: OnMissing,
    over_long: OverLong,
    body: &mut String,
) -> Result<(), Stop> {
    body.push_str(r#""text":""#);
    let begin = body.len();
    let fits = text.render_slack_into(event, on_missing, TEXT_MAX, body)?;
    // Nearly every text. One that begins with an escape may be blank, as line breaks are escaped.
    let is_filled = !matches!(body[begin..].trim_start().as_bytes().first(), None | Some(b'\\'));
    if !(fits && is_filled) {
        body.truncate(begin);
        json::escape(&looked_at(text, event, on_missing, over_long)?, body);
    }
    body.push('"');
    Ok(())
}

/// The text, where it may be too long or blank.
fn looked_at(
    text: &Template,
    event: &LeadEvent<'_>,
    on_missing: OnMissing,
    over_long: OverLong,
) -> Result<String, Stop> {
    let rendered = text.render_slack(event, on_missing, TEXT_MAX)?;
    if rendered.text.trim().is_empty() {
        // Slack would refuse it with no_text.
        return Err(Stop::Skip {
            path: "the text came out blank".to_owned(),
        });
    }
    if rendered.is_cut && over_long == OverLong::Fail {
        return Err(Stop::Fail {
            detail: format!("text: is longer than {TEXT_MAX} characters"),
        });
    }
    Ok(rendered.text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What is sent of a text with a value, and what would be if it was rendered, cut and then written as JSON.
    fn sent(template: &str, value: &str) -> [Result<String, Stop>; 2] {
        let template = Template::parse(template).unwrap();
        let event = LeadEvent {
            lead_id: value.into(),
            ..LeadEvent::default()
        };
        let mut body = String::from("{");
        let written = render_text(&template, &event, OnMissing::Skip, OverLong::Truncate, &mut body);
        let text = looked_at(&template, &event, OnMissing::Skip, OverLong::Truncate);
        [
            written.map(|()| body + "}"),
            text.map(|text| serde_json::json!({"text": text}).to_string()),
        ]
    }

    #[test]
    fn a_text_is_written_at_once_as_it_would_be_in_steps() {
        for value in ["a", "", " ", "\n", "\u{85}", "\"", "\\", "\u{1}\u{7f}", "<&>\"\n"] {
            for template in [
                "{{$.lead_id}}",
                " {{$.lead_id}}\n",
                "<https://x|{{$.lead_id}}> & \"so\"",
            ] {
                let [at_once, in_steps] = sent(template, value);
                assert_eq!(at_once, in_steps, "{template:?} {value:?}");
            }
        }
        for count in [1333, 1334, 1999, 2000, 2001, 3999, 4000, 4001, 15_999, 16_001] {
            for value in ["é", "a", "&", "\"", "\n", "न"] {
                let [at_once, in_steps] = sent("{{$.lead_id}}", &value.repeat(count));
                assert_eq!(at_once, in_steps, "{count} of {value:?}");
            }
        }
    }

    proptest! {
        #[test]
        fn any_text_is_written_at_once_as_it_would_be_in_steps(
            before in "(a|<|>|&|\"|\n| |<https://){0,6}", behind in "(a|<|>|&|\"|\\||\n){0,6}",
            value in "(\\PC|[\x00-\x20]|[<>&\"\\\\]){0,40}", filter in "( \\| (upper|json|raw|url|plain|truncate: 3))?", times in 1..2000_usize,
        ) {
            let [at_once, in_steps] = sent(&format!("{before}{{{{$.lead_id{filter}}}}}{behind}"), &value.repeat(times));
            prop_assert_eq!(at_once, in_steps);
        }
    }

    #[test]
    fn a_test_is_marked_in_front_and_still_fits() {
        let marked = as_test(r#"{"channel":"C1","text":"*sold* &amp; done","unfurl_links":false}"#);
        let wanted = r#"{"channel":"C1","text":"[TEST] *sold* &amp; done","unfurl_links":false}"#;
        assert_eq!(marked.as_deref(), Some(wanted));
        let long = serde_json::json!({"text": "é".repeat(TEXT_MAX)}).to_string();
        let marked: Value = serde_json::from_str(&as_test(&long).unwrap()).unwrap();
        let text = marked["text"].as_str().unwrap();
        assert_eq!(text.chars().count(), TEXT_MAX);
        assert!(text.starts_with("[TEST] é") && text.ends_with('…'));
        assert_eq!(as_test("[]"), None);
    }
}
