//! A set of offsets that takes little room where they are neighbours.

use std::collections::BTreeMap;

/// Offsets of one partition, as runs: the first of each, and what is behind its last.
#[derive(Debug, Default)]
pub(super) struct Offsets {
    runs: BTreeMap<i64, i64>,
}

impl Offsets {
    pub(super) fn insert(&mut self, offset: i64) {
        let before = self.runs.range_mut(..=offset).next_back();
        let joined = match before {
            Some((_, end)) if *end > offset => return,
            Some((_, end)) if *end == offset => {
                *end = offset + 1;
                true
            }
            _ => false,
        };
        let behind = self.runs.remove(&(offset + 1));
        if let Some(end) = behind.filter(|_| joined) {
            *self.runs.range_mut(..=offset).next_back().expect("it was joined").1 = end;
        } else if !joined {
            self.runs.insert(offset, behind.unwrap_or(offset + 1));
        }
    }

    pub(super) fn contains(&self, offset: i64) -> bool {
        self.runs
            .range(..=offset)
            .next_back()
            .is_some_and(|(_, end)| *end > offset)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_holds_what_a_plain_set_holds(inserted in prop::collection::vec(0i64..40, 0..60)) {
            let (mut offsets, mut plain) = (Offsets::default(), BTreeSet::new());
            for offset in inserted {
                offsets.insert(offset);
                plain.insert(offset);
            }
            for offset in -1..41 {
                prop_assert_eq!(offsets.contains(offset), plain.contains(&offset), "{}", offset);
            }
            // Neighbours share a run.
            let runs = plain.iter().filter(|offset| !plain.contains(&(**offset - 1))).count();
            prop_assert_eq!(offsets.runs.len(), runs);
        }
    }
}
