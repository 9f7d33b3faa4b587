//! The sender: jobs in, requests out, one final outcome for each.
//!
//! The loop owns the [`Dispatch`] and everything that changes. Requests run as tasks and send their
//! answers back; outcomes are written to Kafka, and a job counts as settled once its final outcome
//! is acknowledged. The committed offset of a partition is its lowest unsettled job.
//!
//! The backlog stays in Kafka: of a job that isn't near its turn the dispatch knows where it is, and
//! has it read again when its turn comes.
//!
//! On assignment the predecessor's outcomes are read back first, from the place that it left in
//! the commit's metadata, so that what is settled above the committed offset isn't sent again.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};

use crate::config::Config;
use crate::delivery::dispatch::{Answer, Attempt, Dispatch, Load, Read, Settings, Settled, Verdict};
use crate::delivery::lane::JobAt;
use crate::delivery::limit::Micros;
use crate::delivery::recall::tag;
use crate::delivery::{Codec, OutcomeResult};
use crate::destination::Destinations;
use crate::kafka::jobs::{CommitMode, Event, Jobs, RawJob};
use crate::kafka::place::Places;
use crate::kafka::producer::Producer;
use crate::metrics::Metrics;
use crate::rules::log::Rules;
use crate::trail::{self, Crumb};

mod back;
mod partition;
mod read_back;
mod reload;
mod report;
mod write;

use back::{Back, Promise};
use partition::{Leaving, Partition, join};
use reload::payload;
use report::Pace;

const COMMIT_EVERY: Duration = Duration::from_millis(200);
/// How often it is looked whether what was read is still there.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// What the sender needs from the outside.
#[derive(Debug)]
pub struct Surroundings {
    pub config: Arc<Config>,
    /// Writes outcomes and dead letters, and reads jobs and outcomes.
    pub codec: &'static Codec,
    pub metrics: Arc<Metrics>,
    pub destinations: Arc<Destinations>,
    pub producer: Producer,
    /// What the rules say to waiting jobs.
    pub rules: watch::Receiver<Arc<Rules>>,
    pub stop: watch::Receiver<bool>,
    pub ready: Arc<AtomicBool>,
    /// Set as long as Kafka acknowledges outcomes; without that nothing is sent.
    pub acknowledges: Arc<AtomicBool>,
    /// What a newer version wrote and what that holds up, for people.
    pub unreadable: watch::Sender<Vec<String>>,
    /// Microseconds of a clock that never jumps, for spacing.
    pub steady: fn() -> Micros,
    /// Epoch microseconds of the wall clock, for what others read or write.
    pub wall: fn() -> Micros,
}

/// Which of our ownerships of a partition something belongs to.
type Generation = u64;

struct Loop {
    at: Surroundings,
    dispatch: Dispatch,
    jobs: Jobs,
    loads: std::sync::mpsc::Sender<Load>,
    partitions: HashMap<i32, Partition>,
    places: Arc<Places>,
    look_at: Instant,
    /// A look is under way.
    looks: bool,
    back: mpsc::UnboundedSender<Back>,
    leaving: Vec<Leaving>,
    /// What was read last of partitions that went away.
    left: HashMap<i32, Crumb>,
    generation: u64,
    stopping: bool,
    /// The group is left to be joined anew.
    rejoins: bool,
    /// What [`Surroundings::unreadable`] says now.
    unreadable: BTreeSet<String>,
    refused: HashSet<String>,
    failing: HashSet<String>,
    /// Attempts that were answered, and how many of their outcomes Kafka doesn't have yet. They count as
    /// in flight: a crash now would send them again.
    unacknowledged: HashMap<u64, usize>,
    /// When Kafka last acknowledged one of them, or there was none.
    acknowledged_at: Instant,
    /// The oldest job is past half of its age.
    old: bool,
    pace: Pace,
    /// Half of the group's session: who was silent for so long may own nothing any more.
    silence_max: Duration,
}

/// Runs until told to stop, and then until what is in flight is settled.
pub async fn run(at: Surroundings) -> anyhow::Result<()> {
    let (back, mut answers) = mpsc::unbounded_channel();
    let (jobs, mut events) = join(&at.config)?;
    let (mut stop, mut rules) = (at.stop.clone(), at.rules.clone());
    at.metrics.job_age_max(at.config.sender.job_age_max);
    let mut sender = Loop {
        dispatch: Dispatch::new(settings(&at.config), fastrand::Rng::new()),
        loads: reload::start(&at.config, at.codec, back.clone())?,
        jobs,
        partitions: HashMap::new(),
        places: Arc::new(Places::new(&at.config)?),
        look_at: Instant::now(),
        looks: false,
        back,
        leaving: Vec::new(),
        left: HashMap::new(),
        generation: 0,
        stopping: *stop.borrow(),
        rejoins: false,
        unreadable: BTreeSet::new(),
        refused: HashSet::new(),
        failing: HashSet::new(),
        unacknowledged: HashMap::new(),
        acknowledged_at: Instant::now(),
        old: false,
        pace: Pace::default(),
        silence_max: crate::kafka::session_timeout(&at.config.kafka) / 2,
        at,
    };
    sender.rules(rules.borrow_and_update().clone())?;
    let mut commit = tokio::time::interval(COMMIT_EVERY);
    commit.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        sender.start()?;
        sender.let_go();
        let wake = sender.dispatch.wake_at() - (sender.at.steady)();
        let wake = Duration::from_micros(u64::try_from(wake).unwrap_or_default());
        tokio::select! {
            Some(back) = answers.recv(), if sender.may_settle() => {
                sender.came_back(back);
                // What has come by now is taken in before the next look at the lanes; but others have their turn too.
                for _ in 0..ANSWERS_AT_ONCE {
                    let Ok(back) = answers.try_recv() else { break };
                    sender.came_back(back);
                }
            }
            _ = commit.tick() => sender.tick(),
            mut event = events.recv() => for taken in 1.. {
                match event {
                    // The group is left: everything is handed over.
                    Some(Event::Left) => match sender.left()? {
                        Some(again) => events = again,
                        None => return Ok(()),
                    },
                    None => anyhow::bail!("the thread that reads jobs has ended"),
                    Some(of_group) => sender.event(of_group)?,
                }
                if taken == EVENTS_AT_ONCE {
                    break;
                }
                let Ok(next) = events.try_recv() else { break };
                event = Some(next);
            },
            Ok(()) = rules.changed() => sender.rules(rules.borrow_and_update().clone())?,
            () = tokio::time::sleep(wake.max(Duration::from_millis(1))) => {}
            _ = stop.changed(), if !sender.stopping => {
                sender.stopping = true;
                sender.jobs.leave();
            }
        }
    }
}

/// Jobs that are taken in between two looks at the lanes: few enough not to hold up an answer.
const EVENTS_AT_ONCE: usize = 256;
const ANSWERS_AT_ONCE: usize = 1024;
/// Acknowledgements take some milliseconds.
const KAFKA_SILENCE_MAX: Duration = Duration::from_secs(1);
/// A silence of so long is told to who asks whether we are ready; a shorter one mends itself, as when a leader changes.
const KAFKA_SILENCE_TOLD: Duration = Duration::from_secs(5);
/// What Kafka didn't take or answer is tried again after so long.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// The dispatch's settings from the configuration.
pub fn settings(config: &Config) -> Settings {
    Settings {
        in_flight_max: config.sender.in_flight_max,
        limits: config.limits(),
        retry_initial: config.sender.retry.initial,
        retry_max: config.sender.retry.max,
        step_aside: config.sender.retry.step_aside,
        give_up_after: config.sender.retry.give_up_after,
        job_age_max: config.sender.job_age_max,
        dedup_window: config.sender.dedup_window,
        dedup_ids_max: config.sender.dedup_ids_max,
        payload_bytes_max: config.sender.payload_bytes_max,
        join: config.slack.join,
    }
}

impl Loop {
    /// Who hasn't polled for half a session may own nothing any more.
    fn is_member(&self) -> bool {
        self.jobs.silent_for() <= self.silence_max
    }

    /// After a standstill answers wait until the group has said what is ours: what another owner has by now, it settles.
    /// While partitions leave, the group waits for us and isn't polled.
    fn may_settle(&self) -> bool {
        self.is_member() || !self.leaving.is_empty() || self.stopping
    }

    /// Starts every request that may start now, and has read again what is wanted.
    fn start(&mut self) -> anyhow::Result<()> {
        self.dispatch.wall_clock((self.at.wall)() - (self.at.steady)());
        if self.stopping || !self.is_member() || self.kafka_is_silent() {
            return Ok(());
        }
        let mut settled = Vec::new();
        while self.dispatch.in_flight() + self.unacknowledged.len() < self.at.config.sender.in_flight_max
            && let Some(attempt) = self.dispatch.next((self.at.steady)(), &mut settled)
        {
            self.spawn(attempt);
        }
        self.settle_all(settled);
        self.load()
    }

    fn load(&mut self) -> anyhow::Result<()> {
        for load in self.dispatch.loads() {
            self.at.metrics.jobs_reread(load.jobs.len());
            let ended = |_| anyhow::anyhow!("the thread that reads jobs again has ended");
            self.loads.send(load).map_err(ended)?;
        }
        Ok(())
    }

    fn rules(&mut self, rules: Arc<Rules>) -> anyhow::Result<()> {
        let mut settled = Vec::new();
        self.dispatch.rules(rules, (self.at.steady)(), &mut settled);
        self.settle_all(settled);
        self.load()
    }

    fn spawn(&self, attempt: Attempt) {
        let Some(job) = attempt.jobs.first() else { return };
        let provider = job.action.provider();
        let destinations = Arc::clone(&self.at.destinations);
        let (began, now, silence_max) = ((self.at.steady)(), self.at.steady, self.silence_max);
        let took = move || Duration::from_micros(u64::try_from(now() - began).unwrap_or_default());
        let id = attempt.id;
        let answered = move |answers| Back::Answered {
            attempt: id,
            provider,
            answers,
            took: took(),
        };
        // Whether it was taken isn't known of a request whose task has died.
        let promise = Promise::new(&self.back, answered(vec![Answer::broken()]));
        tokio::spawn(async move {
            // The process stood still in between (a SIGSTOP, a sleeping machine): the job may be another's by now.
            let answers = if took() > silence_max {
                vec![Answer::unsent("not sent: the process had stood still")]
            } else {
                destinations.attempt(&attempt).await
            };
            promise.keep(answered(answers));
        });
    }

    fn event(&mut self, event: Event) -> anyhow::Result<()> {
        match event {
            Event::Assigned(partitions) => partitions.into_iter().for_each(|partition| self.assigned(partition)),
            Event::Job(job) => self.read(job),
            Event::Revoked { partitions, lost, done } => {
                tracing::info!(partitions = partitions.len(), lost, "partitions go away");
                for partition in &partitions {
                    // Nothing of them starts any more; lost ones have another owner already.
                    if lost {
                        self.let_go_of(*partition);
                    } else {
                        self.dispatch.retire(*partition);
                    }
                }
                let until = Instant::now() + self.at.config.sender.shutdown_timeout;
                self.leaving.push(Leaving {
                    partitions,
                    done,
                    until,
                });
            }
            Event::Left => {}
            Event::Fatal(message) => {
                anyhow::bail!("the consumer of {} can't go on: {message}", self.at.config.topics.jobs)
            }
        }
        Ok(())
    }

    /// A record of the jobs topic.
    fn read(&mut self, raw: RawJob) {
        let partition = self.partitions.get_mut(&raw.partition);
        // Those of before it was begun, or begun anew, come again.
        let Some(partition) = partition.filter(|partition| partition.generation == raw.generation) else {
            return;
        };
        let at = JobAt {
            partition: raw.partition,
            offset: raw.offset,
        };
        let payload = payload(&raw, self.at.codec);
        // Anybody may write a header; the job itself knows better.
        let own = payload.as_ref().ok().map(|payload| payload.job.job_id.as_str());
        let id = own.or(raw.ours.as_ref().map(|ours| ours.job_id.as_str()));
        let read = self.dispatch.read(at, id.map(tag), raw.timestamp);
        if read == Read::Back {
            return self.start_over(at.partition);
        }
        let crumb = Crumb {
            offset: raw.offset,
            sum: trail::sum(raw.timestamp, Some(&raw.key), Some(&raw.value)),
        };
        partition.trail.take(crumb);
        partition.look.take(crumb);
        if read == Read::Another {
            self.another(at.partition);
        }
        if !read.is_accepted() {
            return;
        }
        match payload {
            Ok(payload) if payload.newer.is_some() => self.dispatch.hold(at, &payload, (self.at.steady)()),
            Ok(payload) => {
                let host = self.at.destinations.host(&payload.job);
                self.dispatch
                    .accept(at, payload, &host, raw.replayed, (self.at.steady)());
            }
            Err(error) => self.undecodable(at, &raw, error),
        }
    }

    fn came_back(&mut self, back: Back) {
        match back {
            Back::Answered {
                attempt,
                provider,
                answers,
                took,
            } => {
                let result = answers.first().map_or("retry", |answer| verdict(&answer.verdict));
                tracing::debug!(attempt, verdict = result, "answered");
                self.at.metrics.attempted(provider, result, took);
                let settled = self.dispatch.answered(attempt, answers, (self.at.steady)());
                self.pace.sent(settled.len(), (self.at.steady)());
                // However many jobs it stood for, it was one message.
                if settled.iter().any(|one| one.outcome.result == OutcomeResult::Digested) {
                    self.at.metrics.digest();
                }
                self.settle_all(settled);
            }
            Back::Loaded { load, jobs } => self.loaded(load, jobs),
            Back::Outcome(settled, cut, generation) => self.write_outcome(settled, cut, generation),
            Back::OutcomeRefused(settled, cut, generation) => self.outcome_refused(settled, cut, generation),
            Back::Looked(looked) => self.looked(looked),
            Back::DeadLetter(letter, form) => self.write_dead_letter(letter, form),
            Back::DeadLetterRefused(letter, form) => self.dead_letter_refused(letter, form),
            Back::DeadLetterFailed(letter, form) => self.letter_waits(letter, form, AGAIN_AFTER),
            Back::Acked {
                at,
                generation,
                is_final,
                attempt,
                outcome_offset,
            } => {
                let ours = self.partitions.get_mut(&at.partition);
                let Some(partition) = ours.filter(|partition| partition.generation == generation) else {
                    return self.acknowledged(attempt);
                };
                match outcome_offset {
                    Ok(offset) => {
                        partition.unacknowledged -= 1;
                        self.acknowledged(attempt);
                        if is_final {
                            self.dispatch.acked(at);
                        }
                        if let Some(offset) = offset {
                            self.told(at.partition, offset);
                        }
                    }
                    // Until Kafka has it, the job isn't settled.
                    Err((settled, cut)) => self.later(AGAIN_AFTER, Back::Outcome(settled, cut, generation)),
                }
            }
            Back::Recalled {
                partition,
                generation,
                recalled,
            } => self.recalled(partition, generation, recalled),
        }
    }

    fn later(&self, after: Duration, again: Back) {
        let back = self.back.clone();
        tokio::spawn(async move {
            tokio::time::sleep(after).await;
            drop(back.send(again));
        });
    }

    /// Whoever takes over while Kafka is away repeats what it didn't get, so that nothing is added to it. A refusal is
    /// an answer, too: who refuses isn't away.
    fn kafka_is_silent(&self) -> bool {
        self.kafka_silent_for() > KAFKA_SILENCE_MAX
    }

    /// How long outcomes have waited for Kafka without any of them being acknowledged.
    fn kafka_silent_for(&self) -> Duration {
        if self.unacknowledged.is_empty() {
            Duration::ZERO
        } else {
            self.acknowledged_at.elapsed()
        }
    }

    /// One outcome of the attempt is in Kafka, or nobody's here any more.
    fn acknowledged(&mut self, attempt: Option<u64>) {
        let Some(attempt) = attempt else { return };
        self.acknowledged_at = Instant::now();
        if let Some(outcomes) = self.unacknowledged.get_mut(&attempt) {
            *outcomes -= 1;
            if *outcomes == 0 {
                self.unacknowledged.remove(&attempt);
            }
        }
    }

    fn settle_all(&mut self, settled: Vec<Settled>) {
        settled.into_iter().for_each(|settled| self.settle(settled));
    }

    fn tick(&mut self) {
        if self.look_at <= Instant::now() {
            self.look_at = Instant::now() + LOOK_EVERY;
            self.look();
        }
        let acknowledges = self.kafka_silent_for() <= KAFKA_SILENCE_TOLD;
        self.at.acknowledges.store(acknowledges, Ordering::Relaxed);
        self.commit(CommitMode::Async, None);
        self.gauges();
        self.credentials();
        self.oldest();
        self.unreadable();
    }
}

/// What came of an attempt; a metric label.
fn verdict(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Delivered => "delivered",
        Verdict::Throttled { .. } => "throttled",
        Verdict::Retry | Verdict::NotInChannel | Verdict::NotOpen => "retry",
        Verdict::Ambiguous => "ambiguous",
        Verdict::Rejected(_) | Verdict::BatchRefused => "rejected",
        Verdict::CredentialRefused => "credential_refused",
    }
}

impl std::fmt::Debug for Loop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Loop")
            .field("partitions", &self.partitions)
            .finish_non_exhaustive()
    }
}
