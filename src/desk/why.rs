//! Why a lead notified somebody, or nobody: its events, and each rule that could have matched, by the version that was in
//! force when the event was read.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use serde_json::Value;

use super::Error;
use super::audit::records;
use super::page::Place;
use super::recent::{self, Filter};
use super::resident::Resident;
use super::resident::deliveries::{Asked, Delivery};
use super::resident::events::Recent;
use super::rules::{self, InForce, View};
use crate::lead::LeadEvent;
use crate::rules::{Failed, Rule, Scope, Versioned};

/// So many events of a lead are explained, the newest.
const EVENTS_MAX: usize = 50;
/// So many rules of an event are named.
const RULES_MAX: usize = 50;
/// So many jobs of an event are named.
const JOBS_MAX: usize = 200;
/// So many earlier versions are read again.
const VERSIONS_MAX: usize = 1000;

/// The life of a lead, as far as memory has it.
#[derive(Debug, Clone, PartialEq)]
pub struct Why {
    pub lead_id: String,
    /// Newest first.
    pub events: Vec<OfEvent>,
    /// How many older events there are.
    pub more: usize,
}

/// What came of one event.
#[derive(Debug, Clone, PartialEq)]
pub struct OfEvent {
    pub event: Arc<Recent>,
    /// The rules of its trigger and its scope: those that matched, then the nearest, with the fewest conditions that fail.
    pub rules: Vec<OfRule>,
    /// How many more rules of its scope there are.
    pub further: usize,
    /// How many rules of its trigger are of another product, campaign, publisher or inlet.
    pub elsewhere: usize,
    /// Newest first.
    pub jobs: Vec<Delivery>,
}

/// What one rule made of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OfRule {
    pub id: String,
    pub name: Option<String>,
    /// The version in force when the event was written; none where nobody knows it any more, and today's answers for it.
    pub version: Option<i64>,
    /// The conditions that don't hold; none for a match.
    pub failed: Vec<Failed>,
    /// What the rule makes of it now, where it was changed since.
    pub today: Option<Today>,
}

/// What a rule makes of an event now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Today {
    /// None where no such rule is in force any more.
    pub version: Option<i64>,
    pub failed: Vec<Failed>,
}

/// Explains every event of a lead. A lead of which memory has no event is not found.
pub fn lead(resident: &Resident, lead_id: &str) -> Result<Why, Error> {
    let filter = Filter {
        lead: Some(lead_id.to_owned()),
        ..Filter::default()
    };
    let page = recent::events(resident, &filter, None, super::page::LIMIT_MAX);
    if page.items.is_empty() {
        return Err(Error::NotFound(format!("no recent event is of lead {lead_id}")));
    }
    let more = page.items.len().saturating_sub(EVENTS_MAX);
    let mut events = page.items;
    events.truncate(EVENTS_MAX);
    let history = History::read(resident, &events)?;
    let events = events.into_iter().map(|event| of_event(resident, &history, event));
    Ok(Why {
        lead_id: lead_id.to_owned(),
        events: events.collect::<Result<_, _>>()?,
        more,
    })
}

fn of_event(resident: &Resident, history: &History, event: Arc<Recent>) -> Result<OfEvent, Error> {
    let (mut rules, elsewhere) = resident.with_event(&event, |lead_event| {
        explain(&resident.rules().view(), history, event.place.at, lead_event)
    })?;
    rules.sort_by(|one, other| (one.failed.len(), &one.id).cmp(&(other.failed.len(), &other.id)));
    let further = rules.len().saturating_sub(RULES_MAX);
    rules.truncate(RULES_MAX);
    let asked = Asked {
        event: Some(event.event_id.to_string()),
        ..Asked::default()
    };
    let jobs: Vec<Delivery> = {
        let deliveries = resident.deliveries();
        let newest = deliveries.newest(&asked, None);
        newest.take(JOBS_MAX).map(|(_, delivery)| delivery).collect()
    };
    Ok(OfEvent {
        event,
        rules,
        further,
        elsewhere,
        jobs,
    })
}

/// What each rule of the event's scope makes of it, and how many are of another one.
fn explain(view: &View, history: &History, at: i64, event: &LeadEvent<'_>) -> (Vec<OfRule>, usize) {
    let (mut rules, mut elsewhere) = (Vec::new(), 0);
    let mut take = |explained: Option<OfRule>| match explained {
        Some(of_rule) => rules.push(of_rule),
        None => elsewhere += 1,
    };
    let mut seen = HashSet::new();
    for (id, then) in history.of(at) {
        seen.insert(id);
        let today = rules::get(view, id).ok().and_then(|today| today.whole());
        let rule = match then {
            Then::Rule(rule, version) => Some((&**rule, *version)),
            Then::Nothing => None,
            // Today's answers for what nobody knows.
            Then::Unknown => today.as_ref().map(|today| (&today.rule, None)),
        };
        let Some((rule, version)) = rule.filter(|(rule, _)| rule.trigger == event.trigger) else {
            continue;
        };
        take(is_near(&rule.scope, event).then(|| OfRule {
            id: id.to_owned(),
            name: rule.name.clone(),
            version,
            failed: rule.explain(event),
            today: Some(Today {
                version: today.as_ref().map(|today| today.version),
                failed: today.as_ref().map_or_else(Vec::new, |today| today.rule.explain(event)),
            }),
        }));
    }
    for in_force in rules::every(view) {
        if *in_force.rule.trigger != *event.trigger || seen.contains(in_force.id) {
            continue;
        }
        let near = is_near(&in_force.rule.scope, event).then(|| in_force.whole());
        take(near.flatten().map(|Versioned { rule, version }| OfRule {
            id: in_force.id.to_owned(),
            failed: rule.explain(event),
            name: rule.name,
            version: Some(version),
            today: None,
        }));
    }
    (rules, elsewhere)
}

/// Whether an event is of the rule's scope.
fn is_near(scope: &Scope, event: &LeadEvent<'_>) -> bool {
    let found = scope.level.id_in(event);
    match &scope.id {
        Some(id) => found == Some(id),
        None => found.is_some(),
    }
}

/// What was in force under an id at some time.
#[derive(Debug, Clone)]
enum Then {
    Rule(Arc<Rule>, Option<i64>),
    Nothing,
    Unknown,
}

/// The rules that were changed since some events were written, as they were then.
#[derive(Debug, Default)]
struct History {
    /// By the time of an event, the rules that were changed since.
    times: BTreeMap<i64, HashMap<String, Then>>,
}

impl History {
    fn read(resident: &Resident, events: &[Arc<Recent>]) -> Result<Self, Error> {
        let times: BTreeMap<i64, HashMap<String, Place>> = {
            let audits = resident.audits();
            let first = |at: i64| {
                audits
                    .first_after(at)
                    .into_iter()
                    .map(|(id, place)| (id.to_owned(), place))
            };
            events
                .iter()
                .map(|event| event.place.at)
                .map(|at| (at, first(at).collect()))
                .collect()
        };
        let mut places: Vec<Place> = times.values().flat_map(HashMap::values).copied().collect();
        places.sort_unstable();
        places.dedup();
        // The newest are those that somebody wonders about.
        let places = &places[places.len().saturating_sub(VERSIONS_MAX)..];
        let read = records(resident, places)?;
        let read: HashMap<Place, Value> = places
            .iter()
            .copied()
            .zip(read)
            .filter_map(|(place, record)| Some((place, record?)))
            .collect();
        let view = resident.rules().view();
        let of = |at: i64, first: HashMap<String, Place>| {
            let mut changed: HashMap<String, Then> = first
                .into_iter()
                .filter_map(|(id, place)| Some((id, then(read.get(&place))?)))
                .collect();
            // Somebody who leaves no audit may have changed it, too.
            for InForce { id, .. } in rules::every(&view) {
                if view.changed_at(id).is_some_and(|changed_at| changed_at > at) && !changed.contains_key(id) {
                    changed.insert(id.to_owned(), Then::Unknown);
                }
            }
            (at, changed)
        };
        Ok(Self {
            times: times.into_iter().map(|(at, first)| of(at, first)).collect(),
        })
    }

    fn of(&self, at: i64) -> impl Iterator<Item = (&str, &Then)> {
        let changed = self.times.get(&at).into_iter().flatten();
        changed.map(|(id, then)| (id.as_str(), then))
    }
}

/// What was in force before a change that the audit has; none where the record is about no rule.
fn then(record: Option<&Value>) -> Option<Then> {
    let Some(record) = record else {
        return Some(Then::Unknown);
    };
    // Other things that people do have no version.
    record.get("version")?;
    let before = record.get("before").filter(|before| !before.is_null());
    Some(match before.map(Rule::from_json) {
        Some(Ok(rule)) => Then::Rule(Arc::new(rule), record.get("replaces").and_then(Value::as_i64)),
        Some(Err(_)) => Then::Unknown,
        None if record.pointer("/left_out/before").is_some() => Then::Unknown,
        None => Then::Nothing,
    })
}
