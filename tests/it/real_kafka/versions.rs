//! Two versions of Leadlane on one Kafka: the next one has one more field in jobs and in outcomes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use leadlane::app::{self, Role};
use leadlane::delivery::{Codec, DeliveryJob, Outcome, OutcomeResult};
use leadlane::kafka::reader::Record;
use leadlane::kafka::topics;
use leadlane::metrics::Metrics;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::sender::{leadlane, open_sandbox, send};
use super::tools::{Put, job, put, put_jobs};
use crate::support::{Leadlane, Process, free_port, now_millis, page};
use crate::tidy::text;

const SENDER: [&str; 2] = ["--role", "sender"];

/// The schemas of the two versions.
struct Schemas {
    job: String,
    outcome: String,
    next_job: String,
    next_outcome: String,
}

impl Schemas {
    fn read() -> Self {
        let more = |schema: &str, field: Value| {
            let mut schema: Value = serde_json::from_str(schema).unwrap();
            schema["fields"].as_array_mut().unwrap().push(field);
            schema.to_string()
        };
        let [job, outcome] = ["job", "outcome"].map(|kind| text(&format!("schemas/released/delivery_{kind}-1.avsc")));
        let name = json!({"name": "priority", "type": "int", "default": 0});
        let trace = json!({"name": "region_of_sender", "type": ["null", "string"], "default": null});
        Self {
            next_job: more(&job, name),
            next_outcome: more(&outcome, trace),
            job,
            outcome,
        }
    }

    /// The older version. A field of an outcome is read a version before it is written.
    fn older(&self) -> &'static Codec {
        let codec = Codec::new(
            (&self.job, &[&self.job]),
            (&self.outcome, &[&self.outcome, &self.next_outcome]),
        );
        Box::leak(Box::new(codec.unwrap()))
    }

    fn newer(&self) -> &'static Codec {
        let codec = Codec::new((&self.next_job, &[&self.job]), (&self.next_outcome, &[&self.outcome]));
        Box::leak(Box::new(codec.unwrap()))
    }
}

/// A Leadlane within this process, of the version that its codec makes it.
struct App {
    admin: String,
    stop: watch::Sender<bool>,
    thread: Option<std::thread::JoinHandle<anyhow::Result<()>>>,
}

impl App {
    fn start(leadlane: &Leadlane, codec: &'static Codec, role: Role) -> Self {
        let mut config = leadlane.config.clone();
        let admin = format!("127.0.0.1:{}", free_port());
        config.admin.listen = admin.parse().unwrap();
        config.processor.instance = Some(admin.clone());
        let (stop, stopped) = watch::channel(false);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Runtime::new().unwrap();
            let ended = runtime.block_on(async {
                let limits = topics::check(&config).await.map_err(anyhow::Error::msg)?;
                let metrics = Arc::new(Metrics::new(100));
                app::run(Arc::new(config), codec, &[role], limits, metrics, stopped).await
            });
            runtime.shutdown_timeout(Duration::from_secs(1));
            ended
        });
        let app = Self {
            admin,
            stop,
            thread: Some(thread),
        };
        until(60, "ready", || app.ready().is_some());
        app
    }

    /// What `/readyz` says beside `ready`, once it is.
    fn ready(&self) -> Option<String> {
        held_up(&self.admin)
    }

    /// A clean stop.
    fn stop(mut self) {
        self.stop.send_replace(true);
        let ended = self.thread.take().unwrap().join().unwrap();
        ended.unwrap();
    }
}

impl Drop for App {
    fn drop(&mut self) {
        self.stop.send_replace(true);
    }
}

fn held_up(admin: &str) -> Option<String> {
    let (status, page) = page(admin, "/readyz")?;
    let (_, body) = page.split_once("\r\n\r\n")?;
    (status == 200).then(|| body.strip_prefix("ready\n").expect("it is ready").to_owned())
}

fn unreadable(admin: &str) -> u64 {
    let (_, metrics) = page(admin, "/metrics").unwrap();
    let line = metrics
        .lines()
        .find_map(|line| line.strip_prefix("leadlane_unreadable_records "));
    line.expect("the gauge is there").parse().unwrap()
}

fn until(seconds: u64, what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(seconds);
    while !done() {
        assert!(Instant::now() < end, "{what}: not within {seconds} s");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The jobs and outcomes of either version, by a codec that reads both.
fn finals(leadlane: &Leadlane, codec: &Codec) -> BTreeMap<String, Vec<OutcomeResult>> {
    let mut finals: BTreeMap<String, Vec<OutcomeResult>> = BTreeMap::new();
    for record in leadlane.read(&leadlane.config.topics.outcomes) {
        let outcome = codec.read_outcome(record.value.as_deref().unwrap()).unwrap();
        if outcome.result.is_final() {
            finals.entry(outcome.job_id).or_default().push(outcome.result);
        }
    }
    finals
}

/// How many records begin as each of two writers begins them.
fn by_version(records: &[Record], older: &[u8], newer: &[u8]) -> (usize, usize) {
    let of = |head: &[u8]| {
        let begins = |record: &&Record| record.value.as_deref().is_some_and(|value| value[..10] == head[..10]);
        records.iter().filter(begins).count()
    };
    (of(older), of(newer))
}

#[test]
fn an_upgrade_and_its_way_back_lose_and_repeat_nothing_under_load() {
    let destinations = open_sandbox();
    let leadlane = leadlane("upgrade", &destinations, "500/s");
    let schemas = Schemas::read();
    let (older, newer) = (schemas.older(), schemas.newer());
    let (stop, sent) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|threads| {
        threads.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let from = sent.fetch_add(10, Ordering::Relaxed);
                send(&leadlane, from..from + 10, "lms.lead_sold");
                std::thread::sleep(Duration::from_millis(100));
            }
        });
        let stops = StopsWhenDropped(&stop);
        let (sender, processor) = (
            App::start(&leadlane, older, Role::Sender),
            App::start(&leadlane, older, Role::Processor),
        );
        some_more(&leadlane, newer);
        // Senders first, then processors. Both versions share the group for a while.
        let next_sender = App::start(&leadlane, newer, Role::Sender);
        some_more(&leadlane, newer);
        sender.stop();
        let next_processor = App::start(&leadlane, newer, Role::Processor);
        some_more(&leadlane, newer);
        processor.stop();
        some_more(&leadlane, newer);
        // Back: processors, and once what the newer ones wrote is sent, senders.
        let processor = App::start(&leadlane, older, Role::Processor);
        some_more(&leadlane, newer);
        next_processor.stop();
        until_all_sent(&leadlane, newer);
        let sender = App::start(&leadlane, older, Role::Sender);
        some_more(&leadlane, newer);
        next_sender.stop();
        some_more(&leadlane, newer);
        drop(stops);
        let events = || usize::try_from(sent.load(Ordering::Relaxed)).unwrap();
        // Two rules hold for each event.
        until(90, "every match has its outcome", || {
            finals(&leadlane, newer).len() == 2 * events()
        });
        assert_eq!(sender.ready().as_deref(), Some(""));
        sender.stop();
        processor.stop();
    });
    let events = sent.into_inner();
    let finals = finals(&leadlane, newer);
    let other = finals.values().filter(|ends| ends[..] != [OutcomeResult::Sent]).count();
    assert_eq!(
        (finals.len() as u64, other),
        (2 * events, 0),
        "each match is sent, and once"
    );
    let texts = destinations.texts();
    let once: BTreeSet<&String> = texts.iter().collect();
    assert_eq!(
        (texts.len() as u64, once.len() as u64),
        (events, events),
        "nothing is lost or doubled"
    );
    assert_eq!(leadlane.read(&leadlane.config.topics.dead_letters), []);
    let jobs = leadlane.read(&leadlane.config.topics.jobs);
    let any = job(0, "r", "slack:bot", "C1");
    let (old, new) = by_version(&jobs, &older.write_job(&any), &newer.write_job(&any));
    assert!(old > 50 && new > 50 && old + new == jobs.len(), "{old} and {new}");
    let outcomes = leadlane.read(&leadlane.config.topics.outcomes);
    let any = any.outcome(OutcomeResult::Sent, 0);
    let (old, new) = by_version(&outcomes, &older.write_outcome(&any), &newer.write_outcome(&any));
    assert!(old > 50 && new > 50 && old + new == outcomes.len(), "{old} and {new}");
}

/// Ends the load when the test does, however that is.
struct StopsWhenDropped<'s>(&'s AtomicBool);

impl Drop for StopsWhenDropped<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Waits until more has been sent since now.
fn some_more(leadlane: &Leadlane, codec: &Codec) {
    let before = finals(leadlane, codec).len();
    until(60, "jobs go on", || finals(leadlane, codec).len() >= before + 60);
}

/// Waits until all jobs that are there now are sent.
fn until_all_sent(leadlane: &Leadlane, codec: &Codec) {
    let jobs = leadlane.read(&leadlane.config.topics.jobs);
    let ids: BTreeSet<String> = jobs
        .iter()
        .map(|record| codec.read_job(record.value.as_deref().unwrap()).unwrap().job_id)
        .collect();
    until(60, "what is there is sent", || {
        let finals = finals(leadlane, codec);
        ids.iter().all(|id| finals.contains_key(id))
    });
}

/// Writes jobs as the processor of a version does.
fn put_jobs_of(leadlane: &Leadlane, codec: &Codec, jobs: &[DeliveryJob], timestamp: Option<i64>) {
    for job in jobs {
        let value = codec.write_job(job);
        let headers = [
            ("event-id", job.event_id.as_str()),
            ("rule-id", &job.rule_id),
            ("job-id", &job.job_id),
            ("leadlane-version", "9.1.0"),
        ];
        let record = Put {
            key: &job.credential,
            value: Some(&value),
            headers: &headers,
            partition: None,
            timestamp,
        };
        put(leadlane, &leadlane.config.topics.jobs, &[record]);
    }
}

fn prepared(name: &str, yaml: &str, partitions: &str) -> (crate::support::Destinations, Leadlane) {
    let destinations = open_sandbox();
    let leadlane = Leadlane::new(name, &format!("{}\n{yaml}", destinations.yaml("50/s")));
    leadlane.secret("bot", "xoxb-bot");
    leadlane.secret("other", "xoxb-other");
    leadlane.secret("acme-passcode", "passcode");
    leadlane.ok(&["topics", "create", "--partitions", partitions]);
    (destinations, leadlane)
}

/// Starts the version that is released.
fn released(leadlane: &Leadlane) -> Process {
    leadlane.start(&SENDER)
}

#[test]
fn a_job_of_a_newer_version_holds_its_credential_until_the_sender_is_upgraded() {
    let (destinations, leadlane) = prepared("newer-job", "", "1");
    let newer = Schemas::read().newer();
    let of = |numbers: std::ops::Range<i64>, credential: &str| -> Vec<DeliveryJob> {
        numbers.map(|number| job(number, "r", credential, "C1")).collect()
    };
    let sender = released(&leadlane);
    put_jobs_of(&leadlane, newer, &of(0..2, "slack:bot"), None);
    put_jobs(&leadlane, &of(2..5, "slack:bot"));
    put_jobs(&leadlane, &of(5..10, "slack:other"));
    until(30, "the other credential's jobs", || destinations.texts().len() >= 5);
    let held_up = || held_up(&leadlane.admin).unwrap_or_default();
    until(10, "it is said", || !held_up().is_empty());
    let says = held_up();
    assert!(
        says.starts_with("slack:bot is held by jobs of a newer version: schema "),
        "{says}"
    );
    assert!(says.ends_with(", written by leadlane 9.1.0\n"), "{says}");
    assert_eq!(unreadable(&leadlane.admin), 2);
    assert!(sender.log().contains("slack:bot is held"), "{}", sender.log());
    std::thread::sleep(Duration::from_secs(1));
    let other: BTreeSet<String> = (5..10).map(|number| format!("sold e-{number}")).collect();
    assert_eq!(destinations.texts().into_iter().collect::<BTreeSet<_>>(), other);
    sender.stop();
    let lanes = leadlane.run(&["lanes"]);
    let [shown, said] = [&lanes.stdout, &lanes.stderr].map(|text| String::from_utf8_lossy(text));
    assert!(said.contains("2 records are of a newer version of Leadlane"), "{said}");
    let held = shown.matches("frozen: held by jobs of a newer version (2)").count();
    assert_eq!(held, 2, "its own lane and slack:bot/C1: {shown}");
    assert_eq!(leadlane.read(&leadlane.config.topics.dead_letters), []);
    let upgraded = App::start(&leadlane, newer, Role::Sender);
    until(30, "all of it", || destinations.texts().len() >= 10);
    let sent: Vec<String> = (0..5).map(|number| format!("sold e-{number}")).collect();
    assert_eq!(
        destinations.texts()[5..],
        sent,
        "in the order in which they were written"
    );
    until(10, "nothing is held", || unreadable(&upgraded.admin) == 0);
    upgraded.stop();
    let finals = finals(&leadlane, newer);
    assert!(finals.len() == 10 && finals.values().all(|ends| ends[..] == [OutcomeResult::Sent]));
}

#[test]
fn a_job_of_a_newer_version_is_a_dead_letter_at_its_age_and_replays() {
    let (destinations, leadlane) = prepared("newer-age", "sender: {job_age_max: 1h}", "1");
    let newer = Schemas::read().newer();
    let old = job(0, "r", "slack:bot", "C1");
    put_jobs_of(
        &leadlane,
        newer,
        std::slice::from_ref(&old),
        Some(now_millis() - 2 * 3_600_000),
    );
    put_jobs(&leadlane, &[job(1, "r", "slack:bot", "C1")]);
    // Without our headers it is nobody's job.
    let foreign = newer.write_job(&job(2, "r", "slack:bot", "C1"));
    let record = Put {
        key: "slack:bot",
        value: Some(&foreign),
        ..Put::default()
    };
    put(&leadlane, &leadlane.config.topics.jobs, &[record]);
    let sender = released(&leadlane);
    let dead = leadlane.read_until(&leadlane.config.topics.dead_letters, 30, |dead| dead.len() == 2);
    until(30, "the job behind it", || destinations.texts() == ["sold e-1"]);
    sender.stop();
    for record in &dead {
        assert_eq!(record.header("reason"), Some("unknown_schema"));
    }
    let whole = dead.iter().find(|record| record.header("job-id").is_some()).unwrap();
    assert_eq!(whole.value, Some(newer.write_job(&old)), "the bytes that were read");
    assert_eq!(whole.header("event-id"), Some("e-0"));
    assert_eq!(whole.header("leadlane-version"), Some("9.1.0"));
    assert!(whole.header("detail").unwrap().contains("written by leadlane 9.1.0"));
    let outcomes = leadlane.read(&leadlane.config.topics.outcomes);
    let outcomes = outcomes
        .iter()
        .map(|record| Outcome::decode(record.value.as_deref().unwrap()).unwrap());
    let ends: Vec<_> = outcomes.map(|outcome| (outcome.event_id, outcome.result)).collect();
    let wanted = [
        ("e-0".to_owned(), OutcomeResult::Dead),
        ("e-1".to_owned(), OutcomeResult::Sent),
    ];
    assert_eq!(ends.into_iter().collect::<BTreeMap<_, _>>(), BTreeMap::from(wanted));
    // Replayed after the upgrade, it goes.
    let id = format!("{}-{}", whole.partition, whole.offset);
    leadlane.ok(&["dead-letters", "replay", &id]);
    let upgraded = App::start(&leadlane, newer, Role::Sender);
    until(30, "the replay", || destinations.texts().len() == 2);
    upgraded.stop();
    assert_eq!(destinations.texts()[1], "sold e-0");
}

/// Writes an outcome of a newer version for the first job of partition 0, whose event it gives, and one of nobody's to
/// partition 1.
fn put_outcomes(leadlane: &Leadlane, newer: &Codec) -> String {
    let records = leadlane.read(&leadlane.config.topics.jobs);
    let settled = records.iter().find(|record| record.partition == 0).unwrap();
    let settled = DeliveryJob::decode(settled.value.as_deref().unwrap()).unwrap();
    let mut outcome = settled.outcome(OutcomeResult::Sent, now_millis());
    (outcome.job_partition, outcome.job_offset) = (Some(0), Some(0));
    let value = newer.write_outcome(&outcome);
    let headers = [
        ("event-id", outcome.event_id.as_str()),
        ("rule-id", &outcome.rule_id),
        ("job-id", &outcome.job_id),
    ];
    let own = Put {
        key: &outcome.job_id,
        value: Some(&value),
        headers: &headers,
        partition: Some(0),
        timestamp: None,
    };
    let foreign = Put {
        partition: Some(1),
        headers: &[],
        ..own
    };
    put(leadlane, &leadlane.config.topics.outcomes, &[own, foreign]);
    settled.event_id
}

#[test]
fn an_outcome_of_a_newer_version_delays_its_partition_alone() {
    let (destinations, leadlane) = prepared("newer-outcome", "", "2");
    let newer = Schemas::read().newer();
    let all = [
        "slack:bot",
        "slack:other",
        "slack:bot-2",
        "slack:bot-3",
        "slack:bot-4",
        "slack:bot-5",
    ];
    for name in &all[2..] {
        leadlane.secret(&name["slack:".len()..], &format!("xoxb-{name}"));
    }
    let jobs: Vec<DeliveryJob> = (0..)
        .zip(all)
        .map(|(number, credential)| job(number, "r", credential, "C1"))
        .collect();
    put_jobs(&leadlane, &jobs);
    let of_partition = |partition: i32| -> BTreeSet<String> {
        let records = leadlane.read(&leadlane.config.topics.jobs);
        let of = records.iter().filter(|record| record.partition == partition);
        let job = |record: &Record| DeliveryJob::decode(record.value.as_deref().unwrap()).unwrap();
        of.map(|record| format!("sold {}", job(record).event_id)).collect()
    };
    let (first, second) = (of_partition(0), of_partition(1));
    assert!(!first.is_empty() && !second.is_empty());
    let settled = put_outcomes(&leadlane, newer);
    let sender = released(&leadlane);
    until(30, "the other partition's jobs", || {
        destinations.texts().len() >= second.len()
    });
    let held_up = || held_up(&leadlane.admin).unwrap_or_default();
    until(10, "it is said", || !held_up().is_empty());
    let says = held_up();
    let topic = &leadlane.config.topics.outcomes;
    assert!(
        says.starts_with(&format!("partition 0 of {topic} has outcomes of a newer version")),
        "{says}"
    );
    assert_eq!(unreadable(&leadlane.admin), 1);
    let log = sender.log_until(10, |log| log.contains("are not of Leadlane"));
    assert!(log.contains("is not taken over"), "{log}");
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(destinations.texts().into_iter().collect::<BTreeSet<_>>(), second);
    sender.stop();
    let said = leadlane.run(&["deliveries", "list"]).stderr;
    let said = String::from_utf8_lossy(&said);
    assert!(said.contains("1 record is of a newer version of Leadlane"), "{said}");
    let upgraded = App::start(&leadlane, newer, Role::Sender);
    until(30, "all but what was sent", || {
        destinations.texts().len() >= jobs.len() - 1
    });
    upgraded.stop();
    let mut all: BTreeSet<String> = first.union(&second).cloned().collect();
    assert!(all.remove(&format!("sold {settled}")));
    assert_eq!(
        destinations.texts().into_iter().collect::<BTreeSet<_>>(),
        all,
        "what was sent isn't repeated"
    );
}
