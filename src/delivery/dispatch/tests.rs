//! Single cases, one sender. Whole schedules with crashes and hand-overs are in [`simulation`].

use std::collections::HashSet;

use super::*;
use crate::action::{ActionType, Batch, clevertap, slack};
use crate::dates::Rate;
use crate::delivery::ledger::Read;
use crate::delivery::recall::Recalled;
use crate::delivery::{Needs, Unreadable, job_id};
use crate::lead::EventId;
use crate::rules::RuleId;
use crate::rules::log::{Cancel, RuleLog};
use crate::trail::Trail;

mod anew;
mod clock;
mod control;
mod freezes;
pub(crate) mod held;
mod isolation;
mod owned;
mod send_test;
mod simulation;

const SECOND: Micros = 1_000_000;
const START: Micros = 1_000_000 * SECOND;

pub(crate) fn settings() -> Settings {
    Settings {
        in_flight_max: 16,
        limits: Limits {
            slack: slack::Limits {
                channel_rate: Rate::per_second(1),
                workspace_rate: Rate::per_minute(300),
                webhook_rate: Rate::per_second(1),
                own: HashMap::new(),
            },
            clevertap: clevertap::Limits {
                batch: Batch {
                    max: 5,
                    wait: Duration::from_millis(200),
                },
                concurrency: HashMap::from([("clevertap:acme".to_owned(), 2)]),
            },
        },
        retry_initial: Duration::from_secs(1),
        retry_max: Duration::from_secs(8),
        step_aside: Duration::from_secs(600),
        give_up_after: Duration::from_secs(3600),
        job_age_max: Duration::from_secs(72 * 3600),
        dedup_window: Duration::from_secs(24 * 3600),
        dedup_ids_max: 1000,
        payload_bytes_max: 1 << 20,
        join: true,
        hand_over_max: Duration::from_secs(30),
        silence_max: Duration::from_secs(22),
    }
}

fn job(number: i64, action: ActionType, credential: &str, destination: &str) -> DeliveryJob {
    DeliveryJob {
        job_id: job_id(EventId(&format!("e-{number}")), RuleId("r")).to_string(),
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

pub(crate) fn slack(number: i64, channel: &str) -> DeliveryJob {
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

/// A dispatch with one partition, owned since `START`, over a Kafka that answers at once.
struct Bench {
    dispatch: Dispatch,
    now: Micros,
    settled: Vec<Settled>,
    kafka: HashMap<JobAt, Payload>,
    reread: usize,
}

/// Takes partition 0 over, whose outcomes are read back at once.
fn own(dispatch: &mut Dispatch, recalled: Recalled, now: Micros) {
    dispatch.take_over(0, now);
    dispatch.own(0, recalled, Trail::default(), now);
}

/// Takes partition 0 over from a sender that tried its first `count` jobs once each, in vain.
fn succeed(dispatch: &mut Dispatch, count: i64) {
    let tried = Tried {
        attempts: 1,
        failing_since: START - SECOND,
        not_before: START - SECOND / 2,
        aside: false,
    };
    let recalled = Recalled {
        tried_below: count,
        tried: (0..count).map(|offset| (offset, tried)).collect(),
        ..Recalled::default()
    };
    dispatch.disown(0);
    own(dispatch, recalled, START);
}

fn tag_of(payload: &Payload) -> Option<u32> {
    Some(super::super::recall::tag(&payload.job.job_id))
}

pub(crate) fn payload(job: DeliveryJob, now: Micros) -> Payload {
    Payload {
        job: Arc::new(job),
        traceparent: None,
        written_at: now / 1000,
        bytes: 1000,
        newer: None,
    }
}

impl Bench {
    fn new(settings: Settings) -> Self {
        let mut dispatch = Dispatch::new(settings, fastrand::Rng::with_seed(1));
        own(&mut dispatch, Recalled::default(), START);
        Self {
            dispatch,
            now: START,
            settled: Vec::new(),
            kafka: HashMap::new(),
            reread: 0,
        }
    }

    fn accept(&mut self, job: DeliveryJob) {
        self.accept_as(job, Cause::Match);
    }

    fn accept_as(&mut self, job: DeliveryJob, cause: Cause) {
        let host: Arc<str> = job.credential.as_str().into();
        self.accept_at(job, cause, &host);
    }

    fn accept_at(&mut self, job: DeliveryJob, cause: Cause, host: &Arc<str>) {
        let at = JobAt {
            partition: 0,
            offset: job.source_offset,
        };
        let payload = payload(job, self.now);
        self.kafka.insert(at, payload.clone());
        let read = self.dispatch.read(at, tag_of(&payload), payload.written_at);
        if read.is_accepted() {
            self.dispatch.accept(at, payload, host, cause, self.now);
        }
    }

    fn serve_loads(&mut self) {
        loop {
            let loads = self.dispatch.loads();
            if loads.is_empty() {
                return;
            }
            for load in loads {
                self.reread += load.jobs.len();
                let jobs = load.jobs.iter().map(|at| (*at, self.kafka.get(at).cloned())).collect();
                let mut settled = Vec::new();
                self.dispatch.loaded(load.id, jobs, self.now, &mut settled);
                self.take_in(settled);
            }
        }
    }

    fn take_in(&mut self, settled: Vec<Settled>) {
        for settled in settled {
            if settled.outcome.result.is_final() {
                self.dispatch.ledger.settle(settled.at);
                let offset = self.settled.len() as i64;
                assert!(self.dispatch.ledger.outcome_stands(settled.at.partition, offset));
            }
            self.settled.push(settled);
        }
    }

    fn rules(&mut self, log: &mut RuleLog) {
        let mut settled = Vec::new();
        self.dispatch
            .rules(Arc::new(log.snapshot().by_id()), self.now, &mut settled);
        self.take_in(settled);
        self.serve_loads();
    }

    /// Nothing waits, nothing is in memory, and all of it is settled.
    fn assert_empty(&self) {
        assert_eq!((self.dispatch.waiting(), self.dispatch.bytes()), (0, 0));
        assert!(self.dispatch.tried.is_empty() && self.dispatch.payloads.is_empty());
        assert_eq!(self.dispatch.oldest(self.now), None);
    }

    /// Moves the clock to the next request and gives it.
    fn next(&mut self, until: Micros) -> Option<Attempt> {
        let mut again = false;
        loop {
            let mut settled = Vec::new();
            let attempt = self.dispatch.next(self.now, &mut settled);
            self.take_in(settled);
            self.serve_loads();
            if attempt.is_some() {
                return attempt;
            }
            let wake = self.dispatch.wake_at();
            if wake <= self.now {
                // What was just loaded may go at once; a second time would be a busy loop.
                assert!(
                    !std::mem::replace(&mut again, true),
                    "a wake-up in the past is a busy loop"
                );
                continue;
            }
            again = false;
            if wake > until {
                self.now = until;
                return None;
            }
            self.now = wake;
        }
    }

    fn answer(&mut self, attempt: &Attempt, verdict: Verdict) {
        let answers = vec![answer(verdict); attempt.jobs.len()];
        let settled = self.dispatch.answered(attempt.id, answers, self.now);
        self.take_in(settled);
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
    for scope in [FreezeScope::Lane, FreezeScope::Credential] {
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
            FreezeScope::Lane => assert!(of_other.unwrap() < until, "another channel isn't held up"),
            FreezeScope::Credential => assert!(of_other.is_none_or(|at| at >= until)),
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
    let message = bench.next(START + 300 * SECOND).unwrap();
    assert_eq!((probe.request, message.request), (Request::Probe, Request::Send));
    assert!(bench.next(bench.now + 5 * SECOND).is_none(), "one message proves it");
    bench.answer(&message, Verdict::Delivered);
    for _ in 0..3 {
        let attempt = bench.next(START + 400 * SECOND).unwrap();
        bench.answer(&attempt, Verdict::Delivered);
    }
    assert!(bench.dispatch.refused().is_empty());
    bench.assert_empty();
}

#[test]
fn a_refused_credential_is_tried_at_once_when_its_secret_changes_and_says_each_cause() {
    let mut bench = Bench::new(settings());
    bench.accept(slack(0, "C0"));
    let first = bench.next(START + 10 * SECOND).unwrap();
    bench.dispatch.secret_changed("slack:bot", bench.now);
    bench.answer(&first, Verdict::CredentialRefused);
    let refused = bench.now;
    assert!(bench.next(refused + 5 * SECOND).is_none());
    let changed = bench.now;
    bench.dispatch.secret_changed("slack:other", changed);
    bench.dispatch.secret_changed("slack:bot", changed);
    let probe = bench
        .next(refused + 29 * SECOND)
        .expect("it doesn't wait for its probe's time");
    assert_eq!((probe.request, bench.now), (Request::Probe, changed));
    let told = bench.settled.len();
    bench.answer(&probe, Verdict::CredentialRefused);
    let outcome = &bench.settled[told..][0].outcome;
    assert_eq!(
        (outcome.result, outcome.scope.as_deref(), outcome.next_at),
        (
            OutcomeResult::Retry,
            Some("credential"),
            Some((bench.now + 60 * SECOND) / 1000)
        ),
        "whoever looks learns what is true now"
    );
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
    bench.assert_empty();
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
fn the_halves_of_a_refused_batch_take_no_others_along() {
    let mut bench = Bench::new(settings());
    let record = |number: i64| {
        job(
            number,
            ActionType::ClevertapEvent,
            "clevertap:acme",
            &format!("id-{number}"),
        )
    };
    (0..5).for_each(|number| bench.accept(record(number)));
    let (mut requests, mut next) = (0, 5);
    while let Some(attempt) = bench.next(START + 60 * SECOND) {
        // There is always more to send.
        for _ in 0..if requests < 20 { 5 } else { 0 } {
            bench.accept(record(next));
            next += 1;
        }
        requests += 1;
        let (bad, old): (Vec<_>, Vec<_>) = (attempt.jobs.iter().map(|job| job.event_id.as_str()))
            .filter(|id| ["e-0", "e-1", "e-2", "e-3", "e-4"].contains(id))
            .partition(|id| *id == "e-3");
        let refused = !bad.is_empty();
        let alone = bad.len() + old.len() == attempt.jobs.len();
        assert!(!refused || alone, "{:?}", attempt.jobs.len());
        bench.answer(
            &attempt,
            if refused {
                Verdict::BatchRefused
            } else {
                Verdict::Delivered
            },
        );
        if bench.settled.iter().any(|settled| settled.dead.is_some()) {
            break;
        }
    }
    assert!(requests < 12, "{requests}");
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

#[test]
fn a_million_jobs_of_one_lane_cost_sixteen_bytes_each_and_hold_nobody_up() {
    let mut bench = Bench::new(settings());
    let first = slack(0, "C-flood");
    for number in 0..1_000_000 {
        let at = JobAt {
            partition: 0,
            offset: number,
        };
        bench.dispatch.read(at, None, START / 1000);
        let mut job = first.clone();
        job.job_id = String::new();
        let payload = payload(job, START);
        bench.dispatch.accept(at, payload, &"h".into(), Cause::Match, START);
    }
    assert!(bench.dispatch.bytes() <= settings().payload_bytes_max);
    assert!(bench.dispatch.payloads.len() < 300);
    bench.accept(slack(1_000_000, "C-quiet"));
    let mut to_quiet = None;
    while to_quiet.is_none() {
        let attempt = bench.next(START + 3 * SECOND).expect("the quiet channel has its turn");
        to_quiet = (attempt.jobs[0].destination == "C-quiet").then_some(bench.now);
        bench.answer(&attempt, Verdict::Delivered);
    }
    assert!(to_quiet.unwrap() <= START + 1_230_000, "as if they weren't there");
}

#[test]
fn what_was_not_kept_is_read_again_in_time_and_in_order() {
    let mut small = settings();
    small.payload_bytes_max = 20_000;
    let mut bench = Bench::new(small);
    (0..500).for_each(|number| bench.accept(slack(number, &format!("C{}", number % 5))));
    let mut last = HashMap::new();
    for _ in 0..500 {
        let attempt = bench.next(START + 1000 * SECOND).unwrap();
        let job = &attempt.jobs[0];
        let before = last.insert(job.destination.clone(), job.source_offset);
        assert!(before.is_none_or(|before| before < job.source_offset));
        assert!(
            bench.dispatch.bytes() <= 20_000 + 5_000,
            "one more for each lane that is due"
        );
        bench.answer(&attempt, Verdict::Delivered);
    }
    assert!(bench.reread > 400);
    bench.assert_empty();
}

#[test]
fn jobs_that_are_gone_from_kafka_hold_nobody_up() {
    let mut small = settings();
    small.payload_bytes_max = 2_000;
    let mut bench = Bench::new(small);
    (0..10).for_each(|number| bench.accept(slack(number, "C1")));
    bench.kafka.retain(|at, _| at.offset % 2 == 0 || at.offset < 3);
    let mut sent = Vec::new();
    while let Some(attempt) = bench.next(START + 60 * SECOND) {
        sent.push(attempt.jobs[0].source_offset);
        bench.answer(&attempt, Verdict::Delivered);
    }
    assert_eq!(sent, [0, 1, 2, 4, 6, 8]);
    bench.assert_empty();
}

fn digesting(number: i64, channel: &str) -> DeliveryJob {
    let mut job = slack(number, channel);
    job.digest_after = Some(60_000);
    job.body = format!(r#"{{"channel":"{channel}","text":"Lead {number}"}}"#);
    job
}

#[test]
fn under_pressure_waiting_jobs_of_a_rule_go_as_one_message() {
    let mut bench = Bench::new(settings());
    (0..50).for_each(|number| bench.accept(digesting(number, "C1")));
    let attempt = bench.next(START + 10 * SECOND).unwrap();
    assert!(attempt.jobs[0].body.contains("Lead 0") && !attempt.jobs[0].body.contains("Lead 1"));
    bench.answer(&attempt, Verdict::Delivered);
    // From here on the lane's wait is beyond the threshold.
    (50..300).for_each(|number| bench.accept(digesting(number, "C1")));
    let mut other = slack(300, "C1");
    other.rule_id = "r-2".into();
    bench.accept(other);
    let attempt = bench.next(START + 20 * SECOND).unwrap();
    let body: serde_json::Value = serde_json::from_str(&attempt.jobs[0].body).unwrap();
    let text = body["text"].as_str().unwrap();
    let count: usize = text[1..].split(' ').next().unwrap().parse().unwrap();
    assert!((200..300).contains(&count), "{text}");
    let mut delivered = answer(Verdict::Delivered);
    delivered.message_id = Some("1.5".into());
    let settled = bench.dispatch.answered(attempt.id, vec![delivered], bench.now);
    assert!(settled.iter().all(|one| one.outcome.result == OutcomeResult::Digested));
    assert!(
        settled
            .iter()
            .all(|one| one.outcome.message_id.as_deref() == Some("1.5"))
    );
    bench.take_in(settled);
    while let Some(attempt) = bench.next(START + 120 * SECOND) {
        bench.answer(&attempt, Verdict::Delivered);
    }
    assert_eq!(bench.settled.len(), 301, "every merged job has its own outcome");
    bench.assert_empty();
}

#[test]
fn a_digest_that_fails_is_tried_again_as_one() {
    let mut bench = Bench::new(settings());
    (0..200).for_each(|number| bench.accept(digesting(number, "C1")));
    let first = bench.next(START + 10 * SECOND).unwrap();
    let settled = bench
        .dispatch
        .answered(first.id, vec![answer(Verdict::Ambiguous)], bench.now);
    assert_eq!(settled.len(), 200);
    let again = bench.next(START + 20 * SECOND).unwrap();
    assert_eq!(again.jobs[0].body, first.jobs[0].body);
    let settled = bench
        .dispatch
        .answered(again.id, vec![answer(Verdict::Delivered)], bench.now);
    assert_eq!(settled.len(), 200);
    assert!(settled.iter().all(|one| one.outcome.attempt == 2));
}

#[test]
fn a_rule_over_its_max_rate_waits_alone_and_goes_as_one() {
    let mut bench = Bench::new(settings());
    let capped = |number: i64| {
        let mut job = digesting(number, "C1");
        (job.digest_after, job.max_rate) = (None, Some("3/h".into()));
        job
    };
    (0..10).for_each(|number| bench.accept(capped(number)));
    let mut other = slack(10, "C1");
    other.rule_id = "other".into();
    bench.accept(other);
    let mut sent = Vec::new();
    while let Some(attempt) = bench.next(START + 4000 * SECOND) {
        let text = attempt.jobs[0].body.clone();
        sent.push((
            (bench.now - START) / SECOND,
            attempt.jobs[0].rule_id.clone(),
            text.contains("*7 messages"),
        ));
        bench.answer(&attempt, Verdict::Delivered);
    }
    let (last, first) = sent.split_last().unwrap();
    assert_eq!(first.len(), 4, "three of the rule, and the other's in its turn");
    assert!(first.iter().all(|(at, ..)| *at < 6) && first[3].1 == "other");
    assert!(last.2 && (3600..3603).contains(&last.0), "{last:?}");
    bench.assert_empty();
}

#[test]
fn cancelled_jobs_end_and_others_go_on() {
    let mut small = settings();
    small.payload_bytes_max = 3_000;
    let mut bench = Bench::new(small);
    for number in 0..20 {
        let mut job = slack(number, "C1");
        job.rule_version = number % 4;
        bench.accept(job);
    }
    let mut log = RuleLog::default();
    let at = START / 1000 + 5;
    log.cancel("r", Cancel { offset: 3, at });
    log.apply(3, Some(b"r"), None);
    bench.rules(&mut log);
    assert_eq!(
        bench.results(),
        [OutcomeResult::Cancelled; 15],
        "of versions below the mark"
    );
    let mut late = slack(20, "C1");
    late.rule_version = 2;
    bench.accept(late);
    bench.now += SECOND;
    let mut asked_for = slack(21, "C1");
    asked_for.event_id = "e-21".into();
    bench.accept_as(asked_for, Cause::Replay);
    let mut sent = Vec::new();
    while let Some(attempt) = bench.next(START + 60 * SECOND) {
        sent.push(attempt.jobs[0].source_offset);
        bench.answer(&attempt, Verdict::Delivered);
    }
    assert_eq!(sent, [3, 7, 11, 15, 19, 21], "and a replay that came after it");
    bench.assert_empty();
}

#[test]
fn a_refused_credential_that_its_rule_left_ends_its_jobs() {
    let mut bench = Bench::new(settings());
    (0..3).for_each(|number| bench.accept(slack(number, "C1")));
    let mut kept = slack(3, "C1");
    kept.rule_id = "kept".into();
    bench.accept(kept);
    let attempt = bench.next(START + 10 * SECOND).unwrap();
    bench.answer(&attempt, Verdict::CredentialRefused);
    let mut log = RuleLog::default();
    for (offset, (id, token)) in [("r", "new"), ("kept", "bot")].into_iter().enumerate() {
        let rule = serde_json::json!({
            "id": id, "trigger": "lms.lead_sold", "scope": {"level": "product", "id": "*"},
            "action": {"type": "slack_message", "token": {"secret": token}, "to": {"channel": "C1"}, "text": "x"},
        });
        log.apply(offset as i64, Some(id.as_bytes()), Some(rule.to_string().as_bytes()));
    }
    bench.rules(&mut log);
    let dead: Vec<_> = bench
        .settled
        .iter()
        .filter_map(|one| Some((one.at.offset, one.dead?)))
        .collect();
    assert_eq!(dead, [0, 1, 2].map(|offset| (offset, Reason::CredentialRefused)));
    bench.accept(slack(4, "C1"));
    assert!(bench.next(bench.now + SECOND).is_none());
    assert_eq!(bench.settled.last().unwrap().at.offset, 4, "one that comes later too");
    assert_eq!(bench.dispatch.waiting(), 1);
}

#[test]
fn a_job_past_its_age_is_a_dead_letter_whatever_holds_it() {
    let mut small = settings();
    small.job_age_max = Duration::from_secs(100);
    small.payload_bytes_max = 3_000;
    let mut bench = Bench::new(small);
    (0..10).for_each(|number| bench.accept(slack(number, "C1")));
    let attempt = bench.next(START + 5 * SECOND).unwrap();
    let throttled = Verdict::Throttled {
        scope: FreezeScope::Lane,
        retry_after: Some(Duration::from_secs(1000)),
    };
    bench.answer(&attempt, throttled);
    bench.now = START + 70 * SECOND;
    bench.accept(slack(10, "C1"));
    assert!(bench.next(START + 120 * SECOND).is_none());
    let dead = bench
        .settled
        .iter()
        .filter(|one| one.dead == Some(Reason::GaveUp))
        .count();
    assert_eq!((dead, bench.dispatch.waiting()), (10, 1));
}

#[test]
fn an_account_is_asked_for_more_at_once_until_it_says_less() {
    let mut wide = settings();
    wide.in_flight_max = 64;
    wide.limits.clevertap.concurrency = HashMap::from([("clevertap:acme".to_owned(), 8)]);
    wide.limits.clevertap.batch = Batch {
        max: 1,
        wait: Duration::ZERO,
    };
    let mut bench = Bench::new(wide);
    for number in 0..400 {
        let id = format!("id-{number}");
        bench.accept(job(number, ActionType::ClevertapEvent, "clevertap:acme", &id));
    }
    let mut widths = Vec::new();
    for round in 0..30 {
        let mut flying = Vec::new();
        while let Some(attempt) = bench.next(bench.now) {
            flying.push(attempt);
        }
        widths.push(flying.len());
        bench.now += SECOND;
        for attempt in flying {
            let throttled = Verdict::Throttled {
                scope: FreezeScope::Credential,
                retry_after: None,
            };
            bench.answer(&attempt, if round == 20 { throttled } else { Verdict::Delivered });
        }
        bench.now += if round == 20 { 2 * SECOND } else { 0 };
    }
    assert_eq!(widths[0], 4, "an account's other senders are let be");
    assert_eq!(widths[20], 8, "{widths:?}");
    assert_eq!(widths[21], 4, "half, once for all that were in flight");
    assert!(widths.iter().all(|width| *width <= 8) && widths[29] > 4, "{widths:?}");
}

#[test]
fn the_wait_that_limits_impose_counts_lanes_and_what_they_share() {
    let mut bench = Bench::new(settings());
    assert_eq!(bench.dispatch.limit_wait(bench.now), 0);
    // 100 channels with a job each: a second each, but 300 a minute for the workspace.
    for number in 0..100 {
        bench.accept(slack(number, &format!("C{number}")));
    }
    let wait = bench.dispatch.limit_wait(bench.now);
    assert_eq!(wait, 100 * (60 * SECOND * 102 / 100 / 300));
    // 50 more in one channel take longer than all.
    for number in 100..150 {
        bench.accept(slack(number, "C0"));
    }
    let wait = bench.dispatch.limit_wait(bench.now);
    assert_eq!(wait, 51 * (SECOND * 102 / 100));
}

#[test]
fn a_host_that_was_not_known_at_first_counts_once_it_is() {
    let mut bench = Bench::new(settings());
    let job = |number: i64| {
        let webhook = format!("webhook:hook-{}", number % 3);
        job(number, ActionType::SlackWebhook, &webhook, "")
    };
    let (unknown, known): (Arc<str>, Arc<str>) = ("".into(), "hooks.slack.com:443".into());
    for number in 0..3 {
        bench.accept_at(job(number), Cause::Match, &unknown);
        let first = bench.next(START + 100 * SECOND).unwrap();
        bench.answer(&first, Verdict::Delivered);
    }
    // Their host shows, and takes half of 16 requests, however many credentials there are for it.
    (3..60).for_each(|number| bench.accept_at(job(number), Cause::Match, &known));
    let host = |bench: &Bench, name: &Arc<str>| bench.dispatch.host_by_name.get(name).copied();
    let of_all = bench.dispatch.credentials.iter().map(|credential| credential.host);
    assert!(of_all.clone().all(|of| Some(of) == host(&bench, &known)) && of_all.count() == 3);
    // One that has a request under way is counted where that began.
    let flying = bench.next(START + 200 * SECOND).unwrap();
    bench.accept_at(job(60), Cause::Match, &unknown);
    bench.answer(&flying, Verdict::Delivered);
    let in_flight: usize = bench.dispatch.hosts.iter().map(|host| host.slots.taken()).sum();
    assert_eq!(in_flight, 0);
}

#[test]
fn a_lead_keeps_one_thread_in_a_channel() {
    let mut bench = Bench::new(settings());
    let threaded = |number: i64, channel: &str, lead: &str| {
        let mut job = slack(number, channel);
        (job.thread, job.lead_id) = (true, lead.to_owned());
        job
    };
    let jobs = [("C1", "a"), ("C1", "b"), ("C1", "a"), ("C2", "a"), ("C1", "a")];
    for (number, (channel, lead)) in jobs.into_iter().enumerate() {
        bench.accept(threaded(number as i64, channel, lead));
    }
    let mut seen = Vec::new();
    while let Some(attempt) = bench.next(START + 30 * SECOND) {
        seen.push((attempt.jobs[0].source_offset, attempt.thread_ts.clone()));
        let mut delivered = answer(Verdict::Delivered);
        delivered.message_id = Some(format!("{}.0", attempt.jobs[0].source_offset));
        let settled = bench.dispatch.answered(attempt.id, vec![delivered], bench.now);
        bench.take_in(settled);
    }
    seen.sort();
    let root = Some("0.0".to_owned());
    assert_eq!(
        seen,
        [(0, None), (1, None), (2, root.clone()), (3, None), (4, root.clone())]
    );
    let of = |offset: i64| bench.settled.iter().find(|one| one.at.offset == offset).unwrap();
    assert_eq!(of(0).outcome.thread_ts, root, "so that a successor finds it");
    assert_eq!(of(4).outcome.thread_ts, root);
}

#[test]
fn a_conversation_with_a_member_is_opened_once() {
    let mut bench = Bench::new(settings());
    bench.accept(slack(1, "U1"));
    let attempt = bench.next(START + 10 * SECOND).unwrap();
    bench.answer(&attempt, Verdict::NotOpen);
    let open = bench.next(START + 20 * SECOND).unwrap();
    assert_eq!(open.request, Request::Open);
    let mut opened = answer(Verdict::Delivered);
    opened.channel = Some("D9".into());
    bench.dispatch.answered(open.id, vec![opened], bench.now);
    let attempt = bench.next(START + 30 * SECOND).unwrap();
    assert_eq!(
        (attempt.request, attempt.channel.as_deref()),
        (Request::Send, Some("D9"))
    );
    bench.answer(&attempt, Verdict::NotOpen);
    assert_eq!(bench.settled.last().unwrap().dead, Some(Reason::DestinationGone));
}

#[test]
fn an_identity_that_fails_holds_back_its_own_records_only() {
    let mut bench = Bench::new(settings());
    for (number, id) in ["a", "b", "a", "c", "a"].into_iter().enumerate() {
        bench.accept(job(number as i64, ActionType::ClevertapEvent, "clevertap:acme", id));
    }
    let batch = bench.next(START + 10 * SECOND).unwrap();
    assert_eq!(batch.jobs.len(), 5);
    let answers = ["a", "", "", "", ""].map(|id| answer(if id == "a" { Verdict::Retry } else { Verdict::Delivered }));
    let settled = bench.dispatch.answered(batch.id, answers.to_vec(), bench.now);
    bench.take_in(settled);
    bench.accept(job(5, ActionType::ClevertapEvent, "clevertap:acme", "a"));
    bench.accept(job(6, ActionType::ClevertapEvent, "clevertap:acme", "d"));
    let next = bench.next(START + 10 * SECOND).unwrap();
    let ids = |attempt: &Attempt| attempt.jobs.iter().map(|job| job.source_offset).collect::<Vec<_>>();
    assert_eq!(ids(&next), [6], "the others of it wait for the retry");
    bench.answer(&next, Verdict::Delivered);
    let last = bench.next(START + 10 * SECOND).unwrap();
    assert_eq!(ids(&last), [0, 5]);
}

#[test]
fn a_record_that_fails_goes_before_those_that_came_to_wait_behind_it() {
    let mut two = settings();
    two.limits.clevertap.concurrency = HashMap::from([("clevertap:acme".to_owned(), 4)]);
    let mut bench = Bench::new(two);
    let record = |number, id| job(number, ActionType::ClevertapEvent, "clevertap:acme", id);
    let ids = |attempt: &Attempt| attempt.jobs.iter().map(|job| job.source_offset).collect::<Vec<_>>();
    bench.accept(record(0, "a"));
    let first = bench.next(START + 10 * SECOND).unwrap();
    bench.accept(record(1, "a"));
    bench.accept(record(2, "b"));
    let second = bench.next(START + 10 * SECOND).unwrap();
    assert_eq!(
        (ids(&first), ids(&second)),
        (vec![0], vec![2]),
        "1 waits for the answer to 0"
    );
    bench.answer(&first, Verdict::Retry);
    bench.answer(&second, Verdict::Delivered);
    let last = bench.next(START + 10 * SECOND).unwrap();
    assert_eq!(ids(&last), [0, 1]);
}

#[test]
fn a_record_that_is_refused_here_says_nothing_of_its_account() {
    let throttled = Verdict::Throttled {
        scope: FreezeScope::Credential,
        retry_after: Some(Duration::from_secs(60)),
    };
    let here = Answer {
        status: None,
        ..answer(Verdict::Rejected(Reason::MessageRejected))
    };
    let event = |number: i64| {
        job(
            number,
            ActionType::ClevertapEvent,
            "clevertap:acme",
            &format!("id-{number}"),
        )
    };
    for (verdict, result) in [
        (throttled, OutcomeResult::Throttled),
        (Verdict::CredentialRefused, OutcomeResult::Retry),
    ] {
        let mut bench = Bench::new(settings());
        (0..3).for_each(|number| bench.accept(event(number)));
        let batch = bench.next(START + 10 * SECOND).unwrap();
        assert_eq!(batch.jobs.len(), 3);
        let answers = vec![here.clone(), answer(verdict.clone()), answer(verdict)];
        let settled = bench.dispatch.answered(batch.id, answers, bench.now);
        bench.take_in(settled);
        assert_eq!(bench.results(), [OutcomeResult::Dead, result, result]);
        assert!(bench.settled[1].outcome.scope.is_some(), "the account is frozen");
    }
    // Nor do failures pass for a success because one was refused here.
    let mut bench = Bench::new(settings());
    (0..3).for_each(|number| bench.accept(event(number)));
    let batch = bench.next(START + 10 * SECOND).unwrap();
    let answers = vec![here, answer(Verdict::Retry), answer(Verdict::Retry)];
    let settled = bench.dispatch.answered(batch.id, answers, bench.now);
    bench.take_in(settled);
    assert!(
        bench
            .dispatch
            .lanes
            .iter()
            .any(|lane| lane.failed == 1 && lane.standing == Standing::Fails)
    );
}

#[test]
fn late_ack_after_revoke() {
    let mut bench = Bench::new(settings());
    bench.accept(slack(0, "C1"));
    let attempt = bench.next(START + 10 * SECOND).unwrap();
    bench.dispatch.disown(0);
    let recalled = Recalled::default();
    own(&mut bench.dispatch, recalled, bench.now);
    bench.accept(slack(0, "C1"));
    let settled = bench
        .dispatch
        .answered(attempt.id, vec![answer(Verdict::Delivered)], bench.now);
    assert!(settled.is_empty(), "it belongs to a former ownership");
    assert_eq!(bench.dispatch.ledger.place(0).unwrap().offset, 0);
    assert!(bench.next(START + 30 * SECOND).is_none());
    assert_eq!(
        bench.results(),
        [OutcomeResult::Duplicate],
        "but we know that it was sent"
    );
}

#[test]
fn a_partition_on_its_way_out_settles_what_is_in_flight_and_starts_nothing() {
    let mut bench = Bench::new(settings());
    (0..3).for_each(|number| bench.accept(slack(number, &format!("C{number}"))));
    let attempt = bench.next(START + 10 * SECOND).unwrap();
    bench.dispatch.retire(0);
    assert!(bench.next(START + 20 * SECOND).is_none());
    assert!(bench.dispatch.is_busy(0));
    bench.answer(&attempt, Verdict::Delivered);
    assert_eq!(bench.results(), [OutcomeResult::Sent]);
    assert_eq!(bench.dispatch.ledger.place(0).unwrap().offset, 1);
    bench.dispatch.disown(0);
    bench.assert_empty();
}

#[test]
fn a_successor_knows_freezes_attempts_and_what_was_sent() {
    let mut bench = Bench::new(settings());
    let until = START + 50 * SECOND;
    let frozen = Frozen {
        until,
        ..Frozen::default()
    };
    let tried = Tried {
        attempts: 3,
        failing_since: START - SECOND,
        not_before: START + 8 * SECOND,
        aside: false,
    };
    let recalled = Recalled {
        committed: 0,
        tried_below: 3,
        known_since: START - 3600 * SECOND,
        settled: HashSet::from([1]),
        tried: HashMap::from([(0, tried)]),
        sent: vec![(
            super::super::sent::id_bytes(&slack(2, "C1").job_id).unwrap(),
            START - SECOND,
        )],
        frozen: HashMap::from([("slack:bot/C9".to_owned(), frozen)]),
        ..Recalled::default()
    };
    bench.dispatch.disown(0);
    own(&mut bench.dispatch, recalled, START);
    (0..3).for_each(|number| bench.accept(slack(number, "C1")));
    bench.accept(slack(3, "C9"));
    let mut sent = Vec::new();
    while let Some(attempt) = bench.next(START + 100 * SECOND) {
        sent.push((attempt.jobs[0].source_offset, (bench.now - START) / SECOND));
        bench.answer(&attempt, Verdict::Delivered);
    }
    assert_eq!(sent[0], (0, 8), "not before its retry is due");
    assert_eq!(sent[1].0, 3);
    assert!((50..52).contains(&sent[1].1), "{sent:?}");
    assert_eq!(bench.settled[0].outcome.attempt, 4);
    assert!(bench.results().contains(&OutcomeResult::Duplicate));
    bench.assert_empty();
}

#[test]
fn the_time_frozen_is_no_time_of_failing() {
    for (credential, action) in [
        ("slack:bot", ActionType::SlackMessage),
        ("clevertap:acme", ActionType::ClevertapEvent),
    ] {
        let mut bench = Bench::new(settings());
        bench.accept(job(1, action, credential, "C1"));
        let mut refused = 0;
        // For longer than `give_up_after`, and then it fails for another reason.
        while bench.now < START + 4 * 3600 * SECOND {
            let attempt = bench.next(START + 10 * 3600 * SECOND).unwrap();
            bench.answer(&attempt, Verdict::CredentialRefused);
            refused += 1;
        }
        assert!(refused > 10, "{refused}");
        loop {
            let attempt = bench.next(START + 10 * 3600 * SECOND).unwrap();
            if attempt.request == Request::Send {
                bench.answer(&attempt, Verdict::Retry);
                break;
            }
            bench.answer(&attempt, Verdict::Delivered);
        }
        let last = bench.settled.last().unwrap();
        assert_eq!(
            (last.dead, last.outcome.result),
            (None, OutcomeResult::Retry),
            "{credential}"
        );
        assert!(!last.outcome.words.as_ref().is_some_and(|words| words.contains("aside")));
    }
}

#[test]
fn a_record_that_waited_for_another_of_its_identity_goes_while_the_backlog_lasts() {
    let mut wide = settings();
    wide.in_flight_max = 64;
    wide.limits.clevertap.concurrency = HashMap::from([("clevertap:acme".to_owned(), 8)]);
    let mut bench = Bench::new(wide);
    let event = |number: i64, id: &str| job(number, ActionType::ClevertapEvent, "clevertap:acme", id);
    (0..12).for_each(|number| bench.accept(event(number, "hot")));
    (12..2_000).for_each(|number| bench.accept(event(number, &format!("id-{number}"))));
    let mut flying = VecDeque::new();
    let (mut requests, mut hot) = (0, 0);
    while hot < 12 {
        let Some(attempt) = bench.next(bench.now + SECOND) else {
            let attempt: Attempt = flying.pop_front().unwrap();
            bench.answer(&attempt, Verdict::Delivered);
            continue;
        };
        requests += 1;
        hot += attempt.jobs.iter().filter(|job| job.destination == "hot").count();
        flying.push_back(attempt);
    }
    assert!(requests < 30, "{requests} requests until the last of twelve");
}

#[test]
fn a_retry_of_a_stopped_rule_is_cancelled_too() {
    let mut bench = Bench::new(settings());
    bench.accept(slack(1, "C1"));
    let attempt = bench.next(START + 10 * SECOND).unwrap();
    let mut log = RuleLog::default();
    log.cancel(
        "r",
        Cancel {
            offset: 3,
            at: START / 1000 + 5,
        },
    );
    bench.rules(&mut log);
    assert!(bench.settled.is_empty(), "it is in flight");
    bench.answer(&attempt, Verdict::Retry);
    assert!(bench.next(START + 60 * SECOND).is_none());
    assert_eq!(bench.results(), [OutcomeResult::Retry, OutcomeResult::Cancelled]);
    bench.assert_empty();
}

#[test]
fn a_successor_knows_of_a_429_to_what_came_before_the_message() {
    let mut bench = Bench::new(settings());
    bench.accept(slack(1, "C1"));
    let attempt = bench.next(START + 10 * SECOND).unwrap();
    bench.answer(&attempt, Verdict::NotInChannel);
    let join = bench.next(START + 10 * SECOND).unwrap();
    assert_eq!(join.request, Request::Join);
    let throttled = Verdict::Throttled {
        scope: FreezeScope::Lane,
        retry_after: Some(Duration::from_secs(30)),
    };
    bench.answer(&join, throttled);
    let until = bench.now + 30 * SECOND;
    let mut recalled = Recalled::default();
    for one in &bench.settled {
        recalled.take(one.outcome.clone(), bench.now);
    }
    assert_eq!(recalled.frozen["slack:bot"].until, until);
    assert_eq!(recalled.tried[&1].attempts, 1, "it was no attempt at the message");
}
