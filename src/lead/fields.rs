//! Reads the values of a lead event, whatever the encoding.
//!
//! A decoder walks a record and offers each named value as an [`Unread`]; [`Table::set`] asks it for the kind of value
//! that the field takes. So JSON and Avro share one set of rules about texts, ids, times and prices.

use std::fmt;
use std::marker::PhantomData;

use jiff::Timestamp;
use rust_decimal::Decimal;

use super::table::Table;
use super::{Fields, Payload, Text};
use crate::{amounts, dates, ids};

/// Bytes of an event's id.
pub(super) const EVENT_ID_MAX: usize = 256;

/// One value that a decoder has come to, still unread.
pub(super) trait Unread<'a>: Sized {
    type Error;

    fn place(&self) -> Place;

    fn scalar(self) -> Result<Scalar<'a>, Self::Error>;

    /// Reads a record where it is to stand: moved about, it would cost more than it takes to read.
    fn record<T: Table<'a>>(self, place: &mut Option<T>) -> Result<(), Self::Error>;

    fn fields(self) -> Result<Fields<'a>, Self::Error>;
    fn payload(self) -> Result<Option<Payload<'a>>, Self::Error>;
    fn refuse(place: Place, why: &str) -> Self::Error;

    /// Reads a scalar by one of [`Scalar`]'s rules; null is `None`.
    fn optional<T>(
        self,
        rule: impl FnOnce(Scalar<'a>) -> Result<Option<T>, &'static str>,
    ) -> Result<Option<T>, Self::Error> {
        let place = self.place();
        rule(self.scalar()?).map_err(|why| Self::refuse(place, why))
    }

    fn required<T>(self, rule: impl FnOnce(Scalar<'a>) -> Result<Option<T>, &'static str>) -> Result<T, Self::Error> {
        let place = self.place();
        let found = self.optional(rule)?;
        found.ok_or_else(|| Self::refuse(place, "is required and must not be null"))
    }
}

/// Where a value stands in the event: `price`, `buyer.id`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    /// The record's own field, empty for the event itself.
    pub(super) record: &'static str,
    pub(super) field: &'static str,
}

/// The fault of an event, with its place and never with the value.
#[derive(Debug)]
pub(super) struct Wrong(String);

/// A value without members, or the fact that it is none.
#[derive(Debug)]
pub(super) enum Scalar<'a> {
    Null,
    Text(Text<'a>),
    Bool(bool),
    /// A JSON number, as written.
    Number(&'a str),
    Int(i64),
    Decimal(Decimal),
    Time(Timestamp),
    /// A list, an object, a float, …: no field takes it.
    Other,
}

/// A record on its way: which of its fields were given.
#[derive(Debug)]
pub(super) struct Filling<T> {
    /// A bit for each field that was given.
    given: u64,
    expected: usize,
    record: PhantomData<T>,
}

impl<T> Default for Filling<T> {
    fn default() -> Self {
        Self {
            given: 0,
            expected: 0,
            record: PhantomData,
        }
    }
}

impl<'a, T: Table<'a>> Filling<T> {
    /// The index of the field `name`, if it is one of ours. Producers write fields in the schema's order, more or
    /// less, so the search starts behind the field found last.
    pub(super) fn find(&mut self, name: &str) -> Option<usize> {
        let (before, behind) = T::ROWS.names.split_at(self.expected);
        let found = match behind.iter().position(|known| *known == name) {
            Some(index) => self.expected + index,
            None => before.iter().position(|known| *known == name)?,
        };
        self.expected = found + 1;
        Some(found)
    }

    /// The field that comes next, if `is_it` says so of its name in JSON.
    pub(super) fn guess(&mut self, is_it: impl FnOnce(&str) -> bool) -> Option<usize> {
        let found = self.expected;
        if !is_it(T::ROWS.quoted.get(found)?) {
            return None;
        }
        self.expected += 1;
        Some(found)
    }

    /// Notes that the field at `index` was given.
    pub(super) fn give(&mut self, index: usize, place: Place) -> Result<(), Wrong> {
        if self.given & (1 << index) != 0 {
            return Err(place.wrong("is given twice"));
        }
        self.given |= 1 << index;
        Ok(())
    }

    /// Whether all that is required was given.
    pub(super) fn finish(self) -> Result<(), Wrong> {
        let missing = T::ROWS.required & !self.given;
        if missing == 0 {
            return Ok(());
        }
        let field = T::ROWS.names[missing.trailing_zeros() as usize];
        Err(Place { record: "", field }.wrong("is required and missing"))
    }
}

impl<'a> Scalar<'a> {
    pub(super) fn text(self) -> Result<Option<Text<'a>>, &'static str> {
        match self {
            Self::Null => Ok(None),
            Self::Text(text) => Ok(Some(text)),
            _ => Err("must be a text"),
        }
    }

    /// An id: a number is taken as its text.
    pub(super) fn id(self) -> Result<Option<Text<'a>>, &'static str> {
        let id = match self {
            Self::Null => return Ok(None),
            Self::Text(text) => text,
            Self::Number(written) => ids::of_number(written)?,
            Self::Int(number) => number.to_string().into(),
            Self::Bool(_) | Self::Decimal(_) | Self::Time(_) | Self::Other => return Err(ids::WRONG_KIND),
        };
        Ok(Some(id))
    }

    /// An id that the event can't be without.
    pub(super) fn own_id(self) -> Result<Option<Text<'a>>, &'static str> {
        let id = self.id()?;
        match id.as_deref().and_then(ids::wrong_text) {
            Some(why) => Err(why),
            None => Ok(id),
        }
    }

    /// A value of `fields`: numbers and booleans are taken as the text that they were written in.
    pub(super) fn entry(self) -> Result<Option<Text<'a>>, &'static str> {
        match self {
            Self::Null => Ok(None),
            Self::Text(text) => Ok(Some(text)),
            Self::Number(text) => Ok(Some(text.into())),
            Self::Int(number) => Ok(Some(number.to_string().into())),
            Self::Bool(flag) => Ok(Some(if flag { "true" } else { "false" }.into())),
            Self::Decimal(_) | Self::Time(_) | Self::Other => Err("must be a text, a number or a boolean"),
        }
    }

    pub(super) fn flag(self) -> Result<Option<bool>, &'static str> {
        match self {
            Self::Null => Ok(None),
            Self::Bool(flag) => Ok(Some(flag)),
            _ => Err("must be true or false"),
        }
    }

    pub(super) fn int(self) -> Result<Option<i64>, &'static str> {
        let number = match self {
            Self::Null => return Ok(None),
            Self::Int(number) => Some(number),
            Self::Number(text) => text.parse().ok(),
            _ => None,
        };
        match number.and_then(|number| i32::try_from(number).ok()) {
            Some(number) => Ok(Some(number.into())),
            None => Err("must be a whole number of 32 bits"),
        }
    }

    /// A price, payout or revenue, exactly.
    pub(super) fn money(self) -> Result<Option<Decimal>, &'static str> {
        let amount = match self {
            Self::Null => return Ok(None),
            Self::Text(text) => amounts::money(&text),
            Self::Number(text) => amounts::money(text),
            Self::Int(number) => amounts::checked_money(number.into()),
            Self::Decimal(amount) => amounts::checked_money(amount),
            Self::Bool(_) | Self::Time(_) | Self::Other => Err("must be a decimal number, as text or number"),
        };
        amount.map(Some)
    }

    pub(super) fn time(self) -> Result<Option<Timestamp>, &'static str> {
        let time = match self {
            Self::Null => return Ok(None),
            Self::Time(time) => Some(time),
            Self::Text(text) => dates::rfc3339(&text),
            Self::Int(epoch) => dates::parse_epoch(&epoch.to_string()).ok(),
            Self::Number(epoch) => dates::parse_epoch(epoch).ok(),
            Self::Bool(_) | Self::Decimal(_) | Self::Other => None,
        };
        time.map(Some).ok_or(
            "must be a time, as RFC 3339 with a zone or as an epoch of 9 to 11 digits (seconds), 12 to 14 (milliseconds) \
             or 15 to 17 (microseconds)",
        )
    }
}

pub(super) fn event_id(scalar: Scalar<'_>) -> Result<Option<Text<'_>>, &'static str> {
    match scalar.own_id()? {
        Some(id) if id.len() > EVENT_ID_MAX => Err("must have 1 to 256 bytes"),
        id => Ok(id),
    }
}

pub(super) fn trigger(scalar: Scalar<'_>) -> Result<Option<Text<'_>>, &'static str> {
    match scalar.text()? {
        Some(text) if text.is_empty() => Err("must not be empty"),
        text => Ok(text),
    }
}

impl Place {
    pub(super) const EVENT: Self = Self { record: "", field: "" };

    /// The place of the member `field` of the record that stands here.
    pub(super) fn member(self, field: &'static str) -> Self {
        Self {
            record: self.field,
            field,
        }
    }

    pub(super) fn wrong(self, why: &str) -> Wrong {
        Wrong(format!("{self} {why}"))
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.record, self.field) {
            ("", "") => f.write_str("the event"),
            ("", field) => f.write_str(field),
            (record, field) => write!(f, "{record}.{field}"),
        }
    }
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
