//! Hostile records: each stands among good ones on its partition, those before and behind arrive once, the process
//! goes on, and the hostile one ends as the table says.
//!
//! A new case is a row: who reads it, how the record is made, what becomes of it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use leadlane::delivery::DeliveryJob;
use leadlane::kafka::reader::Record as Read;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::{ClientContext, DefaultClientContext};
use rdkafka::message::{DeliveryResult, Header, Message, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};

use super::sender::open_sandbox;
use crate::support::{Leadlane, Process, event, free_port, part};

/// Whose topic a record is written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Into {
    Events,
    /// Somebody else's, which the inlet `survey` reads.
    Foreign,
    Jobs,
}

/// A record as its producer hands it to Kafka.
#[derive(Debug, Default, Clone)]
struct Raw {
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(&'static str, Vec<u8>)>,
}

/// What becomes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// One dead letter: why, and what it leaves out.
    Dead(&'static str, Option<&'static str>),
    /// The record is good, whatever is beside it: it is sent like its neighbours.
    Sent,
}
use End::{Dead, Sent};

type Row = (&'static str, Into, fn() -> Raw, End);

/// The number of the event that a row's record holds, where it holds a good one.
const HOSTILE: u64 = 666;

const ROWS: &[Row] = &[
    (
        "neither key nor value",
        Into::Events,
        Raw::default,
        Dead("not_decodable", None),
    ),
    (
        "a null value",
        Into::Events,
        || keyed(b"k"),
        Dead("not_decodable", None),
    ),
    (
        "a null key beside a good value",
        Into::Events,
        || Raw { key: None, ..good() },
        Sent,
    ),
    (
        "no text at all",
        Into::Events,
        || valued(b"\xff\xfe\xfd"),
        Dead("not_decodable", None),
    ),
    (
        "a key that is no text",
        Into::Events,
        || Raw {
            key: Some(vec![0xff; 300]),
            ..good()
        },
        Sent,
    ),
    (
        "a foreign record that is no text",
        Into::Foreign,
        || valued(b"\xff\xfe\xfd"),
        Dead("not_decodable", None),
    ),
    (
        "a record that is no job",
        Into::Jobs,
        || valued(b"no job"),
        Dead("not_decodable", None),
    ),
    (
        "a job whose own id is 400 KB",
        Into::Jobs,
        || job_with(|job, long| job.job_id = long),
        Dead("not_decodable", None),
    ),
    (
        "a job whose rule's id is 400 KB",
        Into::Jobs,
        || job_with(|job, long| job.rule_id = long),
        Dead("not_decodable", None),
    ),
    (
        "a job whose event's id is 400 KB",
        Into::Jobs,
        || job_with(|job, long| job.event_id = long),
        Dead("not_decodable", None),
    ),
    (
        "3 MB that compress",
        Into::Events,
        || valued(&vec![b'x'; 3_000_000]),
        Dead("not_decodable", None),
    ),
    (
        "3 MB that compress, for an inlet",
        Into::Foreign,
        || valued(&vec![b'x'; 3_000_000]),
        Dead("not_decodable", None),
    ),
    (
        "3 MB that compress, for a sender",
        Into::Jobs,
        || valued(&vec![b'x'; 3_000_000]),
        Dead("not_decodable", None),
    ),
    (
        "a value that the dead letters don't take",
        Into::Foreign,
        || valued(&noise(2_000_000)),
        Dead("not_decodable", Some("value")),
    ),
    (
        "a key that the dead letters don't take",
        Into::Foreign,
        || Raw {
            key: Some(noise(2_000_000)),
            ..valued(b"?")
        },
        Dead("not_decodable", Some("key,value")),
    ),
    (
        "a key that compresses",
        Into::Foreign,
        || Raw {
            key: Some(vec![b'x'; 2_000_000]),
            ..valued(b"?")
        },
        Dead("not_decodable", None),
    ),
    (
        "a job that its topic doesn't take",
        Into::Events,
        with_a_long_lead,
        Dead("too_large", None),
    ),
    (
        "a lead's id that is an object",
        Into::Events,
        || with("\"lead-666\"", r#"{"a":1}"#),
        Dead("invalid_event", None),
    ),
    (
        "a sheet's day number as the time",
        Into::Events,
        || with_field("occurred_at", "45123.5"),
        Dead("invalid_event", None),
    ),
    (
        "an event's id that is no text",
        Into::Events,
        || with("\"e-666\"", "true"),
        Dead("invalid_event", None),
    ),
    (
        "half of a surrogate pair in a name",
        Into::Events,
        || with("Ana", r"An\ud83d"),
        Sent,
    ),
    (
        "half of a surrogate pair in a lead's id",
        Into::Events,
        || with("lead-666", r"lead-\ud83d"),
        Dead("invalid_event", None),
    ),
    (
        "a schema that nobody has",
        Into::Events,
        || valued(b"\x00\xff\xff\xff\xff\x02a"),
        Dead("unknown_schema", None),
    ),
    (
        "a schema that nobody has, by its GUID",
        Into::Events,
        || valued(&[&[1][..], &[0xab; 16], b"\x02a"].concat()),
        Dead("unknown_schema", None),
    ),
    (
        "a schema that nobody has, for an inlet",
        Into::Foreign,
        || valued(b"\x00\xff\xff\xff\xff\x02a"),
        Dead("unknown_schema", None),
    ),
    (
        "an Avro array of 2^62 nulls",
        Into::Foreign,
        || valued(&[&[0][..], &nulls().to_be_bytes(), &varint(1 << 62), &[0]].concat()),
        Dead("not_decodable", None),
    ),
    (
        "a list of 500,000 zeros",
        Into::Foreign,
        || valued(format!("[0{}]", ",0".repeat(499_999)).as_bytes()),
        Dead("invalid_event", None),
    ),
    (
        "an element of 150 levels",
        Into::Foreign,
        || valued(format!("[{}{}]", "[".repeat(150), "]".repeat(150)).as_bytes()),
        Dead("not_decodable", None),
    ),
    (
        "an identity that is a list",
        Into::Events,
        || scored(r#"{"ids":["a","b"],"tags":["x"]}"#),
        Dead("template_failed", None),
    ),
    (
        "a text that is added where a list belongs",
        Into::Events,
        || scored(r#"{"ids":"a","tags":"x"}"#),
        Dead("template_failed", None),
    ),
    (
        "a trace of 1 MB",
        Into::Events,
        || beside("traceparent", &vec![b'0'; 1_048_000]),
        Sent,
    ),
    (
        "a trace that is no text",
        Into::Events,
        || beside("traceparent", b"\xff\xfe"),
        Sent,
    ),
    (
        "an event's id of 1 MB beside it",
        Into::Events,
        || beside("event-id", &vec![b'e'; 1_000_000]),
        Sent,
    ),
    (
        "a rule that is none",
        Into::Events,
        || beside("only-rule", b"\xff"),
        Sent,
    ),
    (
        "a replay that is none",
        Into::Events,
        || beside("replay-of", b"yes"),
        Sent,
    ),
    (
        "a header that nobody knows",
        Into::Events,
        || beside("x-junk", &vec![0; 1_000_000]),
        Sent,
    ),
];

fn keyed(key: &[u8]) -> Raw {
    Raw {
        key: Some(key.to_vec()),
        ..Raw::default()
    }
}

fn valued(value: &[u8]) -> Raw {
    Raw {
        value: Some(value.to_vec()),
        ..keyed(b"k")
    }
}

/// A good event, to be spoilt.
fn good() -> Raw {
    valued(event(HOSTILE, "lms.lead_sold", "12", "42.50").as_bytes())
}

/// A good event with something else in place of one text.
fn with(from: &str, to: &str) -> Raw {
    let text = String::from_utf8(good().value.unwrap()).unwrap();
    assert!(text.contains(from), "{text}");
    valued(text.replace(from, to).as_bytes())
}

/// A good event with another JSON value in a field.
fn with_field(name: &str, json: &str) -> Raw {
    let mut event: serde_json::Value = serde_json::from_slice(&good().value.unwrap()).unwrap();
    event[name] = serde_json::from_str(json).unwrap();
    valued(event.to_string().as_bytes())
}

/// An inlet's event for a profile.
fn scored(payload: &str) -> Raw {
    let Raw { value, .. } = with_field("payload", payload);
    let mut event: serde_json::Value = serde_json::from_slice(&value.unwrap()).unwrap();
    (event["trigger"], event["inlet"]) = ("survey.scored".into(), "survey".into());
    valued(event.to_string().as_bytes())
}

/// The id of a registered schema: a record with a list of nulls, which take no byte each.
fn nulls() -> u32 {
    static ID: std::sync::LazyLock<u32> = std::sync::LazyLock::new(|| {
        let list = r#"{"type":"array","items":"null"}"#;
        let schema = format!(r#"{{"type":"record","name":"Nulls","fields":[{{"name":"list","type":{list}}}]}}"#);
        let subject = format!("nulls-{}", std::process::id());
        super::inlet_topics::register(&part("LEADLANE_TEST_REGISTRY"), &subject, &schema)
    });
    *ID
}

/// A long as Avro writes it.
fn varint(number: i64) -> Vec<u8> {
    let mut zigzag = ((number << 1) ^ (number >> 63)).cast_unsigned();
    let mut bytes = Vec::new();
    while zigzag > 0x7f {
        bytes.push((zigzag & 0x7f) as u8 | 0x80);
        zigzag >>= 7;
    }
    bytes.push(zigzag as u8);
    bytes
}

/// A good event with a header.
fn beside(name: &'static str, value: &[u8]) -> Raw {
    Raw {
        headers: vec![(name, value.to_vec())],
        ..good()
    }
}

/// A good event whose job is larger than itself, and than a topic takes.
fn with_a_long_lead() -> Raw {
    let lead: String = noise(1_060_000)
        .iter()
        .map(|byte| char::from(b'0' + byte % 10))
        .collect();
    let text = String::from_utf8(good().value.unwrap()).unwrap();
    valued(text.replace(&format!("lead-{HOSTILE}"), &lead).as_bytes())
}

/// A good job with a long text in one of its fields.
fn job_with(spoil: fn(&mut DeliveryJob, String)) -> Raw {
    let mut job = super::tools::job(HOSTILE.cast_signed(), "sold", "slack:sales-bot", "C0SALES");
    spoil(
        &mut job,
        noise(400_000).iter().map(|byte| char::from(b'a' + byte % 16)).collect(),
    );
    valued(&job.encode())
}

/// Bytes that no compression makes fewer.
fn noise(length: usize) -> Vec<u8> {
    let mut noise = vec![0; length];
    fastrand::Rng::with_seed(9).fill(&mut noise);
    noise
}

/// Letters that no compression makes fewer.
fn letters(length: usize) -> String {
    noise(length).iter().map(|byte| char::from(b'a' + byte % 26)).collect()
}

const RULES: &str = r#"
- id: sold
  trigger: lms.lead_sold
  scope: {level: product, id: "*"}
  action: {type: slack_message, token: {secret: sales-bot}, to: {channel: C0SALES}, text: "sold {{$.event_id}}"}
- id: answered
  trigger: survey.answered
  scope: {level: inlet, id: survey}
  action: {type: slack_message, token: {secret: sales-bot}, to: {channel: C0SURVEY}, text: "answered {{$.event_id}}"}
- id: scored
  trigger: survey.scored
  scope: {level: inlet, id: survey}
  action: {type: clevertap_profile, account: acme, identity: "{{$.payload.ids}}", properties: {Tags: {$add: "{{$.payload.tags}}"}}}
"#;

/// Good records before and behind the hostile one.
const BESIDE: u64 = 3;

/// Remembers where the last record was put.
#[derive(Default)]
struct Placed(Mutex<i64>);

impl ClientContext for Placed {}

impl ProducerContext for Placed {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let message = result.as_ref().map_err(|(error, _)| error).unwrap();
        *self.0.lock().unwrap() = message.offset();
    }
}

/// What a row's records are written with: compressed, and so large as a broker would ever take.
fn producer() -> BaseProducer<Placed> {
    let mut client = ClientConfig::new();
    client
        .set("bootstrap.servers", part("LEADLANE_TEST_KAFKA"))
        .set("compression.type", "gzip")
        .set("message.max.bytes", "100000000");
    client.create_with_context(Placed::default()).unwrap()
}

/// Gives the record's offset.
fn write(producer: &BaseProducer<Placed>, topic: &str, raw: &Raw) -> i64 {
    let mut headers = OwnedHeaders::new();
    for (key, value) in &raw.headers {
        headers = headers.insert(Header {
            key,
            value: Some(value),
        });
    }
    let mut record: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(topic).headers(headers);
    (record.key, record.payload) = (raw.key.as_deref(), raw.value.as_deref());
    producer.send(record).map_err(|(error, _)| error).unwrap();
    producer.flush(Duration::from_secs(30)).unwrap();
    *producer.context().0.lock().unwrap()
}

fn wait<T>(asked: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.unwrap().block_on(asked)
}

fn admin() -> AdminClient<DefaultClientContext> {
    let mut client = ClientConfig::new();
    client.set("bootstrap.servers", part("LEADLANE_TEST_KAFKA"));
    client.create().unwrap()
}

fn foreign_topic() -> String {
    let name = format!("survey-{}-{}", std::process::id(), free_port());
    let topic = NewTopic::new(&name, 1, TopicReplication::Fixed(1));
    let made = wait(admin().create_topics([&topic], &AdminOptions::new()));
    made.unwrap().remove(0).unwrap();
    name
}

/// Sets how large the records of a topic may be.
fn record_max(topic: &str, bytes: &str) {
    let change = AlterConfig::new(ResourceSpecifier::Topic(topic)).set("max.message.bytes", bytes);
    let changed = wait(admin().alter_configs([&change], &AdminOptions::new()));
    changed.unwrap().remove(0).unwrap();
}

/// A Leadlane with one partition a topic, all of it in one process.
struct World {
    leadlane: Leadlane,
    foreign: String,
    producer: BaseProducer<Placed>,
    next: u64,
    /// What is to be sent, in the end: each once.
    wanted: Vec<String>,
}

impl World {
    fn topic(&self, into: Into) -> &str {
        match into {
            Into::Events => &self.leadlane.config.topics.events,
            Into::Foreign => &self.foreign,
            Into::Jobs => &self.leadlane.config.topics.jobs,
        }
    }

    /// Good records for whoever reads the hostile one.
    fn good_ones(&mut self, into: Into) {
        for _ in 0..BESIDE {
            self.next += 1;
            let (text, sent) = match into {
                Into::Foreign => (
                    format!(
                        "{{\"id\": \"s-{}\", \"at\": \"2026-03-05T15:16:00Z\", \"email\": \"ana@example.com\"}}",
                        self.next
                    ),
                    format!("answered s-{}", self.next),
                ),
                _ => (
                    event(self.next, "lms.lead_sold", "12", "42.50"),
                    format!("sold e-{}", self.next),
                ),
            };
            let topic = match into {
                Into::Foreign => &self.foreign,
                _ => &self.leadlane.config.topics.events,
            };
            write(&self.producer, topic, &valued(text.as_bytes()));
            self.wanted.push(sent);
        }
    }
}

fn start() -> (World, Process, crate::support::Destinations) {
    let destinations = open_sandbox();
    let foreign = foreign_topic();
    let inlet = format!(
        "{}\nschema_registry: {{url: '{}'}}\ninlets: [{{name: survey, kind: topic, topic: {foreign}, decode: [avro, json], event: {{event_id: '{{{{$.id}}}}', \
         trigger: survey.answered, occurred_at: '{{{{$.at | date}}}}', lead_id: '{{{{$.email}}}}'}}}}]",
        destinations.yaml("1000/s"),
        part("LEADLANE_TEST_REGISTRY")
    );
    let leadlane = Leadlane::new("hostile", &inlet);
    leadlane.secret("acme-passcode", "hunter2-passcode");
    leadlane.secret("sales-bot", "xoxb-hunter2-token");
    leadlane.ok(&["topics", "create", "--partitions", "1"]);
    leadlane.apply(RULES);
    let process = leadlane.start(&[]);
    // Whose topic it is, that one sets how much it takes.
    record_max(&foreign, "3000000");
    let world = World {
        leadlane,
        foreign,
        producer: producer(),
        next: 1000,
        wanted: Vec::new(),
    };
    (world, process, destinations)
}

#[test]
fn hostile_records_end_as_the_table_says_and_hold_up_nobody() {
    let (mut world, mut process, destinations) = start();
    let mut wanted: BTreeMap<(Into, i64), (&str, End)> = BTreeMap::new();
    for (number, (name, into, make, end)) in ROWS.iter().enumerate() {
        world.good_ones(*into);
        let mut raw = make();
        if *end == Sent {
            // Each row's event is one of its own.
            let own = format!("e-{HOSTILE}{number:03}");
            let value = String::from_utf8(raw.value.unwrap()).unwrap();
            raw.value = Some(value.replace(&format!("e-{HOSTILE}"), &own).into_bytes());
            world.wanted.push(format!("sold {own}"));
        }
        let offset = write(&world.producer, world.topic(*into), &raw);
        if *end != Sent {
            wanted.insert((*into, offset), (name, *end));
        }
        world.good_ones(*into);
    }
    let leadlane = &world.leadlane;
    let topics = &leadlane.config.topics;
    let is_sent = |texts: &[String]| world.wanted.iter().all(|text| texts.contains(text));
    let until = std::time::Instant::now() + Duration::from_secs(60);
    while !is_sent(&destinations.texts()) {
        let log = process.log();
        assert!(
            std::time::Instant::now() < until,
            "not all of {:?} is sent: {:?}\n{log}",
            world.wanted,
            destinations.texts()
        );
        std::thread::sleep(Duration::from_millis(100));
    }
    let dead = leadlane.read_until(&topics.dead_letters, 30, |records| records.len() >= wanted.len());
    assert_eq!(process.ended(0), None, "the process ended:\n{}", process.log());
    assert!(
        !process.log().contains("rebuilt"),
        "a worker was built anew:\n{}",
        process.log()
    );
    process.stop();
    let mut texts = destinations.texts();
    texts.sort();
    world.wanted.sort();
    assert_eq!(texts, world.wanted, "each good record is sent once");
    for letter in &dead {
        let source = letter.header("source-topic").unwrap();
        let into = [Into::Events, Into::Foreign, Into::Jobs]
            .into_iter()
            .find(|into| world.topic(*into) == source)
            .unwrap();
        let place = (into, letter.header("source-offset").unwrap().parse().unwrap());
        let (name, end) = wanted
            .remove(&place)
            .unwrap_or_else(|| panic!("a dead letter too many: {}", shown(letter)));
        let found = (letter.header("reason"), letter.header("left-out"));
        let Dead(reason, left_out) = end else {
            unreachable!("only dead ones are in the map")
        };
        assert_eq!(found, (Some(reason), left_out), "{name}: {}", shown(letter));
    }
    assert!(wanted.is_empty(), "no dead letter for {wanted:?}");
    let too_large = super::sender::outcomes(leadlane);
    let too_large = too_large
        .iter()
        .filter(|outcome| outcome.reason.as_deref() == Some("too_large"));
    assert_eq!(too_large.count(), 1, "a match that was too large has its outcome");
    let jobs = leadlane.read(&topics.jobs);
    let made = jobs
        .iter()
        .filter_map(|record| DeliveryJob::decode(record.value.as_deref()?).ok());
    assert_eq!(made.count(), world.wanted.len(), "each good record is one job");
}

/// A Leadlane with one partition a topic and the rules of this file, running.
fn processing(name: &str) -> (Leadlane, Process) {
    let leadlane = Leadlane::new(name, "");
    leadlane.ok(&["topics", "create", "--partitions", "1"]);
    leadlane.apply(RULES);
    let process = leadlane.start(&["--role", "processor"]);
    (leadlane, process)
}

/// Good events from `first` on.
fn write_events(leadlane: &Leadlane, numbers: std::ops::Range<u64>) {
    let events: Vec<String> = numbers
        .map(|number| event(number, "lms.lead_sold", "12", "42.50"))
        .collect();
    leadlane.write(
        &leadlane.config.topics.events,
        events.iter().map(|text| ("k", Some(text.as_bytes()))),
    );
}

/// The committed jobs' events, in order.
fn made(leadlane: &Leadlane) -> Vec<String> {
    let jobs = leadlane.read(&leadlane.config.topics.jobs);
    jobs.iter()
        .map(|record| DeliveryJob::decode(record.value.as_deref().unwrap()).unwrap().event_id)
        .collect()
}

#[test]
fn what_a_topic_takes_no_more_is_found_among_others_and_is_a_dead_letter() {
    let (leadlane, mut process) = processing("shrunk");
    let topics = &leadlane.config.topics;
    record_max(&topics.jobs, "20000");
    // Every job but this one fits still. No compression helps it.
    let mut raw = good();
    let lead: String = noise(40_000)
        .iter()
        .map(|byte| char::from(b' ' + byte % 95))
        .filter(|c| !matches!(c, '"' | '\\'))
        .collect();
    let text = String::from_utf8(raw.value.take().unwrap())
        .unwrap()
        .replace(&format!("lead-{HOSTILE}"), &lead);
    process.signal("STOP");
    write_events(&leadlane, 0..100);
    write(&producer(), &topics.events, &valued(text.as_bytes()));
    write_events(&leadlane, 100..200);
    process.signal("CONT");
    leadlane.read_until(&topics.jobs, 60, |records| records.len() >= 200);
    let dead = leadlane.read_until(&topics.dead_letters, 30, |records| !records.is_empty());
    let aborts = leadlane.get("/metrics").unwrap().1;
    assert_eq!(process.ended(0), None, "{}", process.log());
    process.stop();
    let wanted: Vec<String> = (0..200).map(|number| format!("e-{number}")).collect();
    assert_eq!(
        made(&leadlane),
        wanted,
        "each good event has its job, once and in order"
    );
    assert_eq!(dead.len(), 1, "{}", shown(&dead[0]));
    assert_eq!(
        (dead[0].header("reason"), dead[0].header("rule-id")),
        (Some("too_large"), Some("sold"))
    );
    assert_eq!(
        dead[0].value.as_deref(),
        Some(text.as_bytes()),
        "it holds the event, whole"
    );
    let outcomes = super::sender::outcomes(&leadlane);
    let told: Vec<_> = outcomes
        .iter()
        .map(|outcome| (outcome.event_id.as_str(), outcome.reason.as_deref()))
        .collect();
    assert_eq!(told, [(format!("e-{HOSTILE}").as_str(), Some("too_large"))]);
    let line = aborts
        .lines()
        .find(|line| line.starts_with("leadlane_transactions_aborted_total"));
    let count: u64 = line.unwrap().rsplit(' ').next().unwrap().parse().unwrap();
    assert!((1..=20).contains(&count), "it is found by halving, in {count} aborts");
}

#[test]
fn a_jobs_topic_that_is_gone_makes_events_wait_and_no_dead_letter() {
    let (leadlane, mut process) = processing("gone");
    let topics = &leadlane.config.topics;
    write_events(&leadlane, 0..10);
    leadlane.read_until(&topics.jobs, 30, |records| records.len() >= 10);
    wait(admin().delete_topics(&[topics.jobs.as_str()], &AdminOptions::new()))
        .unwrap()
        .remove(0)
        .unwrap();
    write_events(&leadlane, 10..20);
    // Long enough for several tries in vain.
    std::thread::sleep(Duration::from_secs(8));
    assert_eq!(process.ended(0), None, "{}", process.log());
    assert!(
        leadlane.read(&topics.dead_letters).is_empty(),
        "Kafka's faults are no record's"
    );
    let topic = NewTopic::new(&topics.jobs, 1, TopicReplication::Fixed(1));
    wait(admin().create_topics([&topic], &AdminOptions::new()))
        .unwrap()
        .remove(0)
        .unwrap();
    leadlane.read_until(&topics.jobs, 90, |records| records.len() >= 10);
    assert!(leadlane.read(&topics.dead_letters).is_empty());
    assert_eq!(process.ended(0), None, "{}", process.log());
    process.stop();
    let wanted: Vec<String> = (10..20).map(|number| format!("e-{number}")).collect();
    assert_eq!(made(&leadlane), wanted);
}

/// What a provider answers to a message, and what is kept of it: result, words, message id.
type Reply = (&'static str, fn() -> String, Kept);
type Kept = (&'static str, fn(&str) -> bool, Option<&'static str>);

const REPLIES: &[Reply] = &[
    (
        "a good answer",
        || r#"{"ok":true,"ts":"1503435956.000247"}"#.to_owned(),
        ("sent", str::is_empty, Some("1503435956.000247")),
    ),
    (
        "a ts of 1 MB",
        || format!(r#"{{"ok":true,"ts":"{}.1"}}"#, "1".repeat(1_000_000)),
        ("sent", str::is_empty, None),
    ),
    (
        "a ts that is a number",
        || r#"{"ok":true,"ts":17.5}"#.to_owned(),
        ("sent", str::is_empty, None),
    ),
    (
        "an error of 900 KB",
        || format!(r#"{{"ok":false,"error":"{}"}}"#, "x".repeat(900_000)),
        ("dead", |words| words.len() == 500, None),
    ),
    (
        "an error that no compression helps",
        || format!(r#"{{"ok":false,"error":"{}"}}"#, letters(900_000)),
        ("dead", |words| words.len() == 500, None),
    ),
    (
        "words that repeat the token and the lead",
        || {
            r#"{"ok":false,"error":"invalid_arguments","errors":["xoxb-hunter2-token", "eG94Yi1odW50ZXIyLXRva2Vu", "xoxb%2dhunter2%2dtoken", "ana@example.com +1 512 555 0123 84512377"]}"#.to_owned()
        },
        (
            "dead",
            |words| !words.contains("hunter2") && !words.contains("84512377") && !words.contains("example"),
            None,
        ),
    ),
];

/// Answers each message as its text's number says, and counts them.
fn provider() -> (String, Arc<Mutex<BTreeMap<usize, usize>>>, tokio::runtime::Runtime) {
    use axum::routing::post;
    let asked: Arc<Mutex<BTreeMap<usize, usize>>> = Arc::default();
    let seen = Arc::clone(&asked);
    let answer = move |body: String| {
        let text = serde_json::from_str::<serde_json::Value>(&body).unwrap()["text"].to_string();
        let number: usize = text
            .split("sold e-")
            .nth(1)
            .unwrap()
            .split(' ')
            .next()
            .unwrap()
            .parse()
            .unwrap();
        *seen.lock().unwrap().entry(number).or_default() += 1;
        std::future::ready(REPLIES[number % REPLIES.len()].1())
    };
    let router = axum::Router::new()
        .route("/api/chat.postMessage", post(answer))
        .route("/api/auth.test", post(async || r#"{"ok":true,"team":"T","user":"u"}"#));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    runtime.spawn(async move { axum::serve(listener, router).await });
    (address, asked, runtime)
}

#[test]
fn whatever_a_provider_answers_is_kept_cut_and_masked_and_stops_no_sending() {
    let (address, asked, _runtime) = provider();
    let yaml = format!("slack: {{api_url: 'http://{address}/api', channel_rate: 1000/s, workspace_rate: 1000/s}}");
    let leadlane = Leadlane::new("replies", &yaml);
    leadlane.secret("sales-bot", "xoxb-hunter2-token");
    leadlane.ok(&["topics", "create", "--partitions", "1"]);
    leadlane.apply(&RULES.replace("sold {{$.event_id}}", "sold {{$.event_id}} for 84512377"));
    let mut process = leadlane.start(&[]);
    let rounds = 3;
    let count = REPLIES.len() * rounds;
    let events = (0..count).map(|number| event(number as u64, "lms.lead_sold", "12", "42.50"));
    let events: Vec<String> = events.collect();
    let producer = producer();
    for text in &events {
        let trace = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".to_vec();
        let raw = Raw {
            headers: vec![("traceparent", trace)],
            ..valued(text.as_bytes())
        };
        write(&producer, &leadlane.config.topics.events, &raw);
    }
    super::sender::until_final(&leadlane, count);
    assert_eq!(process.ended(0), None, "{}", process.log());
    let log = process.log();
    process.stop();
    assert!(
        asked.lock().unwrap().values().all(|times| *times == 1),
        "each is sent once: {asked:?}"
    );
    let outcomes = super::sender::outcomes(&leadlane);
    assert_eq!(outcomes.len(), count);
    for outcome in outcomes {
        let number: usize = outcome.event_id.strip_prefix("e-").unwrap().parse().unwrap();
        let (name, _, (result, is_right, message_id)) = &REPLIES[number % REPLIES.len()];
        let words = outcome.words.as_deref().unwrap_or_default();
        assert_eq!(
            (outcome.result.as_str(), outcome.message_id.as_deref()),
            (*result, *message_id),
            "{name}"
        );
        assert!(is_right(words), "{name}: {words}");
    }
    let dead = leadlane.read(&leadlane.config.topics.dead_letters);
    let told: Vec<String> = dead
        .iter()
        .map(|letter| letter.header("detail").unwrap().to_owned())
        .collect();
    assert_eq!(told.len(), 3 * rounds);
    for text in told.iter().chain([&log]) {
        assert!(
            !text.contains("hunter2") && !text.contains("aHVudGVy") && !text.contains("84512377"),
            "{text}"
        );
    }
}

#[test]
fn an_outcome_has_a_form_that_its_topic_takes_however_little_that_is() {
    let (address, asked, _runtime) = provider();
    let yaml = format!("slack: {{api_url: 'http://{address}/api', channel_rate: 1000/s, workspace_rate: 1000/s}}");
    let leadlane = Leadlane::new("outcomes", &yaml);
    let topics = &leadlane.config.topics;
    leadlane.secret("sales-bot", "xoxb-hunter2-token");
    leadlane.ok(&["topics", "create", "--partitions", "1"]);
    // The processor writes an outcome of its own for each event, the sender another.
    let shadow = "- {id: shadow, status: shadow, trigger: lms.lead_sold, scope: {level: product, id: '*'}, \
                  action: {type: slack_message, token: {secret: sales-bot}, to: {channel: C0SALES}, text: hi}}";
    let rules = RULES.replace("sold {{$.event_id}}", "sold {{$.event_id}} to a buyer");
    leadlane.apply(&format!("{rules}{shadow}\n"));
    let process = leadlane.start(&[]);
    // What every event holds that an outcome repeats is longer than what the topic takes from now on.
    let lead = letters(900);
    let send = |numbers: std::ops::Range<usize>| {
        let events: Vec<String> = numbers
            .map(|number| event(number as u64, "lms.lead_sold", "12", "42.50").replace("lead-", &lead))
            .collect();
        leadlane.write(&topics.events, events.iter().map(|text| ("k", Some(text.as_bytes()))));
    };
    let once = |count: usize| {
        let asked = asked.lock().unwrap();
        assert!(
            asked.len() == count && asked.values().all(|times| *times == 1),
            "{asked:?}"
        );
    };
    let all = REPLIES.len();
    send(0..all);
    super::sender::until_final(&leadlane, 2 * all);
    record_max(&topics.outcomes, "700");
    send(all..2 * all);
    super::sender::until_final(&leadlane, 4 * all);
    // It goes on, and whoever comes next reads what the short ones say.
    once(2 * all);
    process.stop();
    let mut process = leadlane.start(&[]);
    send(2 * all..3 * all);
    super::sender::until_final(&leadlane, 6 * all);
    once(3 * all);
    assert_eq!(process.ended(0), None, "{}", process.log());
    process.stop();
    let mut short = 0;
    for outcome in super::sender::outcomes(&leadlane) {
        let number: usize = outcome.event_id.strip_prefix("e-").unwrap().parse().unwrap();
        let wanted = match outcome.rule_id.as_str() {
            "shadow" => "shadowed",
            _ => REPLIES[number % all].2.0,
        };
        assert_eq!(outcome.result.as_str(), wanted, "{number}");
        assert_eq!(outcome.lead_id.len() < 100, number >= all, "{number}");
        short += usize::from(number >= all);
    }
    assert_eq!(short, 4 * all, "one for each match");
    assert!(leadlane.read(&topics.dead_letters).len() == 3 * 3, "of no outcome");
}

#[test]
fn what_a_dead_letter_leaves_out_is_replayed_from_its_source() {
    let foreign = foreign_topic();
    let mapping = "event: {event_id: '{{$.id}}', trigger: survey.answered, occurred_at: '{{$.at | date}}', lead_id: '{{$.email}}'}";
    let inlet = format!("inlets: [{{name: survey, kind: topic, topic: {foreign}, decode: json, {mapping}}}]");
    let leadlane = Leadlane::new("leftout", &inlet);
    let topics = &leadlane.config.topics;
    leadlane.ok(&["topics", "create", "--partitions", "1"]);
    let process = leadlane.start(&["--role", "inlets"]);
    record_max(&foreign, "3000000");
    // Its date can't be read, and it is larger than the dead letters take.
    let noise: String = noise(2_000_000).iter().map(|byte| format!("{byte:02x}")).collect();
    let record =
        format!("{{\"id\": \"s-1\", \"at\": \"soon\", \"email\": \"ana@example.com\", \"noise\": \"{noise}\"}}");
    write(&producer(), &foreign, &valued(record.as_bytes()));
    write(&producer(), &foreign, &valued(&self::noise(2_000_000)));
    let dead = leadlane.read_until(&topics.dead_letters, 30, |records| records.len() == 2);
    assert_eq!(
        (dead[0].header("left-out"), dead[0].value.as_deref()),
        (Some("value"), None),
        "{}",
        shown(&dead[0])
    );
    process.stop();
    let id = |letter: &Read| format!("{}-{}", letter.partition, letter.offset);
    let (first, replay) = (id(&dead[0]), |id: &str| leadlane.run(&["dead-letters", "replay", id]));
    let shown = leadlane.ok(&["--json", "dead-letters", "show", &first]);
    let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(
        (&shown["left_out"][0], &shown["value"]["id"]),
        (&"value".into(), &"s-1".into()),
        "it is read at its source"
    );
    // Mended, it is mapped from there.
    leadlane.rewrite("'{{$.at | date}}'", "'2026-03-05T15:16:00Z'");
    let replayed = replay(&first);
    // The event is as large as the record, which its own topic doesn't take.
    let why = String::from_utf8_lossy(&replayed.stderr);
    assert!(!replayed.status.success() && why.contains("larger than"), "{why}");
    record_max(&topics.events, "9000000");
    let replayed = replay(&first);
    assert!(
        replayed.status.success(),
        "{}",
        String::from_utf8_lossy(&replayed.stderr)
    );
    let events = leadlane.read_until(&topics.events, 30, |records| !records.is_empty());
    assert_eq!(
        (events[0].header("event-id"), events[0].header("replay-of")),
        (Some("s-1"), Some(first.as_str()))
    );
    // Retention takes the other's record.
    let mut list = rdkafka::TopicPartitionList::new();
    list.add_partition_offset(&foreign, 0, rdkafka::Offset::Offset(2))
        .unwrap();
    wait(admin().delete_records(&list, &AdminOptions::new())).unwrap();
    let lost = replay(&id(&dead[1]));
    let why = String::from_utf8_lossy(&lost.stderr);
    assert!(!lost.status.success() && why.contains("no longer in"), "{why}");
    // So it is once the topic itself is gone.
    wait(admin().delete_topics(&[&foreign], &AdminOptions::new())).unwrap();
    let gone = replay(&id(&dead[1]));
    let why = String::from_utf8_lossy(&gone.stderr);
    assert!(!gone.status.success() && why.contains("no longer in"), "{why}");
}

fn shown(letter: &Read) -> String {
    let headers = letter
        .headers
        .iter()
        .map(|(name, value)| format!("{name}={}", String::from_utf8_lossy(value)));
    headers.collect::<Vec<_>>().join(" ")
}
