//! Partitions: what a predecessor left, which jobs are settled, and what goes when they go.

use super::{Dispatch, Entry, JobAt, Micros, micros};
use crate::delivery::offsets::{Offsets, Place};
use crate::delivery::recall::Recalled;
use crate::delivery::sent::ThreadKey;

/// A partition that is ours.
#[derive(Debug)]
pub(super) struct Owned {
    pub(super) epoch: u64,
    pub(super) since: Micros,
    /// It goes away: what comes back isn't tried again.
    pub(super) retired: bool,
    pub(super) offsets: Offsets,
    pub(super) recalled: Recalled,
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

impl Dispatch {
    /// We own `partition` since `since`, as far as limits go, with what its outcomes say.
    pub fn own(&mut self, partition: i32, since: Micros, recalled: Recalled, now: Micros) {
        let mut recalled = recalled.in_steady_time(self.ahead);
        self.epoch += 1;
        self.sent.begin(recalled.known_since);
        for (id, sent_at) in std::mem::take(&mut recalled.sent) {
            self.sent.insert(id, sent_at, now);
        }
        for thread in std::mem::take(&mut recalled.threads) {
            let of = ThreadKey {
                lane: &thread.lane,
                lead_id: &thread.lead_id,
            };
            self.threads.insert(of, &thread.ts, thread.began, now);
        }
        for (rule, starts) in std::mem::take(&mut recalled.started) {
            let origin = self.origin_by_rule.get(&rule);
            match origin.and_then(|origin| self.origins[*origin].cap.as_mut()) {
                Some(cap) => cap.recall(&starts),
                None => self.started.entry(rule).or_default().extend(starts),
            }
        }
        for (id, frozen) in std::mem::take(&mut recalled.frozen) {
            self.recall_freeze(id, frozen, now);
        }
        for (offset, mut tried) in std::mem::take(&mut recalled.tried) {
            tried.aside = now - tried.failing_since >= micros(self.settings.step_aside);
            self.tried.insert(JobAt { partition, offset }, tried);
        }
        for credential in self.credentials.iter_mut() {
            // Its last owner may have started a request just before.
            if let Some(spacer) = &mut credential.spacer {
                spacer.take_over(since);
            }
        }
        for lane in self.lanes.iter_mut() {
            if let Some(spacer) = &mut lane.spacer {
                spacer.take_over(since);
            }
        }
        let owned = Owned {
            epoch: self.epoch,
            since,
            retired: false,
            offsets: Offsets::new(recalled.committed),
            recalled,
        };
        self.partitions.insert(partition, owned);
        self.lanes.numbers().for_each(|lane| self.queue(lane, now));
        (self.credentials.numbers()).for_each(|credential| self.queue_credential(credential, now));
    }

    /// A record of the jobs topic was read: `job` by its [`tag`](crate::delivery::recall::tag), or what is none.
    /// Says what it is.
    pub fn read(&mut self, at: JobAt, job: Option<u32>, written_at: i64) -> Read {
        let Some(owned) = self.partitions.get_mut(&at.partition) else {
            return Read::NotOurs;
        };
        if owned.retired {
            return Read::NotOurs;
        }
        if at.offset < owned.offsets.next() {
            return Read::Back;
        }
        let recalled = &mut owned.recalled;
        // Outcomes of a job, and of those behind it, come after it was first read.
        let tried = at.offset < recalled.tried_below;
        let from = if tried {
            recalled.outcomes_from
        } else {
            recalled.outcomes_end
        };
        owned.offsets.read(at.offset, from, written_at);
        if !recalled.knows(at.offset, job) {
            self.tried.remove(&at);
            return Read::Another;
        }
        if recalled.settled.remove(&at.offset) {
            owned.offsets.settle(at.offset);
            return Read::Settled;
        }
        Read::New
    }

    /// Kafka has a job's final outcome, or the dead letter of a record that is no job.
    pub fn acked(&mut self, at: JobAt) {
        if let Some(owned) = self.partitions.get_mut(&at.partition) {
            owned.offsets.settle(at.offset);
        }
    }

    /// Kafka has an outcome of `partition` at `offset` of its topic. Whether that is where the next one
    /// belongs; where it isn't, the topic was made anew, and whoever comes next reads all of it.
    pub fn told(&mut self, partition: i32, offset: i64) -> bool {
        let Some(owned) = self.partitions.get_mut(&partition) else {
            return true;
        };
        let recalled = &mut owned.recalled;
        let went_on = offset >= recalled.outcomes_end;
        recalled.outcomes_end = offset + 1;
        if !went_on {
            recalled.outcomes_from = 0;
            owned.offsets.outcomes_anew();
        }
        went_on
    }

    /// How many jobs of `partition` at or above `from` were read and have no final outcome yet.
    pub fn unsettled(&self, partition: i32, from: i64) -> u64 {
        let owned = self.partitions.get(&partition);
        owned.map_or(0, |owned| owned.offsets.unsettled(from))
    }

    /// What to commit of a partition.
    pub fn place(&self, partition: i32) -> Option<Place> {
        let owned = self.partitions.get(&partition)?;
        let recalled = &owned.recalled;
        // What a predecessor settled above may not have been read by us yet.
        let unread = owned.offsets.next() < recalled.tried_below;
        let end = if unread {
            recalled.outcomes_from
        } else {
            recalled.outcomes_end
        };
        Some(owned.offsets.place(end))
    }

    /// `partition` goes away: nothing of it starts any more, and what is in flight is settled.
    pub fn retire(&mut self, partition: i32) {
        let Some(owned) = self.partitions.get_mut(&partition) else {
            return;
        };
        owned.retired = true;
        let of_it = |entry: &Entry| entry.at().partition == partition;
        let mut dropped = Vec::new();
        for lane in self.lanes.iter_mut() {
            dropped.extend(lane.lane.remove(of_it));
        }
        for (_, backlog) in &mut self.doomed {
            dropped.extend(backlog.extract(usize::MAX, of_it));
        }
        if let Some((_, entries)) = &mut self.ending {
            entries.retain(|entry| !of_it(entry));
        }
        self.unhold(of_it);
        dropped.iter().for_each(|entry| self.forget(entry.at()));
    }

    /// Forgets `partition`; its lanes' limits stay, should it come back.
    pub fn disown(&mut self, partition: i32) {
        self.retire(partition);
        self.partitions.remove(&partition);
        let dropped = self.payloads.extract_if(|at, _| at.partition == partition);
        self.bytes -= dropped.map(|(_, payload)| payload.bytes).sum::<usize>();
        self.tried.retain(|at, _| at.partition != partition);
    }

    /// Whether requests with jobs of `partition` are in flight.
    pub fn is_busy(&self, partition: i32) -> bool {
        let of_it = |entry: &Entry| entry.at().partition == partition;
        self.attempts.values().any(|attempt| attempt.entries.iter().any(of_it))
    }

    /// An entry whose partition went away since the attempt began.
    pub(super) fn is_stale(&self, entry: &Entry, epoch: u64) -> bool {
        let owned = self.partitions.get(&entry.at().partition);
        owned.is_none_or(|owned| owned.epoch > epoch)
    }
}
