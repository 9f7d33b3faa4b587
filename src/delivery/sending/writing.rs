//! Outcomes and dead letters on their way to Kafka. A job is settled once Kafka has both.

use std::sync::Arc;
use std::time::Duration;

use super::{AGAIN_AFTER, Effect, Gone, NoJob, Notice, REFUSED_AGAIN_AFTER, Sending};
use crate::delivery::Cut;
use crate::delivery::dispatch::Settled;
use crate::delivery::lane::JobAt;
use crate::delivery::ledger::Posting;
use crate::delivery::limit::Micros;
use crate::reason::{Form, Reason};

/// A dead letter or an outcome to write.
#[derive(Debug, Clone)]
pub struct Writing {
    pub posting: Posting,
    pub what: What,
}

#[derive(Debug, Clone)]
pub enum What {
    DeadLetter(Arc<DeadLetter>, Form),
    Outcome(Arc<Settled>, Cut),
}

#[derive(Debug)]
pub struct DeadLetter {
    pub subject: Subject,
    pub reason: Reason,
    pub detail: String,
    pub trace: Option<Arc<str>>,
}

/// What a dead letter is of.
#[derive(Debug)]
pub enum Subject {
    /// A job; its outcome is written next.
    Job(Arc<Settled>),
    /// A record that is no job, and has no outcome.
    NoJob { key: Vec<u8>, value: Vec<u8> },
}

/// Kafka's word on what was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ack {
    /// It stands at this offset of its partition.
    Taken(i64),
    /// Its topic doesn't take it, and never will.
    TooLarge,
    /// Kafka is away, or said anything else.
    Failed,
}

impl What {
    /// The next smaller form.
    fn smaller(&self) -> Option<Self> {
        match self {
            Self::DeadLetter(letter, form) => Some(Self::DeadLetter(Arc::clone(letter), form.smaller()?)),
            Self::Outcome(settled, cut) => Some(Self::Outcome(Arc::clone(settled), cut.shorter()?)),
        }
    }
}

impl Sending {
    /// Jobs were answered for, or ended without a request: their outcomes are written, and dead letters before them.
    pub(super) fn settle(&mut self, settled: Vec<Settled>, now: Micros) {
        for one in settled {
            let Some(posting) = self.dispatch.ledger.post(one.at, one.attempt, now) else {
                continue;
            };
            let one = Arc::new(one);
            self.say(Notice::Settled(Arc::clone(&one)));
            let what = match one.dead {
                None => What::Outcome(one, Cut::Whole),
                Some(reason) => {
                    let letter = DeadLetter {
                        reason,
                        detail: one.outcome.words.clone().unwrap_or_default(),
                        trace: one.traceparent.clone(),
                        subject: Subject::Job(one),
                    };
                    What::DeadLetter(Arc::new(letter), Form::Whole)
                }
            };
            self.effects.push(Effect::Write(Writing { posting, what }));
        }
    }

    /// A record that is no job becomes a dead letter, so that the offset may move on.
    pub(super) fn bury(&mut self, at: JobAt, no_job: NoJob, now: Micros) {
        let Some(posting) = self.dispatch.ledger.post(at, None, now) else {
            return;
        };
        let (reason, detail) = (no_job.reason, no_job.detail);
        self.say(Notice::NoJob {
            at,
            reason,
            detail: detail.clone(),
        });
        let letter = DeadLetter {
            subject: Subject::NoJob {
                key: no_job.key,
                value: no_job.value,
            },
            reason,
            detail,
            trace: no_job.trace,
        };
        let what = What::DeadLetter(Arc::new(letter), Form::Whole);
        self.effects.push(Effect::Write(Writing { posting, what }));
    }

    /// Whether this is still to be written. Of a former ownership it would be about a job that another owner has by
    /// now, or that isn't there any more.
    pub fn is_current(&self, writing: &Writing) -> bool {
        let posting = &writing.posting;
        self.dispatch.ledger.is_ours(posting.at.partition, posting.ownership)
    }

    pub(super) fn write(&mut self, writing: Writing) {
        if self.is_current(&writing) {
            self.effects.push(Effect::Write(writing));
        } else {
            self.dispatch.ledger.acknowledge(&writing.posting);
        }
    }

    pub(super) fn written(&mut self, writing: Writing, ack: Ack, now: Micros) {
        // A refusal is an answer, too: Kafka isn't away.
        if ack != Ack::Failed {
            self.dispatch.ledger.hear(now);
        }
        if !self.is_current(&writing) {
            return self.dispatch.ledger.acknowledge(&writing.posting);
        }
        match ack {
            Ack::Taken(offset) => self.taken(writing, offset),
            Ack::TooLarge => match writing.what.smaller() {
                Some(what) => self.effects.push(Effect::Write(Writing { what, ..writing })),
                None => {
                    self.say(Notice::Refused(writing.clone()));
                    self.write_alone(writing, REFUSED_AGAIN_AFTER);
                }
            },
            Ack::Failed => match writing.what {
                What::DeadLetter(..) => self.write_alone(writing, AGAIN_AFTER),
                // Until Kafka has it, the job isn't settled, and its attempt counts as in flight.
                What::Outcome(..) => self.effects.push(Effect::WriteLater(writing, AGAIN_AFTER)),
            },
        }
    }

    /// Writes it again after a while, when its job alone waits for it.
    fn write_alone(&mut self, mut writing: Writing, after: Duration) {
        self.dispatch.ledger.wait_alone(&mut writing.posting);
        self.effects.push(Effect::WriteLater(writing, after));
    }

    /// Kafka has it.
    fn taken(&mut self, writing: Writing, offset: i64) {
        let posting = writing.posting;
        match writing.what {
            What::DeadLetter(letter, _) => match &letter.subject {
                Subject::Job(settled) => {
                    let what = What::Outcome(Arc::clone(settled), Cut::Whole);
                    self.effects.push(Effect::Write(Writing { posting, what }));
                }
                Subject::NoJob { .. } => {
                    self.dispatch.ledger.acknowledge(&posting);
                    self.dispatch.ledger.settle(posting.at);
                }
            },
            What::Outcome(settled, _) => {
                self.dispatch.ledger.acknowledge(&posting);
                if settled.outcome.result.is_final() {
                    self.dispatch.ledger.settle(posting.at);
                }
                let partition = posting.at.partition;
                if !self.dispatch.ledger.outcome_stands(partition, offset) {
                    self.gone(partition, Gone::OutcomeWentBack { offset });
                }
            }
        }
    }
}
