//! How values are written: librdkafka's properties with secrets masked, durations, sizes.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use super::Properties;
use crate::dates;

impl std::fmt::Debug for Properties {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map().entries(self.masked()).finish()
    }
}

impl Properties {
    fn masked(&self) -> impl Iterator<Item = (&str, &str)> {
        let secret = |name: &str| {
            ["password", "secret", ".pem", "jaas", "oauthbearer.config"]
                .iter()
                .any(|word| name.contains(word))
        };
        self.0
            .iter()
            .map(move |(name, value)| (name.as_str(), if secret(name) { "***" } else { value.as_str() }))
    }
}

impl Serialize for Properties {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.masked())
    }
}

impl<'de> Deserialize<'de> for Properties {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let map = BTreeMap::<String, Value>::deserialize(deserializer)?;
        let text = |value: Value| match value {
            Value::String(text) => text,
            other => other.to_string(),
        };
        Ok(Self(map.into_iter().map(|(name, value)| (name, text(value))).collect()))
    }
}

pub(super) mod duration {
    use super::*;

    pub(in crate::config) fn serialize<S: Serializer>(value: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&dates::duration_text(*value))
    }

    pub(in crate::config) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        let text = match Value::deserialize(deserializer)? {
            Value::String(text) => text,
            other => other.to_string(),
        };
        dates::duration(&text).map_err(serde::de::Error::custom)
    }
}

pub(super) mod bytes {
    use super::*;

    const UNITS: [(&str, usize); 6] = [
        ("KiB", 1 << 10),
        ("MiB", 1 << 20),
        ("GiB", 1 << 30),
        ("kB", 1_000),
        ("MB", 1_000_000),
        ("GB", 1_000_000_000),
    ];

    pub(in crate::config) fn serialize<S: Serializer>(value: &usize, serializer: S) -> Result<S::Ok, S::Error> {
        let whole = UNITS[..3]
            .iter()
            .rev()
            .find(|(_, size)| *value > 0 && value.is_multiple_of(*size));
        serializer.serialize_str(&whole.map_or(format!("{value}"), |(unit, size)| format!("{}{unit}", value / size)))
    }

    pub(in crate::config) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
        let text = match Value::deserialize(deserializer)? {
            Value::String(text) => text,
            other => other.to_string(),
        };
        let (digits, size) = UNITS
            .iter()
            .find_map(|(unit, size)| Some((text.strip_suffix(unit)?, *size)))
            .unwrap_or((&text, 1));
        digits
            .trim()
            .parse::<usize>()
            .ok()
            .and_then(|count| count.checked_mul(size))
            .ok_or_else(|| serde::de::Error::custom("is no size; write it as 64MiB, 1MB or a number of bytes"))
    }
}

pub(super) mod inlets {
    use super::*;
    use crate::inlet::Inlet;

    pub(in crate::config) fn serialize<S: Serializer>(inlets: &[Inlet], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(inlets.iter().map(Inlet::entry))
    }

    pub(in crate::config) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Inlet>, D::Error> {
        let Value::Array(entries) = Value::deserialize(deserializer)? else {
            return Err(serde::de::Error::custom(
                "needs a list, such as [{name: crm, preset: json, event: {...}}]",
            ));
        };
        let read = (entries.iter().enumerate()).map(|(at, entry)| Inlet::read(&format!("[{at}]"), entry));
        let (mut inlets, mut problems) = (Vec::new(), Vec::new());
        for inlet in read {
            match inlet {
                Ok(inlet) => inlets.push(inlet),
                Err(found) => problems.extend(found),
            }
        }
        let said: Vec<String> = problems
            .iter()
            .map(|problem| format!("{}: {}", problem.field, problem.message))
            .collect();
        match said[..] {
            [] => Ok(inlets),
            _ => Err(serde::de::Error::custom(said.join("; "))),
        }
    }
}
