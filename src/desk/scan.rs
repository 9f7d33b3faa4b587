//! Reads a topic from some place to the end that the topic has now.
//!
//! The caller watches: after each record it learns how far the reading has come, and may end it.

use super::Error;
use crate::config::Config;
use crate::kafka::reader::{Isolation, Record};
use crate::kafka::scan::{Run, Scan, Topic};

/// The reader through which the services see Kafka.
#[derive(Clone, Copy)]
pub struct Scanner<'s> {
    pub config: &'s Config,
    go_on: &'s dyn Fn(Passed<'_>) -> bool,
}

/// How far the reading of a topic has come.
#[derive(Debug, Clone, Copy)]
pub struct Passed<'p> {
    pub topic: &'p str,
    pub records: u64,
    /// Offsets in all, some of which may be no records.
    pub total: u64,
}

/// A stretch of time, by when records were written, in epoch milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Period {
    pub since: Option<i64>,
    pub until: Option<i64>,
}

impl Period {
    /// Whether a record that was written then belongs to it.
    pub fn holds(self, written_at: i64) -> bool {
        self.since.is_none_or(|since| since <= written_at) && self.until.is_none_or(|until| written_at < until)
    }

    /// Whether it has neither a beginning nor an end.
    pub fn is_whole(self) -> bool {
        self.since.is_none() && self.until.is_none()
    }
}

impl<'s> Scanner<'s> {
    /// `go_on` is called after each record and says whether the reading goes on; where it doesn't, the answer is
    /// [`Error::Stopped`].
    pub fn new(config: &'s Config, go_on: &'s dyn Fn(Passed<'_>) -> bool) -> Self {
        Self { config, go_on }
    }

    /// The committed records of a period.
    pub fn period(self, topic: &str, period: Period) -> Result<Records<'s>, Error> {
        let runs = Topic::open(self.config, topic).and_then(|asked| asked.between(period.since, period.until));
        let runs = runs.map_err(Error::Unavailable)?;
        let records = self.runs(topic, &runs, Isolation::Committed)?;
        Ok(Records { period, ..records })
    }

    /// Every committed record.
    pub fn all(self, topic: &str) -> Result<Records<'s>, Error> {
        self.period(topic, Period::default())
    }

    /// The records of some runs.
    pub fn runs(self, topic: &str, runs: &[Run], isolation: Isolation) -> Result<Records<'s>, Error> {
        let scan = Scan::begin(self.config, topic, runs, isolation).map_err(Error::Unavailable)?;
        let length = |run: &Run| u64::try_from(run.until - run.from).unwrap_or_default();
        Ok(Records {
            scan: Some(scan),
            topic: topic.to_owned(),
            period: Period::default(),
            records: 0,
            total: runs.iter().map(length).sum(),
            go_on: self.go_on,
        })
    }
}

/// Records as they are read: in order within a partition, partitions mixed. An error ends them.
pub struct Records<'s> {
    scan: Option<Scan>,
    topic: String,
    period: Period,
    records: u64,
    total: u64,
    go_on: &'s dyn Fn(Passed<'_>) -> bool,
}

impl Records<'_> {
    fn read(&mut self) -> Option<Result<Record, Error>> {
        loop {
            let record = match self.scan.as_mut()?.next()? {
                Ok(record) => record,
                Err(why) => return Some(Err(Error::Unavailable(why))),
            };
            self.records += 1;
            let passed = Passed {
                topic: &self.topic,
                records: self.records,
                total: self.total,
            };
            if !(self.go_on)(passed) {
                return Some(Err(Error::Stopped(self.topic.clone())));
            }
            if self.period.holds(record.timestamp) {
                return Some(Ok(record));
            }
        }
    }
}

impl Iterator for Records<'_> {
    type Item = Result<Record, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let read = self.read();
        if !matches!(read, Some(Ok(_))) {
            self.scan = None;
        }
        read
    }
}

impl std::fmt::Debug for Scanner<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scanner").finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Records<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Records")
            .field("topic", &self.topic)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_period_holds_its_beginning_and_not_its_end() {
        let period = Period {
            since: Some(10),
            until: Some(20),
        };
        assert_eq!([9, 10, 19, 20].map(|at| period.holds(at)), [false, true, true, false]);
        assert!(Period::default().holds(i64::MIN) && Period::default().is_whole());
    }
}
