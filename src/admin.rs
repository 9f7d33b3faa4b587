//! Health and metrics, which every process serves whatever its roles.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use crate::metrics::Metrics;

/// What the process waits for before it is ready, each by a name for people.
#[derive(Debug, Default)]
pub struct Readiness {
    waits: Vec<(String, Arc<AtomicBool>)>,
}

impl Readiness {
    /// Adds something to wait for; it is there once the flag is set.
    pub fn wait_for(&mut self, what: &str) -> Arc<AtomicBool> {
        let flag = Arc::new(AtomicBool::new(false));
        self.waits.push((what.to_owned(), Arc::clone(&flag)));
        flag
    }

    fn missing(&self) -> Vec<&str> {
        let missing = self.waits.iter().filter(|(_, flag)| !flag.load(Ordering::Relaxed));
        missing.map(|(what, _)| what.as_str()).collect()
    }
}

/// What the pages read.
#[derive(Debug)]
pub struct Admin {
    pub metrics: Arc<Metrics>,
    pub readiness: Readiness,
}

/// Serves until `stop` resolves.
pub async fn serve(
    listener: tokio::net::TcpListener,
    admin: Arc<Admin>,
    stop: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    axum::serve(listener, router(admin)).with_graceful_shutdown(stop).await
}

fn router(admin: Arc<Admin>) -> Router {
    Router::new()
        .route("/livez", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(admin)
}

async fn ready(State(admin): State<Arc<Admin>>) -> Response {
    match admin.readiness.missing().as_slice() {
        [] => "ready\n".into_response(),
        missing => (
            StatusCode::SERVICE_UNAVAILABLE,
            format!("waiting for {}\n", missing.join(", ")),
        )
            .into_response(),
    }
}

async fn metrics(State(admin): State<Arc<Admin>>) -> impl IntoResponse {
    let mut headers = HeaderMap::new();
    headers.insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8"),
    );
    admin.metrics.ready(admin.readiness.missing().is_empty());
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
        let admin = Arc::new(Admin {
            metrics: Arc::new(Metrics::new(1)),
            readiness,
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(serve(listener, admin, std::future::pending()));
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
        assert_eq!(get("/livez").await.0, 200);
        assert!(get("/metrics").await.1.contains("\nleadlane_ready 1\n"));
    }
}
