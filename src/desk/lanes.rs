//! The lanes: what waits in each, since when, until when and why it is frozen, and its limits.

use super::backlog::{Backlog, Waiting, in_millis};
use crate::dates::Rate;
use crate::delivery::recall;

pub use super::backlog::Limit;

/// A lane in which jobs wait. Times are in epoch milliseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lane {
    pub id: String,
    pub credential: String,
    /// How many jobs wait.
    pub waiting: u64,
    /// When the first of them was written.
    pub oldest_at: i64,
    /// When the next request may start at the earliest; none where its sender alone knows.
    pub next_at: Option<i64>,
    pub frozen: Option<Frozen>,
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

/// All lanes in which jobs wait, by id.
pub fn list(backlog: &Backlog, now: i64) -> Vec<Lane> {
    let lanes = backlog.lanes.iter();
    lanes.map(|(id, waiting)| lane(backlog, id, waiting, now)).collect()
}

fn lane(backlog: &Backlog, id: &str, waiting: &Waiting, now: i64) -> Lane {
    let held = backlog.held(&waiting.credential);
    let frozen = frozen(backlog, id, &waiting.credential, now);
    let until = frozen.map(|frozen| in_millis(frozen.until));
    // No topic has the probes of a refused credential, or the upgrade of a sender.
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
        oldest_at: waiting.oldest_at,
        next_at: is_known.then(|| limits.into_iter().flatten().fold(now, i64::max)),
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
        limit: waiting.limit,
    }
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
