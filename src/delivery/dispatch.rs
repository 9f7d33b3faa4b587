//! Dispatch: which job may be sent now, and what becomes of it after the answer.
//!
//! The sender's loop hands in jobs and answers; out come requests to start and outcomes to write.
//! Nothing here does I/O or reads a clock: `now` comes with each call, in microseconds since the
//! epoch on a clock that never goes back.
//!
//! Invariants: requests of one scope start no closer than its spacing; nothing of a frozen scope
//! starts; jobs of one lane key start in the order they were written; a job leaves memory only
//! with its final outcome, or because its partition went to another owner.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use super::lane::{JobAt, Lane, Waiting};
use super::limit::{Micros, Rate, Spacer};
use super::sent::SentIds;
use super::{ActionType, DeliveryJob, OnAmbiguous, Outcome, OutcomeResult, Provider};
use crate::reason::Reason;

mod answer;
mod turn;

/// The limits and delays in force.
#[derive(Debug, Clone)]
pub struct Settings {
    pub in_flight_max: usize,
    pub channel_rate: Rate,
    pub workspace_rate: Rate,
    pub webhook_rate: Rate,
    /// Rates of (credential, channel); without a channel the credential's own.
    pub rates: HashMap<(String, Option<String>), Rate>,
    /// Uploads in flight at once, by CleverTap credential.
    pub concurrency: HashMap<String, usize>,
    pub batch_max: usize,
    pub batch_wait: Duration,
    pub retry_initial: Duration,
    pub retry_max: Duration,
    pub step_aside: Duration,
    pub give_up_after: Duration,
    pub job_age_max: Duration,
    pub dedup_window: Duration,
    pub dedup_ids_max: usize,
    pub join: bool,
}

/// What a destination's answer means; each adapter says it once, and nobody looks behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Delivered,
    /// Not taken: nothing of the scope before the delay is over. Without one, our own backoff.
    Throttled {
        scope: Scope,
        retry_after: Option<Duration>,
    },
    /// Not taken; trying again may help.
    Retry,
    /// May have been taken.
    Ambiguous,
    /// Will never be taken: `message_rejected` or `destination_gone`.
    Rejected(Reason),
    CredentialRefused,
    /// The bot isn't in the public channel; it may join.
    NotInChannel,
    /// The member's direct channel must be opened first.
    NotOpen,
    /// The batch as a whole was refused; its halves may not be.
    BatchRefused,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    Lane,
    Credential,
}

/// An answer to one job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub verdict: Verdict,
    pub status: Option<u16>,
    /// The provider's words, masked and cut.
    pub words: String,
    pub message_id: Option<String>,
    /// The direct channel's id, which [`Request::Open`] gave.
    pub channel: Option<String>,
}

/// A request to make now.
#[derive(Debug, Clone)]
pub struct Attempt {
    pub id: u64,
    pub request: Request,
    pub jobs: Vec<Arc<DeliveryJob>>,
    /// The Slack message to reply to, in its thread.
    pub thread_ts: Option<String>,
    /// The direct channel to post to in place of the member, once [`Request::Open`] gave it.
    pub channel: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    Send,
    /// Join the jobs' channel.
    Join,
    /// Open the direct channel of the member that the jobs are for.
    Open,
    /// Ask whether the jobs' credential works again; a Slack token can be asked about, the others
    /// only by sending the oldest job.
    Probe,
}

/// An outcome to write; a final one settles its job once Kafka has acknowledged it.
#[derive(Debug, Clone)]
pub struct Settled {
    pub at: JobAt,
    pub job: Arc<DeliveryJob>,
    pub outcome: Outcome,
    /// The job goes to the dead letters for this reason.
    pub dead: Option<Reason>,
}

/// How often a refused credential is probed: first and at the longest.
const PROBE_FIRST: Micros = 30_000_000;
const PROBE_MAX: Micros = 600_000_000;
/// How often waiting jobs are looked through for those that are too old.
const SWEEP_EVERY: Micros = 10_000_000;

/// All lanes and limits of one sender.
#[derive(Debug)]
pub struct Dispatch {
    settings: Settings,
    rng: fastrand::Rng,
    lanes: Vec<LaneState>,
    by_id: HashMap<String, usize>,
    credentials: HashMap<String, Credential>,
    hosts: HashMap<Arc<str>, usize>,
    /// Lanes with work by the time they may be ready, then by who was served longest ago.
    ready: BTreeSet<(Micros, u64, usize)>,
    attempts: HashMap<u64, InFlight>,
    partitions: HashMap<i32, Micros>,
    sent: SentIds,
    in_flight: usize,
    next_id: u64,
    next_sweep: Micros,
    waiting: usize,
    bytes: usize,
}

#[derive(Debug)]
struct LaneState {
    id: String,
    credential: String,
    host: Arc<str>,
    provider: Provider,
    lane: Lane,
    spacer: Option<Spacer>,
    served: u64,
    /// Its place in `ready`, if it has one.
    queued: Option<(Micros, u64)>,
    batch_max: usize,
    joined: bool,
    join_next: bool,
    frozen_why: Option<&'static str>,
}

#[derive(Debug)]
struct Credential {
    spacer: Option<Spacer>,
    in_flight: usize,
    in_flight_max: usize,
    refused: Option<Micros>,
    throttles: u32,
}

#[derive(Debug)]
struct InFlight {
    lane: usize,
    request: Request,
    jobs: Vec<Waiting>,
    started: Micros,
}

impl Dispatch {
    pub fn new(settings: Settings, rng: fastrand::Rng) -> Self {
        let sent = SentIds::new(settings.dedup_window, settings.dedup_ids_max);
        Self {
            settings,
            rng,
            lanes: Vec::new(),
            by_id: HashMap::new(),
            credentials: HashMap::new(),
            hosts: HashMap::new(),
            ready: BTreeSet::new(),
            attempts: HashMap::new(),
            partitions: HashMap::new(),
            sent,
            in_flight: 0,
            next_id: 0,
            next_sweep: 0,
            waiting: 0,
            bytes: 0,
        }
    }

    /// We own `partition` since `now`, as far as limits go.
    pub fn own(&mut self, partition: i32, now: Micros) {
        self.sent.begin(now);
        self.partitions.insert(partition, now);
    }

    /// Takes in what the predecessor's outcomes say of this job's id or lane.
    pub fn recall(&mut self, outcome: &Outcome, host: Arc<str>, job: &DeliveryJob, now: Micros) {
        let until = outcome.next_at.unwrap_or(0) * 1000;
        if outcome.result == OutcomeResult::Throttled && until > now {
            let lane = self.lane(job, host, now);
            // Slack's words tell the channel's limit from the workspace's.
            let of_lane = outcome
                .words
                .as_deref()
                .is_some_and(|words| words.starts_with("rate_limited"));
            let scope = if of_lane || job.action == ActionType::SlackWebhook {
                Scope::Lane
            } else {
                Scope::Credential
            };
            self.freeze(lane, scope, until, now, "throttled");
        }
    }

    /// How far back a repeated event is known to have been sent.
    pub fn dedup_reach(&self, now: Micros) -> Duration {
        self.sent.reach(now)
    }

    /// A job id that was sent, by us or a predecessor, at `sent_at`.
    pub fn recall_sent(&mut self, job_id: &str, sent_at: Micros, now: Micros) {
        self.sent.insert(job_id, sent_at, now);
    }

    /// Takes in a job. `attempts` is known from its earlier outcomes.
    pub fn accept(&mut self, waiting: Waiting, host: Arc<str>, now: Micros) {
        let lane = self.lane(&waiting.job, host, now);
        self.waiting += 1;
        self.bytes += waiting.bytes;
        self.lanes[lane].lane.push(waiting);
        self.queue(lane, now);
    }

    /// Jobs waiting in memory, and their bytes.
    pub fn held(&self) -> (usize, usize) {
        (self.waiting, self.bytes)
    }

    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// The next request that may start now, if any. What expired, was sent before or is too old is
    /// settled on the way, into `settled`.
    pub fn next(&mut self, now: Micros, settled: &mut Vec<Settled>) -> Option<Attempt> {
        self.sweep(now, settled);
        while let Some((at, served, lane)) = self.ready.first().copied() {
            if at > now || self.in_flight >= self.settings.in_flight_max {
                return None;
            }
            self.ready.remove(&(at, served, lane));
            self.lanes[lane].queued = None;
            match self.start_at(lane, now) {
                Some(start) if start <= now => {}
                Some(_) => {
                    self.queue(lane, now);
                    continue;
                }
                None => continue,
            }
            let before = settled.len();
            if let Some(attempt) = self.start(lane, now, settled) {
                return Some(attempt);
            }
            debug_assert!(settled.len() > before, "a lane that is ready has something to take");
            self.queue(lane, now);
        }
        None
    }

    /// When [`Self::next`] is worth another call, if nothing comes in before.
    pub fn wake_at(&self) -> Micros {
        match self.ready.first() {
            Some((at, ..)) if self.in_flight < self.settings.in_flight_max => (*at).min(self.next_sweep),
            _ => self.next_sweep,
        }
    }

    pub fn in_flight_by_provider(&self) -> HashMap<Provider, usize> {
        let mut counts = HashMap::new();
        for attempt in self.attempts.values() {
            *counts.entry(self.lanes[attempt.lane].provider).or_default() += 1;
        }
        counts
    }

    /// Drops what waits of `partition`; its lanes' limits stay, should it come back.
    pub fn disown(&mut self, partition: i32) {
        self.partitions.remove(&partition);
        for lane in &mut self.lanes {
            for waiting in lane.lane.remove(|waiting| waiting.at.partition == partition) {
                self.waiting -= 1;
                self.bytes -= waiting.bytes;
            }
        }
    }

    /// Whether requests with jobs of `partition` are in flight.
    pub fn is_busy(&self, partition: i32) -> bool {
        self.attempts
            .values()
            .any(|attempt| attempt.jobs.iter().any(|job| job.at.partition == partition))
    }

    /// For metrics and people: every lane with work or a freeze.
    pub fn lanes(&self, now: Micros) -> impl Iterator<Item = LaneView<'_>> {
        self.lanes.iter().map(move |lane| {
            let credential = &self.credentials[&lane.credential];
            let spacers = [lane.spacer.as_ref(), credential.spacer.as_ref()];
            let frozen = spacers.iter().flatten().filter(|spacer| spacer.frozen(now));
            let why = if credential.refused.is_some() {
                Some("credential_refused")
            } else {
                lane.frozen_why
            };
            LaneView {
                id: &lane.id,
                provider: lane.provider,
                waiting: lane.lane.len(),
                spacing: spacers
                    .iter()
                    .flatten()
                    .map(|spacer| spacer.spacing())
                    .max()
                    .unwrap_or(0),
                frozen_until: frozen.map(|spacer| spacer.ready_at()).max(),
                frozen_why: why.unwrap_or("throttled"),
            }
        })
    }

    fn start(&mut self, lane: usize, now: Micros, settled: &mut Vec<Settled>) -> Option<Attempt> {
        let state = &mut self.lanes[lane];
        let taken = state.lane.take(state.batch_max, now);
        let mut jobs = Vec::with_capacity(taken.len());
        for waiting in taken {
            let result = if self.sent.contains(&waiting.job.job_id, now) {
                OutcomeResult::Duplicate
            } else if waiting.job.expires_at.is_some_and(|at| at * 1000 <= now) {
                OutcomeResult::Expired
            } else {
                jobs.push(waiting);
                continue;
            };
            self.waiting -= 1;
            self.bytes -= waiting.bytes;
            state.lane.release(std::iter::once(&waiting));
            let outcome = outcome(&waiting, result, now);
            settled.push(Settled {
                at: waiting.at,
                job: waiting.job,
                outcome,
                dead: None,
            });
        }
        if jobs.is_empty() {
            return None;
        }
        let request = if state.join_next { Request::Join } else { Request::Send };
        self.next_id += 1;
        state.served = self.next_id;
        state.lane.in_flight += 1;
        if let Some(spacer) = state.spacer.as_mut().filter(|_| request == Request::Send) {
            spacer.start(now);
        }
        let host = Arc::clone(&state.host);
        let credential = self
            .credentials
            .get_mut(&state.credential)
            .expect("a lane's credential is known");
        credential.in_flight += 1;
        if let Some(spacer) = &mut credential.spacer {
            spacer.start(now);
        }
        *self.hosts.entry(host).or_default() += 1;
        self.in_flight += 1;
        let attempt = Attempt {
            id: self.next_id,
            request,
            jobs: jobs.iter().map(|waiting| Arc::clone(&waiting.job)).collect(),
            thread_ts: None,
            channel: None,
        };
        self.attempts.insert(
            attempt.id,
            InFlight {
                lane,
                request,
                jobs,
                started: now,
            },
        );
        self.queue(lane, now);
        Some(attempt)
    }

    /// A job older than `job_age_max` becomes a dead letter, whatever holds it.
    fn sweep(&mut self, now: Micros, settled: &mut Vec<Settled>) {
        if now < self.next_sweep {
            return;
        }
        self.next_sweep = now + SWEEP_EVERY;
        let oldest = now - micros(self.settings.job_age_max);
        for state in &mut self.lanes {
            let refused = self.credentials[&state.credential].refused.is_some();
            let reason = if refused {
                Reason::CredentialRefused
            } else {
                Reason::GaveUp
            };
            for waiting in state.lane.remove(|waiting| waiting.written_at < oldest) {
                self.waiting -= 1;
                self.bytes -= waiting.bytes;
                let outcome =
                    outcome(&waiting, OutcomeResult::Dead, now).because(reason, "older than sender.job_age_max");
                settled.push(Settled {
                    at: waiting.at,
                    job: waiting.job,
                    outcome,
                    dead: Some(reason),
                });
            }
        }
    }

    /// The credentials that are refused now.
    pub fn refused(&self) -> HashSet<&str> {
        self.credentials
            .iter()
            .filter(|(_, state)| state.refused.is_some())
            .map(|(id, _)| id.as_str())
            .collect()
    }
}

/// A lane as metrics and people see it.
#[derive(Debug, Clone)]
pub struct LaneView<'d> {
    pub id: &'d str,
    pub provider: Provider,
    pub waiting: usize,
    /// The time that one job of it takes, by the limits alone.
    pub spacing: Micros,
    pub frozen_until: Option<Micros>,
    pub frozen_why: &'static str,
}

fn outcome(waiting: &Waiting, result: OutcomeResult, now: Micros) -> Outcome {
    let mut outcome = waiting.job.outcome(result, now / 1000);
    outcome.attempt = waiting.attempts;
    outcome.job_partition = Some(waiting.at.partition);
    outcome.job_offset = Some(waiting.at.offset);
    outcome
}

fn micros(duration: Duration) -> Micros {
    Micros::try_from(duration.as_micros()).unwrap_or(Micros::MAX / 4)
}

/// A successor must not start earlier than we would, so times are rounded up.
fn ceil_millis(at: Micros) -> i64 {
    (at + 999) / 1000
}

#[cfg(test)]
mod tests;
