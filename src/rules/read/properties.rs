//! CleverTap's properties: named one by one, as one JSON value, or a whole object sent on.

use std::collections::HashSet;

use serde_json::{Map, Value};

use super::WHOLE_FIELDS;
use super::field::{Object, Reader, closest, member};
use crate::amounts;
use crate::path::Path;
use crate::rules::clevertap::OPERATORS;
use crate::rules::{Nulls, Properties, Property, Whole};
use crate::template::Template;

const NULLS: &[(&str, Nulls)] = &[("leave_out", Nulls::LeaveOut), ("delete", Nulls::Delete)];

/// Whose properties they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Of {
    Profile,
    Event,
}

impl Reader {
    pub(super) fn properties(&mut self, action: &Object<'_>, of: Of) -> Option<Properties> {
        let field = action.at("properties");
        let whole = |from| Whole {
            from,
            rename: Vec::new(),
            drop: Vec::new(),
            nulls: Nulls::default(),
        };
        match action.get("properties") {
            None => Some(Properties::default()),
            Some(Value::String(text)) => {
                let from = self.parse_template(&field, text)?;
                if !from.is_one_placeholder() {
                    let message = "needs one placeholder alone that gives an object, such as \"{{$.traits}}\", or an \
                                   object of names and values";
                    return self.refuse(field, message);
                }
                Some(Properties {
                    whole: Some(whole(from)),
                    named: Vec::new(),
                })
            }
            Some(Value::Object(members)) if is_whole(members) => self.whole(&field, members, of),
            Some(Value::Object(members)) => Some(Properties {
                whole: None,
                named: self.named(&field, members, of)?,
            }),
            Some(_) => self.refuse(field, "needs an object of names and values, or {from: $.payload}"),
        }
    }

    fn whole(&mut self, field: &str, members: &Map<String, Value>, of: Of) -> Option<Properties> {
        let object = Object {
            field: field.to_owned(),
            members,
        };
        self.unknown_fields(&object, WHOLE_FIELDS);
        let from = match object.get("from").and_then(Value::as_str).map(Path::parse) {
            Some(Ok(path)) => Some(Template::of_path(path)),
            Some(Err(error)) => self.refuse(object.at("from"), error.to_string()),
            None => self.refuse(object.at("from"), "needs the path of an object, such as $.payload"),
        };
        let drop = object
            .get("drop")
            .map(|value| self.one_or_list(&object.at("drop"), value, "leave it out"));
        let drop: Vec<_> = drop
            .unwrap_or_default()
            .into_iter()
            .filter_map(|(field, value)| self.id(&field, value))
            .collect();
        let rename = self.rename(&object, &drop.iter().map(String::as_str).collect());
        let nulls = self.choice(&object, "nulls", NULLS).unwrap_or_default();
        if nulls == Nulls::Delete && of == Of::Event {
            self.refuse::<()>(
                object.at("nulls"),
                "only a profile's properties can be deleted; leave it out",
            );
        }
        let named = match object.get("with") {
            None => Some(Vec::new()),
            Some(Value::Object(members)) => self.named(&object.at("with"), members, of),
            Some(_) => self.refuse(object.at("with"), "needs an object of names and values"),
        };
        Some(Properties {
            whole: Some(Whole {
                from: from?,
                rename,
                drop,
                nulls,
            }),
            named: named?,
        })
    }

    fn rename(&mut self, whole: &Object<'_>, drop: &HashSet<&str>) -> Vec<(String, String)> {
        let field = whole.at("rename");
        let Some(value) = whole.get("rename") else {
            return Vec::new();
        };
        let Some(members) = value.as_object() else {
            self.refuse::<()>(
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
                    self.refuse::<()>(at, "is in drop, too; take it out of one of them");
                }
                Some(new) => rename.push((old.clone(), new.to_owned())),
                None => {
                    self.refuse::<()>(at, "needs the new name; to leave the old one out, name it in drop");
                }
            }
        }
        rename
    }

    fn named(&mut self, field: &str, members: &Map<String, Value>, of: Of) -> Option<Vec<(String, Property)>> {
        let named: Vec<_> = members
            .iter()
            .map(|(name, value)| {
                let field = member(field, name);
                if value.as_object().is_some_and(is_operation) {
                    self.operation(&field, value, of)?;
                }
                Some((name.clone(), self.property(&field, value)?))
            })
            .collect();
        named.into_iter().collect()
    }

    /// Refuses what can't be one of CleverTap's operations, as far as the rule itself says it.
    fn operation(&mut self, field: &str, value: &Value, of: Of) -> Option<()> {
        if of == Of::Event {
            return self.refuse(
                field,
                "only a profile's properties take operators; an event says what happened",
            );
        }
        let members = value.as_object()?;
        let (Some((name, operand)), 1) = (members.iter().next(), members.len()) else {
            return self.refuse(
                field,
                "takes one operator alone; CleverTap knows one change of a property at a time",
            );
        };
        let at = member(field, name);
        if !OPERATORS.contains(&name.as_str()) {
            let all = OPERATORS.join(", ");
            return match closest(name, OPERATORS) {
                Some(meant) => self.refuse(at, format!("did you mean {meant}? CleverTap's operators are {all}")),
                None => self.refuse(at, format!("is no operator of CleverTap's, which are {all}")),
            };
        }
        let is_template = |value: &Value| value.as_str().is_some_and(|text| text.contains("{{"));
        let is_text = |value: &Value| value.is_string();
        match (name.as_str(), operand) {
            ("$incr" | "$decr", Value::Number(number)) if amounts::decimal(number.as_str()).is_some() => Some(()),
            ("$incr" | "$decr", template) if is_template(template) => Some(()),
            ("$incr" | "$decr", _) => self.refuse(at, "needs a number, or a placeholder that gives one"),
            ("$delete", Value::Bool(true)) => Some(()),
            ("$delete", _) => self.refuse(at, "needs true; the property is deleted"),
            (_, Value::Array(list)) if !list.is_empty() && list.iter().all(is_text) => Some(()),
            (_, template) if is_template(template) => Some(()),
            _ => self.refuse(at, "needs a list of texts, such as [\"{{$.product.name}}\"]"),
        }
    }

    fn property(&mut self, field: &str, value: &Value) -> Option<Property> {
        Some(match value {
            Value::String(text) => Property::Template(self.parse_template(field, text)?),
            Value::Null | Value::Bool(_) | Value::Number(_) => Property::Constant(value.clone()),
            Value::Object(members) => {
                let members: Vec<_> = members
                    .iter()
                    .map(|(name, value)| Some((name.clone(), self.property(&member(field, name), value)?)))
                    .collect();
                Property::Object(members.into_iter().collect::<Option<_>>()?)
            }
            Value::Array(list) => {
                let fields = (0..).map(|at| format!("{field}[{at}]"));
                let elements: Vec<_> = list
                    .iter()
                    .zip(fields)
                    .map(|(value, at)| self.property(&at, value))
                    .collect();
                Property::List(elements.into_iter().collect::<Option<_>>()?)
            }
        })
    }
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
