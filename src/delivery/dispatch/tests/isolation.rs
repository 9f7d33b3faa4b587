//! What lanes that fail cost the others: each rule alone.

use super::*;

/// A host has 64 slots and a credential 32. Rates are out of the way, and nobody waits for long to be tried again.
fn wide() -> Settings {
    let mut wide = settings();
    wide.in_flight_max = 128;
    let fast = Rate::parse("1000000/s").unwrap();
    let slack = &mut wide.limits.slack;
    (slack.channel_rate, slack.workspace_rate, slack.webhook_rate) = (fast, fast, fast);
    (wide.retry_initial, wide.retry_max) = (Duration::from_millis(100), Duration::from_millis(100));
    wide
}

/// Lanes of one credential: how they fare is brought about by jobs of theirs.
struct Lanes {
    bench: Bench,
    number: i64,
}

impl Lanes {
    fn new(settings: Settings) -> Self {
        let (bench, number) = (Bench::new(settings), 0);
        Self { bench, number }
    }

    /// A job for each of `count` lanes, whose names begin with `name`.
    fn give(&mut self, name: &str, count: usize) {
        for lane in 0..count {
            self.number += 1;
            self.bench.accept(slack(self.number, &format!("{name}{lane}")));
        }
    }

    /// All requests that may start within the next second.
    fn start(&mut self) -> Vec<Attempt> {
        let until = self.bench.now + SECOND;
        std::iter::from_fn(|| self.bench.next(until)).collect()
    }

    /// Those that may start at once.
    fn start_now(&mut self) -> Vec<Attempt> {
        let now = self.bench.now;
        std::iter::from_fn(|| self.bench.next(now)).collect()
    }

    /// Jobs for `count` lanes, a while after all that was before, that all end so, one request at a time.
    fn each(&mut self, name: &str, count: usize, verdict: &Verdict) {
        self.bench.now += 2 * SECOND;
        self.give(name, count);
        for _ in 0..count {
            let attempt = self.bench.next(self.bench.now + SECOND).expect("one at a time may go");
            self.bench.answer(&attempt, verdict.clone());
        }
    }
}

/// How many of the requests are of lanes whose names begin with `name`.
fn of(attempts: &[Attempt], name: &str) -> usize {
    attempts
        .iter()
        .filter(|attempt| attempt.jobs[0].destination.starts_with(name))
        .count()
}

#[test]
fn two_lanes_that_fail_again_and_again_narrow_nobody_else() {
    let mut lanes = Lanes::new(wide());
    lanes.each("works-", 20, &Verdict::Delivered);
    lanes.bench.now += 2 * SECOND;
    lanes.give("fails-", 2);
    for _ in 0..10 {
        let attempt = lanes.bench.next(lanes.bench.now + 20 * SECOND).unwrap();
        lanes.bench.answer(&attempt, Verdict::Ambiguous);
    }
    assert!(!lanes.bench.dispatch.credentials.iter().any(|one| one.slots.is_down()));
    assert_eq!(lanes.bench.dispatch.failing(), HashMap::from([("slack:bot", 2)]));
    lanes.give("works-", 20);
    assert_eq!(of(&lanes.start(), "works-"), 20, "all of them at once");
}

#[test]
fn a_credential_is_down_once_three_of_its_lanes_failed_and_up_with_the_first_success() {
    let mut lanes = Lanes::new(wide());
    lanes.each("works-", 3, &Verdict::Delivered);
    lanes.each("fails-", 3, &Verdict::Ambiguous);
    for name in ["works-", "new-"] {
        lanes.give(name, 3);
    }
    let flying = lanes.start();
    assert_eq!(flying.len(), 3, "one of each standing");
    for name in ["works-", "new-", "fails-"] {
        assert_eq!(of(&flying, name), 1, "{name}");
    }
    assert_eq!(lanes.bench.dispatch.failing(), HashMap::from([("slack:bot", 3)]));
    // One that was never tried fails too: then it is another's turn.
    let untried = flying
        .iter()
        .position(|one| one.jobs[0].destination.starts_with("new-"))
        .unwrap();
    lanes.bench.answer(&flying[untried], Verdict::Retry);
    let next = lanes.start();
    assert_eq!((next.len(), of(&next, "new-")), (1, 1));
    lanes.bench.answer(&next[0], Verdict::Delivered);
    let rest = lanes.start();
    assert_eq!(
        (of(&rest, "works-"), of(&rest, "new-"), of(&rest, "fails-")),
        (2, 2, 2),
        "it is up"
    );
}

#[test]
fn a_success_between_keeps_a_credential_up() {
    let mut lanes = Lanes::new(wide());
    for _ in 0..5 {
        lanes.each("fails-", 2, &Verdict::Ambiguous);
        lanes.each("works-", 1, &Verdict::Delivered);
    }
    lanes.give("new-", 4);
    assert_eq!(of(&lanes.start(), "new-"), 4);
}

#[test]
fn lanes_that_never_worked_say_nothing_of_a_credential_whose_others_just_did() {
    let mut lanes = Lanes::new(wide());
    lanes.each("works-", 3, &Verdict::Delivered);
    let is_down = |lanes: &Lanes| lanes.bench.dispatch.credentials.iter().any(|one| one.slots.is_down());
    lanes.give("fails-", 10);
    let fails = lanes.start_now();
    assert_eq!(fails.len(), 10);
    fails
        .iter()
        .for_each(|attempt| lanes.bench.answer(attempt, Verdict::Ambiguous));
    assert!(!is_down(&lanes), "ten of them within a second of a success");
    lanes.give("works-", 3);
    for (number, attempt) in lanes.start_now().iter().enumerate() {
        assert!(!is_down(&lanes), "{number}");
        lanes.bench.answer(attempt, Verdict::Ambiguous);
    }
    assert!(is_down(&lanes), "but those that worked say it at once");
}

#[test]
fn lanes_that_fail_share_a_quarter_those_not_tried_yet_a_half_and_the_rest_is_left_to_those_that_work() {
    let mut lanes = Lanes::new(wide());
    lanes.each("works-", 40, &Verdict::Delivered);
    lanes.give("fails-", 16);
    for attempt in lanes.start() {
        lanes.bench.answer(&attempt, Verdict::Ambiguous);
    }
    lanes.each("works-", 1, &Verdict::Delivered);
    let fail = lanes.start();
    assert_eq!((fail.len(), of(&fail, "fails-")), (8, 8), "a quarter of 32");
    lanes.give("new-", 40);
    let untried = lanes.start();
    assert_eq!((untried.len(), of(&untried, "new-")), (16, 16), "half of 32");
    lanes.give("works-", 40);
    let works = lanes.start();
    assert_eq!(
        (works.len(), of(&works, "works-")),
        (8, 8),
        "and no more than 32 in all"
    );
    // All hang: whatever they are, a host has no more than half of all requests.
    for number in 0..400 {
        let credential = format!("slack:bot-{}", number % 10);
        let job = job(
            10_000 + number,
            ActionType::SlackMessage,
            &credential,
            &format!("C{number}"),
        );
        lanes.bench.accept_at(job, Cause::Match, &"slack:bot".into());
    }
    assert_eq!(lanes.start().len(), 32 - 16, "half of 64 for who wasn't tried yet");
}

#[test]
fn a_host_is_down_once_three_lanes_of_any_credentials_failed() {
    let mut bench = Bench::new(wide());
    let host: Arc<str> = "hooks.slack.com:443".into();
    let hook = |number: i64| job(number, ActionType::SlackWebhook, &format!("webhook:hook-{number}"), "");
    let start = |bench: &mut Bench| -> Vec<Attempt> {
        let until = bench.now + SECOND;
        std::iter::from_fn(|| bench.next(until)).collect()
    };
    (0..3).for_each(|number| bench.accept_at(hook(number), Cause::Match, &host));
    for attempt in start(&mut bench) {
        bench.answer(&attempt, Verdict::Retry);
    }
    (3..20).for_each(|number| bench.accept_at(hook(number), Cause::Match, &host));
    let mut flying = start(&mut bench);
    assert_eq!(flying.len(), 2, "one that failed, and one that nobody has tried yet");
    // Each of the others makes its one try, one at a time; then there is one request at a time.
    for _ in 3..20 {
        let untried = flying.iter().position(|one| one.jobs[0].source_offset >= 3);
        bench.answer(&flying.remove(untried.unwrap()), Verdict::Retry);
        flying.extend(start(&mut bench));
        assert!(flying.len() <= 2, "{flying:?}");
    }
    assert_eq!(flying.len(), 1, "one request at a time");
    for _ in 0..50 {
        bench.answer(&flying.remove(0), Verdict::Retry);
        flying.extend(start(&mut bench));
        assert_eq!(flying.len(), 1, "and always one");
    }
    bench.answer(&flying.remove(0), Verdict::Delivered);
    assert_eq!(
        start(&mut bench).len(),
        16,
        "a quarter of its 64 slots: they failed, and may be up again"
    );
}

#[test]
fn lanes_of_each_standing_take_turns_so_that_many_that_fail_do_not_use_up_the_rate() {
    let mut settings = wide();
    settings.limits.slack.workspace_rate = Rate::per_second(10);
    let mut lanes = Lanes::new(settings);
    let mut starts = Vec::new();
    lanes.give("works-", 1);
    for round in 0..600 {
        let attempt = lanes.bench.next(lanes.bench.now + SECOND).unwrap();
        let works = attempt.jobs[0].destination.starts_with("works-");
        starts.push(works);
        lanes
            .bench
            .answer(&attempt, if works { Verdict::Delivered } else { Verdict::Ambiguous });
        if works {
            lanes.give("works-", 1);
        }
        if round == 0 {
            lanes.give("fails-", 100);
        }
    }
    // By then each of the others was tried.
    let last = &starts[400..];
    assert_eq!(last.iter().filter(|works| **works).count(), 100, "every second start");
}

#[test]
fn an_account_that_fails_gets_one_request_at_a_time_with_growing_rests_until_one_is_taken() {
    let mut settings = wide();
    settings.limits.clevertap.concurrency = HashMap::from([("clevertap:acme".to_owned(), 8)]);
    settings.limits.clevertap.batch = Batch {
        max: 1,
        wait: Duration::ZERO,
    };
    (settings.retry_initial, settings.retry_max) = (Duration::from_secs(1), Duration::from_secs(600));
    let mut bench = Bench::new(settings);
    for number in 0..1_000 {
        let event = job(
            number,
            ActionType::ClevertapEvent,
            "clevertap:acme",
            &format!("id-{number}"),
        );
        bench.accept(event);
    }
    let wide = |bench: &mut Bench| -> Vec<Attempt> { std::iter::from_fn(|| bench.next(bench.now)).collect() };
    let mut flying = wide(&mut bench);
    assert_eq!(flying.len(), 4);
    bench.now += 50_000;
    flying
        .drain(..)
        .for_each(|attempt| bench.answer(&attempt, Verdict::Ambiguous));
    let mut rests = Vec::new();
    for _ in 0..9 {
        let answered = bench.now;
        let one = bench.next(bench.now + 60 * SECOND).unwrap();
        rests.push(bench.now - answered);
        assert!(bench.next(bench.now + 100_000).is_none(), "one at a time");
        bench.answer(&one, Verdict::Ambiguous);
    }
    assert_eq!(rests[..2], [0, 0], "those in flight together failed once: {rests:?}");
    assert!((800_000..=1_200_000).contains(&rests[2]), "{rests:?}");
    assert!(rests[2..6].is_sorted() && rests[5] > 6 * SECOND, "{rests:?}");
    assert!(
        rests[6..].iter().all(|rest| (8 * SECOND..=10 * SECOND).contains(rest)),
        "{rests:?}"
    );
    let one = bench.next(bench.now + 60 * SECOND).unwrap();
    bench.answer(&one, Verdict::Delivered);
    assert_eq!(wide(&mut bench).len(), 4, "at once, and as wide as before");
}

#[test]
fn an_account_that_may_have_more_gets_a_quarter_of_all_requests() {
    let mut eager = settings();
    eager.limits.clevertap.concurrency = HashMap::from([("clevertap:acme".to_owned(), 100)]);
    eager.limits.clevertap.batch = Batch {
        max: 1,
        wait: Duration::ZERO,
    };
    let mut bench = Bench::new(eager);
    for number in 0..200 {
        let id = format!("id-{number}");
        bench.accept(job(number, ActionType::ClevertapEvent, "clevertap:acme", &id));
    }
    let mut widths = Vec::new();
    for _ in 0..10 {
        let flying: Vec<Attempt> = std::iter::from_fn(|| bench.next(bench.now)).collect();
        widths.push(flying.len());
        bench.now += SECOND;
        flying
            .iter()
            .for_each(|attempt| bench.answer(attempt, Verdict::Delivered));
    }
    assert_eq!(widths.iter().max(), Some(&4), "a quarter of 16: {widths:?}");
}

#[test]
fn a_refused_credential_is_probed_one_at_a_time_whatever_its_lanes_are() {
    let mut lanes = Lanes::new(wide());
    lanes.each("works-", 2, &Verdict::Delivered);
    lanes.each("fails-", 3, &Verdict::Ambiguous);
    ["works-", "new-"].iter().for_each(|name| lanes.give(name, 2));
    let flying = lanes.start();
    flying
        .iter()
        .for_each(|attempt| lanes.bench.answer(attempt, Verdict::CredentialRefused));
    lanes.bench.now += 30 * SECOND;
    let probe = lanes.start();
    assert_eq!(
        probe.iter().map(|one| one.request).collect::<Vec<_>>(),
        [Request::Probe]
    );
}

#[test]
fn a_request_before_the_message_that_fails_narrows_too() {
    let mut lanes = Lanes::new(wide());
    lanes.each("works-", 1, &Verdict::Delivered);
    for _ in 0..3 {
        lanes.give("U", 3);
        for attempt in lanes.start() {
            let asks = attempt.request == Request::Open;
            lanes
                .bench
                .answer(&attempt, if asks { Verdict::Ambiguous } else { Verdict::NotOpen });
        }
        lanes.bench.now += 2 * SECOND;
    }
    assert!(lanes.bench.dispatch.credentials.iter().all(|one| one.slots.is_down()));
}

#[test]
fn a_hung_credential_and_a_hung_host_leave_room_for_others() {
    let mut bench = Bench::new(settings());
    let job = |number: i64| {
        let credential = format!("slack:bot-{}", number % 3);
        job(
            number,
            ActionType::SlackMessage,
            &credential,
            &format!("C{}", number % 99),
        )
    };
    let count = |attempts: &[Attempt]| {
        let mut flying: HashMap<String, usize> = HashMap::new();
        for attempt in attempts {
            *flying.entry(attempt.jobs[0].credential.clone()).or_default() += 1;
        }
        let mut counts: Vec<usize> = flying.into_values().collect();
        counts.sort_unstable();
        counts
    };
    (0..99).for_each(|number| bench.accept(job(number)));
    let untried: Vec<Attempt> = std::iter::from_fn(|| bench.next(START + 300 * SECOND)).collect();
    assert_eq!(count(&untried), [2, 2, 2], "half of a quarter of 16 each");
    untried
        .iter()
        .for_each(|attempt| bench.answer(attempt, Verdict::Delivered));
    while let Some(attempt) = bench.next(START + 300 * SECOND) {
        bench.answer(&attempt, Verdict::Delivered);
    }
    (99..198).for_each(|number| bench.accept(job(number)));
    let works: Vec<Attempt> = std::iter::from_fn(|| bench.next(START + 600 * SECOND)).collect();
    assert_eq!(count(&works), [4, 4, 4], "a quarter of 16 each");
    bench.accept(slack(198, "C1"));
    assert!(bench.next(START + 601 * SECOND).is_some());
}

#[test]
fn whoever_waits_for_a_place_at_a_host_gets_it_when_another_does_not_use_it() {
    let mut bench = Bench::new(settings());
    let host: Arc<str> = "hooks.slack.com:443".into();
    let hook = |number: i64, hook: i64| job(number, ActionType::SlackWebhook, &format!("webhook:hook-{hook}"), "");
    (0..20).for_each(|number| bench.accept_at(hook(number, number), Cause::Match, &host));
    let until = START + 10 * SECOND;
    let flying: Vec<Attempt> = std::iter::from_fn(|| bench.next(until)).collect();
    assert_eq!(
        flying.len(),
        4,
        "half of half of 16 for those that nobody has tried yet"
    );
    // Who would be next has nothing left to send when the place is free.
    let mut log = RuleLog::default();
    log.cancel(
        "r",
        Cancel {
            offset: 3,
            at: START / 1000 + 5,
        },
    );
    let mut kept = hook(20, 20);
    kept.rule_id = "kept".into();
    bench.accept_at(kept, Cause::Match, &host);
    assert!(bench.next(bench.now + SECOND).is_none());
    bench.answer(&flying[0], Verdict::Delivered);
    bench.rules(&mut log);
    let next = bench.next(bench.now + SECOND).unwrap();
    assert_eq!(next.jobs[0].source_offset, 20);
}

#[test]
fn a_successor_knows_which_lanes_failed() {
    let mut bench = Bench::new(wide());
    succeed(&mut bench.dispatch, 40);
    (0..40).for_each(|number| bench.accept(slack(number, &format!("fails-{number}"))));
    bench.accept(slack(40, "new"));
    let flying: Vec<Attempt> = std::iter::from_fn(|| bench.next(START + SECOND)).collect();
    assert_eq!((of(&flying, "fails-"), of(&flying, "new")), (8, 1), "a quarter of 32");
}
