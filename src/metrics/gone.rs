//! Metrics about records that Kafka had and has no more.

use prometheus::{IntCounter, IntCounterVec};

use super::Maker;

/// Records that were in Kafka and are gone.
#[derive(Debug)]
pub(super) struct Gone {
    pub(super) events: IntCounter,
    pub(super) started_over: IntCounterVec,
}

impl Gone {
    pub(super) fn build(make: &Maker) -> prometheus::Result<Self> {
        Ok(Self {
            events: make.counter(
                "events_lost_total",
                "Lead events, records of inlets' topics and jobs gone from Kafka before they were read or sent.",
            )?,
            started_over: make.counters(
                "partitions_started_over_total",
                "Partitions whose records that were read are gone: the topic was made anew or lost its end.",
                &["topic"],
            )?,
        })
    }
}

/// The topics in which a place is remembered; a closed set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartedOver {
    Events,
    Rules,
    Jobs,
    Outcomes,
    /// The topics that inlets read.
    Inlets,
}

impl StartedOver {
    pub(super) const ALL: [Self; 5] = [Self::Events, Self::Rules, Self::Jobs, Self::Outcomes, Self::Inlets];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Events => "events",
            Self::Rules => "rules",
            Self::Jobs => "jobs",
            Self::Outcomes => "outcomes",
            Self::Inlets => "inlets",
        }
    }
}
