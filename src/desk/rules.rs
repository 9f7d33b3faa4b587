//! The rules: look at them, check a text, and in [`write`] put rules in force.
//!
//! A [`View`] of the rules topic answers all of it. [`View::scan`] reads a fresh one; a caller that asks often keeps
//! one and gives it each new record.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use super::{Error, Problem};
use crate::action::ActionType;
use crate::config::Config;
use crate::kafka::reader::{Record, Tail};
use crate::reader;
use crate::rules::log::{Entry, Rejection, RuleLog};
use crate::rules::{Level, Rule, Status, check};
use crate::yaml;

pub mod write;

/// The rules topic as far as it was read.
#[derive(Debug, Default)]
pub struct View {
    log: RuleLog,
    /// By rule id, its last record, a deletion too.
    last: HashMap<String, Last>,
}

/// Where a record stands, and when it was written, epoch milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Last {
    offset: i64,
    changed_at: i64,
}

impl View {
    /// Reads the topic to its end.
    pub fn scan(config: &Config) -> Result<Self, Error> {
        let mut view = Self::default();
        Tail::open(config, &config.topics.rules)
            .and_then(|mut tail| tail.read(|record| view.take(&record)))
            .map_err(Error::Unavailable)?;
        Ok(view)
    }

    /// Takes in the topic's next record.
    pub fn take(&mut self, record: &Record) {
        if let Some(key) = &record.key {
            let last = Last {
                offset: record.offset,
                changed_at: record.timestamp,
            };
            self.last.insert(String::from_utf8_lossy(key).into_owned(), last);
        }
        self.log
            .apply(record.offset, record.key.as_deref(), record.value.as_deref());
    }

    /// What is in force, and what was rejected.
    pub fn log(&self) -> &RuleLog {
        &self.log
    }

    /// The version of a rule that is in force.
    pub fn version(&self, id: &str) -> Option<i64> {
        self.log.entry(id)?.version()
    }

    /// The rule as it was written, where one is in force.
    fn written(&self, id: &str) -> Option<&Value> {
        Some(&self.log.entry(id)?.in_force.as_ref()?.written)
    }
}

/// What [`list`] gives: rules that meet every condition given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    pub level: Option<Level>,
    pub scope_id: Option<String>,
    pub trigger: Option<String>,
    pub action: Option<ActionType>,
    pub status: Option<Status>,
    /// Stands in the id or the name, whatever its case.
    pub text: Option<String>,
}

/// What stands under a rule's id.
#[derive(Debug, Clone)]
pub struct Listed<'v> {
    pub id: &'v str,
    /// The rule in force and its JSON; none where all that stands there was rejected.
    pub in_force: Option<InForce<'v>>,
    /// A later record that is no valid rule.
    pub rejected: Option<&'v Rejection>,
    /// What may not be written like that any more, and stays in force.
    pub warnings: Vec<Problem>,
    /// When the last record came, epoch milliseconds.
    pub changed_at: i64,
}

/// A rule in force.
#[derive(Debug, Clone, Copy)]
pub struct InForce<'v> {
    pub rule: &'v Rule,
    pub version: i64,
    pub written: &'v Value,
}

impl Filter {
    fn holds(&self, listed: &Listed<'_>) -> bool {
        let rule = listed.in_force.map(|in_force| in_force.rule);
        let is =
            |wanted: &Option<String>, found: Option<&str>| wanted.as_deref().is_none_or(|wanted| found == Some(wanted));
        let has = |text: &String| {
            let names = [Some(listed.id), rule.and_then(|rule| rule.name.as_deref())];
            let text = text.to_lowercase();
            names
                .into_iter()
                .flatten()
                .any(|name| name.to_lowercase().contains(&text))
        };
        let level = rule.map(|rule| rule.scope.level);
        let action = rule.map(|rule| rule.action.kind.action());
        self.level.is_none_or(|wanted| level == Some(wanted))
            && is(&self.scope_id, rule.map(|rule| rule.scope.id.as_deref().unwrap_or("*")))
            && is(&self.trigger, rule.map(|rule| rule.trigger.as_str()))
            && self.action.is_none_or(|wanted| action == Some(wanted))
            && self
                .status
                .is_none_or(|wanted| rule.map(|rule| rule.status) == Some(wanted))
            && self.text.as_ref().is_none_or(has)
    }
}

/// What stands on the topic and meets the filter, by id.
pub fn list<'v>(view: &'v View, filter: &'v Filter) -> impl Iterator<Item = Listed<'v>> {
    let all = view.log.list().map(|(id, entry)| listed(view, id, entry));
    all.filter(|listed| filter.holds(listed))
}

/// The rule that is in force under an id.
pub fn get<'v>(view: &'v View, id: &str) -> Result<InForce<'v>, Error> {
    let entry = view.log.entry(id);
    entry.and_then(in_force).ok_or_else(|| missing(id))
}

fn missing(id: &str) -> Error {
    Error::NotFound(format!(
        "there is no rule {id} in force; leadlane rules list shows those that are"
    ))
}

fn in_force(entry: &Entry) -> Option<InForce<'_>> {
    let in_force = entry.in_force.as_ref()?;
    Some(InForce {
        rule: &in_force.versioned.rule,
        version: in_force.versioned.version,
        written: &in_force.written,
    })
}

fn listed<'v>(view: &'v View, id: &'v str, entry: &'v Entry) -> Listed<'v> {
    let in_force = in_force(entry);
    let refusals = in_force.map(|in_force| check::refusals(in_force.written));
    Listed {
        id,
        in_force,
        rejected: entry.rejected.as_ref(),
        warnings: refusals.into_iter().flatten().map(Problem::from).collect(),
        changed_at: view.last.get(id).map_or(0, |last| last.changed_at),
    }
}

/// A rule as somebody wrote it, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Draft {
    /// The id as it is written, whether or not it is one.
    pub id: String,
    /// Where it begins in its YAML text, from 1.
    pub line: usize,
    pub written: Value,
    /// None where what is written is no rule.
    pub rule: Option<Rule>,
    /// Why it can't be put in force.
    pub errors: Vec<Problem>,
    pub warnings: Vec<Problem>,
}

impl Draft {
    /// Checks a rule that was written as JSON.
    pub fn of(config: &Config, written: Value) -> Self {
        Self::at_line(config, written, 1)
    }

    fn at_line(config: &Config, written: Value, line: usize) -> Self {
        let id = written.get("id").and_then(Value::as_str);
        let mut draft = Self {
            id: id.unwrap_or("rule without an id").to_owned(),
            line,
            rule: None,
            errors: Vec::new(),
            warnings: Vec::new(),
            written,
        };
        match Rule::from_json(&draft.written) {
            Err(problems) => draft.errors.extend(problems.into_iter().map(Problem::from)),
            Ok(rule) => {
                let refusals = check::refusals(&draft.written);
                draft.errors.extend(refusals.into_iter().map(Problem::from));
                draft
                    .warnings
                    .extend(check::warnings(&rule).into_iter().map(Problem::from));
                let accounts: Vec<&str> = config.clevertap.accounts.keys().map(String::as_str).collect();
                match check::account(&rule, &accounts) {
                    Ok(warning) => draft.warnings.extend(warning.map(Problem::from)),
                    Err(problem) => draft.errors.push(problem.into()),
                }
                draft.rule = Some(rule);
            }
        }
        draft
    }
}

/// Checks every rule of a YAML text, which holds several as documents or as one list.
pub fn read(config: &Config, text: &str) -> Result<Vec<Draft>, Error> {
    let entries = yaml::entries(text).map_err(|error| Error::invalid(error.to_string()))?;
    if entries.is_empty() {
        return Err(Error::invalid("holds no rule"));
    }
    let draft = |entry: yaml::Document| Draft::at_line(config, entry.value, entry.line);
    Ok(entries.into_iter().map(draft).collect())
}

/// Refuses ids that stand twice among rules that go together.
pub fn tell_apart<'d>(drafts: impl IntoIterator<Item = &'d mut Draft>) {
    let mut ids = HashSet::new();
    for Draft { id, rule, errors, .. } in drafts {
        if rule.is_some() && !ids.insert(&*id) {
            errors.push(Problem {
                place: String::new(),
                message: "the id is given twice; each rule needs its own".to_owned(),
            });
        }
    }
}

impl From<reader::Problem> for Problem {
    fn from(problem: reader::Problem) -> Self {
        Self {
            place: problem.field,
            message: problem.message,
        }
    }
}

#[cfg(test)]
mod tests;
