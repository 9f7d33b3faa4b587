//! The value that a path finds in a field, and its JSON form, by the field's type.

use std::borrow::Cow;

use jiff::Timestamp;
use rust_decimal::Decimal;

use super::kind::Kind;
use super::table::Rows;
use super::{Fields, Payload, Text, Value};
use crate::path::{Step, follow};

/// A field's value.
pub(super) trait Found {
    /// Its members, where it is a record.
    const MEMBERS: Option<Rows> = None;

    /// The kind of value that can stand at the rest of a path: `None` for a path to anything or to nothing.
    fn kind(rest: &[Step]) -> Option<Kind>;

    /// The value at the rest of a path, or `None` when it is missing or null.
    fn find(&self, rest: &[Step]) -> Option<Value<'_>>;

    /// The value in an event's JSON form.
    fn to_json(&self) -> serde_json::Value {
        self.find(&[]).map_or(serde_json::Value::Null, |found| found.to_json())
    }
}

impl<F: Found> Found for Option<F> {
    const MEMBERS: Option<Rows> = F::MEMBERS;

    fn kind(rest: &[Step]) -> Option<Kind> {
        F::kind(rest)
    }

    fn find(&self, rest: &[Step]) -> Option<Value<'_>> {
        self.as_ref()?.find(rest)
    }

    fn to_json(&self) -> serde_json::Value {
        self.as_ref().map_or(serde_json::Value::Null, Found::to_json)
    }
}

impl Found for Text<'_> {
    fn kind(rest: &[Step]) -> Option<Kind> {
        rest.is_empty().then_some(Kind::Text)
    }

    fn find(&self, rest: &[Step]) -> Option<Value<'_>> {
        rest.is_empty().then(|| Value::of_text(self))
    }
}

impl Found for Timestamp {
    fn kind(rest: &[Step]) -> Option<Kind> {
        rest.is_empty().then_some(Kind::Time)
    }

    fn find(&self, rest: &[Step]) -> Option<Value<'_>> {
        rest.is_empty().then_some(Value::Time(*self))
    }
}

impl Found for bool {
    fn kind(rest: &[Step]) -> Option<Kind> {
        rest.is_empty().then_some(Kind::Bool)
    }

    fn find(&self, rest: &[Step]) -> Option<Value<'_>> {
        rest.is_empty().then_some(Value::Bool(*self))
    }
}

impl Found for i64 {
    fn kind(rest: &[Step]) -> Option<Kind> {
        rest.is_empty().then_some(Kind::Number)
    }

    fn find(&self, rest: &[Step]) -> Option<Value<'_>> {
        rest.is_empty().then(|| Value::Number(Cow::Owned(self.to_string())))
    }
}

impl Found for Decimal {
    fn kind(rest: &[Step]) -> Option<Kind> {
        rest.is_empty().then_some(Kind::Number)
    }

    fn find(&self, rest: &[Step]) -> Option<Value<'_>> {
        rest.is_empty().then_some(Value::Money(*self))
    }

    /// A text, so that no reader makes a float of it.
    fn to_json(&self) -> serde_json::Value {
        Value::Money(*self).to_text().into()
    }
}

impl Found for Fields<'_> {
    fn kind(rest: &[Step]) -> Option<Kind> {
        match rest {
            [] => Some(Kind::Record),
            [Step::Name(_)] => Some(Kind::Text),
            _ => None,
        }
    }

    fn find(&self, rest: &[Step]) -> Option<Value<'_>> {
        match rest {
            [] if self.is_empty() => None,
            [] => Some(Value::Json(Cow::Owned(self.to_json()))),
            [Step::Name(wanted)] => self.get(wanted).map(Value::of_text),
            _ => None,
        }
    }

    fn to_json(&self) -> serde_json::Value {
        let entries = self.iter();
        let object: serde_json::Map<_, _> = entries
            .map(|(name, value)| (name.to_string(), value.as_deref().into()))
            .collect();
        object.into()
    }
}

impl Found for Payload<'_> {
    fn kind(_: &[Step]) -> Option<Kind> {
        None
    }

    fn find(&self, rest: &[Step]) -> Option<Value<'_>> {
        follow(rest, self.json()).and_then(Value::of_json)
    }
}
