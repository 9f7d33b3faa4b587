//! The mapping of an inlet: records of other systems become lead events, by one small language.
//!
//! `read` turns an entry of the configuration into an [`Inlet`], over its preset (a file of `config/inlets`).
//! [`Inlet::decode`] turns bytes into records, one by one, and [`Inlet::map`] turns a record into events. Records
//! stand alone: one that can't be mapped names the step that failed, and the others go on. The message never quotes a
//! value. All that one request makes is under one [`Budget`].
//!
//! The loops that take records in, over HTTP and from topics, are in [`crate::inlets`].

use std::borrow::Cow;

use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::credential::SecretName;
use crate::dates::Form;
use crate::lead::{self, Lookup};
use crate::path::Path;
use crate::reason::Reason;
use crate::rules::condition::Condition;

mod budget;
mod canonical;
mod change_event;
mod customer_io;
mod decode;
mod elements;
mod fields;
mod form;
mod outbound;
pub mod preset;
mod read;
pub mod route;
mod rows;
mod take;

pub use budget::Budget;
use canonical::Hash;
use decode::spent;
pub use decode::{Batch, BatchRecord, Received, Refused};
pub use elements::Elements;
use fields::{EventFields, EventId, LeadId, PayloadFields};
pub(crate) use outbound::ACKNOWLEDGEMENT;
pub use preset::Preset;
pub use rows::Rows;
pub use take::Taken;

/// So many bytes an event takes beside its text, on its way to Kafka.
const EVENT_BYTES: usize = 768;
/// So many steps an event takes beside its text.
const EVENT_STEPS: usize = 256;

/// A named way in.
#[derive(Debug, Clone)]
pub struct Inlet {
    pub name: String,
    /// The known system that it takes in, whose mapping it builds on.
    pub preset: Option<Preset>,
    pub entrance: Entrance,
    mapping: Mapping,
    /// The entry as it was written, for people to see.
    entry: Value,
}

/// Where records come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entrance {
    /// `POST /inlets/NAME`; any of the keys opens it.
    Http {
        keys: Vec<Key>,
        /// The Slack token that users are looked up with.
        users: Option<SecretName>,
        /// The origins of pages that may send to it, such as `https://shop.example`; `*` is any.
        origins: Vec<String>,
    },
    /// A topic that others write.
    Topic { topic: String },
}

/// The secret that a request shows in order to come in: its name in the secret store, and its place in the request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    pub place: KeyPlace,
    pub secret: SecretName,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyPlace {
    /// Slack's signature over the body.
    Signature,
    /// `Authorization: Bearer SECRET`.
    Bearer,
    /// The user or the password of basic authentication.
    Basic,
    /// The last step of the URL's path.
    Path,
    /// As for basic authentication; where a request has none, the member `writeKey` of its body.
    WriteKey,
}

/// The steps that make events of a record.
#[derive(Debug, Clone)]
struct Mapping {
    /// The forms a body may have; the Content-Type chooses, else the first.
    decode: Vec<Format>,
    /// The separator of a row's cells; found in the titles where none is given.
    separator: Option<u8>,
    /// The list of a batch's records.
    split: Option<Path>,
    /// Where the record proper stands; the first that leads somewhere counts. Empty: as it is.
    unwrap: Vec<Unwrap>,
    /// Whether the header of Salesforce's change events settles the fields.
    change_event: bool,
    /// Empty cells are left out.
    drop_empty: bool,
    /// Columns that hold dates, and their form.
    dates: Vec<(String, Form)>,
    /// All must hold, else the record is left out.
    when: Vec<Condition>,
    /// Where all of one list hold, the record is left out.
    unless: Vec<Vec<Condition>>,
    /// Records that can't be mapped, and why.
    refuse: Vec<(Vec<Condition>, String)>,
    /// One event for each element.
    explode: Option<Path>,
    event: EventFields,
    payload: PayloadFields,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Json,
    Form,
    Csv,
    Avro,
    /// Salesforce's Outbound Message.
    OutboundMessage,
}

#[derive(Debug, Clone, PartialEq)]
enum Unwrap {
    Whole,
    Path(Path),
}

/// A lead event made of a record, as JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    pub event_id: String,
    pub lead_id: String,
    pub json: Vec<u8>,
    /// Which record of its batch it is of, from 0.
    pub record: usize,
}

impl Event {
    /// About how many bytes it has as a Kafka record, with its headers and framing.
    pub fn record_size(&self) -> usize {
        self.json.len() + self.lead_id.len() + self.event_id.len() + 1024
    }
}

/// The result of one record.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mapped {
    /// None where the record is left out.
    pub events: Vec<Event>,
    /// Why the record, or an element of it, can't be mapped, with the step; it is a dead letter then.
    pub refused: Option<Refused>,
}

/// What a mapping reads: the record, the element of it that becomes an event, and the values around the record.
struct MappingInput<'a> {
    record: &'a Value,
    item: Option<&'a Value>,
    around: &'a Map<String, Value>,
}

impl Lookup for MappingInput<'_> {
    fn lookup(&self, path: &Path) -> Option<lead::Value<'_>> {
        lead::Value::of_json(self.follow(path)?)
    }
}

impl MappingInput<'_> {
    fn follow(&self, path: &Path) -> Option<&Value> {
        let (root, rest) = (path.root(), &path.steps()[1..]);
        match self.item {
            Some(item) if root == "item" => crate::path::follow(rest, item),
            _ => match path.follow(self.record) {
                None => crate::path::follow(rest, self.around.get(root)?),
                found => found,
            },
        }
    }
}

impl Inlet {
    /// The entry as it was written.
    pub fn entry(&self) -> &Value {
        &self.entry
    }

    /// The separator of a row's cells, where the entry names it.
    pub fn separator(&self) -> Option<u8> {
        self.mapping.separator
    }

    /// Whether bodies of this form may come.
    pub fn takes(&self, format: Format) -> bool {
        self.mapping.decode.contains(&format)
    }

    /// Maps one record of a batch, received at `now`. `around` holds the values that paths find beside it.
    pub fn map(
        &self,
        record: &BatchRecord<'_>,
        around: &Map<String, Value>,
        now: Timestamp,
        budget: &mut Budget,
    ) -> Mapped {
        self.mapped(record, around, now, budget)
            .unwrap_or_else(|refused| Mapped {
                events: Vec::new(),
                refused: Some(refused),
            })
    }

    fn mapped(
        &self,
        record: &BatchRecord<'_>,
        around: &Map<String, Value>,
        now: Timestamp,
        budget: &mut Budget,
    ) -> Result<Mapped, Refused> {
        let mapping = &self.mapping;
        let (index, size, lost) = (record.index, record.size, record.lost());
        let record = record.value.as_ref().map_err(Clone::clone)?;
        if mapping.copies() {
            budget.spend(size).map_err(spent)?;
        }
        let record = mapping.unwrapped(record).and_then(|record| mapping.tidied(record));
        let record = record.map_err(invalid)?;
        let input = MappingInput {
            record: &record,
            item: None,
            around,
        };
        if !holds(&input, &mapping.when) || mapping.unless.iter().any(|all| holds(&input, all)) {
            return Ok(Mapped::default());
        }
        // Conditions that don't ask for an element are checked before the list, which may be missing or empty.
        if let Some(why) = mapping.refusal(&input, false) {
            return Err(invalid(why));
        }
        let items = match &mapping.explode {
            None => Items::None(std::iter::once(())),
            Some(path) => match input.follow(path) {
                Some(Value::Array(items)) => Items::Of(items.iter()),
                _ => return Err(invalid(format!("explode: {path} is no list"))),
            },
        };
        let hash = matches!(mapping.event.event_id, EventId::Hash).then(|| Hash::of(&self.name, &record, lost));
        let column = match &mapping.event.lead_id {
            LeadId::Column(_) => Some(mapping.event.lead_id.render(&input).map_err(invalid)),
            LeadId::Text(_) => None,
        };
        let whole = Whole { hash, column };
        // The event of each element may hold the whole record.
        let steps = EVENT_STEPS + mapping.explode.as_ref().map_or(0, |_| size);
        let mut mapped = Mapped::default();
        let mut kept = 0;
        for item in items {
            let input = MappingInput { item, ..input };
            // Each element costs at least this, even where it is refused.
            let event = budget.spend(steps).map_err(spent).and_then(|()| {
                let refusal = mapping.refusal(&input, true).map(invalid);
                refusal.map_or_else(|| self.event(&input, &whole, now, budget), Err)
            });
            match event {
                Ok(event) => {
                    let bytes = event.json.len() + event.event_id.len() + event.lead_id.len() + EVENT_BYTES;
                    if let Err(error) = budget.keep(bytes) {
                        budget.release(kept);
                        return Err(spent(error));
                    }
                    kept += bytes;
                    mapped.events.push(Event { record: index, ..event });
                }
                // The elements behind it would cost as much.
                Err(refused) if refused.0 == Reason::TooLarge => {
                    budget.release(kept);
                    return Err(refused);
                }
                Err(refused) => {
                    mapped.refused.get_or_insert(refused);
                }
            }
        }
        Ok(mapped)
    }

    fn event(
        &self,
        input: &MappingInput<'_>,
        whole: &Whole,
        now: Timestamp,
        budget: &mut Budget,
    ) -> Result<Event, Refused> {
        let fields = &self.mapping.event;
        let event_id = match (&fields.event_id, &whole.hash) {
            (EventId::Text(text), _) => text.id("event_id", input).map_err(invalid)?,
            (EventId::Hash, Some(hash)) => hash.id(input.item),
            (EventId::Hash, None) => Hash::of(&self.name, input.record, None).id(input.item),
        };
        let trigger = fields.trigger.render(input).map_err(invalid)?;
        let occurred_at = match &fields.occurred_at {
            Some(time) => time.render(input, now).map_err(invalid)?,
            None => now,
        };
        let lead_id = match &whole.column {
            Some(column) => column.clone()?,
            None => fields.lead_id.render(input).map_err(invalid)?,
        };
        let mut event = Map::new();
        event.insert("event_id".to_owned(), event_id.as_str().into());
        event.insert("trigger".to_owned(), trigger.into());
        event.insert("occurred_at".to_owned(), occurred_at.to_string().into());
        event.insert("lead_id".to_owned(), lead_id.as_str().into());
        for (name, shape) in &fields.others {
            if let Some(value) = shape.render(&format!("event.{name}"), input).map_err(invalid)? {
                event.insert(name.clone(), value);
            }
        }
        event.insert("inlet".to_owned(), self.name.as_str().into());
        let mut json = Value::Object(event).to_string().into_bytes();
        budget.spend(json.len()).map_err(spent)?;
        // Everyone reads the event, so a wrong one is refused here. The payload is an object, and always readable.
        if let Err(error) = lead::decode::decode_json(&json) {
            return Err(invalid(format!("event: {}", error.detail())));
        }
        let payload = self.mapping.payload.of(input).map_err(invalid)?;
        json.pop();
        json.extend_from_slice(b",\"payload\":");
        payload.write(&mut json);
        json.push(b'}');
        json.shrink_to_fit();
        Ok(Event {
            event_id,
            lead_id,
            json,
            record: 0,
        })
    }
}

fn invalid(why: String) -> Refused {
    (Reason::InvalidEvent, why)
}

fn holds(input: &MappingInput<'_>, all: &[Condition]) -> bool {
    all.iter().all(|condition| condition.holds(input))
}

/// The parts of an event that come from the whole record, whichever element the event is of.
struct Whole {
    hash: Option<Hash>,
    /// The lead, where a column says it.
    column: Option<Result<String, Refused>>,
}

/// The elements of a record that become events: once none, or each of a list.
enum Items<'r> {
    None(std::iter::Once<()>),
    Of(std::slice::Iter<'r, Value>),
}

impl<'r> Iterator for Items<'r> {
    type Item = Option<&'r Value>;

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Items::None(once) => once.next().map(|()| None),
            Items::Of(items) => items.next().map(Some),
        }
    }
}

impl Mapping {
    /// Why the record can't be mapped; `item` asks for what depends on the element.
    fn refusal(&self, input: &MappingInput<'_>, item: bool) -> Option<String> {
        let of_item = |when: &[Condition]| self.explode.is_some() && when.iter().any(|one| one.path.root() == "item");
        let mut refuse = self.refuse.iter();
        let found = refuse.find(|(when, _)| of_item(when) == item && holds(input, when));
        found.map(|(_, because)| format!("refuse: {because}"))
    }

    fn unwrapped<'r>(&self, record: &'r Value) -> Result<&'r Value, String> {
        if self.unwrap.is_empty() {
            return Ok(record);
        }
        let mut found = self.unwrap.iter().filter_map(|unwrap| match unwrap {
            Unwrap::Whole => Some(record),
            Unwrap::Path(path) => path.follow(record).filter(|found| found.is_object()),
        });
        found.next().ok_or_else(|| {
            let paths = self.unwrap.iter().map(Unwrap::as_str).collect::<Vec<_>>();
            format!("unwrap: no object stands at {}", paths.join(" or "))
        })
    }

    /// Whether something is done to the record, for which it is copied.
    fn copies(&self) -> bool {
        self.drop_empty || self.change_event || !self.dates.is_empty()
    }

    /// The record as an object, without empty cells and with its dates read.
    fn tidied<'r>(&self, record: &'r Value) -> Result<Cow<'r, Value>, String> {
        let Some(members) = record.as_object() else {
            return Err("unwrap: the record is no object".to_owned());
        };
        if !self.copies() {
            return Ok(Cow::Borrowed(record));
        }
        let mut members = members.clone();
        if self.change_event {
            change_event::settle(&mut members).map_err(|why| format!("change_event: {why}"))?;
        }
        if self.drop_empty {
            members.retain(|_, value| {
                !matches!(value, Value::Null) && value.as_str().is_none_or(|text| !text.trim().is_empty())
            });
        }
        for (column, form) in &self.dates {
            let Some(value) = members.get_mut(column) else { continue };
            let written = match &*value {
                Value::String(text) => text.as_str(),
                Value::Number(number) => number.as_str(),
                Value::Null => continue,
                Value::Bool(_) | Value::Array(_) | Value::Object(_) => {
                    return Err(format!("dates: {column}: must be a text or a number"));
                }
            };
            if written.trim().is_empty() {
                continue;
            }
            let time = form.read(written).map_err(|why| format!("dates: {column}: {why}"))?;
            *value = time.to_string().into();
        }
        Ok(Cow::Owned(Value::Object(members)))
    }
}

impl Unwrap {
    fn as_str(&self) -> &str {
        match self {
            Unwrap::Whole => "$",
            Unwrap::Path(path) => path.as_str(),
        }
    }
}

#[cfg(test)]
mod tests;
