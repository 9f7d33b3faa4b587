//! A backlog that is read anew when somebody asks and it has become old.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::Backlog;
use crate::config::Config;
use crate::desk::Error;
use crate::desk::scan::Scanner;

/// So long a backlog is fresh at the least, and so many times as long as it took to read.
const FRESH_FOR: Duration = Duration::from_secs(1);
const FRESH_TIMES: u32 = 5;

/// What waited at one moment.
#[derive(Debug)]
pub struct Snapshot {
    /// When it was read, epoch milliseconds. It is older than it should be where Kafka is away.
    pub at: i64,
    pub backlog: Backlog,
}

#[derive(Debug, Default)]
pub(in crate::desk) struct Fresh {
    kept: Mutex<Kept>,
    /// Held by whoever reads it anew.
    reading: Mutex<()>,
}

#[derive(Debug, Default)]
struct Kept {
    snapshot: Option<Arc<Snapshot>>,
    old_at: Option<Instant>,
}

impl Fresh {
    /// The backlog that was read last, or a new one. Whoever asks meanwhile waits for the same.
    pub(in crate::desk) fn get(&self, config: &Config, now: i64) -> Result<Arc<Snapshot>, Error> {
        self.get_by(now, |now| Backlog::read(Scanner::new(config, &|_| true), now))
    }

    /// The backlog that was read last. Where somebody reads it now, nobody waits.
    pub(in crate::desk) fn last(&self) -> Option<Arc<Snapshot>> {
        self.kept().snapshot.clone()
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn get_by(&self, now: i64, read: impl FnOnce(i64) -> Result<Backlog, Error>) -> Result<Arc<Snapshot>, Error> {
        let _reading = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        let last = {
            let kept = self.kept();
            let is_fresh = kept.old_at.is_some_and(|old_at| Instant::now() < old_at);
            match &kept.snapshot {
                Some(snapshot) if is_fresh => return Ok(Arc::clone(snapshot)),
                last => last.clone(),
            }
        };
        let began = Instant::now();
        let backlog = read(now);
        let took = began.elapsed();
        let mut kept = self.kept();
        kept.old_at = Some(Instant::now() + FRESH_FOR.max(FRESH_TIMES * took));
        match (backlog, last) {
            (Ok(backlog), _) => {
                let snapshot = Arc::new(Snapshot { at: now, backlog });
                kept.snapshot = Some(Arc::clone(&snapshot));
                Ok(snapshot)
            }
            // Its time says how old it is.
            (Err(Error::Unavailable(_)), Some(snapshot)) => Ok(snapshot),
            (Err(error), _) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backlog_is_read_once_for_all_who_ask_at_a_time_and_an_old_one_is_better_than_none() {
        let fresh = Fresh::default();
        let away = || Err(Error::Unavailable("no broker".into()));
        assert!(fresh.get_by(1, |_| away()).is_err());
        let first = fresh.get_by(2, |_| Ok(Backlog::default())).unwrap();
        assert_eq!(fresh.get_by(3, |_| panic!("it is fresh")).unwrap().at, 2);
        fresh.kept().old_at = None;
        assert_eq!(fresh.get_by(4, |_| away()).unwrap().at, first.at);
        fresh.kept().old_at = None;
        let read = |_| {
            assert_eq!(fresh.last().unwrap().at, 2, "nobody waits for who reads");
            Ok(Backlog::default())
        };
        assert_eq!(fresh.get_by(5, read).unwrap().at, 5);
    }
}
