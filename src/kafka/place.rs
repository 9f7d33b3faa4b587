//! Whether a remembered place is still what it was: the records of its trail are read again.
//!
//! Kafka's own signs don't do. An offset beyond the end tells only until a topic that was made anew has grown
//! past it; leader epochs begin at 0 again with each topic; and topic ids, which the client doesn't give,
//! stay the same when a broker comes back without its last seconds. The records themselves tell all of it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{Message, Offset, TopicPartitionList};

use super::{ANSWER_WAIT, Context};
use crate::config::Config;
use crate::trail::{self, Crumb, Trail};

/// A place whose records aren't there any more: the topic was made anew, or has lost its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Anew {
    /// Where reading goes on: behind the last record that is still what it was.
    pub from: i64,
    /// The first offset that is there.
    pub low: i64,
    /// The topic's end.
    pub end: i64,
}

/// Reads the records of trails again, without a group.
///
/// A client that knew a topic may not find its successor: it takes the new leader epochs, which begin at 0 again, for
/// outdated ones. So one that came to nothing is replaced.
pub struct Places {
    context: Context,
    client: ClientConfig,
    consumer: Mutex<Arc<Client>>,
}

type Client = BaseConsumer<Context>;

/// How long a record may take.
const RECORD_WAIT: Duration = Duration::from_secs(3);

impl Places {
    pub fn new(config: &Config) -> Result<Self, KafkaError> {
        let mut client = super::consumer(&config.kafka, "leadlane-reader", 1024);
        client
            .set("auto.offset.reset", "earliest")
            .set("enable.partition.eof", "true")
            // One record is wanted of each answer.
            .set("fetch.message.max.bytes", "65536")
            // What was read is there, whatever transactions are open now.
            .set("isolation.level", "read_uncommitted");
        let context = Context::of(&config.kafka);
        let consumer = Arc::new(context.words.create(&client, context.clone())?);
        Ok(Self {
            context,
            client,
            consumer: Mutex::new(consumer),
        })
    }

    /// Looks whether everything below `next` is still what `trail` says; `None` where it is. What retention
    /// has taken tells nothing.
    pub fn check(&self, topic: &str, partition: i32, next: i64, trail: &Trail) -> Result<Option<Anew>, KafkaError> {
        let client = self.client();
        let checked = check(&client, topic, partition, next, trail);
        if checked.is_err() {
            let renewed = self.context.words.create(&self.client, self.context.clone())?;
            *self.consumer.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(renewed);
        }
        checked
    }

    /// The first offset that is there, and the one that the next record will have.
    pub fn ends(&self, topic: &str, partition: i32) -> Result<(i64, i64), KafkaError> {
        ends(&self.client(), topic, partition)
    }

    fn client(&self) -> Arc<Client> {
        Arc::clone(&self.consumer.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn check(client: &Client, topic: &str, partition: i32, next: i64, trail: &Trail) -> Result<Option<Anew>, KafkaError> {
    let (mut low, end) = ends(client, topic, partition)?;
    let mut from = None;
    for crumb in trail.crumbs() {
        if crumb.offset < low {
            continue;
        }
        if !holds(client, topic, partition, *crumb, end)? {
            low = ends(client, topic, partition)?.0;
            if crumb.offset >= low {
                let from = from.unwrap_or(low).max(low);
                return Ok(Some(Anew { from, low, end }));
            }
        }
        from = Some(crumb.offset + 1);
    }
    Ok((next > end).then_some(Anew {
        // With a trail that holds nothing but the end is gone; without one nothing is known.
        from: if from.is_some() { end } else { low },
        low,
        end,
    }))
}

/// Whether a record is still there. `end` is the partition's.
fn holds(client: &Client, topic: &str, partition: i32, crumb: Crumb, end: i64) -> Result<bool, KafkaError> {
    if crumb.offset >= end {
        return Ok(false);
    }
    let mut list = TopicPartitionList::with_capacity(1);
    list.add_partition_offset(topic, partition, Offset::Offset(crumb.offset))?;
    client.assign(&list)?;
    let found = first(client, partition);
    client.unassign()?;
    Ok(found? == Some(crumb))
}

/// The first record of what is assigned; `None` at the partition's end.
fn first(client: &Client, partition: i32) -> Result<Option<Crumb>, KafkaError> {
    let wait = Duration::from_millis(100);
    let mut silent = Duration::ZERO;
    loop {
        match client.poll(wait) {
            Some(Ok(message)) if message.partition() == partition => {
                let timestamp = message.timestamp().to_millis().unwrap_or_default();
                return Ok(Some(Crumb {
                    offset: message.offset(),
                    sum: trail::sum(timestamp, message.key(), message.payload()),
                }));
            }
            Some(Err(KafkaError::PartitionEOF(_))) => return Ok(None),
            Some(Ok(_)) => {}
            Some(Err(error)) if silent >= RECORD_WAIT => return Err(error),
            None if silent >= RECORD_WAIT => {
                return Err(KafkaError::MessageConsumption(RDKafkaErrorCode::OperationTimedOut));
            }
            None | Some(Err(_)) => silent += wait,
        }
    }
}

fn ends(client: &Client, topic: &str, partition: i32) -> Result<(i64, i64), KafkaError> {
    client.fetch_watermarks(topic, partition, ANSWER_WAIT)
}

impl std::fmt::Debug for Places {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Places").finish_non_exhaustive()
    }
}
