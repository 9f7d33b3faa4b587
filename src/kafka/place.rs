//! Checks whether a remembered place still means what it meant, by reading the records of its trail again.
//!
//! Kafka itself can't tell. An offset beyond the end shows a new topic only until that topic has grown past the
//! offset; leader epochs begin at 0 again with each topic; and topic ids, which the client doesn't give, stay the same
//! when a broker comes back without its last seconds. The records themselves show all of it.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{Message, Offset, TopicPartitionList};

use super::rights::{Right, Rights};
use super::{ANSWER_WAIT, Context};
use crate::config::{self, Config};
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
    kafka: config::Kafka,
    context: Context,
    client: ClientConfig,
    consumer: Mutex<Arc<Client>>,
    /// The client reads one trail at a time.
    reading: Mutex<()>,
    /// Topics that lose records to compaction, or may: a missing record means nothing there.
    compacted: BTreeSet<String>,
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
            // The answer that is under way at a partition's end holds the next question up for so long.
            .set("fetch.wait.max.ms", "10")
            // The records that were read are there, whatever transactions are open now.
            .set("isolation.level", "read_uncommitted");
        let context = Context::of(&config.kafka);
        let consumer = Arc::new(context.words.create(&client, context.clone())?);
        Ok(Self {
            kafka: config.kafka.clone(),
            context,
            client,
            consumer: Mutex::new(consumer),
            reading: Mutex::default(),
            compacted: compacted(config),
        })
    }

    /// Looks whether everything below `next` is still what `trail` says; `None` where it is. What retention or
    /// compaction has taken means nothing.
    pub fn check(&self, topic: &str, partition: i32, next: i64, trail: &Trail) -> Result<Option<Anew>, KafkaError> {
        let _alone = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        let client = self.client();
        let log = Partition {
            client: &client,
            topic,
            number: partition,
        };
        let checked = check(&log, !self.compacted.contains(topic), next, trail);
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

    /// Whether the partition's broker answers at all within `wait`.
    pub fn answers(&self, topic: &str, partition: i32, wait: Duration) -> Result<(), KafkaError> {
        self.client().fetch_watermarks(topic, partition, wait).map(drop)
    }

    /// What an error about a topic says.
    pub fn why(&self, topic: &str, error: &KafkaError) -> String {
        Rights::of(&self.kafka, [Right::read(topic)]).why(error)
    }

    fn client(&self) -> Arc<Client> {
        Arc::clone(&self.consumer.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The rules' topic, and those of others, whose settings we may not ask for.
fn compacted(config: &Config) -> BTreeSet<String> {
    let foreign = config.foreign_topics().into_keys().map(str::to_owned);
    foreign.chain([config.topics.rules.clone()]).collect()
}

/// A partition as far as trails are concerned.
trait Log {
    /// The first offset that is there, and the one that the next record will have.
    fn ends(&self) -> Result<(i64, i64), KafkaError>;

    /// The first record at `offset` or behind; `None` where there is none.
    fn first(&self, offset: i64) -> Result<Option<Crumb>, KafkaError>;
}

struct Partition<'p> {
    client: &'p Client,
    topic: &'p str,
    number: i32,
}

impl Log for Partition<'_> {
    fn ends(&self) -> Result<(i64, i64), KafkaError> {
        ends(self.client, self.topic, self.number)
    }

    fn first(&self, offset: i64) -> Result<Option<Crumb>, KafkaError> {
        let mut list = TopicPartitionList::with_capacity(1);
        list.add_partition_offset(self.topic, self.number, Offset::Offset(offset))?;
        self.client.assign(&list)?;
        let found = first(self.client, self.number);
        self.client.unassign()?;
        found
    }
}

/// What stands where a record was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stands {
    TheSame,
    Another,
    /// No record; but there are some behind, or there were.
    Nothing,
}

/// Checks all crumbs, oldest first: newer ones may be of a topic that was made anew and had grown past the old place
/// before anybody saw it. `gaps_count` holds where nothing but retention takes records away, so that a gap is a loss.
fn check(log: &impl Log, gaps_count: bool, next: i64, trail: &Trail) -> Result<Option<Anew>, KafkaError> {
    let (mut low, end) = log.ends()?;
    let mut behind = None;
    for crumb in trail.crumbs() {
        if crumb.offset < low {
            continue;
        }
        let stands = stands(log, *crumb, end)?;
        if stands == Stands::TheSame {
            behind = Some(crumb.offset + 1);
        } else if stands == Stands::Another || gaps_count {
            low = log.ends()?.0;
            let taken_by_retention = crumb.offset < low;
            if !taken_by_retention {
                let from = behind.unwrap_or(low).max(low);
                return Ok(Some(Anew { from, low, end }));
            }
        }
    }
    Ok((next > end).then_some(Anew {
        // With a trail that holds nothing but the end is gone; without one nothing is known.
        from: if behind.is_some() { end } else { low },
        low,
        end,
    }))
}

/// What stands at a record's place. `end` is the partition's.
fn stands(log: &impl Log, crumb: Crumb, end: i64) -> Result<Stands, KafkaError> {
    if crumb.offset >= end {
        return Ok(Stands::Another);
    }
    Ok(match log.first(crumb.offset)? {
        Some(found) if found == crumb => Stands::TheSame,
        // One before it is the topic's first: the place is out of range by now.
        Some(found) if found.offset <= crumb.offset => Stands::Another,
        _ => Stands::Nothing,
    })
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
            Some(Err(error)) if error.rdkafka_error_code() == Some(RDKafkaErrorCode::TopicAuthorizationFailed) => {
                return Err(error);
            }
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// Records by offset, and the end.
    #[derive(Debug, Clone)]
    struct Records(BTreeMap<i64, u32>, i64);

    impl Log for Records {
        fn ends(&self) -> Result<(i64, i64), KafkaError> {
            Ok((0, self.1))
        }

        fn first(&self, offset: i64) -> Result<Option<Crumb>, KafkaError> {
            let found = self.0.range(offset..).next();
            Ok(found.map(|(offset, sum)| Crumb {
                offset: *offset,
                sum: *sum,
            }))
        }
    }

    /// Records with one sum, all of them there, and the trail of who has read them.
    fn written(count: i64, sum: u32) -> (Records, Trail) {
        let mut trail = Trail::default();
        (0..count).for_each(|offset| trail.take(Crumb { offset, sum }));
        (Records((0..count).map(|offset| (offset, sum)).collect(), count), trail)
    }

    fn from(records: &Records, gaps_count: bool, trail: &Trail) -> Option<i64> {
        let next = trail.newest().map_or(0, |newest| newest.offset + 1);
        check(records, gaps_count, next, trail).unwrap().map(|anew| anew.from)
    }

    #[test]
    fn a_record_that_compaction_took_tells_nothing_and_another_one_or_the_end_does() {
        let (mut records, trail) = written(100, 7);
        assert_eq!(from(&records, false, &trail), None);
        records.0.remove(&99);
        assert_eq!(from(&records, true, &trail), Some(99), "nothing else takes it there");
        assert_eq!(from(&records, false, &trail), None, "compaction does, at the end too");
        records.0.clear();
        assert_eq!(from(&records, false, &trail), None);
        let (other, _) = written(100, 8);
        assert_eq!(from(&other, false, &trail), Some(0));
        let (shorter, _) = written(90, 7);
        assert!(from(&shorter, false, &trail).is_some_and(|from| (1..=90).contains(&from)));
    }

    #[test]
    fn records_of_another_topic_behind_the_old_place_do_not_speak_for_those_before() {
        let (_, mut trail) = written(10, 7);
        let (anew, _) = written(40, 8);
        (10..40).for_each(|offset| trail.take(Crumb { offset, sum: 8 }));
        for gaps_count in [true, false] {
            assert_eq!(from(&anew, gaps_count, &trail), Some(0));
        }
    }

    proptest! {
        #[test]
        fn whatever_compaction_takes_nothing_is_read_again(count in 1i64..500, taken in prop::collection::btree_set(0i64..500, 0..500), more in 0i64..50) {
            let (mut records, trail) = written(count, 7);
            records.0.retain(|offset, _| !taken.contains(offset));
            records.0.extend((count..count + more).map(|offset| (offset, 7)));
            records.1 += more;
            prop_assert_eq!(from(&records, false, &trail), None);
        }

        #[test]
        fn of_a_lost_end_everything_new_is_read(count in 1i64..500, left in 0i64..500, more in 0i64..600) {
            let (_, trail) = written(count, 7);
            let left = left.min(count - 1);
            let (mut records, _) = written(left, 7);
            records.0.extend((left..left + more).map(|offset| (offset, 8)));
            records.1 += more;
            for gaps_count in [true, false] {
                prop_assert!(from(&records, gaps_count, &trail).is_some_and(|from| from <= left));
            }
        }
    }
}
