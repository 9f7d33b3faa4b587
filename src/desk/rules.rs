//! The rules: look at them, check a text, and in [`mod@write`] put rules in force.
//!
//! A [`View`] of the rules topic answers all of it. [`View::scan`] reads a fresh one; a caller that asks often keeps
//! one and gives it each new record.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use serde_json::Value;

use super::{Error, Problem};
use crate::action::ActionType;
use crate::config::Config;
use crate::delivery::lane_of;
use crate::kafka::reader::{Record, Tail, Went};
use crate::rules::log::{self, Keep, Rejection, RuleLog, Rules};
use crate::rules::{Level, Rule, Scope, Status, Versioned, check};
use crate::yaml;

mod draft;
pub mod kept;
pub mod write;

pub use draft::{Draft, NO_RULE, place, read, tell_apart};

/// The rules topic as far as it was read. Of each rule it keeps the text, and what lists show.
#[derive(Debug)]
pub struct View {
    log: RuleLog<Stored, ()>,
    /// By record key, the last record, where that is no rule in force: a deletion, what was rejected, an order.
    last: HashMap<Box<str>, Last>,
    /// How many rules in force there are of each trigger.
    triggers: BTreeMap<Arc<str>, usize>,
    /// The ids under which a later record is no valid rule.
    rejected: BTreeSet<Box<str>>,
}

/// What a view keeps of a rule in force. A process that has very many reads the rest from the text when it is asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct Stored {
    version: i64,
    /// When it was written, epoch milliseconds.
    at: i64,
    /// Shared with who reads it piece by piece while rules change.
    written: Arc<str>,
    summary: Summary,
}

/// What lists show of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    pub name: Option<Box<str>>,
    pub status: Status,
    pub scope: Scope,
    /// Rules share it.
    pub trigger: Arc<str>,
    pub action: ActionType,
    /// Where its jobs go, as far as the rule alone says it.
    pub lane: Box<str>,
}

impl Summary {
    pub fn of(rule: &Rule) -> Self {
        Self {
            name: rule.name.clone(),
            status: rule.status,
            scope: rule.scope.clone(),
            trigger: Arc::clone(&rule.trigger),
            action: rule.action.kind.action(),
            lane: lane_of(rule.action.kind.action(), &rule.action.kind.address()).into(),
        }
    }
}

impl Keep for Stored {
    fn of(versioned: Versioned, written: &[u8]) -> Self {
        Self {
            version: versioned.version,
            at: 0,
            written: String::from_utf8_lossy(written).into(),
            summary: Summary::of(&versioned.rule),
        }
    }

    fn version(&self) -> i64 {
        self.version
    }

    fn status(&self) -> Status {
        self.summary.status
    }
}

type Entry = log::Entry<Stored>;

/// Where a record stands, and when it was written, epoch milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Last {
    pub offset: i64,
    pub changed_at: i64,
}

impl Default for View {
    fn default() -> Self {
        Self {
            log: RuleLog::of(()),
            last: HashMap::new(),
            triggers: BTreeMap::new(),
            rejected: BTreeSet::new(),
        }
    }
}

impl View {
    /// Reads the topic to its end.
    pub fn scan(config: &Config) -> Result<Self, Error> {
        let mut view = Self::default();
        Tail::open(config, &config.topics.rules)
            .and_then(|mut tail| tail.read(|record| view.take(&record)))
            .map_err(Error::Unavailable)?;
        Ok(view)
    }

    /// Takes in the topic's next record.
    pub fn take(&mut self, record: &Record) {
        if record.offset < self.log.next_offset() {
            return;
        }
        let key = record.key.as_deref().map(String::from_utf8_lossy);
        let before = key.as_deref().and_then(|id| self.trigger(id));
        self.log
            .apply(record.offset, record.key.as_deref(), record.value.as_deref());
        let Some(id) = key else { return };
        match self.log.entry(&id).is_some_and(|entry| entry.rejected.is_some()) {
            true => self.rejected.insert((*id).into()),
            false => self.rejected.remove(&*id),
        };
        match self
            .log
            .in_force_mut(&id)
            .filter(|stored| stored.version == record.offset)
        {
            Some(stored) => {
                stored.at = record.timestamp;
                stored.summary.trigger = one_more(&mut self.triggers, &stored.summary.trigger);
                self.last.remove(&*id);
            }
            None => {
                let last = Last {
                    offset: record.offset,
                    changed_at: record.timestamp,
                };
                self.last.insert((*id).into(), last);
                // What was rejected leaves the rule as it was.
                if self.version(&id).is_some() {
                    return;
                }
            }
        }
        before
            .into_iter()
            .for_each(|trigger| one_less(&mut self.triggers, &trigger));
    }

    fn trigger(&self, id: &str) -> Option<Arc<str>> {
        let stored = self.log.entry(id)?.in_force.as_ref()?;
        Some(Arc::clone(&stored.summary.trigger))
    }

    /// The ids under which a later record is no valid rule.
    pub fn rejected(&self) -> impl ExactSizeIterator<Item = &str> {
        self.rejected.iter().map(|id| &**id)
    }

    pub fn is_rejected(&self, id: &str) -> bool {
        self.rejected.contains(id)
    }

    /// How many rules are in force.
    pub fn in_force(&self) -> usize {
        self.triggers.values().sum()
    }

    /// The triggers of the rules in force, in order.
    pub fn triggers(&self) -> impl Iterator<Item = &str> {
        self.triggers.keys().map(|trigger| &**trigger)
    }

    /// How many rules in force are of a trigger.
    pub fn of_trigger(&self, trigger: &str) -> usize {
        self.triggers.get(trigger).copied().unwrap_or_default()
    }

    /// What is in force, and what was rejected.
    pub fn log(&self) -> &RuleLog<Stored, ()> {
        &self.log
    }

    /// The version of a rule that is in force.
    pub fn version(&self, id: &str) -> Option<i64> {
        self.log.entry(id)?.version()
    }

    /// The record that a rule stands by: of the version in force; where none is, the last, which deleted it.
    pub fn last(&self, id: &str) -> Option<Last> {
        let in_force = self.log.entry(id).and_then(|entry| entry.in_force.as_ref());
        let of_version = in_force.map(|stored| Last {
            offset: stored.version,
            changed_at: stored.at,
        });
        of_version.or_else(|| self.last.get(id).copied())
    }

    /// When the last record of a rule came, a deletion and one that was rejected too; epoch milliseconds.
    pub fn changed_at(&self, id: &str) -> Option<i64> {
        let last = self.last.get(id).copied().or_else(|| self.last(id));
        Some(last?.changed_at)
    }

    /// The rule as it was written, where one is in force.
    fn written(&self, id: &str) -> Option<Value> {
        Some(get(self, id).ok()?.json())
    }
}

/// Counts a rule of a trigger, and gives the name that its rules share.
fn one_more(triggers: &mut BTreeMap<Arc<str>, usize>, trigger: &Arc<str>) -> Arc<str> {
    let shared = triggers
        .get_key_value(trigger)
        .map_or(trigger, |(shared, _)| shared)
        .clone();
    *triggers.entry(Arc::clone(&shared)).or_default() += 1;
    shared
}

fn one_less(triggers: &mut BTreeMap<Arc<str>, usize>, trigger: &Arc<str>) {
    if let Some(count) = triggers.get_mut(trigger) {
        *count -= 1;
        if *count == 0 {
            triggers.remove(trigger);
        }
    }
}

/// What [`list`] gives: rules that meet every condition given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    pub level: Option<Level>,
    pub scope_id: Option<String>,
    pub trigger: Option<String>,
    pub action: Option<ActionType>,
    pub status: Option<Status>,
    /// Stands in the id or the name, whatever its case.
    pub text: Option<String>,
}

/// What stands under a rule's id.
#[derive(Debug, Clone)]
pub struct Listed<'v> {
    pub id: &'v str,
    /// The rule in force and its JSON; none where all that stands there was rejected.
    pub in_force: Option<InForce<'v>>,
    /// A later record that is no valid rule.
    pub rejected: Option<&'v Rejection>,
    /// What may not be written like that any more, and stays in force.
    pub warnings: Vec<Problem>,
    /// When the last record came, epoch milliseconds.
    pub changed_at: i64,
}

/// A rule in force.
#[derive(Debug, Clone, Copy)]
pub struct InForce<'v> {
    pub id: &'v str,
    pub rule: &'v Summary,
    pub version: i64,
    /// When that was written, epoch milliseconds.
    pub at: i64,
    /// The text of its JSON.
    pub written: &'v Arc<str>,
}

impl InForce<'_> {
    /// The rule as it was written.
    pub fn json(&self) -> Value {
        parsed(self.written)
    }

    /// The whole rule, read from its text again.
    pub fn whole(&self) -> Option<Versioned> {
        Some(Versioned {
            rule: Rule::from_json(&self.json()).ok()?,
            version: self.version,
        })
    }
}

impl Filter {
    /// `text` is its own in small letters.
    fn holds(&self, text: Option<&str>, id: &str, entry: &Entry) -> bool {
        let rule = in_force(id, entry).map(|in_force| in_force.rule);
        let is =
            |wanted: &Option<String>, found: Option<&str>| wanted.as_deref().is_none_or(|wanted| found == Some(wanted));
        let has = |text: &str| {
            let names = [Some(id), rule.and_then(|rule| rule.name.as_deref())];
            names.into_iter().flatten().any(|name| has_folded(name, text))
        };
        let level = rule.map(|rule| rule.scope.level);
        let action = rule.map(|rule| rule.action);
        self.level.is_none_or(|wanted| level == Some(wanted))
            && is(&self.scope_id, rule.map(|rule| rule.scope.id.as_deref().unwrap_or("*")))
            && is(&self.trigger, rule.map(|rule| &*rule.trigger))
            && self.action.is_none_or(|wanted| action == Some(wanted))
            && self
                .status
                .is_none_or(|wanted| rule.map(|rule| rule.status) == Some(wanted))
            && text.is_none_or(has)
    }
}

/// Whether a name has a text, which is in small letters, whatever the name's own case.
fn has_folded(name: &str, text: &str) -> bool {
    if !name.is_ascii() {
        return name.to_lowercase().contains(text);
    }
    let (name, text) = (name.as_bytes(), text.as_bytes());
    let Some((first, rest)) = text.split_first() else {
        return true;
    };
    let is_behind = |behind: &[u8]| {
        behind
            .get(..rest.len())
            .is_some_and(|found| found.eq_ignore_ascii_case(rest))
    };
    let mut begins = name
        .iter()
        .enumerate()
        .filter(|(_, byte)| byte.to_ascii_lowercase() == *first);
    begins.any(|(at, _)| is_behind(&name[at + 1..]))
}

/// What stands on the topic and meets the filter, by id.
pub fn list<'v>(view: &'v View, filter: &'v Filter) -> impl Iterator<Item = Listed<'v>> {
    asked(view, filter).map(|(id, entry)| listed(view, id, entry))
}

/// The ids that meet the filter, in order, each with what is in force under it.
pub fn find<'v>(view: &'v View, filter: &'v Filter) -> impl Iterator<Item = (&'v str, Option<InForce<'v>>)> {
    asked(view, filter).map(|(id, entry)| (id, in_force(id, entry)))
}

fn asked<'v>(view: &'v View, filter: &'v Filter) -> impl Iterator<Item = (&'v str, &'v Entry)> {
    let text = filter.text.as_deref().map(str::to_lowercase);
    let all = view.log.list();
    all.filter(move |(id, entry)| filter.holds(text.as_deref(), id, entry))
}

/// What stands under one id.
pub fn one<'v>(view: &'v View, id: &str) -> Option<Listed<'v>> {
    let (id, entry) = view.log.entry_of(id)?;
    Some(listed(view, id, entry))
}

/// The rule that is in force under an id.
pub fn get<'v>(view: &'v View, id: &str) -> Result<InForce<'v>, Error> {
    let entry = view.log.entry_of(id);
    let found = entry.and_then(|(id, entry)| in_force(id, entry));
    found.ok_or_else(|| missing(id))
}

/// Every rule in force, by id.
pub fn every(view: &View) -> impl Iterator<Item = InForce<'_>> + Clone {
    view.log.list().filter_map(|(id, entry)| in_force(id, entry))
}

/// A rule as YAML.
pub fn text(written: &Value) -> String {
    yaml::write(written)
}

/// Some rules as YAML documents, as they are put in force again: those of one moment, in pieces of whole documents,
/// because very many are a long text.
#[derive(Debug)]
pub struct Texts {
    written: std::vec::IntoIter<Arc<str>>,
    has_begun: bool,
}

/// About how long a piece of [`Texts`] is, bytes.
const PIECE: usize = 64 * 1024;

impl Texts {
    pub fn of<'v>(rules: impl Iterator<Item = InForce<'v>>) -> Self {
        let written: Vec<Arc<str>> = rules.map(|rule| Arc::clone(rule.written)).collect();
        Self {
            written: written.into_iter(),
            has_begun: false,
        }
    }
}

impl Iterator for Texts {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        let mut piece = String::new();
        while piece.len() < PIECE
            && let Some(written) = self.written.next()
        {
            if std::mem::replace(&mut self.has_begun, true) {
                piece.push_str("---\n");
            }
            piece.push_str(&text(&parsed(&written)));
        }
        (!piece.is_empty()).then_some(piece)
    }
}

/// A rule's text, which was read as JSON before it was kept.
fn parsed(written: &str) -> Value {
    serde_json::from_str(written).unwrap_or_default()
}

/// The rules in force, whole, as processors and senders have them. They can be read on.
pub(super) struct Whole {
    tail: Tail,
    log: RuleLog,
    pub(super) rules: Rules,
}

impl Whole {
    pub(super) fn read(config: &Config) -> Result<Self, Error> {
        let mut tail = Tail::open(config, &config.topics.rules).map_err(Error::Unavailable)?;
        let mut log = RuleLog::default();
        took(&mut tail, &mut log)?;
        let rules = log.snapshot();
        Ok(Self { tail, log, rules })
    }

    pub(super) fn read_on(&mut self, config: &Config) -> Result<(), Error> {
        match took(&mut self.tail, &mut self.log)? {
            (Went::Anew, _) => *self = Self::read(config)?,
            (Went::On, true) => self.rules = self.log.snapshot(),
            (Went::On, false) => {}
        }
        Ok(())
    }
}

/// Takes in what came, and says whether anything did.
fn took(tail: &mut Tail, log: &mut RuleLog) -> Result<(Went, bool), Error> {
    let mut any = false;
    let went = tail.read(|record| {
        any = true;
        log.apply(record.offset, record.key.as_deref(), record.value.as_deref());
    });
    Ok((went.map_err(Error::Unavailable)?, any))
}

/// No rule has the id.
pub fn missing(id: &str) -> Error {
    Error::NotFound(format!(
        "there is no rule {id} in force; leadlane rules list shows those that are"
    ))
}

fn in_force<'v>(id: &'v str, entry: &'v Entry) -> Option<InForce<'v>> {
    let stored = entry.in_force.as_ref()?;
    Some(InForce {
        id,
        rule: &stored.summary,
        version: stored.version,
        at: stored.at,
        written: &stored.written,
    })
}

fn listed<'v>(view: &'v View, id: &'v str, entry: &'v Entry) -> Listed<'v> {
    let in_force = in_force(id, entry);
    let refusals = in_force.map(|in_force| check::refusals(&in_force.json()));
    Listed {
        id,
        in_force,
        rejected: entry.rejected.as_deref(),
        warnings: refusals.into_iter().flatten().map(Problem::from).collect(),
        changed_at: view.changed_at(id).unwrap_or_default(),
    }
}

#[cfg(test)]
pub(super) mod tests;
