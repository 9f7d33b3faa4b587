//! The schema registry (Confluent's API): which schema an id stands for.
//!
//! An answer is one of three kinds: a schema, with those it refers to; a denial, which makes dead letters of the
//! events under that id; or an error, which is the registry's trouble and not the event's, so that the caller waits
//! and asks again. [`doubts`] decides when an error is about the id after all.
//!
//! Nobody vouches for the registry's answers. A look-up has one deadline for all of its requests, heads and bodies
//! included; it reads no more than 1 MiB and follows no redirect.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use reqwest::{Client, Response, StatusCode, Url};
use serde::Deserialize;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::config::SchemaRegistry;
use crate::http_client::{self, ClientError};
use crate::lead::schemas::{SchemaId, Schemas};

pub mod doubts;

/// More than this a schema doesn't refer to, directly or not.
const REFERENCES_MAX: usize = 64;
/// The deadline of one look-up, with all that the schema refers to. A registry that hangs or drips is as good as one
/// that is down; the caller asks again.
const LOOK_UP_TIMEOUT: Duration = Duration::from_secs(5);
/// The bytes that all answers of one look-up have together.
const ANSWER_MAX: usize = 1024 * 1024;
/// So many look-ups run at a time.
const AT_ONCE: usize = 16;
/// So many characters of a subject's name are shown.
const SUBJECT_SHOWN: usize = 200;

/// A schema registry.
#[derive(Clone)]
pub struct Registry {
    url: Url,
    username: Option<String>,
    password: Option<String>,
    client: Client,
}

/// The registry's word on an id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lookup {
    /// An Avro schema as JSON, and those it refers to.
    Schema { text: String, references: Vec<String> },
    /// There is none, or none that we read: says why.
    Denied(String),
}

/// The registry didn't answer as one; ask again later.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    #[error("schema_registry.url is no http or https address")]
    Url,
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("the schema registry can't be reached, check schema_registry.url: {0}")]
    Unreachable(#[source] reqwest::Error),
    #[error("the schema registry gave no whole answer within {} s", LOOK_UP_TIMEOUT.as_secs())]
    TimedOut,
    #[error("the schema registry refuses our credentials, check schema_registry.username and password ({0})")]
    Unauthorized(StatusCode),
    #[error("the schema registry answers {0}")]
    Status(StatusCode),
    #[error("the schema registry's answer is larger than {ANSWER_MAX} bytes")]
    TooLarge,
    #[error("the schema registry's answer can't be read, check that schema_registry.url is one: no schema in it")]
    Unreadable,
}

impl Registry {
    /// The configured registry, if there is one.
    pub fn of(config: &SchemaRegistry) -> Result<Option<Self>, RegistryError> {
        let Some(url) = &config.url else { return Ok(None) };
        let client = http_client::client(LOOK_UP_TIMEOUT)?;
        let password = config.password.as_ref().map(|password| password.reveal().to_owned());
        Self::new(url, config.username.clone(), password, client).map(Some)
    }

    /// `url` may hold a path; a user and password inside it count where none are given.
    pub fn new(
        url: &str,
        username: Option<String>,
        password: Option<String>,
        client: Client,
    ) -> Result<Self, RegistryError> {
        let mut url = Url::parse(url).map_err(|_| RegistryError::Url)?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(RegistryError::Url);
        }
        url.set_query(None);
        url.set_fragment(None);
        if username.is_some() {
            url.set_username("").map_err(|()| RegistryError::Url)?;
            url.set_password(None).map_err(|()| RegistryError::Url)?;
        }
        Ok(Self {
            url,
            username,
            password,
            client,
        })
    }

    /// Looks a schema up.
    pub async fn schema(&self, id: SchemaId) -> Result<Lookup, RegistryError> {
        let found = tokio::time::timeout(LOOK_UP_TIMEOUT, self.found(id)).await;
        found.unwrap_or(Err(RegistryError::TimedOut))
    }

    /// Looks several up, a few at a time, and gives each answer to `take` as it comes. It ends within two deadlines of a
    /// single one: what the first leaves no time for isn't asked.
    pub async fn schemas(&self, ids: &[SchemaId], mut take: impl FnMut(SchemaId, Result<Lookup, RegistryError>)) {
        let (started, mut asking) = (Instant::now(), JoinSet::new());
        for &id in ids {
            if asking.len() >= AT_ONCE
                && let Some(Ok((id, answer))) = asking.join_next().await
            {
                take(id, answer);
            }
            if started.elapsed() >= LOOK_UP_TIMEOUT {
                break;
            }
            let registry = self.clone();
            asking.spawn(async move { (id, registry.schema(id).await) });
        }
        while let Some(answered) = asking.join_next().await {
            if let Ok((id, answer)) = answered {
                take(id, answer);
            }
        }
    }

    async fn found(&self, id: SchemaId) -> Result<Lookup, RegistryError> {
        let kind = match id {
            SchemaId::Id(_) => "ids",
            SchemaId::Guid(_) => "guids",
        };
        let mut room = ANSWER_MAX;
        match self.get(&["schemas", kind, &id.to_string()], &mut room).await? {
            Got::Schema(registered) => self.with_references(registered, room).await,
            Got::Denied(denied) => Ok(Lookup::Denied(denied)),
        }
    }

    /// Fetches what `schema` refers to, and what that refers to.
    async fn with_references(&self, schema: Registered, mut room: usize) -> Result<Lookup, RegistryError> {
        let mut waiting = VecDeque::from(schema.references);
        let mut asked: Vec<(String, i64)> = Vec::new();
        let mut references = Vec::new();
        while let Some(Reference { subject, version }) = waiting.pop_front() {
            let reference = (subject, version);
            if asked.contains(&reference) {
                continue;
            }
            if asked.len() >= REFERENCES_MAX {
                return Ok(Lookup::Denied(format!(
                    "it refers to more than {REFERENCES_MAX} schemas"
                )));
            }
            let (subject, version) = &reference;
            let path = ["subjects", subject, "versions", &version.to_string()];
            match self.get(&path, &mut room).await? {
                Got::Schema(found) => {
                    references.push(found.schema);
                    waiting.extend(found.references);
                }
                // A subject's name is the registry's to choose; what stands in a dead letter is bounded.
                Got::Denied(why) => {
                    let subject: String = subject.chars().take(SUBJECT_SHOWN).collect();
                    return Ok(Lookup::Denied(format!(
                        "it refers to {subject} version {version}: {why}"
                    )));
                }
            }
            asked.push(reference);
        }
        Ok(Lookup::Schema {
            text: schema.schema,
            references,
        })
    }

    /// Whether it answers as a registry does, and takes our credentials. Whatever its first schema is, it may have none.
    pub async fn look(&self) -> Result<(), RegistryError> {
        let asked = async {
            let answer = self.ask(&["schemas", "ids", "1"]).await?;
            let is_missing = answer.status() == StatusCode::NOT_FOUND;
            let mut room = ANSWER_MAX;
            let body = whole(answer, &mut room).await?;
            let said: serde_json::Value = serde_json::from_slice(&body).map_err(|_| RegistryError::Unreadable)?;
            let wanted = if is_missing { "error_code" } else { "schema" };
            said.get(wanted).map(|_| ()).ok_or(RegistryError::Unreadable)
        };
        let looked = tokio::time::timeout(LOOK_UP_TIMEOUT, asked).await;
        looked.unwrap_or(Err(RegistryError::TimedOut))
    }

    /// Asks for one schema; its answer takes up `room`.
    async fn get(&self, path: &[&str], room: &mut usize) -> Result<Got, RegistryError> {
        let answer = self.ask(path).await?;
        match answer.status() {
            StatusCode::NOT_FOUND => return Ok(Got::Denied("the schema registry doesn't know it".into())),
            status if status.is_client_error() => {
                return Ok(Got::Denied(format!("the schema registry refuses it ({status})")));
            }
            _ => {}
        }
        let body = whole(answer, room).await?;
        let registered: Registered = serde_json::from_slice(&body).map_err(|_| RegistryError::Unreadable)?;
        Ok(match registered.denied() {
            Some(denied) => Got::Denied(denied.into()),
            None => Got::Schema(registered),
        })
    }

    /// Asks, and gives the answer where that is the registry's word on what was asked.
    async fn ask(&self, path: &[&str]) -> Result<Response, RegistryError> {
        let mut url = self.url.clone();
        url.path_segments_mut()
            .map_err(|()| RegistryError::Url)?
            .pop_if_empty()
            .extend(path);
        let mut request = self
            .client
            .get(url)
            .header("accept", "application/vnd.schemaregistry.v1+json, application/json");
        if let Some(username) = &self.username {
            request = request.basic_auth(username, self.password.as_ref());
        }
        let answer = request.send().await.map_err(unreachable)?;
        match answer.status() {
            status if status.is_success() => Ok(answer),
            status @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => Err(RegistryError::Unauthorized(status)),
            // The error is about us and about now, not about the id.
            status @ (StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS) => {
                Err(RegistryError::Status(status))
            }
            status if status.is_client_error() => Ok(answer),
            status => Err(RegistryError::Status(status)),
        }
    }
}

/// Errors lose the URL: it may hold a password.
fn unreachable(error: reqwest::Error) -> RegistryError {
    RegistryError::Unreachable(error.without_url())
}

/// An answer's body, which takes up `room`.
async fn whole(mut answer: Response, room: &mut usize) -> Result<Vec<u8>, RegistryError> {
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(unreachable)? {
        *room = room.checked_sub(chunk.len()).ok_or(RegistryError::TooLarge)?;
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = self.url.host_str().unwrap_or_default();
        f.debug_struct("Registry").field("host", &host).finish_non_exhaustive()
    }
}

/// What one question gives.
enum Got {
    Schema(Registered),
    /// There is none, or none that we read: says why.
    Denied(String),
}

/// A schema as the registry answers it.
#[derive(Deserialize)]
struct Registered {
    schema: String,
    /// Absent for Avro.
    #[serde(rename = "schemaType")]
    schema_type: Option<String>,
    #[serde(default)]
    references: Vec<Reference>,
}

impl Registered {
    fn denied(&self) -> Option<&'static str> {
        match self.schema_type.as_deref() {
            None | Some("AVRO") => None,
            Some("JSON") => Some("it is a JSON schema, lead events take Avro"),
            Some("PROTOBUF") => Some("it is a Protobuf schema, lead events take Avro"),
            Some(_) => Some("it is of an unknown type, lead events take Avro"),
        }
    }
}

#[derive(Deserialize)]
struct Reference {
    subject: String,
    version: i64,
}

/// Asks the registry of the configuration for one schema, and tells `schemas` its answer. Without a registry the id is
/// denied.
pub async fn look_up(config: &SchemaRegistry, id: SchemaId, schemas: &mut Schemas) -> Result<(), RegistryError> {
    match Registry::of(config)? {
        None => schemas.deny(id, "no schema registry is configured; set schema_registry.url"),
        Some(registry) => match registry.schema(id).await? {
            Lookup::Schema { text, references } => schemas.learn(id, &text, &references),
            Lookup::Denied(detail) => schemas.deny(id, detail),
        },
    }
    Ok(())
}

#[cfg(test)]
mod tests;
