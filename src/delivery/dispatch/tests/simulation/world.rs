//! Kafka and the destinations of a simulation, and what they have seen: the checks stand here.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::delivery::ledger::Places;
use crate::delivery::offsets::Place;
use crate::delivery::sending::Looked;

/// Outcomes or jobs of one partition, as Kafka has them.
pub(super) type Log<T> = BTreeMap<i32, Vec<T>>;

/// A request in flight, as the destination sees it.
struct Flight {
    credential: String,
    host: String,
    /// Lane and key of its jobs.
    keys: BTreeSet<String>,
    jobs: Vec<JobAt>,
    started: Micros,
}

/// What an answer asked for. A refused credential is frozen until it is probed, or until something
/// of it is taken.
#[derive(Debug, Clone)]
pub(super) struct Freeze {
    scope: String,
    until: Micros,
    refused: bool,
}

/// Until when which scopes are frozen, as a sender has to know.
#[derive(Debug, Default)]
pub(super) struct Frozen {
    throttled: BTreeMap<String, Micros>,
    refused: BTreeMap<String, Micros>,
}

impl Freeze {
    /// What was written before the clock was put forward reads as if it was asked for that much earlier.
    pub(super) fn jump(&mut self, by: Micros) {
        self.until -= by.max(0);
    }
}

impl Frozen {
    fn learn(&mut self, freeze: &Freeze) {
        let map = if freeze.refused {
            &mut self.refused
        } else {
            &mut self.throttled
        };
        let until = map.entry(freeze.scope.clone()).or_default();
        *until = (*until).max(freeze.until);
    }

    fn until(&self, scope: &str) -> Micros {
        let of = |map: &BTreeMap<String, Micros>| map.get(scope).copied().unwrap_or(0);
        of(&self.throttled).max(of(&self.refused))
    }
}

/// A job as a sender of this or the newer version takes it in.
fn payload_for(upgraded: bool, job: &DeliveryJob, written_at: Micros) -> Payload {
    match job.trigger == NEWER && !upgraded {
        true => super::super::held::of_newer(job, written_at),
        false => payload(job.clone(), written_at),
    }
}

pub(super) struct World {
    pub(super) rng: fastrand::Rng,
    pub(super) settings: Settings,
    /// The steady clock of all machines, and how far their wall clocks are ahead of it.
    pub(super) now: Micros,
    pub(super) ahead: Micros,
    pub(super) storm: bool,
    /// Processors are upgraded, and not all senders are.
    pub(super) mixed: bool,
    pub(super) jobs: Log<(DeliveryJob, Micros)>,
    pub(super) outcomes: Log<Outcome>,
    committed: BTreeMap<i32, (i64, i64)>,
    pub(super) rules: Arc<Rules<()>>,
    /// When the rule was stopped last, epoch milliseconds, and what is ordered of lanes.
    pub(super) stopped_at: Option<i64>,
    pub(super) orders: BTreeMap<&'static str, Control>,
    processes: u64,
    assignments: u64,
    revocations: u64,
    /// Partitions whose owner has handed them over.
    pub(super) handed_over: Vec<i32>,
    /// Jobs of which Kafka has a dead letter.
    letters: BTreeSet<JobAt>,
    /// Of senders that live, by sender and attempt.
    flights: BTreeMap<(u64, u64), Flight>,
    /// Starts by scope, those of the last period.
    starts: BTreeMap<String, VecDeque<Micros>>,
    /// Until when a scope is frozen, as any owner of it has to know.
    frozen: Frozen,
    first_start: BTreeMap<JobAt, Micros>,
    /// When the message started that counts for its rule's cap.
    counted: BTreeMap<JobAt, Micros>,
    /// Deliveries of a job.
    delivered: BTreeMap<String, usize>,
    /// The last job of each key that was delivered first.
    order: BTreeMap<String, i64>,
    /// Jobs whose request a crash cut off, or whose answer said too little: those may repeat.
    may_repeat: BTreeMap<String, usize>,
    /// Jobs with a final outcome that every owner to come has to know, and ids that were sent.
    ended: BTreeSet<JobAt>,
    sent: BTreeSet<String>,
    /// Partition and offset of jobs that have a final outcome, whoever knows of it.
    finals: BTreeSet<(i32, i64)>,
    /// And by the assignment that it was written under.
    finals_of: BTreeSet<(u64, JobAt)>,
    rejected: BTreeSet<JobAt>,
    pub(super) seen: Seen,
}

/// What came up in a schedule: a check of what never happens checks nothing.
#[derive(Debug, Default)]
pub(super) struct Seen(pub(super) BTreeMap<&'static str, usize>);

impl Seen {
    pub(super) fn add(&mut self, what: &'static str) {
        *self.0.entry(what).or_default() += 1;
    }
}

impl World {
    pub(super) fn new(seed: u64, settings: Settings) -> Self {
        Self {
            rng: fastrand::Rng::with_seed(seed),
            settings,
            now: START,
            ahead: 0,
            storm: true,
            mixed: seed % 3 == 1,
            jobs: (0..PARTITIONS).map(|partition| (partition, Vec::new())).collect(),
            outcomes: (0..PARTITIONS).map(|partition| (partition, Vec::new())).collect(),
            committed: BTreeMap::new(),
            rules: Arc::default(),
            stopped_at: None,
            orders: BTreeMap::new(),
            processes: 0,
            assignments: 0,
            revocations: 0,
            handed_over: Vec::new(),
            letters: BTreeSet::new(),
            flights: BTreeMap::new(),
            starts: BTreeMap::new(),
            frozen: Frozen::default(),
            first_start: BTreeMap::new(),
            counted: BTreeMap::new(),
            delivered: BTreeMap::new(),
            order: BTreeMap::new(),
            may_repeat: BTreeMap::new(),
            ended: BTreeSet::new(),
            sent: BTreeSet::new(),
            finals: BTreeSet::new(),
            finals_of: BTreeSet::new(),
            rejected: BTreeSet::new(),
            seen: Seen::default(),
        }
    }

    pub(super) fn wall(&self) -> Micros {
        self.now + self.ahead
    }

    /// The wall clocks are put right. After a jump forward nobody but who waits can know how long is to be waited
    /// still, so that of others nothing more is asked than what the outcomes say.
    pub(super) fn jump(&mut self, by: Micros) {
        self.ahead += by;
        let forward = by.max(0);
        let throttled = self.frozen.throttled.values_mut();
        let frozen = throttled.chain(self.frozen.refused.values_mut());
        frozen
            .chain(self.first_start.values_mut())
            .for_each(|at| *at -= forward);
        // What outcomes say of starts before a jump is a guess: two that took equally long count once after one backward.
        self.starts.retain(|scope, _| !scope.starts_with("max_rate"));
    }

    pub(super) fn new_process(&mut self) -> Process {
        self.processes += 1;
        let rng = fastrand::Rng::with_seed(self.rng.u64(..));
        let mut sending = Sending::new(self.settings.clone(), rng, self.now);
        sending.clocks(self.ahead, self.now);
        let nothing = sending.on(Event::Rules(Arc::clone(&self.rules)), self.now);
        assert!(nothing.is_empty());
        // Each that starts anew may be of the newer version.
        let upgraded = !self.mixed || self.processes > 3 && self.rng.bool();
        Process {
            number: self.processes,
            upgraded,
            sending,
            owns: BTreeMap::new(),
            reads: BTreeMap::new(),
            coming: Vec::new(),
            leaving: BTreeMap::new(),
            frozen: Frozen::default(),
            refused_at: BTreeMap::new(),
            telling: Vec::new(),
            heard_at: Micros::MIN,
            posted_at: BTreeMap::new(),
            stopped: None,
        }
    }

    pub(super) fn job(&self, at: JobAt) -> &(DeliveryJob, Micros) {
        &self.jobs[&at.partition][at.offset as usize]
    }

    pub(super) fn assign(&mut self, process: &mut Process, partition: i32) {
        self.assignments += 1;
        process.owns.insert(partition, self.assignments);
        process.sending.clocks(self.ahead, self.now);
        self.happens(process, Event::Assigned(vec![partition]), None);
    }

    /// The group takes a partition away, and waits.
    pub(super) fn revoke(&mut self, process: &mut Process, partition: i32) {
        self.revocations += 1;
        let until = self.now + micros(self.settings.hand_over_max);
        process.leaving.insert(self.revocations, (partition, until));
        let revoked = Event::Revoked {
            revocation: self.revocations,
            partitions: vec![partition],
            lost: false,
        };
        self.happens(process, revoked, None);
    }

    /// Others have these partitions already.
    pub(super) fn lose(&mut self, process: &mut Process, partitions: Vec<i32>) {
        for partition in &partitions {
            process.reads.remove(partition);
            process.owns.remove(partition);
        }
        self.revocations += 1;
        let revoked = Event::Revoked {
            revocation: self.revocations,
            partitions,
            lost: true,
        };
        self.happens(process, revoked, None);
    }

    /// A person orders something.
    pub(super) fn give(&mut self, order: Order, of: &'static str, when: i64) {
        match order.after(self.orders.get(of), "ana", when) {
            Some(control) => drop(self.orders.insert(of, control)),
            None => drop(self.orders.remove(of)),
        }
    }

    /// The rules topic as it is now.
    pub(super) fn publish(&mut self) {
        let mut log = RuleLog::default();
        if let Some(at) = self.stopped_at {
            log.cancel("stopped", Cancel { offset: 1, at });
        }
        for (offset, (of, control)) in (0..).zip(&self.orders) {
            let value = control.to_json().to_string();
            log.apply(offset, Some(key_of(of).as_bytes()), Some(value.as_bytes()));
        }
        self.rules = Arc::new(log.snapshot().by_id());
    }

    /// What is refused may be tried from now on.
    pub(super) fn forget_refusals(&mut self, process: &mut Process, of: &str) {
        let is_of = |scope: &str| of == ALL || of.starts_with(scope);
        self.frozen.refused.retain(|scope, _| !is_of(scope));
        process.frozen.refused.retain(|scope, _| !is_of(scope));
        process
            .telling
            .retain(|(_, freeze)| !(freeze.refused && is_of(&freeze.scope)));
    }

    pub(super) fn say_rules(&mut self, process: &mut Process) {
        let rules = Event::Rules(Arc::clone(&self.rules));
        self.happens(process, rules, None);
    }

    pub(super) fn turn(&mut self, process: &mut Process) {
        let effects = process.sending.turn(self.now);
        self.carry_out(process, effects, None);
    }

    pub(super) fn tick(&mut self, process: &mut Process) {
        let effects = process.sending.tick(self.now);
        self.carry_out(process, effects, None);
    }

    /// `freeze` is what the first outcome that follows must tell.
    fn happens(&mut self, process: &mut Process, event: Event, freeze: Option<Freeze>) {
        let effects = process.sending.on(event, self.now);
        self.carry_out(process, effects, freeze);
    }

    fn carry_out(&mut self, process: &mut Process, effects: Vec<Effect>, mut freeze: Option<Freeze>) {
        for effect in effects {
            match effect {
                Effect::Recall(recall) => {
                    let read = self.now + micros(recall.delay) + self.rng.i64(1_000..500_000);
                    process.coming.push((read, Coming::Recall(recall)));
                }
                Effect::Begin {
                    partition,
                    ownership,
                    from,
                } => self.begin(process, partition, ownership, from),
                Effect::Load(load) => {
                    // Jobs are read again in a few milliseconds, one load after the other.
                    let loads = process.coming.iter().filter(|(_, one)| matches!(one, Coming::Load(_)));
                    let last = loads.map(|(at, _)| *at).max().unwrap_or(0);
                    let there = last.max(self.now + self.rng.i64(500..50_000));
                    process.coming.push((there, Coming::Load(load)));
                }
                Effect::Send(attempt) => self.start(process, attempt),
                Effect::Write(writing) => self.write(process, writing),
                Effect::WriteLater(writing, after) => {
                    process.coming.push((self.now + micros(after), Coming::Again(writing)));
                }
                Effect::Commit(places) => {
                    if self.storm && self.rng.u8(..8) == 0 {
                        self.happens(process, Event::NotCommitted(places.into_keys().collect()), None);
                        continue;
                    }
                    places
                        .into_iter()
                        .for_each(|(partition, (place, _))| self.commit(partition, place));
                }
                Effect::HandOver { revocation, places } => self.hand_over(process, revocation, places),
                Effect::Look(looks) => {
                    // All of it is there.
                    let looked = looks.into_iter().map(|looking| Looked {
                        looking,
                        is_gone: false,
                    });
                    self.happens(process, Event::Looked(looked.collect()), None);
                }
                Effect::Say(Notice::Settled(settled)) => {
                    process.telling.extend(freeze.take().map(|freeze| (settled, freeze)));
                }
                Effect::Say(Notice::Refused(_) | Notice::NotRecalled { .. }) => {}
                Effect::Say(notice) => panic!("conservation: nothing is gone, and it says {notice:?}"),
                // Nothing is its own any more; the schedule says what it is given next.
                Effect::Rejoin => assert!(process.sending.left(), "conservation: {effect:?} without need"),
                Effect::Pause(_) | Effect::Leave => panic!("conservation: {effect:?} without need"),
            }
        }
    }

    /// A dead letter or an outcome goes to Kafka.
    fn write(&mut self, process: &mut Process, writing: Writing) {
        let partition = writing.posting.at.partition;
        let owned = process.owns.get(&partition).copied();
        let owned = owned.expect("hand-over: an outcome is written of a partition that is another's");
        if let Some(attempt) = writing.posting.attempt {
            process.posted_at.entry(attempt).or_insert(self.now);
        }
        let acked = self.now + self.rng.i64(1_000..200_000);
        process.coming.push((acked, Coming::Write(writing, owned)));
    }

    /// Records that were read before the partition was begun come first.
    fn begin(&mut self, process: &mut Process, partition: i32, ownership: Ownership, from: i64) {
        process.reads.insert(partition, (ownership, from));
        if from < self.jobs[&partition].len() as i64 {
            let late = self.record(
                process,
                JobAt {
                    partition,
                    offset: from,
                },
                Ownership(ownership.0 - 1),
            );
            self.happens(process, Event::Job(late), None);
        }
    }

    fn record(&self, process: &Process, at: JobAt, ownership: Ownership) -> JobRecord {
        let (job, written_at) = self.job(at);
        let payload = payload_for(process.upgraded, job, *written_at);
        JobRecord {
            at,
            ownership,
            written_at: written_at / 1000,
            sum: 0,
            job_id: None,
            cause: match job.trigger == TRIED {
                true => Cause::Test,
                false => Cause::Match,
            },
            content: match payload.newer {
                Some(_) => Content::Newer(payload),
                None => Content::Job(payload, host(job).into()),
            },
        }
    }

    pub(super) fn read_jobs(&mut self, process: &mut Process) {
        let reads: Vec<(i32, Ownership, i64)> = (process.reads.iter())
            .map(|(partition, (ownership, next))| (*partition, *ownership, *next))
            .collect();
        for (partition, ownership, next) in reads {
            let end = self.jobs[&partition].len() as i64;
            for offset in next..end {
                let record = self.record(process, JobAt { partition, offset }, ownership);
                if matches!(record.content, Content::Newer(_)) {
                    self.seen.add("held");
                }
                self.happens(process, Event::Job(record), None);
            }
            process.reads.insert(partition, (ownership, end));
        }
    }

    /// What a predecessor left.
    fn past(&mut self, partition: i32) -> Past {
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
            let job = outcome
                .job_offset
                .map(|offset| &self.jobs[&partition][offset as usize].0);
            match job.is_some_and(|job| job.trigger == TRIED) {
                true => recalled.take_test(outcome.clone(), self.wall()),
                false => recalled.take(outcome.clone(), self.wall()),
            }
        }
        let from_place: BTreeSet<i64> = outcomes[from as usize..]
            .iter()
            .filter_map(|one| one.job_offset)
            .collect();
        let missed = recalled.settled.iter().find(|offset| !from_place.contains(offset));
        assert_eq!(missed, None, "recall: the place that was left hides an outcome");
        self.check_freezes(partition, &recalled);
        Past {
            recalled,
            trail: Trail::default(),
            anew: None,
            end: self.jobs[&partition].len() as i64,
            passed: 0,
            outcomes_anew: false,
        }
    }

    /// What the outcomes say of freezes is what the destinations asked for.
    fn check_freezes(&self, partition: i32, recalled: &Recalled) {
        let jobs = &self.jobs[&partition];
        let is_here = |scope: &str| {
            jobs.iter()
                .any(|(job, _)| job.credential == scope || job.lane() == scope)
        };
        for (scope, until) in self.frozen.throttled.iter().filter(|(scope, _)| is_here(scope)) {
            let kept = recalled.frozen.get(scope).map_or(0, |frozen| frozen.until);
            assert!(
                kept - self.ahead >= *until,
                "recall: the outcomes free {scope} before {until}"
            );
        }
    }

    fn start(&mut self, process: &mut Process, attempt: Attempt) {
        let members = process.sending.dispatch.attempts[&attempt.id].entries.clone();
        let members: Vec<JobAt> = members.iter().map(Entry::at).collect();
        self.check_start(process, &attempt, &members);
        let answers = self.answers(&attempt, &members);
        self.arrive(&attempt, &members, &answers);
        let takes = self.rng.i64(5_000..3 * SECOND);
        process
            .coming
            .push((self.now + takes, Coming::Answer(attempt, answers)));
    }

    fn answers(&mut self, attempt: &Attempt, members: &[JobAt]) -> Vec<Answer> {
        let rng = &mut self.rng;
        let mut verdicts = vec![Verdict::Delivered; attempt.jobs.len()];
        let bad = |at: &JobAt| self.jobs[&at.partition][at.offset as usize].0.body == BAD;
        let records = attempt.jobs[0].action.provider() == Provider::Clevertap;
        if records && members.iter().any(bad) {
            verdicts.fill(Verdict::BatchRefused);
        } else if self.storm && attempt.jobs.len() > 1 && rng.u8(..4) == 0 {
            // An account takes what it takes of an identity in order.
            let mut failed = BTreeSet::new();
            for (verdict, job) in verdicts.iter_mut().zip(&attempt.jobs) {
                *verdict = match rng.u8(..6) {
                    0 => Verdict::Retry,
                    _ if failed.contains(&job.destination) => Verdict::Retry,
                    1 => Verdict::Rejected(Reason::MessageRejected),
                    _ => Verdict::Delivered,
                };
                if *verdict == Verdict::Retry {
                    failed.insert(&job.destination);
                }
            }
        } else if self.storm {
            verdicts.fill(random_verdict(rng, attempt));
        }
        let answers = verdicts.into_iter().map(|verdict| {
            let mut one = answer(verdict);
            one.message_id = Some(format!("{}.0", attempt.id));
            one
        });
        answers.collect()
    }

    /// What the destination takes. An ambiguous answer hides a delivery as often as not.
    fn arrive(&mut self, attempt: &Attempt, members: &[JobAt], answers: &[Answer]) {
        if attempt.request != Request::Send {
            return;
        }
        let hidden = self.rng.bool();
        for (number, at) in members.iter().enumerate() {
            match answers.get(number).unwrap_or(&answers[0]).verdict {
                Verdict::Delivered => self.deliver(*at, false),
                Verdict::Ambiguous if hidden => self.deliver(*at, true),
                Verdict::Rejected(_) => drop(self.rejected.insert(*at)),
                // A record alone that is refused is at fault itself.
                Verdict::BatchRefused if members.len() == 1 => drop(self.rejected.insert(*at)),
                _ => {}
            }
        }
    }

    fn check_start(&mut self, process: &Process, attempt: &Attempt, members: &[JobAt]) {
        let now = self.now;
        let job = self.job(members[0]).0.clone();
        if !process.upgraded {
            self.check_held(process, &job);
        }
        let leaves = |at: &JobAt| {
            process
                .leaving
                .values()
                .any(|(partition, _)| *partition == at.partition)
        };
        assert!(
            !members.iter().any(leaves),
            "hand-over: a job of a partition that goes away is started"
        );
        assert!(
            members.iter().all(|at| process.owns.contains_key(&at.partition)),
            "hand-over: a job of another's partition is started"
        );
        assert!(
            self.silent_for(process) <= SECOND,
            "silence: a request starts while Kafka is silent"
        );
        for scope in [ALL, &job.lane(), &job.credential] {
            let paused = self.orders.get(scope).is_some_and(|control| control.paused);
            assert!(!paused, "paused: {scope} is, and {} goes", job.job_id);
        }
        assert_eq!(attempt.is_test, job.trigger == TRIED, "test: {}", job.job_id);
        assert!(!attempt.is_test || members.len() == 1, "test: it goes alone");
        for scope in [job.lane(), job.credential.clone()] {
            let (of_world, own) = (self.frozen.until(&scope), process.frozen.until(&scope));
            assert!(now >= of_world, "freeze of a predecessor: {scope} until {of_world}");
            assert!(now >= own, "freeze: {scope} until {own}, and it is {now}");
        }
        if job.action.provider() == Provider::Slack {
            if attempt.request == Request::Send {
                let rate = self
                    .settings
                    .limits
                    .slack
                    .own
                    .get(&(job.credential.clone(), Some(job.destination.clone())));
                self.check_window(job.lane(), rate.copied().unwrap_or(Rate::per_second(1)));
            }
            if job.action == ActionType::SlackMessage {
                let rate = self.settings.limits.slack.own.get(&(job.credential.clone(), None));
                self.check_window(
                    format!("workspace {}", job.credential),
                    rate.copied().unwrap_or(self.settings.limits.slack.workspace_rate),
                );
            }
        }
        self.check_in_flight(process, attempt, members);
        if attempt.request == Request::Send {
            self.check_members(members);
        } else {
            self.seen.add("request before the message");
        }
    }

    /// A job that this version can't read holds its credential.
    fn check_held(&self, process: &Process, going: &DeliveryJob) {
        for (partition, (_, next)) in &process.reads {
            let read = self.jobs[partition][..*next as usize].iter().zip(0..);
            let mut of_newer = read.filter(|((job, _), _)| job.trigger == NEWER && job.credential == going.credential);
            let held = of_newer.find(|(_, offset)| !self.finals.contains(&(*partition, *offset)));
            assert!(
                held.is_none(),
                "held: {} goes, though {held:?} can't be read",
                going.job_id
            );
        }
    }

    /// No window of a period holds more starts than the rate says.
    fn check_window(&mut self, scope: String, rate: Rate) {
        let (period, max) = match rate.to_string().split_once('/') {
            Some((count, "s")) => (SECOND, count.parse::<usize>().unwrap()),
            Some((count, "m")) => (60 * SECOND, count.parse().unwrap()),
            other => panic!("{other:?} is no rate of the simulation"),
        };
        let starts = self.starts.entry(scope.clone()).or_default();
        starts.push_back(self.now);
        while starts.front().is_some_and(|at| *at <= self.now - period) {
            starts.pop_front();
        }
        assert!(
            starts.len() <= max,
            "limit: {max} of {scope} in a window, and {starts:?}"
        );
    }

    fn check_in_flight(&mut self, process: &Process, attempt: &Attempt, members: &[JobAt]) {
        let (job, settings) = (self.job(members[0]).0.clone(), &self.settings);
        let key = |at: &JobAt| {
            let (job, _) = self.job(*at);
            match job.action.provider() {
                Provider::Slack => job.lane(),
                Provider::Clevertap => format!("{}/{}", job.lane(), job.destination),
            }
        };
        let flight = Flight {
            credential: job.credential.clone(),
            host: host(&job).to_owned(),
            keys: members.iter().map(key).collect(),
            jobs: members.to_vec(),
            started: self.now,
        };
        let all = |of: &dyn Fn(&Flight) -> bool| self.flights.values().filter(|other| of(other)).count();
        let together = all(&|other| !other.keys.is_disjoint(&flight.keys));
        assert_eq!(
            together, 0,
            "order: two requests of one key in flight, {:?}",
            flight.keys
        );
        let quarter = settings.in_flight_max / 4;
        let allowed = settings
            .limits
            .clevertap
            .concurrency
            .get(&flight.credential)
            .map_or(quarter, |one| (*one).min(quarter));
        let of_credential = all(&|other| other.credential == flight.credential);
        assert!(
            of_credential < allowed,
            "in flight: more than {allowed} of {}",
            flight.credential
        );
        let mine = self.flights.iter().filter(|((number, _), _)| *number == process.number);
        let of_host = mine.clone().filter(|(_, other)| other.host == flight.host).count();
        assert!(
            of_host < settings.in_flight_max / 2,
            "in flight: a host has more than half"
        );
        let unheard = process.unheard().len();
        assert!(mine.count() + unheard < settings.in_flight_max, "in flight: too much");
        self.flights.insert((process.number, attempt.id), flight);
    }

    /// What a message or batch is made of.
    fn check_members(&mut self, members: &[JobAt]) {
        let now = self.now;
        let first = self.job(members[0]).0.clone();
        let first_time = !self.first_start.contains_key(&members[0]);
        let counted = self.counted.contains_key(&members[0]) || self.was_tried(members[0]);
        for at in members {
            let job = &self.job(*at).0;
            assert_eq!(job.lane(), first.lane(), "one request has one lane");
            assert!(!self.ended.contains(at), "repeat: {at:?} has its final outcome");
            assert!(!self.sent.contains(&job.job_id), "dedup: {at:?} was sent before");
            let is_late = |expires: i64| job.trigger != TRIED && expires * 1000 <= self.now + self.ahead;
            assert!(!job.expires_at.is_some_and(is_late), "expiry: {at:?} is late");
            let mark = self.rules.cancelled.get(&*job.rule_id).map_or(0, |mark| mark.offset);
            assert!(
                job.rule_version >= mark || job.trigger == TRIED,
                "cancelled: {at:?} is sent"
            );
            self.first_start.entry(*at).or_insert(now);
            // Whatever a retry is made of was counted with the message that failed.
            self.counted.entry(*at).or_insert(now);
        }
        if members.len() > 1 && first.action.provider() == Provider::Slack {
            assert!(
                members.iter().all(|at| self.job(*at).0.rule_id == first.rule_id),
                "digest: of two rules"
            );
            let lane = first.lane();
            // What waited when these were taken: some of it may have ended since, unsent.
            let jobs = self.jobs[&members[0].partition].iter().enumerate();
            let waiting = jobs.filter(|(offset, (job, _))| {
                let offset = *offset as i64;
                let at = JobAt { offset, ..members[0] };
                job.lane() == lane && (offset >= members[0].offset || !self.ended.contains(&at))
            });
            let wait = waiting.count() as Micros * 1_020_000;
            let busy = first.digest_after.is_some_and(|after| wait > after * 1000);
            assert!(
                busy || first.max_rate.is_some() || !first_time,
                "digest: there is no pressure"
            );
            self.seen.add("digest");
        } else if members.len() > 1 {
            assert!(
                members.len() <= self.settings.limits.clevertap.batch.max,
                "batch: too many records"
            );
            self.seen.add("batch");
        }
        if let Some(rate) = first.max_rate.filter(|_| !counted) {
            let rate = Rate::parse(&rate).unwrap();
            self.check_window(format!("max_rate of {}", first.rule_id), rate);
        }
    }

    /// An outcome tells of an attempt.
    fn was_tried(&self, at: JobAt) -> bool {
        let mut outcomes = self.outcomes[&at.partition].iter();
        outcomes.any(|outcome| outcome.job_offset == Some(at.offset) && outcome.attempt > 0)
    }

    fn deliver(&mut self, at: JobAt, ambiguous: bool) {
        let (job, now) = (self.job(at).0.clone(), self.now);
        let count = self.delivered.entry(job.job_id.clone()).or_default();
        *count += 1;
        if ambiguous && job.on_ambiguous == OnAmbiguous::Retry {
            *self.may_repeat.entry(job.job_id.clone()).or_default() += 1;
        }
        // One that was cut off or hidden may be taken at its second try, after others, and one
        // that steps aside is passed.
        let exposed = self.may_repeat.contains_key(&job.job_id);
        let aside = now - self.first_start[&at] >= micros(self.settings.step_aside);
        if *count == 1 && !exposed && !aside && job.trigger != TRIED {
            let key = format!("{}/{}", job.lane(), job.destination);
            // What a digest merges passes what it doesn't.
            let merges = job.credential == "slack:digests";
            let key = if merges { format!("{key} {}", job.rule_id) } else { key };
            let last = self.order.insert(key, at.offset).unwrap_or(-1);
            assert!(last < at.offset, "order: {at:?} after {last}");
        }
    }

    /// How long Kafka has been silent while outcomes of attempts wait.
    fn silent_for(&self, process: &Process) -> Micros {
        let posted = process.unheard();
        let posted = posted.iter().map(|attempt| process.posted_at[attempt]).min();
        posted.map_or(0, |posted| self.now - posted.max(process.heard_at))
    }

    /// Answers, acknowledgements and payloads whose time has come.
    pub(super) fn come_back(&mut self, process: &mut Process) {
        let now = self.now;
        let (mut came, coming): (Vec<_>, Vec<_>) = process.coming.drain(..).partition(|(at, _)| *at <= now);
        process.coming = coming;
        came.sort_by_key(|(at, _)| *at);
        let mut came = VecDeque::from(came);
        while let Some((_, one)) = came.pop_front() {
            match one {
                Coming::Recall(Recall {
                    partition, ownership, ..
                }) => {
                    let past = if self.storm && self.rng.u8(..6) == 0 {
                        Err(NotRecalled::Failed("the broker is away".to_owned()))
                    } else {
                        Ok(Box::new(self.past(partition)))
                    };
                    let recalled = Event::Recalled {
                        partition,
                        ownership,
                        past,
                    };
                    self.happens(process, recalled, None);
                }
                Coming::Load(load) => {
                    let jobs = load.jobs.iter().map(|at| {
                        let (job, written_at) = self.job(*at);
                        (*at, Some(payload_for(process.upgraded, job, *written_at)))
                    });
                    let loaded = Event::Loaded {
                        load: load.id,
                        jobs: jobs.collect(),
                    };
                    self.happens(process, loaded, None);
                }
                Coming::Answer(attempt, answers) => {
                    let flight = self.flights.remove(&(process.number, attempt.id));
                    if flight.is_none() && answers[0].verdict == Verdict::CredentialRefused {
                        // Of a former ownership: it freezes here, and nobody is told.
                        process.refused_at.insert(attempt.jobs[0].credential.clone(), now);
                    }
                    let verdict = &answers[0].verdict;
                    let freeze = flight.and_then(|flight| learn_freeze(process, &flight, &attempt, verdict, now));
                    let answered = Event::Answered {
                        attempt: attempt.id,
                        answers,
                    };
                    self.happens(process, answered, freeze);
                }
                Coming::Write(writing, owned) => {
                    let ack = self.written(process, &writing, owned);
                    if ack != Ack::Failed {
                        process.heard_at = now;
                    }
                    self.happens(process, Event::Written(writing, ack), None);
                }
                Coming::Again(writing) => self.happens(process, Event::Again(writing), None),
            }
        }
    }

    /// Kafka's word on what is written.
    fn written(&mut self, process: &mut Process, writing: &Writing, owned: u64) -> Ack {
        match self.rng.u8(..24) {
            0 if self.storm => return Ack::Failed,
            1 if self.storm => return Ack::TooLarge,
            _ => {}
        }
        let at = writing.posting.at;
        match &writing.what {
            What::DeadLetter(..) => {
                self.letters.insert(at);
                Ack::Taken(0)
            }
            What::Outcome(settled, _) => Ack::Taken(self.append(process, settled, owned)),
        }
    }

    /// Kafka has an outcome.
    fn append(&mut self, process: &mut Process, settled: &Arc<Settled>, owned: u64) -> i64 {
        let (at, outcome) = (settled.at, &settled.outcome);
        assert!(
            settled.dead.is_none() || self.letters.contains(&at),
            "conservation: {at:?} ends without its dead letter"
        );
        let is_test = settled.job.trigger == TRIED;
        assert_eq!(settled.is_test, is_test, "test: {at:?}");
        assert!(!is_test || settled.dead.is_none(), "test: {at:?} has a dead letter");
        if is_test && outcome.result.is_final() {
            self.seen.add("test");
        }
        let log = self.outcomes.get_mut(&at.partition).expect("there are four");
        log.push(outcome.clone());
        let offset = log.len() as i64 - 1;
        // What was on its way when its sender lost the partition comes too late for the owner, who
        // has read back what there was.
        let known = process.owns.get(&at.partition) == Some(&owned);
        let told = process.telling.iter().position(|(one, _)| Arc::ptr_eq(one, settled));
        if let Some((_, freeze)) = told.map(|told| process.telling.remove(told)).filter(|_| known) {
            self.frozen.learn(&freeze);
        }
        let sent = matches!(outcome.result, OutcomeResult::Sent | OutcomeResult::Digested);
        if sent {
            self.frozen.refused.remove(&settled.job.credential);
        }
        if outcome.result.is_final() {
            self.finals.insert((at.partition, at.offset));
            let once = self.finals_of.insert((owned, at));
            assert!(once, "conservation: one owner ended {at:?} twice");
        }
        if outcome.result.is_final() && known {
            self.ended.insert(at);
            if sent {
                self.sent.insert(outcome.job_id.clone());
            }
        }
        offset
    }

    fn commit(&mut self, partition: i32, place: Place) {
        let before = self.committed.insert(partition, (place.offset, place.outcomes_from));
        assert!(
            before.is_none_or(|(offset, _)| offset <= place.offset),
            "commit: it went back"
        );
        let since = before.map_or(0, |(offset, _)| offset);
        let open = (since..place.offset).find(|offset| !self.finals.contains(&(partition, *offset)));
        assert_eq!(open, None, "commit: {} is beyond an unsettled job", place.offset);
    }

    /// A sender lets go of a partition: with nothing in flight or unwritten, or late. Where it was in time, what it knows
    /// of freezes the next one has to know.
    fn hand_over(&mut self, process: &mut Process, revocation: u64, places: Places) {
        // Of what was lost nobody waits for a place.
        let Some((partition, until)) = process.leaving.remove(&revocation) else {
            return;
        };
        let owned = process.owns.get(&partition).copied();
        let flies = self.flights.iter().any(|((number, _), flight)| {
            *number == process.number && flight.jobs.iter().any(|at| at.partition == partition)
        });
        let is_of_it = |writing: &Writing| writing.posting.at.partition == partition;
        let unwritten = process.coming.iter().any(|(_, one)| match one {
            Coming::Write(writing, under) => is_of_it(writing) && Some(*under) == owned,
            // Whether it is of this ownership isn't known.
            _ => false,
        });
        if self.now >= until {
            self.seen.add("hand-over in need");
            self.cut_off(process, |one| one == partition);
        } else {
            self.seen.add("hand-over");
            assert!(
                !flies && !unwritten,
                "hand-over: something of {partition} is in flight or unwritten"
            );
            for (scope, until) in &process.frozen.throttled {
                let jobs = &mut self.jobs[&partition].iter();
                // An outcome of a former ownership that Kafka didn't take is never written.
                let is_told = !process.telling.iter().any(|(_, freeze)| freeze.scope == *scope);
                if is_told && jobs.any(|(job, _)| job.lane() == *scope || job.credential == *scope) {
                    self.frozen.learn(&Freeze {
                        scope: scope.clone(),
                        until: *until - self.ahead.max(0),
                        refused: false,
                    });
                }
            }
        }
        for (partition, (place, _)) in places {
            self.commit(partition, place);
        }
        process.reads.remove(&partition);
        process.owns.remove(&partition);
        self.handed_over.push(partition);
    }

    /// What of these partitions was in flight, or not in the log, may have arrived and is sent again.
    pub(super) fn cut_off(&mut self, process: &Process, of: impl Fn(i32) -> bool) {
        let flights = process.sending.dispatch.attempts.values();
        let flying = flights.flat_map(|flight| &flight.entries).map(Entry::at);
        let writings = process.coming.iter().filter_map(|(_, coming)| coming.writing());
        let unwritten = writings.map(|writing| writing.posting.at);
        for at in flying.chain(unwritten).filter(|at| of(at.partition)) {
            let (job_id, rule_id) = (self.job(at).0.job_id.clone(), self.job(at).0.rule_id.clone());
            *self.may_repeat.entry(job_id).or_default() += 1;
            // A message counts by its first attempt. Without an outcome of that nobody to come can know of it.
            let outcomes = &mut self.outcomes[&at.partition].iter();
            if outcomes.any(|outcome| outcome.job_offset == Some(at.offset) && outcome.attempt == 1) {
                continue;
            }
            let started = self.counted.remove(&at);
            if let Some(starts) = self.starts.get_mut(&format!("max_rate of {rule_id}")) {
                starts.retain(|start| Some(*start) != started);
            }
        }
        let cut = |((number, _), flight): &((u64, u64), Flight)| {
            *number == process.number && flight.jobs.iter().all(|at| of(at.partition))
        };
        let all = std::mem::take(&mut self.flights);
        self.flights = all.into_iter().filter(|one| !cut(one)).collect();
    }

    pub(super) fn check_the_end(&self) {
        for (partition, jobs) in &self.jobs {
            let mut ends: BTreeMap<i64, Vec<&Outcome>> = BTreeMap::new();
            for outcome in self.outcomes[partition]
                .iter()
                .filter(|outcome| outcome.result.is_final())
            {
                ends.entry(outcome.job_offset.expect("it has a job"))
                    .or_default()
                    .push(outcome);
            }
            for (offset, (job, _)) in jobs.iter().enumerate() {
                let at = JobAt {
                    partition: *partition,
                    offset: offset as i64,
                };
                let delivered = self.delivered.get(&job.job_id).copied().unwrap_or(0);
                let exposed = self.may_repeat.get(&job.job_id).copied().unwrap_or(0);
                let Some(ends) = ends.get(&at.offset) else {
                    panic!("conservation: {at:?} is lost");
                };
                assert!(
                    ends.len() <= 1 + exposed,
                    "conservation: {at:?} has {} final outcomes",
                    ends.len()
                );
                assert!(delivered <= 1 + exposed, "repeat: {at:?} was sent {delivered} times");
                for end in ends {
                    self.check_an_end(at, job, end, delivered);
                }
            }
            assert_eq!(
                self.committed[partition].0,
                jobs.len() as i64,
                "commit: all of it is settled"
            );
        }
    }

    /// A final outcome says what happened.
    fn check_an_end(&self, at: JobAt, job: &DeliveryJob, end: &Outcome, delivered: usize) {
        assert_eq!(end.job_id, job.job_id);
        let is_no_end = matches!(
            end.result,
            OutcomeResult::Duplicate | OutcomeResult::Digested | OutcomeResult::Cancelled
        );
        assert!(
            job.trigger != TRIED || !is_no_end,
            "test: {at:?} is {}",
            end.result.as_str()
        );
        let dead_of = |reason: Reason| end.reason.as_deref() == Some(reason.as_str());
        match end.result {
            OutcomeResult::Sent | OutcomeResult::Digested | OutcomeResult::Duplicate => {
                assert!(
                    delivered > 0,
                    "conservation: {at:?} is {} and never came",
                    end.result.as_str()
                );
                assert_ne!(job.body, BAD, "batch: a bad record is called sent");
            }
            OutcomeResult::Dead if dead_of(Reason::MessageRejected) => {
                assert!(
                    self.rejected.contains(&at),
                    "batch: {at:?} is rejected for another's fault"
                );
            }
            OutcomeResult::Dead if dead_of(Reason::GaveUp) && job.on_ambiguous == OnAmbiguous::Retry => {
                let tried_for = end.ended_at * 1000 - self.first_start[&at];
                // After a jump there are two opinions of how long that was.
                assert!(
                    self.ahead != 0 || tried_for >= micros(self.settings.give_up_after) - SECOND,
                    "given up: {at:?} too soon"
                );
            }
            OutcomeResult::Expired if job.trigger == TRIED => {
                assert!(end.words.is_some(), "test: {at:?} doesn't say why");
            }
            OutcomeResult::Expired => {
                assert!(
                    job.expires_at.is_some_and(|expires| expires <= end.ended_at),
                    "expiry: {at:?} too soon"
                );
            }
            OutcomeResult::Cancelled => assert!(self.rules.cancelled.contains_key(&*job.rule_id), "cancelled: {at:?}"),
            _ => {}
        }
    }
}

/// What an answer freezes, by the destination's word; the process has to know from now on, and
/// whoever follows once Kafka has the outcome.
fn learn_freeze(
    process: &mut Process,
    flight: &Flight,
    attempt: &Attempt,
    verdict: &Verdict,
    now: Micros,
) -> Option<Freeze> {
    let job = &attempt.jobs[0];
    let credential = job.credential.clone();
    let freeze = match verdict {
        Verdict::Throttled {
            scope,
            retry_after: Some(delay),
        } => {
            // What comes before a message has no lane of its own.
            let of_lane = *scope == FreezeScope::Lane && attempt.request == Request::Send;
            Freeze {
                scope: if of_lane { job.lane() } else { credential },
                until: now + micros(*delay),
                refused: false,
            }
        }
        Verdict::CredentialRefused if matches!(attempt.request, Request::Send | Request::Probe) => {
            let refused_at = process.refused_at.entry(credential.clone()).or_insert(Micros::MIN);
            if flight.started <= *refused_at {
                return None;
            }
            *refused_at = now;
            Freeze {
                scope: credential,
                until: now + 30 * SECOND,
                refused: true,
            }
        }
        Verdict::Delivered => {
            process.frozen.refused.remove(&credential);
            return None;
        }
        _ => return None,
    };
    process.frozen.learn(&freeze);
    Some(freeze)
}
