//! The producer that writes a worker's transactions, and the thread that commits them.

use std::sync::mpsc::{self, TryRecvError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerGroupMetadata;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, Producer, ProducerContext, PurgeConfig};
use rdkafka::{ClientContext, Message, TopicPartitionList};

use super::super::rights::Rights;
use super::super::words::Words;
use super::super::{ANSWER_WAIT, Fault, queue};
use super::write::Write;

/// The transaction's time-out at the broker: how long a dead worker that nobody replaces may hide
/// what others wrote.
pub(super) const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(10);

/// What is written goes out at once while it is waited for so long.
const FLUSHED: Duration = Duration::from_millis(1);

pub(super) struct Writer {
    pub(super) producer: BaseProducer<Deliveries>,
    /// To read the worker's topics in its group, and to write transactions.
    pub(super) reads: Rights,
    pub(super) writes: Rights,
}

/// What a commit takes: the places behind what was read, and the group that they are committed in.
pub(super) struct Order {
    pub(super) places: TopicPartitionList,
    pub(super) metadata: ConsumerGroupMetadata,
}

/// Commits on a thread of its own, one transaction at a time.
pub(super) struct Committer {
    /// None once it ends.
    orders: Option<mpsc::Sender<Order>>,
    ends: Mutex<mpsc::Receiver<Result<(), Fault>>>,
    thread: Option<JoinHandle<()>>,
}

impl Committer {
    pub(super) fn of(writer: &Arc<Writer>) -> Result<Self, Fault> {
        let writer = Arc::clone(writer);
        let (orders, ordered) = mpsc::channel::<Order>();
        let (ended, ends) = mpsc::channel();
        let thread = std::thread::Builder::new().name("commits".to_owned());
        let thread = thread.spawn(move || {
            for order in ordered {
                if ended.send(writer.commit(&order)).is_err() {
                    return;
                }
            }
        });
        let thread = thread.map_err(|error| Fault::Retriable(format!("no thread for commits: {error}")))?;
        Ok(Self {
            orders: Some(orders),
            ends: Mutex::new(ends),
            thread: Some(thread),
        })
    }

    pub(super) fn commit(&self, order: Order) {
        // That the thread is gone is what its end says.
        drop(self.orders.as_ref().map(|orders| orders.send(order)));
    }

    /// How a commit ended, once it has.
    pub(super) fn ended(&self) -> Option<Result<(), Fault>> {
        match self.ends.lock().unwrap_or_else(PoisonError::into_inner).try_recv() {
            Ok(ended) => Some(ended),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => Some(Err(gone())),
        }
    }

    /// Waits until a commit has ended.
    pub(super) fn end(&self) -> Result<(), Fault> {
        let ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
        ends.recv().unwrap_or_else(|_| Err(gone()))
    }
}

impl Drop for Committer {
    /// Its thread ends, and with it the producer, so that a successor finds nothing of either.
    fn drop(&mut self) {
        self.orders = None;
        drop(self.thread.take().map(JoinHandle::join));
    }
}

/// It panicked, which the log has.
fn gone() -> Fault {
    Fault::Fatal {
        message: "the thread that commits is gone".to_owned(),
        fenced: false,
    }
}

/// What the brokers say to what is written: the last refusal of a record, and the last topic that we may not write.
pub(super) struct Deliveries {
    words: Words,
    refused: Mutex<Option<String>>,
    denied: Denied,
}

/// The last topic that we may not write. A transaction's errors don't name it.
#[derive(Debug, Default)]
pub(in crate::kafka) struct Denied(Mutex<Option<String>>);

impl Denied {
    /// librdkafka names it in a message of its own.
    pub(in crate::kafka) fn hear(&self, facility: &str, said: &str) {
        let named = said.split_once("Failed to add partition \"");
        // Those beside it are "not attempted".
        let is_denial = facility == "ADDPARTS" && said.contains("Topic authorization failed");
        if let Some((topic, _)) = named.filter(|_| is_denial).and_then(|(_, rest)| rest.split_once('"')) {
            self.note(topic);
        }
    }

    pub(in crate::kafka) fn note(&self, topic: &str) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(topic.to_owned());
    }

    pub(in crate::kafka) fn forget(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// What an error asks for, in words that name what is missing: of `writes` where a topic couldn't be written.
    pub(in crate::kafka) fn fault(&self, [writes, others]: [&Rights; 2], error: KafkaError) -> Fault {
        let topic = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let denied = match topic {
            // Records that were on their way are only said to be purged.
            Some(topic) => writes.denies(RDKafkaErrorCode::TopicAuthorizationFailed, Some(&topic)),
            None => others.denied(&error),
        };
        Fault::from(error).saying(denied)
    }
}

impl Deliveries {
    pub(super) fn new(words: &Words) -> Self {
        Self {
            words: words.clone(),
            refused: Mutex::default(),
            denied: Denied::default(),
        }
    }

    /// Gives the refusal, and forgets it.
    pub(super) fn refused(&self) -> Option<String> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl ClientContext for Deliveries {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.words.log(level, facility, message);
        self.denied.hear(facility, message);
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let Err((error, message)) = result else { return };
        match error.rdkafka_error_code() {
            Some(code) if super::super::is_refusal(code) => {
                let refusal = format!("{} refuses a record: {error}", message.topic());
                *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = Some(refusal);
            }
            Some(RDKafkaErrorCode::TopicAuthorizationFailed) => self.denied.note(message.topic()),
            _ => {}
        }
    }
}

impl Writer {
    fn commit(&self, Order { places, metadata }: &Order) -> Result<(), Fault> {
        self.wait(None)?;
        let fault = |error| self.fault(error);
        again(fault, || {
            self.producer.send_offsets_to_transaction(places, metadata, ANSWER_WAIT)
        })?;
        again(fault, || self.producer.commit_transaction(ANSWER_WAIT))
    }

    /// Ends the open transaction, and nothing that was written in it is there.
    pub(super) fn abort(&self) -> Result<(), Fault> {
        // An abort waits for all delivery reports, which only we can take off the queue.
        self.producer.purge(PurgeConfig::default().queue().inflight());
        self.drain();
        again(
            |error| self.fault(error),
            || self.producer.abort_transaction(ANSWER_WAIT),
        )
    }

    /// Forgets what was refused, which went with its transaction.
    pub(super) fn forget(&self) {
        drop(self.producer.client().context().refused());
        self.producer.client().context().denied.forget();
    }

    /// Waits until the brokers have answered for all that was written. `write` is the one that was written last.
    pub(super) fn wait(&self, write: Option<Write>) -> Result<(), Fault> {
        self.drain();
        let refused = self.producer.client().context().refused();
        refused.map_or(Ok(()), |message| Err(Fault::Refused { message, write }))
    }

    /// What an error means. What Kafka refused before this may have caused it, which is known once nothing is on its way
    /// any more; and the client alone knows what was fatal to it.
    pub(super) fn cause(&self, error: KafkaError) -> Fault {
        let fatal = super::super::fatal(self.producer.client(), &self.reads);
        match fatal.unwrap_or_else(|| self.fault(error)) {
            Fault::Abort(message) => {
                self.producer.purge(PurgeConfig::default().queue().inflight());
                self.wait(None).err().unwrap_or(Fault::Abort(message))
            }
            fault => fault,
        }
    }

    pub(super) fn fault(&self, error: KafkaError) -> Fault {
        // What librdkafka says of it may still wait to be heard.
        self.producer.poll(Duration::ZERO);
        let denied = &self.producer.client().context().denied;
        denied.fault([&self.writes, &self.reads], error)
    }

    fn drain(&self) {
        // rust-rdkafka's own flush polls in steps of 100 ms, and only polling without it waits for `linger.ms`.
        while self.producer.in_flight_count() > 0 {
            queue::flush(self.producer.client(), FLUSHED);
            self.producer.poll(Duration::ZERO);
        }
    }
}

/// A call that timed out has to be taken up again with the same call; it is given up when the
/// broker has surely ended the transaction itself.
pub(in crate::kafka) fn again(
    fault: impl Fn(KafkaError) -> Fault,
    mut call: impl FnMut() -> Result<(), KafkaError>,
) -> Result<(), Fault> {
    let began = Instant::now();
    loop {
        match call().map_err(&fault) {
            Err(Fault::Retriable(message)) if began.elapsed() > 6 * TRANSACTION_TIMEOUT => {
                return Err(Fault::Fatal { message, fenced: false });
            }
            Err(Fault::Retriable(message)) => tracing::warn!(message, "the transaction waits for the broker"),
            done => return done,
        }
    }
}
