//! A worker's side of Kafka: its consumer, and the transaction that carries its writes together with the offsets that
//! it consumed. The processor's workers read lead events, the inlets' worker foreign topics.
//!
//! All transactional calls block, so a worker is a thread of its own. A rebalance runs inside [`Worker::poll`]: the
//! worker commits partitions before they go, or, where it has lost them already, aborts the transaction.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, Producer};
use rdkafka::{Message as _, Offset};

use super::place::Places;
use super::queue::{ConsumerRecord, Queue};
use super::rights::{Right, Rights, Said};
use super::topics::Limits;
use super::words::Words;
use super::{ANSWER_WAIT, Fault, RECORD_MAX};
use crate::config::{Config, Rebalance};
use crate::trail::{Crumb, Look, Trail};

mod assign;
mod transaction;
mod write;
mod writer;

use assign::WorkerContext;
use transaction::Transaction;
pub use transaction::{Happened, Memory};
pub(crate) use write::takes_nothing;
pub use write::{Record, Write, WriteError};
use writer::{Committer, Deliveries, TRANSACTION_TIMEOUT, Writer};
pub(super) use writer::{Denied, again};

/// Retention took it, the topic was made anew, or its end is lost.
const GONE: &str = "the place of a partition is not there any more";

/// The session is over: Kafka was away, or we stood still.
const LOST: &str = "the group took the partitions; a new client joins it";

/// A rebalance is seen so soon while no record comes.
const REBALANCE_SEEN_WITHIN: Duration = Duration::from_millis(50);

/// Where a worker's record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RecordPlace {
    /// The number of its topic among those that the worker reads.
    pub topic: usize,
    pub partition: i32,
    pub offset: i64,
}

/// The topics that a worker reads, and the names under which it does.
#[derive(Debug, Clone)]
pub struct Share {
    /// The group whose partitions it takes its share of.
    pub group: String,
    pub topics: Vec<String>,
    /// The same after a restart, and no other worker's: whoever connects under it ends the open transaction.
    pub transactional_id: String,
}

impl Share {
    /// Worker `number` of the processor.
    pub fn of_events(config: &Config, instance: &str, number: usize) -> Self {
        let group = config.kafka.group.clone();
        Self {
            transactional_id: format!("{group}-{instance}-{number}"),
            topics: vec![config.topics.events.clone()],
            group,
        }
    }

    /// The worker of the inlets that read topics.
    pub fn of_inlets(config: &Config, instance: &str) -> Self {
        let group = format!("{}-inlets", config.kafka.group);
        Self {
            transactional_id: format!("{group}-{instance}"),
            topics: config.foreign_topics().into_keys().map(str::to_owned).collect(),
            group,
        }
    }
}

pub struct Worker {
    /// All records come by it. It goes before its client does.
    queue: Arc<Queue>,
    consumer: BaseConsumer<WorkerContext>,
    transaction: Arc<Transaction>,
    dead_letters: String,
    /// Topics, each with the largest record that it takes.
    limits: [(String, usize); 3],
}

impl Worker {
    /// Connects a worker. An open transaction of its predecessor is aborted by that.
    pub fn connect(config: &Config, share: &Share, limits: &Limits, memory: &Memory) -> Result<Self, Fault> {
        let unusable = |error: KafkaError| Fault::Unusable(error.to_string());
        let words = Words::of(&config.kafka);
        let reads = share.topics.iter().map(|topic| Right::read(topic)).chain([
            Right::read_group(&share.group),
            Right::write_as(&share.transactional_id),
        ]);
        let reads = Rights::of(&config.kafka, reads);
        let writes = config.topics.all().map(|topic| Right::write(topic));
        let mut client = super::producer(&config.kafka);
        client
            .set("transactional.id", &share.transactional_id)
            .set("transaction.timeout.ms", TRANSACTION_TIMEOUT.as_millis().to_string())
            .set("message.max.bytes", RECORD_MAX.to_string())
            .set("batch.size", limits.batch_max().to_string())
            // Transactions back to back run into CONCURRENT_TRANSACTIONS, which waits for so long.
            .set("retry.backoff.ms", "1");
        let producer: BaseProducer<Deliveries> = words.create(&client, Deliveries::new(&words)).map_err(unusable)?;
        let begun = producer.init_transactions(ANSWER_WAIT);
        begun.map_err(|error| reads.fault(error))?;
        let writer = Arc::new(Writer {
            producer,
            reads,
            writes: Rights::of(&config.kafka, writes),
        });
        let transaction = Arc::new(Transaction {
            committer: Committer::of(&writer)?,
            writer,
            topics: share.topics.clone(),
            state: Mutex::default(),
            memory: Arc::clone(memory),
        });
        let context = WorkerContext {
            words: words.clone(),
            transaction: Arc::clone(&transaction),
            places: Places::new(config).map_err(unusable)?,
            start: config.processor.start,
            queue: Mutex::default(),
        };
        let mut client = super::consumer(&config.kafka, &share.group, 32768);
        let given = &config.kafka.consumer_properties.0;
        let is_free = !["partition.assignment.strategy", "group.protocol"]
            .iter()
            .any(|name| given.contains_key(*name));
        if is_free && config.processor.rebalance == Rebalance::Cooperative {
            client.set("partition.assignment.strategy", "cooperative-sticky");
        }
        // A topic that is made anew is read this soon; the default is five minutes.
        client.set("topic.metadata.refresh.interval.ms", "10000");
        let consumer: BaseConsumer<WorkerContext> = words.create(&client, context).map_err(unusable)?;
        let queue = Arc::new(Queue::of(consumer.client()));
        consumer.context().reads_from(Some(Arc::clone(&queue)));
        let topics: Vec<&str> = share.topics.iter().map(String::as_str).collect();
        consumer.subscribe(&topics).map_err(unusable)?;
        Ok(Self {
            queue,
            consumer,
            transaction,
            dead_letters: config.topics.dead_letters.clone(),
            limits: limits.by_topic(config),
        })
    }

    /// Waits for records, and takes those that are there. Rebalances run in here.
    pub fn poll<'w>(&'w self, wait: Duration, records: &mut VecDeque<ConsumerRecord<'w>>) -> Result<(), Fault> {
        let (had, until) = (records.len(), Instant::now() + wait);
        self.transaction.look()?;
        loop {
            let polled = self.consumer.poll(Duration::ZERO);
            if let Some(fault) = self.transaction.state().fault.take() {
                return Err(fault);
            }
            match polled {
                None => {}
                Some(Err(error)) => self.failed(error)?,
                // Each partition was forwarded before it was assigned.
                Some(Ok(_)) => return Err(Fault::Retriable("a record came past the worker's queue".to_owned())),
            }
            // Whoever holds records has to drop those of what went away, before the partition may come again.
            if !self.transaction.state().revoked.is_empty() {
                return Ok(());
            }
            let left = until.saturating_duration_since(Instant::now());
            let read = self.queue.read(left.min(REBALANCE_SEEN_WITHIN), records);
            read.or_else(|error| self.failed(error))?;
            if records.len() > had || left.is_zero() {
                return Ok(());
            }
        }
    }

    /// What an error in place of a record asks for.
    fn failed(&self, error: KafkaError) -> Result<(), Fault> {
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::AutoOffsetReset) => Err(Fault::Retriable(GONE.to_owned())),
            Some(RDKafkaErrorCode::Fatal) => Err(error.into()),
            Some(RDKafkaErrorCode::UnknownTopicOrPartition) => {
                self.log_missing();
                Ok(())
            }
            // Brokers away, a coordinator that moves, an ACL that is missing: librdkafka goes on by itself.
            _ => {
                match self.transaction.writer.reads.denied(&error) {
                    Some(denied) => self.say(&denied),
                    None => tracing::debug!(%error, "no record"),
                }
                Ok(())
            }
        }
    }

    /// Counts a job written in the open transaction.
    pub fn wrote_job(&self) {
        self.transaction.state().jobs += 1;
    }

    /// What was read of a partition since the last call: the first record, to which an abort goes back, and the last one
    /// whose results are written, with its checksum. Its offset goes into the transaction; nothing is consumed before that.
    pub fn consumed(&self, first: RecordPlace, last: Option<Crumb>) {
        let mut state = self.transaction.state();
        let consumed = state.reads((first.topic, first.partition), first.offset);
        consumed.last = last.or(consumed.last);
    }

    /// Whether something is written and not committed.
    pub fn is_open(&self) -> bool {
        let state = self.transaction.state();
        state.open || !state.staged.is_empty()
    }

    /// Whether a commit is on its way.
    pub fn is_committing(&self) -> bool {
        self.transaction.state().is_committing()
    }

    pub fn place(&self, record: &ConsumerRecord<'_>) -> RecordPlace {
        // All records are of the only topic, which most workers have.
        let topic = match self.transaction.topics.len() {
            1 => 0,
            _ => self.number_of(record.topic()),
        };
        RecordPlace {
            topic,
            partition: record.partition(),
            offset: record.offset(),
        }
    }

    /// The topic's number among those that the worker reads.
    pub fn number_of(&self, topic: &str) -> usize {
        let number = self.transaction.number(topic);
        number.unwrap_or_else(|| unreachable!("only what was subscribed to is read"))
    }

    /// Begins to commit what was written and consumed since the last commit. What is written from here on is staged until
    /// [`Self::settle`], and records are read meanwhile.
    pub fn commit(&self) -> Result<(), Fault> {
        self.transaction.commit(&self.consumer)
    }

    /// Waits until no commit is on its way. The error is what became of it.
    pub fn settle(&self) -> Result<(), Fault> {
        self.transaction.settle()
    }

    /// Aborts the transaction and goes back to where it began.
    pub fn abort(&self) -> Result<(), Fault> {
        let offsets = self.transaction.abort()?;
        let assigned = self.consumer.assignment().map_err(Fault::from)?;
        for ((topic, partition), first) in offsets {
            let topic = &self.transaction.topics[topic];
            if assigned.find_partition(topic, partition).is_some() {
                self.rewind(topic, partition, first)?;
            }
        }
        Ok(())
    }

    /// Goes back to a record, so that it is read again.
    pub fn rewind(&self, topic: &str, partition: i32, offset: i64) -> Result<(), Fault> {
        // A partition that is just being (un)assigned can't be sought; a new worker starts from
        // what is committed.
        let sought = self
            .consumer
            .seek(topic, partition, Offset::Offset(offset), ANSWER_WAIT);
        sought.map_err(|error| Fault::Retriable(error.to_string()))
    }

    /// Stops (or goes on) fetching, while rebalances and heartbeats go on. Records may still slip through.
    pub fn pause(&self, paused: bool) -> Result<(), Fault> {
        let assigned = self.consumer.assignment().map_err(Fault::from)?;
        let done = if paused {
            self.consumer.pause(&assigned)
        } else {
            self.consumer.resume(&assigned)
        };
        done.map_err(Fault::from)
    }

    /// The partitions that went away since the last call, as topic and number. What was read of them and isn't consumed
    /// is read again, by whoever has them now.
    pub fn take_revoked(&self) -> Vec<(String, i32)> {
        std::mem::take(&mut self.transaction.state().revoked)
    }

    /// Whether the group gave us our share of the partitions (which may be none), and their topics are there.
    pub fn is_assigned(&self) -> bool {
        let state = self.transaction.state();
        state.assigned && state.missing.is_empty()
    }

    pub fn happened(&self) -> Happened {
        std::mem::take(&mut self.transaction.state().happened)
    }

    /// Records between what was consumed and the end, by topic and partition.
    pub fn lag(&self) -> Vec<(String, i32, i64)> {
        let Ok(positions) = self.consumer.position() else {
            return Vec::new();
        };
        let lag = |topic: &str, partition: i32, offset: Offset| {
            let (low, high) = self
                .consumer
                .client()
                .fetch_watermarks(topic, partition, Duration::from_millis(500))
                .ok()?;
            let number = self.transaction.number(topic)?;
            self.transaction.remembered().ends.insert((number, partition), high);
            let next = match offset {
                Offset::Offset(next) => next,
                _ => low,
            };
            Some((topic.to_owned(), partition, (high - next).max(0)))
        };
        positions
            .elements()
            .iter()
            .filter_map(|element| lag(element.topic(), element.partition(), element.offset()))
            .collect()
    }

    /// Logs what keeps the worker from reading.
    fn say(&self, denied: &str) {
        if self.transaction.state().said.is_news(denied, Instant::now()) {
            tracing::error!("no record can be read: {denied}");
        }
    }

    /// Logs a missing topic once. The client reports that a topic is gone with each fetch, but not which. So the worker
    /// asks it once a second, which also makes the client look for the topic.
    fn log_missing(&self) {
        {
            let mut state = self.transaction.state();
            if state
                .asked_at
                .is_some_and(|asked_at| asked_at.elapsed() < Duration::from_secs(1))
            {
                return;
            }
            state.asked_at = Some(Instant::now());
        }
        for (number, topic) in self.transaction.topics.iter().enumerate() {
            let metadata = self.consumer.fetch_metadata(Some(topic), Duration::from_secs(1));
            let Ok(metadata) = metadata else { continue };
            let is_missing = metadata.topics().iter().any(|topic| topic.error().is_some());
            if is_missing && self.transaction.state().missing.insert(number) {
                tracing::warn!(
                    kafka.topic = topic,
                    "the topic is missing; it is read once it is there again"
                );
            }
        }
    }

    /// Looks whether what was read is still there. Where it isn't, the worker has to be built
    /// anew, with a client that doesn't take the new topic for the old one, and starts from what is committed.
    pub fn look(&self) -> Result<(), Fault> {
        let assigned = self.consumer.assignment().map_err(Fault::from)?;
        let mut looked = false;
        for element in assigned.elements() {
            let (topic, partition) = (element.topic(), element.partition());
            let Some(number) = self.transaction.number(topic) else {
                continue;
            };
            let key = (number, partition);
            let (at, newest) = {
                let remembered = self.transaction.remembered();
                let newest = remembered.trails.get(&key).and_then(Trail::newest);
                (remembered.looks.get(&key).and_then(Look::at), newest)
            };
            let places = &self.consumer.context().places;
            let found = match at {
                Some(crumb) => places.check(topic, partition, crumb.offset + 1, &Trail::of(crumb)),
                None => places.ends(topic, partition).map(|_| None),
            };
            match found {
                Ok(None) => {
                    looked = true;
                    self.transaction
                        .remembered()
                        .looks
                        .entry(key)
                        .or_default()
                        .found(newest);
                }
                Ok(Some(_)) => return Err(Fault::Retriable(GONE.to_owned())),
                Err(error) => {
                    tracing::debug!(%error, kafka.topic = topic, "no look at what was read");
                    return Ok(());
                }
            }
        }
        if looked {
            self.transaction.state().missing.clear();
        }
        Ok(())
    }
}

impl Drop for Worker {
    /// A rebalance may run while the client closes. It finds no queue any more.
    fn drop(&mut self) {
        if let Err(fault) = self.transaction.settle() {
            tracing::debug!(%fault, "a worker ends with a commit that failed");
        }
        self.consumer.context().reads_from(None);
    }
}

/// Runs `work`, a worker from its connection on, until it ends by itself or `stop` says so. After a fault it begins
/// anew, from the committed offsets, for as long as it takes: what Kafka does to us passes. A twin doesn't, so that
/// being fenced for the third time within a minute is the error, and a configuration of which no client can be made.
pub fn keep_running(
    name: &str,
    instance: &str,
    stop: impl Fn() -> bool,
    mut work: impl FnMut() -> Result<(), Fault>,
) -> Result<(), String> {
    let mut fenced_at: Vec<Instant> = Vec::new();
    let mut said = Said::default();
    while !stop() {
        match work() {
            Ok(()) => return Ok(()),
            Err(fault @ Fault::Unusable(_)) => return Err(format!("{name}: {fault}")),
            Err(Fault::Fatal { message, fenced }) => {
                if said.is_news(&message, Instant::now()) {
                    tracing::error!(
                        worker = name,
                        message,
                        "the worker is rebuilt from the committed offsets"
                    );
                }
                if !fenced {
                    std::thread::sleep(REBUILD_WAIT);
                    continue;
                }
                fenced_at.retain(|at| at.elapsed() < Duration::from_secs(60));
                fenced_at.push(Instant::now());
                if fenced_at.len() >= 3 {
                    return Err(format!(
                        "{name} failed three times within a minute: {message}; another process has the same \
                         processor.instance {instance:?}, and each must have its own"
                    ));
                }
            }
            Err(Fault::Retriable(message) | Fault::Abort(message) | Fault::Refused { message, .. }) => {
                // Mostly the broker is away; the next try waits for it in turn.
                if said.is_news(&message, Instant::now()) {
                    tracing::warn!(worker = name, message, "the worker is built anew");
                }
                std::thread::sleep(REBUILD_WAIT);
            }
        }
    }
    Ok(())
}

/// Between a worker that failed and the next.
const REBUILD_WAIT: Duration = Duration::from_millis(500);

impl std::fmt::Debug for Worker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Worker")
            .field("topics", &self.transaction.topics)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
