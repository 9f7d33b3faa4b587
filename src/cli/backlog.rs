//! What waits, from Kafka alone: jobs from the senders' committed offsets on, less those that an
//! outcome settles. No running process is asked.
//!
//! Held in memory are the offsets that outcomes settle, the jobs that wait for a retry, and a few numbers
//! for each lane that an outcome names.

use std::collections::HashMap;

use super::CliError;
use super::look::Look;
use crate::config::Config;
use crate::delivery::recall::{credential_of, tag};
use crate::delivery::{DeliveryJob, Outcome, OutcomeResult};
use crate::kafka::place;
use crate::kafka::reader::{Isolation, Record};
use crate::kafka::scan::{Run, Topic};

/// Which jobs and outcomes there were to look at, at one moment.
#[derive(Debug)]
pub(super) struct Places {
    /// By partition, from the lowest unsettled job on, and the outcomes that may be about those.
    partitions: Vec<(Run, Run)>,
}

impl Places {
    pub(super) fn of(config: &Config) -> Result<Self, String> {
        let jobs = Topic::open(config, &config.topics.jobs)?;
        let outcomes = Topic::open(config, &config.topics.outcomes)?;
        let committed = jobs.committed()?;
        let outcomes = outcomes.all()?;
        let mut partitions = Vec::new();
        let topic = &config.topics.jobs;
        let places = place::Places::new(config).map_err(|error| error.to_string())?;
        for (jobs, committed) in jobs.all()?.into_iter().zip(committed) {
            let next = committed.offset.unwrap_or(jobs.from);
            let checked = places.check(topic, jobs.partition, next, &committed.trail);
            // In a topic that was made anew everything waits that no outcome settles, as for the sender.
            let anew = checked.map_err(|error| format!("topic {topic} can't be read: {error}"))?;
            let next = anew.map_or(next, |anew| anew.from.min(next));
            let of_partition = outcomes.iter().find(|run| run.partition == jobs.partition);
            let outcomes = *of_partition.ok_or("the outcomes have fewer partitions than the jobs; see topics check")?;
            partitions.push((
                Run {
                    from: next.clamp(jobs.from, jobs.until),
                    ..jobs
                },
                Run {
                    // A place behind the end is one of a topic that was made anew.
                    from: committed
                        .outcomes_from
                        .filter(|from| *from <= outcomes.until && anew.is_none())
                        .unwrap_or(outcomes.from)
                        .max(outcomes.from),
                    ..outcomes
                },
            ));
        }
        Ok(Self { partitions })
    }

    /// From the lowest unsettled job of each partition to the end.
    pub(super) fn jobs(&self) -> Vec<Run> {
        self.partitions.iter().map(|(jobs, _)| *jobs).collect()
    }

    fn outcomes(&self) -> Vec<Run> {
        self.partitions.iter().map(|(_, outcomes)| *outcomes).collect()
    }
}

/// What the outcomes say about the jobs that may still wait.
#[derive(Debug, Default)]
pub(super) struct Told {
    partitions: HashMap<i32, OfPartition>,
    /// By lane, and by credential.
    pub(super) lanes: HashMap<String, Scope>,
    pub(super) credentials: HashMap<String, Scope>,
}

#[derive(Debug, Default)]
struct OfPartition {
    /// By offset, the job that a final outcome is about: in a topic that was made anew another may stand there.
    settled: HashMap<i64, u32>,
    /// By offset, a job and when it may be tried again.
    again: HashMap<i64, (u32, i64)>,
}

/// A lane or a credential, as its last outcomes leave it. Times are in epoch milliseconds.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Scope {
    /// When its last request started.
    pub(super) started_at: Option<i64>,
    pub(super) frozen: Option<Frozen>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Frozen {
    pub(super) until: i64,
    pub(super) why: String,
    /// The credential is refused: it is probed then, and later again. No topic tells of the probes.
    pub(super) probed: bool,
}

impl Told {
    /// Takes in an outcome of a partition, in the order they were written in. `from` is the
    /// partition's lowest unsettled job.
    fn take(&mut self, partition: i32, from: i64, outcome: Outcome) {
        // The processor settles matches that never were jobs.
        let Some(offset) = outcome.job_offset else { return };
        if offset >= from {
            let of = self.partitions.entry(partition).or_default();
            let job = tag(&outcome.job_id);
            if outcome.result.is_final() {
                of.settled.insert(offset, job);
                of.again.remove(&offset);
            } else if let Some(next_at) = outcome.next_at {
                of.again.insert(offset, (job, next_at));
            }
        }
        let credential = credential_of(&outcome.lane).to_owned();
        for scope in [
            self.lanes.entry(outcome.lane.clone()).or_default(),
            self.credentials.entry(credential.clone()).or_default(),
        ] {
            scope.started_at = scope.started_at.max(outcome.started_at);
            // What got through says that nothing is frozen any more, and whatever was answered to
            // the message itself, that its credential is taken.
            let through = matches!(outcome.result, OutcomeResult::Sent | OutcomeResult::Digested);
            let taken = outcome.result.is_final() && outcome.started_at.is_some();
            scope.frozen.take_if(|frozen| through || (taken && frozen.probed));
        }
        let scope = match (outcome.result, outcome.scope.as_deref()) {
            (_, Some("credential")) => self.credentials.get_mut(&credential),
            (_, Some(_)) | (OutcomeResult::Throttled, None) => self.lanes.get_mut(&outcome.lane),
            _ => None,
        };
        if let (Some(scope), Some(until)) = (scope, outcome.next_at) {
            let words = outcome.words.as_deref().filter(|words| !words.is_empty());
            let probed = outcome.result == OutcomeResult::Retry;
            let result = if probed {
                "credential refused"
            } else {
                outcome.result.as_str()
            };
            scope.frozen = Some(Frozen {
                until,
                why: words.map_or(result.to_owned(), |words| format!("{result}: {words}")),
                probed,
            });
        }
    }

    /// Whether the job at this place waits.
    fn waits(&self, partition: i32, offset: i64, job_id: &str) -> bool {
        let of = self.partitions.get(&partition);
        of.is_none_or(|of| of.settled.get(&offset) != Some(&tag(job_id)))
    }

    /// When a job that failed may be tried again.
    pub(super) fn again(&self, partition: i32, offset: i64, job_id: &str) -> Option<i64> {
        let (job, next_at) = self.partitions.get(&partition)?.again.get(&offset)?;
        (*job == tag(job_id)).then_some(*next_at)
    }
}

/// Calls `each` for every job that waits at `places`, and gives what the outcomes told.
pub(super) fn waiting(
    look: Look<'_>,
    places: &Places,
    mut each: impl FnMut(&Told, &DeliveryJob, &Record),
) -> Result<Told, CliError> {
    let from: HashMap<i32, i64> = places.jobs().iter().map(|run| (run.partition, run.from)).collect();
    let mut told = Told::default();
    let topics = &look.config.topics;
    // The processor writes outcomes in transactions; an open one would hide what senders wrote since.
    look.through(&topics.outcomes, &places.outcomes(), Isolation::Uncommitted, |record| {
        if let Some(outcome) = record.value.as_deref().and_then(|value| Outcome::decode(value).ok()) {
            told.take(record.partition, from[&record.partition], outcome);
        }
        Ok(true)
    })?;
    look.through(&topics.jobs, &places.jobs(), Isolation::Committed, |record| {
        // A record that is no job becomes a dead letter, and waits for nothing.
        let job = record
            .value
            .as_deref()
            .and_then(|value| DeliveryJob::decode(value).ok());
        if let Some(job) = job.filter(|job| told.waits(record.partition, record.offset, &job.job_id)) {
            each(&told, &job, &record);
        }
        Ok(true)
    })?;
    Ok(told)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(crate) fn outcome(lane: &str, offset: i64, result: OutcomeResult, next_at: Option<i64>) -> Outcome {
        Outcome {
            job_id: format!("j-{offset}"),
            event_id: "e".into(),
            rule_id: "r".into(),
            rule_version: 3,
            lead_id: "l".into(),
            lane: lane.into(),
            attempt: 1,
            result,
            reason: None,
            status: None,
            words: None,
            message_id: None,
            started_at: Some(offset),
            ended_at: offset,
            next_at,
            job_partition: Some(0),
            job_offset: Some(offset),
            scope: None,
            thread_ts: None,
        }
    }

    #[test]
    fn a_job_waits_until_a_final_outcome() {
        use OutcomeResult::{Dead, Retry, Sent, Throttled};
        let mut told = Told::default();
        for (offset, result) in [(5, Retry), (6, Sent), (7, Retry), (7, Dead), (8, Throttled), (2, Sent)] {
            told.take(0, 5, outcome("a/C", offset, result, Some(90)));
        }
        let waits = |offset: i64| told.waits(0, offset, &format!("j-{offset}"));
        let waits: Vec<i64> = (5..11).filter(|offset| waits(*offset)).collect();
        assert_eq!(waits, [5, 8, 9, 10]);
        let again = [(5, "j-5"), (5, "j-x"), (7, "j-7"), (9, "j-9")];
        assert_eq!(
            again.map(|(offset, id)| told.again(0, offset, id)),
            [Some(90), None, None, None]
        );
        assert!(told.waits(1, 6, "j-6"), "another partition's outcomes say nothing");
        assert!(told.waits(0, 6, "j-x"), "nor do those of another job at the place");
        // The processor's own have no job.
        let mut own = outcome("a/C", 9, Sent, None);
        own.job_offset = None;
        told.take(0, 5, own);
        assert!(told.waits(0, 9, "j-9"));
    }

    #[test]
    fn a_scope_is_frozen_as_its_outcomes_say_and_free_again_once_one_got_through() {
        use OutcomeResult::{Dead, Retry, Sent, Throttled};
        let mut told = Told::default();
        let mut refused = outcome("slack:a/C1", 1, Retry, Some(500));
        (refused.scope, refused.words) = (Some("credential".into()), Some("invalid_auth".into()));
        told.take(0, 0, refused);
        let mut throttled = outcome("slack:b/C1", 2, Throttled, Some(600));
        throttled.scope = Some("lane".into());
        told.take(0, 0, throttled);
        told.take(0, 0, outcome("slack:c/C1", 3, Retry, Some(700)));
        let until =
            |scopes: &HashMap<String, Scope>, name: &str| scopes[name].frozen.as_ref().map(|frozen| frozen.until);
        assert_eq!(until(&told.credentials, "slack:a"), Some(500));
        assert_eq!(
            told.credentials["slack:a"].frozen.as_ref().unwrap().why,
            "credential refused: invalid_auth"
        );
        assert_eq!(until(&told.lanes, "slack:a/C1"), None, "the scope is the credential");
        assert_eq!(until(&told.lanes, "slack:b/C1"), Some(600));
        assert_eq!(told.lanes["slack:b/C1"].frozen.as_ref().unwrap().why, "throttled");
        assert_eq!(until(&told.lanes, "slack:c/C1"), None, "nothing but the job waits");
        // Another channel of the credential got through.
        told.take(0, 0, outcome("slack:a/C2", 4, Sent, None));
        assert_eq!(until(&told.credentials, "slack:a"), None);
        assert_eq!(until(&told.lanes, "slack:b/C1"), Some(600));
        assert_eq!(told.credentials["slack:a"].started_at, Some(4));
        // A message that is refused itself was taken from a credential that works.
        let mut refused = outcome("slack:a/C1", 5, Retry, Some(900));
        refused.scope = Some("credential".into());
        told.take(0, 0, refused);
        let mut old = outcome("slack:a/C2", 6, Dead, None);
        old.started_at = None;
        told.take(0, 0, old);
        assert_eq!(until(&told.credentials, "slack:a"), Some(900), "nobody tried");
        told.take(0, 0, outcome("slack:a/C2", 7, Dead, None));
        assert_eq!(until(&told.credentials, "slack:a"), None);
    }
}
