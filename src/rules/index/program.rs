//! What a row leaves to check, as words of a program: filters with several ids, and conditions under `where`.
//!
//! Rules share their checks: a condition that a million rules have is there once, and so is a path. Whatever the number of
//! rules that ask, an event's value at a path is found once, and only where a row came so far.

use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::mem::discriminant;
use std::sync::Arc;

use super::table::Folding;
use crate::lead::{LeadEvent, Lookup, Value};
use crate::path::{Path, Step};
use crate::rules::condition::{Operand, Test};

/// Ends a program.
const END: u32 = u32::MAX;
/// The word before the numbers of which a field must have one; any other word is a check.
const ANY_OF: u32 = 1 << 31;
/// The bits of such a word that say how many there are; the field stands above them.
const COUNT_BITS: u32 = 24;
const COUNT: u32 = (1 << COUNT_BITS) - 1;

/// The program of a row that leaves nothing to check.
pub(super) const NOTHING: u32 = 0;

/// The programs of all rows, one behind the other.
#[derive(Debug, Default)]
pub(super) struct Programs {
    words: Box<[u32]>,
    checks: Box<[Check]>,
    paths: Box<[Arc<Path>]>,
}

/// A test of what stands at a path.
#[derive(Debug)]
struct Check {
    path: u32,
    test: Test,
}

/// Writes programs. Every test of every rule has a number here; a check is made of those that programs have.
#[derive(Debug)]
pub(super) struct Compiler<'r> {
    words: Vec<u32>,
    pub(super) tests: Vec<Asked<'r>>,
    tests_known: HashMap<Known<'r>, u32, Folding>,
    checks: Vec<Check>,
    paths: Vec<Arc<Path>>,
    paths_known: HashMap<&'r [Step], u32, Folding>,
    start: usize,
}

/// A test that rules have.
#[derive(Debug)]
pub(super) struct Asked<'r> {
    pub(super) path: u32,
    pub(super) test: &'r Test,
    /// How many have it.
    pub(super) rules: usize,
    /// Its check, where it has one.
    check: Option<u32>,
}

/// The number of a test's path, and the test.
#[derive(Debug, PartialEq)]
struct Known<'r>(u32, &'r Test);

// What a test compares with equals itself: there are no floats in it.
impl Eq for Known<'_> {}

impl Hash for Known<'_> {
    fn hash<H: Hasher>(&self, to: &mut H) {
        let operand = |operand: &Operand, to: &mut H| match operand {
            Operand::Number(number, _) => number.hash(to),
            Operand::Text(text) => text.hash(to),
            Operand::Bool(flag) => flag.hash(to),
            Operand::Json(json) => json.hash(to),
        };
        let Self(path, test) = self;
        path.hash(to);
        discriminant(*test).hash(to);
        match test {
            Test::Eq(one) | Test::Ne(one) | Test::Contains(one) => operand(one, to),
            Test::In(all) => all.iter().for_each(|one| operand(one, to)),
            Test::StartsWith(part) | Test::EndsWith(part) => part.hash(to),
            Test::Compare(comparison, bound) => (*comparison as u8, bound).hash(to),
            Test::Exists(wanted) => wanted.hash(to),
        }
    }
}

/// The programs as they run for one event.
#[derive(Debug)]
pub(super) struct Run<'p, 'e> {
    programs: &'p Programs,
    event: &'e LeadEvent<'e>,
    /// By path, what was found there.
    found: Vec<Option<Option<Value<'e>>>>,
    /// The last checks' answers, each at the place that its number gives: the check's number and one, doubled, and the answer.
    answers: [u32; 32],
}

impl Programs {
    pub(super) fn run<'p, 'e>(&'p self, event: &'e LeadEvent<'e>) -> Run<'p, 'e> {
        Run {
            programs: self,
            event,
            found: Vec::new(),
            answers: [0; 32],
        }
    }
}

impl<'e> Run<'_, 'e> {
    /// What stands at a path.
    pub(super) fn value(&mut self, path: u32) -> Option<&Value<'e>> {
        let paths = &self.programs.paths;
        if self.found.is_empty() {
            self.found.resize_with(paths.len(), || None);
        }
        let path = path as usize;
        let found = self.found[path].get_or_insert_with(|| self.event.lookup(&paths[path]));
        found.as_ref()
    }

    /// Whether all that a program checks holds. `numbers` are those of the event's values, by field.
    pub(super) fn holds(&mut self, program: u32, numbers: &[u32]) -> bool {
        let programs = self.programs;
        let mut at = program as usize;
        loop {
            let word = programs.words[at];
            at += 1;
            if word == END {
                return true;
            }
            let holds = if word & ANY_OF == 0 {
                self.check(word)
            } else {
                let any_of = &programs.words[at..][..(word & COUNT) as usize];
                at += any_of.len();
                let number = numbers[((word & !ANY_OF) >> COUNT_BITS) as usize];
                any_of.binary_search(&number).is_ok()
            };
            if !holds {
                return false;
            }
        }
    }

    fn check(&mut self, number: u32) -> bool {
        let known = self.answers[number as usize % self.answers.len()];
        if known >> 1 == number + 1 {
            return known & 1 == 1;
        }
        let check = &self.programs.checks[number as usize];
        let holds = check.test.holds(self.value(check.path));
        self.answers[number as usize % self.answers.len()] = (number + 1) << 1 | u32::from(holds);
        holds
    }
}

impl Default for Compiler<'_> {
    fn default() -> Self {
        Self {
            words: vec![END],
            tests: Vec::new(),
            tests_known: HashMap::default(),
            checks: Vec::new(),
            paths: Vec::new(),
            paths_known: HashMap::default(),
            start: 1,
        }
    }
}

impl<'r> Compiler<'r> {
    /// The number of a path, however it is written.
    pub(super) fn path(&mut self, path: &'r Arc<Path>) -> u32 {
        let next = self.paths.len() as u32;
        *self.paths_known.entry(path.steps()).or_insert_with(|| {
            self.paths.push(Arc::clone(path));
            next
        })
    }

    /// The number of a test that a rule has.
    pub(super) fn test(&mut self, path: u32, test: &'r Test) -> u32 {
        let next = self.tests.len() as u32;
        let number = *self.tests_known.entry(Known(path, test)).or_insert_with(|| {
            self.tests.push(Asked {
                path,
                test,
                rules: 0,
                check: None,
            });
            next
        });
        self.tests[number as usize].rules += 1;
        number
    }

    /// A field's value must have one of these numbers.
    pub(super) fn any_of(&mut self, field: u8, numbers: impl ExactSizeIterator<Item = u32>) {
        let count = numbers.len() as u32;
        self.words.push(ANY_OF | u32::from(field) << COUNT_BITS | count);
        let first = self.words.len();
        self.words.extend(numbers);
        self.words[first..].sort_unstable();
    }

    /// A test must hold.
    pub(super) fn check(&mut self, test: u32) {
        let (checks, asked) = (&mut self.checks, &mut self.tests[test as usize]);
        let number = *asked.check.get_or_insert_with(|| {
            let (path, test) = (asked.path, asked.test.clone());
            checks.push(Check { path, test });
            checks.len() as u32 - 1
        });
        self.words.push(number);
    }

    /// Ends a row's program, and says where it begins.
    pub(super) fn end(&mut self) -> u32 {
        if self.words.len() == self.start {
            return NOTHING;
        }
        self.words.push(END);
        std::mem::replace(&mut self.start, self.words.len()) as u32
    }

    pub(super) fn programs(self) -> Programs {
        Programs {
            words: self.words.into(),
            checks: self.checks.into(),
            paths: self.paths.into(),
        }
    }
}
