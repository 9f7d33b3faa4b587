//! Decides whether a failed look-up is the registry's trouble or the id's own.
//!
//! A registry that is down fails for every id, and whoever needs one waits. A registry that answers for other ids and
//! fails for a single one, each time and for a minute, will fail for it for ever. That id then counts as denied, so
//! that its records don't hold up all others for good.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::lead::schemas::SchemaId;

/// So long an id may fail while others are answered.
pub const DOUBTED_AFTER: Duration = Duration::from_secs(60);
/// So many ids that fail are remembered.
const FAILING_MAX: usize = 4096;
/// An id that no registry has given to a schema yet; one that works denies it.
const NOBODYS: SchemaId = SchemaId::Id(i32::MAX.unsigned_abs());

/// What look-ups have come to so far.
#[derive(Debug, Default)]
pub struct Doubts {
    /// Since when an id fails while the registry answers about others.
    failing: HashMap<SchemaId, Instant>,
    /// An id that has a schema.
    known: Option<SchemaId>,
}

impl Doubts {
    /// The id to ask about when all of `failing` failed: a registry that answers it works.
    pub fn witness(&self, failing: &[SchemaId]) -> SchemaId {
        self.known.filter(|known| !failing.contains(known)).unwrap_or(NOBODYS)
    }

    /// The registry answered about `id`; `known` where it has a schema.
    pub fn answered(&mut self, id: SchemaId, known: bool) {
        self.failing.remove(&id);
        if known {
            self.known = Some(id);
        }
    }

    /// The registry failed for `ids`; `works` where it answered about another meanwhile. Gives those that it will fail
    /// for in the future too. One of them that fails again later is among them at once.
    pub fn failed(&mut self, ids: &[SchemaId], works: bool, now: Instant) -> Vec<SchemaId> {
        if !works {
            self.failing.clear();
            return Vec::new();
        }
        if self.failing.len() + ids.len() > FAILING_MAX {
            self.failing.retain(|id, _| ids.contains(id));
        }
        let doubted = ids.iter().copied().filter(|id| {
            let since = *self.failing.entry(*id).or_insert(now);
            now.saturating_duration_since(since) >= DOUBTED_AFTER
        });
        doubted.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BAD: SchemaId = SchemaId::Id(1);
    const GOOD: SchemaId = SchemaId::Id(2);

    #[test]
    fn an_id_that_alone_keeps_failing_is_doubted_after_a_minute_and_then_at_once() {
        let (mut doubts, start) = (Doubts::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        for seconds in [0, 20, 59] {
            assert!(doubts.failed(&[BAD], true, at(seconds)).is_empty(), "{seconds}");
        }
        assert_eq!(doubts.failed(&[BAD, GOOD], true, at(60)), [BAD]);
        assert_eq!(doubts.failed(&[BAD, GOOD], true, at(61)), [BAD]);
        // An answer takes the doubt away.
        doubts.answered(BAD, true);
        assert!(doubts.failed(&[BAD], true, at(62)).is_empty());
    }

    #[test]
    fn a_registry_that_is_down_dooms_no_id_however_long() {
        let (mut doubts, start) = (Doubts::default(), Instant::now());
        for hours in 0..48 {
            let now = start + Duration::from_secs(hours * 3600);
            assert!(doubts.failed(&[BAD, GOOD], false, now).is_empty());
        }
        // The minute counts from when it works again.
        let back = start + Duration::from_secs(48 * 3600);
        assert!(doubts.failed(&[BAD], true, back).is_empty());
        assert!(doubts.failed(&[BAD], true, back + Duration::from_secs(59)).is_empty());
        assert_eq!(doubts.failed(&[BAD], true, back + DOUBTED_AFTER), [BAD]);
    }

    #[test]
    fn the_witness_is_an_id_with_a_schema_where_one_is_known() {
        let mut doubts = Doubts::default();
        assert_eq!(doubts.witness(&[]), NOBODYS);
        doubts.answered(BAD, false);
        assert_eq!(doubts.witness(&[]), NOBODYS);
        doubts.answered(GOOD, true);
        assert_eq!(doubts.witness(&[BAD]), GOOD);
        assert_eq!(doubts.witness(&[GOOD]), NOBODYS);
    }

    #[test]
    fn no_more_than_so_many_failing_ids_are_remembered() {
        let (mut doubts, now) = (Doubts::default(), Instant::now());
        for id in 0..20_000 {
            doubts.failed(&[SchemaId::Id(id)], true, now);
        }
        assert!(doubts.failing.len() <= FAILING_MAX);
    }
}
