use super::*;
use crate::desk::lanes::{Frozen, Limit, Paused};
use crate::web::page::tests::{HOSTILE, is_harmless, look};

const NOW: i64 = 1_772_742_727_000;

fn lane(id: &str, waiting: u64) -> Lane {
    Lane {
        id: id.to_owned(),
        credential: crate::delivery::recall::credential_of(id).to_owned(),
        waiting,
        oldest_at: Some(NOW - 60_000),
        next_at: Some(NOW + 1_000),
        frozen: None,
        paused: None,
        limit: Limit::default(),
    }
}

fn refused(id: &str, why: &str) -> Lane {
    Lane {
        frozen: Some(Frozen {
            until: None,
            why: why.to_owned(),
            refused: true,
        }),
        ..lane(id, 31)
    }
}

fn paused(id: &str, of: &str) -> Lane {
    Lane {
        paused: Some(Paused {
            of: of.to_owned(),
            who: Some("Dana".to_owned()),
            since: Some(NOW - 3_600_000),
            words: String::new(),
        }),
        ..lane(id, 140)
    }
}

fn page(lanes: Vec<Lane>, may: bool) -> Page {
    Page {
        waiting: lanes.iter().map(|lane| lane.waiting).sum(),
        all: lanes
            .iter()
            .find(|lane| lane.id == ALL)
            .and_then(|lane| lane.paused.clone()),
        groups: groups(lanes, NOW),
        known: ["slack:a/C1".to_owned()].into(),
        receivers: BTreeMap::new(),
        may,
        read_at: NOW,
        cut_off: None,
    }
}

#[test]
fn those_that_need_a_person_come_first_with_what_to_do() {
    let lanes = vec![
        lane("slack:a/C1", 2),
        paused("slack:b/C2", "slack:b/C2"),
        refused("slack:call-bot/C3", "token_revoked"),
    ];
    let page = page(lanes, true);
    let credentials: Vec<&str> = page.groups.iter().map(|group| group.credential.as_str()).collect();
    assert_eq!(credentials, ["slack:call-bot", "slack:b", "slack:a"]);
    let drawn = page.draw(&look(), NOW).into_string();
    for words in [
        "token_revoked",
        "Try now",
        "on a new token",
        "Paused by Dana",
        "when resumed",
        "id=\"slack-call-bot\"",
        "Pause all sending…",
        "Pause another lane, app or account",
        "<option value=\"slack:a/C1\">",
    ] {
        assert!(drawn.contains(words), "{words}: {drawn}");
    }
}

#[test]
fn who_may_not_order_sees_it_disabled_and_a_pause_of_all_says_who() {
    let drawn = page(vec![paused(ALL, ALL), lane("slack:a/C1", 2)], false)
        .draw(&look(), NOW)
        .into_string();
    assert!(
        drawn.contains("All sending is paused") && drawn.contains("Resume all sending"),
        "{drawn}"
    );
    assert!(
        drawn.contains("needs an admin")
            && !drawn.contains("<button class=\"btn s\">")
            && !drawn.contains("another lane"),
        "{drawn}"
    );
}

#[test]
fn what_a_lane_is_called_stays_text() {
    for hostile in HOSTILE {
        let id = format!("slack:{hostile}/{hostile}");
        is_harmless(
            &page(vec![refused(&id, hostile), paused(&id, &id)], true)
                .draw(&look(), NOW)
                .into_string(),
        );
    }
    let drawn = page(Vec::new(), true).draw(&look(), NOW).into_string();
    assert!(drawn.contains("Nothing waits"), "{drawn}");
    assert!(
        Ask { waiting: 3 }
            .draw(&look(), NOW)
            .into_string()
            .contains("name=\"lane\" value=\"*\"")
    );
}
