//! The sender's side of the jobs topic: a group member on a thread of its own.
//!
//! Rebalances run inside its poll. The thread announces a partition that goes away, waits for the place that the sender's
//! loop hands over, commits it, and only then lets the partition go. Whatever waits for Kafka waits on this thread, so
//! that the loop doesn't.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, Rebalance};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::topic_partition_list::TopicPartitionListElem;
use rdkafka::{Message, Offset, TopicPartitionList};

use super::rights::{Right, Rights, Said};
use super::words::Words;
use super::{ANSWER_WAIT, Ours};
use crate::clock::steady_micros;
use crate::config::Config;
use crate::trail::Trail;

/// What comes from the jobs topic.
#[derive(Debug)]
pub enum Event {
    Assigned(Vec<i32>),
    /// The partitions go away once their places are handed over. Lost ones are gone already.
    Revoked {
        partitions: Vec<i32>,
        lost: bool,
        places: mpsc::Sender<Places>,
    },
    Job(RawJob),
    /// The consumer can't go on.
    Fatal(String),
    /// The group is left.
    Left,
}

/// A record of the jobs topic.
#[derive(Debug, Clone)]
pub struct RawJob {
    pub partition: i32,
    pub offset: i64,
    /// When it was written, epoch milliseconds.
    pub timestamp: i64,
    pub key: Vec<u8>,
    pub value: Vec<u8>,
    pub traceparent: Option<String>,
    /// What its headers say of its job.
    pub ours: Option<Ours>,
    /// A person asked for it again.
    pub replayed: bool,
    /// A person tries a rule.
    pub is_test: bool,
    /// What [`Jobs::begin`] was called with last.
    pub ownership: u64,
}

/// What a predecessor left with a partition: where it is, from where its outcomes are to be read, and what it
/// read last.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Committed {
    pub offset: Option<i64>,
    pub outcomes_from: Option<i64>,
    pub trail: Trail,
}

impl Committed {
    /// What a group has committed of partitions of `topic`, in their order, as `ask` says.
    pub(super) fn read(
        topic: &str,
        partitions: Range<i32>,
        ask: impl FnOnce(TopicPartitionList) -> Result<TopicPartitionList, KafkaError>,
    ) -> Result<Vec<Self>, KafkaError> {
        let mut list = TopicPartitionList::new();
        for partition in partitions.clone() {
            list.add_partition(topic, partition);
        }
        let list = ask(list)?;
        let of = |partition| {
            let element = list.find_partition(topic, partition);
            element.map(|element| Self::of(&element)).unwrap_or_default()
        };
        Ok(partitions.map(of).collect())
    }

    fn of(element: &TopicPartitionListElem<'_>) -> Self {
        let (outcomes_from, trail) = match element.metadata().split_once(' ') {
            Some((from, trail)) => (from, Trail::parse(trail)),
            None => (element.metadata(), Trail::default()),
        };
        Self {
            offset: match element.offset() {
                Offset::Offset(offset) => Some(offset),
                _ => None,
            },
            outcomes_from: outcomes_from.parse().ok(),
            trail,
        }
    }
}

/// What to commit of a partition: the lowest unsettled offset, and what a successor has to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    pub offset: i64,
    pub outcomes_from: i64,
    pub trail: String,
}

/// By partition.
pub type Places = BTreeMap<i32, Place>;

/// What the loop asks of the thread.
#[derive(Debug, Clone, Copy)]
enum Order {
    /// Read a partition from there on.
    Begin {
        partition: i32,
        ownership: u64,
        from: i64,
    },
    Pause(i32),
}

pub struct Jobs {
    consumer: Arc<BaseConsumer<JobsContext>>,
    topic: String,
    orders: mpsc::Sender<Order>,
    stop: Arc<AtomicBool>,
    /// By the steady clock, in microseconds.
    polled_at: Arc<AtomicI64>,
    thread: Option<std::thread::JoinHandle<()>>,
}

struct JobsContext {
    words: Words,
    rights: Rights,
    topic: String,
    events: tokio::sync::mpsc::Sender<Event>,
    revoke_wait: Duration,
}

impl Jobs {
    /// Joins `<group>-sender`; what comes goes to `events`.
    pub fn join(config: &Config, events: tokio::sync::mpsc::Sender<Event>) -> Result<Self, KafkaError> {
        let topic = config.topics.jobs.clone();
        let group = format!("{}-sender", config.kafka.group);
        let words = Words::of(&config.kafka);
        let context = JobsContext {
            words: words.clone(),
            rights: Rights::of(&config.kafka, [Right::read(&topic), Right::read_group(&group)]),
            topic: topic.clone(),
            events: events.clone(),
            revoke_wait: config.sender.shutdown_timeout,
        };
        let mut client = super::consumer(&config.kafka, &group, 8192);
        client
            .set("auto.offset.reset", "earliest")
            // A topic that is made anew is found this soon; the default is five minutes.
            .set("topic.metadata.refresh.interval.ms", "10000");
        let consumer: Arc<BaseConsumer<JobsContext>> = Arc::new(words.create(&client, context)?);
        consumer.subscribe(&[&topic])?;
        let (orders, wanted) = mpsc::channel();
        let stop = Arc::new(AtomicBool::new(false));
        let polled_at = Arc::new(AtomicI64::new(steady_micros()));
        let mut poller = Poller {
            consumer: Arc::clone(&consumer),
            topic: topic.clone(),
            events,
            wanted,
            begins: Vec::new(),
            ownerships: BTreeMap::new(),
            said: Said::default(),
            stop: Arc::clone(&stop),
            polled_at: Arc::clone(&polled_at),
            pulse: Pulse::new(super::session_timeout(&config.kafka) / 2, steady_micros()),
        };
        let thread = std::thread::Builder::new()
            .name("jobs".to_owned())
            .spawn(move || poller.read())
            .map_err(|error| KafkaError::ClientCreation(error.to_string()))?;
        Ok(Self {
            consumer,
            topic,
            orders,
            stop,
            polled_at,
            thread: Some(thread),
        })
    }

    /// When the group was last polled, in microseconds of the steady clock.
    pub fn polled_at(&self) -> i64 {
        self.polled_at.load(Ordering::Relaxed)
    }

    /// Reads a partition from `from` on; one that was just assigned waits for this. Its records carry
    /// `ownership` from then on, which tells them from those of before.
    pub fn begin(&self, partition: i32, ownership: u64, from: i64) {
        let begin = Order::Begin {
            partition,
            ownership,
            from,
        };
        let _ends_with_us = self.orders.send(begin);
    }

    /// Reads nothing of a partition until it is begun again.
    pub fn pause(&self, partition: i32) {
        let _ends_with_us = self.orders.send(Order::Pause(partition));
    }

    /// Where a predecessor left `partition`, to be asked on a thread that may wait.
    pub fn committed(&self, partition: i32) -> impl FnOnce() -> Result<Committed, KafkaError> + Send + use<> {
        let (consumer, topic) = (Arc::clone(&self.consumer), self.topic.clone());
        move || {
            let ask = |list| consumer.committed_offsets(list, ANSWER_WAIT);
            let committed = Committed::read(&topic, partition..partition + 1, ask)?;
            Ok(committed.into_iter().next().unwrap_or_default())
        }
    }

    /// Commits the places of partitions, without waiting for Kafka.
    pub fn commit(&self, places: &Places) -> Result<(), KafkaError> {
        commit(&self.consumer, &self.topic, places, CommitMode::Async)
    }

    /// Leaves the group. Partitions are announced as revoked on the way.
    pub fn leave(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Ends the thread and the client. Both wait for Kafka.
    pub fn end(mut self) {
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

fn commit<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    topic: &str,
    places: &Places,
    mode: CommitMode,
) -> Result<(), KafkaError> {
    if places.is_empty() {
        return Ok(());
    }
    let mut list = TopicPartitionList::with_capacity(places.len());
    for (partition, place) in places {
        let mut element = list.add_partition(topic, *partition);
        element.set_offset(Offset::Offset(place.offset))?;
        element.set_metadata(format!("{} {}", place.outcomes_from, place.trail).trim_end());
    }
    consumer.commit(&list, mode)
}

fn of(topic: &str, partition: i32) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    list.add_partition(topic, partition);
    list
}

/// Whether a poll says that we are still a member. The first after a standstill (a SIGSTOP, a sleeping machine)
/// may return before librdkafka has noticed that the session is over, which it looks for once a second.
struct Pulse {
    silence_max: i64,
    last: i64,
    unsure_until: i64,
}

/// By then librdkafka has noticed, and has announced what is lost.
const NOTICED_AFTER: i64 = 2_000_000;

impl Pulse {
    fn new(silence_max: Duration, now: i64) -> Self {
        Self {
            silence_max: i64::try_from(silence_max.as_micros()).unwrap_or(i64::MAX),
            last: now,
            unsure_until: now,
        }
    }

    /// A poll ended at `now`, in microseconds of the steady clock. Whether it counts.
    fn beat(&mut self, now: i64) -> bool {
        if now - self.last > self.silence_max {
            self.unsure_until = now + NOTICED_AFTER;
        }
        self.last = now;
        now >= self.unsure_until
    }
}

/// What the thread owns.
struct Poller {
    consumer: Arc<BaseConsumer<JobsContext>>,
    topic: String,
    events: tokio::sync::mpsc::Sender<Event>,
    wanted: mpsc::Receiver<Order>,
    /// Partitions that could not be begun yet, and under which ownership from where.
    begins: Vec<(i32, u64, i64)>,
    ownerships: BTreeMap<i32, u64>,
    said: Said,
    stop: Arc<AtomicBool>,
    polled_at: Arc<AtomicI64>,
    pulse: Pulse,
}

impl Poller {
    fn read(&mut self) {
        let mut leaving = false;
        loop {
            if self.stop.load(Ordering::Relaxed) && !leaving {
                leaving = true;
                self.consumer.unsubscribe();
            }
            self.obey();
            let polled = self.consumer.poll(Duration::from_millis(50));
            let now = steady_micros();
            if self.pulse.beat(now) {
                self.polled_at.store(now, Ordering::Relaxed);
            }
            let event = match polled {
                None if leaving && self.consumer.assignment().is_ok_and(|list| list.count() == 0) => {
                    drop(self.events.blocking_send(Event::Left));
                    return;
                }
                None => continue,
                Some(Ok(message)) => Event::Job(RawJob {
                    partition: message.partition(),
                    offset: message.offset(),
                    timestamp: message.timestamp().to_millis().unwrap_or_default(),
                    key: message.key().unwrap_or_default().to_vec(),
                    value: message.payload().unwrap_or_default().to_vec(),
                    traceparent: super::header(message.headers(), "traceparent").map(str::to_owned),
                    ours: Ours::of(|name| super::header(message.headers(), name)),
                    replayed: super::header(message.headers(), "replay-of").is_some(),
                    is_test: super::header(message.headers(), super::TEST).is_some(),
                    ownership: self.ownerships.get(&message.partition()).copied().unwrap_or_default(),
                }),
                Some(Err(error)) if error.rdkafka_error_code() == Some(RDKafkaErrorCode::Fatal) => {
                    Event::Fatal(error.to_string())
                }
                Some(Err(error)) => {
                    match self.consumer.context().rights.denied(&error) {
                        Some(denied) if self.said.is_news(&denied, Instant::now()) => {
                            tracing::error!("no job can be read: {denied}");
                        }
                        _ => tracing::debug!(%error, "no job"),
                    }
                    continue;
                }
            };
            if self.events.blocking_send(event).is_err() {
                return;
            }
        }
    }

    /// Pauses partitions, and goes to where others are to be read from. One that isn't fetched yet takes a moment.
    fn obey(&mut self) {
        for order in self.wanted.try_iter() {
            match order {
                Order::Begin {
                    partition,
                    ownership,
                    from,
                } => self.begins.push((partition, ownership, from)),
                Order::Pause(partition) => {
                    if let Err(error) = self.consumer.pause(&of(&self.topic, partition)) {
                        tracing::debug!(%error, kafka.partition = partition, "a partition can't be paused; its records are left aside");
                    }
                }
            }
        }
        if self.begins.is_empty() {
            return;
        }
        let Ok(assigned) = self.consumer.assignment() else {
            return;
        };
        let begins = std::mem::take(&mut self.begins);
        for begin in begins {
            let (partition, ..) = begin;
            if assigned.find_partition(&self.topic, partition).is_none() {
                continue;
            }
            if let Err(error) = self.go_to(begin) {
                tracing::debug!(%error, kafka.partition = partition, "a partition can't be begun yet");
                self.begins.push(begin);
            }
        }
    }

    fn go_to(&mut self, (partition, ownership, from): (i32, u64, i64)) -> Result<(), KafkaError> {
        self.consumer
            .seek(&self.topic, partition, Offset::Offset(from), Duration::from_secs(1))?;
        self.ownerships.insert(partition, ownership);
        self.consumer.resume(&of(&self.topic, partition))
    }
}

impl ClientContext for JobsContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.words.log(level, facility, message);
    }
}

impl ConsumerContext for JobsContext {
    fn pre_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        let Rebalance::Revoke(list) = rebalance else { return };
        let (places, handed_over) = mpsc::channel();
        let event = Event::Revoked {
            partitions: numbers(list),
            lost: consumer.assignment_lost(),
            places,
        };
        if self.events.blocking_send(event).is_err() {
            return;
        }
        match handed_over.recv_timeout(self.revoke_wait + Duration::from_secs(1)) {
            Ok(places) => {
                if let Err(error) = commit(consumer, &self.topic, &places, CommitMode::Sync) {
                    tracing::warn!(%error, "offsets of partitions that go were not committed");
                }
            }
            // Without an answer in time the partitions go all the same: the group won't wait.
            Err(_) => tracing::warn!("partitions were let go before all of their requests had ended"),
        }
    }

    fn post_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        if let Rebalance::Assign(list) = rebalance {
            // Nothing is read before the predecessor's outcomes are.
            if let Err(error) = consumer.pause(list) {
                tracing::warn!(%error, "new partitions could not be paused; their jobs wait in memory");
            }
            drop(self.events.blocking_send(Event::Assigned(numbers(list))));
        }
    }

    fn commit_callback(&self, result: Result<(), KafkaError>, _: &TopicPartitionList) {
        if let Err(error) = result {
            tracing::debug!(%error, "offsets were not committed; the next commit carries them");
        }
    }
}

fn numbers(list: &TopicPartitionList) -> Vec<i32> {
    list.elements().iter().map(|element| element.partition()).collect()
}

impl std::fmt::Debug for Jobs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Jobs")
            .field("topic", &self.topic)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn polls_right_after_a_standstill_do_not_count() {
        let mut pulse = Pulse::new(Duration::from_secs(5), 0);
        let at = |millis: i64| millis * 1000;
        assert!(pulse.beat(at(50)) && pulse.beat(at(5_050)));
        assert!(!pulse.beat(at(19_000)) && !pulse.beat(at(19_050)) && !pulse.beat(at(20_999)));
        assert!(pulse.beat(at(21_000)) && pulse.beat(at(21_050)));
    }
}
