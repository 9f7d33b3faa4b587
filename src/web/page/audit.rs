//! The audit: who did what, and when.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::response::Response;
use axum::routing::get;
use maud::{Markup, html};
use serde_json::Value;

use super::deliveries::at;
use super::home::did;
use super::part::{self, count, pager};
use super::rules::versions_address;
use super::words::{self, RuleName};
use super::{Given, Look, Nav, View, answer};
use crate::desk::Error;
use crate::desk::audit::{self, Filter};
use crate::desk::page::Place;
use crate::desk::resident::audits::Audited;
use crate::desk::resident::{Reach, Topic};
use crate::text::mask::{mask, mask_json};
use crate::web::Web;

const PATH: &str = "/audit";
const LIMIT: usize = 100;
/// What is done to a rule, by the names of the audit.
const OF_RULES: [&str; 6] = ["apply", "delete", "pause", "resume", "rollback", "send_test"];

pub(super) fn routes() -> Router<Arc<Web>> {
    Router::new()
        .route(PATH, get(show))
        .route("/audit/{place}", get(show_one))
}

struct Page {
    rule: Option<String>,
    who: Option<String>,
    since: Option<String>,
    rows: Vec<(Audited, Option<RuleName>)>,
    next: Option<String>,
    reach: Reach,
}

async fn show(State(web): State<Arc<Web>>, look: Look, given: Given) -> Response {
    let zone = look.zone.clone();
    let asked = web.ask(move |web| {
        let resident = &web.resident;
        let since = given.text("since");
        let filter = Filter {
            target: given.text("rule"),
            who: given.text("who"),
            since: since.as_deref().and_then(|text| at(text, &zone)),
        };
        let page = audit::list(resident, &filter, given.after(), LIMIT);
        let view = resident.rules().view();
        let named = |audited: Audited| {
            let rule = OF_RULES
                .contains(&audited.what.as_str())
                .then(|| RuleName::of(&view, &audited.target));
            (audited, rule)
        };
        Ok(Page {
            rows: page.items.into_iter().map(named).collect(),
            next: given.next(PATH, page.next),
            reach: resident.reach(Topic::Audit),
            rule: filter.target,
            who: filter.who,
            since,
        })
    });
    answer(&web, &look, Nav::Audit, asked.await)
}

impl View for Page {
    fn title(&self) -> String {
        "Audit".to_owned()
    }

    fn draw(&self, look: &Look, now: i64) -> Markup {
        let filtered = self.rule.is_some() || self.who.is_some() || self.since.is_some();
        html! {
            div.head { div { h1 { "Audit" } p { "Who changed, replayed, paused or looked in full at what. Nothing here can be changed." } } }
            div.panel {
                form.filters method="get" action=(PATH) aria-label="Filter the audit" {
                    (part::input("arule", "rule", "Rule, lane or id", self.rule.as_deref()))
                    (part::input("awho", "who", "Who", self.who.as_deref()))
                    div.field.date { label for="asince" { "Since" } input #asince name="since" type="datetime-local" value=[&self.since]; }
                    button.btn { "Filter" }
                    @if filtered { a.btn.bare href=(PATH) { "Clear" } }
                }
                @if self.rows.is_empty() {
                    (part::nothing("audit", if filtered { "Nobody did such a thing" } else { "Nobody has done anything yet" }, "Every change of a rule, every replay, every pause and every look at what is masked stands here.", &html! { a.btn href="/rules" { "See the rules" } }))
                } @else { (self.table(look, now)) }
            }
            @let rule = self.rule.as_deref().unwrap_or("RULE_ID");
            (part::foot(look, "Records", &self.reach, &format!("leadlane rules history {}", super::deliveries::quoted(rule)), now))
        }
    }
}

impl Page {
    fn table(&self, look: &Look, now: i64) -> Markup {
        html! {
            table.tbl.cards role="table" {
                caption.vh { "Who did what, newest first" }
                (part::columns(&[("When", "beside"), ("Who", ""), ("What", ""), ("Look", "unseen")]))
                tbody role="rowgroup" {
                    @for (audited, rule) in &self.rows {
                        tr role="row" {
                            td.beside role="cell" data-l="When" { (look.exact_time(audited.place.at, now)) }
                            th scope="row" role="rowheader" { (mask(&audited.who)) }
                            td.full role="cell" data-l="What" { (did(audited, rule.as_ref())) }
                            td role="cell" {
                                a href=(format!("{PATH}/{}", audited.place)) { "Look" span.vh { ": " (words::act(&audited.what)) ", " (mask(&audited.who)) } }
                                @if rule.is_some() { " · " a href=(versions_address(&audited.target)) { "Versions" } }
                            }
                        }
                    }
                }
            }
            (pager(&count(self.rows.len() as u64, "record", "records"), None, self.next.as_deref().map(|next| (next, "Older"))))
        }
    }
}

struct One {
    place: Place,
    record: Value,
}

async fn show_one(State(web): State<Arc<Web>>, look: Look, Path(place): Path<String>) -> Response {
    let asked = web.ask(move |web| {
        let place: Place = place
            .parse()
            .map_err(|_| Error::NotFound("there is no such record".to_owned()))?;
        let record = audit::get(&web.resident, place)?;
        Ok(One { place, record })
    });
    answer(&web, &look, Nav::Audit, asked.await)
}

impl View for One {
    fn title(&self) -> String {
        "A record of the audit".to_owned()
    }

    fn draw(&self, look: &Look, now: i64) -> Markup {
        let mut record = self.record.clone();
        mask_json(&mut record);
        let text = |name: &str| record.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let sides: Vec<(&str, &Value)> = [("Before", "before"), ("After", "after"), ("Replayed", "replayed")]
            .into_iter()
            .filter_map(|(title, name)| Some((title, record.get(name).filter(|side| !side.is_null())?)))
            .collect();
        html! {
            nav.crumbs aria-label="Where this is" { ol { li { a href=(PATH) { "Audit" } } li { "One record" } } }
            div.head { div { h1 { (words::act(&text("what"))) " " span.mono { (text("target")) } } p { (text("who")) ", " (look.exact_time(self.place.at, now)) } } }
            div.cols {
                @for (title, side) in &sides {
                    section.panel { header { h2 { (title) } } div.pad { pre.codebox tabindex="0" { (format!("{side:#}")) } } }
                }
            }
            @if sides.is_empty() { p.sub { "The record says no more." } }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::web::page::tests::{HOSTILE, is_harmless, look};

    #[test]
    fn what_people_did_stays_text() {
        for hostile in HOSTILE {
            let audited = |what: &str| Audited {
                place: "1772723760000.0.5".parse().unwrap(),
                who: hostile.to_owned(),
                what: what.to_owned(),
                target: hostile.to_owned(),
            };
            let rule = RuleName {
                id: hostile.to_owned(),
                name: Some(hostile.to_owned()),
                is_there: false,
            };
            let page = Page {
                rule: Some(hostile.to_owned()),
                who: Some(hostile.to_owned()),
                since: Some(hostile.to_owned()),
                rows: vec![
                    (audited("apply"), Some(rule)),
                    (audited("reveal"), None),
                    (audited(hostile), None),
                    (audited("lane_pause"), None),
                ],
                next: None,
                reach: Reach {
                    topic: Topic::Audit,
                    since: None,
                    whole: true,
                    caught_up: true,
                    cut_off: None,
                },
            };
            is_harmless(&page.draw(&look(), 0).into_string());
            let one = One {
                place: "1772723760000.0.5".parse().unwrap(),
                record: serde_json::json!({"who": hostile, "what": hostile, "target": hostile, "before": {"name": hostile}, "after": null}),
            };
            is_harmless(&one.draw(&look(), 0).into_string());
        }
    }
}
