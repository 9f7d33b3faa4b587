//! The one view of the rules that a process keeps: whoever writes rules and whoever only looks share it.
//!
//! Everybody may read on, one at a time. Whoever wrote finds it there at once, since a writer reads on before it
//! answers.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::View;
use crate::config::Config;
use crate::desk::Error;
use crate::desk::lock::{Lock, ReadGuard};
use crate::kafka::place::Places;
use crate::kafka::reader::{Record, Tail, Went};
use crate::trail::{self, Crumb, Look, Trail};

/// So many records come into the view at once.
const BATCH_MAX: usize = 1000;
/// Of so many records it is known that they were read.
const RECENT_MAX: usize = 10_000;

/// A view of the rules topic that is read on.
#[derive(Debug, Default)]
pub struct Kept {
    view: Lock<View>,
    reading: Mutex<Reading>,
    writing: Mutex<()>,
}

#[derive(Debug, Default)]
struct Reading {
    /// None before the first look, and after one that failed.
    tail: Option<Tail>,
    newest: Option<Crumb>,
    look: Look,
    /// The offsets of the last records.
    recent: VecDeque<i64>,
}

impl Kept {
    /// The rules as far as they were read. Whoever holds the view keeps others from reading on.
    pub fn view(&self) -> ReadGuard<'_, View> {
        self.view.read()
    }

    /// Reads what came since the last look. In a topic that was made anew it begins again, and says so.
    pub fn read_on(&self, config: &Config) -> Result<Went, Error> {
        let mut reading = self.reading();
        let mut tail = self.tail(&mut reading, config)?;
        let went = self.read(&mut reading, &mut tail)?;
        if went == Went::Anew {
            self.begin_again(&mut reading);
            tail = self.tail(&mut reading, config)?;
            self.read(&mut reading, &mut tail)?;
        }
        reading.tail = Some(tail);
        Ok(went)
    }

    /// Whether the record at an offset is among the last that were read.
    pub(super) fn has_read(&self, offset: i64) -> bool {
        self.reading().recent.contains(&offset)
    }

    /// Looks whether what was read is still there. If not, the view begins again.
    pub(in crate::desk) fn look(&self, topic: &str, places: &Places) -> Result<(), Error> {
        let mut reading = self.reading();
        let Some(crumb) = reading.look.at() else { return Ok(()) };
        let next = self.view().log.next_offset();
        let checked = places.check(topic, 0, next, &Trail::of(crumb));
        let checked = checked.map_err(|error| {
            let why = places.why(topic, &error);
            Error::Unavailable(format!("topic {topic} can't be looked at: {why}"))
        });
        match checked? {
            None => {
                let newest = reading.newest;
                reading.look.found(newest);
            }
            Some(_) => self.begin_again(&mut reading),
        }
        Ok(())
    }

    /// Lets one writer of this process write at a time.
    pub(super) fn writing(&self) -> MutexGuard<'_, ()> {
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reading(&self) -> MutexGuard<'_, Reading> {
        self.reading.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tail(&self, reading: &mut Reading, config: &Config) -> Result<Tail, Error> {
        let next = self.view().log.next_offset();
        let open = || Tail::open_at(config, &config.topics.rules, next);
        reading.tail.take().map_or_else(open, Ok).map_err(Error::Unavailable)
    }

    fn read(&self, reading: &mut Reading, tail: &mut Tail) -> Result<Went, Error> {
        let mut records = Vec::new();
        let went = tail.read(|record| {
            let crumb = Crumb {
                offset: record.offset,
                sum: trail::sum(record.timestamp, record.key.as_deref(), record.value.as_deref()),
            };
            reading.newest = Some(crumb);
            reading.look.take(crumb);
            reading.recent.push_back(record.offset);
            if reading.recent.len() > RECENT_MAX {
                reading.recent.pop_front();
            }
            records.push(record);
            if records.len() >= BATCH_MAX {
                self.apply(&mut records);
            }
        });
        self.apply(&mut records);
        went.map_err(Error::Unavailable)
    }

    fn apply(&self, records: &mut Vec<Record>) {
        let mut view = self.view.write();
        records.drain(..).for_each(|record| view.take(&record));
    }

    fn begin_again(&self, reading: &mut Reading) {
        *self.view.write() = View::default();
        *reading = Reading::default();
    }
}
