//! The kinds of values that a field of a lead event may have, as far as its path shows it.

use super::LeadEvent;
use super::found::Found;
use crate::path::Path;

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
    LeadEvent::kind(path.steps())
}
