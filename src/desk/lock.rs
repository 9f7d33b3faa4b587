//! Locks of what the desk keeps in memory. A thread that looks at something and asks for the same again waits for ever as
//! soon as a writer waits between the two, which only happens now and then. So where debug assertions are on, in all
//! tests, it panics at once.

use std::cell::RefCell;
use std::ops::{Deref, DerefMut};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

thread_local! {
    /// The addresses of the locks that this thread holds.
    static HELD: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
}

#[derive(Debug, Default)]
pub struct Lock<T>(RwLock<T>);

/// Somebody looks. Nobody writes meanwhile.
#[derive(Debug)]
pub struct ReadGuard<'l, T> {
    guard: RwLockReadGuard<'l, T>,
    _held: Held,
}

#[derive(Debug)]
pub(super) struct WriteGuard<'l, T> {
    guard: RwLockWriteGuard<'l, T>,
    _held: Held,
}

/// A lock that this thread holds.
#[derive(Debug)]
struct Held(usize);

impl Held {
    fn begin(lock: usize) -> Self {
        if cfg!(debug_assertions) {
            HELD.with_borrow_mut(|held| {
                assert!(!held.contains(&lock), "this thread holds the lock that it asks for");
                held.push(lock);
            });
        }
        Self(lock)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if cfg!(debug_assertions) {
            HELD.with_borrow_mut(|held| held.retain(|lock| *lock != self.0));
        }
    }
}

impl<T> Lock<T> {
    pub(super) fn new(value: T) -> Self {
        Self(RwLock::new(value))
    }

    pub(super) fn read(&self) -> ReadGuard<'_, T> {
        let held = Held::begin(std::ptr::from_ref(self).addr());
        ReadGuard {
            guard: self.0.read().unwrap_or_else(PoisonError::into_inner),
            _held: held,
        }
    }

    pub(super) fn write(&self) -> WriteGuard<'_, T> {
        let held = Held::begin(std::ptr::from_ref(self).addr());
        WriteGuard {
            guard: self.0.write().unwrap_or_else(PoisonError::into_inner),
            _held: held,
        }
    }
}

impl<T> Deref for ReadGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.guard
    }
}

impl<T> Deref for WriteGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.guard
    }
}

impl<T> DerefMut for WriteGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.guard
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_holds_a_lock_is_not_let_wait_for_it_and_others_may_be_held_beside_it() {
        let (one, other) = (Lock::new(1), Lock::new(2));
        {
            let (one, mut other) = (one.read(), other.write());
            *other += *one;
        }
        assert_eq!((*one.read(), *other.read()), (1, 3));
        let again = std::panic::catch_unwind(|| {
            let held = one.read();
            *held + *one.read()
        });
        assert!(again.is_err());
        assert_eq!(*one.write(), 1, "what panicked holds nothing");
    }
}
