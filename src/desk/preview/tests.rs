use serde_json::json;

use super::*;
use crate::delivery::plan::{Planned, Source, plan};
use crate::desk::samples;
use crate::lead::TRIGGERS;
use crate::lead::decode::decode;
use crate::lead::schemas::Schemas;
use crate::text::slack::spans::plain;
use crate::yaml;

const NOW: i64 = 1_772_723_760_123;
const MESSAGE: &str = "type: slack_message, token: {secret: bot}, to: {channel: C1}";

fn versioned(trigger: &str, action: &str, rest: &str) -> Versioned {
    let text =
        format!("{{id: r-1, trigger: {trigger}, scope: {{level: product, id: 12}}{rest}, action: {{{action}}}}}");
    let value = yaml::documents(&text).unwrap().remove(0).value;
    let rule = Rule::from_json(&value).unwrap_or_else(|problems| panic!("{text} {problems:?}"));
    Versioned { rule, version: 7 }
}

/// The preview with the sample of a sold lead, from which the source's name is missing.
fn previewed(action: &str, rest: &str) -> Preview {
    let mut event = samples::event("lms.lead_sold", NOW);
    event["source"]["name"] = Value::Null;
    event["publisher"]["name"] = "Bright & Co <Traffic>".into();
    let bytes = event.to_string();
    let event = decode(bytes.as_bytes(), &Schemas::new()).unwrap();
    preview(
        &Config::default(),
        &versioned("lms.lead_sold", action, rest),
        &event,
        NOW,
    )
}

fn text_of(shown: &[Shown]) -> String {
    let piece = |shown: &Shown| match shown {
        Shown::Span(span) => plain(std::slice::from_ref(span)),
        Shown::Within(style, inner) => format!("<{style:?} {}>", text_of(inner)),
        Shown::Missing(path) => format!("[{path}]"),
    };
    shown.iter().map(piece).collect()
}

#[test]
fn what_is_previewed_is_what_would_be_planned() {
    let actions = [
        format!("{MESSAGE}, text: '{{{{$.buyer.name}}}} {{{{$.source.name}}}} {{{{$.call.caller_number}}}}', unfurl: false, expires_after: 1h"),
        "type: slack_webhook, url: {secret: hook}, text: '{{$.reason}}', username: Leads".to_owned(),
        "type: clevertap_profile, account: acme, identity: '{{$.consumer.email}}', properties: {Price: '{{$.price}}', Call: '{{$.call.call_id}}'}".to_owned(),
        "type: clevertap_event, account: acme, identity: '{{$.lead_id}}', event_name: 'Sold {{$.reason}}', properties: {from: $.consumer}".to_owned(),
        "type: clevertap_event, account: acme, identity: '{{$.call.call_id}}', event_name: Sold, on_missing: fail".to_owned(),
        format!("{MESSAGE}, text: '{{{{$.buyer.name}}}}', on_missing: skip"),
    ];
    let config = Config::default();
    let source = Source {
        topic: &config.topics.events,
        partition: 3,
        offset: 42,
    };
    for action in &actions {
        for trigger in TRIGGERS {
            let bytes = samples::event(trigger, NOW).to_string();
            let event = decode(bytes.as_bytes(), &Schemas::new()).unwrap();
            let active = versioned(trigger, action, "");
            let shown = preview(&config, &active, &event, NOW);
            match plan(&event, &active, source, NOW) {
                Planned::Job(job) => {
                    assert_eq!(
                        (shown.body.as_ref(), &shown.lane),
                        (Some(&job.body), &job.lane()),
                        "{action} {trigger}"
                    );
                    assert_eq!(shown.fate, Fate::Sent);
                    let body: Value = serde_json::from_str(&job.body).unwrap();
                    if let What::Slack { .. } = &shown.what {
                        assert_eq!(shown.length, body["text"].as_str().unwrap().chars().count());
                    }
                }
                Planned::Settled(_) => assert!(matches!(shown.fate, Fate::LeftOut(_)) && shown.body.is_none()),
                Planned::Failed { outcome, .. } => assert_eq!(shown.fate, Fate::Dead(outcome.words.unwrap())),
            }
            // One that is paused or on trial is shown as it would be sent.
            for status in [", status: paused", ", status: shadow"] {
                let other = preview(&config, &versioned(trigger, action, status), &event, NOW);
                assert_eq!(
                    (&other.body, &other.fate, &other.what),
                    (&shown.body, &shown.fate, &shown.what)
                );
                assert_eq!(other.notes.len(), shown.notes.len() + 1);
            }
        }
    }
}

#[test]
fn a_message_is_shown_as_slack_shows_it() {
    let shown = previewed(
        &format!(
            "{MESSAGE}, text: \"*{{{{$.buyer.name}}}}* <https://x.example/{{{{$.lead_id}}}}|{{{{$.lead_id}}}}>\\n> From {{{{$.publisher.name}}}}, source {{{{$.source.name | upper}}}} and {{{{$.source.name}}}} <@U1>\""
        ),
        "",
    );
    assert_eq!(shown.missing, ["$.source.name"]);
    assert_eq!(
        shown.body.as_deref(),
        Some(
            r#"{"channel":"C1","text":"*SafeDrive* <https://x.example/84512377|84512377>\n> From Bright &amp; Co &lt;Traffic&gt;, source  and  <@U1>"}"#
        )
    );
    let What::Slack { by_app, to, text, .. } = &shown.what else {
        panic!("{shown:?}")
    };
    assert!(*by_app && to.as_deref() == Some("C1"));
    assert_eq!(
        text_of(text),
        "<Bold SafeDrive> 84512377<Quote From Bright & Co <Traffic>, source [$.source.name] and [$.source.name] @U1>"
    );
    assert_eq!((shown.limit, shown.unit, shown.is_cut), (4000, Unit::Characters, false));
    assert_eq!((shown.fate, shown.failed, shown.notes), (Fate::Sent, vec![], vec![]));
}

#[test]
fn what_lacks_is_shown_in_its_place_only_where_nothing_else_changes() {
    let of = |text: &str| match previewed(&format!("{MESSAGE}, text: \"{text}\""), "").what {
        What::Slack { text, .. } => text_of(&text),
        other => panic!("{other:?}"),
    };
    assert_eq!(of("a {{$.source.name | default: 'x'}}"), "a x");
    assert_eq!(of("*{{$.source.name}}* b"), "<Bold [$.source.name]> b");
    assert_eq!(of("`{{$.source.name}}` b"), "[$.source.name] b");
    assert_eq!(
        of("<https://x.example/{{$.source.name}}|label> b"),
        "label [$.source.name] b"
    );
    assert_eq!(of("b <@{{$.source.name}}>"), "b [$.source.name]");
    // The event's own characters mark nothing.
    assert_eq!(of("\u{f8f0}0\u{f8f1} {{$.source.name}}"), "\u{f8f0}0\u{f8f1} ");
    let long = "x".repeat(4100);
    let cut = previewed(&format!("{MESSAGE}, text: \"{long} {{{{$.source.name}}}}\""), "");
    assert!(cut.is_cut && cut.length == 4000 && cut.missing == ["$.source.name"]);
}

#[test]
fn records_are_shown_as_fields() {
    let shown = previewed(
        "type: clevertap_profile, account: acme, identity: '{{$.consumer.email}}', properties: {Price: '{{$.price}}', Source: '{{$.source.name}}', City: '{{$.consumer.city}}'}",
        "",
    );
    let What::Profile(record) = &shown.what else {
        panic!("{shown:?}")
    };
    assert_eq!(record.user, Some(("identity".into(), "ana@example.com".into())));
    assert_eq!(record.ts, Some(NOW / 1000));
    assert_eq!(record.left_out, ["Source"]);
    let names: Vec<_> = record
        .properties
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    assert_eq!(names, ["Price=42.5", "City=\"Austin\""]);
    assert_eq!((shown.length, shown.limit, shown.unit), (6, 512, Unit::Bytes));
    assert_eq!(shown.lane, "clevertap:acme");
    let event = previewed(
        "type: clevertap_event, account: acme, object_id: '{{$.lead_id}}', event_name: 'Sold: {{$.price}}'",
        "",
    );
    let What::Event { name, record } = &event.what else {
        panic!("{event:?}")
    };
    assert_eq!(
        (name.as_str(), record.user.as_ref().unwrap().0.as_str()),
        ("Sold: 42.5", "objectId")
    );
    assert!(
        matches!(&event.fate, Fate::Dead(why) if why.contains("has a :")),
        "{:?}",
        event.fate
    );
}

#[test]
fn what_would_not_be_sent_says_why() {
    let skipped = previewed(
        &format!("{MESSAGE}, text: '{{{{$.source.name}}}}', on_missing: skip"),
        "",
    );
    let fate = Fate::LeftOut("$.source.name has no value in this event, so nothing is sent".into());
    assert_eq!(
        (skipped.fate, skipped.body, skipped.lane.as_str()),
        (fate, None, "slack:bot/C1")
    );
    let blank = previewed(&format!("{MESSAGE}, text: '{{{{$.source.name}}}}'"), "");
    assert_eq!(
        blank.fate,
        Fate::LeftOut("the text came out blank, so nothing is sent".into())
    );
    let dead = previewed(
        &format!("{MESSAGE}, text: '{{{{$.source.name}}}}', on_missing: fail"),
        "",
    );
    assert!(
        matches!(&dead.fate, Fate::Dead(why) if why.contains("$.source.name is missing")),
        "{:?}",
        dead.fate
    );
    let other = previewed(&format!("{MESSAGE}, text: x"), ", filters: {price: {gte: 100}}");
    assert_eq!(other.failed.len(), 1);
    assert_eq!(other.fate, Fate::Sent, "it is shown all the same");
    let late = |after: &str| {
        let rule = versioned(
            "lms.lead_sold",
            &format!("{MESSAGE}, text: x, expires_after: {after}"),
            "",
        );
        let bytes = samples::event("lms.lead_sold", NOW - 7_200_000).to_string();
        let event = decode(bytes.as_bytes(), &Schemas::new()).unwrap();
        preview(&Config::default(), &rule, &event, NOW).notes.len()
    };
    assert_eq!((late("1h"), late("3h")), (1, 0));
    let paced = previewed(
        &format!("{MESSAGE}, text: x, max_rate: 20/h, when_busy: {{digest_after: 60s}}, thread: lead"),
        "",
    );
    assert_eq!(
        paced.notes,
        [
            "At most 20 an hour go alone; more than that goes as one digest.",
            "When messages wait longer than 60 seconds, they go as one digest.",
            "It goes into the lead’s own thread, or begins it."
        ]
    );
    assert_eq!(json!(paced.body.unwrap()), json!(r#"{"channel":"C1","text":"x"}"#));
}
