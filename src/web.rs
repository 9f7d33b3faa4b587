//! The rule desk over HTTP: pages for people and an API for programs, served by the admin role.
//!
//! Pages and API call the services of [`crate::desk`], and refuse in the same words. A service may block, so that each
//! call of one runs on a thread that may (`Web::ask`). What every request has to pass is in `guard`.

use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};

use crate::config::Config;
use crate::desk::Error;
use crate::desk::audit::{Act, Recorder};
use crate::desk::backlog::Backlog;
use crate::desk::resident::Resident;
use crate::desk::scan::Scanner;
use crate::kafka::groups::Lag;
use crate::secrets::Secrets;
use glance::{Aside, Counted};
use guard::{Asker, Failures};
use names::Names;
use page::{Frame, Look};
use problem::Problem;
use who::Tokens;

mod again;
mod api;
mod assets;
mod glance;
mod guard;
mod inlets;
mod names;
mod order;
mod page;
mod problem;
mod reveal;
mod rules;
mod session;
mod status;
mod who;

/// What pages and calls need.
#[derive(Debug)]
pub struct Web {
    config: Arc<Config>,
    /// What the services keep in memory.
    resident: Arc<Resident>,
    /// What else this process does.
    roles: Vec<&'static str>,
    tokens: Tokens,
    names: Names,
    failures: Failures,
    /// Sessions that were ended here before their time. The audit has those that other processes ended.
    ended: session::Ended,
    /// Records what people do, once somebody did something.
    recorder: OnceLock<Recorder>,
    glance: Aside<Counted>,
    /// How far each group is behind, or why that is not known.
    lags: Aside<Result<Vec<Lag>, String>>,
    /// Epoch milliseconds.
    now: fn() -> i64,
}

impl Web {
    pub fn new(resident: Arc<Resident>, secrets: Secrets, now: fn() -> i64) -> Self {
        let config = Arc::clone(resident.config());
        Self {
            tokens: Tokens::new(&config.admin, secrets.clone()),
            names: Names::new(&config.slack.api_url, secrets),
            config,
            resident,
            roles: Vec::new(),
            failures: Failures::default(),
            ended: session::Ended::default(),
            recorder: OnceLock::new(),
            glance: Aside::default(),
            lags: Aside::default(),
            now,
        }
    }

    /// Names what this process does, for the page that tells it.
    pub fn in_roles(self, roles: Vec<&'static str>) -> Self {
        Self { roles, ..self }
    }

    /// Everybody may come in.
    fn is_open(&self) -> bool {
        self.tokens.is_empty() && self.config.admin.proxy.is_none()
    }

    fn has_ended(&self, session: &str) -> bool {
        self.ended.has(session) || self.resident.has(LOG_OUT, session)
    }

    /// Ends a session here at once, and by the audit in every other process.
    async fn end_session(self: &Arc<Self>, session: &str, who: &str) {
        self.ended.end(session, (self.now)());
        let (who, session) = (who.to_owned(), session.to_owned());
        let recorded = self.ask(move |web| {
            web.record(Act {
                who: &who,
                what: LOG_OUT,
                target: &session,
                before: None,
                after: None,
            })
        });
        if let Err(problem) = recorded.await {
            tracing::warn!("a log-out counts in this process alone: {}", problem.detail);
        }
    }

    /// Records what somebody did, and waits until Kafka has it.
    fn record(&self, act: Act<'_>) -> Result<(), Error> {
        let recorder = match self.recorder.get() {
            Some(recorder) => recorder,
            None => {
                let made = Recorder::new(&self.config)?;
                self.recorder.get_or_init(|| made)
            }
        };
        recorder.append(&self.config, act, (self.now)())
    }

    /// What the frame of every page tells, as it was a moment ago: no page waits for it.
    fn frame(&self) -> Frame {
        self.glance.frame(&self.resident, (self.now)())
    }

    /// What waits, read now.
    fn backlog_anew(&self, now: i64) -> Result<Backlog, Error> {
        Backlog::read(Scanner::new(&self.config, &|_| true), now)
    }

    /// Calls a service on a thread that may block.
    async fn ask<T: Send + 'static>(
        self: &Arc<Self>,
        ask: impl FnOnce(&Self) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Problem> {
        self.ask_and_check(ask).await
    }

    /// The same, where what is found may refuse who asks.
    async fn ask_and_check<T: Send + 'static, E: Into<Problem> + Send + 'static>(
        self: &Arc<Self>,
        ask: impl FnOnce(&Self) -> Result<T, E> + Send + 'static,
    ) -> Result<T, Problem> {
        let web = Arc::clone(self);
        let asked = tokio::task::spawn_blocking(move || ask(&web)).await;
        // It panicked, which the log has.
        let asked = asked.map_err(|_| {
            Problem::new(
                axum::http::StatusCode::INTERNAL_SERVER_ERROR,
                "The desk failed",
                "Something broke while this was looked up. Sending goes on by itself; the log says what broke.",
            )
        })?;
        asked.map_err(Into::into)
    }
}

/// What the audit calls the end of a session.
const LOG_OUT: &str = "log_out";

/// The routes of pages and API.
pub fn router(web: Arc<Web>) -> Router {
    api::routes()
        .merge(page::routes())
        .route(page::login::PATH, get(page::login::show).post(page::login::enter))
        .route("/logout", post(page::login::leave))
        .route("/theme", post(page::login::theme))
        .route(assets::ROUTE, get(assets::file))
        .fallback(guard::nowhere)
        .method_not_allowed_fallback(guard::no_such_method)
        .layer(from_fn_with_state(Arc::clone(&web), guard::guard))
        .with_state(web)
}

impl<S: Sync> FromRequestParts<S> for Look {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        Ok(Look::of(&parts.headers, parts.extensions.get::<Asker>()))
    }
}

#[cfg(test)]
mod tests;
