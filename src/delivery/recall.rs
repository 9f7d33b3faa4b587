//! What the outcomes of a partition say to its new owner. Their times are the wall clock's, until
//! [`Recalled::in_steady_time`] makes them the owner's.

use std::collections::{HashMap, HashSet};

use super::limit::Micros;
use super::sent::id_bytes;
use super::{Outcome, OutcomeResult};

/// Read back from the outcomes, oldest first, before anything of the partition is sent.
#[derive(Debug, Default)]
pub struct Recalled {
    /// Where the predecessor's jobs begin: the committed offset.
    pub committed: i64,
    /// Above every job that a predecessor tried.
    pub tried_below: i64,
    /// Where the committed offset's outcomes begin, and where all of them end.
    pub outcomes_from: i64,
    pub outcomes_end: i64,
    /// Everything that was sent since is known.
    pub known_since: Micros,
    /// Jobs at or above the committed offset that are final.
    pub settled: HashSet<i64>,
    /// Which job each outcome at or above it is about, by [`tag`]. An offset alone could be another topic's.
    pub jobs: HashMap<i64, u32>,
    /// Attempts at jobs that aren't.
    pub tried: HashMap<i64, Tried>,
    pub sent: Vec<([u8; 16], Micros)>,
    /// By lane or credential.
    pub frozen: HashMap<String, Frozen>,
    pub threads: Vec<Thread>,
    /// When messages of a rule started for the first time, within the longest period of a cap.
    pub started: HashMap<String, Vec<Micros>>,
}

/// Where a job stands that was tried and isn't settled.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tried {
    pub attempts: i32,
    /// When the first attempt started, the time frozen since then added.
    pub failing_since: Micros,
    pub not_before: Micros,
    /// It failed for so long that those behind it may pass.
    pub aside: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Frozen {
    /// The destination asked for nothing before this.
    pub until: Micros,
    /// The credential was refused, and is to be probed then.
    pub probe_at: Option<Micros>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Thread {
    pub lane: String,
    pub lead_id: String,
    pub ts: String,
    pub began: Micros,
}

/// The longest period of a rate.
const PERIOD_MAX: Micros = 3_600_000_000;

/// Four bytes that tell the jobs apart which may stand at one place.
pub fn tag(job_id: &str) -> u32 {
    crc32fast::hash(job_id.as_bytes())
}

/// An outcome that ended so much later than it is now was written by a clock that has been put back since.
const TO_COME: Micros = 60_000_000;

/// Epoch milliseconds of whoever wrote the outcome, who may have written anything.
fn in_micros(millis: i64) -> Micros {
    millis.saturating_mul(1000)
}

/// A lane's id begins with its credential's.
pub fn credential_of(lane: &str) -> &str {
    lane.split('/').next().unwrap_or(lane)
}

impl Recalled {
    /// Takes in the next outcome. `now` is when the reading began.
    pub fn take(&mut self, mut outcome: Outcome, now: Micros) {
        let to_come = in_micros(outcome.ended_at).saturating_sub(now);
        if to_come > TO_COME {
            // What it asks to wait for lasts as long as it did then, and no longer.
            let times = [
                Some(&mut outcome.ended_at),
                outcome.started_at.as_mut(),
                outcome.next_at.as_mut(),
            ];
            times
                .into_iter()
                .flatten()
                .for_each(|time| *time = time.saturating_sub(to_come / 1000));
        }
        // The processor's own outcomes have no job.
        let Some(offset) = outcome.job_offset else { return };
        let ended = in_micros(outcome.ended_at);
        let sent = matches!(outcome.result, OutcomeResult::Sent | OutcomeResult::Digested);
        if sent {
            self.sent.extend(id_bytes(&outcome.job_id).map(|id| (id, ended)));
            self.thread(&outcome);
        }
        self.message(&outcome, now);
        self.freeze(&outcome, sent);
        if offset < self.committed {
            return;
        }
        self.tried_below = self.tried_below.max(offset.saturating_add(1));
        let job = tag(&outcome.job_id);
        if self.jobs.insert(offset, job).is_some_and(|before| before != job) {
            // Another job stood there, in a topic that was made anew since.
            self.settled.remove(&offset);
            self.tried.remove(&offset);
        }
        if outcome.result.is_final() {
            self.settled.insert(offset);
            self.tried.remove(&offset);
        } else if outcome.attempt > 0 && !self.settled.contains(&offset) {
            // Without an attempt it tells of a freeze that came before the message.
            let tried = self.tried.entry(offset).or_insert_with(|| Tried {
                failing_since: outcome.started_at.map_or(ended, in_micros),
                ..Tried::default()
            });
            tried.attempts = tried.attempts.max(outcome.attempt);
            let next = outcome.next_at.map_or(ended, in_micros);
            if outcome.scope.is_some() {
                tried.failing_since = tried.failing_since.saturating_add(next.saturating_sub(ended).max(0));
            } else {
                tried.not_before = next;
            }
        }
    }

    /// `job` stands at `offset`. Whether no outcome says that another one does; those are forgotten.
    pub fn knows(&mut self, offset: i64, job: Option<u32>) -> bool {
        let same = self.jobs.remove(&offset).is_none_or(|told| Some(told) == job);
        if !same {
            self.settled.remove(&offset);
        }
        same
    }

    /// The same in times of the steady clock, which the wall clock is `ahead` of.
    #[must_use]
    pub fn in_steady_time(mut self, ahead: Micros) -> Self {
        let steady = |time: &mut Micros| *time = time.saturating_sub(ahead);
        steady(&mut self.known_since);
        self.tried.values_mut().for_each(|tried| {
            steady(&mut tried.failing_since);
            steady(&mut tried.not_before);
        });
        self.sent.iter_mut().for_each(|(_, at)| steady(at));
        self.frozen.values_mut().for_each(|frozen| {
            steady(&mut frozen.until);
            frozen.probe_at.iter_mut().for_each(steady);
        });
        self.threads.iter_mut().for_each(|thread| steady(&mut thread.began));
        self.started.values_mut().flatten().for_each(steady);
        self
    }

    fn thread(&mut self, outcome: &Outcome) {
        if let Some(ts) = &outcome.thread_ts {
            self.threads.push(Thread {
                lane: outcome.lane.clone(),
                lead_id: outcome.lead_id.clone(),
                ts: ts.clone(),
                began: outcome.started_at.map_or(0, in_micros),
            });
        }
    }

    /// A message counts by its first attempt, whatever came of it.
    fn message(&mut self, outcome: &Outcome, now: Micros) {
        let Some(at) = outcome.started_at.filter(|_| outcome.attempt == 1) else {
            return;
        };
        // It was cut to milliseconds, and must not be counted as earlier than it was.
        let started = in_micros(at.saturating_add(1));
        if started > now - PERIOD_MAX {
            let messages = self.started.entry(outcome.rule_id.clone()).or_default();
            // Jobs of one digest were one message: a rule has one lane, and that one at a time.
            if messages.last() != Some(&started) {
                messages.push(started);
            }
        }
    }

    fn freeze(&mut self, outcome: &Outcome, sent: bool) {
        let credential = credential_of(&outcome.lane);
        if sent && let Some(frozen) = self.frozen.get_mut(credential) {
            // Whatever refused the credential is mended.
            frozen.probe_at = None;
        }
        let (Some(scope), Some(next)) = (&outcome.scope, outcome.next_at) else {
            return;
        };
        let id = if scope == "credential" {
            credential
        } else {
            &outcome.lane
        };
        let known = self.frozen.entry(id.to_owned()).or_default();
        match outcome.result {
            OutcomeResult::Throttled => known.until = known.until.max(in_micros(next)),
            _ => known.probe_at = Some(in_micros(next)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::tests::job;

    const NOW: Micros = 10_000_000_000;

    fn outcome(offset: i64, result: OutcomeResult) -> Outcome {
        let mut outcome = job().outcome(result, NOW / 1000);
        outcome.job_offset = Some(offset);
        outcome.job_partition = Some(0);
        outcome.started_at = Some(NOW / 1000 - 10);
        outcome.attempt = 1;
        outcome
    }

    #[test]
    fn the_latest_word_on_a_job_counts() {
        let mut recalled = Recalled {
            committed: 5,
            ..Recalled::default()
        };
        let mut retry = outcome(7, OutcomeResult::Retry);
        retry.next_at = Some(NOW / 1000 + 4);
        recalled.take(outcome(4, OutcomeResult::Sent), NOW);
        recalled.take(retry, NOW);
        recalled.take(outcome(6, OutcomeResult::Sent), NOW);
        let mut own = outcome(9, OutcomeResult::Skipped);
        own.job_offset = None;
        recalled.take(own, NOW);
        assert_eq!(recalled.settled, HashSet::from([6]));
        assert_eq!(recalled.tried_below, 8);
        let tried = recalled.tried[&7];
        assert_eq!((tried.attempts, tried.failing_since), (1, NOW - 10_000));
        assert_eq!(tried.not_before, NOW + 4_000);
        assert_eq!(recalled.sent.len(), 2, "ids below the committed offset count too");
        recalled.take(outcome(7, OutcomeResult::Dead), NOW);
        assert!(recalled.tried.is_empty() && recalled.settled.contains(&7));
    }

    #[test]
    fn a_credential_is_what_stands_before_the_channel() {
        for (lane, credential) in [
            ("slack:bot/C1", "slack:bot"),
            ("webhook:alerts", "webhook:alerts"),
            ("clevertap:sealed-0011/ACME", "clevertap:sealed-0011"),
        ] {
            assert_eq!(credential_of(lane), credential);
        }
    }

    #[test]
    fn times_that_are_none_end_nothing() {
        for time in [i64::MIN, -1, i64::MAX] {
            for result in [OutcomeResult::Sent, OutcomeResult::Retry, OutcomeResult::Throttled] {
                let mut odd = outcome(i64::MAX, result);
                (odd.ended_at, odd.started_at, odd.next_at) = (time, Some(time), Some(time));
                (odd.scope, odd.thread_ts) = (Some("lane".to_owned()), Some("1.5".to_owned()));
                let mut recalled = Recalled::default();
                recalled.take(odd.clone(), NOW);
                odd.ended_at = NOW / 1000;
                recalled.take(odd, NOW);
                assert_eq!(recalled.in_steady_time(NOW).tried_below, i64::MAX);
            }
        }
    }

    #[test]
    fn an_outcome_is_about_its_own_job_alone() {
        let mut recalled = Recalled::default();
        let other = |mut outcome: Outcome| {
            outcome.job_id = "0190f3c2-6f7b-5c11-9a55-3f0a7be1c001".into();
            outcome
        };
        recalled.take(outcome(3, OutcomeResult::Sent), NOW);
        recalled.take(outcome(4, OutcomeResult::Sent), NOW);
        // The topic was made anew, and 4 is another job, which isn't settled yet.
        recalled.take(other(outcome(4, OutcomeResult::Retry)), NOW);
        assert_eq!(recalled.settled, HashSet::from([3]));
        assert_eq!(recalled.tried[&4].attempts, 1);
        let mine = Some(tag(&job().job_id));
        assert!(recalled.knows(5, mine), "nothing is said of it");
        assert!(!recalled.knows(4, mine) && !recalled.knows(3, None));
        assert!(recalled.settled.is_empty(), "what stands there now has no outcome");
    }

    #[test]
    fn freezes_are_known_by_their_scope_until_the_credential_works() {
        let mut recalled = Recalled::default();
        let mut throttled = outcome(0, OutcomeResult::Throttled);
        (throttled.scope, throttled.next_at) = (Some("lane".into()), Some(NOW / 1000 + 30_000));
        recalled.take(throttled, NOW);
        assert_eq!(recalled.tried[&0].failing_since, NOW - 10_000 + 30_000_000);
        let mut refused = outcome(1, OutcomeResult::Retry);
        (refused.scope, refused.next_at) = (Some("credential".into()), Some(NOW / 1000 + 60_000));
        recalled.take(refused, NOW);
        let lane = Frozen {
            until: NOW + 30_000_000,
            probe_at: None,
        };
        let credential = Frozen {
            until: 0,
            probe_at: Some(NOW + 60_000_000),
        };
        let both = HashMap::from([
            ("slack:sales-bot/C0123SALES".to_owned(), lane),
            ("slack:sales-bot".to_owned(), credential),
        ]);
        assert_eq!(recalled.frozen, both);
        recalled.take(outcome(1, OutcomeResult::Sent), NOW);
        assert_eq!(recalled.frozen["slack:sales-bot"].probe_at, None);
    }

    #[test]
    fn a_digest_is_one_message_and_threads_are_found_again() {
        let mut recalled = Recalled::default();
        for offset in 0..3 {
            let mut digested = outcome(offset, OutcomeResult::Digested);
            digested.message_id = Some("1.5".into());
            recalled.take(digested, NOW);
        }
        let mut threaded = outcome(3, OutcomeResult::Sent);
        (threaded.thread_ts, threaded.started_at) = (Some("1.6".into()), Some(NOW / 1000 - 5));
        recalled.take(threaded, NOW);
        let mut failed = outcome(4, OutcomeResult::Retry);
        failed.started_at = Some(NOW / 1000 - 3);
        recalled.take(failed.clone(), NOW);
        (failed.attempt, failed.started_at) = (2, Some(NOW / 1000 - 1));
        recalled.take(failed, NOW);
        let ago = [10, 5, 3].map(|ago| NOW - ago * 1000 + 1000);
        assert_eq!(recalled.started["r-1"], ago, "retries don't make it two");
        assert_eq!(recalled.threads[0].ts, "1.6");
    }
}
