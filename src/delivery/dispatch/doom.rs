//! Jobs that end without being sent: too old, cancelled, or of a credential that was replaced.
//!
//! A job may name a version of its rule above all that the feed has read. That version may be newer than this process
//! knows, or one of a topic that is gone. A cancel mark then ends nothing by its time before the feed had time to read
//! on; the lane waits.

use std::collections::HashSet;
use std::sync::Arc;

use super::load::DOOMED_CHUNK;
use super::{
    Backlog, Cause, Class, Credential, Dispatch, Entry, JobAt, LaneState, Micros, Number, Origin, OutcomeResult,
    Payload, Reason, Rules, SWEEP_EVERY, Settled, micros,
};

/// How long a version is waited for that the rules topic hasn't shown. The feed shows what it reads within a second.
const VERSION_WAIT: Micros = 10_000_000;

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
    pub fn rules(&mut self, in_force: Arc<Rules<()>>, now: Micros, settled: &mut Vec<Settled>) {
        let before = std::mem::replace(&mut self.in_force, in_force);
        let in_force = Arc::clone(&self.in_force);
        let newly = in_force
            .cancelled
            .iter()
            .filter(|(rule, mark)| before.cancelled.get(*rule) != Some(mark));
        let origins: HashSet<Number<Origin>> = newly
            .filter_map(|(rule, _)| self.origin_by_rule.get(&**rule))
            .copied()
            .collect();
        let classes = self.classes.numbers();
        let marked = classes
            .filter(|class| origins.contains(&self.classes[*class].origin))
            .collect();
        self.cancel(&marked, now);
        for credential in self.credentials.numbers() {
            self.doom_replaced(credential);
        }
        self.end_doomed(now, settled);
        self.obey(&before.controls, now);
        for lane in self.lanes.numbers() {
            self.queue(lane, now);
        }
        for credential in self.credentials.numbers() {
            self.queue_credential(credential, now);
        }
    }

    /// Ends the jobs of some classes that wait and are cancelled. Those of a version that isn't read yet wait for it.
    fn cancel(&mut self, of: &HashSet<Number<Class>>, now: Micros) {
        if of.is_empty() {
            return;
        }
        of.iter().for_each(|class| self.await_version(*class, now));
        let (mut doomed, mut undecided) = (Vec::new(), Vec::new());
        let mut lanes = std::mem::take(&mut self.lanes);
        for number in lanes.numbers() {
            doomed.extend(lanes[number].lane.remove(|entry| {
                if !of.contains(&entry.class) {
                    return false;
                }
                // A replay that waits now was written before the mark; one that comes later is looked at then.
                match self.classes[entry.class].cause {
                    Cause::Match => {}
                    Cause::Replay => return true,
                    Cause::Test => return false,
                }
                let written_at = self.written_at(entry.at());
                let until = self.undecided_until(entry.class, written_at);
                undecided.extend(until.map(|until| (number, until)));
                until.is_none() && self.is_cancelled(entry.class, written_at)
            }));
        }
        self.lanes = lanes;
        undecided.dedup();
        for (lane, until) in undecided {
            self.freeze_lane(lane, until, until, now);
        }
        self.doom(Doom::Cancelled, doomed);
    }

    /// Waits for the version of a class, if the rules topic hasn't shown it.
    pub(super) fn await_version(&mut self, class: Number<Class>, now: Micros) {
        if self.is_unread(class) && !self.of_another_topic.contains(&class) {
            self.unread.entry(class).or_insert(now + VERSION_WAIT);
        }
    }

    fn is_unread(&self, class: Number<Class>) -> bool {
        let class = &self.classes[class];
        let rule = &self.origins[class.origin].rule_id;
        class.cause == Cause::Match && self.in_force.is_unread(rule, class.version)
    }

    /// Until when a job's lane stands still, since only its version's record would tell whether the job is cancelled.
    pub(super) fn undecided_until(&self, class: Number<Class>, written_at: Option<i64>) -> Option<Micros> {
        let until = self.unread.get(&class).copied()?;
        self.is_cancelled(class, written_at).then_some(until)
    }

    /// Decides about jobs whose version was waited for.
    fn decide(&mut self, now: Micros) {
        let due: HashSet<Number<Class>> = (self.unread.iter())
            .filter(|(_, until)| **until <= now)
            .map(|(class, _)| *class)
            .collect();
        if due.is_empty() {
            return;
        }
        self.unread.retain(|class, _| !due.contains(class));
        let still_unread: Vec<Number<Class>> = due.iter().copied().filter(|class| self.is_unread(*class)).collect();
        self.of_another_topic.extend(still_unread);
        self.cancel(&due, now);
        for lane in self.lanes.numbers() {
            self.queue(lane, now);
        }
    }

    fn written_at(&self, at: JobAt) -> Option<i64> {
        if let Some(payload) = self.payloads.get(&at) {
            return Some(payload.written_at);
        }
        self.ledger.written_at(at)
    }

    /// How a job of a lane ends that isn't to be sent any more, as the rules are now.
    pub(super) fn fate(&self, lane: Number<LaneState>, class: Number<Class>, payload: &Payload) -> Option<Doom> {
        if !self.unread.contains_key(&class) && self.is_cancelled(class, Some(payload.written_at)) {
            Some(Doom::Cancelled)
        } else {
            self.is_replaced(lane, class).then_some(Doom::Replaced)
        }
    }

    fn is_cancelled(&self, class: Number<Class>, written_at: Option<i64>) -> bool {
        let class = &self.classes[class];
        let rule = self.origins[class.origin].rule_id.as_str();
        match class.cause {
            Cause::Match => self.in_force.is_cancelled(rule, class.version, written_at),
            // A person asked for it, after or before another one cancelled.
            Cause::Replay => {
                let mark = self.in_force.cancelled.get(rule);
                mark.is_some_and(|mark| written_at.is_some_and(|written_at| written_at <= mark.at))
            }
            Cause::Test => false,
        }
    }

    /// Whether jobs of a class can't be sent under the lane's credential any more.
    fn is_replaced(&self, lane: Number<LaneState>, class: Number<Class>) -> bool {
        let credential = &self.credentials[self.lanes[lane].credential];
        let class = &self.classes[class];
        let rule = &self.origins[class.origin].rule_id;
        let named = || self.in_force.credential(rule);
        credential.refused.is_some()
            && class.cause != Cause::Test
            && named().is_some_and(|named| named != credential.id)
    }

    /// Dooms the jobs of a refused credential whose rules name another one by now.
    pub(super) fn doom_replaced(&mut self, credential: Number<Credential>) {
        if self.credentials[credential].refused.is_none() {
            return;
        }
        for lane in self.lanes.numbers() {
            if self.lanes[lane].credential != credential || self.lanes[lane].lane.is_empty() {
                continue;
            }
            let replaced = self.classes.numbers().filter(|class| self.is_replaced(lane, *class));
            let replaced: HashSet<Number<Class>> = replaced.collect();
            let doomed = (self.lanes[lane].lane).remove(|entry| replaced.contains(&entry.class));
            self.doom(Doom::Replaced, doomed);
        }
    }

    /// A job older than `job_age_max` becomes a dead letter, whatever holds it.
    pub(super) fn sweep(&mut self, now: Micros, settled: &mut Vec<Settled>) {
        self.decide(now);
        self.queue_freed(now);
        if self.doomed.iter().any(|(_, backlog)| !backlog.is_empty()) {
            self.end_doomed(now, settled);
        }
        if now < self.next_sweep {
            return;
        }
        self.next_sweep = now + SWEEP_EVERY;
        let oldest = (self.wall(now) - micros(self.settings.job_age_max)) / 1000;
        let old = self.ledger.older_than(oldest);
        if old.is_empty() {
            return;
        }
        let is_old = |entry: &Entry| {
            let at = entry.at();
            old.get(&at.partition).is_some_and(|below| at.offset < *below)
        };
        for lane in self.lanes.numbers() {
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
        let held = self.unhold(is_old);
        self.doom(Doom::TooOld(Reason::UnknownSchema), held);
        self.queue_freed(now);
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
            let class = &self.classes[entry.class];
            if self.origins[class.origin].rule_id != payload.job.rule_id || class.version != payload.job.rule_version {
                // Another job stands there, in a topic that was made anew.
                continue;
            }
            let (reason, words) = match why {
                Doom::Cancelled => (None, String::new()),
                Doom::TooOld(reason) => (Some(reason), too_old(&payload)),
                Doom::Replaced => (Some(Reason::CredentialRefused), REPLACED.to_owned()),
            };
            let outcome = |result| self.outcome(at, &payload.job, result, now);
            let outcome = match reason {
                Some(reason) => outcome(OutcomeResult::Dead).because(reason, words),
                None => outcome(OutcomeResult::Cancelled),
            };
            settled.push(self.end(entry, &payload, outcome, reason));
        }
        missing
    }
}

fn too_old(payload: &Payload) -> String {
    let newer = payload.newer.as_ref();
    let needs = newer.map_or(String::new(), |newer| {
        format!(", and of a newer version: {}", newer.needs)
    });
    format!("older than sender.job_age_max{needs}")
}

const REPLACED: &str = "the credential is refused, and the rule names another one by now, which a replay uses";
