//! What runs.

use std::sync::Arc;

use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{Desk, Json};
use crate::dates::time_text;
use crate::web::Web;
use crate::web::problem::Problem;
use crate::web::who::Actor;

pub(super) fn routes() -> OpenApiRouter<Arc<Web>> {
    OpenApiRouter::new().routes(routes!(status))
}

/// What runs, how far it is, and who asks.
#[derive(Debug, Serialize, ToSchema)]
struct Status {
    version: &'static str,
    /// What else this process does.
    roles: Vec<&'static str>,
    /// The name and the role of who asks.
    name: String,
    role: &'static str,
    /// The rules in force, and the records that are none.
    rules: usize,
    rejected: usize,
    /// How far each group is behind; null where Kafka doesn't answer.
    groups: Option<Vec<Group>>,
    /// How far the desk's memory of each topic reaches.
    reach: Vec<Reach>,
    /// How many it holds.
    events: usize,
    deliveries: usize,
    /// Since when the 24 h figures count, RFC 3339; null where they hold all that is kept.
    counted_from: Option<String>,
    /// What the process takes of the machine's memory, in bytes.
    resident_bytes: Option<u64>,
}

/// A consumer group, and what it has still to read of a topic.
#[derive(Debug, Serialize, ToSchema)]
struct Group {
    group: String,
    topic: String,
    lag: i64,
    /// By partition; null where nothing was committed.
    partitions: Vec<Option<i64>>,
}

/// How far the memory of a topic reaches. Times are RFC 3339.
#[derive(Debug, Serialize, ToSchema)]
struct Reach {
    /// rules, events, jobs, outcomes, dead-letters or audit.
    topic: &'static str,
    since: Option<String>,
    /// Nothing that the topic holds is left out.
    whole: bool,
    caught_up: bool,
    /// Since when the topic has been out of reach.
    cut_off_since: Option<String>,
}

/// What runs, and how far back the desk's memory reaches.
#[utoipa::path(get, path = "/status", tag = "status", responses((status = OK, description = "What runs", body = Status)))]
async fn status(desk: Desk, actor: Actor) -> Result<Json<Status>, Problem> {
    let status = desk.0.ask(|web| Ok(web.status())).await?;
    let group = |lag: crate::kafka::groups::Lag| Group {
        lag: lag.total(),
        group: lag.group,
        topic: lag.topic,
        partitions: lag.partitions,
    };
    let reach = |reach: crate::desk::resident::Reach| Reach {
        topic: reach.topic.as_str(),
        since: reach.since.map(time_text),
        whole: reach.whole,
        caught_up: reach.caught_up,
        cut_off_since: reach.cut_off.map(|cut_off| time_text(cut_off.since)),
    };
    Ok(Json(Status {
        version: env!("CARGO_PKG_VERSION"),
        roles: status.roles,
        role: actor.role.as_str(),
        name: actor.name,
        rules: status.rules,
        rejected: status.rejected,
        groups: status.lags.ok().map(|lags| lags.into_iter().map(group).collect()),
        reach: status.reach.into_iter().map(reach).collect(),
        events: status.events,
        deliveries: status.deliveries,
        counted_from: status.counted_from.map(time_text),
        resident_bytes: status.resident_bytes,
    }))
}
