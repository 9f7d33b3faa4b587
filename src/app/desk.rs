//! The rule desk of a process: its routes, and the threads that fill its memory.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Role, Shared};
use crate::clock::wall_millis;
use crate::config::Config;
use crate::desk::resident::{Resident, Topic};
use crate::lead::schemas::SchemaId;
use crate::registry::{Lookup, Registry};
use crate::secrets::Secrets;
use crate::web::{self, Web};

/// How often the registry is asked at the most for what the desk can't read.
const SCHEMAS_EVERY: Duration = Duration::from_secs(2);

pub(super) struct Desk {
    resident: Arc<Resident>,
}

impl Desk {
    pub(super) fn new(config: &Arc<Config>) -> Self {
        Self {
            resident: Arc::new(Resident::new(Arc::clone(config))),
        }
    }

    /// The routes of pages and API. They open nothing that is sealed, and so need no keys.
    pub(super) fn routes(&self, roles: &[Role]) -> axum::Router {
        let secrets = Secrets::new(self.resident.config().secrets.dir.clone());
        let web = Web::new(Arc::clone(&self.resident), secrets, wall_millis);
        let roles = roles.iter().map(|role| role.as_str()).collect();
        web::router(Arc::new(web.in_roles(roles)))
    }

    /// The threads that read what the desk keeps in memory. Nobody waits for them.
    pub(super) fn start(self, shared: &Shared) -> anyhow::Result<()> {
        let registry = Registry::of(&shared.config.schema_registry)?;
        for topic in Topic::ALL {
            let (mut follower, stop) = (self.resident.follower(topic), shared.stop.clone());
            let registry = registry.clone().filter(|_| topic == Topic::Events);
            let (resident, runtime) = (Arc::clone(&self.resident), tokio::runtime::Handle::current());
            let work = move || {
                let mut ask_at = Instant::now();
                while !*stop.borrow() {
                    follower.step(wall_millis());
                    let ids = if ask_at <= Instant::now() {
                        resident.lacking()
                    } else {
                        Vec::new()
                    };
                    if let (Some(registry), false) = (&registry, ids.is_empty()) {
                        runtime.block_on(look_up(&resident, registry, &ids));
                        ask_at = Instant::now() + SCHEMAS_EVERY;
                    }
                }
                Ok(())
            };
            shared.parts.thread(&format!("desk-{}", topic.as_str()), work)?;
        }
        Ok(())
    }
}

/// Asks the registry for the schemas that recent events wait for. What it doesn't answer is asked for again.
async fn look_up(resident: &Resident, registry: &Registry, ids: &[SchemaId]) {
    let take = |id: SchemaId, answer| match answer {
        Ok(Lookup::Schema { text, references }) => resident.learn(id, &text, &references),
        Ok(Lookup::Denied(why)) => resident.deny(id, &why),
        Err(error) => tracing::debug!(schema = %id, %error, "recent events wait for the schema registry"),
    };
    registry.schemas(ids, take).await;
}
