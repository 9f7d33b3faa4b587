//! Rules from a seed, of the kinds that people write.

use serde_json::json;

pub(crate) const TRIGGERS: [&str; 3] = ["lms.lead_sold", "lms.campaign_sold", "call_logic.lead_sold"];
pub(crate) const STATES: [&str; 8] = ["TX", "FL", "CA", "NY", "IL", "OH", "GA", "WA"];

/// As many ids of each kind as meet a like number of rules.
pub(crate) fn ids(count: usize) -> usize {
    count / 4
}

/// The ids of `count` rules and their JSON, as people write them: about one scope, with ids, a price, lists, and conditions on fields and the payload.
pub(crate) fn rules(count: usize) -> impl Iterator<Item = (String, String)> {
    let mut rng = fastrand::Rng::with_seed(7);
    let ids = ids(count);
    (0..count).map(move |number| {
        let id = |rng: &mut fastrand::Rng, kind: &str| format!("{kind}{}", rng.usize(..ids));
        let price = rng.usize(..60);
        let state = |rng: &mut fastrand::Rng| STATES[rng.usize(..STATES.len())];
        let trigger = TRIGGERS[rng.usize(..TRIGGERS.len())];
        let (scope, filters) = match number % 20 {
            0..8 => (
                json!({"level": "product", "id": id(&mut rng, "")}),
                json!({"price": {"gte": price}}),
            ),
            8..12 => (
                json!({"level": "campaign", "id": id(&mut rng, "")}),
                json!({"where": [{"path": "$.consumer.state", "in": [state(&mut rng), state(&mut rng), "NV"]}]}),
            ),
            12..15 => (
                json!({"level": "publisher", "id": id(&mut rng, "p")}),
                json!({"channel": [id(&mut rng, ""), id(&mut rng, ""), "9012"], "method": "POST"}),
            ),
            15..17 => (
                json!({"level": "product", "id": id(&mut rng, "")}),
                json!({"publisher": ["p1", "p2", id(&mut rng, "p")], "buyer": ["210"]}),
            ),
            17..19 => (
                json!({"level": "product", "id": "*"}),
                json!({"where": [{"path": "$.account", "eq": format!("acct-{}", rng.usize(..ids))}, {"path": "$.plan", "eq": "pro"}]}),
            ),
            _ => (
                json!({"level": "product", "id": "*"}),
                json!({"channel": id(&mut rng, ""), "price": {"lt": price}, "where": [{"path": "$.fields.vehicle_year", "gte": 1990 + rng.usize(..40)}]}),
            ),
        };
        let action = match number % 4 {
            0 => {
                json!({"type": "slack_message", "token": {"secret": "bot"}, "to": {"channel": format!("C{}", number % 500)},
                        "text": "Lead {{$.lead_id}} sold to {{$.buyer.name}} for {{$.price | money}}"})
            }
            1 => {
                json!({"type": "slack_webhook", "url": {"secret": format!("hook-{}", number % 50)}, "text": "{{$.lead_id}}"})
            }
            2 => {
                json!({"type": "clevertap_profile", "account": "acme", "identity": "{{$.consumer.email}}", "properties": {"State": "{{$.consumer.state}}"}})
            }
            _ => {
                json!({"type": "clevertap_event", "account": "acme", "identity": "{{$.consumer.email}}", "event_name": "Sold",
                        "properties": {"Price": "{{$.price}}", "Buyer": "{{$.buyer.name}}"}})
            }
        };
        let rule_id = format!("rule-{number}");
        let written = json!({"id": rule_id, "name": format!("Rule {number}"), "trigger": trigger, "scope": scope, "filters": filters, "action": action});
        (rule_id, written.to_string())
    })
}
