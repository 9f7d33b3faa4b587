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

/// What a broker wants that answers and isn't met, and the cure; `None` where the words don't say that it answers.
/// librdkafka tells these apart in its messages alone.
pub(super) fn told_apart(said: &str) -> Option<String> {
    if let Some((_, mechanisms)) = said.split_once("Unsupported SASL mechanism: broker's supported mechanisms: ") {
        let mechanisms = mechanisms.split(" (after").next().unwrap_or_default();
        return Some(format!(
            "doesn't know the sasl.mechanism that kafka.properties name; set it to one that it knows: {mechanisms}"
        ));
    }
    let has = |part: &str| said.contains(part);
    // The broker's answer is read as a length: the begin of an alert of TLS, or of `HTTP`.
    let told = if has("require SASL authentication") {
        wants_login()
    } else if has("connecting to a SSL listener") || has("Invalid response size 3525") {
        wants_tls()
    } else if has("connecting to a PLAINTEXT broker listener")
        || has("wrong version number")
        || has("packet length too long")
    {
        "speaks no TLS at this port; set security.protocol in kafka.properties to PLAINTEXT, or to SASL_PLAINTEXT where it \
         wants a log-in, or name its port with TLS in kafka.brokers"
            .to_owned()
    } else if has("certificate could not be verified") || has("certificate verify failed") {
        "has a certificate that isn't trusted; set ssl.ca.location in kafka.properties to the file of its CA".to_owned()
    } else if has("certificate required") || has("bad certificate") {
        "wants a certificate of ours that it trusts; set ssl.certificate.location and ssl.key.location in kafka.properties"
            .to_owned()
    } else if has("Request not valid in current SASL state") {
        "takes no SASL log-in at this port; set security.protocol in kafka.properties to PLAINTEXT, or to SSL where it wants \
         TLS, or name its port with SASL in kafka.brokers"
            .to_owned()
    } else if has("Invalid response size 1213486160") {
        "is no Kafka, it speaks HTTP; name Kafka's own port in kafka.brokers".to_owned()
    } else {
        return None;
    };
    Some(told)
}

/// The broker closes a connection that begins without TLS.
pub(super) fn wants_tls() -> String {
    "takes no connection without TLS; set security.protocol in kafka.properties to SSL, or to SASL_SSL where it wants a \
     log-in too, or name its port without TLS in kafka.brokers"
        .to_owned()
}

/// The broker closes the connection of a client that doesn't log in.
pub(super) fn wants_login() -> String {
    "wants a log-in: it closes the connection of who asks without one; set security.protocol (SASL_SSL, or SASL_PLAINTEXT \
     without TLS), sasl.mechanism, sasl.username and sasl.password in kafka.properties"
        .to_owned()
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
    fn a_broker_that_wants_something_else_is_told_apart_from_one_that_is_away() {
        let at = "ssl://127.0.0.1:9092/bootstrap: ";
        for (said, wanted) in [
            (
                "SSL handshake failed: Disconnected: SSL connection closed by peer: connecting to a PLAINTEXT broker listener? (after 3ms in state SSL_HANDSHAKE)",
                "speaks no TLS",
            ),
            (
                "Disconnected: requesting ApiVersion: might be caused by incorrect security.protocol configuration (connecting to a SSL listener?) or broker version is < 0.10",
                "without TLS",
            ),
            (
                "SASL PLAIN mechanism handshake failed: Broker: Request not valid in current SASL state: broker's supported mechanisms:  (after 3ms in state AUTH_HANDSHAKE)",
                "takes no SASL",
            ),
            (
                "SASL SCRAM-SHA-512 mechanism handshake failed: Broker: Unsupported SASL mechanism: broker's supported mechanisms: PLAIN,GSSAPI (after 9ms in state AUTH_HANDSHAKE)",
                "knows: PLAIN,GSSAPI",
            ),
            (
                "SSL handshake failed: error:0A000086:SSL routines::certificate verify failed: broker certificate could not be verified, verify that ssl.ca.location is correctly configured",
                "ssl.ca.location",
            ),
            (
                "Disconnected: verify that security.protocol is correctly configured, broker might require SASL authentication (after 5ms in state UP)",
                "sasl.username",
            ),
        ] {
            let told = told_apart(&format!("{at}{said}")).unwrap_or_default();
            assert!(told.contains(wanted), "{said}: {told}");
        }
        for away in [
            "Connect to ipv4#127.0.0.1:9092 failed: Connection refused (after 0ms in state CONNECT)",
            "Failed to resolve 'nowhere:9092': Name or service not known (after 5ms in state CONNECT)",
            "SASL authentication error: Authentication failed: Invalid username or password",
        ] {
            assert_eq!(told_apart(&format!("{at}{away}")), None);
        }
    }

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
