//! The event that a rule is shown with: a recent one, the built-in sample, or one that is pasted. And the names behind ids.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::Value;

use super::editing::Editing;
use crate::desk::resident::events::Recent;
use crate::desk::{explain, recent, samples};
use crate::lead::LeadEvent;
use crate::lead::schemas::Schemas;
use crate::rules::sentence::Named;
use crate::rules::{Level, Party};
use crate::text::mask::{mask, mask_named};
use crate::web::Web;
use crate::web::page::part::count;

/// So many recent events of the trigger are offered.
const OFFERED_MAX: usize = 20;
/// So many recent events of the trigger are looked through for one that matches.
const LOOKED_MAX: usize = 500;
/// So many recent events are read for the names behind ids.
const NAMED_MAX: usize = 200;
/// So many places of an event are offered as placeholders.
const PLACES_MAX: usize = 200;

/// Which event is shown.
#[derive(Debug)]
pub(super) struct Chosen {
    /// What the reader chose: `sample`, `pasted`, `recent:PLACE` or `inlet:NAME`; empty for what fits best.
    pub(super) with: String,
    /// What that comes to.
    event: Shown,
    /// What was pasted.
    pub(super) pasted: String,
    /// The recent events of the trigger, newest first.
    pub(super) recent: Vec<Arc<Recent>>,
    trigger: String,
    level: Level,
    scope: Option<String>,
}

/// The event that is shown.
#[derive(Debug)]
enum Shown {
    /// The newest that matches.
    Matches(Arc<Recent>),
    /// The newest of the trigger, as none of so many matches.
    Newest(Arc<Recent>, usize),
    Recent(Option<Arc<Recent>>),
    Pasted,
    Inlet(String),
    /// Whether it was chosen, or no event of the trigger came lately.
    Sample {
        is_chosen: bool,
    },
}

impl Shown {
    /// What a reader chose.
    fn chosen(web: &Web, with: &str) -> Self {
        match with.split_once(':') {
            Some(("recent", place)) => {
                let place = place.parse().ok();
                Self::Recent(place.and_then(|place| web.resident.events().get(place).cloned()))
            }
            Some(("inlet", inlet)) => Self::Inlet(inlet.to_owned()),
            _ if with == "pasted" => Self::Pasted,
            _ => Self::Sample { is_chosen: true },
        }
    }

    /// What fits a rule best: the newest event that it matches, else the newest of its trigger, else the sample.
    fn best(web: &Web, editing: &Editing, newest: Option<&Arc<Recent>>) -> Self {
        let Some(newest) = newest else {
            return Self::Sample { is_chosen: false };
        };
        let rule = editing.previewed();
        let looked = rule.map(|rule| recent::newest_match(&web.resident, &rule, LOOKED_MAX));
        match looked {
            Some((_, Some(found))) => Self::Matches(found),
            Some((looked_at, None)) => Self::Newest(Arc::clone(newest), looked_at),
            None => Self::Newest(Arc::clone(newest), 0),
        }
    }

    /// Which event it is, in words.
    fn words(&self) -> String {
        let lead = |recent: &Recent| mask_named("lead_id", &recent.lead_id).into_owned();
        match self {
            Self::Matches(recent) => format!("Lead {}, the newest event that matches.", lead(recent)),
            Self::Newest(recent, 0) => format!("Lead {}, the newest event of this trigger.", lead(recent)),
            Self::Newest(recent, 1) => format!("Lead {}, the only recent event of this trigger.", lead(recent)),
            Self::Newest(recent, looked_at) => format!(
                "None of the last {} of this trigger matches. Lead {}, the newest of them.",
                count(*looked_at as u64, "event", "events"),
                lead(recent)
            ),
            Self::Recent(Some(recent)) => format!("Lead {}, the event that you chose.", lead(recent)),
            Self::Recent(None) => "The event that you chose.".to_owned(),
            Self::Pasted => "The event that you pasted.".to_owned(),
            Self::Inlet(inlet) => format!("The record that you pasted, through inlet {}.", mask(inlet)),
            Self::Sample { is_chosen: true } => "The built-in sample of this trigger.".to_owned(),
            Self::Sample { is_chosen: false } => {
                "No event of this trigger came lately. This is its built-in sample.".to_owned()
            }
        }
    }
}

impl Chosen {
    pub(super) fn of(web: &Web, editing: &Editing, posted: &[(String, String)]) -> Self {
        let get = |name: &str| {
            posted
                .iter()
                .rfind(|(field, _)| field == name)
                .map(|(_, value)| value.clone())
        };
        let trigger = editing.value("trigger").to_owned();
        let events = web.resident.events();
        let recent: Vec<Arc<Recent>> = (events.newest(None))
            .filter(|recent| *recent.trigger == *trigger)
            .take(OFFERED_MAX)
            .cloned()
            .collect();
        drop(events);
        let scope = editing.value("scope.id").trim();
        let with = get("with").unwrap_or_default();
        Self {
            event: match with.as_str() {
                "" => Shown::best(web, editing, recent.first()),
                with => Shown::chosen(web, with),
            },
            with,
            pasted: get("pasted").unwrap_or_default(),
            level: editing.level(),
            scope: Some(scope.to_owned()).filter(|id| !id.is_empty() && id != "*"),
            trigger,
            recent,
        }
    }

    /// Which event is shown, in words.
    pub(super) fn words(&self) -> String {
        self.event.words()
    }

    /// Looks at the event; the error says why there is none.
    pub(super) fn with<T>(&self, web: &Web, look: impl FnOnce(&LeadEvent<'_>) -> T) -> Result<T, String> {
        let read = |bytes: &[u8], look: &mut dyn FnMut(&LeadEvent<'_>)| match explain::event(bytes, &Schemas::new()) {
            Ok(event) => {
                look(&event);
                Ok(())
            }
            Err(error) => Err(error.to_string()),
        };
        let (mut seen, mut look) = (None, Some(look));
        let mut once = |event: &LeadEvent<'_>| {
            if let Some(look) = look.take() {
                seen = Some(look(event));
            }
        };
        let now = (web.now)();
        match &self.event {
            Shown::Recent(None) => return Err(GONE.to_owned()),
            Shown::Matches(recent) | Shown::Newest(recent, _) | Shown::Recent(Some(recent)) => {
                let found = web.resident.with_event(recent, &mut once);
                found.map_err(|error| error.to_string())?;
            }
            Shown::Inlet(inlet) => {
                let mapped = explain::of_record(&web.config, inlet, self.pasted.trim().as_bytes(), now);
                read(&mapped.map_err(|error| error.to_string())?, &mut once)?;
            }
            Shown::Pasted => read(self.pasted.trim().as_bytes(), &mut once)?,
            Shown::Sample { .. } => {
                let sample = samples::at(&self.trigger, self.level, self.scope.as_deref(), now).to_string();
                read(sample.as_bytes(), &mut once)?;
            }
        }
        seen.ok_or_else(|| GONE.to_owned())
    }

    /// The places of an event that a text can name, each with its value there, masked.
    pub(super) fn places(&self, web: &Web) -> Vec<(String, Option<String>)> {
        let sample = samples::at(&self.trigger, self.level, self.scope.as_deref(), (web.now)());
        let real = self.with(web, |event| event.to_json()).unwrap_or_default();
        let (mut known, mut places) = (Vec::new(), Vec::new());
        leaves(&real, &mut String::new(), &mut known);
        leaves(&sample, &mut String::new(), &mut places);
        let value = |path: &str| {
            known
                .iter()
                .find(|(found, _)| found == path)
                .map(|(_, value)| value.clone())
        };
        let mut all: Vec<(String, Option<String>)> = Vec::new();
        for (path, _) in &places {
            all.push((path.clone(), value(path)));
            if matches!(path.as_str(), "price" | "payout" | "revenue") {
                all.push((format!("{path} | money"), value(path)));
            }
            if path == "occurred_at" {
                all.push((format!(r#"{path} | date: "%H:%M""#), value(path)));
            }
        }
        let others = known
            .iter()
            .filter(|(path, _)| !places.iter().any(|(known, _)| known == path));
        all.extend(others.map(|(path, value)| (path.clone(), Some(value.clone()))));
        all.truncate(PLACES_MAX);
        all
    }
}

const GONE: &str = "this event is no longer among the recent ones; choose another";

/// The texts, numbers and booleans of a value, with their paths.
fn leaves(value: &Value, path: &mut String, into: &mut Vec<(String, String)>) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                let length = path.len();
                let is_word = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
                match (is_word, path.is_empty()) {
                    (true, true) => path.push_str(name),
                    (true, false) => {
                        path.push('.');
                        path.push_str(name);
                    }
                    (false, _) => path.push_str(&format!("['{}']", name.replace('\\', "\\\\").replace('\'', "\\'"))),
                }
                leaves(member, path, into);
                path.truncate(length);
            }
        }
        Value::Null | Value::Array(_) => {}
        Value::String(text) => into.push((path.clone(), mask_named(path, text).into_owned())),
        Value::Number(_) | Value::Bool(_) => {
            into.push((path.clone(), mask_named(path, &value.to_string()).into_owned()))
        }
    }
}

/// The names behind ids, as recent events say them.
#[derive(Debug, Default)]
pub(super) struct Names(HashMap<(Named, String), String>);

impl Names {
    pub(super) fn of(web: &Web) -> Self {
        let mut names = Self::default();
        let recent: Vec<Arc<Recent>> = web.resident.events().newest(None).take(NAMED_MAX).cloned().collect();
        for recent in recent {
            // An event that can't be read names nothing.
            drop(web.resident.with_event(&recent, |event| names.take(event)));
        }
        names
    }

    fn take(&mut self, event: &LeadEvent<'_>) {
        let levels = [
            (Level::Product, &event.product),
            (Level::Campaign, &event.campaign),
            (Level::Publisher, &event.publisher),
        ];
        let parties = [
            (Party::Publisher, &event.publisher),
            (Party::Channel, &event.channel),
            (Party::Source, &event.source),
            (Party::Buyer, &event.buyer),
            (Party::Campaign, &event.campaign),
            (Party::Pingtree, &event.pingtree),
        ];
        let levels = levels.into_iter().map(|(level, entity)| (Named::Scope(level), entity));
        let parties = parties.into_iter().map(|(party, entity)| (Named::Party(party), entity));
        for (named, entity) in levels.chain(parties) {
            let both = entity
                .as_ref()
                .and_then(|entity| entity.id.as_ref().zip(entity.name.as_ref()));
            if let Some((id, name)) = both.filter(|(_, name)| !name.trim().is_empty()) {
                // The newest name counts.
                let name = || mask(name).into_owned();
                self.0.entry((named, id.to_string())).or_insert_with(name);
            }
        }
    }

    pub(super) fn get(&self, named: Named, id: &str) -> Option<String> {
        self.0.get(&(named, id.to_owned())).cloned()
    }

    /// The ids that are known of a kind, each with its name.
    pub(super) fn all(&self, named: Named) -> Vec<(&str, &str)> {
        let of = self.0.iter().filter(|((kind, _), _)| *kind == named);
        let mut all: Vec<(&str, &str)> = of.map(|((_, id), name)| (id.as_str(), name.as_str())).collect();
        all.sort_unstable_by_key(|(id, name)| (*name, *id));
        all.truncate(100);
        all
    }
}
