//! One sender, and lanes in trouble: what they cost the other lanes of their credential and their host, how a host that
//! is down is asked, and how soon all goes on once it is back.

use super::calm::{Calm, slack_of};
use super::*;

/// A quiet lane has a job every few seconds.
const QUIET: i64 = 40;
/// What a request takes that nobody answers.
const HANGS: Micros = 10 * SECOND;

/// Jobs of the quiet lanes of `slack:bot`, between `from` and `to`.
fn quiet(rng: &mut fastrand::Rng, lanes: i64, from: Micros, to: Micros) -> Vec<(Micros, DeliveryJob)> {
    let mut arrivals = Vec::new();
    for lane in 0..lanes {
        let mut at = from;
        loop {
            at += rng.i64(0..8 * SECOND);
            if at >= to {
                break;
            }
            let number = arrivals.len() as i64;
            arrivals.push((at, slack_of("slack:bot", &format!("quiet-{lane}"), number)));
        }
    }
    arrivals
}

/// Jobs for `lanes` lanes in trouble, one every three seconds each.
fn troubled(name: &str, lanes: i64, from: Micros, to: Micros) -> Vec<(Micros, DeliveryJob)> {
    let mut arrivals = Vec::new();
    for lane in 0..lanes {
        for at in (from..to).step_by(3 * SECOND as usize) {
            let number = 1_000_000 + arrivals.len() as i64;
            arrivals.push((at, slack_of("slack:bot", &format!("{name}-{lane}"), number)));
        }
    }
    arrivals
}

/// How a lane in trouble answers; the same quiet job takes the same time, whatever else there is.
fn answer_to(attempt: &Attempt) -> (Micros, Verdict) {
    let lane = attempt.jobs[0].destination.as_str();
    if lane.starts_with("hangs") {
        (HANGS, Verdict::Ambiguous)
    } else if lane.starts_with("fails") {
        (30_000, Verdict::Ambiguous)
    } else {
        (
            100_000 + attempt.jobs[0].source_offset * 7_919 % 80_000,
            Verdict::Delivered,
        )
    }
}

/// How long the quiet lanes' jobs take beside lanes that begin to hang and to fail: median and 99th of a hundred.
fn waits(seed: u64, hangs: i64, fails: i64, rate: &str) -> (Micros, Micros) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut settings = settings();
    settings.in_flight_max = 256;
    settings.limits.slack.workspace_rate = Rate::parse(rate).unwrap();
    // What a request takes shows, not what its channel's rate makes it wait.
    settings.limits.slack.channel_rate = Rate::per_second(50);
    let (from, trouble, to) = (START, START + 20 * SECOND, START + 120 * SECOND);
    let mut arrivals = quiet(&mut rng, QUIET, from, to);
    let count = arrivals.len();
    let came: HashMap<String, Micros> = arrivals.iter().map(|(at, job)| (job.event_id.clone(), *at)).collect();
    arrivals.extend(troubled("hangs", hangs, trouble, to));
    arrivals.extend(troubled("fails", fails, trouble, to));
    let mut calm = Calm::new(settings, seed, arrivals);
    calm.run(to + 60 * SECOND, |attempt, _| answer_to(attempt));
    let waits = calm.delivered.iter().map(|(at, event)| at - came[event]);
    let mut waits: Vec<Micros> = waits.collect();
    assert_eq!(waits.len(), count, "all quiet jobs came");
    waits.sort_unstable();
    (waits[count / 2], waits[count * 99 / 100])
}

/// The ratio of the promise, for one sister lane that hangs, one that fails, and both.
#[test]
fn a_hanging_and_a_failing_lane_cost_their_sisters_nothing() {
    for_seeds(3, |seed| {
        let without = waits(seed, 0, 0, "20/s");
        for (hangs, fails) in [(1, 0), (0, 1), (1, 1), (2, 0), (0, 2)] {
            let with = waits(seed, hangs, fails, "20/s");
            let ratio = with.1 as f64 / without.1 as f64;
            println!("{hangs} hang, {fails} fail: {without:?} µs without, {with:?} with, p99 {ratio:.3}");
            assert!(ratio <= 1.2, "{hangs} hang, {fails} fail: {ratio}");
        }
    });
}

/// Thousands of lanes that fail neither take the slots of those that work nor their rate.
#[test]
fn thousands_of_lanes_in_trouble_leave_slots_and_rate_to_those_that_work() {
    for_seeds(2, |seed| {
        let without = waits(seed, 0, 0, "50/s");
        for (hangs, fails) in [(2_000, 0), (0, 2_000), (1_000, 1_000)] {
            let with = waits(seed, hangs, fails, "50/s");
            println!("{hangs} hang, {fails} fail: {without:?} µs without, {with:?} with");
            // A start of another standing goes before, and now and then the credential is down until a request succeeds.
            let more = (with.0 - without.0, with.1 - without.1);
            assert!(
                more.0 <= SECOND / 10 && more.1 <= SECOND / 2,
                "{hangs} hang, {fails} fail: {more:?}"
            );
        }
    });
}

/// All lanes of a host go down, and come back: from the time that each of them was asked once there is one request at a
/// time, and before no more than one of each standing; after it is back everything is sent.
fn outage(seed: u64, takes: Micros, lanes: i64) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut settings = settings();
    settings.in_flight_max = 256;
    (settings.limits.slack.workspace_rate, settings.limits.slack.channel_rate) =
        (Rate::per_second(100), Rate::per_second(10));
    let (down, back) = (START + 20 * SECOND, START + 200 * SECOND);
    let mut arrivals = Vec::new();
    for number in 0..lanes * 20 {
        // Three credentials of one host.
        let credential = format!("slack:bot-{}", number % 3);
        let at = START + rng.i64(0..200 * SECOND);
        arrivals.push((at, slack_of(&credential, &format!("C{}", number % lanes), number)));
    }
    let count = arrivals.len();
    let mut calm = Calm::new(settings, seed, arrivals);
    let mut flights: Vec<(Micros, Micros, String)> = Vec::new();
    calm.run(back + 60 * SECOND, |attempt, now| {
        let is_down = (down..back).contains(&now);
        let takes = if is_down { takes } else { 100_000 };
        if is_down {
            flights.push((now, now + takes, attempt.jobs[0].lane()));
        }
        (
            takes,
            if is_down {
                Verdict::Ambiguous
            } else {
                Verdict::Delivered
            },
        )
    });
    let at_once = |now: Micros| {
        let flying = flights.iter().filter(|(start, end, _)| (*start..*end).contains(&now));
        flying.count()
    };
    // What was started before the first answer came is in flight for as long as it takes.
    let known = down + 2 * takes + SECOND;
    let widest = flights.iter().map(|(start, ..)| *start).filter(|start| *start > known);
    let widest = widest.map(at_once).max().unwrap();
    assert!(widest <= 3, "{widest} requests at a time at a host that is down");
    let mut asked = BTreeSet::new();
    let all_asked = flights
        .iter()
        .find(|(_, _, lane)| asked.insert(lane) && asked.len() as i64 == lanes);
    if let Some((_, all_asked, _)) = all_asked {
        let after = flights
            .iter()
            .map(|(start, ..)| *start)
            .filter(|start| start >= all_asked);
        let widest = after.map(at_once).max().unwrap_or(0);
        assert!(widest <= 1, "one request at a time at last, not {widest}");
    }
    assert_eq!(
        calm.delivered.len(),
        count,
        "seed {seed}: all of it is sent once the host is back"
    );
    let late = calm.delivered.iter().filter(|(at, _)| *at > back + 30 * SECOND).count();
    assert_eq!(late, 0, "{late} jobs took longer than retries explain");
}

#[test]
fn a_host_that_is_down_gets_one_request_at_a_time_and_goes_on_when_it_is_back() {
    for_seeds(5, |seed| {
        outage(seed, 30_000, 60);
        outage(seed, HANGS, 15);
    });
}
