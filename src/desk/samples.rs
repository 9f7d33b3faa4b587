//! Built-in sample events, one for each trigger: what a rule is previewed with while no real event is at hand.
//!
//! A sample has every field that the trigger's events have, and made-up values alone: `example.com`, and numbers that
//! are kept for fiction.

use serde_json::{Map, Value, json};

use crate::dates;
use crate::lead;
use crate::rules::Level;

/// The sample event of a trigger, a lead event as JSON that occurred at `now`, in epoch milliseconds. A trigger that isn't
/// known by name has all fields, and what an inlet may have received.
pub fn event(trigger: &str, now: i64) -> Value {
    let (system, what) = trigger.rsplit_once('.').unwrap_or(("", trigger));
    let is_known = lead::TRIGGERS.contains(&trigger);
    let is_rejected = what == "lead_rejected" && is_known;
    let at = dates::time_text(now);
    let entity = |id: &str, name: &str| json!({"id": id, "name": name});
    let mut event = json!({
        "event_id": format!("sample-{trigger}"),
        "trigger": trigger,
        "occurred_at": at,
        "lead_id": "84512377",
        "public_lead_id": "K7Q2M9",
        "status": if what.ends_with("rejected") { "Reject" } else { "Sold" },
        "is_test": false,
        "method": "POST",
        "product": entity("12", "Auto Insurance"),
        "publisher": entity("3401", "BrightTraffic"),
        "channel": entity("9012", "bt-auto-api"),
        "source": entity("sub-77", "Search, Texas"),
        "currency": "USD",
        "consumer": {
            "first_name": "Ana", "last_name": "Diaz", "email": "ana@example.com", "phone": "+15125550123",
            "city": "Austin", "state": "TX", "zip": "78701", "country": "US",
        },
        "fields": {"vehicle_year": "2019"},
    });
    let mut add = |name: &str, value: Value| event[name] = value;
    if !is_rejected {
        add("buyer", entity("210", "SafeDrive"));
        add("campaign", entity("5521", "SafeDrive TX 25-65"));
        add("pingtree", entity("31", "Auto main"));
        add("price", json!("42.5000"));
        add("payout", json!("29.7500"));
    }
    if what.ends_with("rejected") || !is_known {
        add("reason_code", json!("duplicate"));
        add("reason", json!("Duplicate within 30 days"));
    }
    if what == "revenue_ping_back" || !is_known {
        add("revenue", json!("120.0000"));
        add("transaction_id", json!("TX-20417"));
    }
    if system == "call_logic" || !is_known {
        let earlier = |seconds: i64| dates::time_text(now.saturating_sub(seconds * 1000));
        add("attempt", json!(1));
        add(
            "call",
            json!({
                "call_id": "c-84512377", "caller_number": "+15125550123", "dialed_number": "+18005550199",
                "started_at": earlier(140), "answered_at": earlier(131), "ended_at": at, "billable_seconds": 131,
                "answered": true, "recording_url": "https://calls.example.com/c-84512377",
            }),
        );
    }
    event
}

/// The sample of a trigger as it would be at a rule's level and id; `None` is any id.
pub fn at(trigger: &str, level: Level, id: Option<&str>, now: i64) -> Value {
    let mut event = event(trigger, now);
    if level == Level::Inlet {
        event["inlet"] = id.unwrap_or("sample").into();
        event["payload"] =
            json!({"email": "ana@example.com", "plan": "pro", "score": 4, "properties": {"name": "Ana Diaz"}});
    } else if let Some(id) = id {
        let entity = event[level.as_str()].as_object().cloned().unwrap_or_else(Map::new);
        let name = entity.get("name").cloned().unwrap_or(Value::Null);
        event[level.as_str()] = json!({"id": id, "name": name});
    }
    event
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lead::decode::decode;
    use crate::lead::schemas::Schemas;
    use crate::rules::words::TRIGGERS;

    const NOW: i64 = 1_772_723_760_123;

    #[test]
    fn each_trigger_has_a_whole_event() {
        for trigger in TRIGGERS
            .map(|trigger| trigger.name)
            .into_iter()
            .chain(["survey.answered", "x"])
        {
            let bytes = event(trigger, NOW).to_string();
            let read = decode(bytes.as_bytes(), &Schemas::new()).unwrap_or_else(|error| panic!("{trigger}: {error}"));
            assert_eq!((&*read.trigger, read.occurred_at.as_millisecond()), (trigger, NOW));
            // A rejected lead was sold to no one.
            let is_sold = !trigger.ends_with(".lead_rejected");
            assert_eq!(read.filter_price().is_some(), is_sold, "{trigger}");
            assert_eq!(read.buyer.is_some(), is_sold, "{trigger}");
            let is_known = lead::TRIGGERS.contains(&trigger);
            assert_eq!(
                read.reason.is_some(),
                trigger.ends_with("rejected") || !is_known,
                "{trigger}"
            );
            let calls = trigger.starts_with("call_logic.") || !trigger.starts_with("lms.");
            assert_eq!(read.call.is_some(), calls, "{trigger}");
            // What isn't of a lead event would be left aside in silence.
            let names: Vec<_> = event(trigger, NOW).as_object().unwrap().keys().cloned().collect();
            assert!(
                names.iter().all(|name| lead::FIELDS.contains(&name.as_str())),
                "{names:?}"
            );
        }
    }

    #[test]
    fn a_sample_is_of_its_level() {
        for level in Level::ALL {
            for id in [Some("77"), None] {
                let bytes = at("lms.lead_sold", level, id, NOW).to_string();
                let event = decode(bytes.as_bytes(), &Schemas::new()).unwrap();
                assert!(
                    level.id_in(&event).is_some_and(|found| id.is_none_or(|id| found == id)),
                    "{level:?}"
                );
            }
        }
    }
}
