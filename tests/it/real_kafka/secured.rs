//! On a secured broker: TLS, SCRAM-SHA-512 or client certificates, and ACLs. Each role has a user of its own, which may
//! do what docs/kafka-security.md lists and nothing else.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use serde_json::{Value, json};

use super::sender::open_sandbox;
use crate::support::{Destinations, Leadlane, Process, event, free_port, page, part, until_ready};

mod cures;
mod refusals;
mod unseen;

/// The run's secured broker.
struct Broker {
    dir: PathBuf,
    scram: String,
    mtls: String,
}

impl Broker {
    fn of_the_run() -> Self {
        let dir = PathBuf::from(part("LEADLANE_TEST_KAFKA_SECURE"));
        let ports = std::fs::read_to_string(dir.join("ports")).unwrap();
        let port = |name: &str| {
            let port = ports
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
            format!("127.0.0.1:{}", port.unwrap())
        };
        let (scram, mtls) = (port("client"), port("mtls"));
        Self { dir, scram, mtls }
    }

    /// A file of its certificates and keys.
    fn tls(&self, name: &str) -> String {
        self.dir.join("tls").join(name).to_str().unwrap().to_owned()
    }

    /// What logs the super user in.
    fn super_user(&self) -> [(&'static str, String); 5] {
        [
            ("security.protocol", "SASL_SSL".to_owned()),
            ("sasl.mechanism", "SCRAM-SHA-512".to_owned()),
            ("sasl.username", "admin".to_owned()),
            ("sasl.password", "admin-secret".to_owned()),
            ("ssl.ca.location", self.tls("ca.pem")),
        ]
    }

    fn tool(&self, verb: &str, arguments: &[String], lines: &[String]) {
        let tool = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python/acls.py");
        let mut command = Command::new(part("LEADLANE_TEST_PYTHON"));
        command.arg(tool).arg(verb).arg(&self.dir).args(arguments);
        let mut child = command.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(lines.join("\n").as_bytes())
            .unwrap();
        let output = child.wait_with_output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{lines:?}: {stderr}");
    }

    /// Makes users that log in with a password; it is the name and `-secret`.
    fn users(&self, names: &[String]) {
        self.tool("users", names, &[]);
    }

    /// Carries out lines of kafka-acls.sh.
    fn allow(&self, lines: &[String]) {
        self.tool("apply", &[], lines);
    }

    /// The same by Kafka's own command, which takes its time.
    fn allow_by_kafka(&self, line: &str) {
        let options = line.split_once(" --add").unwrap().1;
        let mut command = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kafka/kafka"));
        command.args(["acls", "--dir", self.dir.to_str().unwrap(), "--add"]);
        let output = command.args(options.split_whitespace()).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{line}: {stderr}");
    }
}

/// An ACL of the page, in the page's names.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Acl {
    role: String,
    operation: String,
    /// `topic`, `group` or `transactional-id`.
    kind: String,
    name: String,
    /// All names that begin so.
    prefixed: bool,
}

/// Every ACL of the page, one by one.
fn acls() -> Vec<Acl> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/kafka-security.md");
    let page = std::fs::read_to_string(page).unwrap();
    let lines: Vec<&str> = page.lines().filter_map(|line| line.strip_prefix("$acls ")).collect();
    lines.into_iter().flat_map(of_line).collect()
}

fn of_line(line: &str) -> Vec<Acl> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let (options, rest) = words.as_chunks::<2>();
    assert!(rest.is_empty(), "{line}");
    let all = |option: &str| {
        let found = options.iter().filter(move |[name, _]| *name == option);
        found.map(|[_, value]| (*value).to_owned()).collect::<Vec<_>>()
    };
    let prefixed = all("--resource-pattern-type") == ["prefixed"];
    let mut acls = Vec::new();
    for principal in all("--allow-principal") {
        let role = principal.strip_prefix("User:leadlane-").unwrap();
        for operation in all("--operation") {
            for kind in ["topic", "group", "transactional-id"] {
                for name in all(&format!("--{kind}")) {
                    acls.push(Acl {
                        role: role.to_owned(),
                        operation: operation.clone(),
                        kind: kind.to_owned(),
                        name,
                        prefixed,
                    });
                }
            }
        }
    }
    assert!(!acls.is_empty(), "{line}");
    acls
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Login {
    Scram,
    Certificate,
}

/// A Leadlane of a test's own on the secured broker. As itself it is the super user.
struct Install {
    broker: Broker,
    leadlane: Leadlane,
    listen: String,
    foreign: String,
}

impl Install {
    fn new(name: &str, destinations: &Destinations) -> Self {
        let broker = Broker::of_the_run();
        let foreign = format!("salesforce.{name}-{}-{}", std::process::id(), free_port());
        let mut client = ClientConfig::new();
        client.set("bootstrap.servers", &broker.scram);
        let mut properties = Vec::new();
        for (name, value) in broker.super_user() {
            properties.push(format!("{name}: '{value}'"));
            client.set(name, value);
        }
        let topic = NewTopic::new(&foreign, 1, TopicReplication::Fixed(1));
        let admin: AdminClient<DefaultClientContext> = client.create().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let made = admin.create_topics([&topic], &AdminOptions::new());
        runtime.unwrap().block_on(made).unwrap().remove(0).unwrap();
        let listen = format!("127.0.0.1:{}", free_port());
        let inlets = format!(
            "inlet: {{listen: '{listen}'}}\ninlets:\n\
             - {{name: survey, kind: http, secrets: [{{bearer: {{secret: survey-token}}}}], \
             event: {{event_id: '{{{{$.id}}}}', trigger: survey.answered, lead_id: '{{{{$.email}}}}'}}}}\n\
             - {{name: crm, kind: topic, topic: {foreign}, \
             event: {{event_id: '{{{{$.id}}}}', trigger: crm.changed, lead_id: '{{{{$.email}}}}'}}}}"
        );
        let kafka = format!("brokers: '{}', properties: {{{}}}", broker.scram, properties.join(", "));
        let leadlane = Leadlane::by(&kafka, name, &format!("{}\n{inlets}", destinations.yaml("1000/s")));
        for (name, value) in [
            ("sales-bot", "xoxb-hunter2-token"),
            ("acme-passcode", "hunter2-passcode"),
            ("survey-token", "hunter2-survey"),
        ] {
            leadlane.secret(name, value);
        }
        Self {
            broker,
            leadlane,
            listen,
            foreign,
        }
    }

    fn group(&self) -> &str {
        &self.leadlane.config.kafka.group
    }

    /// A name of the page as it is here, in a group.
    fn name(&self, acl: &Acl, group: &str) -> String {
        let topics = &self.leadlane.config.topics;
        let of_topic = match acl.name.as_str() {
            "lead-events" => &topics.events,
            "tracking-rules" => &topics.rules,
            "delivery-jobs" => &topics.jobs,
            "delivery-outcomes" => &topics.outcomes,
            "dead-letters" => &topics.dead_letters,
            "rule-audit" => &topics.audit,
            _ => &self.foreign,
        };
        match acl.kind.as_str() {
            "topic" => of_topic.clone(),
            _ => acl.name.replacen("leadlane", group, 1),
        }
    }

    /// The line that adds an ACL to a user.
    fn line(&self, acl: &Acl, user: &str, group: &str) -> String {
        let Acl { operation, kind, .. } = acl;
        let pattern = if acl.prefixed { "prefixed" } else { "literal" };
        format!(
            "kafka-acls.sh --bootstrap-server {} --command-config admin.properties --add --allow-principal User:{user} \
             --operation {operation} --{kind} {} --resource-pattern-type {pattern}",
            self.broker.scram,
            self.name(acl, group)
        )
    }

    /// The user of a role.
    fn user(&self, login: Login, role: &str) -> String {
        match login {
            Login::Scram => format!("{}-{role}", self.group()),
            Login::Certificate => format!("CN=leadlane-{role}"),
        }
    }

    /// A command of a role's user.
    fn command(&self, login: Login, role: &str, arguments: &[&str]) -> Command {
        let mut command = self.leadlane.command(arguments);
        match login {
            Login::Scram => logged_in(&mut command, &self.user(login, role)),
            Login::Certificate => {
                let file = |ending: &str| self.broker.tls(&format!("leadlane-{role}.{ending}"));
                command
                    .env("LEADLANE__KAFKA__BROKERS", &self.broker.mtls)
                    .env("LEADLANE__KAFKA__PROPERTIES__SECURITY_PROTOCOL", "SSL")
                    .env("LEADLANE__KAFKA__PROPERTIES__SSL_CERTIFICATE_LOCATION", file("pem"))
                    .env("LEADLANE__KAFKA__PROPERTIES__SSL_KEY_LOCATION", file("key"));
            }
        }
        command
    }

    /// Runs a command of a role's user that has to succeed, and gives what it printed.
    fn ok(&self, login: Login, role: &str, arguments: &[&str]) -> String {
        let output = self.command(login, role, arguments).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{role}: leadlane {arguments:?}:\n{stderr}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Writes a file and gives its name.
    fn file(&self, name: &str, text: &str) -> String {
        let file = self.leadlane.dir.join(name);
        std::fs::write(&file, text).unwrap();
        file.to_str().unwrap().to_owned()
    }

    /// Posts a record to the inlet `survey`, and gives the status.
    fn post(&self, record: &Value) -> u16 {
        let url = format!("http://{}/inlets/survey", self.listen);
        asked("POST", &url, Some("hunter2-survey"), &[], record).0
    }
}

/// The command's user is this one.
fn logged_in(command: &mut Command, user: &str) {
    command
        .env("LEADLANE__KAFKA__PROPERTIES__SASL_USERNAME", user)
        .env("LEADLANE__KAFKA__PROPERTIES__SASL_PASSWORD", format!("{user}-secret"));
}

/// Starts `leadlane run` for one role, at an admin address of its own; doesn't wait for it.
fn starts(install: &Install, mut command: Command, role: &str) -> (Process, String) {
    let admin = format!("127.0.0.1:{}", free_port());
    let instance = format!("{role}-0");
    command
        .env("LEADLANE__ADMIN__LISTEN", &admin)
        .env("LEADLANE__PROCESSOR__INSTANCE", instance);
    (install.leadlane.logged(command), admin)
}

fn asked(method: &str, url: &str, token: Option<&str>, headers: &[(&str, &str)], body: &Value) -> (u16, String) {
    let client = reqwest::Client::new();
    let mut request = client.request(method.parse().unwrap(), url);
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request
        .header("content-type", "application/json")
        .body(body.to_string());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.unwrap().block_on(async {
        match request.send().await {
            Ok(answer) => (answer.status().as_u16(), answer.text().await.unwrap_or_default()),
            Err(error) => (0, error.to_string()),
        }
    })
}

fn until(what: &str, seconds: u64, mut so: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(seconds);
    while !so() {
        assert!(Instant::now() < until, "not after {seconds} s: {what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

const RULES: &str = r#"
- id: sold
  trigger: lms.lead_sold
  scope: {level: product, id: "12"}
  action: {type: slack_message, token: {secret: sales-bot}, to: {channel: C0SALES}, text: "sold {{$.lead_id}}"}
- id: rejected
  trigger: lms.lead_rejected
  scope: {level: product, id: "12"}
  action: {type: slack_message, token: {secret: sales-bot}, to: {channel: C0SALES}, text: "rejected: {{$.reason}}", on_missing: fail}
- id: answered
  trigger: survey.answered
  scope: {level: inlet, id: survey}
  action: {type: slack_message, token: {secret: sales-bot}, to: {channel: C0SALES}, text: "answered {{$.lead_id}}"}
- id: changed
  trigger: crm.changed
  scope: {level: inlet, id: crm}
  action: {type: slack_message, token: {secret: sales-bot}, to: {channel: C0SALES}, text: "changed {{$.lead_id}}"}
"#;

const ROLES: [&str; 4] = ["processor", "sender", "inlets", "admin"];

/// Everybody gets the ACLs of the page.
fn may_what_the_page_says(install: &Install, login: Login) {
    let user = |role: &str| install.user(login, role);
    if login == Login::Scram {
        let users: Vec<String> = ROLES.into_iter().chain(["operator"]).map(user).collect();
        install.broker.users(&users);
    }
    let group = install.group();
    let lines: Vec<String> = acls()
        .iter()
        .map(|acl| install.line(acl, &user(&acl.role), group))
        .collect();
    install.broker.allow(&lines);
    if login == Login::Scram {
        // That Kafka's own command takes the page's lines, one of each kind shows.
        let kinds: BTreeMap<_, _> = acls()
            .into_iter()
            .map(|acl| ((acl.kind.clone(), acl.prefixed), acl))
            .collect();
        for acl in kinds.values() {
            install
                .broker
                .allow_by_kafka(&install.line(acl, &user(&acl.role), group));
        }
    }
}

/// The desk writes a rule, and puts back what the one before it could not render.
fn the_desk_works(desk: &str) {
    let (status, found) = asked("GET", &format!("{desk}/rules/rejected"), None, &[], &Value::Null);
    assert_eq!(status, 200, "{found}");
    let found: Value = serde_json::from_str(&found).unwrap();
    let mut rule = found["rule"].clone();
    rule["action"]["on_missing"] = json!("empty");
    let version = format!("\"{}\"", found["version"]);
    let put = [("if-match", version.as_str())];
    let (status, said) = asked("PUT", &format!("{desk}/rules/rejected"), None, &put, &rule);
    assert_eq!(status, 200, "{said}");
    let (status, said) = asked(
        "POST",
        &format!("{desk}/dead-letters/replay"),
        None,
        &[],
        &json!({"reason": "template_failed"}),
    );
    assert_eq!(status, 200, "{said}");
}

fn commands_work(install: &Install, login: Login) {
    for arguments in [
        &["lanes"][..],
        &["deliveries", "list"],
        &["dead-letters", "list"],
        &["dead-letters", "replay", "--all"],
        &["rules", "list"],
        &["rules", "history", "rejected"],
        &["rules", "pause", "sold"],
        &["lanes", "pause", "slack:sales-bot"],
    ] {
        let ran = install.command(login, "operator", arguments).output().unwrap();
        let said = String::from_utf8_lossy(&ran.stderr);
        assert!(
            ran.status.success() || said.contains("already"),
            "{arguments:?}: {said}"
        );
    }
}

/// Each role does its whole job with the ACLs of the page, and so does the person who runs the commands.
fn whole_job(login: Login) {
    let destinations = open_sandbox();
    let install = Install::new("secured", &destinations);
    may_what_the_page_says(&install, login);
    let operator = |arguments: &[&str]| install.ok(login, "operator", arguments);
    operator(&["topics", "create", "--partitions", "2"]);
    operator(&["rules", "apply", &install.file("rules.yaml", RULES)]);
    let mut processes = BTreeMap::new();
    for role in ROLES {
        let command = install.command(login, role, &["run", "--role", role]);
        processes.insert(role, starts(&install, command, role));
    }
    let processes: BTreeMap<&str, (Process, String)> = processes
        .into_iter()
        .map(|(role, (process, admin))| (role, (until_ready(process, &admin), admin)))
        .collect();

    let events = [
        event(1, "lms.lead_sold", "12", "42.50"),
        event(2, "lms.lead_rejected", "12", "42.50"),
    ];
    operator(&["events", "send", &install.file("events.json", &events.join("\n"))]);
    assert_eq!(install.post(&json!({"id": "s1", "email": "ana@example.com"})), 200);
    let record = json!({"id": "c1", "email": "bo@example.com"}).to_string();
    install
        .leadlane
        .write(&install.foreign, [("k", Some(record.as_bytes()))]);
    let arrived = |texts: &[&str]| {
        let has = |text: &&str| destinations.texts().iter().any(|found| found == text);
        until(&format!("{texts:?}"), 60, || texts.iter().all(has));
    };
    arrived(&["sold lead-1", "answered ana@example.com", "changed bo@example.com"]);

    the_desk_works(&format!("http://{}/api/v1", processes["admin"].1));
    arrived(&["rejected: "]);

    commands_work(&install, login);
    for (role, (process, admin)) in processes {
        let log = process.log();
        assert!(
            !log.contains("lacks the ACL") && !log.contains("authorization failed"),
            "{role}:\n{log}"
        );
        assert!(
            page(&admin, "/readyz").is_some_and(|(status, _)| status == 200),
            "{role}:\n{log}"
        );
        process.stop();
    }
}

#[test]
fn each_role_does_its_whole_job_with_a_password_and_the_acls_of_the_page() {
    whole_job(Login::Scram);
}

#[test]
fn each_role_does_its_whole_job_with_a_certificate_and_the_acls_of_the_page() {
    whole_job(Login::Certificate);
}
