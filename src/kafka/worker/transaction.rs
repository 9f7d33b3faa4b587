//! The transaction that carries what a worker writes together with the offsets that it consumed.
//!
//! A commit waits for the brokers several times. A thread does that, and the worker reads and decides the next batch
//! meanwhile. What that batch writes is staged: nothing of it is produced before the commit has ended, and where that
//! fails, an abort goes back to where the first of the two began.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::message::OwnedHeaders;
use rdkafka::producer::Producer as _;
use rdkafka::{Offset, TopicPartitionList};

use super::super::Fault;
use super::super::rights::Said;
use super::write::{OneByOne, Record, WriteError};
use super::writer::{Committer, Order, Writer};
use crate::trail::{Crumb, Look, Trail};

/// What happened beside the records since the last look.
#[derive(Debug, Default)]
pub struct Happened {
    pub commits: Vec<Duration>,
    pub aborts: u64,
    /// Jobs that those commits made visible.
    pub jobs: u64,
    /// Records that were gone before they were read.
    pub lost: u64,
    /// Partitions whose records that were read are gone.
    pub started_over: u64,
}

/// What a transaction has consumed of a partition.
#[derive(Debug, Clone, Copy)]
pub(super) struct Consumed {
    /// Where it began.
    first: i64,
    /// The last record; none where nothing is consumed yet.
    pub(super) last: Option<Crumb>,
}

/// The open transaction, shared with the rebalance callback of the same thread.
pub(super) struct Transaction {
    pub(super) writer: Arc<Writer>,
    pub(super) committer: Committer,
    /// The places that it consumes.
    pub(super) topics: Vec<String>,
    pub(super) state: Mutex<State>,
    pub(super) memory: Memory,
}

/// The state of partitions that were read. All workers of one kind share it, so that a new worker goes on with it.
#[derive(Debug, Default)]
pub struct Remembered {
    /// The trail of each, which is committed with its offset.
    pub(super) trails: BTreeMap<Partition, Trail>,
    pub(super) looks: BTreeMap<Partition, Look>,
    /// Where each ended when that was asked last.
    pub(super) ends: BTreeMap<Partition, i64>,
}

pub type Memory = Arc<Mutex<Remembered>>;

/// A partition: its topic's place among the worker's, and its number.
pub(super) type Partition = (usize, i32);

/// Of partitions, the trail that is committed and its newest crumb.
type Trails = BTreeMap<Partition, (Trail, Crumb)>;

/// A commit on its way.
struct Committing {
    began: Instant,
    jobs: u64,
    consumed: BTreeMap<Partition, Consumed>,
    trails: Trails,
}

/// Records that are written once the commit before them has ended, in the order in which they came.
#[derive(Default)]
pub(super) struct Stage {
    /// Of each record the topic, the key and the value, one behind the other.
    bytes: Vec<u8>,
    records: Vec<Staged>,
}

/// The lengths of a record's topic, key and value.
struct Staged {
    topic: usize,
    key: usize,
    value: Option<usize>,
    headers: OwnedHeaders,
}

impl Stage {
    pub(super) fn push(&mut self, record: Record<'_>) {
        for part in [record.topic.as_bytes(), record.key, record.value.unwrap_or_default()] {
            self.bytes.extend_from_slice(part);
        }
        self.records.push(Staged {
            topic: record.topic.len(),
            key: record.key.len(),
            value: record.value.map(<[u8]>::len),
            headers: record.headers,
        });
    }

    pub(super) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Takes the records out.
    fn drain(&mut self) -> impl Iterator<Item = Record<'_>> {
        let mut rest = self.bytes.as_slice();
        let mut next = move |length| rest.split_off(..length).expect("it holds every part");
        self.records.drain(..).map(move |staged| Record {
            topic: std::str::from_utf8(next(staged.topic)).expect("it was a text"),
            key: next(staged.key),
            value: staged.value.map(&mut next),
            headers: staged.headers,
        })
    }
}

#[derive(Default)]
pub(super) struct State {
    pub(super) open: bool,
    pub(super) jobs: u64,
    pub(super) consumed: BTreeMap<Partition, Consumed>,
    committing: Option<Committing>,
    pub(super) staged: Stage,
    pub(super) fault: Option<Fault>,
    pub(super) happened: Happened,
    pub(super) assigned: bool,
    /// The client has had partitions before.
    pub(super) was_assigned: bool,
    /// Topics that aren't there, by number.
    pub(super) missing: BTreeSet<usize>,
    /// When the client was asked for those last.
    pub(super) asked_at: Option<Instant>,
    pub(super) one_by_one: Option<OneByOne>,
    pub(super) said: Said,
    /// Partitions that went away, by topic and number.
    pub(super) revoked: Vec<(String, i32)>,
}

impl State {
    /// The place in a partition that has been consumed, of which `offset` is read.
    pub(super) fn reads(&mut self, partition: Partition, offset: i64) -> &mut Consumed {
        let begun = Consumed {
            first: offset,
            last: None,
        };
        self.consumed.entry(partition).or_insert(begun)
    }

    /// Whether a commit is on its way, so that what is written is staged.
    pub(super) fn is_committing(&self) -> bool {
        self.committing.is_some()
    }
}

impl Transaction {
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn remembered(&self) -> MutexGuard<'_, Remembered> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A topic's place among the worker's.
    pub(super) fn number(&self, topic: &str) -> Option<usize> {
        self.topics.iter().position(|read| read == topic)
    }

    pub(super) fn begin(&self) -> Result<(), Fault> {
        let mut state = self.state();
        if !state.open {
            let begun = self.writer.producer.begin_transaction();
            begun.map_err(|error| self.writer.fault(error))?;
            state.open = true;
        }
        Ok(())
    }

    /// Begins to commit what was written and consumed since the last commit. One that is still on its way ends first.
    pub(super) fn commit<C: ConsumerContext>(&self, consumer: &BaseConsumer<C>) -> Result<(), Fault> {
        self.settle()?;
        let (places, trails) = self.places()?;
        if places.count() == 0 {
            // The partition may go, and come back further on.
            self.state().consumed.clear();
            return Ok(());
        }
        self.begin()?;
        // The generation may change without a callback, so the metadata is asked for anew.
        let metadata = consumer
            .group_metadata()
            .ok_or_else(|| Fault::Abort("the consumer is in no group at the moment".to_owned()))?;
        let mut state = self.state();
        state.open = false;
        state.committing = Some(Committing {
            began: Instant::now(),
            jobs: std::mem::take(&mut state.jobs),
            consumed: std::mem::take(&mut state.consumed),
            trails,
        });
        self.committer.commit(Order { places, metadata });
        Ok(())
    }

    /// Waits until no commit is on its way, and writes what was staged meanwhile.
    pub(super) fn settle(&self) -> Result<(), Fault> {
        let is_committing = self.state().is_committing();
        match is_committing {
            true => self.ended(self.committer.end()),
            false => Ok(()),
        }
    }

    /// The same of a commit that has ended by itself, without waiting.
    pub(super) fn look(&self) -> Result<(), Fault> {
        match self.committer.ended() {
            Some(ended) => self.ended(ended),
            None => Ok(()),
        }
    }

    fn ended(&self, ended: Result<(), Fault>) -> Result<(), Fault> {
        let (trails, mut staged) = {
            let mut state = self.state();
            let Some(committing) = state.committing.take() else {
                return ended;
            };
            if let Err(fault) = ended {
                // It is open still, and an abort goes back to where it began.
                state.open = true;
                for (partition, Consumed { first, .. }) in committing.consumed {
                    state.reads(partition, first).first = first;
                }
                return Err(fault);
            }
            state.one_by_one = None;
            state.happened.jobs += committing.jobs;
            state.happened.commits.push(committing.began.elapsed());
            (committing.trails, std::mem::take(&mut state.staged))
        };
        self.remember(trails);
        for record in staged.drain() {
            let topic = record.topic;
            self.produce(record).map_err(|error| match error {
                WriteError::Fault(fault) => fault,
                WriteError::TooLarge => Fault::Refused {
                    message: format!("{topic} refuses a record for its size"),
                    write: None,
                },
            })?;
        }
        Ok(())
    }

    /// The offsets to commit: behind the last record of each partition, with the trail to there.
    fn places(&self) -> Result<(TopicPartitionList, Trails), Fault> {
        let (state, remembered) = (self.state(), self.remembered());
        let mut list = TopicPartitionList::with_capacity(state.consumed.len());
        let mut trails = Trails::new();
        for (place, consumed) in &state.consumed {
            let Some(last) = consumed.last else { continue };
            let mut trail = remembered.trails.get(place).cloned().unwrap_or_default();
            trail.take(last);
            let mut element = list.add_partition(&self.topics[place.0], place.1);
            element.set_offset(Offset::Offset(last.offset + 1))?;
            element.set_metadata(trail.to_string());
            trails.insert(*place, (trail, last));
        }
        Ok((list, trails))
    }

    /// What is committed is read. Before that it isn't: where Kafka knows no place yet, a new worker would pass it by.
    fn remember(&self, trails: Trails) {
        let mut remembered = self.remembered();
        for (place, (trail, last)) in trails {
            remembered.trails.insert(place, trail);
            remembered.looks.entry(place).or_default().take(last);
        }
    }

    /// Aborts, and gives back where what it consumed begins.
    pub(super) fn abort(&self) -> Result<BTreeMap<Partition, i64>, Fault> {
        self.state().staged = Stage::default();
        // A commit that is on its way may still succeed, and then what it took stays.
        if let Err(fault) = self.settle() {
            tracing::debug!(%fault, "a commit failed, and is aborted with what came behind it");
        }
        if self.state().open {
            self.writer.abort()?;
        }
        self.writer.forget();
        let mut state = self.state();
        state.one_by_one = None;
        state.happened.aborts += u64::from(state.open);
        state.open = false;
        state.jobs = 0;
        let consumed = std::mem::take(&mut state.consumed);
        Ok(consumed.into_iter().map(|(place, of)| (place, of.first)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::headers;

    #[test]
    fn what_is_staged_comes_out_as_it_went_in() {
        let records = [
            ("jobs", "slack:bot", Some("a job")),
            ("outcomes", "", None),
            ("größer", "k", Some("")),
            ("jobs", "slack:bot", Some("another")),
        ];
        let mut stage = Stage::default();
        assert!(stage.is_empty());
        for (topic, key, value) in records {
            stage.push(Record {
                topic,
                key: key.as_bytes(),
                value: value.map(str::as_bytes),
                headers: headers::headers([("of", topic)]),
            });
        }
        assert!(!stage.is_empty());
        let mut count = 0;
        for (record, (topic, key, value)) in stage.drain().zip(records) {
            assert_eq!((record.topic, record.key), (topic, key.as_bytes()));
            assert_eq!(record.value, value.map(str::as_bytes));
            assert_eq!(headers::header(Some(&record.headers), "of"), Some(topic));
            count += 1;
        }
        assert_eq!(count, records.len());
    }
}
