//! The search: a lead, a rule, a lane or a page, by a part of its name. It is the palette, too.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::response::Response;
use axum::routing::get;
use maud::{Markup, html};
use uuid::Uuid;

use super::words::{address, mask_id, trigger, whither};
use super::{Given, Look, Nav, View, fragment, icon};
use crate::desk::dead_letters::Id;
use crate::desk::resident::deliveries::Asked;
use crate::desk::rules::{Filter, InForce, find};
use crate::rules::Status;
use crate::web::Web;

const PATH: &str = "/search";
/// So many of each kind are found.
const MOST: usize = 6;
/// The palette asks for the part with this id.
const FOUND: &str = "found";

pub(super) fn routes() -> Router<Arc<Web>> {
    Router::new().route(PATH, get(show))
}

/// A way that leads on.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Way {
    address: String,
    shape: &'static str,
    words: String,
    end: String,
}

/// What was found, by kind.
struct Found {
    typed: String,
    kinds: Vec<(&'static str, Vec<Way>)>,
}

/// The pages, and the words that find each.
const PAGES: [(&str, &str, &str, &str); 11] = [
    ("/", "home", "Home", "start needs a person charts"),
    ("/rules", "rule", "Rules", "list filters"),
    ("/rules/new", "plus", "Add rule", "new write create"),
    (
        "/why",
        "why",
        "Why did a lead notify somebody, or nobody?",
        "lead explain",
    ),
    ("/deliveries", "send", "Deliveries", "messages sent"),
    ("/lanes", "lane", "Lanes", "waiting channels pause resume frozen"),
    ("/lanes/pause-all", "pause", "Pause all sending", "stop"),
    ("/dead-letters", "dead", "Dead letters", "replay failed"),
    ("/inlets", "inlet", "Inlets", "webhooks forms sheets"),
    ("/audit", "audit", "Audit", "who changed history"),
    ("/status", "status", "Status", "version lag memory"),
];

async fn show(State(web): State<Arc<Web>>, look: Look, given: Given) -> Response {
    let typed = given.text("q").unwrap_or_default();
    let is_part = look.part.as_deref() == Some(FOUND);
    match web.ask(move |web| Ok(Found::of(web, &typed))).await {
        Ok(found) if is_part => fragment(found.list()),
        Ok(found) => super::answer(&web, &look, Nav::Other, Ok(found)),
        Err(problem) => super::problem(&web, &look, &problem),
    }
}

impl Found {
    fn of(web: &Web, typed: &str) -> Self {
        let mut kinds = vec![
            ("Leads", leads(web, typed)),
            ("Rules", rules(web, typed)),
            ("Lanes", lanes(web, typed)),
            ("Deliveries and dead letters", by_id(web, typed)),
            ("Go and do", pages(typed)),
        ];
        kinds.retain(|(_, ways)| !ways.is_empty());
        Self {
            typed: typed.to_owned(),
            kinds,
        }
    }

    fn list(&self) -> Markup {
        html! {
            @if self.kinds.is_empty() {
                p.pad.sub { "Nothing is called “" (mask_id(&self.typed)) "”. " a href=(address("/why", &[("lead", &self.typed)])) { "Ask why for a lead of this id" } }
            }
            @for (kind, ways) in &self.kinds {
                h2 { (kind) }
                ul { @for way in ways { li { a href=(way.address) { (icon(way.shape)) (way.words) span.end { (way.end) } } } } }
            }
        }
    }
}

fn leads(web: &Web, typed: &str) -> Vec<Way> {
    if typed.is_empty() {
        return Vec::new();
    }
    let way = |lead: &str, end: String| Way {
        address: address("/why", &[("lead", lead)]),
        shape: "why",
        words: format!("Why: lead {}", mask_id(lead)),
        end,
    };
    let events = web.resident.events();
    let mut found: Vec<Way> = Vec::new();
    // An address or a number of somebody is found by the whole of it alone, so that nobody guesses it letter by letter.
    let is_found = |lead: &str| lead == typed || (lead.starts_with(typed) && mask_id(lead) == lead);
    for event in events.newest(None).filter(|event| is_found(&event.lead_id)) {
        let one = way(&event.lead_id, trigger(&event.trigger).into_owned());
        if !found.iter().any(|known| known.address == one.address) {
            found.push(one);
            if found.len() == MOST {
                break;
            }
        }
    }
    if found.is_empty() {
        let asked = Asked {
            lead: Some(typed.to_owned()),
            ..Asked::default()
        };
        let deliveries = web.resident.deliveries();
        found.extend(
            deliveries
                .newest(&asked, None)
                .next()
                .map(|_| way(typed, String::new())),
        );
    }
    found
}

fn rules(web: &Web, typed: &str) -> Vec<Way> {
    if typed.is_empty() {
        return Vec::new();
    }
    let view = web.resident.rules().view();
    let filter = Filter {
        text: Some(typed.to_owned()),
        ..Filter::default()
    };
    let way = |(id, in_force): (&str, Option<InForce<'_>>)| {
        let rule = in_force.map(|in_force| in_force.rule);
        Way {
            address: super::rules::address(id),
            shape: "rule",
            words: rule.and_then(|rule| rule.name.as_deref()).unwrap_or(id).to_owned(),
            end: match rule.map(|rule| rule.status) {
                Some(Status::Active) => "on",
                Some(Status::Paused) => "paused",
                Some(Status::Shadow) => "on trial",
                None => "can’t be read",
            }
            .to_owned(),
        }
    };
    find(&view, &filter).take(MOST).map(way).collect()
}

fn lanes(web: &Web, typed: &str) -> Vec<Way> {
    if typed.is_empty() {
        return Vec::new();
    }
    let wanted = typed.to_lowercase();
    let deliveries = web.resident.deliveries();
    let found = deliveries.lanes().filter(|lane| lane.to_lowercase().contains(&wanted));
    let way = |lane: &str| {
        let whither = whither(lane);
        Way {
            address: address("/deliveries", &[("lane", lane)]),
            shape: "lane",
            words: whither.to,
            end: whither.by,
        }
    };
    found.take(MOST).map(way).collect()
}

fn by_id(web: &Web, typed: &str) -> Vec<Way> {
    let mut found = Vec::new();
    if let Ok(id) = Uuid::try_parse(typed)
        && let Some(delivery) = web.resident.deliveries().get(&id.to_string())
    {
        found.push(Way {
            address: format!("/deliveries/{id}"),
            shape: "send",
            words: format!("Delivery for lead {}", mask_id(&delivery.lead_id)),
            end: super::words::stands(delivery.stands).2.to_owned(),
        });
    }
    if let Ok(id) = typed.parse::<Id>() {
        found.push(Way {
            address: format!("/dead-letters/{id}"),
            shape: "dead",
            words: format!("Dead letter {id}"),
            end: String::new(),
        });
    }
    found
}

fn pages(typed: &str) -> Vec<Way> {
    let wanted = typed.to_lowercase();
    let is_found = |words: &str, more: &str| words.to_lowercase().contains(&wanted) || more.contains(&wanted);
    let found = PAGES.iter().filter(|(_, _, words, more)| is_found(words, more));
    let way = |(address, shape, words, _): &(&str, &'static str, &str, &str)| Way {
        address: (*address).to_owned(),
        shape,
        words: (*words).to_owned(),
        end: String::new(),
    };
    found.map(way).collect()
}

impl View for Found {
    fn title(&self) -> String {
        "Search".to_owned()
    }

    fn draw(&self, _: &Look, _: i64) -> Markup {
        html! {
            div.head { div { h1 { "Search" } p { "A lead’s id, a part of a rule’s name, a lane, a delivery’s id, or a page." } } }
            div.palette {
                form.find method="get" action=(PATH) {
                    (icon("search")) label.vh for="pal" { "Find" }
                    input #pal type="search" name="q" value=(self.typed) autocomplete="off";
                    button.btn.s { "Find" }
                }
                div #(FOUND) { (self.list()) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::web::page::tests::{HOSTILE, is_harmless, look};

    #[test]
    fn pages_are_found_by_their_words() {
        let found: Vec<String> = pages("replay").into_iter().map(|way| way.address).collect();
        assert_eq!(found, ["/dead-letters"]);
        assert_eq!(pages("").len(), PAGES.len());
        assert_eq!(pages("zebra"), []);
    }

    #[test]
    fn what_is_typed_stays_text() {
        for hostile in HOSTILE {
            let way = Way {
                address: address("/why", &[("lead", hostile)]),
                shape: "why",
                words: hostile.to_owned(),
                end: hostile.to_owned(),
            };
            for kinds in [vec![("Leads", vec![way])], Vec::new()] {
                let found = Found {
                    typed: hostile.to_owned(),
                    kinds,
                };
                is_harmless(&found.draw(&look(), 0).into_string());
            }
        }
    }
}
