//! How far a command has come: a bar in the last line of a terminal, from two seconds on, which is gone before anything
//! else is printed. Where stderr is no terminal nothing is shown.

use std::fmt::Arguments;
use std::io::IsTerminal;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::text;

const BAR_AFTER: Duration = Duration::from_secs(2);
const BAR_EVERY: Duration = Duration::from_millis(200);

/// What the command does now; none before it begins, and once it prints on by itself.
static NOW: Mutex<Option<Now>> = Mutex::new(None);

#[derive(Debug)]
struct Now {
    began: Instant,
    /// What is being done; empty where no more is known than that something is.
    what: String,
    done: u64,
    total: Option<u64>,
    /// A bar stands in the terminal's last line.
    is_drawn: bool,
}

/// Shows bars until it is dropped.
#[derive(Debug)]
pub(super) struct Shown;

/// Shows how far the command comes from now on.
pub(super) fn show() -> Shown {
    if std::io::stderr().is_terminal() {
        *now() = Some(Now {
            began: Instant::now(),
            what: String::new(),
            done: 0,
            total: None,
            is_drawn: false,
        });
        // Without the thread there is no bar, and the command runs all the same.
        drop(std::thread::Builder::new().name("progress".to_owned()).spawn(draw));
    }
    Shown
}

impl Drop for Shown {
    fn drop(&mut self) {
        end();
    }
}

/// So much of something is done; of how much in all may not be known.
pub(super) fn at(what: &str, done: u64, total: Option<u64>) {
    if let Some(now) = &mut *now() {
        if now.what != what {
            what.clone_into(&mut now.what);
        }
        (now.done, now.total) = (done, total);
    }
}

/// What was being done is over.
pub(super) fn over() {
    at("", 0, None);
}

/// Prints something else, where the bar stood.
pub(super) fn aside<T>(print: impl FnOnce() -> T) -> T {
    let mut now = now();
    if let Some(now) = &mut *now {
        now.clear();
    }
    print()
}

/// Says something on stderr.
pub(super) fn say(words: Arguments<'_>) {
    aside(|| eprintln!("{words}"));
}

/// From now on nothing is shown: the command is over, or prints what comes until somebody ends it.
pub(super) fn end() {
    aside(|| ());
    *now() = None;
}

/// Goes through a list, and tells how far that has come.
pub(super) fn each<T>(what: &str, list: Vec<T>) -> impl Iterator<Item = T> {
    let total = list.len() as u64;
    list.into_iter().enumerate().map(move |(done, item)| {
        at(what, done as u64, Some(total));
        item
    })
}

fn now() -> MutexGuard<'static, Option<Now>> {
    NOW.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Draws the bar again and again.
fn draw() {
    std::thread::sleep(BAR_AFTER);
    loop {
        match &mut *now() {
            None => return,
            Some(now) => {
                eprint!("\r\x1b[2K{}\r", now.bar(now.began.elapsed()));
                now.is_drawn = true;
            }
        }
        std::thread::sleep(BAR_EVERY);
    }
}

impl Now {
    fn clear(&mut self) {
        if std::mem::take(&mut self.is_drawn) {
            eprint!("\r\x1b[2K");
        }
    }

    /// 59 columns at most: the smallest terminal has it in one line.
    fn bar(&self, since: Duration) -> String {
        const WIDTH: u64 = 20;
        let what = match self.what.as_str() {
            "" => "working".to_owned(),
            what => text::truncate(what, 24),
        };
        match (self.total, self.done) {
            (Some(total), done) => {
                // Offsets that are no records are passed over unseen.
                let share = |of: u64| done.saturating_mul(of).checked_div(total).unwrap_or(of).min(of);
                let (full, percent) = (share(WIDTH) as usize, share(100));
                let rest = WIDTH as usize - full;
                format!("{what}  [{}{}] {percent:>3} %", "#".repeat(full), "-".repeat(rest))
            }
            (None, 0) => format!("{what}  {} s", since.as_secs()),
            (None, done) => format!("{what}  {done}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_says_how_far_a_command_has_come() {
        let bar = |what: &str, done, total| {
            let now = Now {
                began: Instant::now(),
                what: what.to_owned(),
                done,
                total,
                is_drawn: false,
            };
            now.bar(Duration::from_millis(3900))
        };
        let at = |done, total| bar("delivery-outcomes", done, Some(total));
        assert_eq!(at(0, 200), "delivery-outcomes  [--------------------]   0 %");
        assert_eq!(at(50, 200), "delivery-outcomes  [#####---------------]  25 %");
        assert_eq!(at(200, 200), "delivery-outcomes  [####################] 100 %");
        assert_eq!(at(0, 0), at(300, 200));
        assert_eq!(bar("", 0, None), "working  3 s");
        assert_eq!(bar("tracking-rules", 0, None), "tracking-rules  3 s");
        assert_eq!(bar("lines", 1234, None), "lines  1234");
        let widest = bar(&"x".repeat(80), 1, Some(1));
        assert!(widest.chars().count() < 60, "{widest}");
    }
}
