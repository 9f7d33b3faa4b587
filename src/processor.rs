//! The processor: events in, jobs out, in one transaction with the offsets.
//!
//! A record becomes an event ([`decode_for`]), which meets rules ([`matching`]), and each of those is planned ([`plan_in`]).
//! All three are pure.
//! [`run`] is a worker around it: [`crate::batches`] polls and commits, and this module writes in between. A fatal Kafka error rebuilds the worker
//! from the committed offsets; only a twin that fences it three times within a minute ends the process.

use std::cell::RefCell;
use std::sync::Arc;

use crate::action::{ActionType, ROOM_KEPT};
use crate::batches::{Batches, Done, Work};
use crate::config::Config;
use crate::delivery::plan::{Planned, Source, Texts, plan_in};
use crate::delivery::{Codec, Cut, DeliveryJob, Outcome, OutcomeResult};
use crate::kafka::topics::Limits;
use crate::kafka::worker::{Memory, Record, Share, Worker, WriteError, keep_running, takes_nothing};
use crate::kafka::{self, ConsumerRecord, Failure, Fault, Letter, Message};
use crate::lead::LeadEvent;
use crate::lead::decode::{DecodeError, decode_for};
use crate::lead::schemas::Schemas;
use crate::metrics::{Metrics, StartedOver};
use crate::reason::Reason;
use crate::registry::Registry;
use crate::rules::log::Rules;
use crate::rules::{RuleId, Status, Versioned};

/// The rules that an event meets, in the order of their jobs. A replay is for one rule only, for which `only` is asked where
/// there is any at all.
pub fn matching<'r, 'o>(
    event: &LeadEvent<'_>,
    rules: &'r Rules,
    only: impl FnOnce() -> Option<&'o str>,
) -> Vec<&'r Arc<Versioned>> {
    let mut matching = Vec::new();
    rules.index.matches(event, &mut matching);
    if !matching.is_empty()
        && let Some(only) = only()
    {
        matching.retain(|matched| &*matched.rule.id == only);
    }
    matching
}

/// The parts that a worker is wired to.
#[derive(Debug, Clone)]
pub struct ProcessorWiring {
    pub config: Arc<Config>,
    /// Writes jobs and outcomes.
    pub codec: &'static Codec,
    pub limits: Limits,
    pub metrics: Arc<Metrics>,
    /// The rules in force; taken once per batch. Without any state of them nothing is read.
    pub rules: tokio::sync::watch::Receiver<Option<Arc<Rules>>>,
    pub stop: tokio::sync::watch::Receiver<bool>,
    /// Shared by all workers.
    pub memory: Memory,
    /// Set once the group has given the worker its partitions.
    pub ready: Arc<std::sync::atomic::AtomicBool>,
    /// Epoch milliseconds.
    pub now: fn() -> i64,
    pub runtime: tokio::runtime::Handle,
}

/// Runs worker `number` until `stop` is set. The error ends the process.
pub fn run(wiring: &ProcessorWiring, instance: &str, number: usize) -> anyhow::Result<()> {
    let registry = Registry::of(&wiring.config.schema_registry)?;
    let mut schemas = Schemas::new();
    let share = Share::of_events(&wiring.config, instance, number);
    let stop = || *wiring.stop.borrow();
    let work = || {
        let worker = Worker::connect(&wiring.config, &share, &wiring.limits, &wiring.memory)?;
        let batches = Batches {
            config: &wiring.config,
            metrics: &wiring.metrics,
            stop: &wiring.stop,
            ready: &wiring.ready,
            runtime: &wiring.runtime,
            registry: registry.as_ref(),
            worker: &worker,
            what: "events",
            topics: StartedOver::Events,
        };
        batches.run(&mut schemas, &mut Events::new(wiring, &worker))
    };
    keep_running(&format!("worker {number}"), instance, stop, work).map_err(anyhow::Error::msg)
}

/// Events become jobs, outcomes and dead letters.
struct Events<'l> {
    wiring: &'l ProcessorWiring,
    worker: &'l Worker,
    /// The rules in force when the batch began.
    rules: Arc<Rules>,
    /// When the last records came, in epoch milliseconds.
    now: i64,
    room: RefCell<Room>,
}

/// What the last job took, for the next one.
#[derive(Debug, Default)]
struct Room {
    texts: Texts,
    value: Vec<u8>,
}

impl Work for Events<'_> {
    fn begin(&mut self) {
        if let Some(rules) = &*self.wiring.rules.borrow() {
            self.rules = Arc::clone(rules);
        }
        self.came();
    }

    fn came(&mut self) {
        self.now = (self.wiring.now)();
    }

    fn may_go(&self) -> bool {
        self.wiring.rules.borrow().is_some()
    }

    fn take(&mut self, message: &ConsumerRecord<'_>, schemas: &Schemas) -> Result<Done, Fault> {
        // It stays where it is: to move an event costs as much as some of its fields do.
        let decoded = decode_for(message.payload().unwrap_or_default(), schemas, &self.rules.asked);
        let written = match &decoded {
            Ok(event) => self.write(message, event),
            Err(DecodeError::NeedsSchema(_)) => return Ok(Done::NeedsSchema),
            Err(error) => {
                let reason = error.reason().expect("every other failure has a reason");
                self.dead_letter(message, reason, error.detail(), None)
            }
        };
        written.map(|()| Done::Written)
    }
}

impl<'l> Events<'l> {
    fn new(wiring: &'l ProcessorWiring, worker: &'l Worker) -> Self {
        Self {
            wiring,
            worker,
            rules: wiring.rules.borrow().clone().unwrap_or_default(),
            now: (wiring.now)(),
            room: RefCell::default(),
        }
    }

    fn write<M: Message>(&self, message: &M, event: &LeadEvent<'_>) -> Result<(), Fault> {
        let metrics = &self.wiring.metrics;
        metrics.event_decoded(&event.trigger);
        let matching = matching(event, &self.rules, || kafka::header(message.headers(), "only-rule"));
        if matching.is_empty() {
            return Ok(());
        }
        let room = &mut *self.room.borrow_mut();
        let source = Source {
            topic: message.topic(),
            partition: message.partition(),
            offset: message.offset(),
        };
        for matched in matching {
            let (id, action) = (&*matched.rule.id, matched.rule.action.kind.action());
            metrics.matched(&event.trigger, action, RuleId(id));
            if matched.rule.status == Status::Shadow {
                tracing::info!(event.id = &*event.event_id, rule.id = id, "shadow rule matched");
            }
            match plan_in(&mut room.texts, event, matched, source, self.now) {
                Planned::Job(job) => self.job(message, &job, &mut room.value)?,
                Planned::Settled(outcome) => self.outcome(message, &outcome, action)?,
                Planned::Failed { outcome, detail } => {
                    self.outcome(message, &outcome, action)?;
                    self.dead_letter(message, Reason::TemplateFailed, &detail, Some(&outcome))?;
                }
            }
        }
        Ok(())
    }

    /// Writes a job; `value` is room for its bytes.
    fn job<M: Message>(&self, message: &M, job: &DeliveryJob<&str>, value: &mut Vec<u8>) -> Result<(), Fault> {
        let topics = &self.wiring.config.topics;
        value.clear();
        value.shrink_to(ROOM_KEPT);
        self.wiring.codec.write_job_into(job, value);
        let record = Record {
            topic: &topics.jobs,
            key: job.credential.as_bytes(),
            value: Some(value),
            headers: kafka::versioned(known(Some(job.ids()), message)),
        };
        match self.worker.write(record) {
            Ok(()) => {
                self.worker.wrote_job();
                Ok(())
            }
            Err(WriteError::Fault(fault)) => Err(fault),
            Err(WriteError::TooLarge) => {
                let detail = format!(
                    "rule {}: the delivery job is larger than {} takes",
                    job.rule_id, topics.jobs
                );
                let outcome = job.outcome(OutcomeResult::Dead, self.now).because(Reason::TooLarge, "");
                self.outcome(message, &outcome, job.action)?;
                self.dead_letter(message, Reason::TooLarge, &detail, Some(&outcome))
            }
        }
    }

    fn outcome<M: Message>(&self, message: &M, outcome: &Outcome, action: ActionType) -> Result<(), Fault> {
        self.wiring.metrics.settled(action.provider(), outcome.result);
        let topic = &self.wiring.config.topics.outcomes;
        for cut in Cut::ALL {
            let value = self.wiring.codec.write_outcome(&outcome.cut(cut));
            let written = self.worker.write(Record {
                topic,
                key: outcome.job_id.as_bytes(),
                value: Some(&value),
                headers: kafka::versioned(known(Some(outcome.ids()), message)),
            });
            match written {
                Ok(()) => return Ok(()),
                Err(WriteError::Fault(fault)) => return Err(fault),
                Err(WriteError::TooLarge) => {}
            }
        }
        Err(takes_nothing(topic))
    }

    /// The record becomes a dead letter: the whole, or one match of it, which ends with `outcome`.
    fn dead_letter<M: Message>(
        &self,
        message: &M,
        reason: Reason,
        detail: &str,
        outcome: Option<&Outcome>,
    ) -> Result<(), Fault> {
        self.wiring.metrics.event_dead(reason);
        tracing::warn!(
            reason = reason.as_str(),
            detail,
            kafka.topic = message.topic(),
            kafka.partition = message.partition(),
            kafka.offset = message.offset(),
            "dead letter"
        );
        let known = known(outcome.map(Outcome::ids), message).map(|(name, text)| (name, Some(text)));
        let known: Vec<_> = known.collect();
        self.worker.write_letter(&Letter {
            key: message.key().unwrap_or_default(),
            value: message.payload(),
            failure: Failure {
                reason: reason.as_str(),
                detail,
                source: message.topic(),
                place: Some((message.partition(), message.offset())),
                at: jiff::Timestamp::from_millisecond(self.now).unwrap_or_default(),
            },
            known: &known,
        })
    }
}

/// The headers of records made from `message`: its ids, and the trace.
fn known<'m, M: Message>(
    ids: Option<[(&'m str, &'m str); 3]>,
    message: &'m M,
) -> impl Iterator<Item = (&'m str, &'m str)> {
    let trace = kafka::header(message.headers(), "traceparent").map(|trace| ("traceparent", trace));
    ids.into_iter().flatten().chain(trace)
}

#[cfg(test)]
mod tests;
