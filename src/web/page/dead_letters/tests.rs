use super::*;
use crate::web::page::tests::{HOSTILE, is_harmless, look};

const NOW: i64 = 1_772_742_727_000;

fn letter(text: &str) -> Whole {
    let headers = [
        ("reason", "destination_gone"),
        ("detail", text),
        ("source-topic", "delivery-jobs"),
        ("rule-id", "r"),
    ];
    let mut job = crate::delivery::tests::job();
    (job.lead_id, job.destination) = (text.to_owned(), text.to_owned());
    job.body = serde_json::json!({"channel": text, "text": text}).to_string();
    crate::desk::dead_letters::tests::letter(&headers, &job.encode())
}

fn page(rows: Vec<Row>, typed: Typed, name: &str) -> Page {
    let rule = || RuleName {
        id: name.to_owned(),
        name: Some(name.to_owned()),
        is_there: true,
    };
    Page {
        typed,
        reasons: vec![OfReason {
            reason: Some(Reason::CredentialRefused),
            count: 17,
            newest_at: NOW,
            rules: vec![rule()],
            credentials: vec![format!("slack:{name}")],
            inlets: vec![name.to_owned()],
        }],
        rows,
        next: None,
        done: Some((3, 1, 0)),
        may: true,
        reach: Reach {
            topic: Topic::DeadLetters,
            since: None,
            whole: true,
            caught_up: true,
            cut_off: None,
        },
    }
}

#[test]
fn a_list_says_what_to_do_and_shows_anybodys_words_as_text() {
    for hostile in HOSTILE {
        let typed = Typed {
            rule: Some(hostile.to_owned()),
            ..Typed::default()
        };
        let drawn = page(Vec::new(), typed, hostile).draw(&look(), NOW).into_string();
        is_harmless(&drawn);
        assert!(
            drawn.contains("3 dead letters replayed") && drawn.contains("1 was replayed before"),
            "{drawn}"
        );
        assert!(drawn.contains("Put a new token into the secret store"), "{drawn}");
        let one = One {
            id: "2-17".parse().unwrap(),
            letter: letter(hostile),
            rule: None,
            replayed: false,
            may: false,
        };
        let drawn = one.draw(&look(), NOW).into_string();
        is_harmless(&drawn);
        assert!(drawn.contains("needs an admin"), "{drawn}");
    }
}

#[test]
fn the_command_has_the_same_filters() {
    let typed = Typed {
        reason: Some("gave_up".to_owned()),
        lane: Some("slack:a b/C1".to_owned()),
        ..Typed::default()
    };
    let page = page(Vec::new(), typed, "r");
    assert_eq!(
        page.command(),
        "leadlane dead-letters list --reason gave_up --destination 'slack:a b/C1'"
    );
}

#[test]
fn a_dead_letter_in_the_page_is_masked() {
    let one = One {
        id: "2-17".parse().unwrap(),
        letter: letter("ana@example.com"),
        rule: None,
        replayed: true,
        may: true,
    };
    let drawn = one.draw(&look(), NOW).into_string();
    assert!(
        !drawn.contains("ana@example.com") && drawn.contains("it was replayed"),
        "{drawn}"
    );
}
