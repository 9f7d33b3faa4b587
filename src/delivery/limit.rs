//! Limits: how many requests may start in a period, and how many may be in flight.
//!
//! A limit decides, the caller waits. A limit of N per period means that in no window of that
//! length more than N requests start. Starts are therefore spaced evenly, 1.02 × period ÷ N apart,
//! and a new owner waits one spacing before its first, because it can't know when its
//! predecessor's last request started.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::dates;

/// Microseconds on the caller's clock.
pub type Micros = i64;

/// So many requests per period.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

/// Spaces the starts of one scope, and holds them back while the scope is frozen.
#[derive(Debug, Clone)]
pub struct Spacer {
    spacing: Micros,
    next: Micros,
    frozen_until: Micros,
}

impl Spacer {
    /// A scope taken over at `since`: its first start comes one spacing later.
    pub fn new(rate: Rate, since: Micros) -> Self {
        let spacing = rate.spacing();
        Self {
            spacing,
            next: since + spacing,
            frozen_until: Micros::MIN,
        }
    }

    /// When the next request may start: `now` or earlier means at once.
    pub fn ready_at(&self) -> Micros {
        self.next.max(self.frozen_until)
    }

    /// Counts a start. Only to be called when [`Self::ready_at`] has come.
    pub fn start(&mut self, now: Micros) {
        debug_assert!(now >= self.ready_at(), "a start before its time breaks the limit");
        self.next = now + self.spacing;
    }

    /// Nothing starts before `until`; an earlier freeze that lasts longer stays.
    pub fn freeze(&mut self, until: Micros) {
        self.frozen_until = self.frozen_until.max(until);
    }

    pub fn frozen(&self, now: Micros) -> bool {
        self.frozen_until > now
    }

    pub fn spacing(&self) -> Micros {
        self.spacing
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
    fn a_freeze_holds_and_a_shorter_one_does_not_end_it() {
        let mut spacer = Spacer::new(Rate::per_second(1), 0);
        assert_eq!(spacer.ready_at(), 1_020_000, "a new owner waits one spacing");
        spacer.freeze(5_000_000);
        spacer.freeze(3_000_000);
        assert_eq!(spacer.ready_at(), 5_000_000);
        assert!(spacer.frozen(4_999_999) && !spacer.frozen(5_000_000));
    }

    proptest! {
        /// Whatever the moments at which work comes, no window holds more than N starts.
        #[test]
        fn no_window_holds_more_than_the_limit(count in 1u32..20, gaps in prop::collection::vec(0i64..2_000_000, 1..200)) {
            let mut spacer = Spacer::new(Rate::per_second(count), 0);
            let mut now = 0;
            let mut starts = Vec::new();
            for gap in gaps {
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
