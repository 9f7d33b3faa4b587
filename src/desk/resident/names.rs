//! Names that many entries share, each kept once, for as long as somebody holds it.

use std::collections::HashMap;
use std::sync::Arc;

#[derive(Debug, Default)]
pub(super) struct Names {
    by_number: Vec<Held>,
    numbers: HashMap<Arc<str>, u32>,
    free: Vec<u32>,
}

#[derive(Debug, Default)]
struct Held {
    name: Arc<str>,
    holders: u32,
}

impl Names {
    /// The number of a name, which is one holder's until that [releases](Self::release) it.
    pub(super) fn hold(&mut self, name: &str) -> u32 {
        if let Some(&number) = self.numbers.get(name) {
            self.by_number[number as usize].holders += 1;
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
        self.numbers.insert(Arc::clone(&held.name), number);
        self.by_number[number as usize] = held;
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
            self.numbers.remove(&held.name);
            *held = Held::default();
            self.free.push(number);
        }
    }

    pub(super) fn number(&self, name: &str) -> Option<u32> {
        self.numbers.get(name).copied()
    }

    pub(super) fn name(&self, number: u32) -> &str {
        &self.by_number[number as usize].name
    }

    /// Every name with its number.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, u32)> {
        self.numbers.iter().map(|(name, number)| (&**name, *number))
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
