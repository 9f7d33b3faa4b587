//! Slots in the order of their places, in little more than four bytes each: sorted pieces of bounded length. Who holds
//! the entries says what a slot's is.
//!
//! Each piece knows what it holds, in two bytes a slot: how many entries stand how, and which rules and lanes it surely
//! has none of. Whoever looks for something rare passes over whole pieces.

use super::Stands;
use crate::delivery::OutcomeResult;
use crate::desk::page::Place;

/// A slot's place, and the slot itself, so that no two are equal.
pub(super) type Key = (Place, u32);

/// What an entry is looked for by, beside its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Traits {
    pub(super) stands: Stands,
    pub(super) is_test: bool,
    /// The numbers of their names.
    pub(super) rule: u32,
    pub(super) lane: u32,
}

/// Who holds the entries of the slots.
pub(super) trait Entries {
    fn key(&self, slot: u32) -> Key;
    /// These stay as they are for as long as the slot is in the order.
    fn traits(&self, slot: u32) -> Traits;
}

/// What is looked for; none: any.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    pub(super) rule: Option<u32>,
    pub(super) lanes: Option<Vec<u32>>,
    /// Empty: standing like any.
    pub(super) stands: Vec<Stands>,
}

/// The most slots of a piece.
const PIECE_MAX: usize = 1024;
/// A piece with fewer joins its neighbour where both fit.
const PIECE_MIN: usize = PIECE_MAX / 8;

/// Where an entry may stand.
const STANDS: usize = OutcomeResult::ALL.len() + 1;

fn number(stands: Stands) -> usize {
    match stands {
        Stands::Waiting => 0,
        Stands::Is(result) => 1 + result as usize,
    }
}

/// How many entries stand how, in the order of [`number`].
pub(super) type Tally = [u32; STANDS];

/// The entries of a tally, by how they stand.
pub(super) fn by_stands(tally: &Tally) -> impl Iterator<Item = (Stands, u32)> {
    let all = OutcomeResult::ALL.into_iter().map(Stands::Is);
    let all = std::iter::once(Stands::Waiting).chain(all);
    all.map(move |stands| (stands, tally[number(stands)]))
}

/// Numbers of which it is known which are surely not among them: four bits of 8 · [`PIECE_MAX`] for each.
#[derive(Debug, Clone)]
struct Names(Box<[u64; PIECE_MAX / 8]>);

impl Names {
    fn none() -> Self {
        Self(Box::new([0; PIECE_MAX / 8]))
    }

    /// The bits of a number, each as its word and its place there.
    fn bits(name: u32) -> impl Iterator<Item = (usize, u64)> {
        // An odd number near 2⁶⁴ / φ spreads neighbours far apart.
        let spread = (u64::from(name) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        [0, 13, 26, 39].into_iter().map(move |from| {
            let bit = (spread >> (63 - 12 - from)) as usize % (8 * PIECE_MAX);
            (bit / 64, 1 << (bit % 64))
        })
    }

    fn take(&mut self, name: u32) {
        Self::bits(name).for_each(|(word, bit)| self.0[word] |= bit);
    }

    fn may_have(&self, name: u32) -> bool {
        Self::bits(name).all(|(word, bit)| self.0[word] & bit != 0)
    }

    fn join(&mut self, other: &Self) {
        let words = self.0.iter_mut().zip(&*other.0);
        words.for_each(|(word, other)| *word |= other);
    }
}

#[derive(Debug)]
struct Piece {
    slots: Vec<u32>,
    /// Tests, and those that are none.
    tests: Tally,
    matches: Tally,
    /// Those of all that were there since the piece was made.
    rules: Names,
    lanes: Names,
}

impl Piece {
    fn of(slots: impl IntoIterator<Item = u32>, entries: &impl Entries) -> Self {
        let mut piece = Self {
            slots: Vec::with_capacity(PIECE_MAX),
            tests: [0; STANDS],
            matches: [0; STANDS],
            rules: Names::none(),
            lanes: Names::none(),
        };
        for slot in slots {
            piece.insert(piece.slots.len(), slot, entries);
        }
        piece
    }

    fn tally(&mut self, traits: &Traits) -> &mut u32 {
        let tally = if traits.is_test {
            &mut self.tests
        } else {
            &mut self.matches
        };
        &mut tally[number(traits.stands)]
    }

    fn insert(&mut self, place: usize, slot: u32, entries: &impl Entries) {
        let traits = entries.traits(slot);
        self.slots.insert(place, slot);
        *self.tally(&traits) += 1;
        self.rules.take(traits.rule);
        self.lanes.take(traits.lane);
    }

    fn remove(&mut self, place: usize, entries: &impl Entries) {
        let slot = self.slots.remove(place);
        *self.tally(&entries.traits(slot)) -= 1;
    }

    /// Takes in the piece behind it.
    fn join(&mut self, next: &Self) {
        self.slots.extend(&next.slots);
        let tallies = [(&mut self.tests, &next.tests), (&mut self.matches, &next.matches)];
        for (tally, next) in tallies {
            tally.iter_mut().zip(next).for_each(|(count, next)| *count += next);
        }
        self.rules.join(&next.rules);
        self.lanes.join(&next.lanes);
    }

    /// Whether something that is looked for may be here.
    fn may_have(&self, wanted: &Wanted) -> bool {
        let stands = |stands: &Stands| self.tests[number(*stands)] + self.matches[number(*stands)] > 0;
        wanted.rule.is_none_or(|rule| self.rules.may_have(rule))
            && (wanted.stands.is_empty() || wanted.stands.iter().any(stands))
            && (wanted.lanes.as_ref()).is_none_or(|lanes| lanes.iter().any(|lane| self.lanes.may_have(*lane)))
    }
}

#[derive(Debug, Default)]
pub(super) struct Order {
    /// None is empty.
    pieces: Vec<Piece>,
    count: usize,
}

impl Order {
    pub(super) fn len(&self) -> usize {
        self.count
    }

    pub(super) fn first(&self) -> Option<u32> {
        self.pieces.first()?.slots.first().copied()
    }

    /// How many pieces begin at a key or before it.
    fn behind(&self, key: Key, entries: &impl Entries) -> usize {
        self.pieces.partition_point(|piece| entries.key(piece.slots[0]) <= key)
    }

    /// The number of the piece that a slot belongs to, and its place there.
    fn find(&self, slot: u32, entries: &impl Entries) -> (usize, usize) {
        let key = entries.key(slot);
        let number = self.behind(key, entries).saturating_sub(1);
        let place = self
            .pieces
            .get(number)
            .map_or(0, |piece| piece.slots.partition_point(|slot| entries.key(*slot) < key));
        (number, place)
    }

    /// Takes in a slot that isn't there yet.
    pub(super) fn insert(&mut self, slot: u32, entries: &impl Entries) {
        let (number, place) = self.find(slot, entries);
        self.count += 1;
        let last = number + 1 == self.pieces.len();
        let full = self
            .pieces
            .get(number)
            .is_none_or(|piece| piece.slots.len() >= PIECE_MAX);
        match self.pieces.get_mut(number) {
            Some(piece) if !full => piece.insert(place, slot, entries),
            // Most come at the end, where the pieces before stay full.
            Some(piece) if last && place == piece.slots.len() => self.pieces.push(Piece::of([slot], entries)),
            Some(piece) => {
                let slots = std::mem::take(&mut piece.slots);
                let (lower, upper) = slots.split_at(PIECE_MAX / 2);
                *piece = Piece::of(lower.iter().copied(), entries);
                let mut upper = Piece::of(upper.iter().copied(), entries);
                match place.checked_sub(PIECE_MAX / 2) {
                    Some(place) => upper.insert(place, slot, entries),
                    None => piece.insert(place, slot, entries),
                }
                self.pieces.insert(number + 1, upper);
            }
            None => self.pieces.push(Piece::of([slot], entries)),
        }
    }

    /// Lets a slot go, as long as its entry is what it was.
    pub(super) fn remove(&mut self, slot: u32, entries: &impl Entries) {
        let (number, place) = self.find(slot, entries);
        let Some(piece) = self
            .pieces
            .get_mut(number)
            .filter(|piece| piece.slots.get(place) == Some(&slot))
        else {
            return;
        };
        piece.remove(place, entries);
        self.count -= 1;
        let left = piece.slots.len();
        if left == 0 {
            self.pieces.remove(number);
        } else if left < PIECE_MIN
            && let Some(next) = self.pieces.get(number + 1).map(|next| next.slots.len())
            && left + next <= PIECE_MAX
        {
            let next = self.pieces.remove(number + 1);
            self.pieces[number].join(&next);
        }
    }

    /// The slots up to a key, the greatest first. Pieces that have surely nothing of what is wanted are left out.
    pub(super) fn down_from(&self, key: Key, wanted: Wanted, entries: &impl Entries) -> impl Iterator<Item = u32> {
        let pieces = &self.pieces[..self.behind(key, entries)];
        let cut = pieces
            .last()
            .map_or(0, |last| last.slots.partition_point(|slot| entries.key(*slot) <= key));
        let whole = pieces.len().saturating_sub(1);
        let pieces = pieces.iter().enumerate().rev();
        let pieces = pieces.filter(move |(_, piece)| piece.may_have(&wanted));
        pieces.flat_map(move |(number, piece)| {
            let until = if number == whole { cut } else { piece.slots.len() };
            piece.slots[..until].iter().rev().copied()
        })
    }

    /// How those from a place on stand that are no tests. All of a piece are counted at once.
    pub(super) fn tally(&self, from: Place, entries: &impl Entries) -> Tally {
        let mut tally = [0; STANDS];
        let first = self.behind((from, 0), entries).saturating_sub(1);
        for (number_of, piece) in self.pieces.iter().enumerate().skip(first) {
            if number_of > first {
                tally
                    .iter_mut()
                    .zip(&piece.matches)
                    .for_each(|(count, more)| *count += more);
                continue;
            }
            let behind = piece.slots.partition_point(|slot| entries.key(*slot).0 < from);
            let traits = piece.slots[behind..].iter().map(|slot| entries.traits(*slot));
            traits
                .filter(|traits| !traits.is_test)
                .for_each(|traits| tally[number(traits.stands)] += 1);
        }
        tally
    }
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

    /// Entries whose traits follow from their slots.
    struct Times(Vec<Place>);

    impl Entries for Times {
        fn key(&self, slot: u32) -> Key {
            (self.0[slot as usize], slot)
        }

        fn traits(&self, slot: u32) -> Traits {
            let results = OutcomeResult::ALL;
            Traits {
                stands: Stands::Is(results[slot as usize % results.len()]),
                is_test: slot.is_multiple_of(7),
                rule: slot % 1000,
                lane: slot % 50,
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(30))]
        #[test]
        fn it_is_a_sorted_set(steps in prop::collection::vec((0i64..400, 0u32..5000, 0u8..10), 0..6000), in_turn in any::<bool>(), below in 0i64..400, one in 0u32..1000) {
            let mut times = Times(vec![place(0); 5000]);
            let (mut order, mut set) = (Order::default(), BTreeSet::new());
            for (turn, (at, slot, step)) in steps.into_iter().enumerate() {
                let at = place(if in_turn { turn as i64 / 16 } else { at });
                let there = set.contains(&times.key(slot));
                if there {
                    order.remove(slot, &times);
                    set.remove(&times.key(slot));
                }
                if !there || step > 6 {
                    times.0[slot as usize] = at;
                    order.insert(slot, &times);
                    set.insert((at, slot));
                }
            }
            prop_assert_eq!(order.len(), set.len());
            prop_assert_eq!(order.first(), set.first().map(|(_, slot)| *slot));
            let down: Vec<u32> = set.range(..=(place(below), u32::MAX)).rev().map(|(_, slot)| *slot).collect();
            let below_key = (place(below), u32::MAX);
            prop_assert_eq!(&order.down_from(below_key, Wanted::default(), &times).collect::<Vec<_>>(), &down);
            let Traits { stands, rule, lane, .. } = times.traits(one);
            type Is = fn(&Traits, &Traits) -> bool;
            let questions: [(Wanted, Is); 3] = [
                (Wanted { rule: Some(rule), ..Wanted::default() }, |found, one| found.rule == one.rule),
                (Wanted { lanes: Some(vec![lane]), ..Wanted::default() }, |found, one| found.lane == one.lane),
                (Wanted { stands: vec![stands], ..Wanted::default() }, |found, one| found.stands == one.stands),
            ];
            for (wanted, is) in questions {
                let is_it = |slot: &u32| is(&times.traits(*slot), &times.traits(one));
                let found: Vec<u32> = order.down_from(below_key, wanted, &times).filter(is_it).collect();
                prop_assert_eq!(found, down.iter().copied().filter(is_it).collect::<Vec<_>>());
            }
            let mut tally = [0; STANDS];
            let from = set.range((place(below), 0)..).map(|(_, slot)| times.traits(*slot));
            from.filter(|traits| !traits.is_test).for_each(|traits| tally[number(traits.stands)] += 1);
            prop_assert_eq!(order.tally(place(below), &times), tally);
            prop_assert!(order.pieces.iter().all(|piece| !piece.slots.is_empty() && piece.slots.len() <= PIECE_MAX));
            let few = order.pieces.windows(2).filter(|two| two[0].slots.len() + two[1].slots.len() <= PIECE_MIN).count();
            prop_assert!(few <= order.pieces.len() / 2);
        }
    }
}
