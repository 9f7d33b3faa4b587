//! Bytes become the records of a batch, one by one: JSON, a form, rows, an Outbound Message, Avro.
//!
//! A body that can't be read as a whole is refused before its first record. A fault in one record costs the others
//! nothing. One record at a time is in memory as values, and the budget bounds it.

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::budget::{Budget, Spent, size_of};
use super::customer_io;
use super::form::form;
use super::outbound::{self, Notifications};
use super::route::{around, is_of_batch};
use super::rows::Rows;
use super::{Format, Inlet, Preset};
use crate::json;
use crate::lead::decode::{DecodeError, decode_avro};
use crate::lead::schemas::Schemas;
use crate::path::Step;
use crate::reason::Reason;

/// What came over HTTP, or stands in a file.
#[derive(Debug, Clone, Copy, Default)]
pub struct Received<'a> {
    pub body: &'a [u8],
    pub content_type: Option<&'a str>,
    /// The URL's path beyond the inlet's name, such as `v1/track`.
    pub route: &'a str,
}

/// Why a record is a dead letter; the text never quotes a value.
pub type Refused = (Reason, String);

/// Records that came together, each of which stands alone.
#[derive(Debug)]
pub struct Batch<'b> {
    records: Records<'b>,
    /// The values that paths find beside a record: `_batch`, the object that a list of records stood in, and
    /// `_route`, the last step of the URL's path where it names the record's kind.
    around: Map<String, Value>,
    /// The index of the next record, and how many bytes of the budget the last one holds.
    next_index: usize,
    held: usize,
    /// How many bytes the whole batch came in.
    size: usize,
    /// Whether the mapping makes a copy of each record.
    copies: bool,
    /// The member of a request's records that opens the inlet: secrets don't go into topics.
    secret: Option<&'static str>,
}

#[derive(Debug)]
enum Records<'b> {
    /// JSON that isn't in a list, or what another format has one of.
    One(Option<(Value, Option<&'b [u8]>, bool)>),
    Json(json::List<'b>),
    Values(std::vec::IntoIter<Value>),
    Rows(Rows<'b>),
    Notifications(Notifications<'b>),
}

/// One record of a batch.
#[derive(Debug)]
pub struct BatchRecord<'b> {
    /// Its place in the batch, from 0.
    pub index: usize,
    /// How many bytes it came in, about.
    pub(super) size: usize,
    pub(super) value: Result<Value, Refused>,
    /// As it came, for a dead letter.
    raw: Option<Cow<'b, [u8]>>,
    /// Whether it held half of a surrogate pair.
    pub(super) mended: bool,
    /// The Content-Type of `raw`, where it isn't JSON.
    content_type: Option<&'static str>,
}

impl BatchRecord<'_> {
    fn new(index: usize, value: Result<Value, Refused>) -> Self {
        Self {
            index,
            size: 0,
            value,
            raw: None,
            mended: false,
            content_type: None,
        }
    }

    /// The record as a dead letter holds it.
    pub fn text(&self) -> Cow<'_, [u8]> {
        match (&self.raw, &self.value) {
            (Some(raw), _) => Cow::Borrowed(raw),
            (None, Ok(value)) => Cow::Owned(value.to_string().into_bytes()),
            (None, Err(_)) => Cow::Borrowed(b""),
        }
    }

    /// The Content-Type of its text, where that isn't JSON.
    pub fn content_type(&self) -> Option<&'static str> {
        self.content_type
    }

    /// The record, where it could be read.
    pub fn value(&self) -> Option<&Value> {
        self.value.as_ref().ok()
    }

    /// The record as it came, where parsing lost something of it.
    pub(super) fn lost(&self) -> Option<&[u8]> {
        self.raw.as_deref().filter(|_| self.mended)
    }

    /// Adds a member to the record's own, which the record's text doesn't show.
    pub fn insert(&mut self, name: &str, value: Value) {
        self.raw = Some(Cow::Owned(self.text().into_owned()));
        if let Ok(Value::Object(members)) = &mut self.value {
            members.insert(name.to_owned(), value);
        }
    }

    /// Takes out what opens the inlet.
    fn strip(&mut self, name: &str) {
        match &mut self.value {
            Ok(Value::Object(members)) => {
                if members.shift_remove(name).is_some() {
                    self.raw = None;
                }
            }
            Ok(_) => {}
            Err(_) => {
                let blanked = self.raw.as_deref().map(|raw| json::blank(raw, name).into_owned());
                self.raw = blanked.map(Cow::Owned);
            }
        }
    }
}

impl<'b> Batch<'b> {
    fn new(records: Records<'b>, size: usize, around: Map<String, Value>, inlet: &Inlet) -> Self {
        Self {
            records,
            around,
            next_index: 0,
            held: 0,
            size,
            copies: inlet.mapping.copies(),
            secret: None,
        }
    }

    fn without_secrets(mut self, inlet: &Inlet) -> Self {
        self.secret = inlet.secret_member();
        self
    }

    /// One record alone.
    pub(super) fn one(record: Value, size: usize, inlet: &Inlet) -> Self {
        Self::new(Records::One(Some((record, None, false))), size, Map::new(), inlet)
    }

    /// One record of a request, as it came.
    ///
    /// # Errors
    /// It is none of the route's records.
    pub(super) fn again(parsed: json::Parsed, raw: &'b [u8], route: &str, inlet: &Inlet) -> Result<Self, String> {
        let value = match customer_io::Call::of(route) {
            Some(call) => call.read(parsed.value)?,
            None => parsed.value,
        };
        let one = Records::One(Some((value, Some(raw), parsed.mended)));
        Ok(Self::new(one, raw.len(), around(route), inlet).without_secrets(inlet))
    }

    /// The values that paths find beside each record.
    pub fn around(&self) -> &Map<String, Value> {
        &self.around
    }

    /// Whether there may be more than one record.
    pub fn is_list(&self) -> bool {
        !matches!(self.records, Records::One(_))
    }

    /// The next record; the one before is gone by then.
    pub fn next(&mut self, budget: &mut Budget) -> Option<BatchRecord<'b>> {
        budget.release(std::mem::take(&mut self.held));
        let (index, copies) = (self.next_index, self.copies);
        self.next_index += 1;
        let mut afford = |steps: usize, bytes: usize| -> Result<(), Refused> {
            let bytes = if copies { bytes + bytes / 2 } else { bytes };
            budget.spend(steps).and_then(|()| budget.keep(bytes)).map_err(spent)?;
            self.held = bytes;
            Ok(())
        };
        let mut record = BatchRecord::new(index, Ok(Value::Null));
        match &mut self.records {
            Records::One(one) => {
                let (value, raw, mended) = one.take()?;
                record.value = Ok(value);
                record.size = self.size;
                record.raw = raw.map(Cow::Borrowed);
                record.mended = mended;
            }
            Records::Values(values) => {
                let value = values.next()?;
                record.size = size_of(&value);
                record.value = Ok(value);
            }
            Records::Json(list) => {
                let raw = list.next()?;
                record.size = raw.len();
                record.raw = Some(Cow::Borrowed(raw));
                let parsed = afford(raw.len(), json::weight(raw)).and_then(|()| {
                    json::parse(raw).map_err(|unreadable| (Reason::NotDecodable, unreadable.to_string()))
                });
                record.mended = parsed.as_ref().is_ok_and(|parsed| parsed.mended);
                record.value = parsed.map(|parsed| parsed.value);
            }
            Records::Rows(rows) => {
                let row = rows.row()?;
                let (steps, bytes) = row.cost();
                record.size = row.size();
                record.value = afford(steps, bytes).map(|()| Value::Null);
                if record.value.is_ok() {
                    let value = row.value();
                    record.value = value.map_err(|why| (Reason::NotDecodable, format!("line {}: {why}", row.line)));
                    // A row that its titles can't read is kept with them.
                    if record.value.is_err() {
                        let raw = row.raw().to_vec();
                        record.raw = Some(Cow::Owned([rows.head(), &raw].concat()));
                        record.content_type = Some("text/csv");
                    }
                }
            }
            Records::Notifications(notifications) => {
                let notification = notifications.notification()?;
                let cost = notification.cost();
                record.size = notification.size();
                let record_of = || notification.record().map_err(|why| (Reason::NotDecodable, why));
                record.value = afford(cost, cost).and_then(|()| record_of());
            }
        }
        if let Some(name) = self.secret {
            record.strip(name);
        }
        Some(record)
    }
}

pub(super) fn spent(spent: Spent) -> Refused {
    (Reason::TooLarge, spent.to_string())
}

impl Inlet {
    /// The records of a body. The error is for the sender, and doesn't quote the body.
    ///
    /// # Errors
    /// The body can't be read as a whole, or the budget is spent.
    pub fn decode<'b>(&self, received: &Received<'b>, budget: &mut Budget) -> Result<Batch<'b>, String> {
        let format = self.format(received.content_type);
        let batch = self.decode_as(format, received.body, received.route, budget)?;
        Ok(batch.without_secrets(self))
    }

    /// The records of a value of a topic. JSON may stand in a registry's framing, which is passed over.
    ///
    /// # Errors
    /// The value can't be read as a whole, or its schema isn't known.
    pub fn decode_value<'b>(
        &self,
        value: &'b [u8],
        schemas: &Schemas,
        budget: &mut Budget,
    ) -> Result<Batch<'b>, DecodeError> {
        let not_decodable = DecodeError::NotDecodable;
        let is_framed = matches!(value, [0x00 | 0x01, ..] | [0xC3, 0x01, ..]);
        if self.takes(Format::Avro) && (is_framed || self.mapping.decode.len() == 1) {
            let size = value.len();
            // A value in an object that grows has up to four times the bytes that are counted for it.
            let (value, bytes) = decode_avro(value, schemas, budget.left() / 4)?;
            let bytes = 4 * bytes;
            let kept = budget.spend(bytes).and_then(|()| budget.keep(bytes));
            kept.map_err(|spent| not_decodable(spent.to_string()))?;
            return self.batch(value, size, "").map_err(not_decodable);
        }
        let body = match value {
            [0x00, _, _, _, _, body @ ..] => body,
            whole => whole,
        };
        let first = self.mapping.decode.iter().find(|format| **format != Format::Avro);
        let format = *first.expect("Avro alone was read above");
        self.decode_as(format, body, "", budget).map_err(not_decodable)
    }

    fn decode_as<'b>(
        &self,
        format: Format,
        body: &'b [u8],
        route: &str,
        budget: &mut Budget,
    ) -> Result<Batch<'b>, String> {
        budget.spend(body.len()).map_err(|spent| spent.to_string())?;
        let mut keep = |bytes: usize| budget.keep(bytes).map_err(|spent| spent.to_string());
        let records = match format {
            Format::Json => return self.decode_json(body, route, budget),
            Format::Form => {
                let text = text(body)?;
                let pairs = text.bytes().filter(|byte| *byte == b'&').count();
                keep(4 * text.len() + 320 * pairs)?;
                Records::One(Some((form(text)?, None, false)))
            }
            Format::Csv => {
                keep(4 * body.len())?;
                Records::Rows(Rows::new(body, self.mapping.separator)?)
            }
            Format::OutboundMessage => {
                let notifications = Notifications::new(text(body)?)?;
                keep(notifications.around_cost())?;
                Records::Notifications(notifications)
            }
            Format::Avro => return Err("Avro is read from topics only".to_owned()),
        };
        Ok(Batch::new(records, body.len(), around(route), self))
    }

    /// The records of JSON, whatever form the inlet decodes. A list's elements stay bytes until their turn comes.
    ///
    /// # Errors
    /// The body is no JSON as a whole, or none that holds records.
    pub(super) fn decode_json<'b>(
        &self,
        body: &'b [u8],
        route: &str,
        budget: &mut Budget,
    ) -> Result<Batch<'b>, String> {
        let body = body.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(body);
        if let Some(call) = customer_io::Call::of(route) {
            budget.keep(json::weight(body)).map_err(|spent| spent.to_string())?;
            let parsed = json::parse(body).map_err(|unreadable| unreadable.to_string())?;
            let one = Records::One(Some((call.read(parsed.value)?, Some(body), parsed.mended)));
            return Ok(Batch::new(one, body.len(), Map::new(), self));
        }
        if body.trim_ascii_start().starts_with(b"[") {
            let list = json::list(body).map_err(|unreadable| unreadable.to_string())?;
            return Ok(Batch::new(Records::Json(list), body.len(), around(route), self));
        }
        let mut parse = |bytes: &[u8]| {
            budget.keep(json::weight(bytes)).map_err(|spent| spent.to_string())?;
            json::parse(bytes).map_err(|unreadable| unreadable.to_string())
        };
        if let Some((root, list)) = self.split(body) {
            // The object around the list is parsed without the list.
            let without = [&body[..root.start], b"null", &body[root.end..]].concat();
            let Value::Object(mut batch) = parse(&without)?.value else {
                return Err("the body is no JSON object or list of them".to_owned());
            };
            let mut around = around(route);
            if let Some(path) = &self.mapping.split {
                batch.shift_remove(path.root());
            }
            around.insert("_batch".to_owned(), Value::Object(batch));
            return Ok(Batch::new(Records::Json(list), body.len(), around, self));
        }
        let parsed = parse(body)?;
        if let Some(path) = self.mapping.split.as_ref().filter(|_| is_of_batch(route)) {
            return Err(format!("{path} is no list"));
        }
        if !parsed.value.is_object() {
            return Err("the body is no JSON object or list of them".to_owned());
        }
        let one = Records::One(Some((parsed.value, Some(body), parsed.mended)));
        Ok(Batch::new(one, body.len(), around(route), self))
    }

    /// Where a batch's list stands in an object: the place of the member that leads to it, and the list.
    fn split<'b>(&self, body: &'b [u8]) -> Option<(std::ops::Range<usize>, json::List<'b>)> {
        let steps = self.mapping.split.as_ref()?.steps();
        let mut root = None;
        let mut place = 0..body.len();
        for step in steps {
            let Step::Name(name) = step else { return None };
            let found = json::member(&body[place.clone()], name).ok()??;
            place = place.start + found.start..place.start + found.end;
            root.get_or_insert_with(|| place.clone());
        }
        Some((root?, json::list(&body[place]).ok()?))
    }

    /// The records of a value that was decoded already.
    fn batch(&self, value: Value, size: usize, route: &str) -> Result<Batch<'static>, String> {
        let mut around = around(route);
        let records = match value {
            Value::Array(records) => Records::Values(records.into_iter()),
            mut value @ Value::Object(_) => match self
                .mapping
                .split
                .as_ref()
                .and_then(|path| list_at(path.steps(), &mut value))
            {
                None => Records::One(Some((value, None, false))),
                Some(records) => {
                    if let (Value::Object(batch), Some(path)) = (&mut value, &self.mapping.split) {
                        batch.shift_remove(path.root());
                    }
                    around.insert("_batch".to_owned(), value);
                    Records::Values(records.into_iter())
                }
            },
            _ => return Err("the body is no JSON object or list of them".to_owned()),
        };
        Ok(Batch::new(records, size, around, self))
    }

    /// A body for a dead letter to hold: without what opens the inlet.
    pub fn without_secrets<'b>(&self, received: &Received<'b>) -> Cow<'b, [u8]> {
        let body = received.body;
        match (self.format(received.content_type), self.secret_member()) {
            (Format::Json, Some(name)) => json::blank(body, name),
            (Format::OutboundMessage, _) => match std::str::from_utf8(body) {
                Ok(text) => Cow::Owned(outbound::without_session(text).into_bytes()),
                Err(_) => Cow::Borrowed(body),
            },
            _ => Cow::Borrowed(body),
        }
    }

    /// The member of a record that holds what opens the inlet.
    fn secret_member(&self) -> Option<&'static str> {
        match self.preset {
            Some(Preset::Slack) => Some("token"),
            Some(Preset::Track) => Some("writeKey"),
            _ => None,
        }
    }

    /// The form in which a body is read, as a Content-Type that every later reading takes for the same form.
    pub fn content_type(&self, received: &Received<'_>) -> &'static str {
        match self.format(received.content_type) {
            Format::Json => "application/json",
            Format::Form => "application/x-www-form-urlencoded",
            Format::Csv => "text/csv",
            Format::OutboundMessage => "text/xml",
            Format::Avro => "avro/binary",
        }
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

/// Takes the list out that stands at a path.
fn list_at(steps: &[Step], value: &mut Value) -> Option<Vec<Value>> {
    let place = steps.iter().try_fold(value, |place, step| match step {
        Step::Name(name) => place.get_mut(&**name),
        Step::Index(index) => place.get_mut(*index),
    });
    match place? {
        Value::Array(records) => Some(std::mem::take(records)),
        _ => None,
    }
}

fn text(body: &[u8]) -> Result<&str, String> {
    let text =
        std::str::from_utf8(body).map_err(|error| format!("no UTF-8 from byte {} on", error.valid_up_to() + 1))?;
    Ok(text.strip_prefix('\u{feff}').unwrap_or(text))
}
