//! `leadlane deliveries ...`: what became of the matches.

use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::backlog::Places;
use super::look::{Look, Period, plain, time_json, time_text};
use super::{CliError, print};
use crate::delivery::recall::credential_of;
use crate::delivery::{DeliveryJob, Outcome, OutcomeResult};
use crate::kafka::reader::{Isolation, Next, Reader, Record};
use crate::kafka::scan::{Run, Topic};

#[derive(Debug, Subcommand)]
pub(super) enum Deliveries {
    /// Print outcomes, one a line, oldest first within a partition; a job that was tried three times has three
    List {
        #[command(flatten)]
        filter: Filter,
        #[command(flatten)]
        period: Period,
        /// Stop after so many
        #[arg(long, value_name = "N")]
        limit: Option<usize>,
    },
    /// Print the life of one job: its event, its rule, and every attempt
    Show {
        #[arg(value_name = "JOB_ID")]
        id: String,
    },
    /// Print outcomes as they come, until Ctrl-C
    Tail {
        #[command(flatten)]
        filter: Filter,
        /// Begin with what was written from then on: a date, or how long ago: 2h, 3d [default: now]
        #[arg(long, value_name = "TIME", value_parser = super::look::time)]
        since: Option<i64>,
    },
}

/// Which outcomes are asked for: all conditions must hold.
#[derive(Debug, Default, Args)]
pub(super) struct Filter {
    /// Of this rule
    #[arg(long, value_name = "ID")]
    rule: Option<String>,
    /// Of this lead
    #[arg(long, value_name = "ID")]
    lead: Option<String>,
    /// Of this event
    #[arg(long, value_name = "ID")]
    event: Option<String>,
    /// In this lane, or in any lane of this credential
    #[arg(long, value_name = "LANE")]
    lane: Option<String>,
    /// With one of these results
    #[arg(long = "result", value_name = "RESULT", value_delimiter = ',', value_parser = result())]
    results: Vec<OutcomeResult>,
}

fn result() -> impl TypedValueParser<Value = OutcomeResult> {
    PossibleValuesParser::new(OutcomeResult::ALL.map(OutcomeResult::as_str)).map(|text| {
        let known = OutcomeResult::ALL.into_iter().find(|result| result.as_str() == text);
        known.expect("clap lets these through only")
    })
}

impl Filter {
    fn holds(&self, outcome: &Outcome) -> bool {
        let is = |wanted: &Option<String>, found: &str| wanted.as_deref().is_none_or(|wanted| wanted == found);
        is(&self.rule, &outcome.rule_id)
            && is(&self.lead, &outcome.lead_id)
            && is(&self.event, &outcome.event_id)
            && (is(&self.lane, &outcome.lane) || is(&self.lane, credential_of(&outcome.lane)))
            && (self.results.is_empty() || self.results.contains(&outcome.result))
    }
}

pub(super) fn run(look: Look<'_>, command: &Deliveries) -> Result<(), CliError> {
    match command {
        Deliveries::List { filter, period, limit } => list(look, filter, *period, *limit),
        Deliveries::Show { id } => show(look, id),
        Deliveries::Tail { filter, since } => tail(look, filter, *since),
    }
}

/// An outcome of the topic; a record that is none is left aside.
fn outcome(record: &Record) -> Option<Outcome> {
    Outcome::decode(record.value.as_deref()?).ok()
}

fn list(look: Look<'_>, filter: &Filter, period: Period, limit: Option<usize>) -> Result<(), CliError> {
    let mut left = limit.unwrap_or(usize::MAX);
    if left == 0 {
        return Ok(());
    }
    look.through_period(&look.config.topics.outcomes, period, |record| {
        if let Some(outcome) = outcome(&record).filter(|outcome| filter.holds(outcome)) {
            print(&line(&outcome, look.json))?;
            left -= 1;
        }
        Ok(left > 0)
    })
}

fn tail(look: Look<'_>, filter: &Filter, since: Option<i64>) -> Result<(), CliError> {
    let topic = &look.config.topics.outcomes;
    let runs = Topic::open(look.config, topic).and_then(|asked| asked.between(since, None));
    let runs = runs.map_err(CliError::failed)?;
    let from = |run: &Run| (run.partition, Some(if since.is_some() { run.from } else { run.until }));
    let places: Vec<_> = runs.iter().map(from).collect();
    let reader = Reader::assign(look.config, topic, &places, Isolation::Committed)
        .map_err(|error| CliError::failed(error.to_string()))?;
    while !*look.stop.borrow() {
        let Next::Record(record) = reader.next(Duration::from_millis(100)) else {
            continue;
        };
        if let Some(outcome) = outcome(&record).filter(|outcome| filter.holds(outcome)) {
            print(&line(&outcome, look.json))?;
        }
    }
    Ok(())
}

fn line(outcome: &Outcome, json: bool) -> String {
    if json {
        let mut object = json!({
            "id": outcome.job_id, "event_id": outcome.event_id, "rule_id": outcome.rule_id,
            "rule_version": outcome.rule_version, "lead_id": outcome.lead_id, "lane": outcome.lane,
        });
        append(&mut object, attempt_json(outcome));
        return object.to_string();
    }
    let Outcome {
        lane,
        rule_id,
        lead_id,
        job_id,
        ..
    } = outcome;
    let ids = format!("{lane}  rule {rule_id}  lead {lead_id}  job {job_id}");
    format!("{}  {}", attempt_text(outcome), plain(&ids))
}

fn append(object: &mut Value, more: Value) {
    if let (Value::Object(object), Value::Object(more)) = (object, more) {
        object.extend(more);
    }
}

fn attempt_json(outcome: &Outcome) -> Value {
    json!({
        "attempt": outcome.attempt, "result": outcome.result.as_str(), "reason": outcome.reason, "status": outcome.status,
        "words": outcome.words, "message_id": outcome.message_id, "thread_ts": outcome.thread_ts, "scope": outcome.scope,
        "started_at": time_json(outcome.started_at), "ended_at": time_text(outcome.ended_at),
        "next_at": time_json(outcome.next_at), "job_partition": outcome.job_partition, "job_offset": outcome.job_offset,
    })
}

/// When, which attempt, and what came of it, with the provider's words.
fn attempt_text(outcome: &Outcome) -> String {
    let result = outcome.result.as_str();
    let mut text = format!(
        "{:<24}  {result:<10}  attempt {}",
        time_text(outcome.ended_at),
        outcome.attempt
    );
    if let Some(started_at) = outcome.started_at {
        text.push_str(&format!(" took {} ms", outcome.ended_at.saturating_sub(started_at)));
    }
    for part in [
        outcome.reason.clone(),
        outcome.status.map(|status| status.to_string()),
        outcome.words.clone(),
        outcome.message_id.as_ref().map(|id| format!("message {id}")),
        outcome.scope.as_ref().map(|scope| format!("freezes the {scope}")),
        outcome
            .next_at
            .map(|next_at| format!("not again before {}", time_text(next_at))),
    ]
    .into_iter()
    .flatten()
    {
        text.push_str(": ");
        text.push_str(&plain(&part));
    }
    text
}

/// What is known of one job.
struct Life {
    outcomes: Vec<Outcome>,
    /// The job itself, as long as its topic has it.
    job: Option<(DeliveryJob, Record)>,
    /// The job waits for its first attempt, or as the replay of one that ended.
    waits: bool,
}

fn show(look: Look<'_>, id: &str) -> Result<(), CliError> {
    let mut outcomes = Vec::new();
    look.through_period(&look.config.topics.outcomes, Period::default(), |record| {
        if record.key.as_deref() == Some(id.as_bytes()) {
            outcomes.extend(outcome(&record));
        }
        Ok(true)
    })?;
    // A repeated event's job has outcomes in more than one partition.
    outcomes.sort_by_key(|outcome| outcome.ended_at);
    let waiting = waiting(look, id, &outcomes)?;
    let life = Life {
        waits: waiting.is_some(),
        job: match waiting {
            Some(job) => Some(job),
            None => last_read(look, id, outcomes.last())?,
        },
        outcomes,
    };
    if life.outcomes.is_empty() && life.job.is_none() {
        return Err(CliError::failed(format!(
            "there is no job {id}: no outcome of it is left in {}, and none such waits in {}",
            look.config.topics.outcomes, look.config.topics.jobs
        )));
    }
    print(&if look.json { life.json(id) } else { life.text(id) })
}

type Job = (DeliveryJob, Record);

/// The job among those that no sender has come to yet: without any outcome, or replayed since.
fn waiting(look: Look<'_>, id: &str, outcomes: &[Outcome]) -> Result<Option<Job>, CliError> {
    use OutcomeResult::{Cancelled, Dead, Expired};
    let last = outcomes.last().map(|outcome| outcome.result);
    if !matches!(last, None | Some(Cancelled | Dead | Expired)) {
        return Ok(None);
    }
    let places = Places::of(look.config).map_err(CliError::failed)?;
    let tried = |record: &Record| {
        let at = (Some(record.partition), Some(record.offset));
        outcomes
            .iter()
            .any(|outcome| (outcome.job_partition, outcome.job_offset) == at)
    };
    find(look, id, &places.jobs(), |record| !tried(record))
}

/// The job where its last outcome says it is.
fn last_read(look: Look<'_>, id: &str, last: Option<&Outcome>) -> Result<Option<Job>, CliError> {
    let place = last.and_then(|outcome| outcome.job_partition.zip(outcome.job_offset));
    // The processor may have settled the match without a job.
    let Some((partition, from)) = place else {
        return Ok(None);
    };
    let until = from + 1;
    find(look, id, &[Run { partition, from, until }], |_| true)
}

fn find(look: Look<'_>, id: &str, runs: &[Run], may: impl Fn(&Record) -> bool) -> Result<Option<Job>, CliError> {
    let mut found = None;
    look.through(&look.config.topics.jobs, runs, Isolation::Committed, |record| {
        let named = record.header("job-id").is_none_or(|job_id| job_id == id) && may(&record);
        let job = record.value.as_deref().filter(|_| named);
        let job = job.and_then(|value| DeliveryJob::decode(value).ok());
        found = job.filter(|job| job.job_id == id).map(|job| (job, record));
        Ok(found.is_none())
    })?;
    Ok(found)
}

impl Life {
    /// Where the job stands: a repeat that was left out says nothing about the one that was sent.
    fn stands(&self) -> &'static str {
        if self.waits {
            return "waiting";
        }
        let mut told = self.outcomes.iter().rev().peekable();
        let last = told.peek().map(|outcome| outcome.result);
        let own = told.find(|outcome| outcome.result != OutcomeResult::Duplicate);
        let stands = own.map(|outcome| outcome.result).or(last);
        stands.map_or("unknown", OutcomeResult::as_str)
    }

    /// Event, rule, version, lead and lane.
    fn ids(&self) -> (&str, &str, i64, &str, String) {
        match (&self.job, self.outcomes.last()) {
            (Some((job, _)), _) => (&job.event_id, &job.rule_id, job.rule_version, &job.lead_id, job.lane()),
            (None, Some(outcome)) => (
                &outcome.event_id,
                &outcome.rule_id,
                outcome.rule_version,
                &outcome.lead_id,
                outcome.lane.clone(),
            ),
            (None, None) => ("", "", -1, "", String::new()),
        }
    }

    fn json(&self, id: &str) -> String {
        let (event_id, rule_id, rule_version, lead_id, lane) = self.ids();
        let job = self.job.as_ref().map(|(job, record)| {
            json!({
                "partition": record.partition, "offset": record.offset, "written_at": time_text(record.timestamp),
                "replay_of": record.header("replay-of"), "trigger": job.trigger, "occurred_at": time_text(job.occurred_at),
                "expires_at": time_json(job.expires_at), "credential": job.credential, "destination": job.destination,
                "source_topic": job.source_topic, "source_partition": job.source_partition, "source_offset": job.source_offset,
            })
        });
        let attempts: Vec<Value> = self.outcomes.iter().map(attempt_json).collect();
        json!({
            "id": id, "event_id": event_id, "rule_id": rule_id, "rule_version": rule_version, "lead_id": lead_id,
            "lane": lane, "stands": self.stands(), "job": job, "attempts": attempts,
        })
        .to_string()
    }

    fn text(&self, id: &str) -> String {
        let (event_id, rule_id, rule_version, lead_id, lane) = self.ids();
        let mut lines = vec![
            format!("job      {id}: {}", self.stands()),
            format!("event    {event_id} of lead {lead_id}"),
            format!("rule     {rule_id}, version {rule_version}"),
            format!("lane     {lane}"),
        ];
        if let Some((job, record)) = &self.job {
            lines[1].push_str(&format!(
                ", {} at {}, read from {} {}-{}",
                job.trigger,
                time_text(job.occurred_at),
                job.source_topic,
                job.source_partition,
                job.source_offset
            ));
            let replayed = record.header("replay-of");
            lines.push(format!(
                "written  {} at {}-{}{}",
                time_text(record.timestamp),
                record.partition,
                record.offset,
                replayed.map_or(String::new(), |of| format!(", as the replay of dead letter {of}"))
            ));
        }
        lines.iter_mut().for_each(|line| *line = plain(line));
        lines.extend(self.outcomes.iter().map(attempt_text));
        lines.join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(result: OutcomeResult) -> Outcome {
        Outcome {
            job_id: "j".into(),
            event_id: "e".into(),
            rule_id: "r".into(),
            rule_version: 3,
            lead_id: "l".into(),
            lane: "slack:bot/C1".into(),
            attempt: 1,
            result,
            reason: None,
            status: None,
            words: None,
            message_id: None,
            started_at: None,
            ended_at: 0,
            next_at: None,
            job_partition: None,
            job_offset: None,
            scope: None,
            thread_ts: None,
        }
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
            (&[Retry][..], "retry"),
            (&[Retry, Sent, Duplicate], "sent"),
            (&[Duplicate], "duplicate"),
            (&[Dead, Sent], "sent"),
        ] {
            let outcomes = results.iter().map(|result| outcome(*result)).collect();
            let mut life = Life {
                outcomes,
                job: None,
                waits: false,
            };
            assert_eq!(life.stands(), stands);
            life.waits = true;
            assert_eq!(life.stands(), "waiting");
        }
    }
}
