//! Home: what needs a person first, then whether leads come in, rules match and messages go out as usual.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::response::Response;
use axum::routing::get;
use maud::{Markup, html};

use super::chart::{Chart, spark};
use super::part::{self, as_of, number};
use super::words::{self, RuleName, address, encoded};
use super::{Given, Look, Nav, View, answer};
use crate::desk::Error;
use crate::desk::audit::{self, Filter};
use crate::desk::lanes;
use crate::desk::resident::Happened;
use crate::desk::resident::audits::Audited;
use crate::text::mask::mask;
use crate::web::Web;

mod todo;

use todo::Todo;

const BUSIEST_MAX: usize = 5;
const CHANGES_MAX: usize = 5;

pub(super) fn routes() -> Router<Arc<Web>> {
    Router::new().route("/", get(show))
}

/// The stretch of time that the charts show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Span {
    Hour,
    Day,
    Week,
}

impl Span {
    const ALL: [Self; 3] = [Self::Hour, Self::Day, Self::Week];

    fn name(self) -> &'static str {
        match self {
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Week => "week",
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::Hour => "1 hour",
            Self::Day => "24 hours",
            Self::Week => "7 days",
        }
    }

    fn address(self) -> String {
        match self {
            Self::Day => "/".to_owned(),
            other => address("/", &[("span", other.name())]),
        }
    }
}

/// What happened in a step of time, and how much waited at its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Step {
    at: i64,
    happened: Happened,
    waiting: u64,
}

struct Busy {
    rule: RuleName,
    matched: u64,
    sent: u64,
    hours: Vec<u64>,
}

struct Page {
    span: Span,
    todos: Vec<Todo>,
    steps: Vec<Step>,
    waiting: Option<u64>,
    busiest: Vec<Busy>,
    changes: Vec<(Audited, Option<RuleName>)>,
    counted_from: Option<i64>,
    /// No event has ever come, and no rule is there.
    is_empty: bool,
    cut_off: Option<i64>,
}

async fn show(State(web): State<Arc<Web>>, look: Look, given: Given) -> Response {
    let now = (web.now)();
    let asked = web.ask(move |web| Page::read(web, &given, now)).await;
    answer(&web, &look, Nav::Home, asked)
}

impl Page {
    fn read(web: &Web, given: &Given, now: i64) -> Result<Self, Error> {
        let resident = &web.resident;
        let span = Span::ALL
            .into_iter()
            .find(|span| Some(span.name()) == given.get("span"))
            .unwrap_or(Span::Day);
        // Kafka may be away: the rest is shown all the same.
        let lanes = lanes::of_late(&web.resident, now).ok().map(|(lanes, _)| lanes);
        let waiting = lanes.as_ref().map(|lanes| lanes.iter().map(|lane| lane.waiting).sum());
        let charts = resident.charts(now);
        let steps = match span {
            Span::Hour => charts.hour,
            Span::Day => charts.week[charts.week.len().saturating_sub(24)..].to_vec(),
            Span::Week => charts.week,
        };
        let changes = audit::list(resident, &Filter::default(), None, CHANGES_MAX).items;
        let todos = todo::find(web, lanes.as_deref().unwrap_or_default(), now);
        let busiest = resident.deliveries().busiest(BUSIEST_MAX, now);
        let view = resident.rules().view();
        let busy = |(rule, of): (String, crate::desk::resident::counts::OfRule)| Busy {
            rule: RuleName::of(&view, &rule),
            matched: of.matched,
            sent: of.sent,
            hours: of.hours.iter().map(|(_, count)| u64::from(count.matched)).collect(),
        };
        let named = |audited: Audited| {
            let is_rule = matches!(
                audited.what.as_str(),
                "apply" | "delete" | "pause" | "resume" | "rollback" | "send_test"
            );
            let rule = is_rule.then(|| RuleName::of(&view, &audited.target));
            (audited, rule)
        };
        Ok(Self {
            span,
            todos,
            steps: with_waiting(steps, waiting),
            waiting,
            busiest: busiest.into_iter().map(busy).collect(),
            changes: changes.into_iter().map(named).collect(),
            counted_from: resident.counted_from(),
            is_empty: view.log().is_empty(),
            cut_off: part::cut_off(resident),
        })
    }
}

/// The steps, with how much waited at the end of each: what waits now, less what came since.
fn with_waiting(steps: Vec<(i64, Happened)>, waiting: Option<u64>) -> Vec<Step> {
    let mut waits = i64::try_from(waiting.unwrap_or_default()).unwrap_or(i64::MAX);
    let step = |(at, happened): (i64, Happened)| {
        let step = Step {
            at,
            happened,
            waiting: u64::try_from(waits).unwrap_or_default(),
        };
        waits = waits.saturating_sub(i64::from(happened.waits));
        step
    };
    let mut steps: Vec<Step> = steps.into_iter().rev().map(step).collect();
    steps.reverse();
    steps
}

impl View for Page {
    fn title(&self) -> String {
        "Home".to_owned()
    }

    fn draw(&self, look: &Look, now: i64) -> Markup {
        html! {
            (part::live(&self.span.address(), &self.all(look, now)))
            div.foot {
                p {
                    @match self.counted_from {
                        Some(from) => { "Figures count from " (look.time(from, now)) ". " },
                        None => "Figures count everything that is kept. ",
                    }
                    a href="/status" { "How far back each list reaches" }
                }
            }
        }
    }

    fn live(&self, look: &Look, now: i64) -> Option<Markup> {
        Some(self.all(look, now))
    }
}

impl Page {
    fn all(&self, look: &Look, now: i64) -> Markup {
        html! {
            div.head {
                div {
                    h1 { (look.day(now)) }
                    p {
                        "Leads come in, rules match, messages go out. "
                        @match self.todos.len() {
                            0 => "Nothing needs a person.",
                            1 => "One thing needs a person first.",
                            many => { (number(many as u64)) " things need a person first." },
                        }
                    }
                }
                (as_of(look, self.cut_off, now))
            }
            @if self.is_empty { (begin()) }
            @if !self.todos.is_empty() {
                section.panel aria-labelledby="todo" {
                    header { h2 #todo { "Needs a person" } p { "Most pressing first" } }
                    ul.todo { @for todo in &self.todos { (todo.draw(look, now)) } }
                }
            }
            div.row.sec #day {
                h2 { "Last " (self.span.words()) }
                span.grow {}
                nav.seg aria-label="Period" {
                    @for span in Span::ALL { a href=(format!("{}#day", span.address())) aria-current=[(span == self.span).then_some("true")] { (span.words()) } }
                }
            }
            (self.charts(look, now))
            div.cols { (self.busiest()) (self.changes(look, now)) }
        }
    }

    fn charts(&self, look: &Look, now: i64) -> Markup {
        let sum = |of: fn(&Happened) -> u32| self.steps.iter().map(|step| u64::from(of(&step.happened))).sum::<u64>();
        let draw = |id: &str, title: &str, figure: String, note: &str, bars: bool, of: &dyn Fn(&Step) -> u64| {
            let (first, middle) = (self.steps.first(), self.steps.get(self.steps.len() / 2));
            let label = |step: Option<&Step>| {
                step.map_or_else(String::new, |step| look.clock(step.at, self.span == Span::Week))
            };
            Chart {
                id,
                title,
                figure,
                note: note.to_owned(),
                steps: self
                    .steps
                    .iter()
                    .map(|step| (look.time(step.at, now), of(step)))
                    .collect(),
                from: label(first),
                middle: label(middle),
                step: if self.span == Span::Hour {
                    "Minute from"
                } else {
                    "Hour from"
                },
                bars,
            }
            .draw()
        };
        let over = format!("in the last {}", self.span.words());
        let waiting = self.waiting.map_or_else(|| "not known".to_owned(), number);
        html! {
            div.charts {
                (draw("c1", "Lead events", number(sum(|of| of.events)), &over, false, &|step| u64::from(step.happened.events)))
                (draw("c2", "Matches", number(sum(|of| of.matched)), &over, false, &|step| u64::from(step.happened.matched)))
                (draw("c3", "Sent", number(sum(|of| of.sent)), &over, false, &|step| u64::from(step.happened.sent)))
                (draw("c4", "Waiting", waiting, "now", true, &|step| step.waiting))
            }
        }
    }

    fn busiest(&self) -> Markup {
        html! {
            section.panel aria-labelledby="busy" {
                header { h2 #busy { "Busiest rules" } p { "Last 24 hours" } span.end { a.small href="/rules" { "All rules" } } }
                @if self.busiest.is_empty() { p.pad.sub { "No rule has matched in the last 24 hours." } }
                @else {
                    table.tbl role="table" {
                        caption.vh { "Busiest rules in the last 24 hours" }
                        (part::columns(&[("Rule", ""), ("By hour", ""), ("Matched", "num"), ("Sent", "num")]))
                        tbody role="rowgroup" {
                            @for busy in &self.busiest {
                                tr role="row" {
                                    th scope="row" role="rowheader" { (busy.rule.link()) }
                                    td role="cell" data-l="By hour" { (spark(&busy.hours, "Matches by the hour, last 24 hours")) }
                                    td.num role="cell" data-l="Matched" { (number(busy.matched)) }
                                    td.num role="cell" data-l="Sent" { (number(busy.sent)) }
                                }
                            }
                        }
                    }
                }
            }
        }
    }

    fn changes(&self, look: &Look, now: i64) -> Markup {
        html! {
            section.panel aria-labelledby="chg" {
                header { h2 #chg { "Last changes" } span.end { a.small href="/audit" { "Audit" } } }
                @if self.changes.is_empty() { p.pad.sub { "Nobody has changed anything yet." } }
                @else {
                    table.tbl role="table" {
                        caption.vh { "Last changes to rules and lanes" }
                        (part::columns(&[("When", ""), ("Who", ""), ("What", "")]))
                        tbody role="rowgroup" {
                            @for (audited, rule) in &self.changes {
                                tr role="row" {
                                    td role="cell" data-l="When" { (look.time(audited.place.at, now)) }
                                    td role="cell" data-l="Who" { (mask(&audited.who)) }
                                    td role="cell" data-l="What" { (did(audited, rule.as_ref())) }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// What somebody did, and to what.
pub(super) fn did(audited: &Audited, rule: Option<&RuleName>) -> Markup {
    html! {
        (words::act(&audited.what)) " "
        @match (rule, audited.what.as_str()) {
            (Some(rule), _) => (rule.link()),
            (None, "lane_pause" | "lane_resume" | "lane_probe") => (words::lane_link(&audited.target)),
            (None, "delivery_replay") => a href=(format!("/deliveries/{}", encoded(&audited.target))) { "a delivery" },
            (None, "replay") => "",
            (None, _) => span.mono { (words::mask_id(&audited.target)) },
        }
    }
}

/// The way from an empty system to the first rule.
fn begin() -> Markup {
    html! {
        section.panel aria-labelledby="begin" {
            header { h2 #begin { "Begin here" } }
            ol.three {
                li { h2 { "Write a rule" } p { "What has to happen, and which message goes where. " a href="/rules/new" { "Add the first rule" } } }
                li.later { h2 { "Try it" } p { "See what it would send for a real lead. Nothing leaves the page." } }
                li.later { h2 { "Watch it" } p { "Each message stands under Deliveries, and Why tells what kept a rule from a lead." } }
            }
        }
    }
}

#[cfg(test)]
mod tests;
