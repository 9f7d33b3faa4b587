//! The processor beside a bare transactional loop of librdkafka's batch calls, on a real Kafka, in turns. See benches/README.md.
//!
//! - `json`, `avro`: lead events wait in 4 partitions, 100 rules are in force. CPU time an event of the whole process, and
//!   events a second: from the first output record to the last.
//! - `rules`: the same with more rules and equal matches, beside Leadlane's own 100.
//! - `plain`: the bare loop with and without transactions.
//! - `start`: from its start to ready, and what is resident then, with very many rules and beside itself without any.
//! - `latency`: 200 events a second, each of which makes a job. From an event's producing to its job, read as committed.
//! - `workers`, `instances`: two workers of one process beside one, and one, two and three processes.
//! - `requests`: from an event's producing to its HTTP request, while the processor has half as much to do as it can.
//! - `changes`: 1,000 changes of rules a second beside none, and how soon each is in force.
//!
//! The number of jobs must be exact; times never fail the run.

#![allow(clippy::unwrap_used, reason = "a bench that panics says why")]
#![allow(clippy::disallowed_methods, reason = "a bench is set up by variables")]

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use leadlane::config::Config;
use leadlane::kafka::producer::{Producer, Record};
use leadlane::kafka::reader::{self, Isolation, Next, Reader};
use rdkafka::message::OwnedHeaders;

use bare::Shape;
use events::Format;

#[path = "pipeline/bare.rs"]
mod bare;
#[path = "pipeline/changes.rs"]
mod changes;
#[path = "pipeline/events.rs"]
mod events;
#[path = "pipeline/requests.rs"]
mod requests;
#[path = "pipeline/scale.rs"]
mod scale;
#[path = "pipeline/start.rs"]
mod start;
#[path = "index/written.rs"]
mod written;

const RULES: usize = 100;
/// The processor's `commit_interval`.
const INTERVAL: Duration = Duration::from_millis(50);

fn main() {
    let brokers =
        std::env::var("LEADLANE_TEST_KAFKA").expect("LEADLANE_TEST_KAFKA names a Kafka; see benches/README.md");
    let parts: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    // One round of the bare loop, in a process of its own: `bare CONFIG SINK COUNT SHAPE…`.
    if let [what, arguments @ ..] = &parts[..]
        && what == "bare"
    {
        return bare_of(arguments);
    }
    let wants = |part: &str| parts.is_empty() || parts.iter().any(|wanted| wanted == part);
    let dir = std::env::temp_dir().join(format!("leadlane-bench-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let bench = Bench {
        brokers,
        dir: dir.clone(),
        count: number("LEADLANE_BENCH_EVENTS", 1_000_000),
        rounds: number("LEADLANE_BENCH_ROUNDS", 5) as usize,
        made: AtomicU32::new(0),
    };
    for format in [Format::Json, Format::Avro] {
        if wants(format.as_str()) {
            bench.beside_bare(format);
        }
    }
    if wants("rules") {
        bench.with_more_rules(number("LEADLANE_BENCH_RULES", 10_000) as usize);
    }
    if wants("start") {
        start::run(&bench, number("LEADLANE_BENCH_RULES", 1_000_000) as usize);
    }
    if wants("plain") {
        bench.without_transactions();
    }
    if wants("latency") {
        bench.latency(number("LEADLANE_BENCH_SECONDS", 20));
    }
    if wants("workers") {
        bench.with_two_workers();
    }
    if wants("instances") {
        bench.with_more_instances();
    }
    if wants("requests") {
        bench.requests(number("LEADLANE_BENCH_SECONDS", 20));
    }
    if wants("changes") {
        bench.with_changes(number("LEADLANE_BENCH_RULES", 10_000) as usize);
    }
    std::fs::remove_dir_all(dir).unwrap();
}

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| {
        text.parse()
            .unwrap_or_else(|_| panic!("{variable} takes a number, not {text}"))
    })
}

/// What a round came to.
#[derive(Debug, Clone, Copy)]
struct Round {
    /// Events a second.
    rate: f64,
    /// CPU time of the process an event, in µs.
    cpu: f64,
    /// The most that was resident, in MB.
    memory: u64,
}

struct Bench {
    brokers: String,
    dir: PathBuf,
    count: u64,
    rounds: usize,
    made: AtomicU32,
}

impl Bench {
    fn beside_bare(&self, format: Format) {
        let topics = self.filled(format);
        let mut rounds = Vec::new();
        for round in 0..self.rounds {
            let (ours, size) = self.ours(&topics, RULES);
            let share = topics.wanted as f64 / self.count as f64;
            let bare = self.bare(
                &topics,
                Shape {
                    share,
                    size,
                    interval: INTERVAL,
                    is_transactional: true,
                },
            );
            println!(
                "{}, round {round}: leadlane {:.0}/s, {:.2} µs, {} MB; bare loop {:.0}/s, {:.2} µs",
                format.as_str(),
                ours.rate,
                ours.cpu,
                ours.memory,
                bare.rate,
                bare.cpu
            );
            rounds.push((ours, bare));
        }
        print_ratio(
            &format!("{}: CPU an event, ÷ the bare loop", format.as_str()),
            rounds.iter().map(|(ours, bare)| ours.cpu / bare.cpu),
        );
        print_ratio(
            &format!("{}: events a second, ÷ the bare loop", format.as_str()),
            rounds.iter().map(|(ours, bare)| ours.rate / bare.rate),
        );
    }

    fn with_more_rules(&self, rules: usize) {
        let topics = self.filled(Format::Json);
        let mut rounds = Vec::new();
        for round in 0..self.rounds {
            let (few, _) = self.ours(&topics, RULES);
            let (many, _) = self.ours(&topics, rules);
            println!(
                "round {round}: {RULES} rules {:.0}/s, {:.2} µs; {rules} rules {:.0}/s, {:.2} µs, {} MB",
                few.rate, few.cpu, many.rate, many.cpu, many.memory
            );
            rounds.push(many.cpu / few.cpu);
        }
        print_ratio(
            &format!("{rules} rules: CPU an event, ÷ {RULES} rules"),
            rounds.into_iter(),
        );
    }

    fn without_transactions(&self) {
        let topics = self.filled(Format::Json);
        let mut rounds = Vec::new();
        let shape = |is_transactional| Shape {
            share: topics.wanted as f64 / self.count as f64,
            size: 400,
            interval: INTERVAL,
            is_transactional,
        };
        for _ in 0..self.rounds {
            rounds.push(self.bare(&topics, shape(true)).rate / self.bare(&topics, shape(false)).rate);
        }
        print_ratio(
            "the bare loop with transactions, events a second, ÷ without",
            rounds.into_iter(),
        );
    }

    /// Topics with events that wait, and the rules' file.
    fn filled(&self, format: Format) -> Topics {
        let mut topics = self.topics();
        let rules = events::rules(RULES);
        let slow;
        (topics.wanted, slow) = events::fill(&topics.config, self.count, &rules, format);
        println!(
            "{} {} events wait, of which {slow} take the complete decoder; {} jobs are wanted of them",
            self.count,
            format.as_str(),
            topics.wanted
        );
        assert!(
            slow * 1000 < self.count,
            "fewer than one of a thousand takes the complete decoder"
        );
        topics
    }

    fn topics(&self) -> Topics {
        self.topics_with("")
    }

    /// With more of the configuration.
    fn topics_with(&self, yaml: &str) -> Topics {
        let made = self.made.fetch_add(1, Ordering::Relaxed);
        let topics = Topics::of(self, &format!("bench-{}-{made}-events", std::process::id()), yaml);
        topics.leadlane(&["topics", "create", "--partitions", "4"]);
        topics
    }

    /// The same events, with rules, outputs and a group of their own.
    fn outputs(&self, of: &Topics, rules: usize) -> Topics {
        let topics = Topics::of(self, &of.config.topics.events, "");
        topics.leadlane(&["topics", "create", "--partitions", "4"]);
        topics.apply(rules);
        topics
    }

    /// Runs the processor over the events, with new outputs and a new group. Also the mean size of a job.
    fn ours(&self, of: &Topics, rules: usize) -> (Round, usize) {
        let topics = self.outputs(of, rules);
        let (child, took) = topics.run(of.wanted);
        let usage = Usage::of(child.id());
        topics.stop(child);
        let (jobs, seconds, bytes) = span(&topics.config, &topics.config.topics.jobs);
        assert_eq!(jobs, of.wanted, "each match is there once");
        assert!(took < Duration::from_secs(180));
        (self.round(usage, seconds), bytes / jobs.max(1) as usize)
    }

    fn bare(&self, of: &Topics, shape: Shape) -> Round {
        let made = self.made.fetch_add(1, Ordering::Relaxed);
        let sink = format!("bench-{}-{made}-sink", std::process::id());
        make_topic(&of.config, &sink);
        let child = Command::new(std::env::current_exe().unwrap())
            .arg("bare")
            .arg(&of.file)
            .args([sink.clone(), self.count.to_string(), shape.share.to_string()])
            .args([shape.size.to_string(), shape.interval.as_millis().to_string()])
            .arg(shape.is_transactional.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "the bare loop");
        let cpu: f64 = String::from_utf8(output.stdout).unwrap().trim().parse().unwrap();
        let (_, seconds, _) = span(&of.config, &sink);
        self.round(
            Usage {
                cpu,
                memory: 0,
                resident: 0,
            },
            seconds,
        )
    }

    fn round(&self, usage: Usage, seconds: f64) -> Round {
        Round {
            rate: self.count as f64 / seconds,
            cpu: usage.cpu * 1e6 / self.count as f64,
            memory: usage.memory,
        }
    }

    /// 200 events a second, through Leadlane and through the bare loop that commits at once.
    fn latency(&self, seconds: u64) {
        let mut ratios = [Vec::new(), Vec::new()];
        for round in 0..self.rounds {
            let topics = self.topics();
            topics.apply(RULES);
            let (child, _) = topics.run(0);
            let ours = trickle(&topics, &topics.config.topics.jobs, seconds);
            topics.stop(child);
            let topics = self.topics();
            let sink = format!("{}-sink", topics.config.topics.events);
            make_topic(&topics.config, &sink);
            let mut loops = Command::new(std::env::current_exe().unwrap())
                .arg("bare")
                .arg(&topics.file)
                .args([&sink, "1000000000", "1", "400", "0", "true"])
                .stdout(Stdio::null())
                .spawn()
                .unwrap();
            let bare = trickle(&topics, &sink, seconds);
            loops.kill().unwrap();
            loops.wait().unwrap();
            println!(
                "latency, round {round}: leadlane p50 {:.1} ms, p99 {:.1} ms; bare loop p50 {:.1} ms, p99 {:.1} ms",
                ours.0, ours.1, bare.0, bare.1
            );
            ratios[0].push(ours.0 / bare.0);
            ratios[1].push(ours.1 / bare.1);
        }
        let [p50, p99] = ratios;
        print_ratio("event produced to job readable, p50, ÷ the bare loop", p50.into_iter());
        print_ratio("event produced to job readable, p99, ÷ the bare loop", p99.into_iter());
    }
}

/// The median of ratios, with the least and the largest.
fn print_ratio(what: &str, ratios: impl Iterator<Item = f64>) {
    let mut ratios: Vec<f64> = ratios.collect();
    ratios.sort_by(f64::total_cmp);
    println!(
        "{what}: median {:.2} ({:.2} to {:.2})",
        ratios[ratios.len() / 2],
        ratios[0],
        ratios[ratios.len() - 1]
    );
}

/// The bare loop in its own process: it prints the CPU seconds that it took.
fn bare_of(arguments: &[String]) {
    let [file, sink, count, share, size, interval, is_transactional] = arguments else {
        panic!("bare CONFIG SINK COUNT SHARE SIZE INTERVAL TRANSACTIONAL");
    };
    let config = Config::parse("bench", &std::fs::read_to_string(file).unwrap(), []).unwrap();
    let shape = Shape {
        share: share.parse().unwrap(),
        size: size.parse().unwrap(),
        interval: Duration::from_millis(interval.parse().unwrap()),
        is_transactional: is_transactional.parse().unwrap(),
    };
    bare::run(&config, &config.topics.events, sink, count.parse().unwrap(), shape);
    println!("{}", Usage::of(std::process::id()).cpu);
}

/// What a process uses.
struct Usage {
    /// Seconds.
    cpu: f64,
    /// The most that was resident, in MB.
    memory: u64,
    /// What is resident now, in MB.
    resident: u64,
}

impl Usage {
    fn of(process: u32) -> Self {
        let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
        let megabytes = |name: &str| -> u64 {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
        };
        let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
        let ticks: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        Self {
            cpu: (ticks[11].parse::<f64>().unwrap() + ticks[12].parse::<f64>().unwrap()) / 100.0,
            memory: megabytes("VmHWM:"),
            resident: megabytes("VmRSS:"),
        }
    }
}

fn free_port() -> u16 {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    free.local_addr().unwrap().port()
}

/// A set of topics, and the configuration that names them.
struct Topics {
    config: Config,
    file: PathBuf,
    dir: PathBuf,
    admin: u16,
    wanted: u64,
}

impl Topics {
    fn of(bench: &Bench, events: &str, yaml: &str) -> Self {
        let made = bench.made.fetch_add(1, Ordering::Relaxed);
        let run = format!("bench-{}-{made}", std::process::id());
        let admin = free_port();
        let text = format!(
            "kafka: {{brokers: '{}', group: {run}}}\nadmin: {{listen: '127.0.0.1:{admin}'}}\nprocessor: {{instance: {run}}}\n\
             clevertap: {{accounts: {{acme: {{region: in1, account_id: A, passcode: {{secret: acme}}}}}}}}\n\
             topics: {{events: {events}, rules: {run}-rules, jobs: {run}-jobs, outcomes: {run}-outcomes, dead_letters: {run}-dead, audit: {run}-audit}}\n{yaml}\n",
            bench.brokers,
        );
        let file = bench.dir.join(format!("{run}.yaml"));
        std::fs::write(&file, &text).unwrap();
        Self {
            config: Config::parse("bench", &text, []).unwrap(),
            file,
            dir: bench.dir.clone(),
            admin,
            wanted: 0,
        }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_leadlane"));
        command
            .arg("--config")
            .arg(&self.file)
            .args(arguments)
            .stdout(Stdio::null());
        command
    }

    fn leadlane(&self, arguments: &[&str]) {
        let status = self.command(arguments).stderr(Stdio::null()).status().unwrap();
        assert!(status.success(), "leadlane {arguments:?}");
    }

    fn apply(&self, rules: usize) {
        let file: &Path = &self.dir.join(format!("rules-{rules}.yaml"));
        if !file.exists() {
            std::fs::write(file, events::rules(rules)).unwrap();
        }
        self.leadlane(&["rules", "apply", file.to_str().unwrap()]);
    }

    /// Starts the processor and waits until it has committed so many jobs, or is ready.
    fn run(&self, wanted: u64) -> (Child, Duration) {
        let child = self
            .command(&["run", "--role", "processor"])
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let began = Instant::now();
        let is_done = || match wanted {
            0 => is_ready(self.admin),
            _ => committed(self.admin) >= wanted,
        };
        while !is_done() {
            assert!(
                began.elapsed() < Duration::from_secs(180),
                "only {} of {wanted} jobs were committed",
                committed(self.admin)
            );
            std::thread::sleep(Duration::from_millis(50));
        }
        (child, began.elapsed())
    }

    fn stop(&self, mut child: Child) {
        Command::new("kill").arg(child.id().to_string()).status().unwrap();
        assert!(child.wait().unwrap().success());
    }
}

/// Whether the process that serves this port is ready.
fn is_ready(admin: u16) -> bool {
    get(admin, "/readyz").starts_with("HTTP/1.1 200")
}

/// The jobs that it has committed.
fn committed(admin: u16) -> u64 {
    let text = get(admin, "/metrics");
    let mut lines = text.lines();
    let value = lines.find_map(|line| line.strip_prefix("leadlane_jobs_committed_total "));
    value.and_then(|value| value.parse().ok()).unwrap_or(0)
}

fn get(admin: u16, path: &str) -> String {
    use std::io::{Read, Write};
    let Ok(mut stream) = std::net::TcpStream::connect(("127.0.0.1", admin)) else {
        return String::new();
    };
    let mut text = String::new();
    drop(stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes()));
    drop(stream.read_to_string(&mut text));
    text
}

fn until(what: &str, so: impl Fn() -> bool) {
    let until = Instant::now() + Duration::from_secs(180);
    while !so() {
        assert!(Instant::now() < until, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// How many committed records a topic has, the seconds from the first to the last, and their bytes.
fn span(config: &Config, topic: &str) -> (u64, f64, usize) {
    let (mut count, mut first, mut last, mut bytes) = (0, i64::MAX, i64::MIN, 0);
    reader::read_whole(config, topic, |record| {
        count += 1;
        bytes += record.value.as_ref().map_or(0, Vec::len);
        (first, last) = (first.min(record.timestamp), last.max(record.timestamp));
        true
    })
    .unwrap();
    (count, (last - first).max(1) as f64 / 1000.0, bytes)
}

/// Produces 200 events a second, each of which makes one record of `output`: p50 and p99 in ms, from an event's producing to
/// its record.
fn trickle(topics: &Topics, output: &str, seconds: u64) -> (f64, f64) {
    const EVERY: Duration = Duration::from_millis(5);
    let (warm, count) = (100, seconds * 200);
    let partitions: Vec<_> = (0..bare::PARTITIONS).map(|partition| (partition, None)).collect();
    let reader = Reader::assign(&topics.config, output, &partitions, Isolation::Committed).unwrap();
    let producer = Producer::new(&topics.config, 1_000_000).unwrap();
    let mut rng = fastrand::Rng::with_seed(5);
    let began = Instant::now();
    let produce = || {
        for number in 0..warm + count {
            std::thread::sleep((EVERY * number as u32).saturating_sub(began.elapsed()));
            // Rule 10 alone, of product 5, takes it.
            let text = events::event(number, &mut rng);
            let mut event: serde_json::Value = serde_json::from_str(&text).unwrap();
            event["trigger"] = "lms.lead_sold".into();
            event["product"]["id"] = "5".into();
            event["publisher"]["id"] = "p3".into();
            event["price"] = "99".into();
            let (key, value) = ((84_000_000 + number).to_string(), event.to_string());
            let record = Record {
                topic: &topics.config.topics.events,
                partition: None,
                key: key.as_bytes(),
                value: Some(value.as_bytes()),
                headers: OwnedHeaders::new(),
            };
            producer.write(&record, |ack| assert!(ack.is_ok()));
        }
    };
    let mut seen: HashMap<u64, Duration> = HashMap::new();
    std::thread::scope(|scope| {
        scope.spawn(produce);
        while (seen.len() as u64) < warm + count {
            match reader.next(Duration::from_secs(30)) {
                Next::Record(record) => {
                    // A job is keyed by its credential and names its event; the bare loop keeps the key.
                    let number = match record.header("event-id") {
                        Some(id) if output == topics.config.topics.jobs => id[24..].parse::<u64>().unwrap(),
                        _ => String::from_utf8(record.key.unwrap()).unwrap().parse::<u64>().unwrap() - 84_000_000,
                    };
                    seen.insert(number, began.elapsed());
                }
                Next::End(_) => {}
                Next::Denied(why) => panic!("{why}"),
                Next::Nothing => panic!("{} of {} records came", seen.len(), warm + count),
            }
        }
    });
    let late = |number: u64| seen[&number].saturating_sub(EVERY * number as u32).as_secs_f64() * 1000.0;
    let mut latencies: Vec<f64> = (warm..warm + count).map(late).collect();
    latencies.sort_by(f64::total_cmp);
    (latencies[latencies.len() / 2], latencies[latencies.len() * 99 / 100])
}

fn make_topic(config: &Config, name: &str) {
    let admin: rdkafka::admin::AdminClient<_> = bare::client(config, &[]).create().unwrap();
    let topic = rdkafka::admin::NewTopic::new(name, bare::PARTITIONS, rdkafka::admin::TopicReplication::Fixed(1));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime
        .block_on(admin.create_topics([&topic], &rdkafka::admin::AdminOptions::new()))
        .unwrap();
}
