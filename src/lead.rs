//! The lead event: one fact about one lead, call or contact, as a producer published it.
//!
//! A [`LeadEvent`] borrows from its record where it can, so that decoding an event which no rule matches allocates
//! next to nothing. The decoders are in `json` and `avro`; [`decode`] chooses between them by the record's first
//! bytes, and [`asked`] says what they build. [`Lookup`] answers paths on an event in the same way, whatever its encoding was. `table` has a row for each
//! field, and all of these follow it.

pub mod asked;
mod avro;
pub mod decode;
pub mod encode;
mod fields;
mod found;
mod json;
pub mod kind;
pub mod schemas;
mod table;

use std::borrow::Cow;
use std::cell::OnceCell;

use jiff::Timestamp;
use rust_decimal::Decimal;

use crate::amounts::decimal;
use crate::ids;
use crate::json::mend;
use crate::json::walk::{Unsure, Walk};
use crate::path::{Path, Step};
use found::Found;
use table::Table;

/// Text that is borrowed from the record where its encoding allows it.
pub type Text<'a> = Cow<'a, str>;

/// An event's id, where it stands beside other ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventId<'i>(pub &'i str);

/// One lead event. The first four fields are required, every other may be missing (null).
#[derive(Debug, Clone, PartialEq, Default)]
pub struct LeadEvent<'a> {
    /// The producer's idempotency key: the same id twice is the same event. 1 to 256 bytes.
    pub event_id: Text<'a>,
    /// The fact, such as `lms.lead_sold`; open text.
    pub trigger: Text<'a>,
    pub occurred_at: Timestamp,
    pub lead_id: Text<'a>,
    pub public_lead_id: Option<Text<'a>>,
    pub status: Option<Text<'a>>,
    pub is_test: Option<bool>,
    pub method: Option<Text<'a>>,
    pub product: Option<Entity<'a>>,
    pub publisher: Option<Entity<'a>>,
    pub channel: Option<Entity<'a>>,
    pub source: Option<Entity<'a>>,
    pub buyer: Option<Entity<'a>>,
    pub campaign: Option<Entity<'a>>,
    pub pingtree: Option<Entity<'a>>,
    pub price: Option<Decimal>,
    pub payout: Option<Decimal>,
    pub revenue: Option<Decimal>,
    pub currency: Option<Text<'a>>,
    pub reason_code: Option<Text<'a>>,
    pub reason: Option<Text<'a>>,
    pub transaction_id: Option<Text<'a>>,
    pub attempt: Option<i64>,
    pub consumer: Option<Consumer<'a>>,
    pub call: Option<Call<'a>>,
    /// The product's own lead fields, in the order they came.
    pub fields: Fields<'a>,
    /// The inlet that took the event in, if one did.
    pub inlet: Option<Text<'a>>,
    /// The record that the inlet received.
    pub payload: Option<Payload<'a>>,
}

/// A product, publisher, channel, source, buyer, campaign or pingtree.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Entity<'a> {
    pub id: Option<Text<'a>>,
    pub name: Option<Text<'a>>,
}

/// The person behind the lead.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Consumer<'a> {
    pub first_name: Option<Text<'a>>,
    pub last_name: Option<Text<'a>>,
    pub email: Option<Text<'a>>,
    pub phone: Option<Text<'a>>,
    pub city: Option<Text<'a>>,
    pub state: Option<Text<'a>>,
    pub zip: Option<Text<'a>>,
    pub country: Option<Text<'a>>,
}

/// The call, for events of Call Logic.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Call<'a> {
    pub call_id: Option<Text<'a>>,
    pub caller_number: Option<Text<'a>>,
    pub dialed_number: Option<Text<'a>>,
    pub started_at: Option<Timestamp>,
    pub answered_at: Option<Timestamp>,
    pub ended_at: Option<Timestamp>,
    pub billable_seconds: Option<i64>,
    pub answered: Option<bool>,
    pub recording_url: Option<Text<'a>>,
}

/// The product's own lead fields. A record may have tens of thousands, and every rule may ask for one: they are found by
/// name in steps that don't grow with their number.
#[derive(Debug, Clone, Default)]
pub struct Fields<'a> {
    entries: Vec<(Text<'a>, Option<Text<'a>>)>,
    /// The entries' places, by name and then by place; made when there are many and one is asked for.
    by_name: OnceCell<Box<[usize]>>,
}

impl<'a> Fields<'a> {
    /// The most that are searched.
    const FEW: usize = 16;

    /// The value of the field `name`; of one that is given twice the last.
    fn get(&self, name: &str) -> Option<&str> {
        let entries = &self.entries;
        let found = if entries.len() <= Self::FEW {
            entries.iter().rfind(|(known, _)| *known == name)
        } else {
            let by_name = self.by_name.get_or_init(|| {
                let mut places: Box<[usize]> = (0..entries.len()).collect();
                places.sort_by(|a, b| entries[*a].0.cmp(&entries[*b].0));
                places
            });
            let behind = by_name.partition_point(|place| *entries[*place].0 <= *name);
            let last = behind.checked_sub(1).map(|last| &entries[by_name[last]]);
            last.filter(|(known, _)| *known == name)
        };
        found.and_then(|(_, value)| value.as_deref())
    }
}

impl<'a> From<Vec<(Text<'a>, Option<Text<'a>>)>> for Fields<'a> {
    fn from(entries: Vec<(Text<'a>, Option<Text<'a>>)>) -> Self {
        Self {
            entries,
            by_name: OnceCell::new(),
        }
    }
}

impl<'a> std::ops::Deref for Fields<'a> {
    type Target = [(Text<'a>, Option<Text<'a>>)];

    fn deref(&self) -> &Self::Target {
        &self.entries
    }
}

impl PartialEq for Fields<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.entries == other.entries
    }
}

/// The JSON object that an inlet received. One that was only walked through is parsed when a path first leads into it.
#[derive(Debug, Clone)]
pub struct Payload<'a> {
    walked: &'a str,
    parsed: OnceCell<serde_json::Value>,
}

impl<'a> Payload<'a> {
    /// Reads a text, which must be a JSON object; cut surrogate pairs in it are mended.
    pub fn read(text: &str) -> Result<Self, &'static str> {
        match serde_json::from_str(&mend(text)) {
            Ok(json @ serde_json::Value::Object(_)) => Ok(Self {
                walked: "",
                parsed: OnceCell::from(json),
            }),
            _ => Err("must be a JSON object of less than 128 levels"),
        }
    }

    /// Walks over an object.
    fn walk(walk: &mut Walk<'a>) -> Result<Self, Unsure> {
        match walk.object()? {
            (walked, true) => Ok(Self {
                walked,
                parsed: OnceCell::new(),
            }),
            (text, false) => Self::read(text).map_err(|_| Unsure),
        }
    }

    pub fn json(&self) -> &serde_json::Value {
        let parse = || serde_json::from_str(&mend(self.walked)).expect("the walk takes what is well-formed alone");
        self.parsed.get_or_init(parse)
    }
}

impl PartialEq for Payload<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.json() == other.json()
    }
}

/// The value of a path on an event. Null and absent are both "missing" and never get here.
#[derive(Debug, Clone, PartialEq)]
pub enum Value<'e> {
    Text(Cow<'e, str>),
    /// A price, payout or revenue: a number however the producer wrote it.
    Money(Decimal),
    /// A JSON number, kept as its own text so that no digit is lost.
    Number(Cow<'e, str>),
    Bool(bool),
    Time(Timestamp),
    /// A list or an object.
    Json(Cow<'e, serde_json::Value>),
}

/// A thing that paths can be followed on: a lead event, or a record that is to become one.
pub trait Lookup {
    /// The value at `path`, or `None` when it is missing or null.
    fn lookup(&self, path: &Path) -> Option<Value<'_>>;
}

/// The names that stand first in a path to a lead event's own field.
pub const FIELDS: &[&str] = <LeadEvent<'_> as Table>::ROWS.names;

/// The triggers known by name. Any other is counted under the label `other`.
pub const TRIGGERS: [&str; 13] = [
    "lms.lead_sold",
    "lms.lead_rejected",
    "lms.campaign_rejected",
    "lms.publisher_earning_received",
    "lms.campaign_sold",
    "lms.revenue_ping_back",
    "call_logic.lead_sold",
    "call_logic.lead_rejected",
    "call_logic.campaign_rejected",
    "call_logic.campaign_accepted",
    "call_logic.campaign_sold",
    "call_logic.publisher_earning_received",
    "call_logic.buyer_response",
];

/// `trigger` as a metric label: itself when known by name, else `other`.
pub fn trigger_label(trigger: &str) -> &'static str {
    TRIGGERS
        .iter()
        .find(|known| **known == trigger)
        .copied()
        .unwrap_or("other")
}

/// The field that a price filter compares in events of a trigger.
pub fn price_field(trigger: &str) -> &'static str {
    match trigger.rsplit('.').next() {
        Some("publisher_earning_received") => "payout",
        Some("revenue_ping_back") => "revenue",
        _ => "price",
    }
}

impl Lookup for LeadEvent<'_> {
    /// A path whose first name is no field of a lead event is looked up in `payload`; in an
    /// inlet's event a field that is null is looked up there too.
    fn lookup(&self, path: &Path) -> Option<Value<'_>> {
        let steps = path.steps();
        let found = match self.look_up(path.root(), &steps[1..]) {
            Some(own) => own,
            None => return self.in_payload(steps),
        };
        if found.is_none() && self.inlet.is_some() {
            return self.in_payload(steps);
        }
        found
    }
}

impl LeadEvent<'_> {
    /// The price a price filter compares, which stands in the [`price_field`] of its trigger.
    pub fn filter_price(&self) -> Option<Decimal> {
        match price_field(&self.trigger) {
            "payout" => self.payout,
            "revenue" => self.revenue,
            _ => self.price,
        }
    }

    fn in_payload(&self, steps: &[Step]) -> Option<Value<'_>> {
        Value::of_json(crate::path::follow(steps, self.payload.as_ref()?.json())?)
    }

    /// The event as JSON; missing fields are null.
    pub fn to_json(&self) -> serde_json::Value {
        Found::to_json(self)
    }
}

/// The members of a lead event's record fields, or `None` when `field` is no record.
pub fn members(field: &str) -> Option<&'static [&'static str]> {
    LeadEvent::members(field).map(|rows| rows.names)
}

impl<'e> Value<'e> {
    fn of_text(text: &'e str) -> Self {
        Value::Text(Cow::Borrowed(text))
    }

    /// A JSON value as a path's answer; null is missing.
    pub fn of_json(json: &'e serde_json::Value) -> Option<Self> {
        Some(match json {
            serde_json::Value::Null => return None,
            serde_json::Value::Bool(flag) => Value::Bool(*flag),
            serde_json::Value::Number(number) => Value::Number(Cow::Borrowed(number.as_str())),
            serde_json::Value::String(text) => Value::Text(Cow::Borrowed(text)),
            serde_json::Value::Array(_) | serde_json::Value::Object(_) => Value::Json(Cow::Borrowed(json)),
        })
    }

    /// The value as text: decimals without needless zeros, times as RFC 3339 in UTC, lists and
    /// objects as compact JSON.
    pub fn to_text(&self) -> Cow<'_, str> {
        match self {
            Value::Text(text) => Cow::Borrowed(text),
            Value::Money(decimal) => Cow::Owned(decimal.normalize().to_string()),
            Value::Number(text) => match decimal(text) {
                Some(decimal) => Cow::Owned(decimal.normalize().to_string()),
                None => Cow::Borrowed(text),
            },
            Value::Bool(flag) => Cow::Borrowed(if *flag { "true" } else { "false" }),
            Value::Time(time) => Cow::Owned(time.to_string()),
            Value::Json(json) => Cow::Owned(json.to_string()),
        }
    }

    /// The value as an id, which is a text or a number; the error says why it is none.
    pub fn to_id(&self) -> Result<Cow<'_, str>, &'static str> {
        match self {
            Value::Number(written) => ids::of_number(written),
            Value::Bool(_) | Value::Json(_) => Err(ids::WRONG_KIND),
            Value::Text(_) | Value::Money(_) | Value::Time(_) => Ok(self.to_text()),
        }
    }

    /// The value with its JSON type; decimals become numbers, times become text.
    pub fn to_json(&self) -> serde_json::Value {
        match self {
            Value::Text(text) => text.as_ref().into(),
            Value::Bool(flag) => (*flag).into(),
            Value::Time(time) => time.to_string().into(),
            Value::Json(json) => json.as_ref().clone(),
            Value::Number(text) => number(text),
            Value::Money(decimal) => number(&decimal.normalize().to_string()),
        }
    }

    /// The value as a number, if it is one or is text that reads as one.
    pub fn to_decimal(&self) -> Option<Decimal> {
        match self {
            Value::Money(number) => Some(*number),
            Value::Number(text) | Value::Text(text) => decimal(text),
            Value::Bool(_) | Value::Time(_) | Value::Json(_) => None,
        }
    }
}

/// Text as a JSON number with the same digits; text that is no JSON number stays text.
fn number(text: &str) -> serde_json::Value {
    serde_json::from_str::<serde_json::Number>(text).map_or_else(|_| text.into(), serde_json::Value::Number)
}

#[cfg(test)]
pub(crate) mod any;
#[cfg(test)]
mod tests;
