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

use rdkafka::consumer::CommitMode;
use tokio::sync::{mpsc, watch};

use crate::config::Config;
use crate::delivery::dispatch::{Answer, Attempt, Dispatch, Settings, Settled, Verdict};
use crate::delivery::lane::{JobAt, Waiting};
use crate::delivery::limit::Micros;
use crate::delivery::{DeliveryJob, Outcome, OutcomeResult, Provider};
use crate::destination::Destinations;
use crate::kafka::SESSION_TIMEOUT;
use crate::kafka::jobs::{Event, Jobs, RawJob};
use crate::kafka::producer::{Producer, Record};
use crate::kafka::reader::{Isolation, Next, Reader};
use crate::metrics::{FROZEN, Metrics};
use crate::reason::Reason;

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

/// A dead letter on its way. Its job settles only once Kafka has it.
#[derive(Debug)]
struct DeadLetter {
    at: JobAt,
    generation: u64,
    key: Vec<u8>,
    value: Vec<u8>,
    reason: Reason,
    detail: String,
    trace: Option<String>,
    /// `None` for a record that is no job, and has no outcome.
    settled: Option<Arc<Settled>>,
}

/// What the outcomes of a partition say.
#[derive(Debug, Default)]
struct Recovered {
    /// Above every job that a predecessor tried.
    tried_below: i64,
    /// Where the outcomes were read from, and where they end.
    outcomes_from: i64,
    outcomes_end: i64,
    /// Jobs at or above the committed offset that are final.
    settled: HashSet<i64>,
    attempts: HashMap<i64, i32>,
    sent: Vec<(String, Micros)>,
    throttled: HashMap<String, Outcome>,
}

/// A partition that is ours.
#[derive(Debug)]
struct Partition {
    /// Answers to a former ownership don't count.
    generation: u64,
    recovered: Option<Recovered>,
    /// Jobs that came before the outcomes were read back.
    early: Vec<RawJob>,
    /// Unsettled jobs, each with the place from which its outcomes can be found.
    unsettled: BTreeMap<i64, i64>,
    next: i64,
    committed: i64,
    /// Jobs whose end Kafka has not acknowledged.
    ending: usize,
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

    /// A record that is no job of ours: a dead letter, so that the offset may move on.
    fn undecodable(&mut self, at: JobAt, raw: &RawJob, detail: &str) {
        let Some(partition) = self.partitions.get_mut(&at.partition) else {
            return;
        };
        partition.ending += 1;
        let generation = partition.generation;
        tracing::warn!(
            kafka.partition = at.partition,
            kafka.offset = at.offset,
            detail,
            "a record is no delivery job; dead letter"
        );
        self.at.metrics.dead_letter(Reason::NotDecodable);
        self.write_dead_letter(Arc::new(DeadLetter {
            at,
            generation,
            key: raw.key.clone(),
            value: raw.value.clone(),
            reason: Reason::NotDecodable,
            detail: detail.to_owned(),
            trace: raw.traceparent.clone(),
            settled: None,
        }));
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

    /// Writes an outcome, and the dead letter where there is one.
    fn settle(&mut self, settled: Settled) {
        let (metrics, provider, outcome) = (&self.at.metrics, settled.job.action.provider(), &settled.outcome);
        metrics.settled(provider, outcome.result);
        if outcome.result == OutcomeResult::Sent {
            let age = outcome.ended_at - settled.job.occurred_at;
            metrics.delivered(provider, Duration::from_millis(u64::try_from(age).unwrap_or_default()));
        }
        tracing::debug!(
            event.id = outcome.event_id,
            rule.id = outcome.rule_id,
            job.id = outcome.job_id,
            lane = outcome.lane,
            attempt = outcome.attempt,
            result = outcome.result.as_str(),
            "outcome"
        );
        let Some(partition) = self.partitions.get_mut(&settled.at.partition) else {
            return;
        };
        partition.ending += usize::from(outcome.result.is_final());
        let generation = partition.generation;
        let settled = Arc::new(settled);
        let Some(reason) = settled.dead else {
            return self.write_outcome(settled);
        };
        let outcome = &settled.outcome;
        let detail = outcome.words.clone().unwrap_or_default();
        tracing::warn!(
            event.id = outcome.event_id,
            rule.id = outcome.rule_id,
            job.id = outcome.job_id,
            reason = reason.as_str(),
            words = detail,
            "dead letter"
        );
        self.at.metrics.dead_letter(reason);
        self.write_dead_letter(Arc::new(DeadLetter {
            at: settled.at,
            generation,
            key: settled.job.credential.as_bytes().to_vec(),
            value: settled.job.encode(),
            reason,
            detail,
            trace: self.traceparents.get(&settled.at).cloned(),
            settled: Some(settled),
        }));
    }

    fn write_outcome(&self, settled: Arc<Settled>) {
        let Some(partition) = self.partitions.get(&settled.at.partition) else {
            return;
        };
        let (back, generation, at) = (self.back.clone(), partition.generation, settled.at);
        let outcome = &settled.outcome;
        let value = outcome.encode();
        let ids = [
            ("event-id", outcome.event_id.as_str()),
            ("rule-id", &outcome.rule_id),
            ("job-id", &outcome.job_id),
        ];
        let trace = self.traceparents.get(&at).map(|trace| ("traceparent", trace.as_str()));
        let record = Record {
            topic: &self.at.config.topics.outcomes,
            partition: Some(at.partition),
            key: outcome.job_id.as_bytes(),
            value: Some(&value),
            headers: crate::kafka::headers(ids.into_iter().chain(trace)),
        };
        let last = Arc::clone(&settled);
        self.at.producer.write(&record, move |ack| {
            // What isn't final settles nothing, and is not worth a second try.
            if last.outcome.result.is_final() {
                let outcome_offset = ack.map(|(_, offset)| offset).map_err(|error| {
                    tracing::warn!(error, "an outcome was not written; trying again");
                    last
                });
                drop(back.send(Back::Acked {
                    at,
                    generation,
                    outcome_offset,
                }));
            }
        });
    }

    fn write_dead_letter(&self, letter: Arc<DeadLetter>) {
        let topics = &self.at.config.topics;
        let (partition, offset) = (letter.at.partition.to_string(), letter.at.offset.to_string());
        let failed_at = jiff::Timestamp::from_microsecond((self.at.now)())
            .unwrap_or_default()
            .to_string();
        let headers = [
            ("reason", letter.reason.as_str()),
            ("detail", &letter.detail),
            ("source-topic", &topics.jobs),
            ("source-partition", &partition),
            ("source-offset", &offset),
            ("failed-at", &failed_at),
        ];
        let outcome = letter.settled.as_ref().map(|settled| &settled.outcome);
        let ids = outcome.map(|outcome| {
            [
                ("event-id", &outcome.event_id),
                ("rule-id", &outcome.rule_id),
                ("job-id", &outcome.job_id),
            ]
        });
        let ids = ids.into_iter().flatten().map(|(name, id)| (name, id.as_str()));
        let trace = letter.trace.as_deref().map(|trace| ("traceparent", trace));
        let record = Record {
            topic: &topics.dead_letters,
            partition: None,
            key: &letter.key,
            value: Some(&letter.value),
            headers: crate::kafka::headers(headers.into_iter().chain(ids).chain(trace)),
        };
        let (back, letter) = (self.back.clone(), Arc::clone(&letter));
        self.at.producer.write(&record, move |ack| {
            let (at, generation) = (letter.at, letter.generation);
            let message = match (ack, &letter.settled) {
                (Ok(_), Some(settled)) => Back::DeadLettered(Arc::clone(settled)),
                (Ok(_), None) => Back::Acked {
                    at,
                    generation,
                    outcome_offset: Ok(-1),
                },
                (Err(error), _) => {
                    tracing::error!(error, "a dead letter was not written; trying again");
                    Back::DeadLetterFailed(letter)
                }
            };
            drop(back.send(message));
        });
    }

    fn tick(&mut self) {
        self.commit(CommitMode::Async, None);
        self.gauges();
    }

    /// Commits the lowest unsettled offset of our partitions.
    fn commit(&mut self, mode: CommitMode, only: Option<&[i32]>) {
        let mut offsets = BTreeMap::new();
        for (number, partition) in &mut self.partitions {
            if only.is_some_and(|only| !only.contains(number)) {
                continue;
            }
            if let Some(place) = partition.place().filter(|(offset, _)| *offset > partition.committed) {
                partition.committed = place.0;
                offsets.insert(*number, place);
            }
        }
        if let Err(error) = self.jobs.commit(&offsets, mode) {
            tracing::warn!(%error, "offsets were not committed");
            for number in offsets.keys() {
                if let Some(partition) = self.partitions.get_mut(number) {
                    partition.committed = -1;
                }
            }
        }
    }

    fn gauges(&self) {
        let now = (self.at.now)();
        let mut waiting: HashMap<Provider, usize> = HashMap::new();
        let mut frozen: HashMap<(Provider, &str), usize> = HashMap::new();
        let (mut limit, mut capacity) = (0.0_f64, 0.0_f64);
        for lane in self.dispatch.lanes(now) {
            *waiting.entry(lane.provider).or_default() += lane.waiting;
            if lane.frozen_until.is_some() {
                *frozen.entry((lane.provider, lane.frozen_why)).or_default() += 1;
            }
            // A lane that its own limit spaces is the limit's; one without is ours to drain faster.
            let seconds = lane.waiting as f64 * lane.spacing as f64 / 1e6;
            if lane.spacing > 0 || lane.frozen_until.is_some() {
                let frozen = lane.frozen_until.map_or(0.0, |until| (until - now) as f64 / 1e6);
                limit = limit.max(seconds + if lane.waiting > 0 { frozen } else { 0.0 });
            } else {
                capacity += lane.waiting as f64 / 1000.0;
            }
        }
        let in_flight = self.dispatch.in_flight_by_provider();
        for provider in Provider::ALL {
            let count = in_flight.get(&provider).copied().unwrap_or(0);
            self.at
                .metrics
                .waiting(provider, waiting.get(&provider).copied().unwrap_or(0), count);
            for reason in FROZEN {
                self.at
                    .metrics
                    .frozen(provider, reason, frozen.get(&(provider, reason)).copied().unwrap_or(0));
            }
        }
        self.at.metrics.backlog(limit, capacity);
    }

    /// Says once when a credential is refused, and once when it works again.
    fn credentials(&mut self) {
        let refused: HashSet<String> = self.dispatch.refused().into_iter().map(str::to_owned).collect();
        for credential in refused.difference(&self.refused) {
            tracing::error!(
                credential,
                "the credential is refused; its jobs wait, and it is probed until it works"
            );
        }
        for credential in self.refused.difference(&refused) {
            tracing::info!(credential, "the credential works again");
        }
        self.refused = refused;
    }
}

impl Partition {
    /// What to commit: the lowest unsettled offset (or the next one), and from where its outcomes
    /// can be found. Nothing before the outcomes are read back.
    fn place(&self) -> Option<(i64, i64)> {
        let recovered = self.recovered.as_ref()?;
        match self.unsettled.first_key_value() {
            Some((offset, from)) => Some((*offset, *from)),
            None if self.next > 0 => Some((self.next, recovered.outcomes_end)),
            None => None,
        }
    }
}

/// Reads the outcomes of `partition` from `from` to the end it has now.
fn recover(config: &Config, partition: i32, from: Option<i64>) -> Result<Recovered, String> {
    let topic = &config.topics.outcomes;
    // The processor writes here in transactions; an open one would hide what the predecessor wrote.
    let reader = Reader::assign(config, topic, &[(partition, from)], Isolation::Uncommitted)
        .map_err(|error| error.to_string())?;
    let end = reader.end(topic, partition).map_err(|error| error.to_string())?;
    let mut recovered = Recovered {
        outcomes_from: from.unwrap_or(0),
        outcomes_end: end,
        ..Recovered::default()
    };
    if end == 0 || from.is_some_and(|from| from >= end) {
        return Ok(recovered);
    }
    let began = Instant::now();
    loop {
        match reader.next(Duration::from_millis(100)) {
            Next::Record(record) => {
                let last = record.offset + 1 >= end;
                if let Some(outcome) = record.value.as_deref().and_then(|value| Outcome::decode(value).ok()) {
                    recovered.take(outcome, record.timestamp);
                }
                if last {
                    return Ok(recovered);
                }
            }
            Next::End(_) => return Ok(recovered),
            Next::Nothing if began.elapsed() > Duration::from_secs(60) => return Err("the broker is silent".to_owned()),
            Next::Nothing => {}
        }
    }
}

impl Recovered {
    fn take(&mut self, outcome: Outcome, written_at: i64) {
        // The processor's own outcomes have no job.
        let Some(offset) = outcome.job_offset else { return };
        if matches!(outcome.result, OutcomeResult::Sent | OutcomeResult::Digested) {
            self.sent.push((outcome.job_id.clone(), written_at * 1000));
        }
        if outcome.result == OutcomeResult::Throttled {
            self.throttled.insert(outcome.lane.clone(), outcome.clone());
        }
        if outcome.result.is_final() {
            self.settled.insert(offset);
        }
        self.tried_below = self.tried_below.max(offset + 1);
        let attempts = self.attempts.entry(offset).or_default();
        *attempts = (*attempts).max(outcome.attempt);
    }
}

/// What came of an attempt; a metric label.
fn verdict(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Delivered => "delivered",
        Verdict::Throttled { .. } => "throttled",
        Verdict::Retry | Verdict::NotInChannel => "retry",
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
