//! What every request has to pass: the name it asks for, where it comes from, who asks, and, for a form, the session's
//! CSRF token. And what every answer says to browsers.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{ConnectInfo, FromRequestParts, MatchedPath, Request, State};
use axum::http::request::Parts;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::page;
use super::problem::Problem;
use super::rules::{is_own_word, step};
use super::session::{COOKIE, LASTS, Session, Signed};
use super::who::{Actor, bearer, is_proxy, proxied};
use super::{Web, assets};
use crate::config::admin::Admin;

/// Wrong tokens that an address may show within a minute.
const FAILURES_MAX: usize = 10;
const MINUTE: Duration = Duration::from_secs(60);
/// So many addresses are remembered.
const ADDRESSES_MAX: usize = 10_000;
/// The most bytes of a form or a call's body; one that brings rules as YAML may be larger.
const BODY_MAX: usize = 1024 * 1024;
const IMPORT_MAX: usize = 64 * 1024 * 1024;
/// The path of forms and calls that bring many rules ends so.
const IMPORT: &str = "/rules/import";

/// Who asks, and within which session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Asker {
    pub(super) actor: Actor,
    /// None for the API.
    pub(super) session: Option<Session>,
}

/// What a form says, in the order of its fields, without the CSRF token.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Posted(pub(super) Arc<Vec<(String, String)>>);

impl Posted {
    /// The first field of that name.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let mut fields = self.0.iter();
        fields.find_map(|(field, value)| (field == name).then_some(value.as_str()))
    }

    /// The first field of that name, as a number.
    pub(super) fn number(&self, name: &str) -> Option<i64> {
        self.get(name)?.trim().parse().ok()
    }

    pub(super) fn all<'p>(&'p self, name: &'p str) -> impl Iterator<Item = &'p str> {
        let fields = self.0.iter().filter(move |(field, _)| field == name);
        fields.map(|(_, value)| value.as_str())
    }
}

impl<S: Sync> FromRequestParts<S> for Asker {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        parts
            .extensions
            .get::<Self>()
            .cloned()
            .ok_or_else(|| Problem::unauthorized("Nobody is known to ask."))
    }
}

impl<S: Sync> FromRequestParts<S> for Actor {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        Ok(Asker::from_request_parts(parts, state).await?.actor)
    }
}

impl<S: Sync> FromRequestParts<S> for Posted {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Ok(parts.extensions.get::<Self>().cloned().unwrap_or_default())
    }
}

/// Wrong tokens, by the address that showed them.
#[derive(Debug, Default)]
pub(super) struct Failures(Mutex<HashMap<IpAddr, Vec<Instant>>>);

impl Failures {
    /// Notes one, and says whether the address showed too many.
    pub(super) fn another(&self, address: IpAddr, now: Instant) -> bool {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let recent = |times: &mut Vec<Instant>| times.retain(|at| now.duration_since(*at) < MINUTE);
        if all.len() >= ADDRESSES_MAX && !all.contains_key(&address) {
            all.retain(|_, times| {
                recent(times);
                !times.is_empty()
            });
            if all.len() >= ADDRESSES_MAX {
                // So many addresses at once are one attack: all of the unknown ones count as one.
                return true;
            }
        }
        let times = all.entry(address).or_default();
        recent(times);
        if times.len() < FAILURES_MAX {
            times.push(now);
            return false;
        }
        true
    }
}

/// Who shows a wrong token: 401, and 429 once it is too often.
pub(super) fn wrong_token(web: &Web, address: IpAddr) -> Problem {
    match web.failures.another(address, Instant::now()) {
        false => Problem::unauthorized(
            "The token is none of admin.tokens, or has changed; ask whoever runs Leadlane for yours.",
        ),
        true => Problem {
            retry_after: Some(60),
            ..Problem::new(
                StatusCode::TOO_MANY_REQUESTS,
                "Too many wrong tokens",
                "More than ten wrong tokens came from your address within a minute. A right one is answered at any time.",
            )
        },
    }
}

/// The address that failures count for: behind a proxy the last one that it names.
pub(super) fn address(admin: &Admin, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
    let forwarded = || {
        let last = headers.get_all("x-forwarded-for").iter().next_back()?;
        last.to_str().ok()?.rsplit(',').next()?.trim().parse().ok()
    };
    match is_proxy(admin, peer) {
        true => forwarded().unwrap_or(peer),
        false => peer,
    }
}

/// Lets a request through to its route, or refuses it.
pub(super) async fn guard(State(web): State<Arc<Web>>, mut request: Request, next: Next) -> Response {
    let (method, began) = (request.method().clone(), Instant::now());
    // The log has the route, never a path's ids or a query.
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map_or("none", MatchedPath::as_str)
        .to_owned();
    let is_api = is_api(&request);
    let is_asset = request.uri().path().starts_with(assets::BASE);
    let is_secure = is_https(&web, &request);
    let admitted = admit(&web, &mut request, is_api).await;
    let asker = request.extensions().get::<Asker>().cloned();
    let came = cookie(request.headers(), COOKIE).map(str::to_owned);
    let mut response = match admitted {
        Ok(()) => next.run(request).await,
        Err(refusal) => match *refusal {
            Refusal::Problem(problem) => answer(&web, &request, problem),
            Refusal::LogIn(posted) => page::login::ask(&web, &page::Look::of_request(&request), &request, posted),
        },
    };
    secure(response.headers_mut(), is_asset);
    if let Some(session) = asker.and_then(|asker| asker.session)
        && came.as_deref() != Some(session.cookie.as_str())
        && !response.headers().contains_key(header::SET_COOKIE)
    {
        set_cookie(response.headers_mut(), &session.cookie, is_secure);
    }
    let (status, millis) = (response.status().as_u16(), began.elapsed().as_millis());
    match method.is_safe() {
        true => tracing::debug!(%method, route, status, millis, "the desk answered"),
        false => tracing::info!(%method, route, status, millis, "the desk answered"),
    }
    response
}

/// Whether a program asks.
fn is_api(request: &Request) -> bool {
    request.uri().path().starts_with("/api/")
}

/// Why a request doesn't reach its route.
enum Refusal {
    Problem(Problem),
    /// A page of somebody who isn't known; what was posted is kept.
    LogIn(Posted),
}

impl From<Problem> for Box<Refusal> {
    fn from(problem: Problem) -> Self {
        Box::new(Refusal::Problem(problem))
    }
}

async fn admit(web: &Web, request: &mut Request, is_api: bool) -> Result<(), Box<Refusal>> {
    let peer = peer(request);
    check_host(&web.config.admin, request)?;
    if !request.method().is_safe() {
        check_origin(request, is_api)?;
    }
    if request.uri().path().starts_with(assets::BASE) {
        return Ok(());
    }
    let asker = match is_api {
        true => of_api(web, peer, request.headers()).await?,
        false => of_page(web, peer, request.headers()).await,
    };
    if let Some(asker) = &asker {
        request.extensions_mut().insert(asker.clone());
    }
    let is_public = page::login::PUBLIC.contains(&request.uri().path());
    let session = asker.as_ref().and_then(|asker| asker.session.as_ref());
    if !is_api && !request.method().is_safe() {
        let posted = read_form(request).await?;
        // Who logs in has no session yet; a foreign site is kept out by its origin.
        let shown = posted.get(CSRF).unwrap_or_default();
        let is_ours = session.is_some_and(|session| session.has_csrf(shown));
        let fields = posted.0.iter().filter(|(name, _)| name != CSRF).cloned().collect();
        let posted = Posted(Arc::new(fields));
        if session.is_some() && !is_ours && !is_public {
            let detail = "The form is of another session, or has none. Go back, load the page again, and send the form once more.";
            return Err(Problem::forbidden(detail).into());
        }
        if asker.is_none() && !is_public {
            return Err(Box::new(Refusal::LogIn(posted)));
        }
        request.extensions_mut().insert(posted);
    } else if asker.is_none() && !is_public {
        return Err(Box::new(Refusal::LogIn(Posted::default())));
    }
    Ok(())
}

/// The field of a form with the session's CSRF token.
pub(super) const CSRF: &str = "csrf";

/// Where a request comes from.
pub(super) fn peer(request: &Request) -> IpAddr {
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>();
    peer.map_or(IpAddr::from([0, 0, 0, 0]), |peer| peer.0.ip().to_canonical())
}

/// Whether the browser speaks https, which a proxy ends for us.
pub(super) fn is_https(web: &Web, request: &Request) -> bool {
    let proto = request.headers().get("x-forwarded-proto");
    is_proxy(&web.config.admin, peer(request)) && proto.is_some_and(|proto| proto == "https")
}

/// Another site's name that leads here, by a trick with DNS, isn't answered.
fn check_host(admin: &Admin, request: &Request) -> Result<(), Problem> {
    let named = request.uri().authority().map(|authority| authority.as_str().to_owned());
    let header = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    let authority = named
        .as_deref()
        .or(header)
        .and_then(|host| host.parse::<Authority>().ok());
    let host = authority
        .as_ref()
        .map(|authority| authority.host().trim_end_matches('.'));
    let is_ours = host.is_some_and(|host| {
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        bare.parse::<IpAddr>().is_ok()
            || host.eq_ignore_ascii_case("localhost")
            || admin.hosts.iter().any(|ours| ours.eq_ignore_ascii_case(host))
    });
    match is_ours {
        true => Ok(()),
        false => Err(Problem::new(
            StatusCode::MISDIRECTED_REQUEST,
            "Not a name of this desk",
            "The request asks for a host that is no name of this desk. Whoever runs Leadlane adds it to admin.hosts.",
        )),
    }
}

/// A browser says which site a form or script is of. Programs say nothing. Our pages let no referrer out, so that their own
/// forms come from `null`; what else the browser says, and the form's token, tell them from those of others.
fn check_origin(request: &Request, is_api: bool) -> Result<(), Problem> {
    let foreign = || Err(Problem::forbidden("Another site's page can't write here."));
    let site = request.headers().get("sec-fetch-site");
    if site.is_some_and(|site| site != "same-origin" && site != "none") {
        return foreign();
    }
    let Some(origin) = request.headers().get(header::ORIGIN) else {
        return Ok(());
    };
    if origin == "null" && !is_api {
        return Ok(());
    }
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    let of_origin = origin.to_str().ok().and_then(|origin| origin.split_once("://"));
    match (of_origin, host) {
        (Some(("http" | "https", origin)), Some(host)) if origin.eq_ignore_ascii_case(host) => Ok(()),
        _ => foreign(),
    }
}

async fn of_api(web: &Web, peer: IpAddr, headers: &HeaderMap) -> Result<Option<Asker>, Problem> {
    let admin = &web.config.admin;
    if let Some(actor) = proxied(admin, peer, headers) {
        return Ok(Some(Asker { actor, session: None }));
    }
    if web.is_open() {
        let actor = Actor::anybody();
        return Ok(Some(Asker { actor, session: None }));
    }
    let Some(shown) = bearer(headers) else {
        return Err(Problem::unauthorized(
            "Send a token of admin.tokens as `Authorization: Bearer TOKEN`.",
        ));
    };
    match web.tokens.holder(shown).await {
        Some(actor) => Ok(Some(Asker { actor, session: None })),
        None => Err(wrong_token(web, address(admin, peer, headers))),
    }
}

async fn of_page(web: &Web, peer: IpAddr, headers: &HeaderMap) -> Option<Asker> {
    let cookie = cookie(headers, COOKIE);
    let anonymous = |actor| {
        let known = cookie.and_then(Session::of_anonymous);
        let session = Some(known.unwrap_or_else(Session::anonymous));
        Some(Asker { actor, session })
    };
    if let Some(actor) = proxied(&web.config.admin, peer, headers) {
        return anonymous(actor);
    }
    if web.is_open() {
        return anonymous(Actor::anybody());
    }
    let signed = Signed::read(cookie?)?;
    let (actor, token) = web.tokens.of_name(&signed.name).await?;
    let session = signed
        .check(&token, (web.now)())
        .filter(|session| !web.has_ended(&session.id))?;
    Some(Asker {
        actor,
        session: Some(session),
    })
}

async fn read_form(request: &mut Request) -> Result<Posted, Problem> {
    let kind = request.headers().get(header::CONTENT_TYPE);
    let is_form = kind.is_none_or(|kind| kind.as_bytes().starts_with(b"application/x-www-form-urlencoded"));
    if !is_form {
        return Err(Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "Not a form",
            "Pages take forms alone, application/x-www-form-urlencoded; programs use /api/v1.",
        ));
    }
    let bytes = read_body(request).await?;
    Ok(Posted(Arc::new(
        form_urlencoded::parse(&bytes)
            .map(|(name, value)| (name.into_owned(), value.into_owned()))
            .collect(),
    )))
}

/// Takes a request's body, as far as its address takes one.
pub(super) async fn read_body(request: &mut Request) -> Result<Bytes, Problem> {
    let most = match request.uri().path().ends_with(IMPORT) {
        true => IMPORT_MAX,
        false => BODY_MAX,
    };
    let body = std::mem::replace(request.body_mut(), Body::empty());
    to_bytes(body, most).await.map_err(|_| too_large(most))
}

/// More bytes came than the route takes.
fn too_large(most: usize) -> Problem {
    Problem::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        "Too large",
        format!("At most {most} bytes are taken here. Bring rules in several parts, or by leadlane rules apply."),
    )
}

/// The value of a cookie.
pub(super) fn cookie<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    let all = headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok());
    let mut pairs = all
        .flat_map(|text| text.split(';'))
        .filter_map(|pair| pair.trim().split_once('='));
    pairs.find_map(|(found, value)| (found == name).then_some(value))
}

/// Gives the browser a session's cookie.
pub(super) fn set_cookie(headers: &mut HeaderMap, value: &str, is_secure: bool) {
    let secure = if is_secure { "; Secure" } else { "" };
    let age = if value.is_empty() { 0 } else { LASTS / 1000 };
    let text = format!("{COOKIE}={value}; Path=/; HttpOnly; SameSite=Lax; Max-Age={age}{secure}");
    if let Ok(value) = HeaderValue::from_str(&text) {
        headers.append(header::SET_COOKIE, value);
    }
}

/// What browsers may load, show and keep.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      form-action 'self'; frame-ancestors 'none'; base-uri 'none'";

fn secure(headers: &mut HeaderMap, is_asset: bool) {
    let mut set = |name: HeaderName, value: &'static str| {
        headers.insert(name, HeaderValue::from_static(value));
    };
    set(header::CONTENT_SECURITY_POLICY, POLICY);
    set(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    set(header::X_FRAME_OPTIONS, "DENY");
    set(header::REFERRER_POLICY, "no-referrer");
    if !is_asset {
        set(header::CACHE_CONTROL, "no-store");
    }
}

/// Nothing is at the path.
pub(super) async fn nowhere(State(web): State<Arc<Web>>, request: Request) -> Response {
    let problem = Problem::not_found("Nothing is at this address.");
    answer(&web, &request, problem)
}

/// The path takes other methods.
pub(super) async fn no_such_method(State(web): State<Arc<Web>>, method: Method, request: Request) -> Response {
    let mut detail = format!("This address doesn't take {method}.");
    if let Some((rules, word)) = request.uri().path().rsplit_once('/')
        && rules.ends_with("/rules")
        && is_own_word(word)
    {
        detail = format!("{detail} A rule of the id {word} is at {rules}/{}.", step(word));
    }
    let problem = Problem::new(StatusCode::METHOD_NOT_ALLOWED, "Not possible here", detail);
    answer(&web, &request, problem)
}

/// A problem in the form that the path's readers take.
fn answer(web: &Web, request: &Request, problem: Problem) -> Response {
    if is_api(request) {
        return problem.into_response();
    }
    page::problem(web, &page::Look::of_request(request), &problem)
}
