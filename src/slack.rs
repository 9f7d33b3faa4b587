//! Slack's Web API: one call, one answer. The sender posts through it, and the inlets ask it who a user is.
//!
//! The HTTP status says almost nothing: a refusal is a 200 with `ok: false` and a code. `destination::slack` decides
//! what a code means for a message.

use std::time::Duration;

use reqwest::{Client, Url};
use serde_json::{Map, Value};
use tokio::time::Instant;

use crate::http_client::{self, Reply, Unanswered};
use crate::secrets::Secret;

pub mod look_ups;

/// An answer is read up to here, in bytes.
const ANSWER_MAX: usize = 1024 * 1024;

/// The API at one address.
#[derive(Debug, Clone)]
pub struct WebApi {
    client: Client,
    url: String,
}

impl WebApi {
    pub fn new(url: &str, client: Client) -> Self {
        Self {
            client,
            url: url.trim_end_matches('/').to_owned(),
        }
    }

    /// Calls a method whose arguments are a JSON object.
    pub async fn post(&self, method: &str, token: &Secret, arguments: String) -> Result<Reply, Unanswered> {
        let request = self
            .client
            .post(format!("{}/{method}", self.url))
            .bearer_auth(token.reveal())
            .header("content-type", "application/json; charset=utf-8")
            .body(arguments);
        http_client::reply(request.send().await, ANSWER_MAX).await
    }

    /// Calls a method that only reads; those take no JSON.
    pub async fn get(&self, method: &str, token: &Secret, arguments: &[(&str, &str)]) -> Result<Reply, Unanswered> {
        let url = Url::parse_with_params(&format!("{}/{method}", self.url), arguments);
        let url = url.map_err(|_| Unanswered::NoRequest)?;
        let request = self.client.get(url).bearer_auth(token.reveal());
        http_client::reply(request.send().await, ANSWER_MAX).await
    }
}

/// An answer of the API. What a field holds that isn't of its kind says nothing, and what stands beside it is read all
/// the same: `ok` alone says how the call ended.
#[derive(Debug)]
pub struct Body(Map<String, Value>);

impl Body {
    /// `None` for what is no answer of the API.
    pub fn read(reply: &Reply) -> Option<Self> {
        let body: Map<String, Value> = serde_json::from_str(&reply.body).ok()?;
        matches!(body.get("ok"), Some(Value::Bool(_))).then_some(Self(body))
    }

    pub fn is_ok(&self) -> bool {
        self.get("ok") == Some(&Value::Bool(true))
    }

    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    pub fn text(&self, name: &str) -> Option<&str> {
        self.get(name)?.as_str()
    }
}

/// Whose limit is met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    Channel,
    Token,
}

/// The limit that an answer says is met. `body` is the answer's, where it has one.
pub fn limit_met(reply: &Reply, body: Option<&Body>) -> Option<Limit> {
    match body {
        Some(body) if body.is_ok() => None,
        Some(body) if body.text("error") == Some("rate_limited") => Some(Limit::Channel),
        Some(body) if body.text("error") == Some("ratelimited") => Some(Limit::Token),
        _ => (reply.status == 429).then_some(Limit::Token),
    }
}

/// Slack allows 50 look-ups a minute and more. These two together stay within it in every minute.
const BURST: u32 = 20;
const SPACING: Duration = Duration::from_secs(2);

/// When one token's next look-up may start.
#[derive(Debug)]
pub struct Pace {
    /// When the look-ups so far would all have started had they been spaced evenly.
    even: Instant,
    /// Slack asked us to wait until then.
    frozen: Option<Instant>,
}

impl Pace {
    pub fn new(now: Instant) -> Self {
        Self {
            even: now,
            frozen: None,
        }
    }

    /// Whether a look-up may start now; if so it is counted.
    pub fn admits(&mut self, now: Instant) -> bool {
        if self.frozen.is_some_and(|until| now < until) || self.even > now + SPACING * (BURST - 1) {
            return false;
        }
        self.even = self.even.max(now) + SPACING;
        true
    }

    /// A shorter wait doesn't end a longer one: look-ups that are under way together are answered in any order.
    pub fn freeze(&mut self, until: Instant) {
        self.frozen = self.frozen.max(Some(until));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(status: u16, body: &str) -> Reply {
        Reply {
            status,
            retry_after: None,
            scopes: None,
            date: None,
            body: body.to_owned(),
        }
    }

    #[test]
    fn ok_alone_says_how_a_call_ended() {
        let read = |body| Body::read(&reply(200, body)).map(|body| body.is_ok());
        for (body, ended) in [
            (r#"{"ok":true,"error":7,"ts":null}"#, Some(true)),
            (r#"{"ok":false}"#, Some(false)),
            (r#"{"ok":"true"}"#, None),
            (r#"{"error":"no_text"}"#, None),
            ("[]", None),
            ("", None),
        ] {
            assert_eq!(read(body), ended, "{body}");
        }
        let body = Body::read(&reply(200, r#"{"ok":true,"ts":7,"channel":{"id":"D1"},"team":"T"}"#)).unwrap();
        assert_eq!((body.text("ts"), body.text("team")), (None, Some("T")));
        assert_eq!(body.get("channel").unwrap()["id"], "D1");
    }

    #[test]
    fn a_limit_is_met_whatever_the_status_says() {
        for (status, body, limit) in [
            (429, r#"{"ok":false,"error":"rate_limited"}"#, Some(Limit::Channel)),
            (200, r#"{"ok":false,"error":"rate_limited"}"#, Some(Limit::Channel)),
            (200, r#"{"ok":false,"error":"ratelimited"}"#, Some(Limit::Token)),
            (429, r#"{"ok":false,"error":"other"}"#, Some(Limit::Token)),
            (429, "slow down", Some(Limit::Token)),
            (429, r#"{"ok":true}"#, None),
            (200, r#"{"ok":false,"error":"other"}"#, None),
            (500, "", None),
        ] {
            let reply = reply(status, body);
            assert_eq!(limit_met(&reply, Body::read(&reply).as_ref()), limit, "{status} {body}");
        }
    }

    #[test]
    fn look_ups_of_any_minute_are_fifty_at_most() {
        let now = Instant::now();
        let mut pace = Pace::new(now);
        // Asked for every hundredth of a second, for five minutes.
        let times = (0..30_000_u32).map(|tick| Duration::from_millis(10) * tick);
        let started: Vec<Duration> = times.filter(|time| pace.admits(now + *time)).collect();
        for (number, start) in started.iter().enumerate() {
            let minute = started[number..]
                .iter()
                .take_while(|later| **later < *start + Duration::from_secs(60));
            assert!(minute.count() <= 50);
        }
        assert!(started.len() >= 165, "{}", started.len());
    }

    #[test]
    fn nothing_is_looked_up_before_a_wait_is_over() {
        let now = Instant::now();
        let mut pace = Pace::new(now);
        assert!(pace.admits(now));
        pace.freeze(now + Duration::from_secs(40));
        pace.freeze(now + Duration::from_secs(30));
        assert!(!pace.admits(now + Duration::from_secs(39)) && pace.admits(now + Duration::from_secs(40)));
    }
}
