//! Deliveries: every match and what became of it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{Desk, Json, List, Path, Query, Which, id, time};
use crate::config::admin::Role;
use crate::dates::time_text;
use crate::delivery::{Outcome, OutcomeResult};
use crate::desk::deliveries::{Life, Stands, recent};
use crate::desk::replay::job::Again;
use crate::desk::resident::deliveries::{Asked as Question, Delivery};
use crate::desk::scan::{Period, Scanner};
use crate::text::mask::{mask, mask_json};
use crate::web::Web;
use crate::web::problem::Problem;
use crate::web::who::Actor;

pub(super) fn routes() -> OpenApiRouter<Arc<Web>> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(get))
        .routes(routes!(replay))
}

/// Which deliveries are asked for: all conditions must hold.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct Asked {
    lead_id: Option<String>,
    event_id: Option<String>,
    /// The rule's id.
    rule: Option<String>,
    /// In this lane, or in any lane of this credential.
    lane: Option<String>,
    /// waiting, sent, digested, duplicate, expired, skipped, shadowed, cancelled, dead, retry or throttled.
    result: Option<String>,
    /// By when the match was written, RFC 3339.
    since: Option<String>,
    until: Option<String>,
}

/// A delivery as a list shows it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = DeliveriesItem)]
pub(super) struct Item {
    /// The job's id.
    id: String,
    event_id: String,
    rule_id: String,
    lead_id: String,
    lane: String,
    result: &'static str,
    attempts: u16,
    /// When the match was written, RFC 3339.
    written_at: String,
    /// When the last attempt ended, RFC 3339.
    ended_at: Option<String>,
    /// Somebody sent it as a test.
    test: bool,
}

impl From<Delivery> for Item {
    fn from(delivery: Delivery) -> Self {
        Self {
            event_id: id(&delivery.event_id),
            lead_id: id(&delivery.lead_id),
            id: delivery.id,
            rule_id: delivery.rule_id,
            lane: delivery.lane,
            result: delivery.stands.as_str(),
            attempts: delivery.attempts,
            written_at: time_text(delivery.place.at),
            ended_at: delivery.ended_at.map(time_text),
            test: delivery.is_test,
        }
    }
}

fn stands(result: &str) -> Result<Stands, Problem> {
    let mut all = OutcomeResult::ALL.into_iter().map(Stands::Is).chain([Stands::Waiting]);
    let found = all.find(|stands| stands.as_str() == result);
    found.ok_or_else(|| Problem::bad_request("result: is none that a delivery can have."))
}

/// Deliveries, newest first.
#[utoipa::path(get, path = "/deliveries", tag = "deliveries", params(Asked, Which),
    responses((status = OK, description = "A page of them", body = List<Item>)))]
async fn list(desk: Desk, Query(asked): Query<Asked>, Query(which): Query<Which>) -> Result<Json<List<Item>>, Problem> {
    let (after, limit, now) = (which.after()?, which.limit()?, (desk.0.now)());
    let question = Question {
        lead: asked.lead_id,
        event: asked.event_id,
        rule: asked.rule,
        lane: asked.lane,
        stands: asked.result.as_deref().map(stands).transpose()?.into_iter().collect(),
        period: Period {
            since: time("since", asked.since.as_deref())?,
            until: time("until", asked.until.as_deref())?,
        },
        waiting_since: None,
    };
    let page = desk
        .0
        .ask(move |web| Ok(recent::recent(&web.resident, &question, after, limit, now)));
    Ok(Json(page.await?.map(Item::from).into()))
}

/// The life of one job.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = DeliveriesWhole)]
struct Whole {
    id: String,
    event_id: String,
    rule_id: String,
    rule_version: i64,
    lead_id: String,
    lane: String,
    result: &'static str,
    /// What was asked for; null where nothing of it is kept.
    job: Option<Job>,
    /// Oldest first.
    attempts: Vec<Attempt>,
    /// What was sent, masked and without its secret; of a digest made again from its jobs. Null where it wasn't sent.
    #[schema(value_type = Option<Object>)]
    sent: Option<Value>,
}

/// What a rule asked for.
#[derive(Debug, Serialize, ToSchema)]
struct Job {
    trigger: String,
    /// RFC 3339, as all times here.
    written_at: String,
    occurred_at: String,
    expires_at: Option<String>,
    /// The dead letter that it is the replay of, or its own id where somebody asked for it again.
    replay_of: Option<String>,
    /// The request, masked and without its secret.
    #[schema(value_type = Object)]
    body: Value,
}

/// One attempt, or the end.
#[derive(Debug, Serialize, ToSchema)]
struct Attempt {
    /// From 1; 0 where nothing was tried.
    attempt: i32,
    result: &'static str,
    reason: Option<String>,
    /// The provider's status and words, masked.
    status: Option<i32>,
    words: Option<String>,
    started_at: Option<String>,
    ended_at: String,
    /// Not before this it is tried again.
    next_at: Option<String>,
}

impl From<&Outcome> for Attempt {
    fn from(outcome: &Outcome) -> Self {
        Self {
            attempt: outcome.attempt,
            result: outcome.result.as_str(),
            reason: outcome.reason.clone(),
            status: outcome.status,
            words: outcome.words.as_deref().map(|words| mask(words).into_owned()),
            started_at: outcome.started_at.map(time_text),
            ended_at: time_text(outcome.ended_at),
            next_at: outcome.next_at.map(time_text),
        }
    }
}

fn masked(body: &str) -> Value {
    let mut body = serde_json::from_str(body).unwrap_or_else(|_| body.into());
    mask_json(&mut body);
    body
}

impl From<Life> for Whole {
    fn from(life: Life) -> Self {
        let last = life.outcomes.last();
        let (event_id, rule_id, rule_version, lead_id, lane) = match (&life.job, last) {
            (Some((job, _)), _) => (
                &*job.event_id,
                &*job.rule_id,
                job.rule_version,
                &*job.lead_id,
                job.lane(),
            ),
            (None, Some(outcome)) => (
                &*outcome.event_id,
                &*outcome.rule_id,
                outcome.rule_version,
                &*outcome.lead_id,
                outcome.lane.clone(),
            ),
            (None, None) => ("", "", -1, "", String::new()),
        };
        let job = life.job.as_ref().map(|(job, record)| Job {
            trigger: job.trigger.clone(),
            written_at: time_text(record.timestamp),
            occurred_at: time_text(job.occurred_at),
            expires_at: job.expires_at.map(time_text),
            replay_of: record.header("replay-of").map(str::to_owned),
            body: masked(&job.body),
        });
        Self {
            event_id: id(event_id),
            rule_id: rule_id.to_owned(),
            rule_version,
            lead_id: id(lead_id),
            lane,
            result: life.stands.as_str(),
            job,
            attempts: life.outcomes.iter().map(Attempt::from).collect(),
            sent: life.sent.as_deref().map(masked),
            id: life.id,
        }
    }
}

/// One job's life, with every attempt and the text as it was sent.
#[utoipa::path(get, path = "/deliveries/{job_id}", tag = "deliveries", params(("job_id" = String, Path, description = "The job's id")),
    responses((status = OK, description = "Its life", body = Whole)))]
async fn get(desk: Desk, Path(job): Path<String>) -> Result<Json<Whole>, Problem> {
    let life = desk
        .0
        .ask(move |web| recent::life(&web.resident, Scanner::new(&web.config, &|_| true), &job));
    Ok(Json(life.await?.into()))
}

/// What was asked for again.
#[derive(Debug, Serialize, ToSchema)]
struct Asking {
    id: String,
    /// The dead letter that went back; null where the job was written once more.
    dead_letter: Option<String>,
}

/// Asks for a delivery again, once it has ended. One that was sent within `sender.dedup_window` ends as `duplicate`.
#[utoipa::path(post, path = "/deliveries/{job_id}/replay", tag = "deliveries", params(("job_id" = String, Path, description = "The job's id")),
    responses((status = OK, description = "It is asked for", body = Asking),
        (status = CONFLICT, description = "It hasn't ended yet, or another replay took over", body = Problem, content_type = "application/problem+json"),
        (status = UNPROCESSABLE_ENTITY, description = "There is nothing to send again", body = Problem, content_type = "application/problem+json")))]
async fn replay(desk: Desk, actor: Actor, Path(job): Path<String>) -> Result<Json<Asking>, Problem> {
    actor.needs(Role::Admin)?;
    let job_id = job.clone();
    let again = desk.0.ask(move |web| web.again(&job_id, &actor.name)).await?;
    Ok(Json(Asking {
        id: job,
        dead_letter: match again {
            Again::DeadLetter(id) => Some(id.to_string()),
            Again::Job => None,
        },
    }))
}
