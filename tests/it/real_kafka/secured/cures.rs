//! Who may do nothing gets by the messages alone to what docs/kafka-security.md lists: each ACL is missed by somebody,
//! each message names it and carries the command that adds it, and a process goes on by itself once it is there.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;

use leadlane::delivery::{Outcome, OutcomeResult};

use super::*;

const RULES: &str = r#"
- id: sold
  trigger: lms.lead_sold
  scope: {level: product, id: "12"}
  action: {type: slack_message, token: {secret: sales-bot}, to: {channel: C0SALES}, text: "sold {{$.lead_id}}"}
- id: gone
  trigger: lms.lead_sold
  scope: {level: product, id: "12"}
  action: {type: slack_message, token: {secret: sales-bot}, to: {channel: C0GONE}, text: "sold {{$.lead_id}}"}
- id: seen
  status: shadow
  trigger: lms.lead_sold
  scope: {level: product, id: "12"}
  action: {type: slack_message, token: {secret: sales-bot}, to: {channel: C0SALES}, text: "seen {{$.lead_id}}"}
"#;

/// A role that begins with no right at all.
struct Nobody<'i> {
    install: &'i Install,
    role: &'static str,
    user: String,
    /// The cures that were carried out.
    cured: BTreeSet<String>,
}

/// Where a role's work stands.
enum Stands {
    Done,
    /// It waits; what it has said so far.
    Waits(String),
}

impl<'i> Nobody<'i> {
    fn new(install: &'i Install, role: &'static str) -> Self {
        let user = install.user(Login::Scram, role);
        install.broker.users(std::slice::from_ref(&user));
        Self {
            install,
            role,
            user,
            cured: BTreeSet::new(),
        }
    }

    /// Works until it is done, and carries out each cure that is named on the way.
    fn works(&mut self, mut work: impl FnMut() -> Stands) {
        let mut until = Instant::now() + Duration::from_secs(60);
        loop {
            let said = match work() {
                Stands::Done => return,
                Stands::Waits(said) => said,
            };
            let news: BTreeSet<String> = cures(&said)
                .into_iter()
                .filter(|cure| !self.cured.contains(cure))
                .collect();
            if news.is_empty() {
                assert!(
                    Instant::now() < until,
                    "{} is not done, and says no cure:\n{said}",
                    self.role
                );
                std::thread::sleep(Duration::from_millis(200));
                continue;
            }
            let words: Vec<String> = news.iter().map(|cure| Missing::of(cure).words(&self.user)).collect();
            assert!(
                words.iter().all(|words| said.contains(words)),
                "{words:?} isn't in\n{said}"
            );
            self.install.broker.allow(&news.iter().cloned().collect::<Vec<_>>());
            self.cured.extend(news);
            until = Instant::now() + Duration::from_secs(60);
        }
    }

    /// Runs a command until it misses nothing any more.
    fn runs(&mut self, arguments: &[&str]) {
        let (install, role) = (self.install, self.role);
        self.works(|| {
            let command = install.command(Login::Scram, role, arguments);
            // One of them follows a topic.
            let mut within = Command::new("timeout");
            within.arg("15").arg(command.get_program()).args(command.get_args());
            within.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
            let output = within.output().unwrap();
            let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
            // What follows a topic goes on until it is ended.
            match matches!(output.status.code(), Some(0 | 124)) && !said.contains("lacks the ACL") {
                true => Stands::Done,
                false => Stands::Waits(said.into_owned()),
            }
        });
    }

    /// Starts the role's process until it stays, and works on with it until `is_done`, which is given the address of its
    /// admin listener and says what it was told.
    fn stays(&mut self, is_done: impl Fn(&str) -> Stands) -> (Process, String) {
        let (install, role) = (self.install, self.role);
        let start = || {
            let command = install.command(Login::Scram, role, &["run", "--role", role]);
            starts(install, command, role)
        };
        let mut running = None;
        self.works(|| {
            let (process, admin) = running.get_or_insert_with(start);
            let is_up = page(admin, "/livez").is_some();
            let stands = if is_up {
                is_done(admin)
            } else {
                Stands::Waits(String::new())
            };
            let log = process.log();
            match (stands, process.ended(0)) {
                (Stands::Done, _) => Stands::Done,
                (Stands::Waits(_), Some(code)) => {
                    assert_eq!(code, 1, "{role}: {log}");
                    running = None;
                    Stands::Waits(log)
                }
                (Stands::Waits(said), None) => Stands::Waits(log + &said),
            }
        });
        running.unwrap()
    }

    /// Loses the ACLs on a resource while it runs, says so, and goes on once they are there again.
    fn loses(
        &mut self,
        (process, admin): &(Process, String),
        kind: &str,
        name: &str,
        nudge: impl Fn(),
        is_done: impl Fn(&str) -> Stands,
    ) {
        let of_it = |cure: &String| {
            let missing = Missing::of(cure);
            missing.kind == kind && missing.names == [name] && !missing.operation.starts_with("Describe")
        };
        let lost: BTreeSet<String> = self.cured.iter().filter(|cure| of_it(cure)).cloned().collect();
        assert!(!lost.is_empty(), "{kind} {name}");
        let said_before = process.log().len();
        let removed = lost.iter().map(|cure| cure.replace(" --add ", " --remove "));
        self.install.broker.allow(&removed.collect::<Vec<_>>());
        self.cured.retain(|cure| !lost.contains(cure));
        let missed = Cell::new(false);
        self.works(|| {
            let said = process.log()[said_before..].to_owned();
            let misses = cures(&said).iter().any(|cure| lost.contains(cure));
            match missed.replace(misses) {
                // What is said now is carried out before the next look.
                true => match is_done(admin) {
                    Stands::Done => Stands::Done,
                    Stands::Waits(_) => Stands::Waits(said),
                },
                // What came before the broker had taken the ACLs away was done as ever.
                false => {
                    nudge();
                    Stands::Waits(said)
                }
            }
        });
    }

    /// What it was missing is what the page lists for it; Describe stands alone there only where nothing else includes it.
    fn missed_what_the_page_lists(&self) {
        let group = self.install.group();
        let mut wanted = BTreeSet::new();
        for acl in acls().into_iter().filter(|acl| acl.role == self.role) {
            if acl.kind == "topic" && acl.operation != "DescribeConfigs" {
                wanted.insert((
                    "Describe".to_owned(),
                    "topic".to_owned(),
                    self.install.name(&acl, group),
                ));
            }
            wanted.insert((acl.operation.clone(), acl.kind.clone(), self.install.name(&acl, group)));
        }
        let prefix = format!("{group}-{}-", self.role);
        let prefix = prefix.as_str();
        let missed: BTreeSet<_> = self
            .cured
            .iter()
            .flat_map(|cure| {
                let Missing { operation, kind, names } = Missing::of(cure);
                names.into_iter().map(move |name| {
                    // The page has the prefix of the ids of a role's processes.
                    let is_of_process = kind == "transactional-id" && name.starts_with(prefix);
                    let name = if is_of_process { prefix.to_owned() } else { name };
                    (operation.clone(), kind.clone(), name)
                })
            })
            .collect();
        assert_eq!(missed, wanted, "{}", self.role);
    }
}

/// What a cure adds: one operation on some resources of a kind.
struct Missing {
    operation: String,
    kind: String,
    names: Vec<String>,
}

impl Missing {
    fn of(cure: &str) -> Self {
        let (_, rest) = cure.split_once(" --operation ").unwrap();
        let words: Vec<&str> = rest.split(' ').collect();
        let (options, _) = words[1..].as_chunks::<2>();
        assert!(options.iter().all(|[kind, _]| *kind == options[0][0]), "{cure}");
        Self {
            operation: words[0].to_owned(),
            kind: options[0][0].trim_start_matches("--").to_owned(),
            names: options.iter().map(|[_, name]| (*name).to_owned()).collect(),
        }
    }

    fn words(&self, user: &str) -> String {
        let kind = self.kind.replace('-', " ");
        let resources: Vec<String> = self.names.iter().map(|name| format!("the {kind} {name}")).collect();
        format!(
            "User:{user} lacks the ACL {} on {}",
            self.operation,
            resources.join(" and ")
        )
    }
}

/// The commands that a text tells to run.
fn cures(said: &str) -> Vec<String> {
    let mut cures = Vec::new();
    for rest in said.split("add it by: ").skip(1) {
        let line = rest.split(['"', '<', ';', '\n']).next().unwrap_or_default();
        let words: Vec<&str> = line.split_whitespace().collect();
        // Up to the operation; then come the resources.
        let mut length = 10.min(words.len());
        while words.get(length).is_some_and(|word| word.starts_with("--")) {
            length += 2;
        }
        cures.push(words[..length.min(words.len())].join(" "));
    }
    cures
}

/// A broker's Leadlane with rules, at which the super user works on.
fn prepared(name: &str) -> (Destinations, Install) {
    let destinations = open_sandbox();
    destinations.control("channels", r#"{"channel":"C0GONE","exists":false}"#);
    let install = Install::new(name, &destinations);
    install.leadlane.ok(&["topics", "create", "--partitions", "1"]);
    install.leadlane.apply(RULES);
    (destinations, install)
}

/// A number in a process's metrics.
fn metric(admin: &str, begins: &str) -> f64 {
    let metrics = page(admin, "/metrics").map_or_else(String::new, |(_, text)| text);
    let line = metrics
        .lines()
        .find_map(|line| line.strip_prefix(begins)?.split(' ').next_back()?.parse().ok());
    line.unwrap_or(-1.0)
}

/// Events that ask for a message, for one that can't be sent, and for an outcome, and a record that is no event.
fn nudge(install: &Install, number: u64) {
    let event = event(number, "lms.lead_sold", "12", "42.50");
    let topic = &install.leadlane.config.topics.events;
    install
        .leadlane
        .write(topic, [("k", Some(event.as_bytes())), ("k", Some(&b"{"[..]))]);
}

fn waits(holds: bool) -> Stands {
    match holds {
        true => Stands::Done,
        false => Stands::Waits(String::new()),
    }
}

#[test]
fn a_processor_says_what_it_misses_and_goes_on() {
    let (_destinations, install) = prepared("cures-processor");
    nudge(&install, 1);
    let mut nobody = Nobody::new(&install, "processor");
    let lag = format!(
        "leadlane_consumer_lag{{partition=\"0\",topic=\"{}\"}}",
        install.leadlane.config.topics.events
    );
    let has_read = |admin: &str| waits(metric(admin, &lag) == 0.0);
    let running = nobody.stays(has_read);
    nobody.missed_what_the_page_lists();
    let topics = &install.leadlane.config.topics;
    // What it read in vain at first is read again.
    assert_eq!(install.leadlane.read(&topics.jobs).len(), 2);
    for (kind, name) in [
        ("topic", &topics.events),
        ("topic", &topics.jobs),
        ("group", &install.group().to_owned()),
    ] {
        nobody.loses(&running, kind, name, || nudge(&install, 2), has_read);
    }
    running.0.stop();
}

#[test]
fn a_sender_says_what_it_misses_and_goes_on() {
    let (_destinations, install) = prepared("cures-sender");
    let _processor = install.leadlane.start(&["--role", "processor"]);
    let mut nobody = Nobody::new(&install, "sender");
    let number = Cell::new(0);
    let nudge = || {
        number.set(number.get() + 1);
        nudge(&install, number.get());
    };
    let topics = &install.leadlane.config.topics;
    // By what Kafka has of it, not by what the process did.
    let sent = || {
        let outcomes = install.leadlane.read(&topics.outcomes);
        let outcomes = outcomes
            .iter()
            .filter_map(|record| Outcome::decode(record.value.as_deref()?).ok());
        outcomes.filter(|outcome| outcome.result == OutcomeResult::Sent).count()
    };
    let running = nobody.stays(|admin| {
        nudge();
        let is_ready = page(admin, "/readyz").is_some_and(|(status, _)| status == 200);
        let letters = install.leadlane.read(&topics.dead_letters);
        let is_dead = letters
            .iter()
            .any(|letter| letter.header("reason") == Some("destination_gone"));
        waits(is_ready && is_dead && sent() > 0)
    });
    nobody.missed_what_the_page_lists();
    let group = format!("{}-sender", install.group());
    for (kind, name) in [("topic", &topics.jobs), ("topic", &topics.outcomes), ("group", &group)] {
        let before = sent();
        nobody.loses(&running, kind, name, nudge, |_| {
            nudge();
            waits(sent() > before)
        });
    }
    running.0.stop();
}

#[test]
fn inlets_say_what_they_miss_and_go_on() {
    let (_destinations, install) = prepared("cures-inlets");
    let record = json!({"id": "c1", "email": "bo@example.com"}).to_string();
    install
        .leadlane
        .write(&install.foreign, [("k", Some(record.as_bytes()))]);
    let mut nobody = Nobody::new(&install, "inlets");
    let lag = format!("leadlane_consumer_lag{{partition=\"0\",topic=\"{}\"}}", install.foreign);
    let (process, _) = nobody.stays(|admin| {
        let good = install.post(&json!({"id": "s1", "email": "ana@example.com"}));
        // It has no id, and is a dead letter.
        let bad = install.post(&json!({"email": "ana@example.com"}));
        waits(good == 200 && bad != 503 && metric(admin, &lag) == 0.0)
    });
    nobody.missed_what_the_page_lists();
    process.stop();
}

#[test]
fn the_desk_says_what_it_misses_and_goes_on() {
    let (_destinations, install) = prepared("cures-admin");
    with_dead_letters(&install);
    let mut nobody = Nobody::new(&install, "admin");
    let rule = json!({"id": "another", "name": "another", "status": "active", "trigger": "lms.lead_sold", "scope": {"level": "product", "id": "14"}, "action":
        {"type": "slack_message", "token": {"secret": "sales-bot"}, "to": {"channel": "C0SALES"}, "text": "new"}});
    let anew: &[(&str, &str)] = &[("if-none-match", "*")];
    let asks = RefCell::new(vec![
        ("PUT", "rules/another", anew, rule),
        ("POST", "dead-letters/replay", &[], json!({"reason": "not_decodable"})),
        (
            "POST",
            "dead-letters/replay",
            &[],
            json!({"reason": "destination_gone"}),
        ),
    ]);
    let (process, _) = nobody.stays(|admin| {
        let (_, mut said) = asked("GET", &format!("http://{admin}/status"), None, &[], &Value::Null);
        let misses = said.contains("lacks the ACL");
        asks.borrow_mut().retain(|(method, path, headers, body)| {
            let url = format!("http://{admin}/api/v1/{path}");
            let (status, answer) = asked(method, &url, None, headers, body);
            said += &answer;
            !matches!(status, 200 | 201) || answer.contains("lacks the ACL")
        });
        let (_, status) = asked("GET", &format!("http://{admin}/api/v1/status"), None, &[], &Value::Null);
        let status: Value = serde_json::from_str(&status).unwrap_or_default();
        let reach = status["reach"].as_array().cloned().unwrap_or_default();
        let caught_up = !reach.is_empty() && reach.iter().all(|reach| reach["caught_up"] == true);
        match asks.borrow().is_empty() && !misses && caught_up {
            true => Stands::Done,
            false => Stands::Waits(said),
        }
    });
    nobody.missed_what_the_page_lists();
    process.stop();
}

#[test]
fn commands_say_what_they_miss() {
    let destinations = open_sandbox();
    destinations.control("channels", r#"{"channel":"C0GONE","exists":false}"#);
    let install = Install::new("cures-operator", &destinations);
    let mut nobody = Nobody::new(&install, "operator");
    nobody.runs(&["topics", "create", "--partitions", "1"]);
    nobody.runs(&["rules", "apply", &install.file("rules.yaml", RULES)]);
    let event = install.file("event.json", &event(1, "lms.lead_sold", "12", "42.50"));
    nobody.runs(&["events", "send", &event]);
    let sends = with_dead_letters(&install);
    nobody.runs(&["rules", "send-test", "sold", "--event", &event]);
    sends.stop();
    for arguments in [
        &["topics", "check"][..],
        &["lanes"],
        &["deliveries", "list"],
        &["rules", "history", "sold"],
        &["dead-letters", "list"],
        &["dead-letters", "replay", "--all"],
        &["events", "tail", "--since", "1h"],
    ] {
        nobody.runs(arguments);
    }
    nobody.missed_what_the_page_lists();
}

/// The super user's processor and sender, which have made a dead letter of an event and one of a job.
fn with_dead_letters(install: &Install) -> Process {
    let process = install.leadlane.start(&["--role", "processor,sender"]);
    nudge(install, 7);
    let letters = &install.leadlane.config.topics.dead_letters;
    install.leadlane.read_until(letters, 60, |letters| {
        let reasons: BTreeSet<_> = letters.iter().filter_map(|letter| letter.header("reason")).collect();
        reasons.len() == 2
    });
    process
}
