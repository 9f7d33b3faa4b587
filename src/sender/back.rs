//! What tasks and threads beside the loop bring back to it, whatever becomes of them.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::Generation;
use super::partition::{Left, Looked};
use super::read_back::NotRecalled;
use super::write::DeadLetter;
use crate::action::Provider;
use crate::delivery::Cut;
use crate::delivery::dispatch::{Answer, Payload, Settled};
use crate::delivery::lane::JobAt;
use crate::kafka::Form;

/// What comes back to the loop.
pub(super) enum Back {
    Answered {
        attempt: u64,
        provider: Provider,
        answers: Vec<Answer>,
        took: Duration,
    },
    /// Jobs were read again; `None` for what Kafka has no more.
    Loaded {
        load: u64,
        jobs: Vec<(JobAt, Option<Payload>)>,
    },
    /// An outcome to write: Kafka has taken its dead letter, or it is tried again.
    Outcome(Arc<Settled>, Cut, Generation),
    /// Its topic doesn't take the outcome.
    OutcomeRefused(Arc<Settled>, Cut, Generation),
    /// A dead letter to write again.
    DeadLetter(Arc<DeadLetter>, Form),
    /// Its topic doesn't take the dead letter.
    DeadLetterRefused(Arc<DeadLetter>, Form),
    /// Kafka has (or hasn't) taken an outcome.
    Acked {
        at: JobAt,
        generation: u64,
        is_final: bool,
        attempt: Option<u64>,
        outcome_offset: Result<Option<i64>, (Arc<Settled>, Cut)>,
    },
    /// Kafka has not taken a dead letter.
    DeadLetterFailed(Arc<DeadLetter>, Form),
    Recalled {
        partition: i32,
        generation: u64,
        recalled: Result<Box<Left>, NotRecalled>,
    },
    /// Partitions were looked at; those of which Kafka said nothing are left out.
    Looked(Vec<Looked>),
}

/// What comes back from a task or thread whatever becomes of it: a panic mustn't leave a request in flight for
/// ever.
pub(super) struct Promise {
    back: mpsc::UnboundedSender<Back>,
    /// What is told of one that dies.
    broken: Option<Back>,
}

impl Promise {
    pub(super) fn new(back: &mpsc::UnboundedSender<Back>, broken: Back) -> Self {
        Self {
            back: back.clone(),
            broken: Some(broken),
        }
    }

    pub(super) fn keep(mut self, kept: Back) {
        self.broken = None;
        // The loop may be over.
        drop(self.back.send(kept));
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        if let Some(broken) = self.broken.take() {
            drop(self.back.send(broken));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::dispatch::Verdict;

    fn answered(answers: Vec<Answer>) -> Back {
        Back::Answered {
            attempt: 7,
            provider: Provider::Slack,
            answers,
            took: Duration::ZERO,
        }
    }

    #[tokio::test]
    async fn a_request_whose_task_panics_is_answered_all_the_same() {
        let (back, mut came) = mpsc::unbounded_channel();
        let promise = Promise::new(&back, answered(vec![Answer::broken()]));
        let task = tokio::spawn(async move {
            let _promise = promise;
            panic!("a step");
        });
        assert!(task.await.is_err());
        let Some(Back::Answered {
            attempt: 7, answers, ..
        }) = came.recv().await
        else {
            panic!("no answer came back");
        };
        assert_eq!(answers[0].verdict, Verdict::Ambiguous);
        // One that is kept is told once.
        let promise = Promise::new(&back, answered(vec![Answer::broken()]));
        promise.keep(answered(vec![Answer::unsent("not sent")]));
        let Some(Back::Answered { answers, .. }) = came.recv().await else {
            panic!("no answer came back");
        };
        assert_eq!(answers[0].verdict, Verdict::Retry);
        assert!(came.try_recv().is_err());
    }
}
