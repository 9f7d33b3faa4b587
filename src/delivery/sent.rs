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
}

impl SentIds {
    pub fn new(window: Duration, count_max: usize) -> Self {
        let window = Micros::try_from(window.as_micros()).unwrap_or(Micros::MAX / 4);
        Self {
            window,
            count_max,
            sent_at: HashMap::new(),
            order: VecDeque::new(),
        }
    }

    pub fn insert(&mut self, job_id: &str, sent_at: Micros, now: Micros) {
        let Some(id) = number(job_id) else { return };
        self.sent_at.insert(id, sent_at);
        self.order.push_back((sent_at, id));
        while self.order.len() > self.count_max || self.order.front().is_some_and(|(at, _)| *at < now - self.window) {
            if let Some((at, id)) = self.order.pop_front()
                && self.sent_at.get(&id) == Some(&at)
            {
                self.sent_at.remove(&id);
            }
        }
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
        sent.insert(&id(1), 0, 0);
        assert!(sent.contains(&id(1), 10_000_000));
        assert!(!sent.contains(&id(1), 10_000_001));
        sent.insert(&id(2), 1, 1);
        sent.insert(&id(3), 2, 2);
        assert!(!sent.contains(&id(1), 3), "beyond the count the oldest goes");
        assert!(sent.contains(&id(2), 3) && sent.contains(&id(3), 3));
    }
}
