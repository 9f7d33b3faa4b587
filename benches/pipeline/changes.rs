//! Rules that change while the processor has all it can do.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use leadlane::app::now_millis;
use leadlane::config::Config;
use leadlane::delivery::DeliveryJob;
use leadlane::kafka::producer::{Producer, Record};
use leadlane::kafka::reader;
use rdkafka::message::OwnedHeaders;

use super::events::Format;
use super::{Bench, RULES, Usage, events, print_ratio, span};

/// Between two changes.
const EVERY: Duration = Duration::from_millis(1);

/// A new version of a rule.
#[derive(Debug, Clone)]
struct Change {
    rule: String,
    version: i64,
    /// In epoch milliseconds.
    written_at: i64,
}

impl Bench {
    pub(super) fn with_changes(&self, rules: usize) {
        let topics = self.filled(Format::Json);
        let (mut ratios, mut late) = (Vec::new(), Vec::new());
        for round in 0..self.rounds {
            let (without, _) = self.ours(&topics, rules);
            let outputs = self.outputs(&topics, rules);
            let is_over = AtomicBool::new(false);
            let (child, changes) = std::thread::scope(|scope| {
                let changes = scope.spawn(|| change(&outputs.config, rules, &is_over));
                let (child, _) = outputs.run(topics.wanted);
                is_over.store(true, Ordering::Relaxed);
                (child, changes.join().unwrap())
            });
            let usage = Usage::of(child.id());
            outputs.stop(child);
            let (jobs, seconds, _) = span(&outputs.config, &outputs.config.topics.jobs);
            assert_eq!(jobs, topics.wanted, "each match is there once");
            let with = self.round(usage, seconds);
            let visible = visible(&outputs.config, &changes);
            println!(
                "round {round}: {rules} rules {:.0}/s, {:.2} µs; with changes {:.0}/s, {:.2} µs; {} changes, of which {} were \
                 seen in force, after p50 {} ms, p99 {} ms",
                without.rate,
                without.cpu,
                with.rate,
                with.cpu,
                changes.len(),
                visible.len(),
                percentile(&visible, 50),
                percentile(&visible, 99),
            );
            ratios.push(with.rate / without.rate);
            late.push(percentile(&visible, 99) as f64);
        }
        print_ratio("1,000 changes a second, events a second, ÷ none", ratios.into_iter());
        print_ratio("a change in force, p99, in ms", late.into_iter());
    }
}

/// Writes a change each millisecond until it is over: every other one of a rule that events match, and the others of any.
fn change(config: &Config, rules: usize, is_over: &AtomicBool) -> Vec<Change> {
    let entries = leadlane::yaml::entries(&events::rules(rules)).unwrap();
    let producer = Producer::new(config, 1_000_000).unwrap();
    let (mut rng, written, began) = (
        fastrand::Rng::with_seed(7),
        Arc::new(Mutex::new(Vec::new())),
        Instant::now(),
    );
    for number in 0.. {
        if is_over.load(Ordering::Relaxed) {
            break;
        }
        std::thread::sleep((EVERY * number).saturating_sub(began.elapsed()));
        let among = if number % 2 == 0 { RULES } else { rules };
        let mut rule = entries[rng.usize(..among)].value.clone();
        rule["name"] = format!("change {number}").into();
        let (id, value) = (rule["id"].as_str().unwrap().to_owned(), rule.to_string());
        let (written, written_at, key) = (Arc::clone(&written), now_millis(), id.clone());
        let record = Record {
            topic: &config.topics.rules,
            partition: None,
            key: key.as_bytes(),
            value: Some(value.as_bytes()),
            headers: OwnedHeaders::new(),
        };
        producer.write(&record, move |ack| {
            let (_, version) = ack.unwrap();
            written.lock().unwrap().push(Change {
                rule: id,
                version,
                written_at,
            });
        });
    }
    assert!(producer.flush(Duration::from_secs(30)));
    let written = written.lock().unwrap();
    written.clone()
}

/// Of each change that a job shows, the milliseconds from its being written to the first job of that version or a later one;
/// sorted. The last changes of a rule have no job any more.
fn visible(config: &Config, changes: &[Change]) -> Vec<i64> {
    // Of each rule the versions that jobs have, each with the time of its first job.
    let mut seen: HashMap<String, HashMap<i64, i64>> = HashMap::new();
    reader::read_whole(config, &config.topics.jobs, |record| {
        let job = DeliveryJob::decode(record.value.as_deref().unwrap()).unwrap();
        let first = seen
            .entry(job.rule_id)
            .or_default()
            .entry(job.rule_version)
            .or_insert(record.timestamp);
        *first = (*first).min(record.timestamp);
        true
    })
    .unwrap();
    let after = |change: &Change| {
        let versions = seen.get(&change.rule)?.iter();
        let first = versions
            .filter(|(version, _)| **version >= change.version)
            .map(|(_, at)| *at)
            .min()?;
        Some((first - change.written_at).max(0))
    };
    let mut visible: Vec<i64> = changes.iter().filter_map(after).collect();
    visible.sort_unstable();
    visible
}

fn percentile(sorted: &[i64], percent: usize) -> i64 {
    let at = sorted.len() * percent / 100;
    sorted
        .get(at.min(sorted.len().saturating_sub(1)))
        .copied()
        .unwrap_or(-1)
}
