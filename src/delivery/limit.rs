//! Limits: how many requests may start in a period, and how many may be in flight.
//!
//! A limit decides, the caller waits. A limit of N per period means that in no window of that
//! length more than N requests start. Starts are therefore spaced evenly, 1.02 × period ÷ N apart,
//! and a new owner waits one spacing before its first, because it can't know when its
//! predecessor's last request started.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::dates;

/// Microseconds on the caller's clock.
pub type Micros = i64;

/// So many requests per period.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Rate {
    count: u32,
    period: Duration,
}

impl Rate {
    pub fn per_second(count: u32) -> Self {
        Self {
            count,
            period: Duration::from_secs(1),
        }
    }

    pub fn per_minute(count: u32) -> Self {
        Self {
            count,
            period: Duration::from_secs(60),
        }
    }

    /// The time from one start to the next.
    pub fn spacing(self) -> Micros {
        let micros = self.period.as_micros() as f64 * 1.02 / f64::from(self.count);
        micros.ceil() as Micros
    }

    fn period(self) -> Micros {
        Micros::try_from(self.period.as_micros()).unwrap_or(Micros::MAX)
    }

    /// Reads `1/s`, `300/m` or `20/h`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (count, period) = dates::rate(text).map_err(|error| format!("{text:?} {error}"))?;
        Ok(Self { count, period })
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = match self.period.as_secs() {
            1 => "s",
            60 => "m",
            _ => "h",
        };
        write!(f, "{}/{unit}", self.count)
    }
}

impl Serialize for Rate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Rate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = match serde_json::Value::deserialize(deserializer)? {
            serde_json::Value::String(text) => text,
            other => other.to_string(),
        };
        // Nothing that is written in a configuration is quoted.
        let (count, period) = dates::rate(&text).map_err(serde::de::Error::custom)?;
        Ok(Self { count, period })
    }
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
            slack: rate.period() / 100,
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
        let beyond = self.starts.len().saturating_sub(self.rate.count as usize);
        self.starts.drain(..beyond);
    }

    pub fn into_starts(self) -> VecDeque<Micros> {
        self.starts
    }

    pub fn ready_at(&self) -> Micros {
        match self.starts.front() {
            Some(oldest) if self.starts.len() >= self.rate.count as usize => oldest + self.rate.period(),
            _ => Micros::MIN,
        }
    }

    pub fn start(&mut self, now: Micros) {
        self.starts.push_back(now);
        if self.starts.len() > self.rate.count as usize {
            self.starts.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn rates_read_and_print() {
        for text in ["1/s", "300/m", "20/h"] {
            assert_eq!(Rate::parse(text).unwrap().to_string(), text);
        }
        for text in ["", "1", "0/s", "1/d", "-1/s", "1.5/s", "x/s"] {
            assert!(Rate::parse(text).is_err(), "{text}");
        }
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
