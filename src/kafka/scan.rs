//! Looks through a topic without a group: chosen offsets, and every record of them, up to the end that the topic had
//! when the scan began.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::{Offset, TopicPartitionList};

use super::jobs::Committed;
use super::reader::{Isolation, Next, Reader, Record};
use super::rights::{Right, Rights};
use super::words::Words;
use super::{ANSWER_WAIT, Context, topics};
use crate::config::Config;

/// The clocks of those that write to topics, and of who reads them, may differ by so much, in milliseconds.
pub const CLOCKS_DIFFER: i64 = 10 * 60 * 1000;

/// Neighbouring records of one partition: `from` is the first, `until` is behind the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    pub partition: i32,
    pub from: i64,
    pub until: i64,
}

/// A topic that is asked about its offsets.
pub struct Topic {
    name: String,
    partitions: i32,
    rights: Rights,
    consumer: BaseConsumer<Context>,
}

impl Topic {
    /// The error says in one message what is wrong: no broker, a refused log-in, no such topic.
    pub fn open(config: &Config, name: &str) -> Result<Self, String> {
        Self::find(config, name)?.ok_or_else(|| topics::missing(config, name))
    }

    /// The same; `None` where there is no such topic.
    pub fn find(config: &Config, name: &str) -> Result<Option<Self>, String> {
        let Some(partitions) = topics::find(config, name)? else {
            return Ok(None);
        };
        let group = format!("{}-sender", config.kafka.group);
        let mut client = super::consumer(&config.kafka, &group, 1024);
        // Ends are then the partitions' own, whatever transactions are open.
        client.set("isolation.level", "read_uncommitted");
        let consumer = Words::of(&config.kafka)
            .create(&client, Context::of(&config.kafka))
            .map_err(|error| error.to_string())?;
        Ok(Some(Self {
            name: name.to_owned(),
            partitions,
            rights: Rights::of(&config.kafka, [Right::describe_group(&group), Right::describe(name)]),
            consumer,
        }))
    }

    /// Everything that is there now.
    pub fn all(&self) -> Result<Vec<Run>, String> {
        (0..self.partitions).map(|partition| self.run(partition)).collect()
    }

    /// The records of a period, in epoch milliseconds. A little more may be given at its end,
    /// because clocks differ, so that each record's own time has the last word.
    pub fn between(&self, since: Option<i64>, until: Option<i64>) -> Result<Vec<Run>, String> {
        let mut runs = self.all()?;
        if let Some(since) = since {
            let first = self.at(since)?;
            for run in &mut runs {
                run.from = first.get(&run.partition).copied().unwrap_or(run.until).max(run.from);
            }
        }
        if let Some(until) = until {
            let behind = self.at(until.saturating_add(CLOCKS_DIFFER))?;
            for run in &mut runs {
                run.until = behind.get(&run.partition).copied().unwrap_or(run.until).min(run.until);
            }
        }
        Ok(runs)
    }

    /// The last records, at most about `most` and none older than `since`, epoch milliseconds. With them the time since
    /// which all are among them; none where nothing of the topic is left out.
    pub fn last(&self, most: i64, since: i64, now: i64) -> Result<(Vec<Run>, Option<i64>), String> {
        let all = self.all()?;
        let (runs, from) = last(most, since, now, |since| self.between(Some(since), None))?;
        let begins = |runs: &[Run]| runs.iter().map(|run| run.from).collect::<Vec<_>>();
        Ok(match begins(&runs) == begins(&all) {
            true => (runs, None),
            false => (runs, Some(from)),
        })
    }

    /// The senders' committed offsets of each partition.
    pub fn committed(&self) -> Result<Vec<Committed>, String> {
        let ask = |list| super::committed(&self.consumer, list);
        Committed::read(&self.name, 0..self.partitions, ask).map_err(|error| self.silent(&error))
    }

    fn run(&self, partition: i32) -> Result<Run, String> {
        let (from, until) = self
            .consumer
            .fetch_watermarks(&self.name, partition, ANSWER_WAIT)
            .map_err(|error| self.silent(&error))?;
        Ok(Run { partition, from, until })
    }

    /// By partition, the first offset at or after a time; none where all is older.
    fn at(&self, time: i64) -> Result<BTreeMap<i32, i64>, String> {
        let mut list = TopicPartitionList::new();
        for partition in 0..self.partitions {
            list.add_partition_offset(&self.name, partition, Offset::Offset(time.max(0)))
                .map_err(|error| self.silent(&error))?;
        }
        let found = self
            .consumer
            .offsets_for_times(list, ANSWER_WAIT)
            .map_err(|error| self.silent(&error))?;
        let elements = found.elements();
        let offsets = elements.iter().filter_map(|element| match element.offset() {
            Offset::Offset(offset) => Some((element.partition(), offset)),
            _ => None,
        });
        Ok(offsets.collect())
    }

    fn silent(&self, error: &KafkaError) -> String {
        let why = self.rights.why(error);
        format!("topic {} can't be asked for its offsets: {why}", self.name)
    }
}

/// How many offsets there are in all.
fn length(runs: &[Run]) -> i64 {
    runs.iter().map(|run| (run.until - run.from).max(0)).sum()
}

/// The runs of `since` that hold at most `most` records, and the time they begin at. `between` gives the runs from a time
/// on.
fn last(
    most: i64,
    since: i64,
    now: i64,
    between: impl Fn(i64) -> Result<Vec<Run>, String>,
) -> Result<(Vec<Run>, i64), String> {
    let (mut early, mut late, mut runs) = (since, now, between(since)?);
    if length(&runs) <= most {
        return Ok((runs, since));
    }
    while late - early > 1000 {
        let middle = early + (late - early) / 2;
        let found = between(middle)?;
        match length(&found) {
            count if count > most => (early, runs) = (middle, found),
            count if count >= most / 2 => return Ok((found, middle)),
            _ => late = middle,
        }
    }
    // A second holds more than there is room for.
    let total = i128::from(length(&runs).max(1));
    for run in &mut runs {
        let share = i128::from(run.until - run.from) * i128::from(most) / total;
        run.from = run.until - i64::try_from(share).unwrap_or(most);
    }
    Ok((runs, late))
}

/// Every record of some runs: in order within a partition, partitions mixed.
pub struct Scan {
    reader: Option<Reader>,
    topic: String,
    /// By partition, where its run ends; a run that was read to there is out.
    left: BTreeMap<i32, i64>,
    silent: Duration,
}

impl Scan {
    pub fn begin(config: &Config, topic: &str, runs: &[Run], isolation: Isolation) -> Result<Self, String> {
        let runs = runs.iter().filter(|run| run.from < run.until);
        let places: Vec<(i32, Option<i64>)> = runs.clone().map(|run| (run.partition, Some(run.from))).collect();
        let reader = (!places.is_empty()).then(|| Reader::assign(config, topic, &places, isolation));
        Ok(Self {
            reader: reader.transpose().map_err(|error| error.to_string())?,
            topic: topic.to_owned(),
            left: runs.map(|run| (run.partition, run.until)).collect(),
            silent: Duration::ZERO,
        })
    }
}

impl Iterator for Scan {
    type Item = Result<Record, String>;

    fn next(&mut self) -> Option<Self::Item> {
        let wait = Duration::from_millis(100);
        let reader = self.reader.as_ref()?;
        while !self.left.is_empty() {
            match reader.next(wait) {
                Next::Record(record) => {
                    self.silent = Duration::ZERO;
                    let Some(until) = self.left.get(&record.partition).copied() else {
                        continue;
                    };
                    if record.offset + 1 >= until {
                        self.left.remove(&record.partition);
                    }
                    if record.offset < until {
                        return Some(Ok(record));
                    }
                }
                // Markers of transactions are no records, and those still open hide what is behind them.
                Next::End(partition) => drop(self.left.remove(&partition)),
                Next::Nothing => self.silent += wait,
                Next::Denied(why) => {
                    self.left.clear();
                    return Some(Err(why));
                }
            }
            if self.silent > 2 * ANSWER_WAIT {
                self.left.clear();
                return Some(Err(format!(
                    "topic {} can't be read to its end: the broker is silent",
                    self.topic
                )));
            }
        }
        None
    }
}

impl std::fmt::Debug for Topic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Topic")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Scan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scan")
            .field("topic", &self.topic)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_last_records_are_those_behind_one_time(
            times in prop::collection::vec(prop::collection::vec(0i64..100_000, 0..60), 1..4),
            most in 1i64..80, since in 0i64..50_000,
        ) {
            let times: Vec<Vec<i64>> = times.into_iter().map(|mut times| { times.sort_unstable(); times }).collect();
            let between = |since: i64| -> Result<Vec<Run>, String> {
                Ok(times.iter().enumerate().map(|(partition, times)| Run {
                    partition: partition as i32,
                    from: times.partition_point(|time| *time < since) as i64,
                    until: times.len() as i64,
                }).collect())
            };
            let (runs, from) = last(most, since, 100_000, between).unwrap();
            prop_assert!(length(&runs) <= most);
            // Nothing from then on is left out, but for a second that holds too much.
            let all = between(from).unwrap();
            prop_assert!(runs.iter().zip(&all).all(|(run, all)| run.from <= all.from));
            prop_assert!(from >= since);
            if length(&between(since).unwrap()) <= most {
                prop_assert_eq!(from, since);
            } else {
                let a_second_ago = length(&between(from - 1001).unwrap());
                prop_assert!(length(&runs) >= most / 2 || a_second_ago > most);
            }
        }
    }
}
