//! A worker from its connection to its end, while another one comes. `tests/run --full` runs this under valgrind: the worker
//! owns what [`super::super::queue`] rests on.

use rdkafka::message::OwnedHeaders;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, DefaultProducerContext, Producer as _};
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

use super::*;
use crate::kafka::producer;
use crate::trail;

const PARTITIONS: i32 = 4;
const EACH: usize = 200;

/// Events that wait, and a configuration for them.
fn filled() -> (MockCluster<'static, DefaultProducerContext>, Config) {
    let cluster = MockCluster::new(1).unwrap();
    let mut config = Config::default();
    config.kafka.brokers = cluster.bootstrap_servers();
    // The first hears of the second with its next heartbeat.
    let properties = &mut config.kafka.consumer_properties.0;
    properties.insert("heartbeat.interval.ms".to_owned(), "100".to_owned());
    for topic in config.topics.all() {
        cluster.create_topic(topic, PARTITIONS, 1).unwrap();
    }
    let producer: BaseProducer = super::super::client(&config.kafka).create().unwrap();
    for number in 0..EACH {
        let key = format!("lead-{number}");
        for partition in 0..PARTITIONS {
            let record = BaseRecord::to(&config.topics.events).partition(partition);
            let record: BaseRecord<'_, str, str> = record.key(key.as_str()).payload("an event");
            producer.send(record).map_err(|(error, _)| error).unwrap();
        }
    }
    producer.flush(ANSWER_WAIT).unwrap();
    (cluster, config)
}

fn worker(config: &Config, number: usize, memory: &Memory) -> Worker {
    let share = Share::of_events(config, "instance", number);
    Worker::connect(config, &share, &Limits::default(), memory).unwrap()
}

/// Takes the worker's records until `enough` says so of their number and of the partitions that went away.
fn take(worker: &Worker, mut enough: impl FnMut(usize, usize) -> bool) -> usize {
    let (mut taken, mut gone) = (0, 0);
    let mut held = VecDeque::new();
    for _ in 0..600 {
        worker.poll(Duration::from_millis(20), &mut held).unwrap();
        let revoked = worker.take_revoked();
        gone += revoked.len();
        let is_gone =
            |record: &ConsumerRecord<'_>| revoked.iter().any(|(_, partition)| *partition == record.partition());
        held.retain(|record| !is_gone(record));
        for record in held.drain(..) {
            let place = worker.place(&record);
            let timestamp = record.timestamp().to_millis().unwrap_or_default();
            let last = Crumb {
                offset: record.offset(),
                sum: trail::sum(timestamp, record.key(), record.payload()),
            };
            worker.consumed(place, Some(last));
            taken += 1;
        }
        if enough(taken, gone) {
            worker.commit().unwrap();
            worker.settle().unwrap();
            return taken;
        }
    }
    panic!("{taken} records and {gone} partitions that went");
}

/// One worker reads all; another one comes while the first holds partitions; the first goes, and the second has them all. One
/// by one they go on a real Kafka alone: the mock doesn't always let a second member in then.
#[test]
fn partitions_come_and_go() {
    let (_cluster, config) = filled();
    let memory = Memory::default();
    let first = worker(&config, 0, &memory);
    let all = EACH * PARTITIONS as usize;
    assert_eq!(take(&first, |taken, _| taken >= all), all);
    let second = worker(&config, 1, &memory);
    let mut nothing = VecDeque::new();
    let mut went = 0;
    take(&first, |_, gone| {
        went = gone;
        second.poll(Duration::from_millis(20), &mut nothing).unwrap();
        second.consumer.assignment().unwrap().count() == PARTITIONS as usize / 2
    });
    assert_eq!(went, PARTITIONS as usize);
    assert!(nothing.is_empty(), "the first has committed all of it");
    drop(first);
    take(&second, |_, _| {
        second.consumer.assignment().unwrap().count() == PARTITIONS as usize
    });
}

/// Waits for the next record. Those that come with it are kept.
fn next<'w>(worker: &'w Worker, records: &mut VecDeque<ConsumerRecord<'w>>) -> ConsumerRecord<'w> {
    loop {
        if let Some(record) = records.pop_front() {
            return record;
        }
        worker.poll(Duration::from_millis(100), records).unwrap();
    }
}

/// Takes a record, of which `key` is written.
fn write(worker: &Worker, record: &ConsumerRecord<'_>, key: &str) {
    let place = worker.place(record);
    let written = worker.write(Record {
        topic: "delivery-jobs",
        key: key.as_bytes(),
        value: Some(b"job"),
        headers: OwnedHeaders::new(),
    });
    written.unwrap();
    let last = Crumb {
        offset: place.offset,
        sum: 0,
    };
    worker.consumed(place, Some(last));
}

/// How many records were produced, those of aborted transactions too.
fn produced(worker: &Worker) -> i64 {
    let ends = worker
        .consumer
        .client()
        .fetch_watermarks("delivery-jobs", 0, ANSWER_WAIT);
    ends.unwrap().1
}

#[test]
fn what_is_written_during_a_commit_comes_behind_it_and_fails_with_it() {
    let mock = MockCluster::new(1).unwrap();
    for topic in ["lead-events", "delivery-jobs"] {
        mock.create_topic(topic, 1, 1).unwrap();
    }
    let text = format!("kafka: {{brokers: '{}'}}", mock.bootstrap_servers());
    let config = Config::parse("test", &text, []).unwrap();
    let events = producer::Producer::new(&config, 1 << 20).unwrap();
    for _ in 0..2 {
        let written = events.write_and_wait(&producer::Record {
            topic: "lead-events",
            partition: Some(0),
            key: b"lead",
            value: Some(b"event"),
            headers: OwnedHeaders::new(),
        });
        written.unwrap();
    }
    let share = Share::of_events(&config, "one", 0);
    let worker = Worker::connect(&config, &share, &Limits::default(), &Memory::default()).unwrap();

    let mut records = VecDeque::new();
    write(&worker, &next(&worker, &mut records), "first");
    mock.request_errors(
        RDKafkaApiKey::TxnOffsetCommit,
        &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID],
    );
    worker.commit().unwrap();
    assert!(worker.is_committing() && !worker.is_open());
    write(&worker, &next(&worker, &mut records), "second");
    assert!(worker.is_open());
    assert!(matches!(worker.settle(), Err(Fault::Abort(_))));
    worker.abort().unwrap();
    assert!(!worker.is_committing() && !worker.is_open());
    assert_eq!(produced(&worker), 1, "nothing is produced behind a commit that failed");

    // Both are read again.
    assert!(records.is_empty());
    let first = next(&worker, &mut records);
    assert_eq!(first.offset(), 0);
    write(&worker, &first, "first");
    worker.commit().unwrap();
    let second = next(&worker, &mut records);
    assert_eq!(second.offset(), 1);
    write(&worker, &second, "second");
    worker.commit().unwrap();
    worker.settle().unwrap();
    assert_eq!(produced(&worker), 3);
    assert_eq!(worker.happened().commits.len(), 2);
}
