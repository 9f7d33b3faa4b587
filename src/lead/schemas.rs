//! The schemas of lead events and of inlets' records: those in `schemas/`, by fingerprint, and the schema registry's,
//! by id. Each is compiled once into a writer, which the Avro decoder walks.
//!
//! The caller asks the registry: decoding names the schema that it lacks, and [`Schemas::learn`] and [`Schemas::deny`]
//! take the answer. The cost of an answer is bounded, and so is the memory of all answers.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use apache_avro::Schema;
use apache_avro::rabin::Rabin;
use serde_json::Value as Json;

mod writer;

use writer::Renamed;
pub(super) use writer::{Shape, Writer, collect_named};

/// Every schema that lead events have been published with, the current one first.
const LEAD_EVENTS: [&str; 1] = [include_str!("../../schemas/lead_event.avsc")];

/// How many refused ids are remembered; a producer that makes ids up must not fill the memory.
const DENIED_MAX: usize = 4096;
/// So long an id is refused without being asked for again; its schema may be registered meanwhile.
const DENIED_FOR: Duration = Duration::from_secs(60);
/// The bytes of the registry's schemas that are kept compiled; the oldest are asked for again.
const LEARNT_MAX: usize = 32 * 1024 * 1024;
/// The current schema of `schemas/`.
pub(super) static LEAD_EVENT: LazyLock<Schema> =
    LazyLock::new(|| Schema::parse_str(LEAD_EVENTS[0]).expect("a test parses the schemas of this repository"));

/// The schema registry's name for a schema, as Confluent framing carries it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SchemaId {
    Id(u32),
    Guid([u8; 16]),
}

impl fmt::Display for SchemaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => write!(f, "{id}"),
            Self::Guid(guid) => uuid::Uuid::from_bytes(*guid).fmt(f),
        }
    }
}

/// The writer schemas known so far.
#[derive(Debug, Clone)]
pub struct Schemas {
    /// Few, so that one is found here sooner than its hash would be.
    fingerprints: BTreeMap<u64, Writer>,
    /// By id, each with the size of its text.
    learnt: Recent<(Writer, usize)>,
    learnt_size: usize,
    /// By id, since when and why.
    denied: Recent<(Option<Instant>, String)>,
    now: Option<Instant>,
    /// Whether there is a registry to ask.
    registry: bool,
    /// Fields of the current schema that once had another name.
    renamed: Renamed,
}

impl Default for Schemas {
    fn default() -> Self {
        Self::new()
    }
}

impl Schemas {
    /// The schemas of `schemas/`, and none of the registry's yet.
    pub fn new() -> Self {
        Self::of(&LEAD_EVENTS).expect("a test parses the schemas of this repository")
    }

    /// For records of others, whose fields keep their own names.
    pub fn foreign() -> Self {
        Self {
            renamed: Renamed::default(),
            ..Self::new()
        }
    }

    /// `texts` are lead event schemas, the current one first.
    pub(super) fn of(texts: &[&str]) -> Result<Self, String> {
        let mut schemas = Self {
            fingerprints: BTreeMap::new(),
            learnt: Recent::default(),
            learnt_size: 0,
            denied: Recent::default(),
            now: None,
            registry: true,
            renamed: Renamed::default(),
        };
        for (age, text) in texts.iter().enumerate() {
            let schema = Schema::parse_str(text).map_err(|error| error.to_string())?;
            if age == 0 {
                schemas.renamed = Renamed::of(&schema);
            }
            let writer = Writer::compile(&[&schema], &schemas.renamed)?;
            for fingerprint in fingerprints(text)? {
                schemas.fingerprints.insert(fingerprint, writer.clone());
            }
        }
        Ok(schemas)
    }

    /// Says that no registry is configured, so that every id is `unknown_schema`.
    pub fn without_registry(&mut self) {
        self.registry = false;
    }

    /// Takes the time, and forgets what was refused long ago.
    pub fn at(&mut self, now: Instant) {
        self.now = Some(now);
        let is_over = |since: &Option<Instant>| since.is_some_and(|since| now - since >= DENIED_FOR);
        while self.denied.oldest().is_some_and(|(since, _)| is_over(since)) {
            self.denied.pop();
        }
    }

    /// Takes the schema that the registry has under `id`, with those it refers to. One that is no record is refused
    /// like an id that isn't there.
    pub fn learn(&mut self, id: SchemaId, schema: &str, references: &[String]) {
        let writer = match self.compile(schema, references) {
            Ok(writer) => writer,
            Err(why) => return self.deny(id, why),
        };
        self.denied.remove(id);
        self.unlearn(id);
        let size = schema.len() + references.iter().map(String::len).sum::<usize>() + 1024;
        self.learnt_size += size;
        self.learnt.put(id, (writer, size));
        while self.learnt_size > LEARNT_MAX
            && let Some((_, size)) = self.learnt.pop()
        {
            self.learnt_size -= size;
        }
    }

    /// Takes the registry's refusal; events under this id are `unknown_schema` until [`Self::learn`] says otherwise,
    /// or a minute is over ([`Self::at`]).
    pub fn deny(&mut self, id: SchemaId, detail: impl Into<String>) {
        self.unlearn(id);
        self.denied.put(id, (self.now, detail.into()));
        if self.denied.len() > DENIED_MAX {
            self.denied.pop();
        }
    }

    fn unlearn(&mut self, id: SchemaId) {
        if let Some((_, size)) = self.learnt.remove(id) {
            self.learnt_size -= size;
        }
    }

    pub(super) fn by_fingerprint(&self, fingerprint: u64) -> Option<&Writer> {
        self.fingerprints.get(&fingerprint)
    }

    /// The writer under an id, or why there is none; `None` where the registry has to be asked.
    pub(super) fn by_id(&self, id: SchemaId) -> Option<Result<&Writer, &str>> {
        if let Some((writer, _)) = self.learnt.get(id) {
            return Some(Ok(writer));
        }
        match id {
            SchemaId::Id(id) if i32::try_from(id).is_err() => {
                Some(Err("ids of a schema registry are below 2147483648"))
            }
            _ if !self.registry => Some(Err("no schema registry is configured; set schema_registry.url")),
            _ => self.denied.get(id).map(|(_, why)| Err(why.as_str())),
        }
    }

    fn compile(&self, schema: &str, references: &[String]) -> Result<Writer, String> {
        Writer::read(schema, references, &self.renamed)
    }
}

/// The known ids, in the order in which they came to be known.
#[derive(Debug, Clone)]
struct Recent<V> {
    by_id: BTreeMap<SchemaId, V>,
    order: VecDeque<SchemaId>,
}

impl<V> Default for Recent<V> {
    fn default() -> Self {
        Self {
            by_id: BTreeMap::new(),
            order: VecDeque::new(),
        }
    }
}

impl<V> Recent<V> {
    fn len(&self) -> usize {
        self.by_id.len()
    }

    fn get(&self, id: SchemaId) -> Option<&V> {
        self.by_id.get(&id)
    }

    /// Puts it last, in place of what stood there before.
    fn put(&mut self, id: SchemaId, value: V) {
        self.remove(id);
        self.order.push_back(id);
        self.by_id.insert(id, value);
    }

    fn remove(&mut self, id: SchemaId) -> Option<V> {
        let removed = self.by_id.remove(&id)?;
        self.order.retain(|known| *known != id);
        Some(removed)
    }

    fn oldest(&self) -> Option<&V> {
        self.get(*self.order.front()?)
    }

    fn pop(&mut self) -> Option<V> {
        self.by_id.remove(&self.order.pop_front()?)
    }
}

/// The bytes in front of an event that is written by the current schema.
pub(super) fn current_fingerprint() -> u64 {
    static FINGERPRINT: LazyLock<u64> =
        LazyLock::new(|| fingerprints(LEAD_EVENTS[0]).expect("a test parses the schemas of this repository")[0]);
    *FINGERPRINT
}

/// The fingerprints that writers put in front of events of one schema. By the specification logical types are no
/// part of it, as in Java; the Rust library leaves parts of them in, such as a decimal's precision.
pub(crate) fn fingerprints(text: &str) -> Result<[u64; 2], String> {
    let mut plain: Json = serde_json::from_str(text).map_err(|error| error.to_string())?;
    strip_logical_types(&mut plain);
    let plain = Schema::parse(&plain).map_err(|error| error.to_string())?;
    let written = Schema::parse_str(text).map_err(|error| error.to_string())?;
    Ok([plain, written].map(|schema| {
        let bytes = schema.fingerprint::<Rabin>().bytes;
        u64::from_le_bytes(bytes.try_into().expect("a Rabin fingerprint has 8 bytes"))
    }))
}

fn strip_logical_types(schema: &mut Json) {
    match schema {
        Json::Object(members) => {
            for name in ["logicalType", "precision", "scale"] {
                members.remove(name);
            }
            members.values_mut().for_each(strip_logical_types);
        }
        Json::Array(items) => items.iter_mut().for_each(strip_logical_types),
        _ => {}
    }
}
