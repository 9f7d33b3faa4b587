//! All of rdkafka. This module classifies Kafka's errors, once, by what the caller has to do next.

use std::net::{TcpStream, ToSocketAddrs as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rdkafka::client::{Client, ClientContext};
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
pub use rdkafka::error::KafkaError;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::message::DeliveryResult;
use rdkafka::metadata::Metadata;
use rdkafka::producer::ProducerContext;
use rdkafka::topic_partition_list::TopicPartitionList;

pub use queue::ConsumerRecord;
/// A record as the client has it: what the processor's loop reads.
pub use rdkafka::Message;

use crate::config::{self, Config};

pub mod allowed;
mod certificate;
mod greeting;
pub mod groups;
mod headers;
pub mod jobs;
mod letter;
pub mod pick;
pub mod place;
pub mod producer;
mod queue;
pub mod reader;
mod refused;
mod rights;
pub mod scan;
#[cfg(test)]
mod tests;
pub mod together;
pub mod topics;
mod words;
pub mod worker;

pub use headers::Ours;
pub(crate) use headers::{OWN_VERSION, TEST, VERSION, header, headers, is_traceparent, versioned};
pub(crate) use letter::{Failure, LEFT_OUT_SUM, Letter, left_out_sum};
pub use refused::refused;
use rights::Rights;
use words::Words;

/// How long a question to the brokers may take.
const ANSWER_WAIT: Duration = Duration::from_secs(10);

/// How long a member may be silent before the group takes its partitions, unless the configuration says.
const SESSION_TIMEOUT: Duration = Duration::from_secs(10);

/// The version of the Kafka client that the program has in it.
pub fn librdkafka_version() -> String {
    rdkafka::util::get_rdkafka_version().1
}

/// The version of OpenSSL that it, and every HTTP client, is linked with.
pub fn openssl_version() -> &'static str {
    openssl::version::version()
}

/// How long a member of ours may be silent before the group takes its partitions.
pub(crate) fn session_timeout(kafka: &config::Kafka) -> Duration {
    let given = kafka.consumer_properties.0.get("session.timeout.ms");
    given
        .and_then(|millis| millis.trim().parse().ok())
        .map_or(SESSION_TIMEOUT, Duration::from_millis)
}

/// The largest record that is handed to Kafka, in bytes before compression: a request of this size is still one
/// that a broker reads. What a topic takes is less, but counts what is compressed, so that the broker has to say.
pub(crate) const RECORD_MAX: usize = 64_000_000;

/// Whether the broker refuses the record itself, for its size or its content, and would refuse it again. Whatever
/// else it says is about the topic, the cluster or us, and passes.
fn is_refusal(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(
        code,
        Code::MessageSizeTooLarge | Code::InvalidMessageSize | Code::MessageBatchTooLarge | Code::InvalidRecord
    )
}

/// Whether another client has taken over the transactional id.
fn is_fence(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(code, Code::Fenced | Code::ProducerFenced | Code::InvalidProducerEpoch)
}

/// What was fatal to a client: the error that a call gives says no more than that something was.
fn fatal(client: &Client<impl ClientContext>, rights: &Rights) -> Option<Fault> {
    let (code, message) = client.fatal_error()?;
    let message = format!("{message} ({code})");
    Some(Fault::Fatal {
        message: rights.denies(code, None).unwrap_or(message),
        fenced: is_fence(code),
    })
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
    /// The transaction has to be aborted, and not be tried again as it was: Kafka refuses a record in it for its
    /// size or its content. `write` says which, where each was waited for.
    #[error("{message}")]
    Refused {
        message: String,
        write: Option<worker::Write>,
    },
    /// No client can be made of the configuration.
    #[error("the Kafka client can't be made: {0}; check kafka.properties, consumer_properties and producer_properties")]
    Unusable(String),
    /// The client can't go on; a new one may.
    #[error("{message}")]
    Fatal { message: String, fenced: bool },
}

impl From<KafkaError> for Fault {
    fn from(error: KafkaError) -> Self {
        let code = error.rdkafka_error_code();
        let fenced = code.is_some_and(is_fence);
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

/// How a command begins that is a tool of Kafka's own. The file `admin.properties` is of the person who runs it.
fn tool(kafka: &config::Kafka, name: &str) -> String {
    let brokers = &kafka.brokers;
    let login = match kafka.properties.0.contains_key("security.protocol") {
        true => " --command-config admin.properties",
        false => "",
    };
    format!("{name} --bootstrap-server {brokers}{login}")
}

/// Brings librdkafka's own words to our log, and remembers what they say of connections that failed.
#[derive(Debug, Clone, Default)]
pub struct Context {
    words: Words,
    failures: Arc<Mutex<Vec<Failed>>>,
    /// Every connection is gone.
    closed: Arc<AtomicBool>,
}

/// A connection that failed, or was closed.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Failed {
    /// The broker refused the log-in.
    is_login: bool,
    reason: String,
}

/// So many different failures are remembered.
const FAILURES_MAX: usize = 16;

impl Context {
    fn of(kafka: &config::Kafka) -> Self {
        Self {
            words: Words::of(kafka),
            failures: Arc::default(),
            closed: Arc::default(),
        }
    }

    fn failures(&self) -> Vec<Failed> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What a broker wants that takes connections and closes them without a word. librdkafka says nothing of it.
    fn closed_in_silence(&self, brokers: &str, failures: &[Failed]) -> Option<String> {
        let in_silence = failures.iter().all(|failed| failed.reason.contains("in state UP"));
        if !in_silence || !self.closed.load(Ordering::Relaxed) {
            return None;
        }
        Some(match greeting::answers(brokers)? {
            true => words::wants_login(),
            false => words::wants_tls(),
        })
    }

    fn failed(&self, is_login: bool, reason: String) {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let failed = Failed { is_login, reason };
        if failures.len() < FAILURES_MAX && !failures.contains(&failed) {
            failures.push(failed);
        }
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.words.log(level, facility, message);
        // What keeps a connection from being made, also where no call fails of it.
        if facility == "FAIL" {
            self.failed(false, self.words.masked(message));
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        let reason = self.words.masked(reason);
        tracing::debug!(kafka.error = %error, kafka.reason = reason, "kafka client error");
        match error.rdkafka_error_code() {
            None => {}
            Some(RDKafkaErrorCode::AllBrokersDown) => self.closed.store(true, Ordering::Relaxed),
            Some(code) => self.failed(code == RDKafkaErrorCode::Authentication, reason),
        }
    }
}

impl ConsumerContext for Context {}

impl ProducerContext for Context {
    type DeliveryOpaque = ();

    fn delivery(&self, _: &DeliveryResult<'_>, (): ()) {}
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

/// Connects to a broker past librdkafka, to ask what that doesn't say.
fn connect(broker: &str) -> Option<TcpStream> {
    const WAIT: Duration = Duration::from_secs(2);
    let address = broker.to_socket_addrs().ok()?.next()?;
    let stream = TcpStream::connect_timeout(&address, WAIT).ok()?;
    stream.set_read_timeout(Some(WAIT)).ok()?;
    Some(stream)
}

/// Asks the brokers for their metadata; the error says in one message what is wrong.
pub(crate) fn metadata(config: &Config, topic: Option<&str>) -> Result<Metadata, String> {
    let context = Context::of(&config.kafka);
    let client = consumer(&config.kafka, &config.kafka.group, 1024);
    let consumer: BaseConsumer<Context> = Words::of(&config.kafka)
        .create(&client, context.clone())
        .map_err(|error| format!("the Kafka client can't be made: {error}; check kafka.properties"))?;
    let brokers = &config.kafka.brokers;
    for tries in 1..=TRIES {
        match consumer.fetch_metadata(topic, Duration::from_secs(1)) {
            Ok(metadata) => return Ok(metadata),
            Err(error) => tracing::debug!(%error, "no metadata yet"),
        }
        drop(consumer.poll(Duration::ZERO));
        let failures = context.failures();
        let told = || {
            let told = failures.iter().find_map(|failed| words::told_apart(&failed.reason));
            told.or_else(|| context.closed_in_silence(brokers, &failures))
        };
        // A broker that is starting closes connections, too; one that goes on for so long means it.
        if let Some(told) = (tries >= TRIES / 2).then(told).flatten() {
            let certificate = |failed: &Failed| {
                let is_of_it = failed.reason.contains("certificate verify failed");
                is_of_it.then(|| certificate::wrong(&config.kafka, &failed.reason))?
            };
            let told = failures.iter().find_map(certificate).unwrap_or(told);
            return Err(format!("the broker at {brokers} {told}"));
        }
        if let Some(login) = failures.iter().find(|failed| failed.is_login)
            && words::told_apart(&login.reason).is_none()
        {
            return Err(format!(
                "the broker at {brokers} refused the log-in: {}; check sasl.username and sasl.password in kafka.properties",
                login.reason
            ));
        }
    }
    let failures = context.failures();
    let reason = failures
        .last()
        .map(|failed| format!(" ({})", failed.reason))
        .unwrap_or_default();
    Err(format!(
        "no broker answers at {brokers}{reason}; check kafka.brokers and kafka.properties, and that Kafka runs"
    ))
}

/// What the consumer's group has committed. Who may not ask for it waits in vain for the group's coordinator; why, only a
/// poll brings.
fn committed(consumer: &BaseConsumer<Context>, list: TopicPartitionList) -> Result<TopicPartitionList, KafkaError> {
    let mut tries = 1;
    loop {
        let asked = consumer.committed_offsets(list.clone(), Duration::from_secs(1));
        match (asked, consumer.poll(Duration::ZERO)) {
            (Ok(committed), _) => return Ok(committed),
            (Err(_), Some(Err(why)))
                if why.rdkafka_error_code() == Some(RDKafkaErrorCode::GroupAuthorizationFailed) =>
            {
                return Err(why);
            }
            (Err(error), _) if tries == TRIES => return Err(error),
            (Err(_), _) => tries += 1,
        }
    }
}

/// So often the brokers are asked, for a second each time.
const TRIES: u32 = 10;
