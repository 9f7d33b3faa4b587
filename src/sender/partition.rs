//! A partition of ours: what of it is unsettled, and what its outcomes say.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::{Duration, Instant};

use crate::config::Config;
use crate::delivery::limit::Micros;
use crate::delivery::{Outcome, OutcomeResult};
use crate::kafka::jobs::RawJob;
use crate::kafka::reader::{Isolation, Next, Reader};

/// A partition that is ours.
#[derive(Debug)]
pub(super) struct Partition {
    /// Answers to a former ownership don't count.
    pub(super) generation: u64,
    pub(super) recovered: Option<Recovered>,
    /// Jobs that came before the outcomes were read back.
    pub(super) early: Vec<RawJob>,
    /// Unsettled jobs, each with the place from which its outcomes can be found.
    pub(super) unsettled: BTreeMap<i64, i64>,
    pub(super) next: i64,
    pub(super) committed: i64,
    /// Jobs whose end Kafka has not acknowledged.
    pub(super) ending: usize,
}

/// What the outcomes of a partition say.
#[derive(Debug, Default)]
pub(super) struct Recovered {
    /// Above every job that a predecessor tried.
    pub(super) tried_below: i64,
    /// Where the outcomes were read from, and where they end.
    pub(super) outcomes_from: i64,
    pub(super) outcomes_end: i64,
    /// Jobs at or above the committed offset that are final.
    pub(super) settled: HashSet<i64>,
    pub(super) attempts: HashMap<i64, i32>,
    pub(super) sent: Vec<(String, Micros)>,
    pub(super) throttled: HashMap<String, Outcome>,
}

impl Partition {
    /// What to commit: the lowest unsettled offset (or the next one), and from where its outcomes
    /// can be found. Nothing before the outcomes are read back.
    pub(super) fn place(&self) -> Option<(i64, i64)> {
        let recovered = self.recovered.as_ref()?;
        match self.unsettled.first_key_value() {
            Some((offset, from)) => Some((*offset, *from)),
            None if self.next > 0 => Some((self.next, recovered.outcomes_end)),
            None => None,
        }
    }
}

/// Reads the outcomes of `partition` from `from` to the end it has now.
pub(super) fn recover(config: &Config, partition: i32, from: Option<i64>) -> Result<Recovered, String> {
    let topic = &config.topics.outcomes;
    // The processor writes here in transactions; an open one would hide what the predecessor wrote.
    let reader = Reader::assign(config, topic, &[(partition, from)], Isolation::Uncommitted)
        .map_err(|error| error.to_string())?;
    let end = reader.end(topic, partition).map_err(|error| error.to_string())?;
    let mut recovered = Recovered {
        outcomes_from: from.unwrap_or(0),
        outcomes_end: end,
        ..Recovered::default()
    };
    if end == 0 || from.is_some_and(|from| from >= end) {
        return Ok(recovered);
    }
    let began = Instant::now();
    loop {
        match reader.next(Duration::from_millis(100)) {
            Next::Record(record) => {
                let last = record.offset + 1 >= end;
                if let Some(outcome) = record.value.as_deref().and_then(|value| Outcome::decode(value).ok()) {
                    recovered.take(outcome, record.timestamp);
                }
                if last {
                    return Ok(recovered);
                }
            }
            Next::End(_) => return Ok(recovered),
            Next::Nothing if began.elapsed() > Duration::from_secs(60) => return Err("the broker is silent".to_owned()),
            Next::Nothing => {}
        }
    }
}

impl Recovered {
    fn take(&mut self, outcome: Outcome, written_at: i64) {
        // The processor's own outcomes have no job.
        let Some(offset) = outcome.job_offset else { return };
        if matches!(outcome.result, OutcomeResult::Sent | OutcomeResult::Digested) {
            self.sent.push((outcome.job_id.clone(), written_at * 1000));
        }
        if outcome.result == OutcomeResult::Throttled {
            self.throttled.insert(outcome.lane.clone(), outcome.clone());
        }
        if outcome.result.is_final() {
            self.settled.insert(offset);
        }
        self.tried_below = self.tried_below.max(offset + 1);
        let attempts = self.attempts.entry(offset).or_default();
        *attempts = (*attempts).max(outcome.attempt);
    }
}
