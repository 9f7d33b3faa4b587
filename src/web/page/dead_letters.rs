//! Dead letters: the records that failed, what mends the cause, and the way to replay them.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::response::Response;
use axum::routing::get;
use maud::{Markup, html};

use super::delivery::reveal;
use super::part::{self, count, number, pager};
use super::sent::Sent;
use super::words::{self, RuleName, address, lead_link, mask_id, whither};
use super::{Given, Look, Nav, View, answer, icon};
use crate::config::admin::Role;
use crate::delivery::recall::credential_of;
use crate::desk::Error;
use crate::desk::dead_letters::recent::{self, Asked};
use crate::desk::dead_letters::{Id, Letter as Whole};
use crate::desk::resident::letters::Letter;
use crate::desk::resident::{Reach, Topic};
use crate::reason::Reason;
use crate::text::mask::{mask, mask_json};
use crate::web::Web;
use crate::web::who::Actor;

const PATH: &str = "/dead-letters";
const LIMIT: usize = 100;
/// So many of a reason are looked at for what mends them.
const SAMPLE: usize = 200;

pub(super) fn routes() -> Router<Arc<Web>> {
    Router::new()
        .route(PATH, get(show))
        .route("/dead-letters/{id}", get(show_one))
}

/// What was asked for, as it was typed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Typed {
    pub(super) reason: Option<String>,
    pub(super) rule: Option<String>,
    pub(super) lane: Option<String>,
    /// Also those that were replayed.
    pub(super) all: bool,
}

impl Typed {
    pub(super) fn reasons(&self) -> Vec<Reason> {
        self.reason
            .as_deref()
            .and_then(|reason| reason.parse().ok())
            .into_iter()
            .collect()
    }

    fn asked(&self) -> Asked {
        Asked {
            reasons: self.reasons(),
            rule: self.rule.clone(),
            lane: self.lane.clone(),
            replayed: (!self.all).then_some(false),
            ..Asked::default()
        }
    }

    fn query(&self) -> Vec<(&'static str, &str)> {
        let all = [("reason", &self.reason), ("rule", &self.rule), ("lane", &self.lane)];
        let given = all
            .into_iter()
            .filter_map(|(name, value)| Some((name, value.as_deref()?)));
        given.chain(self.all.then_some(("all", "1"))).collect()
    }
}

/// The dead letters of one reason.
struct OfReason {
    reason: Option<Reason>,
    count: u64,
    newest_at: i64,
    /// The rules that most of them are of.
    rules: Vec<RuleName>,
    /// The lanes that most of them were for, and the inlets that they came by.
    credentials: Vec<String>,
    inlets: Vec<String>,
}

struct Row {
    letter: Letter,
    rule: Option<RuleName>,
    /// What Slack calls the channel or the member, where that is known.
    receiver: Option<String>,
}

struct Page {
    typed: Typed,
    reasons: Vec<OfReason>,
    rows: Vec<Row>,
    next: Option<String>,
    /// What a replay did just now: replayed, left and refused.
    done: Option<(u64, u64, u64)>,
    may: bool,
    reach: Reach,
}

async fn show(State(web): State<Arc<Web>>, look: Look, actor: Actor, given: Given) -> Response {
    let may = actor.role >= Role::Admin;
    let asked = web.ask(move |web| Ok(Page::read(web, &given, may))).await;
    answer(&web, &look, Nav::DeadLetters, asked)
}

impl Page {
    fn read(web: &Web, given: &Given, may: bool) -> Self {
        let resident = &web.resident;
        let typed = Typed {
            reason: given.text("reason"),
            rule: given.text("rule"),
            lane: given.text("lane"),
            all: given.get("all").is_some(),
        };
        let page = recent::recent(resident, &typed.asked(), given.after(), LIMIT);
        let number = |name| given.get(name).and_then(|text| text.parse().ok());
        let reasons = recent::by_reason(resident);
        let reasons = reasons.into_iter().map(|of| of_reason(web, of)).collect();
        let view = resident.rules().view();
        let row = |letter: Letter| Row {
            rule: letter.rule_id.as_deref().map(|rule| RuleName::of(&view, rule)),
            receiver: letter.lane.as_deref().and_then(|lane| web.names.of_lane(lane)),
            letter,
        };
        Self {
            reasons,
            rows: page.items.into_iter().map(row).collect(),
            next: given.next(PATH, page.next),
            done: number("replayed").map(|replayed| {
                (
                    replayed,
                    number("left").unwrap_or_default(),
                    number("refused").unwrap_or_default(),
                )
            }),
            may,
            reach: resident.reach(Topic::DeadLetters),
            typed,
        }
    }
}

fn of_reason(web: &Web, (reason, count, newest_at): (Option<Reason>, u64, i64)) -> OfReason {
    let asked = Asked {
        reasons: reason.into_iter().collect(),
        replayed: Some(false),
        ..Asked::default()
    };
    let letters = recent::recent(&web.resident, &asked, None, SAMPLE).items;
    let view = web.resident.rules().view();
    let of = |name: fn(&Letter) -> Option<&str>| {
        let mut names: Vec<(&str, usize)> = Vec::new();
        for name in letters.iter().filter_map(name) {
            match names.iter_mut().find(|(known, _)| *known == name) {
                Some((_, count)) => *count += 1,
                None => names.push((name, 1)),
            }
        }
        names.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        names
            .into_iter()
            .take(3)
            .map(|(name, _)| name.to_owned())
            .collect::<Vec<_>>()
    };
    OfReason {
        reason,
        count,
        newest_at,
        rules: of(|letter| letter.rule_id.as_deref())
            .iter()
            .map(|rule| RuleName::of(&view, rule))
            .collect(),
        credentials: of(|letter| letter.lane.as_deref().map(credential_of)),
        inlets: of(|letter| letter.source.strip_prefix("inlet:")),
    }
}

impl OfReason {
    /// What mends it, and where.
    fn cure(&self) -> Markup {
        html! {
            (words::cure(self.reason))
            @if !self.rules.is_empty() { " Rules: " @for (nth, rule) in self.rules.iter().enumerate() { @if nth > 0 { ", " } (rule.link()) } "." }
            @if self.reason == Some(Reason::CredentialRefused) {
                @for credential in &self.credentials { " " a href=(format!("/lanes#{}", super::lanes::anchor(credential))) { (whither(credential).by) } "." }
            }
            @for inlet in &self.inlets { " Came in by the inlet " a href=(format!("/inlets#{}", super::lanes::anchor(inlet))) { (inlet) } ", in the configuration " span.mono { "inlets" } "." }
        }
    }
}

impl View for Page {
    fn title(&self) -> String {
        "Dead letters".to_owned()
    }

    fn draw(&self, look: &Look, now: i64) -> Markup {
        let all: u64 = self.reasons.iter().map(|of| of.count).sum();
        html! {
            div.head { div { h1 { "Dead letters" } p { "Records and messages that failed. Each is kept whole. Mend the cause, then replay." } } }
            @if let Some((replayed, left, refused)) = self.done {
                div class=(if refused > 0 { "banner warn" } else { "banner ok" }) role="status" {
                    (icon(if refused > 0 { "warn" } else { "check" }))
                    div {
                        b { (count(replayed, "dead letter", "dead letters")) " replayed. " }
                        @if left > 0 { (count(left, "was", "were")) " replayed before, and left as they are. " }
                        @if refused > 0 { (number(refused)) " could not be replayed. " }
                        a href="/deliveries" { "See the deliveries" }
                    }
                }
            }
            section.panel aria-labelledby="byr" {
                header { h2 #byr { "By reason" } p { (number(all)) " in all wait for a person" } }
                @if self.reasons.is_empty() {
                    (part::nothing("check", "No dead letter waits", "Everything that came could be read, and every message was taken or left out as its rule says.", &html! { a.btn href="/deliveries" { "See the deliveries" } }))
                } @else { (self.by_reason(look, now)) }
            }
            @if !self.rows.is_empty() || !self.typed.query().is_empty() { (self.list(look, now)) }
            (part::foot(look, "Dead letters", &self.reach, &self.command(), now))
        }
    }
}

impl Page {
    fn command(&self) -> String {
        let mut text = "leadlane dead-letters list".to_owned();
        for (flag, value) in [
            ("reason", &self.typed.reason),
            ("rule", &self.typed.rule),
            ("destination", &self.typed.lane),
        ] {
            if let Some(value) = value {
                text.push_str(&format!(" --{flag} {}", super::deliveries::quoted(value)));
            }
        }
        text
    }

    fn by_reason(&self, look: &Look, now: i64) -> Markup {
        html! {
            table.tbl.cards role="table" {
                caption.vh { "Dead letters by reason" }
                (part::columns(&[("Reason", ""), ("Count", "num"), ("Newest", ""), ("What to do", ""), ("Show", "unseen")]))
                tbody role="rowgroup" {
                    @for of in &self.reasons {
                        @let id = of.reason.map_or("", Reason::as_str);
                        @let is_shown = !id.is_empty() && self.typed.reason.as_deref() == Some(id);
                        tr role="row" {
                            th scope="row" role="rowheader" { (words::reason(of.reason)) span.id { (id) } }
                            td.num role="cell" data-l="Count" { (number(of.count)) }
                            td role="cell" data-l="Newest" { (look.time(of.newest_at, now)) }
                            td.full role="cell" data-l="What to do" { (of.cure()) }
                            td role="cell" {
                                a href=(format!("{}#list", address(PATH, &[("reason", id)]))) aria-current=[is_shown.then_some("true")] {
                                    @if is_shown { "Shown below" } @else { "Show" } span.vh { ": " (words::reason(of.reason)) }
                                }
                            }
                        }
                    }
                }
            }
        }
    }

    fn list(&self, look: &Look, now: i64) -> Markup {
        let title = match self.typed.reasons().first() {
            Some(reason) => words::reason(Some(*reason)),
            None if self.typed.all => "All dead letters",
            None => "All that wait for a person",
        };
        html! {
            form.panel #list method="post" action="/dead-letters/replay" aria-labelledby="li" {
                (look.token())
                @for (name, value) in self.typed.query() { input type="hidden" name=(name) value=(value); }
                header {
                    h2 #li { (title) }
                    @if let Some(rule) = &self.typed.rule { p { "of the rule " (rule) } }
                    span.end {
                        @if self.typed.all { a.btn.s.bare href=(PATH) { "Only those that wait" } }
                        @else { a.btn.s.bare href=(address(PATH, &[("all", "1")])) { "Also those that were replayed" } }
                    }
                }
                @if self.rows.is_empty() {
                    (part::nothing("search", "No such dead letter", "None of those that are kept here fits.", &html! { a.btn.bare href=(PATH) { "Clear the filters" } }))
                } @else {
                    div.bulk role="group" aria-label="Replay" {
                        button.btn.s name="which" value="ids" disabled[!self.may] { (icon("eye")) "Say what replaying the ticked would do" }
                        button.btn.s name="which" value="all" disabled[!self.may] { (icon("eye")) "… replaying all of these" }
                        span.muted { @if self.may { "Nothing goes out before you have seen what it would do." } @else { "Replaying needs an admin." } }
                    }
                    (self.table(look, now))
                    (pager(&count(self.rows.len() as u64, "dead letter", "dead letters"), None, self.next.as_deref().map(|next| (next, "Older"))))
                }
            }
        }
    }

    fn table(&self, look: &Look, now: i64) -> Markup {
        html! {
            table.tbl.cards role="table" {
                caption.vh { "Dead letters, newest first" }
                (part::columns(&[("Pick", "unseen"), ("When", "beside"), ("Lead", ""), ("Rule", ""), ("Was meant for", ""), ("What failed", ""), ("Look", "unseen")]))
                tbody role="rowgroup" { @for row in &self.rows { (row.draw(look, now)) } }
            }
        }
    }
}

impl Row {
    fn draw(&self, look: &Look, now: i64) -> Markup {
        let letter = &self.letter;
        let lead = letter.lead_id.as_deref().unwrap_or_default();
        let event = letter
            .job_id
            .as_deref()
            .or(letter.event_id.as_deref())
            .unwrap_or_default();
        let id = letter.id.to_string();
        html! {
            tr role="row" {
                td.box role="cell" {
                    @if letter.replayed { span title="replayed" { (icon("again")) span.vh { "Replayed" } } }
                    @else { input type="checkbox" name="id" value=(id) aria-label=(format!("Pick {id}, for lead {}", mask_id(lead))); }
                }
                td.beside role="cell" data-l="When" { (look.exact_time(letter.place.at, now)) }
                th scope="row" role="rowheader" { (lead_link(lead, event)) }
                td.full role="cell" data-l="Rule" { @match &self.rule { Some(rule) => (rule.link()), None => span.muted { "none yet" } } }
                td role="cell" data-l="Was meant for" {
                    @match letter.lane.as_deref() {
                        Some(lane) => (words::receiver(lane, self.receiver.as_deref())),
                        None => span.muted { "no one yet" },
                    }
                }
                td.full role="cell" data-l="What failed" {
                    (words::reason(letter.reason)) span.two-l { (mask(&letter.detail)) }
                }
                td role="cell" { a href=(format!("{PATH}/{id}")) aria-label=(format!("Look at {id}")) { "Look" } }
            }
        }
    }
}

struct One {
    id: Id,
    letter: Whole,
    rule: Option<RuleName>,
    replayed: bool,
    may: bool,
}

async fn show_one(State(web): State<Arc<Web>>, look: Look, actor: Actor, Path(id): Path<String>) -> Response {
    let may = actor.role >= Role::Admin;
    let asked = web.ask(move |web| {
        let id: Id = id
            .parse()
            .map_err(|_| Error::NotFound("there is no such dead letter".to_owned()))?;
        let letter = recent::one(&web.resident, id)?;
        let rule = letter
            .header("rule-id")
            .map(|rule| RuleName::of(&web.resident.rules().view(), rule));
        let replayed = web.resident.is_replayed(id, letter.record.timestamp);
        Ok(One {
            id,
            letter,
            rule,
            replayed,
            may,
        })
    });
    answer(&web, &look, Nav::DeadLetters, asked.await)
}

impl View for One {
    fn title(&self) -> String {
        format!("Dead letter {}", self.id)
    }

    fn draw(&self, look: &Look, now: i64) -> Markup {
        let letter = &self.letter;
        let of = |name| letter.header(name).unwrap_or_default();
        let lane = letter.lane();
        let lead = letter.job.as_ref().map_or("", |job| job.lead_id.as_str());
        html! {
            nav.crumbs aria-label="Where this is" { ol { li { a href=(PATH) { "Dead letters" } } li { "One dead letter" } } }
            div.head {
                div { h1 { (words::reason(letter.reason())) } p { (words::cure(letter.reason())) } }
                form.row method="post" action="/dead-letters/replay" {
                    (look.token())
                    input type="hidden" name="which" value="ids";
                    input type="hidden" name="id" value=(self.id.to_string());
                    button.btn disabled[!self.may || self.replayed] { (icon("eye")) "Say what a replay would do" }
                    @if self.replayed { span.small.muted { "it was replayed" } } @else if !self.may { span.small.muted { "needs an admin" } }
                }
            }
            section.panel aria-labelledby="facts" {
                header { h2 #facts { "What failed" } }
                dl.kv.pad {
                    dt { "What" } dd { (mask(of("detail"))) }
                    dt { "When" } dd { (look.exact_time(letter.record.timestamp, now)) }
                    @if let Some(rule) = &self.rule { dt { "Rule" } dd { (rule.link()) } }
                    @if let Some(lane) = &lane { dt { "Was meant for" } dd { (words::lane_link(lane)) } }
                    dt { "Lead" } dd { (lead_link(lead, letter.header("job-id").unwrap_or(of("event-id")))) }
                    @if let Some(inlet) = of("source-topic").strip_prefix("inlet:") {
                        dt { "Came by" } dd { "the inlet " a href=(format!("/inlets#{}", super::lanes::anchor(inlet))) { (inlet) } }
                    }
                    dt { "Id" } dd.mono { (self.id) }
                }
            }
            section.panel aria-labelledby="held" {
                header { h2 #held { "What it holds" } span.end { (reveal(look, "dead_letter", &self.id.to_string(), self.may)) } }
                div.pad.stack {
                    @match &letter.job {
                        Some(job) => ({
                            let sent = Sent { lane: lane.as_deref().unwrap_or_default(), body: &job.body, at: None, revealed: false };
                            sent.draw()
                        }),
                        None => pre.codebox tabindex="0" { (held(letter)) },
                    }
                }
            }
            div.foot { p { "On a server:" } p { (part::command(&format!("leadlane dead-letters show {}", self.id))) } }
        }
    }
}

/// The record, masked.
fn held(letter: &Whole) -> String {
    let mut held = letter.held();
    mask_json(&mut held);
    match held {
        serde_json::Value::String(text) => text,
        held => format!("{held:#}"),
    }
}

#[cfg(test)]
mod tests;
