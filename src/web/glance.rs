//! What is read aside, so that no page waits for it: what every page tells at a glance (how many lanes and dead letters
//! need a person), and how far behind each group is.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::page::{Frame, part};
use crate::desk::dead_letters::recent;
use crate::desk::lanes;
use crate::desk::resident::Resident;

/// What was read is good for so long, in milliseconds.
const GOOD_FOR: i64 = 2_000;

/// Something that is read again for whoever asks next.
#[derive(Debug)]
pub(super) struct Aside<T>(Arc<Kept<T>>);

#[derive(Debug)]
struct Kept<T> {
    /// With when it was read, epoch milliseconds.
    last: Mutex<Option<(i64, T)>>,
    is_reading: AtomicBool,
}

impl<T> Default for Aside<T> {
    fn default() -> Self {
        Self(Arc::new(Kept {
            last: Mutex::new(None),
            is_reading: AtomicBool::new(false),
        }))
    }
}

impl<T: Clone + Send + 'static> Aside<T> {
    /// What was read last, and when. Where that is too old it is read again, with what was there before.
    pub(super) fn get(&self, now: i64, read: impl FnOnce(Option<T>) -> T + Send + 'static) -> Option<(i64, T)> {
        let last = self.0.last();
        let is_old = last.as_ref().is_none_or(|(at, _)| now - at > GOOD_FOR);
        if is_old && let Some(reading) = self.begin() {
            let before = last.as_ref().map(|(_, last)| last.clone());
            tokio::task::spawn_blocking(move || reading.0.keep(now, read(before)));
        }
        last
    }

    /// What was read last, and when.
    pub(super) fn last(&self) -> Option<(i64, T)> {
        self.0.last()
    }

    /// Keeps what somebody read who could not wait.
    pub(super) fn keep(&self, now: i64, read: T) {
        self.0.keep(now, read);
    }

    /// Begins to read, where nobody does.
    fn begin(&self) -> Option<Reading<T>> {
        let kept = Arc::clone(&self.0);
        (!kept.is_reading.swap(true, Ordering::AcqRel)).then(|| Reading(kept))
    }
}

impl<T: Clone> Kept<T> {
    fn last(&self) -> Option<(i64, T)> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn keep(&self, now: i64, read: T) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some((now, read));
    }
}

/// Somebody reads. However that ends, with a panic too, it can be read again.
#[derive(Debug)]
struct Reading<T>(Arc<Kept<T>>);

impl<T> Drop for Reading<T> {
    fn drop(&mut self) {
        self.0.is_reading.store(false, Ordering::Release);
    }
}

/// Lanes and dead letters that need a person.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Counted {
    lanes: usize,
    dead_letters: usize,
}

impl Counted {
    fn of(resident: &Resident, now: i64, before: Self) -> Self {
        let refused = lanes::read(resident, now).map(|(lanes, _)| {
            let is_refused = |lane: &&lanes::Lane| lane.frozen.as_ref().is_some_and(|frozen| frozen.refused);
            lanes.iter().filter(is_refused).count()
        });
        let dead_letters = recent::by_reason(resident)
            .iter()
            .map(|(_, count, _)| *count)
            .sum::<u64>();
        Self {
            // Kafka is away: what was counted before stays.
            lanes: refused.unwrap_or(before.lanes),
            dead_letters: usize::try_from(dead_letters).unwrap_or(usize::MAX),
        }
    }
}

impl Aside<Counted> {
    /// What the frame of every page tells.
    pub(super) fn frame(&self, resident: &Arc<Resident>, now: i64) -> Frame {
        let counting = Arc::clone(resident);
        let counted = self.get(now, move |before| {
            Counted::of(&counting, now, before.unwrap_or_default())
        });
        let counted = counted.map(|(_, counted)| counted).unwrap_or_default();
        Frame {
            lanes: counted.lanes,
            dead_letters: counted.dead_letters,
            cut_off: part::cut_off(resident),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_reads_at_a_time_and_a_reading_that_panics_is_not_the_last() {
        let aside = Aside::<u8>::default();
        let reading = aside.begin().unwrap();
        assert!(aside.begin().is_none());
        let panicked = std::thread::spawn(move || {
            let _reading = reading;
            panic!("as it may");
        });
        assert!(panicked.join().is_err());
        assert!(aside.begin().is_some());
    }

    #[tokio::test]
    async fn what_was_read_last_is_given_at_once_and_read_again_once_it_is_old() {
        let aside = Aside::default();
        aside.keep(0, 1);
        assert_eq!(aside.get(GOOD_FOR, |_| unreachable!()), Some((0, 1)));
        let (read, was_read) = tokio::sync::oneshot::channel();
        let again = |before: Option<i32>| {
            let sum = before.unwrap() + 1;
            read.send(sum).unwrap();
            sum
        };
        assert_eq!(aside.get(GOOD_FOR + 1, again), Some((0, 1)));
        assert_eq!(was_read.await, Ok(2));
    }
}
