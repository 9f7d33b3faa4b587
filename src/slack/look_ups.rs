//! Looks up who a Slack user is (`users.info`) and what a channel is called (`conversations.info`), and keeps the answer
//! for an hour. Nobody waits longer than a second for it, and whoever asks goes on without.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Map, Value};
use tokio::sync::watch;
use tokio::time::Instant;

use super::{Body, Pace, WebApi, limit_met};
use crate::credential::SecretName;
use crate::http_client::{self, ClientError};
use crate::secrets::Secrets;

/// So long a request waits for a profile.
const WAIT: Duration = Duration::from_secs(1);
const KEPT: Duration = Duration::from_secs(60 * 60);
/// A look-up that failed isn't repeated sooner.
const KEPT_FAILED: Duration = Duration::from_secs(60);
const KEPT_MAX: usize = 10_000;
const ANSWER_WAIT: Duration = Duration::from_secs(5);
/// The characters that are kept of each text of an answer.
const TEXT_KEPT: usize = 500;
/// A longer `Retry-After` means no more to us.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(60 * 60);
/// And so much is waited for where Slack names no time.
const RETRY_AFTER: Duration = Duration::from_secs(30);

/// What is looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    User,
    Channel,
}

impl Kind {
    /// The method that knows it, and what its argument and its answer are called.
    fn method(self) -> (&'static str, &'static str) {
        match self {
            Self::User => ("users.info", "user"),
            Self::Channel => ("conversations.info", "channel"),
        }
    }
}

/// What came of a look-up: what is kept of the answer, or Slack's word for why there is none.
pub type Answer = Result<Value, String>;

/// The users and channels that one token sees.
#[derive(Debug)]
pub struct LookUps {
    api: WebApi,
    token: SecretName,
    secrets: Secrets,
    /// What goes on without an answer, for the log.
    goes_on: &'static str,
    kept: Mutex<Kept>,
}

#[derive(Debug)]
struct Kept {
    answers: HashMap<(Kind, String), Asked>,
    pace: Pace,
    /// When a failure was logged last.
    logged: Option<Instant>,
}

#[derive(Debug)]
struct Asked {
    until: Instant,
    /// None until Slack has answered.
    answer: watch::Receiver<Option<Answer>>,
}

/// Why nothing is known.
#[derive(Debug, PartialEq, Eq)]
enum Unknown {
    Throttled(Duration),
    Failed(String),
}

impl LookUps {
    pub fn new(
        api_url: &str,
        token: &SecretName,
        secrets: &Secrets,
        goes_on: &'static str,
    ) -> Result<Self, ClientError> {
        Ok(Self {
            api: WebApi::new(api_url, http_client::client(ANSWER_WAIT)?),
            token: token.clone(),
            secrets: secrets.clone(),
            goes_on,
            kept: Mutex::new(Kept {
                answers: HashMap::new(),
                pace: Pace::new(Instant::now()),
                logged: None,
            }),
        })
    }

    /// What is known of an id, or comes within a second. Needs tokio's runtime.
    pub async fn get(self: &Arc<Self>, kind: Kind, id: &str) -> Option<Answer> {
        let is_id = (1..=32).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_alphanumeric());
        if !is_id {
            return None;
        }
        let mut answer = self.asked(kind, id)?;
        let answered = tokio::time::timeout(WAIT, answer.wait_for(Option::is_some)).await;
        answered.ok()?.ok()?.clone()
    }

    /// What is known of an id already. Nobody is asked.
    pub fn known(&self, kind: Kind, id: &str) -> Option<Answer> {
        let (kept, now) = (self.kept(), Instant::now());
        let known = kept.answers.get(&(kind, id.to_owned()));
        let answer = known.filter(|known| known.until > now)?.answer.borrow();
        answer.clone()
    }

    /// Where the answer is or comes; none where nobody may be asked now.
    fn asked(self: &Arc<Self>, kind: Kind, id: &str) -> Option<watch::Receiver<Option<Answer>>> {
        let (mut kept, now, key) = (self.kept(), Instant::now(), (kind, id.to_owned()));
        if let Some(known) = kept.answers.get(&key).filter(|known| known.until > now) {
            return Some(known.answer.clone());
        }
        if !kept.pace.admits(now) {
            return None;
        }
        kept.make_room(now);
        let (given, answer) = watch::channel(None);
        let asked = Asked {
            until: now + KEPT_FAILED,
            answer: answer.clone(),
        };
        kept.answers.insert(key.clone(), asked);
        let look_ups = Arc::clone(self);
        tokio::spawn(async move {
            let found = look_ups.ask(kind, &key.1).await;
            given.send_replace(Some(look_ups.keep(&key, found)));
        });
        Some(answer)
    }

    async fn ask(&self, kind: Kind, id: &str) -> Result<Value, Unknown> {
        let token = self.secrets.reveal(self.token.as_str()).await;
        let token = token.map_err(|error| Unknown::Failed(error.to_string()))?;
        let (method, name) = kind.method();
        let reply = self.api.get(method, &token, &[(name, id)]).await;
        let reply = reply.map_err(|unanswered| Unknown::Failed(unanswered.to_string()))?;
        let body = Body::read(&reply);
        if limit_met(&reply, body.as_ref()).is_some() {
            let wait = reply.retry_after.unwrap_or(RETRY_AFTER).min(RETRY_AFTER_MAX);
            return Err(Unknown::Throttled(wait));
        }
        let found = body.as_ref().filter(|body| body.is_ok());
        if let Some(Value::Object(found)) = found.and_then(|body| body.get(name)) {
            return Ok(match kind {
                Kind::User => profile(found),
                Kind::Channel => Value::Object(kept_of(&["id", "name"], &[Some(found)])),
            });
        }
        // Slack's word for it, which is a plain name; anything else isn't quoted.
        let error = body.as_ref().and_then(|body| body.text("error")).unwrap_or_default();
        let plain = !error.is_empty() && error.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
        let error = if plain { error } else { "an answer of another form" };
        Err(Unknown::Failed(error.to_owned()))
    }

    fn keep(&self, key: &(Kind, String), found: Result<Value, Unknown>) -> Answer {
        let (mut kept, now) = (self.kept(), Instant::now());
        let failure = match found {
            Ok(found) => {
                if let Some(known) = kept.answers.get_mut(key) {
                    known.until = now + KEPT;
                }
                return Ok(found);
            }
            Err(Unknown::Throttled(wait)) => {
                kept.pace.freeze(now + wait);
                // It is no answer about this id.
                kept.answers.remove(key);
                format!("rate limited for {} s", wait.as_secs())
            }
            Err(Unknown::Failed(why)) => why,
        };
        if kept
            .logged
            .is_none_or(|logged| now.duration_since(logged) >= KEPT_FAILED)
        {
            kept.logged = Some(now);
            let (secret, (method, _)) = (self.token.as_str(), key.0.method());
            tracing::warn!(secret, "{method}: {failure}; {}", self.goes_on);
        }
        Err(failure)
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn make_room(&mut self, now: Instant) {
        if self.answers.len() < KEPT_MAX {
            return;
        }
        self.answers.retain(|_, asked| asked.until > now);
        if self.answers.len() >= KEPT_MAX {
            let soonest = self.answers.iter().min_by_key(|(_, asked)| asked.until);
            if let Some(key) = soonest.map(|(key, _)| key.clone()) {
                self.answers.remove(&key);
            }
        }
    }
}

/// What an event's `user_profile` holds: who it is, how to reach them, and their part in the workspace.
fn profile(user: &Map<String, Value>) -> Value {
    let inner = user.get("profile").and_then(Value::as_object);
    let mut found = kept_of(&["id", "name", "tz"], &[Some(user)]);
    found.extend(kept_of(&["real_name"], &[Some(user), inner]));
    found.extend(kept_of(&["display_name", "email", "title"], &[inner]));
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

/// The texts of these names, each of the first place that has one, in bounds.
fn kept_of(names: &[&str], places: &[Option<&Map<String, Value>>]) -> Map<String, Value> {
    let text = |name: &str| {
        let mut texts = places.iter().filter_map(|place| place.as_ref()?.get(name)?.as_str());
        let text = texts.find(|text| !text.is_empty())?;
        Some(Value::from(text.chars().take(TEXT_KEPT).collect::<String>()))
    };
    let named = names.iter().map(|name| ((*name).to_owned(), text(name)));
    named.filter_map(|(name, text)| Some((name, text?))).collect()
}

#[cfg(test)]
mod tests;
