//! Isolation: which lanes may have a request in flight, so that those that fail leave room to those that work.
//!
//! Three things narrow a lane that fails, and none of them a lane that works. It gets one request at a time, and rests
//! after several failures in a row. All lanes of its credential and of its host that fail share a quarter of the
//! places there. And once several lanes failed with none succeeding between, their credential or host is down: it
//! then gets one request at a time from the lanes that fail, one from those that nobody has tried yet, and one from
//! those that worked when they were last asked. The first request that succeeds ends that.
//!
//! A thousand lanes that fail all day must not make a credential look down whose other lanes work. So the failure of a
//! lane that worked counts at once, and that of another only after a second without any success.

use std::collections::BTreeSet;
use std::ops::{Index, IndexMut};

use super::{Dispatch, LaneState, Micros, Number};

/// A credential or host is down when so many of its lanes failed with none succeeding between.
const LANES_FAILED: usize = 3;
/// After a success the failures of lanes that hadn't worked don't count for so long.
const QUIET: Micros = 1_000_000;
/// A lane rests once it has failed so many times in a row.
pub(super) const FAILED_MAX: u32 = 3;
/// And no longer than so.
const REST_MAX: Micros = 10_000_000;

/// How a lane fares, by its last answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// The destination works, whatever it said.
    Works,
    /// Nobody has asked it yet.
    New,
    /// Its request came to nothing.
    Fails,
}

impl Standing {
    pub(super) const ALL: [Self; 3] = [Self::Works, Self::New, Self::Fails];
}

/// One `T` for the lanes of each standing.
#[derive(Debug, Default)]
pub(super) struct ByStanding<T>([T; Standing::ALL.len()]);

impl<T> Index<Standing> for ByStanding<T> {
    type Output = T;

    fn index(&self, standing: Standing) -> &T {
        &self.0[standing as usize]
    }
}

impl<T> IndexMut<Standing> for ByStanding<T> {
    fn index_mut(&mut self, standing: Standing) -> &mut T {
        &mut self.0[standing as usize]
    }
}

/// The lanes of one credential and one standing that have work.
#[derive(Debug, Default)]
pub(super) struct Queue {
    /// By the time they may be ready, then by who was served longest ago.
    pub(super) lanes: BTreeSet<(Micros, u64, Number<LaneState>)>,
    pub(super) served: u64,
    /// It found no room at its host, and waits there.
    pub(super) parked: bool,
}

/// The requests that a credential or a host may have in flight.
#[derive(Debug)]
pub(super) struct Slots {
    max: usize,
    taken: ByStanding<usize>,
    /// Lanes that failed since one succeeded, as many as it takes to be down.
    failed: Vec<Number<LaneState>>,
    succeeded_at: Micros,
}

impl Slots {
    pub(super) fn new(max: usize) -> Self {
        Self {
            max: max.max(1),
            taken: ByStanding::default(),
            failed: Vec::new(),
            succeeded_at: Micros::MIN,
        }
    }

    pub(super) fn max(&self) -> usize {
        self.max
    }

    /// How many requests are in flight.
    pub(super) fn taken(&self) -> usize {
        Standing::ALL.iter().map(|standing| self.taken[*standing]).sum()
    }

    pub(super) fn take(&mut self, standing: Standing) {
        self.taken[standing] += 1;
    }

    pub(super) fn give_back(&mut self, standing: Standing) {
        self.taken[standing] -= 1;
    }

    /// How many requests more may start from lanes of one standing.
    pub(super) fn room(&self, standing: Standing) -> usize {
        let share = match standing {
            _ if self.is_down() => 1,
            Standing::Works => self.max,
            Standing::New => self.max / 2,
            Standing::Fails => self.max / 4,
        };
        let left = share.max(1).saturating_sub(self.taken[standing]);
        left.min(self.max.saturating_sub(self.taken()))
    }

    pub(super) fn is_down(&self) -> bool {
        self.failed.len() >= LANES_FAILED
    }

    fn succeed(&mut self, now: Micros) {
        self.failed.clear();
        self.succeeded_at = now;
    }

    /// A lane that stood so has failed.
    fn fail(&mut self, lane: Number<LaneState>, stood: Standing, now: Micros) {
        let counts = stood == Standing::Works || now >= self.succeeded_at.saturating_add(QUIET);
        if counts && !self.is_down() && !self.failed.contains(&lane) {
            self.failed.push(lane);
        }
    }
}

impl Dispatch {
    /// A lane's request that started at `started` came to nothing, or was answered by what works.
    pub(super) fn hear(&mut self, lane: Number<LaneState>, failed: bool, started: Micros, now: Micros) {
        let stood = self.lanes[lane].standing;
        self.restand(lane, if failed { Standing::Fails } else { Standing::Works });
        let state = &mut self.lanes[lane];
        let credential = &mut self.credentials[state.credential];
        for slots in [&mut credential.slots, &mut self.hosts[credential.host].slots] {
            if failed {
                slots.fail(lane, stood, now);
            } else {
                slots.succeed(now);
            }
        }
        if !failed {
            state.failed = 0;
            (state.failed_at, state.rests_until) = (Micros::MIN, Micros::MIN);
            return;
        }
        // Requests that were in flight together count once.
        if started < state.failed_at {
            return;
        }
        state.failed_at = now;
        state.failed = state.failed.saturating_add(1);
        if let Some(beyond) = state.failed.checked_sub(FAILED_MAX) {
            let rest = self.backoff(beyond.min(30) as i32 + 1).min(REST_MAX);
            self.lanes[lane].rests_until = now + rest;
        }
    }

    /// From now on a lane stands so. Whoever calls this gives it its place again.
    pub(super) fn restand(&mut self, lane: Number<LaneState>, standing: Standing) {
        self.unqueue(lane);
        self.lanes[lane].standing = standing;
    }
}
