//! The schema registry (Confluent's API): what schema an id stands for.
//!
//! The answer is one of three kinds. A schema, with those it refers to; a denial, which makes the events under that id
//! dead letters; or an error, which is the registry's trouble and not the event's: the caller waits and asks again.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use reqwest::{Client, StatusCode, Url};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::config::SchemaRegistry;
use crate::http_client::{self, ClientError};
use crate::lead::schemas::SchemaId;

/// More than this a schema doesn't refer to, directly or not.
const REFERENCES_MAX: usize = 64;
/// A registry that hangs is as good as one that is down; the caller asks again.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

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
    #[error("the schema registry refuses our credentials, check schema_registry.username and password ({0})")]
    Unauthorized(StatusCode),
    #[error("the schema registry answers {0}")]
    Status(StatusCode),
    #[error("the schema registry's answer can't be read, check that schema_registry.url is one: {0}")]
    Unreadable(#[source] reqwest::Error),
}

impl Registry {
    /// The configured registry, if there is one.
    pub fn of(config: &SchemaRegistry) -> Result<Option<Self>, RegistryError> {
        let Some(url) = &config.url else { return Ok(None) };
        let client = http_client::client(REQUEST_TIMEOUT)?;
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
        let kind = match id {
            SchemaId::Id(_) => "ids",
            SchemaId::Guid(_) => "guids",
        };
        let Some(registered) = self.get::<Registered>(&["schemas", kind, &id.to_string()]).await? else {
            return Ok(Lookup::Denied("the schema registry doesn't know it".into()));
        };
        if let Some(denied) = registered.denied() {
            return Ok(Lookup::Denied(denied));
        }
        self.with_references(registered).await
    }

    /// Fetches what `schema` refers to, and what that refers to.
    async fn with_references(&self, schema: Registered) -> Result<Lookup, RegistryError> {
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
            let Some(found) = self.get::<Registered>(&path).await? else {
                return Ok(Lookup::Denied(format!(
                    "it refers to {subject} version {version}, which isn't there"
                )));
            };
            if let Some(denied) = found.denied() {
                return Ok(Lookup::Denied(format!(
                    "it refers to {subject} version {version}: {denied}"
                )));
            }
            references.push(found.schema);
            waiting.extend(found.references);
            asked.push(reference);
        }
        Ok(Lookup::Schema {
            text: schema.schema,
            references,
        })
    }

    /// `None` where the registry says that there is nothing.
    async fn get<T: DeserializeOwned>(&self, path: &[&str]) -> Result<Option<T>, RegistryError> {
        let mut url = self.url.clone();
        url.path_segments_mut()
            .map_err(|()| RegistryError::Url)?
            .pop_if_empty()
            .extend(path);
        let mut request = self
            .client
            .get(url)
            .timeout(REQUEST_TIMEOUT)
            .header("accept", "application/vnd.schemaregistry.v1+json, application/json");
        if let Some(username) = &self.username {
            request = request.basic_auth(username, self.password.as_ref());
        }
        // Errors lose the URL: it may hold a password.
        let answer = request
            .send()
            .await
            .map_err(|error| RegistryError::Unreachable(error.without_url()))?;
        match answer.status() {
            StatusCode::NOT_FOUND => Ok(None),
            status @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => Err(RegistryError::Unauthorized(status)),
            status if !status.is_success() => Err(RegistryError::Status(status)),
            _ => match answer.json().await {
                Ok(read) => Ok(Some(read)),
                Err(error) => Err(RegistryError::Unreadable(error.without_url())),
            },
        }
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = self.url.host_str().unwrap_or_default();
        f.debug_struct("Registry").field("host", &host).finish_non_exhaustive()
    }
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
    fn denied(&self) -> Option<String> {
        match self.schema_type.as_deref() {
            None | Some("AVRO") => None,
            Some("JSON") => Some("it is a JSON schema, lead events take Avro".into()),
            Some("PROTOBUF") => Some("it is a Protobuf schema, lead events take Avro".into()),
            Some(_) => Some("it is of an unknown type, lead events take Avro".into()),
        }
    }
}

#[derive(Deserialize)]
struct Reference {
    subject: String,
    version: i64,
}

#[cfg(test)]
mod tests;
