//! Dead letters: records that wait for a person.
//!
//! A dead letter's id is its place, `PARTITION-OFFSET`. The audit has the replays: one record for each transaction of
//! a replay, with who, when, the ids under `replayed`, and under `written_at` the times at which those dead letters
//! were written. The audit outlives the dead letters, and it outlives their topic: in a topic that was made anew
//! another dead letter has the same id, and another time.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;

use serde_json::Value;

use super::Error;
use super::newer::Newer;
use super::scan::{Period, Records, Scanner};
use crate::config::Config;
use crate::credential::one_spelling;
use crate::delivery::{self, DeliveryJob};
use crate::kafka::reader::{Isolation, Record};
use crate::kafka::scan::{CLOCKS_DIFFER, Run, Topic};
use crate::lead::decode::decode;
use crate::lead::schemas::Schemas;
use crate::reason::Reason;

pub mod recent;
mod source;

/// Which dead letters are asked for: all conditions must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// For one of these reasons; none: for any.
    pub reasons: Vec<Reason>,
    pub rule: Option<String>,
    pub event: Option<String>,
    /// Jobs for this lane, or for any lane of this credential; of a job that can't be read only the latter is known.
    pub destination: Option<String>,
}

/// A dead letter's id: its partition and offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id {
    pub partition: i32,
    pub offset: i64,
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.partition, self.offset)
    }
}

impl FromStr for Id {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let number = |text: &str| {
            text.bytes()
                .all(|byte| byte.is_ascii_digit())
                .then(|| text.parse().ok())?
        };
        let id = text.split_once('-').and_then(|(partition, offset)| {
            Some(Self {
                partition: i32::try_from(number(partition)?).ok()?,
                offset: number(offset)?,
            })
        });
        id.ok_or_else(|| {
            Error::invalid("no dead letter's id; it is PARTITION-OFFSET, such as 2-17, as dead-letters list shows it")
        })
    }
}

/// A dead letter: its record, with what the headers say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Letter {
    pub id: Id,
    pub record: Record,
    /// The job that it holds, where one failed and can be read.
    pub job: Option<DeliveryJob>,
    /// The credential of its job, which the record's key names where the job can't be read.
    credential: Option<String>,
}

impl Letter {
    pub(super) fn of(record: Record, config: &Config) -> Self {
        let is_job = record.header("source-topic") == Some(&config.topics.jobs);
        let job = is_job
            .then(|| super::deliveries::job(&record, &mut Newer::default()))
            .flatten();
        let of_key = || delivery::credential_in(record.key.as_deref().filter(|_| is_job)?);
        Self {
            id: Id {
                partition: record.partition,
                offset: record.offset,
            },
            credential: job
                .as_ref()
                .map(|job| job.credential.as_str())
                .or_else(of_key)
                .map(|credential| one_spelling(credential).into_owned()),
            job,
            record,
        }
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.record.header(name)
    }

    pub fn reason(&self) -> Option<Reason> {
        self.header("reason")?.parse().ok()
    }

    /// The inlets that it is a dead letter of: the one that its header names, or all that read its topic.
    pub(super) fn inlet_names<'s>(&'s self, config: &'s Config) -> Vec<&'s str> {
        let source = self.header("source-topic").unwrap_or_default();
        if let Some(name) = self.header("inlet").or(source.strip_prefix("inlet:")) {
            return vec![name];
        }
        let inlets = config.foreign_topics().remove(source).unwrap_or_default();
        inlets.into_iter().map(|inlet| inlet.name.as_str()).collect()
    }

    /// The lane that its job was for.
    pub fn lane(&self) -> Option<String> {
        self.job.as_ref().map(DeliveryJob::lane)
    }

    /// The record that it holds, as far as it can be read.
    pub fn held(&self) -> Value {
        if let Some(job) = &self.job {
            let mut job = serde_json::to_value(job).unwrap_or_default();
            // The request is JSON in a text.
            if let Some(body) = job["body"].as_str().and_then(|body| serde_json::from_str(body).ok()) {
                job["body"] = body;
            }
            return job;
        }
        let value = self.record.value.as_deref().unwrap_or_default();
        match (std::str::from_utf8(value), decode(value, &Schemas::new())) {
            (Ok(text), _) => serde_json::from_str(text).unwrap_or_else(|_| text.into()),
            (Err(_), Ok(event)) => event.to_json(),
            (Err(_), Err(_)) => format!("{} bytes that are no text", value.len()).into(),
        }
    }
}

impl Filter {
    pub fn holds(&self, letter: &Letter) -> bool {
        let is = |wanted: &Option<String>, name| wanted.is_none() || wanted.as_deref() == letter.header(name);
        let goes_to =
            |wanted: &str| letter.credential.as_deref() == Some(wanted) || letter.lane().as_deref() == Some(wanted);
        (self.reasons.is_empty() || letter.reason().is_some_and(|reason| self.reasons.contains(&reason)))
            && is(&self.rule, "rule-id")
            && is(&self.event, "event-id")
            && self.destination.as_deref().is_none_or(goes_to)
    }

    /// Whether every dead letter is asked for.
    pub fn is_whole(&self) -> bool {
        *self == Self::default()
    }
}

/// The dead letters that were replayed.
#[derive(Debug, Clone, Default)]
pub struct Replayed(HashMap<Id, Mark>);

/// Which dead letter of an id was replayed last. Times are in epoch milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mark {
    /// The one that was written at this time.
    Of(i64),
    /// An older audit doesn't say; one that was written before the replay.
    Before(i64),
}

impl Replayed {
    /// The replay that the audit has.
    pub fn read(scanner: Scanner<'_>) -> Result<Self, Error> {
        let mut replayed = Self::default();
        for record in scanner.all(&scanner.config.topics.audit)? {
            let record = record?;
            replayed.take(record.value.as_deref().unwrap_or_default(), record.timestamp);
        }
        Ok(replayed)
    }

    /// Takes in a record of the audit, which was written at `at`.
    pub(super) fn take(&mut self, audit: &[u8], at: i64) {
        let audit: Value = serde_json::from_slice(audit).unwrap_or_default();
        let list = |name| audit.get(name).and_then(Value::as_array);
        let times = list("written_at");
        for (number, id) in list("replayed").into_iter().flatten().enumerate() {
            let Some(id) = id.as_str().and_then(|id| id.parse().ok()) else {
                continue;
            };
            let written_at = times.and_then(|times| times.get(number)?.as_i64());
            self.0.insert(
                id,
                written_at.map_or(Mark::Before(at.saturating_add(CLOCKS_DIFFER)), Mark::Of),
            );
        }
    }

    pub(super) fn insert(&mut self, letter: &Letter) {
        self.0.insert(letter.id, Mark::Of(letter.record.timestamp));
    }

    pub fn contains(&self, letter: &Letter) -> bool {
        self.has(letter.id, letter.record.timestamp)
    }

    /// Whether the dead letter of this id that was written then was replayed.
    pub(super) fn has(&self, id: Id, written_at: i64) -> bool {
        self.0.get(&id).is_some_and(|mark| match mark {
            Mark::Of(time) => *time == written_at,
            Mark::Before(time) => written_at <= *time,
        })
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Forgets the replays of dead letters that were written before `at`.
    pub(super) fn forget(&mut self, at: i64) {
        self.0.retain(|_, mark| match mark {
            Mark::Of(time) | Mark::Before(time) => *time >= at,
        });
    }
}

/// The dead letters that were written in a period, oldest first within a partition. [`Replayed`] says of each
/// whether it was replayed.
pub fn list<'s>(
    scanner: Scanner<'s>,
    period: Period,
    filter: &'s Filter,
) -> Result<impl Iterator<Item = Result<Letter, Error>> + use<'s>, Error> {
    let records = scanner.period(&scanner.config.topics.dead_letters, period)?;
    let letters = letters(records, scanner.config);
    Ok(letters.filter(|letter| letter.as_ref().map_or(true, |letter| filter.holds(letter))))
}

/// The dead letters of these ids, those that are there.
pub(super) fn by_ids<'s>(
    scanner: Scanner<'s>,
    ids: &'s [Id],
) -> Result<impl Iterator<Item = Result<Letter, Error>> + use<'s>, Error> {
    let topic = &scanner.config.topics.dead_letters;
    let all = Topic::open(scanner.config, topic).and_then(|asked| asked.all());
    let runs = all.map_err(Error::Unavailable)?.into_iter().filter_map(|run| {
        let wanted = || {
            ids.iter()
                .filter(|id| id.partition == run.partition)
                .map(|id| id.offset)
        };
        Some(Run {
            from: wanted().min()?.max(run.from),
            until: wanted().max()?.saturating_add(1).min(run.until),
            ..run
        })
    });
    let runs: Vec<Run> = runs.collect();
    let letters = letters(scanner.runs(topic, &runs, Isolation::Committed)?, scanner.config);
    Ok(letters.filter(|letter| letter.as_ref().map_or(true, |letter| ids.contains(&letter.id))))
}

fn letters<'s>(records: Records<'s>, config: &'s Config) -> impl Iterator<Item = Result<Letter, Error>> + use<'s> {
    records.map(|record| Ok(Letter::of(record?, config)))
}

/// The dead letter of an id, as its topic holds it; [`Letter::whole`] reads what it leaves out.
pub fn find(scanner: Scanner<'_>, id: Id) -> Result<Letter, Error> {
    let found = by_ids(scanner, &[id])?.next();
    found.unwrap_or_else(|| Err(missing(scanner.config, &[id])))
}

pub(super) fn missing(config: &Config, ids: &[Id]) -> Error {
    let ids: Vec<String> = ids.iter().map(Id::to_string).collect();
    Error::NotFound(format!(
        "there is no dead letter {} in {}; leadlane dead-letters list shows those that are",
        ids.join(", "),
        config.topics.dead_letters
    ))
}

#[cfg(test)]
pub(crate) mod tests;
