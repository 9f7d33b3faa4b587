//! A record in full, for an admin. The audit has who looked; the next page masks it again.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::response::Response;
use axum::routing::post;
use maud::{Markup, html};

use super::sent::Sent;
use super::words::{address, encoded};
use super::{Look, Nav, View, answer, icon};
use crate::config::admin::Role;
use crate::web::Web;
use crate::web::guard::Posted;
use crate::web::problem::Problem;
use crate::web::reveal::{Revealed, What};
use crate::web::who::Actor;

pub(super) fn routes() -> Router<Arc<Web>> {
    Router::new().route("/reveal", post(show))
}

struct Page(Revealed);

async fn show(State(web): State<Arc<Web>>, look: Look, actor: Actor, posted: Posted) -> Response {
    let asked = match actor.needs(Role::Admin) {
        Ok(()) => match What::of(posted.get("what").unwrap_or_default()) {
            Some(what) => {
                let (id, who) = (posted.get("id").unwrap_or_default().to_owned(), actor.name);
                web.ask(move |web| Ok(Page(web.reveal(what, &id, &who)?))).await
            }
            None => Err(Problem::bad_request("what: must be event, delivery or dead_letter.")),
        },
        Err(problem) => Err(problem),
    };
    answer(&web, &look, Nav::Other, asked)
}

impl View for Page {
    fn title(&self) -> String {
        "In full".to_owned()
    }

    fn draw(&self, _: &Look, _: i64) -> Markup {
        let Revealed { what, id, record, sent } = &self.0;
        let (name, back) = match what {
            What::Event => ("The event", address("/why", &[("event", id)])),
            What::Delivery => ("The delivery", format!("/deliveries/{}", encoded(id))),
            What::DeadLetter => ("The dead letter", format!("/dead-letters/{}", encoded(id))),
        };
        html! {
            div.head { div { h1 { (name) " in full" } } a.btn href=(back) { "Mask it again" } }
            div.banner.warn { (icon("eye")) div { p { b { "You see personal data." } " That you looked is noted in the audit with your name and the time. The next page masks it again." } } }
            section.panel aria-labelledby="rec" {
                header { h2 #rec { "As it is" } p.mono { (id) } }
                div.pad.stack {
                    @if let Some((lane, body)) = sent { (Sent { lane, body, at: None, revealed: true }.draw()) }
                    @else { pre.codebox tabindex="0" { (shown(record)) } }
                }
            }
        }
    }
}

fn shown(record: &serde_json::Value) -> String {
    match record {
        serde_json::Value::String(text) => text.clone(),
        record => format!("{record:#}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::web::page::tests::{HOSTILE, is_harmless, look};

    #[test]
    fn what_is_revealed_is_whole_and_text() {
        for hostile in HOSTILE {
            let record = serde_json::json!({"consumer": {"email": "ana@example.com", "first_name": hostile}});
            let page = Page(Revealed {
                what: What::Event,
                id: hostile.to_owned(),
                record,
                sent: None,
            });
            let drawn = page.draw(&look(), 0).into_string();
            is_harmless(&drawn);
            assert!(drawn.contains("ana@example.com"), "{drawn}");
        }
        assert_eq!(What::of("secret"), None);
    }
}
