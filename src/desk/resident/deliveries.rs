//! Every match and what became of it: one entry a job, folded from the jobs and their outcomes.
//!
//! Jobs and outcomes are read by two threads, and in any order. The fold is the same whichever comes first: where a
//! job stands follows from its newest record and the outcomes alone. The oldest go when there are too many.
//!
//! An entry keeps where its job and its outcomes are, so that its whole life is read again by place.

use std::collections::HashMap;

use uuid::Uuid;

use super::counts::Counts;
use super::ids::{Ids, Which};
use super::names::Names;
use crate::delivery::{DeliveryJob, Outcome, OutcomeResult};
use crate::desk::deliveries::Stands;
use crate::desk::page::Place;

mod look;
mod order;
mod table;

pub use look::{Asked, Shadowed};
use table::{Link, Table};

/// A match and what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// When its job was written, and where; of a match that never was a job, its outcome.
    pub place: Place,
    /// The job's id.
    pub id: String,
    pub event_id: String,
    pub lead_id: String,
    pub rule_id: String,
    pub lane: String,
    pub stands: Stands,
    pub attempts: u16,
    /// When its last attempt ended, epoch milliseconds.
    pub ended_at: Option<i64>,
    /// Somebody sent it as a test.
    pub is_test: bool,
}

/// Where a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Spot {
    pub partition: i32,
    pub offset: i64,
}

/// Where the records of one job are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Records {
    pub job: Option<Spot>,
    /// In no order that counts.
    pub outcomes: Vec<Spot>,
}

/// How a record of a job or an outcome was read.
#[derive(Debug, Clone, Copy)]
pub struct Read {
    pub spot: Spot,
    /// When it was written, epoch milliseconds.
    pub written_at: i64,
    /// It is of a test that somebody sent, and so no match.
    pub is_test: bool,
    /// It is a job that somebody put back, and so no match of its own.
    pub is_replay: bool,
}

#[derive(Debug)]
pub struct Deliveries {
    most: usize,
    table: Table,
    rules: Names,
    lanes: Names,
    /// Where the outcomes behind the first are, of those that have more than one.
    further: HashMap<u32, Vec<Spot>>,
    counts: Counts,
    /// The time of the youngest that had to go.
    gone: Option<i64>,
}

#[derive(Debug)]
struct Entry {
    ids: Ids,
    id: [u8; 16],
    at: i64,
    /// Of the outcome that says where it stands.
    ended_at: i64,
    job_offset: i64,
    outcome_offset: i64,
    /// -1 where there is no such record.
    job_partition: i32,
    outcome_partition: i32,
    rule: u32,
    lane: u32,
    links: [Link; 2],
    attempts: u16,
    result: Option<OutcomeResult>,
    marks: u8,
}

/// The record of its newest job was read.
const SEEN: u8 = 1;
/// An outcome is about its newest job.
const TRIED: u8 = 2;
const TEST: u8 = 4;

impl Entry {
    fn is(&self, mark: u8) -> bool {
        self.marks & mark != 0
    }

    fn mark(&mut self, mark: u8, is: bool) {
        self.marks = if is { self.marks | mark } else { self.marks & !mark };
    }

    fn job(&self) -> Option<Spot> {
        spot(self.job_partition, self.job_offset)
    }

    fn outcome(&self) -> Option<Spot> {
        spot(self.outcome_partition, self.outcome_offset)
    }

    /// Its job was read, and hasn't ended.
    fn is_open(&self) -> bool {
        let has_ended = matches!(self.stands(), Stands::Is(result) if result.is_final());
        self.is(SEEN) && !has_ended
    }

    fn place(&self) -> Place {
        let spot = self.job().or(self.outcome());
        Place {
            at: self.at,
            partition: spot.map_or(-1, |spot| spot.partition),
            offset: spot.map_or(-1, |spot| spot.offset),
        }
    }

    fn stands(&self) -> Stands {
        use OutcomeResult::{Cancelled, Dead, Expired, Shadowed, Skipped};
        match self.result {
            None => Stands::Waiting,
            Some(Cancelled | Dead | Expired | Shadowed | Skipped) if !self.is(TRIED) => Stands::Waiting,
            Some(result) => Stands::Is(result),
        }
    }

    /// Whether another job of its id was written after its newest so far.
    fn is_newer(&self, other: Spot, at: i64) -> bool {
        let Some(known) = self.job() else { return true };
        if known.partition == other.partition {
            return other.offset > known.offset;
        }
        at > if self.is(SEEN) { self.at } else { self.ended_at }
    }

    /// Whether an outcome is about a job that is newer, and whose record wasn't read yet.
    fn is_behind(&self, job: Spot, ended_at: i64) -> bool {
        let here = self.job().is_none_or(|known| known.partition == job.partition);
        // Across partitions the record of the job says more than an outcome of it, which may be late.
        (here || !self.is(SEEN)) && self.is_newer(job, ended_at)
    }

    fn take_job(&mut self, job: Spot, seen: bool, tried: bool) {
        (self.job_partition, self.job_offset) = (job.partition, job.offset);
        self.mark(SEEN, seen);
        self.mark(TRIED, tried);
    }

    /// Whether an outcome says more about where it stands than the one before. A repeat that was left out says nothing
    /// about the job that was sent.
    fn is_told_by(&self, outcome: &Outcome, ended_at: i64) -> bool {
        let is_repeat = |result| result == OutcomeResult::Duplicate;
        match self.result {
            None => true,
            Some(result) if is_repeat(result) != is_repeat(outcome.result) => is_repeat(result),
            Some(_) => ended_at >= self.ended_at,
        }
    }
}

fn spot(partition: i32, offset: i64) -> Option<Spot> {
    (partition >= 0).then_some(Spot { partition, offset })
}

/// What a new entry is made of.
struct New<'n> {
    event_id: &'n str,
    lead_id: &'n str,
    rule_id: &'n str,
    lane: &'n str,
    at: i64,
}

impl Deliveries {
    /// At most so many.
    pub fn new(most: usize) -> Self {
        Self {
            most: most.max(1),
            table: Table::default(),
            rules: Names::default(),
            lanes: Names::default(),
            further: HashMap::new(),
            counts: Counts::default(),
            gone: None,
        }
    }

    pub fn len(&self) -> usize {
        self.table.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes in a job.
    pub fn job(&mut self, job: &DeliveryJob, read: Read, now: i64) {
        let at = super::written_at(read.written_at, now);
        if !read.is_test && !read.is_replay {
            self.counts.matched(&job.rule_id, at);
        }
        let new = New {
            event_id: &job.event_id,
            lead_id: &job.lead_id,
            rule_id: &job.rule_id,
            lane: &job.lane(),
            at,
        };
        let Some((slot, is_new)) = self.slot(&job.job_id, &new) else {
            return;
        };
        if !is_new {
            self.table.take_out(slot);
        }
        let entry = self.table.get_mut(slot);
        entry.mark(TEST, entry.is(TEST) || read.is_test);
        let is_known = entry.job() == Some(read.spot);
        if is_known && entry.is(SEEN) || !is_known && !entry.is_newer(read.spot, at) {
            self.table.put_in(slot);
            return;
        }
        let lane = self.lanes.hold(new.lane);
        let entry = self.table.get_mut(slot);
        let was_open = entry.is_open();
        // Whoever puts a job back does it once the one before has ended.
        let tried = if is_known {
            entry.is(TRIED)
        } else {
            entry.ended_at >= at
        };
        entry.take_job(read.spot, true, tried);
        entry.at = at;
        let ended_at = (!entry.is_open()).then_some(entry.ended_at);
        // Put back, it may go to another credential.
        self.lanes.release(std::mem::replace(&mut entry.lane, lane));
        self.counts.waits(at, 1 - i32::from(was_open));
        ended_at.into_iter().for_each(|at| self.counts.waits(at, -1));
        self.table.put_in(slot);
        self.let_go();
    }

    /// Takes in an outcome.
    pub fn outcome(&mut self, outcome: &Outcome, read: Read, now: i64) {
        let ended_at = super::written_at(outcome.ended_at, now);
        let job = outcome.job_partition.zip(outcome.job_offset);
        let job = job.and_then(|(partition, offset)| spot(partition, offset));
        if !read.is_test {
            // The processor settles matches that never were jobs.
            if job.is_none() {
                self.counts.matched(&outcome.rule_id, ended_at);
            }
            if matches!(outcome.result, OutcomeResult::Sent | OutcomeResult::Digested) {
                self.counts.sent(&outcome.rule_id, ended_at);
            }
        }
        let new = New {
            event_id: &outcome.event_id,
            lead_id: &outcome.lead_id,
            rule_id: &outcome.rule_id,
            lane: &outcome.lane,
            at: ended_at,
        };
        let Some((slot, is_new)) = self.slot(&outcome.job_id, &new) else {
            return;
        };
        if !is_new {
            self.table.take_out(slot);
        }
        let entry = self.table.get_mut(slot);
        let behind = job.filter(|job| entry.is_behind(*job, ended_at));
        let was_open = entry.is_open();
        entry.mark(TEST, entry.is(TEST) || read.is_test);
        if let Some(job) = behind {
            entry.take_job(job, false, true);
            entry.at = ended_at;
        }
        let is_of_it = job == entry.job();
        entry.mark(TRIED, entry.is(TRIED) || is_of_it);
        // Without the record of its job, outcomes say when an entry is.
        if !entry.is(SEEN) {
            entry.at = entry.at.min(ended_at);
        }
        if entry.is_told_by(outcome, ended_at) {
            (entry.result, entry.ended_at) = (Some(outcome.result), ended_at);
        }
        if was_open && !entry.is_open() {
            self.counts.waits(ended_at, -1);
        }
        entry.attempts = entry.attempts.max(u16::try_from(outcome.attempt).unwrap_or_default());
        match entry.outcome() {
            None => {
                let Spot { partition, offset } = read.spot;
                (entry.outcome_partition, entry.outcome_offset) = (partition, offset);
            }
            Some(first) if first == read.spot => {}
            Some(_) => {
                let further = self.further.entry(slot).or_insert_with(|| Vec::with_capacity(1));
                further.push(read.spot);
            }
        }
        self.table.put_in(slot);
        self.let_go();
    }

    /// The slot of a job, which is made where there is none, and whether it was; `None` for an id that no job of ours has.
    fn slot(&mut self, job_id: &str, new: &New<'_>) -> Option<(u32, bool)> {
        let id = *Uuid::try_parse(job_id).ok()?.as_bytes();
        let known = self.table.find(&id).map(|slot| (slot, false));
        Some(known.unwrap_or_else(|| {
            let entry = Entry {
                ids: Ids::of(new.event_id, new.lead_id),
                id,
                at: new.at,
                ended_at: i64::MIN,
                job_offset: -1,
                outcome_offset: -1,
                job_partition: -1,
                outcome_partition: -1,
                rule: self.rules.hold(new.rule_id),
                lane: self.lanes.hold(new.lane),
                links: [Link::FREE; 2],
                attempts: 0,
                result: None,
                marks: 0,
            };
            (self.table.insert(entry), true)
        }))
    }

    /// The oldest go, as long as there are too many.
    fn let_go(&mut self) {
        while self.table.len() > self.most
            && let Some(slot) = self.table.oldest()
        {
            let Entry { at, rule, lane, .. } = *self.table.get(slot);
            self.table.remove(slot);
            self.further.remove(&slot);
            self.rules.release(rule);
            self.lanes.release(lane);
            self.gone = self.gone.max(Some(at));
        }
    }
}

#[cfg(test)]
mod tests;
