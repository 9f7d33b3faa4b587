//! Lead events as Avro: the schema that wrote a datum reads it, straight into the event.
//!
//! Fields are found by name, so that schemas can evolve: an added field is skipped, a removed one is null, order
//! doesn't matter, a former name is an alias of the current schema, and a number, text or time may have any of the
//! writer's types that mean the same. A decimal has the writer's own scale.
//!
//! The bytes may be hostile, and so may the schema. A length that the bytes don't have allocates nothing, and the
//! depth is bounded. A record takes no more steps than it has bytes, give or take a schema's worth. What the schema
//! adds to a record (names, symbols, decimals' places) has a budget that is linear in the record's size.

use std::borrow::Cow;

use jiff::Timestamp;
use rust_decimal::Decimal;

use super::asked::Asked;
use super::decode::DecodeError;
use super::fields::{Filling, Place, Scalar, Unread, Wrong};
use super::schemas::{Shape, Writer};
use super::table::Table;
use super::{Fields, LeadEvent, Payload};
use crate::json::walk::Unsure;

mod plan;
mod tree;

pub(super) use plan::Plan;
pub(super) use tree::to_json;

/// Deeper than any schema that people write; records may hold themselves.
const DEPTH_MAX: u32 = 64;
/// Steps that a datum may take beyond one per byte: fields that are null take no byte.
const STEPS_FREE: usize = 4096;
/// The bytes that may be made of each byte of a datum. A null takes one, and as JSON it is a value with a name.
const MADE_PER_BYTE: usize = 64;
/// And the bytes on top, for small ones.
const MADE_FREE: usize = 1024 * 1024;

/// Reads what is asked for, by the writer's plan if that can.
pub(super) fn decode<'a>(datum: &'a [u8], writer: &Writer, asked: &Asked) -> Result<LeadEvent<'a>, DecodeError> {
    // Made where it is returned: it is large.
    let mut decoded = Ok(LeadEvent::default());
    if let Ok(event) = &mut decoded
        && let Err(Unsure) = quick(datum, writer, asked, event)
    {
        decoded = whole(datum, writer);
    }
    decoded
}

/// Reads what is asked for, by the writer's plan.
pub(super) fn quick<'a>(
    datum: &'a [u8],
    writer: &Writer,
    asked: &Asked,
    event: &mut LeadEvent<'a>,
) -> Result<(), Unsure> {
    let plan = writer.plan.as_ref().ok_or(Unsure)?;
    plan.read(datum, writer, asked, event)
}

/// Reads a whole event, or says what is wrong with it.
pub(super) fn whole<'a>(datum: &'a [u8], writer: &Writer) -> Result<LeadEvent<'a>, DecodeError> {
    let mut cursor = Cursor::new(datum);
    let mut event = None;
    let read = Value::new(&mut cursor, writer).record(&mut event);
    let fault = match (read.and_then(|()| cursor.end()), event) {
        (Ok(()), Some(event)) => return Ok(event),
        (Ok(()), None) => return Err(DecodeError::InvalidEvent("the event is null".into())),
        (Err(fault), _) => fault,
    };
    // The first fault may hide broken bytes further on, and those come first.
    let mut cursor = Cursor::new(datum);
    let whole = Value::new(&mut cursor, writer).skip().and_then(|()| cursor.end());
    match (whole, fault) {
        (Err(AvroFault::Broken(why)), _) | (Ok(()), AvroFault::Broken(why)) => {
            Err(DecodeError::NotDecodable(why.into()))
        }
        (_, AvroFault::Wrong(wrong)) => Err(DecodeError::InvalidEvent(wrong.to_string())),
        (Err(AvroFault::Wrong(wrong)), _) => Err(DecodeError::InvalidEvent(wrong.to_string())),
    }
}

/// Why a datum can't be read: broken bytes, or a value that doesn't fit its field.
enum AvroFault {
    Broken(&'static str),
    Wrong(Wrong),
}

impl From<AvroFault> for Unsure {
    fn from(_: AvroFault) -> Self {
        Unsure
    }
}

/// The value that the cursor has come to.
struct Value<'c, 'a, 'w> {
    cursor: &'c mut Cursor<'a>,
    writer: &'w Writer,
    shape: &'w Shape,
    place: Place,
    depth: u32,
}

impl<'c, 'a, 'w> Value<'c, 'a, 'w> {
    fn new(cursor: &'c mut Cursor<'a>, writer: &'w Writer) -> Self {
        Self {
            cursor,
            writer,
            shape: &writer.root,
            place: Place::EVENT,
            depth: 0,
        }
    }

    /// A value inside this one.
    fn inner(&mut self, shape: &'w Shape, place: Place) -> Result<Value<'_, 'a, 'w>, AvroFault> {
        self.cursor.step()?;
        if self.depth >= DEPTH_MAX {
            return Err(AvroFault::Broken("the value is nested too deep"));
        }
        Ok(Value {
            cursor: self.cursor,
            writer: self.writer,
            shape,
            place,
            depth: self.depth + 1,
        })
    }

    /// The shape of what is really there, where the schema leaves a choice.
    fn chosen(&mut self) -> Result<&'w Shape, AvroFault> {
        while let Shape::Union(variants) = self.shape {
            let index = usize::try_from(self.cursor.long()?).ok();
            let variant = index.and_then(|index| variants.get(index));
            self.shape = variant.ok_or(AvroFault::Broken("a union has no such branch"))?;
        }
        Ok(self.shape)
    }

    /// Passes over the value.
    fn skip(mut self) -> Result<(), AvroFault> {
        match self.chosen()? {
            Shape::Null => {}
            Shape::Boolean => {
                self.cursor.boolean()?;
            }
            Shape::Int | Shape::Date | Shape::Clock { .. } | Shape::Time { .. } => {
                self.cursor.long()?;
            }
            Shape::Enum(symbols) => {
                self.cursor.symbol(symbols)?;
            }
            Shape::Text => {
                self.cursor.text()?;
            }
            Shape::Bytes | Shape::Decimal { size: None, .. } => {
                self.cursor.bytes()?;
            }
            Shape::Uuid => {
                self.cursor.take(16)?;
            }
            Shape::Float(size) | Shape::Fixed(size) | Shape::Decimal { size: Some(size), .. } => {
                self.cursor.take(*size)?;
            }
            Shape::Record(number) => {
                for (_, shape) in &self.writer.records[*number] {
                    self.inner(shape, Place::EVENT)?.skip()?;
                }
            }
            Shape::List(items) => self.blocks(|list| list.inner(items, Place::EVENT)?.skip())?,
            Shape::Map(values) => self.blocks(|map| {
                map.cursor.text()?;
                map.inner(values, Place::EVENT)?.skip()
            })?,
            Shape::Union(_) => unreachable!("chosen goes through unions"),
        }
        Ok(())
    }

    /// Calls `item` at each item of a list or map.
    fn blocks(&mut self, mut item: impl FnMut(&mut Self) -> Result<(), AvroFault>) -> Result<(), AvroFault> {
        loop {
            let count = self.cursor.long()?;
            if count == 0 {
                return Ok(());
            }
            if count < 0 {
                // The block's size in bytes, for readers that want to jump over it.
                self.cursor.long()?;
            }
            for _ in 0..count.unsigned_abs() {
                item(self)?;
            }
        }
    }
}

impl<'a> Unread<'a> for Value<'_, 'a, '_> {
    type Error = AvroFault;

    fn place(&self) -> Place {
        self.place
    }

    fn scalar(mut self) -> Result<Scalar<'a>, AvroFault> {
        Ok(match self.chosen()? {
            Shape::Null => Scalar::Null,
            Shape::Boolean => Scalar::Bool(self.cursor.boolean()?),
            Shape::Int => Scalar::Int(self.cursor.long()?),
            Shape::Text => Scalar::Text(self.cursor.text()?.into()),
            Shape::Bytes => match std::str::from_utf8(self.cursor.bytes()?) {
                Ok(text) => Scalar::Text(text.into()),
                Err(_) => Scalar::Other,
            },
            Shape::Enum(symbols) => {
                let symbol = self.cursor.symbol(symbols)?;
                self.cursor.make(symbol.len())?;
                Scalar::Text(Cow::Owned(symbol.to_owned()))
            }
            Shape::Uuid => match uuid::Uuid::from_slice(self.cursor.take(16)?) {
                Ok(uuid) => Scalar::Text(Cow::Owned(uuid.to_string())),
                Err(_) => Scalar::Other,
            },
            Shape::Decimal { scale, size } => {
                let unscaled = match size {
                    Some(size) => self.cursor.take(*size)?,
                    None => self.cursor.bytes()?,
                };
                decimal(unscaled, *scale).map_or(Scalar::Other, Scalar::Decimal)
            }
            Shape::Time { nanoseconds } => time(self.cursor.long()?, *nanoseconds).map_or(Scalar::Other, Scalar::Time),
            Shape::Date
            | Shape::Clock { .. }
            | Shape::Float(_)
            | Shape::Fixed(_)
            | Shape::List(_)
            | Shape::Map(_)
            | Shape::Record(_) => Scalar::Other,
            Shape::Union(_) => unreachable!("chosen goes through unions"),
        })
    }

    fn record<T: Table<'a>>(mut self, place: &mut Option<T>) -> Result<(), AvroFault> {
        let number = match self.chosen()? {
            Shape::Null => return Ok(()),
            Shape::Record(number) => *number,
            _ => return Err(AvroFault::Wrong(self.place.wrong("must be a record"))),
        };
        let (mut filling, record) = (Filling::<T>::default(), place.insert(T::default()));
        for (name, shape) in &self.writer.records[number] {
            let Some(index) = filling.find(name) else {
                self.inner(shape, Place::EVENT)?.skip()?;
                continue;
            };
            let at = self.place.member(T::ROWS.names[index]);
            filling.give(index, at).map_err(AvroFault::Wrong)?;
            record.set(index, self.inner(shape, at)?)?;
        }
        filling.finish().map_err(AvroFault::Wrong)
    }

    fn fields(mut self) -> Result<Fields<'a>, AvroFault> {
        let place = self.place;
        let values = match self.chosen()? {
            Shape::Null => return Ok(Fields::default()),
            Shape::Map(values) => values,
            _ => return Err(AvroFault::Wrong(place.wrong("must be a map"))),
        };
        let mut entries = Vec::new();
        self.blocks(|map| {
            let name = map.cursor.text()?;
            let value = map.inner(values, place)?.scalar()?.entry();
            let value = value.map_err(|why| AvroFault::Wrong(place.wrong(&format!("has a value that {why}"))))?;
            entries.push((name.into(), value));
            Ok(())
        })?;
        Ok(entries.into())
    }

    fn payload(self) -> Result<Option<Payload<'a>>, AvroFault> {
        self.optional(|scalar| scalar.text()?.map(|text| Payload::read(&text)).transpose())
    }

    fn refuse(place: Place, why: &str) -> AvroFault {
        AvroFault::Wrong(place.wrong(why))
    }
}

/// The rest of a datum.
struct Cursor<'a> {
    rest: &'a [u8],
    steps_left: usize,
    room_left: usize,
}

impl<'a> Cursor<'a> {
    fn new(datum: &'a [u8]) -> Self {
        Self {
            rest: datum,
            steps_left: datum.len() + STEPS_FREE,
            room_left: datum.len() * MADE_PER_BYTE + MADE_FREE,
        }
    }

    fn end(&self) -> Result<(), AvroFault> {
        if self.rest.is_empty() {
            return Ok(());
        }
        Err(AvroFault::Broken("bytes are left over behind the datum"))
    }

    /// Counts one value: those that take no bytes could otherwise be repeated without end.
    fn step(&mut self) -> Result<(), AvroFault> {
        let left = self.steps_left.checked_sub(1);
        self.steps_left = left.ok_or(AvroFault::Broken("the datum claims more values than it has bytes"))?;
        Ok(())
    }

    /// Counts bytes that are made and don't stand in the datum.
    fn make(&mut self, size: usize) -> Result<(), AvroFault> {
        let left = self.room_left.checked_sub(size);
        self.room_left = left.ok_or(AvroFault::Broken("the datum stands for far more than its size"))?;
        Ok(())
    }

    fn take(&mut self, size: usize) -> Result<&'a [u8], AvroFault> {
        let (taken, rest) = self
            .rest
            .split_at_checked(size)
            .ok_or(AvroFault::Broken("the datum ends too early"))?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], AvroFault> {
        let taken = self.take(N)?;
        Ok(taken.try_into().expect("so many bytes were taken"))
    }

    /// An int or long: zigzag, seven bits a byte, the lowest first.
    fn long(&mut self) -> Result<i64, AvroFault> {
        let mut zigzag = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?[0];
            if shift == 63 && byte > 1 {
                break;
            }
            zigzag |= u64::from(byte & 0x7F) << shift;
            if byte & 0x80 == 0 {
                return Ok((zigzag >> 1).cast_signed() ^ -((zigzag & 1).cast_signed()));
            }
        }
        Err(AvroFault::Broken("a number is longer than 64 bits"))
    }

    fn boolean(&mut self) -> Result<bool, AvroFault> {
        match self.take(1)?[0] {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(AvroFault::Broken("a boolean is neither 0 nor 1")),
        }
    }

    fn bytes(&mut self) -> Result<&'a [u8], AvroFault> {
        let size = usize::try_from(self.long()?).map_err(|_| AvroFault::Broken("a length is negative"))?;
        self.take(size)
    }

    fn text(&mut self) -> Result<&'a str, AvroFault> {
        std::str::from_utf8(self.bytes()?).map_err(|_| AvroFault::Broken("a string is no UTF-8"))
    }

    fn symbol<'w>(&mut self, symbols: &'w [String]) -> Result<&'w str, AvroFault> {
        let index = usize::try_from(self.long()?).ok();
        let symbol = index.and_then(|index| symbols.get(index));
        symbol
            .map(String::as_str)
            .ok_or(AvroFault::Broken("an enum has no such symbol"))
    }
}

/// The time that many units of `nanoseconds` after 1970 began.
fn time(count: i64, nanoseconds: i64) -> Option<Timestamp> {
    let time = match nanoseconds {
        1_000_000 => Timestamp::from_millisecond(count),
        1_000 => Timestamp::from_microsecond(count),
        _ => Timestamp::from_nanosecond(i128::from(count) * i128::from(nanoseconds)),
    };
    time.ok()
}

/// A decimal from its unscaled value; `None` where it is beyond 28 digits.
fn decimal(bytes: &[u8], scale: u32) -> Option<Decimal> {
    Decimal::try_from_i128_with_scale(unscaled(bytes)?, scale).ok()
}

/// A decimal's unscaled value, big-endian two's complement; `None` where it is longer than 16 bytes.
fn unscaled(bytes: &[u8]) -> Option<i128> {
    let negative = *bytes.first()? & 0x80 != 0;
    if bytes.len() <= 8 {
        let small = bytes
            .iter()
            .fold(-i64::from(negative), |number, byte| number << 8 | i64::from(*byte));
        return Some(small.into());
    }
    let filler = if negative { 0xFF } else { 0x00 };
    let (padding, low) = bytes.split_at(bytes.len().saturating_sub(16));
    if padding.iter().any(|byte| *byte != filler) {
        return None;
    }
    let mut whole = [filler; 16];
    whole[16 - low.len()..].copy_from_slice(low);
    let unscaled = i128::from_be_bytes(whole);
    ((unscaled < 0) == negative).then_some(unscaled)
}
