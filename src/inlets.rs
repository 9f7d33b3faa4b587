//! The inlets' loops: they take in what other systems send, and write it to the topic of lead events.
//!
//! - `http`: the listener; finds the inlet of a request, and answers it.
//! - `auth`: decides whether a request may come in.
//! - `body`: reads a request's body within its limits.
//! - `refusals`: logs requests that show no valid secret, once a minute.
//! - `intake`: makes events and dead letters of records, and answers once Kafka has them.
//! - `threads`: runs inflating, decoding and mapping apart from everything else.
//! - `slots`: bounds the requests in flight at one inlet.
//! - `topic`: reads other systems' topics.
//!
//! The mapping itself is pure, in [`crate::mapping`].

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

mod answer;
mod auth;
mod body;
mod http;
mod intake;
mod refusals;
mod slots;
mod threads;
pub mod topic;

/// How long a record may wait for Kafka. Its sender has got a 503 long before.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// How many bytes may wait for Kafka.
const WAITING_MAX: usize = 128 << 20;

/// What the inlets are started with.
#[derive(Debug)]
pub struct InletsWiring {
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
pub async fn run(wiring: InletsWiring) -> anyhow::Result<()> {
    let names = wiring.config.inlets.iter().map(|inlet| inlet.name.as_str());
    wiring.metrics.inlets(names);
    let (stop, ready) = (wiring.stop.clone(), Arc::clone(&wiring.ready));
    let server = match wiring.config.takes_requests() {
        false => None,
        true => {
            let listen = wiring.config.inlet.listen;
            let listener = tokio::net::TcpListener::bind(listen)
                .await
                .with_context(|| format!("inlet.listen: {listen} can't be listened on"))?;
            tracing::info!(listen = %listener.local_addr()?, "inlets are open");
            let producer = Producer::of_requests(&wiring.config, &wiring.limits, WRITE_TIMEOUT, WAITING_MAX)
                .context("the Kafka client can't be made; check kafka.properties")?;
            Some((listener, http::Server::new(wiring, producer)?))
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
