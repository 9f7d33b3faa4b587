//! Tests that people send: before all others, once, and leaving nothing behind.

use super::control::Orders;
use super::*;
use crate::rules::control::{ALL, Order};

/// A job that a person tries a rule with.
fn tried(number: i64, job: DeliveryJob) -> DeliveryJob {
    DeliveryJob {
        expires_at: Some((START + 15 * SECOND) / 1000),
        on_ambiguous: OnAmbiguous::Dead,
        source_offset: number,
        ..job
    }
}

impl Bench {
    fn test(&mut self, job: DeliveryJob) {
        self.accept_as(job, Cause::Test);
    }

    /// The last outcome: its result, its reason and its words.
    fn last(&self) -> (OutcomeResult, Option<&str>, &str) {
        let last = self.settled.last().expect("it ended");
        assert!(last.is_test && last.dead.is_none(), "{last:?}");
        let outcome = &last.outcome;
        (
            outcome.result,
            outcome.reason.as_deref(),
            outcome.words.as_deref().unwrap_or_default(),
        )
    }
}

#[test]
fn a_test_goes_before_all_others_at_its_lanes_rate() {
    let mut bench = Bench::new(settings());
    (0..1000).for_each(|number| bench.accept(slack(number, "C1")));
    let first = bench.next(START + 10 * SECOND).unwrap();
    let began = bench.now;
    bench.test(tried(5000, slack(5000, "C1")));
    assert!(bench.next(began + SECOND / 2).is_none(), "one message at a time");
    bench.answer(&first, Verdict::Delivered);
    let test = bench.next(began + 10 * SECOND).unwrap();
    assert!(test.is_test && test.jobs[0].source_offset == 5000);
    assert!(bench.now >= began + SECOND, "within the channel's rate");
    bench.answer(&test, Verdict::Delivered);
    assert_eq!(bench.last(), (OutcomeResult::Sent, None, ""));
    let next = bench.next(began + 10 * SECOND).unwrap();
    assert!(!next.is_test && next.jobs[0].source_offset == 1);
    bench.answer(&next, Verdict::Delivered);
    assert!(!bench.settled.last().unwrap().is_test);
}

#[test]
fn a_test_has_one_attempt_and_its_freeze_is_told() {
    use OutcomeResult::{Dead, Throttled};
    for (verdict, reason, results) in [
        (Verdict::Retry, "gave_up", &[Dead][..]),
        (Verdict::Ambiguous, "gave_up", &[Dead]),
        (Verdict::Rejected(Reason::DestinationGone), "destination_gone", &[Dead]),
        (
            Verdict::Throttled {
                scope: FreezeScope::Lane,
                retry_after: Some(Duration::from_secs(3)),
            },
            "gave_up",
            &[Throttled, Dead],
        ),
        (
            Verdict::CredentialRefused,
            "credential_refused",
            &[OutcomeResult::Retry, Dead],
        ),
    ] {
        let mut bench = Bench::new(settings());
        bench.test(tried(1, slack(1, "C1")));
        let attempt = bench.next(START + 10 * SECOND).unwrap();
        bench.answer(&attempt, verdict.clone());
        assert_eq!(bench.results(), results, "{verdict:?}");
        assert_eq!(bench.last().1, Some(reason), "{verdict:?}");
        let told = &bench.settled[0].outcome;
        if results.len() > 1 {
            assert!(told.scope.is_some() && told.next_at.is_some());
            // Whoever waits in the lane waits for what the test was told.
            bench.accept(slack(2, "C1"));
            assert!(bench.next(bench.now + 2 * SECOND).is_none(), "{verdict:?}");
        }
        let last = &bench.settled.last().unwrap().outcome;
        assert!(last.scope.is_none() && last.next_at.is_none() && last.attempt == 1);
        assert!(bench.dispatch.tests.is_empty() && bench.dispatch.tried.is_empty());
    }
}

#[test]
fn a_test_joins_its_channel_as_a_message_does() {
    let mut bench = Bench::new(settings());
    bench.test(tried(1, slack(1, "C1")));
    (2..4).for_each(|number| bench.accept(slack(number, "C1")));
    let mut requests = Vec::new();
    for verdict in [Verdict::NotInChannel, Verdict::Delivered, Verdict::Delivered] {
        let attempt = bench.next(START + 12 * SECOND).unwrap();
        assert!(attempt.is_test);
        requests.push(attempt.request);
        bench.answer(&attempt, verdict);
    }
    assert_eq!(requests, [Request::Send, Request::Join, Request::Send]);
    assert_eq!(bench.last().0, OutcomeResult::Sent);
    assert!(bench.settled.iter().all(|one| one.is_test), "those that follow wait");
}

#[test]
fn a_test_that_cant_start_in_time_is_over_as_soon_as_that_is_known_and_says_why() {
    let (mut bench, mut orders) = (Bench::new(settings()), Orders::default());
    bench.rules(orders.give(Order::Pause, ALL, START));
    bench.test(tried(1, slack(1, "C1")));
    assert!(bench.next(START + SECOND / 2).is_none());
    let (result, _, words) = bench.last();
    assert_eq!(result, OutcomeResult::Expired);
    assert!(
        words.starts_with("not sent: all sending is paused by ana since "),
        "{words}"
    );
    bench.assert_empty();
    // A pause that comes while it waits.
    bench.rules(orders.give(Order::Resume, ALL, START));
    bench.accept(slack(2, "C1"));
    let hangs = bench.next(START + 5 * SECOND).unwrap();
    bench.test(tried(3, slack(3, "C1")));
    bench.rules(orders.give(Order::Pause, "slack:bot/C1", START));
    assert!(bench.next(bench.now).is_none());
    assert!(bench.last().2.contains("slack:bot/C1 is paused by ana"));
    bench.rules(orders.give(Order::Resume, "slack:bot/C1", START));
    // One before it hangs.
    bench.test(tried(4, slack(4, "C1")));
    let known = bench.settled.len();
    assert!(bench.next(START + 15 * SECOND - 1).is_none());
    assert_eq!(bench.settled.len(), known);
    assert!(bench.next(START + 16 * SECOND).is_none());
    assert!(bench.last().2.ends_with("its turn did not come in time"));
    // A freeze that lasts longer.
    bench.answer(
        &hangs,
        Verdict::Throttled {
            scope: FreezeScope::Credential,
            retry_after: Some(Duration::from_secs(100)),
        },
    );
    let now = bench.now;
    let mut frozen = tried(5, slack(5, "C1"));
    frozen.expires_at = Some((now + 15 * SECOND) / 1000);
    bench.test(frozen);
    assert!(bench.next(now).is_none());
    let words = bench.last().2;
    assert!(
        words.starts_with("not sent: slack:bot is frozen until 1970-") && words.ends_with(": throttled"),
        "{words}"
    );
}

#[test]
fn a_test_that_is_in_flight_when_its_time_ends_is_answered() {
    let mut bench = Bench::new(settings());
    bench.test(tried(1, slack(1, "C1")));
    let attempt = bench.next(START + 10 * SECOND).unwrap();
    assert!(bench.next(START + 30 * SECOND).is_none());
    assert!(bench.settled.is_empty());
    bench.answer(&attempt, Verdict::Delivered);
    assert_eq!(bench.last().0, OutcomeResult::Sent);
    bench.assert_empty();
}

#[test]
fn a_test_is_read_late_by_nobody_who_still_sends_it() {
    let mut bench = Bench::new(settings());
    bench.now = START + 20 * SECOND;
    bench.test(tried(1, slack(1, "C1")));
    assert!(bench.next(START + 30 * SECOND).is_none());
    assert_eq!(bench.last().0, OutcomeResult::Expired);
    // However late it would expire by itself.
    let mut patient = tried(2, slack(2, "C1"));
    patient.expires_at = None;
    bench.accept(slack(3, "C1"));
    let hangs = bench.next(START + 40 * SECOND).unwrap();
    bench.test(patient);
    assert!(bench.next(bench.now + 16 * SECOND).is_none());
    assert_eq!(bench.last().0, OutcomeResult::Expired);
    bench.answer(&hangs, Verdict::Delivered);
    bench.assert_empty();
}

#[test]
fn a_test_neither_is_suppressed_nor_suppresses() {
    let mut bench = Bench::new(settings());
    let real = slack(1, "C1");
    bench.accept(real.clone());
    let attempt = bench.next(START + 5 * SECOND).unwrap();
    bench.answer(&attempt, Verdict::Delivered);
    // By accident the same ids; a test that is sent twice is, and so is the job behind it.
    let other = slack(7, "C1");
    for number in 2..4 {
        bench.test(tried(number, real.clone()));
        let attempt = bench.next(START + 10 * SECOND).unwrap();
        bench.answer(&attempt, Verdict::Delivered);
    }
    bench.test(tried(4, other.clone()));
    bench.accept(other);
    for _ in 0..2 {
        let attempt = bench.next(START + 14 * SECOND).unwrap();
        bench.answer(&attempt, Verdict::Delivered);
    }
    assert_eq!(bench.results(), [OutcomeResult::Sent; 5]);
    bench.assert_empty();
}

#[test]
fn what_a_rule_becomes_and_its_credential_end_no_test() {
    let (mut bench, mut log) = (Bench::new(settings()), RuleLog::default());
    log.cancel(
        "r",
        Cancel {
            offset: 9,
            at: START / 1000 + 1_000_000,
        },
    );
    bench.rules(&mut log);
    bench.test(tried(1, slack(1, "C1")));
    bench.rules(&mut log);
    let attempt = bench.next(START + 10 * SECOND).unwrap();
    log.cancel(
        "r",
        Cancel {
            offset: 99,
            at: START / 1000 + 1_000_000,
        },
    );
    bench.rules(&mut log);
    bench.answer(&attempt, Verdict::NotInChannel);
    let join = bench.next(START + 10 * SECOND).unwrap();
    assert_eq!(join.request, Request::Join);
}

#[test]
fn a_record_of_a_test_goes_alone_and_not_while_its_user_has_one_in_flight() {
    let record = |number: i64, user: &str| job(number, ActionType::ClevertapEvent, "clevertap:acme", user);
    let mut settings = settings();
    settings.in_flight_max = 64;
    let mut bench = Bench::new(settings);
    (0..4).for_each(|number| bench.accept(record(number, &format!("id-{number}"))));
    bench.test(tried(10, record(10, "id-new")));
    let test = bench.next(START + SECOND).unwrap();
    assert!(test.is_test && test.jobs.len() == 1);
    assert!(bench.now < START + SECOND / 10, "it waits for no company");
    bench.answer(&test, Verdict::Delivered);
    let batch = bench.next(START + 2 * SECOND).unwrap();
    assert_eq!((batch.is_test, batch.jobs.len()), (false, 4));
    bench.test(tried(11, record(11, "id-2")));
    assert!(
        bench.next(START + 3 * SECOND).is_none(),
        "its user has a record in flight"
    );
    bench.answer(&batch, Verdict::Delivered);
    let test = bench.next(START + 4 * SECOND).unwrap();
    assert!(test.is_test);
    bench.answer(&test, Verdict::BatchRefused);
    assert_eq!(bench.last().1, Some("message_rejected"));
    bench.assert_empty();
}

#[test]
fn a_partition_takes_its_tests_along() {
    let mut bench = Bench::new(settings());
    bench.accept(slack(1, "C1"));
    let hangs = bench.next(START + 5 * SECOND).unwrap();
    bench.test(tried(2, slack(2, "C1")));
    bench.dispatch.retire(0);
    assert!(bench.next(START + 30 * SECOND).is_none());
    assert!(bench.settled.is_empty() && bench.dispatch.tests.is_empty());
    bench.answer(&hangs, Verdict::Delivered);
    bench.dispatch.disown(0);
    assert_eq!((bench.dispatch.waiting(), bench.dispatch.bytes()), (0, 0));
}
