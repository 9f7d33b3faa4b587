//! What one request, or one record of a topic, may cost: bytes kept at a time, and steps of work. Both limits are
//! linear in its size, so that nobody can send little and cost much.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;

/// Bytes that may be kept whatever the size, and for each byte of it. Peak memory stays below 64 MB and 20 times the
/// size: the rest is for the body itself and for what is written.
const KEPT_FREE: usize = 52 << 20;
const KEPT_PER_BYTE: usize = 16;
/// The same for steps, one of which is about a byte read or written.
const STEPS_FREE: u64 = 64 << 20;
const STEPS_PER_BYTE: u64 = 128;

/// The bytes and steps that are left to spend.
#[derive(Debug, Clone, Default)]
pub struct Budget {
    kept: usize,
    kept_max: usize,
    steps: u64,
    steps_max: u64,
    ended: Arc<AtomicBool>,
}

/// Why no more may be spent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Spent {
    #[error("what becomes of it has more than {0} bytes together; send fewer records at once")]
    Memory(usize),
    #[error("it takes more work than its size allows; send fewer records at once")]
    Work,
    #[error("its time is over")]
    Time,
}

impl Budget {
    /// The budget of a request or record of `size` bytes.
    pub fn of(size: usize) -> Self {
        let steps = u64::try_from(size).unwrap_or(u64::MAX).saturating_mul(STEPS_PER_BYTE);
        Self {
            kept_max: size.saturating_mul(KEPT_PER_BYTE).saturating_add(KEPT_FREE),
            steps_max: steps.saturating_add(STEPS_FREE),
            ..Self::default()
        }
    }

    /// Also ends once the flag is set.
    #[must_use]
    pub fn until(mut self, ended: Arc<AtomicBool>) -> Self {
        self.ended = ended;
        self
    }

    /// Whether its time is over.
    pub fn is_over(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }

    /// Takes so many steps.
    ///
    /// # Errors
    /// They are more than are left, or the time is over.
    pub fn spend(&mut self, steps: usize) -> Result<(), Spent> {
        if self.is_over() {
            return Err(Spent::Time);
        }
        let taken = self.steps.saturating_add(u64::try_from(steps).unwrap_or(u64::MAX));
        // Once too many were asked for, none are left: what follows would only find out the same.
        self.steps = taken.min(self.steps_max);
        match taken > self.steps_max {
            true => Err(Spent::Work),
            false => Ok(()),
        }
    }

    /// Keeps so many bytes until they are released.
    ///
    /// # Errors
    /// They are more than are left; then none is kept.
    pub fn keep(&mut self, bytes: usize) -> Result<(), Spent> {
        let kept = self.kept.saturating_add(bytes);
        if kept > self.kept_max {
            return Err(Spent::Memory(self.kept_max));
        }
        self.kept = kept;
        Ok(())
    }

    /// How many bytes may still be kept.
    pub(super) fn left(&self) -> usize {
        self.kept_max - self.kept
    }

    pub fn release(&mut self, bytes: usize) {
        self.kept = self.kept.saturating_sub(bytes);
    }
}

/// About how many bytes a value has as JSON.
pub(super) fn size_of(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) => 4,
        Value::Number(number) => number.as_str().len(),
        Value::String(text) => text.len() + 2,
        Value::Array(items) => items.iter().map(|item| size_of(item) + 1).sum::<usize>() + 2,
        Value::Object(members) => {
            let members = members.iter().map(|(name, value)| name.len() + 4 + size_of(value));
            members.sum::<usize>() + 2
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_spent_is_bounded_by_the_size() {
        let mut budget = Budget::of(1_000);
        let most = KEPT_FREE + 16_000;
        assert_eq!(budget.keep(most + 1), Err(Spent::Memory(most)));
        assert_eq!(budget.keep(most), Ok(()));
        assert_eq!(budget.keep(1), Err(Spent::Memory(most)));
        budget.release(1);
        assert_eq!(budget.keep(1), Ok(()));
        let most = usize::try_from(STEPS_FREE).unwrap() + 128_000;
        assert_eq!(budget.spend(most), Ok(()));
        assert_eq!(budget.spend(1), Err(Spent::Work));
        let ended = Arc::new(AtomicBool::new(false));
        let mut budget = Budget::of(1).until(Arc::clone(&ended));
        assert_eq!(budget.spend(1), Ok(()));
        ended.store(true, Ordering::Relaxed);
        assert_eq!(budget.spend(1), Err(Spent::Time));
    }
}
