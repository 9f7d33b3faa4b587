//! Inlets: the ways in, what came in by each, and what was refused last.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::response::Response;
use axum::routing::get;
use maud::{Markup, html};

use super::chart::spark;
use super::lanes::anchor;
use super::part::{self, as_of, command, count, number, status};
use super::words;
use super::{Look, Nav, View, answer};
use crate::text::mask::mask;
use crate::web::Web;
use crate::web::inlets::{Seen, Way, seen};

const PATH: &str = "/inlets";

pub(super) fn routes() -> Router<Arc<Web>> {
    Router::new().route(PATH, get(show))
}

struct Page {
    inlets: Vec<Seen>,
    cut_off: Option<i64>,
}

async fn show(State(web): State<Arc<Web>>, look: Look) -> Response {
    let now = (web.now)();
    let asked = web.ask(move |web| {
        Ok(Page {
            inlets: seen(&web.config, &web.resident, now),
            cut_off: part::cut_off(&web.resident),
        })
    });
    answer(&web, &look, Nav::Inlets, asked.await)
}

impl View for Page {
    fn title(&self) -> String {
        "Inlets".to_owned()
    }

    fn draw(&self, look: &Look, now: i64) -> Markup {
        html! {
            div.head { div { h1 { "Inlets" } p { "The ways in for what other systems send: forms, sheets, apps and streams. Each makes lead events, which rules of its level match." } } }
            @if self.inlets.is_empty() { (none()) } @else { (part::live(PATH, &self.list(look, now))) }
            div.foot { p { "What was refused is kept under " a href="/dead-letters" { "Dead letters" } ". Whoever runs Leadlane adds an inlet in the configuration, under " span.mono { "inlets" } "." } }
        }
    }

    fn live(&self, look: &Look, now: i64) -> Option<Markup> {
        Some(self.list(look, now))
    }
}

fn none() -> Markup {
    html! {
        ol.three {
            li { h2 { "Leadlane has no inlet yet" } p { "Leads of the own platform come in without one. An inlet lets others in: a sheet, a form, Zapier, Salesforce, a tracking library." } }
            li.later { h2 { "Add one to the configuration" } p { "A name, what sends, and the name of a secret. Four lines do." } pre.codebox tabindex="0" { "inlets:\n  - {name: signups, preset: sheet, kind: http,\n     secrets: [{secret: signups-token}]}" } }
            li.later { h2 { "Send it something" } p { "Its address and a request to try stand here then, with what came in and what was refused." } }
        }
    }
}

impl Page {
    fn list(&self, look: &Look, now: i64) -> Markup {
        html! {
            div.row.after { span.grow {} (as_of(look, self.cut_off, now)) }
            @for (nth, inlet) in self.inlets.iter().enumerate() { (draw(nth, inlet, look, now)) }
        }
    }
}

fn draw(nth: usize, inlet: &Seen, look: &Look, now: i64) -> Markup {
    let hours: Vec<u64> = inlet.hours.iter().map(|(_, count)| *count).collect();
    html! {
        section.panel id=(anchor(&inlet.name)) aria-labelledby=(format!("i{nth}")) {
            header {
                h2 id=(format!("i{nth}")) { (inlet.name) }
                p { @match inlet.preset { Some(preset) => { "takes what " (preset) " sends" }, None => "with a mapping of its own" } }
                @match (inlet.last_at, inlet.refused_24h) {
                    (None, 0) => (status("off", "clock", "Nothing came yet")),
                    (_, 0) => (status("ok", "check", "Takes all in")),
                    (_, _) => (status("warn", "warn", "Refuses some")),
                }
            }
            div.pad.stack {
                dl.kv {
                    dt { "Came in" }
                    dd.row {
                        (count(inlet.taken_24h(), "event", "events")) " in the last 24 hours"
                        (spark(&hours, &format!("{} events by the hour, last 7 days", number(hours.iter().sum()))))
                        @if let Some(at) = inlet.last_at { span.muted { "last at " (look.exact_time(at, now)) } }
                    }
                    dt { "Refused" }
                    dd {
                        (count(inlet.refused_24h, "record", "records")) " in the last 24 hours"
                        @if let Some(letter) = &inlet.last_refused {
                            br; span.sub { "Last at " (look.exact_time(letter.place.at, now)) ": " (words::reason(letter.reason).to_lowercase()) ", " (mask(&letter.detail)) " " a href=(format!("/dead-letters/{}", letter.id)) { "Look at it" } }
                        }
                    }
                    @match &inlet.way {
                        Way::Http { url, secrets, .. } => {
                            dt { "Address to give out" } dd { (command(url)) }
                            dt { "Opened by" }
                            dd { @if secrets.is_empty() { "nothing: whoever knows the address comes in" } @else { "the secret " @for (nth, secret) in secrets.iter().enumerate() { @if nth > 0 { " or " } span.mono { (secret) } } } }
                        },
                        Way::Topic(topic) => { dt { "Reads" } dd { "the stream " span.mono { (topic) } } },
                    }
                }
                @if let Way::Http { sample, .. } = &inlet.way {
                    details.fold { summary { "A request to try" } p { (command(sample)) } p.sub { "The address is the one that Leadlane listens on; from elsewhere take the name under which it is reached." } }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::desk::resident::Resident;
    use crate::web::page::tests::look;

    #[test]
    fn an_inlet_shows_its_address_and_a_request_without_any_secret() {
        let config = Config::parse(
            "c",
            "inlets: [{name: survey, preset: json, kind: http, event: {event_id: \"{{$.id}}\", trigger: t, lead_id: \"{{$.id}}\", occurred_at: \"{{$.at}}\"}, secrets: [{bearer: {secret: survey-token}}]}, {name: leads, preset: salesforce, kind: topic, topic: sf.Lead}]",
            [],
        );
        let config = Arc::new(config.unwrap());
        let resident = Resident::new(Arc::clone(&config));
        let page = Page {
            inlets: seen(&config, &resident, 1_772_723_760_000),
            cut_off: None,
        };
        let drawn = page.draw(&look(), 1_772_723_760_000).into_string();
        for words in [
            "http://127.0.0.1:8081/inlets/survey",
            "survey-token",
            "LEADLANE_SECRET_SURVEY_TOKEN",
            "sf.Lead",
            "Nothing came yet",
        ] {
            assert!(drawn.contains(words), "{words}: {drawn}");
        }
        let empty = Page {
            inlets: Vec::new(),
            cut_off: None,
        };
        assert!(empty.draw(&look(), 0).into_string().contains("preset: sheet"));
    }
}
