//! Templates: texts with `{{$.path | filter}}` placeholders, parsed once when a rule is read and
//! rendered for each match.
//!
//! `parser` reads the text, `filters` turns a value into another, and this module joins what
//! they give. Everything that does not depend on the event (filters, arguments, time zones,
//! strftime formats) is refused at parse time, so that rendering stops only for what the event
//! holds or lacks. What a placeholder writes into Slack text is escaped, whatever its filters,
//! unless the last of them is `raw`; the template's own text never is. Details of what went wrong
//! name the path, never the value.

use std::borrow::Cow;

use jiff::Timestamp;
use serde::Deserialize;

use crate::dates;
use crate::lead::{Lookup, Value};
use crate::path::Path;
use filters::Filter;

mod filters;
mod parser;

/// A parsed template.
#[derive(Debug, Clone, PartialEq)]
pub struct Template {
    text: Box<str>,
    parts: Box<[Part]>,
}

/// What a rendered text is for, which decides its escaping and the form of dates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// Slack text: values have `&`, `<` and `>` escaped.
    Slack,
    /// A CleverTap property: a date without a format is `$D_<epoch seconds>` where it stands alone.
    Clevertap,
    /// Everything else: no escaping, dates are RFC 3339.
    Plain,
}

/// What becomes of a match whose template asks for a value that the event lacks.
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
        Ok(Self {
            text: text.into(),
            parts: parser::parse(text)?.into(),
        })
    }

    /// The value at a path, as it is.
    pub fn of_path(path: Path) -> Self {
        let text = path.as_str().into();
        let placeholder = Placeholder {
            head: Head::Path(path),
            filters: Box::default(),
        };
        Self {
            text,
            parts: [Part::Placeholder(placeholder)].into(),
        }
    }

    /// The template as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The paths that the template asks for, in order, repeated ones too.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.parts.iter().filter_map(|part| match part {
            Part::Placeholder(Placeholder {
                head: Head::Path(path), ..
            }) => Some(path),
            _ => None,
        })
    }

    /// Whether the template has no placeholders.
    pub fn is_literal(&self) -> bool {
        self.parts.iter().all(|part| matches!(part, Part::Text(_)))
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

    /// The template as text. It may come out blank; the caller decides what that means.
    pub fn render(&self, event: &dyn Lookup, target: Target, on_missing: OnMissing) -> Result<String, Stop> {
        let platform_dates = target == Target::Clevertap && self.is_one_placeholder();
        let mut written = String::with_capacity(self.text.len());
        for part in &self.parts {
            let placeholder = match part {
                Part::Text(text) => {
                    written.push_str(text);
                    continue;
                }
                Part::Placeholder(placeholder) => placeholder,
            };
            let Some(value) = placeholder.value(event, platform_dates, on_missing)? else {
                continue;
            };
            if target == Target::Slack && !placeholder.is_raw() {
                escape(&value.to_text(), &mut written);
            } else {
                written.push_str(&value.to_text());
            }
        }
        Ok(written)
    }

    /// The template as a JSON value: one placeholder alone keeps its type, or is `None` where its
    /// value is missing and `on_missing` is `Empty`; anything else is text. Slack knows only text.
    pub fn render_json(
        &self,
        event: &dyn Lookup,
        target: Target,
        on_missing: OnMissing,
    ) -> Result<Option<serde_json::Value>, Stop> {
        match self.alone() {
            Some(placeholder) if target != Target::Slack => {
                let value = placeholder.value(event, target == Target::Clevertap, on_missing)?;
                Ok(value.map(|value| value.to_json()))
            }
            _ => Ok(Some(self.render(event, target, on_missing)?.into())),
        }
    }

    /// The template as an instant, in any form that [`dates`] reads. A missing value fails: who
    /// asks for a date by a template wants no other.
    pub fn render_time(&self, event: &dyn Lookup) -> Result<Timestamp, Stop> {
        let value = match self.alone() {
            Some(placeholder) => placeholder.value(event, false, OnMissing::Fail)?,
            None => None,
        };
        let time = match value {
            Some(value) => filters::instant(&value),
            None => {
                let text = self.render(event, Target::Plain, OnMissing::Fail)?;
                dates::parse(&text).map_err(|error| error.to_string())
            }
        };
        time.map_err(|reason| Stop::Fail {
            detail: format!("the date of `{}`: {reason}", self.text),
        })
    }

    /// The template as an id or a name. A list or an object in it fails, as does a boolean that is all of it: their text
    /// would pass for an id. It may come out blank, as [`Self::render`] may.
    pub fn render_id(&self, event: &dyn Lookup, on_missing: OnMissing) -> Result<String, Stop> {
        let alone = self.is_one_placeholder();
        let mut written = String::with_capacity(self.text.len());
        for part in &self.parts {
            match part {
                Part::Text(text) => written.push_str(text),
                Part::Placeholder(placeholder) => {
                    if let Some(value) = placeholder.id(event, on_missing, alone)? {
                        written.push_str(&value);
                    }
                }
            }
        }
        Ok(written)
    }

    fn alone(&self) -> Option<&Placeholder> {
        match &*self.parts {
            [Part::Placeholder(placeholder)] => Some(placeholder),
            _ => None,
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
enum Part {
    Text(Box<str>),
    Placeholder(Placeholder),
}

#[derive(Debug, Clone, PartialEq)]
struct Placeholder {
    head: Head,
    filters: Box<[Filter]>,
}

/// Where a placeholder's value comes from.
#[derive(Debug, Clone, PartialEq)]
enum Head {
    Path(Path),
    /// A text in quotes, such as `"{{"`.
    Text(Box<str>),
}

impl Placeholder {
    /// The value after all filters; `None` where it is missing and may be.
    fn value<'v>(
        &'v self,
        event: &'v dyn Lookup,
        platform_dates: bool,
        on_missing: OnMissing,
    ) -> Result<Option<Value<'v>>, Stop> {
        let mut value = match &self.head {
            Head::Path(path) => event.lookup(path),
            Head::Text(text) => Some(Value::Text(Cow::Borrowed(text))),
        };
        for filter in &self.filters {
            value = match (filter, value) {
                (Filter::Default(default), value) => Some(value.filter(|v| !is_empty(v)).unwrap_or(default.value())),
                // Missing stays missing: only `default` ends it.
                (_, None) => None,
                (filter, Some(value)) => Some(filter.apply(value, event, platform_dates).map_err(|reason| {
                    let (name, subject) = (filter.name(), self.subject());
                    Stop::Fail {
                        detail: format!("`{name}` of {subject}: {reason}"),
                    }
                })?),
            };
        }
        match (value, on_missing) {
            (None, OnMissing::Skip) => Err(Stop::Skip {
                path: self.subject().to_owned(),
            }),
            (None, OnMissing::Fail) => Err(Stop::Fail {
                detail: format!("{} is missing", self.subject()),
            }),
            (value, _) => Ok(value),
        }
    }

    /// The value after all filters as (a part of) an id.
    fn id<'v>(
        &'v self,
        event: &'v dyn Lookup,
        on_missing: OnMissing,
        alone: bool,
    ) -> Result<Option<Cow<'v, str>>, Stop> {
        let refuse = |why: &str| Stop::Fail {
            detail: format!("{} {why}", self.subject()),
        };
        // Looked at before the filters, most of which make a text of everything.
        if let Head::Path(path) = &self.head
            && let Some(found) = event.lookup(path)
            && !self.makes_an_id(&found)
            && let Err(why) = id_text(&found, alone)
        {
            return Err(refuse(why));
        }
        match self.value(event, false, on_missing)? {
            None => Ok(None),
            Some(value) => match id_text(&value, alone) {
                Ok(text) => Ok(Some(text.into_owned().into())),
                Err(why) => Err(refuse(why)),
            },
        }
    }

    /// Whether the rule asks for an id to be made of what is none: by `json`, by `join` of what a list holds, or by
    /// `default` in place of what is empty.
    fn makes_an_id(&self, found: &Value<'_>) -> bool {
        self.filters.iter().any(|filter| match filter {
            Filter::Json => true,
            Filter::Join(_) => filters::is_flat_list(found),
            Filter::Default(_) => is_empty(found),
            _ => false,
        })
    }

    fn is_raw(&self) -> bool {
        matches!(self.filters.last(), Some(Filter::Raw))
    }

    /// What messages call the value.
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

/// Slack decodes these three and shows any other entity as it is; unescaped, `<!channel>` in a
/// lead's name would ping everyone.
fn escape(text: &str, into: &mut String) {
    let mut rest = text;
    while let Some(at) = rest.find(['&', '<', '>']) {
        into.push_str(&rest[..at]);
        into.push_str(match rest.as_bytes()[at] {
            b'&' => "&amp;",
            b'<' => "&lt;",
            _ => "&gt;",
        });
        rest = &rest[at + 1..];
    }
    into.push_str(rest);
}

/// `text` in at most `length` characters, the last then being `…`.
pub fn truncate(text: &str, length: usize) -> String {
    filters::cut(text, length).unwrap_or_else(|| text.to_owned())
}

#[cfg(test)]
mod tests;
