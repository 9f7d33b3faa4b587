//! Cases that have bitten others, each a test that is named after it: in virtual time where that proves it, on a real
//! Kafka with real processes where Kafka is what the case is about.
//!
//! | case | what must hold | tests |
//! |---|---|---|
//! | late ack after revoke | a former owner's answer commits nothing; who owns it next keeps books of its own | `delivery::dispatch::tests::late_ack_after_revoke`, `real_kafka::owned::late_ack_after_revoke` |
//! | a 401 for a minute | none is lost, over a restart too; others aren't affected; the credential is said to be refused | `delivery::dispatch::tests::owned::a_401_for_a_minute`, `real_kafka::owned::a_401_for_a_minute`, `delivery::dispatch::tests::a_refused_credential_is_probed_by_one_request_and_resumes` |
//! | a 429 with Retry-After 30 across three instances | none is sent within it, whoever has the partition; the full rate after | `delivery::dispatch::tests::owned::a_429_with_retry_after_30_across_three_instances`, `real_kafka::owned::a_retry_after_holds_across_three_instances` |
//! | retries cannot bypass the limiter | first tries and retries together stay below the limit, and use it | `delivery::dispatch::tests::owned::retries_cannot_bypass_the_limiter` |
//! | no retry immediately on 429 | without a `Retry-After` the pause is ours, and grows | `delivery::dispatch::tests::owned::no_retry_immediately_on_429`, `delivery::dispatch::tests::a_retry_after_is_obeyed_and_followed_within_a_second` |
//! | one percent of keys never succeed | in half an hour the others' throughput is flat, and the commit goes on by the age that a job may have | `delivery::dispatch::tests::owned::one_percent_of_keys_never_succeed`, `delivery::dispatch::tests::a_job_that_alone_keeps_failing_steps_aside_and_is_given_up` |
//! | map too big and sparse completions | a commit doesn't grow with the holes, a job costs a bit, what is settled isn't sent again, nothing stalls | `delivery::dispatch::tests::owned::map_too_big_and_sparse_completions`, `delivery::offsets::tests::a_million_settled_jobs_take_a_bit_each` |
//! | encoder reads moving state | a commit is one look: below it all had their outcomes, and it hides none above | `delivery::dispatch::tests::owned::encoder_reads_moving_state`, `delivery::offsets::tests::it_agrees_with_a_map_of_the_unsettled` |
//! | rebalance storm while draining | each that leaves ends in time, no member stays behind, each job is sent once and in order | `real_kafka::owned::rebalance_storm_while_draining` |
//! | broker restart | everything goes on unaided, nothing is lost or repeated | `real_kafka::owned::broker_restart` |
//! | request timeout over lease or poll interval | refused at the start | `config::tests::request_timeout_over_lease_or_poll_interval` |
//! | hot key 1000 times | others wait no longer; the hot one has its own rate, or a digest where its rule says so | `delivery::dispatch::tests::owned::hot_key_1000_times`, `delivery::dispatch::tests::a_million_jobs_of_one_lane_cost_sixteen_bytes_each_and_hold_nobody_up`, `delivery::dispatch::tests::under_pressure_waiting_jobs_of_a_rule_go_as_one_message` |
//! | throttled yet still reading | only where a job is gets read; payloads are fetched as the limit lets them go | `delivery::dispatch::tests::owned::throttled_yet_still_reading`, `delivery::dispatch::tests::what_was_not_kept_is_read_again_in_time_and_in_order` |
//! | park produce fails | the offset is held until Kafka has the dead letter, others go on, it shows, nothing is lost | `real_kafka::owned::park_produce_fails` |
//! | bad rule record, tombstone and out-of-order version | the last good version stays in force, it is counted, others are live, after a restart too | `real_kafka::owned::bad_rule_record_tombstone_and_out_of_order_version`, `rules::log::tests::what_was_read_before_changes_nothing`, `rules::log::tests::any_history_ends_where_its_last_records_say` |
//! | metric renamed by a flag | names, types and labels are those of docs/metrics.md, whatever a process is started with | `real_kafka::owned::metric_renamed_by_a_flag`, `docs::every_metric_is_documented` |

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use leadlane::delivery::{DeliveryJob, OutcomeResult};
use leadlane::sandbox::{Rate, Settings};
use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{Offset, TopicPartitionList};
use serde_json::{Value, json};

use super::sender::{leadlane, open_sandbox, outcomes, send, until_final};
use super::tools::{job, put_jobs};
use crate::docs::metrics_in;
use crate::support::{Destinations, Kafka, Leadlane, Process, event, sandbox};
use crate::tidy::{root, text};

const SENDER: [&str; 2] = ["--role", "sender"];

/// A Leadlane with `partitions` of its jobs, and two Slack tokens.
fn senders(name: &str, destinations: &Destinations, partitions: &str, yaml: &str) -> Leadlane {
    let leadlane = Leadlane::new(name, &format!("{}\n{yaml}", destinations.yaml("50/s")));
    leadlane.secret("bot", "xoxb-bot");
    leadlane.secret("other", "xoxb-other");
    leadlane.secret("acme-passcode", "passcode");
    leadlane.short_session();
    leadlane.ok(&["topics", "create", "--partitions", partitions]);
    leadlane
}

fn order(destinations: &Destinations, fault: Value) -> u64 {
    let fault = serde_json::from_value(fault).unwrap();
    destinations.sandbox.order(fault).unwrap()
}

/// Waits for what an outside test can only look at.
fn until(seconds: u64, what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(seconds);
    while !done() {
        assert!(Instant::now() < end, "{what}: not within {seconds} s");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn group(leadlane: &Leadlane) -> BaseConsumer {
    ClientConfig::new()
        .set("bootstrap.servers", &leadlane.config.kafka.brokers)
        .set("group.id", format!("{}-sender", leadlane.config.kafka.group))
        .create()
        .unwrap()
}

/// What is committed of the jobs' partition 0; 0 when nothing is.
fn committed(group: &BaseConsumer, leadlane: &Leadlane) -> i64 {
    let mut list = TopicPartitionList::new();
    list.add_partition(&leadlane.config.topics.jobs, 0);
    let list = group.committed_offsets(list, Duration::from_secs(10)).unwrap();
    match list.elements()[0].offset() {
        Offset::Offset(offset) => offset,
        _ => 0,
    }
}

fn members(group: &BaseConsumer, leadlane: &Leadlane) -> usize {
    let name = format!("{}-sender", leadlane.config.kafka.group);
    let groups = group.fetch_group_list(Some(&name), Duration::from_secs(10)).unwrap();
    groups.groups().iter().map(|group| group.members().len()).sum()
}

/// How often each text was taken.
fn taken(destinations: &Destinations) -> BTreeMap<String, usize> {
    let mut taken = BTreeMap::new();
    for text in destinations.texts() {
        *taken.entry(text).or_default() += 1;
    }
    taken
}

fn jobs(numbers: std::ops::Range<i64>, credential: &str, channel: &str) -> Vec<DeliveryJob> {
    numbers.map(|number| job(number, "r", credential, channel)).collect()
}

#[test]
fn late_ack_after_revoke() {
    let destinations = open_sandbox();
    let leadlane = senders("late", &destinations, "1", "sender: {request_timeout: 15s}");
    // The first message is taken at once, and its answer is on its way while its sender is away.
    order(
        &destinations,
        json!({"target": "C1", "kind": "slow", "delay": "8s", "times": 1}),
    );
    put_jobs(&leadlane, &jobs(0..10, "slack:bot", "C1"));
    let stopped = leadlane.start(&SENDER);
    until(20, "the first message", || !destinations.texts().is_empty());
    stopped.signal("STOP");
    let heir = leadlane.start_another(&SENDER);
    until_final(&leadlane, 10);
    let group = group(&leadlane);
    until(10, "the heir's commit", || committed(&group, &leadlane) == 10);
    stopped.signal("CONT");
    put_jobs(&leadlane, &jobs(10..14, "slack:bot", "C1"));
    until(20, "both are members", || {
        assert!(
            committed(&group, &leadlane) >= 10,
            "the late answer moved the commit back"
        );
        members(&group, &leadlane) == 2
    });
    until_final(&leadlane, 14);
    stopped.stop();
    heir.stop();
    assert_eq!(committed(&group, &leadlane), 14);
    let finals = outcomes(&leadlane).into_iter().filter(|one| one.result.is_final());
    assert_eq!(finals.count(), 14, "the late answer is no second outcome");
    let taken = taken(&destinations);
    assert_eq!(taken.len(), 14);
    let repeated: Vec<_> = taken.iter().filter(|(_, count)| **count > 1).collect();
    assert_eq!(
        repeated,
        [(&"sold e-0".to_owned(), &2)],
        "what was in flight, and that alone"
    );
}

#[test]
fn a_401_for_a_minute() {
    let destinations = open_sandbox();
    let leadlane = senders("refused", &destinations, "1", "");
    order(
        &destinations,
        json!({"target": "C1", "kind": "error", "error": "invalid_auth", "for": "60s"}),
    );
    let others = jobs(1..21, "slack:other", "C2");
    put_jobs(&leadlane, &[jobs(0..1, "slack:bot", "C1"), others].concat());
    let group = group(&leadlane);
    let process = leadlane.start(&SENDER);
    until_final(&leadlane, 20);
    let refused = |leadlane: &Leadlane| {
        let metrics = leadlane.get("/metrics").unwrap().1;
        metrics.contains("leadlane_lanes_frozen{provider=\"slack\",reason=\"credential_refused\"} 1\n")
    };
    until(5, "a lane is said to be frozen", || refused(&leadlane));
    // The records behind it are settled, and it stays all the same, over two restarts.
    process.stop();
    let process = leadlane.start(&SENDER);
    until(20, "the next owner knows it, too", || refused(&leadlane));
    put_jobs(&leadlane, &jobs(21..25, "slack:other", "C2"));
    until_final(&leadlane, 24);
    process.stop();
    assert_eq!(committed(&group, &leadlane), 0);
    let lanes = leadlane.ok(&["lanes", "--json"]);
    let lane: Value = serde_json::from_str(lanes.trim()).unwrap();
    assert_eq!(
        (&lane["id"], &lane["waiting"]),
        (&json!("slack:bot/C1"), &json!(1)),
        "{lane}"
    );
    let taken = taken(&destinations);
    assert_eq!((taken.len(), taken.values().sum::<usize>()), (24, 24), "{taken:?}");
    let asked = destinations
        .sandbox
        .log()
        .iter()
        .filter(|one| &*one.target == "C1")
        .count();
    assert_eq!(asked, 1);
}

#[test]
fn a_retry_after_holds_across_three_instances() {
    let destinations = open_sandbox();
    let leadlane = senders("retry-after", &destinations, "3", "");
    put_jobs(&leadlane, &jobs(0..60, "slack:bot", "C1"));
    order(
        &destinations,
        json!({"target": "C1", "kind": "rate_limit", "times": 1, "retry_after": 8}),
    );
    let first = leadlane.start(&SENDER);
    let refused = |log: &[leadlane::sandbox::Arrival]| Some(log.iter().find(|one| one.status == Some(429))?.at_ms);
    until(20, "the 429", || refused(&destinations.sandbox.log()).is_some());
    // Its outcome is in Kafka before the others join, and whoever has the partition then knows.
    leadlane.read_until(&leadlane.config.topics.outcomes, 5, |outcomes| !outcomes.is_empty());
    let (second, third) = (leadlane.start_another(&SENDER), leadlane.start_another(&SENDER));
    first.stop();
    assert!(
        destinations.texts().is_empty(),
        "the hand-over is to be within the pause"
    );
    until_final(&leadlane, 60);
    second.stop();
    third.stop();
    let log = destinations.sandbox.log();
    assert!(
        log.iter().all(|one| !one.inside_retry_after),
        "sent before the time that was asked for"
    );
    let until = refused(&log).unwrap() + 8000;
    let starts: Vec<u64> = log
        .iter()
        .filter(|one| one.accepted && one.text.is_some())
        .map(|one| one.at_ms)
        .collect();
    assert_eq!(starts.len(), 60, "each once");
    assert!((until..until + 1500).contains(&starts[0]), "{until} {starts:?}");
    let took = starts[59] - starts[0];
    assert!(took <= 2500, "60 messages at 50 a second took {took} ms");
}

#[test]
fn rebalance_storm_while_draining() {
    let none = Rate::new(0, Duration::from_secs(1));
    let destinations = sandbox(Settings {
        channel_rate: none,
        webhook_rate: none,
        workspace_rate: none,
        method_rate: none,
        latency: Duration::from_millis(150),
        ..Settings::default()
    });
    let leadlane = senders(
        "storm",
        &destinations,
        "4",
        "sender: {request_timeout: 3s, shutdown_timeout: 6s}",
    );
    let lanes: Vec<(&str, String)> = (0..12)
        .map(|lane| {
            (
                if lane % 2 == 0 { "slack:bot" } else { "slack:other" },
                format!("C{lane}"),
            )
        })
        .collect();
    let of_lane = |(number, (credential, channel)): (i64, &(&str, String))| {
        jobs(number * 40..(number + 1) * 40, credential, channel)
    };
    let all: Vec<DeliveryJob> = (0..).zip(&lanes).flat_map(of_lane).collect();
    put_jobs(&leadlane, &all);
    let leave = |process: Process| {
        let began = Instant::now();
        process.stop();
        assert!(
            began.elapsed() < Duration::from_secs(10),
            "it left after {:?}",
            began.elapsed()
        );
    };
    let mut running = leadlane.start_another(&SENDER);
    for _ in 0..2 {
        // One comes, and the one before goes at once, in the middle of the rebalance.
        let next = leadlane.start_another(&SENDER);
        leave(std::mem::replace(&mut running, next));
    }
    let third = leadlane.start_another(&SENDER);
    until(60, "all is sent", || destinations.texts().len() >= 480);
    until_final(&leadlane, 480);
    let group = group(&leadlane);
    assert_eq!(members(&group, &leadlane), 2);
    leave(third);
    leave(running);
    assert_eq!(members(&group, &leadlane), 0, "no member is left behind");
    let texts = destinations.texts();
    assert_eq!(texts.len(), 480);
    let numbers: Vec<i64> = texts
        .iter()
        .filter_map(|text| text.strip_prefix("sold e-")?.parse().ok())
        .collect();
    for lane in 0..12 {
        let of_lane: Vec<i64> = numbers.iter().copied().filter(|number| number / 40 == lane).collect();
        assert_eq!(of_lane, (lane * 40..(lane + 1) * 40).collect::<Vec<_>>());
    }
}

#[test]
fn broker_restart() {
    let destinations = open_sandbox();
    let dir = std::env::temp_dir().join(format!("leadlane-it-broker-{}", std::process::id()));
    let kafka = Kafka::start(dir.display().to_string());
    let leadlane = Leadlane::on(&kafka.address, "broker", &destinations.yaml("50/s"));
    leadlane.secret("bot", "xoxb-bot");
    leadlane.secret("acme-passcode", "passcode");
    leadlane.short_session();
    leadlane.ok(&["topics", "create", "--partitions", "3"]);
    leadlane.apply("{id: r, trigger: lms.lead_sold, scope: {level: product, id: '*'}, action: {type: slack_message, token: {secret: bot}, to: {channel: C1}, text: 'sold {{$.event_id}}'}}");
    let process = leadlane.start(&[]);
    send(&leadlane, 0..150, "lms.lead_sold");
    until(20, "it is in the middle of it", || destinations.texts().len() > 20);
    kafka.tell("kill");
    kafka.tell("start");
    send(&leadlane, 150..200, "lms.lead_sold");
    until_final(&leadlane, 200);
    // The same process all the while.
    process.stop();
    let taken = taken(&destinations);
    assert_eq!((taken.len(), taken.values().sum::<usize>()), (200, 200));
}

/// Sets a topic's longest record, beside what has to be as it is.
pub(super) fn longest_record(leadlane: &Leadlane, topic: &str, bytes: &str) {
    let admin: AdminClient<DefaultClientContext> = ClientConfig::new()
        .set("bootstrap.servers", &leadlane.config.kafka.brokers)
        .create()
        .unwrap();
    let config = AlterConfig::new(ResourceSpecifier::Topic(topic))
        .set("max.message.bytes", bytes)
        .set("retention.ms", "2592000000");
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let altered = runtime.block_on(admin.alter_configs([&config], &AdminOptions::new()));
    assert!(altered.unwrap()[0].is_ok());
}

#[test]
fn park_produce_fails() {
    let destinations = open_sandbox();
    let leadlane = senders("park", &destinations, "1", "");
    let topics = &leadlane.config.topics;
    order(
        &destinations,
        json!({"target": "C1", "kind": "error", "error": "is_archived"}),
    );
    let process = leadlane.start(&SENDER);
    // From here on Kafka takes no dead letter.
    longest_record(&leadlane, &topics.dead_letters, "10");
    let others = jobs(1..11, "slack:bot", "C2");
    put_jobs(&leadlane, &[jobs(0..1, "slack:bot", "C1"), others].concat());
    until_final(&leadlane, 10);
    until(10, "it is said", || {
        process.log().contains("take a dead letter of a few hundred bytes")
    });
    let group = group(&leadlane);
    assert_eq!(committed(&group, &leadlane), 0, "the offset is held");
    let ended = || {
        let outcomes = outcomes(&leadlane);
        let count = |result| outcomes.iter().filter(|one| one.result == result).count();
        (count(OutcomeResult::Sent), count(OutcomeResult::Dead))
    };
    assert_eq!(ended(), (10, 0));
    process.kill();
    longest_record(&leadlane, &topics.dead_letters, "2000000");
    let process = leadlane.start(&SENDER);
    until_final(&leadlane, 11);
    process.stop();
    assert_eq!(ended(), (10, 1));
    let dead = leadlane.read(&topics.dead_letters);
    assert_eq!((dead.len(), dead[0].header("reason")), (1, Some("destination_gone")));
    assert_eq!(committed(&group, &leadlane), 11);
}

#[test]
fn bad_rule_record_tombstone_and_out_of_order_version() {
    let leadlane = Leadlane::new("rule-records", "");
    leadlane.ok(&["topics", "create", "--partitions", "1"]);
    let rule = |id: &str, version: u32| {
        format!(
            "{{id: {id}, name: v{version}, trigger: lms.lead_sold, scope: {{level: product, id: '*'}}, action: {{type: slack_message, token: {{secret: t}}, to: {{channel: C1}}, text: '{id} v{version}'}}}}"
        )
    };
    let apply = |rules: &[String]| leadlane.apply(&rules.join("\n---\n"));
    apply(&[rule("a", 1), rule("b", 1), rule("c", 1)]);
    let process = leadlane.start(&["--role", "processor"]);
    let topics = &leadlane.config.topics;
    let first = leadlane.read(&topics.rules)[2].value.clone().unwrap();
    apply(&[rule("a", 2), rule("c", 2)]);
    // One that nobody can read, one deleted, and an old version of the third, written late: the log's order counts.
    let records: [(&str, Option<&[u8]>); 3] = [("a", Some(b"{\"id\":")), ("b", None), ("c", Some(&first))];
    leadlane.write(&topics.rules, records);
    until(10, "all is read", || process.log().contains("rules.version=9"));
    // What is in force says what becomes of an event, before and after a restart.
    let texts = |number: u64| {
        let event = event(number, "lms.lead_sold", "12", "30.00");
        leadlane.write(&topics.events, [("k", Some(event.as_bytes()))]);
        let before = usize::try_from(number).unwrap() * 2;
        let jobs = leadlane.read_until(&topics.jobs, 20, |jobs| jobs.len() >= before + 2);
        let texts = jobs[before..].iter().map(|record| {
            let job = DeliveryJob::decode(record.value.as_deref().unwrap()).unwrap();
            serde_json::from_str::<Value>(&job.body).unwrap()["text"].to_string()
        });
        texts.collect::<BTreeSet<_>>()
    };
    let wanted = BTreeSet::from(["\"a v2\"".to_owned(), "\"c v1\"".to_owned()]);
    let counted = "leadlane_rules_rejected_total{reason=\"not_json\"} 1\n";
    assert_eq!(texts(0), wanted);
    assert!(leadlane.get("/metrics").unwrap().1.contains(counted));
    process.stop();
    let process = leadlane.start(&["--role", "processor"]);
    assert_eq!(texts(1), wanted);
    assert!(leadlane.get("/metrics").unwrap().1.contains(counted));
    process.stop();
}

#[test]
fn metric_renamed_by_a_flag() {
    let destinations = open_sandbox();
    let leadlane = leadlane("metric", &destinations, "50/s");
    send(&leadlane, 0..1, "lms.lead_sold");
    let process = leadlane.start(&[]);
    let known = |leadlane: &Leadlane| metrics_in(&leadlane.get("/metrics").unwrap().1);
    let mut wanted = crate::docs::metrics();
    // Those of inlets have values where there are inlets; inlets' own tests look at them.
    wanted.retain(|metric| !metric.name.starts_with("leadlane_inlet_"));
    wanted.sort();
    until(10, "all metrics have a value", || {
        let mut all = known(&leadlane);
        all.retain(|metric| !metric.name.starts_with("leadlane_inlet_"));
        all.sort();
        all == wanted
    });
    process.stop();
    for (flags, key, value) in [
        (&["--role", "processor"][..], "LEADLANE__METRICS__RULES_MAX", "0"),
        (&SENDER, "LEADLANE__SENDER__IN_FLIGHT_MAX", "1"),
    ] {
        let mut command = leadlane.command(&["run"]);
        command.args(flags).env(key, value);
        let process = leadlane.start_as(command);
        let known = known(&leadlane).into_iter();
        for metric in known.filter(|metric| !metric.name.starts_with("leadlane_inlet_")) {
            assert!(
                wanted.contains(&metric),
                "{flags:?}: {metric:?} is not in docs/metrics.md"
            );
        }
        process.stop();
    }
}

/// The rows of the table above: the case, and the paths of its tests.
fn cases() -> Vec<(String, Vec<String>)> {
    let text = text("tests/it/real_kafka/owned.rs");
    let rows = text
        .lines()
        .filter_map(|line| line.strip_prefix("//! | ")?.strip_suffix(" |"));
    let cells = rows.map(|row| row.split(" | ").collect::<Vec<_>>());
    let cases = cells.map(|cells| {
        assert_eq!(cells.len(), 3, "{cells:?}");
        let tests = cells[2].split(", ").map(|path| path.trim_matches('`').to_owned());
        (cells[0].to_owned(), tests.collect())
    });
    cases.skip(1).collect()
}

/// Whether there is a test with this path, in the crate or in these tests.
fn is_test(path: &str) -> bool {
    let (module, name) = path.rsplit_once("::").unwrap();
    let module = module.replace("::", "/");
    let inside = module.strip_suffix("/tests").unwrap_or(&module);
    let files = [
        format!("src/{module}.rs"),
        format!("src/{inside}.rs"),
        format!("tests/it/{module}.rs"),
    ];
    let is_test = |file: &String| {
        let Ok(text) = std::fs::read_to_string(root().join(file)) else {
            return false;
        };
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        let head = format!("fn {name}(");
        lines
            .windows(2)
            .any(|pair| pair[0] == "#[test]" && pair[1].starts_with(&head))
    };
    files.iter().any(is_test)
}

#[test]
fn every_case_is_a_test_named_after_it() {
    assert!(is_test("real_kafka::owned::broker_restart") && !is_test("real_kafka::owned::is_test"));
    let cases = cases();
    assert_eq!(cases.len(), 16);
    for (case, tests) in cases {
        let name = case.to_lowercase().replace(", ", "_").replace([' ', '-'], "_");
        assert!(
            tests[0].ends_with(&format!("::{name}")),
            "{case}: its test is to be named {name}"
        );
        for test in tests {
            assert!(is_test(&test), "{case}: there is no test {test}");
        }
    }
}
