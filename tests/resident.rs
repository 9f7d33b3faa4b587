//! What a process keeps in memory takes the room that it was given. The desk answers at once beside: 100,000 rules, 10,000
//! events and a million deliveries in 290 MB. A processor's rules have 900 bytes each at the most. What whole processes take of the
//! machine's memory, benches/desk.rs and the part `start` of benches/pipeline.rs say.
//!
//! This test is alone in its process, since the memory of all threads is counted. A tenth of everything is measured,
//! and all of it with LEADLANE_TEST_FULL.

use std::time::{Duration, Instant};

use leadlane::delivery::OutcomeResult;
use leadlane::desk::deliveries::Stands;
use leadlane::desk::resident::deliveries::{Asked, Deliveries, Read, Spot};
use leadlane::desk::resident::events::Events;
use leadlane::desk::rules::{Filter, View, list};
use leadlane::lead::schemas::Schemas;
use leadlane::rules::log::RuleLog;
use peak_alloc::PeakAlloc;

use filling::{BUSY_LEAD, event, lead, matched, rule};

mod filling;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

const NOW: i64 = 1_772_723_760_000;
/// The most bytes that all of it has, at full size.
const ALL_MAX: usize = 290_000_000;
/// The most bytes of a processor's rule with its index.
const RULE_MAX: usize = 900;

struct Sizes {
    rules: usize,
    events: usize,
    deliveries: usize,
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

/// The rules of a processor, read and indexed.
fn processor() {
    let count = 10_000;
    let ((log, rules), bytes) = weigh("a processor's rules", || {
        let mut log = RuleLog::default();
        for record in (0..count).map(|number| rule(number, NOW)) {
            log.apply(record.offset, record.key.as_deref(), record.value.as_deref());
        }
        let rules = log.snapshot();
        (log, rules)
    });
    assert_eq!(rules.index.len(), count);
    assert!(bytes < count * RULE_MAX, "{} bytes a rule", bytes / count);
    drop((log, rules));
}

#[test]
fn what_is_kept_in_memory_has_its_room_and_is_found_at_once() {
    processor();
    let full = std::env::var_os("LEADLANE_TEST_FULL").is_some();
    let part = if full { 1 } else { 10 };
    let sizes = Sizes {
        rules: 100_000 / part,
        events: 10_000 / part,
        deliveries: 1_000_000 / part,
    };
    let (view, of_rules) = weigh("rules", || {
        let mut view = View::default();
        (0..sizes.rules).for_each(|number| view.take(&rule(number, NOW)));
        view
    });
    let (events, of_events) = weigh("events", || {
        let (mut events, schemas) = (Events::new(sizes.events, []), Schemas::new());
        (0..2 * sizes.events)
            .for_each(|number| events.take(event(number, NOW - 1_000_000 + number as i64), &schemas, NOW));
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
        lead: Some(lead(sizes.deliveries + 1)),
        ..Asked::default()
    };
    assert_eq!(at_once("deliveries: of a lead", || first(&lead)), 1);
    let busy = Asked {
        lead: Some(BUSY_LEAD.to_owned()),
        ..Asked::default()
    };
    assert_eq!(at_once("deliveries: of a lead with many", || first(&busy)), 100);
    at_once("deliveries: on trial", || deliveries.shadowed("rule-99", NOW));
    at_once("deliveries: how they stand", || deliveries.tally(NOW - 86_400_000));
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
        let at = NOW - 80_000_000 + 70 * number as i64;
        let matched = matched(number, sizes.rules, at);
        let read = Read {
            spot: Spot {
                partition: (number % 6) as i32,
                offset: number as i64,
            },
            written_at: at,
            is_test: false,
            is_replay: false,
        };
        if matched.is_job {
            deliveries.job(&matched.job, read, NOW);
        }
        for result in matched.results {
            let outcome = matched.outcome(*result, at + 5, (read.spot.partition, read.spot.offset));
            deliveries.outcome(&outcome, read, NOW);
        }
    }
    deliveries
}
