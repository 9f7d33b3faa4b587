//! A record unmasked. The audit has who looked.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{Desk, Json};
use crate::config::admin::Role;
use crate::web::Web;
use crate::web::problem::Problem;
use crate::web::reveal::{Revealed, What};
use crate::web::who::Actor;

pub(super) fn routes() -> OpenApiRouter<Arc<Web>> {
    OpenApiRouter::new().routes(routes!(reveal))
}

/// What can be looked at in full.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum Of {
    /// A recent event, by its event id.
    Event,
    /// A delivery, by its job's id.
    Delivery,
    /// A dead letter, by its PARTITION-OFFSET.
    DeadLetter,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = RevealWanted)]
struct Wanted {
    what: Of,
    id: String,
}

/// A record, unmasked.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = RevealWhole)]
struct Whole {
    what: &'static str,
    id: String,
    record: Value,
}

/// Gives a record unmasked, once the audit has who looks.
#[utoipa::path(post, path = "/reveal", tag = "deliveries", request_body = Wanted,
    responses((status = OK, description = "The record", body = Whole)))]
async fn reveal(desk: Desk, actor: Actor, Json(wanted): Json<Wanted>) -> Result<Json<Whole>, Problem> {
    actor.needs(Role::Admin)?;
    let what = match wanted.what {
        Of::Event => What::Event,
        Of::Delivery => What::Delivery,
        Of::DeadLetter => What::DeadLetter,
    };
    let revealed = desk.0.ask(move |web| web.reveal(what, &wanted.id, &actor.name));
    let Revealed { what, id, record, .. } = revealed.await?;
    Ok(Json(Whole {
        what: what.as_str(),
        id,
        record,
    }))
}
