//! Applies an answer to the jobs of its request: they are settled, go back to their lane, or wait with their whole
//! scope.

use std::collections::HashSet;
use std::sync::Arc;

use super::doom::Doom;
use super::{
    Answer, DeliveryJob, Dispatch, Entry, FreezeScope, InFlight, LaneState, Micros, Number, OnAmbiguous, Outcome,
    OutcomeResult, Ownership, Prelude, Reason, Request, Settled, Tried, Verdict, ceil_millis, micros,
};
use crate::delivery::sent::{ThreadKey, id_bytes};

/// What an answer means for all that its request went through.
#[derive(Debug, Clone, Copy)]
struct Freeze {
    scope: FreezeScope,
    until: Micros,
    result: OutcomeResult,
}

impl Dispatch {
    /// Takes in the answers to an attempt: one for each of its jobs in order, or one for all.
    pub fn answered(&mut self, attempt: u64, mut answers: Vec<Answer>, now: Micros) -> Vec<Settled> {
        let Some(flight) = self.attempts.remove(&attempt) else {
            return Vec::new();
        };
        if let [answer] = &answers[..] {
            answers = vec![answer.clone(); flight.entries.len()];
        }
        assert_eq!(
            flight.entries.len(),
            answers.len(),
            "every job of an attempt has its answer"
        );
        let (lane, keys) = (flight.lane, keys(&flight));
        let credential = self.lanes[lane].credential;
        let host = self.credentials[credential].host;
        self.lanes[lane].in_flight -= 1;
        self.credentials[credential].slots.give_back(flight.standing);
        self.hosts[host].slots.give_back(flight.standing);
        self.in_flight -= 1;
        let mut settled = match flight.request {
            Request::Send => self.answered_send(flight, answers, now),
            Request::Join | Request::Open | Request::Probe => {
                let heard = self.answered_first(&flight, &answers[0], now);
                self.back(lane, flight.entries, flight.latest, now);
                heard.into_iter().collect()
            }
        };
        self.lanes[lane].lane.release(keys);
        self.queue(lane, now);
        self.queue_credential(credential, now);
        self.unpark(host, now);
        settled.iter_mut().for_each(|one| one.attempt = Some(attempt));
        settled
    }

    /// Jobs go back to where they were, not before the time given.
    fn back(&mut self, lane: Number<LaneState>, entries: Vec<Entry>, latest: Ownership, not_before: Micros) {
        let entries = self.still_ours(lane, entries, latest);
        let (tests, entries): (Vec<Entry>, Vec<Entry>) = entries.into_iter().partition(|entry| self.is_test(*entry));
        (tests.into_iter()).for_each(|test| self.lanes[lane].lane.push_test(test));
        let (aside, held): (Vec<Entry>, Vec<Entry>) =
            (entries.into_iter()).partition(|entry| self.tried.get(&entry.at()).is_some_and(|tried| tried.aside));
        self.lanes[lane].lane.step_aside(aside, not_before);
        self.lanes[lane].lane.hold(held, not_before);
    }

    /// Those that are to be sent still: whose partitions neither went away nor are about to, and whose
    /// rules and credential have not ended them.
    fn still_ours(&mut self, lane: Number<LaneState>, mut entries: Vec<Entry>, latest: Ownership) -> Vec<Entry> {
        entries.retain(|entry| self.ledger.goes_on(entry.at().partition, latest));
        // The rules may have changed, or the credential was refused, while they were in flight.
        let fate = |entry: &Entry| {
            let payload = self.payloads.get(&entry.at())?;
            Some((self.fate(lane, entry.class, payload)?, *entry))
        };
        let doomed: Vec<(Doom, Entry)> = entries.iter().filter_map(fate).collect();
        for (fate, entry) in doomed {
            entries.retain(|other| *other != entry);
            self.doom(fate, [entry]);
        }
        entries
    }

    /// What was asked before the message: the message goes next, whatever came of it, and its own
    /// answer says whether that was enough. Gives the outcome that tells a successor of a freeze.
    fn answered_first(&mut self, flight: &InFlight, answer: &Answer, now: Micros) -> Option<Settled> {
        let (asked, lane) = (flight.request, flight.lane);
        let before = self.frozen_for(lane, now);
        let number = self.lanes[lane].credential;
        let again = matches!(
            answer.verdict,
            Verdict::Throttled { .. } | Verdict::Retry | Verdict::Ambiguous
        );
        self.hear(lane, is_failure(&answer.verdict), flight.started, now);
        let mut heard = None;
        if let Verdict::Throttled { retry_after, .. } = answer.verdict {
            let until = self.throttle(lane, FreezeScope::Credential, retry_after, flight.started, now);
            heard = self.heard_before(flight, answer, OutcomeResult::Throttled, until, now);
        } else if again {
            // Asking twice does no harm, but not at once.
            let delay = self.backoff(1);
            self.freeze_lane(lane, now + delay, Micros::MIN, now);
        }
        let step = if again { Prelude::Next } else { Prelude::Done };
        match asked {
            Request::Join => self.lanes[lane].join = step,
            Request::Open => {
                self.lanes[lane].open = step;
                self.lanes[lane].channel = answer.channel.clone();
            }
            Request::Probe | Request::Send => match answer.verdict {
                Verdict::CredentialRefused => {
                    let until = self.refuse(number, flight.started, now);
                    heard = self.heard_before(flight, answer, OutcomeResult::Retry, until, now);
                }
                _ if again => {}
                _ => {
                    if let Some(refused) = &mut self.credentials[number].refused {
                        refused.probed = true;
                    }
                }
            },
        }
        let frozen_longer = self.frozen_for(lane, now) - before;
        self.forgive_these(&flight.entries, frozen_longer);
        heard
    }

    /// The outcome of a job whose request didn't come to be made, because its credential is frozen: a successor and
    /// people learn from it until when and why.
    fn heard_before(
        &self,
        flight: &InFlight,
        answer: &Answer,
        result: OutcomeResult,
        until: Micros,
        now: Micros,
    ) -> Option<Settled> {
        let entry = flight
            .entries
            .first()
            .filter(|entry| !self.ledger.is_former(entry.at().partition, flight.latest))?;
        let at = entry.at();
        let payload = self.payloads.get(&at)?;
        let mut outcome = self.outcome(at, &payload.job, result, now);
        outcome.started_at = Some(self.wall(flight.started) / 1000);
        outcome.status = answer.status.map(i32::from);
        outcome.words = Some(answer.words.clone()).filter(|words| !words.is_empty());
        outcome.scope = Some(FreezeScope::Credential.as_str().to_owned());
        outcome.next_at = Some(ceil_millis(self.wall(until)));
        Some(Settled {
            at,
            job: Arc::clone(&payload.job),
            traceparent: payload.traceparent.clone(),
            outcome,
            dead: None,
            attempt: None,
            newer: None,
            is_test: self.is_test(*entry),
        })
    }

    fn answered_send(&mut self, flight: InFlight, answers: Vec<Answer>, now: Micros) -> Vec<Settled> {
        let (lane, credential) = (flight.lane, self.lanes[flight.lane].credential);
        let count = flight.entries.len();
        if count > 1 && answers.iter().all(|answer| answer.verdict == Verdict::BatchRefused) {
            // A single record that is refused is at fault itself.
            let entries = self.still_ours(lane, flight.entries, flight.latest);
            self.lanes[lane].lane.halve(entries, now);
            return Vec::new();
        }
        let before = self.frozen_for(lane, now);
        let freeze = self.react(&flight, &answers, now);
        let frozen_longer = self.frozen_for(lane, now) - before;
        let all_delivered = answers.iter().all(|answer| answer.verdict == Verdict::Delivered);
        if all_delivered && self.credentials[credential].pacing.adapts {
            self.widen(credential);
        }
        let attempts = flight.entries.iter().filter_map(|entry| self.tried.get(&entry.at()));
        let attempts = attempts.map(|tried| tried.attempts).max().unwrap_or(0) + 1;
        let retry_at = now + self.backoff(attempts);
        let next_at = ceil_millis(self.wall(retry_at));
        let mut settled = Vec::with_capacity(count);
        let (mut frozen, mut failed, mut aside) = (Vec::new(), Vec::new(), Vec::new());
        for ((entry, job), answer) in flight.entries.iter().zip(&flight.jobs).zip(answers) {
            let (is_test, refused) = (self.is_test(*entry), answer.verdict == Verdict::CredentialRefused);
            if answer.verdict == Verdict::Delivered
                && !is_test
                && let Some(id) = id_bytes(&job.job_id)
            {
                // Should the job come back to us, it was sent all the same.
                self.sent.insert(id, now, now);
            }
            let Some(mut one) = self.settle(&flight, *entry, answer, freeze, now) else {
                continue;
            };
            if is_test && one.outcome.scope.is_some() {
                // A successor has to know of the freeze, and nobody tries it again.
                if let Some(payload) = self.payloads.get(&entry.at()).cloned() {
                    let last = self.end_tried(*entry, &payload, &one.outcome, refused);
                    settled.extend([one, last]);
                }
                continue;
            }
            if !one.outcome.result.is_final() {
                let tried = self.tried.get_mut(&entry.at()).expect("an attempt was counted");
                tried.failing_since += frozen_longer;
                if one.outcome.scope.is_some() {
                    frozen.push(*entry);
                } else if one.outcome.next_at.is_some() {
                    // To be joined or opened first, and then at once.
                    frozen.push(*entry);
                } else {
                    tried.aside = now - tried.failing_since >= micros(self.settings.step_aside);
                    one.outcome.next_at = Some(next_at);
                    if tried.aside {
                        let words = one.outcome.words.take().unwrap_or_default();
                        one.outcome.words = Some(format!("stepped aside; {words}"));
                        aside.push(*entry);
                    } else {
                        failed.push(*entry);
                    }
                }
            }
            settled.push(one);
        }
        self.back(lane, frozen, flight.latest, now);
        self.back(lane, failed, flight.latest, retry_at);
        self.back(lane, aside, flight.latest, retry_at);
        settled
    }

    /// What the answers say of the credential and the lane as a whole.
    fn react(&mut self, flight: &InFlight, answers: &[Answer], now: Micros) -> Option<Freeze> {
        let (lane, number) = (flight.lane, self.lanes[flight.lane].credential);
        let mut heard = answers.iter().filter(|answer| !answer.is_of_one()).peekable();
        heard.peek()?;
        let failed = heard.clone().all(|answer| is_failure(&answer.verdict));
        self.hear(lane, failed, flight.started, now);
        if failed {
            return None;
        }
        match &heard.next()?.verdict {
            Verdict::Throttled { scope, retry_after } => Some(Freeze {
                scope: *scope,
                until: self.throttle(lane, *scope, *retry_after, flight.started, now),
                result: OutcomeResult::Throttled,
            }),
            Verdict::CredentialRefused => Some(Freeze {
                scope: FreezeScope::Credential,
                until: self.refuse(number, flight.started, now),
                result: OutcomeResult::Retry,
            }),
            _ => {
                // Whatever it says, it says it to a credential that works.
                let credential = &mut self.credentials[number];
                credential.throttles = 0;
                credential.refused = None;
                None
            }
        }
    }

    /// One job's outcome; `None` where the job went to another owner meanwhile.
    fn settle(
        &mut self,
        flight: &InFlight,
        entry: Entry,
        answer: Answer,
        freeze: Option<Freeze>,
        now: Micros,
    ) -> Option<Settled> {
        let (at, lane) = (entry.at(), flight.lane);
        if self.ledger.is_former(at.partition, flight.latest) {
            // Another job may stand there by now.
            return None;
        }
        let payload = self.payloads.get(&at).cloned()?;
        let job = &payload.job;
        let tried = self.tried.entry(at).or_insert_with(|| Tried {
            failing_since: flight.started,
            ..Tried::default()
        });
        tried.attempts += 1;
        let failing_since = tried.failing_since;
        let mut outcome = self.outcome(at, job, OutcomeResult::Sent, now);
        outcome.started_at = Some(self.wall(flight.started) / 1000);
        outcome.status = answer.status.map(i32::from);
        outcome.words = Some(answer.words).filter(|words| !words.is_empty());
        outcome.message_id = answer.message_id;
        let verdict = self.last_word(lane, entry, job, answer.verdict, now - failing_since);
        let mut dead = None;
        match verdict {
            Verdict::Delivered => {
                if flight.entries.len() > 1 && self.credentials[self.lanes[lane].credential].pacing.batch.is_none() {
                    outcome.result = OutcomeResult::Digested;
                }
                self.remember_thread(flight, job, &mut outcome, now);
            }
            Verdict::Rejected(reason) => {
                outcome.result = OutcomeResult::Dead;
                outcome.reason = Some(reason.as_str().to_owned());
                dead = Some(reason);
            }
            Verdict::NotInChannel => {
                self.lanes[lane].join = Prelude::Next;
                (outcome.result, outcome.next_at) = (OutcomeResult::Retry, Some(self.wall(now) / 1000));
            }
            Verdict::NotOpen => {
                self.lanes[lane].open = Prelude::Next;
                (outcome.result, outcome.next_at) = (OutcomeResult::Retry, Some(self.wall(now) / 1000));
            }
            _ => {
                outcome.result = freeze.map_or(OutcomeResult::Retry, |freeze| freeze.result);
                outcome.scope = freeze.map(|freeze| freeze.scope.as_str().to_owned());
                outcome.next_at = freeze.map(|freeze| ceil_millis(self.wall(freeze.until)));
            }
        }
        if outcome.result.is_final() {
            return Some(self.end(entry, &payload, outcome, dead));
        }
        Some(Settled {
            at,
            job: payload.job,
            traceparent: payload.traceparent,
            outcome,
            dead,
            attempt: None,
            newer: None,
            is_test: self.is_test(entry),
        })
    }

    /// What an answer means for this job: what was tried in vain is final.
    fn last_word(
        &self,
        lane: Number<LaneState>,
        entry: Entry,
        job: &DeliveryJob,
        verdict: Verdict,
        failing_for: Micros,
    ) -> Verdict {
        let state = &self.lanes[lane];
        let give_up = self.is_test(entry) || failing_for >= micros(self.settings.give_up_after);
        match verdict {
            // A record alone that is refused, a second `not_in_channel` and a rule that would
            // rather lose a message than repeat it are final.
            Verdict::BatchRefused => Verdict::Rejected(Reason::MessageRejected),
            Verdict::NotInChannel if !self.settings.join || state.join == Prelude::Done => GONE,
            Verdict::NotOpen if state.open == Prelude::Done => GONE,
            Verdict::Ambiguous if job.on_ambiguous == OnAmbiguous::Dead => Verdict::Rejected(Reason::GaveUp),
            Verdict::Retry | Verdict::Ambiguous if give_up => Verdict::Rejected(Reason::GaveUp),
            verdict => verdict,
        }
    }

    /// A message that began a lead's thread, or went into it.
    fn remember_thread(&mut self, flight: &InFlight, job: &DeliveryJob, outcome: &mut Outcome, now: Micros) {
        let alone = flight.entries.len() == 1;
        if flight.thread_ts.is_some() {
            outcome.thread_ts = flight.thread_ts.clone();
        } else if job.thread && alone {
            outcome.thread_ts = outcome.message_id.clone();
        }
        if let Some(ts) = &outcome.thread_ts {
            let lane = &self.lanes[flight.lane].id;
            let lead_id = &job.lead_id;
            self.threads.insert(ThreadKey { lane, lead_id }, ts, now, now);
        }
    }
}

/// Whether a request came to nothing.
fn is_failure(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Retry | Verdict::Ambiguous)
}

fn keys(flight: &InFlight) -> HashSet<u32> {
    flight.entries.iter().map(|entry| entry.key).collect()
}

const GONE: Verdict = Verdict::Rejected(Reason::DestinationGone);
