//! What runs.

use std::sync::Arc;

use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{Desk, Json};
use crate::web::Web;
use crate::web::who::Actor;

pub(super) fn routes() -> OpenApiRouter<Arc<Web>> {
    OpenApiRouter::new().routes(routes!(status))
}

/// What runs, and who asks.
#[derive(Debug, Serialize, ToSchema)]
struct Status {
    version: &'static str,
    /// The name and the role of who asks.
    name: String,
    role: &'static str,
}

/// What runs, and how far back the desk's memory reaches.
#[utoipa::path(get, path = "/status", tag = "status", responses((status = OK, description = "What runs", body = Status)))]
async fn status(_: Desk, actor: Actor) -> Json<Status> {
    Json(Status {
        version: env!("CARGO_PKG_VERSION"),
        role: actor.role.as_str(),
        name: actor.name,
    })
}
