//! Hostile texts among good ones: each message goes once, pings nobody, and is what its receiver takes.

use std::time::{Duration, Instant};

use leadlane::sandbox::ArrivalKind;
use serde_json::{Value, json};

use super::sender::open_sandbox;
use crate::support::{Leadlane, event};

const RULES: &str = r#"
- id: recording
  trigger: call_logic.lead_sold
  scope: {level: product, id: "*"}
  action:
    type: slack_message
    token: {secret: sales-bot}
    to: {channel: C0SALES}
    text: "{{$.event_id}} <{{$.call.recording_url}}|Recording> <!{{$.reason}}> {{$.consumer.first_name}}"
- id: comment
  trigger: call_logic.lead_sold
  scope: {level: product, id: "*"}
  action:
    type: clevertap_profile
    account: acme
    identity: "{{$.lead_id}}"
    properties: {Comment: "{{$.reason | truncate: 512, \"bytes\"}}", Event: "{{$.event_id}}"}
- id: often
  trigger: lms.lead_rejected
  scope: {level: product, id: "*"}
  action: {type: slack_message, token: {secret: sales-bot}, to: {channel: C0REJECTED}, text: "OFTEN"}
"#;

/// Recording, reason and first name of a lead, and what the message says behind the event's id.
fn hostile() -> Vec<([String; 3], String)> {
    let text = |text: &str| text.to_owned();
    vec![
        (
            [text("https://x.example/1"), text(""), text("Ana")],
            text("<https://x.example/1|Recording>  Ana"),
        ),
        (
            [text("!channel"), text("channel"), text("<!here>")],
            text("Recording (!channel) channel &lt;!here&gt;"),
        ),
        (
            [text("https://x|y> <!here>"), text("here|x"), text("@channel")],
            text("<https://x%7Cy%3E%20%3C!here%3E|Recording> here|x @channel"),
        ),
        (
            [text("<!everyone>"), "ल".repeat(300), "👩\u{200d}👧".repeat(1300)],
            format!(
                "Recording (&lt;!everyone&gt;) {} {}…",
                "ल".repeat(300),
                "👩\u{200d}👧".repeat(1221)
            ),
        ),
    ]
}

#[test]
fn hostile_texts_go_once_ping_nobody_and_are_what_their_receivers_take() {
    let destinations = open_sandbox();
    let leadlane = Leadlane::new("texts", &destinations.yaml("1000/s"));
    leadlane.secret("sales-bot", "xoxb-hunter2-token");
    leadlane.secret("acme-passcode", "hunter2-passcode");
    leadlane.ok(&["topics", "create", "--partitions", "1"]);
    let often = "{{$.fields.comment | upper}}".repeat(1000);
    leadlane.apply(&RULES.replace("OFTEN", &format!("{{{{$.event_id}}}} {often}")));
    let mut process = leadlane.start(&[]);

    let good = |number: u64| event(number, "call_logic.lead_sold", "12", "42.50");
    let (mut events, mut wanted) = (Vec::new(), Vec::new());
    for (number, (values, text)) in (0..).zip(hostile()) {
        let [recording, reason, first_name] = values;
        for number in [100 + 2 * number, 101 + 2 * number] {
            events.push(good(number));
            wanted.push(format!("e-{number} Recording  Ana"));
        }
        let mut spoilt: Value = serde_json::from_str(&good(number)).unwrap();
        spoilt["call"] = json!({"recording_url": recording});
        spoilt["reason"] = reason.into();
        spoilt["consumer"]["first_name"] = first_name.into();
        events.insert(events.len() - 1, spoilt.to_string());
        wanted.push(format!("e-{number} {text}"));
    }
    let mut heavy: Value = serde_json::from_str(&event(99, "lms.lead_rejected", "12", "1")).unwrap();
    heavy["fields"] = json!({"comment": "ß<".repeat(300_000)});
    events.insert(1, heavy.to_string());
    wanted.push(format!("e-99 {}SS…", "SS&lt;".repeat(665)));
    let records = events.iter().map(|event| ("k", Some(event.as_bytes())));
    leadlane.write(&leadlane.config.topics.events, records);

    let until = Instant::now() + Duration::from_secs(60);
    let profiles = || {
        let log = destinations.sandbox.log().into_iter();
        log.filter(|arrival| arrival.kind == ArrivalKind::ClevertapRecord)
            .collect::<Vec<_>>()
    };
    while destinations.texts().len() < wanted.len() || profiles().len() < 12 {
        assert!(Instant::now() < until, "{:?}\n{}", destinations.texts(), process.log());
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(process.ended(0), None, "the process ended:\n{}", process.log());
    process.stop();
    let mut texts = destinations.texts();
    texts.sort();
    wanted.sort();
    assert_eq!(texts, wanted);
    let log = destinations.sandbox.log();
    assert!(log.iter().all(|arrival| arrival.mentions.is_empty()), "{log:?}");
    let profiles = profiles();
    assert_eq!(profiles.len(), 12, "each once");
    assert!(profiles.iter().all(|profile| profile.accepted), "{profiles:?}");
    let comment = profiles.iter().find_map(|profile| {
        let record: Value = serde_json::from_str(profile.record.as_ref()?.get()).ok()?;
        let comment = record["profileData"]["Comment"].as_str()?.to_owned();
        comment.starts_with('ल').then_some(comment)
    });
    assert_eq!(comment, Some(format!("{}…", "ल".repeat(169))));
}
