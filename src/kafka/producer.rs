//! Writing records one by one, each acknowledged by all in-sync replicas.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::Message;
use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedHeaders, BorrowedMessage, DeliveryResult, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer as _, ProducerContext, ThreadedProducer};

use super::rights::{Right, Rights, Said};
use super::topics::Limits;
use super::words::Words;
use crate::config::{self, Config};

/// A record to write.
#[derive(Debug)]
pub struct Record<'r> {
    pub topic: &'r str,
    /// By the key where none is given.
    pub partition: Option<i32>,
    pub key: &'r [u8],
    /// `None` is a tombstone.
    pub value: Option<&'r [u8]>,
    pub headers: OwnedHeaders,
}

/// Where a record was written, or why it wasn't.
pub type Ack = Result<(i32, i64), Unwritten>;

/// Why a record wasn't written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unwritten {
    /// Larger than its topic takes, or refused by it for another reason that lies in the record; it never will be.
    #[error("the record is larger than its topic takes")]
    TooLarge,
    /// Too many records wait for Kafka already.
    #[error("too many records wait for Kafka already")]
    Full,
    #[error("{0}")]
    Failed(String),
}

impl From<KafkaError> for Unwritten {
    fn from(error: KafkaError) -> Self {
        match error.rdkafka_error_code() {
            Some(code) if super::is_refusal(code) => Self::TooLarge,
            Some(RDKafkaErrorCode::QueueFull) => Self::Full,
            _ => Self::Failed(error.to_string()),
        }
    }
}

/// Kafka refuses batches, not records: a small record goes down with a large one, and small ones that are too many
/// together after their topic was made to take less. So what is refused is written once more, alone, and only that
/// is an answer.
///
/// A client whose idempotence failed takes no record any more (a broker that comes back without its last seconds
/// knows less of it than it does itself), and one that knew a topic may not find its successor (new leader epochs
/// begin at 0 again, and it takes them for outdated ones). A new one takes its place.
#[derive(Clone)]
pub struct Producer {
    denials: Arc<Denials>,
    words: Words,
    client: ClientConfig,
    alone: Option<Alone>,
    producer: Arc<Mutex<Arc<ThreadedProducer<Acks>>>>,
    lost: Arc<AtomicBool>,
}

type OnAck = Box<dyn FnOnce(Ack) + Send + Sync>;

/// Writes each record in a batch of its own; the client is made once it is needed.
#[derive(Clone)]
struct Alone {
    denials: Arc<Denials>,
    words: Words,
    client: ClientConfig,
    made: Arc<OnceLock<Producer>>,
}

impl Alone {
    fn of(denials: &Arc<Denials>, words: &Words, client: &ClientConfig) -> Self {
        let mut client = client.clone();
        client.set("batch.num.messages", "1");
        Self {
            denials: Arc::clone(denials),
            words: words.clone(),
            client,
            made: Arc::default(),
        }
    }

    fn producer(&self) -> Result<&Producer, KafkaError> {
        if let Some(made) = self.made.get() {
            return Ok(made);
        }
        let made = Producer::of(&self.denials, &self.words, self.client.clone(), None)?;
        Ok(self.made.get_or_init(|| made))
    }

    fn write(&self, refused: &BorrowedMessage<'_>, on_ack: OnAck) {
        let record = Record {
            topic: refused.topic(),
            partition: Some(refused.partition()),
            key: refused.key().unwrap_or_default(),
            value: refused.payload(),
            headers: refused.headers().map(BorrowedHeaders::detach).unwrap_or_default(),
        };
        match self.producer() {
            Ok(producer) => producer.offer(&record, on_ack),
            Err(error) => on_ack(Err(error.into())),
        }
    }
}

struct Acks {
    denials: Arc<Denials>,
    words: Words,
    /// `None` for a client that writes each record alone already.
    alone: Option<Alone>,
    /// A record did not find its topic in time.
    lost: Arc<AtomicBool>,
    /// The broker lets nobody in who may write no topic at all. What was on its way is only said to be purged.
    shut_out: AtomicBool,
}

impl ClientContext for Acks {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.words.log(level, facility, message);
        let shut_out = facility == "FATAL" && message.contains("Cluster authorization failed");
        self.shut_out.fetch_or(shut_out, Ordering::Relaxed);
    }
}

impl ProducerContext for Acks {
    type DeliveryOpaque = Box<OnAck>;

    fn delivery(&self, result: &DeliveryResult<'_>, on_ack: Self::DeliveryOpaque) {
        let ack = match result {
            Ok(message) => Ok((message.partition(), message.offset())),
            Err((error, message)) => {
                let lost = matches!(
                    error.rdkafka_error_code(),
                    Some(
                        RDKafkaErrorCode::MessageTimedOut
                            | RDKafkaErrorCode::UnknownTopic
                            | RDKafkaErrorCode::UnknownPartition
                            | RDKafkaErrorCode::UnknownTopicOrPartition
                    )
                );
                self.lost.fetch_or(lost, Ordering::Relaxed);
                let error = match self.shut_out.load(Ordering::Relaxed) {
                    true => KafkaError::MessageProduction(RDKafkaErrorCode::ClusterAuthorizationFailed),
                    false => error.clone(),
                };
                Err(self.denials.unwritten(message.topic(), error))
            }
        };
        match (ack, result, &self.alone) {
            (Err(Unwritten::TooLarge), Err((_, refused)), Some(alone)) => alone.write(refused, *on_ack),
            (ack, ..) => on_ack(ack),
        }
    }
}

/// In bytes, what Java's clients begin with; no topic that takes lead events takes less at once.
pub(super) const SMALL_BATCH: &str = "16384";
/// The default is five minutes. Whoever writes without somebody waiting tries again.
const GIVEN_UP: (&str, &str) = ("message.timeout.ms", "30000");

impl Producer {
    /// For a caller that doesn't know what the topics take. A record that Kafka hasn't taken within half a minute is given up,
    /// and its writer learns so.
    pub fn new(config: &Config, record_max: usize) -> Result<Self, KafkaError> {
        Self::with(config, record_max, &[("batch.size", SMALL_BATCH), GIVEN_UP])
    }

    /// For records whose topics say themselves what they take, counted as it is compressed.
    pub fn within(config: &Config, limits: &Limits) -> Result<Self, KafkaError> {
        let batch = limits.batch_max().to_string();
        let own = [("batch.size", batch.as_str()), GIVEN_UP];
        Self::with(config, super::RECORD_MAX, &own)
    }

    /// For records that somebody waits for: what Kafka hasn't taken within `timeout` is given up, and no
    /// more than `waiting_max` bytes wait for it.
    pub fn of_requests(
        config: &Config,
        limits: &Limits,
        timeout: Duration,
        waiting_max: usize,
    ) -> Result<Self, KafkaError> {
        let batch = limits.batch_max().to_string();
        let timeout = timeout.as_millis().to_string();
        let waiting = (waiting_max / 1024).to_string();
        let own = [
            ("batch.size", batch.as_str()),
            ("message.timeout.ms", timeout.as_str()),
            ("queue.buffering.max.kbytes", &waiting),
        ];
        Self::with(config, limits.record_max, &own)
    }

    fn with(config: &Config, record_max: usize, own: &[(&str, &str)]) -> Result<Self, KafkaError> {
        let words = Words::of(&config.kafka);
        let mut client = super::producer(&config.kafka);
        client.set("message.max.bytes", record_max.to_string());
        for (name, value) in own {
            client.set(*name, *value);
        }
        let denials = Arc::new(Denials {
            kafka: config.kafka.clone(),
            said: Mutex::default(),
        });
        let alone = Alone::of(&denials, &words, &client);
        Self::of(&denials, &words, client, Some(alone))
    }

    fn of(
        denials: &Arc<Denials>,
        words: &Words,
        client: ClientConfig,
        alone: Option<Alone>,
    ) -> Result<Self, KafkaError> {
        let lost = Arc::new(AtomicBool::new(false));
        let producer = connect(denials, words, &client, alone.as_ref(), &lost)?;
        Ok(Self {
            denials: Arc::clone(denials),
            words: words.clone(),
            client,
            alone,
            producer: Arc::new(Mutex::new(producer)),
            lost,
        })
    }

    /// Writes a record; `on_ack` is called on the client's own thread once it is settled. Waits while too
    /// many records wait for Kafka already, and so isn't for those who may not block.
    pub fn write(&self, record: &Record<'_>, on_ack: impl FnOnce(Ack) + Send + Sync + 'static) {
        let mut on_ack: OnAck = Box::new(on_ack);
        loop {
            match self.send(record, on_ack) {
                Ok(()) => return,
                Err((Unwritten::Full, again)) => {
                    on_ack = again;
                    std::thread::sleep(Duration::from_millis(1));
                }
                Err((why, on_ack)) => return on_ack(Err(why)),
            }
        }
    }

    /// The same without waiting: `false` if too many records wait already. Then nothing is written, and nobody is called.
    pub fn try_write(&self, record: &Record<'_>, on_ack: impl FnOnce(Ack) + Send + Sync + 'static) -> bool {
        match self.send(record, Box::new(on_ack)) {
            Ok(()) => true,
            Err((Unwritten::Full, _)) => false,
            Err((why, on_ack)) => {
                on_ack(Err(why));
                true
            }
        }
    }

    /// The same without waiting: where too many records wait already, that is the answer.
    pub fn offer(&self, record: &Record<'_>, on_ack: impl FnOnce(Ack) + Send + Sync + 'static) {
        if let Err((why, on_ack)) = self.send(record, Box::new(on_ack)) {
            on_ack(Err(why));
        }
    }

    fn send(&self, record: &Record<'_>, on_ack: OnAck) -> Result<(), (Unwritten, OnAck)> {
        let mut base = BaseRecord::with_opaque_to(record.topic, Box::new(on_ack))
            .key(record.key)
            .headers(record.headers.clone());
        base.payload = record.value;
        base.partition = record.partition;
        if self.lost.swap(false, Ordering::Relaxed) {
            self.renew(self.producer(), "a record didn't find its topic in time");
        }
        let producer = self.producer();
        let sent = producer.send(base);
        sent.map_err(|(error, base)| {
            if error.rdkafka_error_code() != Some(RDKafkaErrorCode::Fatal) {
                return (error.into(), *base.delivery_opaque);
            }
            let fatal = producer.client().fatal_error();
            let (code, why) = fatal.unwrap_or((RDKafkaErrorCode::Fatal, String::new()));
            self.renew(producer, &why);
            let why = self
                .denials
                .unwritten(record.topic, KafkaError::MessageProduction(code));
            (why, *base.delivery_opaque)
        })
    }

    fn producer(&self) -> Arc<ThreadedProducer<Acks>> {
        Arc::clone(&self.producer.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts a new client in the place of one that came to nothing. What still waits there is given up, and its
    /// writers learn so.
    fn renew(&self, failed: Arc<ThreadedProducer<Acks>>, why: &str) {
        let mut producer = self.producer.lock().unwrap_or_else(PoisonError::into_inner);
        if !Arc::ptr_eq(&producer, &failed) {
            return;
        }
        match connect(
            &self.denials,
            &self.words,
            &self.client,
            self.alone.as_ref(),
            &self.lost,
        ) {
            Ok(renewed) => {
                tracing::warn!(why, "a new producer takes the place of one that came to nothing");
                *producer = renewed;
                // A client's end waits for what is in flight.
                drop(std::thread::spawn(move || drop(failed)));
            }
            Err(error) => tracing::error!(%error, why, "a producer came to nothing, and a new one can't be made"),
        }
    }

    /// Writes a record and waits for its acknowledgement.
    pub fn write_and_wait(&self, record: &Record<'_>) -> Ack {
        let (acked, ack) = std::sync::mpsc::channel();
        self.write(record, move |result| drop(acked.send(result)));
        ack.recv()
            .unwrap_or_else(|_| Err(Unwritten::Failed("the producer is gone".to_owned())))
    }

    /// Waits until all that was written is acknowledged.
    pub fn flush(&self, timeout: Duration) -> bool {
        let flushed = self.producer().flush(timeout).is_ok();
        let alone = self.alone.as_ref().and_then(|alone| alone.made.get());
        flushed && alone.is_none_or(|alone| alone.flush(timeout))
    }
}

/// What ACLs don't let us write, which is said whether or not anybody waits for the record.
struct Denials {
    kafka: config::Kafka,
    said: Mutex<Said>,
}

impl Denials {
    /// Why a record of `topic` wasn't written.
    fn unwritten(&self, topic: &str, error: KafkaError) -> Unwritten {
        let Some(denied) = Rights::of(&self.kafka, [Right::write(topic)]).denied(&error) else {
            return error.into();
        };
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.is_news(&denied, Instant::now()) {
            tracing::error!("no record can be written: {denied}");
        }
        Unwritten::Failed(denied)
    }
}

fn connect(
    denials: &Arc<Denials>,
    words: &Words,
    client: &ClientConfig,
    alone: Option<&Alone>,
    lost: &Arc<AtomicBool>,
) -> Result<Arc<ThreadedProducer<Acks>>, KafkaError> {
    let acks = Acks {
        denials: Arc::clone(denials),
        words: words.clone(),
        alone: alone.cloned(),
        lost: Arc::clone(lost),
        shut_out: AtomicBool::new(false),
    };
    Ok(Arc::new(words.create(client, acks)?))
}

impl std::fmt::Debug for Producer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Producer").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_batch_is_larger_than_a_topic_takes() {
        let config = Config::parse("test", "kafka: {brokers: 'localhost:1'}", []).unwrap();
        let limits = Limits {
            event_max: 256_000,
            ..Limits::default()
        };
        let of_requests = Producer::of_requests(&config, &limits, Duration::from_secs(1), 1 << 20).unwrap();
        let within = Producer::within(&config, &limits).unwrap();
        let small = Producer::new(&config, 1 << 20).unwrap();
        for (producer, most) in [(of_requests, "256000"), (within, "256000"), (small, "16384")] {
            assert_eq!(producer.client.get("batch.size"), Some(most));
        }
    }
}
