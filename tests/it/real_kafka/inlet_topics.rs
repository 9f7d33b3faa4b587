//! Foreign topics become lead events, exactly once, and what can't is a dead letter that a replay maps again.

use std::collections::BTreeMap;
use std::time::Duration;

use apache_avro::writer::datum::GenericDatumWriter;
use leadlane::kafka::reader::Record;
use rdkafka::TopicPartitionList;
use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use serde_json::{Value, json};

use crate::support::{Leadlane, free_port, part};

/// A topic of somebody else's, and an administrator who looks after it.
pub(super) struct Foreign {
    pub(super) name: String,
    admin: AdminClient<DefaultClientContext>,
}

impl Foreign {
    pub(super) fn new(name: &str, partitions: i32) -> Self {
        let mut client = ClientConfig::new();
        client.set("bootstrap.servers", part("LEADLANE_TEST_KAFKA"));
        let foreign = Self {
            name: format!("salesforce.{name}-{}-{}", std::process::id(), free_port()),
            admin: client.create().unwrap(),
        };
        foreign.make(partitions);
        foreign
    }

    fn wait<T>(asked: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.unwrap().block_on(asked)
    }

    fn make(&self, partitions: i32) {
        assert!(self.try_make(partitions));
    }

    fn try_make(&self, partitions: i32) -> bool {
        let topic =
            NewTopic::new(&self.name, partitions, TopicReplication::Fixed(1)).set("max.message.bytes", "3000000");
        let made = Self::wait(self.admin.create_topics([&topic], &AdminOptions::new()));
        made.unwrap().remove(0).is_ok()
    }

    fn delete(&self) {
        let deleted = Self::wait(self.admin.delete_topics(&[&self.name], &AdminOptions::new()));
        deleted.unwrap().remove(0).unwrap();
    }

    /// From now on only the last record of each key is kept, as soon as the broker comes to it.
    fn compact(&self) {
        let topic = AlterConfig::new(ResourceSpecifier::Topic(&self.name))
            .set("cleanup.policy", "compact")
            .set("segment.ms", "1000")
            .set("min.cleanable.dirty.ratio", "0.001")
            .set("max.message.bytes", "3000000");
        let altered = Self::wait(self.admin.alter_configs([&topic], &AdminOptions::new()));
        altered.unwrap().remove(0).unwrap();
    }

    /// Deletes the topic and makes it again, once the broker has let go of it.
    pub(super) fn make_anew(&self, partitions: i32) {
        self.delete();
        while !self.try_make(partitions) {
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    }

    /// Retention takes what is before an offset of partition 0.
    fn lose_before(&self, offset: i64) {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&self.name, 0, rdkafka::Offset::Offset(offset))
            .unwrap();
        Self::wait(self.admin.delete_records(&list, &AdminOptions::new())).unwrap();
    }

    /// The inlet `crm`, with more to its entry.
    pub(super) fn crm(&self, more: &str) -> String {
        format!(
            "inlets: [{{name: crm, preset: salesforce, kind: topic, topic: {}{more}}}]",
            self.name
        )
    }
}

pub(super) fn change(kind: &str, ids: &[&str], number: u64) -> Value {
    json!({"ChangeEventHeader": {"entityName": "Contact", "recordIds": ids, "changeType": kind, "transactionKey": format!("k{number}"),
           "sequenceNumber": 1, "commitTimestamp": 1_521_611_063_000_i64, "changedFields": ["Email"]},
           "Email": format!("ana{number}@example.com")})
}

fn json(record: &Record) -> Value {
    serde_json::from_slice(record.value.as_deref().unwrap()).unwrap()
}

/// The committed lead events by id, with how often each is there.
pub(super) fn events(leadlane: &Leadlane) -> BTreeMap<String, usize> {
    let mut events = BTreeMap::new();
    for record in leadlane.read(&leadlane.config.topics.events) {
        let id = json(&record)["event_id"].as_str().unwrap().to_owned();
        assert_eq!(record.header("event-id"), Some(id.as_str()));
        *events.entry(id).or_default() += 1;
    }
    events
}

#[test]
fn change_events_in_every_wrapper_become_lead_events() {
    let foreign = Foreign::new("Contact", 1);
    // A second inlet reads the same topic, by a mapping of its own.
    let second = format!(
        "}}, {{name: deleted, preset: salesforce, kind: topic, topic: {}, when: [{{path: $.ChangeEventHeader.changeType, eq: DELETE}}]",
        foreign.name
    );
    let leadlane = Leadlane::new("crm", &foreign.crm(&second));
    leadlane.ok(&["topics", "create", "--partitions", "1"]);
    leadlane.ok(&["topics", "check"]);
    let plain = change("UPDATE", &["001A", "001B"], 1);
    let shapes = [
        json!({"data": {"schema": "s", "payload": plain, "event": {"replayId": 6}}, "channel": "/data/ContactChangeEvent"}),
        json!({"schema": {"type": "struct"}, "payload": change("CREATE", &["002"], 2)}),
        json!({"payload": {"before": null, "after": change("UNDELETE", &["003"], 3), "op": "u"}}),
        change("DELETE", &["004"], 4),
    ];
    let shapes: Vec<String> = shapes.iter().map(Value::to_string).collect();
    // As a registry's serializer for JSON frames it.
    let plain = change("CREATE", &["005"], 5).to_string();
    let framed = [&[0, 0, 0, 0, 7][..], plain.as_bytes()].concat();
    let mut records: Vec<(&str, Option<&[u8]>)> = shapes.iter().map(|shape| ("k", Some(shape.as_bytes()))).collect();
    records.extend([("tombstone", None), ("k", Some(framed.as_slice()))]);
    leadlane.write(&foreign.name, records);
    let process = leadlane.start(&["--role", "inlets"]);
    let found = leadlane.read_until(&leadlane.config.topics.events, 30, |records| records.len() >= 7);
    let metrics = leadlane.get("/metrics").unwrap().1;
    process.stop();
    let told = found.iter().map(|record| {
        let event = json(record);
        let text = |name: &str| event[name].as_str().unwrap().to_owned();
        assert_eq!(record.key.as_deref(), Some(text("lead_id").as_bytes()));
        ["event_id", "trigger", "lead_id", "inlet"].map(text).join(" ")
    });
    assert_eq!(
        told.collect::<Vec<_>>(),
        [
            "k1:1:001A salesforce.record_updated 001A crm",
            "k1:1:001B salesforce.record_updated 001B crm",
            "k2:1:002 salesforce.record_created 002 crm",
            "k3:1:003 salesforce.record_created 003 crm",
            "k4:1:004 salesforce.record_deleted 004 crm",
            "k4:1:004 salesforce.record_deleted 004 deleted",
            "k5:1:005 salesforce.record_created 005 crm",
        ]
    );
    assert_eq!(json(&found[0])["payload"]["Email"], "ana1@example.com");
    assert_eq!(json(&found[0])["occurred_at"], "2018-03-21T05:44:23Z");
    assert!(leadlane.read(&leadlane.config.topics.dead_letters).is_empty());
    for (inlet, result, count) in [
        ("crm", "accepted", 6),
        ("crm", "left_out", 1),
        ("deleted", "left_out", 5),
    ] {
        let line = format!("leadlane_inlet_events_total{{inlet=\"{inlet}\",result=\"{result}\"}} {count}\n");
        assert!(metrics.contains(&line), "no {line}in {metrics}");
    }
}

#[test]
fn what_cannot_be_mapped_is_one_dead_letter_that_says_why() {
    let foreign = Foreign::new("dead", 1);
    let leadlane = Leadlane::new("dead-inlets", &foreign.crm(""));
    leadlane.ok(&["topics", "create", "--partitions", "1"]);
    let gap = change("GAP_UPDATE", &["006", "007"], 6).to_string();
    let wildcard = change("UPDATE", &["008", "001*"], 7).to_string();
    let mut large = change("UPDATE", &["009"], 8);
    large["Description"] = "x".repeat(1_500_000).into();
    let large = large.to_string();
    let records: [(&str, &[u8], &str, &str); 5] = [
        (
            "broken",
            b"{\"secret\": SECRET",
            "not_decodable",
            "malformed JSON at line 1",
        ),
        (
            "gap",
            gap.as_bytes(),
            "invalid_event",
            "refuse: a gap event names no fields",
        ),
        (
            "wildcard",
            wildcard.as_bytes(),
            "invalid_event",
            "refuse: a wildcard names no record",
        ),
        (
            "large",
            large.as_bytes(),
            "too_large",
            "a lead event made of it is larger than",
        ),
        ("empty", b"", "not_decodable", "malformed JSON"),
    ];
    leadlane.write(&foreign.name, records.map(|(key, value, ..)| (key, Some(value))));
    let process = leadlane.start(&["--role", "inlets"]);
    let dead = leadlane.read_until(&leadlane.config.topics.dead_letters, 30, |records| records.len() >= 5);
    process.stop();
    assert_eq!(dead.len(), 5);
    for (offset, (record, (key, value, reason, why))) in dead.iter().zip(records).enumerate() {
        let header = |name| record.header(name).unwrap();
        assert_eq!(record.key.as_deref(), Some(key.as_bytes()));
        assert_eq!(
            record.value.as_deref().unwrap_or_default(),
            value,
            "the bytes are untouched"
        );
        assert_eq!(
            (header("source-topic"), header("inlet")),
            (foreign.name.as_str(), "crm")
        );
        let place = (header("source-partition"), header("source-offset"));
        assert_eq!(place, ("0", offset.to_string().as_str()));
        assert_eq!(header("reason"), reason, "{key}");
        let detail = header("detail");
        assert!(detail.starts_with(why), "{key}: {detail}");
        assert!(
            !detail.contains("SECRET") && !detail.contains("example.com"),
            "a detail quotes no value"
        );
        assert!(header("failed-at").parse::<jiff::Timestamp>().is_ok());
    }
    // Of the wildcard's record what can be mapped is.
    assert_eq!(events(&leadlane).into_keys().collect::<Vec<_>>(), ["k7:1:008"]);
}

const CONTACT: &str = r#"{"type": "record", "name": "ContactChangeEvent", "fields": [
    {"name": "ChangeEventHeader", "type": {"type": "record", "name": "Header", "fields": [
        {"name": "recordIds", "type": {"type": "array", "items": "string"}},
        {"name": "changeType", "type": {"type": "enum", "name": "ChangeType", "symbols": ["CREATE", "UPDATE", "GAP_UPDATE"]}},
        {"name": "transactionKey", "type": "string"}, {"name": "sequenceNumber", "type": "int"},
        {"name": "commitTimestamp", "type": {"type": "long", "logicalType": "timestamp-millis"}}]}},
    {"name": "Amount", "type": ["null", {"type": "bytes", "logicalType": "decimal", "precision": 38, "scale": 4}]},
    {"name": "Email", "type": ["null", "string"]}]}"#;

fn framed(id: u32, kind: (u32, &str), ids: &[&str]) -> Vec<u8> {
    use apache_avro::types::Value as Avro;
    let schema = apache_avro::Schema::parse_str(CONTACT).unwrap();
    let text = |text: &str| Avro::String(text.to_owned());
    let header = vec![
        ("recordIds".into(), Avro::Array(ids.iter().map(|id| text(id)).collect())),
        ("changeType".into(), Avro::Enum(kind.0, kind.1.to_owned())),
        ("transactionKey".into(), text("k")),
        ("sequenceNumber".into(), Avro::Int(3)),
        ("commitTimestamp".into(), Avro::TimestampMillis(1_521_611_063_000)),
    ];
    // 123456789012345678901234567890.1234, which no float and no 28 digits hold.
    let unscaled = 1_234_567_890_123_456_789_012_345_678_901_234_i128.to_be_bytes();
    let record = Avro::Record(vec![
        ("ChangeEventHeader".into(), Avro::Record(header)),
        (
            "Amount".into(),
            Avro::Union(1, Box::new(Avro::Decimal(unscaled.to_vec().into()))),
        ),
        ("Email".into(), Avro::Union(0, Box::new(Avro::Null))),
    ]);
    let writer = GenericDatumWriter::builder(&schema).build().unwrap();
    let datum = writer.write_value_to_vec(record).unwrap();
    [&[0][..], &id.to_be_bytes(), &datum].concat()
}

/// Registers the schema, and gives its id.
pub(super) fn register(url: &str, subject: &str, schema: &str) -> u32 {
    let body = json!({"schema": schema}).to_string();
    let sending = async {
        let request = reqwest::Client::new().post(format!("{url}/subjects/{subject}/versions"));
        let request = request.header("content-type", "application/vnd.schemaregistry.v1+json");
        request.body(body).send().await.unwrap().text().await.unwrap()
    };
    let answer: Value = serde_json::from_str(&Foreign::wait(sending)).unwrap();
    u32::try_from(answer["id"].as_u64().unwrap_or_else(|| panic!("{answer}"))).unwrap()
}

#[test]
fn avro_is_read_by_the_registry() {
    let registry = part("LEADLANE_TEST_REGISTRY");
    let foreign = Foreign::new("Avro", 1);
    let id = register(&registry, &foreign.name, CONTACT);
    let yaml = format!(
        "schema_registry: {{url: '{registry}'}}\n{}",
        foreign.crm(", decode: avro")
    );
    let leadlane = Leadlane::new("avro", &yaml);
    leadlane.ok(&["topics", "create", "--partitions", "1"]);
    let (good, gap) = (
        framed(id, (1, "UPDATE"), &["001A", "001B"]),
        framed(id, (2, "GAP_UPDATE"), &["002"]),
    );
    let (denied, cut) = (framed(987_654, (0, "CREATE"), &["003"]), &good[..good.len() - 1]);
    let single_object = b"\xC3\x01\0\0\0\0\0\0\0\0x";
    leadlane.write(
        &foreign.name,
        [
            ("a", Some(good.as_slice())),
            ("b", Some(&gap)),
            ("c", Some(&denied)),
            ("d", Some(cut)),
            ("e", Some(single_object)),
        ],
    );
    let process = leadlane.start(&["--role", "inlets"]);
    let dead = leadlane.read_until(&leadlane.config.topics.dead_letters, 30, |records| records.len() >= 4);
    process.stop();
    let reasons: Vec<_> = dead.iter().map(|record| record.header("reason").unwrap()).collect();
    assert_eq!(
        reasons,
        ["invalid_event", "unknown_schema", "not_decodable", "unknown_schema"]
    );
    assert_eq!(
        dead[0].value.as_deref(),
        Some(gap.as_slice()),
        "the bytes are untouched"
    );
    let found = leadlane.read(&leadlane.config.topics.events);
    assert_eq!(found.len(), 2);
    let event = json(&found[1]);
    assert_eq!(
        (&event["event_id"], &event["occurred_at"]),
        (&"k:3:001B".into(), &"2018-03-21T05:44:23Z".into())
    );
    assert_eq!(
        event["payload"]["Amount"].to_string(),
        "123456789012345678901234567890.1234"
    );
    assert_eq!(event["payload"]["Email"], Value::Null);
}

#[test]
fn a_replay_maps_again_and_writes_to_no_foreign_topic() {
    let foreign = Foreign::new("replay", 1);
    let leadlane = Leadlane::new("replay-inlets", &foreign.crm(""));
    leadlane.ok(&["topics", "create", "--partitions", "1"]);
    let gap = change("GAP_UPDATE", &["001", "002"], 1).to_string();
    leadlane.write(&foreign.name, [("a", Some(gap.as_bytes())), ("b", Some(&b"{"[..]))]);
    let process = leadlane.start(&["--role", "inlets"]);
    let dead = leadlane.read_until(&leadlane.config.topics.dead_letters, 30, |records| records.len() == 2);
    process.stop();
    let [first, second] = [0, 1].map(|at: usize| format!("0-{}", dead[at].offset));
    let replay = |arguments: &[&str]| {
        let ran = leadlane.run(&[&["dead-letters", "replay"], arguments].concat());
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        (ran.status.code().unwrap(), text(&ran.stdout), text(&ran.stderr))
    };
    // As it is configured nothing can be mapped any better.
    let (code, said, why) = replay(&["--all"]);
    assert_eq!((code, said.as_str()), (1, ""), "{why}");
    let still = "not replayed: inlet crm still can't map it";
    assert!(
        why.contains(&format!("{first}: {still}: invalid_event: refuse: a gap event")),
        "{why}"
    );
    assert!(
        why.contains(&format!("{second}: {still}: not_decodable: malformed JSON")),
        "{why}"
    );
    // A line is torn where the screen ends.
    let listed = leadlane.ok(&["dead-letters", "list"]);
    let listed = listed.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        listed.contains(&format!("from {} 0-1", foreign.name)) && listed.contains("inlet crm: "),
        "{listed}"
    );
    let shown: Value = serde_json::from_str(&leadlane.ok(&["--json", "dead-letters", "show", &first])).unwrap();
    assert_eq!(
        (&shown["inlet"], &shown["value"]["Email"]),
        (&"crm".into(), &"ana1@example.com".into())
    );
    // The one who knows what a gap means to them says so.
    leadlane.rewrite(
        "preset: salesforce",
        "preset: salesforce, refuse: {when: [{path: $.never, exists: true}], because: never}, event: {trigger: salesforce.gap}",
    );
    let topic = &leadlane.config.topics.events;
    let (code, said, why) = replay(&[&first]);
    let wanted = format!("{first}: replayed to {topic}, 2 events, mapped again by inlet crm\n");
    assert_eq!((code, said), (0, wanted), "{why}");
    let found = leadlane.read(topic);
    assert_eq!(
        events(&leadlane).into_keys().collect::<Vec<_>>(),
        ["k1:1:001", "k1:1:002"]
    );
    for record in &found {
        assert_eq!(record.header("replay-of"), Some(first.as_str()));
        assert_eq!(json(record)["trigger"], "salesforce.gap");
        assert_eq!(
            record.key.as_deref(),
            json(record)["lead_id"].as_str().map(str::as_bytes)
        );
    }
    assert!(replay(&[&first]).2.contains("1 left as they are"));
    leadlane.rewrite("name: crm", "name: other");
    let (code, _, why) = replay(&[&second]);
    assert_eq!(code, 1);
    assert!(
        why.contains("there is no inlet crm; the configuration has other"),
        "{why}"
    );
    assert_eq!(leadlane.read(&foreign.name).len(), 2);
}

#[test]
fn killed_ten_times_each_record_is_an_event_once() {
    let foreign = Foreign::new("killed", 3);
    let leadlane = Leadlane::new("killed-inlets", &foreign.crm(""));
    leadlane.ok(&["topics", "create", "--partitions", "3"]);
    let records: Vec<(String, String)> = (0..10_000)
        .map(|number| {
            let ids = [format!("a{number}"), format!("b{number}")];
            let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
            (format!("key-{number}"), change("UPDATE", &ids, number).to_string())
        })
        .collect();
    for kill in 0..10_usize {
        let process = leadlane.start(&["--role", "inlets"]);
        let part = &records[kill * 1000..(kill + 1) * 1000];
        leadlane.write(
            &foreign.name,
            part.iter().map(|(key, value)| (key.as_str(), Some(value.as_bytes()))),
        );
        // Some die with a transaction open, some between two.
        std::thread::sleep(Duration::from_millis(7 * u64::try_from(kill).unwrap()));
        process.kill();
    }
    let process = leadlane.start(&["--role", "inlets"]);
    leadlane.read_until(&leadlane.config.topics.events, 90, |records| records.len() >= 20_000);
    process.stop();
    let found = events(&leadlane);
    assert_eq!(found.len(), 20_000);
    assert!(found.values().all(|count| *count == 1));
}

#[test]
fn a_registry_that_is_away_delays_the_topics() {
    let port = free_port();
    let foreign = Foreign::new("away", 1);
    let leadlane = Leadlane::new(
        "away",
        &format!(
            "schema_registry: {{url: 'http://127.0.0.1:{port}'}}\n{}",
            foreign.crm(", decode: [avro, json]")
        ),
    );
    leadlane.ok(&["topics", "create", "--partitions", "1"]);
    let plain = change("UPDATE", &["2"], 2).to_string();
    leadlane.write(
        &foreign.name,
        [
            ("a", Some(framed(1, (1, "UPDATE"), &["1"]).as_slice())),
            ("b", Some(plain.as_bytes())),
        ],
    );
    let process = leadlane.start(&["--role", "inlets"]);
    process.log_until(30, |log| {
        log.contains("the inlets' topics wait for the schema registry")
    });
    assert!(events(&leadlane).is_empty(), "what is behind it waits for its turn");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let answer = json!({"schema": CONTACT}).to_string();
    let router = axum::Router::new().route("/schemas/ids/1", axum::routing::get(async || answer));
    let listener = runtime
        .block_on(tokio::net::TcpListener::bind(("127.0.0.1", port)))
        .unwrap();
    runtime.spawn(async move { axum::serve(listener, router).await });
    leadlane.read_until(&leadlane.config.topics.events, 30, |records| records.len() >= 2);
    assert_eq!(events(&leadlane).into_keys().collect::<Vec<_>>(), ["k2:1:2", "k:3:1"]);
    assert!(leadlane.read(&leadlane.config.topics.dead_letters).is_empty());
    process.stop();
}

#[test]
fn a_missing_topic_is_named_at_the_start_and_waited_for_later() {
    let foreign = Foreign::new("gone", 1);
    let missing = Leadlane::new(
        "missing",
        &foreign.crm(&format!(
            "}}, {{name: two, preset: salesforce, kind: topic, topic: {}.not",
            foreign.name
        )),
    );
    missing.ok(&["topics", "create", "--partitions", "1"]);
    for command in [&["topics", "check"][..], &["run"], &["run", "--role", "inlets"]] {
        let ran = missing.run(command);
        let said = String::from_utf8(ran.stderr).unwrap();
        assert_eq!(ran.status.code(), Some(1), "{said}");
        assert!(
            said.contains(&format!(
                "topic {}.not, which the inlet two reads, isn't there",
                foreign.name
            )),
            "{said}"
        );
    }
    let leadlane = Leadlane::new("gone", &foreign.crm(""));
    leadlane.ok(&["topics", "create", "--partitions", "1"]);
    let mut process = leadlane.start(&["--role", "inlets"]);
    let put = |number| {
        let record = change("UPDATE", &["1"], number).to_string();
        leadlane.write(&foreign.name, [("a", Some(record.as_bytes()))]);
    };
    put(1);
    leadlane.read_until(&leadlane.config.topics.events, 30, |records| records.len() == 1);
    foreign.delete();
    process.log_until(60, |log| log.contains("the topic is missing"));
    assert_eq!(process.ended(12), None, "{}", process.log());
    foreign.make(1);
    put(2);
    leadlane.read_until(&leadlane.config.topics.events, 60, |records| records.len() == 2);
    process.stop();
}

#[test]
fn what_retention_took_is_counted_and_passed() {
    let foreign = Foreign::new("lost", 1);
    let leadlane = Leadlane::new("lost", &foreign.crm(""));
    leadlane.ok(&["topics", "create", "--partitions", "1"]);
    let put = |numbers: std::ops::Range<u64>| {
        let records: Vec<String> = numbers
            .map(|number| change("UPDATE", &["1"], number).to_string())
            .collect();
        leadlane.write(
            &foreign.name,
            records.iter().map(|record| ("a", Some(record.as_bytes()))),
        );
    };
    put(0..5);
    let process = leadlane.start(&["--role", "inlets"]);
    leadlane.read_until(&leadlane.config.topics.events, 30, |records| records.len() == 5);
    process.stop();
    put(5..10);
    foreign.lose_before(8);
    let process = leadlane.start(&["--role", "inlets"]);
    leadlane.read_until(&leadlane.config.topics.events, 30, |records| records.len() == 7);
    let metrics = leadlane.get("/metrics").unwrap().1;
    assert!(metrics.contains("leadlane_events_lost_total 3\n"), "{metrics}");
    assert!(process.log().contains("lost to retention"));
    process.stop();
}

#[test]
fn what_compaction_took_is_not_read_again() {
    let foreign = Foreign::new("compacted", 1);
    foreign.compact();
    let leadlane = Leadlane::new("compacted", &foreign.crm(""));
    leadlane.ok(&["topics", "create", "--partitions", "1"]);
    let put = |key: &str, numbers: std::ops::Range<u64>| {
        let records: Vec<String> = numbers
            .map(|number| change("UPDATE", &["1"], number).to_string())
            .collect();
        leadlane.write(
            &foreign.name,
            records.iter().map(|record| (key, Some(record.as_bytes()))),
        );
    };
    put("a", 0..20);
    let process = leadlane.start(&["--role", "inlets"]);
    leadlane.read_until(&leadlane.config.topics.events, 30, |records| records.len() == 20);
    process.stop();
    // The segment that holds them all is closed by the next, and is left with nothing.
    std::thread::sleep(Duration::from_secs(2));
    put("a", 20..21);
    std::thread::sleep(Duration::from_secs(2));
    put("b", 21..22);
    let left = || leadlane.read(&foreign.name).len();
    let until = std::time::Instant::now() + Duration::from_secs(90);
    while left() > 3 {
        assert!(std::time::Instant::now() < until, "{} records are left", left());
        std::thread::sleep(Duration::from_secs(1));
    }
    let process = leadlane.start(&["--role", "inlets"]);
    leadlane.read_until(&leadlane.config.topics.events, 30, |records| records.len() >= 22);
    assert!(!process.log().contains("made anew"), "{}", process.log());
    process.stop();
    assert_eq!(leadlane.read(&leadlane.config.topics.events).len(), 22);
}

#[test]
fn files_go_through_a_mapping() {
    let leadlane = Leadlane::new("rows", "inlets: [{name: leads, preset: sheet}]");
    leadlane.ok(&["topics", "create", "--partitions", "1"]);
    let file = leadlane.dir.join("rows.csv");
    std::fs::write(
        &file,
        "Email,Plan\nana@example.com,pro\n,pro\n\"bo\n@example.com\",free\ncy@example.com,pro,x\ndi@example.com,pro\n",
    )
    .unwrap();
    let ran = leadlane.run(&["events", "send", "--inlet", "leads", file.to_str().unwrap()]);
    let (said, why) = (
        String::from_utf8(ran.stdout).unwrap(),
        String::from_utf8(ran.stderr).unwrap(),
    );
    assert_eq!(ran.status.code(), Some(2), "{why}");
    let topic = &leadlane.config.topics.events;
    assert_eq!(
        said,
        format!("3 events sent to {topic} by inlet leads, 0 records left out, 2 lines refused\n")
    );
    assert!(
        why.contains("rows.csv:3: not sent: invalid_event: event.lead_id: no column"),
        "{why}"
    );
    assert!(
        why.contains("rows.csv:6: not sent: not_decodable: 3 cells for 2 titles"),
        "{why}"
    );
    let found = leadlane.read(topic);
    let leads: Vec<String> = found
        .iter()
        .map(|record| json(record)["lead_id"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(leads, ["ana@example.com", "bo\n@example.com", "di@example.com"]);
    assert_eq!(
        json(&found[0])["payload"],
        json!({"Email": "ana@example.com", "Plan": "pro"})
    );
    // The same row is the same event, from whichever file.
    let lines = leadlane.dir.join("rows.jsonl");
    std::fs::write(&lines, "{\"Plan\":\"pro\",\"Email\":\"ana@example.com\"}\n").unwrap();
    leadlane.ok(&[
        "events",
        "send",
        "--inlet",
        "leads",
        "--format",
        "avro",
        lines.to_str().unwrap(),
    ]);
    let found = leadlane.read(topic);
    assert_eq!(found[3].value.as_deref().unwrap()[..2], [0xC3, 0x01]);
    assert_eq!(found[3].header("event-id"), found[0].header("event-id"));
    // How events are written says nothing of the file.
    let ran = leadlane.run(&[
        "events",
        "send",
        "--inlet",
        "leads",
        "--format",
        "avro",
        file.to_str().unwrap(),
    ]);
    assert_eq!(String::from_utf8(ran.stdout).unwrap(), said);
}

#[test]
fn a_dead_letter_of_a_request_is_mapped_again_with_its_route() {
    let yaml = "inlets: [{name: product, preset: track, secrets: [{secret: write-key}]}]";
    let leadlane = Leadlane::new("request", yaml);
    leadlane.ok(&["topics", "create", "--partitions", "1"]);
    let call = json!({"messageId": "m-1", "userId": "u1", "event": "Won"}).to_string();
    let headers = [
        ("reason", "invalid_event"),
        ("source-topic", "inlet:product"),
        ("inlet", "product"),
        ("route", "v1/track"),
    ];
    let mut kept = rdkafka::message::OwnedHeaders::new();
    for (key, value) in headers {
        let value = Some(value);
        kept = kept.insert(rdkafka::message::Header { key, value });
    }
    let letter = leadlane::kafka::producer::Record {
        topic: &leadlane.config.topics.dead_letters,
        partition: None,
        key: b"",
        value: Some(call.as_bytes()),
        headers: kept,
    };
    leadlane.producer().write_and_wait(&letter).unwrap();
    let listed = leadlane.ok(&["dead-letters", "list"]);
    assert!(listed.contains("invalid_event       from inlet:product"), "{listed}");
    let tried = leadlane.ok(&["dead-letters", "replay", "--all", "--dry-run"]);
    let topic = &leadlane.config.topics.events;
    assert_eq!(
        tried,
        format!("0-0: would go to {topic}, mapped again by inlet product\n")
    );
    assert!(leadlane.read(topic).is_empty());
    leadlane.ok(&["dead-letters", "replay", "0-0"]);
    let found = leadlane.read(topic);
    assert_eq!(
        (&json(&found[0])["trigger"], found[0].header("replay-of")),
        (&"call.track".into(), Some("0-0"))
    );
}
