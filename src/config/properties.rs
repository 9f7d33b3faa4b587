//! librdkafka's properties: which of them may be set, which are shown, and which cause a warning.
//!
//! Every property may be set but for a short list: those that Leadlane's promises rest on, and those that load code,
//! run commands or write files, because a configuration is data. A second list names the properties that are shown,
//! since their values are never secrets; a property that librdkafka adds stays hidden until it is on that list.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use crate::reader::closest;

/// librdkafka properties; `Debug` and serialization show the values of a fixed list of them.
#[derive(Clone, Default)]
pub struct Properties(pub BTreeMap<String, String>);

/// Properties whose value is shown: numbers, switches, names of mechanisms, files and hosts.
const SHOWN: &str = "
    allow.auto.create.topics api.version.fallback.ms api.version.request api.version.request.timeout.ms
    auto.commit.interval.ms batch.num.messages batch.size broker.address.family broker.address.ttl
    broker.version.fallback check.crcs client.dns.lookup client.id client.rack compression.codec compression.level
    compression.type connections.max.idle.ms coordinator.query.interval.ms debug delivery.timeout.ms
    enable.gapless.guarantee enable.metrics.push enable.partition.eof enable.random.seed
    enable.sasl.oauthbearer.unsecure.jwt enable.ssl.certificate.verification fetch.error.backoff.ms fetch.max.bytes
    fetch.message.max.bytes fetch.min.bytes fetch.queue.backoff.ms fetch.wait.max.ms group.instance.id group.protocol
    group.protocol.type group.remote.assignor heartbeat.interval.ms https.ca.location linger.ms log.connection.close
    log.thread.name max.in.flight max.in.flight.requests.per.connection max.partition.fetch.bytes max.poll.interval.ms
    message.copy.max.bytes message.max.bytes message.send.max.retries message.timeout.ms metadata.max.age.ms
    metadata.recovery.rebootstrap.trigger.ms metadata.recovery.strategy partition.assignment.strategy
    queue.buffering.backpressure.threshold queue.buffering.max.kbytes queue.buffering.max.messages
    queue.buffering.max.ms queued.max.messages.kbytes queued.min.messages receive.message.max.bytes
    reconnect.backoff.jitter.ms reconnect.backoff.max.ms reconnect.backoff.ms request.timeout.ms retries
    retry.backoff.max.ms retry.backoff.ms sasl.kerberos.keytab sasl.kerberos.min.time.before.relogin
    sasl.kerberos.principal sasl.kerberos.service.name sasl.mechanism sasl.mechanisms
    sasl.oauthbearer.assertion.algorithm sasl.oauthbearer.grant.type sasl.oauthbearer.method sasl.username
    security.protocol session.timeout.ms socket.blocking.max.ms socket.connection.setup.timeout.ms
    socket.keepalive.enable socket.max.fails socket.nagle.disable socket.receive.buffer.bytes
    socket.send.buffer.bytes socket.timeout.ms ssl.ca.location ssl.certificate.location ssl.cipher.suites
    ssl.crl.location ssl.curves.list ssl.endpoint.identification.algorithm ssl.key.location ssl.keystore.location
    ssl.providers ssl.sigalgs.list statistics.interval.ms sticky.partitioning.linger.ms topic.blacklist
    topic.metadata.propagation.max.ms topic.metadata.refresh.fast.cnt topic.metadata.refresh.fast.interval.ms
    topic.metadata.refresh.interval.ms topic.metadata.refresh.sparse transaction.timeout.ms
";

/// Those whose value is or may be a secret.
const NEVER_SHOWN: &str = "
    https.ca.pem sasl.oauthbearer.assertion.private.key.passphrase sasl.oauthbearer.assertion.private.key.pem
    sasl.oauthbearer.client.id sasl.oauthbearer.client.secret sasl.oauthbearer.config sasl.oauthbearer.extensions
    sasl.oauthbearer.scope sasl.oauthbearer.token.endpoint.url sasl.password ssl.ca.pem ssl.certificate.pem
    ssl.key.password ssl.key.pem ssl.keystore.password
";

/// Providers that come with OpenSSL. Any other name is a file that OpenSSL loads code from.
const OPENSSL_PROVIDERS: [&str; 4] = ["default", "legacy", "fips", "base"];

/// Why a property can't be set, and what to set instead.
pub(super) fn refused(property: &str, value: &str) -> Option<&'static str> {
    // librdkafka takes `topic.` before the name of a topic's property.
    Some(match property.trim_start_matches("topic.") {
        "isolation.level" => "readers of transactions must read committed",
        "transactional.id" => "it is made from processor.instance",
        "acks" | "request.required.acks" => "a record counts when all in-sync replicas have it",
        "enable.idempotence" => "retries must not write a record twice",
        "group.id" => "set kafka.group",
        "bootstrap.servers" | "metadata.broker.list" => "set kafka.brokers",
        "auto.offset.reset" => "set processor.start",
        "partitioner" => "records are partitioned as Java clients do",
        "delivery.report.only.error" => "every record's acknowledgement is waited for",
        "auto.commit.enable" => "offsets are committed with the work that they stand for",
        name if name.starts_with("enable.auto.") => "offsets are committed with the work that they stand for",
        name if name.starts_with("offset.store.") => "offsets are kept by the brokers, and no file is written",
        "plugin.library.paths" | "ssl.engine.location" | "ssl.engine.id" => "it loads code into the process",
        "ssl.providers" if !value.split(',').all(|name| OPENSSL_PROVIDERS.contains(&name.trim())) => {
            "it loads code into the process; name default, legacy, fips or base, by comma"
        }
        "sasl.kerberos.kinit.cmd" => "it runs a command; have the ticket renewed outside of Leadlane",
        "internal.termination.signal" => "Leadlane's own signals end it",
        _ => return None,
    })
}

impl Properties {
    /// Whether the value of this property is never a secret.
    pub fn is_shown(name: &str) -> bool {
        SHOWN.split_whitespace().any(|shown| shown == name)
    }

    /// The property of librdkafka's that was probably meant.
    pub fn closest(name: &str) -> Option<&'static str> {
        closest(name, [SHOWN, NEVER_SHOWN].into_iter().flat_map(str::split_whitespace))
    }

    /// The values that may be secrets.
    pub fn hidden(&self) -> impl Iterator<Item = &str> {
        let hidden = self.0.iter().filter(|(name, _)| !Self::is_shown(name));
        hidden.map(|(_, value)| value.as_str())
    }

    fn shown(&self) -> impl Iterator<Item = (&str, &str)> {
        let shown = |(name, value)| match Self::is_shown(name) {
            true => (name, value),
            false => (super::unknown_key(name), "***"),
        };
        self.0
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .map(shown)
    }
}

impl std::fmt::Debug for Properties {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map().entries(self.shown()).finish()
    }
}

impl Serialize for Properties {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.shown())
    }
}

impl<'de> Deserialize<'de> for Properties {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let written = Value::deserialize(deserializer)?;
        let Value::Object(map) = written else {
            return Err(serde::de::Error::custom(
                "needs a map of librdkafka's properties, such as {security.protocol: SASL_SSL}",
            ));
        };
        let text = |(name, value): (String, Value)| match value {
            Value::String(text) => Ok((name, text)),
            Value::Number(_) | Value::Bool(_) => Ok((name, value.to_string())),
            _ => Err(serde::de::Error::custom(format!(
                "{} needs a text, a number, true or false",
                super::plain_key(&name)
            ))),
        };
        map.into_iter().map(text).collect::<Result<_, _>>().map(Self)
    }
}
