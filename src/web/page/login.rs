//! Logging in and out.
//!
//! Who posts a form after the session has ended logs in on the spot, and sends the same form again: nothing typed is
//! lost.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::rule::without_secrets;
use super::{IntoHtml as _, Look, THEME, brand, head, icon, see_other, themes};
use crate::web::Web;
use crate::web::guard::{self, Asker, Posted};
use crate::web::problem::Problem;
use crate::web::session::Session;
use crate::web::who::By;

pub(in crate::web) const PATH: &str = "/login";
/// What somebody who isn't known may see and send.
pub(in crate::web) const PUBLIC: &[&str] = &[PATH, "/theme"];
/// The fields of a form that waits for a log-in begin so.
const KEPT: &str = "kept.";
/// Where the reader wanted to go.
const THEN: &str = "then";

/// A page outside of the shell, for who isn't known.
pub(in crate::web) fn bare(_: &Web, look: &Look, title: &str, body: &Markup) -> Response {
    page(look, title, body).into_string().into_html(StatusCode::OK)
}

/// Three lanes on their way.
const ART: &str = r##"<svg class="art" viewBox="18 10 290 180" aria-hidden="true"><g fill="none"><path d="M20 40h280M20 100h280M20 160h280" stroke="#56625c" stroke-width="3" stroke-dasharray="14 12"/></g><g><rect x="40" y="30" width="34" height="20" rx="3" fill="#adb9b3"/><rect x="88" y="30" width="34" height="20" rx="3" fill="#adb9b3"/><rect x="196" y="30" width="34" height="20" rx="3" fill="#f0bd1f"/><rect x="62" y="90" width="34" height="20" rx="3" fill="#adb9b3"/><rect x="242" y="90" width="34" height="20" rx="3" fill="#f0bd1f"/><rect x="30" y="150" width="34" height="20" rx="3" fill="#adb9b3"/><rect x="78" y="150" width="34" height="20" rx="3" fill="#adb9b3"/><rect x="126" y="150" width="34" height="20" rx="3" fill="#adb9b3"/><rect x="174" y="150" width="34" height="20" rx="3" fill="#f0bd1f"/></g><g stroke-linecap="round" stroke-width="4" fill="none"><path d="m282 32 8 8-8 8M282 92l8 8-8 8" stroke="#79cd93"/><path d="M272 146v28M284 146v28" stroke="#f1b05a"/></g></svg>"##;

fn page(look: &Look, title: &str, body: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" data-theme=(look.theme) {
            (head(title))
            body {
                a.skip href="#main" { "Skip to the page" }
                div.login {
                    header.side {
                        span.brand { (brand()) "Leadlane " small { "rule desk" } }
                        (PreEscaped(ART))
                        p { "Which message goes to whom when a lead is sold, rejected or called. And why." }
                    }
                    main #main tabindex="-1" {
                        div.tools { span.zone {} (themes(look)) }
                        div.stack-l { (body) }
                    }
                }
            }
        }
    }
}

/// Asks for a token, and keeps what was posted.
pub(in crate::web) fn ask(web: &Web, look: &Look, request: &Request, posted: Posted) -> Response {
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    if request.method().is_safe() && path == "/" {
        return see_other(PATH);
    }
    let kept = without_secrets(web, &posted);
    let form = Form {
        then: path,
        posted: (!request.method().is_safe()).then_some(&kept),
        left_out: posted.get("do").is_some() && kept.get("do").is_none(),
        wrong: None,
    };
    let mut response = bare(web, look, "Log in", &form.draw());
    *response.status_mut() = StatusCode::UNAUTHORIZED;
    response
}

struct Form<'f> {
    /// Where to go then.
    then: &'f str,
    /// What was posted there.
    posted: Option<&'f Posted>,
    /// A secret was left out of it.
    left_out: bool,
    wrong: Option<&'f Problem>,
}

impl Form<'_> {
    fn draw(&self) -> Markup {
        html! {
            div {
                h1 { "Log in to the rule desk" }
                @if self.posted.is_some() {
                    p.sub.after { "Your session has ended. What you sent is kept, and goes on once you have logged in." }
                    @if self.left_out { p.sub { "What held a secret was not kept: give it again then." } }
                }
            }
            @if let Some(problem) = self.wrong {
                div.errsum role="alert" tabindex="-1" {
                    h2 { (icon("warn")) @if problem.status == 429 { "Too many wrong tokens" } @else { "That token is not known here" } }
                    p.small { @if problem.status == 429 { (problem.detail) } @else { "Check that all of it was copied." } " " a href="#tok" { "Try again" } }
                }
            }
            form.stack method="post" action=(PATH) {
                input type="hidden" name=(THEN) value=(self.then);
                @for (name, value) in self.posted.iter().flat_map(|posted| posted.0.iter()) {
                    input type="hidden" name=(format!("{KEPT}{name}")) value=(value);
                }
                div.field {
                    label for="tok" { "Your token" }
                    input #tok name="token" type="password" autocomplete="current-password" required autofocus
                        aria-invalid=[self.wrong.map(|_| "true")] aria-describedby="tok-h";
                    p.hint #tok-h { "You stay logged in for 12 hours on this browser." }
                }
                button.btn.go { "Log in" }
            }
            details.fold {
                summary { "I have no token" }
                p.sub {
                    "Whoever runs Leadlane gives you one. It says what you may do: look, write rules for your products, or everything. Ask them for the "
                    span.mono { "admin.tokens" } " entry in your name."
                }
            }
        }
    }
}

/// The page of the log-in.
pub(in crate::web) async fn show(State(web): State<Arc<Web>>, look: Look) -> Response {
    match look.asker {
        Some(_) => see_other("/"),
        None => {
            let form = Form {
                then: "/",
                posted: None,
                left_out: false,
                wrong: None,
            };
            bare(&web, &look, "Log in", &form.draw())
        }
    }
}

/// Takes a token, and begins a session.
pub(in crate::web) async fn enter(
    State(web): State<Arc<Web>>,
    look: Look,
    posted: Posted,
    request: Request,
) -> Response {
    let then = posted.get(THEN).filter(|then| is_local(then)).unwrap_or("/").to_owned();
    let kept = posted
        .0
        .iter()
        .filter_map(|(name, value)| Some((name.strip_prefix(KEPT)?.to_owned(), value.clone())));
    let kept = Posted(Arc::new(kept.collect()));
    let shown = posted.get("token").unwrap_or_default().trim();
    let holder = web.tokens.holder(shown).await;
    let token = match &holder {
        Some(actor) => web.tokens.of_name(&actor.name).await,
        None => None,
    };
    let is_secure = guard::is_https(&web, &request);
    let Some((actor, token)) = token else {
        let address = guard::address(&web.config.admin, guard::peer(&request), request.headers());
        let problem = guard::wrong_token(&web, address);
        let form = Form {
            then: &then,
            posted: (!kept.0.is_empty()).then_some(&kept),
            left_out: false,
            wrong: Some(&problem),
        };
        let mut response = bare(&web, &look, "Error: Log in", &form.draw());
        *response.status_mut() = problem.status();
        return response;
    };
    let session = Session::begin(&actor.name, &token, (web.now)());
    let mut response = match kept.0.is_empty() {
        true => see_other(&then),
        false => {
            let body = html! {
                div { h1 { "You are back in, " (actor.name) } p.sub.after { "What you sent before was kept." } }
                form method="post" action=(then) {
                    input type="hidden" name=(guard::CSRF) value=(session.csrf);
                    @for (name, value) in kept.0.iter() { input type="hidden" name=(name) value=(value); }
                    button.btn.go autofocus { "Go on where you were" }
                }
            };
            let look = Look {
                asker: Some(Asker {
                    actor,
                    session: Some(session.clone()),
                }),
                ..look
            };
            bare(&web, &look, "Welcome back", &body)
        }
    };
    guard::set_cookie(response.headers_mut(), &session.cookie, is_secure);
    response
}

/// Ends the session, in every process.
pub(in crate::web) async fn leave(State(web): State<Arc<Web>>, look: Look, request: Request) -> Response {
    let is_secure = guard::is_https(&web, &request);
    // The session of anybody else lets nobody in: there is nothing to end but its cookie.
    if let Some(asker) = look.asker.as_ref().filter(|asker| asker.actor.by == By::Token)
        && let Some(session) = &asker.session
    {
        web.end_session(&session.id, &asker.actor.name).await;
    }
    let mut response = see_other(PATH);
    guard::set_cookie(response.headers_mut(), "", is_secure);
    response
}

/// Remembers light, dark or neither.
pub(in crate::web) async fn theme(posted: Posted, headers: HeaderMap) -> Response {
    let theme = match posted.get("theme") {
        Some("light") => "light",
        Some("dark") => "dark",
        _ => "auto",
    };
    let referer = headers
        .get(axum::http::header::REFERER)
        .and_then(|referer| referer.to_str().ok());
    // Our pages send no referrer; the form itself says where it stands, where scripts may.
    let back = posted
        .get("back")
        .or(referer)
        .filter(|back| is_local(back))
        .unwrap_or("/");
    let mut response = see_other(back);
    let cookie = format!("{THEME}={theme}; Path=/; SameSite=Lax; Max-Age=31536000");
    if let Ok(cookie) = axum::http::HeaderValue::from_str(&cookie) {
        response.headers_mut().append(axum::http::header::SET_COOKIE, cookie);
    }
    response
}

/// Whether an address is one of ours, and not another site's.
fn is_local(address: &str) -> bool {
    address.starts_with('/') && !address.starts_with("//") && !address.contains(['\\', '\r', '\n'])
}
