//! What people order of lanes: pauses and probes.

use super::*;
use crate::rules::control::{ALL, Control, Order, key_of};

/// The rules topic, as orders are written to it.
#[derive(Default)]
pub(super) struct Orders {
    pub(super) log: RuleLog,
    offset: i64,
}

impl Orders {
    /// Somebody orders this at `when`, by the wall clock.
    pub(super) fn give(&mut self, order: Order, lane: &str, when: Micros) -> &mut RuleLog {
        let after = order.after(self.log.controls().get(lane), "ana", when / 1000);
        let value = after.as_ref().map(Control::to_json).map(|json| json.to_string());
        let (key, value) = (key_of(lane), value.as_deref().map(str::as_bytes));
        self.log.apply(self.offset, Some(key.as_bytes()), value);
        self.offset += 1;
        &mut self.log
    }
}

impl Bench {
    fn order(&mut self, orders: &mut Orders, order: Order, lane: &str) {
        let when = self.dispatch.wall(self.now);
        self.rules(orders.give(order, lane, when));
    }

    /// Sends everything that goes until then; gives which jobs went when.
    fn send_until(&mut self, until: Micros) -> Vec<(i64, Micros)> {
        let mut sent = Vec::new();
        while let Some(attempt) = self.next(until) {
            sent.push((attempt.jobs[0].source_offset, self.now));
            self.answer(&attempt, Verdict::Delivered);
        }
        sent
    }
}

fn batched(number: i64) -> DeliveryJob {
    job(
        number,
        ActionType::ClevertapEvent,
        "clevertap:acme",
        &format!("id-{number}"),
    )
}

#[test]
fn nothing_of_what_is_paused_starts_others_go_on_and_all_goes_in_order_once_it_is_resumed() {
    for (paused, waits) in [
        ("slack:bot/C1", &[1, 3, 5][..]),
        ("slack:bot", &[1, 2, 3, 4, 5, 6]),
        (ALL, &[1, 2, 3, 4, 5, 6, 7, 8]),
    ] {
        let (mut bench, mut orders) = (Bench::new(settings()), Orders::default());
        bench.order(&mut orders, Order::Pause, paused);
        for number in 1..7 {
            bench.accept(slack(number, if number % 2 == 1 { "C1" } else { "C2" }));
        }
        bench.accept(job(7, ActionType::SlackWebhook, "webhook:alerts", ""));
        bench.accept(batched(8));
        let resumed = START + 3600 * SECOND;
        let before = bench.send_until(resumed);
        assert!(
            before.iter().all(|(number, _)| !waits.contains(number)),
            "{paused}: {before:?}"
        );
        assert_eq!(before.len() + waits.len(), 8, "{paused}: others go on");
        let told = bench.dispatch.lanes(bench.now);
        let told = told.filter(|lane| lane.frozen_why == Some("paused") && lane.waiting > 0);
        assert!(told.map(|lane| lane.waiting).sum::<usize>() == waits.len());

        bench.order(&mut orders, Order::Resume, paused);
        let mut after = bench.send_until(resumed + 60 * SECOND);
        let (_, first) = after[0];
        assert!(first < resumed + SECOND, "{paused}: it goes on at once");
        for of in [1, 0] {
            let lane: Vec<i64> = after
                .iter()
                .map(|(number, _)| *number)
                .filter(|number| *number < 7 && number % 2 == of)
                .collect();
            assert!(lane.is_sorted(), "{paused}: {after:?}");
        }
        after.sort_unstable();
        let after: Vec<i64> = after.into_iter().map(|(number, _)| number).collect();
        assert_eq!(after, waits, "{paused}");
        assert_eq!(bench.results(), [OutcomeResult::Sent; 8]);
        bench.assert_empty();
    }
}

#[test]
fn what_is_in_flight_ends_and_its_retry_waits() {
    let (mut bench, mut orders) = (Bench::new(settings()), Orders::default());
    bench.accept(slack(1, "C1"));
    bench.accept(slack(2, "C2"));
    let (one, other) = (
        bench.next(START + 9 * SECOND).unwrap(),
        bench.next(START + 9 * SECOND).unwrap(),
    );
    bench.order(&mut orders, Order::Pause, "slack:bot");
    bench.answer(&one, Verdict::Delivered);
    bench.answer(&other, Verdict::Retry);
    assert_eq!(bench.results(), [OutcomeResult::Sent, OutcomeResult::Retry]);
    assert!(bench.next(START + 600 * SECOND).is_none());
    bench.order(&mut orders, Order::Resume, "slack:bot");
    assert_eq!(bench.send_until(START + 700 * SECOND).len(), 1);
    bench.assert_empty();
}

#[test]
fn no_join_and_no_probe_of_a_paused_credential_starts() {
    let (mut bench, mut orders) = (Bench::new(settings()), Orders::default());
    bench.accept(slack(1, "C1"));
    let first = bench.next(START + 10 * SECOND).unwrap();
    bench.order(&mut orders, Order::Pause, "slack:bot");
    bench.answer(&first, Verdict::NotInChannel);
    assert!(bench.next(START + 100 * SECOND).is_none(), "no join");
    bench.order(&mut orders, Order::Resume, "slack:bot");
    let join = bench.next(START + 101 * SECOND).unwrap();
    assert_eq!(join.request, Request::Join);
    bench.answer(&join, Verdict::Delivered);
    let again = bench.next(START + 110 * SECOND).unwrap();
    bench.answer(&again, Verdict::CredentialRefused);
    bench.order(&mut orders, Order::Pause, "slack:bot/C1");
    assert!(bench.next(START + 900 * SECOND).is_none(), "no probe");
    bench.order(&mut orders, Order::Resume, "slack:bot/C1");
    assert_eq!(bench.next(START + 901 * SECOND).unwrap().request, Request::Probe);
}

#[test]
fn while_a_lane_is_paused_its_jobs_are_cancelled_grow_too_old_and_expire() {
    let mut settings = settings();
    settings.job_age_max = Duration::from_secs(3600);
    let (mut bench, mut orders) = (Bench::new(settings), Orders::default());
    bench.order(&mut orders, Order::Pause, ALL);
    let mut expires = slack(1, "C1");
    expires.expires_at = Some((START + 60 * SECOND) / 1000);
    let mut cancelled = slack(2, "C1");
    cancelled.rule_id = "stopped".into();
    bench.accept(expires);
    bench.accept(cancelled);
    bench.now = START + 100 * SECOND;
    let mark = Cancel {
        offset: 99,
        at: bench.now / 1000,
    };
    orders.log.cancel("stopped", mark);
    bench.rules(&mut orders.log);
    assert_eq!(bench.results(), [OutcomeResult::Cancelled]);
    bench.order(&mut orders, Order::Resume, ALL);
    assert!(bench.next(START + 101 * SECOND).is_none());
    assert_eq!(bench.results()[1..], [OutcomeResult::Expired]);

    bench.order(&mut orders, Order::Pause, "slack:bot");
    bench.accept(slack(3, "C1"));
    assert!(bench.next(START + 3600 * SECOND).is_none());
    assert_eq!(bench.settled.len(), 2, "it is not too old yet");
    assert!(bench.next(START + 3800 * SECOND).is_none());
    let last = bench.settled.last().unwrap();
    assert_eq!(
        (last.outcome.result, last.dead),
        (OutcomeResult::Dead, Some(Reason::GaveUp))
    );
    bench.assert_empty();
}

#[test]
fn a_batch_and_a_digest_wait_while_they_are_paused() {
    let (mut bench, mut orders) = (Bench::new(settings()), Orders::default());
    bench.order(&mut orders, Order::Pause, ALL);
    (0..3).for_each(|number| bench.accept(batched(number)));
    for number in 3..30 {
        let mut busy = slack(number, "C1");
        busy.digest_after = Some(5_000);
        bench.accept(busy);
    }
    assert!(bench.next(START + 60 * SECOND).is_none());
    bench.order(&mut orders, Order::Resume, ALL);
    let mut stood_for = Vec::new();
    while let Some(attempt) = bench.next(START + 90 * SECOND) {
        let of = bench.dispatch.attempts[&attempt.id].entries.len();
        stood_for.push((attempt.jobs[0].action, of));
        bench.answer(&attempt, Verdict::Delivered);
    }
    stood_for.sort_unstable_by_key(|(_, of)| *of);
    let wanted = [(ActionType::ClevertapEvent, 3), (ActionType::SlackMessage, 27)];
    assert_eq!(stood_for, wanted);
    bench.assert_empty();
}

#[test]
fn the_time_of_a_pause_is_no_time_of_failing() {
    for restarts in [false, true] {
        let (mut bench, mut orders) = (Bench::new(settings()), Orders::default());
        bench.accept(slack(1, "C1"));
        let attempt = bench.next(START + 10 * SECOND).unwrap();
        bench.answer(&attempt, Verdict::Retry);
        bench.order(&mut orders, Order::Pause, "slack:bot");
        // Longer than a job is tried for.
        bench.now += 7200 * SECOND;
        if restarts {
            let mut recalled = Recalled::default();
            for one in &bench.settled {
                recalled.take(one.outcome.clone(), bench.now);
            }
            let now = bench.now;
            bench = Bench::new(super::settings());
            bench.now = now;
            bench.rules(&mut orders.log);
            bench.dispatch.disown(0);
            own(&mut bench.dispatch, recalled, now);
            bench.accept(slack(1, "C1"));
        }
        bench.order(&mut orders, Order::Resume, "slack:bot");
        let attempt = bench.next(bench.now + 60 * SECOND).unwrap();
        bench.answer(&attempt, Verdict::Retry);
        assert_eq!(bench.results().last(), Some(&OutcomeResult::Retry), "{restarts}");
        assert!(
            !bench
                .settled
                .last()
                .unwrap()
                .outcome
                .words
                .as_deref()
                .unwrap_or_default()
                .contains("aside")
        );
    }
}

#[test]
fn a_probe_tries_a_refused_credential_at_once_and_only_once() {
    for of in ["slack:bot", "slack:bot/C1", ALL] {
        let (mut bench, mut orders) = (Bench::new(settings()), Orders::default());
        bench.accept(slack(1, "C1"));
        let first = bench.next(START + 10 * SECOND).unwrap();
        bench.answer(&first, Verdict::CredentialRefused);
        let refused = bench.now;
        bench.now += 2 * SECOND;
        bench.order(&mut orders, Order::Probe, of);
        let probe = bench.next(refused + 29 * SECOND).unwrap();
        assert_eq!(
            (probe.request, bench.now),
            (Request::Probe, refused + 2 * SECOND),
            "{of}"
        );
        bench.answer(&probe, Verdict::CredentialRefused);
        // The same order is no new one, whatever else is ordered.
        bench.order(&mut orders, Order::Pause, "slack:other");
        assert!(bench.next(refused + 61 * SECOND).is_none(), "{of}: once");
        bench.now += SECOND / 2;
        bench.order(&mut orders, Order::Probe, of);
        let probe = bench.next(bench.now + SECOND).unwrap();
        bench.answer(&probe, Verdict::Delivered);
        let sent = bench.send_until(bench.now + 2 * SECOND);
        assert_eq!(sent.len(), 1, "{of}");
        bench.assert_empty();
    }
}

#[test]
fn a_probe_ends_our_own_backing_off_and_no_wait_that_a_provider_asked_for() {
    for scope in [FreezeScope::Lane, FreezeScope::Credential] {
        for retry_after in [None, Some(Duration::from_secs(120))] {
            let mut settings = settings();
            settings.retry_initial = Duration::from_secs(60);
            settings.retry_max = Duration::from_secs(60);
            let (mut bench, mut orders) = (Bench::new(settings), Orders::default());
            bench.accept(slack(1, "C1"));
            let first = bench.next(START + 10 * SECOND).unwrap();
            bench.answer(&first, Verdict::Throttled { scope, retry_after });
            let asked = bench.now + 120 * SECOND;
            bench.now += SECOND;
            let ordered = bench.now;
            bench.order(&mut orders, Order::Probe, "slack:bot/C1");
            let sent = bench.send_until(START + 300 * SECOND);
            match retry_after {
                None => assert!(sent[0].1 < ordered + SECOND, "{scope:?}: {sent:?}"),
                Some(_) => assert!(sent[0].1 >= asked, "{scope:?}: {sent:?}"),
            }
        }
    }
    // A job that waits for its retry, in a lane that rests.
    let mut settings = settings();
    (settings.retry_initial, settings.retry_max) = (Duration::from_secs(100), Duration::from_secs(100));
    let (mut bench, mut orders) = (Bench::new(settings), Orders::default());
    bench.accept(slack(1, "C1"));
    for _ in 0..4 {
        let attempt = bench.next(bench.now + 200 * SECOND).unwrap();
        bench.answer(&attempt, Verdict::Retry);
    }
    bench.now += SECOND;
    let ordered = bench.now;
    bench.order(&mut orders, Order::Probe, "slack:bot/C1");
    let sent = bench.send_until(ordered + 50 * SECOND);
    assert!(
        sent[0].1 < ordered + 2 * SECOND,
        "{sent:?}, and it was ordered at {ordered}"
    );
    bench.assert_empty();
}

#[test]
fn a_probe_does_not_shorten_what_a_predecessor_was_asked_to_wait() {
    let (mut bench, mut orders) = (Bench::new(settings()), Orders::default());
    let frozen = Frozen {
        until: START + 90 * SECOND,
        throttled_until: START + 50 * SECOND,
        refused: true,
        ..Frozen::default()
    };
    let recalled = Recalled {
        frozen: HashMap::from([("slack:bot".to_owned(), frozen)]),
        ..Recalled::default()
    };
    bench.dispatch.disown(0);
    own(&mut bench.dispatch, recalled, START);
    bench.accept(slack(1, "C1"));
    bench.now += 5 * SECOND;
    bench.order(&mut orders, Order::Probe, "slack:bot");
    let probe = bench.next(START + 80 * SECOND).unwrap();
    assert_eq!((probe.request, bench.now), (Request::Probe, START + 50 * SECOND));
}
