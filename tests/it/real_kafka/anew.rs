//! Topics that are deleted and made again, a broker that lost everything, and one that lost its last seconds: what is
//! there now is read and sent, once, and somebody is told.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;

use super::sender::{RULES, leadlane, open_sandbox, outcomes, prepared, send};
use crate::support::{Destinations, Kafka, Leadlane, Process};

mod load;

/// Deletes topics and makes them again.
pub(super) fn make_anew(leadlane: &Leadlane, topics: &[&String]) {
    delete(leadlane, topics);
    make(leadlane, topics);
}

fn delete(leadlane: &Leadlane, topics: &[&String]) {
    let names: Vec<&str> = topics.iter().map(|topic| topic.as_str()).collect();
    let admin: AdminClient<DefaultClientContext> = ClientConfig::new()
        .set("bootstrap.servers", &leadlane.config.kafka.brokers)
        .create()
        .unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let deleted = runtime
        .block_on(admin.delete_topics(&names, &AdminOptions::new()))
        .unwrap();
    assert!(deleted.iter().all(Result::is_ok), "{deleted:?}");
}

/// Makes topics that were deleted, once the broker has let go of them.
fn make(leadlane: &Leadlane, topics: &[&String]) {
    let until = Instant::now() + Duration::from_secs(30);
    let mut left = topics.to_vec();
    loop {
        let made = leadlane.run(&["topics", "create", "--partitions", "3"]);
        let said = String::from_utf8_lossy(&made.stdout) + String::from_utf8_lossy(&made.stderr);
        left.retain(|name| !said.contains(&format!("{name}: created")));
        if left.is_empty() {
            return;
        }
        assert!(Instant::now() < until, "{said}");
    }
}

/// How often each text has arrived.
fn arrived(destinations: &Destinations) -> BTreeMap<String, usize> {
    let mut arrived = BTreeMap::new();
    for text in destinations.texts() {
        *arrived.entry(text).or_default() += 1;
    }
    arrived
}

/// Waits until these events' messages have arrived, and looks that each has once.
fn until_arrived(destinations: &Destinations, process: &Process, numbers: std::ops::Range<u64>) {
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        let arrived = arrived(destinations);
        let of = |number: &u64| {
            arrived
                .get(&format!("rejected e-{number}"))
                .copied()
                .unwrap_or_default()
        };
        let missing: Vec<u64> = numbers.clone().filter(|number| of(number) == 0).collect();
        let twice: Vec<u64> = numbers.clone().filter(|number| of(number) > 1).collect();
        assert!(twice.is_empty(), "{twice:?} came twice\n{}", process.log());
        if missing.is_empty() {
            return;
        }
        assert!(Instant::now() < until, "{missing:?} are missing\n{}", process.log());
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Waits until the metric has counted a partition of `topic`.
fn until_counted(leadlane: &Leadlane, process: &Process, topic: &str) {
    let name = format!("leadlane_partitions_started_over_total{{topic=\"{topic}\"}} ");
    let until = Instant::now() + Duration::from_secs(30);
    loop {
        let metrics = leadlane.get("/metrics").map_or_else(String::new, |(_, text)| text);
        if metrics
            .lines()
            .any(|line| line.strip_prefix(&name).is_some_and(|count| count != "0"))
        {
            return;
        }
        assert!(Instant::now() < until, "{topic} is not counted\n{}", process.log());
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn jobs_and_outcomes_made_anew_under_a_running_sender() {
    let destinations = open_sandbox();
    let leadlane = leadlane("anew-jobs", &destinations, "500/s");
    let topics = &leadlane.config.topics;
    let process = leadlane.start(&[]);
    send(&leadlane, 0..100, "lms.lead_rejected");
    until_arrived(&destinations, &process, 0..100);
    // Fewer jobs than the old topic had, so that all lie below the old places.
    make_anew(&leadlane, &[&topics.jobs]);
    send(&leadlane, 100..120, "lms.lead_rejected");
    until_arrived(&destinations, &process, 100..120);
    until_counted(&leadlane, &process, "jobs");
    // At once more jobs than the old topic had: the place isn't beyond the end when somebody looks.
    make_anew(&leadlane, &[&topics.jobs]);
    send(&leadlane, 200..500, "lms.lead_rejected");
    until_arrived(&destinations, &process, 200..500);
    make_anew(&leadlane, &[&topics.outcomes]);
    send(&leadlane, 500..520, "lms.lead_rejected");
    until_arrived(&destinations, &process, 500..520);
    until_counted(&leadlane, &process, "outcomes");
    make_anew(&leadlane, &[&topics.jobs, &topics.outcomes]);
    send(&leadlane, 600..650, "lms.lead_rejected");
    until_arrived(&destinations, &process, 600..650);
    assert_eq!(leadlane.get("/readyz").unwrap().0, 200);
    let log = process.log();
    assert!(log.contains("ERROR") && log.contains("made anew"), "{log}");
    process.stop();
    let again = leadlane.start(&[]);
    std::thread::sleep(Duration::from_secs(2));
    until_arrived(&destinations, &again, 600..650);
    again.stop();
}

#[test]
fn events_made_anew_under_a_running_processor() {
    let destinations = open_sandbox();
    let leadlane = leadlane("anew-events", &destinations, "500/s");
    let topics = &leadlane.config.topics;
    let process = leadlane.start(&[]);
    send(&leadlane, 0..100, "lms.lead_rejected");
    until_arrived(&destinations, &process, 0..100);
    make_anew(&leadlane, &[&topics.events]);
    send(&leadlane, 100..120, "lms.lead_rejected");
    until_arrived(&destinations, &process, 100..120);
    make_anew(&leadlane, &[&topics.events]);
    send(&leadlane, 200..500, "lms.lead_rejected");
    until_arrived(&destinations, &process, 200..500);
    until_counted(&leadlane, &process, "events");
    assert_eq!(leadlane.get("/readyz").unwrap().0, 200);
    let missing = process.log().matches("the topic is missing").count();
    assert!(missing < 20, "it is said {missing} times, but once would do");
    process.stop();
}

#[test]
fn topics_made_anew_over_a_restart() {
    let destinations = open_sandbox();
    let leadlane = leadlane("anew-restart", &destinations, "500/s");
    let topics = &leadlane.config.topics;
    let process = leadlane.start(&[]);
    send(&leadlane, 0..100, "lms.lead_rejected");
    until_arrived(&destinations, &process, 0..100);
    process.stop();
    // Outcomes stay, and tell of jobs that are no more.
    make_anew(&leadlane, &[&topics.jobs]);
    let process = leadlane.start(&[]);
    send(&leadlane, 100..130, "lms.lead_rejected");
    until_arrived(&destinations, &process, 100..130);
    until_counted(&leadlane, &process, "jobs");
    let lanes = leadlane.ok(&["lanes", "--json"]);
    assert_eq!(lanes, "", "nothing waits");
    process.stop();
    make_anew(&leadlane, &[&topics.events]);
    send(&leadlane, 200..230, "lms.lead_rejected");
    let process = leadlane.start(&[]);
    until_arrived(&destinations, &process, 200..230);
    process.stop();
    make_anew(&leadlane, &[&topics.outcomes]);
    send(&leadlane, 300..330, "lms.lead_rejected");
    let process = leadlane.start(&[]);
    until_arrived(&destinations, &process, 300..330);
    process.stop();
    assert!(outcomes(&leadlane).len() >= 30);
}

#[test]
fn rules_dead_letters_and_audit_made_anew_over_a_restart() {
    let destinations = open_sandbox();
    let leadlane = leadlane("anew-rest", &destinations, "500/s");
    let topics = &leadlane.config.topics;
    let letters = |count: usize| {
        leadlane.write(&topics.events, [("lead-1", Some(b"broken".as_slice()))]);
        let letters = leadlane.read_until(&topics.dead_letters, 60, |letters| letters.len() >= count);
        assert_eq!(letters.len(), count, "each is written once");
    };
    let process = leadlane.start(&[]);
    send(&leadlane, 0..20, "lms.lead_rejected");
    until_arrived(&destinations, &process, 0..20);
    letters(1);
    process.stop();
    make_anew(&leadlane, &[&topics.rules, &topics.dead_letters, &topics.audit]);
    send(&leadlane, 100..120, "lms.lead_rejected");
    leadlane.apply(RULES);
    let process = leadlane.start(&[]);
    until_arrived(&destinations, &process, 100..120);
    letters(1);
    // The versions begin again, and count.
    leadlane.ok(&["rules", "pause", "to-webhook"]);
    process.log_until(60, |log| log.contains("rules.active=3"));
    until_arrived(&destinations, &process, 0..20);
    process.stop();
}

#[test]
fn rules_that_come_back_empty_stop_the_processor_until_one_is_written() {
    let destinations = open_sandbox();
    let leadlane = leadlane("anew-rules", &destinations, "500/s");
    let topics = &leadlane.config.topics;
    // They come back one after the other, the one that the waiting events want last.
    let rule = |number| {
        format!(
            "- {{id: before-{number}, trigger: lms.other, scope: {{level: product, id: '*'}}, action: {{type: slack_webhook, url: {{secret: alerts-webhook}}, text: other}}}}\n"
        )
    };
    let before: String = (0..30).map(rule).collect();
    let rules = before + RULES;
    let process = leadlane.start(&[]);
    send(&leadlane, 0..20, "lms.lead_rejected");
    until_arrived(&destinations, &process, 0..20);
    make_anew(&leadlane, &[&topics.rules]);
    until_counted(&leadlane, &process, "rules");
    let until = Instant::now() + Duration::from_secs(30);
    let readyz = loop {
        let (status, text) = leadlane.get("/readyz").unwrap();
        if status == 503 {
            break text;
        }
        assert!(Instant::now() < until, "{}", process.log());
    };
    assert!(readyz.contains("rules"), "{readyz}");
    send(&leadlane, 100..120, "lms.lead_rejected");
    process.log_until(60, |log| log.contains("came back empty"));
    leadlane.apply(&rules);
    until_arrived(&destinations, &process, 100..120);
    let log = process.log();
    let (_, came_back) = log.rsplit_once("came back empty").unwrap();
    let first = came_back.lines().find(|line| line.contains("rules in force")).unwrap();
    assert!(
        first.contains("rules.active=34"),
        "what waited meets all of the rules: {log}"
    );
    assert_eq!(leadlane.get("/readyz").unwrap().0, 200);
    // A pause counts, though its version is lower than those of before.
    leadlane.ok(&["rules", "pause", "to-webhook"]);
    process.log_until(60, |log| log.contains("rules.active=33"));
    process.stop();
}

/// A Leadlane on a Kafka of its own.
pub(super) fn on_its_own(name: &str, destinations: &Destinations) -> (Kafka, Leadlane) {
    let dir = std::env::temp_dir().join(format!("leadlane-it-{name}-{}", std::process::id()));
    let kafka = Kafka::start(dir.display().to_string());
    let leadlane = Leadlane::on(&kafka.address, name, &destinations.yaml("500/s"));
    prepared(&leadlane, destinations);
    (kafka, leadlane)
}

#[test]
fn a_broker_that_lost_its_last_seconds_and_then_everything() {
    let destinations = open_sandbox();
    let (kafka, leadlane) = on_its_own("anew-broker", &destinations);
    let process = leadlane.start(&[]);
    send(&leadlane, 0..50, "lms.lead_rejected");
    until_arrived(&destinations, &process, 0..50);
    let (data, aside) = (format!("{}/data", kafka.dir), format!("{}/aside", kafka.dir));
    copy(&data, &aside);
    send(&leadlane, 50..100, "lms.lead_rejected");
    until_arrived(&destinations, &process, 50..100);
    kafka.tell("kill");
    std::fs::remove_dir_all(&data).unwrap();
    copy(&aside, &data);
    kafka.tell("start");
    // As many as were lost, and more, so that the old places are not beyond the ends for long.
    send(&leadlane, 100..180, "lms.lead_rejected");
    until_arrived(&destinations, &process, 100..180);
    until_arrived(&destinations, &process, 0..100);
    kafka.tell("kill");
    std::fs::remove_dir_all(&data).unwrap();
    kafka.tell("start");
    leadlane.ok(&["topics", "create", "--partitions", "3"]);
    send(&leadlane, 200..220, "lms.lead_rejected");
    // It may say before that it has lost its group.
    process.log_until(60, |log| log.contains("came back empty"));
    let (status, not_ready) = leadlane.get("/readyz").unwrap();
    assert!(
        status == 503 && not_ready.contains("one to be written there"),
        "{not_ready}"
    );
    leadlane.apply(RULES);
    until_arrived(&destinations, &process, 200..220);
    load::until_readyz(&leadlane, &process, 200);
    process.stop();
}

fn copy(from: &str, to: &str) {
    let copied = std::process::Command::new("cp").args(["-r", from, to]).status();
    assert!(copied.unwrap().success());
}

#[test]
fn a_dead_letter_at_a_place_that_was_replayed_is_another_one() {
    let destinations = open_sandbox();
    let leadlane = leadlane("anew-letters", &destinations, "500/s");
    let topics = &leadlane.config.topics;
    let process = leadlane.start(&["--role", "processor"]);
    let break_one = |count: usize| {
        leadlane.write(&topics.events, [("lead-1", Some(b"broken".as_slice()))]);
        leadlane.read_until(&topics.dead_letters, 60, |letters| letters.len() >= count);
        let listed = leadlane.ok(&["dead-letters", "list", "--json"]);
        let first: serde_json::Value = serde_json::from_str(listed.lines().next().unwrap()).unwrap();
        (
            first["id"].as_str().unwrap().to_owned(),
            first["replayed"].as_bool().unwrap(),
        )
    };
    let (id, replayed) = break_one(1);
    assert!(!replayed);
    leadlane.ok(&["dead-letters", "replay", &id]);
    assert_eq!(break_one(2), (id.clone(), true));
    make_anew(&leadlane, &[&topics.dead_letters]);
    assert_eq!(
        break_one(1),
        (id.clone(), false),
        "it has the place and was not replayed"
    );
    leadlane.ok(&["dead-letters", "replay", &id]);
    assert_eq!(break_one(2), (id, true));
    // Without the audit nobody knows what was replayed; everything else goes on.
    make_anew(&leadlane, &[&topics.audit]);
    assert!(!break_one(3).1);
    leadlane.ok(&["rules", "pause", "to-webhook"]);
    process.stop();
}
