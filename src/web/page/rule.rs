//! The rule editor: one form, its preview, and what a rule would do.
//!
//! The form posts itself for everything. A button of its own says what is wanted (`do`, `add`, `remove`, `drop`); without
//! one, and for whatever doesn't save, the form comes back with all that was typed. Where htmx asks, the part alone does.

use std::sync::Arc;

use axum::Router;
use axum::extract::FromRequestParts;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::Response;
use axum::routing::{get, post};
use maud::{Markup, html};
use serde::Deserialize;
use serde_json::Value;

use super::conflict::conflict;
use super::rules::address;
use super::{Look, Nav, fragment, see_other, shell};
use crate::config::admin::Role;
use crate::desk::recent::{self, Matches};
use crate::desk::rules::write::Change;
use crate::desk::rules::{self as desk_rules};
use crate::desk::send_test::{self, Answer};
use crate::desk::{Error, Problem as Fault};
use crate::web::Web;
use crate::web::api::{Path, Query};
use crate::web::guard::Posted;
use crate::web::names::Name;
use crate::web::problem::Problem;
use crate::web::rules::write;
use crate::web::who::Actor;
use editing::{Editing, Fields};
use shown::{Chosen, Names};

mod action;
mod aside;
mod controls;
mod editing;
mod fields;
mod frame;
mod new;
mod shown;
mod slack;
mod text;

/// The address of a rule that isn't there yet. A rule of the id `new` has another one.
const NEW_PATH: &str = "/rules/new";

pub(in crate::web) fn routes() -> Router<Arc<Web>> {
    Router::new()
        .route(NEW_PATH, get(new::show).post(save))
        .route("/rules/{id}", get(show).post(save))
        .route("/rules/{id}/preview", post(preview))
        .route("/rules/{id}/receiver", post(receiver))
        .route("/rules/{id}/try", post(try_it))
        .route("/rules/{id}/test", post(test))
        .route("/rules/{id}/status", post(status))
        .route("/rules/{id}/yaml", get(text::show).post(text::posted))
}

/// A form's fields for a page that isn't the editor: no secret that was typed is among them.
pub(super) fn without_secrets(web: &Web, posted: &Posted) -> Posted {
    Posted(Arc::new(editing::without_secrets(&web.config, &posted.0, (web.now)())))
}

/// The editor as one reader sees it.
struct Page<'p> {
    web: &'p Web,
    look: &'p Look,
    editing: &'p Editing,
    names: Names,
    /// What Slack calls the receiver, as far as it is known.
    name: Option<Name>,
    chosen: Chosen,
    /// Why the reader can't save; none who can.
    locked: Option<String>,
    /// The name of the field to go to.
    focus: Option<String>,
    /// Whether it shows what somebody typed, rather than what is in force.
    is_typed: bool,
    notice: Option<Markup>,
    tried: Option<Result<Matches, String>>,
    tested: Option<Result<Answer, String>>,
}

impl<'p> Page<'p> {
    fn new(web: &'p Web, look: &'p Look, editing: &'p Editing, posted: &[(String, String)]) -> Self {
        let mut told = editing.told();
        let only = told.next().filter(|_| told.next().is_none());
        let focus = editing.focus.clone().or_else(|| Some(editing.field_of(&only?.place)));
        let actor = look.asker.as_ref().map(|asker| &asker.actor);
        let in_force = editing.id.as_deref().and_then(|id| in_force(web, id));
        Self {
            names: Names::of(web),
            name: editing.receiver().and_then(|receiver| web.names.known(&receiver)),
            chosen: Chosen::of(web, editing, posted),
            locked: locked(web, actor, in_force.as_ref().map(|(rule, _)| rule)),
            focus,
            web,
            look,
            editing,
            is_typed: !posted.is_empty(),
            notice: None,
            tried: None,
            tested: None,
        }
    }

    fn now(&self) -> i64 {
        (self.web.now)()
    }

    fn is_read_only(&self) -> bool {
        self.locked.is_some()
    }

    fn address(&self, part: &str) -> String {
        let rule = self.editing.id.as_deref();
        format!("{}{part}", rule.map_or_else(|| NEW_PATH.to_owned(), address))
    }

    /// The whole page.
    fn whole(&self, status: StatusCode) -> Response {
        let is_wrong = self.editing.told().next().is_some();
        let title = format!("{}{}", if is_wrong { "Error: " } else { "" }, self.title());
        let mut response = shell(self.web, self.look, Nav::Rules, &title, &self.body());
        *response.status_mut() = status;
        response
    }

    /// The part that htmx asks for, else the whole page.
    fn respond(&self, status: StatusCode) -> Response {
        match self.look.part.as_deref() {
            Some("fields") => fragment(html! { (self.fields()) (self.sentence(true)) (self.preview_part(true)) }),
            Some("preview") => fragment(html! { (self.preview()) (self.sentence(true)) }),
            Some("receiver") => fragment(self.receiver()),
            Some("test") => fragment(self.tested()),
            Some("try") => fragment(self.tried()),
            _ => self.whole(status),
        }
    }
}

/// Why somebody can't change a rule, and who can; none who can.
fn locked(web: &Web, actor: Option<&Actor>, rule: Option<&Value>) -> Option<String> {
    let actor = actor?;
    let may = match rule {
        Some(rule) => actor.may_write_rule(rule),
        None => actor.role >= Role::Editor,
    };
    if may {
        return None;
    }
    let why = match actor.role >= Role::Editor {
        true => format!(
            "You can read this rule, not change it: you may write rules of {} alone.",
            actor.levels_in_words()
        ),
        false => "You can read this, not change it: that needs the role editor.".to_owned(),
    };
    let scope = rule.map(|rule| &rule["scope"]);
    let may = |token: &&crate::config::admin::Token| {
        let within = |place: &crate::config::admin::Place| {
            let is_level = scope.is_some_and(|scope| scope["level"] == place.level.as_str());
            is_level && (place.id == "*" || scope.is_some_and(|scope| scope["id"].as_str() == Some(&*place.id)))
        };
        token.role >= Role::Editor && (token.levels.is_empty() || token.levels.iter().any(within))
    };
    let can: Vec<&str> = web
        .config
        .admin
        .tokens
        .iter()
        .filter(may)
        .map(|token| token.name.as_str())
        .take(5)
        .collect();
    Some(match can.is_empty() {
        true => why,
        false => format!("{why} {} can.", can.join(", ")),
    })
}

/// The rule in force under an id, and its version.
fn in_force(web: &Web, id: &str) -> Option<(Value, i64)> {
    let view = web.resident.rules().view();
    let in_force = desk_rules::get(&view, id).ok()?;
    Some((in_force.json(), in_force.version))
}

/// The id of the rule that an address is of; none for one that isn't there yet.
struct Of(Option<String>);

impl<S: Send + Sync> FromRequestParts<S> for Of {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let is_below = |rest: &str| rest.is_empty() || rest.starts_with('/');
        if parts.uri.path().strip_prefix(NEW_PATH).is_some_and(is_below) {
            return Ok(Self(None));
        }
        let Path(id) = Path::from_request_parts(parts, state).await?;
        Ok(Self(Some(id)))
    }
}

/// The rule as the form says it. Who may not write it gets it as it is in force.
fn posted(web: &Web, actor: &Actor, id: Option<String>, posted: &[(String, String)]) -> Editing {
    let in_force = id.as_deref().and_then(|id| in_force(web, id));
    match in_force {
        Some((rule, version)) if !actor.may_write_rule(&rule) => Editing::of(&web.config, id, Some(version), rule),
        _ => Editing::posted(&web.config, id, posted, (web.now)()),
    }
}

#[derive(Debug, Default, Deserialize)]
struct Shown {
    /// What was just done.
    saved: Option<String>,
}

async fn show(State(web): State<Arc<Web>>, look: Look, Path(id): Path<String>, Query(asked): Query<Shown>) -> Response {
    let Some((rule, version)) = in_force(&web, &id) else {
        return missing(&web, &look, &id);
    };
    let editing = Editing::of(&web.config, Some(id), Some(version), rule);
    let mut page = Page::new(&web, &look, &editing, &[]);
    page.notice = asked.saved.as_deref().map(|done| page.done(done));
    page.whole(StatusCode::OK)
}

fn missing(web: &Web, look: &Look, id: &str) -> Response {
    let view = web.resident.rules().view();
    let why = view
        .log()
        .entry(id)
        .and_then(|entry| entry.rejected.as_ref())
        .map(|rejected| rejected.detail.clone());
    drop(view);
    let detail = match why {
        Some(why) => format!("What stands under {id} is no rule that can be read: {why}. Import it again to mend it."),
        None => format!("There is no rule {id} in force. It may have been deleted; its versions are kept."),
    };
    super::problem(web, look, &Problem::not_found(detail))
}

async fn save(State(web): State<Arc<Web>>, look: Look, actor: Actor, Of(id): Of, Posted(fields): Posted) -> Response {
    let editing = posted(&web, &actor, id, &fields);
    let order = fields
        .iter()
        .rfind(|(name, _)| name == "do")
        .map(|(_, value)| value.as_str());
    let is_moved = fields
        .iter()
        .any(|(name, _)| ["add", "remove", "drop"].contains(&name.as_str()));
    let editing = match order {
        Some("save") if !is_moved => editing,
        Some("trial") if !is_moved => editing.with_status(&web.config, "shadow"),
        Some("activate") if !is_moved => editing.with_status(&web.config, "active"),
        _ => return Page::new(&web, &look, &editing, &fields).respond(StatusCode::OK),
    };
    put(web, look, actor, editing, fields).await
}

/// Puts the rule in force, or shows the form again with what is wrong.
async fn put(web: Arc<Web>, look: Look, actor: Actor, mut editing: Editing, fields: Fields) -> Response {
    editing.is_tried = true;
    if editing.id.is_none() && in_force(&web, &editing.draft.id).is_some() {
        editing.problems.push(Fault {
            place: "id".to_owned(),
            message: "there is a rule of this id already; choose another one".to_owned(),
        });
    }
    if !editing.is_whole() {
        return Page::new(&web, &look, &editing, &fields).whole(StatusCode::UNPROCESSABLE_ENTITY);
    }
    let (draft, seen) = (editing.draft.clone(), editing.seen);
    let written = web.ask_and_check(move |web| {
        let (id, change) = (draft.id.clone(), Change::put(draft, seen)?);
        write(web, &actor, &[change]).map(|_| id)
    });
    match written.await {
        Ok(id) => {
            let done = if editing.id.is_none() { "new" } else { "1" };
            see_other(&format!("{}?saved={done}", address(&id)))
        }
        Err(problem) if problem.status() == StatusCode::PRECONDITION_FAILED => {
            let (id, mine) = (editing.draft.id, editing.draft.written);
            conflict(&web, look, &id, editing.seen, mine).await
        }
        Err(problem) => refused(&web, &look, &mut editing, &fields, &problem),
    }
}

/// The rule could not be saved. What was typed stays.
fn refused(web: &Web, look: &Look, editing: &mut Editing, fields: &Fields, problem: &Problem) -> Response {
    for fault in &problem.errors {
        editing.problems.push(Fault {
            place: fault.path.clone(),
            message: fault.message.clone(),
        });
    }
    let mut page = Page::new(web, look, editing, fields);
    if problem.errors.is_empty() {
        page.notice = Some(page.unsaved(problem));
    }
    page.whole(problem.status())
}

async fn preview(
    State(web): State<Arc<Web>>,
    look: Look,
    actor: Actor,
    Of(id): Of,
    Posted(fields): Posted,
) -> Response {
    let editing = posted(&web, &actor, id, &fields);
    Page::new(&web, &look, &editing, &fields).respond(StatusCode::OK)
}

/// Asks Slack what it calls the receiver.
async fn receiver(
    State(web): State<Arc<Web>>,
    look: Look,
    actor: Actor,
    Of(id): Of,
    Posted(fields): Posted,
) -> Response {
    // Whoever can't write a rule sees the names in the rules there are, and asks for no others.
    let may_ask = id.is_some() || actor.role >= Role::Editor;
    let editing = posted(&web, &actor, id, &fields);
    if let Some(receiver) = editing.receiver().filter(|_| may_ask) {
        web.names.ask(&receiver).await;
    }
    Page::new(&web, &look, &editing, &fields).respond(StatusCode::OK)
}

async fn try_it(State(web): State<Arc<Web>>, look: Look, actor: Actor, Of(id): Of, Posted(fields): Posted) -> Response {
    let editing = posted(&web, &actor, id, &fields);
    let matches = match &editing.draft.rule {
        Some(rule) => {
            let rule = rule.clone();
            let matches = web.ask(move |web| Ok(recent::matches(&web.resident, &rule, usize::MAX)));
            matches.await.map_err(|problem| problem.detail)
        }
        None => Err("The rule isn’t whole yet: fill in what the preview names.".to_owned()),
    };
    let mut page = Page::new(&web, &look, &editing, &fields);
    page.tried = Some(matches);
    page.respond(StatusCode::OK)
}

async fn test(State(web): State<Arc<Web>>, look: Look, actor: Actor, Of(id): Of, Posted(fields): Posted) -> Response {
    let mut editing = posted(&web, &actor, id, &fields);
    editing.is_tried = look.part.is_none();
    let answer = match editing.is_whole() {
        true => send_test(&web, actor, &editing, Arc::clone(&fields)).await,
        false => {
            let first = editing.problems.iter().chain(&editing.draft.errors).next();
            let why = first.map(|problem| problem.to_string()).unwrap_or_default();
            Err(format!("The rule isn’t whole yet. {why}"))
        }
    };
    let mut page = Page::new(&web, &look, &editing, &fields);
    page.tested = Some(answer);
    page.respond(StatusCode::OK)
}

/// Sends a test, and waits for what comes of it.
async fn send_test(web: &Arc<Web>, actor: Actor, editing: &Editing, fields: Fields) -> Result<Answer, String> {
    let rule = editing.rule().clone();
    let before = editing.id.as_deref().and_then(|id| in_force(web, id));
    let may = actor.needs_rule(before.as_ref().map(|(rule, _)| rule), Some(&rule));
    may.map_err(|problem| problem.detail)?;
    let version = before
        .filter(|(in_force, _)| *in_force == rule)
        .map(|(_, version)| version);
    let editing = editing.clone();
    let sent = web.ask_and_check(move |web| {
        let chosen = Chosen::of(web, &editing, &fields);
        let sent = chosen.with(web, |event| {
            let request = send_test::Request {
                draft: &editing.draft,
                version,
                event,
                who: &actor.name,
            };
            send_test::send(&web.config, &request, (web.now)())
        });
        sent.map_err(Error::invalid)?
    });
    sent.await.map_err(|problem| problem.detail)
}

async fn status(
    State(web): State<Arc<Web>>,
    look: Look,
    actor: Actor,
    Path(id): Path<String>,
    posted: Posted,
) -> Response {
    let seen = posted.number("version");
    let change = match posted.get("do") {
        Some("pause") => Change::pause(&id, seen, false),
        Some("resume" | "activate") => Change::resume(&id, seen),
        _ => {
            return super::problem(
                &web,
                &look,
                &Problem::bad_request("do: must be pause, resume or activate."),
            );
        }
    };
    match web.ask_and_check(move |web| write(web, &actor, &[change])).await {
        Ok(_) => see_other(&format!("{}?saved=status", address(&id))),
        Err(problem) => super::problem(&web, &look, &problem),
    }
}

#[cfg(test)]
mod tests;
