use std::collections::BTreeMap;
use std::path::Path;

use apache_avro::schema_compatibility::{Compatibility, SchemaCompatibility};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::action::{ActionType, OnAmbiguous};
use crate::delivery::tests::job;
use crate::delivery::{OutcomeResult, job_id};
use crate::lead::EventId;
use crate::reason::Reason;
use crate::rules::RuleId;

/// The schema with one more field, as a next version may write it.
pub(crate) fn with_field(schema: &str, field: Value) -> String {
    let mut schema: Value = serde_json::from_str(schema).unwrap();
    schema["fields"].as_array_mut().unwrap().push(field);
    schema.to_string()
}

/// A codec of a next version: its jobs have one more field.
pub(crate) fn newer() -> Codec {
    let next = with_field(JOB, json!({"name": "priority", "type": "int", "default": 0}));
    Codec::new((&next, &JOBS), (OUTCOME, &OUTCOMES)).unwrap()
}

fn outcome() -> Outcome {
    let mut outcome = job()
        .outcome(OutcomeResult::Retry, 5)
        .because(Reason::GaveUp, "no answer");
    (outcome.attempt, outcome.status, outcome.next_at) = (3, Some(503), Some(9));
    (outcome.started_at, outcome.scope) = (Some(4), Some("lane".into()));
    (outcome.job_partition, outcome.job_offset) = (Some(2), Some(1 << 40));
    (outcome.message_id, outcome.thread_ts) = (Some("1.5".into()), Some("1.4".into()));
    outcome
}

/// Kinds of records, each with the schema that is written, and all that were released.
const KINDS: [(&str, &str, &[&str]); 2] = [("delivery_job", JOB, &JOBS), ("delivery_outcome", OUTCOME, &OUTCOMES)];

/// A record of a kind, written by a schema.
fn record(kind: &str, schema: &str) -> Vec<u8> {
    match kind {
        "delivery_job" => Table::new(schema, &[]).unwrap().write(&job()),
        _ => Table::new(schema, &[]).unwrap().write(&outcome()),
    }
}

/// The fields of a record of either kind.
fn fields(kind: &str, bytes: &[u8]) -> Result<Value, Unreadable> {
    let json = |value: Result<Value, serde_json::Error>| value.unwrap();
    match kind {
        "delivery_job" => DeliveryJob::decode(bytes).map(|job| json(serde_json::to_value(job))),
        _ => Outcome::decode(bytes).map(|outcome| json(serde_json::to_value(outcome))),
    }
}

/// The files of `schemas/released/` by their names without the ending.
fn released(ending: &str) -> BTreeMap<String, String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas/released");
    let files = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
    let of_kind = files.filter(|path| path.extension().is_some_and(|found| found == ending));
    of_kind
        .map(|path| {
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            (name, std::fs::read_to_string(path).unwrap())
        })
        .collect()
}

#[test]
fn every_released_schema_reads_the_record_that_is_kept_of_it() {
    let (schemas, records) = (released("avsc"), released("json"));
    let kept: usize = KINDS.iter().map(|(.., released)| released.len()).sum();
    assert_eq!(schemas.len(), kept, "each schema of schemas/released is in the table");
    for (kind, _, released) in KINDS {
        for (number, text) in (1..).zip(released) {
            let name = format!("{kind}-{number}");
            assert_eq!(schemas.get(&name).map(String::as_str), Some(*text), "{name}");
            let Some(record) = records.get(&name) else {
                let now = record(kind, text);
                let keep = json!({"bytes": hex(&now), "fields": fields(kind, &now).unwrap()});
                panic!("no record of {name} is kept; write schemas/released/{name}.json:\n{keep:#}");
            };
            let record: Value = serde_json::from_str(record).unwrap();
            let bytes = unhex(record["bytes"].as_str().unwrap());
            let (fingerprint, _) = parse(text).unwrap();
            assert_eq!(
                bytes[2..HEAD],
                fingerprint.0.to_le_bytes(),
                "{name} isn't what was released"
            );
            let read = fields(kind, &bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
            for (field, value) in record["fields"].as_object().unwrap() {
                assert_eq!(&read[field], value, "{name}: {field}");
            }
        }
    }
}

#[test]
fn the_schema_that_is_written_is_a_released_one() {
    for (kind, written, released) in KINDS {
        let (fingerprint, _) = parse(written).unwrap();
        assert!(
            released.iter().any(|text| parse(text).unwrap().0 == fingerprint),
            "schemas/{kind}.avsc has changed: keep it as schemas/released/{kind}-{}.avsc too, and name it in the codec",
            released.len() + 1
        );
    }
}

/// What of the rules of a change `newer` breaks, where `older` was released.
fn broken(older: &str, newer: &str) -> Option<String> {
    let [older, newer] = [older, newer].map(|text| parse(text).unwrap().1);
    match SchemaCompatibility::can_read(older, newer) {
        Ok(Compatibility::Full) => {}
        Ok(Compatibility::Partial) => return Some("not all that was written is read".to_owned()),
        Err(error) => return Some(format!("what was written isn't read: {error}")),
    }
    // A symbol that the older one doesn't know is a kind of job that its senders hold.
    let back = SchemaCompatibility::can_read(newer, older);
    back.err()
        .map(|error| format!("what is written isn't read by older programs: {error}"))
}

#[test]
fn the_schema_that_is_written_and_the_released_ones_read_each_other() {
    for (kind, written, released) in KINDS {
        for (number, text) in (1..).zip(released) {
            assert_eq!(broken(text, written), None, "schemas/{kind}.avsc and {kind}-{number}");
        }
    }
}

#[test]
fn a_change_that_breaks_a_reader_is_seen() {
    let without = |name: &str| {
        let mut schema: Value = serde_json::from_str(JOB).unwrap();
        schema["fields"]
            .as_array_mut()
            .unwrap()
            .retain(|field| field["name"] != name);
        schema.to_string()
    };
    let symbol = |from: &str, to: &str| JOB.replace(from, to);
    assert_eq!(
        broken(JOB, &with_field(JOB, json!({"name": "a", "type": "int", "default": 0}))),
        None
    );
    assert_eq!(broken(JOB, &without("thread")), None, "it has a default");
    assert_eq!(
        broken(JOB, &symbol("\"clevertap_event\"", "\"clevertap_event\", \"x\"")),
        None
    );
    for (what, changed) in [
        (
            "a field without a default",
            with_field(JOB, json!({"name": "a", "type": "int"})),
        ),
        ("a field that older ones need is gone", without("body")),
        (
            "a type",
            JOB.replace(
                "{\"name\": \"source_partition\", \"type\": \"int\"}",
                "{\"name\": \"source_partition\", \"type\": \"string\"}",
            ),
        ),
        (
            "a wider type",
            JOB.replace(
                "{\"name\": \"source_partition\", \"type\": \"int\"}",
                "{\"name\": \"source_partition\", \"type\": \"long\"}",
            ),
        ),
        ("a symbol is gone", symbol(", \"clevertap_event\"", "")),
    ] {
        assert_ne!(changed, JOB, "{what}");
        assert!(broken(JOB, &changed).is_some(), "{what}");
    }
}

#[test]
fn jobs_and_outcomes_read_back_as_written() {
    assert_eq!(DeliveryJob::decode(&job().encode()), Ok(job()));
    for result in OutcomeResult::ALL {
        let outcome = Outcome { result, ..outcome() };
        assert_eq!(Outcome::decode(&outcome.encode()), Ok(outcome));
    }
}

/// The value as `apache_avro` writes it.
fn by_schema(schema: &str, value: &impl Serialize) -> Vec<u8> {
    let schema = Schema::parse_str(schema).unwrap();
    let writer = GenericDatumWriter::builder(&schema).build().unwrap();
    let mut bytes = Vec::new();
    writer.write_ser(&mut bytes, value).unwrap();
    bytes
}

/// A value that may be missing.
fn some<T: std::fmt::Debug + Clone>(of: impl Strategy<Value = T>) -> impl Strategy<Value = Option<T>> {
    prop::option::of(of)
}

proptest! {
    #[test]
    fn what_is_written_is_what_the_schema_says(
        texts in prop::collection::vec(".{0,200}", 9),
        optional in prop::collection::vec(some(".{0,80}"), 6),
        numbers in prop::collection::vec(any::<i64>(), 4),
        may_lack in prop::collection::vec(some(any::<i64>()), 4),
        (int, thread, pick) in (any::<i32>(), any::<bool>(), any::<prop::sample::Index>()),
    ) {
        let text = |at: usize| texts[at].clone();
        let actions = [ActionType::SlackMessage, ActionType::SlackWebhook, ActionType::ClevertapProfile, ActionType::ClevertapEvent];
        let job = DeliveryJob {
            job_id: text(0), event_id: text(1), rule_id: text(2), lead_id: text(3), trigger: text(4), credential: text(5),
            destination: text(6), body: text(7), source_topic: text(8), rule_version: numbers[0], occurred_at: numbers[1],
            source_offset: numbers[2], source_partition: int, expires_at: may_lack[0], digest_after: may_lack[1],
            sealed: optional[0].clone(), account_id: optional[1].clone(), region: optional[2].clone(),
            max_rate: optional[3].clone(), thread, action: *pick.get(&actions),
            on_ambiguous: *pick.get(&[OnAmbiguous::Retry, OnAmbiguous::Dead]),
        };
        let outcome = Outcome {
            job_id: text(0), event_id: text(1), rule_id: text(2), lead_id: text(3), lane: text(4), rule_version: numbers[0],
            attempt: int, result: *pick.get(&OutcomeResult::ALL), reason: optional[0].clone(), status: Some(int).filter(|_| thread),
            words: optional[1].clone(), message_id: optional[2].clone(), started_at: may_lack[0], ended_at: numbers[1],
            next_at: may_lack[1], job_partition: Some(int).filter(|_| !thread), job_offset: may_lack[2],
            scope: optional[3].clone(), thread_ts: optional[4].clone(),
        };
        let of_job = by_schema(JOB, &job);
        let of_outcome = by_schema(OUTCOME, &outcome);
        prop_assert!(SHIPPED.jobs.writer.is_none() && SHIPPED.outcomes.writer.is_none());
        prop_assert_eq!(&job.encode()[HEAD..], of_job);
        prop_assert_eq!(&outcome.encode()[HEAD..], of_outcome);
    }
}

#[test]
fn a_schema_with_other_fields_is_written_by_its_own_words() {
    assert!(newer().jobs.writer.is_some());
    assert_eq!(datum::fields_of::<DeliveryJob>().len(), 22);
    assert_eq!(datum::fields_of::<String>(), [""; 0]);
}

#[test]
fn two_versions_read_each_other_where_they_know_the_schema() {
    let (ours, newer) = (Codec::shipped(), newer());
    let (old, new) = (ours.write_job(&job()), newer.write_job(&job()));
    assert_eq!(
        newer.read_job(&new),
        Ok(job()),
        "a field of the schema that the struct hasn't is passed"
    );
    assert_eq!(newer.read_job(&old), Ok(job()), "what a predecessor wrote is resolved");
    let fingerprint = Fingerprint(u64::from_le_bytes(new[2..HEAD].try_into().unwrap()));
    assert_eq!(ours.read_job(&new), Err(Unreadable::UnknownSchema(fingerprint)));
    assert_eq!(fingerprint.to_string().len(), 16);
    // A schema may be read a version before it is written.
    let next = with_field(JOB, json!({"name": "priority", "type": "int", "default": 0}));
    let between = Codec::new((JOB, &[&next]), (OUTCOME, &OUTCOMES)).unwrap();
    assert_eq!(between.read_job(&new), Ok(job()));
    assert_eq!(between.write_job(&job()), old);
    // Ids and credentials are looked at whoever wrote them.
    let odd = |change: fn(&mut DeliveryJob)| {
        let mut job = job();
        change(&mut job);
        newer.write_job(&job)
    };
    let no_id = odd(|job| job.job_id = "x".into());
    assert!(matches!(between.read_job(&no_id), Err(Unreadable::Id(_))));
    assert_eq!(
        job_id(EventId("e-1"), RuleId("r-1")).to_string(),
        between.read_job(&new).unwrap().job_id
    );
}

#[test]
fn bytes_that_are_no_job_are_refused() {
    let mut bytes = job().encode();
    for other in [&b"{}"[..], b"", &bytes[..9], b"not an Avro single object"] {
        assert_eq!(DeliveryJob::decode(other), Err(Unreadable::NotSingleObject));
    }
    assert!(matches!(Outcome::decode(&bytes), Err(Unreadable::UnknownSchema(_))));
    bytes.push(0);
    assert_eq!(DeliveryJob::decode(&bytes), Err(Unreadable::Malformed));
    bytes.truncate(40);
    assert_eq!(DeliveryJob::decode(&bytes), Err(Unreadable::Malformed));
    // The same of a schema that is resolved.
    let (next, mut old) = (newer(), job().encode());
    old.push(0);
    assert!(matches!(next.read_job(&old), Err(Unreadable::Unresolved(_))));
    old.truncate(40);
    assert!(matches!(next.read_job(&old), Err(Unreadable::Unresolved(_))));
}

/// A codec that reads outcomes with one more result, as the release before the one that writes them does, and such an
/// outcome.
pub(crate) fn with_another_result() -> (Codec, Vec<u8>) {
    // A symbol is written as its number, which the older version has another name for.
    let next = OUTCOME.replacen("\"retry\"", "\"postponed\"", 1);
    let mut value = outcome().encode();
    value[..HEAD].copy_from_slice(&Table::<Outcome>::new(&next, &[]).unwrap().head);
    (Codec::new((JOB, &JOBS), (OUTCOME, &[&next])).unwrap(), value)
}

#[test]
fn a_symbol_that_only_another_version_has_is_that_versions() {
    let (codec, value) = with_another_result();
    let why = codec.read_outcome(&value).unwrap_err();
    assert!(matches!(why, Unreadable::Unresolved(_)));
    let fingerprint = Fingerprint(u64::from_le_bytes(value[2..HEAD].try_into().unwrap()));
    assert_eq!(why.of_another_version(), Some(fingerprint));
    assert_eq!(Unreadable::Malformed.of_another_version(), None);
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let pair = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
    (0..text.len()).step_by(2).map(pair).collect()
}
