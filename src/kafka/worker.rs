//! A processor worker's Kafka: its consumer, and the transaction that carries what it writes
//! together with the offsets it consumed.
//!
//! All transactional calls block, so a worker is a thread of its own. A rebalance runs inside
//! [`Worker::poll`]: partitions that go away are committed first, or, when they are lost already,
//! the transaction is aborted.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, RebalanceProtocol};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, PurgeConfig};
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{Offset, TopicPartitionList};

use super::{ANSWER_WAIT, Fault};
use crate::config::{Config, Start};

/// The transaction's time-out at the broker: how long a dead worker that nobody replaces may hide
/// what others wrote.
pub(super) const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(10);

/// A record to write in the transaction.
#[derive(Debug)]
pub struct Record<'r> {
    pub topic: &'r str,
    pub key: &'r [u8],
    pub value: Option<&'r [u8]>,
    pub headers: OwnedHeaders,
}

/// Why a record was not written.
#[derive(Debug)]
pub enum WriteError {
    TooLarge,
    Fault(Fault),
}

/// What happened beside the records since the last look.
#[derive(Debug, Default)]
pub struct Happened {
    pub commits: Vec<Duration>,
    pub aborts: u64,
    /// Jobs that those commits made visible.
    pub jobs: u64,
    pub events_lost: u64,
}

pub struct Worker {
    consumer: BaseConsumer<WorkerContext>,
    transaction: Arc<Transaction>,
    topic: String,
}

/// The open transaction, shared with the rebalance callback of the same thread.
struct Transaction {
    producer: BaseProducer,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    open: bool,
    jobs: u64,
    /// By partition: where this transaction began, and what comes next.
    offsets: BTreeMap<i32, (i64, i64)>,
    fault: Option<Fault>,
    happened: Happened,
    assigned: bool,
}

struct WorkerContext {
    transaction: Arc<Transaction>,
    topic: String,
    start: Start,
}

impl Worker {
    /// Connects worker `number`. An open transaction of its predecessor is aborted by that.
    pub fn connect(config: &Config, instance: &str, number: usize, record_max: usize) -> Result<Self, Fault> {
        let fatal = |error: KafkaError| Fault::Fatal {
            message: error.to_string(),
            fenced: false,
        };
        let producer: BaseProducer = super::producer(&config.kafka)
            .set(
                "transactional.id",
                format!("{}-{instance}-{number}", config.kafka.group),
            )
            .set("transaction.timeout.ms", TRANSACTION_TIMEOUT.as_millis().to_string())
            .set("message.max.bytes", record_max.to_string())
            // Transactions back to back run into CONCURRENT_TRANSACTIONS, which waits for so long.
            .set("retry.backoff.ms", "1")
            .create()
            .map_err(fatal)?;
        producer.init_transactions(ANSWER_WAIT)?;
        let transaction = Arc::new(Transaction {
            producer,
            state: Mutex::default(),
        });
        let context = WorkerContext {
            transaction: Arc::clone(&transaction),
            topic: config.topics.events.clone(),
            start: config.processor.start,
        };
        let consumer: BaseConsumer<WorkerContext> = super::consumer(&config.kafka, &config.kafka.group, 32768)
            .create_with_context(context)
            .map_err(fatal)?;
        consumer.subscribe(&[&config.topics.events]).map_err(fatal)?;
        Ok(Self {
            consumer,
            transaction,
            topic: config.topics.events.clone(),
        })
    }

    /// The next record, or `None` when none came in time.
    pub fn poll(&self, timeout: Duration) -> Result<Option<BorrowedMessage<'_>>, Fault> {
        let polled = self.consumer.poll(timeout);
        if let Some(fault) = self.transaction.state().fault.take() {
            return Err(fault);
        }
        match polled {
            None => Ok(None),
            Some(Ok(message)) => Ok(Some(message)),
            Some(Err(error)) => match error.rdkafka_error_code() {
                Some(RDKafkaErrorCode::AutoOffsetReset) => self.place().map(|()| None),
                Some(RDKafkaErrorCode::Fatal) => Err(error.into()),
                // Brokers away, a coordinator that moves: librdkafka goes on by itself.
                _ => {
                    tracing::debug!(%error, "no record");
                    Ok(None)
                }
            },
        }
    }

    /// Writes a record, beginning a transaction where none is open.
    pub fn write(&self, record: &Record<'_>) -> Result<(), WriteError> {
        self.transaction.begin().map_err(WriteError::Fault)?;
        loop {
            let mut base = BaseRecord::to(record.topic)
                .key(record.key)
                .headers(record.headers.clone());
            base.payload = record.value;
            match self.transaction.producer.send(base) {
                Ok(()) => return Ok(()),
                Err((error, _)) => match error.rdkafka_error_code() {
                    Some(RDKafkaErrorCode::QueueFull) => self.transaction.producer.poll(Duration::from_millis(1)),
                    Some(RDKafkaErrorCode::MessageSizeTooLarge) => return Err(WriteError::TooLarge),
                    _ => return Err(WriteError::Fault(self.transaction.cause(error))),
                },
            }
        }
    }

    /// Counts a job written in the open transaction.
    pub fn wrote_job(&self) {
        self.transaction.state().jobs += 1;
    }

    /// The record's offset goes into the transaction. Nothing is consumed before that.
    pub fn consumed(&self, partition: i32, offset: i64) {
        let mut state = self.transaction.state();
        let entry = state.offsets.entry(partition).or_insert((offset, offset));
        entry.1 = offset + 1;
    }

    /// Commits what was written and consumed since the last commit.
    pub fn commit(&self) -> Result<(), Fault> {
        self.transaction.commit(&self.consumer, &self.topic)
    }

    /// Aborts the transaction and goes back to where it began.
    pub fn abort(&self) -> Result<(), Fault> {
        let offsets = self.transaction.abort()?;
        let assigned = self.consumer.assignment().map_err(Fault::from)?;
        for (partition, (first, _)) in offsets {
            if assigned.find_partition(&self.topic, partition).is_some() {
                self.seek(partition, Offset::Offset(first))?;
            }
        }
        Ok(())
    }

    /// Goes back to a record, so that it is read again.
    pub fn rewind(&self, partition: i32, offset: i64) -> Result<(), Fault> {
        self.seek(partition, Offset::Offset(offset))
    }

    /// Stops (or goes on) fetching, while rebalances and heartbeats go on.
    pub fn pause(&self, paused: bool) -> Result<(), Fault> {
        let assigned = self.consumer.assignment().map_err(Fault::from)?;
        let done = if paused {
            self.consumer.pause(&assigned)
        } else {
            self.consumer.resume(&assigned)
        };
        done.map_err(Fault::from)
    }

    /// Whether the group gave us our share of the partitions (which may be none).
    pub fn is_assigned(&self) -> bool {
        self.transaction.state().assigned
    }

    pub fn happened(&self) -> Happened {
        std::mem::take(&mut self.transaction.state().happened)
    }

    /// Records between what was consumed and the end, by partition.
    pub fn lag(&self) -> Vec<(i32, i64)> {
        let Ok(positions) = self.consumer.position() else {
            return Vec::new();
        };
        let lag = |partition: i32, offset: Offset| {
            let (low, high) = self
                .consumer
                .client()
                .fetch_watermarks(&self.topic, partition, Duration::from_millis(500))
                .ok()?;
            let next = match offset {
                Offset::Offset(next) => next,
                _ => low,
            };
            Some((partition, (high - next).max(0)))
        };
        positions
            .elements()
            .iter()
            .filter_map(|element| lag(element.partition(), element.offset()))
            .collect()
    }

    /// Retention has passed a partition's place while we read: all are assigned anew, each from
    /// where it is now.
    fn place(&self) -> Result<(), Fault> {
        self.commit()?;
        let assigned = self.consumer.assignment().map_err(Fault::from)?;
        let positions = self.consumer.position().map_err(Fault::from)?;
        let placed = self
            .consumer
            .context()
            .placed(&self.consumer, &assigned, Some(&positions))?;
        match self.consumer.rebalance_protocol() {
            RebalanceProtocol::Cooperative => {
                self.consumer.incremental_unassign(&assigned).map_err(Fault::from)?;
                self.consumer.incremental_assign(&placed).map_err(Fault::from)
            }
            _ => self.consumer.assign(&placed).map_err(Fault::from),
        }
    }

    fn seek(&self, partition: i32, offset: Offset) -> Result<(), Fault> {
        // A partition that is just being (un)assigned can't be sought; a new worker starts from
        // what is committed.
        let sought = self.consumer.seek(&self.topic, partition, offset, ANSWER_WAIT);
        sought.map_err(|error| Fault::Retriable(error.to_string()))
    }
}

impl WorkerContext {
    /// `partitions` with the offsets to read from: where we are, else what is committed, else
    /// where reading starts. Events that retention took are counted and passed.
    fn placed<C: ConsumerContext>(
        &self,
        consumer: &BaseConsumer<C>,
        partitions: &TopicPartitionList,
        positions: Option<&TopicPartitionList>,
    ) -> Result<TopicPartitionList, Fault> {
        let committed = consumer
            .committed_offsets(partitions.clone(), ANSWER_WAIT)
            .map_err(Fault::from)?;
        let mut placed = TopicPartitionList::with_capacity(partitions.count());
        for element in partitions.elements() {
            let partition = element.partition();
            let of = |list: &TopicPartitionList| match list.find_partition(&self.topic, partition)?.offset() {
                Offset::Offset(offset) => Some(offset),
                _ => None,
            };
            let (low, high) = consumer
                .fetch_watermarks(&self.topic, partition, ANSWER_WAIT)
                .map_err(Fault::from)?;
            let from = match positions.and_then(of).or_else(|| of(&committed)) {
                None if self.start == Start::Latest => high,
                None => low,
                Some(next) if next < low => {
                    let lost = low.abs_diff(next);
                    tracing::error!(
                        kafka.topic = self.topic,
                        kafka.partition = partition,
                        kafka.offset = next,
                        lost,
                        "events were lost to retention before they were read; reading goes on behind them"
                    );
                    self.transaction.state().happened.events_lost += lost;
                    low
                }
                Some(next) if next > high => {
                    tracing::error!(
                        kafka.topic = self.topic,
                        kafka.partition = partition,
                        kafka.offset = next,
                        high,
                        "the committed offset is beyond the end, so the topic was made anew; reading starts over"
                    );
                    low
                }
                Some(next) => next,
            };
            placed.add_partition_offset(&self.topic, partition, Offset::Offset(from))?;
        }
        Ok(placed)
    }
}

impl Transaction {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self) -> Result<(), Fault> {
        let mut state = self.state();
        if !state.open {
            self.producer.begin_transaction()?;
            state.open = true;
        }
        Ok(())
    }

    fn commit<C: ConsumerContext>(&self, consumer: &BaseConsumer<C>, topic: &str) -> Result<(), Fault> {
        let began = Instant::now();
        let offsets = self.state().offsets.clone();
        if offsets.is_empty() {
            return Ok(());
        }
        self.begin()?;
        let mut list = TopicPartitionList::with_capacity(offsets.len());
        for (partition, (first, next)) in &offsets {
            assert!(first < next, "a committed offset is behind what was consumed");
            list.add_partition_offset(topic, *partition, Offset::Offset(*next))?;
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

    /// Aborts, and gives back where the transaction's events begin.
    fn abort(&self) -> Result<BTreeMap<i32, (i64, i64)>, Fault> {
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
    fn cause(&self, error: KafkaError) -> Fault {
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
pub(super) fn again(mut call: impl FnMut() -> Result<(), KafkaError>) -> Result<(), Fault> {
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

impl ClientContext for WorkerContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        super::log(level, facility, message);
    }
}

impl ConsumerContext for WorkerContext {
    /// In place of the default, so that each partition gets its offset at once: a partition without
    /// one would raise an error that doesn't say which it is.
    fn rebalance(&self, consumer: &BaseConsumer<Self>, code: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let cooperative = matches!(consumer.rebalance_protocol(), RebalanceProtocol::Cooperative);
        let done = match code {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => self.assign(consumer, list, cooperative),
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__REVOKE_PARTITIONS => self.revoke(consumer, list, cooperative),
            _ => consumer.unassign().map_err(Fault::from),
        };
        // Whatever went wrong, the loop has to see it.
        if let Err(fault) = done {
            tracing::warn!(%fault, "a rebalance did not go as it should");
            self.transaction.state().fault = Some(fault);
        }
    }
}

impl WorkerContext {
    fn assign(&self, consumer: &BaseConsumer<Self>, list: &TopicPartitionList, cooperative: bool) -> Result<(), Fault> {
        let placed = if list.count() == 0 {
            Ok(list.clone())
        } else {
            self.placed(consumer, list, None)
        };
        // Without its offsets a partition is not read; the worker is built anew and asks again.
        let (list, asked) = match placed {
            Ok(placed) => (placed, Ok(())),
            Err(fault) => (TopicPartitionList::new(), Err(Fault::Retriable(fault.to_string()))),
        };
        if cooperative {
            consumer.incremental_assign(&list)?
        } else {
            consumer.assign(&list)?
        };
        tracing::info!(
            kafka.topic = self.topic,
            partitions = list.count(),
            "partitions assigned"
        );
        self.transaction.state().assigned = asked.is_ok();
        asked
    }

    fn revoke(&self, consumer: &BaseConsumer<Self>, list: &TopicPartitionList, cooperative: bool) -> Result<(), Fault> {
        let ended = if consumer.assignment_lost() {
            self.transaction.abort().map(drop)
        } else {
            self.transaction.commit(consumer, &self.topic)
        };
        // The partitions go either way.
        if cooperative {
            consumer.incremental_unassign(list)?
        } else {
            consumer.unassign()?
        };
        ended
    }
}

impl std::fmt::Debug for Worker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Worker")
            .field("topic", &self.topic)
            .finish_non_exhaustive()
    }
}
