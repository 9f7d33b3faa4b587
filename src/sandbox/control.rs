//! The control API under `/_sandbox/`: it orders faults, limits, channels and credentials, and gives what arrived.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, Query, State as Shared};
use axum::routing::{delete, get, post};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::fault::{Fault, FaultOrder, Fingerprint};
use super::limit::{Rate, duration};
use super::log::Counts;
use super::slack::resolved;
use super::state::{Channel, LimitKind};
use super::webhook::last_element;
use super::{Reply, Sandbox};

const PAGE: usize = 10_000;

pub(super) fn routes() -> Router<Sandbox> {
    Router::new()
        .route(
            "/_sandbox/faults",
            post(order_fault).get(list_faults).delete(end_faults),
        )
        .route("/_sandbox/faults/{id}", delete(end_fault))
        .route("/_sandbox/log", get(read_log).post(order_log).delete(clear_log))
        .route("/_sandbox/summary", get(summarise))
        .route("/_sandbox/limits", post(order_limit))
        .route("/_sandbox/channels", post(order_channel))
        .route("/_sandbox/credentials", post(order_credential))
        .route("/_sandbox/reset", post(reset))
}

async fn order_fault(Shared(sandbox): Shared<Sandbox>, body: Bytes) -> Result<Reply, Reply> {
    let order: FaultOrder = read(&body)?;
    let id = sandbox.order(order).map_err(|error| refusal(&error.to_string()))?;
    Ok(Reply::json(200, &json!({"id": id})))
}

async fn list_faults(Shared(sandbox): Shared<Sandbox>) -> Reply {
    let now = Instant::now();
    let shown = |fault: &Fault| {
        let mut shown = serde_json::to_value(&fault.order).expect("an order is plain JSON");
        shown["id"] = fault.id.into();
        if let Some(until) = fault.until {
            shown["left_ms"] = milliseconds(until - now);
        }
        shown
    };
    let faults: Vec<Value> = sandbox.state().faults.list(now).iter().map(shown).collect();
    Reply::json(200, &Value::Array(faults))
}

async fn end_faults(Shared(sandbox): Shared<Sandbox>) -> Reply {
    sandbox.state().faults.clear();
    sandbox.wake();
    done()
}

async fn end_fault(Shared(sandbox): Shared<Sandbox>, Path(id): Path<String>) -> Result<Reply, Reply> {
    let is_ended = id.parse().is_ok_and(|id| sandbox.end_fault(id));
    if is_ended {
        return Ok(done());
    }
    Err(Reply::json(
        404,
        &json!({"error": "no fault has that id: GET /_sandbox/faults lists them"}),
    ))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LogQuery {
    #[serde(default)]
    since: u64,
    limit: Option<usize>,
    target: Option<String>,
}

/// An array with one arrival a line.
async fn read_log(
    Shared(sandbox): Shared<Sandbox>,
    query: Result<Query<LogQuery>, axum::extract::rejection::QueryRejection>,
) -> Result<Reply, Reply> {
    let Query(query) = query.map_err(|_| refusal("the log is asked for by since, limit and target"))?;
    let is_wanted = |target: &str| query.target.as_deref().is_none_or(|wanted| wanted == target);
    let limit = query.limit.unwrap_or(PAGE);
    // Copied out, so that nobody waits for the writing.
    let page: Vec<_> = {
        let state = sandbox.state();
        let arrivals = state
            .log
            .since(query.since)
            .filter(|arrival| is_wanted(&arrival.target));
        arrivals.take(limit).cloned().collect()
    };
    let lines: Vec<String> = page
        .iter()
        .map(|arrival| serde_json::to_string(arrival).expect("an arrival is plain JSON"))
        .collect();
    Ok(Reply {
        content_type: "application/json; charset=utf-8",
        ..Reply::text(200, format!("[{}]\n", lines.join(",\n")))
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LogOrder {
    max: Option<usize>,
    texts: Option<bool>,
}

async fn order_log(Shared(sandbox): Shared<Sandbox>, body: Bytes) -> Result<Reply, Reply> {
    let order: LogOrder = read(&body)?;
    if order.max.is_none() && order.texts.is_none() {
        return Err(refusal("the log takes \"max\", \"texts\", or both"));
    }
    let log = &mut sandbox.state().log;
    if let Some(max) = order.max {
        log.keep(max);
    }
    log.texts = order.texts.unwrap_or(log.texts);
    Ok(done())
}

async fn clear_log(Shared(sandbox): Shared<Sandbox>) -> Reply {
    sandbox.state().log.clear();
    done()
}

async fn summarise(Shared(sandbox): Shared<Sandbox>) -> Reply {
    let targets: BTreeMap<String, Counts> = sandbox
        .summary()
        .into_iter()
        .map(|(target, counts)| (target.to_string(), counts))
        .collect();
    Reply::json(200, &json!({"targets": targets}))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LimitOrder {
    channel: Option<String>,
    webhook: Option<String>,
    workspace: Option<String>,
    method: Option<String>,
    account: Option<String>,
    rate: Option<Rate>,
    burst: Option<u32>,
    concurrency: Option<usize>,
    #[serde(default, deserialize_with = "duration")]
    latency: Option<Duration>,
}

async fn order_limit(Shared(sandbox): Shared<Sandbox>, body: Bytes) -> Result<Reply, Reply> {
    let order: LimitOrder = read(&body)?;
    let named = [
        (LimitKind::Channel, order.channel),
        (LimitKind::Webhook, order.webhook),
        (LimitKind::Workspace, order.workspace),
        (LimitKind::Method, order.method),
    ];
    let named: Vec<_> = named
        .into_iter()
        .filter_map(|(kind, name)| Some((kind, name?)))
        .collect();
    let mut state = sandbox.state();
    let limits = &mut state.limits;
    match (
        named.as_slice(),
        order.account,
        order.rate,
        order.concurrency,
        order.latency,
    ) {
        ([(kind, name)], None, Some(rate), None, None) => {
            let rate = Rate {
                burst: order.burst.unwrap_or(1).max(1),
                ..rate
            };
            let settings = &mut limits.settings;
            match (kind, name.as_str()) {
                (LimitKind::Channel, "*") => settings.channel_rate = rate,
                (LimitKind::Webhook, "*") => settings.webhook_rate = rate,
                (LimitKind::Workspace, "*") => settings.workspace_rate = rate,
                (LimitKind::Method, "*") => settings.method_rate = rate,
                (LimitKind::Channel, name) => {
                    limits.rates.insert((*kind, resolved(name).into_owned()), rate);
                }
                (_, name) => {
                    limits.rates.insert((*kind, name.to_owned()), rate);
                }
            }
        }
        ([], Some(account), None, Some(concurrency), None) if account == "*" => {
            limits.settings.clevertap_concurrency = concurrency;
        }
        ([], Some(account), None, Some(concurrency), None) => {
            limits.concurrency.insert(account, concurrency);
        }
        ([], None, None, None, Some(latency)) => limits.settings.latency = latency,
        _ => {
            return Err(refusal(
                "a limit is one of: channel, webhook, workspace or method with rate (and burst); account with \
                 concurrency; latency",
            ));
        }
    }
    Ok(done())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ChannelOrder {
    channel: String,
    exists: Option<bool>,
    joined: Option<bool>,
    joinable: Option<bool>,
    archived: Option<bool>,
    open: Option<bool>,
}

async fn order_channel(Shared(sandbox): Shared<Sandbox>, body: Bytes) -> Result<Reply, Reply> {
    let order: ChannelOrder = read(&body)?;
    let mut state = sandbox.state();
    let channel = state.channels.entry(resolved(&order.channel).into_owned()).or_default();
    *channel = Channel {
        exists: order.exists.unwrap_or(channel.exists),
        joined: order.joined.unwrap_or(channel.joined),
        joinable: order.joinable.unwrap_or(channel.joinable),
        archived: order.archived.unwrap_or(channel.archived),
        open: order.open.unwrap_or(channel.open),
    };
    Ok(done())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CredentialOrder {
    token: Option<String>,
    passcode: Option<String>,
    webhook: Option<String>,
    refused: Option<bool>,
    error: Option<String>,
    scopes: Option<String>,
}

async fn order_credential(Shared(sandbox): Shared<Sandbox>, body: Bytes) -> Result<Reply, Reply> {
    let order: CredentialOrder = read(&body)?;
    let (secret, error) = match (&order.token, &order.passcode, &order.webhook) {
        (Some(token), None, None) => (token.as_str(), "invalid_auth"),
        (None, Some(passcode), None) => (passcode.as_str(), "Account ID is not valid"),
        (None, None, Some(webhook)) => (last_element(webhook), "no_service"),
        _ => return Err(refusal("a credential is one of: token, passcode, webhook")),
    };
    if order.refused.is_none() && order.scopes.is_none() {
        return Err(refusal(
            "a credential takes \"refused\", or \"scopes\" where it is a token",
        ));
    }
    if let Some(scopes) = &order.scopes {
        let is_written = |byte: u8| byte.is_ascii_lowercase() || b":._, ".contains(&byte);
        if order.token.is_none() || !scopes.bytes().all(is_written) {
            return Err(refusal(
                "\"scopes\" are a token's, such as \"chat:write,im:write\", or \"all\"",
            ));
        }
    }
    let mut state = sandbox.state();
    let secret = Fingerprint::of(secret);
    match order.refused {
        Some(true) => {
            let error = order.error.unwrap_or_else(|| error.to_owned());
            state.refused.insert(secret, error);
        }
        Some(false) => drop(state.refused.remove(&secret)),
        None => {}
    }
    match order.scopes {
        Some(scopes) if scopes == "all" => drop(state.granted.remove(&secret)),
        Some(scopes) => drop(state.granted.insert(secret, scopes)),
        None => {}
    }
    Ok(done())
}

async fn reset(Shared(sandbox): Shared<Sandbox>) -> Reply {
    sandbox.state().reset();
    sandbox.wake();
    done()
}

/// Reads an order, or says which field is wrong.
fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Reply> {
    serde_json::from_slice(body).map_err(|error| refusal(&format!("not an order: {error}")))
}

fn refusal(words: &str) -> Reply {
    Reply::json(400, &json!({"error": words}))
}

fn done() -> Reply {
    Reply::json(200, &json!({"ok": true}))
}

fn milliseconds(time: Duration) -> Value {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX).into()
}
