//! Inlets of kind topic: foreign topics in, lead events out, in one transaction with the offsets.
//!
//! One worker reads all of them, in the group `<group>-inlets`. Every inlet of a topic gets each of its
//! records and stands alone: what one can't take is that inlet's dead letter, which holds the record as
//! it was read.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::watch;

use crate::config::Config;
use crate::inlet::{Event, Inlet, Taken};
use crate::kafka::topics::Limits;
use crate::kafka::worker::{Record, Share, Worker, WriteError, keep_running};
use crate::kafka::{self, Fault, Message};
use crate::lead::schemas::{SchemaId, Schemas};
use crate::metrics::{Lags, Metrics};
use crate::reason::Reason;
use crate::registry::{Lookup, Registry};

/// What the worker needs from the outside.
#[derive(Debug, Clone)]
pub struct Surroundings {
    pub config: Arc<Config>,
    pub limits: Limits,
    pub metrics: Arc<Metrics>,
    pub stop: watch::Receiver<bool>,
    /// Set once the group has given the worker its partitions.
    pub ready: Arc<AtomicBool>,
    /// Epoch milliseconds.
    pub now: fn() -> i64,
    pub runtime: tokio::runtime::Handle,
}

/// Reads the foreign topics until it is told to stop. The error ends the process.
pub fn run(surroundings: &Surroundings, instance: &str) -> anyhow::Result<()> {
    let registry = Registry::of(&surroundings.config.schema_registry)?;
    let share = Share::of_inlets(&surroundings.config, instance);
    let mut schemas = Schemas::foreign();
    let stop = || *surroundings.stop.borrow();
    let work = || {
        let worker = Worker::connect(&surroundings.config, &share, surroundings.limits.record_max)?;
        let work = Loop {
            at: surroundings,
            worker: &worker,
            registry: registry.as_ref(),
            lag_at: Instant::now(),
            lags: Lags::new(&surroundings.metrics),
        };
        work.run(&mut schemas)
    };
    keep_running("the inlets' worker", instance, stop, work).map_err(anyhow::Error::msg)
}

struct Loop<'l> {
    at: &'l Surroundings,
    worker: &'l Worker,
    registry: Option<&'l Registry>,
    lag_at: Instant,
    lags: Lags,
}

impl Loop<'_> {
    fn run(mut self, schemas: &mut Schemas) -> Result<(), Fault> {
        loop {
            let batch = self
                .batch(schemas)
                .and_then(|asked| self.worker.commit().map(|()| asked));
            self.report();
            match batch {
                Ok(_) if *self.at.stop.borrow() => return Ok(()),
                Ok(None) => {}
                Ok(Some(id)) => self.look_up(id, schemas)?,
                Err(Fault::Abort(message)) => {
                    tracing::warn!(message, "the transaction is aborted and its records are read again");
                    self.worker.abort()?;
                }
                Err(fault) => return Err(fault),
            }
        }
    }

    /// Reads and writes until the commit is due. Ends early at a record whose schema is not known.
    fn batch(&mut self, schemas: &Schemas) -> Result<Option<SchemaId>, Fault> {
        let config = &self.at.config;
        let inlets = config.foreign_topics();
        let mut due: Option<Instant> = None;
        for _ in 0..config.processor.batch_events_max {
            // While idle, a short wait keeps the stop fresh.
            let wait = due.map_or(Duration::from_millis(100), |due| {
                due.saturating_duration_since(Instant::now())
            });
            if wait.is_zero() {
                break;
            }
            let Some(message) = self.worker.poll(wait)? else {
                if self.worker.is_assigned() {
                    self.at.ready.store(true, Ordering::Relaxed);
                }
                break;
            };
            due.get_or_insert_with(|| Instant::now() + config.processor.commit_interval);
            let (topic, partition, offset) = (message.topic(), message.partition(), message.offset());
            let now = Timestamp::from_millisecond((self.at.now)()).unwrap_or_default();
            let inlets = inlets.get(topic).map_or(&[][..], Vec::as_slice);
            let taken = inlets
                .iter()
                .map(|inlet| Ok((*inlet, inlet.take(message.payload(), schemas, now)?)));
            // All of them first: what is written can't be taken back when a schema turns out to be missing.
            match taken.collect::<Result<Vec<_>, SchemaId>>() {
                Ok(taken) => {
                    for (inlet, taken) in taken {
                        self.write(&message, inlet, taken)?;
                    }
                }
                Err(id) => {
                    self.worker.rewind(topic, partition, offset)?;
                    return Ok(Some(id));
                }
            }
            self.worker.consumed(topic, partition, offset);
        }
        Ok(None)
    }

    fn write<M: Message>(&self, message: &M, inlet: &Inlet, taken: Taken) -> Result<(), Fault> {
        let mut refused = taken.refused;
        let mut accepted = 0;
        for event in &taken.events {
            if self.event(message, event)? {
                accepted += 1;
            } else {
                let detail = format!(
                    "a lead event made of it is larger than {} takes",
                    self.at.config.topics.events
                );
                refused.get_or_insert((Reason::TooLarge, detail));
            }
        }
        let metrics = &self.at.metrics;
        metrics.inlet_took(&inlet.name, [accepted, u64::from(refused.is_some()), taken.left_out]);
        match refused {
            None => Ok(()),
            Some((reason, detail)) => {
                metrics.dead_letter(reason);
                self.dead_letter(message, inlet, reason, &detail)
            }
        }
    }

    /// Whether the event fits into its topic, and so was written.
    fn event<M: Message>(&self, message: &M, event: &Event) -> Result<bool, Fault> {
        if event.record_size() > self.at.limits.event_max {
            return Ok(false);
        }
        let traceparent = kafka::header(message.headers(), "traceparent");
        let headers = [
            ("event-id", Some(event.event_id.as_str())),
            ("traceparent", traceparent),
        ];
        let written = self.worker.write(&Record {
            topic: &self.at.config.topics.events,
            key: event.lead_id.as_bytes(),
            value: Some(&event.json),
            headers: kafka::headers(headers.into_iter().filter_map(|(name, value)| Some((name, value?)))),
        });
        match written {
            Ok(()) => Ok(true),
            Err(WriteError::TooLarge) => Ok(false),
            Err(WriteError::Fault(fault)) => Err(fault),
        }
    }

    fn dead_letter<M: Message>(&self, message: &M, inlet: &Inlet, reason: Reason, detail: &str) -> Result<(), Fault> {
        tracing::warn!(
            inlet = inlet.name,
            reason = reason.as_str(),
            detail,
            kafka.topic = message.topic(),
            kafka.partition = message.partition(),
            kafka.offset = message.offset(),
            "dead letter"
        );
        match self.put(message, inlet, reason, detail, message.payload()) {
            Ok(()) => Ok(()),
            Err(WriteError::Fault(fault)) => Err(fault),
            // Others' records have others' limits, and compressed ones may be larger than their topic's says.
            Err(WriteError::TooLarge) => {
                let topic = &self.at.config.topics.dead_letters;
                let detail =
                    format!("{detail}; the record is larger than {topic} takes and stands at its source alone");
                let cut = self.put(message, inlet, reason, &detail, None);
                cut.map_err(|error| match error {
                    WriteError::Fault(fault) => fault,
                    WriteError::TooLarge => Fault::Fatal {
                        message: format!("a record's key is too large for {topic}; raise its max.message.bytes"),
                        fenced: false,
                    },
                })
            }
        }
    }

    fn put<M: Message>(
        &self,
        message: &M,
        inlet: &Inlet,
        reason: Reason,
        detail: &str,
        value: Option<&[u8]>,
    ) -> Result<(), WriteError> {
        let (partition, offset) = (message.partition().to_string(), message.offset().to_string());
        let failed_at = Timestamp::from_millisecond((self.at.now)()).unwrap_or_default();
        let failed_at = failed_at.to_string();
        let headers = [
            ("reason", reason.as_str()),
            ("detail", detail),
            ("source-topic", message.topic()),
            ("source-partition", &partition),
            ("source-offset", &offset),
            ("failed-at", &failed_at),
            ("inlet", &inlet.name),
        ];
        let traceparent = kafka::header(message.headers(), "traceparent").map(|trace| ("traceparent", trace));
        self.worker.write(&Record {
            topic: &self.at.config.topics.dead_letters,
            key: message.key().unwrap_or_default(),
            value,
            headers: kafka::headers(headers.into_iter().chain(traceparent)),
        })
    }

    /// Asks the registry for a schema until it answers.
    fn look_up(&mut self, id: SchemaId, schemas: &mut Schemas) -> Result<(), Fault> {
        let Some(registry) = self.registry else {
            schemas.deny(id, "no schema registry is configured; set schema_registry.url");
            return Ok(());
        };
        let (at, worker) = (self.at, self.worker);
        let ask = || {
            let asked = at.runtime.block_on(registry.schema(id));
            if let Err(error) = &asked {
                tracing::warn!(schema = %id, %error, "the inlets' topics wait for the schema registry");
                self.report();
            }
            asked.ok()
        };
        match worker.wait_for(|| *at.stop.borrow(), ask)? {
            Some(Lookup::Schema { text, references }) => schemas.learn(id, &text, &references),
            Some(Lookup::Denied(detail)) => schemas.deny(id, detail),
            None => {}
        }
        Ok(())
    }

    fn report(&mut self) {
        let happened = self.worker.happened();
        let metrics = &self.at.metrics;
        metrics.committed(0, &happened.commits);
        metrics.aborted(happened.aborts);
        metrics.events_lost(happened.lost);
        if self.lag_at.elapsed() >= Duration::from_secs(5) {
            self.lag_at = Instant::now();
            self.lags.tell(self.worker.lag());
        }
    }
}
