//! Forms of dates that somebody has to name, because a text in one of them could be read in two ways.

use std::fmt;

use jiff::fmt::strtime::{self, BrokenDownTime};
use jiff::tz::{Offset, TimeZone};
use jiff::{SignedDuration, Timestamp};
use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive;

use super::{DateError, NANOSECONDS_PER_SECOND, SECONDS_END, of_units, sized_epoch};
use crate::amounts::decimal;

/// Why a form of dates can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FormError {
    #[error("is no strftime form: {0}")]
    NoFormat(String),
    #[error("names no whole day; write year, month and day, such as \"%m/%d/%Y\"")]
    NoDay,
    #[error("counts hours to twelve and doesn't say which half of the day; write %p with %I, or %H")]
    HalfDay,
}

/// A form of dates that somebody names, because its texts could be read in another way too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Form {
    /// strftime, such as `%m/%d/%Y`.
    Strftime(Box<str>),
    /// A sheet's day number: days since 1899-12-30, with the time of day as its fraction.
    Serial,
    /// Seconds since 1970, of any size below that of epoch milliseconds; larger ones as [`super::parse`] reads them.
    Epoch,
}

impl Form {
    /// `serial`, `epoch`, or a strftime form that names a whole day.
    pub fn parse(text: &str) -> Result<Self, FormError> {
        match text {
            "serial" => return Ok(Form::Serial),
            "epoch" => return Ok(Form::Epoch),
            _ => {}
        }
        // A form that writes one instant and reads it back to the day reads other texts too.
        let sample = Timestamp::constant(1_772_723_777, 0).to_zoned(TimeZone::UTC);
        let written = strtime::format(text, &sample).map_err(|error| FormError::NoFormat(error.to_string()))?;
        let form = Form::Strftime(text.into());
        let read = form.read(&written).map(|read| read.to_zoned(TimeZone::UTC));
        match read.map(|read| (read.date() == sample.date(), read.hour())) {
            Ok((true, hour)) if hour == sample.hour() || hour == 0 => Ok(form),
            Ok((true, _)) => Err(FormError::HalfDay),
            _ => Err(FormError::NoDay),
        }
    }

    /// Reads a date in this form.
    pub fn read(&self, text: &str) -> Result<Timestamp, DateError> {
        let text = text.trim();
        match self {
            Form::Strftime(format) => strftime(text, format),
            Form::Serial => serial(text),
            Form::Epoch => match decimal(text) {
                Some(seconds) if seconds.abs() < Decimal::from(SECONDS_END) => {
                    of_units(seconds, NANOSECONDS_PER_SECOND).ok_or(DateError::Epoch)
                }
                Some(number) => sized_epoch(number).ok_or(DateError::Epoch),
                None => Err(DateError::Epoch),
            },
        }
    }
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Form::Strftime(format) => format,
            Form::Serial => "serial",
            Form::Epoch => "epoch",
        })
    }
}

fn strftime(text: &str, format: &str) -> Result<Timestamp, DateError> {
    let misfit = |_| DateError::Format(format.to_owned());
    let parts = BrokenDownTime::parse(format, text).map_err(misfit)?;
    // `%Y` takes the 18 of 3/5/18 for the year 18, which nobody means.
    if parts.year().is_some_and(|year| year < 1000) {
        return Err(DateError::Format(format.to_owned()));
    }
    if parts.timestamp().is_some() || parts.iana_time_zone().is_some() {
        return Ok(parts.to_zoned().map_err(misfit)?.timestamp());
    }
    let moment = parts
        .to_date()
        .and_then(|date| Ok(date.to_datetime(parts.to_time()?)))
        .map_err(misfit)?;
    let offset = parts.offset().unwrap_or(Offset::UTC);
    offset.to_timestamp(moment).map_err(|_| DateError::NoSuchDate)
}

/// A sheet's day number. Sheets count days in floats, whose milliseconds are right and no more.
fn serial(text: &str) -> Result<Timestamp, DateError> {
    let days = decimal(text).ok_or(DateError::Serial)?;
    let millis = days
        .checked_mul(Decimal::from(86_400_000))
        .and_then(|millis| millis.round().to_i64());
    let first = Timestamp::constant(-2_209_161_600, 0);
    millis
        .and_then(|millis| first.checked_add(SignedDuration::from_millis(millis)).ok())
        .ok_or(DateError::Serial)
}
