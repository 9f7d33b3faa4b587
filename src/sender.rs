//! The sender: jobs in, requests out, one final outcome for each.
//!
//! The loop owns the [`Dispatch`] and everything that changes. Requests run as tasks and send their
//! answers back; outcomes are written to Kafka, and a job counts as settled once its final outcome
//! is acknowledged. The committed offset of a partition is its lowest unsettled job.
//!
//! On assignment the predecessor's outcomes are read back first, from the place that it left in
//! the commit's metadata, so that what is settled above the committed offset isn't sent again.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};

use crate::config::Config;
use crate::delivery::DeliveryJob;
use crate::delivery::dispatch::{Answer, Attempt, Dispatch, Settings, Settled, Verdict};
use crate::delivery::lane::{JobAt, Waiting};
use crate::delivery::limit::Micros;
use crate::destination::Destinations;
use crate::kafka::SESSION_TIMEOUT;
use crate::kafka::jobs::{CommitMode, Event, Jobs, RawJob};
use crate::kafka::producer::Producer;
use crate::metrics::Metrics;

mod partition;
mod report;
mod write;

use partition::{Partition, Recovered, recover};
use write::DeadLetter;

/// Jobs held in memory before fetching pauses, and when it goes on.
const WAITING_MAX: usize = 20_000;
const WAITING_LOW: usize = 15_000;
const COMMIT_EVERY: Duration = Duration::from_millis(200);

/// What the sender needs from the outside.
#[derive(Debug)]
pub struct Surroundings {
    pub config: Arc<Config>,
    pub metrics: Arc<Metrics>,
    pub destinations: Arc<Destinations>,
    pub producer: Producer,
    pub stop: watch::Receiver<bool>,
    pub ready: Arc<std::sync::atomic::AtomicBool>,
    /// Epoch microseconds on a clock that never goes back.
    pub now: fn() -> Micros,
}

/// What comes back to the loop.
enum Back {
    Answered {
        attempt: u64,
        answers: Vec<Answer>,
        took: Duration,
    },
    /// Kafka has taken a dead letter; its outcome comes next.
    DeadLettered(Arc<Settled>),
    /// Kafka has (or hasn't) taken a final outcome.
    Acked {
        at: JobAt,
        generation: u64,
        outcome_offset: Result<i64, Arc<Settled>>,
    },
    /// Kafka has not taken a dead letter.
    DeadLetterFailed(Arc<DeadLetter>),
    Recovered {
        partition: i32,
        generation: u64,
        recovered: Result<Recovered, String>,
    },
}

struct Loop {
    at: Surroundings,
    dispatch: Dispatch,
    jobs: Jobs,
    partitions: HashMap<i32, Partition>,
    back: mpsc::UnboundedSender<Back>,
    traceparents: HashMap<JobAt, String>,
    hosts: HashMap<String, Arc<str>>,
    leaving: Vec<Leaving>,
    generation: u64,
    paused: bool,
    stopping: bool,
    refused: HashSet<String>,
}

/// Partitions that go away once nothing of them is in flight.
struct Leaving {
    partitions: Vec<i32>,
    done: std::sync::mpsc::Sender<()>,
    until: Instant,
}

/// Runs until told to stop, and then until what is in flight is settled.
pub async fn run(at: Surroundings) -> anyhow::Result<()> {
    let (events_in, mut events) = mpsc::channel(1024);
    let (back, mut answers) = mpsc::unbounded_channel();
    let jobs = Jobs::join(&at.config, events_in)?;
    let mut stop = at.stop.clone();
    let seed = fastrand::Rng::new();
    let mut sender = Loop {
        dispatch: Dispatch::new(settings(&at.config), seed),
        jobs,
        partitions: HashMap::new(),
        back,
        traceparents: HashMap::new(),
        hosts: HashMap::new(),
        leaving: Vec::new(),
        generation: 0,
        paused: false,
        stopping: *stop.borrow(),
        refused: HashSet::new(),
        at,
    };
    let mut commit = tokio::time::interval(COMMIT_EVERY);
    commit.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        sender.start();
        sender.let_go();
        let wake =
            Duration::from_micros(u64::try_from(sender.dispatch.wake_at() - (sender.at.now)()).unwrap_or_default());
        tokio::select! {
            biased;
            Some(back) = answers.recv() => sender.came_back(back),
            event = events.recv() => match event {
                // The group is left: everything is handed over.
                Some(Event::Left) | None => break,
                Some(event) => sender.event(event)?,
            },
            () = tokio::time::sleep(wake.max(Duration::from_millis(1))) => {}
            _ = commit.tick() => sender.tick(),
            _ = stop.changed(), if !sender.stopping => {
                sender.stopping = true;
                sender.jobs.leave();
            }
        }
    }
    sender.jobs.join_thread();
    Ok(())
}

/// The dispatch's settings from the configuration.
pub fn settings(config: &Config) -> Settings {
    let limits = config.slack.limits.iter();
    Settings {
        in_flight_max: config.sender.in_flight_max,
        channel_rate: config.slack.channel_rate,
        workspace_rate: config.slack.workspace_rate,
        webhook_rate: config.slack.webhook_rate,
        rates: limits
            .map(|limit| ((limit.credential.clone(), limit.channel.clone()), limit.rate))
            .collect(),
        concurrency: (config.clevertap.accounts.iter())
            .map(|(name, account)| (format!("clevertap:{name}"), account.concurrency))
            .collect(),
        batch_max: config.clevertap.batch_max,
        batch_wait: config.clevertap.batch_wait,
        retry_initial: config.sender.retry.initial,
        retry_max: config.sender.retry.max,
        step_aside: config.sender.retry.step_aside,
        give_up_after: config.sender.retry.give_up_after,
        job_age_max: config.sender.job_age_max,
        dedup_window: config.sender.dedup_window,
        dedup_ids_max: config.sender.dedup_ids_max,
        join: config.slack.join,
    }
}

impl Loop {
    /// Starts every request that may start now.
    fn start(&mut self) {
        // Who hasn't polled for half a session may own nothing any more.
        if self.stopping || self.jobs.silent_for() > SESSION_TIMEOUT / 2 {
            return;
        }
        let mut settled = Vec::new();
        while let Some(attempt) = self.dispatch.next((self.at.now)(), &mut settled) {
            self.spawn(attempt);
        }
        for settled in settled {
            self.settle(settled);
        }
    }

    fn spawn(&self, attempt: Attempt) {
        let (destinations, back) = (Arc::clone(&self.at.destinations), self.back.clone());
        tokio::spawn(async move {
            let began = Instant::now();
            let answers = destinations.attempt(&attempt).await;
            drop(back.send(Back::Answered {
                attempt: attempt.id,
                answers,
                took: began.elapsed(),
            }));
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
                    self.dispatch.disown(*partition);
                    if lost {
                        self.partitions.remove(partition);
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

    /// Hands over partitions with nothing in flight, or whose time is up.
    fn let_go(&mut self) {
        let mut leaving = std::mem::take(&mut self.leaving);
        leaving.retain(|leaving| {
            let busy = leaving.partitions.iter().any(|partition| {
                self.dispatch.is_busy(*partition)
                    || self
                        .partitions
                        .get(partition)
                        .is_some_and(|partition| partition.ending > 0)
            });
            if busy && Instant::now() < leaving.until {
                return true;
            }
            self.commit(CommitMode::Sync, Some(&leaving.partitions));
            for partition in &leaving.partitions {
                self.partitions.remove(partition);
                self.traceparents.retain(|at, _| at.partition != *partition);
            }
            // The group's thread may have stopped waiting.
            let _waits = leaving.done.send(());
            false
        });
        self.leaving = leaving;
    }

    fn assigned(&mut self, partition: i32) {
        self.generation += 1;
        let generation = self.generation;
        self.dispatch.own(partition, (self.at.now)());
        self.partitions.insert(
            partition,
            Partition {
                generation,
                recovered: None,
                early: Vec::new(),
                unsettled: BTreeMap::new(),
                next: 0,
                committed: -1,
                ending: 0,
            },
        );
        self.recover(partition, generation);
        if self.paused {
            drop(self.jobs.pause(true));
        }
        self.at.ready.store(true, std::sync::atomic::Ordering::Relaxed);
    }

    /// Reads the predecessor's outcomes back, beside the loop.
    fn recover(&self, partition: i32, generation: u64) {
        let committed = self.jobs.committed(partition);
        let (config, back) = (Arc::clone(&self.at.config), self.back.clone());
        tokio::task::spawn_blocking(move || {
            let recovered = committed
                .map_err(|error| error.to_string())
                .and_then(|committed| recover(&config, partition, committed.outcomes_from));
            drop(back.send(Back::Recovered {
                partition,
                generation,
                recovered,
            }));
        });
    }

    fn read(&mut self, job: RawJob) {
        let Some(partition) = self.partitions.get_mut(&job.partition) else {
            return;
        };
        if partition.recovered.is_none() {
            partition.early.push(job);
            return;
        }
        self.accept(job);
    }

    fn accept(&mut self, raw: RawJob) {
        let now = (self.at.now)();
        let Some(partition) = self.partitions.get_mut(&raw.partition) else {
            return;
        };
        let Some(recovered) = &partition.recovered else { return };
        if raw.offset < partition.next {
            return;
        }
        partition.next = raw.offset + 1;
        if recovered.settled.contains(&raw.offset) {
            return;
        }
        // A job's outcomes, and those of the jobs behind it, come after it was first read.
        let tried = raw.offset < recovered.tried_below;
        let from = if tried {
            recovered.outcomes_from
        } else {
            recovered.outcomes_end
        };
        let attempts = recovered.attempts.get(&raw.offset).copied().unwrap_or(0);
        let throttled = DeliveryJob::decode(&raw.value)
            .ok()
            .and_then(|job| recovered.throttled.get(&job.lane()).cloned());
        partition.unsettled.insert(raw.offset, from);
        let at = JobAt {
            partition: raw.partition,
            offset: raw.offset,
        };
        match DeliveryJob::decode(&raw.value) {
            Ok(job) => {
                if let Some(traceparent) = raw.traceparent {
                    self.traceparents.insert(at, traceparent);
                }
                let host = Arc::clone(
                    self.hosts
                        .entry(job.credential.clone())
                        .or_insert_with(|| self.at.destinations.host(&job)),
                );
                if let Some(outcome) = throttled {
                    self.dispatch.recall(&outcome, Arc::clone(&host), &job, now);
                }
                let waiting = Waiting {
                    at,
                    bytes: raw.value.len() + size_of::<Waiting>() + size_of::<DeliveryJob>(),
                    job: Arc::new(job),
                    written_at: raw.timestamp * 1000,
                    accepted_at: now,
                    attempts,
                    not_before: 0,
                    failing_since: None,
                    aside: false,
                };
                self.dispatch.accept(waiting, host, now);
            }
            Err(error) => self.undecodable(at, &raw, &error.to_string()),
        }
        self.pace();
    }

    /// Pauses the fetch when enough is held, and goes on when there is room again.
    fn pace(&mut self) {
        let (waiting, bytes) = self.dispatch.held();
        let budget = self.at.config.sender.payload_bytes_max;
        let full = waiting >= WAITING_MAX || bytes >= budget;
        let room = waiting <= WAITING_LOW && bytes <= budget - budget / 4;
        if (full && !self.paused) || (room && self.paused) {
            self.paused = full;
            if let Err(error) = self.jobs.pause(full) {
                tracing::warn!(%error, "fetching could not be paused or resumed");
            }
        }
    }

    fn came_back(&mut self, back: Back) {
        match back {
            Back::Answered { attempt, answers, took } => {
                for answer in &answers {
                    tracing::debug!(attempt, verdict = verdict(&answer.verdict), "answered");
                }
                let counted: Vec<&'static str> = answers.iter().map(|answer| verdict(&answer.verdict)).collect();
                let settled = self.dispatch.answered(attempt, answers, (self.at.now)());
                if let (Some(first), Some(result)) = (settled.first(), counted.first()) {
                    self.at.metrics.attempted(first.job.action.provider(), result, took);
                }
                for settled in settled {
                    self.settle(settled);
                }
                self.credentials();
                self.pace();
            }
            Back::DeadLettered(settled) => self.write_outcome(settled),
            Back::DeadLetterFailed(letter) => self.write_dead_letter(letter),
            Back::Acked {
                at,
                generation,
                outcome_offset,
            } => {
                let Some(partition) = self.partitions.get_mut(&at.partition) else {
                    return;
                };
                if partition.generation != generation {
                    return;
                }
                match outcome_offset {
                    Ok(offset) => {
                        partition.unsettled.remove(&at.offset);
                        partition.ending -= 1;
                        if let Some(recovered) = &mut partition.recovered {
                            recovered.outcomes_end = recovered.outcomes_end.max(offset + 1);
                        }
                        self.traceparents.remove(&at);
                    }
                    // Until Kafka has it, the job isn't settled.
                    Err(settled) => self.write_outcome(settled),
                }
            }
            Back::Recovered {
                partition,
                generation,
                recovered,
            } => self.recovered(partition, generation, recovered),
        }
    }

    fn recovered(&mut self, number: i32, generation: u64, recovered: Result<Recovered, String>) {
        let now = (self.at.now)();
        let Some(partition) = self
            .partitions
            .get_mut(&number)
            .filter(|partition| partition.generation == generation)
        else {
            return;
        };
        match recovered {
            Err(message) => {
                tracing::warn!(
                    kafka.partition = number,
                    message,
                    "outcomes could not be read back; trying again"
                );
                self.recover(number, generation);
            }
            Ok(recovered) => {
                for (job_id, sent_at) in &recovered.sent {
                    self.dispatch.recall_sent(job_id, *sent_at, now);
                }
                partition.recovered = Some(recovered);
                for job in std::mem::take(&mut partition.early) {
                    self.accept(job);
                }
            }
        }
    }

    fn tick(&mut self) {
        self.commit(CommitMode::Async, None);
        self.gauges();
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
