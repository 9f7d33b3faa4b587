//! A seeded simulator with a virtual clock: three senders share four partitions of one Kafka.
//!
//! Jobs arrive at any time; requests take a while and are answered with anything a destination may
//! say; outcomes are acknowledged late; senders are killed at any step, are stopped, start again
//! and hand partitions to each other. After the storm everything drains, and then:
//!
//! - every job has a final outcome, and none is sent twice but for what was in flight (or not yet
//!   acknowledged) when a sender was killed, and for ambiguous answers;
//! - jobs of one key were sent in the order they were written;
//! - no sliding window holds more starts than its limit, over all senders, none starts within a
//!   freeze that an acknowledged answer has asked for, and no more are in flight than may be;
//! - nothing is left in memory.
//!
//! The seed of a schedule that fails is printed, and gives the same schedule again:
//! `LEADLANE_SEED=7 cargo test --lib simulation`.
//!
//! Mutations that were tried and are caught: see the end of the file.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::delivery::recall::Recalled;

const PARTITIONS: i32 = 4;
/// Outcomes of one partition, as Kafka has them.
type Log<T> = BTreeMap<i32, Vec<T>>;

/// Kafka, the destinations, and what the checks need to remember.
struct World {
    seed: u64,
    rng: fastrand::Rng,
    now: Micros,
    jobs: Log<(DeliveryJob, Micros)>,
    outcomes: Log<Outcome>,
    committed: BTreeMap<i32, (i64, i64)>,
    /// Starts by scope: the lane, and the workspace.
    starts: BTreeMap<String, Vec<Micros>>,
    /// Freezes that a successor can know: their outcome is in the log.
    frozen: BTreeMap<String, Micros>,
    /// Deliveries of a job.
    delivered: BTreeMap<String, usize>,
    /// The last job of each key that was delivered first.
    order: BTreeMap<String, i64>,
    /// Repeats that a crash, or an ambiguous answer, may cause.
    may_repeat: BTreeMap<String, usize>,
    storm: bool,
}

/// A sender process.
struct Process {
    dispatch: Dispatch,
    /// Where it reads next, by partition that is its own.
    reads: BTreeMap<i32, i64>,
    /// Answers on their way: when, and what was done by then.
    flying: Vec<(Micros, Attempt, Vec<Answer>)>,
    /// Outcomes on their way to Kafka.
    writing: Vec<(Micros, Settled)>,
    /// Partitions that it lets go of once nothing of them is in flight.
    leaving: BTreeSet<i32>,
}

fn new_process(seed: u64) -> Process {
    let mut settings = settings();
    settings.payload_bytes_max = 20_000;
    settings.step_aside = Duration::from_secs(100_000);
    settings.give_up_after = Duration::from_secs(200_000);
    Process {
        dispatch: Dispatch::new(settings, fastrand::Rng::with_seed(seed)),
        reads: BTreeMap::new(),
        flying: Vec::new(),
        writing: Vec::new(),
        leaving: BTreeSet::new(),
    }
}

/// A job of one of the destinations; a credential has one partition.
fn arrival(rng: &mut fastrand::Rng, number: i64) -> (i32, DeliveryJob) {
    let (partition, action, credential, destination) = match rng.u8(..8) {
        0 | 1 => (0, ActionType::SlackMessage, "slack:bot", "C1"),
        2 => (0, ActionType::SlackMessage, "slack:bot", "C2"),
        3 => (1, ActionType::SlackWebhook, "webhook:alerts", ""),
        4 => (2, ActionType::ClevertapProfile, "clevertap:acme", "id-1"),
        5 => (2, ActionType::ClevertapEvent, "clevertap:acme", "id-2"),
        6 => (2, ActionType::ClevertapEvent, "clevertap:acme", "id-3"),
        _ => (3, ActionType::SlackMessage, "slack:digests", "C3"),
    };
    let mut job = job(number, action, credential, destination);
    if credential == "slack:digests" {
        job.digest_after = Some(10_000);
        job.body = r#"{"text":"x"}"#.into();
    }
    (partition, job)
}

fn random_verdict(rng: &mut fastrand::Rng, attempt: &Attempt) -> Verdict {
    let scope = if rng.bool() { Scope::Lane } else { Scope::Credential };
    match rng.u8(..16) {
        0 => Verdict::Throttled {
            scope,
            retry_after: Some(Duration::from_secs(rng.u64(1..8))),
        },
        1 => Verdict::Retry,
        2 => Verdict::Ambiguous,
        3 => Verdict::Rejected(Reason::MessageRejected),
        4 if attempt.jobs.len() > 1 => Verdict::BatchRefused,
        5 if rng.bool() => Verdict::CredentialRefused,
        _ => Verdict::Delivered,
    }
}

impl World {
    fn new(seed: u64) -> Self {
        Self {
            seed,
            rng: fastrand::Rng::with_seed(seed),
            now: START,
            jobs: (0..PARTITIONS).map(|partition| (partition, Vec::new())).collect(),
            outcomes: (0..PARTITIONS).map(|partition| (partition, Vec::new())).collect(),
            committed: BTreeMap::new(),
            starts: BTreeMap::new(),
            frozen: BTreeMap::new(),
            delivered: BTreeMap::new(),
            order: BTreeMap::new(),
            may_repeat: BTreeMap::new(),
            storm: true,
        }
    }

    /// The new owner reads back what its predecessor left, and waits a spacing before it starts.
    fn assign(&mut self, process: &mut Process, partition: i32) {
        let (offset, from) = self.committed.get(&partition).copied().unwrap_or_default();
        let outcomes = &self.outcomes[&partition];
        let mut recalled = Recalled {
            committed: offset,
            outcomes_from: from,
            outcomes_end: outcomes.len() as i64,
            ..Recalled::default()
        };
        // Sent ids are known further back than the place that was left.
        for outcome in outcomes {
            recalled.take(outcome.clone(), self.now);
        }
        let from_place: BTreeSet<i64> = outcomes[from as usize..]
            .iter()
            .filter_map(|one| one.job_offset)
            .collect();
        let missed = recalled.settled.iter().find(|offset| !from_place.contains(offset));
        assert_eq!(
            missed, None,
            "seed {}: the place that was left hides an outcome",
            self.seed
        );
        process.dispatch.own(partition, self.now, recalled, self.now);
        process.reads.insert(partition, offset);
    }

    fn read_jobs(&mut self, process: &mut Process) {
        for (partition, next) in process
            .reads
            .iter_mut()
            .filter(|(one, _)| !process.leaving.contains(one))
        {
            for (job, written_at) in &self.jobs[partition][*next as usize..] {
                let at = JobAt {
                    partition: *partition,
                    offset: *next,
                };
                *next += 1;
                if process.dispatch.read(at, written_at / 1000) {
                    let host: Arc<str> = job.credential.as_str().into();
                    let payload = payload(job.clone(), *written_at);
                    process.dispatch.accept(at, payload, &host, false, self.now);
                }
            }
        }
    }

    fn serve_loads(&mut self, process: &mut Process) {
        for load in process.dispatch.loads() {
            let jobs = load.jobs.iter().map(|at| {
                let (job, written_at) = &self.jobs[&at.partition][at.offset as usize];
                (*at, Some(payload(job.clone(), *written_at)))
            });
            let mut settled = Vec::new();
            let lost = process.dispatch.loaded(load.id, jobs.collect(), self.now, &mut settled);
            assert!(lost.is_empty(), "seed {}", self.seed);
            self.write(process, settled);
        }
    }

    fn write(&mut self, process: &mut Process, settled: Vec<Settled>) {
        for settled in settled {
            let acked = self.now + self.rng.i64(1_000..200_000);
            process.writing.push((acked, settled));
        }
    }

    fn start(&mut self, process: &mut Process) {
        loop {
            let mut settled = Vec::new();
            let attempt = process.dispatch.next(self.now, &mut settled);
            self.write(process, settled);
            self.serve_loads(process);
            let Some(attempt) = attempt else { return };
            self.check_start(&attempt);
            let members = process.dispatch.attempts[&attempt.id].entries.clone();
            let verdict = if self.storm {
                random_verdict(&mut self.rng, &attempt)
            } else {
                Verdict::Delivered
            };
            let mut one = answer(verdict.clone());
            one.message_id = Some(format!("{}.0", attempt.id));
            let answers = vec![one; attempt.jobs.len()];
            // An ambiguous answer hides a delivery as often as not.
            let arrives = match verdict {
                Verdict::Delivered => true,
                Verdict::Ambiguous => self.rng.bool(),
                _ => false,
            };
            if arrives && attempt.request == Request::Send {
                for entry in members {
                    self.deliver(entry.at(), verdict == Verdict::Ambiguous);
                }
            }
            let takes = self.rng.i64(5_000..3 * SECOND);
            process.flying.push((self.now + takes, attempt, answers));
            assert!(process.flying.len() <= 16, "seed {}: too much in flight", self.seed);
        }
    }

    fn check_start(&mut self, attempt: &Attempt) {
        let (job, seed, now) = (&attempt.jobs[0], self.seed, self.now);
        for scope in [job.lane(), job.credential.clone()] {
            let frozen = self.frozen.get(&scope).is_some_and(|until| now < *until);
            assert!(!frozen, "seed {seed}: {scope} is frozen");
        }
        let mut check = |scope: String, period: Micros, max: usize| {
            let starts = self.starts.entry(scope.clone()).or_default();
            starts.push(now);
            let within = starts.iter().filter(|at| **at > now - period).count();
            assert!(within <= max, "seed {seed}: {within} starts of {scope} in a window");
        };
        if job.action.provider() == Provider::Slack {
            if attempt.request == Request::Send {
                check(job.lane(), SECOND, 1);
            }
            if job.action == ActionType::SlackMessage {
                check(job.credential.clone(), 60 * SECOND, 300);
            }
        }
    }

    fn deliver(&mut self, at: JobAt, ambiguous: bool) {
        let (job, _) = &self.jobs[&at.partition][at.offset as usize];
        let count = self.delivered.entry(job.job_id.clone()).or_default();
        *count += 1;
        if ambiguous {
            *self.may_repeat.entry(job.job_id.clone()).or_default() += 1;
        }
        // One that was refused just before a crash may be taken at the second try, after others.
        let exposed = self.may_repeat.contains_key(&job.job_id);
        if *count == 1 && !exposed {
            let key = format!("{}/{}", job.lane(), job.destination);
            let last = self.order.insert(key, at.offset).unwrap_or(-1);
            assert!(last < at.offset, "seed {}: {at:?} after {last}", self.seed);
        }
    }

    /// Answers and acknowledgements whose time has come.
    fn come_back(&mut self, process: &mut Process) {
        let now = self.now;
        let (acked, writing) = process.writing.drain(..).partition(|(at, _)| *at <= now);
        process.writing = writing;
        let mut acked: Vec<(Micros, Settled)> = acked;
        acked.sort_by_key(|(at, _)| *at);
        for (_, settled) in acked {
            self.append(process, settled);
        }
        let (came, flying) = process.flying.drain(..).partition(|(at, ..)| *at <= now);
        process.flying = flying;
        let came: Vec<(Micros, Attempt, Vec<Answer>)> = came;
        for (_, attempt, answers) in came {
            let settled = process.dispatch.answered(attempt.id, answers, now);
            self.write(process, settled);
        }
    }

    fn append(&mut self, process: &mut Process, settled: Settled) {
        let outcome = &settled.outcome;
        let throttled = outcome.result == OutcomeResult::Throttled;
        if let (Some(scope), Some(next)) = (outcome.scope.as_ref().filter(|_| throttled), outcome.next_at) {
            let id = if scope == "lane" {
                outcome.lane.clone()
            } else {
                settled.job.credential.clone()
            };
            let until = self.frozen.entry(id).or_default();
            *until = (*until).max((next - 1) * 1000);
        }
        let log = self.outcomes.get_mut(&settled.at.partition).expect("there are four");
        log.push(settled.outcome.clone());
        if settled.outcome.result.is_final() {
            process.dispatch.acked(settled.at, Some(log.len() as i64 - 1));
        }
    }

    fn commit(&mut self, process: &Process, partition: i32) {
        let Some(place) = process.dispatch.place(partition) else {
            return;
        };
        let before = self.committed.insert(partition, (place.offset, place.outcomes_from));
        assert!(
            before.is_none_or(|(offset, _)| offset <= place.offset),
            "seed {}: a commit went back",
            self.seed
        );
    }

    /// Lets go of partitions with nothing in flight or unwritten.
    fn let_go(&mut self, process: &mut Process) -> Vec<i32> {
        let done = |one: &i32| {
            !process.dispatch.is_busy(*one) && process.writing.iter().all(|(_, settled)| settled.at.partition != *one)
        };
        let gone: Vec<i32> = process.leaving.iter().copied().filter(done).collect();
        for partition in &gone {
            self.commit(process, *partition);
            process.dispatch.disown(*partition);
            process.leaving.remove(partition);
            process.reads.remove(partition);
        }
        gone
    }

    /// What was in flight, or not in the log, may have arrived and is sent again.
    fn kill(&mut self, process: &mut Process) {
        let flying = process
            .dispatch
            .attempts
            .values()
            .flat_map(|flight| &flight.entries)
            .map(Entry::at);
        let unwritten = process.writing.iter().map(|(_, settled)| settled.at);
        for at in flying.chain(unwritten) {
            let (job, _) = &self.jobs[&at.partition][at.offset as usize];
            *self.may_repeat.entry(job.job_id.clone()).or_default() += 1;
        }
        *process = new_process(self.rng.u64(..));
    }

    fn check_the_end(&self) {
        let seed = self.seed;
        for (partition, jobs) in &self.jobs {
            let finals = self.outcomes[partition]
                .iter()
                .filter(|outcome| outcome.result.is_final());
            let ended: BTreeSet<i64> = finals.filter_map(|outcome| outcome.job_offset).collect();
            for (offset, (job, _)) in jobs.iter().enumerate() {
                assert!(
                    ended.contains(&(offset as i64)),
                    "seed {seed}: job {offset} of {partition} is lost"
                );
                let delivered = self.delivered.get(&job.job_id).copied().unwrap_or(0);
                let allowed = 1 + self.may_repeat.get(&job.job_id).copied().unwrap_or(0);
                assert!(
                    delivered <= allowed,
                    "seed {seed}: job {offset} of {partition} was sent {delivered} times"
                );
            }
            assert_eq!(self.committed[partition].0, jobs.len() as i64, "seed {seed}");
        }
    }
}

/// Three processes of one group and who owns what; `None` while a partition is on its way.
struct Group {
    processes: Vec<Process>,
    owners: BTreeMap<i32, Option<usize>>,
}

impl Group {
    fn new(world: &mut World, seed: u64) -> Self {
        let mut group = Self {
            processes: (0..3).map(|number| new_process(seed + number)).collect(),
            owners: BTreeMap::new(),
        };
        (0..PARTITIONS).for_each(|partition| group.hand_to_another(world, partition));
        group
    }

    fn hand_to_another(&mut self, world: &mut World, partition: i32) {
        let heir = world.rng.usize(..3);
        world.assign(&mut self.processes[heir], partition);
        self.owners.insert(partition, Some(heir));
    }

    fn kill_one(&mut self, world: &mut World) {
        let victim = world.rng.usize(..3);
        world.kill(&mut self.processes[victim]);
        // What it was handing over goes on at once as well.
        let orphan = |(partition, owner): (&i32, &Option<usize>)| {
            let orphan = match owner {
                Some(owner) => *owner == victim,
                None => !self.processes.iter().any(|process| process.leaving.contains(partition)),
            };
            orphan.then_some(*partition)
        };
        let orphans: Vec<i32> = self.owners.iter().filter_map(orphan).collect();
        orphans
            .into_iter()
            .for_each(|partition| self.hand_to_another(world, partition));
    }

    fn rebalance_one(&mut self, world: &mut World) {
        let partition = world.rng.i32(0..PARTITIONS);
        if let Some(owner) = self.owners[&partition] {
            self.processes[owner].dispatch.retire(partition);
            self.processes[owner].leaving.insert(partition);
            self.owners.insert(partition, None);
        }
    }

    /// All that can happen now happens.
    fn turn(&mut self, world: &mut World) {
        let mut handed_over = Vec::new();
        for process in &mut self.processes {
            world.come_back(process);
            world.read_jobs(process);
            world.start(process);
            handed_over.extend(world.let_go(process));
            if world.rng.u8(..4) == 0 {
                let owned: Vec<i32> = process.reads.keys().copied().collect();
                owned.into_iter().for_each(|partition| world.commit(process, partition));
            }
        }
        handed_over
            .into_iter()
            .for_each(|partition| self.hand_to_another(world, partition));
    }

    fn idle(&self, world: &World) -> bool {
        let idle = |process: &Process| {
            let read = |(partition, next): (&i32, &i64)| *next as usize == world.jobs[partition].len();
            process.dispatch.waiting() == 0
                && process.flying.is_empty()
                && process.writing.is_empty()
                && process.reads.iter().all(read)
        };
        self.processes.iter().all(idle) && self.owners.values().all(Option::is_some)
    }

    /// When the next thing happens by itself.
    fn next(&self) -> Option<Micros> {
        let next = self.processes.iter().flat_map(|process| {
            let answers = process.flying.iter().map(|(at, ..)| *at);
            let acks = process.writing.iter().map(|(at, _)| *at);
            answers.chain(acks).chain([process.dispatch.wake_at()])
        });
        next.min()
    }
}

/// One schedule.
fn simulate(seed: u64) {
    let mut world = World::new(seed);
    let mut group = Group::new(&mut world, seed);
    let mut number = 0;
    let end = START + 120 * SECOND;
    loop {
        world.storm = world.now < end;
        if world.storm && number < 150 && world.rng.u8(..3) == 0 {
            for _ in 0..world.rng.usize(1..6) {
                number += 1;
                let (partition, job) = arrival(&mut world.rng, number);
                let now = world.now;
                world.jobs.get_mut(&partition).expect("there are four").push((job, now));
            }
        }
        if world.storm && world.rng.u16(..120) == 0 {
            group.kill_one(&mut world);
        }
        if world.storm && world.rng.u16(..60) == 0 {
            group.rebalance_one(&mut world);
        }
        group.turn(&mut world);
        if !world.storm && group.idle(&world) {
            break;
        }
        assert!(world.now < end + 3600 * SECOND, "seed {seed}: it never drains");
        // To the next thing that happens, or somewhere before.
        let step = if world.storm {
            world.rng.i64(1..SECOND)
        } else {
            20 * SECOND
        };
        world.now = group.next().unwrap_or(end).max(world.now + 1).min(world.now + step);
    }
    for process in &mut group.processes {
        let owned: Vec<i32> = process.reads.keys().copied().collect();
        owned.into_iter().for_each(|partition| world.commit(process, partition));
        assert_eq!(process.dispatch.bytes(), 0, "seed {seed}");
        assert!(process.dispatch.tried.is_empty(), "seed {seed}");
    }
    world.check_the_end();
}

#[test]
fn nothing_is_lost_repeated_out_of_order_or_early_under_any_schedule() {
    #[expect(clippy::disallowed_methods, reason = "a seed to look into is named by a variable")]
    let asked = std::env::var("LEADLANE_SEED").ok().map(|seed| seed.parse().unwrap());
    match asked {
        Some(seed) => simulate(seed),
        None => (0..1000).for_each(simulate),
    }
}
