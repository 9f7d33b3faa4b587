//! Turns YAML text into JSON values whose scalars keep their own text, and [`fn@write`]s values as YAML.
//!
//! Rules and the configuration are read through here. People write ids such as `0012` without quotes and prices such
//! as `42.5000`. So a plain scalar becomes a number only where JSON would take it for one, and then with every digit
//! it was written with; `0012`, `0x1F`, `yes` and `12:30` stay text. JSON is a subset of YAML, and is read too.
//!
//! Invariants: no key stands twice in an object; the expansion of aliases and the depth of nesting are bounded, so
//! that a small text cannot become a huge value; no error quotes a value.

use std::collections::HashMap;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Span, StrInput, Tag};
use serde::de::IgnoredAny;
use serde_json::{Map, Number, Value};

mod places;
mod write;

pub use places::{Place, Places, places};
pub use write::write;

/// One value of a text, with the line on which it starts, from 1.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    pub value: Value,
    pub line: usize,
}

/// Why a text can't be read; document, line and column are 1-based, columns in characters.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {message}")]
pub struct YamlError {
    pub document: usize,
    pub line: usize,
    pub column: usize,
    pub message: String,
}

impl YamlError {
    pub fn place(&self) -> Place {
        Place {
            line: self.line,
            column: self.column,
        }
    }
}

/// The documents of a text, in order. A text without any content has none.
pub fn documents(text: &str) -> Result<Vec<Document>, YamlError> {
    Ok(read(text)?.into_iter().map(|(document, _)| document).collect())
}

/// A text that stands alone, as a scalar without quotes.
pub fn scalar(text: &str) -> Value {
    match plain(text.trim()) {
        Value::String(_) => text.into(),
        value => value,
    }
}

/// What a file of several things holds, in order: its documents, where one that is a list
/// stands for its elements and an empty one for nothing.
pub fn entries(text: &str) -> Result<Vec<Document>, YamlError> {
    let mut entries = Vec::new();
    for (document, element_lines) in read(text)? {
        match document.value {
            Value::Null => {}
            Value::Array(elements) => {
                let elements = elements.into_iter().zip(element_lines);
                entries.extend(elements.map(|(value, line)| Document { value, line }));
            }
            _ => entries.push(document),
        }
    }
    Ok(entries)
}

const DEPTH_MAX: usize = 64;
/// Bounds what all aliases of a text expand to together, counted as [`weight`] does.
const ALIASED_MAX: usize = 1 << 20;

type DocumentWithLines = (Document, Vec<usize>);

/// The documents, each with the lines of its elements where it is a list.
fn read(text: &str) -> Result<Vec<DocumentWithLines>, YamlError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    read_yaml(text).or_else(|error| {
        // YAML has no surrogate pairs, the one thing in which JSON programs write is no subset of it.
        if text.contains("\\u") && serde_json::from_str::<IgnoredAny>(text).is_ok() {
            read_yaml(&without_surrogates(text))
        } else {
            Err(error)
        }
    })
}

fn read_yaml(text: &str) -> Result<Vec<DocumentWithLines>, YamlError> {
    let mut reader = Reader {
        parser: Parser::new_from_str(text),
        anchors: HashMap::new(),
        aliased: 0,
        element_lines: Vec::new(),
    };
    let mut documents = Vec::new();
    loop {
        match reader.document() {
            Ok(Some(document)) => documents.push((document, std::mem::take(&mut reader.element_lines))),
            Ok(None) => return Ok(documents),
            Err(error) => {
                return Err(YamlError {
                    document: documents.len() + 1,
                    ..error
                });
            }
        }
    }
}

struct Reader<'t> {
    parser: Parser<'t, StrInput<'t>>,
    anchors: HashMap<usize, Value>,
    aliased: usize,
    /// Where the elements of the current document start, if it is a list.
    element_lines: Vec<usize>,
}

impl<'t> Reader<'t> {
    fn next(&mut self) -> Result<(Event<'t>, Span), YamlError> {
        match self.parser.next_event() {
            Some(Ok(next)) => Ok(next),
            Some(Err(error)) => Err(fail(*error.marker(), error.info())),
            None => Ok((Event::StreamEnd, Span::default())),
        }
    }

    /// The next document; none at the end of the text.
    fn document(&mut self) -> Result<Option<Document>, YamlError> {
        loop {
            match self.next()?.0 {
                Event::StreamEnd => return Ok(None),
                Event::DocumentStart(_) => {
                    let (event, span) = self.next()?;
                    let line = span.start.line();
                    let value = self.value(event, span, 0)?;
                    return Ok(Some(Document { value, line }));
                }
                _ => {}
            }
        }
    }

    fn value(&mut self, event: Event<'t>, span: Span, depth: usize) -> Result<Value, YamlError> {
        if depth > DEPTH_MAX {
            return Err(fail(span.start, format!("nested deeper than {DEPTH_MAX} levels")));
        }
        let (value, anchor) = match event {
            Event::Alias(anchor) => return self.alias(anchor, span),
            Event::Scalar(text, style, anchor, tag) => {
                let quoted = style != ScalarStyle::Plain || says_text(tag.as_deref(), "str", span)?;
                (if quoted { text.into() } else { plain(&text) }, anchor)
            }
            Event::SequenceStart(anchor, tag) => {
                says_text(tag.as_deref(), "seq", span)?;
                (self.list(depth)?, anchor)
            }
            Event::MappingStart(anchor, tag) => {
                says_text(tag.as_deref(), "map", span)?;
                (self.object(depth)?, anchor)
            }
            _ => return Err(fail(span.start, "expected a value")),
        };
        if anchor > 0 {
            self.anchors.insert(anchor, value.clone());
        }
        Ok(value)
    }

    fn list(&mut self, depth: usize) -> Result<Value, YamlError> {
        let mut list = Vec::new();
        loop {
            let (event, span) = self.next()?;
            if event == Event::SequenceEnd {
                return Ok(Value::Array(list));
            }
            if depth == 0 {
                self.element_lines.push(span.start.line());
            }
            list.push(self.value(event, span, depth + 1)?);
        }
    }

    fn object(&mut self, depth: usize) -> Result<Value, YamlError> {
        let mut object = Map::new();
        loop {
            let (event, span) = self.next()?;
            if event == Event::MappingEnd {
                return Ok(Value::Object(object));
            }
            let key = self.key(event, span)?;
            let (event, value_span) = self.next()?;
            let value = self.value(event, value_span, depth + 1)?;
            if object.insert(key, value).is_some() {
                return Err(fail(span.start, "this key stands twice; leave one of them"));
            }
        }
    }

    /// A key as its text, however it would read as a value.
    fn key(&mut self, event: Event<'t>, span: Span) -> Result<String, YamlError> {
        match event {
            Event::Scalar(text, _, anchor, _) => {
                if anchor > 0 {
                    self.anchors.insert(anchor, text.as_ref().into());
                }
                Ok(text.into_owned())
            }
            Event::Alias(anchor) => match self.alias(anchor, span)? {
                Value::String(text) => Ok(text),
                Value::Number(number) => Ok(number.to_string()),
                _ => Err(fail(span.start, "a key is text; this alias stands for something else")),
            },
            _ => Err(fail(
                span.start,
                "a key is text, not a list or an object; a value that starts with { or [ goes in quotes",
            )),
        }
    }

    fn alias(&mut self, anchor: usize, span: Span) -> Result<Value, YamlError> {
        let Some(value) = self.anchors.get(&anchor) else {
            return Err(fail(
                span.start,
                "this alias stands inside what it names; write the value out",
            ));
        };
        self.aliased = self.aliased.saturating_add(weight(value));
        if self.aliased > ALIASED_MAX {
            return Err(fail(span.start, "the aliases expand to too much; write the values out"));
        }
        Ok(value.clone())
    }
}

/// Whether a tag makes the value text. Tags that say what the value is anyway are passed.
fn says_text(tag: Option<&Tag>, natural: &str, span: Span) -> Result<bool, YamlError> {
    match tag {
        None => Ok(false),
        Some(tag) if tag.is_yaml_core_schema() && tag.suffix == natural => Ok(natural == "str"),
        Some(_) => Err(fail(
            span.start,
            "tags other than !!str, !!seq and !!map are not known here; leave it out",
        )),
    }
}

/// Whether a scalar is nothing.
fn is_null(text: &str, style: ScalarStyle) -> bool {
    style == ScalarStyle::Plain && plain(text).is_null()
}

/// A scalar that stands without quotes.
fn plain(text: &str) -> Value {
    match text {
        "" | "~" | "null" => Value::Null,
        "true" => Value::Bool(true),
        "false" => Value::Bool(false),
        _ if text.starts_with(|c: char| c == '-' || c.is_ascii_digit()) => match serde_json::from_str::<Number>(text) {
            Ok(_) => Value::Number(Number::from_string_unchecked(text.into())),
            Err(_) => text.into(),
        },
        _ => text.into(),
    }
}

/// Valid JSON with the characters in place of their surrogate pairs.
fn without_surrogates(json: &str) -> String {
    let mut joined = String::with_capacity(json.len());
    let mut rest = json;
    while let Some(at) = rest.find('\\') {
        let (before, escape) = rest.split_at(at);
        joined.push_str(before);
        rest = if let Some(pair) = surrogate_pair(escape) {
            joined.push(pair);
            &escape[12..]
        } else {
            // The escaped character goes along, so that a backslash after a backslash starts nothing.
            joined.push_str(&escape[..2]);
            &escape[2..]
        };
    }
    joined + rest
}

fn surrogate_pair(escape: &str) -> Option<char> {
    let unit = |from: usize| u16::from_str_radix(escape.get(from..from + 6)?.strip_prefix("\\u")?, 16).ok();
    let pair = [unit(0)?, unit(6)?];
    let first = char::decode_utf16(pair).next()?.ok()?;
    (first.len_utf16() == 2).then_some(first)
}

/// About how many bytes a value takes.
fn weight(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) => 1,
        Value::Number(number) => 1 + number.as_str().len(),
        Value::String(text) => 1 + text.len(),
        Value::Array(list) => 1 + list.iter().map(weight).sum::<usize>(),
        Value::Object(object) => {
            1 + object
                .iter()
                .map(|(key, value)| key.len() + weight(value))
                .sum::<usize>()
        }
    }
}

fn fail(at: Marker, message: impl Into<String>) -> YamlError {
    YamlError {
        document: 1,
        line: at.line(),
        column: at.col() + 1,
        message: message.into(),
    }
}

#[cfg(test)]
mod tests;
