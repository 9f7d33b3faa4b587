//! What every page tells at a glance: how many lanes and dead letters need a person. It is counted aside, so that no page
//! waits for it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::page::{Frame, part};
use crate::desk::dead_letters::recent;
use crate::desk::lanes;
use crate::desk::resident::Resident;

/// What was counted is good for so long, in milliseconds.
const GOOD_FOR: i64 = 2_000;

#[derive(Debug, Default)]
pub(super) struct Glance(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    counted: Mutex<Counted>,
    is_counting: AtomicBool,
}

#[derive(Debug, Clone, Copy, Default)]
struct Counted {
    /// Epoch milliseconds.
    at: i64,
    lanes: usize,
    dead_letters: usize,
}

impl Glance {
    /// What was counted last. Where that is too old it is counted again, for the next page.
    pub(super) fn frame(&self, resident: &Arc<Resident>, now: i64) -> Frame {
        let counted = *self.0.counted.lock().unwrap_or_else(PoisonError::into_inner);
        if now - counted.at > GOOD_FOR && !self.0.is_counting.swap(true, Ordering::AcqRel) {
            let (counts, resident) = (Arc::clone(&self.0), Arc::clone(resident));
            tokio::task::spawn_blocking(move || counts.count(&resident, now));
        }
        Frame {
            lanes: counted.lanes,
            dead_letters: counted.dead_letters,
            cut_off: part::cut_off(resident),
        }
    }
}

impl Counts {
    fn count(&self, resident: &Resident, now: i64) {
        let refused = lanes::read(resident, now).map(|(lanes, _)| {
            let is_refused = |lane: &&lanes::Lane| lane.frozen.as_ref().is_some_and(|frozen| frozen.refused);
            lanes.iter().filter(is_refused).count()
        });
        let dead_letters = recent::by_reason(resident)
            .iter()
            .map(|(_, count, _)| *count)
            .sum::<u64>();
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        *counted = Counted {
            at: now,
            // Kafka is away: what was counted before stays.
            lanes: refused.unwrap_or(counted.lanes),
            dead_letters: usize::try_from(dead_letters).unwrap_or(usize::MAX),
        };
        drop(counted);
        self.is_counting.store(false, Ordering::Release);
    }
}
