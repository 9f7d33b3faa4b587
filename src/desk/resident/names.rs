//! Names that many entries share, each kept once, for as long as somebody holds it.

use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;

#[derive(Debug, Default)]
pub(super) struct Names {
    by_number: Vec<Held>,
    /// The numbers, found by what they stand for.
    numbers: HashTable<u32>,
    free: Vec<u32>,
    hasher: RandomState,
}

#[derive(Debug, Default)]
struct Held {
    name: Box<str>,
    holders: u32,
}

impl Names {
    /// The number of a name, which is one holder's until that [releases](Self::release) it.
    pub(super) fn hold(&mut self, name: &str) -> u32 {
        if let Some(number) = self.number(name) {
            self.hold_too(number);
            return number;
        }
        let held = Held {
            name: name.into(),
            holders: 1,
        };
        let number = self.free.pop().unwrap_or_else(|| {
            self.by_number.push(Held::default());
            u32::try_from(self.by_number.len() - 1).unwrap_or(u32::MAX)
        });
        self.by_number[number as usize] = held;
        let (by_number, hasher) = (&self.by_number, &self.hasher);
        let hash = |number: &u32| hasher.hash_one(&*by_number[*number as usize].name);
        self.numbers.insert_unique(hash(&number), number, hash);
        number
    }

    /// One more holder of a name that is held.
    pub(super) fn hold_too(&mut self, number: u32) {
        self.by_number[number as usize].holders += 1;
    }

    pub(super) fn release(&mut self, number: u32) {
        let held = &mut self.by_number[number as usize];
        held.holders -= 1;
        if held.holders == 0 {
            let name = std::mem::take(held).name;
            let hash = self.hasher.hash_one(&*name);
            if let Ok(found) = self.numbers.find_entry(hash, |other| *other == number) {
                found.remove();
            }
            self.free.push(number);
        }
    }

    pub(super) fn number(&self, name: &str) -> Option<u32> {
        let is_it = |number: &u32| *self.by_number[*number as usize].name == *name;
        self.numbers.find(self.hasher.hash_one(name), is_it).copied()
    }

    pub(super) fn name(&self, number: u32) -> &str {
        &self.by_number[number as usize].name
    }

    /// Every name with its number.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, u32)> {
        self.numbers.iter().map(|number| (self.name(*number), *number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_kept_once_and_goes_with_its_last_holder() {
        let mut names = Names::default();
        let (a, b) = (names.hold("a"), names.hold("b"));
        assert_eq!((names.hold("a"), names.name(a), names.name(b)), (a, "a", "b"));
        names.release(a);
        assert_eq!(names.number("a"), Some(a));
        names.release(a);
        assert_eq!((names.number("a"), names.hold("c"), names.name(a)), (None, a, "c"));
        assert_eq!(names.iter().count(), 2);
    }
}
