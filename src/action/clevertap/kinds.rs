//! The kind of a CleverTap property's value.
//!
//! A value of the event takes the form that CleverTap wants where that means the same, such as `"5"` for `$incr`. Any
//! other value fails with its place, since a wrong value in a profile can't be taken out again.
//! [`record`](super::record) judges names and sizes.

use serde_json::{Map, Value};

use super::names::OPERATORS;
use super::render::Form;
use crate::amounts;
use crate::lead;
use crate::template::Stop;
use crate::text::truncate;

/// The properties that CleverTap reads itself, and only as a text.
const TEXTS: [&str; 4] = ["Name", "Email", "Phone", "Photo"];

/// Whether a value is one that CleverTap takes as it is; of any other, [`checked`] says more.
pub(super) fn is_plain(name: &str, value: &lead::Value<'_>, form: Form) -> bool {
    match (value, form) {
        // A number may be beyond what CleverTap can hold.
        (lead::Value::Number(_) | lead::Value::Json(_), _) => false,
        (lead::Value::Text(_) | lead::Value::Time(_), Form::Profile) => true,
        (_, Form::Profile) => !TEXTS.contains(&name),
        (_, Form::Purchase) => !["Amount", "Items"].contains(&name),
        (_, Form::Event) => true,
    }
}

/// A property in the form that CleverTap takes; none where it comes to nothing, such as `$add` of an empty list.
pub(super) fn checked(name: &str, value: Value, form: Form) -> Result<Option<Value>, Stop> {
    let place = format!("properties.{}", truncate(name, 60));
    match form {
        Form::Profile if TEXTS.contains(&name) => well_known(&place, value),
        Form::Profile => of_profile(&place, value),
        Form::Purchase if name == "Amount" => amount(&place, value).map(Some),
        Form::Purchase if name == "Items" => items(&place, value).map(Some),
        Form::Event | Form::Purchase => scalar(&place, value).map(Some),
    }
}

fn of_profile(place: &str, value: Value) -> Result<Option<Value>, Stop> {
    Ok(match value {
        Value::Array(list) => Some(texts(place, &list)?.into()),
        Value::Object(members) if members.keys().any(|name| name.starts_with('$')) => operation(place, members)?,
        Value::Object(members) => {
            let mut checked = Map::new();
            for (name, value) in members {
                let value = of_profile(&format!("{place}.{}", truncate(&name, 60)), value)?;
                checked.extend(value.map(|value| (name, value)));
            }
            Some(Value::Object(checked))
        }
        value => Some(finite(place, value)?),
    })
}

fn well_known(place: &str, value: Value) -> Result<Option<Value>, Stop> {
    match value {
        Value::String(_) | Value::Null => Ok(Some(value)),
        Value::Object(members) if members.keys().any(|name| name.starts_with('$')) => operation(place, members),
        _ => fail(place, "must be a text"),
    }
}

fn operation(place: &str, members: Map<String, Value>) -> Result<Option<Value>, Stop> {
    if members.len() != 1 {
        return fail(place, "must hold one operator alone");
    }
    let Some((name, operand)) = members.into_iter().next() else {
        return Ok(None);
    };
    if !OPERATORS.contains(&name.as_str()) {
        return fail(
            place,
            "holds a member that begins with $ and is no operator of CleverTap's",
        );
    }
    let at = format!("{place}.{name}");
    let operand = match (name.as_str(), operand) {
        ("$delete", Value::Bool(true)) => Value::Bool(true),
        ("$delete", _) => return fail(&at, "must be true"),
        ("$incr" | "$decr", operand) => number(&at, operand)?,
        (_, Value::Array(list)) => match texts(&at, &list)? {
            texts if !texts.is_empty() => texts.into(),
            _ if name == "$set" => return fail(&at, "must not be an empty list; to clear the property, use $delete"),
            _ => return Ok(None),
        },
        (_, _) => return fail(&at, "must be a list of texts"),
    };
    Ok(Some(Map::from_iter([(name, operand)]).into()))
}

/// A list's elements as texts, without the null ones.
fn texts(place: &str, list: &[Value]) -> Result<Vec<Value>, Stop> {
    let there = list.iter().enumerate().filter(|(_, element)| !element.is_null());
    there
        .map(|(at, element)| match element {
            Value::Array(_) | Value::Object(_) => fail(&format!("{place}[{at}]"), "must be a text"),
            element => Ok(lead::Value::of_json(element).map_or(Value::Null, |value| value.to_text().into())),
        })
        .collect()
}

fn amount(place: &str, value: Value) -> Result<Value, Stop> {
    match value {
        Value::Null => Ok(Value::Null),
        value => number(place, value),
    }
}

/// A number, or the number that a text says.
fn number(place: &str, value: Value) -> Result<Value, Stop> {
    let number = match &value {
        Value::Number(_) => return finite(place, value),
        Value::String(text) => amounts::decimal(text.trim()),
        _ => None,
    };
    match number {
        Some(number) => Ok(lead::Value::Money(number).to_json()),
        None => fail(place, "must be a number, without currency or separators of thousands"),
    }
}

fn items(place: &str, value: Value) -> Result<Value, Stop> {
    let is_item = |item: &Value| {
        let members = item.as_object();
        let is_plain = |value: &Value| match value {
            Value::Number(number) => number.as_f64().is_some(),
            value => !value.is_array() && !value.is_object(),
        };
        members.is_some_and(|members| members.values().all(is_plain))
    };
    match &value {
        Value::Array(items) if items.iter().all(is_item) => Ok(value),
        _ => fail(place, "must be a list of objects that hold texts, numbers and booleans"),
    }
}

fn scalar(place: &str, value: Value) -> Result<Value, Stop> {
    match value {
        Value::Array(_) | Value::Object(_) => fail(
            place,
            "is a list or an object, which CleverTap takes in an event as Items of Charged alone",
        ),
        value => finite(place, value),
    }
}

/// Whatever but a number so large that who reads it as a float has none.
fn finite(place: &str, value: Value) -> Result<Value, Stop> {
    match value {
        Value::Number(number) if number.as_f64().is_none() => fail(place, "is a number beyond what CleverTap can hold"),
        value => Ok(value),
    }
}

fn fail<T>(place: &str, why: &str) -> Result<T, Stop> {
    Err(Stop::Fail {
        detail: format!("{place} {why}"),
    })
}
