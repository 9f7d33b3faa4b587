//! Lead events in Avro.
//!
//! A datum is read with the schema it was written with, and its fields are then found by name.
//! What a writer added is left aside, what it lacks is missing, order doesn't matter and promoted
//! types are read as what they are: the same result as resolving to our schema, without losing
//! digits of a decimal whose scale is another.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use apache_avro::Schema;
use apache_avro::rabin::Rabin;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::types::Value;
use apache_avro::writer::datum::GenericDatumWriter;
use jiff::Timestamp;
use rust_decimal::Decimal;

use super::decode::DecodeError;
use super::{Call, Consumer, Entity, LeadEvent, Payload, Text};

const SCHEMA: &str = include_str!("../../schemas/lead_event.avsc");
/// No text, map or list of an event is larger; hostile lengths end here.
const ALLOCATION_MAX: usize = 16 * 1024 * 1024;

static OWN: LazyLock<([u8; 8], Arc<Writer>)> = LazyLock::new(|| {
    let writer = Writer::parse(SCHEMA).expect("the shipped schema is valid");
    let mut fingerprint = [0; 8];
    fingerprint.copy_from_slice(&writer.schema.fingerprint::<Rabin>().bytes);
    (fingerprint, Arc::new(writer))
});

/// A schema that events were written with, ready to read them.
pub struct Writer {
    schema: &'static Schema,
    reader: GenericDatumReader<'static>,
}

impl Writer {
    /// `None` when `text` is no valid Avro schema.
    pub fn parse(text: &str) -> Option<Self> {
        apache_avro::util::max_allocation_bytes(ALLOCATION_MAX);
        // It lives as long as the process, as the cache of writer schemas does.
        let schema: &'static Schema = Box::leak(Box::new(Schema::parse_str(text).ok()?));
        let reader = GenericDatumReader::builder(schema).build().ok()?;
        Some(Self { schema, reader })
    }
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer")
            .field("schema", &self.schema)
            .finish_non_exhaustive()
    }
}

/// The shipped schema and its CRC-64-AVRO fingerprint.
pub fn own() -> ([u8; 8], Arc<Writer>) {
    OWN.clone()
}

/// Decodes a datum that `writer` wrote.
pub fn decode(mut datum: &[u8], writer: &Writer) -> Result<LeadEvent<'static>, DecodeError> {
    let not_decodable = |text: &str| DecodeError::NotDecodable(text.to_owned());
    let schema = writer.schema;
    let value = writer
        .reader
        .read_value(&mut datum)
        .map_err(|_| not_decodable("the Avro datum does not fit its schema"))?;
    if !datum.is_empty() {
        return Err(not_decodable("the Avro datum has bytes left over"));
    }
    let mut fields =
        Fields::of("", value).ok_or_else(|| DecodeError::InvalidEvent("the Avro datum is no record".into()))?;
    let required = |field: &str| DecodeError::InvalidEvent(format!("{field}: is missing, but required"));
    Ok(LeadEvent {
        event_id: super::checked_event_id(fields.text("event_id")?.ok_or_else(|| required("event_id"))?)?,
        trigger: super::not_empty("trigger", fields.text("trigger")?.ok_or_else(|| required("trigger"))?)?,
        occurred_at: fields.time("occurred_at")?.ok_or_else(|| required("occurred_at"))?,
        lead_id: super::not_empty("lead_id", fields.text("lead_id")?.ok_or_else(|| required("lead_id"))?)?,
        public_lead_id: fields.text("public_lead_id")?,
        status: fields.text("status")?,
        is_test: fields.boolean("is_test")?,
        method: fields.text("method")?,
        product: fields.entity("product")?,
        publisher: fields.entity("publisher")?,
        channel: fields.entity("channel")?,
        source: fields.entity("source")?,
        buyer: fields.entity("buyer")?,
        campaign: fields.entity("campaign")?,
        pingtree: fields.entity("pingtree")?,
        price: fields.money("price", schema)?,
        payout: fields.money("payout", schema)?,
        revenue: fields.money("revenue", schema)?,
        currency: fields.text("currency")?,
        reason_code: fields.text("reason_code")?,
        reason: fields.text("reason")?,
        transaction_id: fields.text("transaction_id")?,
        attempt: fields.int("attempt")?,
        consumer: fields.record("consumer")?.map(consumer).transpose()?,
        call: fields.record("call")?.map(call).transpose()?,
        fields: fields.map("fields")?,
        inlet: fields.text("inlet")?,
        payload: fields.payload("payload")?,
    })
}

fn consumer(mut fields: Fields) -> Result<Consumer<'static>, DecodeError> {
    Ok(Consumer {
        first_name: fields.text("first_name")?,
        last_name: fields.text("last_name")?,
        email: fields.text("email")?,
        phone: fields.text("phone")?,
        city: fields.text("city")?,
        state: fields.text("state")?,
        zip: fields.text("zip")?,
        country: fields.text("country")?,
    })
}

fn call(mut fields: Fields) -> Result<Call<'static>, DecodeError> {
    Ok(Call {
        call_id: fields.text("call_id")?,
        caller_number: fields.text("caller_number")?,
        dialed_number: fields.text("dialed_number")?,
        started_at: fields.time("started_at")?,
        answered_at: fields.time("answered_at")?,
        ended_at: fields.time("ended_at")?,
        billable_seconds: fields.int("billable_seconds")?,
        answered: fields.boolean("answered")?,
        recording_url: fields.text("recording_url")?,
    })
}

/// A record's fields by name, taken one by one.
struct Fields {
    path: String,
    values: HashMap<String, Value>,
}

impl Fields {
    fn of(path: &str, value: Value) -> Option<Self> {
        match value {
            Value::Record(fields) => Some(Self {
                path: path.to_owned(),
                values: fields.into_iter().collect(),
            }),
            _ => None,
        }
    }

    /// The field's value; unions are opened, null is missing.
    fn take(&mut self, name: &str) -> Option<Value> {
        let mut value = self.values.remove(name)?;
        while let Value::Union(_, inner) = value {
            value = *inner;
        }
        (value != Value::Null).then_some(value)
    }

    fn invalid(&self, name: &str, why: &str) -> DecodeError {
        let dot = if self.path.is_empty() { "" } else { "." };
        DecodeError::InvalidEvent(format!("{}{dot}{name}: {why}", self.path))
    }

    fn text(&mut self, name: &str) -> Result<Option<Text<'static>>, DecodeError> {
        self.take(name)
            .map(|value| text(value).ok_or_else(|| self.invalid(name, "must be a text")))
            .transpose()
    }

    fn boolean(&mut self, name: &str) -> Result<Option<bool>, DecodeError> {
        self.take(name)
            .map(|value| match value {
                Value::Boolean(flag) => Ok(flag),
                _ => Err(self.invalid(name, "must be a boolean")),
            })
            .transpose()
    }

    fn int(&mut self, name: &str) -> Result<Option<i64>, DecodeError> {
        self.take(name)
            .map(|value| match value {
                Value::Int(number) => Ok(i64::from(number)),
                Value::Long(number) if i32::try_from(number).is_ok() => Ok(number),
                _ => Err(self.invalid(name, "must be a whole number of 32 bits")),
            })
            .transpose()
    }

    fn time(&mut self, name: &str) -> Result<Option<Timestamp>, DecodeError> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let time = match value {
            Value::TimestampMillis(millis) | Value::LocalTimestampMillis(millis) | Value::Long(millis) => {
                Timestamp::from_millisecond(millis)
            }
            Value::TimestampMicros(micros) | Value::LocalTimestampMicros(micros) => Timestamp::from_microsecond(micros),
            Value::TimestampNanos(nanos) | Value::LocalTimestampNanos(nanos) => {
                Timestamp::from_nanosecond(nanos.into())
            }
            Value::Int(millis) => Timestamp::from_millisecond(millis.into()),
            Value::String(text) => text.parse(),
            _ => return Err(self.invalid(name, "must be a timestamp")),
        };
        time.map(Some)
            .map_err(|_| self.invalid(name, "must be a timestamp in range"))
    }

    fn money(&mut self, name: &str, schema: &Schema) -> Result<Option<Decimal>, DecodeError> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let text = match value {
            Value::String(text) => text,
            Value::Int(number) => number.to_string(),
            Value::Long(number) => number.to_string(),
            Value::BigDecimal(number) => number.to_string(),
            Value::Decimal(number) => {
                let scale = decimal_scale(schema, name);
                let bytes = Vec::<u8>::try_from(number).ok().filter(|bytes| bytes.len() <= 12);
                let unscaled = bytes.map(|bytes| big_endian(&bytes));
                return match (unscaled, scale) {
                    (Some(unscaled), Some(scale)) => Decimal::try_from_i128_with_scale(unscaled, scale)
                        .ok()
                        .filter(|amount| amount.scale() <= 6 || amount.normalize().scale() <= 6)
                        .filter(|amount| amount.mantissa().unsigned_abs() < 10_u128.pow(18))
                        .map(Some)
                        .ok_or_else(|| self.invalid(name, "must have at most 18 digits and 6 decimals")),
                    _ => Err(self.invalid(name, "must have at most 18 digits and 6 decimals")),
                };
            }
            _ => return Err(self.invalid(name, "must be a decimal; a float is not exact")),
        };
        super::money(name, &text).map(Some)
    }

    fn record(&mut self, name: &str) -> Result<Option<Self>, DecodeError> {
        self.take(name)
            .map(|value| Self::of(name, value).ok_or_else(|| self.invalid(name, "must be a record")))
            .transpose()
    }

    fn entity(&mut self, name: &str) -> Result<Option<Entity<'static>>, DecodeError> {
        let Some(mut fields) = self.record(name)? else {
            return Ok(None);
        };
        Ok(Some(Entity {
            id: fields.text("id")?,
            name: fields.text("name")?,
        }))
    }

    #[expect(clippy::type_complexity, reason = "it is the field's own type")]
    fn map(&mut self, name: &str) -> Result<Vec<(Text<'static>, Option<Text<'static>>)>, DecodeError> {
        let Some(value) = self.take(name) else {
            return Ok(Vec::new());
        };
        let Value::Map(map) = value else {
            return Err(self.invalid(name, "must be a map"));
        };
        let mut keys: Vec<String> = map.keys().cloned().collect();
        keys.sort_unstable();
        let mut values = Self {
            path: name.to_owned(),
            values: map,
        };
        keys.into_iter()
            .map(|key| Ok((Cow::Owned(key.clone()), values.text(&key)?)))
            .collect()
    }

    fn payload(&mut self, name: &str) -> Result<Option<Payload<'static>>, DecodeError> {
        let text = self.text(name)?;
        text.map(|text| Payload::parse(text).ok_or_else(|| self.invalid(name, "must be a JSON object as text")))
            .transpose()
    }
}

/// Text, or what is taken as its text; bytes promote to a string where they are UTF-8.
fn text(value: Value) -> Option<Text<'static>> {
    Some(Cow::Owned(match value {
        Value::String(text) | Value::Enum(_, text) => text,
        Value::Bytes(bytes) => String::from_utf8(bytes).ok()?,
        Value::Uuid(id) => id.to_string(),
        Value::Int(number) => number.to_string(),
        Value::Long(number) => number.to_string(),
        Value::Boolean(flag) => flag.to_string(),
        _ => return None,
    }))
}

/// The scale that the writer's schema gives the decimal `name`.
fn decimal_scale(schema: &Schema, name: &str) -> Option<u32> {
    let Schema::Record(record) = schema else { return None };
    let field = record.fields.iter().find(|field| field.name == name)?;
    let of = |schema: &Schema| match schema {
        Schema::Decimal(decimal) => u32::try_from(decimal.scale).ok(),
        _ => None,
    };
    match &field.schema {
        Schema::Union(union) => union.variants().iter().find_map(of),
        schema => of(schema),
    }
}

fn big_endian(bytes: &[u8]) -> i128 {
    let sign = if bytes.first().is_some_and(|first| first & 0x80 != 0) {
        -1
    } else {
        0
    };
    bytes
        .iter()
        .fold(sign, |number, byte| (number << 8) | i128::from(*byte))
}

/// The event as a datum of the shipped schema.
pub fn encode_datum(event: &LeadEvent<'_>) -> Vec<u8> {
    let (_, own) = own();
    let value = Value::Record(
        super::FIELDS
            .iter()
            .map(|name| ((*name).to_owned(), own_value(name, event)))
            .collect(),
    );
    let writer = GenericDatumWriter::builder(own.schema)
        .build()
        .expect("the shipped schema is valid");
    writer
        .write_value_to_vec(value)
        .expect("the value has the shipped schema's fields")
}

/// The event in single-object encoding.
pub fn encode_single_object(event: &LeadEvent<'_>) -> Vec<u8> {
    let (fingerprint, _) = own();
    [&[0xC3, 0x01], fingerprint.as_slice(), &encode_datum(event)].concat()
}

fn own_value(name: &str, event: &LeadEvent<'_>) -> Value {
    let nullable = |value: Option<Value>| match value {
        None => Value::Union(0, Box::new(Value::Null)),
        Some(value) => Value::Union(1, Box::new(value)),
    };
    let text = |value: &Text<'_>| Value::String(value.to_string());
    match name {
        "event_id" => text(&event.event_id),
        "trigger" => text(&event.trigger),
        "lead_id" => text(&event.lead_id),
        "occurred_at" => Value::TimestampMillis(event.occurred_at.as_millisecond()),
        "fields" => nullable((!event.fields.is_empty()).then(|| {
            let pair =
                |(name, value): &(Text<'_>, Option<Text<'_>>)| (name.to_string(), nullable(value.as_ref().map(text)));
            Value::Map(event.fields.iter().map(pair).collect())
        })),
        "payload" => nullable(
            event
                .payload
                .as_ref()
                .map(|payload| Value::String(payload.text().to_owned())),
        ),
        "price" => nullable(event.price.map(decimal)),
        "payout" => nullable(event.payout.map(decimal)),
        "revenue" => nullable(event.revenue.map(decimal)),
        name => {
            let Some(members) = super::members(name) else {
                return nullable(event.scalar(name).flatten().map(scalar));
            };
            let record = |member: &dyn Fn(&str) -> Option<super::Value<'_>>| {
                Value::Record(
                    members
                        .iter()
                        .map(|name| ((*name).to_owned(), nullable(member(name).map(scalar))))
                        .collect(),
                )
            };
            use super::Record;
            let entity = |entity: &Option<Entity<'_>>| {
                nullable(
                    entity
                        .as_ref()
                        .map(|entity| record(&|name| entity.member(name).map(owned))),
                )
            };
            match name {
                "product" => entity(&event.product),
                "publisher" => entity(&event.publisher),
                "channel" => entity(&event.channel),
                "source" => entity(&event.source),
                "buyer" => entity(&event.buyer),
                "campaign" => entity(&event.campaign),
                "pingtree" => entity(&event.pingtree),
                "consumer" => nullable(
                    event
                        .consumer
                        .as_ref()
                        .map(|consumer| record(&|name| consumer.member(name).map(owned))),
                ),
                _ => nullable(
                    event
                        .call
                        .as_ref()
                        .map(|call| record(&|name| call.member(name).map(owned))),
                ),
            }
        }
    }
}

fn owned(value: super::Value<'_>) -> super::Value<'static> {
    match value {
        super::Value::Text(text) => super::Value::Text(Cow::Owned(text.into_owned())),
        super::Value::Number(text) => super::Value::Number(Cow::Owned(text.into_owned())),
        super::Value::Json(json) => super::Value::Json(Cow::Owned(json.into_owned())),
        super::Value::Money(amount) => super::Value::Money(amount),
        super::Value::Bool(flag) => super::Value::Bool(flag),
        super::Value::Time(time) => super::Value::Time(time),
    }
}

fn scalar(value: super::Value<'_>) -> Value {
    match value {
        super::Value::Text(text) => Value::String(text.into_owned()),
        super::Value::Number(text) => Value::Int(text.parse().unwrap_or_default()),
        super::Value::Bool(flag) => Value::Boolean(flag),
        super::Value::Time(time) => Value::TimestampMillis(time.as_millisecond()),
        super::Value::Money(amount) => decimal(amount),
        super::Value::Json(_) => Value::Null,
    }
}

/// In four decimals, as the shipped schema has it; further ones are rounded.
fn decimal(amount: Decimal) -> Value {
    let mut amount = amount.round_dp(4);
    amount.rescale(4);
    let bytes = amount.mantissa().to_be_bytes();
    // The shortest two's complement that keeps the sign.
    let redundant = |pair: &[u8]| (pair[0] == 0 && pair[1] < 0x80) || (pair[0] == 0xFF && pair[1] >= 0x80);
    let start = bytes.windows(2).take_while(|pair| redundant(pair)).count();
    Value::Decimal(apache_avro::Decimal::from(&bytes[start..]))
}
