//! A lane: the FIFO of one destination.
//!
//! Jobs that share a key keep their order: at most one request holds jobs of a key, and a job that
//! waits for its retry holds back those behind it, until it steps aside. A Slack lane has one key,
//! so its messages go one by one; a CleverTap lane has one per identity, so that a batch carries
//! whatever is not held back.
//!
//! A lane knows where its jobs are, not what they say. What is to be taken but isn't in memory is
//! asked for first.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::ops::Bound;
use std::time::Duration;

use super::backlog::{Backlog, Entry};
use super::limit::{Cap, Micros, Rate};

/// Where a job is in the jobs topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct JobAt {
    pub partition: i32,
    pub offset: i64,
}

/// What jobs of one version of a rule have in common.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Class {
    /// The rule's number, the same for all its versions.
    pub rule: u32,
    pub version: i64,
    pub digest_after: Option<Micros>,
    pub max_rate: Option<Rate>,
    /// A person asked for it again.
    pub replayed: bool,
}

/// What a lane has to know of the rest when it is asked for jobs.
#[derive(Clone, Copy)]
pub struct Surroundings<'s> {
    pub now: Micros,
    pub classes: &'s [Class],
    /// By the rule's number.
    pub caps: &'s HashMap<u32, Cap>,
    pub loaded: &'s dyn Fn(JobAt) -> bool,
    /// The time from one start to the next.
    pub spacing: Micros,
    pub batch_max: usize,
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

impl Take {
    fn of(taken: Vec<Entry>, missing: Vec<Entry>) -> Self {
        match (taken.is_empty(), missing.is_empty()) {
            (false, _) => Take::Jobs(taken),
            (true, false) => Take::Missing(missing),
            (true, true) => Take::Nothing,
        }
    }
}

/// One destination's queue.
#[derive(Debug)]
pub struct Lane {
    /// All jobs have one key.
    single: bool,
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
    capped: BTreeMap<u32, Backlog>,
    count: usize,
    /// Jobs are on their way into memory.
    pub loading: bool,
    /// And nothing can go before they are there.
    pub starved: bool,
    /// Jobs that were near their turn and aren't any more.
    pub put_off: Vec<JobAt>,
}

#[derive(Debug, Default)]
struct Held {
    queue: VecDeque<Entry>,
    not_before: Micros,
}

impl Lane {
    pub fn new(single: bool, batch_wait: Duration) -> Self {
        Self {
            single,
            batch_wait: Micros::try_from(batch_wait.as_micros()).unwrap_or(Micros::MAX / 4),
            main: Backlog::default(),
            since: 0,
            busy: HashSet::new(),
            held: HashMap::new(),
            due: BTreeSet::new(),
            halves: HashMap::new(),
            halved: 0,
            aside: BTreeMap::new(),
            capped: BTreeMap::new(),
            count: 0,
            loading: false,
            starved: false,
            put_off: Vec::new(),
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
    pub fn ready_at(&self, caps: &HashMap<u32, Cap>, batch_max: usize) -> Option<Micros> {
        if self.starved || (self.single && !self.busy.is_empty()) {
            return None;
        }
        let due = self.due.first().map(|(at, _)| *at);
        let aside = self.aside.first_key_value().map(|((at, _), _)| *at);
        let mut ready = due.into_iter().chain(aside).min();
        let mut may = |at: Micros| ready = Some(ready.map_or(at, |ready| ready.min(at)));
        if self.single && !self.held.is_empty() {
            return ready;
        }
        for rule in self.capped.keys() {
            may(caps.get(rule).map_or(Micros::MIN, Cap::ready_at));
        }
        if !self.main.is_empty() {
            let full = self.single || self.main.len() >= batch_max;
            may(if full {
                Micros::MIN
            } else {
                self.since + self.batch_wait
            });
        }
        ready
    }

    /// Takes what may go now as one request.
    pub fn take(&mut self, at: Surroundings<'_>) -> Take {
        let take = if self.single {
            self.take_one(at)
        } else {
            self.take_batch(at)
        };
        if let Take::Jobs(entries) = &take {
            self.count -= entries.len();
            self.busy.extend(entries.iter().map(|entry| entry.key));
            if self.main.is_empty() {
                self.since = at.now;
            }
        }
        take
    }

    /// What is worth loading before it is needed.
    pub fn prefetch(&self, at: Surroundings<'_>) -> Vec<Entry> {
        let half_way = self.main.iter().nth(at.chunk / 2);
        if self.loading || half_way.is_none_or(|entry| (at.loaded)(entry.at())) {
            return Vec::new();
        }
        self.unloaded_of_main(at, at.chunk)
    }

    fn unloaded_of_main(&self, at: Surroundings<'_>, max: usize) -> Vec<Entry> {
        let ahead = self.main.iter().take(max);
        ahead.filter(|entry| !(at.loaded)(entry.at())).collect()
    }

    /// One message: one job, or those that one message stands for.
    fn take_one(&mut self, at: Surroundings<'_>) -> Take {
        if !self.busy.is_empty() {
            return Take::Nothing;
        }
        let loaded = |entry: &Entry| (at.loaded)(entry.at());
        if let Some((when, key)) = self.due.first().copied().filter(|(when, _)| *when <= at.now) {
            let queue = &self.held[&key].queue;
            if !queue.iter().all(loaded) {
                return Take::Missing(queue.iter().filter(|entry| !loaded(entry)).copied().collect());
            }
            self.due.remove(&(when, key));
            let held = self.held.remove(&key).unwrap_or_default();
            return Take::Jobs(held.queue.into());
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
        let open = |rule: &u32| at.caps.get(rule).is_none_or(|cap| cap.ready_at() <= at.now);
        if let Some(rule) = self.capped.keys().copied().find(open) {
            let queue = self.capped.get_mut(&rule).expect("just found");
            let taken = take_loaded(queue, at, |_| true);
            if queue.is_empty() {
                self.capped.remove(&rule);
            }
            return taken;
        }
        while let Some(first) = self.main.front() {
            let class = &at.classes[first.class as usize];
            if class.max_rate.is_some() && (self.capped.contains_key(&class.rule) || !open(&class.rule)) {
                self.main.pop_front();
                self.put_off.push(first.at());
                self.capped.entry(class.rule).or_default().push_back(first);
                continue;
            }
            let wait = at.spacing.saturating_mul(self.main.len() as Micros);
            if class.digest_after.is_some_and(|after| wait > after) {
                return take_loaded(&mut self.main, at, |entry| {
                    let other = &at.classes[entry.class as usize];
                    other.rule == class.rule && other.digest_after.is_some()
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

    /// What is due of held keys, into `taken` and `missing`. Whether it is half of a refused batch,
    /// which goes alone; what is due first decides.
    fn take_due(&mut self, at: Surroundings<'_>, taken: &mut Vec<Entry>, missing: &mut Vec<Entry>) -> bool {
        let loaded = |entry: &Entry| (at.loaded)(entry.at());
        if self.held.is_empty() {
            self.halves.clear();
        }
        let mut half = None;
        let mut next = self.due.first().copied();
        while let Some((when, key)) = next.filter(|(when, _)| *when <= at.now) {
            next = (self.due.range((Bound::Excluded((when, key)), Bound::Unbounded)))
                .next()
                .copied();
            let room = at.batch_max - taken.len();
            let held = self.held.get_mut(&key).expect("what is due is held");
            let half_of = |entry: &Entry| self.halves.get(&entry.at()).copied();
            let first = held.queue.front().and_then(half_of);
            if room == 0 {
                break;
            }
            if *half.get_or_insert(first) != first {
                continue;
            }
            let together = |entry: &&Entry| loaded(entry) && half_of(entry) == first;
            let may = held.queue.iter().take(room).take_while(together).count();
            if may == 0 {
                let unloaded = held.queue.iter().filter(|entry| !loaded(entry));
                missing.extend(unloaded.take(at.chunk));
                break;
            }
            self.due.remove(&(when, key));
            taken.extend(held.queue.drain(..may));
            if held.queue.is_empty() {
                self.held.remove(&key);
            }
        }
        taken.iter().for_each(|entry| {
            self.halves.remove(&entry.at());
        });
        half.flatten().is_some()
    }

    /// A batch: what of each key is not held back.
    fn take_batch(&mut self, at: Surroundings<'_>) -> Take {
        let loaded = |entry: &Entry| (at.loaded)(entry.at());
        let (mut taken, mut missing) = (Vec::new(), Vec::new());
        if self.take_due(at, &mut taken, &mut missing) {
            return Take::of(taken, missing);
        }
        while let Some(aside) = self.aside.first_entry().filter(|first| first.key().0 <= at.now) {
            let entries = aside.get();
            if taken.len() + entries.len() > at.batch_max {
                break;
            }
            if entries.iter().any(|entry| self.busy.contains(&entry.key)) {
                // Not now, and soon again.
                let entries = aside.remove();
                let first = entries[0].at();
                self.aside.insert((at.now + RETRY_ASIDE, first), entries);
                continue;
            }
            if !entries.iter().all(loaded) {
                missing.extend(entries.iter().copied());
                break;
            }
            taken.extend(aside.remove());
        }
        let mine: HashSet<u32> = taken.iter().map(|entry| entry.key).collect();
        while taken.len() < at.batch_max
            && let Some(first) = self.main.front()
        {
            let waits = self.held.contains_key(&first.key);
            if waits || (self.busy.contains(&first.key) && !mine.contains(&first.key)) {
                self.main.pop_front();
                let queue = &mut self.held.entry(first.key).or_default().queue;
                if queue.len() > 1 {
                    self.put_off.push(first.at());
                }
                queue.push_back(first);
                continue;
            }
            if !loaded(&first) {
                missing.extend(self.unloaded_of_main(at, at.chunk));
                break;
            }
            self.main.pop_front();
            taken.push(first);
        }
        Take::of(taken, missing)
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
        self.count -= out.len();
        out.sort_by_key(Entry::at);
        out
    }

    /// All that waits, in no order.
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
    pub fn tried(&self) -> impl Iterator<Item = Entry> + '_ {
        let held = self.held.values().filter_map(|held| held.queue.front().copied());
        held.chain(self.aside.values().flatten().copied())
    }
}

/// A job aside whose key is in flight is looked at again after so long.
const RETRY_ASIDE: Micros = 100_000;

/// The first of a queue that one message may stand for. What isn't in memory is asked for once;
/// after that the message stands for those that are.
fn take_loaded(queue: &mut Backlog, at: Surroundings<'_>, mut same: impl FnMut(&Entry) -> bool) -> Take {
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

impl std::fmt::Debug for Surroundings<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Surroundings")
            .field("now", &self.now)
            .finish_non_exhaustive()
    }
}
