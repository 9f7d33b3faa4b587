//! Lags of consumers, each a gauge as long as somebody reports it.

use std::sync::Arc;

use super::Metrics;

/// The lags that one reader reports. A lag that nobody reports any more is removed: its partition has another
/// owner now, or Kafka is silent.
#[derive(Debug)]
pub struct Lags {
    metrics: Arc<Metrics>,
    reported: Vec<(String, i32)>,
}

impl Lags {
    pub fn new(metrics: &Arc<Metrics>) -> Self {
        Self {
            metrics: Arc::clone(metrics),
            reported: Vec::new(),
        }
    }

    /// Reports lags by topic and partition, in place of those before.
    pub fn report(&mut self, lags: Vec<(String, i32, i64)>) {
        self.forget();
        for (topic, partition, lag) in lags {
            self.metrics.lag(&topic, partition, Some(lag));
            self.reported.push((topic, partition));
        }
    }

    fn forget(&mut self) {
        for (topic, partition) in self.reported.drain(..) {
            self.metrics.lag(&topic, partition, None);
        }
    }
}

impl Drop for Lags {
    fn drop(&mut self) {
        self.forget();
    }
}
