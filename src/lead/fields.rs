//! Which field of a lead event reads what, whatever the encoding.
//!
//! A decoder walks a record and offers each named value as a [`Source`]; [`Record::set`] asks it for what the field
//! takes. So JSON and Avro share one list of fields and one set of rules about what a text, an id, a time or a price is.

use std::fmt;

use jiff::Timestamp;
use rust_decimal::Decimal;

use super::{Call, Consumer, Entity, FIELDS, LeadEvent, Payload, Text};
use crate::json::mend;
use crate::{amounts, dates, ids};

/// `fields` of a lead event.
pub(super) type Entries<'a> = Vec<(Text<'a>, Option<Text<'a>>)>;

/// One value that a decoder has come to, still unread.
pub(super) trait Source<'a>: Sized {
    type Error;

    fn place(&self) -> Place;
    fn scalar(self) -> Result<Scalar<'a>, Self::Error>;
    fn record<R: Record<'a>>(self) -> Result<Option<R>, Self::Error>;
    fn entries(self) -> Result<Entries<'a>, Self::Error>;
    fn payload(self) -> Result<Option<Payload<'a>>, Self::Error>;
    fn refuse(wrong: Wrong) -> Self::Error;

    /// Reads a scalar by one of [`Scalar`]'s rules; null is `None`.
    fn read<T>(
        self,
        rule: impl FnOnce(Scalar<'a>) -> Result<Option<T>, &'static str>,
    ) -> Result<Option<T>, Self::Error> {
        let place = self.place();
        rule(self.scalar()?).map_err(|why| Self::refuse(place.wrong(why)))
    }

    fn required<T>(self, rule: impl FnOnce(Scalar<'a>) -> Result<Option<T>, &'static str>) -> Result<T, Self::Error> {
        let place = self.place();
        let found = self.read(rule)?;
        found.ok_or_else(|| Self::refuse(place.wrong("is required and must not be null")))
    }
}

/// A record with named fields that a [`Source`] can fill.
pub(super) trait Record<'a>: Default {
    const NAMES: &'static [&'static str];
    /// So many of the first names must be given.
    const REQUIRED: usize = 0;

    /// Sets the field `name`, one of [`Self::NAMES`].
    fn set<S: Source<'a>>(&mut self, name: &str, source: S) -> Result<(), S::Error>;
}

/// Where a value stands in the event: `price`, `buyer.id`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    /// The record's own field, empty for the event itself.
    pub(super) record: &'static str,
    pub(super) field: &'static str,
}

/// What is wrong with an event, and where; never with the value.
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

/// A record on its way: which of its fields were given so far.
#[derive(Debug, Default)]
pub(super) struct Filling<R> {
    pub(super) record: R,
    given: u32,
    expected: usize,
}

impl<'a, R: Record<'a>> Filling<R> {
    /// The index of the field `name`, if it is one of ours. Producers write fields in the schema's order, more or
    /// less, so the search starts behind the field found last.
    pub(super) fn find(&mut self, name: &str) -> Option<usize> {
        let (before, behind) = R::NAMES.split_at(self.expected);
        let found = match behind.iter().position(|known| *known == name) {
            Some(index) => self.expected + index,
            None => before.iter().position(|known| *known == name)?,
        };
        self.expected = found + 1;
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

    /// The record, if all that is required was given.
    pub(super) fn finish(self) -> Result<R, Wrong> {
        for (index, field) in R::NAMES[..R::REQUIRED].iter().enumerate() {
            if self.given & (1 << index) == 0 {
                return Err(Place { record: "", field }.wrong("is required and missing"));
            }
        }
        Ok(self.record)
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
    fn id(self) -> Result<Option<Text<'a>>, &'static str> {
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
    fn own_id(self) -> Result<Option<Text<'a>>, &'static str> {
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

    fn flag(self) -> Result<Option<bool>, &'static str> {
        match self {
            Self::Null => Ok(None),
            Self::Bool(flag) => Ok(Some(flag)),
            _ => Err("must be true or false"),
        }
    }

    fn int(self) -> Result<Option<i64>, &'static str> {
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
    fn money(self) -> Result<Option<Decimal>, &'static str> {
        let amount = match self {
            Self::Null => return Ok(None),
            Self::Text(text) => amounts::money(&text),
            Self::Number(text) => amounts::money(text),
            Self::Int(number) => amounts::checked_money(number.into()),
            Self::Decimal(amount) => amounts::checked_money(amount),
            Self::Bool(_) | Self::Time(_) | Self::Other => {
                Err("must be a decimal number, as text or number and never a float")
            }
        };
        amount.map(Some)
    }

    fn time(self) -> Result<Option<Timestamp>, &'static str> {
        let time = match self {
            Self::Null => return Ok(None),
            Self::Time(time) => Some(time),
            Self::Text(text) => text.parse().ok(),
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

/// A payload from its text, which must be a JSON object; cut surrogate pairs in it are mended.
pub(super) fn payload(text: Text<'_>) -> Result<Payload<'_>, &'static str> {
    let payload = Payload::new(match text {
        Text::Borrowed(text) => mend(text),
        Text::Owned(text) => Text::Owned(mend(&text).into_owned()),
    });
    // Read now: the text may be too deep, and `Payload` promises it is readable.
    if !payload.json().is_object() {
        return Err("must be a JSON object of less than 128 levels");
    }
    Ok(payload)
}

fn event_id(scalar: Scalar<'_>) -> Result<Option<Text<'_>>, &'static str> {
    match scalar.own_id()? {
        Some(id) if id.len() > 256 => Err("must have 1 to 256 bytes"),
        id => Ok(id),
    }
}

fn filled<'a>(text: Result<Option<Text<'a>>, &'static str>) -> Result<Option<Text<'a>>, &'static str> {
    match text? {
        Some(text) if text.is_empty() => Err("must not be empty"),
        text => Ok(text),
    }
}

impl<'a> Record<'a> for LeadEvent<'a> {
    const NAMES: &'static [&'static str] = &FIELDS;
    const REQUIRED: usize = 4;

    fn set<S: Source<'a>>(&mut self, name: &str, source: S) -> Result<(), S::Error> {
        match name {
            "event_id" => self.event_id = source.required(event_id)?,
            "trigger" => self.trigger = source.required(|scalar| filled(scalar.text()))?,
            "occurred_at" => self.occurred_at = source.required(Scalar::time)?,
            "lead_id" => self.lead_id = source.required(Scalar::own_id)?,
            "public_lead_id" => self.public_lead_id = source.read(Scalar::id)?,
            "status" => self.status = source.read(Scalar::text)?,
            "is_test" => self.is_test = source.read(Scalar::flag)?,
            "method" => self.method = source.read(Scalar::text)?,
            "product" => self.product = source.record()?,
            "publisher" => self.publisher = source.record()?,
            "channel" => self.channel = source.record()?,
            "source" => self.source = source.record()?,
            "buyer" => self.buyer = source.record()?,
            "campaign" => self.campaign = source.record()?,
            "pingtree" => self.pingtree = source.record()?,
            "price" => self.price = source.read(Scalar::money)?,
            "payout" => self.payout = source.read(Scalar::money)?,
            "revenue" => self.revenue = source.read(Scalar::money)?,
            "currency" => self.currency = source.read(Scalar::text)?,
            "reason_code" => self.reason_code = source.read(Scalar::text)?,
            "reason" => self.reason = source.read(Scalar::text)?,
            "transaction_id" => self.transaction_id = source.read(Scalar::id)?,
            "attempt" => self.attempt = source.read(Scalar::int)?,
            "consumer" => self.consumer = source.record()?,
            "call" => self.call = source.record()?,
            "fields" => self.fields = source.entries()?.into(),
            "inlet" => self.inlet = source.read(Scalar::text)?,
            "payload" => self.payload = source.payload()?,
            _ => unreachable!("set is called for one of NAMES"),
        }
        Ok(())
    }
}

impl<'a> Record<'a> for Entity<'a> {
    const NAMES: &'static [&'static str] = <Self as super::Record>::MEMBERS;

    fn set<S: Source<'a>>(&mut self, name: &str, source: S) -> Result<(), S::Error> {
        match name {
            "id" => self.id = source.read(Scalar::id)?,
            "name" => self.name = source.read(Scalar::text)?,
            _ => unreachable!("set is called for one of NAMES"),
        }
        Ok(())
    }
}

impl<'a> Record<'a> for Consumer<'a> {
    const NAMES: &'static [&'static str] = <Self as super::Record>::MEMBERS;

    fn set<S: Source<'a>>(&mut self, name: &str, source: S) -> Result<(), S::Error> {
        let field = match name {
            "first_name" => &mut self.first_name,
            "last_name" => &mut self.last_name,
            "email" => &mut self.email,
            "phone" => &mut self.phone,
            "city" => &mut self.city,
            "state" => &mut self.state,
            "zip" => &mut self.zip,
            "country" => &mut self.country,
            _ => unreachable!("set is called for one of NAMES"),
        };
        *field = source.read(Scalar::text)?;
        Ok(())
    }
}

impl<'a> Record<'a> for Call<'a> {
    const NAMES: &'static [&'static str] = <Self as super::Record>::MEMBERS;

    fn set<S: Source<'a>>(&mut self, name: &str, source: S) -> Result<(), S::Error> {
        match name {
            "call_id" => self.call_id = source.read(Scalar::id)?,
            "caller_number" => self.caller_number = source.read(Scalar::text)?,
            "dialed_number" => self.dialed_number = source.read(Scalar::text)?,
            "started_at" => self.started_at = source.read(Scalar::time)?,
            "answered_at" => self.answered_at = source.read(Scalar::time)?,
            "ended_at" => self.ended_at = source.read(Scalar::time)?,
            "billable_seconds" => self.billable_seconds = source.read(Scalar::int)?,
            "answered" => self.answered = source.read(Scalar::flag)?,
            "recording_url" => self.recording_url = source.read(Scalar::text)?,
            _ => unreachable!("set is called for one of NAMES"),
        }
        Ok(())
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
