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
use crate::reader::{closest, is_open_secret};

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
    inlets(config)?;
    log_level(&config.log.level)
}

fn inlets(config: &Config) -> Result<(), Refusal> {
    let ours = config.topics.all();
    let mut names = HashSet::new();
    for (at, inlet) in config.inlets.iter().enumerate() {
        let key = format!("inlets[{at}]");
        if !names.insert(&inlet.name) {
            return refuse(
                &format!("{key}.name"),
                "is given twice; each inlet needs a name of its own",
            );
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
                return refuse(&format!("{key}.{name}"), format!("can't be set here; {why}"));
            }
        }
    }
    if kafka.brokers.contains('@') {
        return refuse(
            "kafka.brokers",
            "has an @ in it; name HOST:PORT alone, and set sasl.username and sasl.password in kafka.properties",
        );
    }
    let named = kafka
        .brokers
        .split(',')
        .map(str::trim)
        .filter(|broker| !broker.is_empty());
    let mut count = 0;
    for broker in named {
        count += 1;
        if let Err(message) = self::broker(broker) {
            return refuse("kafka.brokers", format!("broker {count}: {message}"));
        }
    }
    match count {
        0 => refuse("kafka.brokers", "is empty; name at least one HOST:PORT"),
        _ => Ok(()),
    }
}

/// One of the bootstrap servers. librdkafka takes a protocol before it, and the port may be left out.
fn broker(broker: &str) -> Result<(), &'static str> {
    const PROTOCOLS: [&str; 4] = ["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"];
    let address = match broker.split_once("://") {
        Some((protocol, _)) if !PROTOCOLS.contains(&protocol.to_ascii_lowercase().as_str()) => {
            return Err(
                "Kafka has no such protocol before ://; write HOST:PORT alone, and set security.protocol in kafka.properties",
            );
        }
        Some((_, address)) => address,
        None => broker,
    };
    if address.contains(['/', '?', '#']) || address.contains(char::is_whitespace) {
        return Err("is no HOST:PORT; leave out what isn't a host or a port, and put a comma between brokers");
    }
    // An IPv6 address has colons of its own, and stands in brackets before a port.
    let (host, port) = match address.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => (host, Some(port)),
        _ => (address, None),
    };
    if host.is_empty() {
        return Err("has no host; write HOST:PORT");
    }
    match port.map(str::parse::<u16>) {
        None | Some(Ok(1..)) => Ok(()),
        Some(_) => Err("has no such port; a port is a number from 1 to 65535, as in HOST:9092"),
    }
}

const LEVELS: [&str; 6] = ["error", "warn", "info", "debug", "trace", "off"];

/// A level, or `target=level` pairs by comma. What reads them would take a misspelt level for a target.
fn log_level(written: &str) -> Result<(), Refusal> {
    const CURE: &str = "write error, warn, info, debug or trace, or TARGET=LEVEL by comma";
    for part in written.split(',').map(str::trim) {
        let (target, level) = part.split_once('=').unwrap_or(("leadlane", part));
        let is_target = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | ':' | '-');
        let lower = level.trim().to_ascii_lowercase();
        if LEVELS.contains(&lower.as_str()) && !target.is_empty() && target.chars().all(is_target) {
            continue;
        }
        return match closest(&lower, LEVELS) {
            Some(meant) if meant != lower => refuse("log.level", format!("is no level; did you mean {meant}? {CURE}")),
            _ => refuse("log.level", format!("is no level; {CURE}")),
        };
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
        return refuse(
            "sender.retry.initial",
            "is longer than sender.retry.max; shorten it, or lengthen that",
        );
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
    for (at, limit) in config.slack.limits.iter().enumerate() {
        if !limit.credential.starts_with("slack:") && !limit.credential.starts_with("webhook:") {
            return refuse(
                &format!("slack.limits[{at}].credential"),
                "must be slack:NAME or webhook:NAME, by the secret's name",
            );
        }
    }
    Ok(())
}

/// Hosts that URLs in the secret store may have.
fn hosts(key: &str, hosts: &[String]) -> Result<(), Refusal> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':' | '[' | ']');
    match hosts
        .iter()
        .position(|host| host.is_empty() || !host.chars().all(plain))
    {
        None => Ok(()),
        Some(at) => refuse(
            &format!("{key}[{at}]"),
            "is no HOST or HOST:PORT; leave out https:// and the path, which is the webhook's secret",
        ),
    }
}

fn clevertap(config: &Config) -> Result<(), Refusal> {
    if config.clevertap.batch_max > 1000 {
        return refuse(
            "clevertap.batch_max",
            "is more than CleverTap takes in one request; write 1000 or less",
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
        let own_url = account.api_url.is_some();
        if !own_url && config.clevertap.api_url.is_none() {
            region(&account.region).map_err(|message| (key("region"), message))?;
        }
        let field = if own_url { "api_url" } else { "region" };
        base_url(&account.url(None)).map_err(|message| (key(field), message))?;
    }
    Ok(())
}

/// CleverTap's regions, by the hosts of their API. The host of Europe has none in its name.
const REGIONS: [&str; 8] = ["eu1", "eu", "in1", "sg1", "us1", "aps3", "mec1", "sk1"];

fn region(region: &str) -> Result<(), String> {
    if region.is_empty() || REGIONS.contains(&region) {
        return Ok(());
    }
    let known = match closest(region, REGIONS) {
        Some(meant) => format!("did you mean {meant}?"),
        None => format!("CleverTap has {}.", REGIONS.join(", ")),
    };
    Err(format!(
        "is no region of CleverTap's; {known} A newer one is taken as api_url: https://REGION.api.clevertap.com"
    ))
}

/// A section is a map. serde takes a list for one as well, whose values would fall to keys by their order.
pub(super) fn sections(config: &Config, root: &Value) -> Result<(), Refusal> {
    fn listed(known: &Value, written: &Value) -> Option<String> {
        match (known, written) {
            (Value::Object(known), Value::Object(written)) => {
                (written.iter()).find_map(|(key, value)| Some(within(key, &listed(known.get(key)?, value)?)))
            }
            (Value::Array(known), Value::Array(written)) => (known.iter().zip(written).enumerate())
                .find_map(|(at, (known, written))| Some(within(&format!("[{at}]"), &listed(known, written)?))),
            (Value::Object(_), Value::Array(_)) => Some(String::new()),
            _ => None,
        }
    }
    match listed(&config.to_json(), root) {
        Some(key) => refuse(&key, "needs a map of keys"),
        None => Ok(()),
    }
}

/// The key of what stands at `rest` within the value of another one.
fn within(key: &str, rest: &str) -> String {
    let dot = if rest.is_empty() || rest.starts_with('[') {
        ""
    } else {
        "."
    };
    format!("{key}{dot}{rest}")
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
                "unknown key, without a value; look for a space that is missing behind its colon, or a slip in its name",
            );
        }
    }
    Ok(())
}

/// A Slack token or webhook URL belongs into the secret store, wherever it was written.
pub(super) fn open_secrets(root: &Value) -> Result<(), Refusal> {
    fn place(value: &Value) -> Option<String> {
        match value {
            Value::String(text) => is_open_secret(text).then(String::new),
            Value::Array(list) => {
                (list.iter().enumerate()).find_map(|(at, value)| Some(within(&format!("[{at}]"), &place(value)?)))
            }
            Value::Object(map) => map.iter().find_map(|(key, value)| match is_open_secret(key) {
                true => Some("…".to_owned()),
                false => Some(within(plain_key(key), &place(value)?)),
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
pub(super) fn warnings(config: &Config) -> Vec<Refusal> {
    let kafka = &config.kafka;
    let mut warnings = kafka_warnings("kafka.properties", &kafka.properties);
    warnings.extend(kafka_warnings("kafka.consumer_properties", &kafka.consumer_properties));
    warnings.extend(kafka_warnings("kafka.producer_properties", &kafka.producer_properties));
    let registry = &config.schema_registry;
    if let Some(Ok(url)) = registry.url.as_deref().map(plain_url) {
        let with_password = registry.password.is_some() || url.password().is_some() || !url.username().is_empty();
        if with_password && url.scheme() == "http" && !is_loopback(&url) {
            let message = "the password goes to the registry in the open; use https";
            warnings.push(("schema_registry.url".to_owned(), message.to_owned()));
        }
    }
    warnings
}

fn kafka_warnings(key: &str, properties: &Properties) -> Vec<Refusal> {
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
    let warning = |(_, name, why): (bool, &str, &str)| (format!("{key}.{name}"), why.to_owned());
    doubtful.map(warning).collect()
}
