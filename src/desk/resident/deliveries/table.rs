//! The entries of deliveries and what they are found by: a job's id, an event's, a lead's, and time.
//!
//! An entry has a slot for as long as it is there. The indexes hold slots alone, and compare by the entries
//! themselves, so that an id is kept once. All entries of one event, or of one lead, are a chain, whose newest link
//! the index has: however many there are, an entry comes and goes in a few steps.

use std::hash::{BuildHasher, RandomState};
use std::ops::{Index, IndexMut};

use hashbrown::HashTable;

use super::super::ids::{Ids, Which, packed};
use super::order::{Entries, Key, Order, Tally, Traits, Wanted};
use super::{Entry, TEST};
use crate::desk::page::Place;

/// No slot.
pub(super) const NONE: u32 = u32::MAX;

/// An entry's neighbours in a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Link {
    older: u32,
    newer: u32,
}

impl Link {
    pub(super) const FREE: Self = Self {
        older: NONE,
        newer: NONE,
    };
}

/// Entries by their slots, in pieces: to take one in moves no other, and leaves room for few.
#[derive(Debug, Default)]
struct Slots(Vec<Vec<Entry>>);

/// So many slots are in a piece.
const PIECE: usize = 4096;

impl Slots {
    /// The slot of an entry that is put behind all others.
    fn push(&mut self, entry: Entry) -> usize {
        if self.0.last().is_none_or(|piece| piece.len() == PIECE) {
            self.0.push(Vec::with_capacity(PIECE));
        }
        let before = (self.0.len() - 1) * PIECE;
        let Some(piece) = self.0.last_mut() else {
            return before;
        };
        piece.push(entry);
        before + piece.len() - 1
    }
}

impl Index<u32> for Slots {
    type Output = Entry;

    fn index(&self, slot: u32) -> &Entry {
        let slot = slot as usize;
        &self.0[slot / PIECE][slot % PIECE]
    }
}

impl IndexMut<u32> for Slots {
    fn index_mut(&mut self, slot: u32) -> &mut Entry {
        let slot = slot as usize;
        &mut self.0[slot / PIECE][slot % PIECE]
    }
}

impl Entries for Slots {
    fn key(&self, slot: u32) -> Key {
        (self[slot].place(), slot)
    }

    fn traits(&self, slot: u32) -> Traits {
        let entry = &self[slot];
        Traits {
            stands: entry.stands(),
            is_test: entry.is(TEST),
            rule: entry.rule,
            lane: entry.lane,
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Table {
    entries: Slots,
    free: Vec<u32>,
    by_place: Order,
    by_job: HashTable<u32>,
    /// The newest link of each chain, by [`Which`].
    heads: [HashTable<u32>; 2],
    hasher: RandomState,
}

impl Table {
    pub(super) fn len(&self) -> usize {
        self.by_place.len()
    }

    pub(super) fn get(&self, slot: u32) -> &Entry {
        &self.entries[slot]
    }

    /// Its ids stay as they are, and everything else does unless it is [out](Self::take_out).
    pub(super) fn get_mut(&mut self, slot: u32) -> &mut Entry {
        &mut self.entries[slot]
    }

    pub(super) fn find(&self, job: &[u8; 16]) -> Option<u32> {
        let hash = self.hasher.hash_one(job);
        self.by_job.find(hash, |slot| self.get(*slot).id == *job).copied()
    }

    /// Takes in an entry, which is out of the order of places as yet.
    pub(super) fn insert(&mut self, entry: Entry) -> u32 {
        let id = entry.id;
        let slot = match self.free.pop() {
            Some(slot) => {
                self.entries[slot] = entry;
                slot
            }
            None => u32::try_from(self.entries.push(entry)).expect("the configuration allows fewer deliveries"),
        };
        let (entries, hasher) = (&self.entries, &self.hasher);
        let of_job = |slot: &u32| hasher.hash_one(entries[*slot].id);
        self.by_job.insert_unique(hasher.hash_one(id), slot, of_job);
        self.link(slot, Which::Event);
        self.link(slot, Which::Lead);
        slot
    }

    /// Takes an entry out of the order of places, before its own changes.
    pub(super) fn take_out(&mut self, slot: u32) {
        self.by_place.remove(slot, &self.entries);
    }

    /// Puts it in again.
    pub(super) fn put_in(&mut self, slot: u32) {
        self.by_place.insert(slot, &self.entries);
    }

    pub(super) fn oldest(&self) -> Option<u32> {
        self.by_place.first()
    }

    pub(super) fn remove(&mut self, slot: u32) {
        self.unlink(slot, Which::Event);
        self.unlink(slot, Which::Lead);
        let id = self.get(slot).id;
        self.by_place.remove(slot, &self.entries);
        let hash = self.hasher.hash_one(id);
        if let Ok(found) = self.by_job.find_entry(hash, |other| *other == slot) {
            found.remove();
        }
        // A long id goes with its entry.
        self.get_mut(slot).ids = Ids::of("", "");
        self.free.push(slot);
    }

    /// Slots from the newest to the oldest, of the places up to `below`: all that are wanted, and few others.
    pub(super) fn newest(&self, below: Place, wanted: Wanted) -> impl Iterator<Item = u32> {
        self.by_place.down_from((below, NONE), wanted, &self.entries)
    }

    /// How those from a place on stand, tests aside.
    pub(super) fn tally(&self, from: Place) -> Tally {
        self.by_place.tally(from, &self.entries)
    }

    /// The slots of one event, or of one lead, in no order that counts.
    pub(super) fn chain(&self, which: Which, id: &str) -> impl Iterator<Item = u32> {
        let id = packed(id);
        let is_it = |slot: &u32| self.get(*slot).ids.packed(which) == id;
        let head = self.heads[which as usize].find(self.hasher.hash_one(&*id), is_it);
        let is_one = |slot: u32| (slot != NONE).then_some(slot);
        std::iter::successors(head.copied(), move |slot| {
            is_one(self.get(*slot).links[which as usize].older)
        })
    }

    fn link(&mut self, slot: u32, which: Which) {
        let (entries, hasher, of) = (&self.entries, &self.hasher, which as usize);
        let id = |slot: u32| entries[slot].ids.packed(which);
        let hash = |slot: &u32| hasher.hash_one(id(*slot));
        let heads = &mut self.heads[of];
        let older = match heads.find_mut(hash(&slot), |other| id(*other) == id(slot)) {
            Some(head) => std::mem::replace(head, slot),
            None => {
                heads.insert_unique(hash(&slot), slot, hash);
                NONE
            }
        };
        self.get_mut(slot).links[of] = Link { older, newer: NONE };
        if older != NONE {
            self.get_mut(older).links[of].newer = slot;
        }
    }

    fn unlink(&mut self, slot: u32, which: Which) {
        let of = which as usize;
        let Link { older, newer } = self.get(slot).links[of];
        if older != NONE {
            self.get_mut(older).links[of].newer = newer;
        }
        if newer != NONE {
            self.get_mut(newer).links[of].older = older;
            return;
        }
        let hash = self.hasher.hash_one(self.get(slot).ids.packed(which));
        if let Ok(mut head) = self.heads[of].find_entry(hash, |other| *other == slot) {
            match older {
                NONE => drop(head.remove()),
                older => *head.get_mut() = older,
            }
        }
    }
}
