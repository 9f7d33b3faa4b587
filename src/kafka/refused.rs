//! What librdkafka refuses of the configuration's properties, asked without a connection.

use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::BaseConsumer;
use rdkafka::error::KafkaError;
use rdkafka::producer::BaseProducer;
use rdkafka::types::RDKafkaConfRes;

use super::words::Words;
use super::{Context, consumer, producer};
use crate::config::{self, Properties};

/// Each property that librdkafka refuses, by its key in the configuration, and why. No value is quoted.
pub fn refused(kafka: &config::Kafka) -> Vec<(String, String)> {
    let lists = [
        ("kafka.properties", &kafka.properties),
        ("kafka.consumer_properties", &kafka.consumer_properties),
        ("kafka.producer_properties", &kafka.producer_properties),
    ];
    let mut refused = Vec::new();
    for (list, properties) in lists {
        for (name, value) in &properties.0 {
            if let Err(error) = ClientConfig::new().set(name, value).create_native_config() {
                refused.push((format!("{list}.{name}"), why(name, &error)));
            }
        }
    }
    if !refused.is_empty() {
        return refused;
    }
    // Some are looked at only when a client is made, such as files. Without brokers it connects to nobody.
    let words = Words::of(kafka);
    let quiet = |mut client: ClientConfig| {
        client.remove("bootstrap.servers");
        client.set_log_level(RDKafkaLogLevel::Emerg);
        client
    };
    let (for_consumers, for_producers) = (quiet(consumer(kafka, &kafka.group, 1024)), quiet(producer(kafka)));
    let made = words
        .create::<_, BaseConsumer<Context>>(&for_consumers, Context::of(kafka))
        .map(drop)
        .and_then(|()| {
            words
                .create::<_, BaseProducer<Context>>(&for_producers, Context::of(kafka))
                .map(drop)
        });
    if let Err(error) = made {
        let said = match error {
            KafkaError::ClientCreation(said) => said,
            other => other.to_string(),
        };
        let named = lists.iter().find_map(|(list, properties)| {
            let name = properties.0.keys().find(|name| said.contains(name.as_str()))?;
            Some(format!("{list}.{name}"))
        });
        refused.push((
            named.unwrap_or_else(|| "kafka.properties".to_owned()),
            format!("librdkafka can't work with it: {said}"),
        ));
    }
    refused
}

fn why(name: &str, error: &KafkaError) -> String {
    match error {
        KafkaError::ClientConfig(RDKafkaConfRes::RD_KAFKA_CONF_UNKNOWN, ..) => match Properties::closest(name) {
            Some(meant) => format!("librdkafka has no such property; did you mean {meant}?"),
            None => "librdkafka has no such property; look for its name in librdkafka's CONFIGURATION.md".to_owned(),
        },
        KafkaError::ClientConfig(_, said, ..) if said.contains("not supported in this build") => {
            "librdkafka doesn't support it in this build; leave it out".to_owned()
        }
        KafkaError::ClientConfig(_, said, ..) => match (values(name), range(said)) {
            (Some(values), _) => format!("is no value that librdkafka takes; write {values}"),
            (None, Some(range)) => format!("is out of its range; write a number of {range}"),
            (None, None) => {
                "is no value that librdkafka takes; look for its values in librdkafka's CONFIGURATION.md".to_owned()
            }
        },
        other => other.to_string(),
    }
}

/// The values of the properties that are set by hand most.
fn values(name: &str) -> Option<&'static str> {
    Some(match name {
        "security.protocol" => "PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL",
        "compression.type" | "compression.codec" => "none, gzip, snappy, lz4 or zstd",
        "ssl.endpoint.identification.algorithm" => "https or none",
        "broker.address.family" => "any, v4 or v6",
        "client.dns.lookup" => "use_all_dns_ips or resolve_canonical_bootstrap_servers_only",
        "group.protocol" => "classic or consumer",
        "sasl.oauthbearer.method" => "default or oidc",
        _ => return None,
    })
}

/// The range that librdkafka names, `0..100`.
fn range(said: &str) -> Option<&str> {
    let (_, range) = said.split_once("allowed range ")?;
    range.split_whitespace().next()
}
