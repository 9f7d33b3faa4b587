//! Why a lead notified somebody, or nobody: its events, and each rule that could have matched, by the version that was in
//! force when the event was read.

use std::collections::{BTreeSet, HashMap, HashSet};
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
use crate::rules::{Failed, Level, Rule, Scope, Versioned};

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
    let view = resident.rules().view();
    let keys = keys(resident, &events)?;
    let scopes = Scopes::of(&view, &keys);
    let events = events
        .into_iter()
        .map(|event| of_event(resident, &scopes, &history, event));
    Ok(Why {
        lead_id: lead_id.to_owned(),
        events: events.collect::<Result<_, _>>()?,
        more,
    })
}

fn of_event(resident: &Resident, scopes: &Scopes<'_>, history: &History, event: Arc<Recent>) -> Result<OfEvent, Error> {
    let (mut rules, elsewhere) = resident.with_event(&event, |lead_event| {
        explain(scopes, history, event.place.at, lead_event)
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

/// A trigger and a scope.
type Key<'k> = (&'k str, Level, Option<&'k str>);

/// Those that an event is near.
fn near<'e>(event: &'e LeadEvent<'_>) -> impl Iterator<Item = Key<'e>> {
    let levels = Level::ALL.into_iter();
    let found = levels.filter_map(|level| Some((level, level.id_in(event)?)));
    let scopes = found.flat_map(|(level, id)| [(level, Some(id)), (level, None)]);
    scopes.map(|(level, id)| (&*event.trigger, level, id))
}

/// Those that some events are near.
fn keys(resident: &Resident, events: &[Arc<Recent>]) -> Result<HashSet<(String, Level, Option<String>)>, Error> {
    let mut keys = HashSet::new();
    for event in events {
        resident.with_event(event, |event| {
            let owned = |(trigger, level, id): Key<'_>| (trigger.to_owned(), level, id.map(str::to_owned));
            keys.extend(near(event).map(owned));
        })?;
    }
    Ok(keys)
}

/// The rules in force that some events are near, by trigger and scope: few of all rules.
struct Scopes<'v> {
    view: &'v View,
    /// Each is read from its text once for all events.
    of: HashMap<Key<'v>, Vec<(&'v str, Versioned)>>,
}

impl<'v> Scopes<'v> {
    fn of(view: &'v View, keys: &'v HashSet<(String, Level, Option<String>)>) -> Self {
        let keys = keys.iter();
        let mut of: HashMap<Key<'v>, Vec<_>> = keys
            .map(|(trigger, level, id)| ((trigger.as_str(), *level, id.as_deref()), Vec::new()))
            .collect();
        for in_force in rules::every(view) {
            let scope = &in_force.rule.scope;
            let key = (&*in_force.rule.trigger, scope.level, scope.id.as_deref());
            if let Some(rules) = of.get_mut(&key) {
                rules.extend(in_force.whole().map(|whole| (in_force.id, whole)));
            }
        }
        Self { view, of }
    }

    /// The rules that an event is near.
    fn near<'s>(&'s self, event: &'s LeadEvent<'_>) -> impl Iterator<Item = &'s (&'s str, Versioned)> {
        near(event).filter_map(|key| self.of.get(&key)).flatten()
    }
}

/// What each rule of the event's scope makes of it, and how many are of another one.
fn explain(scopes: &Scopes<'_>, history: &History, at: i64, event: &LeadEvent<'_>) -> (Vec<OfRule>, usize) {
    let (mut rules, mut elsewhere) = (Vec::new(), scopes.view.of_trigger(&event.trigger));
    let mut seen = HashSet::new();
    for (id, then) in history.of(at) {
        seen.insert(id);
        let today = rules::get(scopes.view, id).ok();
        // It is told as it was then.
        elsewhere -= usize::from(today.is_some_and(|today| *today.rule.trigger == *event.trigger));
        let (trigger, scope) = match (then, &today) {
            (Then::Rule(rule, _), _) => (&*rule.trigger, &rule.scope),
            (Then::Unknown, Some(today)) => (&*today.rule.trigger, &today.rule.scope),
            (Then::Unknown, None) | (Then::Nothing, _) => continue,
        };
        if *trigger != *event.trigger {
            continue;
        }
        if !is_near(scope, event) {
            elsewhere += 1;
            continue;
        }
        let today = today.and_then(|today| today.whole());
        let (rule, version) = match (then, &today) {
            (Then::Rule(rule, version), _) => (&**rule, *version),
            // Today's answers for what nobody knows.
            (_, Some(today)) => (&today.rule, None),
            (_, None) => continue,
        };
        rules.push(OfRule {
            id: id.to_owned(),
            name: rule.name.as_deref().map(str::to_owned),
            version,
            failed: rule.explain(event),
            today: Some(Today {
                version: today.as_ref().map(|today| today.version),
                failed: today.as_ref().map_or_else(Vec::new, |today| today.rule.explain(event)),
            }),
        });
    }
    for (id, Versioned { rule, version }) in scopes.near(event).filter(|(id, _)| !seen.contains(id)) {
        elsewhere -= 1;
        rules.push(OfRule {
            id: (*id).to_owned(),
            failed: rule.explain(event),
            name: rule.name.as_deref().map(str::to_owned),
            version: Some(*version),
            today: None,
        });
    }
    (rules, elsewhere)
}

/// Whether an event is of the rule's scope.
fn is_near(scope: &Scope, event: &LeadEvent<'_>) -> bool {
    let found = scope.level.id_in(event);
    match &scope.id {
        Some(id) => found == Some(&**id),
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
    /// By rule, what was in force before some of its changes, each with the time of the change, oldest first.
    changes: HashMap<String, Vec<(i64, Then)>>,
}

impl History {
    fn read(resident: &Resident, events: &[Arc<Recent>]) -> Result<Self, Error> {
        let times: BTreeSet<i64> = events.iter().map(|event| event.place.at).collect();
        let Some(&oldest) = times.first() else {
            return Ok(Self::default());
        };
        // Of the changes between two events the first says what was in force at the earlier one.
        let mut wanted: Vec<(String, Place)> = Vec::new();
        {
            let (audits, mut before) = (resident.audits(), HashMap::new());
            for (target, place) in audits.after(oldest) {
                let before = before.insert(target, place.at).unwrap_or(oldest);
                if times.range(before..place.at).next().is_some() {
                    wanted.push((target.to_owned(), place));
                }
            }
        }
        // The newest are those that somebody wonders about.
        let known = &wanted[wanted.len().saturating_sub(VERSIONS_MAX)..];
        let places: Vec<Place> = known.iter().map(|(_, place)| *place).collect();
        let read = records(resident, &places)?;
        let read: HashMap<Place, Value> = places
            .into_iter()
            .zip(read)
            .filter_map(|(place, record)| Some((place, record?)))
            .collect();
        let mut changes = HashMap::<String, Vec<(i64, Then)>>::new();
        for (id, place) in wanted {
            if let Some(then) = then(read.get(&place)) {
                changes.entry(id).or_default().push((place.at, then));
            }
        }
        let view = resident.rules().view();
        // Somebody who leaves no audit may have changed it, too.
        for InForce { id, at: changed_at, .. } in rules::every(&view) {
            if changed_at > oldest
                && changes
                    .get(id)
                    .and_then(|changes| changes.last())
                    .is_none_or(|(last, _)| *last < changed_at)
            {
                let changes = changes.entry(id.to_owned()).or_default();
                changes.push((changed_at, Then::Unknown));
            }
        }
        Ok(Self { changes })
    }

    /// What was in force at a time of each rule that was changed since.
    fn of(&self, at: i64) -> impl Iterator<Item = (&str, &Then)> {
        self.changes.iter().filter_map(move |(id, changes)| {
            let next = changes.partition_point(|(changed_at, _)| *changed_at <= at);
            let (_, then) = changes.get(next)?;
            Some((id.as_str(), then))
        })
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
