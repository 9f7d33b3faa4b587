//! What the desk keeps in memory of the topics, so that a page is answered at once.
//!
//! Everything here is built from Kafka alone, is bounded, and is there again after a restart: for each topic a
//! [`Follower`] reads back as far as the memory reaches, and then reads on. While Kafka is away, what is there stays,
//! and [`Resident::reach`] says since when it has been out of touch. A topic that was made anew starts over.
//!
//! Memory keeps where a record is rather than the record, but for rules and recent events. A `Picker` reads a record
//! by its place when somebody asks for it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::Error;
use super::backlog::{Fresh, Snapshot};
use super::dead_letters::Id;
use super::lock::{Lock, ReadGuard};
use super::rules::kept::Kept;
use crate::config::Config;
use crate::kafka::place::Places;
use crate::kafka::reader::Record;
use crate::lead::LeadEvent;
use crate::lead::decode::decode;
use crate::lead::schemas::{SchemaId, Schemas};
use audits::Audits;
use counts::{Count, OfRule};
use deliveries::{Deliveries, Spot};
use events::{Events, Recent};
use letters::Letters;

pub mod audits;
pub mod counts;
pub mod deliveries;
pub mod events;
mod follow;
mod ids;
pub mod letters;
mod names;
mod pick;
mod take;

pub use follow::Follower;

/// The topics that are followed, by what they hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Topic {
    Rules,
    Events,
    Jobs,
    Outcomes,
    DeadLetters,
    Audit,
}

/// How far the memory of a topic reaches. Times are in epoch milliseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reach {
    pub topic: Topic,
    /// Everything that was written since then is there; none before anything was read.
    pub since: Option<i64>,
    /// Nothing that the topic holds is left out.
    pub whole: bool,
    /// It was read to the end that the topic had when the reading began.
    pub caught_up: bool,
    /// Kafka has been out of reach since then.
    pub cut_off: Option<CutOff>,
}

/// Kafka is out of reach.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CutOff {
    pub since: i64,
    pub why: String,
}

impl Topic {
    pub const ALL: [Self; 6] = [
        Self::Rules,
        Self::Events,
        Self::Jobs,
        Self::Outcomes,
        Self::DeadLetters,
        Self::Audit,
    ];

    /// Its name in Kafka.
    pub fn name(self, config: &Config) -> &str {
        let topics = &config.topics;
        match self {
            Self::Rules => &topics.rules,
            Self::Events => &topics.events,
            Self::Jobs => &topics.jobs,
            Self::Outcomes => &topics.outcomes,
            Self::DeadLetters => &topics.dead_letters,
            Self::Audit => &topics.audit,
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rules => "rules",
            Self::Events => "events",
            Self::Jobs => "jobs",
            Self::Outcomes => "outcomes",
            Self::DeadLetters => "dead-letters",
            Self::Audit => "audit",
        }
    }
}

/// What happened in all, each step with the time that it begins at, oldest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Charts {
    /// The last hour by the minute.
    pub hour: Vec<(i64, Happened)>,
    /// The last week by the hour; the last 24 of these are the last day.
    pub week: Vec<(i64, Happened)>,
}

/// What happened in a minute or an hour.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Happened {
    pub events: u32,
    pub matched: u32,
    pub sent: u32,
    /// How many more messages waited at its end than at its beginning.
    pub waits: i32,
}

/// Everything that the desk keeps in memory.
pub struct Resident {
    config: Arc<Config>,
    rules: Arc<Kept>,
    events: Lock<Events>,
    schemas: Lock<Schemas>,
    deliveries: Lock<OfEpoch>,
    letters: Lock<Letters>,
    audits: Lock<Audits>,
    standing: Mutex<BTreeMap<&'static str, Standing>>,
    pickers: pick::Pickers,
    backlog: Fresh,
    /// What followers look by whether Kafka is there, and what they read as well: one client for all of them.
    places: Mutex<Option<Arc<Places>>>,
}

/// Deliveries, which jobs and outcomes are read into by two threads. Where one of these topics starts over, both do.
struct OfEpoch {
    epoch: u64,
    deliveries: Deliveries,
    /// Where jobs and outcomes begin, once that is known: with outcomes that begin later, jobs would seem to wait.
    from: Option<Option<i64>>,
}

/// How a topic's reading stands.
#[derive(Debug, Clone, Default)]
struct Standing {
    began: bool,
    from: Option<i64>,
    caught_up: bool,
    cut_off: Option<CutOff>,
}

impl Resident {
    pub fn new(config: Arc<Config>) -> Self {
        let mut schemas = Schemas::new();
        if config.schema_registry.url.is_none() {
            schemas.without_registry();
        }
        Self {
            rules: Arc::default(),
            events: Lock::new(events(&config)),
            schemas: Lock::new(schemas),
            deliveries: Lock::new(OfEpoch {
                epoch: 0,
                deliveries: Deliveries::new(config.admin.deliveries_max),
                from: None,
            }),
            letters: Lock::default(),
            audits: Lock::new(Audits::new(audits::MOST)),
            standing: Mutex::default(),
            pickers: pick::Pickers::default(),
            backlog: Fresh::default(),
            places: Mutex::default(),
            config,
        }
    }

    pub fn config(&self) -> &Arc<Config> {
        &self.config
    }

    /// What reads a topic into the memory. Each topic has one, which a thread of its own has step on and on.
    pub fn follower(self: &Arc<Self>, topic: Topic) -> Follower {
        Follower::new(Arc::clone(self), topic)
    }

    /// The rules, which writers of this process share.
    pub fn rules(&self) -> &Arc<Kept> {
        &self.rules
    }

    /// Who wrote this version of a rule, as far as the audit has it. It is read by another thread than the rules are, and
    /// may be a moment behind them, or before them.
    pub fn author(&self, rule: &str, version: i64) -> Option<String> {
        self.audits.read().author_of(rule, version).map(str::to_owned)
    }

    /// Whether the audit has it that somebody did `what` to a target.
    pub fn has(&self, what: &str, target: &str) -> bool {
        self.audits.read().has(what, target)
    }

    /// How far the memory of a topic reaches.
    pub fn reach(&self, topic: Topic) -> Reach {
        let Standing {
            began,
            from,
            caught_up,
            cut_off,
        } = self.standing().get(topic.as_str()).cloned().unwrap_or_default();
        let (oldest, gone) = match topic {
            Topic::Rules => (None, None),
            Topic::Events => self.events.read().reach(),
            Topic::Jobs | Topic::Outcomes => self.deliveries().reach(),
            Topic::DeadLetters => self.letters.read().reach(),
            Topic::Audit => self.audits.read().reach(),
        };
        Reach {
            topic,
            since: from.max(gone).or(oldest),
            whole: (began || topic == Topic::Rules) && from.is_none() && gone.is_none(),
            caught_up,
            cut_off,
        }
    }

    /// Since when the counts of rules, matches and messages are whole; none where they hold all that the topics do.
    pub fn counted_from(&self) -> Option<i64> {
        self.standing().get(Topic::Jobs.as_str())?.from
    }

    /// The counts of one rule.
    pub fn of_rule(&self, rule: &str, now: i64) -> OfRule {
        self.deliveries().of_rule(rule, now)
    }

    pub fn charts(&self, now: i64) -> Charts {
        let join = |events: Vec<(i64, u32)>, matches: Vec<(i64, Count)>, waits: Vec<(i64, i32)>| {
            let all = events.into_iter().zip(matches).zip(waits);
            let step = |(((at, events), (_, Count { matched, sent })), (_, waits))| {
                let happened = Happened {
                    events,
                    matched,
                    sent,
                    waits,
                };
                (at, happened)
            };
            all.map(step).collect()
        };
        let (events, deliveries) = (self.events.read(), self.deliveries());
        Charts {
            hour: join(
                events.chart().hour(now),
                deliveries.all().hour(now),
                deliveries.waited().hour(now),
            ),
            week: join(
                events.chart().week(now),
                deliveries.all().week(now),
                deliveries.waited().week(now),
            ),
        }
    }

    /// By inlet, its events of the last week by the hour.
    pub fn inlets(&self, now: i64) -> Vec<(String, Vec<(i64, u32)>)> {
        let events = self.events.read();
        events
            .inlets(now)
            .map(|(name, hours)| (name.to_owned(), hours))
            .collect()
    }

    /// Deliveries as they are now. Nothing is taken in as long as somebody looks.
    pub fn deliveries(&self) -> Looking<'_> {
        Looking(self.deliveries.read())
    }

    /// Recent events as they are now, the same.
    pub fn events(&self) -> ReadGuard<'_, Events> {
        self.events.read()
    }

    /// Whether the dead letter of this id that was written then was replayed.
    pub fn is_replayed(&self, id: Id, written_at: i64) -> bool {
        self.letters.read().is_replayed(id, written_at)
    }

    pub(super) fn letters(&self) -> ReadGuard<'_, Letters> {
        self.letters.read()
    }

    pub(super) fn audits(&self) -> ReadGuard<'_, Audits> {
        self.audits.read()
    }

    /// Takes in an event as if it was read of the topic, at `at` in epoch milliseconds.
    #[cfg(test)]
    pub(crate) fn take_event(&self, event: &serde_json::Value, at: i64) {
        let record = Record {
            offset: at,
            timestamp: at,
            value: Some(event.to_string().into_bytes()),
            ..Record::default()
        };
        self.events.write().take(record, &self.schemas.read(), at);
    }

    /// Reads a recent event again.
    pub fn with_event<T>(&self, recent: &Recent, look: impl FnOnce(&LeadEvent<'_>) -> T) -> Result<T, Error> {
        let event = decode(&recent.bytes, &self.schemas.read());
        let event = event.map_err(|error| Error::invalid(error.to_string()))?;
        Ok(look(&event))
    }

    /// The schemas that recent events wait for. Who can ask the registry hands the answers to [`Self::learn`] and
    /// [`Self::deny`].
    pub fn lacking(&self) -> Vec<SchemaId> {
        self.schemas.write().at(Instant::now());
        let schemas = self.schemas.read();
        self.events.read().lacking(&schemas)
    }

    /// Takes a schema, with those that it refers to.
    pub fn learn(&self, id: SchemaId, schema: &str, references: &[String]) {
        let mut schemas = self.schemas.write();
        schemas.learn(id, schema, references);
        self.events.write().read_again(&schemas);
    }

    /// Takes the registry's word that there is no such schema.
    pub fn deny(&self, id: SchemaId, why: &str) {
        self.schemas.write().deny(id, why);
    }

    /// The jobs that wait. What was read of late is given again: within a second, or five times as long as the reading
    /// took.
    pub fn backlog(&self, now: i64) -> Result<Arc<Snapshot>, Error> {
        self.backlog.get(&self.config, now)
    }

    /// The jobs that waited when somebody asked last; none before. Nothing is read for it.
    pub fn last_backlog(&self) -> Option<Arc<Snapshot>> {
        self.backlog.last()
    }

    /// Reads records by their places; none where one isn't there any more.
    pub(super) fn pick(&self, topic: Topic, spots: &[Spot]) -> Result<Vec<Option<Record>>, Error> {
        self.pickers.pick(&self.config, topic.name(&self.config), spots)
    }
}

/// Deliveries as somebody looks at them.
pub struct Looking<'r>(ReadGuard<'r, OfEpoch>);

impl std::ops::Deref for Looking<'_> {
    type Target = Deliveries;

    fn deref(&self) -> &Deliveries {
        &self.0.deliveries
    }
}

/// What followers tell.
impl Resident {
    fn standing(&self) -> MutexGuard<'_, BTreeMap<&'static str, Standing>> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn places(&self) -> Result<Arc<Places>, Error> {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = &*places {
            return Ok(Arc::clone(known));
        }
        let made = Places::new(&self.config).map_err(|error| Error::Unavailable(error.to_string()))?;
        Ok(Arc::clone(places.insert(Arc::new(made))))
    }

    fn stand(&self, topic: Topic, change: impl FnOnce(&mut Standing)) {
        change(self.standing().entry(topic.as_str()).or_default());
    }

    fn began(&self, topic: Topic, from: Option<i64>) {
        self.stand(topic, |standing| {
            (standing.began, standing.from, standing.caught_up) = (true, from, false);
        });
    }

    fn caught_up(&self, topic: Topic, is: bool) {
        self.stand(topic, |standing| standing.caught_up |= is);
    }

    fn in_touch(&self, topic: Topic) {
        let mut back = false;
        self.stand(topic, |standing| back = standing.cut_off.take().is_some());
        if back {
            tracing::info!(kafka.topic = topic.name(&self.config), "the desk reads on");
        }
    }

    fn cut_off(&self, topic: Topic, now: i64, error: &Error) {
        let why = error.to_string();
        let mut news = false;
        self.stand(topic, |standing| {
            news = standing.cut_off.is_none();
            let since = standing.cut_off.as_ref().map_or(now, |cut_off| cut_off.since);
            standing.cut_off = Some(CutOff {
                since,
                why: why.clone(),
            });
        });
        if news {
            tracing::warn!(
                kafka.topic = topic.name(&self.config),
                error = why,
                "the desk is cut off from a topic; it shows what it has, and tries again"
            );
        }
    }

    /// What is read into now.
    fn epoch(&self, topic: Topic) -> u64 {
        match topic {
            Topic::Jobs | Topic::Outcomes => self.deliveries.read().epoch,
            _ => 0,
        }
    }

    /// Where jobs and outcomes begin: as whoever asks first finds out.
    fn deliveries_from(
        &self,
        epoch: u64,
        find: impl FnOnce() -> Result<Option<i64>, Error>,
    ) -> Result<Option<i64>, Error> {
        if let Some(from) = self.deliveries.read().from {
            return Ok(from);
        }
        let found = find()?;
        let mut of_epoch = self.deliveries.write();
        if of_epoch.epoch != epoch {
            return Ok(found);
        }
        Ok(*of_epoch.from.get_or_insert(found))
    }

    /// The topic was made anew.
    fn start_over(&self, topic: Topic) {
        self.stand(topic, |standing| *standing = Standing::default());
        match topic {
            // They are read by another way.
            Topic::Rules => {}
            Topic::Events => *self.events.write() = events(&self.config),
            Topic::Jobs | Topic::Outcomes => {
                let mut of_epoch = self.deliveries.write();
                of_epoch.epoch += 1;
                of_epoch.deliveries = Deliveries::new(self.config.admin.deliveries_max);
                of_epoch.from = None;
            }
            Topic::DeadLetters => self.letters.write().start_over(),
            Topic::Audit => *self.audits.write() = Audits::new(audits::MOST),
        }
    }
}

fn events(config: &Config) -> Events {
    let inlets = config.inlets.iter().map(|inlet| inlet.name.as_str());
    Events::new(config.admin.recent_events, inlets)
}

/// A time that is so much later than it is now was written by a clock that is ahead of ours.
const TO_COME: i64 = 60_000;

/// When a record was written; now, where that is to come. All memory of later times would have to go otherwise.
fn written_at(at: i64, now: i64) -> i64 {
    if at.saturating_sub(TO_COME) > now { now } else { at }
}

impl std::fmt::Debug for Resident {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Resident").finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Looking<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Looking").finish_non_exhaustive()
    }
}
