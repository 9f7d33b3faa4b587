//! The doctor on installations with one fault each: one line fails, and its cure, as it is printed, sets that right.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use leadlane::sandbox::Settings;
use serde_json::Value;

use crate::support::{Destinations, Leadlane, free_port, part, sandbox};
use crate::tidy::root;

const RULES: &str = r#"
- id: sold
  trigger: lms.lead_sold
  scope: {level: product, id: "12"}
  action: {type: slack_message, token: {secret: sales-bot}, to: {channel: C0SALES}, text: "sold {{lead_id}}"}
- id: to-ana
  trigger: lms.lead_sold
  scope: {level: product, id: "12"}
  action: {type: slack_message, token: {secret: sales-bot}, to: {member: U0ANA}, text: "sold {{lead_id}}"}
- id: hook
  trigger: lms.lead_sold
  scope: {level: inlet, id: workspace}
  action: {type: slack_webhook, url: {secret: alerts}, text: "sold {{lead_id}}"}
- id: profile
  trigger: lms.lead_sold
  scope: {level: product, id: "12"}
  action: {type: clevertap_profile, account: acme, identity: "{{lead_id}}", properties: {Name: Ana}}
"#;
const TOKEN: &str = "xoxb-hunter2-token";

/// A Leadlane of which everything is right.
struct Installation {
    leadlane: Leadlane,
    destinations: Destinations,
    /// Another place of the configuration's file than the usual one.
    file: PathBuf,
    /// Set for every command.
    variables: Vec<(String, String)>,
}

impl Installation {
    fn new(name: &str) -> Self {
        Self::on(&part("LEADLANE_TEST_KAFKA"), name, "")
    }

    /// `properties` are those of a secured Kafka, on which an administrator makes the topics.
    fn on(brokers: &str, name: &str, properties: &str) -> Self {
        let destinations = sandbox(Settings::default());
        let yaml = format!(
            "{}\nschema_registry: {{url: '{}'}}\ninlet: {{listen: '127.0.0.1:{}'}}\n\
             inlets:\n- {{name: workspace, preset: slack, kind: http, secrets: [{{secret: slack-signing}}]}}\n",
            destinations.yaml("1000/s"),
            part("LEADLANE_TEST_REGISTRY"),
            free_port()
        );
        let leadlane = Leadlane::on(brokers, &format!("doctor-{name}"), &yaml);
        let installation = Self {
            file: leadlane.dir.join("leadlane.yaml"),
            leadlane,
            destinations,
            variables: Vec::new(),
        };
        let leadlane = &installation.leadlane;
        for (name, value) in installation.secrets() {
            leadlane.secret(name, &value);
        }
        let key = leadlane.dir.join("key");
        let public = leadlane.ok(&["secrets", "keygen", "--out", key.to_str().unwrap()]);
        let keys = format!(
            "secrets: {{key_file: '{}', public_key: '{}', ",
            key.display(),
            public.trim()
        );
        leadlane.rewrite("secrets: {", &keys);
        installation.tools();
        if !properties.is_empty() {
            leadlane.rewrite("kafka: {", &format!("kafka: {{properties: {properties}, "));
        }
        leadlane.ok(&["topics", "create", "--partitions", "2"]);
        leadlane.apply(RULES);
        installation
    }

    fn secrets(&self) -> [(&'static str, String); 4] {
        let webhook = format!("http://{}/services/T0/B0/hunter2", self.destinations.address);
        [
            ("sales-bot", TOKEN.to_owned()),
            ("alerts", webhook),
            ("acme-passcode", "hunter2-passcode".to_owned()),
            ("slack-signing", "hunter2-signing".to_owned()),
        ]
    }

    /// The commands that cures name, as people have them on their PATH.
    fn tools(&self) {
        let bin = self.leadlane.dir.join("bin");
        std::fs::create_dir_all(&bin).unwrap();
        let kafka = root().join("tests/kafka/kafka");
        let tool = |name: &str| {
            (
                format!("{name}.sh"),
                format!("exec '{}' tool {name} \"$@\"", kafka.display()),
            )
        };
        let leadlane = format!("exec '{}' \"$@\"", env!("CARGO_BIN_EXE_leadlane"));
        // It sets no clock of ours, and the clock that is off here is another's.
        let clock = format!(
            "[ \"$*\" = 'set-ntp true' ] && touch '{}'",
            self.clock_is_set().display()
        );
        for (name, script) in [
            tool("kafka-configs"),
            tool("kafka-topics"),
            tool("kafka-acls"),
            ("leadlane".to_owned(), leadlane),
            ("timedatectl".to_owned(), clock),
        ] {
            let file = bin.join(name);
            std::fs::write(&file, format!("#!/bin/sh\n{script}\n")).unwrap();
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
    }

    fn clock_is_set(&self) -> PathBuf {
        self.leadlane.dir.join("clock-is-set")
    }

    fn doctor(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_leadlane"));
        command.arg("--config").arg(&self.file).arg("doctor").args(arguments);
        let output = self.run(command);
        let text = String::from_utf8(output.stdout).unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        for shown in [&text, &said] {
            assert!(
                !shown.contains("hunter2") && !shown.contains("leadlane-secret"),
                "{shown}"
            );
        }
        (output.status.code(), text)
    }

    fn run(&self, mut command: Command) -> Output {
        let variables = self.variables.iter().map(|(name, value)| (name, value));
        command.envs(variables).output().unwrap()
    }

    fn failed(&self) -> (Option<i32>, Vec<Value>, String) {
        let (code, lines) = self.doctor(&["--json"]);
        let findings = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let failed = findings.filter(|finding| finding["state"] == "failed").collect();
        (code, failed, lines)
    }

    /// The one failure, as programs read it; people read the same.
    fn fault(&self, id: &str) -> Fault {
        let (code, failed, lines) = self.failed();
        assert!(code == Some(1) && failed.len() == 1, "{code:?}\n{lines}");
        let of = |name: &str| {
            failed[0][name]
                .as_str()
                .unwrap_or_else(|| panic!("no {name}: {lines}"))
                .to_owned()
        };
        assert_eq!(of("id"), id, "{lines}");
        let (code, text) = self.doctor(&[]);
        assert_eq!(code, Some(1), "{text}");
        let long = |line: &&str| line.chars().count() > 100 && line.trim_start().contains(' ');
        assert_eq!(text.lines().find(long), None, "{text}");
        let mut blocks = text.lines().skip_while(|line| !line.starts_with("failed "));
        let first = blocks.next().unwrap();
        let rest = blocks.clone().take_while(|line| line.starts_with(' '));
        let printed: Vec<&str> = std::iter::once(first).chain(rest).collect();
        let more = blocks.filter(|line| line.starts_with("failed "));
        assert_eq!(more.count(), 0, "{text}");
        Fault {
            what: of("what"),
            cure: of("cure"),
            printed: printed.join("\n"),
        }
    }

    /// Runs the command of a cure as it is printed.
    fn run_cure(&self, fault: &Fault) {
        let (_, command) = fault
            .printed
            .split_once("by:\n")
            .unwrap_or_else(|| panic!("{}", fault.printed));
        let mut shell = Command::new("sh");
        shell.arg("-ec").arg(command).current_dir(&self.leadlane.dir);
        let bin = self.leadlane.dir.join("bin");
        shell.env("PATH", format!("{}:/usr/local/bin:/usr/bin:/bin", bin.display()));
        let output = self.run(shell);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{command}\n{said}");
    }

    /// Everything is right.
    fn passes(&self) {
        let (code, failed, lines) = self.failed();
        assert!(code == Some(0) && failed.is_empty(), "{code:?}\n{lines}");
    }

    fn rewrite(&self, from: &str, to: &str) {
        self.leadlane.rewrite(from, to);
    }

    /// What stands behind `before` in a text, up to a blank, a comma or its end.
    fn word<'t>(text: &'t str, before: &str) -> &'t str {
        let (_, rest) = text
            .split_once(before)
            .unwrap_or_else(|| panic!("no {before:?} in {text}"));
        rest.split([' ', ',']).next().unwrap()
    }

    /// Makes a topic of one partition, with these settings.
    fn topic(&self, name: &str, partitions: i32, settings: &[(&str, &str)]) {
        use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
        let mut client = rdkafka::ClientConfig::new();
        client.set("bootstrap.servers", part("LEADLANE_TEST_KAFKA"));
        let admin: AdminClient<_> = client.create().unwrap();
        let topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
        let topic = settings
            .iter()
            .fold(topic, |topic, (name, value)| topic.set(name, value));
        let making = admin.create_topics([&topic], &AdminOptions::new()).await_here();
        making.unwrap().into_iter().for_each(|made| drop(made.unwrap()));
    }

    /// Writes a rule past the command that would refuse it.
    fn rule_as_it_is(&self, id: &str, rule: &Value) {
        let value = rule.to_string();
        let topic = self.leadlane.config.topics.rules.clone();
        self.leadlane.write(&topic, [(id, Some(value.as_bytes()))]);
    }
}

struct Fault {
    what: String,
    cure: String,
    /// The lines of it that people see.
    printed: String,
}

impl Fault {
    fn says(self, what: &str, cure: &str) -> Self {
        assert!(self.what.contains(what), "{}", self.what);
        assert!(self.cure.contains(cure), "{}", self.cure);
        self
    }
}

trait AwaitHere: Future + Sized {
    fn await_here(self) -> Self::Output {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.unwrap().block_on(self)
    }
}

impl<F: Future> AwaitHere for F {}

#[test]
fn an_installation_of_which_all_is_right_passes() {
    let whole = Installation::new("whole");
    whole.passes();
    let (code, text) = whole.doctor(&[]);
    assert_eq!(code, Some(0), "{text}");
    for line in [
        "ok             Kafka: 1 broker answers at",
        "ok             clock: it is right",
        "ok             slack:sales-bot: the token works",
    ] {
        assert!(text.contains(line), "{text}");
    }
    // Nothing was sent, and nothing written.
    let asked = whole.destinations.sandbox.log();
    let asked: BTreeSet<&str> = asked.iter().map(|arrival| arrival.method).collect();
    assert_eq!(asked, BTreeSet::from(["auth.test", "dry_run"]));
    for topic in [&whole.leadlane.config.topics.events, &whole.leadlane.config.topics.jobs] {
        assert_eq!(whole.leadlane.read(topic), []);
    }
    // What a role doesn't need isn't looked at, and a Leadlane that runs may have the ports.
    let process = whole.leadlane.start(&[]);
    let (code, text) = whole.doctor(&["--role", "processor"]);
    assert_eq!(code, Some(0), "{text}");
    assert!(
        text.contains("a Leadlane that runs has") && !text.contains("sales-bot"),
        "{text}"
    );
    whole.passes();
    process.stop();
}

#[test]
fn a_configuration_whose_folder_is_not_there() {
    let mut broken = Installation::new("no-folder");
    let there = std::mem::replace(&mut broken.file, broken.leadlane.dir.join("etc/leadlane.yaml"));
    broken.fault("configuration").says("there is no such file", "create it");
    std::fs::create_dir(broken.leadlane.dir.join("etc")).unwrap();
    std::fs::copy(there, &broken.file).unwrap();
    broken.passes();
}

#[test]
fn a_folder_of_secrets_that_is_not_there() {
    let mut broken = Installation::new("no-secrets");
    let elsewhere = broken.leadlane.dir.join("mounted");
    let dir = broken.leadlane.dir.join("secrets");
    broken.rewrite(
        &format!("dir: '{}'", dir.display()),
        &format!("dir: '{}'", elsewhere.display()),
    );
    let secrets = broken.secrets().into_iter();
    let variable = |name: &str| format!("LEADLANE_SECRET_{}", name.to_uppercase().replace('-', "_"));
    broken.variables = secrets.map(|(name, value)| (variable(name), value)).collect();
    let fault = broken.fault("secrets.dir").says("is not there", "mkdir -p");
    broken.run_cure(&fault);
    broken.passes();
}

#[test]
fn an_account_in_a_region_that_is_none() {
    let broken = Installation::new("region");
    let own = format!(", api_url: 'http://{}'}}}}}}", broken.destinations.address);
    broken.rewrite("region: in1", "region: in9");
    broken.rewrite(&own, "}}}");
    broken.fault("configuration").says(
        "clevertap.accounts.acme.region",
        "did you mean in1? A newer one is taken as api_url",
    );
    broken.rewrite("acme-passcode}}}}", &format!("acme-passcode}}{own}"));
    broken.passes();
}

#[test]
fn a_broker_that_is_away() {
    let broken = Installation::new("away");
    let (there, nowhere) = (part("LEADLANE_TEST_KAFKA"), format!("127.0.0.1:{}", free_port()));
    broken.rewrite(&there, &nowhere);
    broken.fault("kafka").says("no broker answers", "check kafka.brokers");
    broken.rewrite(&nowhere, &there);
    broken.passes();
}

const LOGIN: &str = "{security.protocol: SASL_PLAINTEXT, sasl.mechanism: PLAIN, sasl.username: leadlane, sasl.password: leadlane-secret}";

#[test]
fn a_broker_that_wants_a_login() {
    let broken = Installation::new("login");
    broken.rewrite(&part("LEADLANE_TEST_KAFKA"), &part("LEADLANE_TEST_KAFKA_SASL"));
    broken.fault("kafka").says("wants a log-in", "set security.protocol");
    broken.rewrite("kafka: {", &format!("kafka: {{properties: {LOGIN}, "));
    broken.passes();
}

#[test]
fn a_password_that_is_wrong() {
    let broken = Installation::new("password");
    broken.rewrite(&part("LEADLANE_TEST_KAFKA"), &part("LEADLANE_TEST_KAFKA_SASL"));
    broken.rewrite(
        "kafka: {",
        &format!("kafka: {{properties: {}, ", LOGIN.replace("-secret", "-hunter2")),
    );
    broken
        .fault("kafka")
        .says("refused the log-in", "check sasl.username and sasl.password");
    broken.rewrite("leadlane-hunter2", "leadlane-secret");
    broken.passes();
}

#[test]
fn a_topic_that_is_missing() {
    let broken = Installation::new("no-topic");
    broken.rewrite("-audit}", "-history}");
    let fault = broken.fault("topics").says("is missing", "leadlane --config");
    broken.run_cure(&fault);
    broken.passes();
}

#[test]
fn a_topic_that_is_compacted_and_must_not_be() {
    let broken = Installation::new("policy");
    let topic = format!("{}-kept", broken.leadlane.config.topics.audit);
    broken.topic(&topic, 1, &[("cleanup.policy", "compact"), ("retention.ms", "-1")]);
    broken.rewrite("-audit}", "-audit-kept}");
    let fault = broken
        .fault(&format!("topic:{topic}"))
        .says("cleanup.policy=compact", "kafka-configs.sh");
    broken.run_cure(&fault);
    broken.passes();
}

#[test]
fn outcomes_with_fewer_partitions_than_jobs() {
    let broken = Installation::new("partitions");
    let topic = format!("{}-few", broken.leadlane.config.topics.outcomes);
    broken.topic(&topic, 1, &[("cleanup.policy", "delete"), ("retention.ms", "-1")]);
    broken.rewrite("-outcomes,", "-outcomes-few,");
    let fault = broken
        .fault(&format!("topic:{topic}"))
        .says("has 1 partitions", "--partitions 2");
    broken.run_cure(&fault);
    broken.passes();
}

#[test]
fn a_registry_that_is_away() {
    let broken = Installation::new("registry");
    let (there, nowhere) = (
        part("LEADLANE_TEST_REGISTRY"),
        format!("http://127.0.0.1:{}", free_port()),
    );
    broken.rewrite(&there, &nowhere);
    broken.fault("registry").says("can't be reached", "schema_registry.url");
    broken.rewrite(&nowhere, &there);
    broken.passes();
}

#[test]
fn a_registry_that_refuses_our_log_in() {
    let broken = Installation::new("registry-login");
    // user:hunter2-registry
    let guarded = serve(|head| match head.contains("Basic dXNlcjpodW50ZXIyLXJlZ2lzdHJ5") {
        true => (
            "404 Not Found",
            r#"{"error_code":40403,"message":"Schema not found"}"#.to_owned(),
        ),
        false => (
            "401 Unauthorized",
            r#"{"error_code":401,"message":"Unauthorized"}"#.to_owned(),
        ),
    });
    broken.rewrite(&part("LEADLANE_TEST_REGISTRY"), &format!("http://{guarded}"));
    broken
        .fault("registry")
        .says("refuses our credentials", "schema_registry.username");
    broken.rewrite(
        &format!("'http://{guarded}'"),
        &format!("'http://{guarded}', username: user, password: hunter2-registry"),
    );
    broken.passes();
}

#[test]
fn a_secret_of_a_rule_that_is_missing() {
    let broken = Installation::new("no-secret");
    std::fs::remove_file(broken.leadlane.dir.join("secrets/sales-bot")).unwrap();
    let fault = broken
        .fault("slack:sales-bot")
        .says("secret sales-bot is missing", "LEADLANE_SECRET_SALES_BOT");
    std::fs::write(Installation::word(&fault.cure, "write it to "), TOKEN).unwrap();
    broken.passes();
}

#[test]
fn a_secret_that_cannot_be_read() {
    let broken = Installation::new("unreadable");
    let file = broken.leadlane.dir.join("secrets/slack-signing");
    std::fs::remove_file(&file).unwrap();
    std::fs::create_dir(&file).unwrap();
    broken
        .fault("secret:slack-signing")
        .says("can't be read", "put a regular file there");
    std::fs::remove_dir(&file).unwrap();
    broken.leadlane.secret("slack-signing", "hunter2-signing");
    broken.passes();
}

#[test]
fn a_private_key_that_does_not_fit_the_public_one() {
    let broken = Installation::new("keys");
    let other = broken.leadlane.ok(&[
        "secrets",
        "keygen",
        "--out",
        broken.leadlane.dir.join("other").to_str().unwrap(),
    ]);
    let text = std::fs::read_to_string(&broken.file).unwrap();
    let ours = Installation::word(&text, "public_key: '").trim_end_matches('\'');
    broken.rewrite(ours, other.trim());
    let fault = broken
        .fault("secrets.key_file")
        .says("don't open", "set secrets.public_key to");
    broken.rewrite(
        other.trim(),
        Installation::word(&fault.cure, "set secrets.public_key to "),
    );
    broken.passes();
}

#[test]
fn a_token_that_slack_refuses() {
    let broken = Installation::new("token");
    broken.leadlane.secret("sales-bot", "xoxb-hunter2-invalid");
    let fault = broken
        .fault("slack:sales-bot")
        .says("invalid_auth", "Bot User OAuth Token");
    std::fs::write(Installation::word(&fault.cure, "write it to "), TOKEN).unwrap();
    broken.passes();
}

#[test]
fn a_token_without_a_scope_that_a_rule_needs() {
    let broken = Installation::new("scope");
    let order = |scopes| broken.destinations.control("credentials", scopes);
    order(r#"{"token":"xoxb-hunter2-token","scopes":"chat:write,channels:join"}"#);
    broken.fault("slack:sales-bot").says("lacks im:write", "add im:write");
    order(r#"{"token":"xoxb-hunter2-token","scopes":"chat:write,channels:join,im:write"}"#);
    broken.passes();
}

#[test]
fn a_webhook_whose_host_is_not_allowed() {
    let broken = Installation::new("webhook");
    let host = &broken.destinations.address;
    broken.rewrite(
        &format!("webhook_hosts: ['{host}']"),
        "webhook_hosts: [hooks.slack.com]",
    );
    broken
        .fault("webhook:alerts")
        .says("not in slack.webhook_hosts", "add the host to slack.webhook_hosts");
    broken.rewrite("[hooks.slack.com]", &format!("[hooks.slack.com, '{host}']"));
    broken.passes();
}

#[test]
fn a_passcode_that_clevertap_refuses() {
    let broken = Installation::new("passcode");
    broken.leadlane.secret("acme-passcode", "hunter2-invalid");
    let fault = broken
        .fault("clevertap:acme")
        .says("refuses the passcode", "copy the passcode");
    std::fs::write(Installation::word(&fault.cure, "write it to "), "hunter2-passcode").unwrap();
    broken.passes();
}

#[test]
fn a_port_that_another_program_has() {
    let broken = Installation::new("port");
    let _taken = TcpListener::bind(&broken.leadlane.admin).unwrap();
    broken
        .fault("admin.listen")
        .says("another program has", "set admin.listen to a free port");
    broken.rewrite(&broken.leadlane.admin, &format!("127.0.0.1:{}", free_port()));
    broken.passes();
}

#[test]
fn a_clock_that_is_off() {
    let broken = Installation::new("clock");
    let (sandbox, is_set) = (broken.destinations.address.clone(), broken.clock_is_set());
    let late = relay(sandbox.clone(), move || !is_set.exists());
    broken.rewrite(
        &format!("api_url: 'http://{sandbox}/api'"),
        &format!("api_url: 'http://{late}/api'"),
    );
    let fault = broken.fault("clock").says("of others'", "timedatectl");
    broken.run_cure(&fault);
    broken.passes();
}

#[test]
fn a_rule_of_the_topic_that_this_version_refuses() {
    let broken = Installation::new("refused-rule");
    let mut rule: Value = serde_json::from_str(&broken.leadlane.ok(&["rules", "get", "sold"])).unwrap();
    rule["action"]["token"]["secret"] = "Sales_Bot".into();
    broken.rule_as_it_is("sold", &rule);
    let fault = broken.fault("rule:sold").says("stays in force", "leadlane --config");
    // The list warns of it in the same words.
    let listed = broken.leadlane.ok(&["rules", "list"]);
    let (_, warning) = listed.split_once("warning: ").unwrap_or_else(|| panic!("{listed}"));
    let warning = warning.lines().next().unwrap();
    assert!(fault.what.contains(warning), "{}\n{warning}", fault.what);
    rule["action"]["token"]["secret"] = Installation::word(warning, "write it as ").trim_end_matches(';').into();
    std::fs::write(broken.leadlane.dir.join("FILE"), rule.to_string()).unwrap();
    broken.run_cure(&fault);
    broken.passes();
}

#[test]
fn a_rule_whose_account_the_configuration_does_not_have() {
    let broken = Installation::new("account");
    let mut rule: Value = serde_json::from_str(&broken.leadlane.ok(&["rules", "get", "profile"])).unwrap();
    rule["action"]["account"] = "acmee".into();
    broken.rule_as_it_is("profile", &rule);
    let fault = broken
        .fault("rule:profile")
        .says("is none of clevertap.accounts", "did you mean acme?");
    rule["action"]["account"] = Installation::word(&fault.cure, "did you mean ")
        .trim_end_matches('?')
        .into();
    broken.leadlane.apply(&rule.to_string());
    broken.passes();
}

/// A secured Kafka, and the line that gives a user of it a right.
struct Secured {
    dir: String,
    brokers: String,
    user: String,
}

impl Secured {
    fn login(&self, name: &str) -> String {
        let dir = &self.dir;
        format!(
            "{{security.protocol: SASL_SSL, sasl.mechanism: SCRAM-SHA-512, sasl.username: {name}, \
             sasl.password: {name}-secret, ssl.ca.location: '{dir}/tls/ca.pem'}}"
        )
    }

    fn add(&self, operation: &str, resource: &str) -> String {
        let Self { brokers, user, .. } = self;
        format!(
            "kafka-acls.sh --bootstrap-server {brokers} --command-config admin.properties --add \
             --allow-principal User:{user} --operation {operation} {resource}\n"
        )
    }

    /// All rights that a process with all roles needs.
    fn rights(&self, broken: &Installation) -> Vec<String> {
        let (topics, group) = (&broken.leadlane.config.topics, &broken.leadlane.config.kafka.group);
        let mut lines = Vec::new();
        for topic in topics.all() {
            let operations = ["DescribeConfigs", "Read", "Write"];
            lines.extend(operations.map(|operation| self.add(operation, &format!("--topic {topic}"))));
        }
        for group in [group.clone(), format!("{group}-sender")] {
            lines.push(self.add("Read", &format!("--group {group}")));
        }
        let ids = format!("--transactional-id {group} --resource-pattern-type prefixed");
        lines.push(self.add("Write", &ids));
        lines
    }
}

#[test]
fn an_acl_that_is_missing() {
    let dir = part("LEADLANE_TEST_KAFKA_SECURE");
    let mut status = Command::new(root().join("tests/kafka/kafka"));
    let status = status.args(["status", "--dir", &dir]).output().unwrap();
    let brokers = String::from_utf8(status.stdout)
        .unwrap()
        .lines()
        .next()
        .unwrap()
        .to_owned();
    let mut secured = Secured {
        dir,
        brokers,
        user: "admin".to_owned(),
    };
    let broken = Installation::on(&secured.brokers, "acl", &secured.login("admin"));
    let (topics, group) = (&broken.leadlane.config.topics, &broken.leadlane.config.kafka.group);
    secured.user = format!("{group}-user");
    python_acls(&["users", &secured.dir, &secured.user], "");
    python_acls(&["apply", &secured.dir], &secured.rights(&broken).concat());
    broken.rewrite(&secured.login("admin"), &secured.login(&secured.user));
    let admin = Path::new(&secured.dir).join("admin.properties");
    std::fs::copy(admin, broken.leadlane.dir.join("admin.properties")).unwrap();
    broken.passes();
    let (jobs, sender) = (&topics.jobs, format!("{group}-sender"));
    let ids = format!("--transactional-id {group} --resource-pattern-type prefixed");
    for (id, operation, resource) in [
        (format!("rights:{jobs}"), "Write", format!("--topic {jobs}")),
        (format!("topic:{jobs}"), "DescribeConfigs", format!("--topic {jobs}")),
        (format!("rights:{sender}"), "Read", format!("--group {sender}")),
        (format!("rights:{group}-{group}"), "Write", ids),
    ] {
        let remove = secured.add(operation, &resource).replace("--add", "--remove --force");
        python_acls(&["apply", &secured.dir], &remove);
        let fault = broken
            .fault(&id)
            .says(&format!("lacks the ACL {operation}"), "kafka-acls.sh");
        broken.run_cure(&fault);
        broken.passes();
    }
}

/// Carries out lines of ACLs as the tests' secured broker takes them.
fn python_acls(arguments: &[&str], lines: &str) {
    let tool = root().join("tests/python/acls.py");
    let mut command = Command::new(part("LEADLANE_TEST_PYTHON"));
    command.arg(tool).args(arguments).stdin(std::process::Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
}

/// A server that answers each request by its head; gives its address.
fn serve(answer: impl Fn(&str) -> (&'static str, String) + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let head = read_head(&mut stream);
            let (status, body) = answer(&head);
            let length = body.len();
            let answer = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}");
            drop(stream.write_all(answer.as_bytes()));
        }
    });
    address
}

/// Hands requests on, and answers with another time while `is_off`; gives its address.
fn relay(to: String, is_off: impl Fn() -> bool + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut request = read_head(&mut stream);
            let length: usize = request
                .to_lowercase()
                .lines()
                .find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok())
                .unwrap_or(0);
            let mut body = vec![0; length];
            stream.read_exact(&mut body).unwrap();
            request = request.replacen("\r\n", "\r\nConnection: close\r\n", 1);
            let mut there = TcpStream::connect(&to).unwrap();
            there.write_all(request.as_bytes()).unwrap();
            there.write_all(&body).unwrap();
            let mut answer = String::new();
            there.read_to_string(&mut answer).unwrap();
            if is_off() {
                let (head, rest) = answer.split_once("\r\ndate: ").unwrap();
                let (_, rest) = rest.split_once("\r\n").unwrap();
                answer = format!("{head}\r\ndate: Fri, 07 Nov 2014 23:59:59 GMT\r\n{rest}");
            }
            drop(stream.write_all(answer.as_bytes()));
        }
    });
    address
}

fn read_head(stream: &mut TcpStream) -> String {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap_or(0) == 1 {
        head.extend_from_slice(&byte);
    }
    String::from_utf8(head).unwrap()
}
