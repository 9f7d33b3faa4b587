use super::super::tests::{record, rule, view};
use super::*;

fn put(rule: &Value, seen: Option<i64>) -> Change {
    let config = Config::parse("test", "{}", []).unwrap();
    Change::put(Draft::of(&config, rule.clone()), seen).unwrap()
}

#[test]
fn a_draft_with_errors_never_becomes_a_change() {
    let config = Config::parse("test", "{}", []).unwrap();
    let refused = Change::put(Draft::of(&config, json!({"id": "a"})), None);
    assert!(matches!(refused, Err(Error::Invalid(problems)) if !problems.is_empty()));
}

#[test]
fn a_change_is_held_against_the_version_that_its_author_saw() {
    let (old, new) = (rule("a", "old"), rule("a", "new"));
    let view = view(&[
        record(0, "a", Some(&old)),
        record(2, "gone", Some(&rule("gone", "hi"))),
        record(4, "gone", None),
        record(6, "torn", Some(&rule("torn", "hi"))),
        record(8, "torn", Some(&json!({}))),
    ]);
    let came = |change: &Change| {
        plan(&view, change).map(|planned| (planned.written.changed, planned.written.version, planned.written.after))
    };
    let mut paused = old.clone();
    paused["status"] = "paused".into();
    let mut active = old.clone();
    active["status"] = "active".into();
    use Refused::{Conflict, Missing};
    for (change, wanted) in [
        (put(&new, Some(0)), Ok((true, -1, Some(new.clone())))),
        (put(&new, None), Err(Conflict)),
        (put(&new, Some(7)), Err(Conflict)),
        // Nothing is overwritten where the same rule is in force already, whoever wrote it.
        (put(&old, Some(0)), Ok((false, 0, Some(old.clone())))),
        (put(&old, None), Ok((false, 0, Some(old.clone())))),
        (put(&rule("b", "hi"), None), Ok((true, -1, Some(rule("b", "hi"))))),
        (put(&rule("gone", "hi"), Some(2)), Err(Conflict)),
        (put(&rule("gone", "hi"), None), Ok((true, -1, Some(rule("gone", "hi"))))),
        // A record that was rejected goes with the next good one.
        (
            put(&rule("torn", "hi"), Some(6)),
            Ok((true, -1, Some(rule("torn", "hi")))),
        ),
        (Change::delete("a", Some(0), false), Ok((true, -1, None))),
        (Change::delete("a", None, false), Err(Conflict)),
        (Change::delete("gone", Some(2), false), Err(Conflict)),
        (Change::delete("gone", None, false), Err(Missing)),
        (Change::delete("gone", None, true), Ok((true, -1, None))),
        (Change::pause("a", Some(0), true), Ok((true, -1, Some(paused)))),
        (Change::pause("a", Some(1), false), Err(Conflict)),
        (Change::pause("never", None, false), Err(Missing)),
        (Change::resume("a", Some(0)), Ok((true, -1, Some(active)))),
        (Change::resume("gone", None), Err(Missing)),
    ] {
        assert_eq!(came(&change), wanted, "{change:?}");
    }
    assert_eq!(plan(&view, &put(&new, Some(0))).unwrap().before, Some(old));
}

#[test]
fn a_conflict_says_who_when_and_which_version_is_in_force() {
    let last = Some(&Last {
        offset: 7,
        changed_at: 1_772_723_760_000,
    });
    let ana = || Some("ana".to_owned());
    let changed = conflict(&Change::pause("a", Some(3), false), Some(7), last, ana());
    assert!(
        changed.message.contains(
            "rule a: ana changed it at 2026-03-05T15:16:00Z; version 7 is in force now, and your change is for version 3"
        ),
        "{changed}"
    );
    assert_eq!(
        (changed.version, changed.who, changed.when),
        (Some(7), ana(), Some(1_772_723_760_000))
    );
    let deleted = conflict(&Change::pause("a", Some(3), false), None, last, ana());
    assert!(deleted.message.contains("ana deleted it at") && deleted.message.contains("not in force any more"));
    let wrote = conflict(&put(&rule("a", "x"), None), Some(7), last, None);
    assert!(
        wrote.message.contains("someone who leaves no audit wrote it at") && wrote.message.contains("a new rule"),
        "{wrote}"
    );
}

#[test]
fn an_audit_holds_what_fits_and_says_what_it_left_out() {
    let (small, large) = (json!({"id": "a"}), json!({"id": "a", "name": "x".repeat(600_000)}));
    let of = |change: &Change, before, after| Value::from(audit(change, "me", "now", before, after));
    assert_eq!(
        of(&Change::pause("a", None, true), Some(&small), Some(&small)),
        json!({
            "who": "me", "when": "now", "what": "pause", "before": {"id": "a"}, "after": {"id": "a"}, "cancel_waiting": true
        })
    );
    let paused = of(&Change::pause("a", None, false), Some(&large), Some(&large));
    assert!(paused.to_string().len() < 1000);
    assert_eq!(paused["left_out"]["before"]["bytes"], large.to_string().len());
    assert_eq!(paused["left_out"]["after"]["bytes"], large.to_string().len());
    let deleted = of(&Change::delete("a", None, false), Some(&large), None);
    assert_eq!((&deleted["before"], &deleted["after"]), (&Value::Null, &Value::Null));
    assert!(deleted["left_out"].get("after").is_none());
}
