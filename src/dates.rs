//! Dates, durations and rates as people write them.
//!
//! Producers, spreadsheets and marketing tools write dates in many forms. [`parse`] reads each form that can't be
//! mistaken for another, in one pass and without guessing; any other text is an error. A [`Form`] reads a text that
//! could be two things, because somebody has named its form. Without a zone a date is UTC, without a time it is
//! midnight. Errors never quote the text, since it may be a lead's.
//!
//! A number is an epoch whose size gives its unit: 9 to 11 digits before the point are seconds, 12 to 14 milliseconds,
//! 15 to 17 microseconds. Numbers of other sizes count in some other way (a sheet's days, a day written as
//! `19901332`), and are refused.

use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::{Date, Weekday};
use jiff::tz::Offset;
use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive;

use crate::amounts::decimal;

mod form;
mod rate;
mod utc;

pub use form::{Form, FormError};
pub use rate::Rate;
pub use utc::rfc3339;

/// Why a text is no date.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DateError {
    #[error("no form of date that is known; write it as 2018-03-05T15:16:00Z or as epoch seconds")]
    Unreadable,
    #[error("no such day or time in the calendar")]
    NoSuchDate,
    #[error("it says {written:?}, but that day is a {actual:?}")]
    Weekday { written: Weekday, actual: Weekday },
    #[error(
        "a number that is no epoch by its size (9 to 11 digits: seconds, 12 to 14: milliseconds, 15 to 17: \
         microseconds) and no day such as 19900115; say what it counts with `read_date`"
    )]
    Number,
    #[error("a number that can be read as an epoch and as a day with its time; say which it is with `read_date`")]
    TwoWays,
    #[error("it does not fit the format {0:?}")]
    Format(String),
    #[error("no serial number of a day, such as 45123.5")]
    Serial,
    #[error("no epoch: a number of at most 17 digits before the point")]
    Epoch,
}

/// Why a text is no rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RateError {
    #[error("is no rate; write it as 1/s, 300/m or 20/h")]
    NoRate,
    #[error("would never send; write a rate above 0, or pause the rules")]
    Zero,
}

/// Why a text is no duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    #[error("a duration needs a unit: write {0}s, {0}m or {0}h")]
    NoUnit(String),
    #[error("no duration; write a whole number and a unit (ms, s, m, h or d), such as 50ms, 10s or 1h30m")]
    Unreadable,
    #[error("units go from large to small and each stands once, such as 1h30m")]
    UnitOrder,
    #[error("the duration is too long")]
    TooLong,
}

/// Reads a date in any form that can't be mistaken: an epoch by its size, ISO 8601 with one or two digits
/// a part or in its basic form (`19900115`, `20260305T151600Z`), `2018-03-5 15:16:0`, `March 05, 2018
/// 15:16:0` with or without a weekday, RFC 2822, and each of them without its time.
pub fn parse(text: &str) -> Result<Timestamp, DateError> {
    let text = text.trim();
    if let Some(number) = decimal(text) {
        return basic_day(text).map_or_else(|| epoch(number), Ok);
    }
    match (Scanner { rest: text }).instant() {
        // Texts that the scanner leaves aside: `20180305T151600Z`, `…-05:00[America/Chicago]`, `… EST`.
        Err(DateError::Unreadable) => text
            .parse()
            .or_else(|_| jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text))
            .or_else(|_| basic_moment(text).ok_or(DateError::Unreadable)),
        read => read,
    }
}

/// Reads a number as an epoch whose size says its unit, and as nothing else. Fractions count, to the nanosecond.
pub fn parse_epoch(text: &str) -> Result<Timestamp, DateError> {
    epoch(decimal(text).ok_or(DateError::Number)?)
}

/// The whole seconds since the epoch, rounded down before it as after it.
pub fn epoch_seconds(time: Timestamp) -> i64 {
    let seconds = time.as_nanosecond().div_euclid(NANOSECONDS_PER_SECOND);
    i64::try_from(seconds).expect("a timestamp's seconds fit 64 bits")
}

/// Reads a duration: `50ms`, `10s`, `5m`, `24h`, `7d` (a day is 24 hours), or several such parts
/// from large to small, as in `1h30m`.
pub fn duration(text: &str) -> Result<Duration, DurationError> {
    let mut rest = text.trim();
    let mut total: u128 = 0;
    let mut units = UNITS.as_slice();
    while !rest.is_empty() || units.len() == UNITS.len() {
        let digits = leading(rest, |c| c.is_ascii_digit());
        let after = &rest[digits.len()..];
        let name = leading(after, |c| c.is_ascii_alphabetic());
        if digits.is_empty() {
            return Err(DurationError::Unreadable);
        }
        if after.is_empty() {
            return Err(DurationError::NoUnit(digits.to_owned()));
        }
        if !UNITS.iter().any(|(known, _)| *known == name) {
            return Err(DurationError::Unreadable);
        }
        let at = units.iter().position(|(known, _)| *known == name);
        let at = at.ok_or(DurationError::UnitOrder)?;
        let part = (digits.parse().ok()).and_then(|count: u128| count.checked_mul(units[at].1));
        total = part
            .and_then(|part| total.checked_add(part))
            .ok_or(DurationError::TooLong)?;
        units = &units[at + 1..];
        rest = &after[name.len()..];
    }
    let seconds = u64::try_from(total / NANOSECONDS_PER_SECOND.unsigned_abs()).map_err(|_| DurationError::TooLong)?;
    let nanoseconds = (total % NANOSECONDS_PER_SECOND.unsigned_abs())
        .to_u32()
        .expect("less than a second");
    Ok(Duration::new(seconds, nanoseconds))
}

/// Reads a rate, so many per period: `1/s`, `300/m` or `20/h`.
pub fn rate(text: &str) -> Result<(u32, Duration), RateError> {
    let (count, unit) = text.split_once('/').ok_or(RateError::NoRate)?;
    let period = match unit.trim() {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return Err(RateError::NoRate),
    };
    match count.trim().parse() {
        Ok(0) => Err(RateError::Zero),
        Ok(count) => Ok((count, Duration::from_secs(period))),
        Err(_) => Err(RateError::NoRate),
    }
}

/// A time, in epoch milliseconds, as RFC 3339 in UTC.
pub fn time_text(millis: i64) -> String {
    Timestamp::from_millisecond(millis).unwrap_or_default().to_string()
}

/// The shortest text that [`duration`] reads as exactly this duration: `90s`, `1d`, `1h1s`.
pub fn duration_text(duration: Duration) -> String {
    if duration.is_zero() {
        return "0s".to_owned();
    }
    shortest(duration.as_nanos(), &UNITS).expect("every duration is a whole number of nanoseconds")
}

const NANOSECONDS_PER_SECOND: i128 = 1_000_000_000;
const NANOSECONDS_PER_MILLISECOND: i128 = 1_000_000;
const NANOSECONDS_PER_MICROSECOND: i128 = 1_000;
/// From here on an epoch counts milliseconds or less: it has twelve digits.
const SECONDS_END: u64 = 100_000_000_000;

/// The units of durations in nanoseconds, from large to small. The last two are there so that
/// every duration has a text.
const UNITS: [(&str, u128); 7] = [
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

const MONTHS: [&str; 12] = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
];

const WEEKDAYS: [(&str, Weekday); 7] = [
    ("monday", Weekday::Monday),
    ("tuesday", Weekday::Tuesday),
    ("wednesday", Weekday::Wednesday),
    ("thursday", Weekday::Thursday),
    ("friday", Weekday::Friday),
    ("saturday", Weekday::Saturday),
    ("sunday", Weekday::Sunday),
];

fn epoch(number: Decimal) -> Result<Timestamp, DateError> {
    if is_compact_moment(number) {
        return Err(DateError::TwoWays);
    }
    sized_epoch(number).ok_or(DateError::Number)
}

/// An epoch in the unit that its size says.
fn sized_epoch(number: Decimal) -> Option<Timestamp> {
    let unit = match number.trunc().abs().to_u64()? {
        100_000_000..SECONDS_END => NANOSECONDS_PER_SECOND,
        SECONDS_END..100_000_000_000_000 => NANOSECONDS_PER_MILLISECOND,
        100_000_000_000_000..100_000_000_000_000_000 => NANOSECONDS_PER_MICROSECOND,
        _ => return None,
    };
    of_units(number, unit)
}

/// The instant so many units after the epoch, rounded down to the nanosecond.
fn of_units(number: Decimal, unit: i128) -> Option<Timestamp> {
    let whole = number.floor();
    let part = ((number - whole) * Decimal::from(unit)).floor();
    let nanoseconds = whole.to_i128()?.checked_mul(unit)?.checked_add(part.to_i128()?)?;
    Timestamp::from_nanosecond(nanoseconds).ok()
}

/// Eight digits as a day, `19900115`: no epoch has so few.
fn basic_day(text: &str) -> Option<Timestamp> {
    let is_basic = text.len() == 8 && text.bytes().all(|byte| byte.is_ascii_digit());
    if is_basic { basic_moment(text) } else { None }
}

/// What jiff reads of ISO 8601 without a zone, such as `20260305T151600`.
fn basic_moment(text: &str) -> Option<Timestamp> {
    let starts_with_year = text.len() >= 8 && text.bytes().take(8).all(|byte| byte.is_ascii_digit());
    // A zone in brackets would be passed over.
    let is_basic = starts_with_year && !text.contains('[');
    let moment: jiff::civil::DateTime = text.parse().ok().filter(|_| is_basic)?;
    Offset::UTC.to_timestamp(moment).ok()
}

/// Whether a number that has an epoch's size is as well a day with its time, `20260305151600`: to the minute, the second
/// or the millisecond, in a year that people write, with a fraction or without. Read as an epoch it would be a time in
/// 1976 or 2612.
fn is_compact_moment(number: Decimal) -> bool {
    // A negative one has a sign in front, and is no year.
    let text = number.trunc().to_string();
    if !matches!(text.len(), 12 | 14 | 17) || number.is_sign_negative() {
        return false;
    }
    let part = |range: std::ops::Range<usize>| text.get(range).and_then(|digits| digits.parse::<i16>().ok());
    let in_calendar = || {
        let (year, month, day) = (part(0..4)?, part(4..6)?, part(6..8)?);
        let [month, day] = [month, day].map(|part| i8::try_from(part).ok());
        Date::new(year, month?, day?).ok()?;
        Some((1900..2100).contains(&year) && part(8..10)? < 24 && part(10..12)? < 60)
    };
    let seconds = text.len() == 12 || part(12..14).is_some_and(|seconds| seconds < 60);
    seconds && in_calendar() == Some(true)
}

/// The shortest way to write `rest` with some of `units`, or `None` where they are too coarse.
fn shortest(rest: u128, units: &[(&str, u128)]) -> Option<String> {
    if rest == 0 {
        return Some(String::new());
    }
    let ((name, size), smaller) = units.split_first()?;
    let without = shortest(rest, smaller);
    if rest < *size {
        return without;
    }
    let with = shortest(rest % size, smaller).map(|tail| format!("{}{name}{tail}", rest / size));
    match (with, without) {
        (Some(with), Some(without)) if without.len() < with.len() => Some(without),
        (with, without) => with.or(without),
    }
}

/// The part of `text` before the first character that is not `wanted`.
fn leading(text: &str, wanted: impl Fn(char) -> bool) -> &str {
    &text[..text.find(|c| !wanted(c)).unwrap_or(text.len())]
}

/// Reads a date from left to right; a step that finds something else leaves `rest` as it was.
struct Scanner<'t> {
    rest: &'t str,
}

impl<'t> Scanner<'t> {
    fn instant(&mut self) -> Result<Timestamp, DateError> {
        let date = self.date()?;
        let moment = if self.rest.is_empty() {
            date.to_datetime(jiff::civil::Time::midnight())
        } else {
            self.separator()?;
            date.to_datetime(self.time()?)
        };
        let offset = self.offset()?;
        if !self.rest.is_empty() {
            return Err(DateError::Unreadable);
        }
        offset.to_timestamp(moment).map_err(|_| DateError::NoSuchDate)
    }

    /// `2018-03-05`, `March 05, 2018` or `05 Mar 2018`, the latter two with a weekday or without.
    fn date(&mut self) -> Result<Date, DateError> {
        let weekday = self.weekday();
        let (year, month, day) = if let Some(month) = self.month() {
            let day = self.number(1..=2)?;
            self.blanks_and(",");
            (self.number(4..=4)?, month, day)
        } else {
            let digits = leading(self.rest, |c| c.is_ascii_digit()).len();
            let first = self.number(1..=4)?;
            if digits == 4 {
                self.expect("-")?;
                let month = self.number(1..=2)?;
                self.expect("-")?;
                (first, month, self.number(1..=2)?)
            } else if digits <= 2 {
                self.blanks_and("");
                let month = self.month().ok_or(DateError::Unreadable)?;
                (self.number(4..=4)?, month, first)
            } else {
                return Err(DateError::Unreadable);
            }
        };
        let [month, day] = [month, day].map(|part| i8::try_from(part).expect("at most two digits"));
        let date = Date::new(year, month, day).map_err(|_| DateError::NoSuchDate)?;
        match weekday {
            Some(written) if written != date.weekday() => Err(DateError::Weekday {
                written,
                actual: date.weekday(),
            }),
            _ => Ok(date),
        }
    }

    /// The separator between a date and its time: `T`, or blanks, after a comma if there is one.
    fn separator(&mut self) -> Result<(), DateError> {
        let before = self.rest.len();
        if !self.skip("T") && !self.skip("t") {
            self.blanks_and(",");
        }
        if self.rest.len() == before {
            return Err(DateError::Unreadable);
        }
        Ok(())
    }

    /// `15:16`, `15:16:0`, `15:16:00.123`, and `15:16:0. 123`, which is how one manual prints it.
    fn time(&mut self) -> Result<jiff::civil::Time, DateError> {
        let hour = self.number(1..=2)?;
        self.expect(":")?;
        let minute = self.number(1..=2)?;
        let (mut second, mut nanosecond) = (0, 0);
        if self.skip(":") {
            second = self.number(1..=2)?;
            if self.skip(".") || self.skip(",") {
                self.blanks_and("");
                let digits = leading(self.rest, |c| c.is_ascii_digit());
                if digits.is_empty() {
                    return Err(DateError::Unreadable);
                }
                self.rest = &self.rest[digits.len()..];
                nanosecond = (digits.bytes().chain(std::iter::repeat(b'0')).take(9))
                    .fold(0, |sum, digit| sum * 10 + i32::from(digit - b'0'));
            }
        }
        // A leap second is the last second of its minute, as jiff reads it too.
        let [hour, minute, second] =
            [hour, minute, if second == 60 { 59 } else { second }].map(|part| i8::try_from(part).expect("two digits"));
        jiff::civil::Time::new(hour, minute, second, nanosecond).map_err(|_| DateError::NoSuchDate)
    }

    /// `Z`, `UTC`, `GMT`, `+05`, `+0530` or `+05:30`, after blanks if there are any; nothing is UTC.
    fn offset(&mut self) -> Result<Offset, DateError> {
        self.blanks_and("");
        let name = leading(self.rest, |c| c.is_ascii_alphabetic());
        if ["z", "utc", "gmt"].iter().any(|utc| name.eq_ignore_ascii_case(utc)) {
            self.rest = &self.rest[name.len()..];
            return Ok(Offset::UTC);
        }
        let sign = if self.skip("+") {
            1
        } else if self.skip("-") {
            -1
        } else {
            return Ok(Offset::UTC);
        };
        let digits = leading(self.rest, |c| c.is_ascii_digit()).len();
        let (hours, minutes) = if digits == 4 {
            let both = self.number(4..=4)?;
            (both / 100, both % 100)
        } else {
            let hours = self.number(2..=2)?;
            (hours, if self.skip(":") { self.number(2..=2)? } else { 0 })
        };
        if minutes > 59 {
            return Err(DateError::NoSuchDate);
        }
        let seconds = sign * (i32::from(hours) * 3600 + i32::from(minutes) * 60);
        Offset::from_seconds(seconds).map_err(|_| DateError::NoSuchDate)
    }

    fn weekday(&mut self) -> Option<Weekday> {
        let (_, weekday) = *WEEKDAYS.iter().find(|(name, _)| self.name(name))?;
        Some(weekday)
    }

    fn month(&mut self) -> Option<i16> {
        let index = MONTHS.iter().position(|name| self.name(name))?;
        i16::try_from(index + 1).ok()
    }

    /// Skips `name`, in full or as its first three letters, and what separates it from the rest.
    fn name(&mut self, name: &str) -> bool {
        let word = leading(self.rest, |c| c.is_ascii_alphabetic());
        let fits = word.eq_ignore_ascii_case(name) || word.eq_ignore_ascii_case(&name[..3]);
        if fits {
            self.rest = &self.rest[word.len()..];
            self.skip(".");
            self.blanks_and(",");
        }
        fits
    }

    /// A number of so many digits.
    fn number(&mut self, count: std::ops::RangeInclusive<usize>) -> Result<i16, DateError> {
        let digits = leading(self.rest, |c| c.is_ascii_digit());
        if !count.contains(&digits.len()) {
            return Err(DateError::Unreadable);
        }
        self.rest = &self.rest[digits.len()..];
        digits.parse().map_err(|_| DateError::Unreadable)
    }

    /// Skips blanks, then `mark` with the blanks after it where it stands there.
    fn blanks_and(&mut self, mark: &str) {
        self.rest = self.rest.trim_start();
        if self.skip(mark) {
            self.rest = self.rest.trim_start();
        }
    }

    fn expect(&mut self, mark: &str) -> Result<(), DateError> {
        if self.skip(mark) {
            Ok(())
        } else {
            Err(DateError::Unreadable)
        }
    }

    fn skip(&mut self, mark: &str) -> bool {
        let after = self.rest.strip_prefix(mark);
        self.rest = after.unwrap_or(self.rest);
        after.is_some()
    }
}

#[cfg(test)]
mod tests;
