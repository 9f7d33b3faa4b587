//! Writing records one by one, each acknowledged by all in-sync replicas.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rdkafka::Message;
use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer as _, ProducerContext, ThreadedProducer};

use crate::config::Config;

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
pub type Ack = Result<(i32, i64), String>;

/// Why a record wasn't written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unwritten {
    /// Larger than its topic takes; it never will be.
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
            Some(RDKafkaErrorCode::MessageSizeTooLarge) => Self::TooLarge,
            Some(RDKafkaErrorCode::QueueFull) => Self::Full,
            _ => Self::Failed(error.to_string()),
        }
    }
}

/// A client whose idempotence failed takes no record any more (a broker that comes back without its last seconds
/// knows less of it than it does itself); a new one takes its place.
#[derive(Clone)]
pub struct Producer {
    client: ClientConfig,
    producer: Arc<Mutex<Arc<ThreadedProducer<Acks>>>>,
}

type OnAck = Box<dyn FnOnce(Result<(i32, i64), Unwritten>) + Send + Sync>;

struct Acks;

impl ClientContext for Acks {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        super::log(level, facility, message);
    }
}

impl ProducerContext for Acks {
    type DeliveryOpaque = Box<OnAck>;

    fn delivery(&self, result: &DeliveryResult<'_>, on_ack: Self::DeliveryOpaque) {
        on_ack(match result {
            Ok(message) => Ok((message.partition(), message.offset())),
            Err((error, _)) => Err(error.clone().into()),
        });
    }
}

impl Producer {
    pub fn new(config: &Config, record_max: usize) -> Result<Self, KafkaError> {
        Self::with(config, record_max, &[])
    }

    /// For records that somebody waits for: what Kafka hasn't taken within `timeout` is given up, and no
    /// more than `waiting_max` bytes wait for it.
    pub fn of_requests(
        config: &Config,
        record_max: usize,
        timeout: Duration,
        waiting_max: usize,
    ) -> Result<Self, KafkaError> {
        let timeout = timeout.as_millis().to_string();
        let waiting = (waiting_max / 1024).to_string();
        let own = [
            ("message.timeout.ms", timeout.as_str()),
            ("queue.buffering.max.kbytes", &waiting),
        ];
        Self::with(config, record_max, &own)
    }

    fn with(config: &Config, record_max: usize, own: &[(&str, &str)]) -> Result<Self, KafkaError> {
        let mut client = super::producer(&config.kafka);
        client.set("message.max.bytes", record_max.to_string());
        for (name, value) in own {
            client.set(*name, *value);
        }
        let producer = Arc::new(client.create_with_context(Acks)?);
        Ok(Self {
            client,
            producer: Arc::new(Mutex::new(producer)),
        })
    }

    /// Writes a record; `on_ack` is called on the client's own thread once it is settled. Waits while too
    /// many records wait for Kafka already.
    pub fn write(&self, record: &Record<'_>, on_ack: impl FnOnce(Ack) + Send + Sync + 'static) {
        let mut on_ack: OnAck = Box::new(move |ack| on_ack(ack.map_err(|why| why.to_string())));
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

    /// The same without waiting: where too many records wait already, that is the answer.
    pub fn offer(
        &self,
        record: &Record<'_>,
        on_ack: impl FnOnce(Result<(i32, i64), Unwritten>) + Send + Sync + 'static,
    ) {
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
        let producer = self.producer();
        producer.send(base).map_err(|(error, base)| {
            if error.rdkafka_error_code() == Some(RDKafkaErrorCode::Fatal) {
                self.renew(&producer);
            }
            (error.into(), *base.delivery_opaque)
        })
    }

    fn producer(&self) -> Arc<ThreadedProducer<Acks>> {
        Arc::clone(&self.producer.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts a new client in the place of one that failed for good. What waits there is answered with its failure.
    fn renew(&self, failed: &Arc<ThreadedProducer<Acks>>) {
        let mut producer = self.producer.lock().unwrap_or_else(PoisonError::into_inner);
        if !Arc::ptr_eq(&producer, failed) {
            return;
        }
        let why = failed
            .client()
            .fatal_error()
            .map(|(_, reason)| reason)
            .unwrap_or_default();
        match self.client.create_with_context(Acks) {
            Ok(renewed) => {
                tracing::warn!(why, "the producer failed for good; a new one takes its place");
                *producer = Arc::new(renewed);
            }
            Err(error) => tracing::error!(%error, why, "the producer failed for good, and a new one can't be made"),
        }
    }

    /// Writes a record and waits for its acknowledgement.
    pub fn write_and_wait(&self, record: &Record<'_>) -> Ack {
        let (acked, ack) = std::sync::mpsc::channel();
        self.write(record, move |result| drop(acked.send(result)));
        ack.recv().unwrap_or_else(|_| Err("the producer is gone".to_owned()))
    }

    /// Waits until all that was written is acknowledged.
    pub fn flush(&self, timeout: Duration) -> bool {
        self.producer().flush(timeout).is_ok()
    }
}

impl std::fmt::Debug for Producer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Producer").finish_non_exhaustive()
    }
}
