//! `leadlane deliveries ...`: the outcomes of matches.

use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::look::{Look, Newest, Span, cell, plain, time_json, when, wrapped};
use super::{CliError, print, progress, say_newer};
use crate::dates::time_text;
use crate::delivery::{Outcome, OutcomeResult};
use crate::desk::deliveries::{self, Filter, Life, Stands};

#[derive(Debug, Subcommand)]
pub(super) enum Deliveries {
    /// Print outcomes, newest last; a job that was tried three times has three
    List {
        #[command(flatten)]
        asked: Asked,
        #[command(flatten)]
        span: Span,
        /// Print the newest so many
        #[arg(long, value_name = "N")]
        limit: Option<usize>,
    },
    /// Print the life of one job: its event, its rule, every attempt, and the text as it was sent
    Show {
        #[arg(value_name = "JOB_ID")]
        id: String,
    },
    /// Print outcomes as they come, until Ctrl-C
    Tail {
        #[command(flatten)]
        asked: Asked,
        /// Begin with outcomes written from then on: a date, or how long ago: 2h, 3d [default: now]
        #[arg(long, value_name = "TIME", value_parser = super::look::time)]
        since: Option<i64>,
    },
}

/// Which outcomes are asked for: all conditions must hold.
#[derive(Debug, Args)]
pub(super) struct Asked {
    /// Only of this rule
    #[arg(long, value_name = "ID")]
    rule: Option<String>,
    /// Only of this lead
    #[arg(long, value_name = "ID")]
    lead: Option<String>,
    /// Only of this event
    #[arg(long, value_name = "ID")]
    event: Option<String>,
    /// Only in this lane, or in any lane of this credential
    #[arg(long, value_name = "LANE")]
    lane: Option<String>,
    /// Only with one of these results
    #[arg(long = "result", value_name = "RESULT", value_delimiter = ',', value_parser = result())]
    results: Vec<OutcomeResult>,
}

fn result() -> impl TypedValueParser<Value = OutcomeResult> {
    PossibleValuesParser::new(OutcomeResult::ALL.map(OutcomeResult::as_str)).map(|text| {
        let known = OutcomeResult::ALL.into_iter().find(|result| result.as_str() == text);
        known.expect("clap lets these through only")
    })
}

impl Asked {
    fn filter(&self) -> Filter {
        Filter {
            rule: self.rule.clone(),
            lead: self.lead.clone(),
            event: self.event.clone(),
            lane: self.lane.clone(),
            results: self.results.clone(),
        }
    }
}

pub(super) fn run(look: Look<'_>, command: &Deliveries) -> Result<(), CliError> {
    match command {
        Deliveries::List { asked, span, limit } => list(look, &asked.filter(), *span, *limit),
        Deliveries::Show { id } => {
            let life = look.scan(|scanner| Ok(deliveries::find(scanner, id)?))?;
            say_newer(life.newer);
            print(&if look.json { life_json(&life) } else { life_text(&life) })
        }
        Deliveries::Tail { asked, since } => tail(look, asked.filter(), *since),
    }
}

fn list(look: Look<'_>, filter: &Filter, span: Span, limit: Option<usize>) -> Result<(), CliError> {
    let mut newest = Newest::new(limit);
    look.scan(|scanner| {
        let mut outcomes = deliveries::list(scanner, span.period(), filter)?;
        for outcome in outcomes.by_ref() {
            let outcome = outcome?;
            newest.add(outcome.ended_at, || line(&outcome, look.json));
        }
        say_newer(outcomes.newer);
        Ok(())
    })?;
    let head = head();
    newest.print(
        Some(&*head).filter(|_| !look.json),
        "no outcome is there that fits; outcomes are kept as long as the topic keeps them",
    )
}

/// The columns' names.
fn head() -> String {
    columns("ended (UTC)", "result", "lane", "rule", "lead")
}

/// A row of 100 columns at most.
fn columns(ended: &str, result: &str, lane: &str, rule: &str, lead: &str) -> String {
    let (lane, rule, lead) = (cell(lane, 28), cell(rule, 20), cell(lead, 16));
    format!("{ended:<19}  {result:<10}  {lane} {rule} {lead}")
        .trim_end()
        .to_owned()
}

fn tail(look: Look<'_>, filter: Filter, since: Option<i64>) -> Result<(), CliError> {
    progress::end();
    let mut coming = deliveries::follow(look.config, filter, since)?;
    if !look.json {
        print(&head())?;
    }
    let mut said = coming.newer;
    while !*look.stop.borrow() {
        if let Some(outcome) = coming.next(Duration::from_millis(100))? {
            print(&line(&outcome, look.json))?;
        }
        // Once; there may be thousands.
        if said.records == 0 && coming.newer.records > 0 {
            said = coming.newer;
            say_newer(said);
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
    let row = columns(
        &when(outcome.ended_at),
        outcome.result.as_str(),
        &outcome.lane,
        &outcome.rule_id,
        &outcome.lead_id,
    );
    let more = format!("job {}  {}", plain(&outcome.job_id), came_of(outcome));
    format!("{row}\n    {}", wrapped(&more, 4))
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

/// When, and what came of it.
fn attempt_text(outcome: &Outcome) -> String {
    let (ended, result) = (when(outcome.ended_at), outcome.result.as_str());
    wrapped(&format!("{ended}  {result:<10}  {}", came_of(outcome)), 33)
}

/// Which attempt it was, and what came of it, with the provider's words.
fn came_of(outcome: &Outcome) -> String {
    let mut text = format!("attempt {}", outcome.attempt);
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
            .map(|next_at| format!("not again before {}", when(next_at))),
    ]
    .into_iter()
    .flatten()
    {
        text.push_str(": ");
        text.push_str(&plain(&part));
    }
    text
}

/// Event, rule, version, lead and lane.
fn ids(life: &Life) -> (&str, &str, i64, &str, String) {
    match (&life.job, life.outcomes.last()) {
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

fn life_json(life: &Life) -> String {
    let (event_id, rule_id, rule_version, lead_id, lane) = ids(life);
    let job = life.job.as_ref().map(|(job, record)| {
        json!({
            "partition": record.partition, "offset": record.offset, "written_at": time_text(record.timestamp),
            "replay_of": record.header("replay-of"), "trigger": job.trigger, "occurred_at": time_text(job.occurred_at),
            "expires_at": time_json(job.expires_at), "credential": job.credential, "destination": job.destination,
            "source_topic": job.source_topic, "source_partition": job.source_partition, "source_offset": job.source_offset,
        })
    });
    let attempts: Vec<Value> = life.outcomes.iter().map(attempt_json).collect();
    json!({
        "id": life.id, "event_id": event_id, "rule_id": rule_id, "rule_version": rule_version, "lead_id": lead_id,
        "lane": lane, "stands": life.stands.as_str(), "job": job, "attempts": attempts, "sent": life.sent.as_deref().map(body),
    })
    .to_string()
}

fn life_text(life: &Life) -> String {
    let (event_id, rule_id, rule_version, lead_id, lane) = ids(life);
    let mut lines = vec![
        format!("job      {}: {}", life.id, life.stands.as_str()),
        format!("event    {event_id} of lead {lead_id}"),
        format!("rule     {rule_id}, version {rule_version}"),
        format!("lane     {lane}"),
    ];
    if let Some((job, record)) = &life.job {
        lines[1].push_str(&format!(
            ", {} at {} UTC, read from {} {}-{}",
            job.trigger,
            when(job.occurred_at),
            job.source_topic,
            job.source_partition,
            job.source_offset
        ));
        let replayed = record.header("replay-of");
        lines.push(format!(
            "written  {} UTC at {}-{}{}",
            when(record.timestamp),
            record.partition,
            record.offset,
            replayed.map_or(String::new(), |of| match of == job.job_id {
                true => ", as somebody asked for it again".to_owned(),
                false => format!(", as the replay of dead letter {of}"),
            })
        ));
    }
    lines.iter_mut().for_each(|line| *line = plain(line));
    lines.extend(life.outcomes.iter().map(attempt_text));
    match (&life.sent, &life.job) {
        (Some(sent), _) => lines.push(format!("sent\n{}", body_text(sent))),
        (None, Some((job, _))) if life.stands != Stands::Is(OutcomeResult::Digested) => {
            lines.push(format!("to send\n{}", body_text(&job.body)));
        }
        (None, _) => {}
    }
    lines.join("\n")
}

/// A request's body, which is JSON.
fn body(sent: &str) -> Value {
    serde_json::from_str(sent).unwrap_or_else(|_| sent.into())
}

/// A message's text as it is, line by line; anything else of the request as JSON.
fn body_text(sent: &str) -> String {
    let mut body = body(sent);
    let text = body.as_object_mut().and_then(|body| body.shift_remove("text"));
    let mut lines: Vec<String> = Vec::new();
    if let Some(text) = text.as_ref().and_then(Value::as_str) {
        lines.extend(text.lines().map(plain));
    }
    lines.extend(format!("{body:#}").lines().map(plain));
    let lines: Vec<String> = lines.iter().map(|line| format!("    {line}")).collect();
    lines.join("\n")
}
