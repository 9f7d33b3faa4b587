//! librdkafka's own messages, made safe for our log and our errors.
//!
//! librdkafka quotes values of its properties, and some of these are passwords and keys. So each of its messages
//! passes through here, and loses every value that isn't known to be harmless.

use std::fmt;
use std::sync::Arc;

use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, KafkaResult};

use crate::config::{self, Properties};

/// A shorter value would tear holes into every word, and is no password.
const LENGTH_MIN: usize = 4;

/// The words about clients with these properties.
#[derive(Clone, Default)]
pub(crate) struct Words(Arc<[String]>);

impl Words {
    pub(crate) fn of(kafka: &config::Kafka) -> Self {
        let lists = [
            &kafka.properties,
            &kafka.consumer_properties,
            &kafka.producer_properties,
        ];
        let hidden = lists.into_iter().flat_map(Properties::hidden);
        let mut hidden: Vec<String> = hidden
            .filter(|value| value.len() >= LENGTH_MIN)
            .map(str::to_owned)
            .collect();
        // A value that is a part of another must not leave the other's rest.
        hidden.sort_by_key(|value| std::cmp::Reverse(value.len()));
        Self(hidden.into())
    }

    pub(crate) fn masked(&self, said: &str) -> String {
        self.0
            .iter()
            .fold(said.to_owned(), |said, value| said.replace(value, "***"))
    }

    pub(crate) fn log(&self, level: RDKafkaLogLevel, facility: &str, said: &str) {
        let said = self.masked(said);
        match level {
            RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
                tracing::error!(facility, "kafka client: {said}");
            }
            // A broker that is away says so once per connection; that is a recovered oddity.
            RDKafkaLogLevel::Error | RDKafkaLogLevel::Warning => tracing::warn!(facility, "kafka client: {said}"),
            _ => tracing::debug!(facility, "kafka client: {said}"),
        }
    }

    /// Makes a client.
    ///
    /// # Errors
    /// librdkafka doesn't know a property or doesn't take its value. The value is quoted only of a property that holds
    /// no secret.
    pub(crate) fn create<C, T>(&self, client: &ClientConfig, context: C) -> KafkaResult<T>
    where
        C: ClientContext,
        T: FromClientConfigAndContext<C>,
    {
        T::from_config_and_context(client, context).map_err(|error| self.cleaned(error))
    }

    fn cleaned(&self, error: KafkaError) -> KafkaError {
        KafkaError::ClientCreation(match error {
            KafkaError::ClientConfig(_, said, name, _) if Properties::is_shown(&name) => said,
            KafkaError::ClientConfig(_, _, name, _) => {
                format!(
                    "{} is no property of librdkafka's, or has a value that it doesn't take",
                    self.masked(&name)
                )
            }
            KafkaError::ClientCreation(said) => self.masked(&said),
            other => return other,
        })
    }
}

impl fmt::Debug for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Words").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::producer::{BaseProducer, DefaultProducerContext};

    use super::*;
    use crate::config::Config;

    #[test]
    fn a_client_that_cannot_be_made_says_why_and_no_secret() {
        for (property, wanted) in [
            ("ssl.key.pem: hunter2-pem", "ssl.key.pem failed"),
            ("sasl.password: hunter2, no.such: hunter2-x", "no.such is no property"),
            (
                "ssl.keystore.location: /nowhere, ssl.keystore.password: hunter2",
                "ssl.keystore",
            ),
            ("socket.timeout.ms: never", "Invalid value"),
            ("sasl.oauthbearer.method: hunter2", "sasl.oauthbearer.method"),
            ("security.protocol: hunter3", "hunter3"),
            ("ssl.ca.pem: hunter2-ca", "from ssl.ca.pem"),
            ("log.queue: hunter2", "log.queue is no property"),
        ] {
            let yaml = format!("kafka: {{properties: {{security.protocol: ssl, {property}}}}}");
            let yaml = yaml.replace("security.protocol: ssl, security", "security");
            let config = Config::parse("test", &yaml, []).unwrap();
            let made = Words::of(&config.kafka)
                .create::<_, BaseProducer>(&super::super::client(&config.kafka), DefaultProducerContext);
            let said = made.map(|_| "made").unwrap_err().to_string();
            assert!(said.contains(wanted), "{property}: {said}");
            let is_shown = property.starts_with("sasl.oauthbearer.method");
            assert!(is_shown || !said.contains("hunter2"), "{property}: {said}");
        }
    }
}
