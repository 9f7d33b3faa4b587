//! Bounds the requests in flight at one inlet. No inlet takes another's slots, and unknown senders take none of those
//! for known ones.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// All unproven bodies of an inlet together are about so large at most.
const UNPROVEN_BYTES: usize = 64 << 20;
/// And so many.
const UNPROVEN_MIN: usize = 4;
const UNPROVEN_MAX: usize = 64;

/// Bodies that have to be read before it is known who sends them, because they are signed or hold a key. Of too many the oldest
/// gives way: a real one is in at once.
#[derive(Debug)]
pub(super) struct Unproven {
    max: usize,
    reading: Mutex<Turns>,
}

/// Who reads, the oldest first.
#[derive(Debug, Default)]
struct Turns {
    next: u64,
    reading: VecDeque<(u64, oneshot::Sender<()>)>,
}

/// A place among the unproven, until it is dropped.
#[derive(Debug)]
pub(super) struct Reading<'u> {
    of: &'u Unproven,
    number: u64,
    /// Closed when this one has to give way.
    turn: oneshot::Receiver<()>,
}

impl Unproven {
    /// For bodies of at most `body_max` bytes.
    pub(super) fn new(body_max: usize) -> Self {
        Self {
            max: (UNPROVEN_BYTES / body_max.max(1)).clamp(UNPROVEN_MIN, UNPROVEN_MAX),
            reading: Mutex::default(),
        }
    }

    /// Takes a place; where none is left, the oldest one's.
    pub(super) fn begin(&self) -> Reading<'_> {
        let (mine, turn) = oneshot::channel();
        let mut turns = self.turns();
        if turns.reading.len() >= self.max {
            turns.reading.pop_front();
        }
        let number = turns.next;
        turns.next += 1;
        turns.reading.push_back((number, mine));
        drop(turns);
        Reading { of: self, number, turn }
    }

    fn turns(&self) -> MutexGuard<'_, Turns> {
        self.reading.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reading<'_> {
    /// Until it has to give way.
    pub(super) async fn gives_way(&mut self) {
        // Nothing is ever sent: the other end goes.
        drop((&mut self.turn).await);
    }
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        self.of.turns().reading.retain(|(number, _)| *number != self.number);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    async fn gave_way(reading: &mut Reading<'_>) -> bool {
        let waiting = tokio::time::timeout(Duration::from_secs(1), reading.gives_way());
        waiting.await.is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn of_too_many_the_oldest_gives_way() {
        let unproven = Unproven::new(32 << 20);
        let mut first: Vec<_> = (0..UNPROVEN_MIN).map(|_| unproven.begin()).collect();
        assert!(!gave_way(&mut first[0]).await);
        // A request that is done leaves its slot to the next.
        drop(first.pop());
        let _last = unproven.begin();
        assert!(!gave_way(&mut first[0]).await);
        let _one_more = unproven.begin();
        assert!(gave_way(&mut first[0]).await);
        assert!(!gave_way(&mut first[1]).await);
    }

    #[test]
    fn the_bodies_together_are_bounded() {
        for body_max in [1, 1 << 20, 10 << 20, 16 << 20] {
            let unproven = Unproven::new(body_max);
            assert!(unproven.max * body_max <= UNPROVEN_BYTES && unproven.max <= UNPROVEN_MAX);
        }
    }
}
