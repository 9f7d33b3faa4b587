//! What a job sends, as its receiver shows it: a Slack message, or a CleverTap profile or event as fields.

use std::borrow::Cow;

use maud::{Markup, html};
use serde_json::{Map, Value};

use super::slack::Message;
use super::words::whither;
use crate::text::mask::{mask, mask_json};

/// The request of a job, and how to show it.
#[derive(Debug, Clone)]
pub(super) struct Sent<'s> {
    pub(super) lane: &'s str,
    /// JSON, as it goes over the wire but for its secret.
    pub(super) body: &'s str,
    pub(super) at: Option<Markup>,
    /// E-mail addresses and phone numbers stay as they are.
    pub(super) revealed: bool,
}

impl Sent<'_> {
    pub(super) fn draw(&self) -> Markup {
        let body: Value = serde_json::from_str(self.body).unwrap_or_default();
        html! {
            @match body.get("text").and_then(Value::as_str) {
                Some(text) => (self.message(&body, text)),
                None => (self.fields(body.as_object())),
            }
            details.fold {
                summary { "As it goes over the wire" }
                pre.codebox tabindex="0" { (self.raw(body.clone())) }
            }
        }
    }

    fn message(&self, body: &Value, text: &str) -> Markup {
        let whither = whither(self.lane);
        let of = |name: &str| body.get(name).and_then(Value::as_str);
        let shown = |text| match self.revealed {
            true => Cow::Borrowed(text),
            false => mask(text),
        };
        let sender = of("username").unwrap_or_else(|| whither.by.rsplit(' ').next().unwrap_or_default());
        let message = Message {
            channel: &shown(of("channel").unwrap_or(&whither.to)),
            name: &shown(sender),
            text,
            at: self.at.clone(),
            revealed: self.revealed,
        };
        message.draw()
    }

    fn fields(&self, body: Option<&Map<String, Value>>) -> Markup {
        let mut fields = Vec::new();
        for (name, value) in body.into_iter().flatten() {
            match value.as_object() {
                Some(inner) => fields.extend(inner),
                None => fields.push((name, value)),
            }
        }
        html! {
            div.scroll tabindex="0" role="region" aria-label="The fields that are sent" {
                table.tbl {
                    caption.vh { "The fields that are sent" }
                    thead { tr { th scope="col" { "Field" } th scope="col" { "Value" } th scope="col" { "Kind" } } }
                    tbody {
                        @for (name, value) in fields {
                            tr { th scope="row" { (name) } td { (self.value(name, value)) } td { (kind(value)) } }
                        }
                    }
                }
            }
        }
    }

    fn value(&self, name: &str, value: &Value) -> String {
        let mut named = Value::Object(Map::from_iter([(name.to_owned(), value.clone())]));
        if !self.revealed {
            mask_json(&mut named);
        }
        let shown = named.as_object().and_then(|fields| fields.values().next()).cloned();
        match shown.unwrap_or_default() {
            Value::String(text) => text,
            other => other.to_string(),
        }
    }

    fn raw(&self, mut body: Value) -> String {
        if body.is_null() {
            return match self.revealed {
                true => self.body.to_owned(),
                false => mask(self.body).into_owned(),
            };
        }
        if !self.revealed {
            mask_json(&mut body);
        }
        format!("{body:#}")
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::String(text) if text.starts_with("$D_") => "date",
        Value::String(_) => "text",
        Value::Number(_) => "number",
        Value::Bool(_) => "yes or no",
        Value::Null => "nothing",
        Value::Array(_) => "list",
        Value::Object(_) => "fields",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::web::page::tests::{HOSTILE, is_harmless};

    fn drawn(lane: &str, body: &Value, revealed: bool) -> String {
        let body = body.to_string();
        let sent = Sent {
            lane,
            body: &body,
            at: None,
            revealed,
        };
        sent.draw().into_string()
    }

    #[test]
    fn whatever_is_sent_is_shown_as_text_and_masked() {
        for hostile in HOSTILE {
            let slack = serde_json::json!({"channel": hostile, "text": hostile, "username": hostile});
            let profile =
                serde_json::json!({"identity": hostile, "profileData": {hostile: hostile, "Phone": "+15125550123"}});
            for body in [slack, profile] {
                is_harmless(&drawn("slack:bot/C1", &body, false));
                is_harmless(&drawn("slack:bot/C1", &body, true));
            }
        }
        let profile = serde_json::json!({"type": "profile", "profileData": {"Phone": "+15125550123", "Age": 41}});
        let (masked, whole) = (
            drawn("clevertap:acme", &profile, false),
            drawn("clevertap:acme", &profile, true),
        );
        assert!(
            !masked.contains("5125550123") && whole.contains("+15125550123"),
            "{masked}"
        );
        assert!(masked.contains("<td>41</td><td>number</td>"), "{masked}");
    }

    #[test]
    fn what_is_no_json_is_shown_masked_too() {
        let sent = Sent {
            lane: "slack:bot/C1",
            body: "ana@example.com",
            at: None,
            revealed: false,
        };
        assert!(!sent.draw().into_string().contains("ana@example.com"));
    }
}
