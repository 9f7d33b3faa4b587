//! The results that tasks and threads send back to the loop, whatever becomes of them.

use std::time::Duration;

use tokio::sync::mpsc;

use crate::action::Provider;
use crate::delivery::dispatch::Answer;
use crate::delivery::sending::Event;

/// What comes back to the loop.
pub(super) enum Back {
    /// A request was answered, with what metrics want to know of it.
    Answered {
        attempt: u64,
        provider: Provider,
        credential: String,
        answers: Vec<Answer>,
        took: Duration,
    },
    Event(Event),
}

/// What comes back from a task or thread whatever becomes of it: a panic mustn't leave a request in flight for
/// ever.
pub(super) struct Promise {
    back: mpsc::UnboundedSender<Back>,
    /// What comes back of one that dies.
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
            credential: "slack:bot".to_owned(),
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
        // A promise that is kept speaks once.
        let promise = Promise::new(&back, answered(vec![Answer::broken()]));
        promise.keep(answered(vec![Answer::unsent("not sent")]));
        let Some(Back::Answered { answers, .. }) = came.recv().await else {
            panic!("no answer came back");
        };
        assert_eq!(answers[0].verdict, Verdict::Retry);
        assert!(came.try_recv().is_err());
    }
}
