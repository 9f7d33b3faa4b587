//! The ids of jobs that were sent, so that a repeated event is sent once.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use uuid::Uuid;

use super::limit::Micros;

/// Job ids by the time they were sent, bounded by a window and by a count.
#[derive(Debug)]
pub struct SentIds {
    window: Micros,
    count_max: usize,
    sent_at: HashMap<u128, Micros>,
    order: VecDeque<(Micros, u128)>,
    /// Before this not everything is known: we had not begun, or the count was full.
    known_since: Option<Micros>,
}

impl SentIds {
    pub fn new(window: Duration, count_max: usize) -> Self {
        let window = Micros::try_from(window.as_micros()).unwrap_or(Micros::MAX / 4);
        Self {
            window,
            count_max,
            sent_at: HashMap::new(),
            order: VecDeque::new(),
            known_since: None,
        }
    }

    pub fn insert(&mut self, job_id: &str, sent_at: Micros, now: Micros) {
        let Some(id) = number(job_id) else { return };
        self.sent_at.insert(id, sent_at);
        self.order.push_back((sent_at, id));
        while self.order.len() > self.count_max || self.order.front().is_some_and(|(at, _)| *at < now - self.window) {
            if let Some((at, id)) = self.order.pop_front() {
                self.known_since = self.known_since.max(Some(at));
                if self.sent_at.get(&id) == Some(&at) {
                    self.sent_at.remove(&id);
                }
            }
        }
    }

    /// What is sent from `now` on is known.
    pub fn begin(&mut self, now: Micros) {
        self.known_since.get_or_insert(now);
    }

    /// How far back every id is known.
    pub fn reach(&self, now: Micros) -> Duration {
        let reach = self.known_since.map_or(0, |since| (now - since).clamp(0, self.window));
        Duration::from_micros(u64::try_from(reach).unwrap_or_default())
    }

    pub fn contains(&self, job_id: &str, now: Micros) -> bool {
        number(job_id)
            .and_then(|id| self.sent_at.get(&id))
            .is_some_and(|at| *at >= now - self.window)
    }
}

fn number(job_id: &str) -> Option<u128> {
    Uuid::parse_str(job_id).ok().map(|id| id.as_u128())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u128) -> String {
        Uuid::from_u128(number).to_string()
    }

    #[test]
    fn ids_are_known_for_the_window_and_up_to_the_count() {
        let mut sent = SentIds::new(Duration::from_secs(10), 2);
        sent.begin(0);
        sent.insert(&id(1), 0, 0);
        assert!(sent.contains(&id(1), 10_000_000));
        assert_eq!(sent.reach(4_000_000), Duration::from_secs(4));
        assert_eq!(sent.reach(40_000_000), Duration::from_secs(10), "not beyond the window");
        assert!(!sent.contains(&id(1), 10_000_001));
        sent.insert(&id(2), 1, 1);
        sent.insert(&id(3), 2, 2);
        assert!(!sent.contains(&id(1), 3), "beyond the count the oldest goes");
        assert_eq!(sent.reach(3), Duration::from_micros(3), "and the reach shrinks to it");
        assert!(sent.contains(&id(2), 3) && sent.contains(&id(3), 3));
    }
}
