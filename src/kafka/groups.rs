//! Consumer groups: how far each is behind.

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::{Offset, TopicPartitionList};

use super::rights::{Right, Rights};
use super::words::Words;
use super::{ANSWER_WAIT, Context, topics};
use crate::config::{Config, Start};

/// How many records of a topic a group has still to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lag {
    pub group: String,
    pub topic: String,
    /// By partition. None where the group has committed nothing.
    pub partitions: Vec<Option<i64>>,
    /// What it will begin with: the records of the partitions of which it has committed nothing.
    pub uncommitted: i64,
}

impl Lag {
    /// Asks how far a group is behind on a topic. The error says what is wrong.
    pub fn of(config: &Config, group: &str, topic: &str) -> Result<Self, String> {
        let partitions = topics::partitions(config, topic)?;
        let client = super::consumer(&config.kafka, group, 1024);
        let consumer: BaseConsumer<Context> = Words::of(&config.kafka)
            .create(&client, Context::of(&config.kafka))
            .map_err(|error| error.to_string())?;
        let rights = Rights::of(&config.kafka, [Right::describe_group(group), Right::describe(topic)]);
        let silent = |error: KafkaError| {
            let why = rights.why(&error);
            format!("group {group} can't be asked for its offsets of {topic}: {why}")
        };
        let mut asked = TopicPartitionList::new();
        for partition in 0..partitions {
            asked.add_partition(topic, partition);
        }
        let committed = super::committed(&consumer, asked).map_err(silent)?;
        let skips = group == config.kafka.group && config.processor.start == Start::Latest;
        let mut uncommitted = 0;
        let mut of = |partition| -> Result<Option<i64>, String> {
            let (from, until) = consumer
                .fetch_watermarks(topic, partition, ANSWER_WAIT)
                .map_err(silent)?;
            let found = committed.find_partition(topic, partition);
            Ok(match found.map(|found| found.offset()) {
                Some(Offset::Offset(offset)) => Some((until - offset).max(0)),
                _ => {
                    uncommitted += if skips { 0 } else { until - from };
                    None
                }
            })
        };
        let partitions = (0..partitions).map(&mut of).collect::<Result<_, _>>()?;
        Ok(Self {
            group: group.to_owned(),
            topic: topic.to_owned(),
            partitions,
            uncommitted,
        })
    }

    /// Of all partitions together.
    pub fn total(&self) -> i64 {
        self.partitions.iter().flatten().sum::<i64>() + self.uncommitted
    }
}
