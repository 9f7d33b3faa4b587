//! What an inlet makes of one input outside of a request: a topic's record, a line of a file, or the content of a dead
//! letter. The result is events, and at most one refusal.

use jiff::Timestamp;
use serde_json::Value;

use super::{Batch, Budget, Elements, Event, Inlet, Received, Refused};
use crate::lead::decode::DecodeError;
use crate::lead::schemas::{SchemaId, Schemas};
use crate::reason::Reason;

/// The result of one input.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Taken {
    pub events: Vec<Event>,
    /// Records in it that the mapping leaves out.
    pub left_out: u64,
    /// Why the input, or a part of it, is a dead letter; never quotes a value.
    pub refused: Option<Refused>,
    /// Which of its records are dead; none where it is no list of them.
    pub dead: Option<Elements>,
}

impl Taken {
    fn refused(reason: Reason, detail: String) -> Self {
        Self {
            refused: Some((reason, detail)),
            ..Self::default()
        }
    }
}

impl Inlet {
    /// Takes a topic's record; a tombstone is left out. `only` are those of its records that count; none: all. The
    /// error is a schema to look up first.
    pub fn take(
        &self,
        value: Option<&[u8]>,
        only: Option<&Elements>,
        schemas: &Schemas,
        now: Timestamp,
    ) -> Result<Taken, SchemaId> {
        let Some(value) = value else {
            return Ok(Taken {
                left_out: 1,
                ..Taken::default()
            });
        };
        let mut budget = Budget::of(value.len());
        match self.decode_value(value, schemas, &mut budget) {
            Ok(batch) => Ok(self.taken(batch, only, now, &mut budget)),
            Err(DecodeError::NeedsSchema(id)) => Err(id),
            Err(error) => {
                let reason = error.reason().unwrap_or(Reason::NotDecodable);
                Ok(Taken::refused(reason, error.detail().to_owned()))
            }
        }
    }

    /// Takes a line of JSON, whatever form the inlet decodes.
    pub fn take_line(&self, line: &[u8], now: Timestamp) -> Taken {
        self.take_json(line, "", now)
    }

    /// Takes JSON, whatever form the inlet decodes; `route` is the URL's path beyond the inlet's name.
    pub fn take_json(&self, body: &[u8], route: &str, now: Timestamp) -> Taken {
        let mut budget = Budget::of(body.len());
        match self.decode_json(body, route, &mut budget) {
            Ok(batch) => self.taken(batch, None, now, &mut budget),
            Err(why) => Taken::refused(Reason::NotDecodable, why),
        }
    }

    /// Takes a record that was read already, such as a row of `size` bytes.
    pub fn take_value(&self, value: Value, size: usize, now: Timestamp) -> Taken {
        let batch = Batch::one(value, size, self);
        self.taken(batch, None, now, &mut Budget::of(size))
    }

    /// Takes one record that came in a request, as a dead letter holds it; `route` is the URL's path beyond the
    /// inlet's name.
    pub fn take_again(&self, record: &[u8], route: &str, now: Timestamp) -> Taken {
        let mut budget = Budget::of(record.len());
        match crate::json::parse(record) {
            Ok(parsed) => match Batch::again(parsed, record, route, self) {
                Ok(batch) => self.taken(batch, None, now, &mut budget),
                Err(why) => Taken::refused(Reason::NotDecodable, why),
            },
            Err(unreadable) => Taken::refused(Reason::NotDecodable, unreadable.to_string()),
        }
    }

    /// Takes those of a request's records that count, as a dead letter holds its body; none: all.
    pub fn take_body(&self, received: &Received<'_>, only: Option<&Elements>, now: Timestamp) -> Taken {
        let mut budget = Budget::of(received.body.len());
        match self.decode(received, &mut budget) {
            Ok(batch) => self.taken(batch, only, now, &mut budget),
            Err(why) => Taken::refused(Reason::NotDecodable, why),
        }
    }

    fn taken(&self, mut batch: Batch<'_>, only: Option<&Elements>, now: Timestamp, budget: &mut Budget) -> Taken {
        let mut taken = Taken::default();
        let mut dead = Elements::default();
        let (mut count, mut of) = (0_u64, 0_u64);
        let is_list = batch.is_list();
        while let Some(record) = batch.next(budget) {
            of += 1;
            if only.is_some_and(|only| !only.contains(record.index)) {
                continue;
            }
            let mapped = self.map(&record, batch.around(), now, budget);
            taken.left_out += u64::from(mapped.events.is_empty() && mapped.refused.is_none());
            taken.events.extend(mapped.events);
            if let Some(refused) = mapped.refused {
                count += 1;
                dead.push(record.index);
                taken.refused.get_or_insert(refused);
            }
        }
        if let Some((_, why)) = taken.refused.as_mut().filter(|_| of > 1) {
            why.push_str(&format!(" (the first of {count} in {of} records)"));
        }
        taken.dead = is_list.then_some(dead);
        taken
    }
}
