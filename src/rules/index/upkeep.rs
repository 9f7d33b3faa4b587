//! Keeps an index in step with the rules: takes changes in, and makes few large parts of many small ones.
//!
//! Each part has many times the rules of the next one, so that there are few, and a rule is indexed again
//! a few times only. Parts that are large together are merged by a [`Merge`], on whichever thread has the time; meanwhile
//! changes go on. What is replaced is let go by the upkeep alone: who matches events never pays for that.

use std::collections::HashMap;
use std::sync::Arc;

use super::part::Part;
use super::{Living, RuleIndex};
use crate::rules::Versioned;

const RATIO: usize = 32;
/// More rules are merged aside.
const AT_ONCE_MAX: usize = 50_000;
/// A part is built anew where more than one of so many rules is dead.
const DEAD_SHARE: usize = 4;

/// An index that follows the rules.
#[derive(Debug)]
pub struct Upkeep {
    index: RuleIndex,
    /// What has changed since, by rule id; none is a deletion.
    changed: HashMap<Arc<str>, Option<Arc<Versioned>>>,
    /// The first parts, which a merge reads now.
    merging: usize,
    /// Parts that were replaced, and that others may hold still.
    replaced: Vec<Arc<Part>>,
    /// Whether events are matched, or rules looked up by their ids alone.
    matches: bool,
    /// [`AT_ONCE_MAX`], or fewer in tests.
    pub(super) at_once_max: usize,
}

impl Default for Upkeep {
    fn default() -> Self {
        Self {
            index: RuleIndex::default(),
            changed: HashMap::new(),
            merging: 0,
            replaced: Vec::new(),
            matches: true,
            at_once_max: AT_ONCE_MAX,
        }
    }
}

/// Parts that are to become one.
#[derive(Debug)]
pub struct Merge {
    /// The place of the first in the index.
    first: usize,
    parts: Vec<Living>,
    matches: bool,
}

/// The one part of several.
#[derive(Debug)]
pub struct Merged {
    of: Merge,
    one: Living,
}

impl Upkeep {
    /// An index that finds rules by their ids, and none for an event: it has a tenth of the size.
    pub fn by_id_alone() -> Self {
        Self {
            matches: false,
            ..Self::default()
        }
    }

    /// Notes a rule that was put in force, or one that is no more.
    pub fn put(&mut self, id: Arc<str>, rule: Option<Arc<Versioned>>) {
        self.changed.insert(id, rule);
    }

    /// The index with every change so far.
    pub fn index(&mut self) -> RuleIndex {
        let changed = std::mem::take(&mut self.changed);
        let mut rules = Vec::with_capacity(changed.len());
        for (id, rule) in changed {
            if let Some((at, number)) = self.index.find(&id) {
                Arc::make_mut(&mut self.index.parts[at].dead).add(number);
            }
            rules.extend(rule);
        }
        if !rules.is_empty() {
            rules.sort_unstable_by(|one, other| one.rule.id.cmp(&other.rule.id));
            self.add(rules);
        }
        self.let_go();
        self.index.clone()
    }

    /// A merge that is due, and that nobody has begun.
    pub fn merge(&mut self) -> Option<Merge> {
        let parts = &self.index.parts;
        if self.merging > 0 {
            return None;
        }
        let is_worn = |at: usize| parts[at].dead.count * DEAD_SHARE > parts[at].part.rules.len();
        let is_near = |at: usize| at + 1 < parts.len() && parts[at + 1].len() * RATIO > parts[at].len();
        let first = (0..parts.len()).find(|at| is_worn(*at) || is_near(*at))?;
        self.merging = parts.len();
        let parts = parts[first..].to_vec();
        Some(Merge {
            first,
            parts,
            matches: self.matches,
        })
    }

    /// Puts a merged part in the place of those that it was made of; says whether they are still there.
    pub fn merged(&mut self, Merged { of, mut one }: Merged) -> bool {
        let place = of.first..of.first + of.parts.len();
        let now = self.index.parts.get(place.clone()).unwrap_or_default();
        let same = |(now, then): (&Living, &Living)| Arc::ptr_eq(&now.part, &then.part);
        if now.len() != of.parts.len() || !now.iter().zip(&of.parts).all(same) {
            return false;
        }
        // What was replaced meanwhile.
        let dead = Arc::make_mut(&mut one.dead);
        for (now, then) in now
            .iter()
            .zip(&of.parts)
            .filter(|(now, then)| now.dead.count > then.dead.count)
        {
            for rule in then.rules().filter(|rule| now.find(&rule.rule.id).is_none()) {
                if let Some(number) = one.part.find(&rule.rule.id) {
                    dead.add(number);
                }
            }
        }
        let one = (one.len() > 0).then_some(one);
        let before = self.index.parts.splice(place, one);
        self.replaced.extend(before.map(|living| living.part));
        self.merging = 0;
        true
    }

    /// Lets go of parts that nobody else holds any more.
    pub fn let_go(&mut self) {
        self.replaced.retain(|part| Arc::strong_count(part) > 1);
    }

    /// Adds a part, together with those of the last that are near in size.
    fn add(&mut self, mut rules: Vec<Arc<Versioned>>) {
        while self.index.parts.len() > self.merging
            && let Some(last) = self.index.parts.last()
            && last.len() < rules.len() * RATIO
            && last.len() + rules.len() <= self.at_once_max
        {
            rules = in_order(vec![last.rules().cloned().collect(), rules]);
            self.replaced.extend(self.index.parts.pop().map(|living| living.part));
        }
        self.index.parts.push(Living::of(Part::of(rules, self.matches)));
    }
}

impl Merge {
    pub fn run(self) -> Merged {
        let rules = self.parts.iter().map(|living| living.rules().cloned().collect());
        let one = Living::of(Part::of(in_order(rules.collect()), self.matches));
        Merged { of: self, one }
    }
}

/// The rules of several lists, each in order, in one.
fn in_order(lists: Vec<Vec<Arc<Versioned>>>) -> Vec<Arc<Versioned>> {
    let mut all = lists.concat();
    // It finds the runs that are in order.
    all.sort_by(|one, other| one.rule.id.cmp(&other.rule.id));
    all
}
