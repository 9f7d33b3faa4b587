//! Topics made anew while a writer goes on all the time, and over a restart with work left.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use leadlane::delivery::{DeliveryJob, Outcome, OutcomeResult};
use leadlane::kafka::producer::{Producer, Record};
use leadlane::kafka::topics::Limits;

use super::super::inlet_topics::{Foreign, change, events};
use super::{arrived, delete, leadlane, make, make_anew, open_sandbox, send, until_arrived, until_counted};
use crate::support::{Destinations, Leadlane, Process, event};

/// Writes an event each 50 ms, whatever becomes of the topic.
struct Writer {
    stop: Arc<AtomicBool>,
    next: Arc<AtomicU64>,
    /// The events that Kafka has taken.
    taken: Arc<Mutex<BTreeSet<u64>>>,
    thread: JoinHandle<()>,
}

impl Writer {
    fn start(leadlane: &Leadlane, from: u64) -> Self {
        let (stop, next, taken) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicU64::new(from)),
            Arc::<Mutex<BTreeSet<u64>>>::default(),
        );
        let topic = leadlane.config.topics.events.clone();
        let producer =
            Producer::of_requests(&leadlane.config, &Limits::default(), Duration::from_secs(2), 1 << 20).unwrap();
        let thread = {
            let (stop, next, taken) = (Arc::clone(&stop), Arc::clone(&next), Arc::clone(&taken));
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let (key, value) = (
                        format!("lead-{number}"),
                        event(number, "lms.lead_rejected", "12", "42.50"),
                    );
                    let record = Record {
                        topic: &topic,
                        partition: None,
                        key: key.as_bytes(),
                        value: Some(value.as_bytes()),
                        headers: rdkafka::message::OwnedHeaders::new(),
                    };
                    let taken = Arc::clone(&taken);
                    producer.write(&record, move |ack| {
                        if ack.is_ok() {
                            taken.lock().unwrap().insert(number);
                        }
                    });
                    std::thread::sleep(Duration::from_millis(50));
                }
                producer.flush(Duration::from_secs(10));
            })
        };
        Self {
            stop,
            next,
            taken,
            thread,
        }
    }

    /// The number of the event that is written next.
    fn next(&self) -> u64 {
        self.next.load(Ordering::Relaxed)
    }

    /// Stops, and gives the events that Kafka has taken.
    fn stop(self) -> BTreeSet<u64> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap();
        self.taken.lock().unwrap().clone()
    }
}

/// The number of the event `e-N`.
fn number(event_id: &str) -> u64 {
    event_id.strip_prefix("e-").unwrap().parse().unwrap()
}

/// The events whose jobs are in the jobs topic.
fn with_jobs(leadlane: &Leadlane) -> BTreeSet<u64> {
    let records = leadlane.read(&leadlane.config.topics.jobs);
    let jobs = records
        .iter()
        .map(|record| DeliveryJob::decode(record.value.as_deref().unwrap()).unwrap());
    jobs.map(|job| number(&job.event_id)).collect()
}

/// The events whose messages have not arrived. None has arrived twice.
fn missing(destinations: &Destinations, sent: &BTreeSet<u64>) -> BTreeSet<u64> {
    let arrived = arrived(destinations);
    let twice: Vec<_> = arrived.iter().filter(|(_, count)| **count > 1).collect();
    assert!(twice.is_empty(), "{twice:?} came twice");
    let has = |number: &u64| arrived.contains_key(&format!("rejected e-{number}"));
    sent.iter().copied().filter(|number| !has(number)).collect()
}

/// What a metric without labels counts.
fn count(leadlane: &Leadlane, name: &str) -> u64 {
    let (_, metrics) = leadlane.get("/metrics").unwrap();
    let line = metrics
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name} in {metrics}"))
        .parse()
        .unwrap()
}

/// Sends events with keys of every partition, and waits until they have arrived: so has all that was written before.
fn until_all_is_through(leadlane: &Leadlane, destinations: &Destinations, process: &Process, from: u64) {
    send(leadlane, from..from + 30, "lms.lead_rejected");
    until_arrived(destinations, process, from..from + 30);
}

#[test]
fn jobs_made_anew_with_a_backlog_and_a_writer() {
    let destinations = open_sandbox();
    let leadlane = leadlane("anew-backlog", &destinations, "25/s");
    let process = leadlane.start(&[]);
    send(&leadlane, 0..200, "lms.lead_rejected");
    leadlane.read_until(&leadlane.config.topics.jobs, 30, |jobs| jobs.len() >= 200);
    let writer = Writer::start(&leadlane, 1000);
    // The sender has read all of the backlog, of which most waits for its turn.
    std::thread::sleep(Duration::from_secs(1));
    let written = writer.next();
    make_anew(&leadlane, &[&leadlane.config.topics.jobs]);
    until_counted(&leadlane, &process, "jobs");
    std::thread::sleep(Duration::from_secs(3));
    let taken = writer.stop();
    until_all_is_through(&leadlane, &destinations, &process, 5000);
    let sent: BTreeSet<u64> = (0..200).chain(taken).collect();
    let missing = missing(&destinations, &sent);
    let waits: Vec<_> = with_jobs(&leadlane).intersection(&missing).copied().collect();
    assert!(
        waits.is_empty(),
        "{waits:?} are in the new topic and were not sent\n{}",
        process.log()
    );
    let lost = count(&leadlane, "leadlane_events_lost_total");
    // Those that the sender had read, at the least; at the most one more, whose answer was on its way.
    let read = missing.range(..200).count() as u64;
    let all = missing.len() as u64;
    assert!(read >= 50, "{missing:?}");
    assert!(
        (read..=all + 1).contains(&lost),
        "{lost} of {all} are counted: {missing:?}\n{}",
        process.log()
    );
    // What was written well after the topic was there again is not among them.
    let late: Vec<_> = missing.range(written + 100..).collect();
    assert!(late.is_empty(), "{late:?} are lost\n{}", process.log());
    assert_eq!(leadlane.get("/readyz").unwrap().0, 200);
    process.stop();
}

#[test]
fn outcomes_and_events_made_anew_under_a_writer() {
    let destinations = open_sandbox();
    let leadlane = leadlane("anew-writer", &destinations, "500/s");
    let topics = &leadlane.config.topics;
    let process = leadlane.start(&[]);
    let writer = Writer::start(&leadlane, 0);
    until_arrived(&destinations, &process, 0..20);
    make_anew(&leadlane, &[&topics.outcomes]);
    until_counted(&leadlane, &process, "outcomes");
    let safe = writer.next();
    until_arrived(&destinations, &process, safe..safe + 20);
    let before = writer.next();
    make_anew(&leadlane, &[&topics.events]);
    until_counted(&leadlane, &process, "events");
    std::thread::sleep(Duration::from_secs(2));
    let taken = writer.stop();
    until_all_is_through(&leadlane, &destinations, &process, 5000);
    let missing = missing(&destinations, &taken);
    let there: BTreeSet<u64> = {
        let ids = leadlane.read(&topics.events).into_iter();
        let event = |value: &[u8]| serde_json::from_slice::<serde_json::Value>(value).unwrap();
        ids.map(|record| number(event(record.value.as_deref().unwrap())["event_id"].as_str().unwrap()))
            .collect()
    };
    let waits: Vec<_> = there.intersection(&missing).copied().collect();
    assert!(
        waits.is_empty(),
        "{waits:?} are in the new topic and were not sent\n{}",
        process.log()
    );
    // What was written a second before is read.
    let early: Vec<_> = missing.range(..before.saturating_sub(20)).collect();
    assert!(early.is_empty(), "{early:?} are lost\n{}", process.log());
    let lost = count(&leadlane, "leadlane_events_lost_total");
    assert!(
        lost <= missing.len() as u64,
        "{lost} are counted, and only {missing:?} are missing"
    );
    // Without the topic no outcome is acknowledged, so that nothing is sent, and who asks is told.
    assert_eq!(until_readyz(&leadlane, &process, 200), "ready");
    delete(&leadlane, &[&topics.outcomes]);
    send(&leadlane, 6000..6010, "lms.lead_rejected");
    let says = until_readyz(&leadlane, &process, 503);
    assert!(says.contains("Kafka to acknowledge the sender's outcomes"), "{says}");
    make(&leadlane, &[&topics.outcomes]);
    until_arrived(&destinations, &process, 6000..6010);
    until_readyz(&leadlane, &process, 200);
    process.stop();
}

/// Waits until `/readyz` answers so, and gives what it says.
pub(super) fn until_readyz(leadlane: &Leadlane, process: &Process, status: u16) -> String {
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        let (is, text) = leadlane.get("/readyz").unwrap();
        if is == status {
            return text.lines().last().unwrap().to_owned();
        }
        assert!(Instant::now() < until, "{text}\n{}", process.log());
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_cancel_mark_and_a_replay_mark_mean_the_same_with_rules_and_dead_letters_made_anew() {
    let destinations = open_sandbox();
    let leadlane = leadlane("anew-tools", &destinations, "1/s");
    let topics = &leadlane.config.topics;
    // The versions of the jobs are higher than what the new rules topic gets to.
    for _ in 0..4 {
        leadlane.ok(&["rules", "pause", "to-webhook"]);
        leadlane.ok(&["rules", "resume", "to-webhook"]);
    }
    leadlane.write(&topics.events, [("lead-1", Some(b"broken".as_slice()))]);
    let process = leadlane.start(&[]);
    send(&leadlane, 0..40, "lms.lead_rejected");
    leadlane.read_until(&topics.jobs, 30, |jobs| jobs.len() >= 40);
    leadlane.read_until(&topics.dead_letters, 30, |letters| !letters.is_empty());
    let letter = || {
        let listed = leadlane.ok(&["dead-letters", "list", "--json"]);
        let first: serde_json::Value = serde_json::from_str(listed.lines().next().unwrap()).unwrap();
        (
            first["id"].as_str().unwrap().to_owned(),
            first["replayed"].as_bool().unwrap(),
        )
    };
    let (id, _) = letter();
    leadlane.ok(&["dead-letters", "replay", &id]);
    leadlane.read_until(&topics.dead_letters, 30, |letters| letters.len() >= 2);
    assert_eq!(letter(), (id.clone(), true));
    process.stop();
    make_anew(&leadlane, &[&topics.rules, &topics.dead_letters]);
    leadlane.apply(super::RULES);
    // A mark, lower than the versions of the jobs that wait.
    leadlane.ok(&["rules", "delete", "to-webhook", "--cancel-waiting"]);
    leadlane.write(&topics.events, [("lead-1", Some(b"broken".as_slice()))]);
    let process = leadlane.start(&[]);
    let sent = |outcome: &Outcome| outcome.result == OutcomeResult::Sent;
    let outcomes = until_settled(&leadlane, 40);
    let cancelled = outcomes
        .iter()
        .filter(|outcome| outcome.result == OutcomeResult::Cancelled)
        .count();
    assert!(
        cancelled >= 20,
        "{cancelled} of those that waited are cancelled\n{}",
        process.log()
    );
    assert_eq!(outcomes.iter().filter(|outcome| sent(outcome)).count() + cancelled, 40);
    assert_eq!(arrived(&destinations).len(), 40 - cancelled);
    leadlane.read_until(&topics.dead_letters, 30, |letters| !letters.is_empty());
    assert_eq!(letter(), (id, false), "it has the place, and is another one");
    process.stop();
}

/// Waits until so many jobs have a final outcome.
fn until_settled(leadlane: &Leadlane, count: usize) -> Vec<Outcome> {
    let finals = |records: &[leadlane::kafka::reader::Record]| -> Vec<Outcome> {
        let outcomes = records
            .iter()
            .map(|record| Outcome::decode(record.value.as_deref().unwrap()).unwrap());
        outcomes.filter(|outcome| outcome.result.is_final()).collect()
    };
    let records = leadlane.read_until(&leadlane.config.topics.outcomes, 60, |records| {
        finals(records).len() >= count
    });
    finals(&records)
}

#[test]
fn a_foreign_topic_made_anew_under_a_running_inlet_and_over_a_restart() {
    let foreign = Foreign::new("anew", 1);
    let leadlane = Leadlane::new("anew-foreign", &foreign.crm(""));
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
    let until = |count: usize| {
        let ids = |records: &[leadlane::kafka::reader::Record]| {
            let ids = records
                .iter()
                .map(|record| record.header("event-id").unwrap().to_owned());
            ids.collect::<BTreeSet<String>>().len()
        };
        leadlane.read_until(&leadlane.config.topics.events, 60, |records| ids(records) >= count);
        let events = events(&leadlane);
        assert_eq!(events.len(), count, "{events:?}");
        events.into_values().sum::<usize>()
    };
    let process = leadlane.start(&["--role", "inlets"]);
    put(0..10);
    assert_eq!(until(10), 10);
    // Fewer than the old one had, and then at once more.
    foreign.make_anew(1);
    put(100..105);
    assert_eq!(until(15), 15);
    until_counted(&leadlane, &process, "inlets");
    foreign.make_anew(1);
    put(200..240);
    // What was read of it before anybody saw that it is another topic may come again, with the same id, which is sent once.
    until(55);
    process.stop();
    let written = until(55);
    assert!(written <= 15 + 2 * 40, "{written}");
    // Kafka forgets the place of a topic that is deleted.
    foreign.make_anew(1);
    put(300..320);
    let process = leadlane.start(&["--role", "inlets"]);
    assert_eq!(until(75), written + 20);
    assert_eq!(leadlane.get("/readyz").unwrap().0, 200);
    assert_eq!(count(&leadlane, "leadlane_events_lost_total"), 0);
    process.stop();
}
