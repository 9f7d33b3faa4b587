//! The processor: events in, jobs out, in one transaction with the offsets.
//!
//! [`evaluate`] is pure: it turns one record into what has to be written. [`run`] is a worker around
//! it: [`crate::batches`] polls and commits, and what is written between is here. A fatal Kafka error rebuilds the worker from
//! the committed offsets; only a twin that fences it three times within a minute ends the process.

use std::sync::Arc;

use crate::action::ActionType;
use crate::batches::{Batches, Work};
use crate::config::Config;
use crate::delivery::plan::{Planned, Source, plan};
use crate::delivery::{Codec, Cut, DeliveryJob, Outcome, job_id};
use crate::kafka::topics::Limits;
use crate::kafka::worker::{Memory, Record, Share, Worker, WriteError, keep_running, takes_nothing};
use crate::kafka::{self, BorrowedMessage, Failure, Fault, Letter, Message};
use crate::lead::decode::{DecodeError, decode};
use crate::lead::schemas::{SchemaId, Schemas};
use crate::metrics::{Metrics, StartedOver};
use crate::reason::Reason;
use crate::registry::Registry;
use crate::rules::Versioned;
use crate::rules::log::Rules;

/// What one event comes to.
#[derive(Debug, Default)]
pub struct Evaluated {
    pub jobs: Vec<DeliveryJob>,
    pub outcomes: Vec<Outcome>,
    pub dead: Vec<Dead>,
    pub matches: Vec<(ActionType, Arc<Versioned>)>,
    pub event_id: String,
    pub trigger: String,
}

/// Why an event, or one match of it, can go no further.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dead {
    pub reason: Reason,
    pub detail: String,
    /// The rule whose match it is; `None` where the event itself is at fault.
    pub rule_id: Option<String>,
}

/// Evaluates one record against the rules. The error is the id of a schema that has to be looked up first.
pub fn evaluate(
    value: Option<&[u8]>,
    only_rule: Option<&str>,
    rules: &Rules,
    schemas: &Schemas,
    source: Source<'_>,
    now: i64,
    evaluated: &mut Evaluated,
) -> Result<(), SchemaId> {
    evaluated.clear();
    let event = match decode(value.unwrap_or_default(), schemas) {
        Ok(event) => event,
        Err(DecodeError::NeedsSchema(id)) => return Err(id),
        Err(error) => {
            let reason = error.reason().expect("every other failure has a reason");
            evaluated.dead.push(Dead {
                reason,
                detail: error.detail().to_owned(),
                rule_id: None,
            });
            return Ok(());
        }
    };
    evaluated.trigger.push_str(&event.trigger);
    let mut found = Vec::new();
    rules.index.matches(&event, &mut found);
    if let Some(only) = only_rule {
        found.retain(|matched| &*matched.rule.id == only);
    }
    if found.is_empty() {
        return Ok(());
    }
    evaluated.event_id.push_str(&event.event_id);
    for matched in found {
        evaluated
            .matches
            .push((matched.rule.action.kind.action(), Arc::clone(matched)));
        match plan(&event, matched, source, now) {
            Planned::Job(job) => evaluated.jobs.push(job),
            Planned::Settled(outcome) => evaluated.outcomes.push(outcome),
            Planned::Failed { outcome, detail } => {
                evaluated.dead.push(Dead {
                    reason: Reason::TemplateFailed,
                    detail,
                    rule_id: Some(outcome.rule_id.clone()),
                });
                evaluated.outcomes.push(outcome);
            }
        }
    }
    Ok(())
}

impl Evaluated {
    /// Empties it for the next event, keeping its memory.
    fn clear(&mut self) {
        self.jobs.clear();
        self.outcomes.clear();
        self.dead.clear();
        self.matches.clear();
        self.event_id.clear();
        self.trigger.clear();
    }
}

/// What a worker needs from the outside.
#[derive(Debug, Clone)]
pub struct Surroundings {
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

/// Runs worker `number` until it is told to stop. The error ends the process.
pub fn run(surroundings: &Surroundings, instance: &str, number: usize) -> anyhow::Result<()> {
    let registry = Registry::of(&surroundings.config.schema_registry)?;
    let mut schemas = Schemas::new();
    let share = Share::of_events(&surroundings.config, instance, number);
    let stop = || *surroundings.stop.borrow();
    let work = || {
        let worker = Worker::connect(&surroundings.config, &share, &surroundings.limits, &surroundings.memory)?;
        let batches = Batches {
            config: &surroundings.config,
            metrics: &surroundings.metrics,
            stop: &surroundings.stop,
            ready: &surroundings.ready,
            runtime: &surroundings.runtime,
            registry: registry.as_ref(),
            worker: &worker,
            what: "events",
            topics: StartedOver::Events,
        };
        batches.run(&mut schemas, &mut Events::new(surroundings, &worker))
    };
    keep_running(&format!("worker {number}"), instance, stop, work).map_err(anyhow::Error::msg)
}

/// Events become jobs, outcomes and dead letters.
struct Events<'l> {
    at: &'l Surroundings,
    worker: &'l Worker,
    /// Those in force when the batch began.
    rules: Arc<Rules>,
    evaluated: Evaluated,
}

impl Work for Events<'_> {
    fn begin(&mut self) {
        if let Some(rules) = &*self.at.rules.borrow() {
            self.rules = Arc::clone(rules);
        }
    }

    fn may_go(&self) -> bool {
        self.at.rules.borrow().is_some()
    }

    fn take(&mut self, message: &BorrowedMessage<'_>, schemas: &Schemas) -> Result<Result<(), SchemaId>, Fault> {
        let source = Source {
            topic: message.topic(),
            partition: message.partition(),
            offset: message.offset(),
        };
        let only_rule = kafka::header(message.headers(), "only-rule");
        let now = (self.at.now)();
        let evaluated = &mut self.evaluated;
        if let Err(id) = evaluate(
            message.payload(),
            only_rule,
            &self.rules,
            schemas,
            source,
            now,
            evaluated,
        ) {
            return Ok(Err(id));
        }
        self.write(message, source).map(Ok)
    }
}

impl<'l> Events<'l> {
    fn new(at: &'l Surroundings, worker: &'l Worker) -> Self {
        Self {
            at,
            worker,
            rules: at.rules.borrow().clone().unwrap_or_default(),
            evaluated: Evaluated::default(),
        }
    }

    fn write<M: Message>(&self, message: &M, source: Source<'_>) -> Result<(), Fault> {
        let (metrics, evaluated) = (&self.at.metrics, &self.evaluated);
        if !evaluated.trigger.is_empty() {
            metrics.event_decoded(&evaluated.trigger);
        }
        let traceparent = kafka::header(message.headers(), "traceparent");
        for (action, matched) in &evaluated.matches {
            metrics.matched(&evaluated.trigger, *action, &matched.rule.id);
            if matched.rule.status == crate::rules::Status::Shadow {
                tracing::info!(
                    event.id = evaluated.event_id,
                    rule.id = &*matched.rule.id,
                    "shadow rule matched"
                );
            }
        }
        for job in &evaluated.jobs {
            self.job(message, source, job, traceparent)?;
        }
        for outcome in &evaluated.outcomes {
            let of = |(_, matched): &&(ActionType, Arc<Versioned>)| *matched.rule.id == *outcome.rule_id;
            let action = evaluated
                .matches
                .iter()
                .find(of)
                .map_or(ActionType::SlackMessage, |(action, _)| *action);
            self.outcome(outcome, action, traceparent)?;
        }
        for dead in &evaluated.dead {
            self.dead_letter(message, source, dead)?;
        }
        Ok(())
    }

    fn job<M: Message>(
        &self,
        message: &M,
        source: Source<'_>,
        job: &DeliveryJob,
        traceparent: Option<&str>,
    ) -> Result<(), Fault> {
        let topics = &self.at.config.topics;
        let value = self.at.codec.write_job(job);
        let record = Record {
            topic: &topics.jobs,
            key: job.credential.as_bytes(),
            value: Some(&value),
            headers: kafka::of_job(&job.event_id, &job.rule_id, &job.job_id, traceparent),
        };
        match self.worker.write(&record) {
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
                let outcome = job
                    .outcome(crate::delivery::OutcomeResult::Dead, (self.at.now)())
                    .because(Reason::TooLarge, "");
                self.outcome(&outcome, job.action, traceparent)?;
                let dead = Dead {
                    reason: Reason::TooLarge,
                    detail,
                    rule_id: Some(job.rule_id.clone()),
                };
                self.dead_letter(message, source, &dead)
            }
        }
    }

    fn outcome(&self, outcome: &Outcome, action: ActionType, traceparent: Option<&str>) -> Result<(), Fault> {
        self.at.metrics.settled(action.provider(), outcome.result);
        let topic = &self.at.config.topics.outcomes;
        for cut in Cut::ALL {
            let value = self.at.codec.write_outcome(&outcome.cut(cut));
            let written = self.worker.write(&Record {
                topic,
                key: outcome.job_id.as_bytes(),
                value: Some(&value),
                headers: kafka::of_job(&outcome.event_id, &outcome.rule_id, &outcome.job_id, traceparent),
            });
            match written {
                Ok(()) => return Ok(()),
                Err(WriteError::Fault(fault)) => return Err(fault),
                Err(WriteError::TooLarge) => {}
            }
        }
        Err(takes_nothing(topic))
    }

    fn dead_letter<M: Message>(&self, message: &M, source: Source<'_>, dead: &Dead) -> Result<(), Fault> {
        let Dead {
            reason,
            detail,
            rule_id,
        } = dead;
        self.at.metrics.event_dead(*reason);
        tracing::warn!(
            reason = reason.as_str(),
            detail,
            kafka.topic = source.topic,
            kafka.partition = source.partition,
            kafka.offset = source.offset,
            "dead letter"
        );
        let event_id = Some(self.evaluated.event_id.as_str()).filter(|id| !id.is_empty());
        let rule_id = rule_id.as_deref();
        let job_id = event_id
            .zip(rule_id)
            .map(|(event, rule)| job_id(event, rule).to_string());
        let traceparent = kafka::header(message.headers(), "traceparent");
        let known = [
            ("event-id", event_id),
            ("rule-id", rule_id),
            ("job-id", job_id.as_deref()),
            ("traceparent", traceparent),
        ];
        self.worker.write_letter(&Letter {
            key: message.key().unwrap_or_default(),
            value: message.payload(),
            failure: Failure {
                reason: reason.as_str(),
                detail,
                source: source.topic,
                place: Some((source.partition, source.offset)),
                at: jiff::Timestamp::from_millisecond((self.at.now)()).unwrap_or_default(),
            },
            known: &known,
        })
    }
}

#[cfg(test)]
mod tests;
