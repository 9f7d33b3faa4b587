//! A rule's JSON as the fields of the form.

use serde_json::{Map, Value};

use super::{Form, KEEP, action_of, values};
use crate::rules::Party;
use crate::rules::read::{CONDITION_FIELDS, PRICE_FIELDS};

/// The form of a rule, however wrong that is.
pub fn form(rule: &Value) -> Form {
    let mut form = Form::default();
    let Some(members) = rule.as_object() else {
        form.keep("", rule);
        return form;
    };
    for (name, value) in given(members) {
        match name.as_str() {
            "id" | "name" | "status" | "trigger" => form.text(name, value, values::line),
            "scope" => form.scope(value),
            "include_test" => form.flag(name, value),
            "filters" => form.filters(value),
            "action" => form.action(value),
            _ => form.keep(name, value),
        }
    }
    form
}

/// Null counts as left out.
fn given(members: &Map<String, Value>) -> impl Iterator<Item = (&String, &Value)> {
    members.iter().filter(|(_, value)| !value.is_null())
}

impl Form {
    fn add(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.fields.push((name.into(), value.into()));
    }

    /// Keeps what no field can show.
    fn keep(&mut self, path: &str, value: &Value) {
        self.add(format!("{KEEP}{path}"), value.to_string());
        let whole = if path.is_empty() { "rule" } else { path };
        self.kept.push(whole.to_owned());
    }

    fn text(&mut self, path: &str, value: &Value, show: fn(&Value) -> Option<String>) {
        match show(value) {
            Some(text) => self.add(path, text),
            None => self.keep(path, value),
        }
    }

    fn flag(&mut self, path: &str, value: &Value) {
        match value {
            Value::Bool(flag) => self.add(path, flag.to_string()),
            other => self.keep(path, other),
        }
    }

    fn scope(&mut self, scope: &Value) {
        let Some(members) = scope.as_object() else {
            return self.keep("scope", scope);
        };
        for (name, value) in given(members) {
            match name.as_str() {
                "level" => self.text("scope.level", value, values::line),
                "id" => self.text("scope.id", value, values::id),
                other => self.keep(&format!("scope.{other}"), value),
            }
        }
    }

    fn filters(&mut self, filters: &Value) {
        let Some(members) = filters.as_object() else {
            return self.keep("filters", filters);
        };
        let is_list = |name: &str| name == "method" || Party::ALL.iter().any(|party| party.as_str() == name);
        for (name, value) in given(members) {
            let path = format!("filters.{name}");
            match name.as_str() {
                "price" => self.price(&path, value),
                "where" => self.conditions(value),
                name if is_list(name) => self.ids(&path, value),
                _ => self.keep(&path, value),
            }
        }
    }

    /// Ids, one field each.
    fn ids(&mut self, path: &str, value: &Value) {
        let all = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
        let each: Option<Vec<String>> = all
            .iter()
            .map(|id| values::list(std::slice::from_ref(id), values::id).filter(|shown| is_read_as(shown, id)))
            .collect();
        match each.filter(|each| !each.is_empty()) {
            Some(each) => each.into_iter().for_each(|id| self.add(path, id)),
            None => self.keep(path, value),
        }
    }

    fn price(&mut self, path: &str, price: &Value) {
        let number = |value: &Value| match value {
            Value::Number(number) => Some(number.to_string()),
            Value::String(_) => values::word(value),
            _ => None,
        };
        let members = price.as_object().filter(|members| members.len() == 1);
        let only = members.and_then(|members| members.iter().next());
        let shown = only.filter(|(operator, _)| PRICE_FIELDS.contains(&operator.as_str()));
        let ends = shown.and_then(
            |(operator, value)| match (operator.as_str(), value.as_array().map(Vec::as_slice)) {
                ("between", Some([low, high])) => Some((operator, number(low)?, Some(number(high)?))),
                ("between", _) => None,
                _ => Some((operator, number(value)?, None)),
            },
        );
        let Some((operator, low, high)) = ends else {
            return self.keep(path, price);
        };
        self.add("filters.price.op", operator.as_str());
        self.add("filters.price.a", low);
        if let Some(high) = high {
            self.add("filters.price.b", high);
        }
    }

    fn conditions(&mut self, conditions: &Value) {
        let Some(list) = conditions.as_array().filter(|list| !list.is_empty()) else {
            return self.keep("filters.where", conditions);
        };
        for (at, condition) in list.iter().enumerate() {
            match tests(condition) {
                Some((path, tests)) => {
                    self.add(format!("where.{at}.path"), path);
                    for (operator, value) in tests {
                        self.add(format!("where.{at}.op"), operator);
                        self.add(format!("where.{at}.value"), value);
                    }
                }
                None => {
                    self.add(format!("{KEEP}where.{at}"), condition.to_string());
                    self.kept.push(format!("filters.where[{at}]"));
                }
            }
        }
    }

    fn action(&mut self, action: &Value) {
        let Some(members) = action.as_object() else {
            return self.keep("action", action);
        };
        let kind = members.get("type").and_then(Value::as_str).and_then(action_of);
        for (name, value) in given(members) {
            let path = format!("action.{name}");
            // What the action hasn't got would be taken for another one's.
            let is_own = name == "type" || kind.is_some_and(|kind| super::settings(kind).any(|own| own == name));
            match name.as_str() {
                _ if !is_own => self.keep(&path, value),
                "type" => self.text(&path, value, values::word),
                "text" => self.text(&path, value, values::lines),
                "token" | "url" => self.secret(&path, value),
                "to" => self.to(value),
                "unfurl" => self.flag(&path, value),
                "when_busy" => self.when_busy(&path, value),
                "properties" => self.properties(value),
                _ => self.text(&path, value, values::line),
            }
        }
    }

    /// A secret by its name, or sealed.
    fn secret(&mut self, path: &str, secret: &Value) {
        match only(secret) {
            Some((kind @ ("secret" | "sealed"), value)) if values::word(value).is_some() => {
                self.text(&format!("{path}.{kind}"), value, values::word);
            }
            _ => self.keep(path, secret),
        }
    }

    fn to(&mut self, to: &Value) {
        match only(to) {
            Some((kind @ ("channel" | "member"), value)) if values::word(value).is_some() => {
                self.add("action.to.kind", kind);
                self.text("action.to.id", value, values::word);
            }
            _ => self.keep("action.to", to),
        }
    }

    /// `each`, or after how long a wait a digest is made.
    fn when_busy(&mut self, path: &str, when_busy: &Value) {
        let after = match (when_busy, only(when_busy)) {
            (Value::String(each), _) if each == "each" => Some(each.clone()),
            (_, Some(("digest_after", after))) => values::word(after).filter(|after| after != "each"),
            _ => None,
        };
        match after {
            Some(after) => self.add(path, after),
            None => self.keep(path, when_busy),
        }
    }

    fn properties(&mut self, properties: &Value) {
        let from = match (properties, only(properties)) {
            (Value::String(_), _) => values::word(properties).filter(|text| !text.starts_with('$')),
            (_, Some(("from", from))) => values::word(from).filter(|text| text.starts_with('$')),
            _ => None,
        };
        if let Some(from) = from {
            return self.add("action.properties.from", from);
        }
        let named = properties.as_object().filter(|members| !members.contains_key("from"));
        let is_line = |name: &String| name.trim() == name && !name.is_empty() && !name.contains(char::is_control);
        let Some(named) = named.filter(|members| members.keys().all(is_line) && !members.is_empty()) else {
            return self.keep("action.properties", properties);
        };
        for (at, (name, value)) in named.iter().enumerate() {
            self.add(format!("properties.{at}.name"), name);
            match values::scalar(value) {
                Some(value) => self.add(format!("properties.{at}.value"), value),
                None => {
                    self.add(format!("{KEEP}properties.{at}"), value.to_string());
                    self.kept.push(format!("action.properties.{name}"));
                }
            }
        }
    }
}

/// Whether an id that is shown so is one element, and the same.
fn is_read_as(shown: &str, id: &Value) -> bool {
    let text = id.as_str().map_or_else(|| id.to_string(), str::to_owned);
    let [element] = values::elements(shown)[..] else {
        return false;
    };
    values::read_id(element) == text.as_str()
}

/// The only member of an object.
fn only(value: &Value) -> Option<(&str, &Value)> {
    let members = value.as_object().filter(|members| members.len() == 1)?;
    members.iter().next().map(|(name, value)| (name.as_str(), value))
}

/// The path and the tests of a condition, in the form's texts; `None` for one that they can't show.
fn tests(condition: &Value) -> Option<(String, Vec<(&str, String)>)> {
    let members = condition.as_object()?;
    let mut tests = Vec::new();
    for (operator, value) in members.iter().filter(|(name, _)| *name != "path") {
        let known = CONDITION_FIELDS[1..].iter().find(|known| *known == operator)?;
        let shown = match value.as_array() {
            Some(list) if operator == "in" && !list.is_empty() => values::list(list, values::scalar)?,
            _ if operator == "in" => return None,
            _ => values::scalar(value)?,
        };
        tests.push((*known, shown));
    }
    let path = values::line(members.get("path")?)?;
    Some((path, tests))
}
