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
    let mut waits = rule("waits", "hi");
    waits["status"] = "paused".into();
    let view = view(&[
        record(0, "a", Some(&old)),
        record(2, "gone", Some(&rule("gone", "hi"))),
        record(4, "gone", None),
        record(6, "torn", Some(&rule("torn", "hi"))),
        record(8, "torn", Some(&json!({}))),
        record(10, "waits", Some(&waits)),
    ]);
    let came = |change: &Change| {
        plan(&view, change).map(|planned| (planned.written.changed, planned.written.version, planned.written.after))
    };
    let mut paused = old.clone();
    paused["status"] = "paused".into();
    let mut resumed = waits.clone();
    resumed["status"] = "active".into();
    let mut mended = rule("torn", "hi");
    mended["status"] = "active".into();
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
        (Change::resume("waits", Some(10)), Ok((true, -1, Some(resumed)))),
        // What stands already is no change, but for what waits, and for a record that was rejected.
        (Change::resume("a", Some(0)), Ok((false, 0, Some(old.clone())))),
        (Change::resume("a", None), Err(Conflict)),
        (
            Change::pause("waits", Some(10), false),
            Ok((false, 10, Some(waits.clone()))),
        ),
        (Change::pause("waits", Some(10), true), Ok((true, -1, Some(waits)))),
        (Change::resume("torn", Some(6)), Ok((true, -1, Some(mended)))),
        (Change::resume("gone", None), Err(Missing)),
    ] {
        assert_eq!(came(&change), wanted, "{change:?}");
    }
    assert_eq!(plan(&view, &put(&new, Some(0))).unwrap().before, Some(old));
}

#[test]
fn an_order_of_a_lane_is_written_by_the_same_path() {
    use crate::rules::control::Order::{Pause, Probe, Resume};
    const LANE: &str = "slack:t/C0SALES";
    let when = 1_772_723_760_000;
    let written = |who: &str| json!({"paused": true, "probe_at": null, "who": who, "when": "2026-03-05T15:16:00Z"});
    let mut view = view(&[record(0, "a", Some(&rule("a", "hi")))]);
    let pause = Change::order(Pause, LANE, "ana", when);
    let planned = plan(&view, &pause).unwrap();
    assert_eq!(
        (&planned.before, &planned.written.after),
        (&None, &Some(written("ana")))
    );
    assert_eq!(
        (&*planned.written.id, planned.written.changed),
        ("lane:slack:t/C0SALES", true)
    );
    let audited = Value::from(audit(&pause, "ana", "now", &planned, planned.written.after.as_ref()));
    assert_eq!(
        (&audited["what"], &audited["target"]),
        (&json!("lane_pause"), &json!(LANE))
    );

    view.take(&record(1, "lane:slack:t/C0SALES", planned.written.after.as_ref()));
    for order in [Pause, Probe] {
        let again = plan(&view, &Change::order(order, LANE, "ben", when + 1))
            .unwrap()
            .written;
        assert_eq!(
            (again.changed, again.version, again.after),
            (false, 1, Some(written("ana")))
        );
    }
    let resumed = plan(&view, &Change::order(Resume, LANE, "ben", when + 1)).unwrap();
    assert_eq!((resumed.before, &resumed.written.after), (Some(written("ana")), &None));
    assert!(resumed.written.changed);
    view.take(&record(2, "lane:slack:t/C0SALES", None));
    assert!(
        !plan(&view, &Change::order(Resume, LANE, "ben", when + 1))
            .unwrap()
            .written
            .changed
    );
    let tried = plan(&view, &Change::order(Probe, LANE, "ben", when)).unwrap().written;
    assert_eq!(tried.after.unwrap()["probe_at"], "2026-03-05T15:16:00Z");
    assert_eq!(view.version("a"), Some(0));
    assert_eq!(super::super::list(&view, &super::super::Filter::default()).count(), 1);
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
    let of = |change: &Change, before: Option<&Value>, after: Option<&Value>| {
        let planned = Planned {
            before: before.cloned(),
            replaces: before.map(|_| 3),
            written: Written {
                id: "a".into(),
                version: -1,
                changed: true,
                after: after.cloned(),
            },
        };
        Value::from(audit(change, "me", "now", &planned, after))
    };
    assert_eq!(
        of(&Change::pause("a", None, true), Some(&small), Some(&small)),
        json!({
            "who": "me", "when": "now", "what": "pause", "before": {"id": "a"}, "after": {"id": "a"}, "replaces": 3,
            "cancel_waiting": true
        })
    );
    let paused = of(&Change::pause("a", None, false), Some(&large), Some(&large));
    assert!(paused.to_string().len() < 1000);
    assert_eq!(paused["left_out"]["before"]["bytes"], large.to_string().len());
    assert_eq!(paused["left_out"]["after"]["bytes"], large.to_string().len());
    let deleted = of(&Change::delete("a", None, false), Some(&large), None);
    assert_eq!((&deleted["before"], &deleted["after"]), (&Value::Null, &Value::Null));
    assert!(deleted["left_out"].get("after").is_none());
    let first = of(&put(&rule("a", "hi"), None), None, Some(&small));
    assert!(first.get("replaces").is_none(), "there was nothing before");
}

#[test]
fn a_rollback_is_a_change_like_any_other_and_the_audit_calls_it_by_its_name() {
    let (old, new) = (rule("a", "old"), rule("a", "new"));
    let view = view(&[record(0, "a", Some(&old)), record(2, "a", Some(&new))]);
    let config = Config::parse("test", "{}", []).unwrap();
    let back = |seen| Change::rollback(Draft::of(&config, old.clone()), seen).unwrap();
    assert_eq!(plan(&view, &back(Some(0))), Err(Refused::Conflict));
    let planned = plan(&view, &back(Some(2))).unwrap();
    assert_eq!(
        (planned.replaces, planned.written.after.as_ref()),
        (Some(2), Some(&old))
    );
    assert_eq!(audit(&back(Some(2)), "me", "now", &planned, None)["what"], "rollback");
    let refused = Change::rollback(Draft::of(&config, json!({"id": "a"})), None);
    assert!(matches!(refused, Err(Error::Invalid(_))));
}
