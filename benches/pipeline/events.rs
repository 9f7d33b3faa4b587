//! The events and rules of the bench, from a seed.

use std::fmt::Write as _;

use leadlane::config::Config;
use leadlane::kafka::producer::{Producer, Record};
use leadlane::lead::decode::{decode, is_quick};
use leadlane::lead::encode;
use leadlane::lead::schemas::Schemas;
use leadlane::rules::Rule;
use rdkafka::message::OwnedHeaders;

const TRIGGERS: [&str; 2] = ["lms.lead_sold", "lms.campaign_sold"];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Json,
    Avro,
}

impl Format {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Avro => "avro",
        }
    }
}

/// `count` rules. The first 100 have what people use: prices, lists, filters, conditions on fields and on the payload, all
/// four actions. The others are for products that no event has, so that the number of matches stays what it is.
pub(crate) fn rules(count: usize) -> String {
    let mut rules = String::new();
    for number in 0..count {
        let product = if number < 100 {
            (number / 2).to_string()
        } else {
            format!("x{number}")
        };
        let price = format!("price: {{gte: {}}}", 20 + number % 40);
        let filters = match number % 10 {
            0..3 => format!("{price}, publisher: [p{}, p{}]", number % 7, (number + 3) % 7),
            3 => format!("{price}, buyer: ['210', '211']"),
            4 => format!("{price}, where: [{{path: $.consumer.state, in: [TX, FL]}}]"),
            5 => format!("{price}, where: [{{path: $.fields.vehicle_year, gte: 2010}}]"),
            6 => format!("{price}, where: [{{path: $.payload.score, gt: 3}}]"),
            _ => price,
        };
        let text = "text: 'Lead {{$.lead_id}} sold to {{$.buyer.name}} for {{$.price | money}}'";
        let action = match number % 8 {
            6 => "{type: clevertap_profile, account: acme, identity: '{{$.lead_id}}', properties: {State: '{{$.consumer.state}}', Price: '{{$.price}}'}}".to_owned(),
            7 => "{type: clevertap_event, account: acme, identity: '{{$.lead_id}}', event_name: Sold, properties: {Buyer: '{{$.buyer.name}}', Price: '{{$.price}}'}}".to_owned(),
            5 => format!("{{type: slack_webhook, url: {{secret: hook}}, {text}}}"),
            _ => format!("{{type: slack_message, token: {{secret: bot}}, to: {{channel: C{}}}, {text}}}", number % 9),
        };
        let trigger = TRIGGERS[number % 2];
        writeln!(
            rules,
            "- {{id: rule-{number}, trigger: {trigger}, scope: {{level: product, id: '{product}'}}, filters: {{{filters}}}, action: {action}}}"
        )
        .unwrap();
    }
    rules
}

pub(crate) fn event(number: u64, rng: &mut fastrand::Rng) -> String {
    // Two rules of each product have a trigger each; the other events have another trigger.
    let trigger = if rng.u8(..100) < 48 {
        TRIGGERS[rng.usize(..2)]
    } else {
        "lms.campaign_rejected"
    };
    serde_json::json!({
        "event_id": format!("0190f3c2-6f7b-7c11-9a55-{number:012}"), "trigger": trigger, "occurred_at": "2026-03-05T15:16:00.123Z",
        "lead_id": format!("{}", 84_000_000 + number), "public_lead_id": "K7Q2M9", "status": "Sold", "is_test": false, "method": "POST",
        "product": {"id": rng.u8(..50).to_string(), "name": "Auto Insurance"}, "publisher": {"id": format!("p{}", rng.u8(..7)), "name": "BrightTraffic"},
        "channel": {"id": "9012", "name": "bt-auto-api"}, "source": {"id": "sub-77", "name": null}, "buyer": {"id": "210", "name": "SafeDrive"},
        "campaign": {"id": "5521", "name": "SafeDrive TX 25-65"}, "pingtree": {"id": "31", "name": "Auto main"},
        "price": format!("{}.{:02}00", rng.u8(..100), rng.u8(..100)), "payout": "29.7500", "revenue": null, "currency": "USD",
        "consumer": {"first_name": "Ana", "last_name": "Diaz", "email": "ana@example.com", "phone": "+15125550123", "city": "Austin", "state": "TX", "zip": "78701", "country": "US"},
        "call": null, "fields": {"vehicle_year": "2019", "currently_insured": "yes", "landing_page": "https://quotes.example.com/auto/start?src=bt&sub=77"},
        "payload": {"score": rng.u8(..10)},
    })
    .to_string()
}

/// Puts the events where they wait. Counts the jobs that a naive scan of the rules wants, and the events that take the
/// complete decoder.
pub(crate) fn fill(config: &Config, count: u64, rules: &str, format: Format) -> (u64, u64) {
    let entries = leadlane::yaml::entries(rules).unwrap();
    let rules: Vec<Rule> = entries
        .iter()
        .map(|entry| Rule::from_json(&entry.value).unwrap())
        .collect();
    let producer = Producer::new(config, 1_000_000).unwrap();
    let (mut rng, schemas) = (fastrand::Rng::with_seed(11), Schemas::new());
    let (mut wanted, mut slow) = (0, 0);
    for number in 0..count {
        let text = event(number, &mut rng);
        let decoded = decode(text.as_bytes(), &schemas).unwrap();
        wanted += rules.iter().filter(|rule| rule.explain(&decoded).is_empty()).count() as u64;
        let value = match format {
            Format::Json => text.clone().into_bytes(),
            Format::Avro => encode::single_object(&decoded).unwrap(),
        };
        slow += u64::from(!is_quick(&value, &schemas));
        let record = Record {
            topic: &config.topics.events,
            partition: None,
            key: decoded.lead_id.as_bytes(),
            value: Some(&value),
            headers: OwnedHeaders::new(),
        };
        producer.write(&record, |ack| assert!(ack.is_ok()));
    }
    assert!(producer.flush(std::time::Duration::from_secs(120)));
    (wanted, slow)
}
