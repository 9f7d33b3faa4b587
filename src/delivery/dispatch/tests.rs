//! A seeded simulator with a virtual clock, and single cases beside it.
//!
//! Mutations that were tried and are caught: a bucket that is full at the start, a `Retry-After` that
//! is ignored, a key that isn't released after its answer, a retry that goes to the back of its lane.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::delivery::job_id;

const SECOND: Micros = 1_000_000;
const START: Micros = 1_000_000 * SECOND;

fn settings() -> Settings {
    Settings {
        in_flight_max: 16,
        channel_rate: Rate::per_second(1),
        workspace_rate: Rate::per_minute(300),
        webhook_rate: Rate::per_second(1),
        rates: HashMap::new(),
        concurrency: HashMap::from([("clevertap:acme".to_owned(), 2)]),
        batch_max: 5,
        batch_wait: Duration::from_millis(200),
        retry_initial: Duration::from_secs(1),
        retry_max: Duration::from_secs(8),
        step_aside: Duration::from_secs(600),
        give_up_after: Duration::from_secs(3600),
        job_age_max: Duration::from_secs(72 * 3600),
        dedup_window: Duration::from_secs(24 * 3600),
        dedup_ids_max: 1000,
        join: true,
    }
}

fn job(number: i64, action: ActionType, credential: &str, destination: &str) -> DeliveryJob {
    DeliveryJob {
        job_id: job_id(&format!("e-{number}"), "r").to_string(),
        event_id: format!("e-{number}"),
        rule_id: "r".into(),
        rule_version: 0,
        lead_id: "1".into(),
        trigger: "lms.lead_sold".into(),
        action,
        credential: credential.into(),
        destination: destination.into(),
        body: "{}".into(),
        occurred_at: START / 1000,
        expires_at: None,
        on_ambiguous: OnAmbiguous::Retry,
        source_topic: "lead-events".into(),
        source_partition: 0,
        source_offset: number,
        sealed: None,
        account_id: None,
        region: None,
        digest_after: None,
        max_rate: None,
        thread: false,
    }
}

fn slack(number: i64, channel: &str) -> DeliveryJob {
    job(number, ActionType::SlackMessage, "slack:bot", channel)
}

fn answer(verdict: Verdict) -> Answer {
    Answer {
        verdict,
        status: Some(200),
        words: String::new(),
        message_id: None,
        channel: None,
    }
}

/// A dispatch with one partition, owned since `START`.
struct Bench {
    dispatch: Dispatch,
    now: Micros,
    settled: Vec<Settled>,
}

impl Bench {
    fn new(settings: Settings) -> Self {
        let mut dispatch = Dispatch::new(settings, fastrand::Rng::with_seed(1));
        dispatch.own(0, START);
        Self {
            dispatch,
            now: START,
            settled: Vec::new(),
        }
    }

    fn accept(&mut self, job: DeliveryJob) {
        let at = JobAt {
            partition: 0,
            offset: job.source_offset,
        };
        let host: Arc<str> = job.credential.as_str().into();
        let waiting = Waiting {
            at,
            job: Arc::new(job),
            bytes: 100,
            written_at: self.now,
            accepted_at: self.now,
            attempts: 0,
            not_before: 0,
            failing_since: None,
            aside: false,
        };
        self.dispatch.accept(waiting, host, self.now);
    }

    /// Moves the clock to the next request and gives it.
    fn next(&mut self, until: Micros) -> Option<Attempt> {
        loop {
            if let Some(attempt) = self.dispatch.next(self.now, &mut self.settled) {
                return Some(attempt);
            }
            let wake = self.dispatch.wake_at();
            assert!(wake > self.now, "a wake-up in the past is a busy loop");
            if wake > until {
                self.now = until;
                return None;
            }
            self.now = wake;
        }
    }

    fn answer(&mut self, attempt: &Attempt, verdict: Verdict) {
        let answers = vec![answer(verdict); attempt.jobs.len()];
        self.settled
            .extend(self.dispatch.answered(attempt.id, answers, self.now));
    }

    fn results(&self) -> Vec<OutcomeResult> {
        self.settled.iter().map(|settled| settled.outcome.result).collect()
    }
}

#[test]
fn a_channel_is_used_at_its_rate_and_a_new_owner_waits_one_spacing() {
    let mut bench = Bench::new(settings());
    (0..100).for_each(|number| bench.accept(slack(number, "C1")));
    let mut starts = Vec::new();
    while let Some(attempt) = bench.next(START + 200 * SECOND) {
        starts.push(bench.now);
        bench.answer(&attempt, Verdict::Delivered);
    }
    assert_eq!(starts.len(), 100);
    assert!(starts[0] >= START + SECOND, "the predecessor may just have sent");
    let used = 99.0 / ((starts[99] - starts[0]) as f64 / SECOND as f64);
    assert!((0.95..=1.0).contains(&used), "{used} of the limit is used");
}

#[test]
fn a_retry_after_is_obeyed_and_followed_within_a_second() {
    for scope in [Scope::Lane, Scope::Credential] {
        let mut bench = Bench::new(settings());
        bench.accept(slack(1, "C1"));
        bench.accept(slack(2, "C2"));
        let first = bench.next(START + 10 * SECOND).unwrap();
        let until = bench.now + 30 * SECOND;
        bench.answer(
            &first,
            Verdict::Throttled {
                scope,
                retry_after: Some(Duration::from_secs(30)),
            },
        );
        let mut of_other = None;
        let again = loop {
            let attempt = bench.next(START + 100 * SECOND).unwrap();
            if attempt.jobs[0].destination == first.jobs[0].destination {
                break attempt;
            }
            of_other = Some(bench.now);
            bench.answer(&attempt, Verdict::Delivered);
        };
        assert!((until..until + SECOND).contains(&bench.now));
        assert_eq!(again.jobs[0].job_id, first.jobs[0].job_id);
        match scope {
            Scope::Lane => assert!(of_other.unwrap() < until, "another channel isn't held up"),
            Scope::Credential => assert!(of_other.is_none_or(|at| at >= until)),
        }
        assert_eq!(bench.settled[0].outcome.result, OutcomeResult::Throttled);
        assert_eq!(bench.settled[0].outcome.next_at, Some(until / 1000));
    }
}

#[test]
fn a_refused_credential_is_probed_by_one_request_and_resumes() {
    let mut bench = Bench::new(settings());
    (0..4).for_each(|number| bench.accept(slack(number, &format!("C{number}"))));
    let first = bench.next(START + 10 * SECOND).unwrap();
    bench.answer(&first, Verdict::CredentialRefused);
    let refused = bench.now;
    assert_eq!(bench.dispatch.refused(), HashSet::from(["slack:bot"]));
    let probe = bench.next(START + 300 * SECOND).unwrap();
    assert_eq!(bench.now, refused + 30 * SECOND);
    let asked = bench.now;
    assert!(bench.next(asked + 20 * SECOND).is_none(), "one probe at a time");
    bench.answer(&probe, Verdict::CredentialRefused);
    let refused = bench.now;
    let probe = bench.next(START + 300 * SECOND).unwrap();
    assert_eq!(bench.now, refused + 60 * SECOND, "the interval grows");
    bench.answer(&probe, Verdict::Delivered);
    for _ in 0..3 {
        let attempt = bench.next(START + 400 * SECOND).unwrap();
        bench.answer(&attempt, Verdict::Delivered);
    }
    assert!(bench.dispatch.refused().is_empty());
    assert_eq!(bench.dispatch.held(), (0, 0), "the backlog was kept");
}

#[test]
fn ends_that_are_decided_without_a_request_or_by_policy() {
    let mut bench = Bench::new(settings());
    let mut expired = slack(1, "C1");
    expired.expires_at = Some(START / 1000 + 500);
    bench.accept(expired);
    let mut never_twice = slack(2, "C2");
    never_twice.on_ambiguous = OnAmbiguous::Dead;
    bench.accept(never_twice);
    let attempt = bench.next(START + 10 * SECOND).unwrap();
    assert_eq!(attempt.jobs[0].event_id, "e-2");
    bench.answer(&attempt, Verdict::Ambiguous);
    bench.accept(slack(3, "C3"));
    let attempt = bench.next(START + 20 * SECOND).unwrap();
    bench.answer(&attempt, Verdict::Delivered);
    let mut again = slack(3, "C3");
    again.source_offset = 4;
    bench.accept(again);
    assert!(bench.next(START + 30 * SECOND).is_none());
    use OutcomeResult::{Dead, Duplicate, Expired, Sent};
    assert_eq!(bench.results(), [Expired, Dead, Sent, Duplicate]);
    assert_eq!(bench.settled[1].dead, Some(Reason::GaveUp));
    assert_eq!(bench.dispatch.held(), (0, 0));
}

#[test]
fn a_channel_is_joined_once() {
    let mut bench = Bench::new(settings());
    bench.accept(slack(1, "C1"));
    let attempt = bench.next(START + 10 * SECOND).unwrap();
    bench.answer(&attempt, Verdict::NotInChannel);
    let join = bench.next(START + 20 * SECOND).unwrap();
    assert_eq!(join.request, Request::Join);
    bench.answer(&join, Verdict::Delivered);
    let attempt = bench.next(START + 30 * SECOND).unwrap();
    assert_eq!(attempt.request, Request::Send);
    bench.answer(&attempt, Verdict::NotInChannel);
    assert_eq!(bench.results(), [OutcomeResult::Retry, OutcomeResult::Dead]);
    assert_eq!(bench.settled[1].dead, Some(Reason::DestinationGone));
}

#[test]
fn a_refused_batch_is_halved_down_to_the_bad_record() {
    let mut bench = Bench::new(settings());
    for number in 0..5 {
        bench.accept(job(
            number,
            ActionType::ClevertapEvent,
            "clevertap:acme",
            &format!("id-{number}"),
        ));
    }
    let mut sizes = Vec::new();
    while let Some(attempt) = bench.next(START + 60 * SECOND) {
        sizes.push(attempt.jobs.len());
        let bad = attempt.jobs.iter().any(|job| job.event_id == "e-3");
        bench.answer(&attempt, if bad { Verdict::BatchRefused } else { Verdict::Delivered });
    }
    assert_eq!(sizes[0], 5, "they wait for company, and go together");
    let dead: Vec<_> = bench.settled.iter().filter(|settled| settled.dead.is_some()).collect();
    assert_eq!(dead.len(), 1);
    assert_eq!(
        (dead[0].job.event_id.as_str(), dead[0].dead),
        ("e-3", Some(Reason::MessageRejected))
    );
    assert_eq!(bench.settled.len(), 5);
}

#[test]
fn a_job_that_alone_keeps_failing_steps_aside_and_is_given_up() {
    let mut bench = Bench::new(settings());
    bench.accept(slack(1, "C1"));
    bench.accept(slack(2, "C1"));
    let mut passed_at = None;
    while let Some(attempt) = bench.next(START + 5000 * SECOND) {
        if attempt.jobs[0].event_id == "e-1" {
            bench.answer(&attempt, Verdict::Retry);
        } else {
            passed_at = Some(bench.now - START);
            bench.answer(&attempt, Verdict::Delivered);
        }
    }
    assert!(
        (600 * SECOND..640 * SECOND).contains(&passed_at.unwrap()),
        "{passed_at:?}"
    );
    let last = bench.settled.last().unwrap();
    assert_eq!((last.job.event_id.as_str(), last.dead), ("e-1", Some(Reason::GaveUp)));
    assert!(last.outcome.ended_at - START / 1000 >= 3600 * 1000);
}

/// A job of one of five destinations.
fn arrival(rng: &mut fastrand::Rng, number: i64) -> DeliveryJob {
    let (action, credential, destination) = match rng.u8(..5) {
        0 => (ActionType::SlackMessage, "slack:bot", "C1"),
        1 => (ActionType::SlackMessage, "slack:bot", "C2"),
        2 => (ActionType::SlackWebhook, "webhook:alerts", ""),
        3 => (ActionType::ClevertapProfile, "clevertap:acme", "id-1"),
        _ => (ActionType::ClevertapEvent, "clevertap:acme", "id-2"),
    };
    job(number, action, credential, destination)
}

fn verdict(rng: &mut fastrand::Rng, attempt: &Attempt) -> Verdict {
    match rng.u8(..12) {
        0 => Verdict::Throttled {
            scope: Scope::Lane,
            retry_after: Some(Duration::from_secs(rng.u64(1..5))),
        },
        1 => Verdict::Retry,
        2 => Verdict::Ambiguous,
        3 => Verdict::Rejected(Reason::MessageRejected),
        4 if attempt.jobs.len() > 1 => Verdict::BatchRefused,
        _ => Verdict::Delivered,
    }
}

/// Every job ended once and in its turn, unless its partition went away before.
fn check_ends(seed: u64, bench: &Bench, number: i64, gone: &BTreeSet<i64>) {
    let mut last_of: BTreeMap<String, i64> = BTreeMap::new();
    let mut ended = BTreeSet::new();
    for settled in bench.settled.iter().filter(|settled| settled.outcome.result.is_final()) {
        assert!(ended.insert(settled.job.source_offset), "seed {seed}: ended twice");
        let key = format!("{}/{}", settled.job.credential, settled.job.destination);
        let last = last_of.insert(key, settled.job.source_offset).unwrap_or(0);
        assert!(last < settled.job.source_offset, "seed {seed}: out of order");
    }
    for offset in 1..=number {
        assert!(
            ended.contains(&offset) || gone.contains(&offset),
            "seed {seed}: job {offset} is lost"
        );
    }
}

/// Random arrivals, answers and hand-overs; every invariant at every step.
fn simulate(seed: u64) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut bench = Bench::new(settings());
    let (mut number, mut gone) = (0, BTreeSet::new());
    let mut flying: Vec<(Micros, Attempt)> = Vec::new();
    let mut starts: BTreeMap<String, Vec<Micros>> = BTreeMap::new();
    let mut frozen: BTreeMap<String, Micros> = BTreeMap::new();
    while bench.now < START + 400 * SECOND {
        if number < 150 && rng.u8(..3) == 0 {
            number += 1;
            bench.accept(arrival(&mut rng, number));
        }
        if rng.u16(..400) == 0 {
            gone.extend(1..=number);
            bench.dispatch.disown(0);
            bench.dispatch.own(0, bench.now);
        }
        while let Some(attempt) = bench.dispatch.next(bench.now, &mut bench.settled) {
            let first = &attempt.jobs[0];
            let scopes = [first.lane(), first.credential.clone()];
            for scope in &scopes {
                assert!(
                    frozen.get(scope).is_none_or(|until| bench.now >= *until),
                    "seed {seed}: {scope} is frozen"
                );
            }
            if attempt.request == Request::Send
                && first.action != ActionType::ClevertapProfile
                && first.action != ActionType::ClevertapEvent
            {
                let starts = starts.entry(first.lane()).or_default();
                starts.push(bench.now);
                let within = starts.iter().filter(|at| **at > bench.now - SECOND).count();
                assert!(within <= 1, "seed {seed}: {} starts within a second", within);
            }
            let takes = rng.i64(10_000..3 * SECOND);
            flying.push((bench.now + takes, attempt));
            assert!(flying.len() <= 16, "seed {seed}: too much in flight");
        }
        flying.sort_by_key(|(at, _)| *at);
        let step = bench.now + rng.i64(1..SECOND / 2);
        if flying.first().is_some_and(|(at, _)| *at <= step) {
            let (at, attempt) = flying.remove(0);
            bench.now = at.max(bench.now);
            let verdict = verdict(&mut rng, &attempt);
            if let Verdict::Throttled {
                retry_after: Some(delay),
                ..
            } = &verdict
            {
                let job = &attempt.jobs[0];
                let scope = if job.action.provider() == Provider::Slack {
                    job.lane()
                } else {
                    job.credential.clone()
                };
                let until = frozen.entry(scope).or_default();
                *until = (*until).max(bench.now + micros(*delay));
            }
            bench.answer(&attempt, verdict);
        } else {
            bench.now = step;
        }
    }
    check_ends(seed, &bench, number, &gone);
    assert_eq!(bench.dispatch.held(), (0, 0), "seed {seed}");
    assert_eq!(bench.dispatch.in_flight(), flying.len(), "seed {seed}");
}

#[test]
fn nothing_is_lost_repeated_out_of_order_or_early_under_any_schedule() {
    (0..1000).for_each(simulate);
}
