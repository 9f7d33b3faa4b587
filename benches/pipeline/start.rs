//! A processor's start with very many rules.

use std::time::Duration;

use leadlane::kafka::producer::{Producer, Record};
use rdkafka::message::OwnedHeaders;

use super::{Bench, Topics, Usage, written};

/// What was for the start alone is given back by then.
const SETTLED: Duration = Duration::from_secs(5);

/// Starts a processor over topics without a rule and over those with `rules`, in turns.
pub(super) fn run(bench: &Bench, rules: usize) {
    let (empty, full) = (bench.topics(), bench.topics());
    fill(&full, rules);
    for round in 0..bench.rounds {
        for (topics, rules) in [(&empty, 0), (&full, rules)] {
            let (child, took) = topics.run(0);
            let ready = Usage::of(child.id());
            std::thread::sleep(SETTLED);
            let settled = Usage::of(child.id());
            println!(
                "start with {rules} rules, round {round}: ready after {:.1} s, {:.1} s of CPU; {} MB resident, {} MB at most, {} MB {} s later",
                took.as_secs_f64(),
                ready.cpu,
                ready.resident,
                ready.memory,
                settled.resident,
                SETTLED.as_secs()
            );
            topics.stop(child);
        }
    }
}

fn fill(topics: &Topics, rules: usize) {
    let producer = Producer::new(&topics.config, 1_000_000).unwrap();
    for (id, written) in written::rules(rules) {
        let record = Record {
            topic: &topics.config.topics.rules,
            partition: Some(0),
            key: id.as_bytes(),
            value: Some(written.as_bytes()),
            headers: OwnedHeaders::new(),
        };
        producer.write(&record, |ack| assert!(ack.is_ok()));
    }
    assert!(producer.flush(Duration::from_secs(120)));
}
