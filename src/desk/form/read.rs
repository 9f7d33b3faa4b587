//! The fields of the form, as a browser posts them, as a rule's JSON.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{KEEP, Posted, Problem, action_of, settings, values};
use crate::rules::Party;

/// The rule that the form says. Fields come as the browser posts them, repeated names in order; those that aren't of the
/// form are left aside.
pub fn rule(fields: &[(String, String)]) -> Posted {
    let fields = Fields::of(fields);
    if let Some(whole) = fields.kept("") {
        return Posted {
            rule: whole.unwrap_or_default(),
            problems: Vec::new(),
        };
    }
    let mut rule = Map::new();
    let mut problems = Vec::new();
    for name in ["id", "name", "status"] {
        fields.text(name, name, &mut rule);
    }
    let mut scope = Map::new();
    fields.text("scope.level", "level", &mut scope);
    if let Some(id) = fields.line("scope.id") {
        scope.insert("id".into(), id.into());
    }
    put(&mut rule, "scope", scope);
    fields.text("trigger", "trigger", &mut rule);
    fields.flag("include_test", "include_test", &mut rule);
    put(&mut rule, "filters", fields.filters());
    put(&mut rule, "action", fields.action(&mut problems));
    fields.put_kept(&mut rule, &mut problems);
    Posted {
        rule: rule.into(),
        problems,
    }
}

/// Puts an object that isn't empty.
fn put(into: &mut Map<String, Value>, name: &str, members: Map<String, Value>) {
    if !members.is_empty() {
        into.insert(name.to_owned(), members.into());
    }
}

/// The values of each name, in order.
struct Fields<'f>(BTreeMap<&'f str, Vec<&'f str>>);

impl<'f> Fields<'f> {
    fn of(fields: &'f [(String, String)]) -> Self {
        let mut by_name: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (name, value) in fields {
            by_name.entry(name).or_default().push(value);
        }
        Self(by_name)
    }

    fn all(&self, name: &str) -> &[&'f str] {
        self.0.get(name).map_or(&[], Vec::as_slice)
    }

    /// What stands in a field, as it is; of one that is posted twice the last, as a box that is ticked follows its hidden
    /// field.
    fn given(&self, name: &str) -> Option<&'f str> {
        self.all(name).last().copied().filter(|value| !value.trim().is_empty())
    }

    /// A field of one line.
    fn line(&self, name: &str) -> Option<&'f str> {
        self.given(name).map(str::trim)
    }

    fn text(&self, name: &str, member: &str, into: &mut Map<String, Value>) {
        if let Some(text) = self.given(name) {
            into.insert(member.to_owned(), text.into());
        }
    }

    fn flag(&self, name: &str, member: &str, into: &mut Map<String, Value>) {
        match self.line(name) {
            Some("true" | "on") => into.insert(member.to_owned(), true.into()),
            Some("false") => into.insert(member.to_owned(), false.into()),
            Some(other) => into.insert(member.to_owned(), other.into()),
            None => None,
        };
    }

    /// The JSON that was kept under a path; `None` where it isn't there, `Some(None)` where it was changed to what is
    /// none.
    fn kept(&self, path: &str) -> Option<Option<Value>> {
        let text = self.all(&format!("{KEEP}{path}")).last()?;
        Some(serde_json::from_str(text).ok())
    }

    fn filters(&self) -> Map<String, Value> {
        let mut filters = Map::new();
        let parties = Party::ALL.map(Party::as_str);
        for name in ["method"].into_iter().chain(parties) {
            let posted = self.all(&format!("filters.{name}")).iter();
            let ids: Vec<Value> = posted
                .flat_map(|text| values::elements(text))
                .map(values::read_id)
                .collect();
            if !ids.is_empty() {
                filters.insert(name.to_owned(), ids.into());
            }
        }
        if let Some(operator) = self.line("filters.price.op") {
            let number = |name: &str| self.line(name).map_or(Value::Null, values::read_number);
            let (low, high) = (number("filters.price.a"), number("filters.price.b"));
            let asked = match operator {
                "between" if low.is_null() && high.is_null() => Value::Null,
                "between" => json!([low, high]),
                _ => low,
            };
            // A filter that asks for nothing isn't there.
            if !asked.is_null() {
                filters.insert("price".into(), json!({ operator: asked }));
            }
        }
        let conditions = self.conditions();
        if !conditions.is_empty() {
            filters.insert("where".into(), conditions.into());
        }
        filters
    }

    /// The numbers of rows below `name`, in order.
    fn rows(&self, name: &str) -> Vec<usize> {
        let number = |field: &&str| {
            let field = field.strip_prefix(KEEP).unwrap_or(field);
            let rest = field.strip_prefix(name)?.strip_prefix('.')?;
            rest.split('.').next()?.parse().ok()
        };
        let mut rows: Vec<usize> = self.0.keys().filter_map(number).collect();
        rows.sort_unstable();
        rows.dedup();
        rows
    }

    fn conditions(&self) -> Vec<Value> {
        let mut conditions = Vec::new();
        for row in self.rows("where") {
            if let Some(kept) = self.kept(&format!("where.{row}")) {
                conditions.extend(kept);
                continue;
            }
            let path = self.given(&format!("where.{row}.path"));
            let operators = self.all(&format!("where.{row}.op")).iter();
            let written = self.all(&format!("where.{row}.value"));
            let mut condition = Map::new();
            condition.extend(path.map(|path| ("path".to_owned(), path.into())));
            for (at, operator) in operators
                .enumerate()
                .filter(|(_, operator)| !operator.trim().is_empty())
            {
                let text = written.get(at).copied().unwrap_or_default();
                let value = match *operator {
                    "in" => values::elements(text).into_iter().map(values::read_scalar).collect(),
                    // Whether there is a value: a choice of two, of which yes is meant where none is made.
                    "exists" if text.trim().is_empty() => true.into(),
                    _ => values::read_scalar(text),
                };
                condition.insert((*operator).to_owned(), value);
            }
            // A row that is all blank isn't there.
            let is_blank = path.is_none() && written.iter().all(|text| text.trim().is_empty());
            if !is_blank {
                conditions.push(condition.into());
            }
        }
        conditions
    }

    fn action(&self, problems: &mut Vec<Problem>) -> Map<String, Value> {
        let mut action = Map::new();
        let Some(name) = self.line("action.type") else {
            return action;
        };
        action.insert("type".into(), name.into());
        let own: Vec<&str> = action_of(name).map_or_else(Vec::new, |action| settings(action).collect());
        for name in own.into_iter().filter(|name| *name != "type") {
            let path = format!("action.{name}");
            let value = match name {
                "token" | "url" => self.secret(&path),
                "to" => self.line("action.to.id").map(|id| {
                    let kind = self.line("action.to.kind").unwrap_or("channel");
                    json!({ kind: id })
                }),
                // A browser ends lines as it likes.
                "text" => self.given(&path).map(|text| text.replace("\r\n", "\n").into()),
                "unfurl" => {
                    self.flag(&path, name, &mut action);
                    continue;
                }
                "when_busy" => self.line(&path).map(|after| match after {
                    "each" => "each".into(),
                    after => json!({ "digest_after": after }),
                }),
                "properties" => self.properties(problems),
                _ => self.given(&path).map(Value::from),
            };
            action.extend(value.map(|value| (name.to_owned(), value)));
        }
        action
    }

    fn secret(&self, path: &str) -> Option<Value> {
        let of = |kind: &str| Some((kind.to_owned(), self.line(&format!("{path}.{kind}"))?.to_owned()));
        // A value that was just sealed takes the place of a name.
        let (kind, value) = of("sealed").or_else(|| of("secret"))?;
        Some(json!({ kind: value }))
    }

    fn properties(&self, problems: &mut Vec<Problem>) -> Option<Value> {
        if let Some(from) = self.line("action.properties.from") {
            return Some(match from.starts_with('$') {
                true => json!({ "from": from }),
                false => from.into(),
            });
        }
        let mut properties = Map::new();
        for row in self.rows("properties") {
            let name = self.line(&format!("properties.{row}.name")).unwrap_or_default();
            let value = match self.kept(&format!("properties.{row}")) {
                Some(kept) => kept.unwrap_or_default(),
                None => {
                    let written = self
                        .all(&format!("properties.{row}.value"))
                        .last()
                        .copied()
                        .unwrap_or_default();
                    if name.is_empty() && written.trim().is_empty() {
                        continue;
                    }
                    match values::read_scalar(written) {
                        Value::Null => "".into(),
                        value => value,
                    }
                }
            };
            if properties.insert(name.to_owned(), value).is_some() {
                problems.push(Problem {
                    place: format!("properties.{row}.name"),
                    message: "this property is named twice; leave one of them out".to_owned(),
                });
            }
        }
        (!properties.is_empty()).then(|| properties.into())
    }

    /// Puts back what no field can show, where it was.
    fn put_kept(&self, rule: &mut Map<String, Value>, problems: &mut Vec<Problem>) {
        let type_of = |rule: &Map<String, Value>| Some(rule.get("action")?.get("type")?.as_str()?.to_owned());
        let chosen = type_of(rule).and_then(|name| action_of(&name));
        for name in self.0.keys().filter_map(|name| name.strip_prefix(KEEP)) {
            // Rows were put back in their places.
            if name.starts_with("where.") || name.starts_with("properties.") {
                continue;
            }
            let (object, member) = name
                .split_once('.')
                .map_or(("", name), |(object, member)| (object, member));
            let is_object = matches!(object, "scope" | "filters" | "action");
            let (object, member) = if is_object { (object, member) } else { ("", name) };
            let of_other = |action: crate::action::ActionType| action.fields().contains(&member);
            let is_chosen = |action: crate::action::ActionType| settings(action).any(|own| own == member);
            let others = crate::action::ActionType::ALL.into_iter().any(of_other);
            if object == "action" && others && chosen.is_some_and(|chosen| !is_chosen(chosen)) {
                continue;
            }
            let Some(Some(value)) = self.kept(name) else {
                problems.push(Problem {
                    place: name.to_owned(),
                    message: "what only YAML can show was changed on its way; look at it in the YAML view".to_owned(),
                });
                continue;
            };
            let members = match object {
                "" => Some(&mut *rule),
                object => {
                    let object = rule.entry(object).or_insert_with(|| json!({}));
                    object.as_object_mut()
                }
            };
            if let Some(members) = members {
                members.entry(member).or_insert(value);
            }
        }
    }
}
