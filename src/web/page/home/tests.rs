use super::*;
use crate::desk::resident::deliveries::Shadowed;
use crate::reason::Reason;
use crate::web::page::tests::{HOSTILE, is_harmless, look};

const NOW: i64 = 1_772_742_727_000;

fn rule(text: &str) -> RuleName {
    RuleName {
        id: text.to_owned(),
        name: Some(text.to_owned()),
        is_there: true,
    }
}

fn todos(text: &str) -> Vec<Todo> {
    vec![
        Todo::AllPaused {
            who: Some(text.to_owned()),
            since: Some(NOW),
        },
        Todo::Refused {
            credential: format!("slack:{text}"),
            why: text.to_owned(),
            waiting: 46,
            lanes: 3,
            since: Some(NOW),
        },
        Todo::DeadLetters {
            reason: Some(Reason::DestinationGone),
            count: 17,
            newest_at: NOW,
            rule: Some(rule(text)),
        },
        Todo::Behind {
            lane: format!("slack:{text}/{text}"),
            waiting: 1204,
            oldest_at: NOW - 840_000,
            came: 840,
            limit: Some("60 a minute".to_owned()),
        },
        Todo::Rejected {
            rules: vec![rule(text)],
            count: 2,
        },
        Todo::Unmatched {
            rules: vec![(rule(text), NOW - 12 * 86_400_000)],
            count: 1,
        },
        Todo::Trial {
            rule: rule(text),
            since: NOW - 8 * 86_400_000,
            would: Shadowed {
                count: 312,
                most_in_a_minute: 40,
                most_at: None,
            },
        },
    ]
}

fn page(text: &str) -> Page {
    let audited = |what: &str| Audited {
        place: "1772723760000.0.5".parse().unwrap(),
        who: text.to_owned(),
        what: what.to_owned(),
        target: text.to_owned(),
    };
    Page {
        span: Span::Day,
        todos: todos(text),
        steps: (0..24)
            .map(|hour| Step {
                at: NOW - (23 - hour) * 3_600_000,
                happened: Happened {
                    events: 1000,
                    matched: 100,
                    sent: 90,
                    waits: 0,
                },
                waiting: 5,
            })
            .collect(),
        waiting: Some(1250),
        busiest: vec![Busy {
            rule: rule(text),
            matched: 4902,
            sent: 4871,
            hours: vec![1; 24],
        }],
        changes: vec![
            (audited("apply"), Some(rule(text))),
            (audited("lane_pause"), None),
            (audited(text), None),
        ],
        counted_from: Some(NOW - 86_400_000),
        is_empty: false,
        cut_off: None,
    }
}

#[test]
fn what_needs_a_person_is_told_with_what_to_do() {
    let drawn = page("Big sales").draw(&look(), NOW).into_string();
    for words in [
        "7 things need a person first.",
        "46 messages",
        "17 dead letters",
        "See its lanes",
        "84 a minute come in, and at most 60 a minute go out",
        "the oldest for 14 minutes",
        "1 rule has never matched a lead",
        "for 12 days",
        "312 messages",
        "24,000",
        "1,250",
        "4,871",
    ] {
        assert!(drawn.contains(words), "{words}: {drawn}");
    }
    assert!(drawn.len() < 60_000, "{} bytes", drawn.len());
}

#[test]
fn whatever_anybody_wrote_stays_text() {
    for hostile in HOSTILE {
        is_harmless(&page(hostile).draw(&look(), NOW).into_string());
    }
}

#[test]
fn an_empty_system_says_how_to_begin() {
    let page = Page {
        todos: Vec::new(),
        busiest: Vec::new(),
        changes: Vec::new(),
        waiting: None,
        is_empty: true,
        ..page("x")
    };
    let drawn = page.draw(&look(), NOW).into_string();
    assert!(
        drawn.contains("Add the first rule") && drawn.contains("Nothing needs a person."),
        "{drawn}"
    );
}

#[test]
fn what_waited_is_what_waits_now_less_what_came_since() {
    let step = |at, waits| {
        let happened = Happened {
            waits,
            ..Happened::default()
        };
        (at, happened)
    };
    let waiting = |now| -> Vec<u64> {
        let steps = with_waiting(vec![step(1, 5), step(2, -3), step(3, 10)], now);
        steps.into_iter().map(|step| step.waiting).collect()
    };
    assert_eq!(waiting(Some(12)), [5, 2, 12]);
    assert_eq!(waiting(None), [0, 0, 0]);
}
