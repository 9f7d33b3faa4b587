//! The rule as YAML, both ways.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use maud::{Markup, html};

use super::editing::Editing;
use super::{Of, Page, in_force, missing, put};
use crate::desk::Error;
use crate::desk::rules::{self as desk_rules, Draft};
use crate::web::Web;
use crate::web::guard::Posted;
use crate::web::page::{Look, Nav, icon, shell};
use crate::web::problem::Problem;
use crate::web::who::Actor;
use crate::yaml;

pub(super) async fn show(State(web): State<Arc<Web>>, look: Look, Of(id): Of) -> Response {
    let (rule, seen) = match id.as_deref().map(|id| in_force(&web, id)) {
        Some(Some((rule, version))) => (rule, Some(version)),
        Some(None) => return missing(&web, &look, id.as_deref().unwrap_or_default()),
        None => (serde_json::json!({}), None),
    };
    let text = if rule.as_object().is_some_and(serde_json::Map::is_empty) {
        String::new()
    } else {
        yaml::write(&rule)
    };
    let editing = Editing::of(&web.config, id, seen, rule);
    view(&web, &look, &editing, &text, &[], StatusCode::OK)
}

/// From the form to YAML, from YAML to the form, or saved.
pub(super) async fn posted(
    State(web): State<Arc<Web>>,
    look: Look,
    actor: Actor,
    Of(id): Of,
    posted: Posted,
) -> Response {
    let Some(text) = posted.get("yaml") else {
        let editing = super::posted(&web, &actor, id, &posted.0);
        let text = yaml::write(editing.rule());
        return view(&web, &look, &editing, &text, &[], StatusCode::OK);
    };
    let seen = posted.number("version");
    let draft = match one(&web, id.as_deref(), text) {
        Ok(draft) => draft,
        Err(errors) => {
            let editing = Editing::of(&web.config, id, seen, serde_json::json!({}));
            return view(&web, &look, &editing, text, &errors, StatusCode::UNPROCESSABLE_ENTITY);
        }
    };
    let places = yaml::places(text);
    let errors = draft.errors.iter();
    let errors: Vec<String> = errors
        .map(|problem| match desk_rules::place(&places, 0, problem) {
            Some(place) => format!("{problem} (line {})", place.line),
            None => problem.to_string(),
        })
        .collect();
    let editing = Editing::of(&web.config, id, seen, draft.written);
    match posted.get("do") {
        Some("save") if errors.is_empty() => put(web, look, actor, editing, Arc::default()).await,
        Some("save") => view(&web, &look, &editing, text, &errors, StatusCode::UNPROCESSABLE_ENTITY),
        _ => Page::new(&web, &look, &editing, &[]).whole(StatusCode::OK),
    }
}

/// The one rule of a text, under the id that it had.
fn one(web: &Web, id: Option<&str>, text: &str) -> Result<Draft, Vec<String>> {
    let drafts = desk_rules::read(&web.config, text).map_err(|error| match error {
        Error::Invalid(problems) => problems.iter().map(ToString::to_string).collect(),
        error => vec![Problem::from(error).detail],
    })?;
    let count = drafts.len();
    let mut drafts = drafts.into_iter();
    match (drafts.next(), count) {
        (Some(draft), 1) => match id.filter(|id| *id != draft.id) {
            Some(id) => Err(vec![format!(
                "id: a rule keeps its id, {id}; duplicate it to have another one"
            )]),
            None => Ok(draft),
        },
        _ => Err(vec![format!(
            "this holds {count} rules; bring several at once by Import on the page of all rules"
        )]),
    }
}

fn view(web: &Web, look: &Look, editing: &Editing, text: &str, errors: &[String], status: StatusCode) -> Response {
    let page = Page::new(web, look, editing, &[]);
    let title = format!(
        "{}{} as YAML",
        if errors.is_empty() { "" } else { "Error: " },
        page.title()
    );
    let mut response = shell(web, look, Nav::Rules, &title, &body(&page, text, errors));
    *response.status_mut() = status;
    response
}

fn body(page: &Page<'_>, text: &str, errors: &[String]) -> Markup {
    html! {
        nav.crumbs aria-label="You are here" {
            ol { li { a href="/rules" { "Rules" } } li { a href=(page.address("")) { (page.name()) } } li aria-current="page" { "YAML" } }
        }
        div.head {
            div { h1 { (page.name()) } p { "The same rule, as it is imported and exported." } }
            div.row {
                nav.seg aria-label="View" {
                    a href=(page.address("")) { "Form" }
                    a href=(page.address("/yaml")) aria-current="true" { "YAML" }
                }
            }
        }
        @if let Some(why) = &page.locked { div.banner { (icon("lock")) div { (why) } } }
        @if !errors.is_empty() {
            div.errsum role="alert" aria-labelledby="es" tabindex="-1" {
                h2 #es { (icon("warn")) "This is to be fixed before the rule can be saved" }
                ul { @for error in errors { li { a href="#yaml" { (error) } } } }
            }
        }
        form.panel.pad.stack method="post" action=(page.address("/yaml")) {
            (page.look.token())
            input type="hidden" name="version" value=(page.editing.seen.map(|seen| seen.to_string()).unwrap_or_default());
            div.field {
                label for="yaml" { "The rule" }
                textarea #yaml name="yaml" rows="28" class="mono" spellcheck="false" readonly[page.is_read_only()]
                    autofocus[!errors.is_empty()] aria-invalid=[(!errors.is_empty()).then_some("true")] aria-describedby="yaml-h" { "\n" (text) }
                p.hint #yaml-h { "A token stands here by its name, or sealed; never in the open." }
            }
            div.row {
                button.btn.go name="do" value="save" disabled[page.is_read_only()] { "Save rule" }
                button.btn name="do" value="form" { "Go on in the form" }
                a.btn.bare href="/rules" { "Leave" }
            }
        }
    }
}
