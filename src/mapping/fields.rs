//! Makes the fields of a lead event from a record, as the mapping asks.

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::MappingInput;
use crate::lead::{self, Lookup};
use crate::path::Path;
use crate::template::{OnMissing, Stop, Target, Template};

#[derive(Debug, Clone)]
pub(super) struct EventFields {
    pub(super) event_id: EventId,
    pub(super) trigger: Trigger,
    /// The time that the event is received, unless said.
    pub(super) occurred_at: Option<Time>,
    pub(super) lead_id: LeadId,
    pub(super) others: Vec<(String, Shape)>,
}

#[derive(Debug, Clone)]
pub(super) enum EventId {
    Text(First),
    /// A hash of the inlet's name and the record.
    Hash,
}

#[derive(Debug, Clone)]
pub(super) enum Trigger {
    Text(First),
    /// The trigger of the value at a path.
    Map(Path, Vec<(String, String)>),
}

#[derive(Debug, Clone)]
pub(super) enum LeadId {
    Text(First),
    /// The first of these columns that is filled, in any case.
    Column(Vec<String>),
}

#[derive(Debug, Clone)]
pub(super) struct Time {
    pub(super) time: First,
    /// When the sender's clock said it was sent; the difference to ours is made up for.
    pub(super) sent_at: Option<First>,
}

/// The first of these whose every value is there.
#[derive(Debug, Clone)]
pub(super) struct First(pub(super) Vec<Template>);

/// A further field of the event: one value, or an object of them.
#[derive(Debug, Clone)]
pub(super) enum Shape {
    One(Template),
    Members(Vec<(String, Shape)>),
}

#[derive(Debug, Clone, Default)]
pub(super) struct PayloadFields {
    /// The record itself, unless said.
    pub(super) from: Option<Path>,
    /// Members beside those.
    pub(super) with: Vec<(String, Path)>,
}

impl First {
    /// `None` where something is missing in each of them.
    pub(super) fn render(&self, field: &str, input: &MappingInput<'_>) -> Result<Option<String>, String> {
        for template in &self.0 {
            match template.render(input, Target::Plain, OnMissing::Skip) {
                Ok(text) if text.trim().is_empty() => {}
                Ok(text) => return Ok(Some(text)),
                Err(Stop::Skip { .. }) => {}
                Err(Stop::Fail { detail }) => return Err(format!("event.{field}: {detail}")),
            }
        }
        Ok(None)
    }

    /// The first that gives an id: what is missing, blank or of the wrong kind is passed over. Where none does,
    /// the error is that of the first wrong one.
    pub(super) fn id(&self, field: &str, input: &MappingInput<'_>) -> Result<String, String> {
        let mut wrong = None;
        for template in &self.0 {
            match template.render_id(input, OnMissing::Skip) {
                Ok(text) if text.trim().is_empty() => {}
                Ok(text) => return Ok(text),
                Err(Stop::Skip { .. }) => {}
                Err(Stop::Fail { detail }) => wrong = wrong.or(Some(detail)),
            }
        }
        let why = wrong.unwrap_or_else(|| {
            let asked = self.0.iter().map(Template::as_str).collect::<Vec<_>>();
            format!("{} is missing", asked.join(" or "))
        });
        Err(format!("event.{field}: {why}"))
    }
}

impl Trigger {
    pub(super) fn render(&self, input: &MappingInput<'_>) -> Result<String, String> {
        match self {
            Trigger::Text(text) => text.id("trigger", input),
            Trigger::Map(path, map) => {
                let value = input.lookup(path).map(|value| value.to_text().into_owned());
                let found = map.iter().find(|(from, _)| Some(from) == value.as_ref());
                let to = found.map(|(_, to)| to.clone());
                to.ok_or_else(|| format!("event.trigger: what stands at {path} has no trigger"))
            }
        }
    }
}

impl LeadId {
    pub(super) fn render(&self, input: &MappingInput<'_>) -> Result<String, String> {
        let columns = match self {
            LeadId::Text(text) => return text.id("lead_id", input),
            LeadId::Column(columns) => columns,
        };
        let mut wrong = None;
        for column in columns {
            let members = input.record.as_object().into_iter().flatten();
            let named = members.filter(|(name, _)| name.trim().eq_ignore_ascii_case(column));
            for value in named.filter_map(|(_, value)| lead::Value::of_json(value)) {
                match value.to_id() {
                    Ok(id) if id.trim().is_empty() => {}
                    Ok(id) => return Ok(id.trim().to_owned()),
                    Err(why) => wrong = wrong.or(Some(format!("the column {column} {why}"))),
                }
            }
        }
        let why = wrong.unwrap_or_else(|| format!("no column {} is filled", columns.join(", ")));
        Err(format!("event.lead_id: {why}"))
    }
}

impl Time {
    /// The time by the sender's clock, put right by when that clock said it was sent.
    pub(super) fn render(&self, input: &MappingInput<'_>, now: Timestamp) -> Result<Timestamp, String> {
        let Some(text) = self.time.render("occurred_at", input)? else {
            return Ok(now);
        };
        let time = crate::dates::parse(&text).map_err(|error| format!("event.occurred_at: {error}"))?;
        let sent_at = match &self.sent_at {
            Some(sent_at) => sent_at.render("occurred_at", input)?,
            None => None,
        };
        let Some(sent_at) = sent_at else { return Ok(time) };
        let wrong = |why: &dyn std::fmt::Display| format!("event.occurred_at: sent_at: {why}");
        let sent_at = crate::dates::parse(&sent_at).map_err(|error| wrong(&error))?;
        now.checked_sub(sent_at.duration_since(time))
            .map_err(|_| wrong(&"is too far from the time to put it right"))
    }
}

impl Shape {
    pub(super) fn render(&self, field: &str, input: &MappingInput<'_>) -> Result<Option<Value>, String> {
        match self {
            Shape::One(template) => template
                .render_json(input, Target::Plain, OnMissing::Empty)
                .map_err(|stop| format!("{field}: {stop}")),
            Shape::Members(members) => {
                let mut object = Map::new();
                for (name, shape) in members {
                    if let Some(value) = shape.render(&format!("{field}.{name}"), input)? {
                        object.insert(name.clone(), value);
                    }
                }
                Ok(Some(Value::Object(object)))
            }
        }
    }
}

/// What an event carries of its record, as it stands there.
#[derive(Debug)]
pub(super) struct Payload<'r> {
    members: &'r Map<String, Value>,
    /// Members in place of those, or beside them.
    with: Vec<(&'r str, &'r Value)>,
}

impl PayloadFields {
    pub(super) fn of<'r>(&'r self, input: &'r MappingInput<'_>) -> Result<Payload<'r>, String> {
        let from = match &self.from {
            None => Some(input.record),
            Some(path) => input.follow(path),
        };
        let Some(members) = from.and_then(Value::as_object) else {
            let path = self.from.as_ref().map_or("$", Path::as_str);
            return Err(format!("payload: {path} is no object"));
        };
        let with = self
            .with
            .iter()
            .filter_map(|(name, path)| Some((name.as_str(), input.follow(path)?)));
        let item = input.item.map(|item| ("item", item));
        Ok(Payload {
            members,
            with: with.chain(item).collect(),
        })
    }
}

impl Payload<'_> {
    /// Writes it as JSON.
    pub(super) fn write(&self, json: &mut Vec<u8>) {
        let last = |name: &str| {
            self.with
                .iter()
                .rev()
                .find(|(other, _)| *other == name)
                .map(|(_, value)| *value)
        };
        let own = self
            .members
            .iter()
            .map(|(name, value)| (name.as_str(), last(name).unwrap_or(value)));
        let further = self.with.iter().enumerate().filter(|(at, (name, _))| {
            let is_first = !self.with[..*at].iter().any(|(other, _)| other == name);
            is_first && !self.members.contains_key(*name)
        });
        let further = further.map(|(_, (name, _))| (*name, last(name).unwrap_or(&Value::Null)));
        json.push(b'{');
        for (at, (name, value)) in own.chain(further).enumerate() {
            if at > 0 {
                json.push(b',');
            }
            // Writing to memory doesn't fail.
            let written = serde_json::to_writer(&mut *json, name);
            json.push(b':');
            let written = written.and_then(|()| serde_json::to_writer(&mut *json, value));
            debug_assert!(written.is_ok(), "JSON that can't be written");
        }
        json.push(b'}');
    }
}
