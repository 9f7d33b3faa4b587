//! The loop that the processor's workers and the inlets' worker share: it reads a batch of records, hands each to a
//! [`Work`], and commits what the work wrote together with the offsets of the batch.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::watch;

use crate::config::Config;
use crate::kafka::worker::{RecordPlace, Worker};
use crate::kafka::{ConsumerRecord, Fault, Message};
use crate::lead::schemas::Schemas;
use crate::metrics::{Lags, Metrics, StartedOver};
use crate::registry::Registry;
use crate::registry::doubts::Doubts;
use crate::trail::{self, Crumb};

mod look_up;
mod recovery;

use recovery::Recovery;

/// A stop is seen so soon while a batch waits.
const STOP_SEEN_WITHIN: Duration = Duration::from_millis(200);
/// The end of a commit is seen so soon while something waits for it.
const COMMIT_SEEN_WITHIN: Duration = Duration::from_millis(1);
/// So long the loop waits for records where it has none.
const IDLE: Duration = Duration::from_millis(100);
/// The clock is read once for so many records: reading it costs as much as looking for a rule does.
const CLOCK_EVERY: usize = 64;
/// How often the loop checks that the records it read are still there.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// The work on each record: it writes the record's results.
pub trait Work {
    /// A batch begins.
    fn begin(&mut self) {}

    /// Records have come, which [`Self::take`] gets next.
    fn came(&mut self) {}

    /// Whether records may be read now.
    fn may_go(&self) -> bool {
        true
    }

    /// Writes the results of a record. Only a framing that [`crate::lead::decode::lacks`] sees may need a schema.
    fn take(&mut self, record: &ConsumerRecord<'_>, schemas: &Schemas) -> Result<Done, Fault>;
}

/// What a [`Work`] did with a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Done {
    Written,
    /// A schema has to be looked up first. Nothing is written, since a write can't be taken back; the record comes again.
    NeedsSchema,
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
    /// Names the records that wait while the registry is away, for the log.
    pub what: &'static str,
    /// Whose topics are read.
    pub topics: StartedOver,
}

struct Loop<'b> {
    batches: Batches<'b>,
    /// Records that were read and not taken: those of the last poll, or one whose schema is looked up and those behind it.
    held: VecDeque<ConsumerRecord<'b>>,
    /// What was taken of each partition and the worker doesn't know yet.
    taken: Vec<Taken<'b>>,
    doubts: Doubts,
    lag_at: Instant,
    look_at: Instant,
    lags: Lags,
    recovery: Recovery,
    /// The records of the batch.
    batch: Vec<RecordPlace>,
    /// Those of the batch before it, whose commit is on its way.
    committing: Vec<RecordPlace>,
}

/// What follows a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Batch,
    /// A record's schema isn't known.
    LookUp,
    Stop,
}

/// What was taken of a partition.
struct Taken<'b> {
    first: RecordPlace,
    /// The last record whose results are written.
    last: Option<ConsumerRecord<'b>>,
}

impl Batches<'_> {
    /// Reads, writes and commits until `stop` is set.
    pub fn run(self, schemas: &mut Schemas, work: &mut impl Work) -> Result<(), Fault> {
        if self.registry.is_none() {
            schemas.without_registry();
        }
        let lags = Lags::new(self.metrics);
        let batch_loop = Loop {
            batches: self,
            held: VecDeque::new(),
            taken: Vec::new(),
            doubts: Doubts::default(),
            lag_at: Instant::now(),
            look_at: Instant::now(),
            lags,
            recovery: Recovery::default(),
            batch: Vec::new(),
            committing: Vec::new(),
        };
        let ready = batch_loop.batches.ready;
        let done = batch_loop.run(schemas, work);
        // A worker that is built anew waits for its partitions again.
        ready.store(false, Ordering::Relaxed);
        done
    }
}

impl<'b> Loop<'b> {
    fn run(mut self, schemas: &mut Schemas, work: &mut impl Work) -> Result<(), Fault> {
        // After an abort a stop leaves the batch to the successor.
        let mut aborted = false;
        while !(aborted && self.stops()) {
            self.wait_until_it_may_go(work)?;
            schemas.at(Instant::now());
            let batch = self.batch(schemas, work).and_then(|lacks| self.commit(lacks));
            self.report();
            aborted = batch.is_err();
            match batch {
                Ok(Next::Stop) => return Ok(()),
                Ok(Next::Batch) => self.look()?,
                Ok(Next::LookUp) => self.look_up(schemas)?,
                Err(Fault::Abort(message)) => {
                    tracing::warn!(message, "the transaction is aborted and its records are read again");
                    self.abort()?;
                    let wait = self.recovery.in_vain();
                    self.wait(wait)?;
                }
                Err(Fault::Refused { message, write }) => {
                    let records = self.abort()?;
                    let wait = self.recovery.refused(&records, write);
                    let next = self.recovery.batch_max(records.len());
                    tracing::warn!(
                        message,
                        records = records.len(),
                        next,
                        "the transaction is aborted and fewer of its records are read again"
                    );
                    self.wait(wait.unwrap_or_default())?;
                }
                Err(fault) => return Err(fault),
            }
        }
        Ok(())
    }

    /// Begins to commit the batch; the next one is read meanwhile. Where that needs to know how the commit ends, it is waited
    /// for. `lacks` says that the batch ended at a record whose schema is not known.
    fn commit(&mut self, lacks: bool) -> Result<Next, Fault> {
        let worker = self.batches.worker;
        worker.settle()?;
        self.committed();
        worker.commit()?;
        self.committing.append(&mut self.batch);
        let next = match lacks {
            _ if self.stops() => Next::Stop,
            true => Next::LookUp,
            false => Next::Batch,
        };
        if next != Next::Batch || self.recovery.is_at_work() {
            worker.settle()?;
        }
        self.committed();
        Ok(next)
    }

    /// Notes what is committed, once nothing is on its way any more.
    fn committed(&mut self) {
        if !self.committing.is_empty() && !self.batches.worker.is_committing() {
            self.recovery.committed(&self.committing);
            self.committing.clear();
        }
    }

    /// Gives back what is held, aborts the transaction, and gives the records that are read again.
    fn abort(&mut self) -> Result<Vec<RecordPlace>, Fault> {
        self.let_go()?;
        self.batches.worker.abort()?;
        let mut records = std::mem::take(&mut self.committing);
        records.append(&mut self.batch);
        Ok(records)
    }

    fn stops(&self) -> bool {
        *self.batches.stop.borrow()
    }

    /// Reads nothing while the work may not go; rebalances go on.
    fn wait_until_it_may_go(&mut self, work: &impl Work) -> Result<(), Fault> {
        if work.may_go() {
            return Ok(());
        }
        while !self.stops() && !work.may_go() {
            self.idle(STOP_SEEN_WITHIN)?;
        }
        self.batches.worker.pause(false)
    }

    /// Waits for so long before what was aborted is tried again.
    fn wait(&mut self, wait: Duration) -> Result<(), Fault> {
        let until = Instant::now() + wait;
        while !self.stops() && Instant::now() < until {
            self.idle(until.saturating_duration_since(Instant::now()).min(STOP_SEEN_WITHIN))?;
        }
        self.batches.worker.pause(false)
    }

    /// Fetches nothing for so long, and polls to stay in the group. Records that were fetched already are held.
    fn idle(&mut self, wait: Duration) -> Result<(), Fault> {
        // Each time anew: a rebalance may have brought partitions that aren't paused.
        self.batches.worker.pause(true)?;
        self.poll(wait)
    }

    /// Reads and writes until the commit is due. Ends early, with true, at a record whose schema is not known.
    fn batch(&mut self, schemas: &Schemas, work: &mut impl Work) -> Result<bool, Fault> {
        work.begin();
        self.batch.clear();
        let lacks = self.read(schemas, work);
        self.tell();
        lacks
    }

    fn read(&mut self, schemas: &Schemas, work: &mut impl Work) -> Result<bool, Fault> {
        let (worker, settings) = (self.batches.worker, &self.batches.config.processor);
        let most = self.recovery.batch_max(settings.batch_events_max);
        let mut due: Option<Instant> = None;
        while self.batch.len() < most {
            let is_past = |due: Instant| due <= Instant::now();
            let is_time = self.held.is_empty() || self.batch.len().is_multiple_of(CLOCK_EVERY);
            if is_time && due.is_some_and(is_past) {
                break;
            }
            if self.held.is_empty() {
                // What is written waits for no more than is there already; offsets alone wait until the commit is due.
                // While idle, a short wait keeps the stop, and what the batch began with, fresh.
                let wait = match due {
                    None => IDLE,
                    Some(_) if worker.is_open() && worker.is_committing() => COMMIT_SEEN_WITHIN,
                    Some(_) if worker.is_open() => Duration::ZERO,
                    Some(due) => due.saturating_duration_since(Instant::now()),
                };
                self.poll(wait)?;
                self.batches.ready.store(worker.is_assigned(), Ordering::Relaxed);
                work.came();
            }
            let Some(record) = self.held.pop_front() else {
                // What is staged waits for the commit before it in any case.
                if due.is_some() && worker.is_open() && worker.is_committing() {
                    continue;
                }
                break;
            };
            due.get_or_insert_with(|| Instant::now() + settings.commit_interval);
            let place = worker.place(&record);
            let taken = self.taken_of(place);
            if self.recovery.is_single() {
                worker.one_by_one(self.recovery.refused_of(place));
            }
            self.batch.push(place);
            if work.take(&record, schemas)? == Done::NeedsSchema {
                self.batch.pop();
                self.held.push_front(record);
                return Ok(true);
            }
            self.taken[taken].last = Some(record);
        }
        Ok(false)
    }

    /// Where what is taken of this record's partition stands.
    fn taken_of(&mut self, place: RecordPlace) -> usize {
        let is_its = |taken: &Taken<'_>| (taken.first.topic, taken.first.partition) == (place.topic, place.partition);
        // Records come in runs of one partition, so that the last one is near.
        self.taken.iter().rposition(is_its).unwrap_or_else(|| {
            self.taken.push(Taken {
                first: place,
                last: None,
            });
            self.taken.len() - 1
        })
    }

    /// Tells the worker what was taken, before it may commit or abort.
    fn tell(&mut self) {
        for Taken { first, last } in self.taken.drain(..) {
            let crumb = last.map(|last| Crumb {
                offset: last.offset(),
                sum: trail::sum(
                    last.timestamp().to_millis().unwrap_or_default(),
                    last.key(),
                    last.payload(),
                ),
            });
            self.batches.worker.consumed(first, crumb);
        }
    }

    /// Reads what is there, and waits where nothing is. Those held of a partition that went away are dropped: they are read
    /// again.
    fn poll(&mut self, wait: Duration) -> Result<(), Fault> {
        self.tell();
        let worker = self.batches.worker;
        worker.poll(wait, &mut self.held)?;
        self.committed();
        let revoked = worker.take_revoked();
        if !revoked.is_empty() {
            let is_gone = |held: &ConsumerRecord<'_>| {
                let mut gone = revoked.iter();
                gone.any(|(topic, partition)| held.topic() == topic && held.partition() == *partition)
            };
            self.held.retain(|held| !is_gone(held));
            let numbers: Vec<(usize, i32)> = (revoked.iter())
                .map(|(topic, partition)| (worker.number_of(topic), *partition))
                .collect();
            self.recovery
                .revoked(|place| numbers.contains(&(place.topic, place.partition)));
        }
        Ok(())
    }

    /// Gives back what is held, to be read again.
    fn let_go(&mut self) -> Result<(), Fault> {
        let mut sought: Vec<(&str, i32)> = Vec::new();
        for held in &self.held {
            let partition = (held.topic(), held.partition());
            // The first of a partition is its lowest.
            if !sought.contains(&partition) {
                self.batches
                    .worker
                    .rewind(held.topic(), held.partition(), held.offset())?;
                sought.push(partition);
            }
        }
        self.held.clear();
        Ok(())
    }

    /// Checks now and then that the records it read are still there.
    fn look(&mut self) -> Result<(), Fault> {
        let began = Instant::now();
        if began < self.look_at {
            return Ok(());
        }
        let looked = self.batches.worker.look();
        // With many partitions, or a slow broker, the check takes a fiftieth of our time at most.
        self.look_at = began + LOOK_EVERY.max(began.elapsed() * 50);
        looked
    }

    fn report(&mut self) {
        let (worker, metrics) = (self.batches.worker, self.batches.metrics);
        let happened = worker.happened();
        metrics.committed(happened.jobs, &happened.commits);
        metrics.aborted(happened.aborts);
        metrics.events_lost(happened.lost);
        for _ in 0..happened.started_over {
            metrics.started_over(self.batches.topics);
        }
        if self.lag_at.elapsed() >= Duration::from_secs(5) {
            self.lag_at = Instant::now();
            let mut lags = worker.lag();
            for (topic, partition, lag) in &mut lags {
                let of_it = |held: &&ConsumerRecord<'_>| held.topic() == topic && held.partition() == *partition;
                *lag += i64::try_from(self.held.iter().filter(of_it).count()).unwrap_or_default();
            }
            self.lags.report(lags);
        }
    }
}
