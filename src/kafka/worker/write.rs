//! What a worker writes in its transaction, and what of it Kafka refuses.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use rdkafka::error::RDKafkaErrorCode;
use rdkafka::message::OwnedHeaders;
use rdkafka::producer::BaseRecord;

use super::Worker;
use crate::kafka::{Fault, Form, Letter, headers};

/// A record to write in the transaction.
#[derive(Debug)]
pub struct Record<'r> {
    pub topic: &'r str,
    pub key: &'r [u8],
    pub value: Option<&'r [u8]>,
    pub headers: OwnedHeaders,
}

/// Why a record was not written.
#[derive(Debug)]
pub enum WriteError {
    /// Its topic doesn't take it, now or later: a smaller one has to do.
    TooLarge,
    Fault(Fault),
}

/// One write among those of a record that was read: which of them it was, where to, and how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Write {
    number: usize,
    record: u64,
}

/// Writes that are waited for, each before the next.
#[derive(Debug)]
pub(super) struct OneByOne {
    /// The number of the next.
    next: usize,
    refused: BTreeSet<Write>,
}

impl Write {
    fn of(number: usize, record: &Record<'_>) -> Self {
        let mut hasher = DefaultHasher::new();
        // Not what stands in it: an outcome and a dead letter tell the time, which is another at the next reading.
        (record.topic, record.key, record.value.map(<[u8]>::len)).hash(&mut hasher);
        Self {
            number,
            record: hasher.finish(),
        }
    }

    #[cfg(test)]
    pub(crate) fn nth(number: usize) -> Self {
        Self { number, record: 0 }
    }
}

/// What a record adds to its key, value and headers, at most: lengths, and what is told of the batch.
const FRAMING_MAX: usize = 256;

/// The topic takes not even the smallest form of a record, which somebody has to mend.
pub(crate) fn takes_nothing(topic: &str) -> Fault {
    Fault::Abort(format!(
        "{topic} doesn't take a record of a few hundred bytes; raise its max.message.bytes"
    ))
}

impl Worker {
    /// Writes a record, beginning a transaction where none is open.
    pub fn write(&self, record: &Record<'_>) -> Result<(), WriteError> {
        let write = match &mut self.transaction.state().one_by_one {
            None => None,
            Some(one_by_one) => {
                let write = Write::of(one_by_one.next, record);
                one_by_one.next += 1;
                if one_by_one.refused.contains(&write) {
                    return Err(WriteError::TooLarge);
                }
                Some(write)
            }
        };
        let size =
            record.key.len() + record.value.map_or(0, <[u8]>::len) + headers::size(&record.headers) + FRAMING_MAX;
        let limit = self.limits.iter().find(|(topic, _)| topic == record.topic);
        if limit.is_some_and(|(_, most)| size > *most) {
            return Err(WriteError::TooLarge);
        }
        self.transaction.begin().map_err(WriteError::Fault)?;
        loop {
            let mut base = BaseRecord::to(record.topic)
                .key(record.key)
                .headers(record.headers.clone());
            base.payload = record.value;
            match self.transaction.producer.send(base) {
                Ok(()) if write.is_none() => return Ok(()),
                Ok(()) => return self.transaction.wait(write).map_err(WriteError::Fault),
                Err((error, _)) => match error.rdkafka_error_code() {
                    Some(RDKafkaErrorCode::QueueFull) => self.transaction.producer.poll(Duration::from_millis(1)),
                    Some(RDKafkaErrorCode::MessageSizeTooLarge) => return Err(WriteError::TooLarge),
                    _ => return Err(WriteError::Fault(self.transaction.cause(error))),
                },
            }
        }
    }

    /// Writes a dead letter in the largest form that its topic takes.
    pub(crate) fn write_letter(&self, letter: &Letter<'_>) -> Result<(), Fault> {
        let mut form = Form::Whole;
        loop {
            let (key, value, headers) = letter.in_form(form);
            let written = self.write(&Record {
                topic: &self.dead_letters,
                key,
                value,
                headers,
            });
            match (written, form.smaller()) {
                (Ok(()), _) => return Ok(()),
                (Err(WriteError::Fault(fault)), _) => return Err(fault),
                (Err(WriteError::TooLarge), Some(smaller)) => form = smaller,
                (Err(WriteError::TooLarge), None) => return Err(takes_nothing(&self.dead_letters)),
            }
        }
    }

    /// Until the transaction ends each write is waited for, so that Kafka's refusal names it. Those that are known to
    /// be `refused` are [`WriteError::TooLarge`] at once.
    pub fn one_by_one(&self, refused: BTreeSet<Write>) {
        self.transaction.state().one_by_one = Some(OneByOne { next: 0, refused });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_is_known_again_at_another_time() {
        let of = |number, topic, value: &[u8]| {
            let value = Some(value);
            let headers = OwnedHeaders::new();
            Write::of(
                number,
                &Record {
                    topic,
                    key: b"k",
                    value,
                    headers,
                },
            )
        };
        assert_eq!(of(1, "outcomes", b"ended 1"), of(1, "outcomes", b"ended 2"));
        for other in [
            of(2, "outcomes", b"ended 1"),
            of(1, "jobs", b"ended 1"),
            of(1, "outcomes", b"1"),
        ] {
            assert_ne!(of(1, "outcomes", b"ended 1"), other);
        }
    }
}
