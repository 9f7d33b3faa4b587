use serde_json::json;

use super::*;
use crate::action::{ActionType, OnAmbiguous};

/// A job of rule `r` for channel C1, sent with `credential`.
pub(crate) fn job(credential: &str) -> DeliveryJob {
    DeliveryJob {
        job_id: crate::delivery::job_id(crate::lead::EventId("e-1"), crate::rules::RuleId("r")).to_string(),
        event_id: "e-1".into(),
        rule_id: "r".into(),
        rule_version: 7,
        lead_id: "l".into(),
        trigger: "lms.lead_sold".into(),
        action: ActionType::SlackMessage,
        credential: credential.into(),
        destination: "C1".into(),
        body: r#"{"channel":"C1","text":"hi"}"#.into(),
        occurred_at: 0,
        expires_at: None,
        on_ambiguous: OnAmbiguous::Retry,
        source_topic: "lead-events".into(),
        source_partition: 0,
        source_offset: 0,
        sealed: None,
        account_id: None,
        region: None,
        digest_after: None,
        max_rate: None,
        thread: false,
    }
}

/// A dead letter at 2-17 with these headers.
pub(crate) fn letter(headers: &[(&str, &str)], value: &[u8]) -> Letter {
    let headers = headers
        .iter()
        .map(|(name, text)| ((*name).to_owned(), text.as_bytes().to_vec()));
    let record = Record {
        partition: 2,
        offset: 17,
        key: Some(b"key".to_vec()),
        value: Some(value.to_vec()),
        headers: headers.collect(),
        ..Record::default()
    };
    Letter::of(record, &Config::default())
}

#[test]
fn ids_read_back_and_nothing_else_is_one() {
    for text in ["0-0", "2-17", "11-9000000000"] {
        assert_eq!(text.parse::<Id>().unwrap().to_string(), text);
    }
    for text in ["", "2", "2-", "-17", "2--17", "a-1", "2-17-3", "+2-17", "99999999999-1"] {
        let error = text.parse::<Id>().unwrap_err().to_string();
        assert!(error.contains("PARTITION-OFFSET"), "{text}");
    }
}

#[test]
fn what_is_left_out_is_taken_from_the_same_record_alone() {
    let sum = format!("{:x}", crate::kafka::left_out_sum(true, b"key", true, Some(b"mine")));
    let written = [("left-out", "key,value"), ("left-out-sum", sum.as_str())];
    let of = |headers, value: &[u8]| letter(headers, b"").is_of(&letter(&[], value).record);
    assert!(of(&written[..], b"mine") && !of(&written[..], b"another's"));
    assert!(of(&written[..1], b"another's"), "an older letter doesn't say");
}

#[test]
fn every_condition_must_hold() {
    let job = job("slack:bot").encode();
    let headers = [
        ("reason", "gave_up"),
        ("source-topic", "delivery-jobs"),
        ("rule-id", "r"),
        ("event-id", "e-1"),
    ];
    let letter = letter(&headers, &job);
    let some = |text: &str| Some(text.to_owned());
    let of = |reasons: &[Reason], rule, event, destination| Filter {
        reasons: reasons.to_vec(),
        rule,
        event,
        destination,
    };
    use Reason::{GaveUp, TooLarge};
    for (filter, holds) in [
        (of(&[], None, None, None), true),
        (of(&[TooLarge, GaveUp], None, None, None), true),
        (of(&[TooLarge], None, None, None), false),
        (of(&[GaveUp], some("r"), some("e-1"), some("slack:bot")), true),
        (of(&[], some("x"), None, None), false),
        (of(&[], None, some("x"), None), false),
        (of(&[], None, None, some("slack:bot/C1")), true),
        (of(&[], None, None, some("slack:bot/C2")), false),
    ] {
        assert_eq!(filter.holds(&letter), holds, "{filter:?}");
    }
    // Of a job of a newer version the record's key names the credential.
    let newer = crate::delivery::codec::tests::newer().write_job(&self::job("slack:bot"));
    let keyed = |source| {
        let mut record = self::letter(&[("source-topic", source)], &newer).record;
        record.key = Some(b"slack:bot".to_vec());
        Letter::of(record, &Config::default())
    };
    for (source, destination, holds) in [
        ("delivery-jobs", "slack:bot", true),
        ("delivery-jobs", "slack:bot/C1", false),
        ("delivery-jobs", "slack:other", false),
        ("lead-events", "slack:bot", false),
    ] {
        let filter = of(&[], None, None, some(destination));
        assert_eq!(filter.holds(&keyed(source)), holds, "{source} {destination}");
    }
    let event = self::letter(&[("reason", "template_failed"), ("source-topic", "lead-events")], b"{}");
    assert!(
        !of(&[], None, None, some("slack:bot")).holds(&event),
        "an event goes nowhere yet"
    );
    assert!(of(&[Reason::TemplateFailed], None, None, None).holds(&event));
}

#[test]
fn the_audit_says_which_dead_letters_were_replayed() {
    let letter = |id: &str, timestamp| {
        let id: Id = id.parse().unwrap();
        let record = Record {
            partition: id.partition,
            offset: id.offset,
            timestamp,
            ..Record::default()
        };
        Letter::of(record, &Config::default())
    };
    let mut replayed = Replayed::default();
    replayed.take(
        br#"{"who":"ann","replayed":["0-1","2-17"],"written_at":[100,200]}"#,
        300,
    );
    // A change of a rule, and what is no audit of ours.
    replayed.take(br#"{"who":"ann","before":null,"after":{"id":"0-3"}}"#, 300);
    replayed.take(b"nonsense", 300);
    replayed.take(br#"{"replayed":["x",5]}"#, 300);
    assert!(replayed.contains(&letter("0-1", 100)) && replayed.contains(&letter("2-17", 200)));
    for other in ["1-1", "0-2", "0-3"] {
        assert!(!replayed.contains(&letter(other, 100)), "{other}");
    }
    // The topic was made anew, and another dead letter has the id.
    assert!(!replayed.contains(&letter("2-17", 201)));
    replayed.take(br#"{"who":"ann","replayed":["2-17"],"written_at":[201]}"#, 400);
    assert!(replayed.contains(&letter("2-17", 201)));
    // Older audits name the ids alone: what was written long after them is another one.
    replayed.take(br#"{"who":"ann","replayed":["4-4"]}"#, 500);
    assert!(replayed.contains(&letter("4-4", 499)) && !replayed.contains(&letter("4-4", 501 + CLOCKS_DIFFER)));
}

#[test]
fn what_is_held_is_shown_as_far_as_it_can_be_read() {
    let held_in = |value: &[u8]| letter(&[("source-topic", "lead-events")], value).held();
    assert_eq!(held_in(br#"{"a":1}"#), json!({"a": 1}));
    assert_eq!(held_in(b"plain"), json!("plain"));
    assert_eq!(held_in(&[0xFF, 0xFE]), json!("2 bytes that are no text"));
    let job = letter(&[("source-topic", "delivery-jobs")], &job("slack:bot").encode()).held();
    assert_eq!(
        (&job["credential"], &job["body"]["text"]),
        (&json!("slack:bot"), &json!("hi"))
    );
}
