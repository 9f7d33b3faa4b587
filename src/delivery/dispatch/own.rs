//! Partitions as they come and go: the predecessor's outcomes reach the lanes, and the jobs of a partition leave with
//! it.

use super::{Dispatch, Entry, JobAt, Micros, micros};
use crate::delivery::ledger::{Ownership, Read};
use crate::delivery::recall::Recalled;
use crate::delivery::sent::ThreadKey;
use crate::trail::Trail;

impl Dispatch {
    /// `partition` is ours from `now` on, or is started over. Nothing of it starts before [`Self::own`].
    pub fn take_over(&mut self, partition: i32, now: Micros) -> Ownership {
        self.drop_jobs(partition);
        self.ledger.take_over(partition, now)
    }

    /// The outcomes of `partition` are read back, with the trail of who read its jobs before: they may go.
    pub fn own(&mut self, partition: i32, recalled: Recalled, trail: Trail, now: Micros) {
        let mut recalled = recalled.in_steady_time(self.ahead);
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
        let Some(since) = self.ledger.open(partition, recalled, trail) else {
            return;
        };
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
        self.lanes.numbers().for_each(|lane| self.queue(lane, now));
        (self.credentials.numbers()).for_each(|credential| self.queue_credential(credential, now));
    }

    /// A record of the jobs topic was read: `job` by its [`tag`](crate::delivery::recall::tag), or what is none.
    /// Says what it is.
    pub fn read(&mut self, at: JobAt, job: Option<u32>, written_at: i64) -> Read {
        let read = self.ledger.read(at, job, written_at);
        if read == Read::Another {
            self.tried.remove(&at);
        }
        read
    }

    /// `partition` goes away: nothing of it starts any more, and what is in flight is settled.
    pub fn retire(&mut self, partition: i32) {
        self.ledger.retire(partition);
        self.drop_waiting(partition);
    }

    /// Forgets `partition`; its lanes' limits stay, should it come back.
    pub fn disown(&mut self, partition: i32) {
        self.drop_jobs(partition);
        self.ledger.release(partition);
    }

    /// Drops the jobs of `partition` that wait.
    fn drop_waiting(&mut self, partition: i32) {
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
        self.tests.retain(|at, _| at.partition != partition);
        dropped.iter().for_each(|entry| self.forget(entry.at()));
    }

    /// Drops all jobs of `partition`, those in flight among them.
    fn drop_jobs(&mut self, partition: i32) {
        self.drop_waiting(partition);
        let dropped = self.payloads.extract_if(|at, _| at.partition == partition);
        self.bytes -= dropped.map(|(_, payload)| payload.bytes).sum::<usize>();
        self.tried.retain(|at, _| at.partition != partition);
    }

    /// Whether requests with jobs of `partition` are in flight, those of a former ownership aside.
    pub fn is_busy(&self, partition: i32) -> bool {
        let of_it = |entry: &Entry| entry.at().partition == partition;
        let mut attempts = self.attempts.values();
        attempts.any(|attempt| !self.ledger.is_former(partition, attempt.latest) && attempt.entries.iter().any(of_it))
    }
}
