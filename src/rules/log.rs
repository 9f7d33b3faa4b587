//! The state of the rules topic: which version of which rule is in force.
//!
//! [`RuleLog::apply`] takes records in the order of their offsets. A record that is no valid rule stops nothing: the
//! last good version stays in force, and the rejection stays beside it until a good record or a tombstone takes its
//! place. No record is applied twice, and no reason quotes a record's content.
//!
//! A record may also be a cancel mark, which ends the waiting jobs of its rule's earlier versions. Marks stay when the
//! rule changes or goes, because its old jobs may still wait.
//!
//! [Control records](super::control) stand in the same topic. They are no rules, and their last good one counts too.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;

use serde_json::Value;

use super::control::{self, Control, Controls};
use super::index::RuleIndex;
use super::index::upkeep::{Merge, Merged, Upkeep};
use super::{Rule, Status, Versioned};
use crate::lead::asked::Asked;
use crate::reader::Problem;

/// The header by which a record of the topic is a cancel mark; its value is then `true`.
pub const CANCEL_WAITING: &str = "cancel-waiting";

/// The most problems of a record that are reported.
const TOLD_MAX: usize = 10;

/// Everything read from the topic so far. Of each rule in force it keeps an `R`: the rule itself, or what its reader
/// needs of very many.
#[derive(Debug)]
pub struct RuleLog<R: Keep = Arc<Versioned>> {
    entries: BTreeMap<Arc<str>, Entry<R>>,
    /// What is made of the rules in force, beside them.
    index: R::Index,
    cancelled: Arc<HashMap<Arc<str>, Cancel>>,
    since: Arc<HashMap<Arc<str>, Vec<i64>>>,
    controls: Controls,
    /// How many rules in force have the status active.
    active: usize,
    /// What the rules that were ever in force ask for: a field more costs little, and counting who asks costs more.
    asked: Asked,
    /// Above every offset that was applied.
    next_offset: i64,
}

/// The state of one rule id: a version in force, a rejected record, or both.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry<R = Arc<Versioned>> {
    pub in_force: Option<R>,
    /// Few have one.
    pub rejected: Option<Box<Rejection>>,
}

/// What is kept of a rule in force.
pub trait Keep: Sized {
    /// What its reader makes of all rules in force.
    type Index: Default + fmt::Debug;

    /// Of a rule, and of the text of the JSON that it was written as.
    fn of(versioned: Versioned, written: &str) -> Self;
    fn version(&self) -> i64;
    fn status(&self) -> Status;

    /// Another rule is in force under an id, or none any more.
    fn changed(index: &mut Self::Index, id: &Arc<str>, rule: Option<&Self>);
}

impl Keep for Arc<Versioned> {
    type Index = Upkeep;

    fn of(versioned: Versioned, _written: &str) -> Self {
        Arc::new(versioned)
    }

    fn version(&self) -> i64 {
        self.version
    }

    fn status(&self) -> Status {
        self.rule.status
    }

    fn changed(index: &mut Upkeep, id: &Arc<str>, rule: Option<&Self>) {
        index.put(Arc::clone(id), rule.cloned());
    }
}

impl Default for RuleLog {
    fn default() -> Self {
        Self::new()
    }
}

impl<R> Default for Entry<R> {
    fn default() -> Self {
        Self {
            in_force: None,
            rejected: None,
        }
    }
}

/// A record that is no valid rule, or no valid control record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    pub offset: i64,
    pub reason: Reason,
    /// Where and how to mend it.
    pub detail: String,
}

/// Why a record was rejected; a metric label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    NoKey,
    NotJson,
    InvalidRule,
    IdMismatch,
    InvalidControl,
}

/// A mark by which the waiting jobs of a rule end: those of versions below `offset`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cancel {
    /// The offset of the record that carries the mark.
    pub offset: i64,
    /// When that was written, epoch milliseconds. What a person replays later isn't meant.
    pub at: i64,
}

/// The change that a record made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Applied {
    /// The rules or the orders in force are others now.
    Changed,
    Unchanged,
    Rejected(Rejection),
}

/// The rules in force at one moment.
#[derive(Debug, Default)]
pub struct Rules {
    /// Every rule in force, the paused ones among them.
    pub index: RuleIndex,
    /// The fields of events that any of the rules looks at.
    pub asked: Asked,
    /// By rule id, the latest cancel mark; of rules that are gone too.
    pub cancelled: Arc<HashMap<Arc<str>, Cancel>>,
    /// Of rules with a mark, the offsets of their records from the mark on.
    since: Arc<HashMap<Arc<str>, Vec<i64>>>,
    /// What is ordered of lanes, credentials and all sending.
    pub controls: Controls,
    /// How many have the status active.
    pub active: usize,
    /// The offset of the last record that was read; -1 before the first.
    pub version: i64,
}

impl<R: Keep> RuleLog<R> {
    /// Of a topic of which nothing was read.
    pub fn new() -> Self {
        Self {
            entries: BTreeMap::new(),
            index: R::Index::default(),
            cancelled: Arc::default(),
            since: Arc::default(),
            controls: Controls::default(),
            active: 0,
            asked: Asked::least(),
            next_offset: 0,
        }
    }

    pub fn apply(&mut self, offset: i64, key: Option<&[u8]>, value: Option<&[u8]>) -> Applied {
        if offset < self.next_offset {
            return Applied::Unchanged;
        }
        self.next_offset = offset + 1;
        let Some(key) = key else {
            let detail = "the record has no key; its key is the rule's id".into();
            return Applied::Rejected(Rejection {
                offset,
                reason: Reason::NoKey,
                detail,
            });
        };
        let id = String::from_utf8_lossy(key);
        if let Some(lane) = control::lane_of(&id) {
            return self.control(offset, lane, value);
        }
        if self.since.contains_key(&*id) {
            Arc::make_mut(&mut self.since)
                .entry(id.as_ref().into())
                .or_default()
                .push(offset);
        }
        let Some(value) = value.filter(|value| !value.is_empty()) else {
            return self.put_out(&id);
        };
        match read(&id, value) {
            Ok((rule, written)) => {
                let id = Arc::clone(&rule.id);
                self.asked.and(&rule.asks());
                let in_force = R::of(Versioned { rule, version: offset }, written);
                self.put_in(id, in_force);
                Applied::Changed
            }
            Err((reason, detail)) => {
                let rejection = Rejection { offset, reason, detail };
                self.entries.entry(id.as_ref().into()).or_default().rejected = Some(Box::new(rejection.clone()));
                Applied::Rejected(rejection)
            }
        }
    }

    fn put_in(&mut self, id: Arc<str>, rule: R) {
        R::changed(&mut self.index, &id, Some(&rule));
        self.active += usize::from(rule.status() == Status::Active);
        let entry = self.entries.entry(id).or_default();
        let before = entry.in_force.replace(rule);
        entry.rejected = None;
        self.active -= usize::from(before.is_some_and(|before| before.status() == Status::Active));
    }

    fn put_out(&mut self, id: &str) -> Applied {
        let removed = self.entries.remove_entry(id);
        let Some((id, Some(before))) = removed.map(|(id, entry)| (id, entry.in_force)) else {
            return Applied::Unchanged;
        };
        R::changed(&mut self.index, &id, None);
        self.active -= usize::from(before.status() == Status::Active);
        Applied::Changed
    }

    fn control(&mut self, offset: i64, lane: &str, value: Option<&[u8]>) -> Applied {
        let ordered = match value.filter(|value| !value.is_empty()) {
            None => Ok(None),
            Some(value) => json(value, "order it again").and_then(|(written, _)| {
                let read = Control::read(&written).map_err(|detail| (Reason::InvalidControl, detail));
                read.map(Some)
            }),
        };
        match ordered {
            Ok(control) => match self.controls.put(lane, control) {
                true => Applied::Changed,
                false => Applied::Unchanged,
            },
            Err((reason, detail)) => Applied::Rejected(Rejection { offset, reason, detail }),
        }
    }

    /// Takes in a record's cancel mark; says whether it is news.
    pub fn cancel(&mut self, id: &str, mark: Cancel) -> bool {
        let known = self.cancelled.get(id).map(|known| known.offset);
        let news = known.is_none_or(|known| known < mark.offset);
        if news {
            Arc::make_mut(&mut self.cancelled).insert(id.into(), mark);
            Arc::make_mut(&mut self.since).insert(id.into(), Vec::new());
        }
        news
    }

    /// The topic was made anew, and is read from its beginning. What was cancelled stays so, by its time:
    /// a mark's offset was one of the old topic. Of orders the new topic alone tells.
    pub fn start_over(&mut self) {
        for (id, _) in std::mem::take(&mut self.entries) {
            R::changed(&mut self.index, &id, None);
        }
        self.active = 0;
        self.controls = Controls::default();
        self.asked = Asked::least();
        self.next_offset = 0;
        let marks = Arc::make_mut(&mut self.cancelled).values_mut();
        marks.for_each(|mark| mark.offset = -1);
        Arc::make_mut(&mut self.since).values_mut().for_each(Vec::clear);
    }

    /// The offset that the next record has at the least.
    pub fn next_offset(&self) -> i64 {
        self.next_offset
    }

    /// Every id with its entry, by id.
    pub fn list(&self) -> impl Iterator<Item = (&str, &Entry<R>)> + Clone {
        self.entries.iter().map(|(id, entry)| (&**id, entry))
    }

    /// How many ids have one.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub fn entry(&self, id: &str) -> Option<&Entry<R>> {
        self.entries.get(id)
    }

    /// What is kept of the rule in force, to be added to.
    pub fn in_force_mut(&mut self, id: &str) -> Option<&mut R> {
        self.entries.get_mut(id)?.in_force.as_mut()
    }

    /// The same, with the id as the log has it.
    pub fn entry_of(&self, id: &str) -> Option<(&str, &Entry<R>)> {
        let (id, entry) = self.entries.get_key_value(id)?;
        Some((id, entry))
    }

    /// What is ordered of lanes, credentials and all sending.
    pub fn controls(&self) -> &Controls {
        &self.controls
    }
}

impl RuleLog {
    /// The same, for those who ask for rules by their ids and match no event.
    pub fn by_id_alone() -> Self {
        Self {
            index: Upkeep::by_id_alone(),
            ..Self::new()
        }
    }

    /// The rules in force, ready to be asked. It costs what the changes since the last one cost.
    pub fn snapshot(&mut self) -> Rules {
        Rules {
            index: self.index.index(),
            asked: self.asked,
            cancelled: Arc::clone(&self.cancelled),
            since: Arc::clone(&self.since),
            controls: self.controls.clone(),
            active: self.active,
            version: self.next_offset - 1,
        }
    }

    /// Work on the index that is due, for a thread that nobody waits for.
    pub fn merge(&mut self) -> Option<Merge> {
        self.index.merge()
    }

    /// Takes the result in; says whether the next snapshot is another one by it.
    pub fn merged(&mut self, merged: Merged) -> bool {
        self.index.merged(merged)
    }

    /// Lets go of what earlier snapshots alone held.
    pub fn let_go(&mut self) {
        self.index.let_go();
    }
}

impl Rules {
    /// The version of a rule that is in force, paused or not.
    pub fn get(&self, rule_id: &str) -> Option<&Arc<Versioned>> {
        self.index.get(rule_id)
    }

    /// Whether a waiting job of a rule is to end: the rule's mark came after the version that made the job,
    /// or, where that is no version of this topic, after the job. `written_at` in epoch milliseconds; a time that nobody
    /// knows ends nothing. A version that is [unread](Self::is_unread) counts as none of this topic.
    pub fn is_cancelled(&self, rule_id: &str, version: i64, written_at: Option<i64>) -> bool {
        let is_known = || self.since.get(rule_id).is_some_and(|since| since.contains(&version));
        self.cancelled.get(rule_id).is_some_and(|mark| {
            version < mark.offset || written_at.is_some_and(|written_at| written_at <= mark.at) && !is_known()
        })
    }

    /// Whether a rule has a mark and a version is above all that was read: a newer one than this process knows yet, or one
    /// of a topic that is gone. Only reading on shows which.
    pub fn is_unread(&self, rule_id: &str, version: i64) -> bool {
        let may_be_newer = || self.cancelled.get(rule_id).is_some_and(|mark| version >= mark.offset);
        version > self.version && may_be_newer()
    }

    /// The rules that send.
    pub fn sending(&self) -> impl Iterator<Item = &Rule> {
        let rules = self.index.rules().map(|versioned| &versioned.rule);
        rules.filter(|rule| rule.status == Status::Active)
    }

    /// The id of the credential that the rule in force names; `None` where no such rule is.
    pub fn credential(&self, rule_id: &str) -> Option<String> {
        Some(self.get(rule_id)?.rule.action.kind.address().credential)
    }
}

impl<R: Keep> Entry<R> {
    pub fn status(&self) -> Option<Status> {
        Some(self.in_force.as_ref()?.status())
    }

    pub fn version(&self) -> Option<i64> {
        Some(self.in_force.as_ref()?.version())
    }
}

impl Reason {
    pub const ALL: [Reason; 5] = [
        Reason::NoKey,
        Reason::NotJson,
        Reason::InvalidRule,
        Reason::IdMismatch,
        Reason::InvalidControl,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Reason::NoKey => "no_key",
            Reason::NotJson => "not_json",
            Reason::InvalidRule => "invalid_rule",
            Reason::IdMismatch => "id_mismatch",
            Reason::InvalidControl => "invalid_control",
        }
    }
}

fn json<'v>(value: &'v [u8], cure: &str) -> Result<(Value, &'v str), (Reason, String)> {
    let not_json = |why: String| (Reason::NotJson, format!("{why}; {cure}"));
    let text = std::str::from_utf8(value)
        .map_err(|error| not_json(format!("no UTF-8 from byte {} on", error.valid_up_to() + 1)))?;
    let written = serde_json::from_str(text).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        not_json(format!("no JSON from line {line}, column {column} on"))
    })?;
    Ok((written, text))
}

fn read<'v>(id: &str, value: &'v [u8]) -> Result<(Rule, &'v str), (Reason, String)> {
    let (written, text) = json(value, "write the rule again")?;
    let rule = Rule::from_json(&written).map_err(|problems| (Reason::InvalidRule, in_one_line(&problems)))?;
    if *rule.id != *id {
        return Err((
            Reason::IdMismatch,
            "id: differs from the record's key; write the rule under its own id".into(),
        ));
    }
    Ok((rule, text))
}

/// The first problems; who wrote the rule sees all of them with `leadlane rules validate`.
fn in_one_line(problems: &[Problem]) -> String {
    let mut line = problems
        .iter()
        .take(TOLD_MAX)
        .map(Problem::to_string)
        .collect::<Vec<_>>()
        .join("; ");
    if let Some(more) = problems.len().checked_sub(TOLD_MAX).filter(|more| *more > 0) {
        line.push_str(&format!("; and {more} problems more"));
    }
    line
}

#[cfg(test)]
mod tests;
