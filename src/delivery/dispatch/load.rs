//! Payloads of waiting jobs: which are in memory, and which have to be read again.

use std::sync::Arc;

use super::{DeliveryJob, Dispatch, Entry, JobAt, LaneState, Micros, Newer, Number, Ownership, Settled};

/// A job in memory.
#[derive(Debug, Clone)]
pub struct Payload {
    pub job: Arc<DeliveryJob>,
    pub traceparent: Option<Arc<str>>,
    /// When it was written to its topic, epoch milliseconds.
    pub written_at: i64,
    /// What it takes of the budget.
    pub bytes: usize,
    /// Set where a newer version wrote the job: of `job` nothing is known but the ids and the credential.
    pub newer: Option<Newer>,
}

/// Jobs to read again, in the order of their offsets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Load {
    pub id: u64,
    pub jobs: Vec<JobAt>,
}

/// A load on its way.
#[derive(Debug, Clone, Copy)]
pub(super) struct Loading {
    /// The lane that it is for; none for jobs that end.
    pub(super) lane: Option<Number<LaneState>>,
    /// What it will take.
    expected: usize,
    /// The latest ownership when it began: a partition that is taken over later may hold other jobs at the same places.
    latest: Ownership,
}

/// Payloads that are worth holding of a lane of messages; of a lane of batches so many batches beyond those that may be
/// in flight.
const MESSAGES_CHUNK: usize = 256;
const BATCHES: usize = 8;
/// The most jobs that one message stands for, and the most that are loaded for their end.
const DIGEST_MAX: usize = 5_000;
/// A lane has no more than about so many in memory.
const NEAR_MAX: usize = 50_000;
pub(super) const DOOMED_CHUNK: usize = 5_000;

impl Dispatch {
    /// What is to be read again now.
    pub fn loads(&mut self) -> Vec<Load> {
        std::mem::take(&mut self.loads)
    }

    /// Jobs of a load; `None` for one that Kafka has no more. Gives the jobs that are lost.
    pub fn loaded(
        &mut self,
        load: u64,
        jobs: Vec<(JobAt, Option<Payload>)>,
        now: Micros,
        settled: &mut Vec<Settled>,
    ) -> Vec<JobAt> {
        let Some(Loading { lane, expected, latest }) = self.loading.remove(&load) else {
            return Vec::new();
        };
        self.expected -= expected;
        let mut lost = Vec::new();
        for (at, payload) in jobs {
            if !self.ledger.awaits(at, latest) {
                continue;
            }
            // In a topic that was made anew another lane's job may stand there.
            let is_its_lane = |payload: &Payload| lane.is_none_or(|lane| payload.job.lane() == self.lanes[lane].id);
            match payload {
                Some(payload) if is_its_lane(&payload) => self.keep(at, payload),
                _ => lost.push(at),
            }
        }
        for at in &lost {
            if let Some(lane) = lane {
                self.lanes[lane].lane.remove(|entry| entry.at() == *at);
            }
            self.ledger.settle(*at);
        }
        match lane {
            Some(lane) => {
                let state = &mut self.lanes[lane].lane;
                (state.loading, state.starved) = (false, false);
                self.queue(lane, now);
            }
            None => self.end_doomed(now, settled),
        }
        lost
    }

    /// Bytes of payloads in memory.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn keep(&mut self, at: JobAt, payload: Payload) {
        self.bytes += payload.bytes;
        if let Some(before) = self.payloads.insert(at, payload) {
            self.bytes -= before.bytes;
        }
    }

    pub(super) fn forget(&mut self, at: JobAt) {
        if let Some(payload) = self.payloads.remove(&at) {
            self.bytes -= payload.bytes;
        }
    }

    pub(super) fn load(&mut self, lane: Option<Number<LaneState>>, entries: Vec<Entry>) {
        let mut jobs: Vec<JobAt> = entries.iter().map(Entry::at).collect();
        jobs.sort_unstable();
        self.next_id += 1;
        let expected = jobs.len() * self.payload_bytes();
        self.expected += expected;
        let loading = Loading {
            lane,
            expected,
            latest: self.ledger.latest(),
        };
        self.loading.insert(self.next_id, loading);
        self.loads.push(Load { id: self.next_id, jobs });
    }

    /// How many payloads a lane may hold: many while there is room, the next request's else.
    pub(super) fn chunk(&self, lane: Number<LaneState>) -> usize {
        let state = &self.lanes[lane];
        let credential = &self.credentials[state.credential];
        let (one, many) = match credential.pacing.batch {
            None => (1, MESSAGES_CHUNK),
            Some(batch) => (batch.max, batch.max * (credential.slots.max() + BATCHES)),
        };
        let room = self
            .settings
            .payload_bytes_max
            .saturating_sub(self.bytes + self.expected);
        // A quarter of what is left, so that others find room too.
        (room / 4 / self.payload_bytes()).clamp(one, many)
    }

    /// What a payload takes, as far as we have seen.
    fn payload_bytes(&self) -> usize {
        (self.bytes / self.payloads.len().max(1)).max(512)
    }

    /// How many jobs a message may stand for: few enough to be in memory at once.
    pub(super) fn digest_max(&self) -> usize {
        (self.settings.payload_bytes_max / 4 / self.payload_bytes()).clamp(2, DIGEST_MAX)
    }

    /// A lane that has to wait for long gives its room to others.
    pub(super) fn put_off(&mut self, lane: Number<LaneState>) {
        if self.bytes > self.settings.payload_bytes_max / 2 {
            let near = self.lanes[lane].lane.entries().take(NEAR_MAX);
            let near: Vec<JobAt> = near.map(|entry| entry.at()).collect();
            near.into_iter().for_each(|at| self.forget(at));
        }
    }
}
