//! What was written is never quoted, whatever stands where: every key gets a secret in every form.

use serde_json::json;

use super::*;

const SECRET: &str = "hunter2-4711";

/// Keys beyond those that have a default.
const MORE: [&str; 12] = [
    "schema_registry.url",
    "schema_registry.password",
    "clevertap.api_url",
    "clevertap.accounts.acme",
    "clevertap.accounts.acme.passcode",
    "clevertap.accounts.acme.passcode.secret",
    "clevertap.accounts.acme.passcode.sealed",
    "clevertap.accounts.acme.api_url",
    "secrets.public_key",
    "kafka.properties.ssl.key.password",
    "kafka.consumer_properties.sasl.jaas.config",
    "kafka.producer_properties.sasl.oauthbearer.extensions",
];

/// Keys whose value is shown as it is: names, folders and numbers.
const SHOWN: [&str; 18] = [
    "admin.hosts",
    "kafka.brokers",
    "kafka.group",
    "topics.events",
    "topics.rules",
    "topics.jobs",
    "topics.outcomes",
    "topics.dead_letters",
    "topics.audit",
    "schema_registry.username",
    "processor.instance",
    "secrets.dir",
    "secrets.key_file",
    "log.level",
    "slack.webhook_hosts",
    "clevertap.accounts.acme.account_id",
    "clevertap.accounts.acme.region",
    // A name, not the secret itself.
    "clevertap.accounts.acme.passcode.secret",
];

/// What may be written in a value's place.
fn forms() -> Vec<Value> {
    let url = |text: &str| json!(text.replace("SECRET", SECRET));
    vec![
        json!(SECRET),
        json!(47114711471147_u64),
        json!([SECRET]),
        json!([[SECRET]]),
        json!([{SECRET: SECRET}]),
        json!({SECRET: SECRET}),
        json!({"secret": SECRET.to_owned() + " "}),
        json!({"sealed": SECRET}),
        json!({"password": SECRET}),
        json!([{"name": SECRET, "preset": SECRET, "kind": SECRET, "secrets": SECRET, "event": SECRET}]),
        json!([{"name": "a", "kind": "http", "secrets": [{"bearer": SECRET}, SECRET], "event": {"event_id": SECRET, "lead_id": [SECRET]}}]),
        json!([{"credential": SECRET, "rate": SECRET}]),
        json!([{"credential": "slack:a", "rate": SECRET, SECRET: 1}]),
        url("https://user:SECRET@example.com/api"),
        url("https://SECRET@example.com/api"),
        url("https://example.com/services/T0/B0/SECRET"),
        url("https://example.com/api?token=SECRET"),
        url("http://example.com/SECRET"),
        url("ftp://SECRET"),
        url("https://hooks.slack.com/services/SECRET"),
        url("xoxb-SECRET"),
    ]
}

fn hidden(text: &str) -> bool {
    !["hunter2", "4711471147"].iter().any(|secret| text.contains(secret))
}

/// All keys, the sections among them.
fn all_keys() -> Vec<String> {
    fn collect(value: &Value, at: &str, found: &mut Vec<String>) {
        for (key, value) in value.as_object().into_iter().flatten() {
            let key = if at.is_empty() {
                key.clone()
            } else {
                format!("{at}.{key}")
            };
            collect(value, &key, found);
            found.push(key);
        }
    }
    let mut keys = MORE.map(str::to_owned).to_vec();
    collect(&Config::default().to_json(), "", &mut keys);
    keys
}

fn steps(key: &str) -> Vec<&str> {
    let in_properties = key.starts_with("kafka.") && key.matches('.').count() > 1;
    key.splitn(if in_properties { 3 } else { 9 }, '.').collect()
}

fn nested(key: &str, value: &Value) -> Value {
    let inner = steps(key)
        .into_iter()
        .rev()
        .fold(value.clone(), |value, step| json!({step: value}));
    if !key.starts_with("clevertap.accounts.acme.") {
        return inner;
    }
    let mut account =
        json!({"clevertap": {"accounts": {"acme": {"region": "in1", "account_id": "A", "passcode": {"secret": "a"}}}}});
    let own = &inner["clevertap"]["accounts"]["acme"];
    for (name, value) in own.as_object().unwrap() {
        account["clevertap"]["accounts"]["acme"][name] = value.clone();
    }
    account
}

#[test]
fn no_value_is_quoted_wherever_it_stands() {
    let (mut refused, mut taken) = (0, 0);
    for key in all_keys() {
        let by_name = ["clevertap.accounts", "inlets"];
        // Accounts and fields of inlets are called by their names.
        for form in forms()
            .iter()
            .filter(|form| !by_name.contains(&key.as_str()) || !form.to_string().contains(&format!("\"{SECRET}\":")))
        {
            let by_file = parse(&nested(&key, form).to_string());
            let name = format!("LEADLANE__{}", steps(&key).join("__").replace('.', "_").to_uppercase());
            let text = form.as_str().map_or(form.to_string(), str::to_owned);
            let account = nested("clevertap.accounts.acme.region", &json!("in1")).to_string();
            let by_variable = Config::parse("f", &account, [(name, text)]);
            for loaded in [by_file, by_variable] {
                match loaded {
                    Err(error) => {
                        refused += 1;
                        let said = error.to_string();
                        assert!(hidden(&said), "{key}: {form}\n  said {said}");
                        assert!(hidden(&format!("{error:?}")), "{key}: {form}");
                    }
                    Ok(config) => {
                        taken += 1;
                        // A number is shown where one belongs.
                        let is_shown =
                            SHOWN.contains(&key.as_str()) || form.is_number() && !MORE.contains(&key.as_str());
                        for shown in [
                            config.to_json().to_string(),
                            format!("{config:?}"),
                            format!("{:?}", config.warnings()),
                        ] {
                            assert!(is_shown || hidden(&shown), "{key}: {form}\n  shows {shown}");
                        }
                    }
                }
            }
        }
    }
    assert!(refused > 1000 && taken > 50, "{refused} {taken}");
}

#[test]
fn a_file_that_cannot_be_read_is_not_quoted() {
    for text in [
        "schema_registry: {password:hunter2}",
        "schema_registry: {password:hunter2: x}",
        "schema_registry:\n  password:hunter2\n",
        "schema_registry:\n  ? [hunter2]\n  : x\n",
        "hunter2-4711",
        "- hunter2-4711",
        "a: *hunter2",
        "a: !hunter2 x",
        "a: !!hunter2 x",
        "a: \"hunter2",
        "a: 'hunter2",
        "a: {hunter2",
        "a: [hunter2\nb: x",
        "%hunter2\n---\na: b",
        "a: |hunter2\n  x",
        "a: &hunter2",
        "a: `hunter2",
        "a: @hunter2",
        "\thunter2: x",
        "hunter2: x",
        "kafka: {hunter2: x}",
        "kafka: {properties: {sasl.password: {secret: hunter2}}}",
        "kafka: {properties: {'hunter2 x': [a]}}",
        "xoxb-hunter2: {}",
        "clevertap: {accounts: {hunter2 x: {}}}",
        "---\na: hunter2\n---\nb: hunter2",
    ] {
        let said = refusal(text);
        assert!(!said.contains("hunter2"), "{text}\n  said {said}");
        assert!(said.starts_with("leadlane.yaml:"), "{said}");
    }
}

#[test]
fn a_password_in_a_variable_is_taken_as_it_stands() {
    for password in [
        "#hunter2",
        "hunter2 # x",
        "&hunter2",
        "*x",
        "!x",
        "a: b",
        "- a",
        "%x",
        "| x",
        "{x",
        "[x",
        "@x",
        "0123",
        "1e5",
        " x",
    ] {
        let variable = (
            "LEADLANE__KAFKA__PROPERTIES__SASL_PASSWORD".to_owned(),
            password.to_owned(),
        );
        let config = Config::parse("f", "", [variable]).unwrap();
        assert_eq!(config.kafka.properties.0["sasl.password"], password);
    }
}

#[test]
fn what_loads_code_runs_commands_or_writes_files_is_refused() {
    for list in ["properties", "consumer_properties", "producer_properties"] {
        for (property, wanted) in [
            ("plugin.library.paths: /tmp/x", "loads code"),
            ("ssl.engine.location: /tmp/x", "loads code"),
            ("ssl.engine.id: x", "loads code"),
            ("ssl.providers: 'default,/tmp/x'", "loads code"),
            ("sasl.kerberos.kinit.cmd: x", "runs a command"),
            ("offset.store.method: file", "no file is written"),
            ("offset.store.path: /tmp/x", "no file is written"),
            ("auto.commit.enable: true", "offsets are committed with"),
            ("delivery.report.only.error: true", "acknowledgement is waited for"),
            ("topic.partitioner: random", "as Java clients do"),
            ("topic.auto.offset.reset: latest", "set processor.start"),
            ("topic.acks: 0", "all in-sync replicas"),
            ("topic.request.required.acks: 0", "all in-sync replicas"),
            ("topic.offset.store.path: /tmp/x", "no file is written"),
            ("topic.offset.store.method: file", "no file is written"),
            ("topic.auto.commit.enable: true", "offsets are committed with"),
        ] {
            let said = refusal(&format!("kafka: {{{list}: {{{property}}}}}"));
            let (name, _) = property.split_once(':').unwrap();
            assert!(
                said.contains(&format!(": kafka.{list}.{name}: can't be set here; ")),
                "{said}"
            );
            assert!(said.contains(wanted), "{said}");
        }
    }
    assert!(parse("kafka: {properties: {ssl.providers: 'legacy, default'}}").is_ok());
}

#[test]
fn a_check_that_is_switched_off_is_warned_of() {
    for (text, wanted) in [
        (
            "kafka: {properties: {enable.ssl.certificate.verification: false}}",
            "kafka.properties.enable.ssl.certificate.verification: ",
        ),
        (
            "kafka: {producer_properties: {enable.ssl.certificate.verification: 'F'}}",
            "kafka.producer_properties.enable.ssl",
        ),
        (
            "kafka: {consumer_properties: {ssl.endpoint.identification.algorithm: NONE}}",
            "kafka.consumer_properties.ssl.endpoint",
        ),
        (
            "kafka: {properties: {enable.sasl.oauthbearer.unsecure.jwt: true}}",
            "unsecure.jwt: tokens aren't signed",
        ),
        (
            "kafka: {properties: {security.protocol: SASL_PLAINTEXT, sasl.mechanisms: PLAIN}}",
            "in the open",
        ),
        (
            "schema_registry: {url: 'http://r', password: x}",
            "schema_registry.url: the password goes",
        ),
        (
            "schema_registry: {url: 'http://u:x@r'}",
            "schema_registry.url: the password goes",
        ),
    ] {
        let warnings = parse(text).unwrap().warnings();
        let warnings: Vec<String> = warnings.iter().map(ToString::to_string).collect();
        assert!(
            warnings.len() == 1 && warnings[0].contains(wanted),
            "{text}: {warnings:?}"
        );
    }
    for text in [
        "",
        "kafka: {properties: {enable.ssl.certificate.verification: true, ssl.endpoint.identification.algorithm: https}}",
        "kafka: {properties: {security.protocol: SASL_PLAINTEXT, sasl.mechanism: SCRAM-SHA-512}}",
        "schema_registry: {url: 'http://localhost', password: x}",
        "schema_registry: {url: 'https://r', password: x}",
    ] {
        assert_eq!(parse(text).unwrap().warnings(), [], "{text}");
    }
}

#[test]
fn properties_are_librdkafkas_own_names() {
    // One that is shown and never was a property would be a misspelling.
    assert!(Properties::is_shown("sasl.username") && Properties::is_shown("security.protocol"));
    for hidden in [
        "sasl.password",
        "ssl.key.password",
        "ssl.key.pem",
        "ssl.keystore.password",
        "sasl.oauthbearer.config",
        "sasl.oauthbearer.client.secret",
        "sasl.oauthbearer.client.credentials.client.secret",
        "sasl.oauthbearer.extensions",
        "sasl.oauthbearer.token.endpoint.url",
        "sasl.oauthbearer.assertion.private.key.passphrase",
        "sasl.oauthbearer.assertion.private.key.pem",
        "sasl.jaas.config",
        "a.property.of.next.year",
        "",
    ] {
        assert!(!Properties::is_shown(hidden), "{hidden}");
    }
}
