//! The sender: jobs in, requests out, one final outcome for each.
//!
//! [`crate::delivery::sending`], which is pure, says what follows each event. The loop here hands it the events and
//! carries out the effects that come back: requests run as tasks, outcomes go to the producer, and whatever waits for
//! Kafka runs on a thread of its own. Each of them sends its result back as an event. Nothing here may block: while
//! the loop waits, it takes in no answer and hands over no partition.
//!
//! The backlog stays in Kafka: of a job that isn't near its turn the dispatch knows the place, and has the job read
//! again when its turn comes.
//!
//! When a partition is assigned, the predecessor's outcomes are read back first, from the place that it left in the
//! commit's metadata, so that nothing is sent again that is settled above the committed offset.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, watch};

use crate::config::Config;
use crate::delivery::dispatch::{Answer, Attempt, Load, Settings, Verdict};
use crate::delivery::limit::Micros;
use crate::delivery::sending::{Effect, Event, Notice, Sending, Writing};
use crate::delivery::{Codec, OutcomeResult};
use crate::destination::Destinations;
use crate::kafka::jobs::{Event as GroupEvent, Jobs, Places as Handed};
use crate::kafka::place::Places;
use crate::kafka::producer::Producer;
use crate::metrics::Metrics;
use crate::rules::log::Rules;

mod back;
mod partition;
mod read_back;
mod reload;
mod report;
mod write;

use back::{Back, Promise};
use partition::join;
use report::Pace;

const COMMIT_EVERY: Duration = Duration::from_millis(200);
/// Jobs that are taken in between two looks at the lanes: few enough not to hold up an answer.
const EVENTS_AT_ONCE: usize = 256;
const ANSWERS_AT_ONCE: usize = 1024;
/// When the producer took no more, it is tried again after so long.
const PRODUCER_AGAIN: Duration = Duration::from_millis(5);

/// What the sender needs from the outside.
#[derive(Debug)]
pub struct SenderWiring {
    pub config: Arc<Config>,
    /// Writes outcomes and dead letters, and reads jobs and outcomes.
    pub codec: &'static Codec,
    pub metrics: Arc<Metrics>,
    pub destinations: Arc<Destinations>,
    pub producer: Producer,
    /// What the rules say to waiting jobs.
    pub rules: watch::Receiver<Arc<Rules<()>>>,
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

struct Loop {
    wiring: SenderWiring,
    sending: Sending,
    jobs: Jobs,
    loads: std::sync::mpsc::Sender<Load>,
    places: Arc<Places>,
    back: mpsc::UnboundedSender<Back>,
    /// Where the group's thread waits for the places of partitions that go away.
    revocations: HashMap<u64, std::sync::mpsc::Sender<Handed>>,
    last_revocation: u64,
    /// Outcomes and dead letters that the producer had no room for, in order.
    unwritten: VecDeque<Writing>,
    /// What [`SenderWiring::unreadable`] says now.
    unreadable: BTreeSet<String>,
    /// The credentials that are refused, each with the cause that the log has.
    refused: HashMap<String, String>,
    secrets_looked_at: Micros,
    failing: HashSet<String>,
    /// The oldest job is past half of its age.
    old: bool,
    pace: Pace,
    silence_max: Duration,
}

/// Runs until told to stop, and then until what is in flight is settled.
pub async fn run(wiring: SenderWiring) -> anyhow::Result<()> {
    let (back, mut answers) = mpsc::unbounded_channel();
    let (jobs, mut events) = join(&wiring.config)?;
    let (mut stop, mut rules) = (wiring.stop.clone(), wiring.rules.clone());
    wiring.metrics.job_age_max(wiring.config.sender.job_age_max);
    let settings = settings(&wiring.config);
    let mut sender = Loop {
        silence_max: settings.silence_max,
        sending: Sending::new(settings, fastrand::Rng::new(), (wiring.steady)()),
        loads: reload::start(&wiring.config, wiring.codec, back.clone())?,
        jobs,
        places: Arc::new(Places::new(&wiring.config)?),
        back,
        revocations: HashMap::new(),
        last_revocation: 0,
        unwritten: VecDeque::new(),
        unreadable: BTreeSet::new(),
        refused: HashMap::new(),
        secrets_looked_at: Micros::MIN,
        failing: HashSet::new(),
        old: false,
        pace: Pace::default(),
        wiring,
    };
    sender.happened(Event::Rules(rules.borrow_and_update().clone()))?;
    let mut stopping = *stop.borrow();
    if stopping {
        sender.happened(Event::Stop)?;
    }
    let mut commit = tokio::time::interval(COMMIT_EVERY);
    commit.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let wake = sender.turn()?;
        tokio::select! {
            Some(back) = answers.recv(), if sender.sending.may_settle(sender.now()) => {
                sender.came_back(back)?;
                // What has come by now is taken in before the next look at the lanes; but others have their turn too.
                for _ in 0..ANSWERS_AT_ONCE {
                    let Ok(back) = answers.try_recv() else { break };
                    sender.came_back(back)?;
                }
            }
            _ = commit.tick() => sender.tick()?,
            mut event = events.recv() => for taken in 1.. {
                match event {
                    // The group is left: everything is handed over.
                    Some(GroupEvent::Left) if sender.sending.left() => events = sender.join_again().await?,
                    Some(GroupEvent::Left) => {
                        let jobs = sender.jobs;
                        tokio::task::spawn_blocking(move || jobs.end()).await?;
                        return Ok(());
                    }
                    None => anyhow::bail!("the thread that reads jobs has ended"),
                    Some(of_group) => sender.group_says(of_group)?,
                }
                if taken == EVENTS_AT_ONCE {
                    break;
                }
                let Ok(next) = events.try_recv() else { break };
                event = Some(next);
            },
            Ok(()) = rules.changed() => sender.happened(Event::Rules(rules.borrow_and_update().clone()))?,
            () = tokio::time::sleep(wake) => {}
            _ = stop.changed(), if !stopping => {
                stopping = true;
                sender.happened(Event::Stop)?;
            }
        }
    }
}

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
        hand_over_max: config.sender.shutdown_timeout,
        silence_max: crate::kafka::session_timeout(&config.kafka) / 2,
    }
}

impl Loop {
    fn now(&self) -> Micros {
        (self.wiring.steady)()
    }

    /// Starts what may start now. Gives how long nothing else will, if no event comes.
    fn turn(&mut self) -> anyhow::Result<Duration> {
        self.write_on();
        let now = self.now();
        self.sending.clocks((self.wiring.wall)() - now, self.jobs.polled_at());
        let effects = self.sending.turn(now);
        self.carry_out(effects)?;
        let until = |wake: Micros| Duration::from_micros(u64::try_from(wake - now).unwrap_or_default());
        let wake = self.sending.wake_at(now).map_or(COMMIT_EVERY, until);
        let most = if self.unwritten.is_empty() {
            COMMIT_EVERY
        } else {
            PRODUCER_AGAIN
        };
        Ok(wake.clamp(Duration::from_millis(1), most))
    }

    fn tick(&mut self) -> anyhow::Result<()> {
        let now = self.now();
        let effects = self.sending.tick(now);
        self.carry_out(effects)?;
        let acknowledges = self.sending.is_acknowledged(now);
        self.wiring.acknowledges.store(acknowledges, Ordering::Relaxed);
        self.gauges();
        self.credentials();
        self.look_at_secrets(now);
        self.oldest();
        self.unreadable();
        Ok(())
    }

    fn happened(&mut self, event: Event) -> anyhow::Result<()> {
        let effects = self.sending.on(event, self.now());
        self.carry_out(effects)
    }

    fn carry_out(&mut self, effects: Vec<Effect>) -> anyhow::Result<()> {
        for effect in effects {
            match effect {
                Effect::Recall(recall) => self.recall(recall),
                Effect::Begin {
                    partition,
                    ownership,
                    from,
                } => self.jobs.begin(partition, ownership.0, from),
                Effect::Pause(partition) => self.jobs.pause(partition),
                Effect::Load(load) => {
                    self.wiring.metrics.jobs_reread(load.jobs.len());
                    let ended = |_| anyhow::anyhow!("the thread that reads jobs again has ended");
                    self.loads.send(load).map_err(ended)?;
                }
                Effect::Send(attempt) => self.send(attempt),
                Effect::Write(writing) => self.write(writing),
                Effect::WriteLater(writing, after) => self.later(after, Event::Again(writing)),
                Effect::Commit(places) => self.commit(&places)?,
                Effect::HandOver { revocation, places } => {
                    if let Some(waiting) = self.revocations.remove(&revocation) {
                        // The group's thread may have stopped waiting.
                        drop(waiting.send(partition::handed(&places)));
                    }
                }
                Effect::Look(looks) => self.look(looks),
                Effect::Leave => self.jobs.leave(),
                Effect::Rejoin => {
                    self.wiring.ready.store(false, Ordering::Relaxed);
                    self.jobs.leave();
                }
                Effect::Say(notice) => self.say(notice),
            }
        }
        Ok(())
    }

    fn send(&self, attempt: Attempt) {
        let Some(job) = attempt.jobs.first() else { return };
        let (provider, credential) = (job.action.provider(), job.credential.clone());
        let destinations = Arc::clone(&self.wiring.destinations);
        let (began, now, silence_max) = (self.now(), self.wiring.steady, self.silence_max);
        let took = move || Duration::from_micros(u64::try_from(now() - began).unwrap_or_default());
        let id = attempt.id;
        let answered = move |answers| Back::Answered {
            attempt: id,
            provider,
            credential: credential.clone(),
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

    fn group_says(&mut self, event: GroupEvent) -> anyhow::Result<()> {
        match event {
            GroupEvent::Assigned(partitions) => {
                tracing::info!(
                    kafka.topic = self.wiring.config.topics.jobs,
                    partitions = partitions.len(),
                    "partitions assigned"
                );
                self.happened(Event::Assigned(partitions))?;
                self.wiring.ready.store(true, Ordering::Relaxed);
            }
            GroupEvent::Job(raw) => {
                let job = self.job_record(raw);
                self.happened(Event::Job(job))?;
            }
            GroupEvent::Revoked {
                partitions,
                lost,
                places,
            } => {
                tracing::info!(partitions = partitions.len(), lost, "partitions go away");
                self.last_revocation += 1;
                self.revocations.insert(self.last_revocation, places);
                self.happened(Event::Revoked {
                    revocation: self.last_revocation,
                    partitions,
                    lost,
                })?;
            }
            GroupEvent::Left => {}
            GroupEvent::Fatal(message) => {
                anyhow::bail!(
                    "the consumer of {} can't go on: {message}",
                    self.wiring.config.topics.jobs
                )
            }
        }
        Ok(())
    }

    fn came_back(&mut self, back: Back) -> anyhow::Result<()> {
        match back {
            Back::Event(event) => self.happened(event),
            Back::Answered {
                attempt,
                provider,
                credential,
                answers,
                took,
            } => {
                if let Some(refused) = answers
                    .iter()
                    .find(|answer| answer.verdict == Verdict::CredentialRefused)
                {
                    self.refused_because(&credential, &refused.words);
                }
                let result = answers.first().map_or("retry", |answer| verdict(&answer.verdict));
                tracing::debug!(attempt, verdict = result, "answered");
                self.wiring.metrics.attempted(provider, result, took);
                let now = self.now();
                let effects = self.sending.on(Event::Answered { attempt, answers }, now);
                let settled = effects.iter().filter_map(|effect| match effect {
                    Effect::Say(Notice::Settled(settled)) => Some(settled.outcome.result),
                    _ => None,
                });
                self.pace.sent(settled.clone().count(), now);
                // However many jobs it stood for, it was one message.
                if settled.clone().any(|result| result == OutcomeResult::Digested) {
                    self.wiring.metrics.digest();
                }
                self.carry_out(effects)
            }
        }
    }

    fn later(&self, after: Duration, event: Event) {
        let back = self.back.clone();
        tokio::spawn(async move {
            tokio::time::sleep(after).await;
            drop(back.send(Back::Event(event)));
        });
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
            .field("sending", &self.sending)
            .finish_non_exhaustive()
    }
}
