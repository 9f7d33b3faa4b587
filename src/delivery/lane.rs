//! A lane: the FIFO of one destination.
//!
//! Jobs that share a key keep their order: at most one request holds jobs of a key, and a job that waits for its retry
//! holds back the jobs behind it, until it steps aside. A Slack lane has one key, so its messages go one by one. A
//! CleverTap lane has a key for each identity, so that a batch carries every job that nothing holds back.
//!
//! A lane knows the places of its jobs, not their content. It asks for a job to be loaded before it gives the job to a
//! request.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::time::Duration;

use super::backlog::{Backlog, Entry};
use super::limit::{Cap, Micros};
use super::number::{Number, Numbered};
use crate::action::Batch;
use crate::dates::Rate;

mod asked;
mod batch;

/// Where a job is in the jobs topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct JobAt {
    pub partition: i32,
    pub offset: i64,
}

/// A rule that jobs came from.
#[derive(Debug)]
pub struct Origin {
    pub rule_id: String,
    /// What holds its messages to its `max_rate`.
    pub cap: Option<Cap>,
}

impl Origin {
    fn open_at(&self) -> Micros {
        self.cap.as_ref().map_or(Micros::MIN, Cap::ready_at)
    }
}

/// What jobs of one version of a rule have in common.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Class {
    /// The same for all versions of the rule.
    pub origin: Number<Origin>,
    pub version: i64,
    pub digest_after: Option<Micros>,
    pub max_rate: Option<Rate>,
    pub cause: Cause,
}

/// Why there is a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cause {
    /// A rule held for an event.
    Match,
    /// A person asked for it again.
    Replay,
    /// A person tries a rule.
    Test,
}

/// What a lane has to know of the rest when it is asked for jobs.
#[derive(Clone, Copy)]
pub struct LaneContext<'s> {
    pub now: Micros,
    pub classes: &'s Numbered<Class>,
    pub origins: &'s Numbered<Origin>,
    pub loaded: &'s dyn Fn(JobAt) -> bool,
    /// The time from one start to the next.
    pub spacing: Micros,
    /// As many jobs as one message may stand for.
    pub digest_max: usize,
    /// As many jobs as are worth loading at a time.
    pub chunk: usize,
}

/// What may go now.
#[derive(Debug, PartialEq, Eq)]
pub enum Take {
    /// One request's jobs, in order. Their keys are busy until they are released.
    Jobs(Vec<Entry>),
    /// These have to be loaded first.
    Missing(Vec<Entry>),
    Nothing,
}

/// One destination's queue.
#[derive(Debug)]
pub struct Lane {
    /// All jobs have one key.
    single: bool,
    /// What one request takes, and how long the first waits for more.
    batch_max: usize,
    batch_wait: Micros,
    main: Backlog,
    /// When the oldest of `main` came.
    since: Micros,
    busy: HashSet<u32>,
    /// Jobs of keys that wait for a retry or for an answer, in order.
    held: HashMap<u32, Held>,
    /// The held keys that aren't busy, by the time they may go.
    due: BTreeSet<(Micros, u32)>,
    /// Jobs of a batch that was refused as a whole, by the half that they go in now, alone: one that
    /// is at fault takes no others along.
    halves: HashMap<JobAt, u32>,
    halved: u32,
    /// Jobs that let others pass, by the time they are tried again.
    aside: BTreeMap<(Micros, JobAt), Vec<Entry>>,
    /// Jobs beyond their rule's `max_rate`.
    capped: BTreeMap<Number<Origin>, Backlog>,
    /// Tests: a person waits for each, so that they go before all others, each alone.
    tests: VecDeque<Entry>,
    count: usize,
    /// Jobs are on their way into memory.
    pub loading: bool,
    /// And nothing can go before they are there.
    pub starved: bool,
    /// Jobs that were near their turn and aren't any more.
    pub put_off: Vec<JobAt>,
    /// Jobs whose turn it was and that weren't in memory, while others went.
    wanted: Vec<Entry>,
}

#[derive(Debug, Default)]
struct Held {
    queue: VecDeque<Entry>,
    not_before: Micros,
}

impl Lane {
    /// Without a batch its jobs have one key, and one message takes them.
    pub fn new(batch: Option<Batch>) -> Self {
        let wait = batch.map_or(Duration::ZERO, |batch| batch.wait);
        Self {
            single: batch.is_none(),
            batch_max: batch.map_or(1, |batch| batch.max),
            batch_wait: Micros::try_from(wait.as_micros()).unwrap_or(Micros::MAX / 4),
            main: Backlog::default(),
            since: 0,
            busy: HashSet::new(),
            held: HashMap::new(),
            due: BTreeSet::new(),
            halves: HashMap::new(),
            halved: 0,
            aside: BTreeMap::new(),
            capped: BTreeMap::new(),
            tests: VecDeque::new(),
            count: 0,
            loading: false,
            starved: false,
            put_off: Vec::new(),
            wanted: Vec::new(),
        }
    }

    /// How many jobs wait.
    pub fn len(&self) -> usize {
        self.count
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// A job that was just read, behind all others.
    pub fn push(&mut self, entry: Entry, now: Micros) {
        if self.main.is_empty() {
            self.since = now;
        }
        self.main.push_back(entry);
        self.count += 1;
    }

    /// Jobs that come back go before those behind them, not before the time given.
    pub fn hold(&mut self, entries: impl IntoIterator<Item = Entry>, not_before: Micros) {
        for entry in entries {
            let held = self.held.entry(entry.key).or_default();
            self.due.remove(&(held.not_before, entry.key));
            let at = held.queue.partition_point(|other| other.at() < entry.at());
            held.queue.insert(at, entry);
            held.not_before = held.not_before.max(not_before);
            if !self.busy.contains(&entry.key) {
                self.due.insert((held.not_before, entry.key));
            }
            self.count += 1;
        }
    }

    /// Jobs that were taken and not sent stand again where they stood.
    pub fn put_back(&mut self, entries: impl IntoIterator<Item = Entry>, classes: &Numbered<Class>) {
        for entry in entries {
            self.count += 1;
            if let Some(held) = self.held.get_mut(&entry.key) {
                let at = held.queue.partition_point(|other| other.at() < entry.at());
                held.queue.insert(at, entry);
            } else if let Some(queue) = self.capped.get_mut(&classes[entry.class].origin) {
                queue.put_back(entry);
            } else {
                self.main.put_back(entry);
            }
        }
    }

    /// Jobs whose batch was refused go again as its halves, beside others but not with them.
    pub fn halve(&mut self, entries: Vec<Entry>, now: Micros) {
        for half in entries.chunks(entries.len().div_ceil(2).max(1)) {
            self.halved = self.halved.wrapping_add(1);
            self.halves.extend(half.iter().map(|entry| (entry.at(), self.halved)));
        }
        self.hold(entries, now);
    }

    /// Jobs that failed for so long that those behind them may pass.
    pub fn step_aside(&mut self, entries: Vec<Entry>, not_before: Micros) {
        if let Some(first) = entries.first() {
            self.count += entries.len();
            self.aside.insert((not_before, first.at()), entries);
        }
    }

    /// The keys of an answered request are free again.
    pub fn release(&mut self, keys: impl IntoIterator<Item = u32>) {
        for key in keys {
            if !self.busy.remove(&key) {
                continue;
            }
            if let Some(held) = self.held.get(&key) {
                self.due.insert((held.not_before, key));
            }
        }
    }

    /// When something may be taken next, limits aside; `None` while all of it waits for an answer
    /// or for payloads.
    pub fn ready_at(&self, origins: &Numbered<Origin>) -> Option<Micros> {
        if self.starved || (self.single && !self.busy.is_empty()) {
            return None;
        }
        if self.next_test().is_some() {
            return Some(Micros::MIN);
        }
        let due = self.due.first().map(|(at, _)| *at);
        let aside = self.aside.first_key_value().map(|((at, _), _)| *at);
        let mut ready = due.into_iter().chain(aside).min();
        let mut may = |at: Micros| ready = Some(ready.map_or(at, |ready| ready.min(at)));
        if self.single && !self.held.is_empty() {
            return ready;
        }
        for origin in self.capped.keys() {
            may(origins[*origin].open_at());
        }
        if !self.main.is_empty() {
            let full = self.single || self.main.len() >= self.batch_max;
            may(if full {
                Micros::MIN
            } else {
                self.since + self.batch_wait
            });
        }
        ready
    }

    /// Takes what may go now as one request.
    pub fn take(&mut self, at: LaneContext<'_>) -> Take {
        let take = match self.next_test() {
            Some(test) if !(at.loaded)(test.at()) => Take::Missing(vec![test]),
            Some(test) => {
                self.tests.retain(|entry| *entry != test);
                Take::Jobs(vec![test])
            }
            None if self.single => self.take_one(at),
            None => self.take_batch(at),
        };
        if let Take::Jobs(entries) = &take {
            self.count -= entries.len();
            self.busy.extend(entries.iter().map(|entry| entry.key));
            for entry in entries {
                // One that let others pass goes before those that wait for its key.
                if let Some(held) = self.held.get(&entry.key) {
                    self.due.remove(&(held.not_before, entry.key));
                }
            }
            if self.main.is_empty() {
                self.since = at.now;
            }
        }
        take
    }

    /// What is worth loading before it is needed.
    pub fn prefetch(&mut self, at: LaneContext<'_>) -> Vec<Entry> {
        let mut ahead = std::mem::take(&mut self.wanted);
        if self.loading {
            return Vec::new();
        }
        let half_way = self.main.iter().nth(at.chunk / 2);
        if half_way.is_some_and(|entry| !(at.loaded)(entry.at())) {
            ahead.extend(self.unloaded_of_main(at, at.chunk));
        }
        ahead.sort_unstable_by_key(Entry::at);
        ahead.dedup();
        ahead
    }

    fn unloaded_of_main(&self, at: LaneContext<'_>, max: usize) -> Vec<Entry> {
        let ahead = self.main.iter().take(max);
        ahead.filter(|entry| !(at.loaded)(entry.at())).collect()
    }

    /// One message: one job, or those that one message stands for.
    fn take_one(&mut self, at: LaneContext<'_>) -> Take {
        if !self.busy.is_empty() {
            return Take::Nothing;
        }
        let loaded = |entry: &Entry| (at.loaded)(entry.at());
        if let Some((when, key)) = self.due.first().copied().filter(|(when, _)| *when <= at.now) {
            let held = self.held.get_mut(&key).expect("what is due is held");
            let count = one_message(&held.queue, at.classes);
            if !held.queue.iter().take(count).all(loaded) {
                let missing = held.queue.iter().take(count).filter(|entry| !loaded(entry));
                return Take::Missing(missing.copied().collect());
            }
            self.due.remove(&(when, key));
            let taken = held.queue.drain(..count).collect();
            if held.queue.is_empty() {
                self.held.remove(&key);
            }
            return Take::Jobs(taken);
        }
        if let Some(aside) = self.aside.first_entry().filter(|first| first.key().0 <= at.now) {
            let missing: Vec<Entry> = aside.get().iter().filter(|entry| !loaded(entry)).copied().collect();
            return if missing.is_empty() {
                Take::Jobs(aside.remove())
            } else {
                Take::Missing(missing)
            };
        }
        if !self.held.is_empty() {
            return Take::Nothing;
        }
        let open = |origin: &Number<Origin>| at.origins[*origin].open_at() <= at.now;
        if let Some(origin) = self.capped.keys().copied().find(open) {
            let queue = self.capped.get_mut(&origin).expect("just found");
            let taken = take_loaded(queue, at, |_| true);
            if queue.is_empty() {
                self.capped.remove(&origin);
            }
            return taken;
        }
        while let Some(first) = self.main.front() {
            let class = &at.classes[first.class];
            if class.max_rate.is_some() && (self.capped.contains_key(&class.origin) || !open(&class.origin)) {
                self.main.pop_front();
                self.put_off.push(first.at());
                self.capped.entry(class.origin).or_default().put_back(first);
                continue;
            }
            let wait = at.spacing.saturating_mul(self.main.len() as Micros);
            if class.digest_after.is_some_and(|after| wait > after) {
                return take_loaded(&mut self.main, at, |entry| {
                    let other = &at.classes[entry.class];
                    other.origin == class.origin && other.digest_after.is_some()
                });
            }
            if !loaded(&first) {
                return Take::Missing(self.unloaded_of_main(at, at.chunk));
            }
            self.main.pop_front();
            return Take::Jobs(vec![first]);
        }
        Take::Nothing
    }

    /// Takes out what `remove` says, wherever it stands.
    pub fn remove(&mut self, mut remove: impl FnMut(&Entry) -> bool) -> Vec<Entry> {
        let mut out = self.main.extract(usize::MAX, &mut remove);
        for queue in self.capped.values_mut() {
            out.extend(queue.extract(usize::MAX, &mut remove));
        }
        self.capped.retain(|_, queue| !queue.is_empty());
        let due = &mut self.due;
        self.held.retain(|key, held| {
            held.queue.retain(|entry| {
                let gone = remove(entry);
                out.extend(gone.then_some(*entry));
                !gone
            });
            if held.queue.is_empty() {
                due.remove(&(held.not_before, *key));
            }
            !held.queue.is_empty()
        });
        self.aside.retain(|_, entries| {
            entries.retain(|entry| {
                let gone = remove(entry);
                out.extend(gone.then_some(*entry));
                !gone
            });
            !entries.is_empty()
        });
        self.tests.retain(|entry| {
            let gone = remove(entry);
            out.extend(gone.then_some(*entry));
            !gone
        });
        self.count -= out.len();
        out.sort_by_key(Entry::at);
        out
    }

    /// All that waits, in no order, but for tests.
    pub fn entries(&self) -> impl Iterator<Item = Entry> + '_ {
        let held = self.held.values().flat_map(|held| held.queue.iter().copied());
        let capped = self.capped.values().flat_map(Backlog::iter);
        self.main
            .iter()
            .chain(held)
            .chain(self.aside.values().flatten().copied())
            .chain(capped)
    }

    /// What came back from an attempt and waits for the next one.
    pub fn tried(&self, was_tried: impl Fn(&Entry) -> bool) -> Vec<Entry> {
        let mut tried: Vec<Entry> = self.aside.values().flatten().copied().collect();
        for held in self.held.values() {
            tried.extend(held.queue.iter().take_while(|entry| was_tried(entry)));
        }
        tried
    }
}

/// How many jobs at the front of a queue one message may stand for: one, or those of a rule whose messages may be
/// digests. A new owner holds every job that was tried before, and each of them may have been a message of its own.
fn one_message(queue: &VecDeque<Entry>, classes: &Numbered<Class>) -> usize {
    let digested = |entry: &Entry| {
        let class = &classes[entry.class];
        (class.digest_after.is_some() || class.max_rate.is_some()).then_some(class.origin)
    };
    let Some(origin) = queue.front().and_then(digested) else {
        return 1;
    };
    queue.iter().take_while(|entry| digested(entry) == Some(origin)).count()
}

/// The first of a queue that one message may stand for. What isn't in memory is asked for once;
/// after that the message stands for those that are.
fn take_loaded(queue: &mut Backlog, at: LaneContext<'_>, mut same: impl FnMut(&Entry) -> bool) -> Take {
    let (mut missing, mut ahead, mut count) = (Vec::new(), 0, 0);
    for entry in queue.iter().filter(|entry| same(entry)).take(at.digest_max) {
        count += 1;
        if !(at.loaded)(entry.at()) {
            missing.push(entry);
        } else if missing.is_empty() {
            ahead += 1;
        }
    }
    // A few that came in while the others were loaded go with the next message.
    if ahead == 0 || missing.len() * 10 > count {
        return Take::Missing(missing);
    }
    Take::Jobs(queue.extract(ahead, same))
}

impl std::fmt::Debug for LaneContext<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LaneContext")
            .field("now", &self.now)
            .finish_non_exhaustive()
    }
}
