//! What the desk keeps in memory takes the room that it was given, and answers at once: 100,000 rules, 10,000 events and
//! a million deliveries in 400 MB of a process, which has some 60 MB of its own.
//!
//! This test is alone in its process, since the memory of all threads is counted. A tenth of everything is measured,
//! and all of it with LEADLANE_TEST_FULL.

use std::time::{Duration, Instant};

use leadlane::delivery::{DeliveryJob, OutcomeResult, job_id};
use leadlane::desk::deliveries::Stands;
use leadlane::desk::resident::deliveries::{Asked, Deliveries, Read, Spot};
use leadlane::desk::resident::events::Events;
use leadlane::desk::rules::{Filter, View, list};
use leadlane::kafka::reader::Record;
use leadlane::lead::EventId;
use leadlane::lead::schemas::Schemas;
use leadlane::rules::RuleId;
use peak_alloc::PeakAlloc;
use serde_json::json;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

const NOW: i64 = 1_772_723_760_000;
/// The most bytes that all of it has, at full size.
const ALL_MAX: usize = 340_000_000;

struct Sizes {
    rules: usize,
    events: usize,
    deliveries: usize,
}

/// A rule as people write them.
fn rule(number: usize) -> Record {
    let id = format!("rule-{number}");
    let rule = json!({
        "id": id, "name": format!("Sales of product {number} to the sales channel"), "status": "active",
        "scope": {"level": "product", "id": (number % 5000).to_string()}, "trigger": "lms.lead_sold",
        "filters": {"publisher": ["3401", "3402"], "price": {"gte": 25}, "where": [{"path": "$.consumer.state", "in": ["TX", "FL"]}]},
        "action": {
            "type": "slack_message", "token": {"secret": "sales-bot"}, "to": {"channel": format!("C{number:08}")},
            "text": "Lead {{$.lead_id}} sold to {{$.buyer.name}} for {{$.price | money}}",
        },
    });
    Record {
        offset: number as i64,
        timestamp: NOW,
        key: Some(id.into_bytes()),
        value: Some(rule.to_string().into_bytes()),
        ..Record::default()
    }
}

fn uuid(number: usize) -> String {
    format!("0190f3c2-6f7b-7c11-9a55-{number:012x}")
}

/// An event of some 900 bytes.
fn event(number: usize) -> Record {
    let event = json!({
        "event_id": uuid(number), "trigger": "lms.lead_sold", "occurred_at": "2026-03-05T15:16:00.123Z",
        "lead_id": (84_512_377 + number).to_string(), "product": {"id": "12", "name": "Auto Insurance"}, "price": "42.5000",
        "fields": {"text": "x".repeat(650)},
    });
    Record {
        offset: number as i64,
        timestamp: NOW - 1_000_000 + number as i64,
        value: Some(event.to_string().into_bytes()),
        ..Record::default()
    }
}

fn job(number: usize, rules: usize) -> DeliveryJob {
    let (event_id, rule_id) = (uuid(number), format!("rule-{}", number % rules));
    let text = json!({
        "job_id": job_id(EventId(&event_id), RuleId(&rule_id)).to_string(), "event_id": event_id, "rule_id": rule_id,
        "rule_version": 7, "lead_id": (84_512_377 + number).to_string(), "trigger": "lms.lead_sold", "action": "slack_message",
        "credential": "slack:sales-bot", "destination": format!("C{:08}", number % 500), "body": "{}", "occurred_at": NOW,
        "expires_at": null, "on_ambiguous": "retry", "source_topic": "e", "source_partition": 0, "source_offset": 0,
        "sealed": null, "account_id": null, "region": null, "digest_after": null, "max_rate": null, "thread": false,
    });
    serde_json::from_value(text).expect("the fields of a job")
}

/// What some work leaves in memory, in bytes, and how long it took.
fn weigh<T>(what: &str, work: impl FnOnce() -> T) -> (T, usize) {
    let (before, began) = (MEMORY.current_usage(), Instant::now());
    let made = work();
    let bytes = MEMORY.current_usage().saturating_sub(before);
    println!("{what}: {:.1} MB, {:?}", bytes as f64 / 1e6, began.elapsed());
    (made, bytes)
}

fn at_once<T>(what: &str, ask: impl Fn() -> T) -> T {
    let began = Instant::now();
    let answer = ask();
    let took = began.elapsed();
    println!("{what}: {took:?}");
    // Unoptimized, and on a machine that is busy with other tests.
    assert!(took < Duration::from_secs(2), "{what} took {took:?}");
    answer
}

#[test]
fn what_the_desk_keeps_in_memory_has_its_room_and_is_found_at_once() {
    let full = std::env::var_os("LEADLANE_TEST_FULL").is_some();
    let part = if full { 1 } else { 10 };
    let sizes = Sizes {
        rules: 100_000 / part,
        events: 10_000 / part,
        deliveries: 1_000_000 / part,
    };
    let (view, of_rules) = weigh("rules", || {
        let mut view = View::default();
        (0..sizes.rules).for_each(|number| view.take(&rule(number)));
        view
    });
    let (events, of_events) = weigh("events", || {
        let (mut events, schemas) = (Events::new(sizes.events, []), Schemas::new());
        (0..2 * sizes.events).for_each(|number| events.take(event(number), &schemas, NOW));
        events
    });
    let (deliveries, of_deliveries) = weigh("deliveries", || fold(&sizes));
    assert_eq!(
        (deliveries.len(), events.newest(None).count()),
        (sizes.deliveries, sizes.events)
    );
    let all = of_rules + of_events + of_deliveries;
    println!(
        "all: {:.1} MB of at most {:.1} MB",
        all as f64 / 1e6,
        (ALL_MAX / part) as f64 / 1e6
    );
    assert!(all < ALL_MAX / part, "{all}");

    let first = |asked: &Asked| deliveries.newest(asked, None).take(100).count();
    assert_eq!(at_once("deliveries: the first page", || first(&Asked::default())), 100);
    let rare = Asked {
        rule: Some("rule-7".into()),
        ..Asked::default()
    };
    at_once("deliveries: of a rule with few", || first(&rare));
    let none = Asked {
        stands: vec![Stands::Is(OutcomeResult::Cancelled)],
        ..Asked::default()
    };
    assert_eq!(at_once("deliveries: of a result that none has", || first(&none)), 0);
    let lead = Asked {
        lead: Some((84_512_377 + sizes.deliveries).to_string()),
        ..Asked::default()
    };
    assert_eq!(at_once("deliveries: of a lead", || first(&lead)), 1);
    at_once("deliveries: on trial", || deliveries.shadowed("rule-7", NOW));
    let text = Filter {
        text: Some("product 99".into()),
        ..Filter::default()
    };
    at_once("rules: with a text", || list(&view, &text).take(100).count());
    at_once("rules: the first page", || {
        list(&view, &Filter::default()).take(100).count()
    });
}

/// A tenth more deliveries than there is room for, each sent, and every tenth tried twice.
fn fold(sizes: &Sizes) -> Deliveries {
    let mut deliveries = Deliveries::new(sizes.deliveries);
    for number in 0..sizes.deliveries + sizes.deliveries / 10 {
        let (job, at) = (job(number, sizes.rules), NOW - 80_000_000 + 70 * number as i64);
        let read = Read {
            spot: Spot {
                partition: (number % 6) as i32,
                offset: number as i64,
            },
            written_at: at,
            is_test: false,
            is_replay: false,
        };
        deliveries.job(&job, read, NOW);
        let results = [OutcomeResult::Retry, OutcomeResult::Sent];
        let tried = usize::from(number % 10 != 0);
        for result in &results[tried..] {
            let mut outcome = job.outcome(*result, at + 5);
            (outcome.job_partition, outcome.job_offset) = (Some(read.spot.partition), Some(read.spot.offset));
            deliveries.outcome(&outcome, read, NOW);
        }
    }
    deliveries
}
