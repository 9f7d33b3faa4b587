//! Plays Slack and CleverTap over real HTTP: for the demo, for our tests, and for a user's own CI.
//!
//! Place in the flow: at the far end, where the sender's requests arrive. It is strict (a client that breaks a limit,
//! or comes back before `Retry-After` is over, is refused and noted) and it keeps a log of all that arrives.
//!
//! # Pointing a client at it
//!
//! ```text
//! leadlane sandbox --listen 127.0.0.1:9099
//!
//! slack: {api_url: http://127.0.0.1:9099/api, webhook_hosts: ["127.0.0.1:9099"]}
//! clevertap: {accounts: {acme: {api_url: http://127.0.0.1:9099, account_id: ACME, ...}}}
//! ```
//!
//! | request | plays |
//! |---|---|
//! | `POST /api/METHOD`, `Authorization: Bearer xoxb-…` | `chat.postMessage`, `conversations.open`, `.join`, `.history`, `.info`, `auth.test`, `users.info` |
//! | `POST /services/T…/B…/X…` | an incoming webhook; one whose last element is a webhook error (`/no_service`) always gives it |
//! | `POST /1/upload`, both `X-CleverTap-…` headers | CleverTap's upload, with `?dryRun=1` too |
//!
//! Any channel `C…`, `G…` or `D…` exists and is joined, unless its id contains `NOPE`; a member `U…` or `W…` gets the
//! direct channel `D…`. A token is good when it starts with `xoxb-` or `xoxp-`, a passcode when it isn't empty; neither
//! may contain `invalid`. Tokens with the same team number (`xoxb-<digits>-…`) share a workspace, any other token has
//! its own. CleverTap's limit is on requests at once; one takes no time here unless `latency` or a fault makes it.
//!
//! # Ordering faults, reading what arrived
//!
//! ```text
//! POST /_sandbox/faults       {"target":"C0123ABCD","kind":"rate_limit","for":"30s","retry_after":5}  -> {"id":1}
//! POST /_sandbox/faults       {"target":"ACME","kind":"error","error":555,"identity":"ana@example.com","times":2}
//! GET  /_sandbox/faults       DELETE /_sandbox/faults       DELETE /_sandbox/faults/1
//! GET  /_sandbox/log?since=0&limit=100&target=C0123ABCD     DELETE /_sandbox/log
//! GET  /_sandbox/summary
//! POST /_sandbox/limits       {"channel":"*","rate":"2/s","burst":3}   {"account":"ACME","concurrency":3}
//! POST /_sandbox/channels     {"channel":"C0123ABCD","joined":false,"joinable":true}   {"channel":"U0123ABCD","open":false}
//! POST /_sandbox/credentials  {"token":"xoxb-…","refused":true,"error":"token_revoked"}   {"token":"xoxb-…","scopes":"chat:write"}
//! POST /_sandbox/log          {"max":10000,"texts":false}
//! POST /_sandbox/reset
//! ```
//!
//! docs/sandbox.md has every field, with examples.
//!
//! # Invariants
//!
//! - A request is decided whole, under one short lock, when it has arrived; delays only hold back the answer. A limit
//!   therefore sees arrivals in one order, and what a client gave up waiting for is in the log as it was decided.
//! - No token, passcode or webhook URL is kept: only fingerprints, which is also what the log shows.
//! - Time is tokio's, so that a test can pause it; the wall clock is read once.
//!
//! Not played: multipart bodies, Slack's events, storage beyond the log.

mod clevertap;
mod control;
mod fault;
mod limit;
mod log;
mod serve;
mod slack;
mod state;
#[cfg(test)]
mod tests;
mod webhook;

use std::borrow::Cow;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use tokio::sync::watch;
use tokio::time::Instant;

pub use fault::{FaultError, FaultOrder, Fingerprint, Kind as FaultKind};
pub use limit::{Rate, RateError};
pub use log::{Arrival, ArrivalKind, Counts};
use serve::Wire;
use state::State;

/// The limits that the sandbox starts with, and returns to on reset.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Messages per workspace and channel.
    pub channel_rate: Rate,
    /// Posts per webhook URL.
    pub webhook_rate: Rate,
    /// Messages per workspace, over all channels.
    pub workspace_rate: Rate,
    /// Calls per workspace and method, of Slack's methods that post nothing (`auth.test` has no limit).
    pub method_rate: Rate,
    /// Requests at once per CleverTap account.
    pub clevertap_concurrency: usize,
    /// How long every answer takes.
    pub latency: Duration,
    /// How many arrivals the log keeps, some 500 bytes each and its texts; beyond it the oldest go.
    pub log_max: usize,
    /// Whether the log keeps what arrivals say: texts, arguments and records.
    pub log_texts: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            channel_rate: Rate::new(1, Duration::from_secs(1)),
            webhook_rate: Rate::new(1, Duration::from_secs(1)),
            workspace_rate: Rate::new(300, Duration::from_secs(60)),
            method_rate: Rate::new(50, Duration::from_secs(60)),
            clevertap_concurrency: 15,
            latency: Duration::ZERO,
            log_max: 2_000_000,
            log_texts: true,
        }
    }
}

/// A sandbox; clones share everything.
#[derive(Clone)]
pub struct Sandbox {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    /// Wakes the requests that hang: the faults changed, or (true) the server stops.
    changed: watch::Sender<bool>,
}

impl fmt::Debug for Sandbox {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Sandbox").finish_non_exhaustive()
    }
}

impl Sandbox {
    pub fn new(settings: Settings) -> Self {
        let shared = Shared {
            state: Mutex::new(State::new(settings)),
            changed: watch::Sender::new(false),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// All arrivals, oldest first.
    pub fn log(&self) -> Vec<Arrival> {
        self.log_since(0)
    }

    /// The arrivals after the one with that number, oldest first.
    pub fn log_since(&self, seq: u64) -> Vec<Arrival> {
        self.state().log.since(seq).cloned().collect()
    }

    /// The counts of each target, by target.
    pub fn summary(&self) -> Vec<(Arc<str>, Counts)> {
        self.state().log.summary()
    }

    /// Orders a fault and gives its id.
    pub fn order(&self, order: FaultOrder) -> Result<u64, FaultError> {
        order.check()?;
        let id = self.state().faults.add(order, Instant::now());
        self.wake();
        Ok(id)
    }

    /// Ends a fault; false when there is none with that id.
    pub fn end_fault(&self, id: u64) -> bool {
        let ended = self.state().faults.remove(id);
        self.wake();
        ended
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().expect("no code that holds the lock panics")
    }

    fn wake(&self) {
        self.shared.changed.send_modify(|_| {});
    }

    /// Decides a request at once, then answers in the way and at the time that was decided.
    async fn play(&self, wire: &Wire, decide: impl FnOnce(&mut State, Instant) -> Decision) -> Response {
        let decision = decide(&mut self.state(), Instant::now());
        let _flight = Flight {
            sandbox: self,
            target: &decision.target,
        };
        let complete = self.delay(decision.delay).await;
        match decision.ending {
            Ending::Answer if complete => {}
            Ending::Answer | Ending::Cut => wire.cut(),
            Ending::Hang(fault) => {
                self.hang(fault).await;
                wire.cut();
            }
        }
        decision.reply.into_response()
    }

    /// Waits, and says whether the whole time passed before the server stopped.
    async fn delay(&self, delay: Duration) -> bool {
        if delay.is_zero() {
            return true;
        }
        let mut changed = self.shared.changed.subscribe();
        tokio::select! {
            () = tokio::time::sleep(delay) => true,
            _ = changed.wait_for(|stopping| *stopping) => false,
        }
    }

    /// Waits until the fault is over or the server stops; a client that goes away ends it by dropping this.
    async fn hang(&self, fault: u64) {
        let mut changed = self.shared.changed.subscribe();
        loop {
            let left = self.state().faults.hang_left(fault, Instant::now());
            let (Some(until), false) = (left, *changed.borrow_and_update()) else {
                return;
            };
            let over = async {
                match until {
                    Some(until) => tokio::time::sleep_until(until).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = over => return,
                _ = changed.changed() => {}
            }
        }
    }
}

/// A request that is being answered; it counts as in flight until it is answered or its client is gone.
struct Flight<'a> {
    sandbox: &'a Sandbox,
    target: &'a str,
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        self.sandbox.state().log.leave(self.target);
    }
}

/// The decision about a request.
struct Decision {
    /// The target under which it counts as in flight: `Log::enter` was called with it.
    target: Arc<str>,
    reply: Reply,
    delay: Duration,
    ending: Ending,
}

/// How an exchange ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    Answer,
    /// The connection is reset, without an answer.
    Cut,
    /// No answer while that fault lasts, then a reset.
    Hang(u64),
}

/// An answer in full.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Reply {
    status: u16,
    content_type: &'static str,
    retry_after: Option<u32>,
    headers: Vec<(&'static str, Cow<'static, str>)>,
    body: String,
}

impl Reply {
    fn text(status: u16, body: impl Into<String>) -> Self {
        Self {
            status,
            content_type: "text/plain; charset=utf-8",
            retry_after: None,
            headers: Vec::new(),
            body: body.into(),
        }
    }

    fn json(status: u16, body: &serde_json::Value) -> Self {
        Self {
            content_type: "application/json; charset=utf-8",
            ..Self::text(status, body.to_string())
        }
    }

    /// The page that a provider's edge sends when nobody is behind it.
    fn html(status: u16) -> Self {
        Self {
            content_type: "text/html; charset=utf-8",
            ..Self::text(
                status,
                "<!DOCTYPE html><html><head><title>Server Error</title></head><body><h1>Server Error</h1>\
                 <p>Something went wrong, and it is not your fault.</p></body></html>",
            )
        }
    }

    fn retry_after(self, retry_after: Option<u32>) -> Self {
        Self { retry_after, ..self }
    }
}

impl IntoResponse for Reply {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::from(self.body));
        *response.status_mut() = self.status.try_into().expect("orders with another status are refused");
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(self.content_type));
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        for (name, value) in self.headers {
            let value = HeaderValue::from_str(&value).expect("orders with other scopes are refused");
            headers.insert(name, value);
        }
        response
    }
}

/// A header's text; nothing when it is missing or no text.
fn header_text(headers: &HeaderMap, name: &str) -> Option<Box<str>> {
    Some(headers.get(name)?.to_str().ok()?.into())
}
