//! Tests: a person tries a rule, and waits for what comes of it.
//!
//! A test goes before all other jobs of its lane, alone, within every limit. It has one attempt, which may join a channel
//! or open a conversation before, as a message does. One that can't start in time is over as soon as that is known. No
//! test counts as a match, is held for a repeat or becomes a dead letter; a freeze that its answer asks for holds.

use super::{Dispatch, Entry, JobAt, LaneState, Micros, Number, Outcome, OutcomeResult, Payload, Reason, Settled};
use crate::dates::time_text;

/// No test waits longer for its turn.
const WAIT_MAX: Micros = 15_000_000;

/// A test that isn't settled.
#[derive(Debug)]
pub(super) struct Test {
    lane: Number<LaneState>,
    until: Micros,
}

impl Dispatch {
    pub(super) fn accept_test(&mut self, lane: Number<LaneState>, entry: Entry, payload: Payload, now: Micros) {
        let expires = payload.job.expires_at.map(|expires| expires.saturating_mul(1000));
        let expires = expires.map_or(Micros::MAX, |expires| expires.saturating_sub(self.ahead));
        let until = expires.min(now + WAIT_MAX);
        self.tests.insert(entry.at(), Test { lane, until });
        self.keep(entry.at(), payload);
        self.lanes[lane].lane.push_test(entry);
        self.queue(lane, now);
    }

    /// When the next test is over that waits.
    pub(super) fn tests_until(&self) -> Micros {
        let waiting = self
            .tests
            .iter()
            .filter(|(at, test)| self.lanes[test.lane].lane.has_test(**at));
        waiting.map(|(_, test)| test.until).min().unwrap_or(Micros::MAX)
    }

    /// Ends the tests that can't start in time.
    pub(super) fn end_tests(&mut self, now: Micros, settled: &mut Vec<Settled>) {
        if self.tests.is_empty() {
            return;
        }
        let over = |(at, test): (&JobAt, &Test)| Some((*at, test.lane, self.why_over(*at, test, now)?));
        let over: Vec<_> = self.tests.iter().filter_map(over).collect();
        for (at, lane, why) in over {
            let Some(payload) = self.payloads.get(&at).cloned() else {
                debug_assert!(false, "a test that waits is in memory");
                continue;
            };
            let mut outcome = self.outcome(at, &payload.job, OutcomeResult::Expired, now);
            outcome.words = Some(format!("not sent: {why}"));
            if let Some(entry) = self.lanes[lane].lane.pull_test(at) {
                settled.push(self.end(entry, &payload, outcome, None));
            }
            self.queue(lane, now);
        }
    }

    /// Why a test that waits can't start in time; `None` as long as it may.
    fn why_over(&self, at: JobAt, test: &Test, now: Micros) -> Option<String> {
        let lane = &self.lanes[test.lane];
        let credential = &self.credentials[lane.credential];
        if !lane.lane.has_test(at) {
            return None;
        }
        if let Some(words) = self.pause_words(lane) {
            return Some(words);
        }
        if self.held.holds(&credential.id) {
            return Some(format!(
                "{} is held by jobs of a newer version; upgrade the senders",
                credential.id
            ));
        }
        let (of, frozen_until) = match credential.frozen_until >= lane.frozen_until {
            true => (&credential.id, credential.frozen_until),
            false => (&lane.id, lane.frozen_until),
        };
        if frozen_until >= test.until && frozen_until > now {
            let why = match credential.refused {
                Some(_) => "the credential is refused",
                None => "throttled",
            };
            let until = time_text(self.wall(frozen_until) / 1000);
            return Some(format!("{of} is frozen until {until}: {why}"));
        }
        (test.until <= now).then(|| "its turn did not come in time".to_owned())
    }

    /// The last word of a test that was answered, and that a message would be tried again after.
    pub(super) fn end_tried(&mut self, entry: Entry, payload: &Payload, heard: &Outcome, refused: bool) -> Settled {
        let reason = if refused {
            Reason::CredentialRefused
        } else {
            Reason::GaveUp
        };
        let outcome = Outcome {
            result: OutcomeResult::Dead,
            reason: Some(reason.as_str().to_owned()),
            scope: None,
            next_at: None,
            ..heard.clone()
        };
        self.end(entry, payload, outcome, None)
    }
}
