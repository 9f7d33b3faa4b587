use super::*;
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

fn evaluated<'r>(rules: &'r Rules, value: Option<&'r [u8]>, only_rule: Option<&'r str>) -> Evaluation<'r> {
    let source = Source {
        topic: "lead-events",
        partition: 0,
        offset: 0,
    };
    let incoming = Incoming {
        value,
        only_rule,
        source,
    };
    evaluate(incoming, rules, &Schemas::new(), 0).unwrap()
}

fn matches<'r>(rules: &'r Rules, only_rule: Option<&'r str>) -> Vec<Match<'r>> {
    match evaluated(rules, Some(EVENT.as_bytes()), only_rule) {
        Evaluation::Event { event, matches } => {
            assert_eq!(event.event_id, "e-1");
            matches
        }
        dead @ Evaluation::Dead { .. } => panic!("{dead:?}"),
    }
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

#[test]
fn what_is_no_event_is_dead_whatever_rule_it_is_for() {
    let rules = rules(&[("a", "one", "empty")]);
    match evaluated(&rules, None, Some("a")) {
        Evaluation::Dead { reason, .. } => assert_eq!(reason, Reason::NotDecodable),
        event @ Evaluation::Event { .. } => panic!("{event:?}"),
    }
}
