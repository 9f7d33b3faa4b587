//! Cases: what an event, or a record of an inlet, makes of some rules, compared with what somebody expects.
//!
//! A test file holds rules, inlets and cases. The recipes are such files, too.

use jiff::Timestamp;
use rust_decimal::Decimal;
use serde_json::{Map, Value, json};

use super::explain::{self, Would};
use super::{Error, Problem};
use crate::action::LaneOf;
use crate::config::Config;
use crate::lead::LeadEvent;
use crate::lead::schemas::Schemas;
use crate::mapping::{Inlet, Received};
use crate::rules::{Failed, Rule, Status, Versioned};

mod read;

/// When every case takes place, so that each gives the same on every day: 2026-01-01T00:00:00Z in epoch milliseconds.
pub const NOW: i64 = 1_767_225_600_000;

/// A test file as it is written.
#[derive(Debug, Clone)]
pub struct TestFile {
    pub rules: Vec<Source>,
    pub inlets: Vec<Inlet>,
    pub cases: Vec<Case>,
}

/// Where rules of a test file come from.
#[derive(Debug, Clone, PartialEq)]
pub enum Source {
    /// A path from the test file, whose last step may hold `*`.
    Path(String),
    /// A rule in place.
    Rule(Value),
}

#[derive(Debug, Clone, PartialEq)]
pub struct Case {
    pub name: String,
    pub given: Given,
    pub expect: Vec<Expected>,
}

/// What a case begins with.
#[derive(Debug, Clone, PartialEq)]
pub enum Given {
    /// A lead event, as JSON.
    Event(Vec<u8>),
    Record(Record),
}

/// What comes to an inlet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    pub inlet: String,
    /// The URL's path beyond the inlet's name.
    pub route: String,
    pub body: Vec<u8>,
    pub form: Form,
}

/// The form of what comes to an inlet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Form {
    /// JSON, whatever else the inlet decodes.
    Json,
    /// As its type says; without one the inlet's first form.
    Type(Option<String>),
}

/// A match that is expected, with what is written of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    pub rule: String,
    pub fields: Map<String, Value>,
}

/// A match that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    pub rule: String,
    /// What is sent: the action's own fields, and the request's body.
    pub sends: Map<String, Value>,
}

/// Why a case fails.
#[derive(Debug, Clone, PartialEq)]
pub enum Difference {
    /// No event comes of what the case begins with.
    Refused(String),
    /// There is no such rule.
    NoRule(Expected),
    /// A rule does not match, as these conditions don't hold.
    Missing(Expected, Vec<Failed>),
    /// A rule matches that isn't expected.
    Unexpected(Found),
    /// A match has a field otherwise.
    Field {
        rule: String,
        field: String,
        expected: Value,
        found: Value,
    },
}

/// Reads a test file.
pub fn read(text: &str) -> Result<TestFile, Error> {
    read::read(text)
}

/// Whether a text is a test file rather than rules.
pub fn is_test_file(text: &str) -> bool {
    read::is_test_file(text)
}

/// Runs a case: what differs from what it expects, if anything. Inlets are looked for in the file and then in the
/// configuration.
pub fn run(config: &Config, file: &TestFile, rules: &[Rule], case: &Case) -> Vec<Difference> {
    let events = match events(config, file, &case.given) {
        Ok(events) => events,
        Err(error) => return vec![Difference::Refused(error.to_string())],
    };
    let schemas = Schemas::new();
    let (mut found, mut decoded) = (Vec::new(), Vec::new());
    for bytes in &events {
        match explain::event(bytes, &schemas) {
            Ok(event) => decoded.push(event),
            Err(error) => return vec![Difference::Refused(error.to_string())],
        }
    }
    for event in &decoded {
        let matching = rules.iter().filter(|rule| rule.explain(event).is_empty());
        found.extend(matching.map(|rule| Found {
            rule: rule.id.to_string(),
            sends: sends(config, event, rule),
        }));
    }
    let missing = |expected: Expected| {
        let Some(rule) = rules.iter().find(|rule| *rule.id == *expected.rule) else {
            return Difference::NoRule(expected);
        };
        // Of several events the nearest says the most.
        let failed = decoded.iter().map(|event| rule.explain(event));
        let nearest = failed.filter(|failed| !failed.is_empty()).min_by_key(Vec::len);
        Difference::Missing(expected, nearest.unwrap_or_default())
    };
    compare(&case.expect, found, missing)
}

/// The events that a case begins with, as JSON.
pub(crate) fn events(config: &Config, file: &TestFile, given: &Given) -> Result<Vec<Vec<u8>>, Error> {
    let record = match given {
        Given::Event(event) => return Ok(vec![event.clone()]),
        Given::Record(record) => record,
    };
    let own = file.inlets.iter().find(|inlet| inlet.name == record.inlet);
    let inlet = match own {
        Some(inlet) => inlet,
        None => config.inlet(&record.inlet).map_err(Error::invalid)?,
    };
    let now = Timestamp::from_millisecond(NOW).unwrap_or_default();
    let taken = match &record.form {
        Form::Json => inlet.take_json(&record.body, &record.route, now),
        Form::Type(content_type) => {
            let received = Received {
                body: &record.body,
                content_type: content_type.as_deref(),
                route: &record.route,
            };
            inlet.take_body(&received, None, now)
        }
    };
    match taken.refused {
        Some((reason, detail)) => Err(Error::invalid(format!("{}: {detail}", reason.as_str()))),
        None => Ok(taken.events.into_iter().map(|event| event.json).collect()),
    }
}

/// What a match comes to. Of a shadow rule it is what would be sent.
fn sends(config: &Config, event: &LeadEvent<'_>, rule: &Rule) -> Map<String, Value> {
    let active = Versioned {
        rule: Rule {
            status: Status::Active,
            ..rule.clone()
        },
        version: 0,
    };
    let (would, more) = match explain::would(config, event, &active, NOW) {
        Would::Send { refused: Some(why), .. } => ("dead", json!({"detail": why})),
        Would::Send { job, refused: None } => {
            let body: Value = serde_json::from_str(&job.body).unwrap_or_default();
            let (_, credential) = job.credential.split_once(':').unwrap_or_default();
            let to = match job.action.lane() {
                LaneOf::Destination => job.destination.as_str(),
                LaneOf::Credential => credential,
            };
            let mut fields = json!({"to": to, "lane": job.lane()});
            for (field, name) in BODY {
                if let (true, Some(value)) = (fields.get(field).is_none(), body.get(name)) {
                    fields[field] = value.clone();
                }
            }
            fields["body"] = body;
            ("send", fields)
        }
        Would::Settle(outcome) => (outcome.result.as_str(), json!({"detail": outcome.words})),
        Would::Die { detail } => ("dead", json!({"detail": detail})),
    };
    let would = match (rule.status, would) {
        (Status::Shadow, "send") => "shadowed",
        (_, would) => would,
    };
    let mut fields = Map::from_iter([("would".to_owned(), would.into())]);
    if let Value::Object(more) = more {
        fields.extend(more);
    }
    fields
}

/// The fields of an expected match, in the words of rules, and where a request's body has them.
const BODY: &[(&str, &str)] = &[
    ("text", "text"),
    ("channel", "channel"),
    ("username", "username"),
    ("icon_url", "icon_url"),
    ("identity", "identity"),
    ("object_id", "objectId"),
    ("event_name", "evtName"),
    ("created_at", "ts"),
    ("properties", "evtData"),
    ("properties", "profileData"),
];

fn compare(expected: &[Expected], mut found: Vec<Found>, missing: impl Fn(Expected) -> Difference) -> Vec<Difference> {
    let mut open = Vec::new();
    // A rule may match more than once. First each expectation takes what is as it says.
    for expected in expected {
        let same = |found: &Found| found.rule == expected.rule && expected.differences(found).is_empty();
        match found.iter().position(same) {
            Some(at) => drop(found.remove(at)),
            None => open.push(expected),
        }
    }
    let mut differences = Vec::new();
    for expected in open {
        match found.iter().position(|found| found.rule == expected.rule) {
            Some(at) => differences.extend(expected.differences(&found.remove(at))),
            None => differences.push(missing(expected.clone())),
        }
    }
    differences.extend(found.into_iter().map(Difference::Unexpected));
    differences
}

impl Expected {
    /// What is written and found otherwise.
    fn differences(&self, found: &Found) -> Vec<Difference> {
        let fields = self.fields.iter();
        fields
            .filter_map(|(field, expected)| {
                let value = found.sends.get(field).unwrap_or(&Value::Null);
                let holds = match field.as_str() {
                    "body" => is_same(expected, value),
                    _ => holds(expected, value),
                };
                (!holds).then(|| Difference::Field {
                    rule: self.rule.clone(),
                    field: field.clone(),
                    expected: expected.clone(),
                    found: value.clone(),
                })
            })
            .collect()
    }
}

/// Whether a value is as it is written: of an object what is written counts, and null says that there is none. An id
/// that isn't quoted is the same as its text.
fn holds(expected: &Value, found: &Value) -> bool {
    match (expected, found) {
        (Value::Object(members), Value::Object(values)) => members
            .iter()
            .all(|(name, member)| holds_within(member, values.get(name).unwrap_or(&Value::Null))),
        (Value::Number(number), Value::String(text)) => number.as_str() == text,
        _ => is_same(expected, found),
    }
}

fn holds_within(expected: &Value, found: &Value) -> bool {
    match (expected, found) {
        (Value::Object(_), Value::Object(_)) => holds(expected, found),
        _ => is_same(expected, found),
    }
}

/// Whether two values are the same; numbers by what they stand for.
fn is_same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => {
            let decimal = |text: &str| text.parse::<Decimal>().ok();
            one == other || decimal(one.as_str()).is_some_and(|one| decimal(other.as_str()) == Some(one))
        }
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| is_same(one, other))
        }
        (Value::Object(one), Value::Object(other)) => {
            let same = |(name, value): (&String, &Value)| other.get(name).is_some_and(|other| is_same(value, other));
            one.len() == other.len() && one.iter().all(same)
        }
        _ => one == other,
    }
}

#[cfg(test)]
mod tests;
