//! Checks that a type alone can't make, such as two keys that contradict each other. All that is wrong is told at once,
//! each by its key, with the cure.

use std::collections::HashSet;
use std::time::Duration;

use serde_json::Value;

use super::address::{base_url, is_loopback, plain_url};
use super::properties::refused;
use super::{Config, Properties, Sender, plain_key, unknown_key};
use crate::dates;
use crate::mapping::Entrance;
use crate::reader::{Problem, closest, is_open_secret};

/// What is found wrong, all of it.
#[derive(Debug, Default)]
pub(super) struct Found(Vec<Problem>);

impl Found {
    pub(super) fn refuse(&mut self, key: impl Into<String>, message: impl Into<String>) {
        let (field, message) = (key.into(), message.into());
        self.0.push(Problem { field, message });
    }

    fn take<T>(&mut self, key: impl Into<String>, checked: Result<T, impl Into<String>>) {
        if let Err(message) = checked {
            self.refuse(key, message);
        }
    }
}

/// Everything that can't be so. `root` is what was written, `without_value` the keys that have no value there.
pub(super) fn check(config: &Config, root: &Value, without_value: &[Vec<String>]) -> Vec<Problem> {
    let mut found = Found::default();
    sections(config, root, &mut found);
    // A list in a section's place has given its values to keys at random.
    let are_keys_theirs = found.0.is_empty();
    unknown_nulls(config, without_value, &mut found);
    open_secrets(root, &mut found);
    if are_keys_theirs {
        values(config, &mut found);
    }
    found.0
}

fn values(config: &Config, found: &mut Found) {
    kafka(config, found);
    numbers(config, found);
    sender(&config.sender, found);
    poll_interval(config, found);
    if config.processor.commit_interval >= Duration::from_secs(5) {
        found.refuse(
            "processor.commit_interval",
            "must be under 5s, half of the transaction's time-out",
        );
    }
    super::admin::check(&config.admin, found);
    if let Some(url) = &config.schema_registry.url {
        found.take("schema_registry.url", plain_url(url));
    }
    slack(config, found);
    clevertap(config, found);
    inlets(config, found);
    found.take("log.level", log_level(&config.log.level));
}

fn inlets(config: &Config, found: &mut Found) {
    let ours = config.topics.all();
    let mut names = HashSet::new();
    for (at, inlet) in config.inlets.iter().enumerate() {
        let key = format!("inlets[{at}]");
        if !names.insert(&inlet.name) {
            found.refuse(
                format!("{key}.name"),
                "is given twice; each inlet needs a name of its own",
            );
        }
        match &inlet.entrance {
            Entrance::Topic { topic } if ours.contains(&topic) => {
                found.refuse(
                    format!("{key}.topic"),
                    "is a topic of Leadlane's own; name another system's",
                );
            }
            Entrance::Http { keys, .. } if keys.is_empty() && !config.inlet.listen.ip().is_loopback() => {
                let message = format!(
                    "inlet.listen, {}, is not a loopback address, so the inlet needs a secret",
                    config.inlet.listen
                );
                found.refuse(format!("{key}.secrets"), message);
            }
            _ => {}
        }
    }
    if config.inlet.listen == config.admin.listen && config.inlet.listen.port() != 0 {
        found.refuse(
            "inlet.listen",
            "is the admin's listener; give the inlets one of their own",
        );
    }
}

fn kafka(config: &Config, found: &mut Found) {
    let kafka = &config.kafka;
    for (key, properties) in [
        ("kafka.properties", &kafka.properties),
        ("kafka.consumer_properties", &kafka.consumer_properties),
        ("kafka.producer_properties", &kafka.producer_properties),
    ] {
        for (name, value) in &properties.0 {
            if let Some(why) = refused(name, value) {
                found.refuse(format!("{key}.{name}"), format!("can't be set here; {why}"));
            }
        }
    }
    if kafka.brokers.contains('@') {
        return found.refuse(
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
        let checked = self::broker(broker).map_err(|message| format!("broker {count}: {message}"));
        found.take("kafka.brokers", checked);
    }
    if count == 0 {
        found.refuse("kafka.brokers", "is empty; name at least one HOST:PORT");
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
fn log_level(written: &str) -> Result<(), String> {
    const CURE: &str = "write error, warn, info, debug or trace, or TARGET=LEVEL by comma";
    for part in written.split(',').map(str::trim) {
        let (target, level) = part.split_once('=').unwrap_or(("leadlane", part));
        let is_target = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | ':' | '-');
        let lower = level.trim().to_ascii_lowercase();
        if LEVELS.contains(&lower.as_str()) && !target.is_empty() && target.chars().all(is_target) {
            continue;
        }
        return match closest(&lower, LEVELS) {
            Some(meant) if meant != lower => Err(format!("is no level; did you mean {meant}? {CURE}")),
            _ => Err(format!("is no level; {CURE}")),
        };
    }
    Ok(())
}

fn numbers(config: &Config, found: &mut Found) {
    for (key, value) in [
        ("processor.workers", config.processor.workers),
        ("processor.batch_events_max", config.processor.batch_events_max),
        ("sender.in_flight_max", config.sender.in_flight_max),
        ("clevertap.batch_max", config.clevertap.batch_max),
        ("inlet.body_max", config.inlet.body_max),
        ("inlet.in_flight_max", config.inlet.in_flight_max),
        ("admin.recent_events", config.admin.recent_events),
        ("admin.deliveries_max", config.admin.deliveries_max),
    ] {
        if value == 0 {
            found.refuse(key, "must be 1 or more");
        }
    }
    if config.admin.deliveries_max > DELIVERIES_MAX {
        found.refuse("admin.deliveries_max", format!("must be at most {DELIVERIES_MAX}"));
    }
}

/// More would take 20 GB.
const DELIVERIES_MAX: usize = 100_000_000;

fn sender(sender: &Sender, found: &mut Found) {
    if sender.retry.initial > sender.retry.max {
        found.refuse(
            "sender.retry.initial",
            "is longer than sender.retry.max; shorten it, or lengthen that",
        );
    }
    if sender.request_timeout >= sender.shutdown_timeout {
        found.refuse(
            "sender.request_timeout",
            format!(
                "{} must be shorter than sender.shutdown_timeout, {}, so that a clean stop can wait for answers",
                dates::duration_text(sender.request_timeout),
                dates::duration_text(sender.shutdown_timeout)
            ),
        );
    }
}

/// Kafka's own default of `max.poll.interval.ms`.
const POLL_INTERVAL: Duration = Duration::from_secs(300);

/// A hand-over waits for answers within a poll, and a member that polls too late is put out of its group.
fn poll_interval(config: &Config, found: &mut Found) {
    let name = "max.poll.interval.ms";
    let kafka = &config.kafka;
    let set = kafka.consumer_properties.0.get(name).or(kafka.properties.0.get(name));
    let interval = set.and_then(|millis| millis.parse().ok());
    let interval = interval.map_or(POLL_INTERVAL, Duration::from_millis);
    if config.sender.shutdown_timeout + Duration::from_secs(5) <= interval {
        return;
    }
    found.refuse(
        "sender.shutdown_timeout",
        format!(
            "{} must be 5s or more below {name} of Kafka's consumer, {}: a longer wait would put the sender out of its \
             group; set {name} in kafka.consumer_properties",
            dates::duration_text(config.sender.shutdown_timeout),
            dates::duration_text(interval)
        ),
    );
}

fn slack(config: &Config, found: &mut Found) {
    found.take("slack.api_url", base_url(&config.slack.api_url));
    for (at, host) in config.slack.webhook_hosts.iter().enumerate() {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':' | '[' | ']');
        if host.is_empty() || !host.chars().all(plain) {
            found.refuse(
                format!("slack.webhook_hosts[{at}]"),
                "is no HOST or HOST:PORT; leave out https:// and the path, which is the webhook's secret",
            );
        }
    }
    for (at, limit) in config.slack.limits.iter().enumerate() {
        if !limit.credential.starts_with("slack:") && !limit.credential.starts_with("webhook:") {
            found.refuse(
                format!("slack.limits[{at}].credential"),
                "must be slack:NAME or webhook:NAME, by the secret's name",
            );
        }
    }
}

fn clevertap(config: &Config, found: &mut Found) {
    if config.clevertap.batch_max > 1000 {
        found.refuse(
            "clevertap.batch_max",
            "is more than CleverTap takes in one request; write 1000 or less",
        );
    }
    if let Some(url) = &config.clevertap.api_url {
        found.take("clevertap.api_url", base_url(url));
    }
    for (name, account) in &config.clevertap.accounts {
        let key = |field: &str| format!("clevertap.accounts.{name}.{field}");
        if account.concurrency == 0 {
            found.refuse(key("concurrency"), "must be 1 or more");
        }
        match &account.api_url {
            Some(_) => found.take(key("api_url"), base_url(&account.url(None))),
            None => {
                let region = match config.clevertap.api_url {
                    None => region(&account.region),
                    Some(_) => Ok(()),
                };
                found.take(key("region"), region.and_then(|()| base_url(&account.url(None))));
            }
        }
    }
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
fn sections(config: &Config, root: &Value, found: &mut Found) {
    fn listed(at: &str, known: &Value, written: &Value, found: &mut Found) {
        match (known, written) {
            (Value::Object(known), Value::Object(written)) => {
                for (key, written) in written {
                    if let Some(known) = known.get(key) {
                        listed(&within(at, key), known, written, found);
                    }
                }
            }
            (Value::Array(known), Value::Array(written)) => {
                for (index, (known, written)) in known.iter().zip(written).enumerate() {
                    listed(&within(at, &format!("[{index}]")), known, written, found);
                }
            }
            (Value::Object(_), Value::Array(_)) => found.refuse(at, "needs a map of keys"),
            _ => {}
        }
    }
    listed("", &config.to_json(), root, found);
}

/// The key of what stands at `step` within the value of another one.
fn within(key: &str, step: &str) -> String {
    let dot = if key.is_empty() || step.starts_with('[') {
        ""
    } else {
        "."
    };
    format!("{key}{dot}{step}")
}

/// A key without a value has its default, and so has to be one that is known.
fn unknown_nulls(config: &Config, keys: &[Vec<String>], found: &mut Found) {
    let known = config.to_json();
    for key in keys {
        let known = key.iter().try_fold(&known, |known, step| known.get(step));
        let is_property = matches!(&key[..], [kafka, list, _] if kafka == "kafka" && list.ends_with("properties"));
        if known.is_none() && !is_property {
            let (last, sections) = key
                .split_last()
                .map_or(("", &[][..]), |(last, rest)| (last.as_str(), rest));
            let sections: String = sections.iter().map(|step| format!("{}.", plain_key(step))).collect();
            found.refuse(
                format!("{sections}{}", unknown_key(last)),
                "unknown key, without a value; look for a space that is missing behind its colon, or a slip in its name",
            );
        }
    }
}

const OPEN_SECRET: &str = "holds a Slack token or webhook URL in the open; put it into a file of secrets.dir or a \
                           variable LEADLANE_SECRET_<NAME>, and name it by {secret: NAME} in a rule";

/// A Slack token or webhook URL belongs into the secret store, wherever it was written.
fn open_secrets(root: &Value, found: &mut Found) {
    fn open(at: &str, value: &Value, found: &mut Found) {
        match value {
            Value::String(text) if is_open_secret(text) => found.refuse(at, OPEN_SECRET),
            Value::Array(list) => {
                for (index, value) in list.iter().enumerate() {
                    open(&within(at, &format!("[{index}]")), value, found);
                }
            }
            Value::Object(map) => {
                for (key, value) in map {
                    match is_open_secret(key) {
                        true => found.refuse(within(at, "…"), OPEN_SECRET),
                        false => open(&within(at, plain_key(key)), value, found),
                    }
                }
            }
            _ => {}
        }
    }
    open("", root, found);
}

/// Allowed settings that let others read or forge messages.
pub(super) fn warnings(config: &Config) -> Vec<Problem> {
    let kafka = &config.kafka;
    let mut warnings = Found::default();
    kafka_warnings("kafka.properties", &kafka.properties, &mut warnings);
    kafka_warnings("kafka.consumer_properties", &kafka.consumer_properties, &mut warnings);
    kafka_warnings("kafka.producer_properties", &kafka.producer_properties, &mut warnings);
    let registry = &config.schema_registry;
    if let Some(Ok(url)) = registry.url.as_deref().map(plain_url) {
        let with_password = registry.password.is_some() || url.password().is_some() || !url.username().is_empty();
        if with_password && url.scheme() == "http" && !is_loopback(&url) {
            let message = "the password goes to the registry in the open; use https";
            warnings.refuse("schema_registry.url", message);
        }
    }
    warnings.0
}

fn kafka_warnings(key: &str, properties: &Properties, found: &mut Found) {
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
    for (_, name, why) in doubtful.into_iter().filter(|(holds, ..)| *holds) {
        found.refuse(format!("{key}.{name}"), why);
    }
}
