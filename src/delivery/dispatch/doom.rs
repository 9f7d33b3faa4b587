//! Jobs that end without being sent: too old, cancelled, or of a credential that was replaced.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::load::DOOMED_CHUNK;
use super::{
    Backlog, DeliveryJob, Dispatch, Entry, JobAt, Micros, OutcomeResult, Payload, Reason, Rules, SWEEP_EVERY, Settled,
    micros,
};

/// Why a job ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Doom {
    /// Older than `job_age_max`; with the dead letter's reason.
    TooOld(Reason),
    Cancelled,
    /// Its credential is refused, and the rule in force names another one.
    Replaced,
}

impl Dispatch {
    /// The rules changed: cancels what is to be cancelled, and lets go of credentials that are
    /// refused and replaced.
    pub fn rules(&mut self, in_force: Arc<Rules>, now: Micros, settled: &mut Vec<Settled>) {
        let before = std::mem::replace(&mut self.in_force, in_force);
        let in_force = Arc::clone(&self.in_force);
        let newly = in_force
            .cancelled
            .iter()
            .filter(|(rule, mark)| before.cancelled.get(*rule) != Some(mark));
        // What waits now was written before the mark; a replay that comes later is looked at then.
        let rules: HashSet<u32> = newly.filter_map(|(rule, _)| self.rules.get(&**rule)).copied().collect();
        if !rules.is_empty() {
            let mut doomed = Vec::new();
            let (classes, partitions, ids) = (&self.classes, &self.partitions, &self.rule_ids);
            let written_at = |at: JobAt| {
                let owned = partitions.get(&at.partition)?;
                owned.offsets.written_at(at.offset)
            };
            for lane in &mut self.lanes {
                doomed.extend(lane.lane.remove(|entry| {
                    let class = &classes[entry.class as usize];
                    let cancelled = || {
                        let written_at = written_at(entry.at()).unwrap_or_default();
                        in_force.is_cancelled(&ids[class.rule as usize], class.version, written_at)
                    };
                    rules.contains(&class.rule) && (class.replayed || cancelled())
                }));
            }
            self.doom(Doom::Cancelled, doomed);
        }
        for credential in 0..self.credentials.len() {
            self.doom_replaced(credential);
        }
        self.end_doomed(now, settled);
        for lane in 0..self.lanes.len() {
            self.queue(lane, now);
        }
    }

    /// How a job of a lane ends that isn't to be sent any more, as the rules are now.
    pub(super) fn fate(&self, lane: usize, class: u32, payload: &Payload) -> Option<Doom> {
        let replayed = self.classes[class as usize].replayed;
        if self.is_cancelled(&payload.job, replayed, payload.written_at) {
            Some(Doom::Cancelled)
        } else {
            self.is_replaced(lane, class).then_some(Doom::Replaced)
        }
    }

    fn is_cancelled(&self, job: &DeliveryJob, replayed: bool, written_at: i64) -> bool {
        if replayed {
            // A person asked for it, after or before another one cancelled.
            let mark = self.in_force.cancelled.get(&*job.rule_id);
            mark.is_some_and(|mark| written_at <= mark.at)
        } else {
            self.in_force.is_cancelled(&job.rule_id, job.rule_version, written_at)
        }
    }

    /// Whether jobs of a class can't be sent under the lane's credential any more.
    fn is_replaced(&self, lane: usize, class: u32) -> bool {
        let credential = &self.credentials[self.lanes[lane].credential];
        let rule = &self.rule_ids[self.classes[class as usize].rule as usize];
        let named = || self.in_force.credential(rule);
        credential.refused.is_some() && named().is_some_and(|named| named != credential.id)
    }

    /// Dooms the jobs of a refused credential whose rules name another one by now.
    pub(super) fn doom_replaced(&mut self, credential: usize) {
        if self.credentials[credential].refused.is_none() {
            return;
        }
        for lane in 0..self.lanes.len() {
            if self.lanes[lane].credential != credential || self.lanes[lane].lane.is_empty() {
                continue;
            }
            let count = u32::try_from(self.classes.len()).unwrap_or(u32::MAX);
            let replaced: Vec<bool> = (0..count).map(|class| self.is_replaced(lane, class)).collect();
            let doomed = (self.lanes[lane].lane).remove(|entry| replaced[entry.class as usize]);
            self.doom(Doom::Replaced, doomed);
        }
    }

    /// A job older than `job_age_max` becomes a dead letter, whatever holds it.
    pub(super) fn sweep(&mut self, now: Micros, settled: &mut Vec<Settled>) {
        if self.doomed.iter().any(|(_, backlog)| !backlog.is_empty()) {
            self.end_doomed(now, settled);
        }
        if now < self.next_sweep {
            return;
        }
        self.next_sweep = now + SWEEP_EVERY;
        let oldest = (self.wall(now) - micros(self.settings.job_age_max)) / 1000;
        let old: HashMap<i32, i64> = (self.partitions.iter())
            .map(|(partition, owned)| (*partition, owned.offsets.older_than(oldest)))
            .filter(|(_, below)| *below > 0)
            .collect();
        if old.is_empty() {
            return;
        }
        let is_old = |entry: &Entry| {
            let at = entry.at();
            old.get(&at.partition).is_some_and(|below| at.offset < *below)
        };
        for lane in 0..self.lanes.len() {
            let doomed = self.lanes[lane].lane.remove(is_old);
            let refused = self.credentials[self.lanes[lane].credential].refused.is_some();
            let reason = if refused {
                Reason::CredentialRefused
            } else {
                Reason::GaveUp
            };
            self.doom(Doom::TooOld(reason), doomed);
            self.queue(lane, now);
        }
        self.end_doomed(now, settled);
    }

    pub(super) fn doom(&mut self, why: Doom, entries: impl IntoIterator<Item = Entry>) {
        let mut entries = entries.into_iter().peekable();
        if entries.peek().is_none() {
            return;
        }
        if self.doomed.back().is_none_or(|(last, _)| *last != why) {
            self.doomed.push_back((why, Backlog::default()));
        }
        if let Some((_, backlog)) = self.doomed.back_mut() {
            entries.for_each(|entry| backlog.push_back(entry));
        }
    }

    /// Ends the doomed that are in memory, and asks for the next of those that aren't: one load at
    /// a time, so that a million that are cancelled take little memory.
    pub(super) fn end_doomed(&mut self, now: Micros, settled: &mut Vec<Settled>) {
        if self.loading.values().any(|load| load.lane.is_none()) {
            return;
        }
        loop {
            // What wasn't found in Kafka is lost, and was counted as such.
            if let Some((why, entries)) = self.ending.take() {
                self.end_loaded(why, entries, now, settled);
            }
            let Some((why, backlog)) = self.doomed.front_mut() else {
                return;
            };
            let why = *why;
            let entries: Vec<Entry> = std::iter::from_fn(|| backlog.pop_front()).take(DOOMED_CHUNK).collect();
            if backlog.is_empty() {
                self.doomed.pop_front();
            }
            let missing = self.end_loaded(why, entries, now, settled);
            if !missing.is_empty() {
                self.load(None, missing.clone());
                self.ending = Some((why, missing));
                return;
            }
        }
    }

    /// Ends those that are in memory, and gives those that aren't.
    fn end_loaded(&mut self, why: Doom, entries: Vec<Entry>, now: Micros, settled: &mut Vec<Settled>) -> Vec<Entry> {
        let mut missing = Vec::new();
        for entry in entries {
            let at = entry.at();
            let Some(payload) = self.payloads.get(&at).cloned() else {
                missing.push(entry);
                continue;
            };
            let class = &self.classes[entry.class as usize];
            if self.rule_ids[class.rule as usize] != payload.job.rule_id || class.version != payload.job.rule_version {
                // Another job stands there, in a topic that was made anew.
                continue;
            }
            let outcome = self.outcome(at, &payload.job, OutcomeResult::Cancelled, now);
            let (reason, words) = match why {
                Doom::Cancelled => (None, ""),
                Doom::TooOld(reason) => (Some(reason), "older than sender.job_age_max"),
                Doom::Replaced => (Some(Reason::CredentialRefused), REPLACED),
            };
            let outcome = match reason {
                Some(reason) => outcome.because(reason, words),
                None => outcome,
            };
            settled.push(self.end(at, &payload, outcome, reason));
        }
        missing
    }
}

const REPLACED: &str = "the credential is refused, and the rule names another one by now, which a replay uses";
