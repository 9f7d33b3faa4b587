//! How values are written in the configuration: addresses, durations, sizes, inlets.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serializer};
use serde_json::Value;

use super::admin::Token;
use crate::credential::SecretName;
use crate::dates::{self, DurationError};

pub(super) mod address {
    use std::net::SocketAddr;

    use super::*;

    pub(in crate::config) fn serialize<S: Serializer>(value: &SocketAddr, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub(in crate::config) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SocketAddr, D::Error> {
        let text = Value::deserialize(deserializer)?;
        let address = text.as_str().and_then(|text| text.parse().ok());
        address.ok_or_else(|| {
            serde::de::Error::custom("is no address; write IP:PORT, such as 127.0.0.1:8080 or [::]:8080")
        })
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
        dates::duration(&text).map_err(|error| match error {
            // It quotes the number.
            DurationError::NoUnit(_) => {
                serde::de::Error::custom("a duration needs a unit, such as 50ms, 10s, 5m or 1h")
            }
            other => serde::de::Error::custom(other),
        })
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
    use crate::mapping::Inlet;
    use crate::reader::Problem;

    pub(in crate::config) fn serialize<S: Serializer>(inlets: &[Inlet], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(inlets.iter().map(Inlet::entry))
    }

    pub(in crate::config) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Inlet>, D::Error> {
        let Value::Array(entries) = Value::deserialize(deserializer)? else {
            return Err(serde::de::Error::custom(
                "needs a list, such as [{name: crm, preset: json, event: {...}}]",
            ));
        };
        let read = entries.iter().map(|entry| Inlet::read("", entry));
        // Whoever sees this finds the problems themselves by `problems`.
        read.map(|inlet| inlet.map_err(|_| serde::de::Error::custom("can't be read")))
            .collect()
    }

    /// Every problem of the entries, by the key as people write it.
    pub(in crate::config) fn problems(entries: &[Value]) -> Vec<Problem> {
        let read = entries.iter().enumerate();
        let read = read.map(|(at, entry)| Inlet::read(&format!("inlets[{at}]"), entry));
        read.filter_map(Result::err).flatten().collect()
    }
}

/// The name of a secret. What stands there may be the secret itself, so it is never quoted.
pub(super) fn secret_name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SecretName, D::Error> {
    let value = Value::deserialize(deserializer)?;
    value.as_str().and_then(SecretName::new).ok_or_else(|| {
        serde::de::Error::custom(
            "must be the name of a secret: letters, digits and - alone; put the value into the file of that name in \
             secrets.dir, or into the variable LEADLANE_SECRET_<NAME>",
        )
    })
}

/// Who holds which token. A text in place of one may be the token itself, so it is never quoted.
pub(super) fn tokens<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Token>, D::Error> {
    const CURE: &str = "must be {name: WHO, role: viewer, editor or admin, secret: NAME, levels: [{level: product, campaign, \
                        publisher or inlet, id: ID}]}, where the token itself is the secret of that name in the secret \
                        store, and levels may be left out";
    let Value::Array(entries) = Value::deserialize(deserializer)? else {
        return Err(serde::de::Error::custom(
            "needs a list, such as [{name: ana, role: editor, secret: desk-ana}]",
        ));
    };
    // serde's own words would quote what stands there.
    let read = |(at, entry)| Token::deserialize(entry).map_err(|_| serde::de::Error::custom(format!("[{at}]: {CURE}")));
    entries.into_iter().enumerate().map(read).collect()
}
