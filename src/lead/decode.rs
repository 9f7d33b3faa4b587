//! Turns a record's bytes into a lead event: the first bytes choose the decoder.
//!
//! | first bytes | encoding |
//! |---|---|
//! | `00` + id, `01` + GUID | Confluent framing: the writer schema comes from the schema registry |
//! | `C3 01` + fingerprint | Avro single-object encoding: the writer schema is one of `schemas/` |
//! | `{`, after a byte order mark or blanks | JSON |
//!
//! Broken bytes are `not_decodable`, whatever else is wrong with the event; only a whole record can be
//! `invalid_event`. No detail quotes a value, so that it can travel in headers and logs.

use super::asked::Asked;
use super::schemas::{SchemaId, Schemas, Writer};
use super::{LeadEvent, avro, json};
use crate::reason::Reason;

/// Why a record is no lead event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("not decodable: {0}")]
    NotDecodable(String),
    #[error("unknown schema: {0}")]
    UnknownSchema(String),
    #[error("invalid event: {0}")]
    InvalidEvent(String),
    /// No fault of the record: look this schema up, give [`Schemas`] the answer and decode again.
    #[error("schema {0} has to be looked up in the schema registry first")]
    NeedsSchema(SchemaId),
}

impl DecodeError {
    /// The dead letter's reason; `None` where the record isn't one.
    pub fn reason(&self) -> Option<Reason> {
        match self {
            Self::NotDecodable(_) => Some(Reason::NotDecodable),
            Self::UnknownSchema(_) => Some(Reason::UnknownSchema),
            Self::InvalidEvent(_) => Some(Reason::InvalidEvent),
            Self::NeedsSchema(_) => None,
        }
    }

    /// The dead letter's detail; empty where the record isn't one.
    pub fn detail(&self) -> &str {
        match self {
            Self::NotDecodable(detail) | Self::UnknownSchema(detail) | Self::InvalidEvent(detail) => detail,
            Self::NeedsSchema(_) => "",
        }
    }
}

/// Decodes a record's value. A null value is given as no bytes: both are `not_decodable`.
pub fn decode<'a>(bytes: &'a [u8], schemas: &Schemas) -> Result<LeadEvent<'a>, DecodeError> {
    decode_for(bytes, schemas, &Asked::ALL)
}

/// Decodes what is asked for of a record's value. Fields that aren't may be empty; whether the record is an event doesn't
/// depend on them.
pub fn decode_for<'a>(bytes: &'a [u8], schemas: &Schemas, asked: &Asked) -> Result<LeadEvent<'a>, DecodeError> {
    if bytes.is_empty() {
        return Err(DecodeError::NotDecodable("the value is empty or null".into()));
    }
    match framed(bytes, schemas)? {
        Some((datum, writer)) => avro::decode(datum, writer, asked),
        None => json::decode(json_text(bytes)?, asked),
    }
}

/// Decodes any record in Avro as JSON, by the schema that it was written with; with how many bytes it has in memory at
/// most, of which there are no more than `bytes_max`.
pub fn decode_avro(
    bytes: &[u8],
    schemas: &Schemas,
    bytes_max: usize,
) -> Result<(serde_json::Value, usize), DecodeError> {
    match framed(bytes, schemas)? {
        Some((datum, writer)) => avro::to_json(datum, writer, bytes_max),
        None => Err(DecodeError::NotDecodable(
            "the value is no Avro framing: it starts with none of 00, 01 and C3 01".into(),
        )),
    }
}

/// The schema that has to be looked up before these bytes can be decoded as Avro.
pub fn lacks(bytes: &[u8], schemas: &Schemas) -> Option<SchemaId> {
    match framed(bytes, schemas) {
        Err(DecodeError::NeedsSchema(id)) => Some(id),
        _ => None,
    }
}

/// The datum inside Avro framing and its writer; `None` where there is no framing.
fn framed<'a, 's>(bytes: &'a [u8], schemas: &'s Schemas) -> Result<Option<(&'a [u8], &'s Writer)>, DecodeError> {
    Ok(Some(match bytes {
        [0xC3, 0x01, framed @ ..] => {
            let (fingerprint, datum) = split(framed, "a single-object fingerprint")?;
            let fingerprint = u64::from_le_bytes(fingerprint);
            let writer = schemas.by_fingerprint(fingerprint).ok_or_else(|| {
                DecodeError::UnknownSchema(format!(
                    "no schema in schemas/ has the fingerprint {fingerprint:016x}, add the producer's there"
                ))
            })?;
            (datum, writer)
        }
        [0x00, framed @ ..] => {
            let (id, datum) = split(framed, "a schema id")?;
            (datum, registered(schemas, SchemaId::Id(u32::from_be_bytes(id)))?)
        }
        [0x01, framed @ ..] => {
            let (guid, datum) = split(framed, "a schema GUID")?;
            (datum, registered(schemas, SchemaId::Guid(guid))?)
        }
        _ => return Ok(None),
    }))
}

/// Whether a record's value is an event that the quick decoders read; benches count by it.
pub fn is_quick(bytes: &[u8], schemas: &Schemas) -> bool {
    let mut event = LeadEvent::default();
    match framed(bytes, schemas) {
        Ok(Some((datum, writer))) => avro::quick(datum, writer, &Asked::ALL, &mut event).is_ok(),
        Ok(None) => json_text(bytes).is_ok_and(|text| json::quick(text, &Asked::ALL, &mut event).is_ok()),
        Err(_) => false,
    }
}

/// Decodes a record's value by the complete decoders alone.
#[cfg(test)]
pub(super) fn complete<'a>(bytes: &'a [u8], schemas: &Schemas) -> Result<LeadEvent<'a>, DecodeError> {
    if bytes.is_empty() {
        return decode(bytes, schemas);
    }
    match framed(bytes, schemas)? {
        Some((datum, writer)) => avro::whole(datum, writer),
        None => json::whole(json_text(bytes)?),
    }
}

/// Decodes an event that is JSON.
pub fn decode_json(bytes: &[u8]) -> Result<LeadEvent<'_>, DecodeError> {
    json::decode(json_text(bytes)?, &Asked::ALL)
}

fn split<'a, const N: usize>(framed: &'a [u8], what: &str) -> Result<([u8; N], &'a [u8]), DecodeError> {
    match framed.split_first_chunk() {
        Some((head, datum)) => Ok((*head, datum)),
        None => Err(DecodeError::NotDecodable(format!("the value ends within {what}"))),
    }
}

fn registered(schemas: &Schemas, id: SchemaId) -> Result<&Writer, DecodeError> {
    match schemas.by_id(id) {
        Some(Ok(writer)) => Ok(writer),
        Some(Err(denied)) => Err(DecodeError::UnknownSchema(format!("schema {id}: {denied}"))),
        None => Err(DecodeError::NeedsSchema(id)),
    }
}

fn json_text(bytes: &[u8]) -> Result<&str, DecodeError> {
    let unblanked = trim_blanks(bytes);
    let unmarked = trim_blanks(unblanked.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(unblanked));
    if !unmarked.starts_with(b"{") {
        let detail = "the value is no Avro framing and no JSON object: it starts with none of 00, 01, C3 01 and {";
        return Err(DecodeError::NotDecodable(detail.into()));
    }
    std::str::from_utf8(unmarked).map_err(|error| {
        DecodeError::NotDecodable(format!(
            "malformed JSON: no UTF-8 from byte {} on",
            error.valid_up_to() + 1
        ))
    })
}

fn trim_blanks(bytes: &[u8]) -> &[u8] {
    let blanks = bytes
        .iter()
        .take_while(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n'));
    &bytes[blanks.count()..]
}
