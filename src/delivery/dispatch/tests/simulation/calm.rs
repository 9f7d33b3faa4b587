//! One sender without crashes: how much of the limits is used, and what one destination's trouble
//! costs the others.

use super::*;

/// A sender in virtual time, whose destinations answer after a time of their own.
pub(super) struct Calm {
    dispatch: Dispatch,
    now: Micros,
    /// Jobs to come, the next one last.
    arrivals: Vec<(Micros, DeliveryJob)>,
    jobs: HashMap<JobAt, Payload>,
    next_offset: i64,
    /// Answers and loads on their way, by time.
    answers: BTreeMap<(Micros, u64), (Attempt, Verdict)>,
    loads: BTreeMap<(Micros, u64), Load>,
    /// Starts: when, the lane, and of how many jobs.
    pub(super) starts: Vec<(Micros, String, usize)>,
    /// Deliveries: when, and the event.
    pub(super) delivered: Vec<(Micros, String)>,
}

/// What the loop's timers are late by, and what a job read again takes.
const LATE: Micros = 1_000;
const LOAD: Micros = 5_000;

impl Calm {
    pub(super) fn new(settings: Settings, seed: u64, mut arrivals: Vec<(Micros, DeliveryJob)>) -> Self {
        let mut dispatch = Dispatch::new(settings, fastrand::Rng::with_seed(seed));
        own(&mut dispatch, Recalled::default(), START);
        arrivals.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
        Self {
            dispatch,
            now: START,
            arrivals,
            jobs: HashMap::new(),
            next_offset: 0,
            answers: BTreeMap::new(),
            loads: BTreeMap::new(),
            starts: Vec::new(),
            delivered: Vec::new(),
        }
    }

    fn read(&mut self, job: DeliveryJob) {
        let at = JobAt {
            partition: 0,
            offset: self.next_offset,
        };
        self.next_offset += 1;
        let host: Arc<str> = host(&job).into();
        let payload = payload(job, self.now);
        self.jobs.insert(at, payload.clone());
        assert_eq!(self.dispatch.read(at, tag_of(&payload), payload.written_at), Read::New);
        self.dispatch.accept(at, payload, &host, Cause::Match, self.now);
    }

    /// As many jobs more of the last one's lane, without their payloads.
    fn flood(&mut self, count: i64) {
        let lane = self.dispatch.lanes.numbers().next_back().expect("a job was read");
        let class = self.dispatch.classes.numbers().next_back().expect("a job was read");
        let first = JobAt {
            partition: 0,
            offset: self.next_offset - 1,
        };
        let payload = self.jobs[&first].clone();
        for offset in self.next_offset..self.next_offset + count {
            let at = JobAt { offset, ..first };
            assert_eq!(self.dispatch.read(at, tag_of(&payload), payload.written_at), Read::New);
            let pacing = self.dispatch.credentials[self.dispatch.lanes[lane].credential].pacing;
            let key = key(&payload.job, &pacing);
            self.dispatch.lanes[lane]
                .lane
                .push(Entry::new(at, key, class), self.now);
        }
        self.next_offset += count;
    }

    /// A payload of the flood is another job each.
    fn payload_of(&self, at: JobAt) -> Payload {
        self.jobs
            .get(&at)
            .cloned()
            .unwrap_or_else(|| payload(slack_of("slack:flood", "C-flood", 10_000_000 + at.offset), START))
    }

    fn turn(&mut self, answer_to: &mut impl FnMut(&Attempt, Micros) -> (Micros, Verdict)) {
        while self.arrivals.last().is_some_and(|(at, _)| *at <= self.now) {
            let (_, job) = self.arrivals.pop().expect("just seen");
            self.read(job);
        }
        while let Some(first) = self.answers.first_entry().filter(|first| first.key().0 <= self.now) {
            let (attempt, verdict) = first.remove();
            if verdict == Verdict::Delivered {
                let ids = attempt.jobs.iter().map(|job| (self.now, job.event_id.clone()));
                self.delivered.extend(ids);
            }
            let answers = vec![answer(verdict); attempt.jobs.len()];
            let settled = self.dispatch.answered(attempt.id, answers, self.now);
            self.settle(settled);
        }
        while let Some(first) = self.loads.first_entry().filter(|first| first.key().0 <= self.now) {
            let load = first.remove();
            let jobs = load.jobs.iter().map(|at| (*at, Some(self.payload_of(*at)))).collect();
            let mut settled = Vec::new();
            self.dispatch.loaded(load.id, jobs, self.now, &mut settled);
            self.settle(settled);
        }
        loop {
            let mut settled = Vec::new();
            let attempt = self.dispatch.next(self.now, &mut settled);
            self.settle(settled);
            for load in self.dispatch.loads() {
                self.loads.insert((self.now + LOAD, load.id), load);
            }
            let Some(attempt) = attempt else { break };
            let (takes, verdict) = answer_to(&attempt, self.now);
            self.starts.push((self.now, attempt.jobs[0].lane(), attempt.jobs.len()));
            self.answers.insert((self.now + takes, attempt.id), (attempt, verdict));
        }
    }

    fn settle(&mut self, settled: Vec<Settled>) {
        for one in settled.iter().filter(|one| one.outcome.result.is_final()) {
            self.dispatch.ledger.settle(one.at);
        }
    }

    pub(super) fn run(&mut self, until: Micros, mut answer_to: impl FnMut(&Attempt, Micros) -> (Micros, Verdict)) {
        while self.now < until {
            self.turn(&mut answer_to);
            let next = [
                self.arrivals.last().map(|(at, _)| *at),
                self.answers.first_key_value().map(|((at, _), _)| *at),
                self.loads.first_key_value().map(|((at, _), _)| *at),
                Some(self.dispatch.wake_at() + LATE),
            ];
            self.now = next.into_iter().flatten().min().unwrap_or(until).max(self.now + 1);
        }
    }

    fn starts_of(&self, of: impl Fn(&str) -> bool) -> Vec<Micros> {
        let of = self.starts.iter().filter(|(_, lane, _)| of(lane));
        of.map(|(at, ..)| *at).collect()
    }
}

pub(super) fn slack_of(credential: &str, channel: &str, number: i64) -> DeliveryJob {
    job(number, ActionType::SlackMessage, credential, channel)
}

/// The share of a limit of so many a second that was used between the first and the last start.
fn used(starts: &[Micros], per_second: f64) -> f64 {
    let took = (starts.last().unwrap() - starts[0]) as f64 / SECOND as f64;
    (starts.len() - 1) as f64 / took / per_second
}

/// Work waits everywhere, and a destination asks for silence now and then.
fn use_the_limits(seed: u64) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut settings = settings();
    settings.in_flight_max = 64;
    let rate = |text: &str| Rate::parse(text).unwrap();
    let (fast, per_second) = [("2/s", 2.0), ("5/s", 5.0), ("50/s", 50.0)][rng.usize(..3)];
    let channel = |credential: &str, channel: &str| (credential.to_owned(), Some(channel.to_owned()));
    settings.limits.slack.own = HashMap::from([
        (channel("slack:fast", "F"), rate(fast)),
        (("slack:fast".into(), None), rate("100/s")),
    ]);
    let mut number = 0;
    let mut waiting = Vec::new();
    let mut add = |count: usize, credential: &str, channel: &str| {
        for _ in 0..count {
            number += 1;
            waiting.push((START, slack_of(credential, channel, number)));
        }
    };
    // Eight channels of one workspace could take more than the workspace may.
    (0..8).for_each(|one| add(150, "slack:wide", &format!("W{one}")));
    add(100, "slack:one", "C1");
    add(100, "slack:cold", "C2");
    add(5_000, "slack:fast", "F");
    rng.shuffle(&mut waiting);
    let mut calm = Calm::new(settings, seed, waiting);
    let mut silence: Vec<(Micros, Micros)> = Vec::new();
    calm.run(START + 80 * SECOND, |attempt, now| {
        let takes = rng.i64(2_000..15_000);
        if attempt.jobs[0].credential == "slack:cold" && rng.u8(..8) == 0 {
            let delay = Duration::from_millis(rng.u64(1_500..9_000));
            silence.push((now + takes, now + takes + micros(delay)));
            let scope = if rng.bool() {
                FreezeScope::Lane
            } else {
                FreezeScope::Credential
            };
            let verdict = Verdict::Throttled {
                scope,
                retry_after: Some(delay),
            };
            return (takes, verdict);
        }
        (takes, Verdict::Delivered)
    });
    let one = calm.starts_of(|lane| lane == "slack:one/C1");
    let workspace = calm.starts_of(|lane| lane.starts_with("slack:wide"));
    let of_fast = calm.starts_of(|lane| lane == "slack:fast/F");
    for (starts, per_second) in [(one, 1.0), (workspace, 5.0), (of_fast, per_second)] {
        let used = used(&starts, per_second);
        assert!((0.95..=1.0).contains(&used), "use: {used} of {per_second}/s");
    }
    let each: Vec<usize> = (0..8)
        .map(|one| calm.starts_of(|lane| lane == format!("slack:wide/W{one}")).len())
        .collect();
    assert!(
        each.iter().max().unwrap() - each.iter().min().unwrap() <= 2,
        "fair: {each:?}"
    );
    let cold = calm.starts_of(|lane| lane == "slack:cold/C2");
    for (from, until) in &silence {
        assert!(
            !cold.iter().any(|at| (from..until).contains(&at)),
            "freeze: a start in {from}..{until}"
        );
        let next = cold.iter().find(|at| **at >= *until);
        assert!(next.is_none_or(|at| at - until < SECOND), "it goes on within a second");
    }
    assert!(silence.len() > 2);
}

#[test]
fn a_limit_is_used_while_work_waits() {
    for_seeds(20, use_the_limits);
}

/// Batches that are not full wait for `batch_wait` and no longer; an account is kept busy.
#[test]
fn batches_wait_for_company_and_no_longer() {
    for_seeds(20, |seed| {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut settings = settings();
        (settings.limits.clevertap.batch.max, settings.in_flight_max) = (50, 64);
        let arrivals = (0..2_000).map(|number| {
            let at = START + rng.i64(0..20 * SECOND);
            let id = format!("id-{}", rng.u16(..500));
            (at, job(number, ActionType::ClevertapEvent, "clevertap:acme", &id))
        });
        let arrivals: Vec<(Micros, DeliveryJob)> = arrivals.collect();
        let came: HashMap<String, Micros> = arrivals.iter().map(|(at, job)| (job.event_id.clone(), *at)).collect();
        let mut calm = Calm::new(settings, seed, arrivals);
        let mut waits = Vec::new();
        calm.run(START + 30 * SECOND, |attempt, now| {
            waits.extend(attempt.jobs.iter().map(|job| now - came[&job.event_id]));
            (10_000, Verdict::Delivered)
        });
        assert_eq!(calm.delivered.len(), 2_000);
        // A record of an identity in flight waits for the answer, and for its turn.
        let longest = waits.iter().max().unwrap();
        assert!(*longest <= 200_000 + 2 * 10_000 + 4 * LATE, "{longest}");
        let requests = calm.starts.len();
        assert!(requests <= 20 * SECOND as usize / 200_000 + 60, "{requests} requests");
    });
}

/// An account that says "less" to all that is in flight means half of it, and is asked for more again.
#[test]
fn an_account_that_asks_for_less_is_left_half() {
    for_seeds(20, |seed| {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut settings = settings();
        (settings.limits.clevertap.batch.max, settings.in_flight_max) = (10, 64);
        settings.limits.clevertap.concurrency = HashMap::from([("clevertap:acme".to_owned(), 8)]);
        let arrivals = (0..8_000).map(|number| {
            let id = format!("id-{number}");
            (START, job(number, ActionType::ClevertapEvent, "clevertap:acme", &id))
        });
        let mut calm = Calm::new(settings, seed, arrivals.collect());
        let less = START + 10 * SECOND..START + 10 * SECOND + 300_000;
        let mut flights: Vec<(Micros, Micros)> = Vec::new();
        calm.run(START + 20 * SECOND, |_, now| {
            let takes = rng.i64(200_000..300_000);
            flights.push((now, now + takes));
            let throttled = Verdict::Throttled {
                scope: FreezeScope::Credential,
                retry_after: None,
            };
            (
                takes,
                if less.contains(&now) {
                    throttled
                } else {
                    Verdict::Delivered
                },
            )
        });
        let widest = |from: Micros, to: Micros| {
            let at = |now: Micros| {
                flights
                    .iter()
                    .filter(|(start, end)| (*start..*end).contains(&now))
                    .count()
            };
            (from / 10_000..to / 10_000)
                .map(|step| at(step * 10_000))
                .max()
                .unwrap()
        };
        assert_eq!(widest(START + 9 * SECOND, START + 10 * SECOND), 8);
        let after = flights
            .iter()
            .map(|(start, _)| *start)
            .find(|at| *at > less.end + 300_000)
            .unwrap();
        let half = widest(after, after + 200_000);
        assert!((3..=5).contains(&half), "seed {seed}: {half} of 8");
        assert!(widest(START + 15 * SECOND, START + 16 * SECOND) >= 7, "it widens again");
    });
}

/// The latencies of healthy lanes, with or without a million jobs in another lane and a
/// destination that hangs: half of it median, then the 99th of a hundred.
fn latency(destinations: usize, trouble: bool) -> (Micros, Micros) {
    let mut settings = settings();
    settings.in_flight_max = 256;
    settings.payload_bytes_max = 64 << 20;
    // The workspace that hangs would take every request that it may have.
    let hung = ("slack:hung".to_owned(), None);
    settings.limits.slack.own.insert(hung, Rate::parse("100/s").unwrap());
    let mut rng = fastrand::Rng::with_seed(7);
    let mut arrivals = Vec::new();
    let mut number = 0;
    for destination in 0..destinations {
        // Three channels a workspace, each with a message every three seconds or so.
        let (credential, channel) = (format!("slack:team-{}", destination / 3), format!("C{destination}"));
        let mut at = START + 3 * SECOND;
        loop {
            at += rng.i64(0..6 * SECOND);
            if at > START + 33 * SECOND {
                break;
            }
            number += 1;
            arrivals.push((at, slack_of(&credential, &channel, number)));
        }
    }
    let came: HashMap<String, Micros> = arrivals.iter().map(|(at, job)| (job.event_id.clone(), *at)).collect();
    if trouble {
        for channel in 0..200 {
            // The hung one has as many channels as it may, on the same host.
            let job = slack_of("slack:hung", &format!("H{channel}"), 20_000_000 + channel);
            arrivals.push((START, job));
        }
    }
    let mut calm = Calm::new(settings, 7, arrivals);
    if trouble {
        calm.read(slack_of("slack:flood", "C-flood", 10_000_000));
        calm.flood(1_000_000);
    }
    calm.run(START + 40 * SECOND, |attempt, _| match &*attempt.jobs[0].credential {
        "slack:hung" => (10 * SECOND, Verdict::Ambiguous),
        "slack:flood" => (50_000, Verdict::Delivered),
        // The same job takes the same time, whatever else there is.
        _ => (
            20_000 + attempt.jobs[0].source_offset * 7_919 % 80_000,
            Verdict::Delivered,
        ),
    });
    let healthy = calm
        .delivered
        .iter()
        .filter_map(|(at, event)| Some(at - came.get(event)?));
    let mut healthy: Vec<Micros> = healthy.collect();
    assert_eq!(healthy.len(), number as usize, "all of them came");
    let of_flood = calm.starts_of(|lane| lane == "slack:flood/C-flood").len();
    assert!(
        !trouble || of_flood >= 35,
        "{of_flood} of the flood went at its own rate"
    );
    healthy.sort_unstable();
    (healthy[healthy.len() / 2], healthy[healthy.len() * 99 / 100])
}

#[test]
fn a_million_jobs_and_a_hung_destination_cost_other_lanes_nothing() {
    for destinations in [10, 1_000] {
        let (without, with) = (latency(destinations, false), latency(destinations, true));
        let ratios = (with.0 as f64 / without.0 as f64, with.1 as f64 / without.1 as f64);
        println!("{destinations} destinations: {without:?} µs without, {with:?} with: {ratios:.3?}");
        assert!(
            ratios.0 <= 1.1 && ratios.1 <= 1.1,
            "{destinations} destinations: {ratios:?}"
        );
    }
}
