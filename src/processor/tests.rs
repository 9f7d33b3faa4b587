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

fn evaluated(rules: &Rules, only_rule: Option<&str>) -> Evaluated {
    let source = Source {
        topic: "lead-events",
        partition: 0,
        offset: 0,
    };
    let mut evaluated = Evaluated::default();
    let event = Some(EVENT.as_bytes());
    evaluate(event, only_rule, rules, &Schemas::new(), source, 0, &mut evaluated).unwrap();
    evaluated
}

#[test]
fn only_the_rule_that_a_replay_names_is_matched() {
    let rules = rules(&[("a", "one", "empty"), ("ab", "two", "empty"), ("b", "three", "empty")]);
    let matched = |only| {
        let jobs = evaluated(&rules, only).jobs;
        jobs.into_iter().map(|job| job.rule_id).collect::<Vec<_>>()
    };
    assert_eq!(matched(None), ["a", "ab", "b"]);
    assert_eq!(matched(Some("a")), ["a"]);
    assert_eq!(matched(Some("ab")), ["ab"]);
    assert!(matched(Some("gone")).is_empty(), "a rule that is gone matches nothing");
    let all = evaluated(&rules, None);
    let one = evaluated(&rules, Some("ab"));
    assert_eq!(
        one.jobs[0].job_id, all.jobs[1].job_id,
        "the replay's job is the same job"
    );
    assert_eq!(one.matches.len(), 1, "what isn't matched isn't counted");
}

#[test]
fn a_failed_match_names_its_own_rule() {
    // The one id is part of the other, and of the words that say what is wrong.
    let rules = rules(&[
        ("lead", "{{$.buyer.name}}", "fail"),
        ("lead-sold", "{{$.buyer.name}}", "fail"),
        ("ok", "fine", "fail"),
    ]);
    let evaluated = evaluated(&rules, None);
    let named: Vec<_> = evaluated
        .dead
        .iter()
        .map(|dead| (dead.reason, dead.rule_id.as_deref()))
        .collect();
    let failed = Reason::TemplateFailed;
    assert_eq!(named, [(failed, Some("lead")), (failed, Some("lead-sold"))]);
    assert_eq!((evaluated.jobs.len(), evaluated.outcomes.len()), (1, 2));
}

#[test]
fn what_is_no_event_names_no_rule() {
    let source = Source {
        topic: "lead-events",
        partition: 0,
        offset: 0,
    };
    let mut evaluated = Evaluated::default();
    let rules = rules(&[("a", "one", "empty")]);
    evaluate(None, Some("a"), &rules, &Schemas::new(), source, 0, &mut evaluated).unwrap();
    assert_eq!(evaluated.dead.len(), 1);
    assert_eq!(
        (evaluated.dead[0].reason, &evaluated.dead[0].rule_id),
        (Reason::NotDecodable, &None)
    );
}
