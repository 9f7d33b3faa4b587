#![expect(clippy::too_many_lines, reason = "tables are long")]

use proptest::prelude::*;
use proptest::sample::Index;

use serde_json::Value;

use super::*;
use crate::lead::any::{NESTED, json as any_json, put};
use crate::lead::decode::decode;
use crate::lead::schemas::Schemas;

const EVENT: &str = r#"{"event_id":"e-1","trigger":"lms.lead_sold","occurred_at":"2026-03-05T15:16:00.123Z","lead_id":"L1",
 "product":{"id":"12"},"buyer":{"id":"210","name":"Safe <Drive>"},"price":"42.5000","consumer":{"first_name":"Ana","email":"ana@example.com"}}"#;

/// Plans the event with a rule of this action; `rest` are further fields of the rule.
fn planned(action: &str, rest: &str) -> Planned {
    let rule =
        format!("{{id: r-1, trigger: lms.lead_sold, scope: {{level: product, id: 12}}{rest}, action: {action}}}");
    let value = crate::yaml::documents(&rule).unwrap().remove(0).value;
    let rule = Rule::from_json(&value).unwrap_or_else(|problems| panic!("{problems:?}"));
    let schemas = Schemas::new();
    let event = decode(EVENT.as_bytes(), &schemas).unwrap();
    let source = Source {
        topic: "lead-events",
        partition: 3,
        offset: 42,
    };
    plan(&event, &Versioned { rule, version: 7 }, source, 1_772_723_761_000)
}

fn job(action: &str) -> DeliveryJob {
    match planned(action, "") {
        Planned::Job(job) => job,
        other => panic!("{action}: {other:?}"),
    }
}

fn failed(action: &str) -> String {
    match planned(action, "") {
        Planned::Failed { outcome, detail } => {
            assert_eq!(outcome.result, OutcomeResult::Dead);
            assert_eq!(outcome.reason.as_deref(), Some("template_failed"));
            detail
        }
        other => panic!("{action}: {other:?}"),
    }
}

const TO: &str = "type: slack_message, token: {secret: bot}, to: {channel: C1}";

#[test]
fn the_four_actions_become_their_requests() {
    for (action, lane, body) in [
        (
            "{type: slack_message, token: {secret: bot}, to: {channel: C1}, text: '{{$.buyer.name}} {{$.price | money}}', unfurl: false}",
            "slack:bot/C1",
            r#"{"channel":"C1","text":"Safe &lt;Drive&gt; $42.50","unfurl_links":false,"unfurl_media":false}"#,
        ),
        (
            "{type: slack_message, token: {secret: bot}, to: {member: U1}, text: hi}",
            "slack:bot/U1",
            r#"{"channel":"U1","text":"hi"}"#,
        ),
        (
            "{type: slack_webhook, url: {secret: hook}, text: hi, channel: '#sales', username: Leads}",
            "webhook:hook",
            r##"{"text":"hi","channel":"#sales","username":"Leads"}"##,
        ),
        (
            "{type: clevertap_profile, account: acme, identity: '{{$.consumer.email}}', properties: {Name: '{{$.consumer.first_name}}', Price: '{{$.price}}', City: '{{$.consumer.city}}', Sold: '{{$.occurred_at | date}}', Tags: {$add: ['{{$.product.id}}']}, Vip: true}}",
            "clevertap:acme",
            r#"{"type":"profile","identity":"ana@example.com","ts":1772723760,"profileData":{"Name":"Ana","Price":42.5,"Sold":"$D_1772723760","Tags":{"$add":["12"]},"Vip":true}}"#,
        ),
        (
            "{type: clevertap_event, account: acme, object_id: 'o-{{$.lead_id}}', event_name: Lead sold, created_at: '2018-03-05', properties: {Buyer: '{{$.buyer.name}}'}}",
            "clevertap:acme",
            r#"{"type":"event","objectId":"o-L1","ts":1520208000,"evtName":"Lead sold","evtData":{"Buyer":"Safe <Drive>"}}"#,
        ),
    ] {
        let job = job(action);
        assert_eq!(job.lane(), lane);
        assert_eq!(job.body, body);
        assert_eq!(
            job.job_id,
            job_id(EventId("e-1"), RuleId("r-1")).to_string(),
            "the same whatever the rule's version"
        );
        assert_eq!((job.rule_version, job.source_partition, job.source_offset), (7, 3, 42));
    }
}

#[test]
fn what_is_missing_or_blank_sends_nothing_or_fails_by_name() {
    let skipped = |action: &str| match planned(action, "") {
        Planned::Settled(outcome) => outcome.result,
        other => panic!("{action}: {other:?}"),
    };
    assert_eq!(
        skipped(&format!("{{{TO}, text: '{{{{$.reason}}}}'}}")),
        OutcomeResult::Skipped,
        "a blank text"
    );
    assert_eq!(
        skipped(&format!("{{{TO}, text: 'x {{{{$.reason}}}}', on_missing: skip}}")),
        OutcomeResult::Skipped
    );
    assert!(failed(&format!("{{{TO}, text: 'x {{{{$.reason}}}}', on_missing: fail}}")).contains("$.reason"));
    let event = "type: clevertap_event, account: acme";
    assert!(
        failed(&format!(
            "{{{event}, identity: '{{{{$.consumer.phone}}}}', event_name: Sold}}"
        ))
        .contains("identity")
    );
    assert!(failed(&format!("{{{event}, identity: x, event_name: '{{{{$.reason}}}}'}}")).contains("event_name"));
    assert!(
        failed(&format!(
            "{{{event}, identity: x, event_name: Sold, created_at: '{{{{$.call.started_at}}}}'}}"
        ))
        .contains("call.started_at")
    );
    assert!(
        !failed(&format!(
            "{{{event}, identity: x, event_name: Sold, created_at: '{{{{$.consumer.first_name}}}}'}}"
        ))
        .contains("Ana")
    );
}

#[test]
fn of_what_cant_be_rendered_and_what_is_of_the_wrong_kind_the_former_is_named() {
    let event = "type: clevertap_event, account: acme, identity: x, event_name: Sold";
    let both = "properties: {Whole: '{{$.consumer}}', Reason: '{{$.reason}}'}";
    assert!(failed(&format!("{{{event}, on_missing: fail, {both}}}")).contains("$.reason is missing"));
    assert!(failed(&format!("{{{event}, {both}}}")).contains("properties.Whole is a list or an object"));
    let two = "properties: {Whole: '{{$.consumer}}', Other: '{{$.product}}'}";
    assert!(
        failed(&format!("{{{event}, {two}}}")).contains("properties.Whole"),
        "the first"
    );
}

#[test]
fn long_texts_are_cut_or_fail_by_the_rule() {
    let text = "x".repeat(4001);
    let job = job(&format!("{{{TO}, text: {text}}}"));
    let body: Value = serde_json::from_str(&job.body).unwrap();
    let sent = body["text"].as_str().unwrap();
    assert_eq!((sent.chars().count(), sent.chars().last()), (4000, Some('…')));
    assert!(failed(&format!("{{{TO}, text: {text}, over_long: fail}}")).contains("4000 characters"));
}

#[test]
fn shadow_rules_settle_and_expiry_counts_from_the_event() {
    let action = format!("{{{TO}, text: hi, expires_after: 10m}}");
    let Planned::Settled(outcome) = planned(&action, ", status: shadow") else {
        panic!("a shadow rule sends nothing")
    };
    assert_eq!(outcome.result, OutcomeResult::Shadowed);
    assert_eq!(job(&action).expires_at, Some(1_772_723_760_123 + 600_000));
}

#[test]
fn a_job_carries_what_its_rule_says_about_many() {
    let job_of = |fields: &str| job(&format!("{{{TO}, text: hi, {fields}}}"));
    let busy = job_of("when_busy: {digest_after: 60s}, max_rate: 20/h, thread: lead");
    assert_eq!(
        (busy.digest_after, busy.max_rate.as_deref(), busy.thread),
        (Some(60_000), Some("20/h"), true)
    );
    assert_eq!(
        crate::dates::Rate::parse(busy.max_rate.as_deref().unwrap())
            .unwrap()
            .to_string(),
        "20/h",
        "the sender reads what the rule was allowed to say"
    );
    let plain = job_of("when_busy: each");
    assert_eq!((plain.digest_after, plain.max_rate, plain.thread), (None, None, false));
    let webhook = job("{type: slack_webhook, url: {secret: hook}, text: hi, max_rate: 5/m}");
    assert_eq!((webhook.max_rate.as_deref(), webhook.thread), (Some("5/m"), false));
}

#[test]
fn a_job_carries_the_ciphertext_of_its_credential() {
    let sealed = crate::sealed::Sealed::new([7; 8], &[1; 80]).unwrap();
    let webhook = job(&format!(
        "{{type: slack_webhook, url: {{sealed: '{sealed}'}}, text: hi}}"
    ));
    assert_eq!(webhook.credential, "webhook:sealed-0707070707070707");
    assert_eq!(webhook.sealed.as_deref(), Some(sealed.as_str()));
    assert_eq!((webhook.account_id, webhook.region), (None, None));
    let account = format!("{{account_id: A-1, region: in1, passcode: {{sealed: '{sealed}'}}}}");
    let record = job(&format!(
        "{{type: clevertap_event, account: {account}, identity: x, event_name: Sold}}"
    ));
    assert_eq!(record.lane(), "clevertap:sealed-0707070707070707/A-1");
    assert_eq!(
        (record.account_id.as_deref(), record.region.as_deref()),
        (Some("A-1"), Some("in1"))
    );
    assert_eq!(record.sealed.as_deref(), Some(sealed.as_str()));
    let named = job("{type: slack_message, token: {secret: bot}, to: {channel: C1}, text: hi}");
    assert_eq!((named.sealed, named.account_id), (None, None));
}

/// The properties that an inlet's event with this payload is sent with.
fn sent(action: &str, payload: &str) -> Result<Value, String> {
    let rule = format!(
        "{{id: r, trigger: t, scope: {{level: inlet, id: n}}, action: {{account: acme, identity: x, {action}}}}}"
    );
    let value = crate::yaml::documents(&rule).unwrap().remove(0).value;
    let rule = Rule::from_json(&value).unwrap_or_else(|problems| panic!("{action}: {problems:?}"));
    let event = format!(
        r#"{{"event_id":"e","trigger":"t","occurred_at":1772723760,"lead_id":"L","consumer":{{"city":"Rome","zip":null}},"inlet":"n","payload":{payload}}}"#
    );
    let schemas = Schemas::new();
    let event = decode(event.as_bytes(), &schemas).unwrap();
    let source = Source {
        topic: "lead-events",
        partition: 0,
        offset: 0,
    };
    match plan(&event, &Versioned { rule, version: 1 }, source, 1) {
        Planned::Job(job) => {
            assert_eq!(job.action.refusal(&job.body), None, "{}", job.body);
            let body: Value = serde_json::from_str(&job.body).unwrap();
            Ok(body.get("profileData").or(body.get("evtData")).unwrap().clone())
        }
        Planned::Failed { detail, .. } => Err(detail),
        Planned::Settled(outcome) => Err(format!("{}: {}", outcome.result.as_str(), outcome.words.unwrap())),
    }
}

#[test]
fn a_whole_object_is_sent_on_in_the_form_that_clevertap_takes() {
    let payload = r#"{"Old name":42.50,"none":null,"context":{"ip":"::1"},"address":{"city":"Rome","geo":{"lat":1.5,"alt":null}},
        "tags":["a",5,null,{"b":[1]}],"Items":[{"Name":"x"}],"Points":{"$incr":5},"paid":true}"#;
    let from = "properties: {from: $.payload, rename: {Old name: New, address city: City}, drop: [context, Points]}";
    let json = |text: &str| serde_json::from_str::<Value>(text).unwrap();
    for (action, expected) in [
        (
            format!("type: clevertap_event, event_name: Sold, {from}"),
            r#"{"New":42.50,"City":"Rome","address geo lat":1.5,"tags":"a, 5, {\"b\":[1]}","Items":"{\"Name\":\"x\"}","paid":true}"#,
        ),
        (
            format!("type: clevertap_event, event_name: charged, {from}"),
            r#"{"New":42.50,"City":"Rome","address geo lat":1.5,"tags":"a, 5, {\"b\":[1]}","Items":[{"Name":"x"}],"paid":true}"#,
        ),
        (
            format!("type: clevertap_profile, {from}"),
            r#"{"New":42.50,"City":"Rome","address geo lat":1.5,"tags":["a","5","{\"b\":[1]}"],"Items":["{\"Name\":\"x\"}"],"paid":true}"#,
        ),
        (
            "type: clevertap_profile, properties: {from: $.payload, drop: [address, tags, Items, context], \
             rename: {paid: p}, with: {Old name: '{{$.payload.none | default: \"d\"}}', Left: '{{$.nothing}}', Tags: {$add: ['{{$.lead_id}}']}}}"
                .to_owned(),
            r#"{"Old name":"d","Points":{"$incr":5},"p":true,"Tags":{"$add":["L"]}}"#,
        ),
        // The lead's own records, too, and an object that stands deeper.
        (
            "type: clevertap_profile, properties: {from: $.consumer}".to_owned(),
            r#"{"city":"Rome"}"#,
        ),
        (
            "type: clevertap_event, event_name: x, properties: '{{$.address.geo}}'".to_owned(),
            r#"{"lat":1.5}"#,
        ),
        ("type: clevertap_event, event_name: x, properties: '{{$.gone}}'".to_owned(), "{}"),
    ] {
        assert_eq!(sent(&action, payload), Ok(json(expected)), "{action}");
    }
    let long = format!(r#"{{"json":"{{\"A\":1,{}\"B\":2}}"}}"#, r#"\n"#.repeat(100_000));
    let whole = sent("type: clevertap_profile, properties: '{{$.json}}'", &long);
    assert_eq!(whole, Ok(json(r#"{"A":1,"B":2}"#)), "long JSON as text");
    let text = r#"{"json":"{\"A\":{\"B\":1}}","bad":"SECRET","list":[1]}"#;
    let of = |properties: &str| sent(&format!("type: clevertap_profile, {properties}"), text);
    assert_eq!(of("properties: '{{$.json}}'"), Ok(json(r#"{"A B":1}"#)), "JSON as text");
    for (properties, why) in [
        ("properties: '{{$.bad}}'", "properties: {{$.bad}} gives no object"),
        ("properties: {from: $.list}", "properties: $.list gives no object"),
        ("properties: {from: $.gone}, on_missing: fail", "$.gone is missing"),
        ("properties: {from: $.gone}, on_missing: skip", "skipped: $.gone"),
        (
            "properties: {from: $.payload, rename: {bad: list}}",
            "two members of $.payload are called \"list\"; rename or drop one",
        ),
    ] {
        let failed = of(properties).unwrap_err();
        assert!(
            failed.contains(why) && !failed.contains("SECRET"),
            "{properties}: {failed}"
        );
    }
}

#[test]
fn a_purchase_has_its_items() {
    let action =
        "type: clevertap_event, event_name: '{{$.name}}', properties: {Amount: '{{$.total}}', Items: '{{$.products}}'}";
    let payload = r#"{"name":"Charged","total":42.50,"products":[{"Name":"x","Price":5}]}"#;
    assert_eq!(
        sent(action, payload).unwrap().to_string(),
        r#"{"Amount":42.50,"Items":[{"Name":"x","Price":5}]}"#
    );
    let literal =
        "type: clevertap_event, event_name: Charged, properties: {Items: [{Name: '{{$.name}}', Price: '{{$.gone}}'}]}";
    assert_eq!(
        sent(literal, payload).unwrap().to_string(),
        r#"{"Items":[{"Name":"Charged"}]}"#
    );
}

/// The record that a CleverTap action makes of an inlet's event with this payload.
fn told(action: &str, occurred_at: &str, payload: &str) -> Result<Value, String> {
    let rule = format!("{{id: r, trigger: t, scope: {{level: inlet, id: n}}, action: {{account: acme, {action}}}}}");
    let value = crate::yaml::documents(&rule).unwrap().remove(0).value;
    let rule = Rule::from_json(&value).unwrap_or_else(|problems| panic!("{action}: {problems:?}"));
    let event = format!(
        r#"{{"event_id":"e","trigger":"t","occurred_at":{occurred_at},"lead_id":"L","inlet":"n","payload":{payload}}}"#
    );
    let schemas = Schemas::new();
    let event = decode(event.as_bytes(), &schemas).unwrap();
    let source = Source {
        topic: "lead-events",
        partition: 0,
        offset: 0,
    };
    match plan(&event, &Versioned { rule, version: 1 }, source, 1) {
        Planned::Job(job) => Ok(serde_json::from_str(&job.body).unwrap()),
        Planned::Failed { outcome, detail } => {
            assert_eq!(outcome.reason.as_deref(), Some("template_failed"));
            Err(detail)
        }
        Planned::Settled(outcome) => panic!("{action}: {}", outcome.result.as_str()),
    }
}

#[test]
fn an_identity_is_a_text_or_a_number() {
    let of = |action: &str, payload: &str| told(&format!("type: clevertap_profile, {action}"), "1772723760", payload);
    for (action, payload, identity) in [
        ("identity: '{{$.id}}'", r#"{"id":"ana@example.com"}"#, "ana@example.com"),
        ("identity: '{{$.id}}'", r#"{"id":" ana "}"#, "ana"),
        ("identity: '{{$.id}}'", r#"{"id":4711}"#, "4711"),
        ("identity: '{{$.id | lower}}'", r#"{"id":4711.0}"#, "4711"),
        ("identity: '{{$.id}}'", r#"{"id":8.4512377E7}"#, "84512377"),
        ("identity: '{{$.ids | join: \"-\"}}'", r#"{"ids":[1,"b",null]}"#, "1-b"),
        ("identity: '{{$.id | default: \"d\"}}'", r#"{"id":[]}"#, "d"),
        // Part of a text a boolean can't be taken for the id.
        ("identity: '{{$.id}}:{{$.vip}}'", r#"{"id":7,"vip":true}"#, "7:true"),
    ] {
        assert_eq!(of(action, payload).unwrap()["identity"], identity, "{action} {payload}");
    }
    for bad in [r#"{"a":"SECRET"}"#, r#"["SECRET"]"#, "[]", "{}", "true", "1e+21"] {
        for template in [
            "{{$.id}}",
            "{{$.id | lower}}",
            "{{$.id | upper}}",
            "{{$.id | truncate: 99}}",
            "{{$.id | raw}}",
        ] {
            for field in ["identity", "object_id"] {
                let failed = of(&format!("{field}: '{template}'"), &format!(r#"{{"id":{bad}}}"#)).unwrap_err();
                assert!(
                    failed.contains(&format!("{field}: $.id ")),
                    "{template} {bad}: {failed}"
                );
                assert!(!failed.contains("SECRET"), "{failed}");
            }
        }
    }
    let nested = of("identity: 'x-{{$.id}}'", r#"{"id":{"a":1}}"#).unwrap_err();
    assert!(nested.contains("identity: $.id must be a text or a number"), "{nested}");
    let objects = of("identity: '{{$.ids | join: \",\"}}'", r#"{"ids":[{"a":1}]}"#).unwrap_err();
    assert!(objects.contains("identity: $.ids must be"), "{objects}");
    for (text, why) in [
        ("SECRET\u{fffd}".to_owned(), "U+FFFD"),
        ("SECRET\\u0000".to_owned(), "control character"),
        ("SECRET\\nx".to_owned(), "control character"),
        ("SECRET".repeat(100), "longer than 512 bytes"),
        ("  ".to_owned(), "is missing"),
        ("undefined".to_owned(), "text of a missing value"),
        ("[object Object]".to_owned(), "text of a missing value"),
    ] {
        let failed = of("identity: '{{$.id}}'", &format!(r#"{{"id":"{text}"}}"#)).unwrap_err();
        assert!(
            failed.contains(why) && failed.contains("identity: {{$.id}}"),
            "{failed}"
        );
        assert!(!failed.contains("SECRET"), "{failed}");
    }
    // What happened has a name, too.
    let event = |payload: &str| {
        let action = "type: clevertap_event, identity: x, event_name: '{{$.name}}'";
        told(action, "1772723760", payload)
    };
    assert_eq!(event(r#"{"name":"Sold"}"#).unwrap()["evtName"], "Sold");
    for bad in ["{}", "[1]", "false"] {
        let failed = event(&format!(r#"{{"name":{bad}}}"#)).unwrap_err();
        assert!(failed.contains("event_name: $.name must be"), "{failed}");
    }
}

#[test]
fn what_is_sent_happened_between_2000_and_2100() {
    let of = |created_at: &str, occurred_at: &str, payload: &str| {
        let action = format!("type: clevertap_event, identity: x, event_name: Sold{created_at}");
        told(&action, occurred_at, payload).map(|record| record["ts"].as_i64().unwrap())
    };
    let created_at = ", created_at: '{{$.at}}'";
    for (at, ts) in [
        ("946684800", 946_684_800),
        ("4102444800", 4_102_444_800),
        ("\"19991231T235959\"", -1),
        ("\"2000-01-01\"", 946_684_800),
        ("20260305", 1_772_668_800),
        ("\"20260305T151600Z\"", 1_772_723_760),
        ("1772723760123456", 1_772_723_760),
        ("946684799", -1),
        ("4102444801", -1),
        ("\"1970-01-01T00:00:00Z\"", -1),
        ("\"0001-01-01T00:00:00Z\"", -1),
    ] {
        let read = of(created_at, "1772723760", &format!(r#"{{"at":{at}}}"#));
        if ts > 0 {
            assert_eq!(read, Ok(ts), "{at}");
        } else {
            let failed = read.unwrap_err();
            assert!(failed.contains("created_at: {{$.at}} is not between"), "{at}: {failed}");
        }
    }
    for at in [
        "45123.5",
        "19901332",
        "\"45911.32361\"",
        "1",
        "1772723760123456789",
        "202603051516",
    ] {
        let failed = of(created_at, "1772723760", &format!(r#"{{"at":{at}}}"#)).unwrap_err();
        assert!(
            failed.contains("{{$.at}}") && failed.contains("read_date"),
            "{at}: {failed}"
        );
    }
    let read_date = ", created_at: '{{$.at | read_date: \"serial\"}}'";
    assert_eq!(of(read_date, "1772723760", r#"{"at":45123.5}"#), Ok(1_689_508_800));
    let failed = of("", "\"1970-01-21T00:00:00Z\"", "{}").unwrap_err();
    assert!(failed.contains("occurred_at is not between"), "{failed}");
    // Other dates need only be readable.
    let born = "type: clevertap_profile, identity: x, properties: {DOB: '{{$.dob | date}}'}";
    let profile = told(born, "1772723760", r#"{"dob":"19600115"}"#).unwrap();
    assert_eq!(profile["profileData"]["DOB"], "$D_-314409600");
}

#[test]
fn operators_and_lists_get_what_they_take_or_fail_by_name() {
    let of = |properties: &str, payload: &str| {
        let action = format!("type: clevertap_profile, identity: x, properties: {properties}");
        told(&action, "1772723760", payload).map(|record| record["profileData"].clone())
    };
    let json = |text: &str| serde_json::from_str::<Value>(text).unwrap();
    for (properties, payload, sent) in [
        (
            "{T: {$add: '{{$.x}}'}}",
            r#"{"x":["a",5,true,null]}"#,
            r#"{"T":{"$add":["a","5","true"]}}"#,
        ),
        ("{T: {$add: ['{{$.x}}']}}", r#"{"x":5}"#, r#"{"T":{"$add":["5"]}}"#),
        ("{T: {$incr: '{{$.x}}'}}", r#"{"x":"5.50"}"#, r#"{"T":{"$incr":5.5}}"#),
        ("{T: {$decr: '{{$.x}}'}}", r#"{"x":5}"#, r#"{"T":{"$decr":5}}"#),
        ("{T: ['{{$.x}}', b]}", r#"{"x":5}"#, r#"{"T":["5","b"]}"#),
        // What comes to nothing is left out, rather than sent as an empty object.
        ("{T: {$add: ['{{$.gone}}']}}", "{}", "{}"),
        ("{T: {$add: '{{$.gone}}'}, H: {City: '{{$.gone}}'}}", "{}", "{}"),
        ("{T: {$remove: '{{$.x}}'}}", r#"{"x":[null]}"#, "{}"),
        (
            "{from: $.payload}",
            r#"{"P":{"$incr":5},"Q":{"$delete":true}}"#,
            r#"{"P":{"$incr":5},"Q":{"$delete":true}}"#,
        ),
        (
            "{from: $.payload}",
            r#"{"Email":null,"a":{"b":null,"c":1}}"#,
            r#"{"a c":1}"#,
        ),
        (
            "{from: $.payload, nulls: delete, drop: [z]}",
            r#"{"Email":null,"a":{"b":null,"c":1},"z":null}"#,
            r#"{"Email":{"$delete":true},"a b":{"$delete":true},"a c":1}"#,
        ),
        (
            "{from: $.payload, nulls: delete, rename: {Home City: City, Homepage: Page, Home-Old: Old, Home Zip Code: Zip, A b: Ab}}",
            r#"{"Home":null,"Homepage":"x"}"#,
            r#"{"City":{"$delete":true},"Home":{"$delete":true},"Page":"x","Zip":{"$delete":true}}"#,
        ),
    ] {
        assert_eq!(of(properties, payload), Ok(json(sent)), "{properties}");
    }
    for (properties, payload, why) in [
        (
            "{T: {$add: '{{$.x}}'}}",
            r#"{"x":"SECRET"}"#,
            "properties.T.$add must be a list of texts",
        ),
        (
            "{T: {$set: '{{$.x}}'}}",
            r#"{"x":{"a":"SECRET"}}"#,
            "properties.T.$set must be a list of texts",
        ),
        (
            "{T: {$set: '{{$.x}}'}}",
            r#"{"x":[]}"#,
            "properties.T.$set must not be an empty list",
        ),
        (
            "{T: {$remove: '{{$.x}}'}}",
            r#"{"x":[["SECRET"]]}"#,
            "properties.T.$remove[0] must be a text",
        ),
        (
            "{T: {$incr: '{{$.x}}'}}",
            r#"{"x":"SECRET"}"#,
            "properties.T.$incr must be a number",
        ),
        (
            "{T: {$incr: '{{$.x}}'}}",
            r#"{"x":"12,500.00"}"#,
            "properties.T.$incr must be a number",
        ),
        (
            "{T: {$decr: '{{$.x}}'}}",
            r#"{"x":[5]}"#,
            "properties.T.$decr must be a number",
        ),
        (
            "{T: '{{$.x}}'}",
            r#"{"x":{"$add":"SECRET"}}"#,
            "properties.T.$add must be a list of texts",
        ),
        (
            "{T: '{{$.x}}'}",
            r#"{"x":{"$delete":"SECRET"}}"#,
            "properties.T.$delete must be true",
        ),
        (
            "{T: '{{$.x}}'}",
            r#"{"x":{"$add":["a"],"$incr":1}}"#,
            "properties.T must hold one operator alone",
        ),
        (
            "{T: '{{$.x}}'}",
            r#"{"x":{"$push":"SECRET"}}"#,
            "properties.T holds a member that begins with $",
        ),
        (
            "{T: ['{{$.x}}']}",
            r#"{"x":{"a":"SECRET"}}"#,
            "properties.T[0] must be a text",
        ),
        (
            "{from: $.payload}",
            r#"{"T":{"$add":"SECRET"}}"#,
            "properties.T.$add must be a list of texts",
        ),
        (
            "{Email: '{{$.x}}'}",
            r#"{"x":["SECRET"]}"#,
            "properties.Email must be a text",
        ),
        (
            "{Phone: '{{$.x}}'}",
            r#"{"x":15125550123}"#,
            "properties.Phone must be a text",
        ),
        ("{Name: '{{$.x}}'}", r#"{"x":true}"#, "properties.Name must be a text"),
    ] {
        let failed = of(properties, payload).unwrap_err();
        assert!(
            failed.contains(why) && !failed.contains("SECRET"),
            "{properties}: {failed}"
        );
    }
}

#[test]
fn a_purchase_has_an_amount_that_is_a_number_and_items_that_are_a_list() {
    let of = |payload: &str| {
        let action = "type: clevertap_event, identity: x, event_name: Charged, properties: {Amount: '{{$.a}}', Items: '{{$.i}}', X: '{{$.x}}'}";
        told(action, "1772723760", payload).map(|record| record["evtData"].to_string())
    };
    assert_eq!(
        of(r#"{"a":"12500.00","i":[{"Name":"x"}]}"#).unwrap(),
        r#"{"Amount":12500,"Items":[{"Name":"x"}]}"#
    );
    assert_eq!(of(r#"{"a":12500.50}"#).unwrap(), r#"{"Amount":12500.50}"#);
    for (payload, why) in [
        (r#"{"a":"12,500.00"}"#, "properties.Amount must be a number"),
        (r#"{"a":"$5"}"#, "properties.Amount must be a number"),
        (r#"{"a":true}"#, "properties.Amount must be a number"),
        (r#"{"a":[1]}"#, "properties.Amount must be a number"),
        (r#"{"i":"SECRET"}"#, "properties.Items must be a list of objects"),
        (r#"{"i":["SECRET"]}"#, "properties.Items must be a list of objects"),
        (
            r#"{"i":{"Name":"SECRET"}}"#,
            "properties.Items must be a list of objects",
        ),
        (
            r#"{"i":[{"Name":["SECRET"]}]}"#,
            "properties.Items must be a list of objects",
        ),
        (r#"{"x":{"a":"SECRET"}}"#, "properties.X is a list or an object"),
        (r#"{"x":1e400}"#, "properties.X is a number beyond"),
        (r#"{"a":1e400}"#, "properties.Amount is a number beyond"),
        (
            r#"{"i":[{"Price":1e400}]}"#,
            "properties.Items must be a list of objects",
        ),
    ] {
        let failed = of(payload).unwrap_err();
        assert!(
            failed.contains(why) && !failed.contains("SECRET"),
            "{payload}: {failed}"
        );
    }
}

/// Actions that ask for everything of an event, each of which [`KINDS_EVENT`] is planned with.
const KINDS_ACTIONS: [&str; 9] = [
    "type: slack_message, token: {secret: bot}, to: {channel: C1}, text: '{{$.lead_id}} {{$.payload}} {{$.price | money}}'",
    "type: slack_webhook, url: {secret: hook}, text: '{{$.at | date: \"%H\"}} {{$.tags | join: \", \"}}'",
    "type: clevertap_profile, account: acme, identity: '{{$.lead_id}}', properties: {from: $.payload}",
    "type: clevertap_profile, account: acme, identity: '{{$.who | lower}}', created_at: '{{$.at}}', properties: {from: $.payload, nulls: delete}",
    "type: clevertap_profile, account: acme, object_id: 'o-{{$.who}}', properties: {Tags: {$add: '{{$.tags}}'}, Points: {$incr: '{{$.points}}'}, \
     Name: '{{$.who}}', All: ['{{$.who}}', '{{$.at}}'], Born: '{{$.at | date}}', Home: {City: '{{$.who}}'}, Any: '{{$.tags}}'}",
    "type: clevertap_event, account: acme, identity: '{{$.who}}', event_name: '{{$.what}}', properties: {A: '{{$.tags}}', B: '{{$.price}}'}",
    "type: clevertap_event, account: acme, identity: '{{$.buyer.id}}', event_name: Charged, created_at: '{{$.at | read_date: \"epoch\"}}', \
     properties: {Amount: '{{$.points}}', Items: '{{$.items}}'}",
    "type: clevertap_event, account: acme, identity: '{{$.who | default: \"d\"}}', event_name: Sold, created_at: '{{$.call.started_at}}', \
     properties: {from: $.payload}",
    "type: clevertap_event, account: acme, identity: '{{$.tags | join: \"-\"}}', event_name: Sold",
];

const KINDS_EVENT: &str = r#"{"event_id":"e","trigger":"t","occurred_at":"2026-03-05T15:16:00Z","lead_id":"L","buyer":{"id":5},"price":"12.50",
    "call":{"started_at":1772723760},"fields":{"zip":"78701"},"inlet":"n",
    "payload":{"who":"ana","what":"Sold","at":1772723760,"tags":["a","b"],"points":5,"items":[{"Name":"x","Price":5}],"Op":{"$add":["x"]},"n":null}}"#;

/// What a record must be, whatever the event held.
fn check_record(body: &str) -> Result<(), TestCaseError> {
    let record: Value = serde_json::from_str(body).unwrap();
    let Some(kind) = record["type"].as_str() else {
        return Ok(());
    };
    let id = record
        .get("identity")
        .or(record.get("objectId"))
        .and_then(Value::as_str);
    let is_good = |id: &str| {
        !id.trim().is_empty() && !id.contains(char::is_control) && !id.contains(['\u{fffd}', NESTED]) && id.len() <= 512
    };
    prop_assert!(id.is_some_and(is_good), "{}", body);
    prop_assert!(!matches!(id, Some("true" | "false" | "[]" | "{}")), "{}", body);
    let ts = record["ts"].as_i64();
    prop_assert!(
        ts.is_some_and(|ts| (946_684_800..=4_102_444_800).contains(&ts)),
        "{}",
        body
    );
    if kind == "event" {
        prop_assert!(!record["evtName"].as_str().unwrap().contains(NESTED), "{}", body);
        let charged = record["evtName"] == "Charged";
        for (name, value) in record["evtData"].as_object().unwrap() {
            let is_item = |item: &Value| {
                item.as_object()
                    .is_some_and(|item| item.values().all(|v| !v.is_array() && !v.is_object()))
            };
            match name.as_str() {
                "Items" if charged => prop_assert!(
                    value.as_array().is_some_and(|list| list.iter().all(is_item)),
                    "{}",
                    body
                ),
                "Amount" if charged => prop_assert!(value.is_number() || value.is_null(), "{}", body),
                _ => prop_assert!(!value.is_array() && !value.is_object(), "{}", body),
            }
        }
        return Ok(());
    }
    for (name, value) in record["profileData"].as_object().unwrap() {
        let is_texts = |list: &Value| list.as_array().is_some_and(|list| list.iter().all(Value::is_string));
        let is_sound = match value {
            Value::Object(members) => members.iter().all(|(operator, operand)| match operator.as_str() {
                "$add" | "$remove" | "$set" => is_texts(operand) && members.len() == 1,
                "$incr" | "$decr" => operand.is_number() && members.len() == 1,
                "$delete" => operand == true && members.len() == 1,
                other => !other.starts_with('$'),
            }),
            Value::Array(_) => is_texts(value),
            value => name != "Name" || value.is_string() || value.is_null(),
        };
        prop_assert!(is_sound, "{}: {}", name, body);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn what_is_sent_has_an_id_and_a_time_or_its_place_is_told(
        values in proptest::collection::vec((any::<Index>(), any_json()), 1..4)
    ) {
        let mut event: Value = serde_json::from_str(KINDS_EVENT).unwrap();
        put(&mut event, values);
        let json = event.to_string();
        let schemas = Schemas::new();
        let event = match decode(json.as_bytes(), &schemas) {
            Ok(event) => event,
            Err(error) => {
                prop_assert_eq!(error.reason(), Some(Reason::InvalidEvent));
                prop_assert!(!error.detail().contains("SECRET"), "{}", error);
                return Ok(());
            }
        };
        for action in KINDS_ACTIONS {
            let rule = format!("{{id: r, trigger: t, scope: {{level: inlet, id: n}}, action: {{{action}}}}}");
            let value = crate::yaml::documents(&rule).unwrap().remove(0).value;
            let rule = Rule::from_json(&value).unwrap_or_else(|problems| panic!("{action}: {problems:?}"));
            let source = Source { topic: "t", partition: 0, offset: 0 };
            match plan(&event, &Versioned { rule, version: 1 }, source, 1) {
                Planned::Job(job) => check_record(&job.body)?,
                Planned::Failed { detail, .. } => {
                    let names_it = detail.contains("$.") || detail.contains("properties.") || detail.contains("occurred_at");
                    prop_assert!(names_it, "{}", detail);
                    prop_assert!(!detail.contains("SECRET"), "{}", detail);
                }
                Planned::Settled(_) => {}
            }
        }
    }
}

/// What becomes of an action on an event with a text `t` of 1 MB, a `list` of 400,000 numbers, 490,000 `nulls`, `markup`
/// that reads as nothing, and a `currency` that is a list.
fn heavy(action: &str) -> Planned {
    let text = "ab<\\\"".repeat(200_000);
    let (list, nulls, markup) = ("1,".repeat(400_000), "null,".repeat(490_000), "<>".repeat(450_000));
    let payload = format!(
        r#"{{"t":"{text}","list":[{list}1],"nulls":[{nulls}null],"markup":"{markup}","n":12.5,"currency":[{list}1]}}"#
    );
    let event = format!(
        r#"{{"event_id":"e","trigger":"t","occurred_at":1772723760000,"lead_id":"L","inlet":"n","payload":{payload}}}"#
    );
    let schemas = Schemas::new();
    let event = decode(event.as_bytes(), &schemas).unwrap();
    let rule = format!(r#"{{"id":"r","trigger":"t","scope":{{"level":"inlet","id":"n"}},"action":{action}}}"#);
    let rule = Rule::from_json(&serde_json::from_str(&rule).unwrap()).unwrap_or_else(|problems| panic!("{problems:?}"));
    let source = Source {
        topic: "lead-events",
        partition: 0,
        offset: 0,
    };
    plan(&event, &Versioned { rule, version: 1 }, source, 1)
}

#[test]
fn a_message_is_rendered_as_far_as_slack_takes_it() {
    // Written in full, each of these is several times the memory of the machine that this runs on.
    for placeholder in [
        "{{t}}",
        "{{t|json|upper}}",
        "{{t|url}}",
        "{{list|join:','}}",
        "{{nulls|join:''}}",
        "{{markup|plain}}",
        "{{t}}{{nulls|join:''}}{{markup|plain}}{{t|plain}}",
        "<https://x/{{t}}|{{list}}>",
    ] {
        let long = placeholder.repeat(120_000 / placeholder.len());
        let slack = |over_long: &str| {
            heavy(&format!(
                r#"{{"type":"slack_message","token":{{"secret":"bot"}},"to":{{"channel":"C1"}},"text":"x{long}","over_long":"{over_long}"}}"#
            ))
        };
        let Planned::Job(job) = slack("truncate") else {
            panic!("{placeholder}")
        };
        let body: Value = serde_json::from_str(&job.body).unwrap();
        assert!(body["text"].as_str().unwrap().ends_with('…'), "{placeholder}");
        if placeholder == "{{t}}" {
            let Planned::Failed { detail, .. } = slack("fail") else {
                panic!("{placeholder}")
            };
            assert_eq!(detail, "rule r: text: is longer than 4000 characters");
        }
    }
}

#[test]
fn a_currency_is_looked_at_as_far_as_one_goes() {
    let long = "{{n|money}}".repeat(10_000);
    let action =
        format!(r#"{{"type":"slack_message","token":{{"secret":"bot"}},"to":{{"channel":"C1"}},"text":"{long}"}}"#);
    let Planned::Failed { detail, .. } = heavy(&action) else {
        panic!("a list is no currency")
    };
    assert!(
        detail.starts_with("rule r: `money` of n: currency is no text"),
        "{detail}"
    );
}

#[test]
fn a_record_is_rendered_as_far_as_clevertap_takes_it() {
    let profile = |properties: &str| match heavy(&format!(
        r#"{{"type":"clevertap_profile","account":"acme","identity":"x","properties":{properties}}}"#
    )) {
        Planned::Failed { detail, .. } => detail,
        other => panic!("{other:?}"),
    };
    let many = |value: &str| {
        (0..1000)
            .map(|n| format!(r#""p{n}":"{value}""#))
            .collect::<Vec<_>>()
            .join(",")
    };
    assert!(profile(&format!("{{{}}}", many("{{list}}"))).contains("properties: come to more than 1024 KiB"));
    assert!(profile(&format!("{{\"x\":{{{}}}}}", many("{{list}}"))).contains("properties: come to more than 1024 KiB"));
    assert!(profile(r#"{"p":"{{t}} {{t}}"}"#).contains("`{{t}} {{t}}` comes to more than 64 KiB"));
    assert!(profile(r#"{"p":"{{t|upper}}"}"#).contains("`{{t|upper}}` comes to more than 64 KiB"));
    // What the messages advise is taken.
    for cured in [
        "{{t|upper|truncate: 500}}",
        "{{t|truncate: 512, 'bytes'}}",
        "{{list|join: ', '|truncate: 512, 'bytes'}}",
    ] {
        let action =
            format!(r#"{{"type":"clevertap_profile","account":"acme","identity":"x","properties":{{"p":"{cured}"}}}}"#);
        let Planned::Job(job) = heavy(&action) else {
            panic!("{cured}")
        };
        assert_eq!(job.action.refusal(&job.body), None, "{cured}");
    }
}

#[test]
fn names_that_stand_deep_cost_no_more_than_a_record() {
    let leaves = (0..20_000)
        .map(|n| format!(r#""l{n}":1"#))
        .collect::<Vec<_>>()
        .join(",");
    let deep = (0..100).fold(format!("{{{leaves}}}"), |inner, _| {
        format!(r#"{{"{}":{inner}}}"#, "n".repeat(5000))
    });
    let failed = sent("type: clevertap_profile, properties: {from: $.payload}", &deep).unwrap_err();
    assert!(failed.contains("properties: come to more than 1024 KiB"), "{failed}");
}
