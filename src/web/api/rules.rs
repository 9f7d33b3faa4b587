//! Rules: list, read, write, pause, resume, delete, and their versions.

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::sync::Arc;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{Desk, Json, List, Path, Query, Which};
use crate::action::ActionType;
use crate::config::admin::Role;
use crate::dates::time_text;
use crate::desk::rules::write::{Change, Written};
use crate::desk::rules::{self as desk_rules, Draft, Filter, Listed};
use crate::rules::{Level, Status};
use crate::web::Web;
use crate::web::problem::{Fault, Problem};
use crate::web::rules::{faults, refusal, waiting, write};
use crate::web::who::Actor;

use expected::Expected;

mod expected;
mod versions;

pub(super) fn routes() -> OpenApiRouter<Arc<Web>> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(get, put, delete))
        .routes(routes!(pause))
        .routes(routes!(resume))
        .merge(versions::routes())
}

/// Which rules are asked for: all conditions must hold.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct Asked {
    /// product, campaign, publisher or inlet.
    level: Option<String>,
    scope_id: Option<String>,
    trigger: Option<String>,
    /// slack_message, slack_webhook, clevertap_profile or clevertap_event.
    action: Option<String>,
    /// active, paused or shadow.
    status: Option<String>,
    /// Stands in the id or the name, whatever its case.
    text: Option<String>,
}

impl Asked {
    fn filter(&self) -> Result<Filter, Problem> {
        let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        Ok(Filter {
            level: one_of("level", given(&self.level), &Level::ALL, Level::as_str)?,
            scope_id: given(&self.scope_id),
            trigger: given(&self.trigger),
            action: one_of("action", given(&self.action), &ActionType::ALL, ActionType::as_str)?,
            status: one_of("status", given(&self.status), &Status::ALL, Status::as_str)?,
            text: given(&self.text),
        })
    }
}

/// The value of a closed set that a query names.
fn one_of<T: Copy>(
    name: &str,
    given: Option<String>,
    all: &[T],
    text: impl Fn(T) -> &'static str,
) -> Result<Option<T>, Problem> {
    let Some(given) = given else { return Ok(None) };
    let found = all.iter().copied().find(|known| text(*known) == given);
    found.map(Some).ok_or_else(|| {
        let known: Vec<&str> = all.iter().map(|known| text(*known)).collect();
        Problem::bad_request(format!("{name}: must be one of {}.", known.join(", ")))
    })
}

/// A rule as a list shows it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = RuleItem)]
struct Item {
    id: String,
    version: Option<i64>,
    status: Option<&'static str>,
    name: Option<String>,
    trigger: Option<String>,
    /// The level and the id, as the rule has them.
    #[schema(value_type = Option<Object>)]
    scope: Option<Value>,
    /// The type of the action.
    action: Option<&'static str>,
    /// The whole rule; null where all that stands under the id was rejected.
    #[schema(value_type = Option<Object>)]
    rule: Option<Value>,
    author: Option<String>,
    /// RFC 3339.
    changed_at: String,
    matched_24h: u64,
    sent_24h: u64,
    last_matched_at: Option<String>,
    /// Why a later record under the id isn't in force.
    rejected: Option<Rejected>,
}

/// A record that is no valid rule.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = RejectedRule)]
struct Rejected {
    /// Its offset, as a version.
    version: i64,
    reason: &'static str,
    detail: String,
}

impl Item {
    fn of(web: &Web, listed: &Listed<'_>) -> Self {
        let counts = web.resident.of_rule(listed.id, (web.now)());
        let summary = listed.in_force.map(|in_force| in_force.rule);
        let rule = listed.in_force.map(|in_force| in_force.json());
        Self {
            id: listed.id.to_owned(),
            version: listed.in_force.map(|in_force| in_force.version),
            status: summary.map(|rule| rule.status.as_str()),
            name: summary.and_then(|rule| rule.name.as_deref()).map(str::to_owned),
            trigger: summary.map(|rule| rule.trigger.to_string()),
            scope: rule.as_ref().map(|rule| rule["scope"].clone()),
            action: summary.map(|rule| rule.action.as_str()),
            rule,
            author: listed
                .in_force
                .and_then(|in_force| web.resident.author(listed.id, in_force.version)),
            changed_at: time_text(listed.changed_at),
            matched_24h: counts.matched,
            sent_24h: counts.sent,
            last_matched_at: counts.last_matched_at.map(time_text),
            rejected: listed.rejected.map(|rejected| Rejected {
                version: rejected.offset,
                reason: rejected.reason.as_str(),
                detail: rejected.detail.clone(),
            }),
        }
    }
}

/// The rules in force, by id, and what was rejected.
#[utoipa::path(
    get, path = "/rules", tag = "rules", params(Asked, Which),
    responses((status = OK, description = "Rules, by id", body = List<Item>))
)]
async fn list(
    web: Desk,
    _: Actor,
    Query(asked): Query<Asked>,
    Query(which): Query<Which>,
) -> Result<Json<List<Item>>, Problem> {
    let (filter, limit) = (asked.filter()?, which.limit()?);
    let page = web.ask(move |web| {
        let view = web.resident.rules().view();
        let behind = |id: &str| which.after_name().is_none_or(|after| id > after);
        let mut ids = desk_rules::find(&view, &filter)
            .map(|(id, _)| id)
            .filter(|id| behind(id));
        let page: Vec<&str> = ids.by_ref().take(limit).collect();
        let is_more = ids.next().is_some();
        let listed = page.iter().filter_map(|id| desk_rules::one(&view, id));
        Ok(List {
            items: listed.map(|listed| Item::of(web, &listed)).collect(),
            next: page.last().filter(|_| is_more).map(|id| (*id).to_owned()),
        })
    });
    Ok(Json(page.await?))
}

/// One rule. Its version is the ETag, which changes ask for.
#[utoipa::path(
    get, path = "/rules/{id}", tag = "rules", params(("id" = String, Path, description = "The rule's id")),
    responses((status = OK, description = "The rule", body = Item, headers(("ETag" = String, description = "Its version"))))
)]
async fn get(web: Desk, _: Actor, Path(id): Path<String>) -> Result<Response, Problem> {
    let item = web.ask(move |web| {
        let view = web.resident.rules().view();
        match desk_rules::one(&view, &id) {
            Some(listed) => Ok(Item::of(web, &listed)),
            None => Err(desk_rules::missing(&id)),
        }
    });
    let item = item.await?;
    let version = item.version;
    Ok(tagged(Json(item).into_response(), version))
}

/// The answer with a version as its ETag.
fn tagged(mut response: Response, version: Option<i64>) -> Response {
    if let Some(tag) = version.and_then(|version| HeaderValue::from_str(&format!("\"{version}\"")).ok()) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    response
}

/// A rule that was written.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = WrittenRule)]
struct Put {
    id: String,
    version: i64,
    warnings: Vec<Fault>,
}

/// Puts a rule in force. The answer comes once it is.
#[utoipa::path(
    put, path = "/rules/{id}", tag = "rules",
    params(
        ("id" = String, Path, description = "The rule's id"),
        ("If-Match" = Option<String>, Header, description = "The version that is replaced, in quotes"),
        ("If-None-Match" = Option<String>, Header, description = "`*`, for a new rule"),
    ),
    request_body(content = Object, description = "The rule"),
    responses(
        (status = OK, description = "The rule was changed", body = Put),
        (status = CREATED, description = "The rule is new", body = Put),
        (status = PRECONDITION_FAILED, description = "Another version is in force", body = Problem, content_type = "application/problem+json"),
        (status = PRECONDITION_REQUIRED, description = "Neither If-Match nor If-None-Match is given", body = Problem, content_type = "application/problem+json"),
    )
)]
async fn put(
    web: Desk,
    actor: Actor,
    Path(id): Path<String>,
    headers: HeaderMap,
    Json(mut rule): Json<Value>,
) -> Result<Response, Problem> {
    actor.needs(Role::Editor)?;
    let expected = Expected::of(&headers)?;
    take_id(&mut rule, &id)?;
    let put = web.ask_and_check(move |web| {
        let draft = Draft::of(&web.config, rule);
        if !draft.errors.is_empty() {
            return Err(refusal(&draft));
        }
        let warnings = faults(&draft.warnings);
        let seen = expected.seen(&web.resident.rules().view(), &id)?;
        let written = one(write(web, &actor, &[Change::put(draft, seen)?])?)?;
        let is_new = seen.is_none();
        Ok((
            is_new,
            Put {
                id,
                version: written.version,
                warnings,
            },
        ))
    });
    let (is_new, put) = put.await?;
    let (status, version) = (if is_new { StatusCode::CREATED } else { StatusCode::OK }, put.version);
    Ok(tagged((status, Json(put)).into_response(), Some(version)))
}

/// A body without an id is the path's rule; another id is refused.
fn take_id(rule: &mut Value, id: &str) -> Result<(), Problem> {
    let Some(members) = rule.as_object_mut() else {
        return Err(fault("", "a rule is an object"));
    };
    match members.get("id") {
        None => {
            members.insert("id".to_owned(), id.into());
            Ok(())
        }
        Some(found) if found == id => Ok(()),
        Some(_) => Err(fault(
            "id",
            "is another one than the address has; an id can't be changed",
        )),
    }
}

fn fault(path: &str, message: &str) -> Problem {
    let (path, message) = (path.to_owned(), message.to_owned());
    Problem::invalid(vec![Fault { path, message }], Vec::new())
}

fn one(written: Vec<Written>) -> Result<Written, Problem> {
    // One change was asked for.
    written
        .into_iter()
        .next()
        .ok_or_else(|| Problem::not_found("Nothing was written."))
}

/// What still waits of a rule.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ChangedRule)]
struct Changed {
    id: String,
    version: i64,
    /// How many of its messages waited: they still go, or were cancelled where that was asked for.
    waiting: u64,
}

#[derive(Debug, Clone, Copy, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct Deletion {
    /// Ends the messages that wait, too; for admins.
    cancel_waiting: Option<bool>,
}

/// Takes a rule out of force.
#[utoipa::path(
    delete, path = "/rules/{id}", tag = "rules",
    params(
        ("id" = String, Path, description = "The rule's id"),
        ("If-Match" = Option<String>, Header, description = "The version that is deleted, in quotes"),
        Deletion,
    ),
    responses(
        (status = OK, description = "The rule is deleted", body = Changed),
        (status = PRECONDITION_FAILED, description = "Another version is in force", body = Problem, content_type = "application/problem+json"),
        (status = PRECONDITION_REQUIRED, description = "If-Match isn't given", body = Problem, content_type = "application/problem+json"),
    )
)]
async fn delete(
    web: Desk,
    actor: Actor,
    Path(id): Path<String>,
    Query(asked): Query<Deletion>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let cancels = asked.cancel_waiting.unwrap_or_default();
    change(&web, actor, id, &headers, cancels, move |id, seen| {
        Change::delete(id, seen, cancels)
    })
    .await
}

#[derive(Debug, Clone, Copy, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = PauseOrder)]
struct Waiting {
    /// Ends the messages that wait, too; for admins.
    #[serde(default)]
    cancel_waiting: bool,
}

/// Stops a rule from matching.
#[utoipa::path(
    post, path = "/rules/{id}/pause", tag = "rules",
    params(
        ("id" = String, Path, description = "The rule's id"),
        ("If-Match" = Option<String>, Header, description = "The version that is paused, in quotes"),
    ),
    request_body = Waiting,
    responses(
        (status = OK, description = "The rule is paused", body = Changed),
        (status = PRECONDITION_FAILED, description = "Another version is in force", body = Problem, content_type = "application/problem+json"),
        (status = PRECONDITION_REQUIRED, description = "If-Match isn't given", body = Problem, content_type = "application/problem+json"),
    )
)]
async fn pause(
    web: Desk,
    actor: Actor,
    Path(id): Path<String>,
    headers: HeaderMap,
    Json(asked): Json<Waiting>,
) -> Result<Response, Problem> {
    let cancels = asked.cancel_waiting;
    change(&web, actor, id, &headers, cancels, move |id, seen| {
        Change::pause(id, seen, cancels)
    })
    .await
}

/// Lets a rule match again.
#[utoipa::path(
    post, path = "/rules/{id}/resume", tag = "rules",
    params(
        ("id" = String, Path, description = "The rule's id"),
        ("If-Match" = Option<String>, Header, description = "The version that is resumed, in quotes"),
    ),
    request_body = Waiting,
    responses(
        (status = OK, description = "The rule is active", body = Changed),
        (status = PRECONDITION_FAILED, description = "Another version is in force", body = Problem, content_type = "application/problem+json"),
        (status = PRECONDITION_REQUIRED, description = "If-Match isn't given", body = Problem, content_type = "application/problem+json"),
    )
)]
async fn resume(
    web: Desk,
    actor: Actor,
    Path(id): Path<String>,
    headers: HeaderMap,
    Json(asked): Json<Waiting>,
) -> Result<Response, Problem> {
    if asked.cancel_waiting {
        return Err(fault(
            "cancel_waiting",
            "a rule that is resumed cancels nothing; pause it with cancel_waiting first",
        ));
    }
    change(&web, actor, id, &headers, false, Change::resume).await
}

/// Makes one change of a rule that is in force.
async fn change(
    web: &Arc<Web>,
    actor: Actor,
    id: String,
    headers: &HeaderMap,
    cancels: bool,
    order: impl FnOnce(&str, Option<i64>) -> Change + Send + 'static,
) -> Result<Response, Problem> {
    actor.needs(if cancels { Role::Admin } else { Role::Editor })?;
    let expected = match Expected::of(headers)? {
        Expected::None => return Err(Problem::bad_request("If-Match: must be the version that is changed.")),
        expected => expected,
    };
    let changed = web.ask_and_check(move |web| {
        let seen = expected.seen(&web.resident.rules().view(), &id)?;
        let waiting = waiting(web, [&*id]);
        let written = one(write(web, &actor, &[order(&id, seen)])?)?;
        Ok::<_, Problem>(Changed {
            version: written.version,
            waiting,
            id,
        })
    });
    let changed = changed.await?;
    let version = changed.version;
    Ok(tagged(Json(changed).into_response(), Some(version)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_rule_has_the_id_of_its_address() {
        let taken = |mut rule: Value| take_id(&mut rule, "a").map(|()| rule).map_err(|problem| problem.errors);
        assert_eq!(taken(json!({"name": "x"})), Ok(json!({"name": "x", "id": "a"})));
        assert_eq!(taken(json!({"id": "a"})), Ok(json!({"id": "a"})));
        for wrong in [json!({"id": "b"}), json!({"id": 1}), json!({"id": null})] {
            assert_eq!(taken(wrong).unwrap_err()[0].path, "id");
        }
        assert!(taken(json!([])).is_err());
    }
}
