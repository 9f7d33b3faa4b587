//! Records that become visible together or not at all, in transactions that consume nothing.

use std::time::Duration;

use rdkafka::config::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, PurgeConfig};

use super::producer::Record;
use super::words::Words;
use super::worker::{Deliveries, again};
use super::{ANSWER_WAIT, Fault};
use crate::config::Config;

/// Writes of one transactional id. Whoever opens the id next ends this one's, so that two never
/// write at once; what is not committed when this is dropped is never seen.
pub struct Together {
    producer: BaseProducer<Deliveries>,
    open: bool,
}

impl Together {
    /// Takes over `<group>-<name>`: from then on a predecessor's writes are committed or gone.
    pub fn open(config: &Config, name: &str, record_max: usize) -> Result<Self, Fault> {
        let mut client: ClientConfig = super::producer(&config.kafka);
        client
            .set("transactional.id", format!("{}-{name}", config.kafka.group))
            .set(
                "transaction.timeout.ms",
                super::worker::TRANSACTION_TIMEOUT.as_millis().to_string(),
            )
            .set("message.max.bytes", record_max.to_string())
            .set("retry.backoff.ms", "1");
        let words = Words::of(&config.kafka);
        let producer: BaseProducer<Deliveries> = words
            .create(&client, Deliveries::new(&words))
            .map_err(|error| Fault::Unusable(error.to_string()))?;
        again(|| producer.init_transactions(ANSWER_WAIT))?;
        Ok(Self { producer, open: false })
    }

    /// Writes a record, beginning a transaction where none is open.
    pub fn write(&mut self, record: &Record<'_>) -> Result<(), Fault> {
        if !self.open {
            self.producer.begin_transaction()?;
            self.open = true;
        }
        loop {
            let mut base = BaseRecord::to(record.topic)
                .key(record.key)
                .headers(record.headers.clone());
            base.payload = record.value;
            base.partition = record.partition;
            match self.producer.send(base) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => {
                    self.producer.poll(Duration::from_millis(1));
                }
                Err((error, _)) => {
                    let refused = error.rdkafka_error_code().is_some_and(super::is_refusal);
                    let told = refused.then(|| refusal(format!("{} refuses a record: {error}", record.topic)));
                    // What was refused before may be why this one isn't taken.
                    return Err(told.unwrap_or_else(|| self.undo().unwrap_or_else(|| error.into())));
                }
            }
        }
    }

    /// Takes back everything since the last commit; says what Kafka refused of it for its size or content.
    fn undo(&mut self) -> Option<Fault> {
        self.producer.purge(PurgeConfig::default().queue().inflight());
        self.drain();
        self.producer.client().context().refused().map(refusal)
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
        again(|| self.producer.abort_transaction(ANSWER_WAIT))
    }

    /// Makes everything since the last commit visible. A fault other than a fatal one has undone it.
    pub fn commit(&mut self) -> Result<(), Fault> {
        if !self.open {
            return Ok(());
        }
        self.drain();
        let refused = self.producer.client().context().refused();
        let done = match refused {
            Some(message) => Err(refusal(message)),
            None => again(|| self.producer.commit_transaction(ANSWER_WAIT)),
        };
        match done {
            Err(Fault::Abort(_) | Fault::Refused { .. }) => self.abort()?,
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
