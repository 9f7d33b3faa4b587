//! Lanes and credentials: made when first met, frozen and widened as the answers ask.

use std::sync::Arc;
use std::time::Duration;

use super::{
    ByStanding, Credential, DeliveryJob, Dispatch, Entry, FreezeScope, Frozen, Host, Lane, LaneState, Micros, Number,
    Pacing, Prelude, Refused, Slots, Spacer, Standing, micros,
};
use crate::delivery::recall::credential_of;

/// A refused credential is probed first after so long, and each next time after twice as long.
const PROBE_FIRST: Micros = 30_000_000;
/// And no less often than so.
const PROBE_MAX: Micros = 600_000_000;

impl Dispatch {
    pub(super) fn lane_of(&mut self, job: &DeliveryJob, host: &Arc<str>, now: Micros) -> Number<LaneState> {
        let id = job.lane();
        if let Some(lane) = self.by_id.get(&id).copied() {
            self.rehost(self.lanes[lane].credential, host);
            return lane;
        }
        // A limit counts from when we took over, not from when a lane was first seen.
        let since = self.ledger.youngest_since().unwrap_or(now);
        let pacing = (job.action).pacing(&self.settings.limits, &job.credential, &job.destination);
        let credential = self.credential_of(&job.credential, pacing, host, since);
        let lane = self.lanes.push(LaneState {
            id: id.clone(),
            credential,
            lane: Lane::new(pacing.batch),
            spacer: pacing.lane_rate.map(|rate| Spacer::new(rate, since)),
            frozen_until: Micros::MIN,
            firm_until: Micros::MIN,
            in_flight: 0,
            standing: Standing::New,
            failed: 0,
            failed_at: Micros::MIN,
            rests_until: Micros::MIN,
            served: 0,
            queued: None,
            join: Prelude::Unasked,
            open: Prelude::Unasked,
            channel: None,
        });
        self.by_id.insert(id.clone(), lane);
        if let Some(frozen) = self.frozen.remove(&id) {
            self.recall_freeze(id, frozen, now);
        }
        lane
    }

    fn host(&mut self, name: &Arc<str>) -> Number<Host> {
        if let Some(host) = self.host_by_name.get(name) {
            return *host;
        }
        let host = self.hosts.push(Host {
            slots: Slots::new(self.settings.in_flight_max / 2),
            parked: ByStanding::default(),
        });
        self.host_by_name.insert(Arc::clone(name), host);
        host
    }

    /// A webhook's host shows with its first request, and may be another after its secret was changed. What is under
    /// way or waits at a host is counted there to its end.
    fn rehost(&mut self, credential: Number<Credential>, name: &Arc<str>) {
        let state = &self.credentials[credential];
        let waits = Standing::ALL.iter().any(|standing| state.queues[*standing].parked);
        if state.slots.taken() == 0 && !waits {
            self.credentials[credential].host = self.host(name);
        }
    }

    fn credential_of(&mut self, id: &str, pacing: Pacing, host: &Arc<str>, since: Micros) -> Number<Credential> {
        if let Some(credential) = self.credential_by_id.get(id).copied() {
            return credential;
        }
        let quarter = (self.settings.in_flight_max / 4).max(1);
        let in_flight_max = pacing.in_flight_max.unwrap_or(quarter).min(quarter);
        let host = self.host(host);
        let id = id.to_owned();
        let credential = self.credentials.push(Credential {
            id: id.clone(),
            host,
            pacing,
            spacer: pacing.credential_rate.map(|rate| Spacer::new(rate, since)),
            frozen_until: Micros::MIN,
            firm_until: Micros::MIN,
            slots: Slots::new(in_flight_max),
            // What the account's other senders leave us is found out from half of it on.
            window: match pacing.adapts {
                false => in_flight_max as f64,
                true => (in_flight_max as f64 / 2.0).max(1.0),
            },
            throttled_at: Micros::MIN,
            refused: None,
            throttles: 0,
            served: 0,
            queues: ByStanding::default(),
            queued: None,
        });
        self.credential_by_id.insert(id.clone(), credential);
        if let Some(frozen) = self.frozen.remove(&id) {
            self.recall_freeze(id, frozen, since);
        }
        credential
    }

    /// Freezes a lane or credential that a predecessor left frozen, now or when it is met.
    pub(super) fn recall_freeze(&mut self, id: String, frozen: Frozen, now: Micros) {
        // A webhook's or account's lane has its credential's id.
        if let Some(credential) = self.credential_by_id.get(&id).copied() {
            if frozen.refused {
                self.credentials[credential].refused = Some(Refused {
                    since: now,
                    interval: PROBE_FIRST,
                    probed: false,
                });
            }
            self.freeze_credential(credential, frozen.until, frozen.throttled_until, now);
        }
        match self.by_id.get(&id) {
            Some(lane) if credential_of(&id) != id => {
                self.freeze_lane(*lane, frozen.until, frozen.throttled_until, now);
            }
            Some(_) => {}
            None => {
                self.frozen.insert(id, frozen);
            }
        }
    }

    /// How many requests of a credential may be in flight.
    pub(super) fn allowed(&self, credential: Number<Credential>) -> usize {
        let credential = &self.credentials[credential];
        if credential.refused.is_some() {
            return 1;
        }
        (credential.window as usize).clamp(1, credential.slots.max())
    }

    /// Freezes a scope as an answer says; without a delay, our own grows from one second on.
    /// Requests that were in flight together count once.
    pub(super) fn throttle(
        &mut self,
        lane: Number<LaneState>,
        scope: FreezeScope,
        retry_after: Option<Duration>,
        started: Micros,
        now: Micros,
    ) -> Micros {
        let number = self.lanes[lane].credential;
        let credential = &mut self.credentials[number];
        if started > credential.throttled_at {
            credential.throttled_at = now;
            credential.throttles += 1;
            if credential.pacing.adapts {
                credential.window = (credential.window / 2.0).max(1.0);
            }
        }
        let throttles = credential.throttles.min(30);
        let delay = retry_after.map_or_else(|| self.backoff(throttles as i32), micros);
        let until = now + delay;
        let firm_until = retry_after.map_or(Micros::MIN, |_| until);
        match scope {
            FreezeScope::Lane => self.freeze_lane(lane, until, firm_until, now),
            FreezeScope::Credential => self.freeze_credential(number, until, firm_until, now),
        }
        until
    }

    /// One request more for each round of them that went well.
    pub(super) fn widen(&mut self, credential: Number<Credential>) {
        let credential = &mut self.credentials[credential];
        let widest = credential.slots.max() as f64;
        credential.window = (credential.window + 1.0 / credential.window).min(widest);
    }

    /// The credential is refused: it is probed after an interval, which grows.
    pub(super) fn refuse(&mut self, number: Number<Credential>, started: Micros, now: Micros) -> Micros {
        let credential = &mut self.credentials[number];
        let interval = match credential.refused {
            // Requests that were in flight together count once.
            Some(refused) if started < refused.since => return credential.frozen_until,
            Some(refused) => (refused.interval * 2).min(PROBE_MAX),
            None => PROBE_FIRST,
        };
        credential.refused = Some(Refused {
            since: now,
            interval,
            probed: false,
        });
        self.freeze_credential(number, now + interval, Micros::MIN, now);
        self.doom_replaced(number);
        now + interval
    }

    /// Nothing of a lane starts before `until`, and no order shortens it to less than `firm_until`.
    pub(super) fn freeze_lane(&mut self, lane: Number<LaneState>, until: Micros, firm_until: Micros, now: Micros) {
        let state = &mut self.lanes[lane];
        let longer = until - state.frozen_until.max(now);
        state.frozen_until = state.frozen_until.max(until);
        state.firm_until = state.firm_until.max(firm_until);
        self.forgive(lane, longer);
        self.put_off(lane);
        self.queue(lane, now);
    }

    fn freeze_credential(&mut self, credential: Number<Credential>, until: Micros, firm_until: Micros, now: Micros) {
        let state = &mut self.credentials[credential];
        let longer = until - state.frozen_until.max(now);
        state.frozen_until = state.frozen_until.max(until);
        state.firm_until = state.firm_until.max(firm_until);
        for lane in self.lanes.numbers() {
            if self.lanes[lane].credential == credential {
                self.forgive(lane, longer);
                self.put_off(lane);
            }
        }
        self.queue_credential(credential, now);
    }

    /// Time during which the destination was frozen doesn't count as failing.
    fn forgive(&mut self, lane: Number<LaneState>, frozen: Micros) {
        if frozen <= 0 {
            return;
        }
        let tried = self.tried_of(lane);
        self.forgive_these(&tried, frozen);
    }

    /// The jobs of a lane that were tried, those in flight among them.
    pub(super) fn tried_of(&self, lane: Number<LaneState>) -> Vec<Entry> {
        let tried = (self.lanes[lane].lane).tried(|entry| self.tried.contains_key(&entry.at()));
        let in_flight = self.attempts.values().filter(|flight| flight.lane == lane);
        let in_flight = in_flight.flat_map(|flight| flight.entries.iter().copied());
        in_flight.chain(tried).collect()
    }

    pub(super) fn forgive_these(&mut self, entries: &[Entry], frozen: Micros) {
        for entry in entries {
            if let Some(tried) = self.tried.get_mut(&entry.at()) {
                tried.failing_since += frozen;
            }
        }
    }

    /// How long from now on nothing of a lane may start.
    pub(super) fn frozen_for(&self, lane: Number<LaneState>, now: Micros) -> Micros {
        let state = &self.lanes[lane];
        let until = state.frozen_until.max(self.credentials[state.credential].frozen_until);
        until.max(now) - now
    }

    /// Doubles from `retry.initial` to `retry.max`, ±20 %.
    pub(super) fn backoff(&mut self, attempts: i32) -> Micros {
        let doubled = micros(self.settings.retry_initial).saturating_mul(1 << (attempts - 1).clamp(0, 30));
        let capped = doubled.min(micros(self.settings.retry_max));
        (capped as f64 * (0.8 + 0.4 * self.rng.f64())) as Micros
    }
}
