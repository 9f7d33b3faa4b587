//! The answers to requests, in the form that each system takes.

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{ACCEPT_ENCODING, CONNECTION, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use hyper::{Response, StatusCode};
use serde_json::{Map, Value, json};

use super::body::Refusal;
use super::intake::Taken;
use crate::mapping::{Inlet, Preset, Refused};

/// The answer to a request that was accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    content_type: &'static str,
    body: Bytes,
}

impl Answer {
    /// The answer that each system takes for an acknowledgement.
    pub(super) fn of(inlet: &Inlet, taken: &Taken) -> Self {
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
                    let error = |(index, (reason, detail)): &(usize, Refused)| json!({"index": index, "reason": reason.as_str(), "detail": detail});
                    said.insert("errors".to_owned(), taken.errors.iter().map(error).collect());
                }
                ("application/json", Value::Object(said).to_string().into())
            }
        };
        Self { content_type, body }
    }
}

pub(super) fn answered(answer: Answer) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(answer.body));
    let content_type = HeaderValue::from_static(answer.content_type);
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}

pub(super) fn refused(refusal: &Refusal) -> Response<Full<Bytes>> {
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
        StatusCode::UNSUPPORTED_MEDIA_TYPE => set(ACCEPT_ENCODING, "gzip"),
        StatusCode::REQUEST_TIMEOUT => set(CONNECTION, "close"),
        _ => {}
    }
    response
}
