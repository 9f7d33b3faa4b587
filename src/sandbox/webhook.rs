//! Slack's incoming webhooks: plain text answers with a status that means something.

use axum::body::Bytes;
use axum::extract::{ConnectInfo, Path, State as Shared};
use axum::http::{HeaderMap, header};
use axum::response::Response;
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use tokio::time::Instant;

use super::fault::{Fingerprint, Kind};
use super::log::{Arrival, ArrivalKind};
use super::serve::Wire;
use super::slack::message::{check_content, form_fields, kept_text, mentions};
use super::state::{LimitKind, Limited, Met, State, Verdict};
use super::{Decision, Reply, Sandbox, header_text};

/// The last element of a real webhook is a secret of 24 characters; one that is so short is a test's name for it.
const NAME_BYTES_MAX: usize = 16;

/// The words that webhooks answer with, and their statuses.
const ERRORS: [(&str, u16); 17] = [
    ("invalid_payload", 400),
    ("user_not_found", 400),
    ("no_text", 400),
    ("too_many_attachments", 400),
    ("invalid_blocks", 400),
    ("missing_text_or_fallback_or_attachments", 400),
    ("action_prohibited", 403),
    ("invalid_token", 403),
    ("posting_to_general_channel_denied", 403),
    ("team_disabled", 403),
    ("channel_not_found", 404),
    ("no_service", 404),
    ("no_active_hooks", 404),
    ("no_service_id", 404),
    ("no_team", 404),
    ("channel_is_archived", 410),
    ("rollup_error", 500),
];

pub(super) async fn post(
    Shared(sandbox): Shared<Sandbox>,
    ConnectInfo(wire): ConnectInfo<Wire>,
    Path(path): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let post = Post::read(&path, &headers, &body);
    sandbox.play(&wire, |state, now| post.decide(state, now)).await
}

/// The last element of a webhook's URL or path: what it goes by in orders.
pub(super) fn last_element(url: &str) -> &str {
    url.rsplit('/').next().unwrap_or(url)
}

struct Post {
    last: String,
    label: String,
    /// Whether the path has the shape of a webhook's.
    is_service: bool,
    fingerprint: Fingerprint,
    payload: Option<Map<String, Value>>,
    traceparent: Option<Box<str>>,
}

impl Post {
    fn read(path: &str, headers: &HeaderMap, body: &[u8]) -> Self {
        let last = last_element(path);
        let fingerprint = Fingerprint::of(path);
        let elements: Vec<&str> = path.split('/').collect();
        let content_type = header_text(headers, header::CONTENT_TYPE.as_str()).unwrap_or_default();
        Self {
            last: last.to_owned(),
            label: if last.len() <= NAME_BYTES_MAX {
                last.to_owned()
            } else {
                fingerprint.to_string()
            },
            is_service: elements.len() == 3 && elements.iter().all(|element| !element.is_empty()),
            fingerprint,
            payload: read_payload(&content_type, body),
            traceparent: header_text(headers, "traceparent"),
        }
    }

    fn decide(&self, state: &mut State, now: Instant) -> Decision {
        let (target, _) = state.log.enter(&self.label);
        let met = state.meet(&[&self.last, &self.label], Fingerprint::of(&self.last), now);
        let mut arrival = Arrival::new(ArrivalKind::SlackWebhook, target, "webhook");
        arrival.traceparent.clone_from(&self.traceparent);
        if let Some(payload) = self.payload.as_ref().filter(|_| state.log.texts) {
            let text = kept_text(payload.get("text").and_then(Value::as_str).unwrap_or_default());
            arrival.mentions = mentions(text);
            arrival.text = Some(text.into());
            let mut others = payload.clone();
            others.shift_remove("text");
            let others = (!others.is_empty()).then(|| Value::Object(others).to_string());
            arrival.arguments = others.and_then(|others| RawValue::from_string(others).ok());
        }
        let limited = [Limited::new(
            LimitKind::Webhook,
            self.fingerprint.to_string(),
            self.label.as_str(),
        )];
        arrival.inside_retry_after = state.must_wait(&limited, now);
        let verdict = match met.intercept() {
            Some(verdict) => verdict,
            None => self.evaluate(state, &met, &limited),
        };
        state.settle(arrival, &met, verdict, Vec::new())
    }

    fn evaluate(&self, state: &mut State, met: &Met, limited: &[Limited; 1]) -> Verdict {
        if !self.is_service {
            return refusal("no_service", None);
        }
        if let Some(error) = state.refused.get(&Fingerprint::of(&self.last)) {
            return refusal(error, None);
        }
        if let Some(fault) = met.fault(Kind::RateLimit) {
            let retry_after = fault.retry_after(met.now);
            if let Some(seconds) = retry_after {
                state.shut(&limited[0], met, seconds);
            }
            return too_many(fault.order.error.as_deref().unwrap_or("rate_limited"), retry_after);
        }
        if let Err((_, seconds)) = state.admit(limited, met) {
            return too_many("rate_limited", Some(seconds));
        }
        if let Some(fault) = met.fault(Kind::Error) {
            return refusal(fault.order.error.as_deref().unwrap_or_default(), fault.order.status);
        }
        if ERRORS.iter().any(|(words, _)| *words == self.last) {
            return refusal(&self.last, None);
        }
        match self.payload.as_ref().map(check_content) {
            None | Some(Err("invalid_arguments")) => refusal("invalid_payload", None),
            Some(Err("invalid_blocks_format")) => refusal("invalid_blocks", None),
            Some(Err(words)) => refusal(words, None),
            Some(Ok(())) => Verdict {
                reply: Reply::text(200, "ok"),
                accepted: true,
                error: None,
            },
        }
    }
}

fn refusal(words: &str, status: Option<u16>) -> Verdict {
    let listed = ERRORS
        .iter()
        .find(|(listed, _)| *listed == words)
        .map(|(_, status)| *status);
    Verdict {
        reply: Reply::text(status.or(listed).unwrap_or(400), words),
        accepted: false,
        error: Some(words.to_owned()),
    }
}

fn too_many(words: &str, retry_after: Option<u32>) -> Verdict {
    let mut verdict = refusal(words, Some(429));
    verdict.reply.retry_after = retry_after;
    verdict
}

/// JSON, or a form whose field `payload` is JSON, whatever the content type says of the former.
fn read_payload(content_type: &str, body: &[u8]) -> Option<Map<String, Value>> {
    let json = if content_type.starts_with("application/x-www-form-urlencoded") {
        let fields = form_fields(str::from_utf8(body).ok()?);
        fields.into_iter().find(|(name, _)| name == "payload")?.1.into_bytes()
    } else {
        body.to_vec()
    };
    serde_json::from_slice(&json).ok()
}
