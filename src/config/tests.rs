use super::*;

mod unseen;

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse("leadlane.yaml", text, [])
}

fn refusal(text: &str) -> String {
    parse(text).expect_err(text).to_string()
}

#[test]
fn the_shipped_file_states_the_defaults() {
    let mut shipped = parse(include_str!("../../config/leadlane.yaml")).unwrap().to_json();
    // The example accounts are commented out, so nothing differs.
    assert_eq!(shipped, Config::default().to_json());
    drop_nulls(&mut shipped);
    let text = include_str!("../../config/leadlane.yaml");
    keys(&shipped, &mut |key| {
        let line = text.lines().position(|line| {
            line.trim_start()
                .trim_start_matches("# ")
                .starts_with(&format!("{key}:"))
        });
        assert!(line.is_some(), "config/leadlane.yaml does not state {key}");
    });
}

fn keys(value: &Value, found: &mut impl FnMut(&str)) {
    for (key, value) in value.as_object().into_iter().flatten() {
        found(key);
        keys(value, found);
    }
}

#[test]
fn refusals_name_the_file_the_key_and_the_cure() {
    for (text, wanted) in [
        (
            "kafak: {}",
            "leadlane.yaml: kafak: unknown field `kafak`, expected one of `kafka`",
        ),
        (
            "kafka: {broker: x}",
            "leadlane.yaml: kafka.broker: unknown field `broker`",
        ),
        (
            "processor: {workers: 0}",
            "leadlane.yaml: processor.workers: must be 1 or more",
        ),
        (
            "processor: {workers: many}",
            "leadlane.yaml: processor.workers: invalid, expected a whole number",
        ),
        (
            "sender: {request_timeout: 10}",
            "leadlane.yaml: sender.request_timeout: ",
        ),
        ("sender: {payload_bytes_max: lots}", "is no size; write it as 64MiB"),
        ("slack: {channel_rate: 1}", "leadlane.yaml: slack.channel_rate: "),
        ("slack: {api_url: 'http://slack.example/api'}", "must be https"),
        (
            "slack: {limits: [{credential: sales, rate: 1/s}]}",
            "must be slack:NAME",
        ),
        (
            "kafka: {consumer_properties: {isolation.level: read_uncommitted}}",
            "isolation.level can't be set here",
        ),
        (
            "kafka: {properties: {enable.auto.commit: true}}",
            "enable.auto.commit can't be set here",
        ),
        ("kafka: {producer_properties: {acks: 1}}", "acks can't be set here"),
        (
            "admin: {listen: '0.0.0.0:8080'}",
            "is not a loopback address, so admin.tokens",
        ),
        ("clevertap: {batch_max: 2000}", "more than CleverTap takes"),
        (
            "clevertap: {accounts: {a: {region: in1, account_id: x, passcode: plain}}}",
            "clevertap.accounts.a.passcode: ",
        ),
        (
            "clevertap: {accounts: {a: {region: in1, account_id: x, passcode: {sealed: abc}}}}",
            "clevertap.accounts.a.passcode: the sealed value has no fingerprint",
        ),
        (
            "clevertap: {api_url: 'http://example.com'}",
            "clevertap.api_url: must be https",
        ),
        (
            "secrets: {public_key: abc}",
            "leadlane.yaml: secrets.public_key: is no public key; leadlane secrets keygen",
        ),
        ("[1, 2]", "a configuration is a map of keys"),
        ("a: 1\na: 2", "leadlane.yaml: "),
    ] {
        let message = refusal(text);
        assert!(message.contains(wanted), "{text}\n  said {message}\n  not  {wanted}");
    }
}

#[test]
fn request_timeout_over_lease_or_poll_interval() {
    for (text, wanted) in [
        (
            "sender: {request_timeout: 30s}",
            "sender.request_timeout: 30s must be shorter than sender.shutdown_timeout, 20s",
        ),
        (
            "sender: {request_timeout: 20s}",
            "sender.request_timeout: 20s must be shorter",
        ),
        (
            "sender: {shutdown_timeout: 5m}",
            "sender.shutdown_timeout: 5m must be 5s or more below max.poll.interval.ms of Kafka's consumer, 5m",
        ),
        (
            "kafka: {consumer_properties: {max.poll.interval.ms: 15000}}",
            "sender.shutdown_timeout: 20s must be 5s or more below max.poll.interval.ms of Kafka's consumer, 15s",
        ),
    ] {
        let message = refusal(text);
        assert!(message.contains(wanted), "{text}\n  said {message}\n  not  {wanted}");
    }
    let wider = "{kafka: {consumer_properties: {max.poll.interval.ms: 900000}}, sender: {shutdown_timeout: 10m}}";
    assert!(parse(wider).is_ok());
}

#[test]
fn a_plain_passcode_is_refused_without_being_shown() {
    let message = refusal("clevertap: {accounts: {a: {region: in1, account_id: x, passcode: hunter2}}}");
    assert!(!message.contains("hunter2"), "{message}");
    assert!(message.contains("{secret: NAME}"), "{message}");
}

#[test]
fn variables_come_after_the_file_and_are_named_when_wrong() {
    let variables = |name: &str, value: &str| [(name.to_owned(), value.to_owned())];
    let with = |name: &str, value: &str| Config::parse("f", "kafka: {group: a}", variables(name, value));
    assert_eq!(with("LEADLANE__KAFKA__GROUP", "b").unwrap().kafka.group, "b");
    assert_eq!(
        with("LEADLANE__KAFKA__BROKERS", "h:1,h:2").unwrap().kafka.brokers,
        "h:1,h:2"
    );
    assert_eq!(with("LEADLANE__PROCESSOR__WORKERS", "3").unwrap().processor.workers, 3);
    assert_eq!(
        with("LEADLANE__SENDER__RETRY__INITIAL", "2s")
            .unwrap()
            .sender
            .retry
            .initial,
        Duration::from_secs(2)
    );
    assert_eq!(
        with("LEADLANE__SLACK__WEBHOOK_HOSTS", "[a, 'b:1']")
            .unwrap()
            .slack
            .webhook_hosts,
        ["a", "b:1"]
    );
    // As a manifest of Kubernetes has a list.
    assert_eq!(
        with("LEADLANE__SLACK__WEBHOOK_HOSTS", "- a\n- b:1\n")
            .unwrap()
            .slack
            .webhook_hosts,
        ["a", "b:1"]
    );
    let properties = with("LEADLANE__KAFKA__PROPERTIES__SECURITY_PROTOCOL", "SASL_SSL")
        .unwrap()
        .kafka
        .properties;
    assert_eq!(properties.0["security.protocol"], "SASL_SSL");
    let message = with("LEADLANE__PROCESSOR__WORKERS", "x").unwrap_err().to_string();
    assert!(
        message.starts_with("LEADLANE__PROCESSOR__WORKERS: processor.workers: "),
        "{message}"
    );
    let message = with("LEADLANE__PROCESSOR__WORKER", "1").unwrap_err().to_string();
    assert!(message.contains("unknown field `worker`"), "{message}");
}

#[test]
fn secrets_are_masked_when_printed() {
    let config = parse(
        "{kafka: {properties: {sasl.password: hunter2, sasl.username: me}},
          schema_registry: {url: 'http://r', password: hunter2}}",
    )
    .unwrap();
    for shown in [config.to_json().to_string(), format!("{config:?}")] {
        assert!(!shown.contains("hunter2"), "{shown}");
        assert!(shown.contains("***"), "{shown}");
    }
}

#[test]
fn regions_have_their_hosts() {
    let account = |region: &str, api_url: Option<&str>| Account {
        region: region.into(),
        account_id: "A".into(),
        passcode: SecretRef::Secret(crate::credential::SecretName::new("p").unwrap()),
        concurrency: 15,
        api_url: api_url.map(Address::from),
    };
    assert_eq!(account("eu1", None).url(None), "https://api.clevertap.com");
    assert_eq!(account("in1", None).url(None), "https://in1.api.clevertap.com");
    let own = account("in1", Some("http://127.0.0.1:9/"));
    assert_eq!(own.url(None), "http://127.0.0.1:9");
    assert_eq!(own.url(Some("http://127.0.0.1:8")), "http://127.0.0.1:9");
    assert_eq!(
        account("in1", None).url(Some("http://127.0.0.1:8/")),
        "http://127.0.0.1:8"
    );
}
