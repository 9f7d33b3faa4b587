//! Lanes: what waits for which channel, webhook and account, since when, and why one stands still.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::response::Response;
use axum::routing::{get, post};
use maud::{Markup, html};

use super::part::{self, as_of, command, number, status};
use super::words::{self, address, whither};
use super::{Look, Nav, View, answer, icon, see_other};
use crate::config::admin::Role;
use crate::delivery::recall::credential_of;
use crate::desk::Error;
use crate::desk::lanes::{self, Lane};
use crate::desk::rules as desk_rules;
use crate::rules::control::{ALL, Order};
use crate::web::Web;
use crate::web::guard::Posted;
use crate::web::order::ordered;
use crate::web::who::Actor;

mod drawn;

const PATH: &str = "/lanes";
/// So many lanes are offered to be paused.
const KNOWN_MAX: usize = 100;
/// So many lanes of one credential are shown; those that need a person come first.
const LANES_MAX: usize = 50;

pub(super) fn routes() -> Router<Arc<Web>> {
    Router::new()
        .route(PATH, get(show))
        .route("/lanes/order", post(order))
        .route("/lanes/pause-all", get(ask_pause_all))
}

/// How a lane stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Standing {
    Refused,
    Paused,
    Frozen,
    Sending,
}

impl Standing {
    pub(super) fn of(lane: &Lane, now: i64) -> Self {
        match &lane.frozen {
            _ if lane.paused.is_some() => Self::Paused,
            Some(frozen) if frozen.refused => Self::Refused,
            Some(frozen) if frozen.until.is_none_or(|until| until > now) => Self::Frozen,
            _ => Self::Sending,
        }
    }

    fn status(self) -> Markup {
        match self {
            Self::Refused => status("bad", "stop", "Refused"),
            Self::Paused => status("off", "pause", "Paused"),
            Self::Frozen => status("warn", "frost", "Frozen"),
            Self::Sending => status("ok", "send", "Sending"),
        }
    }
}

/// The lanes of one credential.
struct Group {
    credential: String,
    lanes: Vec<Lane>,
    more: usize,
}

struct Page {
    groups: Vec<Group>,
    /// Lanes and credentials of the rules in force.
    known: BTreeSet<String>,
    /// By lane, what Slack calls its channel or member, where that is known.
    receivers: BTreeMap<String, String>,
    /// Who paused all sending, and since when.
    all: Option<lanes::Paused>,
    waiting: u64,
    may: bool,
    read_at: i64,
    cut_off: Option<i64>,
}

async fn show(State(web): State<Arc<Web>>, look: Look, actor: Actor) -> Response {
    let (now, may) = ((web.now)(), actor.role >= Role::Admin);
    let asked = web.ask(move |web| Page::read(web, may, now)).await;
    answer(&web, &look, Nav::Lanes, asked)
}

impl Page {
    fn read(web: &Web, may: bool, now: i64) -> Result<Self, Error> {
        let (lanes, read_at) = lanes::of_late(&web.resident, now)?;
        let all = lanes
            .iter()
            .find(|lane| lane.id == ALL)
            .and_then(|lane| lane.paused.clone());
        let receiver = |lane: &Lane| Some((lane.id.clone(), web.names.of_lane(&lane.id)?));
        Ok(Self {
            receivers: lanes.iter().filter_map(receiver).collect(),
            waiting: lanes.iter().map(|lane| lane.waiting).sum(),
            groups: groups(lanes, now),
            known: known(web),
            all,
            may,
            read_at,
            cut_off: part::cut_off(&web.resident),
        })
    }
}

/// Some lanes and credentials of the rules in force, to choose one.
fn known(web: &Web) -> BTreeSet<String> {
    let mut known = BTreeSet::new();
    let view = web.resident.rules().view();
    for in_force in desk_rules::every(&view) {
        let lane = &*in_force.rule.lane;
        if !known.contains(lane) {
            known.extend([lane.to_owned(), credential_of(lane).to_owned()]);
        }
        if known.len() >= KNOWN_MAX {
            break;
        }
    }
    known
}

/// The lanes by credential, first those that need a person.
fn groups(lanes: Vec<Lane>, now: i64) -> Vec<Group> {
    let mut by_credential = BTreeMap::<String, Vec<Lane>>::new();
    for lane in lanes.into_iter().filter(|lane| lane.id != ALL) {
        by_credential.entry(lane.credential.clone()).or_default().push(lane);
    }
    let of = |(credential, mut lanes): (String, Vec<Lane>)| {
        // What is said of the credential alone says nothing that its lanes don't.
        if lanes.len() > 1 {
            lanes.retain(|lane| lane.id != credential || lane.waiting > 0);
        }
        lanes.sort_by_key(|lane| (Standing::of(lane, now), std::cmp::Reverse(lane.waiting)));
        let more = lanes.len().saturating_sub(LANES_MAX);
        lanes.truncate(LANES_MAX);
        Group {
            credential,
            lanes,
            more,
        }
    };
    let mut groups: Vec<Group> = by_credential.into_iter().map(of).collect();
    groups.sort_by_key(|group| group.lanes.first().map(|lane| Standing::of(lane, now)));
    groups
}

impl View for Page {
    fn title(&self) -> String {
        "Lanes".to_owned()
    }

    fn draw(&self, look: &Look, now: i64) -> Markup {
        html! {
            div.head {
                div { h1 { "Lanes" } p { "Each channel, webhook and account has a lane of its own. One that stands still holds up nobody else." } }
                div.row {
                    @if self.all.is_none() {
                        @if self.may { a.btn.bad href="/lanes/pause-all" { (icon("pause")) "Pause all sending…" } }
                        @else { button.btn disabled { (icon("pause")) "Pause all sending…" } span.small.muted { "needs an admin" } }
                    }
                }
            }
            @if let Some(paused) = &self.all {
                div.banner.warn {
                    (icon("pause"))
                    div {
                        p { b { "All sending is paused" } (by(paused, look, now)) ". Messages wait, and are kept for 72 hours." }
                        div.row { (self.button(look, Order::Resume, ALL, "Resume all sending", "on", "btn go")) }
                    }
                }
            }
            (part::live(PATH, &self.list(look, now)))
            @if self.may { (self.pause_another(look)) }
            div.foot {
                p { "Pausing lasts until someone resumes, also over a restart. What waits longer than is allowed becomes a dead letter. On a server: " (command("leadlane lanes")) }
            }
        }
    }

    fn live(&self, look: &Look, now: i64) -> Option<Markup> {
        Some(self.list(look, now))
    }
}

impl Page {
    fn list(&self, look: &Look, now: i64) -> Markup {
        html! {
            div.row.after {
                p.grow.sub { b { (number(self.waiting)) } " waiting in all, read at " (look.exact_time(self.read_at, now)) }
                (as_of(look, self.cut_off, now))
            }
            @if self.groups.is_empty() {
                section.panel { h2.vh { "What waits" } (part::nothing("lane", "Nothing waits", "Every message was sent as it came. A lane is drawn here as soon as something waits in it.", &html! { a.btn href="/deliveries" { "See the deliveries" } })) }
            }
            @for (number, group) in self.groups.iter().enumerate() { (self.group(number, group, look, now)) }
        }
    }

    /// What nothing waits for isn't listed, and can be paused all the same.
    fn pause_another(&self, look: &Look) -> Markup {
        html! {
            div.panel.after {
                form.filters method="post" action="/lanes/order" aria-label="Pause a lane in which nothing waits" {
                    (look.token())
                    input type="hidden" name="order" value=(Order::Pause.as_str());
                    div.field.wide {
                        label for="lane" { "Pause another lane, app or account" }
                        input #lane.mono name="lane" list="lanes" required autocomplete="off" placeholder="slack:sales-bot/C0123ABCD, or slack:sales-bot for all of it";
                        datalist #lanes { @for lane in &self.known { option value=(lane) { (whither(lane).to) } } }
                    }
                    button.btn { (icon("pause")) "Pause" }
                }
            }
        }
    }

    fn group(&self, nth: usize, group: &Group, look: &Look, now: i64) -> Markup {
        let worst = group
            .lanes
            .iter()
            .map(|lane| Standing::of(lane, now))
            .min()
            .unwrap_or(Standing::Sending);
        let title = whither(&group.credential).by;
        let refused = group
            .lanes
            .iter()
            .find_map(|lane| lane.frozen.as_ref().filter(|frozen| frozen.refused));
        let is_paused = group
            .lanes
            .iter()
            .any(|lane| lane.paused.as_ref().is_some_and(|paused| paused.of == group.credential));
        html! {
            section.panel id=(anchor(&group.credential)) aria-labelledby=(format!("l{nth}")) {
                header {
                    h2 id=(format!("l{nth}")) { (title) }
                    @if worst == Standing::Refused { (status("bad", "stop", "Token refused")) }
                    span.end {
                        @if refused.is_some() { (self.button(look, Order::Probe, &group.credential, "Try now", "again", "btn s")) }
                        @if is_paused { (self.button(look, Order::Resume, &group.credential, "Resume all of it", "on", "btn s")) }
                        @else { (self.button(look, Order::Pause, &group.credential, "Pause all of it", "pause", "btn s")) }
                    }
                }
                @if let Some(frozen) = refused {
                    div.pad {
                        div.banner.bad.flat {
                            (icon("stop"))
                            div {
                                p { b { "Its token or passcode is refused: " } (words::freeze(&frozen.why)) ". Nothing of it goes out until it is taken again." }
                                p.small.sub { "Put a new one under the name " span.mono { (group.credential.split_once(':').map_or("", |(_, name)| name)) } " in the secret store, then press " b { "Try now" } ". It is tried by itself, too. What waits is kept for 72 hours." }
                            }
                        }
                    }
                }
                table.tbl.cards.fix role="table" {
                    caption.vh { "Lanes of " (title) }
                    (part::columns(&[("Goes to", "p16"), ("Drawn", "p16 unseen"), ("State", "p12"), ("Waiting", "num p8"), ("Oldest since", "p10 third"), ("Next send", "p12 third"), ("Why", ""), ("Actions", "acts p12 unseen")]))
                    tbody role="rowgroup" { @for lane in &group.lanes { (self.row(lane, look, now)) } }
                }
                @if group.more > 0 { div.pager { span { (part::count(group.more as u64, "more lane", "more lanes")) " that send" } } }
            }
        }
    }

    fn row(&self, lane: &Lane, look: &Look, now: i64) -> Markup {
        let standing = Standing::of(lane, now);
        let to = whither(&lane.id).to;
        html! {
            tr role="row" {
                th scope="row" role="rowheader" { a href=(address("/deliveries", &[("lane", &lane.id), ("result", "waiting")])) { (words::receiver(&lane.id, self.receivers.get(&lane.id).map(String::as_str))) } }
                td.p16 role="cell" { (drawn::lane(lane.waiting, standing)) }
                td.p12 role="cell" data-l="State" { (standing.status()) }
                td.num.p8 role="cell" data-l="Waiting" { (number(lane.waiting)) }
                td.p10.third role="cell" data-l="Oldest since" {
                    @match lane.oldest_at { Some(at) => (look.time(at, now)), None => span.muted { "none" } }
                }
                td.p12.third role="cell" data-l="Next send" {
                    @match (standing, lane.next_at) {
                        (Standing::Paused, _) => "when resumed",
                        (Standing::Refused, _) => "on a new token",
                        (_, Some(at)) if at <= now => "now",
                        (_, Some(at)) => (look.exact_time(at, now)),
                        (_, None) => "not known",
                    }
                }
                td.full role="cell" data-l="Why" { span.sub { (why(lane, look, now)) } }
                td.full.acts.p12 role="cell" {
                    @match lane.paused.as_ref() {
                        Some(paused) if paused.of == lane.id => (self.named(look, Order::Resume, &lane.id, "Resume", "on", &to)),
                        Some(_) => "",
                        None => (self.named(look, Order::Pause, &lane.id, "Pause", "pause", &to)),
                    }
                    @if standing == Standing::Frozen && !asked_to_wait(lane) { " " (self.named(look, Order::Probe, &lane.id, "Try now", "again", &to)) }
                }
            }
        }
    }

    fn button(&self, look: &Look, order: Order, lane: &str, words: &str, shape: &str, class: &str) -> Markup {
        html! {
            form.inline method="post" action="/lanes/order" {
                (look.token())
                input type="hidden" name="order" value=(order.as_str());
                input type="hidden" name="lane" value=(lane);
                button class=(class) disabled[!self.may] title=[(!self.may).then_some("needs an admin")] { (icon(shape)) (words) }
            }
        }
    }

    /// The same for a row, with the name of what it is about.
    fn named(&self, look: &Look, order: Order, lane: &str, words: &str, shape: &str, to: &str) -> Markup {
        let words = html! { (icon(shape)) (words) span.vh { " " (to) } };
        html! {
            form.inline method="post" action="/lanes/order" {
                (look.token())
                input type="hidden" name="order" value=(order.as_str());
                input type="hidden" name="lane" value=(lane);
                button.btn.s disabled[!self.may] title=[(!self.may).then_some("needs an admin")] { (words) }
            }
        }
    }
}

/// The id of a credential's panel.
pub(super) fn anchor(credential: &str) -> String {
    credential
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .collect()
}

/// The provider asked to wait, which no order shortens.
fn asked_to_wait(lane: &Lane) -> bool {
    lane.frozen
        .as_ref()
        .is_some_and(|frozen| frozen.why.starts_with("throttled"))
}

fn by(paused: &lanes::Paused, look: &Look, now: i64) -> Markup {
    html! {
        @if let Some(who) = &paused.who { " by " (who) }
        @if let Some(since) = paused.since { " since " (look.time(since, now)) }
    }
}

fn why(lane: &Lane, look: &Look, now: i64) -> Markup {
    html! {
        @match (&lane.paused, &lane.frozen) {
            (Some(paused), _) => {
                @if paused.of == ALL { "All sending is paused" } @else if paused.of == lane.id { "Paused" } @else { "All of its app or account is paused" }
                (by(paused, look, now))
            },
            (None, Some(frozen)) => (words::freeze(&frozen.why)),
            (None, None) => @if let Some(rate) = lane.limit.lane.or(lane.limit.credential) { "At most " (crate::rules::words::rate(&rate.to_string())) },
        }
    }
}

/// Asks before all sending is paused.
async fn ask_pause_all(State(web): State<Arc<Web>>, look: Look, actor: Actor) -> Response {
    let now = (web.now)();
    let may = actor.needs(Role::Admin);
    let asked = match may {
        Ok(()) => {
            web.ask(move |web| {
                Ok(Ask {
                    waiting: lanes::read(&web.resident, now)?.0.iter().map(|lane| lane.waiting).sum(),
                })
            })
            .await
        }
        Err(problem) => Err(problem),
    };
    answer(&web, &look, Nav::Lanes, asked)
}

struct Ask {
    waiting: u64,
}

impl View for Ask {
    fn title(&self) -> String {
        "Pause all sending".to_owned()
    }

    fn draw(&self, look: &Look, _: i64) -> Markup {
        html! {
            form.real.pad.stack method="post" action="/lanes/order" aria-labelledby="ask" {
                (look.token())
                input type="hidden" name="order" value="pause";
                input type="hidden" name="lane" value=(ALL);
                h1 #ask { "Pause all sending?" }
                p { "Nothing more goes to Slack or CleverTap until someone resumes. What is on its way ends. " b { (number(self.waiting)) } " messages wait now; they and all that come wait on, each for at most 72 hours." }
                div.row { button.btn.bad { (icon("pause")) "Pause all sending" } a.btn href=(PATH) { "Keep sending" } }
                p.small.muted { "Noted in the audit with your name." }
            }
        }
    }
}

/// Pauses, resumes or tries a lane, a credential or all sending.
async fn order(State(web): State<Arc<Web>>, look: Look, actor: Actor, posted: Posted) -> Response {
    let lane = posted.get("lane").unwrap_or_default().to_owned();
    let to = format!("{PATH}#{}", anchor(credential_of(&lane)));
    match ordered(&web, &actor, posted.get("order").unwrap_or_default(), lane).await {
        Ok(_) => see_other(&to),
        Err(problem) => super::problem(&web, &look, &problem),
    }
}

#[cfg(test)]
mod tests;
