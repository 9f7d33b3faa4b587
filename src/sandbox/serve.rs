//! The sandbox's network: its routes, and sockets that can end without an answer.
//!
//! A reset has to happen below HTTP. The sandbox cuts the wire of a request; the socket then refuses to write the
//! answer and closes with a TCP reset.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::extract::connect_info::Connected;
use axum::routing::{any, post};
use axum::serve::IncomingStream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};

use super::{Sandbox, clevertap, control, slack, webhook};

/// What a CleverTap upload of 1,000 full records needs, and more.
const BODY_BYTES_MAX: usize = 64 << 20;
/// How long a stop waits for what is in flight, such as a request of which only half has come.
const GRACE: Duration = Duration::from_secs(2);

impl Sandbox {
    /// Serves until the shutdown; requests that hang are cut then, the others are answered within two seconds.
    pub async fn serve(
        self,
        listener: TcpListener,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> io::Result<()> {
        let shared = Arc::clone(&self.shared);
        shared.changed.send_replace(false);
        let mut changed = shared.changed.subscribe();
        let serving = axum::serve(
            Listener(listener),
            self.router().into_make_service_with_connect_info::<Wire>(),
        )
        .with_graceful_shutdown(async move {
            shutdown.await;
            shared.changed.send_replace(true);
        });
        let overdue = async move {
            // The sandbox holds the other end as long as it serves.
            drop(changed.wait_for(|stopped| *stopped).await);
            tokio::time::sleep(GRACE).await;
        };
        tokio::select! {
            served = serving => served,
            () = overdue => Ok(()),
        }
    }

    fn router(self) -> Router {
        Router::new()
            .route("/api/{method}", any(slack::call))
            .route("/services/{*path}", post(webhook::post))
            .route("/1/upload", post(clevertap::upload))
            .merge(control::routes())
            .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
            .with_state(self)
    }
}

/// The connection that a request came by.
#[derive(Debug, Clone, Default)]
pub(super) struct Wire(Arc<AtomicBool>);

impl Wire {
    /// From now on nothing is written, and the connection ends with a reset.
    pub(super) fn cut(&self) {
        self.0.store(true, Ordering::Release);
    }

    fn is_cut(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

struct Listener(TcpListener);

impl axum::serve::Listener for Listener {
    type Io = Socket;
    type Addr = Wire;

    async fn accept(&mut self) -> (Socket, Wire) {
        loop {
            let (stream, _) = axum::serve::Listener::accept(&mut self.0).await;
            // A socket without its options is one whose client has gone.
            if stream.set_nodelay(true).is_ok() {
                let wire = Wire::default();
                return (
                    Socket {
                        stream,
                        wire: wire.clone(),
                    },
                    wire,
                );
            }
        }
    }

    fn local_addr(&self) -> io::Result<Wire> {
        Ok(Wire::default())
    }
}

impl Connected<IncomingStream<'_, Listener>> for Wire {
    fn connect_info(stream: IncomingStream<'_, Listener>) -> Self {
        stream.remote_addr().clone()
    }
}

struct Socket {
    stream: TcpStream,
    wire: Wire,
}

impl Socket {
    /// An error when the wire is cut; closing then sends a reset, because the socket doesn't linger.
    fn check(&self) -> io::Result<()> {
        if self.wire.is_cut() {
            self.stream.set_zero_linger()?;
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        Ok(())
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.check()?;
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check()?;
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check()?;
        Pin::new(&mut self.stream).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
