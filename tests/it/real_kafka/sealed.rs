//! Credentials that rules carry sealed, from the command that seals them to the destination.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use leadlane::delivery::{DeliveryJob, Outcome, OutcomeResult};
use leadlane::sandbox::{Rate, Settings};

use crate::support::{Destinations, Leadlane, event, sandbox};

/// The public key of a new pair, whose private key goes into `file`.
fn keygen(file: &str) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_leadlane"))
        .args(["secrets", "keygen", "--out", file])
        .current_dir(std::env::temp_dir())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Leadlane with a key pair, and a sandbox for everything that it sends.
fn leadlane(name: &str) -> (Leadlane, Destinations) {
    let none = Rate::new(0, Duration::from_secs(1));
    let destinations = sandbox(Settings {
        channel_rate: none,
        webhook_rate: none,
        workspace_rate: none,
        method_rate: none,
        ..Settings::default()
    });
    let address = &destinations.address;
    let leadlane = Leadlane::new(
        name,
        &format!(
            "slack: {{api_url: 'http://{address}/api', webhook_hosts: ['{address}'], channel_rate: 100/s, webhook_rate: 100/s, workspace_rate: 100/s}}\n\
             clevertap: {{api_url: 'http://{address}'}}"
        ),
    );
    let key = leadlane.dir.join("key");
    let public = keygen(key.to_str().unwrap());
    let file = leadlane.dir.join("leadlane.yaml");
    let text = std::fs::read_to_string(&file).unwrap();
    let keys = format!("secrets: {{public_key: '{public}', key_file: '{}', ", key.display());
    std::fs::write(&file, text.replace("secrets: {", &keys)).unwrap();
    (leadlane, destinations)
}

/// What a rule takes for a value, by the command.
fn seal(leadlane: &Leadlane, value: &str, other_key: Option<&str>) -> String {
    let mut command = leadlane.command(&["secrets", "seal"]);
    if let Some(key) = other_key {
        command.env("LEADLANE__SECRETS__PUBLIC_KEY", key);
    }
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(format!("{value}\n").as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn jobs(leadlane: &Leadlane) -> Vec<DeliveryJob> {
    let records = leadlane.read(&leadlane.config.topics.jobs);
    let job = |value: Option<&[u8]>| DeliveryJob::decode(value.unwrap()).unwrap();
    records.iter().map(|record| job(record.value.as_deref())).collect()
}

fn outcomes(leadlane: &Leadlane, enough: impl Fn(&[Outcome]) -> bool) -> Vec<Outcome> {
    let of = |records: &[leadlane::kafka::reader::Record]| -> Vec<Outcome> {
        let values = records.iter().map(|record| record.value.as_deref().unwrap());
        values.map(|value| Outcome::decode(value).unwrap()).collect()
    };
    let topic = &leadlane.config.topics.outcomes;
    of(&leadlane.read_until(topic, 60, |records| enough(&of(records))))
}

/// A rule for each kind of sealed value, and one whose token a stranger sealed.
fn rules(leadlane: &Leadlane, token: &str, webhook: &str, stranger: &str) -> String {
    format!(
        "- {{id: to-channel, trigger: lms.lead_sold, scope: {{level: product, id: '*'}},
             action: {{type: slack_message, token: {token}, to: {{channel: C0SALES}}, text: 'sold {{{{$.event_id}}}}'}}}}\n\
         - {{id: to-webhook, trigger: lms.lead_sold, scope: {{level: product, id: '*'}},
             action: {{type: slack_webhook, url: {}, text: 'hook {{{{$.event_id}}}}'}}}}\n\
         - {{id: to-profile, trigger: lms.lead_sold, scope: {{level: product, id: '*'}},
             action: {{type: clevertap_profile, account: {{account_id: OWN-1, region: in1, passcode: {}}}, identity: '{{{{$.consumer.email}}}}'}}}}\n\
         - {{id: to-nobody, trigger: lms.lead_sold, scope: {{level: product, id: '*'}},
             action: {{type: slack_message, token: {}, to: {{channel: C0NEVER}}, text: never}}}}\n",
        seal(leadlane, webhook, None),
        seal(leadlane, "hunter2-passcode", None),
        seal(leadlane, "xoxb-hunter2-stranger", Some(stranger)),
    )
}

/// All that people and other programs get to see.
fn shown(leadlane: &Leadlane) -> String {
    let (topics, mut printed) = (&leadlane.config.topics, String::new());
    for command in [
        &["config", "check"][..],
        &["rules", "list"],
        &["rules", "get", "to-channel"],
    ] {
        printed.push_str(&leadlane.ok(command));
    }
    for topic in [
        &topics.rules,
        &topics.jobs,
        &topics.outcomes,
        &topics.dead_letters,
        &topics.audit,
    ] {
        for record in leadlane.read(topic) {
            printed.push_str(&String::from_utf8_lossy(record.value.as_deref().unwrap_or_default()));
            printed.push_str(&format!("{:?}{:?}", record.headers, record.key));
        }
    }
    printed
}

fn refused(rule: &str, outcomes: &[Outcome]) -> Option<String> {
    let mut of_rule = outcomes.iter().filter(|outcome| outcome.rule_id == rule);
    of_rule.find_map(|outcome| outcome.words.clone())
}

/// Somebody writes jobs by hand, to get round the limits of the credential. Gives all outcomes.
fn check_forged(leadlane: &Leadlane, of_token: &DeliveryJob) -> Vec<Outcome> {
    let forged = DeliveryJob {
        job_id: "00000000-0000-5000-8000-000000000000".to_owned(),
        rule_id: "forged".to_owned(),
        credential: "slack:sealed-0123456789abcdef".to_owned(),
        ..of_token.clone()
    };
    let bytes = forged.encode();
    leadlane.write(
        &leadlane.config.topics.jobs,
        [(forged.credential.as_str(), Some(bytes.as_slice()))],
    );
    let all = outcomes(leadlane, |outcomes| refused("forged", outcomes).is_some());
    let words = refused("forged", &all).unwrap();
    assert!(
        words.contains("the sealed value does not match its fingerprint"),
        "{words}"
    );
    all
}

#[test]
fn sealed_credentials_reach_their_destinations_and_no_secret_is_anywhere() {
    let (leadlane, destinations) = leadlane("sealed");
    let webhook = format!("http://{}/services/T0/B0/hunter2hook", destinations.address);
    let stranger = keygen(leadlane.dir.join("stranger").to_str().unwrap());
    let token = seal(&leadlane, "xoxb-hunter2-token", None);
    let rules = rules(&leadlane, &token, &webhook, &stranger);
    leadlane.ok(&["topics", "create", "--partitions", "3"]);
    leadlane.apply(&rules);
    let process = leadlane.start(&[]);
    let events: Vec<String> = (0..5)
        .map(|number| event(number, "lms.lead_sold", "12", "42.50"))
        .collect();
    let topics = &leadlane.config.topics;
    leadlane.write(
        &topics.events,
        events.iter().map(|event| ("lead", Some(event.as_bytes()))),
    );
    let sent = |outcomes: &[Outcome]| {
        outcomes
            .iter()
            .filter(|outcome| outcome.result == OutcomeResult::Sent)
            .count()
    };
    outcomes(&leadlane, |outcomes| {
        sent(outcomes) == 15 && refused("to-nobody", outcomes).is_some()
    });

    let of_token = jobs(&leadlane)
        .into_iter()
        .find(|job| job.rule_id == "to-channel")
        .unwrap();
    let all = check_forged(&leadlane, &of_token);
    let words = refused("to-nobody", &all).unwrap();
    assert!(words.contains("seal it again"), "{words}");
    let mut printed = leadlane.get("/metrics").unwrap().1 + &process.log();
    process.stop();

    // Two sealings of one value are one credential, and so one lane with one limit.
    let again = seal(&leadlane, "xoxb-hunter2-token", None);
    assert_ne!(again, token);
    let fingerprint = |sealed: &str| sealed.split(['"', '.']).nth(1).unwrap().to_owned();
    assert_eq!(fingerprint(&again), fingerprint(&token));
    assert_eq!(of_token.credential, format!("slack:sealed-{}", fingerprint(&token)));
    let texts = destinations.texts();
    assert_eq!(
        texts.iter().filter(|text| text.starts_with("sold")).count(),
        5,
        "{texts:?}"
    );
    assert_eq!(
        texts.iter().filter(|text| text.starts_with("hook")).count(),
        5,
        "{texts:?}"
    );
    assert!(!texts.contains(&"never".to_owned()), "{texts:?}");
    let own = |outcome: &&Outcome| outcome.rule_id == "to-profile";
    assert!(
        all.iter().filter(own).all(|outcome| outcome.lane.ends_with("/OWN-1")),
        "{all:?}"
    );
    let summary = destinations.sandbox.summary();
    assert!(summary.iter().any(|(target, _)| &**target == "OWN-1"), "{summary:?}");

    let private = std::fs::read_to_string(leadlane.dir.join("key")).unwrap();
    let private = private.lines().last().unwrap().split_once(':').unwrap().1.to_owned();
    printed.push_str(&shown(&leadlane));
    assert!(printed.contains(&fingerprint(&token)), "the topics were read");
    assert!(!printed.contains("hunter2"), "a sealed value shows");
    assert!(!printed.contains(&private), "the private key shows");
}

#[test]
fn a_sender_with_a_wrong_key_file_says_so_at_its_start() {
    let (leadlane, _destinations) = leadlane("wrong-key");
    leadlane.ok(&["topics", "create", "--partitions", "1"]);
    let refusal = |name: &str, value: &str| {
        let mut command = leadlane.command(&["run", "--role", "sender"]);
        let output = command.env(name, value).stdin(Stdio::null()).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let said = String::from_utf8(output.stderr).unwrap();
        said.lines().last().unwrap().to_owned()
    };
    let words = refusal("LEADLANE__SECRETS__KEY_FILE", "/not/there");
    assert!(
        words.contains("secrets.key_file: /not/there can't be read") && words.contains("keygen"),
        "{words}"
    );
    let words = refusal(
        "LEADLANE__SECRETS__KEY_FILE",
        leadlane.dir.join("leadlane.yaml").to_str().unwrap(),
    );
    assert!(words.contains("holds no private key"), "{words}");
    let other = keygen(leadlane.dir.join("other").to_str().unwrap());
    let words = refusal("LEADLANE__SECRETS__PUBLIC_KEY", &other);
    assert!(words.contains("set both to one key pair"), "{words}");
}
