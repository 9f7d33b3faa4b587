//! The composition root: the only place that knows everyone. Wires, starts, stops.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::admin::{self, Admin, Readiness};
use crate::config::Config;
use crate::destination::Destinations;
use crate::kafka::producer::Producer;
use crate::kafka::topics::Limits;
use crate::metrics::Metrics;
use crate::sealed::Sealed;
use crate::secrets::Secrets;
use crate::secrets::keys::Keys;
use crate::{feed, http_client, inlets, kafka, processor, sender};

/// What a process does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Role {
    /// Matches events against rules and writes delivery jobs.
    Processor,
    /// Sends delivery jobs to Slack and CleverTap.
    Sender,
    /// Takes in what other systems send, over HTTP and from their topics.
    Inlets,
    /// Serves health and metrics alone.
    Admin,
}

static START: LazyLock<(Instant, i64)> = LazyLock::new(|| {
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the clock that everyone else is handed"
    )]
    let now = jiff::Timestamp::now();
    (Instant::now(), now.as_microsecond())
});

/// Epoch microseconds on a clock that never goes back.
pub fn now_micros() -> i64 {
    let (began, wall) = *START;
    wall + i64::try_from(began.elapsed().as_micros()).unwrap_or(i64::MAX)
}

/// Epoch milliseconds on the same clock.
pub fn now_millis() -> i64 {
    now_micros() / 1000
}

/// Runs `roles` until `stop` becomes true, then stops in order: no new work, what is in flight is
/// settled, offsets are committed, groups are left.
pub async fn run(
    config: Arc<Config>,
    roles: &[Role],
    limits: Limits,
    metrics: Arc<Metrics>,
    mut stop: watch::Receiver<bool>,
) -> anyhow::Result<()> {
    let listener = tokio::net::TcpListener::bind(config.admin.listen)
        .await
        .with_context(|| format!("admin.listen: {} can't be listened on", config.admin.listen))?;
    tracing::info!(listen = %listener.local_addr()?, roles = ?roles, "leadlane {} starts", env!("CARGO_PKG_VERSION"));
    for name in http_client::unused_variables() {
        tracing::warn!("{name} is not used: plain http goes without a proxy; set HTTPS_PROXY for https");
    }
    let mut readiness = Readiness::default();
    let has = |role| roles.contains(&role);
    // The processor matches by them; the sender reads in them what is cancelled.
    let needs_rules = has(Role::Processor) || has(Role::Sender);
    let rules_ready = needs_rules.then(|| {
        readiness.wait_for("the rules to be read, or, where their topic was made anew, for one to be written there")
    });
    let events_ready: Vec<_> = (0..config.processor.workers)
        .filter(|_| has(Role::Processor))
        .map(|worker| readiness.wait_for(&format!("worker {worker} to join the group of the events")))
        .collect();
    let jobs_ready = has(Role::Sender).then(|| readiness.wait_for("the sender to join the group of the jobs"));
    let inlets_ready = has(Role::Inlets).then(|| readiness.wait_for("the inlets to open"));
    let reads_topics = has(Role::Inlets) && !config.foreign_topics().is_empty();
    let topics_ready = reads_topics.then(|| readiness.wait_for("the inlets to join the group of their topics"));
    let admin = Arc::new(Admin {
        metrics: Arc::clone(&metrics),
        readiness,
    });
    let mut served = stop.clone();
    let serving = tokio::spawn(admin::serve(listener, admin, async move {
        drop(served.wait_for(|stop| *stop).await);
    }));

    let (ended, mut failed) = mpsc::unbounded_channel::<anyhow::Error>();
    let shared = Shared {
        config,
        limits,
        metrics,
        stop: stop.clone(),
        ended,
    };
    let mut tasks = Vec::new();
    if let Some(ready) = rules_ready {
        tasks.push(shared.start(ready, events_ready, jobs_ready)?);
    }
    if let Some(ready) = inlets_ready {
        tasks.push(shared.start_inlets(ready)?);
    }
    if let Some(ready) = topics_ready {
        tasks.push(shared.start_topic_inlets(ready)?);
    }
    // The loops alone hold on to `ended`, so that it closes when the last of them is over.
    drop(shared);
    tokio::select! {
        Some(error) = failed.recv() => return Err(error),
        _ = stop.wait_for(|stop| *stop) => {}
    }
    tracing::info!("stopping: what is in flight is settled first");
    for task in tasks {
        drop(task.await);
    }
    drop(serving.await);
    match failed.recv().await {
        Some(error) => Err(error),
        None => {
            tracing::info!("stopped");
            Ok(())
        }
    }
}

/// What the loops are started with.
#[derive(Debug, Clone)]
struct Shared {
    config: Arc<Config>,
    limits: Limits,
    metrics: Arc<Metrics>,
    stop: watch::Receiver<bool>,
    /// An error sent here ends the process.
    ended: mpsc::UnboundedSender<anyhow::Error>,
}

impl Shared {
    /// Follows the rules, and starts the workers and the sender once these are read.
    fn start(
        &self,
        rules_ready: Flag,
        events_ready: Vec<Flag>,
        jobs_ready: Option<Flag>,
    ) -> anyhow::Result<JoinHandle<()>> {
        let mut rules = feed::follow(
            Arc::clone(&self.config),
            Arc::clone(&self.metrics),
            now_millis,
            self.stop.clone(),
        )?;
        let shared = self.clone();
        Ok(tokio::spawn(async move {
            let first = wait_for_rules(&mut rules, shared.stop.clone()).await;
            let Some(first) = first else { return };
            rules_ready.store(true, Ordering::Relaxed);
            let of_workers = rules.clone();
            // What was ordered while there were rules holds for the sender; the processor stops without them.
            let (in_force, rules_in_force) = watch::channel(first);
            tokio::spawn(async move {
                while rules.changed().await.is_ok() {
                    let rules = rules.borrow_and_update().clone();
                    rules_ready.store(rules.is_some(), Ordering::Relaxed);
                    if let Some(rules) = rules {
                        in_force.send_replace(rules);
                    }
                }
            });
            let sending = jobs_ready.map(|ready| shared.start_sender(ready, rules_in_force.clone()));
            if !events_ready.is_empty() {
                shared.clone().run_workers(of_workers, events_ready).await;
            }
            match sending {
                Some(Ok(sending)) => drop(sending.await),
                Some(Err(error)) => drop(shared.ended.send(error)),
                None => {}
            }
        }))
    }

    /// One thread a worker, until all have ended.
    async fn run_workers(self, rules: watch::Receiver<Option<RulesInForce>>, events_ready: Vec<Flag>) {
        let instance = self.instance();
        let memory = kafka::worker::Memory::default();
        let workers = events_ready.into_iter().enumerate().map(|(number, ready)| {
            let surroundings = processor::Surroundings {
                config: Arc::clone(&self.config),
                limits: self.limits,
                metrics: Arc::clone(&self.metrics),
                rules: rules.clone(),
                stop: self.stop.clone(),
                memory: Arc::clone(&memory),
                ready,
                now: now_millis,
                runtime: tokio::runtime::Handle::current(),
            };
            let (instance, ended) = (instance.clone(), self.ended.clone());
            std::thread::Builder::new()
                .name(format!("worker-{number}"))
                .spawn(move || {
                    if let Err(error) = processor::run(&surroundings, &instance, number) {
                        drop(ended.send(error));
                    }
                })
        });
        let threads: Vec<_> = workers.collect();
        let joined = tokio::task::spawn_blocking(move || {
            for thread in threads.into_iter().flatten() {
                drop(thread.join());
            }
        });
        drop(joined.await);
    }

    /// What names this process in its transactional ids.
    fn instance(&self) -> String {
        self.config.processor.instance.clone().unwrap_or_else(hostname)
    }

    /// The thread that reads the inlets' topics.
    fn start_topic_inlets(&self, ready: Flag) -> anyhow::Result<JoinHandle<()>> {
        let surroundings = inlets::topic::Surroundings {
            config: Arc::clone(&self.config),
            limits: self.limits,
            metrics: Arc::clone(&self.metrics),
            stop: self.stop.clone(),
            ready,
            now: now_millis,
            runtime: tokio::runtime::Handle::current(),
        };
        let (instance, ended) = (self.instance(), self.ended.clone());
        let thread = std::thread::Builder::new().name("inlets".to_owned()).spawn(move || {
            if let Err(error) = inlets::topic::run(&surroundings, &instance) {
                drop(ended.send(error));
            }
        })?;
        Ok(tokio::task::spawn_blocking(move || drop(thread.join())))
    }

    fn start_sender(&self, ready: Flag, rules: watch::Receiver<RulesInForce>) -> anyhow::Result<JoinHandle<()>> {
        let secrets = secrets(&self.config)?;
        let destinations = Arc::new(Destinations::new(&self.config, secrets)?);
        tokio::spawn(introduce(Arc::clone(&destinations), Arc::clone(&rules.borrow())));
        let surroundings = sender::Surroundings {
            destinations,
            producer: Producer::within(&self.config, &self.limits)?,
            config: Arc::clone(&self.config),
            metrics: Arc::clone(&self.metrics),
            rules,
            stop: self.stop.clone(),
            ready,
            now: now_micros,
        };
        let (producer, ended) = (surroundings.producer.clone(), self.ended.clone());
        Ok(tokio::spawn(async move {
            if let Err(error) = sender::run(surroundings).await {
                drop(ended.send(error));
            }
            producer.flush(Duration::from_secs(5));
        }))
    }

    fn start_inlets(&self, ready: Flag) -> anyhow::Result<JoinHandle<()>> {
        let surroundings = inlets::Surroundings {
            secrets: secrets(&self.config)?,
            config: Arc::clone(&self.config),
            limits: self.limits,
            metrics: Arc::clone(&self.metrics),
            stop: self.stop.clone(),
            ready,
            now: now_micros,
        };
        let ended = self.ended.clone();
        Ok(tokio::spawn(async move {
            if let Err(error) = inlets::run(surroundings).await {
                drop(ended.send(error));
            }
        }))
    }
}

/// Has the credentials of the rules in force looked at before the first message needs them, one after
/// the other. Those of later rules are introduced with their first message.
async fn introduce(destinations: Arc<Destinations>, rules: RulesInForce) {
    let actions = rules.sending().map(|rule| &rule.action.kind);
    let credentials: BTreeMap<_, _> = actions
        .map(|action| (action.credential(), action.sealed().map(Sealed::as_str)))
        .collect();
    for (credential, sealed) in credentials {
        destinations.introduce(&credential, sealed).await;
    }
}

/// The secret store, with the keys that open sealed values where there are any.
fn secrets(config: &Config) -> anyhow::Result<Secrets> {
    let secrets = Secrets::new(config.secrets.dir.clone());
    let Some(file) = &config.secrets.key_file else {
        return Ok(secrets);
    };
    let keys = Keys::read(file).map_err(|error| anyhow::anyhow!("secrets.key_file: {error}"))?;
    match &config.secrets.public_key {
        Some(public) if !keys.fit(public) => anyhow::bail!(
            "secrets.key_file: {} doesn't open what is sealed with secrets.public_key; set both to one key pair",
            file.display()
        ),
        _ => Ok(secrets.with_keys(keys)),
    }
}

type Flag = Arc<AtomicBool>;
type RulesInForce = Arc<crate::rules::log::Rules>;

async fn wait_for_rules(
    rules: &mut watch::Receiver<Option<RulesInForce>>,
    mut stop: watch::Receiver<bool>,
) -> Option<RulesInForce> {
    tokio::select! {
        first = rules.wait_for(Option::is_some) => first.ok()?.clone(),
        _ = stop.wait_for(|stop| *stop) => None,
    }
}

/// The machine's name, which is stable over restarts where it matters.
fn hostname() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map(|name| name.trim().to_owned())
        .unwrap_or_else(|_| "leadlane".to_owned())
}
