//! What is posted to an inlet: in Kafka before it is answered, and sent once.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use leadlane::delivery::{Outcome, OutcomeResult};

use super::owned::longest_record;
use super::sender::open_sandbox;
use crate::docs::{Metric, metrics_in};
use crate::support::{Destinations, Leadlane, free_port, full};

const RULES: &str = r#"
- id: answered
  trigger: survey.answered
  scope: {level: inlet, id: survey}
  action: {type: slack_message, token: {secret: sales-bot}, to: {channel: C0SALES}, text: "answered {{$.event_id}}"}
"#;

/// A Leadlane with an inlet, and where that listens.
fn leadlane(name: &str, destinations: &Destinations) -> (Leadlane, String) {
    let listen = format!("127.0.0.1:{}", free_port());
    let inlets = format!(
        "inlet: {{listen: '{listen}'}}\n\
         inlets: [{{name: survey, kind: http, secrets: [{{bearer: {{secret: survey-token}}}}], \
         event: {{event_id: '{{{{$.id}}}}', trigger: survey.answered, lead_id: '{{{{$.email}}}}'}}}}]"
    );
    let leadlane = Leadlane::new(name, &format!("{}\n{inlets}", destinations.yaml("100000/s")));
    leadlane.secret("sales-bot", "xoxb-hunter2-token");
    leadlane.secret("acme-passcode", "hunter2-passcode");
    leadlane.secret("survey-token", "hunter2-survey");
    leadlane.ok(&["topics", "create", "--partitions", "3"]);
    leadlane.apply(RULES);
    (leadlane, listen)
}

/// A connection that is kept.
struct Client(BufReader<TcpStream>);

impl Client {
    fn connect(listen: &str) -> std::io::Result<Self> {
        let stream = TcpStream::connect(listen)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        Ok(Self(BufReader::new(stream)))
    }

    /// Posts these ids in one request, and gives the status.
    fn post(&mut self, ids: &[String]) -> std::io::Result<u16> {
        let records = ids
            .iter()
            .map(|id| serde_json::json!({"id": id, "email": format!("{id}@example.com")}));
        self.post_with("hunter2-survey", &serde_json::Value::Array(records.collect()))
    }

    /// Posts a body with this secret, and gives the status.
    fn post_with(&mut self, secret: &str, body: &serde_json::Value) -> std::io::Result<u16> {
        let body = body.to_string();
        let head = format!(
            "POST /inlets/survey HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {secret}\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        self.0.get_mut().write_all((head + &body).as_bytes())?;
        let mut line = String::new();
        self.0.read_line(&mut line)?;
        let broken = || std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
        let status = line
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok())
            .ok_or_else(broken)?;
        let mut length = 0;
        loop {
            let mut line = String::new();
            self.0.read_line(&mut line)?;
            match line.trim_end().split_once(": ") {
                Some(("content-length", text)) => length = text.parse().map_err(|_| broken())?,
                Some(_) => {}
                None if line == "\r\n" => break,
                None => return Err(broken()),
            }
        }
        std::io::copy(&mut self.0.by_ref().take(length), &mut std::io::sink())?;
        Ok(status)
    }
}

/// How often the event of each id is in Kafka.
fn events(leadlane: &Leadlane) -> BTreeMap<String, usize> {
    let mut events = BTreeMap::new();
    for record in leadlane.read(&leadlane.config.topics.events) {
        let id = record.header("event-id").unwrap().to_owned();
        *events.entry(id).or_default() += 1;
    }
    events
}

/// The final outcomes by the event's id.
fn finals(leadlane: &Leadlane) -> BTreeMap<String, Vec<OutcomeResult>> {
    let mut finals: BTreeMap<String, Vec<OutcomeResult>> = BTreeMap::new();
    for record in leadlane.read(&leadlane.config.topics.outcomes) {
        let outcome = Outcome::decode(record.value.as_deref().unwrap()).unwrap();
        if outcome.result.is_final() {
            finals.entry(outcome.event_id).or_default().push(outcome.result);
        }
    }
    finals
}

/// Waits until so many events have ended, repeats included.
fn finals_until(leadlane: &Leadlane, seconds: u64, count: usize) -> BTreeMap<String, Vec<OutcomeResult>> {
    let until = Instant::now() + Duration::from_secs(seconds);
    loop {
        let finals = finals(leadlane);
        let ended: usize = finals.values().map(Vec::len).sum();
        if ended >= count {
            return finals;
        }
        assert!(Instant::now() < until, "{ended} of {count} have ended");
        std::thread::sleep(Duration::from_millis(200));
    }
}

#[test]
fn many_events_at_once_fit_into_a_topic_of_small_records() {
    let destinations = open_sandbox();
    let (leadlane, listen) = leadlane("inlet-small", &destinations);
    longest_record(&leadlane, &leadlane.config.topics.events, "256000");
    let process = leadlane.start(&[]);
    let mut client = Client::connect(&listen).unwrap();
    // 5 KB each; together twice what the topic takes at once.
    let record =
        |at: usize| serde_json::json!({"id": format!("e{at}"), "email": "ana@example.com", "text": "x".repeat(5_000)});
    let body = serde_json::Value::Array((0..100).map(record).collect());
    assert_eq!(client.post_with("hunter2-survey", &body).unwrap(), 200);
    let events = events(&leadlane);
    assert!(events.len() == 100 && events.values().all(|count| *count == 1));
    assert_eq!(leadlane.read(&leadlane.config.topics.dead_letters).len(), 0);
    process.stop();
}

#[test]
fn dead_elements_are_mapped_again_by_a_replay_and_the_good_ones_are_not() {
    let destinations = open_sandbox();
    let (leadlane, listen) = leadlane("inlet-elements", &destinations);
    let process = leadlane.start(&["--role", "inlets"]);
    let element = |number: usize| match number {
        7 | 140 => serde_json::json!({"id": format!("a-{number}"), "email": "ana@example.com"}),
        _ => serde_json::json!({"id": format!("a-{number}"), "mail": "ana@example.com"}),
    };
    let body = serde_json::Value::Array((0..150).map(element).collect());
    let mut client = Client::connect(&listen).unwrap();
    assert_eq!(client.post_with("hunter2-survey", &body).unwrap(), 200);
    assert_eq!(events(&leadlane).into_keys().collect::<Vec<_>>(), ["a-140", "a-7"]);
    let dead = leadlane.read(&leadlane.config.topics.dead_letters);
    let of_many: Vec<&str> = dead.iter().filter_map(|letter| letter.header("elements")).collect();
    assert_eq!((dead.len(), of_many), (101, vec!["101-139,141-149"]));
    process.stop();
    leadlane.rewrite(
        "lead_id: '{{$.email}}'",
        "lead_id: {first: ['{{$.email}}', '{{$.mail}}']}",
    );
    leadlane.ok(&["dead-letters", "replay", "--all"]);
    let found = events(&leadlane);
    assert_eq!(found.len(), 150);
    assert!(found.values().all(|count| *count == 1), "{found:?}");
    let again = leadlane.run(&["dead-letters", "replay", "--all"]);
    assert_eq!(
        events(&leadlane).len(),
        150,
        "{}",
        String::from_utf8_lossy(&again.stderr)
    );
}

#[test]
fn many_requests_without_the_secret_are_one_line_of_the_log() {
    let destinations = open_sandbox();
    let (leadlane, listen) = leadlane("inlet-refused", &destinations);
    let process = leadlane.start(&["--role", "inlets"]);
    for _ in 0..30 {
        // The connection may be closed with the answer.
        let mut client = Client::connect(&listen).unwrap();
        let status = client.post_with("hunter2-wrong", &serde_json::json!([{"id": "a", "email": "b"}]));
        assert_eq!(status.unwrap(), 401);
    }
    let log = process.log_until(10, |log| log.contains("refused with 401"));
    process.stop();
    let lines: Vec<&str> = log.lines().filter(|line| line.contains("refused with 401")).collect();
    assert_eq!(lines.len(), 1, "{log}");
    assert!(
        lines[0].contains("survey") && lines[0].contains("count=1"),
        "{}",
        lines[0]
    );
    assert!(!log.contains("hunter2"), "{log}");
}

#[test]
fn posted_twice_is_sent_once() {
    let destinations = open_sandbox();
    let (leadlane, listen) = leadlane("inlet-twice", &destinations);
    let process = leadlane.start(&[]);
    let mut client = Client::connect(&listen).unwrap();
    for _ in 0..2 {
        assert_eq!(client.post(&["a".to_owned()]).unwrap(), 200);
    }
    let finals = finals_until(&leadlane, 30, 2);
    assert_eq!(events(&leadlane)["a"], 2);
    assert_eq!(finals["a"], [OutcomeResult::Sent, OutcomeResult::Duplicate]);
    assert_eq!(destinations.texts(), ["answered a"]);
    let metrics = leadlane.get("/metrics").unwrap().1;
    assert!(
        metrics.contains("leadlane_inlet_requests_total{inlet=\"survey\",status=\"200\"} 2\n"),
        "{metrics}"
    );
    let of_inlets = |mut all: Vec<Metric>| {
        all.retain(|metric| metric.name.starts_with("leadlane_inlet_"));
        all.sort();
        all
    };
    assert_eq!(
        of_inlets(metrics_in(&metrics)),
        of_inlets(crate::docs::metrics()),
        "as docs/metrics.md lists them"
    );
    let log = process.log();
    assert!(!log.contains("hunter2"), "{log}");
    process.stop();
}

#[test]
fn killed_at_any_time_nothing_that_was_answered_is_lost() {
    let destinations = open_sandbox();
    let (leadlane, listen) = leadlane("inlet-killed", &destinations);
    let mut answered = BTreeSet::new();
    for kill in 0..5 {
        let count = Arc::new(AtomicUsize::new(0));
        let process = leadlane.start(&["--role", "inlets"]);
        let clients: Vec<_> = (0..8)
            .map(|number| {
                let (listen, count) = (listen.clone(), Arc::clone(&count));
                std::thread::spawn(move || {
                    let mut answered = Vec::new();
                    let mut client = Client::connect(&listen).unwrap();
                    for at in 0.. {
                        let ids: Vec<_> = (0..=at % 4).map(|of| format!("k{kill}-{number}-{at}-{of}")).collect();
                        match client.post(&ids) {
                            Ok(200) => {
                                answered.extend(ids);
                                count.fetch_add(1, Ordering::Relaxed);
                            }
                            Ok(status) => panic!("{status}"),
                            Err(_) => break,
                        }
                    }
                    answered
                })
            })
            .collect();
        // All eight have requests under way, which the kill falls anywhere into.
        while count.load(Ordering::Relaxed) < 40 + 7 * kill {
            std::thread::sleep(Duration::from_millis(1));
        }
        process.kill();
        answered.extend(clients.into_iter().flat_map(|client| client.join().unwrap()));
    }
    let events = events(&leadlane);
    let lost: Vec<_> = answered.iter().filter(|id| !events.contains_key(*id)).collect();
    assert!(
        lost.is_empty(),
        "{} of {} are lost: {lost:?}",
        lost.len(),
        answered.len()
    );
}

#[test]
fn of_many_that_are_posted_with_repeats_each_arrives_once() {
    let count: usize = if full() { 100_000 } else { 10_000 };
    let destinations = open_sandbox();
    let (leadlane, listen) = leadlane("inlet-many", &destinations);
    let process = leadlane.start(&[]);
    let clients: Vec<_> = (0..8)
        .map(|client| {
            let listen = listen.clone();
            std::thread::spawn(move || {
                let ids: Vec<_> = (client..count).step_by(8).map(|number| format!("m{number}")).collect();
                let mut client = Client::connect(&listen).unwrap();
                for (at, ids) in ids.chunks(10).enumerate() {
                    assert_eq!(client.post(ids).unwrap(), 200);
                    // One in a hundred again: now and then the first of ten.
                    if at % 10 == 0 {
                        assert_eq!(client.post(&ids[..1]).unwrap(), 200);
                    }
                }
                ids.len().div_ceil(10).div_ceil(10)
            })
        })
        .collect();
    let repeats: usize = clients.into_iter().map(|client| client.join().unwrap()).sum();
    assert!(repeats >= count / 100, "{repeats}");
    let events = events(&leadlane);
    assert_eq!((events.len(), events.values().sum()), (count, count + repeats));
    let finals = finals_until(&leadlane, if full() { 600 } else { 120 }, count + repeats);
    let sent = |results: &Vec<OutcomeResult>| results.iter().filter(|result| **result == OutcomeResult::Sent).count();
    assert_eq!(finals.len(), count);
    assert!(finals.values().all(|results| sent(results) == 1));
    let texts = destinations.texts();
    let each: BTreeSet<_> = texts.iter().collect();
    assert_eq!((texts.len(), each.len()), (count, count));
    process.stop();
}

#[test]
fn a_secret_that_is_a_pipe_holds_up_nobody() {
    let destinations = open_sandbox();
    let (leadlane, listen) = leadlane("inlet-pipe", &destinations);
    // Who opens a pipe that nobody writes to waits for ever: the inlet's secret, and the token of a rule.
    for name in ["survey-token", "sales-bot"] {
        let file = leadlane.dir.join("secrets").join(name);
        std::fs::remove_file(&file).unwrap();
        let made = std::process::Command::new("mkfifo").arg(&file).status().unwrap();
        assert!(made.success());
    }
    let process = leadlane.start(&[]);
    let event = br#"{"event_id":"e","trigger":"survey.answered","occurred_at":"2026-01-01T00:00:00Z","lead_id":"1","inlet":"survey"}"#;
    leadlane.write(&leadlane.config.topics.events, [("1", Some(&event[..]))]);
    for id in 0..20 {
        let began = Instant::now();
        assert_eq!(
            Client::connect(&listen).unwrap().post(&[format!("p{id}")]).unwrap(),
            401
        );
        assert_eq!(leadlane.get("/livez").map(|(status, _)| status), Some(200));
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    }
    // With a secret of the right kind in its place it goes on by itself.
    std::fs::remove_file(leadlane.dir.join("secrets/survey-token")).unwrap();
    leadlane.secret("survey-token", "hunter2-survey\r");
    let until = Instant::now() + Duration::from_secs(30);
    while Client::connect(&listen).unwrap().post(&["p".to_owned()]).unwrap() != 200 {
        assert!(Instant::now() < until);
        std::thread::sleep(Duration::from_millis(100));
    }
    let written = leadlane.read(&leadlane.config.topics.events);
    assert!(written.iter().any(|record| record.header("event-id") == Some("p")));
    let log = std::fs::read_to_string(&process.log).unwrap();
    assert!(
        log.contains("a pipe, a device or a folder") && !log.contains("hunter2"),
        "{log}"
    );
    process.stop();
}
