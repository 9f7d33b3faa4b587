//! Sending: what follows each event of a sender. Events come in, effects go out; the sender's loop carries them out, and
//! the simulation does so with a Kafka and destinations of its own.
//!
//! An event is what the group, a request, a reader or Kafka's acknowledgement says. An effect is a request to make, a
//! record to write, a partition to read, a place to commit. [`Sending::on`] takes one event; [`Sending::turn`] starts
//! what may start now and hands over partitions that are done; [`Sending::tick`] commits.
//!
//! The [`Dispatch`] decides which job goes when, and what its answer makes of it. Its [`Ledger`](super::ledger::Ledger)
//! knows what is ours, what is settled and what Kafka has. What stands here joins the two: a partition is sent from once its
//! outcomes are read back; a dead letter is written before its outcome; a job is settled once Kafka has its final
//! outcome; nothing starts while the group or Kafka is silent; a partition is handed over with its place once nothing
//! of it is in flight or unwritten, or its time is up.
//!
//! Nothing here does I/O or reads a clock: `now` comes with each call, in microseconds of the steady clock.

use std::sync::Arc;
use std::time::Duration;

use super::dispatch::{Answer, Attempt, Dispatch, Load, Payload, Settings, Settled, micros};
use super::lane::{Cause, JobAt};
use super::ledger::{Ownership, Places, Read};
use super::limit::Micros;
use super::recall::tag;
use crate::reason::Reason;
use crate::rules::log::Rules;
use crate::trail::Crumb;

mod hand_over;
mod writing;

use hand_over::Leaving;
pub use hand_over::{Looked, Looking, NotRecalled, Past, Recall};
pub use writing::{Ack, DeadLetter, Subject, What, Writing};

/// What happens to a sender.
#[derive(Debug)]
pub enum Event {
    /// The group gives us partitions.
    Assigned(Vec<i32>),
    /// The group takes partitions away, and waits for [`Effect::HandOver`]. Lost ones are another's already.
    Revoked {
        revocation: u64,
        partitions: Vec<i32>,
        lost: bool,
    },
    /// A predecessor's outcomes are read back, or why they aren't.
    Recalled {
        partition: i32,
        ownership: Ownership,
        past: Result<Box<Past>, NotRecalled>,
    },
    /// A record of the jobs topic is read.
    Job(JobRecord),
    /// Jobs are read again; `None` for one that Kafka has no more.
    Loaded {
        load: u64,
        jobs: Vec<(JobAt, Option<Payload>)>,
    },
    Answered {
        attempt: u64,
        answers: Vec<Answer>,
    },
    /// Kafka's word on what was written.
    Written(Writing, Ack),
    /// The time has come to write this again.
    Again(Writing),
    /// A commit of these partitions came to nothing.
    NotCommitted(Vec<i32>),
    /// Partitions were looked at; those of which Kafka said nothing are left out.
    Looked(Vec<Looked>),
    Rules(Arc<Rules<()>>),
    /// The secret of this credential, which was refused, is another one by now.
    SecretChanged(String),
    /// The process ends.
    Stop,
}

/// What the loop has to do.
#[derive(Debug)]
pub enum Effect {
    Recall(Recall),
    /// Read a partition's jobs from here on, under this ownership.
    Begin {
        partition: i32,
        ownership: Ownership,
        from: i64,
    },
    /// Read nothing of a partition until it is begun again.
    Pause(i32),
    Load(Load),
    Send(Attempt),
    Write(Writing),
    /// Comes back as [`Event::Again`].
    WriteLater(Writing, Duration),
    Commit(Places),
    /// The partitions of a revocation may go, once these places are committed.
    HandOver {
        revocation: u64,
        places: Places,
    },
    Look(Vec<Looking>),
    /// Leave the group; [`Sending::left`] follows once everything is handed over.
    Leave,
    /// Leave the group to join it again: a client that knew the old topic may take the new one for an outdated one.
    Rejoin,
    Say(Notice),
}

/// What people and metrics get to know.
#[derive(Debug)]
pub enum Notice {
    /// A job was answered for, or ended without a request; its outcome is written now.
    Settled(Arc<Settled>),
    /// A record is no job, and becomes a dead letter.
    NoJob { at: JobAt, reason: Reason, detail: String },
    /// A job is gone from Kafka that waited.
    JobGone(JobAt),
    /// Outcomes could not be read back; they are read again.
    NotRecalled { partition: i32, message: String },
    /// Jobs or outcomes of a partition are gone that were there.
    Gone { partition: i32, what: Gone },
    /// A topic doesn't take the smallest form of this.
    Refused(Writing),
}

/// What is gone from a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gone {
    /// The jobs that were read, `lost` of them unsettled. They are read from here on, to this end.
    StartedOver { from: i64, end: i64, lost: u64 },
    /// Jobs that retention took before they were settled.
    Passed { lost: u64 },
    /// The outcomes that were read. They end here now.
    OutcomesAnew { end: i64 },
    /// The outcomes before the one that was just written here.
    OutcomeWentBack { offset: i64 },
    /// The job that an outcome is about: another one stands there.
    AnotherJob,
}

/// A record of the jobs topic.
#[derive(Debug)]
pub struct JobRecord {
    pub at: JobAt,
    /// The ownership that its partition was begun under.
    pub ownership: Ownership,
    /// When it was written, epoch milliseconds.
    pub written_at: i64,
    /// The checksum of the record, for the trail.
    pub sum: u32,
    /// Its job's id, as a header says it.
    pub job_id: Option<String>,
    pub cause: Cause,
    pub content: Content,
}

/// What a record of the jobs topic holds.
#[derive(Debug)]
pub enum Content {
    /// A job, and the host that it goes to.
    Job(Payload, Arc<str>),
    /// A job of a newer version, of which the ids and the credential are known.
    Newer(Payload),
    NoJob(NoJob),
}

/// A record that is no job, as its dead letter holds it.
#[derive(Debug)]
pub struct NoJob {
    pub key: Vec<u8>,
    pub value: Vec<u8>,
    pub trace: Option<Arc<str>>,
    pub reason: Reason,
    pub detail: String,
}

/// Acknowledgements take some milliseconds; when Kafka is silent for longer, nothing starts.
const KAFKA_SILENCE_MAX: Micros = 1_000_000;
/// After a silence of so long we aren't ready; a shorter one mends itself, as when a leader changes.
const KAFKA_SILENCE_LONG: Micros = 5_000_000;
/// While more outcomes and dead letters wait for Kafka, nothing starts and no job is loaded.
const POSTED_MAX: usize = 50_000;
/// What Kafka didn't take or answer is tried again after so long.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
/// A newer version reads what this one can't, and has the partition soon; it is looked at again all the same.
const NEWER_AGAIN_AFTER: Duration = Duration::from_secs(10);
/// What Kafka refuses in every form waits for a person, who needs longer than Kafka.
const REFUSED_AGAIN_AFTER: Duration = Duration::from_secs(30);
/// How often it is looked whether what was read is still there.
const LOOK_EVERY: Micros = 5_000_000;

/// One sender, without its I/O.
#[derive(Debug)]
pub struct Sending {
    pub dispatch: Dispatch,
    leaving: Vec<Leaving>,
    stopping: bool,
    /// The group is left to be joined again.
    rejoins: bool,
    look_at: Micros,
    /// A look is under way.
    looks: bool,
    /// When the group was last polled.
    polled_at: Micros,
    silence_max: Micros,
    hand_over_max: Micros,
    effects: Vec<Effect>,
}

impl Sending {
    pub fn new(settings: Settings, rng: fastrand::Rng, now: Micros) -> Self {
        Self {
            silence_max: micros(settings.silence_max),
            hand_over_max: micros(settings.hand_over_max),
            dispatch: Dispatch::new(settings, rng),
            leaving: Vec::new(),
            stopping: false,
            rejoins: false,
            look_at: now,
            looks: false,
            polled_at: now,
            effects: Vec::new(),
        }
    }

    /// The wall clock is so far ahead of the steady one, and the group was last polled then.
    pub fn clocks(&mut self, ahead: Micros, polled_at: Micros) {
        self.dispatch.wall_clock(ahead);
        self.polled_at = polled_at;
    }

    /// What follows an event.
    pub fn on(&mut self, event: Event, now: Micros) -> Vec<Effect> {
        match event {
            Event::Assigned(partitions) => {
                for partition in partitions {
                    // Another sender had it in between, if we have not noticed that it went.
                    self.dispatch.disown(partition);
                    self.take_over(partition, now);
                }
            }
            Event::Revoked {
                revocation,
                partitions,
                lost,
            } => self.revoked(revocation, &partitions, lost, now),
            Event::Recalled {
                partition,
                ownership,
                past,
            } => self.recalled(partition, ownership, past, now),
            Event::Job(job) => self.read(job, now),
            Event::Loaded { load, jobs } => self.loaded(load, jobs, now),
            Event::Answered { attempt, answers } => {
                let settled = self.dispatch.answered(attempt, answers, now);
                self.settle(settled, now);
            }
            Event::Written(writing, ack) => self.written(writing, ack, now),
            Event::Again(writing) => self.write(writing),
            Event::NotCommitted(partitions) => self.dispatch.ledger.not_committed(partitions),
            Event::Looked(looked) => self.looked(looked, now),
            Event::Rules(rules) => {
                let mut settled = Vec::new();
                self.dispatch.rules(rules, now, &mut settled);
                self.settle(settled, now);
            }
            Event::SecretChanged(credential) => self.dispatch.secret_changed(&credential, now),
            Event::Stop => {
                self.stopping = true;
                self.effects.push(Effect::Leave);
            }
        }
        std::mem::take(&mut self.effects)
    }

    /// Starts every request that may start now, loads what is wanted, and hands over partitions that are done.
    pub fn turn(&mut self, now: Micros) -> Vec<Effect> {
        if self.may_start(now) {
            let mut settled = Vec::new();
            while let Some(attempt) = self.dispatch.next(now, &mut settled) {
                self.effects.push(Effect::Send(attempt));
            }
            self.settle(settled, now);
            let loads = self.dispatch.loads().into_iter();
            self.effects.extend(loads.map(Effect::Load));
        }
        self.let_go(now);
        std::mem::take(&mut self.effects)
    }

    /// Commits what has moved, and looks now and then whether what was read is still there.
    pub fn tick(&mut self, now: Micros) -> Vec<Effect> {
        if self.look_at <= now {
            self.look_at = now + LOOK_EVERY;
            self.look();
        }
        let moved = self.dispatch.ledger.moved();
        if !moved.is_empty() {
            self.effects.push(Effect::Commit(moved));
        }
        std::mem::take(&mut self.effects)
    }

    /// The group is left, and everything is handed over. Whether to join the group again.
    pub fn left(&mut self) -> bool {
        std::mem::take(&mut self.rejoins) && !self.stopping
    }

    /// When [`Self::turn`] is worth another call, if no event comes before; `None` until one does.
    pub fn wake_at(&self, now: Micros) -> Option<Micros> {
        let start = self.may_start(now).then(|| self.dispatch.wake_at());
        let leaving = self.leaving.iter().map(|leaving| leaving.until);
        leaving.chain(start).min()
    }

    /// Whether answers, acknowledgements and other events of ours may be taken in. After a standstill they wait until the
    /// group has said what is ours: what another owner has by now, it settles. While partitions leave, the group waits
    /// for us and isn't polled.
    pub fn may_settle(&self, now: Micros) -> bool {
        self.is_member(now) || !self.leaving.is_empty() || self.stopping
    }

    /// Whether Kafka acknowledges what is written.
    pub fn is_acknowledged(&self, now: Micros) -> bool {
        self.dispatch.ledger.silent_for(now) <= KAFKA_SILENCE_LONG
    }

    /// Whoever takes over while Kafka is away repeats what Kafka didn't get, so that nothing is added to it.
    fn may_start(&self, now: Micros) -> bool {
        let ledger = &self.dispatch.ledger;
        let kafka_answers = ledger.silent_for(now) <= KAFKA_SILENCE_MAX && ledger.posted() <= POSTED_MAX;
        !self.stopping && self.is_member(now) && kafka_answers
    }

    /// A sender that hasn't polled the group for half a session may own nothing any more.
    fn is_member(&self, now: Micros) -> bool {
        now - self.polled_at <= self.silence_max
    }

    fn say(&mut self, notice: Notice) {
        self.effects.push(Effect::Say(notice));
    }

    fn gone(&mut self, partition: i32, what: Gone) {
        self.say(Notice::Gone { partition, what });
    }

    fn read(&mut self, job: JobRecord, now: Micros) {
        let JobRecord { at, written_at, .. } = job;
        // Records that were read before the partition was begun, or begun again, come again.
        if !self.dispatch.ledger.is_ours(at.partition, job.ownership) {
            return;
        }
        // Anybody may write a header; the job itself knows better.
        let own = match &job.content {
            Content::Job(payload, _) | Content::Newer(payload) => Some(&payload.job.job_id),
            Content::NoJob(_) => None,
        };
        let id = own.or(job.job_id.as_ref());
        let read = self.dispatch.read(at, id.map(|id| tag(id)), written_at);
        if read == Read::Back {
            return self.start_over(at.partition, now);
        }
        let crumb = Crumb {
            offset: at.offset,
            sum: job.sum,
        };
        self.dispatch.ledger.trace(at.partition, crumb);
        if read == Read::Another && self.dispatch.ledger.says_another(at.partition) {
            self.gone(at.partition, Gone::AnotherJob);
        }
        if !read.is_accepted() {
            return;
        }
        match job.content {
            Content::Job(payload, host) => self.dispatch.accept(at, payload, &host, job.cause, now),
            Content::Newer(payload) => self.dispatch.hold(at, &payload, now),
            Content::NoJob(no_job) => self.bury(at, no_job, now),
        }
    }

    fn loaded(&mut self, load: u64, jobs: Vec<(JobAt, Option<Payload>)>, now: Micros) {
        let mut settled = Vec::new();
        let lost = self.dispatch.loaded(load, jobs, now, &mut settled);
        if !lost.is_empty() {
            // Retention took them, or the topic was made anew.
            self.look_at = now;
        }
        lost.into_iter().for_each(|at| self.say(Notice::JobGone(at)));
        self.settle(settled, now);
    }
}

#[cfg(test)]
mod tests;
