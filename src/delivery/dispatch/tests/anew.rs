//! Topics that are made anew, or come back without their end: no job of the new one is taken for one of the old.

use super::*;
use crate::delivery::offsets::Place;

fn at(offset: i64) -> JobAt {
    JobAt { partition: 0, offset }
}

fn read(bench: &mut Bench, offset: i64, job: &DeliveryJob) -> Read {
    let payload = payload(job.clone(), bench.now);
    let read = bench.dispatch.read(at(offset), tag_of(&payload), payload.written_at);
    if read.is_accepted() {
        bench.kafka.insert(at(offset), payload.clone());
        bench
            .dispatch
            .accept(at(offset), payload, &"h".into(), Cause::Match, bench.now);
    }
    read
}

/// What the events are of the jobs that are sent until then.
fn sent(bench: &mut Bench, until: Micros) -> Vec<String> {
    let mut sent = Vec::new();
    while let Some(attempt) = bench.next(until) {
        sent.push(attempt.jobs[0].event_id.clone());
        bench.answer(&attempt, Verdict::Delivered);
    }
    sent
}

#[test]
fn an_outcome_settles_the_job_that_it_is_about_and_no_other_at_its_place() {
    let mut bench = Bench::new(settings());
    let mut recalled = Recalled::default();
    for number in 0..3 {
        let mut outcome = slack(number, "C1").outcome(OutcomeResult::Sent, START / 1000);
        (outcome.job_partition, outcome.job_offset, outcome.attempt) = (Some(0), Some(number), 1);
        if number == 2 {
            outcome.result = OutcomeResult::Retry;
        }
        recalled.take(outcome, START);
    }
    bench.dispatch.disown(0);
    own(&mut bench.dispatch, recalled, START);
    assert_eq!(read(&mut bench, 0, &slack(0, "C1")), Read::Settled);
    assert_eq!(read(&mut bench, 1, &slack(11, "C1")), Read::Another);
    assert_eq!(read(&mut bench, 2, &slack(12, "C1")), Read::Another);
    assert_eq!(read(&mut bench, 3, &slack(13, "C1")), Read::New);
    assert_eq!(sent(&mut bench, START + 60 * SECOND), ["e-11", "e-12", "e-13"]);
    let attempts: Vec<i32> = bench.settled.iter().map(|one| one.outcome.attempt).collect();
    assert_eq!(attempts, [1, 1, 1], "what another job went through isn't counted");
    bench.assert_empty();
}

#[test]
fn a_job_before_what_was_read_is_seen_and_the_partition_starts_over() {
    let mut bench = Bench::new(settings());
    for number in 0..5 {
        assert_eq!(read(&mut bench, number, &slack(number, "C1")), Read::New);
    }
    let first = bench.next(START + 10 * SECOND).unwrap();
    // The topic is made anew, with other jobs at the same places, while one of the old is in flight.
    assert_eq!(read(&mut bench, 0, &slack(20, "C2")), Read::Back);
    bench.dispatch.take_over(0, bench.now);
    assert!(bench.dispatch.ledger.starts_over(0));
    assert_eq!(
        bench.dispatch.ledger.unsettled_before(0, 0),
        5,
        "what is lost can be counted"
    );
    assert_eq!(bench.dispatch.ledger.unsettled_before(0, 3), 2);
    bench.dispatch.own(0, Recalled::default(), Trail::default(), bench.now);
    for number in 0..5 {
        assert_eq!(read(&mut bench, number, &slack(20 + number, "C2")), Read::New);
    }
    bench.answer(&first, Verdict::Delivered);
    assert_eq!(bench.settled.len(), 0, "the answer is about a job that is gone");
    let all: Vec<String> = (20..25).map(|number| format!("e-{number}")).collect();
    assert_eq!(sent(&mut bench, START + 60 * SECOND), all);
    // What was in flight was sent, should its event come again.
    assert_eq!(read(&mut bench, 5, &slack(0, "C1")), Read::New);
    assert_eq!(sent(&mut bench, START + 90 * SECOND), [""; 0]);
    assert_eq!(bench.results().last(), Some(&OutcomeResult::Duplicate));
    bench.assert_empty();
}

#[test]
fn a_load_that_was_asked_for_before_says_nothing_of_the_new_topic() {
    let mut small = settings();
    small.payload_bytes_max = 1;
    let mut bench = Bench::new(small);
    for number in 0..4 {
        read(&mut bench, number, &slack(number, "C1"));
    }
    let first = bench.dispatch.next(START + 2 * SECOND, &mut Vec::new()).unwrap();
    bench.answer(&first, Verdict::Delivered);
    assert!(bench.dispatch.next(START + 4 * SECOND, &mut Vec::new()).is_none());
    let old = bench.dispatch.loads();
    assert!(!old.is_empty());
    bench.dispatch.disown(0);
    own(&mut bench.dispatch, Recalled::default(), START);
    for number in 0..4 {
        read(&mut bench, number, &slack(20 + number, "C1"));
    }
    for load in old {
        let jobs = load
            .jobs
            .iter()
            .map(|at| (*at, Some(payload(slack(at.offset, "C1"), START))));
        let lost = bench.dispatch.loaded(load.id, jobs.collect(), START, &mut Vec::new());
        assert!(lost.is_empty(), "{lost:?}");
    }
    assert_eq!(sent(&mut bench, START + 60 * SECOND), ["e-20", "e-21", "e-22", "e-23"]);
}

#[test]
fn another_lanes_job_at_a_place_is_never_sent_in_this_lane() {
    let mut small = settings();
    small.payload_bytes_max = 1;
    let mut bench = Bench::new(small);
    for number in 0..3 {
        read(&mut bench, number, &slack(number, "C1"));
    }
    // The topic is made anew, which nobody has noticed yet.
    for number in 0..3 {
        bench.kafka.insert(at(number), payload(slack(20 + number, "C2"), START));
    }
    let lanes: Vec<String> = std::iter::from_fn(|| bench.next(START + 60 * SECOND))
        .map(|attempt| attempt.jobs[0].lane())
        .collect();
    assert!(!lanes.contains(&"slack:bot/C2".to_owned()), "{lanes:?}");
}

#[test]
fn outcomes_that_go_back_are_read_from_the_beginning_by_who_comes_next() {
    let mut bench = Bench::new(settings());
    bench.dispatch.disown(0);
    let recalled = Recalled {
        outcomes_from: 500,
        outcomes_end: 500,
        ..Recalled::default()
    };
    own(&mut bench.dispatch, recalled, START);
    for number in 0..3 {
        read(&mut bench, number, &slack(number, "C1"));
    }
    bench.dispatch.ledger.settle(at(1));
    assert!(bench.dispatch.ledger.outcome_stands(0, 500) && bench.dispatch.ledger.outcome_stands(0, 501));
    let place = |bench: &Bench| bench.dispatch.ledger.place(0).unwrap();
    assert_eq!(place(&bench).outcomes_from, 500);
    assert!(!bench.dispatch.ledger.outcome_stands(0, 3), "the topic was made anew");
    assert!(bench.dispatch.ledger.outcome_stands(0, 4), "which is said once");
    let wanted = Place {
        offset: 0,
        outcomes_from: 0,
    };
    assert_eq!(place(&bench), wanted);
}

#[test]
fn a_mark_cancels_jobs_of_another_rules_topic_by_their_time() {
    let mut bench = Bench::new(settings());
    // Made by version 40 of a topic that is gone; the new one has few versions yet.
    for number in 0..3 {
        let mut job = slack(number, "C1");
        job.rule_version = 40;
        read(&mut bench, number, &job);
    }
    let (mut log, mark) = (RuleLog::default(), START / 1000 + 5_000);
    log.apply(0, Some(b"r"), None);
    log.cancel("r", Cancel { offset: 1, at: mark });
    (1..3).for_each(|offset| drop(log.apply(offset, Some(b"r"), None)));
    bench.rules(&mut log);
    assert_eq!(
        bench.results(),
        [],
        "the rules topic may have a version 40 that isn't read yet"
    );
    assert_eq!(sent(&mut bench, START + 11 * SECOND), [""; 0]);
    assert_eq!(bench.results(), [OutcomeResult::Cancelled; 3]);
    // Those of a version behind the mark go, by whichever clock.
    let mut job = slack(3, "C1");
    job.rule_version = 2;
    read(&mut bench, 3, &job);
    // As do those of a version that is still to be read, which come later.
    bench.now = mark * 1000 + SECOND;
    let mut job = slack(4, "C1");
    job.rule_version = 41;
    read(&mut bench, 4, &job);
    assert_eq!(sent(&mut bench, mark * 1000 + 60 * SECOND), ["e-3", "e-4"]);
    // The topic is made anew once more: what was cancelled stays so, what is written now goes.
    log.start_over();
    log.apply(0, Some(b"r"), None);
    bench.rules(&mut log);
    let mut early = payload(slack(5, "C1"), START);
    Arc::make_mut(&mut early.job).rule_version = 7;
    assert!(
        bench
            .dispatch
            .read(at(5), tag_of(&early), early.written_at)
            .is_accepted()
    );
    bench.kafka.insert(at(5), early.clone());
    bench
        .dispatch
        .accept(at(5), early, &"h".into(), Cause::Match, bench.now);
    let until = bench.now + 60 * SECOND;
    assert_eq!(sent(&mut bench, until), [""; 0]);
    read(&mut bench, 6, &slack(6, "C1"));
    assert_eq!(sent(&mut bench, until + 60 * SECOND), ["e-6"]);
}

#[test]
fn no_clock_cancels_a_job_of_a_version_that_is_not_read_yet() {
    // The clock of who wrote the mark is far ahead; the rule goes again since, as version 2.
    let mark = Cancel {
        offset: 1,
        at: START / 1000 + 3_600_000,
    };
    let newer = |number| DeliveryJob {
        rule_version: 2,
        ..slack(number, "C1")
    };
    for is_waiting in [true, false] {
        let (mut bench, mut log) = (Bench::new(settings()), RuleLog::default());
        if is_waiting {
            read(&mut bench, 0, &newer(0));
        }
        log.apply(1, Some(b"r"), None);
        log.cancel("r", mark);
        bench.rules(&mut log);
        if !is_waiting {
            read(&mut bench, 0, &newer(0));
        }
        assert_eq!(sent(&mut bench, START + 5 * SECOND), [""; 0], "it waits");
        log.apply(2, Some(b"r"), None);
        bench.rules(&mut log);
        read(&mut bench, 1, &newer(1));
        assert_eq!(sent(&mut bench, START + 20 * SECOND), ["e-0", "e-1"]);
        // Of a topic that is gone: nothing shows its version.
        let old = DeliveryJob {
            rule_version: 40,
            ..slack(2, "C1")
        };
        read(&mut bench, 2, &old);
        assert_eq!(sent(&mut bench, START + 60 * SECOND), [""; 0]);
        assert_eq!(bench.results().last(), Some(&OutcomeResult::Cancelled));
        bench.assert_empty();
    }
}
