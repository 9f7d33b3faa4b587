use proptest::prelude::*;

use super::*;
use crate::rules::tests::{SLACK, sold, value};

fn json(id: &str, status: &str) -> String {
    let mut rule = value(SLACK);
    rule["id"] = id.into();
    rule["status"] = status.into();
    rule.to_string()
}

fn apply(log: &mut RuleLog, offset: i64, key: &str, text: &str) -> Applied {
    log.apply(offset, Some(key.as_bytes()), Some(text.as_bytes()))
}

fn reason(applied: Applied) -> &'static str {
    match applied {
        Applied::Rejected(rejection) => rejection.reason.as_str(),
        other => panic!("not rejected: {other:?}"),
    }
}

/// The versions that a sold lead matches.
fn found(log: &mut RuleLog) -> Vec<i64> {
    let rules = log.snapshot();
    let mut found = Vec::new();
    rules.index.matches(&sold(), &mut found);
    found.iter().map(|versioned| versioned.version).collect()
}

#[test]
fn control_records_are_no_rules_and_the_last_good_one_holds() {
    let mut log = RuleLog::default();
    let paused = |log: &mut RuleLog| log.snapshot().controls.is_paused("slack:a/C1");
    apply(&mut log, 0, "a", &json("a", "active"));
    let pause = r#"{"paused": true, "probe_at": null, "who": "ana", "when": "2026-03-05T15:16:00Z"}"#;
    assert_eq!(apply(&mut log, 1, "lane:slack:a/C1", pause), Applied::Changed);
    assert!(paused(&mut log));
    assert_eq!(apply(&mut log, 2, "lane:slack:a/C1", pause), Applied::Unchanged);
    for (offset, text, wanted) in [
        (3, r#"{"paused": "hunter2"}"#, "invalid_control"),
        (4, "hunter2", "not_json"),
        (5, "[]", "invalid_control"),
    ] {
        let Applied::Rejected(rejection) = apply(&mut log, offset, "lane:slack:a/C1", text) else {
            panic!("{text} is taken");
        };
        assert_eq!((rejection.offset, rejection.reason.as_str()), (offset, wanted));
        assert!(!rejection.detail.contains("hunter2"), "{}", rejection.detail);
        assert!(paused(&mut log), "the last good one holds");
    }
    assert_eq!(log.list().count(), 1, "they are no rules");
    assert!(log.entry("a").unwrap().rejected.is_none());
    assert_eq!(found(&mut log), [0]);
    assert_eq!(apply(&mut log, 6, "lane:slack:a/C1", ""), Applied::Changed);
    assert!(!paused(&mut log));
    assert_eq!(log.apply(7, Some(b"lane:slack:a/C1"), None), Applied::Unchanged);
    apply(&mut log, 8, "lane:*", pause);
    log.start_over();
    assert_eq!(log.controls().iter().count(), 0);
}

#[test]
fn a_rule_comes_changes_and_goes() {
    let mut log = RuleLog::default();
    assert_eq!((log.snapshot().version, log.snapshot().active), (-1, 0));
    assert_eq!(apply(&mut log, 3, "a", &json("a", "active")), Applied::Changed);
    assert_eq!(apply(&mut log, 4, "b", &json("b", "shadow")), Applied::Changed);
    assert_eq!(found(&mut log), [3, 4]);
    assert_eq!((log.snapshot().version, log.snapshot().active), (4, 1));
    assert_eq!(
        apply(&mut log, 7, "a", &json("a", "active")),
        Applied::Changed,
        "the version is the offset"
    );
    assert_eq!(found(&mut log), [7, 4]);
    assert_eq!(apply(&mut log, 8, "a", &json("a", "paused")), Applied::Changed);
    assert_eq!(found(&mut log), [4]);
    assert_eq!(log.entry("a").unwrap().status(), Some(Status::Paused));
    assert_eq!(apply(&mut log, 9, "a", ""), Applied::Changed);
    assert_eq!(log.apply(10, Some(b"b"), None), Applied::Changed);
    assert_eq!(
        log.apply(11, Some(b"b"), None),
        Applied::Unchanged,
        "nothing left to delete"
    );
    assert_eq!(log.list().count(), 0);
    assert_eq!(log.snapshot().version, 11);
}

#[test]
fn a_bad_record_leaves_the_last_good_version_in_force() {
    let mut log = RuleLog::default();
    apply(&mut log, 0, "a", &json("a", "active"));
    for (offset, text, expected) in [
        (1, "{\"id\": \"a\"", "not_json"),
        (2, "nonsense", "not_json"),
        (3, "{\"id\": \"a\"}", "invalid_rule"),
        (4, "[]", "invalid_rule"),
        (5, json("b", "active").as_str(), "id_mismatch"),
    ] {
        assert_eq!(reason(apply(&mut log, offset, "a", text)), expected, "{text}");
        assert_eq!(found(&mut log), [0], "{text}");
        let entry = log.entry("a").unwrap();
        assert_eq!(
            (entry.version(), entry.rejected.as_ref().unwrap().offset),
            (Some(0), offset)
        );
    }
    assert_eq!(apply(&mut log, 6, "a", &json("a", "active")), Applied::Changed);
    assert_eq!(
        log.entry("a").unwrap().rejected,
        None,
        "a good record clears the rejection"
    );
    assert_eq!(found(&mut log), [6]);
}

#[test]
fn a_rejected_record_without_a_good_one_is_listed_until_deleted() {
    let mut log = RuleLog::default();
    assert_eq!(reason(apply(&mut log, 0, "a", "x")), "not_json");
    let listed: Vec<_> = log
        .list()
        .map(|(id, entry)| (id, entry.status(), entry.rejected.is_some()))
        .collect();
    assert_eq!(listed, [("a", None, true)]);
    assert_eq!(apply(&mut log, 1, "a", ""), Applied::Unchanged, "nothing was in force");
    assert_eq!(log.list().count(), 0);
    assert_eq!(
        reason(log.apply(2, None, Some(json("a", "active").as_bytes()))),
        "no_key"
    );
    assert_eq!(log.list().count(), 0);
}

#[test]
fn a_cancel_mark_outlives_its_rule_and_the_latest_counts() {
    let mut log = RuleLog::default();
    let mark = |offset| Cancel {
        offset,
        at: 1000 + offset,
    };
    apply(&mut log, 0, "a", &json("a", "active"));
    assert!(log.snapshot().cancelled.is_empty());
    apply(&mut log, 1, "a", &json("a", "paused"));
    assert!(log.cancel("a", mark(1)));
    assert!(!log.cancel("a", mark(1)), "read again it is no news");
    // A later version without a mark leaves it in place, and so does the deletion.
    apply(&mut log, 2, "a", &json("a", "active"));
    assert_eq!(log.snapshot().cancelled.get("a"), Some(&mark(1)));
    apply(&mut log, 3, "a", "");
    assert_eq!(log.snapshot().cancelled.get("a"), Some(&mark(1)));
    assert!(log.cancel("a", mark(4)));
    assert!(!log.cancel("a", mark(2)), "an older one changes nothing");
    assert_eq!(log.snapshot().cancelled.get("a"), Some(&mark(4)));
    // A rule that was never there can be cancelled too.
    assert!(log.cancel("gone", mark(5)));
    assert_eq!(log.snapshot().cancelled.len(), 2);
}

#[test]
fn a_time_that_nobody_knows_cancels_nothing() {
    let mut log = RuleLog::default();
    apply(&mut log, 1, "a", &json("a", "active"));
    log.cancel("a", Cancel { offset: 1, at: 1000 });
    let rules = log.snapshot();
    assert!(!rules.is_cancelled("a", 1, None) && !rules.is_cancelled("a", 9, None));
    assert!(
        rules.is_cancelled("a", 0, None),
        "a version before the mark tells by itself"
    );
    assert!(rules.is_cancelled("a", 9, Some(1000)) && !rules.is_cancelled("a", 9, Some(1001)));
    assert!(rules.is_unread("a", 9) && !rules.is_unread("a", 1) && !rules.is_unread("b", 9));
}

#[test]
fn the_snapshot_knows_the_credential_of_each_rule_in_force() {
    let mut log = RuleLog::default();
    apply(&mut log, 0, "a", &json("a", "active"));
    apply(&mut log, 1, "b", &json("b", "paused"));
    apply(&mut log, 2, "c", "nonsense");
    let named = value(SLACK)["action"]["token"]["secret"].as_str().unwrap().to_owned();
    let credential = Some(format!("slack:{named}"));
    let rules = log.snapshot();
    assert_eq!(rules.credential("a"), credential);
    assert_eq!(rules.credential("b"), credential, "a paused rule is in force too");
    assert_eq!((rules.credential("c"), rules.credential("d")), (None, None));
    let mut other = value(SLACK);
    other["id"] = "a".into();
    other["action"]["token"]["secret"] = "another".into();
    apply(&mut log, 3, "a", &other.to_string());
    assert_eq!(log.snapshot().credential("a").as_deref(), Some("slack:another"));
    apply(&mut log, 4, "a", "");
    assert_eq!(log.snapshot().credential("a"), None);
}

#[test]
fn what_was_read_before_changes_nothing() {
    let mut log = RuleLog::default();
    apply(&mut log, 5, "a", &json("a", "active"));
    apply(&mut log, 6, "b", "");
    for offset in [0, 5, 6] {
        assert_eq!(apply(&mut log, offset, "a", ""), Applied::Unchanged);
        assert_eq!(apply(&mut log, offset, "b", &json("b", "active")), Applied::Unchanged);
    }
    assert_eq!(found(&mut log), [5]);
    assert_eq!(log.snapshot().version, 6);
}

#[test]
fn details_never_quote_the_record() {
    let mut log = RuleLog::default();
    let mut leaky = value(SLACK);
    leaky["action"]["token"] = "xoxb-LEAKED".into();
    leaky["action"]["to"]["channel"] = 5.into();
    leaky["status"] = "LEAKED".into();
    for (offset, text) in [
        leaky.to_string(),
        "LEAKED".into(),
        "\"LEAKED".into(),
        "{\"LEAKED\"".into(),
    ]
    .iter()
    .enumerate()
    {
        match apply(&mut log, offset as i64, "a", text) {
            Applied::Rejected(rejection) => assert!(!rejection.detail.contains("LEAKED"), "{rejection:?}"),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn reasons_are_a_closed_set() {
    assert_eq!(
        Reason::ALL.map(Reason::as_str),
        ["no_key", "not_json", "invalid_rule", "id_mismatch", "invalid_control"]
    );
}

/// What a record does to one key, in the simplest terms.
fn oracle(records: &[(u8, Option<String>)], key: u8) -> (Option<i64>, bool) {
    let mut state = (None, false);
    for (offset, (_, value)) in records.iter().enumerate().filter(|(_, (of, _))| *of == key) {
        state = match value.as_deref() {
            None | Some("") => (None, false),
            Some(text) if text.starts_with('{') => (Some(offset as i64), false),
            Some(_) => (state.0, true),
        };
    }
    state
}

#[test]
fn a_junk_record_is_told_in_a_few_words_and_costs_what_it_weighs() {
    let long = "x".repeat(200_000);
    let deep = |inner: String| (0..60).fold(inner, |inner, _| format!("{{\"{}\":{inner}}}", "n".repeat(2000)));
    let zeros = |count: usize| format!("[{}0]", "0,".repeat(count));
    let unknown: Vec<String> = (0..60_000).map(|number| format!("\"field{number}\":1")).collect();
    let conditions = format!("[{}1]", "{},".repeat(200_000));
    for (what, junk) in [
        ("many unknown fields", format!("{{{}}}", unknown.join(","))),
        ("a long name", format!("{{\"{long}\":1}}")),
        (
            "a long name round many values",
            format!("{{\"{long}\":{}}}", zeros(400_000)),
        ),
        ("deep names round many values", deep(zeros(400_000))),
        ("conditions", format!("{{\"filters\":{{\"where\":{conditions}}}}}")),
        (
            "ids",
            format!("{{\"filters\":{{\"buyer\":{}}}}}", zeros(400_000).replace('0', "{}")),
        ),
        (
            "tokens",
            format!("[{}1]", "\"xoxb-1-2-3-abcdefghijklm\",".repeat(30_000)),
        ),
        (
            "a long path",
            format!("{{\"filters\":{{\"where\":[{{\"path\":\"$.{long}[\",\"eq\":1}}]}}}}"),
        ),
        (
            "a long template",
            json("a", "active").replace("{{$.lead_id}}", &format!("{{{{$.{long} | nofilter}}}}")),
        ),
    ] {
        // The work is bounded by what is told at most; paths copied for each value show as a test without an end.
        let mut log = RuleLog::default();
        let Applied::Rejected(rejection) = apply(&mut log, 0, "a", &junk) else {
            panic!("{what} is rejected")
        };
        assert!(rejection.detail.len() < 16_000, "{what}: {}", rejection.detail.len());
    }
}

proptest! {
    #[test]
    fn any_history_ends_where_its_last_records_say(
        history in prop::collection::vec((0..3u8, 0..5u8), 0..30),
        twice in any::<bool>(),
    ) {
        let records: Vec<(u8, Option<String>)> = history
            .into_iter()
            .map(|(key, kind)| match kind {
                0 => (key, None),
                1 => (key, Some(String::new())),
                2 => (key, Some("bad".into())),
                _ => (key, Some(json(&format!("r{key}"), "active"))),
            })
            .collect();
        let mut log: RuleLog = RuleLog::default();
        for _ in 0..=usize::from(twice) {
            for (offset, (key, value)) in records.iter().enumerate() {
                log.apply(offset as i64, Some(format!("r{key}").as_bytes()), value.as_deref().map(str::as_bytes));
            }
        }
        for key in 0..3 {
            let entry = log.entry(&format!("r{key}")).cloned().unwrap_or_default();
            prop_assert_eq!((entry.version(), entry.rejected.is_some()), oracle(&records, key));
        }
    }

    #[test]
    fn any_bytes_are_applied_or_rejected(
        records in prop::collection::vec((prop::option::of(prop::collection::vec(any::<u8>(), 0..8)), prop::collection::vec(any::<u8>(), 0..40)), 0..10),
        json in "[{\\[\"a1:,\\]} ]{0,30}",
    ) {
        let mut log = RuleLog::default();
        for (offset, (key, value)) in records.iter().enumerate() {
            log.apply(offset as i64, key.as_deref(), Some(value));
        }
        log.apply(100, Some(b"a"), Some(json.as_bytes()));
        prop_assert_eq!(log.snapshot().active, 0);
    }
}
