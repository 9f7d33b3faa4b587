//! What people do when something waits, failed or has to stop: all of it from Kafka alone.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::Duration;

use leadlane::action::{ActionType, OnAmbiguous};
use leadlane::delivery::{DeliveryJob, Outcome, OutcomeResult, job_id};
use leadlane::kafka::reader::Record;
use leadlane::kafka::scan::Topic;
use leadlane::lead::EventId;
use leadlane::reason::Reason;
use leadlane::rules::RuleId;
use leadlane::rules::index::Lists;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{Offset, TopicPartitionList};
use serde_json::Value;

use crate::support::{Leadlane, Process, event, now_millis, part};

const HOUR: i64 = 3_600_000;

/// A job of a Slack message. The number makes its event and with that its id.
pub(super) fn job(number: i64, rule: &str, credential: &str, channel: &str) -> DeliveryJob {
    let event_id = format!("e-{number}");
    DeliveryJob {
        job_id: job_id(EventId(&event_id), RuleId(rule)).to_string(),
        rule_id: rule.into(),
        rule_version: 0,
        lead_id: format!("lead-{number}"),
        trigger: "lms.lead_sold".into(),
        action: ActionType::SlackMessage,
        credential: credential.into(),
        destination: channel.into(),
        body: serde_json::json!({"channel": channel, "text": format!("sold {event_id}")}).to_string(),
        event_id,
        occurred_at: now_millis(),
        expires_at: None,
        on_ambiguous: OnAmbiguous::Retry,
        source_topic: "lead-events".into(),
        source_partition: 0,
        source_offset: number,
        sealed: None,
        account_id: None,
        region: None,
        digest_after: None,
        max_rate: None,
        thread: false,
    }
}

/// An outcome of the job at this offset of partition 0.
pub(super) fn outcome(job: &DeliveryJob, offset: i64, result: OutcomeResult, attempt: i32) -> Outcome {
    let mut outcome = job.outcome(result, now_millis());
    (outcome.job_partition, outcome.job_offset) = (Some(0), Some(offset));
    (outcome.attempt, outcome.started_at) = (attempt, Some(now_millis() - 20));
    outcome
}

/// A record for a topic, and when it is said to be written.
#[derive(Default)]
pub(super) struct Put<'p> {
    pub(super) key: &'p str,
    pub(super) value: Option<&'p [u8]>,
    pub(super) headers: &'p [(&'p str, &'p str)],
    pub(super) partition: Option<i32>,
    pub(super) timestamp: Option<i64>,
}

pub(super) fn put(leadlane: &Leadlane, topic: &str, puts: &[Put<'_>]) {
    let producer = producer(None);
    for put in puts {
        let mut headers = OwnedHeaders::new();
        for (key, value) in put.headers {
            let value = Some(*value);
            headers = headers.insert(Header { key, value });
        }
        let mut record = BaseRecord::to(topic).key(put.key).headers(headers);
        (record.payload, record.partition, record.timestamp) = (put.value, put.partition, put.timestamp);
        producer.send(record).map_err(|(error, _)| error).unwrap();
    }
    producer.flush(Duration::from_secs(30)).unwrap();
    assert!(leadlane.read(topic).len() >= puts.len());
}

fn producer(transactional_id: Option<&str>) -> BaseProducer {
    let mut client = ClientConfig::new();
    client
        .set("bootstrap.servers", part("LEADLANE_TEST_KAFKA"))
        .set("partitioner", "murmur2_random");
    if let Some(id) = transactional_id {
        client.set("transactional.id", id);
    }
    client.create().unwrap()
}

/// Writes outcomes to partition 0, as a sender does.
pub(super) fn put_outcomes(leadlane: &Leadlane, outcomes: &[Outcome]) {
    let values: Vec<Vec<u8>> = outcomes.iter().map(Outcome::encode).collect();
    let puts: Vec<Put<'_>> = outcomes
        .iter()
        .zip(&values)
        .map(|(outcome, value)| Put {
            key: &outcome.job_id,
            value: Some(value),
            partition: Some(0),
            ..Put::default()
        })
        .collect();
    put(leadlane, &leadlane.config.topics.outcomes, &puts);
}

pub(super) fn put_jobs(leadlane: &Leadlane, jobs: &[DeliveryJob]) {
    let values: Vec<Vec<u8>> = jobs.iter().map(DeliveryJob::encode).collect();
    let puts: Vec<Put<'_>> = jobs
        .iter()
        .zip(&values)
        .map(|(job, value)| Put {
            key: &job.credential,
            value: Some(value),
            ..Put::default()
        })
        .collect();
    put(leadlane, &leadlane.config.topics.jobs, &puts);
}

/// Commits for the senders, as a sender does.
fn commit(leadlane: &Leadlane, offset: i64, metadata: &str) {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", part("LEADLANE_TEST_KAFKA"))
        .set("group.id", format!("{}-sender", leadlane.config.kafka.group))
        .create()
        .unwrap();
    let mut list = TopicPartitionList::new();
    let mut element = list.add_partition(&leadlane.config.topics.jobs, 0);
    element.set_offset(Offset::Offset(offset)).unwrap();
    element.set_metadata(metadata);
    consumer.commit(&list, CommitMode::Sync).unwrap();
}

/// A dead letter of a job, as a sender writes it.
fn put_dead_jobs(leadlane: &Leadlane, reason: &str, jobs: &[DeliveryJob]) {
    let topics = &leadlane.config.topics;
    for job in jobs {
        let value = job.encode();
        let headers = [
            ("reason", reason),
            ("detail", "the provider's words"),
            ("source-topic", topics.jobs.as_str()),
            ("source-partition", "0"),
            ("source-offset", "5"),
            ("failed-at", "2026-03-05T15:16:00.123Z"),
            ("event-id", &job.event_id),
            ("rule-id", &job.rule_id),
            ("job-id", &job.job_id),
            ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        ];
        let record = Put {
            key: &job.credential,
            value: Some(&value),
            headers: &headers,
            ..Put::default()
        };
        put(leadlane, &topics.dead_letters, &[record]);
    }
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// What a command prints as JSON.
fn json(leadlane: &Leadlane, arguments: &[&str]) -> Vec<Value> {
    lines(&leadlane.ok(&[arguments, &["--json"]].concat()))
}

/// What a command says on stderr; it has to end with this code.
fn said(leadlane: &Leadlane, arguments: &[&str], code: i32) -> String {
    let output = leadlane.run(arguments);
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "leadlane {arguments:?}: {text}");
    text
}

const RULE: &str = "{id: sold, trigger: lms.lead_sold, scope: {level: product, id: '*'}, \
    action: {type: slack_message, token: {secret: TOKEN}, to: {channel: C1}, text: hi}}";

#[test]
fn lanes_tell_what_waits_without_a_process_and_behind_an_open_transaction() {
    let leadlane = Leadlane::new(
        "lanes",
        "slack: {limits: [{credential: 'slack:a', channel: C1, rate: 2/s}]}",
    );
    leadlane.ok(&["topics", "create", "--partitions", "1"]);
    assert!(json(&leadlane, &["lanes"]).is_empty());
    assert!(said(&leadlane, &["lanes"], 0).contains("nothing waits"));
    let mut jobs: Vec<DeliveryJob> = (0..6).map(|number| job(number, "r", "slack:a", "C1")).collect();
    jobs.extend((6..9).map(|number| job(number, "other", "slack:b", "C2")));
    put_jobs(&leadlane, &jobs);
    let now = now_millis();
    // An outcome before the place in the commit would freeze the lane, if it were read.
    let mut old = outcome(&jobs[0], 0, OutcomeResult::Throttled, 1);
    (old.scope, old.next_at) = (Some("lane".into()), Some(now + HOUR));
    put_outcomes(&leadlane, &[old]);
    commit(&leadlane, 1, "1 and what else a sender notes");
    // The processor has a transaction open, which hides what comes behind it from who reads committed records.
    let processor = producer(Some(&leadlane.config.kafka.group));
    processor.init_transactions(Duration::from_secs(10)).unwrap();
    processor.begin_transaction().unwrap();
    let skipped = job(90, "r", "slack:a", "C1")
        .outcome(OutcomeResult::Skipped, now)
        .encode();
    let record = BaseRecord::to(&leadlane.config.topics.outcomes)
        .key("k")
        .payload(&skipped);
    processor.send(record.partition(0)).map_err(|(error, _)| error).unwrap();
    processor.flush(Duration::from_secs(10)).unwrap();
    let settled = outcome(&jobs[3], 3, OutcomeResult::Sent, 1);
    let mut refused = outcome(&jobs[6], 6, OutcomeResult::Retry, 1);
    (refused.scope, refused.next_at) = (Some("credential".into()), Some(now + HOUR));
    refused.words = Some("invalid_auth".into());
    let values = [settled.encode(), refused.encode()];
    let plain = producer(None);
    for value in &values {
        let record = BaseRecord::to(&leadlane.config.topics.outcomes).key("k").payload(value);
        plain.send(record.partition(0)).map_err(|(error, _)| error).unwrap();
    }
    plain.flush(Duration::from_secs(10)).unwrap();

    let lanes = json(&leadlane, &["lanes"]);
    assert_eq!(lanes.len(), 2, "{lanes:?}");
    let [a, b] = [&lanes[0], &lanes[1]];
    assert_eq!((&a["id"], &a["waiting"]), (&"slack:a/C1".into(), &4.into()), "{a}");
    assert_eq!((&a["limit"], &a["credential_limit"]), (&"2/s".into(), &"300/m".into()));
    assert_eq!(a["frozen_until"], Value::Null, "{a}");
    assert_eq!((&b["id"], &b["waiting"]), (&"slack:b/C2".into(), &3.into()), "{b}");
    assert_eq!(
        (&b["limit"], &b["frozen_why"]),
        (&"1/s".into(), &"credential refused: invalid_auth".into()),
        "{b}"
    );
    let next: jiff::Timestamp = b["next_at"].as_str().unwrap().parse().unwrap();
    assert_eq!(next.as_millisecond(), now + HOUR);
    let oldest: jiff::Timestamp = a["oldest_at"].as_str().unwrap().parse().unwrap();
    assert!((now - 60_000..=now).contains(&oldest.as_millisecond()), "{a}");
    let text = leadlane.ok(&["lanes"]);
    assert!(
        text.contains("slack:b/C2") && text.contains(": credential refused: invalid_auth"),
        "{text}"
    );
    // What isn't committed is no outcome yet, and what is behind it not either.
    assert_eq!(json(&leadlane, &["deliveries", "list"]).len(), 1);
    processor.abort_transaction(Duration::from_secs(10)).unwrap();
    let listed = json(&leadlane, &["deliveries", "list"]);
    let results: Vec<_> = listed.iter().map(|line| line["result"].as_str().unwrap()).collect();
    assert_eq!(results, ["throttled", "sent", "retry"], "an aborted outcome never was");
}

/// Three jobs of two rules; the first was retried and then sent, the second is dead, the third waits.
fn put_deliveries(leadlane: &Leadlane, now: i64) -> Vec<DeliveryJob> {
    let jobs: Vec<DeliveryJob> = [("r", "slack:a", "C1"), ("r", "slack:a", "C2"), ("s", "slack:b", "C1")]
        .into_iter()
        .zip(0..)
        .map(|((rule, credential, channel), number)| job(number, rule, credential, channel))
        .collect();
    put_jobs(leadlane, &jobs);
    let mut retry = outcome(&jobs[0], 0, OutcomeResult::Retry, 1);
    (retry.status, retry.words, retry.next_at) = (Some(503), Some("no answer \u{1b}[2J".into()), Some(now));
    let outcomes = [
        (3 * HOUR, retry),
        (HOUR, outcome(&jobs[0], 0, OutcomeResult::Sent, 2)),
        (
            0,
            outcome(&jobs[1], 1, OutcomeResult::Dead, 1).because(Reason::DestinationGone, "is_archived"),
        ),
    ];
    for (ago, outcome) in &outcomes {
        let value = outcome.encode();
        let record = Put {
            key: &outcome.job_id,
            value: Some(&value),
            timestamp: Some(now - ago),
            ..Put::default()
        };
        put(leadlane, &leadlane.config.topics.outcomes, &[record]);
    }
    jobs
}

#[test]
fn deliveries_are_found_by_all_that_people_know_of_them() {
    let leadlane = Leadlane::new("deliveries", "");
    leadlane.ok(&["topics", "create", "--partitions", "1"]);
    let now = now_millis();
    let jobs = put_deliveries(&leadlane, now);
    let count = |more: &[&str]| json(&leadlane, &[&["deliveries", "list"], more].concat()).len();
    for (more, wanted) in [
        (&[][..], 3),
        (&["--rule", "r"], 3),
        (&["--rule", "s"], 0),
        (&["--lead", "lead-0"], 2),
        (&["--event", "e-1"], 1),
        (&["--lane", "slack:a"], 3),
        (&["--lane", "slack:a/C2"], 1),
        (&["--result", "sent,dead"], 2),
        (&["--result", "sent", "--result", "dead"], 2),
        (&["--result", "sent", "--event", "e-1"], 0),
        (&["--since", "2h"], 2),
        (&["--until", "2h"], 1),
        (&["--since", "4h", "--until", "30m"], 2),
        (&["--limit", "1"], 1),
        (&["--limit", "0"], 0),
    ] {
        assert_eq!(count(more), wanted, "{more:?}");
    }
    // Reading begins at --since, not at the beginning.
    let asked = Topic::open(&leadlane.config, &leadlane.config.topics.outcomes).unwrap();
    let runs = asked.between(Some(now - 2 * HOUR), None).unwrap();
    assert_eq!((runs[0].from, runs[0].until), (1, 3));
    assert_eq!(asked.between(None, Some(now - 2 * HOUR)).unwrap()[0].until, 1);
    assert!(
        !leadlane.ok(&["deliveries", "list"]).contains('\u{1b}'),
        "words can't steer a terminal"
    );

    let life = &json(&leadlane, &["deliveries", "show", &jobs[0].job_id])[0];
    assert_eq!(
        (&life["id"], &life["stands"]),
        (&jobs[0].job_id.as_str().into(), &"sent".into())
    );
    assert_eq!(
        (&life["event_id"], &life["rule_id"], &life["rule_version"]),
        (&"e-0".into(), &"r".into(), &0.into())
    );
    let attempts = life["attempts"].as_array().unwrap();
    assert_eq!((attempts.len(), &attempts[0]["status"]), (2, &503.into()));
    assert_eq!(life["job"]["trigger"], "lms.lead_sold");
    let text = leadlane.ok(&["deliveries", "show", &jobs[1].job_id]);
    assert!(
        text.contains("destination_gone: is_archived") && text.contains("of lead lead-1"),
        "{text}"
    );
    // No outcome yet: it waits. And one that isn't there.
    let waiting = &json(&leadlane, &["deliveries", "show", &jobs[2].job_id])[0];
    assert_eq!(
        (&waiting["stands"], &waiting["lane"]),
        (&"waiting".into(), &"slack:b/C1".into())
    );
    let absent = job(77, "r", "slack:a", "C1").job_id;
    assert!(said(&leadlane, &["deliveries", "show", &absent], 1).contains(&absent));
}

#[test]
fn tail_follows_until_it_is_asked_to_end() {
    let leadlane = Leadlane::new("tail", "");
    leadlane.ok(&["topics", "create", "--partitions", "1"]);
    let before = job(0, "r", "slack:a", "C1");
    put_outcomes(&leadlane, &[outcome(&before, 0, OutcomeResult::Sent, 1)]);
    let mut tail = leadlane
        .command(&["deliveries", "tail", "--rule", "r", "--since", "1h", "--json"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut printed = BufReader::new(tail.stdout.take().unwrap()).lines();
    let mut next = || serde_json::from_str::<Value>(&printed.next().unwrap().unwrap()).unwrap();
    assert_eq!(next()["id"], before.job_id.as_str(), "--since begins before now");
    let (other, after) = (job(1, "other", "slack:a", "C1"), job(2, "r", "slack:a", "C1"));
    put_outcomes(
        &leadlane,
        &[
            outcome(&other, 1, OutcomeResult::Sent, 1),
            outcome(&after, 2, OutcomeResult::Sent, 1),
        ],
    );
    assert_eq!(next()["id"], after.job_id.as_str(), "the other rule's is left out");
    let status = std::process::Command::new("kill")
        .args(["-INT", &tail.id().to_string()])
        .status();
    assert!(status.unwrap().success());
    assert!(tail.wait().unwrap().success());
}

fn wait_for_rules(process: &Process, version: i64) {
    let until = std::time::Instant::now() + Duration::from_secs(10);
    while !process.log().contains(&format!("rules.version={version}")) {
        assert!(std::time::Instant::now() < until, "{}", process.log());
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn an_event_whose_template_failed_is_replayed_for_that_rule_alone() {
    let leadlane = Leadlane::new("replay-event", "");
    leadlane.ok(&["topics", "create", "--partitions", "2"]);
    let rules = |on_missing: &str| {
        format!(
            "- {}\n- {{id: sold-to, trigger: lms.lead_sold, scope: {{level: product, id: '*'}}, action: {{type: slack_message, \
             token: {{secret: t}}, to: {{channel: C2}}, text: 'to {{{{$.fields.nobody}}}}.', on_missing: {on_missing}}}}}\n",
            RULE.replace("TOKEN", "t")
        )
    };
    leadlane.apply(&rules("fail"));
    let process = leadlane.start(&["--role", "processor"]);
    let sold = event(1, "lms.lead_sold", "12", "30.00");
    leadlane.write(&leadlane.config.topics.events, [("lead-1", Some(sold.as_bytes()))]);
    leadlane.read_until(&leadlane.config.topics.dead_letters, 20, |records| records.len() == 1);
    let dead = json(&leadlane, &["dead-letters", "list"]);
    let id = dead[0]["id"].as_str().unwrap();
    assert_eq!(
        (&dead[0]["reason"], &dead[0]["rule_id"]),
        (&"template_failed".into(), &"sold-to".into())
    );
    assert_eq!(dead[0]["job_id"], job_id(EventId("e-1"), RuleId("sold-to")).to_string());
    assert_eq!(dead[0]["replayed"], false);
    let shown = &json(&leadlane, &["dead-letters", "show", id])[0];
    assert_eq!(shown["value"]["lead_id"], "lead-1", "{shown}");

    let events = || leadlane.read(&leadlane.config.topics.events);
    let would = json(&leadlane, &["dead-letters", "replay", "--rule", "sold-to", "--dry-run"]);
    assert_eq!((&would[0]["id"], &would[0]["replayed"]), (&id.into(), &false.into()));
    assert_eq!(events().len(), 1, "a dry run changes nothing");
    assert_eq!(json(&leadlane, &["dead-letters", "list"])[0]["replayed"], false);

    leadlane.apply(&rules("empty"));
    wait_for_rules(&process, 3);
    let done = json(&leadlane, &["dead-letters", "replay", "--reason", "template_failed"]);
    assert_eq!((&done[0]["id"], &done[0]["replayed"]), (&id.into(), &true.into()));
    let jobs = leadlane.read_until(&leadlane.config.topics.jobs, 20, |records| records.len() >= 2);
    let rules: BTreeMap<_, _> = jobs
        .iter()
        .map(|record| (record.header("rule-id").unwrap(), record.header("job-id").unwrap()))
        .collect();
    assert_eq!(jobs.len(), 2, "the rule that had its job gets no second one: {rules:?}");
    assert_eq!(rules["sold-to"], job_id(EventId("e-1"), RuleId("sold-to")).to_string());
    let events = events();
    let replayed = events
        .iter()
        .find(|record| record.header("replay-of").is_some())
        .unwrap();
    assert_eq!(
        (replayed.header("replay-of"), replayed.header("only-rule")),
        (Some(id), Some("sold-to"))
    );
    assert_eq!(
        (replayed.key.as_deref(), replayed.value.as_deref()),
        (Some(b"lead-1".as_slice()), Some(sold.as_bytes()))
    );
    assert_eq!(replayed.partition, events[0].partition, "one key, one partition");
    // It is marked, and not offered again.
    assert_eq!(json(&leadlane, &["dead-letters", "list"])[0]["replayed"], true);
    assert!(leadlane.ok(&["dead-letters", "list"]).contains("(replayed)"));
    for again in [&["--all"][..], &[id]] {
        let message = said(&leadlane, &[&["dead-letters", "replay"], again].concat(), 0);
        assert!(message.contains("0 replayed, 1 left as they are"), "{message}");
    }
    assert_eq!(leadlane.read(&leadlane.config.topics.events).len(), 2);
    assert_eq!(
        leadlane.read(&leadlane.config.topics.dead_letters).len(),
        1,
        "the mark is no dead letter"
    );
    process.stop();
}

#[test]
fn a_job_is_replayed_with_the_credential_that_its_rule_names_now() {
    let leadlane = Leadlane::new("replay-job", "");
    leadlane.ok(&["topics", "create", "--partitions", "4"]);
    leadlane.apply(&RULE.replace("TOKEN", "new"));
    let (refused, gone) = (job(1, "sold", "slack:old", "C1"), job(2, "sold", "slack:old", "C9"));
    put_dead_jobs(&leadlane, "credential_refused", std::slice::from_ref(&refused));
    put_dead_jobs(&leadlane, "destination_gone", std::slice::from_ref(&gone));
    let foreign = Put {
        key: "k",
        value: Some(b"{}"),
        headers: &[("reason", "invalid_event"), ("source-topic", "inlet:survey")],
        partition: Some(3),
        ..Put::default()
    };
    put(&leadlane, &leadlane.config.topics.dead_letters, &[foreign]);
    let listed = |more: &[&str]| json(&leadlane, &[&["dead-letters", "list"], more].concat());
    for (more, wanted) in [
        (&[][..], 3),
        (&["--reason", "credential_refused,destination_gone"], 2),
        (&["--rule", "sold"], 2),
        (&["--event", "e-2"], 1),
        (&["--destination", "slack:old"], 2),
        (&["--destination", "slack:old/C9"], 1),
        (&["--destination", "slack:new"], 0),
        (&["--since", "1h"], 3),
        (&["--until", "1h"], 0),
        (&["--limit", "2"], 2),
    ] {
        assert_eq!(listed(more).len(), wanted, "{more:?}");
    }
    let message = said(&leadlane, &["dead-letters", "replay", "--all"], 1);
    assert!(
        message.contains("there is no inlet survey") && message.contains("1 could not be replayed"),
        "{message}"
    );
    let jobs = leadlane.read(&leadlane.config.topics.jobs);
    let of = |job: &DeliveryJob| -> &Record {
        let found = jobs.iter().find(|record| record.header("job-id") == Some(&job.job_id));
        found.unwrap()
    };
    assert_eq!(jobs.len(), 2);
    let readdressed = DeliveryJob {
        credential: "slack:new".into(),
        ..refused.clone()
    };
    assert_eq!(
        DeliveryJob::decode(of(&refused).value.as_deref().unwrap()),
        Ok(readdressed)
    );
    assert_eq!(of(&refused).key.as_deref(), Some(b"slack:new".as_slice()));
    assert_eq!(
        DeliveryJob::decode(of(&gone).value.as_deref().unwrap()),
        Ok(gone.clone()),
        "its bytes are untouched"
    );
    assert!(of(&gone).header("traceparent").unwrap().starts_with("00-0af7"));
    assert_eq!(of(&gone).header("event-id"), Some("e-2"));
    assert!(of(&gone).header("reason").is_none() && of(&gone).header("replay-of").is_some());
    // Where a job of that credential goes anyway.
    leadlane.write(&leadlane.config.topics.jobs, [("slack:new", Some(b"x".as_slice()))]);
    let other = leadlane.read(&leadlane.config.topics.jobs);
    let other = other.iter().find(|record| record.header("job-id").is_none()).unwrap();
    assert_eq!(of(&refused).partition, other.partition);
    // The replay waits, whatever the old outcome says.
    put_outcomes(&leadlane, &[outcome(&gone, 999, OutcomeResult::Dead, 1)]);
    let life = &json(&leadlane, &["deliveries", "show", &gone.job_id])[0];
    assert_eq!(life["stands"], "waiting", "{life}");
    assert_eq!(life["job"]["replay_of"], of(&gone).header("replay-of").unwrap());
    let message = said(&leadlane, &["dead-letters", "replay", "0-99", "1-99"], 1);
    assert!(message.contains("there is no dead letter 0-99, 1-99"), "{message}");
    assert!(said(&leadlane, &["dead-letters", "show", "9-1"], 1).contains("9-1"));
}

/// How often each dead letter was put back.
fn replays(leadlane: &Leadlane) -> BTreeMap<String, usize> {
    let mut replays = BTreeMap::new();
    for record in leadlane.read(&leadlane.config.topics.jobs) {
        *replays
            .entry(record.header("replay-of").unwrap().to_owned())
            .or_default() += 1;
    }
    replays
}

#[test]
fn killed_or_run_twice_at_once_a_replay_puts_each_dead_letter_back_once() {
    let leadlane = Leadlane::new("replay-crash", "");
    leadlane.ok(&["topics", "create", "--partitions", "2"]);
    let jobs: Vec<Vec<u8>> = (0..3000)
        .map(|number| job(number, "r", "slack:a", "C1").encode())
        .collect();
    let headers = [
        ("reason", "gave_up"),
        ("source-topic", leadlane.config.topics.jobs.as_str()),
    ];
    let partition = |number: usize| Some(i32::from(number % 2 == 1));
    let puts: Vec<Put<'_>> = jobs
        .iter()
        .enumerate()
        .map(|(number, value)| Put {
            key: "slack:a",
            value: Some(value),
            headers: &headers,
            partition: partition(number),
            ..Put::default()
        })
        .collect();
    put(&leadlane, &leadlane.config.topics.dead_letters, &puts);
    let start = || {
        let mut command = leadlane.command(&["dead-letters", "replay", "--all", "--rate", "1000/s"]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    for kill in 1..4 {
        let mut process = start();
        // Some batches are committed, and the next is under way.
        let mut printed = BufReader::new(process.stdout.take().unwrap()).lines();
        assert_eq!(printed.by_ref().take(150 * kill).count(), 150 * kill);
        process.kill().unwrap();
        process.wait().unwrap();
    }
    let so_far = replays(&leadlane);
    assert!(so_far.len() >= 900 && so_far.len() < 3000, "{}", so_far.len());
    // Two at once: the later one ends the other.
    let (first, second) = (start(), start());
    let ended = [first.wait_with_output().unwrap(), second.wait_with_output().unwrap()];
    let said: Vec<_> = ended
        .iter()
        .map(|output| String::from_utf8_lossy(&output.stderr).into_owned())
        .collect();
    assert!(ended.iter().any(|output| output.status.success()), "{said:?}");
    for output in ended.iter().filter(|output| !output.status.success()) {
        assert_eq!(output.status.code(), Some(1));
        assert!(
            said.iter().any(|said| said.contains("another replay has begun")),
            "{said:?}"
        );
    }
    let replays = replays(&leadlane);
    assert_eq!(replays.len(), 3000);
    assert!(replays.values().all(|times| *times == 1));
    let listed = json(&leadlane, &["dead-letters", "list"]);
    assert!(listed.len() == 3000 && listed.iter().all(|letter| letter["replayed"] == true));
    assert!(
        leadlane.read(&leadlane.config.topics.audit).len() < 100,
        "a mark stands for a batch"
    );
}

#[test]
fn the_stop_button_marks_the_rule_and_says_how_many_wait() {
    let leadlane = Leadlane::new("cancel", "");
    leadlane.ok(&["topics", "create", "--partitions", "1"]);
    leadlane.apply(&RULE.replace("TOKEN", "t"));
    let mut jobs: Vec<DeliveryJob> = (0..5).map(|number| job(number, "sold", "slack:t", "C1")).collect();
    jobs.push(job(5, "other", "slack:t", "C1"));
    put_jobs(&leadlane, &jobs);
    put_outcomes(&leadlane, &[outcome(&jobs[0], 0, OutcomeResult::Sent, 1)]);

    let message = said(&leadlane, &["rules", "pause", "sold"], 0);
    assert!(
        message.contains("4 jobs of sold wait") && message.contains("--cancel-waiting"),
        "{message}"
    );
    leadlane.ok(&["rules", "resume", "sold"]);
    let message = said(&leadlane, &["rules", "pause", "sold", "--cancel-waiting"], 0);
    assert!(
        message.contains("4 waiting jobs of sold will be cancelled"),
        "{message}"
    );
    let deleted = &json(&leadlane, &["rules", "delete", "sold"])[0];
    assert_eq!(
        (&deleted["status"], &deleted["waiting"]),
        (&"deleted".into(), &4.into())
    );
    // A rule that is gone, and one that never was.
    assert!(said(&leadlane, &["rules", "delete", "sold"], 1).contains("there is no rule sold"));
    let deleted = &json(&leadlane, &["rules", "delete", "other", "--cancel-waiting"])[0];
    assert_eq!(
        (&deleted["waiting"], &deleted["cancel_waiting"]),
        (&1.into(), &true.into())
    );
    let records = leadlane.read(&leadlane.config.topics.rules);
    let marks: Vec<_> = records
        .iter()
        .map(|record| (record.value.is_some(), record.header("cancel-waiting")))
        .collect();
    let marked = Some("true");
    assert_eq!(
        marks,
        [
            (true, None),
            (true, None),
            (true, None),
            (true, marked),
            (false, None),
            (false, marked)
        ]
    );
    // What the processes make of it.
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let metrics = std::sync::Arc::new(leadlane::metrics::Metrics::new(10));
    let rules = leadlane::feed::follow::<Lists>(
        std::sync::Arc::new(leadlane.config.clone()),
        metrics,
        now_millis,
        stopped,
    )
    .unwrap();
    let until = std::time::Instant::now() + Duration::from_secs(20);
    while rules.borrow().is_none() {
        assert!(std::time::Instant::now() < until, "the rules are not read");
        std::thread::sleep(Duration::from_millis(20));
    }
    let rules = rules.borrow().clone().unwrap();
    let offset = |rule: &str| rules.cancelled[rule].offset;
    assert_eq!(
        (offset("sold"), offset("other")),
        (records[3].offset, records[5].offset)
    );
    assert_eq!(rules.cancelled["sold"].at, records[3].timestamp);
    stop.send_replace(true);
}
