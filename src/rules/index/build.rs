//! Builds the lists of a part of the index: chooses the pivot of each rule, and puts rows in order.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use super::Finds;
use super::part::{
    ASK_ALL, ASK_PRICE, BLOCK, FIELDS, FORM, IS_TEST, LIST_MAX, Lists, NEITHER, PAIRED, PIVOTS_MAX, POST, Pivot, Row,
    Triggers, UNNAMED,
};
use super::price::Bounds;
use super::program::Compiler;
use super::table::{Key, Table, is_whole};
use crate::path::Step;
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

/// A row on its way to its list.
struct Draft {
    /// The number of the value in whose list it stands.
    pivot: u32,
    /// Another value that it has, with its field, for a pivot that has its rows by pairs.
    second: (u8, u32),
    row: Row,
}

/// What a rule takes of one field or path: any of some values.
struct Equality {
    field: u8,
    keys: Range<usize>,
    /// The rules that name one of the values.
    rules: u64,
    /// The condition and the test, where it stands under `where`.
    test: Option<(usize, usize)>,
}

/// The equalities of one rule.
#[derive(Default)]
struct Equalities {
    keys: Vec<Key>,
    all: Vec<Equality>,
    /// Whether all keys are.
    are_whole: bool,
}

struct Builder<'r> {
    values: Table,
    triggers: Triggers,
    pivots: HashMap<&'r [Step], Pivot>,
    compiler: Compiler<'r>,
    drafts: Vec<Draft>,
}

impl Finds for Lists {
    fn of(rules: &[Arc<Versioned>]) -> Self {
        // In the order in which they were read, which is the one in which they lie in memory.
        let mut order: Vec<(i64, u32)> = rules.iter().map(|rule| rule.version).zip(0..).collect();
        order.sort_unstable();
        let matching = || {
            let rules = order.iter().map(|(_, number)| (&rules[*number as usize].rule, *number));
            rules.filter(|(rule, _)| rule.status != Status::Paused)
        };
        let mut builder = Builder::new(matching().map(|(rule, _)| rule));
        builder.values = Table::of(rules.len());
        let mut equalities = Equalities::default();
        for (rule, _) in matching() {
            equalities.read(rule, &builder.pivots);
            equalities.keys.iter().for_each(|key| builder.values.count(*key));
        }
        builder.values.settle();
        for (rule, number) in matching() {
            equalities.read(rule, &builder.pivots);
            builder.row(rule, number, &mut equalities);
        }
        builder.lists()
    }
}

impl Equalities {
    fn read(&mut self, rule: &Rule, pivots: &HashMap<&[Step], Pivot>) {
        self.keys.clear();
        self.all.clear();
        self.are_whole = true;
        if let Some(id) = &rule.scope.id {
            self.texts(rule.scope.level.field(), std::slice::from_ref(id));
        }
        for filter in &rule.filters.ids {
            self.texts(filter.party.field(), &filter.any_of);
        }
        if pivots.is_empty() {
            return;
        }
        for (at, condition) in rule.filters.conditions.iter().enumerate() {
            let Some(pivot) = pivots.get(condition.path.steps()) else {
                continue;
            };
            for (nth, test) in condition.tests.iter().enumerate() {
                if let Some(operands) = operands(test) {
                    self.operands(pivot.field, operands, (at, nth));
                }
            }
        }
    }

    fn texts(&mut self, field: u8, texts: &[Box<str>]) {
        let first = self.keys.len();
        self.keys.extend(texts.iter().map(|text| Key::text(field, text)));
        self.are_whole &= texts.iter().all(|text| is_whole(text));
        self.end(field, first, None);
    }

    fn operands(&mut self, field: u8, operands: &[Operand], test: (usize, usize)) {
        let first = self.keys.len();
        for operand in operands {
            match operand {
                Operand::Text(text) => {
                    self.keys.push(Key::text(field, text));
                    self.are_whole &= is_whole(text);
                }
                Operand::Number(number, _) => self.keys.push(Key::number(field, *number)),
                Operand::Bool(_) | Operand::Json(_) => {}
            }
        }
        self.end(field, first, Some(test));
    }

    fn end(&mut self, field: u8, first: usize, test: Option<(usize, usize)>) {
        // A rule stands once at each value.
        self.keys[first..].sort_unstable();
        let mut end = first;
        for at in first..self.keys.len() {
            if at == first || self.keys[at] != self.keys[end - 1] {
                self.keys[end] = self.keys[at];
                end += 1;
            }
        }
        self.keys.truncate(end);
        self.all.push(Equality {
            field,
            keys: first..end,
            rules: 0,
            test,
        });
    }

    /// The best of them to find the rule by.
    fn pivot(&self) -> Option<usize> {
        let best = |in_where: bool| {
            let of_kind = self
                .all
                .iter()
                .enumerate()
                .filter(move |(_, any)| any.test.is_some() == in_where);
            // A long list only where there is nothing else: the rule stands at each of its values.
            of_kind.min_by_key(|(_, any)| (any.keys.len() > ANY_OF_MAX, any.rules))
        };
        match (best(false), best(true)) {
            (Some((_, named)), Some((at, path))) if path.rules * PIVOT_GAIN < named.rules => Some(at),
            (Some((at, _)), _) | (None, Some((at, _))) => Some(at),
            (None, None) => None,
        }
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
    fn new(rules: impl Iterator<Item = &'r Rule>) -> Self {
        let mut counted: HashMap<&'r [Step], (usize, bool, bool)> = HashMap::new();
        let mut compiler = Compiler::new();
        let mut paths = Vec::new();
        for condition in rules.flat_map(|rule| &rule.filters.conditions) {
            for operands in condition.tests.iter().filter_map(operands) {
                let (rules, texts, numbers) = counted.entry(condition.path.steps()).or_insert_with(|| {
                    paths.push(&condition.path);
                    (0, false, false)
                });
                *rules += 1;
                *texts |= operands.iter().any(|operand| matches!(operand, Operand::Text(_)));
                *numbers |= operands.iter().any(|operand| matches!(operand, Operand::Number(..)));
            }
        }
        paths.retain(|path| counted[path.steps()].0 >= PIVOT_RULES_MIN);
        // Those that most rules compare; of as many the one that came first.
        paths.sort_by_key(|path| std::cmp::Reverse(counted[path.steps()].0));
        paths.truncate(PIVOTS_MAX);
        let pivots = paths.into_iter().zip(FIELDS as u8..).map(|(path, field)| {
            let (_, texts, numbers) = counted[path.steps()];
            let path_number = compiler.path(path);
            let pivot = Pivot {
                field,
                path: path_number,
                texts,
                numbers,
            };
            (path.steps(), pivot)
        });
        Self {
            pivots: pivots.collect(),
            values: Table::default(),
            triggers: Triggers::default(),
            compiler,
            drafts: Vec::new(),
        }
    }

    /// Drafts the rows of a rule.
    fn row(&mut self, rule: &'r Rule, number: u32, equalities: &mut Equalities) {
        let Equalities { keys, all, .. } = &mut *equalities;
        let values = &self.values;
        let number_of = |key: &Key| values.find(*key).unwrap_or(UNNAMED);
        for any in all.iter_mut() {
            let counts = keys[any.keys.clone()]
                .iter()
                .map(|key| u64::from(values.get(number_of(key)).len));
            any.rules = counts.sum();
        }
        let pivot = equalities.pivot();
        let Equalities { keys, all, are_whole } = &mut *equalities;
        let trigger = self.triggers.number(&rule.trigger);
        let pivot_test = pivot.and_then(|at| all[at].test);
        let of_trigger = &mut self.triggers.all[trigger as usize];
        for any in all.iter().filter(|any| any.test.is_none()) {
            of_trigger.fields |= 1 << any.field;
        }
        if let Some(pivot) = pivot.filter(|_| pivot_test.is_some()) {
            of_trigger.pivots |= 1 << (usize::from(all[pivot].field) - FIELDS);
        }
        // The rarest value first: it tells most rows apart.
        let mut also: [(u8, u32); 2] = [(0, trigger); 2];
        let mut free = 0;
        let at_pivot: Vec<u32> = pivot.map_or(vec![BROAD], |at| {
            keys[all[at].keys.clone()].iter().map(number_of).collect()
        });
        let mut others: Vec<usize> = (0..all.len())
            .filter(|at| Some(*at) != pivot && all[*at].test.is_none())
            .collect();
        others.sort_by_key(|at| all[*at].rules);
        for at in others {
            let (field, keys) = (all[at].field, &keys[all[at].keys.clone()]);
            match keys {
                [one] if free < also.len() => {
                    also[free] = (field, number_of(one));
                    free += 1;
                }
                _ => self.compiler.any_of(field, keys.iter().map(number_of)),
            }
        }
        for (at, condition) in rule.filters.conditions.iter().enumerate() {
            for (nth, test) in condition.tests.iter().enumerate() {
                if pivot_test != Some((at, nth)) {
                    self.compiler.check(&condition.path, test);
                }
            }
        }
        let bounds = rule.filters.price.as_ref().map_or(Bounds::ALL, Bounds::of);
        let ask_all = if *are_whole { 0 } else { ASK_ALL };
        let ask_price = if rule.filters.price.is_some() { ASK_PRICE } else { 0 };
        let row = Row {
            low: bounds.low,
            high: bounds.high,
            rule: number,
            trigger,
            also: also.map(|(_, number)| number),
            program: self.compiler.end(),
            also_of: also[0].0 | also[1].0 << 4,
            not: refused(rule),
            ask: ask_all | ask_price,
        };
        let second = also[0];
        self.drafts
            .extend(at_pivot.into_iter().map(|pivot| Draft { pivot, second, row }));
    }

    /// Puts the rows in their order, and each list in its place.
    fn lists(mut self) -> Lists {
        for slot in self.values.slots_mut() {
            (slot.start, slot.len) = (0, 0);
        }
        for draft in self.drafts.iter().filter(|draft| draft.pivot != BROAD) {
            self.values.get_mut(draft.pivot).len += 1;
        }
        for draft in &mut self.drafts {
            if draft.pivot == BROAD || self.values.get(draft.pivot).len <= LIST_MAX {
                draft.second = (0, 0);
            }
        }
        self.drafts
            .sort_unstable_by_key(|Draft { pivot, second, row }| (*pivot, *second, row.trigger, row.low, row.rule));
        let is_same = |one: &Draft, other: &Draft| (one.pivot, one.second) == (other.pivot, other.second);
        let (values, triggers) = (&mut self.values, &mut self.triggers);
        let paired = self.drafts.chunk_by(is_same).filter(|list| {
            let pivot = list[0].pivot;
            pivot != BROAD && values.get(pivot).len > LIST_MAX
        });
        let mut pairs = Table::of(paired.count());
        let mut start = 0;
        for list in self.drafts.chunk_by(is_same) {
            let (pivot, (field, second), len) = (list[0].pivot, list[0].second, list.len() as u32);
            if pivot == BROAD {
                let mut from = start;
                for of_trigger in list.chunk_by(|one, other| one.row.trigger == other.row.trigger) {
                    let end = from + of_trigger.len() as u32;
                    triggers.all[of_trigger[0].row.trigger as usize].broad = from..end;
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
        let rows: Box<[Row]> = self.drafts.iter().map(|draft| draft.row).collect();
        let tops = rows
            .chunks(BLOCK)
            .map(|block| block.iter().map(|row| row.high).max().unwrap_or(i64::MAX));
        let tops = tops.collect();
        let mut pivots: Vec<Pivot> = self.pivots.into_values().collect();
        pivots.sort_by_key(|pivot| pivot.field);
        Lists {
            rows,
            tops,
            values: self.values,
            pairs,
            triggers: self.triggers,
            pivots: pivots.into(),
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
