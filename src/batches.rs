//! The loop of those who read topics and write in transactions: batches of records, each committed with its offsets.
//!
//! What becomes of a record is for a [`Step`] to say. The processor's workers and the inlets' run on this.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::watch;

use crate::config::Config;
use crate::kafka::worker::Worker;
use crate::kafka::{BorrowedMessage, Fault, Message};
use crate::lead::schemas::{SchemaId, Schemas};
use crate::metrics::{Lags, Metrics};
use crate::registry::{Lookup, Registry};

mod recovery;

use recovery::{Place, Recovery};

/// What becomes of records.
pub trait Step {
    /// A batch begins.
    fn begin(&mut self) {}

    /// Writes what becomes of a record. The id of a schema that has to be looked up first is given
    /// before anything is written, which can't be taken back; the record then comes again.
    fn take(&mut self, message: &BorrowedMessage<'_>, schemas: &Schemas) -> Result<Result<(), SchemaId>, Fault>;
}

/// A connected worker, and what it needs from the outside.
#[derive(Debug)]
pub struct Batches<'b> {
    pub config: &'b Config,
    pub metrics: &'b Arc<Metrics>,
    pub stop: &'b watch::Receiver<bool>,
    /// Set once the group has given the worker its partitions.
    pub ready: &'b AtomicBool,
    pub runtime: &'b Handle,
    pub registry: Option<&'b Registry>,
    pub worker: &'b Worker,
    /// What waits while the registry is away, for the log.
    pub what: &'static str,
}

/// A schema that has to be looked up, and the record that needs it: partition and offset.
type Unknown = (SchemaId, (i32, i64));

struct Loop<'b> {
    at: Batches<'b>,
    lag_at: Instant,
    lags: Lags,
    recovery: Recovery,
    /// The records of the batch.
    batch: Vec<Place>,
}

impl Batches<'_> {
    /// Reads, writes and commits until it is told to stop.
    pub fn run(self, schemas: &mut Schemas, step: &mut impl Step) -> Result<(), Fault> {
        let lags = Lags::new(self.metrics);
        let work = Loop {
            at: self,
            lag_at: Instant::now(),
            lags,
            recovery: Recovery::default(),
            batch: Vec::new(),
        };
        work.run(schemas, step)
    }
}

impl Loop<'_> {
    fn run(mut self, schemas: &mut Schemas, step: &mut impl Step) -> Result<(), Fault> {
        loop {
            let batch = self
                .batch(schemas, step)
                .and_then(|asked| self.at.worker.commit().map(|()| asked));
            self.report();
            if batch.is_ok() {
                self.recovery.committed(&self.batch);
            }
            match batch {
                Ok(_) if *self.at.stop.borrow() => return Ok(()),
                Ok(None) => {}
                Ok(Some(unknown)) => self.look_up(unknown, schemas)?,
                Err(Fault::Abort(message)) => {
                    tracing::warn!(message, "the transaction is aborted and its records are read again");
                    self.at.worker.abort()?;
                    self.wait()?;
                }
                Err(Fault::Refused { message, write }) => {
                    self.recovery.refused(&self.batch, write);
                    let next = self.recovery.batch_max(self.batch.len());
                    tracing::warn!(
                        message,
                        records = self.batch.len(),
                        next,
                        "the transaction is aborted and fewer of its records are read again"
                    );
                    self.at.worker.abort()?;
                }
                Err(fault) => return Err(fault),
            }
        }
    }

    /// Waits before what no record is to blame for is tried again, and stays in the group meanwhile.
    fn wait(&mut self) -> Result<(), Fault> {
        let (stop, until) = (self.at.stop, Instant::now() + self.recovery.in_vain());
        let is_over = || (Instant::now() >= until).then_some(());
        self.at.worker.wait_for(|| *stop.borrow(), is_over).map(drop)
    }

    /// Reads and writes until the commit is due. Ends early at a record whose schema is not known.
    fn batch(&mut self, schemas: &Schemas, step: &mut impl Step) -> Result<Option<Unknown>, Fault> {
        let (worker, settings) = (self.at.worker, &self.at.config.processor);
        step.begin();
        self.batch.clear();
        let mut due: Option<Instant> = None;
        for _ in 0..self.recovery.batch_max(settings.batch_events_max) {
            // While idle, a short wait keeps the stop, and what the batch began with, fresh.
            let wait = due.map_or(Duration::from_millis(100), |due| {
                due.saturating_duration_since(Instant::now())
            });
            if wait.is_zero() {
                break;
            }
            let Some(message) = worker.poll(wait)? else {
                if worker.is_assigned() {
                    self.at.ready.store(true, Ordering::Relaxed);
                }
                break;
            };
            due.get_or_insert_with(|| Instant::now() + settings.commit_interval);
            let (topic, partition, offset) = (message.topic(), message.partition(), message.offset());
            let place = (topic.to_owned(), partition, offset);
            if self.recovery.is_single() {
                worker.one_by_one(self.recovery.refused_of(&place));
            }
            self.batch.push(place);
            worker.takes(topic, partition, offset);
            if let Err(id) = step.take(&message, schemas)? {
                self.batch.pop();
                worker.rewind(topic, partition, offset)?;
                return Ok(Some((id, (partition, offset))));
            }
            worker.consumed(topic, partition, offset);
        }
        Ok(None)
    }

    /// Asks the registry for a schema until it answers. Fetching pauses meanwhile, so that polling
    /// keeps us in the group; a record that a rebalance takes from us is asked for by its next owner.
    fn look_up(&mut self, (id, place): Unknown, schemas: &mut Schemas) -> Result<(), Fault> {
        let Some(registry) = self.at.registry else {
            schemas.deny(id, "no schema registry is configured; set schema_registry.url");
            return Ok(());
        };
        let (stop, worker) = (self.at.stop, self.at.worker);
        let ask = || {
            let asked = self.at.runtime.block_on(registry.schema(id));
            if let Err(error) = &asked {
                tracing::warn!(
                    schema = %id,
                    kafka.partition = place.0,
                    kafka.offset = place.1,
                    %error,
                    "{} wait for the schema registry",
                    self.at.what
                );
                self.report();
            }
            asked.ok()
        };
        match worker.wait_for(|| *stop.borrow(), ask)? {
            Some(Lookup::Schema { text, references }) => schemas.learn(id, &text, &references),
            Some(Lookup::Denied(detail)) => schemas.deny(id, detail),
            None => {}
        }
        Ok(())
    }

    fn report(&mut self) {
        let (worker, metrics) = (self.at.worker, self.at.metrics);
        let happened = worker.happened();
        metrics.committed(happened.jobs, &happened.commits);
        metrics.aborted(happened.aborts);
        metrics.events_lost(happened.lost);
        if self.lag_at.elapsed() >= Duration::from_secs(5) {
            self.lag_at = Instant::now();
            self.lags.tell(worker.lag());
        }
    }
}
