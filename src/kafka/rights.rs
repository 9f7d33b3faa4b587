//! What Kafka's ACLs don't let us do. Its errors say no more than that something isn't allowed; whoever asked knows what
//! was asked for, so that the message names who lacks which operation on which resource, and the command that adds it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use openssl::nid::Nid;
use openssl::x509::X509;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::Fault;
use crate::config;

/// One operation on one resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Right {
    pub(super) operation: &'static str,
    pub(super) resource: Resource,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Resource {
    Topic(String),
    Group(String),
    TransactionalId(String),
    /// All that begin so.
    TransactionalIds(String),
}

impl Right {
    /// Includes Describe, as Write does.
    pub fn read(topic: &str) -> Self {
        Self::on_topic("Read", topic)
    }

    pub fn write(topic: &str) -> Self {
        Self::on_topic("Write", topic)
    }

    pub(super) fn describe(topic: &str) -> Self {
        Self::on_topic("Describe", topic)
    }

    pub(super) fn describe_configs(topic: &str) -> Self {
        Self::on_topic("DescribeConfigs", topic)
    }

    pub(super) fn create(topic: &str) -> Self {
        Self::on_topic("Create", topic)
    }

    fn on_topic(operation: &'static str, topic: &str) -> Self {
        let resource = Resource::Topic(topic.to_owned());
        Self { operation, resource }
    }

    /// To be a member of a group, and to commit for it.
    pub fn read_group(group: &str) -> Self {
        Self {
            operation: "Read",
            resource: Resource::Group(group.to_owned()),
        }
    }

    /// To ask what a group has committed.
    pub(super) fn describe_group(group: &str) -> Self {
        Self {
            operation: "Describe",
            resource: Resource::Group(group.to_owned()),
        }
    }

    /// To write transactions under an id.
    pub(super) fn write_as(transactional_id: &str) -> Self {
        Self {
            operation: "Write",
            resource: Resource::TransactionalId(transactional_id.to_owned()),
        }
    }

    /// The same for all ids that begin so.
    pub fn write_as_any(prefix: &str) -> Self {
        Self {
            operation: "Write",
            resource: Resource::TransactionalIds(prefix.to_owned()),
        }
    }

    /// Whether an error with this code may mean that this right is missing.
    fn is_meant_by(&self, code: RDKafkaErrorCode) -> bool {
        use RDKafkaErrorCode as Code;
        match (&self.resource, code) {
            (Resource::Topic(_), Code::TopicAuthorizationFailed) => true,
            // A broker refuses a producer that retries safely where it may Write no topic at all, and the making of a topic.
            (Resource::Topic(_), Code::ClusterAuthorizationFailed) => matches!(self.operation, "Write" | "Create"),
            (Resource::Group(_), code) => code == Code::GroupAuthorizationFailed,
            (Resource::TransactionalId(_) | Resource::TransactionalIds(_), code) => {
                code == Code::TransactionalIdAuthorizationFailed
            }
            (Resource::Topic(_), _) => false,
        }
    }

    /// The resource in words, and as options of Kafka's command.
    fn resource(&self) -> (String, String) {
        let (kind, option, name, pattern) = match &self.resource {
            Resource::Topic(name) => ("topic", "--topic", name, ""),
            Resource::Group(name) => ("group", "--group", name, ""),
            Resource::TransactionalId(name) => ("transactional id", "--transactional-id", name, ""),
            Resource::TransactionalIds(name) => (
                "transactional ids that begin with",
                "--transactional-id",
                name,
                " --resource-pattern-type prefixed",
            ),
        };
        (
            format!("the {kind} {name}"),
            format!("{option} {}{pattern}", quoted(name)),
        )
    }
}

/// What a client asks of Kafka, and as whom.
#[derive(Clone, Default)]
pub(super) struct Rights(Arc<Asked>);

#[derive(Default)]
struct Asked {
    /// How the command begins that adds an ACL.
    tool: String,
    user: User,
    rights: Vec<Right>,
}

impl Rights {
    pub(super) fn of(kafka: &config::Kafka, rights: impl IntoIterator<Item = Right>) -> Self {
        Self(Arc::new(Asked {
            tool: super::tool(kafka, "kafka-acls.sh"),
            user: User::of(kafka),
            rights: rights.into_iter().collect(),
        }))
    }

    /// What an error says: which right is missing, else its own words.
    pub(super) fn why(&self, error: &KafkaError) -> String {
        self.denied(error).unwrap_or_else(|| error.to_string())
    }

    /// What is missing, where that is the error.
    pub(super) fn denied(&self, error: &KafkaError) -> Option<String> {
        self.denies(error.rdkafka_error_code()?, None)
    }

    /// That all these rights are missing, where there are any.
    pub(super) fn all_missing(&self) -> Option<String> {
        self.missing(&self.0.rights.iter().collect::<Vec<_>>(), " and ")
    }

    /// The same by the error's code; `topic` is the one that is meant, where that is known.
    pub(super) fn denies(&self, code: RDKafkaErrorCode, topic: Option<&str>) -> Option<String> {
        let meant = |right: &&Right| match (&right.resource, topic) {
            (Resource::Topic(name), Some(topic)) => name == topic,
            _ => true,
        };
        let missing: Vec<&Right> = self.0.rights.iter().filter(|right| right.is_meant_by(code)).collect();
        let named: Vec<&Right> = missing.iter().copied().filter(meant).collect();
        self.missing(if named.is_empty() { &missing } else { &named }, " or ")
    }

    fn missing(&self, missing: &[&Right], joined: &str) -> Option<String> {
        let operation = missing.first()?.operation;
        let (named, options): (Vec<_>, Vec<_>) = missing
            .iter()
            .filter(|right| right.operation == operation)
            .map(|right| right.resource())
            .unzip();
        let user = self.0.user.principal();
        Some(format!(
            "{user} lacks the ACL {operation} on {}; add it by: {} --add --allow-principal {} --operation {operation} {}",
            named.join(joined),
            self.0.tool,
            quoted(&user),
            options.join(" ")
        ))
    }

    /// What an error asks for, in words that name what is missing.
    pub(super) fn fault(&self, error: KafkaError) -> Fault {
        let denied = self.denied(&error);
        Fault::from(error).saying(denied)
    }
}

impl Fault {
    /// The same in other words, where there are any.
    pub(super) fn saying(self, words: Option<String>) -> Self {
        match (self, words) {
            (Self::Retriable(_), Some(words)) => Self::Retriable(words),
            (Self::Abort(_), Some(words)) => Self::Abort(words),
            (Self::Fatal { fenced, .. }, Some(message)) => Self::Fatal { message, fenced },
            (fault, _) => fault,
        }
    }
}

/// Whom Kafka takes us for.
#[derive(Debug, Clone, Default)]
enum User {
    Named(String),
    /// The file of a certificate.
    OfFile(String),
    /// A certificate as PEM.
    OfText(String),
    #[default]
    Unknown,
}

impl User {
    fn of(kafka: &config::Kafka) -> Self {
        let lists = [
            &kafka.properties,
            &kafka.consumer_properties,
            &kafka.producer_properties,
        ];
        let get = |name: &str| lists.iter().find_map(|list| list.0.get(name)).cloned();
        let protocol = get("security.protocol").unwrap_or_default().to_lowercase();
        let mechanism = get("sasl.mechanism").or_else(|| get("sasl.mechanisms"));
        let named = |name: &str| get(name).map_or(Self::Unknown, Self::Named);
        match (protocol.as_str(), mechanism.as_deref()) {
            ("sasl_plaintext" | "sasl_ssl", Some("OAUTHBEARER")) => Self::Unknown,
            ("sasl_plaintext" | "sasl_ssl", None | Some("GSSAPI")) => named("sasl.kerberos.principal"),
            ("sasl_plaintext" | "sasl_ssl", Some(_)) => named("sasl.username"),
            ("ssl", _) => match (get("ssl.certificate.location"), get("ssl.certificate.pem")) {
                (Some(file), _) => Self::OfFile(file),
                (None, Some(text)) => Self::OfText(text),
                (None, None) if get("ssl.keystore.location").is_some() => Self::Unknown,
                (None, None) => Self::Named("ANONYMOUS".to_owned()),
            },
            _ => Self::Named("ANONYMOUS".to_owned()),
        }
    }

    /// The principal of ACLs, unless the broker maps names by rules of its own.
    fn principal(&self) -> String {
        let name = match self {
            Self::Named(name) => Some(name.clone()),
            Self::OfFile(file) => std::fs::read(file).ok().and_then(|pem| subject(&pem)),
            Self::OfText(pem) => subject(pem.as_bytes()),
            Self::Unknown => None,
        };
        // Nobody's name has angle brackets, which a shell doesn't take either.
        format!("User:{}", name.as_deref().unwrap_or("<of this log-in>"))
    }
}

/// A certificate's subject as brokers write it: by RFC 2253, which begins with what comes last.
fn subject(pem: &[u8]) -> Option<String> {
    let certificate = X509::from_pem(pem).ok()?;
    let entries = certificate.subject_name().entries().map(|entry| {
        let name = match entry.object().nid() {
            Nid::STATEORPROVINCENAME => "ST".to_owned(),
            nid => nid
                .short_name()
                .map_or_else(|_| entry.object().to_string(), str::to_owned),
        };
        let value = entry.data().to_string().ok()?;
        Some(format!("{name}={}", escaped(&value)))
    });
    let mut entries = entries.collect::<Option<Vec<_>>>()?;
    entries.reverse();
    Some(entries.join(","))
}

fn escaped(value: &str) -> String {
    let mut escaped = String::with_capacity(value.len());
    for char in value.chars() {
        if matches!(char, ',' | '+' | '"' | '\\' | '<' | '>' | ';') {
            escaped.push('\\');
        }
        escaped.push(char);
    }
    escaped
}

/// A word for a shell.
fn quoted(word: &str) -> String {
    let is_plain = |char: char| char.is_ascii_alphanumeric() || "._-:=,@/".contains(char);
    match word.chars().all(is_plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

/// What lasts is said once, and again each minute. What comes back after a while is news.
#[derive(Debug, Default)]
pub(super) struct Said {
    message: String,
    said_at: Option<Instant>,
    met_at: Option<Instant>,
}

impl Said {
    const AGAIN_AFTER: Duration = Duration::from_secs(60);
    const OVER_AFTER: Duration = Duration::from_secs(10);

    /// Whether what is met at `now` is news.
    pub(super) fn is_news(&mut self, message: &str, now: Instant) -> bool {
        let within = |at: Option<Instant>, most| at.is_some_and(|at| now.duration_since(at) < most);
        let lasts = self.message == message && within(self.met_at, Self::OVER_AFTER);
        self.met_at = Some(now);
        if lasts && within(self.said_at, Self::AGAIN_AFTER) {
            return false;
        }
        message.clone_into(&mut self.message);
        self.said_at = Some(now);
        true
    }
}

impl std::fmt::Debug for Rights {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Rights").field(&self.0.rights).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn rights(properties: &str, rights: impl IntoIterator<Item = Right>) -> Rights {
        let text = format!("kafka: {{brokers: 'kafka:9093', properties: {properties}}}");
        Rights::of(&Config::parse("test", &text, []).unwrap().kafka, rights)
    }

    const SCRAM: &str = "{security.protocol: SASL_SSL, sasl.mechanism: SCRAM-SHA-512, sasl.username: leadlane-sender}";

    #[test]
    fn a_missing_right_is_named_with_the_command_that_adds_it() {
        use RDKafkaErrorCode as Code;
        let asked = || {
            [
                Right::write("a"),
                Right::write("b"),
                Right::read_group("g s"),
                Right::write_as("g-0"),
            ]
        };
        let rights = rights(SCRAM, asked());
        for (code, topic, what, command) in [
            (
                Code::TopicAuthorizationFailed,
                Some("b"),
                "Write on the topic b",
                "Write --topic b",
            ),
            (
                Code::TopicAuthorizationFailed,
                None,
                "Write on the topic a or the topic b",
                "Write --topic a --topic b",
            ),
            (
                Code::GroupAuthorizationFailed,
                None,
                "Read on the group g s",
                "Read --group 'g s'",
            ),
            (
                Code::TransactionalIdAuthorizationFailed,
                None,
                "Write on the transactional id g-0",
                "Write --transactional-id g-0",
            ),
        ] {
            let wanted = format!(
                "User:leadlane-sender lacks the ACL {what}; add it by: kafka-acls.sh --bootstrap-server kafka:9093 \
                 --command-config admin.properties --add --allow-principal User:leadlane-sender --operation {command}"
            );
            assert_eq!(rights.denies(code, topic), Some(wanted));
        }
        assert_eq!(rights.denies(Code::UnknownTopicOrPartition, None), None);
    }

    /// Of /C=US/ST=TX/O=Acme, Inc/CN=leadlane-sender, which a broker takes for the user below.
    const CERTIFICATE: &str = "\
-----BEGIN CERTIFICATE-----
MIIBvDCCAWKgAwIBAgIUEv06r7uA8eCJtegt00fHMCb7QrowCgYIKoZIzj0EAwIw
GTEXMBUGA1UEAwwObGVhZGxhbmUtdGVzdHMwIBcNMjYxMTI3MjE1NzE4WhgPMjEy
NjExMDMyMTU3MThaMEgxCzAJBgNVBAYTAlVTMQswCQYDVQQIDAJUWDESMBAGA1UE
CgwJQWNtZSwgSW5jMRgwFgYDVQQDDA9sZWFkbGFuZS1zZW5kZXIwWTATBgcqhkjO
PQIBBggqhkjOPQMBBwNCAAR1bDHXDeoC74l5K4r57EVJiYoTcZjbxCwyTUnCNWqU
WNaCWgEQC6ACqS6ZkFJzHOVa4Cj6XZDEjixwjTivCrozo1cwVTATBgNVHSUEDDAK
BggrBgEFBQcDAjAdBgNVHQ4EFgQUZQVFFO8iSma+rQN0prxHzVlBkoIwHwYDVR0j
BBgwFoAUyOulx0p6gk2arf6jof7G4TlCLQ8wCgYIKoZIzj0EAwIDSAAwRQIhAKH7
pfsqBVwdM1NlWIlko7ZM9KYcJU4j/kWp85b4Uv/YAiBphiugfYtOK+HNVQWM3keO
oQz7Xc6t1kh6zsOGzNKwJw==
-----END CERTIFICATE-----
";

    #[test]
    fn a_certificate_s_subject_is_its_user_as_brokers_write_it() {
        assert_eq!(
            subject(CERTIFICATE.as_bytes()).as_deref(),
            Some(r"CN=leadlane-sender,O=Acme\, Inc,ST=TX,C=US")
        );
        let text = format!(
            "{{security.protocol: ssl, ssl.certificate.pem: {}}}",
            serde_json::json!(CERTIFICATE)
        );
        let said = rights(&text, [Right::read("a")]).denies(RDKafkaErrorCode::TopicAuthorizationFailed, None);
        let said = said.unwrap();
        assert!(
            said.contains(r"--allow-principal 'User:CN=leadlane-sender,O=Acme\, Inc,ST=TX,C=US' "),
            "{said}"
        );
    }

    #[test]
    fn whoever_has_no_name_is_said_to_have_none() {
        for (properties, wanted) in [
            ("{}", "User:ANONYMOUS lacks"),
            ("{security.protocol: SSL}", "User:ANONYMOUS lacks"),
            (
                "{security.protocol: SASL_SSL, sasl.mechanism: OAUTHBEARER}",
                "User:<of this log-in> lacks",
            ),
            (
                "{security.protocol: SASL_SSL, sasl.kerberos.principal: leadlane}",
                "User:leadlane lacks",
            ),
        ] {
            let said = rights(properties, [Right::read("a")]).denies(RDKafkaErrorCode::TopicAuthorizationFailed, None);
            assert!(said.as_deref().is_some_and(|said| said.starts_with(wanted)), "{said:?}");
        }
    }

    #[test]
    fn what_lasts_is_said_once_a_minute() {
        let (mut said, now) = (Said::default(), Instant::now());
        let mut news = |message: &str, seconds| said.is_news(message, now + Duration::from_secs(seconds));
        let first_minute: Vec<bool> = (0..60).step_by(5).map(|second| news("a", second)).collect();
        assert!(first_minute[0] && !first_minute[1..].contains(&true));
        assert!(news("a", 60) && !news("a", 61), "it lasts");
        assert!(news("a", 71), "it came back");
        assert!(news("b", 72) && news("a", 73));
    }
}
