//! The ledger of one sender: which partitions are ours, what was read of them, what Kafka has yet to acknowledge,
//! and what may be committed.
//!
//! Each time a partition is taken over it gets an [`Ownership`], a number that no other has. Answers, acknowledgements
//! and records carry the number that they began under; those of a former ownership change nothing, since the partition
//! was another sender's in between, or its topic was made anew.
//!
//! A job is settled once Kafka has its final outcome. The committed offset is the lowest unsettled job. A partition may
//! go to another owner when everything that was handed to Kafka for it is acknowledged.
//!
//! Nothing here does I/O or reads a clock: `now` comes with each call, in microseconds of the steady clock.

use std::collections::{BTreeMap, HashMap};

use super::Needs;
use super::lane::JobAt;
use super::limit::Micros;
use super::offsets::{Offsets, Place};
use super::recall::Recalled;
use crate::trail::{Crumb, Look, Trail};

/// One of our ownerships of a partition. A later one is greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ownership(pub u64);

/// A dead letter or an outcome that was handed to Kafka: which job it is of, and who waits for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Posting {
    pub at: JobAt,
    pub ownership: Ownership,
    /// The attempt that counts as in flight until Kafka has the outcome; none where no request was made.
    pub attempt: Option<u64>,
}

/// What a record of the jobs topic is to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Read {
    /// To be accepted.
    New,
    /// To be accepted, though an outcome says that another job stands there: the topic was made anew.
    Another,
    /// It has its final outcome.
    Settled,
    /// It stands before what was read: the topic was made anew, or has lost its end.
    Back,
    /// Its partition is not ours, or goes away.
    NotOurs,
}

impl Read {
    pub fn is_accepted(self) -> bool {
        matches!(self, Self::New | Self::Another)
    }
}

/// Outcomes of a partition that a newer version wrote: how many, and what the first of them needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewerOutcomes {
    pub outcomes: usize,
    pub needs: Needs,
}

/// What to commit of each partition: its place, and the trail of what was read.
pub type Places = BTreeMap<i32, (Place, Trail)>;

#[derive(Debug)]
pub struct Ledger {
    partitions: HashMap<i32, Partition>,
    /// The ownership that was given last.
    latest: Ownership,
    /// Attempts that were answered, and how many of their outcomes Kafka doesn't have yet. Such an attempt counts as in
    /// flight: after a crash it would be made again.
    unacknowledged: HashMap<u64, usize>,
    /// Everything that Kafka doesn't have yet, of whichever ownership.
    posted: usize,
    /// When Kafka last answered, or when an outcome was posted while none waited.
    heard_at: Micros,
    /// The last record that we read of each partition that went away.
    left: HashMap<i32, Crumb>,
}

/// A partition that is ours.
#[derive(Debug)]
struct Partition {
    ownership: Ownership,
    /// When it became ours.
    since: Micros,
    /// It goes away: nothing of it starts any more.
    retired: bool,
    /// Which jobs are settled, once its outcomes are read back.
    book: Option<Book>,
    /// Outcomes of a newer version, for which the book isn't opened yet.
    newer: Option<NewerOutcomes>,
    /// The offsets of the ownership before, while we start over.
    former: Option<Offsets>,
    trail: Trail,
    /// Which record is looked at next.
    look: Look,
    /// It was said already that outcomes are of other jobs than those that are there.
    another_said: bool,
    /// What Kafka doesn't have yet of what was posted.
    unacknowledged: usize,
    /// The offset that was committed last.
    committed: i64,
}

#[derive(Debug)]
struct Book {
    offsets: Offsets,
    recalled: Recalled,
}

impl Default for Ledger {
    fn default() -> Self {
        Self {
            partitions: HashMap::new(),
            latest: Ownership(0),
            unacknowledged: HashMap::new(),
            posted: 0,
            heard_at: Micros::MIN,
            left: HashMap::new(),
        }
    }
}

/// Ownership: partitions that come and go.
impl Ledger {
    /// `partition` is ours from `now` on, or is started over. Its jobs wait until its outcomes are read back.
    pub fn take_over(&mut self, partition: i32, now: Micros) -> Ownership {
        self.latest.0 += 1;
        let ownership = self.latest;
        let before = self.partitions.remove(&partition);
        let ours = Partition {
            ownership,
            since: now,
            retired: false,
            book: None,
            newer: None,
            former: before.and_then(|before| Some(before.book?.offsets)),
            trail: Trail::default(),
            look: Look::default(),
            another_said: false,
            unacknowledged: 0,
            committed: -1,
        };
        self.partitions.insert(partition, ours);
        ownership
    }

    /// The outcomes of `partition` are read back, by an owner whose `trail` this is. Gives when it became ours.
    pub fn open(&mut self, partition: i32, recalled: Recalled, trail: Trail) -> Option<Micros> {
        let ours = self.partitions.get_mut(&partition)?;
        ours.book = Some(Book {
            offsets: Offsets::new(recalled.committed),
            recalled,
        });
        (ours.former, ours.newer) = (None, None);
        ours.look = Look::of(&trail);
        ours.trail = trail;
        self.left.remove(&partition);
        Some(ours.since)
    }

    /// `partition` has outcomes that only a newer version reads.
    pub fn wait_for(&mut self, partition: i32, newer: NewerOutcomes) {
        if let Some(ours) = self.partitions.get_mut(&partition) {
            ours.newer = Some(newer);
        }
    }

    /// Partitions whose outcomes only a newer version reads.
    pub fn newer(&self) -> impl Iterator<Item = (i32, &NewerOutcomes)> {
        let ours = self.partitions.iter();
        ours.filter_map(|(partition, ours)| Some((*partition, ours.newer.as_ref()?)))
    }

    /// `partition` goes away: what is in flight of it is settled, and nothing else starts.
    pub fn retire(&mut self, partition: i32) {
        if let Some(ours) = self.partitions.get_mut(&partition) {
            ours.retired = true;
        }
    }

    /// `partition` is not ours any more. Should it come back, the last record that we read tells whether its topic is
    /// still the same.
    pub fn release(&mut self, partition: i32) {
        let gone = self.partitions.remove(&partition);
        if let Some(newest) = gone.and_then(|gone| gone.trail.newest()) {
            self.left.insert(partition, newest);
        }
    }

    /// The ownership of a partition that is ours.
    pub fn ownership(&self, partition: i32) -> Option<Ownership> {
        Some(self.partitions.get(&partition)?.ownership)
    }

    pub fn is_ours(&self, partition: i32, ownership: Ownership) -> bool {
        self.ownership(partition) == Some(ownership)
    }

    /// Every ownership that was given so far: what begins now and belongs to a partition belongs to one of them.
    pub fn latest(&self) -> Ownership {
        self.latest
    }

    /// Whether something of `partition` that began when `latest` was the latest ownership belongs to a former one.
    pub fn is_former(&self, partition: i32, latest: Ownership) -> bool {
        self.ownership(partition).is_none_or(|ownership| ownership > latest)
    }

    /// Whether a job of `partition` may be tried again that was in flight when `latest` was the latest ownership.
    pub fn goes_on(&self, partition: i32, latest: Ownership) -> bool {
        let stays = |partition: &Partition| !partition.retired;
        !self.is_former(partition, latest) && self.partitions.get(&partition).is_some_and(stays)
    }

    /// Whether jobs of `partition` are read: its outcomes are read back, and it doesn't go away.
    pub fn is_open(&self, partition: i32) -> bool {
        let ours = self.partitions.get(&partition);
        ours.is_some_and(|ours| ours.book.is_some() && !ours.retired)
    }

    /// Whether `partition` is started over: we had read its jobs before.
    pub fn starts_over(&self, partition: i32) -> bool {
        let ours = self.partitions.get(&partition);
        ours.is_some_and(|ours| ours.former.is_some())
    }

    /// The last record that we read of `partition`, when we had it before.
    pub fn left(&self, partition: i32) -> Option<Crumb> {
        self.left.get(&partition).copied()
    }

    /// When the youngest of our open partitions became ours.
    pub fn youngest_since(&self) -> Option<Micros> {
        let open = self.partitions.values().filter(|ours| ours.book.is_some());
        open.map(|ours| ours.since).max()
    }

    fn book(&self, partition: i32) -> Option<&Book> {
        self.partitions.get(&partition)?.book.as_ref()
    }

    fn book_mut(&mut self, partition: i32) -> Option<&mut Book> {
        self.partitions.get_mut(&partition)?.book.as_mut()
    }
}

/// Records that are read, and jobs that are settled.
impl Ledger {
    /// A record of the jobs topic was read: `job` by its [`tag`](super::recall::tag), or what is none. Says what it is.
    pub fn read(&mut self, at: JobAt, job: Option<u32>, written_at: i64) -> Read {
        if !self.is_open(at.partition) {
            return Read::NotOurs;
        }
        let Some(Book { offsets, recalled }) = self.book_mut(at.partition) else {
            return Read::NotOurs;
        };
        if at.offset < offsets.next() {
            return Read::Back;
        }
        // Outcomes of a job, and of those behind it, come after it was first read.
        let tried = at.offset < recalled.tried_below;
        let from = if tried {
            recalled.outcomes_from
        } else {
            recalled.outcomes_end
        };
        offsets.read(at.offset, from, written_at);
        if !recalled.knows(at.offset, job) {
            return Read::Another;
        }
        if recalled.settled.remove(&at.offset) {
            offsets.settle(at.offset);
            return Read::Settled;
        }
        Read::New
    }

    /// Leaves the trail of a record that was read.
    pub fn trace(&mut self, partition: i32, crumb: Crumb) {
        if let Some(ours) = self.partitions.get_mut(&partition) {
            ours.trail.take(crumb);
            ours.look.take(crumb);
        }
    }

    /// Whether it is to be said that an outcome of `partition` is about another job: once for each ownership.
    pub fn says_another(&mut self, partition: i32) -> bool {
        let ours = self.partitions.get_mut(&partition);
        ours.is_some_and(|ours| !std::mem::replace(&mut ours.another_said, true))
    }

    /// A job is settled: Kafka has its final outcome, or the dead letter of a record that is no job.
    pub fn settle(&mut self, at: JobAt) {
        if let Some(book) = self.book_mut(at.partition) {
            book.offsets.settle(at.offset);
        }
    }

    /// Kafka has an outcome of `partition` at `offset` of its topic. Whether that is where the next one belongs; where
    /// it isn't, the topic was made anew, and whoever comes next reads all of it.
    pub fn outcome_stands(&mut self, partition: i32, offset: i64) -> bool {
        let Some(Book { offsets, recalled }) = self.book_mut(partition) else {
            return true;
        };
        let went_on = offset >= recalled.outcomes_end;
        recalled.outcomes_end = offset + 1;
        if !went_on {
            recalled.outcomes_from = 0;
            offsets.outcomes_anew();
        }
        went_on
    }

    /// Whether a job that was asked for when `latest` was the latest ownership is still wanted.
    pub fn awaits(&self, at: JobAt, latest: Ownership) -> bool {
        let unsettled = |book: &Book| at.offset < book.offsets.next() && !book.offsets.is_settled(at.offset);
        !self.is_former(at.partition, latest) && self.book(at.partition).is_some_and(unsettled)
    }

    /// How many jobs at or above `from` we had read and not settled, of a partition that is started over.
    pub fn unsettled_before(&self, partition: i32, from: i64) -> u64 {
        let former = self.partitions.get(&partition).and_then(|ours| ours.former.as_ref());
        former.map_or(0, |offsets| offsets.unsettled(from))
    }

    /// When a job was written, epoch milliseconds, to a second.
    pub fn written_at(&self, at: JobAt) -> Option<i64> {
        self.book(at.partition)?.offsets.written_at(at.offset)
    }

    /// When the oldest job was written that isn't settled, epoch milliseconds, to a second.
    pub fn oldest(&self) -> Option<i64> {
        let open = self.partitions.values().filter_map(|ours| ours.book.as_ref());
        open.filter_map(|book| book.offsets.oldest()).min()
    }

    /// The offsets below which every job was written before `time`, epoch milliseconds.
    pub fn older_than(&self, time: i64) -> HashMap<i32, i64> {
        let below = |(partition, ours): (&i32, &Partition)| {
            let below = ours.book.as_ref()?.offsets.older_than(time);
            (below > 0).then_some((*partition, below))
        };
        self.partitions.iter().filter_map(below).collect()
    }
}

/// What Kafka has, and what it has yet to acknowledge.
impl Ledger {
    /// An outcome or a dead letter of a job goes to Kafka; `None` if its partition isn't ours.
    pub fn post(&mut self, at: JobAt, attempt: Option<u64>, now: Micros) -> Option<Posting> {
        let ours = self.partitions.get_mut(&at.partition)?;
        ours.unacknowledged += 1;
        let ownership = ours.ownership;
        self.posted += 1;
        if let Some(attempt) = attempt {
            if self.unacknowledged.is_empty() {
                self.heard_at = now;
            }
            *self.unacknowledged.entry(attempt).or_default() += 1;
        }
        Some(Posting { at, ownership, attempt })
    }

    /// Kafka has what was posted, or it is of a former ownership and isn't written any more.
    pub fn acknowledge(&mut self, posting: &Posting) {
        self.posted -= 1;
        self.free(posting.attempt);
        let ours = self.partitions.get_mut(&posting.at.partition);
        if let Some(ours) = ours.filter(|ours| ours.ownership == posting.ownership) {
            ours.unacknowledged -= 1;
        }
    }

    /// What Kafka doesn't take holds its own job up, and nobody else: its attempt no longer waits for it.
    pub fn wait_alone(&mut self, posting: &mut Posting) {
        self.free(posting.attempt.take());
    }

    /// One outcome less is missing of an attempt.
    fn free(&mut self, attempt: Option<u64>) {
        let Some(attempt) = attempt else { return };
        if let Some(outcomes) = self.unacknowledged.get_mut(&attempt) {
            *outcomes -= 1;
            if *outcomes == 0 {
                self.unacknowledged.remove(&attempt);
            }
        }
    }

    /// Kafka has answered, be it with a refusal.
    pub fn hear(&mut self, now: Micros) {
        self.heard_at = now;
    }

    /// How long outcomes of attempts have waited without an answer of Kafka's.
    pub fn silent_for(&self, now: Micros) -> Micros {
        if self.unacknowledged.is_empty() {
            0
        } else {
            now - self.heard_at
        }
    }

    /// How many attempts were answered and wait for Kafka.
    pub fn waiting_attempts(&self) -> usize {
        self.unacknowledged.len()
    }

    /// How many outcomes and dead letters wait for Kafka.
    pub fn posted(&self) -> usize {
        self.posted
    }

    /// Whether something of `partition` waits for Kafka.
    pub fn is_owed(&self, partition: i32) -> bool {
        let ours = self.partitions.get(&partition);
        ours.is_some_and(|ours| ours.unacknowledged > 0)
    }
}

/// What may be committed.
impl Ledger {
    /// The lowest unsettled job of `partition`, and from where its outcomes are to be read.
    pub fn place(&self, partition: i32) -> Option<Place> {
        let Book { offsets, recalled } = self.book(partition)?;
        // What a predecessor settled above may not have been read by us yet.
        let unread = offsets.next() < recalled.tried_below;
        let end = if unread {
            recalled.outcomes_from
        } else {
            recalled.outcomes_end
        };
        Some(offsets.place(end))
    }

    /// The places that have moved since they were committed last.
    pub fn moved(&mut self) -> Places {
        let moved: Vec<i32> = (self.partitions.iter())
            .filter(|(partition, ours)| {
                self.place(**partition)
                    .is_some_and(|place| place.offset > ours.committed)
            })
            .map(|(partition, _)| *partition)
            .collect();
        self.places(&moved)
    }

    /// The places of these partitions, as far as they are open.
    pub fn places(&mut self, partitions: &[i32]) -> Places {
        let mut places = Places::new();
        for partition in partitions {
            let place = self.place(*partition);
            if let (Some(place), Some(ours)) = (place, self.partitions.get_mut(partition)) {
                ours.committed = place.offset;
                places.insert(*partition, (place, ours.trail.clone()));
            }
        }
        places
    }

    /// A commit of these partitions came to nothing.
    pub fn not_committed(&mut self, partitions: impl IntoIterator<Item = i32>) {
        for partition in partitions {
            if let Some(ours) = self.partitions.get_mut(&partition) {
                ours.committed = -1;
            }
        }
    }

    /// The record of each open partition that is looked at next, with the newest one that was read.
    pub fn looks(&self) -> impl Iterator<Item = (i32, Ownership, Crumb, Option<Crumb>)> {
        let open = self.partitions.iter().filter(|(_, ours)| ours.book.is_some());
        open.filter_map(|(partition, ours)| {
            let crumb = ours.look.at()?;
            Some((*partition, ours.ownership, crumb, ours.trail.newest()))
        })
    }

    /// A look found the record in its place; it began when `newest` was the newest that was read.
    pub fn found(&mut self, partition: i32, newest: Option<Crumb>) {
        if let Some(ours) = self.partitions.get_mut(&partition) {
            ours.look.found(newest);
        }
    }
}

#[cfg(test)]
mod tests;
