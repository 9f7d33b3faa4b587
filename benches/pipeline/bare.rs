//! What the processor's job costs in librdkafka alone: a transactional loop with its batch calls, which writes records of the
//! same size, number and headers as Leadlane does, in transactions of the same length, and nothing else.

#![expect(unsafe_code, reason = "the baseline is librdkafka's own calls")]

use std::ptr;
use std::time::{Duration, Instant};

use leadlane::config::Config;
use rdkafka::bindings as native;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

pub(crate) const PARTITIONS: i32 = 4;

/// How the loop writes and commits.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    /// One record is written for so many that are read, on average.
    pub share: f64,
    /// Bytes of each.
    pub size: usize,
    /// How long a transaction gathers records. Zero commits as soon as no more is there.
    pub interval: Duration,
    /// Without it the loop is idempotent only, and commits no offsets.
    pub is_transactional: bool,
}

/// Reads `count` records of `topic`, and writes to `sink`.
pub(crate) fn run(config: &Config, topic: &str, sink: &str, count: u64, shape: Shape) {
    let consumer: BaseConsumer = client(
        config,
        &[
            ("group.id", sink),
            ("isolation.level", "read_committed"),
            ("enable.auto.commit", "false"),
            ("auto.offset.reset", "earliest"),
            ("fetch.queue.backoff.ms", "5"),
            ("queued.max.messages.kbytes", "32768"),
        ],
    )
    .create()
    .unwrap();
    let mut settings = vec![
        ("retry.backoff.ms", "1"),
        ("linger.ms", "5"),
        ("compression.type", "lz4"),
        ("enable.idempotence", "true"),
        ("partitioner", "murmur2_random"),
    ];
    if shape.is_transactional {
        settings.push(("transactional.id", sink));
    }
    let producer: BaseProducer = client(config, &settings).create().unwrap();
    if shape.is_transactional {
        producer.init_transactions(Duration::from_secs(30)).unwrap();
    }
    let mut assigned = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        assigned
            .add_partition_offset(topic, partition, Offset::Beginning)
            .unwrap();
    }
    consumer.assign(&assigned).unwrap();
    let mut bare = Bare {
        shape,
        topic,
        sink,
        queue: Queue::of(&consumer),
        consumer: &consumer,
        producer,
        headers: headers(),
        value: vec![b'x'; shape.size],
        read: 0,
        written: 0,
        next: [-1; PARTITIONS as usize],
    };
    while bare.read < count {
        bare.transaction(count);
    }
}

struct Bare<'b> {
    shape: Shape,
    topic: &'b str,
    sink: &'b str,
    // It goes before its client does.
    queue: Queue,
    consumer: &'b BaseConsumer,
    producer: BaseProducer,
    headers: OwnedHeaders,
    value: Vec<u8>,
    read: u64,
    written: u64,
    /// The next offset to read of each partition.
    next: [i64; PARTITIONS as usize],
}

impl Bare<'_> {
    fn transaction(&mut self, count: u64) {
        let mut due: Option<Instant> = None;
        let mut is_open = false;
        while self.read < count {
            let wait = match due {
                None => Duration::from_millis(100),
                Some(_) if self.shape.interval.is_zero() => Duration::ZERO,
                Some(due) => due.saturating_duration_since(Instant::now()),
            };
            let before = self.read;
            let producer = &self.producer;
            let (read, written, next, shape) = (&mut self.read, &mut self.written, &mut self.next, self.shape);
            let (sink, value, headers) = (self.sink, &self.value, &self.headers);
            self.queue.read(wait, |partition, offset, key| {
                *read += 1;
                next[partition as usize] = offset + 1;
                if (*written as f64) < *read as f64 * shape.share {
                    *written += 1;
                    if shape.is_transactional && !is_open {
                        producer.begin_transaction().unwrap();
                        is_open = true;
                    }
                    let mut record = BaseRecord::to(sink).key(key).payload(value).headers(headers.clone());
                    while let Err((_, back)) = producer.send(record) {
                        producer.poll(Duration::from_millis(1));
                        record = back;
                    }
                }
            });
            if self.read > before {
                due.get_or_insert_with(|| Instant::now() + self.shape.interval);
            }
            let is_lull = self.shape.interval.is_zero() && self.read == before && due.is_some();
            let is_late = !self.shape.interval.is_zero() && due.is_some_and(|due| due <= Instant::now());
            if is_lull || is_late {
                break;
            }
        }
        while self.producer.in_flight_count() > 0 {
            // SAFETY: the client is there. Unlike rdkafka's own flush, this one sends at once what waits for `linger.ms`.
            unsafe { native::rd_kafka_flush(self.producer.client().native_ptr(), 1) };
            self.producer.poll(Duration::ZERO);
        }
        if self.shape.is_transactional && due.is_some() {
            if !is_open {
                self.producer.begin_transaction().unwrap();
            }
            let mut list = TopicPartitionList::new();
            for (partition, next) in (0..).zip(self.next).filter(|(_, next)| *next >= 0) {
                list.add_partition_offset(self.topic, partition, Offset::Offset(next))
                    .unwrap();
            }
            let metadata = self.consumer.group_metadata().unwrap();
            let wait = Duration::from_secs(10);
            self.producer
                .send_offsets_to_transaction(&list, &metadata, wait)
                .unwrap();
            self.producer.commit_transaction(wait).unwrap();
        }
    }
}

/// As many headers as a job has, and as long.
fn headers() -> OwnedHeaders {
    let pairs = [
        ("event-id", "0190f3c2-6f7b-7c11-9a55-000000000000"),
        ("rule-id", "rule-42"),
        ("job-id", "7fb2cd34-f4da-5f5f-911b-265780569f3b"),
        ("leadlane-version", "0.1.0"),
    ];
    pairs.into_iter().fold(OwnedHeaders::new(), |headers, (key, value)| {
        headers.insert(Header {
            key,
            value: Some(value),
        })
    })
}

/// The consumer's own queue.
struct Queue(*mut native::rd_kafka_queue_t);

impl Queue {
    fn of(consumer: &BaseConsumer) -> Self {
        // SAFETY: the client is there.
        Self(unsafe { native::rd_kafka_queue_get_consumer(consumer.client().native_ptr()) })
    }

    /// Waits for a record and gives each that is there: its partition, its offset and its key.
    fn read(&self, wait: Duration, mut each: impl FnMut(i32, i64, &[u8])) {
        let mut found = [ptr::null_mut(); 1024];
        let mut count = 0;
        if !wait.is_zero() {
            // SAFETY: the queue is there.
            found[0] = unsafe { native::rd_kafka_consume_queue(self.0, wait.as_millis().max(1) as i32) };
            if found[0].is_null() {
                return;
            }
            count = 1;
        }
        let room = &mut found[count..];
        // SAFETY: the queue is there, and so is the room.
        count +=
            unsafe { native::rd_kafka_consume_batch_queue(self.0, 0, room.as_mut_ptr(), room.len()) }.max(0) as usize;
        for record in &found[..count] {
            // SAFETY: librdkafka gave the record, which is ours until it is destroyed below.
            unsafe {
                let record = &**record;
                assert_eq!(
                    record.err,
                    native::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR,
                    "a record can be read"
                );
                let key = std::slice::from_raw_parts(record.key.cast::<u8>(), record.key_len);
                each(record.partition, record.offset, key);
            }
            // SAFETY: it is ours, and nobody has it any more.
            unsafe { native::rd_kafka_message_destroy(*record) };
        }
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        // SAFETY: nobody uses it after this.
        unsafe { native::rd_kafka_queue_destroy(self.0) };
    }
}

pub(crate) fn client(config: &Config, pairs: &[(&str, &str)]) -> ClientConfig {
    let mut client = ClientConfig::new();
    client.set("bootstrap.servers", &config.kafka.brokers);
    for (name, value) in pairs {
        client.set(*name, *value);
    }
    client
}
