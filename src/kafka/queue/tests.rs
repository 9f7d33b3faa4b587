//! What librdkafka gives is what was written, for as long as anybody holds it. `tests/run --full` runs these under valgrind.

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::OwnedHeaders;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, DefaultProducerContext, Producer};
use rdkafka::{Offset, TopicPartitionList};

use super::*;

const TOPIC: &str = "records";
const PARTITIONS: i32 = 3;
const WAIT: Duration = Duration::from_secs(10);

/// A record as its owner has it: all that may be asked of one.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Owned {
    place: (String, i32, i64),
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    timestamp: Timestamp,
    headers: Option<Vec<(String, Option<Vec<u8>>)>>,
}

impl Owned {
    fn of(record: &impl Message) -> Self {
        let bytes = |bytes: Option<&[u8]>| bytes.map(<[u8]>::to_vec);
        Self {
            place: (record.topic().to_owned(), record.partition(), record.offset()),
            key: bytes(record.key()),
            value: bytes(record.payload()),
            timestamp: record.timestamp(),
            headers: record.headers().map(|headers| {
                let header = |header: Header<'_, &[u8]>| (header.key.to_owned(), bytes(header.value));
                headers.iter().map(header).collect()
            }),
        }
    }
}

/// Records of every shape, `count` of each partition.
fn filled(count: usize) -> MockCluster<'static, DefaultProducerContext> {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic(TOPIC, PARTITIONS, 1).unwrap();
    let mut client = ClientConfig::new();
    client
        .set("bootstrap.servers", cluster.bootstrap_servers())
        .set("linger.ms", "5");
    let producer: BaseProducer = client.create().unwrap();
    for number in 0..count {
        let (key, value) = (format!("key-{number}"), "v".repeat(number % 700));
        let header = |key, value: Option<&'static [u8]>| Header { key, value };
        let headers = OwnedHeaders::new()
            .insert(header("event-id", Some(b"0190f3c2")))
            .insert(header("empty", Some(b"")))
            .insert(header("none", None));
        for partition in 0..PARTITIONS {
            let mut record: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(TOPIC).partition(partition);
            if number % 3 > 0 {
                record = record.key(key.as_bytes());
            }
            if number % 5 > 0 {
                record = record.payload(value.as_bytes());
            }
            if number % 2 > 0 {
                record = record.headers(headers.clone());
            }
            producer.send(record).map_err(|(error, _)| error).unwrap();
        }
    }
    producer.flush(WAIT).unwrap();
    cluster
}

fn consumer(cluster: &MockCluster<'static, DefaultProducerContext>) -> BaseConsumer {
    let mut client = ClientConfig::new();
    client
        .set("bootstrap.servers", cluster.bootstrap_servers())
        .set("group.id", "readers")
        .set("auto.offset.reset", "error");
    client.create().unwrap()
}

fn list(partitions: impl IntoIterator<Item = i32>, from: i64) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for partition in partitions {
        list.add_partition_offset(TOPIC, partition, Offset::Offset(from))
            .unwrap();
    }
    list
}

/// All partitions by a queue of its own, and assigned after that.
fn queue(consumer: &BaseConsumer) -> Queue {
    let queue = Queue::of(consumer.client());
    for partition in 0..PARTITIONS {
        queue.forward(consumer.client(), TOPIC, partition).unwrap();
    }
    consumer.assign(&list(0..PARTITIONS, 0)).unwrap();
    queue
}

/// Reads until there are `count` records.
fn read<'q>(consumer: &BaseConsumer, queue: &'q Queue, count: usize) -> VecDeque<ConsumerRecord<'q>> {
    let mut records = VecDeque::new();
    for _ in 0..600 {
        assert!(consumer.poll(Duration::ZERO).is_none(), "nothing comes past the queue");
        queue.read(Duration::from_millis(100), &mut records).unwrap();
        if records.len() >= count {
            return records;
        }
    }
    panic!("{} of {count} records came", records.len());
}

fn sorted(mut records: Vec<Owned>) -> Vec<Owned> {
    records.sort_by(|one, other| one.place.cmp(&other.place));
    records
}

#[test]
fn each_record_is_what_rdkafka_makes_of_it() {
    // More than one call gives.
    let count = RECORDS_MAX / 2;
    let cluster = filled(count);
    let all = count * PARTITIONS as usize;
    let ours = {
        let consumer = consumer(&cluster);
        let queue = queue(&consumer);
        let records = read(&consumer, &queue, all);
        // The client has let go of the partitions, and the records stay.
        consumer.unassign().unwrap();
        sorted(records.iter().map(Owned::of).collect())
    };
    let theirs = {
        let consumer = consumer(&cluster);
        consumer.assign(&list(0..PARTITIONS, 0)).unwrap();
        let mut records = Vec::new();
        while records.len() < all {
            let record = consumer.poll(WAIT).expect("a record").unwrap();
            records.push(Owned::of(&record));
        }
        sorted(records)
    };
    assert_eq!(ours.len(), all);
    assert_eq!(ours, theirs);
    let of = |has: fn(&Owned) -> bool| ours.iter().filter(|record| has(record)).count();
    assert!(of(|record| record.key.is_none()) > 0 && of(|record| record.value.is_none()) > 0);
    assert!(of(|record| record.headers.is_none()) > 0);
    assert!(of(|record| record.headers.as_ref().is_some_and(|headers| headers.len() == 3)) > 0);
}

#[test]
fn records_are_let_go_in_any_order_while_partitions_come_and_go() {
    let cluster = filled(400);
    let consumer = consumer(&cluster);
    let queue = queue(&consumer);
    let mut held = read(&consumer, &queue, 400);
    for round in 0..6_usize {
        let partition = (round % 3) as i32;
        consumer.incremental_unassign(&list([partition], 0)).unwrap();
        // Some of those that are held are of the partition that went.
        let kept = held.iter().position(|record| record.partition() == partition);
        held.rotate_left(kept.unwrap_or(0));
        held.truncate(held.len() / 2 + 1);
        queue.forward(consumer.client(), TOPIC, partition).unwrap();
        consumer.incremental_assign(&list([partition], 0)).unwrap();
        let had = held.len();
        for _ in 0..600 {
            queue.read(Duration::from_millis(100), &mut held).unwrap();
            if held.range(had..).any(|record| record.partition() == partition) {
                break;
            }
            // No group waits here until librdkafka has stopped.
            queue.forward(consumer.client(), TOPIC, partition).unwrap();
        }
        assert!(held.range(had..).any(|record| record.partition() == partition));
    }
    assert!(held.iter().all(|record| Owned::of(record).place.2 < 400));
}

#[test]
fn what_nobody_has_read_goes_with_the_queue() {
    let cluster = filled(400);
    let consumer = consumer(&cluster);
    let queue = queue(&consumer);
    let one = read(&consumer, &queue, 1);
    drop(one);
    // The worker drops its queue before its client, which still fetches.
    drop(queue);
    drop(consumer);
}

#[test]
fn an_error_in_place_of_a_record_is_told_and_let_go() {
    let cluster = filled(10);
    let consumer = consumer(&cluster);
    let queue = Queue::of(consumer.client());
    for partition in 0..PARTITIONS {
        queue.forward(consumer.client(), TOPIC, partition).unwrap();
    }
    // One partition has no such place; the records of the others come all the same.
    let mut places = list([0, 1], 0);
    places
        .add_partition_offset(TOPIC, 2, Offset::Offset(1_000_000))
        .unwrap();
    consumer.assign(&places).unwrap();
    let (mut records, mut told) = (VecDeque::new(), None);
    for _ in 0..600 {
        assert!(consumer.poll(Duration::ZERO).is_none());
        if let Err(error) = queue.read(Duration::from_millis(100), &mut records) {
            told = error.rdkafka_error_code();
        }
        if told.is_some() && records.len() == 20 {
            break;
        }
    }
    assert_eq!((told, records.len()), (Some(RDKafkaErrorCode::AutoOffsetReset), 20));
    let none = queue.forward(consumer.client(), "a\0b", 0);
    assert!(none.is_err(), "no topic has such a name");
}
