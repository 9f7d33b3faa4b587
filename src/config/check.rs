//! Checks that a type alone can't make, such as two keys that contradict each other. A refusal is a key and a message
//! that names the cure.

use std::collections::HashSet;
use std::time::Duration;

use serde_json::Value;

use super::address::{base_url, is_loopback, plain_url};
use super::properties::refused;
use super::{Config, Properties, Sender, plain_key, unknown_key};
use crate::dates;
use crate::mapping::Entrance;
use crate::reader::is_open_secret;

type Refusal = (String, String);

pub(super) fn check(config: &Config) -> Result<(), Refusal> {
    kafka(config)?;
    positive(config)?;
    sender(&config.sender)?;
    poll_interval(config)?;
    if config.processor.commit_interval >= Duration::from_secs(5) {
        return refuse(
            "processor.commit_interval",
            "must be under 5s, half of the transaction's time-out",
        );
    }
    super::admin::check(&config.admin)?;
    if let Some(url) = &config.schema_registry.url {
        plain_url(url).map_err(|message| ("schema_registry.url".to_owned(), message))?;
    }
    slack(config)?;
    clevertap(config)?;
    inlets(config)
}

fn inlets(config: &Config) -> Result<(), Refusal> {
    let ours = config.topics.all();
    let mut names = HashSet::new();
    for (at, inlet) in config.inlets.iter().enumerate() {
        let key = format!("inlets[{at}]");
        if !names.insert(&inlet.name) {
            return refuse(&format!("{key}.name"), format!("{} is given twice", inlet.name));
        }
        match &inlet.entrance {
            Entrance::Topic { topic } if ours.contains(&topic) => {
                return refuse(
                    &format!("{key}.topic"),
                    "is a topic of Leadlane's own; name another system's",
                );
            }
            Entrance::Http { keys, .. } if keys.is_empty() && !config.inlet.listen.ip().is_loopback() => {
                let message = format!(
                    "inlet.listen, {}, is not a loopback address, so the inlet needs a secret",
                    config.inlet.listen
                );
                return refuse(&format!("{key}.secrets"), message);
            }
            _ => {}
        }
    }
    if config.inlet.listen == config.admin.listen && config.inlet.listen.port() != 0 {
        return refuse(
            "inlet.listen",
            "is the admin's listener; give the inlets one of their own",
        );
    }
    Ok(())
}

fn refuse(key: &str, message: impl Into<String>) -> Result<(), Refusal> {
    Err((key.to_owned(), message.into()))
}

fn kafka(config: &Config) -> Result<(), Refusal> {
    let kafka = &config.kafka;
    for (key, properties) in [
        ("kafka.properties", &kafka.properties),
        ("kafka.consumer_properties", &kafka.consumer_properties),
        ("kafka.producer_properties", &kafka.producer_properties),
    ] {
        for (name, value) in &properties.0 {
            if let Some(why) = refused(name, value) {
                return refuse(key, format!("{name} can't be set here: {why}"));
            }
        }
    }
    if kafka.brokers.contains('@') {
        return refuse(
            "kafka.brokers",
            "has an @ in it; name HOST:PORT alone, and set sasl.username and sasl.password in kafka.properties",
        );
    }
    if kafka.brokers.trim().is_empty() {
        return refuse("kafka.brokers", "is empty; name at least one HOST:PORT");
    }
    Ok(())
}

fn positive(config: &Config) -> Result<(), Refusal> {
    let positive = [
        ("processor.workers", config.processor.workers),
        ("processor.batch_events_max", config.processor.batch_events_max),
        ("sender.in_flight_max", config.sender.in_flight_max),
        ("clevertap.batch_max", config.clevertap.batch_max),
        ("inlet.body_max", config.inlet.body_max),
        ("inlet.in_flight_max", config.inlet.in_flight_max),
        ("admin.recent_events", config.admin.recent_events),
        ("admin.deliveries_max", config.admin.deliveries_max),
    ];
    if config.admin.deliveries_max > DELIVERIES_MAX {
        return refuse("admin.deliveries_max", format!("must be at most {DELIVERIES_MAX}"));
    }
    match positive.iter().find(|(_, value)| *value == 0) {
        Some((key, _)) => refuse(key, "must be 1 or more"),
        None => Ok(()),
    }
}

/// More would take 20 GB.
const DELIVERIES_MAX: usize = 100_000_000;

fn sender(sender: &Sender) -> Result<(), Refusal> {
    if sender.retry.initial > sender.retry.max {
        return refuse("sender.retry.initial", "is longer than sender.retry.max");
    }
    if sender.request_timeout >= sender.shutdown_timeout {
        return refuse(
            "sender.request_timeout",
            format!(
                "{} must be shorter than sender.shutdown_timeout, {}, so that a clean stop can wait for answers",
                dates::duration_text(sender.request_timeout),
                dates::duration_text(sender.shutdown_timeout)
            ),
        );
    }
    Ok(())
}

/// Kafka's own default of `max.poll.interval.ms`.
const POLL_INTERVAL: Duration = Duration::from_secs(300);

/// A hand-over waits for answers within a poll, and a member that polls too late is put out of its group.
fn poll_interval(config: &Config) -> Result<(), Refusal> {
    let name = "max.poll.interval.ms";
    let kafka = &config.kafka;
    let set = kafka.consumer_properties.0.get(name).or(kafka.properties.0.get(name));
    let interval = set.and_then(|millis| millis.parse().ok());
    let interval = interval.map_or(POLL_INTERVAL, Duration::from_millis);
    if config.sender.shutdown_timeout + Duration::from_secs(5) <= interval {
        return Ok(());
    }
    refuse(
        "sender.shutdown_timeout",
        format!(
            "{} must be 5s or more below {name} of Kafka's consumer, {}: a longer wait would put the sender out of its \
             group; set {name} in kafka.consumer_properties",
            dates::duration_text(config.sender.shutdown_timeout),
            dates::duration_text(interval)
        ),
    )
}

fn slack(config: &Config) -> Result<(), Refusal> {
    base_url(&config.slack.api_url).map_err(|message| ("slack.api_url".to_owned(), message))?;
    hosts("slack.webhook_hosts", &config.slack.webhook_hosts)?;
    for limit in &config.slack.limits {
        if !limit.credential.starts_with("slack:") && !limit.credential.starts_with("webhook:") {
            return refuse(
                "slack.limits.credential",
                "must be slack:NAME or webhook:NAME, by the secret's name",
            );
        }
    }
    Ok(())
}

/// Hosts that URLs in the secret store may have.
fn hosts(key: &str, hosts: &[String]) -> Result<(), Refusal> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':' | '[' | ']');
    match hosts.iter().all(|host| !host.is_empty() && host.chars().all(plain)) {
        true => Ok(()),
        false => refuse(
            key,
            "each is a HOST or HOST:PORT; leave out https:// and the path, which is the webhook's secret",
        ),
    }
}

fn clevertap(config: &Config) -> Result<(), Refusal> {
    if config.clevertap.batch_max > 1000 {
        return refuse(
            "clevertap.batch_max",
            "is more than CleverTap takes in one request, 1000",
        );
    }
    if let Some(url) = &config.clevertap.api_url {
        base_url(url).map_err(|message| ("clevertap.api_url".to_owned(), message))?;
    }
    for (name, account) in &config.clevertap.accounts {
        let key = |field: &str| format!("clevertap.accounts.{name}.{field}");
        if account.concurrency == 0 {
            return refuse(&key("concurrency"), "must be 1 or more");
        }
        let field = if account.api_url.is_some() { "api_url" } else { "region" };
        base_url(&account.url(None)).map_err(|message| (key(field), message))?;
    }
    Ok(())
}

/// A section is a map. serde takes a list for one as well, whose values would fall to keys by their order.
pub(super) fn sections(config: &Config, root: &Value) -> Result<(), Refusal> {
    fn listed(known: &Value, written: &Value) -> Option<String> {
        match (known, written) {
            (Value::Object(known), Value::Object(written)) => written.iter().find_map(|(key, value)| {
                let rest = listed(known.get(key)?, value)?;
                Some(if rest.is_empty() {
                    key.clone()
                } else {
                    format!("{key}.{rest}")
                })
            }),
            (Value::Array(known), Value::Array(written)) => known
                .iter()
                .zip(written)
                .find_map(|(known, written)| listed(known, written)),
            (Value::Object(_), Value::Array(_)) => Some(String::new()),
            _ => None,
        }
    }
    match listed(&config.to_json(), root) {
        Some(key) => refuse(&key, "invalid, expected a map of keys"),
        None => Ok(()),
    }
}

/// A key without a value has its default, and so has to be one that is known.
pub(super) fn unknown_nulls(config: &Config, keys: &[Vec<String>]) -> Result<(), Refusal> {
    let known = config.to_json();
    for key in keys {
        let known = key.iter().try_fold(&known, |known, step| known.get(step));
        let is_property = matches!(&key[..], [kafka, list, _] if kafka == "kafka" && list.ends_with("properties"));
        if known.is_none() && !is_property {
            let (last, sections) = key
                .split_last()
                .map_or(("", &[][..]), |(last, rest)| (last.as_str(), rest));
            let sections: String = sections.iter().map(|step| format!("{}.", plain_key(step))).collect();
            return refuse(
                &format!("{sections}{}", unknown_key(last)),
                "unknown field, without a value; is a space missing behind its colon?",
            );
        }
    }
    Ok(())
}

/// A Slack token or webhook URL belongs into the secret store, wherever it was written.
pub(super) fn open_secrets(root: &Value) -> Result<(), Refusal> {
    fn place(value: &Value) -> Option<String> {
        let within = |key: &str, value: &Value| {
            place(value).map(|rest| {
                if rest.is_empty() {
                    plain_key(key).to_owned()
                } else {
                    format!("{}.{rest}", plain_key(key))
                }
            })
        };
        match value {
            Value::String(text) => is_open_secret(text).then(String::new),
            Value::Array(list) => list.iter().find_map(place),
            Value::Object(map) => map.iter().find_map(|(key, value)| match is_open_secret(key) {
                true => Some("…".to_owned()),
                false => within(key, value),
            }),
            _ => None,
        }
    }
    match place(root) {
        Some(key) => refuse(
            &key,
            "holds a Slack token or webhook URL in the open; put it into a file of secrets.dir or a variable \
             LEADLANE_SECRET_<NAME>, and name it by {secret: NAME} in a rule",
        ),
        None => Ok(()),
    }
}

/// Allowed settings that let others read or forge messages.
pub(super) fn warnings(config: &Config) -> Vec<String> {
    let kafka = &config.kafka;
    let mut warnings = kafka_warnings("kafka.properties", &kafka.properties);
    warnings.extend(kafka_warnings("kafka.consumer_properties", &kafka.consumer_properties));
    warnings.extend(kafka_warnings("kafka.producer_properties", &kafka.producer_properties));
    let registry = &config.schema_registry;
    if let Some(Ok(url)) = registry.url.as_deref().map(plain_url) {
        let with_password = registry.password.is_some() || url.password().is_some() || !url.username().is_empty();
        if with_password && url.scheme() == "http" && !is_loopback(&url) {
            warnings.push("schema_registry.url: the password goes to the registry in the open; use https".to_owned());
        }
    }
    warnings
}

fn kafka_warnings(key: &str, properties: &Properties) -> Vec<String> {
    let value = |name: &str| properties.0.get(name).map(|value| value.trim().to_ascii_lowercase());
    let is = |name: &str, values: &[&str]| value(name).is_some_and(|value| values.contains(&value.as_str()));
    let is_not = |name: &str, values: &[&str]| value(name).is_some_and(|value| !values.contains(&value.as_str()));
    let on = ["true", "t", "1"];
    let sends_password = ["plain", "oauthbearer"];
    let in_the_open = is("security.protocol", &["sasl_plaintext"])
        && (is("sasl.mechanism", &sends_password) || is("sasl.mechanisms", &sends_password));
    let doubtful = [
        (
            is_not("enable.ssl.certificate.verification", &on),
            "enable.ssl.certificate.verification",
            "the brokers' certificates aren't checked, so that anyone in between can read and forge all records",
        ),
        (
            is_not("ssl.endpoint.identification.algorithm", &["https"]),
            "ssl.endpoint.identification.algorithm",
            "the brokers' names aren't checked, so that whoever has any certificate can be taken for them",
        ),
        (
            is("enable.sasl.oauthbearer.unsecure.jwt", &on),
            "enable.sasl.oauthbearer.unsecure.jwt",
            "tokens aren't signed, so that brokers which take them take anyone's",
        ),
        (
            in_the_open,
            "security.protocol",
            "the password goes to the brokers in the open; use SASL_SSL, or a SCRAM mechanism",
        ),
    ];
    let doubtful = doubtful.into_iter().filter(|(holds, ..)| *holds);
    doubtful.map(|(_, name, why)| format!("{key}: {name}: {why}")).collect()
}
