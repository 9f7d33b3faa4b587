//! Choosing a decoder by the record's first bytes.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use super::avro::{self, Writer};
use super::{LeadEvent, json};
use crate::reason::Reason;

/// Why bytes are no lead event. Texts name the place, never a lead's data.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("{0}")]
    NotDecodable(String),
    #[error("{0}")]
    UnknownSchema(String),
    #[error("{0}")]
    InvalidEvent(String),
    /// Not a failure: the writer schema has to be looked up first.
    #[error("schema {0} is not known yet")]
    NeedsSchema(SchemaId),
}

impl DecodeError {
    /// The dead letter's reason; `None` when the record is to be decoded again with its schema.
    pub fn reason(&self) -> Option<Reason> {
        match self {
            Self::NotDecodable(_) => Some(Reason::NotDecodable),
            Self::UnknownSchema(_) => Some(Reason::UnknownSchema),
            Self::InvalidEvent(_) => Some(Reason::InvalidEvent),
            Self::NeedsSchema(_) => None,
        }
    }
}

/// How Confluent framing names a writer schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SchemaId {
    Id(u32),
    Guid(uuid::Uuid),
}

impl fmt::Display for SchemaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => id.fmt(f),
            Self::Guid(guid) => guid.fmt(f),
        }
    }
}

/// The writer schemas we can read: those shipped in `schemas/`, by fingerprint, and those that the
/// registry told us, by id.
#[derive(Debug, Clone)]
pub struct Schemas {
    by_fingerprint: HashMap<[u8; 8], Arc<Writer>>,
    by_id: HashMap<SchemaId, Result<Arc<Writer>, String>>,
}

impl Default for Schemas {
    fn default() -> Self {
        Self::new()
    }
}

impl Schemas {
    pub fn new() -> Self {
        let (fingerprint, writer) = avro::own();
        Self {
            by_fingerprint: HashMap::from([(fingerprint, writer)]),
            by_id: HashMap::new(),
        }
    }

    /// Takes in what the registry answered for `id`. A schema that can't be read is denied.
    pub fn learn(&mut self, id: SchemaId, schema: &str) {
        let writer = Writer::parse(schema).map(Arc::new);
        self.by_id.insert(
            id,
            writer.ok_or_else(|| format!("schema {id} of the registry is no valid Avro schema")),
        );
    }

    /// The registry says there is no such schema.
    pub fn deny(&mut self, id: SchemaId, detail: &str) {
        self.by_id.insert(id, Err(format!("schema {id}: {detail}")));
    }
}

/// Decodes one record's value. A null value is not decodable, as an empty one is.
pub fn decode<'a>(bytes: &'a [u8], schemas: &Schemas) -> Result<LeadEvent<'a>, DecodeError> {
    let not_decodable = |text: &str| Err(DecodeError::NotDecodable(text.to_owned()));
    match bytes {
        [] => not_decodable("the value is empty"),
        [0xC3, 0x01, rest @ ..] => match rest.split_first_chunk::<8>() {
            None => not_decodable("the single-object header is cut off"),
            Some((fingerprint, datum)) => match schemas.by_fingerprint.get(fingerprint) {
                Some(schema) => avro::decode(datum, schema),
                None => Err(DecodeError::UnknownSchema(format!(
                    "fingerprint {:016x} is not in schemas/",
                    u64::from_le_bytes(*fingerprint)
                ))),
            },
        },
        [0x00, rest @ ..] => match rest.split_first_chunk::<4>() {
            None => not_decodable("the Confluent framing is cut off"),
            Some((id, datum)) => framed(SchemaId::Id(u32::from_be_bytes(*id)), datum, schemas),
        },
        [0x01, rest @ ..] => match rest.split_first_chunk::<16>() {
            None => not_decodable("the Confluent framing is cut off"),
            Some((guid, datum)) => framed(SchemaId::Guid(uuid::Uuid::from_bytes(*guid)), datum, schemas),
        },
        text => {
            let text = text.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(text).trim_ascii_start();
            if text.first() == Some(&b'{') {
                json::decode(text)
            } else {
                not_decodable("the value is neither JSON nor Avro in a framing that is read")
            }
        }
    }
}

fn framed<'a>(id: SchemaId, datum: &'a [u8], schemas: &Schemas) -> Result<LeadEvent<'a>, DecodeError> {
    match schemas.by_id.get(&id) {
        None => Err(DecodeError::NeedsSchema(id)),
        Some(Err(detail)) => Err(DecodeError::UnknownSchema(detail.clone())),
        Some(Ok(schema)) => avro::decode(datum, schema),
    }
}
