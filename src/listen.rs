//! Takes in connections for both listeners, the inlets' and the admin's: how many, for how long, and a clean end.
//!
//! A listener holds a quarter of the open files at most, so that sending keeps the rest. A full listener closes the
//! connection that has stood longest without credentials: a client that shows nothing gets nothing. Heads, requests,
//! answers and idle connections have time-outs. An [`Answer`] answers the requests.

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::body::{Body, Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, Id, JoinSet};
use tokio::time::Instant;

/// From a request's first byte to the end of its head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// From a request's first byte to its last.
pub const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// From a request's head to its answer, whatever is asked.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
/// How long an answer may find no room in the connection.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a connection may stand without a request. Clients keep theirs for a minute at most.
const IDLE_TIMEOUT: Duration = Duration::from_secs(75);
/// A head that isn't in so long after the stop is waited for no more.
const STOPPING_TIMEOUT: Duration = Duration::from_secs(1);
/// How often time-outs are checked.
const TICK: Duration = Duration::from_millis(500);
/// The most bytes that are read ahead, a head included.
const READ_AHEAD_MAX: usize = 64 * 1024;
/// More connections than this cost memory and bring nothing.
const CONNECTIONS_MAX: u64 = 2048;

/// Raises the limit of open files as far as the process may, and gives it.
pub fn open_files() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    // A limit that can't be raised stays as it is.
    let soft = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => raised.current,
        Err(_) => limit.current,
    };
    soft.unwrap_or(u64::MAX)
}

/// How many connections a listener holds at so many open files, of which the process needs `own`: a quarter of the rest,
/// so that with two full listeners half of it is left for sending.
pub fn connections_max(open_files: u64, own: u64) -> usize {
    let each = open_files.saturating_sub(own) / 4;
    usize::try_from(each.clamp(1, CONNECTIONS_MAX)).unwrap_or(1)
}

/// Who answers the requests of a listener.
pub trait Answer: Send + Sync + 'static {
    type Body: Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + 'static;

    /// Answers one request. It marks on the connection when the request begins
    /// and ends, and whether its sender is known.
    fn answer(
        &self,
        request: Request<Incoming>,
        connection: Arc<Connection>,
    ) -> impl Future<Output = Response<Self::Body>> + Send;

    /// A request that never became one, because its head was slow or malformed; when its first byte came.
    fn broken(&self, _: StatusCode, _: Instant) {}
}

/// Takes in connections until `stop`, then finishes what is in flight within `grace`.
pub async fn serve<A: Answer>(
    listener: TcpListener,
    answers: Arc<A>,
    connections_max: usize,
    stop: watch::Receiver<bool>,
    grace: Duration,
) {
    let mut connections = Connections::default();
    let mut stopped = std::pin::pin!(stopped(stop.clone()));
    'taking: loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    while connections.tasks.len() >= connections_max {
                        // Its descriptor is free once its task is over.
                        connections.close_one();
                        tokio::select! {
                            () = connections.ended() => {}
                            () = &mut stopped => break 'taking,
                        }
                    }
                    connections.open(stream, peer, Arc::clone(&answers), stop.clone());
                }
                // Such as when no descriptors are left; clients that wait are still there afterwards.
                Err(error) => {
                    tracing::warn!(%error, "a connection can't be accepted");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            },
            () = connections.ended(), if !connections.tasks.is_empty() => {}
            () = &mut stopped => break,
        }
    }
    drop(listener);
    let finished = async {
        while !connections.tasks.is_empty() {
            connections.ended().await;
        }
    };
    if tokio::time::timeout(grace, finished).await.is_err() {
        let left = connections.tasks.len();
        tracing::warn!(left, "connections that were slow to finish are closed");
        connections.tasks.shutdown().await;
    }
}

/// Until `stop` becomes true.
pub(crate) async fn stopped(mut stop: watch::Receiver<bool>) {
    // A sender that is gone counts as a stop as well.
    drop(stop.wait_for(|stop| *stop).await);
}

/// The connections that are open.
#[derive(Default)]
struct Connections {
    tasks: JoinSet<()>,
    open: HashMap<Id, (Arc<Connection>, AbortHandle)>,
}

impl Connections {
    fn open<A: Answer>(&mut self, stream: TcpStream, peer: SocketAddr, answers: Arc<A>, stop: watch::Receiver<bool>) {
        let connection = Arc::new(Connection::new(peer));
        let task = self
            .tasks
            .spawn(serve_one(stream, answers, Arc::clone(&connection), stop));
        self.open.insert(task.id(), (connection, task));
    }

    /// Waits until one is over.
    async fn ended(&mut self) {
        match self.tasks.join_next_with_id().await {
            Some(Ok((id, ()))) => drop(self.open.remove(&id)),
            // It was closed; or it panicked, which the log has.
            Some(Err(error)) => drop(self.open.remove(&error.id())),
            None => {}
        }
    }

    /// Closes the one that has stood longest without credentials; nobody when all have some and are being answered.
    fn close_one(&mut self) {
        let orders = self
            .open
            .values()
            .map(|(connection, task)| (connection.close_order(), task));
        let first = orders
            .filter(|(order, _)| *order < CloseOrder::BUSY)
            .min_by_key(|(order, _)| *order);
        if let Some((_, task)) = first {
            task.abort();
        }
    }
}

/// Whose turn it is to be closed, first those that are least.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct CloseOrder {
    known: bool,
    asking: bool,
    since: Option<Instant>,
}

impl CloseOrder {
    /// From here on nobody is closed: a known sender's request is being answered.
    const BUSY: Self = Self {
        known: true,
        asking: true,
        since: None,
    };
}

/// The state of a connection.
#[derive(Debug)]
pub struct Connection {
    peer: SocketAddr,
    state: Mutex<State>,
}

#[derive(Debug, Clone, Copy)]
struct State {
    phase: Phase,
    /// Since when no request has come to its end.
    since: Instant,
    /// Its last request showed credentials.
    known: bool,
    /// Since when what is to be written finds no room.
    blocked: Option<Instant>,
}

/// Where a connection stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Idle,
    Head { began: Instant },
    Request { began: Instant },
}

impl Connection {
    fn new(peer: SocketAddr) -> Self {
        let state = Mutex::new(State {
            phase: Phase::Idle,
            since: Instant::now(),
            known: false,
            blocked: None,
        });
        Self { peer, state }
    }

    /// The address that it comes from.
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn bytes_came(&self) {
        let mut state = self.state();
        if state.phase == Phase::Idle {
            state.phase = Phase::Head { began: Instant::now() };
        }
    }

    /// The head is in. Gives when its first byte came.
    pub fn request_began(&self) -> Instant {
        let (mut state, now) = (self.state(), Instant::now());
        let came = state.phase;
        state.phase = Phase::Request { began: now };
        match came {
            Phase::Head { began } => began,
            // It came along with the one before.
            Phase::Idle | Phase::Request { .. } => now,
        }
    }

    /// Whether the request that is under way showed credentials.
    pub fn known(&self, known: bool) {
        self.state().known = known;
    }

    /// The request's body is in, or given up; what comes next is another request.
    pub fn request_ended(&self) {
        let mut state = self.state();
        (state.phase, state.since) = (Phase::Idle, Instant::now());
    }

    fn blocked(&self, blocked: bool) {
        let mut state = self.state();
        state.blocked = blocked.then(|| state.blocked.unwrap_or_else(Instant::now));
    }

    fn close_order(&self) -> CloseOrder {
        let state = self.state();
        CloseOrder {
            known: state.known,
            asking: matches!(state.phase, Phase::Request { .. }),
            since: Some(state.since),
        }
    }

    /// Why the connection has to end now.
    fn overdue(&self, stopping: bool) -> Option<Overdue> {
        let state = *self.state();
        let head = if stopping { STOPPING_TIMEOUT } else { HEAD_TIMEOUT };
        match state.phase {
            _ if state.blocked.is_some_and(|since| since.elapsed() >= WRITE_TIMEOUT) => Some(Overdue::Rest),
            Phase::Head { began } if began.elapsed() >= head => Some(Overdue::Head { began }),
            Phase::Request { began } if began.elapsed() >= REQUEST_TIMEOUT => Some(Overdue::Rest),
            Phase::Idle if state.since.elapsed() >= IDLE_TIMEOUT => Some(Overdue::Rest),
            _ => None,
        }
    }
}

/// What took too long.
enum Overdue {
    Head { began: Instant },
    Rest,
}

/// Serves a connection until it ends, is too slow, or everything stops.
async fn serve_one<A: Answer>(
    stream: TcpStream,
    answers: Arc<A>,
    connection: Arc<Connection>,
    stop: watch::Receiver<bool>,
) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a connection's delay can't be turned off");
    }
    let io = TokioIo::new(Watched {
        stream,
        connection: Arc::clone(&connection),
    });
    let service = service_fn(|request| {
        let (answers, connection) = (Arc::clone(&answers), Arc::clone(&connection));
        Box::pin(async move { Ok::<_, Infallible>(answers.answer(request, connection).await) })
    });
    let mut http = http1::Builder::new()
        .header_read_timeout(None)
        // A client that has sent everything may close that side and still read the answer.
        .half_close(true)
        .max_buf_size(READ_AHEAD_MAX)
        .serve_connection(io, service);
    let mut ticks = tokio::time::interval(TICK);
    let (mut stopped, mut stopping) = (std::pin::pin!(stopped(stop)), false);
    let overdue = loop {
        tokio::select! {
            ended = &mut http => {
                // Requests that aren't HTTP are answered below us, and counted here.
                let status = match ended {
                    Err(error) if error.is_parse_too_large() => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                    Err(error) if error.is_parse() => StatusCode::BAD_REQUEST,
                    _ => return,
                };
                let phase = connection.state().phase;
                if let Phase::Head { began } = phase {
                    answers.broken(status, began);
                }
                return;
            }
            () = &mut stopped, if !stopping => {
                stopping = true;
                Pin::new(&mut http).graceful_shutdown();
            }
            _ = ticks.tick() => if let Some(overdue) = connection.overdue(stopping) { break overdue },
        }
    };
    if let Overdue::Head { began } = overdue {
        answers.broken(StatusCode::REQUEST_TIMEOUT, began);
        let mut stream = http.into_parts().io.into_inner().stream;
        let answer = b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
        // A client that is so slow may well be gone.
        drop(tokio::time::timeout(TICK, stream.write_all(answer)).await);
    }
}

/// A stream that notes on its connection when bytes come in, and when none go out.
struct Watched {
    stream: TcpStream,
    connection: Arc<Connection>,
}

impl Watched {
    fn wrote(&self, written: Poll<std::io::Result<usize>>) -> Poll<std::io::Result<usize>> {
        self.connection.blocked(written.is_pending());
        Poll::Ready(ready!(written))
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            self.connection.bytes_came();
        }
        read
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.wrote(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.wrote(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests;
