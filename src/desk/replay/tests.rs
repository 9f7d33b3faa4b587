use serde_json::json;

use super::super::dead_letters::tests::{job, letter};
use super::*;
use crate::delivery::DeliveryJob;
use crate::rules::log::RuleLog;

const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const JOB: &str = "7fb2cd34-f4da-5f5f-911b-265780569f3b";

/// Rule `r`, a Slack message with the secret `new`.
fn rules(action: &serde_json::Value) -> Rules {
    let rule =
        json!({"id": "r", "trigger": "lms.lead_sold", "scope": {"level": "product", "id": "*"}, "action": action});
    let mut log = RuleLog::default();
    log.apply(0, Some(b"r"), Some(rule.to_string().as_bytes()));
    log.snapshot()
}

fn message(secret: &str) -> serde_json::Value {
    json!({"type": "slack_message", "token": {"secret": secret}, "to": {"channel": "C2"}, "text": "hi"})
}

fn headers(back: &Back) -> Vec<(&str, &str)> {
    back.headers.iter().map(|(name, text)| (*name, text.as_str())).collect()
}

#[test]
fn an_event_goes_back_as_it_was_and_for_the_failed_rule_alone() {
    let config = Config::default();
    let failed = [
        ("reason", "template_failed"),
        ("detail", "x"),
        ("source-topic", "lead-events"),
        ("event-id", "e-1"),
        ("rule-id", "r"),
        ("traceparent", TRACE),
    ];
    let back_again = back(&letter(&failed, b"{}"), &config, None).unwrap();
    assert_eq!(
        (back_again.topic.as_str(), back_again.key.as_slice()),
        ("lead-events", b"key".as_slice())
    );
    assert_eq!(back_again.value.as_deref(), Some(b"{}".as_slice()));
    let wanted = [
        ("event-id", "e-1"),
        ("rule-id", "r"),
        ("traceparent", TRACE),
        ("replay-of", "2-17"),
        ("only-rule", "r"),
    ];
    assert_eq!(headers(&back_again), wanted);
    // What could not be decoded is matched anew, by every rule.
    let undecodable = [("reason", "not_decodable"), ("source-topic", "lead-events")];
    let back_again = back(&letter(&undecodable, b"{}"), &config, None).unwrap();
    assert_eq!(headers(&back_again), [("replay-of", "2-17")]);
}

#[test]
fn a_job_keeps_its_bytes_unless_its_credential_was_refused() {
    let config = Config::default();
    let job = job("slack:old");
    let (message, gone, other_action) = (
        rules(&message("new")),
        Rules::default(),
        rules(&json!({"type": "slack_webhook", "url": {"secret": "new"}, "text": "hi"})),
    );
    let of = |reason, rules| {
        let headers = [
            ("reason", reason),
            ("source-topic", "delivery-jobs"),
            ("job-id", JOB),
            ("leadlane-version", "0.9.0"),
        ];
        back(&letter(&headers, &job.encode()), &config, rules).unwrap()
    };
    for kept in [
        of("gave_up", Some(&message)),
        of("credential_refused", Some(&other_action)),
        of("credential_refused", Some(&gone)),
    ] {
        assert_eq!(kept.value, Some(job.encode()));
        assert_eq!((kept.key.as_slice(), &kept.change), (b"key".as_slice(), &None));
        let wanted = [("job-id", JOB), ("leadlane-version", "0.9.0"), ("replay-of", "2-17")];
        assert_eq!(headers(&kept), wanted);
    }
    let now = of("credential_refused", Some(&message));
    let readdressed = DeliveryJob::decode(now.value.as_deref().unwrap()).unwrap();
    let wanted = DeliveryJob {
        credential: "slack:new".into(),
        ..job.clone()
    };
    assert_eq!(readdressed, wanted, "nothing but the credential is another");
    assert_eq!(now.key, b"slack:new", "the key goes with it");
    assert_eq!(now.change.as_deref(), Some("with slack:new in place of slack:old"));
    let wanted = [
        ("job-id", JOB),
        ("replay-of", "2-17"),
        ("leadlane-version", OWN_VERSION),
    ];
    assert_eq!(headers(&now), wanted, "this version wrote these bytes");
}

#[test]
fn only_what_came_from_our_own_topics_goes_back() {
    for source in ["inlet:survey", "salesforce.Contact", "dead-letters", ""] {
        let letter = letter(&[("reason", "not_decodable"), ("source-topic", source)], b"{}");
        let Err(Halt::Refused(why)) = back(&letter, &Config::default(), None) else {
            panic!("{source:?} is no topic of ours");
        };
        assert!(
            why.contains(&format!("{source:?}")) && why.contains("lead-events"),
            "{why}"
        );
    }
}

#[test]
fn a_rate_is_even_to_a_tenth_of_a_second() {
    let at = |text| batch_max(Some(Rate::parse(text).unwrap()));
    assert_eq!(
        [at("20/h"), at("10/s"), at("1000/s"), at("1000000/s")],
        [1, 1, 98, BATCH_MAX]
    );
    assert_eq!(batch_max(None), BATCH_MAX);
}

#[test]
fn what_an_inlet_maps_again_was_received_when_it_failed() {
    let text = "inlets: [{name: product, preset: track}, {name: leads, preset: sheet}]";
    let config = Config::parse("c", text, []).unwrap();
    let occurred_at = |name: &str, value: &[u8]| {
        let source = format!("inlet:{name}");
        let headers = [
            ("source-topic", source.as_str()),
            ("failed-at", "2026-03-05T15:16:00Z"),
            ("route", "v1/track"),
        ];
        let inlet = config.inlet(name).unwrap();
        let taken = inlets::take(&letter(&headers, value), inlet, &Schemas::foreign(), 0).unwrap();
        let event: serde_json::Value = serde_json::from_slice(&taken.events[0].json).unwrap();
        event["occurred_at"].as_str().unwrap().to_owned()
    };
    assert_eq!(occurred_at("leads", br#"{"id":"7"}"#), "2026-03-05T15:16:00Z");
    // The library's clock was an hour behind then, whatever the time is now.
    let call = br#"{"messageId":"m","userId":"u","timestamp":"2026-03-05T14:15:50Z","sentAt":"2026-03-05T14:16:00Z"}"#;
    assert_eq!(occurred_at("product", call), "2026-03-05T15:15:50Z");
}

#[test]
fn a_replay_asks_for_what_it_needs_and_tells_what_becomes_of_each() {
    let config = Config::parse("c", "inlets: [{name: leads, preset: sheet}]", []).unwrap();
    let with = |offset, headers: &[(&str, &str)], value: &[u8]| {
        let mut letter = letter(headers, value);
        (letter.id.offset, letter.record.offset) = (offset, offset);
        letter
    };
    let posted = with(1, &[("source-topic", "inlet:leads")], br#"{"id":"7"}"#);
    let event = with(2, &[("source-topic", "lead-events")], b"{}");
    let elsewhere = with(3, &[("source-topic", "dead-letters")], b"{}");
    let before = with(4, &[("source-topic", "lead-events")], b"{}");
    let ids: Vec<Id> = [1, 2, 3, 4, 9].map(|offset| Id { partition: 2, offset }).to_vec();
    let request = Request {
        which: Which::Ids(ids.clone()),
        dry_run: true,
        rate: Some(Rate::per_minute(1)),
        who: "ann".to_owned(),
    };
    let mut replayed = Replayed::default();
    replayed.insert(&before);
    let go_on = |_: crate::desk::scan::Passed<'_>| true;
    let letters = [posted, event.clone(), elsewhere, before, event].map(Ok);
    let mut replay = Replay::over(
        Scanner::new(&config, &go_on),
        &request,
        None,
        replayed,
        Box::new(letters.into_iter()),
    );
    let mut came = Vec::new();
    while let Some(progress) = replay.next(0) {
        let progress = progress.unwrap();
        if progress == Progress::NeedsEventMax {
            replay.event_max = Some(1_000_000);
        }
        came.push(progress);
    }
    let went = |offset: usize, change: Option<&str>| {
        let key: &[u8] = if offset == 0 { b"7" } else { b"key" };
        Progress::Fate(Fate::Back(Went {
            id: ids[offset],
            topic: "lead-events".to_owned(),
            key: key.to_vec(),
            change: change.map(str::to_owned),
        }))
    };
    let is_refused = |one: &&Progress| matches!(one, Progress::Fate(Fate::Refused { .. }));
    let Some(Progress::Fate(Fate::Refused { id, why })) = came.iter().find(is_refused) else {
        panic!("{came:?}");
    };
    assert!(*id == ids[2] && why.contains("dead-letters"), "{why}");
    came.retain(|one| !is_refused(&one));
    // What is only said needs no waiting for a rate.
    let mapped = went(0, Some("mapped again by inlet leads"));
    assert_eq!(came, [Progress::NeedsEventMax, mapped, went(1, None)]);
    let summary = replay.end();
    let all = summary.all_there(&config);
    let wanted = Summary {
        replayed: 2,
        left: 2,
        refused: 1,
        absent: vec![ids[4]],
    };
    assert_eq!(summary, wanted, "an id given twice is one replay");
    assert!(matches!(all, Err(Error::NotFound(why)) if why.contains("2-9")));
}
