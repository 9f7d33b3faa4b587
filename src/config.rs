//! The configuration: built-in defaults, then the file, then `LEADLANE__A__B=value`.
//!
//! Everything is read into types that cannot be invalid, so that nobody downstream checks again.
//! Every refusal names the file or variable, the key and the cure. The shipped
//! `config/leadlane.yaml` states each default; a test holds the two together.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use crate::dates;
use crate::delivery::limit::Rate;
use crate::secrets::{Secret, SecretRef};

/// Where the file is looked for when `--config` isn't given.
pub const DEFAULT_FILE: &str = "config/leadlane.yaml";

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    pub kafka: Kafka,
    pub topics: Topics,
    pub schema_registry: SchemaRegistry,
    pub processor: Processor,
    pub sender: Sender,
    pub slack: Slack,
    pub clevertap: Clevertap,
    pub secrets: Secrets,
    pub admin: Admin,
    pub metrics: Metrics,
    pub log: Log,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Kafka {
    /// Bootstrap servers, `host:port,host:port`.
    pub brokers: String,
    /// The consumer group of the events; `<group>-sender` reads the jobs.
    pub group: String,
    /// librdkafka properties of every client; `consumer_properties` and `producer_properties` of one kind.
    pub properties: Properties,
    pub consumer_properties: Properties,
    pub producer_properties: Properties,
}

/// librdkafka properties; what may be a secret is masked when printed.
#[derive(Clone, Default)]
pub struct Properties(pub BTreeMap<String, String>);

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Topics {
    pub events: String,
    pub rules: String,
    pub jobs: String,
    pub outcomes: String,
    pub dead_letters: String,
    pub audit: String,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SchemaRegistry {
    pub url: Option<String>,
    pub username: Option<String>,
    pub password: Option<Secret>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Processor {
    pub workers: usize,
    /// Part of the `transactional.id`; the hostname when null.
    pub instance: Option<String>,
    pub start: Start,
    #[serde(with = "duration")]
    pub commit_interval: Duration,
    pub batch_events_max: usize,
}

/// Where reading starts without a committed offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Start {
    Earliest,
    Latest,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sender {
    /// Requests in flight, per process.
    pub in_flight_max: usize,
    #[serde(with = "duration")]
    pub request_timeout: Duration,
    #[serde(with = "duration")]
    pub shutdown_timeout: Duration,
    #[serde(with = "duration")]
    pub dedup_window: Duration,
    pub dedup_ids_max: usize,
    #[serde(with = "duration")]
    pub job_age_max: Duration,
    #[serde(with = "bytes")]
    pub payload_bytes_max: usize,
    pub retry: Retry,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Retry {
    #[serde(with = "duration")]
    pub initial: Duration,
    #[serde(with = "duration")]
    pub max: Duration,
    #[serde(with = "duration")]
    pub step_aside: Duration,
    #[serde(with = "duration")]
    pub give_up_after: Duration,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Slack {
    pub api_url: String,
    pub channel_rate: Rate,
    pub workspace_rate: Rate,
    pub webhook_rate: Rate,
    pub webhook_hosts: Vec<String>,
    /// Join a public channel once when it answers `not_in_channel`.
    pub join: bool,
    pub limits: Vec<SlackLimit>,
}

/// A limit of one credential, or of one of its channels.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SlackLimit {
    pub credential: String,
    #[serde(default)]
    pub channel: Option<String>,
    pub rate: Rate,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Clevertap {
    pub batch_max: usize,
    #[serde(with = "duration")]
    pub batch_wait: Duration,
    pub accounts: BTreeMap<String, Account>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Account {
    pub region: String,
    pub account_id: String,
    pub passcode: SecretRef,
    /// Upload requests in flight at once.
    #[serde(default = "account_concurrency")]
    pub concurrency: usize,
    #[serde(default)]
    pub api_url: Option<String>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Secrets {
    /// A folder with one file per secret.
    pub dir: Option<PathBuf>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Admin {
    pub listen: SocketAddr,
    pub tokens: Vec<Secret>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Metrics {
    /// So many rules get a label of their own in `rule_matches_total`; the rest is `other`.
    pub rules_max: usize,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    pub format: LogFormat,
    /// A level, or `target=level` pairs by comma.
    pub level: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    Text,
    Json,
}

/// Why a configuration is refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("{file}: can't be read: {source}; create it, or leave --config out for the built-in defaults")]
    Unreadable { file: String, source: std::io::Error },
    #[error("{file}: {message}")]
    Syntax { file: String, message: String },
    #[error("{place}: {key}: {message}")]
    Invalid {
        place: String,
        key: String,
        message: String,
    },
}

impl Config {
    /// Reads `file` (or the default file where it exists, or nothing), then the environment.
    pub fn load(file: Option<&Path>) -> Result<Self, ConfigError> {
        let default = Path::new(DEFAULT_FILE);
        let file = file.or_else(|| default.exists().then_some(default));
        let text = match file {
            None => String::new(),
            Some(file) => std::fs::read_to_string(file).map_err(|source| ConfigError::Unreadable {
                file: file.display().to_string(),
                source,
            })?,
        };
        let place = file.map_or("the built-in configuration".to_owned(), |file| {
            file.display().to_string()
        });
        Self::parse(&place, &text, std::env::vars())
    }

    /// The configuration that `text` (YAML) and `variables` make together.
    pub fn parse(
        place: &str,
        text: &str,
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let syntax = |message: String| ConfigError::Syntax {
            file: place.to_owned(),
            message,
        };
        let mut documents = crate::yaml::documents(text).map_err(|error| syntax(error.to_string()))?;
        if documents.len() > 1 {
            return Err(syntax(format!(
                "line {}: a configuration is one YAML document",
                documents[1].line
            )));
        }
        let mut root = match documents.pop().map(|document| document.value) {
            None | Some(Value::Null) => Value::Object(serde_json::Map::new()),
            Some(map @ Value::Object(_)) => map,
            Some(_) => {
                return Err(syntax(
                    "a configuration is a map of keys, such as kafka: {brokers: HOST:9092}".into(),
                ));
            }
        };
        drop_nulls(&mut root);
        // The file alone first, so that an error in it isn't blamed on a variable.
        read(place, &root)?;
        let mut place = place.to_owned();
        for (name, value) in variables {
            if let Some(path) = name.strip_prefix("LEADLANE__") {
                overlay(&mut root, &name, path, &value)?;
                read(&name, &root)?;
                place = format!("{place} with the variables LEADLANE__*");
            }
        }
        let config = read(&place, &root)?;
        config.check(&place)?;
        Ok(config)
    }

    fn check(&self, place: &str) -> Result<(), ConfigError> {
        let refuse = |key: &str, message: String| {
            Err(ConfigError::Invalid {
                place: place.to_owned(),
                key: key.to_owned(),
                message,
            })
        };
        for (key, properties) in [
            ("kafka.properties", &self.kafka.properties),
            ("kafka.consumer_properties", &self.kafka.consumer_properties),
            ("kafka.producer_properties", &self.kafka.producer_properties),
        ] {
            for name in properties.0.keys() {
                if let Some(cure) = reserved(name) {
                    return refuse(key, format!("{name} can't be set here: {cure}"));
                }
            }
        }
        if self.kafka.brokers.trim().is_empty() {
            return refuse("kafka.brokers", "is empty; name at least one HOST:PORT".into());
        }
        let positive = [
            ("processor.workers", self.processor.workers),
            ("processor.batch_events_max", self.processor.batch_events_max),
            ("sender.in_flight_max", self.sender.in_flight_max),
            ("clevertap.batch_max", self.clevertap.batch_max),
        ];
        if let Some((key, _)) = positive.iter().find(|(_, value)| *value == 0) {
            return refuse(key, "must be 1 or more".into());
        }
        if self.clevertap.batch_max > 1000 {
            return refuse(
                "clevertap.batch_max",
                format!(
                    "{} is more than CleverTap takes in one request, 1000",
                    self.clevertap.batch_max
                ),
            );
        }
        if self.sender.retry.initial > self.sender.retry.max {
            return refuse("sender.retry.initial", "is longer than sender.retry.max".into());
        }
        if self.sender.request_timeout >= self.sender.shutdown_timeout {
            return refuse(
                "sender.request_timeout",
                format!(
                    "{} must be shorter than sender.shutdown_timeout, {}, so that a clean stop can wait for answers",
                    dates::duration_text(self.sender.request_timeout),
                    dates::duration_text(self.sender.shutdown_timeout)
                ),
            );
        }
        if self.processor.commit_interval >= Duration::from_secs(5) {
            return refuse(
                "processor.commit_interval",
                "must be under 5s, half of the transaction's time-out".into(),
            );
        }
        if self.admin.tokens.is_empty() && !self.admin.listen.ip().is_loopback() {
            return refuse(
                "admin.listen",
                format!(
                    "{} is not a loopback address, so admin.tokens must hold a token or more",
                    self.admin.listen
                ),
            );
        }
        if let Some(url) = &self.schema_registry.url
            && let Err(message) = plain_url(url)
        {
            return refuse("schema_registry.url", message);
        }
        if let Err(message) = safe_url(&self.slack.api_url) {
            return refuse("slack.api_url", message);
        }
        for limit in &self.slack.limits {
            if !limit.credential.starts_with("slack:") && !limit.credential.starts_with("webhook:") {
                return refuse(
                    "slack.limits.credential",
                    "must be slack:NAME or webhook:NAME, by the secret's name".into(),
                );
            }
        }
        for (name, account) in &self.clevertap.accounts {
            let key = |field: &str| format!("clevertap.accounts.{name}.{field}");
            if account.concurrency == 0 {
                return refuse(&key("concurrency"), "must be 1 or more".into());
            }
            if let Err(message) = safe_url(&account.url()) {
                return refuse(
                    &key(if account.api_url.is_some() { "api_url" } else { "region" }),
                    message,
                );
            }
        }
        Ok(())
    }

    /// The effective configuration as YAML-compatible JSON, secrets masked.
    pub fn to_json(&self) -> Value {
        serde_json::to_value(self).expect("every field serializes")
    }
}

impl Account {
    /// The base URL of the account's API: `api_url`, or the region's host.
    pub fn url(&self) -> String {
        match (&self.api_url, self.region.as_str()) {
            (Some(url), _) => url.trim_end_matches('/').to_owned(),
            (None, "" | "eu" | "eu1") => "https://api.clevertap.com".to_owned(),
            (None, region) => format!("https://{region}.api.clevertap.com"),
        }
    }
}

fn account_concurrency() -> usize {
    15
}

/// What our promises rest on, and what each is set by instead.
fn reserved(property: &str) -> Option<&'static str> {
    Some(match property {
        "isolation.level" => "readers of transactions must read committed",
        "transactional.id" => "it is made from processor.instance",
        "acks" | "request.required.acks" => "a record counts when all in-sync replicas have it",
        "enable.idempotence" => "retries must not write a record twice",
        "group.id" => "set kafka.group",
        "bootstrap.servers" | "metadata.broker.list" => "set kafka.brokers",
        "auto.offset.reset" => "set processor.start",
        "partitioner" => "records are partitioned as Java clients do",
        name if name.starts_with("enable.auto.") => "offsets are committed with the work that they stand for",
        _ => return None,
    })
}

fn read(place: &str, root: &Value) -> Result<Config, ConfigError> {
    serde_path_to_error::deserialize(root).map_err(|error| {
        let key = error.path().to_string();
        ConfigError::Invalid {
            place: place.to_owned(),
            key,
            message: error.into_inner().to_string(),
        }
    })
}

/// `key: null` (or a section with nothing in it) means the default.
fn drop_nulls(value: &mut Value) {
    if let Value::Object(map) = value {
        map.retain(|_, value| !value.is_null());
        map.values_mut().for_each(drop_nulls);
    }
}

fn overlay(root: &mut Value, variable: &str, path: &str, text: &str) -> Result<(), ConfigError> {
    let invalid = |message: String| ConfigError::Invalid {
        place: variable.to_owned(),
        key: path.to_lowercase(),
        message,
    };
    let value = match crate::yaml::documents(text) {
        // A text such as `host:9092,host:9093` or `a: b` is only a map where it is written as one.
        Ok(mut documents) if documents.len() == 1 => match documents.remove(0).value {
            Value::Object(_) if !text.trim_start().starts_with('{') => Value::String(text.to_owned()),
            value => value,
        },
        _ => Value::String(text.to_owned()),
    };
    let names: Vec<String> = path.split("__").map(str::to_lowercase).collect();
    if names.iter().any(String::is_empty) {
        return Err(invalid("name the key as LEADLANE__SECTION__KEY".into()));
    }
    let mut at = root;
    for (depth, name) in names.iter().enumerate() {
        let map = match at {
            Value::Object(map) => map,
            _ => return Err(invalid(format!("{} is no section", names[..depth].join(".")))),
        };
        // librdkafka's names have dots, which a variable's name can't have.
        let in_properties = depth == 2 && names[0] == "kafka" && names[1].ends_with("properties");
        let name = if in_properties {
            name.replace('_', ".")
        } else {
            name.clone()
        };
        if depth + 1 == names.len() {
            if value.is_null() {
                map.remove(&name);
            } else {
                map.insert(name, value);
            }
            return Ok(());
        }
        at = map.entry(name).or_insert_with(|| Value::Object(serde_json::Map::new()));
    }
    Ok(())
}

/// An `http` or `https` URL with a host.
fn plain_url(text: &str) -> Result<reqwest::Url, String> {
    let url = reqwest::Url::parse(text).map_err(|error| format!("is no URL: {error}"))?;
    match (url.scheme(), url.host()) {
        ("http" | "https", Some(_)) => Ok(url),
        _ => Err("must be an http or https URL with a host".into()),
    }
}

/// A URL that a credential may be sent to: by https, unless the host is a loopback address.
pub fn safe_url(text: &str) -> Result<reqwest::Url, String> {
    let url = plain_url(text)?;
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    let loopback = host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
    if url.scheme() == "https" || loopback {
        return Ok(url);
    }
    Err("must be https, unless its host is a loopback address".into())
}

impl Default for Kafka {
    fn default() -> Self {
        Self {
            brokers: "127.0.0.1:9092".into(),
            group: "leadlane".into(),
            properties: Properties::default(),
            consumer_properties: Properties::default(),
            producer_properties: Properties::default(),
        }
    }
}

impl Default for Topics {
    fn default() -> Self {
        Self {
            events: "lead-events".into(),
            rules: "tracking-rules".into(),
            jobs: "delivery-jobs".into(),
            outcomes: "delivery-outcomes".into(),
            dead_letters: "dead-letters".into(),
            audit: "rule-audit".into(),
        }
    }
}

impl Default for Processor {
    fn default() -> Self {
        Self {
            workers: 1,
            instance: None,
            start: Start::Earliest,
            commit_interval: Duration::from_millis(50),
            batch_events_max: 50_000,
        }
    }
}

impl Default for Sender {
    fn default() -> Self {
        Self {
            in_flight_max: 256,
            request_timeout: Duration::from_secs(10),
            shutdown_timeout: Duration::from_secs(20),
            dedup_window: Duration::from_secs(24 * 3600),
            dedup_ids_max: 2_000_000,
            job_age_max: Duration::from_secs(72 * 3600),
            payload_bytes_max: 64 * 1024 * 1024,
            retry: Retry::default(),
        }
    }
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            initial: Duration::from_secs(1),
            max: Duration::from_secs(600),
            step_aside: Duration::from_secs(600),
            give_up_after: Duration::from_secs(24 * 3600),
        }
    }
}

impl Default for Slack {
    fn default() -> Self {
        Self {
            api_url: "https://slack.com/api".into(),
            channel_rate: Rate::per_second(1),
            workspace_rate: Rate::per_minute(300),
            webhook_rate: Rate::per_second(1),
            webhook_hosts: vec!["hooks.slack.com".into()],
            join: true,
            limits: Vec::new(),
        }
    }
}

impl Default for Clevertap {
    fn default() -> Self {
        Self {
            batch_max: 1000,
            batch_wait: Duration::from_millis(200),
            accounts: BTreeMap::new(),
        }
    }
}

impl Default for Admin {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            tokens: Vec::new(),
        }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self { rules_max: 1000 }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self {
            format: LogFormat::Text,
            level: "info".into(),
        }
    }
}

impl std::fmt::Debug for Properties {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map().entries(self.masked()).finish()
    }
}

impl Properties {
    fn masked(&self) -> impl Iterator<Item = (&str, &str)> {
        let secret = |name: &str| {
            ["password", "secret", ".pem", "jaas", "oauthbearer.config"]
                .iter()
                .any(|word| name.contains(word))
        };
        self.0
            .iter()
            .map(move |(name, value)| (name.as_str(), if secret(name) { "***" } else { value.as_str() }))
    }
}

impl Serialize for Properties {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.masked())
    }
}

impl<'de> Deserialize<'de> for Properties {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let map = BTreeMap::<String, Value>::deserialize(deserializer)?;
        let text = |value: Value| match value {
            Value::String(text) => text,
            other => other.to_string(),
        };
        Ok(Self(map.into_iter().map(|(name, value)| (name, text(value))).collect()))
    }
}

mod duration {
    use super::*;

    pub(super) fn serialize<S: Serializer>(value: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&dates::duration_text(*value))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        let text = match Value::deserialize(deserializer)? {
            Value::String(text) => text,
            other => other.to_string(),
        };
        dates::duration(&text).map_err(serde::de::Error::custom)
    }
}

mod bytes {
    use super::*;

    const UNITS: [(&str, usize); 6] = [
        ("KiB", 1 << 10),
        ("MiB", 1 << 20),
        ("GiB", 1 << 30),
        ("kB", 1_000),
        ("MB", 1_000_000),
        ("GB", 1_000_000_000),
    ];

    pub(super) fn serialize<S: Serializer>(value: &usize, serializer: S) -> Result<S::Ok, S::Error> {
        let whole = UNITS[..3]
            .iter()
            .rev()
            .find(|(_, size)| *value > 0 && value.is_multiple_of(*size));
        serializer.serialize_str(&whole.map_or(format!("{value}"), |(unit, size)| format!("{}{unit}", value / size)))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
        let text = match Value::deserialize(deserializer)? {
            Value::String(text) => text,
            other => other.to_string(),
        };
        let (digits, size) = UNITS
            .iter()
            .find_map(|(unit, size)| Some((text.strip_suffix(unit)?, *size)))
            .unwrap_or((&text, 1));
        digits
            .trim()
            .parse::<usize>()
            .ok()
            .and_then(|count| count.checked_mul(size))
            .ok_or_else(|| serde::de::Error::custom("is no size; write it as 64MiB, 1MB or a number of bytes"))
    }
}

#[cfg(test)]
mod tests;
