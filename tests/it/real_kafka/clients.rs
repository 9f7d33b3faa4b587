//! Client libraries of Segment and Customer.io, as they are published: only their host is another.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use base64::Engine as _;
use serde_json::{Value, json};

use super::sender::open_sandbox;
use crate::support::{Leadlane, Process, free_port, part};

const KEY: &str = "wk-hunter2-of-the-product";
const INLETS: &str = "inlets: [{name: other, preset: track, kind: http, secrets: [{secret: other-key}]}, {name: product, preset: track, kind: http, secrets: [{secret: write-key}]}]";
/// How many seconds the libraries' clock is ahead.
const AHEAD: i64 = 86_400;
const CALLS: usize = 6;
const IN_FLIGHT_MAX: usize = 16;

/// A library, and what it is to be known of it.
#[derive(Debug, Clone, Copy)]
struct Library {
    name: &'static str,
    /// What is put behind the host. The libraries for Node leave out any path of theirs.
    path: &'static str,
    /// Without it nobody knows that its clock is wrong.
    says_when_it_sent: bool,
}

const LIBRARIES: [Library; 4] = [
    Library {
        name: "@segment/analytics-node",
        path: "",
        says_when_it_sent: true,
    },
    Library {
        name: "@customerio/cdp-analytics-node",
        path: "",
        says_when_it_sent: false,
    },
    Library {
        name: "segment.analytics",
        path: "",
        says_when_it_sent: true,
    },
    Library {
        name: "customerio.analytics",
        path: "/inlets/product",
        says_when_it_sent: true,
    },
];

impl Library {
    /// Sends six calls a round, and gives what it says of each.
    fn calls(&self, address: &str, key: &str, rounds: usize, ahead: i64) -> Vec<Value> {
        let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
        let mut command = if self.name.starts_with('@') {
            let mut node = Command::new("node");
            node.arg(tests.join("node/calls.js"))
                .env("NODE_PATH", part("LEADLANE_TEST_NODE"));
            node
        } else {
            let mut python = Command::new(part("LEADLANE_TEST_PYTHON"));
            python.arg(tests.join("python/calls.py"));
            python
        };
        let url = format!("http://{address}{}", self.path);
        let output = command
            .args([self.name, &url, key, &rounds.to_string(), &ahead.to_string()])
            .output();
        let output = output.unwrap_or_else(|error| panic!("{command:?}: {error}; install Node and Python"));
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{self:?}: {said}");
        let lines = String::from_utf8(output.stdout).unwrap();
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The same, and each was sent; by message id.
    fn sent(self, address: &str, rounds: usize, ahead: i64) -> BTreeMap<String, Value> {
        let calls = self.calls(address, KEY, rounds, ahead);
        assert_eq!(calls.len(), rounds * CALLS, "{self:?}");
        let by_id = calls.into_iter().map(|mut call| {
            let id = call["sent"]["messageId"].as_str();
            let id = id.unwrap_or_else(|| panic!("{self:?}: {call}")).to_owned();
            (id, call["sent"].take())
        });
        let by_id: BTreeMap<_, _> = by_id.collect();
        assert_eq!(by_id.len(), rounds * CALLS, "{self:?}");
        by_id
    }
}

/// A Leadlane with its inlets open, and where.
fn leadlane(name: &str, yaml: &str) -> (Leadlane, String) {
    let address = format!("127.0.0.1:{}", free_port());
    let inlet = format!("inlet: {{listen: '{address}', in_flight_max: {IN_FLIGHT_MAX}}}");
    let leadlane = Leadlane::new(name, &format!("{inlet}\n{INLETS}\n{yaml}"));
    leadlane.secret("write-key", KEY);
    leadlane.secret("other-key", "another");
    leadlane.ok(&["topics", "create", "--partitions", "2"]);
    (leadlane, address)
}

/// The events so far, each with how often it is there.
fn events(leadlane: &Leadlane) -> BTreeMap<String, (Value, usize)> {
    let mut events = BTreeMap::new();
    for record in leadlane.read(&leadlane.config.topics.events) {
        let event: Value = serde_json::from_slice(record.value.as_deref().unwrap()).unwrap();
        assert_eq!(record.key.as_deref(), event["lead_id"].as_str().map(str::as_bytes));
        let id = event["event_id"].as_str().unwrap().to_owned();
        events.entry(id).or_insert((event, 0)).1 += 1;
    }
    events
}

fn counted(leadlane: &Leadlane, labels: &str) -> u64 {
    let metrics = leadlane.get("/metrics").unwrap().1;
    let line = format!("leadlane_inlet_requests_total{{{labels}}} ");
    let found = metrics.lines().find_map(|text| text.strip_prefix(&line));
    found.map_or(0, |count| count.parse().unwrap())
}

/// No topic, log or metric has the write key, neither as it is nor as it travels.
fn keeps_the_key(leadlane: &Leadlane, process: &Process) {
    let travelling = base64::engine::general_purpose::STANDARD.encode(format!("{KEY}:"));
    let clean = |place: &str, bytes: &[u8]| {
        for key in [KEY, &travelling] {
            let found = bytes.windows(key.len()).any(|window| window == key.as_bytes());
            assert!(!found, "{place}: {}", String::from_utf8_lossy(bytes));
        }
    };
    let topics = &leadlane.config.topics;
    for topic in [&topics.events, &topics.dead_letters, &topics.jobs, &topics.outcomes] {
        for record in leadlane.read(topic) {
            clean(topic, record.key.as_deref().unwrap_or_default());
            clean(topic, record.value.as_deref().unwrap_or_default());
            record.headers.iter().for_each(|(_, value)| clean(topic, value));
        }
    }
    clean("metrics", leadlane.get("/metrics").unwrap().1.as_bytes());
    clean("log", process.log().as_bytes());
}

#[test]
fn what_each_library_sends_are_the_events() {
    let (leadlane, address) = leadlane("clients", "");
    let process = leadlane.start(&["--role", "inlets"]);
    let mut all = BTreeSet::new();
    for library in LIBRARIES {
        let before = counted(&leadlane, "inlet=\"product\",status=\"200\"");
        let earliest = leadlane::app::now_millis();
        let sent = library.sent(&address, 20, AHEAD);
        let latest = leadlane::app::now_millis();
        let requests = counted(&leadlane, "inlet=\"product\",status=\"200\"") - before;
        assert!((2..30).contains(&requests), "{library:?}: {requests} batches");

        let mut events = events(&leadlane);
        events.retain(|id, _| !all.contains(id));
        assert!(events.keys().eq(sent.keys()), "{library:?}");
        for (id, (event, times)) in &events {
            let call = &sent[id];
            assert_eq!(*times, 1, "{library:?}: {event}");
            assert_eq!(event["payload"], *call, "{library:?}");
            assert_eq!(event["inlet"], "product", "{library:?}");
            assert_eq!(event["trigger"], format!("call.{}", call["type"].as_str().unwrap()));
            let occurred_at: jiff::Timestamp = event["occurred_at"].as_str().unwrap().parse().unwrap();
            let wrong = if library.says_when_it_sent { 0 } else { AHEAD * 1000 };
            let occurred_at = occurred_at.as_millisecond() - wrong;
            assert!((earliest..=latest).contains(&occurred_at), "{library:?}: {event}");
        }
        known(library, &events);
        all.extend(sent.into_keys());
    }
    assert_eq!(leadlane.read(&leadlane.config.topics.dead_letters), []);
    keeps_the_key(&leadlane, &process);
    process.stop();
}

/// What the calls of one user are known to be.
fn known(library: Library, events: &BTreeMap<String, (Value, usize)>) {
    for (trigger, lead_id, payload) in [
        (
            "identify",
            "user-7",
            json!({"traits": {"plan": "enterprise", "seats": 7, "renewed": null}}),
        ),
        (
            "track",
            "user-7",
            json!({"event": "NPS Submitted", "properties": {"name": "Ana Díaz", "score": 9.5, "tags": ["a", "b"]}}),
        ),
        (
            "page",
            "visitor-7",
            json!({"anonymousId": "visitor-7", "name": "Pricing"}),
        ),
        (
            "screen",
            "user-7",
            json!({"name": "Inbox", "properties": {"unread": 7}}),
        ),
        (
            "group",
            "user-7",
            json!({"groupId": "group-7", "traits": {"name": "Acme & Söhne"}}),
        ),
        (
            "alias",
            "user-7",
            json!({"previousId": "visitor-7", "userId": "user-7"}),
        ),
    ] {
        let trigger = format!("call.{trigger}");
        let mut found = events.values().map(|(event, _)| event);
        let found = found.find(|event| event["trigger"] == *trigger && event["lead_id"] == lead_id);
        let found = found.unwrap_or_else(|| panic!("{library:?} sent no {trigger} of {lead_id}"));
        for (name, value) in payload.as_object().unwrap() {
            assert_eq!(found["payload"][name], *value, "{library:?}: {trigger}");
        }
    }
}

#[test]
fn a_batch_that_is_refused_is_sent_again() {
    let (leadlane, address) = leadlane("refused", "");
    let process = leadlane.start(&["--role", "inlets"]);
    let mut all = BTreeSet::new();
    for library in LIBRARIES {
        let before = counted(&leadlane, "inlet=\"product\",status=\"503\"");
        let inlets = address.clone();
        let (front, answered) = front(&address, move |client| {
            let held: Vec<TcpStream> = (0..IN_FLIGHT_MAX).map(|_| hold(&inlets)).collect();
            let answer = forward(client, &inlets);
            client.write_all(&answer).unwrap();
            for mut request in held {
                request.write_all(b"[]").unwrap();
                assert!(message(&mut request).starts_with(b"HTTP/1.1 200 OK\r\n"));
            }
            answer
        });
        let sent = library.sent(&front, 3, 0);
        let answer = answered
            .recv_timeout(Duration::from_secs(30))
            .unwrap()
            .to_ascii_lowercase();
        assert!(
            answer.starts_with("http/1.1 503 ") && answer.contains("\r\nretry-after: 1\r\n"),
            "{answer}"
        );
        assert_eq!(
            counted(&leadlane, "inlet=\"product\",status=\"503\"") - before,
            1,
            "{library:?}"
        );
        let mut events = events(&leadlane);
        events.retain(|id, _| !all.contains(id));
        assert!(events.keys().eq(sent.keys()), "{library:?}");
        assert!(events.values().all(|(_, times)| *times == 1), "{library:?}");
        all.extend(sent.into_keys());
    }
    assert_eq!(leadlane.read(&leadlane.config.topics.dead_letters), []);
    process.stop();
}

#[test]
fn a_call_whose_answer_is_lost_makes_one_message() {
    let slack = open_sandbox();
    let (leadlane, address) = leadlane("lost", &slack.yaml("1000/s"));
    leadlane.secret("sales-bot", "xoxb-hunter2-token");
    leadlane.secret("acme-passcode", "hunter2-passcode");
    leadlane.apply(
        r#"[{id: calls, trigger: "call.track", scope: {level: inlet, id: product},
            action: {type: slack_message, token: {secret: sales-bot}, to: {channel: C0CALLS}, text: "{{$.event_id}}"}}]"#,
    );
    let process = leadlane.start(&[]);
    let mut wanted = Vec::new();
    for library in LIBRARIES {
        let inlets = address.clone();
        let (front, answered) = front(&address, move |client| forward(client, &inlets));
        let sent = library.sent(&front, 2, 0);
        let answer = answered.recv_timeout(Duration::from_secs(30)).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{library:?}: {answer}");
        let tracked = sent.into_iter().filter(|(_, call)| call["type"] == "track");
        wanted.extend(tracked.map(|(id, _)| id));
    }
    let events = events(&leadlane);
    assert!(wanted.iter().all(|id| events[id].1 == 2), "{events:?}");
    leadlane.read_until(&leadlane.config.topics.outcomes, 60, |outcomes| {
        outcomes.len() >= 2 * wanted.len()
    });
    let mut texts = slack.texts();
    texts.sort();
    wanted.sort();
    assert_eq!(texts, wanted);
    keeps_the_key(&leadlane, &process);
    process.stop();
}

#[test]
fn a_wrong_write_key_is_said_to_be_wrong() {
    let (leadlane, address) = leadlane("wrongkey", "");
    let process = leadlane.start(&["--role", "inlets"]);
    for library in LIBRARIES {
        let calls = library.calls(&address, "wk-of-another-house", 1, 0);
        assert_eq!(calls.len(), CALLS, "{library:?}");
        for call in calls {
            let why = call["failed"].as_str().unwrap_or_default();
            assert!(
                why.contains("401") || why.contains("no inlet has this write key"),
                "{library:?}: {call}"
            );
        }
    }
    // They show it without the inlet's name, which none has then.
    assert!(counted(&leadlane, "inlet=\"other\",status=\"401\"") >= 3);
    assert!(leadlane.read(&leadlane.config.topics.events).is_empty());
    assert!(leadlane.read(&leadlane.config.topics.dead_letters).is_empty());
    assert!(!process.log().contains("another-house"), "{}", process.log());
    process.stop();
}

/// What a script for Node prints, a line each.
fn node(script: &str, arguments: &[&str]) -> Vec<Value> {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/node");
    let mut command = Command::new("node");
    command
        .arg(tests.join(script))
        .args(arguments)
        .env("NODE_PATH", part("LEADLANE_TEST_NODE"));
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{script} {arguments:?}: {said}");
    let lines = String::from_utf8(output.stdout).unwrap();
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A Leadlane that one page may send to, and the port of that page.
fn open_to_a_page(name: &str) -> (Leadlane, String, String) {
    let (address, page) = (format!("127.0.0.1:{}", free_port()), free_port().to_string());
    let yaml = format!(
        "inlet: {{listen: '{address}'}}\ninlets: [{{name: product, preset: track, secrets: [{{secret: write-key}}], origins: ['http://localhost:{page}']}}]"
    );
    let leadlane = Leadlane::new(name, &yaml);
    leadlane.secret("write-key", KEY);
    leadlane.ok(&["topics", "create", "--partitions", "2"]);
    (leadlane, address, page)
}

#[test]
fn a_page_of_another_origin_sends_from_a_real_browser() {
    let (leadlane, address, page) = open_to_a_page("browser");
    let process = leadlane.start(&["--role", "inlets"]);
    let mut all = BTreeSet::new();
    // With the inlet's name, and without it by the key.
    for (strategy, path) in [("standard", "/inlets/product/v1"), ("batching", "/v1")] {
        let calls = node(
            "browser.js",
            &[&page, &format!("http://{address}{path}"), KEY, "3", strategy],
        );
        assert_eq!(calls.len(), 3 * CALLS, "{strategy}: {calls:?}");
        let failed: Vec<&Value> = calls.iter().filter(|call| !call["failed"].is_null()).collect();
        assert!(failed.is_empty(), "{strategy}: {failed:?}");
        let ids: BTreeSet<String> = calls
            .iter()
            .map(|call| call["id"].as_str().unwrap().to_owned())
            .collect();
        leadlane.read_until(&leadlane.config.topics.events, 30, |records| {
            records.len() >= all.len() + ids.len()
        });
        let mut events = events(&leadlane);
        events.retain(|id, _| !all.contains(id));
        assert!(events.keys().eq(ids.iter()), "{strategy}: {events:?}");
        for trigger in ["identify", "track", "page", "screen", "group", "alias"] {
            let of = |event: &&Value| event["trigger"] == format!("call.{trigger}");
            assert_eq!(
                events.values().map(|(event, _)| event).filter(of).count(),
                3,
                "{strategy}: {trigger}"
            );
        }
        let tracked = events.values().find(|(event, _)| event["trigger"] == "call.track");
        let (tracked, _) = tracked.unwrap();
        assert_eq!(tracked["payload"]["event"], "NPS Submitted");
        assert_eq!(
            tracked["payload"]["properties"],
            json!({"name": "Ana Díaz", "score": 9.5, "tags": ["a", "b"]})
        );
        all.extend(ids);
    }
    assert_eq!(leadlane.read(&leadlane.config.topics.dead_letters), []);
    keeps_the_key(&leadlane, &process);
    process.stop();
}

#[test]
fn a_page_that_no_inlet_names_sends_nothing() {
    let (leadlane, address, _) = open_to_a_page("stranger");
    let process = leadlane.start(&["--role", "inlets"]);
    let page = free_port().to_string();
    let url = format!("http://{address}/inlets/product/v1");
    let calls = node("browser.js", &[&page, &url, KEY, "1", "standard"]);
    assert_eq!(calls.len(), CALLS);
    assert!(leadlane.read(&leadlane.config.topics.events).is_empty());
    process.stop();
}

#[test]
fn both_clients_of_customer_io_hear_what_became_of_their_calls() {
    let (leadlane, address) = leadlane("customerio", "");
    let process = leadlane.start(&["--role", "inlets"]);
    for path in ["/inlets/product", ""] {
        let before = events(&leadlane);
        let said = node("customerio.js", &[&address, path, KEY]);
        let calls: Vec<(&str, bool)> = said
            .iter()
            .map(|call| (call["what"].as_str().unwrap(), call["answer"]["success"] == true))
            .collect();
        let wanted = [
            ("identify", true),
            ("identify", true),
            ("track", true),
            ("track", true),
            ("page", true),
            ("anonymous", true),
            // What Leadlane has no use for is refused, and the library says so.
            ("destroy", false),
            ("email", false),
        ];
        assert_eq!(calls, wanted, "{said:?}");
        assert!(said[7]["failed"] == 404, "{said:?}");
        let mut events = events(&leadlane);
        events.retain(|id, _| !before.contains_key(id));
        let mut found: Vec<String> = events
            .values()
            .map(|(event, _)| {
                let text = |name: &str| event[name].as_str().unwrap();
                format!("{} {}", text("trigger"), text("lead_id"))
            })
            .collect();
        found.sort();
        // The event with an id of its own is the same one the second time.
        let old = usize::from(path.is_empty());
        let wanted = [
            "call.identify ana/7@example.com",
            "call.identify ana/7@example.com",
            "call.page ana/7@example.com",
            "call.track ana/7@example.com",
            "call.track ana/7@example.com",
            "call.track visitor-7",
        ];
        assert_eq!(found.len(), wanted.len() - old, "{found:?}");
        found.dedup();
        assert_eq!(found, [wanted[0], wanted[2], wanted[3], wanted[5]]);
    }
    let events = events(&leadlane);
    let (old, times) = &events["01HB4"];
    assert_eq!((*times, &old["occurred_at"]), (2, &json!("2026-03-05T15:16:00Z")));
    let scored = events
        .values()
        .find(|(event, _)| event["payload"]["event"] == "NPS Submitted");
    assert_eq!(
        scored.unwrap().0["payload"]["properties"],
        json!({"score": 9.5, "name": "Ana Díaz"})
    );
    let named = events.values().find(|(event, _)| event["trigger"] == "call.identify");
    assert_eq!(named.unwrap().0["payload"]["traits"]["plan"], "enterprise");
    assert_eq!(leadlane.read(&leadlane.config.topics.dead_letters), []);
    keeps_the_key(&leadlane, &process);
    process.stop();
}

/// Stands before the inlets. What becomes of the first connection is `first`'s, which gives the inlets'
/// answer; those after it come and go untouched.
fn front(inlets: &str, first: impl FnOnce(&mut TcpStream) -> Vec<u8> + Send + 'static) -> (String, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (inlets, (answered, answer)) = (inlets.to_owned(), channel());
    std::thread::spawn(move || {
        let (mut client, _) = listener.accept().unwrap();
        let said = first(&mut client);
        drop(client);
        answered.send(String::from_utf8(said).unwrap()).unwrap();
        for client in listener.incoming() {
            let (client, server) = (client.unwrap(), TcpStream::connect(&inlets).unwrap());
            tunnel(client.try_clone().unwrap(), server.try_clone().unwrap());
            tunnel(server, client);
        }
    });
    (address, answer)
}

/// What one says the other hears, until it has said all.
fn tunnel(mut from: TcpStream, mut to: TcpStream) {
    std::thread::spawn(move || {
        drop(std::io::copy(&mut from, &mut to));
        drop(to.shutdown(std::net::Shutdown::Write));
    });
}

/// Passes one request on, and gives the answer.
fn forward(client: &mut TcpStream, inlets: &str) -> Vec<u8> {
    let mut server = TcpStream::connect(inlets).unwrap();
    server.write_all(&message(client)).unwrap();
    message(&mut server)
}

/// A request that is in flight: its head was taken, its body is still to come.
fn hold(inlets: &str) -> TcpStream {
    let mut stream = TcpStream::connect(inlets).unwrap();
    let user = base64::engine::general_purpose::STANDARD.encode(format!("{KEY}:"));
    let head = format!(
        "POST /inlets/product/v1/batch HTTP/1.1\r\nHost: x\r\nAuthorization: Basic {user}\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    assert!(message(&mut stream).starts_with(b"HTTP/1.1 100 "));
    stream
}

/// One request or answer.
fn message(stream: &mut TcpStream) -> Vec<u8> {
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let mut bytes = Vec::new();
    let head = loop {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        bytes.push(byte[0]);
        if bytes.ends_with(b"\r\n\r\n") {
            break String::from_utf8(bytes.clone()).unwrap().to_ascii_lowercase();
        }
    };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
    stream.read_exact(&mut body).unwrap();
    [bytes, body].concat()
}
