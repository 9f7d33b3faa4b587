//! No password and no key is in anything that is printed, librdkafka's own words at their loudest among it.

use super::*;

const KEY_PASSWORD: &str = "hunter2-key-passw0rd";
const WRONG: &str = "hunter2-wr0ng";

type Properties = Vec<(&'static str, String)>;

/// The super user's key, encrypted, and all that must not be seen of it.
fn key(broker: &Broker) -> (String, Vec<String>) {
    let file = broker.tls("broker.key");
    let pass = format!("pass:{KEY_PASSWORD}");
    let arguments = ["pkcs8", "-topk8", "-in", file.as_str(), "-passout", pass.as_str()];
    let made = Command::new("openssl").args(arguments).output().unwrap();
    assert!(made.status.success(), "{made:?}");
    let pem = String::from_utf8(made.stdout).unwrap();
    let plain = std::fs::read_to_string(&file).unwrap();
    let lines = [pem.as_str(), plain.as_str()].into_iter().flat_map(str::lines);
    let lines = lines.filter(|line| !line.starts_with("-----") && line.len() > 16);
    let lines: Vec<String> = lines.map(str::to_owned).collect();
    assert!(lines.len() > 3, "{lines:?}");
    (pem, lines)
}

/// What a command or a process prints with these properties, librdkafka's words and all.
fn printed(install: &Install, properties: &Properties, brokers: &str, works: bool) -> String {
    let mut printed = String::new();
    let event = install.file("event.json", &event(1, "lms.lead_sold", "12", "42.50"));
    let rules = install.file("rules.yaml", RULES);
    let loud = |arguments: &[&str]| {
        let mut command = install.leadlane.command(arguments);
        command
            .env("LEADLANE__KAFKA__BROKERS", brokers)
            .env("LEADLANE__LOG__LEVEL", "trace")
            .env("LEADLANE__KAFKA__PROPERTIES__DEBUG", "all");
        for (name, value) in properties {
            let name = name.to_uppercase().replace('.', "_");
            command.env(format!("LEADLANE__KAFKA__PROPERTIES__{name}"), value);
        }
        command
    };
    let refused = [&["config", "check"][..], &["topics", "check"]];
    let taken = [
        &["topics", "create", "--partitions", "1"][..],
        &["rules", "apply", &rules],
        &["events", "send", &event],
        &["lanes"],
        &["dead-letters", "replay", "--all"],
    ];
    for arguments in refused.into_iter().chain(taken.into_iter().filter(|_| works)) {
        let output = loud(arguments).output().unwrap();
        printed += &String::from_utf8_lossy(&output.stdout);
        printed += &String::from_utf8_lossy(&output.stderr);
    }
    let (mut process, admin) = starts(install, loud(&["run"]), "all");
    until("the process is ready, or has ended", 60, || {
        process.ended(0).is_some() || page(&admin, "/readyz").is_some_and(|(status, _)| status == 200)
    });
    printed + &process.log()
}

#[test]
fn no_password_and_no_key_is_in_anything_that_is_printed() {
    let destinations = open_sandbox();
    let install = Install::new("unseen", &destinations);
    let broker = &install.broker;
    let (pem, lines) = key(broker);
    let certificate = std::fs::read_to_string(broker.tls("broker.pem")).unwrap();
    let with_key = |password: &str, key: &str| {
        vec![
            ("security.protocol", "SSL".to_owned()),
            ("ssl.certificate.pem", certificate.clone()),
            ("ssl.key.pem", key.to_owned()),
            ("ssl.key.password", password.to_owned()),
        ]
    };
    let with_password = |password: &str| vec![("sasl.password", password.to_owned())];
    let (scram, mtls) = (broker.scram.as_str(), broker.mtls.as_str());
    let mut secrets = lines;
    secrets.extend(["admin-secret", KEY_PASSWORD, WRONG].map(str::to_owned));
    // As it goes over the wire in PLAIN, and as people encode it.
    secrets.extend(["YWRtaW4tc2VjcmV0", "AGFkbWluAGFkbWluLXNlY3JldA"].map(str::to_owned));
    for (login, brokers, properties, works) in [
        ("a password", scram, with_password("admin-secret"), true),
        ("a wrong password", scram, with_password(WRONG), false),
        ("a key", mtls, with_key(KEY_PASSWORD, &pem), true),
        ("a key's wrong password", mtls, with_key(WRONG, &pem), false),
        ("no key", mtls, with_key(KEY_PASSWORD, WRONG), false),
    ] {
        let printed = printed(&install, &properties, brokers, works);
        assert_eq!(printed.contains("rules in force"), works, "{login}:\n{printed}");
        // It is as loud as it gets.
        assert!(
            !works || printed.contains("kafka client: [thrd:"),
            "{login}:\n{printed}"
        );
        for secret in &secrets {
            let found = printed.lines().find(|line| line.contains(secret));
            assert_eq!(found, None, "{login}: {secret}");
        }
    }
}
