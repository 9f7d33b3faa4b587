//! Slack's answers. The HTTP status says almost nothing: a refusal is a 200 with `ok: false`.

use serde::Deserialize;

use super::{GONE, REJECTED, Reply};
use crate::delivery::dispatch::{Answer, Scope, Verdict};
use crate::secrets::Secret;

#[derive(Debug, Deserialize)]
struct Body {
    ok: bool,
    error: Option<String>,
    ts: Option<String>,
    needed: Option<String>,
    provided: Option<String>,
    #[serde(default)]
    errors: Vec<serde_json::Value>,
    response_metadata: Option<Metadata>,
}

#[derive(Debug, Deserialize)]
struct Metadata {
    #[serde(default)]
    messages: Vec<String>,
}

/// What an answer of the Web API means.
pub(super) fn message_answer(reply: &Reply, secrets: &[Secret]) -> Answer {
    let throttled = |scope| Verdict::Throttled {
        scope,
        retry_after: reply.retry_after,
    };
    let Ok(body) = serde_json::from_str::<Body>(&reply.body) else {
        let verdict = match reply.status {
            429 => throttled(Scope::Credential),
            300..=499 => REJECTED,
            // An HTML page with a 5xx, or a 200 that is no JSON: the message may be there.
            _ => Verdict::Ambiguous,
        };
        return reply.answer(verdict, reply.words(), secrets);
    };
    if body.ok {
        let mut answer = reply.answer(Verdict::Delivered, "", secrets);
        answer.message_id = body.ts;
        return answer;
    }
    let code = body.error.as_deref().unwrap_or("");
    let verdict = match code {
        "rate_limited" => throttled(Scope::Lane),
        "ratelimited" => throttled(Scope::Credential),
        _ if reply.status == 429 => throttled(Scope::Credential),
        _ if reply.status >= 500 => Verdict::Ambiguous,
        code => verdict(code),
    };
    reply.answer(verdict, &words(&body), secrets)
}

/// The error codes of chat.postMessage, conversations.join and conversations.open.
pub(super) fn verdict(code: &str) -> Verdict {
    match code {
        "request_timeout"
        | "service_unavailable"
        | "team_added_to_org"
        | "org_login_required"
        | "message_limit_exceeded"
        | "accesslimited" => Verdict::Retry,
        "internal_error" | "fatal_error" => Verdict::Ambiguous,
        "invalid_auth"
        | "not_authed"
        | "account_inactive"
        | "token_revoked"
        | "token_expired"
        | "missing_scope"
        | "not_allowed_token_type"
        | "no_permission"
        | "two_factor_setup_required"
        | "enterprise_is_restricted"
        | "team_access_not_granted"
        | "access_denied"
        | "app_access_restricted"
        | "is_bot"
        | "ekm_access_denied" => Verdict::CredentialRefused,
        "not_in_channel" => Verdict::NotInChannel,
        "channel_not_found"
        | "is_archived"
        | "team_not_found"
        | "messages_tab_disabled"
        | "restricted_action"
        | "restricted_action_read_only_channel"
        | "restricted_action_thread_only_channel"
        | "restricted_action_non_threadable_channel"
        | "restricted_action_thread_locked"
        | "cannot_reply_to_message"
        | "user_not_found"
        | "user_disabled"
        | "user_not_visible"
        | "method_not_supported_for_channel_type" => GONE,
        // Bad messages, a client that is broken, and codes nobody knows: permanent for this one.
        _ => REJECTED,
    }
}

/// The code, and what helps to mend it.
fn words(body: &Body) -> String {
    let mut words = body
        .error
        .clone()
        .unwrap_or_else(|| "ok:false without an error".to_owned());
    if let Some(needed) = &body.needed {
        words.push_str(&format!(
            "; needs {needed}, has {}",
            body.provided.as_deref().unwrap_or("none")
        ));
    }
    for error in &body.errors {
        words.push_str(&format!(
            "; {}",
            error.as_str().map_or_else(|| error.to_string(), str::to_owned)
        ));
    }
    for message in body.response_metadata.iter().flat_map(|metadata| &metadata.messages) {
        words.push_str(&format!("; {message}"));
    }
    words
}

/// What an incoming webhook's answer means: by its text first, by its status second.
pub(super) fn webhook_answer(reply: &Reply, secrets: &[Secret]) -> Answer {
    let code = reply.body.trim();
    let verdict = match (reply.status, code) {
        (429, _) | (_, "ratelimited" | "rate_limited") => Verdict::Throttled {
            scope: Scope::Lane,
            retry_after: reply.retry_after,
        },
        (200..=299, _) => Verdict::Delivered,
        (
            _,
            "action_prohibited"
            | "invalid_token"
            | "posting_to_general_channel_denied"
            | "channel_not_found"
            | "channel_is_archived"
            | "no_service"
            | "no_active_hooks"
            | "no_service_id"
            | "no_team"
            | "team_disabled",
        ) => GONE,
        (_, "rollup_error") => Verdict::Ambiguous,
        (403 | 404 | 410, _) => GONE,
        (300..=499, _) => REJECTED,
        _ => Verdict::Ambiguous,
    };
    let words = if verdict == Verdict::Delivered {
        ""
    } else {
        reply.words()
    };
    reply.answer(verdict, words, secrets)
}
