//! The inlets' loops: what other systems send comes in here, and goes to the topic of lead events.
//!
//! - `http`: the listener; which inlet a request is for, and what it is answered.
//! - `auth`: whether a request may come in.
//! - `body`: what a request carries, read within its limits.
//! - `refusals`: what the log says of requests that show no valid secret.
//! - `intake`: records become events and dead letters, and Kafka has them before anyone hears so.
//! - `slots`: what one inlet may have in flight.
//! - `users`: who a Slack user is.
//! - `topic`: what comes from other systems' topics.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::Context as _;
use tokio::sync::watch;

use crate::config::Config;
use crate::kafka::producer::Producer;
use crate::kafka::topics::Limits;
use crate::metrics::Metrics;
use crate::secrets::Secrets;

mod auth;
mod body;
mod http;
mod intake;
mod refusals;
mod slots;
pub mod topic;
mod users;

/// How long a record may wait for Kafka. Whoever sent it was told long before that it isn't accepted.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// How many bytes may wait for Kafka.
const WAITING_MAX: usize = 128 << 20;

/// What the inlets are started with.
#[derive(Debug)]
pub struct Surroundings {
    pub config: Arc<Config>,
    pub limits: Limits,
    pub metrics: Arc<Metrics>,
    pub secrets: Secrets,
    pub stop: watch::Receiver<bool>,
    /// Set once all inlets are open.
    pub ready: Arc<AtomicBool>,
    /// Epoch microseconds.
    pub now: fn() -> i64,
    /// How many connections the listener holds.
    pub connections_max: usize,
}

/// Takes in until `stop` becomes true; then what is in flight is finished and answered.
///
/// # Errors
/// `inlet.listen` can't be listened on, or the Kafka client can't be made.
pub async fn run(at: Surroundings) -> anyhow::Result<()> {
    let names = at.config.inlets.iter().map(|inlet| inlet.name.as_str());
    at.metrics.inlets(names);
    let (stop, ready) = (at.stop.clone(), Arc::clone(&at.ready));
    let server = match at.config.takes_requests() {
        false => None,
        true => {
            let listen = at.config.inlet.listen;
            let listener = tokio::net::TcpListener::bind(listen)
                .await
                .with_context(|| format!("inlet.listen: {listen} can't be listened on"))?;
            tracing::info!(listen = %listener.local_addr()?, "inlets are open");
            let producer = Producer::of_requests(&at.config, &at.limits, WRITE_TIMEOUT, WAITING_MAX)
                .context("the Kafka client can't be made; check kafka.properties")?;
            Some((listener, http::Server::new(at, producer)?))
        }
    };
    ready.store(true, std::sync::atomic::Ordering::Relaxed);
    match server {
        Some((listener, server)) => server.serve(listener, stop).await,
        None => crate::listen::stopped(stop).await,
    }
    Ok(())
}

#[cfg(test)]
mod tests;
