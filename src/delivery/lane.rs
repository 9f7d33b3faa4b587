//! A lane: the FIFO of one destination.
//!
//! Jobs that share a key keep their order: at most one request holds jobs of a key, and a job that
//! waits for its retry holds back those behind it, until it steps aside. A Slack lane has one key,
//! so its messages go one by one; a CleverTap lane has one per identity, so that a batch carries
//! whatever is not held back.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use super::DeliveryJob;
use super::limit::Micros;

/// Where a job is in the jobs topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct JobAt {
    pub partition: i32,
    pub offset: i64,
}

/// A job in memory, waiting or in flight.
#[derive(Debug, Clone)]
pub struct Waiting {
    pub at: JobAt,
    pub job: Arc<DeliveryJob>,
    /// What it takes of the payload budget.
    pub bytes: usize,
    /// When the job was written to its topic, and when we read it.
    pub written_at: Micros,
    pub accepted_at: Micros,
    /// Attempts so far.
    pub attempts: i32,
    /// The job is not tried before this.
    pub not_before: Micros,
    /// Since when it keeps failing, the time frozen left out.
    pub failing_since: Option<Micros>,
    /// It failed for so long that those behind it may pass.
    pub aside: bool,
}

/// How many waiting jobs are looked through for a batch.
const SCAN_MAX: usize = 10_000;

/// One destination's queue.
#[derive(Debug, Default)]
pub struct Lane {
    queue: VecDeque<Waiting>,
    busy: HashSet<Arc<str>>,
    pub in_flight: usize,
}

impl Lane {
    pub fn push(&mut self, waiting: Waiting) {
        // What comes back from a failed attempt goes to where it was, before those behind it.
        let behind = self
            .queue
            .iter()
            .rev()
            .take_while(|other| other.at > waiting.at)
            .count();
        self.queue.insert(self.queue.len() - behind, waiting);
    }

    pub fn len(&self) -> usize {
        self.queue.len()
    }

    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    pub fn waiting(&self) -> impl Iterator<Item = &Waiting> {
        self.queue.iter()
    }

    /// When something of the queue may be taken next, limits aside; `None` while all of it is held
    /// back by what is in flight. Agrees with [`Self::take`]: at that time it takes at least one.
    pub fn ready_at(&self, batch_max: usize, batch_wait: Micros) -> Option<Micros> {
        let mut held: HashSet<&str> = HashSet::new();
        let (mut count, mut earliest) = (0, None::<Micros>);
        for waiting in self.queue.iter().take(SCAN_MAX) {
            let key = key(&waiting.job);
            if self.busy.contains(key) || held.contains(key) {
                continue;
            }
            let at = waiting.not_before.max(waiting.accepted_at + batch_wait);
            earliest = Some(earliest.map_or(at, |earliest| earliest.min(at)));
            if waiting.not_before <= waiting.accepted_at {
                count += 1;
            } else if !waiting.aside {
                // Behind a job that waits for its retry nothing of its key is free.
                held.insert(key);
            }
            if count >= batch_max {
                // A full batch doesn't wait for company.
                return Some(waiting.accepted_at);
            }
        }
        earliest
    }

    /// Takes up to `max` jobs that may go now, in order, and marks their keys as busy.
    pub fn take(&mut self, max: usize, now: Micros) -> Vec<Waiting> {
        let mut held: HashSet<Arc<str>> = HashSet::new();
        let mut ids: HashSet<String> = HashSet::new();
        let mut taken = Vec::new();
        let mut at = 0;
        while at < self.queue.len().min(SCAN_MAX) && taken.len() < max {
            let waiting = &self.queue[at];
            let key: Arc<str> = key(&waiting.job).into();
            let free = !self.busy.contains(&key) && !held.contains(&key);
            // The same job twice in one request would be sent twice.
            if free && waiting.not_before <= now && ids.insert(waiting.job.job_id.clone()) {
                taken.extend(self.queue.remove(at));
                continue;
            }
            if !waiting.aside {
                held.insert(key);
            }
            at += 1;
        }
        self.busy
            .extend(taken.iter().map(|waiting| Arc::from(key(&waiting.job))));
        taken
    }

    /// Ends the hold of `jobs`' keys.
    pub fn release<'j>(&mut self, jobs: impl Iterator<Item = &'j Waiting>) {
        for waiting in jobs {
            self.busy.remove(key(&waiting.job));
        }
    }

    /// Takes out what `remove` says, wherever it stands.
    pub fn remove(&mut self, mut remove: impl FnMut(&Waiting) -> bool) -> Vec<Waiting> {
        let (out, kept) = self.queue.drain(..).partition(|waiting| remove(waiting));
        self.queue = kept;
        Vec::from_iter::<VecDeque<Waiting>>(out)
    }

    /// Time during which the destination was frozen doesn't count as failing.
    pub fn forgive(&mut self, frozen: Micros) {
        for waiting in &mut self.queue {
            if let Some(since) = &mut waiting.failing_since {
                *since += frozen;
            }
        }
    }
}

/// Jobs of one key keep their order.
fn key(job: &DeliveryJob) -> &str {
    match job.action.provider() {
        super::Provider::Slack => "",
        super::Provider::Clevertap => &job.destination,
    }
}
