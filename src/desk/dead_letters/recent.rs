//! Dead letters from memory.

use std::collections::{HashMap, HashSet};

use super::{Id, Letter as Whole, missing};
use crate::desk::Error;
use crate::desk::page::{Page, Place};
use crate::desk::resident::deliveries::Spot;
use crate::desk::resident::letters::Letter;
use crate::desk::resident::{Resident, Topic};
use crate::reason::Reason;

/// Which dead letters are asked for: all conditions must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Asked {
    /// For one of these reasons; none: for any.
    pub reasons: Vec<Reason>,
    pub rule: Option<String>,
    pub lead: Option<String>,
    pub event: Option<String>,
    /// Of jobs for this lane.
    pub lane: Option<String>,
    /// By when they were written, epoch milliseconds.
    pub since: Option<i64>,
    /// Those that were replayed, or those that weren't.
    pub replayed: Option<bool>,
}

impl Asked {
    fn holds(&self, letter: &Letter) -> bool {
        let is = |wanted: &Option<String>, found: &Option<Box<str>>| {
            wanted.is_none() || wanted.as_deref() == found.as_deref()
        };
        (self.reasons.is_empty() || letter.reason.is_some_and(|reason| self.reasons.contains(&reason)))
            && is(&self.rule, &letter.rule_id)
            && is(&self.lead, &letter.lead_id)
            && is(&self.event, &letter.event_id)
            && is(&self.lane, &letter.lane)
            && self.replayed.is_none_or(|replayed| replayed == letter.replayed)
    }
}

/// Dead letters that are asked for, newest first.
pub fn recent(resident: &Resident, asked: &Asked, after: Option<Place>, limit: usize) -> Page<Letter> {
    let letters = resident.letters();
    let since = asked.since.unwrap_or(i64::MIN);
    let behind = letters.newest(after).take_while(|letter| letter.place.at >= since);
    let held = behind.filter(|letter| asked.holds(letter));
    Page::of(held.map(|letter| (letter.place, letter)), limit)
}

/// By reason, how many wait for a person, and when the newest of them came; the most first.
pub fn by_reason(resident: &Resident) -> Vec<(Option<Reason>, u64, i64)> {
    resident.letters().by_reason()
}

/// Those of some ids that are in memory.
pub fn by_ids(resident: &Resident, ids: impl IntoIterator<Item = Id>) -> HashMap<Id, Letter> {
    let ids: HashSet<Id> = ids.into_iter().collect();
    let letters = resident.letters();
    let found = letters.newest(None).filter(|letter| ids.contains(&letter.id));
    found.map(|letter| (letter.id, letter)).collect()
}

/// One dead letter, whole, as its topic holds it.
pub fn one(resident: &Resident, id: Id) -> Result<Whole, Error> {
    let spot = Spot {
        partition: id.partition,
        offset: id.offset,
    };
    let found = resident.pick(Topic::DeadLetters, &[spot])?.pop().flatten();
    let found = found.map(|record| Whole::of(record, resident.config()));
    found.ok_or_else(|| missing(resident.config(), &[id]))
}
