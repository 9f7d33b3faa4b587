//! The rule index beside a scan of all rules, in turns.
//!
//! 100 to 1,000,000 rules, and events of which each meets as many at any number of rules: ids are drawn from as many as
//! the rules have. Both must find the same; times never fail the run. See benches/README.md.

#![allow(clippy::unwrap_used, reason = "a bench that panics says why")]
#![allow(clippy::disallowed_methods, reason = "a bench is set up by variables")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use leadlane::lead::LeadEvent;
use leadlane::lead::decode::decode;
use leadlane::lead::schemas::Schemas;
use leadlane::rules::index::RuleIndex;
use leadlane::rules::index::upkeep::Upkeep;
use leadlane::rules::{Rule, Versioned};
use peak_alloc::PeakAlloc;
use serde_json::{Value, json};

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

const SIZES: [usize; 4] = [100, 10_000, 100_000, 1_000_000];
const ROUNDS: usize = 7;
const EVENTS: usize = 20_000;
const BATCH: usize = 100;
const TRIGGERS: [&str; 3] = ["lms.lead_sold", "lms.campaign_sold", "call_logic.lead_sold"];
const STATES: [&str; 8] = ["TX", "FL", "CA", "NY", "IL", "OH", "GA", "WA"];

fn main() {
    let most = std::env::var("LEADLANE_BENCH_RULES").map_or(1_000_000, |rules| rules.parse().unwrap());
    let mut first = None;
    for count in SIZES.into_iter().filter(|count| *count <= most) {
        let measured = measure(count);
        let least = *first.get_or_insert(measured.index);
        let Measured { index, scan, .. } = measured;
        println!(
            "{count} rules: {:.2} matches an event; index {index:.0} ns ({:+.0} ns, {:.2} × that of {}), scan {scan:.0} ns, {:.0} times slower; \
             built in {:.0} ms, {:.0} B a rule (at its peak {:.0}), beside {:.0} B for the rule itself",
            measured.matches,
            index - least,
            index / least,
            SIZES[0],
            scan / index,
            measured.built.as_secs_f64() * 1e3,
            measured.bytes,
            measured.peak,
            measured.rule_bytes,
        );
        println!("    {}", measured.changes);
    }
}

struct Measured {
    matches: f64,
    /// Nanoseconds an event.
    index: f64,
    scan: f64,
    built: Duration,
    bytes: f64,
    peak: f64,
    rule_bytes: f64,
    changes: String,
}

fn measure(count: usize) -> Measured {
    let before = MEMORY.current_usage();
    let rules = rules(count);
    let rule_bytes = (MEMORY.current_usage() - before) as f64 / count as f64;
    let texts = events(count);
    let schemas = Schemas::new();
    let events: Vec<LeadEvent<'_>> = texts
        .iter()
        .map(|text| decode(text.as_bytes(), &schemas).unwrap())
        .collect();

    let before = MEMORY.current_usage();
    MEMORY.reset_peak_usage();
    let start = cpu();
    let index = RuleIndex::build(rules.iter().cloned());
    let built = cpu() - start;
    let bytes = (MEMORY.current_usage() - before) as f64 / count as f64;
    let peak = (MEMORY.peak_usage() - before) as f64 / count as f64;

    // What was decoded just now is at hand, as it is in a worker: so each event is looked at before it counts.
    let first = RuleIndex::build(rules.iter().take(SIZES[0]).cloned());
    let scanned = (40_000_000 / count).clamp(20, EVENTS);
    let (mut found, mut matches) = (Vec::new(), 0);
    let (mut by_index, mut by_scan) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let mut took = 0.0;
        for batch in events.chunks(BATCH) {
            for event in batch {
                first.matches(event, &mut found);
            }
            let start = cpu();
            for event in batch {
                index.matches(event, &mut found);
                matches += black_box(&found).len();
            }
            took += nanos(start);
        }
        by_index.push(took / EVENTS as f64);
        let some = &events[round * scanned % EVENTS..][..scanned.min(EVENTS - round * scanned % EVENTS)];
        let start = cpu();
        let all: Vec<usize> = some
            .iter()
            .map(|event| rules.iter().filter(|rule| rule.rule.matches(event)).count())
            .collect();
        by_scan.push(nanos(start) / some.len() as f64);
        for (event, wanted) in some.iter().zip(all) {
            index.matches(event, &mut found);
            assert_eq!(found.len(), wanted);
        }
    }
    Measured {
        matches: matches as f64 / (ROUNDS * EVENTS) as f64,
        index: median(by_index),
        scan: median(by_scan),
        built,
        bytes,
        peak,
        rule_bytes,
        changes: changes(&rules, &events),
    }
}

/// A stream of changes, one at a time, with events between them.
fn changes(rules: &[Arc<Versioned>], events: &[LeadEvent<'_>]) -> String {
    let mut upkeep = Upkeep::default();
    rules
        .iter()
        .for_each(|rule| upkeep.put(Arc::clone(&rule.rule.id), Some(Arc::clone(rule))));
    upkeep.index();
    let mut rng = fastrand::Rng::with_seed(5);
    let (mut took, mut matched, mut merges) = (Vec::new(), Vec::new(), Duration::ZERO);
    for change in 0..20_000 {
        let mut changed = Versioned::clone(&rules[rng.usize(..rules.len())]);
        changed.version = i64::MAX;
        let start = cpu();
        upkeep.put(Arc::clone(&changed.rule.id), Some(Arc::new(changed)));
        let index = upkeep.index();
        took.push(nanos(start));
        if change % 100 == 0 {
            let (start, mut found) = (cpu(), Vec::new());
            for event in &events[change % (EVENTS - 200)..][..200] {
                index.matches(event, &mut found);
                black_box(&found);
            }
            matched.push(nanos(start) / 200.0);
        }
        drop(index);
        // As a thread beside would.
        let start = cpu();
        if let Some(merge) = upkeep.merge() {
            assert!(upkeep.merged(merge.run()));
        }
        merges += cpu() - start;
    }
    let most = took.iter().copied().fold(0.0, f64::max);
    let mean = took.iter().sum::<f64>() / took.len() as f64;
    format!(
        "20,000 changes: {:.0} µs each, at most {:.1} ms, and {:.1} s of merges aside; {:.0} ns an event meanwhile",
        mean / 1e3,
        most / 1e6,
        merges.as_secs_f64(),
        median(matched)
    )
}

/// The time that this thread has worked, so that what else the machine does counts less.
fn cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn nanos(start: Duration) -> f64 {
    (cpu() - start).as_secs_f64() * 1e9
}

fn median(mut of: Vec<f64>) -> f64 {
    of.sort_by(f64::total_cmp);
    of[of.len() / 2]
}

/// As many ids of each kind as meet a like number of rules.
fn ids(count: usize) -> usize {
    count / 4
}

/// Rules as people write them: about one scope, with ids, a price, lists, and conditions on fields and the payload.
fn rules(count: usize) -> Vec<Arc<Versioned>> {
    let mut rng = fastrand::Rng::with_seed(7);
    let ids = ids(count);
    let mut rules = Vec::with_capacity(count);
    for number in 0..count {
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
        let written = json!({"id": format!("rule-{number}"), "name": format!("Rule {number}"), "trigger": trigger, "scope": scope, "filters": filters, "action": action});
        // Its numbers as they come from the topic, as text.
        let written: Value = serde_json::from_str(&written.to_string()).unwrap();
        rules.push(Arc::new(Versioned {
            rule: Rule::from_json(&written).unwrap(),
            version: number as i64,
        }));
    }
    rules
}

fn events(count: usize) -> Vec<String> {
    let mut rng = fastrand::Rng::with_seed(11);
    let ids = ids(count);
    let event = |number: usize| {
        let id = |rng: &mut fastrand::Rng, kind: &str| format!("{kind}{}", rng.usize(..ids));
        // Four in ten have a trigger that no rule has.
        let trigger = match rng.u8(..10) {
            0..6 => TRIGGERS[rng.usize(..TRIGGERS.len())],
            _ => "lms.campaign_rejected",
        };
        json!({
            "event_id": format!("0190f3c2-6f7b-7c11-9a55-{number:012}"), "trigger": trigger, "occurred_at": "2026-03-05T15:16:00.123Z",
            "lead_id": format!("{}", 84_000_000 + number), "is_test": false, "method": "POST",
            "product": {"id": id(&mut rng, ""), "name": "Auto Insurance"}, "publisher": {"id": id(&mut rng, "p"), "name": "BrightTraffic"},
            "channel": {"id": id(&mut rng, ""), "name": "bt-auto-api"}, "source": {"id": "sub-77", "name": null}, "buyer": {"id": "210", "name": "SafeDrive"},
            "campaign": {"id": id(&mut rng, ""), "name": "SafeDrive TX 25-65"}, "pingtree": {"id": "31", "name": "Auto main"},
            "price": format!("{}.{:02}00", rng.u8(..100), rng.u8(..100)), "currency": "USD",
            "consumer": {"email": "ana@example.com", "state": STATES[rng.usize(..STATES.len())], "zip": "78701"},
            "fields": {"vehicle_year": format!("{}", 1990 + rng.usize(..36)), "currently_insured": "yes"},
            "payload": {"account": format!("acct-{}", rng.usize(..ids)), "plan": "pro"},
        })
        .to_string()
    };
    (0..EVENTS).map(event).collect()
}
