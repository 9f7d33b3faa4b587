//! The doctor: everything that a run needs, looked at without running and without an effect.
//!
//! Checks run side by side, each within a time of its own. What rests on something that isn't there is not looked at,
//! and says on what, so that one fault is told once. A finding is in words for people; no secret is in any.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use crate::config::Config;
use crate::reader::Refusals;

mod credentials;
mod doors;
mod kafka;
mod rules;
mod settings;

/// No check takes longer.
const CHECK_WAIT: Duration = Duration::from_secs(45);

/// What the process does that is to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Roles {
    pub processor: bool,
    pub sender: bool,
    pub inlets: bool,
    pub admin: bool,
}

/// How one thing stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What was looked at, such as `topic:lead-events`.
    pub id: String,
    pub state: State,
    pub what: String,
    /// What sets it right: a command behind `by: `, or the key to set.
    pub cure: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Ok,
    Failed,
    /// It rests on what isn't there, or nothing can be asked without an effect.
    NotLookedAt,
}

impl State {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Failed => "failed",
            Self::NotLookedAt => "not_looked_at",
        }
    }
}

impl Finding {
    fn ok(id: impl Into<String>, what: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            state: State::Ok,
            what: what.into(),
            cure: None,
        }
    }

    fn not(id: impl Into<String>, what: impl Into<String>) -> Self {
        Self {
            state: State::NotLookedAt,
            ..Self::ok(id, what)
        }
    }

    /// `said` is what is wrong and, behind `; `, the cure.
    fn failed(id: impl Into<String>, said: impl Into<String>) -> Self {
        let said = said.into();
        match said.split_once("; ") {
            Some((what, cure)) => Self::broken(id, what, cure),
            None => Self {
                state: State::Failed,
                ..Self::ok(id, said)
            },
        }
    }

    fn broken(id: impl Into<String>, what: impl Into<String>, cure: impl Into<String>) -> Self {
        Self {
            state: State::Failed,
            cure: Some(cure.into()),
            ..Self::ok(id, what)
        }
    }
}

/// What every check is handed.
#[derive(Debug, Clone)]
struct Patient {
    config: Arc<Config>,
    roles: Roles,
    /// The time, epoch milliseconds.
    now: fn() -> i64,
}

/// Looks at everything. A configuration that can't be read is a finding too.
pub async fn examine(config: Result<Config, Refusals>, roles: Roles, now: fn() -> i64) -> Vec<Finding> {
    let config = match config {
        Ok(config) => Arc::new(config),
        Err(refusals) => return unread(&refusals),
    };
    let patient = Patient { config, roles, now };
    let properties = settings::properties(&patient.config);
    let usable = properties.iter().all(|finding| finding.state == State::Ok);
    let of_registry = within("registry", doors::registry(patient.clone()));
    let of_ports = within("ports", doors::ports(patient.clone()));
    let of_kafka = async {
        let kafka = kafka::look(&patient, usable).await;
        let rules = rules::look(&patient, &kafka).await;
        (kafka, rules)
    };
    let (store, (kafka, rules), registry, ports) =
        tokio::join!(settings::store(&patient), of_kafka, of_registry, of_ports);
    let credentials = credentials::look(&patient, &rules, &store);
    let (credentials, clock) = tokio::join!(
        credentials,
        within("clock", doors::clock(patient.clone(), rules.uses_slack()))
    );
    [
        properties,
        store.findings,
        kafka.findings,
        registry,
        rules.findings,
        credentials,
        ports,
        clock,
    ]
    .concat()
}

/// Of a configuration that can't be read nothing else is known.
fn unread(refusals: &Refusals) -> Vec<Finding> {
    let refused = refusals.0.iter();
    let refused = refused.map(|refusal| Finding::failed("configuration", format!("configuration: {refusal}")));
    let rest = [
        "secrets",
        "kafka",
        "topics",
        "registry",
        "rules",
        "credentials",
        "ports",
        "clock",
    ];
    let rest = rest.map(|id| Finding::not(id, format!("{id}: the configuration can't be read")));
    refused.chain(rest).collect()
}

/// A check, which fails when it takes too long.
async fn within(id: &str, check: impl Future<Output = Vec<Finding>>) -> Vec<Finding> {
    let checked = tokio::time::timeout(CHECK_WAIT, check).await;
    checked.unwrap_or_else(|_| {
        let seconds = CHECK_WAIT.as_secs();
        vec![Finding::failed(id, format!("{id}: no answer within {seconds} s"))]
    })
}

/// Checks that run side by side; the findings come in the order of the checks.
async fn side_by_side(checks: Vec<(String, impl Future<Output = Vec<Finding>> + Send + 'static)>) -> Vec<Finding> {
    let mut running = JoinSet::new();
    for (at, (id, check)) in checks.into_iter().enumerate() {
        running.spawn(async move { (at, within(&id, check).await) });
    }
    let mut found = running.join_all().await;
    found.sort_by_key(|(at, _)| *at);
    found.into_iter().flat_map(|(_, findings)| findings).collect()
}

/// Asks what waits for Kafka or the disk, on a thread that may. Without an answer in time it says so.
async fn blocking<T: Send + 'static>(ask: impl FnOnce() -> Result<T, String> + Send + 'static) -> Result<T, String> {
    let asked = tokio::time::timeout(CHECK_WAIT, tokio::task::spawn_blocking(ask)).await;
    let seconds = CHECK_WAIT.as_secs();
    asked
        .ok()
        .and_then(Result::ok)
        .unwrap_or_else(|| Err(format!("no answer within {seconds} s")))
}
