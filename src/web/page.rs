//! Pages: what all of them share. Each page has a room of its own below this one.
//!
//! A page is a whole document, or, where htmx asks for a part, that part alone. Every action is a form that works
//! without scripts.

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::guard::{Asker, CSRF, cookie};
use super::problem::Problem;
use super::who::By;
use super::{Web, assets};

mod audit;
pub(super) mod chart;
pub(super) mod conflict;
mod dead_letters;
mod deliveries;
mod delivery;
mod given;
mod home;
mod inlets;
mod lanes;
pub(super) mod login;
pub(super) mod part;
mod replay;
mod reveal;
mod rule;
pub(super) mod rules;
mod search;
mod sent;
mod slack;
mod status;
pub(super) mod versions;
mod why;
pub(super) mod words;

pub(super) use given::Given;

/// The cookies of a reader's choices.
pub(super) const THEME: &str = "leadlane_theme";
pub(super) const ZONE: &str = "leadlane_zone";

/// How a page looks to the one who reads it.
#[derive(Debug, Clone)]
pub(super) struct Look {
    pub(super) asker: Option<Asker>,
    /// `light`, `dark` or `auto`.
    pub(super) theme: &'static str,
    pub(super) zone: TimeZone,
    /// htmx asks, for the part with this id.
    pub(super) part: Option<String>,
}

impl Look {
    pub(super) fn of(headers: &HeaderMap, asker: Option<&Asker>) -> Self {
        let theme = match cookie(headers, THEME) {
            Some("light") => "light",
            Some("dark") => "dark",
            _ => "auto",
        };
        let zone = cookie(headers, ZONE).and_then(|name| TimeZone::get(&name.replace("%2F", "/")).ok());
        let part = headers.get("hx-target").and_then(|part| part.to_str().ok());
        Self {
            asker: asker.cloned(),
            theme,
            zone: zone.unwrap_or(TimeZone::UTC),
            part: part.map(str::to_owned).filter(|_| headers.contains_key("hx-request")),
        }
    }

    pub(super) fn of_request(request: &Request) -> Self {
        Self::of(request.headers(), request.extensions().get())
    }

    /// The session's CSRF token, for forms.
    pub(super) fn csrf(&self) -> &str {
        let session = self.asker.as_ref().and_then(|asker| asker.session.as_ref());
        session.map_or("", |session| session.csrf.as_str())
    }

    /// The hidden field that every form that posts has.
    pub(super) fn token(&self) -> Markup {
        html! { input type="hidden" name=(CSRF) value=(self.csrf()); }
    }

    /// A time as this reader sees it: today's without the date. Times are in epoch milliseconds.
    pub(super) fn time(&self, at: i64, now: i64) -> Markup {
        self.time_as(at, now, "%H:%M")
    }

    /// The same, with seconds.
    pub(super) fn exact_time(&self, at: i64, now: i64) -> Markup {
        self.time_as(at, now, "%H:%M:%S")
    }

    fn time_as(&self, at: i64, now: i64, clock: &str) -> Markup {
        let (Ok(at), Ok(now)) = (Timestamp::from_millisecond(at), Timestamp::from_millisecond(now)) else {
            return html! { span.muted { "no time" } };
        };
        let (here, today) = (at.to_zoned(self.zone.clone()), now.to_zoned(self.zone.clone()));
        let form = match (here.date() == today.date(), here.year() == today.year()) {
            (true, _) => clock.to_owned(),
            (false, true) => format!("%-d %b {clock}"),
            (false, false) => format!("%-d %b %Y {clock}"),
        };
        let (shown, full) = (
            here.strftime(&form).to_string(),
            at.strftime("%-d %b %Y, %H:%M:%S UTC").to_string(),
        );
        html! { time datetime=(at.strftime("%Y-%m-%dT%H:%M:%SZ")) title=(full) { (shown) } }
    }

    /// A time as a chart's axis shows it: the clock, or the day.
    pub(super) fn clock(&self, at: i64, by_day: bool) -> String {
        let at = Timestamp::from_millisecond(at).unwrap_or_default();
        let form = if by_day { "%-d %b" } else { "%H:%M" };
        at.to_zoned(self.zone.clone()).strftime(form).to_string()
    }

    /// The day, such as `Thursday, 5 March`.
    pub(super) fn day(&self, now: i64) -> String {
        let now = Timestamp::from_millisecond(now).unwrap_or_default();
        now.to_zoned(self.zone.clone()).strftime("%A, %-d %B").to_string()
    }

    /// The reader's zone in words, such as `Chicago (UTC−6)`.
    pub(super) fn zone_words(&self, now: i64) -> String {
        let now = Timestamp::from_millisecond(now).unwrap_or_default();
        let Some(name) = self.zone.iana_name().filter(|name| *name != "UTC") else {
            return "UTC".to_owned();
        };
        let city = name.rsplit('/').next().unwrap_or(name).replace('_', " ");
        let seconds = self.zone.to_offset(now).seconds();
        let (hours, minutes) = (seconds.abs() / 3600, seconds.abs() % 3600 / 60);
        let sign = if seconds < 0 { "−" } else { "+" };
        match minutes {
            0 => format!("{city} (UTC{sign}{hours})"),
            _ => format!("{city} (UTC{sign}{hours}:{minutes:02})"),
        }
    }
}

/// The pages of the rail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Nav {
    Home,
    Rules,
    Why,
    Deliveries,
    Lanes,
    DeadLetters,
    Inlets,
    Audit,
    Status,
    /// None of them.
    Other,
}

/// A page of the rail: its place, address, word and icon.
type Stop = (Nav, &'static str, &'static str, &'static str);

/// The groups of the rail, each with its title.
const RAIL: [(&str, &[Stop]); 3] = [
    (
        "",
        &[
            (Nav::Home, "/", "Home", "home"),
            (Nav::Rules, "/rules", "Rules", "rule"),
            (Nav::Why, "/why", "Why", "why"),
        ],
    ),
    (
        "Sending",
        &[
            (Nav::Deliveries, "/deliveries", "Deliveries", "send"),
            (Nav::Lanes, "/lanes", "Lanes", "lane"),
            (Nav::DeadLetters, "/dead-letters", "Dead letters", "dead"),
        ],
    ),
    (
        "System",
        &[
            (Nav::Inlets, "/inlets", "Inlets", "inlet"),
            (Nav::Audit, "/audit", "Audit", "audit"),
            (Nav::Status, "/status", "Status", "status"),
        ],
    ),
];

/// What stands around a page.
#[derive(Debug, Default)]
pub(super) struct Frame {
    /// Lanes and dead letters that need a person.
    pub(super) lanes: usize,
    pub(super) dead_letters: usize,
    /// Since when the desk has lost touch with Kafka.
    pub(super) cut_off: Option<i64>,
}

/// The routes of the pages.
pub(super) fn routes() -> Router<Arc<Web>> {
    [
        audit::routes(),
        conflict::routes(),
        dead_letters::routes(),
        deliveries::routes(),
        delivery::routes(),
        home::routes(),
        inlets::routes(),
        lanes::routes(),
        replay::routes(),
        reveal::routes(),
        rule::routes(),
        rules::routes(),
        search::routes(),
        status::routes(),
        versions::routes(),
        why::routes(),
    ]
    .into_iter()
    .fold(Router::new(), Router::merge)
}

/// A page as it is shown: what a service answered, ready to be drawn.
pub(super) trait View {
    fn title(&self) -> String;

    /// All of it, below the bar. `now` is in epoch milliseconds.
    fn draw(&self, look: &Look, now: i64) -> Markup;

    /// The part that is asked for again and again, with the id [`part::LIVE`].
    fn live(&self, _: &Look, _: i64) -> Option<Markup> {
        None
    }
}

/// The page that a service's answer makes, or the problem.
pub(super) fn answer(web: &Web, look: &Look, nav: Nav, asked: Result<impl View, Problem>) -> Response {
    let now = (web.now)();
    match asked {
        Ok(view) => match view
            .live(look, now)
            .filter(|_| look.part.as_deref() == Some(part::LIVE))
        {
            Some(live) => fragment(live),
            None => shell(web, look, nav, &view.title(), &view.draw(look, now)),
        },
        Err(refused) => problem(web, look, &refused),
    }
}

/// A whole page. `body` stands below the bar; a part that htmx asked for goes alone.
pub(super) fn shell(web: &Web, look: &Look, nav: Nav, title: &str, body: &Markup) -> Response {
    let (frame, now) = (web.frame(), (web.now)());
    let page = html! {
        (DOCTYPE)
        html lang="en" data-theme=(look.theme) {
            (head(title))
            body {
                a.skip href="#main" { "Skip to the page" }
                div.shell #top {
                    (bar(look, now))
                    (rail(look, nav, &frame, now))
                    main.main #main tabindex="-1" {
                        @if let Some(since) = frame.cut_off { (cut_off(look, since, now)) }
                        (body)
                    }
                }
            }
        }
    };
    page.into_string().into_html(StatusCode::OK)
}

/// A part of a page, for htmx.
pub(super) fn fragment(part: Markup) -> Response {
    part.into_string().into_html(StatusCode::OK)
}

/// Text as a page.
trait IntoHtml {
    fn into_html(self, status: StatusCode) -> Response;
}

impl IntoHtml for String {
    fn into_html(self, status: StatusCode) -> Response {
        (status, [(header::CONTENT_TYPE, "text/html; charset=utf-8")], self).into_response()
    }
}

/// To another page, after a form.
pub(super) fn see_other(address: &str) -> Response {
    (StatusCode::SEE_OTHER, [(header::LOCATION, address.to_owned())]).into_response()
}

fn head(title: &str) -> Markup {
    html! {
        head {
            meta charset="utf-8";
            meta name="viewport" content="width=device-width, initial-scale=1";
            meta name="color-scheme" content="light dark";
            meta name="htmx-config" content=r#"{"allowEval":false,"includeIndicatorStyles":false,"historyCacheSize":0,"selfRequestsOnly":true}"#;
            title { (title) " · Leadlane" }
            link rel="stylesheet" href=(assets::address("desk.css"));
            link rel="icon" href=(format!("{}#brand", assets::address("icons.svg"))) type="image/svg+xml";
            script src=(assets::address("htmx.min.js")) defer {}
            script src=(assets::address("desk.js")) defer {}
        }
    }
}

/// An icon. The word beside it has the meaning.
pub(super) fn icon(name: &str) -> Markup {
    html! { svg.i aria-hidden="true" { use href=(format!("{}#i-{name}", assets::address("icons.svg"))) {} } }
}

fn brand() -> Markup {
    PreEscaped(
        r##"<svg viewBox="0 0 22 22" aria-hidden="true"><rect width="22" height="22" rx="5" fill="#f0bd1f"/><path d="M6.5 19 8.6 3M15.5 19 13.4 3" stroke="#17201d" stroke-width="2" fill="none" stroke-linecap="round"/><path d="M11 3.5v3.5M11 10v3.5M11 16v3" stroke="#17201d" stroke-width="1.8" stroke-linecap="round"/></svg>"##
            .to_owned(),
    )
}

fn bar(look: &Look, now: i64) -> Markup {
    html! {
        header.bar {
            a.brand href="/" { (brand()) "Leadlane" }
            form.search role="search" method="get" action="/search" {
                button aria-label="Find" { (icon("search")) }
                label.vh for="q" { "Find a lead, rule, lane or page" }
                input #q name="q" type="search" placeholder="Lead id, rule, lane or page" autocomplete="off" aria-keyshortcuts="/";
                kbd aria-hidden="true" { "/" }
            }
            div.bar-end {
                p.zone data-zone="" { "Times in " (look.zone_words(now)) br; "hover for UTC" }
                (themes(look))
                (who(look))
                a.btn.s.menu-link href="#nav" { (icon("menu")) "Menu" }
            }
        }
    }
}

/// The choice of light, dark or the system's.
pub(super) fn themes(look: &Look) -> Markup {
    let choices = [
        ("auto", "As the system", "half"),
        ("light", "Light", "sun"),
        ("dark", "Dark", "moon"),
    ];
    html! {
        form method="post" action="/theme" {
            (look.token())
            div.theme role="group" aria-label="Theme" {
                @for (value, words, name) in choices {
                    button name="theme" value=(value) aria-pressed=(if look.theme == value { "true" } else { "false" }) title=(words) {
                        (icon(name)) span.vh { (words) }
                    }
                }
            }
        }
    }
}

/// The role and the levels of who reads.
fn may(look: &Look) -> String {
    let Some(asker) = &look.asker else { return String::new() };
    let actor = &asker.actor;
    let role = match actor.role.as_str() {
        "viewer" => "Viewer",
        "editor" => "Editor",
        _ => "Admin",
    };
    match actor.levels.is_empty() {
        true => role.to_owned(),
        false => format!("{role}, {}", actor.levels_in_words()),
    }
}

fn log_out(look: &Look) -> Option<Markup> {
    let by = look.asker.as_ref().map(|asker| asker.actor.by);
    (by == Some(By::Token)).then(|| {
        html! { form.inline method="post" action="/logout" { (look.token()) button.linklike { "Log out" } } }
    })
}

fn who(look: &Look) -> Markup {
    let Some(asker) = &look.asker else { return html! {} };
    let name = &asker.actor.name;
    let initials: String = name
        .split_whitespace()
        .filter_map(|word| word.chars().next())
        .take(2)
        .collect();
    html! {
        div.who {
            b.av aria-hidden="true" { (initials.to_uppercase()) }
            span { (name) span { (may(look)) @if let Some(form) = log_out(look) { " · " (form) } } }
        }
    }
}

fn rail(look: &Look, nav: Nav, frame: &Frame, now: i64) -> Markup {
    let needs = |of: Nav| match of {
        Nav::Lanes => frame.lanes,
        Nav::DeadLetters => frame.dead_letters,
        _ => 0,
    };
    html! {
        nav.rail #nav aria-label="Main" {
            div.rail-in {
                a.brand href="/" { (brand()) "Leadlane " small { "rule desk" } }
                a.btn.s.menu-close.menu-link href="#top" { (icon("x")) "Close" }
                div.nav {
                    @for (title, pages) in RAIL {
                        @if !title.is_empty() { h2 { (title) } }
                        ul {
                            @for (of, address, word, name) in pages {
                                li {
                                    a href=(address) aria-current=[(*of == nav).then_some("page")] {
                                        (icon(name)) (word)
                                        @if needs(*of) > 0 {
                                            span.n { (part::number(needs(*of) as u64)) span.vh { " need a person" } }
                                        }
                                    }
                                }
                            }
                        }
                    }
                }
                div.me.small {
                    @if let Some(asker) = &look.asker { (asker.actor.name) ", " (may(look)) br; }
                    @if let Some(form) = log_out(look) { (form) br; }
                    "Times in " (look.zone_words(now))
                }
            }
        }
    }
}

fn cut_off(look: &Look, since: i64, now: i64) -> Markup {
    html! {
        div.banner.warn role="status" {
            (icon("warn"))
            div {
                b { "The desk has lost touch with Leadlane’s records since " (look.time(since, now)) ". " }
                "Sending goes on by itself. What you see is as of then; saving is off until the desk is back in touch. Your drafts are kept."
            }
        }
    }
}

/// A problem as a page.
pub(super) fn problem(web: &Web, look: &Look, problem: &Problem) -> Response {
    let body = html! {
        div.head { div { h1 { (problem.title) } p { (problem.detail) } } }
        @if !problem.errors.is_empty() {
            div.errsum role="alert" tabindex="-1" {
                h2 { (icon("warn")) "What is wrong" }
                ul { @for fault in &problem.errors { li { @if !fault.path.is_empty() { b { (fault.path) } ": " } (fault.message) } } }
            }
        }
        p { a.btn href="/" { "Home" } }
    };
    let mut response = match look.asker {
        Some(_) => shell(web, look, Nav::Other, &problem.title, &body),
        None => login::bare(web, look, &problem.title, &body),
    };
    *response.status_mut() = problem.status();
    if let Some(seconds) = problem.retry_after {
        response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    }
    response
}

#[cfg(test)]
pub(super) mod tests;
