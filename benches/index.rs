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
use leadlane::rules::Versioned;
use leadlane::rules::index::RuleIndex;
use leadlane::rules::index::upkeep::Upkeep;
use leadlane::rules::log::{Applied, RuleLog};
use peak_alloc::PeakAlloc;
use serde_json::json;

use written::{STATES, TRIGGERS, ids};

#[path = "index/written.rs"]
mod written;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

const SIZES: [usize; 4] = [100, 10_000, 100_000, 1_000_000];
const ROUNDS: usize = 7;
const EVENTS: usize = 20_000;
const BATCH: usize = 100;
/// So many changes stand in what is handed out at once, where 1,000 come in a second.
const AT_ONCE: usize = 20;

fn main() {
    let most = std::env::var("LEADLANE_BENCH_RULES").map_or(1_000_000, |rules| rules.parse().unwrap());
    let build_alone = std::env::args().any(|argument| argument == "build");
    let mut first = None;
    for count in SIZES.into_iter().filter(|count| *count <= most) {
        let built = Built::of(count);
        println!("{count} rules: {built}");
        if build_alone {
            continue;
        }
        let Measured { matches, index, scan } = measure(&built);
        let least = *first.get_or_insert(index);
        println!(
            "    {matches:.2} matches an event; index {index:.0} ns ({:+.0} ns, {:.2} × that of {}), scan {scan:.0} ns, {:.0} times slower",
            index - least,
            index / least,
            SIZES[0],
            scan / index,
        );
        for at_once in [1, AT_ONCE] {
            println!("    {}", changes(&built.rules, &decoded(&events(count)), at_once));
        }
    }
}

/// Rules and their index, and what both took.
struct Built {
    rules: Vec<Arc<Versioned>>,
    index: RuleIndex,
    /// From the rules' JSON.
    read: Duration,
    built: Duration,
    /// Bytes of a rule itself, of a rule in the index beside, and at the peak of the index's build.
    rule_bytes: f64,
    bytes: f64,
    peak: f64,
}

impl Built {
    fn of(count: usize) -> Self {
        let each = |bytes: usize| bytes as f64 / count as f64;
        let before = MEMORY.current_usage();
        let (rules, read) = rules(count);
        let with_rules = MEMORY.current_usage();
        MEMORY.reset_peak_usage();
        let start = cpu();
        let index = RuleIndex::build(rules.iter().cloned());
        Self {
            read,
            built: cpu() - start,
            rule_bytes: each(with_rules - before),
            bytes: each(MEMORY.current_usage() - with_rules),
            peak: each(MEMORY.peak_usage() - with_rules),
            rules,
            index,
        }
    }
}

impl std::fmt::Display for Built {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let millis = |time: Duration| time.as_secs_f64() * 1e3;
        write!(
            f,
            "read in {:.0} ms, built in {:.0} ms; {:.0} B a rule, and {:.0} B of the index beside (at its peak {:.0})",
            millis(self.read),
            millis(self.built),
            self.rule_bytes,
            self.bytes,
            self.peak,
        )
    }
}

struct Measured {
    matches: f64,
    /// Nanoseconds an event.
    index: f64,
    scan: f64,
}

fn measure(Built { rules, index, .. }: &Built) -> Measured {
    let count = rules.len();
    let texts = events(count);
    let events = decoded(&texts);
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
    }
}

fn decoded(texts: &[String]) -> Vec<LeadEvent<'_>> {
    let schemas = Schemas::new();
    let decoded = texts.iter().map(|text| decode(text.as_bytes(), &schemas).unwrap());
    decoded.collect()
}

/// A stream of changes, so many at a time, with events between them.
fn changes(rules: &[Arc<Versioned>], events: &[LeadEvent<'_>], at_once: usize) -> String {
    let mut upkeep = Upkeep::default();
    rules
        .iter()
        .for_each(|rule| upkeep.put(Arc::clone(&rule.rule.id), Some(Arc::clone(rule))));
    upkeep.index();
    let mut rng = fastrand::Rng::with_seed(5);
    let (mut took, mut matched, mut merges) = (Vec::new(), Vec::new(), Duration::ZERO);
    for change in (0..20_000).step_by(at_once) {
        let changed = |_| {
            let mut changed = Versioned::clone(&rules[rng.usize(..rules.len())]);
            changed.version = i64::MAX;
            Arc::new(changed)
        };
        let changed: Vec<Arc<Versioned>> = (0..at_once).map(changed).collect();
        let start = cpu();
        for rule in changed {
            upkeep.put(Arc::clone(&rule.rule.id), Some(rule));
        }
        let index = upkeep.index();
        took.push(nanos(start) / at_once as f64);
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
        "20,000 changes, {at_once} at once: {:.0} µs each, at most {:.1} ms, and {:.1} s of merges aside; {:.0} ns an event meanwhile",
        mean / 1e3,
        most * at_once as f64 / 1e6,
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

/// The rules as a log has them, and how long it took to read them from their JSON.
fn rules(count: usize) -> (Vec<Arc<Versioned>>, Duration) {
    let (mut log, mut read) = (RuleLog::default(), Duration::ZERO);
    for (offset, (id, written)) in (0..).zip(written::rules(count)) {
        let start = cpu();
        let applied = log.apply(offset, Some(id.as_bytes()), Some(written.as_bytes()));
        read += cpu() - start;
        assert_eq!(applied, Applied::Changed);
    }
    let in_force = |entry: &leadlane::rules::log::Entry| entry.in_force.clone().unwrap();
    (log.list().map(|(_, entry)| in_force(entry)).collect(), read)
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
