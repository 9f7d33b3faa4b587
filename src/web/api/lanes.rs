//! Lanes: what waits, and what people order of it.

use std::sync::Arc;

use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{Desk, Json, List, Path, Query, Which};
use crate::dates::time_text;
use crate::delivery::recall::credential_of;
use crate::desk::Error;
use crate::desk::lanes::{self, Lane, Ordered};
use crate::text::mask::mask;
use crate::web::Web;
use crate::web::order::ordered;
use crate::web::problem::Problem;
use crate::web::who::Actor;

pub(super) fn routes() -> OpenApiRouter<Arc<Web>> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(get))
        .routes(routes!(probe))
        .routes(routes!(pause))
        .routes(routes!(resume))
}

/// A lane in which jobs wait, or what is paused: a lane, a credential or `*` for all sending.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = LanesItem)]
struct Item {
    id: String,
    credential: String,
    waiting: u64,
    /// When the first of them was written, RFC 3339, as all times here.
    oldest_at: Option<String>,
    /// When the next request may start at the earliest; null where its sender alone knows, and while it is paused.
    next_at: Option<String>,
    frozen: Option<Frozen>,
    paused: Option<Paused>,
    limit: Limit,
}

/// Why nothing of it starts.
#[derive(Debug, Serialize, ToSchema)]
struct Frozen {
    until: Option<String>,
    /// The provider's words, masked.
    why: String,
    /// The credential is refused.
    refused: bool,
}

/// A pause that somebody ordered.
#[derive(Debug, Serialize, ToSchema)]
struct Paused {
    /// The lane, its credential or `*`.
    of: String,
    who: Option<String>,
    since: Option<String>,
}

/// Rates such as `1/s`.
#[derive(Debug, Serialize, ToSchema)]
struct Limit {
    lane: Option<String>,
    credential: Option<String>,
    in_flight: Option<usize>,
}

impl From<Lane> for Item {
    fn from(lane: Lane) -> Self {
        Self {
            id: lane.id,
            credential: lane.credential,
            waiting: lane.waiting,
            oldest_at: lane.oldest_at.map(time_text),
            next_at: lane.next_at.map(time_text),
            frozen: lane.frozen.map(|frozen| Frozen {
                until: frozen.until.map(time_text),
                why: mask(&frozen.why).into_owned(),
                refused: frozen.refused,
            }),
            paused: lane.paused.map(|paused| Paused {
                of: paused.of,
                who: paused.who,
                since: paused.since.map(time_text),
            }),
            limit: Limit {
                lane: lane.limit.lane.map(|rate| rate.to_string()),
                credential: lane.limit.credential.map(|rate| rate.to_string()),
                in_flight: lane.limit.in_flight,
            },
        }
    }
}

/// The lanes in which jobs wait and what is paused, by id.
#[utoipa::path(get, path = "/lanes", tag = "lanes", params(Which),
    responses((status = OK, description = "A page of them", body = List<Item>)))]
async fn list(desk: Desk, Query(which): Query<Which>) -> Result<Json<List<Item>>, Problem> {
    let (limit, now) = (which.limit()?, (desk.0.now)());
    let (lanes, _) = desk.0.ask(move |web| lanes::read(&web.resident, now)).await?;
    let after = which.after_name().unwrap_or_default();
    let mut behind = lanes.into_iter().filter(|lane| *lane.id > *after);
    let items: Vec<Item> = behind.by_ref().take(limit).map(Item::from).collect();
    let next = behind.next().and_then(|_| items.last().map(|last| last.id.clone()));
    Ok(Json(List { items, next }))
}

/// The lanes of one credential, or one lane.
#[derive(Debug, Serialize, ToSchema)]
struct One {
    id: String,
    /// How many jobs wait in all of them.
    waiting: u64,
    lanes: Vec<Item>,
}

/// One lane, the lanes of a credential, or all (`*`).
#[utoipa::path(get, path = "/lanes/{lane}", tag = "lanes", params(("lane" = String, Path, description = "A lane's or a credential's id, or *")),
    responses((status = OK, description = "What waits there", body = One)))]
async fn get(desk: Desk, Path(id): Path<String>) -> Result<Json<One>, Problem> {
    let now = (desk.0.now)();
    let one = desk.0.ask(move |web| {
        let (lanes, _) = lanes::read(&web.resident, now)?;
        let is_asked = |lane: &Lane| id == "*" || lane.id == id || credential_of(&lane.id) == id;
        let lanes: Vec<Item> = lanes.into_iter().filter(is_asked).map(Item::from).collect();
        if lanes.is_empty() && id != "*" {
            return Err(Error::NotFound(format!(
                "nothing waits in a lane {id}, and it isn't paused"
            )));
        }
        Ok(One {
            waiting: lanes.iter().map(|lane| lane.waiting).sum(),
            lanes,
            id,
        })
    });
    Ok(Json(one.await?))
}

/// What became of an order.
#[derive(Debug, Serialize, ToSchema)]
struct Order {
    id: String,
    /// Whether it was not so already.
    changed: bool,
    paused: bool,
    probe_at: Option<String>,
    who: Option<String>,
    when: Option<String>,
}

async fn order(desk: Desk, actor: Actor, order: &str, lane: String) -> Result<Json<Order>, Problem> {
    let id = lane.clone();
    let Ordered { changed, control } = ordered(&desk.0, &actor, order, lane).await?;
    let control = control.unwrap_or_default();
    Ok(Json(Order {
        id,
        changed,
        paused: control.paused,
        probe_at: control.probe_at.map(time_text),
        who: control.who,
        when: control.when.map(time_text),
    }))
}

/// Tries a refused credential, or a lane that backs off, at once. What a provider asked to wait is still waited for.
#[utoipa::path(post, path = "/lanes/{lane}/probe", tag = "lanes", params(("lane" = String, Path, description = "A lane's or a credential's id")),
    responses((status = OK, description = "It is tried", body = Order),
        (status = CONFLICT, description = "It is paused", body = Problem, content_type = "application/problem+json")))]
async fn probe(desk: Desk, actor: Actor, Path(lane): Path<String>) -> Result<Json<Order>, Problem> {
    order(desk, actor, "probe", lane).await
}

/// Lets nothing of a lane, a credential or all sending (`*`) start until it is resumed.
#[utoipa::path(post, path = "/lanes/{lane}/pause", tag = "lanes", params(("lane" = String, Path, description = "A lane's or a credential's id, or *")),
    responses((status = OK, description = "It is paused", body = Order),
        (status = CONFLICT, description = "Other writers took over again and again", body = Problem, content_type = "application/problem+json")))]
async fn pause(desk: Desk, actor: Actor, Path(lane): Path<String>) -> Result<Json<Order>, Problem> {
    order(desk, actor, "pause", lane).await
}

/// Goes on with what was paused.
#[utoipa::path(post, path = "/lanes/{lane}/resume", tag = "lanes", params(("lane" = String, Path, description = "A lane's or a credential's id, or *")),
    responses((status = OK, description = "It goes on", body = Order),
        (status = CONFLICT, description = "Other writers took over again and again", body = Problem, content_type = "application/problem+json")))]
async fn resume(desk: Desk, actor: Actor, Path(lane): Path<String>) -> Result<Json<Order>, Problem> {
    order(desk, actor, "resume", lane).await
}
