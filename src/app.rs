//! The composition root, the only module that knows all others: it builds the parts of a process, starts and stops
//! them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::sync::watch;

use crate::admin::{self, Admin, Readiness};
/// The wall clock, for everyone above.
pub use crate::clock::wall_millis as now_millis;
use crate::clock::{Jumps, steady_micros, wall_micros, wall_millis};
use crate::config::Config;
use crate::delivery::Codec;
use crate::destination::Destinations;
use crate::kafka::producer::Producer;
use crate::kafka::topics::Limits;
use crate::metrics::Metrics;
use crate::parts::{Parts, Watch};
use crate::rules::index::{Finds, Lists};
use crate::rules::log::Rules;
use crate::sealed::Sealed;
use crate::secrets::Secrets;
use crate::secrets::keys::Keys;
use crate::{feed, http_client, inlets, kafka, listen, processor, sender};

mod desk;

use desk::Desk;

/// What a process does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Role {
    /// Matches events against rules and writes delivery jobs.
    Processor,
    /// Sends delivery jobs to Slack and CleverTap.
    Sender,
    /// Takes in what other systems send, over HTTP and from their topics.
    Inlets,
    /// Serves the rule desk: its pages and its API.
    Admin,
}

impl Role {
    fn as_str(self) -> &'static str {
        match self {
            Self::Processor => "processor",
            Self::Sender => "sender",
            Self::Inlets => "inlets",
            Self::Admin => "admin",
        }
    }
}

/// How long a stop may take beyond `sender.shutdown_timeout`, for what comes after the last answer: outcomes,
/// offsets, and leaving the groups.
const STOP_MARGIN: Duration = Duration::from_secs(10);
/// How often the clocks are compared.
const CLOCK_LOOK: Duration = Duration::from_secs(1);

/// What `/readyz` calls the wait for the rules.
const RULES: &str = "the rules to be read, or, where their topic was made anew, for one to be written there";

/// Runs `roles` until `stop` becomes true or a part fails, then stops in order: no new work, what is in flight is
/// settled, offsets are committed, groups are left.
///
/// # Errors
/// A listener or a client can't be set up, a part failed, or some didn't end in time.
pub async fn run(
    config: Arc<Config>,
    codec: &'static Codec,
    roles: &[Role],
    limits: Limits,
    metrics: Arc<Metrics>,
    mut stop: watch::Receiver<bool>,
) -> anyhow::Result<()> {
    let listener = tokio::net::TcpListener::bind(config.admin.listen)
        .await
        .with_context(|| format!("admin.listen: {} can't be listened on", config.admin.listen))?;
    tracing::info!(listen = %listener.local_addr()?, roles = ?roles, "leadlane {} starts", env!("CARGO_PKG_VERSION"));
    warn_of_unused_variables();
    let connections_max = connections_max(&config);
    let has = |role| roles.contains(&role);
    let mut readiness = Readiness::default();
    let waits = Waits::of(&mut readiness, &config, has);
    let admin = Arc::new(Admin {
        metrics: Arc::clone(&metrics),
        readiness,
    });
    // The admin listener answers until everything else has ended.
    let (close, closed) = watch::channel(false);
    let desk = has(Role::Admin).then(|| Desk::new(&config));
    let routes = desk.as_ref().map_or_else(axum::Router::new, |desk| desk.routes(roles));
    let mut serving = tokio::spawn(admin::serve(
        listener,
        Arc::clone(&admin),
        routes,
        connections_max,
        closed,
    ));
    let secrets = match has(Role::Sender) || has(Role::Inlets) {
        true => secrets(&config).await?,
        false => Secrets::default(),
    };
    let (stop_parts, stopping) = watch::channel(false);
    let (parts, mut watch) = Parts::new(stopping.clone());
    let within = config.sender.shutdown_timeout + STOP_MARGIN;
    let shared = Shared {
        config,
        codec,
        secrets,
        limits,
        metrics,
        stop: stopping,
        parts,
        connections_max,
    };
    waits.start(&shared)?;
    if let Some(desk) = desk {
        desk.start(&shared)?;
    }
    shared.watch_the_clock();
    // The parts alone can start more of them, so that the watch ends when the last of them is over.
    drop(shared);
    let failure = tokio::select! {
        failure = watch.failed() => failure,
        _ = &mut serving => Some(anyhow::anyhow!("the admin listener panicked; the log says where")),
        _ = stop.wait_for(|stop| *stop) => None,
    };
    say_why(failure.as_ref(), &admin.readiness);
    let asked = Instant::now();
    stop_parts.send_replace(true);
    let ended = end(&mut watch, within).await;
    close.send_replace(true);
    if !serving.is_finished() {
        drop(serving.await);
    }
    failure.map_or(ended, Err)?;
    let seconds = asked.elapsed().as_secs_f64();
    let waited_for = watch.ended_last().unwrap_or_default();
    tracing::info!(waited_for, "stopped after {seconds:.1} s");
    Ok(())
}

fn warn_of_unused_variables() {
    for name in http_client::unused_variables() {
        tracing::warn!("{name} is not used: plain http goes without a proxy; set HTTPS_PROXY for https");
    }
}

/// Says why the process stops: a part failed, or somebody asked for it.
fn say_why(failure: Option<&anyhow::Error>, readiness: &Readiness) {
    match failure {
        Some(failure) => {
            tracing::error!("stopping: {failure:#}");
            readiness.over(&failure.to_string());
        }
        None => {
            tracing::info!("stopping: what is in flight is settled first");
            readiness.over("asked to");
        }
    }
}

/// Waits until all parts have ended, and gives the first failure on the way.
async fn end(watch: &mut Watch, within: Duration) -> anyhow::Result<()> {
    let mut first = None;
    let ending = async {
        while let Some(failure) = watch.failed().await {
            tracing::error!("while stopping: {failure:#}");
            first.get_or_insert(failure);
        }
    };
    if tokio::time::timeout(within, ending).await.is_err() {
        let left = watch.running().join(", ");
        let seconds = within.as_secs();
        tracing::error!(
            left,
            "not all has ended {seconds} s after the stop; the process ends all the same"
        );
        first.get_or_insert_with(|| anyhow::anyhow!("{left} didn't end within {seconds} s"));
    }
    first.map_or(Ok(()), Err)
}

/// How many connections each listener holds, at the limit of open files that the process may have.
fn connections_max(config: &Config) -> usize {
    let files = listen::open_files();
    let connections = listen::connections_max(files, FILES_OF_KAFKA);
    tracing::debug!(files, connections, "open files, and connections of each listener");
    let sending = u64::try_from(config.sender.in_flight_max).unwrap_or(u64::MAX);
    let needed = sending.saturating_mul(2).saturating_add(FILES_OF_KAFKA);
    if files < needed {
        tracing::warn!(
            "the limit of open files is {files}; the connections to Kafka need about {FILES_OF_KAFKA}, and sending half of \
             the rest: raise it (ulimit -n) to {needed} or more, or lower sender.in_flight_max"
        );
    }
    connections
}

/// What all roles in one process have open for Kafka, which is one broker, and for files: 187 as counted, when the desk
/// had about 90 of them. It has some 60 by now, and opens a few more whenever it looks what waits.
const FILES_OF_KAFKA: u64 = 192;

/// What the parts are started with.
#[derive(Debug, Clone)]
struct Shared {
    config: Arc<Config>,
    codec: &'static Codec,
    secrets: Secrets,
    limits: Limits,
    metrics: Arc<Metrics>,
    /// Asks the parts to end.
    stop: watch::Receiver<bool>,
    parts: Parts,
    connections_max: usize,
}

/// What a process with some roles waits for before it is ready.
struct Waits {
    rules: Option<Flag>,
    events: Vec<Flag>,
    sender: Option<SenderFlags>,
    inlets: Option<Flag>,
    topics: Option<Flag>,
}

impl Waits {
    fn of(readiness: &mut Readiness, config: &Config, has: impl Fn(Role) -> bool) -> Self {
        // The processor matches by them; the sender reads in them what is cancelled.
        let needs_rules = has(Role::Processor) || has(Role::Sender);
        let workers = (0..config.processor.workers).filter(|_| has(Role::Processor));
        let reads_topics = has(Role::Inlets) && !config.foreign_topics().is_empty();
        Self {
            rules: needs_rules.then(|| readiness.wait_for(RULES)),
            events: workers
                .map(|worker| readiness.wait_for(&format!("worker {worker} to join the group of the events")))
                .collect(),
            sender: has(Role::Sender).then(|| SenderFlags::of(readiness)),
            inlets: has(Role::Inlets).then(|| readiness.wait_for("the inlets to open")),
            topics: reads_topics.then(|| readiness.wait_for("the inlets to join the group of their topics")),
        }
    }

    /// Starts the parts that are waited for.
    fn start(self, shared: &Shared) -> anyhow::Result<()> {
        if let Some(ready) = self.rules {
            shared.start(ready, self.events, self.sender)?;
        }
        if let Some(ready) = self.inlets {
            shared.start_inlets(ready)?;
        }
        if let Some(ready) = self.topics {
            shared.start_topic_inlets(ready)?;
        }
        Ok(())
    }
}

/// The readiness of the sender.
struct SenderFlags {
    joined: Flag,
    acknowledges: Flag,
    unreadable: watch::Sender<Vec<String>>,
}

impl SenderFlags {
    fn of(readiness: &mut Readiness) -> Self {
        Self {
            joined: readiness.wait_for("the sender to join the group of the jobs"),
            acknowledges: readiness.wait_for("Kafka to acknowledge the sender's outcomes"),
            unreadable: readiness.held_up(),
        }
    }
}

impl Shared {
    /// Follows the rules, and starts the workers and the sender once these are read.
    fn start(
        &self,
        rules_ready: Flag,
        events_ready: Vec<Flag>,
        sender_ready: Option<SenderFlags>,
    ) -> anyhow::Result<()> {
        if events_ready.is_empty() {
            return self.follow::<()>(rules_ready, sender_ready, |_, _| Ok(()));
        }
        self.follow::<Lists>(rules_ready, sender_ready, |shared, rules| {
            let memory = kafka::worker::Memory::default();
            for (number, ready) in events_ready.into_iter().enumerate() {
                shared.start_worker(number, rules.clone(), Arc::clone(&memory), ready)?;
            }
            Ok(())
        })
    }

    /// Follows the rules, and starts the sender and those who find rules by `F` once these are read.
    fn follow<F: Finds>(
        &self,
        rules_ready: Flag,
        sender_ready: Option<SenderFlags>,
        start_others: impl FnOnce(&Self, RulesInForce<F>) -> anyhow::Result<()> + Send + 'static,
    ) -> anyhow::Result<()> {
        let (config, metrics) = (Arc::clone(&self.config), Arc::clone(&self.metrics));
        let mut rules = feed::follow::<F>(config, metrics, wall_millis, self.stop.clone())?;
        let shared = self.clone();
        self.parts.task("the rules", async move {
            let first = wait_for_rules(&mut rules, shared.stop.clone()).await;
            let Some(first) = first else { return Ok(()) };
            rules_ready.store(true, Ordering::Relaxed);
            // For the sender, orders from the time when there were rules still hold; the processor stops without rules.
            let (in_force, rules_in_force) = watch::channel(Arc::new(first.by_id()));
            drop(first);
            if let Some(ready) = sender_ready {
                shared.start_sender(ready, rules_in_force.clone())?;
            }
            start_others(&shared, rules.clone())?;
            drop(shared);
            // The feed's thread ends with the process; a thread that ends before is a failure.
            while rules.changed().await.is_ok() {
                let rules = rules.borrow_and_update().clone();
                rules_ready.store(rules.is_some(), Ordering::Relaxed);
                if let Some(rules) = rules {
                    in_force.send_replace(Arc::new(rules.by_id()));
                }
            }
            Ok(())
        });
        Ok(())
    }

    /// A worker of the processor. All workers share the `memory` of the records that were read.
    fn start_worker(
        &self,
        number: usize,
        rules: RulesInForce<Lists>,
        memory: kafka::worker::Memory,
        ready: Flag,
    ) -> anyhow::Result<()> {
        let wiring = processor::ProcessorWiring {
            config: Arc::clone(&self.config),
            codec: self.codec,
            limits: self.limits,
            metrics: Arc::clone(&self.metrics),
            rules,
            stop: self.stop.clone(),
            memory,
            ready,
            now: wall_millis,
            runtime: tokio::runtime::Handle::current(),
        };
        let instance = self.config.processor.instance();
        let work = move || processor::run(&wiring, &instance, number);
        self.parts.thread(&format!("worker-{number}"), work)
    }

    /// The thread that reads the inlets' topics.
    fn start_topic_inlets(&self, ready: Flag) -> anyhow::Result<()> {
        let wiring = inlets::topic::TopicWiring {
            config: Arc::clone(&self.config),
            limits: self.limits,
            metrics: Arc::clone(&self.metrics),
            stop: self.stop.clone(),
            ready,
            now: wall_millis,
            runtime: tokio::runtime::Handle::current(),
        };
        let instance = self.config.processor.instance();
        let work = move || inlets::topic::run(&wiring, &instance);
        self.parts.thread("inlet-topics", work)
    }

    fn start_sender(&self, ready: SenderFlags, rules: watch::Receiver<Arc<Rules<()>>>) -> anyhow::Result<()> {
        let destinations = Arc::new(Destinations::new(&self.config, self.secrets.clone())?);
        // Nobody waits for it: what isn't introduced now is with its first message.
        tokio::spawn(introduce(Arc::clone(&destinations), Arc::clone(&rules.borrow())));
        let wiring = sender::SenderWiring {
            destinations,
            producer: Producer::within(&self.config, &self.limits)?,
            config: Arc::clone(&self.config),
            codec: self.codec,
            metrics: Arc::clone(&self.metrics),
            rules,
            stop: self.stop.clone(),
            ready: ready.joined,
            acknowledges: ready.acknowledges,
            unreadable: ready.unreadable,
            steady: steady_micros,
            wall: wall_micros,
        };
        let producer = wiring.producer.clone();
        self.parts.task("the sender", async move {
            let sent = sender::run(wiring).await;
            let flushing = tokio::task::spawn_blocking(move || producer.flush(Duration::from_secs(5)));
            drop(flushing.await);
            sent
        });
        Ok(())
    }

    fn start_inlets(&self, ready: Flag) -> anyhow::Result<()> {
        let wiring = inlets::InletsWiring {
            secrets: self.secrets.clone(),
            config: Arc::clone(&self.config),
            limits: self.limits,
            metrics: Arc::clone(&self.metrics),
            stop: self.stop.clone(),
            ready,
            now: wall_micros,
            connections_max: self.connections_max,
        };
        self.parts.task("the inlets", inlets::run(wiring));
        Ok(())
    }

    /// Logs and counts jumps of the wall clock.
    fn watch_the_clock(&self) {
        let (metrics, mut stop) = (Arc::clone(&self.metrics), self.stop.clone());
        self.parts.task("the watch of the clock", async move {
            let mut jumps = Jumps::since(wall_micros(), steady_micros());
            let watched = async {
                loop {
                    tokio::time::sleep(CLOCK_LOOK).await;
                    if let Some(jumped) = jumps.look(wall_micros(), steady_micros()) {
                        metrics.clock_jumped();
                        let seconds = jumped as f64 / 1e6;
                        tracing::warn!(
                            seconds,
                            "the clock has jumped; signatures, expiry and times follow it, and limits and delays don't"
                        );
                    }
                }
            };
            tokio::select! {
                () = watched => {}
                _ = stop.wait_for(|stop| *stop) => {}
            }
            Ok(())
        });
    }
}

/// Has the credentials of the rules in force looked at before the first message needs them, one after
/// the other. Those of later rules are introduced with their first message.
async fn introduce(destinations: Arc<Destinations>, rules: Arc<Rules<()>>) {
    let actions = rules.sending().map(|rule| &rule.action.kind);
    let credentials: BTreeMap<_, _> = actions
        .map(|action| action.address())
        .map(|address| (address.credential, address.sealed.map(Sealed::as_str)))
        .collect();
    for (credential, sealed) in credentials {
        destinations.introduce(&credential, sealed).await;
    }
}

/// So long the file of keys is waited for.
const KEYS_WAIT: Duration = Duration::from_secs(10);

/// The secret store, with the keys that open sealed values where there are any.
async fn secrets(config: &Config) -> anyhow::Result<Secrets> {
    let secrets = Secrets::new(config.secrets.dir.clone());
    let Some(file) = &config.secrets.key_file else {
        return Ok(secrets);
    };
    // The volume may hang, which must not hold up a thread that others need.
    let reading = tokio::task::spawn_blocking({
        let file = file.clone();
        move || Keys::read(&file)
    });
    let read = tokio::time::timeout(KEYS_WAIT, reading).await;
    let read = read.with_context(|| format!("secrets.key_file: {} can't be read in time", file.display()))?;
    let keys = read?.map_err(|error| anyhow::anyhow!("secrets.key_file: {error}"))?;
    match &config.secrets.public_key {
        Some(public) if !keys.fit(public) => anyhow::bail!(
            "secrets.key_file: {} doesn't open what is sealed with secrets.public_key; set both to one key pair",
            file.display()
        ),
        _ => Ok(secrets.with_keys(keys)),
    }
}

type Flag = Arc<AtomicBool>;
type RulesInForce<F> = watch::Receiver<Option<Arc<Rules<F>>>>;

async fn wait_for_rules<F>(rules: &mut RulesInForce<F>, mut stop: watch::Receiver<bool>) -> Option<Arc<Rules<F>>> {
    tokio::select! {
        first = rules.wait_for(Option::is_some) => first.ok()?.clone(),
        _ = stop.wait_for(|stop| *stop) => None,
    }
}
