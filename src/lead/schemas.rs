//! The schemas that lead events, and records of inlets, were written with: those in `schemas/`, by fingerprint, and those that the schema
//! registry answered, by id. Each is compiled once into a writer, which the Avro decoder walks.
//!
//! Asking the registry is the caller's: decoding says which schema it lacks, [`Schemas::learn`] and
//! [`Schemas::deny`] take the answer.

use std::collections::HashMap;
use std::fmt;
use std::sync::LazyLock;

use apache_avro::Schema;
use apache_avro::rabin::Rabin;
use apache_avro::schema::{InnerDecimalSchema, Name, RecordSchema, UuidSchema};

/// Every schema that lead events have been published with, the current one first.
const LEAD_EVENTS: [&str; 1] = [include_str!("../../schemas/lead_event.avsc")];

/// So many refused ids are remembered; a producer that makes ids up must not fill the memory.
const DENIED_MAX: usize = 4096;

/// The current schema of `schemas/`.
pub(super) static LEAD_EVENT: LazyLock<Schema> =
    LazyLock::new(|| Schema::parse_str(LEAD_EVENTS[0]).expect("a test parses the schemas of this repository"));

/// The schema registry's name for a schema, as Confluent framing carries it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
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
    fingerprints: HashMap<u64, Writer>,
    registered: HashMap<SchemaId, Result<Writer, String>>,
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
            fingerprints: HashMap::new(),
            registered: HashMap::new(),
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

    /// Takes the schema that the registry has under `id`, with those it refers to. One that is no record is refused
    /// like an id that isn't there.
    pub fn learn(&mut self, id: SchemaId, schema: &str, references: &[String]) {
        match self.compile(schema, references) {
            Ok(writer) => {
                self.registered.insert(id, Ok(writer));
            }
            Err(why) => self.deny(id, why),
        }
    }

    /// Takes the registry's refusal; events under this id are `unknown_schema` until [`Self::learn`] says otherwise.
    pub fn deny(&mut self, id: SchemaId, detail: impl Into<String>) {
        if self.registered.values().filter(|known| known.is_err()).count() >= DENIED_MAX {
            self.registered.retain(|_, known| known.is_ok());
        }
        self.registered.insert(id, Err(detail.into()));
    }

    pub(super) fn by_fingerprint(&self, fingerprint: u64) -> Option<&Writer> {
        self.fingerprints.get(&fingerprint)
    }

    pub(super) fn by_id(&self, id: SchemaId) -> Option<Result<&Writer, &str>> {
        let known = self.registered.get(&id)?;
        Some(known.as_ref().map_err(String::as_str))
    }

    fn compile(&self, schema: &str, references: &[String]) -> Result<Writer, String> {
        let (root, others) = Schema::parse_str_with_list(schema, references)
            .map_err(|_| "the registry's answer is no readable Avro schema".to_owned())?;
        let all: Vec<&Schema> = std::iter::once(&root).chain(&others).collect();
        Writer::compile(&all, &self.renamed)
    }
}

/// What stands in front of an event that is written by the current schema.
pub(super) fn current_fingerprint() -> u64 {
    static FINGERPRINT: LazyLock<u64> =
        LazyLock::new(|| fingerprints(LEAD_EVENTS[0]).expect("a test parses the schemas of this repository")[0]);
    *FINGERPRINT
}

/// The fingerprints that writers put in front of events of one schema. By the specification logical types are no
/// part of it, as in Java; the Rust library leaves parts of them in, such as a decimal's precision.
pub(crate) fn fingerprints(text: &str) -> Result<[u64; 2], String> {
    let mut plain: serde_json::Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    strip_logical_types(&mut plain);
    let plain = Schema::parse(&plain).map_err(|error| error.to_string())?;
    let written = Schema::parse_str(text).map_err(|error| error.to_string())?;
    Ok([plain, written].map(|schema| {
        let bytes = schema.fingerprint::<Rabin>().bytes;
        u64::from_le_bytes(bytes.try_into().expect("a Rabin fingerprint has 8 bytes"))
    }))
}

fn strip_logical_types(schema: &mut serde_json::Value) {
    match schema {
        serde_json::Value::Object(members) => {
            for name in ["logicalType", "precision", "scale"] {
                members.remove(name);
            }
            members.values_mut().for_each(strip_logical_types);
        }
        serde_json::Value::Array(items) => items.iter_mut().for_each(strip_logical_types),
        _ => {}
    }
}

/// A writer schema, cut down to what reading needs.
#[derive(Debug, Clone)]
pub(super) struct Writer {
    pub(super) root: Shape,
    /// The fields of each record, by [`Shape::Record`]'s number.
    pub(super) records: Vec<Vec<(String, Shape)>>,
}

/// How a value's bytes are laid out, and what they mean.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Shape {
    Null,
    Boolean,
    /// Avro's int and long are written alike.
    Int,
    /// An int that counts days since 1970; no field takes it.
    Date,
    /// An int or long that counts so many nanoseconds since midnight; no field takes it.
    Clock {
        nanoseconds: i64,
    },
    /// A float or double, of so many bytes.
    Float(usize),
    Bytes,
    Text,
    Uuid,
    Fixed(usize),
    Enum(Vec<String>),
    List(Box<Shape>),
    Map(Box<Shape>),
    Union(Vec<Shape>),
    Record(usize),
    /// In bytes, or fixed where `size` is given.
    Decimal {
        scale: u32,
        size: Option<usize>,
    },
    /// A long that counts so many nanoseconds since 1970.
    Time {
        nanoseconds: i64,
    },
}

impl Writer {
    /// Compiles the first of `schemas`; the rest are what it refers to.
    fn compile(schemas: &[&Schema], renamed: &Renamed) -> Result<Self, String> {
        let mut named = HashMap::new();
        schemas.iter().for_each(|schema| collect_named(schema, &mut named));
        let mut compiler = Compiler {
            named,
            renamed,
            numbers: HashMap::new(),
            records: Vec::new(),
        };
        let root = compiler.shape(schemas[0])?;
        if !matches!(root, Shape::Record(_) | Shape::Union(_)) {
            return Err("the schema is no record".into());
        }
        Ok(Self {
            root,
            records: compiler.records,
        })
    }
}

struct Compiler<'s> {
    named: HashMap<&'s Name, &'s Schema>,
    renamed: &'s Renamed,
    numbers: HashMap<&'s Name, usize>,
    records: Vec<Vec<(String, Shape)>>,
}

impl<'s> Compiler<'s> {
    fn shape(&mut self, schema: &'s Schema) -> Result<Shape, String> {
        Ok(match schema {
            Schema::Null => Shape::Null,
            Schema::Boolean => Shape::Boolean,
            Schema::Int | Schema::Long => Shape::Int,
            Schema::Date => Shape::Date,
            Schema::TimeMillis => Shape::Clock { nanoseconds: 1_000_000 },
            Schema::TimeMicros => Shape::Clock { nanoseconds: 1_000 },
            Schema::Float => Shape::Float(4),
            Schema::Double => Shape::Float(8),
            Schema::Bytes | Schema::BigDecimal | Schema::Uuid(UuidSchema::Bytes) => Shape::Bytes,
            Schema::String | Schema::Uuid(UuidSchema::String) => Shape::Text,
            Schema::Uuid(UuidSchema::Fixed(_)) => Shape::Uuid,
            Schema::Fixed(fixed) | Schema::Duration(fixed) => Shape::Fixed(fixed.size),
            Schema::Enum(symbols) => Shape::Enum(symbols.symbols.clone()),
            Schema::Array(list) => Shape::List(Box::new(self.shape(&list.items)?)),
            Schema::Map(map) => Shape::Map(Box::new(self.shape(&map.types)?)),
            Schema::Union(union) => {
                let shapes = union.variants().iter().map(|variant| self.shape(variant));
                Shape::Union(shapes.collect::<Result<_, _>>()?)
            }
            Schema::Record(record) => self.record(record)?,
            Schema::Decimal(decimal) => Shape::Decimal {
                scale: u32::try_from(decimal.scale).map_err(|_| "a decimal's scale is out of range")?,
                size: match &decimal.inner {
                    InnerDecimalSchema::Bytes => None,
                    InnerDecimalSchema::Fixed(fixed) => Some(fixed.size),
                },
            },
            Schema::TimestampMillis | Schema::LocalTimestampMillis => Shape::Time { nanoseconds: 1_000_000 },
            Schema::TimestampMicros | Schema::LocalTimestampMicros => Shape::Time { nanoseconds: 1_000 },
            Schema::TimestampNanos | Schema::LocalTimestampNanos => Shape::Time { nanoseconds: 1 },
            Schema::Ref { name } => {
                let defined = self.named.get(name).copied();
                self.shape(defined.ok_or_else(|| format!("the schema refers to {name}, which isn't there"))?)?
            }
        })
    }

    fn record(&mut self, record: &'s RecordSchema) -> Result<Shape, String> {
        if let Some(&number) = self.numbers.get(&record.name) {
            return Ok(Shape::Record(number));
        }
        let number = self.records.len();
        // Numbered before its fields are looked at: they may hold this record again.
        self.numbers.insert(&record.name, number);
        self.records.push(Vec::new());
        let mut fields = Vec::with_capacity(record.fields.len());
        for field in &record.fields {
            let name = self.renamed.current(record, &field.name).to_owned();
            fields.push((name, self.shape(&field.schema)?));
        }
        self.records[number] = fields;
        Ok(Shape::Record(number))
    }
}

/// Former names of fields: the current schema's aliases, by record (without namespace) and former name.
#[derive(Debug, Clone, Default)]
struct Renamed(HashMap<(String, String), String>);

impl Renamed {
    fn of(reader: &Schema) -> Self {
        let mut named = HashMap::new();
        collect_named(reader, &mut named);
        let mut renamed = HashMap::new();
        for schema in named.into_values() {
            let Schema::Record(record) = schema else { continue };
            for field in &record.fields {
                for alias in &field.aliases {
                    renamed.insert((record.name.name().to_owned(), alias.clone()), field.name.clone());
                }
            }
        }
        Self(renamed)
    }

    fn current<'n>(&'n self, record: &RecordSchema, field: &'n str) -> &'n str {
        // The current name wins over a former one that a writer also has.
        let former = (record.name.name().to_owned(), field.to_owned());
        match self.0.get(&former) {
            Some(current) if !record.lookup.contains_key(current) => current,
            _ => field,
        }
    }
}

/// Collects the definitions that references inside `schema` may mean.
pub(super) fn collect_named<'s>(schema: &'s Schema, named: &mut HashMap<&'s Name, &'s Schema>) {
    if let Some(name) = schema.name()
        && !matches!(schema, Schema::Ref { .. })
    {
        named.insert(name, schema);
    }
    match schema {
        Schema::Record(record) => record
            .fields
            .iter()
            .for_each(|field| collect_named(&field.schema, named)),
        Schema::Union(union) => union
            .variants()
            .iter()
            .for_each(|variant| collect_named(variant, named)),
        Schema::Array(list) => collect_named(&list.items, named),
        Schema::Map(map) => collect_named(&map.types, named),
        _ => {}
    }
}
