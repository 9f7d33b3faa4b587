//! What the tests on real parts share: a Leadlane of one's own on the run's Kafka.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use leadlane::config::Config;
use leadlane::kafka::producer::{Producer, Record};
use leadlane::kafka::reader::{self, Record as Read};
use leadlane::sandbox::{Sandbox, Settings};

/// A real part's address, which `tests/run` starts and names.
#[expect(clippy::disallowed_methods, reason = "the run's parts are named by variables")]
pub(crate) fn part(variable: &str) -> String {
    std::env::var(variable)
        .unwrap_or_else(|_| panic!("{variable} is not set: run tests/run, which starts the real parts"))
}

/// Whether the long tests were asked for.
pub(crate) fn full() -> bool {
    std::env::var_os("LEADLANE_TEST_FULL").is_some()
}

/// A folder, topics, group and configuration of one test's own.
pub(crate) struct Leadlane {
    pub(crate) dir: PathBuf,
    pub(crate) config: Config,
    file: PathBuf,
    pub(crate) admin: String,
}

/// A running process; killed when dropped.
pub(crate) struct Process {
    child: Child,
    pub(crate) log: PathBuf,
}

static COUNT: AtomicU32 = AtomicU32::new(0);

impl Leadlane {
    /// `yaml` is put over the test's own settings.
    pub(crate) fn new(name: &str, yaml: &str) -> Self {
        Self::on(&part("LEADLANE_TEST_KAFKA"), name, yaml)
    }

    /// On a Kafka of the test's own.
    pub(crate) fn on(brokers: &str, name: &str, yaml: &str) -> Self {
        Self::by(&format!("brokers: '{brokers}'"), name, yaml)
    }

    /// With these keys under `kafka`.
    pub(crate) fn by(kafka: &str, name: &str, yaml: &str) -> Self {
        let unique = format!(
            "{name}-{}-{}",
            std::process::id(),
            COUNT.fetch_add(1, Ordering::Relaxed)
        );
        let dir = std::env::temp_dir().join(format!("leadlane-it-{unique}"));
        std::fs::create_dir_all(dir.join("secrets")).unwrap();
        let admin = format!("127.0.0.1:{}", free_port());
        let topic = |name: &str| format!("{unique}-{name}");
        let own = format!(
            "kafka: {{{kafka}, group: {unique}}}\n\
             topics: {{events: {}, rules: {}, jobs: {}, outcomes: {}, dead_letters: {}, audit: {}}}\n\
             admin: {{listen: '{admin}'}}\nprocessor: {{instance: {unique}}}\nsecrets: {{dir: '{}'}}\n{yaml}\n",
            topic("events"),
            topic("rules"),
            topic("jobs"),
            topic("outcomes"),
            topic("dead"),
            topic("audit"),
            dir.join("secrets").display(),
        );
        let file = dir.join("leadlane.yaml");
        std::fs::write(&file, &own).unwrap();
        let config = Config::parse("leadlane.yaml", &own, []).unwrap_or_else(|error| panic!("{error}\n{own}"));
        Self {
            dir,
            config,
            file,
            admin,
        }
    }

    pub(crate) fn secret(&self, name: &str, value: &str) {
        std::fs::write(self.dir.join("secrets").join(name), format!("{value}\n")).unwrap();
    }

    /// The group takes a silent member's partitions after 6 s, the least that Kafka allows.
    pub(crate) fn short_session(&self) {
        let text = std::fs::read_to_string(&self.file).unwrap();
        let properties = "consumer_properties: {session.timeout.ms: 6000, heartbeat.interval.ms: 1000}";
        std::fs::write(
            &self.file,
            text.replace("kafka: {", &format!("kafka: {{{properties}, ")),
        )
        .unwrap();
    }

    /// Changes the configuration's file, for commands and processes from then on.
    pub(crate) fn rewrite(&self, from: &str, to: &str) {
        let text = std::fs::read_to_string(&self.file).unwrap();
        assert!(text.contains(from), "{text}");
        std::fs::write(&self.file, text.replace(from, to)).unwrap();
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_leadlane"));
        command.arg("--config").arg(&self.file).args(arguments);
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).stdin(Stdio::null()).output().unwrap()
    }

    /// Runs a command that has to succeed, and gives what it printed.
    pub(crate) fn ok(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "leadlane {arguments:?}: {}\n{stderr}",
            output.status
        );
        String::from_utf8(output.stdout).unwrap()
    }

    pub(crate) fn apply(&self, rules: &str) {
        let file = self.dir.join("rules.yaml");
        std::fs::write(&file, rules).unwrap();
        self.ok(&["rules", "apply", file.to_str().unwrap()]);
    }

    /// Starts `leadlane run` with these arguments and waits until it is ready.
    pub(crate) fn start(&self, arguments: &[&str]) -> Process {
        let mut command = self.command(&["run"]);
        command.args(arguments);
        self.start_as(command)
    }

    /// Starts a command that runs Leadlane, and waits until it is ready.
    pub(crate) fn start_as(&self, command: Command) -> Process {
        until_ready(self.logged(command), &self.admin)
    }

    /// Starts one more beside the first, and waits until it is ready.
    pub(crate) fn start_another(&self, arguments: &[&str]) -> Process {
        self.start_another_at(arguments).0
    }

    /// The same, with the address of its admin listener.
    pub(crate) fn start_another_at(&self, arguments: &[&str]) -> (Process, String) {
        let admin = format!("127.0.0.1:{}", free_port());
        let mut command = self.command(&["run"]);
        command.args(arguments);
        command
            .env("LEADLANE__ADMIN__LISTEN", &admin)
            .env("LEADLANE__PROCESSOR__INSTANCE", &admin);
        (until_ready(self.logged(command), &admin), admin)
    }

    /// Starts a command that runs Leadlane, and doesn't wait for it.
    pub(crate) fn logged(&self, mut command: Command) -> Process {
        let log = self
            .dir
            .join(format!("log-{}.txt", COUNT.fetch_add(1, Ordering::Relaxed)));
        command
            .stderr(std::fs::File::create(&log).unwrap())
            .stdout(Stdio::null());
        Process {
            child: command.spawn().unwrap(),
            log,
        }
    }

    /// A page of the admin listener.
    pub(crate) fn get(&self, path: &str) -> Option<(u16, String)> {
        page(&self.admin, path)
    }

    /// Waits until the events' partition 0 is said to have this lag.
    pub(crate) fn lag_until(&self, lag: u64) {
        let wanted = format!(
            "leadlane_consumer_lag{{partition=\"0\",topic=\"{}\"}} {lag}\n",
            self.config.topics.events
        );
        let until = Instant::now() + Duration::from_secs(30);
        loop {
            let metrics = self.get("/metrics").map_or_else(String::new, |(_, text)| text);
            if metrics.contains(&wanted) {
                return;
            }
            assert!(Instant::now() < until, "no {wanted}in\n{metrics}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    pub(crate) fn producer(&self) -> Producer {
        Producer::new(&self.config, 2_000_000).unwrap()
    }

    /// Writes (key, value) pairs to a topic and waits until Kafka has them.
    pub(crate) fn write<'v>(&self, topic: &str, records: impl IntoIterator<Item = (&'v str, Option<&'v [u8]>)>) {
        let producer = self.producer();
        for (key, value) in records {
            let headers = rdkafka::message::OwnedHeaders::new();
            let record = Record {
                topic,
                partition: None,
                key: key.as_bytes(),
                value,
                headers,
            };
            producer.write(&record, |ack| assert!(ack.is_ok(), "{ack:?}"));
        }
        assert!(
            producer.flush(Duration::from_secs(60)),
            "not every record was acknowledged"
        );
    }

    /// Every committed record of a topic.
    pub(crate) fn read(&self, topic: &str) -> Vec<Read> {
        let mut records = Vec::new();
        reader::read_whole(&self.config, topic, |record| {
            records.push(record);
            true
        })
        .unwrap();
        records
    }

    /// Reads a topic until `enough` says so.
    pub(crate) fn read_until(&self, topic: &str, seconds: u64, enough: impl Fn(&[Read]) -> bool) -> Vec<Read> {
        let until = Instant::now() + Duration::from_secs(seconds);
        loop {
            let records = self.read(topic);
            if enough(&records) {
                return records;
            }
            assert!(
                Instant::now() < until,
                "{topic} has {} records after {seconds} s",
                records.len()
            );
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

/// Waits until the process that serves `admin` is ready.
pub(crate) fn until_ready(mut process: Process, admin: &str) -> Process {
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        if page(admin, "/readyz").is_some_and(|(status, _)| status == 200) {
            return process;
        }
        let ended = process.child.try_wait().unwrap();
        assert!(
            ended.is_none() && Instant::now() < until,
            "not ready ({ended:?}):\n{}",
            process.log()
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

pub(crate) fn page(admin: &str, path: &str) -> Option<(u16, String)> {
    use std::io::Read;
    let mut stream = std::net::TcpStream::connect(admin).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let status = answer.split(' ').nth(1)?.parse().ok()?;
    Some((status, answer))
}

impl Drop for Leadlane {
    fn drop(&mut self) {
        // Kept when the test failed, so that its logs can be read.
        if !std::thread::panicking() {
            drop(std::fs::remove_dir_all(&self.dir));
        }
    }
}

impl Process {
    pub(crate) fn signal(&self, signal: &str) {
        let status = Command::new("kill")
            .args([&format!("-{signal}"), &self.child.id().to_string()])
            .status();
        assert!(status.unwrap().success());
    }

    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM, and then a clean end.
    pub(crate) fn stop(mut self) {
        self.signal("TERM");
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{status}\n{}", self.log());
    }

    /// Waits for the process to end by itself.
    pub(crate) fn ended(&mut self, seconds: u64) -> Option<i32> {
        let until = Instant::now() + Duration::from_secs(seconds);
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            if Instant::now() >= until {
                return None;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Waits until the log says enough, and gives it.
    pub(crate) fn log_until(&self, seconds: u64, enough: impl Fn(&str) -> bool) -> String {
        let until = Instant::now() + Duration::from_secs(seconds);
        loop {
            let log = self.log();
            if enough(&log) {
                return log;
            }
            assert!(Instant::now() < until, "after {seconds} s the log is:\n{log}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A sandbox on a thread of its own.
pub(crate) struct Destinations {
    pub(crate) sandbox: Sandbox,
    pub(crate) address: String,
    _runtime: tokio::runtime::Runtime,
}

pub(crate) fn sandbox(settings: Settings) -> Destinations {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let sandbox = Sandbox::new(settings);
    runtime.spawn(sandbox.clone().serve(listener, std::future::pending()));
    Destinations {
        sandbox,
        address,
        _runtime: runtime,
    }
}

impl Destinations {
    /// The configuration that points there, with fast channels.
    pub(crate) fn yaml(&self, rate: &str) -> String {
        let address = &self.address;
        format!(
            "slack: {{api_url: 'http://{address}/api', webhook_hosts: ['{address}'], channel_rate: {rate}, webhook_rate: {rate}, workspace_rate: {rate}}}\n\
             clevertap: {{accounts: {{acme: {{region: in1, account_id: ACME, passcode: {{secret: acme-passcode}}, api_url: 'http://{address}'}}}}}}"
        )
    }

    /// Orders something of the sandbox's control API.
    pub(crate) fn control(&self, path: &str, order: &'static str) {
        let url = format!("http://{}/_sandbox/{path}", self.address);
        let sending = async { reqwest::Client::new().post(url).body(order).send().await };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        assert_eq!(runtime.unwrap().block_on(sending).unwrap().status(), 200);
    }

    /// The texts of messages that were taken.
    pub(crate) fn texts(&self) -> Vec<String> {
        let log = self.sandbox.log();
        log.iter()
            .filter(|arrival| arrival.accepted)
            .filter_map(|arrival| arrival.text.as_deref().map(str::to_owned))
            .collect()
    }
}

/// A Kafka of this test's own, which it may kill.
pub(crate) struct Kafka {
    pub(crate) dir: String,
    pub(crate) address: String,
}

impl Kafka {
    pub(crate) fn start(dir: String) -> Self {
        let mut kafka = Self {
            dir,
            address: String::new(),
        };
        kafka.address = kafka.tell("start");
        kafka
    }

    pub(crate) fn tell(&self, word: &str) -> String {
        let mut command = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kafka/kafka"));
        let command = command.args([word, "--dir", &self.dir]);
        if self.address.is_empty() {
            command.args(["--port", "0"]);
        }
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }
}

impl Drop for Kafka {
    fn drop(&mut self) {
        let mut command = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kafka/kafka"));
        drop(command.args(["kill", "--dir", &self.dir]).output());
        // Its log stays for who looks into a test that failed.
        if !std::thread::panicking() {
            drop(std::fs::remove_dir_all(&self.dir));
        }
    }
}

/// Runs a Python tool of the tests with the run's own Python.
pub(crate) fn python(arguments: &[&str]) -> String {
    let tool = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python/producers.py");
    let output = Command::new(part("LEADLANE_TEST_PYTHON"))
        .arg(tool)
        .args(arguments)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

pub(crate) fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

/// A lead event as JSON.
pub(crate) fn event(number: u64, trigger: &str, product: &str, price: &str) -> String {
    serde_json::json!({
        "event_id": format!("e-{number}"), "trigger": trigger, "occurred_at": now_millis(), "lead_id": format!("lead-{number}"),
        "product": {"id": product, "name": "Auto Insurance"}, "publisher": {"id": "3401"}, "buyer": {"id": "210", "name": "SafeDrive"},
        "price": price, "consumer": {"first_name": "Ana", "email": format!("ana{number}@example.com")},
    })
    .to_string()
}

pub(crate) fn now_millis() -> i64 {
    leadlane::app::now_millis()
}
