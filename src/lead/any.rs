//! Arbitrary JSON in arbitrary places, for property tests.

use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::{Map, Value};

/// Stands deep in nearly every list and object, and in no text: an id that has it was made of one of them.
pub(crate) const NESTED: char = '☠';

/// Any JSON; every text holds SECRET, unless it is a number, a date or blank.
pub(crate) fn json() -> impl Strategy<Value = Value> {
    let numbers = "-?(0|[1-9][0-9]{0,19})(\\.[0-9]{1,3})?([eE][+-]?[0-9]{1,3})?";
    let number = numbers.prop_map(|text| serde_json::from_str(&text).unwrap());
    let text = prop_oneof![
        Just(String::new()),
        Just(" \t".to_owned()),
        Just("SECRET \u{fffd}".to_owned()),
        Just("SECRET\u{0}".to_owned()),
        Just("x".repeat(600)),
        "(SECRET|20260305T151600Z|19901332|2026-03-05)",
        "[0-9]{1,18}",
        "SECRET[a-zé.{}\\[\\]|]{0,5}",
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        number,
        text.prop_map(Value::String),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        let operator = prop_oneof!["key[a-z]{0,2}", "\\$(add|incr|delete|set|push)"];
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..3).prop_map(|mut list| {
                list.push(Value::Array(vec![NESTED.to_string().into()]));
                Value::Array(list)
            }),
            proptest::collection::vec((operator.clone(), inner.clone()), 0..3).prop_map(|members| {
                let nested = std::iter::once((NESTED.to_string(), Value::Null));
                Value::Object(members.into_iter().chain(nested).collect())
            }),
            (operator, inner).prop_map(|(name, operand)| Value::Object(Map::from_iter([(name, operand)]))),
            Just(Value::Array(Vec::new())),
            Just(Value::Object(Map::new())),
        ]
    })
}

/// Every place within `value`, the whole aside.
fn places(value: &Value) -> Vec<String> {
    fn walk(value: &Value, at: &str, found: &mut Vec<String>) {
        let inner: Vec<(String, &Value)> = match value {
            Value::Object(members) => members.iter().map(|(name, value)| (name.clone(), value)).collect(),
            Value::Array(list) => list
                .iter()
                .enumerate()
                .map(|(at, value)| (at.to_string(), value))
                .collect(),
            _ => Vec::new(),
        };
        for (name, value) in inner {
            let at = format!("{at}/{name}");
            walk(value, &at, found);
            found.push(at);
        }
    }
    let mut found = Vec::new();
    walk(value, "", &mut found);
    found
}

/// Puts each value into a place of `body` that is chosen by chance.
pub(crate) fn put(body: &mut Value, values: Vec<(Index, Value)>) {
    for (at, value) in values {
        let places = places(body);
        if !places.is_empty() {
            *body.pointer_mut(at.get::<String>(&places)).unwrap() = value;
        }
    }
}
