//! The frame that is drawn over itself on a terminal: of what the view has seen, so much as fits.

use std::collections::VecDeque;
use std::io::{IsTerminal, Write};
use std::time::Duration;

use super::{Lane, PRINTED, RECENT, Seen};
use crate::text;

/// On a smaller terminal the view is plain lines.
const SMALLEST: Size = Size { columns: 60, rows: 20 };

/// A terminal's size, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Size {
    columns: usize,
    rows: usize,
}

impl Size {
    /// The size of stdout now; none where it is no terminal, or one that can't be written over.
    pub(super) fn now() -> Option<Self> {
        let stdout = std::io::stdout();
        let is_dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        if is_dumb || !stdout.is_terminal() {
            return None;
        }
        let size = rustix::termios::tcgetwinsize(&stdout).ok()?;
        Some(Self {
            columns: size.ws_col.into(),
            rows: size.ws_row.into(),
        })
    }

    pub(super) fn fits(self) -> bool {
        self.columns >= SMALLEST.columns && self.rows >= SMALLEST.rows
    }
}

impl Seen {
    /// The live view, of no more lines than `size` has, less the one that the cursor stands in.
    fn frame(&self, ran: Duration, size: Size) -> Vec<String> {
        let sent = self.finals.get("sent").copied().unwrap_or(0);
        let mut frame = vec![
            format!(
                "{:>4} s   {}   {}   {sent} sent   {}",
                ran.as_secs(),
                counted(self.produced, "event", "s"),
                counted(self.matches, "match", "es"),
                counted(self.dead_events + self.dead_jobs, "dead letter", "s"),
            ),
            String::new(),
        ];
        let left = self.left().map(|left| format!("  {left}"));
        // Two empty lines part the three lists.
        let room = size.rows.saturating_sub(1 + frame.len() + left.iter().len() + 2);
        let recent = RECENT.min(room / 4);
        let lanes = self.lanes.len().min((room - recent) / 2);
        let printed = PRINTED.min(room - recent - lanes);
        // Where not all have room, those that wait are worth more than those that don't.
        let mut shown: Vec<(&String, &Lane)> = self.lanes.iter().collect();
        shown.sort_by_key(|(_, lane)| lane.waiting() == 0);
        shown.truncate(lanes);
        shown.sort_by_key(|(id, _)| *id);
        let width = if size.columns < 100 { 24 } else { 28 };
        for (id, lane) in shown {
            let waiting = lane.waiting();
            let why = if waiting > 0 { self.why(id, lane) } else { String::new() };
            frame.push(format!(
                "  {id:<width$} {:>4} sent {waiting:>4} waiting  {why}",
                lane.sent
            ));
        }
        let last = |lines: &VecDeque<String>, count: usize| {
            let lines = lines.iter().skip(lines.len().saturating_sub(count));
            lines.map(|line| format!("  {line}")).collect::<Vec<_>>()
        };
        frame.extend(left);
        frame.push(String::new());
        frame.extend(last(&self.printed, printed));
        frame.push(String::new());
        frame.extend(last(&self.recent, recent));
        // A line in the last column would wrap on some terminals.
        let columns = size.columns.saturating_sub(1);
        let mut fitting = frame
            .into_iter()
            .map(|line| text::truncate(&line, columns))
            .collect::<Vec<_>>();
        fitting.truncate(size.rows.saturating_sub(1));
        fitting
    }

    pub(super) fn draw(&mut self, ran: Duration) {
        let Some(size) = Size::now() else { return };
        let mut out = self.over(size);
        let frame = self.frame(ran, size);
        for line in &frame {
            out.push_str(&format!("\x1b[2K{line}\n"));
        }
        out.push_str("\x1b[J");
        (self.lines, self.size) = (frame.len(), Some(size));
        self.write(&out);
    }

    /// Takes the frame away, so that what comes next stands in its place.
    pub(super) fn erase(&mut self) {
        if let Some(size) = self.size {
            let out = format!("{}\x1b[J", self.over(size));
            (self.lines, self.size) = (0, None);
            self.write(&out);
        }
    }

    /// Goes to where the frame begins that stands. A terminal of another size has wrapped it by its own rules: it is
    /// cleared.
    fn over(&self, size: Size) -> String {
        match self.lines {
            _ if self.size.is_some_and(|before| before != size) => "\x1b[H\x1b[2J".to_owned(),
            0 => String::new(),
            lines => format!("\r\x1b[{lines}A"),
        }
    }

    fn write(&self, out: &str) {
        let mut stdout = std::io::stdout();
        drop(stdout.write_all(out.as_bytes()).and_then(|()| stdout.flush()));
    }
}

/// So many of something, with the ending that more than one has.
fn counted(count: u64, one: &str, more: &str) -> String {
    format!("{count} {one}{}", if count == 1 { "" } else { more })
}

/// A message as Slack shows it, on one line.
pub(in crate::demo) fn as_read(text: &str) -> String {
    let mut read = text::Bounded::new(1000);
    text::slack::plain(text, |_| None, &mut read);
    read.into_text().replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::story::Story;
    use crate::sandbox::{Sandbox, Settings};

    #[test]
    fn the_live_view_fits_the_terminal() {
        let mut seen = Seen::new(
            Story::new(Sandbox::new(Settings::default())),
            "http://127.0.0.1:8080/".to_owned(),
            false,
            false,
        );
        for number in 0..12 {
            let lane = seen
                .lanes
                .entry(format!("slack:sales-bot/C0LANE{number:02}"))
                .or_default();
            (lane.jobs, lane.sent) = (u64::from(number == 11), 7);
        }
        for number in 0..40 {
            seen.show(format!("digest    {number} {}", "long ".repeat(60)));
            seen.say(format!("event     {number} {}", "é".repeat(300)));
        }
        for (columns, rows) in [(60, 20), (80, 24), (120, 40), (300, 100)] {
            let frame = seen.frame(Duration::from_secs(9), Size { columns, rows });
            assert!(frame.len() < rows, "{columns}x{rows}: {frame:#?}");
            assert!(frame.iter().all(|line| line.chars().count() < columns), "{frame:#?}");
            let has = |text: &str| frame.iter().any(|line| line.contains(text));
            assert!(
                frame[0].contains("9 s") && has("digest    39") && has("event     39"),
                "{frame:#?}"
            );
            assert!(has("C0LANE11"), "the lane that waits is among them: {frame:#?}");
        }
    }

    #[test]
    fn messages_are_shown_as_people_read_them() {
        assert_eq!(as_read("Harbor &amp; Sons\n&lt;3"), "Harbor & Sons <3");
    }
}
