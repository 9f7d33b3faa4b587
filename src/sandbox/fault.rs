//! Faults on order: which request meets which fault, for how long and how many times.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use serde::{Deserialize, Serialize, Serializer};
use tokio::time::Instant;

use super::limit::duration;

/// A fault as it is ordered.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct FaultOrder {
    /// A channel, a member, a webhook's last element or label, a CleverTap account, a Slack method, or `*`.
    #[serde(default = "everything")]
    pub target: String,
    pub kind: Kind,
    /// How long it lasts; until it is ended when there is neither this nor `times`.
    #[serde(
        default,
        rename = "for",
        deserialize_with = "duration",
        serialize_with = "written",
        skip_serializing_if = "Option::is_none"
    )]
    pub lasts: Option<Duration>,
    /// How many requests meet it (records, where it has an identity).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<u64>,
    /// Seconds; 0 sends no `Retry-After`. Without it, what is left of `for`, else 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// A Slack code, a webhook's words, or a CleverTap record code.
    #[serde(default, deserialize_with = "code", skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    #[serde(
        default,
        deserialize_with = "duration",
        serialize_with = "written",
        skip_serializing_if = "Option::is_none"
    )]
    pub delay: Option<Duration>,
    /// Only requests with this token or passcode.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<Fingerprint>,
    /// Only CleverTap records of this identity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<String>,
}

/// Why an order makes no fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct FaultError(&'static str);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// 429.
    RateLimit,
    /// Nothing happens, and no answer comes.
    Hang,
    /// It takes effect, and no answer comes.
    HangAfter,
    /// Nothing happens, and the connection is reset.
    Reset,
    /// It takes effect, and the connection is reset.
    ResetAfter,
    /// Status 500, or that which is asked for, with a page in HTML.
    #[serde(rename = "html_500")]
    Html500,
    /// The status that is asked for.
    Status,
    /// The provider's own error that is asked for.
    Error,
    /// The answer comes late by `delay`.
    Slow,
}

impl FaultOrder {
    /// An order without limits.
    #[cfg(test)]
    pub(crate) fn new(target: impl Into<String>, kind: Kind) -> Self {
        Self {
            target: target.into(),
            kind,
            lasts: None,
            times: None,
            retry_after: None,
            status: None,
            error: None,
            delay: None,
            token: None,
            identity: None,
        }
    }

    /// The missing or wrong part of an order.
    pub(super) fn check(&self) -> Result<(), FaultError> {
        let words = match self.kind {
            Kind::Status if self.status.is_none() => "a status fault needs \"status\", such as 503",
            Kind::Error if self.error.is_none() => "an error fault needs \"error\", such as \"is_archived\" or 555",
            Kind::Slow if self.delay.is_none() => "a slow fault needs \"delay\", such as \"2s\"",
            kind if self.identity.is_some() && kind != Kind::Error => "only an error fault takes \"identity\"",
            _ if self.status.is_some_and(|status| !(200..=599).contains(&status)) => {
                "\"status\" is an HTTP status from 200 to 599"
            }
            _ => return Ok(()),
        };
        Err(FaultError(words))
    }
}

/// A fault that a request met.
#[derive(Debug, Clone)]
pub(super) struct Fault {
    pub(super) id: u64,
    pub(super) order: FaultOrder,
    pub(super) until: Option<Instant>,
}

impl Fault {
    /// The `Retry-After` of its 429: the seconds that the order names, else those that are left of the fault.
    pub(super) fn retry_after(&self, now: Instant) -> Option<u32> {
        let left = || self.until.map_or(1, |until| super::limit::whole_seconds(until - now));
        Some(self.order.retry_after.unwrap_or_else(left)).filter(|&seconds| seconds > 0)
    }
}

#[derive(Debug, Default)]
pub(super) struct Faults {
    faults: Vec<Fault>,
    last: u64,
}

impl Faults {
    pub(super) fn add(&mut self, order: FaultOrder, now: Instant) -> u64 {
        self.last += 1;
        let until = order.lasts.map(|lasts| now + lasts);
        self.faults.push(Fault {
            id: self.last,
            order,
            until,
        });
        self.last
    }

    pub(super) fn remove(&mut self, id: u64) -> bool {
        let before = self.faults.len();
        self.faults.retain(|fault| fault.id != id);
        self.faults.len() < before
    }

    pub(super) fn clear(&mut self) {
        self.faults.clear();
    }

    /// Those in force, and those that some request still hangs in.
    pub(super) fn list(&mut self, now: Instant) -> &[Fault] {
        self.faults.retain(|fault| fault.until.is_none_or(|until| now < until));
        &self.faults
    }

    /// How long it delays a request, and the oldest other fault that it meets.
    pub(super) fn meet(&mut self, names: &[&str], credential: Fingerprint, now: Instant) -> (Duration, Option<Fault>) {
        let mut delay = Duration::ZERO;
        let mut met = None;
        for fault in &mut self.faults {
            let order = &mut fault.order;
            let is_slow = order.kind == Kind::Slow;
            if order.identity.is_some() || (!is_slow && met.is_some()) || !order.concerns(names, credential) {
                continue;
            }
            if fault.until.is_some_and(|until| until <= now) || !order.take() {
                continue;
            }
            if is_slow {
                delay += order.delay.unwrap_or_default();
            } else {
                met = Some(fault.clone());
            }
        }
        self.prune(now);
        (delay, met)
    }

    /// The error code that a record of that identity meets.
    pub(super) fn meet_record(
        &mut self,
        names: &[&str],
        credential: Fingerprint,
        identity: &str,
        now: Instant,
    ) -> Option<String> {
        let code = self.faults.iter_mut().find_map(|fault| {
            let order = &mut fault.order;
            let is_for_it = order.identity.as_deref() == Some(identity) && order.concerns(names, credential);
            let is_over = fault.until.is_some_and(|until| until <= now);
            (is_for_it && !is_over && order.take()).then(|| order.error.clone())?
        });
        if code.is_some() {
            self.prune(now);
        }
        code
    }

    /// Until when a request that met the fault hangs: `None` when it is over, `Some(None)` without an end.
    pub(super) fn hang_left(&self, id: u64, now: Instant) -> Option<Option<Instant>> {
        let fault = self.faults.iter().find(|fault| fault.id == id)?;
        fault.until.is_none_or(|until| now < until).then_some(fault.until)
    }

    /// Drops what nobody can meet any more; a hang is kept for those that are in it.
    fn prune(&mut self, now: Instant) {
        self.faults.retain(|fault| {
            let is_over = fault.until.is_some_and(|until| until <= now);
            let is_hang = matches!(fault.order.kind, Kind::Hang | Kind::HangAfter);
            !is_over && (is_hang || fault.order.times != Some(0))
        });
    }
}

impl FaultOrder {
    fn concerns(&self, names: &[&str], credential: Fingerprint) -> bool {
        (self.target == "*" || names.contains(&self.target.as_str()))
            && self.token.is_none_or(|token| token == credential)
    }

    /// Uses it once; false when it is used up.
    fn take(&mut self) -> bool {
        match &mut self.times {
            Some(0) => false,
            Some(times) => {
                *times -= 1;
                true
            }
            None => true,
        }
    }
}

/// Tells secrets apart without keeping them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(from = "String")]
pub struct Fingerprint(u64);

impl Fingerprint {
    pub fn of(secret: &str) -> Self {
        let mut hasher = DefaultHasher::new();
        secret.hash(&mut hasher);
        Self(hasher.finish())
    }
}

impl From<String> for Fingerprint {
    fn from(secret: String) -> Self {
        Self::of(&secret)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:08x}", self.0 >> 32)
    }
}

impl Serialize for Fingerprint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

fn everything() -> String {
    "*".to_owned()
}

/// An error code, as text or as a number.
fn code<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    match serde_json::Value::deserialize(deserializer)? {
        serde_json::Value::String(text) => Ok(Some(text)),
        serde_json::Value::Number(number) => Ok(Some(number.to_string())),
        _ => Err(serde::de::Error::custom("no error code: write a text or a number")),
    }
}

fn written<S: Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    let milliseconds = duration.unwrap_or_default().as_millis();
    serializer.collect_str(&format_args!("{milliseconds}ms"))
}
