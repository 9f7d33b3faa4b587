//! Keeps an index in step with the rules: takes changes in, and makes few large parts of many small ones.
//!
//! Each part has many times the rules of the next one, so that there are few, and a rule is indexed again
//! a few times only. Parts that are large together are merged by a [`Merge`], on whichever thread has the time; meanwhile
//! changes go on. What is replaced is let go by the upkeep alone: who matches events never pays for that.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Bits, Finds, Lists, Part, RuleIndex};
use crate::rules::Versioned;

const RATIO: usize = 32;
/// More rules are merged aside.
const AT_ONCE_MAX: usize = 50_000;
/// A part is built anew where more than one of so many rules is dead.
const DEAD_SHARE: usize = 4;

/// An index that follows the rules.
#[derive(Debug)]
pub struct Upkeep<F = Lists> {
    index: RuleIndex<F>,
    /// What has changed since, by rule id; none is a deletion.
    changed: HashMap<Arc<str>, Option<Arc<Versioned>>>,
    /// The first parts, which a merge reads now.
    merging: usize,
    /// Parts that were replaced, and that others may hold still.
    replaced: Vec<Part<F>>,
    /// [`AT_ONCE_MAX`], or fewer in tests.
    pub(super) at_once_max: usize,
}

/// Parts that are to become one.
#[derive(Debug)]
pub struct Merge<F = Lists> {
    /// The place of the first in the index.
    first: usize,
    parts: Vec<Part<F>>,
}

/// The one part of several.
#[derive(Debug)]
pub struct Merged<F = Lists> {
    of: Merge<F>,
    one: Part<F>,
}

impl Default for Upkeep {
    fn default() -> Self {
        Self::new()
    }
}

impl<F: Finds> Upkeep<F> {
    pub fn new() -> Self {
        Self {
            index: RuleIndex::default(),
            changed: HashMap::new(),
            merging: 0,
            replaced: Vec::new(),
            at_once_max: AT_ONCE_MAX,
        }
    }

    /// Notes a rule that was put in force, or one that is no more.
    pub fn put(&mut self, id: Arc<str>, rule: Option<Arc<Versioned>>) {
        self.changed.insert(id, rule);
    }

    /// The index with every change so far.
    pub fn index(&mut self) -> RuleIndex<F> {
        let changed = std::mem::take(&mut self.changed);
        let mut rules = Vec::with_capacity(changed.len());
        for (id, rule) in changed {
            if let Some((at, number)) = self.index.find(&id) {
                Arc::make_mut(&mut self.index.parts[at].dead).add(number);
            }
            rules.extend(rule);
        }
        if !rules.is_empty() {
            self.add(in_order(rules));
        }
        self.let_go();
        self.index.clone()
    }

    /// A merge that is due, and that nobody has begun.
    pub fn merge(&mut self) -> Option<Merge<F>> {
        let parts = &self.index.parts;
        if self.merging > 0 {
            return None;
        }
        let is_worn = |at: usize| parts[at].dead.count * DEAD_SHARE > parts[at].rules.len();
        let is_near = |at: usize| at + 1 < parts.len() && parts[at + 1].len() * RATIO > parts[at].len();
        let first = (0..parts.len()).find(|at| is_worn(*at) || is_near(*at))?;
        self.merging = parts.len();
        let parts = parts[first..].to_vec();
        Some(Merge { first, parts })
    }

    /// Puts a merged part in the place of those that it was made of; says whether they are still there.
    pub fn merged(&mut self, Merged { of, mut one }: Merged<F>) -> bool {
        let place = of.first..of.first + of.parts.len();
        let now = self.index.parts.get(place.clone()).unwrap_or_default();
        let same = |(now, then): (&Part<F>, &Part<F>)| Arc::ptr_eq(&now.rules, &then.rules);
        if now.len() != of.parts.len() || !now.iter().zip(&of.parts).all(same) {
            return false;
        }
        // What was replaced meanwhile.
        let mut dead = Bits::default();
        for (now, then) in now
            .iter()
            .zip(&of.parts)
            .filter(|(now, then)| now.dead.count > then.dead.count)
        {
            for rule in then.living().filter(|rule| now.find(&rule.rule.id).is_none()) {
                if let Some(number) = one.number(&rule.rule.id) {
                    dead.add(number);
                }
            }
        }
        one.dead = Arc::new(dead);
        let one = (one.len() > 0).then_some(one);
        self.replaced.extend(self.index.parts.splice(place, one));
        self.merging = 0;
        true
    }

    /// Lets go of parts that nobody else holds any more.
    pub fn let_go(&mut self) {
        self.replaced.retain(|part| Arc::strong_count(&part.rules) > 1);
    }

    /// Adds a part, together with those of the last that are near in size.
    fn add(&mut self, mut rules: Vec<Arc<Versioned>>) {
        while self.index.parts.len() > self.merging
            && let Some(last) = self.index.parts.last()
            && last.len() < rules.len() * RATIO
            && last.len() + rules.len() <= self.at_once_max
        {
            rules = in_order(last.living().cloned().chain(rules));
            self.replaced.extend(self.index.parts.pop());
        }
        self.index.parts.push(Part::of(rules));
    }
}

impl<F: Finds> Merge<F> {
    pub fn run(self) -> Merged<F> {
        let one = Part::of(in_order(self.parts.iter().flat_map(Part::living).cloned()));
        Merged { of: self, one }
    }
}

/// Rules in the order of their ids. Those lie anywhere in memory, so that their first bytes are read once for each rule, and
/// all of them only where these are the same.
fn in_order(rules: impl IntoIterator<Item = Arc<Versioned>>) -> Vec<Arc<Versioned>> {
    let begin = |id: &str| {
        let (mut begin, bytes) = ([0; 16], id.as_bytes());
        let len = bytes.len().min(begin.len());
        begin[..len].copy_from_slice(&bytes[..len]);
        u128::from_be_bytes(begin)
    };
    let rules = rules.into_iter().map(|rule| (begin(&rule.rule.id), rule));
    let mut all: Vec<(u128, Arc<Versioned>)> = rules.collect();
    let whole = |one: &Arc<Versioned>, other: &Arc<Versioned>| one.rule.id.cmp(&other.rule.id);
    // It finds the runs that are in order already.
    all.sort_by(|(begin, one), (other_begin, other)| begin.cmp(other_begin).then_with(|| whole(one, other)));
    all.into_iter().map(|(_, rule)| rule).collect()
}
