//! Decoding one lead event, beside serde's own decoders on the same record: JSON of about 900 B beside `serde_json`, Avro
//! of about 365 B beside `serde_avro_fast`, both into a struct that borrows its texts. Times never fail
//! the run.

#![allow(clippy::unwrap_used, reason = "a bench that panics says why")]

use std::hint::black_box;

use leadlane::lead::asked::Asked;
use leadlane::lead::decode::{decode, decode_for, is_quick};
use leadlane::lead::encode;
use leadlane::lead::schemas::Schemas;
use leadlane::path::Path;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// So many times each in a round, and so many rounds in turns.
const TIMES: u32 = 5_000;
const ROUNDS: usize = 41;
/// Different events, so that no branch is learnt by heart.
const EVENTS: usize = 256;

/// Both have rules.
const TRIGGERS: [&str; 2] = ["lms.lead_sold", "lms.campaign_rejected"];

/// What rules like those of `benches/pipeline.rs` and their texts read.
const READ: [&str; 9] = [
    "product.id",
    "publisher.id",
    "price",
    "buyer.name",
    "currency",
    "consumer.state",
    "consumer.email",
    "fields.vehicle_year",
    "method",
];

/// An event as a struct that borrows. What is text or bytes on the wire stays so: no time and no price is read.
#[derive(Deserialize)]
#[allow(dead_code, reason = "it is read and thrown away")]
struct Event<'a, Time, Money> {
    event_id: &'a str,
    trigger: &'a str,
    occurred_at: Time,
    lead_id: &'a str,
    public_lead_id: Option<&'a str>,
    status: Option<&'a str>,
    is_test: Option<bool>,
    method: Option<&'a str>,
    #[serde(borrow)]
    product: Option<Entity<'a>>,
    publisher: Option<Entity<'a>>,
    channel: Option<Entity<'a>>,
    source: Option<Entity<'a>>,
    buyer: Option<Entity<'a>>,
    campaign: Option<Entity<'a>>,
    pingtree: Option<Entity<'a>>,
    price: Option<Money>,
    payout: Option<Money>,
    revenue: Option<Money>,
    currency: Option<&'a str>,
    reason_code: Option<&'a str>,
    reason: Option<&'a str>,
    transaction_id: Option<&'a str>,
    attempt: Option<i32>,
    consumer: Option<Consumer<'a>>,
    call: Option<Call<'a, Time>>,
    fields: Fields<'a>,
    inlet: Option<&'a str>,
    payload: Option<&'a str>,
}

/// The entries in their order, as Leadlane has them: no hash is made.
#[allow(dead_code, reason = "it is read and thrown away")]
struct Fields<'a>(Vec<(&'a str, Option<&'a str>)>);

impl<'de: 'a, 'a> Deserialize<'de> for Fields<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Entries)
    }
}

struct Entries;

impl<'de> Visitor<'de> for Entries {
    type Value = Fields<'de>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a map")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields<'de>, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Fields(entries))
    }
}

#[derive(Deserialize)]
#[allow(dead_code, reason = "it is read and thrown away")]
struct Entity<'a> {
    id: Option<&'a str>,
    name: Option<&'a str>,
}

#[derive(Deserialize)]
#[allow(dead_code, reason = "it is read and thrown away")]
struct Consumer<'a> {
    first_name: Option<&'a str>,
    last_name: Option<&'a str>,
    email: Option<&'a str>,
    phone: Option<&'a str>,
    city: Option<&'a str>,
    state: Option<&'a str>,
    zip: Option<&'a str>,
    country: Option<&'a str>,
}

#[derive(Deserialize)]
#[allow(dead_code, reason = "it is read and thrown away")]
struct Call<'a, Time> {
    call_id: Option<&'a str>,
    caller_number: Option<&'a str>,
    dialed_number: Option<&'a str>,
    started_at: Option<Time>,
    answered_at: Option<Time>,
    ended_at: Option<Time>,
    billable_seconds: Option<i32>,
    answered: Option<bool>,
    recording_url: Option<&'a str>,
}

fn event(number: usize, rng: &mut fastrand::Rng) -> String {
    let trigger = TRIGGERS[usize::from(rng.u8(..100) >= 40)];
    serde_json::json!({
        "event_id": format!("0190f3c2-6f7b-7c11-9a55-{number:012}"), "trigger": trigger, "occurred_at": "2026-03-05T15:16:00.123Z",
        "lead_id": format!("{}", 84_000_000 + number), "public_lead_id": "K7Q2M9", "status": "Sold", "is_test": false, "method": "POST",
        "product": {"id": rng.u8(..50).to_string(), "name": "Auto Insurance"}, "publisher": {"id": format!("p{}", rng.u8(..7)), "name": "BrightTraffic"},
        "channel": {"id": "9012", "name": "bt-auto-api"}, "source": {"id": "sub-77", "name": null}, "buyer": {"id": "210", "name": "SafeDrive"},
        "campaign": {"id": "5521", "name": "SafeDrive TX 25-65"}, "pingtree": {"id": "31", "name": "Auto main"},
        "price": format!("{}.{:02}00", rng.u8(..100), rng.u8(..100)), "payout": "29.7500", "revenue": null, "currency": "USD",
        "reason_code": null, "reason": null, "transaction_id": null, "attempt": null,
        "consumer": {"first_name": "Ana", "last_name": "Diaz", "email": "ana@example.com", "phone": "+15125550123", "city": "Austin", "state": "TX", "zip": "78701", "country": "US"},
        "call": null, "fields": {"vehicle_year": "2019", "currently_insured": "yes", "landing_page": "https://quotes.example.com/auto/start?src=bt&sub=77"},
    })
    .to_string()
}

/// The bytes in front of a datum in single-object encoding.
const HEAD: usize = 10;

fn main() {
    let (mut rng, schemas) = (fastrand::Rng::with_seed(11), Schemas::new());
    let json: Vec<String> = (0..EVENTS).map(|number| event(number, &mut rng)).collect();
    let avro: Vec<Vec<u8>> = json
        .iter()
        .map(|text| encode::single_object(&decode(text.as_bytes(), &schemas).unwrap()).unwrap())
        .collect();
    let mut asked = Asked::least();
    READ.iter().for_each(|path| asked.path(&Path::parse(path).unwrap()));
    TRIGGERS.iter().for_each(|trigger| asked.trigger(trigger));
    let schema: serde_avro_fast::Schema = include_str!("../schemas/lead_event.avsc").parse().unwrap();

    let size = |total: usize| total / EVENTS;
    println!(
        "JSON of {} B, Avro of {} B; ns of CPU an event, median of {ROUNDS} rounds in turns",
        size(json.iter().map(String::len).sum()),
        size(avro.iter().map(Vec::len).sum()),
    );
    let records = || json.iter().map(String::as_bytes).chain(avro.iter().map(Vec::as_slice));
    let slow = records().filter(|bytes| !is_quick(bytes, &schemas)).count();
    println!("{slow} of {} take the complete decoder", 2 * EVENTS);
    // Looked at where it is: to move an event about costs more than some of its fields.
    let ours = |bytes: &[u8], asked| {
        let event = decode_for(black_box(bytes), &schemas, asked);
        assert!(black_box(&event).is_ok());
    };
    let json_serde = |at: usize| {
        let event = serde_json::from_str::<Event<'_, &str, &str>>(black_box(&json[at]));
        assert!(black_box(&event).is_ok());
    };
    let avro_serde = |at: usize| {
        let datum = black_box(&avro[at][HEAD..]);
        let event = serde_avro_fast::from_datum_slice::<Event<'_, i64, f64>>(datum, &schema);
        assert!(black_box(&event).is_ok());
    };
    for (name, beside, what, mine) in [
        (
            "JSON",
            "serde_json",
            &json_serde as &dyn Fn(usize),
            json.iter().map(String::as_bytes).collect::<Vec<_>>(),
        ),
        (
            "Avro",
            "serde_avro_fast",
            &avro_serde,
            avro.iter().map(Vec::as_slice).collect(),
        ),
    ] {
        if std::env::args().any(|only| only != name && ["JSON", "Avro"].contains(&&*only)) {
            continue;
        }
        let asked_for = |at: usize| ours(mine[at], &asked);
        let all = |at: usize| ours(mine[at], &Asked::ALL);
        let [serde, asked_for, all] = in_turns([what, &asked_for, &all]);
        println!("{name} by {beside}, borrowed: {serde:.0}");
        println!(
            "{name} by Leadlane, asked for: {asked_for:.0}, ratio {:.2}",
            asked_for / serde
        );
        println!("{name} by Leadlane, all:       {all:.0}, ratio {:.2}", all / serde);
    }
}

/// The CPU time of this thread, in nanoseconds: others may use the cores, too.
fn cpu() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.tv_sec as f64 * 1e9 + time.tv_nsec as f64
}

/// The median CPU time of each, in nanoseconds.
fn in_turns<const N: usize>(what: [&dyn Fn(usize); N]) -> [f64; N] {
    let mut times = [const { Vec::new() }; N];
    for _ in 0..ROUNDS {
        for (what, times) in what.iter().zip(&mut times) {
            let began = cpu();
            (0..TIMES as usize).for_each(|number| what(number % EVENTS));
            times.push((cpu() - began) / f64::from(TIMES));
        }
    }
    times.map(|mut times| {
        times.sort_by(f64::total_cmp);
        times[ROUNDS / 2]
    })
}
