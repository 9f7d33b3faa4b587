//! Inlets: what other systems send becomes lead events, by one mapping language.
//!
//! `decode` turns bytes into records, `read` an entry of the configuration (over its preset, a file
//! of `config/inlets`) into an [`Inlet`], and [`Inlet::map`] a record into events. Records stand
//! alone: one that can't be mapped says at which step, and leaves the others be. What it says never
//! quotes a value.

use jiff::Timestamp;
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::dates::Form;
use crate::lead::{self, Lookup};
use crate::path::Path;
use crate::rules::SecretName;
use crate::rules::condition::Condition;

mod canonical;
mod change_event;
mod decode;
mod fields;
mod outbound;
pub mod preset;
mod read;
mod take;

use canonical::canonical;
pub use decode::{Batch, Received, Rows};
use fields::{EventFields, EventId, PayloadFields};
pub(crate) use outbound::ACKNOWLEDGEMENT;
pub use preset::Preset;
pub use take::Taken;

/// So many bytes the events of one record may have together. Each holds the whole record, so that a list of
/// many elements would else become more than memory holds.
const EVENTS_BYTES_MAX: usize = 64 << 20;

/// The namespace of the ids that are made of what was received.
const NAMESPACE: Uuid = Uuid::from_u128(0x6f0c_5ba2_31cf_5b5e_9d0a_5c1d_9f1e_7a40);

/// A named way in.
#[derive(Debug, Clone)]
pub struct Inlet {
    pub name: String,
    /// What the inlet brings besides its mapping.
    pub preset: Option<Preset>,
    pub source: Source,
    mapping: Mapping,
    /// The entry as it was written, for people to see.
    entry: Value,
}

/// Where records come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// `POST /inlets/NAME`; any of the keys opens it.
    Http {
        keys: Vec<Key>,
        /// The Slack token that users are looked up with.
        users: Option<SecretName>,
    },
    /// A topic that others write.
    Topic { topic: String },
}

/// What a request shows that it may come in: a name in the secret store, and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    pub place: Place,
    pub secret: SecretName,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Slack's signature over the body.
    Signature,
    /// `Authorization: Bearer SECRET`.
    Bearer,
    /// The user or the password of basic authentication.
    Basic,
    /// The last step of the URL's path.
    Path,
}

/// What is made of a record, step by step.
#[derive(Debug, Clone)]
struct Mapping {
    /// The forms a body may have; the Content-Type chooses, else the first.
    decode: Vec<Format>,
    /// The list of a batch's records.
    split: Option<Path>,
    /// Where the record proper stands; the first that leads somewhere counts. Empty: as it is.
    unwrap: Vec<Unwrap>,
    /// What the header of Salesforce's change events says of the fields is done to them.
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
}

impl Event {
    /// About how many bytes it has as a Kafka record, with its headers and framing.
    pub fn record_size(&self) -> usize {
        self.json.len() + self.lead_id.len() + self.event_id.len() + 1024
    }
}

/// What became of a record.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mapped {
    /// None where the record is left out.
    pub events: Vec<Event>,
    /// Why the record, or an element of it, can't be mapped, with the step; it is a dead letter then.
    pub refused: Option<String>,
}

/// What a mapping's paths are followed on: the record, the element it is exploded by, and what came
/// around it.
struct Scope<'a> {
    record: &'a Value,
    item: Option<&'a Value>,
    around: &'a Map<String, Value>,
}

impl Lookup for Scope<'_> {
    fn lookup(&self, path: &Path) -> Option<lead::Value<'_>> {
        lead::Value::of_json(self.follow(path)?)
    }
}

impl Scope<'_> {
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

    /// Whether bodies of this form may come.
    pub fn takes(&self, format: Format) -> bool {
        self.mapping.decode.contains(&format)
    }

    /// What becomes of one record of `batch`, received at `now`.
    pub fn map(&self, record: &Value, batch: &Batch, now: Timestamp) -> Mapped {
        self.mapped(record, batch, now).unwrap_or_else(|refused| Mapped {
            events: Vec::new(),
            refused: Some(refused),
        })
    }

    fn mapped(&self, record: &Value, batch: &Batch, now: Timestamp) -> Result<Mapped, String> {
        let mapping = &self.mapping;
        let record = mapping.tidied(mapping.unwrapped(record)?)?;
        let scope = Scope {
            record: &record,
            item: None,
            around: &batch.around,
        };
        let holds = |scope: &Scope<'_>, all: &[Condition]| all.iter().all(|condition| condition.holds(scope));
        if !holds(&scope, &mapping.when) || mapping.unless.iter().any(|all| holds(&scope, all)) {
            return Ok(Mapped::default());
        }
        // What doesn't depend on an element is refused before there is a list, which may be none, or empty.
        let of_item =
            |when: &[Condition]| mapping.explode.is_some() && when.iter().any(|one| one.path.root() == "item");
        let refusal = |scope: &Scope<'_>, item: bool| {
            let mut refuse = mapping.refuse.iter();
            let found = refuse.find(|(when, _)| of_item(when) == item && holds(scope, when));
            found.map(|(_, because)| format!("refuse: {because}"))
        };
        if let Some(why) = refusal(&scope, false) {
            return Err(why);
        }
        let items: Vec<Option<&Value>> = match &mapping.explode {
            None => vec![None],
            Some(path) => match scope.follow(path) {
                Some(Value::Array(items)) => items.iter().map(Some).collect(),
                _ => return Err(format!("explode: {path} is no list")),
            },
        };
        let mut mapped = Mapped::default();
        let mut bytes = 0;
        for item in items {
            let scope = Scope { item, ..scope };
            let event = match refusal(&scope, true) {
                Some(why) => Err(why),
                None => self.event(&scope, now),
            };
            match event {
                Ok(event) => {
                    bytes += event.json.len();
                    if bytes > EVENTS_BYTES_MAX {
                        return Err(format!(
                            "explode: the events have more than {EVENTS_BYTES_MAX} bytes together"
                        ));
                    }
                    mapped.events.push(event);
                }
                Err(why) => {
                    mapped.refused.get_or_insert(why);
                }
            }
        }
        Ok(mapped)
    }

    fn event(&self, scope: &Scope<'_>, now: Timestamp) -> Result<Event, String> {
        let fields = &self.mapping.event;
        let event_id = match &fields.event_id {
            EventId::Text(text) => text.id("event_id", scope)?,
            EventId::Hash => self.hash(scope),
        };
        let trigger = fields.trigger.render(scope)?;
        let occurred_at = match &fields.occurred_at {
            Some(time) => time.render(scope, now)?,
            None => now,
        };
        let lead_id = fields.lead_id.render(scope)?;
        let mut event = Map::new();
        event.insert("event_id".to_owned(), event_id.as_str().into());
        event.insert("trigger".to_owned(), trigger.into());
        event.insert("occurred_at".to_owned(), occurred_at.to_string().into());
        event.insert("lead_id".to_owned(), lead_id.as_str().into());
        for (name, shape) in &fields.others {
            if let Some(value) = shape.render(&format!("event.{name}"), scope)? {
                event.insert(name.clone(), value);
            }
        }
        event.insert("inlet".to_owned(), self.name.as_str().into());
        event.insert("payload".to_owned(), self.mapping.payload.of(scope)?);
        let json = Value::Object(event).to_string().into_bytes();
        // What is written is read by everyone; it is refused here rather than there.
        match lead::decode::decode_json(&json) {
            Ok(_) => Ok(Event {
                event_id,
                lead_id,
                json,
            }),
            Err(error) => Err(format!("event: {}", error.detail())),
        }
    }

    /// An id for what has none: the same record at the same inlet is the same event.
    fn hash(&self, scope: &Scope<'_>) -> String {
        let mut text = format!("{}\n", self.name);
        canonical(scope.record, &mut text);
        if let Some(item) = scope.item {
            text.push('\n');
            canonical(item, &mut text);
        }
        Uuid::new_v5(&NAMESPACE, text.as_bytes()).to_string()
    }
}

impl Mapping {
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

    /// The record as an object, without empty cells and with its dates read.
    fn tidied(&self, record: &Value) -> Result<Value, String> {
        let Some(members) = record.as_object() else {
            return Err("unwrap: the record is no object".to_owned());
        };
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
        Ok(Value::Object(members))
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
