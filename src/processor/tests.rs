use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};

use super::*;
use crate::delivery::plan::plan;
use crate::desk::cases;
use crate::lead::asked::Asked;
use crate::lead::decode::decode;
use crate::lead::encode;
use crate::rules::Rule;
use crate::rules::log::RuleLog;

const EVENT: &str = r#"{"event_id":"e-1","trigger":"lms.lead_sold","occurred_at":"2026-03-05T15:16:00Z","lead_id":"7","product":{"id":"12"}}"#;

/// Rules by id, each with its text and what it does about a missing value.
fn rules(written: &[(&str, &str, &str)]) -> Rules {
    let mut log = RuleLog::default();
    for (offset, (id, text, on_missing)) in (0..).zip(written) {
        let rule = serde_json::json!({
            "id": id, "trigger": "lms.lead_sold", "scope": {"level": "product", "id": "*"},
            "action": {"type": "slack_message", "token": {"secret": "t"}, "to": {"channel": "C1"}, "text": text, "on_missing": on_missing},
        });
        log.apply(offset, Some(id.as_bytes()), Some(rule.to_string().as_bytes()));
    }
    log.snapshot()
}

/// A rule that an event meets, and what becomes of the two.
struct Match<'r> {
    rule: &'r Versioned,
    planned: Planned,
}

fn planned<'r>(event: &LeadEvent<'_>, matches: Vec<&'r Arc<Versioned>>) -> Vec<Match<'r>> {
    let source = Source {
        topic: "lead-events",
        partition: 0,
        offset: 0,
    };
    let mut texts = Texts::default();
    let planned = matches.into_iter().map(|rule| {
        let planned = owned(plan_in(&mut texts, event, rule, source, 0));
        assert_eq!(planned, plan(event, rule, source, 0));
        if let Planned::Job(job) = &planned {
            let read: Value = serde_json::from_str(&job.body).unwrap();
            assert_eq!(job.body, read.to_string(), "the bytes of serde_json");
        }
        Match { rule, planned }
    });
    planned.collect()
}

/// A job as its reader has it.
fn owned(planned: Planned<&str>) -> Planned {
    let mut bytes = Vec::new();
    match planned {
        Planned::Job(job) => {
            Codec::shipped().write_job_into(&job, &mut bytes);
            Planned::Job(DeliveryJob::decode(&bytes).unwrap())
        }
        Planned::Settled(outcome) => Planned::Settled(outcome),
        Planned::Failed { outcome, detail } => Planned::Failed { outcome, detail },
    }
}

fn matches<'r>(rules: &'r Rules, only_rule: Option<&str>) -> Vec<Match<'r>> {
    let event = decode_for(EVENT.as_bytes(), &Schemas::new(), &rules.asked).unwrap();
    assert_eq!(event.event_id, "e-1");
    planned(&event, matching(&event, rules, || only_rule))
}

#[test]
fn only_the_rule_that_a_replay_names_is_matched() {
    let rules = rules(&[("a", "one", "empty"), ("ab", "two", "empty"), ("b", "three", "empty")]);
    let jobs = |only| -> Vec<(String, String)> {
        let jobs = matches(&rules, only).into_iter().map(|found| match found.planned {
            Planned::Job(job) => (job.rule_id, job.job_id),
            other => panic!("{other:?}"),
        });
        jobs.collect()
    };
    let all = jobs(None);
    let named: Vec<&str> = all.iter().map(|(rule, _)| rule.as_str()).collect();
    assert_eq!(named, ["a", "ab", "b"]);
    assert_eq!(jobs(Some("a")), all[..1]);
    assert_eq!(
        jobs(Some("ab")),
        all[1..2],
        "the replay's job is the same job, and alone"
    );
    assert!(jobs(Some("gone")).is_empty(), "a rule that is gone matches nothing");
}

#[test]
fn each_match_has_its_own_rule_and_what_becomes_of_it() {
    // The one id is part of the other, and of the words that say what is wrong.
    let rules = rules(&[
        ("lead", "{{$.buyer.name}}", "fail"),
        ("lead-sold", "{{$.buyer.name}}", "fail"),
        ("ok", "fine", "fail"),
        ("skip", "{{$.buyer.name}}", "skip"),
    ]);
    let named: Vec<_> = matches(&rules, None)
        .into_iter()
        .map(|Match { rule, planned }| {
            let (rule_id, kind) = match planned {
                Planned::Job(job) => (job.rule_id, "job"),
                Planned::Settled(outcome) => (outcome.rule_id, outcome.result.as_str()),
                Planned::Failed { outcome, .. } => (outcome.rule_id, "failed"),
            };
            assert_eq!(*rule.rule.id, *rule_id);
            (rule_id, kind)
        })
        .collect();
    let expected = [
        ("lead", "failed"),
        ("lead-sold", "failed"),
        ("ok", "job"),
        ("skip", "skipped"),
    ];
    assert_eq!(named, expected.map(|(rule, kind)| (rule.to_owned(), kind)));
}

/// The rules in force, of JSON.
fn in_force(written: &[Value]) -> Rules {
    let mut log = RuleLog::default();
    for (offset, rule) in (0..).zip(written) {
        let id = rule["id"].as_str().unwrap();
        log.apply(offset, Some(id.as_bytes()), Some(rule.to_string().as_bytes()));
    }
    let rules = log.snapshot();
    assert!(
        written
            .iter()
            .all(|rule| rules.get(rule["id"].as_str().unwrap()).is_some()),
        "{written:?}"
    );
    rules
}

/// What an event that is read as far as these rules ask comes to, which is what it comes to when it is read whole; how
/// many matched.
fn as_if_whole(written: &[Value], event: &[u8]) -> usize {
    let lean = in_force(written);
    let mut whole = in_force(written);
    whole.asked = Asked::ALL;
    assert!(lean.asked != Asked::ALL);
    let by_rule = |rules: &Rules| {
        let event = decode_for(event, &Schemas::new(), &rules.asked).unwrap();
        let planned = planned(&event, matching(&event, rules, || None)).into_iter();
        planned
            .map(|found| (found.rule.rule.id.to_string(), found.planned))
            .collect::<Vec<_>>()
    };
    let (lean, whole) = (by_rule(&lean), by_rule(&whole));
    assert_eq!(lean, whole, "{written:?} {}", String::from_utf8_lossy(event));
    lean.len()
}

/// Paths of all kinds: of fields and their members, of the payload, of nothing.
const PATHS: [&str; 32] = [
    "status",
    "lead_id",
    "event_id",
    "trigger",
    "occurred_at",
    "product",
    "product.name",
    "product.id",
    "buyer.name",
    "buyer.nothing",
    "consumer.state",
    "consumer.email",
    "consumer",
    "call.started_at",
    "call.answered",
    "call",
    "fields.a",
    "fields",
    "fields['b c']",
    "price",
    "payout",
    "revenue",
    "currency",
    "reason",
    "attempt",
    "inlet",
    "is_test",
    "payload.plan",
    "plan",
    "properties.name",
    "nothing",
    "name",
];

/// Any rule that looks at this and that.
fn any_rule() -> impl Strategy<Value = Value> {
    let path = || select(PATHS.to_vec());
    let condition = (
        path(),
        select(vec![
            json!({"exists": true}),
            json!({"exists": false}),
            json!({"ne": "x"}),
            json!({"contains": "a"}),
        ]),
    )
        .prop_map(|(path, mut test)| {
            test["path"] = path.into();
            test
        });
    let filters = (
        prop::option::of(select(vec!["POST", "FORM"])),
        prop::option::of((select(vec!["channel", "source", "pingtree"]), select(vec!["1", "2"]))),
        prop::option::of(select(vec![json!({"gte": 1}), json!({"lt": 50})])),
        prop::collection::vec(condition, 0..3),
    )
        .prop_map(|(method, id, price, conditions)| {
            let mut filters = json!({"where": conditions});
            method.into_iter().for_each(|method| filters["method"] = method.into());
            id.into_iter().for_each(|(party, id)| filters[party] = json!([id]));
            price.into_iter().for_each(|price| filters["price"] = price);
            filters
        });
    let filter = select(vec![
        "",
        " | money",
        " | upper",
        " | json",
        " | plain",
        " | default: 'x'",
        " | date: '%Y'",
        " | truncate: 3",
    ]);
    let text = (path(), filter, path())
        .prop_map(|(one, filter, other)| format!("a {{{{$.{one}{filter}}}}} b {{{{$.{other}}}}}"));
    let action = (0..4_u8, text, path(), path()).prop_map(|(action, text, one, other)| match action {
        0 => json!({"type": "slack_message", "token": {"secret": "t"}, "to": {"channel": "C1"}, "text": text, "thread": "lead"}),
        1 => json!({"type": "slack_webhook", "url": {"secret": "h"}, "text": text, "expires_after": "5m"}),
        2 => json!({"type": "clevertap_profile", "account": "acme", "identity": "{{$.lead_id}}", "properties": {"from": format!("$.{one}")}}),
        _ => json!({"type": "clevertap_event", "account": "acme", "identity": format!("x{{{{$.{one}}}}}"), "event_name": "E", "created_at": "{{$.occurred_at}}",
                    "properties": {"p": text, "q": format!("{{{{$.{other}}}}}")}}),
    });
    let scope = (
        select(vec!["product", "campaign", "publisher", "inlet"]),
        select(vec!["*", "1"]),
    );
    (select(vec!["lms.lead_sold", "lms.revenue_ping_back", "lms.publisher_earning_received"]), scope, filters, action, select(vec!["empty", "skip", "fail"]), any::<bool>())
        .prop_map(|(trigger, (level, id), filters, mut action, on_missing, include_test)| {
            action["on_missing"] = on_missing.into();
            json!({"id": "r", "trigger": trigger, "scope": {"level": level, "id": id}, "filters": filters, "action": action, "include_test": include_test})
        })
        .prop_filter("a rule", |rule| Rule::from_json(rule).is_ok())
}

/// An event with all there is, but what is taken out.
fn any_event() -> impl Strategy<Value = Value> {
    let names = crate::lead::FIELDS[4..].to_vec();
    let trigger = select(vec![
        "lms.lead_sold",
        "lms.revenue_ping_back",
        "lms.publisher_earning_received",
    ]);
    (trigger, prop::sample::subsequence(names, 0..12), any::<bool>()).prop_map(|(trigger, gone, is_null)| {
        let entity = json!({"id": "1", "name": "<N & N>"});
        let mut event = json!({
            "event_id": "e-1", "trigger": trigger, "occurred_at": "2026-03-05T15:16:00Z", "lead_id": "7", "public_lead_id": "K", "status": "Sold",
            "is_test": false, "method": "POST", "product": entity, "publisher": entity, "channel": entity, "source": entity, "buyer": entity,
            "campaign": entity, "pingtree": entity, "price": "42.5000", "payout": "29.75", "revenue": "3", "currency": "EUR", "reason_code": "r",
            "reason": "because", "transaction_id": "9", "attempt": 2, "consumer": {"state": "TX", "email": "a@b.c"},
            "call": {"started_at": "2026-03-05T15:16:00Z", "answered": true}, "fields": {"a": "A", "b c": "B"}, "inlet": "crm",
            "payload": {"plan": "pro", "properties": {"name": "a"}, "name": "of the payload", "buyer": {"name": "theirs"}, "status": "theirs", "user": "U1"},
        });
        for name in gone {
            match is_null {
                true => event[name] = Value::Null,
                false => drop(event.as_object_mut().unwrap().remove(name)),
            }
        }
        event
    })
}

proptest! {
    #[test]
    fn what_rules_ask_for_is_all_that_they_need(rule in any_rule(), event in any_event()) {
        let text = event.to_string();
        as_if_whole(std::slice::from_ref(&rule), text.as_bytes());
        let schemas = Schemas::new();
        let decoded = decode(text.as_bytes(), &schemas).unwrap();
        as_if_whole(&[rule], &encode::single_object(&decoded).unwrap());
    }
}

#[test]
fn rules_and_events_of_chance_do_meet() {
    use proptest::strategy::ValueTree as _;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let met = (0..200).map(|_| {
        let rule = any_rule().new_tree(&mut runner).unwrap().current();
        let event = any_event().new_tree(&mut runner).unwrap().current();
        as_if_whole(&[rule], event.to_string().as_bytes())
    });
    let met: usize = met.sum();
    assert!(met > 10, "the property above would say little: {met}");
}

#[test]
fn recipes_need_no_more_than_they_ask_for() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("config/rules/recipes");
    let config = Config::parse("test", "kafka: {brokers: x, group: g}", []).unwrap();
    let mut met = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|ending| ending != "yaml") {
            continue;
        }
        let file = cases::read(&std::fs::read_to_string(path).unwrap()).unwrap();
        let rules = file.rules.iter().map(|source| match source {
            cases::Source::Rule(rule) => rule.clone(),
            cases::Source::Path(path) => panic!("{path}"),
        });
        let rules: Vec<Value> = rules.collect();
        for case in &file.cases {
            for event in cases::events(&config, &file, &case.given).unwrap() {
                met += as_if_whole(&rules, &event);
            }
        }
    }
    assert!(met >= 10, "{met}");
}
