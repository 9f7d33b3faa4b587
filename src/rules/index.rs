//! The rules in force, indexed by trigger and scope.
//!
//! An event needs eight lists at most: those of its trigger at its product, campaign, publisher and inlet, and at `*`
//! of each. Only the filters of rules on these lists are checked, and an event without any costs one look-up and no
//! allocation.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Level, Rule, Status, Versioned};
use crate::lead::LeadEvent;

/// An immutable set of rules; paused ones are left out.
#[derive(Debug, Default)]
pub struct RuleIndex {
    by_trigger: HashMap<Box<str>, [Scoped; Level::ALL.len()]>,
}

/// The rules of one trigger at one level.
#[derive(Debug, Default)]
struct Scoped {
    every: Vec<Arc<Versioned>>,
    by_id: HashMap<Box<str>, Vec<Arc<Versioned>>>,
}

impl RuleIndex {
    pub fn build(rules: impl IntoIterator<Item = Arc<Versioned>>) -> Self {
        let mut index = Self::default();
        for versioned in rules {
            let rule = &versioned.rule;
            if rule.status == Status::Paused {
                continue;
            }
            let levels = index.by_trigger.entry(rule.trigger.as_str().into()).or_default();
            let scoped = &mut levels[rule.scope.level as usize];
            match &rule.scope.id {
                None => scoped.every.push(versioned),
                Some(id) => scoped.by_id.entry(id.as_str().into()).or_default().push(versioned),
            }
        }
        index
    }

    /// Puts the rules that hold for an event into `found`, which is emptied first, in the order
    /// their jobs are written in: profiles first, then by rule id.
    pub fn matches<'i>(&'i self, event: &LeadEvent<'_>, found: &mut Vec<&'i Arc<Versioned>>) {
        found.clear();
        let Some(levels) = self.by_trigger.get(&*event.trigger) else {
            return;
        };
        for (level, scoped) in Level::ALL.into_iter().zip(levels) {
            let Some(id) = level.id_in(event) else { continue };
            let of_id = scoped.by_id.get(id).into_iter().flatten();
            found.extend(
                scoped
                    .every
                    .iter()
                    .chain(of_id)
                    .filter(|versioned| versioned.rule.holds_within_scope(event)),
            );
        }
        found.sort_unstable_by(|one, other| turn(&one.rule).cmp(&turn(&other.rule)));
    }
}

fn turn(rule: &Rule) -> (bool, &str) {
    (!rule.action.kind.action().goes_first(), &rule.id)
}

#[cfg(test)]
mod tests;
