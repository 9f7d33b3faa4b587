//! Limits: how many requests may start in a period, and how many may be in flight.
//!
//! A limit decides, the caller waits. A limit of N per period means that in no window of that length more than N
//! requests start. Starts are therefore spaced evenly, 1.02 × period ÷ N apart. A new owner waits one spacing before
//! its first start, because it can't know when its predecessor's last request started.

use std::collections::VecDeque;

use crate::dates::Rate;

/// Microseconds on the caller's clock.
pub type Micros = i64;

impl Rate {
    /// The time from one start to the next.
    pub fn spacing(self) -> Micros {
        let micros = self.period().as_micros() as f64 * 1.02 / f64::from(self.count());
        micros.ceil() as Micros
    }
}

fn period(rate: Rate) -> Micros {
    Micros::try_from(rate.period().as_micros()).unwrap_or(Micros::MAX)
}

/// Spaces the starts of one scope.
#[derive(Debug, Clone)]
pub struct Spacer {
    spacing: Micros,
    /// A start that is late by up to so much doesn't make the next one late. With it, starts are
    /// still further apart than period ÷ N in every window of a period.
    slack: Micros,
    next: Micros,
}

impl Spacer {
    /// A scope taken over at `since`: its first start comes one spacing later.
    pub fn new(rate: Rate, since: Micros) -> Self {
        let spacing = rate.spacing();
        Self {
            spacing,
            slack: period(rate) / 100,
            next: since + spacing,
        }
    }

    /// When the next request may start: `now` or earlier means at once.
    pub fn ready_at(&self) -> Micros {
        self.next
    }

    /// Counts a start. Only to be called when [`Self::ready_at`] has come.
    pub fn start(&mut self, now: Micros) {
        debug_assert!(now >= self.ready_at(), "a start before its time breaks the limit");
        self.next = self.next.max(now - self.slack) + self.spacing;
    }

    /// Somebody else counted the starts until `since`.
    pub fn take_over(&mut self, since: Micros) {
        self.next = self.next.max(since + self.spacing);
    }

    pub fn spacing(&self) -> Micros {
        self.spacing
    }
}

/// At most N starts in any period, as close together as they come: what is under the cap isn't
/// slowed down.
#[derive(Debug, Clone)]
pub struct Cap {
    rate: Rate,
    starts: VecDeque<Micros>,
}

impl Cap {
    /// `starts` are a predecessor's, oldest first.
    pub fn new(rate: Rate, starts: impl IntoIterator<Item = Micros>) -> Self {
        let mut cap = Self {
            rate,
            starts: VecDeque::new(),
        };
        starts.into_iter().for_each(|at| cap.start(at));
        cap
    }

    /// Starts that a predecessor counted.
    pub fn recall(&mut self, starts: &[Micros]) {
        self.starts.extend(starts);
        let mut all: Vec<Micros> = self.starts.drain(..).collect();
        all.sort_unstable();
        // A start of our own comes back from the outcomes, rounded up to a millisecond.
        all.dedup_by_key(|at| (*at + 999) / 1000);
        self.starts = all.into();
        let beyond = self.starts.len().saturating_sub(self.rate.count() as usize);
        self.starts.drain(..beyond);
    }

    pub fn into_starts(self) -> VecDeque<Micros> {
        self.starts
    }

    pub fn ready_at(&self) -> Micros {
        match self.starts.front() {
            Some(oldest) if self.starts.len() >= self.rate.count() as usize => oldest + period(self.rate),
            _ => Micros::MIN,
        }
    }

    pub fn start(&mut self, now: Micros) {
        self.starts.push_back(now);
        if self.starts.len() > self.rate.count() as usize {
            self.starts.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn starts_are_spaced_a_little_wider_than_the_rate() {
        assert_eq!(Rate::per_second(1).spacing(), 1_020_000);
        assert_eq!(Rate::per_minute(300).spacing(), 204_000);
    }

    #[test]
    fn a_late_start_does_not_make_the_next_one_late() {
        let mut spacer = Spacer::new(Rate::per_second(50), 0);
        let mut now = 0;
        for _ in 0..500 {
            // Timers are a millisecond late.
            now = spacer.ready_at() + 1_000;
            spacer.start(now);
        }
        assert!(now < 10_300_000, "{now}: 97 % of the limit and more");
    }

    #[test]
    fn a_cap_lets_the_first_through_at_once_and_then_waits_for_the_window() {
        let mut cap = Cap::new(Rate::parse("2/h").unwrap(), [5]);
        assert_eq!(cap.ready_at(), Micros::MIN);
        cap.start(7);
        assert_eq!(cap.ready_at(), 3_600_000_005);
        cap.start(3_600_000_005);
        assert_eq!(cap.ready_at(), 3_600_000_007);
    }

    proptest! {
        /// Whatever the moments at which work comes, no window holds more than N starts.
        #[test]
        fn no_window_holds_more_than_the_limit(count in 1u32..20, gaps in prop::collection::vec(0i64..2_000_000, 1..200)) {
            let mut spacer = Spacer::new(Rate::per_second(count), 0);
            let mut now = 0;
            let mut starts = Vec::new();
            for gap in gaps.into_iter().map(|gap| if gap % 3 == 0 { gap } else { gap % 15_000 }) {
                now = (now + gap).max(spacer.ready_at());
                spacer.start(now);
                starts.push(now);
            }
            for (at, start) in starts.iter().enumerate() {
                let within = starts[at..].iter().take_while(|other| **other < start + 1_000_000).count();
                prop_assert!(within <= count as usize);
            }
        }
    }
}
