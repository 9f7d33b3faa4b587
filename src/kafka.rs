//! Everything that touches rdkafka. Errors are classified here, once, into what to do next.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::message::{Header, Headers, OwnedHeaders};
use rdkafka::metadata::Metadata;

/// A record as the client has it: what the processor's loop reads.
pub use rdkafka::Message;
pub use rdkafka::error::KafkaError;
pub use rdkafka::message::BorrowedMessage;

use crate::config::{self, Config};

pub mod jobs;
pub mod place;
pub mod producer;
pub mod reader;
pub mod scan;
pub mod together;
pub mod topics;
pub mod worker;

/// How long a question to the brokers may take.
const ANSWER_WAIT: Duration = Duration::from_secs(10);

/// How long a member may be silent before the group takes its partitions, unless the configuration says.
const SESSION_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a member of ours may be silent before the group takes its partitions.
pub(crate) fn session_timeout(kafka: &config::Kafka) -> Duration {
    let given = kafka.consumer_properties.0.get("session.timeout.ms");
    given
        .and_then(|millis| millis.trim().parse().ok())
        .map_or(SESSION_TIMEOUT, Duration::from_millis)
}

/// What a Kafka error asks for.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Fault {
    /// The same call again may succeed.
    #[error("{0}")]
    Retriable(String),
    /// The transaction has to be aborted and its events read again.
    #[error("{0}")]
    Abort(String),
    /// The client can't go on; a new one may.
    #[error("{message}")]
    Fatal { message: String, fenced: bool },
}

impl From<KafkaError> for Fault {
    fn from(error: KafkaError) -> Self {
        let code = error.rdkafka_error_code();
        let fenced = matches!(
            code,
            Some(RDKafkaErrorCode::Fenced | RDKafkaErrorCode::ProducerFenced | RDKafkaErrorCode::InvalidProducerEpoch)
        );
        let message = error.to_string();
        match &error {
            // librdkafka asks for an abort first, which then fails for good.
            KafkaError::Transaction(_) if fenced => Self::Fatal { message, fenced },
            KafkaError::Transaction(inner) if inner.is_fatal() => Self::Fatal { message, fenced },
            KafkaError::Transaction(inner) if inner.txn_requires_abort() => Self::Abort(message),
            KafkaError::Transaction(inner) if inner.is_retriable() => Self::Retriable(message),
            KafkaError::Transaction(_) => Self::Fatal { message, fenced },
            _ if fenced || code == Some(RDKafkaErrorCode::Fatal) => Self::Fatal { message, fenced },
            KafkaError::Flush(_) => Self::Retriable(message),
            _ => Self::Abort(message),
        }
    }
}

/// Brings librdkafka's own words to our log, and remembers the last of its errors.
#[derive(Debug, Clone, Default)]
pub struct Context {
    last_error: Arc<Mutex<Option<(RDKafkaErrorCode, String)>>>,
}

impl Context {
    fn last_error(&self) -> Option<(RDKafkaErrorCode, String)> {
        self.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        if let Some(code) = error.rdkafka_error_code() {
            *self.last_error.lock().unwrap_or_else(PoisonError::into_inner) = Some((code, reason.to_owned()));
        }
        tracing::debug!(kafka.error = %error, kafka.reason = reason, "kafka client error");
    }
}

impl ConsumerContext for Context {}

fn log(level: RDKafkaLogLevel, facility: &str, message: &str) {
    match level {
        RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
            tracing::error!(facility, "kafka client: {message}");
        }
        // A broker that is away says so once per connection; that is a recovered oddity.
        RDKafkaLogLevel::Error | RDKafkaLogLevel::Warning => tracing::warn!(facility, "kafka client: {message}"),
        _ => tracing::debug!(facility, "kafka client: {message}"),
    }
}

/// The properties of every client.
fn client(kafka: &config::Kafka) -> ClientConfig {
    let mut client = ClientConfig::new();
    client
        .set("bootstrap.servers", &kafka.brokers)
        .set("client.id", "leadlane")
        // A broker that restarts is back within a second or two.
        .set("reconnect.backoff.max.ms", "2000");
    for (name, value) in &kafka.properties.0 {
        client.set(name, value);
    }
    client
}

/// A consumer that reads committed records only and never commits by itself.
/// `queue_kbytes` bounds what is fetched ahead.
fn consumer(kafka: &config::Kafka, group: &str, queue_kbytes: u32) -> ClientConfig {
    let mut client = client(kafka);
    client
        // The default sleeps up to a second whenever the fetch queue was full.
        .set("fetch.queue.backoff.ms", "5")
        // The default is 64 MiB for each consumer.
        .set("queued.max.messages.kbytes", queue_kbytes.to_string());
    // After a crash the partitions are free again this soon. With the newer protocol the broker rules it.
    if kafka
        .consumer_properties
        .0
        .get("group.protocol")
        .is_none_or(|protocol| protocol == "classic")
    {
        client.set("session.timeout.ms", SESSION_TIMEOUT.as_millis().to_string());
    }
    for (name, value) in &kafka.consumer_properties.0 {
        client.set(name, value);
    }
    client
        .set("group.id", group)
        .set("isolation.level", "read_committed")
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("auto.offset.reset", "error");
    client
}

/// A producer that loses and repeats nothing.
fn producer(kafka: &config::Kafka) -> ClientConfig {
    let mut client = client(kafka);
    client.set("linger.ms", "5").set("compression.type", "lz4");
    for (name, value) in &kafka.producer_properties.0 {
        client.set(name, value);
    }
    client
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("partitioner", "murmur2_random");
    client
}

/// Asks the brokers for their metadata; the error says in one message what is wrong.
pub(crate) fn metadata(config: &Config, topic: Option<&str>) -> Result<Metadata, String> {
    let context = Context::default();
    let consumer: BaseConsumer<Context> = consumer(&config.kafka, &config.kafka.group, 1024)
        .create_with_context(context.clone())
        .map_err(|error| format!("the Kafka client can't be made: {error}; check kafka.properties"))?;
    let brokers = &config.kafka.brokers;
    for _ in 0..10 {
        match consumer.fetch_metadata(topic, Duration::from_secs(1)) {
            Ok(metadata) => return Ok(metadata),
            Err(error) => tracing::debug!(%error, "no metadata yet"),
        }
        drop(consumer.poll(Duration::ZERO));
        if let Some((RDKafkaErrorCode::Authentication, reason)) = context.last_error() {
            return Err(format!(
                "the broker at {brokers} refused the log-in: {reason}; check sasl.username and sasl.password in kafka.properties"
            ));
        }
    }
    let reason = context
        .last_error()
        .map(|(_, reason)| format!(" ({reason})"))
        .unwrap_or_default();
    Err(format!(
        "no broker answers at {brokers}{reason}; check kafka.brokers and kafka.properties, and that Kafka runs"
    ))
}

/// A header's text, if it is there and is text.
pub(crate) fn header<'m, H: Headers>(headers: Option<&'m H>, name: &str) -> Option<&'m str> {
    let headers = headers?;
    let value = headers.iter().find(|header| header.key == name)?.value?;
    std::str::from_utf8(value).ok()
}

/// What is told beside a record that can go no further, the same whoever writes the dead letter.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Failure<'f> {
    pub(crate) reason: &'f str,
    pub(crate) detail: &'f str,
    /// Where the record is from: a topic, or an inlet.
    pub(crate) source: &'f str,
    /// Its partition and offset there, where it has them.
    pub(crate) place: Option<(i32, i64)>,
    pub(crate) at: jiff::Timestamp,
}

impl Failure<'_> {
    /// The headers of the dead letter, `known` after those that each has.
    pub(crate) fn headers<'a>(&self, known: impl IntoIterator<Item = (&'a str, &'a str)>) -> OwnedHeaders {
        let place = self
            .place
            .map(|(partition, offset)| (partition.to_string(), offset.to_string()));
        let place = place.as_ref().map(|(partition, offset)| {
            [
                ("source-partition", partition.as_str()),
                ("source-offset", offset.as_str()),
            ]
        });
        let failed_at = self.at.to_string();
        let told = [
            ("reason", self.reason),
            ("detail", self.detail),
            ("source-topic", self.source),
        ];
        let told = told
            .into_iter()
            .chain(place.into_iter().flatten())
            .chain([("failed-at", failed_at.as_str())]);
        more(headers(told), known)
    }
}

/// Headers from (name, text) pairs.
pub(crate) fn headers<'h>(pairs: impl IntoIterator<Item = (&'h str, &'h str)>) -> OwnedHeaders {
    more(OwnedHeaders::new_with_capacity(8), pairs)
}

fn more<'h>(headers: OwnedHeaders, pairs: impl IntoIterator<Item = (&'h str, &'h str)>) -> OwnedHeaders {
    pairs.into_iter().fold(headers, |headers, (key, value)| {
        headers.insert(Header {
            key,
            value: Some(value),
        })
    })
}
