//! A worker's writes within its transaction, and those that Kafka refuses.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use rdkafka::error::RDKafkaErrorCode;
use rdkafka::message::OwnedHeaders;
use rdkafka::producer::BaseRecord;

use super::Worker;
use super::transaction::Transaction;
use crate::kafka::headers::{self, header};
use crate::kafka::{Fault, Letter};
use crate::reason::Form;

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

/// One write among those of a record that was read: which of them it was, and of what. Not the value, which may hold
/// the time, so that the same write is known when it comes again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Write {
    number: usize,
    of: u64,
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
        let job = header(Some(&record.headers), "job-id");
        (record.topic, record.key, job).hash(&mut hasher);
        Self {
            number,
            of: hasher.finish(),
        }
    }

    #[cfg(test)]
    pub(crate) fn nth(number: usize) -> Self {
        Self { number, of: 0 }
    }
}

/// The most bytes that a record adds to its key, value and headers: lengths, and its share of the batch's head.
const FRAMING_MAX: usize = 256;

/// The topic takes not even the smallest form of a record, which somebody has to mend.
pub(crate) fn takes_nothing(topic: &str) -> Fault {
    Fault::Abort(format!(
        "{topic} doesn't take a record of a few hundred bytes; raise its max.message.bytes"
    ))
}

impl Worker {
    /// Writes a record, beginning a transaction where none is open.
    pub fn write(&self, record: Record<'_>) -> Result<(), WriteError> {
        let write = match &mut self.transaction.state().one_by_one {
            None => None,
            Some(one_by_one) => {
                let write = Write::of(one_by_one.next, &record);
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
        if write.is_some() {
            self.transaction.settle().map_err(WriteError::Fault)?;
            self.transaction.produce(record)?;
            return self.transaction.writer.wait(write).map_err(WriteError::Fault);
        }
        let mut state = self.transaction.state();
        if state.is_committing() {
            state.staged.push(record);
            return Ok(());
        }
        drop(state);
        self.transaction.produce(record)
    }

    /// Writes a dead letter in the largest form that its topic takes.
    pub(crate) fn write_letter(&self, letter: &Letter<'_>) -> Result<(), Fault> {
        let mut form = Form::Whole;
        loop {
            let (key, value, headers) = letter.in_form(form);
            let written = self.write(Record {
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

impl Transaction {
    /// Hands a record to the producer, in a transaction.
    pub(super) fn produce(&self, record: Record<'_>) -> Result<(), WriteError> {
        self.begin().map_err(WriteError::Fault)?;
        let (producer, writer) = (&self.writer.producer, &self.writer);
        let mut base = BaseRecord::to(record.topic).key(record.key).headers(record.headers);
        base.payload = record.value;
        loop {
            let Err((error, unsent)) = producer.send(base) else {
                return Ok(());
            };
            match error.rdkafka_error_code() {
                Some(RDKafkaErrorCode::QueueFull) => producer.poll(Duration::from_millis(1)),
                Some(RDKafkaErrorCode::MessageSizeTooLarge) => return Err(WriteError::TooLarge),
                _ => return Err(WriteError::Fault(writer.cause(error))),
            }
            base = unsent;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_that_comes_again_is_known_whatever_the_time_is_by_then() {
        let (key, job) = (b"k".as_slice(), "7fb2cd34-f4da-5f5f-911b-265780569f3b");
        let of = |number, topic, value: &str, job: &str| {
            let headers = headers::headers([("job-id", job), ("failed-at", value)]);
            let (key, value) = (key, Some(value.as_bytes()));
            Write::of(
                number,
                &Record {
                    topic,
                    key,
                    value,
                    headers,
                },
            )
        };
        let first = of(0, "outcomes", "12:00", job);
        assert_eq!(first, of(0, "outcomes", "12:01", job));
        for other in [
            of(1, "outcomes", "12:00", job),
            of(0, "jobs", "12:00", job),
            of(0, "outcomes", "12:00", "0190f3c2-6f7b-5c11-9a55-3f0a7be1c001"),
        ] {
            assert_ne!(first, other);
        }
    }
}
