//! What keeps a log-in from a secured broker is told apart.

use super::*;

/// What `topics check` says to the super user with other properties.
fn refusal(install: &Install, brokers: &str, properties: &[(&str, &str)]) -> String {
    let mut command = install.leadlane.command(&["topics", "check"]);
    command.env("LEADLANE__KAFKA__BROKERS", brokers);
    for (name, value) in properties {
        let name = name.to_uppercase().replace('.', "_");
        command.env(format!("LEADLANE__KAFKA__PROPERTIES__{name}"), value);
    }
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{properties:?}");
    String::from_utf8(output.stderr).unwrap()
}

/// A certificate of nobody's, and its key.
fn stranger(install: &Install) -> (String, String) {
    let (stranger, key) = (install.file("stranger.pem", ""), install.file("stranger.key", ""));
    let arguments = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj /CN=stranger -out";
    let mut openssl = Command::new("openssl");
    openssl.args(arguments.split(' ')).args([&stranger, "-keyout", &key]);
    assert!(openssl.output().unwrap().status.success());
    (stranger, key)
}

#[test]
fn what_keeps_a_log_in_from_a_secured_broker_is_told_apart() {
    let install = Install::new("refusals", &open_sandbox());
    let broker = &install.broker;
    let (scram, mtls) = (broker.scram.as_str(), broker.mtls.as_str());
    let by_name = scram.replace("127.0.0.1", "localhost");
    let (stranger, strange_key) = stranger(&install);
    let plain = part("LEADLANE_TEST_KAFKA");
    for (brokers, properties, wanted) in [
        (scram, &[("sasl.password", "wrong")][..], "refused the log-in"),
        (scram, &[("sasl.username", "nobody")], "refused the log-in"),
        (
            &by_name,
            &[],
            "has a certificate for another name: it is for 127.0.0.1, not for localhost",
        ),
        (
            scram,
            &[("ssl.ca.location", &stranger)],
            "has a certificate that isn't trusted",
        ),
        (scram, &[("security.protocol", "SSL")], "wants a log-in"),
        (
            scram,
            &[("security.protocol", "PLAINTEXT")],
            "takes no connection without TLS",
        ),
        (
            scram,
            &[("security.protocol", "SASL_PLAINTEXT")],
            "takes no connection without TLS",
        ),
        (
            scram,
            &[("sasl.mechanism", "PLAIN")],
            "one that it knows: SCRAM-SHA-512",
        ),
        (
            mtls,
            &[("security.protocol", "SSL")],
            "wants a certificate of ours that it trusts",
        ),
        (
            mtls,
            &[
                ("security.protocol", "SSL"),
                ("ssl.certificate.location", &stranger),
                ("ssl.key.location", &strange_key),
            ],
            "wants a certificate of ours that it trusts",
        ),
        (
            &plain,
            &[("security.protocol", "SASL_PLAINTEXT")],
            "takes no SASL log-in",
        ),
        (&plain, &[], "speaks no TLS"),
    ] {
        let said = refusal(&install, brokers, properties);
        assert!(
            said.contains(wanted) && said.contains(brokers),
            "{properties:?}: {said}"
        );
        assert!(
            !said.contains("no broker answers") && !said.contains("admin-secret"),
            "{properties:?}: {said}"
        );
    }
}

#[test]
fn whom_the_broker_takes_a_certificate_for_the_message_says() {
    let install = Install::new("certificate", &open_sandbox());
    let asked = install
        .command(Login::Certificate, "operator", &["topics", "check"])
        .output();
    let said = String::from_utf8(asked.unwrap().stderr).unwrap();
    assert!(
        said.contains("User:CN=leadlane-operator lacks the ACL Describe on the topic "),
        "{said}"
    );
}
