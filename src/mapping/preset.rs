//! Presets: ready mappings for known systems, kept as files that people can read and copy.

use super::{KeyPlace, route};

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
            Preset::Track => route::TRACK[0],
            _ => "",
        }
    }
}
