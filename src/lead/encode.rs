//! Writes lead events as Avro by the current schema: for `events send --format avro`, and as the decoder's twin in
//! tests.
//!
//! The schema leads: each of its fields is looked up in the event's JSON form and written in the schema's type.

use std::collections::HashMap;

use apache_avro::Schema;
use apache_avro::schema::{DecimalSchema, Name};
use apache_avro::types::Value;
use apache_avro::writer::datum::GenericDatumWriter;
use jiff::Timestamp;
use serde_json::Value as Json;

use super::LeadEvent;
use super::schemas::{self, LEAD_EVENT};
use crate::amounts::decimal;

/// Why an event can't be written by the schema.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} does not fit into the Avro schema ({needs}), send the event as JSON")]
pub struct EncodeError {
    field: String,
    needs: String,
}

/// The event in Avro single-object encoding.
pub fn single_object(event: &LeadEvent<'_>) -> Result<Vec<u8>, EncodeError> {
    let mut bytes = vec![0xC3, 0x01];
    bytes.extend(schemas::current_fingerprint().to_le_bytes());
    bytes.extend(datum(event)?);
    Ok(bytes)
}

/// The event's bare datum, to be framed. Times keep their milliseconds; a value of `fields` that is null is left out.
pub(super) fn datum(event: &LeadEvent<'_>) -> Result<Vec<u8>, EncodeError> {
    let mut named = HashMap::new();
    schemas::collect_named(&LEAD_EVENT, &mut named);
    let value = value(&LEAD_EVENT, &named, &event.to_json(), "the event")?;
    let writer = GenericDatumWriter::builder(&LEAD_EVENT).build();
    let written = writer.and_then(|writer| writer.write_value_to_vec(value));
    Ok(written.expect("the value was built after the schema"))
}

fn value(schema: &Schema, named: &HashMap<&Name, &Schema>, json: &Json, field: &str) -> Result<Value, EncodeError> {
    let misfit = |needs: &str| EncodeError {
        field: field.to_owned(),
        needs: needs.to_owned(),
    };
    Ok(match (schema, json) {
        (Schema::Ref { name }, json) => {
            let defined = named.get(name).expect("the parser resolves every name");
            value(defined, named, json, field)?
        }
        // Null stands first in every union of the schema.
        (Schema::Union(_), Json::Null) => Value::Union(0, Box::new(Value::Null)),
        (Schema::Union(union), json) => Value::Union(1, Box::new(value(&union.variants()[1], named, json, field)?)),
        (Schema::Record(record), json) => {
            let members = record.fields.iter().map(|member| {
                let found = value(&member.schema, named, &json[&member.name], &member.name)?;
                Ok((member.name.clone(), found))
            });
            Value::Record(members.collect::<Result<_, _>>()?)
        }
        (Schema::Map(map), Json::Object(members)) => {
            let given = members.iter().filter(|(_, member)| !member.is_null());
            let entries = given.map(|(name, member)| Ok((name.clone(), value(&map.types, named, member, field)?)));
            Value::Map(entries.collect::<Result<_, _>>()?)
        }
        (Schema::Boolean, Json::Bool(flag)) => Value::Boolean(*flag),
        (Schema::Int, Json::Number(number)) => {
            let number = number.as_i64().and_then(|number| i32::try_from(number).ok());
            Value::Int(number.ok_or_else(|| misfit("int"))?)
        }
        (Schema::String, Json::String(text)) => Value::String(text.clone()),
        (Schema::String, payload @ Json::Object(_)) => Value::String(payload.to_string()),
        (Schema::TimestampMillis, Json::String(time)) => {
            let time: Timestamp = time.parse().map_err(|_| misfit("timestamp-millis"))?;
            Value::TimestampMillis(time.as_millisecond())
        }
        (Schema::Decimal(decimal), Json::String(amount)) => {
            let DecimalSchema { precision, scale, .. } = decimal;
            let bytes = unscaled(amount, *precision, *scale);
            Value::Decimal(
                bytes
                    .ok_or_else(|| misfit(&format!("decimal({precision},{scale})")))?
                    .into(),
            )
        }
        _ => return Err(misfit("another type")),
    })
}

/// The bytes of a decimal in `scale`, exactly or not at all.
fn unscaled(amount: &str, precision: usize, scale: usize) -> Option<[u8; 16]> {
    let amount = decimal(amount)?.normalize();
    let missing = u32::try_from(scale).ok()?.checked_sub(amount.scale())?;
    let unscaled = amount.mantissa().checked_mul(10_i128.checked_pow(missing)?)?;
    let limit = 10_u128.checked_pow(u32::try_from(precision).ok()?)?;
    (unscaled.unsigned_abs() < limit).then(|| unscaled.to_be_bytes())
}
