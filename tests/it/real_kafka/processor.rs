//! Events to jobs, exactly once, whatever happens to the process.

use std::collections::BTreeMap;
use std::time::Duration;

use leadlane::delivery::DeliveryJob;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;

use crate::support::{Leadlane, event, free_port, part, python};

const RULES: &str = r#"
- id: sold
  trigger: lms.lead_sold
  scope: {level: product, id: "12"}
  filters: {price: {gte: 25}}
  action: {type: slack_message, token: {secret: sales-bot}, to: {channel: C0SALES}, text: "Lead {{$.lead_id}} for {{$.price | money}}"}
- id: sold-any
  trigger: lms.lead_sold
  scope: {level: product, id: "*"}
  filters: {price: {gte: 90}}
  action: {type: slack_webhook, url: {secret: alerts-webhook}, text: "Lead {{$.lead_id}}"}
"#;

/// (event id, rule id), with how often it is there.
type Matches = BTreeMap<(String, String), usize>;

/// Every committed job.
fn jobs(leadlane: &Leadlane) -> Matches {
    let mut jobs = BTreeMap::new();
    for record in leadlane.read(&leadlane.config.topics.jobs) {
        let job = DeliveryJob::decode(record.value.as_deref().unwrap()).unwrap();
        *jobs.entry((job.event_id, job.rule_id)).or_default() += 1;
    }
    jobs
}

/// Events with prices from 0 to 99, and what the two rules make of them.
fn events(count: u64) -> (Vec<(String, String)>, Matches) {
    let mut wanted = BTreeMap::new();
    let events = (0..count).map(|number| {
        let (product, price) = (if number % 3 == 0 { "12" } else { "14" }, number % 100);
        if product == "12" && price >= 25 {
            wanted.insert((format!("e-{number}"), "sold".to_owned()), 1);
        }
        if price >= 90 {
            wanted.insert((format!("e-{number}"), "sold-any".to_owned()), 1);
        }
        (
            format!("lead-{number}"),
            event(number, "lms.lead_sold", product, &format!("{price}.00")),
        )
    });
    let events = events.collect();
    (events, wanted)
}

fn pairs(events: &[(String, String)]) -> impl Iterator<Item = (&str, Option<&[u8]>)> {
    events.iter().map(|(key, value)| (key.as_str(), Some(value.as_bytes())))
}

#[test]
fn killed_ten_times_each_match_is_there_once() {
    let leadlane = Leadlane::new("killed", "");
    leadlane.ok(&["topics", "create", "--partitions", "4"]);
    leadlane.apply(RULES);
    let (events, wanted) = events(40_000);
    let topic = &leadlane.config.topics.events;
    for kill in 0..10 {
        let process = leadlane.start(&["--role", "processor"]);
        leadlane.write(topic, pairs(&events[kill * 4000..(kill + 1) * 4000]));
        // Some die with a transaction open, some between two.
        std::thread::sleep(Duration::from_millis(7 * u64::try_from(kill).unwrap()));
        process.kill();
    }
    let process = leadlane.start(&["--role", "processor"]);
    leadlane.read_until(&leadlane.config.topics.jobs, 60, |records| {
        records.len() >= wanted.len()
    });
    process.stop();
    assert_eq!(jobs(&leadlane), wanted);
}

#[test]
fn a_stop_is_obeyed_while_kafka_takes_nothing_that_is_written() {
    let leadlane = Leadlane::new("stop-in-vain", "");
    leadlane.ok(&["topics", "create", "--partitions", "1"]);
    leadlane.apply(RULES);
    let process = leadlane.start(&["--role", "processor"]);
    let topics = &leadlane.config.topics;
    let admin: AdminClient<DefaultClientContext> = ClientConfig::new()
        .set("bootstrap.servers", part("LEADLANE_TEST_KAFKA"))
        .create()
        .unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let deleted = runtime.block_on(admin.delete_topics(&[topics.jobs.as_str()], &AdminOptions::new()));
    deleted.unwrap().remove(0).unwrap();
    let (events, wanted) = events(200);
    leadlane.write(&topics.events, pairs(&events));
    let until = std::time::Instant::now() + Duration::from_secs(60);
    while !process.log().contains("the transaction is aborted") {
        assert!(std::time::Instant::now() < until, "{}", process.log());
        std::thread::sleep(Duration::from_millis(100));
    }
    // Clean, so that nothing had to be given up.
    process.stop();
    leadlane.ok(&["topics", "create", "--partitions", "1"]);
    let process = leadlane.start(&["--role", "processor"]);
    leadlane.read_until(&topics.jobs, 60, |records| records.len() >= wanted.len());
    process.stop();
    assert_eq!(jobs(&leadlane), wanted, "the successor has it all");
}

#[test]
fn two_processes_that_come_and_go_make_what_one_makes() {
    let leadlane = Leadlane::new("two", "");
    leadlane.ok(&["topics", "create", "--partitions", "4"]);
    leadlane.apply(RULES);
    let (events, wanted) = events(20_000);
    let first = leadlane.start(&["--role", "processor"]);
    leadlane.write(&leadlane.config.topics.events, pairs(&events[..10_000]));
    let second = {
        let twin = format!("127.0.0.1:{}", free_port());
        let mut command = leadlane.command(&["run", "--role", "processor"]);
        command
            .env("LEADLANE__ADMIN__LISTEN", twin)
            .env("LEADLANE__PROCESSOR__INSTANCE", "second");
        command.stderr(std::process::Stdio::null()).spawn().unwrap()
    };
    leadlane.write(&leadlane.config.topics.events, pairs(&events[10_000..]));
    std::thread::sleep(Duration::from_secs(2));
    first.stop();
    leadlane.read_until(&leadlane.config.topics.jobs, 60, |records| {
        records.len() >= wanted.len()
    });
    let mut second = second;
    std::process::Command::new("kill")
        .args(["-TERM", &second.id().to_string()])
        .status()
        .unwrap();
    assert!(second.wait().unwrap().success());
    assert_eq!(jobs(&leadlane), wanted);
}

#[test]
fn a_process_that_was_stopped_for_longer_than_its_session_goes_on() {
    let leadlane = Leadlane::new("stopped", "");
    leadlane.short_session();
    leadlane.ok(&["topics", "create", "--partitions", "4"]);
    leadlane.apply(RULES);
    let (events, wanted) = events(8_000);
    let process = leadlane.start(&["--role", "processor"]);
    leadlane.write(&leadlane.config.topics.events, pairs(&events[..4000]));
    process.signal("STOP");
    leadlane.write(&leadlane.config.topics.events, pairs(&events[4000..]));
    // Longer than the session (6 s) and the transaction (10 s).
    std::thread::sleep(Duration::from_secs(13));
    process.signal("CONT");
    leadlane.read_until(&leadlane.config.topics.jobs, 60, |records| {
        records.len() >= wanted.len()
    });
    process.stop();
    assert_eq!(jobs(&leadlane), wanted);
}

#[test]
fn a_twin_is_named_when_it_fences() {
    let leadlane = Leadlane::new("twin", "");
    leadlane.ok(&["topics", "create", "--partitions", "2"]);
    leadlane.apply(RULES);
    let (events, _) = events(30_000);
    let mut first = leadlane.start(&["--role", "processor"]);
    let mut twin = leadlane.command(&["run", "--role", "processor"]);
    twin.env("LEADLANE__ADMIN__LISTEN", format!("127.0.0.1:{}", free_port()));
    let log = leadlane.dir.join("twin.txt");
    let mut twin = twin.stderr(std::fs::File::create(&log).unwrap()).spawn().unwrap();
    // They fence each other for as long as both have work.
    let mut ended = None;
    for chunk in events.chunks(500) {
        leadlane.write(&leadlane.config.topics.events, pairs(chunk));
        ended = first.ended(1).map(|code| (code, first.log()));
        ended = ended.or_else(|| {
            let status = twin.try_wait().unwrap()?;
            Some((status.code()?, std::fs::read_to_string(&log).unwrap()))
        });
        if ended.is_some() {
            break;
        }
    }
    drop(twin.kill());
    drop(twin.wait());
    let (code, log) = ended.expect("neither of the two ended");
    assert_eq!(code, 1, "{log}");
    assert!(log.contains("processor.instance"), "{log}");
}

#[test]
fn a_registry_that_is_away_delays_and_one_that_denies_does_not() {
    let port = free_port();
    let leadlane = Leadlane::new(
        "registry",
        &format!("schema_registry: {{url: 'http://127.0.0.1:{port}'}}"),
    );
    leadlane.ok(&["topics", "create", "--partitions", "1"]);
    leadlane.apply(RULES);
    let schema = include_str!("../../../schemas/lead_event.avsc");
    let text = event(1, "lms.lead_sold", "12", "99.00");
    let schemas = leadlane::lead::schemas::Schemas::new();
    let decoded = leadlane::lead::decode::decode(text.as_bytes(), &schemas).unwrap();
    let framed = |id: u8| {
        [
            &[0, 0, 0, 0, id][..],
            &leadlane::lead::encode::single_object(&decoded).unwrap()[10..],
        ]
        .concat()
    };
    let json = event(2, "lms.lead_sold", "12", "99.00");
    let (known, denied) = (framed(1), framed(2));
    let events: [(&str, Option<&[u8]>); 3] = [("a", Some(&known)), ("b", Some(&denied)), ("c", Some(json.as_bytes()))];
    leadlane.write(&leadlane.config.topics.events, events);
    let process = leadlane.start(&["--role", "processor"]);
    std::thread::sleep(Duration::from_secs(2));
    assert!(
        leadlane.read(&leadlane.config.topics.dead_letters).is_empty(),
        "a registry that is away makes no dead letter"
    );
    assert!(
        leadlane.read(&leadlane.config.topics.jobs).is_empty(),
        "the events behind it wait for their turn"
    );
    assert!(process.log().contains("schema registry"), "{}", process.log());
    // What piles up meanwhile is seen from outside.
    leadlane.lag_until(3);

    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let answer = serde_json::json!({"schema": schema}).to_string();
    let router = axum::Router::new().route("/schemas/ids/1", axum::routing::get(async || answer));
    let listener = runtime
        .block_on(tokio::net::TcpListener::bind(("127.0.0.1", port)))
        .unwrap();
    runtime.spawn(async move { axum::serve(listener, router).await });
    leadlane.read_until(&leadlane.config.topics.jobs, 30, |records| records.len() >= 4);
    let dead = leadlane.read(&leadlane.config.topics.dead_letters);
    assert_eq!(dead.len(), 1);
    assert_eq!(dead[0].header("reason"), Some("unknown_schema"));
    assert_eq!(
        dead[0].value.as_deref(),
        Some(denied.as_slice()),
        "the bytes are untouched"
    );
    assert_eq!(dead[0].key.as_deref(), Some(b"b".as_slice()));
    process.stop();
}

#[test]
fn what_cannot_be_decoded_is_one_dead_letter_and_stops_nothing() {
    let leadlane = Leadlane::new("dead", "");
    leadlane.ok(&["topics", "create", "--partitions", "1"]);
    leadlane.apply(RULES);
    let good = event(1, "lms.lead_sold", "12", "99.00");
    let priced = good.replace("99.00", "about 99");
    let bad: [&[u8]; 7] = [
        b"",
        b"{",
        b"\xC3\x01\0\0\0\0\0\0\0\0",
        b"\xC3\x01",
        b"\0\0",
        b"plain text",
        priced.as_bytes(),
    ];
    let mut records: Vec<(&str, Option<&[u8]>)> = bad.iter().map(|value| ("k", Some(*value))).collect();
    records.push(("k", None));
    records.push(("k", Some(good.as_bytes())));
    leadlane.write(&leadlane.config.topics.events, records);
    let process = leadlane.start(&["--role", "processor"]);
    leadlane.read_until(&leadlane.config.topics.jobs, 30, |records| records.len() == 2);
    let dead = leadlane.read(&leadlane.config.topics.dead_letters);
    assert_eq!(dead.len(), 8);
    let reasons: Vec<_> = dead.iter().map(|record| record.header("reason").unwrap()).collect();
    let not = "not_decodable";
    assert_eq!(
        reasons,
        [not, not, "unknown_schema", not, not, not, "invalid_event", not]
    );
    for (offset, (record, bytes)) in dead.iter().zip(bad).enumerate() {
        assert_eq!(
            record.value.as_deref().unwrap_or_default(),
            bytes,
            "the bytes are untouched"
        );
        assert_eq!(
            record.header("source-topic"),
            Some(leadlane.config.topics.events.as_str())
        );
        assert_eq!(record.header("source-partition"), Some("0"));
        assert_eq!(record.header("source-offset"), Some(offset.to_string().as_str()));
        assert!(record.header("failed-at").unwrap().parse::<jiff::Timestamp>().is_ok());
        assert!(
            !record.header("detail").unwrap().contains("about 99"),
            "a detail quotes no value"
        );
    }
    process.stop();
}

#[test]
fn python_producers_in_three_formats_are_read_alike() {
    let registry = part("LEADLANE_TEST_REGISTRY");
    let leadlane = Leadlane::new("python", &format!("schema_registry: {{url: '{registry}'}}"));
    leadlane.ok(&["topics", "create", "--partitions", "3"]);
    leadlane.apply(
        "- {id: every-sale, trigger: lms.lead_sold, include_test: true, scope: {level: product, id: '*'}, \
         action: {type: slack_message, token: {secret: t}, to: {channel: C0ALL}, text: '{{$.event_id}} {{$.price | default: \"none\"}} {{$.consumer.first_name}} {{$.fields}}'}}",
    );
    let process = leadlane.start(&["--role", "processor"]);
    let schema = concat!(env!("CARGO_MANIFEST_DIR"), "/schemas/lead_event.avsc");
    let brokers = part("LEADLANE_TEST_KAFKA");
    let produced = python(&[
        "produce",
        "--brokers",
        &brokers,
        "--topic",
        &leadlane.config.topics.events,
        "--schema",
        schema,
        "--count",
        "600",
        "--seed",
        "5",
        "--formats",
        "json,avro,framed,json-loose",
        "--registry",
        &registry,
    ]);
    let mut wanted = BTreeMap::new();
    let schemas = leadlane::lead::schemas::Schemas::new();
    for line in produced.lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        if line["event"]["trigger"] == "lms.lead_sold" {
            let text = line["event"].to_string();
            let event = leadlane::lead::decode::decode(text.as_bytes(), &schemas).unwrap();
            let price = event
                .price
                .map_or("none".to_owned(), |price| price.normalize().to_string());
            wanted.insert(event.event_id.to_string(), (price, line["format"].to_string()));
        }
    }
    assert!(wanted.len() > 40, "the producer made {} sales", wanted.len());
    let records = leadlane.read_until(&leadlane.config.topics.jobs, 60, |records| {
        records.len() >= wanted.len()
    });
    assert_eq!(records.len(), wanted.len());
    for record in records {
        let job = DeliveryJob::decode(record.value.as_deref().unwrap()).unwrap();
        let body: serde_json::Value = serde_json::from_str(&job.body).unwrap();
        let text = body["text"].as_str().unwrap();
        let (price, format) = &wanted[&job.event_id];
        assert!(
            text.starts_with(&format!("{} {price} ", job.event_id)),
            "{format}: {text}"
        );
    }
    assert!(leadlane.read(&leadlane.config.topics.dead_letters).is_empty());
    process.stop();
}

/// One process reads all partitions; a second joins under load. Gives how many partitions the first gave up then.
fn joined(name: &str, setting: (&str, &str)) -> Vec<usize> {
    let leadlane = Leadlane::new(name, "");
    leadlane.rewrite(setting.0, setting.1);
    leadlane.ok(&["topics", "create", "--partitions", "4"]);
    leadlane.apply(RULES);
    let (events, wanted) = events(24_000);
    let first = leadlane.start(&["--role", "processor"]);
    let topics = &leadlane.config.topics;
    let second = std::thread::scope(|scope| {
        scope.spawn(|| {
            for chunk in events.chunks(500) {
                leadlane.write(&topics.events, pairs(chunk));
            }
        });
        let second = leadlane.start_another(&["--role", "processor"]);
        second.log_until(60, |log| numbers(log, "partitions assigned").contains(&2));
        second
    });
    leadlane.read_until(&topics.jobs, 60, |records| records.len() >= wanted.len());
    // What a clean stop gives up is no part of it.
    let given_up = numbers(&first.log(), "partitions revoked");
    second.stop();
    first.stop();
    assert_eq!(jobs(&leadlane), wanted);
    given_up
}

/// The number of partitions in each line of the log that says so.
fn numbers(log: &str, what: &str) -> Vec<usize> {
    let lines = log.lines().filter(|line| line.contains(what));
    let number = |line: &str| {
        let (_, rest) = line.split_once("partitions=")?;
        rest.split_whitespace().next()?.parse().ok()
    };
    lines.filter_map(number).collect()
}

#[test]
fn a_process_that_joins_takes_its_share_and_the_others_go_on() {
    let eager = joined("join-eager", ("processor: {", "processor: {rebalance: eager, "));
    assert_eq!(eager, [4], "all of them, and two come back");
    let cooperative = joined(
        "join-one-by-one",
        ("processor: {", "processor: {rebalance: cooperative, "),
    );
    assert_eq!(cooperative, [2]);
    let newer = ("kafka: {", "kafka: {consumer_properties: {group.protocol: consumer}, ");
    assert_eq!(joined("join-newer", newer), [2], "KIP-848");
}
