//! The audit: who did what.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{Desk, Json, List, Query, Which, id, time};
use crate::dates::time_text;
use crate::desk::audit::{self, Filter};
use crate::desk::page::Page;
use crate::text::mask::mask_json;
use crate::web::Web;
use crate::web::problem::Problem;

pub(super) fn routes() -> OpenApiRouter<Arc<Web>> {
    OpenApiRouter::new().routes(routes!(list))
}

/// Which records are asked for: all conditions must hold.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct Asked {
    /// The rule's id, or the id of what else it was done to.
    rule: Option<String>,
    who: Option<String>,
    /// RFC 3339.
    since: Option<String>,
}

/// What somebody did.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AuditItem)]
struct Item {
    /// Its place in the audit.
    id: String,
    /// RFC 3339.
    when: String,
    who: String,
    /// apply, delete, pause, resume, rollback, replay, reveal, lane_pause and what else people do.
    what: String,
    /// The rule's id, else the id of what it was done to.
    target: String,
    /// The version that a rule has since.
    version: Option<i64>,
    /// What stood there before and after, masked; null where nothing did, or where the record says neither.
    before: Value,
    after: Value,
    /// The ids of the dead letters of a replay.
    replayed: Option<Vec<String>>,
}

/// The records of the audit, newest first.
#[utoipa::path(get, path = "/audit", tag = "audit", params(Asked, Which),
    responses((status = OK, description = "A page of them", body = List<Item>)))]
async fn list(desk: Desk, Query(asked): Query<Asked>, Query(which): Query<Which>) -> Result<Json<List<Item>>, Problem> {
    let (after, limit) = (which.after()?, which.limit()?);
    let filter = Filter {
        target: asked.rule,
        who: asked.who,
        since: time("since", asked.since.as_deref())?,
    };
    let page = desk.0.ask(move |web| {
        let Page { items, next } = audit::list(&web.resident, &filter, after, limit);
        let places: Vec<_> = items.iter().map(|audited| audited.place).collect();
        let records = audit::records(&web.resident, &places)?;
        let item = |(audited, record): (crate::desk::resident::audits::Audited, Option<Value>)| {
            let mut record = record.unwrap_or_default();
            mask_json(&mut record);
            let replayed = record.get("replayed").and_then(Value::as_array);
            Item {
                id: audited.place.to_string(),
                when: time_text(audited.place.at),
                who: id(&audited.who),
                what: audited.what,
                target: id(&audited.target),
                version: record.get("version").and_then(Value::as_i64),
                replayed: replayed.map(|ids| ids.iter().filter_map(|id| Some(id.as_str()?.to_owned())).collect()),
                before: record["before"].take(),
                after: record["after"].take(),
            }
        };
        Ok(Page {
            items: items.into_iter().zip(records).map(item).collect(),
            next,
        })
    });
    Ok(Json(page.await?.into()))
}
