//! A partition of ours: what its outcomes say of the time before us.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{AGAIN_AFTER, Back, Loop, Promise};
use crate::config::Config;
use crate::delivery::Outcome;
use crate::delivery::limit::Micros;
use crate::delivery::recall::Recalled;
use crate::kafka::jobs::{CommitMode, Committed, RawJob};
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

/// Partitions that go away once nothing of them is in flight.
pub(super) struct Leaving {
    pub(super) partitions: Vec<i32>,
    pub(super) done: std::sync::mpsc::Sender<()>,
    pub(super) until: Instant,
}

impl Loop {
    pub(super) fn assigned(&mut self, partition: i32) {
        self.generation += 1;
        let generation = self.generation;
        self.partitions.insert(
            partition,
            Partition {
                generation,
                since: (self.at.now)(),
                recalled: false,
                early: Vec::new(),
                unacknowledged: 0,
                committed: -1,
            },
        );
        self.recall(partition, generation, Duration::ZERO);
        self.at.ready.store(true, std::sync::atomic::Ordering::Relaxed);
    }

    /// Reads the predecessor's outcomes back, beside the loop, and not before the delay is over.
    fn recall(&self, partition: i32, generation: u64, delay: Duration) {
        let left = self.jobs.committed(partition);
        let (config, now) = (Arc::clone(&self.at.config), (self.at.wall)());
        let read = move |recalled| Back::Recalled {
            partition,
            generation,
            recalled,
        };
        let promise = Promise::new(&self.back, read(Err("the thread that reads them has died".to_owned())));
        tokio::task::spawn_blocking(move || {
            std::thread::sleep(delay);
            let recalled = left()
                .map_err(|error| error.to_string())
                .and_then(|left| recall(&config, partition, left, now))
                .map(Box::new);
            promise.keep(read(recalled));
        });
    }

    pub(super) fn recalled(&mut self, number: i32, generation: u64, recalled: Result<Box<Recalled>, String>) {
        let ours = self.partitions.get_mut(&number);
        let Some(partition) = ours.filter(|partition| partition.generation == generation) else {
            return;
        };
        match recalled {
            Err(message) => {
                tracing::warn!(
                    kafka.partition = number,
                    message,
                    "outcomes could not be read back; trying again"
                );
                self.recall(number, generation, AGAIN_AFTER);
            }
            Ok(recalled) => {
                partition.recalled = true;
                let early = std::mem::take(&mut partition.early);
                self.dispatch.own(number, partition.since, *recalled, (self.at.now)());
                early.into_iter().for_each(|job| self.accept(job));
                if let Err(error) = self.jobs.resume(number) {
                    tracing::warn!(%error, kafka.partition = number, "a partition could not be resumed");
                }
            }
        }
    }

    /// Hands over partitions with nothing in flight, or whose time is up.
    pub(super) fn let_go(&mut self) {
        let mut leaving = std::mem::take(&mut self.leaving);
        leaving.retain(|leaving| {
            let busy = leaving.partitions.iter().any(|partition| {
                let waits = |partition: &Partition| partition.unacknowledged > 0;
                self.dispatch.is_busy(*partition) || self.partitions.get(partition).is_some_and(waits)
            });
            if busy && Instant::now() < leaving.until {
                return true;
            }
            self.commit(CommitMode::Sync, Some(&leaving.partitions));
            for partition in &leaving.partitions {
                self.partitions.remove(partition);
                self.dispatch.disown(*partition);
            }
            // The group's thread may have stopped waiting.
            let _waits = leaving.done.send(());
            false
        });
        self.leaving = leaving;
    }
}

/// Reads the outcomes of `partition` to the end that they have now: from the place that the
/// predecessor left, and as far back as sent job ids are to be known. `now` is the wall clock's.
fn recall(config: &Config, partition: i32, left: Committed, now: Micros) -> Result<Recalled, String> {
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
    // A rule's `max_rate` looks back for an hour.
    let hour = reader
        .offset_at(topic, partition, (now - HOUR) / 1000)
        .map_err(failed)?;
    let outcomes_from = left.outcomes_from.unwrap_or(0).min(end);
    let mut recalled = Recalled {
        committed: left.offset.unwrap_or(0),
        outcomes_from,
        outcomes_end: end,
        known_since: now - window,
        ..Recalled::default()
    };
    let from = known.min(outcomes_from).min(hour.unwrap_or(end).max(counted).max(0));
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

const HOUR: Micros = 3_600_000_000;
const SILENCE: Duration = Duration::from_secs(30);
