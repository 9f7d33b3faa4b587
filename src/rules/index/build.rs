//! Builds the lists of a part of the index: chooses the pivot of each rule, and puts rows in order.
//!
//! Rules lie anywhere in memory, and waiting for that is most of the work. So each is read once, in the order in which they
//! came, to a [`Sketch`]; sketches and their keys lie one behind the other, and so do the [`Draft`]s that are made of them.

use std::hint::black_box;
use std::ops::Range;
use std::sync::Arc;

use super::Finds;
use super::part::{
    ASK_ALL, ASK_PRICE, BLOCK, FIELDS, FORM, IS_TEST, LIST_MAX, Lists, NEITHER, PAIRED, PIVOTS_MAX, POST, Pivot, Row,
    Triggers,
};
use super::price::Bounds;
use super::program::{Asked, Compiler, NOTHING};
use super::table::{Counted, Key, TOGETHER, Table};
use crate::rules::condition::{Operand, Test};
use crate::rules::{Rule, Status, Versioned};

/// A rule stands at each value of a list that has no more, rather than at one of a longer list that is rarer.
const ANY_OF_MAX: usize = 16;
/// So many rules must compare a path for equality before it may be a pivot.
const PIVOT_RULES_MIN: usize = 16;
/// A path is the pivot where so many times fewer rules have its value than any other that the rule names.
const PIVOT_GAIN: u64 = 8;
/// The pivot of a rule that names no value.
const BROAD: u32 = u32::MAX;

/// A rule before its values have numbers.
struct Sketch {
    /// What it takes of fields.
    named: Range<u32>,
    tests: Range<u32>,
    /// What it takes of paths that are pivots.
    compared: Range<u32>,
    /// All but what has numbers.
    row: Row,
}

/// What a rule takes of one field or path: any of some values.
struct Equality {
    field: u8,
    keys: Range<u32>,
    /// The place of the test among [`Builder::tests`], where it stands under `where`.
    test: Option<u32>,
}

/// How rules compare a path for equality.
#[derive(Clone, Copy, Default)]
struct Compared {
    rules: usize,
    texts: bool,
    numbers: bool,
}

/// A row on its way to its list.
struct Draft {
    /// The number of the value in whose list it stands.
    pivot: u32,
    /// Another value that it has, with its field, for a pivot that has its rows by pairs.
    second: (u8, u32),
    row: Row,
}

#[derive(Default)]
struct Builder<'r> {
    triggers: Triggers,
    compiler: Compiler<'r>,
    pivots: Vec<Pivot>,
    sketches: Vec<Sketch>,
    /// Of all sketches; so are the next ones.
    equalities: Vec<Equality>,
    /// By their numbers.
    tests: Vec<u32>,
    keys: Vec<Key>,
}

impl Finds for Lists {
    fn of(rules: &[Arc<Versioned>]) -> Self {
        // In the order in which they were read, which is the one in which they lie in memory.
        let mut order: Vec<(i64, u32)> = rules.iter().map(|rule| rule.version).zip(0..).collect();
        order.sort_unstable();
        let mut builder = Builder::default();
        builder.sketches.reserve_exact(rules.len());
        for some in order.chunks(TOGETHER) {
            let some = || some.iter().map(|(_, number)| (&rules[*number as usize].rule, *number));
            some().for_each(|(rule, _)| fetch(rule));
            some()
                .filter(|(rule, _)| rule.status != Status::Paused)
                .for_each(|(rule, number)| builder.sketch(rule, number));
        }
        drop(order);
        builder.compare();
        builder.lists()
    }
}

/// Reads where the texts of a rule begin. Of several rules the processor does so at the same time; all that is done with
/// each would keep it from that.
fn fetch(rule: &Rule) {
    let begin = |text: &str| {
        black_box(text.as_bytes().first().copied());
    };
    rule.scope.id.as_deref().into_iter().for_each(begin);
    let ids = rule.filters.ids.iter().flat_map(|filter| &filter.any_of);
    ids.for_each(|id| begin(id));
    let tests = rule.filters.conditions.iter().flat_map(|condition| &condition.tests);
    for operand in tests.filter_map(operands).flatten() {
        if let Operand::Text(text) = operand {
            begin(text);
        }
    }
}

/// The paths that are pivots, where rules have these tests.
fn pivots(tests: &[Asked<'_>]) -> Vec<Pivot> {
    let mut all: Vec<Compared> = Vec::new();
    for asked in tests {
        let Some(operands) = operands(asked.test) else { continue };
        let path = asked.path as usize;
        all.resize(all.len().max(path + 1), Compared::default());
        all[path].rules += asked.rules;
        all[path].texts |= operands.iter().any(|operand| matches!(operand, Operand::Text(_)));
        all[path].numbers |= operands.iter().any(|operand| matches!(operand, Operand::Number(..)));
    }
    let mut all: Vec<(u32, Compared)> = (0..).zip(all).collect();
    all.retain(|(_, compared)| compared.rules >= PIVOT_RULES_MIN);
    // Those that most rules compare; of as many the one that came first.
    all.sort_by_key(|(_, compared)| std::cmp::Reverse(compared.rules));
    all.truncate(PIVOTS_MAX);
    let pivots = all.into_iter().zip(FIELDS as u8..);
    let pivots = pivots.map(|((path, compared), field)| Pivot {
        field,
        path,
        texts: compared.texts,
        numbers: compared.numbers,
    });
    pivots.collect()
}

/// The key of an operand of [`operands`].
fn key(field: u8, operand: &Operand) -> Option<Key> {
    match operand {
        Operand::Text(text) => Some(Key::text(field, text)),
        Operand::Number(number, _) => Some(Key::number(field, *number)),
        Operand::Bool(_) | Operand::Json(_) => None,
    }
}

/// The best equality to find a rule by: one of those that name a field, or one of those that compare a path.
fn pivot<'a>(
    named: &'a [Equality],
    compared: &'a [Equality],
    rules_of: impl Fn(&Equality) -> u64,
) -> Option<&'a Equality> {
    // A long list only where there is nothing else: the rule stands at each of its values.
    let best = |of: &'a [Equality]| of.iter().min_by_key(|any| (any.keys.len() > ANY_OF_MAX, rules_of(any)));
    match (best(named), best(compared)) {
        (Some(named), Some(path)) if rules_of(path) * PIVOT_GAIN < rules_of(named) => Some(path),
        (named, path) => named.or(path),
    }
}

/// What a test compares for equality, where each operand has a key.
fn operands(test: &Test) -> Option<&[Operand]> {
    let operands = match test {
        Test::Eq(operand) => std::slice::from_ref(operand),
        Test::In(operands) => operands,
        _ => return None,
    };
    let has_key = |operand: &Operand| matches!(operand, Operand::Text(_) | Operand::Number(..));
    (operands.len() <= ANY_OF_MAX && operands.iter().all(has_key)).then_some(operands)
}

impl<'r> Builder<'r> {
    /// Reads a rule.
    fn sketch(&mut self, rule: &'r Rule, number: u32) {
        let (first, first_test) = (self.equalities.len() as u32, self.tests.len() as u32);
        let first_key = self.keys.len();
        let texts = |field, texts: &'r [Box<str>]| texts.iter().map(move |text| Key::text(field, text));
        if let Some(id) = &rule.scope.id {
            let field = rule.scope.level.field();
            self.equality(field, texts(field, std::slice::from_ref(id)), None);
        }
        for filter in &rule.filters.ids {
            let field = filter.party.field();
            self.equality(field, texts(field, &filter.any_of), None);
        }
        let are_whole = self.keys[first_key..].iter().all(|key| key.is_whole());
        for condition in &rule.filters.conditions {
            let path = self.compiler.path(&condition.path);
            let tests = condition.tests.iter().map(|test| self.compiler.test(path, test));
            self.tests.extend(tests);
        }
        let trigger = self.triggers.number(&rule.trigger);
        let of_trigger = &mut self.triggers.all[trigger as usize];
        for any in &self.equalities[first as usize..] {
            of_trigger.fields |= 1 << any.field;
        }
        let bounds = rule.filters.price.as_ref().map_or(Bounds::ALL, Bounds::of);
        let ask_all = if are_whole { 0 } else { ASK_ALL };
        let ask_price = if rule.filters.price.is_some() { ASK_PRICE } else { 0 };
        let row = Row {
            low: bounds.low,
            high: bounds.high,
            rule: number,
            trigger,
            also: [trigger; 2],
            also_of: 0,
            program: NOTHING,
            not: refused(rule),
            ask: ask_all | ask_price,
        };
        self.sketches.push(Sketch {
            named: first..self.equalities.len() as u32,
            tests: first_test..self.tests.len() as u32,
            compared: 0..0,
            row,
        });
    }

    /// Adds what rules take of the pivots.
    fn compare(&mut self) {
        self.pivots = pivots(&self.compiler.tests);
        let mut keys = Vec::new();
        let of_test = |asked: &Asked<'_>| {
            let pivot = self.pivots.iter().find(|pivot| pivot.path == asked.path)?;
            let operands = operands(asked.test)?;
            let first = keys.len();
            keys.extend(operands.iter().filter_map(|operand| key(pivot.field, operand)));
            Some((pivot.field, first..keys.len()))
        };
        let taken: Vec<_> = self.compiler.tests.iter().map(of_test).collect();
        for at in 0..self.sketches.len() {
            let (first, first_key) = (self.equalities.len() as u32, self.keys.len());
            for place in self.sketches[at].tests.clone() {
                if let Some((field, of)) = &taken[self.tests[place as usize] as usize] {
                    self.equality(*field, keys[of.clone()].iter().copied(), Some(place));
                }
            }
            let are_whole = self.keys[first_key..].iter().all(|key| key.is_whole());
            let sketch = &mut self.sketches[at];
            sketch.compared = first..self.equalities.len() as u32;
            sketch.row.ask |= if are_whole { 0 } else { ASK_ALL };
        }
    }

    fn equality(&mut self, field: u8, keys: impl Iterator<Item = Key>, test: Option<u32>) {
        let first = self.keys.len();
        self.keys.extend(keys);
        let mut end = self.keys.len();
        if end - first > 1 {
            // A rule stands once at each value.
            self.keys[first..].sort_unstable();
            end = first;
            for at in first..self.keys.len() {
                if at == first || self.keys[at] != self.keys[end - 1] {
                    self.keys[end] = self.keys[at];
                    end += 1;
                }
            }
            self.keys.truncate(end);
        }
        let keys = first as u32..end as u32;
        self.equalities.push(Equality { field, keys, test });
    }

    fn lists(mut self) -> Lists {
        let (values, counted) = Table::counting(&self.keys, self.sketches.len());
        self.keys = Vec::new();
        let drafts = self.drafts(&counted);
        self.in_order(values, drafts)
    }

    /// Drafts the rows of all rules. Each key's value is `counted`.
    fn drafts(&mut self, counted: &[Counted]) -> Vec<Draft> {
        let sketches = std::mem::take(&mut self.sketches);
        let mut drafts = Vec::with_capacity(sketches.len());
        let values_of = |any: &Equality| &counted[any.keys.start as usize..any.keys.end as usize];
        let rules_of = |any: &Equality| values_of(any).iter().map(|value| u64::from(value.rules)).sum();
        let mut others: Vec<&Equality> = Vec::new();
        for sketch in sketches {
            let of = |all: Range<u32>| &self.equalities[all.start as usize..all.end as usize];
            let (named, mut row) = (of(sketch.named), sketch.row);
            let pivot = pivot(named, of(sketch.compared), rules_of);
            let pivot_test = pivot.and_then(|pivot| pivot.test);
            if let Some(pivot) = pivot.filter(|pivot| pivot.test.is_some()) {
                let of_trigger = &mut self.triggers.all[row.trigger as usize];
                of_trigger.pivots |= 1 << (usize::from(pivot.field) - FIELDS);
            }
            others.clear();
            let is_pivot = |any: &Equality| pivot.is_some_and(|pivot| std::ptr::eq(pivot, any));
            others.extend(named.iter().filter(|any| !is_pivot(any)));
            // The rarest value first: it tells most rows apart.
            others.sort_by_key(|any| rules_of(any));
            let mut second = (0, row.trigger);
            let mut free = 0;
            for any in &others {
                match values_of(any) {
                    [one] if free < row.also.len() => {
                        if free == 0 {
                            second = (any.field, one.number);
                        }
                        row.also[free] = one.number;
                        row.also_of |= any.field << (4 * free);
                        free += 1;
                    }
                    several => {
                        let numbers = several.iter().map(|value| value.number);
                        self.compiler.any_of(any.field, numbers);
                    }
                }
            }
            for at in sketch.tests {
                if pivot_test != Some(at) {
                    self.compiler.check(self.tests[at as usize]);
                }
            }
            row.program = self.compiler.end();
            let draft = |pivot| Draft { pivot, second, row };
            match pivot {
                Some(pivot) => drafts.extend(values_of(pivot).iter().map(|value| draft(value.number))),
                None => drafts.push(draft(BROAD)),
            }
        }
        drafts
    }

    /// Puts the rows in their order, and each list in its place.
    fn in_order(mut self, mut values: Table, mut drafts: Vec<Draft>) -> Lists {
        for draft in drafts.iter().filter(|draft| draft.pivot != BROAD) {
            values.get_mut(draft.pivot).len += 1;
        }
        for draft in &mut drafts {
            if draft.pivot == BROAD || values.get(draft.pivot).len <= LIST_MAX {
                draft.second = (0, 0);
            }
        }
        drafts.sort_unstable_by_key(|Draft { pivot, second, row }| (*pivot, *second, row.trigger, row.low, row.rule));
        let is_same = |one: &Draft, other: &Draft| (one.pivot, one.second) == (other.pivot, other.second);
        let paired = drafts.chunk_by(is_same).filter(|list| {
            let pivot = list[0].pivot;
            pivot != BROAD && values.get(pivot).len > LIST_MAX
        });
        let mut pairs = Table::of(paired.count());
        let mut start = 0;
        for list in drafts.chunk_by(is_same) {
            let (pivot, (field, second), len) = (list[0].pivot, list[0].second, list.len() as u32);
            if pivot == BROAD {
                let mut from = start;
                for of_trigger in list.chunk_by(|one, other| one.row.trigger == other.row.trigger) {
                    let end = from + of_trigger.len() as u32;
                    self.triggers.all[of_trigger[0].row.trigger as usize].broad = from..end;
                    from = end;
                }
            } else {
                let slot = values.get_mut(pivot);
                if slot.len > LIST_MAX {
                    slot.len = PAIRED;
                    pairs.put(Key::pair(pivot, field, second), start, len);
                } else {
                    (slot.start, slot.len) = (start, len);
                }
            }
            start += len;
        }
        let rows: Box<[Row]> = drafts.iter().map(|draft| draft.row).collect();
        let tops = rows
            .chunks(BLOCK)
            .map(|block| block.iter().map(|row| row.high).max().unwrap_or(i64::MAX));
        let tops = tops.collect();
        Lists {
            rows,
            tops,
            values,
            pairs,
            triggers: self.triggers,
            pivots: self.pivots.into(),
            programs: self.compiler.programs(),
        }
    }
}

/// The traits of events that a rule never takes.
fn refused(rule: &Rule) -> u8 {
    let mut refused = 0;
    let methods = &rule.filters.method;
    if !methods.is_empty() {
        let takes = |method: &str| methods.contains(&method);
        refused |= NEITHER;
        refused |= if takes("POST") { 0 } else { POST };
        refused |= if takes("FORM") { 0 } else { FORM };
    }
    if !rule.include_test {
        refused |= IS_TEST;
    }
    if rule.scope.id.is_none() {
        refused |= rule.scope.level.lack();
    }
    refused
}
