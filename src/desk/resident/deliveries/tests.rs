use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::delivery::{self, job_id};
use crate::desk::scan::Period;
use crate::lead::EventId;
use crate::rules::RuleId;

const NOW: i64 = 1_772_723_760_000;

fn job_of(event: &str, lead: &str, rule: &str, channel: &str) -> DeliveryJob {
    DeliveryJob {
        job_id: job_id(EventId(event), RuleId(rule)).to_string(),
        event_id: event.into(),
        lead_id: lead.into(),
        rule_id: rule.into(),
        destination: channel.into(),
        ..delivery::tests::job()
    }
}

fn at(partition: i32, offset: i64, written_at: i64) -> Read {
    Read {
        spot: Spot { partition, offset },
        written_at,
        is_test: false,
        is_replay: false,
    }
}

fn outcome_of(job: &DeliveryJob, result: OutcomeResult, attempt: i32, ended_at: i64, spot: Option<Spot>) -> Outcome {
    let mut outcome = job.outcome(result, ended_at);
    outcome.attempt = attempt;
    outcome.job_partition = spot.map(|spot| spot.partition);
    outcome.job_offset = spot.map(|spot| spot.offset);
    outcome
}

fn all(deliveries: &Deliveries, asked: &Asked) -> Vec<Delivery> {
    deliveries.newest(asked, None).map(|(_, delivery)| delivery).collect()
}

fn stands(deliveries: &Deliveries, job: &DeliveryJob) -> Stands {
    deliveries.get(&job.job_id).unwrap().stands
}

#[test]
fn an_entry_takes_the_room_that_it_was_given() {
    assert!(size_of::<Entry>() <= 120, "{}", size_of::<Entry>());
}

#[test]
fn a_job_waits_until_an_outcome_of_it_and_waits_again_once_it_is_put_back() {
    use OutcomeResult::{Dead, Duplicate, Retry, Sent};
    let mut deliveries = Deliveries::new(10);
    let job = job_of("e-1", "l-1", "r-1", "C1");
    let first = at(2, 5, NOW - 9000);
    deliveries.job(&job, first, NOW);
    assert_eq!(stands(&deliveries, &job), Stands::Waiting);
    let spot = Some(first.spot);
    deliveries.outcome(&outcome_of(&job, Retry, 1, NOW - 8000, spot), at(2, 0, 0), NOW);
    deliveries.outcome(&outcome_of(&job, Dead, 2, NOW - 7000, spot), at(2, 1, 0), NOW);
    assert_eq!(stands(&deliveries, &job), Stands::Is(Dead));
    let again = Read {
        is_replay: true,
        ..at(0, 3, NOW - 6000)
    };
    let elsewhere = job_of("e-1", "l-1", "r-1", "C2");
    deliveries.job(&elsewhere, again, NOW);
    assert_eq!(stands(&deliveries, &job), Stands::Waiting);
    deliveries.outcome(
        &outcome_of(&elsewhere, Sent, 1, NOW - 5000, Some(again.spot)),
        at(0, 9, 0),
        NOW,
    );
    deliveries.outcome(&outcome_of(&job, Duplicate, 0, NOW - 4000, spot), at(2, 7, 0), NOW);
    let found = deliveries.get(&job.job_id).unwrap();
    assert_eq!(
        (found.stands, found.attempts, found.ended_at),
        (Stands::Is(Sent), 2, Some(NOW - 5000))
    );
    assert_eq!(
        (found.place.at, found.lane.as_str()),
        (NOW - 6000, "slack:sales-bot/C2")
    );
    let records = deliveries.records(&job.job_id).unwrap();
    assert_eq!((records.job, records.outcomes.len()), (Some(again.spot), 4));
    let counts = deliveries.of_rule("r-1", NOW);
    assert_eq!((counts.matched, counts.sent), (1, 1), "a replay is no match of its own");
    assert_eq!(deliveries.len(), 1);
}

#[test]
fn what_the_processor_settles_is_a_match_without_a_job_and_a_test_is_none() {
    let mut deliveries = Deliveries::new(10);
    let job = job_of("e-1", "l-1", "r-1", "C1");
    for (partition, minute) in [(0, 3), (1, 3), (0, 1)] {
        let other = job_of(&format!("e-{partition}{minute}"), "l-1", "r-1", "C1");
        let shadowed = outcome_of(&other, OutcomeResult::Shadowed, 0, NOW - minute * 60_000, None);
        deliveries.outcome(&shadowed, at(partition, minute, 0), NOW);
    }
    let test = Read {
        is_test: true,
        ..at(0, 9, NOW)
    };
    deliveries.job(&job, test, NOW);
    deliveries.outcome(
        &outcome_of(&job, OutcomeResult::Sent, 1, NOW, Some(test.spot)),
        test,
        NOW,
    );
    let counts = deliveries.of_rule("r-1", NOW);
    assert_eq!((counts.matched, counts.sent), (3, 0));
    assert!(deliveries.get(&job.job_id).unwrap().is_test);
    let shadowed = deliveries.shadowed("r-1", NOW);
    assert_eq!((shadowed.count, shadowed.most_in_a_minute), (3, 2));
    assert_eq!(shadowed.most_at, Some(NOW - 3 * 60_000));
    assert_eq!(deliveries.shadowed("never", NOW), Shadowed::default());
}

#[test]
fn the_jobs_of_a_digest_are_found_together() {
    let mut deliveries = Deliveries::new(10);
    let jobs: Vec<DeliveryJob> = (0..3)
        .map(|number| job_of(&format!("e-{number}"), "l", "r", "C1"))
        .collect();
    for (number, job) in (0..).zip(&jobs) {
        let read = at(1, number, NOW - 1000 + number);
        deliveries.job(job, read, NOW);
        // The last goes with another digest.
        let ended_at = NOW + i64::from(number == 2);
        let digested = outcome_of(job, OutcomeResult::Digested, 1, ended_at, Some(read.spot));
        deliveries.outcome(&digested, at(1, number, 0), NOW + 10);
    }
    let offsets = |job: &DeliveryJob| -> Vec<i64> {
        let spots = deliveries.digest(&job.job_id);
        spots.into_iter().map(|spot| spot.offset).collect()
    };
    assert_eq!((offsets(&jobs[1]), offsets(&jobs[2])), (vec![0, 1], vec![2]));
}

#[test]
fn a_lead_with_very_many_deliveries_costs_no_more_than_many_leads() {
    let mut deliveries = Deliveries::new(20_000);
    for number in 0..60_000 {
        let job = job_of("e-1", "l-1", &format!("r-{number}"), "C1");
        deliveries.job(&job, at(0, number, NOW - 60_000 + number), NOW);
    }
    assert_eq!(deliveries.len(), 20_000);
    let of_lead = Asked {
        lead: Some("l-1".into()),
        ..Asked::default()
    };
    assert_eq!(deliveries.newest(&of_lead, None).count(), 20_000);
    assert_eq!(deliveries.reach(), (Some(NOW - 20_000), Some(NOW - 20_001)));
}

/// What happens to one job: its record, and then outcomes; perhaps it is put back.
#[derive(Debug, Clone)]
struct Story {
    event: u8,
    rule: u8,
    channel: u8,
    written_at: i64,
    outcomes: Vec<OutcomeResult>,
    again: bool,
}

fn story() -> impl Strategy<Value = Story> {
    use OutcomeResult::{Cancelled, Dead, Digested, Expired, Retry, Sent, Throttled};
    let finals = prop_oneof![Just(Sent), Just(Digested), Just(Dead), Just(Expired), Just(Cancelled)];
    let tries = prop::collection::vec(prop_oneof![Just(Retry), Just(Throttled)], 0..3);
    (
        0u8..12,
        0u8..4,
        0u8..3,
        0i64..1000,
        tries,
        prop::option::of(finals),
        any::<bool>(),
    )
        .prop_map(|(event, rule, channel, written_at, mut outcomes, last, again)| {
            outcomes.extend(last);
            Story {
                event,
                rule,
                channel,
                written_at: NOW - 100_000 + written_at * 50,
                again: again && matches!(last, Some(Dead | Expired | Cancelled)),
                outcomes,
            }
        })
}

/// A record to be read.
#[derive(Debug, Clone)]
enum Step {
    Job(DeliveryJob, Read),
    Outcome(Outcome, Read),
}

/// The records of some stories, and where each job stands at the end.
fn told(stories: &[Story]) -> (Vec<Step>, Vec<Step>, BTreeMap<String, Delivery>) {
    let (mut jobs, mut outcomes, mut wanted) = (Vec::new(), Vec::new(), BTreeMap::new());
    for story in stories {
        let (event, rule) = (format!("event-{}", story.event), format!("rule-{}", story.rule));
        let job = job_of(
            &event,
            &format!("lead-{}", story.event % 5),
            &rule,
            &format!("C{}", story.channel),
        );
        if wanted.contains_key(&job.job_id) {
            continue;
        }
        let partition = i32::from(story.channel);
        let read = at(partition, jobs.len() as i64, story.written_at);
        jobs.push(Step::Job(job.clone(), read));
        let mut delivery = Delivery {
            place: Place {
                at: story.written_at,
                partition,
                offset: read.spot.offset,
            },
            id: job.job_id.clone(),
            event_id: event,
            lead_id: job.lead_id.clone(),
            rule_id: rule,
            lane: job.lane(),
            stands: Stands::Waiting,
            attempts: story.outcomes.len() as u16,
            ended_at: None,
            is_test: false,
        };
        for (attempt, result) in (1..).zip(&story.outcomes) {
            let ended_at = story.written_at + i64::from(attempt) * 7;
            let outcome = outcome_of(&job, *result, attempt, ended_at, Some(read.spot));
            outcomes.push(Step::Outcome(outcome, at(partition, outcomes.len() as i64, ended_at)));
            (delivery.stands, delivery.ended_at) = (Stands::Is(*result), Some(ended_at));
        }
        if story.again {
            let again = Read {
                is_replay: true,
                ..at((partition + 1) % 3, jobs.len() as i64, story.written_at + 1000)
            };
            jobs.push(Step::Job(job.clone(), again));
            delivery.stands = Stands::Waiting;
            delivery.place = Place {
                at: again.written_at,
                partition: again.spot.partition,
                offset: again.spot.offset,
            };
        }
        wanted.insert(job.job_id, delivery);
    }
    (jobs, outcomes, wanted)
}

fn read_all(deliveries: &mut Deliveries, steps: &[Step]) {
    for step in steps {
        match step {
            Step::Job(job, read) => deliveries.job(job, *read, NOW),
            Step::Outcome(outcome, read) => deliveries.outcome(outcome, *read, NOW),
        }
    }
}

/// Two lists as one, in an order that the bits say; each list keeps its own.
fn mixed(jobs: &[Step], outcomes: &[Step], bits: &[bool]) -> Vec<Step> {
    let (mut jobs, mut outcomes) = (jobs.iter(), outcomes.iter());
    let mut all = Vec::new();
    for bit in bits.iter().cycle().take(10_000) {
        let next = match bit {
            true => jobs.next().or_else(|| outcomes.next()),
            false => outcomes.next().or_else(|| jobs.next()),
        };
        let Some(next) = next else { break };
        all.push(next.clone());
    }
    all
}

proptest! {
    #[test]
    fn the_fold_is_what_happened_whatever_is_read_first(
        stories in prop::collection::vec(story(), 0..40), bits in prop::collection::vec(any::<bool>(), 1..50),
    ) {
        let (jobs, outcomes, wanted) = told(&stories);
        let mut deliveries = Deliveries::new(1000);
        read_all(&mut deliveries, &mixed(&jobs, &outcomes, &bits));
        let found: BTreeMap<String, Delivery> =
            all(&deliveries, &Asked::default()).into_iter().map(|found| (found.id.clone(), found)).collect();
        prop_assert_eq!(&found, &wanted);
        let matched: u64 = (0..4).map(|rule| deliveries.of_rule(&format!("rule-{rule}"), NOW).matched).sum();
        prop_assert_eq!(matched, wanted.len() as u64);
    }

    #[test]
    fn lists_hold_what_is_asked_for_newest_first_page_by_page(
        stories in prop::collection::vec(story(), 0..40), most in 1usize..30, limit in 1usize..7,
        field in 0u8..6, number in 0u8..5, since in 0i64..60_000,
    ) {
        let (jobs, outcomes, mut wanted) = told(&stories);
        let mut deliveries = Deliveries::new(most);
        // Whole stories, so that the oldest that have to go are the same for both.
        let mut by_job: Vec<Vec<Step>> = Vec::new();
        for id in wanted.keys() {
            let is_of = |step: &&Step| match step {
                Step::Job(job, _) => job.job_id == *id,
                Step::Outcome(outcome, _) => outcome.job_id == *id,
            };
            by_job.push(jobs.iter().chain(&outcomes).filter(is_of).cloned().collect());
        }
        by_job.sort_by_key(|steps| match &steps[0] {
            Step::Job(_, read) => read.written_at,
            Step::Outcome(_, read) => read.written_at,
        });
        by_job.iter().for_each(|steps| read_all(&mut deliveries, steps));
        let mut times: Vec<i64> = wanted.values().map(|delivery| delivery.place.at).collect();
        times.sort_unstable();
        times.dedup();
        let distinct = times.len() == wanted.len();
        let is_put_back = stories.iter().any(|story| story.again);
        prop_assert_eq!(deliveries.len(), wanted.len().min(most));
        if distinct && !is_put_back {
            while wanted.len() > most {
                let oldest = wanted.values().min_by_key(|delivery| delivery.place.at).unwrap().id.clone();
                wanted.remove(&oldest);
            }
        } else if wanted.len() > most {
            // Which of two of one moment goes is not said.
            let kept: BTreeSet<String> = all(&deliveries, &Asked::default()).into_iter().map(|found| found.id).collect();
            wanted.retain(|id, _| kept.contains(id));
        }
        let name = |prefix: &str, is: u8| (field == is).then(|| format!("{prefix}{number}"));
        let asked = Asked {
            rule: name("rule-", 0),
            lead: name("lead-", 1),
            event: name("event-", 2),
            lane: match number { 0 => name("slack:sales-bot/C", 3), _ => (field == 3).then(|| "slack:sales-bot".to_owned()) },
            stands: if field == 4 { vec![Stands::Waiting, Stands::Is(OutcomeResult::Sent)] } else { Vec::new() },
            period: Period { since: (field == 5).then_some(NOW - 100_000 + since), until: (field == 5).then_some(NOW - 70_000 + since) },
            waiting_since: None,
        };
        let is = |wanted: &Option<String>, found: &str| wanted.as_deref().is_none_or(|wanted| wanted == found);
        wanted.retain(|_, delivery| {
            is(&asked.rule, &delivery.rule_id) && is(&asked.lead, &delivery.lead_id) && is(&asked.event, &delivery.event_id)
                && asked.lane.as_deref().is_none_or(|lane| delivery.lane == lane || lane == "slack:sales-bot")
                && (asked.stands.is_empty() || asked.stands.contains(&delivery.stands))
                && asked.period.holds(delivery.place.at)
        });
        let mut listed: Vec<Delivery> = Vec::new();
        let mut after = None;
        loop {
            let page: Vec<(Place, Delivery)> = deliveries.newest(&asked, after).take(limit).collect();
            let Some((last, _)) = page.last() else { break };
            after = Some(*last);
            listed.extend(page.into_iter().map(|(_, delivery)| delivery));
        }
        prop_assert!(listed.is_sorted_by(|one, other| one.place > other.place));
        let found: BTreeMap<String, Delivery> = listed.iter().map(|found| (found.id.clone(), found.clone())).collect();
        prop_assert_eq!(found.len(), listed.len(), "none twice");
        prop_assert_eq!(found, wanted);
    }
}

#[test]
fn a_page_goes_on_where_it_ended_though_more_came_and_a_lost_wait_is_not_shown() {
    let mut deliveries = Deliveries::new(10);
    for number in 0..4 {
        let job = job_of(&format!("e-{number}"), "l", "r", "C1");
        // All of one moment.
        deliveries.job(&job, at(0, number, NOW - 5000), NOW);
    }
    let page: Vec<Place> = deliveries
        .newest(&Asked::default(), None)
        .take(2)
        .map(|(place, _)| place)
        .collect();
    deliveries.job(&job_of("e-9", "l", "r", "C1"), at(0, 9, NOW), NOW);
    let rest: Vec<Place> = deliveries
        .newest(&Asked::default(), Some(page[1]))
        .map(|(place, _)| place)
        .collect();
    assert_eq!(rest.len(), 2);
    assert!(rest.iter().all(|place| !page.contains(place)));
    let asked = Asked {
        waiting_since: Some(NOW - 4000),
        ..Asked::default()
    };
    assert_eq!(all(&deliveries, &asked).len(), 1);
}

#[test]
fn a_digest_s_jobs_need_not_be_there() {
    let mut deliveries = Deliveries::new(10);
    let job = job_of("e-1", "l", "r", "C1");
    assert!(deliveries.digest(&job.job_id).is_empty() && deliveries.records("junk").is_none());
    let spot = Spot {
        partition: 4,
        offset: 2,
    };
    let digested = outcome_of(&job, OutcomeResult::Digested, 1, NOW - 5, Some(spot));
    deliveries.outcome(&digested, at(4, 1, 0), NOW);
    assert_eq!(deliveries.digest(&job.job_id), [spot]);
}

#[test]
fn whoever_looks_for_something_rare_passes_over_most_of_what_is_there() {
    use OutcomeResult::{Cancelled, Digested, Sent, Shadowed};
    const ALL: i64 = 20_000;
    let mut deliveries = Deliveries::new(ALL as usize);
    for number in 0..ALL {
        let (rule, channel, result) = match number {
            5_000 => ("rare", "RARE", Shadowed),
            15_000 => ("rare", "RARE", Digested),
            _ => ("common", "COMMON", Sent),
        };
        let (job, read) = (
            job_of(&format!("e-{number}"), "l", rule, channel),
            at(0, number, NOW - ALL + number),
        );
        deliveries.job(&job, read, NOW);
        deliveries.outcome(
            &outcome_of(&job, result, 1, read.written_at, Some(read.spot)),
            read,
            NOW,
        );
    }
    let asked = |asked: &Asked| {
        let question = deliveries.question(asked).expect("the rule has some");
        (all(&deliveries, asked).len(), deliveries.slots(&question, None).count())
    };
    let of_rule = |rule: &str| Asked {
        rule: Some(rule.into()),
        ..Asked::default()
    };
    let of_lane = Asked {
        lane: Some("slack:sales-bot/RARE".into()),
        ..Asked::default()
    };
    let standing = |stands| Asked {
        stands: vec![stands],
        ..Asked::default()
    };
    for (question, wanted) in [
        (of_rule("rare"), 2),
        (of_lane, 2),
        (standing(Stands::Is(Shadowed)), 1),
        (standing(Stands::Is(Cancelled)), 0),
        (standing(Stands::Waiting), 0),
    ] {
        let (found, looked) = asked(&question);
        assert_eq!(found, wanted, "{question:?}");
        assert!(looked < 4_000, "{looked} entries were looked at for {question:?}");
    }
    assert_eq!(deliveries.shadowed("rare", NOW).count, 1);
    let one = all(&deliveries, &of_rule("rare")).remove(0);
    assert_eq!(deliveries.digest(&one.id).len(), 1);
    assert_eq!(deliveries.tally(NOW - 15_000)[0], (Stands::Is(Sent), 14_998));
}
