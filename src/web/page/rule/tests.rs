//! The editor, as its readers see it: whole pages of made-up rules.

use std::collections::HashSet;

use axum::http::HeaderMap;
use serde_json::json;

use super::*;
use crate::config::Config;
use crate::delivery::OutcomeResult;
use crate::desk::resident::Resident;
use crate::secrets::keys::Keys;
use crate::secrets::{SecretError, Secrets};
use crate::web::guard::Asker;

const NOW: i64 = 1_772_742_727_000;
const HOSTILE: &str = r#""><img src=x onerror=alert(1)><script>alert(1)</script>"#;

fn web(change: impl FnOnce(&mut Config)) -> Web {
    let mut config = Config::default();
    change(&mut config);
    let secrets = Secrets::looking_up(|_, _| Err(SecretError::NoName));
    Web::new(Arc::new(Resident::new(Arc::new(config))), secrets, || NOW)
}

fn look(role: Role) -> Look {
    let actor = Actor {
        role,
        ..Actor::anybody()
    };
    Look::of(&HeaderMap::new(), Some(&Asker { actor, session: None }))
}

fn pairs(fields: &[(&str, &str)]) -> Vec<(String, String)> {
    let pair = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    fields.iter().map(pair).collect()
}

const SLACK: [(&str, &str); 9] = [
    ("name", "Sales"),
    ("scope.level", "product"),
    ("scope.id", "12"),
    ("trigger", "lms.lead_sold"),
    ("action.type", "slack_message"),
    ("action.token.secret", "sales-bot"),
    ("action.to.kind", "channel"),
    ("action.to.id", "C0SALES"),
    (
        "action.text",
        "*{{$.buyer.name}}* bought {{$.lead_id}}, {{$.source.nothing}}",
    ),
];

/// The page of what was posted, after somebody tried to save it or not.
fn page(web: &Web, role: Role, fields: &[(&str, &str)], is_tried: bool) -> String {
    let fields = pairs(fields);
    let mut editing = Editing::posted(&web.config, None, &fields, NOW);
    editing.is_tried = is_tried;
    let look = look(role);
    let page = Page::new(web, &look, &editing, &fields);
    page.body().into_string()
}

/// Every id stands once, and what is named by an id is there.
fn is_sound(page: &str) {
    let all = |before: &str| -> Vec<String> {
        let found = page.split(before).skip(1);
        found.map(|rest| rest.split('"').next().unwrap().to_owned()).collect()
    };
    let ids = all(" id=\"");
    let known: HashSet<&String> = ids.iter().collect();
    assert_eq!(known.len(), ids.len(), "an id stands twice: {ids:?}");
    for before in [
        " for=\"",
        "aria-labelledby=\"",
        "aria-describedby=\"",
        "href=\"#",
        "aria-controls=\"",
        "hx-target=\"#",
    ] {
        for named in all(before).iter().flat_map(|names| names.split(' ')) {
            assert!(known.contains(&named.to_owned()), "{before}{named} names nothing");
        }
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "every part of the page")]
fn a_hostile_rule_stays_text_on_every_part_of_the_page() {
    let web = web(|_| {});
    for action in super::action::ACTIONS
        .map(|(action, _)| action)
        .into_iter()
        .chain([HOSTILE])
    {
        let fields: Vec<(&str, &str)> = SLACK
            .iter()
            .map(|(name, _)| (*name, HOSTILE))
            .filter(|(name, _)| *name != "action.type")
            .chain([("action.type", action), ("with", "pasted"), ("pasted", HOSTILE)])
            .chain([
                ("filters.method", HOSTILE),
                ("filters.publisher", HOSTILE),
                ("filters.buyer", ""),
                ("filters.price.op", HOSTILE),
                ("filters.price.a", HOSTILE),
                ("where.0.path", HOSTILE),
                ("where.0.op", HOSTILE),
                ("where.0.value", HOSTILE),
                ("properties.0.name", HOSTILE),
                ("properties.0.value", HOSTILE),
                ("action.identity", HOSTILE),
                ("action.username", HOSTILE),
                ("action.icon_url", HOSTILE),
                ("action.account", HOSTILE),
                ("action.expires_after", HOSTILE),
                ("action.on_missing", HOSTILE),
                ("keep.extra", r#"{"a": "<img src=x>"}"#),
            ])
            .collect();
        for is_tried in [false, true] {
            let page = page(&web, Role::Admin, &fields, is_tried);
            assert!(!page.contains("<img") && !page.contains("<script"), "{action}");
            is_sound(&page);
        }
    }
    // What a sample makes of a text that is whole, and what came of a test.
    let answer = Answer {
        job_id: None,
        lane: HOSTILE.to_owned(),
        result: Some(OutcomeResult::Dead),
        status: Some(400),
        words: Some(HOSTILE.to_owned()),
        cure: Some(HOSTILE.to_owned()),
        millis: 412,
    };
    let matches = Matches {
        looked_at: 5000,
        matched: 118,
        per_hour: 3.2,
        most_in_an_hour: 9,
        from: Some(NOW - 36 * 3_600_000),
        to: Some(NOW),
        fell: vec![(HOSTILE.to_owned(), 4882)],
        hours: vec![(NOW - NOW % 3_600_000, 9)],
        ..Matches::default()
    };
    let fields = pairs(&[&SLACK[..8], &[("action.text", HOSTILE)]].concat());
    let editing = Editing::posted(&web.config, None, &fields, NOW);
    let look = look(Role::Admin);
    let mut page = Page::new(&web, &look, &editing, &fields);
    (page.tested, page.tried) = (Some(Ok(answer)), Some(Ok(matches)));
    let shown = page.body().into_string();
    assert!(!shown.contains("<img") && !shown.contains("<script"), "{shown}");
    assert!(
        shown.contains("It did not arrive") && shown.contains("after 0.4 s"),
        "{shown}"
    );
    assert!(
        shown.contains("5,000 events") && shown.contains("4,882") && !shown.contains("NaN"),
        "{shown}"
    );
    is_sound(&shown);
}

#[test]
fn a_whole_rule_is_told_and_shown_as_it_would_arrive() {
    let web = web(|_| {});
    let shown = page(&web, Role::Editor, &SLACK, true);
    assert!(
        shown.contains("<b>a lead is sold</b>") && !shown.contains("to fix before"),
        "{shown}"
    );
    assert!(shown.contains("<b>SafeDrive</b> bought 84512377, "), "{shown}");
    assert!(
        shown.contains("source.nothing is missing") && shown.contains(" of 4,000 characters"),
        "{shown}"
    );
    assert!(shown.contains("data-insert=\"{{$.buyer.name}}\""), "{shown}");
    // The sample's person isn't shown.
    assert!(
        !shown.contains("ana@example.com") && !shown.contains("15125550123"),
        "{shown}"
    );
    is_sound(&shown);
    // Without a token it can be previewed all the same.
    let without: Vec<(&str, &str)> = SLACK
        .into_iter()
        .filter(|(name, _)| *name != "action.token.secret")
        .collect();
    assert!(page(&web, Role::Editor, &without, false).contains("<b>SafeDrive</b>"));
}

#[test]
fn what_is_shown_is_what_fits_best_and_says_which_it_is() {
    let web = web(|_| {});
    let shown = |fields: &[(&str, &str)]| page(&web, Role::Editor, &[&SLACK[..], fields].concat(), false);
    let sample = shown(&[]);
    assert!(
        sample.contains("No event of this trigger came lately. This is its built-in sample."),
        "{sample}"
    );
    let event = |number: i64, trigger: &str, price: &str| {
        json!({"event_id": format!("e-{number}"), "trigger": trigger, "occurred_at": "2026-03-05T15:16:00Z", "lead_id": format!("L{number}"),
            "product": {"id": "12"}, "buyer": {"id": "1", "name": format!("Buyer{number}")}, "price": price})
    };
    for (number, trigger, price) in [
        (1, "lms.lead_sold", "90"),
        (2, "lms.lead_sold", "80"),
        (3, "lms.lead_sold", "10"),
        (4, "lms.lead_rejected", "99"),
    ] {
        web.resident.take_event(&event(number, trigger, price), NOW + number);
    }
    let dear = [("filters.price.op", "gte"), ("filters.price.a", "50")];
    let matches = shown(&dear);
    assert!(matches.contains("Lead L2, the newest event that matches."), "{matches}");
    assert!(
        matches.contains("<b>Buyer2</b> bought L2") && !matches.contains("doesn’t match"),
        "{matches}"
    );
    // Whether it is on says nothing about what it matches, and a token that is still to be chosen neither.
    let paused = shown(&[&dear[..], &[("status", "paused"), ("action.token.secret", "")]].concat());
    assert!(paused.contains("Lead L2, the newest event that matches."), "{paused}");
    let dearer = shown(&[("filters.price.op", "gte"), ("filters.price.a", "500")]);
    assert!(
        dearer.contains("None of the last 3 events of this trigger matches. Lead L3, the newest of them."),
        "{dearer}"
    );
    assert!(
        dearer.contains("This event doesn’t match.") && dearer.contains("and this lead has $10.00"),
        "{dearer}"
    );
    // What somebody chose stays.
    let place = format!("recent:{}", web.resident.events().newest(None).nth(1).unwrap().place);
    let chosen = shown(&[&dear[..], &[("with", &*place)]].concat());
    assert!(
        chosen.contains("Lead L3, the event that you chose.") && chosen.contains("doesn’t match"),
        "{chosen}"
    );
    let sample = shown(&[&dear[..], &[("with", "sample")]].concat());
    assert!(sample.contains("The built-in sample of this trigger."), "{sample}");
    let gone = shown(&[("with", "recent:1.0.0")]);
    assert!(gone.contains("no longer among the recent ones"), "{gone}");
}

#[test]
fn the_receivers_name_stands_beside_its_id_only_where_it_is_known() {
    let web = web(|_| {});
    let fields = pairs(&SLACK);
    let editing = Editing::posted(&web.config, None, &fields, NOW);
    let look = look(Role::Editor);
    let mut page = Page::new(&web, &look, &editing, &fields);
    let unknown = page.body().into_string();
    assert!(unknown.contains("where the app may read it") && unknown.contains(r#"hx-post="/rules/new/receiver""#));
    page.name = Some(Name::Is(HOSTILE.to_owned()));
    let named = page.body().into_string();
    assert!(named.contains("This is <b>") && !named.contains("<img"), "{named}");
    assert!(named.contains(r#"value="C0SALES""#), "the id stays: {named}");
    is_sound(&named);
    // What is sealed isn't opened for a name.
    let sealed = [
        ("action.type", "slack_message"),
        ("action.token.sealed", "x"),
        ("action.token.secret", "bot"),
        ("action.to.id", "C1"),
    ];
    assert_eq!(
        Editing::posted(&web.config, None, &pairs(&sealed), NOW).receiver(),
        None
    );
    let member = [
        ("action.type", "slack_message"),
        ("action.token.secret", "bot"),
        ("action.to.kind", "member"),
        ("action.to.id", " U1 "),
    ];
    let member = Editing::posted(&web.config, None, &pairs(&member), NOW)
        .receiver()
        .unwrap();
    assert_eq!((&*member.id, member.kind), ("U1", crate::slack::look_ups::Kind::User));
}

#[test]
fn one_fault_has_the_focus_and_several_are_listed() {
    let web = web(|_| {});
    let range = [
        ("filters.price.op", "between"),
        ("filters.price.a", "10"),
        ("filters.price.b", "20"),
    ];
    let mut fields = [&SLACK[..], &range].concat();
    fields[3].1 = "lms.campaign_rejected";
    let shown = page(&web, Role::Editor, &fields, true);
    assert!(shown.contains("to fix before this rule can be saved"), "{shown}");
    let focused: Vec<&str> = shown.split("autofocus").collect();
    assert_eq!(focused.len(), 2, "{shown}");
    let tag = focused[0].rsplit('<').next().unwrap();
    assert!(tag.contains(r#"name="filters.price.b""#), "{tag}");
    assert!(
        focused[1].split('>').next().unwrap().contains(r#"aria-invalid="true""#),
        "{shown}"
    );
    is_sound(&shown);
    // Before somebody tries to save, nothing is held against the reader.
    assert!(!page(&web, Role::Editor, &SLACK[..3], false).contains("to fix before"));
    let many = page(&web, Role::Editor, &SLACK[..5], true);
    assert!(many.contains("things to fix before"), "{many}");
    is_sound(&many);
}

#[test]
fn a_typed_token_is_nowhere_on_the_page() {
    let (_, public) = Keys::generate();
    let typed = [&SLACK[..], &[("action.token.typed", "xoxb-very-secret")]].concat();
    let shown = page(
        &web(|config| config.secrets.public_key = Some(public)),
        Role::Editor,
        &typed,
        true,
    );
    assert!(
        !shown.contains("very-secret") && shown.contains("sealed at "),
        "{shown}"
    );
    is_sound(&shown);
    let without = page(&web(|_| {}), Role::Editor, &typed, false);
    assert!(
        !without.contains("very-secret") && without.contains("secrets.public_key"),
        "{without}"
    );
}

#[test]
fn a_viewer_reads_and_changes_nothing() {
    let web = web(|_| {});
    let shown = page(&web, Role::Viewer, &SLACK, false);
    assert!(shown.contains("needs the role editor"), "{shown}");
    let fieldsets = shown.matches("<fieldset").count();
    assert_eq!(
        shown.matches("<fieldset class=\"fset\" disabled").count(),
        fieldsets,
        "{shown}"
    );
    for button in ["save", "trial", "test"] {
        let (_, rest) = shown.split_once(&format!(r#"value="{button}""#)).unwrap();
        assert!(rest.split('>').next().unwrap().contains("disabled"), "{button}");
    }
}

#[test]
fn every_trigger_action_and_level_has_a_page_that_is_sound_and_small() {
    let web = web(|_| {});
    for trigger in crate::rules::words::TRIGGERS {
        for (action, _) in super::action::ACTIONS {
            for (level, _) in super::fields::LEVELS {
                let rule = json!({"scope": {"level": level}, "trigger": trigger.name, "action": {"type": action}});
                let editing = Editing::of(&web.config, None, None, rule);
                let look = look(Role::Admin);
                let shown = Page::new(&web, &look, &editing, &[]).body().into_string();
                assert!(shown.len() < 100_000, "{}: {} bytes", trigger.name, shown.len());
                is_sound(&shown);
            }
        }
    }
}

#[test]
fn the_ready_rules_are_whole_where_slack_is_the_sandbox() {
    let (_, public) = Keys::generate();
    let sandbox = web(|config| {
        config.slack.api_url = "http://127.0.0.1:7070/api".into();
        config.secrets.public_key = Some(public);
    });
    let starters = new::starters(&sandbox);
    assert_eq!(starters.len(), 3);
    for (title, rule) in starters {
        let editing = Editing::of(&sandbox.config, None, None, rule);
        assert!(editing.is_whole(), "{title}: {:?}", editing.draft.errors);
        assert_eq!(editing.kept, Vec::<String>::new());
    }
    // Elsewhere nobody's channel is guessed.
    let real = web(|config| config.slack.api_url = "https://slack.com/api".into());
    for (_, rule) in new::starters(&real) {
        assert!(rule["action"].get("to").is_none() && rule["action"].get("token").is_none());
    }
}
