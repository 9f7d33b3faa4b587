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
use crate::metrics::{Lags, Metrics, StartedOver};
use crate::registry::{Lookup, Registry};
use crate::trail::{self, Crumb};

const LOOK_EVERY: Duration = Duration::from_secs(5);

/// What becomes of records.
pub trait Step {
    /// A batch begins.
    fn begin(&mut self) {}

    /// Whether records may be read now.
    fn may_go(&self) -> bool {
        true
    }

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
    /// Whose topics are read.
    pub topics: StartedOver,
}

/// A schema that has to be looked up, and the record that needs it: partition and offset.
type Unknown = (SchemaId, (i32, i64));

struct Loop<'b> {
    at: Batches<'b>,
    lag_at: Instant,
    look_at: Instant,
    lags: Lags,
}

impl Batches<'_> {
    /// Reads, writes and commits until it is told to stop.
    pub fn run(self, schemas: &mut Schemas, step: &mut impl Step) -> Result<(), Fault> {
        let lags = Lags::new(self.metrics);
        let work = Loop {
            at: self,
            lag_at: Instant::now(),
            look_at: Instant::now(),
            lags,
        };
        let ready = work.at.ready;
        let done = work.run(schemas, step);
        // Whoever is built anew waits for its partitions again.
        ready.store(false, Ordering::Relaxed);
        done
    }
}

impl Loop<'_> {
    fn run(mut self, schemas: &mut Schemas, step: &mut impl Step) -> Result<(), Fault> {
        loop {
            self.wait_until_it_may_go(step)?;
            let batch = self
                .batch(schemas, step)
                .and_then(|asked| self.at.worker.commit().map(|()| asked));
            self.report();
            match batch {
                Ok(_) if *self.at.stop.borrow() => return Ok(()),
                Ok(None) => self.look()?,
                Ok(Some(unknown)) => self.look_up(unknown, schemas)?,
                Err(Fault::Abort(message)) => {
                    tracing::warn!(message, "the transaction is aborted and its records are read again");
                    self.at.worker.abort()?;
                }
                Err(fault) => return Err(fault),
            }
        }
    }

    /// Reads nothing as long as that is so; rebalances go on.
    fn wait_until_it_may_go(&self, step: &impl Step) -> Result<(), Fault> {
        if step.may_go() {
            return Ok(());
        }
        let stop = || *self.at.stop.borrow();
        self.at.worker.wait_for(stop, || step.may_go().then_some(())).map(drop)
    }

    /// Reads and writes until the commit is due. Ends early at a record whose schema is not known.
    fn batch(&self, schemas: &Schemas, step: &mut impl Step) -> Result<Option<Unknown>, Fault> {
        let (worker, settings) = (self.at.worker, &self.at.config.processor);
        step.begin();
        let mut due: Option<Instant> = None;
        for _ in 0..settings.batch_events_max {
            // While idle, a short wait keeps the stop, and what the batch began with, fresh.
            let wait = due.map_or(Duration::from_millis(100), |due| {
                due.saturating_duration_since(Instant::now())
            });
            if wait.is_zero() {
                break;
            }
            let Some(message) = worker.poll(wait)? else {
                self.at.ready.store(worker.is_assigned(), Ordering::Relaxed);
                break;
            };
            due.get_or_insert_with(|| Instant::now() + settings.commit_interval);
            let (topic, partition, offset) = (message.topic(), message.partition(), message.offset());
            let timestamp = message.timestamp().to_millis().unwrap_or_default();
            let sum = trail::sum(timestamp, message.key(), message.payload());
            if let Err(id) = step.take(&message, schemas)? {
                worker.rewind(topic, partition, offset)?;
                return Ok(Some((id, (partition, offset))));
            }
            worker.consumed(topic, partition, Crumb { offset, sum });
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

    /// Looks now and then whether what was read is still there.
    fn look(&mut self) -> Result<(), Fault> {
        if self.look_at.elapsed() < LOOK_EVERY {
            return Ok(());
        }
        self.look_at = Instant::now();
        self.at.worker.look()
    }

    fn report(&mut self) {
        let (worker, metrics) = (self.at.worker, self.at.metrics);
        let happened = worker.happened();
        metrics.committed(happened.jobs, &happened.commits);
        metrics.aborted(happened.aborts);
        metrics.events_lost(happened.lost);
        for _ in 0..happened.started_over {
            metrics.started_over(self.at.topics);
        }
        if self.lag_at.elapsed() >= Duration::from_secs(5) {
            self.lag_at = Instant::now();
            self.lags.tell(worker.lag());
        }
    }
}
