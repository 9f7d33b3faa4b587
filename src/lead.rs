//! The lead event: one fact about one lead, call or contact, as a producer published it.
//!
//! A [`LeadEvent`] borrows from the record it was decoded from where it can, so that decoding
//! an event which no rule matches allocates next to nothing. The decoders are in `json` and
//! `avro`; [`decode`] chooses between them by the record's first bytes. Whatever form an event
//! came in, [`Lookup`] answers paths on it in one way.

mod avro;
pub mod decode;
pub mod encode;
mod fields;
mod json;
pub mod kind;
mod record;
pub mod schemas;

use std::borrow::Cow;
use std::cell::OnceCell;

use jiff::Timestamp;
use rust_decimal::Decimal;

use crate::amounts::decimal;
use crate::ids;
use crate::path::{Path, Step};
use record::{Record, record};

/// Text that is borrowed from the record where its encoding allows it.
pub type Text<'a> = Cow<'a, str>;

/// One lead event. The first four fields are required, every other may be missing (null).
#[derive(Debug, Clone, PartialEq, Default)]
pub struct LeadEvent<'a> {
    /// The producer's idempotency key: the same id twice is the same event. 1 to 256 bytes.
    pub event_id: Text<'a>,
    /// What happened, e.g. `lms.lead_sold`; open text.
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
    /// What that inlet received.
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
    /// Up to so many are looked through.
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

/// The JSON object an inlet received: kept as text, parsed when a path first asks.
#[derive(Debug, Clone)]
pub struct Payload<'a> {
    text: Text<'a>,
    parsed: OnceCell<serde_json::Value>,
}

impl<'a> Payload<'a> {
    /// `text` must be a valid JSON object; the decoders check that before they come here.
    pub fn new(text: Text<'a>) -> Self {
        Self {
            text,
            parsed: OnceCell::new(),
        }
    }

    pub fn text(&self) -> &str {
        &self.text
    }

    pub fn json(&self) -> &serde_json::Value {
        self.parsed
            .get_or_init(|| serde_json::from_str(&self.text).unwrap_or_default())
    }
}

impl PartialEq for Payload<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.json() == other.json()
    }
}

/// What a path finds on an event. Null and absent are both "missing" and never get here.
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

/// What paths can be followed on: a lead event, or a record that is to become one.
pub trait Lookup {
    /// What stands at `path`, or `None` when it is missing or null.
    fn lookup(&self, path: &Path) -> Option<Value<'_>>;
}

/// The names that stand first in a path to a lead event's own field.
pub const FIELDS: [&str; 28] = [
    "event_id",
    "trigger",
    "occurred_at",
    "lead_id",
    "public_lead_id",
    "status",
    "is_test",
    "method",
    "product",
    "publisher",
    "channel",
    "source",
    "buyer",
    "campaign",
    "pingtree",
    "price",
    "payout",
    "revenue",
    "currency",
    "reason_code",
    "reason",
    "transaction_id",
    "attempt",
    "consumer",
    "call",
    "fields",
    "inlet",
    "payload",
];

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

impl Lookup for LeadEvent<'_> {
    /// A path whose first name is no field of a lead event is looked up in `payload`; in an
    /// inlet's event a field that is null is looked up there too.
    fn lookup(&self, path: &Path) -> Option<Value<'_>> {
        let steps = path.steps();
        let found = match self.own_field(path.root(), &steps[1..]) {
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
    /// The price a price filter compares: `payout` for `publisher_earning_received`, `revenue`
    /// for `revenue_ping_back`, `price` for the rest.
    pub fn filter_price(&self) -> Option<Decimal> {
        match self.trigger.rsplit('.').next() {
            Some("publisher_earning_received") => self.payout,
            Some("revenue_ping_back") => self.revenue,
            _ => self.price,
        }
    }

    fn in_payload(&self, steps: &[Step]) -> Option<Value<'_>> {
        Value::of_json(crate::path::follow(steps, self.payload.as_ref()?.json())?)
    }

    /// `None` when `root` is no field of a lead event, `Some(None)` when it is one and missing.
    fn own_field(&self, root: &str, rest: &[Step]) -> Option<Option<Value<'_>>> {
        Some(match root {
            "product" => record(&self.product, rest),
            "publisher" => record(&self.publisher, rest),
            "channel" => record(&self.channel, rest),
            "source" => record(&self.source, rest),
            "buyer" => record(&self.buyer, rest),
            "campaign" => record(&self.campaign, rest),
            "pingtree" => record(&self.pingtree, rest),
            "consumer" => record(&self.consumer, rest),
            "call" => record(&self.call, rest),
            "fields" => self.lead_field(rest),
            "payload" => self
                .payload
                .as_ref()
                .and_then(|payload| crate::path::follow(rest, payload.json()))
                .and_then(Value::of_json),
            scalar => {
                let found = self.scalar(scalar)?;
                if rest.is_empty() { found } else { None }
            }
        })
    }

    fn scalar(&self, name: &str) -> Option<Option<Value<'_>>> {
        let text = match name {
            "event_id" => Some(&self.event_id),
            "trigger" => Some(&self.trigger),
            "lead_id" => Some(&self.lead_id),
            "public_lead_id" => self.public_lead_id.as_ref(),
            "status" => self.status.as_ref(),
            "method" => self.method.as_ref(),
            "currency" => self.currency.as_ref(),
            "reason_code" => self.reason_code.as_ref(),
            "reason" => self.reason.as_ref(),
            "transaction_id" => self.transaction_id.as_ref(),
            "inlet" => self.inlet.as_ref(),
            "occurred_at" => return Some(Some(Value::Time(self.occurred_at))),
            "is_test" => return Some(self.is_test.map(Value::Bool)),
            "attempt" => return Some(self.attempt.map(Value::of_int)),
            "price" => return Some(self.price.map(Value::Money)),
            "payout" => return Some(self.payout.map(Value::Money)),
            "revenue" => return Some(self.revenue.map(Value::Money)),
            _ => return None,
        };
        Some(text.map(|text| Value::of_text(text)))
    }

    fn lead_field(&self, rest: &[Step]) -> Option<Value<'_>> {
        match rest {
            [] if self.fields.is_empty() => None,
            [] => {
                let object = self
                    .fields
                    .iter()
                    .map(|(name, value)| (name.to_string(), value.as_deref().into()))
                    .collect();
                Some(Value::Json(Cow::Owned(serde_json::Value::Object(object))))
            }
            [Step::Name(wanted)] => self.fields.get(wanted).map(Value::of_text),
            _ => None,
        }
    }

    /// The event as JSON, as design.md's JSON form writes it; missing fields are null.
    pub fn to_json(&self) -> serde_json::Value {
        FIELDS
            .iter()
            .map(|name| {
                let value = match *name {
                    "fields" if self.fields.is_empty() => Some(serde_json::json!({})),
                    // Money travels as text, so that no reader makes a float of it.
                    "price" | "payout" | "revenue" => self
                        .own_field(name, &[])
                        .flatten()
                        .map(|value| serde_json::Value::String(value.to_text().into_owned())),
                    name => self.own_field(name, &[]).flatten().map(|value| value.to_json()),
                };
                (name.to_string(), value.unwrap_or(serde_json::Value::Null))
            })
            .collect::<serde_json::Map<_, _>>()
            .into()
    }
}

/// The members of a lead event's record fields, or `None` when `field` is no record.
pub fn members(field: &str) -> Option<&'static [&'static str]> {
    match field {
        "product" | "publisher" | "channel" | "source" | "buyer" | "campaign" | "pingtree" => Some(Entity::MEMBERS),
        "consumer" => Some(Consumer::MEMBERS),
        "call" => Some(Call::MEMBERS),
        _ => None,
    }
}

impl<'e> Value<'e> {
    fn of_text(text: &'e str) -> Self {
        Value::Text(Cow::Borrowed(text))
    }

    fn of_int(number: i64) -> Self {
        Value::Number(Cow::Owned(number.to_string()))
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
