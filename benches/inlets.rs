//! An inlet beside a bare axum endpoint with a producer, on a real Kafka, in turns.
//!
//! Both take small JSON events, one a request over kept connections, and answer once Kafka has the event. First
//! as fast as 512 connections go, then 2,500 a second on a schedule, whose latency counts from the time that a
//! request was meant to be sent. Every event must be in Kafka exactly once; times never fail the run. See
//! benches/README.md.

#![allow(clippy::unwrap_used, reason = "a bench that panics says why")]
#![allow(clippy::disallowed_methods, reason = "a bench is set up by variables")]

use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use leadlane::config::Config;
use leadlane::kafka::producer::{Producer, Record};
use leadlane::kafka::reader;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

const ROUNDS: usize = 3;
/// Half of what has to be reached.
const SCHEDULED: u64 = 2_500;
const SECONDS: u64 = 10;
const BARE: &str = "LEADLANE_BENCH_BARE";

fn main() {
    let brokers =
        std::env::var("LEADLANE_TEST_KAFKA").expect("LEADLANE_TEST_KAFKA names a Kafka; see benches/README.md");
    if let Ok(listen) = std::env::var(BARE) {
        return bare(&brokers, &listen);
    }
    let count: u64 = std::env::var("LEADLANE_BENCH_EVENTS").map_or(300_000, |count| count.parse().unwrap());
    let connections = std::env::var("LEADLANE_BENCH_CONNECTIONS").map_or(512, |count| count.parse().unwrap());
    let bench = Bench::new(&brokers, connections);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let (mut ratios, mut sent) = (Vec::new(), 0);
    for round in 0..ROUNDS {
        let mut rates = Vec::new();
        for (name, start) in [
            ("bare", Bench::start_bare as fn(&Bench) -> Child),
            ("leadlane", Bench::start),
        ] {
            let mut child = start(&bench);
            runtime.block_on(bench.until_open());
            runtime.block_on(bench.flood(&format!("warm-{name}-{round}"), count / 10));
            let (took, _) = runtime.block_on(bench.flood(&format!("flood-{name}-{round}"), count));
            let (_, mut times) = runtime.block_on(bench.schedule(&format!("paced-{name}-{round}")));
            sent += count / 10 + count + SCHEDULED * SECONDS;
            times.sort_unstable();
            let rate = count as f64 / took.as_secs_f64();
            let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
            println!(
                "round {round}, {name}: {rate:.0} events/s; at {SCHEDULED}/s p50 {:.1} ms, p99 {:.1} ms, most {:.1} ms",
                at(0.5),
                at(0.99),
                at(1.0)
            );
            rates.push(rate);
            child.kill().unwrap();
            child.wait().unwrap();
        }
        ratios.push(rates[1] / rates[0]);
        println!("round {round}: ratio {:.2}", rates[1] / rates[0]);
    }
    let mut ids = std::collections::HashSet::new();
    let mut records = 0_u64;
    reader::read_whole(&bench.config, &bench.config.topics.events, |record| {
        ids.insert(record.header("event-id").unwrap_or_default().to_owned());
        records += 1;
        true
    })
    .unwrap();
    assert_eq!((records, ids.len() as u64), (sent, sent), "every event is there once");
    ratios.sort_by(f64::total_cmp);
    println!("median ratio {:.2} (the goal is 0.7)", ratios[ROUNDS / 2]);
    std::fs::remove_dir_all(bench.dir).unwrap();
}

/// What is measured against: a body is a record's value, and its id a header.
#[tokio::main]
async fn bare(brokers: &str, listen: &str) {
    let topic = std::env::var("LEADLANE_BENCH_TOPIC").unwrap();
    let config = Config::parse("bench", &format!("kafka: {{brokers: '{brokers}'}}"), []).unwrap();
    let producer = Producer::new(&config, 1_000_000).unwrap();
    let post = async |State(state): State<Arc<(Producer, String)>>, body: Bytes| {
        let (acked, ack) = tokio::sync::oneshot::channel();
        let text = std::str::from_utf8(&body).unwrap();
        let id = text.split('"').nth(3).unwrap();
        let headers = rdkafka::message::OwnedHeaders::new().insert(rdkafka::message::Header {
            key: "event-id",
            value: Some(id),
        });
        let record = Record {
            topic: &state.1,
            partition: None,
            key: id.as_bytes(),
            value: Some(&body),
            headers,
        };
        state.0.offer(&record, move |result| drop(acked.send(result)));
        match ack.await {
            Ok(Ok(_)) => StatusCode::OK,
            _ => StatusCode::SERVICE_UNAVAILABLE,
        }
    };
    let router = axum::Router::new().route("/inlets/survey", axum::routing::post(post));
    let router = router.with_state(Arc::new((producer, topic)));
    let listener = tokio::net::TcpListener::bind(listen).await.unwrap();
    axum::serve(listener, router).await.unwrap();
}

struct Bench {
    dir: std::path::PathBuf,
    config: Config,
    brokers: String,
    listen: String,
    connections: u64,
}

impl Bench {
    fn new(brokers: &str, connections: u64) -> Self {
        let run = format!("bench-inlets-{}", std::process::id());
        let dir = std::env::temp_dir().join(&run);
        std::fs::create_dir_all(dir.join("secrets")).unwrap();
        std::fs::write(dir.join("secrets/token"), "t0ken").unwrap();
        let address = || {
            std::net::TcpListener::bind("127.0.0.1:0")
                .unwrap()
                .local_addr()
                .unwrap()
        };
        let (listen, admin) = (address(), address());
        let topics = ["events", "rules", "jobs", "outcomes", "dead_letters", "audit"];
        let topics: Vec<String> = topics.iter().map(|name| format!("{name}: {run}-{name}")).collect();
        let text = format!(
            "kafka: {{brokers: '{brokers}', group: {run}}}\nadmin: {{listen: '{admin}'}}\ntopics: {{{}}}\nsecrets: {{dir: '{}'}}\n\
             inlet: {{listen: '{listen}'}}\ninlets:\n  - {{name: survey, kind: http, secrets: [{{bearer: {{secret: token}}}}], \
             event: {{event_id: '{{{{$.id}}}}', trigger: survey.answered, occurred_at: '{{{{$.at}}}}', lead_id: '{{{{$.email}}}}'}}}}\n",
            topics.join(", "),
            dir.join("secrets").display()
        );
        std::fs::write(dir.join("leadlane.yaml"), &text).unwrap();
        let bench = Self {
            config: Config::parse("bench", &text, []).unwrap(),
            brokers: brokers.to_owned(),
            listen: listen.to_string(),
            connections,
            dir,
        };
        assert!(
            bench
                .leadlane(&["topics", "create", "--partitions", "4"])
                .status()
                .unwrap()
                .success()
        );
        bench
    }

    fn leadlane(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_leadlane"));
        command
            .arg("--config")
            .arg(self.dir.join("leadlane.yaml"))
            .args(arguments);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    fn start(&self) -> Child {
        self.leadlane(&["run", "--role", "inlets"]).spawn().unwrap()
    }

    fn start_bare(&self) -> Child {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .env(BARE, &self.listen)
            .env("LEADLANE_TEST_KAFKA", &self.brokers)
            .env("LEADLANE_BENCH_TOPIC", &self.config.topics.events);
        command.spawn().unwrap()
    }

    async fn until_open(&self) {
        let until = Instant::now() + Duration::from_secs(30);
        while TcpStream::connect(&self.listen).await.is_err() {
            assert!(Instant::now() < until, "nobody listens");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// As fast as the answers come.
    async fn flood(&self, run: &str, count: u64) -> (Duration, Vec<Duration>) {
        self.post(run, count, None).await
    }

    /// On a schedule, whether answers come or not.
    async fn schedule(&self, run: &str) -> (Duration, Vec<Duration>) {
        self.post(run, SCHEDULED * SECONDS, Some(SCHEDULED)).await
    }

    async fn post(&self, run: &str, count: u64, rate: Option<u64>) -> (Duration, Vec<Duration>) {
        let mut streams = Vec::new();
        for _ in 0..self.connections {
            let stream = TcpStream::connect(&self.listen).await.unwrap();
            stream.set_nodelay(true).unwrap();
            streams.push(stream);
        }
        let (began, connections) = (Instant::now(), self.connections);
        let mut posting = tokio::task::JoinSet::new();
        for (connection, mut stream) in (0..).zip(streams) {
            let run = run.to_owned();
            posting.spawn(async move {
                let (mut times, mut buffer) = (Vec::new(), vec![0; 4096]);
                for number in (connection..count).step_by(connections as usize) {
                    let meant = match rate {
                        None => Instant::now(),
                        Some(rate) => began + Duration::from_secs_f64(number as f64 / rate as f64),
                    };
                    tokio::time::sleep_until(meant).await;
                    stream.write_all(&request(&run, number)).await.unwrap();
                    // An answer is small enough to come in one piece, with a body's end at most beside it.
                    let length = stream.read(&mut buffer).await.unwrap();
                    assert!(
                        buffer[..length].starts_with(b"HTTP/1.1 200"),
                        "{:?}",
                        String::from_utf8_lossy(&buffer[..length])
                    );
                    times.push(meant.elapsed());
                }
                times
            });
        }
        let times = posting.join_all().await.into_iter().flatten().collect();
        (began.elapsed(), times)
    }
}

fn request(run: &str, number: u64) -> Vec<u8> {
    let body = format!(
        "{{\"id\":\"{run}-{number}\",\"at\":\"2026-03-05T15:16:00.123Z\",\"email\":\"ana{number}@example.com\",\"score\":{},\
         \"name\":\"Ana Diaz\",\"plan\":\"enterprise\",\"answers\":{{\"why\":\"the price\",\"again\":true}},\"page\":\"https://quotes.example.com/auto/start\"}}",
        number % 10
    );
    format!(
        "POST /inlets/survey HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer t0ken\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}
