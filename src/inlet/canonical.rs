//! What a record's hash is made of: the same for the same record, in whatever order its members came.

use serde_json::Value;

/// JSON with the members of every object in one order.
pub(super) fn canonical(value: &Value, into: &mut String) {
    match value {
        Value::Object(members) => {
            let mut sorted: Vec<_> = members.iter().collect();
            sorted.sort_unstable_by_key(|(name, _)| name.as_str());
            into.push('{');
            for (name, value) in sorted {
                into.push_str(&Value::String(name.clone()).to_string());
                into.push(':');
                canonical(value, into);
                into.push(',');
            }
            into.push('}');
        }
        Value::Array(list) => {
            into.push('[');
            for value in list {
                canonical(value, into);
                into.push(',');
            }
            into.push(']');
        }
        other => into.push_str(&other.to_string()),
    }
}
