//! Inlets: the ways in, and what came in by each.

use std::sync::Arc;

use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{Desk, Json, List, Query, Which};
use crate::dates::time_text;
use crate::reason::Reason;
use crate::text::mask::mask;
use crate::web::Web;
use crate::web::inlets::{Seen, Way, seen};
use crate::web::problem::Problem;

pub(super) fn routes() -> OpenApiRouter<Arc<Web>> {
    OpenApiRouter::new().routes(routes!(list))
}

/// An inlet, and what came in by it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = InletsItem)]
struct Item {
    name: String,
    preset: Option<&'static str>,
    /// http or topic.
    kind: &'static str,
    /// The address to send to; null for one that reads a topic.
    url: Option<String>,
    topic: Option<String>,
    /// The names of the secrets that open it.
    secrets: Vec<String>,
    /// A request with curl.
    sample: Option<String>,
    /// Events of the last 24 hours.
    taken_24h: u64,
    last_at: Option<String>,
    /// Dead letters of the last 24 hours.
    refused_24h: u64,
    last_refused: Option<Refused>,
    /// Events of the last seven days by the hour, oldest first.
    hours: Vec<Hour>,
}

#[derive(Debug, Serialize, ToSchema)]
struct Hour {
    /// RFC 3339.
    from: String,
    events: u64,
}

/// A record that became a dead letter.
#[derive(Debug, Serialize, ToSchema)]
struct Refused {
    /// The dead letter's id.
    id: String,
    reason: Option<&'static str>,
    detail: String,
    at: String,
}

impl From<Seen> for Item {
    fn from(seen: Seen) -> Self {
        let taken_24h = seen.taken_24h();
        let (kind, url, topic, secrets, sample) = match seen.way {
            Way::Http { url, secrets, sample } => ("http", Some(url), None, secrets, Some(sample)),
            Way::Topic(topic) => ("topic", None, Some(topic), Vec::new(), None),
        };
        let hour = |(from, events): (i64, u64)| Hour {
            from: time_text(from),
            events,
        };
        Self {
            name: seen.name,
            preset: seen.preset,
            kind,
            url,
            topic,
            secrets,
            sample,
            taken_24h,
            last_at: seen.last_at.map(time_text),
            refused_24h: seen.refused_24h,
            last_refused: seen.last_refused.map(|letter| Refused {
                id: letter.id.to_string(),
                reason: letter.reason.map(Reason::as_str),
                detail: mask(&letter.detail).into_owned(),
                at: time_text(letter.place.at),
            }),
            hours: seen.hours.into_iter().map(hour).collect(),
        }
    }
}

/// The inlets of the configuration, in its order.
#[utoipa::path(get, path = "/inlets", tag = "inlets", params(Which),
    responses((status = OK, description = "A page of them", body = List<Item>)))]
async fn list(desk: Desk, Query(which): Query<Which>) -> Result<Json<List<Item>>, Problem> {
    let (limit, now) = (which.limit()?, (desk.0.now)());
    let seen = desk.0.ask(move |web| Ok(seen(&web.config, &web.resident, now))).await?;
    let begin = match which.after_name() {
        None => 0,
        Some(after) => seen
            .iter()
            .position(|seen| seen.name == after)
            .map_or(seen.len(), |at| at + 1),
    };
    let mut behind = seen.into_iter().skip(begin);
    let items: Vec<Item> = behind.by_ref().take(limit).map(Item::from).collect();
    let next = behind.next().and_then(|_| items.last().map(|last| last.name.clone()));
    Ok(Json(List { items, next }))
}
