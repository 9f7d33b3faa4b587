use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::lead::any::{json as any_json, put};
use crate::rules::tests::value;

const DESIGN: &str = r#"
id: big-auto-sales
scope: {level: product, id: "12"}
trigger: lms.lead_sold
filters:
  publisher: ["3401", 3402]
  price: {gte: 25}
  where: [{path: $.consumer.state, in: [TX, FL]}]
action:
  type: slack_message
  token: {secret: sales-bot}
  to: {channel: C0123ABCD}
  text: "Lead {{$.lead_id}}"
  max_rate: 20/h
"#;

/// The fields of the parts that are wrong.
fn wrong(written: &Value) -> Vec<String> {
    let parts = sentence(written, &|_, _| None);
    let wrong = parts.into_iter().filter(|part| part.is_wrong);
    wrong.filter_map(|part| part.field).collect()
}

#[test]
fn a_rule_is_one_sentence() {
    assert_eq!(
        summary(&value(DESIGN)),
        "When a lead is sold in product 12, posted by publisher 3401 or 3402, at $25 or more, and the state is TX or FL, \
         post to C0123ABCD as sales-bot, at most 20 an hour; more than that goes as one digest."
    );
    let parts = sentence(&value(DESIGN), &|_, _| None);
    let fields: Vec<_> = parts.iter().filter_map(|part| part.field.as_deref()).collect();
    assert_eq!(
        fields,
        [
            "trigger",
            "scope",
            "filters.publisher[0]",
            "filters.publisher[1]",
            "filters.price.gte",
            "filters.where[0].path",
            "filters.where[0].in",
            "action.to.channel",
            "action.token",
            "action.max_rate"
        ]
    );
    assert!(parts.iter().all(|part| !part.is_wrong));
}

#[test]
fn names_stand_for_ids_where_they_are_known() {
    let names = |named: Named, id: &str| match (named, id) {
        (Named::Scope(Level::Product), "12") => Some("Auto Insurance".to_owned()),
        (Named::Party(Party::Publisher), "3401") => Some("Bright & Co".to_owned()),
        (Named::SlackChannel, "C0123ABCD") => Some("#auto-sales".to_owned()),
        _ => None,
    };
    let told = text(&sentence(&value(DESIGN), &names));
    assert!(
        told.starts_with("When a lead is sold in Auto Insurance, posted by Bright & Co or publisher 3402, at"),
        "{told}"
    );
    assert!(told.contains("post to #auto-sales as sales-bot"), "{told}");
}

#[test]
fn every_part_of_a_rule_is_told() {
    let scope = "scope: {level: product, id: '*'}";
    let hook = "action: {type: slack_webhook, url: {secret: hook}, text: x}";
    let told = |text: &str| {
        let value = value(&format!("{{id: r, {text}}}"));
        assert!(Rule::from_json(&value).is_ok(), "{text}: {:?}", Rule::from_json(&value));
        summary(&value)
    };
    for (rule, expected) in [
        (
            format!("trigger: survey.answered, scope: {{level: inlet, id: survey}}, {hook}"),
            "When survey.answered happens through inlet survey, post through the webhook hook.",
        ),
        (
            format!(
                "trigger: lms.publisher_earning_received, scope: {{level: publisher, id: 3401}}, filters: {{price: {{gt: '40.50'}}, method: [POST, FORM]}}, {hook}"
            ),
            "When a publisher earns on a lead from publisher 3401, sent by POST or FORM, with a payout of more than $40.5, post through the webhook hook.",
        ),
        (
            format!(
                "trigger: lms.lead_sold, status: shadow, include_test: true, {scope}, filters: {{price: {{between: [25, 500]}}, channel: a, source: b, buyer: c, campaign: d, pingtree: e}}, {hook}"
            ),
            "When a lead is sold in any product, test leads too, over channel a, from source b, bought by buyer c, for campaign d, through ping tree e, at $25 to $500, post through the webhook hook. On trial: matches are counted, and nothing is sent.",
        ),
        (
            format!(
                "trigger: lms.lead_rejected, status: paused, {scope}, filters: {{where: [{{path: $.reason_code, ne: duplicate, exists: true}}, {{path: $.fields.vehicle_year, gte: 2010, lt: 2020}}, {{path: $.lead_id, exists: false}}, {{path: $.reason, starts_with: ' a', contains: '5'}}]}}, {hook}"
            ),
            "When a lead is rejected in any product, and the reason code is not duplicate and has a value, and the vehicle year is 2010 or more and is less than 2020, and the lead id has no value, and the reason starts with “ a” and contains “5”, post through the webhook hook. Paused: it matches nothing until it is resumed.",
        ),
        (
            format!(
                "trigger: lms.lead_sold, {scope}, action: {{type: slack_message, token: {{secret: bot}}, to: {{member: U1}}, text: x, thread: lead, when_busy: {{digest_after: 60s}}, max_rate: 1/m, expires_after: 24h, on_missing: skip, over_long: fail, on_ambiguous: dead}}"
            ),
            "When a lead is sold in any product, message U1 as bot, in the lead’s own thread, as one digest when they wait longer than 60 seconds, at most 1 a minute; more than that goes as one digest, or not at all after 24 hours; nothing is sent when a value is missing; a text that is too long makes a dead letter; an unclear answer makes a dead letter rather than a second try.",
        ),
        (
            format!(
                "trigger: lms.lead_sold, {scope}, action: {{type: slack_webhook, url: {{secret: hook}}, text: x, channel: '#sales', username: Leads, when_busy: each}}"
            ),
            "When a lead is sold in any product, post through the webhook hook to #sales as Leads.",
        ),
        (
            format!(
                "trigger: lms.lead_sold, {scope}, action: {{type: clevertap_profile, account: acme, identity: '{{{{$.consumer.email}}}}', properties: {{A: 1, B: 2}}}}"
            ),
            "When a lead is sold in any product, update the profile of {{$.consumer.email}} in the CleverTap account acme, with 2 properties.",
        ),
        (
            format!(
                "trigger: lms.lead_sold, {scope}, action: {{type: clevertap_event, account: acme, object_id: '{{{{$.lead_id}}}}', event_name: Sold, properties: {{from: $.payload}}, on_missing: fail}}"
            ),
            "When a lead is sold in any product, record the event Sold of {{$.lead_id}} in the CleverTap account acme, with all of $.payload; a missing value makes a dead letter.",
        ),
    ] {
        assert_eq!(told(&rule), expected);
    }
    let many = told(&format!(
        "trigger: lms.lead_sold, {scope}, filters: {{buyer: [1, 2, 3, 4, 5, 6, 7, 8, 9]}}, {hook}"
    ));
    assert!(many.contains("bought by buyer 1, 2, 3, 4, 5, 6 or 3 more"), "{many}");
}

#[test]
fn what_is_missing_or_wrong_is_told_and_marked() {
    for (written, told, marked) in [
        (
            json!({}),
            "When … happens in … …, do ….",
            vec!["trigger", "scope", "action"],
        ),
        (json!("a text"), "When … happens in … …, do ….", vec![]),
        (
            json!({"id": "r", "trigger": "lms.lead_sold", "scope": {"level": "product"}, "action": {"type": "slack_message"}}),
            "When a lead is sold in product …, post to … as …, with no text yet.",
            vec!["scope", "action.to", "action.token", "action.text"],
        ),
        (
            json!({"id": "r", "trigger": "lms.lead_sold", "scope": {"level": "publisher", "id": "3401"},
                   "filters": {"publisher": ["1"], "price": {"between": [25, 15]}, "where": [{"path": "$..", "eq": 1}, {"path": "$.a"}]},
                   "action": {"type": "clevertap_event", "account": "acme", "identity": "{{$.lead_id}}"}}),
            "When a lead is sold from publisher 3401, posted by publisher 1, at $25 to $15 (no price fits), and the $.. is 1, and the a …, \
             record the event … of {{$.lead_id}} in the CleverTap account acme.",
            vec![
                "filters.publisher[0]",
                "filters.price.between",
                "filters.where[0].path",
                "filters.where[1].path",
                "filters.where[1]",
                "action.event_name",
            ],
        ),
    ] {
        assert_eq!(summary(&written), told);
        assert_eq!(wrong(&written), marked, "{written}");
    }
}

#[test]
fn a_secret_in_the_wrong_place_is_not_told() {
    let secret = "xoxb-1234-hunter2";
    let mut rule = value(DESIGN);
    rule["action"]["token"] = secret.into();
    rule["scope"]["id"] = secret.into();
    rule["trigger"] = secret.into();
    rule["filters"]["where"][0]["in"] = secret.into();
    assert!(!summary(&rule).contains("hunter2"), "{}", summary(&rule));
}

proptest! {
    #[test]
    fn any_value_in_any_place_is_told(values in proptest::collection::vec((any::<proptest::sample::Index>(), any_json()), 0..4)) {
        let mut rule = value(DESIGN);
        put(&mut rule, values);
        let told = summary(&rule);
        prop_assert!(told.starts_with("When ") && told.len() < 20_000, "{}", told);
        // What can be saved has nothing that is marked as wrong.
        prop_assert!(Rule::from_json(&rule).is_err() || wrong(&rule).is_empty(), "{}", told);
    }
}
