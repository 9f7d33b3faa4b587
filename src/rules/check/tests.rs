use super::*;
use crate::rules::tests::{SLACK, rule, value};

/// (scope level, trigger, filters, text, fields warned about, what the first warning says)
const WARNED: &[(&str, &str, &str, &str, &str, &str)] = &[
    (
        "product",
        "lms.lead_sold",
        "{buyer: 1, price: {gt: 1}}",
        "{{$.fields.any}}",
        "",
        "",
    ),
    ("product", "survey.answered", "{}", "{{$.payload.a.b}}", "", ""),
    ("product", "survey.answered", "{}", "<!here> <@{{$.payload.a}}>", "", ""),
    (
        "product",
        "survey.answered",
        "{}",
        "<!{{$.payload.a}}>",
        "action.text",
        "whom <!…> mentions",
    ),
    ("product", "lms.lead_return", "{}", "x", "", ""),
    (
        "product",
        "lms.lead_sold",
        "{}",
        "{$.lead_id}",
        "action.text",
        "{$.lead_id} goes out as it stands; a placeholder has two braces, {{$.lead_id}}",
    ),
    ("product", "lms.lead_sold", "{}", "{{$.lead_id}} {x} {$ 5}", "", ""),
    ("product", "lms.lead_solt", "{}", "x", "trigger", "lms.lead_sold"),
    (
        "product",
        "lms.lead_rejected",
        "{buyer: 1}",
        "x",
        "filters.buyer",
        "never hold",
    ),
    (
        "product",
        "call_logic.lead_rejected",
        "{campaign: 1, pingtree: 1}",
        "x",
        "filters.campaign filters.pingtree",
        "no campaign",
    ),
    (
        "product",
        "lms.lead_rejected",
        "{price: {gt: 1}}",
        "x",
        "filters.price",
        "no price",
    ),
    ("product", "lms.campaign_rejected", "{buyer: 1}", "x", "", ""),
    ("campaign", "lms.lead_rejected", "{}", "x", "scope", "no campaign"),
    (
        "product",
        "lms.lead_sold",
        "{where: [{path: $.consumer.stat, eq: TX}]}",
        "x",
        "filters.where[0].path",
        "did you mean state?",
    ),
    (
        "product",
        "lms.lead_sold",
        "{where: [{path: $.byer.id, eq: x}]}",
        "x",
        "filters.where[0].path",
        "did you mean buyer?",
    ),
    (
        "product",
        "lms.lead_sold",
        "{where: [{path: $.traits.plan, eq: x}]}",
        "x",
        "filters.where[0].path",
        "inlet level",
    ),
    (
        "inlet",
        "lms.lead_sold",
        "{where: [{path: $.traits.plan, eq: x}, {path: $.source.type, eq: true}]}",
        "{{$.event}}",
        "",
        "",
    ),
    (
        "product",
        "lms.lead_sold",
        "{}",
        "{{$.price}} {{$.properties.name}}",
        "action.text",
        "names no field",
    ),
    (
        "product",
        "lms.lead_sold",
        "{}",
        "{{$.price.value}} {{$.buyer[0]}}",
        "action.text action.text",
        "write $.price",
    ),
    (
        "product",
        "lms.lead_sold",
        "{}",
        "{{$.buyer.id.x}} {{$.fields.a.b}}",
        "action.text action.text",
        "buyer has id, name",
    ),
    (
        "product",
        "lms.lead_sold",
        "{where: [{path: $.is_test, eq: true}]}",
        "x",
        "filters.where[0]",
        "include_test",
    ),
    (
        "product",
        "lms.lead_sold",
        "{where: [{path: $.reason, exists: false, eq: x}]}",
        "x",
        "filters.where[0]",
        "exists: false",
    ),
    (
        "product",
        "lms.lead_sold",
        "{where: [{path: $.reason, exists: false, ne: x}]}",
        "x",
        "",
        "",
    ),
    (
        "product",
        "lms.lead_sold",
        "{where: [{path: $.price, gt: 5, lt: 3}]}",
        "x",
        "filters.where[0]",
        "bounds",
    ),
    (
        "product",
        "lms.lead_sold",
        "{where: [{path: $.price, gte: 5, lt: 5}]}",
        "x",
        "filters.where[0]",
        "bounds",
    ),
    (
        "product",
        "lms.lead_sold",
        "{where: [{path: $.price, gte: 5, lte: 5}]}",
        "x",
        "",
        "",
    ),
    (
        "product",
        "lms.lead_sold",
        "{where: [{path: $.price, eq: '5'}]}",
        "x",
        "filters.where[0].eq",
        "without quotes",
    ),
    (
        "product",
        "lms.lead_sold",
        "{where: [{path: $.price, in: ['5', 6]}]}",
        "x",
        "",
        "",
    ),
    (
        "product",
        "lms.lead_sold",
        "{where: [{path: $.fields.insured, eq: true}]}",
        "x",
        "filters.where[0].eq",
        "is text",
    ),
    (
        "product",
        "lms.lead_sold",
        "{where: [{path: $.call.answered, eq: 'true'}]}",
        "x",
        "filters.where[0].eq",
        "a boolean",
    ),
    (
        "product",
        "lms.lead_sold",
        "{where: [{path: $.occurred_at, gt: 5}]}",
        "x",
        "filters.where[0].gt",
        "a time",
    ),
    (
        "product",
        "lms.lead_sold",
        "{where: [{path: $.buyer, eq: x}]}",
        "x",
        "filters.where[0].eq",
        "members",
    ),
    (
        "product",
        "lms.lead_sold",
        "{where: [{path: $.payload.a, eq: true}]}",
        "x",
        "",
        "",
    ),
];

#[test]
fn warnings_name_the_field_and_the_cure() {
    for (level, trigger, filters, text, fields, reason) in WARNED {
        let rule = rule(&format!(
            "{{id: x, scope: {{level: {level}, id: '12'}}, trigger: {trigger}, filters: {filters},
               action: {{type: slack_webhook, url: {{secret: hook}}, text: '{text}'}}}}"
        ));
        let found = warnings(&rule);
        let named: Vec<&str> = found.iter().map(|problem| problem.field.as_str()).collect();
        assert_eq!(named.join(" "), *fields, "{trigger} {filters} {text}: {found:?}");
        assert!(
            found.first().is_none_or(|problem| problem.message.contains(reason)),
            "{found:?}"
        );
    }
}

#[test]
fn what_costs_much_is_pointed_out() {
    let found = |scope: &str, filters: &str, action: &str| {
        let rule = rule(&format!(
            "{{id: x, scope: {{level: {scope}}}, trigger: lms.lead_sold, filters: {filters}, action: {action}}}"
        ));
        let found = warnings(&rule).into_iter();
        found
            .map(|problem| format!("{}: {}", problem.field, problem.message))
            .collect::<Vec<_>>()
    };
    let message = "{type: slack_webhook, url: {secret: hook}, text: x}";
    let record = "{type: clevertap_profile, account: acme, identity: '{{$.lead_id}}'}";
    for (scope, action, said) in [
        (
            "product, id: '*'",
            message,
            "of any product becomes a message; add a filter",
        ),
        (
            "publisher, id: '*'",
            record,
            "of any publisher becomes a record; add a filter",
        ),
    ] {
        let found = found(scope, "{}", action);
        assert!(
            found.len() == 1 && found[0].starts_with("filters: every event of lms.lead_sold "),
            "{found:?}"
        );
        assert!(found[0].contains(said), "{found:?}");
    }
    for (scope, filters) in [
        ("product, id: 12", "{}"),
        ("product, id: '*'", "{method: POST}"),
        ("product, id: '*'", "{channel: 1}"),
        ("product, id: '*'", "{price: {gt: 1}}"),
        ("product, id: '*'", "{where: [{path: $.consumer.state, exists: true}]}"),
    ] {
        assert_eq!(found(scope, filters, message), [""; 0], "{scope} {filters}");
    }
    let listed = |count: usize| {
        let values: Vec<String> = (0..count).map(|number| format!("'{number}'")).collect();
        format!("{{where: [{{path: $.consumer.zip, in: [{}]}}]}}", values.join(", "))
    };
    assert_eq!(found("product, id: '*'", &listed(LIST_MAX), message), [""; 0]);
    let long = found("product, id: '*'", &listed(LIST_MAX + 1), message);
    assert!(
        long.len() == 1 && long[0].starts_with("filters.where[0].in: has 1001 values"),
        "{long:?}"
    );
}

#[test]
fn a_field_that_is_always_missing_can_be_asked_for_in_vain_only() {
    // Every member that paths may name is one that lookup knows.
    for root in lead::FIELDS {
        assert_eq!(unknown_path(&Path::parse(root).unwrap()), None, "{root}");
        for name in lead::members(root).unwrap_or_default() {
            let path = Path::parse(&format!("$.{root}.{name}")).unwrap();
            assert_eq!(unknown_path(&path), None, "{path}");
            assert!(kind(&path).is_some_and(|kind| kind != Kind::Record), "{path}");
        }
    }
}

/// The fields that an action on sold leads is warned about.
fn fields_warned_of(action: &str) -> String {
    let rule = rule(&format!(
        "{{id: x, scope: {{level: product, id: '12'}}, trigger: lms.lead_sold, action: {{{action}}}}}"
    ));
    let found = warnings(&rule);
    let named: Vec<&str> = found.iter().map(|problem| problem.field.as_str()).collect();
    named.join(" ")
}

#[test]
fn what_clevertap_never_takes_is_warned_about() {
    for (action, field) in [
        (
            "type: clevertap_profile, account: acme, identity: '{{$.lead_id}}', properties: {from: $.x, with: {a: '{{$.y}}'}}",
            "action.properties action.properties.with.a",
        ),
        (
            "type: clevertap_profile, account: acme, identity: '{{$.lead_id}}', \
             properties: {from: $.payload, rename: {a: 'a.b', c: d}, with: {'e#': 1, f: [x]}}",
            "action.properties.rename.a action.properties.with['e#']",
        ),
        (
            "type: clevertap_event, account: acme, identity: '{{$.lead_id}}', event_name: App Launched, properties: {'e#': 1, f: [x]}",
            "action.event_name action.properties.f",
        ),
        (
            "type: clevertap_event, account: acme, identity: '{{$.lead_id}}', event_name: charged, properties: {Items: [{Name: x}]}",
            "",
        ),
        (
            "type: clevertap_event, account: acme, identity: '{{$.lead_id}}', event_name: Sold, properties: {Items: [{Name: x}], 'a:b': 1}",
            "action.properties.Items action.properties['a:b']",
        ),
        (
            "type: clevertap_event, account: acme, identity: '{{$.lead_id}}', event_name: Sold, properties: \
             {A: '{{$.price | number: 2}}', B: '{{$.price | money}}', C: '{{$.price}}', D: 'for {{$.price | money}}'}",
            "action.properties.A action.properties.B",
        ),
    ] {
        assert_eq!(fields_warned_of(action), field, "{action}");
    }
}

#[test]
fn destinations_that_look_wrong() {
    for (action, field) in [
        (
            "type: slack_message, token: {secret: a}, text: x, to: {channel: C0123ABCD}",
            "",
        ),
        (
            "type: slack_message, token: {secret: a}, text: x, to: {channel: G0123ABCD}",
            "",
        ),
        (
            "type: slack_message, token: {secret: a}, text: x, to: {channel: '#sales'}",
            "action.to.channel",
        ),
        (
            "type: slack_message, token: {secret: a}, text: x, to: {channel: U0123ABCD}",
            "action.to.channel",
        ),
        (
            "type: slack_message, token: {secret: a}, text: x, to: {member: W0123ABCD}",
            "",
        ),
        (
            "type: slack_message, token: {secret: a}, text: x, to: {member: '@ana'}",
            "action.to.member",
        ),
        ("type: slack_webhook, url: {secret: a}, text: x, channel: '#sales'", ""),
        ("type: clevertap_profile, account: acme, identity: '{{$.lead_id}}'", ""),
        (
            "type: clevertap_profile, account: acme, object_id: me",
            "action.object_id",
        ),
        (
            "type: clevertap_profile, account: acme, identity: '{{$.lead_id}}', properties: {'a b': [{c: '{{$.x}}'}]}",
            "action.properties['a b'][0].c",
        ),
        (
            "type: clevertap_profile, account: acme, identity: '{{$.consumer | lower}}'",
            "action.identity",
        ),
        (
            "type: clevertap_profile, account: acme, identity: '{{$.consumer | json}}'",
            "",
        ),
        (
            "type: clevertap_event, account: acme, identity: '{{$.buyer.id}}', event_name: '{{$.is_test}}'",
            "action.event_name",
        ),
        (
            "type: clevertap_event, account: acme, identity: '{{$.lead_id}}', event_name: '{{$.x}}'",
            "action.event_name",
        ),
        (
            "type: clevertap_event, account: acme, identity: '{{$.lead_id}}', event_name: x, created_at: '{{$.x}}'",
            "action.created_at",
        ),
    ] {
        assert_eq!(fields_warned_of(action), field, "{action}");
    }
}

#[test]
fn an_account_is_refused_or_warned_about() {
    let rule = rule(
        "{id: x, scope: {level: product, id: '*'}, trigger: lms.lead_sold,
          action: {type: clevertap_profile, account: acme, identity: '{{$.lead_id}}'}}",
    );
    assert_eq!(account(&rule, &["other", "acme"]), Ok(None));
    assert!(
        account(&rule, &[])
            .unwrap()
            .unwrap()
            .message
            .contains("clevertap.accounts")
    );
    assert!(
        account(&rule, &["acmee"])
            .unwrap_err()
            .message
            .contains("did you mean acmee")
    );
    assert_eq!(account(&rule, &["other"]).unwrap_err().field, "action.account");
    assert_eq!(
        account(&crate::rules::tests::filtered("{}"), &["other"]),
        Ok(None),
        "Slack has none"
    );
}

#[test]
fn a_rule_has_at_most_128_kib_of_json() {
    let mut written = value(SLACK);
    assert_eq!(size(&written), None);
    let rest = written.to_string().len() - written["action"]["text"].to_string().len() + 2;
    written["action"]["text"] = "x".repeat(RULE_MAX - rest).into();
    assert_eq!((written.to_string().len(), size(&written)), (RULE_MAX, None));
    written["action"]["text"] = "x".repeat(RULE_MAX - rest + 1).into();
    let problem = size(&written).unwrap().to_string();
    assert!(
        problem.contains("131073") && problem.contains("131072") && problem.contains("shorten"),
        "{problem}"
    );
    // What is in the topic is read all the same.
    assert!(Rule::from_json(&written).is_ok());
}

#[test]
fn a_channels_name_is_refused_where_it_is_written_anew() {
    let mut written = value(SLACK);
    written["action"]["to"]["channel"] = "#sales".into();
    let refused = refusals(&written);
    assert_eq!(refused.len(), 1, "{refused:?}");
    assert_eq!(
        refused[0].to_string(),
        "action.to.channel: is a channel's name, which can change; write its id, such as C0123ABCD, from the foot of the \
         channel's details"
    );
    assert!(Rule::from_json(&written).is_ok(), "what is in the topic stays in force");
}

#[test]
fn an_inlet_that_the_config_does_not_have_is_told() {
    let mut written = value(SLACK);
    written["scope"] = serde_json::json!({"level": "inlet", "id": "crm"});
    let said = |known: &[&str]| inlet(&Rule::from_json(&written).unwrap(), known).map(|problem| problem.to_string());
    assert_eq!(said(&["crm"]), None);
    assert_eq!(
        said(&["crn"]).unwrap(),
        "scope.id: is none of the config's inlets; did you mean crn?"
    );
    assert!(said(&[]).unwrap().contains("add it under inlets"));
    written["scope"]["id"] = "*".into();
    assert_eq!(inlet(&Rule::from_json(&written).unwrap(), &[]), None);
}
