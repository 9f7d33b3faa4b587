//! Dead letters: the records that failed.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{Desk, Json, List, Path, Query, Which as Paging, id, time};
use crate::config::admin::Role;
use crate::dates::time_text;
use crate::desk::dead_letters::recent::{self, Asked as Question};
use crate::desk::dead_letters::{Filter, Id};
use crate::desk::replay::{Request, Which};
use crate::desk::resident::letters::Letter;
use crate::desk::scan::{Period, Scanner};
use crate::reason::Reason;
use crate::text::mask::{mask, mask_json};
use crate::web::Web;
use crate::web::problem::{Fault, Problem};
use crate::web::who::Actor;

pub(super) fn routes() -> OpenApiRouter<Arc<Web>> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(replay))
        .routes(routes!(get))
}

/// Which dead letters are asked for: all conditions must hold.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct Asked {
    /// not_decodable, unknown_schema, invalid_event, too_large, template_failed, message_rejected, destination_gone,
    /// credential_refused or gave_up.
    reason: Option<String>,
    /// The rule's id.
    rule: Option<String>,
    /// RFC 3339.
    since: Option<String>,
}

/// A dead letter as a list shows it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = DeadLettersItem)]
struct Item {
    id: String,
    reason: Option<&'static str>,
    /// What failed, masked.
    detail: String,
    /// RFC 3339.
    failed_at: Option<String>,
    /// The topic that it came from, or `inlet:NAME`.
    source: String,
    event_id: Option<String>,
    rule_id: Option<String>,
    job_id: Option<String>,
    lead_id: Option<String>,
    lane: Option<String>,
    replayed: bool,
}

impl From<Letter> for Item {
    fn from(letter: Letter) -> Self {
        let text = |text: Option<Box<str>>| text.map(String::from);
        Self {
            id: letter.id.to_string(),
            reason: letter.reason.map(Reason::as_str),
            detail: mask(&letter.detail).into_owned(),
            failed_at: letter.failed_at.map(time_text),
            source: letter.source.into(),
            event_id: letter.event_id.as_deref().map(id),
            rule_id: text(letter.rule_id),
            job_id: text(letter.job_id),
            lead_id: letter.lead_id.as_deref().map(id),
            lane: text(letter.lane),
            replayed: letter.replayed,
        }
    }
}

fn reason(text: &str) -> Result<Reason, Problem> {
    text.parse()
        .map_err(|error: crate::reason::UnknownReason| Problem::bad_request(format!("reason: {error}.")))
}

/// Dead letters, newest first.
#[utoipa::path(get, path = "/dead-letters", tag = "dead letters", params(Asked, Paging),
    responses((status = OK, description = "A page of them", body = List<Item>)))]
async fn list(
    desk: Desk,
    Query(asked): Query<Asked>,
    Query(which): Query<Paging>,
) -> Result<Json<List<Item>>, Problem> {
    let (after, limit) = (which.after()?, which.limit()?);
    let question = Question {
        reasons: asked.reason.as_deref().map(reason).transpose()?.into_iter().collect(),
        rule: asked.rule,
        since: time("since", asked.since.as_deref())?,
        ..Question::default()
    };
    let page = desk
        .0
        .ask(move |web| Ok(recent::recent(&web.resident, &question, after, limit)));
    Ok(Json(page.await?.map(Item::from).into()))
}

/// A dead letter with what it holds.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = DeadLettersWhole)]
struct Whole {
    id: String,
    reason: Option<&'static str>,
    detail: String,
    failed_at: Option<String>,
    source: String,
    event_id: Option<String>,
    rule_id: Option<String>,
    job_id: Option<String>,
    lane: Option<String>,
    /// What was too large to be kept with it.
    left_out: Vec<String>,
    replayed: bool,
    /// The record that failed, masked: JSON, or its text.
    held: Value,
}

/// One dead letter, with the record that it holds.
#[utoipa::path(get, path = "/dead-letters/{id}", tag = "dead letters", params(("id" = String, Path, description = "PARTITION-OFFSET")),
    responses((status = OK, description = "It", body = Whole)))]
async fn get(desk: Desk, Path(asked): Path<String>) -> Result<Json<Whole>, Problem> {
    let letter_id: Id = asked.parse().map_err(|_| {
        Problem::not_found(format!(
            "There is no dead letter {asked}; an id is PARTITION-OFFSET, such as 2-17."
        ))
    })?;
    let whole = desk.0.ask(move |web| {
        let letter = recent::one(&web.resident, letter_id)?;
        let whole = letter
            .whole(Scanner::new(&web.config, &|_| true))
            .unwrap_or_else(|_| letter.clone());
        let mut held = whole.held();
        mask_json(&mut held);
        let text = |name| letter.header(name).map(str::to_owned);
        Ok(Whole {
            id: letter_id.to_string(),
            reason: letter.reason().map(Reason::as_str),
            detail: mask(letter.header("detail").unwrap_or_default()).into_owned(),
            failed_at: text("failed-at"),
            source: text("source-topic").unwrap_or_default(),
            event_id: letter.header("event-id").map(id),
            rule_id: text("rule-id"),
            job_id: text("job-id"),
            lane: letter.lane(),
            left_out: letter.left_out().map(str::to_owned).collect(),
            replayed: web.resident.is_replayed(letter_id, letter.record.timestamp),
            held,
        })
    });
    Ok(Json(whole.await?))
}

/// Which dead letters to replay: by ids, or by conditions that must all hold. One of them has to be given.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = DeadLettersWanted)]
struct Wanted {
    /// At most 10,000, each PARTITION-OFFSET.
    #[schema(max_items = 10000)]
    ids: Option<Vec<String>>,
    reason: Option<String>,
    rule: Option<String>,
    event_id: Option<String>,
    /// Jobs for this lane, or for any lane of this credential.
    lane: Option<String>,
    /// By when they were written, RFC 3339.
    since: Option<String>,
    until: Option<String>,
    /// Says what would go where, and changes nothing.
    #[serde(default)]
    dry_run: bool,
}

const IDS_MAX: usize = 10_000;

impl Wanted {
    fn which(self) -> Result<Which, Problem> {
        let invalid = |path: &str, message: &str| {
            let fault = Fault {
                path: path.to_owned(),
                message: message.to_owned(),
            };
            Problem::invalid(vec![fault], Vec::new())
        };
        let period = Period {
            since: time("since", self.since.as_deref())?,
            until: time("until", self.until.as_deref())?,
        };
        let filter = Filter {
            reasons: self.reason.as_deref().map(reason).transpose()?.into_iter().collect(),
            rule: self.rule,
            event: self.event_id,
            destination: self.lane,
        };
        let by_condition = !(filter.is_whole() && period.is_whole());
        match (self.ids, by_condition) {
            (Some(_), true) => Err(invalid("ids", "ids stand alone: leave out the conditions, or the ids.")),
            (Some(ids), false) if ids.len() > IDS_MAX => Err(invalid("ids", "At most 10,000 ids at once.")),
            (Some(ids), false) => {
                let ids: Result<Vec<Id>, _> = ids.iter().map(|id| id.parse()).collect();
                let ids = ids.map_err(|error: crate::desk::Error| invalid("ids", &error.to_string()))?;
                Ok(Which::Ids(ids))
            }
            (None, true) => Ok(Which::Matching(filter, period)),
            (None, false) => Err(invalid(
                "",
                "Which dead letters? Give ids, or a condition such as reason.",
            )),
        }
    }
}

/// What became of dead letters, or would.
#[derive(Debug, Serialize, ToSchema)]
struct Done {
    dry_run: bool,
    replayed: usize,
    /// They were replayed before.
    left: usize,
    refused: usize,
    /// The first 10,000 of those that went back, or would.
    items: Vec<Back>,
    /// The first 10,000 of those that can't be put back.
    refusals: Vec<Refusal>,
    /// Ids that aren't there.
    absent: Vec<String>,
}

/// A dead letter that went back.
#[derive(Debug, Serialize, ToSchema)]
struct Back {
    id: String,
    topic: String,
    key: String,
    /// What is other than it was.
    change: Option<String>,
}

/// A dead letter that can't be put back.
#[derive(Debug, Serialize, ToSchema)]
struct Refusal {
    id: String,
    why: String,
}

/// Puts dead letters back where they came from. One that was replayed before is left as it is.
#[utoipa::path(post, path = "/dead-letters/replay", tag = "dead letters", request_body = Wanted,
    responses((status = OK, description = "What became of each", body = Done),
        (status = CONFLICT, description = "Another replay took over", body = Problem, content_type = "application/problem+json")))]
async fn replay(desk: Desk, actor: Actor, Json(wanted): Json<Wanted>) -> Result<Json<Done>, Problem> {
    actor.needs(Role::Admin)?;
    let dry_run = wanted.dry_run;
    let request = Request {
        which: wanted.which()?,
        dry_run,
        rate: None,
        who: actor.name,
    };
    let done = desk.0.ask(move |web| web.replay(&request)).await?;
    let back = |went: crate::desk::replay::Went| Back {
        id: went.id.to_string(),
        topic: went.topic,
        key: id(&String::from_utf8_lossy(&went.key)),
        change: went.change.map(|change| mask(&change).into_owned()),
    };
    let refusal = |(id, why): (Id, String)| Refusal {
        id: id.to_string(),
        why: mask(&why).into_owned(),
    };
    Ok(Json(Done {
        dry_run,
        replayed: done.summary.replayed,
        left: done.summary.left,
        refused: done.summary.refused,
        items: done.went.into_iter().map(back).collect(),
        refusals: done.refused.into_iter().map(refusal).collect(),
        absent: done.summary.absent.iter().map(Id::to_string).collect(),
    }))
}
