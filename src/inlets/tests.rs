//! The listener on a broker in the process: what each request is answered, and what Kafka then has.

use std::io::Write as _;
use std::net::SocketAddr;

use hmac::Mac;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;
use crate::kafka::reader;

mod slots;

/// Five minutes are tested against it.
const NOW: i64 = 1_531_420_618;

const CONNECTIONS_MAX: usize = 100;

thread_local! {
    /// What the wall clock of a test's inlets shows, in epoch seconds: a test and its server are one thread.
    static CLOCK: std::cell::Cell<i64> = const { std::cell::Cell::new(NOW) };
}

struct Open {
    address: SocketAddr,
    config: Arc<Config>,
    metrics: Arc<Metrics>,
    cluster: MockCluster<'static, DefaultProducerContext>,
    dir: std::path::PathBuf,
    stop: watch::Sender<bool>,
    served: tokio::task::JoinHandle<()>,
}

const INLETS: &str = r#"
inlets:
  - {name: workspace, preset: slack, secrets: [{secret: signing-old}, {secret: signing}]}
  - {name: people, preset: slack, secrets: [{secret: signing}], users: {token: {secret: users}}}
  - {name: product, preset: track, secrets: [{secret: write-key}]}
  - {name: shop, preset: track, secrets: [{secret: new}], origins: ["https://shop.example", "HTTPS://Other.example:8443"]}
  - {name: won, preset: salesforce, kind: http, secrets: [{secret: in-path}], event: {trigger: salesforce.record_updated}}
  - {name: rows, preset: sheet, secrets: [{secret: old}, {secret: new}]}
  - name: survey
    unwrap: $.data
    explode: $.answers
    when: [{path: $.score, lte: 6}]
    event: {event_id: "{{$.id}}:{{$.item.n}}", trigger: survey.answered, occurred_at: "{{$.at}}", lead_id: "{{$.email}}"}
    secrets: [{bearer: {secret: new}}, {path: {secret: in-path}}]
"#;

async fn open(name: &str, inlet: &str) -> Open {
    open_with(name, inlet, "").await
}

/// `more` is of the configuration beside `inlet`.
async fn open_with(name: &str, inlet: &str, more: &str) -> Open {
    let cluster = MockCluster::new(1).unwrap();
    let topics = format!("topics: {{events: {name}-events, dead_letters: {name}-dead}}");
    let dir = std::env::temp_dir().join(format!("leadlane-inlets-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    for (name, value) in [
        ("signing-old", "0ld"),
        ("signing", "s1gning"),
        ("write-key", "wr1te"),
        ("in-path", "a b/c"),
        ("old", "0ld"),
        ("new", "n3w"),
        ("users", "xoxb-hunter2"),
    ] {
        std::fs::write(dir.join(name), value).unwrap();
    }
    let text = format!(
        "kafka: {{brokers: '{}'}}\nsecrets: {{dir: '{}'}}\n{topics}\ninlet: {{listen: '127.0.0.1:0', {inlet}}}\n{more}\n{INLETS}",
        cluster.bootstrap_servers(),
        dir.display()
    );
    let config = Arc::new(Config::parse("test", &text, []).unwrap());
    for topic in [&config.topics.events, &config.topics.dead_letters] {
        cluster.create_topic(topic, 1, 1).unwrap();
    }
    let metrics = Arc::new(Metrics::new(1));
    let (stop, stopped) = watch::channel(false);
    let wiring = InletsWiring {
        config: Arc::clone(&config),
        limits: Limits::default(),
        metrics: Arc::clone(&metrics),
        secrets: Secrets::new(Some(dir.clone())),
        stop: stopped.clone(),
        ready: Arc::default(),
        now: || CLOCK.get() * 1_000_000,
        connections_max: CONNECTIONS_MAX,
    };
    let listener = tokio::net::TcpListener::bind(config.inlet.listen).await.unwrap();
    let address = listener.local_addr().unwrap();
    let producer = Producer::of_requests(&config, &wiring.limits, WRITE_TIMEOUT, WAITING_MAX).unwrap();
    let server = http::Server::new(wiring, producer).unwrap();
    let served = tokio::spawn(server.serve(listener, stopped));
    Open {
        address,
        config,
        metrics,
        cluster,
        dir,
        stop,
        served,
    }
}

/// A request's head, and its body.
fn request(line: &str, headers: &[&str], body: &[u8]) -> Vec<u8> {
    let mut text = format!(
        "{line} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n",
        body.len()
    );
    for header in headers {
        text += &format!("{header}\r\n");
    }
    [text.as_bytes(), b"\r\n", body].concat()
}

fn post(path: &str, headers: &[&str], body: &[u8]) -> Vec<u8> {
    request(&format!("POST {path}"), headers, body)
}

fn status(answer: &str) -> u16 {
    let status = answer.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3));
    status
        .and_then(|text| text.parse().ok())
        .unwrap_or_else(|| panic!("no answer: {answer:?}"))
}

fn signed(secret: &str, time: i64, body: &[u8]) -> Vec<u8> {
    signed_for("workspace", secret, time, body)
}

fn signed_for(inlet: &str, secret: &str, time: i64, body: &[u8]) -> Vec<u8> {
    let mut mac = hmac::Hmac::<sha2::Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(format!("v0:{time}:").as_bytes());
    mac.update(body);
    let hex: String = mac
        .finalize()
        .into_bytes()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let time = format!("X-Slack-Request-Timestamp: {time}");
    let signature = format!("X-Slack-Signature: v0={hex}");
    post(&format!("/inlets/{inlet}"), &[&time, &signature], body)
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

impl Open {
    /// Sends bytes, closes that side where asked, and reads to the end.
    async fn ask_and(&self, bytes: &[u8], half_close: bool) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        if half_close {
            stream.shutdown().await.unwrap();
        }
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        String::from_utf8(answer).unwrap()
    }

    async fn ask(&self, bytes: &[u8]) -> String {
        self.ask_and(bytes, false).await
    }

    fn counted(&self, inlet: &str, status: u16) -> u64 {
        let wanted = format!("leadlane_inlet_requests_total{{inlet=\"{inlet}\",status=\"{status}\"}} ");
        let text = self.metrics.text();
        let line = text.lines().find_map(|line| line.strip_prefix(&wanted));
        line.map_or(0, |count| count.parse().unwrap())
    }

    /// What Kafka has of a topic.
    async fn records(&self, topic: &str) -> Vec<reader::Record> {
        let (config, topic) = (Arc::clone(&self.config), topic.to_owned());
        let read = move || {
            let mut records = Vec::new();
            let each = |record| {
                records.push(record);
                true
            };
            reader::read_whole(&config, &topic, each).unwrap();
            records
        };
        tokio::task::spawn_blocking(read).await.unwrap()
    }

    async fn events(&self) -> Vec<serde_json::Value> {
        let records = self.records(&self.config.topics.events).await;
        let value = |record: &reader::Record| serde_json::from_slice(record.value.as_deref().unwrap()).unwrap();
        records.iter().map(value).collect()
    }

    async fn letters(&self) -> Vec<reader::Record> {
        self.records(&self.config.topics.dead_letters).await
    }

    async fn close(self) {
        self.stop.send_replace(true);
        self.served.await.unwrap();
        std::fs::remove_dir_all(self.dir).unwrap();
    }
}

fn header<'r>(record: &'r reader::Record, name: &str) -> &'r str {
    let found = record.headers.iter().find(|(found, _)| found == name);
    found.map_or("", |(_, value)| std::str::from_utf8(value).unwrap())
}

const REACTION: &[u8] = br#"{"token":"hunter2","team_id":"T1","type":"event_callback","event_id":"Ev1",
  "event":{"type":"reaction_added","user":"U1","reaction":"tada","event_ts":"1531420618.000100"}}"#;

#[tokio::test]
async fn slacks_requests_are_signed_recent_and_answered_in_its_way() {
    let open = open("slack", "body_max: 1MB").await;
    // Both secrets of a rotation are valid.
    for secret in ["s1gning", "0ld"] {
        let answer = open.ask(&signed(secret, NOW, REACTION)).await;
        assert!(status(&answer) == 200 && answer.ends_with("\r\n\r\n"), "{answer}");
    }
    let challenge = br#"{"token":"t","challenge":"3eZbrw1aB","type":"url_verification"}"#;
    let answer = open.ask(&signed("s1gning", NOW, challenge)).await;
    assert!(
        answer.contains("text/plain") && answer.ends_with("\r\n\r\n3eZbrw1aB"),
        "{answer}"
    );
    for (wrong, why) in [
        (signed("other", NOW, REACTION), "another secret"),
        (signed("s1gning", NOW - 301, REACTION), "a replay"),
        (signed("s1gning", NOW + 301, REACTION), "a time to come"),
        (signed("other", NOW, challenge), "a challenge by somebody else"),
        (post("/inlets/workspace", &[], REACTION), "no signature"),
    ] {
        assert_eq!(status(&open.ask(&wrong).await), 401, "{why}");
    }
    // An edge of the five minutes; a message of a bot, which is left out; and what isn't JSON.
    assert_eq!(status(&open.ask(&signed("s1gning", NOW - 300, REACTION)).await), 200);
    let bot = br#"{"event_id":"Ev2","event":{"type":"message","bot_id":"B1","user":"U1","event_ts":"1531420618.1"}}"#;
    assert_eq!(status(&open.ask(&signed("s1gning", NOW, bot)).await), 200);
    assert_eq!(status(&open.ask(&signed("s1gning", NOW, b"{")).await), 400);
    let userless = br#"{"token":"hunter2","event_id":"Ev3","event":{"type":"message","event_ts":"1531420618.1"}}"#;
    assert_eq!(status(&open.ask(&signed("s1gning", NOW, userless)).await), 200);

    let events = open.events().await;
    assert_eq!(events.len(), 3);
    let payload = serde_json::json!({"type": "reaction_added", "user": "U1", "reaction": "tada", "event_ts": "1531420618.000100", "team_id": "T1"});
    assert_eq!(
        events[0],
        serde_json::json!({"event_id": "Ev1", "trigger": "slack.reaction_added", "occurred_at": "2018-07-12T18:36:58.0001Z",
            "lead_id": "U1", "inlet": "workspace", "payload": payload})
    );
    let letters = open.letters().await;
    assert_eq!(letters.len(), 1);
    let value = String::from_utf8(letters[0].value.clone().unwrap()).unwrap();
    assert!(value.contains("Ev3") && !value.contains("hunter2"), "{value}");
    assert_eq!(
        (
            open.counted("workspace", 200),
            open.counted("workspace", 401),
            open.counted("workspace", 400)
        ),
        (6, 5, 1)
    );
    let text = open.metrics.text();
    for line in ["result=\"accepted\"} 3", "result=\"left_out\"} 1", "result=\"dead\"} 1"] {
        assert!(
            text.contains(&format!("leadlane_inlet_events_total{{inlet=\"workspace\",{line}")),
            "{line}"
        );
    }
    open.close().await;
}

#[tokio::test]
async fn who_acted_is_looked_up_and_an_event_goes_on_without() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let slack = format!("slack: {{api_url: 'http://{}/api'}}", listener.local_addr().unwrap());
    let sandbox = crate::sandbox::Sandbox::new(crate::sandbox::Settings::default());
    tokio::spawn(sandbox.clone().serve(listener, std::future::pending()));
    let open = open_with("people", "body_max: 1MB", &slack).await;
    let reaction = |id: &str, user: &str| {
        let event = serde_json::json!({"type": "reaction_added", "user": user, "event_ts": "1531420618.1"});
        let envelope = serde_json::json!({"event_id": id, "team_id": "T1", "event": event}).to_string();
        signed_for("people", "s1gning", NOW, envelope.as_bytes())
    };
    for (id, user) in [("Ev1", "U0123ABCD"), ("Ev2", "U0123ABCD"), ("Ev3", "nobody")] {
        assert_eq!(status(&open.ask(&reaction(id, user)).await), 200);
    }
    let bot =
        br#"{"event_id":"Ev4","event":{"type":"message","bot_id":"B1","user":"U0456ABCD","event_ts":"1531420618.1"}}"#;
    assert_eq!(status(&open.ask(&signed_for("people", "s1gning", NOW, bot)).await), 200);
    let events = open.events().await;
    let profiles: Vec<_> = events.iter().map(|event| &event["payload"]["user_profile"]).collect();
    let known = serde_json::json!({"id": "U0123ABCD", "name": "u0123abcd", "real_name": "u0123abcd", "role": "member"});
    assert_eq!(profiles, [&known, &known, &serde_json::Value::Null]);
    // One look-up for each who counts, and none for what is left out.
    assert_eq!(sandbox.log().len(), 2);
    open.close().await;
}

#[tokio::test]
async fn each_wrong_request_has_its_status_and_is_counted() {
    let open = open("wrong", "body_max: 1000").await;
    let rows = "Authorization: Bearer n3w";
    let large = [b"{\"id\":\"".as_slice(), &[b'x'; 1000], b"\"}"].concat();
    let chunked = |chunk: &[u8], times: usize| {
        let head = b"POST /inlets/rows HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\nAuthorization: Bearer n3w\r\n\r\n";
        let piece = [format!("{:x}\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat();
        [&head[..], &piece.repeat(times), b"0\r\n\r\n"].concat()
    };
    let bomb = gzip(&[b' '; 900_000]);
    assert!(bomb.len() < 1000, "{}", bomb.len());
    let zipped = |body: &[u8]| post("/inlets/rows", &[rows, "Content-Encoding: gzip"], body);
    for (inlet, wanted, asked) in [
        ("other", 404, post("/inlets/nobody", &[], b"{}")),
        ("other", 404, post("/", &[], b"{}")),
        ("other", 404, post("/metrics", &[], b"{}")),
        ("other", 404, post("/inlets/Rows", &[], b"{}")),
        ("other", 401, post("/v1/track", &[], b"{}")),
        ("rows", 404, post("/inlets/rows/more", &[rows], b"{}")),
        ("rows", 405, request("GET /inlets/rows", &[rows], b"")),
        ("rows", 405, request("PUT /inlets/rows", &[rows], b"{}")),
        ("rows", 401, post("/inlets/rows", &[], b"{}")),
        (
            "rows",
            401,
            post("/inlets/rows?token=n3w", &["Authorization: Bearer n3"], b"{}"),
        ),
        ("rows", 400, post("/inlets/rows", &[rows], b"{")),
        ("rows", 400, post("/inlets/rows", &[rows], b"")),
        ("rows", 400, post("/inlets/rows", &[rows], b"{\"id\":\"\xff\"}")),
        ("rows", 413, post("/inlets/rows", &[rows], &large)),
        ("rows", 413, chunked(&[b' '; 600], 2)),
        ("rows", 413, chunked(&[b' '; 10_000], 100)),
        ("rows", 413, zipped(&bomb)),
        ("rows", 400, zipped(b"{\"id\":1}")),
        (
            "rows",
            415,
            post("/inlets/rows", &[rows, "Content-Encoding: br"], b"{}"),
        ),
        ("rows", 200, post("/inlets/rows", &[rows], b"{\"id\":1}")),
        (
            "rows",
            200,
            post("/inlets/rows/", &["Authorization: Bearer 0ld"], b"{\"id\":2}"),
        ),
        ("rows", 200, zipped(&gzip(b"{\"id\":3}"))),
        ("rows", 200, chunked(b"{\"id\":4}", 1)),
        ("won", 401, post("/inlets/won", &[], b"<x/>")),
        ("won", 401, post("/inlets/won/a%20b%2Fd", &[], b"<x/>")),
        ("won", 400, post("/inlets/won/a%20b%2Fc", &[], b"<!DOCTYPE x><x/>")),
        ("won", 404, post("/inlets/won/a%20b%2Fc/v1", &[], b"<x/>")),
        ("survey", 200, post("/inlets/survey", &[rows], b"[]")),
        ("survey", 200, post("/inlets/survey/a%20b%2Fc", &[], b"[]")),
    ] {
        let before = open.counted(inlet, wanted);
        let answer = open.ask(&asked).await;
        let asked = String::from_utf8_lossy(&asked[..asked.len().min(200)]).into_owned();
        assert_eq!(status(&answer), wanted, "{asked}\n{answer}");
        assert_eq!(open.counted(inlet, wanted), before + 1, "{asked}");
        match wanted {
            405 => assert!(answer.contains("allow: POST"), "{answer}"),
            200 => {}
            _ => assert!(answer.contains("{\"error\":\""), "{answer}"),
        }
    }
    assert_eq!(open.events().await.len(), 4);
    open.close().await;
}

#[tokio::test]
async fn records_stand_alone_and_each_system_hears_what_it_waits_for() {
    let open = open("mapped", "body_max: 2MB").await;
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let key = format!("Authorization: Basic {}", base64("wr1te:"));
    let batch = br#"{"batch":[{"type":"track","messageId":"m1","userId":"u1","event":"NPS","writeKey":"wr1te"},{"type":"page","messageId":"m2"},7],
        "sentAt":"2018-07-12T18:36:58Z","writeKey":"wr1te"}"#;
    let asked = post(
        "/inlets/product/v1/batch",
        &[&key, &format!("traceparent: {trace}")],
        batch,
    );
    let answer = open.ask(&asked).await;
    assert!(
        status(&answer) == 200
            && answer.contains("{\"success\":true,\"accepted\":1,\"dead\":2,\"left_out\":0,\"errors\":[{\"index\":1,"),
        "{answer}"
    );
    // A library whose path can't be set has the inlet chosen by its key.
    let call = br#"{"messageId":"m3","anonymousId":"a1","traits":{"plan":"enterprise"}}"#;
    assert_eq!(status(&open.ask(&post("/v1/identify", &[&key], call)).await), 200);
    let letter_of_one = br#"{ "messageId": "m4" }"#;
    assert_eq!(
        status(&open.ask(&post("/v1/identify", &[&key], letter_of_one)).await),
        200
    );
    let survey = br#"{"data":{"id":1,"at":"2018-07-12T18:36:58Z","email":"ana@example.com","score":5,"answers":[{"n":1},{"n":2},{}]}}"#;
    let answer = open
        .ask(&post("/inlets/survey", &["Authorization: Bearer n3w"], survey))
        .await;
    assert!(
        answer.ends_with("{\"accepted\":2,\"dead\":1,\"left_out\":0,\"errors\":[{\"index\":0,\"reason\":\"invalid_event\",\"detail\":\"event.event_id: {{$.id}}:{{$.item.n}} is missing\"}]}"),
        "{answer}"
    );
    let message = br#"<Envelope><Body><notifications><SessionId>hunter2</SessionId><Notification><Id>n1</Id><sObject><Id>006</Id></sObject></Notification></notifications></Body></Envelope>"#;
    let answer = open
        .ask(&post("/inlets/won/a%20b%2Fc", &["Content-Type: text/xml"], message))
        .await;
    assert!(
        answer.contains("content-type: text/xml") && answer.contains("<Ack>true</Ack>"),
        "{answer}"
    );

    became_events(&open, trace).await;
    became_letters(&open, survey).await;
    open.close().await;
}

/// Each event of the requests above, with its own key and the request's trace.
async fn became_events(open: &Open, trace: &str) {
    let records = open.records(&open.config.topics.events).await;
    let found: Vec<_> = records
        .iter()
        .map(|record| (header(record, "event-id"), record.key.as_deref().unwrap()))
        .collect();
    let lead = "ana@example.com".as_bytes();
    assert_eq!(
        found,
        [
            ("m1", &b"u1"[..]),
            ("m3", b"a1"),
            ("1:1", lead),
            ("1:2", lead),
            ("n1", b"006")
        ]
    );
    assert_eq!(header(&records[0], "traceparent"), trace);
    assert_ne!(header(&records[1], "traceparent"), header(&records[2], "traceparent"));
    let events = open.events().await;
    assert_eq!(
        (&events[1]["trigger"], &events[1]["inlet"]),
        (&"call.identify".into(), &"product".into())
    );
    let written: String = events.iter().map(ToString::to_string).collect();
    assert!(!written.contains("wr1te") && !written.contains("hunter2"), "{written}");
}

/// Each record of the requests above that is no event.
async fn became_letters(open: &Open, survey: &[u8]) {
    let letters = open.letters().await;
    let found: Vec<_> = letters
        .iter()
        .map(|letter| {
            let value = std::str::from_utf8(letter.value.as_deref().unwrap()).unwrap();
            (
                header(letter, "source-topic"),
                header(letter, "route"),
                header(letter, "detail"),
                value,
            )
        })
        .collect();
    assert_eq!(
        found,
        [
            (
                "inlet:product",
                "v1/batch",
                "event.lead_id: {{$.userId}} or {{$.anonymousId}} is missing",
                r#"{"type":"page","messageId":"m2"}"#
            ),
            ("inlet:product", "v1/batch", "unwrap: the record is no object", "7"),
            (
                "inlet:product",
                "v1/identify",
                "event.lead_id: {{$.userId}} or {{$.anonymousId}} is missing",
                r#"{ "messageId": "m4" }"#
            ),
            (
                "inlet:survey",
                "",
                "event.event_id: {{$.id}}:{{$.item.n}} is missing",
                std::str::from_utf8(survey).unwrap()
            ),
        ]
    );
    let names: Vec<_> = letters[3].headers.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names,
        ["reason", "detail", "source-topic", "failed-at", "inlet", "traceparent"]
    );
    assert_eq!(
        (header(&letters[3], "reason"), header(&letters[3], "failed-at")),
        ("invalid_event", "2018-07-12T18:36:58Z")
    );
    assert_eq!(letters[3].key.as_deref().unwrap_or_default(), b"");
}

fn base64(text: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(text)
}

#[tokio::test]
async fn what_is_too_large_for_kafka_is_a_dead_letter_in_a_form_that_fits() {
    let open = open("large", "body_max: 4MB").await;
    let most = Limits::default().record_max;
    let survey = |size: usize| {
        let text = "x".repeat(size);
        format!(
            "{{\"data\":{{\"id\":1,\"at\":1531420618,\"email\":\"a\",\"score\":1,\"answers\":[{{\"n\":1,\"text\":\"{text}\"}}]}}}}"
        )
    };
    let key = ["Authorization: Bearer n3w"];
    // The event holds the answer twice, among all and as the one it is about; the record alone fits.
    let record = survey(most * 2 / 3);
    let answer = open.ask(&post("/inlets/survey", &key, record.as_bytes())).await;
    assert!(
        answer.contains("{\"accepted\":0,\"dead\":1,\"left_out\":0,\"errors\":[{\"index\":0,"),
        "{answer}"
    );
    let letters = open.letters().await;
    assert_eq!(letters.len(), 1);
    let ids = (header(&letters[0], "event-id"), letters[0].key.as_deref());
    assert_eq!(
        (header(&letters[0], "reason"), ids),
        ("too_large", ("1:1", Some(&b"a"[..])))
    );
    assert!(letters[0].value.as_deref() == Some(record.as_bytes()));
    // An id of the lead that is as long as the record doesn't keep it from the dead letters.
    let record = format!("{{\"id\":\"{}\"}}", "x".repeat(most * 2 / 3));
    let answer = open.ask(&post("/inlets/rows", &key, record.as_bytes())).await;
    assert_eq!(status(&answer), 200, "{answer}");
    let letters = open.letters().await;
    let found = letters
        .iter()
        .filter(|letter| letter.value.as_deref() == Some(record.as_bytes()));
    assert_eq!((letters.len(), found.count()), (2, 1));
    // A row that fits only as it came: what its dead letter would hold, JSON, is six times as large.
    let key = [key[0], "Content-Type: text/csv; charset=utf-8"];
    let control = "\u{1}".repeat(most / 5);
    let body = format!("id,Name\n1,Ana\n,{control}\n3,Bo\n");
    let answer = open.ask(&post("/inlets/rows", &key, body.as_bytes())).await;
    assert!(
        answer.contains("{\"accepted\":2,\"dead\":1,\"left_out\":0,\"errors\":[{\"index\":1,"),
        "{answer}"
    );
    let letters = open.letters().await;
    assert_eq!(letters.len(), 3);
    let letter = letters
        .iter()
        .find(|letter| letter.value.as_deref() == Some(body.as_bytes()))
        .unwrap();
    let headers = ["reason", "elements", "content-type", "inlet"].map(|name| header(letter, name));
    assert_eq!(headers, ["invalid_event", "1", "text/csv", "rows"]);
    // A body that fits nowhere leaves a letter that says so, and its good records are in.
    let body = format!("[{{\"id\":4}},{{\"id\":[],\"text\":\"{}\"}}]", "x".repeat(most));
    let answer = open.ask(&post("/inlets/rows", &key[..1], body.as_bytes())).await;
    assert!(answer.contains("{\"accepted\":1,\"dead\":1,"), "{answer}");
    let letters = open.letters().await;
    assert_eq!(letters.len(), 4);
    let letter = letters.iter().find(|letter| letter.value.is_none()).unwrap();
    let headers = ["reason", "elements", "left-out", "inlet"].map(|name| header(letter, name));
    assert_eq!(headers, ["invalid_event", "1", "value", "rows"]);
    assert!(header(letter, "detail").starts_with("1 records of the request"));
    assert_eq!(open.events().await.len(), 3);
    let text = open.metrics.text();
    assert!(
        text.contains("leadlane_dead_letters_total{reason=\"invalid_event\"} 2"),
        "{text}"
    );
    assert!(
        text.contains("leadlane_inlet_events_total{inlet=\"rows\",result=\"dead\"} 3"),
        "{text}"
    );
    open.close().await;
}

#[tokio::test]
async fn nothing_is_answered_2xx_that_kafka_does_not_have() {
    let open = open("away", "body_max: 1MB").await;
    open.cluster.broker_down(1).unwrap();
    let began = std::time::Instant::now();
    let answer = open.ask(&signed("s1gning", NOW, REACTION)).await;
    // Slack waits three seconds.
    assert!(status(&answer) == 503 && answer.contains("retry-after: 1"), "{answer}");
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    open.cluster.broker_up(1).unwrap();
    assert_eq!(
        status(
            &open
                .ask(&post("/inlets/rows", &["Authorization: Bearer n3w"], b"{\"id\":1}"))
                .await
        ),
        200
    );
    let (stop, served) = (open.stop.clone(), open.served);
    stop.send_replace(true);
    served.await.unwrap();
    std::fs::remove_dir_all(open.dir).unwrap();
}

#[tokio::test]
async fn beyond_the_limit_requests_get_503_and_retry_after() {
    let open = open("full", "in_flight_max: 1").await;
    let ask = |body: &'static [u8]| {
        post(
            "/inlets/rows",
            &["Authorization: Bearer n3w", "Expect: 100-continue"],
            body,
        )
    };
    let whole = ask(b"{\"id\":1}");
    let mut first = TcpStream::connect(open.address).await.unwrap();
    first.write_all(&whole[..whole.len() - 8]).await.unwrap();
    let mut go_on = [0; 25];
    first.read_exact(&mut go_on).await.unwrap();
    assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");
    // The first is in flight now, which is as many as may be.
    let refused = open.ask(&ask(b"{\"id\":2}")).await;
    assert!(
        status(&refused) == 503 && refused.contains("retry-after: 1"),
        "{refused}"
    );
    first.write_all(b"{\"id\":1}").await.unwrap();
    let mut answer = String::new();
    first.read_to_string(&mut answer).await.unwrap();
    assert_eq!(status(&answer), 200);
    assert_eq!(
        status(
            &open
                .ask(&post("/inlets/rows", &["Authorization: Bearer n3w"], b"{\"id\":3}"))
                .await
        ),
        200
    );
    let ids: Vec<_> = open
        .events()
        .await
        .iter()
        .map(|event| event["lead_id"].clone())
        .collect();
    assert_eq!(ids, ["1", "3"]);
    assert_eq!(open.counted("rows", 503), 1);
    open.close().await;
}

#[tokio::test]
async fn a_body_may_be_in_utf_16() {
    let open = open("utf16", "body_max: 1MB").await;
    let of = |text: &str, mark: &[u8], unit: fn(u16) -> [u8; 2]| -> Vec<u8> {
        let units = text.encode_utf16().flat_map(unit);
        mark.iter().copied().chain(units).collect()
    };
    let (little, big) = (u16::to_le_bytes, u16::to_be_bytes);
    let bearer = "Authorization: Bearer n3w";
    for (path, headers, body, wanted) in [
        (
            "/inlets/rows",
            &[bearer][..],
            of("{\"id\":\"ä1\"}", b"\xFF\xFE", little),
            200,
        ),
        ("/inlets/rows", &[bearer], of("{\"id\":\"ä2\"}", b"\xFE\xFF", big), 200),
        ("/inlets/rows", &[bearer], "\u{feff}{\"id\":\"ä3\"}".into(), 200),
        (
            "/inlets/shop/v1/t",
            &[],
            of(
                "{\"writeKey\":\"n3w\",\"messageId\":\"m\",\"userId\":\"ä4\",\"event\":\"E\"}",
                b"\xFF\xFE",
                little,
            ),
            200,
        ),
        ("/inlets/rows", &[bearer], of("{\"id\":5}", b"", little), 400),
        ("/inlets/rows", &[bearer], of("{\"id\":5}", b"", big), 400),
    ] {
        let answer = open.ask(&post(path, headers, &body)).await;
        assert_eq!(status(&answer), wanted, "{answer}");
        assert_eq!(
            answer.contains("UTF-16 without a byte order mark"),
            wanted == 400,
            "{answer}"
        );
    }
    let events = open.events().await;
    let leads: Vec<_> = events.iter().map(|event| event["lead_id"].clone()).collect();
    assert_eq!(leads, ["ä1", "ä2", "ä3", "ä4"]);
    open.close().await;
}

#[tokio::test]
async fn who_shows_no_secret_is_told_how_to() {
    let open = open("wanted", "body_max: 1MB").await;
    let page = "Origin: https://shop.example";
    for (path, headers, wanted) in [
        ("/inlets/rows", &[][..], "Bearer"),
        ("/inlets/product/v1/track", &[], "Basic realm=\"leadlane\""),
        ("/inlets/shop/v1/t", &[page], "xBasic realm=\"leadlane\""),
        ("/v1/track", &[], "Basic realm=\"leadlane\""),
        ("/inlets/workspace", &[], "Signature"),
        ("/inlets/won/wrong", &[], "Path"),
        ("/inlets/survey", &[], "Bearer, Path"),
    ] {
        let answer = open.ask(&post(path, headers, b"{}")).await;
        assert_eq!(status(&answer), 401, "{path}: {answer}");
        assert!(
            answer.contains(&format!("\r\nwww-authenticate: {wanted}\r\n")),
            "{path}: {answer}"
        );
    }
    open.close().await;
}

#[tokio::test]
async fn a_body_that_ends_too_soon_is_refused_and_who_only_listens_is_answered() {
    let open = open("halves", "body_max: 1MB").await;
    let whole = post("/inlets/rows", &["Authorization: Bearer n3w"], b"{\"id\":1}");
    assert_eq!(status(&open.ask_and(&whole, true).await), 200);
    let answer = open.ask_and(&whole[..whole.len() - 1], true).await;
    assert_eq!(status(&answer), 400);
    // Nobody is there to answer where not even the head is whole.
    assert_eq!(open.ask_and(&whole[..20], true).await, "");
    assert_eq!(status(&open.ask(b"nonsense\r\n\r\n").await), 400);
    assert_eq!(open.counted("rows", 400), 1);
    assert_eq!(open.counted("other", 400), 1);
    open.close().await;
}

/// The clock jumps to the next thing that is waited for whenever nobody has anything to do.
#[tokio::test(start_paused = true)]
async fn who_is_slow_is_closed_and_holds_nobody_up() {
    let open = open("slow", "in_flight_max: 2").await;
    let whole = post("/inlets/rows", &["Authorization: Bearer n3w"], b"{\"id\":1}");
    let began = tokio::time::Instant::now();
    let mut slow_heads = Vec::new();
    for _ in 0..50 {
        let mut stream = TcpStream::connect(open.address).await.unwrap();
        stream.write_all(&whole[..20]).await.unwrap();
        slow_heads.push(stream);
    }
    // More slow heads than may be in flight, and a slow body: the others don't notice.
    let mut slow_body = TcpStream::connect(open.address).await.unwrap();
    slow_body.write_all(&whole[..whole.len() - 1]).await.unwrap();
    assert_eq!(
        status(
            &open
                .ask(&post("/inlets/rows", &["Authorization: Bearer n3w"], b"{"))
                .await
        ),
        400
    );
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    let mut answers = Vec::new();
    for mut stream in slow_heads.into_iter().chain([slow_body]) {
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answers.push((status(&answer), began.elapsed().as_secs()));
    }
    let (body, heads) = answers.split_last().unwrap();
    assert!(
        heads.iter().all(|head| head.0 == 408 && (10..12).contains(&head.1)),
        "{heads:?}"
    );
    assert!(body.0 == 408 && (30..32).contains(&body.1), "{body:?}");
    assert_eq!((open.counted("other", 408), open.counted("rows", 408)), (50, 1));
    // A connection that nobody uses is closed, which is nobody's fault.
    let mut idle = TcpStream::connect(open.address).await.unwrap();
    assert_eq!(idle.read_to_end(&mut Vec::new()).await.unwrap(), 0);
    assert_eq!(open.counted("other", 408), 50);
    open.close().await;
}

#[tokio::test]
async fn a_full_listener_keeps_who_showed_a_secret_while_the_body_is_read() {
    let open = open("known", "body_max: 1MB").await;
    let expects = ["Authorization: Bearer n3w", "Expect: 100-continue"];
    let whole = post("/inlets/rows", &expects, b"{\"id\":1}");
    let mut known = TcpStream::connect(open.address).await.unwrap();
    known.write_all(&whole[..whole.len() - 8]).await.unwrap();
    known.read_exact(&mut [0; 25]).await.unwrap();
    // Whoever shows nothing is answered, and then owes a body; there are as many as the listener holds.
    let unknown = post("/inlets/rows", &[], b"{\"id\":1}");
    let mut held = Vec::new();
    for _ in 0..CONNECTIONS_MAX + 10 {
        let mut stream = TcpStream::connect(open.address).await.unwrap();
        stream.write_all(&unknown[..unknown.len() - 8]).await.unwrap();
        stream.read_exact(&mut [0; 12]).await.unwrap();
        held.push(stream);
    }
    known.write_all(b"{\"id\":1}").await.unwrap();
    let mut answer = String::new();
    known.read_to_string(&mut answer).await.unwrap();
    assert_eq!(status(&answer), 200);
    open.close().await;
}

#[tokio::test]
async fn a_stop_finishes_what_is_in_flight() {
    let open = open("stop", "body_max: 1MB").await;
    let whole = post(
        "/inlets/rows",
        &["Authorization: Bearer n3w", "Expect: 100-continue"],
        b"{\"id\":1}",
    );
    let mut stream = TcpStream::connect(open.address).await.unwrap();
    stream.write_all(&whole[..whole.len() - 8]).await.unwrap();
    stream.read_exact(&mut [0; 25]).await.unwrap();
    open.stop.send_replace(true);
    // The listener is gone once nobody can connect any more.
    while TcpStream::connect(open.address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    stream.write_all(b"{\"id\":1}").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert_eq!(status(&answer), 200);
    assert_eq!(open.events().await.len(), 1);
    open.close().await;
}

#[tokio::test]
async fn a_rotated_secret_is_taken_up() {
    let open = open("rotated", "body_max: 1MB").await;
    let asked = |secret: &str| {
        post(
            "/inlets/rows",
            &[&format!("Authorization: Bearer {secret}")],
            b"{\"id\":1}",
        )
    };
    assert_eq!(status(&open.ask(&asked("next")).await), 401);
    std::fs::write(open.dir.join("old"), "next\n").unwrap();
    let until = std::time::Instant::now() + Duration::from_secs(5);
    while status(&open.ask(&asked("next")).await) != 200 {
        assert!(std::time::Instant::now() < until, "the new secret is not taken up");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(status(&open.ask(&asked("0ld")).await), 401);
    open.close().await;
}

#[tokio::test]
async fn a_signature_is_as_old_as_the_clock_says_now() {
    let open = open("clock", "body_max: 1MB").await;
    let old = signed("s1gning", NOW, REACTION);
    assert_eq!(status(&open.ask(&old).await), 200);
    // Somebody put the machine's clock right.
    CLOCK.set(NOW + 600);
    assert_eq!(status(&open.ask(&old).await), 401);
    assert_eq!(status(&open.ask(&signed("s1gning", NOW + 600, REACTION)).await), 200);
    CLOCK.set(NOW - 600);
    assert_eq!(status(&open.ask(&old).await), 401);
    assert_eq!(status(&open.ask(&signed("s1gning", NOW - 600, REACTION)).await), 200);
    open.close().await;
}

#[tokio::test]
async fn a_list_of_dead_records_is_a_hundred_letters_and_one_for_the_rest() {
    let open = open("rest", "body_max: 1MB").await;
    let key = format!("Authorization: Basic {}", base64("wr1te:"));
    let good = r#"{"type":"track","messageId":"m","userId":"u"}"#;
    let dead = vec!["0"; 4_000].join(",");
    let body = format!("{{\"writeKey\":\"wr1te\",\"batch\":[{good},{dead},{good},{dead}]}}");
    let answer = open
        .ask(&post("/inlets/product/v1/batch", &[&key], body.as_bytes()))
        .await;
    assert!(
        answer.contains("{\"success\":true,\"accepted\":2,\"dead\":8000,\"left_out\":0,"),
        "{answer}"
    );
    assert_eq!(answer.matches("\"index\":").count(), 20, "{answer}");
    let letters = open.letters().await;
    assert_eq!(letters.len(), 101);
    assert!(
        letters[..100]
            .iter()
            .all(|letter| letter.value.as_deref() == Some(b"0"))
    );
    let rest = &letters[100];
    assert_eq!(
        ["reason", "elements", "content-type", "route"].map(|name| header(rest, name)),
        ["invalid_event", "101-4000,4002-8001", "application/json", "v1/batch"]
    );
    assert!(
        header(rest, "detail").starts_with("7900 records of the request"),
        "{}",
        header(rest, "detail")
    );
    let kept = body.replace("wr1te", "");
    assert!(rest.value.as_deref() == Some(kept.as_bytes()));
    let text = open.metrics.text();
    assert!(
        text.contains("leadlane_dead_letters_total{reason=\"invalid_event\"} 101"),
        "{text}"
    );
    assert!(
        text.contains("leadlane_inlet_events_total{inlet=\"product\",result=\"dead\"} 8000"),
        "{text}"
    );
    open.close().await;
}

#[tokio::test]
async fn a_dead_record_that_is_longer_than_its_body_stands_in_the_body() {
    let open = open("longer", "body_max: 1MB").await;
    // Each of these is six bytes of JSON: no dead letter takes the record alone.
    let body = format!("id,Name\n1,Ana\n2,{}\n", "\u{1}".repeat(300_000));
    let rows = post(
        "/inlets/rows",
        &["Authorization: Bearer n3w", "Content-Type: text/csv"],
        body.as_bytes(),
    );
    let answer = open.ask(&rows).await;
    assert_eq!(status(&answer), 200, "{answer}");
    assert!(answer.contains("{\"accepted\":1,\"dead\":1,"), "{answer}");
    let letters = open.letters().await;
    assert_eq!(letters.len(), 1);
    assert_eq!(
        ["reason", "elements", "content-type"].map(|name| header(&letters[0], name)),
        ["too_large", "1", "text/csv"]
    );
    assert!(letters[0].value.as_deref() == Some(body.as_bytes()));
    open.close().await;
}

#[tokio::test]
async fn one_bad_call_of_a_batch_costs_the_others_nothing() {
    let open = open("bad", "body_max: 1MB").await;
    let key = format!("Authorization: Basic {}", base64("wr1te:"));
    let call = |id: &str, title: &str| {
        format!(
            "{{\"type\":\"track\",\"messageId\":\"{id}\",\"userId\":\"u\",\"writeKey\":\"wr1te\",\"title\":\"{title}\"}}"
        )
    };
    let bad = call("3", "\\x");
    let body = format!("{{\"batch\":[{},{},{bad}]}}", call("1", "ok"), call("2", "cut \\ud83d"));
    let answer = open
        .ask(&post("/inlets/product/v1/batch", &[&key], body.as_bytes()))
        .await;
    assert!(
        answer.ends_with("\"accepted\":2,\"dead\":1,\"left_out\":0,\"errors\":[{\"index\":2,\"reason\":\"not_decodable\",\"detail\":\"malformed JSON at line 1, column 75\"}]}"),
        "{answer}"
    );
    let letters = open.letters().await;
    let found = std::str::from_utf8(letters[0].value.as_deref().unwrap()).unwrap();
    assert_eq!((letters.len(), header(&letters[0], "reason")), (1, "not_decodable"));
    assert_eq!(found, bad.replace("wr1te", ""));
    let rows = post(
        "/inlets/rows",
        &["Authorization: Bearer n3w", "Content-Type: text/csv"],
        b"id;Name\n1;Ana\n2;Bo;x\n3\n",
    );
    let answer = open.ask(&rows).await;
    assert!(
        answer.ends_with("{\"accepted\":2,\"dead\":1,\"left_out\":0,\"errors\":[{\"index\":1,\"reason\":\"not_decodable\",\"detail\":\"line 3: 3 cells for 2 titles\"}]}"),
        "{answer}"
    );
    let letters = open.letters().await;
    let letter = letters.iter().find(|letter| header(letter, "inlet") == "rows").unwrap();
    assert_eq!(header(letter, "content-type"), "text/csv");
    assert_eq!(letter.value.as_deref(), Some(&b"id;Name\n2;Bo;x\n"[..]));
    open.close().await;
}

const CALL: &str = r#"{"type":"track","messageId":"ajs-1","anonymousId":"a-1","userId":null,"event":"Signed Up","properties":{},"writeKey":"wr1te"}"#;
const BATCH: &str = r#"{"batch":[{"type":"track","messageId":"mb1","anonymousId":"a-1","event":"Signed Up"}],"sentAt":"2018-07-12T18:36:58Z","writeKey":"wr1te"}"#;

#[tokio::test]
async fn browsers_and_phones_show_their_key_in_the_body() {
    let open = open("inbody", "body_max: 2000").await;
    let key = format!("Authorization: Basic {}", base64("wr1te:"));
    let wrong = format!("Authorization: Basic {}", base64("wr0ng:"));
    let text = "Content-Type: text/plain";
    let other = CALL.replace("wr1te", "n3w");
    let unknown = CALL.replace("wr1te", "wr0ng");
    let zipped = gzip(BATCH.as_bytes());
    for (path, headers, body, wanted, inlet) in [
        ("/inlets/product/v1/t", &[text][..], CALL.as_bytes(), 200, "product"),
        ("/inlets/product/v1/t", &[text, &key], CALL.as_bytes(), 200, "product"),
        ("/inlets/product/v1/b", &[text], BATCH.as_bytes(), 200, "product"),
        ("/inlets/product/v1/b", &[text, &key], BATCH.as_bytes(), 200, "product"),
        ("/inlets/product/v1/batch", &[], BATCH.as_bytes(), 200, "product"),
        (
            "/inlets/product/v1/batch",
            &["Content-Encoding: gzip"],
            &zipped,
            200,
            "product",
        ),
        ("/v1/batch", &[], BATCH.as_bytes(), 200, "product"),
        ("/v1/t", &[text], other.as_bytes(), 200, "shop"),
        // A key in the head is the one that counts, and each key is of its own inlet.
        ("/inlets/product/v1/t", &[text, &wrong], CALL.as_bytes(), 401, "product"),
        ("/inlets/product/v1/t", &[text], other.as_bytes(), 401, "product"),
        ("/v1/t", &[text], unknown.as_bytes(), 401, "other"),
        ("/v1/t", &[text], b"{\"writeKey\":7}", 401, "other"),
        ("/v1/t", &[text], b"[{\"writeKey\":\"wr1te\"}]", 401, "other"),
        ("/v1/t", &[text], b"", 401, "other"),
        (
            "/inlets/product/v1/b",
            &["Content-Encoding: gzip"],
            b"x",
            400,
            "product",
        ),
        (
            "/inlets/product/v1/b",
            &["Content-Encoding: gzip"],
            &gzip(&[b' '; 9_000]),
            413,
            "product",
        ),
        ("/inlets/product/v1/x", &[text, &key], CALL.as_bytes(), 404, "product"),
        // Only client libraries have such keys.
        ("/inlets/rows", &[], b"{\"id\":1,\"writeKey\":\"n3w\"}", 401, "rows"),
    ] {
        let before = open.counted(inlet, wanted);
        let answer = open.ask(&post(path, headers, body)).await;
        assert_eq!(status(&answer), wanted, "{path} {headers:?}\n{answer}");
        assert_eq!(open.counted(inlet, wanted), before + 1, "{path} {headers:?}");
    }
    let events = open.events().await;
    assert_eq!(events.len(), 8);
    for event in &events {
        assert_eq!(
            (&event["trigger"], &event["lead_id"]),
            (&"call.track".into(), &"a-1".into())
        );
        let text = event.to_string();
        assert!(!text.contains("wr1te") && !text.contains("n3w"), "{text}");
    }
    open.close().await;
}

#[tokio::test]
async fn pages_of_named_origins_may_send_and_read_the_answer() {
    let open = open("origins", "").await;
    let call = CALL.replace("wr1te", "n3w");
    let preflight = |path: &str, origin: &str| {
        let origin = format!("Origin: {origin}");
        let asked = [
            &origin,
            "Access-Control-Request-Method: POST",
            "Access-Control-Request-Headers: authorization,content-type",
        ];
        request(&format!("OPTIONS {path}"), &asked, b"")
    };
    for (path, origin, may) in [
        ("/inlets/shop/v1/t", "https://shop.example", true),
        ("/inlets/shop/v1/t", "https://other.example:8443", true),
        ("/v1/t", "https://shop.example", true),
        ("/inlets/shop/v1/t", "https://shop.example.evil", false),
        ("/inlets/shop/v1/t", "http://shop.example", false),
        ("/inlets/shop/v1/t", "null", false),
        ("/inlets/product/v1/t", "https://shop.example", false),
        ("/inlets/rows", "https://shop.example", false),
    ] {
        let allow = format!("\r\naccess-control-allow-origin: {origin}\r\n");
        let answer = open.ask(&preflight(path, origin)).await;
        assert!(
            status(&answer) == 200 && answer.contains("allow: POST"),
            "{path}: {answer}"
        );
        assert_eq!(answer.contains(&allow), may, "{path} {origin}: {answer}");
        for part in [
            "access-control-allow-methods: POST\r\n",
            "access-control-allow-headers: authorization,content-type\r\n",
            "access-control-max-age: ",
            "vary: Origin\r\n",
        ] {
            assert_eq!(answer.contains(part), may, "{path} {origin}: {answer}");
        }
        assert_eq!(answer.contains("access-control"), may, "{path} {origin}: {answer}");
        // A refusal can be read by the page too.
        let origin = format!("Origin: {origin}");
        for body in [call.as_str(), "{}"] {
            let answer = open
                .ask(&post(path, &[&origin, "Content-Type: text/plain"], body.as_bytes()))
                .await;
            assert_eq!(answer.contains(&allow), may, "{path} {origin}: {answer}");
        }
    }
    assert_eq!(
        status(&open.ask(&preflight("/inlets/nobody", "https://shop.example")).await),
        404
    );
    open.close().await;
}

#[tokio::test]
async fn customer_ios_calls_are_those_of_track() {
    let open = open("customerio", "").await;
    let key = format!("Authorization: Basic {}", base64("site:wr1te"));
    let ask = async |line: &str, headers: &[&str], body: &str| open.ask(&request(line, headers, body.as_bytes())).await;
    let identify = r#"{"email":"ana@example.com","plan":"enterprise"}"#;
    for (line, body) in [
        ("PUT /inlets/product/api/v1/customers/ana%2F7", identify),
        // Once more: the plan may have been another in between.
        ("PUT /api/v1/customers/ana%2F7", identify),
        (
            "POST /inlets/product/api/v1/customers/ana%2F7/events",
            r#"{"name":"Won","data":{"score":9},"timestamp":1531420000}"#,
        ),
        (
            "POST /api/v1/events",
            r#"{"name":"Won","anonymous_id":"visitor-7","id":"01HB"}"#,
        ),
        ("POST /api/v1/events", r#"{"name":"Won"}"#),
    ] {
        let answer = ask(line, &[&key], body).await;
        assert!(
            status(&answer) == 200 && answer.contains("application/json"),
            "{line}: {answer}"
        );
    }
    for (line, headers, body, wanted) in [
        ("POST /api/v1/customers/7", &[key.as_str()][..], identify, 405),
        ("PUT /api/v1/customers/7", &[], identify, 401),
        // Its key is the password, and a customer's attribute is none.
        ("PUT /api/v1/customers/7", &[], r#"{"writeKey":"wr1te"}"#, 401),
        ("PUT /api/v1/customers/7/devices", &[&key], identify, 404),
        ("PUT /api/v1/customers/7", &[&key], "[]", 400),
        (
            "PUT /inlets/rows/api/v1/customers/7",
            &["Authorization: Bearer n3w"],
            identify,
            404,
        ),
    ] {
        let answer = ask(line, headers, body).await;
        assert_eq!(status(&answer), wanted, "{line}: {answer}");
        assert!(wanted != 405 || answer.contains("allow: PUT"), "{answer}");
    }
    let events = open.events().await;
    let said: Vec<_> = events
        .iter()
        .map(|event| [&event["trigger"], &event["lead_id"]])
        .collect();
    let identify = serde_json::json!(["call.identify", "ana/7"]);
    assert_eq!(
        serde_json::json!(said),
        serde_json::json!([identify, identify, ["call.track", "ana/7"], ["call.track", "visitor-7"]])
    );
    assert_ne!(events[0]["event_id"], events[1]["event_id"]);
    assert_eq!(events[0]["payload"]["traits"]["plan"], "enterprise");
    assert_eq!(
        (
            &events[2]["payload"]["event"],
            &events[2]["payload"]["properties"]["score"],
            &events[2]["occurred_at"]
        ),
        (&"Won".into(), &9.into(), &"2018-07-12T18:26:40Z".into())
    );
    assert_eq!(events[3]["event_id"], "01HB");
    is_kept(&open).await;
    open.close().await;
}

/// The call of nobody is a dead letter, as it came; its route says what it is and names it.
async fn is_kept(open: &Open) {
    let letters = open.letters().await;
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0].value.as_deref(), Some(&br#"{"name":"Won"}"#[..]));
    let inlet = open.config.inlet("product").unwrap();
    let again = inlet.take_again(
        br#"{"name":"Won","anonymous_id":"a"}"#,
        header(&letters[0], "route"),
        jiff::Timestamp::UNIX_EPOCH,
    );
    let twice = inlet.take_again(
        br#"{"name":"Won","anonymous_id":"a"}"#,
        header(&letters[0], "route"),
        jiff::Timestamp::UNIX_EPOCH,
    );
    assert_eq!((again.events.len(), &again), (1, &twice));
}
