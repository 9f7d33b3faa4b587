//! Cases that have bitten others, in virtual time. `tests/it/real_kafka/owned.rs` has them all, with what must hold.

use super::*;

impl Bench {
    /// What is sent until then; `verdict` gives each request its answer.
    fn run_until(
        &mut self,
        until: Micros,
        mut verdict: impl FnMut(&Attempt, Micros) -> Verdict,
    ) -> Vec<(Micros, Attempt)> {
        let mut sent = Vec::new();
        while let Some(attempt) = self.next(until) {
            let verdict = verdict(&attempt, self.now);
            self.answer(&attempt, verdict);
            sent.push((self.now, attempt));
        }
        sent
    }

    /// What a process does that takes over now: it knows what Kafka has, read from the committed place on.
    fn successor(&self) -> Self {
        let place = self.dispatch.ledger.place(0).unwrap();
        let mut recalled = Recalled {
            committed: place.offset,
            outcomes_from: place.outcomes_from,
            outcomes_end: self.settled.len() as i64,
            ..Recalled::default()
        };
        for one in &self.settled[place.outcomes_from as usize..] {
            recalled.take(one.outcome.clone(), self.now);
        }
        let mut heir = Self {
            dispatch: Dispatch::new(self.dispatch.settings.clone(), fastrand::Rng::with_seed(2)),
            now: self.now,
            settled: self.settled.clone(),
            kafka: self.kafka.clone(),
            reread: 0,
        };
        own(&mut heir.dispatch, recalled, self.now);
        let mut jobs: Vec<(JobAt, Payload)> = heir.kafka.iter().map(|(at, one)| (*at, one.clone())).collect();
        jobs.sort_by_key(|(at, _)| *at);
        for (at, payload) in jobs.into_iter().filter(|(at, _)| at.offset >= place.offset) {
            let host: Arc<str> = payload.job.credential.as_str().into();
            if heir
                .dispatch
                .read(at, tag_of(&payload), payload.written_at)
                .is_accepted()
            {
                heir.dispatch.accept(at, payload, &host, Cause::Match, heir.now);
            }
        }
        heir
    }

    /// How many jobs have ended so, each counted by its id.
    fn ended(&self, result: OutcomeResult) -> usize {
        let ended = self.settled.iter().filter(|one| one.outcome.result == result);
        let (mut all, mut ids) = (0, HashSet::new());
        for one in ended {
            all += 1;
            ids.insert(&one.outcome.job_id);
        }
        assert_eq!(all, ids.len(), "a job has ended twice");
        all
    }
}

fn webhook(number: i64, lane: i64) -> DeliveryJob {
    job(number, ActionType::SlackWebhook, &format!("webhook:{lane}"), "")
}

/// The most starts in any window of this length.
fn most_within(period: Micros, starts: &[Micros]) -> usize {
    let within = |from: &Micros| starts.iter().filter(|at| (*from..from + period).contains(at)).count();
    starts.iter().map(within).max().unwrap_or_default()
}

fn throttled(scope: FreezeScope, seconds: Option<u64>) -> Verdict {
    Verdict::Throttled {
        scope,
        retry_after: seconds.map(Duration::from_secs),
    }
}

#[test]
fn a_401_for_a_minute() {
    let mut bench = Bench::new(settings());
    let works_from = START + 60 * SECOND;
    let verdict = |attempt: &Attempt, now: Micros| match attempt.jobs[0].credential.as_str() {
        "slack:bot" if now < works_from => Verdict::CredentialRefused,
        _ => Verdict::Delivered,
    };
    let mut sent = Vec::new();
    for second in 0..100 {
        sent.extend(bench.run_until(START + second * SECOND, verdict));
        bench.accept(slack(2 * second, "C1"));
        bench.accept(job(2 * second + 1, ActionType::SlackMessage, "slack:other", "C1"));
        if (3..60).contains(&second) {
            assert_eq!(bench.dispatch.refused(), HashSet::from(["slack:bot"]));
            assert_eq!(
                bench.dispatch.ledger.place(0).unwrap().offset,
                0,
                "it stays where it is"
            );
        }
        if second == 45 {
            // A restart meanwhile forgets neither the jobs nor that the credential is refused.
            bench = bench.successor();
        }
    }
    sent.extend(bench.run_until(START + 300 * SECOND, verdict));
    let of = |credential: &str, until: Micros| {
        let its = sent
            .iter()
            .filter(|(at, attempt)| attempt.jobs[0].credential == credential && *at < until);
        its.map(|(at, _)| *at).collect::<Vec<_>>()
    };
    let asked = of("slack:bot", works_from);
    assert!(asked.len() <= 3, "asked seldom while it is refused: {asked:?}");
    let others = of("slack:other", START + 101 * SECOND);
    assert!(others.len() >= 95, "others go on: {}", others.len());
    assert_eq!(bench.ended(OutcomeResult::Sent), 200, "none is lost");
    assert!(bench.dispatch.refused().is_empty());
    assert_eq!(bench.dispatch.ledger.place(0).unwrap().offset, 200);
    bench.assert_empty();
}

#[test]
fn a_429_with_retry_after_30_across_three_instances() {
    for scope in [FreezeScope::Lane, FreezeScope::Credential] {
        let mut bench = Bench::new(settings());
        (0..300).for_each(|number| bench.accept(slack(number, &format!("C{}", number % 3))));
        let first = bench.next(START + 10 * SECOND).unwrap();
        bench.answer(&first, throttled(scope, Some(30)));
        let until = bench.now + 30 * SECOND;
        let frozen =
            |attempt: &Attempt| scope == FreezeScope::Credential || attempt.jobs[0].lane() == first.jobs[0].lane();
        // Twice the partition goes to another instance within the half minute.
        let mut sent = Vec::new();
        for end in [bench.now + 7 * SECOND, bench.now + 19 * SECOND, until + 60 * SECOND] {
            sent.extend(bench.run_until(end, |_, _| Verdict::Delivered));
            bench = bench.successor();
        }
        let early = sent
            .iter()
            .filter(|(at, attempt)| *at < until && frozen(attempt))
            .count();
        assert_eq!(early, 0, "none goes out before the time that was asked for");
        let after: Vec<Micros> = sent.iter().filter(|(at, _)| *at >= until).map(|(at, _)| *at).collect();
        assert!(after[0] < until + SECOND, "and one soon after");
        let its = sent
            .iter()
            .filter(|(at, one)| *at >= until && one.jobs[0].lane() == first.jobs[0].lane());
        assert!(its.count() >= 57, "the full rate: 95 % of one a second");
    }
}

#[test]
fn retries_cannot_bypass_the_limiter() {
    let mut eager = settings();
    eager.limits.slack.workspace_rate = Rate::per_minute(120);
    (eager.retry_initial, eager.retry_max) = (Duration::from_millis(1), Duration::from_millis(10));
    let mut bench = Bench::new(eager);
    (0..400).for_each(|number| bench.accept(slack(number, &format!("C{}", number % 5))));
    let mut rng = fastrand::Rng::with_seed(7);
    let sent = bench.run_until(START + 240 * SECOND, |_, _| match rng.u8(..3) {
        0 => Verdict::Delivered,
        1 => Verdict::Retry,
        _ => Verdict::Ambiguous,
    });
    assert!(
        bench.settled.len() > 2 * bench.ended(OutcomeResult::Sent),
        "most are retries"
    );
    let starts: Vec<Micros> = sent.iter().map(|(at, _)| *at).collect();
    let most = most_within(60 * SECOND, &starts);
    assert!((114..=120).contains(&most), "{most} a minute, of 120");
    for channel in (0..5).map(|number| format!("C{number}")) {
        let its = sent
            .iter()
            .filter(|(_, attempt)| attempt.jobs[0].destination == channel);
        let its: Vec<Micros> = its.map(|(at, _)| *at).collect();
        assert!(its.len() > 50 && most_within(SECOND, &its) == 1);
    }
}

#[test]
fn no_retry_immediately_on_429() {
    let record = |number| {
        job(
            number,
            ActionType::ClevertapEvent,
            "clevertap:acme",
            &format!("id-{number}"),
        )
    };
    type Make = fn(i64) -> DeliveryJob;
    let cases: [(Make, FreezeScope); 3] = [
        (|number| slack(number, "C1"), FreezeScope::Lane),
        (|number| slack(number, &format!("C{number}")), FreezeScope::Credential),
        (record, FreezeScope::Credential),
    ];
    for (make, scope) in cases {
        // Nothing says for how long: the pause is ours, and grows.
        let mut bench = Bench::new(settings());
        (0..20).for_each(|number| bench.accept(make(number)));
        let sent = bench.run_until(START + 60 * SECOND, |_, _| throttled(scope, None));
        let pauses: Vec<Micros> = sent.windows(2).map(|pair| pair[1].0 - pair[0].0).collect();
        assert!(pauses[0] >= SECOND * 8 / 10, "{pauses:?}");
        assert!(pauses[3] >= 6 * SECOND && sent.len() < 14, "{pauses:?}");
    }
}

#[test]
fn one_percent_of_keys_never_succeed() {
    let mut bounded = settings();
    bounded.job_age_max = Duration::from_secs(600);
    let mut bench = Bench::new(bounded);
    let (mut number, mut by_minute, mut committed) = (0, Vec::new(), Vec::new());
    for minute in 0..30 {
        let mut healthy = 0;
        for tick in 0..6 {
            for lane in 0..100 {
                bench.accept(webhook(number, lane));
                number += 1;
            }
            let until = START + (minute * 60 + (tick + 1) * 10) * SECOND;
            bench.run_until(until, |attempt, _| {
                if attempt.jobs[0].credential == "webhook:7" {
                    return Verdict::Retry;
                }
                healthy += 1;
                Verdict::Delivered
            });
            bench.now = until;
            let oldest = bench.dispatch.oldest(bench.now).unwrap();
            assert!(oldest <= Duration::from_secs(615), "{oldest:?}");
        }
        by_minute.push(healthy);
        committed.push(bench.dispatch.ledger.place(0).unwrap().offset);
    }
    assert_eq!(by_minute, [594; 30], "the healthy ones' throughput is flat");
    assert_eq!(committed[5], 7, "held for as long as a job may live");
    assert!(
        committed[11..].windows(2).all(|pair| pair[0] < pair[1]),
        "{committed:?}"
    );
    assert!(bench.dispatch.bytes() <= settings().payload_bytes_max);
}

#[test]
fn map_too_big_and_sparse_completions() {
    let mut wide = settings();
    wide.limits.clevertap.batch.max = 1000;
    let mut bench = Bench::new(wide);
    // Every second job waits for a day; all others are settled.
    let frozen = |number| slack(number, "C1");
    bench.accept(frozen(0));
    let first = bench.next(START + 10 * SECOND).unwrap();
    bench.answer(&first, throttled(FreezeScope::Lane, Some(24 * 3600)));
    for number in 1..20_000 {
        bench.accept(match number % 2 {
            0 => frozen(number),
            _ => job(
                number,
                ActionType::ClevertapEvent,
                "clevertap:acme",
                &format!("id-{number}"),
            ),
        });
    }
    bench.run_until(START + 600 * SECOND, |_, _| Verdict::Delivered);
    assert_eq!(bench.ended(OutcomeResult::Sent), 10_000);
    assert_eq!(bench.dispatch.ledger.place(0).unwrap().offset, 0);
    assert!(bench.dispatch.bytes() <= settings().payload_bytes_max);
    // What a commit carries doesn't grow with the holes: it says where to look for them.
    let mut heir = bench.successor();
    assert_eq!(heir.dispatch.waiting(), 10_000, "what is settled isn't sent again");
    let new = job(20_000, ActionType::SlackMessage, "slack:other", "C2");
    heir.accept(new);
    let sent = heir.run_until(heir.now + 3 * SECOND, |_, _| Verdict::Delivered);
    let ids: Vec<&str> = sent.iter().map(|(_, one)| one.jobs[0].event_id.as_str()).collect();
    assert_eq!(ids, ["e-20000"], "nothing stalls behind them");
    heir.run_until(START + 50 * 3600 * SECOND, |_, _| Verdict::Delivered);
    assert_eq!(heir.ended(OutcomeResult::Sent), 20_001);
    assert_eq!(heir.dispatch.ledger.place(0).unwrap().offset, 20_001);
}

#[test]
fn encoder_reads_moving_state() {
    let mut rng = fastrand::Rng::with_seed(11);
    for _ in 0..40 {
        let mut bench = Bench::new(settings());
        let (mut number, mut places) = (0, Vec::new());
        for _ in 0..120 {
            for _ in 0..rng.usize(..6) {
                let lane = rng.i64(0..4);
                bench.accept(webhook(number, lane));
                number += 1;
            }
            let until = bench.now + rng.i64(0..SECOND);
            bench.run_until(
                until,
                |_, _| if rng.bool() { Verdict::Delivered } else { Verdict::Retry },
            );
            bench.now = until;
            // A commit is on its way for as long as it likes, while all goes on.
            places.push((bench.dispatch.ledger.place(0).unwrap(), bench.settled.len()));
        }
        let is_final = |one: &&Settled| one.outcome.result.is_final();
        for (place, written) in places {
            let below = bench.settled[..written].iter().filter(is_final);
            let below = below.filter(|one| one.at.offset < place.offset).count();
            assert_eq!(
                below as i64, place.offset,
                "every job below a commit had its outcome then"
            );
            let hidden = bench.settled[..place.outcomes_from as usize].iter();
            let hidden = hidden.filter(is_final).find(|one| one.at.offset >= place.offset);
            assert!(hidden.is_none(), "{place:?} hides an outcome of a job at or above it");
        }
    }
}

#[test]
fn hot_key_1000_times() {
    // The same with and without a channel, and an identity, that has a thousand times the others' jobs.
    let waits = |hot: bool| {
        let mut bench = Bench::new(settings());
        let mut number = 0;
        let mut accept = |bench: &mut Bench, action, credential: &str, destination: &str| {
            let mut one = job(number, action, credential, destination);
            one.lead_id = (bench.now / 1000).to_string();
            bench.accept(one);
            number += 1;
        };
        let (mut sent, mut texts) = (Vec::new(), 0);
        for second in 0..30 {
            let at = START + second * SECOND;
            sent.extend(bench.run_until(at, |_, _| Verdict::Delivered));
            bench.now = at;
            for _ in 0..if hot { 1000 } else { 0 } {
                accept(&mut bench, ActionType::SlackMessage, "slack:bot", "C-hot");
                accept(&mut bench, ActionType::ClevertapEvent, "clevertap:acme", "hot");
            }
            for key in 0..3 {
                accept(&mut bench, ActionType::SlackMessage, "slack:bot", &format!("C{key}"));
                accept(
                    &mut bench,
                    ActionType::ClevertapEvent,
                    "clevertap:acme",
                    &format!("id-{key}"),
                );
            }
        }
        sent.extend(bench.run_until(START + 40 * SECOND, |_, _| Verdict::Delivered));
        let mut waits = Vec::new();
        for (at, attempt) in &sent {
            for one in attempt.jobs.iter().filter(|one| !one.destination.contains("hot")) {
                waits.push(at / 1000 - one.lead_id.parse::<i64>().unwrap());
            }
            texts += usize::from(attempt.jobs[0].destination == "C-hot");
        }
        assert_eq!(waits.len(), 180, "every other job is sent");
        (*waits.iter().max().unwrap(), texts)
    };
    let ((alone, _), (beside, texts)) = (waits(false), waits(true));
    assert!(beside <= alone + 300, "{beside} ms at the longest, {alone} ms without");
    assert!(
        (35..=40).contains(&texts),
        "the hot channel has its own second, no more: {texts}"
    );
}

#[test]
fn throttled_yet_still_reading() {
    let mut small = settings();
    small.payload_bytes_max = 50_000;
    let mut bench = Bench::new(small);
    bench.accept(slack(0, "C1"));
    let first = bench.next(START + 10 * SECOND).unwrap();
    bench.answer(&first, throttled(FreezeScope::Lane, Some(600)));
    let until = bench.now + 600 * SECOND;
    (1..20_000).for_each(|number| bench.accept(slack(number, "C1")));
    // Where a job is, is all that is read of it; its payload isn't fetched before its turn.
    assert!(bench.dispatch.bytes() <= 50_000 && bench.dispatch.waiting() == 20_000);
    assert!(bench.next(until - 30 * SECOND).is_none());
    assert_eq!(bench.reread, 0, "fetching rests with the limit");
    let sent = bench.run_until(until + 100 * SECOND, |_, _| Verdict::Delivered);
    assert!(sent.len() >= 95 && bench.dispatch.bytes() <= 51_000);
    assert!(bench.reread < 1000, "only what is near its turn");
}

#[test]
fn jobs_that_a_predecessor_tried_one_by_one_do_not_go_as_one_message() {
    let mut bench = Bench::new(settings());
    succeed(&mut bench.dispatch, 4);
    // Two of a rule without digests, and one each of two rules with them.
    for (number, rule, digest_after) in [
        (0, "each", None),
        (1, "each", None),
        (2, "a", Some(0)),
        (3, "b", Some(0)),
    ] {
        bench.accept(DeliveryJob {
            rule_id: rule.into(),
            digest_after,
            ..slack(number, "C1")
        });
    }
    for number in 0..4 {
        let at = START + (number + 2) * 2 * SECOND;
        let attempt = bench.next(at).expect("one a second");
        assert_eq!(attempt.jobs[0].source_offset, number, "in the order that they stand in");
        bench.answer(&attempt, Verdict::Delivered);
    }
    assert_eq!(bench.settled.len(), 4);
    assert!(
        bench
            .settled
            .iter()
            .all(|settled| settled.outcome.result == OutcomeResult::Sent)
    );
}

#[test]
fn no_more_requests_are_in_flight_than_may_be() {
    let mut few = settings();
    few.in_flight_max = 4;
    let mut bench = Bench::new(few);
    // Each has a host of its own, so that nothing narrower than the whole holds.
    for number in 0..12 {
        let credential = format!("webhook:hook-{number}");
        bench.accept(job(number, ActionType::SlackWebhook, &credential, ""));
    }
    let flying: Vec<Attempt> = std::iter::from_fn(|| bench.next(START + 2 * SECOND)).collect();
    assert_eq!(flying.len(), 4);
    bench.answer(&flying[0], Verdict::Delivered);
    let more: Vec<Attempt> = std::iter::from_fn(|| bench.next(START + 3 * SECOND)).collect();
    assert_eq!(more.len(), 1, "one is free");
}
