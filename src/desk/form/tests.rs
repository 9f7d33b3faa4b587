use proptest::prelude::*;
use serde_json::{Map, Number, json};

use super::*;
use crate::lead::TRIGGERS;
use crate::lead::any::{json as any_json, put};
use crate::rules::Rule;
use crate::yaml;

/// A rule of each action, with all that a form can show.
const RULES: &str = r##"
id: big-auto-sales
name: Big auto sales
status: active
scope: {level: product, id: "0012"}
trigger: lms.lead_sold
include_test: true
filters:
  method: [POST, FORM]
  publisher: ["3401", "a, b", "0002"]
  buyer: ["210"]
  price: {between: [10, 99.50]}
  where:
    - {path: $.consumer.state, in: [TX, FL, "5", 5, true, "a, b"]}
    - {path: "$.fields['Car, new']", gte: 2010.0, lt: 2020}
    - {path: $.reason, ne: duplicate, exists: true}
    - {path: $.lead_id, exists: false}
    - {path: $.call.answered, eq: true}
    - {path: $.reason, contains: "5", starts_with: " a"}
action:
  type: slack_message
  token: {secret: sales-bot}
  to: {channel: C0123ABCD}
  text: "  *{{$.buyer.name}}*\n\tbought \"{{$.lead_id}}\"\n"
  thread: lead
  unfurl: false
  on_missing: skip
  on_ambiguous: dead
  expires_after: 24h
  when_busy: {digest_after: 60s}
  max_rate: 20/h
  over_long: fail
---
id: hook
scope: {level: inlet, id: "*"}
trigger: survey.answered
action:
  type: slack_webhook
  url: {secret: hook}
  text: x
  channel: "#sales"
  username: Leads
  icon_url: https://x.example/a.png
  when_busy: each
---
id: profile
scope: {level: campaign, id: "5521"}
trigger: lms.lead_sold
action:
  type: clevertap_profile
  account: acme
  identity: "{{$.consumer.email}}"
  created_at: "{{$.call.started_at}}"
  properties:
    Name: "{{$.consumer.first_name}}"
    Price: "{{$.price}}"
    Zip: "0012"
    Five: "5"
    Number: 5.00
    Vip: true
    Text: "true"
    Empty: ""
    Quoted: "\"x\""
---
id: event
scope: {level: publisher, id: "3401"}
trigger: call_logic.lead_sold
action:
  type: clevertap_event
  account: acme
  object_id: "{{$.lead_id}}"
  event_name: Call Sold
  properties: {from: $.payload}
"##;

fn rules() -> Vec<Value> {
    let entries = yaml::entries(RULES).unwrap().into_iter();
    entries.map(|entry| entry.value).collect()
}

fn pairs(fields: &[(&str, &str)]) -> Vec<(String, String)> {
    let pair = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    fields.iter().map(pair).collect()
}

fn back(fields: &[(&str, &str)]) -> Value {
    let posted = rule(&pairs(fields));
    assert_eq!(posted.problems, [], "{fields:?}");
    posted.rule
}

#[test]
fn a_rule_goes_through_the_form_and_is_the_same() {
    for written in rules() {
        let form = form(&written);
        assert_eq!(form.kept, Vec::<String>::new());
        let posted = rule(&form.fields);
        assert_eq!((posted.rule, posted.problems), (written, vec![]));
    }
}

#[test]
fn the_repositorys_own_rules_are_shown_and_mean_the_same() {
    let mut count = 0;
    for file in [
        include_str!("../../../config/rules/slack-message.yaml"),
        include_str!("../../../config/rules/slack-webhook.yaml"),
        include_str!("../../../config/rules/clevertap-profile.yaml"),
        include_str!("../../../config/rules/clevertap-event.yaml"),
    ] {
        for entry in yaml::entries(file).unwrap() {
            let form = form(&entry.value);
            let read = |rule: &Value| Rule::from_json(rule).unwrap();
            assert_eq!(read(&rule(&form.fields).rule), read(&entry.value));
            count += 1;
            // An operator of CleverTap's alone is for YAML.
            assert!(
                form.kept.iter().all(|kept| kept == "action.properties.Products"),
                "{:?}",
                form.kept
            );
        }
    }
    assert_eq!(count, 7);
}

#[test]
fn fields_are_named_by_what_they_hold() {
    let fields = form(&rules()[0]).fields;
    let expected = pairs(&[
        ("id", "big-auto-sales"),
        ("name", "Big auto sales"),
        ("status", "active"),
        ("scope.level", "product"),
        ("scope.id", "0012"),
        ("trigger", "lms.lead_sold"),
        ("include_test", "true"),
        ("filters.method", "POST"),
        ("filters.method", "FORM"),
        ("filters.publisher", "3401"),
        ("filters.publisher", "\"a, b\""),
        ("filters.publisher", "0002"),
        ("filters.buyer", "210"),
        ("filters.price.op", "between"),
        ("filters.price.a", "10"),
        ("filters.price.b", "99.50"),
        ("where.0.path", "$.consumer.state"),
        ("where.0.op", "in"),
        ("where.0.value", "TX, FL, \"5\", 5, true, \"a, b\""),
        ("where.1.path", "$.fields['Car, new']"),
        ("where.1.op", "gte"),
        ("where.1.value", "2010.0"),
        ("where.1.op", "lt"),
        ("where.1.value", "2020"),
    ]);
    assert_eq!(fields[..expected.len()], expected);
}

#[test]
fn what_a_person_types_is_read_as_they_mean_it() {
    let posted = back(&[
        ("id", "r"),
        ("name", " "),
        ("scope.level", "product"),
        ("scope.id", " 0012 "),
        ("trigger", "lms.lead_sold"),
        ("include_test", "false"),
        ("include_test", "on"),
        ("filters.publisher", "3401, 3402"),
        ("filters.publisher", ""),
        ("filters.price.op", "gte"),
        ("filters.price.a", " 25.00 "),
        ("filters.price.b", "ignored"),
        ("where.10.path", "$.b"),
        ("where.10.op", "eq"),
        ("where.10.value", "\"5\""),
        ("where.2.path", "$.a"),
        ("where.2.op", "in"),
        ("where.2.value", "TX,FL , "),
        ("where.3.path", ""),
        ("where.3.op", "eq"),
        ("where.3.value", ""),
        ("where.4.path", "$.c"),
        ("where.4.op", "exists"),
        ("where.4.value", ""),
        ("action.type", "slack_message"),
        ("action.token.secret", "sales-bot"),
        ("action.token.sealed", "f00d.c2VhbGVk"),
        ("action.to.kind", "member"),
        ("action.to.id", "U1"),
        ("action.text", "a\r\nb"),
        ("action.url.secret", "of another action"),
        ("action.unfurl", ""),
        ("csrf", "not of the form"),
    ]);
    assert_eq!(
        posted,
        json!({
            "id": "r", "scope": {"level": "product", "id": "0012"}, "trigger": "lms.lead_sold", "include_test": true,
            "filters": {
                "publisher": ["3401", "3402"], "price": {"gte": Number::from_string_unchecked("25.00".into())},
                "where": [{"path": "$.a", "in": ["TX", "FL"]}, {"path": "$.c", "exists": true}, {"path": "$.b", "eq": "5"}],
            },
            "action": {"type": "slack_message", "token": {"sealed": "f00d.c2VhbGVk"}, "to": {"member": "U1"}, "text": "a\nb"},
        })
    );
    assert_eq!(back(&[]), json!({}));
    let half = back(&[("filters.price.op", "between"), ("filters.price.a", "25")]);
    assert_eq!(half["filters"]["price"], json!({"between": [25, null]}));
    let wrong = back(&[("filters.price.op", "gte"), ("filters.price.a", "x")]);
    assert_eq!(wrong["filters"]["price"], json!({"gte": "x"}));
}

#[test]
fn what_only_yaml_can_show_is_kept_and_named() {
    let written = json!({
        "id": "r", "frist": 1, "scope": {"level": "product", "id": "1", "x": [1]}, "trigger": "t",
        "filters": {"publisher": [], "price": {"gte": 1, "lte": 2}, "where": [{"path": "$.a", "eq": [1]}, {"path": "$.b", "eq": 1}]},
        "action": {"type": "clevertap_profile", "account": {"account_id": "A", "region": "in1", "passcode": {"sealed": "x"}},
                   "identity": "a\nb", "text": "another's",
                   "properties": {"Tags": {"$add": ["a"]}, "Null": null, "Name": "x", "Lines": "a\nb"}},
    });
    let shown = form(&written);
    assert_eq!(
        shown.kept,
        [
            "frist",
            "scope.x",
            "filters.publisher",
            "filters.price",
            "filters.where[0]",
            "action.account",
            "action.identity",
            "action.text",
            "action.properties.Tags",
            "action.properties.Null",
            "action.properties.Lines",
        ]
    );
    let posted = rule(&shown.fields);
    assert_eq!(
        (posted.rule, posted.problems),
        (
            json!({
                "id": "r", "frist": 1, "scope": written["scope"], "trigger": "t", "filters": written["filters"],
                "action": {"type": "clevertap_profile", "account": written["action"]["account"], "identity": "a\nb",
                           "properties": written["action"]["properties"]},
            }),
            vec![]
        )
    );
    let whole =
        json!({"id": "r", "action": {"type": "clevertap_profile", "properties": {"from": "$.a", "drop": ["b"]}}});
    assert_eq!(form(&whole).kept, ["action.properties"]);
    assert_eq!(rule(&form(&whole).fields).rule, whole);
    // Another action is chosen: what was of the old one alone goes.
    let mut fields = form(&whole).fields;
    fields
        .iter_mut()
        .filter(|(name, _)| name == "action.type")
        .for_each(|(_, value)| *value = "slack_webhook".into());
    assert_eq!(
        rule(&fields).rule,
        json!({"id": "r", "action": {"type": "slack_webhook"}})
    );
    assert_eq!(rule(&form(&json!("no rule")).fields).rule, json!("no rule"));
}

#[test]
fn what_the_form_cannot_hold_is_a_problem() {
    let posted = rule(&pairs(&[
        ("action.type", "clevertap_event"),
        ("properties.0.name", "A"),
        ("properties.0.value", "1"),
        ("properties.3.name", "A"),
        ("properties.3.value", "2"),
        ("properties.4.name", ""),
        ("properties.4.value", ""),
        ("keep.frist", "{"),
    ]));
    let places: Vec<_> = posted.problems.iter().map(|problem| problem.place.as_str()).collect();
    assert_eq!(places, ["properties.3.name", "frist"]);
}

#[test]
fn the_form_offers_what_a_rule_may_have() {
    for trigger in TRIGGERS.into_iter().chain(["survey.answered"]) {
        for level in Level::ALL {
            let offered = offered(trigger, level);
            let mut filters: Vec<(String, Value)> = Vec::new();
            for party in Party::ALL {
                filters.push((party.as_str().to_owned(), json!(["1"])));
            }
            for operator in ["gte", "gt", "lte", "lt", "between"] {
                let value = if operator == "between" { json!([1, 2]) } else { json!(1) };
                filters.push((format!("price {operator}"), json!({ operator: value })));
            }
            for (name, value) in filters {
                let (field, operator) = name.split_once(' ').unwrap_or((&name, ""));
                let written = json!({"id": "r", "trigger": trigger, "scope": {"level": level.as_str(), "id": "1"}, "filters": {field: value},
                                     "action": {"type": "slack_webhook", "url": {"secret": "s"}, "text": "x"}});
                // Neither refused nor warned about.
                let is_fine = Rule::from_json(&written).is_ok_and(|rule| {
                    let warnings = crate::rules::check::warnings(&rule);
                    warnings.iter().all(|warning| !warning.field.starts_with("filters."))
                });
                let is_offered = match field {
                    "price" => offered.price_operators.contains(&operator),
                    party => offered.parties.iter().any(|offered| offered.as_str() == party),
                };
                assert_eq!(is_offered, is_fine, "{trigger} {level:?} {name}");
            }
            assert_eq!(offered.price.is_some(), !offered.price_operators.is_empty());
        }
    }
    assert_eq!(
        offered("lms.revenue_ping_back", Level::Product).price.as_deref(),
        Some("Revenue")
    );
    assert!(!offered("lms.lead_sold", Level::Product).call && offered("call_logic.lead_sold", Level::Product).call);
    let webhook: Vec<_> = settings(ActionType::SlackWebhook).collect();
    assert!(webhook.contains(&"icon_url") && webhook.contains(&"on_missing") && !webhook.contains(&"token"));
}

/// A rule in the one form of those that say the same.
fn canonical(rule: &Value) -> Value {
    let Some(members) = rule.as_object() else {
        return rule.clone();
    };
    let given = |members: &Map<String, Value>| -> Map<String, Value> {
        let given = members.iter().filter(|(_, value)| !value.is_null());
        given.map(|(name, value)| (name.clone(), value.clone())).collect()
    };
    let id = |id: &Value| match id {
        Value::Number(number) if !number.as_str().contains(['e', 'E']) => number.to_string().into(),
        other => other.clone(),
    };
    let number = |value: &Value| match value.as_str().map(serde_json::from_str::<Number>) {
        Some(Ok(_)) => Value::Number(Number::from_string_unchecked(value.as_str().unwrap().to_owned())),
        _ => value.clone(),
    };
    let mut rule = given(members);
    for object in ["scope", "filters", "action"] {
        let Some(members) = rule.get(object).and_then(Value::as_object).map(given) else {
            continue;
        };
        let members: Map<String, Value> = members
            .into_iter()
            .map(|(name, value)| {
                let ids =
                    object == "filters" && (name == "method" || Party::ALL.iter().any(|party| party.as_str() == name));
                let value = match (&value, name.as_str()) {
                    (Value::Array(list), _) if ids => list.iter().map(id).collect(),
                    (value, _) if ids => vec![id(value)].into(),
                    (value, "id") if object == "scope" => id(value),
                    (Value::Object(price), "price") if object == "filters" && price.len() == 1 => {
                        let (operator, value) = price.iter().next().unwrap();
                        let value = match value {
                            Value::Array(ends) => ends.iter().map(number).collect(),
                            value => number(value),
                        };
                        json!({ operator: value })
                    }
                    _ => value,
                };
                (name, value)
            })
            .collect();
        match members.is_empty() {
            true => rule.remove(object),
            false => rule.insert(object.to_owned(), members.into()),
        };
    }
    // What belongs to another action goes.
    let kind = rule
        .get("action")
        .and_then(|action| action["type"].as_str())
        .and_then(action_of);
    if let (Some(kind), Some(action)) = (kind, rule.get_mut("action").and_then(Value::as_object_mut)) {
        let others = |name: &str| {
            ActionType::ALL
                .into_iter()
                .any(|action| action.fields().contains(&name))
        };
        action.retain(|name, _| !others(name) || settings(kind).any(|own| own == name));
    }
    rule.into()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]
    #[test]
    fn no_rule_is_lost_in_the_form(
        at in 0..4_usize,
        values in proptest::collection::vec((any::<proptest::sample::Index>(), any_json()), 0..4),
    ) {
        let mut written = rules().remove(at);
        put(&mut written, values);
        let posted = rule(&form(&written).fields);
        prop_assert_eq!(&posted.problems, &vec![]);
        prop_assert_eq!(canonical(&posted.rule), canonical(&written), "{:?}", form(&written).fields);
        // A rule that can be saved means the same.
        if let Ok(read) = Rule::from_json(&written) {
            prop_assert_eq!(Rule::from_json(&posted.rule), Ok(read));
        }
    }

    #[test]
    fn any_fields_make_a_rule(fields in proptest::collection::vec((
        "(id|scope\\.id|filters\\.(publisher|price\\.(op|a|b))|where\\.[0-9]{1,2}\\.(path|op|value)|keep\\.(where\\.1|filters|action\\.text|x)|action\\.(type|to\\.id|text)|properties\\.[0-9]\\.(name|value)|.{0,6})",
        "(in|eq|between|slack_message|clevertap_event|\"|\\{\\}|5|,| |.{0,5})",
    ), 0..12)) {
        // Once more through the form it is the same.
        let once = rule(&fields).rule;
        prop_assert_eq!(canonical(&rule(&form(&once).fields).rule), canonical(&once));
    }
}
