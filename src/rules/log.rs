//! The state of the rules topic: which version of which rule is in force.
//!
//! Records go in by [`RuleLog::apply`] in the order of their offsets. A record that is no valid
//! rule stops nothing: the last good version stays in force, and the rejection is kept beside it
//! until a good record or a tombstone takes its place. What was read before is never applied
//! twice, and no reason quotes a record's content.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use super::index::RuleIndex;
use super::{Problem, Rule, Status, Versioned};

/// Everything read from the topic so far.
#[derive(Debug, Default)]
pub struct RuleLog {
    entries: BTreeMap<String, Entry>,
    /// Above every offset that was applied.
    next_offset: i64,
}

/// What stands under one rule id: a version in force, a rejected record, or both.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Entry {
    pub in_force: Option<InForce>,
    pub rejected: Option<Rejection>,
}

/// A rule, and the JSON it was written as.
#[derive(Debug, Clone, PartialEq)]
pub struct InForce {
    pub versioned: Arc<Versioned>,
    pub written: Arc<Value>,
}

/// A record that is no valid rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    pub offset: i64,
    pub reason: Reason,
    /// Where and how to mend it.
    pub detail: String,
}

/// Why a record was rejected; a metric label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    NoKey,
    NotJson,
    InvalidRule,
    IdMismatch,
}

/// What a record changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Applied {
    /// The rules in force are others now.
    Changed,
    Unchanged,
    Rejected(Rejection),
}

/// The rules in force at one moment.
#[derive(Debug, Default)]
pub struct Rules {
    pub index: RuleIndex,
    /// How many have the status active.
    pub active: usize,
    /// The offset of the last record that was read; -1 before the first.
    pub version: i64,
}

impl RuleLog {
    pub fn apply(&mut self, offset: i64, key: Option<&[u8]>, value: Option<&[u8]>) -> Applied {
        if offset < self.next_offset {
            return Applied::Unchanged;
        }
        self.next_offset = offset + 1;
        let Some(key) = key else {
            let detail = "the record has no key; its key is the rule's id".into();
            return Applied::Rejected(Rejection {
                offset,
                reason: Reason::NoKey,
                detail,
            });
        };
        let id = String::from_utf8_lossy(key).into_owned();
        let Some(value) = value.filter(|value| !value.is_empty()) else {
            let removed = self.entries.remove(&id);
            let was_in_force = removed.is_some_and(|entry| entry.in_force.is_some());
            return if was_in_force {
                Applied::Changed
            } else {
                Applied::Unchanged
            };
        };
        match read(&id, value) {
            Ok((rule, written)) => {
                let in_force = InForce {
                    versioned: Arc::new(Versioned { rule, version: offset }),
                    written: Arc::new(written),
                };
                self.entries.insert(
                    id,
                    Entry {
                        in_force: Some(in_force),
                        rejected: None,
                    },
                );
                Applied::Changed
            }
            Err((reason, detail)) => {
                let rejection = Rejection { offset, reason, detail };
                self.entries.entry(id).or_default().rejected = Some(rejection.clone());
                Applied::Rejected(rejection)
            }
        }
    }

    /// The rules in force, ready to be asked.
    pub fn snapshot(&self) -> Rules {
        let in_force = || self.entries.values().filter_map(|entry| entry.in_force.as_ref());
        Rules {
            index: RuleIndex::build(in_force().map(|in_force| Arc::clone(&in_force.versioned))),
            active: in_force()
                .filter(|in_force| in_force.versioned.rule.status == Status::Active)
                .count(),
            version: self.next_offset - 1,
        }
    }

    /// Every id with its entry, by id.
    pub fn list(&self) -> impl Iterator<Item = (&str, &Entry)> {
        self.entries.iter().map(|(id, entry)| (id.as_str(), entry))
    }

    pub fn entry(&self, id: &str) -> Option<&Entry> {
        self.entries.get(id)
    }
}

impl Entry {
    pub fn status(&self) -> Option<Status> {
        Some(self.in_force.as_ref()?.versioned.rule.status)
    }

    pub fn version(&self) -> Option<i64> {
        Some(self.in_force.as_ref()?.versioned.version)
    }
}

impl Reason {
    pub const ALL: [Reason; 4] = [Reason::NoKey, Reason::NotJson, Reason::InvalidRule, Reason::IdMismatch];

    pub fn as_str(self) -> &'static str {
        match self {
            Reason::NoKey => "no_key",
            Reason::NotJson => "not_json",
            Reason::InvalidRule => "invalid_rule",
            Reason::IdMismatch => "id_mismatch",
        }
    }
}

fn read(id: &str, value: &[u8]) -> Result<(Rule, Value), (Reason, String)> {
    let written: Value = serde_json::from_slice(value).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        (
            Reason::NotJson,
            format!("no JSON from line {line}, column {column} on; write the rule again"),
        )
    })?;
    let rule = Rule::from_json(&written).map_err(|problems| (Reason::InvalidRule, in_one_line(&problems)))?;
    if *rule.id != *id {
        return Err((
            Reason::IdMismatch,
            "id: differs from the record's key; write the rule under its own id".into(),
        ));
    }
    Ok((rule, written))
}

fn in_one_line(problems: &[Problem]) -> String {
    problems.iter().map(Problem::to_string).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests;
