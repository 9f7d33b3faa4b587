//! The paths beyond an inlet's name that requests come to, and what each says of its records.

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::{Preset, customer_io};
use crate::json;

/// The paths of Segment's client libraries: those for browsers and phones write the first letter.
pub(super) const TRACK: [&str; 15] = [
    "v1/track",
    "v1/identify",
    "v1/page",
    "v1/screen",
    "v1/group",
    "v1/alias",
    "v1/batch",
    "v1/import",
    "v1/t",
    "v1/i",
    "v1/p",
    "v1/s",
    "v1/g",
    "v1/a",
    "v1/b",
];

/// A path beyond an inlet's name that requests come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route<'p> {
    pub path: &'p str,
    pub method: &'static str,
    /// Whether its calls bring no id of their own.
    needs_id: bool,
}

impl<'p> Route<'p> {
    /// The route of a path, where an inlet of the preset has it.
    pub fn of(preset: Option<Preset>, path: &'p str) -> Option<Self> {
        let calls = match preset {
            Some(Preset::Track) if TRACK.contains(&path) => None,
            Some(Preset::Track) => Some(customer_io::Call::of(path)?),
            _ if path.is_empty() => None,
            _ => return None,
        };
        Some(Self {
            path,
            method: calls.map_or("POST", |call| call.method()),
            needs_id: calls.is_some(),
        })
    }

    /// Whether a call's body may say by its write key where it belongs.
    pub fn takes_write_key(&self) -> bool {
        !self.needs_id
    }

    /// The route as its records keep it; `id` names a call that brings no id.
    pub fn kept(&self, id: impl FnOnce() -> String) -> Cow<'p, str> {
        match self.needs_id {
            true => customer_io::named(self.path, &id()).into(),
            false => self.path.into(),
        }
    }
}

/// The write key that a call holds, as client libraries for browsers and phones send it.
pub fn write_key(body: &[u8]) -> Option<String> {
    let body = body.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(body);
    let place = json::member(body, "writeKey").ok()??;
    serde_json::from_slice(&body[place]).ok()
}

/// Whether a browser names pages so: a scheme and a host, with a port where it is another than the scheme's; `*` is any.
pub(super) fn is_origin(text: &str) -> bool {
    let host = |host: &str| !host.is_empty() && !host.contains(['/', '?', '#', '@', '*', ',', ' ']);
    text == "*"
        || text
            .split_once("://")
            .is_some_and(|(scheme, rest)| !scheme.is_empty() && host(rest))
}

/// What the URL's path beyond the inlet's name puts beside a record.
pub(super) fn around(route: &str) -> Map<String, Value> {
    let step = last_step(route).filter(|step| !is_batch(step));
    step.map(|step| ("_route".to_owned(), step.into()))
        .into_iter()
        .collect()
}

/// The last step in full, where it is a letter; none of a call that says itself what it is.
fn last_step(route: &str) -> Option<&str> {
    if customer_io::Call::of(route).is_some() {
        return None;
    }
    let step = route.rsplit('/').next().filter(|step| !step.is_empty())?;
    Some(match step {
        "t" => "track",
        "i" => "identify",
        "p" => "page",
        "s" => "screen",
        "g" => "group",
        "a" => "alias",
        "b" => "batch",
        step => step,
    })
}

/// Whether the URL's path says that a list comes.
pub(super) fn is_of_batch(route: &str) -> bool {
    last_step(route).is_some_and(is_batch)
}

/// Whether the last step of a URL's path says that a list comes, rather than what each of its records is.
fn is_batch(step: &str) -> bool {
    matches!(step, "batch" | "import")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_a_scheme_and_a_host_alone() {
        for origin in [
            "*",
            "https://shop.example",
            "http://localhost:3000",
            "https://[::1]:8443",
            "capacitor://localhost",
        ] {
            assert!(is_origin(origin), "{origin}");
        }
        for other in [
            "",
            "shop.example",
            "https://",
            "://x",
            "https://shop.example/",
            "https://*.example",
            "https://a,https://b",
        ] {
            assert!(!is_origin(other), "{other}");
        }
    }
}
