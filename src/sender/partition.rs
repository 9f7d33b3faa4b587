//! What a sender reads of a partition beside its jobs: what a predecessor left, and whether the jobs are still there.
//! All of it waits for Kafka, and so runs on threads beside the loop.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::{Back, Loop, Promise};
use crate::config::Config;
use crate::delivery::Outcome;
use crate::delivery::ledger;
use crate::delivery::limit::Micros;
use crate::delivery::recall::Recalled;
use crate::delivery::sending::{Event, Looked, Looking, Past, Recall};
use crate::kafka::jobs::{Committed, Event as GroupEvent, Jobs, Place, Places as Handed};
use crate::kafka::place::Places;
use crate::kafka::reader::{Isolation, Next, Reader};
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
        let (config, wall) = (Arc::clone(&self.at.config), self.at.wall);
        let read = move |past| {
            Back::Event(Event::Recalled {
                partition,
                ownership,
                past,
            })
        };
        let promise = Promise::new(&self.back, read(Err("the thread that reads them has died".to_owned())));
        tokio::spawn(async move {
            tokio::time::sleep(delay).await;
            tokio::task::spawn_blocking(move || {
                let past = left()
                    .map_err(|error| error.to_string())
                    .and_then(|left| recall(&config, partition, left, ours, wall()))
                    .map(Box::new);
                promise.keep(read(past));
            });
        });
    }

    /// Looks whether what was read is still there.
    pub(super) fn look(&self, looks: Vec<Looking>) {
        let (topic, places) = (self.at.config.topics.jobs.clone(), Arc::clone(&self.places));
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
        let config = Arc::clone(&self.at.config);
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
fn recall(config: &Config, partition: i32, left: Committed, ours: Option<Crumb>, now: Micros) -> Result<Past, String> {
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
    let recalled = read_back(config, partition, (committed, outcomes_from), now)?;
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

/// Reads the outcomes of `partition` to the end that they have now: from the place that the predecessor left
/// for its `committed` jobs, and as far back as sent job ids are to be known.
fn read_back(
    config: &Config,
    partition: i32,
    (committed, outcomes_from): (i64, Option<i64>),
    // By the wall clock.
    now: Micros,
) -> Result<Recalled, String> {
    let topic = &config.topics.outcomes;
    let failed = |error| format!("{error}");
    // The processor writes here in transactions; an open one would hide what the predecessor wrote.
    let reader = Reader::assign(config, topic, &[], Isolation::Uncommitted).map_err(failed)?;
    let end = reader.end(topic, partition).map_err(failed)?;
    let window = Micros::try_from(config.sender.dedup_window.as_micros()).unwrap_or(now);
    let of_window = reader
        .offset_at(topic, partition, (now - window) / 1000)
        .map_err(failed)?;
    let counted = end - i64::try_from(config.sender.dedup_ids_max).unwrap_or(end);
    let known = of_window.unwrap_or(end).max(counted).max(0);
    // A rule's `max_rate` looks back for an hour.
    let hour = reader
        .offset_at(topic, partition, (now - HOUR) / 1000)
        .map_err(failed)?;
    // A place behind the end is one of a topic that was made anew since.
    let outcomes_from = outcomes_from.filter(|from| *from <= end).unwrap_or(0);
    let mut recalled = Recalled {
        committed,
        outcomes_from,
        outcomes_end: end,
        known_since: now - window,
        ..Recalled::default()
    };
    let from = known.min(outcomes_from).min(hour.unwrap_or(end).max(counted).max(0));
    if from >= end {
        return Ok(recalled);
    }
    reader.go_to(topic, partition, from).map_err(failed)?;
    let mut heard = Instant::now();
    loop {
        match reader.next(Duration::from_millis(100)) {
            Next::Record(record) => {
                heard = Instant::now();
                if record.offset == known && counted == known {
                    recalled.known_since = record.timestamp.saturating_mul(1000);
                }
                let last = record.offset + 1 >= end;
                if let Some(outcome) = record.value.as_deref().and_then(|value| Outcome::decode(value).ok()) {
                    recalled.take(outcome, now);
                }
                if last {
                    return Ok(recalled);
                }
            }
            Next::End(_) => return Ok(recalled),
            Next::Nothing if heard.elapsed() > SILENCE => return Err("the broker is silent".to_owned()),
            Next::Nothing => {}
        }
    }
}

const HOUR: Micros = 3_600_000_000;
const SILENCE: Duration = Duration::from_secs(30);
