#![expect(clippy::too_many_lines, reason = "tables are long")]

use std::borrow::Cow;

use apache_avro::Schema;
use apache_avro::types::Value as Avro;
use apache_avro::writer::datum::GenericDatumWriter;
use proptest::prelude::*;

use super::decode::{self, DecodeError, lacks};
use super::schemas::{SchemaId, Schemas};
use super::*;
use crate::reason::Reason;

mod twins;

const EXAMPLE: &str = r#"{"event_id":"0190f3c2-6f7b-7c11-9a55-3f0a7be1c001","trigger":"lms.lead_sold",
 "occurred_at":"2026-03-05T15:16:00.123Z","lead_id":"84512377",
 "public_lead_id":"K7Q2M9","status":"Sold","is_test":false,"method":"POST",
 "product":{"id":"12","name":"Auto Insurance"},"publisher":{"id":"3401","name":"BrightTraffic"},
 "channel":{"id":"9012","name":"bt-auto-api"},"source":{"id":"sub-77","name":null},
 "buyer":{"id":"210","name":"SafeDrive"},"campaign":{"id":"5521","name":"SafeDrive TX 25-65"},
 "pingtree":{"id":"31","name":"Auto main"},"price":"42.5000","payout":"29.7500","revenue":null,
 "currency":"USD","reason_code":null,"reason":null,"transaction_id":null,"attempt":null,
 "consumer":{"first_name":"Ana","last_name":"Diaz","email":"ana@example.com","phone":"+15125550123",
             "city":"Austin","state":"TX","zip":"78701","country":"US"},
 "call":null,"fields":{"vehicle_year":"2019"}}"#;

/// Decodes in every way there is.
fn decode<'a>(bytes: &'a [u8], schemas: &Schemas) -> Result<LeadEvent<'a>, DecodeError> {
    twins::agree(bytes, schemas);
    decode::decode(bytes, schemas)
}

fn decoded(json: &str) -> LeadEvent<'_> {
    decode(json.as_bytes(), &Schemas::new()).unwrap()
}

fn refused(bytes: &[u8]) -> DecodeError {
    decode(bytes, &Schemas::new()).unwrap_err()
}

/// The least an event needs, and `more`.
fn event_with(more: &str) -> String {
    format!(r#"{{"event_id":"e","trigger":"t","occurred_at":1772723760,"lead_id":"l"{more}}}"#)
}

fn framed(id: u32, datum: &[u8]) -> Vec<u8> {
    [&[0][..], &id.to_be_bytes(), datum].concat()
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn money(text: &str) -> Decimal {
    text.parse().unwrap()
}

#[test]
fn the_designs_example_reads_whole_and_borrows() {
    let event = decoded(EXAMPLE);
    assert!(matches!(
        event.event_id,
        Cow::Borrowed("0190f3c2-6f7b-7c11-9a55-3f0a7be1c001")
    ));
    assert_eq!(event.occurred_at, at("2026-03-05T15:16:00.123Z"));
    assert_eq!(event.is_test, Some(false));
    assert_eq!(event.price, Some(money("42.5")));
    assert_eq!(event.revenue, None);
    assert!(matches!(
        event.buyer.as_ref().unwrap().name,
        Some(Cow::Borrowed("SafeDrive"))
    ));
    assert_eq!(
        event.source,
        Some(Entity {
            id: Some("sub-77".into()),
            name: None
        })
    );
    assert_eq!(event.consumer.as_ref().unwrap().zip.as_deref(), Some("78701"));
    assert_eq!(event.call, None);
    assert!(matches!(
        event.fields[..],
        [(Cow::Borrowed("vehicle_year"), Some(Cow::Borrowed("2019")))]
    ));
    assert_eq!((event.inlet, event.payload), (None, None));
}

/// What the example writes is what `to_json` writes, but for money's zeros and the fields it leaves out.
#[test]
fn to_json_writes_the_json_form() {
    let mut expected: serde_json::Value = serde_json::from_str(EXAMPLE).unwrap();
    expected["price"] = "42.5".into();
    expected["payout"] = "29.75".into();
    expected["inlet"] = serde_json::Value::Null;
    expected["payload"] = serde_json::Value::Null;
    assert_eq!(decoded(EXAMPLE).to_json(), expected);
}

#[test]
fn json_is_read_as_producers_write_it() {
    type Check = fn(&LeadEvent<'_>) -> bool;
    let cases: [(&str, Check); 27] = [
        (r#","transaction_id":12"#, |event| {
            event.transaction_id.as_deref() == Some("12")
        }),
        (r#","public_lead_id":1.50"#, |event| {
            event.public_lead_id.as_deref() == Some("1.5")
        }),
        (r#","buyer":{"id":8.4512377E7},"publisher":{"id":-0.0}"#, |event| {
            event.buyer.as_ref().unwrap().id.as_deref() == Some("84512377")
                && event.publisher.as_ref().unwrap().id.as_deref() == Some("0")
        }),
        (r#","buyer":{"id":12345678901234567890123}"#, |event| {
            event.buyer.as_ref().unwrap().id.as_deref() == Some("12345678901234567890123")
        }),
        (r#","fields":{"a":1,"b":false,"c":null,"d":1E5}"#, |event| {
            let texts: Vec<_> = event.fields.iter().map(|(_, value)| value.as_deref()).collect();
            texts == [Some("1"), Some("false"), None, Some("1E5")]
        }),
        (r#","fields":null"#, |event| event.fields.is_empty()),
        (r#","fields":{"a\u0041":"\n"}"#, |event| {
            event.fields[..] == [("aA".into(), Some("\n".into()))]
        }),
        (r#","fields":{"a":"1","a":"2"}"#, |event| {
            event.lookup(&Path::parse("fields.a").unwrap()) == Some(Value::Text("2".into()))
                && event.to_json()["fields"]["a"] == "2"
        }),
        (r#","price":42.5"#, |event| event.price == Some(money("42.5"))),
        (r#","price":0.1000000000"#, |event| event.price == Some(money("0.1"))),
        (r#","price":1e2"#, |event| event.price == Some(money("100"))),
        (r#","price":1.25E+2"#, |event| event.price == Some(money("125"))),
        (r#","price":-3"#, |event| event.price == Some(money("-3"))),
        (r#","price":"123456789012.123456""#, |event| {
            event.price == Some(money("123456789012.123456"))
        }),
        (r#","price":999999999999999999"#, |event| {
            event.price == Some(money("999999999999999999"))
        }),
        (r#","call":{"started_at":1772723760123}"#, |event| {
            event.call.as_ref().unwrap().started_at == Some(at("2026-03-05T15:16:00.123Z"))
        }),
        (r#","call":{"started_at":1772723760123.5}"#, |event| {
            event.call.as_ref().unwrap().started_at == Some(at("2026-03-05T15:16:00.1235Z"))
        }),
        (
            r#","call":{"started_at":-1.5e9,"ended_at":1772723760123456}"#,
            |event| {
                let call = event.call.as_ref().unwrap();
                call.started_at == Some(at("1922-06-20T21:20:00Z"))
                    && call.ended_at == Some(at("2026-03-05T15:16:00.123456Z"))
            },
        ),
        (
            r#","call":{"ended_at":"2026-03-05T10:16:00-05:00","billable_seconds":61,"answered":true}"#,
            |event| {
                let call = event.call.as_ref().unwrap();
                call.ended_at == Some(at("2026-03-05T15:16:00Z"))
                    && call.billable_seconds == Some(61)
                    && call.answered == Some(true)
            },
        ),
        (r#","attempt":-2147483648"#, |event| {
            event.attempt == Some(-2_147_483_648)
        }),
        (r#","status":"a\"b\u00e9\ud83d\ude00""#, |event| {
            event.status.as_deref() == Some("a\"bé😀")
        }),
        (r#","st\u0061tus":"x""#, |event| event.status.as_deref() == Some("x")),
        (r#","product":{}"#, |event| event.product == Some(Entity::default())),
        (
            r#","extra":{"a":[{}]},"extra":1,"extra":"\ud800","buyer":{"x":1,"x":2}"#,
            |event| event.buyer == Some(Entity::default()),
        ),
        (r#","payload":{"a":{"b":[1,2.50]}},"inlet":"crm""#, |event| {
            event.payload == Payload::read(r#"{"a":{"b":[1,2.50]}}"#).ok() && event.inlet.as_deref() == Some("crm")
        }),
        (
            r#","payload":null,"price":null,"product":null,"is_test":null"#,
            |event| {
                event.payload.is_none() && event.price.is_none() && event.product.is_none() && event.is_test.is_none()
            },
        ),
        (r#","source":{"id":"","name":""}"#, |event| {
            event.source.as_ref().unwrap().id.as_deref() == Some("")
        }),
    ];
    for (more, holds) in cases {
        let json = event_with(more);
        assert!(holds(&decoded(&json)), "{more}: {:?}", decoded(&json));
    }
}

#[test]
fn required_ids_may_be_numbers_and_blanks_may_stand_in_front() {
    let event =
        decoded("\u{feff}\r\n\t {\"event_id\":7,\"trigger\":\"t\",\"occurred_at\":1772723760,\"lead_id\":84512377} \n");
    assert_eq!((&*event.event_id, &*event.lead_id), ("7", "84512377"));
    decoded(&format!(" \u{feff}{}", event_with("")));
    let longest = "é".repeat(128);
    let json = event_with("").replace("\"e\"", &format!("\"{longest}\""));
    assert_eq!(decoded(&json).event_id, longest);
}

#[test]
fn a_text_that_was_cut_in_an_emoji_is_read_and_an_id_is_not() {
    let json = event_with(
        r#","status":"cut \ud83d","\ud83d":1,"fields":{"\udE00":"\ud83d\ud83d\ude00"},"payload":{"title":"\ud83d","\udc00":1}"#,
    );
    let event = decoded(&json);
    assert_eq!(event.status.as_deref(), Some("cut \u{fffd}"));
    assert_eq!(
        event.fields[..],
        [("\u{fffd}".into(), Some("\u{fffd}\u{1f600}".into()))]
    );
    let payload = event.payload.unwrap();
    assert_eq!(payload.json(), &serde_json::json!({"title": "\u{fffd}", "\u{fffd}": 1}));
    for (json, field) in [
        (
            r#"{"event_id":"e\ud83d","trigger":"t","occurred_at":1772723760,"lead_id":"l"}"#,
            "event_id",
        ),
        (
            r#"{"event_id":"e","trigger":"t","occurred_at":1772723760,"lead_id":"\udc00"}"#,
            "lead_id",
        ),
    ] {
        let error = refused(json.as_bytes());
        let wanted = format!("{field} holds half of a surrogate pair");
        assert_eq!(error.reason(), Some(Reason::InvalidEvent));
        assert!(error.detail().starts_with(&wanted), "{error}");
    }
    // A name that is written with escapes is the field's all the same.
    let json = r#"{"event\u005fid":"e","trigger":"t","occurred_at":1772723760,"lead_id":"\ud83d\ude00"}"#;
    assert_eq!((&*decoded(json).event_id, &*decoded(json).lead_id), ("e", "\u{1f600}"));
}

#[test]
fn unknown_fields_are_left_aside_however_deep() {
    let deep = "[".repeat(100_000) + &"]".repeat(100_000);
    decoded(&event_with(&format!(r#","extra":{deep}"#)));
    let json = event_with(&format!(r#","payload":{{"a":{deep}}}"#));
    assert_eq!(refused(json.as_bytes()).reason(), Some(Reason::InvalidEvent));
}

/// Each with what the detail must say; none may quote a value, which all hold SECRET or 4711.
#[test]
fn invalid_events_name_the_field_and_not_the_value() {
    let cases = [
        (r#","price":"SECRET""#, "price must be a decimal"),
        (r#","price":"""#, "price must be a decimal"),
        (r#","price":" 4711""#, "price must be a decimal"),
        (r#","price":"NaN""#, "price must be a decimal"),
        (r#","payout":"Infinity""#, "payout must be a decimal"),
        (r#","price":1e4711"#, "price must be a decimal"),
        (r#","price":true"#, "price must be a decimal"),
        (r#","price":["SECRET"]"#, "price must be a decimal"),
        (
            r#","revenue":4711.1234567"#,
            "revenue has more than 18 digits or 6 decimals",
        ),
        (r#","price":4711000000000000000"#, "price has more than 18 digits"),
        (
            r#","price":"0.99999999999999999999999999999999""#,
            "price must be a decimal",
        ),
        (
            r#","price":9.9999999999999999999999999999999e1"#,
            "price must be a decimal",
        ),
        (r#","status":4711"#, "status must be a text"),
        (r#","reason":{"SECRET":1}"#, "reason must be a text"),
        (r#","price":"1\ud800""#, "price must be a decimal"),
        (r#","method":true"#, "method must be a text"),
        (r#","is_test":"SECRET""#, "is_test must be true or false"),
        (r#","is_test":4711"#, "is_test must be true or false"),
        (r#","attempt":"4711""#, "attempt must be a whole number"),
        (r#","attempt":4711.5"#, "attempt must be a whole number"),
        (r#","attempt":4711471147114711"#, "attempt must be a whole number"),
        (
            r#","transaction_id":["SECRET"]"#,
            "transaction_id must be a text or a number",
        ),
        (r#","product":"SECRET""#, "product must be an object"),
        (r#","product":4711"#, "product must be an object"),
        (r#","product":["SECRET","SECRET"]"#, "product must be an object"),
        (r#","buyer":{"id":{"SECRET":1}}"#, "buyer.id must be"),
        (r#","buyer":{"name":4711}"#, "buyer.name must be a text"),
        (r#","consumer":{"zip":4711}"#, "consumer.zip must be a text"),
        (r#","call":{"started_at":"SECRET"}"#, "call.started_at must be a time"),
        (
            r#","call":{"started_at":"4711-03-05T15:16:00"}"#,
            "call.started_at must be a time",
        ),
        (r#","call":{"started_at":1e4711}"#, "call.started_at must be a time"),
        (
            r#","call":{"started_at":4711471147114711471147}"#,
            "call.started_at must be a time",
        ),
        (
            r#","call":{"billable_seconds":"4711"}"#,
            "call.billable_seconds must be a whole number",
        ),
        (r#","fields":{"SECRET":{"a":1}}"#, "a value of fields must be"),
        (r#","fields":{"SECRET":["SECRET"]}"#, "a value of fields must be"),
        (r#","fields":"SECRET""#, "fields must be an object"),
        (r#","fields":[4711]"#, "fields must be an object"),
        (r#","payload":"SECRET""#, "payload must be a JSON object"),
        (r#","payload":"{\"a\":\"SECRET\"}""#, "payload must be a JSON object"),
        (r#","payload":["SECRET"]"#, "payload must be a JSON object"),
        (r#","lead_id":"SECRET""#, "lead_id is given twice"),
        (r#","status":null,"status":"SECRET""#, "status is given twice"),
        (r#","status":"SECRET","stat\u0075s":null"#, "status is given twice"),
        (r#","buyer":{"id":"SECRET","id":4711}"#, "buyer.id is given twice"),
        (r#","fields":{},"fields":{}"#, "fields is given twice"),
    ];
    for (more, detail) in cases {
        let error = refused(event_with(more).as_bytes());
        assert_eq!(error.reason(), Some(Reason::InvalidEvent), "{more}: {error}");
        assert!(error.detail().starts_with(detail), "{more}: {error}");
        assert!(
            !error.detail().contains("SECRET") && !error.detail().contains("4711"),
            "{more}: {error}"
        );
    }
}

#[test]
fn invalid_events_by_their_required_fields() {
    let long = format!("\"{}\"", "x".repeat(257));
    for (field, valid, bad, detail) in [
        ("event_id", "\"e\"", "null", "event_id is required and must not be null"),
        ("event_id", "\"e\"", "\"\"", "event_id must not be blank"),
        ("event_id", "\"e\"", "\" \\t\"", "event_id must not be blank"),
        (
            "event_id",
            "\"e\"",
            "\"cut \u{fffd}\"",
            "event_id holds half of a surrogate pair",
        ),
        ("event_id", "\"e\"", "1e+21", "event_id is a float too large"),
        ("event_id", "\"e\"", "true", "event_id must be a text or a number"),
        ("event_id", "\"e\"", "{\"a\":1}", "event_id must be a text or a number"),
        ("event_id", "\"e\"", &long, "event_id must have 1 to 256 bytes"),
        ("event_id", "\"e\"", "[]", "event_id must be a text"),
        ("trigger", "\"t\"", "null", "trigger is required and must not be null"),
        ("trigger", "\"t\"", "\"\"", "trigger must not be empty"),
        ("trigger", "\"t\"", "5", "trigger must be a text"),
        (
            "occurred_at",
            "1772723760",
            "null",
            "occurred_at is required and must not be null",
        ),
        (
            "occurred_at",
            "1772723760",
            "\"2026-03-05\"",
            "occurred_at must be a time",
        ),
        ("occurred_at", "1772723760", "true", "occurred_at must be a time"),
        ("lead_id", "\"l\"", "null", "lead_id is required and must not be null"),
        ("occurred_at", "1772723760", "0", "occurred_at must be a time"),
        ("occurred_at", "1772723760", "45123.5", "occurred_at must be a time"),
        ("occurred_at", "1772723760", "19900115", "occurred_at must be a time"),
        (
            "occurred_at",
            "1772723760",
            "20260305151600",
            "occurred_at must be a time",
        ),
        (
            "occurred_at",
            "1772723760",
            "1772723760123456789",
            "occurred_at must be a time",
        ),
        ("lead_id", "\"l\"", "\"\"", "lead_id must not be blank"),
        (
            "lead_id",
            "\"l\"",
            "\"\u{fffd}\"",
            "lead_id holds half of a surrogate pair",
        ),
        ("lead_id", "\"l\"", "[\"l\"]", "lead_id must be a text or a number"),
        ("lead_id", "\"l\"", "false", "lead_id must be a text or a number"),
    ] {
        let json = event_with("").replace(&format!("\"{field}\":{valid}"), &format!("\"{field}\":{bad}"));
        let error = refused(json.as_bytes());
        assert_eq!(error.reason(), Some(Reason::InvalidEvent), "{json}: {error}");
        assert!(error.detail().starts_with(detail), "{json}: {error}");

        let json = event_with("").replace(&format!("\"{field}\":{valid}"), "\"x\":0");
        let expected = format!("{field} is required and missing");
        assert!(refused(json.as_bytes()).detail().starts_with(&expected), "{json}");
    }
}

#[test]
fn broken_bytes_are_not_decodable_whatever_else_is_wrong() {
    let event = event_with("");
    let cases: Vec<Vec<u8>> = vec![
        b"".into(),
        b" ".into(),
        b"\xEF\xBB\xBF".into(),
        b"null".into(),
        b"[]".into(),
        b"\"text\"".into(),
        b"lead".into(),
        b"Obj\x01".into(),
        b"\xC3".into(),
        b"\xC3\x01".into(),
        b"\xC3\x01\x00\x00\x00\x00\x00\x00\x00".into(),
        b"\xC3\x02\x00\x00\x00\x00\x00\x00\x00\x00".into(),
        b"\x00".into(),
        b"\x00\x00\x00\x01".into(),
        b"\x01\x00\x00\x01".into(),
        b"{".into(),
        event[..event.len() - 1].into(),
        (event.clone() + "x").into(),
        (event.clone() + &event).into(),
        event.replace("\"l\"", "\"l\",").into(),
        event.replace("\"l\"", "nope").into(),
        event.replace("\"l\"", "{\"a\":}").into(),
        event.replace("\"l\"", "\"\\x\"").into(),
        event.replace("\"l\"", "\"a\nb\"").into(),
        event_with(",\"extra\":01").into(),
        event_with(",\"price\":.5").into(),
        event_with(",\"price\":NaN").into(),
        event_with(",\"product\":nope").into(),
        event_with(",\"fields\":nope").into(),
        event_with(",\"extra\":\"\u{0}\"").into(),
        // Invalid first, broken later.
        event_with(",\"status\":5,\"x\":[1,]").into(),
        (event_with(",\"status\":5") + "}").into(),
        event_with(",\"product\":5,\"x\":").into(),
        [event_with(",\"x\":\"").as_bytes(), b"\xFF\"}"].concat(),
    ];
    for bytes in cases {
        let error = refused(&bytes);
        let shown = String::from_utf8_lossy(&bytes);
        assert_eq!(error.reason(), Some(Reason::NotDecodable), "{shown}: {error}");
    }
}

#[test]
fn fingerprints_are_those_of_other_libraries() {
    // Avro's own test vector for the algorithm, over the canonical form.
    let int = Schema::parse_str("\"int\"")
        .unwrap()
        .fingerprint::<apache_avro::rabin::Rabin>();
    assert_eq!(int.bytes, 0x7275_d51a_3f39_5c8f_u64.to_le_bytes());

    // By fastavro 1.13.1, which takes logical types away as Java does, and by apache-avro 0.22, which leaves parts of
    // them behind. A change of the schema changes both: keep the former version in `schemas/`.
    let event = decoded(EXAMPLE);
    let datum = encode::datum(&event).unwrap();
    for fingerprint in [hex("f3185638ce6c40cf"), hex("c08e51f08dd6f4e0")] {
        let bytes = [&[0xC3, 0x01][..], &fingerprint, &datum].concat();
        assert_eq!(decode(&bytes, &Schemas::new()).as_ref(), Ok(&event));
    }
    assert_eq!(encode::single_object(&event).unwrap()[2..10], hex("f3185638ce6c40cf"));

    let unknown = [&[0xC3, 0x01][..], &hex("0123456789abcdef"), &datum].concat();
    assert_eq!(refused(&unknown).reason(), Some(Reason::UnknownSchema));
    assert!(refused(&unknown).detail().contains("efcdab8967452301"));
}

fn hex(text: &str) -> Vec<u8> {
    let pairs = text.as_bytes().chunks(2);
    pairs
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

#[test]
fn a_registered_schema_is_asked_for_then_used_or_denied() {
    let event = decoded(EXAMPLE);
    let datum = encode::datum(&event).unwrap();
    let by_id = framed(7, &datum);
    let guid = [9; 16];
    let by_guid = [&[1][..], &guid, &datum].concat();
    let mut schemas = Schemas::new();
    for (bytes, id) in [(by_id, SchemaId::Id(7)), (by_guid, SchemaId::Guid(guid))] {
        let needs = DecodeError::NeedsSchema(id);
        assert_eq!(decode(&bytes, &schemas), Err(needs.clone()));
        assert_eq!((needs.reason(), needs.detail()), (None, ""));

        schemas.deny(id, "the schema registry doesn't know it");
        let denied = decode(&bytes, &schemas).unwrap_err();
        assert_eq!(denied.reason(), Some(Reason::UnknownSchema));
        assert!(
            denied
                .detail()
                .ends_with(&format!("{id}: the schema registry doesn't know it")),
            "{denied}"
        );

        schemas.learn(id, include_str!("../../schemas/lead_event.avsc"), &[]);
        assert_eq!(decode(&bytes, &schemas).as_ref(), Ok(&event));
        let longer = [&bytes[..], &[0]].concat();
        assert_eq!(
            decode(&longer, &schemas).unwrap_err().reason(),
            Some(Reason::NotDecodable)
        );
    }
    assert_eq!(SchemaId::Guid(guid).to_string(), "09090909-0909-0909-0909-090909090909");
}

#[test]
fn registered_schemas_that_are_none_are_denied_and_do_not_pile_up() {
    let mut schemas = Schemas::new();
    let text = r#"{"type":"record","name":"R","fields":[{"name":"a","type":"Missing"}]}"#;
    for schema in ["", "{}", "\"string\"", r#"{"type":"map","values":"int"}"#, text] {
        schemas.learn(SchemaId::Id(1), schema, &[]);
        let error = decode(&framed(1, &[0]), &schemas).unwrap_err();
        assert_eq!(error.reason(), Some(Reason::UnknownSchema), "{schema}");
    }
    schemas.learn(SchemaId::Id(2), include_str!("../../schemas/lead_event.avsc"), &[]);
    (10..5_000).for_each(|id| schemas.deny(SchemaId::Id(id), "no"));
    assert!(
        schemas.by_id(SchemaId::Id(10)).is_none(),
        "the oldest denials are forgotten"
    );
    assert!(schemas.by_id(SchemaId::Id(4_999)).is_some_and(|known| known.is_err()));
    assert!(schemas.by_id(SchemaId::Id(2)).is_some_and(|known| known.is_ok()));
}

#[test]
fn what_is_known_of_an_id_is_decided_at_once() {
    // No registry numbers its schemas like that.
    let mut schemas = Schemas::new();
    for id in [u32::MAX, 1 << 31] {
        let error = decode(&framed(id, &[0]), &schemas).unwrap_err();
        assert_eq!(error.reason(), Some(Reason::UnknownSchema), "{id}");
        assert_eq!(lacks(&framed(id, &[0]), &schemas), None);
    }
    assert_eq!(lacks(&framed(1, &[0]), &schemas), Some(SchemaId::Id(1)));
    assert_eq!(lacks(b"{}", &schemas), None);
    schemas.without_registry();
    let by_guid = [&[1][..], &[9; 16], &[0]].concat();
    for bytes in [framed(1, &[0]), framed(0, &[]), by_guid] {
        let error = decode(&bytes, &schemas).unwrap_err();
        assert_eq!(error.reason(), Some(Reason::UnknownSchema));
        assert!(error.detail().contains("schema_registry.url"), "{error}");
        assert_eq!(lacks(&bytes, &schemas), None);
    }
}

#[test]
fn a_refused_id_is_asked_for_again_after_a_minute() {
    let (mut schemas, start) = (Schemas::new(), std::time::Instant::now());
    let at = |seconds| start + std::time::Duration::from_secs(seconds);
    schemas.at(start);
    schemas.deny(SchemaId::Id(1), "no");
    schemas.at(at(30));
    schemas.deny(SchemaId::Id(2), "no");
    schemas.at(at(59));
    assert!(schemas.by_id(SchemaId::Id(1)).is_some());
    schemas.at(at(60));
    assert!(schemas.by_id(SchemaId::Id(1)).is_none());
    assert!(schemas.by_id(SchemaId::Id(2)).is_some());
    // Refused again, it is refused from then on.
    schemas.deny(SchemaId::Id(2), "no");
    schemas.at(at(119));
    assert!(schemas.by_id(SchemaId::Id(2)).is_some());
    schemas.at(at(120));
    assert!(schemas.by_id(SchemaId::Id(2)).is_none());
}

#[test]
fn hostile_schemas_cost_what_they_weigh() {
    use std::fmt::Write as _;
    let record = |fields: &str| format!(r#"{{"type":"record","name":"R","fields":[{fields}]}}"#);
    let nested = |depth: usize| {
        let (open, close) = (r#"{"type":"array","items":"#.repeat(depth), "}".repeat(depth));
        record(&format!(r#"{{"name":"f","type":{open}"int"{close}}}"#))
    };
    let many = |count: usize, of: &dyn Fn(usize) -> String| {
        let mut fields = String::new();
        for number in 0..count {
            let comma = if number == 0 { "" } else { "," };
            write!(fields, r#"{comma}{{"name":"f{number}","type":{}}}"#, of(number)).unwrap();
        }
        record(&fields)
    };
    let symbols: Vec<String> = (0..4000).map(|number| format!("\"S{number}\"")).collect();
    let symbols = format!(r#"{{"type":"enum","name":"E","symbols":[{}]}}"#, symbols.join(","));
    let namespace = format!(
        r#"{{"type":"record","name":"N","namespace":"{}","fields":[]}}"#,
        "n".repeat(100_000)
    );
    let mut schemas = Schemas::new();
    for (what, schema, known) in [
        ("wide", many(5_000, &|_| "\"int\"".into()), true),
        ("wider", many(60_000, &|_| "\"int\"".into()), false),
        (
            "one enum, many times",
            many(5_000, &|number| {
                if number == 0 { symbols.clone() } else { "\"E\"".into() }
            }),
            true,
        ),
        (
            "many records",
            many(2_500, &|number| {
                format!(r#"{{"type":"record","name":"N{number}","fields":[]}}"#)
            }),
            true,
        ),
        (
            "a union of many",
            many(1, &|_| {
                let records: Vec<String> = (0..4_000)
                    .map(|number| format!(r#"{{"type":"record","name":"N{number}","fields":[]}}"#))
                    .collect();
                format!("[{}]", records.join(","))
            }),
            true,
        ),
        ("deep", nested(40), true),
        ("deeper", nested(100_000), false),
        ("a long namespace", many(1, &|_| namespace.clone()), false),
        (
            "many aliases",
            many(1, &|_| {
                let aliases: Vec<String> = (0..20_000).map(|number| format!("\"a{number}\"")).collect();
                format!(
                    r#"{{"type":"record","name":"N","aliases":[{}],"fields":[]}}"#,
                    aliases.join(",")
                )
            }),
            true,
        ),
        (
            "many defaults",
            many(1, &|_| {
                let defaults = "[".repeat(60) + &"]".repeat(60);
                let field = |number: usize| format!(r#"{{"name":"g{number}","type":"int","default":{defaults}}}"#);
                let fields: Vec<String> = (0..5_000).map(field).collect();
                format!(r#"{{"type":"record","name":"N","fields":[{}]}}"#, fields.join(","))
            }),
            true,
        ),
        (
            "records round a wide one",
            {
                let wide = many(5_000, &|_| "\"int\"".into());
                (0..30).fold(wide.replace("\"R\"", "\"W\""), |inner, number| {
                    format!(r#"{{"type":"record","name":"O{number}","fields":[{{"name":"f","type":{inner}}}]}}"#)
                })
            },
            true,
        ),
        ("itself", record(r#"{"name":"f","type":["null","R"]}"#), true),
        ("itself without an end", record(r#"{"name":"f","type":"R"}"#), true),
    ] {
        // The work is bounded by what is learnt at most; a square or an exponent shows as a test without an end.
        schemas.learn(SchemaId::Id(1), &schema, &[]);
        let found = schemas.by_id(SchemaId::Id(1)).unwrap().map(|_| ());
        assert_eq!(found.is_ok(), known, "{what}: {found:?}");
        assert!(decode(&framed(1, &[0; 100]), &schemas).is_err(), "{what}");
    }
}

#[test]
fn a_field_is_found_among_tens_of_thousands_and_of_two_the_last() {
    for count in [3, 16, 17, 50_000] {
        let fields: Vec<String> = (0..count)
            .map(|number| format!(r#""f{number}":"v{number}","f{}":null"#, count + number))
            .collect();
        let text = event_with(&format!(r#","fields":{{"f1":"first",{}}}"#, fields.join(",")));
        let event = decoded(&text);
        let of = |name: &str| {
            let path = Path::parse(&format!("$.fields.{name}")).unwrap();
            event.lookup(&path).map(|value| value.to_text().into_owned())
        };
        for number in [0, 1, 2, count - 1] {
            assert_eq!(of(&format!("f{number}")), Some(format!("v{number}")), "{count}");
        }
        assert_eq!(
            (of(&format!("f{count}")), of("nowhere"), of("a"), of("z")),
            (None, None, None, None)
        );
        let path = Path::parse("$.fields.f1").unwrap();
        // As many rules as a large house has. A look through all of the fields for each would take minutes.
        for _ in 0..100_000 {
            assert!(event.lookup(&path).is_some());
        }
    }
}

#[test]
fn what_is_learnt_does_not_pile_up() {
    let filler = "x".repeat(1_000_000);
    let schema = format!(r#"{{"type":"record","name":"R","doc":"{filler}","fields":[]}}"#);
    let mut schemas = Schemas::new();
    for id in 0..100 {
        schemas.learn(SchemaId::Id(id), &schema, &[]);
    }
    let known = (0..100).filter(|id| schemas.by_id(SchemaId::Id(*id)).is_some());
    // The last ones, and as many as are asked for at once.
    assert_eq!(known.collect::<Vec<u32>>(), (67..100).collect::<Vec<u32>>());
}

#[test]
fn a_schema_is_read_with_those_it_refers_to() {
    let party = r#"{"type":"record","name":"Party","namespace":"other","fields":[{"name":"id","type":"long"}]}"#;
    let event = writer(r#"{"name":"buyer","type":["null","other.Party"]},{"name":"product","type":"other.Party"}"#);
    let mut schemas = Schemas::new();
    schemas.learn(SchemaId::Id(7), &event, &[party.to_owned()]);
    let datum = [&required()[..], &[2, 24, 26]].concat();
    let bytes = framed(7, &datum);
    let event = decode(&bytes, &schemas).unwrap();
    assert_eq!(event.buyer.unwrap().id.as_deref(), Some("12"));
    assert_eq!(event.product.unwrap().id.as_deref(), Some("13"));
}

#[test]
fn what_a_schema_refers_to_ends_nothing() {
    let refused = |schema: &str, references: &[String]| {
        let mut schemas = Schemas::new();
        schemas.learn(SchemaId::Id(7), schema, references);
        let found = schemas.by_id(SchemaId::Id(7)).unwrap();
        found.err().map(str::to_owned)
    };
    // The parser files it under the name within.
    let renamed = r#"{"name":"A","type":{"type":"record","name":"B","fields":[{"name":"f","type":"int"}]}}"#;
    for reference in [
        renamed,
        r#"{"name":"A","type":["null"]}"#,
        r#"{"name":"A","type":"string"}"#,
        "[]",
    ] {
        let why = refused(&writer(r#"{"name":"f","type":"int"}"#), &[reference.to_owned()]).unwrap();
        assert!(why.contains("no record, enum or fixed"), "{reference}: {why}");
    }
    // Each of the chain holds so many lists in one another, and at their bottom the next.
    let chain = |count: usize, lists: usize| -> Vec<String> {
        let one = |number: usize| {
            let next = if number + 1 < count {
                format!("\"R{}\"", number + 1)
            } else {
                "\"int\"".to_owned()
            };
            let open = r#"{"type":"array","items":"#.repeat(lists);
            let items = format!("{open}{next}{}", "}".repeat(lists));
            format!(r#"{{"type":"record","name":"R{number}","fields":[{{"name":"f","type":{items}}}]}}"#)
        };
        (0..count).map(one).collect()
    };
    let schema = r#"{"type":"record","name":"Root","fields":[{"name":"f","type":"R0"}]}"#;
    let why = refused(schema, &chain(64, 120)).unwrap();
    assert!(why.contains("levels together"), "{why}");
    // As deep as may be fits into a worker's stack, and so does a chain of flat records.
    for (count, lists) in [(3, 120), (64, 3)] {
        assert_eq!(refused(schema, &chain(count, lists)), None, "{count} of {lists}");
    }
}

/// A writer schema of the required fields and `more`.
fn writer(more: &str) -> String {
    format!(
        r#"{{"type":"record","name":"Sold","namespace":"old","fields":[{{"name":"event_id","type":"string"}},
        {{"name":"trigger","type":"string"}},{{"name":"occurred_at","type":"long"}},{{"name":"lead_id","type":"string"}},
        {more}]}}"#
    )
}

/// The bytes of the required fields: e, t, 1,772,723,760 seconds, l.
fn required() -> Vec<u8> {
    vec![2, b'e', 2, b't', 0xE0, 0xF8, 0xCC, 0x9A, 0x0D, 2, b'l']
}

fn written(schema: &str, value: Avro) -> Vec<u8> {
    let schema = Schema::parse_str(schema).unwrap();
    let writer = GenericDatumWriter::builder(&schema).build().unwrap();
    writer.write_value_to_vec(value).unwrap()
}

/// An Avro event of the required fields and one more, as its writer's library writes it.
fn evolved(more: &str, field: &str, value: Avro) -> (String, Vec<u8>) {
    let schema = writer(more);
    let members = vec![
        ("event_id".to_owned(), Avro::String("e".into())),
        ("trigger".to_owned(), Avro::String("t".into())),
        ("occurred_at".to_owned(), Avro::Long(1_772_723_760)),
        ("lead_id".to_owned(), Avro::String("l".into())),
        (field.to_owned(), value),
    ];
    let datum = written(&schema, Avro::Record(members));
    (schema, datum)
}

fn decimal_value(unscaled: i64) -> Avro {
    Avro::Decimal(unscaled.to_be_bytes().into())
}

/// The type of one field as a writer had it, its value, and what the event's JSON form then says there.
#[test]
fn what_a_writer_may_have_in_place_of_our_type() {
    let some = |value: Avro| Avro::Union(1, Box::new(value));
    let cases: Vec<(&str, &str, Avro, &str)> = vec![
        (
            "price",
            r#"{"type":"bytes","logicalType":"decimal","precision":10,"scale":2}"#,
            decimal_value(4250),
            r#""42.5""#,
        ),
        (
            "price",
            r#"{"type":"bytes","logicalType":"decimal","precision":10,"scale":2}"#,
            decimal_value(-1),
            r#""-0.01""#,
        ),
        (
            "price",
            r#"{"type":"bytes","logicalType":"decimal","precision":18,"scale":6}"#,
            decimal_value(1),
            r#""0.000001""#,
        ),
        (
            "price",
            r#"{"type":{"type":"fixed","name":"F","size":8},"logicalType":"decimal","precision":9,"scale":4}"#,
            decimal_value(-123_456),
            r#""-12.3456""#,
        ),
        (
            "price",
            r#"{"type":"bytes","logicalType":"decimal","precision":38,"scale":2}"#,
            Avro::Decimal([0xFF; 20].into()),
            r#""-0.01""#,
        ),
        ("price", r#""string""#, Avro::String("42.50".into()), r#""42.5""#),
        ("price", r#"["null","int"]"#, some(Avro::Int(42)), r#""42""#),
        ("price", r#""long""#, Avro::Long(42), r#""42""#),
        (
            "price",
            r#"["null","string"]"#,
            Avro::Union(0, Box::new(Avro::Null)),
            "null",
        ),
        ("attempt", r#""long""#, Avro::Long(3), "3"),
        ("is_test", r#""boolean""#, Avro::Boolean(true), "true"),
        ("status", r#""bytes""#, Avro::Bytes("Söld".into()), r#""Söld""#),
        (
            "status",
            r#"["string","null"]"#,
            Avro::Union(0, Box::new(Avro::String("Sold".into()))),
            r#""Sold""#,
        ),
        (
            "status",
            r#"["null","int","string"]"#,
            Avro::Union(2, Box::new(Avro::String("Sold".into()))),
            r#""Sold""#,
        ),
        (
            "method",
            r#"{"type":"enum","name":"Method","symbols":["POST","FORM"]}"#,
            Avro::Enum(1, "FORM".into()),
            r#""FORM""#,
        ),
        ("transaction_id", r#""long""#, Avro::Long(-77), r#""-77""#),
        (
            "transaction_id",
            r#"{"type":"string","logicalType":"uuid"}"#,
            Avro::Uuid(uuid::Uuid::from_u128(1)),
            r#""00000000-0000-0000-0000-000000000001""#,
        ),
        (
            "transaction_id",
            r#"{"type":{"type":"fixed","name":"U","size":16},"logicalType":"uuid"}"#,
            Avro::Uuid(uuid::Uuid::from_u128(1)),
            r#""00000000-0000-0000-0000-000000000001""#,
        ),
        (
            "fields",
            r#"{"type":"map","values":["null","int"]}"#,
            Avro::Map([("n".to_owned(), some(Avro::Int(5)))].into()),
            r#"{"n":"5"}"#,
        ),
        (
            "payload",
            r#""string""#,
            Avro::String(r#" {"a":1.50} "#.into()),
            r#"{"a":1.50}"#,
        ),
        (
            "payload",
            r#""string""#,
            Avro::String(r#"{"a":"cut \ud83d"}"#.into()),
            "{\"a\":\"cut \u{fffd}\"}",
        ),
        (
            "buyer",
            r#"{"type":"record","name":"Buyer","fields":[{"name":"tier","type":"int"},{"name":"id","type":"int"}]}"#,
            Avro::Record(vec![("tier".into(), Avro::Int(1)), ("id".into(), Avro::Int(210))]),
            r#"{"id":"210","name":null}"#,
        ),
        (
            "call",
            r#"{"type":"record","name":"C","fields":[{"name":"started_at","type":{"type":"long","logicalType":"timestamp-micros"}}]}"#,
            Avro::Record(vec![("started_at".into(), Avro::TimestampMicros(1_500_000))]),
            "",
        ),
        (
            "invented",
            r#"{"type":"array","items":["null","double"]}"#,
            Avro::Array(vec![some(Avro::Double(0.5)), Avro::Union(0, Box::new(Avro::Null))]),
            "absent",
        ),
        (
            "invented",
            r#"{"type":"map","values":{"type":"array","items":"string"}}"#,
            Avro::Map([("n".to_owned(), Avro::Array(vec![Avro::String("x".into())]))].into()),
            "absent",
        ),
        (
            "invented",
            r#"{"type":"fixed","name":"F","size":3}"#,
            Avro::Fixed(3, vec![1, 2, 3]),
            "absent",
        ),
    ];
    for (field, kind, value, expected) in cases {
        let (schema, datum) = evolved(&format!(r#"{{"name":"{field}","type":{kind}}}"#), field, value);
        let mut schemas = Schemas::new();
        schemas.learn(SchemaId::Id(7), &schema, &[]);
        let bytes = framed(7, &datum);
        let json = decode(&bytes, &schemas)
            .unwrap_or_else(|error| panic!("{field} as {kind}: {error}"))
            .to_json();
        match expected {
            "absent" => assert!(json.get(field).is_none(), "{field} as {kind}"),
            "" => assert_eq!(json["call"]["started_at"], "1970-01-01T00:00:01.5Z"),
            expected => assert_eq!(json[field].to_string(), expected, "{field} as {kind}"),
        }
        assert_eq!(json["lead_id"], "l");
    }
}

#[test]
fn what_no_field_takes_from_a_writer() {
    let cases: Vec<(&str, &str, Avro, &str)> = vec![
        ("price", r#""double""#, Avro::Double(42.5), "price must be a decimal"),
        ("price", r#""float""#, Avro::Float(42.5), "price must be a decimal"),
        (
            "price",
            r#""bytes""#,
            Avro::Bytes(vec![0xFF, 0x10]),
            "price must be a decimal",
        ),
        (
            "price",
            r#"{"type":"bytes","logicalType":"decimal","precision":38,"scale":2}"#,
            Avro::Decimal([0x7F; 17].into()),
            "price must be a decimal",
        ),
        (
            "price",
            r#"{"type":"bytes","logicalType":"decimal","precision":38,"scale":2}"#,
            Avro::Decimal([&[0][..], &[0xFF; 16]].concat().into()),
            "price must be a decimal",
        ),
        (
            "price",
            r#"{"type":"bytes","logicalType":"decimal","precision":38,"scale":8}"#,
            decimal_value(1),
            "price has more",
        ),
        (
            "payout",
            r#""string""#,
            Avro::String("4711 SECRET".into()),
            "payout must be a decimal",
        ),
        ("status", r#""int""#, Avro::Int(4711), "status must be a text"),
        (
            "attempt",
            r#""long""#,
            Avro::Long(4_711_471_147_114_711),
            "attempt must be a whole number of 32 bits",
        ),
        (
            "buyer",
            r#""string""#,
            Avro::String("SECRET".into()),
            "buyer must be a record",
        ),
        (
            "fields",
            r#""string""#,
            Avro::String("SECRET".into()),
            "fields must be a map",
        ),
        (
            "fields",
            r#"{"type":"map","values":{"type":"array","items":"int"}}"#,
            Avro::Map([("SECRET".to_owned(), Avro::Array(vec![]))].into()),
            "fields has a value that must be",
        ),
        (
            "payload",
            r#""string""#,
            Avro::String("[\"SECRET\"]".into()),
            "payload must be a JSON object",
        ),
        (
            "payload",
            r#""string""#,
            Avro::String("{\"SECRET\"".into()),
            "payload must be a JSON object",
        ),
        (
            "call",
            r#"{"type":"record","name":"C","fields":[{"name":"ended_at","type":{"type":"int","logicalType":"date"}}]}"#,
            Avro::Record(vec![("ended_at".into(), Avro::Date(4711))]),
            "call.ended_at must be a time",
        ),
        (
            "call",
            r#"{"type":"record","name":"C","fields":[{"name":"ended_at","type":"long"}]}"#,
            Avro::Record(vec![("ended_at".into(), Avro::Long(i64::MAX))]),
            "call.ended_at must be a time",
        ),
    ];
    for (field, kind, value, detail) in cases {
        let (schema, datum) = evolved(&format!(r#"{{"name":"{field}","type":{kind}}}"#), field, value);
        let mut schemas = Schemas::new();
        schemas.learn(SchemaId::Id(7), &schema, &[]);
        let error = decode(&framed(7, &datum), &schemas).unwrap_err();
        assert_eq!(error.reason(), Some(Reason::InvalidEvent), "{field} as {kind}: {error}");
        assert!(error.detail().starts_with(detail), "{field} as {kind}: {error}");
        assert!(
            !error.detail().contains("SECRET") && !error.detail().contains("4711"),
            "{error}"
        );
        // Broken bytes come first, even behind the invalid field.
        let longer = framed(7, &[&datum[..], &[0]].concat());
        assert_eq!(
            decode(&longer, &schemas).unwrap_err().reason(),
            Some(Reason::NotDecodable),
            "{field} as {kind}"
        );
    }
}

#[test]
fn fields_may_be_reordered_gone_or_renamed() {
    let field = |name: &str, kind: &str| format!(r#"{{"name":"{name}","type":{kind}}}"#);
    let record = |fields: &[String]| {
        format!(
            r#"{{"type":"record","name":"LeadEvent","fields":[{}]}}"#,
            fields.join(",")
        )
    };
    let writer = record(&[
        field("lead_no", r#""int""#),
        field(
            "occurred_at",
            r#"["null",{"type":"long","logicalType":"timestamp-millis"}]"#,
        ),
        field("trigger", r#""string""#),
        field("event_id", r#""string""#),
    ]);
    let datum = [20, 2, 0xB8, 0x17, 2, b't', 2, b'e'];
    let aliased = include_str!("../../schemas/lead_event.avsc").replace(
        r#"{"name": "lead_id","#,
        r#"{"name": "lead_id", "aliases": ["lead_no"],"#,
    );
    let mut schemas = Schemas::of(&[&aliased]).unwrap();
    schemas.learn(SchemaId::Id(7), &writer, &[]);
    let bytes = framed(7, &datum);
    let event = decode(&bytes, &schemas).unwrap();
    assert_eq!((&*event.event_id, &*event.trigger, &*event.lead_id), ("e", "t", "10"));
    assert_eq!(event.occurred_at, at("1970-01-01T00:00:01.5Z"));

    // Without the alias the field is unknown, and a required one missing.
    let mut schemas = Schemas::new();
    schemas.learn(SchemaId::Id(7), &writer, &[]);
    assert_eq!(
        decode(&bytes, &schemas).unwrap_err().detail(),
        "lead_id is required and missing"
    );
    let nothing = framed(7, &[20, 0, 2, b't', 2, b'e']);
    let error = decode(&nothing, &schemas).unwrap_err();
    assert_eq!(error.detail(), "occurred_at is required and must not be null");
}

#[test]
fn hostile_datums_end_quickly() {
    let huge = [0xFE, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F];
    let least = [0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x01];
    let nested = r#"{"type":"record","name":"N","fields":[{"name":"n","type":"N"}]}"#;
    let listed = r#"{"type":"record","name":"N","fields":[{"name":"n","type":["null","N"]}]}"#;
    let cases: Vec<(&str, Vec<u8>)> = vec![
        (r#"{"type":"map","values":"string"}"#, huge.into()),
        (r#"{"type":"array","items":"null"}"#, huge.into()),
        (r#"{"type":"array","items":"null"}"#, [&least[..], &[0]].concat()),
        (
            r#"{"type":"array","items":{"type":"array","items":"null"}}"#,
            [&[4][..], &huge].concat(),
        ),
        (r#""string""#, huge.into()),
        (r#""string""#, vec![1]),
        (r#""bytes""#, least.into()),
        (r#""long""#, vec![0xFF; 11]),
        (r#""long""#, [&[0xFF; 9][..], &[2]].concat()),
        (r#""boolean""#, vec![2]),
        (r#""string""#, vec![2, 0xFF]),
        (r#"["null","int"]"#, vec![4]),
        (r#"["null","int"]"#, vec![1]),
        (r#"{"type":"enum","name":"E","symbols":["A"]}"#, vec![2]),
        (r#"{"type":"fixed","name":"F","size":4000000000}"#, vec![2]),
        (nested, vec![]),
        (listed, vec![2; 100_000]),
    ];
    for name in ["fields", "status", "invented"] {
        for (kind, bytes) in &cases {
            let mut schemas = Schemas::new();
            schemas.learn(
                SchemaId::Id(7),
                &writer(&format!(r#"{{"name":"{name}","type":{kind}}}"#)),
                &[],
            );
            let bytes = framed(7, &[&required()[..], bytes].concat());
            let error = decode(&bytes, &schemas).unwrap_err();
            assert_eq!(error.reason(), Some(Reason::NotDecodable), "{name} as {kind}: {error}");
        }
    }
}

#[test]
fn events_that_the_schema_cannot_hold_are_not_written() {
    for (more, field) in [
        (r#","price":"1.00001""#, "price"),
        (r#","revenue":12345678901"#, "revenue"),
    ] {
        let json = event_with(more);
        let error = encode::datum(&decoded(&json)).unwrap_err();
        assert!(
            error.to_string().starts_with(&format!("{field} does not fit")),
            "{error}"
        );
        assert!(error.to_string().contains("decimal(14,4)"), "{error}");
    }
    let json = event_with(r#","price":-9999999999.9999"#);
    encode::datum(&decoded(&json)).unwrap();
}

fn text() -> impl Strategy<Value = Text<'static>> {
    prop_oneof!["[ -~]{0,12}", "\\PC{0,6}", "[\\x00-\\x1f\"\\\\/é😀]{0,6}"].prop_map(Cow::Owned)
}

fn id() -> impl Strategy<Value = Text<'static>> {
    prop_oneof!["[a-z0-9-]{1,36}", "\\PC{1,20}"]
        .prop_filter("an id", |id| crate::ids::wrong_text(id).is_none())
        .prop_map(Cow::Owned)
}

fn maybe_text() -> impl Strategy<Value = Option<Text<'static>>> {
    proptest::option::of(text())
}

fn time() -> impl Strategy<Value = Timestamp> {
    (-60_000_000_000_000_i64..250_000_000_000_000).prop_map(|millis| Timestamp::from_millisecond(millis).unwrap())
}

fn amount() -> impl Strategy<Value = Option<Decimal>> {
    let amount = (-99_999_999_999_999_i64..=99_999_999_999_999).prop_map(|units| Decimal::new(units, 4));
    proptest::option::of(prop_oneof![
        amount,
        (-300_i64..300).prop_map(|units| Decimal::new(units, 4))
    ])
}

fn entity() -> impl Strategy<Value = Option<Entity<'static>>> {
    proptest::option::of((maybe_text(), maybe_text()).prop_map(|(id, name)| Entity { id, name }))
}

fn consumer() -> impl Strategy<Value = Option<Consumer<'static>>> {
    let texts = proptest::collection::vec(maybe_text(), 8);
    proptest::option::of(texts.prop_map(|texts| {
        let [first_name, last_name, email, phone, city, state, zip, country] = texts.try_into().unwrap();
        Consumer {
            first_name,
            last_name,
            email,
            phone,
            city,
            state,
            zip,
            country,
        }
    }))
}

fn call() -> impl Strategy<Value = Option<Call<'static>>> {
    let texts = proptest::collection::vec(maybe_text(), 4);
    let times = proptest::collection::vec(proptest::option::of(time()), 3);
    let rest = (
        proptest::option::of(any::<i32>().prop_map(i64::from)),
        any::<Option<bool>>(),
    );
    proptest::option::of(
        (texts, times, rest).prop_map(|(texts, times, (billable_seconds, answered))| {
            let [call_id, caller_number, dialed_number, recording_url] = texts.try_into().unwrap();
            let [started_at, answered_at, ended_at] = times.try_into().unwrap();
            Call {
                call_id,
                caller_number,
                dialed_number,
                started_at,
                answered_at,
                ended_at,
                billable_seconds,
                answered,
                recording_url,
            }
        }),
    )
}

fn payload() -> impl Strategy<Value = Option<Payload<'static>>> {
    let members = proptest::collection::btree_map(
        "[a-z]{1,6}",
        prop_oneof![
            Just("null".to_owned()),
            any::<i64>().prop_map(|number| format!("[{number}.50]")),
            "[a-z ]{0,9}".prop_map(|text| format!("\"{text}\""))
        ],
        0..4,
    );
    proptest::option::of(members.prop_map(|members| {
        let members: Vec<_> = members
            .iter()
            .map(|(name, value)| format!("\"{name}\":{value}"))
            .collect();
        Payload::read(&format!("{{{}}}", members.join(","))).unwrap()
    }))
}

fn event() -> impl Strategy<Value = LeadEvent<'static>> {
    let required = (id(), id(), time(), id());
    let texts = proptest::collection::vec(maybe_text(), 8);
    let numbers = (
        amount(),
        amount(),
        amount(),
        proptest::option::of(any::<i32>().prop_map(i64::from)),
        any::<Option<bool>>(),
    );
    let entities = proptest::collection::vec(entity(), 7);
    let fields = proptest::collection::btree_map(text(), text().prop_map(Some), 0..6);
    (
        required,
        texts,
        numbers,
        entities,
        (consumer(), call(), payload(), fields),
    )
        .prop_map(
            |(
                required,
                texts,
                (price, payout, revenue, attempt, is_test),
                entities,
                (consumer, call, payload, fields),
            )| {
                let [
                    public_lead_id,
                    status,
                    method,
                    currency,
                    reason_code,
                    reason,
                    transaction_id,
                    inlet,
                ] = texts.try_into().unwrap();
                let [product, publisher, channel, source, buyer, campaign, pingtree] = entities.try_into().unwrap();
                let (event_id, trigger, occurred_at, lead_id) = required;
                LeadEvent {
                    event_id,
                    trigger,
                    occurred_at,
                    lead_id,
                    public_lead_id,
                    status,
                    is_test,
                    method,
                    product,
                    publisher,
                    channel,
                    source,
                    buyer,
                    campaign,
                    pingtree,
                    price,
                    payout,
                    revenue,
                    currency,
                    reason_code,
                    reason,
                    transaction_id,
                    attempt,
                    consumer,
                    call,
                    fields: fields.into_iter().collect::<Vec<_>>().into(),
                    // An inlet's null fields are looked up in its payload, and so written from there.
                    inlet: if payload.is_some() { None } else { inlet },
                    payload,
                }
            },
        )
}

/// A map has no order of its own.
fn sorted(mut event: LeadEvent<'_>) -> LeadEvent<'_> {
    let mut fields = event.fields.to_vec();
    fields.sort();
    event.fields = fields.into();
    event
}

fn all_known() -> Schemas {
    let mut schemas = Schemas::new();
    schemas.learn(SchemaId::Id(7), include_str!("../../schemas/lead_event.avsc"), &[]);
    schemas
}

fn forms(event: &LeadEvent<'_>) -> [Vec<u8>; 3] {
    [
        event.to_json().to_string().into_bytes(),
        encode::single_object(event).unwrap(),
        framed(7, &encode::datum(event).unwrap()),
    ]
}

proptest! {
    #[test]
    fn twins_decode_to_the_event_they_were_written_from(event in event()) {
        let schemas = all_known();
        for bytes in forms(&event) {
            prop_assert_eq!(decode(&bytes, &schemas).map(sorted), Ok(event.clone()));
        }
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), head in 0..4_usize) {
        let heads: [&[u8]; 4] = [b"", b"{", &[0, 0, 0, 0, 7], &[0xC3, 0x01, 0xF3, 0x18, 0x56, 0x38, 0xCE, 0x6C, 0x40, 0xCF]];
        let bytes = [heads[head], &bytes].concat();
        if let Ok(event) = decode(&bytes, &all_known()) {
            prop_assert!(!event.event_id.is_empty());
        }
    }

    #[test]
    fn broken_events_are_read_right_or_refused(
        event in event(),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..4_u8), 1..4),
    ) {
        let schemas = all_known();
        for mut bytes in forms(&event) {
            for (index, byte, change) in &changes {
                let index = index.index(bytes.len());
                match change {
                    0 => bytes[index] = *byte,
                    1 => bytes[index] ^= 1 << (byte % 8),
                    2 => bytes.insert(index, *byte),
                    _ => bytes.truncate(index.max(1)),
                }
            }
            if let Ok(event) = decode(&bytes, &schemas) {
                prop_assert!((1..=256).contains(&event.event_id.len()));
                // What was accepted can be written and read again.
                let json = event.to_json().to_string();
                let again = decode(json.as_bytes(), &schemas);
                prop_assert!(again.is_ok() || event.inlet.is_some(), "{:?}", again);
            }
        }
    }

    #[test]
    fn json_is_well_formed_exactly_where_serde_says_so(text in "\\{[\"a:,{}\\[\\]0-9 .eE+\\\\untrlfs-]{0,24}") {
        let well_formed = serde_json::from_str::<serde::de::IgnoredAny>(&text).is_ok();
        let reason = refused(text.as_bytes()).reason();
        prop_assert_eq!(reason, Some(if well_formed { Reason::InvalidEvent } else { Reason::NotDecodable }));
    }

    #[test]
    fn ids_and_amounts_keep_every_digit(digits in "-?(0|[1-9][0-9]{0,11})(\\.[0-9]{1,6})?") {
        let json = event_with(&format!(r#","price":{digits},"payout":"{digits}","transaction_id":{digits}"#));
        let event = decoded(&json);
        prop_assert_eq!(event.price, Some(money(&digits)));
        prop_assert_eq!(event.payout, Some(money(&digits)));
        // But zeros that say nothing, so that one number is one id.
        let id = event.transaction_id.unwrap();
        prop_assert_eq!(money(&id), money(&digits));
        prop_assert!(!id.contains('.') || !id.ends_with('0'), "{}", id);
    }
}

#[test]
fn the_schema_names_the_fields_in_their_order() {
    let schema: serde_json::Value = serde_json::from_str(include_str!("../../schemas/lead_event.avsc")).unwrap();
    let names = |record: &serde_json::Value| -> Vec<String> {
        let fields = record["fields"].as_array().unwrap().iter();
        fields.map(|field| field["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(&schema), FIELDS);
    // A record is defined where it is first named.
    for field in ["product", "consumer", "call"] {
        let found = schema["fields"].as_array().unwrap().iter();
        let record = &found.clone().find(|found| found["name"] == field).unwrap()["type"][1];
        assert_eq!(names(record), members(field).unwrap(), "{field}");
    }
    assert_eq!(members("publisher"), members("product"));
    assert_eq!(members("price"), None);
}
