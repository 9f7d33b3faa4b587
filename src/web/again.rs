//! Replays, as pages and API ask for them.

use std::time::Duration;

use tokio::runtime::Handle;

use super::Web;
use crate::desk::Error;
use crate::desk::dead_letters::Id;
use crate::desk::replay::job::{Again, again};
use crate::desk::replay::{self, Fate, Outside, Request, Summary, Went};
use crate::desk::scan::Scanner;
use crate::kafka::topics;
use crate::lead::schemas::{SchemaId, Schemas};
use crate::registry;

/// So many fates are told; the rest is counted.
const TOLD_MAX: usize = 10_000;

/// What became of dead letters, or would.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Replayed {
    pub(super) went: Vec<Went>,
    pub(super) refused: Vec<(Id, String)>,
    pub(super) summary: Summary,
}

impl Web {
    /// Replays dead letters. It blocks.
    pub(super) fn replay(&self, request: &Request) -> Result<Replayed, Error> {
        let mut replayed = Replayed::default();
        let scanner = Scanner::new(&self.config, &|_| true);
        replayed.summary = replay::run(scanner, request, &mut Here(self), self.now, |fate| {
            match fate {
                Fate::Back(went) if replayed.went.len() < TOLD_MAX => replayed.went.push(went),
                Fate::Refused { id, why } if replayed.refused.len() < TOLD_MAX => replayed.refused.push((id, why)),
                Fate::Back(_) | Fate::Refused { .. } => {}
            }
            Ok::<_, Error>(())
        })?;
        Ok(replayed)
    }

    /// Asks for a delivery again. It blocks.
    pub(super) fn again(&self, id: &str, who: &str) -> Result<Again, Error> {
        let scanner = Scanner::new(&self.config, &|_| true);
        again(&self.resident, scanner, id, who, &mut Here(self), self.now)
    }
}

/// What the desk asks outside of the topics, on a thread that may block.
struct Here<'w>(&'w Web);

impl Outside for Here<'_> {
    fn schema(&mut self, id: SchemaId, schemas: &mut Schemas) -> Result<(), Error> {
        let asked = registry::look_up(&self.0.config.schema_registry, id, schemas);
        let asked = Handle::current().block_on(asked);
        asked.map_err(|error| Error::Unavailable(error.to_string()))
    }

    fn event_max(&mut self) -> Result<usize, Error> {
        let config = &self.0.config;
        let asked = Handle::current().block_on(topics::record_max(config, &config.topics.events));
        asked.map_err(Error::Unavailable)
    }

    fn wait(&mut self, wait: Duration) -> Result<(), Error> {
        std::thread::sleep(wait);
        Ok(())
    }
}
