//! Reads one entry of `inlets` in the configuration. Where the entry names a preset, its keys lie over the preset's.

use serde_json::{Map, Value};

use super::fields::{EventFields, EventId, First, LeadId, PayloadFields, Shape, Time, Trigger};
use super::preset::{NAMES, Preset};
use super::route::is_origin;
use super::{Entrance, Format, Inlet, Key, KeyPlace, Mapping, Unwrap};
use crate::credential::SecretName;
use crate::dates::Form;
use crate::lead;
use crate::path::Path;
use crate::reader::{Object, Problem, Reader, member};
use crate::yaml;

/// What an entry may hold beside its mapping.
const ENTRY_FIELDS: &[&str] = &["name", "preset", "kind", "topic", "secrets", "users", "origins"];
const MAPPING_FIELDS: &[&str] = &[
    "decode",
    "separator",
    "split",
    "unwrap",
    "change_event",
    "drop_empty",
    "dates",
    "when",
    "unless",
    "refuse",
    "explode",
    "event",
    "payload",
];
const KINDS: &[(&str, bool)] = &[("http", false), ("topic", true)];
const FORMATS: &[(&str, Format)] = &[
    ("json", Format::Json),
    ("form", Format::Form),
    ("csv", Format::Csv),
    ("avro", Format::Avro),
    ("outbound_message", Format::OutboundMessage),
];
const SEPARATORS: &[(&str, u8)] = &[(",", b','), (";", b';'), ("tab", b'\t')];
const PLACES: &[&str] = &["secret", "bearer", "basic", "path"];

impl Inlet {
    /// Reads one entry; `field` is where it stands in the configuration.
    pub fn read(field: &str, entry: &Value) -> Result<Inlet, Vec<Problem>> {
        let mut reader = Reader::default();
        reader.open_secrets(field, entry);
        match reader.inlet(field, entry) {
            Some(inlet) if reader.is_clean() => Ok(inlet),
            _ => Err(reader.problems()),
        }
    }
}

impl Reader {
    fn inlet(&mut self, field: &str, entry: &Value) -> Option<Inlet> {
        let fields: Vec<&str> = ENTRY_FIELDS.iter().chain(MAPPING_FIELDS).copied().collect();
        let object = self.object(field, entry, &fields)?;
        self.required(&object, "name", "name the inlet; its URL is /inlets/NAME")?;
        let name = self.text(&object, "name")?;
        if !fits(name) {
            return self.refuse(object.at("name"), "needs 1 to 64 of a-z, 0-9, - and _");
        }
        let topic = match object.get("kind") {
            None => object.get("topic").is_some(),
            Some(_) => self.choice(&object, "kind", KINDS)?,
        };
        let preset = self.choice(&object, "preset", NAMES);
        if object.get("preset").is_some() && preset.is_none() {
            return None;
        }
        let entrance = self.entrance(&object, preset, topic);
        let merged = self.merged(&object, preset, topic)?;
        let mapping = self.mapping(&Object {
            field: field.to_owned(),
            members: &merged,
        });
        let (entrance, mapping) = (entrance?, mapping?);
        if mapping.decode.contains(&Format::Avro) && !topic {
            return self.refuse(object.at("decode"), "avro is read from topics only");
        }
        Some(Inlet {
            name: name.to_owned(),
            preset,
            entrance,
            mapping,
            entry: entry.clone(),
        })
    }

    /// The entry's mapping over its preset's; its `event` is merged member by member.
    fn merged(&mut self, entry: &Object<'_>, preset: Option<Preset>, topic: bool) -> Option<Map<String, Value>> {
        let mut merged = match preset.map(|preset| (preset, preset.file(topic))) {
            None => Map::new(),
            Some((preset, None)) => {
                let (is, not) = if topic { ("http", "topic") } else { ("topic", "http") };
                let message = format!("the preset {} is of kind {is}, not {not}", preset.as_str());
                return self.refuse(entry.at("kind"), message);
            }
            Some((_, Some(text))) => file(text),
        };
        for name in MAPPING_FIELDS {
            let Some(value) = entry.get(name) else { continue };
            match (merged.get_mut(*name), value) {
                (Some(Value::Object(event)), Value::Object(members)) if *name == "event" => {
                    event.extend(members.clone());
                }
                _ => {
                    merged.insert((*name).to_owned(), value.clone());
                }
            }
        }
        Some(merged)
    }

    fn entrance(&mut self, entry: &Object<'_>, preset: Option<Preset>, topic: bool) -> Option<Entrance> {
        if topic {
            for name in ["secrets", "users", "origins"] {
                if entry.get(name).is_some() {
                    self.refuse::<()>(entry.at(name), "is for inlets of kind http");
                }
            }
            self.required(entry, "topic", "name the topic that is read")?;
            let topic = self.text(entry, "topic")?.to_owned();
            return Some(Entrance::Topic { topic });
        }
        if entry.get("topic").is_some() {
            return self.refuse(entry.at("topic"), "is for inlets of kind topic");
        }
        let secrets = entry
            .get("secrets")
            .map(|value| self.one_or_list(&entry.at("secrets"), value, "name a secret"));
        let secrets = secrets.unwrap_or_default();
        let keys: Vec<Option<Key>> = secrets
            .iter()
            .map(|(field, value)| self.key(field, value, preset))
            .collect();
        let users = match entry.get("users") {
            None => None,
            Some(_) if preset != Some(Preset::Slack) => {
                return self.refuse(entry.at("users"), "is for inlets with the preset slack");
            }
            Some(value) => Some(self.users(&entry.at("users"), value)?),
        };
        Some(Entrance::Http {
            keys: keys.into_iter().collect::<Option<_>>()?,
            users,
            origins: self.origins(entry)?,
        })
    }

    fn origins(&mut self, entry: &Object<'_>) -> Option<Vec<String>> {
        let Some(value) = entry.get("origins") else {
            return Some(Vec::new());
        };
        let origins = self.one_or_list(&entry.at("origins"), value, "leave it out");
        let origins = origins.iter().map(|(field, value)| match value.as_str() {
            Some(origin) if is_origin(origin) => Some(origin.to_ascii_lowercase()),
            _ => self.refuse(
                field,
                "needs the origin of a page, such as https://shop.example, without a path; \"*\" is any",
            ),
        });
        origins.collect::<Vec<_>>().into_iter().collect()
    }

    fn key(&mut self, field: &str, value: &Value, preset: Option<Preset>) -> Option<Key> {
        let object = self.secret_object(field, value, PLACES)?;
        let name = self.exactly_one(&object, PLACES)?;
        let place = match name {
            "bearer" => KeyPlace::Bearer,
            "basic" => KeyPlace::Basic,
            "path" => KeyPlace::Path,
            _ => preset.map_or(KeyPlace::Bearer, Preset::place),
        };
        let value = object.get(name)?;
        let secret = match name {
            "secret" => self.secret_name(&object.at(name), value),
            _ => {
                let inner = self.secret_object(&object.at(name), value, &["secret"])?;
                self.required(&inner, "secret", "write {secret: NAME}, a name in the secret store")?;
                self.secret_name(&inner.at("secret"), inner.get("secret")?)
            }
        };
        Some(Key { place, secret: secret? })
    }

    fn users(&mut self, field: &str, value: &Value) -> Option<SecretName> {
        let users = self.object(field, value, &["token"])?;
        let token = self.required(
            &users,
            "token",
            "write {secret: NAME}, a Slack token in the secret store",
        )?;
        let token = self.secret_object(&users.at("token"), token, &["secret"])?;
        self.required(&token, "secret", "write {secret: NAME}, a name in the secret store")?;
        self.secret_name(&token.at("secret"), token.get("secret")?)
    }

    fn secret_name(&mut self, field: &str, value: &Value) -> Option<SecretName> {
        match value.as_str().and_then(SecretName::new) {
            Some(name) => Some(name),
            None => self.refuse(field, "needs a name of 1 to 64 letters, digits, _ and -"),
        }
    }

    fn mapping(&mut self, mapping: &Object<'_>) -> Option<Mapping> {
        let decode = match mapping.get("decode") {
            None => vec![Some(Format::Json)],
            Some(value) => {
                let formats = self.one_or_list(&mapping.at("decode"), value, "name a form, such as json");
                let formats = formats
                    .iter()
                    .map(|(field, value)| self.choice_of(field, value, FORMATS));
                formats.collect()
            }
        };
        let unwrap = mapping
            .get("unwrap")
            .map(|value| self.one_or_list(&mapping.at("unwrap"), value, "name a path"));
        let unwrap: Vec<Option<Unwrap>> = unwrap
            .unwrap_or_default()
            .iter()
            .map(|(field, value)| match value.as_str() {
                Some("$") => Some(Unwrap::Whole),
                _ => Some(Unwrap::Path(self.path_of(field, value)?)),
            })
            .collect();
        let separator = self.choice(mapping, "separator", SEPARATORS);
        let split = self.path(mapping, "split");
        let explode = self.path(mapping, "explode");
        let change_event = self.flag(mapping, "change_event").unwrap_or(false);
        let drop_empty = self.flag(mapping, "drop_empty").unwrap_or(false);
        let dates = self.dates(mapping);
        let when = self.all(mapping, "when");
        let unless = self.unless(mapping);
        let refuse = self.refusals(mapping);
        let event = self.event(mapping);
        let payload = self.payload(mapping);
        Some(Mapping {
            decode: decode.into_iter().collect::<Option<_>>()?,
            separator,
            split,
            unwrap: unwrap.into_iter().collect::<Option<_>>()?,
            change_event,
            drop_empty,
            dates,
            when,
            unless,
            refuse,
            explode,
            event: event?,
            payload: payload?,
        })
    }

    fn path(&mut self, object: &Object<'_>, name: &str) -> Option<Path> {
        let value = object.get(name)?;
        self.path_of(&object.at(name), value)
    }

    fn path_of(&mut self, field: &str, value: &Value) -> Option<Path> {
        match value.as_str().map(Path::parse) {
            Some(Ok(path)) => Some(path),
            Some(Err(error)) => self.refuse(field, error.to_string()),
            None => self.refuse(field, "needs a path, such as $.data"),
        }
    }

    fn all(&mut self, object: &Object<'_>, name: &str) -> Vec<crate::rules::condition::Condition> {
        let value = object.get(name);
        value
            .map(|value| self.conditions(&object.at(name), value))
            .unwrap_or_default()
    }

    fn unless(&mut self, mapping: &Object<'_>) -> Vec<Vec<crate::rules::condition::Condition>> {
        let field = mapping.at("unless");
        match mapping.get("unless") {
            None => Vec::new(),
            Some(Value::Array(lists)) => {
                let fields = (0..).map(|at| format!("{field}[{at}]"));
                let lists = lists.iter().zip(fields);
                lists.map(|(list, field)| self.conditions(&field, list)).collect()
            }
            Some(_) => {
                self.refuse::<()>(
                    field,
                    "needs a list of lists of conditions, such as [[{path: $.bot, exists: true}]]",
                );
                Vec::new()
            }
        }
    }

    fn refusals(&mut self, mapping: &Object<'_>) -> Vec<(Vec<crate::rules::condition::Condition>, String)> {
        // An empty list takes a preset's refusals away.
        let none = |value: &&Value| value.as_array().is_none_or(|list| !list.is_empty());
        let Some(value) = mapping.get("refuse").filter(none) else {
            return Vec::new();
        };
        let elements = self.one_or_list(&mapping.at("refuse"), value, "leave it out");
        let mut refusals = Vec::new();
        for (field, value) in elements {
            let Some(object) = self.object(&field, value, &["when", "because"]) else {
                continue;
            };
            self.required(&object, "because", "say why");
            let because = self.text(&object, "because").unwrap_or_default().to_owned();
            self.required(&object, "when", "write a list of conditions");
            refusals.push((self.all(&object, "when"), because));
        }
        refusals
    }

    fn texts(&mut self, object: &Object<'_>, name: &str) -> Vec<(String, String)> {
        let Some(value) = object.get(name) else {
            return Vec::new();
        };
        let Some(members) = value.as_object() else {
            self.refuse::<()>(object.at(name), "needs an object of texts");
            return Vec::new();
        };
        let inner = Object {
            field: object.at(name),
            members,
        };
        let names: Vec<&String> = members.keys().collect();
        names
            .into_iter()
            .filter_map(|name| Some((name.clone(), self.text(&inner, name)?.to_owned())))
            .collect()
    }

    fn dates(&mut self, mapping: &Object<'_>) -> Vec<(String, Form)> {
        let texts = self.texts(mapping, "dates");
        let forms = texts.into_iter().filter_map(|(column, text)| match Form::parse(&text) {
            Ok(form) => Some((column, form)),
            Err(error) => self.refuse(member(&mapping.at("dates"), &column), error.to_string()),
        });
        forms.collect()
    }

    fn event(&mut self, mapping: &Object<'_>) -> Option<EventFields> {
        let known: Vec<&str> = lead::FIELDS
            .iter()
            .copied()
            .filter(|name| !["inlet", "payload"].contains(name))
            .collect();
        let event = self.required(mapping, "event", "say at least event_id, trigger and lead_id")?;
        let event = self.object(&mapping.at("event"), event, &known)?;
        let event_id = self.required(&event, "event_id", "say what identifies an event, such as \"{{$.id}}\"");
        let event_id = event_id.and_then(|value| self.event_id(&event.at("event_id"), value));
        let trigger = self.required(&event, "trigger", "name what happened, such as survey.answered");
        let trigger = trigger.and_then(|value| self.trigger(&event.at("trigger"), value));
        let lead_id = self.required(&event, "lead_id", "say whose event it is, such as \"{{$.email}}\"");
        let lead_id = lead_id.and_then(|value| self.lead_id(&event.at("lead_id"), value));
        let occurred_at = match event.get("occurred_at") {
            None => None,
            Some(value) => Some(self.time(&event.at("occurred_at"), value)?),
        };
        let others: Vec<Option<(String, Shape)>> = event
            .members
            .iter()
            .filter(|(name, value)| {
                !value.is_null() && !["event_id", "trigger", "lead_id", "occurred_at"].contains(&name.as_str())
            })
            .map(|(name, value)| Some((name.clone(), self.shape(&event.at(name), value)?)))
            .collect();
        Some(EventFields {
            event_id: event_id?,
            trigger: trigger?,
            occurred_at,
            lead_id: lead_id?,
            others: others.into_iter().collect::<Option<_>>()?,
        })
    }

    fn event_id(&mut self, field: &str, value: &Value) -> Option<EventId> {
        match value.get("hash") {
            None => Some(EventId::Text(self.first(field, value)?)),
            Some(hash) => {
                self.choice_of(field, hash, &[("record", ())])?;
                Some(EventId::Hash)
            }
        }
    }

    fn trigger(&mut self, field: &str, value: &Value) -> Option<Trigger> {
        if value.get("map").is_none() {
            return Some(Trigger::Text(self.first(field, value)?));
        }
        let object = self.object(field, value, &["path", "map"])?;
        self.required(&object, "path", "name the path whose value chooses the trigger")?;
        let path = self.path(&object, "path");
        let map = self.texts(&object, "map");
        Some(Trigger::Map(path?, map))
    }

    fn lead_id(&mut self, field: &str, value: &Value) -> Option<LeadId> {
        let Some(columns) = value.get("column") else {
            return Some(LeadId::Text(self.first(field, value)?));
        };
        let columns = self.one_or_list(&format!("{field}.column"), columns, "name a column");
        let columns: Vec<Option<String>> = columns
            .iter()
            .map(|(field, value)| self.id(field, value).map(str::to_owned))
            .collect();
        Some(LeadId::Column(columns.into_iter().collect::<Option<_>>()?))
    }

    fn time(&mut self, field: &str, value: &Value) -> Option<Time> {
        let Some(time) = value.get("time") else {
            return Some(Time {
                time: self.first(field, value)?,
                sent_at: None,
            });
        };
        let object = self.object(field, value, &["time", "sent_at"])?;
        let time = self.first(&object.at("time"), time);
        let sent_at = match object.get("sent_at") {
            None => None,
            Some(value) => Some(self.first(&object.at("sent_at"), value)?),
        };
        Some(Time { time: time?, sent_at })
    }

    /// A template, a list of them, or `{first: [...]}`.
    fn first(&mut self, field: &str, value: &Value) -> Option<First> {
        let (field, value) = match value.get("first") {
            Some(first) => (format!("{field}.first"), first),
            None => (field.to_owned(), value),
        };
        let elements = self.one_or_list(&field, value, "write a template");
        let templates: Vec<_> = elements
            .into_iter()
            .map(|(field, value)| match value {
                Value::String(text) if !text.trim().is_empty() => self.parse_template(&field, text),
                _ => self.refuse(field, "needs a template, such as \"{{$.id}}\""),
            })
            .collect();
        Some(First(templates.into_iter().collect::<Option<_>>()?))
    }

    fn shape(&mut self, field: &str, value: &Value) -> Option<Shape> {
        match value {
            Value::String(text) => Some(Shape::One(self.parse_template(field, text)?)),
            Value::Object(members) => {
                let shapes: Vec<Option<(String, Shape)>> = members
                    .iter()
                    .map(|(name, value)| {
                        let field = member(field, name);
                        Some((name.clone(), self.shape(&field, value)?))
                    })
                    .collect();
                Some(Shape::Members(shapes.into_iter().collect::<Option<_>>()?))
            }
            Value::Number(_) | Value::Bool(_) => self.shape(field, &Value::String(value.to_string())),
            Value::Null | Value::Array(_) => self.refuse(field, "needs a template or an object of them"),
        }
    }

    fn payload(&mut self, mapping: &Object<'_>) -> Option<PayloadFields> {
        let Some(value) = mapping.get("payload") else {
            return Some(PayloadFields::default());
        };
        let object = self.object(&mapping.at("payload"), value, &["from", "with"])?;
        let from = match object.get("from") {
            None => None,
            Some(_) => Some(self.path(&object, "from")?),
        };
        let mut with = Vec::new();
        for (name, path) in self.texts(&object, "with") {
            with.push((name, self.path_of(&object.at("with"), &Value::String(path))?));
        }
        Some(PayloadFields { from, with })
    }
}

/// The names that stand in URLs and metrics.
fn fits(name: &str) -> bool {
    let known = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_');
    (1..=64).contains(&name.len()) && name.chars().all(known)
}

/// A preset's own file; the tests read each.
fn file(text: &str) -> Map<String, Value> {
    let documents = yaml::documents(text).ok();
    match documents
        .and_then(|mut documents| documents.pop())
        .map(|document| document.value)
    {
        Some(Value::Object(mapping)) => mapping,
        _ => Map::new(),
    }
}
