//! Any Avro record as JSON: what others write, for the inlets' mappings.
//!
//! Unions are unwrapped. A decimal is an exact number, a timestamp RFC 3339 in UTC, a date and a time of day are
//! ISO 8601; one that no calendar has stays the number it is. Bytes are their text, or base64 where they are none.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use jiff::civil::{Date, Time};
use jiff::{Span, Timestamp};
use serde_json::{Map, Number, Value as Json};

use super::{Cursor, Fault, Value, unscaled};
use crate::lead::decode::DecodeError;
use crate::lead::fields::Place;
use crate::lead::schemas::{Shape, Writer};

/// A decimal has no more places than this; a schema's scale must not fill the memory.
const SCALE_MAX: u32 = 1000;

/// The datum as JSON.
pub(in crate::lead) fn to_json(datum: &[u8], writer: &Writer) -> Result<Json, DecodeError> {
    let mut cursor = Cursor::new(datum);
    let json = Value::new(&mut cursor, writer).json();
    json.and_then(|json| cursor.end().map(|()| json))
        .map_err(|fault| match fault {
            Fault::Broken(why) => DecodeError::NotDecodable(why.into()),
            Fault::Wrong(wrong) => DecodeError::InvalidEvent(wrong.to_string()),
        })
}

impl Value<'_, '_, '_> {
    fn json(mut self) -> Result<Json, Fault> {
        Ok(match self.chosen()? {
            Shape::Null => Json::Null,
            Shape::Boolean => self.cursor.boolean()?.into(),
            Shape::Int => self.cursor.long()?.into(),
            // Neither NaN nor infinity is JSON; both become null.
            Shape::Float(4) => f32::from_le_bytes(self.cursor.array()?).into(),
            Shape::Float(_) => f64::from_le_bytes(self.cursor.array()?).into(),
            Shape::Text => self.cursor.text()?.into(),
            Shape::Bytes => bytes(self.cursor.bytes()?),
            Shape::Fixed(size) => bytes(self.cursor.take(*size)?),
            Shape::Uuid => uuid::Uuid::from_bytes(self.cursor.array()?).to_string().into(),
            Shape::Enum(symbols) => self.cursor.symbol(symbols)?.into(),
            Shape::Decimal { scale, size } => {
                let bytes = match size {
                    Some(size) => self.cursor.take(*size)?,
                    None => self.cursor.bytes()?,
                };
                exact(bytes, *scale).ok_or(Fault::Broken("a decimal has no bytes, or more than 16, or 1000 places"))?
            }
            Shape::Time { nanoseconds } => {
                let count = self.cursor.long()?;
                let time = Timestamp::from_nanosecond(i128::from(count) * i128::from(*nanoseconds));
                time.map_or(count.into(), |time| time.to_string().into())
            }
            Shape::Date => {
                let days = self.cursor.long()?;
                let date = Span::new()
                    .try_days(days)
                    .and_then(|days| Date::constant(1970, 1, 1).checked_add(days));
                date.map_or(days.into(), |date| date.to_string().into())
            }
            Shape::Clock { nanoseconds } => {
                let count = self.cursor.long()?;
                let span = Span::new().try_nanoseconds(count.saturating_mul(*nanoseconds));
                let time = span.and_then(|span| Time::midnight().checked_add(span));
                time.map_or(count.into(), |time| time.to_string().into())
            }
            Shape::Record(number) => {
                let mut members = Map::new();
                for (name, shape) in &self.writer.records[*number] {
                    members.insert(name.clone(), self.inner(shape, Place::EVENT)?.json()?);
                }
                Json::Object(members)
            }
            Shape::List(items) => {
                let mut elements = Vec::new();
                self.blocks(|list| {
                    elements.push(list.inner(items, Place::EVENT)?.json()?);
                    Ok(())
                })?;
                Json::Array(elements)
            }
            Shape::Map(values) => {
                let mut members = Map::new();
                self.blocks(|map| {
                    let name = map.cursor.text()?.to_owned();
                    members.insert(name, map.inner(values, Place::EVENT)?.json()?);
                    Ok(())
                })?;
                Json::Object(members)
            }
            Shape::Union(_) => unreachable!("chosen goes through unions"),
        })
    }
}

fn bytes(bytes: &[u8]) -> Json {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.into(),
        Err(_) => BASE64_STANDARD.encode(bytes).into(),
    }
}

/// A decimal with every digit that it has.
fn exact(bytes: &[u8], scale: u32) -> Option<Json> {
    let unscaled = unscaled(bytes).filter(|_| scale <= SCALE_MAX)?;
    let scale = usize::try_from(scale).ok()?;
    let mut digits = format!("{:0>width$}", unscaled.unsigned_abs(), width = scale + 1);
    if scale > 0 {
        digits.insert(digits.len() - scale, '.');
    }
    let sign = if unscaled < 0 { "-" } else { "" };
    format!("{sign}{digits}").parse::<Number>().ok().map(Json::Number)
}
