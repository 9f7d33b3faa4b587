//! The memory of sends: ids of jobs, so that a repeated event is sent once, and the threads of leads.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use super::limit::Micros;

const SECOND: Micros = 1_000_000;

/// Job ids by the time they were sent, bounded by a window and by a count.
#[derive(Debug)]
pub struct SentIds {
    window: Micros,
    count_max: usize,
    /// When an id was sent last, in epoch seconds. An id is random already.
    sent_at: HashMap<[u8; 16], u32, BuildHasherDefault<IdHasher>>,
    order: VecDeque<(u32, [u8; 16])>,
    /// Before this not everything is known: we had not begun, or the count was full.
    known_since: Option<Micros>,
}

/// The first bytes of a UUIDv5 are as good as a hash of it.
#[derive(Debug, Default)]
struct IdHasher(u64);

impl Hasher for IdHasher {
    fn write(&mut self, bytes: &[u8]) {
        if let Some(first) = bytes.first_chunk() {
            self.0 ^= u64::from_le_bytes(*first);
        }
    }

    fn write_usize(&mut self, _: usize) {}

    fn finish(&self) -> u64 {
        self.0
    }
}

impl SentIds {
    pub fn new(window: Duration, count_max: usize) -> Self {
        let window = Micros::try_from(window.as_micros()).unwrap_or(Micros::MAX / 4);
        Self {
            window,
            count_max,
            sent_at: HashMap::default(),
            order: VecDeque::new(),
            known_since: None,
        }
    }

    pub fn insert(&mut self, id: [u8; 16], sent_at: Micros, now: Micros) {
        // Rounded up: an id is known a second too long rather than too short.
        let second = u32::try_from(sent_at.div_euclid(SECOND) + 1).unwrap_or(u32::MAX);
        self.sent_at.insert(id, second);
        self.order.push_back((second, id));
        let oldest = now - self.window;
        while self.order.len() > self.count_max
            || (self.order.front()).is_some_and(|(second, _)| Micros::from(*second) * SECOND < oldest)
        {
            if let Some((second, id)) = self.order.pop_front() {
                self.known_since = self.known_since.max(Some(Micros::from(second) * SECOND));
                if self.sent_at.get(&id) == Some(&second) {
                    self.sent_at.remove(&id);
                }
            }
        }
    }

    /// The sends from `since` on are known.
    pub fn begin(&mut self, since: Micros) {
        self.known_since = self.known_since.max(Some(since));
    }

    /// How far back every id is known.
    pub fn reach(&self, now: Micros) -> Duration {
        let reach = self.known_since.map_or(0, |since| (now - since).clamp(0, self.window));
        Duration::from_micros(u64::try_from(reach).unwrap_or_default())
    }

    pub fn contains(&self, id: [u8; 16], now: Micros) -> bool {
        (self.sent_at.get(&id)).is_some_and(|second| Micros::from(*second) * SECOND >= now - self.window)
    }
}

/// The bytes of a job id; `None` for what is no UUID.
pub fn id_bytes(job_id: &str) -> Option<[u8; 16]> {
    Uuid::parse_str(job_id).ok().map(Uuid::into_bytes)
}

/// The first message of each lead's thread, for as long and as many as job ids are known.
#[derive(Debug)]
pub struct Threads {
    window: Micros,
    count_max: usize,
    roots: HashMap<u128, (Micros, Arc<str>)>,
    order: VecDeque<(Micros, u128)>,
}

impl Threads {
    pub fn new(window: Duration, count_max: usize) -> Self {
        Self {
            window: Micros::try_from(window.as_micros()).unwrap_or(Micros::MAX / 4),
            count_max,
            roots: HashMap::new(),
            order: VecDeque::new(),
        }
    }

    /// The thread begins with the message `ts`.
    pub fn insert(&mut self, of: ThreadKey<'_>, ts: &str, began: Micros, now: Micros) {
        self.forget(now);
        let key = of.hashed();
        if self.roots.get(&key).is_none_or(|(_, known)| **known != *ts) {
            self.roots.insert(key, (began, ts.into()));
            self.order.push_back((began, key));
        }
    }

    pub fn get(&mut self, of: ThreadKey<'_>, now: Micros) -> Option<Arc<str>> {
        self.forget(now);
        let (_, ts) = self.roots.get(&of.hashed())?;
        Some(Arc::clone(ts))
    }

    fn forget(&mut self, now: Micros) {
        while self.order.len() > self.count_max
            || (self.order.front()).is_some_and(|(began, _)| *began < now - self.window)
        {
            let Some((began, key)) = self.order.pop_front() else {
                return;
            };
            // A thread that was begun anew stands behind.
            if self.roots.get(&key).is_some_and(|(known, _)| *known == began) {
                self.roots.remove(&key);
            }
        }
    }
}

/// Whose thread it is: a lead's, in a lane.
#[derive(Debug, Clone, Copy)]
pub struct ThreadKey<'t> {
    pub lane: &'t str,
    pub lead_id: &'t str,
}

impl ThreadKey<'_> {
    /// Two hashes of 64 bits, so that no two leads meet in one thread.
    fn hashed(self) -> u128 {
        let half = |salt: u8| {
            let mut hasher = DefaultHasher::new();
            (salt, self.lane, self.lead_id).hash(&mut hasher);
            u128::from(hasher.finish())
        };
        half(0) << 64 | half(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u128) -> [u8; 16] {
        number.to_be_bytes()
    }

    #[test]
    fn ids_are_known_for_the_window_and_up_to_the_count() {
        let mut sent = SentIds::new(Duration::from_secs(10), 2);
        sent.begin(0);
        sent.insert(id(1), 0, 0);
        assert!(sent.contains(id(1), 10 * SECOND));
        assert_eq!(sent.reach(4 * SECOND), Duration::from_secs(4));
        assert_eq!(
            sent.reach(40 * SECOND),
            Duration::from_secs(10),
            "not beyond the window"
        );
        assert!(!sent.contains(id(1), 11 * SECOND + 1));
        sent.insert(id(2), SECOND, SECOND);
        sent.insert(id(3), SECOND, SECOND);
        assert!(!sent.contains(id(1), 2 * SECOND), "beyond the count the oldest goes");
        assert_eq!(
            sent.reach(3 * SECOND),
            Duration::from_secs(2),
            "and the reach shrinks to it"
        );
        assert!(sent.contains(id(2), 3 * SECOND) && sent.contains(id(3), 3 * SECOND));
    }

    #[test]
    fn a_thread_is_known_for_the_window_and_by_lane_and_lead() {
        let of = |lane, lead_id| ThreadKey { lane, lead_id };
        let mut threads = Threads::new(Duration::from_secs(10), 2);
        threads.insert(of("slack:a/C1", "7"), "1.5", 0, 0);
        threads.insert(of("slack:a/C1", "7"), "1.5", 3 * SECOND, 3 * SECOND);
        assert_eq!(threads.get(of("slack:a/C1", "7"), SECOND).as_deref(), Some("1.5"));
        assert_eq!(threads.get(of("slack:a/C2", "7"), SECOND), None);
        assert_eq!(threads.get(of("slack:a/C1", "8"), SECOND), None);
        assert_eq!(
            threads.get(of("slack:a/C1", "7"), 11 * SECOND),
            None,
            "then a new one begins"
        );
        threads.insert(of("slack:a/C1", "7"), "2.5", 11 * SECOND, 11 * SECOND);
        assert_eq!(threads.get(of("slack:a/C1", "7"), 12 * SECOND).as_deref(), Some("2.5"));
    }
}
