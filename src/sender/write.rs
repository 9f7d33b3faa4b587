//! Writing outcomes and dead letters. A job is settled once Kafka has both.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Back, Generation, Loop};
use crate::delivery::dispatch::Settled;
use crate::delivery::lane::JobAt;
use crate::delivery::{Cut, OutcomeResult, Unreadable};
use crate::kafka::jobs::RawJob;
use crate::kafka::producer::{Record, Unwritten};
use crate::kafka::{Failure, Form, Letter, OWN_VERSION, VERSION};
use crate::reason::Reason;

/// A dead letter on its way. Its job settles only once Kafka has it.
#[derive(Debug, Clone)]
pub(super) struct DeadLetter {
    at: JobAt,
    generation: u64,
    key: Vec<u8>,
    value: Vec<u8>,
    reason: Reason,
    detail: String,
    trace: Option<Arc<str>>,
    /// `None` for a record that is no job, and has no outcome.
    settled: Option<Arc<Settled>>,
}

impl DeadLetter {
    fn attempt(&self) -> Option<u64> {
        self.settled.as_ref()?.attempt
    }
}

impl Loop {
    /// A record that is no job of ours: a dead letter, so that the offset may move on.
    pub(super) fn undecodable(&mut self, at: JobAt, raw: &RawJob, why: Unreadable) {
        let Some(partition) = self.partitions.get_mut(&at.partition) else {
            return;
        };
        partition.unacknowledged += 1;
        let generation = partition.generation;
        let detail = why.to_string();
        let reason = match why {
            Unreadable::UnknownSchema(_) => Reason::UnknownSchema,
            _ => Reason::NotDecodable,
        };
        tracing::warn!(
            kafka.partition = at.partition,
            kafka.offset = at.offset,
            reason = reason.as_str(),
            detail,
            "a record is no delivery job; dead letter"
        );
        let letter = DeadLetter {
            at,
            generation,
            key: raw.key.clone(),
            value: raw.value.clone(),
            reason,
            detail,
            trace: raw.traceparent.as_deref().map(Arc::from),
            settled: None,
        };
        self.write_dead_letter(Arc::new(letter), Form::Whole);
    }

    /// Writes an outcome, and the dead letter where there is one.
    pub(super) fn settle(&mut self, settled: Settled) {
        let (metrics, provider, outcome) = (&self.at.metrics, settled.job.action.provider(), &settled.outcome);
        metrics.settled(provider, outcome.result);
        if outcome.result == OutcomeResult::Sent {
            let age = outcome.ended_at.saturating_sub(settled.job.occurred_at);
            metrics.delivered(provider, Duration::from_millis(u64::try_from(age).unwrap_or_default()));
        }
        tracing::debug!(
            event.id = outcome.event_id,
            rule.id = outcome.rule_id,
            job.id = outcome.job_id,
            lane = outcome.lane,
            attempt = outcome.attempt,
            result = outcome.result.as_str(),
            "outcome"
        );
        let Some(partition) = self.partitions.get_mut(&settled.at.partition) else {
            return;
        };
        partition.unacknowledged += 1;
        if let Some(attempt) = settled.attempt {
            if self.unacknowledged.is_empty() {
                self.acknowledged_at = Instant::now();
            }
            *self.unacknowledged.entry(attempt).or_default() += 1;
        }
        let generation = partition.generation;
        let settled = Arc::new(settled);
        let Some(reason) = settled.dead else {
            return self.write_outcome(settled, Cut::Whole, generation);
        };
        let outcome = &settled.outcome;
        let detail = outcome.words.clone().unwrap_or_default();
        tracing::warn!(
            event.id = outcome.event_id,
            rule.id = outcome.rule_id,
            job.id = outcome.job_id,
            reason = reason.as_str(),
            words = detail,
            "dead letter"
        );
        let letter = DeadLetter {
            at: settled.at,
            generation,
            key: settled.job.credential.as_bytes().to_vec(),
            value: match &settled.newer {
                Some(newer) => newer.value.to_vec(),
                None => self.at.codec.write_job(&settled.job),
            },
            reason,
            detail,
            trace: settled.traceparent.clone(),
            settled: Some(settled),
        };
        self.write_dead_letter(Arc::new(letter), Form::Whole);
    }

    fn is_ours(&self, partition: i32, generation: Generation) -> bool {
        let ours = self.partitions.get(&partition);
        ours.is_some_and(|partition| partition.generation == generation)
    }

    /// Writes what a `generation` of the partition came to. Of a former one it would be about a job that
    /// another owner has by now, or that isn't there any more.
    pub(super) fn write_outcome(&mut self, settled: Arc<Settled>, cut: Cut, generation: Generation) {
        if !self.is_ours(settled.at.partition, generation) {
            return self.acknowledged(settled.attempt);
        }
        let (back, at) = (self.back.clone(), settled.at);
        let outcome = &settled.outcome;
        let value = self.at.codec.write_outcome(&outcome.cut(cut));
        let trace = settled.traceparent.as_deref().map(|trace| ("traceparent", trace));
        let record = Record {
            topic: &self.at.config.topics.outcomes,
            partition: Some(at.partition),
            key: outcome.job_id.as_bytes(),
            value: Some(&value),
            headers: crate::kafka::versioned(outcome.ids().into_iter().chain(trace)),
        };
        let last = Arc::clone(&settled);
        self.at.producer.write(&record, move |ack| {
            let (is_final, attempt) = (last.outcome.result.is_final(), last.attempt);
            let outcome_offset = match ack {
                Ok((_, offset)) => Ok(Some(offset)),
                Err(Unwritten::TooLarge) => return drop(back.send(Back::OutcomeRefused(last, cut, generation))),
                Err(error) => {
                    tracing::warn!(%error, "an outcome was not written; trying again");
                    Err((last, cut))
                }
            };
            drop(back.send(Back::Acked {
                at,
                generation,
                is_final,
                attempt,
                outcome_offset,
            }));
        });
    }

    /// Its topic doesn't take an outcome: a shorter one has to do. That is an answer, so that Kafka isn't silent.
    pub(super) fn outcome_refused(&mut self, mut settled: Arc<Settled>, cut: Cut, generation: Generation) {
        self.acknowledged_at = Instant::now();
        match cut.shorter() {
            Some(shorter) => self.write_outcome(settled, shorter, generation),
            None => {
                let topic = &self.at.config.topics.outcomes;
                tracing::error!(
                    job.id = settled.outcome.job_id,
                    "{topic} doesn't take an outcome of a few hundred bytes; raise its max.message.bytes"
                );
                self.waits_alone(&mut settled);
                self.later(REFUSED_AGAIN_AFTER, Back::Outcome(settled, cut, generation));
            }
        }
    }

    /// What Kafka doesn't take holds its own job up, and nobody else: its attempt is no longer waited for.
    fn waits_alone(&mut self, settled: &mut Arc<Settled>) {
        let attempt = Arc::make_mut(settled).attempt.take();
        self.acknowledged(attempt);
    }

    /// The same of a dead letter, which is tried again later.
    pub(super) fn letter_waits(&mut self, mut letter: Arc<DeadLetter>, form: Form, after: Duration) {
        if let Some(settled) = &mut Arc::make_mut(&mut letter).settled {
            self.waits_alone(settled);
        }
        self.later(after, Back::DeadLetter(letter, form));
    }

    /// Writes the dead letter of what a `generation` of the partition came to; not of a former one, as with outcomes.
    pub(super) fn write_dead_letter(&mut self, letter: Arc<DeadLetter>, form: Form) {
        if !self.is_ours(letter.at.partition, letter.generation) {
            return self.acknowledged(letter.attempt());
        }
        let topics = &self.at.config.topics;
        let outcome = letter.settled.as_ref().map(|settled| &settled.outcome);
        let known = [
            ("event-id", outcome.map(|outcome| outcome.event_id.as_str())),
            ("rule-id", outcome.map(|outcome| outcome.rule_id.as_str())),
            ("job-id", outcome.map(|outcome| outcome.job_id.as_str())),
            ("traceparent", letter.trace.as_deref()),
            (VERSION, letter.settled.as_deref().and_then(version)),
        ];
        let whole = Letter {
            key: &letter.key,
            value: Some(&letter.value),
            failure: Failure {
                reason: letter.reason.as_str(),
                detail: &letter.detail,
                source: &topics.jobs,
                place: Some((letter.at.partition, letter.at.offset)),
                at: jiff::Timestamp::from_microsecond((self.at.wall)()).unwrap_or_default(),
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
        let (back, metrics, letter) = (self.back.clone(), Arc::clone(&self.at.metrics), Arc::clone(&letter));
        self.at.producer.write(&record, move |ack| {
            let (at, generation) = (letter.at, letter.generation);
            if ack.is_ok() {
                metrics.dead_letter(letter.reason);
            }
            let message = match (ack, &letter.settled) {
                (Ok(_), Some(settled)) => Back::Outcome(Arc::clone(settled), Cut::Whole, generation),
                (Ok(_), None) => Back::Acked {
                    at,
                    generation,
                    is_final: true,
                    attempt: None,
                    outcome_offset: Ok(None),
                },
                (Err(Unwritten::TooLarge), _) => Back::DeadLetterRefused(letter, form),
                (Err(error), _) => {
                    tracing::error!(%error, "a dead letter was not written; trying again");
                    Back::DeadLetterFailed(letter, form)
                }
            };
            drop(back.send(message));
        });
    }

    /// The same as for an outcome.
    pub(super) fn dead_letter_refused(&mut self, letter: Arc<DeadLetter>, form: Form) {
        self.acknowledged_at = Instant::now();
        match form.smaller() {
            Some(smaller) => self.write_dead_letter(letter, smaller),
            None => {
                let topic = &self.at.config.topics.dead_letters;
                tracing::error!(
                    kafka.partition = letter.at.partition,
                    kafka.offset = letter.at.offset,
                    "{topic} doesn't take a dead letter of a few hundred bytes; raise its max.message.bytes"
                );
                self.letter_waits(letter, form, REFUSED_AGAIN_AFTER);
            }
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

/// What Kafka refuses in every form waits for a person, who needs longer than Kafka.
const REFUSED_AGAIN_AFTER: Duration = Duration::from_secs(30);
