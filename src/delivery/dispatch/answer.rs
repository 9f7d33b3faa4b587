//! What an answer makes of its jobs: settled, back in their lane, or waiting with their whole scope.

use std::sync::Arc;
use std::time::Duration;

use super::{
    Answer, Dispatch, InFlight, Micros, OnAmbiguous, OutcomeResult, PROBE_FIRST, PROBE_MAX, Provider, Rate, Reason,
    Request, Scope, Settled, Spacer, Verdict, Waiting, ceil_millis, micros, outcome,
};

impl Dispatch {
    /// Takes in the answers to an attempt, one for each of its jobs in order.
    pub fn answered(&mut self, attempt: u64, answers: Vec<Answer>, now: Micros) -> Vec<Settled> {
        let Some(InFlight {
            lane,
            request,
            jobs,
            started,
        }) = self.attempts.remove(&attempt)
        else {
            return Vec::new();
        };
        assert_eq!(jobs.len(), answers.len(), "every job of an attempt has its answer");
        self.finish(lane, &jobs);
        let mut settled = Vec::new();
        if let Some(answer) = answers.first().filter(|_| request == Request::Join) {
            self.joined(lane, answer, jobs, now);
        } else if jobs.len() > 1 && answers.iter().all(|answer| answer.verdict == Verdict::BatchRefused) {
            // Halves from here on; a single record that is refused is at fault itself.
            self.lanes[lane].batch_max = jobs.len().div_ceil(2);
            jobs.into_iter().for_each(|waiting| self.back(lane, waiting));
        } else {
            let all_taken = answers.iter().all(|answer| answer.verdict == Verdict::Delivered);
            if all_taken && self.lanes[lane].provider == Provider::Clevertap {
                self.lanes[lane].batch_max = self.settings.batch_max;
            }
            for (waiting, answer) in jobs.into_iter().zip(answers) {
                self.settle(lane, waiting, answer, started, now, &mut settled);
            }
        }
        self.queue(lane, now);
        self.queue_credential(&self.lanes[lane].credential.clone(), now);
        settled
    }

    fn finish(&mut self, lane: usize, jobs: &[Waiting]) {
        let state = &mut self.lanes[lane];
        state.lane.release(jobs.iter());
        state.lane.in_flight -= 1;
        self.in_flight -= 1;
        self.credentials
            .get_mut(&state.credential)
            .expect("a lane's credential is known")
            .in_flight -= 1;
        *self.hosts.get_mut(&state.host).expect("a lane's host is known") -= 1;
    }

    /// Back into the queue, unless its partition went away meanwhile.
    fn back(&mut self, lane: usize, waiting: Waiting) {
        if self.partitions.contains_key(&waiting.at.partition) {
            self.lanes[lane].lane.push(waiting);
        } else {
            self.waiting -= 1;
            self.bytes -= waiting.bytes;
        }
    }

    /// After a join the message goes again; a join that was refused leaves its words to the message.
    fn joined(&mut self, lane: usize, answer: &Answer, jobs: Vec<Waiting>, now: Micros) {
        self.lanes[lane].join_next = false;
        self.lanes[lane].joined = true;
        match answer.verdict {
            Verdict::Throttled { retry_after, .. } => {
                self.lanes[lane].join_next = true;
                self.throttle(lane, Scope::Credential, retry_after, now);
            }
            Verdict::Retry | Verdict::Ambiguous => {
                // Joining twice does no harm.
                self.lanes[lane].joined = false;
            }
            _ => {}
        }
        jobs.into_iter().for_each(|waiting| self.back(lane, waiting));
    }

    fn settle(
        &mut self,
        lane: usize,
        mut waiting: Waiting,
        answer: Answer,
        started: Micros,
        now: Micros,
        settled: &mut Vec<Settled>,
    ) {
        waiting.attempts += 1;
        let mut outcome = outcome(&waiting, OutcomeResult::Sent, now);
        outcome.started_at = Some(started / 1000);
        outcome.status = answer.status.map(i32::from);
        outcome.words = Some(answer.words.clone()).filter(|words| !words.is_empty());
        outcome.message_id = answer.message_id;
        let verdict = match answer.verdict {
            // A message alone that is refused, a second `not_in_channel` and a rule that would
            // rather lose a message than repeat it are final.
            Verdict::BatchRefused => Verdict::Rejected(Reason::MessageRejected),
            Verdict::NotOpen => Verdict::Rejected(Reason::DestinationGone),
            Verdict::NotInChannel if !self.settings.join || self.lanes[lane].joined => {
                Verdict::Rejected(Reason::DestinationGone)
            }
            Verdict::Ambiguous if waiting.job.on_ambiguous == OnAmbiguous::Dead => Verdict::Rejected(Reason::GaveUp),
            verdict => verdict,
        };
        let mut dead = None;
        match verdict {
            Verdict::Delivered => {
                self.sent.insert(&waiting.job.job_id, now, now);
                self.recovered(lane);
            }
            Verdict::Rejected(reason) => dead = Some(reason),
            Verdict::Throttled { scope, retry_after } => {
                outcome.result = OutcomeResult::Throttled;
                outcome.next_at = Some(ceil_millis(self.throttle(lane, scope, retry_after, now)));
            }
            Verdict::CredentialRefused => {
                outcome.result = OutcomeResult::Retry;
                outcome.next_at = Some(ceil_millis(self.refuse_credential(lane, now)));
            }
            Verdict::NotInChannel => {
                self.lanes[lane].join_next = true;
                outcome.result = OutcomeResult::Retry;
                outcome.next_at = Some(now / 1000);
            }
            Verdict::Retry | Verdict::Ambiguous | Verdict::BatchRefused | Verdict::NotOpen => {
                let since = *waiting.failing_since.get_or_insert(now);
                if now - since >= micros(self.settings.give_up_after) {
                    dead = Some(Reason::GaveUp);
                } else {
                    waiting.aside = now - since >= micros(self.settings.step_aside);
                    waiting.not_before = now + self.backoff(waiting.attempts);
                    outcome.result = OutcomeResult::Retry;
                    outcome.next_at = Some(ceil_millis(waiting.not_before));
                    if waiting.aside {
                        let words = outcome.words.take().unwrap_or_default();
                        outcome.words = Some(format!("stepped aside; {words}"));
                    }
                }
            }
        }
        if let Some(reason) = dead {
            outcome.result = OutcomeResult::Dead;
            outcome.reason = Some(reason.as_str().to_owned());
        }
        let (at, job) = (waiting.at, Arc::clone(&waiting.job));
        if outcome.result.is_final() {
            self.waiting -= 1;
            self.bytes -= waiting.bytes;
        } else {
            self.back(lane, waiting);
        }
        settled.push(Settled { at, job, outcome, dead });
    }

    /// Freezes a scope as an answer says; without a delay, our own grows from one second on.
    fn throttle(&mut self, lane: usize, scope: Scope, retry_after: Option<Duration>, now: Micros) -> Micros {
        let credential = self
            .credentials
            .get_mut(&self.lanes[lane].credential)
            .expect("a lane's credential is known");
        credential.throttles += 1;
        let delay = match retry_after {
            Some(delay) => micros(delay),
            None => self.backoff(self.credentials[&self.lanes[lane].credential].throttles.min(30) as i32),
        };
        self.freeze(lane, scope, now + delay, now, "throttled");
        now + delay
    }

    fn refuse_credential(&mut self, lane: usize, now: Micros) -> Micros {
        let credential = self
            .credentials
            .get_mut(&self.lanes[lane].credential)
            .expect("a lane's credential is known");
        let interval = credential
            .refused
            .map_or(PROBE_FIRST, |interval| (interval * 2).min(PROBE_MAX));
        credential.refused = Some(interval);
        self.freeze(lane, Scope::Credential, now + interval, now, "credential_refused");
        now + interval
    }

    fn recovered(&mut self, lane: usize) {
        let state = &mut self.lanes[lane];
        state.frozen_why = None;
        let credential = self
            .credentials
            .get_mut(&state.credential)
            .expect("a lane's credential is known");
        credential.refused = None;
        credential.throttles = 0;
    }

    pub(super) fn freeze(&mut self, lane: usize, scope: Scope, until: Micros, now: Micros, why: &'static str) {
        let credential = self.lanes[lane].credential.clone();
        match (scope, &mut self.lanes[lane].spacer) {
            (Scope::Lane, Some(spacer)) => {
                spacer.freeze(until);
                self.lanes[lane].frozen_why = Some(why);
                self.lanes[lane].lane.forgive(until - now);
            }
            _ => {
                let state = self
                    .credentials
                    .get_mut(&credential)
                    .expect("a lane's credential is known");
                // A credential without a rate of its own is only ever frozen, never spaced.
                let spacer = state
                    .spacer
                    .get_or_insert_with(|| Spacer::new(Rate::per_second(1_000_000), now - 2));
                spacer.freeze(until);
                for other in self.lanes.iter_mut().filter(|other| other.credential == credential) {
                    other.frozen_why = Some(why);
                    other.lane.forgive(until - now);
                }
            }
        }
    }

    /// Doubles from `retry.initial` to `retry.max`, ±20 %.
    fn backoff(&mut self, attempts: i32) -> Micros {
        let doubled = micros(self.settings.retry_initial).saturating_mul(1 << (attempts - 1).clamp(0, 30));
        let capped = doubled.min(micros(self.settings.retry_max));
        (capped as f64 * (0.8 + 0.4 * self.rng.f64())) as Micros
    }
}
