//! Believable lead events, with a few bad ones among them.

use serde_json::json;

/// The producers of the demo: one stream of events, the same at every run but for its times.
#[derive(Debug)]
pub(super) struct Producers {
    rng: fastrand::Rng,
    count: u64,
    now: fn() -> i64,
}

const PEOPLE: [(&str, &str, &str, &str); 8] = [
    ("Ana", "Diaz", "Austin", "TX"),
    ("Ben", "Okafor", "Miami", "FL"),
    ("Carla", "Rossi", "Denver", "CO"),
    ("Dmitri", "Ivanov", "Tampa", "FL"),
    ("Eve", "O'Brien", "Boston", "MA"),
    ("Farid", "Haddad", "Houston", "TX"),
    ("Grace", "Liu", "Seattle", "WA"),
    ("Hugo", "Meyer", "Dallas", "TX"),
];
const PRODUCTS: [(&str, &str); 3] = [("12", "Auto Insurance"), ("14", "Home Insurance"), ("20", "Payday")];
const BUYERS: [(&str, &str); 3] = [("210", "SafeDrive"), ("214", "Harbor & Sons"), ("230", "QuickCover")];
const REASONS: [&str; 3] = [
    "No campaign accepted",
    "Duplicate within 30 days",
    "Outside of business hours",
];

impl Producers {
    pub(super) fn new(now: fn() -> i64) -> Self {
        Self {
            rng: fastrand::Rng::with_seed(7),
            count: 0,
            now,
        }
    }

    /// The next event's key and value.
    pub(super) fn next(&mut self) -> (String, String) {
        self.count += 1;
        let lead = format!("{}", 84_512_000 + self.count);
        let value = match self.count {
            // A producer's bugs: half a record, and a price that is none.
            count if count % 37 == 12 => r#"{"event_id":"broken","trigger":"lms.lead_sold","#.to_owned(),
            count if count % 37 == 30 => self.any(&lead).replace("\"price\":\"", "\"price\":\"about "),
            _ => self.any(&lead),
        };
        (lead, value)
    }

    /// One of that trigger, such that a rule of the demo matches it.
    pub(super) fn of(&mut self, trigger: &str) -> (String, String) {
        self.count += 1;
        let lead = format!("{}", 84_512_000 + self.count);
        let value = self.event(&lead, trigger, PRODUCTS[0], true);
        (lead, value)
    }

    fn any(&mut self, lead: &str) -> String {
        let trigger = match self.rng.u8(..10) {
            0..4 => "lms.lead_sold",
            4..6 => "lms.lead_rejected",
            6 => "lms.campaign_rejected",
            7 | 8 => "lms.publisher_earning_received",
            _ => "call_logic.buyer_response",
        };
        let product = PRODUCTS[self.rng.usize(..PRODUCTS.len())];
        let answered = self.rng.u8(..4) > 0;
        self.event(lead, trigger, product, answered)
    }

    fn event(&mut self, lead: &str, trigger: &str, (product, product_name): (&str, &str), answered: bool) -> String {
        let (first, last, city, state) = PEOPLE[self.rng.usize(..PEOPLE.len())];
        let (buyer, buyer_name) = BUYERS[self.rng.usize(..BUYERS.len())];
        let cents = self.rng.u32(500..9000);
        let sold = trigger != "lms.lead_rejected";
        let call = trigger.starts_with("call_logic").then(|| {
            json!({"call_id": format!("c-{lead}"), "caller_number": "+15125550123", "dialed_number": "+18005550199",
                   "answered": answered, "billable_seconds": self.rng.u32(15..400)})
        });
        json!({
            "event_id": format!("demo-{lead}-{trigger}"), "trigger": trigger, "occurred_at": (self.now)(), "lead_id": lead,
            "status": if sold { "Sold" } else { "Reject" }, "is_test": false, "method": "POST",
            "product": {"id": product, "name": product_name}, "publisher": {"id": "3401", "name": "BrightTraffic"},
            "buyer": sold.then(|| json!({"id": buyer, "name": buyer_name})),
            "price": sold.then(|| format!("{}.{:02}", cents / 100, cents % 100)),
            "payout": sold.then(|| format!("{}.{:02}", cents / 150, cents % 100)),
            "currency": "USD", "reason": (!sold).then(|| REASONS[self.rng.usize(..REASONS.len())]),
            "consumer": {"first_name": first, "last_name": last, "phone": "+15125550123",
                         "email": format!("{}@example.com", first.to_lowercase()), "city": city, "state": state},
            "call": call,
        })
        .to_string()
    }
}
