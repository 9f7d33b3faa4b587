//! Schema ids that nobody knows, and registries that misbehave: what is known is decided at once, what isn't is asked
//! for together, and no id holds its partition for good.

use std::time::{Duration, Instant};

use axum::http::{StatusCode, Uri};
use leadlane::lead::decode::decode;
use leadlane::lead::encode::single_object;
use leadlane::lead::schemas::Schemas;

use crate::support::{Leadlane, event, free_port, full};

const RULES: &str = r#"
- id: sold
  trigger: lms.lead_sold
  scope: {level: product, id: "12"}
  action: {type: slack_message, token: {secret: sales-bot}, to: {channel: C0SALES}, text: "Lead {{$.lead_id}}"}
"#;

/// A registry that has our schema under 1, refuses 22, fails for ids from 5000 on, and knows no other.
struct FakeRegistry {
    url: String,
    _runtime: tokio::runtime::Runtime,
}

impl FakeRegistry {
    fn start() -> Self {
        Self::at(0)
    }

    fn at(port: u16) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let answer = async |uri: Uri| {
            let schema = include_str!("../../../schemas/lead_event.avsc");
            let id = uri
                .path()
                .strip_prefix("/schemas/ids/")
                .and_then(|id| id.parse::<u32>().ok());
            match id {
                Some(1) => (StatusCode::OK, serde_json::json!({"schema": schema}).to_string()),
                Some(22) => (StatusCode::UNPROCESSABLE_ENTITY, "{}".to_owned()),
                Some(5000) => (StatusCode::INTERNAL_SERVER_ERROR, "{}".to_owned()),
                Some(5001) => (StatusCode::OK, "<html>a proxy's page</html>".to_owned()),
                Some(5002) => (StatusCode::FOUND, String::new()),
                _ => (StatusCode::NOT_FOUND, "{}".to_owned()),
            }
        };
        let listener = runtime
            .block_on(tokio::net::TcpListener::bind(("127.0.0.1", port)))
            .unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = axum::Router::new().fallback(answer);
        runtime.spawn(async move { axum::serve(listener, router).await });
        Self { url, _runtime: runtime }
    }
}

/// The event with this number, as it is framed under a schema's id.
fn framed(id: u32, number: u64) -> Vec<u8> {
    let text = event(number, "lms.lead_sold", "12", "99.00");
    let framed = single_object(&decode(text.as_bytes(), &Schemas::new()).unwrap()).unwrap();
    // Its own framing is ten bytes.
    [&[0][..], &id.to_be_bytes(), &framed[10..]].concat()
}

/// 2,000 records of five bytes, each with an id of its own, and good ones before, between and behind.
fn unknown_ids(good: impl Fn(u64) -> Vec<u8>) -> Vec<Vec<u8>> {
    let mut records = vec![good(0)];
    for number in 1..=2000 {
        let id = u32::try_from(number).unwrap() + 10_000;
        records.push([&[0][..], &id.to_be_bytes()].concat());
        if number % 500 == 0 {
            records.push(good(number));
        }
    }
    records
}

fn write(leadlane: &Leadlane, records: &[Vec<u8>]) {
    let records = records.iter().map(|record| ("k", Some(record.as_slice())));
    leadlane.write(&leadlane.config.topics.events, records);
}

/// The ids of the events that have a job, as often as they have one.
fn sent(leadlane: &Leadlane) -> Vec<String> {
    let jobs = leadlane.read(&leadlane.config.topics.jobs);
    let mut ids: Vec<String> = jobs
        .iter()
        .map(|job| leadlane::delivery::DeliveryJob::decode(job.value.as_deref().unwrap()).unwrap())
        .map(|job| job.event_id)
        .collect();
    ids.sort();
    ids
}

#[test]
fn two_thousand_ids_that_nobody_knows_cost_seconds() {
    let registry = FakeRegistry::start();
    let json = |number| event(number, "lms.lead_sold", "12", "99.00").into_bytes();
    let avro = |number| framed(1, number);
    for (name, yaml, records) in [
        ("unknown-none", String::new(), unknown_ids(json)),
        (
            "unknown-many",
            format!("schema_registry: {{url: '{}'}}", registry.url),
            unknown_ids(avro),
        ),
    ] {
        let leadlane = Leadlane::new(name, &yaml);
        leadlane.ok(&["topics", "create", "--partitions", "1"]);
        leadlane.apply(RULES);
        let process = leadlane.start(&["--role", "processor"]);
        let started = Instant::now();
        write(&leadlane, &records);
        let dead = leadlane.read_until(&leadlane.config.topics.dead_letters, 60, |dead| dead.len() >= 2000);
        // Half a second each would be more than a quarter of an hour.
        assert!(
            started.elapsed() < Duration::from_secs(60),
            "{name}: {:?}",
            started.elapsed()
        );
        leadlane.read_until(&leadlane.config.topics.jobs, 30, |jobs| jobs.len() >= 5);
        process.stop();
        assert_eq!(dead.len(), 2000, "{name}");
        assert!(
            dead.iter().all(|dead| dead.header("reason") == Some("unknown_schema")),
            "{name}"
        );
        assert_eq!(
            sent(&leadlane),
            ["e-0", "e-1000", "e-1500", "e-2000", "e-500"],
            "{name}"
        );
    }
}

#[test]
fn an_id_that_is_refused_or_malformed_holds_nobody() {
    let registry = FakeRegistry::start();
    let leadlane = Leadlane::new("refused", &format!("schema_registry: {{url: '{}'}}", registry.url));
    leadlane.ok(&["topics", "create", "--partitions", "1"]);
    leadlane.apply(RULES);
    let malformed = framed(u32::MAX, 90);
    let process = leadlane.start(&["--role", "processor"]);
    write(
        &leadlane,
        &[
            framed(1, 1),
            framed(22, 91),
            framed(1, 2),
            malformed,
            framed(9, 92),
            framed(1, 3),
        ],
    );
    let dead = leadlane.read_until(&leadlane.config.topics.dead_letters, 30, |dead| dead.len() >= 3);
    leadlane.read_until(&leadlane.config.topics.jobs, 30, |jobs| jobs.len() >= 3);
    process.stop();
    let details: Vec<_> = dead.iter().map(|dead| dead.header("detail").unwrap()).collect();
    for (detail, wanted) in details.iter().zip(["422", "below 2147483648", "doesn't know it"]) {
        assert!(detail.contains(wanted), "{details:?}");
    }
    assert_eq!(sent(&leadlane), ["e-1", "e-2", "e-3"]);
}

#[test]
fn ids_that_the_registry_fails_for_are_dead_after_a_minute_and_good_ones_go_on() {
    if !full() {
        return;
    }
    let registry = FakeRegistry::start();
    let leadlane = Leadlane::new("doubted", &format!("schema_registry: {{url: '{}'}}", registry.url));
    leadlane.ok(&["topics", "create", "--partitions", "1"]);
    leadlane.apply(RULES);
    let process = leadlane.start(&["--role", "processor"]);
    let first = [
        framed(1, 1),
        framed(5000, 91),
        framed(5001, 92),
        framed(5002, 93),
        framed(1, 2),
    ];
    write(&leadlane, &first);
    let started = Instant::now();
    let dead = leadlane.read_until(&leadlane.config.topics.dead_letters, 100, |dead| dead.len() >= 3);
    assert!(started.elapsed() > Duration::from_secs(50), "{:?}", started.elapsed());
    assert!(dead.iter().all(|dead| dead.header("reason") == Some("unknown_schema")));
    // From then on they hold nobody.
    write(&leadlane, &[framed(5000, 94), framed(1, 3)]);
    leadlane.read_until(&leadlane.config.topics.jobs, 20, |jobs| jobs.len() >= 3);
    process.stop();
    assert_eq!(sent(&leadlane), ["e-1", "e-2", "e-3"]);
}

#[test]
fn records_that_wait_for_the_registry_survive_partitions_that_come_and_go() {
    survive("range");
}

#[test]
fn and_those_that_come_and_go_one_by_one() {
    survive("cooperative-sticky");
}

fn survive(strategy: &str) {
    let port = free_port();
    let leadlane = Leadlane::new("held", &format!("schema_registry: {{url: 'http://127.0.0.1:{port}'}}"));
    let strategy = format!("kafka: {{consumer_properties: {{partition.assignment.strategy: {strategy}}}, ");
    leadlane.rewrite("kafka: {", &strategy);
    leadlane.ok(&["topics", "create", "--partitions", "4"]);
    leadlane.apply(RULES);
    let records: Vec<(String, Vec<u8>)> = (0..2000)
        .map(|number| (format!("lead-{number}"), framed(1, number)))
        .collect();
    let records = records
        .iter()
        .map(|(key, value)| (key.as_str(), Some(value.as_slice())));
    leadlane.write(&leadlane.config.topics.events, records);
    let first = leadlane.start(&["--role", "processor"]);
    first.log_until(30, |log| log.contains("events wait for the schema registry"));
    // Partitions go to the second and come back, all the while records are held.
    let second = leadlane.start_another(&["--role", "processor"]);
    second.log_until(30, |log| log.contains("events wait for the schema registry"));
    second.stop();
    let third = leadlane.start_another(&["--role", "processor"]);
    let registry = FakeRegistry::at(port);
    leadlane.read_until(&leadlane.config.topics.jobs, 60, |jobs| jobs.len() >= 2000);
    first.stop();
    third.stop();
    drop(registry);
    let mut wanted: Vec<String> = (0..2000).map(|number| format!("e-{number}")).collect();
    wanted.sort();
    assert_eq!(sent(&leadlane), wanted);
    assert!(leadlane.read(&leadlane.config.topics.dead_letters).is_empty());
}
