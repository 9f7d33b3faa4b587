//! The demo: everything in one process, to see the main job run.
//!
//! librdkafka's mock broker stands in for Kafka, the sandbox for Slack and CleverTap. The inlets, the processor, the
//! sender and the replay of a dead letter are the real ones. Believable events come at a steady rate with a few bad
//! ones among them, and on the way a few things go wrong (`acts`). The mock proves nothing about promises: it forgets
//! transactional offsets and shows aborted records.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rdkafka::client::ClientContext;
use rdkafka::mocking::MockCluster;
use tokio::sync::watch;

use crate::app::{self, Role};
use crate::config::{Account, Admin, Config};
use crate::credential::SecretName;
use crate::delivery::Codec;
use crate::desk::rules::{self, write};
use crate::kafka::producer::{Producer, Record};
use crate::kafka::topics::Limits;
use crate::metrics::Metrics;
use crate::sandbox::{Sandbox, Settings};
use crate::secrets::SecretRef;
use crate::secrets::keys::{Keys, PublicKey};

mod acts;
mod events;
mod inlets;
mod story;
mod view;

use acts::{Acts, Played};
use story::Story;
use view::View;

const RULES: &str = include_str!("demo/rules.yaml");
const PARTITIONS: i32 = 4;
/// What the sandbox takes for good tokens.
const SALES_TOKEN: &str = "xoxb-1-sales";
const CALLS_TOKEN: &str = "xoxb-1-calls";
/// The file of the private key, among the secrets.
const KEY_FILE: &str = "key-file";
/// How long before the end the last event comes, so that what it makes can be seen.
const TAIL: Duration = Duration::from_secs(2);

#[derive(Debug, clap::Args)]
pub struct Options {
    /// End after so many seconds with a summary; runs until Ctrl-C when not given
    #[arg(long, value_name = "N")]
    seconds: Option<u64>,
    /// Lead events per second
    #[arg(long, default_value_t = 5.0, value_name = "N", value_parser = rate)]
    rate: f64,
    #[arg(from_global)]
    json: bool,
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if (0.1..=1000.0).contains(&rate) => Ok(rate),
        _ => Err("must be a number from 0.1 to 1000".to_owned()),
    }
}

pub async fn run(config: Config, options: Options, mut asked: watch::Receiver<bool>) -> anyhow::Result<()> {
    let cluster = MockCluster::new(1).context("the embedded broker can't be started")?;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .context("the sandbox can't listen")?;
    let sandbox = Sandbox::new(Settings::default());
    let folder = Folder::make(&listener.local_addr()?.to_string())?;
    let config = Arc::new(embed(
        config,
        &cluster.bootstrap_servers(),
        &listener.local_addr()?.to_string(),
        &folder,
    )?);
    create_topics(&cluster, &config)?;

    let (stop, stopped) = watch::channel(false);
    let mut served = stopped.clone();
    let serving = tokio::spawn(sandbox.clone().serve(listener, async move {
        drop(served.wait_for(|stop| *stop).await);
    }));
    let producer = Producer::new(&config, 1_000_000)?;
    write_rules(&config)?;
    let view = View::new(&config, Story::new(sandbox.clone()), options.json)?;
    view.begin(options.rate);
    let metrics = Arc::new(Metrics::new(config.metrics.rules_max));
    let running = tokio::spawn(app::run(
        Arc::clone(&config),
        Codec::shipped(),
        &ROLES,
        Limits::default(),
        metrics,
        stopped,
    ));

    let began = Instant::now();
    let ends = options.seconds.map(|seconds| began + Duration::from_secs(seconds));
    let mut producers = events::Producers::new(app::now_millis);
    let mut next_event = Instant::now();
    let mut acts = Acts::default();
    let mut frame = tokio::time::interval(Duration::from_millis(250));
    while !*asked.borrow() && ends.is_none_or(|ends| Instant::now() < ends) {
        if let Some(played) = acts.next(view.settles(), view.is_mended(), &mut producers, &sandbox)? {
            perform(played, &config, &producer, &view);
        }
        if let Some(letter) = acts.replay(view.died()) {
            replay(letter, Arc::clone(&config), &view);
        }
        let more = ends.is_none_or(|ends| Instant::now() + TAIL < ends);
        while more && next_event <= Instant::now() {
            next_event += Duration::from_secs_f64(1.0 / options.rate);
            let (key, value) = producers.next();
            write_event(&config, &producer, &key, &value, &view);
        }
        tokio::select! {
            _ = frame.tick() => view.frame(),
            _ = asked.changed() => {}
        }
        if running.is_finished() {
            view.erase();
            // It says why it ended, where it knows.
            running.await??;
            anyhow::bail!("the demo's inlets, processor or sender ended early");
        }
    }
    stop.send_replace(true);
    running.await??;
    drop(serving.await);
    view.end();
    Ok(())
}

/// Tells an act, and lets those speak who have a part in it.
fn perform(played: Played, config: &Config, producer: &Producer, view: &View) {
    view.show(&format!("meanwhile {}", played.said));
    for (key, value) in &played.events {
        write_event(config, producer, key, value, view);
    }
    if let Some(post) = played.post {
        post.send(config.inlet.listen, view);
    }
}

const ROLES: [Role; 4] = [Role::Inlets, Role::Processor, Role::Sender, Role::Admin];

fn create_topics(cluster: &MockCluster<'_, impl ClientContext>, config: &Config) -> anyhow::Result<()> {
    let topics = [
        &config.topics.events,
        &config.topics.jobs,
        &config.topics.outcomes,
        &config.topics.dead_letters,
    ];
    for topic in topics {
        cluster.create_topic(topic, PARTITIONS, 1)?;
    }
    cluster.create_topic(&config.topics.rules, 1, 1)?;
    cluster.create_topic(&config.topics.audit, 1, 1)?;
    Ok(())
}

fn write_event(config: &Config, producer: &Producer, key: &str, value: &str, view: &View) {
    view.produced(value);
    let record = Record {
        topic: &config.topics.events,
        partition: None,
        key: key.as_bytes(),
        value: Some(value.as_bytes()),
        headers: crate::kafka::headers([]),
    };
    producer.write(&record, |_| {});
}

/// Replays a dead letter beside what goes on.
fn replay(letter: String, config: Arc<Config>, view: &View) {
    view.show("meanwhile the channel is back, and somebody replays what died of it:");
    let on_view = view.clone();
    tokio::task::spawn_blocking(move || {
        on_view.show(&format!("$ leadlane dead-letters replay {letter}"));
        if let Err(error) = acts::replay(&letter, &config, |line| on_view.show(line)) {
            on_view.show(&format!("it could not be replayed: {error}"));
        }
    });
}

/// The configuration with everything outside replaced by what this process brings along.
fn embed(mut config: Config, brokers: &str, sandbox: &str, folder: &Folder) -> anyhow::Result<Config> {
    config.kafka = crate::config::Kafka {
        brokers: brokers.to_owned(),
        ..crate::config::Kafka::default()
    };
    // Everybody may come in, and so from this machine alone.
    config.admin = Admin {
        listen: free(config.admin.listen.port())?,
        ..Admin::default()
    };
    // The limits that the sandbox has, too: what is shown doesn't hang on anyone's own.
    config.slack = crate::config::Slack {
        api_url: format!("http://{sandbox}/api").into(),
        webhook_hosts: vec![sandbox.to_owned()],
        ..crate::config::Slack::default()
    };
    config.sender = crate::config::Sender::default();
    config.secrets = crate::config::Secrets {
        dir: Some(folder.0.clone()),
        public_key: Some(folder.keys()?),
        key_file: Some(folder.0.join(KEY_FILE)),
    };
    let account = Account {
        region: "sandbox".to_owned(),
        account_id: "ACME".to_owned(),
        passcode: SecretRef::Secret(SecretName::new("acme-passcode").expect("it is a name")),
        concurrency: 3,
        api_url: Some(format!("http://{sandbox}").into()),
    };
    config.clevertap.accounts = [("acme".to_owned(), account)].into();
    inlets::open(&mut config)?;
    Ok(config)
}

/// So many ports are tried for the desk.
const PORTS: u16 = 50;

/// An address of this machine for the desk: the port that is asked for, or the next one that is free.
fn free(asked: u16) -> anyhow::Result<SocketAddr> {
    let ports = (asked..=asked.saturating_add(PORTS)).chain([0]);
    let listen =
        |port| std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port)).and_then(|listener| listener.local_addr());
    let free = ports.map(listen).find_map(Result::ok);
    free.context("the desk finds no port to listen on")
}

fn write_rules(config: &Config) -> anyhow::Result<()> {
    let drafts = rules::read(config, RULES)?.into_iter();
    let changes: Result<Vec<_>, _> = drafts.map(|draft| write::Change::put(draft, None)).collect();
    write::Writer::on(config, Arc::default()).write(&changes?, "demo", app::now_millis())?;
    Ok(())
}

/// A folder for the sandbox's secrets, gone when the demo ends.
#[derive(Debug)]
struct Folder(PathBuf);

impl Folder {
    fn make(sandbox: &str) -> anyhow::Result<Self> {
        let folder = Self(std::env::temp_dir().join(format!("leadlane-demo-{}", std::process::id())));
        std::fs::create_dir_all(&folder.0)?;
        std::fs::write(folder.0.join("sales-bot"), SALES_TOKEN)?;
        std::fs::write(folder.0.join("calls-bot"), CALLS_TOKEN)?;
        std::fs::write(folder.0.join("acme-passcode"), "sandbox")?;
        std::fs::write(
            folder.0.join("ops-webhook"),
            format!("http://{sandbox}/services/T0DEMO/B0DEMO/operations"),
        )?;
        for (name, value) in inlets::SECRETS {
            std::fs::write(folder.0.join(name), value)?;
        }
        Ok(folder)
    }

    /// Makes the keys that tokens typed at the desk are sealed with.
    fn keys(&self) -> anyhow::Result<PublicKey> {
        let (private, public) = Keys::generate();
        std::fs::write(self.0.join(KEY_FILE), private.reveal())?;
        Ok(public)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}
