//! Keeps an index in step with the rules: takes changes in, and makes few large parts of many small ones.
//!
//! Each part has many times the rules of the next one, so that there are few, and a rule is indexed again
//! a few times only. Parts that are large together are merged by a [`Merge`], on whichever thread has the time; meanwhile
//! changes go on. What is replaced is let go by the upkeep alone: who matches events never pays for that.

use std::sync::Arc;

use super::{Bits, Finds, Lists, Part, RuleIndex};
use crate::rules::Versioned;

/// A part has so many times the rules of the next one at the least. With more, a rule is indexed again more often; with fewer, there
/// are more parts for an event to be looked up in.
const RATIO: usize = 16;
/// More rules are merged aside.
const AT_ONCE_MAX: usize = 50_000;
/// A part is built anew where more than one of so many rules is dead.
const DEAD_SHARE: usize = 4;
/// Fewer changes wait as they came.
const CHANGES_MIN: usize = 1024;

/// An index that follows the rules.
#[derive(Debug)]
pub struct Upkeep<F = Lists> {
    index: RuleIndex<F>,
    /// What has changed since, one after the other.
    changes: Vec<Change>,
    /// So many of them are looked through for those that later ones replaced.
    changes_max: usize,
    /// The first parts, which a merge reads now.
    merging: usize,
    /// Parts that were replaced, and that others may hold still.
    replaced: Vec<Part<F>>,
    /// [`AT_ONCE_MAX`], or fewer in tests.
    pub(super) at_once_max: usize,
}

/// A rule that was put in force, or the id of one that is no more.
#[derive(Debug)]
pub(super) enum Change {
    In(Arc<Versioned>),
    Out(Arc<str>),
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
            changes: Vec::new(),
            changes_max: CHANGES_MIN,
            merging: 0,
            replaced: Vec::new(),
            at_once_max: AT_ONCE_MAX,
        }
    }

    /// Notes a rule that was put in force, or one that is no more.
    pub fn put(&mut self, id: Arc<str>, rule: Option<Arc<Versioned>>) {
        self.note(rule.map_or(Change::Out(id), Change::In));
    }

    pub(super) fn note(&mut self, change: Change) {
        self.changes.push(change);
        if self.changes.len() >= self.changes_max {
            let changes = std::mem::take(&mut self.changes);
            self.changes = in_order(changes, Change::id);
            self.changes_max = (self.changes.len() * 2).max(CHANGES_MIN);
        }
    }

    /// The index with every change so far.
    pub fn index(&mut self) -> RuleIndex<F> {
        let changes = in_order(std::mem::take(&mut self.changes), Change::id);
        self.changes_max = CHANGES_MIN;
        for part in &mut self.index.parts {
            for change in &changes {
                if let Some(number) = part.find(change.id()) {
                    Arc::make_mut(&mut part.dead).add(number);
                }
            }
        }
        let rules = changes.into_iter().filter_map(Change::rule);
        let rules: Vec<Arc<Versioned>> = rules.collect();
        if !rules.is_empty() {
            self.add(rules);
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
            rules = in_order(last.living().cloned().chain(rules), id_of);
            self.replaced.extend(self.index.parts.pop());
        }
        self.index.parts.push(Part::of(rules));
    }
}

impl<F: Finds> Merge<F> {
    pub fn run(self) -> Merged<F> {
        let one = Part::of(in_order(self.parts.iter().flat_map(Part::living).cloned(), id_of));
        Merged { of: self, one }
    }
}

impl Change {
    fn id(&self) -> &str {
        match self {
            Change::In(versioned) => &versioned.rule.id,
            Change::Out(id) => id,
        }
    }

    fn rule(self) -> Option<Arc<Versioned>> {
        match self {
            Change::In(versioned) => Some(versioned),
            Change::Out(_) => None,
        }
    }
}

fn id_of(versioned: &Arc<Versioned>) -> &str {
    &versioned.rule.id
}

/// In the order of the ids, and of those with one id the last.
fn in_order<T>(all: impl IntoIterator<Item = T>, id: impl Fn(&T) -> &str) -> Vec<T> {
    let mut all: Vec<(u128, T)> = all.into_iter().map(|one| (0, one)).collect();
    sort(&mut all, 0, &id);
    all.dedup_by(|later, kept| {
        let is_same = later.0 == kept.0 && id(&later.1) == id(&kept.1);
        if is_same {
            std::mem::swap(later, kept);
        }
        is_same
    });
    all.into_iter().map(|(_, one)| one).collect()
}

/// Sorts what has the same first bytes of its id, `known` of them. Ids lie anywhere in memory, so that the next bytes of
/// each are read once, and those behind only where these are the same too.
fn sort<T>(all: &mut [(u128, T)], known: usize, id: &impl Fn(&T) -> &str) {
    for (next, one) in &mut *all {
        let (mut bytes, id) = ([0; 16], id(one).as_bytes());
        let len = (id.len() - known).min(bytes.len());
        bytes[..len].copy_from_slice(&id[known..known + len]);
        *next = u128::from_be_bytes(bytes);
    }
    // It finds the runs that are in order already.
    all.sort_by_key(|(next, _)| *next);
    for same in all.chunk_by_mut(|(one, _), (other, _)| one == other) {
        let goes_on = same[0].0 as u8 != 0;
        if same.len() > 1 && goes_on {
            sort(same, known + 16, id);
        }
    }
}
