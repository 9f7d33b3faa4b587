//! Threads for the work that grows with a request's body: inflating, decoding and mapping it.
//!
//! That work takes as long as the body demands, within its budget. So it runs on threads of its own, no more of them
//! than cores, and it ends with the request.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hyper::StatusCode;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::body::Refusal;

/// Where work runs that may take long, and until when.
#[derive(Debug, Clone, Copy)]
pub(super) struct Threads<'t> {
    pub(super) free: &'t Arc<Semaphore>,
    /// When the answer has to be given.
    pub(super) deadline: Instant,
}

/// Tells the thread that works for a request that nobody waits for it any more.
#[derive(Debug, Default)]
struct Ended(Arc<AtomicBool>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Threads<'_> {
    /// Does the work on a thread of its own. It ends once the flag is set, which it is when its time is over.
    pub(super) async fn run<T: Send + 'static>(
        self,
        work: impl FnOnce(Arc<AtomicBool>) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T, Refusal> {
        let free = tokio::time::timeout_at(self.deadline, Arc::clone(self.free).acquire_owned());
        let Ok(Ok(permit)) = free.await else {
            return Err(late());
        };
        let ended = Ended::default();
        let flag = Arc::clone(&ended.0);
        let running = tokio::task::spawn_blocking(move || {
            // Held until the thread is free, which may be after the request.
            let _permit = permit;
            work(flag)
        });
        match tokio::time::timeout_at(self.deadline, running).await {
            Ok(Ok(done)) => done,
            Ok(Err(error)) => {
                tracing::error!(%error, "the work on a request panicked");
                let said = "the request could not be worked on; the log says why";
                Err(Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, said))
            }
            Err(_) => Err(late()),
        }
    }
}

pub(super) fn late() -> Refusal {
    let said = "too much comes in, or the request takes too long; send it again, in smaller parts if it was large";
    Refusal::new(StatusCode::SERVICE_UNAVAILABLE, said)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn threads(free: &Arc<Semaphore>, deadline: Instant) -> Threads<'_> {
        Threads { free, deadline }
    }

    #[tokio::test]
    async fn work_leaves_the_threads_that_serve_alone_and_ends_with_its_time() {
        let free = Arc::new(Semaphore::new(1));
        let later = Instant::now() + std::time::Duration::from_secs(60);
        // The one thread of the runtime goes on while the work waits for it.
        let (go_on, may_go_on) = std::sync::mpsc::channel();
        let work = threads(&free, later).run(move |_| may_go_on.recv().map_err(|_| late()));
        let serve = async { go_on.send(7).unwrap() };
        assert_eq!(tokio::join!(work, serve).0, Ok(7));
        // The time is over: the answer doesn't wait, the work ends, and the thread is free again.
        let work = |ended: Arc<AtomicBool>| {
            while !ended.load(Ordering::Relaxed) {
                std::thread::yield_now();
            }
            Ok(())
        };
        let refused = threads(&free, Instant::now()).run(work).await.unwrap_err();
        assert_eq!(refused.status, 503);
        assert_eq!(threads(&free, later).run(|_| Ok(1)).await, Ok(1));
        // So it is when nobody waits any more.
        let gone = async { threads(&free, later).run(work).await };
        tokio::select! {
            biased;
            _ = gone => unreachable!("it waits"),
            () = tokio::task::yield_now() => {}
        }
        assert_eq!(threads(&free, later).run(|_| Ok(2)).await, Ok(2));
        let panicked = threads(&free, later).run(|_| -> Result<(), Refusal> { panic!("a test") });
        assert_eq!(panicked.await.unwrap_err().status, 500);
        assert_eq!(threads(&free, later).run(|_| Ok(3)).await, Ok(3));
    }
}
