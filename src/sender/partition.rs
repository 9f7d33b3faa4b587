//! A partition of ours: what its outcomes say of the time before us.

use std::time::{Duration, Instant};

use crate::config::Config;
use crate::delivery::Outcome;
use crate::delivery::limit::Micros;
use crate::delivery::recall::Recalled;
use crate::kafka::jobs::{Committed, RawJob};
use crate::kafka::reader::{Isolation, Next, Reader};

/// A partition that is ours.
#[derive(Debug)]
pub(super) struct Partition {
    /// Answers to a former ownership don't count.
    pub(super) generation: u64,
    /// When it became ours.
    pub(super) since: Micros,
    /// Its outcomes are read back: jobs may go.
    pub(super) recalled: bool,
    /// Jobs that came before that.
    pub(super) early: Vec<RawJob>,
    /// Outcomes that Kafka has not acknowledged.
    pub(super) unacknowledged: usize,
    /// The offset that was committed last.
    pub(super) committed: i64,
}

/// Reads the outcomes of `partition` to the end that they have now: from the place that the
/// predecessor left, and as far back as sent job ids are to be known.
pub(super) fn recall(config: &Config, partition: i32, left: Committed, now: Micros) -> Result<Recalled, String> {
    let topic = &config.topics.outcomes;
    let failed = |error| format!("{error}");
    // The processor writes here in transactions; an open one would hide what the predecessor wrote.
    let reader = Reader::assign(config, topic, &[], Isolation::Uncommitted).map_err(failed)?;
    let end = reader.end(topic, partition).map_err(failed)?;
    let window = Micros::try_from(config.sender.dedup_window.as_micros()).unwrap_or(now);
    let of_window = reader
        .offset_at(topic, partition, (now - window) / 1000)
        .map_err(failed)?;
    let counted = end - i64::try_from(config.sender.dedup_ids_max).unwrap_or(end);
    let known = of_window.unwrap_or(end).max(counted).max(0);
    let outcomes_from = left.outcomes_from.unwrap_or(0).min(end);
    let mut recalled = Recalled {
        committed: left.offset.unwrap_or(0),
        outcomes_from,
        outcomes_end: end,
        known_since: now - window,
        ..Recalled::default()
    };
    let from = known.min(outcomes_from);
    if from >= end {
        return Ok(recalled);
    }
    reader.go_to(topic, partition, from).map_err(failed)?;
    let mut heard = Instant::now();
    loop {
        match reader.next(Duration::from_millis(100)) {
            Next::Record(record) => {
                heard = Instant::now();
                if record.offset == known && counted == known {
                    recalled.known_since = record.timestamp * 1000;
                }
                let last = record.offset + 1 >= end;
                if let Some(outcome) = record.value.as_deref().and_then(|value| Outcome::decode(value).ok()) {
                    recalled.take(outcome, now);
                }
                if last {
                    return Ok(recalled);
                }
            }
            Next::End(_) => return Ok(recalled),
            Next::Nothing if heard.elapsed() > SILENCE => return Err("the broker is silent".to_owned()),
            Next::Nothing => {}
        }
    }
}

const SILENCE: Duration = Duration::from_secs(30);
