//! Rates and the gates that keep them.
//!
//! A gate admits at most `count × burst` requests in any `period × burst`, so that a burst is followed by its silence.
//! After a 429 it stays shut until `Retry-After` is over, whatever the rate would allow: that is what providers ask for.

use std::collections::VecDeque;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, de};
use tokio::time::Instant;

/// So many requests per period; a count of 0 is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    pub count: u32,
    pub period: Duration,
    /// How many counts may come at once.
    pub burst: u32,
}

/// Why a rate or a duration can't be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RateError {
    #[error("no rate: write it as \"1/s\", \"300/m\" or \"20/h\", or as \"0\" for no limit")]
    Rate,
    #[error("no duration: write it as \"500ms\", \"30s\", \"2m\" or \"1h\"")]
    Duration,
}

impl Rate {
    /// A rate with a burst of 1.
    pub const fn new(count: u32, period: Duration) -> Self {
        Self {
            count,
            period,
            burst: 1,
        }
    }
}

impl FromStr for Rate {
    type Err = RateError;

    fn from_str(text: &str) -> Result<Self, RateError> {
        if text == "0" {
            return Ok(Self::new(0, Duration::from_secs(1)));
        }
        let (count, period) = text.split_once('/').ok_or(RateError::Rate)?;
        let seconds = match period {
            "s" => 1,
            "m" => 60,
            "h" => 3600,
            _ => return Err(RateError::Rate),
        };
        let count = count.parse().map_err(|_| RateError::Rate)?;
        Ok(Self::new(count, Duration::from_secs(seconds)))
    }
}

impl<'de> Deserialize<'de> for Rate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

/// Reads a duration with its unit, as orders write it.
pub(super) fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse_duration(&text).map(Some).map_err(de::Error::custom)
}

fn parse_duration(text: &str) -> Result<Duration, RateError> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (count, unit) = text.split_at(digits);
    let factor = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(RateError::Duration),
    };
    let milliseconds = count.parse::<u32>().map_err(|_| RateError::Duration)?;
    Ok(Duration::from_millis(u64::from(milliseconds) * factor))
}

/// What one limited thing (a channel, a webhook, a workspace, a method) has admitted, and until when it is shut.
#[derive(Debug, Default)]
pub(super) struct Gate {
    admitted: VecDeque<Instant>,
    /// From the answer of a 429 until its `Retry-After` is over.
    shut: Option<(Instant, Instant)>,
}

impl Gate {
    /// Whether a client that comes now should still wait.
    pub(super) fn is_broken_by(&self, now: Instant) -> bool {
        self.shut.is_some_and(|(from, until)| from <= now && now < until)
    }

    /// How long a request of now is too early.
    pub(super) fn wait(&mut self, rate: Rate, now: Instant) -> Option<Duration> {
        let shut = self
            .shut
            .and_then(|(_, until)| until.checked_duration_since(now))
            .filter(|wait| !wait.is_zero());
        if shut.is_some() {
            return shut;
        }
        let burst = rate.burst.max(1);
        let window = rate.period * burst;
        while self.admitted.front().is_some_and(|&at| at + window <= now) {
            self.admitted.pop_front();
        }
        let room = (rate.count as usize).saturating_mul(burst as usize);
        if room == 0 || self.admitted.len() < room {
            return None;
        }
        // The request after which there is room again; not the oldest where the rate was lowered meanwhile.
        let leaver = self.admitted[self.admitted.len() - room];
        Some(leaver + window - now)
    }

    pub(super) fn admit(&mut self, rate: Rate, now: Instant) {
        if rate.count > 0 {
            self.admitted.push_back(now);
        }
    }

    /// Shuts for so many seconds from the answer on.
    pub(super) fn shut(&mut self, answered: Instant, seconds: u32) {
        let until = answered + Duration::from_secs(seconds.into());
        self.shut = Some(match self.shut {
            Some((from, old)) if old > answered => (from.min(answered), old.max(until)),
            _ => (answered, until),
        });
    }
}

/// Whole seconds that cover the wait, at least one: what `Retry-After` can say.
pub(super) fn whole_seconds(wait: Duration) -> u32 {
    let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    u32::try_from(seconds).unwrap_or(u32::MAX).max(1)
}
