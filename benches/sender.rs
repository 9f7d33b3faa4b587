//! The sender on a real Kafka, against destinations that cost next to nothing. See benches/README.md.
//!
//! Jobs are written to the jobs topic themselves, so that only `leadlane run --role sender` is at work. Which arrive, and
//! how often, must be exact; times never fail the run.
//!
//! - `slack`: messages a second with their outcomes acknowledged, over 200 channels of 8 credentials.
//! - `clevertap`: records a second in batches of 1,000, beside a bare reqwest loop that posts the same bodies, as many at
//!   a time, to the same destination.
//! - `flood`: how long jobs of healthy lanes take to arrive while one destination hangs and another lane has a
//!   million jobs waiting, beside a run without the two; with 10 and with 1,000 destinations. All jobs share one partition.
//! - `sisters`: how long jobs of quiet channels take to arrive while one channel of the same token hangs and another
//!   answers 500, beside a run without the two.

#![allow(clippy::unwrap_used, reason = "a bench that panics says why")]
#![allow(clippy::disallowed_methods, reason = "a bench is set up by variables")]

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use leadlane::action::{ActionType, OnAmbiguous};
use leadlane::config::Config;
use leadlane::delivery::{DeliveryJob, Outcome, OutcomeResult, job_id};
use leadlane::kafka::producer::{Producer, Record};
use leadlane::kafka::reader;
use leadlane::lead::EventId;
use leadlane::rules::RuleId;
use tokio::net::TcpListener;

use destination::{Arrivals, FAILS, HANGS};

#[path = "sender/destination.rs"]
mod destination;

const ROUNDS: usize = 3;
const CREDENTIALS: usize = 8;
const CHANNELS: usize = 200;
/// Uploads at once, of Leadlane and of the bare loop: CleverTap's own limit.
const UPLOADS: usize = 15;
const BATCH: usize = 1000;
/// Quiet channels of the token that has two in trouble.
const SISTERS: usize = 20;

fn main() {
    let parts: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let wants = |part: &str| parts.is_empty() || parts.iter().any(|wanted| wanted == part);
    if wants("slack") {
        slack(number("LEADLANE_BENCH_MESSAGES", 100_000));
    }
    if wants("clevertap") {
        let records = number("LEADLANE_BENCH_RECORDS", 1_000_000);
        clevertap(records, Duration::from_millis(200));
        clevertap(records, Duration::ZERO);
    }
    if wants("flood") {
        let (waiting, seconds) = (
            number("LEADLANE_BENCH_FLOOD", 1_000_000),
            number("LEADLANE_BENCH_SECONDS", 30),
        );
        for destinations in [10, 1000] {
            flood(destinations, waiting, seconds as u64);
        }
    }
    if wants("sisters") {
        sisters(number("LEADLANE_BENCH_SECONDS", 30) as u64);
    }
}

fn number(variable: &str, default: usize) -> usize {
    std::env::var(variable).map_or(default, |text| {
        text.parse()
            .unwrap_or_else(|_| panic!("{variable} takes a number, not {text}"))
    })
}

fn slack(count: usize) {
    println!("slack: {count} messages, {CHANNELS} channels, {CREDENTIALS} credentials");
    for round in 0..ROUNDS {
        let bench = Bench::new(4, count, Duration::ZERO, "");
        bench.write((0..count).map(|number| channel_message(number, number % CHANNELS)));
        let (seconds, memory, cpu) = bench.drain(count);
        let came = bench.arrivals.counted();
        assert_eq!(came, (count, 0), "each message arrives once");
        println!(
            "round {round}: {:.0} requests/s with their outcomes; peak memory {memory} MB, {:.1} µs CPU a message",
            count as f64 / seconds,
            cpu * 1e6 / count as f64,
        );
    }
}

fn clevertap(count: usize, latency: Duration) {
    println!("clevertap: {count} records, an upload takes {} ms", latency.as_millis());
    let mut ratios = Vec::new();
    for round in 0..ROUNDS {
        let bench = Bench::new(1, count, latency, "");
        bench.write((0..count).map(record));
        let (seconds, memory, cpu) = bench.drain(count);
        assert_eq!(bench.arrivals.counted(), (count, 0), "each record arrives once");
        let ours = count as f64 / seconds;
        let bare = bare(count, latency);
        ratios.push(ours / bare);
        println!(
            "round {round}: leadlane {ours:.0} records/s in {} uploads, bare loop {bare:.0} records/s, ratio {:.2}; \
             peak memory {memory} MB, {:.1} µs CPU a record",
            bench.arrivals.requests(),
            ours / bare,
            cpu * 1e6 / count as f64,
        );
    }
    ratios.sort_by(f64::total_cmp);
    println!("median ratio {:.2}", ratios[ROUNDS / 2]);
}

/// Posts the same bodies with nothing around it: records a second.
fn bare(count: usize, latency: Duration) -> f64 {
    let arrivals = Arrivals::of(count);
    let (_runtime, address) = serve(Arc::clone(&arrivals), latency);
    let bodies: Vec<String> = (0..count)
        .step_by(BATCH)
        .map(|first| {
            let records: Vec<String> = (first..count.min(first + BATCH))
                .map(|number| record(number).body)
                .collect();
            format!("{{\"d\":[{}]}}", records.join(","))
        })
        .collect();
    let bodies = Arc::new(std::sync::Mutex::new(bodies));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let began = Instant::now();
    runtime.block_on(async {
        let client = reqwest::Client::builder().tcp_nodelay(true).build().unwrap();
        let tasks: Vec<_> = (0..UPLOADS)
            .map(|_| {
                let (client, bodies) = (client.clone(), Arc::clone(&bodies));
                let url = format!("http://{address}/1/upload");
                tokio::spawn(async move {
                    loop {
                        let Some(body) = bodies.lock().unwrap().pop() else {
                            return;
                        };
                        let answer = client
                            .post(&url)
                            .header("content-type", "application/json")
                            .body(body)
                            .send();
                        let text = answer.await.unwrap().text().await.unwrap();
                        assert!(text.contains("success"), "{text}");
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
    });
    let seconds = began.elapsed().as_secs_f64();
    assert_eq!(arrivals.counted(), (count, 0));
    count as f64 / seconds
}

fn flood(destinations: usize, waiting: usize, seconds: u64) {
    println!("flood: {destinations} destinations, {waiting} jobs waiting in one of them, for {seconds} s");
    let quiet = healthy(destinations - 2, 0, seconds);
    let flooded = healthy(destinations - 2, waiting, seconds);
    println!(
        "ratio p50 {:.2} (the goal is 1.25), p99 {:.2} (the goal is 1.5)",
        flooded.0 as f64 / quiet.0 as f64,
        flooded.1 as f64 / quiet.1 as f64
    );
}

/// Quiet channels of one token without and with sister channels in trouble, in turns.
fn sisters(seconds: u64) {
    println!("sisters: {SISTERS} quiet channels of one token, for {seconds} s");
    let mut ratios = Vec::new();
    for round in 0..ROUNDS {
        let (without, with) = (quiet(seconds, false), quiet(seconds, true));
        ratios.push(with.1 as f64 / without.1 as f64);
        println!(
            "round {round}: without p50 {:.1} ms, p99 {:.1} ms; with p50 {:.1} ms, p99 {:.1} ms; ratio p99 {:.2}",
            without.0 as f64 / 1000.0,
            without.1 as f64 / 1000.0,
            with.0 as f64 / 1000.0,
            with.1 as f64 / 1000.0,
            ratios[round],
        );
    }
    ratios.sort_by(f64::total_cmp);
    println!("median ratio p99 {:.2} (the goal is 1.2)", ratios[ROUNDS / 2]);
}

/// The latency of jobs that come to all quiet channels every other second: p50 and p99 in µs. Between them there is time
/// for the others to fail several times in a row.
fn quiet(seconds: u64, trouble: bool) -> (u64, u64) {
    const EVERY: Duration = Duration::from_secs(2);
    let bursts = (seconds / EVERY.as_secs()) as usize;
    let count = bursts * SISTERS;
    let bench = Bench::new(1, count, Duration::from_millis(50), "");
    let sister = |mark: &str, number: usize, channel: &str| message("sister", mark, number, "bot-0", channel);
    bench.write((0..SISTERS).map(|lane| sister("first", lane, &format!("C{lane}"))));
    let sender = bench.start_with(&[
        ("LEADLANE__SENDER__REQUEST_TIMEOUT", "3s"),
        ("LEADLANE__SENDER__RETRY__INITIAL", "200ms"),
        ("LEADLANE__SENDER__RETRY__MAX", "500ms"),
    ]);
    bench.wait_for("each channel's first message", 60, || {
        bench.arrivals.others() >= SISTERS as u64
    });
    let producer = bench.producer();
    // The producer's first record waits for its connection, which is no part of the figures, in either run.
    put(&producer, &bench.config, &sister("warm", SISTERS + 1, "C0"));
    assert!(producer.flush(Duration::from_secs(30)));
    if trouble {
        for channel in [HANGS, FAILS] {
            put(&producer, &bench.config, &sister("trouble", SISTERS, channel));
        }
        assert!(producer.flush(Duration::from_secs(30)));
        // Both have failed a few times by then.
        std::thread::sleep(Duration::from_secs(8));
    }
    let (began, zero) = (Instant::now(), bench.arrivals.now());
    for number in 0..count {
        let intended = EVERY * (number / SISTERS) as u32;
        std::thread::sleep(intended.saturating_sub(began.elapsed()));
        let lane = format!("C{}", number % SISTERS);
        put(
            &producer,
            &bench.config,
            &message("quiet", &number.to_string(), number, "bot-0", &lane),
        );
    }
    bench.wait_for("the quiet channels' jobs to arrive", 60, || {
        bench.arrivals.counted().0 == count
    });
    sender.stop();
    assert_eq!(
        bench.arrivals.counted(),
        (count, 0),
        "each job of a quiet channel arrives once"
    );
    let latency = |number: usize| {
        let intended = zero + (EVERY * (number / SISTERS) as u32).as_micros() as u64;
        bench.arrivals.first(number).unwrap().saturating_sub(intended)
    };
    let mut latencies: Vec<u64> = (0..count).map(latency).collect();
    latencies.sort_unstable();
    (latencies[count / 2], latencies[count * 99 / 100])
}

/// The latency of jobs that come evenly to `lanes` healthy lanes, from their intended time: p50 and p99 in µs.
fn healthy(lanes: usize, waiting: usize, seconds: u64) -> (u64, u64) {
    const EVERY: Duration = Duration::from_millis(4);
    let count = (seconds * 1000 / EVERY.as_millis() as u64) as usize;
    let bench = Bench::new(
        1,
        count,
        Duration::ZERO,
        "{credential: 'slack:flood', channel: CFLOOD, rate: 10/s}",
    );
    if waiting > 0 {
        bench.write((0..waiting).map(|number| message("flood", "flood", number, "flood", "CFLOOD")));
        bench.write((0..1000).map(hung));
    }
    let sender = bench.start();
    if waiting > 0 {
        bench.wait_for("the flood to be known", 120, || {
            bench.metric("leadlane_lane_backlog") >= waiting as f64
        });
    }
    bench.wait_for("the sender to be ready", 60, || bench.page("/readyz").contains(" 200 "));
    let producer = bench.producer();
    // The producer's first record waits for its connection, which is no part of the figures.
    put(
        &producer,
        &bench.config,
        &message("first", "first", 0, "bot-0", "CFIRST"),
    );
    assert!(producer.flush(Duration::from_secs(30)));
    std::thread::sleep(Duration::from_secs(1));
    let (began, zero) = (Instant::now(), bench.arrivals.now());
    for number in 0..count {
        let lane = number % lanes;
        let job = channel_message(number, lane);
        std::thread::sleep((EVERY * number as u32).saturating_sub(began.elapsed()));
        put(&producer, &bench.config, &job);
    }
    bench.wait_for("the healthy lanes' jobs to arrive", 60, || {
        bench.arrivals.counted().0 == count
    });
    let (memory, _) = sender.cost();
    sender.stop();
    let (came, repeats) = bench.arrivals.counted();
    assert_eq!((came, repeats), (count, 0), "each job of a healthy lane arrives once");
    let mut latencies: Vec<u64> = (0..count)
        .map(|number| {
            let intended = zero + EVERY.as_micros() as u64 * number as u64;
            bench.arrivals.first(number).unwrap().saturating_sub(intended)
        })
        .collect();
    latencies.sort_unstable();
    let (p50, p99) = (latencies[count / 2], latencies[count * 99 / 100]);
    println!(
        "{lanes} healthy lanes, {waiting} jobs waiting: p50 {:.1} ms, p99 {:.1} ms, peak memory {memory} MB, {} of the flood sent",
        p50 as f64 / 1000.0,
        p99 as f64 / 1000.0,
        bench.arrivals.others().saturating_sub(1),
    );
    (p50, p99)
}

/// A group, topics and destinations of its own.
struct Bench {
    config: Config,
    dir: PathBuf,
    admin: u16,
    arrivals: Arc<Arrivals>,
    _runtime: tokio::runtime::Runtime,
}

/// A runtime that serves, and where.
fn serve(arrivals: Arc<Arrivals>, latency: Duration) -> (tokio::runtime::Runtime, String) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    runtime.spawn(destination::serve(listener, arrivals, latency));
    (runtime, address)
}

impl Bench {
    fn new(partitions: usize, jobs: usize, latency: Duration, limits: &str) -> Self {
        let brokers =
            std::env::var("LEADLANE_TEST_KAFKA").expect("LEADLANE_TEST_KAFKA names a Kafka; see benches/README.md");
        let arrivals = Arrivals::of(jobs);
        let (runtime, address) = serve(Arc::clone(&arrivals), latency);
        let hangs = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let hung = hangs.local_addr().unwrap();
        runtime.spawn(destination::hang(hangs));
        let run = format!("bench-{}-{}", std::process::id(), fastrand::u32(..));
        let dir = std::env::temp_dir().join(format!("leadlane-{run}"));
        std::fs::create_dir_all(dir.join("secrets")).unwrap();
        for credential in 0..CREDENTIALS {
            std::fs::write(
                dir.join(format!("secrets/bot-{credential}")),
                format!("xoxb-{credential}-bench"),
            )
            .unwrap();
        }
        std::fs::write(dir.join("secrets/flood"), "xoxb-99-flood").unwrap();
        std::fs::write(dir.join("secrets/passcode"), "bench-passcode").unwrap();
        let admin = std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let account = |name: &str, address: &str| {
            format!(
                "{name}: {{region: in1, account_id: {name}, passcode: {{secret: passcode}}, concurrency: {UPLOADS}, api_url: 'http://{address}'}}"
            )
        };
        let text = format!(
            "kafka: {{brokers: '{brokers}', group: {run}}}\nadmin: {{listen: '127.0.0.1:{admin}'}}\nlog: {{level: warn}}\n\
             topics: {{events: {run}-events, rules: {run}-rules, jobs: {run}-jobs, outcomes: {run}-outcomes, dead_letters: {run}-dead, audit: {run}-audit}}\n\
             slack: {{api_url: 'http://{address}/api', channel_rate: 100000/s, workspace_rate: 100000/s, limits: [{limits}]}}\n\
             clevertap: {{batch_max: {BATCH}, accounts: {{{}, {}}}}}\nsecrets: {{dir: '{}'}}\n",
            account("acme", &address),
            account("hung", &hung.to_string()),
            dir.join("secrets").display(),
        );
        std::fs::write(dir.join("leadlane.yaml"), &text).unwrap();
        let bench = Self {
            config: Config::parse("bench", &text, []).unwrap(),
            dir,
            admin,
            arrivals,
            _runtime: runtime,
        };
        let created = bench
            .command(&["topics", "create", "--partitions", &partitions.to_string()])
            .status()
            .unwrap();
        assert!(created.success(), "leadlane topics create");
        bench
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_leadlane"));
        command.arg("--config").arg(self.dir.join("leadlane.yaml"));
        command.args(arguments).stdout(Stdio::null());
        command
    }

    fn producer(&self) -> Producer {
        Producer::new(&self.config, 1_000_000).unwrap()
    }

    fn write(&self, jobs: impl Iterator<Item = DeliveryJob>) {
        let producer = self.producer();
        jobs.for_each(|job| put(&producer, &self.config, &job));
        assert!(producer.flush(Duration::from_secs(300)));
    }

    fn start(&self) -> Sender {
        self.start_with(&[])
    }

    /// With these variables over the configuration.
    fn start_with(&self, variables: &[(&str, &str)]) -> Sender {
        let log = std::fs::File::create(self.dir.join("log")).unwrap();
        let mut command = self.command(&["run", "--role", "sender"]);
        command.envs(variables.iter().copied());
        Sender(command.stderr(log).spawn().unwrap())
    }

    /// Runs a sender until all `count` jobs are settled: the seconds from the first outcome to the last, peak MB, CPU seconds.
    fn drain(&self, count: usize) -> (f64, u64, f64) {
        let sender = self.start();
        self.wait_for("every job to be sent", 600, || {
            self.metric("leadlane_outcomes_total") >= count as f64
        });
        let (memory, cpu) = sender.cost();
        sender.stop();
        let (mut jobs, mut first, mut last) = (std::collections::HashSet::new(), i64::MAX, i64::MIN);
        reader::read_whole(&self.config, &self.config.topics.outcomes, |outcome| {
            (first, last) = (first.min(outcome.timestamp), last.max(outcome.timestamp));
            let outcome = Outcome::decode(outcome.value.as_deref().unwrap()).unwrap();
            assert_eq!(outcome.result, OutcomeResult::Sent, "{outcome:?}");
            assert!(jobs.insert(outcome.job_id), "two final outcomes of one job");
            true
        })
        .unwrap();
        assert_eq!(jobs.len(), count, "each job has its outcome");
        ((last - first).max(1) as f64 / 1000.0, memory, cpu)
    }

    /// A page of the sender's admin listener; empty while there is none.
    fn page(&self, path: &str) -> String {
        use std::io::{Read, Write};
        let mut text = String::new();
        if let Ok(mut stream) = std::net::TcpStream::connect(("127.0.0.1", self.admin)) {
            drop(write!(
                stream,
                "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
            ));
            drop(stream.read_to_string(&mut text));
        }
        text
    }

    /// A metric of the sender, summed over its labels.
    fn metric(&self, name: &str) -> f64 {
        let text = self.page("/metrics");
        let values = text
            .lines()
            .filter(|line| line.starts_with(name))
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
        values.sum()
    }

    /// Waits until it is so, or says that it didn't come to it.
    fn wait_for(&self, what: &str, seconds: u64, so: impl Fn() -> bool) {
        let until = Instant::now() + Duration::from_secs(seconds);
        while !so() {
            if Instant::now() > until {
                println!("waited {seconds} s in vain for {what}");
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.dir));
    }
}

fn put(producer: &Producer, config: &Config, job: &DeliveryJob) {
    let record = Record {
        topic: &config.topics.jobs,
        partition: None,
        key: job.credential.as_bytes(),
        value: Some(&job.encode()),
        headers: rdkafka::message::OwnedHeaders::new(),
    };
    producer.write(&record, |ack| assert!(ack.is_ok(), "{ack:?}"));
}

/// A sender that runs; killed when dropped.
struct Sender(Child);

impl Sender {
    /// Peak MB and CPU seconds so far.
    fn cost(&self) -> (u64, f64) {
        let of = |file: &str| std::fs::read_to_string(format!("/proc/{}/{file}", self.0.id())).unwrap();
        let status = of("status");
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        let peak: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
        let stat = of("stat");
        let ticks: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        let ticks = ticks[11].parse::<f64>().unwrap() + ticks[12].parse::<f64>().unwrap();
        (peak / 1024, ticks / 100.0)
    }

    /// SIGTERM, and then a clean end.
    fn stop(mut self) {
        Command::new("kill").arg(self.0.id().to_string()).status().unwrap();
        assert!(self.0.wait().unwrap().success(), "a clean stop");
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// The job `number` of a rule, with all that the actions share.
fn job(
    rule: &str,
    number: usize,
    action: ActionType,
    credential: String,
    destination: String,
    body: String,
) -> DeliveryJob {
    let event_id = format!("0190f3c2-6f7b-7c11-9a55-{number:012}");
    DeliveryJob {
        job_id: job_id(EventId(&event_id), RuleId(rule)).to_string(),
        event_id,
        rule_id: rule.to_owned(),
        rule_version: 7,
        lead_id: format!("{}", 84_000_000 + number),
        trigger: "lms.lead_sold".to_owned(),
        action,
        credential,
        destination,
        body,
        occurred_at: leadlane::app::now_millis(),
        expires_at: None,
        on_ambiguous: OnAmbiguous::Retry,
        source_topic: "lead-events".to_owned(),
        source_partition: 0,
        source_offset: number as i64,
        sealed: None,
        account_id: None,
        region: None,
        digest_after: None,
        max_rate: None,
        thread: false,
    }
}

fn channel_message(number: usize, channel: usize) -> DeliveryJob {
    let secret = format!("bot-{}", channel % CREDENTIALS);
    message(
        "to-channel",
        &number.to_string(),
        number,
        &secret,
        &format!("C{channel}"),
    )
}

fn message(rule: &str, mark: &str, number: usize, secret: &str, channel: &str) -> DeliveryJob {
    let text = format!("#{mark}# Lead {} sold to SafeDrive for $42.50", 84_000_000 + number);
    let body = serde_json::json!({"channel": channel, "text": text}).to_string();
    let credential = format!("slack:{secret}");
    job(
        rule,
        number,
        ActionType::SlackMessage,
        credential,
        channel.to_owned(),
        body,
    )
}

fn record(number: usize) -> DeliveryJob {
    upload("acme", &number.to_string(), number)
}

fn hung(number: usize) -> DeliveryJob {
    upload("hung", "hung", number)
}

fn upload(account: &str, mark: &str, number: usize) -> DeliveryJob {
    let identity = format!("ana-{number}@example.com");
    let body = serde_json::json!({
        "type": "event", "identity": identity, "ts": 1_772_723_760 + number, "evtName": "Lead sold",
        "evtData": {"Lead": format!("#{mark}#"), "Buyer": "SafeDrive", "Price": 42.5, "State": "TX", "Product": "Auto Insurance"},
    });
    let credential = format!("clevertap:{account}");
    job(
        account,
        number,
        ActionType::ClevertapEvent,
        credential,
        identity,
        body.to_string(),
    )
}
