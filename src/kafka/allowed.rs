//! What Kafka allows the configuration's user to do, asked without an effect.
//!
//! Brokers look at the rights of a request before they look at anything else in it. So each question is a request
//! that changes nothing when it is allowed:
//!
//! - Reading is a fetch at a topic's end.
//! - Writing is a record with `acks=2`. Kafka knows 0, 1 and all, and refuses any other before it writes.
//! - Reading in a group is an offset of a topic whose name no topic can have.
//! - Transactional ids are asked for with one of their own, which nobody writes with.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};
use rdkafka::{Offset, TopicPartitionList};

pub use super::rights::Right;
use super::rights::{Resource, Rights};
use super::words::Words;
use super::{ANSWER_WAIT, Context, reader};
use crate::config::Config;

/// No topic can have this name.
const NO_TOPIC: &str = "no/topic";
/// Kafka knows no meaning of this.
const NO_ACKS: &str = "2";

/// Whether the user has the right. The error says why that isn't known.
pub fn allowed(config: &Config, right: &Right) -> Result<bool, String> {
    let asked = match &right.resource {
        Resource::Topic(topic) if right.operation == "Write" => write(config, topic),
        Resource::Topic(topic) => read(config, topic),
        Resource::Group(group) => group_reads(config, group),
        Resource::TransactionalId(id) => transactions(config, id),
        Resource::TransactionalIds(prefix) => transactions(config, &format!("{prefix}-doctor")),
    };
    asked.map_err(|error| error.unwrap_or_else(|| "Kafka gives no answer".to_owned()))
}

impl Right {
    /// What it lets the user do with what it is of.
    pub fn verb(&self) -> &'static str {
        match (&self.resource, self.operation) {
            (Resource::Topic(_), "Write") => "write",
            (Resource::Topic(_), _) => "read",
            (Resource::Group(_), _) => "read in the group",
            (Resource::TransactionalId(_), _) => "write with the transactional id",
            (Resource::TransactionalIds(_), _) => "write with transactional ids that begin with",
        }
    }

    /// Which ACL is missing, and the command that adds it.
    pub fn refusal(&self, config: &Config) -> String {
        let missing = Rights::of(&config.kafka, [self.clone()]).all_missing();
        missing.unwrap_or_else(|| unreachable!("there is one"))
    }
}

/// Without words there was no answer in time.
type Answer = Result<bool, Option<String>>;

fn said(error: impl ToString) -> Option<String> {
    Some(error.to_string())
}

fn read(config: &Config, topic: &str) -> Answer {
    let consumer = reader::consumer(config, reader::Isolation::Uncommitted, &[("fetch.wait.max.ms", "10")]);
    let consumer = consumer.map_err(said)?;
    let mut list = TopicPartitionList::with_capacity(1);
    list.add_partition_offset(topic, 0, Offset::End).map_err(said)?;
    consumer.assign(&list).map_err(said)?;
    until(|wait| match consumer.poll(wait) {
        Some(Ok(_)) | Some(Err(KafkaError::PartitionEOF(_))) => Some(true),
        Some(Err(error)) => refused(&error, Code::TopicAuthorizationFailed).then_some(false),
        None => None,
    })
    .ok_or(None)
}

fn write(config: &Config, topic: &str) -> Answer {
    let mut client = super::client(&config.kafka);
    client
        .set("acks", NO_ACKS)
        .set("enable.idempotence", "false")
        .set("linger.ms", "0")
        .set("message.timeout.ms", ANSWER_WAIT.as_millis().to_string());
    let context = Probe::of(config);
    let producer: BaseProducer<Probe> = Words::of(&config.kafka)
        .create(&client, context.clone())
        .map_err(said)?;
    let record = BaseRecord::<str, str>::to(topic)
        .partition(0)
        .key("leadlane")
        .payload("");
    producer.send(record).map_err(|(error, _)| said(error))?;
    let answer = until(|wait| {
        producer.poll(wait);
        context.got()
    });
    match answer.ok_or(None)? {
        Err(Code::TopicAuthorizationFailed) => Ok(false),
        Ok(()) | Err(Code::InvalidRequiredAcks) => Ok(true),
        Err(Code::MessageTimedOut) => Err(None),
        Err(code) => Err(said(code)),
    }
}

fn group_reads(config: &Config, group: &str) -> Answer {
    let mut client = super::consumer(&config.kafka, group, 1024);
    client.remove("group.remote.assignor");
    client
        .set("group.protocol", "classic")
        // A commit waits for so long to learn who coordinates the group.
        .set("session.timeout.ms", "4000");
    let context = Context::of(&config.kafka);
    let consumer: BaseConsumer<Context> = Words::of(&config.kafka).create(&client, context).map_err(said)?;
    let mut list = TopicPartitionList::with_capacity(1);
    list.add_partition_offset(NO_TOPIC, 0, Offset::Offset(0))
        .map_err(said)?;
    let committed = consumer.commit(&list, CommitMode::Sync);
    match committed.err().and_then(|error| error.rdkafka_error_code()) {
        Some(Code::GroupAuthorizationFailed) => Ok(false),
        // The rest is about the topic, which isn't there.
        None | Some(Code::UnknownTopicOrPartition | Code::TopicAuthorizationFailed | Code::InvalidTopic) => Ok(true),
        // Who may not even see the group is told beside.
        Some(code) => {
            let told = || consumer.poll(Duration::from_millis(100));
            let told = std::iter::from_fn(told).filter_map(Result::err).take(16);
            match { told }.any(|error| refused(&error, Code::GroupAuthorizationFailed)) {
                true => Ok(false),
                false => Err(said(code)),
            }
        }
    }
}

fn transactions(config: &Config, id: &str) -> Answer {
    let mut client = super::producer(&config.kafka);
    client.set("transactional.id", id);
    let producer: BaseProducer<Probe> = Words::of(&config.kafka)
        .create(&client, Probe::of(config))
        .map_err(said)?;
    match producer.init_transactions(ANSWER_WAIT) {
        Ok(()) => Ok(true),
        Err(error) if refused(&error, Code::TransactionalIdAuthorizationFailed) => Ok(false),
        Err(error) => {
            let fatal = producer.client().fatal_error().map(|(code, _)| code);
            match fatal {
                Some(Code::TransactionalIdAuthorizationFailed) => Ok(false),
                _ => Err(said(error)),
            }
        }
    }
}

/// Asks until there is an answer, or for as long as brokers are waited for.
fn until<T>(mut ask: impl FnMut(Duration) -> Option<T>) -> Option<T> {
    let began = Instant::now();
    while began.elapsed() < ANSWER_WAIT {
        if let Some(answer) = ask(Duration::from_millis(100)) {
            return Some(answer);
        }
    }
    None
}

fn refused(error: &KafkaError, code: Code) -> bool {
    error.rdkafka_error_code() == Some(code)
}

/// Keeps the broker's answer.
#[derive(Clone)]
struct Probe {
    words: Words,
    answer: Arc<Mutex<Option<Result<(), Code>>>>,
}

impl Probe {
    fn of(config: &Config) -> Self {
        Self {
            words: Words::of(&config.kafka),
            answer: Arc::default(),
        }
    }

    fn got(&self) -> Option<Result<(), Code>> {
        *self.answer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answered(&self, failed: Option<&KafkaError>) {
        let code = |error: &KafkaError| error.rdkafka_error_code().unwrap_or(Code::Unknown);
        *self.answer.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(failed.map_or(Ok(()), |error| Err(code(error))));
    }
}

impl ClientContext for Probe {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.words.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        let reason = self.words.masked(reason);
        tracing::debug!(kafka.error = %error, kafka.reason = reason, "kafka client error");
    }
}

impl ProducerContext for Probe {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        self.answered(result.as_ref().err().map(|(error, _)| error));
    }
}
