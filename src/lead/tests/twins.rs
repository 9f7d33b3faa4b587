//! The quick decoders beside the complete ones: whatever the bytes and whoever asks, the same event or the same refusal.

use apache_avro::Schema;
use apache_avro::types::Value as Avro;
use apache_avro::writer::datum::GenericDatumWriter;
use proptest::prelude::*;
use proptest::sample::Index;

use super::super::asked::Asked;
use super::super::decode::{complete, decode_for};
use super::super::schemas::{SchemaId, Schemas};
use super::super::{Entity, FIELDS, LeadEvent, Text, any};
use super::{EXAMPLE, all_known, event, event_with, forms, framed};

/// The event without what isn't asked for. The required fields always are.
fn cut(mut event: LeadEvent<'_>, asked: Asked) -> LeadEvent<'_> {
    macro_rules! clear {
        ($($field:ident)*) => {
            let seen = [$(stringify!($field)),*];
            assert!(FIELDS[4..].iter().all(|field| *field == "payload" || seen.contains(field)), "each field is cleared");
            $(if !is_asked(asked, stringify!($field)) { event.$field = Default::default(); })*
        };
    }
    clear!(
        public_lead_id status is_test method product publisher channel source buyer campaign pingtree price payout revenue
        currency reason_code reason transaction_id attempt consumer call fields inlet
    );
    event
}

/// The event with nothing but its trigger.
fn trigger_alone(event: LeadEvent<'_>) -> String {
    event.trigger.into_owned()
}

fn is_asked(asked: Asked, field: &str) -> bool {
    let mut with = asked;
    with.field(field);
    with == asked
}

/// The least that is asked of events of any trigger.
fn least() -> Asked {
    let mut least = Asked::least();
    // Among these are names with every bit.
    (' '..='~').for_each(|middle| least.trigger(&format!("a{middle}b")));
    least
}

/// Everything, the least, and by chance.
fn askers(chance: u64) -> Vec<Asked> {
    let mut some = least();
    for (at, field) in FIELDS.iter().enumerate() {
        if chance.rotate_left(7) & 1 << at != 0 {
            some.field(field);
        }
    }
    vec![Asked::ALL, least(), some]
}

/// Decodes in both ways, for several that ask.
pub(super) fn agree(bytes: &[u8], schemas: &Schemas) {
    let whole = complete(bytes, schemas);
    let chance = bytes
        .iter()
        .fold(17_u64, |sum, byte| sum.rotate_left(5) ^ u64::from(*byte));
    for asked in askers(chance) {
        let quick = decode_for(bytes, schemas, &asked);
        let (quick, whole) = (
            quick.map(|event| cut(event, asked)),
            whole.clone().map(|event| cut(event, asked)),
        );
        assert_eq!(quick, whole, "{}", String::from_utf8_lossy(bytes));
    }
    let nobody = decode_for(bytes, schemas, &Asked::least());
    assert_eq!(nobody.map(trigger_alone), whole.clone().map(trigger_alone));
    let mut asked = least();
    let members = [
        ("product", "id"),
        ("buyer", "name"),
        ("consumer", "email"),
        ("call", "started_at"),
        ("fields", "a"),
    ];
    members.iter().for_each(|(field, member)| asked.member(field, member));
    let quick = decode_for(bytes, schemas, &asked);
    assert_eq!(quick.map(seen), whole.map(seen), "{}", String::from_utf8_lossy(bytes));
}

/// A few members of records, and what is always there.
fn seen(event: LeadEvent<'_>) -> impl PartialEq + std::fmt::Debug {
    let entity = |of: fn(Entity<'_>) -> Option<Text<'_>>, entity: Option<Entity<'_>>| {
        entity.map(of).map(|of| of.map(Text::into_owned))
    };
    (
        (
            event.event_id.into_owned(),
            event.trigger.into_owned(),
            event.occurred_at,
            event.lead_id.into_owned(),
        ),
        (
            event.is_test,
            event.inlet.map(Text::into_owned),
            event.payload.map(|payload| payload.json().clone()),
        ),
        entity(|product| product.id, event.product),
        entity(|buyer| buyer.name, event.buyer),
        event.consumer.map(|consumer| consumer.email.map(Text::into_owned)),
        event.call.map(|call| call.started_at),
        event.fields.get("a").map(str::to_owned),
    )
}

/// Pieces of JSON, well-formed and not, in any order.
const PIECES: [&str; 60] = [
    "{",
    "}",
    "[",
    "]",
    ":",
    ",",
    "\"",
    "\\",
    " ",
    "\n",
    "\t",
    "\u{1}",
    "\u{7f}",
    "é",
    "😀",
    "\u{feff}",
    "null",
    "true",
    "false",
    "nul",
    "0",
    "-0",
    "01",
    "-",
    "1.",
    "1.5",
    "1e5",
    "1E+",
    "1e-7",
    ".5",
    "1772723760",
    "\"e\"",
    "\"event_id\":",
    "\"lead_id\":\"l\"",
    "\"status\"",
    "\"st\\u0061tus\"",
    "\"price\":",
    "\"42.50\"",
    "\"buyer\":{",
    "\"id\":",
    "\"fields\":{",
    "\"payload\":{",
    "\"call\":{",
    "\"started_at\":",
    "\"is_test\":true",
    "\"\\ud83d\"",
    "\"\\ud83d\\ude00\"",
    "\"\\u00e9\"",
    "\"\\x\"",
    "\"\\\"\"",
    "\"\\u12\"",
    "\"$serde_json::private::Number\":\"1\"",
    "\"$serde_json::private::RawValue\":\"x\"",
    "\"inlet\":\"crm\"",
    "\"attempt\":3",
    "\"attempt\":99999999999",
    "\"occurred_at\":\"2026-03-05T15:16:00Z\"",
    "\"x\":",
    "[[[[",
    "]]]]",
];

/// A text of pieces.
fn pieces() -> impl Strategy<Value = String> {
    let piece = proptest::sample::select(PIECES.as_slice());
    proptest::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

/// Any value as the value of any field, written with blanks, escapes and in any order.
fn members() -> impl Strategy<Value = Vec<(String, String)>> {
    let names: Vec<String> = FIELDS
        .iter()
        .flat_map(|field| [(*field).to_owned(), format!("x_{field}")])
        .collect();
    let value = prop_oneof![
        4 => any::json().prop_map(|json| json.to_string()),
        2 => any::json().prop_map(|json| serde_json::to_string_pretty(&json).unwrap()),
        1 => pieces(),
        1 => "\"[0-9]{1,14}(\\.[0-9]{0,7})?\"",
        1 => "-?[0-9]{1,19}(\\.[0-9]{1,7})?([eE]-?[0-9]{1,2})?",
        1 => "\\{\"(id|name|zip|started_at|answered|a)\":(null|\"[a-z]{0,9}\"|true|17|\\{\\})(,\"(id|name|city|b)\":(null|\"x\\\\\\\\u00e9\"|\"\\\\\\\\ud800\"))?\\}",
        1 => proptest::collection::vec(any::<char>(), 0..9).prop_map(|text| serde_json::Value::from(String::from_iter(text)).to_string()),
    ];
    proptest::collection::vec((proptest::sample::select(names), value), 0..6)
}

/// What may become of bytes on their way.
fn changes() -> impl Strategy<Value = Vec<(Index, u8, u8)>> {
    proptest::collection::vec((any::<Index>(), any::<u8>(), 0..5_u8), 0..4)
}

fn changed(bytes: &[u8], changes: &[(Index, u8, u8)]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for (index, byte, change) in changes {
        if bytes.is_empty() {
            break;
        }
        let at = index.index(bytes.len());
        match change {
            0 => bytes[at] = *byte,
            1 => bytes[at] ^= 1 << (byte % 8),
            2 => bytes.insert(at, *byte),
            3 => drop(bytes.remove(at)),
            _ => bytes.truncate(at.max(1)),
        }
    }
    bytes
}

/// The types that a writer may have for a field, and beside it one that we don't know.
fn kind() -> impl Strategy<Value = String> {
    let plain = proptest::sample::select(vec![
        r#""string""#,
        r#""string""#,
        r#""bytes""#,
        r#""int""#,
        r#""long""#,
        r#""boolean""#,
        r#""double""#,
        r#""null""#,
        r#"{"type":"long","logicalType":"timestamp-millis"}"#,
        r#"{"type":"long","logicalType":"timestamp-micros"}"#,
        r#"{"type":"long","logicalType":"timestamp-nanos"}"#,
        r#"{"type":"int","logicalType":"date"}"#,
        r#"{"type":"bytes","logicalType":"decimal","precision":14,"scale":4}"#,
        r#"{"type":"bytes","logicalType":"decimal","precision":9,"scale":2}"#,
        r#"{"type":{"type":"fixed","name":"F$","size":7},"logicalType":"decimal","precision":9,"scale":2}"#,
        r#"{"type":"enum","name":"E$","symbols":["POST","FORM"]}"#,
        r#"{"type":"fixed","name":"X$","size":3}"#,
        r#"{"type":"string","logicalType":"uuid"}"#,
        r#"{"type":"map","values":"string"}"#,
        r#"{"type":"map","values":["null","string"]}"#,
        r#"{"type":"map","values":["int","null","string"]}"#,
        r#"{"type":"array","items":"null"}"#,
        r#"{"type":"array","items":["null","string"]}"#,
        r#"{"type":"record","name":"P$","fields":[{"name":"name","type":["null","string"]},{"name":"tier","type":"int"},{"name":"id","type":["string","null"]}]}"#,
        r#"{"type":"record","name":"Q$","fields":[{"name":"id","type":"long"},{"name":"next","type":["null","Q$"]}]}"#,
        r#"{"type":"record","name":"C$","fields":[{"name":"started_at","type":["null",{"type":"long","logicalType":"timestamp-millis"}]},{"name":"answered","type":"boolean"}]}"#,
    ])
    .prop_map(str::to_owned);
    (plain, 0..5_u8).prop_map(|(kind, union)| match union {
        0 | 1 => format!(r#"["null",{kind}]"#).replace(r#"["null","null"]"#, r#""null""#),
        2 => format!(r#"[{kind},"null"]"#).replace(r#"["null","null"]"#, r#""null""#),
        _ => kind,
    })
}

/// A writer's schema: our required fields, and more, in any order.
fn schema() -> impl Strategy<Value = String> {
    let names: Vec<String> = FIELDS[4..]
        .iter()
        .flat_map(|field| [(*field).to_owned(), format!("x_{field}")])
        .collect();
    let more = proptest::sample::subsequence(names, 0..12);
    let kinds = proptest::collection::vec(kind(), 16);
    let required = (
        proptest::sample::select(vec![r#""string""#, r#"["null","string"]"#, r#""long""#]),
        proptest::sample::select(vec![
            r#"{"type":"long","logicalType":"timestamp-millis"}"#,
            r#""long""#,
            r#""string""#,
        ]),
        0..20_usize,
    );
    (more, kinds, required)
        .prop_map(|(more, kinds, (id, time, without))| {
            let required = [
                ("event_id", id.to_owned()),
                ("trigger", r#""string""#.to_owned()),
                ("occurred_at", time.to_owned()),
                ("lead_id", id.to_owned()),
            ];
            let given = required.into_iter().enumerate().filter(|(at, _)| *at != without);
            let mut fields: Vec<(String, String)> = given.map(|(_, (name, kind))| (name.to_owned(), kind)).collect();
            fields.extend(more.into_iter().zip(kinds));
            fields
        })
        .prop_shuffle()
        .prop_map(|fields| {
            let fields = fields.into_iter().enumerate().map(|(at, (name, kind))| {
                format!(r#"{{"name":"{name}","type":{}}}"#, kind.replace('$', &at.to_string()))
            });
            format!(
                r#"{{"type":"record","name":"Sold","fields":[{}]}}"#,
                fields.collect::<Vec<_>>().join(",")
            )
        })
}

/// A value of a type, of numbers and texts that are given.
fn value(schema: &Schema, chance: &mut impl FnMut() -> (u64, String)) -> Avro {
    let (number, text) = chance();
    let signed = number.cast_signed();
    match schema {
        Schema::Null => Avro::Null,
        Schema::Boolean => Avro::Boolean(number & 1 == 1),
        Schema::Int => Avro::Int(signed as i32 >> (number % 32)),
        Schema::Long => Avro::Long([signed >> (number % 64), 1_772_723_760][(number % 2) as usize]),
        Schema::Date => Avro::Date(signed as i32),
        Schema::Double => Avro::Double(signed as f64),
        Schema::TimestampMillis => Avro::TimestampMillis([1_772_723_760_123, signed][usize::from(number % 8 == 0)]),
        Schema::TimestampMicros => Avro::TimestampMicros([1_772_723_760_123_456, signed][usize::from(number % 8 == 0)]),
        Schema::TimestampNanos => Avro::TimestampNanos(signed),
        Schema::String => Avro::String(match number % 8 {
            0 => "2026-03-05T15:16:00Z".into(),
            1 => r#"{"a":{"b":"\ud83d"}}"#.into(),
            2 => "{}".into(),
            _ => text,
        }),
        Schema::Uuid(_) => Avro::Uuid(uuid::Uuid::from_u128(number.into())),
        Schema::Bytes => Avro::Bytes(if number % 3 == 0 {
            vec![0xFF, number as u8]
        } else {
            text.into()
        }),
        Schema::Fixed(fixed) => Avro::Fixed(fixed.size, vec![number as u8; fixed.size]),
        Schema::Enum(of) => Avro::Enum((number % 2) as u32, of.symbols[(number % 2) as usize].clone()),
        Schema::Decimal(of) => match of.inner {
            apache_avro::schema::InnerDecimalSchema::Bytes => {
                let size = 1 + (number % 8) as usize;
                Avro::Decimal(signed.to_be_bytes()[..size].to_vec().into())
            }
            apache_avro::schema::InnerDecimalSchema::Fixed(ref fixed) => {
                Avro::Decimal(((signed >> 8) as i128).to_be_bytes()[16 - fixed.size..].to_vec().into())
            }
        },
        Schema::Union(union) => {
            let branch = (number % union.variants().len() as u64) as usize;
            Avro::Union(branch as u32, Box::new(value(&union.variants()[branch], chance)))
        }
        Schema::Array(list) => Avro::Array((0..number % 3).map(|_| value(&list.items, chance)).collect()),
        Schema::Map(map) => Avro::Map(
            (0..number % 3)
                .map(|at| (format!("k{at}"), value(&map.types, chance)))
                .collect(),
        ),
        Schema::Record(record) => Avro::Record(
            record
                .fields
                .iter()
                .map(|field| (field.name.clone(), value(&field.schema, chance)))
                .collect(),
        ),
        // Records within themselves end at once.
        Schema::Ref { .. } => panic!("the branch for null is taken"),
        other => panic!("{other:?}"),
    }
}

/// A datum by a schema, of chance; `None` where a record would go on within itself.
fn datum(schema: &Schema, numbers: &[u64], texts: &[String]) -> Option<(Vec<u8>, Avro)> {
    let mut at = 0;
    let mut chance = || {
        at += 1;
        (
            numbers[at % numbers.len()].rotate_left(at as u32),
            texts[at % texts.len()].clone(),
        )
    };
    let goes_on = serde_json::to_string(schema).ok()?.contains("\"next\"");
    let value = if goes_on {
        let mut zero = || (0, "t".to_owned());
        value(schema, &mut zero)
    } else {
        value(schema, &mut chance)
    };
    let writer = GenericDatumWriter::builder(schema).build().ok()?;
    Some((writer.write_value_to_vec(value.clone()).ok()?, value))
}

fn learnt(schema: &str) -> Schemas {
    let mut schemas = Schemas::new();
    schemas.learn(SchemaId::Id(7), schema, &[]);
    schemas
}

proptest! {
    #[test]
    fn events_of_any_json_are_one_in_both(members in members(), changes in changes(), blank in "[ \\n\\t]{0,2}") {
        let mut text = event_with("");
        text.pop();
        for (name, value) in &members {
            text += &format!("{blank},{blank}\"{name}\"{blank}:{value}");
        }
        text.push('}');
        agree(text.as_bytes(), &Schemas::new());
        agree(&changed(text.as_bytes(), &changes), &Schemas::new());
    }

    #[test]
    fn pieces_of_json_are_one_in_both(head in pieces(), tail in pieces()) {
        agree(format!("{{{head}").as_bytes(), &Schemas::new());
        agree(event_with(&format!(",{head}{tail}")).as_bytes(), &Schemas::new());
        agree(event_with(&format!(",\"payload\":{{{head}{tail}}}")).as_bytes(), &Schemas::new());
        agree(event_with(&format!(",\"fields\":{{\"a\":{head}}}")).as_bytes(), &Schemas::new());
    }

    #[test]
    fn events_that_were_changed_on_their_way_are_one_in_both(event in event(), changes in changes()) {
        let schemas = all_known();
        for bytes in forms(&event) {
            agree(&bytes, &schemas);
            agree(&changed(&bytes, &changes), &schemas);
        }
        agree(&changed(EXAMPLE.as_bytes(), &changes), &schemas);
    }

    #[test]
    fn events_of_any_writer_are_one_in_both(
        text in schema(),
        numbers in proptest::collection::vec(any::<u64>(), 7),
        texts in proptest::collection::vec("[a-z0-9é.]{0,12}", 5),
        changes in changes(),
        cut in any::<Index>(),
    ) {
        let schema = Schema::parse_str(&text).unwrap();
        let (datum, written) = datum(&schema, &numbers, &texts).unwrap();
        let schemas = learnt(&text);
        let bytes = framed(7, &datum);
        agree(&bytes, &schemas);
        agree(&bytes[..5 + cut.index(datum.len().max(1))], &schemas);
        agree(&framed(7, &changed(&datum, &changes)), &schemas);
        // And what is read is what the writer's library wrote.
        if let (Ok(event), Avro::Record(members)) = (complete(&bytes, &schemas), written) {
            for (name, value) in members {
                let found = match name.as_str() {
                    "trigger" => Some(&*event.trigger),
                    "status" => event.status.as_deref(),
                    "reason" => event.reason.as_deref(),
                    _ => continue,
                };
                let value = match value {
                    Avro::Union(_, value) => *value,
                    value => value,
                };
                if let Avro::String(text) = value {
                    prop_assert_eq!(found, Some(&*text), "{}", name);
                }
            }
        }
    }

    #[test]
    fn any_bytes_are_one_in_both(
        text in schema(),
        bytes in prop_oneof![proptest::collection::vec(any::<u8>(), 0..120), proptest::collection::vec(0..6_u8, 0..120)],
    ) {
        agree(&framed(7, &bytes), &learnt(&text));
        agree(&framed(7, &bytes), &all_known());
    }
}

/// Real events are read without the complete decoder; without this, two that always give up would agree, too.
#[test]
fn what_is_usual_is_read_quickly() {
    let schemas = all_known();
    let event = super::decoded(EXAMPLE);
    for bytes in forms(&event) {
        assert!(
            super::super::decode::is_quick(&bytes, &schemas),
            "{}",
            String::from_utf8_lossy(&bytes)
        );
    }
    for more in [
        r#","status":"a\"b\u00e9""#,
        r#","call":{"started_at":1772723760123,"answered":true},"attempt":1"#,
        r#","fields":{"a":1,"b\u0041":"\n","c":null},"extra":{"a":[{},[],1.5e7,"\u00e9"]}"#,
        r#", "inlet" : "crm", "payload" : { "a" : [ 1 , { "b" : "\ud83d" } ] } "#,
        r#","price":42.5,"payout":"1e2","buyer":null,"product":{"id":7}"#,
    ] {
        let json = event_with(more);
        assert!(super::super::decode::is_quick(json.as_bytes(), &schemas), "{more}");
    }
}
