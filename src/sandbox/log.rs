//! The log of arrivals, and the counts of each target.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Display;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

/// One thing that arrived, with what it was answered.
#[derive(Debug, Clone, Serialize)]
pub struct Arrival {
    /// Counts from 1, without gaps.
    pub seq: u64,
    #[serde(serialize_with = "as_text")]
    pub at: Timestamp,
    /// Milliseconds since the sandbox was made, by a clock that never jumps.
    pub at_ms: u64,
    pub kind: ArrivalKind,
    /// The address: a channel, a member, a webhook's label, a CleverTap account; else the method.
    #[serde(serialize_with = "as_text")]
    pub target: Arc<str>,
    /// The Slack channel that the target stands for, where it is another: a member's direct channel.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channel: Option<Box<str>>,
    /// The label of the token's workspace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workspace: Option<Box<str>>,
    /// The Slack method, or the kind of request.
    pub method: &'static str,
    /// Whether it took effect, which the client may not have learnt.
    pub accepted: bool,
    /// The HTTP status; none when there was no answer.
    pub status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<Box<str>>,
    /// The id of the fault that was met.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fault: Option<u64>,
    /// Whether the client came before a `Retry-After` was over.
    pub inside_retry_after: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<Box<str>>,
    /// Whom and what a Slack message mentions, as Slack reads its text: `!here`, `@U0123ABCD`, `#C0123ABCD`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mentions: Vec<Box<str>>,
    /// A Slack message's other arguments, but for token and channel, as JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub arguments: Option<Box<RawValue>>,
    /// The key of an accepted Slack message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ts: Option<Box<str>>,
    /// The message that a Slack message replies to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub thread_ts: Option<Box<str>>,
    /// How many records a CleverTap request held, where it could be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub records: Option<u32>,
    /// A CleverTap record, and the request that it came in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub record: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<Box<str>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ArrivalKind {
    SlackMessage,
    SlackWebhook,
    /// A Slack method that posts nothing.
    SlackCall,
    /// A CleverTap request; those that were read in full have their records after them.
    ClevertapRequest,
    ClevertapRecord,
}

impl Arrival {
    /// An arrival of which nothing else is known yet.
    pub(super) fn new(kind: ArrivalKind, target: Arc<str>, method: &'static str) -> Self {
        Self {
            seq: 0,
            at: Timestamp::UNIX_EPOCH,
            at_ms: 0,
            kind,
            target,
            channel: None,
            workspace: None,
            method,
            accepted: false,
            status: None,
            error: None,
            fault: None,
            inside_retry_after: false,
            text: None,
            mentions: Vec::new(),
            arguments: None,
            ts: None,
            thread_ts: None,
            records: None,
            record: None,
            request: None,
            traceparent: None,
        }
    }
}

/// What one target has seen. A CleverTap account's records are counted as accepted or refused, its requests are not.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    pub requests: u64,
    pub accepted: u64,
    pub refused: u64,
    /// Requests that were answered with 429.
    pub rate_limited: u64,
    /// Requests that got no answer.
    pub unanswered: u64,
    /// Requests inside a `Retry-After`.
    pub violations: u64,
    pub in_flight: u64,
    pub in_flight_max: u64,
}

#[derive(Debug)]
pub(super) struct Log {
    arrivals: VecDeque<Arrival>,
    last: u64,
    max: usize,
    /// Whether texts, arguments and records are kept.
    pub(super) texts: bool,
    counts: BTreeMap<Arc<str>, Counts>,
}

impl Log {
    pub(super) fn new(max: usize, texts: bool) -> Self {
        Self {
            arrivals: VecDeque::new(),
            last: 0,
            max,
            texts,
            counts: BTreeMap::new(),
        }
    }

    /// Counts a request as in flight; gives its target, shared, and how many there are now.
    pub(super) fn enter(&mut self, target: &str) -> (Arc<str>, u64) {
        let target = match self.counts.get_key_value(target) {
            Some((known, _)) => Arc::clone(known),
            None => Arc::from(target),
        };
        let counts = self.counts.entry(Arc::clone(&target)).or_default();
        counts.in_flight += 1;
        counts.in_flight_max = counts.in_flight_max.max(counts.in_flight);
        (target, counts.in_flight)
    }

    pub(super) fn leave(&mut self, target: &str) {
        if let Some(counts) = self.counts.get_mut(target) {
            counts.in_flight = counts.in_flight.saturating_sub(1);
        }
    }

    /// Numbers, counts and keeps an arrival.
    pub(super) fn push(&mut self, mut arrival: Arrival) -> u64 {
        self.last += 1;
        arrival.seq = self.last;
        self.count(&arrival);
        self.arrivals.push_back(arrival);
        if self.arrivals.len() > self.max {
            self.arrivals.pop_front();
        }
        self.last
    }

    /// Keeps so many arrivals from now on, the newest.
    pub(super) fn keep(&mut self, max: usize) {
        self.max = max;
        let gone = self.arrivals.len().saturating_sub(max);
        self.arrivals.drain(..gone);
        self.arrivals.shrink_to(max);
    }

    pub(super) fn since(&self, seq: u64) -> impl DoubleEndedIterator<Item = &Arrival> {
        self.arrivals
            .range(self.arrivals.partition_point(|arrival| arrival.seq <= seq)..)
    }

    pub(super) fn summary(&self) -> Vec<(Arc<str>, Counts)> {
        self.counts
            .iter()
            .map(|(target, counts)| (Arc::clone(target), *counts))
            .collect()
    }

    /// Forgets the arrivals; the numbering goes on.
    pub(super) fn clear(&mut self) {
        self.arrivals = VecDeque::new();
    }

    /// Starts the counts again, but for what is in flight.
    pub(super) fn reset_counts(&mut self) {
        self.counts.retain(|_, counts| {
            *counts = Counts {
                in_flight: counts.in_flight,
                in_flight_max: counts.in_flight,
                ..Counts::default()
            };
            counts.in_flight > 0
        });
    }

    fn count(&mut self, arrival: &Arrival) {
        let counts = self.counts.entry(Arc::clone(&arrival.target)).or_default();
        let is_record = arrival.kind == ArrivalKind::ClevertapRecord;
        counts.requests += u64::from(!is_record);
        counts.violations += u64::from(arrival.inside_retry_after);
        if arrival.status == Some(429) {
            counts.rate_limited += 1;
        } else if arrival.status.is_none() && !is_record {
            counts.unanswered += 1;
        }
        if arrival.kind == ArrivalKind::ClevertapRequest && arrival.accepted {
            return; // Its records count.
        }
        counts.accepted += u64::from(arrival.accepted);
        let refused = !arrival.accepted && (is_record || arrival.status.is_some_and(|status| status != 429));
        counts.refused += u64::from(refused);
    }
}

fn as_text<S: Serializer>(value: &impl Display, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}
