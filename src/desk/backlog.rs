//! The waiting jobs, from Kafka alone: the jobs from the senders' committed offsets on, less those that an outcome
//! settles. No running process is asked.
//!
//! A [`Backlog`] holds the offsets that outcomes settle, the jobs that wait for a retry, and a few numbers for each
//! lane and rule. A caller that asks often keeps a [`Snapshot`], which is read anew now and then.

use std::collections::{BTreeMap, HashMap};

use super::Error;
use super::newer::{Newer, is_newer};
use super::scan::Scanner;
use crate::action::Limits;
use crate::config::Config;
use crate::dates::Rate;
use crate::delivery::limit::Micros;
use crate::delivery::recall::{Frozen, Recalled, credential_of, tag};
use crate::delivery::{DeliveryJob, Outcome, credential_in};
use crate::kafka::place;
use crate::kafka::reader::{Isolation, Record};
use crate::kafka::scan::{Run, Topic};

mod fresh;

pub(super) use fresh::Fresh;
pub use fresh::Snapshot;

/// The waiting jobs at one moment. Times are in epoch milliseconds.
#[derive(Debug, Default)]
pub struct Backlog {
    /// By lane.
    pub(super) lanes: BTreeMap<String, Waiting>,
    /// How many jobs of each rule wait.
    rules: HashMap<String, u64>,
    /// The fold of each partition's outcomes.
    partitions: BTreeMap<i32, Recalled>,
    /// When the last request of a lane, and of a credential, started.
    started: HashMap<String, i64>,
    /// By credential, how many jobs of a newer version wait. A sender of this version sends nothing of it meanwhile.
    held: HashMap<String, u64>,
    /// Outcomes and jobs that can't be read.
    pub newer: Newer,
}

/// The waiting jobs of one lane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Waiting {
    pub(super) credential: String,
    pub(super) count: u64,
    /// When its first job was written, and when that may be tried again if it failed.
    pub(super) oldest_at: i64,
    pub(super) first_again: Option<i64>,
    pub(super) limit: Limit,
}

/// The limits of a lane, and of all of its credential together, by the configuration.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limit {
    pub lane: Option<Rate>,
    pub credential: Option<Rate>,
    pub in_flight: Option<usize>,
}

impl Limit {
    fn of(job: &DeliveryJob, limits: &Limits) -> Self {
        let pacing = job.action.pacing(limits, &job.credential, &job.destination);
        Self {
            lane: pacing.lane_rate,
            credential: pacing.credential_rate,
            in_flight: pacing.in_flight_max,
        }
    }
}

impl Backlog {
    /// Reads what waits now.
    pub fn read(scanner: Scanner<'_>, now: i64) -> Result<Self, Error> {
        Self::read_at(scanner, &Places::of(scanner.config)?, now)
    }

    /// Reads what waited when the places were asked for.
    pub fn read_at(scanner: Scanner<'_>, places: &Places, now: i64) -> Result<Self, Error> {
        let (limits, topics) = (scanner.config.limits(), &scanner.config.topics);
        let mut backlog = Self::default();
        for run in &places.jobs {
            let recalled = Recalled {
                committed: run.from,
                ..Recalled::default()
            };
            backlog.partitions.insert(run.partition, recalled);
        }
        // The processor writes outcomes in transactions; an open one would hide what senders wrote since.
        for record in scanner.runs(&topics.outcomes, &places.outcomes, Isolation::Uncommitted)? {
            let record = record?;
            if let Some(outcome) = super::deliveries::outcome(&record, &mut backlog.newer) {
                backlog.outcome(record.partition, outcome, now);
            }
        }
        for record in scanner.runs(&topics.jobs, &places.jobs, Isolation::Committed)? {
            let record = record?;
            let read = DeliveryJob::decode(record.value.as_deref().unwrap_or_default());
            if read.as_ref().is_err_and(|why| is_newer(&record, *why)) {
                backlog.hold(&record);
            }
            // Any other record that is no job becomes a dead letter, and waits for nothing.
            if let Some(job) = backlog.newer.pass(&record, read) {
                backlog.job(&record, &job, Limit::of(&job, &limits));
            }
        }
        Ok(backlog)
    }

    /// How many jobs of a rule wait.
    pub fn of_rule(&self, rule: &str) -> u64 {
        self.rules.get(rule).copied().unwrap_or_default()
    }

    /// Takes in an outcome of a partition, in the order they were written in.
    pub(super) fn outcome(&mut self, partition: i32, outcome: Outcome, now: i64) {
        // The processor settles matches that never were jobs.
        if let Some(started_at) = outcome.started_at.filter(|_| outcome.job_offset.is_some()) {
            // A start that is to come was written by a clock that has been put back since.
            let started_at = started_at.min(now);
            for id in [&outcome.lane, credential_of(&outcome.lane)] {
                match self.started.get_mut(id) {
                    Some(last) => *last = (*last).max(started_at),
                    None => drop(self.started.insert(id.to_owned(), started_at)),
                }
            }
        }
        let recalled = self.partitions.entry(partition).or_default();
        recalled.take(outcome, now.saturating_mul(1000));
        // The parts that only a sender has to know aren't kept.
        recalled.sent.clear();
        recalled.threads.clear();
        recalled.started.clear();
    }

    /// Takes in a job, and says whether it waits. Jobs of a lane come in the order they were written in.
    pub(super) fn job(&mut self, record: &Record, job: &DeliveryJob, limit: Limit) -> bool {
        let recalled = self.partitions.get(&record.partition);
        let job_tag = tag(&job.job_id);
        if recalled.is_some_and(|recalled| !recalled.waits(record.offset, job_tag)) {
            return false;
        }
        *self.rules.entry(job.rule_id.clone()).or_default() += 1;
        let lane = self.lanes.entry(job.lane()).or_insert_with(|| Waiting {
            credential: job.credential.clone(),
            count: 0,
            oldest_at: record.timestamp,
            first_again: recalled
                .and_then(|recalled| recalled.again(record.offset, job_tag))
                .map(in_millis),
            limit,
        });
        lane.count += 1;
        true
    }

    /// Takes in a job of a newer version: its headers and its key say what it is, but for its channel.
    pub(super) fn hold(&mut self, record: &Record) {
        let credential = credential_in(record.key.as_deref().unwrap_or_default());
        let (Some(ours), Some(credential)) = (record.ours(), credential) else {
            return;
        };
        let job = DeliveryJob::of_headers(&ours.event_id, &ours.rule_id, &ours.job_id, credential);
        if self.job(record, &job, Limit::default()) {
            *self.held.entry(job.credential).or_default() += 1;
        }
    }

    /// How many jobs of a newer version hold a credential.
    pub(super) fn held(&self, credential: &str) -> u64 {
        self.held.get(credential).copied().unwrap_or_default()
    }

    /// When the last request of a lane or credential started.
    pub(super) fn started(&self, id: &str) -> Option<i64> {
        self.started.get(id).copied()
    }

    /// Credentials that were refused, each with the provider's words.
    pub fn refused(&self) -> impl Iterator<Item = (&str, &str)> {
        let frozen = self.partitions.values().flat_map(|recalled| &recalled.frozen);
        let refused = frozen.filter(|(_, frozen)| frozen.refused);
        refused.map(|(credential, frozen)| (credential.as_str(), frozen.why.as_str()))
    }

    /// What freezes a lane or credential, by the outcomes of each partition: it may have moved from one to another.
    pub(super) fn frozen(&self, id: &str) -> impl Iterator<Item = &Frozen> {
        self.partitions
            .values()
            .filter_map(move |recalled| recalled.frozen.get(id))
    }
}

pub(super) fn in_millis(at: Micros) -> i64 {
    at.div_euclid(1000)
}

/// Which jobs and outcomes there are to look at, at one moment.
#[derive(Debug)]
pub struct Places {
    /// From the lowest unsettled job of each partition on.
    pub(super) jobs: Vec<Run>,
    /// The outcomes that may be about those.
    outcomes: Vec<Run>,
}

impl Places {
    pub fn of(config: &Config) -> Result<Self, Error> {
        let topic = &config.topics.jobs;
        let asked = Topic::open(config, topic).map_err(Error::Unavailable)?;
        let outcomes = Topic::open(config, &config.topics.outcomes).map_err(Error::Unavailable)?;
        let committed = asked.committed().map_err(Error::Unavailable)?;
        let outcomes = outcomes.all().map_err(Error::Unavailable)?;
        let places = place::Places::new(config).map_err(|error| Error::Unavailable(error.to_string()))?;
        let unavailable = |error| {
            let why = places.why(topic, &error);
            Error::Unavailable(format!("topic {topic} can't be read: {why}"))
        };
        let mut all = Self {
            jobs: Vec::new(),
            outcomes: Vec::new(),
        };
        for (jobs, committed) in asked.all().map_err(Error::Unavailable)?.into_iter().zip(committed) {
            let next = committed.offset.unwrap_or(jobs.from);
            let checked = places.check(topic, jobs.partition, next, &committed.trail);
            // In a topic that was made anew everything waits that no outcome settles, as for the sender.
            let anew = checked.map_err(unavailable)?;
            let next = anew.map_or(next, |anew| anew.from.min(next));
            let of_partition = outcomes.iter().find(|run| run.partition == jobs.partition);
            let outcomes = *of_partition.ok_or_else(|| {
                Error::Unavailable("the outcomes have fewer partitions than the jobs; see topics check".to_owned())
            })?;
            all.jobs.push(Run {
                from: next.clamp(jobs.from, jobs.until),
                ..jobs
            });
            all.outcomes.push(Run {
                // A place behind the end is one of a topic that was made anew.
                from: committed
                    .outcomes_from
                    .filter(|from| *from <= outcomes.until && anew.is_none())
                    .unwrap_or(outcomes.from)
                    .max(outcomes.from),
                ..outcomes
            });
        }
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::OutcomeResult;
    use crate::delivery::tests::job;

    #[test]
    fn jobs_wait_until_an_outcome_of_their_own_settles_them() {
        let mut backlog = Backlog::default();
        let mut settled = job().outcome(OutcomeResult::Sent, 50);
        (settled.job_partition, settled.job_offset, settled.started_at) = (Some(0), Some(6), Some(40));
        let mut failed = job().outcome(OutcomeResult::Retry, 60);
        (failed.job_partition, failed.job_offset, failed.attempt) = (Some(0), Some(5), 1);
        (failed.started_at, failed.next_at) = (Some(55), Some(90));
        let mut own = job().outcome(OutcomeResult::Skipped, 50);
        own.started_at = Some(59);
        for outcome in [settled, failed, own] {
            backlog.outcome(0, outcome, 70);
        }
        for (partition, offset) in [(0, 5), (0, 6), (0, 7), (1, 6)] {
            let record = Record {
                partition,
                offset,
                timestamp: 10 + offset,
                ..Record::default()
            };
            backlog.job(&record, &job(), Limit::default());
        }
        let other = DeliveryJob {
            job_id: "another".into(),
            rule_id: "r-2".into(),
            ..job()
        };
        let at_settled = Record {
            offset: 6,
            ..Record::default()
        };
        backlog.job(&at_settled, &other, Limit::default());
        let wanted = Waiting {
            credential: "slack:sales-bot".into(),
            count: 4,
            oldest_at: 15,
            first_again: Some(90),
            limit: Limit::default(),
        };
        assert_eq!(backlog.lanes["slack:sales-bot/C0123SALES"], wanted);
        assert_eq!((backlog.of_rule("r-1"), backlog.of_rule("r-2")), (3, 1));
        for id in ["slack:sales-bot/C0123SALES", "slack:sales-bot"] {
            assert_eq!(backlog.started(id), Some(55), "the processor starts no requests");
        }
    }
}
