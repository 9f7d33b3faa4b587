//! Lead events in JSON, as producers write them.
//!
//! The hot path: named fields are found in one pass as slices of the record, and read from there.
//! Nothing is copied unless it has escapes, and money is never a float.

use std::borrow::Cow;

use jiff::Timestamp;
use rust_decimal::Decimal;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::decode::DecodeError;
use super::{Call, Consumer, Entity, LeadEvent, Payload, Text};

/// A field's own JSON text; null and absent are alike.
type Raw<'a> = Option<&'a RawValue>;

/// serde refuses a named field that is given twice; every other check is ours, for its words.
macro_rules! wire {
    ($name:ident: $($field:ident),*) => {
        #[derive(Deserialize)]
        struct $name<'a> {
            $(#[serde(borrow, default)] $field: Raw<'a>,)*
        }
    };
}

wire!(EventWire: event_id, trigger, occurred_at, lead_id, public_lead_id, status, is_test, method, product, publisher,
    channel, source, buyer, campaign, pingtree, price, payout, revenue, currency, reason_code, reason, transaction_id,
    attempt, consumer, call, fields, inlet, payload);
wire!(EntityWire: id, name);
wire!(ConsumerWire: first_name, last_name, email, phone, city, state, zip, country);
wire!(CallWire: call_id, caller_number, dialed_number, started_at, answered_at, ended_at, billable_seconds, answered,
    recording_url);

/// Decodes a JSON object. Its syntax comes first: what is no JSON is not decodable, whatever else
/// is wrong with it.
pub(super) fn decode(bytes: &[u8]) -> Result<LeadEvent<'_>, DecodeError> {
    let text = std::str::from_utf8(bytes).map_err(|_| not_decodable("the JSON is not UTF-8"))?;
    let wire: EventWire<'_> = object("", text)?;
    let required = |field: &str, raw: Raw<'_>| match raw {
        None => Err(invalid(field, "is missing, but required")),
        Some(_) => Ok(()),
    };
    required("event_id", wire.event_id)?;
    required("trigger", wire.trigger)?;
    required("occurred_at", wire.occurred_at)?;
    required("lead_id", wire.lead_id)?;
    Ok(LeadEvent {
        event_id: super::checked_event_id(id("event_id", wire.event_id)?.unwrap_or_default())?,
        trigger: super::not_empty("trigger", string("trigger", wire.trigger)?.unwrap_or_default())?,
        occurred_at: time("occurred_at", wire.occurred_at)?.ok_or_else(|| invalid("occurred_at", "is missing"))?,
        lead_id: super::not_empty("lead_id", id("lead_id", wire.lead_id)?.unwrap_or_default())?,
        public_lead_id: id("public_lead_id", wire.public_lead_id)?,
        status: string("status", wire.status)?,
        is_test: boolean("is_test", wire.is_test)?,
        method: string("method", wire.method)?,
        product: entity("product", wire.product)?,
        publisher: entity("publisher", wire.publisher)?,
        channel: entity("channel", wire.channel)?,
        source: entity("source", wire.source)?,
        buyer: entity("buyer", wire.buyer)?,
        campaign: entity("campaign", wire.campaign)?,
        pingtree: entity("pingtree", wire.pingtree)?,
        price: money("price", wire.price)?,
        payout: money("payout", wire.payout)?,
        revenue: money("revenue", wire.revenue)?,
        currency: string("currency", wire.currency)?,
        reason_code: id("reason_code", wire.reason_code)?,
        reason: string("reason", wire.reason)?,
        transaction_id: id("transaction_id", wire.transaction_id)?,
        attempt: int("attempt", wire.attempt)?,
        consumer: consumer(wire.consumer)?,
        call: call(wire.call)?,
        fields: fields(wire.fields)?,
        inlet: string("inlet", wire.inlet)?,
        payload: payload(wire.payload)?,
    })
}

/// Reads an object's named fields, telling bad syntax from a field given twice.
fn object<'a, T: Deserialize<'a>>(name: &str, text: &'a str) -> Result<T, DecodeError> {
    if !text.starts_with('{') {
        return Err(invalid(name, "must be an object"));
    }
    serde_json::from_str(text).map_err(|error| {
        let syntax = !error.is_data() || serde_json::from_str::<serde::de::IgnoredAny>(text).is_err();
        if syntax {
            return not_decodable(&format!(
                "malformed JSON at line {} column {}",
                error.line(),
                error.column()
            ));
        }
        // serde's words are "duplicate field `x`", where x is one of our own names.
        let words = error.to_string();
        let words = words.split(" at line").next().unwrap_or_default();
        if name.is_empty() {
            DecodeError::InvalidEvent(words.to_owned())
        } else {
            invalid(name, words)
        }
    })
}

fn not_decodable(text: &str) -> DecodeError {
    DecodeError::NotDecodable(text.to_owned())
}

fn invalid(field: &str, why: &str) -> DecodeError {
    DecodeError::InvalidEvent(format!("{field}: {why}"))
}

/// The text of a JSON string, borrowed where it has no escapes; `None` for what is no string.
fn unquote<'a>(raw: &'a RawValue) -> Option<Result<Text<'a>, DecodeError>> {
    let inner = raw.get().strip_prefix('"')?.strip_suffix('"')?;
    if !inner.contains('\\') {
        return Some(Ok(Cow::Borrowed(inner)));
    }
    let text = serde_json::from_str::<String>(raw.get()).map(Cow::Owned);
    Some(text.map_err(|_| not_decodable("a JSON string has an escape that is no text")))
}

fn string<'a>(field: &str, raw: Raw<'a>) -> Result<Option<Text<'a>>, DecodeError> {
    raw.map(|raw| unquote(raw).unwrap_or_else(|| Err(invalid(field, "must be a text"))))
        .transpose()
}

/// A text; a number or a boolean is taken as its text.
fn id<'a>(field: &str, raw: Raw<'a>) -> Result<Option<Text<'a>>, DecodeError> {
    raw.map(|raw| match raw.get().as_bytes().first() {
        Some(b'{' | b'[') => Err(invalid(field, "must be a text, a number or a boolean")),
        _ => unquote(raw).unwrap_or(Ok(Cow::Borrowed(raw.get()))),
    })
    .transpose()
}

fn boolean(field: &str, raw: Raw<'_>) -> Result<Option<bool>, DecodeError> {
    raw.map(|raw| match raw.get() {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(invalid(field, "must be true or false")),
    })
    .transpose()
}

fn int(field: &str, raw: Raw<'_>) -> Result<Option<i64>, DecodeError> {
    raw.map(|raw| {
        raw.get()
            .parse::<i32>()
            .map(i64::from)
            .map_err(|_| invalid(field, "must be a whole number of 32 bits"))
    })
    .transpose()
}

fn money(field: &str, raw: Raw<'_>) -> Result<Option<Decimal>, DecodeError> {
    raw.map(|raw| {
        let text = match raw.get().as_bytes().first() {
            Some(b'{' | b'[' | b't' | b'f') => return Err(invalid(field, "must be a decimal as text or number")),
            _ => unquote(raw).unwrap_or(Ok(Cow::Borrowed(raw.get())))?,
        };
        super::money(field, &text)
    })
    .transpose()
}

fn time(field: &str, raw: Raw<'_>) -> Result<Option<Timestamp>, DecodeError> {
    raw.map(|raw| match unquote(raw) {
        Some(text) => super::rfc3339(field, &text?),
        None => raw
            .get()
            .parse()
            .ok()
            .and_then(|millis| Timestamp::from_millisecond(millis).ok())
            .ok_or_else(|| invalid(field, "must be RFC 3339 text or epoch milliseconds")),
    })
    .transpose()
}

fn entity<'a>(field: &str, raw: Raw<'a>) -> Result<Option<Entity<'a>>, DecodeError> {
    let Some(raw) = raw else { return Ok(None) };
    let wire: EntityWire<'a> = object(field, raw.get())?;
    let within = |member: &str| format!("{field}.{member}");
    // Only a wrong field needs its name.
    Ok(Some(Entity {
        id: id("", wire.id).map_err(|_| invalid(&within("id"), "must be a text, a number or a boolean"))?,
        name: string("", wire.name).map_err(|_| invalid(&within("name"), "must be a text"))?,
    }))
}

fn consumer<'a>(raw: Raw<'a>) -> Result<Option<Consumer<'a>>, DecodeError> {
    let Some(raw) = raw else { return Ok(None) };
    let wire: ConsumerWire<'a> = object("consumer", raw.get())?;
    Ok(Some(Consumer {
        first_name: string("consumer.first_name", wire.first_name)?,
        last_name: string("consumer.last_name", wire.last_name)?,
        email: string("consumer.email", wire.email)?,
        phone: id("consumer.phone", wire.phone)?,
        city: string("consumer.city", wire.city)?,
        state: string("consumer.state", wire.state)?,
        zip: id("consumer.zip", wire.zip)?,
        country: string("consumer.country", wire.country)?,
    }))
}

fn call<'a>(raw: Raw<'a>) -> Result<Option<Call<'a>>, DecodeError> {
    let Some(raw) = raw else { return Ok(None) };
    let wire: CallWire<'a> = object("call", raw.get())?;
    Ok(Some(Call {
        call_id: id("call.call_id", wire.call_id)?,
        caller_number: id("call.caller_number", wire.caller_number)?,
        dialed_number: id("call.dialed_number", wire.dialed_number)?,
        started_at: time("call.started_at", wire.started_at)?,
        answered_at: time("call.answered_at", wire.answered_at)?,
        ended_at: time("call.ended_at", wire.ended_at)?,
        billable_seconds: int("call.billable_seconds", wire.billable_seconds)?,
        answered: boolean("call.answered", wire.answered)?,
        recording_url: string("call.recording_url", wire.recording_url)?,
    }))
}

type Fields<'a> = Vec<(Text<'a>, Option<Text<'a>>)>;

fn fields(raw: Raw<'_>) -> Result<Fields<'_>, DecodeError> {
    struct Pairs;
    impl<'a> serde::de::Visitor<'a> for Pairs {
        type Value = Vec<(&'a RawValue, Raw<'a>)>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<M: serde::de::MapAccess<'a>>(self, mut map: M) -> Result<Self::Value, M::Error> {
            let mut pairs = Vec::with_capacity(map.size_hint().unwrap_or(8));
            while let Some(key) = map.next_key::<&'a RawValue>()? {
                pairs.push((key, map.next_value()?));
            }
            Ok(pairs)
        }
    }
    let Some(raw) = raw else { return Ok(Vec::new()) };
    if !raw.get().starts_with('{') {
        return Err(invalid("fields", "must be an object"));
    }
    let pairs = serde::Deserializer::deserialize_map(&mut serde_json::Deserializer::from_str(raw.get()), Pairs)
        .map_err(|_| not_decodable("malformed JSON in fields"))?;
    let mut fields: Fields<'_> = Vec::with_capacity(pairs.len());
    for (key, value) in pairs {
        let name = string("fields", Some(key))?.unwrap_or_default();
        let value = id("fields", value).map_err(|error| match error {
            // The field's name is the producer's own word, not a lead's value.
            DecodeError::InvalidEvent(_) => invalid(&format!("fields.{name}"), "must not be nested"),
            error => error,
        })?;
        if fields.iter().any(|(other, _)| *other == name) {
            return Err(invalid(&format!("fields.{name}"), "is given twice"));
        }
        fields.push((name, value));
    }
    Ok(fields)
}

fn payload(raw: Raw<'_>) -> Result<Option<Payload<'_>>, DecodeError> {
    raw.map(|raw| match raw.get().starts_with('{') {
        true => Payload::parse(Cow::Borrowed(raw.get()))
            .ok_or_else(|| not_decodable("payload is nested too deeply, or has a text that is none")),
        false => Err(invalid("payload", "must be an object")),
    })
    .transpose()
}
