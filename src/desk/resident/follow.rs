//! Follows a topic: reads back as far as the memory reaches, reads on, and notices when Kafka is away and when the
//! topic was made anew.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Resident, Topic, audits, letters};
use crate::desk::Error;
use crate::kafka::KafkaError;
use crate::kafka::reader::{Next, Reader, Record};
use crate::kafka::scan;
use crate::trail::{self, Crumb, Look, Trail};

/// How often a partition is looked at: whether its broker answers, and whether what was read is still there.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A broker that doesn't answer for so long is away.
const AWAY_AFTER: Duration = Duration::from_secs(2);
/// How often the rules are read on.
const RULES_EVERY: Duration = Duration::from_millis(200);
/// The pause before Kafka is asked again.
const PAUSE: Duration = Duration::from_secs(1);
/// How often the partitions are counted.
const COUNT_EVERY: Duration = Duration::from_secs(60);
/// So many records are taken in at once.
const BATCH_MAX: usize = 1000;
const WEEK: i64 = 7 * 24 * 3600 * 1000;
/// So many events are counted at the most, however few are kept.
const EVENTS_COUNTED: usize = 1_000_000;

/// Reads one topic into the memory.
#[derive(Debug)]
pub struct Follower {
    resident: Arc<Resident>,
    topic: Topic,
    reading: Option<Reading>,
    look_at: Instant,
    /// Kafka was away, and may have come back with another topic. A client that knew the old one may take that for an
    /// outdated word of it, and then reads none of it.
    was_away: bool,
}

#[derive(Debug)]
struct Reading {
    reader: Reader,
    /// By partition.
    progress: Vec<Progress>,
    /// The partition that is looked at next.
    turn: usize,
    /// We may not read the topic.
    denied: bool,
    /// Of the memory that is read into; it starts over where the topic does.
    epoch: u64,
    count_at: Instant,
}

#[derive(Debug, Clone, Default)]
struct Progress {
    /// Everything before this is read.
    next: i64,
    newest: Option<Crumb>,
    look: Look,
    /// It was read to an end that it had.
    ended: bool,
}

impl Follower {
    pub(super) fn new(resident: Arc<Resident>, topic: Topic) -> Self {
        Self {
            resident,
            topic,
            reading: None,
            look_at: Instant::now(),
            was_away: false,
        }
    }

    pub fn topic(&self) -> Topic {
        self.topic
    }

    /// Reads what has come, and waits a little where nothing has. `now` is the wall clock's, in epoch milliseconds.
    pub fn step(&mut self, now: i64) {
        let stepped = match self.topic {
            Topic::Rules => self.step_rules(),
            _ => self.step_records(now),
        };
        match stepped {
            Ok(true) => self.resident.in_touch(self.topic),
            Ok(false) => {}
            Err(error) => {
                self.resident.cut_off(self.topic, now, &error);
                self.was_away = true;
                std::thread::sleep(PAUSE);
            }
        }
    }

    /// Says whether Kafka has answered.
    fn step_rules(&mut self) -> Result<bool, Error> {
        let config = self.resident.config();
        self.resident.rules.read_on(config)?;
        self.resident.caught_up(Topic::Rules, true);
        if self.look_at <= Instant::now() {
            self.look_at = Instant::now() + LOOK_EVERY;
            self.resident
                .rules
                .look(&config.topics.rules, &*self.resident.places()?)?;
        }
        std::thread::sleep(RULES_EVERY);
        Ok(true)
    }

    /// The same.
    fn step_records(&mut self, now: i64) -> Result<bool, Error> {
        let epoch = self.resident.epoch(self.topic);
        let reading = match self.reading.take().filter(|reading| reading.epoch == epoch) {
            Some(reading) => self.reading.insert(reading),
            None => {
                let reading = open(&self.resident, self.topic, now)?;
                self.was_away = false;
                self.reading.insert(reading)
            }
        };
        if self.was_away {
            reading.open_again(&self.resident, self.topic.name(self.resident.config()))?;
            self.was_away = false;
        }
        let (records, is_anew) = reading.read()?;
        let came = !records.is_empty();
        let is_taken = self.resident.take(self.topic, reading.epoch, records, now);
        if is_anew {
            self.start_over();
            return Ok(true);
        }
        if is_taken {
            let ended = reading.progress.iter().all(|progress| progress.ended);
            self.resident.caught_up(self.topic, ended);
        }
        if self.look_at > Instant::now() {
            return Ok(came);
        }
        self.look_at = Instant::now() + LOOK_EVERY;
        self.look()?;
        // Who may not read may look all the same.
        Ok(self.reading.as_ref().is_none_or(|reading| !reading.denied))
    }

    /// Whether Kafka is there, and what was read as well.
    fn look(&mut self) -> Result<(), Error> {
        let topic = self.topic.name(self.resident.config());
        let places = self.resident.places()?;
        let Some(reading) = &mut self.reading else {
            return Ok(());
        };
        let unavailable = |error| {
            let why = places.why(topic, &error);
            Error::Unavailable(format!("topic {topic} can't be looked at: {why}"))
        };
        reading.turn = (reading.turn + 1) % reading.progress.len().max(1);
        let Some(progress) = reading.progress.get_mut(reading.turn) else {
            return Ok(());
        };
        let partition = i32::try_from(reading.turn).unwrap_or_default();
        places.answers(topic, partition, AWAY_AFTER).map_err(unavailable)?;
        let trail = progress.look.at().map(Trail::of).unwrap_or_default();
        let anew = places
            .check(topic, partition, progress.next, &trail)
            .map_err(unavailable)?;
        if anew.is_some() {
            self.start_over();
            return Ok(());
        }
        progress.look.found(progress.newest);
        if reading.count_at <= Instant::now() {
            reading.count_at = Instant::now() + COUNT_EVERY;
            reading.grow(&self.resident, topic)?;
        }
        Ok(())
    }

    fn start_over(&mut self) {
        let topic = self.topic.name(self.resident.config());
        tracing::warn!(
            kafka.topic = topic,
            "the topic was made anew or has lost its end; the desk reads it again"
        );
        self.resident.start_over(self.topic);
        self.reading = None;
    }
}

impl Reading {
    /// What has come, and whether it is of another topic than what came before.
    fn read(&mut self) -> Result<(Vec<Record>, bool), Error> {
        let mut records = Vec::new();
        let mut wait = Duration::from_millis(100);
        while records.len() < BATCH_MAX {
            match self.reader.next(wait) {
                Next::Record(record) => {
                    self.denied = false;
                    let number = usize::try_from(record.partition).unwrap_or(usize::MAX);
                    let Some(progress) = self.progress.get_mut(number) else {
                        continue;
                    };
                    if record.offset < progress.next {
                        return Ok((Vec::new(), true));
                    }
                    progress.take(&record);
                    records.push(record);
                }
                Next::End(partition) => {
                    self.denied = false;
                    let number = usize::try_from(partition).unwrap_or(usize::MAX);
                    self.progress
                        .get_mut(number)
                        .into_iter()
                        .for_each(|progress| progress.ended = true);
                }
                Next::Nothing => break,
                Next::Denied(why) => {
                    self.denied = true;
                    return Err(Error::Unavailable(why));
                }
            }
            wait = Duration::ZERO;
        }
        Ok((records, false))
    }

    /// Takes up partitions that were added.
    fn grow(&mut self, resident: &Resident, topic: &str) -> Result<(), Error> {
        let unavailable = |error| Error::Unavailable(format!("topic {topic} can't be counted: {error}"));
        let count = self.reader.partitions(topic).map_err(unavailable)?;
        let count = usize::try_from(count).unwrap_or_default();
        if count > self.progress.len() {
            self.progress.resize(count, Progress::default());
            self.open_again(resident, topic)?;
        }
        Ok(())
    }

    /// Reads on by a new client.
    fn open_again(&mut self, resident: &Resident, topic: &str) -> Result<(), Error> {
        let places = (0..).zip(&self.progress);
        let places: Vec<(i32, Option<i64>)> = places
            .map(|(partition, progress)| (partition, Some(progress.next)))
            .collect();
        let reader = Reader::sparing(resident.config(), topic, &places);
        self.reader = reader.map_err(|error| unreadable(topic, &error))?;
        Ok(())
    }
}

impl Progress {
    fn take(&mut self, record: &Record) {
        let crumb = Crumb {
            offset: record.offset,
            sum: trail::sum(record.timestamp, record.key.as_deref(), record.value.as_deref()),
        };
        self.next = record.offset + 1;
        self.newest = Some(crumb);
        self.look.take(crumb);
    }
}

/// Begins to read as far back as the memory reaches.
fn open(resident: &Resident, topic: Topic, now: i64) -> Result<Reading, Error> {
    let config = resident.config();
    let name = topic.name(config);
    // Of the offsets of a transaction one is no record, so that it takes two for one at the worst.
    let twice = |most: usize| i64::try_from(most.saturating_mul(2)).unwrap_or(i64::MAX);
    let asked = scan::Topic::open(config, name).map_err(Error::Unavailable)?;
    let epoch = resident.epoch(topic);
    let (runs, from) = match topic {
        Topic::Events => asked.last(
            twice(config.admin.recent_events.max(EVENTS_COUNTED / 2)),
            now - WEEK,
            now,
        ),
        Topic::DeadLetters => asked.last(twice(letters::MOST), 0, now),
        Topic::Rules | Topic::Audit => asked.last(twice(audits::MOST), 0, now),
        Topic::Jobs | Topic::Outcomes => {
            let from = resident.deliveries_from(epoch, || {
                let jobs = scan::Topic::open(config, &config.topics.jobs).map_err(Error::Unavailable)?;
                let last = jobs.last(twice(config.admin.deliveries_max), 0, now);
                Ok(last.map_err(Error::Unavailable)?.1)
            })?;
            asked.between(from, None).map(|runs| (runs, from))
        }
    }
    .map_err(Error::Unavailable)?;
    resident.began(topic, from);
    let places: Vec<(i32, Option<i64>)> = runs.iter().map(|run| (run.partition, Some(run.from))).collect();
    let reader = Reader::sparing(config, name, &places);
    let reader = reader.map_err(|error| unreadable(name, &error))?;
    let progress = runs.iter().map(|run| Progress {
        next: run.from,
        ..Progress::default()
    });
    Ok(Reading {
        reader,
        progress: progress.collect(),
        turn: 0,
        denied: false,
        epoch,
        count_at: Instant::now() + COUNT_EVERY,
    })
}

fn unreadable(topic: &str, error: &KafkaError) -> Error {
    Error::Unavailable(format!("topic {topic} can't be read: {error}"))
}
