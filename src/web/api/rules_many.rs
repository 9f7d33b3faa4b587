//! Many rules at once: all of them as YAML, and from YAML. And what a secret in a rule is sealed by.

use std::sync::Arc;

use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{Desk, Json};
use crate::config::admin::Role;
use crate::desk::Error;
use crate::web::Web;
use crate::web::problem::{Fault, Problem};
use crate::web::rules::{Imported, export_all, import, in_pieces, seal as seal_value};
use crate::web::who::Actor;

pub(super) fn routes() -> OpenApiRouter<Arc<Web>> {
    OpenApiRouter::new()
        .routes(routes!(export))
        .routes(routes!(import_rules))
        .routes(routes!(seal))
}

/// YAML, as people and tools write its type.
pub(in crate::web) const YAML: &str = "application/yaml";

/// All rules in force as YAML, as `leadlane rules apply` takes them.
#[utoipa::path(
    get, path = "/rules/export", tag = "rules",
    responses((status = OK, description = "The rules, a document each", body = serde_json::Value, content_type = "application/yaml"))
)]
async fn export(web: Desk, _: Actor) -> Result<Response, Problem> {
    let texts = web.ask(|web| Ok(export_all(web))).await?;
    Ok(([(header::CONTENT_TYPE, YAML)], in_pieces(texts)).into_response())
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ImportOrder)]
struct Import {
    /// Rules as documents or as one list.
    yaml: String,
    /// Says what would change, and writes nothing.
    #[serde(default)]
    dry_run: bool,
}

/// What became of the rules of an import.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ImportAnswer)]
struct Answer {
    dry_run: bool,
    rules: Vec<Became>,
    warnings: Vec<Fault>,
}

/// What became of one rule.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ImportedRule)]
struct Became {
    id: String,
    /// created, changed or unchanged.
    outcome: &'static str,
    /// The version that is in force; in a dry run the one that would be replaced.
    version: Option<i64>,
}

/// Puts many rules in force, all or none. Rules that aren't in the text stay as they are.
#[utoipa::path(
    post, path = "/rules/import", tag = "rules", request_body = Import,
    responses(
        (status = OK, description = "What changed, or would", body = Answer),
        (status = PRECONDITION_FAILED, description = "Somebody changed one of the rules meanwhile", body = Problem, content_type = "application/problem+json"),
    )
)]
async fn import_rules(web: Desk, actor: Actor, Json(asked): Json<Import>) -> Result<Json<Answer>, Problem> {
    actor.needs(Role::Editor)?;
    let dry_run = asked.dry_run;
    let Imported { rules, warnings } = web
        .ask_and_check(move |web| import(web, &actor, &asked.yaml, dry_run))
        .await?;
    let became = rules
        .into_iter()
        .map(|(id, outcome, version)| Became { id, outcome, version });
    Ok(Json(Answer {
        dry_run,
        rules: became.collect(),
        warnings,
    }))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = SealOrder)]
struct Open {
    /// The token or the webhook's URL. It is kept nowhere.
    value: String,
}

/// A sealed value, which stands in a rule as `{sealed: "…"}`.
#[derive(Debug, Serialize, ToSchema)]
struct Sealed {
    sealed: String,
}

/// Seals a token or a webhook's URL, so that it can travel in a rule.
#[utoipa::path(
    post, path = "/seal", tag = "rules", request_body = Open,
    responses((status = OK, description = "The sealed value", body = Sealed))
)]
async fn seal(web: Desk, actor: Actor, Json(open): Json<Open>) -> Result<Json<Sealed>, Problem> {
    actor.needs(Role::Editor)?;
    let sealed = seal_value(&web.config, &open.value).map_err(|error| match error {
        Error::Invalid(problems) => {
            let at_value = problems.into_iter().map(|problem| Fault {
                path: "value".to_owned(),
                message: problem.message,
            });
            Problem::invalid(at_value.collect(), Vec::new())
        }
        other => other.into(),
    })?;
    Ok(Json(Sealed {
        sealed: sealed.as_str().to_owned(),
    }))
}
