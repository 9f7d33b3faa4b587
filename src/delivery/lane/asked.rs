//! What people ask of a lane: to send a test, and to try again now.

use super::{Entry, JobAt, Lane, Micros};

impl Lane {
    /// A test, before all that are none.
    pub fn push_test(&mut self, entry: Entry) {
        self.tests.push_back(entry);
        self.count += 1;
    }

    /// Takes out the test that waits at this place, if one does.
    pub fn pull_test(&mut self, at: JobAt) -> Option<Entry> {
        let place = self.tests.iter().position(|entry| entry.at() == at)?;
        self.count -= 1;
        self.tests.remove(place)
    }

    pub fn has_test(&self, at: JobAt) -> bool {
        self.tests.iter().any(|entry| entry.at() == at)
    }

    /// The test that may go next.
    pub(super) fn next_test(&self) -> Option<Entry> {
        let free = |entry: &&Entry| !self.busy.contains(&entry.key);
        self.tests.iter().find(free).copied()
    }

    /// What waits for its retry may go now.
    pub fn retry_now(&mut self, now: Micros) {
        let due = std::mem::take(&mut self.due);
        self.due = due.into_iter().map(|(at, key)| (at.min(now), key)).collect();
        for held in self.held.values_mut() {
            held.not_before = held.not_before.min(now);
        }
        let aside = std::mem::take(&mut self.aside);
        self.aside = aside
            .into_iter()
            .map(|((at, first), entries)| ((at.min(now), first), entries))
            .collect();
    }
}
