use super::*;

mod unseen;

fn parse(text: &str) -> Result<Config, Refusals> {
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
            "leadlane.yaml:1:1: kafak: unknown key; did you mean kafka?",
        ),
        (
            "kafka: {broker: x}",
            "leadlane.yaml:1:9: kafka.broker: unknown key; did you mean brokers?",
        ),
        (
            "processor: {workers: 0}",
            "leadlane.yaml:1:22: processor.workers: must be 1 or more",
        ),
        (
            "processor: {workers: many}",
            "leadlane.yaml:1:22: processor.workers: needs a whole number, without quotes",
        ),
        (
            "sender: {request_timeout: 10}",
            "leadlane.yaml:1:27: sender.request_timeout: ",
        ),
        ("sender: {payload_bytes_max: lots}", "is no size; write it as 64MiB"),
        ("slack: {channel_rate: 1}", "leadlane.yaml:1:23: slack.channel_rate: "),
        ("slack: {api_url: 'http://slack.example/api'}", "must be https"),
        (
            "slack: {limits: [{credential: sales, rate: 1/s}]}",
            "must be slack:NAME",
        ),
        (
            "kafka: {consumer_properties: {isolation.level: read_uncommitted}}",
            "kafka.consumer_properties.isolation.level: can't be set here",
        ),
        (
            "kafka: {properties: {enable.auto.commit: true}}",
            "kafka.properties.enable.auto.commit: can't be set here",
        ),
        (
            "kafka: {producer_properties: {acks: 1}}",
            "kafka.producer_properties.acks: can't be set here",
        ),
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
            "leadlane.yaml:1:23: secrets.public_key: is no public key; leadlane secrets keygen",
        ),
        ("[1, 2]", "a configuration is a map of keys"),
        ("a: 1\na: 2", "leadlane.yaml:2:1: this key stands twice"),
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
    assert!(
        message.contains("processor.worker: unknown key; did you mean workers?"),
        "{message}"
    );
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

#[test]
#[expect(clippy::too_many_lines, reason = "tables are long")]
fn each_kind_of_fault_has_its_place_and_its_cure() {
    for (text, wanted) in [
        (
            "processor:\n  workers: 1.5\n",
            "2:12: processor.workers: needs a whole number of at most 19 digits, 0 or more",
        ),
        (
            "processor:\n  workers: -1\n",
            "2:12: processor.workers: needs a whole number of at most 19 digits, 0 or more",
        ),
        (
            "processor:\n  workers: 99999999999999999999999\n",
            "2:12: processor.workers: needs a whole number of at most 19 digits, 0 or more",
        ),
        ("kafka: many\n", "1:8: kafka: needs a map of keys"),
        ("kafka: [many]\n", "1:8: kafka: needs a map of keys"),
        (
            "processor:\n  start: earlist\n",
            "2:10: processor.start: is none of earliest, latest; did you mean earliest?",
        ),
        ("log: {format: xml}", "1:15: log.format: needs one of text, json"),
        (
            "slack: {join: \"yes\"}",
            "1:15: slack.join: needs true or false, without quotes",
        ),
        (
            "clevertap:\n  accounts:\n    acme: {region: in1, passcode: {secret: p}}\n",
            "3:11: clevertap.accounts.acme.account_id: is missing; write the account's id, such as account_id: W8W-6ZZ-9Z5Z",
        ),
        (
            "clevertap:\n  accounts:\n    acme: {region: in9, account_id: A, passcode: {secret: p}}\n",
            "3:20: clevertap.accounts.acme.region: is no region of CleverTap's; did you mean in1? A newer one is taken as \
             api_url: https://REGION.api.clevertap.com",
        ),
        (
            "kafka:\n  brokers: http://localhost:9092\n",
            "2:12: kafka.brokers: broker 1: Kafka has no such protocol before ://; write HOST:PORT alone, and set \
             security.protocol in kafka.properties",
        ),
        (
            "kafka:\n  brokers: a:9092,b:99999\n",
            "2:12: kafka.brokers: broker 2: has no such port; a port is a number from 1 to 65535, as in HOST:9092",
        ),
        (
            "kafka: {brokers: ' '}",
            "1:18: kafka.brokers: is empty; name at least one HOST:PORT",
        ),
        (
            "log:\n  level: loud\n",
            "2:10: log.level: is no level; write error, warn, info, debug or trace, or TARGET=LEVEL by comma",
        ),
        (
            "log:\n  level: debgu\n",
            "2:10: log.level: is no level; did you mean debug? write error, warn, info, debug or trace, or TARGET=LEVEL by comma",
        ),
        (
            "slack:\n  limits:\n    - {credential: slack:a, rate: 1/s}\n    - {credential: b, rate: 1/s}\n",
            "4:20: slack.limits[1].credential: must be slack:NAME or webhook:NAME, by the secret's name",
        ),
        (
            "slack:\n  webhook_hosts:\n  - a\n  - https://b/\n",
            "4:5: slack.webhook_hosts[1]: is no HOST or HOST:PORT; leave out https:// and the path, which is the webhook's secret",
        ),
        (
            "inlets:\n  - {name: a, preset: jsn}\n",
            "2:23: inlets[0].preset: is none of slack, salesforce, sheet, track, clevertap, json; did you mean json?",
        ),
        (
            "kafka:\n  grup:\n",
            "2:3: kafka.grup: unknown key, without a value; look for a space that is missing behind its colon, or a slip in its \
             name",
        ),
        (
            "a: 1\n---\nb: 1\n",
            "3:1: a configuration is one YAML document; take out the line ---",
        ),
    ] {
        assert_eq!(refusal(text), format!("leadlane.yaml:{wanted}"), "{text}");
    }
    for brokers in ["a", "a:1,b:65535", "[::1]:9092", "SASL_SSL://a:9092", "a:9092,", "::1"] {
        assert!(parse(&format!("kafka: {{brokers: '{brokers}'}}")).is_ok(), "{brokers}");
    }
    for level in ["WARN", "leadlane=debug,rdkafka=off", "info, tower::x=trace"] {
        assert!(parse(&format!("log: {{level: '{level}'}}")).is_ok(), "{level}");
    }
    let elsewhere =
        "clevertap: {accounts: {a: {region: in9, account_id: A, passcode: {secret: p}, api_url: 'https://x'}}}";
    assert!(parse(elsewhere).is_ok());
}

#[test]
fn every_fault_is_told_at_once() {
    let variables = [
        ("LEADLANE__PROCESSOR__WORKERS".to_owned(), "many".to_owned()),
        ("LEADLANE__METRICS__RULE_MAX".to_owned(), "1".to_owned()),
    ];
    let text = "kafak: {}\nsender: {in_flight_max: x, request_timeout: 10}\nslack: {limits: [{rate: 1}, {rate: 1/s}]}\n\
                clevertap: {accounts: {a: {region: in1, account_id: A, passcode: x}}}\ninlets: [{name: a}, {nam: b}]\n";
    let said = Config::parse("f", text, variables).unwrap_err().to_string();
    let keys: Vec<&str> = said.lines().filter_map(|line| line.split(": ").nth(1)).collect();
    assert_eq!(
        keys[..5],
        [
            "kafak",
            "sender.in_flight_max",
            "sender.request_timeout",
            "slack.limits[0].rate",
            "clevertap.accounts.a.passcode"
        ],
        "{said}"
    );
    assert!(
        said.contains("inlets[0].") && said.contains("inlets[1].nam: "),
        "{said}"
    );
    assert_eq!(
        keys[keys.len() - 2..],
        ["processor.workers", "metrics.rule_max"],
        "{said}"
    );

    let said = refusal(
        "processor: {workers: 0, batch_events_max: 0}\nlog: {level: loud}\nslack: {webhook_hosts: ['https://a', b, '']}\n\
         kafka: {brokers: 'a:0,b:99999', properties: {acks: 1, isolation.level: x}}\nadmin: {hosts: ['a:1', 'b:1']}\n\
         inlets:\ntopics: {event:}\n",
    );
    let mut keys: Vec<&str> = said.lines().filter_map(|line| line.split(": ").nth(1)).collect();
    keys.sort_unstable();
    assert_eq!(
        keys,
        [
            "admin.hosts[0]",
            "admin.hosts[1]",
            "kafka.brokers",
            "kafka.brokers",
            "kafka.properties.acks",
            "kafka.properties.isolation.level",
            "log.level",
            "processor.batch_events_max",
            "processor.workers",
            "slack.webhook_hosts[0]",
            "slack.webhook_hosts[2]",
            "topics.event",
        ],
        "{said}"
    );
}

#[test]
fn a_file_in_utf_16_is_read_and_another_encoding_is_named() {
    let file = std::env::temp_dir().join(format!("leadlane-config-{}.yaml", std::process::id()));
    let load = |bytes: &[u8]| {
        std::fs::write(&file, bytes).unwrap();
        Config::load(Some(&file)).map_err(|error| error.to_string())
    };
    let of = |text: &str, mark: &[u8], unit: fn(u16) -> [u8; 2]| -> Vec<u8> {
        let units = text.encode_utf16().flat_map(unit);
        mark.iter().copied().chain(units).collect()
    };
    let text = "kafka: {group: ä}\n";
    for bytes in [
        of(text, b"\xFF\xFE", u16::to_le_bytes),
        of(text, b"\xFE\xFF", u16::to_be_bytes),
        [b"\xEF\xBB\xBF", text.as_bytes()].concat(),
    ] {
        assert_eq!(load(&bytes).unwrap().kafka.group, "ä");
    }
    for (bytes, wanted) in [
        (
            of(text, b"", u16::to_le_bytes),
            "UTF-16 without a byte order mark; save it as UTF-8",
        ),
        (
            b"log: {}\nkafka: {group: \xE4}\n".to_vec(),
            ":2:16: this character is no UTF-8, perhaps Windows-1252; save the file as UTF-8",
        ),
    ] {
        let said = load(&bytes).unwrap_err();
        assert!(said.contains(wanted), "{said}");
    }
    std::fs::remove_file(file).unwrap();
}

#[test]
fn of_two_sources_the_one_that_set_the_value_is_named() {
    let variables = [("LEADLANE__SENDER__RETRY__MAX".to_owned(), "1ms".to_owned())];
    let error = Config::parse("f", "sender:\n  retry:\n    initial: 2s\n", variables).unwrap_err();
    assert_eq!(
        error.to_string(),
        "f:3:14: sender.retry.initial: is longer than sender.retry.max; shorten it, or lengthen that"
    );
    let variables = [("LEADLANE__KAFKA__BROKERS".to_owned(), "a:0".to_owned())];
    let error = Config::parse("f", "kafka:\n  brokers: b\n", variables).unwrap_err();
    assert_eq!(
        error.json(),
        serde_json::json!({
            "error": "broker 1: has no such port", "variable": "LEADLANE__KAFKA__BROKERS", "key": "kafka.brokers",
            "cure": "a port is a number from 1 to 65535, as in HOST:9092"
        })
    );
}
