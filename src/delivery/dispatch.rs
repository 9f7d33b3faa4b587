//! Dispatch: which job may be sent now, and what follows the answer.
//!
//! The sender's loop hands in jobs and answers. It gets requests to start, jobs to load again and outcomes to write.
//! Nothing here does I/O or reads a clock: `now` comes with each call, in microseconds of a steady clock, which never
//! jumps. Limits, delays and freezes follow that clock. Times that other programs read or write (when a job expires or
//! was written, the times in outcomes) follow the wall clock; [`Dispatch::wall_clock`] converts them where they come
//! in or go out.
//!
//! Invariants: requests of one scope start no closer than its spacing; nothing of a frozen scope starts; jobs of one
//! lane key start in the order they were written; a job ends with one final outcome, or goes with its partition to
//! another owner; of a job that isn't near its turn, memory holds its place alone.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::backlog::{Backlog, Entry};
use super::lane::{Cause, Class, JobAt, Lane, Origin};
use super::ledger::{Ledger, Ownership};
use super::limit::{Cap, Micros, Spacer};
use super::number::{Number, Numbered};
use super::recall::{Frozen, Tried};
use super::sent::{SentIds, Threads};
use super::{DeliveryJob, Outcome, OutcomeResult};
use crate::action::{Limits, OnAmbiguous, Pacing, Provider};
use crate::dates::Rate;
use crate::reason::Reason;
use crate::rules::log::Rules;

mod answer;
mod class;
mod control;
mod doom;
mod held;
mod load;
mod own;
mod scope;
mod send_test;
mod slots;
mod turn;
mod view;

use held::Held;
pub use held::Newer;
pub use load::{Load, Payload};
use slots::{ByStanding, Queue, Slots, Standing};
pub use view::LaneView;

/// The limits and delays in force.
#[derive(Debug, Clone)]
pub struct Settings {
    pub in_flight_max: usize,
    pub limits: Limits,
    pub retry_initial: Duration,
    pub retry_max: Duration,
    pub step_aside: Duration,
    pub give_up_after: Duration,
    pub job_age_max: Duration,
    pub dedup_window: Duration,
    pub dedup_ids_max: usize,
    pub payload_bytes_max: usize,
    pub join: bool,
    /// A partition is handed over within this time, whatever is in flight.
    pub hand_over_max: Duration,
    /// After so long without a poll a member of the group may own nothing any more.
    pub silence_max: Duration,
}

/// What a destination's answer means; each adapter says it once, and nobody looks behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Delivered,
    /// Not taken: nothing of the scope before the delay is over. Without one, our own backoff.
    Throttled {
        scope: FreezeScope,
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
    /// The member has no conversation with the bot yet; it may open one.
    NotOpen,
    /// The batch as a whole was refused; its halves may not be.
    BatchRefused,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FreezeScope {
    Lane,
    Credential,
}

impl FreezeScope {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Lane => "lane",
            Self::Credential => "credential",
        }
    }
}

/// An answer to one job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub verdict: Verdict,
    /// `None` where no provider answered.
    pub status: Option<u16>,
    /// The provider's words, masked and cut.
    pub words: String,
    pub message_id: Option<String>,
    /// The conversation that was opened.
    pub channel: Option<String>,
}

impl Answer {
    /// What is said of a request whose answer was lost on our side.
    pub fn broken() -> Self {
        Self {
            verdict: Verdict::Ambiguous,
            ..Self::unsent("no answer: the task that sent it has died, and the log says where")
        }
    }

    /// Whether it tells of its own job alone: that one was refused here, and no provider was asked.
    fn is_of_one(&self) -> bool {
        matches!(self.verdict, Verdict::Rejected(_)) && self.status.is_none()
    }

    /// What is said of a request that was not made after all.
    pub fn unsent(words: &str) -> Self {
        Self {
            verdict: Verdict::Retry,
            status: None,
            words: words.to_owned(),
            message_id: None,
            channel: None,
        }
    }
}

/// A request to make now.
#[derive(Debug, Clone)]
pub struct Attempt {
    pub id: u64,
    pub request: Request,
    pub jobs: Vec<Arc<DeliveryJob>>,
    /// The first message of the thread that the message goes into.
    pub thread_ts: Option<String>,
    /// The conversation to post to, where the job names a member whose conversation was opened.
    pub channel: Option<String>,
    /// A person tries a rule.
    pub is_test: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    Send,
    /// Join the job's channel.
    Join,
    /// Open a conversation with the job's member.
    Open,
    /// Ask whether the job's credential works.
    Probe,
}

/// An outcome to write; a final one settles its job once Kafka has acknowledged it.
#[derive(Debug, Clone)]
pub struct Settled {
    pub at: JobAt,
    pub job: Arc<DeliveryJob>,
    pub traceparent: Option<Arc<str>>,
    pub outcome: Outcome,
    /// The job goes to the dead letters for this reason.
    pub dead: Option<Reason>,
    /// The attempt that was answered so; none where nothing was asked.
    pub attempt: Option<u64>,
    /// A newer version wrote the job.
    pub newer: Option<Newer>,
    /// A person tried a rule: no match counts, and there is no dead letter.
    pub is_test: bool,
}

/// How often waiting jobs are looked through for those that are too old.
const SWEEP_EVERY: Micros = 10_000_000;

/// All lanes and limits of one sender.
#[derive(Debug)]
pub struct Dispatch {
    settings: Settings,
    rng: fastrand::Rng,
    lanes: Numbered<LaneState>,
    by_id: HashMap<String, Number<LaneState>>,
    credentials: Numbered<Credential>,
    credential_by_id: HashMap<String, Number<Credential>>,
    hosts: Numbered<Host>,
    host_by_name: HashMap<Arc<str>, Number<Host>>,
    /// Credentials with work by the time one of their lanes may be ready, then by who was served
    /// longest ago.
    ready: BTreeSet<(Micros, u64, Number<Credential>)>,
    attempts: HashMap<u64, InFlight>,
    /// Which partitions are ours, and which jobs are settled.
    pub ledger: Ledger,
    classes: Numbered<Class>,
    class_by_value: HashMap<Class, Number<Class>>,
    origins: Numbered<Origin>,
    origin_by_rule: HashMap<String, Number<Origin>>,
    in_force: Arc<Rules<()>>,
    /// Classes of a version that the rules topic hasn't shown yet, and until when it is waited for.
    unread: HashMap<Number<Class>, Micros>,
    /// Those for which it was waited in vain: their versions are of a topic that is gone.
    of_another_topic: HashSet<Number<Class>>,
    payloads: HashMap<JobAt, Payload>,
    bytes: usize,
    tried: HashMap<JobAt, Tried>,
    loads: Vec<Load>,
    /// Loads on their way.
    loading: HashMap<u64, load::Loading>,
    expected: usize,
    /// Jobs that a person or their age has ended; they wait to be loaded for their last words.
    doomed: VecDeque<(doom::Doom, Backlog)>,
    /// Those of them that are being loaded.
    ending: Option<(doom::Doom, Vec<Entry>)>,
    held: Held,
    /// Tests that aren't settled.
    tests: BTreeMap<JobAt, send_test::Test>,
    /// Freezes and starts that a predecessor knew, for scopes that we haven't met.
    frozen: HashMap<String, Frozen>,
    started: HashMap<String, Vec<Micros>>,
    sent: SentIds,
    threads: Threads,
    in_flight: usize,
    next_id: u64,
    next_sweep: Micros,
    /// How far the wall clock is ahead of the steady one.
    ahead: Micros,
}

#[derive(Debug)]
struct LaneState {
    id: String,
    credential: Number<Credential>,
    lane: Lane,
    spacer: Option<Spacer>,
    frozen_until: Micros,
    /// So much of it no order shortens.
    firm_until: Micros,
    in_flight: usize,
    standing: Standing,
    /// Failures in a row, when the last of them came, and how long it rests after them.
    failed: u32,
    failed_at: Micros,
    rests_until: Micros,
    served: u64,
    /// Its place among the credential's lanes of its standing, if it has one.
    queued: Option<(Micros, u64)>,
    join: Prelude,
    open: Prelude,
    /// The member's conversation.
    channel: Option<String>,
}

/// A request that comes before the message at most once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Prelude {
    Unasked,
    Next,
    Done,
}

#[derive(Debug)]
struct Credential {
    id: String,
    host: Number<Host>,
    /// How its requests are paced. Its lanes differ in their own rate alone.
    pacing: Pacing,
    spacer: Option<Spacer>,
    frozen_until: Micros,
    /// So much of it no order shortens.
    firm_until: Micros,
    slots: Slots,
    /// Requests in flight that the destination seems to take; CleverTap alone narrows it.
    window: f64,
    /// When the last answer came that asked for less.
    throttled_at: Micros,
    refused: Option<Refused>,
    throttles: u32,
    served: u64,
    /// Its lanes with work.
    queues: ByStanding<Queue>,
    queued: Option<(Micros, u64)>,
}

/// A credential that was refused is probed, and then tried by one message.
#[derive(Debug, Clone, Copy)]
struct Refused {
    since: Micros,
    interval: Micros,
    /// A probe found it to work; the next message proves it.
    probed: bool,
}

#[derive(Debug)]
struct Host {
    slots: Slots,
    /// Credentials that found no room for lanes of one standing.
    parked: ByStanding<VecDeque<Number<Credential>>>,
}

#[derive(Debug)]
struct InFlight {
    lane: Number<LaneState>,
    /// How the lane fared when it started.
    standing: Standing,
    request: Request,
    /// One for each entry, whatever stands at its place by now.
    jobs: Vec<Arc<DeliveryJob>>,
    entries: Vec<Entry>,
    started: Micros,
    thread_ts: Option<String>,
    /// The latest ownership when it began.
    latest: Ownership,
}

impl Dispatch {
    pub fn new(settings: Settings, rng: fastrand::Rng) -> Self {
        let sent = SentIds::new(settings.dedup_window, settings.dedup_ids_max);
        let threads = Threads::new(settings.dedup_window, settings.dedup_ids_max);
        Self {
            settings,
            rng,
            lanes: Numbered::default(),
            by_id: HashMap::new(),
            credentials: Numbered::default(),
            credential_by_id: HashMap::new(),
            hosts: Numbered::default(),
            host_by_name: HashMap::new(),
            ready: BTreeSet::new(),
            attempts: HashMap::new(),
            ledger: Ledger::default(),
            classes: Numbered::default(),
            class_by_value: HashMap::new(),
            origins: Numbered::default(),
            origin_by_rule: HashMap::new(),
            in_force: Arc::default(),
            unread: HashMap::new(),
            of_another_topic: HashSet::new(),
            payloads: HashMap::new(),
            bytes: 0,
            tried: HashMap::new(),
            loads: Vec::new(),
            loading: HashMap::new(),
            expected: 0,
            doomed: VecDeque::new(),
            ending: None,
            held: Held::default(),
            tests: BTreeMap::new(),
            frozen: HashMap::new(),
            started: HashMap::new(),
            sent,
            threads,
            in_flight: 0,
            next_id: 0,
            next_sweep: 0,
            ahead: 0,
        }
    }

    /// From now on the wall clock is so far ahead of the steady one: it may have been put right.
    pub fn wall_clock(&mut self, ahead: Micros) {
        self.ahead = ahead;
    }

    /// What the wall clock shows at a moment of the steady one.
    fn wall(&self, steady: Micros) -> Micros {
        steady.saturating_add(self.ahead)
    }

    /// Takes in a job that [`Self::read`] said is to be accepted.
    pub fn accept(&mut self, at: JobAt, payload: Payload, host: &Arc<str>, cause: Cause, now: Micros) {
        let job = Arc::clone(&payload.job);
        let lane = self.lane_of(&job, host, now);
        let class = self.class_of(&job, cause);
        let entry = Entry::new(
            at,
            key(&job, &self.credentials[self.lanes[lane].credential].pacing),
            class,
        );
        if cause == Cause::Test {
            return self.accept_test(lane, entry, payload, now);
        }
        self.await_version(class, now);
        if let Some(fate) = self.fate(lane, class, &payload) {
            self.keep(at, payload);
            return self.doom(fate, [entry]);
        }
        if let Some(until) = self.undecided_until(class, Some(payload.written_at)) {
            self.freeze_lane(lane, until, until, now);
        }
        let near = self.lanes[lane].lane.len() < self.chunk(lane);
        if near && self.bytes < self.settings.payload_bytes_max {
            self.keep(at, payload);
        }
        // One that was tried goes before those behind it, whenever each of them may be tried again.
        let tried = self.tried.get(&at).copied();
        if tried.is_some() && self.lanes[lane].standing == Standing::New {
            // A predecessor asked it in vain.
            self.restand(lane, Standing::Fails);
        }
        let state = &mut self.lanes[lane];
        match tried {
            Some(tried) if tried.aside => state.lane.step_aside(vec![entry], tried.not_before),
            Some(tried) => state.lane.hold([entry], tried.not_before),
            None => state.lane.push(entry, now),
        }
        self.queue(lane, now);
    }

    /// Whether as many requests are in flight as may be. One whose outcome Kafka doesn't have yet is still in flight.
    fn is_full(&self) -> bool {
        self.in_flight + self.ledger.waiting_attempts() >= self.settings.in_flight_max
    }

    /// When [`Self::next`] is worth another call, if nothing comes in before.
    pub fn wake_at(&self) -> Micros {
        let next_end = self.next_sweep.min(self.tests_until());
        match self.ready.first() {
            _ if self.held.has_freed() => 0,
            Some((at, ..)) if !self.is_full() => (*at).min(next_end),
            _ => next_end,
        }
    }
}

/// Jobs of one key keep their order: all of a lane that sends messages, those about one user in a batch.
fn key(job: &DeliveryJob, pacing: &Pacing) -> u32 {
    use std::hash::{DefaultHasher, Hash, Hasher};
    if pacing.batch.is_none() {
        return 0;
    }
    let mut hasher = DefaultHasher::new();
    job.destination.hash(&mut hasher);
    (hasher.finish() >> 32) as u32
}

pub(super) fn micros(duration: Duration) -> Micros {
    Micros::try_from(duration.as_micros()).unwrap_or(Micros::MAX / 4)
}

/// A successor must not start earlier than we would, so times are rounded up.
fn ceil_millis(at: Micros) -> i64 {
    (at + 999) / 1000
}

#[cfg(test)]
pub(crate) mod tests;
