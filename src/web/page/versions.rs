//! The versions of a rule: who made which, when, what changed, and the way back to one.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::response::Response;
use axum::routing::{get, post};
use maud::{Markup, html};
use serde::Deserialize;
use serde_json::Value;

use super::part::{columns, command, pager};
use super::rules::{Answer, address, answer, versions_address};
use super::{Look, icon};
use crate::config::admin::Role;
use crate::desk::page::Place;
use crate::desk::rules as desk_rules;
use crate::desk::versions::{self, Version};
use crate::rules::difference::{Change, Run, difference, runs};
use crate::web::Web;
use crate::web::api::{Path, Query};
use crate::web::guard::{Asker, Posted};
use crate::web::problem::Problem;
use crate::web::rules::write;

/// So many versions are on a page.
const PAGE: usize = 50;
/// So many changes of a version are told one by one.
const TOLD_MAX: usize = 12;

pub(in crate::web) fn routes() -> Router<Arc<Web>> {
    Router::new()
        .route("/rules/{id}/versions", get(list))
        .route("/rules/{id}/rollback", post(rollback))
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Asked {
    after: Option<String>,
    /// The version that was just put in force again.
    done: Option<i64>,
}

/// What the page shows.
struct Shown {
    id: String,
    name: Option<String>,
    /// The version in force; none where the rule is deleted.
    in_force: Option<i64>,
    versions: Vec<Version>,
    next: Option<String>,
    done: Option<i64>,
    may_write: bool,
    now: i64,
}

async fn list(
    State(web): State<Arc<Web>>,
    look: Look,
    asker: Asker,
    Path(id): Path<String>,
    Query(asked): Query<Asked>,
) -> Response {
    answer(&web, look, move |web, look| {
        let after: Option<Place> = match asked.after.as_deref() {
            Some(after) => Some(after.parse().map_err(Problem::from)?),
            None => None,
        };
        let page = versions::list(&web.resident, &id, after, PAGE)?;
        let view = web.resident.rules().view();
        let in_force = desk_rules::get(&view, &id).ok();
        if page.items.is_empty() && in_force.is_none() {
            return Err(desk_rules::missing(&id).into());
        }
        let last = page
            .items
            .iter()
            .find_map(|version| version.after.as_ref().or(version.before.as_ref()));
        let rule = in_force.map(|in_force| in_force.json());
        let written = rule.as_ref().or(last);
        let shown = Shown {
            name: written.and_then(|rule| rule["name"].as_str()).map(str::to_owned),
            in_force: in_force.map(|in_force| in_force.version),
            may_write: asker.actor.role >= Role::Editor && written.is_none_or(|rule| asker.actor.may_write_rule(rule)),
            versions: page.items,
            next: page.next.map(|place| place.to_string()),
            done: asked.done,
            now: (web.now)(),
            id,
        };
        Ok(Answer::page(format!("Versions of {}", shown.title()), shown.draw(look)))
    })
    .await
}

/// Puts a version in force again.
async fn rollback(
    State(web): State<Arc<Web>>,
    look: Look,
    asker: Asker,
    Path(id): Path<String>,
    posted: Posted,
) -> Response {
    answer(&web, look, move |web, _| {
        asker.actor.needs(Role::Editor)?;
        let version = posted
            .number("version")
            .ok_or_else(|| Problem::bad_request("version: must be a version's number."))?;
        let change = versions::rollback(&web.resident, &id, version, posted.number("seen"))?;
        write(web, &asker.actor, &[change])?;
        Ok(Answer::See(format!("{}?done={version}", versions_address(&id))))
    })
    .await
}

impl Shown {
    fn title(&self) -> &str {
        self.name.as_deref().unwrap_or(&self.id)
    }

    fn draw(&self, look: &Look) -> Markup {
        html! {
            nav.crumbs aria-label="You are here" {
                ol {
                    li { a href="/rules" { "Rules" } }
                    li { @if self.in_force.is_some() { a href=(address(&self.id)) { (self.title()) } } @else { (self.title()) } }
                    li aria-current="page" { "Versions" }
                }
            }
            div.head {
                div {
                    h1 { (self.title()) }
                    p { "Every version of this rule, the newest first. Going back makes a new version; nothing is lost." }
                }
                @if self.in_force.is_some() { div.row { a.btn href=(address(&self.id)) { "Edit" } } }
            }
            @if let Some(done) = self.done {
                div.banner.ok role="status" {
                    (icon("check"))
                    div { p { b { "Version " (done) " is in force again" } @if let Some(now) = self.in_force { ", as version " (now) } "." } }
                }
            }
            @if self.in_force.is_none() {
                div.banner.warn {
                    (icon("trash"))
                    div { p { b { "This rule is deleted." } " It matches nothing. Go back to a version to have it again." } }
                }
            }
            section.panel aria-labelledby="versions" {
                header { h2 id="versions" { "Versions" } }
                @if self.versions.is_empty() {
                    div.none { (icon("audit")) h3 { "No version is known" } p { "This rule was written past the desk and its commands, so nobody knows its earlier versions." } }
                } @else { (self.table(look)) }
            }
            div.foot { p { "On a server: " (command(&format!("leadlane rules history {}", self.id))) } }
        }
    }

    fn table(&self, look: &Look) -> Markup {
        let next = self
            .next
            .as_ref()
            .map(|after| format!("{}?after={after}", versions_address(&self.id)));
        html! {
            table.tbl.cards role="table" {
                caption.vh { "Versions of this rule" }
                (columns(&[("Version", ""), ("When", ""), ("Who", ""), ("What changed", "full"), ("Go back", "acts unseen")]))
                tbody role="rowgroup" { @for version in &self.versions { (self.row(version, look)) } }
            }
            (pager(
                if self.next.is_some() { "Older versions are on the next page" } else { "That is all of them" },
                None,
                next.as_deref().map(|address| (address, "Older")),
            ))
        }
    }

    fn row(&self, version: &Version, look: &Look) -> Markup {
        let is_in_force = self.in_force == Some(version.version);
        html! {
            tr role="row" {
                th scope="row" role="rowheader" {
                    (version.version)
                    @if is_in_force { " " span.tag { "in force" } }
                }
                td role="cell" data-l="When" { (look.time(version.when, self.now)) }
                td role="cell" data-l="Who" { (version.who) }
                td.full role="cell" data-l="What changed" { (changed(version)) }
                td.acts role="cell" {
                    @if !is_in_force && version.after.is_some() {
                        form.inline method="post" action=(format!("{}/rollback", address(&self.id))) {
                            (look.token())
                            input type="hidden" name="version" value=(version.version);
                            @if let Some(seen) = self.in_force { input type="hidden" name="seen" value=(seen); }
                            button.btn.s disabled[!self.may_write] title=[(!self.may_write).then_some("needs the role editor, for this rule")] {
                                (icon("undo")) "Go back to " (version.version)
                            }
                        }
                    }
                }
            }
        }
    }
}

/// What a version changed, in words.
fn changed(version: &Version) -> Markup {
    if version.left_out {
        return html! { "Changed; the rule is too large for its earlier versions to be kept" };
    }
    let (before, after) = match (&version.before, &version.after) {
        (_, None) => return html! { "Deleted" },
        (None, Some(_)) => return html! { "The first version" },
        (Some(before), Some(after)) => (before, after),
    };
    let changes = difference(before, after);
    html! {
        @if version.what == "rollback" { "Went back: " }
        @if changes.is_empty() { "Nothing that counts" } @else { (told(&changes)) }
    }
}

fn told(changes: &[Change]) -> Markup {
    html! {
        @for (at, change) in changes.iter().take(TOLD_MAX).enumerate() {
            @if at > 0 { "; " }
            (change.label) " " (between(change.before.as_deref(), change.after.as_deref()))
        }
        @if changes.len() > TOLD_MAX { "; and " (changes.len() - TOLD_MAX) " more" }
    }
}

/// A value that was one thing and is another.
pub(super) fn between(before: Option<&str>, after: Option<&str>) -> Markup {
    html! {
        @match (before, after) {
            (None, None) => {},
            (None, Some(after)) => ins { (after) },
            (Some(before), None) => del { (before) },
            (Some(before), Some(after)) => {
                @for run in runs(before, after) {
                    @match run {
                        Run::Same(text) => (text),
                        Run::Deleted(text) => del { (text) },
                        Run::Inserted(text) => ins { (text) },
                    }
                }
            },
        }
    }
}

/// A rule in words, its values marked.
pub(super) fn in_words(rule: &Value) -> Markup {
    html! {
        @for part in crate::rules::sentence::sentence(rule, &|_, _| None) {
            @match part.field {
                Some(_) if part.is_wrong => b.wrong { (part.text) },
                Some(_) => b { (part.text) },
                None => (part.text),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn version(version: i64, before: Option<Value>, after: Option<Value>) -> Version {
        Version {
            version,
            when: 0,
            who: "<script>alert(1)</script>".to_owned(),
            what: "apply".to_owned(),
            before,
            after,
            left_out: false,
        }
    }

    fn draw(in_force: Option<i64>, versions: Vec<Version>, may_write: bool) -> String {
        let shown = Shown {
            id: "r".to_owned(),
            name: Some("\"><img src=x onerror=alert(1)>".to_owned()),
            in_force,
            versions,
            next: None,
            done: None,
            may_write,
            now: 0,
        };
        shown.draw(&Look::of(&axum::http::HeaderMap::new(), None)).into_string()
    }

    fn two() -> Vec<Version> {
        let (one, other) = (
            json!({"name": "Sales", "status": "shadow"}),
            json!({"name": "Big sales", "status": "active"}),
        );
        vec![
            version(14, Some(one.clone()), Some(other)),
            version(13, None, Some(one)),
        ]
    }

    #[test]
    fn a_version_says_what_it_changed_and_offers_the_way_back() {
        let drawn = draw(Some(14), two(), true);
        assert!(!drawn.contains("<script") && !drawn.contains("<img"), "{drawn}");
        assert!(
            drawn.contains("<del>") && drawn.contains("<ins>") && drawn.contains("The first version"),
            "{drawn}"
        );
        assert!(drawn.contains("Go back to 13") && !drawn.contains("Go back to 14"));
        assert!(drawn.contains(r#"name="seen" value="14""#));
    }

    #[test]
    fn a_deleted_rule_can_be_had_again() {
        let versions = vec![version(15, Some(json!({})), None), version(13, None, Some(json!({})))];
        let drawn = draw(None, versions, true);
        assert!(
            drawn.contains("This rule is deleted") && drawn.contains("Go back to 13"),
            "{drawn}"
        );
        assert!(!drawn.contains("Go back to 15") && !drawn.contains(r#"name="seen""#));
    }

    #[test]
    fn who_may_not_write_sees_a_button_that_does_nothing() {
        assert!(draw(Some(14), two(), false).contains("disabled"));
    }
}
