//! The parts of a process, each a thread or a task with a name: workers, the sender, the inlets, the rules.
//!
//! A part ends once the process stops. A part that fails, panics or ends by itself is a failure, which
//! [`Watch::failed`] gives, so that the process never goes on without it. [`log_panics`] logs every panic of the
//! process, those of small tasks too.

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Context as _;
use tokio::sync::{mpsc, watch};

use crate::metrics::Metrics;

/// Starts parts.
#[derive(Debug, Clone)]
pub struct Parts {
    failed: mpsc::UnboundedSender<anyhow::Error>,
    running: Running,
    stop: watch::Receiver<bool>,
}

/// Sees parts end.
#[derive(Debug)]
pub struct Watch {
    failed: mpsc::UnboundedReceiver<anyhow::Error>,
    running: Running,
}

/// The names of the parts that run, and of the one that ended last.
#[derive(Debug, Clone, Default)]
struct Running(Arc<Mutex<Names>>);

#[derive(Debug, Default)]
struct Names {
    running: Vec<String>,
    ended_last: Option<String>,
}

/// One part while it runs. Whatever ends it, this is dropped.
#[derive(Debug)]
struct Part {
    name: String,
    parts: Parts,
    ended: bool,
}

impl Parts {
    /// `stop` asks all parts to end.
    pub fn new(stop: watch::Receiver<bool>) -> (Self, Watch) {
        let (failed, failures) = mpsc::unbounded_channel();
        let running = Running::default();
        let watch = Watch {
            failed: failures,
            running: running.clone(),
        };
        let parts = Self { failed, running, stop };
        (parts, watch)
    }

    /// Runs a task.
    pub fn task(&self, name: &str, work: impl Future<Output = anyhow::Result<()>> + Send + 'static) {
        let part = self.begin(name);
        tokio::spawn(async move { part.end(work.await) });
    }

    /// Runs a thread.
    ///
    /// # Errors
    /// The system has no thread left.
    pub fn thread(&self, name: &str, work: impl FnOnce() -> anyhow::Result<()> + Send + 'static) -> anyhow::Result<()> {
        let part = self.begin(name);
        std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || part.end(work()))
            .with_context(|| format!("the thread of {name} can't be started"))?;
        Ok(())
    }

    fn begin(&self, name: &str) -> Part {
        self.running.names().running.push(name.to_owned());
        Part {
            name: name.to_owned(),
            parts: self.clone(),
            ended: false,
        }
    }
}

impl Part {
    fn end(mut self, result: anyhow::Result<()>) {
        self.ended = true;
        match result {
            Ok(()) if *self.parts.stop.borrow() => {}
            Ok(()) => self.fail(anyhow::anyhow!("{} ended unasked", self.name)),
            Err(error) => self.fail(error),
        }
    }

    fn fail(&self, error: anyhow::Error) {
        // Nobody listens any more when the process is on its way out.
        drop(self.parts.failed.send(error));
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if !self.ended {
            self.fail(anyhow::anyhow!("{} panicked; the log says where", self.name));
        }
        let mut names = self.parts.running.names();
        if let Some(at) = names.running.iter().position(|name| *name == self.name) {
            names.ended_last = Some(names.running.remove(at));
        }
    }
}

impl Watch {
    /// The next failure; `None` once all parts have ended and no more can start.
    pub async fn failed(&mut self) -> Option<anyhow::Error> {
        self.failed.recv().await
    }

    /// The parts that run, by name.
    pub fn running(&self) -> Vec<String> {
        self.running.names().running.clone()
    }

    /// The part that ended last, by name.
    pub fn ended_last(&self) -> Option<String> {
        self.running.names().ended_last.clone()
    }
}

impl Running {
    fn names(&self) -> MutexGuard<'_, Names> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// From now on every panic is logged and counted. A panic's own words may quote a lead, so they are logged where
/// they stand in the source alone.
pub fn log_panics(metrics: &Arc<Metrics>) {
    let metrics = Arc::clone(metrics);
    std::panic::set_hook(Box::new(move |panic| {
        metrics.panicked();
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let words = panic.payload().downcast_ref::<&str>().copied().unwrap_or_default();
        let thread = std::thread::current();
        tracing::error!(
            thread = thread.name().unwrap_or_default(),
            place,
            words,
            "a panic, which is a fault of Leadlane: please report it"
        );
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first failure of one part.
    async fn failure_of(begin: impl FnOnce(&Parts)) -> (String, Vec<String>) {
        let (_stop, stopped) = watch::channel(false);
        let (parts, mut watch) = Parts::new(stopped);
        parts.task("another", std::future::pending());
        begin(&parts);
        let failed = watch.failed().await.unwrap().to_string();
        // It is dropped just behind its last word.
        while watch.running().len() > 1 {
            tokio::task::yield_now().await;
        }
        (failed, watch.running())
    }

    #[tokio::test]
    async fn a_part_that_panics_fails_or_ends_by_itself_is_seen() {
        let others = || vec!["another".to_owned()];
        let panicked = "worker 0 panicked; the log says where".to_owned();
        let thread = failure_of(|parts| parts.thread("worker 0", || panic!("a step")).unwrap());
        assert_eq!(thread.await, (panicked.clone(), others()));
        let task = failure_of(|parts| parts.task("worker 0", async { panic!("a step") }));
        assert_eq!(task.await, (panicked, others()));
        let early = failure_of(|parts| parts.task("the rules", async { Ok(()) }));
        let ended = "the rules ended unasked".to_owned();
        assert_eq!(early.await, (ended, others()));
        let failing = failure_of(|parts| parts.task("the sender", async { anyhow::bail!("no broker") }));
        assert_eq!(failing.await, ("no broker".to_owned(), others()));
    }

    #[tokio::test]
    async fn parts_that_are_asked_to_end_do() {
        let (stop, stopped) = watch::channel(false);
        let (parts, mut watch) = Parts::new(stopped.clone());
        let mut asked = stopped.clone();
        parts.task("a task", async move {
            asked.wait_for(|stop| *stop).await?;
            Ok(())
        });
        parts
            .thread("a thread", move || {
                while !*stopped.borrow() {
                    std::thread::yield_now();
                }
                Ok(())
            })
            .unwrap();
        drop(parts);
        assert_eq!(watch.running(), ["a task", "a thread"]);
        stop.send_replace(true);
        assert!(watch.failed().await.is_none());
        assert!(watch.running().is_empty());
        let last = watch.ended_last();
        assert!(matches!(last.as_deref(), Some("a task" | "a thread")), "{last:?}");
    }
}
