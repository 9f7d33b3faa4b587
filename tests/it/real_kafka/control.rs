//! What people order of the senders: pauses, probes and tests of rules.

use std::process::Output;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::sender::{leadlane, open_sandbox, outcomes, send, until_final};
use crate::support::{Destinations, Leadlane, event};

/// Waits until it is so, for a time that the orders promise.
fn until(what: &str, within: Duration, so: impl Fn() -> bool) -> Duration {
    let began = Instant::now();
    while !so() {
        assert!(began.elapsed() < within, "{what}: not within {within:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
    began.elapsed()
}

fn texts(destinations: &Destinations, first: &str) -> Vec<String> {
    let mut texts = destinations.texts();
    texts.retain(|text| text.starts_with(first));
    texts
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn audited(leadlane: &Leadlane, what: &str) -> Vec<Value> {
    let records = leadlane.read(&leadlane.config.topics.audit);
    let all = records
        .iter()
        .map(|record| serde_json::from_slice::<Value>(record.value.as_deref().unwrap()).unwrap());
    all.filter(|record| record["what"] == what).collect()
}

#[test]
fn nothing_of_a_paused_lane_is_sent_until_it_is_resumed_over_a_restart_too() {
    const SALES: &str = "slack:sales-bot/C0SALES";
    let destinations = open_sandbox();
    let leadlane = leadlane("paused", &destinations, "30/s");
    let process = leadlane.start(&[]);
    send(&leadlane, 0..120, "lms.lead_sold");
    let sold = || texts(&destinations, "sold").len();
    until("it is under load", Duration::from_secs(30), || sold() >= 10);
    assert_eq!(leadlane.ok(&["lanes", "pause", SALES]), format!("{SALES}: paused\n"));
    // In force within a second, and what is in flight ends.
    std::thread::sleep(Duration::from_secs(1));
    let before = sold();
    assert!(before < 100, "{before} were sent before");
    send(&leadlane, 1000..1010, "lms.lead_rejected");
    until("others go on", Duration::from_secs(10), || {
        texts(&destinations, "rejected").len() == 10
    });
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(sold(), before, "nothing of it arrives");
    let frozen = "leadlane_lanes_frozen{provider=\"slack\",reason=\"paused\"} 1\n";
    until("it is told", Duration::from_secs(5), || {
        leadlane
            .get("/metrics")
            .is_some_and(|(_, metrics)| metrics.contains(frozen))
    });
    let shown = leadlane.ok(&["lanes"]);
    assert!(
        shown.contains("paused") && shown.contains(&format!("{SALES} is paused by ")),
        "{shown}"
    );

    process.stop();
    let process = leadlane.start(&[]);
    send(&leadlane, 1010..1020, "lms.lead_rejected");
    until("others go on", Duration::from_secs(30), || {
        texts(&destinations, "rejected").len() == 20
    });
    assert_eq!(sold(), before, "a new sender keeps to it");
    let lanes = lines(&leadlane.ok(&["lanes", "--json"]));
    let lane = lanes.iter().find(|lane| lane["id"] == SALES).unwrap();
    assert_eq!(lane["waiting"], 120 - before);
    assert_eq!((&lane["next_at"], &lane["paused"]["of"]), (&Value::Null, &json!(SALES)));
    assert!(lane["paused"]["since"].is_string() && lane["paused"]["who"].is_string());
    let again = leadlane.ok(&["lanes", "pause", SALES]);
    assert!(again.contains("unchanged") && again.contains("is paused by"), "{again}");

    leadlane.ok(&["lanes", "resume", SALES]);
    until("it goes on", Duration::from_secs(2), || sold() > before);
    until_final(&leadlane, 260);
    process.stop();
    let wanted: Vec<String> = leadlane
        .read(&leadlane.config.topics.jobs)
        .iter()
        .map(|record| leadlane::delivery::DeliveryJob::decode(record.value.as_deref().unwrap()).unwrap())
        .filter(|job| job.rule_id == "to-channel")
        .map(|job| format!("sold {}", job.event_id))
        .collect();
    assert_eq!(texts(&destinations, "sold"), wanted, "each once, in order");
    for what in ["lane_pause", "lane_resume"] {
        let audited = audited(&leadlane, what);
        assert_eq!(audited.len(), 1, "{what}: {audited:?}");
        assert_eq!(audited[0]["target"], SALES);
    }
}

#[test]
fn all_sending_and_a_credential_are_paused_and_what_is_not_there_is_named() {
    let destinations = open_sandbox();
    let leadlane = leadlane("paused-all", &destinations, "100/s");
    let process = leadlane.start(&[]);
    let Output { status, stderr, .. } = leadlane.run(&["lanes", "pause", "slack:nobody"]);
    let said = String::from_utf8(stderr).unwrap();
    assert_eq!(status.code(), Some(1), "{said}");
    for there in [
        "clevertap:acme",
        "slack:sales-bot/C0SALES",
        "webhook:alerts-webhook",
        "*",
    ] {
        assert!(said.contains(there), "{said}");
    }
    for (number, paused) in (0..).zip(["*", "slack:sales-bot"]) {
        leadlane.ok(&["lanes", "pause", paused]);
        std::thread::sleep(Duration::from_secs(1));
        let before = texts(&destinations, "sold").len();
        send(&leadlane, number * 10..number * 10 + 5, "lms.lead_sold");
        std::thread::sleep(Duration::from_secs(2));
        assert_eq!(texts(&destinations, "sold").len(), before, "{paused}");
        let summary = destinations.sandbox.summary();
        let uploads = summary.iter().any(|(target, _)| &**target == "ACME");
        assert_eq!(uploads, paused != "*", "{paused}");
        let told = leadlane.ok(&["lanes"]);
        assert!(told.contains(" is paused by "), "{told}");
        leadlane.ok(&["lanes", "resume", paused]);
        until("it goes on", Duration::from_secs(10), || {
            texts(&destinations, "sold").len() == before + 5
        });
        // A CleverTap account waits for the clock of its batch alone.
        until_final(&leadlane, (number as usize + 1) * 10);
    }
    process.stop();
}

#[test]
fn a_refused_credential_is_tried_as_soon_as_somebody_asks() {
    let destinations = open_sandbox();
    let leadlane = leadlane("probed", &destinations, "100/s");
    leadlane.secret("sales-bot", "xoxb-invalid");
    let process = leadlane.start(&[]);
    send(&leadlane, 0..3, "lms.lead_sold");
    process.log_until(30, |log| log.contains("the credential is refused"));
    leadlane.secret("sales-bot", "xoxb-mended");
    let asked = leadlane.ok(&["lanes", "probe", "slack:sales-bot"]);
    assert!(asked.contains("is tried now"), "{asked}");
    let took = until("it is sent", Duration::from_secs(3), || {
        texts(&destinations, "sold").len() == 3
    });
    println!("sent {took:?} after the command");
    process.log_until(5, |log| log.contains("the credential works again"));
    until_final(&leadlane, 6);
    let lanes = leadlane.ok(&["lanes", "--json"]);
    assert!(!lanes.contains("refused"), "{lanes}");
    // What is paused is tried by nobody.
    leadlane.ok(&["lanes", "pause", "slack:sales-bot"]);
    let refused = leadlane.run(&["lanes", "probe", "slack:sales-bot/C0SALES"]);
    let said = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        said.contains("slack:sales-bot is paused by") && said.contains("leadlane lanes resume 'slack:sales-bot'"),
        "{said}"
    );
    process.stop();
    assert_eq!(audited(&leadlane, "lane_probe").len(), 1);
}

/// Runs send-test, and gives its answer and its exit code.
fn send_test(leadlane: &Leadlane, rule: &str) -> (Value, Option<i32>) {
    let file = leadlane.dir.join("event.json");
    std::fs::write(&file, event(7, "lms.lead_sold", "12", "42.50")).unwrap();
    let ran = leadlane.run(&["rules", "send-test", rule, "--event", file.to_str().unwrap(), "--json"]);
    let stdout = String::from_utf8(ran.stdout).unwrap();
    let answer =
        serde_json::from_str(&stdout).unwrap_or_else(|_| panic!("{stdout}{}", String::from_utf8_lossy(&ran.stderr)));
    (answer, ran.status.code())
}

fn with_header(leadlane: &Leadlane, topic: &str) -> usize {
    let records = leadlane.read(topic);
    records.iter().filter(|record| record.is_test()).count()
}

#[test]
fn a_test_arrives_marked_is_answered_and_counts_for_nothing() {
    let destinations = open_sandbox();
    let leadlane = leadlane("tested", &destinations, "100/s");
    let process = leadlane.start(&[]);
    // A rule that is paused is tried, too.
    leadlane.ok(&["rules", "pause", "to-channel"]);
    for times in 1..=2 {
        let (answer, code) = send_test(&leadlane, "to-channel");
        assert_eq!((&answer["result"], code), (&json!("sent"), Some(0)), "{answer}");
        assert_eq!((&answer["status"], &answer["cure"]), (&json!(200), &Value::Null));
        assert_eq!(answer["lane"], "slack:sales-bot/C0SALES");
        println!("a test took {} ms", answer["millis"]);
        let texts = texts(&destinations, "");
        assert_eq!(texts, vec!["[TEST] sold e-7"; times], "a repeat is sent again");
    }
    let (answer, _) = send_test(&leadlane, "to-webhook");
    assert_eq!(answer["result"], "sent", "{answer}");
    assert!(destinations.texts().contains(&"[TEST] rejected e-7".to_owned()));
    // An event has another name, and a profile is checked and not changed.
    let (answer, _) = send_test(&leadlane, "to-event");
    assert_eq!(answer["result"], "sent", "{answer}");
    let (answer, _) = send_test(&leadlane, "to-profile");
    assert_eq!(answer["result"], "sent", "{answer}");
    let log = destinations.sandbox.log();
    let uploads: Vec<_> = log.iter().filter(|arrival| &*arrival.target == "ACME").collect();
    assert!(uploads.iter().any(|arrival| arrival.method == "dry_run"), "{uploads:?}");
    let kept: Vec<_> = uploads
        .iter()
        .filter(|arrival| arrival.accepted && arrival.method != "dry_run")
        .collect();
    assert!(!kept.is_empty());

    let topics = &leadlane.config.topics;
    assert_eq!(with_header(&leadlane, &topics.jobs), 5);
    assert_eq!(with_header(&leadlane, &topics.outcomes), 5);
    assert!(leadlane.read(&topics.dead_letters).is_empty());
    let (_, metrics) = leadlane.get("/metrics").unwrap();
    for counted in [
        "leadlane_outcomes_total{",
        "leadlane_matches_total{",
        "leadlane_rule_matches_total{",
    ] {
        let counts = metrics.lines().filter(|line| line.starts_with(counted));
        assert!(
            counts.clone().all(|line| line.ends_with(" 0")),
            "{:?}",
            counts.collect::<Vec<_>>()
        );
    }
    let audited = audited(&leadlane, "send_test");
    assert_eq!(audited.len(), 5);
    assert_eq!(audited[0]["target"], "to-channel");
    // A real event is sent all the same, whatever was tried before it.
    leadlane.ok(&["rules", "resume", "to-channel"]);
    send(&leadlane, 7..8, "lms.lead_sold");
    until("it is sent", Duration::from_secs(20), || {
        destinations.texts().contains(&"sold e-7".to_owned())
    });
    process.stop();
}

#[test]
fn a_test_that_is_refused_or_held_says_what_helps() {
    let destinations = open_sandbox();
    let leadlane = leadlane("test-refused", &destinations, "100/s");
    let order = |order: Value| {
        let order = serde_json::from_value(order).unwrap();
        destinations.sandbox.order(order).unwrap()
    };
    let process = leadlane.start(&[]);
    order(json!({"target": "C0SALES", "kind": "error", "error": "not_in_channel", "times": 3}));
    let (answer, code) = send_test(&leadlane, "to-channel");
    assert_eq!((&answer["result"], code), (&json!("dead"), Some(1)), "{answer}");
    assert_eq!(answer["words"], "not_in_channel", "{answer}");
    let cure = "The app is not in C0SALES. Type /invite @sales-bot there, then send again.";
    assert_eq!(answer["cure"], cure);

    leadlane.ok(&["lanes", "pause", "slack:sales-bot"]);
    std::thread::sleep(Duration::from_secs(1));
    let began = Instant::now();
    let (answer, _) = send_test(&leadlane, "to-channel");
    assert_eq!(answer["result"], "expired", "{answer}");
    assert!(began.elapsed() < Duration::from_secs(10), "it is known at once");
    let words = answer["words"].as_str().unwrap();
    assert!(words.starts_with("not sent: slack:sales-bot is paused by "), "{words}");
    assert!(
        answer["cure"].as_str().unwrap().contains("leadlane lanes resume"),
        "{answer}"
    );
    leadlane.ok(&["lanes", "resume", "slack:sales-bot"]);

    order(json!({"target": "C0SALES", "kind": "status", "status": 500, "times": 1}));
    std::thread::sleep(Duration::from_secs(1));
    let (answer, _) = send_test(&leadlane, "to-channel");
    assert_eq!(
        (&answer["result"], &answer["status"]),
        (&json!("dead"), &json!(500)),
        "{answer}"
    );
    process.stop();

    let (answer, code) = send_test(&leadlane, "to-channel");
    assert_eq!((&answer["result"], code), (&Value::Null, Some(1)), "{answer}");
    assert!(answer["cure"].as_str().unwrap().contains("leadlane run --role sender"));
    // Whoever starts a sender later sends no test.
    let process = leadlane.start(&["--role", "sender"]);
    until("it is over", Duration::from_secs(20), || {
        outcomes(&leadlane)
            .iter()
            .filter(|outcome| outcome.result.is_final())
            .count()
            == 4
    });
    process.stop();
    assert!(leadlane.read(&leadlane.config.topics.dead_letters).is_empty());
    assert!(texts(&destinations, "[TEST]").is_empty());
}
