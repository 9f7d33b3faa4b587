//! Slots in the order of their places, in little more than four bytes each: sorted pieces of bounded length. Who holds
//! the places says what a slot's is.

use crate::desk::page::Place;

/// A slot's place, and the slot itself, so that no two are equal.
pub(super) type Key = (Place, u32);

/// The most slots of a piece.
const PIECE_MAX: usize = 1024;
/// A piece with fewer joins its neighbour where both fit.
const PIECE_MIN: usize = PIECE_MAX / 8;

#[derive(Debug, Default)]
pub(super) struct Order {
    /// None is empty.
    pieces: Vec<Vec<u32>>,
    count: usize,
}

impl Order {
    pub(super) fn len(&self) -> usize {
        self.count
    }

    pub(super) fn first(&self) -> Option<u32> {
        self.pieces.first()?.first().copied()
    }

    /// The number of the piece that a key belongs to, and its place there.
    fn find(&self, key: Key, of: impl Fn(u32) -> Key) -> (usize, usize) {
        let behind = self.pieces.partition_point(|piece| of(piece[0]) <= key);
        let number = behind.saturating_sub(1);
        let place = self
            .pieces
            .get(number)
            .map_or(0, |piece| piece.partition_point(|slot| of(*slot) < key));
        (number, place)
    }

    /// Takes in a slot that isn't there yet.
    pub(super) fn insert(&mut self, slot: u32, of: impl Fn(u32) -> Key) {
        let (number, place) = self.find(of(slot), of);
        self.count += 1;
        let last = number + 1 == self.pieces.len();
        let full = self.pieces.get(number).is_none_or(|piece| piece.len() >= PIECE_MAX);
        match self.pieces.get_mut(number) {
            Some(piece) if !full => piece.insert(place, slot),
            // Most come at the end, where the pieces before stay full.
            Some(piece) if last && place == piece.len() => self.pieces.push(new([slot])),
            Some(piece) => {
                let mut upper = new(piece.split_off(PIECE_MAX / 2));
                match place.checked_sub(PIECE_MAX / 2) {
                    Some(place) => upper.insert(place, slot),
                    None => piece.insert(place, slot),
                }
                self.pieces.insert(number + 1, upper);
            }
            None => self.pieces.push(new([slot])),
        }
    }

    /// Lets a slot go, as long as its key is what it was.
    pub(super) fn remove(&mut self, slot: u32, of: impl Fn(u32) -> Key) {
        let (number, place) = self.find(of(slot), of);
        let Some(piece) = self
            .pieces
            .get_mut(number)
            .filter(|piece| piece.get(place) == Some(&slot))
        else {
            return;
        };
        piece.remove(place);
        self.count -= 1;
        let left = piece.len();
        if left == 0 {
            self.pieces.remove(number);
        } else if left < PIECE_MIN
            && let Some(next) = self.pieces.get(number + 1).map(Vec::len)
            && left + next <= PIECE_MAX
        {
            let next = self.pieces.remove(number + 1);
            self.pieces[number].extend(next);
        }
    }

    /// The slots up to a key, the greatest first.
    pub(super) fn down_from(&self, key: Key, of: impl Fn(u32) -> Key) -> impl Iterator<Item = u32> {
        let behind = self.pieces.partition_point(|piece| of(piece[0]) <= key);
        let (pieces, last) = match behind.checked_sub(1) {
            Some(last) => (&self.pieces[..last], self.pieces[last].as_slice()),
            None => (&self.pieces[..0], [].as_slice()),
        };
        let last = &last[..last.partition_point(|slot| of(*slot) <= key)];
        let before = pieces.iter().rev().flat_map(|piece| piece.iter().rev());
        last.iter().rev().chain(before).copied()
    }
}

fn new(slots: impl IntoIterator<Item = u32>) -> Vec<u32> {
    let mut piece = Vec::with_capacity(PIECE_MAX);
    piece.extend(slots);
    piece
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn place(at: i64) -> Place {
        Place {
            at,
            partition: 0,
            offset: 0,
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(30))]
        #[test]
        fn it_is_a_sorted_set(steps in prop::collection::vec((0i64..400, 0u32..5000, 0u8..10), 0..6000), in_turn in any::<bool>(), below in 0i64..400) {
            let mut times = vec![place(0); 5000];
            let (mut order, mut set) = (Order::default(), BTreeSet::new());
            for (turn, (at, slot, step)) in steps.into_iter().enumerate() {
                let at = place(if in_turn { turn as i64 / 16 } else { at });
                let there = set.contains(&(times[slot as usize], slot));
                if there {
                    order.remove(slot, |slot| (times[slot as usize], slot));
                    set.remove(&(times[slot as usize], slot));
                }
                if !there || step > 6 {
                    times[slot as usize] = at;
                    order.insert(slot, |slot| (times[slot as usize], slot));
                    set.insert((at, slot));
                }
            }
            let of = |slot: u32| (times[slot as usize], slot);
            prop_assert_eq!(order.len(), set.len());
            prop_assert_eq!(order.first(), set.first().map(|(_, slot)| *slot));
            let wanted: Vec<u32> = set.range(..=(place(below), u32::MAX)).rev().map(|(_, slot)| *slot).collect();
            prop_assert_eq!(order.down_from((place(below), u32::MAX), of).collect::<Vec<_>>(), wanted);
            prop_assert!(order.pieces.iter().all(|piece| !piece.is_empty() && piece.len() <= PIECE_MAX));
            let few = order.pieces.windows(2).filter(|two| two[0].len() + two[1].len() <= PIECE_MIN).count();
            prop_assert!(few <= order.pieces.len() / 2);
        }
    }
}
