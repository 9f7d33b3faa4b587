//! What differs between versions of a rule, field by field, and how two people's changes go together.
//!
//! A rule is taken apart into fields that a person would change as one: the price, one condition, the message, one
//! property. Each has a path: `filters.price`, `filters.where[$.consumer.state]`, `action.properties.Price`. The second
//! condition on a path is `filters.where[$.consumer.state]#2`. Versions whose actions are of two types have the action
//! as one field, because fields of both make no rule.
//!
//! All of it works on rules as they are written, however wrong they are.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::words;

/// A field that one version has otherwise than another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    pub path: String,
    /// How a person calls the field.
    pub label: String,
    /// In words; none where the version hasn't got the field.
    pub before: Option<String>,
    pub after: Option<String>,
}

/// A field that at least one of two people changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Merged {
    pub path: String,
    pub label: String,
    /// The three versions of it in words; none where a version hasn't got the field.
    pub base: Option<String>,
    pub mine: Option<String>,
    pub theirs: Option<String>,
    pub changed_by: ChangedBy,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangedBy {
    Me,
    Them,
    /// Both made the same change.
    Alike,
    /// Each made another change: a conflict.
    Both,
}

/// The version that a field is taken from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pick {
    Mine,
    Theirs,
}

/// A run of words of a text that was changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Run {
    Same(String),
    Deleted(String),
    Inserted(String),
}

/// What differs, in the order of the fields.
pub fn difference(before: &Value, after: &Value) -> Vec<Change> {
    let [old, new] = [before, after].map(|rule| Fields::of(rule, true));
    let changed = |path: &String| {
        let (old, new) = (old.get(path), new.get(path));
        (!is_same(path, old, new)).then(|| Change {
            path: path.clone(),
            label: label(path),
            before: old.map(|value| words::value(path, value)),
            after: new.map(|value| words::value(path, value)),
        })
    };
    all_paths([&old, &new]).iter().filter_map(changed).collect()
}

/// What either of two people changed in the version that both began with.
pub fn three_way(base: &Value, mine: &Value, theirs: &Value) -> Vec<Merged> {
    let [base, mine, theirs] = apart(base, mine, theirs);
    let merged = |path: &String| {
        let changed_by = changed_by(path, [&base, &mine, &theirs])?;
        let told = |fields: &Fields<'_>| fields.get(path).map(|value| words::value(path, value));
        Some(Merged {
            path: path.clone(),
            label: label(path),
            base: told(&base),
            mine: told(&mine),
            theirs: told(&theirs),
            changed_by,
        })
    };
    all_paths([&base, &theirs, &mine]).iter().filter_map(merged).collect()
}

/// Both people's changes in one rule. A field is taken from whoever changed it, a conflict from theirs, unless `picks`
/// say otherwise by its path.
pub fn merge(base: &Value, mine: &Value, theirs: &Value, picks: &HashMap<String, Pick>) -> Value {
    let [old, own, other] = apart(base, mine, theirs);
    let mut rule = theirs.clone();
    let mut conditions = Vec::new();
    let mut is_conditions_changed = false;
    let mut orders = [&other, &own];
    if own.condition_paths().ne(old.condition_paths()) {
        orders.reverse();
    }
    for path in all_paths([orders[0], orders[1], &old]) {
        let changed_by = changed_by(&path, [&old, &own, &other]);
        let by_itself = match changed_by {
            Some(ChangedBy::Me) => Pick::Mine,
            _ => Pick::Theirs,
        };
        let pick = picks
            .get(&path)
            .copied()
            .filter(|_| changed_by.is_some())
            .unwrap_or(by_itself);
        let value = match pick {
            Pick::Mine => own.get(&path),
            Pick::Theirs => other.get(&path),
        };
        if path.starts_with(CONDITION) {
            conditions.extend(value.cloned());
            is_conditions_changed |= value != other.get(&path);
        } else if pick == Pick::Mine {
            put(&mut rule, &path, value);
        }
    }
    let reordered = conditions.iter().ne(other.conditions());
    if is_conditions_changed || reordered {
        let list = (!conditions.is_empty()).then_some(Value::Array(conditions));
        put(&mut rule, "filters.where", list.as_ref());
    }
    rule
}

/// The runs of words in which two texts are the same, and those that were put in place of others.
pub fn runs(before: &str, after: &str) -> Vec<Run> {
    runs_of(&pieces(before), &pieces(after))
}

/// The same by lines, each with its end.
pub fn line_runs(before: &str, after: &str) -> Vec<Run> {
    let lines = |text| str::split_inclusive(text, '\n').collect::<Vec<_>>();
    runs_of(&lines(before), &lines(after))
}

fn runs_of(old: &[&str], new: &[&str]) -> Vec<Run> {
    let same = |(old, new): &(&&str, &&str)| old == new;
    let begin = old.iter().zip(new).take_while(same).count();
    let (old_rest, new_rest) = (&old[begin..], &new[begin..]);
    let end = old_rest
        .iter()
        .rev()
        .zip(new_rest.iter().rev())
        .take_while(same)
        .count();
    let (old_mid, new_mid) = (&old_rest[..old_rest.len() - end], &new_rest[..new_rest.len() - end]);
    let mut runs = Vec::new();
    push(&mut runs, Run::Same, &old[..begin]);
    between(old_mid, new_mid, &mut runs);
    push(&mut runs, Run::Same, &old_rest[old_rest.len() - end..]);
    runs
}

const CONDITION: &str = "filters.where[";

/// A rule's fields by path, in the order in which they are written.
struct Fields<'r> {
    in_order: Vec<(String, &'r Value)>,
    by_path: HashMap<String, &'r Value>,
}

impl<'r> Fields<'r> {
    /// The fields of a rule; `apart` says whether the action's are several.
    fn of(rule: &'r Value, apart: bool) -> Self {
        let mut in_order: Vec<(String, &Value)> = Vec::new();
        let mut add = |path: String, value: &'r Value| in_order.push((path, value));
        let Some(members) = rule.as_object() else {
            add("rule".to_owned(), rule);
            return Self::new(in_order);
        };
        // Null counts as left out.
        for (name, value) in members.iter().filter(|(_, value)| !value.is_null()) {
            match (name.as_str(), value.as_object()) {
                ("filters", Some(filters)) => filter_fields(filters, &mut add),
                ("action", Some(action)) if apart => action_fields(action, &mut add),
                _ => add(name.clone(), value),
            }
        }
        Self::new(in_order)
    }

    fn new(in_order: Vec<(String, &'r Value)>) -> Self {
        let by_path = in_order.iter().cloned().collect();
        Self { in_order, by_path }
    }

    fn get(&self, path: &str) -> Option<&'r Value> {
        self.by_path.get(path).copied()
    }

    fn condition_paths(&self) -> impl Iterator<Item = &str> {
        let paths = self.in_order.iter().map(|(path, _)| path.as_str());
        paths.filter(|path| path.starts_with(CONDITION))
    }

    fn conditions(&self) -> impl Iterator<Item = &'r Value> {
        let conditions = self.in_order.iter().filter(|(path, _)| path.starts_with(CONDITION));
        conditions.map(|(_, condition)| *condition)
    }
}

fn filter_fields<'r>(filters: &'r Map<String, Value>, add: &mut impl FnMut(String, &'r Value)) {
    for (name, value) in filters.iter().filter(|(_, value)| !value.is_null()) {
        let list = value.as_array().filter(|_| name == "where");
        let path_of = |condition: &'r Value| condition.get("path").and_then(Value::as_str);
        match list.filter(|list| list.iter().all(|condition| path_of(condition).is_some())) {
            Some(conditions) => {
                let mut counts: HashMap<&str, usize> = HashMap::new();
                for condition in conditions {
                    let path = path_of(condition).unwrap_or_default();
                    let count = counts.entry(path).or_default();
                    *count += 1;
                    let again = if *count > 1 { format!("#{count}") } else { String::new() };
                    add(format!("{CONDITION}{path}]{again}"), condition);
                }
            }
            None => add(format!("filters.{name}"), value),
        }
    }
}

fn action_fields<'r>(action: &'r Map<String, Value>, add: &mut impl FnMut(String, &'r Value)) {
    for (name, value) in action.iter().filter(|(_, value)| !value.is_null()) {
        match value.as_object() {
            // A whole object that is sent on is one thing.
            Some(properties) if name == "properties" && !properties.contains_key("from") => {
                // Null is the value of a property.
                for (name, value) in properties {
                    add(format!("action.properties.{name}"), value);
                }
            }
            _ => add(format!("action.{name}"), value),
        }
    }
}

/// Three versions in fields that fit each other.
fn apart<'r>(base: &'r Value, mine: &'r Value, theirs: &'r Value) -> [Fields<'r>; 3] {
    let all = [base, mine, theirs];
    let shape = |rule: &Value| {
        let properties = rule.pointer("/action/properties");
        let is_whole = properties.is_some_and(|properties| !properties.is_object() || properties.get("from").is_some());
        let conditions = rule.pointer("/filters/where").is_some_and(|list| !list.is_array());
        (
            rule.pointer("/action/type").cloned(),
            is_whole && properties.is_some(),
            conditions,
        )
    };
    let is_apart = all.iter().all(|rule| shape(rule) == shape(base));
    all.map(|rule| Fields::of(rule, is_apart))
}

/// Who changed a field; `None` where nobody did.
fn changed_by(path: &str, [base, mine, theirs]: [&Fields<'_>; 3]) -> Option<ChangedBy> {
    let [base, mine, theirs] = [base, mine, theirs].map(|fields| fields.get(path));
    match (is_same(path, base, mine), is_same(path, base, theirs)) {
        (true, true) => None,
        (false, true) => Some(ChangedBy::Me),
        (true, false) => Some(ChangedBy::Them),
        (false, false) if is_same(path, mine, theirs) => Some(ChangedBy::Alike),
        (false, false) => Some(ChangedBy::Both),
    }
}

/// Whether two values of a field say the same: an id is the same as a text and as a number, alone and in a list.
fn is_same(path: &str, one: Option<&Value>, other: Option<&Value>) -> bool {
    let (Some(one), Some(other)) = (one, other) else {
        return one.is_none() && other.is_none();
    };
    let id = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let is_ids = path.starts_with("filters.") && !path.starts_with("filters.where") && path != "filters.price";
    let scope = |value: &Value| (value.get("level").cloned(), value.get("id").map(id));
    one == other
        || (is_ids
            && words::elements(one)
                .iter()
                .map(id)
                .eq(words::elements(other).iter().map(id)))
        || (path == "scope" && one.get("id").is_some() && scope(one) == scope(other))
}

fn label(path: &str) -> String {
    words::label(path.rsplit_once('#').map_or(path, |(first, _)| first))
}

/// The paths of all versions, each once, those of the first version first.
fn all_paths<const N: usize>(versions: [&Fields<'_>; N]) -> Vec<String> {
    let mut seen = std::collections::HashSet::new();
    let paths = versions.into_iter().flat_map(|fields| &fields.in_order);
    let new = paths.filter(|(path, _)| seen.insert(path.as_str()));
    new.map(|(path, _)| path.clone()).collect()
}

/// Puts a field's value into a rule, or takes it out.
fn put(rule: &mut Value, path: &str, value: Option<&Value>) {
    let names: Vec<&str> = match path.strip_prefix("action.properties.") {
        Some(name) => vec!["action", "properties", name],
        None => path.splitn(2, '.').collect(),
    };
    let Some((last, objects)) = names.split_last() else {
        return;
    };
    let mut object = rule;
    for name in objects {
        let Some(members) = object.as_object_mut() else { return };
        let member = members.entry(*name).or_insert(Value::Null);
        if !member.is_object() {
            *member = Value::Object(Map::new());
        }
        object = member;
    }
    let Some(members) = object.as_object_mut() else { return };
    match value {
        Some(value) => {
            members.insert((*last).to_owned(), value.clone());
        }
        None => {
            members.shift_remove(*last);
        }
    }
}

/// More pairs of words than that aren't compared: what differs is then told as a whole.
const PAIRS_MAX: usize = 1_000_000;

/// Words, blanks and marks, each alone.
fn pieces(text: &str) -> Vec<&str> {
    let mut pieces = Vec::new();
    let mut begin = 0;
    let in_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut before = None;
    for (at, c) in text.char_indices() {
        if before.is_some_and(|before| !(in_word(before) && in_word(c))) {
            pieces.push(&text[begin..at]);
            begin = at;
        }
        before = Some(c);
    }
    if begin < text.len() {
        pieces.push(&text[begin..]);
    }
    pieces
}

fn push(runs: &mut Vec<Run>, run: fn(String) -> Run, pieces: &[&str]) {
    if pieces.is_empty() {
        return;
    }
    let text = pieces.concat();
    match (runs.last_mut(), run(String::new())) {
        (Some(Run::Same(last)), Run::Same(_))
        | (Some(Run::Deleted(last)), Run::Deleted(_))
        | (Some(Run::Inserted(last)), Run::Inserted(_)) => last.push_str(&text),
        _ => runs.push(run(text)),
    }
}

/// The runs of two texts that differ at their beginning and end, by the longest sequence of pieces that is in both.
fn between(old: &[&str], new: &[&str], runs: &mut Vec<Run>) {
    if old.is_empty() || new.is_empty() || old.len() * new.len() > PAIRS_MAX {
        push(runs, Run::Deleted, old);
        push(runs, Run::Inserted, new);
        return;
    }
    // How long that sequence is from each pair of places on.
    let width = new.len() + 1;
    let mut longest = vec![0_u32; (old.len() + 1) * width];
    for i in (0..old.len()).rev() {
        for j in (0..new.len()).rev() {
            longest[i * width + j] = match old[i] == new[j] {
                true => longest[(i + 1) * width + j + 1] + 1,
                false => longest[(i + 1) * width + j].max(longest[i * width + j + 1]),
            };
        }
    }
    let (mut i, mut j) = (0, 0);
    // What is deleted is told before what stands in its place.
    let mut inserted = Vec::new();
    while i < old.len() || j < new.len() {
        if i < old.len() && j < new.len() && old[i] == new[j] {
            push(runs, Run::Inserted, &std::mem::take(&mut inserted));
            push(runs, Run::Same, &old[i..=i]);
            (i, j) = (i + 1, j + 1);
        } else if i < old.len() && (j == new.len() || longest[(i + 1) * width + j] >= longest[i * width + j + 1]) {
            push(runs, Run::Deleted, &old[i..=i]);
            i += 1;
        } else {
            inserted.push(new[j]);
            j += 1;
        }
    }
    push(runs, Run::Inserted, &inserted);
}

#[cfg(test)]
mod tests;
