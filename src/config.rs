//! The configuration: built-in defaults, over them the file, over both the variables `LEADLANE__A__B=value`.
//!
//! Its types can't hold an invalid value, so nobody downstream checks again. Every refusal names the file or variable,
//! the key and the cure. The shipped `config/leadlane.yaml` holds each default; a test compares the two.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::action;
use crate::credential::one_spelling;
use crate::dates::Rate;
use crate::mapping::{Entrance, Inlet};
use crate::reader::{Problem, Refusal, Refusals};
use crate::secrets::keys::PublicKey;
use crate::secrets::{Secret, SecretRef};
use crate::yaml::{self, Place, Places};

mod address;
pub mod admin;
mod check;
mod default;
mod form;
mod origin;
mod properties;
mod refusal;
mod tree;

pub use address::{Address, safe_url};
pub use admin::Admin;
use form::{bytes, duration};
pub use origin::Origin;
pub use properties::Properties;
use refusal::{plain_key, unknown_key};
use tree::{VARIABLES, drop_nulls, keep_texts, nulls, overlay, take_out, variables};

/// The file that is read without `--config`.
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
    pub inlet: InletServer,
    #[serde(with = "form::inlets")]
    pub inlets: Vec<Inlet>,
    pub log: Log,
    /// Where all of it comes from.
    #[serde(skip)]
    pub origin: Origin,
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
    pub url: Option<Address>,
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
    pub rebalance: Rebalance,
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

/// How partitions change hands when a worker joins or leaves. Members of a group that differ in it can't share it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rebalance {
    /// All workers give up all of theirs, and get their new share.
    Eager,
    /// Those that change hands do, and the others are read on.
    Cooperative,
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
    pub api_url: Address,
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
    /// Takes the place of the regions' hosts, for accounts without an `api_url` of their own.
    pub api_url: Option<Address>,
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
    pub api_url: Option<Address>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Secrets {
    /// A folder with one file per secret.
    pub dir: Option<PathBuf>,
    /// The key that `leadlane secrets seal` seals with.
    pub public_key: Option<PublicKey>,
    /// The private keys that senders open sealed values with.
    pub key_file: Option<PathBuf>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Metrics {
    /// How many rules get a label of their own in `rule_matches_total`; the rest is `other`.
    pub rules_max: usize,
}

/// Where the inlets of kind http listen; never the admin's listener.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct InletServer {
    #[serde(with = "form::address")]
    pub listen: SocketAddr,
    /// A request's body, inflated.
    #[serde(with = "bytes")]
    pub body_max: usize,
    /// Requests in flight; beyond it the answer is 503.
    pub in_flight_max: usize,
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

impl Config {
    /// Reads `file` (or the default file where it exists, or nothing), then the environment.
    pub fn load(file: Option<&Path>) -> Result<Self, Refusals> {
        let default = Path::new(DEFAULT_FILE);
        let Some(file) = file.or_else(|| default.exists().then_some(default)) else {
            return Self::of(None, "", variables()?);
        };
        let name = file.display().to_string();
        let bytes = std::fs::read(file).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => Refusal::of_file(
                name.as_str(),
                "can't be read: there is no such file; create it, or leave --config out for the built-in defaults",
            ),
            _ => Refusal::unreadable(name.as_str(), &error),
        })?;
        let text = Refusal::text(&name, bytes)?;
        Self::of(Some(&name), &text, variables()?)
    }

    /// The configuration that `text` (YAML, of this file) and `variables` make together.
    pub fn parse(
        file: &str,
        text: &str,
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, Refusals> {
        Self::of(Some(file), text, variables)
    }

    fn of(
        file: Option<&str>,
        text: &str,
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, Refusals> {
        let (mut root, places) = document(file, text)?;
        let without_value = nulls(&root);
        drop_nulls(&mut root);
        keep_texts(&mut root);
        let mut origin = Origin::new(file, places);
        // The file alone first, so that an error in it isn't blamed on a variable.
        let (mut config, problems) = read(&mut root);
        let mut refused = origin.refusals(problems);
        for (name, value) in variables {
            let Some(path) = name.strip_prefix(VARIABLES) else {
                continue;
            };
            let of_variable = |problem: Problem| Refusal {
                variable: Some(name.as_str().into()),
                key: problem.field,
                ..Refusal::new(problem.message)
            };
            match overlay(&mut root, path, &value) {
                Err(problem) => refused.push(of_variable(problem)),
                Ok(key) => {
                    keep_texts(&mut root);
                    let problems;
                    (config, problems) = read(&mut root);
                    refused.extend(problems.into_iter().map(of_variable));
                    origin.variables.push((key, name));
                }
            }
        }
        // What couldn't be read stands at its default, of which nothing is to be said.
        if refused.is_empty() {
            refused = origin.refusals(check::check(&config, &root, &without_value));
        }
        match refused.is_empty() {
            true => Ok(Self { origin, ..config }),
            false => Err(Refusals(refused)),
        }
    }

    /// The inlet of this name; the error names those that are there.
    pub fn inlet(&self, name: &str) -> Result<&Inlet, String> {
        let found = self.inlets.iter().find(|inlet| inlet.name == name);
        found.ok_or_else(|| {
            let names: Vec<&str> = self.inlets.iter().map(|inlet| inlet.name.as_str()).collect();
            match names.is_empty() {
                true => format!("there is no inlet {name}: the configuration has none; add it under inlets"),
                false => format!("there is no inlet {name}; the configuration has {}", names.join(", ")),
            }
        })
    }

    /// The topics of others that inlets read, each with those inlets.
    pub fn foreign_topics(&self) -> BTreeMap<&str, Vec<&Inlet>> {
        let mut topics: BTreeMap<&str, Vec<&Inlet>> = BTreeMap::new();
        for inlet in &self.inlets {
            if let Entrance::Topic { topic } = &inlet.entrance {
                topics.entry(topic).or_default().push(inlet);
            }
        }
        topics
    }

    /// Whether an inlet takes requests.
    pub fn takes_requests(&self) -> bool {
        let over_http = |inlet: &Inlet| matches!(inlet.entrance, Entrance::Http { .. });
        self.inlets.iter().any(over_http)
    }

    /// Warnings about values that are allowed and risky, such as a certificate that isn't checked; each names its key.
    pub fn warnings(&self) -> Vec<Refusal> {
        self.origin.refusals(check::warnings(self))
    }

    /// The effective configuration as YAML-compatible JSON, secrets masked.
    pub fn to_json(&self) -> Value {
        serde_json::to_value(self).expect("every field serializes")
    }
}

impl Config {
    /// The limits of all actions.
    pub fn limits(&self) -> action::Limits {
        let (slack, clevertap) = (&self.slack, &self.clevertap);
        let own = slack.limits.iter().map(|limit| {
            let credential = one_spelling(&limit.credential).into_owned();
            ((credential, limit.channel.clone()), limit.rate)
        });
        let concurrency = clevertap.accounts.iter();
        let concurrency = concurrency.map(|(name, account)| (format!("clevertap:{name}"), account.concurrency));
        action::Limits {
            slack: action::slack::Limits {
                channel_rate: slack.channel_rate,
                workspace_rate: slack.workspace_rate,
                webhook_rate: slack.webhook_rate,
                own: own.collect(),
            },
            clevertap: action::clevertap::Limits {
                batch: action::Batch {
                    max: clevertap.batch_max,
                    wait: clevertap.batch_wait,
                },
                concurrency: concurrency.collect(),
            },
        }
    }
}

impl Processor {
    /// The name of this process in its transactional ids: the machine's name, which is stable over restarts where it
    /// matters, unless one is given.
    pub fn instance(&self) -> String {
        let hostname = || std::fs::read_to_string("/proc/sys/kernel/hostname");
        self.instance
            .clone()
            .unwrap_or_else(|| hostname().map_or_else(|_| "leadlane".to_owned(), |name| name.trim().to_owned()))
    }
}

impl Topics {
    /// Leadlane's own topics.
    pub fn all(&self) -> [&String; 6] {
        [
            &self.events,
            &self.rules,
            &self.jobs,
            &self.outcomes,
            &self.dead_letters,
            &self.audit,
        ]
    }
}

impl Account {
    /// The base URL of the account's API: its `api_url`, else `common`, else the region's host.
    pub fn url(&self, common: Option<&str>) -> String {
        match (self.api_url.as_deref().or(common), self.region.as_str()) {
            (Some(url), _) => url.trim_end_matches('/').to_owned(),
            (None, "" | "eu" | "eu1") => "https://api.clevertap.com".to_owned(),
            (None, region) => format!("https://{region}.api.clevertap.com"),
        }
    }
}

fn account_concurrency() -> usize {
    15
}

/// The one document of a file, with the places in it.
fn document(file: Option<&str>, text: &str) -> Result<(Value, Places), Refusal> {
    let refuse = |place: Option<Place>, message: &str| Refusal {
        file: file.map(Into::into),
        place,
        ..Refusal::new(message)
    };
    let mut documents = yaml::documents(text).map_err(|error| refuse(Some(error.place()), &error.message))?;
    if let Some(second) = documents.get(1) {
        let place = Place {
            line: second.line,
            column: 1,
        };
        return Err(refuse(
            Some(place),
            "a configuration is one YAML document; take out the line ---",
        ));
    }
    match documents.pop().map(|document| document.value) {
        None | Some(Value::Null) => Ok((Value::Object(serde_json::Map::new()), Places::default())),
        Some(map @ Value::Object(_)) => Ok((map, yaml::places(text).pop().unwrap_or_default())),
        Some(_) => Err(refuse(
            Some(Place { line: 1, column: 1 }),
            "a configuration is a map of keys, such as kafka: {brokers: HOST:9092}",
        )),
    }
}

/// The configuration in `root`, and every problem of it. What can't be read is taken out, and has its default.
fn read(root: &mut Value) -> (Config, Vec<Problem>) {
    let mut problems: Vec<Problem> = Vec::new();
    loop {
        let error = match serde_path_to_error::deserialize(&*root) {
            Ok(config) => return (config, problems),
            Err(error) => error,
        };
        let (path, said) = (error.path().to_string(), error.inner().to_string());
        // Inlets have a reader of their own, which finds every problem.
        let entries = root
            .get("inlets")
            .and_then(Value::as_array)
            .filter(|_| path == "inlets");
        let found = match entries {
            Some(entries) => form::inlets::problems(entries),
            None => vec![refusal::words(&path, &said)],
        };
        // What was taken out is no news when it is missing then.
        let is_news = |found: &Problem| problems.iter().all(|known| known.field != found.field);
        let found: Vec<Problem> = found.into_iter().filter(is_news).collect();
        problems.extend(found);
        if !take_out(root, error.path()) {
            return (Config::default(), problems);
        }
    }
}

#[cfg(test)]
mod tests;
