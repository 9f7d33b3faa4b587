//! The listener: it finds the inlet of a request, keeps its limits and time-outs, and answers it.

use std::collections::{BTreeSet, HashMap};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS, ALLOW, CONTENT_TYPE,
    HeaderMap, HeaderValue, ORIGIN, VARY, WWW_AUTHENTICATE,
};
use hyper::http::request::Parts;
use hyper::{Method, Request, Response, StatusCode};
use jiff::Timestamp;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, SemaphorePermit, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::InletsWiring;
use super::answer::{Answer, answered, refused};
use super::auth::{Keyring, Shown, Verdict, scheme};
use super::body::{self, Refusal};
use super::intake::{Intake, trace};
use super::refusals::Refusals;
use super::slots::Unproven;
use super::threads::Threads;
use crate::kafka::producer::Producer;
use crate::listen::{self, BODY_TIMEOUT, Connection};
use crate::mapping::route::{self, Route};
use crate::mapping::{Entrance, Inlet, KeyPlace, Preset};
use crate::slack::look_ups::LookUps;

/// What is so without the name of a user, for the log.
const WITHOUT: &str = "events go on without user_profile";
/// So long values of the secret store are kept, so that no request waits for files.
const SECRETS_FRESH: Duration = Duration::from_secs(1);
/// From a request's first byte to its answer, for Slack, which waits 3 s.
const SLACK_ANSWER: Duration = Duration::from_millis(2500);
/// From a request's last byte to its answer.
const ANSWER: Duration = Duration::from_secs(10);
const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);
/// The metric label of requests that lead to no inlet.
const OTHER: &str = "other";
/// How long a browser remembers, in seconds, that a page may send.
const ORIGIN_FRESH: &str = "7200";

/// Everything that requests are answered with.
#[derive(Debug)]
pub(super) struct Server {
    wiring: InletsWiring,
    producer: Producer,
    doors: HashMap<String, Door>,
    /// Bounds the requests that are decoded and mapped at a time to the number of cores.
    work: Arc<Semaphore>,
    unauthorized: Refusals,
}

/// An inlet that requests come in by.
#[derive(Debug)]
pub(super) struct Door {
    pub(super) inlet: Arc<Inlet>,
    pub(super) users: Option<Arc<LookUps>>,
    keys: Arc<Keyring>,
    /// Requests of senders who are known.
    in_flight: Semaphore,
    unproven: Unproven,
    /// The origins of pages that may send to it.
    origins: Vec<String>,
}

impl Door {
    /// A place for a sender who is known.
    fn slot(&self) -> Result<SemaphorePermit<'_>, Refusal> {
        let said = "the inlet has as many requests in flight as may be, inlet.in_flight_max; send it again";
        let full = |_| Refusal::new(StatusCode::SERVICE_UNAVAILABLE, said);
        self.in_flight.try_acquire().map_err(full)
    }
}

/// Where a request's path leads.
#[derive(Debug)]
struct Way<'r> {
    /// The inlet that the path names; without a name all that it may be.
    doors: Vec<&'r Door>,
    is_named: bool,
    route: Route<'r>,
    /// The step that may be a secret.
    secret: Option<Vec<u8>>,
}

impl<'r> Way<'r> {
    fn label(&self) -> &'r str {
        let named = self.doors.first().filter(|_| self.is_named);
        named.map_or(OTHER, |door| &door.inlet.name)
    }

    fn unauthorized(&self) -> Refusal {
        let said = match self.is_named {
            true => "no valid secret or signature was shown",
            false => "no inlet has this write key",
        };
        Refusal::new(StatusCode::UNAUTHORIZED, said)
    }

    /// What a request without a valid secret is asked for.
    fn wanted(&self, head: &Parts) -> HeaderValue {
        let is_page = head.headers.contains_key(ORIGIN);
        let mut schemes: BTreeSet<&str> = self.doors.iter().flat_map(|door| door.keys.schemes(is_page)).collect();
        if schemes.is_empty() {
            schemes.insert(scheme(KeyPlace::WriteKey, is_page));
        }
        let schemes = schemes.into_iter().collect::<Vec<_>>().join(", ");
        HeaderValue::from_str(&schemes).expect("all schemes are ASCII")
    }
}

impl Server {
    pub(super) fn new(wiring: InletsWiring, producer: Producer) -> anyhow::Result<Self> {
        let mut doors = HashMap::new();
        let mut tokens: HashMap<String, Arc<LookUps>> = HashMap::new();
        for inlet in &wiring.config.inlets {
            let Entrance::Http { keys, users, origins } = &inlet.entrance else {
                continue;
            };
            let keys = Arc::new(Keyring::new(&inlet.name, keys));
            let users = match users {
                None => None,
                // All inlets with one token share the token's look-ups and their limit.
                Some(token) => Some(match tokens.get(token.as_str()) {
                    Some(users) => Arc::clone(users),
                    None => {
                        let (api_url, secrets) = (&wiring.config.slack.api_url, &wiring.secrets);
                        let users = Arc::new(LookUps::new(api_url, token, secrets, WITHOUT)?);
                        tokens.insert(token.as_str().to_owned(), Arc::clone(&users));
                        users
                    }
                }),
            };
            let door = Door {
                users,
                keys,
                in_flight: Semaphore::new(wiring.config.inlet.in_flight_max.min(Semaphore::MAX_PERMITS)),
                unproven: Unproven::new(wiring.config.inlet.body_max),
                origins: origins.clone(),
                inlet: Arc::new(inlet.clone()),
            };
            doors.insert(inlet.name.clone(), door);
        }
        let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        Ok(Self {
            work: Arc::new(Semaphore::new(cores)),
            unauthorized: Refusals::default(),
            wiring,
            producer,
            doors,
        })
    }

    /// Reads the secrets of all inlets again, beside one another.
    async fn refresh(&self) {
        let mut reading = JoinSet::new();
        for door in self.doors.values() {
            let (keys, secrets) = (Arc::clone(&door.keys), self.wiring.secrets.clone());
            reading.spawn(async move { keys.refresh(&secrets).await });
        }
        reading.join_all().await;
    }

    async fn keep_fresh(&self) {
        loop {
            tokio::time::sleep(SECRETS_FRESH).await;
            self.refresh().await;
        }
    }

    /// Answers until `stop`, then finishes what is in flight.
    pub(super) async fn serve(self, listener: TcpListener, stop: watch::Receiver<bool>) {
        let server = Arc::new(self);
        let (connections_max, grace) = (
            server.wiring.connections_max,
            server.wiring.config.sender.shutdown_timeout,
        );
        // The log names a missing secret now rather than with the first request.
        server.refresh().await;
        tokio::select! {
            () = listen::serve(listener, Arc::clone(&server), connections_max, stop, grace) => {}
            () = server.keep_fresh() => {}
        }
        let producer = server.producer.clone();
        drop(tokio::task::spawn_blocking(move || producer.flush(FLUSH_TIMEOUT)).await);
    }

    fn count(&self, label: &str, status: StatusCode, began: Instant) {
        self.wiring
            .metrics
            .inlet_answered(label, status.as_u16(), began.elapsed());
    }

    /// Where the path leads: `/inlets/NAME[/SECRET][/ROUTE]`; or `/ROUTE` alone for client libraries whose
    /// host can be set and whose path can't, by the secret they show.
    fn way<'r>(&'r self, head: &'r Parts) -> Result<Way<'r>, (&'r str, Refusal)> {
        let unknown = |label, said| (label, Refusal::new(StatusCode::NOT_FOUND, said));
        let path = head.uri.path();
        let path = path
            .strip_suffix('/')
            .unwrap_or(path)
            .strip_prefix('/')
            .unwrap_or_default();
        let Some(rest) = path.strip_prefix("inlets/") else {
            let route = Route::of(Some(Preset::Track), path);
            let route = route.ok_or_else(|| unknown(OTHER, "inlets are at /inlets/NAME"))?;
            let tracks = self.doors.values();
            let mut doors: Vec<&Door> = tracks.filter(|door| door.inlet.preset == Some(Preset::Track)).collect();
            // Of several inlets with one key it is always the same one.
            doors.sort_unstable_by_key(|door| &door.inlet.name);
            return Ok(Way {
                doors,
                is_named: false,
                route,
                secret: None,
            });
        };
        let (name, rest) = rest.split_once('/').unwrap_or((rest, ""));
        let door = self
            .doors
            .get(name)
            .ok_or_else(|| unknown(OTHER, "there is no such inlet"))?;
        let (step, behind) = rest.split_once('/').unwrap_or((rest, ""));
        let (route, secret) = match Route::of(door.inlet.preset, rest) {
            Some(route) => (Some(route), None),
            None if door.keys.has_path() => (
                Route::of(door.inlet.preset, behind),
                Some(percent_encoding::percent_decode_str(step).collect()),
            ),
            None => (None, None),
        };
        Ok(Way {
            doors: vec![door],
            is_named: true,
            route: route.ok_or_else(|| unknown(&door.inlet.name, "the inlet has no such route"))?,
            secret,
        })
    }

    /// The inlet that a request may enter, with its slot and the whole body. A request without a secret, or without
    /// a signature of now, is refused before a byte of its body is read, and takes no slot. `label` becomes the inlet's
    /// name once it is known.
    async fn admit<'d>(
        &self,
        way: &Way<'d>,
        head: &Parts,
        body: &mut Incoming,
        began: Instant,
        connection: &Connection,
        label: &mut &'d str,
    ) -> Result<(&'d Door, Bytes, SemaphorePermit<'d>), Refusal> {
        let headers = &head.headers;
        let max = self.wiring.config.inlet.body_max;
        let now = self.now();
        let shown = Shown {
            headers,
            path: way.secret.as_deref(),
        };
        let doors = way.doors.iter().copied();
        let verdicts: Vec<(&Door, Verdict)> = doors.map(|door| (door, door.keys.head(&shown, now))).collect();
        let of = |wanted: Verdict| verdicts.iter().find(|(_, verdict)| *verdict == wanted);
        if let Some((door, _)) = of(Verdict::Open) {
            // Before the body: the connection of a known sender isn't the one that a full listener closes.
            connection.known(true);
            *label = &door.inlet.name;
            let slot = door.slot()?;
            let raw = body::read(body, max, began, BODY_TIMEOUT).await?;
            return Ok((door, self.inflated(door, headers, raw, began).await?, slot));
        }
        let in_body = of(Verdict::InBody).filter(|_| way.route.takes_write_key());
        let (door, within) = match (of(Verdict::Signed), in_body) {
            (Some((door, _)), _) => (door, SLACK_ANSWER),
            (None, Some((door, _))) => (door, BODY_TIMEOUT),
            (None, None) => return Err(way.unauthorized()),
        };
        let mut reading = door.unproven.begin();
        let raw = tokio::select! {
            raw = body::read(body, max, began, within) => raw?,
            () = reading.gives_way() => {
                let said = "the body was slow, and others came; send it again";
                return Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, said));
            }
        };
        if in_body.is_none() {
            if !door.keys.signed(headers, &raw, now) {
                return Err(way.unauthorized());
            }
            connection.known(true);
            let slot = door.slot()?;
            return Ok((door, self.inflated(door, headers, raw, began).await?, slot));
        }
        let whole = self.inflated(door, headers, raw, began).await?;
        let key = route::write_key(&whole).ok_or_else(|| way.unauthorized())?;
        let open: Vec<&Door> = way.doors.iter().copied().filter(|door| door.keys.opens(&key)).collect();
        let door = *open.first().ok_or_else(|| way.unauthorized())?;
        connection.known(true);
        *label = &door.inlet.name;
        let slot = door.slot()?;
        Ok((door, whole, slot))
    }

    /// Where the work on a request's body runs, once the body is there.
    fn threads(&self, door: &Door, began: Instant) -> Threads<'_> {
        let deadline = match door.inlet.preset {
            Some(Preset::Slack) => began + SLACK_ANSWER,
            _ => Instant::now() + ANSWER,
        };
        Threads {
            free: &self.work,
            deadline,
        }
    }

    async fn inflated(&self, door: &Door, headers: &HeaderMap, raw: Bytes, began: Instant) -> Result<Bytes, Refusal> {
        let max = self.wiring.config.inlet.body_max;
        let whole = match body::is_gzip(headers)? {
            true => {
                let threads = self.threads(door, began);
                threads.run(move |_| body::inflate(&raw, max)).await?
            }
            false => raw,
        };
        body::utf8(whole)
    }

    /// Epoch seconds.
    fn now(&self) -> i64 {
        (self.wiring.now)().div_euclid(1_000_000)
    }

    async fn enter<'d>(
        &self,
        way: &Way<'d>,
        head: &Parts,
        body: &mut Incoming,
        began: Instant,
        connection: &Connection,
        label: &mut &'d str,
    ) -> Result<Answer, Refusal> {
        if head.method.as_str() != way.route.method {
            let said = format!("this route takes {} alone", way.route.method);
            return Err(Refusal::new(StatusCode::METHOD_NOT_ALLOWED, said));
        }
        let (door, body, _slot) = self.admit(way, head, body, began, connection, label).await?;
        let headers = &head.headers;
        let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let id = || uuid::Uuid::new_v4().to_string();
        let intake = Arc::new(Intake {
            config: Arc::clone(&self.wiring.config),
            metrics: Arc::clone(&self.wiring.metrics),
            producer: self.producer.clone(),
            inlet: Arc::clone(&door.inlet),
            body,
            content_type: content_type.map(str::to_owned),
            route: way.route.kept(id).into_owned(),
            trace: trace(headers),
            now: Timestamp::from_microsecond((self.wiring.now)()).unwrap_or_default(),
        });
        let threads = self.threads(door, began);
        let taken = intake.take(threads, door.users.as_ref()).await?;
        Ok(Answer::of(&door.inlet, &taken))
    }
}

impl listen::Answer for Server {
    type Body = Full<Bytes>;

    async fn answer(&self, request: Request<Incoming>, connection: Arc<Connection>) -> Response<Full<Bytes>> {
        let began = connection.request_began();
        // Each request has to show a secret of its own.
        connection.known(false);
        let (head, mut body) = request.into_parts();
        let (label, response) = match &self.way(&head) {
            Err((label, refusal)) => (*label, refused(refusal)),
            Ok(way) => {
                let mut label = way.label();
                let mut response = if head.method == Method::OPTIONS {
                    Response::new(Full::default())
                } else {
                    let answer = self.enter(way, &head, &mut body, began, &connection, &mut label).await;
                    answer.map_or_else(|refusal| refused(&refusal), answered)
                };
                if matches!(head.method, Method::OPTIONS) || response.status() == StatusCode::METHOD_NOT_ALLOWED {
                    let method = HeaderValue::from_static(way.route.method);
                    response.headers_mut().insert(ALLOW, method);
                }
                if response.status() == StatusCode::UNAUTHORIZED {
                    response.headers_mut().insert(WWW_AUTHENTICATE, way.wanted(&head));
                }
                share(way, &head, response.headers_mut());
                (label, response)
            }
        };
        if response.status() == StatusCode::UNAUTHORIZED {
            self.unauthorized.note(label, Instant::now());
        }
        match response.status() {
            // The body had its time.
            StatusCode::REQUEST_TIMEOUT => drop(body),
            _ => body::drain(body, &head.headers, &connection),
        }
        self.count(label, response.status(), began);
        response
    }

    fn broken(&self, status: StatusCode, began: Instant) {
        self.count(OTHER, status, began);
    }
}

/// Lets a page of another origin send, and read the answer, where an inlet names that origin. Before it sends, a browser
/// asks for it by OPTIONS.
fn share(way: &Way<'_>, head: &Parts, answer: &mut HeaderMap) {
    let Some(origin) = head.headers.get(ORIGIN) else { return };
    let mut origins = way.doors.iter().flat_map(|door| &door.origins);
    if !origins.any(|named| named == "*" || named.as_bytes() == origin.as_bytes()) {
        return;
    }
    answer.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
    answer.insert(VARY, HeaderValue::from_static("Origin"));
    // Client libraries wait for as long as it says.
    answer.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("Retry-After"));
    if head.method == Method::OPTIONS {
        let method = HeaderValue::from_static(way.route.method);
        answer.insert(ACCESS_CONTROL_ALLOW_METHODS, method);
        answer.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static(ORIGIN_FRESH));
        if let Some(asked) = head.headers.get(ACCESS_CONTROL_REQUEST_HEADERS) {
            answer.insert(ACCESS_CONTROL_ALLOW_HEADERS, asked.clone());
        }
    }
}
