//! Asks the schema registry about a record whose schema isn't known, without reading any record twice.
//!
//! The loop holds that record and the records that Kafka has ready behind it, so that it asks for all of their schemas
//! at once. Meanwhile it writes nothing, and no transaction is open. While the registry is down the worker waits and
//! stays in its group. A registry that fails for a single id doesn't hold the worker for ever: see
//! [`crate::registry::doubts`].

use std::time::{Duration, Instant};

use super::Loop;
use crate::kafka::{Fault, Message};
use crate::lead::decode::lacks;
use crate::lead::schemas::{SchemaId, Schemas};
use crate::registry::doubts::DOUBTED_AFTER;
use crate::registry::{Lookup, Registry, RegistryError};

/// So many records are read ahead, and what comes with them in one call.
const HELD_MAX: usize = 1000;
/// And so many bytes of them.
const HELD_BYTES_MAX: usize = 8 * 1024 * 1024;
/// So many ids are asked for at once. With the most that one answer has, [`Schemas`] keeps as many.
const IDS_MAX: usize = 30;
/// The first wait for a registry that fails; each further one is twice as long.
const WAIT: Duration = Duration::from_millis(200);
const WAIT_MAX: Duration = Duration::from_secs(5);

impl Loop<'_> {
    /// Asks until the first of the held records can be decided, or until the stop.
    pub(super) fn look_up(&mut self, schemas: &mut Schemas) -> Result<(), Fault> {
        let Some(registry) = self.batches.registry else {
            return Ok(());
        };
        self.read_ahead()?;
        let (mut wait, mut paused) = (WAIT, false);
        loop {
            let ids = self.lacking(schemas);
            if !ids.is_empty() {
                self.ask(registry, &ids, schemas);
                self.report();
            }
            let first = self.held.front();
            let lacks = first.is_some_and(|first| lacks(first.payload().unwrap_or_default(), schemas).is_some());
            if !lacks || *self.batches.stop.borrow() {
                break;
            }
            paused = true;
            self.idle(wait)?;
            wait = (wait * 2).min(WAIT_MAX);
        }
        if paused {
            self.batches.worker.pause(false)?;
        }
        Ok(())
    }

    /// Holds what is there already behind the record that waits.
    fn read_ahead(&mut self) -> Result<(), Fault> {
        let mut bytes = 0;
        while self.held.len() < HELD_MAX && bytes < HELD_BYTES_MAX {
            let had = self.held.len();
            self.poll(Duration::ZERO)?;
            // A rebalance may have taken some away.
            if self.held.len() <= had {
                break;
            }
            let came = self.held.range(had..);
            bytes += came.map(|held| held.payload().map_or(0, <[u8]>::len)).sum::<usize>();
        }
        Ok(())
    }

    /// The ids that the held records need, in their order.
    fn lacking(&self, schemas: &Schemas) -> Vec<SchemaId> {
        let mut ids = Vec::new();
        for held in &self.held {
            match lacks(held.payload().unwrap_or_default(), schemas) {
                Some(id) if !ids.contains(&id) => ids.push(id),
                _ => {}
            }
            if ids.len() == IDS_MAX {
                break;
            }
        }
        ids
    }

    /// Asks for all of them once, and takes what is answered.
    fn ask(&mut self, registry: &Registry, ids: &[SchemaId], schemas: &mut Schemas) {
        let mut failed: Vec<(SchemaId, RegistryError)> = Vec::new();
        let (doubts, mut works) = (&mut self.doubts, false);
        let mut take = |id, answer: Result<Lookup, RegistryError>| match answer {
            Ok(answer) => {
                works = true;
                doubts.answered(id, matches!(answer, Lookup::Schema { .. }));
                match answer {
                    Lookup::Schema { text, references } => schemas.learn(id, &text, &references),
                    Lookup::Denied(detail) => schemas.deny(id, detail),
                }
            }
            Err(error) => failed.push((id, error)),
        };
        let mut stop = self.batches.stop.clone();
        self.batches.runtime.block_on(async {
            tokio::select! {
                () = registry.schemas(ids, &mut take) => {}
                Ok(_) = stop.wait_for(|stop| *stop) => {}
            }
        });
        let Some((id, error)) = failed.first() else { return };
        let failing: Vec<SchemaId> = failed.iter().map(|(id, _)| *id).collect();
        if !works {
            let witness = self.doubts.witness(&failing);
            works = self.batches.runtime.block_on(registry.schema(witness)).is_ok();
        }
        tracing::warn!(schema = %id, schemas = failed.len(), %error, "{} wait for the schema registry", self.batches.what);
        for id in self.doubts.failed(&failing, works, Instant::now()) {
            let error = failed.iter().find(|(failed, _)| *failed == id);
            let error = error.map(|(_, error)| error.to_string()).unwrap_or_default();
            let detail = format!(
                "the schema registry answers about others, but has failed for this id for {} s: {error}",
                DOUBTED_AFTER.as_secs()
            );
            tracing::error!(schema = %id, detail, "the schema is taken for unknown; replay its dead letters once the registry has it");
            schemas.deny(id, detail);
        }
    }
}
