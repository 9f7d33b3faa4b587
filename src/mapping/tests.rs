use serde_json::json;

use super::*;
use crate::lead::schemas::{SchemaId, Schemas};
use crate::reason::Reason;
use crate::yaml;

mod kinds;

const NOW: &str = "2026-03-05T15:16:00Z";

fn inlet(entry: &str) -> Inlet {
    let entry = yaml::documents(entry).unwrap().remove(0).value;
    Inlet::read("inlets[0]", &entry).unwrap_or_else(|problems| panic!("{problems:?}"))
}

fn refused(entry: &str) -> String {
    let entry = yaml::documents(entry).unwrap().remove(0).value;
    let problems = Inlet::read("[0]", &entry).unwrap_err();
    let said = problems
        .iter()
        .map(|problem| format!("{}: {}", problem.field, problem.message));
    said.collect::<Vec<_>>().join("\n")
}

fn received(body: &str) -> Received<'_> {
    Received {
        body: body.as_bytes(),
        ..Received::default()
    }
}

/// The events of a body, and what was refused.
fn take(inlet: &Inlet, received: &Received<'_>) -> (Vec<Value>, Vec<String>) {
    let mut budget = Budget::of(received.body.len());
    let mut batch = inlet.decode(received, &mut budget).unwrap();
    let (mut events, mut refused) = (Vec::new(), Vec::new());
    while let Some(record) = batch.next(&mut budget) {
        let mapped = inlet.map(&record, batch.around(), NOW.parse().unwrap(), &mut budget);
        events.extend(
            mapped
                .events
                .iter()
                .map(|event| serde_json::from_slice(&event.json).unwrap()),
        );
        refused.extend(mapped.refused.map(|(_, why)| why));
    }
    (events, refused)
}

fn undecodable(inlet: &Inlet, received: &Received<'_>) -> String {
    inlet
        .decode(received, &mut Budget::of(received.body.len()))
        .unwrap_err()
}

fn one(inlet: &Inlet, body: &str) -> Value {
    let (mut events, refused) = take(inlet, &received(body));
    assert_eq!((events.len(), &refused[..]), (1, &[][..]), "{body}");
    events.remove(0)
}

#[test]
fn a_mapping_in_full() {
    let survey = inlet(
        "{name: survey, kind: http, decode: json, unwrap: $.data, when: [{path: $.score, lte: 6}], explode: $.answers,
          event: {event_id: '{{$.id}}:{{$item.n}}', trigger: survey.answered, occurred_at: '{{$.at | date}}', lead_id: '{{$.email}}',
                  price: '{{$item.worth}}', consumer: {email: '{{$.email}}', city: '{{$.city}}'}, product: {id: p}}}",
    );
    let body = r#"{"data":{"id":7,"score":5,"at":"March 05, 2018 15:16:0","email":"ana@example.com","answers":[{"n":1,"worth":12.50},{"n":2}]}}"#;
    let (events, refused) = take(&survey, &received(body));
    assert!(refused.is_empty(), "{refused:?}");
    assert_eq!(events.len(), 2);
    assert_eq!(
        events[0],
        serde_json::from_str::<Value>(
            r#"{"event_id":"7:1","trigger":"survey.answered","occurred_at":"2018-03-05T15:16:00Z","lead_id":"ana@example.com",
                "price":12.50,"consumer":{"email":"ana@example.com"},"product":{"id":"p"},"inlet":"survey",
                "payload":{"id":7,"score":5,"at":"March 05, 2018 15:16:0","email":"ana@example.com","answers":[{"n":1,"worth":12.50},{"n":2}],"item":{"n":1,"worth":12.50}}}"#
        )
        .unwrap()
    );
    assert_eq!(events[1]["event_id"], "7:2");
    // Left out, and at which step what can't be mapped stops.
    let (events, refused) = take(&survey, &received(r#"{"data":{"id":7,"score":9}}"#));
    assert_eq!((events.len(), refused.len()), (0, 0));
    for (body, step) in [
        (r#"{"data":7}"#, "unwrap: no object stands at $.data"),
        (r#"{"data":{"score":1}}"#, "explode: $.answers is no list"),
        (
            r#"{"data":{"score":1,"id":1,"answers":[{"n":1}]}}"#,
            "event.lead_id: {{$.email}} is missing",
        ),
        (
            r#"{"data":{"score":1,"answers":[{"n":1}],"email":"e"}}"#,
            "event.event_id: {{$.id}}:{{$item.n}} is missing",
        ),
        (
            r#"{"data":{"score":1,"id":1,"answers":[{"n":1}],"email":"e","at":"soon"}}"#,
            "event.occurred_at: ",
        ),
        (
            r#"{"data":{"score":1,"id":1,"answers":[{"n":1,"worth":"SECRET"}],"email":"e"}}"#,
            "event: price",
        ),
    ] {
        let (events, refused) = take(&survey, &received(body));
        assert!(events.is_empty() && refused.len() == 1, "{body}");
        assert!(
            refused[0].starts_with(step) && !refused[0].contains("SECRET"),
            "{body}: {refused:?}"
        );
    }
    // Elements stand alone.
    let body = r#"{"data":{"id":7,"score":5,"email":"e","answers":[{"n":1,"worth":"x"},{"n":2}]}}"#;
    let (events, refused) = take(&survey, &received(body));
    assert_eq!((events.len(), refused.len()), (1, 1));
}

#[test]
fn slack_events_keep_their_ids_and_bots_are_left_out() {
    let workspace = inlet("{name: workspace, preset: slack, secrets: [{secret: slack-signing}]}");
    let envelope = |event: Value| {
        json!({"token": "t", "team_id": "T1", "api_app_id": "A1", "type": "event_callback", "event_id": "Ev1", "event_time": 1_521_611_063,
               "event": event})
        .to_string()
    };
    let reaction = json!({"type": "reaction_added", "user": "U1", "reaction": "thumbsup", "item_user": "U2",
        "item": {"type": "message", "channel": "C1", "ts": "1360782400.498405"}, "event_ts": "1360782804.083113"});
    let event = one(&workspace, &envelope(reaction.clone()));
    let mut payload = reaction.clone();
    payload["team_id"] = "T1".into();
    assert_eq!(
        event,
        json!({"event_id": "Ev1", "trigger": "slack.reaction_added", "occurred_at": "2013-02-13T19:13:24.083113Z", "lead_id": "U1",
               "inlet": "workspace", "payload": payload})
    );
    let message = |more: Value| {
        let mut message = json!({"type": "message", "channel": "C1", "user": "U1", "text": "hi", "ts": "1521611063.000100", "event_ts": "1521611063.000100"});
        message
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        envelope(message)
    };
    assert_eq!(one(&workspace, &message(json!({})))["trigger"], "slack.message_posted");
    assert_eq!(
        one(&workspace, &message(json!({"subtype": "file_share"})))["payload"]["ts"],
        "1521611063.000100"
    );
    assert_eq!(
        one(&workspace, &message(json!({"type": "app_mention"})))["trigger"],
        "slack.app_mentioned"
    );
    for left_out in [
        json!({"bot_id": "B1"}),
        json!({"app_id": "A1"}),
        json!({"subtype": "message_changed"}),
        json!({"subtype": "bot_message", "bot_id": "B1"}),
        json!({"type": "team_join"}),
    ] {
        let (events, refused) = take(&workspace, &received(&message(left_out.clone())));
        assert_eq!((events.len(), refused.len()), (0, 0), "{left_out}");
    }
    let (_, refused) = take(
        &workspace,
        &received(&envelope(json!({"type": "message", "event_ts": "1521611063.0"}))),
    );
    assert_eq!(refused, ["event.lead_id: {{$.event.user}} is missing"]);
}

#[test]
fn change_events_explode_in_every_wrapper_and_gaps_say_why() {
    let crm = inlet("{name: crm, preset: salesforce, kind: topic, topic: salesforce.Contact}");
    let change = |kind: &str, ids: Value| {
        json!({"ChangeEventHeader": {"entityName": "Contact", "recordIds": ids, "changeType": kind, "transactionKey": "k", "sequenceNumber": 1,
               "commitTimestamp": 1_521_611_063_000_i64}, "Email": "ana@example.com"})
    };
    let plain = change("UPDATE", json!(["001A", "001B"]));
    for wrapped in [
        json!({"data": {"schema": "s", "payload": plain, "event": {"replayId": 6}}, "channel": "/data/ContactChangeEvent"}),
        json!({"schema": {"type": "struct"}, "payload": plain}),
        json!({"payload": {"before": null, "after": plain, "op": "u"}}),
        json!({"before": null, "after": plain}),
        plain.clone(),
    ] {
        let (events, refused) = take(&crm, &received(&wrapped.to_string()));
        assert!(refused.is_empty(), "{wrapped}: {refused:?}");
        let ids: Vec<_> = events.iter().map(|event| event["event_id"].as_str().unwrap()).collect();
        assert_eq!(ids, ["k:1:001A", "k:1:001B"], "{wrapped}");
        assert_eq!(events[1]["lead_id"], "001B");
        assert_eq!(events[0]["occurred_at"], "2018-03-21T05:44:23Z");
        let mut payload = plain.clone();
        payload["item"] = "001A".into();
        assert_eq!(events[0]["payload"], payload);
    }
    for (kind, trigger) in [
        ("CREATE", "salesforce.record_created"),
        ("UNDELETE", "salesforce.record_created"),
        ("DELETE", "salesforce.record_deleted"),
    ] {
        assert_eq!(one(&crm, &change(kind, json!(["1"])).to_string())["trigger"], trigger);
    }
    for (kind, ids, why) in [
        ("GAP_UPDATE", json!(["1", "2"]), "refuse: a gap event names no fields"),
        ("UPDATE", json!(["001*"]), "refuse: a wildcard names no record"),
        ("MERGE", json!(["1"]), "event.trigger: what stands at"),
    ] {
        let (events, refused) = take(&crm, &received(&change(kind, ids).to_string()));
        assert_eq!((events.len(), refused.len()), (0, 1));
        assert!(refused[0].starts_with(why), "{refused:?}");
    }
    // What is no list is refused by what it is, and a gap that names no record at all is none that is left out.
    for (record, why) in [
        (json!({"a": 1}), "refuse: it has no ChangeEventHeader"),
        (change("GAP_OVERFLOW", json!([])), "refuse: a gap event names no fields"),
        (
            change("UPDATE", Value::Null),
            "explode: $.ChangeEventHeader.recordIds is no list",
        ),
        (
            json!({"payload": {"before": plain, "after": null, "op": "d"}}),
            "refuse: it has no ChangeEventHeader",
        ),
    ] {
        let (events, refused) = take(&crm, &received(&record.to_string()));
        assert_eq!((events.len(), refused.len()), (0, 1), "{record}");
        assert!(refused[0].starts_with(why), "{refused:?}");
    }
    // A field of the record that is called as the element is doesn't stand for it.
    let mut named = change("UPDATE", json!(["1"]));
    named["item"] = "5 *".into();
    assert_eq!(one(&crm, &named.to_string())["lead_id"], "1");
}

#[test]
fn a_diff_is_no_value_and_a_cleared_field_is_null() {
    let crm = inlet("{name: crm, preset: salesforce, kind: topic, topic: salesforce.Contact}");
    let cometd = r#"{"schema":"Jx8H","payload":{"LastModifiedDate":"2026-03-05T15:16:00.000Z","Description":{"diff":"--- \n+++ 682b8747\n@@ -2,1 +2,1 @@\n-Old line of the note.\n+New line of the note.\n"},"ChangeEventHeader":{"entityName":"Contact","recordIds":["003A"],"changeType":"UPDATE","transactionKey":"tk2","sequenceNumber":1,"commitTimestamp":1772723760000,"diffFields":["Description"],"changedFields":["Description","LastModifiedDate"]}},"event":{"replayId":2}}"#;
    let pubsub = r#"{"ChangeEventHeader":{"entityName":"Contact","recordIds":["003A"],"changeType":"UPDATE","transactionKey":"tk3","sequenceNumber":1,"commitTimestamp":1772723760000,"nulledFields":[],"diffFields":["0x010000"],"changedFields":["0x410000"]},"Name":null,"Description":"--- \n+++ 682b8747ccdb93b5\n@@ -2,1 +2,1 @@\n-Old line of the note.\n+New line of the note.\n","LastModifiedDate":1772723760000}"#;
    for body in [cometd, pubsub] {
        let payload = &one(&crm, body)["payload"];
        assert_eq!(payload["diff_fields"], json!(["Description"]), "{payload}");
        assert!(
            payload.get("Description").is_none() && payload.get("Name").is_none(),
            "{payload}"
        );
        assert!(payload.get("LastModifiedDate").is_some() && payload.get("ChangeEventHeader").is_some());
        assert!(!payload.to_string().contains("New line"), "{payload}");
    }
    let nulled = pubsub.replace(r#""nulledFields":[]"#, r#""nulledFields":["0x02"]"#);
    let (events, refused) = take(&crm, &received(&nulled));
    assert!(
        events.is_empty() && refused[0].starts_with("change_event: ChangeEventHeader.nulledFields: "),
        "{refused:?}"
    );
    let in_order = nulled.replace("0x010000", "0x04").replace("0x410000", "0x0e");
    assert_eq!(one(&crm, &in_order)["payload"]["Name"], Value::Null);
    assert!(one(&crm, &in_order)["payload"].get("Name").is_some());
}

#[test]
fn outbound_messages_give_a_record_for_each_notification() {
    let crm = inlet(
        "{name: won, preset: salesforce, kind: http, event: {trigger: salesforce.record_updated}, secrets: [{secret: s}]}",
    );
    let notification = |id: &str, name: &str| {
        format!(
            "<Notification><Id>{id}</Id><sObject xsi:type=\"sf:Opportunity\" xmlns:sf=\"urn:sobject.enterprise.soap.sforce.com\">\
             <sf:Id>006{id}</sf:Id><sf:Name>{name}</sf:Name><sf:Amount>42.50</sf:Amount><sf:Next xsi:nil=\"true\"/></sObject></Notification>"
        )
    };
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?><soapenv:Envelope xmlns:soapenv=\"http://schemas.xmlsoap.org/soap/envelope/\" \
         xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\"><soapenv:Body><notifications xmlns=\"http://soap.sforce.com/2005/09/outbound\">\
         <OrganizationId>00D</OrganizationId><SessionId>SECRET</SessionId>{}{}</notifications></soapenv:Body></soapenv:Envelope>",
        notification("1", "Big &amp; &#65;"),
        notification("2", "<![CDATA[<b>]]>") + "<Notification/>",
    );
    let (events, refused) = take(&crm, &received(&body));
    // One without content is a dead letter, as every record that can't be mapped.
    assert_eq!(refused, ["event.event_id: {{$.Id}} is missing"]);
    assert_eq!(
        events[0],
        json!({"event_id": "1", "trigger": "salesforce.record_updated", "occurred_at": NOW, "lead_id": "0061", "inlet": "won",
               "payload": {"Id": "0061", "Name": "Big & A", "Amount": "42.50", "Next": null}})
    );
    assert_eq!(events[1]["payload"]["Name"], "<b>");
    assert!(!events.iter().any(|event| event.to_string().contains("SECRET")));
    for (body, why) in [
        ("<!DOCTYPE x [<!ENTITY a \"b\">]><x>&a;</x>", "a DOCTYPE is not taken"),
        ("<Envelope>&a;</Envelope>", "an entity of its own is not taken"),
        ("<Envelope><Body>", "the XML ends too soon"),
        ("<Envelope><Body></Envelope>", "malformed XML"),
        ("<x/>", "the XML is no SOAP envelope"),
        ("<Envelope><Body/></Envelope>", "the SOAP body holds no notifications"),
        (&"<a>".repeat(100), "the XML is too deep"),
        ("{}", "the XML ends too soon"),
    ] {
        let error = undecodable(&crm, &received(body));
        assert!(error.starts_with(why), "{body}: {error}");
    }
}

const TITLES_NO_UTF8: &str = "the titles in line 1 are no UTF-8, perhaps Windows-1252 as Excel's plain CSV is; save the file as \"CSV UTF-8\", or run iconv -f WINDOWS-1252 -t UTF-8";

#[test]
fn rows_come_as_json_forms_and_csv() {
    let sheet = inlet(
        "{name: leads, preset: sheet, dates: {Signup: '%m/%d/%Y %H:%M:%S', Day: serial}, secrets: [{secret: s}]}",
    );
    let event = one(
        &sheet,
        r#"{"Email":"ana@example.com","First Name":"Ana","Empty":" ","Signup":"3/5/2018 15:16:00","Day":43164.5}"#,
    );
    assert_eq!(
        event["payload"],
        json!({"Email": "ana@example.com", "First Name": "Ana", "Signup": "2018-03-05T15:16:00Z", "Day": "2018-03-05T12:00:00Z"})
    );
    assert_eq!(
        (&event["trigger"], &event["lead_id"]),
        (&"sheet.row_added".into(), &"ana@example.com".into())
    );
    // The same row is the same event, in whatever order and form it comes.
    let form = Received {
        body: b"First+Name=Ana&Email=ana%40example.com&Day=43164.5&Signup=3%2F5%2F2018+15:16:00",
        content_type: Some("application/x-www-form-urlencoded; charset=utf-8"),
        route: "",
    };
    let (events, _) = take(&sheet, &form);
    assert_eq!(events[0]["event_id"], event["event_id"]);
    let csv = Received {
        body: "\u{feff}Email,First Name,Day,Signup\nana@example.com,Ana,43164.5,3/5/2018 15:16:00\n,Bo,,\n\"x\ny\",\"\"\"q\"\"\",1,\n"
            .as_bytes(),
        content_type: Some("text/csv"),
        route: "",
    };
    let (events, refused) = take(&sheet, &csv);
    assert_eq!(events[0]["event_id"], event["event_id"]);
    assert_eq!(events[1]["payload"]["First Name"], "\"q\"");
    assert_eq!(refused, ["event.lead_id: no column identity, email, id is filled"]);
    // Which column counts, in any case, and that rows differ.
    let event = one(&sheet, r#"{"ID":"7","IDENTITY":"u7"}"#);
    assert_eq!(event["lead_id"], "u7");
    assert_ne!(
        event["event_id"],
        one(&sheet, r#"{"ID":"8","IDENTITY":"u7"}"#)["event_id"]
    );
    let (_, refused) = take(&sheet, &received(r#"{"id":"7","Signup":"SECRET"}"#));
    assert!(
        refused[0].starts_with("dates: Signup: ") && !refused[0].contains("SECRET"),
        "{refused:?}"
    );
    for (body, kind, why) in [
        (&b"\xff"[..], None, "no UTF-8 from byte 1 on"),
        (b"{\"a\":", None, "malformed JSON at line 1, column 5"),
        (b"7", None, "the body is no JSON object or list of them"),
        (b"", Some("application/x-www-form-urlencoded"), "the form is empty"),
        (
            b"Email=a%40b.c&Name=%FF",
            Some("application/x-www-form-urlencoded"),
            "no UTF-8 in the form",
        ),
        (
            b" {\"Email\":\"a@b.c\"}",
            Some("application/x-www-form-urlencoded"),
            "no form, since it begins with { or [; JSON needs Content-Type: application/json, and an inlet that takes it",
        ),
        (b"a,\xff\n1\n", Some("text/csv"), TITLES_NO_UTF8),
    ] {
        let received = Received {
            body,
            content_type: kind,
            route: "",
        };
        assert_eq!(undecodable(&sheet, &received), why);
    }
}

#[test]
fn calls_come_alone_and_in_batches_and_clocks_are_put_right() {
    let product = inlet("{name: product, preset: track, secrets: [{secret: write-key}]}");
    let track = |route| {
        Received {
        body: br#"{"messageId":"m-1","userId":"u1","event":"Order Completed","properties":{"name":"Ana","total":42.50},"timestamp":"2026-03-05T14:00:00.000Z","sentAt":"2026-03-05T14:00:10.000Z"}"#,
        route,
        ..Received::default()
    }
    };
    let (events, _) = take(&product, &track("v1/track"));
    assert_eq!(events[0]["trigger"], "call.track");
    // The library's clock is an hour and more behind: it was sent ten seconds after it happened.
    assert_eq!(events[0]["occurred_at"], "2026-03-05T15:15:50Z");
    assert_eq!(
        events[0]["payload"],
        serde_json::from_slice::<Value>(track("").body).unwrap(),
        "the call as sent"
    );
    let batch = Received {
        body: br#"{"writeKey":"SECRET","sentAt":"2026-03-05T15:16:01Z","batch":[
            {"type":"identify","messageId":"1","userId":"u1","traits":{"plan":"enterprise"},"timestamp":"2026-03-05T15:16:01Z"},
            {"type":"page","messageId":"2"},
            {"type":"group","messageId":"3","anonymousId":"a1","groupId":"g"},
            7]}"#,
        route: "v1/batch",
        ..Received::default()
    };
    // What a batch's call is, it says itself, here and when it is replayed.
    let untyped = json!({"messageId": "4", "userId": "u1"});
    let (events, refused) = take(
        &product,
        &Received {
            body: json!({"batch": [untyped]}).to_string().as_bytes(),
            route: "v1/batch",
            ..Received::default()
        },
    );
    let missing = "event.trigger: call.{{$.type}} or call.{{$._route}} is missing";
    assert_eq!((events.len(), &refused[..]), (0, &[missing.to_owned()][..]));
    let again = product.take_again(untyped.to_string().as_bytes(), "v1/batch", NOW.parse().unwrap());
    assert_eq!(again.refused, Some((Reason::InvalidEvent, missing.to_owned())));
    let (events, refused) = take(&product, &batch);
    let triggers: Vec<_> = events.iter().map(|event| event["trigger"].as_str().unwrap()).collect();
    assert_eq!(triggers, ["call.identify", "call.group"]);
    assert_eq!(
        (&events[0]["occurred_at"], &events[1]["occurred_at"]),
        (&NOW.into(), &NOW.into())
    );
    assert_eq!(
        refused,
        [
            "event.lead_id: {{$.userId}} or {{$.anonymousId}} is missing",
            "unwrap: the record is no object"
        ]
    );
    assert!(!events.iter().any(|event| event.to_string().contains("SECRET")));
    let no_list = Received {
        body: b"{}",
        route: "v1/batch",
        ..Received::default()
    };
    assert_eq!(undecodable(&product, &no_list), "$.batch is no list");
}

#[test]
fn a_clevertap_body_is_one_event() {
    let inlet = inlet("{name: journeys, preset: clevertap, event: {trigger: clevertap.won}}");
    let event = one(
        &inlet,
        r#"{"targetId":1,"profiles":[{"identity":"u1","objectId":"o1"},{"identity":"u2"}]}"#,
    );
    assert_eq!(
        (&event["trigger"], &event["lead_id"]),
        (&"clevertap.won".into(), &"u1".into())
    );
    let other = one(&inlet, r#"{"targetId":1,"profiles":[{"objectId":"o1"}]}"#);
    assert_eq!(other["lead_id"], "o1");
    assert_ne!(other["event_id"], event["event_id"]);
}

#[test]
fn every_preset_is_whole_but_for_what_the_entry_must_say() {
    for (preset, topic, needs) in [
        ("slack", false, ""),
        ("salesforce", true, ""),
        ("salesforce", false, "[0].event.trigger: is missing"),
        ("sheet", false, ""),
        ("sheet", true, ""),
        ("track", false, ""),
        ("clevertap", false, ""),
        (
            "json",
            false,
            "[0].event: is missing; say at least event_id, trigger and lead_id",
        ),
    ] {
        let kind = if topic { "kind: topic, topic: t" } else { "kind: http" };
        let entry = format!("{{name: n, preset: {preset}, {kind}}}");
        if needs.is_empty() {
            inlet(&entry);
        } else {
            assert!(refused(&entry).contains(needs), "{entry}");
        }
    }
    assert_eq!(
        refused("{name: n, preset: slack, kind: topic, topic: t}"),
        "[0].kind: the preset slack is of kind http, not topic"
    );
}

#[test]
fn a_wrong_entry_is_refused_with_the_field_and_the_cure() {
    let event = "event: {event_id: '{{$.id}}', trigger: t, lead_id: x}";
    for (entry, said) in [
        ("{}", "[0].name: is missing"),
        (&format!("{{name: 'A b', {event}}}"), "[0].name: needs 1 to 64"),
        (
            &format!("{{name: n, preset: slak, {event}}}"),
            "[0].preset: is none of slack, salesforce, sheet, track, clevertap, json; did you mean slack?",
        ),
        (
            &format!("{{name: n, explod: $.a, {event}}}"),
            "[0].explod: unknown field; did you mean explode?",
        ),
        (
            &format!("{{name: n, secrets: [xoxb-1], {event}}}"),
            "[0].secrets[0]: a secret must not stand in the open",
        ),
        (
            &format!("{{name: n, secrets: [{{bearer: s3cret}}], {event}}}"),
            "[0].secrets[0].bearer: a secret must not",
        ),
        (
            &format!("{{name: n, decode: yaml, {event}}}"),
            "[0].decode: needs one of json",
        ),
        (
            &format!("{{name: n, decode: avro, {event}}}"),
            "[0].decode: avro is read from topics only",
        ),
        (&format!("{{name: n, kind: topic, {event}}}"), "[0].topic: is missing"),
        (
            &format!("{{name: n, kind: topic, topic: t, secrets: [], {event}}}"),
            "[0].secrets: is for inlets of kind http",
        ),
        (
            &format!("{{name: n, users: {{token: {{secret: t}}}}, {event}}}"),
            "[0].users: is for inlets with the preset slack",
        ),
        (
            &format!("{{name: n, when: [{{path: $.a}}], {event}}}"),
            "[0].when[0]: needs one of",
        ),
        (&format!("{{name: n, unwrap: 'a b', {event}}}"), "[0].unwrap: "),
        (
            "{name: n, event: {event_id: '{{$.id', trigger: t, lead_id: x}}",
            "[0].event.event_id: column",
        ),
        (
            "{name: n, event: {event_id: a, trigger: t, lead_id: x, payload: y}}",
            "[0].event.payload: unknown field",
        ),
        (
            "{name: n, event: {event_id: a, trigger: t, lead_id: x, lead: y}}",
            "[0].event.lead: unknown field",
        ),
    ] {
        let refusal = refused(entry);
        assert!(
            refusal.contains(said) && !refusal.contains("s3cret"),
            "{entry}\n{refusal}"
        );
    }
}

#[test]
fn a_topics_records_are_taken_whole() {
    let crm = inlet(
        "{name: crm, kind: topic, topic: t, decode: [avro, json], event: {event_id: '{{$.id}}', trigger: t, lead_id: x}, when: [{path: $.id, ne: 0}]}",
    );
    let mut schemas = Schemas::foreign();
    let schema = r#"{"type":"record","name":"R","fields":[{"name":"id","type":"long"}]}"#;
    let now = || NOW.parse().unwrap();
    let avro = [0, 0, 0, 0, 9, 14];
    assert_eq!(crm.take(Some(&avro), None, &schemas, now()), Err(SchemaId::Id(9)));
    schemas.learn(SchemaId::Id(9), schema, &[]);
    let taken = |value: Option<&[u8]>| {
        let taken = crm.take(value, None, &schemas, now()).unwrap();
        let ids: Vec<String> = taken.events.into_iter().map(|event| event.event_id).collect();
        (
            ids.join(" "),
            taken.left_out,
            taken.refused.map(|(reason, why)| format!("{reason}: {why}")),
        )
    };
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(taken(Some(&avro)), ("7".to_owned(), 0, None));
    assert_eq!(taken(Some(br#"{"id":8}"#)), ("8".to_owned(), 0, None));
    assert_eq!(taken(None), (String::new(), 1, None), "a tombstone");
    // Several in one: those that can be mapped are, and the rest is one refusal.
    let several = br#"[{"id":1},{"id":0},{},{},{"id":2}]"#;
    let why = some("invalid_event: event.event_id: {{$.id}} is missing (the first of 2 in 5 records)");
    assert_eq!(taken(Some(several)), ("1 2".to_owned(), 1, why));
    let malformed = some("not_decodable: malformed JSON at line 1, column 1");
    assert_eq!(taken(Some(b"SECRET")), (String::new(), 0, malformed));
    schemas.deny(SchemaId::Id(9), "nobody knows it");
    let denied = crm.take(Some(&avro), None, &schemas, now()).unwrap().refused;
    assert_eq!(
        denied,
        Some((Reason::UnknownSchema, "schema 9: nobody knows it".to_owned()))
    );
    // Avro alone takes nothing else, and JSON may stand in a registry's framing.
    let avro_only =
        inlet("{name: n, kind: topic, topic: t, decode: avro, event: {event_id: a, trigger: t, lead_id: x}}");
    let refused = avro_only
        .take(Some(b"{}"), None, &schemas, now())
        .unwrap()
        .refused
        .unwrap();
    assert!(refused.1.starts_with("the value is no Avro framing"), "{refused:?}");
    let json_only = inlet("{name: n, kind: topic, topic: t, event: {event_id: '{{$.id}}', trigger: t, lead_id: x}}");
    let framed = [&[0, 0, 0, 0, 9][..], br#"{"id":5}"#].concat();
    assert_eq!(
        json_only.take(Some(&framed), None, &schemas, now()).unwrap().events[0].event_id,
        "5"
    );
}

#[test]
fn a_record_of_a_request_is_taken_again_with_its_route() {
    let product = inlet("{name: product, preset: track, secrets: [{secret: write-key}]}");
    let call = json!({"messageId": "m-1", "userId": "u1", "event": "Won"});
    let taken = product.take_again(call.to_string().as_bytes(), "v1/track", NOW.parse().unwrap());
    let event: Value = serde_json::from_slice(&taken.events[0].json).unwrap();
    assert_eq!(event["trigger"], "call.track");
    // An element of a batch stands alone.
    let mut element = call;
    element["type"] = "identify".into();
    let taken = product.take_again(element.to_string().as_bytes(), "v1/batch", NOW.parse().unwrap());
    let event: Value = serde_json::from_slice(&taken.events[0].json).unwrap();
    assert_eq!((taken.refused, &event["trigger"]), (None, &"call.identify".into()));
}

#[test]
fn a_record_of_a_batch_costs_its_own_size_and_not_the_batchs() {
    let inlet = inlet(
        "{name: n, kind: topic, topic: t, decode: avro, split: $.rows, explode: $.ids, event: {event_id: '{{$.item}}', trigger: t, lead_id: x}}",
    );
    let schema = r#"{"type":"record","name":"B","fields":[{"name":"rows","type":{"type":"array","items":{"type":"record","name":"R",
        "fields":[{"name":"text","type":"string"},{"name":"ids","type":{"type":"array","items":"int"}}]}}}]}"#;
    let mut schemas = Schemas::foreign();
    schemas.learn(SchemaId::Id(9), schema, &[]);
    // 400 records of 1,000 bytes, in blocks of one record each; each explodes into one event.
    let row = [&[2, 0xD0, 0x0F][..], &[b'x'; 1_000], &[2, 14, 0]].concat();
    let value = [&[0, 0, 0, 0, 9][..], &row.repeat(400), &[0]].concat();
    let taken = inlet.take(Some(&value), None, &schemas, NOW.parse().unwrap()).unwrap();
    assert_eq!((taken.events.len(), taken.refused), (400, None));
}

#[test]
fn a_list_that_explodes_into_more_than_memory_holds_is_refused() {
    let inlet = inlet(
        "{name: n, explode: $.list, event: {event_id: '{{$.id}}:{{$.item}}', trigger: t, lead_id: x}, secrets: [{secret: s}]}",
    );
    let list: Vec<u32> = (0..100).collect();
    let record = |size: usize| json!({"id": 1, "text": "x".repeat(size), "list": list}).to_string();
    let (events, refused) = take(&inlet, &received(&record(600_000)));
    assert_eq!((events.len(), refused.len()), (100, 0));
    let (events, refused) = take(&inlet, &received(&record(700_000)));
    assert_eq!(events.len(), 0);
    assert!(
        refused[0].starts_with("what becomes of it has more than"),
        "{refused:?}"
    );
}

#[test]
fn one_bad_element_costs_its_batch_nothing_else() {
    let product = inlet("{name: product, preset: track, secrets: [{secret: write-key}]}");
    let call = |id: &str| format!("{{\"type\":\"track\",\"messageId\":\"{id}\",\"userId\":\"u\"}}");
    let deep = ["[".repeat(150), "]".repeat(150)].concat();
    for (bad, why) in [
        ("{\"a\":\"\\x\"}".to_owned(), "malformed JSON at line 1, column "),
        ("{\"a\":\"\u{1}\"}".to_owned(), "malformed JSON at line 1, column "),
        ("{\"a\":NaN}".to_owned(), "malformed JSON at line 1, column "),
        ("{\"a\":1]".to_owned(), "malformed JSON at line 1, column "),
        ("{\"a\" 1}".to_owned(), "malformed JSON at line 1, column "),
        (deep.clone(), "JSON that is nested deeper than 127 levels"),
        (
            format!("{{\"a\":{deep}}}"),
            "JSON that is nested deeper than 127 levels",
        ),
        (call("e\\ud83d"), "event: event_id holds half of a surrogate pair"),
        (
            r#"{"type":"track","messageId":"m","userId":"\udc00"}"#.to_owned(),
            "event: lead_id holds half of a surrogate pair",
        ),
        (call(""), "event.event_id: {{$.messageId}} is missing"),
        ("7".to_owned(), "unwrap: the record is no object"),
    ] {
        for body in [
            format!("{{\"batch\":[{},{bad},{}],\"sentAt\":null}}", call("1"), call("2")),
            format!("\u{feff}[{},\n{bad},{}]", call("1"), call("2")),
        ] {
            let (events, refused) = take(&product, &received(&body));
            let ids: Vec<_> = events.iter().map(|event| event["event_id"].as_str().unwrap()).collect();
            assert_eq!((&ids[..], refused.len()), (&["1", "2"][..], 1), "{body}");
            assert!(refused[0].starts_with(why), "{body}: {refused:?}");
        }
    }
    // No UTF-8 in one, and what JSON allows: a name twice, of which the last counts, and a number beyond all measure.
    let bytes = [call("1").as_bytes(), b"{\"a\":\"\xFF\"}", call("2").as_bytes()].join(&b","[..]);
    let body = [b"[", &bytes[..], b"]"].concat();
    let (events, refused) = take(
        &product,
        &Received {
            body: &body,
            ..Received::default()
        },
    );
    assert_eq!(
        (events.len(), &refused[..]),
        (2, &["no UTF-8 from byte 7 on".to_owned()][..])
    );
    let body = r#"[{"type":"track","messageId":"1","messageId":"2","userId":"u","n":1e999999}]"#;
    let (events, _) = take(&product, &received(body));
    assert_eq!(
        (&events[0]["event_id"], events[0]["payload"]["n"].to_string()),
        (&"2".into(), "1e+999999".to_owned())
    );
}

#[test]
fn a_text_that_was_cut_in_an_emoji_is_taken_and_stays_itself() {
    let product = inlet("{name: product, preset: track, secrets: [{secret: write-key}]}");
    let body = r#"{"batch":[{"type":"track","messageId":"s1","userId":"u","event":"Ok","properties":{"a":1}},{"type":"track","messageId":"s2","userId":"u","event":"Bad","properties":{"title":"cut \ud83d"}}],"sentAt":"2026-03-05T15:16:01.000Z"}"#;
    let (events, refused) = take(&product, &received(body));
    assert_eq!((events.len(), refused.len()), (2, 0));
    assert_eq!(events[1]["payload"]["properties"]["title"], "cut \u{fffd}");
    // Records that differ only by their hash still differ.
    let sheet = inlet("{name: leads, preset: sheet, secrets: [{secret: s}]}");
    let id = |note: &str| one(&sheet, &format!("{{\"id\":1,\"note\":\"{note}\"}}"))["event_id"].clone();
    assert_ne!(id("cut \\ud83d"), id("cut \\ud83e"));
    assert_eq!(id("cut \\ud83d"), id("cut \\ud83d"));
}

#[test]
fn of_a_list_those_that_are_dead_can_be_taken_alone() {
    let entry = |event: &str| format!("{{name: n, kind: topic, topic: t, split: $.list, event: {event}}}");
    let broken = inlet(&entry("{event_id: '{{$.id}}', trigger: t, lead_id: '{{$.lead}}'}"));
    let mended = inlet(&entry("{event_id: '{{$.id}}', trigger: t, lead_id: '{{$.id}}'}"));
    let body = br#"{"list":[{"id":0,"lead":1},{"id":1},{"id":2},{"id":3,"lead":1},{"id":4}]}"#;
    let (schemas, now) = (Schemas::foreign(), NOW.parse().unwrap());
    let taken = broken.take(Some(body), None, &schemas, now).unwrap();
    let dead = taken.dead.unwrap();
    assert_eq!((taken.events.len(), dead.to_string()), (2, "1-2,4".to_owned()));
    let again = mended.take(Some(body), Some(&dead), &schemas, now).unwrap();
    let ids: Vec<&str> = again.events.iter().map(|event| event.event_id.as_str()).collect();
    assert_eq!((&ids[..], again.refused), (&["1", "2", "4"][..], None));
    // One record alone is dead or not.
    let taken = broken.take(Some(b"{\"id\":1}"), None, &schemas, now).unwrap();
    assert_eq!((taken.refused.is_some(), taken.dead), (true, None));
}

#[test]
fn what_opens_an_inlet_stays_in_no_body() {
    let product = inlet("{name: product, preset: track, secrets: [{secret: write-key}]}");
    let body = r#"{"batch":[{"writeKey":"SECRET","messageId":"1"},{"writeKey":"SECRET","a":\x}],"writeKey":"SECRET"}"#;
    let kept = product.without_secrets(&received(body)).into_owned();
    let kept = String::from_utf8(kept).unwrap();
    assert!(
        !kept.contains("SECRET") && kept.contains("\"messageId\":\"1\""),
        "{kept}"
    );
    let mut budget = Budget::of(body.len());
    let mut batch = product.decode(&received(body), &mut budget).unwrap();
    while let Some(record) = batch.next(&mut budget) {
        let text = record.text().into_owned();
        assert!(!text.is_empty() && !String::from_utf8(text).unwrap().contains("SECRET"));
    }
    let crm = inlet("{name: won, preset: salesforce, kind: http, event: {trigger: t}, secrets: [{secret: s}]}");
    let body = "<E:Envelope><Body><notifications><SessionId>SECRET<b>SECRET</b></SessionId><n:SessionId>SECRET</n:SessionId>\
        <Notification><Id>1</Id></Notification></notifications></Body></E:Envelope>";
    let kept = crm.without_secrets(&received(body)).into_owned();
    let kept = String::from_utf8(kept).unwrap();
    assert!(
        !kept.contains("SECRET") && kept.contains("<n:SessionId></n:SessionId>"),
        "{kept}"
    );
    assert_eq!(
        take(&crm, &received(&kept)).1,
        ["event.lead_id: {{$.sObject.Id}} is missing"]
    );
}

#[test]
fn ids_of_the_wrong_kind_are_passed_over_or_refused_by_name() {
    let of = |event: &str| {
        inlet(&format!(
            "{{name: n, preset: json, event: {{trigger: t, {event}}}, secrets: [{{bearer: {{secret: s}}}}]}}"
        ))
    };
    let ids = |inlet: &Inlet, body: &str| {
        let event = one(inlet, body);
        (
            event["event_id"].as_str().unwrap().to_owned(),
            event["lead_id"].as_str().unwrap().to_owned(),
        )
    };
    let plain = of("event_id: '{{$.id}}', lead_id: '{{$.who}}'");
    let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
    assert_eq!(ids(&plain, r#"{"id":7.0,"who":8.4512377E7}"#), pair("7", "84512377"));
    for bad in [r#"{"x":"SECRET"}"#, r#"["SECRET"]"#, "true", "[]", "1e+21"] {
        for (body, place) in [
            (format!(r#"{{"id":{bad},"who":"w"}}"#), "event.event_id: $.id "),
            (format!(r#"{{"id":"e","who":{bad}}}"#), "event.lead_id: $.who "),
        ] {
            let (events, refused) = take(&plain, &received(&body));
            assert!(events.is_empty() && refused.len() == 1, "{body}");
            assert!(
                refused[0].starts_with(place) && !refused[0].contains("SECRET"),
                "{refused:?}"
            );
        }
    }
    let (_, refused) = take(&plain, &received("{\"id\":\"SECRET\u{fffd}\",\"who\":\"w\"}"));
    assert!(
        refused[0].contains("event_id holds half of a surrogate pair") && !refused[0].contains("SECRET"),
        "{refused:?}"
    );
    // The next is tried before.
    let first = of(
        "event_id: {first: ['{{$.id}}', '{{$.other}}']}, lead_id: ['{{$.who.email}}', '{{$.who}}', '{{$.flag}}', '{{$.id}}']",
    );
    assert_eq!(ids(&first, r#"{"id":["x"],"other":"o","who":"w"}"#), pair("o", "w"));
    assert_eq!(
        ids(&first, r#"{"id":5,"who":{"name":"x"},"flag":true}"#),
        pair("5", "5")
    );
    let (_, refused) = take(&first, &received(r#"{"id":"e","who":{"email":[]},"id":{}}"#));
    assert_eq!(refused.len(), 1);
    // A trigger that is none matches nothing, and nobody would know why.
    let track = inlet("{name: n, preset: track, secrets: [{secret: s}]}");
    let (events, refused) = take(&track, &received(r#"{"messageId":"m","userId":"u","type":{"a":1}}"#));
    assert!(events.is_empty(), "{events:?}");
    assert_eq!(
        refused,
        ["event.trigger: $.type must be a text or a number, not a list, an object or a boolean"]
    );
    // Cells of a row.
    let sheet = inlet("{name: rows, preset: sheet, secrets: [{secret: s}]}");
    let lead = |row: &str| one(&sheet, row)["lead_id"].as_str().unwrap().to_owned();
    assert_eq!(
        lead(r#"{"Identity":{"a":1},"Email":"ana@example.com"}"#),
        "ana@example.com"
    );
    assert_eq!(lead(r#"{"Identity":true,"Email":" ","ID":12.0}"#), "12");
    let (_, refused) = take(&sheet, &received(r#"{"Identity":["SECRET"]}"#));
    assert_eq!(
        refused,
        ["event.lead_id: the column identity must be a text or a number, not a list, an object or a boolean"]
    );
}

#[test]
fn times_of_inlets_are_read_in_a_form_or_refused_by_name() {
    let of = |entry: &str| {
        inlet(&format!(
            "{{name: n, preset: json, event: {{event_id: '{{{{$.id}}}}', trigger: t, lead_id: l, occurred_at: '{{{{$.at}}}}'}}, {entry} secrets: [{{bearer: {{secret: s}}}}]}}"
        ))
    };
    let plain = of("");
    let at = |inlet: &Inlet, at: &str| {
        one(inlet, &format!(r#"{{"id":"e","at":{at}}}"#))["occurred_at"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    assert_eq!(at(&plain, "19900115"), "1990-01-15T00:00:00Z");
    assert_eq!(at(&plain, "\"20260305T151600Z\""), "2026-03-05T15:16:00Z");
    assert_eq!(at(&plain, "1772723760123456"), "2026-03-05T15:16:00.123456Z");
    for bad in ["45123.5", "19901332", "0", "\"20260305151600\"", "1e20"] {
        let (_, refused) = take(&plain, &received(&format!(r#"{{"id":"e","at":{bad}}}"#)));
        assert!(
            refused[0].starts_with("event.occurred_at: ") && refused[0].contains("read_date"),
            "{refused:?}"
        );
    }
    let serial = of("dates: {at: serial},");
    assert_eq!(at(&serial, "45123.5"), "2023-07-16T12:00:00Z");
    assert_eq!(at(&serial, "\" 45123.5 \""), "2023-07-16T12:00:00Z");
    // An empty cell holds no date, and what is no cell none either.
    assert_eq!(at(&serial, "null"), NOW);
    assert_eq!(at(&serial, "\" \""), NOW);
    for bad in ["[45123]", "{}", "true", "\"SECRET\""] {
        let (_, refused) = take(&serial, &received(&format!(r#"{{"id":"e","at":{bad}}}"#)));
        assert!(
            refused[0].starts_with("dates: at: ") && !refused[0].contains("SECRET"),
            "{refused:?}"
        );
    }
    assert!(
        refused("{name: n, preset: json, dates: {at: '%H:%M'}, event: {event_id: '{{$.id}}', trigger: t, lead_id: l}}")
            .contains("[0].dates.at: names no whole day")
    );
    // A clock that can't be read puts nothing right.
    let track = inlet("{name: n, preset: track, secrets: [{secret: s}]}");
    let call = r#"{"messageId":"m","type":"track","userId":"u","timestamp":"2026-03-05T14:00:00Z","sentAt":"SECRET"}"#;
    let (events, refused) = take(&track, &received(call));
    assert!(
        events.is_empty() && refused[0].starts_with("event.occurred_at: sent_at: ") && !refused[0].contains("SECRET"),
        "{refused:?}"
    );
}
