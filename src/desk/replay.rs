//! Replay: dead letters go back where they came from.
//!
//! A record that goes back and its mark in the audit are one transaction, so that a crash neither replays twice nor
//! forgets. One replay runs at a time: the next one ends it before it reads the audit.
//!
//! [`run`] drives a replay to its end. What it needs from outside of the topics it asks its caller for: a schema of the
//! registry, the largest record that the events' topic takes, and the patience that a rate asks for.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use super::Error;
use super::dead_letters::{self, Filter, Id, Letter, Replayed};
use super::rules::Whole;
use super::scan::{Period, Scanner};
use crate::config::Config;
use crate::dates::Rate;
use crate::delivery::plan::readdress;
use crate::kafka::reader;
use crate::kafka::together::Together;
use crate::kafka::{Fault, OWN_VERSION, VERSION};
use crate::lead::schemas::{SchemaId, Schemas};
use crate::reason::Reason;
use crate::rules::log::Rules;

mod inlets;
pub mod job;
mod write;

/// The most that goes into one transaction.
const BATCH_MAX: usize = 500;
const BATCH_BYTES_MAX: usize = 4 * 1024 * 1024;
/// How much of a rate's time one transaction may stand for, in microseconds.
const BATCH_TIME: i64 = 100_000;
/// How long a replay that ended without a word may hide what others write to the same topics.
const OPEN_MAX: Duration = Duration::from_secs(10);
/// No topic that we read holds larger records.
const RECORD_MAX: usize = 100_000_000;

/// The dead letters to replay, and how.
#[derive(Debug, Clone)]
pub struct Request {
    pub which: Which,
    /// Says what would go where, and changes nothing.
    pub dry_run: bool,
    /// At most so many.
    pub rate: Option<Rate>,
    /// The actor, for the audit.
    pub who: String,
}

/// Which dead letters are to be replayed.
#[derive(Debug, Clone)]
pub enum Which {
    Ids(Vec<Id>),
    Matching(Filter, Period),
}

/// What a replay needs from outside of the topics.
pub trait Outside {
    /// Looks a schema up, and puts the registry's answer into `schemas`.
    fn schema(&mut self, id: SchemaId, schemas: &mut Schemas) -> Result<(), Error>;

    /// The largest record that the events' topic takes, in bytes.
    fn event_max(&mut self) -> Result<usize, Error>;

    /// Returns once so much time has passed.
    fn wait(&mut self, wait: Duration) -> Result<(), Error>;
}

/// The fate of a dead letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// It went back, or would in a dry run.
    Back(Went),
    /// It can't be put back.
    Refused { id: Id, why: String },
}

/// Replays dead letters, and tells the fate of each. `now` gives the wall clock's time, in epoch milliseconds. An error
/// ends the replay: only the letters that [`Fate::Back`] named have gone back.
pub fn run<E: From<Error>>(
    scanner: Scanner<'_>,
    request: &Request,
    outside: &mut dyn Outside,
    now: fn() -> i64,
    mut tell: impl FnMut(Fate) -> Result<(), E>,
) -> Result<Summary, E> {
    let mut replay = begin(scanner, request)?;
    while let Some(progress) = replay.next(now()) {
        match progress? {
            Progress::Fate(fate) => tell(fate)?,
            Progress::Wait(wait) => outside.wait(wait)?,
            Progress::NeedsSchema(id) => outside.schema(id, &mut replay.schemas)?,
            Progress::NeedsEventMax => replay.event_max = Some(outside.event_max()?),
        }
    }
    Ok(replay.end())
}

/// The next step of a replay.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Progress {
    Fate(Fate),
    /// The rate lets nothing go before so much time has passed.
    Wait(Duration),
    /// The schema is to be looked up, and its answer put into the schemas.
    NeedsSchema(SchemaId),
    NeedsEventMax,
}

/// Where a dead letter went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Went {
    pub id: Id,
    pub topic: String,
    pub key: Vec<u8>,
    /// The part that is other than it was.
    pub change: Option<String>,
}

/// The result of a replay.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    pub replayed: usize,
    /// The letters that were replayed before.
    pub left: usize,
    pub refused: usize,
    /// The ids that were asked for and aren't there.
    pub absent: Vec<Id>,
}

impl Summary {
    /// Refuses ids that aren't there.
    pub fn all_there(&self, config: &Config) -> Result<(), Error> {
        match self.absent.is_empty() {
            true => Ok(()),
            false => Err(dead_letters::missing(config, &self.absent)),
        }
    }
}

/// A record that goes back to a topic.
#[derive(Debug, PartialEq, Eq)]
struct Back {
    topic: String,
    key: Vec<u8>,
    value: Option<Vec<u8>>,
    headers: Vec<(&'static str, String)>,
    change: Option<String>,
}

/// A dead letter that goes back.
#[derive(Debug)]
struct Going {
    id: Id,
    /// With the id no other dead letter's; epoch milliseconds.
    written_at: i64,
    /// Several where an inlet makes more than one event of it, all of one topic.
    back: Vec<Back>,
}

/// Why a dead letter doesn't go back, now or at all.
#[derive(Debug)]
enum Halt {
    Refused(String),
    Needs(Progress),
    Failed(Error),
}

impl From<Error> for Halt {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

type Letters<'r> = Box<dyn Iterator<Item = Result<Letter, Error>> + 'r>;

struct Replay<'r> {
    scanner: Scanner<'r>,
    who: String,
    rate: Option<Rate>,
    /// `None` for a dry run.
    together: Option<Together>,
    letters: Letters<'r>,
    /// One that waits for what it needs.
    held: Option<Letter>,
    ended: bool,
    replayed: Replayed,
    /// The rules in force, once they are needed.
    rules: Option<Rules>,
    schemas: Schemas,
    event_max: Option<usize>,
    batch: Vec<Going>,
    bytes: usize,
    /// The wait that the rate asks for before the next transaction.
    owed: Duration,
    progress: VecDeque<Progress>,
    absent: BTreeSet<Id>,
    summary: Summary,
}

/// Begins a replay, which ends one that is under way.
fn begin<'r>(scanner: Scanner<'r>, request: &'r Request) -> Result<Replay<'r>, Error> {
    let config = scanner.config;
    let open = (!request.dry_run).then(|| Together::open(config, "replay", RECORD_MAX, OPEN_MAX));
    let together = open.transpose().map_err(failed)?;
    // Also a writer of rules that ended without a word may hide what earlier replays say of themselves.
    reader::settled(config, &config.topics.audit).map_err(Error::Unavailable)?;
    // Only now, when no other replay can write any more.
    let replayed = Replayed::read(scanner)?;
    let letters: Letters<'r> = match &request.which {
        Which::Ids(ids) => Box::new(dead_letters::by_ids(scanner, ids)?),
        Which::Matching(filter, period) => Box::new(dead_letters::list(scanner, *period, filter)?),
    };
    Ok(Replay::over(scanner, request, together, replayed, letters))
}

fn failed(fault: Fault) -> Error {
    match fault {
        Fault::Fatal { fenced: true, .. } => {
            Error::conflict("another replay has begun and took over; what this one printed as replayed is")
        }
        fault => Error::Unavailable(format!(
            "the rest was not replayed; run the command again, which leaves out what was: {fault}"
        )),
    }
}

impl<'r> Replay<'r> {
    fn over(
        scanner: Scanner<'r>,
        request: &Request,
        together: Option<Together>,
        replayed: Replayed,
        letters: Letters<'r>,
    ) -> Self {
        let asked: &[Id] = match &request.which {
            Which::Ids(ids) => ids,
            Which::Matching(..) => &[],
        };
        Self {
            scanner,
            who: request.who.clone(),
            rate: request.rate,
            together,
            letters,
            held: None,
            ended: false,
            replayed,
            rules: None,
            schemas: Schemas::foreign(),
            event_max: None,
            batch: Vec::new(),
            bytes: 0,
            owed: Duration::ZERO,
            progress: VecDeque::new(),
            absent: asked.iter().copied().collect(),
            summary: Summary::default(),
        }
    }

    /// The next step; `None` is the end. `now` is the wall clock's, in epoch milliseconds.
    fn next(&mut self, now: i64) -> Option<Result<Progress, Error>> {
        loop {
            if let Some(progress) = self.progress.pop_front() {
                return Some(Ok(progress));
            }
            match self.go_on(now) {
                Ok(true) => {}
                Ok(false) => return None,
                Err(error) => {
                    self.ended = true;
                    self.batch.clear();
                    return Some(Err(error));
                }
            }
        }
    }

    fn end(self) -> Summary {
        Summary {
            absent: self.absent.into_iter().collect(),
            ..self.summary
        }
    }

    /// Takes in the next dead letter, or writes those that were gathered; says whether there may be more.
    fn go_on(&mut self, now: i64) -> Result<bool, Error> {
        let full = self.batch.len() >= batch_max(self.rate) || self.bytes >= BATCH_BYTES_MAX;
        if full || (self.ended && !self.batch.is_empty()) {
            match std::mem::take(&mut self.owed) {
                Duration::ZERO => self.commit(now)?,
                wait => self.progress.push_back(Progress::Wait(wait)),
            }
            return Ok(true);
        }
        if self.ended {
            return Ok(false);
        }
        let Some(letter) = self.held.take().map(Ok).or_else(|| self.letters.next()) else {
            self.ended = true;
            return Ok(true);
        };
        let letter = letter?;
        self.absent.remove(&letter.id);
        if self.replayed.contains(&letter) {
            self.summary.left += 1;
            return Ok(true);
        }
        match self.back(&letter, now) {
            Ok(back) => {
                // One id given twice is one replay.
                self.replayed.insert(&letter);
                self.bytes += back.iter().map(Back::size).sum::<usize>();
                self.batch.push(Going {
                    id: letter.id,
                    written_at: letter.record.timestamp,
                    back,
                });
            }
            Err(Halt::Refused(why)) => self.refuse(letter.id, why),
            Err(Halt::Needs(need)) => {
                self.held = Some(letter);
                self.progress.push_back(need);
            }
            Err(Halt::Failed(error)) => return Err(error),
        }
        Ok(true)
    }

    /// The record that a dead letter becomes again.
    fn back(&mut self, letter: &Letter, now: i64) -> Result<Vec<Back>, Halt> {
        if let Some(why) = letter.needs_header() {
            return Err(Halt::Refused(why));
        }
        if letter.reason() == Some(Reason::CredentialRefused) && self.rules.is_none() {
            self.rules = Some(Whole::read(self.scanner.config)?.rules);
        }
        let whole = match letter.whole(self.scanner) {
            Err(Error::NotFound(why)) => return Err(Halt::Refused(why)),
            whole => whole?,
        };
        match whole.inlet_names(self.scanner.config) {
            names if names.is_empty() => Ok(vec![back(&whole, self.scanner.config, self.rules.as_ref())?]),
            names => self.map_again(&whole, &names, now),
        }
    }

    fn refuse(&mut self, id: Id, why: String) {
        self.summary.refused += 1;
        self.progress.push_back(Progress::Fate(Fate::Refused { id, why }));
    }

    /// Writes what was gathered, and says so once Kafka has it.
    fn commit(&mut self, now: i64) -> Result<(), Error> {
        let mut batch = std::mem::take(&mut self.batch);
        self.bytes = 0;
        if let Some(together) = &mut self.together {
            let mut refused = Vec::new();
            let audit = write::Audit { who: &self.who, now };
            write::write(together, self.scanner.config, audit, &batch, &mut refused).map_err(failed)?;
            for (id, why) in refused {
                batch.retain(|going| going.id != id);
                self.refuse(id, why);
            }
            let spacing = self.rate.map_or(0, |rate| rate.spacing().unsigned_abs());
            self.owed = Duration::from_micros(spacing) * u32::try_from(batch.len()).unwrap_or(1);
        }
        self.summary.replayed += batch.len();
        self.progress.extend(batch.into_iter().filter_map(|going| {
            let back = going.back.into_iter().next()?;
            Some(Progress::Fate(Fate::Back(Went {
                id: going.id,
                topic: back.topic,
                key: back.key,
                change: back.change,
            })))
        }));
        Ok(())
    }
}

impl Back {
    fn size(&self) -> usize {
        self.value.as_ref().map_or(0, Vec::len)
    }
}

impl std::fmt::Debug for Replay<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Replay")
            .field("summary", &self.summary)
            .finish_non_exhaustive()
    }
}

/// How many go at once, so that their rate is even to a tenth of a second.
fn batch_max(rate: Option<Rate>) -> usize {
    let at_once = rate.map_or(BATCH_MAX as i64, |rate| BATCH_TIME / rate.spacing().max(1));
    usize::try_from(at_once).unwrap_or(1).clamp(1, BATCH_MAX)
}

/// The record that a dead letter becomes again. `rules` are those in force, for a credential that was refused.
fn back(letter: &Letter, config: &Config, rules: Option<&Rules>) -> Result<Back, Halt> {
    let source = letter.header("source-topic").unwrap_or_default();
    // A job keeps its bytes, and so the version that wrote them.
    let kept = ["event-id", "rule-id", "job-id", "traceparent", VERSION].into_iter();
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
        return Err(Halt::Refused(format!(
            "it came from {source:?}, and only what came from {}, {} or an inlet of the configuration can be put back; \
             send it again at its source",
            config.topics.events, config.topics.jobs
        )));
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
            back.headers.retain(|(name, _)| *name != VERSION);
            back.headers.push((VERSION, OWN_VERSION.to_owned()));
        }
    }
    Ok(back)
}

#[cfg(test)]
mod tests;
