//! `leadlane dead-letters replay`: dead letters go back where they came from.
//!
//! What goes back and the audit that says so are one transaction, so that a crash neither replays
//! twice nor forgets. One replay runs at a time: the next one ends it before it reads the audit.

use std::cell::OnceCell;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::json;

use super::{Filter, Id, Letter, Replayed, by_ids, missing};
use crate::app::now_millis;
use crate::cli::look::{Look, Period, plain, time_text};
use crate::cli::{CliError, print, rules, who};
use crate::config::Config;
use crate::delivery::limit::Rate;
use crate::delivery::plan::readdress;
use crate::kafka::Fault;
use crate::kafka::producer::Record;
use crate::kafka::together::Together;
use crate::reason::Reason;
use crate::rules::log::Rules;

mod inlets;

use inlets::Inlets;

#[derive(Debug, Args)]
pub(in crate::cli) struct Replay {
    /// The dead letters to replay
    #[arg(value_name = "ID")]
    ids: Vec<Id>,
    #[command(flatten)]
    filter: Filter,
    #[command(flatten)]
    period: Period,
    /// Replay all that were not replayed yet; needed where neither ids nor conditions are given
    #[arg(long)]
    all: bool,
    /// Say what would go where, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// At most so many: 10/s, 300/m or 20/h
    #[arg(long, value_name = "RATE", value_parser = Rate::parse)]
    rate: Option<Rate>,
}

/// The most that goes into one transaction.
const BATCH_MAX: usize = 500;
const BATCH_BYTES_MAX: usize = 4 * 1024 * 1024;
/// How much of a rate's time one transaction may stand for, in microseconds.
const BATCH_TIME: i64 = 100_000;
/// No topic that we read holds larger records.
const RECORD_MAX: usize = 100_000_000;

/// What goes back to a topic.
#[derive(Debug, PartialEq, Eq)]
struct Back {
    topic: String,
    key: Vec<u8>,
    value: Option<Vec<u8>>,
    headers: Vec<(&'static str, String)>,
    /// What is other than it was.
    change: Option<String>,
}

/// Which dead letter goes back: its id, and when it was written, which together are no other's.
#[derive(Debug, Clone, Copy)]
struct Replayable {
    id: Id,
    /// Epoch milliseconds.
    written_at: i64,
}

impl Replayable {
    fn of(letter: &Letter) -> Self {
        Self {
            id: letter.id,
            written_at: letter.record.timestamp,
        }
    }
}

struct Replaying<'r> {
    look: Look<'r>,
    /// `None` for a dry run.
    together: Option<Together>,
    rate: Option<Rate>,
    /// The rate lets nothing start before this.
    next_at: Instant,
    replayed: Replayed,
    rules: OnceCell<Rules>,
    batch: Vec<(Replayable, Vec<Back>)>,
    inlets: Inlets<'r>,
    count: usize,
    left: usize,
    refused: usize,
}

pub(super) fn run(look: Look<'_>, replay: &Replay) -> Result<(), CliError> {
    let by_condition = !(replay.filter.is_whole() && replay.period.is_whole());
    match (replay.ids.is_empty(), by_condition, replay.all) {
        (true, false, false) => {
            return Err(CliError::Invalid(
                "which dead letters? give their ids, or a condition such as --reason gave_up, or --all".to_owned(),
            ));
        }
        (false, true, _) | (false, _, true) => {
            return Err(CliError::Invalid(
                "ids stand alone: leave out the conditions and --all, or the ids".to_owned(),
            ));
        }
        _ => {}
    }
    let open = (!replay.dry_run).then(|| Together::open(look.config, "replay", RECORD_MAX));
    let mut replaying = Replaying {
        look,
        together: open.transpose().map_err(failed)?,
        rate: replay.rate,
        next_at: Instant::now(),
        // Only now, when no other replay can write any more.
        replayed: Replayed::read(look)?,
        rules: OnceCell::new(),
        batch: Vec::new(),
        inlets: Inlets::new(look.config),
        count: 0,
        left: 0,
        refused: 0,
    };
    let mut absent: BTreeSet<Id> = replay.ids.iter().copied().collect();
    if replay.ids.is_empty() {
        look.through_period(&look.config.topics.dead_letters, replay.period, |record| {
            let letter = Letter::of(record, look.config);
            if replay.filter.holds(&letter) {
                replaying.take(&letter)?;
            }
            Ok(true)
        })?;
    } else {
        by_ids(look, &replay.ids, |letter| {
            absent.remove(&letter.id);
            replaying.take(&letter)?;
            Ok(true)
        })?;
    }
    replaying.commit()?;
    let Replaying {
        count, left, refused, ..
    } = replaying;
    let verb = if replay.dry_run {
        "would be replayed"
    } else {
        "replayed"
    };
    eprintln!("{count} {verb}, {left} left as they are because they were replayed before");
    if !absent.is_empty() {
        return Err(missing(look, &Vec::from_iter(absent)));
    }
    match refused {
        0 => Ok(()),
        refused => Err(CliError::failed(format!("{refused} could not be replayed"))),
    }
}

fn failed(fault: Fault) -> CliError {
    CliError::failed(match fault {
        Fault::Fatal { fenced: true, .. } => {
            "another replay has begun and took over; what this one printed as replayed is".to_owned()
        }
        fault => format!("the rest was not replayed: {fault}; run the command again, which leaves out what was"),
    })
}

impl Replaying<'_> {
    fn take(&mut self, letter: &Letter) -> Result<(), CliError> {
        if self.replayed.contains(letter) {
            self.left += 1;
            return Ok(());
        }
        let refused_credential = letter.reason() == Some(Reason::CredentialRefused);
        if refused_credential && self.rules.get().is_none() {
            let rules = rules::log(self.look.config)?.snapshot();
            self.rules.get_or_init(|| rules);
        }
        let whole = match letter.needs_header() {
            Some(why) => Err(why),
            None => letter.whole(self.look)?,
        };
        let back = match whole {
            Err(why) => Err(why),
            Ok(letter) => self.back(&letter)?,
        };
        match back {
            Ok(back) => {
                // One id given twice is one replay.
                self.replayed.insert(letter);
                self.batch.push((Replayable::of(letter), back));
            }
            Err(why) => self.refuse(letter.id, &why),
        }
        let bytes: usize = self
            .batch
            .iter()
            .flat_map(|(_, back)| back)
            .map(|back| back.value.as_ref().map_or(0, Vec::len))
            .sum();
        if self.batch.len() >= batch_max(self.rate) || bytes >= BATCH_BYTES_MAX {
            self.commit()?;
        }
        Ok(())
    }

    /// What becomes of a letter that is whole; the inner error says why nothing does.
    fn back(&mut self, letter: &Letter) -> Result<Result<Vec<Back>, String>, CliError> {
        match letter.inlet_names(self.look.config) {
            names if names.is_empty() => Ok(back(letter, self.look.config, self.rules.get()).map(|back| vec![back])),
            names => self.inlets.map_again(letter, &names),
        }
    }

    fn refuse(&mut self, id: Id, why: &str) {
        eprintln!("{id}: not replayed: {}", plain(why));
        self.refused += 1;
    }

    /// Writes what was gathered, and prints it once Kafka has it.
    fn commit(&mut self) -> Result<(), CliError> {
        let mut batch = std::mem::take(&mut self.batch);
        if batch.is_empty() {
            return Ok(());
        }
        self.wait()?;
        let dry_run = self.together.is_none();
        if let Some(together) = &mut self.together {
            let mut refused = Vec::new();
            write_parts(together, self.look.config, &batch, &mut refused).map_err(failed)?;
            for (id, why) in refused {
                batch.retain(|(other, _)| other.id != id);
                self.refuse(id, &why);
            }
        }
        if let Some(rate) = self.rate.filter(|_| !dry_run) {
            let spacing = u64::try_from(rate.spacing()).unwrap_or_default();
            self.next_at = Instant::now() + Duration::from_micros(spacing) * u32::try_from(batch.len()).unwrap_or(1);
        }
        self.count += batch.len();
        for (Replayable { id, .. }, back) in &batch {
            // What an inlet maps again may be several events, which all go to one topic.
            let back = &back[0];
            print(&match self.look.json {
                true => json!({
                    "id": id.to_string(), "replayed": !dry_run, "topic": back.topic,
                    "key": String::from_utf8_lossy(&back.key), "change": back.change,
                })
                .to_string(),
                false => {
                    let verb = if dry_run { "would go" } else { "replayed" };
                    let change = back
                        .change
                        .as_ref()
                        .map_or(String::new(), |change| format!(", {change}"));
                    plain(&format!("{id}: {verb} to {}{change}", back.topic))
                }
            })?;
        }
        Ok(())
    }

    /// Until the rate lets the next ones go.
    fn wait(&self) -> Result<(), CliError> {
        loop {
            let wait = self.next_at.saturating_duration_since(Instant::now());
            if wait.is_zero() {
                return Ok(());
            }
            if *self.look.stop.borrow() {
                return Err(CliError::failed("stopped; run the command again to replay the rest"));
            }
            std::thread::sleep(wait.min(Duration::from_millis(100)));
        }
    }
}

/// How many go at once, so that their rate is even to a tenth of a second.
fn batch_max(rate: Option<Rate>) -> usize {
    let at_once = rate.map_or(BATCH_MAX as i64, |rate| BATCH_TIME / rate.spacing().max(1));
    usize::try_from(at_once).unwrap_or(1).clamp(1, BATCH_MAX)
}

/// Writes a batch. What Kafka refuses for its size or its content is found by halving and left, each with why.
fn write_parts(
    together: &mut Together,
    config: &Config,
    batch: &[(Replayable, Vec<Back>)],
    refused: &mut Vec<(Id, String)>,
) -> Result<(), Fault> {
    match (write(together, config, batch), batch) {
        (Err(Fault::Refused { message, .. }), [(letter, _)]) => {
            together.abort()?;
            refused.push((letter.id, format!("{message}; raise its max.message.bytes")));
            Ok(())
        }
        (Err(Fault::Refused { .. }), _) => {
            together.abort()?;
            let (first, second) = batch.split_at(batch.len() / 2);
            write_parts(together, config, first, refused)?;
            write_parts(together, config, second, refused)
        }
        (done, _) => done,
    }
}

fn write(together: &mut Together, config: &Config, batch: &[(Replayable, Vec<Back>)]) -> Result<(), Fault> {
    for back in batch.iter().flat_map(|(_, back)| back) {
        let headers = back.headers.iter().map(|(name, text)| (*name, text.as_str()));
        together.write(&Record {
            topic: &back.topic,
            partition: None,
            key: &back.key,
            value: back.value.as_deref(),
            headers: crate::kafka::headers(headers),
        })?;
    }
    let (ids, times): (Vec<String>, Vec<i64>) = batch
        .iter()
        .map(|(letter, _)| (letter.id.to_string(), letter.written_at))
        .unzip();
    let audit = json!({"who": who(), "when": time_text(now_millis()), "replayed": ids, "written_at": times});
    let audit = audit.to_string();
    together.write(&Record {
        topic: &config.topics.audit,
        partition: None,
        // A rule's id is never empty.
        key: b"",
        value: Some(audit.as_bytes()),
        headers: crate::kafka::headers([]),
    })?;
    together.commit()
}

/// What a dead letter becomes again. `rules` are those in force, for a credential that was refused.
fn back(letter: &Letter, config: &Config, rules: Option<&Rules>) -> Result<Back, String> {
    let source = letter.header("source-topic").unwrap_or_default();
    let kept = ["event-id", "rule-id", "job-id", "traceparent"].into_iter();
    let kept = kept.filter_map(|name| Some((name, letter.header(name)?.to_owned())));
    let mut headers: Vec<(&'static str, String)> = kept.collect();
    headers.push(("replay-of", letter.id.to_string()));
    let record = &letter.record;
    let mut back = Back {
        topic: source.to_owned(),
        key: record.key.clone().unwrap_or_default(),
        value: record.value.clone(),
        headers,
        change: None,
    };
    if source == config.topics.events {
        // Other rules had their jobs from the event.
        if let Some(rule) = letter.header("rule-id") {
            back.headers.push(("only-rule", rule.to_owned()));
            back.change = Some(format!("for rule {rule} alone"));
        }
        return Ok(back);
    }
    if source != config.topics.jobs {
        return Err(format!(
            "it came from {source:?}, and only what came from {}, {} or an inlet of the configuration can be put back; \
             send it again at its source",
            config.topics.events, config.topics.jobs
        ));
    }
    let refused = letter.reason() == Some(Reason::CredentialRefused);
    if let (Some(job), Some(rules), true) = (&letter.job, rules, refused) {
        let now = rules
            .get(&job.rule_id)
            .and_then(|versioned| readdress(job, &versioned.rule));
        if let Some(now) = now {
            back.change = Some(format!("with {} in place of {}", now.credential, job.credential));
            back.key = now.credential.clone().into_bytes();
            back.value = Some(now.encode());
        }
    }
    Ok(back)
}

#[cfg(test)]
mod tests;
