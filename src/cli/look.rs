//! The parts that commands over topics share: periods, progress, and printing.

use std::cell::Cell;
use std::time::{Duration, Instant};

use clap::Args;
use tokio::sync::watch;

use super::CliError;
use crate::app::now_millis;
use crate::config::Config;
use crate::dates::{self, time_text};
use crate::desk::scan::{Passed, Period, Scanner};

/// The arguments of every command that looks through topics.
#[derive(Debug, Clone, Copy)]
pub(super) struct Look<'l> {
    pub(super) config: &'l Config,
    pub(super) json: bool,
    /// Becomes true when the process is asked to end.
    pub(super) stop: &'l watch::Receiver<bool>,
}

/// A stretch of time, by when records were written.
#[derive(Debug, Clone, Copy, Default, Args)]
pub(super) struct Span {
    /// Only records written from then on: a date such as 2026-03-05T15:16:00Z, or how long ago: 2h, 3d
    #[arg(long, value_name = "TIME", value_parser = time)]
    since: Option<i64>,
    /// Only records written before then, in the same forms
    #[arg(long, value_name = "TIME", value_parser = time)]
    until: Option<i64>,
}

impl Span {
    pub(super) fn period(self) -> Period {
        Period {
            since: self.since,
            until: self.until,
        }
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
    /// Calls a service that reads topics. Says on stderr every few seconds how far a long reading has come, and ends
    /// it when the process is asked to end.
    pub(super) fn scan<T>(&self, ask: impl FnOnce(Scanner<'_>) -> Result<T, CliError>) -> Result<T, CliError> {
        self.watched(ask)
    }

    /// The same for a service that is asked with one of its own errors.
    pub(super) fn watched<T>(&self, ask: impl FnOnce(Scanner<'_>) -> T) -> T {
        let said_at = Cell::new(Instant::now());
        let go_on = |passed: Passed<'_>| {
            if said_at.get().elapsed() >= SAY_EVERY {
                said_at.set(Instant::now());
                let Passed { topic, records, total } = passed;
                eprintln!("{topic}: {records} of about {total} records read");
            }
            !*self.stop.borrow()
        };
        ask(Scanner::new(self.config, &go_on))
    }
}

const SAY_EVERY: Duration = Duration::from_secs(5);

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
    fn foreign_texts_are_one_line() {
        assert_eq!(plain("a\u{1b}[2Jb\nc"), "a [2Jb c");
    }
}
