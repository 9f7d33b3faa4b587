//! The versions of a rule, and the way back to one.

use std::sync::Arc;

use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse as _, Response};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::expected::Expected;
use super::{Put, one, tagged};
use crate::config::admin::Role;
use crate::dates::time_text;
use crate::desk::{rules, versions};
use crate::web::Web;
use crate::web::api::{Desk, Json, List, Path, Query, Which};
use crate::web::problem::Problem;
use crate::web::rules::write;
use crate::web::who::Actor;

pub(super) fn routes() -> OpenApiRouter<Arc<Web>> {
    OpenApiRouter::new()
        .routes(routes!(list_versions))
        .routes(routes!(rollback))
}

/// A version of a rule.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = RuleVersion)]
struct Version {
    version: i64,
    /// RFC 3339.
    when: String,
    who: String,
    /// apply, delete, pause, resume or rollback.
    what: String,
    /// The rule before and after; null where there was none, or it was too large for the audit.
    #[schema(value_type = Option<Object>)]
    before: Option<Value>,
    #[schema(value_type = Option<Object>)]
    after: Option<Value>,
}

impl From<versions::Version> for Version {
    fn from(version: versions::Version) -> Self {
        Self {
            version: version.version,
            when: time_text(version.when),
            who: version.who,
            what: version.what,
            before: version.before,
            after: version.after,
        }
    }
}

/// The versions of a rule, newest first.
#[utoipa::path(
    get, path = "/rules/{id}/versions", tag = "rules",
    params(("id" = String, Path, description = "The rule's id"), Which),
    responses((status = OK, description = "Its versions, newest first", body = List<Version>))
)]
async fn list_versions(
    web: Desk,
    _: Actor,
    Path(id): Path<String>,
    Query(which): Query<Which>,
) -> Result<Json<List<Version>>, Problem> {
    let (limit, after) = (which.limit()?, which.after()?);
    let page = web.ask_and_check(move |web| {
        let page = versions::list(&web.resident, &id, after, limit)?;
        match page.items.is_empty() && after.is_none() && web.resident.rules().view().changed_at(&id).is_none() {
            true => Err(rules::missing(&id)),
            false => Ok(page.map(Version::from)),
        }
    });
    Ok(Json(page.await?.into()))
}

#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = RollbackOrder)]
struct Rollback {
    /// The version that is put in force again.
    version: i64,
}

/// Puts an earlier version in force again, as a new one. With If-Match it is for that version alone.
#[utoipa::path(
    post, path = "/rules/{id}/rollback", tag = "rules",
    params(
        ("id" = String, Path, description = "The rule's id"),
        ("If-Match" = Option<String>, Header, description = "The version that is replaced, in quotes"),
    ),
    request_body = Rollback,
    responses(
        (status = OK, description = "The earlier version is in force again", body = Put),
        (status = PRECONDITION_FAILED, description = "Another version is in force", body = Problem, content_type = "application/problem+json"),
    )
)]
async fn rollback(
    web: Desk,
    actor: Actor,
    Path(id): Path<String>,
    headers: HeaderMap,
    Json(asked): Json<Rollback>,
) -> Result<Response, Problem> {
    actor.needs(Role::Editor)?;
    let expected = match headers.contains_key(header::IF_MATCH) {
        true => Some(Expected::of(&headers)?),
        false => None,
    };
    let put = web.ask_and_check(move |web| {
        let seen = {
            let view = web.resident.rules().view();
            match expected {
                Some(expected) => expected.seen(&view, &id)?,
                None => view.version(&id),
            }
        };
        let change = versions::rollback(&web.resident, &id, asked.version, seen)?;
        let written = one(write(web, &actor, &[change])?)?;
        Ok::<_, Problem>(Put {
            id,
            version: written.version,
            warnings: Vec::new(),
        })
    });
    let put = put.await?;
    let version = put.version;
    Ok(tagged(Json(put).into_response(), Some(version)))
}
