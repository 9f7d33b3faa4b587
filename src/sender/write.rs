//! Handing outcomes and dead letters to the producer, in order and without waiting for it.

use std::borrow::Cow;
use std::sync::Arc;

use super::{Back, Loop};
use crate::delivery::Cut;
use crate::delivery::dispatch::Settled;
use crate::delivery::lane::JobAt;
use crate::delivery::sending::{Ack, DeadLetter, Event, Subject, What, Writing};
use crate::kafka::producer::{Ack as Acked, Record, Unwritten};
use crate::kafka::{Failure, Letter, OWN_VERSION, TEST, VERSION};
use crate::reason::Form;

impl Loop {
    pub(super) fn write(&mut self, writing: Writing) {
        self.unwritten.push_back(writing);
        self.write_on();
    }

    /// Hands over what is unwritten, as far as the producer has room.
    pub(super) fn write_on(&mut self) {
        while let Some(writing) = self.unwritten.front() {
            // What has become another owner's business meanwhile goes back, and is dropped there.
            if !self.sending.is_current(writing) {
                drop(self.back.send(Back::Event(Event::Again(writing.clone()))));
            } else if !self.has_room_for(writing) {
                return;
            }
            self.unwritten.pop_front();
        }
    }

    /// Hands it to the producer; `false` if too many records wait there already.
    fn has_room_for(&self, writing: &Writing) -> bool {
        match &writing.what {
            What::Outcome(settled, cut) => self.write_outcome(writing, settled, *cut),
            What::DeadLetter(letter, form) => self.write_dead_letter(writing, letter, *form),
        }
    }

    fn write_outcome(&self, writing: &Writing, settled: &Settled, cut: Cut) -> bool {
        let outcome = &settled.outcome;
        let value = self.wiring.codec.write_outcome(&outcome.cut(cut));
        let test = settled.is_test.then_some((TEST, "true"));
        let trace = settled.traceparent.as_deref().map(|trace| ("traceparent", trace));
        let record = Record {
            topic: &self.wiring.config.topics.outcomes,
            partition: Some(writing.posting.at.partition),
            key: outcome.job_id.as_bytes(),
            value: Some(&value),
            headers: crate::kafka::versioned(outcome.ids().into_iter().chain(trace).chain(test)),
        };
        self.wiring.producer.try_write(&record, self.on_ack(writing.clone()))
    }

    fn write_dead_letter(&self, writing: &Writing, letter: &DeadLetter, form: Form) -> bool {
        let topics = &self.wiring.config.topics;
        let (key, value, settled): (&[u8], Cow<'_, [u8]>, Option<&Settled>) = match &letter.subject {
            Subject::NoJob { key, value } => (key, value.into(), None),
            Subject::Job(settled) => {
                let value = match &settled.newer {
                    Some(newer) => Cow::Borrowed(&*newer.value),
                    None => self.wiring.codec.write_job(&settled.job).into(),
                };
                (settled.job.credential.as_bytes(), value, Some(settled.as_ref()))
            }
        };
        let ids = settled.into_iter().flat_map(|settled| settled.outcome.ids());
        let known: Vec<(&str, Option<&str>)> = ids
            .map(|(name, id)| (name, Some(id)))
            .chain([
                ("traceparent", letter.trace.as_deref()),
                (VERSION, settled.and_then(version)),
            ])
            .collect();
        let JobAt { partition, offset } = writing.posting.at;
        let whole = Letter {
            key,
            value: Some(&value),
            failure: Failure {
                reason: letter.reason.as_str(),
                detail: &letter.detail,
                source: &topics.jobs,
                place: Some((partition, offset)),
                at: jiff::Timestamp::from_microsecond((self.wiring.wall)()).unwrap_or_default(),
            },
            known: &known,
        };
        let (key, value, headers) = whole.in_form(form);
        let record = Record {
            topic: &topics.dead_letters,
            partition: None,
            key,
            value,
            headers,
        };
        let (metrics, reason) = (Arc::clone(&self.wiring.metrics), letter.reason);
        let on_ack = self.on_ack(writing.clone());
        let counted = move |ack: Acked| {
            if ack.is_ok() {
                metrics.dead_letter(reason);
            }
            on_ack(ack);
        };
        self.wiring.producer.try_write(&record, counted)
    }

    /// Brings Kafka's word back to the loop.
    fn on_ack(&self, writing: Writing) -> impl FnOnce(Acked) + Send + Sync + 'static {
        let back = self.back.clone();
        move |acked| {
            let ack = match acked {
                Ok((_, offset)) => Ack::Taken(offset),
                Err(Unwritten::TooLarge) => Ack::TooLarge,
                Err(error) => {
                    match writing.what {
                        What::Outcome(..) => tracing::warn!(%error, "an outcome was not written; trying again"),
                        What::DeadLetter(..) => tracing::error!(%error, "a dead letter was not written; trying again"),
                    }
                    Ack::Failed
                }
            };
            drop(back.send(Back::Event(Event::Written(writing, ack))));
        }
    }
}

/// The version that wrote a job as its dead letter holds it. What this version reads, it encodes anew.
fn version(settled: &Settled) -> Option<&str> {
    match &settled.newer {
        Some(newer) => newer.needs.version.as_deref(),
        None => Some(OWN_VERSION),
    }
}
