//! What an inlet makes of a record of a topic, or of one line of a file: events, and at most one refusal.

use jiff::Timestamp;
use serde_json::Value;

use super::{Batch, Event, Inlet};
use crate::lead::decode::DecodeError;
use crate::lead::schemas::{SchemaId, Schemas};
use crate::reason::Reason;

/// What becomes of it.
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
        match self.decode_value(value, schemas) {
            Ok(batch) => Ok(self.taken(&batch, now)),
            Err(DecodeError::NeedsSchema(id)) => Err(id),
            Err(error) => {
                let reason = error.reason().unwrap_or(Reason::NotDecodable);
                taken.refused = Some((reason, error.detail().to_owned()));
                Ok(taken)
            }
        }
    }

    /// Takes what is JSON already, whatever form the inlet decodes.
    pub fn take_json(&self, value: Value, now: Timestamp) -> Taken {
        match self.batch(value, "") {
            Ok(batch) => self.taken(&batch, now),
            Err(why) => Taken {
                refused: Some((Reason::NotDecodable, why)),
                ..Taken::default()
            },
        }
    }

    /// Takes one record that came in a request, as a dead letter holds it; `route` is the URL's path beyond the
    /// inlet's name.
    pub fn take_again(&self, record: Value, route: &str, now: Timestamp) -> Taken {
        self.taken(&Batch::one(record, route), now)
    }

    fn taken(&self, batch: &Batch, now: Timestamp) -> Taken {
        let mut taken = Taken::default();
        let mut refused = Vec::new();
        for record in &batch.records {
            let mapped = self.map(record, batch, now);
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
        taken
    }
}
