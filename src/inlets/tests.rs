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

/// Five minutes are tested against it.
const NOW: i64 = 1_531_420_618;

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
  - {name: product, preset: track, secrets: [{secret: write-key}]}
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
    ] {
        std::fs::write(dir.join(name), value).unwrap();
    }
    let text = format!(
        "kafka: {{brokers: '{}'}}\nsecrets: {{dir: '{}'}}\n{topics}\ninlet: {{listen: '127.0.0.1:0', {inlet}}}\n{INLETS}",
        cluster.bootstrap_servers(),
        dir.display()
    );
    let config = Arc::new(Config::parse("test", &text, []).unwrap());
    for topic in [&config.topics.events, &config.topics.dead_letters] {
        cluster.create_topic(topic, 1, 1).unwrap();
    }
    let metrics = Arc::new(Metrics::new(1));
    let (stop, stopped) = watch::channel(false);
    let at = Surroundings {
        config: Arc::clone(&config),
        limits: Limits::default(),
        metrics: Arc::clone(&metrics),
        secrets: Secrets::new(Some(dir.clone())),
        stop: stopped.clone(),
        ready: Arc::default(),
        now: || NOW * 1_000_000,
    };
    let listener = tokio::net::TcpListener::bind(config.inlet.listen).await.unwrap();
    let address = listener.local_addr().unwrap();
    let producer = Producer::of_requests(&config, at.limits.record_max, WRITE_TIMEOUT, WAITING_MAX).unwrap();
    let server = http::Server::new(at, producer).unwrap();
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
    post(
        "/inlets/workspace",
        &[&time, &format!("X-Slack-Signature: v0={hex}")],
        body,
    )
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
    let bot = br#"{"event_id":"Ev2","event":{"type":"message","bot_id":"B1","user":"U1","event_ts":"1.1"}}"#;
    assert_eq!(status(&open.ask(&signed("s1gning", NOW, bot)).await), 200);
    assert_eq!(status(&open.ask(&signed("s1gning", NOW, b"{")).await), 400);
    let userless = br#"{"token":"hunter2","event_id":"Ev3","event":{"type":"message","event_ts":"1.1"}}"#;
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
async fn each_wrong_request_has_its_status_and_is_counted() {
    let open = open("wrong", "body_max: 1000").await;
    let rows = "Authorization: Bearer n3w";
    let large = [b"{\"id\":\"".as_slice(), &[b'x'; 1000], b"\"}"].concat();
    let chunked = |chunk: &[u8], times: usize| {
        let head = b"POST /inlets/rows HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\nAuthorization: Bearer n3w\r\n\r\n";
        let piece = [format!("{:x}\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat();
        [&head[..], &piece.repeat(times), b"0\r\n\r\n"].concat()
    };
    let bomb = gzip(&[b' '; 1_000_000]);
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
