//! Status: what runs, whether it keeps up, and how far back each list reaches.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::response::Response;
use axum::routing::get;
use maud::{Markup, html};

use super::part::{self, as_of, command, number, status};
use super::{Look, Nav, View, answer};
use crate::desk::resident::{Reach, Topic};
use crate::kafka::groups::Lag;
use crate::web::Web;
use crate::web::status::Status;

const PATH: &str = "/status";
/// A group that is so many records behind doesn't keep up.
const BEHIND: i64 = 10_000;

pub(super) fn routes() -> Router<Arc<Web>> {
    Router::new().route(PATH, get(show))
}

struct Page {
    status: Status,
    /// The group and the topics' names, for words.
    group: String,
    cut_off: Option<i64>,
}

async fn show(State(web): State<Arc<Web>>, look: Look) -> Response {
    let asked = web.ask(|web| {
        Ok(Page {
            status: web.status(),
            group: web.config.kafka.group.clone(),
            cut_off: part::cut_off(&web.resident),
        })
    });
    answer(&web, &look, Nav::Status, asked.await)
}

/// What a list is called on its page.
fn list(topic: Topic) -> &'static str {
    match topic {
        Topic::Rules => "Rules",
        Topic::Events => "Lead events",
        Topic::Jobs => "Messages asked for",
        Topic::Outcomes => "Deliveries",
        Topic::DeadLetters => "Dead letters",
        Topic::Audit => "Audit",
    }
}

impl View for Page {
    fn title(&self) -> String {
        "Status".to_owned()
    }

    fn draw(&self, look: &Look, now: i64) -> Markup {
        html! {
            div.head { div { h1 { "Status" } p { "What runs, whether it keeps up, and how far back each list reaches." } } }
            (part::live(PATH, &self.all(look, now)))
            div.foot { p { "On a server, whether all that a run needs is there: " (command("leadlane doctor")) } }
        }
    }

    fn live(&self, look: &Look, now: i64) -> Option<Markup> {
        Some(self.all(look, now))
    }
}

impl Page {
    fn all(&self, look: &Look, now: i64) -> Markup {
        let of = &self.status;
        html! {
            div.row.after { span.grow {} (as_of(look, self.cut_off, now)) }
            div.cols {
                section.panel aria-labelledby="proc" {
                    header { h2 #proc { "This process" } }
                    dl.kv.pad {
                        dt { "Version" } dd { (env!("CARGO_PKG_VERSION")) }
                        dt { "Does" } dd { @if of.roles.is_empty() { "admin" } @else { (of.roles.join(", ")) } }
                        dt { "Rules in force" } dd { (number(of.rules as u64)) @if of.rejected > 0 { " " (status("warn", "warn", &format!("{} can’t be read", number(of.rejected as u64)))) } }
                        dt { "Remembers" } dd { (number(of.deliveries as u64)) " deliveries and " (number(of.events as u64)) " lead events" }
                        @if let Some(from) = of.counted_from { dt { "Counts from" } dd { (look.time(from, now)) } }
                        @if let Some(bytes) = of.resident_bytes { dt { "Memory" } dd { (number(bytes / 1_000_000)) " MB" } }
                    }
                }
                (self.groups())
            }
            (self.reach(look, now))
        }
    }

    fn groups(&self) -> Markup {
        html! {
            section.panel aria-labelledby="groups" {
                header { h2 #groups { "Who reads, and how far behind" } p { "All processes together" } }
                @match &self.status.lags {
                    Err(why) => p.pad { (status("warn", "warn", "Not known")) " " span.sub { (why) } },
                    Ok(lags) => table.tbl role="table" {
                        caption.vh { "How far each reader is behind" }
                        (part::columns(&[("Reads", ""), ("State", ""), ("Behind", "num")]))
                        tbody role="rowgroup" {
                            @for lag in lags {
                                tr role="row" {
                                    th scope="row" role="rowheader" { (self.reads(&lag.group)) span.id { (lag.group) ", " (lag.topic) } }
                                    td role="cell" data-l="State" {
                                        (state(lag))
                                    }
                                    td.num role="cell" data-l="Behind" { (number(u64::try_from(lag.total()).unwrap_or_default())) }
                                }
                            }
                        }
                    },
                }
            }
        }
    }

    fn reads(&self, group: &str) -> &'static str {
        match group.strip_prefix(&self.group) {
            Some("") => "Lead events, to match them",
            Some("-sender") => "Messages, to send them",
            _ => "What other systems write",
        }
    }

    fn reach(&self, look: &Look, now: i64) -> Markup {
        html! {
            section.panel aria-labelledby="reach" {
                header { h2 #reach { "How far back each list reaches" } }
                table.tbl.cards role="table" {
                    caption.vh { "How far back each list reaches" }
                    (part::columns(&[("List", ""), ("State", ""), ("Back to", "")]))
                    tbody role="rowgroup" { @for reach in &self.status.reach { (row(reach, look, now)) } }
                }
            }
        }
    }
}

/// What a group has committed says what it has done with, not what it has read.
fn state(lag: &Lag) -> Markup {
    let has_begun = lag.partitions.iter().any(Option::is_some);
    match (has_begun, lag.total()) {
        (false, 0) => status("off", "clock", "Nothing has come yet"),
        (false, _) => status("warn", "clock", "Has done nothing yet"),
        (true, BEHIND..) => status("warn", "grow", "Falls behind"),
        (true, _) => status("ok", "check", "Keeps up"),
    }
}

fn row(reach: &Reach, look: &Look, now: i64) -> Markup {
    html! {
        tr role="row" {
            th scope="row" role="rowheader" { (list(reach.topic)) }
            td role="cell" data-l="State" {
                @match (&reach.cut_off, reach.caught_up) {
                    (Some(cut_off), _) => { (status("warn", "warn", "Out of touch")) span.two-l { "since " (look.exact_time(cut_off.since, now)) } },
                    (None, true) => (status("ok", "check", "Up to date")),
                    (None, false) => (status("wait", "clock", "Still reading")),
                }
            }
            td role="cell" data-l="Back to" {
                @match (reach.whole, reach.since) {
                    (true, _) => "all that is kept",
                    (false, Some(..=0)) => "all that is kept",
                    (false, Some(since)) => (look.time(since, now)),
                    (false, None) => span.muted { "not read yet" },
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desk::resident::CutOff;
    use crate::web::page::tests::look;

    #[test]
    fn a_page_says_who_keeps_up_and_what_it_is_cut_off_from() {
        let reach = |topic, cut_off: Option<i64>| Reach {
            topic,
            since: Some(1_772_000_000_000),
            whole: false,
            caught_up: true,
            cut_off: cut_off.map(|since| CutOff {
                since,
                why: "no broker".to_owned(),
            }),
        };
        let of = |group: &str, partitions, uncommitted| Lag {
            group: group.to_owned(),
            topic: "t".to_owned(),
            partitions,
            uncommitted,
        };
        let lag = |group: &str, lag| of(group, vec![Some(lag), None], 0);
        let status = Status {
            roles: vec!["admin", "sender"],
            rules: 1200,
            rejected: 1,
            deliveries: 1_031_000,
            events: 10_000,
            counted_from: None,
            reach: vec![reach(Topic::Rules, None), reach(Topic::Events, Some(1_772_000_000_000))],
            lags: Ok(vec![
                lag("g", 3),
                lag("g-sender", 20_000),
                of("g-inlets", vec![None], 0),
                of("g-inlets", vec![None], 4_321),
            ]),
            resident_bytes: Some(300_000_000),
        };
        let mut page = Page {
            status,
            group: "g".to_owned(),
            cut_off: None,
        };
        let drawn = page.draw(&look(), 1_772_723_760_000).into_string();
        for words in [
            "admin, sender",
            "1,200",
            "1,031,000",
            "300 MB",
            "Keeps up",
            "Falls behind",
            "Nothing has come yet",
            "Has done nothing yet",
            "4,321",
            "Out of touch",
            "Up to date",
        ] {
            assert!(drawn.contains(words), "{words}: {drawn}");
        }
        page.status.lags = Err("no broker".to_owned());
        assert!(page.draw(&look(), 0).into_string().contains("Not known"));
    }
}
