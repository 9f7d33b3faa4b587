//! Recent lead events, and what a rule would have made of them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::page::{Page, Place};
use super::resident::Resident;
use super::resident::counts::HOUR;
use super::resident::events::Recent;
use crate::rules::{Failed, Rule};

/// So many matched events are named.
const SAMPLES_MAX: usize = 20;

/// Which events are asked for: all conditions must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    pub lead: Option<String>,
    pub event: Option<String>,
    pub trigger: Option<String>,
    pub inlet: Option<String>,
    /// Those that any rule matched, or those that none did.
    pub matched: Option<bool>,
}

impl Filter {
    fn holds(&self, resident: &Resident, recent: &Recent) -> bool {
        let is = |wanted: &Option<String>, found: &str| wanted.as_deref().is_none_or(|wanted| wanted == found);
        is(&self.lead, &recent.lead_id)
            && is(&self.event, &recent.event_id)
            && is(&self.trigger, &recent.trigger)
            && (self.inlet.is_none() || self.inlet.as_deref() == recent.inlet.as_deref())
            && (self.matched).is_none_or(|matched| resident.deliveries().has_event(&recent.event_id) == matched)
    }
}

/// Events that are asked for, newest first.
pub fn events(resident: &Resident, filter: &Filter, after: Option<Place>, limit: usize) -> Page<Arc<Recent>> {
    let events: Vec<Arc<Recent>> = resident.events().newest(after).cloned().collect();
    let held = events.into_iter().filter(|recent| filter.holds(resident, recent));
    Page::of(held.map(|recent| (recent.place, recent)), limit)
}

/// What a rule would have matched of the last events.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Matches {
    pub looked_at: usize,
    pub matched: usize,
    /// On average, over the time of all events that were looked at; over an hour where that is less.
    pub per_hour: f64,
    pub most_in_an_hour: usize,
    /// When the first and the last of the events were written, epoch milliseconds.
    pub from: Option<i64>,
    pub to: Option<i64>,
    /// The ids of some events that it would have matched, newest first.
    pub samples: Vec<Box<str>>,
    /// The first condition that failed, and of how many events; the most first.
    pub fell: Vec<(String, usize)>,
    /// The matches of each hour that has any, oldest first, each with the time that it begins at.
    pub hours: Vec<(i64, usize)>,
}

/// Holds a rule, whether or not it is active, against the last events.
pub fn matches(resident: &Resident, rule: &Rule, last: usize) -> Matches {
    let events: Vec<Arc<Recent>> = resident.events().newest(None).take(last).cloned().collect();
    let mut matches = Matches {
        looked_at: events.len(),
        from: events.last().map(|recent| recent.place.at),
        to: events.first().map(|recent| recent.place.at),
        ..Matches::default()
    };
    let (mut fell, mut hours) = (HashMap::<String, usize>::new(), BTreeMap::<i64, usize>::new());
    for recent in events {
        match first_failed(resident, rule, &recent) {
            Some(failed) => *fell.entry(failed).or_default() += 1,
            None => {
                matches.matched += 1;
                *hours.entry(recent.place.at.div_euclid(HOUR) * HOUR).or_default() += 1;
                if matches.samples.len() < SAMPLES_MAX {
                    matches.samples.push(recent.event_id.clone());
                }
            }
        }
    }
    let span = matches.to.zip(matches.from).map_or(0, |(to, from)| to - from).max(HOUR);
    matches.per_hour = matches.matched as f64 * HOUR as f64 / span as f64;
    matches.most_in_an_hour = hours.values().copied().max().unwrap_or_default();
    matches.hours = hours.into_iter().collect();
    matches.fell = fell.into_iter().collect();
    matches
        .fell
        .sort_by(|(one, many), (other, more)| more.cmp(many).then_with(|| one.cmp(other)));
    matches
}

/// The newest event of a rule's trigger that it would match, whether or not it is active; looks at the last `most` of the
/// trigger, and says at how many.
pub fn newest_match(resident: &Resident, rule: &Rule, most: usize) -> (usize, Option<Arc<Recent>>) {
    let is_of_trigger = |recent: &&Arc<Recent>| *recent.trigger == *rule.trigger;
    let events: Vec<Arc<Recent>> = {
        let events = resident.events();
        events.newest(None).filter(is_of_trigger).take(most).cloned().collect()
    };
    let looked_at = events.len();
    let found = events
        .into_iter()
        .find(|recent| first_failed(resident, rule, recent).is_none());
    (looked_at, found)
}

/// The first condition that an event doesn't meet.
fn first_failed(resident: &Resident, rule: &Rule, recent: &Recent) -> Option<String> {
    if *recent.trigger != *rule.trigger {
        return Some(format!("trigger {}", rule.trigger));
    }
    let is_asked = |failed: &Failed| failed.path != "status";
    let failed = resident.with_event(recent, |event| rule.explain(event).into_iter().find(is_asked));
    match failed {
        Ok(failed) => failed.map(|failed| failed.to_string()),
        Err(error) => Some(error.to_string()),
    }
}
