use serde_json::json;

use super::*;

/// A rule as JSON.
pub(in crate::desk) fn rule(id: &str, text: &str) -> Value {
    json!({
        "id": id, "name": format!("Rule {id}"), "trigger": "lms.lead_sold", "scope": {"level": "product", "id": "12"},
        "action": {"type": "slack_message", "token": {"secret": "t"}, "to": {"channel": "C0SALES"}, "text": text},
    })
}

/// A record of the topic; none is a deletion.
pub(in crate::desk) fn record(offset: i64, id: &str, value: Option<&Value>) -> Record {
    Record {
        offset,
        timestamp: 1000 + offset,
        key: Some(id.as_bytes().to_vec()),
        value: value.map(|value| value.to_string().into_bytes()),
        ..Record::default()
    }
}

pub(in crate::desk) fn view(records: &[Record]) -> View {
    let mut view = View::default();
    records.iter().for_each(|record| view.take(record));
    view
}

fn config() -> Config {
    Config::parse("test", "{}", []).unwrap()
}

#[test]
fn a_list_holds_what_meets_every_condition() {
    let mut paused = rule("beta", "hi");
    (paused["status"], paused["scope"]) = ("paused".into(), json!({"level": "campaign", "id": "*"}));
    let view = view(&[
        record(0, "alpha", Some(&rule("alpha", "hi"))),
        record(2, "beta", Some(&paused)),
        record(4, "junk", Some(&json!({"id": "junk"}))),
        record(6, "alpha", Some(&json!({"id": "alpha"}))),
        record(8, "gone", Some(&rule("gone", "hi"))),
        record(10, "gone", None),
    ]);
    let all = Filter::default();
    let ids = |set: fn(&mut Filter)| -> Vec<String> {
        let mut filter = Filter::default();
        set(&mut filter);
        list(&view, &filter).map(|listed| listed.id.to_owned()).collect()
    };
    let none: [&str; 0] = [];
    assert_eq!(ids(|_| {}), ["alpha", "beta", "junk"]);
    assert_eq!(ids(|filter| filter.level = Some(Level::Product)), ["alpha"]);
    assert_eq!(ids(|filter| filter.scope_id = Some("*".into())), ["beta"]);
    assert_eq!(
        ids(|filter| filter.trigger = Some("lms.lead_sold".into())),
        ["alpha", "beta"]
    );
    assert_eq!(ids(|filter| filter.trigger = Some("lms.other".into())), none);
    assert_eq!(
        ids(|filter| filter.action = Some(ActionType::SlackMessage)),
        ["alpha", "beta"]
    );
    assert_eq!(ids(|filter| filter.action = Some(ActionType::SlackWebhook)), none);
    assert_eq!(ids(|filter| filter.status = Some(Status::Paused)), ["beta"]);
    assert_eq!(ids(|filter| filter.text = Some("RULE a".into())), ["alpha"]);
    assert_eq!(ids(|filter| filter.text = Some("un".into())), ["junk"]);
    let both = |filter: &mut Filter| (filter.status, filter.text) = (Some(Status::Active), Some("beta".into()));
    assert_eq!(ids(both), none);
    let alpha = list(&view, &all).next().unwrap();
    assert_eq!(alpha.in_force.unwrap().version, 0);
    assert_eq!(alpha.rejected.map(|rejected| rejected.offset), Some(6));
    assert_eq!(alpha.changed_at, 1006);
    assert_eq!(get(&view, "alpha").unwrap().json(), rule("alpha", "hi"));
    for id in ["junk", "gone", "never"] {
        assert!(matches!(get(&view, id), Err(Error::NotFound(message)) if message.contains(id)));
    }
}

#[test]
fn a_view_knows_the_record_that_a_rule_stands_by_and_what_it_counts_stays_true() {
    let mut paused = rule("beta", "hi");
    paused["trigger"] = "lms.campaign_sold".into();
    let mut view = view(&[
        record(0, "alpha", Some(&rule("alpha", "hi"))),
        record(1, "beta", Some(&rule("beta", "hi"))),
        record(2, "alpha", Some(&json!({"id": "alpha"}))),
        record(3, "gone", Some(&rule("gone", "hi"))),
        record(4, "gone", None),
        record(5, "beta", Some(&paused)),
        record(6, "junk", Some(&json!({"id": "junk"}))),
        record(7, "lane:slack:t", None),
    ]);
    let told = |view: &View| -> (Vec<(String, usize)>, usize, Vec<String>) {
        let triggers = view.triggers().map(|name| (name.to_owned(), view.of_trigger(name)));
        let rejected = view.rejected().map(str::to_owned);
        (triggers.collect(), view.in_force(), rejected.collect())
    };
    let stands = |view: &View, id| view.last(id).map(|last| (last.offset, last.changed_at));
    let one = |name: &str, count| (name.to_owned(), count);
    let ids = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>();
    assert_eq!(
        told(&view),
        (
            vec![one("lms.campaign_sold", 1), one("lms.lead_sold", 1)],
            2,
            ids(&["alpha", "junk"])
        )
    );
    // What was rejected later doesn't stand; a deletion does.
    assert_eq!(stands(&view, "alpha"), Some((0, 1000)));
    assert_eq!(
        (stands(&view, "beta"), stands(&view, "gone")),
        (Some((5, 1005)), Some((4, 1004)))
    );
    assert_eq!((stands(&view, "never"), view.changed_at("alpha")), (None, Some(1002)));
    // What was read before changes nothing.
    view.take(&record(5, "beta", None));
    view.take(&record(8, "alpha", Some(&rule("alpha", "ho"))));
    view.take(&record(9, "beta", None));
    assert_eq!(told(&view), (vec![one("lms.lead_sold", 1)], 1, ids(&["junk"])));
    assert_eq!(
        (stands(&view, "alpha"), view.changed_at("alpha")),
        (Some((8, 1008)), Some(1008))
    );
}

#[test]
fn a_text_is_found_in_a_name_whatever_the_case() {
    for (name, text, has) in [
        ("Sales of Product 99", "product 99", true),
        ("Sales of Product 99", "product 990", false),
        ("aab", "ab", true),
        ("", "", true),
        ("x", "", true),
        ("", "x", false),
        ("Ärzte in KÖLN", "köln", true),
        ("\u{212a}elvin", "kelvin", true),
        ("Kelvin", "ö", false),
    ] {
        assert_eq!(has_folded(name, text), has, "{name:?} {text:?}");
    }
}

#[test]
fn a_draft_says_all_that_is_wrong_with_it_and_where() {
    let mut wrong = rule("Not an id", "{{$.lead_id");
    wrong["filters"] = json!({"price": {"between": [2, 1]}});
    let draft = Draft::of(&config(), wrong);
    let places: Vec<&str> = draft.errors.iter().map(|problem| problem.place.as_str()).collect();
    assert_eq!((draft.id.as_str(), &draft.rule), ("Not an id", &None));
    for place in ["id", "filters.price.between", "action.text"] {
        assert!(places.contains(&place), "{places:?}");
    }
    let mut doubtful = rule("doubtful", "{{$.no_such_field}}");
    doubtful["action"]["token"]["secret"] = "Not_Spelt".into();
    let draft = Draft::of(&config(), doubtful);
    assert!(draft.rule.is_some());
    assert_eq!(draft.errors[0].place, "action.token.secret");
    assert_eq!(draft.warnings[0].place, "action.text");
    assert_eq!(Draft::of(&config(), rule("fine", "hi")).errors, []);
}

#[test]
fn rules_of_a_text_have_ids_of_their_own_and_problems_their_places() {
    let text = format!("- {}\n- {}\n- {{id: 5}}\n", rule("a", "x"), rule("a", "y"));
    let mut drafts = read(&config(), &text).unwrap();
    tell_apart(&mut drafts);
    let places = yaml::places(&text);
    let first = |draft: &Draft| draft.errors.first().cloned();
    let all = drafts.iter().enumerate();
    let lines = all.map(|(at, draft)| Some(place(&places, at, &first(draft)?)?.line));
    assert_eq!(lines.collect::<Vec<_>>(), [None, Some(2), Some(3)]);
    let errors: Vec<usize> = drafts.iter().map(|draft| draft.errors.len()).collect();
    assert_eq!(errors[..2], [0, 1]);
    assert!(errors[2] > 0 && drafts[1].errors[0].to_string().contains("given twice"));
    for (text, wanted) in [("", "holds no rule"), ("a: [", "column 1")] {
        let error = read(&config(), text).unwrap_err().to_string();
        assert!(error.contains(wanted), "{error}");
    }
}

#[test]
fn rules_as_yaml_are_those_of_one_moment_in_pieces_of_whole_documents() {
    let rules: Vec<Value> = (0..300)
        .map(|n| rule(&format!("r{n:03}"), &"so long ".repeat(60)))
        .collect();
    let records = rules.iter().zip(0..).map(|(rule, offset)| {
        let id = rule["id"].as_str().unwrap();
        record(offset, id, Some(rule))
    });
    let mut view = view(&records.collect::<Vec<_>>());
    let texts = Texts::of(every(&view));
    view.take(&record(300, "r000", None));
    let pieces: Vec<String> = texts.collect();
    assert!(pieces.len() > 2, "{}", pieces.len());
    let longest = pieces.iter().map(String::len).max().unwrap();
    assert!(longest < PIECE + 2000, "{longest}");
    let documents: Vec<Value> = pieces
        .iter()
        .flat_map(|piece| read(&config(), piece).unwrap())
        .map(|draft| draft.written)
        .collect();
    assert_eq!(documents, rules);
    assert_eq!(read(&config(), &pieces.concat()).unwrap().len(), rules.len());
    assert_eq!(Texts::of(every(&View::default())).next(), None);
}
