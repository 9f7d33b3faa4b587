//! The lanes as metrics and people see them.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use super::slots::FAILED_MAX;
use super::{Credential, Dispatch, Micros, Number, Provider, Standing};
use crate::delivery::limit::Spacer;

/// A lane as metrics and people see it.
#[derive(Debug, Clone)]
pub struct LaneView {
    pub provider: Provider,
    pub waiting: usize,
    /// Jobs that their limits would let go now.
    pub ready: usize,
    pub frozen_until: Option<Micros>,
    /// While nothing of it may start: the metric's reason.
    pub frozen_why: Option<&'static str>,
}

impl Dispatch {
    /// Every lane that we have met.
    pub fn lanes(&self, now: Micros) -> impl Iterator<Item = LaneView> {
        self.lanes.iter().map(move |lane| {
            let credential = &self.credentials[lane.credential];
            let until = lane.frozen_until.max(credential.frozen_until);
            let frozen_until = Some(until).filter(|until| *until > now);
            let paused = self.is_lane_paused(lane) || self.is_credential_paused(credential);
            let may = !paused
                && lane.queued.is_some_and(|(at, _)| at <= now)
                && until <= now
                && !self.held.holds(&credential.id);
            let ready = match credential.pacing.batch {
                _ if !may => 0,
                None => 1,
                Some(_) => lane.lane.len(),
            };
            LaneView {
                provider: credential.pacing.provider,
                waiting: lane.lane.len(),
                ready,
                frozen_until,
                frozen_why: match (paused, frozen_until) {
                    (true, _) => Some("paused"),
                    (false, None) => None,
                    (false, Some(_)) if credential.refused.is_some() => Some("credential_refused"),
                    (false, Some(_)) => Some("throttled"),
                },
            }
        })
    }

    /// The longest that limits alone make anything wait: what is left of a freeze, and the time that
    /// the limit of a lane, or of a credential, needs for all that waits under it.
    pub fn limit_wait(&self, now: Micros) -> Micros {
        let spacing = |spacer: &Option<Spacer>| spacer.as_ref().map_or(0, Spacer::spacing);
        let wait = |waiting: usize, spacing: Micros, frozen_until: Micros| match waiting {
            0 => 0,
            waiting => frozen_until.max(now) - now + spacing.saturating_mul(waiting as Micros),
        };
        let mut under: HashMap<Number<Credential>, usize> = HashMap::new();
        let mut longest = 0;
        for lane in self.lanes.iter() {
            let waiting = lane.lane.len();
            *under.entry(lane.credential).or_default() += waiting;
            longest = longest.max(wait(waiting, spacing(&lane.spacer), lane.frozen_until));
        }
        let waits = under.into_iter().map(|(credential, waiting)| {
            let credential = &self.credentials[credential];
            wait(waiting, spacing(&credential.spacer), credential.frozen_until)
        });
        waits.fold(longest, Micros::max)
    }

    /// The credentials that are refused now.
    pub fn refused(&self) -> HashSet<&str> {
        let refused = self
            .credentials
            .iter()
            .filter(|credential| credential.refused.is_some());
        refused.map(|credential| credential.id.as_str()).collect()
    }

    /// The credentials that are down or have lanes that failed several times in a row, and how many lanes those are.
    pub fn failing(&self) -> HashMap<&str, usize> {
        let mut failing = HashMap::new();
        for lane in self.lanes.iter().filter(|lane| lane.standing == Standing::Fails) {
            let credential = &self.credentials[lane.credential];
            if lane.failed < FAILED_MAX && !credential.slots.is_down() {
                continue;
            }
            *failing.entry(credential.id.as_str()).or_default() += 1;
        }
        failing
    }

    pub fn in_flight_by_provider(&self) -> HashMap<Provider, usize> {
        let mut counts = HashMap::new();
        for credential in self.credentials.iter() {
            *counts.entry(credential.pacing.provider).or_default() += credential.slots.taken();
        }
        counts
    }

    /// Jobs that wait in memory or in Kafka, those that are to end without being sent among them.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        let lanes = self.lanes.iter().map(|lane| lane.lane.len());
        let doomed = self.doomed.iter().map(|(_, backlog)| backlog.len());
        lanes.chain(doomed).sum()
    }

    /// The age of the oldest job that isn't settled.
    pub fn oldest(&self, now: Micros) -> Option<Duration> {
        let written = self.ledger.oldest()?;
        Some(Duration::from_millis(
            u64::try_from(self.wall(now) / 1000 - written).unwrap_or_default(),
        ))
    }

    /// How far back a repeated event is known to have been sent.
    pub fn dedup_reach(&self, now: Micros) -> Duration {
        self.sent.reach(now)
    }
}
