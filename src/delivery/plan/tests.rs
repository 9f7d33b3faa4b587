use super::*;
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
            job_id("e-1", "r-1").to_string(),
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
        crate::delivery::limit::Rate::parse(busy.max_rate.as_deref().unwrap())
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
        r#"{{"event_id":"e","trigger":"t","occurred_at":1,"lead_id":"L","consumer":{{"city":"Rome","zip":null}},"inlet":"n","payload":{payload}}}"#
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
            assert_eq!(crate::delivery::clevertap::refusal(&job.body), None, "{}", job.body);
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

#[test]
fn what_is_rendered_is_no_more_than_what_the_destination_takes() {
    let text = "ab<\\\"".repeat(200_000);
    let payload = format!(r#"{{"t":"{text}","list":[{}1]}}"#, "1,".repeat(400_000));
    let event = format!(
        r#"{{"event_id":"e","trigger":"t","occurred_at":1772723760000,"lead_id":"L","inlet":"n","payload":{payload}}}"#
    );
    let schemas = Schemas::new();
    let event = decode(event.as_bytes(), &schemas).unwrap();
    let planned = |action: String| {
        let rule = format!(r#"{{"id":"r","trigger":"t","scope":{{"level":"inlet","id":"n"}},"action":{action}}}"#);
        let rule =
            Rule::from_json(&serde_json::from_str(&rule).unwrap()).unwrap_or_else(|problems| panic!("{problems:?}"));
        let source = Source {
            topic: "lead-events",
            partition: 0,
            offset: 0,
        };
        plan(&event, &Versioned { rule, version: 1 }, source, 1)
    };
    // Written in full, each of these is several times the memory of the machine that this runs on.
    for placeholder in [
        "{{t}}",
        "{{t|json|upper}}",
        "{{t|url}}",
        "{{list|join:','}}",
        "<https://x/{{t}}|{{list}}>",
    ] {
        let long = placeholder.repeat(120_000 / placeholder.len());
        let slack = |over_long: &str| {
            planned(format!(
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
    let profile = |properties: &str| match planned(format!(
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
        let Planned::Job(job) = planned(action) else {
            panic!("{cured}")
        };
        assert_eq!(crate::delivery::clevertap::refusal(&job.body), None, "{cured}");
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
