use super::*;

const SECOND: Micros = 1_000_000;

fn at(offset: i64) -> JobAt {
    JobAt { partition: 0, offset }
}

fn crumb(offset: i64) -> Crumb {
    Crumb { offset, sum: 7 }
}

/// A ledger that owns partition 0, whose outcomes are read back.
fn ledger(recalled: Recalled) -> Ledger {
    let mut ledger = Ledger::default();
    ledger.take_over(0, 0);
    ledger.open(0, recalled, Trail::default());
    ledger
}

fn offset(ledger: &Ledger) -> i64 {
    ledger.place(0).unwrap().offset
}

#[test]
fn what_belongs_to_a_former_ownership_changes_nothing() {
    let mut ledger = ledger(Recalled::default());
    let (first, then) = (ledger.ownership(0).unwrap(), ledger.latest());
    ledger.read(at(0), None, 0);
    let old = ledger.post(at(0), Some(1), 0).unwrap();
    ledger.release(0);
    assert!(!ledger.is_ours(0, first) && ledger.is_former(0, then) && !ledger.awaits(at(0), then));
    let second = ledger.take_over(0, SECOND);
    assert!(second > first && ledger.is_former(0, then) && !ledger.is_former(0, ledger.latest()));
    ledger.open(0, Recalled::default(), Trail::default());
    ledger.read(at(0), None, 0);
    assert!(!ledger.awaits(at(0), then) && ledger.awaits(at(0), ledger.latest()));
    ledger.post(at(0), Some(2), SECOND).unwrap();
    ledger.acknowledge(&old);
    assert!(ledger.is_owed(0), "what the new ownership posted is still missing");
    assert_eq!((ledger.waiting_attempts(), ledger.posted()), (1, 1));
}

#[test]
fn an_ownership_of_another_partition_makes_none_former() {
    let mut ledger = ledger(Recalled::default());
    let then = ledger.latest();
    ledger.take_over(1, 0);
    assert!(!ledger.is_former(0, then) && ledger.goes_on(0, then));
    assert!(ledger.is_former(1, then), "it was taken over later");
}

#[test]
fn an_attempt_is_in_flight_until_kafka_has_all_of_its_outcomes() {
    let mut ledger = ledger(Recalled::default());
    let mut postings: Vec<Posting> = (0..3)
        .map(|offset| ledger.post(at(offset), Some(1), 0).unwrap())
        .collect();
    ledger.acknowledge(&postings[0]);
    assert_eq!((ledger.waiting_attempts(), ledger.posted()), (1, 2));
    // What Kafka doesn't take holds up its job and its partition, and nobody else.
    ledger.wait_alone(&mut postings[1]);
    assert_eq!((ledger.waiting_attempts(), ledger.posted()), (1, 2));
    ledger.acknowledge(&postings[2]);
    assert_eq!((ledger.waiting_attempts(), ledger.posted()), (0, 1));
    assert!(ledger.is_owed(0));
    ledger.acknowledge(&postings[1]);
    assert_eq!((ledger.waiting_attempts(), ledger.posted()), (0, 0));
    assert!(!ledger.is_owed(0));
    assert!(
        ledger
            .post(
                JobAt {
                    partition: 9,
                    offset: 0
                },
                None,
                0
            )
            .is_none(),
        "9 isn't ours"
    );
}

#[test]
fn kafka_is_silent_from_the_first_outcome_that_waits_or_its_last_answer_on() {
    let mut ledger = ledger(Recalled::default());
    assert_eq!(ledger.silent_for(100 * SECOND), 0, "nobody waits");
    let unasked = ledger.post(at(0), None, 100 * SECOND).unwrap();
    assert_eq!(ledger.silent_for(105 * SECOND), 0, "no attempt waits");
    ledger.post(at(1), Some(1), 110 * SECOND).unwrap();
    ledger.post(at(2), Some(2), 112 * SECOND).unwrap();
    assert_eq!(ledger.silent_for(113 * SECOND), 3 * SECOND);
    ledger.acknowledge(&unasked);
    ledger.hear(114 * SECOND);
    assert_eq!(ledger.silent_for(115 * SECOND), SECOND);
    // What is given up says nothing of Kafka.
    let mut third = ledger.post(at(3), Some(3), 115 * SECOND).unwrap();
    ledger.wait_alone(&mut third);
    assert_eq!(ledger.silent_for(116 * SECOND), 2 * SECOND);
}

#[test]
fn what_moved_is_committed_once_and_again_if_that_came_to_nothing() {
    let mut ledger = ledger(Recalled {
        committed: 5,
        ..Recalled::default()
    });
    let moved = |ledger: &mut Ledger| {
        let places = ledger.moved();
        places.get(&0).map(|(place, _)| place.offset)
    };
    assert_eq!(moved(&mut ledger), Some(5));
    assert_eq!(moved(&mut ledger), None);
    ledger.read(at(5), None, 0);
    ledger.read(at(6), None, 0);
    ledger.settle(at(6));
    assert_eq!(moved(&mut ledger), None, "5 isn't settled");
    ledger.settle(at(5));
    assert_eq!(moved(&mut ledger), Some(7));
    ledger.not_committed([0]);
    assert_eq!(moved(&mut ledger), Some(7));
    assert_eq!(ledger.places(&[0, 1]).len(), 1, "whether it moved or not");
    ledger.take_over(1, 0);
    assert_eq!(ledger.places(&[1]).len(), 0, "nothing is known of it yet");
}

#[test]
fn a_successor_finds_the_outcomes_of_jobs_that_were_not_read_again() {
    let mut ledger = ledger(Recalled {
        committed: 10,
        tried_below: 13,
        outcomes_from: 100,
        outcomes_end: 200,
        settled: [11].into(),
        ..Recalled::default()
    });
    let from = |ledger: &Ledger| ledger.place(0).unwrap().outcomes_from;
    assert_eq!(from(&ledger), 100);
    assert_eq!(ledger.read(at(10), None, 0), Read::New);
    ledger.settle(at(10));
    assert_eq!(
        (offset(&ledger), from(&ledger)),
        (11, 100),
        "what settled 11 is behind it"
    );
    assert_eq!(ledger.read(at(11), None, 0), Read::Settled);
    assert_eq!(offset(&ledger), 12);
    assert_eq!(ledger.read(at(12), None, 0), Read::New);
    assert_eq!(ledger.read(at(12), None, 0), Read::Back);
    ledger.settle(at(12));
    assert_eq!(
        (offset(&ledger), from(&ledger)),
        (13, 200),
        "all that a predecessor tried is settled"
    );
}

#[test]
fn outcomes_that_go_back_are_read_from_their_beginning() {
    let mut ledger = ledger(Recalled {
        outcomes_from: 500,
        outcomes_end: 500,
        ..Recalled::default()
    });
    ledger.read(at(0), None, 0);
    assert!(ledger.outcome_stands(0, 500) && ledger.outcome_stands(0, 501));
    assert!(!ledger.outcome_stands(0, 501), "something stands there already");
    assert_eq!(ledger.place(0).unwrap().outcomes_from, 0);
    assert!(ledger.outcome_stands(9, 0), "of another's partition nothing is known");
}

#[test]
fn a_partition_that_goes_away_reads_and_tries_nothing_more() {
    let mut ledger = ledger(Recalled::default());
    let then = ledger.latest();
    ledger.read(at(0), None, 0);
    ledger.retire(0);
    assert_eq!(ledger.read(at(1), None, 0), Read::NotOurs);
    assert!(!ledger.goes_on(0, then) && !ledger.is_former(0, then) && !ledger.is_open(0));
    ledger.settle(at(0));
    assert_eq!(offset(&ledger), 1, "what was in flight is still settled");
    let mut unopened = Ledger::default();
    unopened.take_over(0, 0);
    assert_eq!(
        unopened.read(at(0), None, 0),
        Read::NotOurs,
        "its outcomes aren't read back"
    );
    assert_eq!(unopened.youngest_since(), None);
}

#[test]
fn who_starts_over_knows_what_was_lost_and_who_comes_back_what_was_read_last() {
    let mut ledger = ledger(Recalled::default());
    for offset in 0..5 {
        ledger.read(at(offset), None, 0);
        ledger.trace(0, crumb(offset));
    }
    ledger.settle(at(3));
    assert!(!ledger.starts_over(0));
    ledger.take_over(0, 0);
    assert!(ledger.starts_over(0) && !ledger.is_open(0));
    assert_eq!((ledger.unsettled_before(0, 0), ledger.unsettled_before(0, 3)), (4, 1));
    ledger.open(0, Recalled::default(), Trail::of(crumb(1)));
    assert!(!ledger.starts_over(0) && ledger.is_open(0));
    assert_eq!(ledger.left(0), None);
    ledger.release(0);
    assert_eq!(ledger.left(0), Some(crumb(1)));
    ledger.take_over(0, 0);
    assert!(!ledger.starts_over(0), "another owner had it in between");
    ledger.open(0, Recalled::default(), Trail::default());
    assert_eq!(ledger.left(0), None);
}

#[test]
fn a_look_is_at_a_record_that_was_read_before_the_last_look_began() {
    let mut ledger = ledger(Recalled::default());
    let look = |ledger: &Ledger| ledger.looks().next().map(|(_, _, crumb, newest)| (crumb, newest));
    assert_eq!(look(&ledger), None);
    ledger.trace(0, crumb(0));
    ledger.trace(0, crumb(1));
    assert_eq!(look(&ledger), Some((crumb(0), Some(crumb(1)))));
    ledger.trace(0, crumb(2));
    ledger.found(0, Some(crumb(1)));
    assert_eq!(look(&ledger), Some((crumb(1), Some(crumb(2)))));
    ledger.take_over(0, 0);
    assert_eq!(look(&ledger), None, "its jobs are read anew");
}

#[test]
fn that_another_job_stands_there_is_said_once_for_each_ownership() {
    let mut ledger = ledger(Recalled::default());
    assert!(ledger.says_another(0) && !ledger.says_another(0) && !ledger.says_another(9));
    ledger.take_over(0, 0);
    assert!(ledger.says_another(0));
}

#[test]
fn the_oldest_of_all_partitions_counts() {
    let mut ledger = ledger(Recalled::default());
    ledger.take_over(1, 5 * SECOND);
    ledger.open(1, Recalled::default(), Trail::default());
    assert_eq!((ledger.youngest_since(), ledger.oldest()), (Some(5 * SECOND), None));
    ledger.read(at(0), None, 90_000);
    let other = JobAt {
        partition: 1,
        offset: 0,
    };
    ledger.read(other, None, 60_000);
    assert_eq!(
        (ledger.oldest(), ledger.written_at(other)),
        (Some(60_000), Some(60_000))
    );
    assert_eq!(ledger.older_than(70_000), HashMap::from([(1, 1)]));
    ledger.settle(other);
    assert_eq!(ledger.oldest(), Some(90_000));
}
