//! What the loop tells the outside: offsets to Kafka, gauges to Prometheus, refused credentials to people.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::Loop;
use crate::delivery::Provider;
use crate::kafka::jobs::CommitMode;
use crate::metrics::FROZEN;

impl Loop {
    /// Commits the lowest unsettled offset of our partitions.
    pub(super) fn commit(&mut self, mode: CommitMode, only: Option<&[i32]>) {
        let mut offsets = BTreeMap::new();
        for (number, partition) in &mut self.partitions {
            if only.is_some_and(|only| !only.contains(number)) {
                continue;
            }
            if let Some(place) = partition.place().filter(|(offset, _)| *offset > partition.committed) {
                partition.committed = place.0;
                offsets.insert(*number, place);
            }
        }
        if let Err(error) = self.jobs.commit(&offsets, mode) {
            tracing::warn!(%error, "offsets were not committed");
            for number in offsets.keys() {
                if let Some(partition) = self.partitions.get_mut(number) {
                    partition.committed = -1;
                }
            }
        }
    }

    pub(super) fn gauges(&self) {
        let now = (self.at.now)();
        let mut waiting: HashMap<Provider, usize> = HashMap::new();
        let mut frozen: HashMap<(Provider, &str), usize> = HashMap::new();
        let (mut limit, mut capacity) = (0.0_f64, 0.0_f64);
        for lane in self.dispatch.lanes(now) {
            *waiting.entry(lane.provider).or_default() += lane.waiting;
            if lane.frozen_until.is_some() {
                *frozen.entry((lane.provider, lane.frozen_why)).or_default() += 1;
            }
            // A lane that its own limit spaces is the limit's; one without is ours to drain faster.
            let seconds = lane.waiting as f64 * lane.spacing as f64 / 1e6;
            if lane.spacing > 0 || lane.frozen_until.is_some() {
                let frozen = lane.frozen_until.map_or(0.0, |until| (until - now) as f64 / 1e6);
                limit = limit.max(seconds + if lane.waiting > 0 { frozen } else { 0.0 });
            } else {
                capacity += lane.waiting as f64 / 1000.0;
            }
        }
        let in_flight = self.dispatch.in_flight_by_provider();
        for provider in Provider::ALL {
            let count = in_flight.get(&provider).copied().unwrap_or(0);
            self.at
                .metrics
                .waiting(provider, waiting.get(&provider).copied().unwrap_or(0), count);
            for reason in FROZEN {
                self.at
                    .metrics
                    .frozen(provider, reason, frozen.get(&(provider, reason)).copied().unwrap_or(0));
            }
        }
        self.at.metrics.backlog(limit, capacity);
        self.at.metrics.dedup_reach(self.dispatch.dedup_reach(now));
    }

    /// Says once when a credential is refused, and once when it works again.
    pub(super) fn credentials(&mut self) {
        let refused: HashSet<String> = self.dispatch.refused().into_iter().map(str::to_owned).collect();
        for credential in refused.difference(&self.refused) {
            tracing::error!(
                credential,
                "the credential is refused; its jobs wait, and it is probed until it works"
            );
        }
        for credential in self.refused.difference(&refused) {
            tracing::info!(credential, "the credential works again");
        }
        self.refused = refused;
    }
}
