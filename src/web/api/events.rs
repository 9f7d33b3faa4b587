//! Lead events that came of late, and why a lead notified somebody or nobody.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::deliveries::Item as Delivery;
use super::{Desk, Json, List, Path, Query, Which, id};
use crate::dates::time_text;
use crate::desk::Error;
use crate::desk::page::Page;
use crate::desk::recent::{self, Filter};
use crate::desk::resident::events::Recent;
use crate::desk::why::{self, OfEvent, OfRule, Today};
use crate::rules::Failed;
use crate::text::mask::{mask, mask_json};
use crate::web::Web;
use crate::web::problem::Problem;

pub(super) fn routes() -> OpenApiRouter<Arc<Web>> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(lead))
}

/// Which events are asked for: all conditions must hold.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct Asked {
    lead_id: Option<String>,
    trigger: Option<String>,
    /// By this inlet.
    inlet: Option<String>,
    /// Those that any rule matched, or those that none did.
    matched: Option<bool>,
}

/// A lead event, masked.
#[derive(Debug, Serialize, ToSchema)]
struct Event {
    id: String,
    lead_id: String,
    trigger: String,
    inlet: Option<String>,
    /// RFC 3339.
    occurred_at: String,
    /// When it was written to the topic, RFC 3339.
    written_at: String,
    is_test: bool,
    /// Whether any rule matched it.
    matched: bool,
    /// The event as JSON.
    #[schema(value_type = Object)]
    event: Value,
}

impl Event {
    fn of(web: &Web, recent: &Recent) -> Result<Self, Error> {
        let mut event = web.resident.with_event(recent, |event| event.to_json())?;
        mask_json(&mut event);
        Ok(Self {
            id: id(&recent.event_id),
            lead_id: id(&recent.lead_id),
            trigger: mask(&recent.trigger).into_owned(),
            inlet: recent.inlet.as_deref().map(str::to_owned),
            occurred_at: time_text(recent.occurred_at),
            written_at: time_text(recent.place.at),
            is_test: recent.is_test,
            matched: web.resident.deliveries().has_event(&recent.event_id),
            event,
        })
    }
}

/// Recent lead events, newest first.
#[utoipa::path(get, path = "/events", tag = "events", params(Asked, Which),
    responses((status = OK, description = "A page of them", body = List<Event>)))]
async fn list(
    desk: Desk,
    Query(asked): Query<Asked>,
    Query(which): Query<Which>,
) -> Result<Json<List<Event>>, Problem> {
    let (after, limit) = (which.after()?, which.limit()?);
    let page = desk.0.ask(move |web| {
        let filter = Filter {
            lead: asked.lead_id,
            trigger: asked.trigger,
            inlet: asked.inlet,
            matched: asked.matched,
            event: None,
        };
        let Page { items, next } = recent::events(&web.resident, &filter, after, limit);
        let items: Result<Vec<Event>, Error> = items.iter().map(|recent| Event::of(web, recent)).collect();
        Ok(Page { items: items?, next })
    });
    Ok(Json(page.await?.into()))
}

/// Why a lead notified somebody, or nobody.
#[derive(Debug, Serialize, ToSchema)]
struct Why {
    lead_id: String,
    /// Newest first.
    events: Vec<Explained>,
    /// How many older events of it are kept, and not explained.
    more: usize,
}

/// An event, and what became of it.
#[derive(Debug, Serialize, ToSchema)]
struct Explained {
    #[serde(flatten)]
    event: Event,
    /// Those that matched, then the nearest.
    rules: Vec<Looked>,
    /// How many more rules of its trigger and scope there are.
    further: usize,
    /// How many rules of its trigger are for another product, campaign, publisher or inlet.
    elsewhere: usize,
    deliveries: Vec<Delivery>,
}

/// What a rule made of an event.
#[derive(Debug, Serialize, ToSchema)]
struct Looked {
    rule_id: String,
    name: Option<String>,
    /// The version that was in force when the event was read; null where that isn't known, and today's answers.
    version: Option<i64>,
    matched: bool,
    /// The conditions that don't hold.
    failed: Vec<Fell>,
    /// What the rule makes of it now, where it was changed since.
    today: Option<Now>,
}

/// A condition that doesn't hold.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = EventsFell)]
struct Fell {
    path: String,
    wanted: String,
    /// What the event has, masked; null where that is missing.
    found: Option<String>,
}

/// What a rule makes of an event now.
#[derive(Debug, Serialize, ToSchema)]
struct Now {
    /// Null where no such rule is in force any more.
    version: Option<i64>,
    failed: Vec<Fell>,
}

fn fell(failed: Vec<Failed>) -> Vec<Fell> {
    let masked = |failed: Failed| Fell {
        path: failed.path,
        wanted: mask(&failed.wanted).into_owned(),
        found: failed.found.map(|found| mask(&found).into_owned()),
    };
    failed.into_iter().map(masked).collect()
}

impl From<OfRule> for Looked {
    fn from(of: OfRule) -> Self {
        Self {
            matched: of.failed.is_empty(),
            rule_id: of.id,
            name: of.name,
            version: of.version,
            failed: fell(of.failed),
            today: of.today.map(|Today { version, failed }| Now {
                version,
                failed: fell(failed),
            }),
        }
    }
}

/// Why a lead notified somebody, or nobody: each of its recent events, each rule that could have matched, and each job.
#[utoipa::path(get, path = "/leads/{lead_id}", tag = "events", params(("lead_id" = String, Path, description = "The lead's id")),
    responses((status = OK, description = "Its life", body = Why)))]
async fn lead(desk: Desk, Path(lead): Path<String>) -> Result<Json<Why>, Problem> {
    let why = desk.0.ask(move |web| {
        let why = why::lead(&web.resident, &lead)?;
        let explained = |of: OfEvent| {
            Ok(Explained {
                event: Event::of(web, &of.event)?,
                rules: of.rules.into_iter().map(Looked::from).collect(),
                further: of.further,
                elsewhere: of.elsewhere,
                deliveries: of.jobs.into_iter().map(Delivery::from).collect(),
            })
        };
        Ok(Why {
            lead_id: id(&why.lead_id),
            events: why.events.into_iter().map(explained).collect::<Result<_, Error>>()?,
            more: why.more,
        })
    });
    Ok(Json(why.await?))
}
