//! `leadlane dead-letters ...`: records that can go no further without a person.
//!
//! A dead letter's id is its place, `PARTITION-OFFSET`. Which ones were replayed stands in the audit:
//! one record for each transaction of a replay, with who, when, the ids under `replayed` and the times that
//! those dead letters were written at under `written_at`. The audit outlives the dead letters, and those that
//! count these see no foreign records among them. It outlives their topic, too: in one that was made anew
//! another dead letter has the id, and another time.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::look::{Look, Period, plain};
use super::{CliError, print};
use crate::config::Config;
use crate::delivery::DeliveryJob;
use crate::kafka::reader::{Isolation, Record};
use crate::kafka::scan::{CLOCKS_DIFFER, Run, Topic};
use crate::lead::decode::decode;
use crate::lead::schemas::Schemas;
use crate::reason::Reason;

mod replay;
mod source;

#[derive(Debug, Subcommand)]
pub(super) enum DeadLetters {
    /// List dead letters: their id, why, where they come from, and whether they were replayed
    List {
        #[command(flatten)]
        filter: Filter,
        #[command(flatten)]
        period: Period,
        /// Stop after so many
        #[arg(long, value_name = "N")]
        limit: Option<usize>,
    },
    /// Print one dead letter with the record that it holds
    Show {
        #[arg(value_name = "ID")]
        id: Id,
    },
    /// Put dead letters back where they came from; one that was replayed is left as it is
    Replay(replay::Replay),
}

/// Which dead letters are asked for: all conditions must hold.
#[derive(Debug, Default, Args)]
pub(super) struct Filter {
    /// For one of these reasons
    #[arg(long = "reason", value_name = "REASON", value_delimiter = ',')]
    reasons: Vec<Reason>,
    /// Of this rule
    #[arg(long, value_name = "ID")]
    rule: Option<String>,
    /// Of this event
    #[arg(long, value_name = "ID")]
    event: Option<String>,
    /// Jobs for this lane, or for any lane of this credential
    #[arg(long, value_name = "LANE")]
    destination: Option<String>,
}

/// A dead letter's id: its partition and offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Id {
    partition: i32,
    offset: i64,
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.partition, self.offset)
    }
}

impl FromStr for Id {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
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
            "no dead letter's id; it is PARTITION-OFFSET, such as 2-17, as dead-letters list shows it".to_owned()
        })
    }
}

/// A record of the dead letters, with what its headers say.
#[derive(Debug)]
struct Letter {
    id: Id,
    record: Record,
    /// The job that it holds, where one failed.
    job: Option<DeliveryJob>,
}

impl Letter {
    fn of(record: Record, config: &Config) -> Self {
        let is_job = record.header("source-topic") == Some(&config.topics.jobs);
        let value = record.value.as_deref().filter(|_| is_job);
        Self {
            id: Id {
                partition: record.partition,
                offset: record.offset,
            },
            job: value.and_then(|value| DeliveryJob::decode(value).ok()),
            record,
        }
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.record.header(name)
    }

    fn reason(&self) -> Option<Reason> {
        self.header("reason")?.parse().ok()
    }

    /// The inlets that it is a dead letter of: the one that its header names, or all that read its topic.
    fn inlet_names<'s>(&'s self, config: &'s Config) -> Vec<&'s str> {
        let source = self.header("source-topic").unwrap_or_default();
        if let Some(name) = self.header("inlet").or(source.strip_prefix("inlet:")) {
            return vec![name];
        }
        let inlets = config.foreign_topics().remove(source).unwrap_or_default();
        inlets.into_iter().map(|inlet| inlet.name.as_str()).collect()
    }

    /// Where the record was read: topic, partition and offset; or the inlet that it was posted to.
    fn source(&self) -> String {
        let part = |name| self.header(name).unwrap_or("?");
        if part("source-topic").starts_with("inlet:") {
            return part("source-topic").to_owned();
        }
        format!(
            "{} {}-{}",
            part("source-topic"),
            part("source-partition"),
            part("source-offset")
        )
    }

    fn lane(&self) -> Option<String> {
        self.job.as_ref().map(DeliveryJob::lane)
    }
}

impl Filter {
    fn holds(&self, letter: &Letter) -> bool {
        let is = |wanted: &Option<String>, name| wanted.is_none() || wanted.as_deref() == letter.header(name);
        let goes_to = |wanted: &str| {
            let job = letter.job.as_ref();
            job.is_some_and(|job| job.lane() == wanted || job.credential == wanted)
        };
        (self.reasons.is_empty() || letter.reason().is_some_and(|reason| self.reasons.contains(&reason)))
            && is(&self.rule, "rule-id")
            && is(&self.event, "event-id")
            && self.destination.as_deref().is_none_or(goes_to)
    }

    fn is_whole(&self) -> bool {
        self.reasons.is_empty() && self.rule.is_none() && self.event.is_none() && self.destination.is_none()
    }
}

/// The dead letters that were replayed.
#[derive(Debug, Default)]
struct Replayed(HashMap<Id, Mark>);

/// Which dead letter of an id was replayed last. Times are in epoch milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mark {
    /// The one that was written at this time.
    Of(i64),
    /// An older audit doesn't say; one that was written before the replay.
    Before(i64),
}

impl Replayed {
    /// What the audit says.
    fn read(look: Look<'_>) -> Result<Self, CliError> {
        let mut replayed = Self::default();
        look.through_period(&look.config.topics.audit, Period::default(), |record| {
            replayed.take(record.value.as_deref().unwrap_or_default(), record.timestamp);
            Ok(true)
        })?;
        Ok(replayed)
    }

    /// Takes in a record of the audit, which was written at `at`.
    fn take(&mut self, audit: &[u8], at: i64) {
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

    fn insert(&mut self, letter: &Letter) {
        self.0.insert(letter.id, Mark::Of(letter.record.timestamp));
    }

    fn contains(&self, letter: &Letter) -> bool {
        let written_at = letter.record.timestamp;
        self.0.get(&letter.id).is_some_and(|mark| match mark {
            Mark::Of(time) => *time == written_at,
            Mark::Before(time) => written_at <= *time,
        })
    }
}

pub(super) fn run(look: Look<'_>, command: &DeadLetters) -> Result<(), CliError> {
    match command {
        DeadLetters::List { filter, period, limit } => list(look, filter, *period, *limit),
        DeadLetters::Show { id } => show(look, *id),
        DeadLetters::Replay(replay) => replay::run(look, replay),
    }
}

fn list(look: Look<'_>, filter: &Filter, period: Period, limit: Option<usize>) -> Result<(), CliError> {
    let mut left = limit.unwrap_or(usize::MAX);
    if left == 0 {
        return Ok(());
    }
    let replayed = Replayed::read(look)?;
    look.through_period(&look.config.topics.dead_letters, period, |record| {
        let letter = Letter::of(record, look.config);
        if filter.holds(&letter) {
            let replayed = replayed.contains(&letter);
            print(&match look.json {
                true => object(&letter, replayed).to_string(),
                false => line(&letter, replayed),
            })?;
            left -= 1;
        }
        Ok(left > 0)
    })
}

fn object(letter: &Letter, replayed: bool) -> Value {
    let number = |name| letter.header(name).and_then(|text| text.parse::<i64>().ok());
    json!({
        "id": letter.id.to_string(), "reason": letter.header("reason"), "detail": letter.header("detail"),
        "failed_at": letter.header("failed-at"), "source_topic": letter.header("source-topic"),
        "source_partition": number("source-partition"), "source_offset": number("source-offset"),
        "event_id": letter.header("event-id"), "rule_id": letter.header("rule-id"), "job_id": letter.header("job-id"),
        "lane": letter.lane(), "inlet": letter.header("inlet"), "left_out": letter.left_out().collect::<Vec<_>>(),
        "replayed": replayed,
    })
}

fn line(letter: &Letter, replayed: bool) -> String {
    let mut line = format!(
        "{:<8} {:<20}  {:<18}  from {}",
        letter.id.to_string(),
        letter
            .header("failed-at")
            .unwrap_or_default()
            .split('.')
            .next()
            .unwrap_or_default(),
        letter.header("reason").unwrap_or("?"),
        letter.source()
    );
    let lane = letter.lane();
    let named = letter.source().starts_with("inlet:");
    for (name, value) in [
        ("inlet", letter.header("inlet").filter(|_| !named)),
        ("rule", letter.header("rule-id")),
        ("event", letter.header("event-id")),
        ("job", letter.header("job-id")),
        ("lane", lane.as_deref()),
    ] {
        if let Some(value) = value {
            line.push_str(&format!("  {name} {value}"));
        }
    }
    if let Some(detail) = letter.header("detail").filter(|detail| !detail.is_empty()) {
        line.push_str(&format!(": {detail}"));
    }
    let left_out: Vec<&str> = letter.left_out().collect();
    if !left_out.is_empty() {
        line.push_str(&format!("  (without its {})", left_out.join(", ")));
    }
    if replayed {
        line.push_str("  (replayed)");
    }
    plain(&line)
}

/// The dead letters of these ids, those that are there.
fn by_ids(look: Look<'_>, ids: &[Id], mut each: impl FnMut(Letter) -> Result<bool, CliError>) -> Result<(), CliError> {
    let topic = &look.config.topics.dead_letters;
    let all = Topic::open(look.config, topic).and_then(|asked| asked.all());
    let runs = all.map_err(CliError::failed)?.into_iter().filter_map(|run| {
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
    look.through(topic, &runs, Isolation::Committed, |record| {
        let letter = Letter::of(record, look.config);
        if ids.contains(&letter.id) {
            each(letter)
        } else {
            Ok(true)
        }
    })
}

fn show(look: Look<'_>, id: Id) -> Result<(), CliError> {
    let mut found = None;
    by_ids(look, &[id], |letter| {
        found = Some(letter);
        Ok(false)
    })?;
    let letter = found.ok_or_else(|| missing(look, &[id]))?;
    let replayed = Replayed::read(look)?.contains(&letter);
    let whole = letter.whole(look)?;
    if let Err(why) = &whole {
        eprintln!("{id}: {}", plain(why));
    }
    let whole = whole.unwrap_or_else(|_| Letter::of(letter.record.clone(), look.config));
    let held = held(&whole);
    if look.json {
        let mut object = object(&letter, replayed);
        object["key"] = whole.record.key.as_deref().map(String::from_utf8_lossy).into();
        object["value"] = held;
        return print(&object.to_string());
    }
    let held = match held {
        // A text that is no JSON is shown as it is; anything may stand in it.
        Value::String(text) => plain(&text),
        held => format!("{held:#}"),
    };
    print(&format!("{}\n{held}", line(&letter, replayed)))
}

fn missing(look: Look<'_>, ids: &[Id]) -> CliError {
    let ids: Vec<String> = ids.iter().map(Id::to_string).collect();
    let topic = &look.config.topics.dead_letters;
    CliError::failed(format!(
        "there is no dead letter {} in {topic}; leadlane dead-letters list shows those that are",
        ids.join(", ")
    ))
}

/// The record that a dead letter holds, as far as it can be read.
fn held(letter: &Letter) -> Value {
    if let Some(job) = &letter.job {
        let mut job = serde_json::to_value(job).unwrap_or_default();
        // The request is JSON in a text.
        if let Some(body) = job["body"].as_str().and_then(|body| serde_json::from_str(body).ok()) {
            job["body"] = body;
        }
        return job;
    }
    let value = letter.record.value.as_deref().unwrap_or_default();
    match (std::str::from_utf8(value), decode(value, &Schemas::new())) {
        (Ok(text), _) => serde_json::from_str(text).unwrap_or_else(|_| text.into()),
        (Err(_), Ok(event)) => event.to_json(),
        (Err(_), Err(_)) => format!("{} bytes that are no text", value.len()).into(),
    }
}

#[cfg(test)]
mod tests;
