//! The transaction that carries what a worker writes together with the offsets that it consumed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, Producer, ProducerContext, PurgeConfig};
use rdkafka::{ClientContext, Message, Offset, TopicPartitionList};

use super::super::rights::{Rights, Said};
use super::super::words::Words;
use super::super::{ANSWER_WAIT, Fault};
use super::write::{OneByOne, Write};
use crate::trail::{Crumb, Look, Trail};

/// The transaction's time-out at the broker: how long a dead worker that nobody replaces may hide
/// what others wrote.
pub(super) const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(10);

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
    pub(super) producer: BaseProducer<Deliveries>,
    /// To read its topics in its group, and to write transactions.
    pub(super) reads: Rights,
    pub(super) writes: Rights,
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

#[derive(Default)]
pub(super) struct State {
    pub(super) open: bool,
    pub(super) jobs: u64,
    pub(super) consumed: BTreeMap<Partition, Consumed>,
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
}

/// What the brokers say to what is written: the last refusal of a record, and the last topic that we may not write.
pub(super) struct Deliveries {
    words: Words,
    refused: Mutex<Option<String>>,
    denied: Denied,
}

/// The last topic that we may not write. A transaction's errors don't name it.
#[derive(Debug, Default)]
pub(in crate::kafka) struct Denied(Mutex<Option<String>>);

impl Denied {
    /// librdkafka names it in a message of its own.
    pub(in crate::kafka) fn hear(&self, facility: &str, said: &str) {
        let named = said.split_once("Failed to add partition \"");
        // Those beside it are "not attempted".
        let is_denial = facility == "ADDPARTS" && said.contains("Topic authorization failed");
        if let Some((topic, _)) = named.filter(|_| is_denial).and_then(|(_, rest)| rest.split_once('"')) {
            self.note(topic);
        }
    }

    pub(in crate::kafka) fn note(&self, topic: &str) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(topic.to_owned());
    }

    pub(in crate::kafka) fn forget(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// What an error asks for, in words that name what is missing: of `writes` where a topic couldn't be written.
    pub(in crate::kafka) fn fault(&self, [writes, others]: [&Rights; 2], error: KafkaError) -> Fault {
        let topic = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let denied = match topic {
            // Records that were on their way are only said to be purged.
            Some(topic) => writes.denies(RDKafkaErrorCode::TopicAuthorizationFailed, Some(&topic)),
            None => others.denied(&error),
        };
        Fault::from(error).saying(denied)
    }
}

impl Deliveries {
    pub(super) fn new(words: &Words) -> Self {
        Self {
            words: words.clone(),
            refused: Mutex::default(),
            denied: Denied::default(),
        }
    }

    /// Gives the refusal, and forgets it.
    pub(super) fn refused(&self) -> Option<String> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl ClientContext for Deliveries {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.words.log(level, facility, message);
        self.denied.hear(facility, message);
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let Err((error, message)) = result else { return };
        match error.rdkafka_error_code() {
            Some(code) if super::super::is_refusal(code) => {
                let refusal = format!("{} refuses a record: {error}", message.topic());
                *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = Some(refusal);
            }
            Some(RDKafkaErrorCode::TopicAuthorizationFailed) => self.denied.note(message.topic()),
            _ => {}
        }
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
            self.producer.begin_transaction().map_err(|error| self.fault(error))?;
            state.open = true;
        }
        Ok(())
    }

    pub(super) fn commit<C: ConsumerContext>(&self, consumer: &BaseConsumer<C>) -> Result<(), Fault> {
        let began = Instant::now();
        let (list, trails) = self.places()?;
        if list.count() == 0 {
            // The partition may go, and come back further on.
            self.state().consumed.clear();
            return Ok(());
        }
        self.begin()?;
        // rust-rdkafka's own flush inside commit polls in steps of 100 ms.
        self.wait(None)?;
        // The generation may change without a callback, so the metadata is asked for anew.
        let metadata = consumer
            .group_metadata()
            .ok_or_else(|| Fault::Abort("the consumer is in no group at the moment".to_owned()))?;
        let fault = |error| self.fault(error);
        again(fault, || {
            self.producer.send_offsets_to_transaction(&list, &metadata, ANSWER_WAIT)
        })?;
        again(fault, || self.producer.commit_transaction(ANSWER_WAIT))?;
        self.remember(trails);
        let mut state = self.state();
        state.open = false;
        state.one_by_one = None;
        state.consumed.clear();
        let jobs = std::mem::take(&mut state.jobs);
        state.happened.jobs += jobs;
        state.happened.commits.push(began.elapsed());
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
        if self.state().open {
            // An abort waits for all delivery reports, which only we can take off the queue.
            self.producer.purge(PurgeConfig::default().queue().inflight());
            self.drain();
            again(
                |error| self.fault(error),
                || self.producer.abort_transaction(ANSWER_WAIT),
            )?;
        }
        // The refused writes went with it.
        drop(self.producer.client().context().refused());
        self.producer.client().context().denied.forget();
        let mut state = self.state();
        state.one_by_one = None;
        state.happened.aborts += u64::from(state.open);
        state.open = false;
        state.jobs = 0;
        let consumed = std::mem::take(&mut state.consumed);
        Ok(consumed.into_iter().map(|(place, of)| (place, of.first)).collect())
    }

    /// Waits until the brokers have answered for all that was written. `write` is the one that was written last.
    pub(super) fn wait(&self, write: Option<Write>) -> Result<(), Fault> {
        self.drain();
        let refused = self.producer.client().context().refused();
        refused.map_or(Ok(()), |message| Err(Fault::Refused { message, write }))
    }

    /// What an error means. What Kafka refused before this may have caused it, which is known once nothing is on its way
    /// any more; and the client alone knows what was fatal to it.
    pub(super) fn cause(&self, error: KafkaError) -> Fault {
        let fatal = super::super::fatal(self.producer.client(), &self.reads);
        match fatal.unwrap_or_else(|| self.fault(error)) {
            Fault::Abort(message) => {
                self.producer.purge(PurgeConfig::default().queue().inflight());
                self.wait(None).err().unwrap_or(Fault::Abort(message))
            }
            fault => fault,
        }
    }

    fn fault(&self, error: KafkaError) -> Fault {
        // What librdkafka says of it may still wait to be heard.
        self.producer.poll(Duration::ZERO);
        let denied = &self.producer.client().context().denied;
        denied.fault([&self.writes, &self.reads], error)
    }

    fn drain(&self) {
        while self.producer.in_flight_count() > 0 {
            self.producer.poll(Duration::from_micros(200));
        }
    }
}

/// A call that timed out has to be taken up again with the same call; it is given up when the
/// broker has surely ended the transaction itself.
pub(in crate::kafka) fn again(
    fault: impl Fn(KafkaError) -> Fault,
    mut call: impl FnMut() -> Result<(), KafkaError>,
) -> Result<(), Fault> {
    let began = Instant::now();
    loop {
        match call().map_err(&fault) {
            Err(Fault::Retriable(message)) if began.elapsed() > 6 * TRANSACTION_TIMEOUT => {
                return Err(Fault::Fatal { message, fenced: false });
            }
            Err(Fault::Retriable(message)) => tracing::warn!(message, "the transaction waits for the broker"),
            done => return done,
        }
    }
}
