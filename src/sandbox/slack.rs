//! Slack's Web API: `chat.postMessage` and the methods around it, with their errors, limits and warnings.

pub(super) mod message;

use std::borrow::Cow;

use axum::body::Bytes;
use axum::extract::{ConnectInfo, Path, RawQuery, State as Shared};
use axum::http::{HeaderMap, header};
use axum::response::Response;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::fault::{Fault, Fingerprint, Kind};
use super::log::{Arrival, ArrivalKind};
use super::serve::Wire;
use super::state::{LimitKind, Limited, Met, State, Verdict, written_ts};
use super::{Decision, Reply, Sandbox, header_text};
use message::{BOT, BOT_USER, check_content, kept_text, mentions, message, parts, read_arguments, stored, wrong_block};

/// The methods, each with the scope that it asks for.
const METHODS: [(&str, &str); 7] = [
    ("chat.postMessage", "chat:write"),
    ("conversations.open", "im:write"),
    ("conversations.join", "channels:join"),
    ("conversations.history", "channels:history"),
    ("conversations.info", "channels:read"),
    ("auth.test", ""),
    ("users.info", "users:read"),
];
const GRANTED: &str =
    "chat:write,chat:write.public,channels:join,channels:history,channels:read,im:history,im:write,users:read";
/// What a token without the scope has been granted.
const GRANTED_WITHOUT: &str = "emoji:read";

const MEMBERS_MAX: usize = 8;
const HISTORY_MAX: usize = 999;

pub(super) async fn call(
    Shared(sandbox): Shared<Sandbox>,
    ConnectInfo(wire): ConnectInfo<Wire>,
    Path(method): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let call = Call::read(&method, query.as_deref(), &headers, &body);
    sandbox.play(&wire, |state, now| call.decide(state, now)).await
}

/// The direct channel of a member, by the member's id; any other id stays as it is.
pub(super) fn resolved(id: &str) -> Cow<'_, str> {
    match id.strip_prefix(['U', 'W']) {
        Some(rest) if is_id(id) => Cow::Owned(format!("D{rest}")),
        _ => Cow::Borrowed(id),
    }
}

/// What is asked of the token, the arguments or the channel, as Slack's code.
type Refusal = Cow<'static, str>;

struct Call {
    /// The method and its scope; none when there is no such method.
    method: Option<(&'static str, &'static str)>,
    token: Option<String>,
    arguments: Result<Map<String, Value>, &'static str>,
    is_charset_missing: bool,
    traceparent: Option<Box<str>>,
}

impl Call {
    fn read(method: &str, query: Option<&str>, headers: &HeaderMap, body: &[u8]) -> Self {
        let content_type = header_text(headers, header::CONTENT_TYPE.as_str())
            .unwrap_or_default()
            .to_lowercase();
        let bearer = header_text(headers, header::AUTHORIZATION.as_str());
        let bearer = bearer
            .as_deref()
            .and_then(|value| value.strip_prefix("Bearer "))
            .map(|token| token.trim().to_owned());
        let mut arguments = read_arguments(query, &content_type, body);
        // The token of a form may be a field, that of JSON may not; neither must get into the log.
        let is_json = content_type.starts_with("application/json");
        let field = arguments
            .as_mut()
            .ok()
            .and_then(|arguments| arguments.shift_remove("token"))
            .filter(|_| !is_json);
        Self {
            method: METHODS.into_iter().find(|(name, _)| *name == method),
            token: bearer
                .or_else(|| Some(field?.as_str()?.to_owned()))
                .filter(|token| !token.is_empty()),
            arguments,
            is_charset_missing: is_json && !content_type.contains("charset"),
            traceparent: header_text(headers, "traceparent"),
        }
    }

    fn decide(&self, state: &mut State, now: Instant) -> Decision {
        let method = self.method.map_or("unknown_method", |(name, _)| name);
        let asked = self
            .text("channel")
            .or_else(|| self.text("user"))
            .unwrap_or(Cow::Borrowed(method));
        let channel = resolved(&asked);
        let (target, _) = state.log.enter(&asked);
        let credential = Fingerprint::of(self.token.as_deref().unwrap_or_default());
        let met = state.meet(&[&asked, &channel, method], credential, now);

        let is_message = method == "chat.postMessage";
        let kind = if is_message {
            ArrivalKind::SlackMessage
        } else {
            ArrivalKind::SlackCall
        };
        let mut arrival = Arrival::new(kind, target, method);
        arrival.channel = (channel != asked).then(|| channel.as_ref().into());
        arrival.workspace = self.token.as_deref().map(|token| workspace(token).into());
        arrival.traceparent.clone_from(&self.traceparent);
        if is_message {
            arrival.thread_ts = self.text("thread_ts").map(|ts| ts.as_ref().into());
        }
        if is_message && state.log.texts {
            let text = self.text("text").unwrap_or_default();
            arrival.mentions = mentions(kept_text(&text));
            arrival.text = Some(kept_text(&text).into());
            arrival.arguments = self.other_arguments();
        }
        let limited = self.limited(&channel);
        arrival.inside_retry_after = state.must_wait(&limited, now);
        let verdict = match met.intercept() {
            Some(verdict) => verdict,
            None => self.evaluate(state, &met, &limited, &mut arrival),
        };
        state.settle(arrival, &met, verdict, Vec::new())
    }

    /// The things with a limit here, the narrow one first; none before the token is known.
    fn limited(&self, channel: &str) -> Vec<Limited> {
        let (Some((method, _)), Some(token)) = (self.method, &self.token) else {
            return Vec::new();
        };
        let workspace = workspace(token);
        match method {
            "auth.test" => Vec::new(),
            "chat.postMessage" => vec![
                Limited::new(LimitKind::Channel, format!("{workspace}:{channel}"), channel),
                Limited::new(LimitKind::Workspace, workspace.clone(), workspace),
            ],
            _ => vec![Limited::new(LimitKind::Method, format!("{workspace}:{method}"), method)],
        }
    }

    fn evaluate(&self, state: &mut State, met: &Met, limited: &[Limited], arrival: &mut Arrival) -> Verdict {
        let Some((method, scope)) = self.method else {
            return self.refusal("unknown_method", GRANTED.into());
        };
        let granted = self.granted(state);
        if let Some(code) = self.token_refusal(state) {
            return self.refusal(&code, granted);
        }
        if let Some(fault) = met.fault(Kind::RateLimit) {
            return ordered_limit(state, met, fault, limited);
        }
        if let Err((one, seconds)) = state.admit(limited, met) {
            // The narrow limit of posting has a word of its own.
            let code = if one.kind == LimitKind::Channel {
                "rate_limited"
            } else {
                "ratelimited"
            };
            return too_many(code, Some(seconds));
        }
        if let Some(Fault { order, .. }) = met.fault(Kind::Error) {
            let mut verdict = self.refusal(order.error.as_deref().unwrap_or_default(), granted);
            verdict.reply.status = order.status.unwrap_or(200);
            return verdict;
        }
        let answer = match &self.arguments {
            _ if !grants(&granted, scope) => Err(Cow::Borrowed("missing_scope")),
            Err(code) => Err(Cow::Borrowed(*code)),
            Ok(arguments) => match method {
                "chat.postMessage" => self.post(state, met, arguments, arrival),
                "conversations.open" => self.open(state),
                "conversations.join" => self.join(state),
                "conversations.history" => self.history(state),
                "conversations.info" => self.info(state),
                "users.info" => self.member(),
                _ => Ok(self.identity()),
            },
        };
        match answer {
            Ok(answer) => self.success(answer, granted),
            Err(code) => self.refusal(&code, granted),
        }
    }

    /// The scopes that the token has been granted.
    fn granted(&self, state: &State) -> Cow<'static, str> {
        let ordered = (self.token.as_deref()).and_then(|token| state.granted.get(&Fingerprint::of(token)));
        ordered.map_or(Cow::Borrowed(GRANTED), |granted| Cow::Owned(granted.clone()))
    }

    fn token_refusal(&self, state: &State) -> Option<Refusal> {
        let Some(token) = &self.token else {
            return Some("not_authed".into());
        };
        if let Some(code) = state.refused.get(&Fingerprint::of(token)) {
            return Some(code.clone().into());
        }
        let is_known = token.starts_with("xoxb-") || token.starts_with("xoxp-");
        (!is_known || token.contains("invalid")).then(|| "invalid_auth".into())
    }

    fn post(
        &self,
        state: &mut State,
        met: &Met,
        arguments: &Map<String, Value>,
        arrival: &mut Arrival,
    ) -> Result<Value, Refusal> {
        let channel = self.channel(state)?;
        let kept = state.channels.get(channel.as_ref()).copied().unwrap_or_default();
        if kept.archived {
            return Err("is_archived".into());
        }
        if !kept.joined {
            return Err("not_in_channel".into());
        }
        check_content(arguments)?;
        let text = kept_text(arguments.get("text").and_then(Value::as_str).unwrap_or_default());
        let parts = parts(text);
        let first = state.stamp(parts.len() as u64, met.now);
        let ts = written_ts(first);
        arrival.ts = Some(ts.as_str().into());
        let message = message(parts[0].clone(), &ts, arguments.get("thread_ts"));
        Ok(json!({"channel": channel, "ts": ts, "message": message}))
    }

    fn open(&self, state: &mut State) -> Result<Value, Refusal> {
        if let Some(channel) = self.text("channel") {
            let is_direct = is_id(&channel) && channel.starts_with(['D', 'G']);
            return if is_direct {
                Ok(json!({"channel": {"id": channel}}))
            } else {
                Err("channel_not_found".into())
            };
        }
        let members = match self
            .arguments
            .as_ref()
            .ok()
            .and_then(|arguments| arguments.get("users"))
        {
            Some(Value::String(list)) => list.split(',').map(|member| member.trim().to_owned()).collect(),
            Some(Value::Array(list)) => list
                .iter()
                .filter_map(|member| Some(member.as_str()?.to_owned()))
                .collect(),
            _ => Vec::new(),
        };
        if members.iter().all(String::is_empty) {
            return Err("users_list_not_supplied".into());
        }
        if members.len() > MEMBERS_MAX {
            return Err("too_many_users".into());
        }
        if !members.iter().all(|member| is_member(member)) {
            return Err("user_not_found".into());
        }
        let id = match members.as_slice() {
            [member] => {
                let id = resolved(member).into_owned();
                if let Some(kept) = state.channels.get_mut(&id) {
                    if !kept.exists {
                        return Err("user_not_found".into());
                    }
                    kept.open = true;
                }
                id
            }
            _ => format!("G{}", Fingerprint::of(&members.join(",")).to_string().to_uppercase()),
        };
        Ok(json!({"channel": {"id": id}}))
    }

    fn join(&self, state: &mut State) -> Result<Value, Refusal> {
        let channel = self.channel(state)?.into_owned();
        if !channel.starts_with('C') {
            return Err("method_not_supported_for_channel_type".into());
        }
        let kept = state.channels.get(&channel).copied().unwrap_or_default();
        let answer = json!({"id": channel, "name": channel.to_lowercase(), "is_member": true});
        if kept.archived {
            return Err("is_archived".into());
        }
        if kept.joined {
            return Ok(json!({"channel": answer, "warning": "already_in_channel"}));
        }
        if !kept.joinable {
            return Err("method_not_supported_for_channel_type".into());
        }
        state.channels.entry(channel).or_default().joined = true;
        Ok(json!({"channel": answer}))
    }

    /// The accepted messages of a channel that are in the log, newest first.
    fn history(&self, state: &State) -> Result<Value, Refusal> {
        let channel = self.channel(state)?;
        if !state.channels.get(channel.as_ref()).copied().unwrap_or_default().joined {
            return Err("not_in_channel".into());
        }
        let limit = self
            .text("limit")
            .and_then(|limit| limit.parse().ok())
            .unwrap_or(100)
            .clamp(1, HISTORY_MAX);
        let oldest = self.text("oldest").unwrap_or(Cow::Borrowed("0"));
        let latest = self.text("latest");
        let is_there = |arrival: &&Arrival| {
            let of = arrival.channel.as_deref().unwrap_or(&arrival.target);
            arrival.kind == ArrivalKind::SlackMessage && arrival.accepted && of == channel
        };
        // Keys compare as texts, as they all have ten digits before the point; one is never read as a float.
        let mut messages = state
            .log
            .since(0)
            .rev()
            .filter(is_there)
            .flat_map(stored)
            .filter(|(ts, _)| {
                ts.as_str() > oldest.as_ref() && latest.as_ref().is_none_or(|latest| ts.as_str() < latest.as_ref())
            });
        let page: Vec<Value> = messages.by_ref().take(limit).map(|(_, message)| message).collect();
        Ok(json!({"messages": page, "has_more": messages.next().is_some()}))
    }

    fn info(&self, state: &State) -> Result<Value, Refusal> {
        let channel = self.channel(state)?;
        let name = (!channel.starts_with('D')).then(|| channel.to_lowercase());
        Ok(json!({"channel": {"id": channel, "name": name, "is_im": name.is_none()}}))
    }

    fn member(&self) -> Result<Value, Refusal> {
        let user = self
            .text("user")
            .filter(|user| is_member(user))
            .ok_or("user_not_found")?;
        let name = user.to_lowercase();
        let team = workspace(self.token.as_deref().unwrap_or_default());
        Ok(
            json!({"user": {"id": user, "team_id": team, "name": name, "real_name": name, "deleted": false, "is_bot": false}}),
        )
    }

    fn identity(&self) -> Value {
        let team = workspace(self.token.as_deref().unwrap_or_default());
        json!({"url": "https://sandbox.slack.com/", "team": "Sandbox", "user": "sandbox", "team_id": team,
            "user_id": BOT_USER, "bot_id": BOT, "is_enterprise_install": false})
    }

    /// The channel that is asked for, when it exists.
    fn channel(&self, state: &State) -> Result<Cow<'_, str>, Refusal> {
        let not_found = || Cow::Borrowed("channel_not_found");
        let asked = self.text("channel").ok_or_else(not_found)?;
        let channel = resolved(&asked).into_owned();
        let exists = state.channels.get(&channel).is_none_or(|kept| kept.exists && kept.open);
        let is_channel = is_id(&channel) && channel.starts_with(['C', 'G', 'D']) && !channel.contains("NOPE");
        if exists && is_channel {
            Ok(Cow::Owned(channel))
        } else {
            Err(not_found())
        }
    }

    fn success(&self, answer: Value, granted: Cow<'static, str>) -> Verdict {
        let mut body = json!({"ok": true});
        let mut warnings: Vec<String> = Vec::new();
        if let (Some(body), Value::Object(answer)) = (body.as_object_mut(), answer) {
            warnings.extend(answer.get("warning").and_then(Value::as_str).map(str::to_owned));
            body.extend(answer);
        }
        if self.is_charset_missing {
            warnings.push("missing_charset".to_owned());
        }
        if !warnings.is_empty() {
            body["warning"] = warnings.join(",").into();
            body["response_metadata"] = json!({"warnings": warnings});
        }
        Verdict {
            reply: self.reply(200, &body, granted),
            accepted: true,
            error: None,
        }
    }

    fn refusal(&self, code: &str, mut granted: Cow<'static, str>) -> Verdict {
        let mut body = json!({"ok": false, "error": code});
        match code {
            "missing_scope" => {
                let needed = self.method.map_or("", |(_, scope)| scope);
                if grants(&granted, needed) {
                    granted = GRANTED_WITHOUT.into();
                }
                body["needed"] = needed.into();
                body["provided"] = granted.as_ref().into();
            }
            "invalid_blocks" => {
                let blocks = self
                    .arguments
                    .as_ref()
                    .ok()
                    .and_then(|arguments| arguments.get("blocks")?.as_array());
                body["errors"] = wrong_block(blocks.map_or(&[], Vec::as_slice)).into_iter().collect();
            }
            _ => {}
        }
        Verdict {
            reply: self.reply(200, &body, granted),
            accepted: false,
            error: Some(code.to_owned()),
        }
    }

    fn reply(&self, status: u16, body: &Value, granted: Cow<'static, str>) -> Reply {
        let accepted = self.method.map_or("", |(_, scope)| scope).into();
        Reply {
            headers: vec![("x-oauth-scopes", granted), ("x-accepted-oauth-scopes", accepted)],
            ..Reply::json(status, body)
        }
    }

    /// An argument as text: a form knows nothing else.
    fn text(&self, name: &str) -> Option<Cow<'_, str>> {
        match self.arguments.as_ref().ok()?.get(name)? {
            Value::String(text) => Some(Cow::Borrowed(text)),
            value @ (Value::Number(_) | Value::Bool(_)) => Some(Cow::Owned(value.to_string())),
            _ => None,
        }
    }

    fn other_arguments(&self) -> Option<Box<RawValue>> {
        let mut others = self.arguments.as_ref().ok()?.clone();
        others.retain(|name, _| name != "channel" && name != "text");
        (!others.is_empty()).then(|| RawValue::from_string(Value::Object(others).to_string()).ok())?
    }
}

/// The label of the workspace that a token is for.
pub(super) fn workspace(token: &str) -> String {
    match token.split('-').nth(1) {
        Some(team) if !team.is_empty() && team.bytes().all(|byte| byte.is_ascii_digit()) => format!("T{team}"),
        _ => format!("T{}", Fingerprint::of(token).to_string().to_uppercase()),
    }
}

fn ordered_limit(state: &mut State, met: &Met, fault: &Fault, limited: &[Limited]) -> Verdict {
    // A channel's own limit, unless the order says or aims at something else.
    let is_of_channel = limited
        .first()
        .is_some_and(|one| one.kind == LimitKind::Channel && resolved(&fault.order.target) == one.name.as_str());
    let code = fault
        .order
        .error
        .as_deref()
        .unwrap_or(if is_of_channel { "rate_limited" } else { "ratelimited" });
    let retry_after = fault.retry_after(met.now);
    let one = if code == "rate_limited" {
        limited.first()
    } else {
        limited.last()
    };
    if let (Some(one), Some(seconds)) = (one, retry_after) {
        state.shut(one, met, seconds);
    }
    too_many(code, retry_after)
}

fn too_many(code: &str, retry_after: Option<u32>) -> Verdict {
    Verdict {
        reply: Reply::json(429, &json!({"ok": false, "error": code})).retry_after(retry_after),
        accepted: false,
        error: Some(code.to_owned()),
    }
}

fn grants(granted: &str, scope: &str) -> bool {
    scope.is_empty() || granted.split(',').any(|granted| granted.trim() == scope)
}

fn is_id(id: &str) -> bool {
    let is_written = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit();
    id.len() > 1 && id.bytes().all(is_written)
}

fn is_member(id: &str) -> bool {
    is_id(id) && id.starts_with(['U', 'W']) && !id.contains("NOPE")
}
