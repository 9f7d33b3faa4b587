//! The lanes: what waits in each, since when, until when and why it is frozen, its limits, and what people order of it.

use super::Error;
use super::backlog::{Backlog, Snapshot, Waiting, in_millis};
use super::resident::Resident;
use crate::dates::Rate;
use crate::delivery::recall::{self, credential_of};
use crate::rules::control::Controls;

pub use super::backlog::Limit;
pub use order::{Ordered, order};

mod order;

/// A lane in which jobs wait, or what is paused: a lane, a credential or all sending. Times are in epoch milliseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lane {
    pub id: String,
    pub credential: String,
    /// How many jobs wait.
    pub waiting: u64,
    /// When the first of them was written; none where nothing waits.
    pub oldest_at: Option<i64>,
    /// When the next request may start at the earliest; none where its sender alone knows, and while it is paused.
    pub next_at: Option<i64>,
    pub frozen: Option<Frozen>,
    pub paused: Option<Paused>,
    pub limit: Limit,
}

/// Why nothing of a lane starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frozen {
    /// None for a refused credential whose next probe its sender alone knows, and for one that jobs of a newer version
    /// hold.
    pub until: Option<i64>,
    pub why: String,
    /// The credential is refused: it is probed until it works.
    pub refused: bool,
}

/// A pause: nothing starts until somebody resumes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paused {
    /// What is paused: the lane, its credential or `*`.
    pub of: String,
    /// Who paused it, and since when, as far as the record says.
    pub who: Option<String>,
    pub since: Option<i64>,
    /// All of it in words.
    pub words: String,
}

/// The lanes as the desk's memory has them, and when they were read.
pub fn read(resident: &Resident, now: i64) -> Result<(Vec<Lane>, i64), Error> {
    Ok(of(resident, &*resident.backlog(now)?, now))
}

/// So old may be what [`of_late`] gives, in milliseconds: open pages ask every five seconds.
const LATE_MAX: i64 = 10_000;

/// The lanes as they were read a moment ago, by whoever reads them for the next look: Kafka takes its time. Orders show
/// at once.
pub fn of_late(resident: &Resident, now: i64) -> Result<(Vec<Lane>, i64), Error> {
    let last = resident.last_backlog().filter(|last| now - last.at <= LATE_MAX);
    last.map_or_else(|| read(resident, now), |last| Ok(of(resident, &last, now)))
}

fn of(resident: &Resident, snapshot: &Snapshot, now: i64) -> (Vec<Lane>, i64) {
    let view = resident.rules().view();
    (list(&snapshot.backlog, view.log().controls(), now), snapshot.at)
}

/// All lanes in which jobs wait, and everything else that is paused, by id.
pub fn list(backlog: &Backlog, controls: &Controls, now: i64) -> Vec<Lane> {
    let waiting = backlog.lanes.iter();
    let mut lanes: Vec<Lane> = waiting
        .map(|(id, waiting)| lane(backlog, controls, id, waiting, now))
        .collect();
    let idle = controls
        .iter()
        .filter(|(id, control)| control.paused && !backlog.lanes.contains_key(*id));
    lanes.extend(idle.map(|(id, _)| Lane {
        id: id.to_owned(),
        credential: credential_of(id).to_owned(),
        waiting: 0,
        oldest_at: None,
        next_at: None,
        frozen: None,
        paused: paused(controls, id, credential_of(id)),
        limit: Limit::default(),
    }));
    lanes.sort_by(|one, other| one.id.cmp(&other.id));
    lanes
}

fn lane(backlog: &Backlog, controls: &Controls, id: &str, waiting: &Waiting, now: i64) -> Lane {
    let held = backlog.held(&waiting.credential);
    let frozen = frozen(backlog, id, &waiting.credential, now);
    let until = frozen.map(|frozen| in_millis(frozen.until));
    let paused = paused(controls, id, &waiting.credential);
    // No topic has the probes of a refused credential, the upgrade of a sender, or when somebody resumes what is paused.
    let is_known = held == 0 && until.is_none_or(|until| until > now);
    let spaced = |id: &str, rate: Option<Rate>| Some(backlog.started(id)?.saturating_add(rate?.spacing() / 1000));
    let limits = [
        spaced(id, waiting.limit.lane),
        spaced(&waiting.credential, waiting.limit.credential),
        until,
        waiting.first_again,
    ];
    Lane {
        id: id.to_owned(),
        credential: waiting.credential.clone(),
        waiting: waiting.count,
        oldest_at: Some(waiting.oldest_at),
        next_at: (is_known && paused.is_none()).then(|| limits.into_iter().flatten().fold(now, i64::max)),
        frozen: match (held, frozen) {
            (0, frozen) => frozen.map(|frozen| Frozen {
                until: until.filter(|_| is_known),
                why: frozen.why.clone(),
                refused: frozen.refused,
            }),
            (held, _) => Some(Frozen {
                until: None,
                why: format!("held by jobs of a newer version ({held}), until a sender of that version owns them"),
                refused: false,
            }),
        },
        paused,
        limit: waiting.limit,
    }
}

fn paused(controls: &Controls, lane: &str, credential: &str) -> Option<Paused> {
    let (of, control) = controls.pause_of(lane, credential)?;
    Some(Paused {
        of: of.to_owned(),
        who: control.who.clone(),
        since: control.when,
        words: control.words(of),
    })
}

/// The freeze of the lane or of its credential that lasts longest. One that is over is none, but for a refused
/// credential's, which lasts until something is taken.
fn frozen<'b>(backlog: &'b Backlog, lane: &str, credential: &str, now: i64) -> Option<&'b recall::Frozen> {
    let both = backlog.frozen(lane).chain(backlog.frozen(credential));
    both.filter(|frozen| in_millis(frozen.until) > now || frozen.refused)
        .max_by_key(|frozen| frozen.until)
}

#[cfg(test)]
mod tests;
