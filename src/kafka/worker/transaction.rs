//! The transaction that carries what a worker writes together with the offsets that it consumed.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, Producer, PurgeConfig};
use rdkafka::{Offset, TopicPartitionList};

use super::super::{ANSWER_WAIT, Fault};

/// The transaction's time-out at the broker: how long a dead worker that nobody replaces may hide
/// what others wrote.
pub(in crate::kafka) const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(10);

/// What happened beside the records since the last look.
#[derive(Debug, Default)]
pub struct Happened {
    pub commits: Vec<Duration>,
    pub aborts: u64,
    /// Jobs that those commits made visible.
    pub jobs: u64,
    /// Records that retention took before they were read.
    pub lost: u64,
}

/// The open transaction, shared with the rebalance callback of the same thread.
pub(super) struct Transaction {
    pub(super) producer: BaseProducer,
    /// What is consumed in it.
    pub(super) topics: Vec<String>,
    pub(super) state: Mutex<State>,
}

/// A partition: its topic's place among the worker's, and its number.
pub(super) type Partition = (usize, i32);

#[derive(Default)]
pub(super) struct State {
    pub(super) open: bool,
    pub(super) jobs: u64,
    /// Where this transaction began, and what comes next.
    pub(super) offsets: BTreeMap<Partition, (i64, i64)>,
    pub(super) fault: Option<Fault>,
    pub(super) happened: Happened,
    pub(super) assigned: bool,
    /// Partitions that went away, by topic and number.
    pub(super) revoked: Vec<(String, i32)>,
}

impl Transaction {
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn begin(&self) -> Result<(), Fault> {
        let mut state = self.state();
        if !state.open {
            self.producer.begin_transaction()?;
            state.open = true;
        }
        Ok(())
    }

    pub(super) fn commit<C: ConsumerContext>(&self, consumer: &BaseConsumer<C>) -> Result<(), Fault> {
        let began = Instant::now();
        let offsets = self.state().offsets.clone();
        if offsets.is_empty() {
            return Ok(());
        }
        self.begin()?;
        let mut list = TopicPartitionList::with_capacity(offsets.len());
        for ((topic, partition), (first, next)) in &offsets {
            assert!(first < next, "a committed offset is behind what was consumed");
            list.add_partition_offset(&self.topics[*topic], *partition, Offset::Offset(*next))?;
        }
        // rust-rdkafka's own flush inside commit polls in steps of 100 ms.
        self.drain();
        // The generation may change without a callback, so the metadata is asked for anew.
        let metadata = consumer
            .group_metadata()
            .ok_or_else(|| Fault::Abort("the consumer is in no group at the moment".to_owned()))?;
        again(|| self.producer.send_offsets_to_transaction(&list, &metadata, ANSWER_WAIT))?;
        again(|| self.producer.commit_transaction(ANSWER_WAIT))?;
        let mut state = self.state();
        state.open = false;
        state.offsets.clear();
        let jobs = std::mem::take(&mut state.jobs);
        state.happened.jobs += jobs;
        state.happened.commits.push(began.elapsed());
        Ok(())
    }

    /// Aborts, and gives back where what it consumed begins.
    pub(super) fn abort(&self) -> Result<BTreeMap<Partition, (i64, i64)>, Fault> {
        if self.state().open {
            // An abort waits for all delivery reports, which only we can take off the queue.
            self.producer.purge(PurgeConfig::default().queue().inflight());
            self.drain();
            again(|| self.producer.abort_transaction(ANSWER_WAIT))?;
        }
        let mut state = self.state();
        state.happened.aborts += u64::from(state.open);
        state.open = false;
        state.jobs = 0;
        Ok(std::mem::take(&mut state.offsets))
    }

    /// "Fatal" says nothing by itself; the client knows what made it so.
    pub(super) fn cause(&self, error: KafkaError) -> Fault {
        match self.producer.client().fatal_error() {
            Some((code, message)) => {
                let fenced = matches!(
                    code,
                    RDKafkaErrorCode::Fenced
                        | RDKafkaErrorCode::ProducerFenced
                        | RDKafkaErrorCode::InvalidProducerEpoch
                );
                Fault::Fatal {
                    message: format!("{message} ({code})"),
                    fenced,
                }
            }
            None => error.into(),
        }
    }

    fn drain(&self) {
        while self.producer.in_flight_count() > 0 {
            self.producer.poll(Duration::from_micros(200));
        }
    }
}

/// A call that timed out has to be taken up again with the same call; it is given up when the
/// broker has surely ended the transaction itself.
pub(in crate::kafka) fn again(mut call: impl FnMut() -> Result<(), KafkaError>) -> Result<(), Fault> {
    let began = Instant::now();
    loop {
        match call().map_err(Fault::from) {
            Err(Fault::Retriable(message)) if began.elapsed() > 6 * TRANSACTION_TIMEOUT => {
                return Err(Fault::Fatal { message, fenced: false });
            }
            Err(Fault::Retriable(message)) => tracing::warn!(message, "the transaction waits for the broker"),
            done => return done,
        }
    }
}
