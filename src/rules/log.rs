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
use std::sync::Arc;

use super::control::{self, Control, Controls};
use super::index::upkeep::{Merge, Merged, Upkeep};
use super::index::{Finds, Lists, RuleIndex};
use super::{Rule, Status, Versioned};
use crate::lead::asked::Asked;
use read::json;

mod read;

pub use read::{Read, RuleReader};

/// The header by which a record of the topic is a cancel mark; its value is then `true`.
pub const CANCEL_WAITING: &str = "cancel-waiting";

/// Everything read from the topic so far. Of each rule in force it keeps an `R`: the rule itself, or what its reader
/// needs of very many. An `I` is made of them beside.
#[derive(Debug)]
pub struct RuleLog<R = Arc<Versioned>, I = Upkeep> {
    entries: BTreeMap<Arc<str>, Entry<R>>,
    index: I,
    cancelled: Arc<HashMap<Arc<str>, Cancel>>,
    since: Arc<HashMap<Arc<str>, Vec<i64>>>,
    controls: Controls,
    /// How many rules in force have the status active.
    active: usize,
    /// What the rules that were ever in force ask for: a field more costs little, and counting who asks costs more.
    asked: Asked,
    /// Above every offset that was applied.
    next_offset: i64,
    reader: RuleReader,
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
    /// Of a rule, and of the JSON that it was written as.
    fn of(versioned: Versioned, written: &[u8]) -> Self;
    fn version(&self) -> i64;
    fn status(&self) -> Status;
}

/// What follows the rules in force.
pub trait Follow<R> {
    /// Another rule is in force under an id, or none any more.
    fn put(&mut self, id: &Arc<str>, rule: Option<&R>);
}

impl<F: Finds> Follow<Arc<Versioned>> for Upkeep<F> {
    fn put(&mut self, id: &Arc<str>, rule: Option<&Arc<Versioned>>) {
        Upkeep::put(self, Arc::clone(id), rule.cloned());
    }
}

impl<R> Follow<R> for () {
    fn put(&mut self, _id: &Arc<str>, _rule: Option<&R>) {}
}

impl Keep for Arc<Versioned> {
    fn of(versioned: Versioned, _written: &[u8]) -> Self {
        Arc::new(versioned)
    }

    fn version(&self) -> i64 {
        self.version
    }

    fn status(&self) -> Status {
        self.rule.status
    }
}

impl Default for RuleLog {
    fn default() -> Self {
        Self::of(Upkeep::default())
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

/// The rules in force at one moment. Those with `()` are found by their ids alone.
#[derive(Debug, Default)]
pub struct Rules<F = Lists> {
    /// Every rule in force, the paused ones among them.
    pub index: RuleIndex<F>,
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

impl<R: Keep, I: Follow<R>> RuleLog<R, I> {
    /// Of a topic of which nothing was read.
    pub fn of(index: I) -> Self {
        Self {
            entries: BTreeMap::new(),
            index,
            cancelled: Arc::default(),
            since: Arc::default(),
            controls: Controls::default(),
            active: 0,
            asked: Asked::least(),
            next_offset: 0,
            reader: RuleReader::default(),
        }
    }

    pub fn apply(&mut self, offset: i64, key: Option<&[u8]>, value: Option<&[u8]>) -> Applied {
        let read = self.reader.read(key, value);
        self.apply_read(offset, key, value, read)
    }

    /// The same of a record that was read before.
    pub fn apply_read(&mut self, offset: i64, key: Option<&[u8]>, value: Option<&[u8]>, Read(read): Read) -> Applied {
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
        match read {
            None => self.put_out(&id),
            Some(Ok(rule)) => {
                let id = Arc::clone(&rule.id);
                rule.ask(&mut self.asked);
                let in_force = R::of(Versioned { rule, version: offset }, value.unwrap_or_default());
                self.put_in(id, in_force);
                Applied::Changed
            }
            Some(Err((reason, detail))) => {
                let rejection = Rejection { offset, reason, detail };
                self.entries.entry(id.as_ref().into()).or_default().rejected = Some(Box::new(rejection.clone()));
                Applied::Rejected(rejection)
            }
        }
    }

    fn put_in(&mut self, id: Arc<str>, rule: R) {
        self.index.put(&id, Some(&rule));
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
        self.index.put(&id, None);
        self.active -= usize::from(before.status() == Status::Active);
        Applied::Changed
    }

    fn control(&mut self, offset: i64, lane: &str, value: Option<&[u8]>) -> Applied {
        let ordered = match value.filter(|value| !value.is_empty()) {
            None => Ok(None),
            Some(value) => json(value, "order it again").and_then(|written| {
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
            self.index.put(&id, None);
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

impl<F: Finds> RuleLog<Arc<Versioned>, Upkeep<F>> {
    /// The rules in force, ready to be asked. It costs what the changes since the last one cost.
    pub fn snapshot(&mut self) -> Rules<F> {
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
    pub fn merge(&mut self) -> Option<Merge<F>> {
        self.index.merge()
    }

    /// Takes the result in; says whether the next snapshot is another one by it.
    pub fn merged(&mut self, merged: Merged<F>) -> bool {
        self.index.merged(merged)
    }

    /// Lets go of what earlier snapshots alone held.
    pub fn let_go(&mut self) {
        self.index.let_go();
    }
}

impl<F> Rules<F> {
    /// The same rules, to be found by their ids alone.
    pub fn by_id(&self) -> Rules<()> {
        Rules {
            index: self.index.by_id(),
            asked: self.asked,
            cancelled: Arc::clone(&self.cancelled),
            since: Arc::clone(&self.since),
            controls: self.controls.clone(),
            active: self.active,
            version: self.version,
        }
    }

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

#[cfg(test)]
mod tests;
