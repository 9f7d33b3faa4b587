//! The desk at its full size, over a real Kafka: how long the server takes for each page and each reading call of the
//! API, how many bytes it answers, and what the process takes of memory.
//!
//! 100,000 rules with their audit, 10,000 events, a million deliveries, 5,000 jobs that wait and 1,000 dead letters are
//! written to topics; `leadlane run --role admin` reads them. A second one, of empty topics, answers the same questions in
//! turns. Every answer must be the right one, and no page and no call may be left out; times never fail the run. See
//! benches/README.md.

#![allow(clippy::unwrap_used, reason = "a bench that panics says why")]
#![allow(clippy::disallowed_methods, reason = "a bench is set up by variables")]
#![allow(clippy::too_many_lines, reason = "lists of what is asked and written")]

use std::collections::{BTreeMap, BTreeSet};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use leadlane::config::Config;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use serde_json::{Value, json};

use filling::{BUSY_LEAD, event, lead, matched, rule, rule_id};

#[path = "../tests/filling.rs"]
mod filling;

const EVENTS: usize = 10_000;
const LETTERS: usize = 1_000;
const WAITING: usize = 5_000;
/// Rules that were changed within the last day.
const CHANGED: usize = 200;
const PARTITIONS: usize = 4;
const HOUR: i64 = 3_600_000;
/// The goals: milliseconds of server time, bytes of a page, and bytes of the process.
const MILLIS_MAX: f64 = 100.0;
const PAGE_MAX: usize = 150_000;
const MEMORY_MAX: u64 = 400_000_000;

fn main() {
    let brokers =
        std::env::var("LEADLANE_TEST_KAFKA").expect("LEADLANE_TEST_KAFKA names a Kafka; see benches/README.md");
    let number = |name: &str, or: usize| std::env::var(name).map_or(or, |count| count.parse().unwrap());
    let sizes = Sizes {
        rules: number("LEADLANE_BENCH_RULES", 100_000),
        deliveries: number("LEADLANE_BENCH_DELIVERIES", 1_000_000).max(EVENTS),
    };
    let rounds = number("LEADLANE_BENCH_ROUNDS", 100);
    let only = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    let (full, empty) = (Desk::new(&brokers, "full"), Desk::new(&brokers, "empty"));
    let began = Instant::now();
    let filled = full.fill(&sizes);
    println!("the topics were filled in {:.0?}", began.elapsed());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let client = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .unwrap();
    let empty_server = empty.start();
    runtime.block_on(empty.until_read(&client));
    let server = full.start();
    let began = Instant::now();
    runtime.block_on(full.until_read(&client));
    println!("a desk that starts has read them after {:.0?}", began.elapsed());
    println!("memory, after it has read: {}", server.memory());
    runtime.block_on(all_are_asked(&full, &client, &filled));
    println!("\n| | p50 | p99 | CPU | an empty desk's p50 | ratio | KB | |\n|---|---|---|---|---|---|---|---|");
    let mut over = Vec::new();
    for asked in questions(&filled) {
        if only.as_deref().is_some_and(|only| !asked.path.contains(only)) {
            continue;
        }
        let (mut times, mut beside, mut bytes) = (Vec::new(), Vec::new(), 0);
        let rounds = if asked.is_file() { rounds.min(3) } else { rounds };
        let cpu = server.cpu();
        // The first round warms up.
        for round in 0..=rounds {
            let (took, status, length) = runtime.block_on(full.ask(&client, &asked));
            assert!(status < 400, "{} was answered {status}", asked.path);
            let (took_empty, status_empty, _) = runtime.block_on(empty.ask(&client, &asked));
            if round > 0 {
                times.push(took);
                beside.extend((status_empty == status).then_some(took_empty));
                bytes = length.max(bytes);
            }
        }
        let cpu = (server.cpu() - cpu) / (rounds + 1) as f64;
        let (p50, p99) = (at(&mut times, 0.5), at(&mut times, 0.99));
        let empty = (!beside.is_empty()).then(|| at(&mut beside, 0.5));
        let is_over = !asked.is_file() && (p99 > MILLIS_MAX || (!asked.is_call() && bytes > PAGE_MAX));
        println!(
            "| `{} {}` | {p50:.1} ms | {p99:.1} ms | {cpu:.0} ms | {} | {} | {:.0} | {} |",
            asked.method(),
            asked.path,
            empty.map_or_else(String::new, |empty| format!("{empty:.1} ms")),
            empty.map_or_else(String::new, |empty| format!("{:.1}", p50 / empty)),
            bytes as f64 / 1e3,
            if is_over { "over" } else { "" }
        );
        over.extend(is_over.then_some(asked.path));
    }
    println!("\ngoals: {MILLIS_MAX} ms; {} KB a page", PAGE_MAX / 1000);
    println!(
        "over: {}",
        if over.is_empty() {
            "none".to_owned()
        } else {
            over.join(", ")
        }
    );
    println!(
        "memory, after all of it: {}, the goal is {} MB",
        server.memory(),
        MEMORY_MAX / 1_000_000
    );
    println!("memory of the empty desk: {}", empty_server.memory());
}

/// A share of some times.
fn at(times: &mut [f64], share: f64) -> f64 {
    times.sort_by(f64::total_cmp);
    times[((times.len() - 1) as f64 * share).round() as usize]
}

struct Sizes {
    rules: usize,
    deliveries: usize,
}

/// What the topics hold that is asked for by name.
struct Filled {
    rule: String,
    /// A rule that is on trial.
    trial: String,
    job: String,
    lead: String,
}

/// A page or a call.
#[derive(Debug, Clone)]
struct Asked {
    path: String,
    body: Option<Value>,
}

impl Asked {
    fn is_call(&self) -> bool {
        self.path.starts_with("/api/")
    }

    /// All rules at once: somebody waits for a file.
    fn is_file(&self) -> bool {
        self.path.ends_with("/export")
    }

    fn method(&self) -> &'static str {
        if self.body.is_some() { "POST" } else { "GET" }
    }
}

/// Everything that is asked: each page, each call that reads, and what has to be looked for longest.
fn questions(filled: &Filled) -> Vec<Asked> {
    let Filled { rule, trial, job, lead } = filled;
    let none = "slack:sales-bot/C-NONE";
    let one = "slack:sales-bot/C00000007";
    let paths = [
        "/".to_owned(),
        "/?span=hour".to_owned(),
        "/?span=week".to_owned(),
        "/rules".to_owned(),
        "/rules?page=500".to_owned(),
        "/rules?text=product+99".to_owned(),
        "/rules?text=nothing+has+this".to_owned(),
        "/rules?status=shadow".to_owned(),
        "/rules?status=cant-send".to_owned(),
        "/rules?sort=name".to_owned(),
        "/rules?sort=matched".to_owned(),
        "/rules/new".to_owned(),
        format!("/rules/{rule}"),
        format!("/rules/{trial}"),
        format!("/rules/{rule}/yaml"),
        format!("/rules/{rule}/versions"),
        "/rules/import".to_owned(),
        "/rules/export".to_owned(),
        "/why".to_owned(),
        format!("/why?lead={lead}"),
        format!("/why?lead={BUSY_LEAD}"),
        "/why?lead=nobody".to_owned(),
        "/deliveries".to_owned(),
        format!("/deliveries?rule={rule}"),
        format!("/deliveries?lane={one}"),
        format!("/deliveries?lane={none}"),
        "/deliveries?result=cancelled".to_owned(),
        "/deliveries?result=waiting".to_owned(),
        "/deliveries?result=shadowed".to_owned(),
        format!("/deliveries?rule={rule}&result=retry"),
        format!("/deliveries?lead={lead}"),
        format!("/deliveries?lead={BUSY_LEAD}"),
        format!("/deliveries/{job}"),
        "/lanes".to_owned(),
        "/lanes/pause-all".to_owned(),
        "/dead-letters".to_owned(),
        "/dead-letters?reason=gave_up".to_owned(),
        "/dead-letters/0-3".to_owned(),
        "/inlets".to_owned(),
        "/audit".to_owned(),
        format!("/audit?rule={rule}"),
        "/audit?who=nobody".to_owned(),
        "/status".to_owned(),
        "/search?q=".to_owned(),
        "/search?q=product+99".to_owned(),
        "/search?q=zzz".to_owned(),
        format!("/search?q={lead}"),
        "/login".to_owned(),
        "/api/v1/rules".to_owned(),
        "/api/v1/rules?limit=1000".to_owned(),
        "/api/v1/rules?text=nothing+has+this".to_owned(),
        "/api/v1/rules/export".to_owned(),
        format!("/api/v1/rules/{rule}"),
        format!("/api/v1/rules/{rule}/versions"),
        "/api/v1/deliveries".to_owned(),
        "/api/v1/deliveries?limit=1000".to_owned(),
        format!("/api/v1/deliveries?rule={rule}"),
        "/api/v1/deliveries?result=cancelled".to_owned(),
        format!("/api/v1/deliveries/{job}"),
        "/api/v1/events".to_owned(),
        "/api/v1/events?lead_id=nobody".to_owned(),
        "/api/v1/events?matched=false".to_owned(),
        format!("/api/v1/leads/{lead}"),
        format!("/api/v1/leads/{BUSY_LEAD}"),
        "/api/v1/dead-letters".to_owned(),
        "/api/v1/dead-letters/0-3".to_owned(),
        "/api/v1/audit".to_owned(),
        "/api/v1/audit?who=nobody".to_owned(),
        "/api/v1/inlets".to_owned(),
        "/api/v1/lanes".to_owned(),
        "/api/v1/lanes/*".to_owned(),
        "/api/v1/status".to_owned(),
        "/api/v1/openapi.json".to_owned(),
    ];
    let mut asked: Vec<Asked> = paths.map(|path| Asked { path, body: None }).into();
    asked.push(Asked {
        path: "/api/v1/rules/match-recent".to_owned(),
        body: Some(json!({"rule": written(7)})),
    });
    asked
}

fn written(number: usize) -> Value {
    serde_json::from_slice(rule(number, 0).value.as_deref().unwrap()).unwrap()
}

/// Each page that leads from another, and each reading call of the API, is among the questions.
async fn all_are_asked(desk: &Desk, client: &reqwest::Client, filled: &Filled) {
    let asked: BTreeSet<String> = questions(filled)
        .into_iter()
        .map(|asked| asked.path.split('?').next().unwrap().to_owned())
        .collect();
    let home = desk.text(client, "/").await;
    let links = home
        .split("href=\"/")
        .skip(1)
        .map(|rest| rest.split(['"', '?', '#']).next().unwrap());
    let pages: BTreeSet<String> = links
        .filter(|path| !path.contains('/'))
        .map(|path| format!("/{path}"))
        .collect();
    assert!(
        pages.len() > 8 && pages.is_subset(&asked),
        "{:?}",
        pages.difference(&asked)
    );
    let api: Value = serde_json::from_str(&desk.text(client, "/api/v1/openapi.json").await).unwrap();
    for (path, calls) in api["paths"].as_object().unwrap() {
        let Some(read) = calls.get("get") else { continue };
        let path = format!("/api/v1{}", path.trim_start_matches("/api/v1"));
        let is_it = |asked: &str| {
            let (one, other) = (path.split('/'), asked.split('/'));
            let parts = || one.clone().zip(other.clone());
            one.clone().count() == other.clone().count()
                && parts().all(|(one, other)| one.starts_with('{') || one == other)
        };
        // A path without parameters is not one of those with them.
        let exact = asked.contains(&path);
        let of_it = |asked: &&String| if exact { **asked == path } else { is_it(asked) };
        assert!(asked.iter().any(|asked| of_it(&asked)), "{path} isn't asked");
        let known = read["parameters"].as_array().map(Vec::as_slice).unwrap_or_default();
        for filtered in questions(filled) {
            let Some((asked, query)) = filtered.path.split_once('?') else {
                continue;
            };
            let names = form(query);
            let is_known = |name: &String| known.iter().any(|known| known["name"] == name.as_str());
            assert!(
                !of_it(&&asked.to_owned()) || names.iter().all(is_known),
                "{} has an unknown filter",
                filtered.path
            );
        }
    }
}

/// The names of a query's fields.
fn form(query: &str) -> Vec<String> {
    query
        .split('&')
        .map(|field| field.split('=').next().unwrap().to_owned())
        .collect()
}

/// An admin process with topics of its own.
struct Desk {
    dir: std::path::PathBuf,
    config: Config,
    brokers: String,
    url: String,
}

impl Desk {
    fn new(brokers: &str, name: &str) -> Self {
        let run = format!("bench-desk-{}-{name}", std::process::id());
        let dir = std::env::temp_dir().join(&run);
        std::fs::create_dir_all(&dir).unwrap();
        let listen = std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        let topics = ["events", "rules", "jobs", "outcomes", "dead_letters", "audit"];
        let topics: Vec<String> = topics.iter().map(|name| format!("{name}: {run}-{name}")).collect();
        let text = format!(
            "kafka: {{brokers: '{brokers}', group: {run}}}\nadmin: {{listen: '{listen}'}}\ntopics: {{{}}}\n",
            topics.join(", ")
        );
        std::fs::write(dir.join("leadlane.yaml"), &text).unwrap();
        let desk = Self {
            config: Config::parse("bench", &text, []).unwrap(),
            brokers: brokers.to_owned(),
            url: format!("http://{listen}"),
            dir,
        };
        let partitions = PARTITIONS.to_string();
        let made = desk
            .command(&["topics", "create", "--partitions", &partitions])
            .status();
        assert!(made.unwrap().success());
        desk
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_leadlane"));
        command
            .arg("--config")
            .arg(self.dir.join("leadlane.yaml"))
            .args(arguments);
        command.stdout(Stdio::null());
        command
    }

    fn start(&self) -> Server {
        let log = std::fs::File::create(self.dir.join("log")).unwrap();
        Server(self.command(&["run", "--role", "admin"]).stderr(log).spawn().unwrap())
    }

    async fn text(&self, client: &reqwest::Client, path: &str) -> String {
        client
            .get(format!("{}{path}", self.url))
            .send()
            .await
            .unwrap()
            .text()
            .await
            .unwrap()
    }

    /// Waits until every topic was read to its end.
    async fn until_read(&self, client: &reqwest::Client) {
        let until = Instant::now() + Duration::from_secs(1800);
        loop {
            assert!(
                Instant::now() < until,
                "the desk hasn't read its topics; see {}",
                self.dir.join("log").display()
            );
            tokio::time::sleep(Duration::from_millis(200)).await;
            let Ok(answer) = client.get(format!("{}/api/v1/status", self.url)).send().await else {
                continue;
            };
            let Ok(status) = serde_json::from_str::<Value>(&answer.text().await.unwrap()) else {
                continue;
            };
            let reach = status["reach"].as_array().expect("how far each topic is read");
            if reach.iter().all(|of| of["caught_up"] == true) {
                return;
            }
        }
    }

    /// Asks once: the milliseconds until all of the answer is there, its status, and its bytes.
    async fn ask(&self, client: &reqwest::Client, asked: &Asked) -> (f64, u16, usize) {
        let url = format!("{}{}", self.url, asked.path);
        let request = match &asked.body {
            None => client.get(url),
            Some(body) => client
                .post(url)
                .header("content-type", "application/json")
                .body(body.to_string()),
        };
        let began = Instant::now();
        let answer = request.send().await.unwrap();
        let status = answer.status().as_u16();
        let bytes = answer.bytes().await.unwrap().len();
        (began.elapsed().as_secs_f64() * 1e3, status, bytes)
    }

    /// Writes everything that the desk reads.
    fn fill(&self, sizes: &Sizes) -> Filled {
        let now = leadlane::app::now_millis();
        let writer = Writer::new(&self.brokers);
        let topics = &self.config.topics;
        let rules_at = now - 10 * 24 * HOUR;
        for number in 0..sizes.rules {
            let record = rule(number, rules_at);
            writer.put(
                &topics.rules,
                None,
                rules_at,
                record.key.as_deref(),
                record.value.as_deref().unwrap(),
                &[],
            );
            self.audit(&writer, number, rules_at);
        }
        // A tenth more than the desk keeps.
        let all = sizes.deliveries + sizes.deliveries / 10;
        let step = 22 * HOUR / all as i64;
        let when = |number: usize| now - (all - number) as i64 * step;
        for number in all - EVENTS..all {
            let record = event(number, when(number));
            writer.put(
                &topics.events,
                None,
                record.timestamp,
                None,
                record.value.as_deref().unwrap(),
                &[],
            );
        }
        for number in (0..CHANGED.min(sizes.rules)).map(|number| number * sizes.rules / CHANGED) {
            let record = rule(number, when(all - EVENTS / 2));
            writer.put(
                &topics.rules,
                None,
                record.timestamp,
                record.key.as_deref(),
                record.value.as_deref().unwrap(),
                &[],
            );
            self.audit(&writer, number, record.timestamp);
        }
        // By partition, how many jobs and outcomes stand there, and those up to the first job that waits.
        let (mut jobs, mut outcomes) = ([0_i64; PARTITIONS], [0_i64; PARTITIONS]);
        let mut settled = BTreeMap::new();
        let mut last = String::new();
        for number in 0..all {
            let (partition, matched) = (number % PARTITIONS, matched(number, sizes.rules, when(number)));
            let waits = number + WAITING >= all;
            if waits {
                settled
                    .entry(partition)
                    .or_insert((jobs[partition], outcomes[partition]));
            }
            let (offset, of) = (jobs[partition], Some(partition as i32));
            let (key, id) = (matched.job.credential.as_bytes(), matched.job.job_id.as_bytes());
            if matched.is_job {
                writer.put(&topics.jobs, of, when(number), Some(key), &matched.job.encode(), &[]);
                jobs[partition] += 1;
            }
            if waits && matched.is_job {
                continue;
            }
            last.clone_from(&matched.job.job_id);
            for (attempt, result) in matched.results.iter().enumerate() {
                let mut outcome = matched.outcome(*result, when(number) + 5, (partition as i32, offset));
                outcome.attempt = attempt as i32 + 1;
                writer.put(&topics.outcomes, of, when(number) + 5, Some(id), &outcome.encode(), &[]);
                outcomes[partition] += 1;
            }
        }
        for number in 0..LETTERS {
            let letter = matched(all - 1 - number, sizes.rules, now).job;
            let reason = ["gave_up", "message_rejected", "destination_gone"][number % 3];
            let headers = [
                ("reason", reason),
                ("detail", "Slack answered channel_not_found"),
                ("source-topic", &topics.jobs),
                ("source-partition", "0"),
                ("source-offset", "0"),
                ("failed-at", "2026-03-05T15:16:00Z"),
                ("rule-id", &letter.rule_id),
                ("event-id", &letter.event_id),
                ("job-id", &letter.job_id),
            ];
            writer.put(
                &topics.dead_letters,
                Some((number % PARTITIONS) as i32),
                now - 1000,
                Some(letter.credential.as_bytes()),
                &letter.encode(),
                &headers,
            );
        }
        writer.end();
        self.commit(&settled);
        Filled {
            rule: rule_id(7),
            trial: rule_id(99),
            lead: lead(all - WAITING - 1),
            job: last,
        }
    }

    fn audit(&self, writer: &Writer, number: usize, at: i64) {
        let id = rule_id(number);
        let audit = json!({
            "who": format!("editor-{}", number % 20), "when": "2026-03-05T15:16:00Z", "what": "apply", "target": id,
            "before": null, "after": written(number), "version": number,
        });
        writer.put(
            &self.config.topics.audit,
            None,
            at,
            Some(id.as_bytes()),
            audit.to_string().as_bytes(),
            &[],
        );
    }

    /// Commits what a sender has: where the first job that waits is, and the outcomes from there on.
    fn commit(&self, settled: &BTreeMap<usize, (i64, i64)>) {
        let mut client = ClientConfig::new();
        client
            .set("bootstrap.servers", &self.brokers)
            .set("group.id", format!("{}-sender", self.config.kafka.group));
        let consumer: BaseConsumer = client.create().unwrap();
        let mut list = TopicPartitionList::new();
        for (partition, (job, outcome)) in settled {
            let mut element = list.add_partition(&self.config.topics.jobs, *partition as i32);
            element.set_offset(Offset::Offset(*job)).unwrap();
            element.set_metadata(outcome.to_string());
        }
        consumer.commit(&list, CommitMode::Sync).unwrap();
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.dir));
    }
}

/// Writes records of any time.
struct Writer(BaseProducer);

impl Writer {
    fn new(brokers: &str) -> Self {
        let mut client = ClientConfig::new();
        client
            .set("bootstrap.servers", brokers)
            .set("enable.idempotence", "true")
            .set("compression.type", "lz4")
            .set("linger.ms", "50");
        Self(client.create().unwrap())
    }

    fn put(
        &self,
        topic: &str,
        partition: Option<i32>,
        at: i64,
        key: Option<&[u8]>,
        value: &[u8],
        headers: &[(&str, &str)],
    ) {
        let mut all = OwnedHeaders::new();
        for (key, value) in headers {
            all = all.insert(Header {
                key,
                value: Some(*value),
            });
        }
        let mut record = BaseRecord::<[u8], [u8]>::to(topic)
            .payload(value)
            .timestamp(at)
            .headers(all);
        (record.partition, record.key) = (partition, key);
        while let Err((error, again)) = self.0.send(record) {
            assert_eq!(
                error.rdkafka_error_code(),
                Some(rdkafka::types::RDKafkaErrorCode::QueueFull),
                "{error}"
            );
            record = again;
            self.0.poll(Duration::from_millis(20));
        }
    }

    fn end(&self) {
        self.0.flush(Duration::from_secs(120)).unwrap();
    }
}

/// An admin process that runs; killed when dropped.
struct Server(Child);

impl Server {
    /// Milliseconds of CPU that all its threads took so far.
    fn cpu(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.0.id())).unwrap();
        let ticks: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        (ticks[11].parse::<f64>().unwrap() + ticks[12].parse::<f64>().unwrap()) * 10.0
    }

    fn memory(&self) -> String {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id())).unwrap();
        let of = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024 / 1_000_000
        };
        format!(
            "{} MB, of these {} MB heap and stacks; at most {} MB",
            of("VmRSS:"),
            of("RssAnon:"),
            of("VmHWM:")
        )
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}
