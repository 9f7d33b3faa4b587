//! The processor beside a bare transactional loop, on a real Kafka, in turns.
//!
//! 500,000 JSON events of about 900 B wait in 4 partitions; 100 rules, of which one or two hold for 22 % of
//! them. A is `leadlane run --role processor`; B consumes the same events in transactions of 50 ms and copies the
//! first 400 B of every fifth. A rate is events by the time from the first output record to the last. The numbers of
//! A's jobs must be exact; times never fail the run. See benches/README.md.

#![allow(clippy::unwrap_used, reason = "a bench that panics says why")]
#![allow(clippy::disallowed_methods, reason = "a bench is set up by variables")]

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use leadlane::config::Config;
use leadlane::kafka::producer::{Producer, Record};
use leadlane::kafka::reader;
use leadlane::lead::decode::decode;
use leadlane::lead::schemas::Schemas;
use leadlane::rules::Rule;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};

const ROUNDS: usize = 3;
const TRIGGERS: [&str; 2] = ["lms.lead_sold", "lms.campaign_sold"];

fn main() {
    let brokers =
        std::env::var("LEADLANE_TEST_KAFKA").expect("LEADLANE_TEST_KAFKA names a Kafka; see benches/README.md");
    let count: u64 = std::env::var("LEADLANE_BENCH_EVENTS").map_or(500_000, |count| count.parse().unwrap());
    let dir = std::env::temp_dir().join(format!("leadlane-bench-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let rules = rules();
    std::fs::write(dir.join("rules.yaml"), &rules).unwrap();
    let first = Bench::new(&brokers, &dir, 0);
    let wanted = fill(&first.config, count, &rules);
    println!("{count} events wait; {wanted} jobs are wanted");
    let mut ratios = Vec::new();
    for round in 0..ROUNDS {
        let bare = bare(&first.config, count, round);
        let bench = Bench::new(&brokers, &dir, round);
        let (ours, memory, cpu) = bench.run(count, wanted);
        ratios.push(ours / bare);
        println!(
            "round {round}: leadlane {ours:.0} events/s, bare loop {bare:.0} events/s, ratio {:.2}; peak memory {memory} MB, {:.1} µs CPU an event",
            ours / bare,
            cpu * 1e6 / count as f64
        );
    }
    ratios.sort_by(f64::total_cmp);
    println!("median ratio {:.2} (the goal is 0.2)", ratios[ROUNDS / 2]);
    std::fs::remove_dir_all(dir).unwrap();
}

/// 100 rules: trigger, product, for 30 of them a publisher too, and a price.
fn rules() -> String {
    let mut rules = String::new();
    for number in 0..100 {
        let publisher = if number % 10 < 3 {
            format!(", publisher: [p{}]", number % 7)
        } else {
            String::new()
        };
        rules.push_str(&format!(
            "- {{id: rule-{number}, trigger: {}, scope: {{level: product, id: '{}'}}, filters: {{price: {{gte: {}}}{publisher}}}, \
             action: {{type: slack_message, token: {{secret: bot}}, to: {{channel: C{}}}, text: 'Lead {{{{$.lead_id}}}} sold to {{{{$.buyer.name}}}} for {{{{$.price | money}}}}'}}}}\n",
            TRIGGERS[number % 2],
            number / 2,
            20 + number % 40,
            number % 9,
        ));
    }
    rules
}

fn event(number: u64, rng: &mut fastrand::Rng) -> String {
    // Two rules of each product have a trigger each; four events in ten have another trigger.
    let trigger = if rng.u8(..100) < 40 {
        TRIGGERS[rng.usize(..2)]
    } else {
        "lms.campaign_rejected"
    };
    serde_json::json!({
        "event_id": format!("0190f3c2-6f7b-7c11-9a55-{number:012}"), "trigger": trigger, "occurred_at": "2026-03-05T15:16:00.123Z",
        "lead_id": format!("{}", 84_000_000 + number), "public_lead_id": "K7Q2M9", "status": "Sold", "is_test": false, "method": "POST",
        "product": {"id": rng.u8(..50).to_string(), "name": "Auto Insurance"}, "publisher": {"id": format!("p{}", rng.u8(..7)), "name": "BrightTraffic"},
        "channel": {"id": "9012", "name": "bt-auto-api"}, "source": {"id": "sub-77", "name": null}, "buyer": {"id": "210", "name": "SafeDrive"},
        "campaign": {"id": "5521", "name": "SafeDrive TX 25-65"}, "pingtree": {"id": "31", "name": "Auto main"},
        "price": format!("{}.{:02}00", rng.u8(..100), rng.u8(..100)), "payout": "29.7500", "revenue": null, "currency": "USD",
        "consumer": {"first_name": "Ana", "last_name": "Diaz", "email": "ana@example.com", "phone": "+15125550123", "city": "Austin", "state": "TX", "zip": "78701", "country": "US"},
        "call": null, "fields": {"vehicle_year": "2019", "currently_insured": "yes", "landing_page": "https://quotes.example.com/auto/start?src=bt&sub=77"},
    })
    .to_string()
}

/// Puts the events where they wait, and counts the jobs that a naive scan wants.
fn fill(config: &Config, count: u64, rules: &str) -> u64 {
    let entries = leadlane::yaml::entries(rules).unwrap();
    let rules: Vec<Rule> = entries
        .iter()
        .map(|entry| Rule::from_json(&entry.value).unwrap())
        .collect();
    let producer = Producer::new(config, 1_000_000).unwrap();
    let (mut rng, schemas, mut wanted) = (fastrand::Rng::with_seed(11), Schemas::new(), 0);
    for number in 0..count {
        let text = event(number, &mut rng);
        let decoded = decode(text.as_bytes(), &schemas).unwrap();
        wanted += rules.iter().filter(|rule| rule.explain(&decoded).is_empty()).count() as u64;
        let headers = rdkafka::message::OwnedHeaders::new();
        let record = Record {
            topic: &config.topics.events,
            partition: None,
            key: decoded.lead_id.as_bytes(),
            value: Some(text.as_bytes()),
            headers,
        };
        producer.write(&record, |ack| assert!(ack.is_ok()));
    }
    assert!(producer.flush(Duration::from_secs(120)));
    wanted
}

struct Bench {
    config: Config,
    file: std::path::PathBuf,
    admin: u16,
}

impl Bench {
    /// The events are the same in every round; group and outputs are new.
    fn new(brokers: &str, dir: &std::path::Path, round: usize) -> Self {
        let run = format!("bench-{}", std::process::id());
        let admin = std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let topic = |name: &str| format!("{run}-{round}-{name}");
        let text = format!(
            "kafka: {{brokers: '{brokers}', group: {run}-{round}}}\nadmin: {{listen: '127.0.0.1:{admin}'}}\nprocessor: {{instance: {run}-{round}}}\n\
             topics: {{events: {run}-events, rules: {}, jobs: {}, outcomes: {}, dead_letters: {}, audit: {}}}\n",
            topic("rules"),
            topic("jobs"),
            topic("outcomes"),
            topic("dead"),
            topic("audit")
        );
        let file = dir.join(format!("round-{round}.yaml"));
        std::fs::write(&file, &text).unwrap();
        let bench = Self {
            config: Config::parse("bench", &text, []).unwrap(),
            file,
            admin,
        };
        bench.leadlane(&["topics", "create", "--partitions", "4"]);
        bench.leadlane(&["rules", "apply", dir.join("rules.yaml").to_str().unwrap()]);
        bench
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
        assert!(
            self.command(arguments).status().unwrap().success(),
            "leadlane {arguments:?}"
        );
    }

    /// Runs the processor until all jobs are committed: events a second, peak MB, CPU seconds.
    fn run(&self, count: u64, wanted: u64) -> (f64, u64, f64) {
        let mut child = self
            .command(&["run", "--role", "processor"])
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let began = Instant::now();
        while self.committed() < wanted {
            assert!(
                began.elapsed() < Duration::from_secs(180),
                "only {} of {wanted} jobs were committed",
                self.committed()
            );
            std::thread::sleep(Duration::from_millis(100));
        }
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        let peak: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap();
        let ticks: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        let cpu = (ticks[11].parse::<f64>().unwrap() + ticks[12].parse::<f64>().unwrap()) / 100.0;
        Command::new("kill").arg(child.id().to_string()).status().unwrap();
        assert!(child.wait().unwrap().success());
        let (jobs, seconds) = span(&self.config, &self.config.topics.jobs);
        assert_eq!(jobs, wanted, "each match is there once");
        (count as f64 / seconds, peak / 1024, cpu)
    }

    fn committed(&self) -> u64 {
        use std::io::{Read, Write};
        let Ok(mut stream) = std::net::TcpStream::connect(("127.0.0.1", self.admin)) else {
            return 0;
        };
        let mut text = String::new();
        drop(stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"));
        drop(stream.read_to_string(&mut text));
        let value = text
            .lines()
            .find_map(|line| line.strip_prefix("leadlane_jobs_committed_total "));
        value.and_then(|value| value.parse().ok()).unwrap_or(0)
    }
}

/// How many committed records a topic has, and the seconds from the first to the last.
fn span(config: &Config, topic: &str) -> (u64, f64) {
    let (mut count, mut first, mut last) = (0, i64::MAX, i64::MIN);
    reader::read_whole(config, topic, |record| {
        count += 1;
        (first, last) = (first.min(record.timestamp), last.max(record.timestamp));
        true
    })
    .unwrap();
    (count, (last - first).max(1) as f64 / 1000.0)
}

/// The bare loop, with the settings that Leadlane has.
fn bare(config: &Config, count: u64, round: usize) -> f64 {
    let sink = format!("{}-sink-{round}", config.topics.events);
    let client = |pairs: &[(&str, &str)]| client(config, pairs);
    make_topic(config, &sink);
    let consumer: BaseConsumer = client(&[
        ("group.id", &sink),
        ("isolation.level", "read_committed"),
        ("enable.auto.commit", "false"),
        ("auto.offset.reset", "earliest"),
        ("fetch.queue.backoff.ms", "5"),
    ])
    .create()
    .unwrap();
    let producer: BaseProducer = client(&[
        ("transactional.id", &sink),
        ("retry.backoff.ms", "1"),
        ("linger.ms", "5"),
        ("compression.type", "lz4"),
    ])
    .create()
    .unwrap();
    producer.init_transactions(Duration::from_secs(30)).unwrap();
    consumer.subscribe(&[&config.topics.events]).unwrap();
    let mut seen = 0;
    while seen < count {
        producer.begin_transaction().unwrap();
        let mut offsets = std::collections::BTreeMap::new();
        let mut due = None;
        while due.is_none_or(|due| Instant::now() < due) && seen < count {
            let Some(message) = consumer.poll(Duration::from_millis(10)) else {
                continue;
            };
            let message = message.unwrap();
            due.get_or_insert_with(|| Instant::now() + Duration::from_millis(50));
            offsets.insert(message.partition(), message.offset() + 1);
            if seen % 5 == 0 {
                let mut record = BaseRecord::to(&sink)
                    .key("k")
                    .payload(&message.payload().unwrap()[..400]);
                while let Err((_, back)) = producer.send(record) {
                    producer.poll(Duration::from_millis(1));
                    record = back;
                }
            }
            seen += 1;
        }
        let mut list = TopicPartitionList::new();
        offsets.iter().for_each(|(partition, next)| {
            list.add_partition_offset(&config.topics.events, *partition, Offset::Offset(*next))
                .unwrap()
        });
        while producer.in_flight_count() > 0 {
            producer.poll(Duration::from_micros(200));
        }
        producer
            .send_offsets_to_transaction(&list, &consumer.group_metadata().unwrap(), Duration::from_secs(10))
            .unwrap();
        producer.commit_transaction(Duration::from_secs(10)).unwrap();
    }
    let (records, seconds) = span(config, &sink);
    assert_eq!(records, count.div_ceil(5));
    count as f64 / seconds
}

fn client(config: &Config, pairs: &[(&str, &str)]) -> ClientConfig {
    let mut client = ClientConfig::new();
    client.set("bootstrap.servers", &config.kafka.brokers);
    for (name, value) in pairs {
        client.set(*name, *value);
    }
    client
}

fn make_topic(config: &Config, name: &str) {
    let admin: rdkafka::admin::AdminClient<_> = client(config, &[]).create().unwrap();
    let topic = rdkafka::admin::NewTopic::new(name, 4, rdkafka::admin::TopicReplication::Fixed(1));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime
        .block_on(admin.create_topics([&topic], &rdkafka::admin::AdminOptions::new()))
        .unwrap();
}
