//! The admin listener: health and metrics, which every process serves, whatever its roles, and beside them what the
//! composition root adds.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hyper::body::Incoming;
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;
use tokio::sync::watch;

use crate::listen::{self, Connection};
use crate::metrics::Metrics;

/// How long a stop waits for what is in flight: pages are made at once.
const GRACE: Duration = Duration::from_secs(1);

/// What the process waits for before it is ready, each by a name for people.
#[derive(Debug, Default)]
pub struct Readiness {
    waits: Vec<(String, Arc<AtomicBool>)>,
    /// What holds some of the work up while the process is ready.
    held_up: Vec<watch::Receiver<Vec<String>>>,
    /// Why it will not be ready any more.
    over: OnceLock<String>,
}

impl Readiness {
    /// Adds something to wait for; it is there once the flag is set.
    pub fn wait_for(&mut self, what: &str) -> Arc<AtomicBool> {
        let flag = Arc::new(AtomicBool::new(false));
        self.waits.push((what.to_owned(), Arc::clone(&flag)));
        flag
    }

    /// Takes what holds some of the work up, a line each. It is named, and the process is ready all the same.
    pub fn held_up(&mut self) -> watch::Sender<Vec<String>> {
        let (lines, held_up) = watch::channel(Vec::new());
        self.held_up.push(held_up);
        lines
    }

    /// The process stops, for this reason.
    pub fn over(&self, why: &str) {
        // The first reason counts.
        let _earlier = self.over.set(why.to_owned());
    }

    /// Why the process isn't ready.
    fn missing(&self) -> Option<String> {
        if let Some(why) = self.over.get() {
            return Some(format!("stopping: {why}"));
        }
        let missing = self.waits.iter().filter(|(_, flag)| !flag.load(Ordering::Relaxed));
        let missing: Vec<&str> = missing.map(|(what, _)| what.as_str()).collect();
        (!missing.is_empty()).then(|| format!("waiting for {}", missing.join(", ")))
    }
}

/// What the pages read.
#[derive(Debug)]
pub struct Admin {
    pub metrics: Arc<Metrics>,
    pub readiness: Readiness,
}

/// Serves health, metrics and the routes of `more` until `stop`, and at most a second longer. A full listener closes the connection that is idle longest:
/// whoever asks for health now is answered.
pub async fn serve(
    listener: tokio::net::TcpListener,
    admin: Arc<Admin>,
    more: Router,
    connections_max: usize,
    stop: watch::Receiver<bool>,
) {
    let pages = Arc::new(Pages(TowerToHyperService::new(router(admin).merge(more))));
    listen::serve(listener, pages, connections_max, stop, GRACE).await;
}

/// The routes, on a connection.
struct Pages(TowerToHyperService<Router>);

impl listen::Answer for Pages {
    type Body = Body;

    async fn answer(&self, mut request: hyper::Request<Incoming>, connection: Arc<Connection>) -> Response {
        connection.request_began();
        request.extensions_mut().insert(ConnectInfo(connection.peer()));
        let Ok(response) = self.0.call(request).await;
        connection.request_ended();
        response
    }
}

fn router(admin: Arc<Admin>) -> Router {
    Router::new()
        .route("/livez", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(admin)
}

async fn ready(State(admin): State<Arc<Admin>>) -> Response {
    match admin.readiness.missing() {
        None => {
            let mut text = "ready\n".to_owned();
            for held_up in &admin.readiness.held_up {
                held_up.borrow().iter().for_each(|line| text.extend([line, "\n"]));
            }
            text.into_response()
        }
        Some(missing) => (StatusCode::SERVICE_UNAVAILABLE, format!("{missing}\n")).into_response(),
    }
}

async fn metrics(State(admin): State<Arc<Admin>>) -> impl IntoResponse {
    let mut headers = HeaderMap::new();
    headers.insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8"),
    );
    admin.metrics.ready(admin.readiness.missing().is_none());
    (headers, admin.metrics.text())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn readiness_names_what_it_waits_for() {
        let mut readiness = Readiness::default();
        let rules = readiness.wait_for("the rules");
        let group = readiness.wait_for("the group");
        let held_up = readiness.held_up();
        let admin = Arc::new(Admin {
            metrics: Arc::new(Metrics::new(1)),
            readiness,
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (_stop, stopped) = watch::channel(false);
        tokio::spawn(serve(listener, Arc::clone(&admin), Router::new(), 10, stopped));
        let get = async |path: &str| {
            let response = reqwest::get(format!("{url}{path}")).await.unwrap();
            (response.status().as_u16(), response.text().await.unwrap())
        };
        assert_eq!(
            get("/readyz").await,
            (503, "waiting for the rules, the group\n".to_owned())
        );
        assert!(get("/metrics").await.1.contains("\nleadlane_ready 0\n"));
        rules.store(true, Ordering::Relaxed);
        group.store(true, Ordering::Relaxed);
        assert_eq!(get("/readyz").await, (200, "ready\n".to_owned()));
        held_up.send_replace(vec!["slack:bot is held".to_owned()]);
        assert_eq!(get("/readyz").await, (200, "ready\nslack:bot is held\n".to_owned()));
        held_up.send_replace(Vec::new());
        assert_eq!(get("/readyz").await, (200, "ready\n".to_owned()));
        assert_eq!(get("/livez").await.0, 200);
        assert!(get("/metrics").await.1.contains("\nleadlane_ready 1\n"));
        admin.readiness.over("worker 0 panicked");
        let stopping = (503, "stopping: worker 0 panicked\n".to_owned());
        assert_eq!(get("/readyz").await, stopping);
        assert!(get("/metrics").await.1.contains("\nleadlane_ready 0\n"));
    }
}
