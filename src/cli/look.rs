//! The parts that commands over topics share: periods and printing.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::Args;
use tokio::sync::watch;

use super::{CliError, print, progress};
use crate::app::now_millis;
use crate::config::Config;
use crate::dates::{self, time_text};
use crate::desk::scan::{Passed, Period, Scanner};
use crate::text;

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
    /// Calls a service that reads topics, shows how far a long reading has come, and ends it when the process is asked to
    /// end.
    pub(super) fn scan<T>(&self, ask: impl FnOnce(Scanner<'_>) -> Result<T, CliError>) -> Result<T, CliError> {
        self.watched(ask)
    }

    /// The same for a service that is asked with one of its own errors.
    pub(super) fn watched<T>(&self, ask: impl FnOnce(Scanner<'_>) -> T) -> T {
        let go_on = |Passed { topic, records, total }: Passed<'_>| {
            progress::at(topic, records, Some(total));
            !*self.stop.borrow()
        };
        let answer = ask(Scanner::new(self.config, &go_on));
        progress::over();
        answer
    }
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

/// The most columns that a table takes, however wide a terminal is.
const COLUMNS: usize = 100;

/// A time in a table, in UTC, to the second: all have one length.
pub(super) fn when(millis: i64) -> String {
    time_text(millis)
        .chars()
        .take(19)
        .map(|c| if c == 'T' { ' ' } else { c })
        .collect()
}

/// A text of others in a column of a table: what is longer is cut.
pub(super) fn cell(text: &str, width: usize) -> String {
    format!("{:<width$}", text::truncate(&plain(text), width))
}

/// Lines no longer than a table's, all but the first indented. A word alone may be longer: ids are there to be copied.
pub(super) fn wrapped(text: &str, indent: usize) -> String {
    let mut lines = vec![String::new()];
    let mut width = 0;
    for word in text.split(' ') {
        let more = word.chars().count();
        if width > 0 && indent + width + 1 + more > COLUMNS {
            lines.push(String::new());
            width = 0;
        }
        if let Some(line) = lines.last_mut().filter(|_| width > 0 || more > 0) {
            if width > 0 {
                line.push(' ');
                width += 1;
            }
            line.push_str(word);
            width += more;
        }
    }
    lines.iter_mut().for_each(|line| line.truncate(line.trim_end().len()));
    lines.join(&format!("\n{:indent$}", ""))
}

/// So many of something, as one says it.
pub(super) fn counted(count: u64, one: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {one}{plural}")
}

/// What a command lists: newest last, and of more than the limit the newest.
pub(super) struct Newest {
    limit: usize,
    added: u64,
    /// By time, and then as they were added.
    lines: BTreeMap<(i64, u64), String>,
}

impl Newest {
    pub(super) fn new(limit: Option<usize>) -> Self {
        Self {
            limit: limit.unwrap_or(usize::MAX),
            added: 0,
            lines: BTreeMap::new(),
        }
    }

    pub(super) fn add(&mut self, at: i64, line: impl FnOnce() -> String) {
        let full = self.lines.len() >= self.limit;
        if full && self.lines.keys().next().is_none_or(|(oldest, _)| at < *oldest) {
            return;
        }
        self.lines.insert((at, self.added), line());
        self.added += 1;
        if full {
            self.lines.pop_first();
        }
    }

    /// `nothing` is what people are told of an empty list, and `head` stands above another.
    pub(super) fn print(self, head: Option<&str>, nothing: &str) -> Result<(), CliError> {
        if self.lines.is_empty() {
            say!("{nothing}");
            return Ok(());
        }
        head.map_or(Ok(()), print)?;
        self.lines.values().try_for_each(|line| print(line))
    }
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
    fn the_newest_are_kept_and_come_last() {
        let mut newest = Newest::new(Some(3));
        for at in [5, 1, 9, 7, 9, 2] {
            newest.add(at, || at.to_string());
        }
        assert_eq!(newest.lines.into_values().collect::<Vec<_>>(), ["7", "9", "9"]);
        let mut none = Newest::new(Some(0));
        none.add(1, String::new);
        assert!(none.lines.is_empty());
    }

    #[test]
    fn a_table_keeps_its_width() {
        assert_eq!(when(1_772_723_760_123), "2026-03-05 15:16:00");
        assert_eq!(cell("slack:bot/C1", 8), "slack:b…");
        assert_eq!(cell("a\u{1b}b", 5), "a b  ");
        let text = wrapped(&"word ".repeat(40), 4);
        assert!(
            text.lines().count() == 3 && text.lines().all(|line| line.chars().count() <= COLUMNS),
            "{text}"
        );
        assert_eq!(text.split_whitespace().count(), 40);
        assert_eq!(wrapped("rule r  lane l", 4), "rule r  lane l");
        assert_eq!(wrapped(&"x".repeat(120), 4), "x".repeat(120), "an id is never torn");
        assert_eq!(
            [0, 1, 2].map(|count| counted(count, "event")),
            ["0 events", "1 event", "2 events"]
        );
    }

    #[test]
    fn foreign_texts_are_one_line() {
        assert_eq!(plain("a\u{1b}[2Jb\nc"), "a [2Jb c");
    }
}
