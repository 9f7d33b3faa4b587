//! The form of a rule: its fields as a browser shows and posts them, and the rule's JSON, both ways.
//!
//! A field has the path of what it holds as its name: `scope.level`, `filters.publisher` (once for each id),
//! `filters.price.op`, `.a` and `.b`, `where.N.path` with pairs of `.op` and `.value`, `action.token.secret`,
//! `properties.N.name` and `.value`. What no field can show (an operator with a list, a text with control characters, a
//! field that no rule has) stands as JSON in a field of its own, `keep.PATH`, which the browser posts back as it is. So
//! nothing of a rule is lost on its way through the form.
//!
//! - A field that is left blank is left out of the rule.
//! - Values that may be of several kinds are read as in YAML: `5` is a number with its digits kept, `"5"` a text, `true`
//!   a boolean.
//! - Lists of values are written with commas between; an element that has a comma itself stands in quotes.
//! - Fields of another action than the chosen one are left aside.

use serde_json::Value;

use super::Problem;
use crate::action::{self, ActionType};
use crate::rules::{Level, Party, is_unsold, takes_range, words};

mod read;
mod values;
mod write;

pub use read::rule;
pub use write::form;

/// A rule as the form shows it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Form {
    /// Names and values, in the form's order.
    pub fields: Vec<(String, String)>,
    /// The paths of the rule that only YAML can show; they are kept as they are.
    pub kept: Vec<String>,
}

/// A rule as the form was posted.
#[derive(Debug, Clone, PartialEq)]
pub struct Posted {
    pub rule: Value,
    /// What the form itself can't hold, such as a property that is named twice. The rule's own faults are found when it is
    /// checked.
    pub problems: Vec<Problem>,
}

/// Before the path of what no field can show.
const KEEP: &str = "keep.";

/// What the form offers for a trigger and a level: the same that a rule of them may have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offered {
    /// The parties that can be filtered by.
    pub parties: Vec<Party>,
    /// What a price filter compares, such as `Payout`; none where the events have no price.
    pub price: Option<String>,
    /// The operators of a price filter.
    pub price_operators: Vec<&'static str>,
    /// Whether the events can have a call.
    pub call: bool,
}

/// What can be asked of a trigger's events at a level.
pub fn offered(trigger: &str, level: Level) -> Offered {
    let is_refused = |party: &Party| level.implied().contains(party) || (is_unsold(trigger) && party.is_of_sale());
    let price_operators = match (is_unsold(trigger), takes_range(trigger)) {
        (true, _) => vec![],
        (false, true) => vec!["gte", "gt", "lte", "lt", "between"],
        (false, false) => vec!["gte", "gt", "lte", "lt"],
    };
    Offered {
        parties: Party::ALL.into_iter().filter(|party| !is_refused(party)).collect(),
        price: (!is_unsold(trigger)).then(|| words::price_label(trigger)),
        price_operators,
        call: !trigger.starts_with("lms."),
    }
}

/// The fields of an action's type, by their names in a rule.
pub fn settings(action: ActionType) -> impl Iterator<Item = &'static str> {
    action.fields().iter().chain(action::FIELDS).copied()
}

/// The action of a type's name.
fn action_of(name: &str) -> Option<ActionType> {
    ActionType::ALL.into_iter().find(|action| action.as_str() == name)
}

#[cfg(test)]
mod tests;
