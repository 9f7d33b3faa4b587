use std::collections::BTreeSet;
use std::path::Path as FilePath;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::action::clevertap::{self, Nulls, Properties, Property, Upload, User, Whole};
use crate::action::slack::{OverLong, WHEN_BUSY_FIELDS};
use crate::action::slack_message::{SlackMessage, TO_FIELDS, To};
use crate::action::{self, ActionKind, ActionType, OnAmbiguous};
use crate::credential::{SecretName, one_spelling};
use crate::lead::{Call, Consumer, Entity, Payload};
use crate::reader::SECRET_FIELDS;
use crate::sealed::Sealed;
use crate::template::{OnMissing, Template};
use crate::yaml;
use std::time::Duration;

/// The lead event of the design, sold at 42.5000.
pub(super) fn sold() -> LeadEvent<'static> {
    let entity = |id: &'static str, name: &'static str| {
        let (id, name) = (Some(id.into()), Some(name.into()));
        Some(Entity { id, name })
    };
    LeadEvent {
        event_id: "0190f3c2".into(),
        trigger: "lms.lead_sold".into(),
        occurred_at: "2026-03-05T15:16:00.123Z".parse().unwrap(),
        lead_id: "84512377".into(),
        public_lead_id: Some("K7Q2M9".into()),
        status: Some("Sold".into()),
        is_test: Some(false),
        method: Some("POST".into()),
        product: entity("12", "Auto Insurance"),
        publisher: entity("3401", "BrightTraffic"),
        channel: entity("9012", "bt-auto-api"),
        source: Some(Entity { id: Some("sub-77".into()), name: None }),
        buyer: entity("210", "SafeDrive"),
        campaign: entity("5521", "SafeDrive TX 25-65"),
        pingtree: entity("31", "Auto main"),
        price: Some("42.5000".parse().unwrap()),
        payout: Some("29.7500".parse().unwrap()),
        revenue: None,
        currency: Some("USD".into()),
        reason_code: None,
        reason: None,
        transaction_id: None,
        attempt: Some(3),
        consumer: Some(Consumer { state: Some("TX".into()), zip: Some("78701".into()), ..Consumer::default() }),
        call: Some(Call { answered: Some(true), billable_seconds: Some(131), ..Call::default() }),
        fields: vec![("vehicle_year".into(), Some("2019".into())), ("score".into(), Some("5.00".into()))].into(),
        inlet: None,
        payload: Some(Payload::read(
            r#"{"plan":"pro","score":5,"half":0.50,"tags":["a",5,null,["b"]],"nested":{"x":[1]},"paid":true,"none":null}"#).unwrap(),
        ),
    }
}

/// One rule from YAML that must be valid.
pub(super) fn rule(text: &str) -> Rule {
    Rule::from_json(&value(text)).unwrap_or_else(|problems| panic!("{text}\n{problems:?}"))
}

pub(super) fn value(text: &str) -> Value {
    yaml::entries(text)
        .unwrap_or_else(|error| panic!("{text}\n{error}"))
        .remove(0)
        .value
}

/// A Slack rule at product 12 with these filters.
pub(super) fn filtered(filters: &str) -> Rule {
    rule(&format!("{SLACK}filters: {filters}\n"))
}

pub(super) const SLACK: &str = "\
id: big-auto-sales
scope: {level: product, id: \"12\"}
trigger: lms.lead_sold
action: {type: slack_message, token: {secret: sales-bot}, to: {channel: C0123ABCD}, text: \"Lead {{$.lead_id}}\"}
";
const EVENT: &str = "\
id: revenue
scope: {level: product, id: \"*\"}
trigger: lms.revenue_ping_back
action: {type: clevertap_event, account: acme, identity: \"{{$.consumer.email}}\", event_name: Charged}
";

const PROFILE: &str = "\
id: profile
scope: {level: product, id: \"*\"}
trigger: lms.lead_sold
action: {type: clevertap_profile, account: acme, identity: \"{{$.consumer.email}}\"}
";

/// `SLACK` or `EVENT` with one field set to another value, or taken out.
fn with(text: &str, field: &str, new: &str) -> Value {
    let mut rule = value(text);
    let mut names: Vec<&str> = field.split('.').collect();
    let last = names.pop().unwrap();
    let parent = names.into_iter().fold(&mut rule, |value, name| &mut value[name]);
    if new == "-" {
        parent.as_object_mut().unwrap().shift_remove(last).unwrap();
    } else {
        parent[last] = value(&format!("x: {new}"))["x"].clone();
    }
    rule
}

#[test]
fn a_rule_reads_as_it_is_written() {
    let slack = rule(SLACK);
    assert_eq!(
        (&*slack.id, slack.status, slack.include_test),
        ("big-auto-sales", Status::Active, false)
    );
    assert_eq!(
        slack.scope,
        Scope {
            level: Level::Product,
            id: Some("12".into())
        }
    );
    assert_eq!(slack.filters, Filters::default());
    assert_eq!(
        (slack.action.on_missing, slack.action.on_ambiguous),
        (OnMissing::Empty, OnAmbiguous::Retry)
    );
    let ActionKind::SlackMessage(SlackMessage {
        token,
        to,
        text,
        unfurl,
        over_long,
        pace,
    }) = slack.action.kind
    else {
        panic!()
    };
    let mut name = String::new();
    token.write_name(&mut name);
    assert_eq!((&*name, to), ("sales-bot", To::Channel("C0123ABCD".into())));
    assert_eq!(
        (text.as_str(), unfurl, over_long),
        ("Lead {{$.lead_id}}", None, OverLong::Truncate)
    );
    assert_eq!(pace, None);
    assert_eq!(rule(EVENT).scope.id, None, "* is every one");
    for (field, new, expected) in [
        ("scope.id", "12", "12"),
        ("scope.id", "0012", "0012"),
        ("scope.id", "12.50", "12.50"),
    ] {
        assert_eq!(
            Rule::from_json(&with(SLACK, field, new)).unwrap().scope.id.as_deref(),
            Some(expected)
        );
    }
    let long = Rule::from_json(&with(SLACK, "action.expires_after", "10m")).unwrap();
    assert_eq!(long.action.expires_after, Some(Duration::from_secs(600)));
    let nulls = SLACK.to_owned() + "name: null\nstatus:\nfilters: {price: ~, buyer: }\ninclude_test: ~\n";
    assert_eq!(rule(&nulls), rule(SLACK), "null is left out");
}

#[test]
fn slack_rules_say_how_they_come_when_there_are_many() {
    let pace = |field: &str, new: &str| {
        let rule = Rule::from_json(&with(SLACK, field, new)).unwrap();
        rule.action.kind.pace().cloned().unwrap_or_default()
    };
    let digest_after = |new: &str| pace("action.when_busy", new).digest_after;
    assert_eq!(digest_after("{digest_after: 1m30s}"), Some(Duration::from_secs(90)));
    assert_eq!((digest_after("each"), digest_after("~")), (None, None));
    assert_eq!(pace("action.max_rate", "20/h").max_rate.as_deref(), Some("20/h"));
    assert!(pace("action.thread", "lead").thread);
    assert_eq!(rule(EVENT).action.kind.pace(), None);
}

#[test]
fn rules_carry_credentials_sealed() {
    let sealed = Sealed::new([0xab; 8], &[1; 80]).unwrap();
    let written = format!("{{sealed: '{sealed}'}}");
    let kind = |text: &str, field: &str, new: &str| Rule::from_json(&with(text, field, new)).unwrap().action.kind;
    let token = kind(SLACK, "action.token", &written);
    assert_eq!(token.address().credential, "slack:sealed-abababababababab");
    assert_eq!(token.address().sealed, Some(&sealed));
    let own = format!("{{account_id: W8W-6ZZ-9Z5Z, region: in1, passcode: {written}}}");
    let account = kind(EVENT, "action.account", &own);
    assert_eq!(account.address().credential, "clevertap:sealed-abababababababab");
    assert_eq!(account.address().sealed, Some(&sealed));
    let own = Rule::from_json(&with(EVENT, "action.account", &own)).unwrap();
    assert_eq!(
        check::account(&own, &["acme"]),
        Ok(None),
        "it needs none of the config's"
    );
    assert_eq!(
        (
            rule(SLACK).action.kind.address().sealed,
            rule(EVENT).action.kind.address().sealed
        ),
        (None, None)
    );
}

#[test]
fn properties_keep_their_kinds() {
    let written = with(
        PROFILE,
        "action.properties",
        "{A: 5.50, B: true, C: ~, D: '{{$.price}}', E: {$add: ['{{$.lead_id}}', x]}, from: x}",
    );
    let ActionKind::Clevertap(Upload { properties, user, .. }) = Rule::from_json(&written).unwrap().action.kind else {
        panic!()
    };
    assert!(matches!(user, User::Identity(template) if template.as_str() == "{{$.consumer.email}}"));
    let template = |text: &str| Property::Template(Template::parse(text).unwrap());
    let constant = |text: &str| Property::Constant(Box::new(serde_json::from_str(text).unwrap()));
    let added = Property::List([template("{{$.lead_id}}"), template("x")].into());
    let expected = [
        ("A", constant("5.50")),
        ("B", constant("true")),
        ("C", constant("null")),
        ("D", template("{{$.price}}")),
        ("E", Property::Object([("$add".into(), added)].into())),
        ("from", template("x")),
    ];
    let expected = expected.map(|(name, property)| (name.into(), property));
    assert_eq!(*properties.named, expected);
    assert_eq!(properties.whole, None);
}

#[test]
fn properties_can_be_a_whole_object() {
    let of = |new: &str| match Rule::from_json(&with(EVENT, "action.properties", new)) {
        Ok(Rule { action, .. }) => match action.kind {
            ActionKind::Clevertap(Upload { properties, .. }) => properties,
            _ => panic!(),
        },
        Err(problems) => panic!("{new}: {problems:?}"),
    };
    let text = |text: &str| text.to_owned();
    let path = |path: &str| Template::of_path(crate::path::Path::parse(path).unwrap());
    let named = |name: &str, value: &str| (name.into(), Property::Template(Template::parse(value).unwrap()));
    assert_eq!(
        of("{from: $.payload, rename: {Old name: New}, drop: [a, 5], with: {B: x}}"),
        Properties {
            whole: Some(Box::new(Whole {
                from: path("$.payload"),
                rename: vec![(text("Old name"), text("New"))],
                drop: vec![text("a"), text("5")],
                nulls: Nulls::LeaveOut,
            })),
            named: [named("B", "x")].into(),
        }
    );
    let whole = |from| {
        Some(Box::new(Whole {
            from,
            rename: vec![],
            drop: vec![],
            nulls: Nulls::LeaveOut,
        }))
    };
    assert_eq!(of("{from: $.payload}").whole, whole(path("$.payload")));
    let deleting = Rule::from_json(&with(PROFILE, "action.properties", "{from: $.payload, nulls: delete}"));
    assert!(deleting.is_ok(), "{deleting:?}");
    let in_event = Rule::from_json(&with(EVENT, "action.properties", "{from: $.payload, nulls: delete}"));
    assert!(in_event.is_err(), "an event has no property that could be deleted");
    assert_eq!(
        of("{from: traits, drop: a}").whole.unwrap().drop,
        ["a"],
        "the $. may be left out"
    );
    let one = of("'{{$.traits | default: \"{}\"}}'");
    assert_eq!(
        one.whole,
        whole(Template::parse("{{$.traits | default: \"{}\"}}").unwrap())
    );
    // A property may have any of these names.
    let plain = of("{from: web, drop: now}");
    assert_eq!(
        (plain.whole.is_some(), of("{from: web}").named),
        (true, [named("from", "web")].into())
    );
    assert_eq!(*of("{rename: x}").named, [named("rename", "x")]);
}

/// (rule, field set, to what, where the problem is, what it says)
const REFUSED: &[(&str, &str, &str, &str, &str)] = &[
    (SLACK, "id", "-", "id", "missing"),
    (SLACK, "id", "Big", "id", "a-z"),
    (SLACK, "id", "-x", "id", "not starting"),
    (SLACK, "id", "12", "id", "as text"),
    (SLACK, "id", "\"\"", "id", "1 to 64"),
    (SLACK, "name", "5", "name", "quotes"),
    (SLACK, "name", "\" \"", "name", "blank"),
    (SLACK, "status", "enabled", "status", "active, paused, shadow"),
    (SLACK, "status", "Active", "status", "did you mean active"),
    (SLACK, "scope", "-", "scope", "missing"),
    (SLACK, "scope", "product", "scope", "object"),
    (SLACK, "scope.level", "-", "scope.level", "missing"),
    (SLACK, "scope.level", "prodcut", "scope.level", "did you mean product"),
    (SLACK, "scope.id", "~", "scope.id", "missing"),
    (SLACK, "scope.id", "true", "scope.id", "quotes"),
    (SLACK, "scope.id", "1e3", "scope.id", "quotes"),
    (SLACK, "scope.name", "x", "scope.name", "unknown field"),
    (SLACK, "trigger", "-", "trigger", "missing"),
    (SLACK, "trigger", "[a]", "trigger", "one text"),
    (SLACK, "include_test", "\"true\"", "include_test", "without quotes"),
    (SLACK, "filtres", "{}", "filtres", "did you mean filters"),
    (SLACK, "priority", "1", "priority", "known here are id, name"),
    (SLACK, "filters", "[]", "filters", "object"),
    (
        SLACK,
        "filters",
        "{methods: POST}",
        "filters.methods",
        "did you mean method",
    ),
    (SLACK, "filters", "{'a b': 1}", "filters['a b']", "unknown field"),
    (
        SLACK,
        "filters",
        "{method: post}",
        "filters.method",
        "did you mean POST",
    ),
    (
        SLACK,
        "filters",
        "{method: [POST, GET]}",
        "filters.method[1]",
        "POST, FORM",
    ),
    (SLACK, "filters", "{buyer: []}", "filters.buyer", "empty list"),
    (SLACK, "filters", "{buyer: [1, [2]]}", "filters.buyer[1]", "id"),
    (SLACK, "filters", "{buyer: \"\"}", "filters.buyer", "blank"),
    (SLACK, "filters", "{buyer: [null]}", "filters.buyer[0]", "id"),
    (SLACK, "filters", "{price: 25}", "filters.price", "{gte: 25}"),
    (
        SLACK,
        "filters",
        "{price: {}}",
        "filters.price",
        "needs one of gt, gte, lt, lte, between",
    ),
    (
        SLACK,
        "filters",
        "{price: {gt: 1, lt: 2}}",
        "filters.price",
        "not several",
    ),
    (
        SLACK,
        "filters",
        "{price: {eq: 1}}",
        "filters.price.eq",
        "unknown field",
    ),
    (SLACK, "filters", "{price: {gte: much}}", "filters.price.gte", "number"),
    (
        SLACK,
        "filters",
        "{price: {gte: 0.12345678901234567890123456789}}",
        "filters.price.gte",
        "28 digits",
    ),
    (
        SLACK,
        "filters",
        "{price: {between: 5}}",
        "filters.price.between",
        "two ends",
    ),
    (
        SLACK,
        "filters",
        "{price: {between: [1, 2, 3]}}",
        "filters.price.between",
        "two ends",
    ),
    (
        SLACK,
        "filters",
        "{price: {between: [1, x]}}",
        "filters.price.between[1]",
        "number",
    ),
    (
        SLACK,
        "filters",
        "{price: {between: [99.5, 10]}}",
        "filters.price.between",
        "crossed",
    ),
    (
        SLACK,
        "filters",
        "{price: {between: [\"100\", \"20\"]}}",
        "filters.price.between",
        "crossed",
    ),
    (
        EVENT,
        "filters",
        "{price: {between: [1, 2]}}",
        "filters.price.between",
        "only lead_sold and campaign_sold",
    ),
    (SLACK, "filters", "{where: {path: a}}", "filters.where", "list"),
    (SLACK, "filters", "{where: [x]}", "filters.where[0]", "object"),
    (
        SLACK,
        "filters",
        "{where: [{eq: 1}]}",
        "filters.where[0].path",
        "missing",
    ),
    (
        SLACK,
        "filters",
        "{where: [{path: $.a}]}",
        "filters.where[0]",
        "needs one of eq",
    ),
    (
        SLACK,
        "filters",
        "{where: [{path: '$.a[*]', eq: 1}]}",
        "filters.where[0].path",
        "column 5",
    ),
    (
        SLACK,
        "filters",
        "{where: [{path: a, equals: 1}]}",
        "filters.where[0].equals",
        "unknown field",
    ),
    (
        SLACK,
        "filters",
        "{where: [{path: a, eq: ~}]}",
        "filters.where[0].eq",
        "exists: false",
    ),
    (
        SLACK,
        "filters",
        "{where: [{path: a, in: TX}]}",
        "filters.where[0].in",
        "list",
    ),
    (
        SLACK,
        "filters",
        "{where: [{path: a, in: []}]}",
        "filters.where[0].in",
        "list",
    ),
    (
        SLACK,
        "filters",
        "{where: [{path: a, in: [1, ~]}]}",
        "filters.where[0].in[1]",
        "null",
    ),
    (
        SLACK,
        "filters",
        "{where: [{path: a, gt: TX}]}",
        "filters.where[0].gt",
        "number",
    ),
    (
        SLACK,
        "filters",
        "{where: [{path: a, starts_with: [x]}]}",
        "filters.where[0].starts_with",
        "text",
    ),
    (
        SLACK,
        "filters",
        "{where: [{path: a, exists: 1}]}",
        "filters.where[0].exists",
        "true or false",
    ),
    (SLACK, "action", "-", "action", "missing"),
    (SLACK, "action", "slack_message", "action", "object"),
    (SLACK, "action.type", "-", "action.type", "slack_message, slack_webhook"),
    (
        SLACK,
        "action.type",
        "slack_mesage",
        "action.type",
        "did you mean slack_message",
    ),
    (SLACK, "action.event_name", "x", "action.event_name", "unknown field"),
    (
        SLACK,
        "action.when_busy",
        "often",
        "action.when_busy",
        "digest_after: 60s",
    ),
    (SLACK, "action.when_busy", "60s", "action.when_busy", "needs each"),
    (SLACK, "action.when_busy", "{}", "action.when_busy.digest_after", "60s"),
    (
        SLACK,
        "action.when_busy",
        "{digest_after: 60}",
        "action.when_busy.digest_after",
        "unit",
    ),
    (
        SLACK,
        "action.when_busy",
        "{digest_after: 0s}",
        "action.when_busy.digest_after",
        "every message",
    ),
    (
        SLACK,
        "action.when_busy",
        "{digest_after: 60s, max: 3}",
        "action.when_busy.max",
        "unknown field",
    ),
    (SLACK, "action.max_rate", "0/h", "action.max_rate", "pause"),
    (SLACK, "action.max_rate", "20/d", "action.max_rate", "20/h"),
    (SLACK, "action.thread", "channel", "action.thread", "needs one of lead"),
    (EVENT, "action.max_rate", "20/h", "action.max_rate", "unknown field"),
    (SLACK, "action.max_rate", "20", "action.max_rate", "20/h"),
    (SLACK, "action.thread", "x", "action.thread", "lead"),
    (SLACK, "action.unfurl", "1", "action.unfurl", "true or false"),
    (SLACK, "action.over_long", "cut", "action.over_long", "truncate, fail"),
    (
        SLACK,
        "action.on_missing",
        "fial",
        "action.on_missing",
        "did you mean fail",
    ),
    (
        SLACK,
        "action.on_ambiguous",
        "drop",
        "action.on_ambiguous",
        "retry, dead",
    ),
    (SLACK, "action.expires_after", "60", "action.expires_after", "unit"),
    (
        SLACK,
        "action.expires_after",
        "soon",
        "action.expires_after",
        "duration",
    ),
    (SLACK, "action.expires_after", "0s", "action.expires_after", "at once"),
    (SLACK, "action.text", "-", "action.text", "missing"),
    (SLACK, "action.text", "\"\"", "action.text", "blank"),
    (SLACK, "action.text", "\"a {{$.b\"", "action.text", "column 3"),
    (SLACK, "action.to", "-", "action.to", "missing"),
    (SLACK, "action.to", "C0123ABCD", "action.to", "object"),
    (SLACK, "action.to", "{}", "action.to", "channel, member"),
    (
        SLACK,
        "action.to",
        "{channel: C1, member: U1}",
        "action.to",
        "not several",
    ),
    (SLACK, "action.token", "-", "action.token", "{secret: NAME}"),
    (
        SLACK,
        "action.token",
        "xoxb-17653672481-FAKE",
        "action.token",
        "LEADLANE_SECRET_<NAME>",
    ),
    (SLACK, "action.token", "sales-bot", "action.token", "secrets.dir"),
    (
        SLACK,
        "action.token",
        "{}",
        "action.token",
        "needs one of secret, sealed",
    ),
    (
        SLACK,
        "action.token",
        "{secret: a, sealed: b}",
        "action.token",
        "not several",
    ),
    (
        SLACK,
        "action.token",
        "{secret: sealed-0123456789abcdef}",
        "action.token.secret",
        "not starting with sealed-",
    ),
    (SLACK, "action.token", "{secret: a b}", "action.token.secret", "letters"),
    (
        SLACK,
        "action.token",
        "{secret: ../etc}",
        "action.token.secret",
        "letters",
    ),
    (
        SLACK,
        "action.token",
        "{secret: xoxb-17653672481-FAKE}",
        "action.token.secret",
        "in the open",
    ),
    (
        SLACK,
        "action.token",
        "{sealed: FAKE}",
        "action.token.sealed",
        "has no fingerprint; write",
    ),
    (
        SLACK,
        "action.token",
        "{sealed: 0123456789abcdef.FAKE}",
        "action.token.sealed",
        "leadlane secrets seal",
    ),
    (
        SLACK,
        "action.token",
        "{sealed: 0123456789abcdef.FAKE*}",
        "action.token.sealed",
        "is no base64",
    ),
    (
        SLACK,
        "action.token",
        "{sealed: 5}",
        "action.token.sealed",
        "fingerprint",
    ),
    (
        SLACK,
        "action.token",
        "FAKE-token",
        "action.token",
        "leadlane secrets seal",
    ),
    (
        SLACK,
        "action.text",
        "see https://hooks.slack.com/services/T0/B0/FAKE",
        "action.text",
        "in the open",
    ),
    (SLACK, "name", "our xapp-1-FAKE", "name", "in the open"),
    (
        SLACK,
        "filters",
        "{where: [{path: a, in: [XOXP-FAKE]}]}",
        "filters.where[0].in[0]",
        "in the open",
    ),
    (
        EVENT,
        "action.properties",
        "{a: {xoxb-FAKE: 1}}",
        "action.properties.a['…']",
        "in the open",
    ),
    (EVENT, "action.account", "-", "action.account", "missing"),
    (EVENT, "action.account", "[A]", "action.account", "name of an account"),
    (
        EVENT,
        "action.account",
        "{}",
        "action.account.account_id",
        "W8W-6ZZ-9Z5Z",
    ),
    (
        EVENT,
        "action.account",
        "{account_id: A, region: in1}",
        "action.account.passcode",
        "missing",
    ),
    (
        EVENT,
        "action.account",
        "{account_id: A, region: evil.example/, passcode: FAKE}",
        "action.account.region",
        "in1",
    ),
    (
        EVENT,
        "action.account",
        "{account_id: A, region: in1, passcode: FAKE}",
        "action.account.passcode",
        "in the open",
    ),
    (
        EVENT,
        "action.account",
        "{account_id: A, region: in1, passcode: {secret: p}}",
        "action.account.passcode",
        "clevertap.accounts",
    ),
    (
        EVENT,
        "action.account",
        "{account_id: A, region: in1, passcode: {sealed: FAKE}}",
        "action.account.passcode.sealed",
        "fingerprint",
    ),
    (EVENT, "action.account", "a b", "action.account", "name of an account"),
    (
        EVENT,
        "action.identity",
        "-",
        "action",
        "needs one of identity, object_id",
    ),
    (EVENT, "action.object_id", "x", "action", "not several"),
    (EVENT, "action.event_name", "-", "action.event_name", "missing"),
    (
        EVENT,
        "action.created_at",
        "\"{{a[}}\"",
        "action.created_at",
        "column 5",
    ),
    (EVENT, "action.properties", "[a]", "action.properties", "object"),
    (
        EVENT,
        "action.properties",
        "{'a b': [\"{{\"]}",
        "action.properties['a b'][0]",
        "column 1",
    ),
    (
        EVENT,
        "action.properties",
        "'{{$.a}} {{$.b}}'",
        "action.properties",
        "one placeholder alone",
    ),
    (
        EVENT,
        "action.properties",
        "{from: '$..a'}",
        "action.properties.from",
        "column 3",
    ),
    (
        EVENT,
        "action.properties",
        "{from: [a], drop: [b]}",
        "action.properties.from",
        "$.payload",
    ),
    (
        EVENT,
        "action.properties",
        "{from: $.payload, only: [a]}",
        "action.properties.only",
        "rename",
    ),
    (
        EVENT,
        "action.properties",
        "{from: $.payload, rename: [a]}",
        "action.properties.rename",
        "old and new",
    ),
    (
        EVENT,
        "action.properties",
        "{from: $.payload, rename: {a: ''}}",
        "action.properties.rename.a",
        "drop",
    ),
    (
        EVENT,
        "action.properties",
        "{from: $.payload, rename: {a: b}, drop: a}",
        "action.properties.rename.a",
        "take it out",
    ),
    (
        EVENT,
        "action.properties",
        "{from: $.payload, with: [a]}",
        "action.properties.with",
        "names and values",
    ),
    (
        EVENT,
        "action.properties",
        "{Tags: {$add: [a]}}",
        "action.properties.Tags",
        "only a profile's",
    ),
    (
        PROFILE,
        "action.properties",
        "{Tags: {$ad: [a]}}",
        "action.properties.Tags.$ad",
        "did you mean $add?",
    ),
    (
        PROFILE,
        "action.properties",
        "{Tags: {$multiply: 2}}",
        "action.properties.Tags.$multiply",
        "$incr",
    ),
    (
        PROFILE,
        "action.properties",
        "{Tags: {$add: [a], $remove: [b]}}",
        "action.properties.Tags",
        "one operator alone",
    ),
    (
        PROFILE,
        "action.properties",
        "{from: $.payload, with: {Tags: {$add: 5}}}",
        "action.properties.with.Tags.$add",
        "list of texts",
    ),
    (
        PROFILE,
        "action.properties",
        "{Tags: {$remove: []}}",
        "action.properties.Tags.$remove",
        "list of texts",
    ),
    (
        PROFILE,
        "action.properties",
        "{Points: {$incr: many}}",
        "action.properties.Points.$incr",
        "a number",
    ),
    (
        PROFILE,
        "action.properties",
        "{Points: {$delete: 1}}",
        "action.properties.Points.$delete",
        "needs true",
    ),
    (EVENT, "action.text", "x", "action.text", "unknown field"),
];

#[test]
fn refusals_name_the_field_and_the_cure() {
    for (text, field, new, place, reason) in REFUSED {
        let problems = Rule::from_json(&with(text, field, new)).expect_err(&format!("{field}: {new}"));
        let found = problems.iter().find(|problem| problem.field == *place);
        assert!(
            found.is_some_and(|problem| problem.message.contains(reason)),
            "{field}: {new}\n{problems:?}"
        );
        let told = format!("{problems:?}");
        assert!(!told.contains("FAKE"), "a secret is never quoted: {told}");
        assert_eq!(
            problems.iter().filter(|problem| problem.field == *place).count(),
            1,
            "{problems:?}"
        );
    }
}

#[test]
fn levels_refuse_the_filters_they_imply() {
    for (level, filter, refused) in [
        ("publisher", "publisher", true),
        ("publisher", "buyer", false),
        ("publisher", "campaign", false),
        ("campaign", "campaign", true),
        ("campaign", "buyer", true),
        ("campaign", "publisher", false),
        ("product", "publisher", false),
        ("product", "campaign", false),
        ("inlet", "buyer", false),
    ] {
        let mut rule = with(SLACK, "filters", &format!("{{{filter}: 1}}"));
        rule["scope"]["level"] = level.into();
        match Rule::from_json(&rule) {
            Ok(_) => assert!(!refused, "{filter} at {level}"),
            Err(problems) => {
                assert!(refused, "{problems:?}");
                assert_eq!(problems.len(), 1);
                assert_eq!(problems[0].field, format!("filters.{filter}"));
            }
        }
    }
}

#[test]
fn ranges_are_for_sold_alone() {
    for trigger in crate::lead::TRIGGERS {
        let mut rule = with(SLACK, "filters", "{price: {between: [10, 99.5]}}");
        rule["trigger"] = trigger.into();
        assert_eq!(Rule::from_json(&rule).is_ok(), trigger.ends_with("_sold"), "{trigger}");
    }
}

#[test]
fn every_problem_is_told_at_once() {
    let rule = value(
        "{id: A, scope: {level: publisher}, trigger: lms.lead_rejected, typo: 1,
          filters: {publisher: 1, price: {between: [2, 1]}, where: [{path: 'a..b', gt: x}]},
          action: {type: slack_webhook, url: 'https://x.example/FAKE', on_missing: no}}",
    );
    let problems = Rule::from_json(&rule).unwrap_err();
    let fields: BTreeSet<&str> = problems.iter().map(|problem| problem.field.as_str()).collect();
    let expected = [
        "id",
        "scope.id",
        "typo",
        "filters.publisher",
        "filters.price.between",
        "filters.where[0].path",
        "filters.where[0].gt",
        "action.url",
        "action.text",
        "action.on_missing",
    ];
    assert_eq!(fields, BTreeSet::from(expected), "{problems:?}");
    assert_eq!(problems[0].to_string().split_once(": ").unwrap().0, problems[0].field);
    for wrong in [json!(null), json!([]), json!("xoxb-FAKE")] {
        let problems = Rule::from_json(&wrong).unwrap_err();
        assert!(problems.iter().all(|problem| problem.field == "rule"), "{problems:?}");
    }
}

#[test]
fn what_a_rule_matches_and_why_not() {
    let event = sold();
    for (change, failed) in [
        (("id", "x"), &[][..]),
        (("status", "shadow"), &[]),
        (("status", "paused"), &["status active or shadow | paused"]),
        (
            ("trigger", "lms.lead_rejected"),
            &["trigger lms.lead_rejected | lms.lead_sold"],
        ),
        (("scope", "{level: product, id: 13}"), &["scope product 13 | 12"]),
        (("scope", "{level: campaign, id: 5521}"), &[]),
        (("scope", "{level: publisher, id: '*'}"), &[]),
        (("scope", "{level: inlet, id: '*'}"), &["scope inlet * | -"]),
        (
            ("filters", "{method: [FORM, POST], buyer: [1, 210], source: sub-77}"),
            &[],
        ),
        (
            ("filters", "{method: FORM, buyer: [1, 2]}"),
            &["filters.method FORM | POST", "filters.buyer 1 or 2 | 210"],
        ),
        (("filters", "{price: {gt: 42.49}}"), &[]),
        (("filters", "{price: {gt: 42.5}}"), &["filters.price.gt 42.5 | 42.5"]),
        (("filters", "{price: {gte: '42.50'}}"), &[]),
        (("filters", "{price: {lt: 42.5}}"), &["filters.price.lt 42.5 | 42.5"]),
        (("filters", "{price: {lte: 42.5}}"), &[]),
        (("filters", "{price: {between: [42.5, 50]}}"), &[]),
        (("filters", "{price: {between: [10, 42.5]}}"), &[]),
        (
            ("filters", "{price: {between: [10, 42.4999]}}"),
            &["filters.price.between 10 and 42.4999 | 42.5"],
        ),
        (
            (
                "filters",
                "{where: [{path: $.consumer.state, in: [CA, 5], ne: FL}, {path: $.reason, exists: true}]}",
            ),
            &[
                "filters.where[0] $.consumer.state in [\"CA\", 5] | TX",
                "filters.where[1] $.reason exists true | -",
            ],
        ),
    ] {
        let rule = Rule::from_json(&with(SLACK, change.0, change.1)).unwrap();
        let found: Vec<String> = rule
            .explain(&event)
            .into_iter()
            .map(|failed| format!("{failed} | {}", failed.found.as_deref().unwrap_or("-")))
            .collect();
        assert_eq!(found, failed, "{change:?}");
        assert_eq!(rule.matches(&event), failed.is_empty(), "{change:?}");
    }
}

#[test]
fn test_events_are_for_rules_that_include_them() {
    for (is_test, include_test, matches) in [
        (Some(true), "false", false),
        (Some(true), "true", true),
        (Some(false), "false", true),
        (Some(false), "true", true),
        (None, "false", true),
    ] {
        let event = LeadEvent { is_test, ..sold() };
        let rule = Rule::from_json(&with(SLACK, "include_test", include_test)).unwrap();
        assert_eq!(rule.matches(&event), matches, "{is_test:?} {include_test}");
        assert_eq!(rule.explain(&event).is_empty(), matches);
    }
}

#[test]
fn the_price_is_the_triggers_own() {
    for (trigger, matches) in [
        ("lms.lead_sold", false),
        ("lms.campaign_rejected", false),
        ("lms.publisher_earning_received", true),
        ("call_logic.publisher_earning_received", true),
        ("lms.revenue_ping_back", false), // has none
    ] {
        let event = LeadEvent {
            trigger: trigger.into(),
            ..sold()
        };
        let mut rule = with(SLACK, "filters", "{price: {lt: 30}}");
        rule["trigger"] = trigger.into();
        assert_eq!(Rule::from_json(&rule).unwrap().matches(&event), matches, "{trigger}");
    }
}

#[test]
fn inlets_are_a_scope() {
    let event = LeadEvent {
        inlet: Some("product".into()),
        trigger: "track.signup".into(),
        ..sold()
    };
    let text = SLACK.replace("lms.lead_sold", "track.signup") + "filters: {where: [{path: $.plan, eq: pro}]}\n";
    let at = |scope: &str| rule(&text.replace("{level: product, id: \"12\"}", scope));
    assert!(at("{level: inlet, id: product}").matches(&event));
    assert!(at("{level: inlet, id: '*'}").matches(&event));
    assert!(!at("{level: inlet, id: crm}").matches(&event));
    assert!(!at("{level: inlet, id: '*'}").matches(&LeadEvent {
        inlet: None,
        ..event.clone()
    }));
}

#[test]
fn the_worked_examples_have_no_problems() {
    let mut ids = BTreeSet::new();
    for file in std::fs::read_dir(FilePath::new(env!("CARGO_MANIFEST_DIR")).join("config/rules")).unwrap() {
        let path = file.unwrap().path();
        if path.is_dir() {
            continue; // recipes, which hold more than rules
        }
        for entry in yaml::entries(&std::fs::read_to_string(&path).unwrap()).unwrap() {
            let rule = Rule::from_json(&entry.value).unwrap_or_else(|problems| panic!("{path:?} {problems:?}"));
            assert_eq!(check::warnings(&rule), [], "{path:?} {}", rule.id);
            assert_eq!(check::account(&rule, &["acme"]), Ok(None));
            assert!(ids.insert(rule.id.to_string()), "{} stands twice", rule.id);
        }
    }
    assert!(ids.len() >= 5, "{ids:?}");
}

#[test]
fn the_schema_knows_what_the_reader_knows() {
    let schema: Value = serde_json::from_str(include_str!("../../schemas/rule.schema.json")).unwrap();
    let mut expected = vec![
        (&schema, read::RULE_FIELDS.to_vec()),
        (&schema["$defs"]["scope"], read::SCOPE_FIELDS.to_vec()),
        (&schema["$defs"]["filters"], read::FILTER_FIELDS.to_vec()),
        (&schema["$defs"]["price"], read::PRICE_FIELDS.to_vec()),
        (&schema["$defs"]["condition"], read::CONDITION_FIELDS.to_vec()),
        (&schema["$defs"]["whole"], clevertap::WHOLE_FIELDS.to_vec()),
        (&schema["$defs"]["to"], TO_FIELDS.to_vec()),
        (&schema["$defs"]["digest"], WHEN_BUSY_FIELDS.to_vec()),
        (&schema["$defs"]["secret"], SECRET_FIELDS.to_vec()),
        (&schema["$defs"]["own_account"], clevertap::ACCOUNT_FIELDS.to_vec()),
        (&schema["$defs"]["passcode"], clevertap::PASSCODE_FIELDS.to_vec()),
    ];
    let job: Value = serde_json::from_str(include_str!("../../schemas/delivery_job.avsc")).unwrap();
    let action = job["fields"]
        .as_array()
        .unwrap()
        .iter()
        .find(|field| field["name"] == "action");
    let names = ActionType::ALL.map(ActionType::as_str);
    assert_eq!(action.unwrap()["type"]["symbols"], json!(names));
    for action in ActionType::ALL {
        let name = action.as_str();
        assert_eq!(serde_json::to_value(action).unwrap(), name);
        let reference = json!({"$ref": format!("#/$defs/{name}")});
        assert!(
            schema["$defs"]["action"]["oneOf"]
                .as_array()
                .unwrap()
                .contains(&reference),
            "{name}"
        );
        expected.push((&schema["$defs"][name], [action::FIELDS, action.fields()].concat()));
    }
    for (object, fields) in expected {
        let described: BTreeSet<&str> = object["properties"]
            .as_object()
            .unwrap()
            .keys()
            .map(String::as_str)
            .collect();
        assert_eq!(described, fields.into_iter().collect(), "{}", object["description"]);
        assert_eq!(object["additionalProperties"], json!(false));
    }
    for example in schema["examples"].as_array().unwrap() {
        Rule::from_json(example).unwrap();
    }
}

#[test]
fn spellings_of_a_secret_are_one_credential_and_one_of_them_is_written() {
    for name in ["sales-bot", "sales_bot", "SALES-BOT"] {
        for (place, kind, rest) in [
            ("token", "slack_message", "to: {channel: C1}, text: hi"),
            ("url", "slack_webhook", "text: hi"),
        ] {
            let yaml = format!(
                "{{id: a, name: a, status: active, scope: {{level: product, id: '1'}}, trigger: lms.lead_sold, \
                 action: {{type: {kind}, {place}: {{secret: {name}}}, {rest}}}}}"
            );
            let written = crate::yaml::documents(&yaml).unwrap().remove(0).value;
            // What is in the topic stays in force, with the one limit.
            let credential = Rule::from_json(&written).unwrap().action.kind.address().credential;
            let wanted = if place == "token" {
                "slack:sales-bot"
            } else {
                "webhook:sales-bot"
            };
            assert_eq!(credential, wanted);
            let refusals = check::refusals(&written);
            assert_eq!(refusals.is_empty(), name == "sales-bot", "{name}: {refusals:?}");
            for problem in refusals {
                let said = problem.to_string();
                assert!(
                    said.starts_with(&format!("action.{place}.secret: write it as sales-bot;")),
                    "{said}"
                );
            }
        }
    }
    for name in ["Sealed-x", "sealed_x", "SEALED-0123456789ABCDEF"] {
        let mut written = value(SLACK);
        written["action"]["token"] = json!({"secret": name});
        let rule = Rule::from_json(&written).expect("what is in the topic stays in force");
        assert!(
            rule.action.kind.address().credential.starts_with("slack:sealed_"),
            "{name}"
        );
        let refused = check::refusals(&written).remove(0).to_string();
        assert!(
            refused.starts_with("action.token.secret: name the secret otherwise"),
            "{refused}"
        );
    }
    for (written, wanted) in [
        ("slack:Sales_Bot", "slack:sales-bot"),
        ("webhook:a_b", "webhook:a-b"),
        ("slack:sealed-0123456789abcdef", "slack:sealed-0123456789abcdef"),
        ("slack:Sealed-0123456789abcdef", "slack:sealed_0123456789abcdef"),
        ("clevertap:Acme_IN", "clevertap:Acme_IN"),
        ("slack:", "slack:"),
    ] {
        assert_eq!(one_spelling(written), wanted);
    }
}

proptest! {
    #[test]
    fn secret_names_follow_their_pattern(name in "([sS]ealed[-_])?[a-zA-Z0-9_. -]{0,60}") {
        let fits = |(at, c): (usize, char)| c.is_ascii_alphanumeric() || (at > 0 && (c == '_' || c == '-'));
        let expected = (1..=64).contains(&name.len()) && name.chars().enumerate().all(fits);
        let secret = SecretName::new(&name);
        prop_assert_eq!(secret.is_some(), expected && !name.starts_with("sealed-"));
        // One variable is one secret, however it is spelt.
        if let Some(secret) = secret {
            let variable = format!("LEADLANE_SECRET_{}", name.to_uppercase().replace('-', "_"));
            prop_assert_eq!(secret.variable(), variable);
            prop_assert!(!secret.as_str().starts_with("sealed-"), "it is no sealed value's");
            prop_assert_eq!(SecretName::new(secret.as_str()), Some(secret.clone()));
            prop_assert_eq!(SecretName::new(&name.to_uppercase().replace('-', "_")), Some(secret));
        }
    }
}
