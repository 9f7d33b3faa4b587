//! Whose turn it is: when a lane may start its next request, with all limits that nest over it.

use std::sync::Arc;

use super::{ActionType, Credential, DeliveryJob, Dispatch, Lane, LaneState, Micros, Provider, Spacer, micros};

impl Dispatch {
    pub(super) fn lane(&mut self, job: &DeliveryJob, host: Arc<str>, now: Micros) -> usize {
        let id = job.lane();
        if let Some(lane) = self.by_id.get(&id) {
            return *lane;
        }
        // A limit counts from when we took over, not from when a lane was first seen.
        let since = self.partitions.values().copied().max().unwrap_or(now);
        let settings = &self.settings;
        let provider = job.action.provider();
        let rate = |channel: Option<&str>| {
            settings
                .rates
                .get(&(job.credential.clone(), channel.map(str::to_owned)))
                .copied()
        };
        let spacer = match job.action {
            ActionType::SlackMessage => Some(rate(Some(&job.destination)).unwrap_or(settings.channel_rate)),
            ActionType::SlackWebhook => Some(rate(None).unwrap_or(settings.webhook_rate)),
            ActionType::ClevertapProfile | ActionType::ClevertapEvent => None,
        };
        let workspace = (job.action == ActionType::SlackMessage).then(|| rate(None).unwrap_or(settings.workspace_rate));
        let quarter = (settings.in_flight_max / 4).max(1);
        let concurrency = settings.concurrency.get(&job.credential).copied().unwrap_or(quarter);
        self.credentials
            .entry(job.credential.clone())
            .or_insert_with(|| Credential {
                spacer: workspace.map(|rate| Spacer::new(rate, since)),
                in_flight: 0,
                in_flight_max: quarter.min(concurrency),
                refused: None,
                throttles: 0,
            });
        self.lanes.push(LaneState {
            id: id.clone(),
            credential: job.credential.clone(),
            host,
            provider,
            lane: Lane::default(),
            spacer: spacer.map(|rate| Spacer::new(rate, since)),
            served: 0,
            queued: None,
            batch_max: if provider == Provider::Clevertap {
                settings.batch_max
            } else {
                1
            },
            joined: false,
            join_next: false,
            frozen_why: None,
        });
        self.by_id.insert(id, self.lanes.len() - 1);
        self.lanes.len() - 1
    }

    /// When a request of `lane` may start; `None` while it waits for an answer to come.
    pub(super) fn start_at(&self, lane: usize, now: Micros) -> Option<Micros> {
        let state = &self.lanes[lane];
        let credential = &self.credentials[&state.credential];
        let credential_max = if credential.refused.is_some() {
            1
        } else {
            credential.in_flight_max
        };
        let host_max = (self.settings.in_flight_max / 2).max(1);
        if credential.in_flight >= credential_max || self.hosts.get(&state.host).is_some_and(|count| *count >= host_max)
        {
            return None;
        }
        let wait = match state.provider {
            Provider::Slack => 0,
            Provider::Clevertap => micros(self.settings.batch_wait),
        };
        let lane_ready = state.lane.ready_at(state.batch_max, wait)?;
        let spacers = [
            state.spacer.as_ref().filter(|_| !state.join_next),
            credential.spacer.as_ref(),
        ];
        Some(
            spacers
                .iter()
                .flatten()
                .map(|spacer| spacer.ready_at())
                .fold(lane_ready, Micros::max)
                .max(now),
        )
    }

    pub(super) fn queue(&mut self, lane: usize, now: Micros) {
        if let Some((at, served)) = self.lanes[lane].queued.take() {
            self.ready.remove(&(at, served, lane));
        }
        if let Some(at) = self.start_at(lane, now) {
            let served = self.lanes[lane].served;
            self.lanes[lane].queued = Some((at, served));
            self.ready.insert((at, served, lane));
        }
    }

    /// An answer freed a place: lanes of its credential or host that had none look again.
    pub(super) fn queue_credential(&mut self, credential: &str, now: Micros) {
        let host = self.by_host(credential);
        for lane in 0..self.lanes.len() {
            let state = &self.lanes[lane];
            let freed = state.credential == credential || Some(&state.host) == host.as_ref();
            if freed && state.queued.is_none() && !state.lane.is_empty() {
                self.queue(lane, now);
            }
        }
    }

    pub(super) fn by_host(&self, credential: &str) -> Option<Arc<str>> {
        self.lanes
            .iter()
            .find(|lane| lane.credential == credential)
            .map(|lane| Arc::clone(&lane.host))
    }
}
