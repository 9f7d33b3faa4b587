//! Reads a topic without a group: from a place to the topic's end, and on from there.

use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Headers};
use rdkafka::{Message, Offset, TopicPartitionList};

use super::rights::{Right, Rights};
use super::words::Words;
use super::{ANSWER_WAIT, Context, Ours};
use crate::config::Config;

/// A record as it was read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Record {
    pub partition: i32,
    pub offset: i64,
    /// When it was written, epoch milliseconds.
    pub timestamp: i64,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(String, Vec<u8>)>,
}

/// What reading came to.
#[derive(Debug)]
pub enum Next {
    Record(Record),
    /// The partition's end, for now.
    End(i32),
    /// Nothing in the time given.
    Nothing,
    /// We may not read the topic, and why. The same reader goes on once we may.
    Denied(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    Committed,
    /// Also what open and aborted transactions wrote.
    Uncommitted,
}

/// What is fetched ahead is bounded once it is unpacked, and by how much a partition gives at once, packed.
const SPARING: [(&str, &str); 2] = [
    ("queued.max.messages.kbytes", "1024"),
    ("fetch.message.max.bytes", "262144"),
];

/// A transaction of ours is open for at most half a minute, and the broker looks every ten seconds.
const SETTLED_WITHIN: Duration = Duration::from_secs(60);

pub struct Reader {
    consumer: BaseConsumer<Context>,
    rights: Rights,
}

impl Reader {
    /// Reads `partitions` of `topic` from the offsets given; `None` is the beginning.
    pub fn assign(
        config: &Config,
        topic: &str,
        partitions: &[(i32, Option<i64>)],
        isolation: Isolation,
    ) -> Result<Self, KafkaError> {
        Self::with(config, topic, partitions, isolation, &[])
    }

    /// Reads committed records the same way, and fetches little of them ahead: for a process that reads many topics, each
    /// as it grows.
    pub fn sparing(config: &Config, topic: &str, partitions: &[(i32, Option<i64>)]) -> Result<Self, KafkaError> {
        Self::with(config, topic, partitions, Isolation::Committed, &SPARING)
    }

    /// Reads a topic of one partition from an offset on, or from its beginning, committed records only, and says soon
    /// when it has come to its end: the answer that is under way at the end holds that word up.
    pub fn follow(config: &Config, topic: &str, from: Option<i64>) -> Result<Self, KafkaError> {
        let soon = ("fetch.wait.max.ms", "100");
        Self::with(config, topic, &[(0, from)], Isolation::Committed, &[soon])
    }

    fn with(
        config: &Config,
        topic: &str,
        partitions: &[(i32, Option<i64>)],
        isolation: Isolation,
        own: &[(&str, &str)],
    ) -> Result<Self, KafkaError> {
        let consumer = consumer(config, isolation, own)?;
        let mut list = TopicPartitionList::with_capacity(partitions.len());
        for (partition, offset) in partitions {
            list.add_partition_offset(topic, *partition, offset.map_or(Offset::Beginning, Offset::Offset))?;
        }
        // Without a connection yet, librdkafka looks at what is assigned only once a second.
        drop(consumer.fetch_metadata(Some(topic), ANSWER_WAIT));
        consumer.assign(&list)?;
        Ok(Self {
            consumer,
            rights: Rights::of(&config.kafka, [Right::read(topic)]),
        })
    }

    /// All partitions of `topic`, from the beginning.
    pub fn whole(config: &Config, topic: &str) -> Result<Self, String> {
        let count = super::topics::partitions(config, topic)?;
        let partitions: Vec<_> = (0..count).map(|partition| (partition, None)).collect();
        Self::assign(config, topic, &partitions, Isolation::Committed).map_err(|error| error.to_string())
    }

    /// Reads on from another place, and nowhere else.
    pub fn go_to(&self, topic: &str, partition: i32, offset: i64) -> Result<(), KafkaError> {
        let mut list = TopicPartitionList::with_capacity(1);
        list.add_partition_offset(topic, partition, Offset::Offset(offset))?;
        self.consumer.assign(&list)
    }

    /// The first offset of `partition` that was written at or after `time`, epoch milliseconds;
    /// the end where none was.
    pub fn offset_at(&self, topic: &str, partition: i32, time: i64) -> Result<Option<i64>, KafkaError> {
        let mut list = TopicPartitionList::with_capacity(1);
        list.add_partition_offset(topic, partition, Offset::Offset(time.max(0)))?;
        let found = self.consumer.offsets_for_times(list, ANSWER_WAIT)?;
        Ok(
            match found.find_partition(topic, partition).map(|element| element.offset()) {
                Some(Offset::Offset(offset)) => Some(offset),
                _ => None,
            },
        )
    }

    pub fn next(&self, timeout: Duration) -> Next {
        polled(self.consumer.poll(timeout), &self.rights)
    }

    /// How many partitions the topic has.
    pub fn partitions(&self, topic: &str) -> Result<i32, KafkaError> {
        let metadata = self.consumer.fetch_metadata(Some(topic), ANSWER_WAIT)?;
        let found = metadata.topics().iter().find(|found| found.name() == topic);
        let count = found.map_or(0, |found| found.partitions().len());
        Ok(i32::try_from(count).unwrap_or(i32::MAX))
    }

    /// The partition's end: the offset that the next record will have. Who reads committed records alone comes no
    /// further than to the first that an open transaction wrote.
    pub fn end(&self, topic: &str, partition: i32) -> Result<i64, KafkaError> {
        self.consumer
            .fetch_watermarks(topic, partition, ANSWER_WAIT)
            .map(|(_, high)| high)
    }
}

/// Reads every record of `topic` up to its present end. `each` says whether to go on.
pub fn read_whole(config: &Config, topic: &str, mut each: impl FnMut(Record) -> bool) -> Result<(), String> {
    let count = super::topics::partitions(config, topic)?;
    let reader = Reader::whole(config, topic)?;
    let mut ended = vec![false; usize::try_from(count).unwrap_or_default()];
    let mut silent = Duration::ZERO;
    let wait = Duration::from_millis(100);
    while !ended.iter().all(|ended| *ended) {
        match reader.next(wait) {
            Next::Record(record) => {
                silent = Duration::ZERO;
                if !each(record) {
                    return Ok(());
                }
            }
            Next::End(partition) => ended[usize::try_from(partition).unwrap_or_default()] = true,
            Next::Nothing => silent += wait,
            Next::Denied(why) => return Err(why),
        }
        if silent > 2 * ANSWER_WAIT {
            return Err(format!(
                "topic {topic} can't be read to its end: the broker at {} is silent",
                config.kafka.brokers
            ));
        }
    }
    Ok(())
}

/// What a look at a topic's end came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Went {
    /// What was committed since the last time is read.
    On,
    /// The topic was made anew or has lost its end. Nothing was read.
    Anew,
}

/// A topic of one partition that is read to its end again and again, committed records only, and not in between.
pub struct Tail {
    topic: String,
    brokers: String,
    rights: Rights,
    consumer: BaseConsumer<Context>,
    /// Everything before this is read.
    next: i64,
}

impl Tail {
    /// The error says in one message what is wrong: no broker, a refused log-in, no such topic.
    pub fn open(config: &Config, topic: &str) -> Result<Self, String> {
        Self::open_at(config, topic, 0)
    }

    /// One that has read everything before `next`.
    pub fn open_at(config: &Config, topic: &str, next: i64) -> Result<Self, String> {
        super::topics::partitions(config, topic)?;
        // The answer that is under way at the end holds up the word that it is the end.
        let soon = ("fetch.wait.max.ms", "10");
        let [queue, fetch] = SPARING;
        let consumer = consumer(config, Isolation::Committed, &[soon, queue, fetch]);
        let consumer = consumer.map_err(|error| error.to_string())?;
        Ok(Self {
            topic: topic.to_owned(),
            brokers: config.kafka.brokers.clone(),
            rights: Rights::of(&config.kafka, [Right::read(topic)]),
            consumer,
            next,
        })
    }

    /// Reads what was committed since the last time. After an error a new one goes on, behind the last record that was
    /// read.
    pub fn read(&mut self, mut each: impl FnMut(Record)) -> Result<Went, String> {
        let topic = &self.topic;
        let asked = self.consumer.fetch_watermarks(topic, 0, ANSWER_WAIT);
        let (_, end) =
            asked.map_err(|error| format!("topic {topic} can't be asked for its end: {}", self.rights.why(&error)))?;
        if end < self.next {
            return Ok(Went::Anew);
        }
        if end == self.next {
            return Ok(Went::On);
        }
        let unreadable = |error: KafkaError| format!("topic {topic} can't be read: {error}");
        let mut list = TopicPartitionList::with_capacity(1);
        list.add_partition_offset(topic, 0, Offset::Offset(self.next))
            .and_then(|()| self.consumer.assign(&list))
            .map_err(unreadable)?;
        let mut silent = Duration::ZERO;
        let wait = Duration::from_millis(100);
        loop {
            match polled(self.consumer.poll(wait), &self.rights) {
                Next::Record(record) => {
                    silent = Duration::ZERO;
                    each(record);
                }
                Next::End(_) => break,
                Next::Nothing => silent += wait,
                Next::Denied(why) => return Err(why),
            }
            if silent > 2 * ANSWER_WAIT {
                let brokers = &self.brokers;
                return Err(format!(
                    "topic {topic} can't be read to its end: the broker at {brokers} is silent"
                ));
            }
        }
        self.consumer.unassign().map_err(unreadable)?;
        self.next = end;
        Ok(Went::On)
    }
}

pub(super) fn consumer(
    config: &Config,
    isolation: Isolation,
    own: &[(&str, &str)],
) -> Result<BaseConsumer<Context>, KafkaError> {
    let mut client = super::consumer(&config.kafka, "leadlane-reader", 4096);
    client
        .set("auto.offset.reset", "earliest")
        .set("enable.partition.eof", "true");
    if isolation == Isolation::Uncommitted {
        client.set("isolation.level", "read_uncommitted");
    }
    for (name, value) in own {
        client.set(*name, *value);
    }
    Words::of(&config.kafka).create(&client, Context::of(&config.kafka))
}

pub(super) fn polled(polled: Option<Result<BorrowedMessage<'_>, KafkaError>>, rights: &Rights) -> Next {
    match polled {
        None => Next::Nothing,
        Some(Ok(message)) => Next::Record(Record::of(&message)),
        Some(Err(KafkaError::PartitionEOF(partition))) => Next::End(partition),
        Some(Err(error)) => match rights.denied(&error) {
            Some(why) => Next::Denied(why),
            None => {
                tracing::debug!(%error, "no record");
                Next::Nothing
            }
        },
    }
}

/// Waits until no transaction that is open now hides what is committed in `topic` already, or is about to be. The broker
/// ends those whose writer ended without a word.
pub fn settled(config: &Config, topic: &str) -> Result<(), String> {
    let rights = Rights::of(&config.kafka, [Right::read(topic)]);
    let silent = |error: KafkaError| format!("topic {topic} can't be asked for its ends: {}", rights.why(&error));
    let count = super::topics::partitions(config, topic)?;
    let asked = |isolation| consumer(config, isolation, &[]).map_err(silent);
    let ends = |asked: &BaseConsumer<Context>| -> Result<Vec<i64>, String> {
        let end = |partition| asked.fetch_watermarks(topic, partition, ANSWER_WAIT);
        (0..count)
            .map(|partition| Ok(end(partition).map_err(silent)?.1))
            .collect()
    };
    let written = ends(&asked(Isolation::Uncommitted)?)?;
    let asked = asked(Isolation::Committed)?;
    let began = Instant::now();
    loop {
        let committed = ends(&asked)?;
        if committed
            .iter()
            .zip(&written)
            .all(|(committed, written)| committed >= written)
        {
            return Ok(());
        }
        if began.elapsed() > SETTLED_WITHIN {
            return Err(format!(
                "topic {topic} can't be read to its end: a transaction stays open in it"
            ));
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

impl Record {
    fn of(message: &BorrowedMessage<'_>) -> Self {
        let headers = message.headers().map(|headers| {
            headers
                .iter()
                .map(|header| (header.key.to_owned(), header.value.unwrap_or_default().to_vec()))
                .collect()
        });
        Self {
            partition: message.partition(),
            offset: message.offset(),
            timestamp: message.timestamp().to_millis().unwrap_or_default(),
            key: message.key().map(<[u8]>::to_vec),
            value: message.payload().map(<[u8]>::to_vec),
            headers: headers.unwrap_or_default(),
        }
    }

    /// A header's text, if it is there and is what its name says.
    pub fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self.headers.iter().find(|(key, _)| key == name)?;
        super::headers::text(name, value)
    }

    /// Whether it is of a test: a person tries a rule with it.
    pub fn is_test(&self) -> bool {
        self.header(super::TEST).is_some()
    }

    /// What the headers say of a job or an outcome of ours.
    pub fn ours(&self) -> Option<Ours> {
        Ours::of(|name| self.header(name))
    }
}

impl std::fmt::Debug for Tail {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tail").field("next", &self.next).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader").finish_non_exhaustive()
    }
}
