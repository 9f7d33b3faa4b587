//! What the commands that look through topics share: periods, progress, and how things are printed.

use std::time::{Duration, Instant};

use clap::Args;
use tokio::sync::watch;

use super::CliError;
use crate::app::now_millis;
use crate::config::Config;
use crate::dates;
use crate::kafka::reader::{Isolation, Record};
use crate::kafka::scan::{Run, Scan, Topic};

/// What every command that looks through topics is given.
#[derive(Debug, Clone, Copy)]
pub(super) struct Look<'l> {
    pub(super) config: &'l Config,
    pub(super) json: bool,
    /// Becomes true when the process is asked to end.
    pub(super) stop: &'l watch::Receiver<bool>,
}

/// A stretch of time, by when records were written.
#[derive(Debug, Clone, Copy, Default, Args)]
pub(super) struct Period {
    /// Only what was written from then on: a date such as 2026-03-05T15:16:00Z, or how long ago: 2h, 3d
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(super) since: Option<i64>,
    /// Only what was written before then, in the same forms
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(super) until: Option<i64>,
}

impl Period {
    /// Whether a record of this time, in epoch milliseconds, belongs to it.
    pub(super) fn holds(self, written_at: i64) -> bool {
        self.since.is_none_or(|since| since <= written_at) && self.until.is_none_or(|until| written_at < until)
    }

    pub(super) fn is_whole(self) -> bool {
        self.since.is_none() && self.until.is_none()
    }
}

/// A time in epoch milliseconds.
pub(super) fn time(text: &str) -> Result<i64, String> {
    time_at(text, now_millis())
}

fn time_at(text: &str, now: i64) -> Result<i64, String> {
    if let Ok(ago) = dates::duration(text) {
        return Ok(now.saturating_sub(i64::try_from(ago.as_millis()).unwrap_or(i64::MAX)));
    }
    // A number alone is a duration whose unit was forgotten, rather than a time in 1970.
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    let read = dates::parse(text).ok().filter(|_| !is_number);
    read.map(|at| at.as_millisecond())
        .ok_or_else(|| "no time; write it as 2026-03-05T15:16:00Z, or as how long ago: 90s, 2h, 3d".to_owned())
}

impl Look<'_> {
    /// Every committed record of `runs` that `each` asks for, until it says to stop.
    pub(super) fn through(
        &self,
        topic: &str,
        runs: &[Run],
        isolation: Isolation,
        mut each: impl FnMut(Record) -> Result<bool, CliError>,
    ) -> Result<(), CliError> {
        let mut progress = Progress::new(topic, runs);
        for record in Scan::begin(self.config, topic, runs, isolation).map_err(CliError::failed)? {
            if *self.stop.borrow() {
                return Err(CliError::failed(format!("stopped before the end of {topic}")));
            }
            let record = record.map_err(CliError::failed)?;
            progress.passed();
            if !each(record)? {
                break;
            }
        }
        Ok(())
    }

    /// The committed records of a period.
    pub(super) fn through_period(
        &self,
        topic: &str,
        period: Period,
        mut each: impl FnMut(Record) -> Result<bool, CliError>,
    ) -> Result<(), CliError> {
        let runs = Topic::open(self.config, topic).and_then(|asked| asked.between(period.since, period.until));
        let runs = runs.map_err(CliError::failed)?;
        self.through(topic, &runs, Isolation::Committed, |record| {
            if period.holds(record.timestamp) {
                each(record)
            } else {
                Ok(true)
            }
        })
    }
}

/// Tells on stderr how far a long look has come, every few seconds.
struct Progress<'p> {
    topic: &'p str,
    records: i64,
    /// Offsets in all, some of which may be no records.
    total: i64,
    told_at: Instant,
}

const TELL_EVERY: Duration = Duration::from_secs(5);

impl<'p> Progress<'p> {
    fn new(topic: &'p str, runs: &[Run]) -> Self {
        Self {
            topic,
            records: 0,
            total: runs.iter().map(|run| (run.until - run.from).max(0)).sum(),
            told_at: Instant::now(),
        }
    }

    fn passed(&mut self) {
        self.records += 1;
        if self.told_at.elapsed() >= TELL_EVERY {
            self.told_at = Instant::now();
            let (topic, records, total) = (self.topic, self.records, self.total);
            eprintln!("{topic}: {records} of about {total} records read");
        }
    }
}

/// A time as RFC 3339.
pub(super) fn time_text(millis: i64) -> String {
    jiff::Timestamp::from_millisecond(millis)
        .unwrap_or_default()
        .to_string()
}

/// A time that may be missing, for JSON.
pub(super) fn time_json(millis: Option<i64>) -> serde_json::Value {
    millis.map(time_text).into()
}

/// A length of time as people say it, in whole seconds.
pub(super) fn span_text(millis: i64) -> String {
    let seconds = u64::try_from(millis / 1000).unwrap_or_default();
    dates::duration_text(Duration::from_secs(seconds))
}

/// A text of others as one line that can't steer a terminal.
pub(super) fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_dates_or_how_long_ago() {
        let now = 1_772_723_760_000;
        for (text, wanted) in [
            ("90s", now - 90_000),
            ("2h", now - 7_200_000),
            ("3d", now - 3 * 86_400_000),
            ("1h30m", now - 5_400_000),
            ("2026-03-05T15:16:00Z", now),
            ("2026-03-05T16:16:00+01:00", now),
            ("2026-03-05", now - (15 * 3600 + 16 * 60) * 1000),
        ] {
            assert_eq!(time_at(text, now), Ok(wanted), "{text}");
        }
        for text in ["", "2", "2x", "yesterday", "2026-13-01"] {
            let error = time_at(text, now).unwrap_err();
            assert!(error.contains("2h"), "{text}: {error}");
        }
    }

    #[test]
    fn a_period_holds_its_beginning_and_not_its_end() {
        let period = Period {
            since: Some(10),
            until: Some(20),
        };
        assert_eq!([9, 10, 19, 20].map(|at| period.holds(at)), [false, true, true, false]);
        assert!(Period::default().holds(i64::MIN) && Period::default().is_whole());
    }

    #[test]
    fn foreign_texts_are_one_line() {
        assert_eq!(plain("a\u{1b}[2Jb\nc"), "a [2Jb c");
    }
}
