//! What people order of lanes: to stand still until they are resumed, and to be tried now.
//!
//! A pause holds a lane, a credential's lanes or all of them: [`turn`](super::turn) asks it of each request. What is in
//! flight ends, and what waits may still be cancelled, expire or become too old.

use std::collections::HashSet;

use super::{Credential, Dispatch, LaneState, Micros, Number};
use crate::rules::control::{ALL, Control, Controls};

impl Dispatch {
    /// Other orders hold than `before`. Whoever calls this gives all lanes and credentials their places again.
    pub(super) fn obey(&mut self, before: &Controls, now: Micros) {
        let rules = std::sync::Arc::clone(&self.in_force);
        for (of, control) in rules.controls.since(before) {
            if control.probe_at > before.get(of).and_then(|before| before.probe_at) {
                self.try_now(of, now);
            }
            if control.paused {
                self.lanes_of(of).into_iter().for_each(|lane| self.put_off(lane));
            }
        }
        let paused = before.iter().filter(|(_, control)| control.paused);
        for (of, pause) in paused.filter(|(of, _)| !rules.controls.is_paused(of)) {
            self.forgive_pause(of, pause, now);
        }
    }

    pub(super) fn is_lane_paused(&self, lane: &LaneState) -> bool {
        self.in_force.controls.is_paused(&lane.id)
    }

    pub(super) fn is_credential_paused(&self, credential: &Credential) -> bool {
        let controls = &self.in_force.controls;
        controls.is_paused(&credential.id) || controls.is_paused(ALL)
    }

    /// Those that an order is about, as far as we have met them.
    fn lanes_of(&self, of: &str) -> Vec<Number<LaneState>> {
        let is_of = |lane: &Number<LaneState>| {
            let state = &self.lanes[*lane];
            of == ALL || of == state.id || of == self.credentials[state.credential].id
        };
        self.lanes.numbers().filter(is_of).collect()
    }

    /// Whatever waits of our own accord may go now; what a provider asked for is kept to, and so are limits.
    fn try_now(&mut self, of: &str, now: Micros) {
        let lanes = self.lanes_of(of);
        // The lane of a refused credential is tried with its credential.
        let credentials: HashSet<Number<Credential>> = lanes.iter().map(|lane| self.lanes[*lane].credential).collect();
        for credential in &credentials {
            let state = &mut self.credentials[*credential];
            state.frozen_until = state.firm_until;
        }
        for lane in lanes {
            let state = &mut self.lanes[lane];
            (state.frozen_until, state.rests_until) = (state.firm_until, Micros::MIN);
            state.lane.retry_now(now);
        }
        for lane in self.lanes.numbers() {
            if credentials.contains(&self.lanes[lane].credential) {
                // What was forgiven of a freeze that is over sooner is no patience for later.
                self.forgive_up_to(lane, 0, now);
            }
        }
    }

    /// The secret of a refused credential is another one by now: it is tried at once.
    pub fn secret_changed(&mut self, credential: &str, now: Micros) {
        let Some(number) = self.credential_by_id.get(credential).copied() else {
            return;
        };
        if self.credentials[number].refused.is_none() {
            return;
        }
        self.try_now(credential, now);
        for lane in self.lanes.numbers() {
            self.queue(lane, now);
        }
        self.queue_credential(number, now);
    }

    /// Time during which a lane stood still doesn't count as failing.
    fn forgive_pause(&mut self, of: &str, pause: &Control, now: Micros) {
        let since = |when: i64| when.saturating_mul(1000).saturating_sub(self.ahead);
        let paused_for = now.saturating_sub(pause.when.map_or(0, since)).max(0);
        for lane in self.lanes_of(of) {
            self.forgive_up_to(lane, paused_for, now);
        }
    }

    /// So much time of a lane doesn't count as failing, but none that is to come.
    fn forgive_up_to(&mut self, lane: Number<LaneState>, time: Micros, now: Micros) {
        for entry in self.tried_of(lane) {
            if let Some(tried) = self.tried.get_mut(&entry.at()) {
                tried.failing_since = tried.failing_since.saturating_add(time).min(now);
            }
        }
    }

    /// What people are told of a lane that stands still; none where it doesn't.
    pub(super) fn pause_words(&self, lane: &LaneState) -> Option<String> {
        let credential = &self.credentials[lane.credential].id;
        let (of, pause) = self.in_force.controls.pause_of(&lane.id, credential)?;
        Some(pause.words(of))
    }
}
