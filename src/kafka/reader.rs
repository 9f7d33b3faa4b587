//! Reads a topic without a group: from a place to the topic's end, and on from there.

use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Headers};
use rdkafka::{Message, Offset, TopicPartitionList};

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
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    Committed,
    /// Also what open and aborted transactions wrote.
    Uncommitted,
}

pub struct Reader {
    consumer: BaseConsumer<Context>,
}

impl Reader {
    /// Reads `partitions` of `topic` from the offsets given; `None` is the beginning.
    pub fn assign(
        config: &Config,
        topic: &str,
        partitions: &[(i32, Option<i64>)],
        isolation: Isolation,
    ) -> Result<Self, KafkaError> {
        let mut client = super::consumer(&config.kafka, "leadlane-reader", 4096);
        client
            .set("auto.offset.reset", "earliest")
            .set("enable.partition.eof", "true");
        if isolation == Isolation::Uncommitted {
            client.set("isolation.level", "read_uncommitted");
        }
        let consumer: BaseConsumer<Context> = Words::of(&config.kafka).create(&client, Context::of(&config.kafka))?;
        let mut list = TopicPartitionList::with_capacity(partitions.len());
        for (partition, offset) in partitions {
            list.add_partition_offset(topic, *partition, offset.map_or(Offset::Beginning, Offset::Offset))?;
        }
        // Without a connection yet, librdkafka looks at what is assigned only once a second.
        drop(consumer.fetch_metadata(Some(topic), ANSWER_WAIT));
        consumer.assign(&list)?;
        Ok(Self { consumer })
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
        match self.consumer.poll(timeout) {
            None => Next::Nothing,
            Some(Ok(message)) => Next::Record(Record::of(&message)),
            Some(Err(KafkaError::PartitionEOF(partition))) => Next::End(partition),
            Some(Err(error)) => {
                tracing::debug!(%error, "no record");
                Next::Nothing
            }
        }
    }

    /// The partition's end: the offset that the next record will have.
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

    /// What the headers say of a job or an outcome of ours.
    pub fn ours(&self) -> Option<Ours> {
        Ours::of(|name| self.header(name))
    }
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader").finish_non_exhaustive()
    }
}
