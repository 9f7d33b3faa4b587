//! The listener: it finds the inlet of a request, keeps its limits and time-outs, and answers it.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{
    ACCEPT_ENCODING, ALLOW, CONNECTION, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE,
};
use hyper::http::request::Parts;
use hyper::{Method, Request, Response, StatusCode};
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, SemaphorePermit, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::InletsWiring;
use super::auth::{Keyring, Shown, Verdict};
use super::body::{self, Refusal};
use super::intake::{Intake, Taken, trace};
use super::refusals::Refusals;
use super::slots::Unproven;
use super::threads::Threads;
use crate::kafka::producer::Producer;
use crate::listen::{self, BODY_TIMEOUT, Connection};
use crate::mapping::{Entrance, Inlet, Preset};
use crate::slack::look_ups::LookUps;

/// So long values of the secret store are kept, so that no request waits for files.
/// What is so without the name of a user, for the log.
const WITHOUT: &str = "events go on without user_profile";
const SECRETS_FRESH: Duration = Duration::from_secs(1);
/// From a request's first byte to its answer, for Slack, which waits 3 s.
const SLACK_ANSWER: Duration = Duration::from_millis(2500);
/// From a request's last byte to its answer.
const ANSWER: Duration = Duration::from_secs(10);
const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);
/// The metric label of requests that lead to no inlet.
const OTHER: &str = "other";
const NO_ROUTE: &[&str] = &[""];

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
}

/// Where a request's path leads.
#[derive(Debug)]
struct Way<'r> {
    door: &'r Door,
    route: &'r str,
    /// The step that may be a secret.
    secret: Option<Vec<u8>>,
}

/// The answer to a request that was accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Answer {
    content_type: &'static str,
    body: Bytes,
}

impl Server {
    pub(super) fn new(wiring: InletsWiring, producer: Producer) -> anyhow::Result<Self> {
        let mut doors = HashMap::new();
        let mut tokens: HashMap<String, Arc<LookUps>> = HashMap::new();
        for inlet in &wiring.config.inlets {
            let Entrance::Http { keys, users } = &inlet.entrance else {
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

    async fn route<'s>(
        &'s self,
        head: &'s Parts,
        body: &mut Incoming,
        began: Instant,
        connection: &Connection,
    ) -> (&'s str, Result<Answer, Refusal>) {
        match self.way(head) {
            Ok(way) => (
                &way.door.inlet.name,
                self.enter(&way, head, body, began, connection).await,
            ),
            Err((label, refusal)) => (label, Err(refusal)),
        }
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
            let mut routes = Preset::Track.routes().iter();
            let Some(route) = routes.find(|route| **route == path) else {
                return Err(unknown(OTHER, "inlets are at /inlets/NAME"));
            };
            let tracks = self
                .doors
                .values()
                .filter(|door| door.inlet.preset == Some(Preset::Track));
            let shown = Shown {
                headers: &head.headers,
                path: None,
            };
            let open = tracks.filter(|door| door.keys.head(&shown, self.now()) == Verdict::Open);
            let no_key = || Refusal::new(StatusCode::UNAUTHORIZED, "no inlet has this write key");
            // Of several inlets with one key it is always the same one.
            let first = open.min_by_key(|door| &door.inlet.name);
            let door = first.ok_or_else(|| (OTHER, no_key()))?;
            return Ok(Way {
                door,
                route,
                secret: None,
            });
        };
        let (name, rest) = rest.split_once('/').unwrap_or((rest, ""));
        let door = self
            .doors
            .get(name)
            .ok_or_else(|| unknown(OTHER, "there is no such inlet"))?;
        let routes = door.inlet.preset.map_or(NO_ROUTE, Preset::routes);
        if let Some(route) = routes.iter().find(|route| **route == rest) {
            return Ok(Way {
                door,
                route,
                secret: None,
            });
        }
        let (step, rest) = rest.split_once('/').unwrap_or((rest, ""));
        match routes.iter().find(|route| door.keys.has_path() && **route == rest) {
            Some(route) => Ok(Way {
                door,
                route,
                secret: Some(percent_encoding::percent_decode_str(step).collect()),
            }),
            None => Err(unknown(&door.inlet.name, "the inlet has no such route")),
        }
    }

    /// The body of a request that may come in, with its slot. A request without a secret, or without a signature of
    /// now, is refused before a byte of its body is read, and takes no slot.
    async fn admit<'d>(
        &self,
        way: &Way<'d>,
        head: &Parts,
        body: &mut Incoming,
        began: Instant,
        connection: &Connection,
    ) -> Result<(Bytes, SemaphorePermit<'d>), Refusal> {
        let (door, headers) = (way.door, &head.headers);
        let max = self.wiring.config.inlet.body_max;
        let now = self.now();
        let shown = Shown {
            headers,
            path: way.secret.as_deref(),
        };
        let slot = || {
            let said = "the inlet has as many requests in flight as may be, inlet.in_flight_max; send it again";
            let full = |_| Refusal::new(StatusCode::SERVICE_UNAVAILABLE, said);
            door.in_flight.try_acquire().map_err(full)
        };
        match door.keys.head(&shown, now) {
            Verdict::Open => {
                // Before the body: the connection of a known sender isn't the one that a full listener closes.
                connection.known(true);
                let slot = slot()?;
                Ok((body::read(body, max, began, BODY_TIMEOUT).await?, slot))
            }
            Verdict::Closed => Err(unauthorized()),
            Verdict::Signed => {
                let mut reading = door.unproven.begin();
                let raw = tokio::select! {
                    raw = body::read(body, max, began, SLACK_ANSWER) => raw?,
                    () = reading.gives_way() => {
                        let said = "the body was slow, and others came; send it again";
                        return Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, said));
                    }
                };
                if !door.keys.signed(headers, &raw, now) {
                    return Err(unauthorized());
                }
                connection.known(true);
                Ok((raw, slot()?))
            }
        }
    }

    /// Epoch seconds.
    fn now(&self) -> i64 {
        (self.wiring.now)().div_euclid(1_000_000)
    }

    async fn enter(
        &self,
        way: &Way<'_>,
        head: &Parts,
        body: &mut Incoming,
        began: Instant,
        connection: &Connection,
    ) -> Result<Answer, Refusal> {
        let (door, headers) = (way.door, &head.headers);
        if head.method != Method::POST {
            return Err(Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "inlets take POST alone"));
        }
        let (raw, _slot) = self.admit(way, head, body, began, connection).await?;
        let deadline = match door.inlet.preset {
            Some(Preset::Slack) => began + SLACK_ANSWER,
            _ => Instant::now() + ANSWER,
        };
        let threads = Threads {
            free: &self.work,
            deadline,
        };
        let max = self.wiring.config.inlet.body_max;
        let raw = match body::is_gzip(headers)? {
            true => threads.run(move |_| body::inflate(&raw, max)).await?,
            false => raw,
        };
        let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let intake = Arc::new(Intake {
            config: Arc::clone(&self.wiring.config),
            metrics: Arc::clone(&self.wiring.metrics),
            producer: self.producer.clone(),
            inlet: Arc::clone(&door.inlet),
            body: raw,
            content_type: content_type.map(str::to_owned),
            route: way.route.to_owned(),
            trace: trace(headers),
            now: Timestamp::from_microsecond((self.wiring.now)()).unwrap_or_default(),
        });
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
        let (label, answer) = self.route(&head, &mut body, began, &connection).await;
        if answer
            .as_ref()
            .is_err_and(|refusal| refusal.status == StatusCode::UNAUTHORIZED)
        {
            self.unauthorized.note(label, Instant::now());
        }
        let response = match answer {
            Ok(answer) => answered(answer),
            Err(refusal) => refused(&refusal),
        };
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

fn unauthorized() -> Refusal {
    Refusal::new(StatusCode::UNAUTHORIZED, "no valid secret or signature was shown")
}

impl Answer {
    /// The answer that each system takes for an acknowledgement.
    fn of(inlet: &Inlet, taken: &Taken) -> Self {
        let (content_type, body) = match inlet.preset {
            // Slack asks once whether the URL is ours.
            Some(Preset::Slack) => (
                "text/plain; charset=utf-8",
                taken.challenge.clone().unwrap_or_default().into(),
            ),
            Some(Preset::Salesforce) => (
                "text/xml; charset=utf-8",
                Bytes::from_static(crate::mapping::ACKNOWLEDGEMENT.as_bytes()),
            ),
            preset => {
                let mut said = Map::new();
                // Client libraries of `track` look for this.
                if preset == Some(Preset::Track) {
                    said.insert("success".to_owned(), true.into());
                }
                for (name, count) in [
                    ("accepted", taken.accepted),
                    ("dead", taken.dead),
                    ("left_out", taken.left_out),
                ] {
                    said.insert(name.to_owned(), count.into());
                }
                if !taken.errors.is_empty() {
                    let error = |(index, detail): &(usize, String)| json!({"index": index, "detail": detail});
                    said.insert("errors".to_owned(), taken.errors.iter().map(error).collect());
                }
                ("application/json", Value::Object(said).to_string().into())
            }
        };
        Self { content_type, body }
    }
}

fn answered(answer: Answer) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(answer.body));
    let content_type = HeaderValue::from_static(answer.content_type);
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}

fn refused(refusal: &Refusal) -> Response<Full<Bytes>> {
    // `code` and `message` are what client libraries of `track` look for; without them some take any error for
    // the network's, and try again for minutes.
    let code = refusal.status.canonical_reason().unwrap_or_default();
    let code = code.to_ascii_lowercase().replace(' ', "_");
    let text = json!({"error": refusal.said, "code": code, "message": refusal.said}).to_string();
    let mut response = Response::new(Full::new(text.into()));
    *response.status_mut() = refusal.status;
    let mut set = |name: HeaderName, value: &'static str| {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    };
    set(CONTENT_TYPE, "application/json");
    match refusal.status {
        StatusCode::SERVICE_UNAVAILABLE => set(RETRY_AFTER, "1"),
        StatusCode::METHOD_NOT_ALLOWED => set(ALLOW, "POST"),
        StatusCode::UNAUTHORIZED => set(WWW_AUTHENTICATE, "Bearer"),
        StatusCode::UNSUPPORTED_MEDIA_TYPE => set(ACCEPT_ENCODING, "gzip"),
        StatusCode::REQUEST_TIMEOUT => set(CONNECTION, "close"),
        _ => {}
    }
    response
}
