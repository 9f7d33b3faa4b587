//! The records inside a lead event, by the names that paths give their members.

use std::borrow::Cow;

use super::{Call, Consumer, Entity, Value};
use crate::path::Step;

/// A record inside the event whose members paths can name.
pub(super) trait Record {
    const MEMBERS: &'static [&'static str];
    fn member(&self, name: &str) -> Option<Value<'_>>;
}

pub(super) fn record<'e, R: Record>(found: &'e Option<R>, rest: &[Step]) -> Option<Value<'e>> {
    let found = found.as_ref()?;
    match rest {
        [] => {
            let object = R::MEMBERS
                .iter()
                .map(|name| {
                    (
                        name.to_string(),
                        found
                            .member(name)
                            .map_or(serde_json::Value::Null, |value| value.to_json()),
                    )
                })
                .collect();
            Some(Value::Json(Cow::Owned(serde_json::Value::Object(object))))
        }
        [Step::Name(name)] => found.member(name),
        _ => None,
    }
}

impl Record for Entity<'_> {
    const MEMBERS: &'static [&'static str] = &["id", "name"];

    fn member(&self, name: &str) -> Option<Value<'_>> {
        match name {
            "id" => self.id.as_deref(),
            "name" => self.name.as_deref(),
            _ => None,
        }
        .map(Value::of_text)
    }
}

impl Record for Consumer<'_> {
    const MEMBERS: &'static [&'static str] = &[
        "first_name",
        "last_name",
        "email",
        "phone",
        "city",
        "state",
        "zip",
        "country",
    ];

    fn member(&self, name: &str) -> Option<Value<'_>> {
        match name {
            "first_name" => self.first_name.as_deref(),
            "last_name" => self.last_name.as_deref(),
            "email" => self.email.as_deref(),
            "phone" => self.phone.as_deref(),
            "city" => self.city.as_deref(),
            "state" => self.state.as_deref(),
            "zip" => self.zip.as_deref(),
            "country" => self.country.as_deref(),
            _ => None,
        }
        .map(Value::of_text)
    }
}

impl Record for Call<'_> {
    const MEMBERS: &'static [&'static str] = &[
        "call_id",
        "caller_number",
        "dialed_number",
        "started_at",
        "answered_at",
        "ended_at",
        "billable_seconds",
        "answered",
        "recording_url",
    ];

    fn member(&self, name: &str) -> Option<Value<'_>> {
        match name {
            "started_at" => self.started_at.map(Value::Time),
            "answered_at" => self.answered_at.map(Value::Time),
            "ended_at" => self.ended_at.map(Value::Time),
            "billable_seconds" => self.billable_seconds.map(Value::of_int),
            "answered" => self.answered.map(Value::Bool),
            "call_id" => self.call_id.as_deref().map(Value::of_text),
            "caller_number" => self.caller_number.as_deref().map(Value::of_text),
            "dialed_number" => self.dialed_number.as_deref().map(Value::of_text),
            "recording_url" => self.recording_url.as_deref().map(Value::of_text),
            _ => None,
        }
    }
}
