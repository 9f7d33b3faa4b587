//! What a configuration must hold beyond its types. Each refusal is a key and a message that names the cure.

use std::collections::HashSet;
use std::time::Duration;

use super::{Config, Sender};
use crate::dates;
use crate::inlet::Source;

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
    if config.admin.tokens.is_empty() && !config.admin.listen.ip().is_loopback() {
        return refuse(
            "admin.listen",
            format!(
                "{} is not a loopback address, so admin.tokens must hold a token or more",
                config.admin.listen
            ),
        );
    }
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
        match &inlet.source {
            Source::Topic { topic } if ours.contains(&topic) => {
                return refuse(
                    &format!("{key}.topic"),
                    "is a topic of Leadlane's own; name another system's",
                );
            }
            Source::Http { keys, .. } if keys.is_empty() && !config.inlet.listen.ip().is_loopback() => {
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
        for name in properties.0.keys() {
            if let Some(cure) = reserved(name) {
                return refuse(key, format!("{name} can't be set here: {cure}"));
            }
        }
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
    ];
    match positive.iter().find(|(_, value)| *value == 0) {
        Some((key, _)) => refuse(key, "must be 1 or more"),
        None => Ok(()),
    }
}

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
    safe_url(&config.slack.api_url).map_err(|message| ("slack.api_url".to_owned(), message))?;
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

fn clevertap(config: &Config) -> Result<(), Refusal> {
    let batch_max = config.clevertap.batch_max;
    if batch_max > 1000 {
        return refuse(
            "clevertap.batch_max",
            format!("{batch_max} is more than CleverTap takes in one request, 1000"),
        );
    }
    if let Some(url) = &config.clevertap.api_url {
        safe_url(url).map_err(|message| ("clevertap.api_url".to_owned(), message))?;
    }
    for (name, account) in &config.clevertap.accounts {
        let key = |field: &str| format!("clevertap.accounts.{name}.{field}");
        if account.concurrency == 0 {
            return refuse(&key("concurrency"), "must be 1 or more");
        }
        let field = if account.api_url.is_some() { "api_url" } else { "region" };
        safe_url(&account.url(None)).map_err(|message| (key(field), message))?;
    }
    Ok(())
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
