//! The file and the variables as one tree of values, before the configuration's types read it.

use serde_json::Value;
use serde_path_to_error::{Path, Segment};

use crate::reader::{Problem, Refusal};

/// Variables that set keys begin so.
pub(super) const VARIABLES: &str = "LEADLANE__";

/// `key: null` (or a section with nothing in it) means the default.
pub(super) fn drop_nulls(value: &mut Value) {
    if let Value::Object(map) = value {
        map.retain(|_, value| !value.is_null());
        map.values_mut().for_each(drop_nulls);
    }
}

/// Where any text may stand, a number is one, as it was written: of a password `1e5` nothing else may become.
pub(super) fn keep_texts(root: &mut Value) {
    let of = |value: &mut Value| {
        if let Value::Number(number) = value {
            *value = Value::String(number.as_str().to_owned());
        }
    };
    for places in [
        "/kafka/properties",
        "/kafka/consumer_properties",
        "/kafka/producer_properties",
        "/schema_registry",
    ] {
        match root.pointer_mut(places) {
            Some(Value::Object(map)) => map.values_mut().for_each(of),
            Some(Value::Array(list)) => list.iter_mut().for_each(of),
            _ => {}
        }
    }
}

/// The keys that stand without a value, each with the way to it.
pub(super) fn nulls(value: &Value) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    for (key, value) in value.as_object().into_iter().flatten() {
        let inner = if value.is_null() {
            vec![Vec::new()]
        } else {
            nulls(value)
        };
        found.extend(inner.into_iter().map(|mut way| {
            way.insert(0, key.clone());
            way
        }));
    }
    found
}

/// Takes out what stands at a path; of a list all, so that no entry gets another number. Says whether anything was there.
pub(super) fn take_out(root: &mut Value, path: &Path) -> bool {
    let mut steps: Vec<&str> = Vec::new();
    for step in path {
        match step {
            Segment::Map { key } => steps.push(key),
            Segment::Seq { .. } | Segment::Enum { .. } | Segment::Unknown => break,
        }
    }
    let Some((last, sections)) = steps.split_last() else {
        return false;
    };
    let section = sections.iter().try_fold(root, |section, step| section.get_mut(*step));
    let section = section.and_then(Value::as_object_mut);
    section.is_some_and(|section| section.shift_remove(*last).is_some())
}

/// The variables that set keys.
pub(super) fn variables() -> Result<Vec<(String, String)>, Refusal> {
    let ours = std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with(VARIABLES));
    ours.map(|(name, value)| match (name.to_str(), value.to_str()) {
        (Some(name), Some(value)) => Ok((name.to_owned(), value.to_owned())),
        _ => Err(Refusal {
            variable: Some(name.to_string_lossy().into()),
            ..Refusal::new("is no UTF-8 text; set it again as text, or unset it")
        }),
    })
    .collect()
}

/// Sets the key that a variable names, and gives it as people write it.
pub(super) fn overlay(root: &mut Value, path: &str, text: &str) -> Result<String, Problem> {
    let invalid = |message: String| Problem {
        field: path.to_lowercase().replace("__", "."),
        message,
    };
    // Only what begins as a map, a list or a quoted text is YAML. Of a password such as `#1 & more` YAML would make
    // something else, or nothing.
    let begins = text.trim_start();
    let list_of_lines = begins.starts_with("- ") && begins.contains('\n');
    let value = match begins.starts_with(['{', '[', '"', '\'']) || list_of_lines {
        true => match crate::yaml::documents(text) {
            Ok(mut documents) if documents.len() == 1 => documents.remove(0).value,
            _ => Value::String(text.to_owned()),
        },
        false => crate::yaml::scalar(text),
    };
    let names: Vec<String> = path.split("__").map(str::to_lowercase).collect();
    if names.iter().any(String::is_empty) {
        return Err(invalid("name the key as LEADLANE__SECTION__KEY".into()));
    }
    let mut key = String::new();
    let mut at = root;
    for (depth, name) in names.iter().enumerate() {
        let map = match at {
            Value::Object(map) => map,
            _ => {
                return Err(invalid(format!(
                    "{key} is no section; look for a slip in the variable's name"
                )));
            }
        };
        // librdkafka's names have dots, which a variable's name can't have.
        let in_properties = depth == 2 && names[0] == "kafka" && names[1].ends_with("properties");
        let name = if in_properties {
            name.replace('_', ".")
        } else {
            name.clone()
        };
        key = if key.is_empty() {
            name.clone()
        } else {
            format!("{key}.{name}")
        };
        if depth + 1 == names.len() {
            if value.is_null() {
                map.remove(&name);
            } else {
                map.insert(name, value);
            }
            return Ok(key);
        }
        at = map.entry(name).or_insert_with(|| Value::Object(serde_json::Map::new()));
    }
    Ok(key)
}
