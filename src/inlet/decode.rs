//! Bytes become records: JSON, a form, CSV, an Outbound Message.

use std::borrow::Cow;
use std::io::Read;

use percent_encoding::percent_decode_str;
use serde_json::{Map, Value};

use super::{Format, Inlet, outbound};
use crate::lead::decode::{DecodeError, decode_avro};
use crate::lead::schemas::Schemas;

/// What came over HTTP, or stands in a file.
#[derive(Debug, Clone, Copy, Default)]
pub struct Received<'a> {
    pub body: &'a [u8],
    pub content_type: Option<&'a str>,
    /// The URL's path beyond the inlet's name, such as `v1/track`.
    pub route: &'a str,
}

/// Records that came together, each of which stands alone.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    pub records: Vec<Value>,
    /// What paths find beside a record: `_batch`, the object that a list of records stood in, and
    /// `_route`, the last step of the URL's path where that says what the record is.
    pub(super) around: Map<String, Value>,
}

impl Batch {
    /// One record alone.
    pub(super) fn one(record: Value, route: &str) -> Self {
        Self {
            records: vec![record],
            around: around(route),
        }
    }

    /// Whether the records stood in a list inside a further object.
    pub fn is_split(&self) -> bool {
        self.around.contains_key("_batch")
    }
}

/// What the URL's path beyond the inlet's name puts beside a record.
fn around(route: &str) -> Map<String, Value> {
    let step = last_step(route).filter(|step| !is_batch(step));
    step.map(|step| ("_route".to_owned(), step.into()))
        .into_iter()
        .collect()
}

fn last_step(route: &str) -> Option<&str> {
    route.rsplit('/').next().filter(|step| !step.is_empty())
}

/// Whether the last step of a URL's path says that a list comes, rather than what each of its records is.
fn is_batch(step: &str) -> bool {
    matches!(step, "batch" | "import")
}

impl Inlet {
    /// The records of a body. The error is for whoever sent it, and quotes nothing of it.
    pub fn decode(&self, received: &Received<'_>) -> Result<Batch, String> {
        self.batch(
            from_bytes(received.body, self.format(received.content_type))?,
            received.route,
        )
    }

    /// The records of a value of a topic. JSON may stand in a registry's framing, which is passed over.
    pub fn decode_value(&self, value: &[u8], schemas: &Schemas) -> Result<Batch, DecodeError> {
        let not_decodable = DecodeError::NotDecodable;
        let is_framed = matches!(value, [0x00 | 0x01, ..] | [0xC3, 0x01, ..]);
        if self.takes(Format::Avro) && (is_framed || self.mapping.decode.len() == 1) {
            return self.batch(decode_avro(value, schemas)?, "").map_err(not_decodable);
        }
        let body = match value {
            [0x00, _, _, _, _, body @ ..] => body,
            whole => whole,
        };
        let first = self.mapping.decode.iter().find(|format| **format != Format::Avro);
        let format = *first.expect("Avro alone was read above");
        let value = from_bytes(body, format).map_err(not_decodable)?;
        self.batch(value, "").map_err(not_decodable)
    }

    /// The records of a value that was decoded already.
    pub fn batch(&self, value: Value, route: &str) -> Result<Batch, String> {
        let mut around = around(route);
        let is_batch = last_step(route).is_some_and(is_batch);
        let split = self.mapping.split.as_ref();
        let records = match (value, split) {
            (Value::Array(records), _) => records,
            (value @ Value::Object(_), Some(path)) if path.follow(&value).is_some_and(Value::is_array) => {
                let Some(Value::Array(records)) = path.follow(&value).cloned() else {
                    unreachable!("it is a list");
                };
                let Value::Object(mut batch) = value else {
                    unreachable!("it is an object");
                };
                batch.shift_remove(path.root());
                around.insert("_batch".to_owned(), Value::Object(batch));
                records
            }
            (Value::Object(_), Some(path)) if is_batch => return Err(format!("{path} is no list")),
            (value @ Value::Object(_), _) => vec![value],
            _ => return Err("the body is no JSON object or list of them".to_owned()),
        };
        Ok(Batch { records, around })
    }

    /// The form that the Content-Type names, where the inlet takes it, else the inlet's first.
    fn format(&self, content_type: Option<&str>) -> Format {
        let essence = content_type.and_then(|text| text.split(';').next()).unwrap_or_default();
        let named = match essence.trim().to_ascii_lowercase().as_str() {
            "application/x-www-form-urlencoded" => Some(Format::Form),
            "text/csv" => Some(Format::Csv),
            "text/xml" | "application/xml" | "application/soap+xml" => Some(Format::OutboundMessage),
            "application/json" => Some(Format::Json),
            _ => None,
        };
        let taken = named.filter(|format| self.takes(*format));
        taken.unwrap_or(self.mapping.decode[0])
    }
}

fn from_bytes(body: &[u8], format: Format) -> Result<Value, String> {
    match format {
        Format::Json => json(body),
        Format::Form => form(body),
        Format::Csv => csv(body),
        Format::OutboundMessage => outbound::records(text(body)?),
        Format::Avro => Err("Avro is read from topics only".to_owned()),
    }
}

fn text(body: &[u8]) -> Result<&str, String> {
    let text =
        std::str::from_utf8(body).map_err(|error| format!("no UTF-8 from byte {} on", error.valid_up_to() + 1))?;
    Ok(text.strip_prefix('\u{feff}').unwrap_or(text))
}

fn json(body: &[u8]) -> Result<Value, String> {
    serde_json::from_str(text(body)?).map_err(|error| {
        // serde_json quotes nothing but names of fields, and there are none here.
        format!("malformed JSON at line {}, column {}", error.line(), error.column())
    })
}

fn form(body: &[u8]) -> Result<Value, String> {
    let text = text(body)?;
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

/// A line of titles, then a record a line.
fn csv(body: &[u8]) -> Result<Value, String> {
    let rows = Rows::new(text(body)?.as_bytes())?;
    let mut records = Vec::new();
    for (line, row) in rows {
        records.push(row.map_err(|_| format!("malformed CSV at line {line}"))?);
    }
    Ok(Value::Array(records))
}

/// The rows of a CSV text, each an object by the titles in its first line; a column without one is left out. A row
/// that can't be read leaves those behind it be.
#[derive(Debug)]
pub struct Rows<R> {
    reader: csv::Reader<R>,
    titles: csv::StringRecord,
}

impl<R: Read> Rows<R> {
    pub fn new(input: R) -> Result<Self, String> {
        let mut reader = csv::ReaderBuilder::new().flexible(false).from_reader(input);
        let titles = reader.headers().map_err(|_| "malformed CSV at line 1".to_owned())?;
        let titles = titles.clone();
        Ok(Self { reader, titles })
    }
}

impl<R: Read> Iterator for Rows<R> {
    /// The line that the row begins at, and the row, or what is wrong with it.
    type Item = (u64, Result<Value, String>);

    fn next(&mut self) -> Option<Self::Item> {
        let mut row = csv::StringRecord::new();
        let line = self.reader.position().line();
        let read = self.reader.read_record(&mut row);
        let line = row.position().map_or(line, csv::Position::line);
        match read {
            Ok(false) => None,
            Ok(true) => {
                let mut cells = Map::new();
                let titled = self.titles.iter().map(str::trim).zip(&row);
                for (title, cell) in titled.filter(|(title, _)| !title.is_empty()) {
                    add(&mut cells, title.to_owned(), cell.into());
                }
                Some((line, Ok(Value::Object(cells))))
            }
            Err(error) => Some((line, Err(malformed(&error, self.titles.len())))),
        }
    }
}

fn malformed(error: &csv::Error, titles: usize) -> String {
    match error.kind() {
        csv::ErrorKind::UnequalLengths { len, .. } => format!("{len} cells for {titles} titles"),
        csv::ErrorKind::Utf8 { .. } => "no UTF-8".to_owned(),
        csv::ErrorKind::Io(error) => format!("can't be read: {error}"),
        _ => "malformed CSV".to_owned(),
    }
}
