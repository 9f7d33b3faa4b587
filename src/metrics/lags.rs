//! Lags of consumers, each a gauge as long as somebody tells it.

use std::sync::Arc;

use super::Metrics;

/// The lags that one reader tells. A lag that nobody can tell any more is none: its partition is
/// another's now, or Kafka is silent.
#[derive(Debug)]
pub struct Lags {
    metrics: Arc<Metrics>,
    told: Vec<(String, i32)>,
}

impl Lags {
    pub fn new(metrics: &Arc<Metrics>) -> Self {
        Self {
            metrics: Arc::clone(metrics),
            told: Vec::new(),
        }
    }

    /// By topic and partition; these in place of those before.
    pub fn tell(&mut self, lags: Vec<(String, i32, i64)>) {
        self.forget();
        for (topic, partition, lag) in lags {
            self.metrics.lag(&topic, partition, Some(lag));
            self.told.push((topic, partition));
        }
    }

    fn forget(&mut self) {
        for (topic, partition) in self.told.drain(..) {
            self.metrics.lag(&topic, partition, None);
        }
    }
}

impl Drop for Lags {
    fn drop(&mut self) {
        self.forget();
    }
}
