//! One connection: its time-outs, and a clean end.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::StatusCode;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::Instant;

use super::http::Server;

/// From a request's first byte to the end of its head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection may stand without a request. Clients keep theirs for a minute at most.
const IDLE_TIMEOUT: Duration = Duration::from_secs(75);
/// How often time-outs are looked at.
const TICK: Duration = Duration::from_millis(500);
/// Of what is read ahead, a head included.
const READ_AHEAD_MAX: usize = 64 * 1024;

/// Where a connection stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Idle { since: Instant },
    Head { began: Instant },
    Request,
}

/// What is known of a connection from its bytes: when a request began.
#[derive(Debug)]
pub(super) struct Watch(Mutex<Phase>);

impl Watch {
    fn phase(&self) -> MutexGuard<'_, Phase> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn bytes_came(&self) {
        let mut phase = self.phase();
        if let Phase::Idle { .. } = *phase {
            *phase = Phase::Head { began: Instant::now() };
        }
    }

    /// The head is in. Gives when its first byte came.
    pub(super) fn request_began(&self) -> Instant {
        match std::mem::replace(&mut *self.phase(), Phase::Request) {
            Phase::Head { began } => began,
            // It came along with the one before.
            Phase::Idle { .. } | Phase::Request => Instant::now(),
        }
    }

    /// The request's body is in, or given up; what comes next is another request.
    pub(super) fn request_ended(&self) {
        *self.phase() = Phase::Idle { since: Instant::now() };
    }
}

/// Serves a connection until it ends, is too slow, or everything stops.
pub(super) async fn serve(stream: TcpStream, server: Arc<Server>, stop: watch::Receiver<bool>) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a connection's delay can't be turned off");
    }
    let watch = Arc::new(Watch(Mutex::new(Phase::Idle { since: Instant::now() })));
    let io = TokioIo::new(Watched {
        stream,
        watch: Arc::clone(&watch),
    });
    let service = service_fn(|request| {
        let (server, watch) = (Arc::clone(&server), Arc::clone(&watch));
        Box::pin(async move { server.respond(request, &watch).await })
    });
    let mut connection = http1::Builder::new()
        .header_read_timeout(None)
        // Who has said all may close that side and still read the answer.
        .half_close(true)
        .max_buf_size(READ_AHEAD_MAX)
        .serve_connection(io, service);
    let mut ticks = tokio::time::interval(TICK);
    let (mut stopped, mut stopping) = (std::pin::pin!(super::stopped(stop)), false);
    let slow_since = loop {
        tokio::select! {
            ended = &mut connection => {
                // What is no HTTP is answered below us, and counted here.
                let status = match ended {
                    Err(error) if error.is_parse_too_large() => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                    Err(error) if error.is_parse() => StatusCode::BAD_REQUEST,
                    _ => return,
                };
                let phase = *watch.phase();
                if let Phase::Head { began } = phase {
                    server.count_broken(status, began);
                }
                return;
            }
            () = &mut stopped, if !stopping => {
                stopping = true;
                Pin::new(&mut connection).graceful_shutdown();
            }
            _ = ticks.tick() => match *watch.phase() {
                Phase::Head { began } if began.elapsed() >= HEAD_TIMEOUT => break Some(began),
                Phase::Idle { since } if since.elapsed() >= IDLE_TIMEOUT => break None,
                _ => {}
            }
        }
    };
    if let Some(began) = slow_since {
        server.count_broken(StatusCode::REQUEST_TIMEOUT, began);
        let mut stream = connection.into_parts().io.into_inner().stream;
        let answer = b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
        // Who is too slow may well be gone.
        drop(tokio::time::timeout(TICK, stream.write_all(answer)).await);
    }
}

/// A stream that tells when bytes come in.
struct Watched {
    stream: TcpStream,
    watch: Arc<Watch>,
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
            self.watch.bytes_came();
        }
        read
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
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
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
