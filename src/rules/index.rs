//! The rules in force, indexed by the values that they name.
//!
//! The time of a look-up grows with the rules that hold and with those that nearly do, not with all of them: a rule is
//! found by the rarest value that it asks for (its scope's id, that of a filter, or what stands at a path), and an
//! event with values that no rule names costs a probe for each. An event of a trigger that no rule has costs one
//! look-up and no allocation.
//!
//! ```text
//! changes ──► Upkeep ──► RuleIndex: a large Part, a smaller one, … ──► matches(event)
//! ```
//!
//! A part never changes. A change of rules makes a small part of them and marks what they replace as
//! dead in the parts before; [`upkeep`] makes one of parts that are near in size. So a change among a million rules
//! costs what a few rules cost, and whoever holds an index of before keeps it.

use std::fmt;
use std::sync::Arc;

use super::{Rule, Versioned};
use crate::lead::LeadEvent;
use part::{Seen, Triggers};
use upkeep::{Change, Upkeep};

pub use part::Lists;

mod build;
mod part;
mod price;
mod program;
mod table;
pub mod upkeep;

/// An immutable set of rules, the paused ones among them, which match nothing. With [`Lists`] it can be asked which rules
/// hold for an event; with `()` it finds rules by their ids alone, and has a tenth of the size.
#[derive(Debug)]
pub struct RuleIndex<F = Lists> {
    /// Each rule is alive in one of them.
    parts: Vec<Part<F>>,
}

/// Some rules by their ids, what finds them beside that, and which of them are no more in force.
#[derive(Debug)]
struct Part<F> {
    rules: Arc<[Arc<Versioned>]>,
    finds: Arc<F>,
    dead: Arc<Bits>,
}

/// What finds the rules of a part beside their ids.
pub trait Finds: fmt::Debug + Send + Sync + 'static {
    /// The rules are in the order of their ids.
    fn of(rules: &[Arc<Versioned>]) -> Self;
}

impl Finds for () {
    fn of(_rules: &[Arc<Versioned>]) -> Self {}
}

/// A set of numbers.
#[derive(Debug, Clone, Default)]
struct Bits {
    words: Vec<u64>,
    count: usize,
}

impl RuleIndex {
    /// Of several rules with one id, the last counts.
    pub fn build(rules: impl IntoIterator<Item = Arc<Versioned>>) -> Self {
        let mut upkeep = Upkeep::default();
        for versioned in rules {
            upkeep.note(Change::In(versioned));
        }
        upkeep.index()
    }

    /// Puts the rules that hold for an event into `found`, which is emptied first, in the order
    /// their jobs are written in: profiles first, then by rule id.
    pub fn matches<'i>(&'i self, event: &LeadEvent<'_>, found: &mut Vec<&'i Arc<Versioned>>) {
        found.clear();
        let hash = Triggers::hash(&event.trigger);
        let mut seen = None;
        for Part { rules, finds, dead } in &self.parts {
            if let Some(trigger) = finds.triggers.find(hash, &event.trigger) {
                let seen = seen.get_or_insert_with(|| Seen::of(event));
                finds.matches(rules, trigger, seen, dead, found);
            }
        }
        if found.len() > 1 {
            found.sort_unstable_by(|one, other| turn(&one.rule).cmp(&turn(&other.rule)));
            found.dedup_by(|one, other| Arc::ptr_eq(one, other));
        }
    }
}

impl<F> RuleIndex<F> {
    /// The same rules, to be found by their ids alone.
    pub fn by_id(&self) -> RuleIndex<()> {
        let by_id = |part: &Part<F>| Part {
            rules: Arc::clone(&part.rules),
            finds: Arc::new(()),
            dead: Arc::clone(&part.dead),
        };
        RuleIndex {
            parts: self.parts.iter().map(by_id).collect(),
        }
    }

    /// The rule with an id, paused or not.
    pub fn get(&self, id: &str) -> Option<&Arc<Versioned>> {
        let (part, number) = self.find(id)?;
        Some(&self.parts[part].rules[number as usize])
    }

    /// Every rule, in no order.
    pub fn rules(&self) -> impl Iterator<Item = &Arc<Versioned>> {
        self.parts.iter().flat_map(Part::living)
    }

    /// The number of rules.
    pub fn len(&self) -> usize {
        self.parts.iter().map(Part::len).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The place of the part in which a rule is alive, and its number there.
    fn find(&self, id: &str) -> Option<(usize, u32)> {
        let found = self.parts.iter().map(|part| part.find(id));
        let mut found = found.enumerate();
        found.find_map(|(at, number)| Some((at, number?)))
    }
}

impl<F> Part<F> {
    /// Of rules that are in the order of their ids.
    fn of(rules: Vec<Arc<Versioned>>) -> Self
    where
        F: Finds,
    {
        let rules: Arc<[_]> = rules.into();
        Self {
            finds: Arc::new(F::of(&rules)),
            rules,
            dead: Arc::default(),
        }
    }

    /// The rules that are in force, by id.
    fn living(&self) -> impl Iterator<Item = &Arc<Versioned>> {
        let rules = self.rules.iter().zip(0..);
        rules
            .filter(|(_, number)| !self.dead.has(*number))
            .map(|(rule, _)| rule)
    }

    /// The number of the rule with an id, dead or not.
    fn number(&self, id: &str) -> Option<u32> {
        let found = self.rules.binary_search_by(|versioned| (*versioned.rule.id).cmp(id));
        Some(found.ok()? as u32)
    }

    fn find(&self, id: &str) -> Option<u32> {
        self.number(id).filter(|number| !self.dead.has(*number))
    }

    fn len(&self) -> usize {
        self.rules.len() - self.dead.count
    }
}

// Whatever they find by, no copy of it is made.
impl<F> Clone for RuleIndex<F> {
    fn clone(&self) -> Self {
        let parts = self.parts.clone();
        Self { parts }
    }
}

impl<F> Clone for Part<F> {
    fn clone(&self) -> Self {
        Self {
            rules: Arc::clone(&self.rules),
            finds: Arc::clone(&self.finds),
            dead: Arc::clone(&self.dead),
        }
    }
}

impl<F> Default for RuleIndex<F> {
    fn default() -> Self {
        Self { parts: Vec::new() }
    }
}

impl Bits {
    fn has(&self, number: u32) -> bool {
        let word = self.words.get(number as usize / 64);
        word.is_some_and(|word| word >> (number % 64) & 1 == 1)
    }

    fn add(&mut self, number: u32) {
        let at = number as usize / 64;
        if self.words.len() <= at {
            self.words.resize(at + 1, 0);
        }
        self.count += usize::from(!self.has(number));
        self.words[at] |= 1 << (number % 64);
    }
}

fn turn(rule: &Rule) -> (bool, &str) {
    (!rule.action.kind.action().goes_first(), &rule.id)
}

#[cfg(test)]
mod tests;
