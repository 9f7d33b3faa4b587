//! Templates: texts with `{{$.path | filter}}` placeholders, parsed once with their rule and rendered for each match.
//!
//! `parser` reads the text, `placeholder` finds a value, `filters` turns it into another, `slack` knows which placeholders
//! stand within a link or a mention, and this module puts the pieces together. All that does not depend on the event
//! (filters, arguments, time zones, strftime formats) is refused at parse time, so that rendering fails only for what the
//! event holds or lacks.
//!
//! - A value in Slack text is escaped for its place, whatever its filters, unless the last of them is `raw`. The
//!   template's own text alone makes links and mentions.
//! - Rendering stops at the destination's limit: it writes a value only as far as there is room.
//! - An error names the path, never the value.

use std::borrow::Cow;
use std::sync::Arc;

use jiff::Timestamp;
use serde::Deserialize;

use crate::dates;
use crate::lead::{Lookup, Value};
use crate::path::Path;
use crate::text::{self, Bounded};
use filters::Filter;
use placeholder::{Found, Head, Placeholder, written};

mod filters;
mod missing;
mod parser;
mod placeholder;
mod slack;

pub use filters::names as filter_names;

/// Bytes of a value.
const VALUE_MAX: usize = 1 << 20;
/// Bytes of a text that is made for CleverTap, which takes 512.
const CLEVERTAP_TEXT_MAX: usize = 1 << 16;
/// Bytes of an id, of which nobody takes so many.
const ID_MAX: usize = 1 << 16;
/// A filter writes so many bytes even where the text has no room for them any more: enough for every number and date, so
/// that a value that can't be one is found there, too.
const FILTERED_MIN: usize = 256;

/// A parsed template. A copy costs nothing.
#[derive(Debug, Clone, PartialEq)]
pub struct Template(Arc<Parsed>);

#[derive(Debug, PartialEq)]
struct Parsed {
    text: Box<str>,
    parts: Box<[Part]>,
    /// The parts as Slack reads them, where that matters.
    slack: Option<Box<[slack::Piece]>>,
}

/// What a rendered text is for, which decides the form of dates. [`Template::render_slack`] is for Slack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// A CleverTap property: a date without a format is `$D_<epoch seconds>` where it stands alone.
    Clevertap,
    /// Everything else: dates are RFC 3339.
    Plain,
}

/// A text for Slack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlackText {
    pub text: String,
    /// Whether it was longer and is cut.
    pub is_cut: bool,
}

/// The fate of a match whose template asks for a value that the event lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnMissing {
    /// The placeholder writes nothing.
    #[default]
    Empty,
    /// Nothing is sent.
    Skip,
    /// The event becomes a dead letter.
    Fail,
}

/// Why a template can't be read, with the column (1-based, in characters) in its text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message} (column {column})")]
pub struct TemplateError {
    pub column: usize,
    pub message: String,
}

/// Why a template rendered to nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Stop {
    /// The value is missing and the rule says `skip`.
    #[error("{path} is missing")]
    Skip { path: String },
    /// `template_failed`.
    #[error("{detail}")]
    Fail { detail: String },
}

impl Stop {
    /// The same, with the field of the action in which it happened.
    #[must_use]
    pub fn at(self, field: &str) -> Self {
        match self {
            Stop::Skip { path } => Stop::Skip { path },
            Stop::Fail { detail } => Stop::Fail {
                detail: format!("{field}: {detail}"),
            },
        }
    }
}

impl Template {
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        Ok(Self::of_parts(text, parser::parse(text)?))
    }

    fn of_parts(text: &str, parts: Vec<Part>) -> Self {
        Self(Arc::new(Parsed {
            text: text.into(),
            slack: slack::pieces(&parts),
            parts: parts.into(),
        }))
    }

    /// The value at a path, as it is.
    pub fn of_path(path: Path) -> Self {
        let text = path.as_str().into();
        let placeholder = Placeholder {
            head: Head::Path(path),
            filters: Box::default(),
        };
        Self(Arc::new(Parsed {
            text,
            parts: [Part::Placeholder(placeholder)].into(),
            slack: None,
        }))
    }

    /// Whether there are other copies.
    pub(crate) fn is_shared(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }

    /// The template as it was written.
    pub fn as_str(&self) -> &str {
        &self.0.text
    }

    /// The paths that the template asks for, in order, repeated ones too.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.0.parts.iter().filter_map(|part| match part {
            Part::Placeholder(Placeholder {
                head: Head::Path(path), ..
            }) => Some(path),
            _ => None,
        })
    }

    /// Every path that rendering looks up, those of filters among them.
    pub fn asks(&self) -> impl Iterator<Item = &Path> {
        let placeholders = self.0.parts.iter().filter_map(|part| match part {
            Part::Text(_) => None,
            Part::Placeholder(placeholder) => Some(placeholder),
        });
        let of_filters = placeholders.flat_map(|placeholder| placeholder.filters.iter().filter_map(Filter::asks));
        self.paths().chain(of_filters)
    }

    /// Whether the template has no placeholders.
    pub fn is_literal(&self) -> bool {
        self.0.parts.iter().all(|part| matches!(part, Part::Text(_)))
    }

    /// Whether the template is one placeholder with nothing around it, not even a blank.
    pub fn is_one_placeholder(&self) -> bool {
        self.alone().is_some()
    }

    /// Whether the template is a number alone, written for people to read.
    pub fn is_written_number(&self) -> bool {
        let filters = self.alone().map_or(&[][..], |placeholder| &placeholder.filters);
        filters
            .iter()
            .any(|filter| matches!(filter, Filter::Number(_) | Filter::Money(_)))
    }

    /// Whether the template is one value, written as JSON.
    pub fn is_written_as_json(&self) -> bool {
        let filters = self.alone().map_or(&[][..], |placeholder| &placeholder.filters);
        filters.contains(&Filter::Json)
    }

    /// Whether a value would say whom the template mentions, as in `<!{{$.whom}}>`, which Slack text shows as text.
    pub fn mentions_by_value(&self) -> bool {
        self.0.slack.as_deref().is_some_and(slack::mentions_by_value)
    }

    /// The template as text. It may come out blank; the caller decides what that means. A text that is longer than
    /// anything that the destination takes fails.
    pub fn render(&self, event: &dyn Lookup, target: Target, on_missing: OnMissing) -> Result<String, Stop> {
        let platform_dates = target == Target::Clevertap && self.is_one_placeholder();
        let mut written = Bounded::new(target.text_max());
        for part in &self.0.parts {
            let placeholder = match part {
                Part::Text(text) => {
                    written.push(text);
                    continue;
                }
                Part::Placeholder(placeholder) => placeholder,
            };
            let found = placeholder.value(event, platform_dates, on_missing, room(&written))?;
            slack::write_found(found.as_ref(), slack::as_it_is, &mut written);
        }
        if written.is_cut() {
            return Err(self.too_long(target.text_max()));
        }
        Ok(written.into_text())
    }

    /// The template as Slack text of at most `max` characters; what is longer is cut, with `…` as its last character.
    pub fn render_slack(&self, event: &dyn Lookup, on_missing: OnMissing, max: usize) -> Result<SlackText, Stop> {
        // A character has at most four bytes, so that what doesn't fit into these is longer.
        let mut written = Bounded::new(max.saturating_mul(4));
        self.write_slack(event, on_missing, &mut written)?;
        let cut = text::slack::cut(written.as_str(), max, written.is_cut());
        Ok(SlackText {
            is_cut: cut.is_some(),
            text: cut.unwrap_or_else(|| written.into_text()),
        })
    }

    /// Writes the same text into a string of JSON, which `json` ends in. False where it may have to be cut: more of it
    /// may be written then than there is room for.
    pub fn render_slack_into(
        &self,
        event: &dyn Lookup,
        on_missing: OnMissing,
        max: usize,
        json: &mut String,
    ) -> Result<bool, Stop> {
        // With as much room as if it was cut, as filters look at that.
        let room = max.saturating_mul(4);
        let mut written = Bounded::within_json(std::mem::take(json), room);
        let rendered = self.write_slack(event, on_missing, &mut written);
        // So many bytes are no more characters.
        let fits = !written.is_cut() && room - written.room() <= max;
        *json = written.into_text();
        rendered.map(|()| fits)
    }

    fn write_slack(&self, event: &dyn Lookup, on_missing: OnMissing, into: &mut Bounded) -> Result<(), Stop> {
        let values = slack::Values { event, on_missing };
        match &self.0.slack {
            Some(pieces) => values.write_pieces(pieces, into),
            None => values.write_parts(&self.0.parts, into),
        }
    }

    /// The template as a value: one placeholder alone keeps its type, or is `None` where its value is missing and
    /// `on_missing` is `Empty`; anything else is text.
    pub fn render_value<'v>(
        &'v self,
        event: &'v dyn Lookup,
        target: Target,
        on_missing: OnMissing,
    ) -> Result<Option<Value<'v>>, Stop> {
        let Some(placeholder) = self.alone() else {
            let text = self.render(event, target, on_missing)?;
            return Ok(Some(Value::Text(Cow::Owned(text))));
        };
        let room = target.text_max();
        let Some(found) = placeholder.value(event, target == Target::Clevertap, on_missing, room)? else {
            return Ok(None);
        };
        if found.is_cut {
            return Err(self.too_long(room));
        }
        // Written before it is copied, as the copy of a list weighs much more.
        let is_long = match &found.value {
            Value::Json(_) => written(&found.value, VALUE_MAX).1,
            Value::Text(text) | Value::Number(text) => text.len() > VALUE_MAX,
            Value::Money(_) | Value::Bool(_) | Value::Time(_) => false,
        };
        match is_long {
            true => Err(self.too_long(VALUE_MAX)),
            false => Ok(Some(found.value)),
        }
    }

    /// The same as JSON.
    pub fn render_json(
        &self,
        event: &dyn Lookup,
        target: Target,
        on_missing: OnMissing,
    ) -> Result<Option<serde_json::Value>, Stop> {
        let value = self.render_value(event, target, on_missing)?;
        Ok(value.map(|value| value.to_json()))
    }

    /// The template as an instant, in any form that [`dates`] reads. A missing value fails: who
    /// asks for a date by a template wants no other.
    pub fn render_time(&self, event: &dyn Lookup) -> Result<Timestamp, Stop> {
        let value = match self.alone() {
            Some(placeholder) => placeholder.value(event, false, OnMissing::Fail, FILTERED_MIN)?,
            None => None,
        };
        let time = match value {
            Some(found) => filters::instant(&found.value),
            None => {
                let text = self.render(event, Target::Plain, OnMissing::Fail)?;
                dates::parse(&text).map_err(|error| error.to_string())
            }
        };
        time.map_err(|reason| Stop::Fail {
            detail: format!("the date of `{}`: {reason}", self.0.text),
        })
    }

    /// The template as an id or a name. A list or an object in it fails, as does a boolean that is all of it: their text
    /// would pass for an id. It may come out blank, as [`Self::render`] may.
    pub fn render_id(&self, event: &dyn Lookup, on_missing: OnMissing) -> Result<String, Stop> {
        self.render_id_behind(String::new(), event, on_missing)
    }

    /// The same behind what `text` holds already.
    pub fn render_id_behind(&self, text: String, event: &dyn Lookup, on_missing: OnMissing) -> Result<String, Stop> {
        let mut written = Bounded::behind(text, ID_MAX);
        for part in &self.0.parts {
            match part {
                Part::Text(text) => written.push(text),
                Part::Placeholder(placeholder) => {
                    placeholder.write_id(event, on_missing, self.is_one_placeholder(), &mut written)?;
                }
            }
        }
        if written.is_cut() {
            return Err(self.too_long(ID_MAX));
        }
        Ok(written.into_text())
    }

    fn too_long(&self, max: usize) -> Stop {
        let (text, kib) = (text::truncate(&self.0.text, 80), max / 1024);
        Stop::Fail {
            detail: format!("`{text}` comes to more than {kib} KiB; shorten it with | truncate: 500, or leave it out"),
        }
    }

    fn alone(&self) -> Option<&Placeholder> {
        match &*self.0.parts {
            [Part::Placeholder(placeholder)] => Some(placeholder),
            _ => None,
        }
    }
}

impl Target {
    fn text_max(self) -> usize {
        match self {
            Target::Clevertap => CLEVERTAP_TEXT_MAX,
            Target::Plain => VALUE_MAX,
        }
    }
}

/// Bytes that filters may write of a value that goes into `written`.
fn room(written: &Bounded) -> usize {
    written.room().max(FILTERED_MIN)
}

#[derive(Debug, Clone, PartialEq)]
enum Part {
    Text(Box<str>),
    Placeholder(Placeholder),
}

#[cfg(test)]
mod tests;
