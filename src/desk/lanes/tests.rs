use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::action::ActionType;
use crate::delivery::dispatch::{Dispatch, Payload};
use crate::delivery::lane::{Cause, JobAt};
use crate::delivery::recall::{Recalled, tag};
use crate::delivery::tests::job;
use crate::delivery::{DeliveryJob, Outcome, OutcomeResult, job_id};
use crate::kafka::reader::Record;
use crate::lead::EventId;
use crate::rules::control::key_of;
use crate::rules::log::RuleLog;
use crate::rules::{RuleId, Versioned};
use crate::trail::Trail;

const NOW: i64 = 1_772_723_760_000;

/// What an outcome of the job at this offset says.
fn outcome(lane: &str, offset: i64, result: OutcomeResult, next_at: Option<i64>) -> Outcome {
    let mut outcome = job().outcome(result, NOW - 1000);
    outcome.lane = lane.to_owned();
    outcome.job_id = format!("j-{offset}");
    (outcome.job_partition, outcome.job_offset) = (Some(0), Some(offset));
    (outcome.attempt, outcome.next_at) = (1, next_at);
    outcome
}

/// A backlog with one job in slack:a/C1 at offset 100.
fn backlog(outcomes: impl IntoIterator<Item = Outcome>, limit: Limit) -> Backlog {
    let mut backlog = Backlog::default();
    for outcome in outcomes {
        backlog.outcome(0, outcome, NOW);
    }
    let waiting = DeliveryJob {
        job_id: "j-100".into(),
        credential: "slack:a".into(),
        destination: "C1".into(),
        ..job()
    };
    let record = Record {
        offset: 100,
        timestamp: NOW - 70_000,
        ..Record::default()
    };
    backlog.job(&record, &waiting, limit);
    backlog
}

fn unpaused(backlog: &Backlog, now: i64) -> Vec<Lane> {
    list(backlog, &Controls::default(), now)
}

#[test]
fn a_paused_lane_is_told_with_who_and_since_when_and_so_is_what_has_nothing_waiting() {
    let backlog = backlog([], Limit::default());
    let value = r#"{"paused": true, "who": "ana", "when": "2026-03-05T15:16:00Z"}"#;
    for (paused, of, shown) in [
        ("slack:a/C1", "slack:a/C1", &["slack:a/C1"][..]),
        ("slack:a", "slack:a", &["slack:a", "slack:a/C1"]),
        ("*", "*", &["*", "slack:a/C1"]),
        ("slack:b/C1", "", &["slack:a/C1", "slack:b/C1"]),
    ] {
        let (mut log, key) = (RuleLog::<Arc<Versioned>>::default(), key_of(paused));
        log.apply(0, Some(key.as_bytes()), Some(value.as_bytes()));
        let lanes = list(&backlog, log.controls(), NOW);
        let ids: Vec<&str> = lanes.iter().map(|lane| &*lane.id).collect();
        assert_eq!(ids, shown, "{paused}");
        let waits = lanes.iter().find(|lane| lane.id == "slack:a/C1").unwrap();
        assert_eq!(waits.paused.as_ref().map_or("", |paused| &paused.of), of);
        assert_eq!(waits.next_at.is_none(), !of.is_empty());
        for lane in lanes.iter().filter(|lane| lane.paused.is_some()) {
            let pause = lane.paused.as_ref().unwrap();
            assert_eq!(
                (pause.who.as_deref(), pause.since),
                (Some("ana"), Some(1_772_723_760_000))
            );
            assert!(
                pause.words.ends_with("is paused by ana since 2026-03-05T15:16:00Z"),
                "{}",
                pause.words
            );
        }
    }
}

#[test]
fn the_next_request_waits_for_every_limit_freeze_and_retry() {
    let limit = Limit {
        lane: Some(Rate::per_second(1)),
        credential: Some(Rate::per_minute(300)),
        in_flight: None,
    };
    let started = |lane: &str, ago: i64| {
        let mut started = outcome(lane, 1, OutcomeResult::Sent, None);
        started.started_at = Some(NOW - ago);
        started
    };
    let scoped = |scope: &str, result, next_at| {
        let mut scoped = outcome("slack:a/C1", 2, result, Some(NOW + next_at));
        scoped.scope = Some(scope.to_owned());
        scoped
    };
    use OutcomeResult::{Retry, Throttled};
    for (limit, outcomes, wanted) in [
        (limit, vec![], 0),
        (limit, vec![started("slack:a/C1", 500)], 520),
        (
            limit,
            vec![started("slack:a/C1", 9_000), started("slack:a/C2", 10)],
            194,
        ),
        (
            limit,
            vec![scoped("lane", Throttled, 2_000), scoped("credential", Throttled, 5_000)],
            5_000,
        ),
        (limit, vec![scoped("lane", Throttled, -1_000)], 0),
        (
            Limit::default(),
            vec![
                started("slack:a/C1", 1),
                outcome("slack:a/C1", 100, Retry, Some(NOW + 1_000)),
            ],
            1_000,
        ),
    ] {
        let lanes = unpaused(&backlog(outcomes.clone(), limit), NOW);
        assert_eq!(lanes[0].next_at, Some(NOW + wanted), "{outcomes:?}");
    }
}

#[test]
fn a_lane_is_frozen_as_long_as_any_answer_asked_and_a_refused_credential_until_it_works() {
    use OutcomeResult::{Retry, Sent, Throttled};
    let scoped = |scope: &str, result, next_at, words: &str| {
        let mut scoped = outcome("slack:a/C1", 2, result, Some(NOW + next_at));
        (scoped.scope, scoped.words) = (Some(scope.to_owned()), Some(words.to_owned()));
        scoped
    };
    let throttled = scoped("lane", Throttled, 30_000, "");
    let refused = scoped("credential", Retry, 20_000, "invalid_auth");
    let sent = outcome("slack:a/C2", 3, Sent, None);
    let frozen = |until: Option<i64>, why: &str, refused| {
        Some(Frozen {
            until: until.map(|until| NOW + until),
            why: why.to_owned(),
            refused,
        })
    };
    let refusal = "credential refused: invalid_auth";
    for (outcomes, at, wanted) in [
        (vec![], 0, None),
        (vec![throttled.clone()], 0, frozen(Some(30_000), "throttled", false)),
        // What was on its way when the answer came ends no freeze.
        (
            vec![throttled.clone(), sent.clone()],
            0,
            frozen(Some(30_000), "throttled", false),
        ),
        (vec![throttled.clone()], 30_000, None),
        (vec![refused.clone()], 0, frozen(Some(20_000), refusal, true)),
        (vec![refused.clone()], 20_000, frozen(None, refusal, true)),
        (vec![refused.clone(), sent], 20_000, None),
        // The longer one counts.
        (vec![throttled, refused], 0, frozen(Some(30_000), "throttled", false)),
    ] {
        let lanes = unpaused(&backlog(outcomes.clone(), Limit::default()), NOW + at);
        let next_at = match &wanted {
            Some(frozen) => frozen.until,
            None => Some(NOW + at),
        };
        assert_eq!((&lanes[0].frozen, lanes[0].next_at), (&wanted, next_at), "{outcomes:?}");
    }
}

const LANES: [(ActionType, &str, &str); 4] = [
    (ActionType::SlackMessage, "slack:a", "C1"),
    (ActionType::SlackMessage, "slack:a", "C2"),
    (ActionType::SlackWebhook, "webhook:alerts", ""),
    (ActionType::ClevertapEvent, "clevertap:acme", "id-1"),
];

fn of_lane((action, credential, destination): (ActionType, &str, &str), number: i64) -> DeliveryJob {
    DeliveryJob {
        job_id: job_id(EventId(&number.to_string()), RuleId("r-1")).to_string(),
        action,
        credential: credential.into(),
        destination: destination.into(),
        max_rate: None,
        ..job()
    }
}

proptest! {
    /// Whatever stands in the outcomes: what people are shown is what a sender that takes over keeps to.
    #[test]
    fn people_see_the_freezes_that_a_new_owner_keeps_to(
        outcomes in prop::collection::vec((0..LANES.len(), 0..OutcomeResult::ALL.len(), 0..3u8, -60_000..60_000i64), 0..30),
        ahead in prop::sample::select(vec![0, 5_000_000]),
    ) {
        let (mut backlog, mut recalled) = (Backlog::default(), Recalled::default());
        for (offset, (lane, result, scope, next)) in (0..).zip(outcomes) {
            let mut outcome = of_lane(LANES[lane], offset).outcome(OutcomeResult::ALL[result], NOW - 100 + offset);
            (outcome.job_partition, outcome.job_offset, outcome.attempt) = (Some(0), Some(offset), 1);
            outcome.scope = ["lane", "credential"].get(usize::from(scope)).map(|scope| (*scope).to_owned());
            outcome.next_at = Some(NOW + next);
            outcome.started_at = Some(NOW - 200 + offset);
            backlog.outcome(0, outcome.clone(), NOW);
            recalled.take(outcome, NOW * 1000);
        }
        let steady = NOW * 1000 - ahead;
        let mut dispatch = Dispatch::new(crate::sender::settings(&crate::config::Config::default()), fastrand::Rng::with_seed(1));
        dispatch.wall_clock(ahead);
        dispatch.take_over(0, steady);
        dispatch.own(0, recalled, Trail::default(), steady);
        for (offset, lane) in (1000..).zip(LANES) {
            let job = of_lane(lane, offset);
            let record = Record { offset, timestamp: NOW, ..Record::default() };
            backlog.job(&record, &job, Limit::default());
            let at = JobAt { partition: 0, offset };
            prop_assert!(dispatch.read(at, Some(tag(&job.job_id)), NOW).is_accepted());
            let host: Arc<str> = job.credential.as_str().into();
            let payload = Payload { job: Arc::new(job), traceparent: None, written_at: NOW, bytes: 1000, newer: None };
            dispatch.accept(at, payload, &host, Cause::Match, steady);
        }
        // The sender numbers lanes as it meets them.
        for (lane, kept) in LANES.into_iter().zip(dispatch.lanes(steady)) {
            let id = of_lane(lane, 0).lane();
            let shown = unpaused(&backlog, NOW).into_iter().find(|shown| shown.id == id).unwrap();
            let until = shown.frozen.as_ref().and_then(|frozen| frozen.until);
            prop_assert_eq!(until.map(|until| until * 1000), kept.frozen_until.map(|until| until + ahead), "{}", &id);
        }
    }
}

#[test]
fn jobs_of_a_newer_version_hold_every_lane_of_their_credential() {
    let mut settled = outcome("slack:a", 7, OutcomeResult::Dead, None);
    let newer = |offset, name: &str| {
        let header = |name: &str, text: &str| (name.to_owned(), text.as_bytes().to_vec());
        let id = job_id(EventId(name), RuleId("r-1")).to_string();
        Record {
            offset,
            timestamp: NOW - 90_000,
            key: Some(b"slack:a".to_vec()),
            headers: vec![
                header("event-id", name),
                header("rule-id", "r-1"),
                header("job-id", &id),
            ],
            ..Record::default()
        }
    };
    settled.job_id = job_id(EventId("e-7"), RuleId("r-1")).to_string();
    let mut backlog = backlog([settled], Limit::default());
    backlog.hold(&newer(7, "e-7"));
    assert_eq!(unpaused(&backlog, NOW)[0].frozen, None, "it is settled");
    backlog.hold(&newer(8, "e-8"));
    backlog.hold(&Record {
        key: None,
        ..newer(9, "e-9")
    });
    let other = of_lane(LANES[2], 1);
    let record = Record {
        offset: 101,
        ..newer(8, "e-10")
    };
    backlog.job(&record, &other, Limit::default());
    let shown = unpaused(&backlog, NOW);
    let found: Vec<_> = shown
        .iter()
        .map(|lane| {
            (
                &*lane.id,
                lane.waiting,
                lane.oldest_at,
                lane.next_at,
                lane.frozen.is_some(),
            )
        })
        .collect();
    let wanted = [
        ("slack:a", 1, Some(NOW - 90_000), None, true),
        ("slack:a/C1", 1, Some(NOW - 70_000), None, true),
        ("webhook:alerts", 1, Some(NOW - 90_000), Some(NOW), false),
    ];
    assert_eq!(found, wanted);
    let why = &shown[1].frozen.as_ref().unwrap().why;
    assert!(why.starts_with("held by jobs of a newer version (1)"), "{why}");
    assert_eq!(backlog.of_rule("r-1"), 3);
}
