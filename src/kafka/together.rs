//! Writes records that become visible together or not at all, in transactions that consume nothing.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rdkafka::Message;
use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext, PurgeConfig};

use super::producer::{Record, SMALL_BATCH};
use super::rights::{Right, Rights};
use super::words::Words;
use super::worker::{Denied, again};
use super::{ANSWER_WAIT, Fault};
use crate::config::Config;

/// Writes of one transactional id. Whoever opens the id next ends this one's, so that two never
/// write at once; what is not committed when this is dropped is never seen.
pub struct Together {
    producer: BaseProducer<Answers>,
    writes: Rights,
    /// To write under its transactional id.
    opens: Rights,
    open: bool,
    /// How many records the open transaction has.
    count: usize,
}

/// What the brokers answer to the records of the open transaction.
struct Answers {
    words: Words,
    got: Mutex<Got>,
    denied: Denied,
}

#[derive(Default)]
struct Got {
    /// By the number of the write, the record's offset; -1 where none is known yet.
    offsets: Vec<i64>,
    /// The last refusal of a record for its size or content.
    refused: Option<String>,
    /// The last failure for another reason.
    failed: Option<KafkaError>,
}

impl Answers {
    fn got(&self) -> MutexGuard<'_, Got> {
        self.got.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientContext for Answers {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.words.log(level, facility, message);
        self.denied.hear(facility, message);
    }
}

impl ProducerContext for Answers {
    /// The number of the write.
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, number: usize) {
        let mut got = self.got();
        match result {
            Ok(message) => {
                let count = got.offsets.len().max(number + 1);
                got.offsets.resize(count, -1);
                got.offsets[number] = message.offset();
            }
            Err((error, message)) if error.rdkafka_error_code().is_some_and(super::is_refusal) => {
                got.refused = Some(format!("{} refuses a record: {error}", message.topic()));
            }
            Err((error, message)) => {
                if error.rdkafka_error_code() == Some(RDKafkaErrorCode::TopicAuthorizationFailed) {
                    self.denied.note(message.topic());
                }
                got.failed = Some(error.clone());
            }
        }
    }
}

impl Together {
    /// Takes over `<group>-<name>`: from then on a predecessor's writes are committed or gone. The broker ends a
    /// transaction that stays open for longer than `open_max`.
    pub fn open(config: &Config, name: &str, record_max: usize, open_max: Duration) -> Result<Self, Fault> {
        let id = format!("{}-{name}", config.kafka.group);
        let mut client: ClientConfig = super::producer(&config.kafka);
        client
            .set("transactional.id", &id)
            .set("transaction.timeout.ms", open_max.as_millis().to_string())
            .set("message.max.bytes", record_max.to_string())
            // What the topics take isn't asked for, and Kafka refuses batches, not records.
            .set("batch.size", SMALL_BATCH)
            .set("retry.backoff.ms", "1");
        let words = Words::of(&config.kafka);
        let answers = Answers {
            words: words.clone(),
            got: Mutex::default(),
            denied: Denied::default(),
        };
        let producer: BaseProducer<Answers> = words
            .create(&client, answers)
            .map_err(|error| Fault::Unusable(error.to_string()))?;
        let writes = config.topics.all().map(|topic| Right::write(topic));
        let together = Self {
            producer,
            writes: Rights::of(&config.kafka, writes),
            opens: Rights::of(&config.kafka, [Right::write_as(&id)]),
            open: false,
            count: 0,
        };
        again(
            |error| together.fault(error),
            || together.producer.init_transactions(ANSWER_WAIT),
        )?;
        Ok(together)
    }

    /// Writes a record, beginning a transaction where none is open.
    pub fn write(&mut self, record: &Record<'_>) -> Result<(), Fault> {
        if !self.open {
            self.producer.begin_transaction().map_err(|error| self.fault(error))?;
            *self.producer.context().got() = Got::default();
            self.producer.context().denied.forget();
            (self.open, self.count) = (true, 0);
        }
        loop {
            let mut base = BaseRecord::with_opaque_to(record.topic, self.count)
                .key(record.key)
                .headers(record.headers.clone());
            base.payload = record.value;
            base.partition = record.partition;
            match self.producer.send(base) {
                Ok(()) => {
                    self.count += 1;
                    return Ok(());
                }
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => {
                    self.producer.poll(Duration::from_millis(1));
                }
                Err((error, _)) if error.rdkafka_error_code().is_some_and(super::is_refusal) => {
                    return Err(refusal(format!("{} refuses a record: {error}", record.topic)));
                }
                Err((error, _)) => return Err(self.cause(error)),
            }
        }
    }

    /// Waits until the brokers have answered for each record of the open transaction, and gives their offsets in the
    /// order of the writes.
    pub fn offsets(&mut self) -> Result<Vec<i64>, Fault> {
        self.drain();
        let (refused, failed, offsets) = {
            let mut got = self.producer.context().got();
            (got.refused.take(), got.failed.take(), got.offsets.clone())
        };
        match (refused, failed) {
            (Some(message), _) => Err(refusal(message)),
            (None, Some(error)) => Err(self.cause(error)),
            (None, None) => Ok(offsets),
        }
    }

    /// What an error means. What Kafka refused before for its size or content may be why, and the client alone knows
    /// what was fatal to it.
    fn cause(&mut self, error: KafkaError) -> Fault {
        let fatal = super::fatal(self.producer.client(), &self.opens);
        fatal.unwrap_or_else(|| self.undo().map_or_else(|| self.fault(error), refusal))
    }

    fn fault(&self, error: KafkaError) -> Fault {
        // What librdkafka says of it may still wait to be heard.
        self.producer.poll(Duration::ZERO);
        let denied = &self.producer.context().denied;
        denied.fault([&self.writes, &self.opens], error)
    }

    /// Takes back everything since the last commit; says what Kafka refused of it for its size or content.
    fn undo(&mut self) -> Option<String> {
        self.producer.purge(PurgeConfig::default().queue().inflight());
        self.drain();
        self.producer.context().got().refused.take()
    }

    fn drain(&self) {
        while self.producer.in_flight_count() > 0 {
            self.producer.poll(Duration::from_micros(200));
        }
    }

    /// Ends the transaction without a trace.
    pub fn abort(&mut self) -> Result<(), Fault> {
        if !std::mem::take(&mut self.open) {
            return Ok(());
        }
        self.undo();
        again(
            |error| self.fault(error),
            || self.producer.abort_transaction(ANSWER_WAIT),
        )
    }

    /// Makes everything since the last commit visible. A fault other than a fatal one has undone it.
    pub fn commit(&mut self) -> Result<(), Fault> {
        if !self.open {
            return Ok(());
        }
        let written = self.offsets();
        let commit = || self.producer.commit_transaction(ANSWER_WAIT);
        let done = written.and_then(|_| again(|error| self.fault(error), commit));
        match done {
            Err(Fault::Abort(ref why) | Fault::Refused { message: ref why, .. }) => {
                let why = Some(why.clone());
                // Kafka knows of no transaction where it let us write nothing; that isn't why.
                self.abort().map_err(|fault| fault.saying(why))?;
            }
            _ => self.open = false,
        }
        done
    }
}

fn refusal(message: String) -> Fault {
    Fault::Refused { message, write: None }
}

impl Drop for Together {
    fn drop(&mut self) {
        if self.open {
            // Left open it would hide what others write until the broker ends it.
            self.undo();
            drop(self.producer.abort_transaction(ANSWER_WAIT));
        }
    }
}

impl std::fmt::Debug for Together {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Together")
            .field("open", &self.open)
            .finish_non_exhaustive()
    }
}
