//! What is done with many rules at once: pause, resume, copy, delete, out to YAML and in from it. All of it or nothing.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use maud::{Markup, html};
use serde_json::Value;

use super::{Answer, answer};
use crate::config::admin::Role;
use crate::desk::rules::write::Change;
use crate::desk::rules::{self as desk_rules, Draft, Texts, View};
use crate::web::Web;
use crate::web::guard::{Asker, Posted};
use crate::web::page::part::{count, number};
use crate::web::page::{Look, icon};
use crate::web::problem::{Fault, Problem};
use crate::web::rules::{Imported, export_all, import, waiting, write};
use crate::web::who::Actor;

/// The ids and the versions that were ticked, as `ID@VERSION`.
fn ticked(posted: &Posted) -> Vec<(String, i64)> {
    let pair = |text: &str| {
        let (id, version) = text.rsplit_once('@')?;
        Some((id.to_owned(), version.parse().ok()?))
    };
    posted.all("id").filter_map(pair).collect()
}

/// Where the list stood; an address of another page is none.
fn back(posted: &Posted) -> String {
    let back = posted
        .get("back")
        .filter(|back| *back == super::PATH || back.starts_with("/rules?"));
    back.unwrap_or(super::PATH).to_owned()
}

/// The list, with what was done.
fn with(back: &str, done: &str, many: usize, waiting: u64) -> Answer {
    let joint = if back.contains('?') { '&' } else { '?' };
    Answer::See(format!("{back}{joint}done={done}&count={many}&waiting={waiting}"))
}

/// Does what was chosen with the rules that were ticked.
pub(super) async fn bulk(State(web): State<Arc<Web>>, look: Look, asker: Asker, posted: Posted) -> Response {
    answer(&web, look, move |web, look| {
        let (actor, ticked, back) = (&asker.actor, ticked(&posted), back(&posted));
        let chosen = posted.get("do").unwrap_or_default();
        if ticked.is_empty() {
            return Ok(with(&back, "none", 0, 0));
        }
        let ids = || ticked.iter().map(|(id, _)| id.as_str());
        let cancels = posted.get("cancel") == Some("1");
        match chosen {
            "export" => {
                let view = web.resident.rules().view();
                return Ok(Answer::File(Texts::of(
                    ids().filter_map(|id| desk_rules::get(&view, id).ok()),
                )));
            }
            "delete" if posted.get("sure").is_none() => {
                actor.needs(Role::Editor)?;
                let asks = Asks::of(web, actor, &ticked, back);
                return Ok(Answer::page(asks.title(), asks.draw(look)));
            }
            "delete" if cancels => actor.needs(Role::Admin)?,
            _ => actor.needs(Role::Editor)?,
        }
        let wait = if chosen == "pause" || (chosen == "delete" && !cancels) {
            waiting(web, ids())
        } else {
            0
        };
        let (done, changes) = match chosen {
            "pause" => ("paused", each(&ticked, |id, seen| Change::pause(id, seen, false))),
            "resume" => ("resumed", each(&ticked, Change::resume)),
            "delete" => ("deleted", each(&ticked, |id, seen| Change::delete(id, seen, cancels))),
            "duplicate" => ("duplicated", copies(web, &ticked)?),
            _ => {
                return Err(Problem::bad_request(
                    "do: must be pause, resume, duplicate, export or delete.",
                ));
            }
        };
        // Of those ticked some may have been so already.
        let written = write(web, actor, &changes)?;
        let changed = written.iter().filter(|written| written.changed).count();
        Ok(with(&back, done, changed, wait))
    })
    .await
}

fn each(ticked: &[(String, i64)], change: impl Fn(&str, Option<i64>) -> Change) -> Vec<Change> {
    ticked.iter().map(|(id, version)| change(id, Some(*version))).collect()
}

/// A paused copy of each rule, under an id that is free.
fn copies(web: &Web, ticked: &[(String, i64)]) -> Result<Vec<Change>, Problem> {
    let view = web.resident.rules().view();
    let (mut taken, mut changes) = (Vec::new(), Vec::new());
    for (id, _) in ticked {
        let mut rule = desk_rules::get(&view, id)?.json();
        let id = free_id(&view, id, &taken);
        copy_as(&mut rule, &id);
        taken.push(id);
        changes.push(Change::put(Draft::of(&web.config, rule), None)?);
    }
    Ok(changes)
}

/// Makes a rule a paused copy with another id.
pub(in crate::web::page) fn copy_as(rule: &mut Value, id: &str) {
    let name = rule["name"]
        .as_str()
        .map_or_else(|| rule["id"].as_str().unwrap_or_default().to_owned(), str::to_owned);
    rule["name"] = format!("Copy of {name}").into();
    rule["id"] = id.into();
    rule["status"] = "paused".into();
}

/// An id for a copy that no rule has.
pub(in crate::web::page) fn free_id(view: &View, id: &str, taken: &[String]) -> String {
    let stem: String = id.chars().take(54).collect();
    let ids = (1..).map(|number| match number {
        1 => format!("{stem}-copy"),
        number => format!("{stem}-copy-{number}"),
    });
    let is_free = |id: &String| view.log().entry(id).is_none() && !taken.contains(id);
    ids.into_iter().find(is_free).unwrap_or_default()
}

/// Asks before rules are deleted.
struct Asks {
    /// Of each rule its tick, its name and what it sent of late.
    rules: Vec<(String, String, u64)>,
    waiting: u64,
    may_cancel: bool,
    back: String,
}

impl Asks {
    fn of(web: &Web, actor: &Actor, ticked: &[(String, i64)], back: String) -> Self {
        let view = web.resident.rules().view();
        let rule = |(id, version): &(String, i64)| {
            let in_force = desk_rules::get(&view, id).ok();
            let name = in_force.and_then(|in_force| in_force.rule.name.as_deref());
            let sent = web.resident.of_rule(id, (web.now)()).sent;
            (format!("{id}@{version}"), name.unwrap_or(id).to_owned(), sent)
        };
        Self {
            rules: ticked.iter().map(rule).collect(),
            waiting: waiting(web, ticked.iter().map(|(id, _)| id.as_str())),
            may_cancel: actor.role >= Role::Admin,
            back,
        }
    }

    fn title(&self) -> String {
        format!("Delete {}?", count(self.rules.len() as u64, "rule", "rules"))
    }

    fn draw(&self, look: &Look) -> Markup {
        let many = self.rules.len() as u64;
        html! {
            div.head { div { h1 { (self.title()) } p { "They stop matching at once." } } }
            form.real.pad.stack method="post" action="/rules/bulk" {
                (look.token())
                input type="hidden" name="do" value="delete";
                input type="hidden" name="sure" value="1";
                input type="hidden" name="back" value=(self.back);
                ul.checks {
                    @for (tick, name, sent) in &self.rules {
                        li.warn {
                            (icon("trash"))
                            span { b { (name) } ", " (number(*sent)) " sent in the last 24 hours" }
                            input type="hidden" name="id" value=(tick);
                        }
                    }
                }
                @if self.waiting > 0 {
                    fieldset.stack {
                        legend { (count(self.waiting, "message of theirs still waits", "messages of theirs still wait")) }
                        label.check { input type="radio" name="cancel" value="0" checked; "Send them still" }
                        label.check {
                            input type="radio" name="cancel" value="1" disabled[!self.may_cancel];
                            "Do not send them"
                            @if !self.may_cancel { span.muted { "needs the role admin" } }
                        }
                    }
                }
                div.row {
                    button.btn.bad { (icon("trash")) "Delete " (count(many, "rule", "rules")) }
                    a.btn href=(self.back) { "Keep them" }
                }
                p.small.muted { "They stay under Audit and can be brought back." }
            }
        }
    }
}

/// All rules as a file.
pub(super) async fn export(State(web): State<Arc<Web>>, look: Look, _: Asker) -> Response {
    answer(&web, look, |web, _| Ok(Answer::File(export_all(web)))).await
}

/// The page that rules come in by.
struct Import<'i> {
    text: &'i str,
    may_write: bool,
    errors: &'i [Fault],
    would: Option<&'i Imported>,
}

pub(super) async fn import_form(State(web): State<Arc<Web>>, look: Look, asker: Asker) -> Response {
    answer(&web, look, move |_, look| {
        let page = Import {
            text: "",
            may_write: asker.actor.role >= Role::Editor,
            errors: &[],
            would: None,
        };
        Ok(Answer::page("Import rules", page.draw(look)))
    })
    .await
}

pub(super) async fn import_text(State(web): State<Arc<Web>>, look: Look, asker: Asker, posted: Posted) -> Response {
    answer(&web, look, move |web, look| {
        asker.actor.needs(Role::Editor)?;
        let text = posted.get("yaml").unwrap_or_default();
        let dry_run = posted.get("do") != Some("import");
        match import(web, &asker.actor, text, dry_run) {
            Ok(imported) if !dry_run => Ok(with(super::PATH, "imported", imported.rules.len(), 0)),
            Ok(would) => {
                let page = Import {
                    text,
                    may_write: true,
                    errors: &[],
                    would: Some(&would),
                };
                Ok(Answer::page("Import rules", page.draw(look)))
            }
            Err(problem) if problem.status == StatusCode::UNPROCESSABLE_ENTITY => {
                let page = Import {
                    text,
                    may_write: true,
                    errors: &problem.errors,
                    would: None,
                };
                Ok(Answer::Page {
                    title: "Error: Import rules".to_owned(),
                    body: page.draw(look),
                    status: StatusCode::UNPROCESSABLE_ENTITY,
                })
            }
            Err(problem) => Err(problem),
        }
    })
    .await
}

/// So many faults and rules are told one by one.
const TOLD_MAX: usize = 100;

impl Import<'_> {
    fn draw(&self, look: &Look) -> Markup {
        html! {
            nav.crumbs aria-label="You are here" { ol { li { a href="/rules" { "Rules" } } li aria-current="page" { "Import" } } }
            div.head { div { h1 { "Import rules" } p { "Rules as YAML. All of them are taken, or none; rules that aren’t in the text stay as they are." } } }
            (self.faults())
            @if let Some(would) = self.would { (Self::told(would)) }
            form.stack method="post" action="/rules/import" {
                (look.token())
                div.field {
                    label for="yaml" { "Rules as YAML" }
                    textarea id="yaml" name="yaml" rows="18" spellcheck="false" aria-describedby="yaml-h"
                        aria-invalid=[(!self.errors.is_empty()).then_some("true")] autofocus[!self.errors.is_empty()] { (self.text) }
                    p.hint id="yaml-h" { "Paste the text of the file here, as leadlane rules apply takes it: one document a rule, or one list." }
                }
                div.row {
                    @if self.would.is_some() {
                        button.btn.go name="do" value="import" { (icon("in")) "Import these rules" }
                        button.btn name="do" value="look" { "Look again" }
                    } @else {
                        button.btn.go name="do" value="look" disabled[!self.may_write] { "See what would change" }
                        @if !self.may_write { span.small.muted { "needs the role editor" } }
                    }
                    label.btn.bare data-file="yaml" hidden { "Choose a file" input.vh type="file" accept=".yaml,.yml,.txt"; }
                    a.btn.bare href="/rules" { "Leave" }
                }
            }
        }
    }

    fn faults(&self) -> Markup {
        let many = self.errors.len();
        html! {
            @if many > 0 {
                div.errsum role="alert" aria-labelledby="es" tabindex="-1" {
                    h2 id="es" { (icon("warn")) "Nothing was taken: " (count(many as u64, "thing", "things")) " to fix" }
                    ul {
                        @for fault in self.errors.iter().take(TOLD_MAX) {
                            li { a href="#yaml" { @if !fault.path.is_empty() { (fault.path) ": " } (fault.message) } }
                        }
                        @if many > TOLD_MAX { li { "and " (number((many - TOLD_MAX) as u64)) " more" } }
                    }
                }
            }
        }
    }

    /// What an import would change.
    fn told(would: &Imported) -> Markup {
        let of = |outcome: &str| would.rules.iter().filter(|(_, found, _)| *found == outcome).count() as u64;
        let new = would.rules.iter().filter(|(_, outcome, _)| *outcome != "unchanged");
        html! {
            section.panel.after aria-labelledby="would" {
                header {
                    h2 id="would" { "What would change" }
                    p { (number(of("created"))) " new, " (number(of("changed"))) " changed, " (number(of("unchanged"))) " as they are" }
                }
                @if of("created") + of("changed") == 0 && would.warnings.is_empty() { p.pad.sub { "Nothing: all of it is in force already." } }
                @else { ul.checks.pad {
                    @for (id, outcome, _) in new.take(TOLD_MAX) {
                        li { (icon(if *outcome == "created" { "plus" } else { "undo" })) span { span.mono { (id) } @if *outcome == "created" { ", new" } @else { ", changed" } } }
                    }
                    @for warning in would.warnings.iter().take(TOLD_MAX) {
                        li.warn { (icon("warn")) span { b { (warning.path) } ": " (warning.message) } }
                    }
                } }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn look() -> Look {
        Look::of(&axum::http::HeaderMap::new(), None)
    }

    #[test]
    fn ticks_are_ids_with_the_versions_that_were_seen() {
        let fields = [
            ("id", "a@7"),
            ("id", "b-1@12"),
            ("id", "c"),
            ("x", "d@1"),
            ("back", "//evil.example"),
        ];
        let posted = Posted(Arc::new(
            fields.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec(),
        ));
        assert_eq!(ticked(&posted), [("a".to_owned(), 7), ("b-1".to_owned(), 12)]);
        assert_eq!(back(&posted), "/rules");
    }

    #[test]
    fn a_copy_is_paused_and_has_an_id_of_its_own() {
        let mut rule = json!({"id": "a", "name": "Sales", "status": "active"});
        let view = View::default();
        let id = free_id(&view, "a", &["a-copy".to_owned()]);
        copy_as(&mut rule, &id);
        assert_eq!(
            rule,
            json!({"id": "a-copy-2", "name": "Copy of Sales", "status": "paused"})
        );
        let long = "x".repeat(64);
        assert!(crate::rules::is_rule_id(&free_id(&view, &long, &[])));
    }

    #[test]
    fn who_deletes_is_asked_and_told_what_still_waits() {
        let asks = Asks {
            rules: vec![("a@7".to_owned(), "\"><img src=x>".to_owned(), 611)],
            waiting: 33,
            may_cancel: false,
            back: "/rules".to_owned(),
        };
        let drawn = asks.draw(&look()).into_string();
        assert!(
            !drawn.contains("<img") && drawn.contains("33 messages of theirs still wait"),
            "{drawn}"
        );
        assert!(drawn.contains("611 sent in the last 24 hours") && drawn.contains("needs the role admin"));
    }

    #[test]
    fn an_import_that_fails_keeps_its_text_and_says_where() {
        let errors = [Fault {
            path: "r: filters".to_owned(),
            message: "<script>".to_owned(),
        }];
        let page = Import {
            text: "</textarea><script>alert(1)</script>",
            may_write: true,
            errors: &errors,
            would: None,
        };
        let drawn = page.draw(&look()).into_string();
        assert!(
            !drawn.contains("<script") && drawn.contains("&lt;/textarea&gt;"),
            "{drawn}"
        );
        assert!(drawn.contains("1 thing to fix") && drawn.contains("autofocus"));
    }
}
