//! Whose turn it is: when a lane may start its next request, with all limits that nest over it.
//!
//! A lane with work stands among the lanes of its credential and [`Standing`], by the time it may start. A credential
//! stands among all by the time its first lane may start. One that waits for an answer stands nowhere until the
//! answer comes.

use std::collections::HashSet;
use std::sync::Arc;

use super::{
    Attempt, Credential, DeliveryJob, Dispatch, Entry, Host, InFlight, JobAt, LaneState, Micros, Number, OutcomeResult,
    Prelude, Request, Settled, Standing,
};
use crate::delivery::lane::{LaneContext, Take};
use crate::delivery::sent::{ThreadKey, id_bytes};

impl Dispatch {
    /// The next request that may start now, if any. What expired, was sent before or is too old is
    /// settled on the way, into `settled`.
    pub fn next(&mut self, now: Micros, settled: &mut Vec<Settled>) -> Option<Attempt> {
        self.end_tests(now, settled);
        self.sweep(now, settled);
        while !self.is_full() {
            let due = self.ready.first().copied().filter(|(at, ..)| *at <= now);
            let Some((at, served, credential)) = due else {
                // Whoever had a place at a host may have had nothing to send any more.
                if self.hosts.numbers().any(|host| self.unpark(host, now)) {
                    continue;
                }
                break;
            };
            self.ready.remove(&(at, served, credential));
            self.credentials[credential].queued = None;
            let attempt = self.turn(credential, now, settled);
            self.queue_credential(credential, now);
            if attempt.is_some() {
                return attempt;
            }
        }
        None
    }

    /// A credential has its turn: the lanes of each standing have theirs by who was served longest ago, so that a
    /// thousand that fail don't use up the rate of one that works.
    fn turn(&mut self, number: Number<Credential>, now: Micros, settled: &mut Vec<Settled>) -> Option<Attempt> {
        if self.credential_ready(number, now) != Some(now) {
            // A freeze or an answer came since it was given its place.
            return None;
        }
        let due = self.heads(number).filter(|(at, _)| *at <= now);
        let (_, standing) = due.min_by_key(|(_, standing)| self.credentials[number].queues[*standing].served)?;
        let credential = &mut self.credentials[number];
        let host = &mut self.hosts[credential.host];
        let queue = &mut credential.queues[standing];
        if host.slots.room(standing) == 0 {
            queue.parked = true;
            host.parked[standing].push_back(number);
            return None;
        }
        let (_, _, lane) = queue.lanes.pop_first()?;
        self.lanes[lane].queued = None;
        let ready = self.lane_ready(lane, now) == Some(now);
        let attempt = ready.then(|| self.start(lane, now, settled)).flatten();
        self.queue(lane, now);
        attempt
    }

    /// The first lane of each standing of a credential that has room for it: when it may start.
    fn heads(&self, credential: Number<Credential>) -> impl Iterator<Item = (Micros, Standing)> {
        let state = &self.credentials[credential];
        let has_room = state.slots.taken() < self.allowed(credential);
        let standings = Standing::ALL.into_iter().filter(move |_| has_room);
        standings.filter_map(|standing| {
            let queue = &state.queues[standing];
            let (at, ..) = queue.lanes.first()?;
            (!queue.parked && state.slots.room(standing) > 0).then_some((*at, standing))
        })
    }

    /// When a request of a lane may start, its credential's limits aside; `None` also while it is paused.
    fn lane_ready(&self, lane: Number<LaneState>, now: Micros) -> Option<Micros> {
        let state = &self.lanes[lane];
        if state.standing == Standing::Fails && state.in_flight > 0 || self.is_lane_paused(state) {
            return None;
        }
        let counted = self.request(lane) == Request::Send;
        let spacer = state.spacer.as_ref().filter(|_| counted);
        let spaced = spacer.map_or(Micros::MIN, |spacer| spacer.ready_at());
        let ready = state.lane.ready_at(&self.origins)?;
        Some(
            ready
                .max(state.frozen_until)
                .max(state.rests_until)
                .max(spaced)
                .max(now),
        )
    }

    /// When a request of a credential may start; `None` while it waits for an answer, is held or is paused.
    fn credential_ready(&self, credential: Number<Credential>, now: Micros) -> Option<Micros> {
        let state = &self.credentials[credential];
        if self.held.holds(&state.id) || self.is_credential_paused(state) {
            return None;
        }
        let first = self.heads(credential).map(|(at, _)| at).min()?;
        let spaced = state.spacer.as_ref().map_or(Micros::MIN, |spacer| spacer.ready_at());
        Some(first.max(spaced).max(state.frozen_until).max(now))
    }

    /// Gives a lane its place, and its credential.
    pub(super) fn queue(&mut self, lane: Number<LaneState>, now: Micros) {
        let ready = self.lane_ready(lane, now);
        let state = &self.lanes[lane];
        let (number, queued) = (state.credential, state.queued);
        // Who waits for its turn keeps its place.
        if queued.is_some_and(|(at, _)| at <= now) && ready == Some(now) {
            return;
        }
        let place = ready.map(|at| (at, state.served));
        if place == queued {
            return;
        }
        self.unqueue(lane);
        let state = &mut self.lanes[lane];
        state.queued = place;
        if let Some((at, served)) = place {
            let queue = &mut self.credentials[number].queues[state.standing];
            queue.lanes.insert((at, served, lane));
        }
        self.queue_credential(number, now);
    }

    /// Takes a lane's place away.
    pub(super) fn unqueue(&mut self, lane: Number<LaneState>) {
        let state = &mut self.lanes[lane];
        if let Some((at, served)) = state.queued.take() {
            let queue = &mut self.credentials[state.credential].queues[state.standing];
            queue.lanes.remove(&(at, served, lane));
        }
    }

    pub(super) fn queue_credential(&mut self, credential: Number<Credential>, now: Micros) {
        let ready = self.credential_ready(credential, now);
        let state = &self.credentials[credential];
        if state.queued.is_some_and(|(at, _)| at <= now) && ready == Some(now) {
            return;
        }
        let place = ready.map(|at| (at, state.served));
        if place == state.queued {
            return;
        }
        if let Some((at, served)) = state.queued {
            self.ready.remove(&(at, served, credential));
        }
        if let Some((at, served)) = place {
            self.ready.insert((at, served, credential));
        }
        self.credentials[credential].queued = place;
    }

    /// There may be room at a host again: as many credentials look again as there are places, who waited longest
    /// first. Whether one of them is ready.
    pub(super) fn unpark(&mut self, host: Number<Host>, now: Micros) -> bool {
        let mut any = false;
        for standing in Standing::ALL {
            let mut room = self.hosts[host].slots.room(standing);
            while room > 0
                && let Some(credential) = self.hosts[host].parked[standing].pop_front()
            {
                self.credentials[credential].queues[standing].parked = false;
                self.queue_credential(credential, now);
                if self.credentials[credential].queued.is_some_and(|(at, _)| at <= now) {
                    room -= 1;
                    any = true;
                }
            }
        }
        any
    }

    fn take(&mut self, lane: Number<LaneState>, now: Micros) -> Take {
        let (chunk, digest_max) = (self.chunk(lane), self.digest_max());
        let spacing = self.spacing(lane);
        let (payloads, state) = (&self.payloads, &mut self.lanes[lane]);
        let context = LaneContext {
            now,
            classes: &self.classes,
            origins: &self.origins,
            loaded: &|at: JobAt| payloads.contains_key(&at),
            spacing,
            digest_max,
            chunk,
        };
        let take = state.lane.take(context);
        let ahead = match &take {
            Take::Jobs(_) => state.lane.prefetch(context),
            _ => Vec::new(),
        };
        for at in std::mem::take(&mut state.lane.put_off) {
            self.forget(at);
        }
        if !ahead.is_empty() {
            self.lanes[lane].lane.loading = true;
            self.load(Some(lane), ahead);
        }
        take
    }

    /// The time from one start of a lane to the next, by its limits.
    pub(super) fn spacing(&self, lane: Number<LaneState>) -> Micros {
        let state = &self.lanes[lane];
        let spacers = [&state.spacer, &self.credentials[state.credential].spacer];
        let spacings = spacers.into_iter().flatten().map(|spacer| spacer.spacing());
        spacings.max().unwrap_or(0)
    }

    fn start(&mut self, lane: Number<LaneState>, now: Micros, settled: &mut Vec<Settled>) -> Option<Attempt> {
        let entries = match self.take(lane, now) {
            Take::Jobs(entries) => entries,
            Take::Nothing => return None,
            Take::Missing(missing) => {
                let state = &mut self.lanes[lane].lane;
                state.starved = true;
                if !std::mem::replace(&mut state.loading, true) {
                    self.load(Some(lane), missing);
                }
                return None;
            }
        };
        let keys: HashSet<u32> = entries.iter().map(|entry| entry.key).collect();
        let entries = self.worth_sending(lane, entries, now, settled);
        let going: HashSet<u32> = entries.iter().map(|entry| entry.key).collect();
        self.lanes[lane].lane.release(keys.difference(&going).copied());
        if entries.is_empty() {
            return None;
        }
        let request = self.request(lane);
        self.count_start(lane, request, &entries, now);
        self.next_id += 1;
        let attempt = self.attempt(lane, request, &entries, now);
        let jobs = entries
            .iter()
            .map(|entry| Arc::clone(&self.payloads[&entry.at()].job))
            .collect();
        let in_flight = InFlight {
            lane,
            standing: self.lanes[lane].standing,
            request,
            jobs,
            entries,
            started: now,
            thread_ts: attempt.thread_ts.clone(),
            latest: self.ledger.latest(),
        };
        self.attempts.insert(attempt.id, in_flight);
        Some(attempt)
    }

    /// Settles what was sent before or comes too late, at the moment of sending.
    fn worth_sending(
        &mut self,
        lane: Number<LaneState>,
        entries: Vec<Entry>,
        now: Micros,
        settled: &mut Vec<Settled>,
    ) -> Vec<Entry> {
        let wall = self.wall(now);
        let mut ids = HashSet::new();
        let mut going = Vec::with_capacity(entries.len());
        let (mut twice, mut waiting) = (Vec::new(), HashSet::new());
        for entry in entries {
            let at = entry.at();
            let Some(payload) = self.payloads.get(&at).cloned() else {
                debug_assert!(false, "a lane takes what is loaded");
                twice.push(entry);
                continue;
            };
            let job = &payload.job;
            let id = id_bytes(&job.job_id);
            // Repeats and time are nothing to a test, whose end is its own.
            let is_test = self.is_test(entry);
            let is_late = |expires: i64| !is_test && expires.saturating_mul(1000) <= wall;
            let result = if !is_test && id.is_some_and(|id| self.sent.contains(id, now)) {
                OutcomeResult::Duplicate
            } else if job.expires_at.is_some_and(is_late) {
                OutcomeResult::Expired
            } else if waiting.contains(&entry.key) || id.is_some_and(|id| !ids.insert(id)) {
                // The same job twice in one request would be sent twice. It waits, and those of its
                // key behind it, to see what becomes of the first.
                waiting.insert(entry.key);
                twice.push(entry);
                continue;
            } else {
                going.push(entry);
                continue;
            };
            let outcome = self.outcome(at, job, result, now);
            settled.push(self.end(entry, &payload, outcome, None));
        }
        self.lanes[lane].lane.put_back(twice, &self.classes);
        going
    }

    /// What comes first: a probe of a refused credential, a channel to join, a conversation to open.
    fn request(&self, lane: Number<LaneState>) -> Request {
        let state = &self.lanes[lane];
        let credential = &self.credentials[state.credential];
        let refused = credential.refused.is_some_and(|refused| !refused.probed);
        match state {
            _ if refused && credential.pacing.probes => Request::Probe,
            state if state.join == Prelude::Next => Request::Join,
            state if state.open == Prelude::Next => Request::Open,
            _ => Request::Send,
        }
    }

    fn count_start(&mut self, lane: Number<LaneState>, request: Request, entries: &[Entry], now: Micros) {
        let state = &mut self.lanes[lane];
        state.served = self.next_id + 1;
        state.in_flight += 1;
        let credential = &mut self.credentials[state.credential];
        if let Some(spacer) = state.spacer.as_mut().filter(|_| request == Request::Send) {
            spacer.start(now);
        }
        if let Some(spacer) = &mut credential.spacer {
            spacer.start(now);
        }
        credential.served = state.served;
        credential.queues[state.standing].served = state.served;
        credential.slots.take(state.standing);
        self.hosts[credential.host].slots.take(state.standing);
        self.in_flight += 1;
        let first = &self.classes[entries[0].class];
        let again = self.tried.contains_key(&entries[0].at());
        if request == Request::Send && !again && first.max_rate.is_some() {
            // Retries of a message don't make it two.
            if let Some(cap) = &mut self.origins[first.origin].cap {
                cap.start(now);
            }
        }
    }

    fn attempt(&mut self, lane: Number<LaneState>, request: Request, entries: &[Entry], now: Micros) -> Attempt {
        let jobs = entries.iter().map(|entry| Arc::clone(&self.payloads[&entry.at()].job));
        let mut jobs: Vec<Arc<DeliveryJob>> = jobs.collect();
        let state = &self.lanes[lane];
        let (mut thread_ts, is_test) = (None, self.is_test(entries[0]));
        if self.credentials[state.credential].pacing.batch.is_none() {
            let one_lead = jobs.iter().all(|job| job.thread && job.lead_id == jobs[0].lead_id);
            if one_lead {
                let of = ThreadKey {
                    lane: &state.id,
                    lead_id: &jobs[0].lead_id,
                };
                let root = self.threads.get(of, now);
                thread_ts = root.map(|ts| ts.to_string());
            }
            if jobs.len() > 1
                && let Some(digest) = DeliveryJob::digest(&jobs)
            {
                jobs = vec![Arc::new(digest)];
            }
            jobs.truncate(1);
        }
        Attempt {
            id: self.next_id,
            request,
            jobs,
            thread_ts,
            channel: state.channel.clone(),
            is_test,
        }
    }
}
