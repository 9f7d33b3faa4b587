//! What follows an aborted batch: how much is read again at once, and how soon.
//!
//! Kafka says which topic refuses a record, but not for which of the records that we read. So what comes again is
//! halved until it is one record, whose writes are then waited for one by one. An abort that no record causes is
//! tried again as it was, ever more slowly.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::kafka::worker::{RecordPlace, Write};

const WAIT_FIRST: Duration = Duration::from_millis(100);
const WAIT_MAX: Duration = Duration::from_secs(5);

/// What is known of the aborts so far.
#[derive(Debug, Default)]
pub(super) struct Recovery {
    /// One of so many records that come next is at fault; 0 while none is.
    among: usize,
    /// The writes that Kafka refused, of records that were read alone.
    refused: BTreeMap<RecordPlace, BTreeSet<Write>>,
    /// Aborts in a row that no record caused.
    in_vain: u32,
}

impl Recovery {
    /// How many records the next batch may have, of `usual` ones.
    pub(super) fn batch_max(&self, usual: usize) -> usize {
        match self.among {
            0 => usual,
            among => among.div_ceil(2).min(usual),
        }
    }

    /// Whether the next batch is one record, so that its refused writes can be told.
    pub(super) fn is_single(&self) -> bool {
        matches!(self.among, 1 | 2)
    }

    /// The writes of a record that Kafka is known to refuse.
    pub(super) fn refused_of(&self, place: RecordPlace) -> BTreeSet<Write> {
        self.refused.get(&place).cloned().unwrap_or_default()
    }

    /// A batch was committed.
    pub(super) fn committed(&mut self, batch: &[RecordPlace]) {
        self.in_vain = 0;
        self.among = self.among.saturating_sub(batch.len());
        if !self.refused.is_empty() {
            batch.iter().for_each(|place| drop(self.refused.remove(place)));
        }
    }

    /// A batch was aborted because Kafka refused a record of it: `write`, where each was waited for.
    pub(super) fn refused(&mut self, batch: &[RecordPlace], write: Option<Write>) {
        self.among = batch.len().max(1);
        if let ([place], Some(write)) = (batch, write) {
            self.refused.entry(*place).or_default().insert(write);
        }
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
        let (mut recovery, mut next, mut aborts, mut dead) = (Recovery::default(), 0, 0, Vec::new());
        while next < count {
            let until = (next + recovery.batch_max(count)).min(count);
            let batch: Vec<RecordPlace> = (next..until).map(place).collect();
            let known = |offset: &usize| !recovery.refused_of(place(*offset)).is_empty();
            let hit = (next..until).find(|offset| bad.contains(offset) && !known(offset));
            if hit.is_some() {
                assert!(aborts < 10_000, "it comes to an end");
                aborts += 1;
                let write = (recovery.is_single() && batch.len() == 1).then(|| Write::nth(0));
                recovery.refused(&batch, write);
            } else {
                dead.extend((next..until).filter(known));
                recovery.committed(&batch);
                next = until;
            }
        }
        assert!(recovery.refused.is_empty(), "nothing is kept of what is done");
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

    proptest! {
        #[test]
        fn each_refused_record_is_found_and_no_other(count in 1..300_usize, picked in proptest::collection::btree_set(0..300_usize, 0..6)) {
            let bad: BTreeSet<usize> = picked.into_iter().filter(|at| *at < count).collect();
            let (aborts, dead) = worked(count, &bad);
            prop_assert_eq!(dead, Vec::from_iter(bad.iter().copied()));
            prop_assert!(aborts <= bad.len() * 12, "{} aborts for {}", aborts, bad.len());
        }
    }
}
