//! Jobs to destinations: each once, in order, at their rate.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use leadlane::delivery::{Outcome, OutcomeResult};
use leadlane::sandbox::{Rate, Settings};

use crate::support::{Destinations, Leadlane, event, part, sandbox};

/// A sandbox without limits of its own, where the test is about something else.
pub(super) fn open_sandbox() -> Destinations {
    let none = Rate::new(0, Duration::from_secs(1));
    sandbox(Settings {
        channel_rate: none,
        webhook_rate: none,
        workspace_rate: none,
        method_rate: none,
        ..Settings::default()
    })
}

pub(super) const RULES: &str = r#"
- id: to-channel
  trigger: lms.lead_sold
  scope: {level: product, id: "*"}
  action: {type: slack_message, token: {secret: sales-bot}, to: {channel: C0SALES}, text: "sold {{$.event_id}}"}
- id: to-webhook
  trigger: lms.lead_rejected
  scope: {level: product, id: "*"}
  action: {type: slack_webhook, url: {secret: alerts-webhook}, text: "rejected {{$.event_id}}"}
- id: to-profile
  trigger: lms.lead_sold
  scope: {level: product, id: "*"}
  action: {type: clevertap_profile, account: acme, identity: "{{$.consumer.email}}", properties: {Name: "{{$.consumer.first_name}}"}}
- id: to-event
  trigger: lms.campaign_sold
  scope: {level: product, id: "*"}
  action: {type: clevertap_event, account: acme, identity: "{{$.consumer.email}}", event_name: Campaign sold, properties: {Price: "{{$.price}}"}}
"#;

pub(super) fn leadlane(name: &str, destinations: &Destinations, rate: &str) -> Leadlane {
    let leadlane = Leadlane::new(name, &destinations.yaml(rate));
    prepared(&leadlane, destinations);
    leadlane
}

/// With its secrets, topics and rules.
pub(super) fn prepared(leadlane: &Leadlane, destinations: &Destinations) {
    leadlane.secret("sales-bot", "xoxb-hunter2-token");
    leadlane.secret("acme-passcode", "hunter2-passcode");
    leadlane.secret(
        "alerts-webhook",
        &format!("http://{}/services/T0/B0/hunter2hook", destinations.address),
    );
    leadlane.ok(&["topics", "create", "--partitions", "3"]);
    leadlane.apply(RULES);
}

pub(super) fn send(leadlane: &Leadlane, numbers: std::ops::Range<u64>, trigger: &str) {
    let events: Vec<_> = numbers
        .map(|number| (format!("lead-{number}"), event(number, trigger, "12", "42.50")))
        .collect();
    let topic = &leadlane.config.topics.events;
    leadlane.write(
        topic,
        events.iter().map(|(key, value)| (key.as_str(), Some(value.as_bytes()))),
    );
}

pub(super) fn outcomes(leadlane: &Leadlane) -> Vec<Outcome> {
    let records = leadlane.read(&leadlane.config.topics.outcomes);
    records
        .iter()
        .map(|record| Outcome::decode(record.value.as_deref().unwrap()).unwrap())
        .collect()
}

fn finals(leadlane: &Leadlane) -> BTreeMap<String, Vec<OutcomeResult>> {
    let mut finals: BTreeMap<String, Vec<OutcomeResult>> = BTreeMap::new();
    for outcome in outcomes(leadlane)
        .into_iter()
        .filter(|outcome| outcome.result.is_final())
    {
        finals.entry(outcome.job_id).or_default().push(outcome.result);
    }
    finals
}

pub(super) fn until_final(leadlane: &Leadlane, count: usize) {
    leadlane.read_until(&leadlane.config.topics.outcomes, 90, |records| {
        let outcomes = records
            .iter()
            .filter_map(|record| Outcome::decode(record.value.as_deref()?).ok());
        outcomes
            .filter(|outcome| outcome.result.is_final())
            .map(|outcome| outcome.job_id)
            .collect::<BTreeSet<_>>()
            .len()
            >= count
    });
}

#[test]
fn all_four_actions_arrive_and_no_secret_is_anywhere() {
    let destinations = open_sandbox();
    let leadlane = leadlane("four", &destinations, "100/s");
    let process = leadlane.start(&[]);
    send(&leadlane, 0..20, "lms.lead_sold");
    send(&leadlane, 20..30, "lms.lead_rejected");
    send(&leadlane, 30..40, "lms.campaign_sold");
    until_final(&leadlane, 60);
    let mut printed = leadlane.get("/metrics").unwrap().1 + &process.log();
    assert!(
        !printed.contains("Ana") && !printed.contains("@example.com"),
        "a lead's data is in logs or metrics"
    );
    process.stop();
    let finals = finals(&leadlane);
    assert_eq!(finals.len(), 60);
    assert!(
        finals.values().all(|results| *results == [OutcomeResult::Sent]),
        "{finals:?}"
    );
    let texts: BTreeSet<String> = destinations.texts().into_iter().collect();
    for number in 0..20 {
        assert!(texts.contains(&format!("sold e-{number}")));
    }
    for number in 20..30 {
        assert!(texts.contains(&format!("rejected e-{number}")));
    }
    let summary = destinations.sandbox.summary();
    assert!(summary.iter().any(|(target, _)| &**target == "ACME"), "{summary:?}");
    // Secrets: in no topic, log, metric or command's output.
    for command in [
        &["config", "check"][..],
        &["rules", "list"],
        &["rules", "list", "--json"],
        &["rules", "get", "to-webhook"],
    ] {
        printed.push_str(&leadlane.ok(command));
    }
    let topics = &leadlane.config.topics;
    for topic in [
        &topics.events,
        &topics.rules,
        &topics.jobs,
        &topics.outcomes,
        &topics.dead_letters,
        &topics.audit,
    ] {
        for record in leadlane.read(topic) {
            printed.push_str(&String::from_utf8_lossy(record.value.as_deref().unwrap_or_default()));
            printed.push_str(&format!("{:?}{:?}", record.headers, record.key));
        }
    }
    assert!(
        !printed.contains("hunter2"),
        "a secret shows: {}",
        printed
            .split("hunter2")
            .next()
            .unwrap()
            .chars()
            .rev()
            .take(200)
            .collect::<String>()
    );
}

#[test]
fn killed_and_started_again_every_job_is_sent_and_few_twice() {
    let destinations = open_sandbox();
    let leadlane = leadlane("crash", &destinations, "40/s");
    send(&leadlane, 0..300, "lms.lead_sold");
    for _ in 0..5 {
        let process = leadlane.start(&[]);
        std::thread::sleep(Duration::from_millis(1200));
        process.kill();
    }
    let process = leadlane.start(&[]);
    until_final(&leadlane, 600);
    process.stop();
    let texts = destinations.texts();
    let once: BTreeSet<&String> = texts.iter().filter(|text| text.starts_with("sold")).collect();
    assert_eq!(once.len(), 300, "none is lost");
    let repeats = texts.iter().filter(|text| text.starts_with("sold")).count() - once.len();
    assert!(
        repeats <= 5,
        "one request of the lane was in flight at each kill, but {repeats} were repeated"
    );
}

#[test]
fn a_clean_stop_repeats_nothing_and_keeps_the_order() {
    let destinations = open_sandbox();
    let leadlane = leadlane("clean", &destinations, "20/s");
    send(&leadlane, 0..120, "lms.lead_sold");
    for _ in 0..3 {
        let process = leadlane.start(&[]);
        std::thread::sleep(Duration::from_millis(1500));
        process.stop();
    }
    let process = leadlane.start(&[]);
    until_final(&leadlane, 240);
    process.stop();
    let texts: Vec<String> = destinations
        .texts()
        .into_iter()
        .filter(|text| text.starts_with("sold"))
        .collect();
    assert_eq!(texts.len(), 120, "each is sent once");
    // Jobs of one lane go out in the order they were written.
    let jobs = leadlane.read(&leadlane.config.topics.jobs);
    let written: Vec<String> = jobs
        .iter()
        .map(|record| leadlane::delivery::DeliveryJob::decode(record.value.as_deref().unwrap()).unwrap())
        .filter(|job| job.rule_id == "to-channel")
        .map(|job| format!("sold {}", job.event_id))
        .collect();
    assert_eq!(texts, written);
}

#[test]
fn a_retry_after_is_obeyed_and_others_are_not_held_up() {
    let destinations = open_sandbox();
    let order = |json: serde_json::Value| {
        destinations
            .sandbox
            .order(serde_json::from_value(json).unwrap())
            .unwrap()
    };
    order(serde_json::json!({"target": "C0SALES", "kind": "rate_limit", "times": 1, "retry_after": 3}));
    let leadlane = leadlane("throttled", &destinations, "50/s");
    let process = leadlane.start(&[]);
    send(&leadlane, 0..10, "lms.lead_sold");
    send(&leadlane, 10..20, "lms.lead_rejected");
    until_final(&leadlane, 30);
    process.stop();
    let log = destinations.sandbox.log();
    assert!(
        log.iter().all(|arrival| !arrival.inside_retry_after),
        "nothing starts inside the Retry-After"
    );
    let refused = log.iter().find(|arrival| arrival.status == Some(429)).unwrap().at_ms;
    let taken = log
        .iter()
        .find(|arrival| arrival.accepted && &*arrival.target == "C0SALES");
    let first = taken.unwrap().at_ms;
    assert!(
        (refused + 3000..refused + 4200).contains(&first),
        "refused at {refused}, first at {first}"
    );
    let webhooks: Vec<u64> = log
        .iter()
        .filter(|arrival| arrival.text.as_deref().is_some_and(|text| text.starts_with("rejected")))
        .map(|arrival| arrival.at_ms)
        .collect();
    assert!(
        webhooks.iter().filter(|at| **at < refused + 2500).count() > 5,
        "the webhook goes on meanwhile: {webhooks:?}"
    );
    let throttled = outcomes(&leadlane)
        .into_iter()
        .filter(|outcome| outcome.result == OutcomeResult::Throttled)
        .count();
    assert_eq!(throttled, 1);
}

#[test]
fn faults_end_as_they_should() {
    let destinations = open_sandbox();
    let order = |json: serde_json::Value| {
        destinations
            .sandbox
            .order(serde_json::from_value(json).unwrap())
            .unwrap()
    };
    // A page in HTML, a reset and an archived channel; then all is well.
    order(serde_json::json!({"target": "C0SALES", "kind": "html_500", "times": 1}));
    order(serde_json::json!({"target": "C0SALES", "kind": "reset", "times": 1}));
    order(serde_json::json!({"target": "C0SALES", "kind": "error", "error": "is_archived", "times": 1}));
    let leadlane = leadlane("faults", &destinations, "50/s");
    let process = leadlane.start(&[]);
    send(&leadlane, 0..3, "lms.lead_sold");
    until_final(&leadlane, 6);
    process.stop();
    let outcomes = outcomes(&leadlane);
    let of_first: Vec<_> = outcomes
        .iter()
        .filter(|outcome| outcome.rule_id == "to-channel")
        .collect();
    use OutcomeResult::{Dead, Retry, Sent};
    // An outcome `dead` waits for its dead letter, so those of the jobs behind it may stand before it.
    let of_event = |id: &str| {
        let own = of_first.iter().filter(|outcome| outcome.event_id == id);
        own.map(|outcome| outcome.result).collect::<Vec<_>>()
    };
    assert_eq!(of_event("e-0"), [Retry, Retry, Dead], "{of_first:#?}");
    assert_eq!(
        (of_event("e-1"), of_event("e-2")),
        (vec![Sent], vec![Sent]),
        "{of_first:#?}"
    );
    let reasons: Vec<_> = of_first
        .iter()
        .filter_map(|outcome| outcome.reason.as_deref())
        .collect();
    assert_eq!(reasons, ["destination_gone"]);
    let dead = leadlane.read(&leadlane.config.topics.dead_letters);
    assert_eq!(dead.len(), 1);
    assert_eq!(dead[0].header("reason"), Some("destination_gone"));
    assert_eq!(
        dead[0].header("source-topic"),
        Some(leadlane.config.topics.jobs.as_str())
    );
    assert!(leadlane::delivery::DeliveryJob::decode(dead[0].value.as_deref().unwrap()).is_ok());
}

#[test]
fn a_repeated_event_is_sent_once_and_an_expired_one_never() {
    let destinations = open_sandbox();
    let leadlane = leadlane("repeat", &destinations, "50/s");
    leadlane.apply(&format!("{RULES}\n- {{id: brief, trigger: lms.lead_rejected, scope: {{level: product, id: '*'}}, action: {{type: slack_message, token: {{secret: sales-bot}}, to: {{channel: C0BRIEF}}, text: brief, expires_after: 1ms}}}}"));
    let process = leadlane.start(&[]);
    let same = event(1, "lms.lead_sold", "12", "42.50");
    leadlane.write(
        &leadlane.config.topics.events,
        [("a", Some(same.as_bytes())), ("a", Some(same.as_bytes()))],
    );
    let old = event(2, "lms.lead_rejected", "12", "42.50");
    leadlane.write(&leadlane.config.topics.events, [("b", Some(old.as_bytes()))]);
    until_final(&leadlane, 4);
    leadlane.read_until(&leadlane.config.topics.outcomes, 30, |records| records.len() >= 6);
    process.stop();
    let results: Vec<_> = outcomes(&leadlane)
        .into_iter()
        .map(|outcome| (outcome.rule_id, outcome.result))
        .collect();
    let count = |rule: &str, result| {
        results
            .iter()
            .filter(|other| **other == (rule.to_owned(), result))
            .count()
    };
    assert_eq!(count("to-channel", OutcomeResult::Sent), 1, "{results:?}");
    assert_eq!(count("to-channel", OutcomeResult::Duplicate), 1, "{results:?}");
    assert_eq!(count("brief", OutcomeResult::Expired), 1, "{results:?}");
    assert_eq!(
        destinations.texts().iter().filter(|text| *text == "sold e-1").count(),
        1
    );
}

#[test]
fn an_independent_slack_reads_back_what_was_sent() {
    let slack = part("LEADLANE_TEST_SLACK");
    let leadlane = Leadlane::new(
        "emulate",
        &format!("slack: {{api_url: '{slack}', channel_rate: 50/s, workspace_rate: 50/s}}"),
    );
    leadlane.secret("sales-bot", "xoxb-leadlane-tests");
    leadlane.ok(&["topics", "create", "--partitions", "3"]);
    // The fake keeps what earlier runs sent it.
    let run = format!("run-{}", std::process::id());
    leadlane.apply(
        "- {id: sold, trigger: lms.lead_sold, scope: {level: product, id: '*'}, \
         action: {type: slack_message, token: {secret: sales-bot}, to: {channel: C000000001}, text: 'RUN {{$.event_id}} for {{$.price | money}} & more'}}"
            .replace("RUN", &run)
            .as_str(),
    );
    let process = leadlane.start(&[]);
    process.log_until(30, |log| {
        log.contains("the Slack token works, as admin in the team Leadlane tests")
    });
    send(&leadlane, 0..25, "lms.lead_sold");
    until_final(&leadlane, 25);
    process.stop();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let history: serde_json::Value = runtime.block_on(async {
        let client = reqwest::Client::new();
        let request = client
            .post(format!("{slack}/conversations.history"))
            .bearer_auth("xoxb-leadlane-tests");
        let body = serde_json::json!({"channel": "C000000001", "limit": 200});
        request.json(&body).send().await.unwrap().json().await.unwrap()
    });
    let texts: Vec<&str> = history["messages"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|message| message["text"].as_str())
        .collect();
    for number in 0..25 {
        let wanted = format!("{run} e-{number} for $42.50 & more");
        assert_eq!(
            texts.iter().filter(|text| **text == wanted).count(),
            1,
            "{wanted} in {texts:?}"
        );
    }
}

#[test]
fn at_its_start_a_sender_says_what_the_tokens_of_its_rules_may_do() {
    let destinations = open_sandbox();
    let leadlane = leadlane("introduced", &destinations, "50/s");
    leadlane.secret("revoked-bot", "xoxb-hunter2-revoked");
    leadlane.secret("paused-bot", "xoxb-hunter2-paused");
    let rule = |id: &str, status: &str, bot: &str| {
        format!(
            "- {{id: {id}, status: {status}, trigger: lms.lead_sold, scope: {{level: product, id: '*'}}, \
             action: {{type: slack_message, token: {{secret: {bot}}}, to: {{channel: C0SALES}}, text: hi}}}}\n"
        )
    };
    leadlane.apply(&format!(
        "{}{}{}",
        rule("to-channel", "active", "sales-bot"),
        rule("by-revoked", "active", "revoked-bot"),
        rule("by-paused", "paused", "paused-bot"),
    ));
    destinations.control(
        "credentials",
        r#"{"token":"xoxb-hunter2-token","scopes":"chat:write,im:write"}"#,
    );
    destinations.control(
        "credentials",
        r#"{"token":"xoxb-hunter2-revoked","refused":true,"error":"token_revoked"}"#,
    );
    let process = leadlane.start(&["--role", "sender"]);
    let lacks = "it lacks channels:join, so that public channels can't be joined";
    let refused = "the Slack token is refused: token_revoked";
    let log = process.log_until(30, |log| log.contains(lacks) && log.contains(refused));
    process.stop();
    let line = |words: &str| log.lines().find(|line| line.contains(words)).unwrap();
    assert!(line(lacks).contains("slack:sales-bot"), "{log}");
    assert!(line(refused).contains("slack:revoked-bot"), "{log}");
    assert!(!log.contains("hunter2") && !log.contains("paused-bot"), "{log}");
    let asked = destinations.sandbox.log();
    let methods: Vec<&str> = asked.iter().map(|arrival| arrival.method).collect();
    assert_eq!(methods, ["auth.test", "auth.test"], "nothing is posted");
}

#[test]
fn a_digest_is_one_message_that_settles_each_of_its_jobs_and_is_counted_once() {
    let destinations = open_sandbox();
    let leadlane = leadlane("digest", &destinations, "1/s");
    leadlane.apply(
        "- {id: to-channel, trigger: lms.lead_sold, scope: {level: product, id: '*'}, action: {type: slack_message, \
         token: {secret: sales-bot}, to: {channel: C0SALES}, text: 'sold {{$.event_id}}', when_busy: {digest_after: 3s}}}\n\
         - {id: to-profile, status: paused, trigger: lms.lead_sold, scope: {level: product, id: '*'}, \
         action: {type: clevertap_profile, account: acme, identity: '{{$.lead_id}}', properties: {A: b}}}",
    );
    send(&leadlane, 0..20, "lms.lead_sold");
    let process = leadlane.start(&[]);
    until_final(&leadlane, 20);
    let metrics = leadlane.get("/metrics").unwrap().1;
    process.stop();
    let outcomes = outcomes(&leadlane);
    let digested = outcomes
        .iter()
        .filter(|outcome| outcome.result == OutcomeResult::Digested);
    let messages: BTreeSet<_> = digested.clone().map(|outcome| outcome.message_id.clone()).collect();
    assert!(
        !messages.is_empty() && digested.count() > messages.len(),
        "{outcomes:?}"
    );
    let counted = format!("leadlane_digests_total {}\n", messages.len());
    assert!(metrics.contains(&counted), "no {counted}in {metrics}");
    // Every lead is in exactly one message.
    let texts = destinations.texts().join("\n") + "\n";
    for number in 0..20 {
        assert_eq!(texts.matches(&format!("sold e-{number}\n")).count(), 1, "{texts}");
    }
}
