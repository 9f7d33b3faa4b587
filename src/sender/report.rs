//! What the loop tells the outside: offsets to Kafka, gauges to Prometheus, refused credentials to people.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};

use super::Loop;
use super::read_back::NewerOutcomes;
use crate::action::Provider;
use crate::delivery::limit::Micros;
use crate::kafka::jobs::{CommitMode, Place};
use crate::metrics::FROZEN;

impl Loop {
    /// Commits the lowest unsettled offset of our partitions.
    pub(super) fn commit(&mut self, mode: CommitMode, only: Option<&[i32]>) {
        let mut offsets = BTreeMap::new();
        for (number, partition) in &mut self.partitions {
            if !partition.recalled || only.is_some_and(|only| !only.contains(number)) {
                continue;
            }
            let place = self
                .dispatch
                .place(*number)
                .filter(|place| place.offset > partition.committed || only.is_some());
            if let Some(place) = place {
                partition.committed = place.offset;
                offsets.insert(
                    *number,
                    Place {
                        offset: place.offset,
                        outcomes_from: place.outcomes_from,
                        trail: partition.trail.to_string(),
                    },
                );
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
        let now = (self.at.steady)();
        let mut waiting: HashMap<Provider, usize> = HashMap::new();
        let mut frozen: HashMap<(Provider, &str), usize> = HashMap::new();
        let mut ready = 0;
        for lane in self.dispatch.lanes(now) {
            *waiting.entry(lane.provider).or_default() += lane.waiting;
            if lane.frozen_until.is_some() {
                *frozen.entry((lane.provider, lane.frozen_why)).or_default() += 1;
            }
            ready += lane.ready;
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
        // Even when every request times out, so many end in a second.
        let sender = &self.at.config.sender;
        let slowest = sender.in_flight_max as f64 / sender.request_timeout.as_secs_f64();
        let capacity = ready as f64 / self.pace.per_second(now).max(slowest);
        let limit = self.dispatch.limit_wait(now) as f64 / 1e6;
        self.at.metrics.backlog(limit, capacity);
        self.at.metrics.dedup_reach(self.dispatch.dedup_reach(now));
        self.at.metrics.payload_bytes(self.dispatch.bytes());
    }

    /// The oldest job's age, and half of `job_age_max` is the time to look after it.
    pub(super) fn oldest(&mut self) {
        let age_max = self.at.config.sender.job_age_max;
        let oldest = self.dispatch.oldest((self.at.steady)());
        self.at.metrics.oldest_job_age(oldest.unwrap_or_default());
        let old = oldest.filter(|age| *age > age_max / 2);
        if let Some(age) = old.filter(|_| !self.old) {
            tracing::warn!(
                age_seconds = age.as_secs(),
                job_age_max_seconds = age_max.as_secs(),
                "the oldest waiting job is past half of sender.job_age_max, after which it becomes a dead letter"
            );
        }
        self.old = old.is_some();
    }

    /// Says what a newer version wrote and what that holds up: to Prometheus, to who asks whether we are ready, and
    /// once to the log.
    pub(super) fn unreadable(&mut self) {
        let (mut count, mut now) = (0, BTreeSet::new());
        for (credential, jobs, needs) in self.dispatch.held() {
            count += jobs;
            now.insert(format!("{credential} is held by jobs of a newer version: {needs}"));
        }
        let topic = &self.at.config.topics.outcomes;
        for (number, partition) in &self.partitions {
            let Some(NewerOutcomes { outcomes, needs }) = &partition.newer else {
                continue;
            };
            count += outcomes;
            now.insert(format!(
                "partition {number} of {topic} has outcomes of a newer version, and is not taken over: {needs}"
            ));
        }
        self.at.metrics.unreadable_records(count);
        if now == self.unreadable {
            return;
        }
        for held in now.difference(&self.unreadable) {
            tracing::warn!("{held}; upgrade the senders");
        }
        for held in self.unreadable.difference(&now) {
            tracing::info!("no longer: {held}");
        }
        let mut lines: Vec<String> = now.iter().take(LINES_MAX).cloned().collect();
        if now.len() > LINES_MAX {
            lines.push(format!("and {} more", now.len() - LINES_MAX));
        }
        self.at.unreadable.send_replace(lines);
        self.unreadable = now;
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
        let failing = self.dispatch.failing();
        for (credential, lanes) in &failing {
            if !self.failing.contains(*credential) {
                tracing::warn!(
                    credential,
                    lanes,
                    "lanes of the credential fail again and again; each of them gets one request at a time until one is taken"
                );
            }
        }
        for credential in &self.failing {
            if !failing.contains_key(credential.as_str()) {
                tracing::info!(credential, "no lane of the credential fails any more");
            }
        }
        self.failing = failing.into_keys().map(str::to_owned).collect();
    }
}

/// The most lines of what is held up that are shown; the log has all of them.
const LINES_MAX: usize = 20;

/// How many jobs were answered for in the last minute, second by second.
#[derive(Debug, Default)]
pub(super) struct Pace {
    seconds: VecDeque<(Micros, usize)>,
}

const SECOND: Micros = 1_000_000;
const MINUTE: Micros = 60 * SECOND;

impl Pace {
    pub(super) fn sent(&mut self, count: usize, now: Micros) {
        match self.seconds.back_mut() {
            Some((second, counted)) if now - *second < SECOND => *counted += count,
            _ => self.seconds.push_back((now, count)),
        }
        while self.seconds.front().is_some_and(|(second, _)| now - second > MINUTE) {
            self.seconds.pop_front();
        }
    }

    fn per_second(&self, now: Micros) -> f64 {
        let recent = || self.seconds.iter().filter(|(second, _)| now - second <= MINUTE);
        let since = recent().map(|(second, _)| *second).next().unwrap_or(now);
        let count: usize = recent().map(|(_, count)| count).sum();
        count as f64 / ((now - since).max(SECOND) as f64 / SECOND as f64)
    }
}
