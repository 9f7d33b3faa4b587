//! Looks up who a Slack user is (`users.info`), and keeps the answer for an hour. Nobody waits longer than a second
//! for it; an event whose user can't be looked up goes on without.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Map, Value};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::credential::SecretName;
use crate::http_client::{self, ClientError};
use crate::secrets::Secrets;
use crate::slack::{Body, Pace, WebApi, limit_met};

/// So long a request waits for a profile.
const WAIT: Duration = Duration::from_secs(1);
const KEPT: Duration = Duration::from_secs(60 * 60);
/// A look-up that failed isn't repeated sooner.
const KEPT_FAILED: Duration = Duration::from_secs(60);
const USERS_MAX: usize = 10_000;
const ANSWER_WAIT: Duration = Duration::from_secs(5);
/// The characters that are kept of each text of an answer.
const TEXT_KEPT: usize = 500;
/// A longer `Retry-After` means no more to us.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(60 * 60);
/// And so much is waited for where Slack names no time.
const RETRY_AFTER: Duration = Duration::from_secs(30);

/// The users that one token sees.
#[derive(Debug)]
pub(super) struct Users {
    api: WebApi,
    token: SecretName,
    secrets: Secrets,
    kept: Mutex<Kept>,
}

#[derive(Debug)]
struct Kept {
    users: HashMap<String, User>,
    pace: Pace,
    /// When a failure was logged last.
    logged: Option<Instant>,
}

#[derive(Debug)]
struct User {
    until: Instant,
    /// None until Slack has answered; then the profile, where there is one.
    profile: watch::Receiver<Option<Option<Value>>>,
}

/// Why a user isn't known.
#[derive(Debug, PartialEq, Eq)]
enum Unknown {
    Throttled(Duration),
    Failed(String),
}

impl Users {
    pub(super) fn new(api_url: &str, token: &SecretName, secrets: &Secrets) -> Result<Self, ClientError> {
        Ok(Self {
            api: WebApi::new(api_url, http_client::client(ANSWER_WAIT)?),
            token: token.clone(),
            secrets: secrets.clone(),
            kept: Mutex::new(Kept {
                users: HashMap::new(),
                pace: Pace::new(Instant::now()),
                logged: None,
            }),
        })
    }

    /// The profile of a user, where it is known or comes within a second.
    pub(super) async fn profile(self: &Arc<Self>, user: &str) -> Option<Value> {
        let is_id = (1..=32).contains(&user.len()) && user.bytes().all(|byte| byte.is_ascii_alphanumeric());
        if !is_id {
            return None;
        }
        let mut profile = self.asked(user)?;
        let answered = tokio::time::timeout(WAIT, profile.wait_for(Option::is_some)).await;
        answered.ok()?.ok()?.clone().flatten()
    }

    /// Where the answer is or comes; none where nobody may be asked now.
    fn asked(self: &Arc<Self>, user: &str) -> Option<watch::Receiver<Option<Option<Value>>>> {
        let (mut kept, now) = (self.kept(), Instant::now());
        if let Some(known) = kept.users.get(user).filter(|known| known.until > now) {
            return Some(known.profile.clone());
        }
        if !kept.pace.admits(now) {
            return None;
        }
        kept.make_room(now);
        let (answer, profile) = watch::channel(None);
        let known = User {
            until: now + KEPT_FAILED,
            profile: profile.clone(),
        };
        kept.users.insert(user.to_owned(), known);
        let (users, user) = (Arc::clone(self), user.to_owned());
        tokio::spawn(async move {
            let found = users.ask(&user).await;
            answer.send_replace(Some(users.keep(&user, found)));
        });
        Some(profile)
    }

    async fn ask(&self, user: &str) -> Result<Value, Unknown> {
        let token = self.secrets.reveal(self.token.as_str()).await;
        let token = token.map_err(|error| Unknown::Failed(error.to_string()))?;
        let reply = self.api.get("users.info", &token, &[("user", user)]).await;
        let reply = reply.map_err(|unanswered| Unknown::Failed(unanswered.to_string()))?;
        let body = Body::read(&reply);
        if limit_met(&reply, body.as_ref()).is_some() {
            let wait = reply.retry_after.unwrap_or(RETRY_AFTER).min(RETRY_AFTER_MAX);
            return Err(Unknown::Throttled(wait));
        }
        let found = body.as_ref().filter(|body| body.is_ok());
        if let Some(Value::Object(user)) = found.and_then(|body| body.get("user")) {
            return Ok(profile(user));
        }
        // Slack's word for it, which is a plain name; anything else isn't quoted.
        let error = body.as_ref().and_then(|body| body.text("error")).unwrap_or_default();
        let plain = !error.is_empty() && error.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
        let error = if plain { error } else { "an answer of another form" };
        Err(Unknown::Failed(error.to_owned()))
    }

    fn keep(&self, user: &str, found: Result<Value, Unknown>) -> Option<Value> {
        let (mut kept, now) = (self.kept(), Instant::now());
        let failure = match found {
            Ok(profile) => {
                if let Some(known) = kept.users.get_mut(user) {
                    known.until = now + KEPT;
                }
                return Some(profile);
            }
            Err(Unknown::Throttled(wait)) => {
                kept.pace.freeze(now + wait);
                // It is no answer about this user.
                kept.users.remove(user);
                format!("rate limited for {} s", wait.as_secs())
            }
            Err(Unknown::Failed(why)) => why,
        };
        if kept
            .logged
            .is_none_or(|logged| now.duration_since(logged) >= KEPT_FAILED)
        {
            kept.logged = Some(now);
            let secret = self.token.as_str();
            tracing::warn!(secret, "users.info: {failure}; events go on without user_profile");
        }
        None
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn make_room(&mut self, now: Instant) {
        if self.users.len() < USERS_MAX {
            return;
        }
        self.users.retain(|_, user| user.until > now);
        if self.users.len() >= USERS_MAX {
            let soonest = self.users.iter().min_by_key(|(_, user)| user.until);
            if let Some(user) = soonest.map(|(user, _)| user.clone()) {
                self.users.remove(&user);
            }
        }
    }
}

/// What an event's `user_profile` holds: who it is, how to reach them, and their part in the workspace.
fn profile(user: &Map<String, Value>) -> Value {
    let mut found = Map::new();
    let inner = user.get("profile").and_then(Value::as_object);
    let of = |name: &str, places: &[Option<&Map<String, Value>>]| {
        let mut texts = places.iter().filter_map(|place| place.as_ref()?.get(name)?.as_str());
        let text = texts.find(|text| !text.is_empty())?;
        Some(Value::from(text.chars().take(TEXT_KEPT).collect::<String>()))
    };
    for (name, places) in [
        ("id", [Some(user), None]),
        ("name", [Some(user), None]),
        ("real_name", [Some(user), inner]),
        ("display_name", [inner, None]),
        ("email", [inner, None]),
        ("title", [inner, None]),
        ("tz", [Some(user), None]),
    ] {
        if let Some(value) = of(name, &places) {
            found.insert(name.to_owned(), value);
        }
    }
    let is = |name: &str| user.get(name) == Some(&Value::Bool(true));
    let role = match () {
        () if is("is_bot") => "bot",
        () if is("is_owner") => "owner",
        () if is("is_admin") => "admin",
        () if is("is_restricted") || is("is_ultra_restricted") => "guest",
        () => "member",
    };
    found.insert("role".to_owned(), role.into());
    Value::Object(found)
}

#[cfg(test)]
mod tests;
