//! Writing records one by one, each acknowledged by all in-sync replicas.

use std::time::Duration;

use rdkafka::Message;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
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

#[derive(Clone)]
pub struct Producer(std::sync::Arc<ThreadedProducer<Acks>>);

type OnAck = Box<dyn FnOnce(Ack) + Send + Sync>;

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
            Err((error, _)) => Err(error.to_string()),
        });
    }
}

impl Producer {
    pub fn new(config: &Config, record_max: usize) -> Result<Self, KafkaError> {
        let mut client = super::producer(&config.kafka);
        client.set("message.max.bytes", record_max.to_string());
        Ok(Self(std::sync::Arc::new(client.create_with_context(Acks)?)))
    }

    /// Writes a record; `on_ack` is called on the client's own thread once it is settled.
    pub fn write(&self, record: &Record<'_>, on_ack: impl FnOnce(Ack) + Send + Sync + 'static) {
        let mut opaque: Box<OnAck> = Box::new(Box::new(on_ack));
        loop {
            let mut base = BaseRecord::with_opaque_to(record.topic, opaque)
                .key(record.key)
                .headers(record.headers.clone());
            base.payload = record.value;
            base.partition = record.partition;
            match self.0.send(base) {
                Ok(()) => return,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), base)) => {
                    opaque = base.delivery_opaque;
                    std::thread::sleep(Duration::from_millis(1));
                }
                Err((error, base)) => return (base.delivery_opaque)(Err(error.to_string())),
            }
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
        self.0.flush(timeout).is_ok()
    }
}

impl std::fmt::Debug for Producer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Producer").finish_non_exhaustive()
    }
}
