//! Deliveries: the outcomes of matches, and the life of one job.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::Error;
use super::backlog::Places;
use super::newer::Newer;
use super::scan::{Period, Records, Scanner};
use crate::config::Config;
use crate::delivery::recall::credential_of;
use crate::delivery::{DeliveryJob, Outcome, OutcomeResult};
use crate::kafka::reader::{Isolation, Next, Reader, Record};
use crate::kafka::scan::{Run, Topic};

pub mod recent;

/// Which outcomes are asked for: all conditions must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    pub rule: Option<String>,
    pub lead: Option<String>,
    pub event: Option<String>,
    /// In this lane, or in any lane of this credential.
    pub lane: Option<String>,
    /// With one of these results; none: with any.
    pub results: Vec<OutcomeResult>,
}

impl Filter {
    pub fn holds(&self, outcome: &Outcome) -> bool {
        let is = |wanted: &Option<String>, found: &str| wanted.as_deref().is_none_or(|wanted| wanted == found);
        is(&self.rule, &outcome.rule_id)
            && is(&self.lead, &outcome.lead_id)
            && is(&self.event, &outcome.event_id)
            && (is(&self.lane, &outcome.lane) || is(&self.lane, credential_of(&outcome.lane)))
            && (self.results.is_empty() || self.results.contains(&outcome.result))
    }
}

/// An outcome of the topic; a record that is none is left aside.
pub(super) fn outcome(record: &Record, newer: &mut Newer) -> Option<Outcome> {
    newer.pass(record, Outcome::decode(record.value.as_deref()?))
}

/// A job of the topic; a record that is none is left aside.
pub(super) fn job(record: &Record, newer: &mut Newer) -> Option<DeliveryJob> {
    newer.pass(record, DeliveryJob::decode(record.value.as_deref()?))
}

/// Outcomes of a period that are asked for.
pub struct Outcomes<'s> {
    records: Records<'s>,
    filter: &'s Filter,
    /// What was passed over so far.
    pub newer: Newer,
}

impl std::fmt::Debug for Outcomes<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outcomes")
            .field("filter", &self.filter)
            .finish_non_exhaustive()
    }
}

impl Iterator for Outcomes<'_> {
    type Item = Result<Outcome, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let record = match self.records.next()? {
                Ok(record) => record,
                Err(error) => return Some(Err(error)),
            };
            let outcome = outcome(&record, &mut self.newer);
            if let Some(outcome) = outcome.filter(|outcome| self.filter.holds(outcome)) {
                return Some(Ok(outcome));
            }
        }
    }
}

/// The outcomes that were written in a period, oldest first within a partition.
pub fn list<'s>(scanner: Scanner<'s>, period: Period, filter: &'s Filter) -> Result<Outcomes<'s>, Error> {
    let records = scanner.period(&scanner.config.topics.outcomes, period)?;
    let newer = Newer::default();
    Ok(Outcomes { records, filter, newer })
}

/// When rules matched last, as far as a look at the newest records says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LastMatched {
    /// By rule, epoch milliseconds.
    pub at: HashMap<String, i64>,
    /// Since when every match was seen; none where the topics hold no others.
    pub since: Option<i64>,
}

/// So many of the newest jobs, and of the newest outcomes, are looked at.
const NEWEST: i64 = 20_000;

/// When rules matched last: by the newest jobs, and by the newest outcomes of matches that never were jobs.
pub fn last_matched(scanner: Scanner<'_>, now: i64) -> Result<LastMatched, Error> {
    let mut matched = LastMatched::default();
    let topics = &scanner.config.topics;
    for topic in [&topics.jobs, &topics.outcomes] {
        let newest = Topic::open(scanner.config, topic).and_then(|asked| asked.last(NEWEST, 0, now));
        let (runs, since) = newest.map_err(Error::Unavailable)?;
        matched.since = matched.since.max(since);
        for record in scanner.runs(topic, &runs, Isolation::Committed)? {
            matched.take(&record?, topic == &topics.jobs);
        }
    }
    Ok(matched)
}

impl LastMatched {
    fn take(&mut self, record: &Record, is_job: bool) {
        // Neither a test nor a replay is a match.
        let is_match = |record: &&Record| !record.is_test() && record.header("replay-of").is_none();
        let Some(rule) = Some(record)
            .filter(is_match)
            .and_then(|record| record.header("rule-id"))
        else {
            return;
        };
        let never_was_job = || {
            let outcome = outcome(record, &mut Newer::default());
            outcome.is_some_and(|outcome| outcome.job_offset.is_none())
        };
        if is_job || never_was_job() {
            let at = self.at.entry(rule.to_owned()).or_default();
            *at = record.timestamp.max(*at);
        }
    }
}

/// Outcomes as they come.
pub struct Coming {
    reader: Reader,
    filter: Filter,
    /// What was passed over so far.
    pub newer: Newer,
}

/// Follows the outcomes that are written from now on, or from a time on.
pub fn follow(config: &Config, filter: Filter, since: Option<i64>) -> Result<Coming, Error> {
    let topic = &config.topics.outcomes;
    let runs = Topic::open(config, topic).and_then(|asked| asked.between(since, None));
    let from = |run: &Run| (run.partition, Some(if since.is_some() { run.from } else { run.until }));
    let places: Vec<_> = runs.map_err(Error::Unavailable)?.iter().map(from).collect();
    let reader = Reader::assign(config, topic, &places, Isolation::Committed);
    Ok(Coming {
        reader: reader.map_err(|error| Error::Unavailable(error.to_string()))?,
        filter,
        newer: Newer::default(),
    })
}

impl Coming {
    /// The next outcome that is asked for, if the next record is one and comes within `wait`.
    pub fn next(&mut self, wait: Duration) -> Result<Option<Outcome>, Error> {
        match self.reader.next(wait) {
            Next::Record(record) => {
                let outcome = outcome(&record, &mut self.newer);
                Ok(outcome.filter(|outcome| self.filter.holds(outcome)))
            }
            Next::End(_) | Next::Nothing => Ok(None),
            Next::Denied(why) => Err(Error::Unavailable(why)),
        }
    }
}

impl std::fmt::Debug for Coming {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Coming")
            .field("filter", &self.filter)
            .finish_non_exhaustive()
    }
}

/// The life of one job, as far as the topics have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Life {
    pub id: String,
    /// Oldest first.
    pub outcomes: Vec<Outcome>,
    /// The job itself, as long as its topic has it, and its record.
    pub job: Option<(DeliveryJob, Record)>,
    pub stands: Stands,
    /// The request as it was sent, but for its secret. Of a digest it is made again from its jobs, as long as all of them
    /// are known.
    pub sent: Option<String>,
    /// Records of this job that aren't shown.
    pub newer: Newer,
}

impl Life {
    /// Without its job.
    fn of(id: &str, outcomes: Vec<Outcome>, stands: Stands, newer: Newer) -> Self {
        Self {
            id: id.to_owned(),
            outcomes,
            job: None,
            stands,
            sent: None,
            newer,
        }
    }

    fn with_job(self, job: Option<(DeliveryJob, Record)>) -> Self {
        let is_sent = self.stands == Stands::Is(OutcomeResult::Sent);
        let body = job.as_ref().filter(|_| is_sent).map(|(job, _)| job.body.clone());
        Self {
            job,
            sent: body,
            ..self
        }
    }
}

/// Where a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stands {
    /// It waits for its first attempt, or as the replay of one that ended.
    Waiting,
    Is(OutcomeResult),
}

impl Stands {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Is(result) => result.as_str(),
        }
    }

    /// A repeat that was left out says nothing about the job that was sent.
    fn by(outcomes: &[Outcome]) -> Option<Self> {
        let mut results = outcomes.iter().rev().map(|outcome| outcome.result);
        let last = results.clone().next();
        let own = results.find(|result| *result != OutcomeResult::Duplicate);
        own.or(last).map(Self::Is)
    }
}

/// The life of one job: itself, and every attempt.
pub fn find(scanner: Scanner<'_>, id: &str) -> Result<Life, Error> {
    let topics = &scanner.config.topics;
    let (mut outcomes, mut newer) = (Vec::new(), Newer::default());
    for record in scanner.all(&topics.outcomes)? {
        let record = record?;
        if record.key.as_deref() == Some(id.as_bytes()) {
            outcomes.extend(outcome(&record, &mut newer));
        }
    }
    // A repeated event's job has outcomes in more than one partition.
    outcomes.sort_by_key(|outcome| outcome.ended_at);
    let waiting = waiting(scanner, id, &outcomes, &mut newer)?;
    let stands = match &waiting {
        Some(_) => Some(Stands::Waiting),
        None => Stands::by(&outcomes),
    };
    let job = match waiting {
        Some(job) => Some(job),
        None => last_read(scanner, id, outcomes.last(), &mut newer)?,
    };
    let stands = stands.ok_or_else(|| {
        Error::NotFound(match newer.records {
            0 => format!(
                "there is no job {id}: no outcome of it is left in {}, and none such waits in {}",
                topics.outcomes, topics.jobs
            ),
            _ => format!("job {id} can't be shown: {newer}"),
        })
    })?;
    let mut life = Life::of(id, outcomes, stands, newer).with_job(job);
    if stands == Stands::Is(OutcomeResult::Digested) {
        life.sent = digest(scanner, &life)?;
    }
    Ok(life)
}

/// The request of the digest that a job went with, made again from all of its jobs; none where one isn't there any more.
fn digest(scanner: Scanner<'_>, life: &Life) -> Result<Option<String>, Error> {
    let Some(one) = life
        .outcomes
        .iter()
        .rfind(|outcome| outcome.result == OutcomeResult::Digested)
    else {
        return Ok(None);
    };
    let of = |outcome: &Outcome| {
        let Outcome {
            rule_id,
            lane,
            ended_at,
            result,
            ..
        } = outcome;
        (rule_id.clone(), lane.clone(), *ended_at, *result)
    };
    let mut newer = Newer::default();
    let mut places = Vec::new();
    for record in scanner.all(&scanner.config.topics.outcomes)? {
        let outcome = outcome(&record?, &mut newer).filter(|outcome| of(outcome) == of(one));
        if let Some(outcome) = outcome {
            let (Some(partition), Some(offset)) = (outcome.job_partition, outcome.job_offset) else {
                return Ok(None);
            };
            places.push((partition, offset, outcome.job_id));
        }
    }
    // Oldest first, as they went.
    places.sort_by_key(|(partition, offset, _)| (*partition, *offset));
    let mut jobs = Vec::with_capacity(places.len());
    for (partition, from, id) in &places {
        let run = Run {
            partition: *partition,
            from: *from,
            until: from.saturating_add(1),
        };
        // With one missing it would be another text.
        let Some((job, _)) = read(scanner, id, &[run], |_| true, &mut newer)? else {
            return Ok(None);
        };
        jobs.push(Arc::new(job));
    }
    Ok(DeliveryJob::digest(&jobs).map(|digest| digest.body))
}

/// The job among those that no sender has come to yet: without any outcome, or replayed since.
fn waiting(
    scanner: Scanner<'_>,
    id: &str,
    outcomes: &[Outcome],
    newer: &mut Newer,
) -> Result<Option<(DeliveryJob, Record)>, Error> {
    use OutcomeResult::{Cancelled, Dead, Expired};
    let last = outcomes.last().map(|outcome| outcome.result);
    if !matches!(last, None | Some(Cancelled | Dead | Expired)) {
        return Ok(None);
    }
    let tried = |record: &Record| {
        let at = (Some(record.partition), Some(record.offset));
        outcomes
            .iter()
            .any(|outcome| (outcome.job_partition, outcome.job_offset) == at)
    };
    let runs = Places::of(scanner.config)?.jobs;
    read(scanner, id, &runs, |record| !tried(record), newer)
}

/// The job where its last outcome says it is.
fn last_read(
    scanner: Scanner<'_>,
    id: &str,
    last: Option<&Outcome>,
    newer: &mut Newer,
) -> Result<Option<(DeliveryJob, Record)>, Error> {
    let place = last.and_then(|outcome| outcome.job_partition.zip(outcome.job_offset));
    // The processor may have settled the match without a job.
    let Some((partition, from)) = place else {
        return Ok(None);
    };
    let until = from.saturating_add(1);
    read(scanner, id, &[Run { partition, from, until }], |_| true, newer)
}

fn read(
    scanner: Scanner<'_>,
    id: &str,
    runs: &[Run],
    may: impl Fn(&Record) -> bool,
    newer: &mut Newer,
) -> Result<Option<(DeliveryJob, Record)>, Error> {
    for record in scanner.runs(&scanner.config.topics.jobs, runs, Isolation::Committed)? {
        let record = record?;
        if record.header("job-id").is_none_or(|job_id| job_id == id)
            && may(&record)
            && let Some(job) = job(&record, newer).filter(|job| job.job_id == id)
        {
            return Ok(Some((job, record)));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(result: OutcomeResult) -> Outcome {
        let mut outcome = crate::delivery::tests::job().outcome(result, 0);
        (outcome.rule_id, outcome.lead_id, outcome.event_id) = ("r".into(), "l".into(), "e".into());
        outcome.lane = "slack:bot/C1".into();
        outcome
    }

    #[test]
    fn every_condition_of_a_filter_must_hold() {
        let sent = outcome(OutcomeResult::Sent);
        assert!(Filter::default().holds(&sent));
        let filter = |name: &str, text: &str, results: &[OutcomeResult]| {
            let field = |of: &str| (of == name).then(|| text.to_owned());
            Filter {
                rule: field("rule"),
                lead: field("lead"),
                event: field("event"),
                lane: field("lane"),
                results: results.to_vec(),
            }
        };
        for (name, text, results, holds) in [
            ("rule", "r", &[][..], true),
            ("rule", "x", &[], false),
            ("lead", "x", &[], false),
            ("event", "x", &[], false),
            ("lane", "slack:bot/C1", &[], true),
            ("lane", "slack:bot", &[], true),
            ("lane", "slack:bo", &[], false),
            ("", "", &[OutcomeResult::Dead, OutcomeResult::Sent], true),
            ("rule", "r", &[OutcomeResult::Dead], false),
        ] {
            let filter = filter(name, text, results);
            assert_eq!(filter.holds(&sent), holds, "{filter:?}");
        }
    }

    #[test]
    fn a_job_stands_where_its_last_outcome_says_repeats_aside() {
        use OutcomeResult::{Dead, Duplicate, Retry, Sent};
        for (results, stands) in [
            (&[][..], None),
            (&[Retry], Some(Retry)),
            (&[Retry, Sent, Duplicate], Some(Sent)),
            (&[Duplicate], Some(Duplicate)),
            (&[Dead, Sent], Some(Sent)),
        ] {
            let outcomes: Vec<Outcome> = results.iter().map(|result| outcome(*result)).collect();
            assert_eq!(Stands::by(&outcomes), stands.map(Stands::Is));
        }
    }
}
