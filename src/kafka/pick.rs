//! Picks single records by their places, in milliseconds and whatever lies between.

use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{Offset, TopicPartitionList};

use super::reader::{Isolation, Next, Record, consumer, polled};
use super::rights::{Right, Rights};
use super::{ANSWER_WAIT, Context, topics};
use crate::config::Config;

/// Records that lie so close are read through rather than jumped to.
const NEAR: i64 = 200;
/// How long a record may take.
const RECORD_WAIT: Duration = Duration::from_secs(3);

/// Reads records of one topic by place.
pub struct Picker {
    topic: String,
    rights: Rights,
    consumer: BaseConsumer<Context>,
}

/// Where a picker reads.
#[derive(Debug, Clone, Copy)]
struct Stand {
    partition: i32,
    /// Where the reading began.
    began: i64,
    /// The offset that comes next at the least.
    next: i64,
}

impl Picker {
    /// The error says in one message what is wrong: no broker, a refused log-in, no such topic.
    pub fn open(config: &Config, topic: &str) -> Result<Self, String> {
        topics::partitions(config, topic)?;
        let own = [
            // The answer that is under way at a partition's end holds the next question up for so long.
            ("fetch.wait.max.ms", "10"),
            ("fetch.message.max.bytes", "262144"),
        ];
        // The records were committed when their places were read, whatever transactions are open now.
        let consumer = consumer(config, Isolation::Uncommitted, &own).map_err(|error| error.to_string())?;
        // Without a connection yet, librdkafka looks at what is assigned only once a second.
        drop(consumer.fetch_metadata(Some(topic), ANSWER_WAIT));
        Ok(Self {
            topic: topic.to_owned(),
            rights: Rights::of(&config.kafka, [Right::read(topic)]),
            consumer,
        })
    }

    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// Hands the records at these places, (partition, offset), to `take`, each with the number of its place. One that
    /// isn't there any more is left out. After an error only a new picker reads.
    pub fn pick(&mut self, places: &[(i32, i64)], mut take: impl FnMut(usize, Record)) -> Result<(), String> {
        let mut order: Vec<usize> = (0..places.len()).collect();
        order.sort_unstable_by_key(|number| places[*number]);
        let mut stand = None;
        for number in order {
            let (partition, offset) = places[number];
            let found = self.read(partition, offset, &mut stand);
            let found =
                found.map_err(|error| format!("topic {} can't be read: {}", self.topic, self.rights.why(&error)))?;
            found.into_iter().for_each(|record| take(number, record));
        }
        let ended = self.consumer.unassign();
        ended.map_err(|error| format!("topic {} can't be left: {error}", self.topic))
    }

    fn read(&self, partition: i32, offset: i64, stand: &mut Option<Stand>) -> Result<Option<Record>, KafkaError> {
        let is_near = |stand: &Stand| stand.partition == partition && (0..=NEAR).contains(&(offset - stand.next));
        let here = match stand.take().filter(is_near) {
            Some(here) => here,
            None => {
                let mut list = TopicPartitionList::with_capacity(1);
                list.add_partition_offset(&self.topic, partition, Offset::Offset(offset))?;
                self.consumer.assign(&list)?;
                Stand {
                    partition,
                    began: offset,
                    next: offset,
                }
            }
        };
        let wait = Duration::from_millis(50);
        let mut silent = Duration::ZERO;
        loop {
            match polled(self.consumer.poll(wait), &self.rights) {
                Next::Record(record) if record.partition != partition => {}
                // The place was out of range, and reading begins where the topic does.
                Next::Record(record) if record.offset < here.began => return Ok(None),
                Next::Record(record) if record.offset < offset => silent = Duration::ZERO,
                Next::Record(record) => {
                    *stand = Some(Stand {
                        next: record.offset + 1,
                        ..here
                    });
                    return Ok(Some(record).filter(|record| record.offset == offset));
                }
                Next::End(ended) if ended == partition => return Ok(None),
                Next::End(_) => {}
                Next::Nothing => silent += wait,
                Next::Denied(_) => {
                    let denied = RDKafkaErrorCode::TopicAuthorizationFailed;
                    return Err(KafkaError::MessageConsumption(denied));
                }
            }
            if silent > RECORD_WAIT {
                return Err(silence());
            }
        }
    }
}

fn silence() -> KafkaError {
    KafkaError::MessageConsumption(RDKafkaErrorCode::OperationTimedOut)
}

impl std::fmt::Debug for Picker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Picker")
            .field("topic", &self.topic)
            .finish_non_exhaustive()
    }
}
