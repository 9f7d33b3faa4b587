use rdkafka::message::OwnedHeaders;
use rdkafka::mocking::MockCluster;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

use super::*;
use crate::kafka::producer;

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
