//! The event that a rule is shown with: a recent one, the built-in sample, or one that is pasted. And the names behind ids.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::Value;

use super::editing::Editing;
use crate::desk::resident::events::Recent;
use crate::desk::{explain, samples};
use crate::lead::LeadEvent;
use crate::lead::schemas::Schemas;
use crate::rules::sentence::Named;
use crate::rules::{Level, Party};
use crate::text::mask::{mask, mask_named};
use crate::web::Web;

/// So many recent events of the trigger are offered.
const OFFERED_MAX: usize = 20;
/// So many recent events are read for the names behind ids.
const NAMED_MAX: usize = 200;
/// So many places of an event are offered as placeholders.
const PLACES_MAX: usize = 200;

/// Which event is shown.
#[derive(Debug)]
pub(super) struct Chosen {
    /// `sample`, `pasted`, `recent:PLACE` or `inlet:NAME`.
    pub(super) with: String,
    /// What was pasted.
    pub(super) pasted: String,
    /// The recent events of the trigger, newest first.
    pub(super) recent: Vec<Arc<Recent>>,
    trigger: String,
    level: Level,
    scope: Option<String>,
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
        let newest = || {
            recent
                .first()
                .map_or_else(|| "sample".to_owned(), |recent| format!("recent:{}", recent.place))
        };
        let scope = editing.value("scope.id").trim();
        Self {
            with: get("with").filter(|with| !with.is_empty()).unwrap_or_else(newest),
            pasted: get("pasted").unwrap_or_default(),
            level: editing.level(),
            scope: Some(scope.to_owned()).filter(|id| !id.is_empty() && id != "*"),
            trigger,
            recent,
        }
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
        match self.with.split_once(':') {
            Some(("recent", place)) => {
                let place = place.parse().map_err(|_| GONE.to_owned())?;
                let recent = web.resident.events().get(place).cloned();
                let recent = recent.ok_or_else(|| GONE.to_owned())?;
                let found = web.resident.with_event(&recent, &mut once);
                found.map_err(|error| error.to_string())?;
            }
            Some(("inlet", inlet)) => {
                let mapped = explain::of_record(&web.config, inlet, self.pasted.trim().as_bytes(), now);
                read(&mapped.map_err(|error| error.to_string())?, &mut once)?;
            }
            _ if self.with == "pasted" => read(self.pasted.trim().as_bytes(), &mut once)?,
            _ => {
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
