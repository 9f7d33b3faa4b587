//! Pickers that wait to be used again: to make one takes longer than to use it.

use std::sync::{Mutex, PoisonError};

use super::deliveries::Spot;
use crate::config::Config;
use crate::desk::Error;
use crate::kafka::pick::Picker;
use crate::kafka::reader::Record;

/// So many wait.
const IDLE_MAX: usize = 8;

#[derive(Debug, Default)]
pub(super) struct Pickers(Mutex<Vec<Picker>>);

impl Pickers {
    /// The records at these places, in their order; none where one isn't there any more.
    pub(super) fn pick(&self, config: &Config, topic: &str, spots: &[Spot]) -> Result<Vec<Option<Record>>, Error> {
        let mut records: Vec<Option<Record>> = vec![None; spots.len()];
        if spots.is_empty() {
            return Ok(records);
        }
        let places: Vec<(i32, i64)> = spots.iter().map(|spot| (spot.partition, spot.offset)).collect();
        let idle = self.take(topic);
        let was_idle = idle.is_some();
        let mut picker = match idle {
            Some(picker) => picker,
            None => Picker::open(config, topic).map_err(Error::Unavailable)?,
        };
        let mut picked = picker.pick(&places, |number, record| records[number] = Some(record));
        if picked.is_err() && was_idle {
            // What it knew of the topic may be outdated.
            picker = Picker::open(config, topic).map_err(Error::Unavailable)?;
            picked = picker.pick(&places, |number, record| records[number] = Some(record));
        }
        picked.map_err(Error::Unavailable)?;
        self.give_back(picker);
        Ok(records)
    }

    fn take(&self, topic: &str) -> Option<Picker> {
        let mut idle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let at = idle.iter().position(|picker| picker.topic() == topic)?;
        Some(idle.swap_remove(at))
    }

    fn give_back(&self, picker: Picker) {
        let mut idle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() >= IDLE_MAX {
            idle.remove(0);
        }
        idle.push(picker);
    }
}
