use proptest::prelude::*;
use serde_json::json;

use super::Run::{Deleted, Inserted, Same};
use super::*;
use crate::rules::tests::value;

const BASE: &str = r#"
id: r
name: Big sales
scope: {level: product, id: "12"}
trigger: lms.lead_sold
filters:
  publisher: ["3401"]
  price: {between: [25, 500]}
  where:
    - {path: $.consumer.state, in: [TX, FL]}
action:
  type: slack_message
  token: {secret: sales-bot}
  to: {channel: C0123ABCD}
  text: "*{{$.buyer.name}}* bought {{$.lead_id}}"
  expires_after: 72h
"#;

/// The base with fields in place of others.
fn with(changes: &[(&str, Value)]) -> Value {
    let mut rule = value(BASE);
    for (pointer, new) in changes {
        match rule.pointer_mut(pointer) {
            Some(old) => *old = new.clone(),
            None => {
                let (object, name) = pointer.rsplit_once('/').unwrap();
                rule.pointer_mut(object).unwrap()[name] = new.clone();
            }
        }
    }
    rule
}

fn told(changes: &[Change]) -> Vec<String> {
    let side = |side: &Option<String>| side.clone().unwrap_or_else(|| "-".to_owned());
    let line = |change: &Change| format!("{}: {} > {}", change.label, side(&change.before), side(&change.after));
    changes.iter().map(line).collect()
}

#[test]
fn a_difference_reads_field_by_field() {
    let after = with(&[
        ("/name", json!(null)),
        ("/status", json!("shadow")),
        ("/scope/id", json!("*")),
        ("/filters/publisher", json!(3401)),
        ("/filters/price", json!({"between": [30, 500]})),
        (
            "/filters/where",
            json!([{"path": "$.consumer.state", "in": ["TX", "GA", "FL"]}, {"path": "$.fields.vehicle_year", "gte": 2010},
                   {"path": "$.consumer.state", "exists": true}]),
        ),
        ("/action/expires_after", json!("24h")),
        ("/action/max_rate", json!("20/h")),
        ("/action/to", json!({"member": "U1"})),
    ]);
    assert_eq!(
        told(&difference(&value(BASE), &after)),
        [
            "Name: Big sales > -",
            "Level and id: product 12 > any product",
            "Price: $25 to $500 > $30 to $500",
            "State: is TX or FL > is TX, GA or FL",
            "Channel or member: channel C0123ABCD > member U1",
            "Too late after: 72 hours > 24 hours",
            "Vehicle year: - > is 2010 or more",
            "State: - > has a value",
            "Most messages: - > 20 an hour",
            "Status: - > on trial",
        ]
    );
    assert_eq!(difference(&after, &after), []);
    // An id is the same as a number, a list of one as the one.
    assert_eq!(difference(&value(BASE), &with(&[("/scope/id", json!(12))])), []);
}

#[test]
fn properties_are_fields_and_a_whole_object_is_one() {
    let of = |properties: Value| json!({"action": {"type": "clevertap_profile", "properties": properties}});
    let named = of(json!({"A": 1, "B.x": null, "C": "c"}));
    assert_eq!(
        told(&difference(&named, &of(json!({"A": 2, "B.x": null, "D": null})))),
        ["Property A: 1 > 2", "Property C: c > -", "Property D: - > null"]
    );
    let whole = difference(&named, &of(json!({"from": "$.payload"})));
    assert!(
        whole.iter().any(|change| change.path == "action.properties"),
        "{whole:?}"
    );
}

#[test]
fn two_people_change_one_rule() {
    let (base, mine, theirs) = (
        value(BASE),
        with(&[
            ("/filters/price", json!({"between": [25, 750]})),
            ("/action/text", json!(":car: *{{$.buyer.name}}* bought {{$.lead_id}}")),
            ("/filters/where/0/in", json!(["TX", "GA", "FL"])),
            ("/name", json!("Bigger sales")),
        ]),
        with(&[
            ("/filters/price", json!({"between": [30, 500]})),
            ("/action/max_rate", json!("20/h")),
            ("/action/expires_after", json!("24h")),
            ("/name", json!("Bigger sales")),
        ]),
    );
    let all = three_way(&base, &mine, &theirs);
    let by: Vec<_> = all
        .iter()
        .map(|merged| (merged.path.as_str(), merged.changed_by))
        .collect();
    assert_eq!(
        by,
        [
            ("name", ChangedBy::Alike),
            ("filters.price", ChangedBy::Both),
            ("filters.where[$.consumer.state]", ChangedBy::Me),
            ("action.text", ChangedBy::Me),
            ("action.expires_after", ChangedBy::Them),
            ("action.max_rate", ChangedBy::Them),
        ]
    );
    let price = &all[1];
    assert_eq!(
        (price.base.as_deref(), price.mine.as_deref(), price.theirs.as_deref()),
        (Some("$25 to $500"), Some("$25 to $750"), Some("$30 to $500"))
    );
    let merged = merge(&base, &mine, &theirs, &HashMap::new());
    assert_eq!(merged["filters"]["price"], theirs["filters"]["price"]);
    assert_eq!(merged["filters"]["where"], mine["filters"]["where"]);
    assert_eq!(
        (&merged["action"]["text"], &merged["action"]["max_rate"]),
        (&mine["action"]["text"], &json!("20/h"))
    );
    let picks = HashMap::from([
        ("filters.price".to_owned(), Pick::Mine),
        ("action.max_rate".to_owned(), Pick::Mine),
        ("filters.where[$.consumer.state]".to_owned(), Pick::Theirs),
    ]);
    let merged = merge(&base, &mine, &theirs, &picks);
    assert_eq!(merged["filters"]["price"], mine["filters"]["price"]);
    assert_eq!(merged["filters"]["where"], base["filters"]["where"]);
    assert_eq!(merged["action"].get("max_rate"), None);
    assert_eq!(merged["action"]["expires_after"], "24h");
}

#[test]
fn an_action_of_another_type_is_one_field() {
    let (base, theirs) = (value(BASE), with(&[("/action/max_rate", json!("20/h"))]));
    let mine = with(&[(
        "/action",
        json!({"type": "slack_webhook", "url": {"secret": "hook"}, "text": "x"}),
    )]);
    let all = three_way(&base, &mine, &theirs);
    let by: Vec<_> = all
        .iter()
        .map(|merged| (merged.path.as_str(), merged.changed_by))
        .collect();
    assert_eq!(by, [("action", ChangedBy::Both)]);
    let picks = HashMap::from([("action".to_owned(), Pick::Mine)]);
    assert_eq!(merge(&base, &mine, &theirs, &picks)["action"], mine["action"]);
}

#[test]
fn a_text_differs_by_its_words() {
    let run = |run: fn(String) -> Run, text: &str| run(text.to_owned());
    for (before, after, expected) in [
        ("", "", vec![]),
        ("a b", "a b", vec![run(Same, "a b")]),
        (
            "$25 to $500",
            "$30 to $500",
            vec![
                run(Same, "$"),
                run(Deleted, "25"),
                run(Inserted, "30"),
                run(Same, " to $500"),
            ],
        ),
        (
            "TX or FL",
            "TX, GA or FL",
            vec![run(Same, "TX"), run(Inserted, ", GA"), run(Same, " or FL")],
        ),
        (
            "a b c d",
            "a x c y",
            vec![
                run(Same, "a "),
                run(Deleted, "b"),
                run(Inserted, "x"),
                run(Same, " c "),
                run(Deleted, "d"),
                run(Inserted, "y"),
            ],
        ),
    ] {
        assert_eq!(runs(before, after), expected, "{before} {after}");
    }
    let (long, other) = ("a, ".repeat(50_000), "b; ".repeat(50_000));
    assert!(runs(&long, &other).len() <= 3);
}

/// One of a few values for each of some fields, or none.
fn any_rule() -> impl Strategy<Value = Value> {
    let field = |values: Vec<Value>| prop::option::of(prop::sample::select(values));
    let condition = prop::sample::select(vec![
        json!({"path": "$.a", "eq": 1}),
        json!({"path": "$.a", "eq": 2}),
        json!({"path": "$.b", "in": ["x"]}),
        json!({"path": "$.c", "exists": true}),
    ]);
    let properties = prop::collection::btree_map("[AB]", prop::sample::select(vec![json!(1), json!(null)]), 0..3);
    (
        field(vec![json!("one"), json!("two")]),
        field(vec![json!({"gte": 1}), json!({"gte": 2})]),
        field(vec![json!(["a"]), json!(["a", "b"])]),
        prop::collection::vec(condition, 0..4),
        prop::sample::select(vec!["clevertap_profile", "clevertap_profile", "clevertap_event"]),
        field(vec![json!("x"), json!("y")]),
        properties,
    )
        .prop_map(|(name, price, buyer, conditions, action, identity, properties)| {
            let mut rule = json!({"filters": {}, "action": {"type": action}});
            let properties = (!properties.is_empty()).then(|| json!(properties));
            let conditions = (!conditions.is_empty()).then(|| json!(conditions));
            for (object, member, value) in [
                ("", "name", name),
                ("/filters", "price", price),
                ("/filters", "buyer", buyer),
                ("/filters", "where", conditions),
                ("/action", "identity", identity),
                ("/action", "properties", properties),
            ] {
                if let Some(value) = value {
                    rule.pointer_mut(object).unwrap()[member] = value;
                }
            }
            rule
        })
}

/// A rule without what is empty.
fn plain(mut rule: Value) -> Value {
    for pointer in ["/action", ""] {
        let members = rule.pointer_mut(pointer).and_then(Value::as_object_mut).unwrap();
        members.retain(|_, value| value != &json!({}));
    }
    rule
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]
    #[test]
    fn a_difference_is_empty_for_the_same_alone(one in any_rule(), other in any_rule()) {
        let changes = difference(&one, &other);
        let sorted = |rule: &Value| {
            let mut rule = plain(rule.clone());
            if let Some(list) = rule.pointer_mut("/filters/where").and_then(Value::as_array_mut) {
                list.sort_by_key(|condition| condition["path"].to_string());
            }
            rule
        };
        prop_assert_eq!(changes.is_empty(), sorted(&one) == sorted(&other), "{:?}", changes);
    }

    #[test]
    fn who_changes_alone_gets_what_they_wrote(base in any_rule(), changed in any_rule()) {
        let none = HashMap::new();
        prop_assert_eq!(plain(merge(&base, &changed, &base, &none)), plain(changed.clone()));
        prop_assert_eq!(merge(&base, &base, &changed, &none), changed.clone());
        prop_assert_eq!(merge(&base, &changed, &changed, &none), changed);
    }

    #[test]
    fn each_field_is_as_it_was_picked(base in any_rule(), mine in any_rule(), theirs in any_rule(), picked in any::<u64>()) {
        let fields = three_way(&base, &mine, &theirs);
        // The second of a path is the first where that is left out.
        if fields.iter().any(|field| field.path.contains('#')) {
            return Ok(());
        }
        let pick = |at: usize| if picked >> at & 1 == 1 { Pick::Mine } else { Pick::Theirs };
        let picks: HashMap<_, _> = fields.iter().enumerate().map(|(at, field)| (field.path.clone(), pick(at))).collect();
        let merged = merge(&base, &mine, &theirs, &picks);
        let [own, other, result] = [&mine, &theirs, &merged].map(|rule| {
            let whole = fields.iter().any(|field| field.path == "action");
            Fields::of(rule, !whole)
        });
        for field in &fields {
            let wanted = if picks[&field.path] == Pick::Mine { &own } else { &other };
            prop_assert_eq!(result.get(&field.path), wanted.get(&field.path), "{}", field.path);
        }
    }

    #[test]
    fn runs_are_both_texts(before in "[ab ,é]{0,20}", after in "[ab ,é]{0,20}") {
        let runs = runs(&before, &after);
        let side = |without: fn(&Run) -> bool| runs.iter().filter(|run| !without(run)).map(|run| match run {
            Same(text) | Deleted(text) | Inserted(text) => text.as_str(),
        }).collect::<String>();
        prop_assert_eq!(side(|run| matches!(run, Inserted(_))), before);
        prop_assert_eq!(side(|run| matches!(run, Deleted(_))), after);
    }
}
