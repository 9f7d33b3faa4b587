//! A partition of ours: what its outcomes say of the time before us.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::read_back::{NewerOutcomes, NotRecalled, read_back};
use super::{AGAIN_AFTER, Back, Loop, Promise};
use crate::config::Config;
use crate::delivery::Codec;
use crate::delivery::limit::Micros;
use crate::delivery::recall::Recalled;
use crate::kafka::jobs::{CommitMode, Committed, Event, Jobs};
use crate::kafka::place::{Anew, Places};
use crate::metrics::StartedOver;
use crate::trail::{Crumb, Look, Trail};

/// A newer version reads what this one can't, and has the partition soon; it is looked at again all the same.
const NEWER_AGAIN_AFTER: Duration = Duration::from_secs(10);

/// A partition that is ours.
#[derive(Debug)]
pub(super) struct Partition {
    /// Answers to a former ownership don't count, nor do its records.
    pub(super) generation: u64,
    /// When it became ours.
    pub(super) since: Micros,
    /// Its outcomes are read back: jobs may go.
    pub(super) recalled: bool,
    /// What was read of it.
    pub(super) trail: Trail,
    pub(super) look: Look,
    /// It was said that the outcomes are of other jobs than those that are there.
    pub(super) told: bool,
    /// Outcomes that Kafka has not acknowledged.
    pub(super) unacknowledged: usize,
    /// The offset that was committed last.
    pub(super) committed: i64,
    /// Outcomes of a newer version, for which it isn't taken over yet.
    pub(super) newer: Option<NewerOutcomes>,
}

/// What a predecessor left of a partition, by what is there now.
#[derive(Debug)]
pub(super) struct Left {
    recalled: Recalled,
    trail: Trail,
    /// The jobs that it had read aren't there any more.
    anew: Option<Anew>,
    /// The jobs' end.
    end: i64,
    /// Jobs that retention took before they were settled, at the most.
    passed: u64,
    /// The place of its outcomes is behind their end.
    outcomes_anew: bool,
}

/// What a look at a partition has found.
pub(super) struct Looked {
    partition: i32,
    generation: u64,
    /// What had been read last when it began.
    newest: Option<Crumb>,
    /// The record that was looked at isn't there any more.
    gone: bool,
}

/// Partitions that go away once nothing of them is in flight.
pub(super) struct Leaving {
    pub(super) partitions: Vec<i32>,
    pub(super) done: std::sync::mpsc::Sender<()>,
    pub(super) until: Instant,
}

impl Loop {
    pub(super) fn assigned(&mut self, partition: i32) {
        self.take_over(partition);
        self.at.ready.store(true, std::sync::atomic::Ordering::Relaxed);
    }

    fn take_over(&mut self, partition: i32) {
        self.generation += 1;
        let generation = self.generation;
        self.partitions.insert(
            partition,
            Partition {
                generation,
                since: (self.at.steady)(),
                recalled: false,
                trail: Trail::default(),
                look: Look::default(),
                told: false,
                unacknowledged: 0,
                committed: -1,
                newer: None,
            },
        );
        self.recall(partition, generation, Duration::ZERO);
    }

    /// The records that we read aren't there any more. Nothing of the partition goes out until it is taken
    /// over as from another, by what Kafka has now.
    pub(super) fn start_over(&mut self, number: i32) {
        if !self.partitions.get(&number).is_some_and(|partition| partition.recalled) {
            return;
        }
        if let Err(error) = self.jobs.pause(number) {
            tracing::debug!(%error, kafka.partition = number, "a partition could not be paused; its records are left aside");
        }
        self.dispatch.retire(number);
        self.take_over(number);
    }

    /// Reads the predecessor's outcomes back, beside the loop, and not before the delay is over.
    fn recall(&self, partition: i32, generation: u64, delay: Duration) {
        let left = self.jobs.committed(partition);
        let ours = self.left.get(&partition).copied();
        let (config, codec, now) = (Arc::clone(&self.at.config), self.at.codec, (self.at.wall)());
        let read = move |recalled| Back::Recalled {
            partition,
            generation,
            recalled,
        };
        let promise = Promise::new(
            &self.back,
            read(Err("the thread that reads them has died".to_owned().into())),
        );
        let recall = move || {
            let recalled = left()
                .map_err(|error| error.to_string().into())
                .and_then(|left| recall(&config, codec, partition, left, ours, now))
                .map(Box::new);
            promise.keep(read(recalled));
        };
        tokio::spawn(async move {
            tokio::time::sleep(delay).await;
            tokio::task::spawn_blocking(recall);
        });
    }

    pub(super) fn recalled(&mut self, number: i32, generation: u64, recalled: Result<Box<Left>, NotRecalled>) {
        let ours = self.partitions.get_mut(&number);
        let Some(partition) = ours.filter(|partition| partition.generation == generation) else {
            return;
        };
        let left = match recalled {
            Ok(left) => *left,
            Err(NotRecalled::Newer(newer)) => {
                partition.newer = Some(newer);
                return self.recall(number, generation, NEWER_AGAIN_AFTER);
            }
            Err(NotRecalled::Failed(message)) => {
                tracing::warn!(
                    kafka.partition = number,
                    message,
                    "outcomes could not be read back; trying again"
                );
                return self.recall(number, generation, AGAIN_AFTER);
            }
        };
        (partition.recalled, partition.newer) = (true, None);
        self.left.remove(&number);
        partition.look = Look::of(&left.trail);
        partition.trail = left.trail.clone();
        let (since, from) = (partition.since, left.recalled.committed);
        let started_over = self.tell(number, &left);
        self.dispatch.disown(number);
        self.dispatch.own(number, since, left.recalled, (self.at.steady)());
        self.jobs.begin(number, generation, from);
        if started_over && !self.rejoins {
            // A client that knew the old topic may take the new one for an outdated word of it.
            self.rejoins = true;
            self.at.ready.store(false, std::sync::atomic::Ordering::Relaxed);
            self.jobs.leave();
        }
    }

    /// Says what of the past is gone, and whether the jobs are started over.
    fn tell(&self, number: i32, left: &Left) -> bool {
        let (topics, metrics) = (&self.at.config.topics, &self.at.metrics);
        // What we had read and not settled, when it is we who start over.
        let was_ours = self.dispatch.place(number).is_some();
        let gone = left.anew.map_or(left.end, |anew| anew.from);
        let lost = self.dispatch.unsettled(number, gone);
        let started_over = was_ours || left.anew.is_some();
        if started_over {
            metrics.started_over(StartedOver::Jobs);
            metrics.events_lost(lost);
            tracing::error!(
                kafka.topic = topics.jobs,
                kafka.partition = number,
                from = left.recalled.committed,
                end = left.end,
                lost,
                "the jobs that were read are not there any more: the topic was made anew or has lost its end; \
                 it is started over, and everything that is in it is sent"
            );
        }
        if left.passed > 0 {
            metrics.events_lost(left.passed);
            tracing::error!(
                kafka.topic = topics.jobs,
                kafka.partition = number,
                lost = left.passed,
                "jobs were lost to retention before they were sent: is the topic's retention long enough?"
            );
        }
        if left.outcomes_anew {
            metrics.started_over(StartedOver::Outcomes);
            tracing::error!(
                kafka.topic = topics.outcomes,
                kafka.partition = number,
                end = left.recalled.outcomes_end,
                "the outcomes that were read are not there any more: the topic was made anew or has lost its end; \
                 it is read from its beginning, and jobs whose outcomes are gone are sent again"
            );
        }
        started_over
    }

    /// An outcome is about another job than the one that stands at its place now.
    pub(super) fn another(&mut self, number: i32) {
        let Some(partition) = self.partitions.get_mut(&number).filter(|partition| !partition.told) else {
            return;
        };
        partition.told = true;
        self.at.metrics.started_over(StartedOver::Jobs);
        tracing::error!(
            kafka.topic = self.at.config.topics.jobs,
            kafka.partition = number,
            "outcomes tell of jobs that are not there any more: the topic was made anew or has lost its end; \
             everything that is in it is sent"
        );
    }

    /// Kafka has an outcome at `offset`.
    pub(super) fn told(&mut self, partition: i32, offset: i64) {
        if !self.dispatch.told(partition, offset) {
            self.at.metrics.started_over(StartedOver::Outcomes);
            tracing::error!(
                kafka.topic = self.at.config.topics.outcomes,
                kafka.partition = partition,
                kafka.offset = offset,
                "the outcomes written before are not there any more: the topic was made anew or has lost its end; \
                 whoever takes over reads it from its beginning, and may send again what it doesn't tell of"
            );
        }
    }

    /// Looks beside the loop whether what was read is still there.
    pub(super) fn look(&mut self) {
        if std::mem::replace(&mut self.looks, true) {
            return;
        }
        let owned = self.partitions.iter().filter(|(_, partition)| partition.recalled);
        let looks: Vec<(Crumb, Looked)> = owned
            .filter_map(|(number, partition)| {
                let looked = Looked {
                    partition: *number,
                    generation: partition.generation,
                    newest: partition.trail.newest(),
                    gone: false,
                };
                Some((partition.look.at()?, looked))
            })
            .collect();
        let (topic, places) = (self.at.config.topics.jobs.clone(), Arc::clone(&self.places));
        // Whose thread died has seen nothing; the next look is another's.
        let promise = Promise::new(&self.back, Back::Looked(Vec::new()));
        tokio::task::spawn_blocking(move || {
            let look = |(crumb, looked): (Crumb, Looked)| {
                let found = places.check(&topic, looked.partition, crumb.offset + 1, &Trail::of(crumb));
                // Where Kafka is away the next look is at the same record.
                let gone = found.ok()?.is_some();
                Some(Looked { gone, ..looked })
            };
            let looked = looks.into_iter().filter_map(look).collect();
            promise.keep(Back::Looked(looked));
        });
    }

    pub(super) fn looked(&mut self, looked: Vec<Looked>) {
        self.looks = false;
        for of in looked {
            let ours = self.partitions.get_mut(&of.partition);
            match ours.filter(|partition| partition.generation == of.generation) {
                Some(_) if of.gone => self.start_over(of.partition),
                Some(partition) => partition.look.found(of.newest),
                None => {}
            }
        }
    }

    /// A partition is not ours any more.
    pub(super) fn let_go_of(&mut self, number: i32) {
        self.dispatch.disown(number);
        let gone = self.partitions.remove(&number);
        // Should it come back, we know whether it is the same.
        if let Some(newest) = gone.and_then(|partition| partition.trail.newest()) {
            self.left.insert(number, newest);
        }
    }

    /// The group is left. Where that was to join it anew, gives what comes from it then.
    pub(super) fn left(&mut self) -> anyhow::Result<Option<mpsc::Receiver<Event>>> {
        self.jobs.join_thread();
        if self.stopping || !std::mem::take(&mut self.rejoins) {
            return Ok(None);
        }
        let (jobs, events) = join(&self.at.config)?;
        self.jobs = jobs;
        Ok(Some(events))
    }

    /// Hands over partitions with nothing in flight, or whose time is up.
    pub(super) fn let_go(&mut self) {
        let mut leaving = std::mem::take(&mut self.leaving);
        leaving.retain(|leaving| {
            let busy = leaving.partitions.iter().any(|partition| {
                let waits = |partition: &Partition| partition.unacknowledged > 0;
                self.dispatch.is_busy(*partition) || self.partitions.get(partition).is_some_and(waits)
            });
            if busy && Instant::now() < leaving.until {
                return true;
            }
            self.commit(CommitMode::Sync, Some(&leaving.partitions));
            for partition in &leaving.partitions {
                self.let_go_of(*partition);
            }
            // The group's thread may have stopped waiting.
            let _waits = leaving.done.send(());
            false
        });
        self.leaving = leaving;
    }
}

/// Joins the group; gives what comes from it.
pub(super) fn join(config: &Config) -> anyhow::Result<(Jobs, mpsc::Receiver<Event>)> {
    let (events_in, events) = mpsc::channel(1024);
    Ok((Jobs::join(config, events_in)?, events))
}

/// What a predecessor left of `partition`: whether it is still there, and its outcomes. `ours` is what we read of
/// it ourselves, when we had it before.
fn recall(
    config: &Config,
    codec: &Codec,
    partition: i32,
    left: Committed,
    ours: Option<Crumb>,
    now: Micros,
) -> Result<Left, NotRecalled> {
    let topic = &config.topics.jobs;
    let places = Places::new(config).map_err(|error| error.to_string())?;
    let failed = |error| format!("{topic}: {error}");
    let (low, end) = places.ends(topic, partition).map_err(failed)?;
    let Committed {
        offset,
        outcomes_from,
        mut trail,
    } = left;
    let anew = match offset {
        Some(next) => places.check(topic, partition, next, &trail).map_err(failed)?,
        None => None,
    };
    let committed = match (anew, offset) {
        (Some(anew), Some(next)) => anew.from.min(next).max(anew.low),
        (_, next) => next.unwrap_or(low),
    };
    if let Some(anew) = anew {
        trail.cut(anew.from);
    }
    // Kafka forgets the offsets of a topic that is deleted; we don't.
    let ours = ours.filter(|_| anew.is_none());
    let anew = match ours {
        Some(crumb) => places
            .check(topic, partition, crumb.offset + 1, &Trail::of(crumb))
            .map_err(failed)?,
        None => anew,
    };
    let recalled = read_back(config, codec, partition, (committed, outcomes_from), now)?;
    let settled = recalled.settled.iter().filter(|offset| **offset < low).count() as u64;
    Ok(Left {
        trail,
        anew,
        end,
        passed: u64::try_from(low - committed)
            .unwrap_or_default()
            .saturating_sub(settled),
        outcomes_anew: outcomes_from.is_some_and(|from| from > recalled.outcomes_end),
        recalled,
    })
}
