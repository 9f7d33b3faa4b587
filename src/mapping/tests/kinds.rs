//! Arbitrary JSON in every place of what each preset takes: what comes out has an id and a time, or is refused with
//! its place.

use proptest::prelude::*;
use proptest::sample::Index;

use super::*;
use crate::lead::any::{NESTED, json as any_json, put};

/// What an inlet takes, with the URL's path beyond its name.
fn samples() -> Vec<(Inlet, &'static str, Value)> {
    let change = json!({"payload": {"ChangeEventHeader": {"entityName": "Contact", "recordIds": ["003A", "003B"], "changeType": "UPDATE",
        "transactionKey": "k", "sequenceNumber": 1, "commitTimestamp": 1_772_723_760_000_i64, "nulledFields": ["0x02"], "diffFields": [],
        "changedFields": ["0x0c"]}, "Email": null, "Phone": "1", "Name": {"FirstName": "a"}}});
    let slack = json!({"team_id": "T", "type": "event_callback", "event_id": "Ev1",
        "event": {"type": "message", "user": "U1", "text": "hi", "ts": "1521611063.000100", "event_ts": "1521611063.000100"}});
    let calls = json!({"sentAt": "2026-03-05T15:16:01Z", "batch": [
        {"messageId": "m", "type": "track", "userId": "u", "anonymousId": "a", "event": "x", "timestamp": "2026-03-05T15:16:00Z", "properties": {"a": 1}}]});
    let campaign = json!({"targetId": 1, "profiles": [{"identity": "ana", "objectId": "o"}], "key_values": {"a": "b"}});
    let message = json!({"Id": "04l", "sObject": {"Id": "006", "Amount": "12500.0"}, "OrganizationId": "00D"});
    let survey =
        json!({"id": 7, "at": "2026-03-05T15:16:00Z", "email": "ana", "worth": 12.50, "buyer": 5, "zip": "78701"});
    [
        ("preset: salesforce, kind: topic, topic: t", "", change),
        ("preset: salesforce, kind: http, event: {trigger: won, price: '{{$.sObject.Amount}}'}", "", message),
        ("preset: slack", "", slack),
        ("preset: track", "v1/batch", calls),
        ("preset: clevertap", "", campaign),
        ("preset: sheet, dates: {Day: serial}, event: {occurred_at: '{{$.Day}}'}", "", json!({"Identity": "", "Email": "ana", "ID": 5, "Day": 45123.5})),
        (
            "preset: json, event: {event_id: '{{$.id}}', trigger: ['{{$.what}}', s], lead_id: {first: ['{{$.email}}', '{{$.id}}']}, occurred_at: '{{$.at}}',
             price: '{{$.worth}}', buyer: {id: '{{$.buyer}}'}, fields: {zip: '{{$.zip}}'}}",
            "",
            survey,
        ),
    ]
    .into_iter()
    .map(|(entry, route, body)| (inlet(&format!("{{name: n, {entry}}}")), route, body))
    .collect()
}

fn check(event: &Event) -> Result<(), TestCaseError> {
    let read = lead::decode::decode_json(&event.json);
    let text = String::from_utf8_lossy(&event.json);
    prop_assert!(read.is_ok(), "{}", text);
    for id in [&event.event_id, &event.lead_id] {
        prop_assert!(crate::ids::wrong_text(id).is_none(), "{}", id);
        prop_assert!(
            !id.contains(NESTED) && id != "true" && id != "false" && id != "[]" && id != "{}",
            "{}",
            id
        );
    }
    let read = read.unwrap();
    prop_assert!(!read.trigger.contains(NESTED), "{}", read.trigger);
    let buyer = read.buyer.and_then(|buyer| buyer.id);
    prop_assert!(buyer.is_none_or(|id| !id.contains(NESTED) && id != "true"));
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn what_comes_out_of_a_preset_has_ids_and_a_time_or_is_refused_with_its_place(
        values in proptest::collection::vec((any::<Index>(), any_json()), 1..4)
    ) {
        for (inlet, route, mut body) in samples() {
            put(&mut body, values.clone());
            let text = body.to_string();
            let mut budget = Budget::of(text.len());
            let Ok(mut batch) = inlet.decode_json(text.as_bytes(), route, &mut budget) else { continue };
            while let Some(record) = batch.next(&mut budget) {
                let mapped = inlet.map(&record, batch.around(), NOW.parse().unwrap(), &mut budget);
                for event in &mapped.events {
                    check(event)?;
                }
                if let Some((_, why)) = mapped.refused {
                    let step = why.split([':', '.']).next().unwrap_or_default();
                    let steps = ["unwrap", "change_event", "dates", "refuse", "explode", "event", "payload"];
                    prop_assert!(steps.contains(&step), "{}", why);
                    prop_assert!(!why.contains("SECRET") && !why.contains(NESTED), "{}: {}", why, body);
                }
            }
        }
    }
}
