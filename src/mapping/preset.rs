//! Presets: ready mappings for known systems, kept as files that people can read and copy.

use std::borrow::Cow;

use super::{KeyPlace, customer_io};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preset {
    Slack,
    Salesforce,
    Sheet,
    Track,
    Clevertap,
    Json,
}

/// The mappings' files, by the name of a preset and whether it is read from a topic.
const FILES: [(Preset, &str, Option<bool>, &str); 7] = [
    (
        Preset::Slack,
        "slack",
        Some(false),
        include_str!("../../config/inlets/slack.yaml"),
    ),
    (
        Preset::Salesforce,
        "salesforce",
        Some(true),
        include_str!("../../config/inlets/salesforce.yaml"),
    ),
    (
        Preset::Salesforce,
        "salesforce",
        Some(false),
        include_str!("../../config/inlets/salesforce_outbound.yaml"),
    ),
    (
        Preset::Sheet,
        "sheet",
        None,
        include_str!("../../config/inlets/sheet.yaml"),
    ),
    (
        Preset::Track,
        "track",
        None,
        include_str!("../../config/inlets/track.yaml"),
    ),
    (
        Preset::Clevertap,
        "clevertap",
        None,
        include_str!("../../config/inlets/clevertap.yaml"),
    ),
    (
        Preset::Json,
        "json",
        None,
        include_str!("../../config/inlets/json.yaml"),
    ),
];

pub(super) const NAMES: &[(&str, Preset)] = &[
    ("slack", Preset::Slack),
    ("salesforce", Preset::Salesforce),
    ("sheet", Preset::Sheet),
    ("track", Preset::Track),
    ("clevertap", Preset::Clevertap),
    ("json", Preset::Json),
];

impl Preset {
    /// The preset's mapping as YAML; none where it isn't made for topics, or for HTTP.
    pub(super) fn file(self, topic: bool) -> Option<&'static str> {
        let mut files = FILES.iter().filter(|(preset, ..)| *preset == self);
        let file = files.find(|(_, _, of, _)| of.is_none_or(|of| of == topic));
        file.map(|(.., text)| *text)
    }

    pub fn as_str(self) -> &'static str {
        FILES
            .iter()
            .find(|(preset, ..)| *preset == self)
            .map_or("", |(_, name, ..)| name)
    }

    /// The place of `{secret: NAME}` in a request.
    pub(super) fn place(self) -> KeyPlace {
        match self {
            Preset::Slack => KeyPlace::Signature,
            Preset::Track => KeyPlace::WriteKey,
            // Salesforce sends neither a header nor a password of ours.
            Preset::Salesforce => KeyPlace::Path,
            Preset::Sheet | Preset::Clevertap | Preset::Json => KeyPlace::Bearer,
        }
    }

    /// The path beyond the inlet's name that a request may come to; an empty one is the name alone.
    pub fn first_route(self) -> &'static str {
        match self {
            Preset::Track => TRACK[0],
            _ => "",
        }
    }
}

/// The paths of Segment's client libraries: those for browsers and phones write the first letter.
const TRACK: [&str; 15] = [
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
