use super::*;
use crate::delivery::OutcomeResult;
use crate::desk::page::Place;
use crate::desk::resident::events::Recent;
use crate::desk::why::Today;
use crate::rules::Failed;
use crate::web::page::tests::{HOSTILE, is_harmless, look};

fn failed(found: &str) -> Failed {
    Failed {
        path: "filters.buyer".to_owned(),
        wanted: found.to_owned(),
        found: Some(found.to_owned()),
    }
}

fn name(text: &str) -> RuleName {
    RuleName {
        id: text.to_owned(),
        name: Some(text.to_owned()),
        is_there: true,
    }
}

fn row(text: &str, failed: Vec<Failed>, today: Option<Today>, jobs: Vec<Delivery>) -> Row {
    Row {
        name: name(text),
        verdict: verdict(&failed),
        rule: OfRule {
            id: text.to_owned(),
            name: None,
            version: Some(5),
            failed,
            today,
        },
        jobs,
    }
}

fn job(text: &str) -> Delivery {
    Delivery {
        place: Place {
            at: 1_772_723_760_000,
            partition: 0,
            offset: 5,
        },
        id: "0190f3c2-6f7b-7c11-9a55-3f0a7be1c001".to_owned(),
        event_id: text.to_owned(),
        lead_id: text.to_owned(),
        rule_id: text.to_owned(),
        lane: format!("slack:{text}/{text}"),
        stands: Stands::Is(OutcomeResult::Sent),
        attempts: 2,
        ended_at: Some(1_772_723_760_400),
        is_test: false,
    }
}

fn page(text: &str) -> Page {
    let today = |failed| {
        Some(Today {
            version: Some(6),
            failed,
        })
    };
    let event = Event {
        id: text.to_owned(),
        at: 1_772_723_760_000,
        trigger: text.to_owned(),
        about: vec![text.to_owned()],
        person: vec![text.to_owned()],
        rules: vec![
            row(text, Vec::new(), today(vec![failed(text)]), vec![job(text)]),
            row(text, vec![failed(text)], today(Vec::new()), Vec::new()),
            row(text, vec![failed(text)], None, Vec::new()),
        ],
        further: 3,
        elsewhere: 27,
        others: vec![(job(text), name(text))],
    };
    Page {
        found: Found::Life {
            lead: text.to_owned(),
            typed: Some(text.to_owned()),
            events: vec![event],
            more: 0,
        },
        reach: Reach {
            topic: Topic::Events,
            since: Some(1_772_000_000_000),
            whole: false,
            caught_up: true,
            cut_off: None,
        },
        may: false,
    }
}

#[test]
fn a_life_says_who_was_notified_what_decided_and_what_today_says() {
    let drawn = page("84512377").draw(&look(), 1_772_723_770_000).into_string();
    for words in [
        "1 event, 33 rules looked at, 1 match",
        "2 sent",
        "Today’s version 6 <b>would match</b>",
        "Today’s version 6 would not match",
        "27 more rules are for something else",
        "3 more rules for the same",
        "An admin can; it is noted in the audit.",
    ] {
        assert!(drawn.contains(words), "{words}: {drawn}");
    }
}

#[test]
fn whatever_a_lead_is_called_stays_text() {
    for hostile in HOSTILE {
        let page = page(hostile);
        is_harmless(&page.draw(&look(), 0).into_string());
        let nothing = Page {
            found: Found::Nothing {
                lead: hostile.to_owned(),
                jobs: vec![(job(hostile), name(hostile))],
            },
            ..page
        };
        is_harmless(&nothing.draw(&look(), 0).into_string());
    }
}

#[test]
fn a_page_without_a_question_teaches() {
    let recent = vec![("84512377".to_owned(), "e-1".to_owned(), "lms.lead_sold".to_owned())];
    let page = Page {
        found: Found::Unasked { recent },
        ..page("x")
    };
    let drawn = page.draw(&look(), 0).into_string();
    assert!(
        drawn.contains("/why?lead=84512377") && drawn.contains("Lead sold"),
        "{drawn}"
    );
}

#[test]
fn a_page_takes_so_many_rows_and_the_newest_event_whatever_it_has() {
    let event = |rules: usize, jobs: usize| OfEvent {
        event: Arc::new(Recent {
            place: job("e").place,
            event_id: "e".into(),
            lead_id: "l".into(),
            trigger: "lms.lead_sold".into(),
            inlet: None,
            occurred_at: 0,
            is_test: false,
            bytes: Arc::new([]),
        }),
        rules: vec![row("r", Vec::new(), None, Vec::new()).rule; rules],
        further: 0,
        elsewhere: 0,
        jobs: vec![job("e"); jobs],
    };
    let of = |events: &[(usize, usize)]| {
        let events = events.iter().map(|(rules, jobs)| event(*rules, *jobs));
        shown(events.collect()).len()
    };
    assert_eq!(of(&[]), 0);
    assert_eq!(of(&[(50, 200), (0, 0)]), 1);
    assert_eq!(of(&[(19, 0); 50]), 6);
    assert_eq!(of(&[(1, 18), (50, 60), (0, 0)]), 1);
    assert_eq!(of(&[(0, 0); 50]), 50);
}
