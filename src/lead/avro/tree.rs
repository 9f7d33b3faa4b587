//! Reads any Avro record as JSON, for the mappings of inlets.
//!
//! Unions are unwrapped. A decimal is an exact number, a timestamp RFC 3339 in UTC, a date and a time of day are ISO
//! 8601; a time that no calendar has stays a number. Bytes are their text, or base64 where they are no text.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use jiff::civil::{Date, Time};
use jiff::{Span, Timestamp};
use serde_json::{Map, Number, Value as Json};

use super::{AvroFault, Cursor, Value, unscaled};
use crate::lead::decode::DecodeError;
use crate::lead::fields::Place;
use crate::lead::schemas::{Shape, Writer};

/// A decimal has no more places than this; a schema's scale must not fill the memory.
const SCALE_MAX: u32 = 1000;
/// The bytes that a value takes in memory beside its text, counted as the most that a scalar comes to.
const VALUE_SIZE: usize = 64;
/// And a time's text so many: `-009999-01-02T01:59:59.123456789Z`.
const TIME_SIZE: usize = 33;

/// The datum as JSON, and how many bytes were counted for it, of which there are no more than `bytes_max`.
pub(in crate::lead) fn to_json(datum: &[u8], writer: &Writer, bytes_max: usize) -> Result<(Json, usize), DecodeError> {
    let mut cursor = Cursor::new(datum);
    cursor.room_left = cursor.room_left.min(bytes_max);
    let room = cursor.room_left;
    let json = Value::new(&mut cursor, writer).json();
    json.and_then(|json| cursor.end().map(|()| (json, room - cursor.room_left)))
        .map_err(|fault| match fault {
            AvroFault::Broken(why) => DecodeError::NotDecodable(why.into()),
            AvroFault::Wrong(wrong) => DecodeError::InvalidEvent(wrong.to_string()),
        })
}

impl Value<'_, '_, '_> {
    fn json(mut self) -> Result<Json, AvroFault> {
        self.cursor.make(VALUE_SIZE)?;
        Ok(match self.chosen()? {
            Shape::Null => Json::Null,
            Shape::Boolean => self.cursor.boolean()?.into(),
            Shape::Int => self.cursor.long()?.into(),
            // Neither NaN nor infinity is JSON; both become null.
            Shape::Float(4) => f32::from_le_bytes(self.cursor.array()?).into(),
            Shape::Float(_) => f64::from_le_bytes(self.cursor.array()?).into(),
            Shape::Text => self.cursor.text()?.into(),
            Shape::Bytes => bytes(self.cursor.bytes()?),
            Shape::Fixed(size) => bytes(self.cursor.take(*size)?),
            Shape::Uuid => uuid::Uuid::from_bytes(self.cursor.array()?).to_string().into(),
            Shape::Enum(symbols) => {
                let symbol = self.cursor.symbol(symbols)?;
                self.cursor.make(symbol.len())?;
                symbol.into()
            }
            Shape::Decimal { scale, size } => {
                let bytes = match size {
                    Some(size) => self.cursor.take(*size)?,
                    None => self.cursor.bytes()?,
                };
                self.cursor.make(usize::try_from(*scale).unwrap_or(usize::MAX))?;
                exact(bytes, *scale).ok_or(AvroFault::Broken(
                    "a decimal has no bytes, or more than 16, or 1000 places",
                ))?
            }
            Shape::Time { nanoseconds } => {
                self.cursor.make(TIME_SIZE)?;
                let count = self.cursor.long()?;
                let time = Timestamp::from_nanosecond(i128::from(count) * i128::from(*nanoseconds));
                time.map_or(count.into(), |time| time.to_string().into())
            }
            Shape::Date => {
                self.cursor.make(TIME_SIZE)?;
                date(self.cursor.long()?)
            }
            Shape::Clock { nanoseconds } => {
                self.cursor.make(TIME_SIZE)?;
                clock(self.cursor.long()?, *nanoseconds)
            }
            Shape::Record(number) => {
                let mut members = Map::new();
                for (name, shape) in &self.writer.records[*number] {
                    self.cursor.make(name.len())?;
                    members.insert(name.clone(), self.inner(shape, Place::EVENT)?.json()?);
                }
                Json::Object(members)
            }
            Shape::List(items) => {
                let mut elements = Vec::new();
                self.blocks(|list| {
                    elements.push(list.inner(items, Place::EVENT)?.json()?);
                    Ok(())
                })?;
                Json::Array(elements)
            }
            Shape::Map(values) => {
                let mut members = Map::new();
                self.blocks(|map| {
                    let name = map.cursor.text()?.to_owned();
                    members.insert(name, map.inner(values, Place::EVENT)?.json()?);
                    Ok(())
                })?;
                Json::Object(members)
            }
            Shape::Union(_) => unreachable!("chosen goes through unions"),
        })
    }
}

/// The date that many days after 1970 began; the number where no date is so far away.
fn date(days: i64) -> Json {
    let date = Span::new()
        .try_days(days)
        .and_then(|days| Date::constant(1970, 1, 1).checked_add(days));
    date.map_or(days.into(), |date| date.to_string().into())
}

/// The time that many units of `nanoseconds` after midnight; the number where a day is shorter.
fn clock(count: i64, nanoseconds: i64) -> Json {
    let span = Span::new().try_nanoseconds(count.saturating_mul(nanoseconds));
    let time = span.and_then(|span| Time::midnight().checked_add(span));
    time.map_or(count.into(), |time| time.to_string().into())
}

fn bytes(bytes: &[u8]) -> Json {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.into(),
        Err(_) => BASE64_STANDARD.encode(bytes).into(),
    }
}

/// A decimal with every digit that it has.
fn exact(bytes: &[u8], scale: u32) -> Option<Json> {
    let unscaled = unscaled(bytes).filter(|_| scale <= SCALE_MAX)?;
    let scale = usize::try_from(scale).ok()?;
    let mut digits = format!("{:0>width$}", unscaled.unsigned_abs(), width = scale + 1);
    if scale > 0 {
        digits.insert(digits.len() - scale, '.');
    }
    let sign = if unscaled < 0 { "-" } else { "" };
    format!("{sign}{digits}").parse::<Number>().ok().map(Json::Number)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value as Json, json};

    use super::super::{Cursor, MADE_FREE, STEPS_FREE, Value};
    use crate::lead::decode::{DecodeError, decode_avro};
    use crate::lead::schemas::{SchemaId, Schemas};

    /// A record with one field of this type, under the id 1.
    fn learnt(schema: &Json) -> Schemas {
        let mut schemas = Schemas::foreign();
        let record = json!({"type": "record", "name": "R", "fields": [{"name": "f", "type": schema}]});
        schemas.learn(SchemaId::Id(1), &record.to_string(), &[]);
        schemas
    }

    /// The one field of a record, written in `schema` as `bytes`.
    fn read(schema: &Json, bytes: &[u8]) -> Result<Json, DecodeError> {
        let schemas = learnt(schema);
        let (mut json, _) = decode_avro(&[&[0, 0, 0, 0, 1], bytes].concat(), &schemas, usize::MAX)?;
        Ok(json["f"].take())
    }

    fn logical(kind: &str, logical: &str) -> Json {
        json!({"type": kind, "logicalType": logical})
    }

    fn decimal(scale: u32) -> Json {
        json!({"type": "bytes", "logicalType": "decimal", "precision": scale.max(38), "scale": scale})
    }

    /// A long as Avro writes it.
    fn long(value: i64) -> Vec<u8> {
        let mut zigzag = ((value << 1) ^ (value >> 63)).cast_unsigned();
        let mut bytes = Vec::new();
        while zigzag >= 0x80 {
            bytes.push(zigzag as u8 | 0x80);
            zigzag >>= 7;
        }
        bytes.push(zigzag as u8);
        bytes
    }

    #[test]
    fn every_type_has_its_json() {
        let millis = 1_521_611_063_123_i64;
        let nested =
            json!(["null", {"type": "record", "name": "N", "fields": [{"name": "next", "type": ["null", "N"]}]}]);
        let of_texts = |kind, of: &str| json!({"type": kind, of: "string"});
        let symbols = json!({"type": "enum", "name": "E", "symbols": ["A", "B"]});
        let fixed = json!({"type": "fixed", "name": "F", "size": 3});
        for (schema, bytes, wanted) in [
            (json!("boolean"), vec![1], "true"),
            (json!("long"), long(i64::MIN), "-9223372036854775808"),
            (json!("float"), 0.1_f32.to_le_bytes().to_vec(), "0.1"),
            (json!("double"), 0.1_f64.to_le_bytes().to_vec(), "0.1"),
            (json!("double"), f64::NAN.to_le_bytes().to_vec(), "null"),
            (json!("string"), b"\x04hi".to_vec(), r#""hi""#),
            (json!("bytes"), b"\x04hi".to_vec(), r#""hi""#),
            (json!("bytes"), b"\x04\xFF\xFE".to_vec(), r#""//4=""#),
            (fixed, b"\xFF\0\0".to_vec(), r#""/wAA""#),
            (symbols, vec![2], r#""B""#),
            (decimal(4), vec![6, 0x06, 0x7B, 0x94], "42.4852"),
            (decimal(2), vec![2, 0xFF], "-0.01"),
            (decimal(0), vec![2, 7], "7"),
            (
                logical("long", "timestamp-millis"),
                long(millis),
                r#""2018-03-21T05:44:23.123Z""#,
            ),
            (
                logical("long", "timestamp-micros"),
                long(millis * 1000),
                r#""2018-03-21T05:44:23.123Z""#,
            ),
            (
                logical("long", "timestamp-millis"),
                long(i64::MAX),
                "9223372036854775807",
            ),
            (logical("int", "date"), long(17_611), r#""2018-03-21""#),
            (logical("int", "date"), long(99_999_999), "99999999"),
            (logical("int", "time-millis"), long(20_663_123), r#""05:44:23.123""#),
            (logical("long", "time-micros"), long(-1), "-1"),
            (json!(["null", "string"]), vec![0], "null"),
            (json!(["null", "string"]), b"\x02\x02a".to_vec(), r#""a""#),
            (of_texts("array", "items"), b"\x04\x02a\x02b\0".to_vec(), r#"["a","b"]"#),
            (of_texts("map", "values"), b"\x02\x02k\x02v\0".to_vec(), r#"{"k":"v"}"#),
            (nested, vec![2, 2, 0], r#"{"next":{"next":null}}"#),
        ] {
            assert_eq!(read(&schema, &bytes).unwrap().to_string(), wanted, "{schema}");
        }
        // Every digit that 16 bytes hold, whatever a float or 28 digits would.
        let most = [&[32][..], &i128::MAX.to_be_bytes()].concat();
        let exact = "1701411834604692317316873037158841.05727";
        assert_eq!(read(&decimal(5), &most).unwrap().to_string(), exact);
    }

    /// The bytes of a value in memory, or close to it.
    fn weight(json: &Json) -> usize {
        match json {
            Json::String(text) => 64 + text.len(),
            Json::Number(number) => 64 + number.as_str().len(),
            Json::Array(items) => 64 + items.iter().map(weight).sum::<usize>(),
            Json::Object(members) => {
                64 + members
                    .iter()
                    .map(|(name, value)| name.len() + weight(value))
                    .sum::<usize>()
            }
            _ => 64,
        }
    }

    /// Types that make much of few bytes.
    fn costly() -> impl Strategy<Value = Json> {
        let long = |size: usize| "x".repeat(size);
        let leaf = prop_oneof![
            Just(json!("null")),
            Just(json!("boolean")),
            Just(json!("string")),
            Just(json!(["null", "long"])),
            (0_u32..1100).prop_map(decimal),
            Just(logical("long", "timestamp-nanos")),
            (1_usize..500)
                .prop_map(move |size| json!({"type": "enum", "name": format!("E{size}"), "symbols": [long(size)]})),
        ];
        let name = 1_usize..500;
        leaf.prop_recursive(3, 12, 3, move |inner| {
            prop_oneof![
                inner.clone().prop_map(|items| json!({"type": "array", "items": items})),
                inner
                    .clone()
                    .prop_map(|values| json!({"type": "map", "values": values})),
                (prop::collection::vec((name.clone(), inner), 1..4), 0_u32..1_000_000).prop_map(|(fields, number)| {
                    let fields: Vec<Json> = fields
                        .into_iter()
                        .enumerate()
                        .map(|(at, (size, of))| json!({"name": format!("f{at}{}", "x".repeat(size)), "type": of}))
                        .collect();
                    json!({"type": "record", "name": format!("R{number}"), "fields": fields})
                }),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_made_of_a_datum_is_linear_in_its_size(
            schema in costly(),
            bytes in prop_oneof![
                // A count in front and zeros behind: elements that take a byte each, or none.
                (1_i64..2_000_000, 0_usize..20_000).prop_map(|(count, zeros)| [long(count), vec![0; zeros]].concat()),
                prop::collection::vec(0_u8..6, 0..5000),
                prop::collection::vec(any::<u8>(), 0..200),
            ],
        ) {
            let schemas = learnt(&schema);
            let Some(Ok(writer)) = schemas.by_id(SchemaId::Id(1)) else { return Ok(()) };
            let mut cursor = Cursor::new(&bytes);
            let (steps, room) = (cursor.steps_left, cursor.room_left);
            prop_assert!(steps <= bytes.len() + STEPS_FREE && room <= 64 * bytes.len() + MADE_FREE);
            let json = Value::new(&mut cursor, writer).json();
            if let Ok(json) = json {
                // Each byte of text is there once; base64 makes 4 of 3.
                prop_assert!(weight(&json) <= room - cursor.room_left + 2 * bytes.len() + 64, "{} of {}", weight(&json), bytes.len());
            }
        }
    }

    #[test]
    fn names_symbols_and_places_are_counted_for_each_element() {
        let name = "n".repeat(500);
        let symbols = json!({"type": "enum", "name": "E", "symbols": ["s".repeat(60_000)]});
        let fields: Vec<Json> = (0..400)
            .map(|at| json!({"name": format!("{name}{at}"), "type": "null"}))
            .collect();
        for (items, each) in [
            (json!({"type": "record", "name": "N", "fields": fields}), &[][..]),
            (symbols, &[0][..]),
            (decimal(1000), &[2, 1]),
        ] {
            let of = |count: usize| {
                let schema = json!({"type": "array", "items": items});
                let zero = vec![0];
                let count_of = long(i64::try_from(count).unwrap());
                read(&schema, &[count_of, each.repeat(count), zero].concat())
            };
            assert_eq!(of(3).unwrap().as_array().unwrap().len(), 3);
            let refused = of(50_000).err();
            assert!(matches!(refused, Some(DecodeError::NotDecodable(_))), "{items}");
        }
        // A wide record that is mostly null is as legitimate as any.
        let fields: Vec<Json> = (0..500)
            .map(|at| json!({"name": format!("a_field_of_a_wide_table_{at}"), "type": ["null", "string"]}))
            .collect();
        let wide = json!({"type": "array", "items": {"type": "record", "name": "W", "fields": fields}});
        let rows = [long(20), vec![0; 20 * 500], vec![0]].concat();
        assert_eq!(read(&wide, &rows).unwrap().as_array().unwrap().len(), 20);
    }

    #[test]
    fn broken_bytes_and_unbounded_values_end_as_such() {
        let nulls = json!({"type": "array", "items": "null"});
        let endless =
            json!(["null", {"type": "record", "name": "N", "fields": [{"name": "next", "type": ["null", "N"]}]}]);
        for (schema, bytes, why) in [
            (json!("string"), b"\x04h".to_vec(), "ends too early"),
            (json!("string"), b"\x02h!".to_vec(), "left over"),
            (json!("string"), b"\x02\xFF".to_vec(), "no UTF-8"),
            (json!(["null", "string"]), vec![4], "no such branch"),
            (decimal(0), vec![0], "a decimal has no bytes"),
            (decimal(0), [&[34, 1][..], &[0; 16]].concat(), "more than 16"),
            (nulls, long(i64::MAX), "more values than it has bytes"),
            (endless, [2; 200].to_vec(), "nested too deep"),
        ] {
            let error = read(&schema, &bytes).unwrap_err();
            assert!(
                matches!(&error, DecodeError::NotDecodable(said) if said.contains(why)),
                "{schema}: {error}"
            );
        }
        let schemas = Schemas::foreign();
        let of = |bytes: &[u8]| decode_avro(bytes, &schemas, usize::MAX).unwrap_err();
        assert_eq!(of(&[0, 0, 0, 0, 7]), DecodeError::NeedsSchema(SchemaId::Id(7)));
        assert!(matches!(of(b"{}"), DecodeError::NotDecodable(_)));
        assert!(matches!(of(b"\xC3\x01\0\0\0\0\0\0\0\0"), DecodeError::UnknownSchema(_)));
    }
}
