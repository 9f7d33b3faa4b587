//! What jobs have in common by their rule, and how the outcome of one begins.

use std::sync::Arc;

use super::{
    Cap, Cause, Class, DeliveryJob, Dispatch, Entry, JobAt, Micros, Number, Origin, Outcome, OutcomeResult, Payload,
    Rate, Reason, Settled,
};

impl Dispatch {
    pub(super) fn class_of(&mut self, job: &DeliveryJob, cause: Cause) -> Number<Class> {
        let known = self.origin_by_rule.get(&job.rule_id).copied();
        let origin = known.unwrap_or_else(|| {
            let rule_id = job.rule_id.clone();
            let number = self.origins.push(Origin { rule_id, cap: None });
            self.origin_by_rule.insert(job.rule_id.clone(), number);
            number
        });
        let max_rate = job.max_rate.as_deref().and_then(|rate| Rate::parse(rate).ok());
        let class = Class {
            origin,
            version: job.rule_version,
            digest_after: job.digest_after.map(|after| after.saturating_mul(1000)),
            max_rate,
            cause,
        };
        if let Some(number) = self.class_by_value.get(&class) {
            return *number;
        }
        if let Some(rate) = max_rate {
            let known = self.origins[origin].cap.take().map(Cap::into_starts);
            let mut cap = Cap::new(rate, known.unwrap_or_default());
            cap.recall(&self.started.remove(&job.rule_id).unwrap_or_default());
            self.origins[origin].cap = Some(cap);
        }
        let number = self.classes.push(class.clone());
        self.class_by_value.insert(class, number);
        number
    }

    pub(super) fn outcome(&self, at: JobAt, job: &DeliveryJob, result: OutcomeResult, now: Micros) -> Outcome {
        let mut outcome = job.outcome(result, self.wall(now) / 1000);
        outcome.attempt = self.tried.get(&at).map_or(0, |tried| tried.attempts);
        outcome.job_partition = Some(at.partition);
        outcome.job_offset = Some(at.offset);
        outcome
    }

    /// Ends a job: nothing of it stays but its bit, which is set when Kafka has the outcome.
    pub(super) fn end(&mut self, entry: Entry, payload: &Payload, outcome: Outcome, dead: Option<Reason>) -> Settled {
        let (at, is_test) = (entry.at(), self.is_test(entry));
        self.forget(at);
        self.tried.remove(&at);
        self.tests.remove(&at);
        Settled {
            at,
            job: Arc::clone(&payload.job),
            traceparent: payload.traceparent.clone(),
            outcome,
            dead: dead.filter(|_| !is_test),
            attempt: None,
            newer: payload.newer.clone(),
            is_test,
        }
    }

    /// Whether a person tries a rule with it.
    pub(super) fn is_test(&self, entry: Entry) -> bool {
        self.classes[entry.class].cause == Cause::Test
    }
}
