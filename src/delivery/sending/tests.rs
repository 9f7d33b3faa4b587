//! What follows single events. Whole schedules are in the dispatch's simulation.

use super::*;
use crate::delivery::dispatch::Verdict;
use crate::delivery::dispatch::tests::held::needs;
use crate::delivery::dispatch::tests::{payload, settings, slack};
use crate::delivery::ledger::NewerOutcomes;
use crate::delivery::recall::Recalled;
use crate::delivery::{Cut, OutcomeResult};
use crate::reason::{Form, Reason};
use crate::trail::Trail;

const SECOND: Micros = 1_000_000;
const START: Micros = 1_000_000 * SECOND;

fn past() -> Past {
    Past {
        recalled: Recalled::default(),
        trail: Trail::default(),
        anew: None,
        end: 0,
        passed: 0,
        outcomes_anew: false,
    }
}

/// A sender and what its Kafka has yet to do.
struct Bench {
    sending: Sending,
    now: Micros,
    effects: Vec<Effect>,
}

impl Bench {
    fn new() -> Self {
        Self::of(settings())
    }

    fn of(settings: Settings) -> Self {
        Self {
            sending: Sending::new(settings, fastrand::Rng::with_seed(1), START),
            now: START,
            effects: Vec::new(),
        }
    }

    /// One that owns partition 0, whose outcomes are read back.
    fn owner() -> Self {
        Self::owner_of(settings())
    }

    fn owner_of(settings: Settings) -> Self {
        let mut bench = Self::of(settings);
        bench.on(Event::Assigned(vec![0]));
        let recall = bench.recall();
        bench.recalled(recall, Ok(past()));
        bench.effects.clear();
        bench
    }

    fn on(&mut self, event: Event) {
        let effects = self.sending.on(event, self.now);
        self.effects.extend(effects);
    }

    /// A turn and a tick, so much later; the group is polled all the time.
    fn pass(&mut self, seconds: Micros) {
        self.now += seconds * SECOND;
        self.sending.clocks(0, self.now);
        let effects = self.sending.turn(self.now);
        self.effects.extend(effects);
        let effects = self.sending.tick(self.now);
        self.effects.extend(effects);
    }

    /// The first effect of a kind, which is taken.
    fn take<T>(&mut self, kind: impl Fn(&Effect) -> Option<T>) -> Option<T> {
        let place = self.effects.iter().position(|effect| kind(effect).is_some())?;
        kind(&self.effects.remove(place))
    }

    fn recall(&mut self) -> Recall {
        let recall = self.take(|effect| match effect {
            Effect::Recall(recall) => Some(*recall),
            _ => None,
        });
        recall.expect("outcomes are read back")
    }

    fn recalled(&mut self, recall: Recall, past: Result<Past, NotRecalled>) {
        self.on(Event::Recalled {
            partition: recall.partition,
            ownership: recall.ownership,
            past: past.map(Box::new),
        });
    }

    fn sends(&mut self) -> Option<Attempt> {
        self.take(|effect| match effect {
            Effect::Send(attempt) => Some(attempt.clone()),
            _ => None,
        })
    }

    fn writes(&mut self) -> Option<Writing> {
        self.take(|effect| match effect {
            Effect::Write(writing) => Some(writing.clone()),
            _ => None,
        })
    }

    fn writes_later(&mut self) -> Option<(Writing, Duration)> {
        self.take(|effect| match effect {
            Effect::WriteLater(writing, after) => Some((writing.clone(), *after)),
            _ => None,
        })
    }

    fn commits(&mut self) -> Option<i64> {
        self.take(|effect| match effect {
            Effect::Commit(places) => Some(places[&0].0.offset),
            _ => None,
        })
    }

    /// Which revocation is answered, and with which offset of partition 0.
    fn hands_over(&mut self) -> Option<(u64, Option<i64>)> {
        self.take(|effect| match effect {
            Effect::HandOver { revocation, places } => {
                Some((*revocation, places.get(&0).map(|(place, _)| place.offset)))
            }
            _ => None,
        })
    }

    fn has(&mut self, kind: impl Fn(&Effect) -> bool) -> bool {
        self.take(|effect| kind(effect).then_some(())).is_some()
    }

    fn ownership(&self) -> Ownership {
        self.sending.dispatch.ledger.ownership(0).expect("it is ours")
    }

    fn job(&mut self, offset: i64, content: Content) {
        let job = JobRecord {
            at: JobAt { partition: 0, offset },
            ownership: self.ownership(),
            written_at: self.now / 1000,
            sum: 7,
            job_id: None,
            cause: Cause::Match,
            content,
        };
        self.on(Event::Job(job));
    }

    /// A job for a channel of its own.
    fn reads(&mut self, offset: i64) {
        let payload = payload(slack(offset, &format!("C{offset}")), self.now);
        self.job(offset, Content::Job(payload, "slack.com".into()));
    }

    fn reads_no_job(&mut self, offset: i64) {
        let no_job = NoJob {
            key: b"k".to_vec(),
            value: b"v".to_vec(),
            trace: None,
            reason: Reason::NotDecodable,
            detail: "it is none".to_owned(),
        };
        self.job(offset, Content::NoJob(no_job));
    }

    /// The next request, started within some seconds.
    fn attempt(&mut self) -> Attempt {
        for _ in 0..5 {
            self.pass(1);
            if let Some(attempt) = self.sends() {
                return attempt;
            }
        }
        panic!("nothing starts");
    }

    fn answer(&mut self, attempt: &Attempt, verdict: Verdict) {
        let answer = Answer {
            verdict,
            ..Answer::unsent("words")
        };
        self.on(Event::Answered {
            attempt: attempt.id,
            answers: vec![answer],
        });
    }

    /// A job that was sent, and its outcome on the way to Kafka.
    fn sent(&mut self, offset: i64) -> Writing {
        self.reads(offset);
        let attempt = self.attempt();
        self.answer(&attempt, Verdict::Delivered);
        self.writes().expect("an outcome")
    }

    fn revoke(&mut self, revocation: u64, lost: bool) {
        self.on(Event::Revoked {
            revocation,
            partitions: vec![0],
            lost,
        });
    }

    fn looked(&mut self, is_gone: bool) {
        let looks = self.take(|effect| match effect {
            Effect::Look(looks) => Some(looks.clone()),
            _ => None,
        });
        let looked = looks
            .expect("a look")
            .into_iter()
            .map(|looking| Looked { looking, is_gone });
        self.on(Event::Looked(looked.collect()));
    }
}

#[test]
fn a_job_is_settled_once_kafka_has_its_outcome() {
    let mut bench = Bench::owner();
    let outcome = bench.sent(0);
    bench.effects.clear();
    bench.pass(1);
    assert_eq!(bench.commits(), None, "Kafka has nothing yet");
    bench.on(Event::Written(outcome, Ack::Taken(0)));
    bench.pass(1);
    assert_eq!(bench.commits(), Some(1));
    bench.pass(1);
    assert_eq!(bench.commits(), None, "nothing has moved");
    bench.on(Event::NotCommitted(vec![0]));
    bench.pass(1);
    assert_eq!(bench.commits(), Some(1));
}

#[test]
fn an_outcome_that_says_try_again_settles_nothing() {
    let mut bench = Bench::owner();
    bench.reads(0);
    let attempt = bench.attempt();
    bench.effects.clear();
    bench.answer(&attempt, Verdict::Retry);
    let outcome = bench.writes().unwrap();
    bench.on(Event::Written(outcome, Ack::Taken(0)));
    bench.pass(1);
    assert_eq!(bench.sending.dispatch.ledger.place(0).unwrap().offset, 0);
}

#[test]
fn nothing_starts_while_kafka_is_silent_and_an_answer_of_any_kind_ends_that() {
    for (ack, starts) in [(Ack::Failed, false), (Ack::TooLarge, true), (Ack::Taken(0), true)] {
        let mut bench = Bench::owner();
        let outcome = bench.sent(0);
        bench.reads(1);
        bench.pass(2);
        assert!(bench.sends().is_none(), "the first outcome waits for two seconds");
        assert!(bench.sending.is_acknowledged(bench.now) && !bench.sending.is_acknowledged(bench.now + 5 * SECOND));
        bench.on(Event::Written(outcome, ack));
        bench.pass(0);
        assert_eq!(bench.sends().is_some(), starts, "{ack:?}");
    }
}

#[test]
fn an_outcome_that_is_not_taken_becomes_smaller_and_at_last_waits_alone() {
    let mut bench = Bench::owner();
    let mut outcome = bench.sent(0);
    for cut in [Cut::ShortWords, Cut::NoWords, Cut::Ids] {
        bench.on(Event::Written(outcome, Ack::TooLarge));
        outcome = bench.writes().expect("a smaller one");
        assert!(
            matches!(&outcome.what, What::Outcome(_, found) if *found == cut),
            "{outcome:?}"
        );
        assert_eq!(bench.sending.dispatch.ledger.waiting_attempts(), 1);
    }
    bench.on(Event::Written(outcome, Ack::TooLarge));
    assert!(bench.has(|effect| matches!(effect, Effect::Say(Notice::Refused(_)))));
    let (outcome, after) = bench.writes_later().expect("it is written later");
    assert_eq!(after, REFUSED_AGAIN_AFTER);
    assert_eq!(
        bench.sending.dispatch.ledger.waiting_attempts(),
        0,
        "its request is over"
    );
    bench.revoke(1, false);
    bench.pass(1);
    assert_eq!(bench.hands_over(), None, "it is still owed");
    bench.on(Event::Again(outcome));
    let outcome = bench.writes().expect("it is tried again");
    bench.on(Event::Written(outcome, Ack::Taken(0)));
    bench.pass(0);
    assert_eq!(bench.hands_over(), Some((1, Some(1))));
}

#[test]
fn a_dead_letter_is_written_before_its_outcome() {
    let mut bench = Bench::owner();
    bench.reads(0);
    let attempt = bench.attempt();
    bench.answer(&attempt, Verdict::Rejected(Reason::MessageRejected));
    let letter = bench.writes().unwrap();
    assert!(matches!(&letter.what, What::DeadLetter(_, Form::Whole)) && bench.writes().is_none());
    // While Kafka is away it holds up its own job alone.
    bench.on(Event::Written(letter, Ack::Failed));
    assert_eq!(bench.sending.dispatch.ledger.waiting_attempts(), 0);
    let (letter, after) = bench.writes_later().unwrap();
    assert_eq!(after, AGAIN_AFTER);
    bench.on(Event::Again(letter));
    let letter = bench.writes().unwrap();
    bench.on(Event::Written(letter, Ack::TooLarge));
    let letter = bench.writes().unwrap();
    assert!(matches!(&letter.what, What::DeadLetter(_, Form::WithoutValue)));
    bench.on(Event::Written(letter, Ack::Taken(9)));
    assert_eq!(
        bench.sending.dispatch.ledger.place(0).unwrap().offset,
        0,
        "its outcome is missing"
    );
    let outcome = bench.writes().unwrap();
    assert!(
        matches!(&outcome.what, What::Outcome(settled, Cut::Whole) if settled.outcome.result == OutcomeResult::Dead)
    );
    bench.on(Event::Written(outcome, Ack::Taken(0)));
    assert_eq!(bench.sending.dispatch.ledger.place(0).unwrap().offset, 1);
    assert_eq!(bench.sending.dispatch.ledger.posted(), 0);
    assert!(
        !bench.has(|effect| matches!(effect, Effect::Say(Notice::Gone { .. }))),
        "where the dead letter stands says nothing of the outcomes"
    );
}

#[test]
fn a_request_is_in_flight_until_kafka_has_its_outcome() {
    for verdict in [
        Verdict::Delivered,
        Verdict::Retry,
        Verdict::Rejected(Reason::MessageRejected),
    ] {
        let mut one = settings();
        one.in_flight_max = 1;
        let mut bench = Bench::owner_of(one);
        bench.reads(0);
        let attempt = bench.attempt();
        bench.reads(1);
        bench.answer(&attempt, verdict.clone());
        let mut writing = bench.writes().unwrap();
        if matches!(writing.what, What::DeadLetter(..)) {
            bench.pass(1);
            assert!(bench.sends().is_none(), "{verdict:?}: its dead letter is unwritten");
            bench.on(Event::Written(writing, Ack::Taken(9)));
            writing = bench.writes().unwrap();
        }
        bench.pass(1);
        assert!(bench.sends().is_none(), "{verdict:?}: its outcome is unwritten");
        bench.on(Event::Written(writing, Ack::Taken(0)));
        bench.pass(0);
        assert!(bench.sends().is_some(), "{verdict:?}");
    }
}

#[test]
fn a_record_that_is_no_job_is_settled_by_its_dead_letter() {
    let mut bench = Bench::owner();
    bench.reads_no_job(0);
    assert!(bench.has(|effect| matches!(effect, Effect::Say(Notice::NoJob { .. }))));
    let letter = bench.writes().unwrap();
    assert_eq!(bench.sending.dispatch.ledger.place(0).unwrap().offset, 0);
    bench.on(Event::Written(letter, Ack::Taken(4)));
    assert!(bench.writes().is_none(), "it has no outcome");
    let ledger = &bench.sending.dispatch.ledger;
    assert_eq!((ledger.place(0).unwrap().offset, ledger.posted()), (1, 0));
}

#[test]
fn a_partition_goes_once_all_of_it_is_settled_or_its_time_is_up() {
    let mut bench = Bench::owner();
    bench.reads(0);
    let attempt = bench.attempt();
    bench.reads(1);
    bench.revoke(1, false);
    bench.pass(1);
    assert!(
        bench.sends().is_none() && bench.hands_over().is_none(),
        "a request is in flight"
    );
    bench.answer(&attempt, Verdict::Delivered);
    bench.pass(1);
    assert!(bench.hands_over().is_none(), "its outcome is unwritten");
    let outcome = bench.writes().unwrap();
    bench.on(Event::Written(outcome.clone(), Ack::Taken(0)));
    bench.pass(0);
    assert_eq!(bench.hands_over(), Some((1, Some(1))));
    assert_eq!(bench.sending.dispatch.ledger.ownership(0), None);

    let mut bench = Bench::owner();
    bench.reads(0);
    let attempt = bench.attempt();
    bench.revoke(1, false);
    assert_eq!(
        bench.sending.wake_at(bench.now),
        Some(bench.now + 30 * SECOND).min(bench.sending.wake_at(bench.now))
    );
    bench.pass(29);
    assert!(bench.hands_over().is_none());
    bench.pass(1);
    assert_eq!(bench.hands_over(), Some((1, Some(0))));
    bench.answer(&attempt, Verdict::Delivered);
    assert!(bench.writes().is_none(), "its successor sends it again");
}

#[test]
fn a_late_hand_over_takes_nothing_from_a_new_ownership() {
    let mut bench = Bench::owner();
    bench.reads(0);
    let attempt = bench.attempt();
    bench.revoke(1, false);
    // The group didn't wait; the partition comes back before the request has ended.
    bench.revoke(2, true);
    bench.on(Event::Assigned(vec![0]));
    let recall = bench.recall();
    bench.recalled(recall, Ok(past()));
    bench.pass(31);
    assert_eq!(bench.sending.dispatch.ledger.ownership(0), Some(recall.ownership));
    bench.answer(&attempt, Verdict::Delivered);
    assert!(bench.writes().is_none());
}

#[test]
fn a_partition_that_comes_again_unannounced_is_another_owners_past() {
    let mut bench = Bench::owner();
    let outcome = bench.sent(0);
    bench.on(Event::Assigned(vec![0]));
    let recall = bench.recall();
    bench.recalled(recall, Ok(past()));
    assert!(!bench.has(|effect| matches!(effect, Effect::Say(Notice::Gone { .. }))));
    bench.on(Event::Written(outcome, Ack::Taken(0)));
    assert_eq!(bench.sending.dispatch.ledger.place(0).unwrap().offset, 0);
    assert_eq!(bench.sending.dispatch.ledger.posted(), 0);
}

#[test]
fn outcomes_that_can_not_be_read_back_are_read_again_later() {
    let mut bench = Bench::new();
    bench.on(Event::Assigned(vec![0]));
    let recall = bench.recall();
    assert_eq!(recall.delay, Duration::ZERO);
    bench.recalled(recall, Err(NotRecalled::Failed("the broker is silent".to_owned())));
    let again = bench.recall();
    assert_eq!((again.delay, again.ownership), (AGAIN_AFTER, recall.ownership));
    assert!(!bench.has(|effect| matches!(effect, Effect::Begin { .. })));
    // Outcomes of a newer version are waited for.
    let needs = needs();
    bench.recalled(again, Err(NotRecalled::Newer(NewerOutcomes { outcomes: 3, needs })));
    let again = bench.recall();
    assert_eq!(again.delay, NEWER_AGAIN_AFTER);
    let newer = bench.sending.dispatch.ledger.newer();
    assert_eq!(
        newer
            .map(|(partition, newer)| (partition, newer.outcomes))
            .collect::<Vec<_>>(),
        [(0, 3)]
    );
    // One of a former ownership says nothing.
    bench.revoke(1, true);
    assert_eq!(bench.sending.dispatch.ledger.newer().count(), 0);
    bench.on(Event::Assigned(vec![0]));
    let newer = bench.recall();
    bench.recalled(again, Ok(past()));
    assert!(!bench.has(|effect| matches!(effect, Effect::Begin { .. })));
    bench.recalled(newer, Ok(past()));
    assert!(bench.has(|effect| matches!(effect, Effect::Begin { ownership, .. } if *ownership == newer.ownership)));
}

#[test]
fn an_answer_that_comes_while_a_partition_is_started_over_is_about_a_job_that_is_gone() {
    let mut bench = Bench::owner();
    for offset in 0..3 {
        bench.reads(offset);
    }
    let first = bench.attempt();
    let second = bench.attempt();
    bench.answer(&second, Verdict::Delivered);
    let outcome = bench.writes().unwrap();
    // The topic was made anew.
    bench.reads(0);
    assert!(bench.has(|effect| matches!(effect, Effect::Pause(0))));
    let recall = bench.recall();
    bench.answer(&first, Verdict::Delivered);
    assert!(bench.writes().is_none(), "it would settle another job");
    bench.on(Event::Written(outcome, Ack::Taken(0)));
    bench.recalled(recall, Ok(past()));
    let lost = bench.take(|effect| match effect {
        Effect::Say(Notice::Gone {
            what: Gone::StartedOver { lost, .. },
            ..
        }) => Some(*lost),
        _ => None,
    });
    assert_eq!(lost, Some(3));
    assert_eq!(bench.sending.dispatch.ledger.place(0).unwrap().offset, 0);
    // The group is joined anew, once.
    assert!(bench.has(|effect| matches!(effect, Effect::Rejoin)));
    bench.revoke(1, false);
    bench.pass(1);
    assert!(bench.hands_over().is_some());
    assert!(bench.sending.left() && !bench.sending.left());
}

#[test]
fn who_has_lost_its_partitions_joins_the_group_by_a_new_client() {
    let rejoins = |bench: &mut Bench| bench.has(|effect| matches!(effect, Effect::Rejoin));
    let mut bench = Bench::owner();
    bench.revoke(1, false);
    bench.pass(1);
    assert!(!rejoins(&mut bench), "others take their share");
    let mut bench = Bench::owner();
    bench.revoke(1, true);
    bench.pass(1);
    assert!(bench.hands_over().is_some() && rejoins(&mut bench));
    assert!(bench.sending.left() && !bench.sending.left());
    bench.on(Event::Stop);
    bench.effects.clear();
    bench.revoke(2, true);
    assert!(!rejoins(&mut bench) && !bench.sending.left());
}

#[test]
fn a_record_that_is_gone_starts_its_partition_over_unless_that_goes_away() {
    for retired in [false, true] {
        let mut bench = Bench::owner();
        bench.reads(0);
        bench.pass(0);
        if retired {
            bench.revoke(1, false);
        }
        bench.looked(true);
        assert_eq!(bench.has(|effect| matches!(effect, Effect::Pause(0))), !retired);
    }
    let mut bench = Bench::owner();
    bench.reads(0);
    bench.pass(0);
    bench.looked(false);
    assert!(!bench.has(|effect| matches!(effect, Effect::Pause(0))));
    bench.pass(1);
    assert!(!bench.has(|effect| matches!(effect, Effect::Look(_))), "not so soon");
    bench.pass(4);
    assert!(bench.has(|effect| matches!(effect, Effect::Look(_))));
    bench.pass(5);
    assert!(
        !bench.has(|effect| matches!(effect, Effect::Look(_))),
        "one is under way"
    );
}

#[test]
fn after_a_standstill_nothing_starts_and_no_answer_counts_before_the_group_has_spoken() {
    let mut bench = Bench::owner();
    bench.reads(0);
    let polled = bench.now;
    bench.now += 23 * SECOND;
    bench.sending.clocks(0, polled);
    assert!(!bench.sending.may_settle(bench.now));
    assert!(bench.sending.turn(bench.now).is_empty());
    assert_eq!(bench.sending.wake_at(bench.now), None);
    // While partitions leave, the group waits for us and isn't polled.
    let attempt = bench.attempt();
    bench.revoke(1, false);
    bench.now += 23 * SECOND;
    assert!(bench.sending.may_settle(bench.now));
    bench.answer(&attempt, Verdict::Delivered);
    assert!(bench.writes().is_some());
}

#[test]
fn who_stops_starts_nothing_and_does_not_join_again() {
    let mut bench = Bench::owner();
    bench.reads(0);
    bench.on(Event::Stop);
    assert!(bench.has(|effect| matches!(effect, Effect::Leave)));
    bench.pass(5);
    assert!(bench.sends().is_none());
    assert!(bench.sending.may_settle(bench.now + 100 * SECOND));
    assert!(!bench.sending.left());
}

#[test]
fn nothing_starts_while_too_much_waits_for_kafka() {
    let mut bench = Bench::owner();
    let count = POSTED_MAX as i64 + 1;
    (0..count).for_each(|offset| bench.reads_no_job(offset));
    bench.reads(count);
    bench.pass(2);
    assert!(bench.sends().is_none());
    let letter = bench.writes().unwrap();
    bench.on(Event::Written(letter, Ack::Taken(0)));
    bench.pass(0);
    assert!(bench.sends().is_some());
}
