//! Trying a rule: checked, explained, previewed, held against recent events, and really sent as a test.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{Desk, Json};
use crate::config::admin::Role;
use crate::dates::time_text;
use crate::desk::explain::{self, Explained, Would};
use crate::desk::preview::{Fate, preview as preview_of};
use crate::desk::rules::{self, Draft};
use crate::desk::{Error, recent, send_test as tests};
use crate::rules::{Failed, Versioned, sentence};
use crate::text::mask::{mask, mask_json, mask_named};
use crate::web::Web;
use crate::web::problem::{Fault, Problem};
use crate::web::rules::{Given, faults, not_made, refusal, version_of};
use crate::web::who::Actor;

pub(super) fn routes() -> OpenApiRouter<Arc<Web>> {
    OpenApiRouter::new()
        .routes(routes!(validate))
        .routes(routes!(explain_event))
        .routes(routes!(preview))
        .routes(routes!(send_test))
        .routes(routes!(match_recent))
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ValidateOrder)]
struct ToValidate {
    /// A rule as JSON.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    rule: Option<Value>,
    /// Or rules as YAML.
    #[serde(default)]
    yaml: Option<String>,
}

/// What is wrong with a rule, and the rule in words.
#[derive(Debug, Default, Serialize, ToSchema)]
#[schema(as = ValidateAnswer)]
struct Validated {
    errors: Vec<Fault>,
    warnings: Vec<Fault>,
    /// The rule in one sentence; of several rules one line each.
    summary: String,
}

/// Checks a rule as if it was written.
#[utoipa::path(
    post, path = "/rules/validate", tag = "try it", request_body = ToValidate,
    responses((status = OK, description = "What is wrong with it; without errors it can be written", body = Validated))
)]
async fn validate(web: Desk, _: Actor, Json(asked): Json<ToValidate>) -> Result<Json<Validated>, Problem> {
    let validated = web.ask_and_check(move |web| match (asked.rule, asked.yaml) {
        (Some(rule), None) => Ok(validated(web, &[Draft::of(&web.config, rule)])),
        (None, Some(yaml)) => match rules::read(&web.config, &yaml) {
            Ok(mut drafts) => {
                rules::tell_apart(&mut drafts);
                Ok(validated(web, &drafts))
            }
            Err(Error::Invalid(problems)) => Ok(Validated {
                errors: problems
                    .into_iter()
                    .map(|problem| at("yaml", problem.message))
                    .collect(),
                ..Validated::default()
            }),
            Err(error) => Err(error.into()),
        },
        _ => Err(Problem::invalid(
            vec![at("rule", "give either rule or yaml")],
            Vec::new(),
        )),
    });
    Ok(Json(validated.await?))
}

fn at(path: &str, message: impl Into<String>) -> Fault {
    Fault {
        path: path.to_owned(),
        message: message.into(),
    }
}

fn validated(web: &Web, drafts: &[Draft]) -> Validated {
    let (mut validated, view) = (Validated::default(), web.resident.rules().view());
    let mut lines = Vec::with_capacity(drafts.len());
    for draft in drafts {
        let is_alone = drafts.len() == 1;
        let of = |problems: &[crate::desk::Problem]| -> Vec<Fault> {
            let named = |fault: Fault| match is_alone {
                true => fault,
                false => at(&format!("{}: {}", draft.id, fault.path), fault.message),
            };
            faults(problems).into_iter().map(named).collect()
        };
        validated.errors.extend(of(&draft.errors));
        let not_made = not_made(&view, &draft.id).map(|message| crate::desk::Problem {
            place: "id".to_owned(),
            message,
        });
        validated.errors.extend(of(not_made.as_slice()));
        validated.warnings.extend(of(&draft.warnings));
        lines.push(sentence::summary(&draft.written));
    }
    validated.summary = lines.join("\n");
    validated
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ExplainOrder)]
struct ToExplain {
    /// A lead event as JSON.
    #[schema(value_type = Option<Object>)]
    event: Option<Value>,
    /// Or the name of the inlet that maps `record`.
    inlet: Option<String>,
    /// What the inlet received.
    #[schema(value_type = Option<Object>)]
    record: Option<Value>,
    /// Rules as JSON; without them those in force.
    #[serde(default)]
    #[schema(value_type = Option<Vec<Object>>)]
    rules: Option<Vec<Value>>,
}

/// Which rules match an event, and why the others of its trigger don't.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ExplainAnswer)]
struct Answer {
    /// The event as it was read.
    #[schema(value_type = Object)]
    event: Value,
    matches: Vec<Match>,
    others: Vec<Other>,
}

#[derive(Debug, Serialize, ToSchema)]
struct Match {
    rule_id: String,
    /// What would be sent; null where nothing is.
    sends: Option<Sends>,
    /// Why nothing is sent, or why it would become a dead letter.
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
}

/// A request to a destination.
#[derive(Debug, Serialize, ToSchema)]
struct Sends {
    lane: String,
    /// Its body, to the letter.
    body: String,
}

/// A condition that doesn't hold.
#[derive(Debug, Serialize, ToSchema)]
struct Other {
    rule_id: String,
    path: String,
    wanted: String,
    /// What the event has; null where that is missing.
    found: Option<String>,
}

impl Other {
    fn of(rule_id: &str, failed: Failed) -> Self {
        let found = failed.found.map(|found| mask_named(&failed.path, &found).into_owned());
        Self {
            rule_id: rule_id.to_owned(),
            path: failed.path,
            wanted: failed.wanted,
            found,
        }
    }
}

/// Explains which rules match an event.
#[utoipa::path(
    post, path = "/rules/explain", tag = "try it", request_body = ToExplain,
    responses((status = OK, description = "The rules of its trigger", body = Answer))
)]
async fn explain_event(web: Desk, _: Actor, Json(asked): Json<ToExplain>) -> Result<Json<Answer>, Problem> {
    let answer = web.ask_and_check(move |web| {
        let given = Given {
            event: asked.event,
            inlet: asked.inlet,
            record: asked.record,
        };
        let brought = asked.rules.map(|rules| read(web, rules)).transpose()?;
        let answer = given.with(web, |event| {
            let rules = brought.unwrap_or_else(|| {
                let view = web.resident.rules().view();
                explain::of_trigger(&view, &event.trigger).collect()
            });
            let mut answer = Answer {
                event: event.to_json(),
                matches: Vec::new(),
                others: Vec::new(),
            };
            mask_json(&mut answer.event);
            for explained in explain::explain(&web.config, event, &rules, (web.now)()) {
                answer.take(explained);
            }
            answer
        });
        Ok::<_, Problem>(answer?)
    });
    Ok(Json(answer.await?))
}

impl Answer {
    fn take(&mut self, Explained { rule, failed, would }: Explained<'_>) {
        let rule_id = rule.id.to_string();
        let (sends, why) = match would {
            None => {
                self.others
                    .extend(failed.into_iter().map(|failed| Other::of(&rule_id, failed)));
                return;
            }
            Some(Would::Send { job, refused }) => {
                let body = mask(&job.body).into_owned();
                (Some(Sends { lane: job.lane(), body }), refused)
            }
            Some(Would::Settle(outcome)) => (
                None,
                Some(outcome.words.unwrap_or_else(|| outcome.result.as_str().to_owned())),
            ),
            Some(Would::Die { detail }) => (None, Some(detail)),
        };
        self.matches.push(Match { rule_id, sends, why });
    }
}

/// Rules that are handed in; all of them must be valid.
fn read(web: &Web, rules: Vec<Value>) -> Result<Vec<Versioned>, Problem> {
    let mut read = Vec::with_capacity(rules.len());
    for (at, written) in rules.into_iter().enumerate() {
        let draft = Draft::of(&web.config, written);
        match draft.rule {
            Some(rule) if draft.errors.is_empty() => read.push(Versioned { rule, version: -1 }),
            _ => {
                let errors = faults(&draft.errors).into_iter().map(|fault| Fault {
                    path: format!("rules[{at}].{}", fault.path),
                    ..fault
                });
                return Err(Problem::invalid(errors.collect(), Vec::new()));
            }
        }
    }
    Ok(read)
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = TryOrder)]
struct ToTry {
    /// The rule as JSON.
    #[schema(value_type = Object)]
    rule: Value,
    /// A lead event as JSON.
    #[schema(value_type = Option<Object>)]
    event: Option<Value>,
    /// Or the name of the inlet that maps `record`.
    inlet: Option<String>,
    /// What the inlet received.
    #[schema(value_type = Option<Object>)]
    record: Option<Value>,
}

/// What a rule would send of an event.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = PreviewAnswer)]
struct Previewed {
    /// Null where nothing would be sent.
    sends: Option<Sends>,
    /// Why nothing would be sent, or why it would become a dead letter.
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
    /// The paths that the event has no value for.
    missing: Vec<String>,
    /// The length of the text, or of the longest text of a record, in the receiver's unit.
    characters: usize,
    /// As much as the receiver takes of it.
    limit: usize,
    /// characters or bytes.
    unit: &'static str,
    /// Whether the rule matches the event at all; what fails where it doesn't.
    fails: Vec<Other>,
}

/// Shows what a rule would send of an event. Nothing is sent.
#[utoipa::path(
    post, path = "/rules/preview", tag = "try it", request_body = ToTry,
    responses((status = OK, description = "The request that would be sent", body = Previewed))
)]
async fn preview(web: Desk, _: Actor, Json(asked): Json<ToTry>) -> Result<Json<Previewed>, Problem> {
    let previewed = web.ask_and_check(move |web| {
        let given = Given {
            event: asked.event,
            inlet: asked.inlet,
            record: asked.record,
        };
        let rule = versioned(web, asked.rule)?;
        let previewed = given.with(web, |event| {
            let preview = preview_of(&web.config, &rule, event, (web.now)());
            let why = match preview.fate {
                Fate::Sent => None,
                Fate::LeftOut(why) | Fate::Dead(why) => Some(why),
            };
            let lane = preview.lane;
            let body = preview.body.map(|body| mask(&body).into_owned());
            Previewed {
                sends: body.map(|body| Sends { lane, body }),
                why,
                missing: preview.missing,
                characters: preview.length,
                limit: preview.limit,
                unit: unit(preview.unit),
                fails: preview
                    .failed
                    .into_iter()
                    .map(|failed| Other::of(&rule.rule.id, failed))
                    .collect(),
            }
        });
        Ok::<_, Problem>(previewed?)
    });
    Ok(Json(previewed.await?))
}

fn unit(unit: crate::text::Unit) -> &'static str {
    match unit {
        crate::text::Unit::Characters => "characters",
        crate::text::Unit::Bytes => "bytes",
    }
}

/// A rule that is tried; one that can't be written can't be tried.
fn versioned(web: &Web, written: Value) -> Result<Versioned, Problem> {
    let draft = Draft::of(&web.config, written);
    let version = version_of(web, &draft).unwrap_or(-1);
    match draft.rule {
        Some(rule) if draft.errors.is_empty() => Ok(Versioned { rule, version }),
        _ => Err(refusal(&draft)),
    }
}

/// What came of a test.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = TestAnswer)]
struct Tested {
    /// sent, dead, skipped or another final result; null where no sender gave one in time.
    result: Option<&'static str>,
    /// The provider's status.
    status: Option<i32>,
    /// The provider's words.
    words: Option<String>,
    /// What helps; null where nothing has to be mended.
    cure: Option<String>,
    /// From the order to the answer.
    millis: u64,
    lane: String,
    /// Null where nothing came to be sent.
    job_id: Option<String>,
}

/// Really sends what a rule makes of an event, marked as a test, within the limits.
#[utoipa::path(
    post, path = "/rules/send-test", tag = "try it", request_body = ToTry,
    responses((status = OK, description = "How it ended", body = Tested))
)]
async fn send_test(web: Desk, actor: Actor, Json(asked): Json<ToTry>) -> Result<Json<Tested>, Problem> {
    actor.needs(Role::Editor)?;
    let tested = web.ask_and_check(move |web| {
        let draft = Draft::of(&web.config, asked.rule);
        if !draft.errors.is_empty() {
            return Err(refusal(&draft));
        }
        let version = version_of(web, &draft);
        let given = Given {
            event: asked.event,
            inlet: asked.inlet,
            record: asked.record,
        };
        let answer = given.with(web, |event| {
            let request = tests::Request {
                draft: &draft,
                version,
                event,
                who: &actor.name,
            };
            tests::send(&web.config, &request, (web.now)())
        });
        Ok(answer??)
    });
    let answer = tested.await?;
    Ok(Json(Tested {
        result: answer.result.map(|result| result.as_str()),
        status: answer.status,
        words: answer.words.map(|words| mask(&words).into_owned()),
        cure: answer.cure,
        millis: answer.millis,
        lane: answer.lane,
        job_id: answer.job_id,
    }))
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = MatchOrder)]
struct ToMatch {
    /// The rule as JSON.
    #[schema(value_type = Object)]
    rule: Value,
    /// How many of the last events are looked at; all that are kept where it isn't given.
    #[serde(default)]
    last: Option<usize>,
}

/// What a rule would have matched of the last events.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = MatchAnswer)]
struct Matched {
    looked_at: usize,
    matched: usize,
    /// On average.
    per_hour: f64,
    most_in_an_hour: usize,
    /// When the first and the last of the events were written, RFC 3339.
    from: Option<String>,
    to: Option<String>,
    /// The ids of some events that match, the newest first.
    samples: Vec<String>,
    /// The first condition that failed, and of how many events.
    fell: Vec<Fell>,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = TryItFell)]
struct Fell {
    condition: String,
    events: usize,
}

/// Holds a rule against recent events.
#[utoipa::path(
    post, path = "/rules/match-recent", tag = "try it", request_body = ToMatch,
    responses((status = OK, description = "What it would have matched", body = Matched))
)]
async fn match_recent(web: Desk, _: Actor, Json(asked): Json<ToMatch>) -> Result<Json<Matched>, Problem> {
    let matched = web.ask_and_check(move |web| {
        let tried = versioned(web, asked.rule)?;
        let last = asked.last.unwrap_or(usize::MAX);
        Ok::<_, Problem>(recent::matches(&web.resident, &tried.rule, last))
    });
    let matched = matched.await?;
    let fell = |(condition, events)| Fell { condition, events };
    Ok(Json(Matched {
        looked_at: matched.looked_at,
        matched: matched.matched,
        per_hour: matched.per_hour,
        most_in_an_hour: matched.most_in_an_hour,
        from: matched.from.map(time_text),
        to: matched.to.map(time_text),
        samples: matched.samples.into_iter().map(String::from).collect(),
        fell: matched.fell.into_iter().map(fell).collect(),
    }))
}
