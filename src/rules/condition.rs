//! Conditions under `where`: any field of an event, by path, compared with the rule's operand.
//!
//! A missing value fails every test but `ne` and `exists: false`. Numbers are compared in exact decimal arithmetic,
//! and only where a value reads as one; text is compared with its case. A time counts as its text, RFC 3339 in UTC.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use rust_decimal::Decimal;

use crate::lead::{Lookup, Value};
use crate::path::Path;

/// Every test must hold for what stands at the path.
#[derive(Debug, Clone, PartialEq)]
pub struct Condition {
    pub path: Arc<Path>,
    pub tests: Box<[Test]>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Test {
    Eq(Operand),
    Ne(Operand),
    In(Box<[Operand]>),
    Contains(Operand),
    StartsWith(Box<str>),
    EndsWith(Box<str>),
    Compare(Comparison, Decimal),
    Exists(bool),
}

/// The operand that a value is compared with.
#[derive(Debug, Clone, PartialEq)]
pub enum Operand {
    /// A number with the text it was written as.
    Number(Decimal, Box<str>),
    Text(Box<str>),
    Bool(bool),
    /// A list or an object.
    Json(Box<serde_json::Value>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    Gt,
    Gte,
    Lt,
    Lte,
}

impl Condition {
    pub fn holds(&self, event: &dyn Lookup) -> bool {
        let found = event.lookup(&self.path);
        self.tests.iter().all(|test| test.holds(found.as_ref()))
    }
}

impl Test {
    pub fn holds(&self, found: Option<&Value<'_>>) -> bool {
        let Some(value) = found else {
            return matches!(self, Test::Ne(_) | Test::Exists(false));
        };
        match self {
            Test::Eq(operand) => operand.equals(value),
            Test::Ne(operand) => !operand.equals(value),
            Test::In(operands) => operands.iter().any(|operand| operand.equals(value)),
            Test::Contains(operand) => operand.is_within(value),
            Test::StartsWith(start) => text_of(value).is_some_and(|text| text.starts_with(&**start)),
            Test::EndsWith(end) => text_of(value).is_some_and(|text| text.ends_with(&**end)),
            Test::Compare(comparison, bound) => value
                .to_decimal()
                .is_some_and(|number| comparison.holds(number, *bound)),
            Test::Exists(wanted) => *wanted,
        }
    }

    /// The operator, as rules write it.
    pub fn name(&self) -> &'static str {
        match self {
            Test::Eq(_) => "eq",
            Test::Ne(_) => "ne",
            Test::In(_) => "in",
            Test::Contains(_) => "contains",
            Test::StartsWith(_) => "starts_with",
            Test::EndsWith(_) => "ends_with",
            Test::Compare(comparison, _) => comparison.as_str(),
            Test::Exists(_) => "exists",
        }
    }
}

impl Operand {
    fn equals(&self, value: &Value<'_>) -> bool {
        match self {
            Operand::Number(number, _) => value.to_decimal() == Some(*number),
            Operand::Text(wanted) => text_of(value).is_some_and(|text| *text == **wanted),
            Operand::Bool(wanted) => matches!(value, Value::Bool(flag) if flag == wanted),
            Operand::Json(wanted) => matches!(value, Value::Json(json) if **json == **wanted),
        }
    }

    /// Whether this is a text within a text, or an element of a list.
    fn is_within(&self, value: &Value<'_>) -> bool {
        if let Value::Json(json) = value {
            let elements = json.as_array().map_or(&[][..], Vec::as_slice);
            return elements
                .iter()
                .filter_map(Value::of_json)
                .any(|element| self.equals(&element));
        }
        match self {
            // An unquoted number in a filter is taken as its text.
            Operand::Text(part) | Operand::Number(_, part) => text_of(value).is_some_and(|text| text.contains(&**part)),
            Operand::Bool(_) | Operand::Json(_) => false,
        }
    }
}

impl Comparison {
    pub const ALL: [Comparison; 4] = [Comparison::Gt, Comparison::Gte, Comparison::Lt, Comparison::Lte];

    pub fn as_str(self) -> &'static str {
        match self {
            Comparison::Gt => "gt",
            Comparison::Gte => "gte",
            Comparison::Lt => "lt",
            Comparison::Lte => "lte",
        }
    }

    pub fn holds(self, number: Decimal, bound: Decimal) -> bool {
        match self {
            Comparison::Gt => number > bound,
            Comparison::Gte => number >= bound,
            Comparison::Lt => number < bound,
            Comparison::Lte => number <= bound,
        }
    }
}

impl fmt::Display for Test {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.name())?;
        match self {
            Test::Eq(operand) | Test::Ne(operand) | Test::Contains(operand) => write!(f, "{operand}"),
            Test::StartsWith(part) | Test::EndsWith(part) => write!(f, "{part:?}"),
            Test::Compare(_, bound) => write!(f, "{bound}"),
            Test::Exists(wanted) => write!(f, "{wanted}"),
            Test::In(operands) => {
                let operands: Vec<String> = operands.iter().map(Operand::to_string).collect();
                write!(f, "[{}]", operands.join(", "))
            }
        }
    }
}

impl fmt::Display for Operand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Operand::Number(_, text) => f.write_str(text),
            Operand::Text(text) => write!(f, "{text:?}"),
            Operand::Bool(flag) => write!(f, "{flag}"),
            Operand::Json(json) => write!(f, "{json}"),
        }
    }
}

/// The value as the tests of texts take it.
pub(super) fn text_of<'v>(value: &'v Value<'_>) -> Option<Cow<'v, str>> {
    match value {
        Value::Text(_) | Value::Time(_) => Some(value.to_text()),
        Value::Money(_) | Value::Number(_) | Value::Bool(_) | Value::Json(_) => None,
    }
}

#[cfg(test)]
mod tests;
