//! The sandbox's memory, and the steps that all of its services share: meet faults, keep limits, note the arrival.

use std::collections::HashMap;

use jiff::Timestamp;
use tokio::time::Instant;

use super::fault::{Fault, Faults, Fingerprint, Kind};
use super::limit::{Gate, Rate, whole_seconds};
use super::log::{Arrival, Log};
use super::{Decision, Ending, Reply, Settings};

#[derive(Debug)]
pub(super) struct State {
    pub(super) log: Log,
    pub(super) faults: Faults,
    pub(super) channels: HashMap<String, Channel>,
    /// Tokens, passcodes and webhooks that are refused, with the error.
    pub(super) refused: HashMap<Fingerprint, String>,
    /// The scopes that a token has been granted, where these aren't all.
    pub(super) granted: HashMap<Fingerprint, String>,
    pub(super) limits: Limits,
    gates: HashMap<(LimitKind, String), Gate>,
    settings: Settings,
    started: Instant,
    started_at: Timestamp,
    last_ts: u64,
}

/// A channel that differs from the others.
#[derive(Debug, Clone, Copy)]
pub(super) struct Channel {
    pub(super) exists: bool,
    pub(super) joined: bool,
    pub(super) joinable: bool,
    pub(super) archived: bool,
    /// Whether a direct channel can be posted to before `conversations.open`.
    pub(super) open: bool,
}

impl Default for Channel {
    fn default() -> Self {
        Self {
            exists: true,
            joined: true,
            joinable: true,
            archived: false,
            open: true,
        }
    }
}

/// The limits in force: the settings, and those that are ordered for one name.
#[derive(Debug, Clone)]
pub(super) struct Limits {
    pub(super) settings: Settings,
    pub(super) rates: HashMap<(LimitKind, String), Rate>,
    pub(super) concurrency: HashMap<String, usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum LimitKind {
    Channel,
    Webhook,
    Workspace,
    Method,
}

/// Something that has a limit.
#[derive(Debug, Clone)]
pub(super) struct Limited {
    pub(super) kind: LimitKind,
    /// The key of its gate, such as a channel in a workspace.
    pub(super) key: String,
    /// The name under which a limit is ordered, such as the channel.
    pub(super) name: String,
}

/// What a request met on its way.
#[derive(Debug)]
pub(super) struct Met {
    pub(super) now: Instant,
    /// When the answer goes out.
    pub(super) answered: Instant,
    pub(super) fault: Option<Fault>,
}

/// What a service makes of a request.
#[derive(Debug)]
pub(super) struct Verdict {
    pub(super) reply: Reply,
    pub(super) accepted: bool,
    pub(super) error: Option<String>,
}

impl State {
    pub(super) fn new(settings: Settings) -> Self {
        #[expect(
            clippy::disallowed_methods,
            reason = "the log's times; decisions are made by tokio's clock"
        )]
        let started_at = Timestamp::now();
        Self {
            log: Log::new(settings.log_max, settings.log_texts),
            faults: Faults::default(),
            channels: HashMap::new(),
            refused: HashMap::new(),
            granted: HashMap::new(),
            limits: Limits {
                settings: settings.clone(),
                rates: HashMap::new(),
                concurrency: HashMap::new(),
            },
            gates: HashMap::new(),
            settings,
            started: Instant::now(),
            started_at,
            last_ts: 0,
        }
    }

    /// Forgets all but the requests in flight and the numbering of arrivals and messages.
    pub(super) fn reset(&mut self) {
        self.log.clear();
        self.log.keep(self.settings.log_max);
        self.log.texts = self.settings.log_texts;
        self.log.reset_counts();
        self.faults.clear();
        self.channels.clear();
        self.refused.clear();
        self.granted.clear();
        self.gates.clear();
        self.limits = Limits {
            settings: self.settings.clone(),
            rates: HashMap::new(),
            concurrency: HashMap::new(),
        };
    }

    pub(super) fn meet(&mut self, names: &[&str], credential: Fingerprint, now: Instant) -> Met {
        let (delay, fault) = self.faults.meet(names, credential, now);
        Met {
            now,
            answered: now + delay + self.limits.settings.latency,
            fault,
        }
    }

    /// Whether the client still has to wait for one of these.
    pub(super) fn must_wait(&self, limited: &[Limited], now: Instant) -> bool {
        limited.iter().any(|one| {
            self.gates
                .get(&(one.kind, one.key.clone()))
                .is_some_and(|gate| gate.is_broken_by(now))
        })
    }

    /// Admits the request to all of these, or says which refuses it and for how many seconds; that one then stays
    /// shut so long.
    pub(super) fn admit<'a>(&mut self, limited: &'a [Limited], met: &Met) -> Result<(), (&'a Limited, u32)> {
        for one in limited {
            let rate = self.limits.rate(one);
            if let Some(wait) = self.gate(one).wait(rate, met.now) {
                let seconds = whole_seconds(wait);
                self.gate(one).shut(met.answered, seconds);
                return Err((one, seconds));
            }
        }
        for one in limited {
            let rate = self.limits.rate(one);
            self.gate(one).admit(rate, met.now);
        }
        Ok(())
    }

    /// Shuts one for as long as an ordered 429 says.
    pub(super) fn shut(&mut self, one: &Limited, met: &Met, seconds: u32) {
        self.gate(one).shut(met.answered, seconds);
    }

    /// The keys of so many new messages: microseconds of the wall clock, each greater than any before.
    pub(super) fn stamp(&mut self, messages: u64, now: Instant) -> u64 {
        let start = u64::try_from(self.started_at.as_microsecond()).unwrap_or_default();
        let elapsed = u64::try_from((now - self.started).as_micros()).unwrap_or_default();
        let first = (start + elapsed).max(self.last_ts + 1);
        self.last_ts = first + messages - 1;
        first
    }

    /// Notes the request with its parts, and gives how it ends.
    pub(super) fn settle(
        &mut self,
        mut arrival: Arrival,
        met: &Met,
        verdict: Verdict,
        parts: Vec<Arrival>,
    ) -> Decision {
        let ending = met.ending();
        let status = (ending == Ending::Answer).then_some(verdict.reply.status);
        let target = arrival.target.clone();
        arrival.accepted = verdict.accepted;
        arrival.error = verdict.error.map(Into::into);
        let fault = met.fault.as_ref().map(|fault| fault.id);
        let mut request = None;
        for mut arrival in std::iter::once(arrival).chain(parts) {
            self.date(&mut arrival, met.now);
            arrival.status = status;
            arrival.fault = arrival.fault.or(fault);
            arrival.request = request;
            let seq = self.log.push(arrival);
            request = request.or(Some(seq));
        }
        Decision {
            target,
            reply: verdict.reply,
            delay: met.answered - met.now,
            ending,
        }
    }

    fn date(&self, arrival: &mut Arrival, now: Instant) {
        let elapsed = (now - self.started).as_millis();
        arrival.at_ms = u64::try_from(elapsed).unwrap_or(u64::MAX);
        let at = i64::try_from(elapsed)
            .ok()
            .and_then(|elapsed| elapsed.checked_add(self.started_at.as_millisecond()));
        arrival.at = at
            .and_then(|at| Timestamp::from_millisecond(at).ok())
            .unwrap_or(Timestamp::MAX);
    }

    fn gate(&mut self, one: &Limited) -> &mut Gate {
        self.gates.entry((one.kind, one.key.clone())).or_default()
    }
}

impl Limits {
    pub(super) fn concurrency(&self, account: &str) -> usize {
        self.concurrency
            .get(account)
            .copied()
            .unwrap_or(self.settings.clevertap_concurrency)
    }

    fn rate(&self, one: &Limited) -> Rate {
        let ordered = self.rates.get(&(one.kind, one.name.clone())).copied();
        ordered.unwrap_or(match one.kind {
            LimitKind::Channel => self.settings.channel_rate,
            LimitKind::Webhook => self.settings.webhook_rate,
            LimitKind::Workspace => self.settings.workspace_rate,
            LimitKind::Method => self.settings.method_rate,
        })
    }
}

impl Met {
    /// The fault, when it is of that kind.
    pub(super) fn fault(&self, kind: Kind) -> Option<&Fault> {
        self.fault.as_ref().filter(|fault| fault.order.kind == kind)
    }

    /// The end of a request that never reaches the service.
    pub(super) fn intercept(&self) -> Option<Verdict> {
        let order = &self.fault.as_ref()?.order;
        let status = order.status.unwrap_or(500);
        let (reply, error) = match order.kind {
            Kind::Hang => (Reply::text(status, ""), "hang"),
            Kind::Reset => (Reply::text(status, ""), "reset"),
            Kind::Html500 => (Reply::html(status), "html_500"),
            Kind::Status => {
                let words = order.error.as_deref().unwrap_or_default();
                (Reply::text(status, words).retry_after(order.retry_after), "status")
            }
            Kind::HangAfter | Kind::ResetAfter | Kind::RateLimit | Kind::Error | Kind::Slow => return None,
        };
        Some(Verdict {
            reply,
            accepted: false,
            error: Some(error.to_owned()),
        })
    }

    fn ending(&self) -> Ending {
        match &self.fault {
            Some(fault) => match fault.order.kind {
                Kind::Hang | Kind::HangAfter => Ending::Hang(fault.id),
                Kind::Reset | Kind::ResetAfter => Ending::Cut,
                _ => Ending::Answer,
            },
            None => Ending::Answer,
        }
    }
}

impl Limited {
    pub(super) fn new(kind: LimitKind, key: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            kind,
            key: key.into(),
            name: name.into(),
        }
    }
}

/// A message's key as Slack writes it.
pub(super) fn written_ts(microseconds: u64) -> String {
    format!("{}.{:06}", microseconds / 1_000_000, microseconds % 1_000_000)
}
