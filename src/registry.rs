//! The schema registry: Confluent's API, as Apicurio and Karapace speak it too.
//!
//! A registry that is down, or that answers what can't be read, is a passing trouble: the batch
//! waits. Only its own word that a schema doesn't exist (or is of another kind) denies an id.

use reqwest::{Client, StatusCode};
use serde::Deserialize;

use crate::config::SchemaRegistry;
use crate::lead::decode::SchemaId;

/// What the registry knows of an id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lookup {
    /// An Avro schema, as JSON.
    Schema(String),
    /// There is none, or it is not one that can be read; says why.
    Denied(String),
}

/// A passing trouble.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the schema registry {0}")]
pub struct RegistryError(String);

#[derive(Debug)]
pub struct Registry {
    config: SchemaRegistry,
    client: Client,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    schema: String,
    schema_type: Option<String>,
    #[serde(default)]
    references: Vec<serde_json::Value>,
}

impl Registry {
    pub fn new(config: &SchemaRegistry) -> Result<Self, reqwest::Error> {
        let client = Client::builder()
            .timeout(std::time::Duration::from_secs(5))
            .redirect(reqwest::redirect::Policy::none())
            .build()?;
        Ok(Self {
            config: config.clone(),
            client,
        })
    }

    pub async fn schema(&self, id: SchemaId) -> Result<Lookup, RegistryError> {
        let Some(url) = &self.config.url else {
            return Ok(Lookup::Denied(
                "no schema registry is configured; set schema_registry.url".to_owned(),
            ));
        };
        let path = match id {
            SchemaId::Id(id) => format!("schemas/ids/{id}"),
            SchemaId::Guid(guid) => format!("schemas/guids/{guid}"),
        };
        let mut request = self.client.get(format!("{}/{path}", url.trim_end_matches('/')));
        if let Some(username) = &self.config.username {
            request = request.basic_auth(
                username,
                self.config.password.as_ref().map(|password| password.reveal()),
            );
        }
        // The error's own text would name the URL, which may hold a password.
        let response = request.send().await.map_err(|error| {
            let kind = if error.is_timeout() {
                "does not answer in time"
            } else {
                "can't be reached"
            };
            RegistryError(kind.to_owned())
        })?;
        match response.status() {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => return Ok(Lookup::Denied("the registry has no such schema".to_owned())),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                return Err(RegistryError(
                    "refuses our log-in; check schema_registry.username and password".to_owned(),
                ));
            }
            status => return Err(RegistryError(format!("answers {status}"))),
        }
        let answer: Answer = response
            .json()
            .await
            .map_err(|_| RegistryError("answers something that is no schema".to_owned()))?;
        Ok(match answer.schema_type.as_deref() {
            None | Some("AVRO") if answer.references.is_empty() => Lookup::Schema(answer.schema),
            None | Some("AVRO") => {
                Lookup::Denied("the schema refers to other subjects, which is not supported".to_owned())
            }
            Some(other) => Lookup::Denied(format!("the schema is of type {other}, not AVRO")),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::Router;
    use axum::http::HeaderMap;
    use axum::routing::get;

    async fn registry(path: &str) -> Registry {
        let router = Router::new()
            .route("/api/schemas/ids/1", get(async || r#"{"schema":"\"string\""}"#))
            .route(
                "/api/schemas/ids/2",
                get(async || r#"{"schema":"x","schemaType":"PROTOBUF"}"#),
            )
            .route(
                "/api/schemas/ids/3",
                get(async || (StatusCode::INTERNAL_SERVER_ERROR, "down")),
            )
            .route("/api/schemas/ids/4", get(async || "<html>"))
            .route(
                "/api/schemas/ids/5",
                get(async |headers: HeaderMap| match headers.contains_key("authorization") {
                    true => (StatusCode::OK, r#"{"schema":"\"int\"","schemaType":"AVRO"}"#),
                    false => (StatusCode::UNAUTHORIZED, ""),
                }),
            );
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}{path}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Registry::new(&SchemaRegistry {
            url: Some(url),
            ..SchemaRegistry::default()
        })
        .unwrap()
    }

    #[tokio::test]
    async fn answers_are_told_from_troubles() {
        let registry = registry("/api/").await;
        let of = async |id| registry.schema(SchemaId::Id(id)).await;
        assert_eq!(of(1).await, Ok(Lookup::Schema("\"string\"".into())));
        assert!(matches!(of(2).await, Ok(Lookup::Denied(why)) if why.contains("PROTOBUF")));
        assert!(of(3).await.is_err(), "a registry in trouble denies nothing");
        assert!(of(4).await.is_err());
        assert!(of(5).await.unwrap_err().to_string().contains("log-in"));
        assert!(matches!(of(6).await, Ok(Lookup::Denied(_))), "404 denies");
    }

    #[tokio::test]
    async fn a_registry_that_is_away_denies_nothing() {
        let config = SchemaRegistry {
            url: Some("http://user:hunter2@127.0.0.1:1".into()),
            ..SchemaRegistry::default()
        };
        let error = Registry::new(&config)
            .unwrap()
            .schema(SchemaId::Id(1))
            .await
            .unwrap_err()
            .to_string();
        assert!(!error.contains("hunter2"), "{error}");
    }
}
