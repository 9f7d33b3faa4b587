//! What an inlet makes of a record of a topic, whole: bytes in, events and at most one refusal out.

use jiff::Timestamp;

use super::{Event, Inlet};
use crate::lead::decode::DecodeError;
use crate::lead::schemas::{SchemaId, Schemas};
use crate::reason::Reason;

/// What becomes of a topic's record.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Taken {
    pub events: Vec<Event>,
    /// Records in it that the mapping leaves out.
    pub left_out: u64,
    /// Why it, or a part of it, is a dead letter; never quotes a value.
    pub refused: Option<(Reason, String)>,
}

impl Inlet {
    /// Takes a topic's record; a tombstone is left out. The error is a schema to look up first.
    pub fn take(&self, value: Option<&[u8]>, schemas: &Schemas, now: Timestamp) -> Result<Taken, SchemaId> {
        let mut taken = Taken::default();
        let Some(value) = value else {
            taken.left_out = 1;
            return Ok(taken);
        };
        let batch = match self.decode_value(value, schemas) {
            Ok(batch) => batch,
            Err(DecodeError::NeedsSchema(id)) => return Err(id),
            Err(error) => {
                let reason = error.reason().unwrap_or(Reason::NotDecodable);
                taken.refused = Some((reason, error.detail().to_owned()));
                return Ok(taken);
            }
        };
        let mut refused = Vec::new();
        for record in &batch.records {
            let mapped = self.map(record, &batch, now);
            taken.left_out += u64::from(mapped.events.is_empty() && mapped.refused.is_none());
            taken.events.extend(mapped.events);
            refused.extend(mapped.refused);
        }
        let (count, of) = (refused.len(), batch.records.len());
        if let Some(mut why) = refused.into_iter().next() {
            if of > 1 {
                why.push_str(&format!(" (the first of {count} in {of} records)"));
            }
            taken.refused = Some((Reason::InvalidEvent, why));
        }
        Ok(taken)
    }
}
