//! Reads the outcomes of a partition for its new owner. Their times are the wall clock's, until
//! [`Recalled::in_steady_time`] converts them to the owner's.

use std::collections::{HashMap, HashSet};

use super::limit::Micros;
use super::sent::id_bytes;
use super::{Outcome, OutcomeResult};
use crate::reason::Reason;

/// One partition's outcomes, taken in oldest first.
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

/// A lane or a credential of which nothing starts for a while.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Frozen {
    /// The longest that any answer asked for. What is sent meanwhile was on its way before, and shortens nothing.
    pub until: Micros,
    /// The longest of a 429: the provider may have asked for it itself, so that no order shortens it.
    pub throttled_until: Micros,
    /// The credential was refused, and no answer since says that it works.
    pub refused: bool,
    /// When it was refused last. What started after that and before its time, since a person had it tried, ends the
    /// freeze where it is taken.
    pub(super) refused_at: Micros,
    /// The event, with the provider's words.
    pub why: String,
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

/// Four bytes by which jobs that may stand at one place differ.
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
    pub fn take(&mut self, outcome: Outcome, now: Micros) {
        self.take_of(outcome, false, now);
    }

    /// The same with the outcome of a test: it settles its job and tells of freezes, and no message counts for it.
    pub fn take_test(&mut self, outcome: Outcome, now: Micros) {
        self.take_of(outcome, true, now);
    }

    fn take_of(&mut self, mut outcome: Outcome, is_test: bool, now: Micros) {
        let to_come = in_micros(outcome.ended_at).saturating_sub(now);
        if to_come > TO_COME {
            // The wait that it asks for lasts as long as it did then, and no longer.
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
        if sent && !is_test {
            self.sent.extend(id_bytes(&outcome.job_id).map(|id| (id, ended)));
            self.thread(&outcome);
        }
        if !is_test {
            self.message(&outcome, now);
        }
        self.freeze(&outcome);
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
            // Without an attempt it is about a freeze that came before the message.
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
        let same = self.jobs.remove(&offset).is_none_or(|known| Some(known) == job);
        if !same {
            self.settled.remove(&offset);
        }
        same
    }

    /// Whether the job at `offset` waits, by its [`tag`]: an outcome of another job at this place says nothing.
    pub fn waits(&self, offset: i64, job: u32) -> bool {
        !(self.settled.contains(&offset) && self.jobs.get(&offset) == Some(&job))
    }

    /// When the job at `offset`, which failed, may be tried again.
    pub fn again(&self, offset: i64, job: u32) -> Option<Micros> {
        let tried = self.tried.get(&offset)?;
        (self.jobs.get(&offset) == Some(&job)).then_some(tried.not_before)
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
            steady(&mut frozen.throttled_until);
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

    fn freeze(&mut self, outcome: &Outcome) {
        let credential = credential_of(&outcome.lane);
        if is_taken(outcome)
            && let Some(frozen) = self.frozen.get_mut(credential)
        {
            frozen.refused = false;
            let started = outcome.started_at.map_or(Micros::MIN, in_micros);
            // Times are cut to milliseconds, and an end is rounded up.
            if started > frozen.refused_at && started.saturating_add(1000) < frozen.until {
                frozen.until = frozen.throttled_until;
            }
        }
        let (Some(scope), Some(next)) = (&outcome.scope, outcome.next_at) else {
            return;
        };
        let id = if scope == "credential" {
            credential
        } else {
            &outcome.lane
        };
        let (what, refused) = match outcome.result {
            OutcomeResult::Throttled => ("throttled", false),
            OutcomeResult::Retry => ("credential refused", true),
            _ => return,
        };
        let frozen = self.frozen.entry(id.to_owned()).or_default();
        let until = in_micros(next);
        // A refusal outlasts every other freeze, since the credential is probed until it works.
        if refused || (until >= frozen.until && !frozen.refused) {
            let words = outcome.words.as_deref().filter(|words| !words.is_empty());
            frozen.why = words.map_or(what.to_owned(), |words| format!("{what}: {words}"));
        }
        frozen.until = frozen.until.max(until);
        match refused {
            true => frozen.refused_at = frozen.refused_at.max(in_micros(outcome.ended_at)),
            false => frozen.throttled_until = frozen.throttled_until.max(until),
        }
        frozen.refused |= refused;
    }
}

/// Whether the provider took the request as one of a credential that works, whatever it said of the message.
fn is_taken(outcome: &Outcome) -> bool {
    let of_message = [Reason::MessageRejected, Reason::DestinationGone].map(Reason::as_str);
    match outcome.result {
        OutcomeResult::Sent | OutcomeResult::Digested => true,
        // Without a status nobody was asked.
        OutcomeResult::Dead => {
            outcome.status.is_some()
                && outcome
                    .reason
                    .as_deref()
                    .is_some_and(|reason| of_message.contains(&reason))
        }
        _ => false,
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
    fn a_freeze_lasts_as_long_as_the_answer_asked_whatever_is_sent_meanwhile() {
        let mut recalled = Recalled::default();
        let mut throttled = outcome(0, OutcomeResult::Throttled);
        (throttled.scope, throttled.next_at) = (Some("lane".into()), Some(NOW / 1000 + 30_000));
        recalled.take(throttled.clone(), NOW);
        assert_eq!(recalled.tried[&0].failing_since, NOW - 10_000 + 30_000_000);
        let mut refused = outcome(1, OutcomeResult::Retry);
        (refused.scope, refused.next_at) = (Some("credential".into()), Some(NOW / 1000 + 60_000));
        refused.words = Some("invalid_auth".into());
        recalled.take(refused, NOW);
        let frozen = |until, refused, why: &str| Frozen {
            until,
            throttled_until: if refused { 0 } else { until },
            refused,
            refused_at: if refused { NOW } else { 0 },
            why: why.to_owned(),
        };
        let mut both = HashMap::from([
            (
                "slack:sales-bot/C0123SALES".to_owned(),
                frozen(NOW + 30_000_000, false, "throttled"),
            ),
            (
                "slack:sales-bot".to_owned(),
                frozen(NOW + 60_000_000, true, "credential refused: invalid_auth"),
            ),
        ]);
        assert_eq!(recalled.frozen, both);
        // A shorter one that comes later ends nothing, nor does what was on its way when the answer came.
        throttled.next_at = Some(NOW / 1000 + 10_000);
        recalled.take(throttled, NOW);
        assert_eq!(recalled.frozen, both);
        recalled.take(outcome(1, OutcomeResult::Sent), NOW);
        both.get_mut("slack:sales-bot").unwrap().refused = false;
        assert_eq!(recalled.frozen, both);
        // What started after the refusal was tried because a person asked for it.
        let mut probed = outcome(2, OutcomeResult::Sent);
        probed.started_at = Some(NOW / 1000 + 1);
        recalled.take(probed, NOW);
        both.get_mut("slack:sales-bot").unwrap().until = 0;
        assert_eq!(recalled.frozen, both);
    }

    #[test]
    fn of_a_test_nothing_counts_but_its_end_and_its_freezes() {
        let mut recalled = Recalled::default();
        let mut throttled = outcome(1, OutcomeResult::Throttled);
        (throttled.scope, throttled.next_at) = (Some("lane".into()), Some(NOW / 1000 + 30_000));
        recalled.take_test(throttled, NOW);
        let mut sent = outcome(0, OutcomeResult::Sent);
        sent.thread_ts = Some("1.2".into());
        recalled.take_test(sent, NOW);
        assert!(recalled.sent.is_empty() && recalled.started.is_empty() && recalled.threads.is_empty());
        assert_eq!((recalled.settled.len(), recalled.frozen.len()), (1, 1));
    }

    #[test]
    fn a_refusal_is_why_a_credential_is_frozen_whatever_else_freezes_it() {
        let freeze = |result, seconds: i64, words: &str| {
            let mut freeze = outcome(0, result);
            (freeze.scope, freeze.next_at) = (Some("credential".into()), Some(NOW / 1000 + seconds * 1000));
            freeze.words = Some(words.into());
            freeze
        };
        let throttled = freeze(OutcomeResult::Throttled, 600, "ratelimited");
        let refused = freeze(OutcomeResult::Retry, 30, "invalid_auth");
        let longer = freeze(OutcomeResult::Throttled, 900, "ratelimited");
        let mut recalled = Recalled::default();
        for (next, until, why) in [
            (throttled.clone(), 600, "throttled: ratelimited"),
            (refused, 600, "credential refused: invalid_auth"),
            (longer.clone(), 900, "credential refused: invalid_auth"),
            (outcome(1, OutcomeResult::Sent), 900, "credential refused: invalid_auth"),
            // It works again.
            (throttled, 900, "credential refused: invalid_auth"),
            (longer, 900, "throttled: ratelimited"),
        ] {
            recalled.take(next, NOW);
            let frozen = &recalled.frozen["slack:sales-bot"];
            assert_eq!((frozen.until, &*frozen.why), (NOW + until * 1_000_000, why));
        }
    }

    #[test]
    fn a_credential_works_once_a_provider_answered_to_the_message_itself() {
        for (result, reason, status, refused) in [
            (OutcomeResult::Sent, None, Some(200), false),
            (OutcomeResult::Digested, None, Some(200), false),
            (OutcomeResult::Dead, Some("message_rejected"), Some(200), false),
            (OutcomeResult::Dead, Some("destination_gone"), Some(404), false),
            // Nobody was asked, or nobody answered.
            (OutcomeResult::Dead, Some("message_rejected"), None, true),
            (OutcomeResult::Dead, Some("gave_up"), Some(500), true),
            (OutcomeResult::Dead, Some("credential_refused"), None, true),
            (OutcomeResult::Expired, None, None, true),
            (OutcomeResult::Retry, None, Some(500), true),
        ] {
            let mut recalled = Recalled::default();
            let mut first = outcome(0, OutcomeResult::Retry);
            (first.scope, first.next_at) = (Some("credential".into()), Some(NOW / 1000 + 60_000));
            recalled.take(first, NOW);
            let mut next = outcome(1, result);
            (next.reason, next.status) = (reason.map(str::to_owned), status);
            recalled.take(next, NOW);
            let frozen = &recalled.frozen["slack:sales-bot"];
            assert_eq!(frozen.refused, refused, "{result:?} {reason:?} {status:?}");
            assert_eq!(frozen.until, NOW + 60_000_000);
        }
    }

    #[test]
    fn a_job_waits_until_a_final_outcome_of_its_own() {
        use OutcomeResult::{Dead, Retry, Sent};
        let mut recalled = Recalled {
            committed: 5,
            ..Recalled::default()
        };
        for (offset, result) in [(5, Retry), (6, Sent), (7, Retry), (7, Dead), (2, Sent)] {
            let mut one = outcome(offset, result);
            one.next_at = Some(NOW / 1000 + 90);
            recalled.take(one, NOW);
        }
        let (mine, other) = (tag(&job().job_id), tag("another"));
        let waits: Vec<i64> = (5..10).filter(|offset| recalled.waits(*offset, mine)).collect();
        assert_eq!(waits, [5, 8, 9]);
        assert!(recalled.waits(6, other), "another job stands there by now");
        let again = [(5, mine), (5, other), (7, mine), (9, mine)];
        assert_eq!(
            again.map(|(offset, job)| recalled.again(offset, job)),
            [Some(NOW + 90_000), None, None, None]
        );
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
