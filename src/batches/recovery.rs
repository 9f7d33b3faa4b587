//! Decides what follows an aborted batch: how many of its records are read again at once, and how soon.
//!
//! Kafka names the topic that refuses a record, but not the record that we read. So the loop reads half as many
//! records again, then half of those, until a single record is left; it then waits for each write of that record. An
//! abort that no record causes is tried again with the same batch, ever more slowly.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::kafka::worker::{RecordPlace, Write};

const WAIT_FIRST: Duration = Duration::from_millis(100);
const WAIT_MAX: Duration = Duration::from_secs(5);

/// So many refused writes a record may have before it is slowed down: each costs an abort.
const REFUSED_MAX: usize = 1000;

/// The aborts so far.
#[derive(Debug, Default)]
pub(super) struct Recovery {
    /// The records of the last refused batch that aren't committed yet: one of them is at fault.
    among: BTreeSet<RecordPlace>,
    /// The writes that Kafka refused, of records that were read alone.
    refused: BTreeMap<RecordPlace, BTreeSet<Write>>,
    /// Aborts in a row that no record caused.
    in_vain: u32,
}

impl Recovery {
    /// How many records the next batch may have, of `usual` ones.
    pub(super) fn batch_max(&self, usual: usize) -> usize {
        match self.among.len() {
            0 => usual,
            among => among.div_ceil(2).min(usual),
        }
    }

    /// Whether the last batch was aborted, so that the next depends on how this one ends.
    pub(super) fn is_at_work(&self) -> bool {
        self.in_vain > 0 || !self.among.is_empty()
    }

    /// Whether the next batch is one record, so that each of its refused writes is known.
    pub(super) fn is_single(&self) -> bool {
        matches!(self.among.len(), 1 | 2)
    }

    /// The writes of a record that Kafka is known to refuse.
    pub(super) fn refused_of(&self, place: RecordPlace) -> BTreeSet<Write> {
        self.refused.get(&place).cloned().unwrap_or_default()
    }

    /// A batch was committed.
    pub(super) fn committed(&mut self, batch: &[RecordPlace]) {
        self.in_vain = 0;
        // Up to where each partition is done; retention may have taken some of them meanwhile.
        let done: BTreeMap<(usize, i32), i64> = (batch.iter())
            .map(|place| ((place.topic, place.partition), place.offset))
            .collect();
        let is_done = |place: &RecordPlace| {
            let done = done.get(&(place.topic, place.partition));
            done.is_some_and(|done| place.offset <= *done)
        };
        self.among.retain(|place| !is_done(place));
        if !self.refused.is_empty() {
            batch.iter().for_each(|place| drop(self.refused.remove(place)));
        }
    }

    /// A batch was aborted because Kafka refused a record of it: `write`, where each was waited for. Gives how long to
    /// wait, where that brings it no further.
    pub(super) fn refused(&mut self, batch: &[RecordPlace], write: Option<Write>) -> Option<Duration> {
        self.among = batch.iter().copied().collect();
        let ([place], Some(write)) = (batch, write) else {
            return batch.is_empty().then(|| self.in_vain());
        };
        let refused = self.refused.entry(*place).or_default();
        let is_news = refused.insert(write);
        (!is_news || refused.len() > REFUSED_MAX).then(|| self.in_vain())
    }

    /// A partition has another owner, who finds out about its records.
    pub(super) fn revoked(&mut self, is_gone: impl Fn(&RecordPlace) -> bool) {
        self.among.retain(|place| !is_gone(place));
        self.refused.retain(|place, _| !is_gone(place));
    }

    /// A batch was aborted for what no record is to blame for. Gives how long to wait.
    pub(super) fn in_vain(&mut self) -> Duration {
        let wait = WAIT_FIRST * 2_u32.saturating_pow(self.in_vain.min(16));
        self.in_vain += 1;
        wait.min(WAIT_MAX)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn place(offset: usize) -> RecordPlace {
        RecordPlace {
            topic: 0,
            partition: 0,
            offset: i64::try_from(offset).unwrap(),
        }
    }

    /// Reads `count` records of which Kafka refuses what is written of some, until all are committed. Gives how often
    /// it was aborted, and which records got their dead letter.
    fn worked(count: usize, bad: &BTreeSet<usize>) -> (usize, Vec<usize>) {
        let bad = bad.iter().map(|offset| place(*offset)).collect();
        let (aborts, dead) = worked_on(&[(0..count).map(place).collect()], &bad, || 0);
        (
            aborts,
            dead.iter()
                .map(|place| usize::try_from(place.offset).unwrap())
                .collect(),
        )
    }

    /// The same with several partitions; `next` chooses the partition of the next record.
    fn worked_on(
        partitions: &[Vec<RecordPlace>],
        bad: &BTreeSet<RecordPlace>,
        mut next: impl FnMut() -> usize,
    ) -> (usize, Vec<RecordPlace>) {
        let count: usize = partitions.iter().map(Vec::len).sum();
        let mut left: Vec<&[RecordPlace]> = partitions.iter().map(Vec::as_slice).collect();
        let (mut recovery, mut aborts, mut dead) = (Recovery::default(), 0, Vec::new());
        while left.iter().any(|left| !left.is_empty()) {
            let (mut batch, before) = (Vec::new(), left.clone());
            while batch.len() < recovery.batch_max(count) && left.iter().any(|left| !left.is_empty()) {
                let from = next() % left.len();
                if let Some((first, rest)) = left[from].split_first() {
                    batch.push(*first);
                    left[from] = rest;
                }
            }
            let known = |place: &RecordPlace| !recovery.refused_of(*place).is_empty();
            if batch.iter().any(|place| bad.contains(place) && !known(place)) {
                assert!(aborts < 10_000, "it comes to an end");
                aborts += 1;
                let write = (recovery.is_single() && batch.len() == 1).then(|| Write::nth(0));
                assert_eq!(recovery.refused(&batch, write), None);
                left = before;
            } else {
                dead.extend(batch.iter().copied().filter(known));
                recovery.committed(&batch);
            }
        }
        assert!(recovery.refused.is_empty(), "nothing is kept of what is done");
        assert!(recovery.among.is_empty());
        (aborts, dead)
    }

    #[test]
    fn a_record_that_is_refused_is_found_by_halving() {
        assert_eq!(worked(1000, &BTreeSet::new()), (0, Vec::new()));
        for at in [0, 1, 499, 500, 998, 999] {
            let (aborts, dead) = worked(1000, &BTreeSet::from([at]));
            assert_eq!(dead, [at]);
            // The whole once, ten halves, and the record alone.
            assert!(aborts <= 12, "{aborts}");
        }
        let (aborts, dead) = worked(1, &BTreeSet::from([0]));
        assert_eq!((aborts, dead), (2, vec![0]), "once in the batch, once alone");
    }

    #[test]
    fn what_no_record_causes_is_tried_again_ever_more_slowly_and_blames_none() {
        let mut recovery = Recovery::default();
        let waits: Vec<_> = (0..40).map(|_| recovery.in_vain().as_millis()).collect();
        assert_eq!(waits[..7], [100, 200, 400, 800, 1600, 3200, 5000]);
        assert!(waits[7..].iter().all(|wait| *wait == 5000));
        assert_eq!((recovery.batch_max(50), recovery.is_single()), (50, false));
        recovery.committed(&[place(0)]);
        assert_eq!(recovery.in_vain().as_millis(), 100);
    }

    #[test]
    fn a_record_that_is_refused_again_and_again_is_tried_ever_more_slowly() {
        let mut recovery = Recovery::default();
        let batch = [place(7)];
        assert_eq!(recovery.refused(&batch, Some(Write::nth(0))), None);
        assert!(
            recovery.refused(&batch, Some(Write::nth(0))).is_some(),
            "that was known"
        );
        assert!(recovery.refused(&[], None).is_some());
        let mut recovery = Recovery::default();
        let waits: Vec<_> = (0..REFUSED_MAX + 3)
            .map(|number| recovery.refused(&batch, Some(Write::nth(number))))
            .collect();
        assert!(waits[..REFUSED_MAX].iter().all(Option::is_none));
        assert!(waits[REFUSED_MAX] < waits[REFUSED_MAX + 1] && waits[REFUSED_MAX + 1] < waits[REFUSED_MAX + 2]);
    }

    #[test]
    fn what_went_to_another_owner_or_to_retention_slows_nobody_down() {
        let batch: Vec<RecordPlace> = (0..100).map(place).collect();
        let mut recovery = Recovery::default();
        recovery.refused(&batch, None);
        recovery.committed(&[RecordPlace {
            partition: 1,
            ..place(500)
        }]);
        assert_eq!(recovery.batch_max(1000), 50, "that says nothing of them");
        recovery.revoked(|place| place.partition == 0);
        assert_eq!(recovery.batch_max(1000), 1000);
        recovery.refused(&batch, None);
        recovery.committed(&[place(200)]);
        assert_eq!(recovery.batch_max(1000), 1000);
    }

    proptest! {
        /// However the records of two partitions come, each abort but a record's last halves what is left.
        #[test]
        fn others_between_them_use_nothing_up(count in 1..200_usize, bad in 0..200_usize, seed: u64) {
            let other = |offset| RecordPlace { partition: 1, ..place(offset) };
            let bad = place(bad % count);
            let partitions = [(0..count).map(place).collect(), (0..2_000).map(other).collect()];
            let mut rng = fastrand::Rng::with_seed(seed);
            // Another partition's records come as a flood in between.
            let mut left = 0;
            let mut number = 0;
            let next = || {
                if left == 0 {
                    (number, left) = (rng.usize(..2), rng.usize(1..50));
                }
                left -= 1;
                number
            };
            let (aborts, dead) = worked_on(&partitions, &BTreeSet::from([bad]), next);
            prop_assert_eq!(dead, vec![bad]);
            prop_assert!(aborts <= 13, "{}", aborts);
        }

        #[test]
        fn each_refused_record_is_found_and_no_other(count in 1..300_usize, picked in proptest::collection::btree_set(0..300_usize, 0..6)) {
            let bad: BTreeSet<usize> = picked.into_iter().filter(|at| *at < count).collect();
            let (aborts, dead) = worked(count, &bad);
            prop_assert_eq!(dead, Vec::from_iter(bad.iter().copied()));
            prop_assert!(aborts <= bad.len() * 12, "{} aborts for {}", aborts, bad.len());
        }
    }
}
