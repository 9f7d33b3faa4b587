//! Batches: the jobs that a lane with many keys puts into one request.

use std::collections::HashSet;
use std::ops::Bound;

use super::{Entry, Lane, LaneContext, Micros, Take};

/// A job aside whose key is in flight is looked at again after so long.
const RETRY_ASIDE: Micros = 100_000;

impl Lane {
    /// A batch: what of each key is not held back. What isn't in memory is asked for, and goes with
    /// a later one.
    pub(super) fn take_batch(&mut self, at: LaneContext<'_>) -> Take {
        let (mut taken, mut missing) = (Vec::new(), Vec::new());
        let half = self.take_due(at, &mut taken, &mut missing);
        if !half {
            self.take_aside(at, &mut taken, &mut missing);
            self.take_main(at, &mut taken, &mut missing);
        }
        match (taken.is_empty(), missing.is_empty()) {
            (false, _) => {
                self.wanted = missing;
                Take::Jobs(taken)
            }
            (true, false) => Take::Missing(missing),
            (true, true) => Take::Nothing,
        }
    }

    /// What is due of held keys. Whether it is half of a refused batch, which goes alone; what is
    /// due first decides.
    fn take_due(&mut self, at: LaneContext<'_>, taken: &mut Vec<Entry>, missing: &mut Vec<Entry>) -> bool {
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
            let room = self.batch_max - taken.len();
            if room == 0 || missing.len() >= at.chunk {
                break;
            }
            let held = self.held.get_mut(&key).expect("what is due is held");
            let half_of = |entry: &Entry| self.halves.get(&entry.at()).copied();
            let first = held.queue.front().and_then(half_of);
            if *half.get_or_insert(first) != first {
                continue;
            }
            let together = |entry: &&Entry| loaded(entry) && half_of(entry) == first;
            let may = held.queue.iter().take(room).take_while(together).count();
            if may == 0 {
                // Those of other keys needn't wait for it.
                let unloaded = held.queue.iter().filter(|entry| !loaded(entry));
                missing.extend(unloaded.take(room));
                continue;
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

    fn take_aside(&mut self, at: LaneContext<'_>, taken: &mut Vec<Entry>, missing: &mut Vec<Entry>) {
        while let Some(aside) = self.aside.first_entry().filter(|first| first.key().0 <= at.now) {
            let room = self.batch_max - taken.len();
            if aside.get().len() > room {
                break;
            }
            let ((when, _), entries) = aside.remove_entry();
            let first = entries[0].at();
            if entries.iter().any(|entry| self.busy.contains(&entry.key)) {
                // Not now, and soon again.
                self.aside.insert((at.now + RETRY_ASIDE, first), entries);
            } else if !entries.iter().all(|entry| (at.loaded)(entry.at())) {
                missing.extend(entries.iter().filter(|entry| !(at.loaded)(entry.at())));
                self.aside.insert((when, first), entries);
                break;
            } else {
                taken.extend(entries);
            }
        }
    }

    fn take_main(&mut self, at: LaneContext<'_>, taken: &mut Vec<Entry>, missing: &mut Vec<Entry>) {
        let mine: HashSet<u32> = taken.iter().map(|entry| entry.key).collect();
        while taken.len() < self.batch_max
            && let Some(first) = self.main.front()
        {
            let waits = self.held.contains_key(&first.key);
            if waits || (self.busy.contains(&first.key) && !mine.contains(&first.key)) {
                self.main.pop_front();
                let queue = &mut self.held.entry(first.key).or_default().queue;
                // Behind all others, but for one whose predecessor's answer isn't known.
                let place = queue.partition_point(|other| other.at() < first.at());
                if place > 1 {
                    self.put_off.push(first.at());
                }
                queue.insert(place, first);
                continue;
            }
            if !(at.loaded)(first.at()) {
                missing.extend(self.unloaded_of_main(at, at.chunk));
                break;
            }
            self.main.pop_front();
            taken.push(first);
        }
    }
}
