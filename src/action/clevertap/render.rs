//! Renders CleverTap's properties for one event.
//!
//! One record has one budget of bytes, so that a rule that asks for much of a large payload often costs no more than a
//! record may weigh.

use std::collections::{BTreeMap, HashSet};
use std::ops::Bound;

use serde_json::{Map, Value};

use super::names::OPERATORS;
use super::{Nulls, Properties, Property, Whole, kinds};
use crate::amounts::Digits;
use crate::lead::{self, LeadEvent};
use crate::template::{OnMissing, Stop, Target, Template};
use crate::text::json;

/// Bytes of the names and values of one record. With 256 properties of the longest names and values it has 160 KiB.
const RECORD_MAX: usize = 1 << 20;

/// The values that CleverTap takes besides plain ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// Lists of texts, and operators.
    Profile,
    /// Nothing.
    Event,
    /// A list of `Items`.
    Purchase,
}

/// Writes the properties as a JSON object.
pub(super) fn properties(
    event: &LeadEvent<'_>,
    properties: &Properties,
    form: Form,
    on_missing: OnMissing,
    body: &mut String,
) -> Result<(), Stop> {
    let mut room = Room(RECORD_MAX);
    body.push('{');
    let mut written = Written {
        body,
        form,
        wrong: None,
    };
    match &properties.whole {
        None => {
            for (name, value) in &properties.named {
                if let Property::Template(template) = value {
                    if let Some(value) = templated(event, template, on_missing, &mut room)? {
                        written.add(name, &value);
                    }
                } else if let Some(value) = property(event, value, on_missing, &mut room)? {
                    written.add_json(name, value);
                }
            }
        }
        // A property of the rule's takes the place of the object's own.
        Some(whole) => {
            let mut rendered = spread(event, whole, form, on_missing, &mut room)?;
            for (name, value) in &properties.named {
                if let Some(value) = property(event, value, on_missing, &mut room)? {
                    rendered.insert(name.to_string(), value);
                }
            }
            for (name, value) in rendered {
                written.add_json(&name, value);
            }
        }
    }
    written.body.push('}');
    written.wrong.map_or(Ok(()), Err)
}

/// Properties as they are written, without the end.
struct Written<'b> {
    body: &'b mut String,
    form: Form,
    /// What is wrong with the first that is. All are rendered before that counts, so that one which can't be is named.
    wrong: Option<Stop>,
}

impl Written<'_> {
    fn add(&mut self, name: &str, value: &lead::Value<'_>) {
        if !kinds::is_plain(name, value, self.form) {
            return self.add_json(name, value.to_json());
        }
        json::member(name, self.body);
        match value {
            lead::Value::Text(text) => json::string(text, self.body),
            lead::Value::Money(number) => Digits::of(*number).write(self.body),
            value => json::value(&value.to_json(), self.body),
        }
    }

    fn add_json(&mut self, name: &str, value: Value) {
        match kinds::checked(name, value, self.form) {
            Ok(Some(value)) => {
                json::member(name, self.body);
                json::value(&value, self.body);
            }
            Ok(None) => {}
            Err(stop) => self.wrong = self.wrong.take().or(Some(stop)),
        }
    }
}

/// `None` for a placeholder alone that is missing.
fn templated<'v>(
    event: &'v LeadEvent<'_>,
    template: &'v Template,
    on_missing: OnMissing,
    room: &mut Room,
) -> Result<Option<lead::Value<'v>>, Stop> {
    let value = template.render_value(event, Target::Clevertap, on_missing)?;
    room.take(value.as_ref().map_or(0, weight))?;
    Ok(value)
}

/// `None` for a property that is one placeholder alone and missing, or an object of nothing but such: it is left out.
fn property(
    event: &LeadEvent<'_>,
    value: &Property,
    on_missing: OnMissing,
    room: &mut Room,
) -> Result<Option<Value>, Stop> {
    match value {
        Property::Template(template) => {
            let value = templated(event, template, on_missing, room)?;
            Ok(value.map(|value| value.to_json()))
        }
        Property::Constant(value) => Ok(Some(Value::clone(value))),
        Property::List(list) => {
            let list: Result<Vec<_>, Stop> = list
                .iter()
                .filter_map(|value| property(event, value, on_missing, room).transpose())
                .collect();
            list.map(|list| Some(Value::Array(list)))
        }
        Property::Object(members) => {
            let mut object = Map::new();
            for (name, value) in members.iter() {
                if let Some(value) = property(event, value, on_missing, room)? {
                    object.insert(name.to_string(), value);
                }
            }
            let is_gone = object.is_empty() && !members.is_empty();
            Ok((!is_gone).then_some(Value::Object(object)))
        }
    }
}

/// The members of a whole object, in the form that CleverTap takes.
fn spread(
    event: &LeadEvent<'_>,
    whole: &Whole,
    form: Form,
    on_missing: OnMissing,
    room: &mut Room,
) -> Result<Map<String, Value>, Stop> {
    let members = match whole.from.render_json(event, Target::Clevertap, on_missing)? {
        None => return Ok(Map::new()),
        Some(Value::Object(members)) => members,
        // Forms and cells of a sheet hold JSON as text.
        Some(Value::String(text)) => serde_json::from_str(&text).map_err(|_| no_object(whole))?,
        Some(_) => return Err(no_object(whole)),
    };
    let names = Names {
        rename: whole.rename.iter().map(|(old, new)| (&**old, &**new)).collect(),
        drop: whole.drop.iter().map(|name| &**name).collect(),
    };
    let mut spread = Map::new();
    insert(members, None, whole, &names, form, room, &mut spread)?;
    Ok(spread)
}

/// The names of an object's members, as CleverTap gets them.
struct Names<'w> {
    /// By name, so that those below a member stand together.
    rename: BTreeMap<&'w str, &'w str>,
    drop: HashSet<&'w str>,
}

fn insert(
    members: Map<String, Value>,
    above: Option<&str>,
    whole: &Whole,
    names: &Names<'_>,
    form: Form,
    room: &mut Room,
    into: &mut Map<String, Value>,
) -> Result<(), Stop> {
    for (name, value) in members {
        // A point has no place in CleverTap's names.
        let name = above.map_or_else(|| name.clone(), |above| format!("{above} {name}"));
        if names.drop.contains(&*name) {
            continue;
        }
        // A nested member has the names of all objects above it before its own.
        room.take(name.len())?;
        let own = name;
        let renamed = names.rename.get(&*own).map(|new| (*new).to_owned());
        let name = renamed.unwrap_or_else(|| own.clone());
        let value = match value {
            Value::Null if whole.nulls == Nulls::Delete && form == Form::Profile => {
                // Of an object that is null as a whole, the members are known by the names they are renamed from.
                let within = format!("{own} ");
                let below = names
                    .rename
                    .range::<str, _>((Bound::Included(&*within), Bound::Unbounded));
                let members = below.take_while(|(old, _)| old.starts_with(&within));
                into.extend(members.map(|(_, new)| ((*new).to_owned(), serde_json::json!({"$delete": true}))));
                serde_json::json!({"$delete": true})
            }
            Value::Null => continue,
            Value::Object(operation) if form == Form::Profile && is_operation(&operation) => Value::Object(operation),
            Value::Object(members) => {
                insert(members, Some(&name), whole, names, form, room, into)?;
                continue;
            }
            Value::Array(list) if form == Form::Profile => texts(&list).map(Value::String).collect(),
            Value::Array(list) if form == Form::Event || name != "Items" => {
                texts(&list).collect::<Vec<_>>().join(", ").into()
            }
            value => value,
        };
        if into.contains_key(&name) {
            return Err(Stop::Fail {
                detail: format!(
                    "properties: two members of {} are called {name:?}; rename or drop one",
                    whole.from.as_str()
                ),
            });
        }
        into.insert(name, value);
    }
    Ok(())
}

/// Bytes that a record may still take.
struct Room(usize);

impl Room {
    fn take(&mut self, bytes: usize) -> Result<(), Stop> {
        self.0 = self.0.checked_sub(bytes).ok_or_else(|| Stop::Fail {
            detail: format!(
                "properties: come to more than {} KiB; name fewer, or shorten them with | truncate: 512, \"bytes\"",
                RECORD_MAX / 1024
            ),
        })?;
        Ok(())
    }
}

/// Bytes of a value, as JSON.
fn weight(value: &lead::Value<'_>) -> usize {
    match value {
        lead::Value::Text(text) | lead::Value::Number(text) => text.len(),
        lead::Value::Money(number) => Digits::of(*number).width(),
        lead::Value::Json(json) => json.to_string().len(),
        lead::Value::Bool(_) | lead::Value::Time(_) => value.to_text().len(),
    }
}

/// The elements that are there, as templates write them.
fn texts(list: &[Value]) -> impl Iterator<Item = String> {
    let there = list.iter().filter_map(lead::Value::of_json);
    there.map(|value| value.to_text().into_owned())
}

fn is_operation(members: &Map<String, Value>) -> bool {
    members.len() == 1 && members.keys().all(|name| OPERATORS.contains(&name.as_str()))
}

fn no_object(whole: &Whole) -> Stop {
    Stop::Fail {
        detail: format!("properties: {} gives no object", whole.from.as_str()),
    }
}
