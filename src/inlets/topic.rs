//! Inlets of kind topic: foreign topics in, lead events out, in one transaction with the offsets.
//!
//! One worker reads all of these topics, in the group `<group>-inlets`. Every inlet of a topic gets each of its
//! records. A record that one inlet can't map is that inlet's dead letter, as the record was read, and doesn't concern
//! the others. When the record is a list, the header `elements` names the dead elements, and a replay maps those
//! alone.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use jiff::Timestamp;
use tokio::sync::watch;

use crate::batches::{Batches, Done, Work};
use crate::config::Config;
use crate::kafka::topics::Limits;
use crate::kafka::worker::{Memory, Record, Share, Worker, WriteError, keep_running};
use crate::kafka::{self, ConsumerRecord, Failure, Fault, Letter, Message};
use crate::lead::schemas::{SchemaId, Schemas};
use crate::mapping::{Event, Inlet, Taken};
use crate::metrics::{Metrics, StartedOver};
use crate::reason::Reason;
use crate::registry::Registry;

/// What the worker needs from the outside.
#[derive(Debug, Clone)]
pub struct TopicWiring {
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

/// Reads the foreign topics until `stop` is set. The error ends the process.
pub fn run(wiring: &TopicWiring, instance: &str) -> anyhow::Result<()> {
    let registry = Registry::of(&wiring.config.schema_registry)?;
    let share = Share::of_inlets(&wiring.config, instance);
    let mut schemas = Schemas::foreign();
    let stop = || *wiring.stop.borrow();
    let memory = Memory::default();
    let work = || {
        let worker = Worker::connect(&wiring.config, &share, &wiring.limits, &memory)?;
        let batches = Batches {
            config: &wiring.config,
            metrics: &wiring.metrics,
            stop: &wiring.stop,
            ready: &wiring.ready,
            runtime: &wiring.runtime,
            registry: registry.as_ref(),
            worker: &worker,
            what: "the inlets' topics",
            topics: StartedOver::Inlets,
        };
        let mut records = Records {
            wiring,
            worker: &worker,
            inlets: wiring.config.foreign_topics(),
        };
        batches.run(&mut schemas, &mut records)
    };
    keep_running("the inlets' worker", instance, stop, work).map_err(anyhow::Error::msg)
}

/// Records become lead events and dead letters.
struct Records<'l> {
    wiring: &'l TopicWiring,
    worker: &'l Worker,
    /// The inlets by the topic that they read.
    inlets: BTreeMap<&'l str, Vec<&'l Inlet>>,
}

/// Why an inlet can't take a record.
#[derive(Debug, Clone, Copy)]
struct Refusal<'r> {
    reason: Reason,
    detail: &'r str,
    /// Which elements of a list are dead.
    elements: Option<&'r str>,
}

impl Work for Records<'_> {
    fn take(&mut self, message: &ConsumerRecord<'_>, schemas: &Schemas) -> Result<Done, Fault> {
        let now = Timestamp::from_millisecond((self.wiring.now)()).unwrap_or_default();
        let inlets = self.inlets.get(message.topic()).map_or(&[][..], Vec::as_slice);
        let taken = inlets
            .iter()
            .map(|inlet| Ok((*inlet, inlet.take(message.payload(), None, schemas, now)?)));
        // All inlets map the record before one writes: a write can't be taken back when a schema is missing.
        match taken.collect::<Result<Vec<_>, SchemaId>>() {
            Ok(taken) => {
                for (inlet, taken) in taken {
                    self.write(message, inlet, taken)?;
                }
                Ok(Done::Written)
            }
            Err(_) => Ok(Done::NeedsSchema),
        }
    }
}

impl Records<'_> {
    fn write<M: Message>(&self, message: &M, inlet: &Inlet, taken: Taken) -> Result<(), Fault> {
        let Taken {
            mut refused, mut dead, ..
        } = taken;
        let mut accepted = 0;
        for event in &taken.events {
            if self.event(message, event)? {
                accepted += 1;
            } else {
                let detail = format!(
                    "a lead event made of it is larger than {} takes",
                    self.wiring.config.topics.events
                );
                refused.get_or_insert((Reason::TooLarge, detail));
                if let Some(dead) = &mut dead {
                    dead.push(event.record);
                }
            }
        }
        let metrics = &self.wiring.metrics;
        metrics.inlet_took(&inlet.name, [accepted, u64::from(refused.is_some()), taken.left_out]);
        match refused {
            None => Ok(()),
            Some((reason, detail)) => {
                metrics.dead_letter(reason);
                let elements = dead.filter(|dead| !dead.is_empty()).map(|dead| dead.to_string());
                let refusal = Refusal {
                    reason,
                    detail: &detail,
                    elements: elements.as_deref(),
                };
                self.dead_letter(message, inlet, &refusal)
            }
        }
    }

    /// Whether the event fits into its topic, and so was written.
    fn event<M: Message>(&self, message: &M, event: &Event) -> Result<bool, Fault> {
        let traceparent = kafka::header(message.headers(), "traceparent");
        let headers = [
            ("event-id", Some(event.event_id.as_str())),
            ("traceparent", traceparent),
        ];
        let written = self.worker.write(Record {
            topic: &self.wiring.config.topics.events,
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

    fn dead_letter<M: Message>(&self, message: &M, inlet: &Inlet, refusal: &Refusal<'_>) -> Result<(), Fault> {
        let detail = refusal.detail;
        tracing::warn!(
            inlet = inlet.name,
            reason = refusal.reason.as_str(),
            detail,
            kafka.topic = message.topic(),
            kafka.partition = message.partition(),
            kafka.offset = message.offset(),
            "dead letter"
        );
        let known = [
            ("inlet", Some(inlet.name.as_str())),
            ("elements", refusal.elements),
            ("traceparent", kafka::header(message.headers(), "traceparent")),
        ];
        self.worker.write_letter(&Letter {
            key: message.key().unwrap_or_default(),
            value: message.payload(),
            failure: Failure {
                reason: refusal.reason.as_str(),
                detail,
                source: message.topic(),
                place: Some((message.partition(), message.offset())),
                at: Timestamp::from_millisecond((self.wiring.now)()).unwrap_or_default(),
            },
            known: &known,
        })
    }
}
