//! A writer's schema, compiled for reading: the meaning of each part of the bytes.
//!
//! The schema comes from a registry and may be hostile: its size is bounded before it is parsed, and the compiled form
//! is linear in that size.

use std::collections::HashMap;
use std::sync::Arc;

use apache_avro::Schema;
use apache_avro::schema::{InnerDecimalSchema, Name, RecordSchema, UuidSchema};
use serde_json::Value as Json;

use crate::lead::avro::Plan;

/// The JSON values of a schema and those it refers to.
const NODES_MAX: usize = 20_000;
/// The levels of a schema and those it refers to, together: where each refers to the next, the parser goes as deep. A
/// flat record has six, and there are at most 64 references.
const LEVELS_MAX: usize = 400;
/// The bytes of a name or namespace: the parser copies a namespace into every name below it.
const NAME_MAX: usize = 512;
/// The parts of a writer's schema that give the layout and the meaning of its bytes.
const NEEDED: [&str; 11] = [
    "type",
    "name",
    "namespace",
    "fields",
    "items",
    "values",
    "symbols",
    "size",
    "logicalType",
    "precision",
    "scale",
];

/// A writer schema, cut down to what reading needs.
#[derive(Debug, Clone)]
pub(in crate::lead) struct Writer {
    pub(in crate::lead) root: Shape,
    /// The fields of each record, by [`Shape::Record`]'s number.
    pub(in crate::lead) records: Vec<Vec<(String, Shape)>>,
    /// How its records are read as lead events.
    pub(in crate::lead) plan: Option<Plan>,
}

/// How a value's bytes are laid out, and what they mean.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::lead) enum Shape {
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
    Enum(Arc<[String]>),
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
    /// Reads the text of a schema, and of those it refers to.
    pub(super) fn read(schema: &str, references: &[String], renamed: &Renamed) -> Result<Self, String> {
        let (mut nodes, mut levels) = (NODES_MAX, LEVELS_MAX);
        let mut lean = |text: &str| {
            let schema = serde_json::from_str(text).map_err(|_| "its schema is no JSON".to_owned())?;
            let schema = leaned(schema, &mut nodes)?;
            let left = levels.checked_sub(depth(&schema));
            levels = left.ok_or_else(|| format!("its schemas have more than {LEVELS_MAX} levels together"))?;
            Ok::<_, String>(schema)
        };
        let schema = lean(schema)?.to_string();
        let mut named = Vec::with_capacity(references.len());
        for text in references {
            let reference = lean(text)?;
            // The parser panics over one that it files under another name than it has.
            if !matches!(reference["type"].as_str(), Some("record" | "enum" | "fixed")) {
                return Err("its schema refers to one that is no record, enum or fixed".to_owned());
            }
            named.push(reference.to_string());
        }
        let (root, others) = Schema::parse_str_with_list(&schema, &named)
            .map_err(|_| "the registry's answer is no readable Avro schema".to_owned())?;
        let all: Vec<&Schema> = std::iter::once(&root).chain(&others).collect();
        Self::compile(&all, renamed)
    }

    /// Compiles the first of `schemas`; the rest are what it refers to.
    pub(super) fn compile(schemas: &[&Schema], renamed: &Renamed) -> Result<Self, String> {
        let mut named = HashMap::new();
        schemas.iter().for_each(|schema| collect_named(schema, &mut named));
        let mut compiler = Compiler {
            named,
            renamed,
            numbers: HashMap::new(),
            symbols: HashMap::new(),
            records: Vec::new(),
        };
        let root = compiler.shape(schemas[0])?;
        if !matches!(root, Shape::Record(_) | Shape::Union(_)) {
            return Err("the schema is no record".into());
        }
        Ok(Self {
            plan: Plan::of(&root, &compiler.records),
            root,
            records: compiler.records,
        })
    }
}

/// A writer's schema without what reading doesn't need: aliases and defaults are a reader's, and the parser copies a
/// record for each of its aliases. Its JSON values are counted against what is left of `nodes`.
fn leaned(schema: Json, nodes: &mut usize) -> Result<Json, String> {
    let left = nodes.checked_sub(1);
    *nodes = left.ok_or_else(|| format!("its schema has more than {NODES_MAX} parts"))?;
    Ok(match schema {
        Json::Object(members) => {
            let needed = members.into_iter().filter(|(name, _)| NEEDED.contains(&name.as_str()));
            let leaned = needed.map(|(name, value)| {
                if matches!(&value, Json::String(text) if text.len() > NAME_MAX) {
                    return Err(format!("its schema has a name of more than {NAME_MAX} bytes"));
                }
                Ok((name, leaned(value, nodes)?))
            });
            Json::Object(leaned.collect::<Result<_, _>>()?)
        }
        Json::Array(items) => {
            let leaned = items.into_iter().map(|item| leaned(item, nodes));
            Json::Array(leaned.collect::<Result<_, _>>()?)
        }
        scalar => scalar,
    })
}

/// How deep the objects and lists of a schema stand in one another.
fn depth(schema: &Json) -> usize {
    let inner = match schema {
        Json::Object(members) => members.values().map(depth).max(),
        Json::Array(items) => items.iter().map(depth).max(),
        _ => return 0,
    };
    1 + inner.unwrap_or(0)
}

struct Compiler<'s> {
    named: HashMap<&'s Name, &'s Schema>,
    renamed: &'s Renamed,
    numbers: HashMap<&'s Name, usize>,
    /// Of each enum, shared by all that refer to it.
    symbols: HashMap<&'s Name, Arc<[String]>>,
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
            Schema::Enum(of) => {
                let symbols = self
                    .symbols
                    .entry(&of.name)
                    .or_insert_with(|| of.symbols.clone().into());
                Shape::Enum(Arc::clone(symbols))
            }
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
pub(super) struct Renamed(HashMap<(String, String), String>);

impl Renamed {
    pub(super) fn of(reader: &Schema) -> Self {
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
pub(in crate::lead) fn collect_named<'s>(schema: &'s Schema, named: &mut HashMap<&'s Name, &'s Schema>) {
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
