//! CleverTap's properties: named one by one, as one JSON value, or a whole object sent on.

use std::collections::HashSet;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::names::OPERATORS;
use crate::amounts;
use crate::path::Path;
use crate::reader::{Object, Reader, closest, member};
use crate::template::Template;

/// The fields of `properties` where a whole object is sent on.
pub const WHOLE_FIELDS: &[&str] = &["from", "rename", "drop", "nulls", "with"];

const NULLS: &[(&str, Nulls)] = &[("leave_out", Nulls::LeaveOut), ("delete", Nulls::Delete)];

/// The properties that CleverTap gets about a user or an event.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Properties {
    /// An object that is sent on whole.
    pub whole: Option<Box<Whole>>,
    /// Properties that the rule names itself; they take the place of the object's own.
    pub named: Members,
}

/// An object of the event whose members become properties, without each being named.
#[derive(Debug, Clone, PartialEq)]
pub struct Whole {
    /// Gives the object, or the JSON text of one.
    pub from: Template,
    /// The object's names, and the names that CleverTap gets instead.
    pub rename: Vec<(String, String)>,
    /// The object's names that are left out.
    pub drop: Vec<String>,
    pub nulls: Nulls,
}

/// The treatment of an object's members that are null.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Nulls {
    #[default]
    LeaveOut,
    /// The profile's property is deleted.
    Delete,
}

/// Values by their names, in the order in which they are written.
type Members = Box<[(Arc<str>, Property)]>;

/// The value of a CleverTap property.
#[derive(Debug, Clone, PartialEq)]
pub enum Property {
    Template(Template),
    /// A number, a boolean or null, as written.
    Constant(Box<Value>),
    List(Box<[Property]>),
    /// An object, such as one of the platform's operators: `{$add: [...]}`.
    Object(Members),
}

/// Whose properties they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Of {
    Profile,
    Event,
}

impl Properties {
    pub(super) fn read(reader: &mut Reader, action: &Object<'_>, of: Of) -> Option<Self> {
        let field = action.at("properties");
        let whole = |from| {
            Box::new(Whole {
                from,
                rename: Vec::new(),
                drop: Vec::new(),
                nulls: Nulls::default(),
            })
        };
        match action.get("properties") {
            None => Some(Properties::default()),
            Some(Value::String(text)) => {
                let from = reader.parse_template(&field, text)?;
                if !from.is_one_placeholder() {
                    let message = "needs one placeholder alone that gives an object, such as \"{{$.traits}}\", or an \
                                   object of names and values";
                    return reader.refuse(field, message);
                }
                Some(Properties {
                    whole: Some(whole(from)),
                    named: Box::default(),
                })
            }
            Some(Value::Object(members)) if is_whole(members) => read_whole(reader, &field, members, of),
            Some(Value::Object(members)) => Some(Properties {
                whole: None,
                named: named(reader, &field, members, of)?,
            }),
            Some(_) => reader.refuse(field, "needs an object of names and values, or {from: $.payload}"),
        }
    }

    /// The field of a property that the rule names itself.
    pub(super) fn field(&self, name: &str) -> String {
        match self.whole {
            Some(_) => member("action.properties.with", name),
            None => member("action.properties", name),
        }
    }
}

fn read_whole(reader: &mut Reader, field: &str, members: &Map<String, Value>, of: Of) -> Option<Properties> {
    let object = Object {
        field: field.to_owned(),
        members,
    };
    reader.unknown_fields(&object, WHOLE_FIELDS);
    let from = match object.get("from").and_then(Value::as_str).map(Path::parse) {
        Some(Ok(path)) => Some(Template::of_path(path)),
        Some(Err(error)) => reader.refuse(object.at("from"), error.to_string()),
        None => reader.refuse(object.at("from"), "needs the path of an object, such as $.payload"),
    };
    let drop = object
        .get("drop")
        .map(|value| reader.one_or_list(&object.at("drop"), value, "leave it out"));
    let drop: Vec<_> = drop
        .unwrap_or_default()
        .into_iter()
        .filter_map(|(field, value)| reader.id(&field, value).map(String::from))
        .collect();
    let rename = rename(reader, &object, &drop.iter().map(String::as_str).collect());
    let nulls = reader.choice(&object, "nulls", NULLS).unwrap_or_default();
    if nulls == Nulls::Delete && of == Of::Event {
        reader.refuse::<()>(
            object.at("nulls"),
            "only a profile's properties can be deleted; leave it out",
        );
    }
    let named = match object.get("with") {
        None => Some(Box::default()),
        Some(Value::Object(members)) => named(reader, &object.at("with"), members, of),
        Some(_) => reader.refuse(object.at("with"), "needs an object of names and values"),
    };
    Some(Properties {
        whole: Some(Box::new(Whole {
            from: from?,
            rename,
            drop,
            nulls,
        })),
        named: named?,
    })
}

fn rename(reader: &mut Reader, whole: &Object<'_>, drop: &HashSet<&str>) -> Vec<(String, String)> {
    let field = whole.at("rename");
    let Some(value) = whole.get("rename") else {
        return Vec::new();
    };
    let Some(members) = value.as_object() else {
        reader.refuse::<()>(
            field,
            "needs an object of old and new names, such as {\"Old name\": New}",
        );
        return Vec::new();
    };
    let mut rename = Vec::new();
    for (old, new) in members {
        let at = member(&field, old);
        match new.as_str().filter(|new| !new.trim().is_empty()) {
            Some(_) if drop.contains(old.as_str()) => {
                reader.refuse::<()>(at, "is in drop, too; take it out of one of them");
            }
            Some(new) => rename.push((old.clone(), new.to_owned())),
            None => {
                reader.refuse::<()>(at, "needs the new name; to leave the old one out, name it in drop");
            }
        }
    }
    rename
}

fn named(reader: &mut Reader, field: &str, members: &Map<String, Value>, of: Of) -> Option<Members> {
    let named: Vec<_> = members
        .iter()
        .map(|(name, value)| {
            let field = member(field, name);
            if value.as_object().is_some_and(is_operation) {
                operation(reader, &field, value, of)?;
            }
            let property = property(reader, &field, value)?;
            Some((reader.shared.text(name), property))
        })
        .collect();
    named.into_iter().collect()
}

/// Refuses what can't be one of CleverTap's operations, as far as the rule itself says it.
fn operation(reader: &mut Reader, field: &str, value: &Value, of: Of) -> Option<()> {
    if of == Of::Event {
        return reader.refuse(
            field,
            "only a profile's properties take operators; an event says what happened",
        );
    }
    let members = value.as_object()?;
    let (Some((name, operand)), 1) = (members.iter().next(), members.len()) else {
        return reader.refuse(
            field,
            "takes one operator alone; CleverTap knows one change of a property at a time",
        );
    };
    let at = member(field, name);
    if !OPERATORS.contains(&name.as_str()) {
        let all = OPERATORS.join(", ");
        return match closest(name, OPERATORS) {
            Some(meant) => reader.refuse(at, format!("did you mean {meant}? CleverTap's operators are {all}")),
            None => reader.refuse(at, format!("is no operator of CleverTap's, which are {all}")),
        };
    }
    let is_template = |value: &Value| value.as_str().is_some_and(|text| text.contains("{{"));
    let is_text = |value: &Value| value.is_string();
    match (name.as_str(), operand) {
        ("$incr" | "$decr", Value::Number(number)) if amounts::decimal(number.as_str()).is_some() => Some(()),
        ("$incr" | "$decr", template) if is_template(template) => Some(()),
        ("$incr" | "$decr", _) => reader.refuse(at, "needs a number, or a placeholder that gives one"),
        ("$delete", Value::Bool(true)) => Some(()),
        ("$delete", _) => reader.refuse(at, "needs true; the property is deleted"),
        (_, Value::Array(list)) if !list.is_empty() && list.iter().all(is_text) => Some(()),
        (_, template) if is_template(template) => Some(()),
        _ => reader.refuse(at, "needs a list of texts, such as [\"{{$.product.name}}\"]"),
    }
}

fn property(reader: &mut Reader, field: &str, value: &Value) -> Option<Property> {
    Some(match value {
        Value::String(text) => Property::Template(reader.parse_template(field, text)?),
        Value::Null | Value::Bool(_) | Value::Number(_) => Property::Constant(Box::new(value.clone())),
        Value::Object(members) => {
            let members: Vec<_> = members
                .iter()
                .map(|(name, value)| {
                    let property = property(reader, &member(field, name), value)?;
                    Some((reader.shared.text(name), property))
                })
                .collect();
            Property::Object(members.into_iter().collect::<Option<_>>()?)
        }
        Value::Array(list) => {
            let fields = (0..).map(|at| format!("{field}[{at}]"));
            let elements: Vec<_> = list
                .iter()
                .zip(fields)
                .map(|(value, at)| property(reader, &at, value))
                .collect();
            Property::List(elements.into_iter().collect::<Option<_>>()?)
        }
    })
}

/// Whether these members say what is sent on, rather than name properties: a property that is
/// named `from` is no path.
fn is_whole(members: &Map<String, Value>) -> bool {
    let is_path = |from: &Value| from.as_str().is_some_and(|text| text.starts_with('$'));
    members.get("from").is_some_and(|from| {
        is_path(from) || (members.len() > 1 && members.keys().all(|name| WHOLE_FIELDS.contains(&name.as_str())))
    })
}

/// Whether an object is meant as an operation of CleverTap's.
fn is_operation(members: &Map<String, Value>) -> bool {
    members.keys().any(|name| name.starts_with('$'))
}
