//! Why: whom a lead notified, and what kept every other rule from it.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::response::Response;
use axum::routing::get;
use maud::{Markup, html};

use super::delivery::reveal;
use super::part::{self, count, number, status};
use super::words::{self, RuleName, address, lane_link, mask_id, stands_status};
use super::{Given, Look, Nav, View, answer};
use crate::config::admin::Role;
use crate::desk::Error;
use crate::desk::deliveries::Stands;
use crate::desk::resident::deliveries::{Asked, Delivery};
use crate::desk::resident::{Reach, Topic};
use crate::desk::why::{self, OfEvent, OfRule};
use crate::web::Web;
use crate::web::who::Actor;

mod about;
pub(super) mod decided;

use about::{about, person};
use decided::{Verdict, decided, verdict};

const PATH: &str = "/why";
/// So many jobs of a lead are shown where none of its events is kept.
const JOBS_MAX: usize = 100;
/// A page takes so many events, rules and messages together, which is some 100 KB.
const ROWS_MAX: usize = 120;

pub(super) fn routes() -> Router<Arc<Web>> {
    Router::new().route(PATH, get(show))
}

struct Page {
    found: Found,
    reach: Reach,
    /// Whether the reader may reveal.
    may: bool,
}

enum Found {
    /// Nobody has asked yet: some leads to try.
    Unasked { recent: Vec<(String, String, String)> },
    /// No event of the lead is kept; its deliveries may be.
    Nothing {
        lead: String,
        jobs: Vec<(Delivery, RuleName)>,
    },
    Life {
        lead: String,
        /// As it was typed, for the field; none where it was named by one of its events.
        typed: Option<String>,
        events: Vec<Event>,
        more: usize,
    },
}

/// An event, and what every rule made of it.
struct Event {
    id: String,
    at: i64,
    trigger: String,
    /// What it is about, masked.
    about: Vec<String>,
    person: Vec<String>,
    rules: Vec<Row>,
    further: usize,
    elsewhere: usize,
    /// Deliveries of rules that aren't among those above.
    others: Vec<(Delivery, RuleName)>,
}

struct Row {
    rule: OfRule,
    name: RuleName,
    verdict: Verdict,
    jobs: Vec<Delivery>,
}

async fn show(State(web): State<Arc<Web>>, look: Look, actor: Actor, given: Given) -> Response {
    let may = actor.role >= Role::Admin;
    let asked = web.ask(move |web| {
        Ok(Page {
            found: find(web, &given)?,
            reach: web.resident.reach(Topic::Events),
            may,
        })
    });
    answer(&web, &look, Nav::Why, asked.await)
}

fn find(web: &Web, given: &Given) -> Result<Found, Error> {
    let resident = &web.resident;
    let typed = given.text("lead");
    let lead = match (&typed, given.get("event")) {
        (Some(lead), _) => lead.clone(),
        (None, Some(event)) => {
            lead_of(web, event).ok_or_else(|| Error::NotFound("that event isn’t kept here any more".to_owned()))?
        }
        (None, None) => {
            let recent = resident.events();
            let recent = recent.newest(None).take(5);
            let told = recent.map(|event| {
                (
                    event.lead_id.to_string(),
                    event.event_id.to_string(),
                    event.trigger.to_string(),
                )
            });
            return Ok(Found::Unasked { recent: told.collect() });
        }
    };
    let why = match why::lead(resident, &lead) {
        Err(Error::NotFound(_)) => {
            let asked = Asked {
                lead: Some(lead.clone()),
                ..Asked::default()
            };
            let jobs: Vec<Delivery> = {
                let deliveries = resident.deliveries();
                deliveries
                    .newest(&asked, None)
                    .take(JOBS_MAX)
                    .map(|(_, delivery)| delivery)
                    .collect()
            };
            let view = resident.rules().view();
            let named = jobs
                .into_iter()
                .map(|job| (job.clone(), RuleName::of(&view, &job.rule_id)));
            return Ok(Found::Nothing {
                lead,
                jobs: named.collect(),
            });
        }
        why => why?,
    };
    let (kept, events) = (why.events.len(), shown(why.events));
    let more = why.more + kept - events.len();
    let events = events.into_iter().rev().map(|of_event| Event::of(web, of_event));
    Ok(Found::Life {
        events: events.collect::<Result<_, _>>()?,
        more,
        typed,
        lead,
    })
}

/// The newest events, as far as a page takes their rules and messages. The newest is always among them.
fn shown(events: Vec<OfEvent>) -> Vec<OfEvent> {
    let mut rows = 0;
    let has_room = |event: &OfEvent| {
        let before = rows;
        rows += 1 + event.rules.len() + event.jobs.len();
        before == 0 || rows <= ROWS_MAX
    };
    events.into_iter().take_while(has_room).collect()
}

/// The lead of an event, or of a job.
fn lead_of(web: &Web, id: &str) -> Option<String> {
    let of_job = web.resident.deliveries().get(id).map(|delivery| delivery.lead_id);
    of_job.or_else(|| {
        let events = web.resident.events();
        let mut newest = events.newest(None);
        newest
            .find(|event| &*event.event_id == id)
            .map(|event| event.lead_id.to_string())
    })
}

impl Event {
    fn of(web: &Web, of_event: OfEvent) -> Result<Self, Error> {
        let resident = &web.resident;
        let OfEvent {
            event,
            rules,
            further,
            elsewhere,
            jobs,
        } = of_event;
        let (about, person, trigger) =
            resident.with_event(&event, |event| (about(event), person(event), event.trigger.to_string()))?;
        let view = resident.rules().view();
        let has_row = |job: &Delivery| rules.iter().any(|rule| rule.id == job.rule_id);
        let (of_rows, others): (Vec<Delivery>, Vec<Delivery>) = jobs.into_iter().partition(has_row);
        let rows = rules.into_iter().map(|rule| {
            let jobs: Vec<Delivery> = of_rows.iter().filter(|job| job.rule_id == rule.id).cloned().collect();
            Row {
                name: RuleName::of(&view, &rule.id),
                verdict: verdict(&rule.failed),
                jobs,
                rule,
            }
        });
        Ok(Self {
            id: event.event_id.to_string(),
            at: event.occurred_at,
            trigger,
            about,
            person,
            rules: rows.collect(),
            further,
            elsewhere,
            others: others
                .into_iter()
                .map(|job| (job.clone(), RuleName::of(&view, &job.rule_id)))
                .collect(),
        })
    }

    fn has_match(&self) -> bool {
        !self.others.is_empty() || self.rules.iter().any(|row| matches!(row.verdict, Verdict::Matched))
    }

    fn jobs(&self) -> impl Iterator<Item = &Delivery> {
        let others = self.others.iter().map(|(job, _)| job);
        self.rules.iter().flat_map(|row| &row.jobs).chain(others)
    }
}

impl View for Page {
    fn title(&self) -> String {
        match &self.found {
            Found::Unasked { .. } => "Why".to_owned(),
            Found::Nothing { lead, .. } | Found::Life { lead, .. } => format!("Why: lead {}", mask_id(lead)),
        }
    }

    fn draw(&self, look: &Look, now: i64) -> Markup {
        let typed = match &self.found {
            Found::Nothing { lead, .. } => Some(lead.as_str()),
            Found::Life { typed, .. } => typed.as_deref(),
            Found::Unasked { .. } => None,
        };
        html! {
            div.head {
                div {
                    h1 {
                        @match &self.found {
                            Found::Unasked { .. } => "Why did a lead notify somebody, or nobody?",
                            Found::Nothing { lead, .. } | Found::Life { lead, .. } => { "Whom lead " span.mono { (mask_id(lead)) } " notified, and why" },
                        }
                    }
                }
                form.row method="get" action=(PATH) {
                    label for="lead" { "Lead id" }
                    input #lead.mono.w-m type="text" name="lead" value=[typed] autocomplete="off";
                    button.btn { "Look" }
                }
            }
            @match &self.found {
                Found::Unasked { recent } => (unasked(recent)),
                Found::Nothing { lead, jobs } => (self.nothing(lead, jobs, look, now)),
                Found::Life { events, more, .. } => (self.life(events, *more, look, now)),
            }
            @let lead = typed.unwrap_or("LEAD_ID");
            (part::foot(look, "Events", &self.reach, &format!("leadlane deliveries list --lead {}", super::deliveries::quoted(lead)), now))
        }
    }
}

fn unasked(recent: &[(String, String, String)]) -> Markup {
    html! {
        ol.three {
            li { h2 { "Enter a lead’s id" } p { "From the lead’s page, or from any list here: each lead id leads to this page." } }
            li.later { h2 { "See its events" } p { "What happened to the lead, oldest first." } }
            li.later { h2 { "See every rule" } p { "Which matched, which didn’t, the condition that decided, and what became of each message." } }
        }
        @if !recent.is_empty() {
            section.panel aria-labelledby="try" {
                header { h2 #try { "Leads of the last events" } }
                ul.checks.pad {
                    @for (lead, event, trigger) in recent { li { (words::lead_link(lead, event)) span.sub { (words::trigger(trigger)) } } }
                }
            }
        }
    }
}

impl Page {
    fn nothing(&self, lead: &str, jobs: &[(Delivery, RuleName)], look: &Look, now: i64) -> Markup {
        let on = html! { a.btn href=(address("/deliveries", &[("lead", lead)])) { "See its deliveries" } };
        html! {
            div.panel {
                (part::nothing(
                    "search",
                    &format!("No recent event of lead {}", mask_id(lead)),
                    "It may not have come in, the id may be another one, or it was before what is kept here.",
                    &on,
                ))
                @if !jobs.is_empty() { (others("Deliveries of this lead that are kept", jobs, look, now)) }
            }
        }
    }

    fn life(&self, events: &[Event], more: usize, look: &Look, now: i64) -> Markup {
        let rules: usize = events
            .iter()
            .map(|event| event.rules.len() + event.further + event.elsewhere)
            .sum();
        let matched = events
            .iter()
            .flat_map(|event| &event.rules)
            .filter(|row| matches!(row.verdict, Verdict::Matched))
            .count();
        let person = events.iter().rev().find(|event| !event.person.is_empty());
        let newest = events.last();
        html! {
            section.panel aria-labelledby="sum" {
                header {
                    h2 #sum { "In short" }
                    p { (count(events.len() as u64, "event", "events")) ", " (count(rules as u64, "rule", "rules")) " looked at, " (count(matched as u64, "match", "matches")) }
                }
                div.verdict { (in_short(events)) }
                div.pad.try {
                    dl.kv {
                        @if let Some(event) = newest { dt { "Lead" } dd { (event.about.join(", ")) } }
                        dt { "Person" }
                        dd.row {
                            @match person { Some(event) => (event.person.join(", ")), None => span.muted { "nobody is named" } }
                            @if let Some(event) = newest { (reveal(look, "event", &event.id, self.may)) }
                        }
                    }
                }
            }
            ol.life aria-label="Events of this lead, oldest first" {
                @for event in events { (event.draw(look, now)) }
            }
            @if more > 0 { p.sub { (count(more as u64, "older event is", "older events are")) " kept, and not shown." } }
        }
    }
}

/// What became of everything, by how it stands and where it went.
fn in_short(events: &[Event]) -> Markup {
    let mut tally: Vec<(Stands, &str, u64)> = Vec::new();
    for job in events.iter().flat_map(Event::jobs) {
        match tally
            .iter_mut()
            .find(|(stands, lane, _)| *stands == job.stands && *lane == job.lane)
        {
            Some((.., count)) => *count += 1,
            None => tally.push((job.stands, &job.lane, 1)),
        }
    }
    html! {
        @if tally.is_empty() { span { (status("off", "x", "Nobody was notified")) } }
        @for (stands, lane, many) in tally {
            @let (kind, shape, word) = words::stands(stands);
            span { (status(kind, shape, &format!("{} {}", number(many), word.to_lowercase()))) " to " (lane_link(lane)) }
        }
    }
}

fn others(title: &str, jobs: &[(Delivery, RuleName)], look: &Look, now: i64) -> Markup {
    html! {
        table.tbl.cards role="table" {
            caption.small.pad { (title) }
            (part::columns(&[("Rule", ""), ("What became of it", "full")]))
            tbody role="rowgroup" {
                @for (job, rule) in jobs {
                    tr.hit role="row" {
                        th scope="row" role="rowheader" { (rule.link()) }
                        td.full role="cell" data-l="What became of it" { (became(job, look, now)) }
                    }
                }
            }
        }
    }
}

fn became(job: &Delivery, look: &Look, now: i64) -> Markup {
    html! {
        (stands_status(job.stands)) " to " (words::whither(&job.lane).to)
        span.two-l {
            @match job.ended_at {
                Some(ended_at) => (look.exact_time(ended_at, now)),
                None => { "since " (look.time(job.place.at, now)) },
            }
            @if job.attempts > 1 { ", " (job.attempts) " tries" }
            " · " a href=(format!("/deliveries/{}", job.id)) { "see it" }
            @if job.stands == Stands::Waiting { " · " a href="/lanes" { "lane" } }
        }
    }
}

impl Event {
    fn draw(&self, look: &Look, now: i64) -> Markup {
        let label = words::trigger(&self.trigger);
        html! {
            li {
                p.when { (look.exact_time(self.at, now)) }
                span class=(if self.has_match() { "mk hit" } else { "mk" }) aria-hidden="true" { i {} }
                section.panel {
                    header {
                        h2 { (label) }
                        p { (self.about.join(", ")) }
                        @if self.elsewhere > 0 { span.end.small { (count(self.elsewhere as u64, "more rule is", "more rules are")) " for something else" } }
                    }
                    @if self.rules.is_empty() && self.others.is_empty() {
                        p.pad.sub { "No rule is for this trigger and what the event is about. " a href="/rules" { "See the rules" } }
                    }
                    @if !self.rules.is_empty() { (self.table(&label, look, now)) }
                    @if self.further > 0 { div.pager { span { (count(self.further as u64, "more rule", "more rules")) " for the same, further from a match" } } }
                    @if !self.others.is_empty() { (others("Asked for by rules that are gone or were changed", &self.others, look, now)) }
                }
            }
        }
    }

    fn table(&self, label: &str, look: &Look, now: i64) -> Markup {
        html! {
            table.tbl.cards.fix role="table" {
                caption.vh { "Rules for " (label.to_lowercase()) }
                (part::columns(&[("Rule", "p32"), ("Outcome", "p16"), ("What decided", "p24"), ("What became of it", "full")]))
                tbody role="rowgroup" { @for row in &self.rules { (row.draw(&self.trigger, look, now)) } }
            }
        }
    }
}

impl Row {
    fn draw(&self, trigger: &str, look: &Look, now: i64) -> Markup {
        let is_match = matches!(self.verdict, Verdict::Matched);
        html! {
            tr.hit[is_match] role="row" {
                th scope="row" role="rowheader" {
                    (self.name.link())
                    @match self.rule.version {
                        Some(version) => { " " span.muted.nowrap { "v" (version) } },
                        None => span.two-l { "as it is today; how it was then isn’t known" },
                    }
                }
                td.p16 role="cell" data-l="Outcome" { (self.verdict.status()) }
                td.p24 role="cell" data-l="What decided" { (decided(&self.rule.failed, trigger)) }
                td.full role="cell" data-l="What became of it" {
                    @for job in &self.jobs { (became(job, look, now)) }
                    @if is_match && self.jobs.is_empty() { span.sub { "No message of it is kept here" } }
                    (self.today(trigger))
                }
            }
        }
    }

    /// What today's version says, where that is something else.
    fn today(&self, trigger: &str) -> Markup {
        let Some(today) = self
            .rule
            .today
            .as_ref()
            .filter(|today| today.version != self.rule.version)
        else {
            return html! {};
        };
        let then = matches!(self.verdict, Verdict::Matched);
        html! {
            @match (today.version, today.failed.is_empty(), then) {
                (None, ..) => span.sub { "Deleted since." },
                (Some(version), true, false) => span.sub { "Today’s version " (version) " " b { "would match" } "." },
                (Some(version), false, true) => span.sub { "Today’s version " (version) " would not match: " (decided(&today.failed, trigger)) },
                (Some(_), ..) => "",
            }
        }
    }
}

#[cfg(test)]
mod tests;
