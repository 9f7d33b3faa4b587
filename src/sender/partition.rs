//! What a sender reads of a partition besides its jobs: what a predecessor left, and whether the jobs are still there.
//! All of it waits for Kafka, and so runs on threads beside the loop.

use std::sync::Arc;
use tokio::sync::mpsc;

use super::read_back::read_back;
use super::{Back, Loop, Promise};
use crate::config::Config;
use crate::delivery::Codec;
use crate::delivery::ledger;
use crate::delivery::limit::Micros;
use crate::delivery::sending::{Event, Looked, Looking, NotRecalled, Past, Recall};
use crate::kafka::jobs::{Committed, Event as GroupEvent, Jobs, Place, Places as Handed};
use crate::kafka::place::Places;
use crate::trail::{Crumb, Trail};

impl Loop {
    /// Reads the predecessor's outcomes back, not before the delay is over.
    pub(super) fn recall(&self, of: Recall) {
        let Recall {
            partition,
            ownership,
            ours,
            delay,
        } = of;
        let left = self.jobs.committed(partition);
        let (config, codec, wall) = (Arc::clone(&self.wiring.config), self.wiring.codec, self.wiring.wall);
        let read = move |past| {
            Back::Event(Event::Recalled {
                partition,
                ownership,
                past,
            })
        };
        let died = NotRecalled::Failed("the thread that reads them has died".to_owned());
        let promise = Promise::new(&self.back, read(Err(died)));
        tokio::spawn(async move {
            tokio::time::sleep(delay).await;
            tokio::task::spawn_blocking(move || {
                let past = left()
                    .map_err(|error| error.to_string().into())
                    .and_then(|left| recall(&config, codec, partition, left, ours, wall()))
                    .map(Box::new);
                promise.keep(read(past));
            });
        });
    }

    /// Looks whether what was read is still there.
    pub(super) fn look(&self, looks: Vec<Looking>) {
        let (topic, places) = (self.wiring.config.topics.jobs.clone(), Arc::clone(&self.places));
        // A thread that died has seen nothing; the next look is another's.
        let promise = Promise::new(&self.back, Back::Event(Event::Looked(Vec::new())));
        tokio::task::spawn_blocking(move || {
            let look = |looking: Looking| {
                let crumb = looking.crumb;
                let found = places.check(&topic, looking.partition, crumb.offset + 1, &Trail::of(crumb));
                // While Kafka is away the next look is at the same record.
                let is_gone = found.ok()?.is_some();
                Some(Looked { looking, is_gone })
            };
            let looked = looks.into_iter().filter_map(look).collect();
            promise.keep(Back::Event(Event::Looked(looked)));
        });
    }

    /// Commits places; what comes of it is known later.
    pub(super) fn commit(&mut self, places: &ledger::Places) -> anyhow::Result<()> {
        let Err(error) = self.jobs.commit(&handed(places)) else {
            return Ok(());
        };
        tracing::warn!(%error, "offsets were not committed");
        self.happened(Event::NotCommitted(places.keys().copied().collect()))
    }

    /// Joins the group that was left; gives what comes from it. Nothing is ours meanwhile.
    pub(super) async fn join_again(&mut self) -> anyhow::Result<mpsc::Receiver<GroupEvent>> {
        let config = Arc::clone(&self.wiring.config);
        let (jobs, events) = tokio::task::spawn_blocking(move || join(&config)).await??;
        let left = std::mem::replace(&mut self.jobs, jobs);
        tokio::task::spawn_blocking(move || left.end());
        Ok(events)
    }
}

/// Places as Kafka keeps them.
pub(super) fn handed(places: &ledger::Places) -> Handed {
    let each = places.iter().map(|(partition, (place, trail))| {
        let place = Place {
            offset: place.offset,
            outcomes_from: place.outcomes_from,
            trail: trail.to_string(),
        };
        (*partition, place)
    });
    each.collect()
}

/// Joins the group; gives what comes from it.
pub(super) fn join(config: &Config) -> anyhow::Result<(Jobs, mpsc::Receiver<GroupEvent>)> {
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
) -> Result<Past, NotRecalled> {
    let topic = &config.topics.jobs;
    let places = Places::new(config).map_err(|error| error.to_string())?;
    let failed = |error| format!("{topic}: {}", places.why(topic, &error));
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
    Ok(Past {
        trail,
        anew: anew.map(|anew| anew.from),
        end,
        passed: u64::try_from(low - committed)
            .unwrap_or_default()
            .saturating_sub(settled),
        outcomes_anew: outcomes_from.is_some_and(|from| from > recalled.outcomes_end),
        recalled,
    })
}
