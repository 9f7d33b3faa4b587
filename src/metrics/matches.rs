//! What counts matches. Every match passes here, so that no counter is looked up by its labels twice.

use std::collections::HashMap;
use std::sync::{Mutex, OnceLock, PoisonError};

use prometheus::{IntCounter, IntCounterVec};

use super::Maker;
use crate::action::ActionType;
use crate::lead::{TRIGGERS, trigger_label};
use crate::rules::RuleId;

#[derive(Debug)]
pub(super) struct Matches {
    by_labels: IntCounterVec,
    /// Those of it that there are already, by the indexes of the trigger and the action.
    counters: [[OnceLock<IntCounter>; ActionType::ALL.len()]; TRIGGERS.len() + 1],
    by_rule: IntCounterVec,
    /// By the rule's id.
    of_rules: Mutex<HashMap<Box<str>, IntCounter>>,
    rules_max: usize,
}

/// The index of a trigger among those that we know; of any other the one behind them.
pub(super) fn number(trigger: &str) -> usize {
    let known = TRIGGERS.iter().position(|known| *known == trigger);
    known.unwrap_or(TRIGGERS.len())
}

impl Matches {
    /// At most `rules_max` rules have a counter of their own.
    pub(super) fn build(make: &Maker, rules_max: usize) -> prometheus::Result<Self> {
        Ok(Self {
            by_labels: make.counters(
                "matches_total",
                "Rules that held for an event, by trigger and action.",
                &["trigger", "action"],
            )?,
            counters: Default::default(),
            by_rule: make.counters("rule_matches_total", "Events a rule held for.", &["rule_id"])?,
            of_rules: Mutex::default(),
            rules_max,
        })
    }

    pub(super) fn start_at_zero(&self) {
        for action in ActionType::ALL {
            self.by_labels.with_label_values(&["other", action.as_str()]);
        }
    }

    pub(super) fn count(&self, trigger: &str, action: ActionType, RuleId(rule_id): RuleId<'_>) {
        let counter = self.counters[number(trigger)][action as usize].get_or_init(|| {
            let labels = [trigger_label(trigger), action.as_str()];
            self.by_labels.with_label_values(&labels)
        });
        counter.inc();
        let mut of_rules = self.of_rules.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(counter) = of_rules.get(rule_id) {
            return counter.inc();
        }
        let is_counted = of_rules.len() < self.rules_max;
        let counter = self
            .by_rule
            .with_label_values(&[if is_counted { rule_id } else { "other" }]);
        counter.inc();
        if is_counted {
            of_rules.insert(rule_id.into(), counter);
        }
    }
}
