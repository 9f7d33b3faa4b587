//! Makes an event id from the content of a record that has none: the same record at the same inlet gets the same id,
//! whatever the order of its members.

use serde_json::Value;
use sha1::{Digest as _, Sha1};
use uuid::{Builder, Uuid};

/// The namespace of the ids that are made of what was received.
const NAMESPACE: Uuid = Uuid::from_u128(0x6f0c_5ba2_31cf_5b5e_9d0a_5c1d_9f1e_7a40);

/// The hash of a record. It is made once, and goes on with each element that the record is exploded by.
#[derive(Clone)]
pub(super) struct Hash(Sha1);

impl Hash {
    /// The hash of a record at the inlet. `raw` is given where parsing lost a part of the record, so that two records
    /// keep two hashes.
    pub(super) fn of(inlet: &str, record: &Value, raw: Option<&[u8]>) -> Self {
        let mut text = format!("{inlet}\n");
        canonical(record, &mut text);
        let mut hash = Sha1::new();
        hash.update(NAMESPACE.as_bytes());
        hash.update(text.as_bytes());
        if let Some(raw) = raw {
            hash.update(b"\n");
            hash.update(raw);
        }
        Self(hash)
    }

    /// The id of the record, or of one of its elements: version 5 of a UUID.
    pub(super) fn id(&self, item: Option<&Value>) -> String {
        let mut hash = self.0.clone();
        if let Some(item) = item {
            let mut text = "\n".to_owned();
            canonical(item, &mut text);
            hash.update(text.as_bytes());
        }
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&hash.finalize()[..16]);
        Builder::from_sha1_bytes(bytes).into_uuid().to_string()
    }
}

/// JSON with the members of every object in one order.
fn canonical(value: &Value, into: &mut String) {
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn ids_stay_what_they_are_for_what_was_stored() {
        let record = json!({"b": [1, {"y": null, "x": "é\"\n"}], "a": 1.50});
        let text = "sheet\n{\"a\":1.5,\"b\":[1,{\"x\":\"é\\\"\\n\",\"y\":null,},],}";
        let hash = Hash::of("sheet", &record, None);
        assert_eq!(hash.id(None), Uuid::new_v5(&NAMESPACE, text.as_bytes()).to_string());
        let of_item = format!("{text}\n{{\"n\":1,}}");
        assert_eq!(
            hash.id(Some(&json!({"n": 1}))),
            Uuid::new_v5(&NAMESPACE, of_item.as_bytes()).to_string()
        );
        assert_ne!(Hash::of("sheet", &record, Some(b"x")).id(None), hash.id(None));
    }
}
