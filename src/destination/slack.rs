//! The meaning of Slack's answers for a message.

use serde_json::{Map, Value};

use super::introduce::{NeededScope, POST};
use super::words::{self, Hidden};
use super::{Checked, GONE, REJECTED, repeatable, words_of};
use crate::delivery::dispatch::{Answer, FreezeScope, Verdict};
use crate::http_client::Reply;
use crate::slack::{Body, Limit, limit_met};

/// A message's body as it goes out: to another channel, or into a thread, where these are given.
pub(super) fn message_body(
    body: &str,
    channel: Option<&str>,
    thread_ts: Option<&str>,
) -> Result<String, serde_json::Error> {
    if channel.is_none() && thread_ts.is_none() {
        return Ok(body.to_owned());
    }
    let mut arguments: Map<String, Value> = serde_json::from_str(body)?;
    for (name, value) in [("channel", channel), ("thread_ts", thread_ts)] {
        if let Some(value) = value {
            arguments.insert(name.to_owned(), value.into());
        }
    }
    serde_json::to_string(&arguments)
}

/// The meaning of chat.postMessage's answer to a message to `channel`. Slack opens a member's direct
/// channel by itself when it is posted to; where it rather says that there is no such channel, or that
/// we aren't in it, opening it ourselves may help.
pub(super) fn message_answer(reply: &Reply, channel: &str, hidden: Hidden<'_>) -> Answer {
    let (mut answer, body) = answer(reply, hidden);
    let body = body.as_ref();
    if is_member(channel)
        && let Some("channel_not_found" | "not_in_channel") = body.and_then(|body| body.text("error"))
    {
        answer.verdict = Verdict::NotOpen;
    }
    let ts = body.and_then(|body| body.text("ts")).filter(|ts| is_timestamp(ts));
    answer.message_id = ts.map(str::to_owned);
    answer
}

/// A message's `ts`, which a thread goes on from: seconds, a point, and digits that make it unique.
fn is_timestamp(ts: &str) -> bool {
    let is_number = |text: &str| (1..=16).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    ts.split_once('.')
        .is_some_and(|(seconds, rest)| is_number(seconds) && is_number(rest))
}

/// A member's id, `U…` or `W…`; names are in lower case.
fn is_member(channel: &str) -> bool {
    let is_written = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit();
    channel.len() > 1 && channel.starts_with(['U', 'W']) && channel.bytes().all(is_written)
}

/// The meaning of conversations.join's answer.
pub(super) fn join_answer(reply: &Reply, hidden: Hidden<'_>) -> Answer {
    of_method_alone(answer(reply, hidden))
}

/// The meaning of conversations.open's answer; without a channel it has to be asked for again.
pub(super) fn open_answer(reply: &Reply, hidden: Hidden<'_>) -> Answer {
    let (answer, body) = answer(reply, hidden);
    let channel = body.as_ref().and_then(|body| body.get("channel")?.get("id")?.as_str());
    let channel = channel.and_then(words::id);
    let mut answer = of_method_alone((answer, body));
    if answer.verdict == Verdict::Delivered && channel.is_none() {
        answer.verdict = Verdict::Retry;
        "conversations.open gave no channel".clone_into(&mut answer.words);
    }
    answer.channel = channel;
    answer
}

/// A limit that is met without posting is no channel's.
fn of_token(mut answer: Answer) -> Answer {
    if let Verdict::Throttled { scope, .. } = &mut answer.verdict {
        *scope = FreezeScope::Credential;
    }
    answer
}

/// The meaning of auth.test's answer: the token works, it is refused, or nobody knows now. A token
/// that may not post is refused, as posting with it would be.
pub(super) fn probe_answer(reply: &Reply, hidden: Hidden<'_>) -> Answer {
    let mut answer = of_token(answer(reply, hidden).0);
    match answer.verdict {
        Verdict::Delivered if !grants(reply, POST) => {
            answer.verdict = Verdict::CredentialRefused;
            answer.words = format!("missing_scope; needs {}", POST.name);
        }
        Verdict::Delivered | Verdict::CredentialRefused | Verdict::Throttled { .. } => {}
        _ => answer.verdict = Verdict::Retry,
    }
    answer
}

/// The owner of a token, from auth.test's answer, and the scopes that it lacks of those that are needed.
pub(super) fn identity(reply: &Reply, needed: &[NeededScope], hidden: Hidden<'_>) -> Checked {
    let (answer, body) = answer(reply, hidden);
    match (answer.verdict, body) {
        (Verdict::Delivered, Some(body)) => {
            let name = |name: &str| hidden.words(body.text(name).unwrap_or_default());
            Checked::Works {
                team: name("team"),
                user: name("user"),
                missing_scopes: needed.iter().copied().filter(|scope| !grants(reply, *scope)).collect(),
            }
        }
        (Verdict::CredentialRefused, _) => Checked::Refused(answer.words),
        _ => Checked::Unreachable(answer.words),
    }
}

/// Whether the token has a scope; so it is taken where the answer names none. An app of the old kind
/// has them all in one, `bot`, or in two for posting.
fn grants(reply: &Reply, scope: NeededScope) -> bool {
    reply.scopes.as_deref().is_none_or(|scopes| {
        let mut scopes = scopes.split(',').map(str::trim);
        scopes.any(|granted| {
            granted == "bot"
                || granted
                    .strip_prefix(scope.name)
                    .is_some_and(|rest| rest.is_empty() || rest == ":bot" || rest == ":user")
        })
    })
}

/// The answer of a method that only prepares a message. It may be asked for again, and a scope that
/// it lacks stops what needs this method, not all that the token can do without it.
fn of_method_alone((answer, body): (Answer, Option<Body>)) -> Answer {
    let mut answer = of_token(repeatable(answer));
    let code = body.as_ref().and_then(|body| body.text("error"));
    if let Some("missing_scope" | "not_allowed_token_type" | "no_permission") = code {
        answer.verdict = GONE;
    }
    answer
}

/// The meaning of an answer of the Web API, with its body where that is JSON.
fn answer(reply: &Reply, hidden: Hidden<'_>) -> (Answer, Option<Body>) {
    let body = Body::read(reply);
    let verdict = match (limit_met(reply, body.as_ref()), &body) {
        (Some(limit), _) => Verdict::Throttled {
            scope: match limit {
                Limit::Channel => FreezeScope::Lane,
                Limit::Token => FreezeScope::Credential,
            },
            retry_after: reply.retry_after,
        },
        (None, Some(body)) if body.is_ok() => Verdict::Delivered,
        (None, Some(_)) if reply.status >= 500 => Verdict::Ambiguous,
        (None, Some(body)) => verdict(body.text("error").unwrap_or_default()),
        (None, None) => match reply.status {
            408 => Verdict::Retry,
            300..=499 => REJECTED,
            // An HTML page with a 5xx, or a 200 that is no JSON: the message may be there.
            _ => Verdict::Ambiguous,
        },
    };
    let words = match &body {
        Some(body) if body.is_ok() => String::new(),
        Some(body) => words(body),
        None => words_of(reply).to_owned(),
    };
    (super::answer(reply, verdict, &words, hidden), body)
}

/// The error codes of chat.postMessage, conversations.join and conversations.open.
fn verdict(code: &str) -> Verdict {
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
    let mut words = body.text("error").unwrap_or("ok:false without an error").to_owned();
    if let Some(needed) = body.text("needed") {
        words.push_str(&format!(
            "; needs {needed}, has {}",
            body.text("provided").unwrap_or("none")
        ));
    }
    // The words are cut, so that a few say enough.
    let errors = body.get("errors").and_then(Value::as_array);
    let errors = errors.into_iter().flatten().take(20);
    let messages = body
        .get("response_metadata")
        .and_then(|metadata| metadata.get("messages")?.as_array());
    let messages = messages
        .into_iter()
        .flatten()
        .filter(|message| message.is_string())
        .take(20);
    for more in errors.chain(messages) {
        words.push_str("; ");
        words.push_str(&more.as_str().map_or_else(|| more.to_string(), str::to_owned));
    }
    words
}

/// The meaning of an incoming webhook's answer: by its text first, by its status second.
pub(super) fn webhook_answer(reply: &Reply, hidden: Hidden<'_>) -> Answer {
    let code = reply.body.trim();
    let verdict = match (reply.status, code) {
        (429, _) | (_, "ratelimited" | "rate_limited") => Verdict::Throttled {
            scope: FreezeScope::Lane,
            retry_after: reply.retry_after,
        },
        (200..=299, _) => Verdict::Delivered,
        (408, _) => Verdict::Retry,
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
        words_of(reply)
    };
    super::answer(reply, verdict, words, hidden)
}
