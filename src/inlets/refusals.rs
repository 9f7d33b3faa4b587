//! Logs requests that show no valid secret or signature: at most one line a minute for each inlet, so that nobody can
//! fill the log from outside.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// From one line of an inlet to its next.
const SPACING: Duration = Duration::from_secs(60);

/// The requests that were refused since the log last said so, by inlet.
#[derive(Debug, Default)]
pub(super) struct Refusals(Mutex<HashMap<String, Logged>>);

#[derive(Debug, Default)]
struct Logged {
    last: Option<Instant>,
    not_logged: u64,
}

impl Refusals {
    /// Notes that a request was refused, and says so where the log hasn't for a minute.
    pub(super) fn note(&self, inlet: &str, now: Instant) {
        if let Some(count) = self.due(inlet, now) {
            tracing::warn!(
                inlet,
                count,
                "requests were refused with 401: no valid secret, or a signature that is wrong or old; check the sender's and the secret store's"
            );
        }
    }

    /// How many were refused since the last line, where a line is due.
    fn due(&self, inlet: &str, now: Instant) -> Option<u64> {
        let mut inlets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !inlets.contains_key(inlet) {
            inlets.insert(inlet.to_owned(), Logged::default());
        }
        let logged = inlets.get_mut(inlet)?;
        logged.not_logged += 1;
        if logged.last.is_some_and(|last| now.duration_since(last) < SPACING) {
            return None;
        }
        logged.last = Some(now);
        Some(std::mem::take(&mut logged.not_logged))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_has_a_line_a_minute_and_inlet() {
        let refusals = Refusals::default();
        let began = Instant::now();
        let at = |seconds: u64| began + Duration::from_secs(seconds);
        assert_eq!(refusals.due("crm", at(0)), Some(1));
        assert_eq!(refusals.due("rows", at(1)), Some(1));
        for second in 1..60 {
            assert_eq!(refusals.due("crm", at(second)), None);
        }
        assert_eq!(refusals.due("crm", at(60)), Some(60));
        assert_eq!(refusals.due("crm", at(61)), None);
    }
}
