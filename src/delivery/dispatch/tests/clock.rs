//! A wall clock that is put right while jobs wait: what others read follows it, and what is spaced doesn't.

use super::*;

const JUMP: Micros = 600 * SECOND;
const AHEAD: [Micros; 2] = [JUMP, -JUMP];

fn throttled_for(seconds: u64) -> Verdict {
    Verdict::Throttled {
        scope: FreezeScope::Lane,
        retry_after: Some(Duration::from_secs(seconds)),
    }
}

#[test]
fn what_expires_follows_the_wall_clock() {
    for (ahead, expected) in [
        (JUMP, OutcomeResult::Expired),
        (0, OutcomeResult::Sent),
        (-JUMP, OutcomeResult::Sent),
    ] {
        let mut bench = Bench::new(settings());
        let mut job = slack(1, "C1");
        job.expires_at = Some((START + 300 * SECOND) / 1000);
        bench.accept(job);
        bench.dispatch.wall_clock(ahead);
        if let Some(attempt) = bench.next(START + 10 * SECOND) {
            bench.answer(&attempt, Verdict::Delivered);
        }
        assert_eq!(bench.results(), [expected], "{ahead}");
        let ended = bench.settled[0].outcome.ended_at;
        let within = (START + ahead) / 1000..=(bench.now + ahead) / 1000;
        assert!(
            within.contains(&ended),
            "an outcome says what the wall clock shows: {ended}"
        );
    }
    // What would have expired by the clock that was wrong is sent.
    let mut bench = Bench::new(settings());
    let mut job = slack(1, "C1");
    job.expires_at = Some(START / 1000);
    bench.accept(job);
    bench.dispatch.wall_clock(-JUMP);
    assert!(bench.next(START + 10 * SECOND).is_some());
}

#[test]
fn a_retry_after_is_held_over_a_jump() {
    for ahead in AHEAD {
        let mut bench = Bench::new(settings());
        bench.accept(slack(1, "C1"));
        let first = bench.next(START + 10 * SECOND).unwrap();
        let until = bench.now + 30 * SECOND;
        bench.answer(&first, throttled_for(30));
        assert_eq!(bench.settled[0].outcome.next_at, Some(until / 1000));
        bench.dispatch.wall_clock(ahead);
        let again = bench.next(START + 100 * SECOND).unwrap();
        assert!(
            (until..until + SECOND).contains(&bench.now),
            "{ahead}: {}",
            bench.now - until
        );
        bench.answer(&again, throttled_for(5));
        let next_at = (bench.now + 5 * SECOND + ahead) / 1000;
        assert_eq!(
            bench.settled[1].outcome.next_at,
            Some(next_at),
            "a successor reads it by its own clock"
        );
        let started = bench.settled[1].outcome.started_at.unwrap();
        assert_eq!(started, (bench.now + ahead) / 1000);
    }
}

#[test]
fn spacing_is_held_over_jumps() {
    let mut bench = Bench::new(settings());
    (0..40).for_each(|number| bench.accept(slack(number, "C1")));
    let mut starts = Vec::new();
    while let Some(attempt) = bench.next(START + 100 * SECOND) {
        starts.push(bench.now);
        bench.answer(&attempt, Verdict::Delivered);
        bench.dispatch.wall_clock(AHEAD[starts.len() % 2]);
    }
    assert_eq!(starts.len(), 40);
    for pair in starts.windows(2) {
        let apart = pair[1] - pair[0];
        assert!((SECOND..SECOND + SECOND / 10).contains(&apart), "{apart}");
    }
}

#[test]
fn a_job_is_as_old_as_the_wall_clock_says() {
    let mut bench = Bench::new(settings());
    bench.accept(slack(1, "C1"));
    let first = bench.next(START + 10 * SECOND).unwrap();
    bench.answer(&first, throttled_for(100 * 3600));
    let age = settings().job_age_max;
    bench.dispatch.wall_clock(micros(age) + 60 * SECOND);
    assert!(bench.dispatch.oldest(bench.now).unwrap() > age);
    assert!(bench.next(bench.now + 60 * SECOND).is_none());
    assert_eq!(bench.settled[1].dead, Some(Reason::GaveUp));
}

/// Who has the partition next, at another time of its own clocks.
fn heir(bench: &Bench, now: Micros, ahead: Micros) -> Bench {
    let mut heir = Bench {
        dispatch: Dispatch::new(settings(), fastrand::Rng::with_seed(2)),
        now,
        settled: Vec::new(),
        kafka: HashMap::new(),
        reread: 0,
    };
    let mut recalled = Recalled::default();
    for settled in &bench.settled {
        recalled.take(settled.outcome.clone(), now + ahead);
    }
    heir.dispatch.wall_clock(ahead);
    own(&mut heir.dispatch, recalled, now);
    heir
}

#[test]
fn a_freeze_of_a_predecessor_is_held_by_another_machines_clocks_and_no_longer_than_it_was() {
    let mut bench = Bench::new(settings());
    bench.accept(slack(1, "C1"));
    let first = bench.next(START + 10 * SECOND).unwrap();
    bench.answer(&first, throttled_for(1800));
    let until = bench.now + 1800 * SECOND;
    // A machine whose steady clock says something else.
    let mut other = heir(&bench, bench.now - JUMP, JUMP);
    other.accept(slack(1, "C1"));
    assert!(other.next(START + 3600 * SECOND).is_some());
    assert!((until - JUMP..until - JUMP + SECOND).contains(&other.now));
    // The predecessor's clock was an hour ahead: the freeze lasts half an hour from now, not an hour and a half.
    let now = bench.now - 3600 * SECOND;
    let mut right = heir(&bench, now, 0);
    right.accept(slack(1, "C1"));
    assert!(right.next(now + 3600 * SECOND).is_some());
    let waited = right.now - now;
    assert!((1800 * SECOND..1801 * SECOND).contains(&waited), "{waited}");
}
