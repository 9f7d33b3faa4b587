//! The kinds of values that a field of a lead event may have, as far as its path shows it.

use super::{FIELDS, members};
use crate::path::{Path, Step};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Text,
    Number,
    Bool,
    Time,
    Record,
}

/// `None` for what can be anything or is nothing.
pub fn kind(path: &Path) -> Option<Kind> {
    let inner = match &path.steps()[1..] {
        [] => None,
        [Step::Name(name)] => Some(&**name),
        _ => return None,
    };
    Some(match (path.root(), inner) {
        ("payload", _) => return None,
        ("price" | "payout" | "revenue" | "attempt", None) | ("call", Some("billable_seconds")) => Kind::Number,
        ("is_test", None) | ("call", Some("answered")) => Kind::Bool,
        ("occurred_at", None) | ("call", Some("started_at" | "answered_at" | "ended_at")) => Kind::Time,
        (root, None) if root == "fields" || members(root).is_some() => Kind::Record,
        (root, _) if FIELDS.contains(&root) => Kind::Text,
        _ => return None,
    })
}
