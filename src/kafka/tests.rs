//! What each error of Kafka's is taken for.

use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

use super::*;
use crate::kafka::producer::Unwritten;

use RDKafkaErrorCode as Code;

/// The record's own fault: the same record would meet them again.
const REFUSALS: &[Code] = &[
    Code::MessageSizeTooLarge,
    Code::InvalidMessageSize,
    Code::MessageBatchTooLarge,
    Code::InvalidRecord,
];

/// They are about rights, topics, brokers and members, and pass.
const NO_REFUSALS: &[Code] = &[
    Code::TopicAuthorizationFailed,
    Code::GroupAuthorizationFailed,
    Code::ClusterAuthorizationFailed,
    Code::TransactionalIdAuthorizationFailed,
    Code::SaslAuthenticationFailed,
    Code::Authentication,
    Code::NotEnoughReplicas,
    Code::NotEnoughReplicasAfterAppend,
    Code::UnknownTopicOrPartition,
    Code::UnknownTopic,
    Code::UnknownPartition,
    Code::UnknownTopicId,
    Code::InvalidTopic,
    Code::LeaderNotAvailable,
    Code::NotLeaderForPartition,
    Code::FencedLeaderEpoch,
    Code::UnknownLeaderEpoch,
    Code::ReplicaNotAvailable,
    Code::KafkaStorageError,
    Code::CoordinatorLoadInProgress,
    Code::CoordinatorNotAvailable,
    Code::NotCoordinator,
    Code::RequestTimedOut,
    Code::NetworkException,
    Code::BrokerTransportFailure,
    Code::AllBrokersDown,
    Code::MessageTimedOut,
    Code::OperationTimedOut,
    Code::QueueFull,
    Code::PurgeQueue,
    Code::PurgeInflight,
    Code::ThrottlingQuotaExceeded,
    Code::PolicyViolation,
    Code::Fenced,
    Code::ProducerFenced,
    Code::InvalidProducerEpoch,
    Code::TransactionCoordinatorFenced,
    Code::UnknownProducerId,
    Code::OutOfOrderSequenceNumber,
    Code::InvalidTransactionalState,
    Code::ConcurrentTransactions,
    Code::IllegalGeneration,
    Code::UnknownMemberId,
    Code::RebalanceInProgress,
    // Bytes that were damaged on their way, which a second sending mends.
    Code::InvalidMessage,
    Code::Fatal,
];

#[test]
fn only_what_lies_in_a_record_refuses_it() {
    for code in REFUSALS {
        assert!(is_refusal(*code), "{code:?}");
        assert_eq!(
            Unwritten::from(KafkaError::MessageProduction(*code)),
            Unwritten::TooLarge
        );
    }
    for code in NO_REFUSALS {
        assert!(!is_refusal(*code), "{code:?}");
        let unwritten = Unwritten::from(KafkaError::MessageProduction(*code));
        assert_ne!(unwritten, Unwritten::TooLarge, "{code:?} makes no dead letter");
    }
}

#[test]
fn what_a_call_meets_aborts_its_transaction_and_fencing_ends_the_client() {
    for code in REFUSALS.iter().chain(NO_REFUSALS) {
        let fault = Fault::from(KafkaError::MessageProduction(*code));
        let fencing = matches!(code, Code::Fenced | Code::ProducerFenced | Code::InvalidProducerEpoch);
        let right = match fault {
            Fault::Fatal { fenced, .. } => fenced == fencing && (fencing || *code == Code::Fatal),
            // Which record is refused only its delivery report says.
            Fault::Abort(_) => !fencing && *code != Code::Fatal,
            Fault::Retriable(_) | Fault::Refused { .. } | Fault::Unusable(_) => false,
        };
        assert!(right, "{code:?}");
    }
    let flushed = Fault::from(KafkaError::Flush(Code::OperationTimedOut));
    assert!(matches!(flushed, Fault::Retriable(_)));
}

/// What a transaction comes to whose last request is answered so.
fn committed(api: RDKafkaApiKey, code: RDKafkaRespErr) -> Fault {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("t", 1, 1).unwrap();
    let mut client = ClientConfig::new();
    client
        .set("bootstrap.servers", cluster.bootstrap_servers())
        .set("transactional.id", "t");
    let producer: BaseProducer = client.create().unwrap();
    let wait = Duration::from_secs(10);
    producer.init_transactions(wait).unwrap();
    producer.begin_transaction().unwrap();
    let record: BaseRecord<'_, (), [u8]> = BaseRecord::to("t").payload(b"v");
    cluster.request_errors(api, &[code; 5]);
    producer.send(record).map_err(|(error, _)| error).unwrap();
    Fault::from(producer.commit_transaction(wait).unwrap_err())
}

#[test]
fn a_transaction_without_rights_is_tried_again_and_one_with_a_successor_ends() {
    use RDKafkaRespErr as Answer;
    for (api, code, wanted) in [
        (
            RDKafkaApiKey::AddPartitionsToTxn,
            Answer::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED,
            "abort",
        ),
        (
            RDKafkaApiKey::Produce,
            Answer::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE,
            "abort",
        ),
        (
            RDKafkaApiKey::EndTxn,
            Answer::RD_KAFKA_RESP_ERR_PRODUCER_FENCED,
            "fenced",
        ),
        (
            RDKafkaApiKey::EndTxn,
            Answer::RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH,
            "fenced",
        ),
    ] {
        let found = match committed(api, code) {
            Fault::Abort(_) => "abort",
            Fault::Fatal { fenced: true, .. } => "fenced",
            Fault::Fatal { .. } => "fatal",
            Fault::Retriable(_) => "retriable",
            Fault::Refused { .. } | Fault::Unusable(_) => "other",
        };
        assert_eq!(found, wanted, "{api:?} {code:?}");
    }
}
