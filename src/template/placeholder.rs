//! A placeholder of a template: where its value comes from, what its filters make of it, and its text.

use std::borrow::Cow;
use std::fmt::Write as _;

use super::filters::{self, Filter};
use super::{OnMissing, Stop, room};
use crate::amounts::Digits;
use crate::lead::{Lookup, Value};
use crate::path::Path;
use crate::text::{self, Bounded};

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Placeholder {
    pub(super) head: Head,
    pub(super) filters: Box<[Filter]>,
}

/// Where a placeholder's value comes from.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Head {
    Path(Path),
    /// A text in quotes, such as `"{{"`.
    Text(Box<str>),
}

/// What a placeholder gives.
#[derive(Debug)]
pub(super) struct Found<'v> {
    pub(super) value: Value<'v>,
    /// Whether a filter left some of it out, as there was no room for more.
    pub(super) is_cut: bool,
}

impl Found<'_> {
    /// The value as text of at most `max` bytes, and whether something is left out.
    pub(super) fn text(&self, max: usize) -> (Cow<'_, str>, bool) {
        let (text, is_cut) = written(&self.value, max);
        (text, is_cut || self.is_cut)
    }
}

/// A value as text, whatever its length.
fn text_of<'v>(value: &'v Value<'_>) -> Cow<'v, str> {
    let Value::Money(number) = value else {
        return value.to_text();
    };
    let mut text = String::with_capacity(16);
    Digits::of(*number).write(&mut text);
    Cow::Owned(text)
}

/// A value as text of at most `max` bytes, and whether that is less than the whole.
pub(super) fn written<'v>(value: &'v Value<'_>, max: usize) -> (Cow<'v, str>, bool) {
    match value {
        Value::Json(json) => {
            let mut text = Bounded::new(max);
            // The only error is that the text is full.
            let is_cut = write!(text, "{json}").is_err();
            (Cow::Owned(text.into_text()), is_cut)
        }
        Value::Text(text) => {
            let part = text::within(text, max);
            (Cow::Borrowed(part), part.len() < text.len())
        }
        value => match text_of(value) {
            text if text.len() <= max => (text, false),
            Cow::Borrowed(text) => (Cow::Borrowed(text::within(text, max)), true),
            Cow::Owned(text) => (Cow::Owned(text::within(&text, max).to_owned()), true),
        },
    }
}

impl Placeholder {
    /// The value after all filters; `None` where it is missing and may be. A filter writes at most `room` bytes.
    pub(super) fn value<'v>(
        &'v self,
        event: &'v dyn Lookup,
        platform_dates: bool,
        on_missing: OnMissing,
        room: usize,
    ) -> Result<Option<Found<'v>>, Stop> {
        let whole = |value| Found { value, is_cut: false };
        let mut found = match &self.head {
            Head::Path(path) => event.lookup(path).map(whole),
            Head::Text(text) => Some(whole(Value::Text(Cow::Borrowed(text)))),
        };
        for filter in &self.filters {
            found = match (filter, found) {
                (Filter::Default(default), found) => {
                    let filled = found.filter(|found| !is_empty(&found.value));
                    Some(filled.unwrap_or_else(|| whole(default.value())))
                }
                // Missing stays missing: only `default` ends it.
                (_, None) => None,
                (filter, Some(found)) => Some(filter.apply(found, event, platform_dates, room).map_err(|reason| {
                    let (name, subject) = (filter.name(), self.subject());
                    Stop::Fail {
                        detail: format!("`{name}` of {subject}: {reason}"),
                    }
                })?),
            };
        }
        match (found, on_missing) {
            (None, OnMissing::Skip) => Err(Stop::Skip {
                path: self.subject().to_owned(),
            }),
            (None, OnMissing::Fail) => Err(Stop::Fail {
                detail: format!("{} is missing", self.subject()),
            }),
            (found, _) => Ok(found),
        }
    }

    /// Writes the value after all filters as (a part of) an id.
    pub(super) fn write_id(
        &self,
        event: &dyn Lookup,
        on_missing: OnMissing,
        alone: bool,
        into: &mut Bounded,
    ) -> Result<(), Stop> {
        let refuse = |why: &str| Stop::Fail {
            detail: format!("{} {why}", self.subject()),
        };
        // Looked at before the filters, most of which make a text of everything.
        if let Head::Path(path) = &self.head
            && let Some(found) = event.lookup(path)
            && !self.makes_an_id(&found, room(into))
            && let Err(why) = id_text(&found, alone)
        {
            return Err(refuse(why));
        }
        if let Some(found) = self.value(event, false, on_missing, room(into))? {
            into.push(&id_text(&found.value, alone).map_err(refuse)?);
            if found.is_cut {
                into.end();
            }
        }
        Ok(())
    }

    /// Whether the rule asks for an id to be made of what is none: by `json`, by `join` of what a list holds, or by
    /// `default` in place of what is empty.
    fn makes_an_id(&self, found: &Value<'_>, room: usize) -> bool {
        self.filters.iter().any(|filter| match filter {
            Filter::Json => true,
            Filter::Join(_) => filters::is_flat_list(found, room),
            Filter::Default(_) => is_empty(found),
            _ => false,
        })
    }

    pub(super) fn is_raw(&self) -> bool {
        matches!(self.filters.last(), Some(Filter::Raw))
    }

    /// The value's name in messages.
    fn subject(&self) -> &str {
        match &self.head {
            Head::Path(path) => path.as_str(),
            Head::Text(_) => "the quoted text",
        }
    }
}

/// A value's text as (a part of) an id.
fn id_text<'v>(value: &'v Value<'_>, alone: bool) -> Result<Cow<'v, str>, &'static str> {
    match value {
        // `7:true` is as good an id as any.
        Value::Bool(_) if !alone => Ok(value.to_text()),
        value => value.to_id(),
    }
}

fn is_empty(value: &Value<'_>) -> bool {
    match value {
        Value::Text(text) => text.is_empty(),
        Value::Json(json) => {
            json.as_array().is_some_and(Vec::is_empty) || json.as_object().is_some_and(serde_json::Map::is_empty)
        }
        _ => false,
    }
}
