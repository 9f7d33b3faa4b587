//! The filters of templates: each takes a value that is there and gives another.
//!
//! [`Filter::new`] checks all that can be checked without an event. [`Filter::apply`] refuses only for the value, and
//! its messages never quote it.

use std::borrow::Cow;

use jiff::Timestamp;
use jiff::fmt::strtime;
use jiff::tz::TimeZone;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use rust_decimal::Decimal;

use super::{Found, written};
use crate::amounts::Digits;
use crate::dates;
use crate::lead::{Lookup, Value};
use crate::path::Path;
use crate::text::{self, Bounded, Unit};

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Filter {
    Default(Argument),
    Upper,
    Lower,
    Json,
    Join(Box<str>),
    /// The number of decimals.
    Number(u8),
    /// The path of the event's currency.
    Money(Path),
    Date(Option<Pattern>),
    /// Reads a date in a form that somebody names.
    ReadDate(dates::Form),
    /// At most so many characters or bytes.
    Truncate(usize, Unit),
    /// Slack's markup as a person reads it; the path of the user whose name is known.
    Plain(Path),
    Url,
    /// Leaves the value as it is; rendering asks whether it stands last.
    Raw,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Argument {
    Text(Box<str>),
    /// A JSON number's own text.
    Number(Box<str>),
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Pattern {
    format: Box<str>,
    zone: TimeZone,
}

/// Why a filter can't be built, and which of its arguments is to blame if one alone is.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) argument: Option<usize>,
    pub(super) message: String,
}

/// Every filter's name, and how it is written.
const USAGES: [(&str, &str); 13] = [
    ("default", r#"default: "x""#),
    ("upper", "upper"),
    ("lower", "lower"),
    ("json", "json"),
    ("join", r#"join: ", ""#),
    ("number", "number: 2"),
    ("money", "money"),
    (
        "date",
        r#"date, date: "%d %b %H:%M" or date: "%H:%M", "America/Chicago""#,
    ),
    (
        "read_date",
        r#"read_date: "%m/%d/%Y", read_date: "serial" (a sheet's day number) or read_date: "epoch""#,
    ),
    ("truncate", r#"truncate: 80 or truncate: 512, "bytes""#),
    ("plain", "plain"),
    ("url", "url"),
    ("raw", "raw"),
];

const DECIMALS_MAX: usize = 20;
/// Bytes of a currency. Its codes have three letters (ISO 4217).
const CURRENCY_MAX: usize = 16;
const NO_CURRENCY: &str = "currency is no text of at most 16 bytes; write a code such as USD, or use `number: 2`";
/// All that isn't unreserved in a URI (RFC 3986, section 2.3).
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The filters' names, as rules write them.
pub fn names() -> impl Iterator<Item = &'static str> {
    USAGES.iter().map(|(name, _)| *name)
}

impl Filter {
    pub(super) fn new(name: &str, arguments: &[Argument]) -> Result<Self, Refusal> {
        use Argument::{Number, Text};
        Ok(match (name, arguments) {
            ("default", [value]) => Filter::Default(value.clone()),
            ("upper", []) => Filter::Upper,
            ("lower", []) => Filter::Lower,
            ("json", []) => Filter::Json,
            ("join", [Text(separator)]) => Filter::Join(separator.clone()),
            ("number", [Number(decimals)]) => match decimals.parse() {
                Ok(decimals) if usize::from(decimals) <= DECIMALS_MAX => Filter::Number(decimals),
                _ => {
                    return Err(Refusal::of(0, format!("`number` takes 0 to {DECIMALS_MAX} decimals")));
                }
            },
            ("money", []) => Filter::Money(Path::parse("currency").expect("one plain name is a path")),
            ("date", []) => Filter::Date(None),
            ("date", [Text(format)]) => Filter::Date(Some(Pattern::new(format, TimeZone::UTC)?)),
            ("date", [Text(format), Text(zone)]) => {
                let unknown = |_| Refusal::of(1, "an unknown time zone; write it as \"America/Chicago\" or \"UTC\"");
                Filter::Date(Some(Pattern::new(format, TimeZone::get(zone).map_err(unknown)?)?))
            }
            ("read_date", [Text(form)]) => {
                let form = dates::Form::parse(form);
                Filter::ReadDate(form.map_err(|error| Refusal::of(0, format!("the form of dates {error}")))?)
            }
            ("truncate", [Number(length)]) => truncate(length, Unit::Characters)?,
            ("truncate", [Number(length), Text(unit)]) => match &**unit {
                "bytes" => truncate(length, Unit::Bytes)?,
                _ => return Err(Refusal::of(1, "`truncate` counts characters, or \"bytes\"")),
            },
            ("plain", []) => Filter::Plain(Path::parse("user_profile").expect("one plain name is a path")),
            ("url", []) => Filter::Url,
            ("raw", []) => Filter::Raw,
            (name, _) => return Err(Refusal::of_usage(name)),
        })
    }

    pub(super) fn name(&self) -> &'static str {
        match self {
            Filter::Default(_) => "default",
            Filter::Upper => "upper",
            Filter::Lower => "lower",
            Filter::Json => "json",
            Filter::Join(_) => "join",
            Filter::Number(_) => "number",
            Filter::Money(_) => "money",
            Filter::Date(_) => "date",
            Filter::ReadDate(_) => "read_date",
            Filter::Truncate(..) => "truncate",
            Filter::Plain(_) => "plain",
            Filter::Url => "url",
            Filter::Raw => "raw",
        }
    }

    /// The path that it looks up.
    pub(super) fn asks(&self) -> Option<&Path> {
        match self {
            Filter::Money(path) | Filter::Plain(path) => Some(path),
            Filter::Default(_)
            | Filter::Upper
            | Filter::Lower
            | Filter::Json
            | Filter::Join(_)
            | Filter::Number(_)
            | Filter::Date(_)
            | Filter::ReadDate(_)
            | Filter::Truncate(..)
            | Filter::Url
            | Filter::Raw => None,
        }
    }

    /// Applies the filter to a value; the error is a reason without the value.
    pub(super) fn apply<'v>(
        &self,
        found: Found<'v>,
        event: &dyn Lookup,
        platform_dates: bool,
        room: usize,
    ) -> Result<Found<'v>, String> {
        let Found { value, is_cut } = found;
        let value = match self {
            Filter::Default(_) | Filter::Raw => value,
            Filter::Number(decimals) => {
                let mut into = String::new();
                grouped(number(&value)?, *decimals, "", &mut into);
                text(into)
            }
            Filter::Money(currency) => {
                let currency = event.lookup(currency);
                text(money(number(&value)?, currency_of(currency.as_ref())?))
            }
            Filter::Date(None) => match instant(&value)? {
                time if platform_dates => text(format!("$D_{}", dates::epoch_seconds(time))),
                time => Value::Time(time),
            },
            Filter::Date(Some(pattern)) => text(pattern.write(instant(&value)?)?),
            Filter::ReadDate(form) => Value::Time(read_date(&value, form)?),
            Filter::Truncate(max, unit) => {
                // So many bytes are more than `max` of either unit.
                let enough = max.saturating_add(1).saturating_mul(4).min(room);
                let (whole, is_cut_here) = written(&value, enough);
                return Ok(match text::cut(&whole, *max, *unit) {
                    Some(shorter) => Found {
                        value: text(shorter),
                        is_cut: false,
                    },
                    None => Found {
                        value: text(whole.into_owned()),
                        is_cut: is_cut || is_cut_here,
                    },
                });
            }
            filter => {
                let (longer, is_cut_here) = filter.write(&value, event, room);
                return Ok(Found {
                    value: text(longer),
                    is_cut: is_cut || is_cut_here,
                });
            }
        };
        Ok(Found { value, is_cut })
    }

    /// Applies a filter to a value that may be long; true where something is left out. It reads and writes at most
    /// `room` bytes, or looks at so many elements: what writes nothing costs something, too.
    fn write(&self, value: &Value<'_>, event: &dyn Lookup, room: usize) -> (String, bool) {
        let mut into = Bounded::new(room);
        match (self, value) {
            (Filter::Plain(user), Value::Text(markup)) => {
                let (part, is_cut) = text::slack::within(markup, room);
                text::slack::plain(part, |id| member_name(event.lookup(user)?, id), &mut into);
                if is_cut {
                    into.end();
                }
            }
            (Filter::Join(separator), Value::Json(json)) if json.is_array() => {
                join(
                    json.as_array().map_or(&[][..], Vec::as_slice),
                    separator,
                    room,
                    &mut into,
                );
            }
            _ => {
                let (whole, is_cut) = written(value, room);
                let changed = match (self, value) {
                    (Filter::Upper, _) => whole.to_uppercase(),
                    (Filter::Lower, _) => whole.to_lowercase(),
                    (Filter::Url, _) => utf8_percent_encode(&whole, RESERVED).to_string(),
                    (Filter::Json, Value::Text(_)) => serde_json::Value::from(whole).to_string(),
                    (Filter::Json, value) if !matches!(value, Value::Json(_)) && !is_cut => value.to_json().to_string(),
                    // A list or an object is JSON as text, too, and what is no list joins as it is.
                    _ => whole.into_owned(),
                };
                return (changed, is_cut);
            }
        }
        let is_cut = into.is_cut();
        (into.into_text(), is_cut)
    }
}

impl Argument {
    pub(super) fn value(&self) -> Value<'_> {
        match self {
            Argument::Text(text) => Value::Text(Cow::Borrowed(text)),
            Argument::Number(text) => Value::Number(Cow::Borrowed(text)),
        }
    }
}

impl Pattern {
    /// A format that writes one instant writes them all, so one is tried here.
    fn new(format: &str, zone: TimeZone) -> Result<Self, Refusal> {
        let pattern = Self {
            format: format.into(),
            zone,
        };
        match pattern.write(Timestamp::UNIX_EPOCH) {
            Ok(written) if !written.trim().is_empty() => Ok(pattern),
            Ok(_) => Err(Refusal::of(0, "the date's format is blank")),
            Err(reason) => Err(Refusal::of(0, reason)),
        }
    }

    fn write(&self, time: Timestamp) -> Result<String, String> {
        strtime::format(&*self.format, &time.to_zoned(self.zone.clone()))
            .map_err(|error| format!("the date's format is no strftime format: {error}"))
    }
}

impl Refusal {
    fn of(argument: usize, message: impl Into<String>) -> Self {
        Self {
            argument: Some(argument),
            message: message.into(),
        }
    }

    fn of_usage(name: &str) -> Self {
        if let Some((_, usage)) = USAGES.iter().find(|(known, _)| *known == name) {
            return Self {
                argument: None,
                message: format!("`{name}` is written as {usage}"),
            };
        }
        // Slips of the pen and other systems' names (upcase, dates) mostly share their beginning.
        let alike = |known: &str| name.chars().zip(known.chars()).take(2).filter(|(a, b)| a == b).count() == 2;
        let suggestion = match USAGES.iter().find(|(known, _)| alike(known)) {
            Some((known, _)) => format!("did you mean `{known}`? "),
            None => String::new(),
        };
        let known = USAGES.map(|(known, _)| known).join(", ");
        Self {
            argument: None,
            message: format!("unknown filter `{name}`; {suggestion}the filters are {known}"),
        }
    }
}

/// The value as an instant: a time, an epoch, or a text in any form that [`dates`] reads.
pub(super) fn instant(value: &Value<'_>) -> Result<Timestamp, String> {
    match value {
        Value::Time(time) => return Ok(*time),
        Value::Text(written) | Value::Number(written) => dates::parse(written),
        Value::Money(number) => dates::parse(&number.to_string()),
        Value::Bool(_) | Value::Json(_) => Err(dates::DateError::Unreadable),
    }
    .map_err(|error| error.to_string())
}

/// The value as an instant, in a form that somebody names.
fn read_date(value: &Value<'_>, form: &dates::Form) -> Result<Timestamp, String> {
    match value {
        Value::Time(time) => return Ok(*time),
        Value::Text(written) | Value::Number(written) => form.read(written),
        Value::Money(number) => form.read(&number.to_string()),
        Value::Bool(_) | Value::Json(_) => Err(dates::DateError::Unreadable),
    }
    .map_err(|error| error.to_string())
}

fn text(text: String) -> Value<'static> {
    Value::Text(Cow::Owned(text))
}

fn number(value: &Value<'_>) -> Result<Decimal, String> {
    value
        .to_decimal()
        .ok_or_else(|| "the value is no number of up to 28 digits".to_owned())
}

/// Writes the digits behind their sign and a `mark`, with so many decimals, rounded half away from zero, and a comma
/// between thousands.
fn grouped(number: Decimal, decimals: u8, mark: &str, into: &mut String) {
    let digits = Digits::rounded(number, decimals);
    let (whole, part, decimals) = (digits.whole(), digits.decimals(), usize::from(decimals));
    into.reserve(whole.len() * 2 + decimals + 8);
    // A number that rounds to zero is not negative any more.
    if digits.is_negative {
        into.push('-');
    }
    into.push_str(mark);
    let (first, thousands) = whole.split_at((whole.len() - 1) % 3 + 1);
    into.push_str(first);
    for at in (0..thousands.len()).step_by(3) {
        into.push(',');
        into.push_str(&thousands[at..at + 3]);
    }
    if decimals > 0 {
        into.push('.');
        into.push_str(part);
        into.extend(std::iter::repeat_n('0', decimals - part.len()));
    }
}

/// The event's currency; empty where it names none.
fn currency_of<'v>(value: Option<&'v Value<'_>>) -> Result<&'v str, String> {
    let text = match value {
        None => "",
        Some(Value::Text(text)) => text.trim(),
        Some(_) => return Err(NO_CURRENCY.to_owned()),
    };
    let is_one = text.len() <= CURRENCY_MAX;
    is_one.then_some(text).ok_or_else(|| NO_CURRENCY.to_owned())
}

fn money(number: Decimal, currency: &str) -> String {
    let is = |code: &str| currency.eq_ignore_ascii_case(code);
    let mark = match () {
        () if currency.is_empty() || is("USD") => "$",
        () if is("EUR") => "€",
        () if is("GBP") => "£",
        () => "",
    };
    let mut into = String::new();
    grouped(number, 2, mark, &mut into);
    if mark.is_empty() {
        into.push(' ');
        into.extend(currency.chars().map(|c| c.to_ascii_uppercase()));
    }
    into
}

/// A list's elements as text, without the null ones. Of more than `max` elements the rest is left out.
fn join(list: &[serde_json::Value], separator: &str, max: usize, into: &mut Bounded) {
    for (nth, element) in list.iter().take(max).filter_map(Value::of_json).enumerate() {
        if nth > 0 {
            into.push(separator);
        }
        let (text, is_cut) = written(&element, into.room());
        into.push(&text);
        if is_cut {
            into.end();
        }
        if into.is_cut() {
            return;
        }
    }
    if list.len() > max {
        into.end();
    }
}

/// Whether `join` makes a text of a list's first `max` elements without writing lists or objects into it.
pub(super) fn is_flat_list(value: &Value<'_>, max: usize) -> bool {
    let Value::Json(json) = value else { return false };
    let flat = |element: &serde_json::Value| !element.is_array() && !element.is_object();
    json.as_array().is_some_and(|list| list.iter().take(max).all(flat))
}

/// The name of the member `id`, if this is whom `user` describes.
fn member_name(user: Value<'_>, id: &str) -> Option<String> {
    let Value::Json(user) = user else { return None };
    let text = |name: &str| user.get(name)?.as_str().filter(|text| !text.trim().is_empty());
    if text("id") != Some(id) {
        return None;
    }
    let name = ["display_name", "real_name", "name"].into_iter().find_map(text);
    name.map(str::to_owned)
}

/// The filter of a length that is `unit`'s.
fn truncate(length: &str, unit: Unit) -> Result<Filter, Refusal> {
    let (least, what) = match unit {
        Unit::Characters => (1, "characters, 1 or more"),
        Unit::Bytes => (text::ELLIPSIS.len(), "bytes, 3 or more, as many as … has"),
    };
    match length.parse() {
        Ok(length) if length >= least => Ok(Filter::Truncate(length, unit)),
        _ => Err(Refusal::of(0, format!("`truncate` takes a whole number of {what}"))),
    }
}
